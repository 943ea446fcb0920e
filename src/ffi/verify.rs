//! Looking through a whole log, and making a damaged one usable again.

#![allow(
    unsafe_code,
    reason = "exports C symbols that take pointers and call back"
)]

use super::args;
use super::guard::guard;
use super::recovery_report::{convert, wal_recovery_report_t};
use super::sized::SizedOut;
use super::status::{duralog_status_t, OK, STOPPED};
use crate::error::{Error, ErrorKind, Result};
use crate::vfs::os::RealDisk;
use crate::wal::Wal;
use std::ffi::{c_char, c_int, c_void};

/// Called by wal_verify, wal_repair, eventstore_open and eventstore_verify_index now and then, on the thread
/// that called them.
///
/// user_data: what was given.
/// done, total: segments walked, and how many there are; of event stores, bytes of the log.
///
/// Returns 0 to go on, anything else to stop.
pub type wal_progress_callback_t =
    Option<unsafe extern "C" fn(user_data: *mut c_void, done: u64, total: u64) -> c_int>;

/// Walks a whole log, every segment and every byte, and reports what it finds. Reads only, takes no
/// lock, needs no handle. Beside a live writer the end looks torn, because it is being written.
///
/// path: directory of the log.
/// callback: told of the progress; may be NULL.
/// user_data: handed to the callback as it is.
/// out_report: filled; verdict says whether the log is in order.
///
/// Returns DURALOG_OK: the report is there, whatever its verdict;
/// DURALOG_STOPPED: the callback asked to stop;
/// DURALOG_E_NOT_FOUND, DURALOG_E_NOT_A_LOG, DURALOG_E_NEWER, DURALOG_E_IO.
///
/// Callable at any time.
#[no_mangle]
pub unsafe extern "C" fn wal_verify(
    path: *const c_char,
    callback: wal_progress_callback_t,
    user_data: *mut c_void,
    out_report: *mut wal_recovery_report_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4 and 7: the caller promises a C string and a struct of the size it
        // says.
        let (path, out_report) =
            unsafe { (args::path(path)?, SizedOut::new("out_report", out_report)?) };
        // SAFETY: convention 8: the caller promises a function of this type that returns.
        let mut progress = unsafe { progress(callback, user_data) };
        let verified = Wal::verify_on(&RealDisk::new(), path, &mut progress);
        finish(verified, |report| out_report.set(&convert(&report)))
    })
}

/// Makes a log that is refused as corrupt usable again: cuts it at the last batch committed before
/// the damage. Everything from there on is dropped from the log, also what was acknowledged; before
/// that, every segment concerned is copied into a directory "dropped-N" inside the log's. The
/// sequence numbers of dropped records are given again. A log that is not corrupt is left alone.
/// What lies behind the damage can be read with WAL_RECOVERY_SALVAGE, before or after.
///
/// path: directory of the log, which nobody may have open for writing.
/// callback: told of the progress; may be NULL.
/// user_data: handed to the callback as it is.
/// out_before: what the whole log looked like before; verdict WAL_VERDICT_CORRUPT if it was
/// repaired. May be NULL.
/// out_after: what it looks like now. May be NULL.
///
/// Returns DURALOG_OK;
/// DURALOG_STOPPED: the callback asked to stop; the log is as it was, or repaired in part;
/// DURALOG_E_BUSY; DURALOG_E_CORRUPT: nothing of it can be used; DURALOG_E_NOT_FOUND,
/// DURALOG_E_NOT_A_LOG, DURALOG_E_NEWER, DURALOG_E_FULL, DURALOG_E_IO.
///
/// Callable at any time.
#[no_mangle]
pub unsafe extern "C" fn wal_repair(
    path: *const c_char,
    callback: wal_progress_callback_t,
    user_data: *mut c_void,
    out_before: *mut wal_recovery_report_t,
    out_after: *mut wal_recovery_report_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4 and 7: the caller promises a C string and structs of the sizes they
        // say.
        let (path, out_before, out_after) = unsafe {
            (
                args::path(path)?,
                optional("out_before", out_before)?,
                optional("out_after", out_after)?,
            )
        };
        // SAFETY: convention 8: the caller promises a function of this type that returns.
        let mut progress = unsafe { progress(callback, user_data) };
        let repaired = Wal::repair_on(&RealDisk::new(), path, &mut progress);
        finish(repaired, |report| {
            if let Some(out_before) = out_before {
                out_before.set(&convert(&report.before));
            }
            if let Some(out_after) = out_after {
                out_after.set(&convert(&report.after));
            }
        })
    })
}

/// # Safety
/// `out` is NULL, or what [`SizedOut::new`] asks for.
unsafe fn optional(
    name: &str,
    out: *mut wal_recovery_report_t,
) -> Result<Option<SizedOut<wal_recovery_report_t>>> {
    if out.is_null() {
        return Ok(None);
    }
    // SAFETY: the same promise.
    unsafe { SizedOut::new(name, out) }.map(Some)
}

/// # Safety
/// `callback` is NULL or may be called with `user_data` as long as the result is used.
pub(super) unsafe fn progress(
    callback: wal_progress_callback_t,
    user_data: *mut c_void,
) -> impl FnMut(u64, u64) -> bool {
    move |done, total| match callback {
        // SAFETY: the promise of this function.
        Some(callback) => (unsafe { callback(user_data, done, total) }) == 0,
        None => true,
    }
}

pub(super) fn finish<T>(
    done: std::result::Result<T, Error>,
    write: impl FnOnce(T),
) -> Result<duralog_status_t> {
    match done {
        Ok(report) => {
            write(report);
            Ok(OK)
        }
        Err(error) if error.kind() == ErrorKind::Stopped => Ok(STOPPED),
        Err(error) => Err(error),
    }
}
