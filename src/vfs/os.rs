//! The real disk: Linux calls, and everything in this library that only Linux has.
//!
//! What is specific: open-file-description locks (a lock that belongs to the open file, so that a
//! second handle of the same process can't lose it), `fdatasync`, `fallocate`, `O_NOFOLLOW`, the
//! boot id, a shared mapping for the tail page, mappings for reading. Another system gets a file
//! beside this one.
//!
//! `unsafe` is here because these calls have no safe form in the standard library.
#![allow(unsafe_code)] // system calls and mappings; each use argues its safety

pub(super) mod window;

use super::{DirEntry, File, FileLock, LockGuard, LockOutcome, OpenMode, SharedPage, Vfs, Window};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use once_cell::sync::Lazy;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Longest text about a lock's holder that is read back.
const HOLDER_LEN_MAX: u64 = 256;
/// Length of the tail page, and of every other.
const PAGE_LEN: usize = 4096;

/// Files (device, inode) whose lock this process holds, each with the fork count at which it got
/// it: tells "another process" from "another handle of this process" in the error that a second
/// writer gets. A child inherits the set, but what it says of an earlier count is about its parent.
static LOCKED_HERE: Lazy<Mutex<BTreeSet<(u64, u64, u64)>>> = Lazy::new(Mutex::default);

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
}

impl RealDisk {
    /// The one there is.
    #[must_use]
    pub fn new() -> RealDisk {
        Lazy::force(&FORK_HANDLER);
        RealDisk {
            start: Instant::now(),
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
        set_lock(&self.0, kind)
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        Mapping::new(&self.0, offset, len)
    }

    fn window(&self, offset: u64, len: usize) -> io::Result<Window> {
        window::RealWindow::new(&self.0, offset, len).map(window::RealWindow::into)
    }

    fn overwrites_in_place(&self) -> bool {
        let fd = self.0.as_raw_fd();
        // SAFETY: a plain structure of integers, for which all zeros is a valid value.
        let mut about: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open, and `about` is exclusively ours while it is filled in.
        if unsafe { libc::fstatfs(fd, &raw mut about) } != 0 {
            return true;
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the width of the field differs between systems; the numbers have 32 bits"
        )]
        let file_system = about.f_type as u32;
        let mut flags: libc::c_uint = 0;
        // SAFETY: as above; the call writes the 32 bits of `flags` and nothing else.
        let asked = unsafe { libc::ioctl(fd, GET_FILE_FLAGS, &raw mut flags) };
        stays_in_place(file_system, (asked == 0).then_some(flags))
    }
}

/// Asks for the flags of a file (`FS_IOC_GETFLAGS`); the number says `long`, the answer is an `int`.
const GET_FILE_FLAGS: libc::Ioctl = 0x8008_6601;
/// This file is overwritten in place although the others are not (`FS_NOCOW_FL`, `chattr +C`).
const FILE_FLAG_NO_COPY: u32 = 0x0080_0000;
/// File systems that write elsewhere what is overwritten, as `statfs` names them. XFS with shared
/// blocks is none: a log's blocks are shared with nobody.
const COPY_ON_WRITE: [u32; 3] = [
    0x9123_683E, // btrfs
    0x2FC1_2FC1, // ZFS
    0xCA45_1A4E, // bcachefs
];

/// See [`File::overwrites_in_place`]; `flags` are those of the file, where they are known.
fn stays_in_place(file_system: u32, flags: Option<u32>) -> bool {
    !COPY_ON_WRITE.contains(&file_system)
        || flags.is_some_and(|flags| flags & FILE_FLAG_NO_COPY != 0)
}

/// A file whose bytes, as many as it had when it was opened, are read through a mapping; others are
/// read as those of every file.
#[derive(Debug)]
struct MappedFile {
    file: RealFile,
    address: *const u8,
    len: usize,
    /// A bit per window, set by who first reads in it. Setting one twice does no harm.
    windows_seen: Box<[AtomicU64]>,
}

// SAFETY: the mapping is only read, and only by copying out of it, which any thread may do; it lives
// as long as the value, whichever thread drops it.
unsafe impl Send for MappedFile {}
// SAFETY: as above.
unsafe impl Sync for MappedFile {}

/// What a processor fetches at once.
const CACHE_LINE_LEN: usize = 64;
/// Part of a mapping whose pages are entered into the page table together.
const WINDOW_LEN: usize = 2 << 20;

