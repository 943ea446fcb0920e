//! The log's records as entries of the index: how the index is made when there is none, and how it
//! follows what others appended.

use super::anchor::LogPlace;
use super::index::{KeyKind, MemoryIndex, Place, Value};
use crate::error::{Error, ErrorKind, Place as ErrorPlace, Result};
use crate::format::event::{
    self, RequestNote, OP_EVENT, OP_REQUEST, OP_SAVED_POSITION, OP_STATE_DELETE, OP_STATE_PUT,
};
use crate::format::{get_u64, put};
use crate::wal::{Cursor, Entry, RecordPlace};

/// What is known of a request by its idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KnownRequest {
    pub(super) note: RequestNote,
    pub(super) time_ns: u64,
}

impl KnownRequest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; RequestNote::LEN + 8];
        put(&mut bytes, 0, &self.note.encode());
        put(&mut bytes, RequestNote::LEN, &self.time_ns.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<KnownRequest> {
        Some(KnownRequest {
            note: RequestNote::decode(bytes.get(..RequestNote::LEN)?)?,
            time_ns: get_u64(bytes, RequestNote::LEN),
        })
    }
}

/// Adds one record of the log to an index. Records that are not the event store's are passed over:
/// the log may hold what a program appended to it directly.
pub(super) fn add_record(
    index: &mut MemoryIndex,
    next_position: u64,
    op: u8,
    key: &[u8],
    value: &[u8],
    place: Place,
) -> Result<bool> {
    let bad = |what: &str| {
        let message = format!("LSN {}: {what}", place.lsn);
        Err(Error::new(ErrorKind::Corrupt, message).at(ErrorPlace {
            lsn: crate::lsn::Lsn(place.lsn),
            ..ErrorPlace::default()
        }))
    };
    match op {
        OP_EVENT => {
            let Some(event) = event::decode(value) else {
                if value
                    .first()
                    .is_some_and(|flags| flags & event::event_flag::RESERVED != 0)
                {
                    let message = format!("LSN {}: an event of a newer version", place.lsn);
                    return Err(Error::new(ErrorKind::Newer, message));
                }
                return bad("a record with the op of an event that is none");
            };
            if let Some(flaw) = event.flaw(key) {
                return bad(&format!("the event at position {}: {flaw}", event.position));
            }
            if event.position != next_position {
                return bad(&format!(
                    "the event at position {} where {next_position} was expected",
                    event.position
                ));
            }
            index
                .add_event(
                    event.position,
                    place,
                    key,
                    event.stream_version,
                    event.body.event_type,
                    event.tags.iter(),
                    event.body.id,
                )
                .map_err(|error| match error.kind() {
                    ErrorKind::Internal => error.into_kind(
                        ErrorKind::Corrupt,
                        &format!("LSN {}: an event that can't stand here", place.lsn),
                    ),
                    _ => error,
                })?;
            return Ok(true);
        }
        OP_SAVED_POSITION if value.len() == 9 => {
            let saved = Value::Bytes(value.get(..8).unwrap_or_default().to_vec());
            index.put_value(KeyKind::SavedPosition, key, saved);
        }
        OP_STATE_PUT => {
            index.put_value(KeyKind::State, key, Value::Bytes(value.to_vec()));
        }
        OP_STATE_DELETE => index.put_value(KeyKind::State, key, Value::Deleted),
        OP_REQUEST => {
            let Some(note) = RequestNote::decode(value) else {
                return bad("a record with the op of an idempotency key that is none");
            };
            let known = KnownRequest {
                note,
                time_ns: place.time_ns,
            };
            index.put_value(KeyKind::Request, key, Value::Bytes(known.encode()));
        }
        OP_SAVED_POSITION => return bad("a saved position that is none"),
        _ => {}
    }
    Ok(false)
}

/// Takes a record, its place, and of the first one of a batch where the batch before it ended.
pub(super) type TakeRecord<'f> = dyn FnMut(&Entry<'_>, Place, Option<LogPlace>) -> Result<()> + 'f;

/// Follows the log from a place on.
pub(super) struct Follower {
    cursor: Cursor,
    /// The last record that was taken: of a batch that may go on.
    pub(super) place: LogPlace,
}

impl Follower {
    /// From behind `place` on; `None` if the log has no such batch.
    pub(super) fn new(mut cursor: Cursor, place: LogPlace) -> Result<Option<Follower>> {
        Ok(place
            .go_to(&mut cursor)?
            .then_some(Follower { cursor, place }))
    }

    /// Hands over the next record, if there is one now; with the place of the batch before it if it
    /// is the first of its own.
    pub(super) fn next(&mut self, take: &mut TakeRecord<'_>) -> Result<bool> {
        let Some((entry, record)) = self.cursor.next_placed()? else {
            return Ok(false);
        };
        let RecordPlace { lsn, crc } = record;
        let begins = entry.batch_id != self.place.batch_id;
        let place = Place {
            lsn: lsn.0,
            crc,
            time_ns: entry.time_ns,
        };
        take(&entry, place, begins.then_some(self.place))?;
        if begins {
            self.place.batch_id = entry.batch_id;
            self.place.first_seq = entry.seq;
            self.place.payload_crc = 0;
        }
        self.place.end_seq = entry.seq + 1;
        self.place.time_ns = entry.time_ns;
        Ok(true)
    }
}
