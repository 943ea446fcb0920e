//! The buffer: batches whose append returns before they are written, with the receipt that they
//! will have.
//!
//! Places are given when a group is written. They can be foretold because nothing but batches
//! moves the end of the log while there is a buffer: who wants the writer to himself waits until
//! the buffer is written, and batches wait until he is done. If a foretold batch can't be written,
//! the handle is poisoned: its append has said that it is in the log.

use super::{GroupCommitter, GroupSink, Guard, Handed, Owner, PendingFrame, Receipt, State};
use crate::error::Result;
use crate::format::frame::{frame_flag, frame_len, HEADER_LEN};
use crate::lsn::{Lsn, Seq};
use crate::wal::append::batch_encoder::EncodedPayload;

/// Where the next frame will go (FORMAT.md sections 5 and 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Foretold {
    pub(crate) next_seq: Seq,
    pub(crate) lsn: Lsn,
    /// In the segment.
    pub(crate) offset: u64,
    /// At this offset the segment is full.
    pub(crate) segment_bytes_max: u64,
    /// Offset of the first frame of a segment.
    pub(crate) header_size: u64,
}

impl Foretold {
    /// The receipt of a frame that goes next.
    pub(super) fn next(&mut self, frame: &PendingFrame) -> Receipt {
        if self.offset >= self.segment_bytes_max {
            // A SEAL ends the segment.
            self.lsn = Lsn(self.lsn.0 + HEADER_LEN as u64);
            self.offset = self.header_size;
        }
        let len = frame_len(frame.payload_len as usize);
        let begin = *self;
        self.lsn = Lsn(self.lsn.0 + len);
        self.offset += len;
        let commit = u64::from(frame.flags & frame_flag::SOLO == 0);
        self.next_seq += u64::from(frame.record_count) + commit;
        Receipt {
            first_seq: begin.next_seq,
            seq: self.next_seq - 1,
            batch_id: begin.lsn,
            end_lsn: self.lsn,
            time_ns: 0,
        }
    }
}

impl<F> State<F> {
    /// After a turn: what is foretold begins where the writer stands. What stands in the open group
    /// was foretold before, and stays true unless something failed.
    pub(super) fn foretell(&mut self, now: Foretold, failed: bool) {
        let Some(foretold) = &mut self.foretold else {
            return;
        };
        if self.open.is_empty() {
            *foretold = now;
            return;
        }
        if failed && self.refusal.is_none() {
            let mut foretold = now;
            let mut moved = false;
            for frame in &mut self.open.frames {
                let receipt = foretold.next(frame);
                moved |= frame.owner == Owner::Nobody && frame.receipt != receipt;
                frame.receipt = receipt;
            }
            self.foretold = Some(foretold);
            if moved {
                let error = crate::error::Error::new(
                    crate::error::ErrorKind::Internal,
                    "batches in the buffer lost their places",
                );
                self.refuse(&error, "a batch before those in the buffer was not written");
            }
        }
    }
}

impl<S: GroupSink> GroupCommitter<S> {
    /// Takes a batch into the buffer; `None` if it is full, so that its group is to be written. When it is
    /// half full, a thread is called that writes it, while the other half fills.
    pub(super) fn buffer(
        &self,
        payload: &EncodedPayload,
        frame_type: u8,
        flags: u8,
    ) -> Result<Option<Receipt>> {
        let mut state: Guard<'_, S> = self.wait_for_room()?;
        if state.open.bytes.len() + payload.bytes().len() >= self.limits.buffer_len_max {
            return Ok(None);
        }
        state.push(
            Handed::Lent(payload),
            frame_type,
            flags,
            false,
            Owner::Nobody,
        )?;
        let receipt = state.open.frames.last().map(|frame| frame.receipt);
        if state.open.bytes.len() >= self.limits.buffer_len_max / 2 {
            state.open.wanted = true;
            drop(self.call_for_leader(state));
        }
        Ok(receipt)
    }
}
