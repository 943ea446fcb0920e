//! Retired segments that wait in `ready/` to be used again: their blocks are written already, which
//! makes every sync into them cheaper than into new ones.
//!
//! A recycled file keeps its old bytes behind the new header. They are told apart by the salt, which
//! is new at every use, and by the LSNs, which are never given again; a reader that still has the
//! file open under its old name verifies every byte after copying it, finds that it was changed, and
//! answers TRUNCATED.

use crate::vfs::Vfs;
use crate::wal::layout::Layout;
use std::path::PathBuf;

/// How many files are kept. More would hold space that nobody asked for.
const KEPT_MAX: usize = 2;

/// The files kept by one writer. What is left in `ready/` when a log is opened is deleted, so
/// nothing here needs to be durable.
#[derive(Debug, Default)]
pub(crate) struct ReadyPool {
    kept: Vec<PathBuf>,
}

impl ReadyPool {
    /// Takes a retired segment out of the log; false if it is not wanted and must be deleted.
    pub(crate) fn keep(&mut self, vfs: &dyn Vfs, layout: &Layout, number: u64) -> bool {
        if self.kept.len() >= KEPT_MAX {
            return false;
        }
        let path = layout.recycled(number);
        let kept = vfs.rename(&layout.segment(number), &path).is_ok();
        if kept {
            self.kept.push(path);
        }
        kept
    }

    /// Whether no file is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Deletes the files kept, since their space is needed now; false if there was none.
    pub(crate) fn release(&mut self, vfs: &dyn Vfs) -> bool {
        let mut released = false;
        for path in self.kept.drain(..) {
            released |= vfs.unlink(&path).is_ok();
        }
        released
    }

    /// Forgets the files kept: whether they are out of the log for good is not known. They are
    /// deleted when the log is opened next.
    pub(crate) fn forget(&mut self) {
        self.kept.clear();
    }

    /// Gives a kept file the name under which segment `number` is prepared; false if there is
    /// none to be had.
    pub(crate) fn take(&mut self, vfs: &dyn Vfs, layout: &Layout, number: u64) -> bool {
        while let Some(path) = self.kept.pop() {
            if vfs.rename(&path, &layout.prepared(number)).is_ok() {
                return true;
            }
        }
        false
    }
}
