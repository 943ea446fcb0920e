//! Step 1 of 3 of appending events: what a caller asks for, checked and encoded as far as it can be
//! before its turn comes.
//!
//! Takes borrowed events; hands on a [`Prepared`] request that owns its bytes, since another thread
//! may lead the group that it joins. Position and stream version are not known yet: what stands
//! before them in an event's record is put there by the leader.

use super::name::Name;
use crate::error::{Error, ErrorKind, Result};
use crate::format::digest::{Digest, DIGEST_LEN};
use crate::format::event::{
    self, EventBody, EventId, NAME_LEN_MAX, OP_EVENT, OP_SAVED_POSITION, OP_STATE_DELETE,
    OP_STATE_PUT, POSITION_MAX, STATE_KEY_LEN_MAX, STATE_VALUE_LEN_MAX, STREAM_LEN_MAX,
    TAG_COUNT_MAX,
};
use crate::format::record::{encode_header, RECORD_LEN_MAX};
use std::ops::Range;

/// An event to append. The bytes are copied out before the call returns.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewEvent<'a> {
    /// Its stream: 1 to 1024 bytes.
    pub stream: &'a str,
    /// What happened: 1 to 255 bytes.
    pub event_type: &'a str,
    /// The event.
    pub data: &'a [u8],
    /// About the event.
    pub metadata: &'a [u8],
    /// At most 64 of 1 to 255 bytes; a set, so order and repetition mean nothing.
    pub tags: &'a [&'a str],
    /// An id of its own, by which the store knows it again; without one it is derived from its
    /// position. Not all zero.
    pub id: Option<EventId>,
    /// Of the data, the application's own number; 0 says nothing.
    pub schema_version: u64,
    /// Of the data, a media type; at most 255 bytes, empty says nothing.
    pub content_type: &'a str,
    /// When it occurred, nanoseconds since 1970-01-01 UTC; when it was recorded the store knows.
    pub occurred_ns: Option<i64>,
    /// What it belongs to.
    pub correlation_id: Option<EventId>,
    /// What it follows from.
    pub causation_id: Option<EventId>,
}

/// What the version of a stream must be before the append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// Whatever it is.
    Any,
    /// 0: there is no such stream.
    None,
    /// At least 1.
    Exists,
    /// Exactly this.
    Exact(u64),
}

impl Expected {
    /// As one number: -1 any, -2 exists, 0 none, else the version itself.
    #[must_use]
    pub fn to_number(self) -> i64 {
        match self {
            Expected::Any => -1,
            Expected::Exists => -2,
            Expected::None => 0,
            Expected::Exact(version) => i64::try_from(version).unwrap_or(i64::MAX),
        }
    }

    /// The inverse of [`to_number`](Self::to_number).
    #[must_use]
    pub fn from_number(number: i64) -> Option<Expected> {
        match number {
            -1 => Some(Expected::Any),
            -2 => Some(Expected::Exists),
            0 => Some(Expected::None),
            _ => u64::try_from(number).ok().map(Expected::Exact),
        }
    }

    pub(super) fn holds(self, version: u64) -> bool {
        match self {
            Expected::Any => true,
            Expected::None => version == 0,
            Expected::Exists => version > 0,
            Expected::Exact(expected) => version == expected,
        }
    }
}

/// A precondition on one stream.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// Its name. It need not be one that is appended to.
    pub stream: &'a str,
    /// Its version before the append.
    pub expected: Expected,
}

/// Events that are of one of these types and have all of these tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryItem {
    /// Any of these; none given: any type.
    pub types: Vec<String>,
    /// All of these.
    pub tags: Vec<String>,
}

/// Events that match at least one item; no items at all: every event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// See [`QueryItem`].
    pub items: Vec<QueryItem>,
}

impl Query {
    /// Whether an event with this type and these tags (in ascending order) matches.
    #[must_use]
    pub fn matches<'t>(
        &self,
        event_type: &[u8],
        tags: impl Iterator<Item = &'t [u8]> + Clone,
    ) -> bool {
        self.items.is_empty()
            || self.items.iter().any(|item| {
                let of_type = item.types.is_empty()
                    || item.types.iter().any(|name| name.as_bytes() == event_type);
                of_type
                    && item
                        .tags
                        .iter()
                        .all(|tag| tags.clone().any(|has| has == tag.as_bytes()))
            })
    }

    pub(super) fn check(&self) -> Result<()> {
        for (index, item) in self.items.iter().enumerate() {
            if item.types.is_empty() && item.tags.is_empty() {
                return Err(Error::invalid(format!(
                    "item {index} of the query names neither types nor tags; a query without \
                     items matches every event"
                )));
            }
            for name in item.types.iter().chain(&item.tags) {
                check_len("a name in a query", name.len(), 1, NAME_LEN_MAX)?;
            }
        }
        Ok(())
    }
}

