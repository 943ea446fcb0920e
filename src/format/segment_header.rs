//! The segment header (FORMAT.md section 4): who this file is and where it stands in the log.
//!
//! Written once, before the file has its name, and never changed. [`SegmentHeader::decode`] is the
//! only way from bytes to a header, and it judges in the order that the norm gives, so that "not
//! ours", "damaged" and "newer" stay three different answers.

use super::checksum::crc32;
use super::{get_array, get_u16, get_u32, get_u64, put, FORMAT_MAJOR};
use crate::lsn::{Lsn, Seq};

/// First eight bytes of every segment (FORMAT.md section 4).
pub const MAGIC: [u8; 8] = [0x8F, b'D', b'U', b'R', b'\r', b'\n', 0x1A, b'\n'];
/// Bytes of the header that are used.
pub const USED_LEN: usize = 128;
/// Where frames start in files written by this library.
pub const HEADER_SIZE: u32 = 4096;
/// Greatest `header_size` that is read.
pub const HEADER_SIZE_MAX: u32 = 1 << 20;
/// What offsets and lengths of frames are multiples of.
pub const ALIGNMENT: u16 = 8;
/// Every `base_lsn` is below this, so that no LSN passes the end of the number space (FORMAT.md
/// section 8).
pub const BASE_LSN_LIMIT: u64 = 1 << 63;
/// Flag: written by recovery, holds copies of committed frames.
pub const FLAG_RESCUE: u16 = 1;

/// A segment header whose checksum, version and fields have been verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Grows with additions that readers may ignore.
    pub format_minor: u16,
    /// Where frames start.
    pub header_size: u32,
    /// Feature bits that only a writer must know.
    pub read_only_compatible: u32,
    /// Feature bits that may be ignored; 0 in what is written here. Kept because the header's
    /// checksum, which is the link of the first frame, covers them.
    pub compatible: u32,
    /// Bit 0: RESCUE.
    pub flags: u16,
    /// Identity of the log.
    pub log_id: [u8; 16],
    /// The number in the file's name.
    pub segment_number: u64,
    /// LSN of the byte at `header_size`.
    pub base_lsn: Lsn,
    /// Sequence number that the first record here takes.
    pub first_seq: Seq,
    /// Where the segment before ends.
    pub prev_end_lsn: Lsn,
    /// Link of the last frame of the segment before.
    pub prev_link: u32,
    /// Random, new at every use of a file, never 0.
    pub salt: u32,
    /// Promise: everything below was synced when this was written.
    pub durable_lsn: Lsn,
    /// Newest durable CHECKPOINT frame at that time, 0 if none.
    pub checkpoint_lsn: Lsn,
    /// Size the file was meant to have at first.
    pub allocated_size: u64,
    /// Wall clock at creation.
    pub created_ns: u64,
    /// Chosen by the application.
    pub application_id: u32,
}

/// Why bytes are no usable segment header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeaderFault {
    /// The magic is missing: not a segment of ours.
    NotASegment,
    /// It was a header once: a checksum or a field is wrong. The text says which.
    Damaged(String),
    /// Written by a newer version. The text says what is unknown.
    Newer(String),
}

impl SegmentHeader {
    /// Link that the first frame of this segment carries: the header's own checksum.
    #[must_use]
    pub fn link(&self) -> u32 {
        get_u32(&self.encode(), 124)
    }

    /// Whether recovery wrote this segment.
    #[must_use]
    pub fn is_rescue(&self) -> bool {
        self.flags & FLAG_RESCUE != 0
    }

    /// LSN of the byte at `offset`, which is at least `header_size`. Beyond the end of the number
    /// space (only a made-up header leads there) it is the greatest number, which no frame has.
    #[must_use]
    pub fn lsn_at(&self, offset: u64) -> Lsn {
        let distance = offset.saturating_sub(u64::from(self.header_size));
        Lsn(self.base_lsn.0.saturating_add(distance))
    }

    /// Offset of `lsn` in this file; `None` below its start.
    #[must_use]
    pub fn offset_of(&self, lsn: Lsn) -> Option<u64> {
        lsn.0
            .checked_sub(self.base_lsn.0)?
            .checked_add(u64::from(self.header_size))
    }

    /// The 128 bytes used.
    #[must_use]
    pub fn encode(&self) -> [u8; USED_LEN] {
        let mut b = [0; USED_LEN];
        put(&mut b, 0, &MAGIC);
        put(&mut b, 8, &FORMAT_MAJOR.to_le_bytes());
        put(&mut b, 10, &self.format_minor.to_le_bytes());
        put(&mut b, 12, &self.header_size.to_le_bytes());
        put(&mut b, 20, &self.read_only_compatible.to_le_bytes());
        put(&mut b, 24, &self.compatible.to_le_bytes());
        put(&mut b, 28, &self.flags.to_le_bytes());
        put(&mut b, 30, &ALIGNMENT.to_le_bytes());
        put(&mut b, 32, &self.log_id);
        put(&mut b, 48, &self.segment_number.to_le_bytes());
        put(&mut b, 56, &self.base_lsn.0.to_le_bytes());
        put(&mut b, 64, &self.first_seq.to_le_bytes());
        put(&mut b, 72, &self.prev_end_lsn.0.to_le_bytes());
        put(&mut b, 80, &self.prev_link.to_le_bytes());
        put(&mut b, 84, &self.salt.to_le_bytes());
        put(&mut b, 88, &self.durable_lsn.0.to_le_bytes());
        put(&mut b, 96, &self.checkpoint_lsn.0.to_le_bytes());
        put(&mut b, 104, &self.allocated_size.to_le_bytes());
        put(&mut b, 112, &self.created_ns.to_le_bytes());
        put(&mut b, 120, &self.application_id.to_le_bytes());
        let crc = crc32(&b[..124]);
        put(&mut b, 124, &crc.to_le_bytes());
        b
    }

