//! The event, and what stands beside events in a batch of the event store (FORMAT.md section 20):
//! the content of records whose op is 16 to 20.
//!
//! An event is one record and is complete in itself: the record's key is the stream, its value holds
//! position, stream version, type, tags and all the rest, so that it can be understood without any
//! other record. Position and version come first, because they are known last: everything behind
//! them is encoded before the event's turn comes.

use super::{get_array, varint};

/// Op of an event (FORMAT.md section 20.2).
pub const OP_EVENT: u8 = 16;
/// Op of a saved position (section 20.4).
pub const OP_SAVED_POSITION: u8 = 17;
/// Op of a value of the key-value state (section 20.4).
pub const OP_STATE_PUT: u8 = 18;
/// Op of the end of such a value (section 20.4).
pub const OP_STATE_DELETE: u8 = 19;
/// Op of an idempotency key (section 20.5).
pub const OP_REQUEST: u8 = 20;

/// Limits (FORMAT.md sections 20.2 to 20.5): bytes of a stream's name.
pub const STREAM_LEN_MAX: usize = 1024;
/// Bytes of an event type, a tag, a content type, the name of a saved position, an idempotency key.
pub const NAME_LEN_MAX: usize = 255;
/// Tags of one event.
pub const TAG_COUNT_MAX: usize = 64;
/// Bytes of a key of the key-value state.
pub const STATE_KEY_LEN_MAX: usize = 1024;
/// Bytes of a value of the key-value state.
pub const STATE_VALUE_LEN_MAX: usize = 1 << 20;
/// Greatest position: ids derived from it keep two bits for their variant.
pub const POSITION_MAX: u64 = (1 << 62) - 1;

/// Bits of an event's flags (FORMAT.md section 20.2).
pub mod event_flag {
    /// It has an id of its own.
    pub const ID: u8 = 1;
    /// It is the first event of its batch.
    pub const FIRST: u8 = 2;
    /// It is the last event of its batch.
    pub const LAST: u8 = 4;
    /// It has metadata.
    pub const METADATA: u8 = 8;
    /// It says when it occurred.
    pub const OCCURRED: u8 = 16;
    /// It has a correlation id.
    pub const CORRELATION: u8 = 32;
    /// It has a causation id.
    pub const CAUSATION: u8 = 64;
    /// Reserved: an event with it can't be read by this version.
    pub const RESERVED: u8 = 128;
}

/// Sixteen bytes that name an event, or what it belongs to; usually a UUID.
pub type EventId = [u8; 16];

/// The fields of an event that do not depend on its place, as encoded behind position and stream
/// version.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventBody<'a> {
    /// Its own id; without one it is derived from its position.
    pub id: Option<&'a EventId>,
    /// What happened.
    pub event_type: &'a [u8],
    /// Of the data: the application's own number.
    pub schema_version: u64,
    /// Of the data: a media type, or nothing.
    pub content_type: &'a [u8],
    /// Nanoseconds since 1970-01-01 UTC.
    pub occurred_ns: Option<i64>,
    /// What it belongs to.
    pub correlation_id: Option<&'a EventId>,
    /// What it follows from.
    pub causation_id: Option<&'a EventId>,
    /// About the event.
    pub metadata: &'a [u8],
    /// The event.
    pub data: &'a [u8],
}

