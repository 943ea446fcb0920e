//! The frame (FORMAT.md section 5): the unit on disk, and what makes one acceptable (section 11).
//!
//! A header can be verified alone, without its payload and without the chain before it. That is
//! what lets recovery find frames behind a damaged place ([`FrameHeader::decode_live`]); the walk
//! of a reader adds the link and the payload.

use super::checksum::crc32;
use super::{get_u32, get_u64, put};
use crate::lsn::{Lsn, Seq};

/// Bytes of a frame header.
pub const HEADER_LEN: usize = 64;
/// Greatest payload of a frame (FORMAT.md section 16).
pub const PAYLOAD_LEN_MAX: usize = 1 << 26;

/// Type of a frame (FORMAT.md section 5).
pub mod frame_type {
    /// Records.
    pub const BATCH: u8 = 1;
    /// A mark committed by the application.
    pub const CHECKPOINT: u8 = 2;
    /// Carries a promise and nothing else.
    pub const MARK: u8 = 3;
    /// Nothing follows in this segment.
    pub const SEAL: u8 = 4;
    /// From here on a reader may skip a type that it does not know.
    pub const IGNORABLE_MIN: u8 = 128;
}

/// Flags of a BATCH frame (FORMAT.md section 5).
pub mod frame_flag {
    /// First frame of a batch.
    pub const BEGIN: u8 = 1;
    /// Last frame of a batch.
    pub const COMMIT: u8 = 2;
    /// A single append: one record that takes one sequence number.
    pub const SOLO: u8 = 4;
    /// Ends the open batch, which is not committed.
    pub const ABORT: u8 = 8;
}

/// A frame header. Decoded, its checksum holds; nothing else is implied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// Checksum of the payload.
    pub payload_crc: u32,
    /// Bytes of payload, without padding.
    pub payload_len: u32,
    /// See [`frame_type`].
    pub frame_type: u8,
    /// See [`frame_flag`].
    pub flags: u8,
    /// `header_crc` of the frame before, or the checksum of the segment header.
    pub link: u32,
    /// That of the segment header.
    pub salt: u32,
    /// The frame's own place.
    pub lsn: Lsn,
    /// Sequence number of its first record.
    pub first_seq: Seq,
    /// Records in the payload.
    pub record_count: u32,
    /// Promise: everything below was synced when this was written.
    pub durable_lsn: Lsn,
    /// Wall clock of the commit.
    pub time_ns: u64,
}

