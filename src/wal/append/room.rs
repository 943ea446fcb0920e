//! The space ahead of the writer: made before it is needed, by whoever comes first.
//!
//! A sync of blocks that were written before costs much less than one of new blocks, so zeros go
//! ahead of the frames. Two may write them: the housekeeper, in the background and ahead of need;
//! and the writer, where the background was not fast enough or there is none.
//!
//! ```text
//! 0            writer's offset        prepared                allocated
//! ├── frames ──┼── zeros, the writer's ──┼── whoever holds `ground` ──┤
//! ```
//!
//! Who may write where: below `prepared` only the writer, from `prepared` on only who holds
//! `ground`. `prepared` only grows, and grows after the zeros below it are written; so zeros can
//! never hit a frame. Before the writer turns to another file, or gives up the log, it takes `ground`
//! and with it the file out of the background's hands.
//!
//! The background never syncs the segment in use. A sync that fails would be noticed by a thread
//! that nobody asks, and the writer's next sync could succeed without what was lost. All that the
//! background learns of a failure it forgets, and leaves it to the writer to meet it: a full disk is
//! an error of the append that finds no room, and of no other.

use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::vfs::{write_all_at, File, OpenMode, Vfs};
use crate::wal::layout::Layout;
use crate::wal::segment_file::{discard, make_ready_dir};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// The first step by which a segment is prepared beyond what is written: small, so that a log of
/// ten records stays small. Also how far beyond its size limit: the last batch and the SEAL go there.
pub(crate) const STEP_LEN_MIN: u64 = ZEROS.len() as u64;
/// The greatest step of a writer that needs the room at once.
const STEP_LEN_MAX: u64 = 1 << 20;
/// The greatest step in the background, and of space that is allocated only. The fewer steps, the
/// fewer syncs have to record new blocks: the journal of the file system is written then.
pub(crate) const AHEAD_LEN_MAX: u64 = 4 << 20;
/// What prepared space is filled with, in pieces of this size. The page cache remembers in which
/// pieces a file was written: much smaller ones make great writes slow, much larger ones small ones.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What one writer shares with the housekeeper. See the module.
#[derive(Debug)]
pub(crate) struct Room {
    /// Stored under `ground`, with release, after the zeros; read by the writer with acquire.
    prepared: AtomicU64,
    /// Up to here the background is to prepare. Stored by the writer, and set back by the
    /// background when it can't.
    wanted: AtomicU64,
    /// A file for the next segment is to be made, with so many bytes prepared; 0 for none. Stored by
    /// the writer, taken back by the background.
    fresh_wanted: AtomicU64,
    /// Held while one piece is written. `None` when nobody prepares anything any more.
    ground: Mutex<Option<Ground>>,
    /// Held while a file for the next segment is made, and never by the writer but at close.
    making: Mutex<()>,
    fresh: Mutex<Fresh>,
}

/// The file in use.
#[derive(Debug)]
struct Ground {
    file: Arc<dyn File>,
    path: PathBuf,
    prepared: u64,
    /// Up to here the file has its space; not below `prepared`.
    allocated: u64,
    /// Up to here the way to the disk was asked for.
    written_back: u64,
    /// How far that is to go: where the writer was.
    write_back_wanted: u64,
}

/// The file for the next segment, with the name `ready/fresh`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fresh {
    None,
    Made,
    /// None is to be made any more.
    Closed,
}

/// What space is to be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// Written with zeros: for small groups that are synced.
    Zeroed,
    /// Only allocated: where nobody syncs, and where the blocks would not stay where they are; and
    /// for large groups, since zeros take the disk as long as the group itself, longer than what a
    /// sync of new blocks takes more.
    Allocated,
}

impl Room {
    /// Of a file whose first `prepared` bytes belong to the writer.
    pub(crate) fn new(file: Arc<dyn File>, path: PathBuf, prepared: u64) -> Room {
        Room {
            prepared: AtomicU64::new(prepared),
            wanted: AtomicU64::new(0),
            fresh_wanted: AtomicU64::new(0),
            ground: Mutex::new(Some(Ground::new(file, path, prepared))),
            making: Mutex::new(()),
            fresh: Mutex::new(Fresh::None),
        }
    }

