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
//! Where appends are mapped, what is prepared is opened as windows too (`vfs::Window`): its pages are
//! in memory, present and writable, before a group is stored there. To make a page takes longer than
//! to fill it, so most of that is the background's. A window waits in `windows` until the writer comes
//! to it and takes it out; then it is the writer's alone. Where one is not to be had, there are none
//! any more, and the space is as it would be without them.
//!
//! The background never syncs the segment in use. A sync that fails would be noticed by a thread
//! that nobody asks, and the writer's next sync could succeed without what was lost. All that the
//! background learns of a failure it forgets, and leaves it to the writer to meet it: a full disk is
//! an error of the append that finds no room, and of no other.

use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::HEADER_LEN;
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::vfs::{write_pieces_at, File, OpenMode, Vfs, Window, MAP_UNIT};
use crate::wal::layout::Layout;
use crate::wal::segment_file::{discard, make_ready_dir};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;

/// The first step by which a segment is prepared beyond what is written: small, so that a log of
/// ten records stays small. Also how far beyond its size limit: the last batch and the SEAL go there.
pub(crate) const STEP_LEN_MIN: u64 = ZEROS.len() as u64;
/// The greatest step of a writer that needs the room at once.
const STEP_LEN_MAX: u64 = 1 << 20;
/// The greatest step in the background, and of space that is allocated only. The fewer steps, the
/// fewer syncs have to record new blocks: the journal of the file system is written then.
pub(crate) const AHEAD_LEN_MAX: u64 = 4 << 20;
/// The greatest step of windows in the background: they take memory, and pages that were made a short
/// time ago are still in the processor's cache when they are written.
pub(crate) const MAPPED_AHEAD_LEN_MAX: u64 = 1 << 20;
/// The greatest window that the background opens: between two, the writer can get in.
const WINDOW_LEN: u64 = 256 << 10;
/// What prepared space is filled with.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// In pieces of at least so many bytes, the unit of the page cache, and of all of them at most: see
/// [`File::write_piece_at`]. On ext4 (Linux 6.18, medians of 4,000) a write of 400 bytes with its sync took
/// 60.2 us in pieces of 4 KiB, 61.9 in 64 KiB, 73.2 in 1 MiB and 95.0 in 4 MiB; one of 33 KiB 83.4, 69.3,
/// 75.8 (1 MiB).
const PIECE_LEN_MIN: usize = 4 << 10;

/// What one writer shares with the housekeeper. See the module.
#[derive(Debug)]
pub(crate) struct Room {
    /// Stored under `ground`, with release, after the zeros; read by the writer with acquire.
    prepared: AtomicU64,
    /// Windows are opened in what is prepared. Set back, for good, by whoever holds `ground` and gets
    /// none.
    mapped: AtomicBool,
    /// Up to here the background is to prepare. Stored by the writer, and set back by the
    /// background when it can't.
    wanted: AtomicU64,
    /// Set by the writer before it asks for space: the pieces in which its groups are written best.
    piece_len: AtomicUsize,
    /// Up to here the background is to get what is written on its way to the disk: where the writer was.
    write_back_wanted: AtomicU64,
    /// A file for the next segment is to be made, with so many bytes prepared; 0 for none. Stored by
    /// the writer, taken back by the background.
    fresh_wanted: AtomicU64,
    /// Held while one piece is written. `None` when nobody prepares anything any more.
    ground: Mutex<Option<Ground>>,
    /// Windows in what is prepared, in order, that the writer has not come to yet. Added by whoever
    /// holds `ground`, before `prepared` covers them; never held for long.
    windows: Mutex<VecDeque<Window>>,
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
    /// The file system allocates space when it is told to.
    allocates: bool,
    /// So many bytes the file had before anything was prepared.
    filled: u64,
    /// Here the writer began: no window shows what is before.
    begin: u64,
    /// Up to here the way to the disk was asked for.
    written_back: u64,
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
    /// Written with zeros where the file had no bytes before, and opened as windows: where not every
    /// group is synced, and only if that is asked for.
    Mapped,
}

impl Room {
    /// Of a file with `len` bytes, which belong to the writer. With windows: from `mapped_from` on, where
    /// the writer begins.
    pub(crate) fn new(
        file: Arc<dyn File>,
        path: PathBuf,
        len: u64,
        mapped_from: Option<u64>,
    ) -> Room {
        let ground = Ground::new(file, path, len, mapped_from);
        Room {
            prepared: AtomicU64::new(ground.prepared),
            mapped: AtomicBool::new(mapped_from.is_some()),
            wanted: AtomicU64::new(0),
            piece_len: AtomicUsize::new(ZEROS.len()),
            write_back_wanted: AtomicU64::new(0),
            fresh_wanted: AtomicU64::new(0),
            ground: Mutex::new(Some(ground)),
            windows: Mutex::default(),
            making: Mutex::new(()),
            fresh: Mutex::new(Fresh::None),
        }
    }