    /// Judges `bytes`, the beginning of a file, in the order of FORMAT.md section 4 (steps 1 to 4).
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderFault> {
        if bytes.len() < USED_LEN || bytes[..8] != MAGIC {
            return Err(HeaderFault::NotASegment);
        }
        let (stored, computed) = (get_u32(bytes, 124), crc32(&bytes[..124]));
        if stored != computed {
            return Err(HeaderFault::Damaged(format!(
                "header checksum {stored:#010x}, computed {computed:#010x}"
            )));
        }
        let major = get_u16(bytes, 8);
        if major > FORMAT_MAJOR {
            return Err(HeaderFault::Newer(format!(
                "format {major}.{}, this library reads up to {FORMAT_MAJOR}",
                get_u16(bytes, 10)
            )));
        }
        let incompatible = get_u32(bytes, 16);
        if incompatible != 0 {
            return Err(HeaderFault::Newer(format!(
                "incompatible feature bits {incompatible:#x}, none are known here"
            )));
        }
        let header = SegmentHeader {
            format_minor: get_u16(bytes, 10),
            header_size: get_u32(bytes, 12),
            read_only_compatible: get_u32(bytes, 20),
            compatible: get_u32(bytes, 24),
            flags: get_u16(bytes, 28),
            log_id: get_array(bytes, 32),
            segment_number: get_u64(bytes, 48),
            base_lsn: Lsn(get_u64(bytes, 56)),
            first_seq: get_u64(bytes, 64),
            prev_end_lsn: Lsn(get_u64(bytes, 72)),
            prev_link: get_u32(bytes, 80),
            salt: get_u32(bytes, 84),
            durable_lsn: Lsn(get_u64(bytes, 88)),
            checkpoint_lsn: Lsn(get_u64(bytes, 96)),
            allocated_size: get_u64(bytes, 104),
            created_ns: get_u64(bytes, 112),
            application_id: get_u32(bytes, 120),
        };
        let wrong = |name: &str, found: u64| {
            Err(HeaderFault::Damaged(format!(
                "header field {name} has the impossible value {found}"
            )))
        };
        let size = header.header_size;
        if major == 0 {
            return wrong("format_major", 0);
        }
        if size % u32::from(ALIGNMENT) != 0 || !(128..=HEADER_SIZE_MAX).contains(&size) {
            return wrong("header_size", u64::from(size));
        }
        if get_u16(bytes, 30) != ALIGNMENT {
            return wrong("alignment", u64::from(get_u16(bytes, 30)));
        }
        if header.salt == 0 {
            return wrong("salt", 0);
        }
        if header.segment_number == 0 {
            return wrong("segment_number", 0);
        }
        if header.base_lsn < header.prev_end_lsn
            || header.base_lsn.0 % 8 != 0
            || header.base_lsn.0 >= BASE_LSN_LIMIT
        {
            return wrong("base_lsn", header.base_lsn.0);
        }
        if header.first_seq == 0 {
            return wrong("first_seq", 0);
        }
        Ok(header)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::format::FORMAT_MINOR;

    pub(crate) fn example() -> SegmentHeader {
        SegmentHeader {
            format_minor: FORMAT_MINOR,
            header_size: HEADER_SIZE,
            read_only_compatible: 0,
            compatible: 0,
            flags: 0,
            log_id: *b"0123456789abcdef",
            segment_number: 7,
            base_lsn: Lsn(8192),
            first_seq: 42,
            prev_end_lsn: Lsn(8184),
            prev_link: 1,
            salt: 2,
            durable_lsn: Lsn(8184),
            checkpoint_lsn: Lsn(0),
            allocated_size: 65536,
            created_ns: 3,
            application_id: 4,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let header = example();
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let bytes = example().encode();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_may_be_ignored_is_covered_by_the_link_all_the_same() {
        let header = SegmentHeader {
            format_minor: 7,
            compatible: 1 << 31,
            flags: 0xFFFE,
            ..example()
        };
        let bytes = header.encode();
        let found = SegmentHeader::decode(&bytes).unwrap();
        assert_eq!(found.link(), get_u32(&bytes, 124));
        assert_ne!(found.link(), example().link());
    }

    #[test]
    fn newer_is_not_damaged_and_not_foreign() {
        let mut bytes = example().encode();
        bytes[8] = 2;
        let crc = crc32(&bytes[..124]);
        put(&mut bytes, 124, &crc.to_le_bytes());
        assert!(matches!(
            SegmentHeader::decode(&bytes),
            Err(HeaderFault::Newer(_))
        ));
        assert_eq!(
            SegmentHeader::decode(b"hello"),
            Err(HeaderFault::NotASegment)
        );
    }
}