impl MappedFile {
    fn new(file: RealFile) -> io::Result<MappedFile> {
        let len = usize::try_from(file.len()?)
            .map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
        if len == 0 {
            // There is no mapping of nothing.
            return Ok(MappedFile {
                file,
                address: std::ptr::null(),
                len,
                windows_seen: Box::default(),
            });
        }
        // SAFETY: a fresh mapping of an open regular file, for reading; null lets the kernel choose
        // the place, so no existing mapping is touched. The result is checked before use.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.0.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = len.div_ceil(WINDOW_LEN).div_ceil(64);
        Ok(MappedFile {
            file,
            address: address.cast_const().cast(),
            len,
            windows_seen: (0..words).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// Enters the pages of the window around `offset` into the page table, if they are all in memory
    /// already: one call instead of a fault per few pages. What is not in memory comes with its fault:
    /// who wants one event must not wait for 2 MiB.
    fn enter_window(&self, offset: usize) {
        let window = offset / WINDOW_LEN;
        let Some(word) = self.windows_seen.get(window / 64) else {
            return;
        };
        let bit = 1 << (window % 64);
        if word.load(Ordering::Relaxed) & bit != 0 {
            return;
        }
        word.fetch_or(bit, Ordering::Relaxed);
        let begin = window * WINDOW_LEN;
        let len = WINDOW_LEN.min(self.len.saturating_sub(begin));
        let mut in_memory = [0u8; WINDOW_LEN / PAGE_LEN];
        // SAFETY: the window begins inside of the mapping, at a page, and goes no further than it;
        // the kernel writes one byte per page of it, for which there is room. The second call reads
        // pages into the page table, and gives an error instead of a signal where that fails.
        unsafe {
            let address = self.address.add(begin).cast_mut().cast();
            if libc::mincore(address, len, in_memory.as_mut_ptr()) != 0 {
                return;
            }
            let pages = in_memory.iter().take(len.div_ceil(PAGE_LEN));
            if pages.copied().all(|page| page & 1 != 0) {
                libc::madvise(address, len, libc::MADV_POPULATE_READ);
            }
        }
    }

    /// How many of `len` bytes at `offset` are mapped, from where on.
    fn mapped(&self, offset: u64, len: usize) -> Option<(*const u8, usize)> {
        let offset = usize::try_from(offset).ok()?;
        let there = self.len.checked_sub(offset)?.min(len);
        self.enter_window(offset);
        // SAFETY: `offset` is at most `self.len`, so the result is inside of the mapping or right
        // behind it.
        (there > 0).then(|| (unsafe { self.address.add(offset) }, there))
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: unmaps exactly what `new` mapped; nothing refers to it but `self`.
            unsafe { libc::munmap(self.address.cast_mut().cast(), self.len) };
        }
    }
}

impl File for MappedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Some((from, len)) = self.mapped(offset, buf.len()) else {
            return self.file.read_at(offset, buf);
        };
        // SAFETY: `from` is followed by `len` mapped bytes, `len` is at most that of `buf`, and `buf`
        // is memory of ours, so they don't overlap. Other processes may write to the file meanwhile:
        // that makes the copy a mixture, which checksums find, and no reference into the mapping
        // exists whose promise it would break. A page that can't be had is a signal, as `OpenMode`
        // says.
        unsafe { std::ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), len) };
        Ok(len)
    }

    fn expect(&self, offset: u64, len: usize) {
        let Some((from, len)) = self.mapped(offset, len) else {
            return;
        };
        for line in (0..len).step_by(CACHE_LINE_LEN) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `line` is less than `len`, so the address is inside of the mapping. The
            // instruction is a hint: it reads nothing into the program and never faults.
            unsafe {
                use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
                _mm_prefetch::<_MM_HINT_T0>(from.add(line).cast());
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = (from, line);
        }
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
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
        let mut file = open_regular(path, &mut open_mode(OpenMode::Create))?;
        let metadata = file.metadata()?;
        let id = lock_id(&metadata);
        if !set_lock(&file, libc::F_WRLCK)? {
            return Ok(LockOutcome::Held(describe_holder(&mut file, id)));
        }
        locked_here().insert(id);
        let guard = RealLock { file, id };
        guard.write_holder(holder)?;
        Ok(LockOutcome::Acquired(Box::new(guard)))
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        let mut file = match open_regular(path, &mut open_mode(OpenMode::Read)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if !is_locked(&file)? {
            return Ok(None);
        }
        let id = lock_id(&metadata);
        Ok(Some(describe_holder(&mut file, id)))
    }

    fn map_shared(&self, path: &Path) -> io::Result<Arc<dyn SharedPage>> {
        let file = open_regular(path, &mut open_mode(OpenMode::Create))?;
        if file.metadata()?.len() < PAGE_LEN as u64 {
            // Written, not only sized: a page without a block would turn a full disk into a
            // signal at the first store.
            super::write_all_at(&RealFile(file.try_clone()?), 0, &[0; PAGE_LEN])
                .map_err(|failure| failure.error)?;
        }
        // SAFETY: a fresh shared mapping of one page of an open regular file; null lets the kernel
        // choose the place, so no existing mapping is touched. The result is checked before use.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE_LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Arc::new(MappedPage {
            words: address.cast(),
        }))
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
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).unwrap_or("0");
            *byte = u8::from_str_radix(pair, 16).unwrap_or(0);
        }
        Ok(id)
    }

    fn fork_count(&self) -> u64 {
        FORK_COUNT.load(Ordering::Relaxed)
    }
}

