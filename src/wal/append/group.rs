//! A group: batches that are written and made durable together, and how far it got.

use super::batch_encoder::EncodedPayload;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{frame_len, HEADER_LEN};
use crate::lsn::{Lsn, Seq};

/// What the caller learns of a batch that was committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Receipt {
    /// Number of its first record.
    pub first_seq: Seq,
    /// Number of its COMMIT, or of the record of a single append: what `cursor` and `truncate`
    /// take to mean "up to and with this batch".
    pub seq: Seq,
    /// LSN of the frame that begins it; never given to another batch.
    pub batch_id: Lsn,
    /// Where it ends.
    pub end_lsn: Lsn,
    /// Wall clock of its COMMIT, nanoseconds since 1970-01-01 UTC; never before that of a batch
    /// committed earlier through the same handle. 0 of a batch that is still in the buffer.
    pub time_ns: u64,
}

/// Who is told what came of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// The thread that appends it, before its call returns.
    Caller,
    /// Whoever asks for this ticket.
    Ticket(u64),
    /// Nobody: its append has returned, and it waits in the buffer.
    Nobody,
}

/// How a group is handed a payload.
#[derive(Debug)]
pub(crate) enum Handed<'a> {
    /// To copy.
    Lent(&'a EncodedPayload),
    /// To take, for other memory. What is in it then is not said.
    Given(&'a mut EncodedPayload),
}

impl Handed<'_> {
    pub(crate) fn payload(&self) -> &EncodedPayload {
        match self {
            Handed::Lent(payload) => payload,
            Handed::Given(payload) => payload,
        }
    }
}

/// A payload of fewer bytes is copied, though it might be taken: the group keeps the memory that it grew to.
const TAKEN_LEN_MIN: usize = 4 << 10;

/// A frame of a group whose header is still to be filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingFrame {
    /// Where the frame begins in the group's bytes.
    pub(crate) at: usize,
    pub(crate) payload_len: u32,
    pub(crate) payload_crc: u32,
    pub(crate) frame_type: u8,
    pub(crate) flags: u8,
    pub(crate) record_count: u32,
    pub(crate) owner: Owner,
    /// Set when the frame gets its place; before, what was foretold of a buffered one.
    pub(crate) receipt: Receipt,
}

/// Frames that are written and synced together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Frames back to back, headers not filled in yet.
    pub(crate) bytes: Vec<u8>,
    pub(crate) frames: Vec<PendingFrame>,
    /// A batch in it must be durable before its append returns, whatever the mode.
    pub(crate) sync: bool,
    /// Somebody wants to know what becomes of it: it is to be written as soon as may be.
    pub(crate) wanted: bool,
}