    fn ground(&self) -> MutexGuard<'_, Option<Ground>> {
        // Nothing that can panic runs while it is held.
        self.ground.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn windows(&self) -> MutexGuard<'_, VecDeque<Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Below this the writer may write.
    pub(crate) fn prepared(&self) -> u64 {
        self.prepared.load(Ordering::Acquire)
    }

    /// Whether there are windows, as far as that is known.
    pub(crate) fn is_mapped(&self) -> bool {
        self.mapped.load(Ordering::Acquire)
    }

    /// Prepares up to `end` in this manner. Where no window is to be had, what is prepared is written by
    /// calls, and so is all that follows: nothing is wrong with the file.
    fn prepare_up_to(&self, ground: &mut Ground, end: u64, manner: Manner) -> Result<()> {
        let begin = ground.prepared;
        ground.prepare_up_to(end, manner, self.piece_len.load(Ordering::Relaxed))?;
        if manner == Manner::Mapped && self.open_window(ground, begin).is_err() {
            self.mapped.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Opens a window from `begin` to what is prepared.
    fn open_window(&self, ground: &Ground, begin: u64) -> io::Result<()> {
        if !ground.allocates {
            // A store that finds no space would be a signal.
            return Err(io::ErrorKind::Unsupported.into());
        }
        // The zeros behind a group may reach into a window before the next group does.
        let begin = begin.saturating_sub(HEADER_LEN as u64).max(ground.begin);
        let begin = begin - begin % MAP_UNIT;
        let len = usize::try_from(ground.prepared - begin)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let window = ground.file.window(begin, len)?;
        let mut windows = self.windows();
        if windows.try_reserve(1).is_err() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        windows.push_back(window);
        Ok(())
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
            Manner::Zeroed | Manner::Mapped => STEP_LEN_MAX,
            Manner::Allocated => AHEAD_LEN_MAX,
        };
        let step = ground.prepared.clamp(STEP_LEN_MIN, step_max);
        let ahead = step_end(ground.prepared, step).min(limit).max(needed);
        let mut outcome = self.prepare_up_to(ground, ahead, manner);
        let failed = outcome.as_ref().is_err_and(Error::is_retryable);
        if failed && ahead > needed && ground.prepared < needed {
            outcome = self.prepare_up_to(ground, needed, manner);
        }
        self.prepared.store(ground.prepared, Ordering::Release);
        match outcome {
            // The attempt got far enough before the disk was full.
            Err(error) if error.is_retryable() && ground.prepared >= needed => Ok(()),
            outcome => outcome,
        }
    }

    /// The window for the byte at `offset`, if there is one. Those that end before it are given up.
    pub(crate) fn take_window(&self, offset: u64) -> Option<Window> {
        let mut windows = self.windows();
        while windows.front()?.range().end <= offset {
            windows.pop_front();
        }
        if windows.front()?.range().start > offset {
            return None;
        }
        windows.pop_front()
    }

    /// Gives up all windows: nothing is written any more.
    pub(crate) fn close_windows(&self) {
        let _ground = self.ground();
        self.mapped.store(false, Ordering::Release);
        self.windows().clear();
    }

    /// What is prepared from now on is for groups of about so many bytes.
    pub(crate) fn expect_groups_of(&self, group_len: u64) {
        // Only about speed, so no order is needed.
        self.piece_len
            .store(piece_len_for(group_len), Ordering::Relaxed);
    }

    /// Asks the background to prepare up to `wanted`.
    pub(crate) fn ask(&self, wanted: u64) {
        self.wanted.store(wanted, Ordering::Release);
    }

    /// Asks the background to get what is written below `offset` on its way to the disk.
    pub(crate) fn ask_write_back(&self, offset: u64) {
        self.write_back_wanted.store(offset, Ordering::Release);
    }

    /// Asks the background to make a file for the next segment, with its first `len` bytes prepared.
    pub(crate) fn ask_fresh(&self, len: u64) {
        self.fresh_wanted.store(len, Ordering::Release);
    }

    /// From now on the writer writes to another file, with `len` bytes, from `begin` on.
    pub(crate) fn move_to(&self, file: Arc<dyn File>, path: PathBuf, len: u64, begin: u64) {
        let mut ground = self.ground();
        let fresh = Ground::new(file, path, len, self.is_mapped().then_some(begin));
        self.wanted.store(0, Ordering::Release);
        self.write_back_wanted.store(0, Ordering::Release);
        self.prepared.store(fresh.prepared, Ordering::Release);
        *ground = Some(fresh);
        self.windows().clear();
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
        self.windows().clear();
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
        self.prepare_ahead();
        self.make_fresh(vfs, layout);
    }

    fn prepare_ahead(&self) {
        let wanted = self.wanted.load(Ordering::Acquire);
        let mapped = self.is_mapped();
        let (manner, piece_len) = if mapped {
            (Manner::Mapped, WINDOW_LEN)
        } else {
            (Manner::Zeroed, STEP_LEN_MIN)
        };
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
                if first < wanted && !mapped {
                    // All at once: each part that arrives by itself makes a sync more expensive
                    // which comes meanwhile.
                    file.start_write_back(first, wanted - first);
                }
                return;
            }
            let piece = step_end(ground.prepared, piece_len).min(wanted);
            let outcome = ground
                .allocate(wanted)
                .and_then(|()| self.prepare_up_to(ground, piece, manner));
            self.prepared.store(ground.prepared, Ordering::Release);
            if outcome.is_err() || self.is_mapped() != mapped {
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
        let end = self.write_back_wanted.load(Ordering::Acquire);
        let begin = ground.written_back;
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
        let piece_len = self.piece_len.load(Ordering::Relaxed);
        if make_fresh_file(vfs, layout, len, piece_len).is_ok() {
            *self.fresh() = Fresh::Made;
        } else {
            // A full disk must not be kept full by a file that nobody needs yet.
            let _ = discard(vfs, &layout.fresh());
        }
    }
}

impl Ground {
    /// See [`Room::new`]. Before windows are opened, space is made sure of, also where the file has
    /// bytes already: those may be holes.
    fn new(file: Arc<dyn File>, path: PathBuf, len: u64, mapped_from: Option<u64>) -> Ground {
        let prepared = mapped_from.unwrap_or(len);
        Ground {
            file,
            path,
            prepared,
            allocated: prepared,
            allocates: true,
            filled: len,
            begin: prepared,
            written_back: 0,
        }
    }