fn locked_here() -> MutexGuard<'static, BTreeSet<(u64, u64, u64)>> {
    LOCKED_HERE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What [`LOCKED_HERE`] knows a lock file by.
fn lock_id(metadata: &fs::Metadata) -> (u64, u64, u64) {
    let fork_count = FORK_COUNT.load(Ordering::Relaxed);
    (metadata.dev(), metadata.ino(), fork_count)
}

/// A whole-file write lock as the kernel wants it described.
fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: `flock` is a plain structure of integers, for which all zeros is a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::c_short::try_from(kind).unwrap_or_default();
    lock.l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
    lock
}

/// Takes the lock (`F_WRLCK`, or `F_RDLCK` beside others) without waiting, or gives it up (`F_UNLCK`);
/// false if someone else has it.
fn set_lock(file: &fs::File, kind: libc::c_int) -> io::Result<bool> {
    let lock = whole_file(kind);
    // SAFETY: the descriptor is open, and `lock` lives through the call, which only reads it.
    let outcome = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if outcome == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

/// Whether anyone has the lock.
fn is_locked(file: &fs::File) -> io::Result<bool> {
    // A read lock is asked about, because the file may be open for reading only; it conflicts
    // with the writer's all the same.
    let mut lock = whole_file(libc::F_RDLCK);
    // SAFETY: the descriptor is open, and `lock` is exclusively ours while the call fills it in.
    let outcome = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}

fn describe_holder(file: &mut fs::File, id: (u64, u64, u64)) -> String {
    let mut text = String::new();
    let _ = file.take(HOLDER_LEN_MAX).read_to_string(&mut text);
    let text = text.lines().next().unwrap_or("").trim();
    match (locked_here().contains(&id), text.is_empty()) {
        (true, _) => format!("another handle of this process ({})", std::process::id()),
        (false, true) => "another process".to_string(),
        (false, false) => text.to_string(),
    }
}

/// The lock lives as long as the file is open: the kernel drops it with the last descriptor, also
/// when the process is killed. A child made by fork has such a descriptor too, so the lock is given
/// up by word as well.
struct RealLock {
    file: fs::File,
    id: (u64, u64, u64),
}

impl RealLock {
    fn write_holder(&self, holder: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        (&self.file).write_all(holder.as_bytes())?;
        (&self.file).write_all(b"\n")
    }
}

impl LockGuard for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        if FORK_COUNT.load(Ordering::Relaxed) != self.id.2 {
            // A child's copy: the lock is its parent's.
            return;
        }
        // Without this the log would stay locked as long as any child lives that was forked while
        // it was open. A failure leaves the lock to the kernel, as above.
        let _ = set_lock(&self.file, libc::F_UNLCK);
        locked_here().remove(&self.id);
    }
}

/// Bytes of a file, looked at in place.
///
/// They are the file's as long as this lives, whatever becomes of its name. Where the file can't be read,
/// or is shorter by now, looking at them ends the process with SIGBUS.
#[derive(Debug)]
pub struct Mapping {
    address: *const u8,
    len: usize,
}