impl Group {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.sync = false;
        self.wanted = false;
    }

    /// Adds a frame and returns its index.
    pub(crate) fn push(
        &mut self,
        handed: Handed<'_>,
        frame_type: u8,
        flags: u8,
        sync: bool,
        owner: Owner,
    ) -> Result<usize> {
        let at = self.bytes.len();
        let payload = handed.payload();
        let payload_len = payload.bytes().len();
        let (payload_crc, record_count) = (payload.crc, payload.record_count);
        let len = usize::try_from(frame_len(payload_len)).unwrap_or(usize::MAX);
        let no_memory = || Error::no_memory("a group", len);
        self.frames.try_reserve(1).map_err(|_| no_memory())?;
        // Room for the zeros behind the group too, so that the leader need not allocate.
        match handed {
            Handed::Given(payload) if at == 0 && payload_len >= TAKEN_LEN_MIN => {
                payload.reserve(len - payload_len)?;
                payload.swap_frame(&mut self.bytes);
            }
            handed => {
                let reserved = self.bytes.try_reserve(len + HEADER_LEN);
                reserved.map_err(|_| no_memory())?;
                self.bytes.resize(at + HEADER_LEN, 0);
                self.bytes.extend_from_slice(handed.payload().bytes());
            }
        }
        self.bytes.resize(at + len, 0);
        self.frames.push(PendingFrame {
            at,
            payload_len: u32::try_from(payload_len).unwrap_or(u32::MAX),
            payload_crc,
            frame_type,
            flags,
            record_count,
            owner,
            receipt: Receipt::default(),
        });
        self.sync |= sync;
        self.wanted |= sync || owner != Owner::Nobody;
        Ok(self.frames.len() - 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

/// How far a group got.
#[derive(Debug)]
pub(crate) struct GroupOutcome {
    /// So many frames, from the first, are committed.
    pub(crate) good: usize,
    /// So many after those may or may not be on the disk.
    pub(crate) doubtful: usize,
    /// Why the rest is not committed.
    pub(crate) error: Option<Error>,
    /// Nothing more may be written through this handle.
    pub(crate) poison: bool,
}

impl GroupOutcome {
    /// All of it is committed.
    pub(crate) fn good(group: &Group) -> GroupOutcome {
        GroupOutcome {
            good: group.frames.len(),
            doubtful: 0,
            error: None,
            poison: false,
        }
    }

    /// Nothing of it was written.
    pub(crate) fn nothing(error: Error) -> GroupOutcome {
        GroupOutcome {
            good: 0,
            doubtful: 0,
            error: Some(error),
            poison: false,
        }
    }

    /// All of it may or may not be on the disk.
    pub(crate) fn doubtful(group: &Group, error: Error) -> GroupOutcome {
        GroupOutcome {
            good: 0,
            doubtful: group.frames.len(),
            error: Some(error),
            poison: true,
        }
    }

    pub(crate) fn of_frame(&self, group: &Group, index: usize) -> Result<Receipt> {
        let receipt = group
            .frames
            .get(index)
            .map(|frame| frame.receipt)
            .unwrap_or_default();
        let cause = match &self.error {
            Some(error) if index >= self.good => honest(error.duplicate(), self.poison),
            _ => return Ok(receipt),
        };
        if index < self.good + self.doubtful {
            return Err(indeterminate(cause, receipt.batch_id));
        }
        if self.poison && self.doubtful > 0 {
            return Err(cause.into_kind(ErrorKind::Poisoned, "an earlier write failed"));
        }
        Err(cause)
    }
}

/// An error that poisons must not say that trying again may help.
pub(crate) fn honest(error: Error, poison: bool) -> Error {
    if poison && error.is_retryable() {
        return error.into_kind(ErrorKind::Io, "the handle is poisoned");
    }
    error
}

/// The error of a batch that may or may not be on the disk.
pub(crate) fn indeterminate(cause: Error, batch_id: Lsn) -> Error {
    let place = crate::error::Place {
        lsn: batch_id,
        ..cause.place().clone()
    };
    cause
        .into_kind(
            ErrorKind::Indeterminate,
            "the batch may or may not be on the disk; reopening settles it",
        )
        .at(place)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::format::frame::frame_type;

    fn encode(payload: &mut EncodedPayload, len: usize) {
        payload.clear();
        payload.reserve(len).unwrap();
        let bytes: Vec<u8> = (0..len).map(|at| at as u8 | 1).collect();
        payload.extend(&bytes);
        payload.seal();
    }

    fn push(group: &mut Group, handed: Handed<'_>) {
        let pushed = group.push(handed, frame_type::BATCH, 0, true, Owner::Caller);
        pushed.unwrap();
    }

    #[test]
    fn what_is_taken_stands_in_the_group_as_what_is_copied() {
        let (mut given, mut taking) = (EncodedPayload::default(), Group::default());
        for first in [0, 1, 300, TAKEN_LEN_MIN - 1, TAKEN_LEN_MIN, 50_001] {
            let mut copying = Group::default();
            taking.clear();
            // The second of a group is copied in any case.
            for len in [first, 5_000, 7] {
                encode(&mut given, len);
                push(&mut copying, Handed::Lent(&given));
                push(&mut taking, Handed::Given(&mut given));
            }
            assert_eq!(
                taking.bytes, copying.bytes,
                "a first payload of {first} bytes"
            );
            for (one, other) in taking.frames.iter().zip(&copying.frames) {
                assert_eq!(one.at, other.at);
                assert_eq!(one.payload_len, other.payload_len);
                assert_eq!(one.payload_crc, other.payload_crc);
            }
            // So that a leader need not allocate for the zeros behind the group.
            let behind = taking.bytes.len() + HEADER_LEN;
            assert!(taking.bytes.capacity() >= behind);
        }
    }

    #[test]
    fn a_great_payload_is_not_copied() {
        let (mut given, mut group) = (EncodedPayload::default(), Group::default());
        encode(&mut given, TAKEN_LEN_MIN);
        given.reserve(2 * HEADER_LEN).unwrap();
        let payload = given.bytes().as_ptr();
        push(&mut group, Handed::Given(&mut given));
        assert_eq!(group.bytes[HEADER_LEN..].as_ptr(), payload);
    }
}
