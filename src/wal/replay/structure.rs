//! Step 2 of 3 of replay: what an accepted frame may mean where it stands (FORMAT.md sections 7 and
//! 11.4).
//!
//! Keeps the next sequence number, whether a batch is open, and whether the segment was sealed. A
//! frame that is accepted but not well-formed is corruption wherever it stands: its checksums say
//! that it was meant.

use crate::format::frame::{frame_flag, frame_type, seq_after, FrameHeader};
use crate::format::record;
use crate::lsn::{Lsn, Seq};

/// A batch whose COMMIT has not been seen yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OpenBatch {
    /// LSN of its frame with BEGIN: the batch id.
    pub(crate) batch_id: Lsn,
    /// Number of its first record.
    pub(crate) first_seq: Seq,
    /// Records seen of it.
    pub(crate) record_count: u64,
}

/// The state of the log at one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Structure {
    /// Number that the next record takes.
    pub(crate) next_seq: Seq,
    /// The batch that is open, if one is.
    pub(crate) open: Option<OpenBatch>,
    /// A SEAL was seen: nothing may follow.
    pub(crate) sealed: bool,
}

impl Structure {
    /// The state at the beginning of a segment.
    pub(crate) fn new(first_seq: Seq) -> Structure {
        Structure {
            next_seq: first_seq,
            open: None,
            sealed: false,
        }
    }

    /// Takes one accepted frame; the error says why it is not well-formed.
    pub(crate) fn accept(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), String> {
        self.accept_where(header, || {
            record::fill_exactly(payload, header.record_count)
        })
    }

    /// Like [`accept`](Self::accept), for who looks at the records at the same time: `are_whole` says
    /// whether those of the header's count fill the payload exactly, and is asked last.
    pub(crate) fn accept_where(
        &mut self,
        header: &FrameHeader,
        are_whole: impl FnOnce() -> bool,
    ) -> Result<(), String> {
        if header.durable_lsn > header.lsn {
            return Err(format!(
                "it promises that LSN {} is durable, beyond its own {}",
                header.durable_lsn, header.lsn
            ));
        }
        if header.frame_type == frame_type::BATCH {
            return self.accept_batch(header, are_whole);
        }
        if header.flags != 0 || header.record_count != 0 {
            return Err(format!(
                "type {} with flags {:#x} and {} records",
                header.frame_type, header.flags, header.record_count
            ));
        }
        if let Some(open) = self.open {
            return Err(format!(
                "type {} inside the batch that begins at LSN {}",
                header.frame_type, open.batch_id
            ));
        }
        self.expect_seq(header)?;
        match header.frame_type {
            frame_type::CHECKPOINT => self.next_seq = advanced(header)?,
            frame_type::MARK => {}
            frame_type::SEAL if header.payload_len == 0 => self.sealed = true,
            frame_type::SEAL => return Err(format!("SEAL with {} bytes", header.payload_len)),
            frame_type::IGNORABLE_MIN.. => {}
            unknown => return Err(format!("unknown type {unknown}")),
        }
        Ok(())
    }

    fn accept_batch(
        &mut self,
        header: &FrameHeader,
        are_whole: impl FnOnce() -> bool,
    ) -> Result<(), String> {
        use frame_flag::{ABORT, BEGIN, COMMIT, SOLO};
        let known = matches!(header.flags & !(BEGIN | COMMIT), 0 | SOLO | ABORT);
        let solo_whole = !header.has(SOLO) || header.has(BEGIN | COMMIT);
        let abort_alone = !header.has(ABORT) || header.flags == ABORT;
        if !known || !solo_whole || !abort_alone {
            return Err(format!("impossible flags {:#x}", header.flags));
        }
        let mut open = match (self.open, header.has(BEGIN)) {
            (None, true) => OpenBatch {
                batch_id: header.lsn,
                first_seq: header.first_seq,
                record_count: 0,
            },
            (Some(open), false) => open,
            (None, false) => return Err("it goes on with a batch that did not begin".to_string()),
            (Some(open), true) => {
                return Err(format!(
                    "a batch begins inside the one that begins at LSN {}",
                    open.batch_id
                ))
            }
        };
        if header.has(ABORT) {
            if header.record_count != 0 || header.payload_len != 0 {
                return Err("ABORT with records".to_string());
            }
            if header.first_seq != open.first_seq {
                return Err(wrong_seq(header.first_seq, open.first_seq));
            }
            self.next_seq = open.first_seq;
            self.open = None;
            return Ok(());
        }
        self.expect_seq(header)?;
        if header.record_count == 0 {
            return Err("a batch frame without records".to_string());
        }
        if header.has(SOLO) && header.record_count != 1 {
            return Err(format!("SOLO with {} records", header.record_count));
        }
        let next_seq = advanced(header)?;
        if !are_whole() {
            return Err(format!(
                "{} records do not fill {} bytes exactly",
                header.record_count, header.payload_len
            ));
        }
        self.next_seq = next_seq;
        open.record_count += u64::from(header.record_count);
        self.open = (!header.has(COMMIT)).then_some(open);
        Ok(())
    }

    fn expect_seq(&self, header: &FrameHeader) -> Result<(), String> {
        if header.first_seq == self.next_seq {
            Ok(())
        } else {
            Err(wrong_seq(header.first_seq, self.next_seq))
        }
    }
}

fn wrong_seq(found: Seq, expected: Seq) -> String {
    format!("sequence number {found}, expected {expected}")
}

fn advanced(header: &FrameHeader) -> Result<Seq, String> {
    seq_after(header).ok_or_else(|| "the sequence numbers are used up".to_string())
}
