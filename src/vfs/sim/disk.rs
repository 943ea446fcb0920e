//! The simulated machine through the same door as the real one.
//!
//! Every call is one step under one lock, but for syncs and direct writes, which are entered and left
//! in two steps, so that other threads' writes can fall between.

use super::faults::{errno, Call};
use super::machine::error;
use super::names::normal;
use super::SimDisk;
use crate::vfs::{
    DirEntry, File, LockGuard, LockOutcome, OpenMode, SharedPage, Vfs, Window, WindowKind,
    DIRECT_ALIGNMENT, MAP_UNIT,
};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What a look at a clock adds to it.
const CLOCK_STEP_NS: u64 = 1_000;

impl SimDisk {
    fn sync(&self, call: Call, inode: usize, path: &str) -> io::Result<()> {
        let sync = self.machine().enter_sync(call, inode, path)?;
        self.let_others_run();
        self.machine().exit_sync(&sync)
    }

    /// A write through `O_DSYNC`: a write, and a sync of what it wrote and of the file's size, and of
    /// nothing else. It is entered and left in two steps, so that others like it can be under way at
    /// the same time.
    fn write_direct(&self, file: &SimFile, offset: u64, data: &[u8]) -> io::Result<usize> {
        let unaligned = |number: u64| number % DIRECT_ALIGNMENT as u64 != 0;
        if unaligned(offset) || unaligned(data.len() as u64) {
            return Err(error(errno::EINVAL));
        }
        let write = self
            .machine()
            .enter_direct_write(file.inode, &file.path, offset, data)?;
        self.let_others_run();
        self.machine().exit_direct_write(&write)
    }

    /// What happens between the two ends of a sync.
    fn let_others_run(&self) {
        let (work, delay) = {
            let mut beside = self.beside_sync();
            (beside.once.take(), beside.delay)
        };
        if let Some(work) = work {
            work();
        }
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }
}

impl Vfs for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let path = normal(path)?;
        let must_exist = matches!(
            mode,
            OpenMode::Read | OpenMode::Mapped | OpenMode::ReadWrite | OpenMode::Direct
        );
        let inode = self
            .machine()
            .open(&path, must_exist, mode == OpenMode::CreateNew)?;
        let writable = !matches!(mode, OpenMode::Read | OpenMode::Mapped);
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            inode,
            path,
            writable,
            direct: mode == OpenMode::Direct,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.machine().create_dir(&normal(path)?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let entries = self.machine().list(&normal(dir)?)?;
        Ok(entries
            .into_iter()
            .map(|(name, is_file)| DirEntry {
                name,
                is_file,
                is_dir: !is_file,
            })
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.machine().rename(&normal(from)?, &normal(to)?)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.machine().unlink(&normal(path)?)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let path = normal(dir)?;
        let (inode, is_dir) = {
            let machine = self.machine();
            let inode = machine.find(&path)?;
            (inode, machine.inodes[inode].is_dir)
        };
        if !is_dir {
            return Err(error(errno::ENOTDIR));
        }
        self.sync(Call::SyncDir, inode, &path)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<LockOutcome> {
        Ok(match self.machine().lock(&normal(path)?, holder)? {
            Ok((inode, generation)) => LockOutcome::Acquired(Box::new(SimLock {
                disk: self.clone(),
                inode,
                generation,
            })),
            Err(holder) => LockOutcome::Held(holder),
        })
    }

    fn map_shared(&self, path: &Path) -> io::Result<Arc<dyn SharedPage>> {
        let inode = self.machine().map_shared(&normal(path)?)?;
        Ok(Arc::new(SimPage {
            disk: self.clone(),
            inode,
        }))
    }

    fn now_ns(&self) -> u64 {
        let mut machine = self.machine();
        machine.wall_ns = machine.wall_ns.saturating_add(CLOCK_STEP_NS);
        machine.wall_ns
    }

    fn monotonic_ns(&self) -> u64 {
        let mut machine = self.machine();
        machine.monotonic_ns = machine.monotonic_ns.saturating_add(CLOCK_STEP_NS);
        machine.monotonic_ns
    }

    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        self.machine().rng.fill(buf);
        Ok(())
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        Ok(self.machine().boot_id)
    }

    fn background(&self) -> bool {
        false
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    path: String,
    writable: bool,
    direct: bool,
}

impl SimFile {
    fn for_writing(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(error(errno::EBADF))
        }
    }
}

impl File for SimFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.disk
            .machine()
            .read(self.inode, &self.path, offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.for_writing()?;
        if self.direct {
            return self.disk.write_direct(self, offset, data);
        }
        self.disk
            .machine()
            .write(self.inode, &self.path, offset, data)
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.machine().len(self.inode, &self.path)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.for_writing()?;
        self.disk.machine().set_len(self.inode, &self.path, len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.for_writing()?;
        self.disk
            .machine()
            .allocate(self.inode, &self.path, offset, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync(Call::SyncData, self.inode, &self.path)
    }

    fn overwrites_in_place(&self) -> bool {
        !self.disk.machine().copy_on_write
    }

    fn is_locked(&self) -> io::Result<bool> {
        self.disk.machine().is_locked(self.inode, &self.path)
    }

    fn window(&self, offset: u64, len: usize) -> io::Result<Window> {
        self.for_writing()?;
        if offset % MAP_UNIT != 0 {
            return Err(error(errno::EINVAL));
        }
        let range = offset..offset + len as u64;
        self.disk.machine().window(self.inode, &self.path, &range)?;
        Ok(Window(WindowKind::Sim(SimWindow {
            disk: self.disk.clone(),
            inode: self.inode,
            range,
        })))
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile(/{})", self.path)
    }
}

/// A page that is simply the start of its file, in the page cache: whoever reads the file sees it.
struct SimPage {
    disk: SimDisk,
    inode: usize,
}

impl SharedPage for SimPage {
    fn load(&self, word: usize) -> u64 {
        self.disk.machine().load(self.inode, word)
    }

    fn store(&self, word: usize, value: u64) {
        self.disk.machine().store(self.inode, word, value);
    }
}

/// A part of a file in the page cache.
#[derive(Debug)]
pub(in crate::vfs) struct SimWindow {
    disk: SimDisk,
    inode: usize,
    range: Range<u64>,
}

impl SimWindow {
    pub(in crate::vfs) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    pub(in crate::vfs) fn store(&mut self, offset: u64, data: &[u8]) {
        let end = offset.saturating_add(data.len() as u64);
        let inside = self.range.start <= offset && end <= self.range.end;
        assert!(inside, "{} bytes at {offset}, {self:?}", data.len());
        self.disk.machine().store_bytes(self.inode, offset, data);
    }
}

struct SimLock {
    disk: SimDisk,
    inode: usize,
    generation: u64,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.machine().unlock(self.inode, self.generation);
    }
}
