//! The control file (FORMAT.md section 9): evidence and retention, in two slots written in turn.

use super::checksum::crc32;
use super::{get_array, get_u16, get_u32, get_u64, put, FORMAT_MAJOR, FORMAT_MINOR};
use crate::lsn::{Lsn, Seq};

/// First eight bytes of a slot.
pub const MAGIC: [u8; 8] = [0x8F, b'D', b'U', b'R', b'C', b'T', b'L', b'\n'];
/// Distance between the slots, and the size of each.
pub const SLOT_LEN: usize = 4096;
/// Bytes of a slot that are used.
pub const USED_LEN: usize = 128;

/// A valid slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// The last writer closed the log and gave out no LSN at or beyond `end_lsn`.
    pub closed: bool,
    /// Identity of the log.
    pub log_id: [u8; 16],
    /// The slot with the greatest counts.
    pub generation: u64,
    /// Segments below are not part of the log.
    pub first_segment: u64,
    /// This segment must exist.
    pub last_segment: u64,
    /// Records up to this number are never replayed.
    pub truncated_seq: Seq,
    /// Promise.
    pub durable_lsn: Lsn,
    /// Newest durable CHECKPOINT frame, 0 if none.
    pub checkpoint_lsn: Lsn,
    /// If closed: where the log ends.
    pub end_lsn: Lsn,
    /// If closed: number that the next record takes.
    pub next_seq: Seq,
    /// If closed: last frame of the last segment, 0 if it has none.
    pub last_frame_lsn: Lsn,
    /// If closed: link that the next frame carries.
    pub end_link: u32,
    /// Wall clock.
    pub time_ns: u64,
}

/// Two answers other than a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotFault {
    /// Torn, empty, damaged: as if it were not there.
    Invalid,
    /// Written by a newer version.
    Newer,
}

impl Control {
    /// The 128 bytes used.
    #[must_use]
    pub fn encode(&self) -> [u8; USED_LEN] {
        let mut b = [0; USED_LEN];
        put(&mut b, 0, &MAGIC);
        put(&mut b, 8, &FORMAT_MAJOR.to_le_bytes());
        put(&mut b, 10, &FORMAT_MINOR.to_le_bytes());
        put(&mut b, 12, &u32::from(self.closed).to_le_bytes());
        put(&mut b, 16, &self.log_id);
        put(&mut b, 32, &self.generation.to_le_bytes());
        put(&mut b, 40, &self.first_segment.to_le_bytes());
        put(&mut b, 48, &self.last_segment.to_le_bytes());
        put(&mut b, 56, &self.truncated_seq.to_le_bytes());
        put(&mut b, 64, &self.durable_lsn.0.to_le_bytes());
        put(&mut b, 72, &self.checkpoint_lsn.0.to_le_bytes());
        put(&mut b, 80, &self.end_lsn.0.to_le_bytes());
        put(&mut b, 88, &self.next_seq.to_le_bytes());
        put(&mut b, 96, &self.last_frame_lsn.0.to_le_bytes());
        put(&mut b, 104, &self.end_link.to_le_bytes());
        put(&mut b, 112, &self.time_ns.to_le_bytes());
        let crc = crc32(&b[..124]);
        put(&mut b, 124, &crc.to_le_bytes());
        b
    }

    /// Judges one slot.
    pub fn decode(bytes: &[u8]) -> Result<Control, SlotFault> {
        let used = bytes.get(..USED_LEN).ok_or(SlotFault::Invalid)?;
        if used[..8] != MAGIC || get_u32(used, 124) != crc32(&used[..124]) {
            return Err(SlotFault::Invalid);
        }
        if get_u16(used, 8) > FORMAT_MAJOR {
            return Err(SlotFault::Newer);
        }
        let state = get_u32(used, 12);
        let control = Control {
            closed: state == 1,
            log_id: get_array(used, 16),
            generation: get_u64(used, 32),
            first_segment: get_u64(used, 40),
            last_segment: get_u64(used, 48),
            truncated_seq: get_u64(used, 56),
            durable_lsn: Lsn(get_u64(used, 64)),
            checkpoint_lsn: Lsn(get_u64(used, 72)),
            end_lsn: Lsn(get_u64(used, 80)),
            next_seq: get_u64(used, 88),
            last_frame_lsn: Lsn(get_u64(used, 96)),
            end_link: get_u32(used, 104),
            time_ns: get_u64(used, 112),
        };
        let valid = get_u16(used, 8) == FORMAT_MAJOR && state <= 1 && control.generation != 0;
        valid.then_some(control).ok_or(SlotFault::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_every_flipped_bit_is_refused() {
        let control = Control {
            closed: true,
            log_id: [9; 16],
            generation: 1,
            first_segment: 2,
            last_segment: 3,
            truncated_seq: 4,
            durable_lsn: Lsn(5),
            checkpoint_lsn: Lsn(6),
            end_lsn: Lsn(7),
            next_seq: 8,
            last_frame_lsn: Lsn(9),
            end_link: 10,
            time_ns: 11,
        };
        let bytes = control.encode();
        assert_eq!(Control::decode(&bytes), Ok(control));
        assert_eq!(Control::decode(&bytes[..127]), Err(SlotFault::Invalid));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Control::decode(&changed), Err(SlotFault::Invalid));
        }
    }
}
