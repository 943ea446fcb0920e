//! The only door to the operating system.
//!
//! [`Vfs`] has exactly the calls that a log uses. [`os::RealDisk`] is a thin wrapper over Linux;
//! [`sim::SimDisk`] is a disk in memory that can crash. The engine runs unchanged on both, so what
//! is proved on the second holds for the first as far as the two agree (the crash model is that of
//! FORMAT.md section 17).
//!
//! Calls return plain [`io::Result`]: what an error means for the log is decided above.

pub(crate) mod bell;
pub mod os;
#[cfg(feature = "ndjson")]
pub(crate) mod outside;
pub(crate) mod per_process;
pub mod sim;

use crate::error::{Error, ErrorKind};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// How to open a file. A path that names no regular file (a symbolic link, a directory) is refused
/// with an error in every mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// It must exist; reading only.
    Read,
    /// The same, and what the file has now is read through a mapping where there are such. Reading
    /// costs no call then, or few; but bytes that the medium does not give, or that were cut off since, end
    /// the program with a signal (SIGBUS) instead of being an error.
    Mapped,
    /// It must exist; reading and writing.
    ReadWrite,
    /// It must not exist; reading and writing.
    CreateNew,
    /// Made if absent; reading and writing.
    Create,
    /// It must exist; each write goes around the page cache and is durable when it returns
    /// (`O_DIRECT` and `O_DSYNC`). Offset, length and address of what is written are multiples of
    /// [`DIRECT_ALIGNMENT`]. `Unsupported` or `InvalidInput`, here or at the first write, where the
    /// file system can't.
    Direct,
}

/// See [`OpenMode::Direct`]. As much as any disk in use asks for.
pub const DIRECT_ALIGNMENT: usize = 4096;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the directory. Names that are not UTF-8 are left out by `list`.
    pub name: String,
    /// Whether it is a regular file (a symbolic link is not).
    pub is_file: bool,
    /// Whether it is a directory (a symbolic link is not).
    pub is_dir: bool,
}

/// What came of an attempt to take the writer's lock.
pub enum LockOutcome {
    /// It is ours until the guard is dropped.
    Acquired(Box<dyn LockGuard>),
    /// Someone else has it; the text names the holder as far as it can be known.
    Held(String),
}

/// The writer's lock. Dropping it releases the lock.
pub trait LockGuard: Send + Sync {}

/// An open file. All calls are position-based, so that threads may share it.
pub trait File: Send + Sync + fmt::Debug {
    /// Reads up to `buf.len()` bytes at `offset`; 0 at or beyond the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// These bytes are going to be read: what can be fetched meanwhile is. Costs next to nothing where
    /// they are in memory.
    fn expect(&self, offset: u64, len: usize) {
        let _ = (offset, len);
    }
    /// Writes up to `data.len()` bytes at `offset`; may write less.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize>;
    /// The same for bytes that will be written over in about so many at once, a power of two: the page
    /// cache keeps a file in the pieces in which it was written, and goes through all blocks of a piece
    /// whenever any of them is written over or synced.
    fn write_piece_at(&self, offset: u64, data: &[u8], piece_len: usize) -> io::Result<usize> {
        let _ = piece_len;
        self.write_at(offset, data)
    }
    /// The size in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Sets the size in bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space for `len` bytes at `offset` and grows the file to hold them, reading as
    /// zero. `Unsupported` where the file system can't.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// The first place at or behind `offset` at which anything was ever written; `None` if there
    /// is none up to the end. May say `offset` where it does not know.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }
    /// Makes all bytes written before, and the size, survive a power cut.
    fn sync_data(&self) -> io::Result<()>;
    /// Asks for these bytes to be on their way to the disk, so that a sync finds less to do, and
    /// does not wait. Promises nothing; what goes wrong on that way, the next sync reports.
    fn start_write_back(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
    /// Whether bytes that are written again stay where they are on the disk. Where they go
    /// elsewhere (copy on write), blocks written in advance are written for nothing.
    fn overwrites_in_place(&self) -> bool {
        true
    }
    /// A hint that the file is read on from here in order.
    fn read_ahead(&self) {}
    /// Takes a lock on the whole file without waiting, or changes the one that this handle has; false
    /// if others have one that does not go with it. It is given up when the file is closed at the
    /// latest. `Unsupported` where there are no locks.
    fn lock(&self, _lock: FileLock) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Whether others keep everybody out by a lock on the whole file, as [`Vfs::lock`] and
    /// [`FileLock::Exclusive`] do. `Unsupported` where there are no locks.
    fn is_locked(&self) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Maps `len` bytes at `offset`, a multiple of [`MAP_UNIT`], for reading. `Unsupported` where
    /// there are no mappings.
    fn map(&self, _offset: u64, _len: usize) -> io::Result<os::Mapping> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Makes `len` bytes at `offset`, a multiple of [`MAP_UNIT`], ready to be written through memory.
    /// The file must have its space there. Whatever the error, the file is as it was, and calls do the
    /// same; `Unsupported` where there are no windows at all.
    fn window(&self, _offset: u64, _len: usize) -> io::Result<Window> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Mappings and windows begin at multiples of this.
pub const MAP_UNIT: u64 = 4096;

/// A part of a file that is written by storing into memory instead of by calls. What was stored is the
/// file's at once, survives the death of the process as a write does, and is covered by a sync that
/// begins later. A store has no result: where the file can't take it any more (it was cut off, or its
/// file system gave up), it ends the process with a signal (SIGBUS).
#[derive(Debug)]
pub struct Window(WindowKind);

/// On which disk; not a trait, since a window must be had without allocating memory for it.
#[derive(Debug)]
enum WindowKind {
    Real(os::window::RealWindow),
    Sim(sim::SimWindow),
}

impl Window {
    /// The bytes of the file that can be written.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        match &self.0 {
            WindowKind::Real(window) => window.range(),
            WindowKind::Sim(window) => window.range(),
        }
    }

