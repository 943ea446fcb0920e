//! Block 0 of a run: what the run covers and where everything in it lies. It is written last.
//!
//! ```text
//! block   0        1 ..                    tree_start ..                        block_count
//!         header | position table        | postings, long values and nodes    |
//!                | a place per event     | in the order in which they came    |
//! ```
//!
//! The blocks behind the position table are written in one pass, in the order of the keys: first
//! the blocks that the keys of a leaf lead to, then the leaf; a node when it is full, so behind
//! all that it points to, and the root at the end. So a run of any size is written with one node
//! per level in memory.
//!
//! | Offset | Size | Name | |
//! |---|---|---|---|
//! | 0 | 8 | magic | |
//! | 8 | 4 | layout | 2 |
//! | 12 | 4 | level | the catalog's: how often it was merged |
//! | 16 | 16 | log_id | |
//! | 32 | 8 | salt | random, in the check of every block |
//! | 40 | 8 | first | position of the first event |
//! | 48 | 8 | last | position of the last event; of a run without events, first - 1 |
//! | 56 | 8 | first_lsn | LSN of the first event: what those of the position table are relative to |
//! | 64 | 8 | key_count | |
//! | 72 | 4 | block_count | the file has exactly these |
//! | 76 | 4 | tree_start | first block behind the position table |
//! | 80 | 4 | root | block of the root |
//! | 84 | 4 | root_level | 0 if the root is a leaf |
//! | 88 | 64 | anchor | the catalog's |
//! | 152 | 8 | last_lsn | LSN of the last event |
//! | 160 | 8 | least_time | of all events: what those of the position table are relative to |
//! | 168 | 8 | greatest_time | of all events |
//!
//! A place is an LSN, a check (4 bytes) and a time. LSN and time have as many bytes as the greatest of
//! the run needs, which the header tells: most runs need 4 and 5 of 8. The check is the CRC of the
//! record, XOR the upper half of LSN x 0x9E3779B97F4A7C15 + time x 0xC2B2AE3D27D4EB4F (of 64 bits):
//! so that a place that was changed since its block was checked, or whose block was not checked at
//! all, does not lead to a record that agrees with it.

use super::block::{Block, Damaged, Decoded, BLOCK_LEN, PAYLOAD_LEN};
use super::Place;
use crate::format::{get_array, get_u32, get_u64, put};

const MAGIC: [u8; 8] = [0x8F, b'D', b'U', b'R', b'I', b'D', b'X', b'\n'];
/// Another layout is another file: the index is rebuilt, never converted.
const LAYOUT: u32 = 2;

/// Where places begin in their block, behind its sort.
pub(super) const PLACES_START: usize = 6;
/// Block in which the position table begins.
pub(super) const TABLE_START: u32 = 1;

/// No tree is higher. Nodes above the leaves have three children or more (their keys have 1025
/// bytes at most), except the last of a level, and there are less than 2^32 leaves.
pub(super) const LEVEL_MAX: u8 = 21;

/// Where the log stood when the run was written: the catalog's own bytes, kept as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor(pub(crate) [u8; 64]);

impl Default for Anchor {
    fn default() -> Anchor {
        Anchor([0; 64])
    }
}

/// Between what the places of a run lie, and so how they are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct PlaceBounds {
    pub(super) first_lsn: u64,
    pub(super) last_lsn: u64,
    pub(super) least_time: u64,
    pub(super) greatest_time: u64,
}

impl PlaceBounds {
    /// Those of several runs, or of several places of one.
    pub(super) fn around(self, other: PlaceBounds) -> PlaceBounds {
        PlaceBounds {
            first_lsn: self.first_lsn.min(other.first_lsn),
            last_lsn: self.last_lsn.max(other.last_lsn),
            least_time: self.least_time.min(other.least_time),
            greatest_time: self.greatest_time.max(other.greatest_time),
        }
    }

    pub(super) fn of(place: &Place) -> PlaceBounds {
        PlaceBounds {
            first_lsn: place.lsn,
            last_lsn: place.lsn,
            least_time: place.time_ns,
            greatest_time: place.time_ns,
        }
    }

    pub(super) fn layout(&self) -> PlaceLayout {
        let len = |least: u64, greatest: u64| {
            let bits = u64::BITS - greatest.saturating_sub(least).leading_zeros();
            bits.div_ceil(8) as usize
        };
        PlaceLayout {
            lsn_len: len(self.first_lsn, self.last_lsn),
            time_len: len(self.least_time, self.greatest_time),
        }
    }
}

/// How many bytes the parts of a place have; its CRC has 4, between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlaceLayout {
    pub(super) lsn_len: usize,
    pub(super) time_len: usize,
}

/// What the CRC of a record is combined with in its place; combining twice gives it back. Every bit
/// of both numbers counts.
pub(super) fn place_check(lsn: u64, time_ns: u64) -> u32 {
    let mixed = lsn
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(time_ns.wrapping_mul(0xC2B2_AE3D_27D4_EB4F));
    (mixed >> 32) as u32
}

