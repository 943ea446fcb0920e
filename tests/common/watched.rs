//! A disk that a test looks over the shoulder of: how many calls read how much, which threads write
//! which files; and a test may hold a write or an opening up, or do something inside it.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use duralog::vfs::os::Mapping;
use duralog::vfs::{DirEntry, File, FileLock, LockOutcome, OpenMode, SharedPage, Vfs, Window};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// Called before each write, with the path of the file and how many bytes are to be written.
type OnWrite = dyn Fn(&Path, usize) + Send + Sync;

/// Called before each file is opened, with its path.
type OnOpen = dyn Fn(&Path) + Send + Sync;

/// What was read so far, by all files of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadSoFar {
    pub(crate) calls: u64,
    pub(crate) bytes: u64,
    /// Files opened.
    pub(crate) opened: u64,
}

impl ReadSoFar {
    pub(crate) fn since(self, before: ReadSoFar) -> ReadSoFar {
        ReadSoFar {
            calls: self.calls - before.calls,
            bytes: self.bytes - before.bytes,
            opened: self.opened - before.opened,
        }
    }
}

#[derive(Default)]
struct Seen {
    calls: AtomicU64,
    bytes: AtomicU64,
    opened: AtomicU64,
    on_write: Option<Box<OnWrite>>,
    on_open: Option<Box<OnOpen>>,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Watched {
    disk: Arc<dyn Vfs>,
    seen: Arc<Seen>,
    background: bool,
}

impl Watched {
    /// Counts what is read from `disk`.
    pub(crate) fn new(disk: Arc<dyn Vfs>) -> Watched {
        let background = disk.background();
        Watched {
            disk,
            seen: Arc::default(),
            background,
        }
    }

    /// Calls `on_write` before each write.
    pub(crate) fn writing(
        disk: Arc<dyn Vfs>,
        on_write: impl Fn(&Path, usize) + Send + Sync + 'static,
    ) -> Watched {
        let seen = Seen {
            on_write: Some(Box::new(on_write)),
            ..Seen::default()
        };
        Watched {
            seen: Arc::new(seen),
            ..Watched::new(disk)
        }
    }

    /// Calls `on_open` before a file is opened.
    pub(crate) fn opening(
        disk: Arc<dyn Vfs>,
        on_open: impl Fn(&Path) + Send + Sync + 'static,
    ) -> Watched {
        let seen = Seen {
            on_open: Some(Box::new(on_open)),
            ..Seen::default()
        };
        Watched {
            seen: Arc::new(seen),
            ..Watched::new(disk)
        }
    }

    /// The same disk with threads of the library's own, whatever it says of them.
    pub(crate) fn with_threads(self) -> Watched {
        Watched {
            background: true,
            ..self
        }
    }

    pub(crate) fn read_so_far(&self) -> ReadSoFar {
        ReadSoFar {
            calls: self.seen.calls.load(Ordering::SeqCst),
            bytes: self.seen.bytes.load(Ordering::SeqCst),
            opened: self.seen.opened.load(Ordering::SeqCst),
        }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disk.fmt(f)
    }
}

impl Vfs for Watched {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.seen.opened.fetch_add(1, Ordering::SeqCst);
        if let Some(on_open) = &self.seen.on_open {
            on_open(path);
        }
        Ok(Arc::new(WatchedFile {
            file: self.disk.open(path, mode)?,
            path: path.to_owned(),
            seen: Arc::clone(&self.seen),
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.disk.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<LockOutcome> {
        self.disk.lock(path, holder)
    }

    fn map_shared(&self, path: &Path) -> io::Result<Arc<dyn SharedPage>> {
        self.disk.map_shared(path)
    }

    fn now_ns(&self) -> u64 {
        self.disk.now_ns()
    }

    fn monotonic_ns(&self) -> u64 {
        self.disk.monotonic_ns()
    }

    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        self.disk.random(buf)
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        self.disk.boot_id()
    }

    fn fork_count(&self) -> u64 {
        self.disk.fork_count()
    }

    fn background(&self) -> bool {
        self.background
    }
}

#[derive(Clone)]
struct WatchedFile {
    file: Arc<dyn File>,
    path: PathBuf,
    seen: Arc<Seen>,
}

impl fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl File for WatchedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(offset, buf)?;
        self.seen.calls.fetch_add(1, Ordering::SeqCst);
        self.seen.bytes.fetch_add(len as u64, Ordering::SeqCst);
        Ok(len)
    }

    fn expect(&self, offset: u64, len: usize) {
        self.file.expect(offset, len);
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        if let Some(on_write) = &self.seen.on_write {
            on_write(&self.path, data.len());
        }
        self.file.write_at(offset, data)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.file.next_data(offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_write_back(&self, offset: u64, len: u64) {
        self.file.start_write_back(offset, len);
    }

    fn overwrites_in_place(&self) -> bool {
        self.file.overwrites_in_place()
    }

    fn read_ahead(&self) {
        self.file.read_ahead();
    }

    fn lock(&self, lock: FileLock) -> io::Result<bool> {
        self.file.lock(lock)
    }

    fn is_locked(&self) -> io::Result<bool> {
        self.file.is_locked()
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        self.file.map(offset, len)
    }

    fn window(&self, offset: u64, len: usize) -> io::Result<Window> {
        self.file.window(offset, len)
    }
}