// SAFETY: it only gives out shared references to bytes that nobody changes (see `bytes`), which any
// thread may use.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: &fs::File, offset: u64, len: usize) -> io::Result<Mapping> {
        let offset = to_off_t(offset)?;
        // SAFETY: a fresh mapping, for reading, of an open regular file; null lets the kernel choose
        // the place, so no existing mapping is touched. The result is checked before use.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                // All at once: one by one, finding the pages takes longer than looking at them.
                libc::MAP_SHARED | libc::MAP_POPULATE,
                file.as_raw_fd(),
                offset,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping {
            address: address.cast(),
            len,
        })
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has `len` readable bytes at `address`, which is not null, and lives as long
        // as the borrow of `self`. That they do not change meanwhile is what the log sees to: only
        // bytes below the end of a sealed segment are looked at, no writer writes there again, and
        // none uses the file again for something else while its reader holds the shared lock on it. A
        // program that writes into a log's files against all rules can break this; it could as well
        // write into the memory of this process.
        unsafe { std::slice::from_raw_parts(self.address, self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped; no reference into it outlives `self`.
        unsafe { libc::munmap(self.address.cast_mut().cast(), self.len) };
    }
}

/// One shared page of 512 words.
struct MappedPage {
    words: *mut AtomicU64,
}

// SAFETY: the page is only ever accessed through atomics, which any thread may do.
unsafe impl Send for MappedPage {}
// SAFETY: as above.
unsafe impl Sync for MappedPage {}

impl MappedPage {
    fn word(&self, index: usize) -> &AtomicU64 {
        let index = index.min(PAGE_LEN / 8 - 1);
        // SAFETY: the mapping is page-aligned, 4096 bytes long and lives until drop, and `index`
        // is below 512; all access to it in this process is through atomics, and other processes
        // can only change values, which atomics allow.
        unsafe { &*self.words.add(index) }
    }
}

impl SharedPage for MappedPage {
    fn load(&self, word: usize) -> u64 {
        u64::from_le(self.word(word).load(Ordering::Acquire))
    }

    fn store(&self, word: usize, value: u64) {
        self.word(word).store(value.to_le(), Ordering::Release);
    }
}

impl Drop for MappedPage {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `map_shared` mapped; no reference into it outlives `self`.
        unsafe { libc::munmap(self.words.cast(), PAGE_LEN) };
    }
}

/// A counter that `poll` finds readable while it is not 0 (eventfd).
#[derive(Debug)]
pub(crate) struct EventFd(fs::File);

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(EventFd(unsafe { fs::File::from_raw_fd(fd) }))
    }

    pub(crate) fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Makes it readable. Fails only if it is so already, to the limit.
    pub(crate) fn signal(&self) {
        let _ = io::Write::write(&mut &self.0, &1u64.to_ne_bytes());
    }

    /// Makes it not readable. Fails only if it is not.
    pub(crate) fn drain(&self) {
        let _ = io::Read::read(&mut &self.0, &mut [0; 8]);
    }
}

/// A line that names this process for whoever finds the log locked.
#[must_use]
pub fn describe_this_process() -> String {
    let name = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    format!("process {} ({})", std::process::id(), name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_that_is_rung_while_it_is_silenced_is_heard() {
        use crate::vfs::bell::Bell;
        use std::sync::atomic::{AtomicU64, Ordering};
        const RINGS: u64 = 3_000_000;
        let bell = Bell::new().unwrap();
        let happened = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..RINGS {
                    happened.fetch_add(1, Ordering::SeqCst);
                    bell.ring();
                }
            });
            while happened.load(Ordering::SeqCst) < RINGS {
                let mut poll = libc::pollfd {
                    fd: bell.fd(),
                    events: libc::POLLIN,
                    revents: 0,
                };
                // SAFETY: one structure, which lives through the call.
                let readable = unsafe { libc::poll(&raw mut poll, 1, 20_000) } == 1;
                bell.silence();
                let seen = happened.load(Ordering::SeqCst);
                assert!(readable, "nobody rings after {seen} of {RINGS}");
            }
        });
    }

    #[test]
    fn copy_on_write_is_known_by_the_file_system_and_by_the_flag_of_the_file() {
        let (ext4, xfs, tmpfs) = (0xEF53, 0x5846_5342, 0x0102_1994);
        for file_system in [ext4, xfs, tmpfs, 0] {
            assert!(stays_in_place(file_system, None));
            assert!(stays_in_place(file_system, Some(0)));
        }
        for file_system in COPY_ON_WRITE {
            assert!(!stays_in_place(file_system, None));
            assert!(!stays_in_place(file_system, Some(0x10)));
            assert!(stays_in_place(file_system, Some(FILE_FLAG_NO_COPY | 0x10)));
        }
    }
}
