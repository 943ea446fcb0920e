//! Blocks: a run is made of them, and the cache holds them.
//!
//! ```text
//! 0                                                      4092   4096
//! | sort u8 | ... what the block holds ...                 | check |
//! ```
//!
//! The check is the CRC-32 of the bytes before it, XOR the CRC-32 of the run's salt and the
//! block's number. A block that lies in another place, or comes from another run, is refused like
//! a damaged one. It is computed whenever a block is read from the file, and never again while the
//! block is in the cache: what is cached was checked.

use crate::format::checksum::crc32;
use crate::format::{get_u32, put};
use crate::sync::{Mutex, PoisonError};
use std::sync::Arc;

/// Size of a block in the file.
pub(super) const BLOCK_LEN: usize = 4096;
/// Bytes of a block that it can use; its check follows them.
pub(super) const PAYLOAD_LEN: usize = BLOCK_LEN - 4;

/// First byte of a block: what it holds. Block 0 has its magic instead.
pub(super) mod sort {
    /// Part of the position table.
    pub(in super::super) const PLACES: u8 = 2;
    /// Positions of one list.
    pub(in super::super) const POSTINGS: u8 = 3;
    /// Part of a long value.
    pub(in super::super) const VALUE: u8 = 4;
    /// A node of the tree of keys.
    pub(in super::super) const NODE: u8 = 5;
}

/// What is wrong with bytes that were checked and still make no sense. Whoever knows the file and
/// the block makes an error of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged(pub(super) &'static str);

/// What came of looking into a block.
pub(super) type Decoded<T> = Result<T, Damaged>;

/// The bytes of one block.
#[derive(Clone, Debug)]
pub(super) struct Block([u8; BLOCK_LEN]);

impl Block {
    /// A block of zeros.
    pub(super) fn zeroed() -> Block {
        Block([0; BLOCK_LEN])
    }

    /// All bytes, for reading them from a file.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes before the check.
    pub(super) fn payload(&self) -> &[u8] {
        &self.0[..PAYLOAD_LEN]
    }

    /// The bytes before the check, for filling them.
    pub(super) fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.0[..PAYLOAD_LEN]
    }

    /// What it holds.
    pub(super) fn sort(&self) -> u8 {
        self.0[0]
    }

    /// Sets the check.
    pub(super) fn seal(&mut self, salt: u64, number: u32) {
        let check = self.check_as(salt, number);
        put(&mut self.0, PAYLOAD_LEN, &check.to_le_bytes());
    }

    /// Whether it is block `number` of the run with this salt, undamaged.
    pub(super) fn is_sound(&self, salt: u64, number: u32) -> bool {
        get_u32(&self.0, PAYLOAD_LEN) == self.check_as(salt, number)
    }

    fn check_as(&self, salt: u64, number: u32) -> u32 {
        let mut identity = [0; 12];
        put(&mut identity, 0, &salt.to_le_bytes());
        put(&mut identity, 8, &number.to_le_bytes());
        crc32(self.payload()) ^ crc32(&identity)
    }
}

/// Slots that share a lock, and compete for space.
const WAYS: usize = 8;

/// Blocks of runs that were read and checked, within a bound on their memory. Shared by all runs
/// and threads.
///
/// It is an array of small sets. A block can be only in the set that follows from its run and
/// number, so that a look takes one short lock and no table that grows. Within a set the one that
/// was not used since the hand came by last goes first (CLOCK). Blocks of a run that is gone are
/// not taken out: nobody asks for them, and they go the same way.
pub(crate) struct BlockCache {
    sets: Box<[Mutex<Set>]>,
}

#[derive(Default)]
struct Set {
    slots: [Slot; WAYS],
    /// The slot that is looked at first for replacement.
    hand: usize,
}

#[derive(Default)]
struct Slot {
    salt: u64,
    number: u32,
    /// Used since the hand came by.
    used: bool,
    block: Option<Arc<Block>>,
}

impl BlockCache {
    /// A cache of about `bytes_max` bytes of blocks, 32 KiB at least.
    pub(crate) fn new(bytes_max: usize) -> BlockCache {
        let set_count = (bytes_max / (BLOCK_LEN * WAYS)).max(1);
        BlockCache {
            sets: (0..set_count).map(|_| Mutex::default()).collect(),
        }
    }

    /// The block, if it is here.
    pub(super) fn get(&self, salt: u64, number: u32) -> Option<Arc<Block>> {
        let mut set = self.set(salt, number)?;
        let slot = set.slots.iter_mut().find(|slot| slot.is(salt, number))?;
        slot.used = true;
        slot.block.clone()
    }

    /// Takes a block that was checked.
    pub(super) fn put(&self, salt: u64, number: u32, block: Arc<Block>) {
        let Some(mut set) = self.set(salt, number) else {
            return;
        };
        let set = &mut *set;
        let present = set.slots.iter().position(|slot| slot.is(salt, number));
        let free = || set.slots.iter().position(|slot| slot.block.is_none());
        let index = match present.or_else(free) {
            Some(index) => index,
            None => {
                // Ends after one turn at the latest: the hand clears what it passes.
                while set.slots.get(set.hand).is_some_and(|slot| slot.used) {
                    if let Some(slot) = set.slots.get_mut(set.hand) {
                        slot.used = false;
                    }
                    set.hand = (set.hand + 1) % WAYS;
                }
                let index = set.hand;
                set.hand = (set.hand + 1) % WAYS;
                index
            }
        };
        if let Some(slot) = set.slots.get_mut(index) {
            *slot = Slot {
                salt,
                number,
                used: false,
                block: Some(block),
            };
        }
    }

    fn set(&self, salt: u64, number: u32) -> Option<crate::sync::MutexGuard<'_, Set>> {
        // Salts are random, and neighbours of a run must not fall into one set.
        let spread = (salt ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let index = (u128::from(spread) * self.sets.len() as u128) >> 64;
        let set = self.sets.get(usize::try_from(index).ok()?)?;
        // A panic in between leaves slots that are each in order.
        Some(set.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Slot {
    fn is(&self, salt: u64, number: u32) -> bool {
        self.number == number && self.salt == salt && self.block.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u32) -> Arc<Block> {
        let mut block = Block::zeroed();
        put(block.payload_mut(), 0, &number.to_le_bytes());
        Arc::new(block)
    }

    #[test]
    fn a_block_is_sound_only_in_its_place_and_run() {
        let mut block = Block::clone(&numbered(7));
        block.seal(99, 7);
        assert!(block.is_sound(99, 7));
        assert!(!block.is_sound(99, 8));
        assert!(!block.is_sound(98, 7));
        assert!(!Block::zeroed().is_sound(99, 7));
    }

    #[test]
    fn the_cache_gives_what_it_was_given_and_stays_within_its_bound() {
        let cache = BlockCache::new(64 * BLOCK_LEN);
        for number in 0..1000 {
            cache.put(5, number, numbered(number));
            let found = cache.get(5, number).unwrap();
            assert_eq!(get_u32(found.payload(), 0), number);
            assert!(cache.get(6, number).is_none());
        }
        let held = (0..1000).filter(|&n| cache.get(5, n).is_some()).count();
        assert!(held > 32 && held <= 64, "{held} blocks");
    }

    #[test]
    fn what_is_used_stays() {
        let cache = BlockCache::new(0);
        cache.put(1, 0, numbered(0));
        for number in 1..100 {
            assert!(cache.get(1, 0).is_some(), "gone before block {number}");
            cache.put(1, number, numbered(number));
        }
    }
}
