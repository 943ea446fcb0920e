//! The records of one frame on their way out, one at a time.
//!
//! The frame was accepted, is well-formed, and its batch is known to be shown; [`super::advance`] saw
//! to that. Its bytes stay where they are until the last record is out.

use super::entry::{EntryKind, Item};
use super::segment_end::corrupt;
use super::Cursor;
use crate::error::{Error, Result};
use crate::format::record;
use crate::lsn::{Lsn, Seq};
use std::ops::Range;

/// What the records of a frame have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) batch_id: Lsn,
    pub(super) time_ns: u64,
    pub(super) committed: bool,
}

/// The frame whose records are being delivered.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// Where the payload lies in the reader's window.
    pub(super) payload: Range<usize>,
    /// Where the next record begins, in the payload.
    pub(super) at: usize,
    pub(super) remaining: u32,
    pub(super) next_seq: Seq,
    pub(super) head: Head,
    /// What follows the last record: COMMIT with its number, or nothing.
    pub(super) commit_seq: Option<Seq>,
}

impl Cursor {
    /// The next record of the frame being delivered, or the COMMIT behind its last.
    pub(super) fn deliver(&mut self) -> Result<Option<Item>> {
        let Some(standing) = &mut self.standing else {
            return Ok(None);
        };
        let Some(delivery) = &mut standing.delivery else {
            return Ok(None);
        };
        while delivery.remaining > 0 {
            let payload = standing.reader.window().get(delivery.payload.clone());
            let Some(span) = record::decode(payload.unwrap_or_default(), delivery.at) else {
                return Err(self.changed());
            };
            let seq = delivery.next_seq;
            delivery.at = span.value_end;
            delivery.next_seq += 1;
            delivery.remaining -= 1;
            if seq <= self.floor {
                continue;
            }
            if delivery.head.committed {
                self.floor = seq;
            }
            let base = delivery.payload.start;
            return Ok(Some(Item {
                kind: EntryKind::Record,
                committed: delivery.head.committed,
                op: span.op,
                seq,
                batch_id: delivery.head.batch_id,
                time_ns: delivery.head.time_ns,
                key_begin: base + span.key_begin,
                value_begin: base + span.value_begin,
                value_end: base + span.value_end,
            }));
        }
        Ok(self.finish_delivery())
    }

    /// The COMMIT behind the last record, where that is to be shown.
    fn finish_delivery(&mut self) -> Option<Item> {
        let finished = self.standing.as_mut()?.delivery.take()?;
        let seq = finished.commit_seq.filter(|&seq| seq > self.floor)?;
        if finished.head.committed {
            self.floor = seq;
        }
        self.raw.then_some(Item {
            kind: EntryKind::Commit,
            committed: finished.head.committed,
            op: 0,
            seq,
            batch_id: finished.head.batch_id,
            time_ns: finished.head.time_ns,
            key_begin: finished.payload.end,
            value_begin: finished.payload.end,
            value_end: finished.payload.end,
        })
    }

    /// The error where a record is gone that was there when its frame was accepted. What was read can't
    /// change; what is mapped can, if a program writes where none may.
    pub(super) fn changed(&self) -> Error {
        let place = self
            .standing
            .as_ref()
            .map(|standing| standing.reader.place());
        let what = "the frame before is not any more what it was when it was verified";
        corrupt("W", &place.unwrap_or_default(), what.to_string())
    }
}