impl EventBody<'_> {
    /// The bits of the flags that the body itself decides.
    #[must_use]
    pub fn flags(&self) -> u8 {
        let bit = |present: bool, bit: u8| if present { bit } else { 0 };
        bit(self.id.is_some(), event_flag::ID)
            | bit(!self.metadata.is_empty(), event_flag::METADATA)
            | bit(self.occurred_ns.is_some(), event_flag::OCCURRED)
            | bit(self.correlation_id.is_some(), event_flag::CORRELATION)
            | bit(self.causation_id.is_some(), event_flag::CAUSATION)
    }

    /// Appends everything behind the stream version to `out`. `tags` are in ascending order, each
    /// once.
    pub fn encode<'t>(&self, out: &mut Vec<u8>, tags: impl ExactSizeIterator<Item = &'t [u8]>) {
        out.extend_from_slice(self.id.map_or(&[], |id| &id[..]));
        put_bytes(out, self.event_type);
        varint::put(out, tags.len() as u64);
        for tag in tags {
            put_bytes(out, tag);
        }
        varint::put(out, self.schema_version);
        put_bytes(out, self.content_type);
        if let Some(ns) = self.occurred_ns {
            out.extend_from_slice(&ns.to_le_bytes());
        }
        for id in [self.correlation_id, self.causation_id] {
            out.extend_from_slice(id.map_or(&[], |id| &id[..]));
        }
        if !self.metadata.is_empty() {
            put_bytes(out, self.metadata);
        }
        out.extend_from_slice(self.data);
    }
}

/// Appends flags, position and stream version to `out`: what stands before the body.
pub fn encode_place(out: &mut Vec<u8>, flags: u8, position: u64, stream_version: u64) {
    out.push(flags);
    varint::put(out, position);
    varint::put(out, stream_version);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// An event as it stands in the value of its record.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    /// See [`event_flag`].
    pub flags: u8,
    /// Its number in the store, from 1.
    pub position: u64,
    /// Its number in its stream, from 1.
    pub stream_version: u64,
    /// All other fields.
    pub body: EventBody<'a>,
    /// Its tags as encoded.
    pub tags: Tags<'a>,
}

/// The tags of an event, in ascending order.
#[derive(Clone, Copy, Debug)]
pub struct Tags<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Tags<'a> {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Each.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + Clone + 'a {
        let bytes = self.bytes;
        let mut at = 0;
        std::iter::from_fn(move || get_bytes(bytes, &mut at, NAME_LEN_MAX)).take(self.count)
    }

    /// As they are encoded: each with its length before it.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

#[inline]
fn get_bytes<'a>(bytes: &'a [u8], at: &mut usize, len_max: usize) -> Option<&'a [u8]> {
    let len = usize::try_from(varint::get(bytes, at)?).ok()?;
    if len > len_max {
        return None;
    }
    let found = bytes.get(*at..at.checked_add(len)?)?;
    *at += len;
    Some(found)
}

#[inline]
fn get_id<'a>(bytes: &'a [u8], at: &mut usize, present: bool) -> Option<Option<&'a EventId>> {
    if !present {
        return Some(None);
    }
    let id = bytes.get(*at..)?.first_chunk()?;
    *at += id.len();
    Some(Some(id))
}

impl EventView<'_> {
    /// What FORMAT.md section 20.2 does not allow of an event that could be decoded, in a record
    /// whose key is `stream`. Decoding alone believes what only names and order could get wrong.
    #[must_use]
    pub fn flaw(&self, stream: &[u8]) -> Option<&'static str> {
        let body = &self.body;
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        if stream.is_empty() || stream.len() > STREAM_LEN_MAX || !is_text(stream) {
            return Some("its stream has no proper name");
        }
        if !is_text(body.event_type) || !is_text(body.content_type) {
            return Some("its type or content type is not UTF-8");
        }
        let mut before: &[u8] = &[];
        for tag in self.tags.iter() {
            if tag <= before || !is_text(tag) {
                return Some("its tags are not in ascending order, or not UTF-8");
            }
            before = tag;
        }
        if self.flags & event_flag::METADATA != 0 && body.metadata.is_empty() {
            return Some("it has metadata of no bytes");
        }
        if body.id == Some(&[0; 16]) {
            return Some("its id is zero");
        }
        None
    }
}