/// A precondition on the events of the whole store: none after a position matches a query.
#[derive(Clone, Debug)]
pub struct Condition<'a> {
    /// What must not be there.
    pub query: &'a Query,
    /// Events up to this position do not count.
    pub after: u64,
}

/// What is committed together with events.
#[derive(Clone, Copy, Debug)]
pub enum SideRecord<'a> {
    /// Up to where somebody has read: must grow, unless it is reset.
    SavePosition {
        /// Whose: 1 to 255 bytes.
        name: &'a str,
        /// The last position dealt with.
        position: u64,
        /// It may go back.
        reset: bool,
    },
    /// A value of the application's own under a key.
    PutState {
        /// 1 to 1024 bytes.
        key: &'a [u8],
        /// At most 1 MiB.
        value: &'a [u8],
    },
    /// The end of such a value.
    DeleteState {
        /// 1 to 1024 bytes.
        key: &'a [u8],
    },
}

/// One append: all of it or nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct AppendRequest<'a> {
    /// For any number of streams.
    pub events: &'a [NewEvent<'a>],
    /// Each stream at most once.
    pub expectations: &'a [Expectation<'a>],
    /// All must hold.
    pub conditions: &'a [Condition<'a>],
    /// Each name and key at most once.
    pub side_records: &'a [SideRecord<'a>],
    /// By which the store knows the request again if it comes twice: 1 to 255 bytes.
    pub idempotency_key: Option<&'a [u8]>,
}

/// What an append came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AppendReceipt {
    /// Position of its first event; 0 if it had none.
    pub first_position: u64,
    /// Position of its last event; 0 if it had none.
    pub last_position: u64,
    /// When it was recorded, nanoseconds since 1970-01-01 UTC.
    pub time_ns: u64,
    /// The request had been carried out before; this is what it came to then.
    pub duplicate: bool,
    /// Each stream appended to, in the order of first mention, and its version after the append.
    pub stream_versions: Vec<(String, u64)>,
    /// LSN where the batch begins; of a duplicate, 0.
    pub batch_id: u64,
}

/// A name as bytes of [`Prepared::bytes`], with its hash.
#[derive(Clone, Debug)]
pub(super) struct PreparedName {
    range: Range<usize>,
    hash: u64,
}

/// An event without its place, as bytes of [`Prepared::bytes`].
#[derive(Clone, Debug)]
pub(super) struct PreparedEvent {
    pub(super) stream: PreparedName,
    /// What follows position and version.
    pub(super) body: Range<usize>,
    pub(super) event_type: PreparedName,
    /// Indices in [`Prepared::tags`].
    pub(super) tags: Range<usize>,
    pub(super) flags: u8,
    pub(super) id: Option<EventId>,
}

/// A record beside the events, as bytes of [`Prepared::bytes`].
#[derive(Clone, Debug)]
pub(super) struct PreparedSide {
    pub(super) op: u8,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
    pub(super) reset: bool,
}

/// A condition that owns its query.
#[derive(Clone, Debug)]
pub(super) struct PreparedCondition {
    pub(super) query: Query,
    pub(super) after: u64,
}

/// A request that has been checked in all that does not depend on the store.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) bytes: Vec<u8>,
    pub(super) events: Vec<PreparedEvent>,
    pub(super) tags: Vec<PreparedName>,
    pub(super) expectations: Vec<(PreparedName, Expected)>,
    pub(super) conditions: Vec<PreparedCondition>,
    pub(super) side_records: Vec<PreparedSide>,
    pub(super) idempotency_key: Option<(Range<usize>, [u8; DIGEST_LEN])>,
    /// Bytes that its records take, at most.
    pub(super) encoded_len: u64,
}

impl Prepared {
    pub(super) fn get(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    pub(super) fn name(&self, name: &PreparedName) -> Name<'_> {
        Name::with_hash(self.get(&name.range), name.hash)
    }

