//! When the writer needs space, and when it asks for more before it does.

use super::{SegmentWriter, END_MARK_LEN};
use crate::error::{ErrorKind, Result};
use crate::vfs::MAP_UNIT;
use crate::wal::append::room::{
    step_end, Manner, Room, AHEAD_LEN_MAX, MAPPED_AHEAD_LEN_MAX, STEP_LEN_MIN,
};
use crate::wal::housekeeper;
use crate::wal::options::SyncMode;
use std::sync::Arc;

/// A step in the background is for so many groups like the one that asks for it, at most: what it brings
/// into the writer's next sync is felt there, and the entry in the file system's journal that each step
/// costs is one of many hundreds of syncs.
const GROUPS_PER_STEP: u64 = 1024;

/// A batch of this size or more is written by itself, and gets its space without zeros.
pub(crate) const LARGE_LEN: u64 = 256 << 10;

impl SegmentWriter {
    /// What the writer shares with the housekeeper.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Makes sure that the file has space up to `end` and for the end mark behind it. An error of
    /// kind FULL leaves everything as it was.
    pub(super) fn make_room(&mut self, end: u64) -> Result<()> {
        self.make_room_for(end, false)
    }

    /// The same for a large batch, which is written by calls whatever the manner.
    pub(super) fn make_large_room(&mut self, end: u64) -> Result<()> {
        self.make_room_for(end, true)
    }

    fn make_room_for(&mut self, end: u64, by_calls: bool) -> Result<()> {
        let needed = end + END_MARK_LEN;
        if needed > self.prepared {
            self.make_room_now(needed, by_calls)?;
        }
        if needed > self.ask_at && !self.is_large(needed, by_calls) {
            self.ask_for_more(needed);
        }
        Ok(())
    }

    /// What is prepared ahead of this would be so for nothing.
    fn is_large(&self, needed: u64, by_calls: bool) -> bool {
        match self.manner() {
            Manner::Zeroed => needed - self.offset >= LARGE_LEN,
            Manner::Mapped => by_calls,
            Manner::Allocated => false,
        }
    }

    /// Whether the file has space up to `end`; asks for more in time.
    pub(super) fn has_room(&mut self, end: u64) -> bool {
        if end > self.prepared {
            self.prepared = self.room.prepared();
        }
        if end > self.ask_at {
            self.ask_for_more(end);
        }
        end <= self.prepared
    }

    #[cold]
    fn make_room_now(&mut self, needed: u64, by_calls: bool) -> Result<()> {
        self.prepared = self.room.prepared();
        if needed <= self.prepared {
            return Ok(());
        }
        self.room.expect_groups_of(needed - self.offset);
        let (limit, manner) = if self.is_large(needed, by_calls) {
            (needed, Manner::Allocated)
        } else {
            (self.room_limit(), self.manner())
        };
        let mut made = self.room.make(needed, limit, manner);
        let full = made
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::Full);
        if full && self.give_space_back() {
            made = self.room.make(needed, limit, manner);
        }
        self.prepared = self.room.prepared();
        made
    }

    /// Gives back what waits for the next segment, since this one needs it; false if that is
    /// nothing.
    pub(super) fn give_space_back(&mut self) -> bool {
        let (vfs, layout) = (self.vfs.as_ref(), &self.layout);
        let dropped = self.room.drop_fresh(vfs, layout);
        self.ready.release(vfs) || dropped
    }

    /// Whether the blocks up to `end` are there and were written before, so that it is worthwhile to
    /// start their way to the disk piece by piece. (In new blocks each piece that arrives by itself
    /// is an entry in the file system's journal, and more expensive than it gains.)
    pub(super) fn is_written_before(&mut self, end: u64) -> bool {
        self.prepared = self.room.prepared();
        self.manner() == Manner::Zeroed && end + END_MARK_LEN <= self.prepared
    }

    fn manner(&self) -> Manner {
        if self.room.is_mapped() {
            Manner::Mapped
        } else if self.syncs_in_place() {
            Manner::Zeroed
        } else {
            Manner::Allocated
        }
    }

    /// Blocks that were written before are worth their while.
    fn syncs_in_place(&self) -> bool {
        self.in_place && self.sync_mode != SyncMode::Manual
    }

    /// Beyond this nothing is prepared ahead of need.
    fn room_limit(&self) -> u64 {
        self.segment_bytes_max + STEP_LEN_MIN
    }

    /// Asks the background for what will be needed: twice the space, up to a bound, when half of it
    /// is used; and a file for the next segment, when half of this one is.
    #[cold]
    fn ask_for_more(&mut self, needed: u64) {
        self.prepared = self.room.prepared();
        self.room.expect_groups_of(needed - self.offset);
        let mut called = false;
        let mut next = u64::MAX;
        let limit = self.room_limit();
        let step_max = match self.manner() {
            Manner::Zeroed => {
                let groups_len = (needed - self.offset).saturating_mul(GROUPS_PER_STEP);
                groups_len.clamp(STEP_LEN_MIN, AHEAD_LEN_MAX)
            }
            Manner::Mapped => MAPPED_AHEAD_LEN_MAX,
            Manner::Allocated => 0,
        };
        if step_max > 0 && self.prepared < limit {
            next = half_used(self.prepared, step_max);
            if needed >= next {
                let step = self.prepared.clamp(STEP_LEN_MIN, step_max);
                let wanted = step_end(self.prepared, step).min(limit);
                self.room.ask(wanted);
                called = true;
                next = half_used(wanted, step_max).max(needed + STEP_LEN_MIN);
            }
        }
        if self.syncs_in_place() {
            let half = self.segment_bytes_max / 2;
            if needed < half {
                next = next.min(half);
            } else if self.ready.is_empty() {
                // No more than a step: it is synced at once, beside the writer's own syncs.
                self.room.ask_fresh(limit.min(step_max));
                called = true;
            }
        } else {
            // So that the sync of the whole segment, when it is sealed, finds less to do.
            if self.offset >= AHEAD_LEN_MAX {
                // Without the page that is being written: its way would be in the writer's.
                self.room
                    .ask_write_back(self.offset - self.offset % MAP_UNIT);
                called = true;
            }
            next = next.min(self.offset + AHEAD_LEN_MAX);
        }
        self.ask_at = next;
        if called && self.vfs.background() {
            housekeeper::call(self.vfs.fork_count());
        }
    }
}

/// Where so much is used of what is prepared, in steps of up to `step_max`, that more is asked for.
fn half_used(prepared: u64, step_max: u64) -> u64 {
    prepared - (prepared / 2).min(step_max)
}
