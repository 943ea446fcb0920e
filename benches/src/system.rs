//! What only the operating system knows, or can be told: syncs counted where every contender must
//! pass, space, limits, memory.

#![allow(unsafe_code, reason = "calls the C library, and stands in its place")]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::raw::c_int;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

static DATA_SYNCS: AtomicU64 = AtomicU64::new(0);
static FULL_SYNCS: AtomicU64 = AtomicU64::new(0);

/// Stands before the function of the C library for everything that is linked into this program:
/// Duralog, SQLite and the standard library alike. So no contender is asked how often it syncs.
///
/// # Safety
/// None is needed: the kernel checks the number.
#[no_mangle]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    DATA_SYNCS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: takes a number and touches no memory of ours; the C library sets errno as always.
    unsafe { libc::syscall(libc::SYS_fdatasync, fd) as c_int }
}

/// As [`fdatasync`].
///
/// # Safety
/// None is needed: the kernel checks the number.
#[no_mangle]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    FULL_SYNCS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_fsync, fd) as c_int }
}

/// Syncs so far: of data, and of data with all that belongs to the file.
pub fn syncs() -> (u64, u64) {
    (
        DATA_SYNCS.load(Ordering::Relaxed),
        FULL_SYNCS.load(Ordering::Relaxed),
    )
}

/// Bytes that this process has given to write calls.
pub fn written_bytes() -> u64 {
    field(Path::new("/proc/self/io"), "wchar:")
}

fn field(path: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn status(name: &str) -> u64 {
    field(Path::new("/proc/self/status"), name)
}

/// Resident memory now, in bytes.
pub fn resident() -> u64 {
    status("VmRSS:") * 1024
}

/// The most that was resident since [`forget_peak`], in bytes.
pub fn resident_peak() -> u64 {
    status("VmHWM:") * 1024
}

pub fn forget_peak() {
    // Where this is not allowed the peak is that of the whole process, which is no smaller.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

pub fn thread_count() -> u64 {
    status("Threads:")
}

pub fn open_file_count() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// As many files as this process may have.
pub fn allow_many_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a struct of their type that lives through them.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Bytes that an ordinary user can still write where `path` is.
pub fn space_left(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a struct of integers, for which zeros are values.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a text with a NUL, and a struct of the right type, both alive through the call.
    if unsafe { libc::statvfs(path.as_ptr(), &mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Bytes of disk that a file, or all files in a directory, take.
pub fn disk_bytes(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !meta.is_dir() {
        return meta.blocks() * 512;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| disk_bytes(&entry.path())).sum()
}

pub fn file_len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// What was written before is on the disk when this returns, and is in nobody's way.
pub fn settle() {
    // SAFETY: takes nothing and touches no memory of ours.
    unsafe { libc::sync() }
}

/// Processor seconds used so far: by everybody, and by this process and the children that ended.
pub fn processor_seconds() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|number| number.parse().ok())
        .collect();
    // user, nice, system, (idle, iowait,) irq, softirq, steal: in hundredths of a second.
    let busy = [0, 1, 2, 5, 6, 7].map(|index| ticks.get(index).copied().unwrap_or(0.0));
    let own = |who| {
        // SAFETY: a struct of integers, for which zeros are values.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: a struct of the right type that lives through the call.
        unsafe { libc::getrusage(who, &mut usage) };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        seconds(usage.ru_utime) + seconds(usage.ru_stime)
    };
    let own = own(libc::RUSAGE_SELF) + own(libc::RUSAGE_CHILDREN);
    (busy.iter().sum::<f64>() / 100.0, own)
}

/// A whole file as memory, mapped for reading until the process ends.
pub fn map_file(path: &Path) -> std::io::Result<&'static [u8]> {
    let file = std::fs::File::open(path)?;
    let len = file.metadata()?.len() as usize;
    // SAFETY: a fresh mapping, for reading, of an open file; its result is checked before use.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ,
            libc::MAP_SHARED,
            std::os::fd::AsRawFd::as_raw_fd(&file),
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: so many bytes are mapped there and never unmapped; nobody writes to a fixture.
    Ok(unsafe { std::slice::from_raw_parts(address.cast(), len) })
}