    pub(super) fn tags_of(
        &self,
        event: &PreparedEvent,
    ) -> impl ExactSizeIterator<Item = Name<'_>> + Clone {
        let tags = self.tags.get(event.tags.clone()).unwrap_or_default();
        tags.iter().map(|tag| self.name(tag))
    }

    /// Checks `request` and encodes what can be encoded.
    pub(super) fn new(request: &AppendRequest<'_>) -> Result<Prepared> {
        if request.events.is_empty() && request.side_records.is_empty() {
            return Err(Error::new(
                ErrorKind::EmptyBatch,
                "an append needs at least one event or side record",
            ));
        }
        let mut prepared = Prepared::default();
        prepared.reserve(request)?;
        for (index, event) in request.events.iter().enumerate() {
            prepared
                .add_event(event)
                .map_err(|error| named(error, "event", index))?;
        }
        prepared.check_ids()?;
        for (index, expectation) in request.expectations.iter().enumerate() {
            let stream = prepared
                .add_stream(expectation.stream)
                .map_err(|error| named(error, "expectation", index))?;
            prepared.expectations.push((stream, expectation.expected));
        }
        prepared.check_expectations()?;
        for (index, condition) in request.conditions.iter().enumerate() {
            condition
                .query
                .check()
                .map_err(|error| named(error, "condition", index))?;
            prepared.conditions.push(PreparedCondition {
                query: condition.query.clone(),
                after: condition.after,
            });
        }
        for (index, side) in request.side_records.iter().enumerate() {
            prepared
                .add_side_record(side)
                .map_err(|error| named(error, "side record", index))?;
        }
        prepared.check_side_records()?;
        if let Some(key) = request.idempotency_key {
            check_len("the idempotency key", key.len(), 1, NAME_LEN_MAX)?;
            let digest = prepared.digest();
            let range = prepared.add(key);
            prepared.encoded_len += 64 + key.len() as u64;
            prepared.idempotency_key = Some((range, digest));
        }
        Ok(prepared)
    }

    fn reserve(&mut self, request: &AppendRequest<'_>) -> Result<()> {
        let mut len = 0usize;
        for event in request.events {
            let tags: usize = event.tags.iter().map(|tag| tag.len() + 2).sum();
            len = len
                .saturating_add(event.data.len())
                .saturating_add(event.metadata.len())
                .saturating_add(event.stream.len() + event.event_type.len() + tags)
                .saturating_add(event.content_type.len() + 80);
        }
        for expectation in request.expectations {
            len = len.saturating_add(expectation.stream.len());
        }
        let (events, expectations) = (request.events.len(), request.expectations.len());
        let reserved = self.bytes.try_reserve(len).is_ok()
            && self.events.try_reserve_exact(events).is_ok()
            && self.expectations.try_reserve_exact(expectations).is_ok();
        if reserved {
            Ok(())
        } else {
            Err(Error::no_memory("an append", len))
        }
    }

    fn add(&mut self, bytes: &[u8]) -> Range<usize> {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        begin..self.bytes.len()
    }

    fn add_name(&mut self, what: &str, name: &str, len_max: usize) -> Result<Range<usize>> {
        check_len(what, name.len(), 1, len_max)?;
        Ok(self.add(name.as_bytes()))
    }

    fn add_stream(&mut self, stream: &str) -> Result<PreparedName> {
        match self.events.last() {
            // Most batches are for one stream: its name is kept once.
            Some(last) if self.name(&last.stream).bytes == stream.as_bytes() => {
                Ok(last.stream.clone())
            }
            _ => Ok(PreparedName {
                range: self.add_name("stream", stream, STREAM_LEN_MAX)?,
                hash: Name::new(stream.as_bytes()).hash(),
            }),
        }
    }

    fn add_event(&mut self, event: &NewEvent<'_>) -> Result<()> {
        check_len("event_type", event.event_type.len(), 1, NAME_LEN_MAX)?;
        check_len("content_type", event.content_type.len(), 0, NAME_LEN_MAX)?;
        if event.id == Some([0; 16]) {
            return Err(Error::invalid("an id of zeros; give none instead"));
        }
        let stream = self.add_stream(event.stream)?;
        let tags_begin = self.tags.len();
        let mut sorted: Vec<&[u8]> = event.tags.iter().map(|tag| tag.as_bytes()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() > TAG_COUNT_MAX {
            return Err(Error::invalid(format!(
                "{} tags, at most {TAG_COUNT_MAX} are allowed",
                sorted.len()
            )));
        }
        for tag in &sorted {
            check_len("a tag", tag.len(), 1, NAME_LEN_MAX)?;
            let hash = Name::new(tag).hash();
            let range = self.add(tag);
            self.tags.push(PreparedName { range, hash });
        }
        let body = EventBody {
            id: event.id.as_ref(),
            event_type: event.event_type.as_bytes(),
            schema_version: event.schema_version,
            content_type: event.content_type.as_bytes(),
            occurred_ns: event.occurred_ns,
            correlation_id: event.correlation_id.as_ref(),
            causation_id: event.causation_id.as_ref(),
            metadata: event.metadata,
            data: event.data,
        };
        let begin = self.bytes.len();
        body.encode(&mut self.bytes, sorted.iter().copied());
        let body_range = begin..self.bytes.len();
        // The type stands behind the id and its own length.
        let type_begin = begin
            + if event.id.is_some() { 16 } else { 0 }
            + if event.event_type.len() < 128 { 1 } else { 2 };
        let event_type = PreparedName {
            range: type_begin..type_begin + event.event_type.len(),
            hash: match self.events.last().map(|last| self.name(&last.event_type)) {
                Some(last) if last.bytes == event.event_type.as_bytes() => last.hash(),
                _ => Name::new(event.event_type.as_bytes()).hash(),
            },
        };
        let record_len = event.stream.len() + body_range.len() + 1 + 2 * 10;
        if record_len > RECORD_LEN_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("{record_len} bytes, at most {RECORD_LEN_MAX} are allowed"),
            ));
        }
        self.encoded_len += record_len as u64 + 12;
        self.events.push(PreparedEvent {
            stream,
            body: body_range,
            event_type,
            tags: tags_begin..self.tags.len(),
            flags: body.flags(),
            id: event.id,
        });
        Ok(())
    }

    fn add_side_record(&mut self, side: &SideRecord<'_>) -> Result<()> {
        let prepared = match *side {
            SideRecord::SavePosition {
                name,
                position,
                reset,
            } => {
                if position > POSITION_MAX {
                    return Err(Error::invalid(format!("position {position} can't be")));
                }
                PreparedSide {
                    op: OP_SAVED_POSITION,
                    key: self.add_name("name", name, NAME_LEN_MAX)?,
                    value: {
                        let begin = self.add(&position.to_le_bytes()).start;
                        begin..self.add(&[u8::from(reset)]).end
                    },
                    reset,
                }
            }
            SideRecord::PutState { key, value } => {
                check_len("key", key.len(), 1, STATE_KEY_LEN_MAX)?;
                check_len("value", value.len(), 0, STATE_VALUE_LEN_MAX)?;
                PreparedSide {
                    op: OP_STATE_PUT,
                    key: self.add(key),
                    value: self.add(value),
                    reset: false,
                }
            }
            SideRecord::DeleteState { key } => {
                check_len("key", key.len(), 1, STATE_KEY_LEN_MAX)?;
                PreparedSide {
                    op: OP_STATE_DELETE,
                    key: self.add(key),
                    value: 0..0,
                    reset: false,
                }
            }
        };
        self.encoded_len += 12 + (prepared.key.len() + prepared.value.len()) as u64;
        self.side_records.push(prepared);
        Ok(())
    }

    fn check_ids(&self) -> Result<()> {
        let mut ids: Vec<&EventId> = self.events.iter().filter_map(|e| e.id.as_ref()).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid("two events of the append have the same id"));
        }
        Ok(())
    }

    fn check_expectations(&self) -> Result<()> {
        if self.expectations.len() < 2 {
            return Ok(());
        }
        let streams = self.expectations.iter().map(|(stream, _)| stream);
        let mut names: Vec<&[u8]> = streams.map(|stream| self.name(stream).bytes).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::invalid(format!(
                "two expectations about stream {:?}",
                String::from_utf8_lossy(pair[0])
            ))),
            None => Ok(()),
        }
    }

    fn check_side_records(&self) -> Result<()> {
        let mut keys: Vec<(bool, &[u8])> = self
            .side_records
            .iter()
            .map(|side| (side.op == OP_SAVED_POSITION, self.get(&side.key)))
            .collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::invalid(format!(
                "two side records about {:?}",
                String::from_utf8_lossy(pair[0].1)
            ))),
            None => Ok(()),
        }
    }

    /// SHA-256 of the records of the request as they are encoded, but with position and stream
    /// version 0 and without FIRST and LAST (FORMAT.md section 20.5).
    fn digest(&self) -> [u8; DIGEST_LEN] {
        let mut digest = Digest::default();
        let mut place = Vec::new();
        let mut record = |op: u8, key: &[u8], parts: [&[u8]; 2]| {
            let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
            let value_len = parts[0].len() + parts[1].len();
            digest.update(&encode_header(op, len(key.len()), len(value_len)));
            digest.update(key);
            digest.update(parts[0]);
            digest.update(parts[1]);
        };
        for event in &self.events {
            place.clear();
            event::encode_place(&mut place, event.flags, 0, 0);
            record(
                OP_EVENT,
                self.name(&event.stream).bytes,
                [&place, self.get(&event.body)],
            );
        }
        for side in &self.side_records {
            record(side.op, self.get(&side.key), [self.get(&side.value), &[]]);
        }
        digest.finish()
    }
}

fn named(error: Error, what: &str, index: usize) -> Error {
    let kind = error.kind();
    error.into_kind(kind, &format!("{what} {index}"))
}

pub(super) fn check_len(what: &str, len: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&len) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{what} has {len} bytes, allowed are {min} to {max}"
    )))
}
