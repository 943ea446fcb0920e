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

    /// Takes one accepted frame if it is a whole batch that may stand here: what most logs are made of,
    /// and what [`accept`](Self::accept) would take. False changes nothing, and `accept` says why.
    ///
    /// For who looks at the records at the same time: `are_whole` says whether those of the header's
    /// count fill the payload exactly, and is asked last.
    #[inline]
    pub(crate) fn accept_whole_batch(
        &mut self,
        header: &FrameHeader,
        are_whole: impl FnOnce() -> bool,
    ) -> bool {
        use frame_flag::{BEGIN, COMMIT, SOLO};
        let (fewest, most) = match header.flags {
            flags if flags == BEGIN | COMMIT => (1, u32::MAX),
            flags if flags == BEGIN | COMMIT | SOLO => (1, 1),
            _ => return false,
        };
        let may_stand_here = header.frame_type == frame_type::BATCH
            && header.durable_lsn <= header.lsn
            && header.first_seq == self.next_seq
            && (fewest..=most).contains(&header.record_count)
            && self.open.is_none();
        let Some(next_seq) = seq_after(header).filter(|_| may_stand_here && are_whole()) else {
            return false;
        };
        self.next_seq = next_seq;
        true
    }

    /// Takes one accepted frame; the error says why it is not well-formed.
    pub(crate) fn accept(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), String> {
        if header.durable_lsn > header.lsn {
            return Err(format!(
                "it promises that LSN {} is durable, beyond its own {}",
                header.durable_lsn, header.lsn
            ));
        }
        if header.frame_type == frame_type::BATCH {
            return self.accept_batch(header, payload);
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

    fn accept_batch(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), String> {
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
        if !record::fill_exactly(payload, header.record_count) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame::HEADER_LEN;
    use frame_flag::{BEGIN, COMMIT};

    /// `value` and its neighbours, as far as there are any.
    fn around(value: u64) -> impl Iterator<Item = u64> {
        value.saturating_sub(1)..=value.saturating_add(1)
    }

    #[test]
    fn the_short_answer_for_whole_batches_is_that_of_accept() {
        let lsn = Lsn(HEADER_LEN as u64);
        let payload = record::encode_header(record::OP_PUT, 0, 0).repeat(2);
        let open = OpenBatch {
            batch_id: Lsn(0),
            first_seq: 5,
            record_count: 1,
        };
        let mut taken = 0;
        let mut compare = |before: Structure, header: FrameHeader| {
            let (mut short, mut long) = (before, before);
            let payload = &payload[..header.payload_len as usize];
            let are_whole = || record::fill_exactly(payload, header.record_count);
            let is_taken = short.accept_whole_batch(&header, are_whole);
            let is_whole = header.frame_type == frame_type::BATCH && header.has(BEGIN | COMMIT);
            let is_right = long.accept(&header, payload).is_ok() && is_whole;
            assert_eq!(is_taken, is_right, "{before:?} {header:?}");
            assert_eq!(short, if is_taken { long } else { before }, "{header:?}");
            taken += u32::from(is_taken);
        };
        for (flags, frame_type) in (0..=32).flat_map(|flags| (0..4).map(move |of| (flags, of))) {
            for (record_count, payload_len) in [(0, 0), (0, 12), (1, 12), (1, 24), (2, 12), (2, 24)]
            {
                for (next_seq, open) in [(7, None), (7, Some(open)), (u64::MAX, None)] {
                    for (first_seq, durable) in
                        around(next_seq).flat_map(|seq| around(lsn.0).map(move |to| (seq, to)))
                    {
                        let before = Structure {
                            next_seq,
                            open,
                            sealed: false,
                        };
                        let header = FrameHeader {
                            payload_crc: 0,
                            payload_len,
                            frame_type,
                            flags,
                            link: 0,
                            salt: 0,
                            lsn,
                            first_seq,
                            record_count,
                            durable_lsn: Lsn(durable),
                            time_ns: 0,
                        };
                        compare(before, header);
                    }
                }
            }
        }
        // One record SOLO and not, two records not, each with two promises that may be made.
        assert_eq!(taken, 6);
    }
}