    fn allocate(&mut self, end: u64) -> Result<()> {
        if end <= self.allocated {
            return Ok(());
        }
        match self.file.allocate(self.allocated, end - self.allocated) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.allocates = false,
            Err(error) => return Err(Error::io("allocate space in", &self.path, error)),
        }
        self.allocated = end;
        Ok(())
    }

    fn prepare_up_to(&mut self, end: u64, manner: Manner, piece_len: usize) -> Result<()> {
        self.allocate(end)?;
        let (there, piece_len) = match manner {
            Manner::Zeroed => (0, piece_len),
            // Zeros not for the disk's sake: pages that are written in large pieces are made twice as
            // fast as those that a window has to ask for one by one.
            Manner::Mapped => (self.filled.min(end), ZEROS.len()),
            Manner::Allocated => (end, piece_len),
        };
        self.prepared = self.prepared.max(there);
        while self.prepared < end {
            // Pieces end where blocks of their size do, wherever the first begins.
            let piece_end = step_end(self.prepared, STEP_LEN_MIN).min(end);
            let len = usize::try_from(piece_end - self.prepared).unwrap_or(ZEROS.len());
            // Also a write that ends early changes nothing: what it wrote is zeros behind the end.
            write_pieces_at(self.file.as_ref(), self.prepared, &ZEROS[..len], piece_len)
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

/// Pieces for groups of about so many bytes.
fn piece_len_for(group_len: u64) -> usize {
    let fitting = usize::try_from(group_len).unwrap_or(ZEROS.len());
    let fitting = fitting.clamp(PIECE_LEN_MIN, ZEROS.len());
    fitting.next_power_of_two()
}

/// Makes the file for the next segment: its first blocks written and synced, and nothing in it. Here
/// a failed sync loses nothing: the file is deleted.
fn make_fresh_file(vfs: &dyn Vfs, layout: &Layout, len: u64, piece_len: usize) -> Result<()> {
    make_ready_dir(vfs, layout)?;
    let path = layout.fresh();
    discard(vfs, &path)?;
    let file = vfs
        .open(&path, OpenMode::CreateNew)
        .map_err(|error| Error::io("create", &path, error))?;
    let mut ground = Ground::new(file, path, 0, None);
    ground.prepare_up_to(len, Manner::Zeroed, piece_len)?;
    ground
        .file
        .sync_data()
        .map_err(|error| Error::sync(&ground.path, error))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Takes what is written, and notes in which pieces it is to be kept.
    #[derive(Debug, Default)]
    struct Pieces(Mutex<Vec<usize>>);

    impl File for Pieces {
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }
        fn write_at(&self, _: u64, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn write_piece_at(&self, _: u64, data: &[u8], piece_len: usize) -> io::Result<usize> {
            self.0.lock().unwrap().push(piece_len);
            Ok(data.len())
        }
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }
        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn zeros_are_written_in_pieces_that_fit_the_groups() {
        for (group_len, manner, piece_len) in [
            (0, Manner::Zeroed, 4 << 10),
            (400, Manner::Zeroed, 4 << 10),
            (4097, Manner::Zeroed, 8 << 10),
            (33_764, Manner::Zeroed, 64 << 10),
            (u64::MAX, Manner::Zeroed, 64 << 10),
            (400, Manner::Mapped, 64 << 10),
        ] {
            let file = Arc::new(Pieces::default());
            let room = Room::new(Arc::clone(&file) as Arc<dyn File>, PathBuf::new(), 0, None);
            room.expect_groups_of(group_len);
            room.make(100, 1 << 20, manner).unwrap();
            let pieces = file.0.lock().unwrap();
            assert!(!pieces.is_empty());
            assert!(
                pieces.iter().all(|&len| len == piece_len),
                "{pieces:?} for groups of {group_len} bytes, {manner:?}"
            );
        }
    }
}