    fn ground(&self) -> MutexGuard<'_, Option<Ground>> {
        // Nothing that can panic runs while it is held.
        self.ground.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Below this the writer may write.
    pub(crate) fn prepared(&self) -> u64 {
        self.prepared.load(Ordering::Acquire)
    }

    // ---- the writer's side -------------------------------------------------------------------

    /// Gets room up to `needed` now, and some more where that can be had, but not beyond `limit`
    /// for it. An error of kind FULL leaves everything as it was.
    pub(crate) fn make(&self, needed: u64, limit: u64, manner: Manner) -> Result<()> {
        let mut ground = self.ground();
        let Some(ground) = ground.as_mut() else {
            return Err(Error::new(ErrorKind::Closed, "the log was closed"));
        };
        if needed <= ground.prepared {
            return Ok(());
        }
        let step_max = match manner {
            Manner::Zeroed => STEP_LEN_MAX,
            Manner::Allocated => AHEAD_LEN_MAX,
        };
        let step = ground.prepared.clamp(STEP_LEN_MIN, step_max);
        let ahead = step_end(ground.prepared, step).min(limit).max(needed);
        let mut outcome = ground.prepare_up_to(ahead, manner);
        let failed = outcome.as_ref().is_err_and(Error::is_retryable);
        if failed && ahead > needed && ground.prepared < needed {
            outcome = ground.prepare_up_to(needed, manner);
        }
        self.prepared.store(ground.prepared, Ordering::Release);
        match outcome {
            // The attempt got far enough before the disk was full.
            Err(error) if error.is_retryable() && ground.prepared >= needed => Ok(()),
            outcome => outcome,
        }
    }

    /// Asks the background to prepare up to `wanted`.
    pub(crate) fn ask(&self, wanted: u64) {
        self.wanted.store(wanted, Ordering::Release);
    }

    /// Asks the background to get what is written below `offset` on its way to the disk.
    pub(crate) fn ask_write_back(&self, offset: u64) {
        if let Some(ground) = self.ground().as_mut() {
            ground.write_back_wanted = offset;
        }
    }

    /// Asks the background to make a file for the next segment, with its first `len` bytes prepared.
    pub(crate) fn ask_fresh(&self, len: u64) {
        self.fresh_wanted.store(len, Ordering::Release);
    }

    /// From now on the writer writes to another file, whose first `prepared` bytes are its own.
    pub(crate) fn move_to(&self, file: Arc<dyn File>, path: PathBuf, prepared: u64) {
        let mut ground = self.ground();
        *ground = Some(Ground::new(file, path, prepared));
        self.wanted.store(0, Ordering::Release);
        self.prepared.store(prepared, Ordering::Release);
    }

    /// Gives the file that was made for the next segment the name under which segment `number` is
    /// prepared; false if there is none.
    pub(crate) fn take_fresh(&self, vfs: &dyn Vfs, layout: &Layout, number: u64) -> bool {
        let mut fresh = self.fresh();
        if *fresh != Fresh::Made {
            return false;
        }
        *fresh = Fresh::None;
        vfs.rename(&layout.fresh(), &layout.prepared(number))
            .is_ok()
    }

    /// Gives the space of that file back; false if there is none.
    pub(crate) fn drop_fresh(&self, vfs: &dyn Vfs, layout: &Layout) -> bool {
        let mut fresh = self.fresh();
        if *fresh != Fresh::Made {
            return false;
        }
        *fresh = Fresh::None;
        discard(vfs, &layout.fresh()).is_ok()
    }

    /// Ends the preparing for good; when this returns, nothing of it is under way.
    pub(crate) fn close(&self, vfs: &dyn Vfs, layout: &Layout) {
        *self.ground() = None;
        // A file that is just being made is waited for: what is left would be in the way of the next
        // who opens the log.
        let _made = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_fresh(vfs, layout);
        *self.fresh() = Fresh::Closed;
    }

    // ---- the background's side ---------------------------------------------------------------

    /// Does all that was asked for, in pieces between which the writer can get in.
    pub(crate) fn prepare(&self, vfs: &dyn Vfs, layout: &Layout) {
        self.write_back();
        self.zero_ahead();
        self.make_fresh(vfs, layout);
    }

