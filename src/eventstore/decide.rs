//! Whether an append may be: what came before it, in the log and in the group that is being made.
//!
//! A request is judged against the state before it: everything acknowledged, which the catalog
//! knows, and the requests of the same group that were accepted before it, which will be in the log
//! before it or not at all, and if they are not then neither is it.
//!
//! First of all it is compared with what is known already: a request that comes again after its
//! answer was lost must succeed, whatever its preconditions say now.

use super::catalog::Snapshot;
use super::index::KeyKind;
use super::lists::{Matches, Way};
use super::name::Name;
use super::replay::KnownRequest;
use super::request::{Expected, Prepared, PreparedEvent};
use super::sequencer::Versions;
use crate::error::{Conflict, ConflictKind, Error, ErrorKind, Result};
use crate::format::event::{position_of_derived_id, EventId, RequestNote, OP_SAVED_POSITION};
use crate::format::get_u64;
use std::collections::HashMap;

/// What the requests of a group that were accepted so far will add, but for stream versions.
#[derive(Default)]
pub(super) struct Pending {
    saved: HashMap<Box<[u8]>, u64>,
    ids: HashMap<EventId, ()>,
    keys: HashMap<Box<[u8]>, ()>,
}

impl Pending {
    pub(super) fn clear(&mut self) {
        self.saved.clear();
        self.ids.clear();
        self.keys.clear();
    }

    /// What an accepted request adds.
    pub(super) fn add(&mut self, request: &Prepared) {
        for event in &request.events {
            if let Some(id) = event.id {
                self.ids.insert(id, ());
            }
        }
        if let Some((key, _)) = &request.idempotency_key {
            self.keys.insert(request.get(key).into(), ());
        }
        for side in &request.side_records {
            if side.op == OP_SAVED_POSITION {
                let position = get_u64(request.get(&side.value), 0);
                self.saved.insert(request.get(&side.key).into(), position);
            }
        }
    }

    /// Whether the answer to `request` depends on a request of the group that is not in the log yet:
    /// it may be the same one.
    pub(super) fn may_repeat(&self, request: &Prepared) -> bool {
        let key = request.idempotency_key.as_ref();
        key.is_some_and(|(key, _)| self.keys.contains_key(request.get(key)))
            || (!self.ids.is_empty() && own_ids(request).any(|id| self.ids.contains_key(&id)))
    }
}

fn own_ids(request: &Prepared) -> impl Iterator<Item = EventId> + '_ {
    request.events.iter().filter_map(|event| event.id)
}

/// What is there before a request.
pub(super) struct Before<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) log_id: &'a [u8; 16],
    /// The last position in the catalog.
    pub(super) last: u64,
    pub(super) pending: &'a Pending,
    /// Versions that need no looking up, and those that the group has given.
    pub(super) versions: &'a Versions,
    /// Accepted requests of the group, each with the position of its first event.
    pub(super) accepted: &'a [(u64, &'a Prepared)],
}

/// What a repeated request came to at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Original {
    pub(super) first_position: u64,
    pub(super) event_count: u64,
    pub(super) time_ns: u64,
}

