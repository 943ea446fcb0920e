//! Where the log stood when a layer of the index was complete: a batch that must be there, as it
//! was, for the layer to be of use, and behind which the log is to be read on.

use super::index::Anchor;
use crate::error::Result;
use crate::format::{get_u32, get_u64, put};
use crate::lsn::{Lsn, Seq};
use crate::wal::Cursor;
use std::ops::RangeInclusive;

/// The last batch that a layer covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct LogPlace {
    /// Where it begins; 0 before the first.
    pub(super) batch_id: Lsn,
    /// Number of its COMMIT, or a greater one with no record between: reading goes on behind it.
    pub(super) end_seq: Seq,
    /// Number of its first record, and checksum of its first payload (0: not looked up yet): by
    /// which it is known again.
    /// A place in the log is never used for another batch, so this is a second line.
    pub(super) first_seq: Seq,
    pub(super) payload_crc: u32,
    /// When it was committed.
    pub(super) time_ns: u64,
}

/// The part of the log that a layer covers: all records behind one number, up to a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Cover {
    /// Where the layer before ends. That no record is missing between two layers is known from this
    /// alone: positions don't tell of records without events.
    pub(super) begin_seq: Seq,
    pub(super) end: LogPlace,
}

impl Cover {
    /// Nothing, behind `place`.
    pub(super) fn behind(place: LogPlace) -> Cover {
        Cover {
            begin_seq: place.end_seq,
            end: place,
        }
    }

    /// The sequence numbers covered; none if the anchor, which a file may say anything in, begins
    /// behind the last number there is.
    pub(super) fn numbers(&self) -> RangeInclusive<Seq> {
        match self.begin_seq.checked_add(1) {
            Some(first) => first..=self.end.end_seq,
            None => RangeInclusive::new(Seq::MAX, 0),
        }
    }

    pub(super) fn encode(&self) -> Anchor {
        let mut bytes = [0; 64];
        put(&mut bytes, 0, &self.end.batch_id.0.to_le_bytes());
        put(&mut bytes, 8, &self.end.end_seq.to_le_bytes());
        put(&mut bytes, 16, &self.end.first_seq.to_le_bytes());
        put(&mut bytes, 24, &self.end.time_ns.to_le_bytes());
        put(&mut bytes, 32, &self.end.payload_crc.to_le_bytes());
        put(&mut bytes, 40, &self.begin_seq.to_le_bytes());
        Anchor(bytes)
    }

    pub(super) fn decode(anchor: &Anchor) -> Cover {
        let bytes = &anchor.0;
        Cover {
            begin_seq: get_u64(bytes, 40),
            end: LogPlace {
                batch_id: Lsn(get_u64(bytes, 0)),
                end_seq: get_u64(bytes, 8),
                first_seq: get_u64(bytes, 16),
                time_ns: get_u64(bytes, 24),
                payload_crc: get_u32(bytes, 32),
            },
        }
    }
}

impl LogPlace {
    /// The place with the checksum of its batch's first payload, as it is in the log.
    pub(super) fn identified(mut self, cursor: &mut Cursor) -> Result<LogPlace> {
        if self.batch_id != Lsn::NONE && self.payload_crc == 0 {
            if let Some(head) = cursor.begin_at(self.batch_id, self.end_seq)? {
                self.payload_crc = head.payload_crc;
            }
        }
        Ok(self)
    }

    /// Lets `cursor` go on behind this place; false if the log has no such batch.
    pub(super) fn go_to(&self, cursor: &mut Cursor) -> Result<bool> {
        if self.batch_id == Lsn::NONE {
            return Ok(true);
        }
        let found = cursor.begin_at(self.batch_id, self.end_seq)?;
        Ok(found.is_some_and(|head| {
            // What memory holds needs no second line.
            let same_payload = self.payload_crc == 0 || head.payload_crc == self.payload_crc;
            head.first_seq == self.first_seq && same_payload
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back() {
        let cover = Cover {
            begin_seq: 6,
            end: LogPlace {
                batch_id: Lsn(1),
                end_seq: 2,
                first_seq: 3,
                payload_crc: 4,
                time_ns: 5,
            },
        };
        assert_eq!(Cover::decode(&cover.encode()), cover);
    }

    #[test]
    fn nothing_lies_behind_the_last_number() {
        let cover = Cover {
            begin_seq: Seq::MAX,
            ..Cover::default()
        };
        assert!(cover.numbers().is_empty());
    }
}