    fn zero_ahead(&self) {
        let wanted = self.wanted.load(Ordering::Acquire);
        let mut begin = None;
        loop {
            let mut guard = self.ground();
            let Some(ground) = guard.as_mut() else {
                return;
            };
            if self.wanted.load(Ordering::Acquire) != wanted {
                return;
            }
            let first = *begin.get_or_insert(ground.prepared);
            if ground.prepared >= wanted {
                let file = Arc::clone(&ground.file);
                drop(guard);
                if first < wanted {
                    // All at once: each part that arrives by itself makes a sync more expensive
                    // which comes meanwhile.
                    file.start_write_back(first, wanted - first);
                }
                return;
            }
            let piece = step_end(ground.prepared, STEP_LEN_MIN).min(wanted);
            let outcome = ground
                .allocate(wanted)
                .and_then(|()| ground.prepare_up_to(piece, Manner::Zeroed));
            self.prepared.store(ground.prepared, Ordering::Release);
            if outcome.is_err() {
                // Until the writer, which meets the same and reports it, asks again.
                self.wanted.store(0, Ordering::Release);
                return;
            }
        }
    }

    fn write_back(&self) {
        let mut guard = self.ground();
        let Some(ground) = guard.as_mut() else {
            return;
        };
        let (begin, end) = (ground.written_back, ground.write_back_wanted);
        if begin >= end {
            return;
        }
        ground.written_back = end;
        let file = Arc::clone(&ground.file);
        // It takes a while, and harms nothing where the file is not in use any more.
        drop(guard);
        file.start_write_back(begin, end - begin);
    }

    fn make_fresh(&self, vfs: &dyn Vfs, layout: &Layout) {
        let len = self.fresh_wanted.swap(0, Ordering::AcqRel);
        if len == 0 {
            return;
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = *self.fresh() == Fresh::None && self.ground().is_some();
        if !wanted {
            return;
        }
        if make_fresh_file(vfs, layout, len).is_ok() {
            *self.fresh() = Fresh::Made;
        } else {
            // A full disk must not be kept full by a file that nobody needs yet.
            let _ = discard(vfs, &layout.fresh());
        }
    }
}

impl Ground {
    fn new(file: Arc<dyn File>, path: PathBuf, prepared: u64) -> Ground {
        Ground {
            file,
            path,
            prepared,
            allocated: prepared,
            written_back: 0,
            write_back_wanted: 0,
        }
    }

    fn allocate(&mut self, end: u64) -> Result<()> {
        if end <= self.allocated {
            return Ok(());
        }
        match self.file.allocate(self.allocated, end - self.allocated) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(Error::io("allocate space in", &self.path, error)),
        }
        self.allocated = end;
        Ok(())
    }

    fn prepare_up_to(&mut self, end: u64, manner: Manner) -> Result<()> {
        self.allocate(end)?;
        if manner == Manner::Allocated {
            self.prepared = self.prepared.max(end);
            return Ok(());
        }
        while self.prepared < end {
            let len = usize::try_from(end - self.prepared)
                .unwrap_or(usize::MAX)
                .min(ZEROS.len());
            // Also a write that ends early changes nothing: what it wrote is zeros behind the end.
            write_all_at(self.file.as_ref(), self.prepared, &ZEROS[..len])
                .map_err(|failure| Error::io("write", &self.path, failure.error))?;
            self.prepared += len as u64;
        }
        Ok(())
    }
}

/// Where a step from `prepared` on ends: at a multiple of the least one, so that pieces of zeros and
/// the pages of the cache begin at the same places.
pub(crate) fn step_end(prepared: u64, len: u64) -> u64 {
    let end = prepared + len;
    end - end % STEP_LEN_MIN
}

/// Makes the file for the next segment: its first blocks written and synced, and nothing in it. Here
/// a failed sync loses nothing: the file is deleted.
fn make_fresh_file(vfs: &dyn Vfs, layout: &Layout, len: u64) -> Result<()> {
    make_ready_dir(vfs, layout)?;
    let path = layout.fresh();
    discard(vfs, &path)?;
    let file = vfs
        .open(&path, OpenMode::CreateNew)
        .map_err(|error| Error::io("create", &path, error))?;
    let mut ground = Ground::new(file, path, 0);
    ground.prepare_up_to(len, Manner::Zeroed)?;
    ground
        .file
        .sync_data()
        .map_err(|error| Error::sync(&ground.path, error))
}
