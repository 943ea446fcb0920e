//! What a cursor gives: one entry, or a page of many as columns.
//!
//! Inside the library an entry is an [`Item`], whose bytes are named by their place in the reader's
//! window, so that nothing is copied before the caller sees it.

use crate::format::frame::FrameHeader;
use crate::lsn::{Lsn, Seq};
use std::ops::Range;

/// What an [`Entry`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EntryKind {
    /// A record.
    Record = 1,
    /// The COMMIT of a batch (raw cursors only).
    Commit = 2,
    /// A CHECKPOINT; its value is the data given (raw cursors only).
    Checkpoint = 3,
    /// The ABORT of a batch that was given up (raw cursors only).
    Abort = 4,
    /// The log is torn here; `batch_id` is the place. Always the last (raw cursors only).
    Torn = 5,
    /// Something is damaged or missing between the entry before and the one behind; `batch_id` is
    /// where it begins, the value says what it is, in words (policy `Salvage` only).
    Gap = 6,
}

/// One record or mark. The bytes belong to the cursor.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: EntryKind,
    /// False for records of a batch that was not committed (raw cursors only).
    pub committed: bool,
    /// The operation of a record.
    pub op: u8,
    /// Its sequence number.
    pub seq: Seq,
    /// LSN of the frame that begins its batch.
    pub batch_id: Lsn,
    /// Wall clock of its frame, nanoseconds since 1970-01-01 UTC.
    pub time_ns: u64,
    /// The key of a record.
    pub key: &'a [u8],
    /// The value of a record, the data of a checkpoint.
    pub value: &'a [u8],
}

/// Many entries as columns of equal length. Offsets point into `bytes`: the key of entry `i` is
/// `bytes[key_begin[i]..value_begin[i]]`, its value `bytes[value_begin[i]..value_end[i]]`.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Sequence numbers.
    pub seq: &'a [u64],
    /// LSNs of the frames that begin the batches.
    pub batch_id: &'a [u64],
    /// Wall clocks.
    pub time_ns: &'a [u64],
    /// Kinds ([`EntryKind`]).
    pub kind: &'a [u8],
    /// Operations.
    pub op: &'a [u8],
    /// 1 if committed, else 0.
    pub committed: &'a [u8],
    /// Where keys begin.
    pub key_begin: &'a [u32],
    /// Where keys end and values begin.
    pub value_begin: &'a [u32],
    /// Where values end.
    pub value_end: &'a [u32],
    /// The bytes that the offsets point into; what lies between records is of no use.
    pub bytes: &'a [u8],
}

/// An entry whose bytes are named by their place in the reader's window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) kind: EntryKind,
    pub(crate) committed: bool,
    pub(crate) op: u8,
    pub(crate) seq: Seq,
    pub(crate) batch_id: Lsn,
    pub(crate) time_ns: u64,
    pub(crate) key_begin: usize,
    pub(crate) value_begin: usize,
    pub(crate) value_end: usize,
}

impl Item {
    /// The entry with its bytes, which are in `window`.
    pub(super) fn entry<'a>(&self, window: &'a [u8]) -> Entry<'a> {
        let key = window.get(self.key_begin..self.value_begin);
        let value = window.get(self.value_begin..self.value_end);
        Entry {
            kind: self.kind,
            committed: self.committed,
            op: self.op,
            seq: self.seq,
            batch_id: self.batch_id,
            time_ns: self.time_ns,
            key: key.unwrap_or_default(),
            value: value.unwrap_or_default(),
        }
    }
}

pub(super) fn mark(
    kind: EntryKind,
    committed: bool,
    header: &FrameHeader,
    payload: &Range<usize>,
) -> Item {
    Item {
        kind,
        committed,
        op: 0,
        seq: header.first_seq,
        batch_id: header.lsn,
        time_ns: header.time_ns,
        key_begin: payload.start,
        value_begin: payload.start,
        value_end: payload.end,
    }
}