/// The event in the value of a record with [`OP_EVENT`]; `None` if that is not one.
#[must_use]
#[inline(always)] // what it returns is large: copying it costs as much as decoding
pub fn decode(value: &[u8]) -> Option<EventView<'_>> {
    let flags = *value.first()?;
    if flags & event_flag::RESERVED != 0 {
        return None;
    }
    let has = |bit: u8| flags & bit != 0;
    let mut at = 1;
    let position = varint::get(value, &mut at)?;
    let stream_version = varint::get(value, &mut at)?;
    if position == 0 || position > POSITION_MAX || stream_version == 0 {
        return None;
    }
    let id = get_id(value, &mut at, has(event_flag::ID))?;
    let event_type = get_bytes(value, &mut at, NAME_LEN_MAX)?;
    let tag_count = usize::try_from(varint::get(value, &mut at)?).ok()?;
    if event_type.is_empty() || tag_count > TAG_COUNT_MAX {
        return None;
    }
    let tags_begin = at;
    for _ in 0..tag_count {
        get_bytes(value, &mut at, NAME_LEN_MAX)?;
    }
    let tags = Tags {
        count: tag_count,
        bytes: value.get(tags_begin..at)?,
    };
    let schema_version = varint::get(value, &mut at)?;
    let content_type = get_bytes(value, &mut at, NAME_LEN_MAX)?;
    let occurred_ns = if has(event_flag::OCCURRED) {
        let bytes = value.get(at..at.checked_add(8)?)?;
        at += 8;
        Some(i64::from_le_bytes(get_array(bytes, 0)))
    } else {
        None
    };
    let correlation_id = get_id(value, &mut at, has(event_flag::CORRELATION))?;
    let causation_id = get_id(value, &mut at, has(event_flag::CAUSATION))?;
    let metadata = if has(event_flag::METADATA) {
        get_bytes(value, &mut at, usize::MAX)?
    } else {
        &[]
    };
    Some(EventView {
        flags,
        position,
        stream_version,
        body: EventBody {
            id,
            event_type,
            schema_version,
            content_type,
            occurred_ns,
            correlation_id,
            causation_id,
            metadata,
            data: value.get(at..)?,
        },
        tags,
    })
}

/// The id of an event without one of its own (FORMAT.md section 20.3): a UUID of version 8 made of
/// the log's id and the event's position.
#[must_use]
pub fn derived_id(log_id: &[u8; 16], position: u64) -> EventId {
    let mut id = *log_id;
    id[6] = (id[6] & 0x0F) | 0x80;
    let low = (position & POSITION_MAX) | 1 << 63;
    id[8..].copy_from_slice(&low.to_be_bytes());
    id
}

/// The position from which `id` was derived, if it was in this log.
#[must_use]
pub fn position_of_derived_id(log_id: &[u8; 16], id: &EventId) -> Option<u64> {
    let position = u64::from_be_bytes(get_array(id, 8)) & POSITION_MAX;
    (derived_id(log_id, position) == *id && position > 0).then_some(position)
}

/// The category of a stream: its name up to the first `-`, all of it if there is none.
#[must_use]
pub fn category_of(stream: &[u8]) -> &[u8] {
    stream.split(|&byte| byte == b'-').next().unwrap_or(stream)
}

/// What the record of an idempotency key holds (FORMAT.md section 20.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestNote {
    /// Of the request's records.
    pub digest: [u8; 32],
    /// Position of the first event of the batch; where there are none, that of the next event.
    pub first_position: u64,
    /// Events of the batch.
    pub event_count: u64,
}

impl RequestNote {
    /// Bytes of the value.
    pub const LEN: usize = 48;

    /// The value of the record.
    #[must_use]
    pub fn encode(&self) -> [u8; RequestNote::LEN] {
        let mut bytes = [0; RequestNote::LEN];
        super::put(&mut bytes, 0, &self.digest);
        super::put(&mut bytes, 32, &self.first_position.to_le_bytes());
        super::put(&mut bytes, 40, &self.event_count.to_le_bytes());
        bytes
    }

