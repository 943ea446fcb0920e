//! The log itself: opened and closed.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::{self, Out};
use super::guard::guard;
use super::handle::{self, Handle, Shared};
use super::options::{self, wal_options_t};
use super::status::{duralog_status_t, OK};
use crate::error::{Error, Place};
use crate::wal::Wal;
use std::ffi::c_char;
use std::path::Path;

/// An open log.
///
/// Shared: any number of threads may use one handle at once; appends of several threads share
/// their syncs. Only wal_close must come when no other call with the handle runs or follows.
pub struct wal_t {
    _opaque: [u8; 0],
}

impl Handle for wal_t {
    const NAME: &'static str = "wal_t";
    type Inner = Wal;
    type Ownership = Shared;
}

/// Opens the log in the directory path; recovers it first if its last writer did not close it
/// (wal_recovery_report tells what was found). One handle at a time, of all processes, has a log
/// open for writing.
///
/// path: directory of the log, in the bytes of the file system, with a NUL at its end.
/// options: may be NULL for the defaults.
/// out_wal: the handle, to be closed by wal_close.
///
/// Returns DURALOG_OK;
/// DURALOG_E_BUSY: another handle has it open for writing, the message says who;
/// DURALOG_E_NOT_FOUND, DURALOG_E_EXISTS: as open_flags asked;
/// DURALOG_E_NOT_A_LOG: the directory holds something else;
/// DURALOG_E_NEWER: written by a newer version;
/// DURALOG_E_CORRUPT: damaged, refused for writing; open it with WAL_OPEN_READ_ONLY to read up to
/// the damage, with WAL_RECOVERY_SALVAGE too to read beyond it, or repair it with wal_repair (damage
/// further back than opening looks is found when it is read: see WAL_RECOVERY_STRICT);
/// DURALOG_E_UNCLEAN: as WAL_RECOVERY_STRICT asked;
/// DURALOG_E_INVALID_ARGUMENT: also if application_id is not the log's;
/// DURALOG_E_FULL, DURALOG_E_IO.
#[no_mangle]
pub unsafe extern "C" fn wal_open(
    path: *const c_char,
    options: *const wal_options_t,
    out_wal: *mut *mut wal_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2, 4 and 7: the caller promises a text with a NUL, a struct of the
        // size it says, and a place for a pointer, for the time of this call.
        let (path, options, out_wal) = unsafe {
            (
                args::path(path)?,
                options::wal_options(options)?,
                Out::required("out_wal", out_wal)?,
            )
        };
        let wal = Wal::open(path, &options).map_err(|error| concerning(error, path))?;
        out_wal.set(handle::give_out(wal));
        Ok(OK)
    })
}

/// A log that can't be opened is what the error is about, unless it names a file more closely.
pub(super) fn concerning(error: Error, path: &Path) -> Error {
    let place = error.place();
    if place.path.is_some() {
        return error;
    }
    let path = Some(path.to_path_buf());
    let place = Place {
        path,
        ..place.clone()
    };
    error.at(place)
}

/// Makes everything written durable, marks the log as cleanly closed, and releases the handle,
/// always: also if it reports an error. Cursors of the log are released on their own, before or
/// after. Not while another thread is in a call with the handle.
///
/// wal: may be NULL, which is nothing.
///
/// Returns DURALOG_OK;
/// DURALOG_E_IO, DURALOG_E_FULL and others: this or an earlier write or sync failed; what was not
/// durable before may be lost, and the next wal_open decides.
#[no_mangle]
pub unsafe extern "C" fn wal_close(wal: *mut wal_t) -> duralog_status_t {
    guard(|| {
        if wal.is_null() {
            return Ok(OK);
        }
        // SAFETY: convention 6: the caller promises that the handle is open.
        let inner = unsafe { handle::shared("wal", wal) }?;
        // Released when this goes out of scope: after the log was closed, and also if that panics.
        let _released = Released(wal);
        inner.close()?;
        Ok(OK)
    })
}

struct Released(*mut wal_t);

impl Drop for Released {
    fn drop(&mut self) {
        // SAFETY: convention 6: the caller of `wal_close` promises that the handle is open and
        // that no other call with it runs or follows; `wal_close` makes one of these, once.
        unsafe { handle::release(self.0) };
    }
}
