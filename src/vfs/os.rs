//! The real disk: Linux calls, and everything in this library that only Linux has.
//!
//! What is specific: open-file-description locks (`os/locks.rs`), mappings (`os/mapping.rs`,
//! `os/page.rs`, `os/page_table.rs`, `os/window.rs`), descriptors that can be polled
//! (`os/event_fd.rs`), what a file system does with what is overwritten (`os/in_place.rs`), and here
//! `fdatasync`, `fallocate`, `O_DIRECT`, `O_NOFOLLOW`, the boot id. Another system gets a file beside
//! this one.
//!
//! `unsafe` is here and in these files because the calls have no safe form in the standard library.
#![allow(unsafe_code)] // system calls and mappings; each use argues its safety

mod event_fd;
mod in_place;
mod locks;
mod mapping;
mod page;
mod page_table;
pub(super) mod window;

pub(crate) use event_fd::EventFd;
pub use mapping::Mapping;

use super::{DirEntry, File, FileLock, LockOutcome, OpenMode, SharedPage, Vfs, Window};
use crate::sync::OnceLock;
use mapping::MappedFile;
use once_cell::sync::Lazy;
use page::MappedPage;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Length of the tail page, and of every other.
const PAGE_LEN: usize = 4096;

/// Number of forks between the first process that loaded the library and this one.
static FORK_COUNT: AtomicU64 = AtomicU64::new(0);

/// Registers the fork handler once per process.
static FORK_HANDLER: Lazy<()> = Lazy::new(|| {
    extern "C" fn in_child() {
        FORK_COUNT.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler only adds to an atomic, which is allowed between fork and exec; it is a
    // static function and so outlives every fork.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
});

/// The file system of this machine.
#[derive(Debug)]
pub struct RealDisk {
    start: Instant,
    /// Asked for once: a process does not outlive a boot, and readers beside a writer need it often.
    boot_id: OnceLock<[u8; 16]>,
}

impl RealDisk {
    /// The one there is.
    #[must_use]
    pub fn new() -> RealDisk {
        Lazy::force(&FORK_HANDLER);
        RealDisk {
            start: Instant::now(),
            boot_id: OnceLock::new(),
        }
    }
}

impl Default for RealDisk {
    fn default() -> RealDisk {
        RealDisk::new()
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.0.write_at(data, offset)
    }

    fn write_piece_at(&self, offset: u64, data: &[u8], piece_len: usize) -> io::Result<usize> {
        // One call never makes a piece of the cache that is longer than what it writes.
        let to_boundary = piece_len as u64 - offset % piece_len.max(1) as u64;
        let len = usize::try_from(to_boundary).map_or(data.len(), |len| len.min(data.len()));
        self.write_at(offset, &data[..len])
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let (offset, len) = (to_off_t(offset)?, to_off_t(len)?);
        loop {
            // SAFETY: the descriptor is open as long as `self.0` lives; the call takes no pointers.
            if unsafe { libc::fallocate(self.0.as_raw_fd(), 0, offset, len) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EOPNOTSUPP | libc::ENOSYS) => {
                    return Err(io::ErrorKind::Unsupported.into())
                }
                _ => return Err(error),
            }
        }
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        let from = to_off_t(offset)?;
        // SAFETY: the descriptor is open as long as `self.0` lives; the call takes no pointers, and
        // the position that it moves is used by nobody.
        let found = unsafe { libc::lseek(self.0.as_raw_fd(), from, libc::SEEK_DATA) };
        if let Ok(found) = u64::try_from(found) {
            return Ok(Some(found.max(offset)));
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::ENXIO) => Ok(None),
            // A file system that does not know: all of it may be data.
            _ => Ok(Some(offset)),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn start_write_back(&self, offset: u64, len: u64) {
        let (Ok(offset), Ok(len)) = (to_off_t(offset), to_off_t(len)) else {
            return;
        };
        // Neither of the flags that wait: those take note of errors, which a sync through the same
        // descriptor would then not report any more.
        // SAFETY: the descriptor is open as long as `self.0` lives; the call takes no pointers.
        unsafe {
            let fd = self.0.as_raw_fd();
            libc::sync_file_range(fd, offset, len, libc::SYNC_FILE_RANGE_WRITE);
        }
    }

    fn read_ahead(&self) {
        // SAFETY: the descriptor is open as long as `self.0` lives; the call takes no pointers. It is a
        // hint, and what becomes of it changes nothing but the time that reads take.
        unsafe { libc::posix_fadvise(self.0.as_raw_fd(), 0, 0, libc::POSIX_FADV_SEQUENTIAL) };
    }

    fn lock(&self, lock: FileLock) -> io::Result<bool> {
        let kind = match lock {
            FileLock::Unlocked => libc::F_UNLCK,
            FileLock::Shared => libc::F_RDLCK,
            FileLock::Exclusive => libc::F_WRLCK,
        };
        locks::set(&self.0, kind)
    }

    fn is_locked(&self) -> io::Result<bool> {
        locks::is_locked(&self.0)
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        Mapping::new(&self.0, offset, len)
    }

    fn window(&self, offset: u64, len: usize) -> io::Result<Window> {
        window::RealWindow::new(&self.0, offset, len).map(window::RealWindow::into)
    }

    fn overwrites_in_place(&self) -> bool {
        in_place::overwrites_in_place(&self.0)
    }
}

fn to_off_t(value: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))
}