impl FrameHeader {
    /// The 64 bytes of the header. The first four are its checksum, which is the link that the
    /// next frame carries.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut b = [0; HEADER_LEN];
        put(&mut b, 4, &self.payload_crc.to_le_bytes());
        put(&mut b, 8, &self.payload_len.to_le_bytes());
        b[12] = self.frame_type;
        b[13] = self.flags;
        put(&mut b, 16, &self.link.to_le_bytes());
        put(&mut b, 20, &self.salt.to_le_bytes());
        put(&mut b, 24, &self.lsn.0.to_le_bytes());
        put(&mut b, 32, &self.first_seq.to_le_bytes());
        put(&mut b, 40, &self.record_count.to_le_bytes());
        put(&mut b, 48, &self.durable_lsn.0.to_le_bytes());
        put(&mut b, 56, &self.time_ns.to_le_bytes());
        let crc = crc32(&b[4..]);
        put(&mut b, 0, &crc.to_le_bytes());
        b
    }

    /// The header in the first 64 of `bytes`, with its `header_crc`; `None` if the checksum does
    /// not hold (or there are fewer bytes).
    ///
    /// Always inlined: who reads frame after frame would wait at each for a header to be written to
    /// memory and read back, since what the length says of the next one comes from there.
    #[must_use]
    #[inline(always)]
    pub fn decode(bytes: &[u8]) -> Option<(FrameHeader, u32)> {
        let bytes = bytes.first_chunk()?;
        let header_crc = get_u32(bytes, 0);
        if crc32(&bytes[4..]) != header_crc {
            return None;
        }
        Some((Self::decode_unchecked(bytes), header_crc))
    }

    #[inline(always)]
    fn decode_unchecked(bytes: &[u8; HEADER_LEN]) -> FrameHeader {
        FrameHeader {
            payload_crc: get_u32(bytes, 4),
            payload_len: get_u32(bytes, 8),
            frame_type: bytes.get(12).copied().unwrap_or(0),
            flags: bytes.get(13).copied().unwrap_or(0),
            link: get_u32(bytes, 16),
            salt: get_u32(bytes, 20),
            lsn: Lsn(get_u64(bytes, 24)),
            first_seq: get_u64(bytes, 32),
            record_count: get_u32(bytes, 40),
            durable_lsn: Lsn(get_u64(bytes, 48)),
            time_ns: get_u64(bytes, 56),
        }
    }

    /// Bytes of payload that a frame has if one stands here, at `lsn` in the generation `salt`. Nothing is
    /// verified: for who prepares what is judged later.
    #[must_use]
    #[inline(always)]
    pub(crate) fn claimed_payload_len(bytes: &[u8], salt: u32, lsn: Lsn) -> Option<u32> {
        let bytes = bytes.first_chunk::<HEADER_LEN>()?;
        (get_u32(bytes, 20) == salt && get_u64(bytes, 24) == lsn.0).then(|| get_u32(bytes, 8))
    }

    /// The header of a *live* frame (FORMAT.md section 11.2) that stands at `lsn` in the generation
    /// `salt`. Cheap for bytes that are none: the salt and the place are compared first.
    #[must_use]
    #[inline(always)] // a scan asks at every eighth byte of a segment
    pub fn decode_live(bytes: &[u8], salt: u32, lsn: Lsn) -> Option<FrameHeader> {
        if get_u32(bytes, 20) != salt || get_u64(bytes, 24) != lsn.0 {
            return None;
        }
        let (header, _) = Self::decode(bytes)?;
        (header.frame_type != 0 && header.durable_lsn <= header.lsn).then_some(header)
    }

    /// The header of a frame that is live in some generation, not known which: that of the frame
    /// itself. Cheap for most bytes that are none: what it would claim is looked at first.
    #[must_use]
    pub fn decode_of_any(bytes: &[u8]) -> Option<FrameHeader> {
        let bytes = bytes.first_chunk()?;
        let claim = Self::decode_unchecked(bytes);
        let possible = claim.frame_type != 0
            && claim.salt != 0
            && claim.durable_lsn <= claim.lsn
            && claim.lsn.0 % 8 == 0
            && claim.payload_len as usize <= PAYLOAD_LEN_MAX;
        if !possible {
            return None;
        }
        Self::decode(bytes).map(|(header, _)| header)
    }

    /// Size of the whole frame: header, payload, padding.
    #[must_use]
    pub fn frame_len(&self) -> u64 {
        frame_len(self.payload_len as usize)
    }

    /// Whether it has all of `flags`.
    #[must_use]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// Size of a frame with a payload of `payload_len` bytes.
#[must_use]
pub fn frame_len(payload_len: usize) -> u64 {
    (HEADER_LEN as u64 + payload_len as u64 + 7) & !7
}

/// Where the next sequence number stands after a frame (FORMAT.md section 7): each record takes
/// one, a COMMIT one unless SOLO, a CHECKPOINT one.
#[must_use]
pub fn seq_after(header: &FrameHeader) -> Option<Seq> {
    let taken = match header.frame_type {
        frame_type::BATCH => {
            let commit = header.has(frame_flag::COMMIT) && !header.has(frame_flag::SOLO);
            u64::from(header.record_count) + u64::from(commit)
        }
        frame_type::CHECKPOINT => 1,
        _ => 0,
    };
    header.first_seq.checked_add(taken)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> FrameHeader {
        FrameHeader {
            payload_crc: 1,
            payload_len: 3,
            frame_type: frame_type::BATCH,
            flags: frame_flag::BEGIN | frame_flag::COMMIT,
            link: 4,
            salt: 5,
            lsn: Lsn(4096),
            first_seq: 7,
            record_count: 8,
            durable_lsn: Lsn(4088),
            time_ns: 10,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = example().encode();
        let (header, crc) = FrameHeader::decode(&bytes).unwrap();
        assert_eq!(header, example());
        assert_eq!(crc, get_u32(&bytes, 0));
        assert_eq!(header.frame_len(), 72);
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let bytes = example().encode();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHeader::decode(&changed).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_live_frame_has_the_right_generation_and_place() {
        let bytes = example().encode();
        assert!(FrameHeader::decode_live(&bytes, 5, Lsn(4096)).is_some());
        assert!(FrameHeader::decode_live(&bytes, 6, Lsn(4096)).is_none());
        assert!(FrameHeader::decode_live(&bytes, 5, Lsn(4104)).is_none());
        let ahead = FrameHeader {
            durable_lsn: Lsn(5000),
            ..example()
        };
        assert!(FrameHeader::decode_live(&ahead.encode(), 5, Lsn(4096)).is_none());
    }
}