impl Before<'_> {
    /// Version of a stream.
    pub(super) fn stream_version(&self, stream: Name<'_>) -> Result<u64> {
        match self.versions.get(stream) {
            Some(version) => Ok(version),
            None => self.snapshot.stream_version(stream.bytes),
        }
    }

    /// What the request came to if it was carried out before. An error of kind `Duplicate` if only
    /// part of it was, or something else under its key.
    pub(super) fn original(&self, request: &Prepared) -> Result<Option<Original>> {
        if let Some((key, digest)) = &request.idempotency_key {
            let known = self.snapshot.value(KeyKind::Request, request.get(key))?;
            if let Some(known) = known.as_deref().and_then(KnownRequest::decode) {
                let KnownRequest { note, time_ns } = known;
                if note.digest != *digest {
                    return Err(other_request(request.get(key), &note));
                }
                return Ok(Some(Original {
                    first_position: note.first_position,
                    event_count: note.event_count,
                    time_ns,
                }));
            }
        }
        self.original_by_ids(request)
    }

    fn position_of_id(&self, id: &EventId) -> Result<Option<u64>> {
        if let Some(bytes) = self.snapshot.value(KeyKind::Id, id)? {
            return Ok(Some(get_u64(&bytes, 0)));
        }
        let derived = position_of_derived_id(self.log_id, id);
        Ok(derived.filter(|&position| position <= self.last))
    }

    fn original_by_ids(&self, request: &Prepared) -> Result<Option<Original>> {
        let mut known: Vec<(&PreparedEvent, u64)> = Vec::new();
        for event in &request.events {
            if let Some(id) = &event.id {
                if let Some(position) = self.position_of_id(id)? {
                    known.push((event, position));
                }
            }
        }
        let Some(&(_, first)) = known.first() else {
            return Ok(None);
        };
        let in_order = known.len() == request.events.len()
            && (first..)
                .zip(&known)
                .all(|(expected, (_, position))| expected == *position);
        if in_order {
            // Whether they are a whole batch is seen when they are read.
            return Ok(Some(Original {
                first_position: first,
                event_count: known.len() as u64,
                time_ns: 0,
            }));
        }
        Err(known_ids(
            known.iter().filter_map(|(event, _)| event.id).collect(),
        ))
    }

    /// Every precondition that does not hold.
    pub(super) fn conflicts(&self, request: &Prepared) -> Result<Vec<Conflict>> {
        let mut conflicts = Vec::new();
        for (index, (stream, expected)) in request.expectations.iter().enumerate() {
            if *expected == Expected::Any {
                continue;
            }
            let stream = request.name(stream);
            let version = self.stream_version(stream)?;
            if !expected.holds(version) {
                conflicts.push(Conflict {
                    kind: ConflictKind::Stream,
                    index,
                    name: String::from_utf8_lossy(stream.bytes).into_owned(),
                    expected: expected.to_number(),
                    actual: version,
                });
            }
        }
        for (index, condition) in request.conditions.iter().enumerate() {
            let query = &condition.query;
            let way = Way {
                backward: false,
                last: self.last,
            };
            let from = condition.after.saturating_add(1);
            let found = match Matches::new(self.snapshot, query, way).seek(from)? {
                Some(position) => Some(position),
                None => self.first_accepted_match(query, condition.after),
            };
            if let Some(position) = found {
                conflicts.push(Conflict {
                    kind: ConflictKind::Condition,
                    index,
                    name: String::new(),
                    expected: i64::try_from(condition.after).unwrap_or(i64::MAX),
                    actual: position,
                });
            }
        }
        for (index, side) in request.side_records.iter().enumerate() {
            if side.op != OP_SAVED_POSITION || side.reset {
                continue;
            }
            let name = request.get(&side.key);
            let given = get_u64(request.get(&side.value), 0);
            let saved = match self.pending.saved.get(name) {
                Some(&position) => Some(position),
                None => {
                    let saved = self.snapshot.value(KeyKind::SavedPosition, name)?;
                    saved.map(|bytes| get_u64(&bytes, 0))
                }
            };
            if let Some(saved) = saved.filter(|&saved| given <= saved) {
                conflicts.push(Conflict {
                    kind: ConflictKind::SavedPosition,
                    index,
                    name: String::from_utf8_lossy(name).into_owned(),
                    expected: i64::try_from(given).unwrap_or(i64::MAX),
                    actual: saved,
                });
            }
        }
        Ok(conflicts)
    }

    /// The first event of the group's accepted requests, behind `after`, that matches.
    fn first_accepted_match(&self, query: &super::Query, after: u64) -> Option<u64> {
        self.accepted.iter().find_map(|(first, request)| {
            (*first..)
                .zip(&request.events)
                .find_map(|(position, event)| {
                    let event_type = request.name(&event.event_type).bytes;
                    let tags = request.tags_of(event).map(|tag| tag.bytes);
                    let matches = position > after && query.matches(event_type, tags);
                    matches.then_some(position)
                })
        })
    }
}

/// Some of these events are in the store, but not as they were given.
pub(super) fn known_ids(ids: Vec<EventId>) -> Error {
    let names: Vec<String> = ids.iter().take(4).map(hex).collect();
    let more = if ids.len() > names.len() { ", …" } else { "" };
    let message = format!(
        "{} of the events are in the store already, but the request as a whole is not: {}{more}",
        ids.len(),
        names.join(", "),
    );
    Error::of_known_ids(message, ids)
}

fn other_request(key: &[u8], note: &RequestNote) -> Error {
    let what = match note.event_count {
        0 => "one without events".to_owned(),
        count => format!("{count} events from position {} on", note.first_position),
    };
    let message = format!(
        "another request was carried out with the idempotency key {:?}: {what}",
        String::from_utf8_lossy(key)
    );
    Error::new(ErrorKind::Duplicate, message)
}

fn hex(id: &EventId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
