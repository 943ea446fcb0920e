//! What went wrong in the last call that failed, per thread.
//!
//! Written by [`keep`], which only the guard calls; read by `duralog_last_error`, which is the one
//! function that does not go through the guard: its own refusal must not replace what it reports.

#![allow(
    unsafe_code,
    reason = "exports a C symbol and fills a struct of the caller"
)]

use super::sized::{SizedOut, SizedStruct};
use super::status::{duralog_status_t, status_of, OK};
use crate::error::{Error, ErrorKind};
use std::cell::RefCell;
use std::ffi::{c_char, CString};
use std::os::unix::ffi::OsStrExt;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// What went wrong, where, and what was expected and found. Start from DURALOG_ERROR_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct duralog_error_t {
    /// Size of this struct; set by DURALOG_ERROR_INIT.
    pub struct_size: u32,
    /// Status that the call returned; DURALOG_OK if no call of this thread has failed yet.
    pub status: duralog_status_t,
    /// The operating system's error number (errno) if that was the cause, else 0.
    pub os_error: i32,
    /// 0.
    pub reserved: u32,
    /// Number of the segment concerned; 0 if none.
    pub segment: u64,
    /// Offset in that segment's file, in bytes.
    pub offset: u64,
    /// LSN of the place, or of the batch concerned: after DURALOG_E_INDETERMINATE it is the batch
    /// id to ask wal_batch_status for. 0 if none.
    pub lsn: u64,
    /// One sentence in UTF-8, for people: do not parse it. Never NULL.
    pub message: *const c_char,
    /// File or directory concerned, empty if none. Never NULL.
    pub path: *const c_char,
}

// SAFETY: `repr(C)`, `struct_size` first, integers and raw pointers only.
unsafe impl SizedStruct for duralog_error_t {
    const NAME: &'static str = "duralog_error_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

impl duralog_error_t {
    /// "No call has failed."
    pub(super) fn empty() -> duralog_error_t {
        duralog_error_t {
            struct_size: size_u32::<Self>(),
            status: OK,
            os_error: 0,
            reserved: 0,
            segment: 0,
            offset: 0,
            lsn: 0,
            message: c"".as_ptr(),
            path: c"".as_ptr(),
        }
    }
}

/// Size of a struct of the C face, as its `struct_size` holds it.
pub(super) const fn size_u32<T>() -> u32 {
    assert!(size_of::<T>() < 4096);
    #[allow(
        clippy::cast_possible_truncation,
        reason = "below 4096 by the line above"
    )]
    let size = size_of::<T>() as u32;
    size
}

/// An error with its texts in the form C wants. Owns what the pointers point to.
struct Kept {
    error: duralog_error_t,
    _message: CString,
    _path: CString,
}

thread_local! {
    static LAST: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// Makes `error` the last one of this thread and returns its status.
pub(super) fn keep(error: &Error) -> duralog_status_t {
    let place = error.place();
    let message = text(error.to_string().as_bytes());
    let path = text(
        place
            .path
            .as_ref()
            .map_or(&[], |p| p.as_os_str().as_bytes()),
    );
    let status = status_of(error.kind());
    let kept = Kept {
        error: duralog_error_t {
            status,
            os_error: error.os_error().unwrap_or(0),
            segment: place.segment,
            offset: place.offset,
            lsn: place.lsn.0,
            // The heap bytes of a CString do not move with it.
            message: message.as_ptr(),
            path: path.as_ptr(),
            ..duralog_error_t::empty()
        },
        _message: message,
        _path: path,
    };
    // While the thread is being taken down there is no place to keep it, and the status must do.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = Some(kept);
        }
    });
    status
}

/// The bytes up to the first NUL, which no message has and no path can.
fn text(bytes: &[u8]) -> CString {
    let len = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..len]).unwrap_or_default()
}

/// The last error of this thread: that of the last call into this library, on this thread, that
/// failed. Calls that succeed leave it as it is, so ask right after a failure.
///
/// Callable at any time, from any thread; each sees its own errors.
///
/// out_error: filled; may be NULL if only the status is wanted.
///
/// Returns the status of that call, DURALOG_OK if none has failed on this thread;
/// DURALOG_E_INVALID_ARGUMENT, with nothing filled, if struct_size of out_error is wrong. Does not
/// change the last error itself.
///
/// Borrowed until the next call that fails on this thread: message and path.
#[no_mangle]
pub unsafe extern "C" fn duralog_last_error(out_error: *mut duralog_error_t) -> duralog_status_t {
    let body = || {
        let error = LAST
            .try_with(|last| last.try_borrow().ok()?.as_ref().map(|kept| kept.error))
            .ok()
            .flatten()
            .unwrap_or_else(duralog_error_t::empty);
        if !out_error.is_null() {
            // SAFETY: not NULL; the caller promises a struct of the size it says (convention 7).
            match unsafe { SizedOut::new("out_error", out_error) } {
                Ok(out) => out.set(&error),
                Err(refusal) => return status_of(refusal.kind()),
            }
        }
        error.status
    };
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(status_of(ErrorKind::Internal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Place;
    use crate::lsn::Lsn;
    use std::ffi::CStr;
    use std::path::{Path, PathBuf};

    fn last() -> duralog_error_t {
        let mut error = duralog_error_t::empty();
        // SAFETY: a live struct with its own size in it.
        unsafe { duralog_last_error(&raw mut error) };
        error
    }

    #[test]
    fn error_carries_place_path_and_errno() {
        let io = std::io::Error::from_raw_os_error(5);
        keep(&Error::io("read", Path::new("/a/b"), io).at(Place {
            path: Some(PathBuf::from("/a/b")),
            segment: 3,
            offset: 4096,
            lsn: Lsn(77),
        }));
        let error = last();
        assert_eq!(error.status, -5);
        assert_eq!(error.os_error, 5);
        assert_eq!((error.segment, error.offset, error.lsn), (3, 4096, 77));
        // SAFETY: borrowed from this thread's last error, and no call failed since.
        let path = unsafe { CStr::from_ptr(error.path) };
        assert_eq!(path, c"/a/b");
    }

    #[test]
    fn each_thread_has_its_own() {
        keep(&Error::invalid("mine"));
        let other = std::thread::spawn(|| last().status).join().unwrap();
        assert_eq!(other, OK);
        assert_eq!(last().status, -1);
    }

    #[test]
    fn wrong_size_is_refused_without_replacing_the_error() {
        keep(&Error::new(ErrorKind::Busy, "busy"));
        let mut error = duralog_error_t::empty();
        error.struct_size = 8;
        // SAFETY: a live struct that claims less than it has.
        assert_eq!(unsafe { duralog_last_error(&raw mut error) }, -1);
        assert_eq!(last().status, -4);
    }
}