/// Opens without following a symbolic link at the end of the path, and refuses what is no regular
/// file: a device or a directory in place of a segment must be an error, not a surprise.
fn open_regular(path: &Path, options: &mut fs::OpenOptions) -> io::Result<fs::File> {
    open_regular_with(path, options, 0)
}

/// Like [`open_regular`], with further flags.
fn open_regular_with(
    path: &Path,
    options: &mut fs::OpenOptions,
    flags: libc::c_int,
) -> io::Result<fs::File> {
    // O_NONBLOCK keeps a FIFO in place of a file from blocking the open; regular files ignore it.
    let file = options
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK | flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    Ok(file)
}

fn open_mode(mode: OpenMode) -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    match mode {
        OpenMode::Read | OpenMode::Mapped => {}
        OpenMode::ReadWrite => {
            options.write(true);
        }
        OpenMode::CreateNew => {
            options.write(true).create_new(true);
        }
        OpenMode::Create => {
            options.write(true).create(true).truncate(false);
        }
        OpenMode::Direct => {
            options.write(true);
        }
    }
    options
}

impl Vfs for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let flags = match mode {
            OpenMode::Direct => libc::O_DIRECT | libc::O_DSYNC,
            _ => 0,
        };
        let file = RealFile(open_regular_with(path, &mut open_mode(mode), flags)?);
        if mode == OpenMode::Mapped {
            return Ok(Arc::new(MappedFile::new(file)?));
        }
        Ok(Arc::new(file))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry {
                    name,
                    is_file: kind.is_file(),
                    is_dir: kind.is_dir(),
                });
            }
        }
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<LockOutcome> {
        locks::take(
            open_regular(path, &mut open_mode(OpenMode::Create))?,
            holder,
        )
    }

    fn map_shared(&self, path: &Path) -> io::Result<Arc<dyn SharedPage>> {
        let file = open_regular(path, &mut open_mode(OpenMode::Create))?;
        if file.metadata()?.len() < PAGE_LEN as u64 {
            // Written, not only sized: a page without a block would turn a full disk into a
            // signal at the first store.
            super::write_all_at(&RealFile(file.try_clone()?), 0, &[0; PAGE_LEN])
                .map_err(|failure| failure.error)?;
        }
        Ok(Arc::new(MappedPage::new(&file)?))
    }

    fn now_ns(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        fs::File::open("/dev/urandom")?.read_exact(buf)
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        if let Some(id) = self.boot_id.get() {
            return Ok(*id);
        }
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).unwrap_or("0");
            *byte = u8::from_str_radix(pair, 16).unwrap_or(0);
        }
        Ok(*self.boot_id.get_or_init(|| id))
    }

    fn fork_count(&self) -> u64 {
        FORK_COUNT.load(Ordering::Relaxed)
    }
}

/// A line that names this process for whoever finds the log locked.
#[must_use]
pub fn describe_this_process() -> String {
    let name = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    format!("process {} ({})", std::process::id(), name.trim())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_write_in_pieces_ends_where_a_piece_does() {
        let file = RealFile(tempfile::tempfile().unwrap());
        let data = [7; 10_000];
        for (offset, len, written) in [
            (0, 10_000, 4096),
            (100, 10_000, 3996),
            (4096, 4096, 4096),
            (8191, 10_000, 1),
            (5000, 20, 20),
        ] {
            let now = file.write_piece_at(offset, &data[..len], 4096).unwrap();
            assert_eq!(now, written, "{len} bytes at {offset}");
        }
        crate::vfs::write_pieces_at(&file, 100, &data, 4096).unwrap();
        let mut read = [0; 10_000];
        assert_eq!(
            crate::vfs::read_full_at(&file, 100, &mut read).unwrap(),
            10_000
        );
        assert_eq!(read, data);
    }
}