    /// Stores `data` at `offset` of the file.
    ///
    /// # Panics
    /// If not all of it lies in the range.
    pub fn store(&mut self, offset: u64, data: &[u8]) {
        match &mut self.0 {
            WindowKind::Real(window) => window.store(offset, data),
            WindowKind::Sim(window) => window.store(offset, data),
        }
    }
}

/// A lock on a file, of whoever holds a handle to it: also in one process, handles keep each other out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileLock {
    /// None.
    Unlocked,
    /// Beside others of this kind.
    Shared,
    /// Beside none. The file must be open for writing.
    Exclusive,
}

/// A page of 512 words of 8 bytes that processes share (FORMAT.md section 10). Never synced.
pub trait SharedPage: Send + Sync {
    /// Reads one word (index 0..512) with acquire ordering.
    fn load(&self, word: usize) -> u64;
    /// Stores one word (index 0..512) with release ordering.
    fn store(&self, word: usize, value: u64);
}

/// A file system, a clock and a source of randomness.
pub trait Vfs: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Makes one directory; its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Lists a directory, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes all changes of names in `dir` survive a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the writer's lock on `path` (made if absent) without waiting, and writes `holder`
    /// into it for others to read.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<LockOutcome>;
    /// Maps the first 4096 bytes of `path` (made and filled with zeros if absent or shorter),
    /// shared and writable.
    fn map_shared(&self, path: &Path) -> io::Result<Arc<dyn SharedPage>>;
    /// Wall clock, nanoseconds since 1970-01-01 UTC.
    fn now_ns(&self) -> u64;
    /// Nanoseconds of a clock that never goes back; its zero is arbitrary.
    fn monotonic_ns(&self) -> u64;
    /// Fills `buf` with random bytes that others can't guess.
    fn random(&self, buf: &mut [u8]) -> io::Result<()>;
    /// Identity of this boot of the machine (FORMAT.md section 10).
    fn boot_id(&self) -> io::Result<[u8; 16]>;
    /// Counts `fork` calls that led to this process: a handle made under another count is
    /// inherited and refuses to work.
    fn fork_count(&self) -> u64 {
        0
    }
    /// Whether background threads may work on logs of this file system (a simulation wants
    /// everything to happen in calls).
    fn background(&self) -> bool {
        true
    }
}

/// Writes all of `data` at `offset`: goes on after short writes and interruptions, and reports how
/// many bytes were out before a failure, since a failure at the first byte leaves nothing behind.
pub fn write_all_at(
    file: &dyn File,
    offset: u64,
    data: &[u8],
) -> std::result::Result<(), WriteFailure> {
    write_all(offset, data, |offset, data| file.write_at(offset, data))
}

/// The same in pieces: see [`File::write_piece_at`].
pub fn write_pieces_at(
    file: &dyn File,
    offset: u64,
    data: &[u8],
    piece_len: usize,
) -> std::result::Result<(), WriteFailure> {
    let write = |offset, data: &[u8]| file.write_piece_at(offset, data, piece_len);
    write_all(offset, data, write)
}

fn write_all(
    mut offset: u64,
    mut data: &[u8],
    write_at: impl Fn(u64, &[u8]) -> io::Result<usize>,
) -> std::result::Result<(), WriteFailure> {
    let mut written = 0u64;
    let mut interruptions = 0;
    while !data.is_empty() {
        match write_at(offset, data) {
            Ok(0) => {
                return Err(WriteFailure {
                    written,
                    error: io::ErrorKind::WriteZero.into(),
                })
            }
            Ok(n) => {
                let n = n.min(data.len());
                data = &data[n..];
                offset += n as u64;
                written += n as u64;
            }
            Err(error) if is_worth_another_try(&error, &mut interruptions) => {}
            Err(error) => return Err(WriteFailure { written, error }),
        }
    }
    Ok(())
}

/// Interruptions of one transfer that are passed over. More are an error: a file that answers
/// nothing else must not keep the caller for ever.
const INTERRUPTIONS_MAX: u32 = 1000;

fn is_worth_another_try(error: &io::Error, interruptions: &mut u32) -> bool {
    *interruptions += 1;
    error.kind() == io::ErrorKind::Interrupted && *interruptions <= INTERRUPTIONS_MAX
}

/// A write that did not complete.
#[derive(Debug)]
pub struct WriteFailure {
    /// Bytes that the file accepted before.
    pub written: u64,
    /// What stopped it.
    pub error: io::Error,
}

impl WriteFailure {
    /// The error for a write to `path`. Its kind is FULL only if nothing was written, since FULL
    /// means that the file is as it was.
    pub fn into_error(self, path: &Path) -> Error {
        let error = Error::io("write", path, self.error);
        if self.written > 0 && error.is_retryable() {
            return error.into_kind(ErrorKind::Io, "part of it was written");
        }
        error
    }
}

/// Reads at `offset` until `buf` is full or the file ends; returns how many bytes were read.
pub fn read_full_at(file: &dyn File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    let mut interruptions = 0;
    while filled < buf.len() {
        match file.read_at(offset + filled as u64, &mut buf[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if is_worth_another_try(&error, &mut interruptions) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