    /// The note in the value of a record; `None` if that is not one.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<RequestNote> {
        (value.len() == RequestNote::LEN).then(|| RequestNote {
            digest: get_array(value, 0),
            first_position: super::get_u64(value, 32),
            event_count: super::get_u64(value, 40),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> EventBody<'static> {
        EventBody {
            id: Some(&[7; 16]),
            event_type: b"Opened",
            schema_version: 3,
            content_type: b"application/json",
            occurred_ns: Some(-5),
            correlation_id: Some(&[8; 16]),
            causation_id: Some(&[9; 16]),
            metadata: b"{}",
            data: b"[1,2]",
        }
    }

    fn encode(body: &EventBody<'_>, tags: &[&[u8]]) -> Vec<u8> {
        let mut value = Vec::new();
        encode_place(&mut value, body.flags() | event_flag::FIRST, 300, 2);
        body.encode(&mut value, tags.iter().copied());
        value
    }

    #[test]
    fn an_event_comes_back_whole() {
        let value = encode(&full(), &[b"a", b"course:c1"]);
        let event = decode(&value).unwrap();
        assert_eq!((event.position, event.stream_version), (300, 2));
        assert_eq!(format!("{:?}", event.body), format!("{:?}", full()));
        let tags: Vec<_> = event.tags.iter().collect();
        assert_eq!(tags, [&b"a"[..], b"course:c1"]);
        let plain = EventBody {
            event_type: b"T",
            ..EventBody::default()
        };
        let value = encode(&plain, &[]);
        assert_eq!(value.len(), 1 + 2 + 1 + 2 + 1 + 1 + 1);
        assert!(decode(&value).unwrap().body.data.is_empty());
    }

    #[test]
    fn a_cut_event_is_none_or_has_less_data() {
        let value = encode(&full(), &[b"a", b"course:c1"]);
        let data_begin = value.len() - 5;
        for len in 0..value.len() {
            assert_eq!(decode(&value[..len]).is_some(), len >= data_begin, "{len}");
        }
        let mut newer = value;
        newer[0] |= event_flag::RESERVED;
        assert!(decode(&newer).is_none());
    }

    #[test]
    fn what_only_names_and_order_get_wrong_is_a_flaw() {
        let flaw = |body: &EventBody<'_>, tags: &[&[u8]], stream: &[u8]| {
            let value = encode(body, tags);
            decode(&value).unwrap().flaw(stream).is_some()
        };
        assert!(!flaw(&full(), &[b"a", b"b"], b"s"));
        for tags in [
            &[&b"b"[..], b"a"],
            &[b"a", b"a"],
            &[b"", b"a"],
            &[b"a", b"\xFF"],
        ] {
            assert!(flaw(&full(), tags, b"s"));
        }
        assert!(flaw(&full(), &[], b""));
        assert!(flaw(&full(), &[], &[b's'; STREAM_LEN_MAX + 1]));
        assert!(flaw(&full(), &[], b"\xFF"));
        let zero = EventBody {
            id: Some(&[0; 16]),
            ..full()
        };
        assert!(flaw(&zero, &[], b"s"));
    }

    #[test]
    fn derived_ids_lead_back_to_positions() {
        let log_id = [0xAB; 16];
        for position in [1, 2, 1 << 40, POSITION_MAX] {
            let id = derived_id(&log_id, position);
            assert_eq!(id[6] >> 4, 8);
            assert_eq!(id[8] >> 6, 2);
            assert_eq!(position_of_derived_id(&log_id, &id), Some(position));
            assert_eq!(position_of_derived_id(&[1; 16], &id), None);
        }
        assert_eq!(position_of_derived_id(&log_id, &[0; 16]), None);
    }

    #[test]
    fn categories_end_before_the_first_dash() {
        assert_eq!(category_of(b"order-1-2"), b"order");
        assert_eq!(category_of(b"order"), b"order");
        assert_eq!(category_of(b"-x"), b"");
    }
}
