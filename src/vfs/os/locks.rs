//! Locks of whole files: the writer's lock of a log, and who has it.
//!
//! They are open-file-description locks, which belong to the open file and not to the process: a second
//! handle of the same process is kept out like any other, and closing it can't lose the first one's
//! lock.

use super::FORK_COUNT;
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::vfs::per_process::PerProcess;
use crate::vfs::{LockGuard, LockOutcome};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

/// Longest text about a lock's holder that is read back.
const HOLDER_LEN_MAX: u64 = 256;

/// Files (device, inode) whose lock this process holds, each with the fork count at which it got
/// it: tells "another process" from "another handle of this process" in the error that a second
/// writer gets.
static LOCKED_HERE: PerProcess<Mutex<BTreeSet<(u64, u64, u64)>>> = PerProcess::new();

/// Takes the writer's lock without waiting, and writes `holder` into the file for others to read.
pub(super) fn take(mut file: fs::File, holder: &str) -> io::Result<LockOutcome> {
    let id = lock_id(&file.metadata()?);
    if !set(&file, libc::F_WRLCK)? {
        return Ok(LockOutcome::Held(describe_holder(&mut file, id)));
    }
    locked_here().insert(id);
    let guard = RealLock { file, id };
    guard.write_holder(holder)?;
    Ok(LockOutcome::Acquired(Box::new(guard)))
}

/// Takes the lock (`F_WRLCK`, or `F_RDLCK` beside others) without waiting, or gives it up (`F_UNLCK`);
/// false if someone else has it.
pub(super) fn set(file: &fs::File, kind: libc::c_int) -> io::Result<bool> {
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

/// Whether anyone else has the lock.
pub(super) fn is_locked(file: &fs::File) -> io::Result<bool> {
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

/// A whole-file lock as the kernel wants it described.
fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: `flock` is a plain structure of integers, for which all zeros is a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::c_short::try_from(kind).unwrap_or_default();
    lock.l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
    lock
}

fn locked_here() -> MutexGuard<'static, BTreeSet<(u64, u64, u64)>> {
    let here = LOCKED_HERE.get(FORK_COUNT.load(Ordering::Relaxed));
    here.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What [`LOCKED_HERE`] knows a lock file by.
fn lock_id(metadata: &fs::Metadata) -> (u64, u64, u64) {
    let fork_count = FORK_COUNT.load(Ordering::Relaxed);
    (metadata.dev(), metadata.ino(), fork_count)
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
        let _ = set(&self.file, libc::F_UNLCK);
        locked_here().remove(&self.id);
    }
}