/// Where a place is taken apart: room for the longest, of 20 bytes, and for reading 8 bytes of its last
/// part wherever that begins.
pub(super) const PLACE_BUFFER_LEN: usize = 24;

impl PlaceLayout {
    pub(super) fn place_len(self) -> usize {
        self.lsn_len + 4 + self.time_len
    }

    /// Events per block of the position table.
    pub(super) fn places_per_block(self) -> u64 {
        ((PAYLOAD_LEN - PLACES_START) / self.place_len()) as u64
    }
}

/// Block 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) level: u32,
    pub(super) log_id: [u8; 16],
    pub(super) salt: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) bounds: PlaceBounds,
    pub(super) key_count: u64,
    pub(super) block_count: u32,
    pub(super) tree_start: u32,
    pub(super) root: u32,
    pub(super) root_level: u8,
    pub(super) anchor: Anchor,
}

/// First block behind the position table of a run of these positions; `None` if there can be no
/// such positions, or too many. Of no events the last position is that before the first.
pub(super) fn tree_start(first: u64, last: u64, layout: PlaceLayout) -> Option<u32> {
    let event_count = last.checked_add(1)?.checked_sub(first)?;
    let table_len = u32::try_from(event_count.div_ceil(layout.places_per_block())).ok()?;
    TABLE_START.checked_add(table_len)
}

impl Header {
    pub(super) fn encode(&self) -> Block {
        let mut block = Block::zeroed();
        let bytes = block.payload_mut();
        put(bytes, 0, &MAGIC);
        put(bytes, 8, &LAYOUT.to_le_bytes());
        put(bytes, 12, &self.level.to_le_bytes());
        put(bytes, 16, &self.log_id);
        put(bytes, 32, &self.salt.to_le_bytes());
        put(bytes, 40, &self.first.to_le_bytes());
        put(bytes, 48, &self.last.to_le_bytes());
        put(bytes, 56, &self.bounds.first_lsn.to_le_bytes());
        put(bytes, 64, &self.key_count.to_le_bytes());
        put(bytes, 72, &self.block_count.to_le_bytes());
        put(bytes, 76, &self.tree_start.to_le_bytes());
        put(bytes, 80, &self.root.to_le_bytes());
        put(bytes, 84, &u32::from(self.root_level).to_le_bytes());
        put(bytes, 88, &self.anchor.0);
        put(bytes, 152, &self.bounds.last_lsn.to_le_bytes());
        put(bytes, 160, &self.bounds.least_time.to_le_bytes());
        put(bytes, 168, &self.bounds.greatest_time.to_le_bytes());
        block.seal(self.salt, 0);
        block
    }

    /// Reads block 0 and checks that it agrees with itself.
    pub(super) fn decode(block: &Block) -> Decoded<Header> {
        let bytes = block.payload();
        let salt = get_u64(bytes, 32);
        if get_array::<8>(bytes, 0) != MAGIC {
            return Err(Damaged("it does not begin like a run"));
        }
        if !block.is_sound(salt, 0) {
            return Err(Damaged("the checksum does not hold"));
        }
        if get_u32(bytes, 8) != LAYOUT {
            return Err(Damaged("its layout is not known to this version"));
        }
        let header = Header {
            level: get_u32(bytes, 12),
            log_id: get_array(bytes, 16),
            salt,
            first: get_u64(bytes, 40),
            last: get_u64(bytes, 48),
            bounds: PlaceBounds {
                first_lsn: get_u64(bytes, 56),
                last_lsn: get_u64(bytes, 152),
                least_time: get_u64(bytes, 160),
                greatest_time: get_u64(bytes, 168),
            },
            key_count: get_u64(bytes, 64),
            block_count: get_u32(bytes, 72),
            tree_start: get_u32(bytes, 76),
            root: get_u32(bytes, 80),
            root_level: u8::try_from(get_u32(bytes, 84)).unwrap_or(u8::MAX),
            anchor: Anchor(get_array(bytes, 88)),
        };
        let agrees = header.first > 0
            && tree_start(header.first, header.last, header.bounds.layout())
                == Some(header.tree_start)
            && header.are_in_tree(header.root, 1)
            && header.root_level <= LEVEL_MAX;
        if !agrees {
            return Err(Damaged("its header contradicts itself"));
        }
        Ok(header)
    }

    /// Whether these blocks lie behind the position table and in the file.
    pub(super) fn are_in_tree(&self, start: u32, count: u32) -> bool {
        let in_file = start
            .checked_add(count)
            .is_some_and(|end| end <= self.block_count);
        start >= self.tree_start && in_file
    }

    /// Size that the file must have.
    pub(super) fn file_len(&self) -> u64 {
        u64::from(self.block_count) * BLOCK_LEN as u64
    }
}
