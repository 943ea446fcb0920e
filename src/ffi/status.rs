//! The numbers that functions return, and their names.
//!
//! One row per [`ErrorKind`] and the same number: [`status_of`] is an exhaustive match, so a new
//! kind does not compile without its number here, and a test compares the values.

#![allow(
    unsafe_code,
    reason = "exports a C symbol; nothing here is unsafe to call"
)]

use crate::error::ErrorKind;
use std::ffi::{c_char, CStr};

/// What most functions return: a number of duralog_status_code_t. 0 is success, a positive number
/// is another regular outcome, a negative one an error. A number is never used again for something
/// else, and new ones may come: treat an unknown negative number as an error.
pub type duralog_status_t = i32;

/// The values of duralog_status_t.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum duralog_status_code_t {
    /// Done.
    DURALOG_OK = 0,
    /// A cursor is at the end; later calls may find more.
    DURALOG_END = 1,
    /// The callback asked to stop.
    DURALOG_STOPPED = 2,
    /// An argument is not allowed; nothing was done.
    DURALOG_E_INVALID_ARGUMENT = -1,
    /// There is no log, or no such thing in it.
    DURALOG_E_NOT_FOUND = -2,
    /// There is something already where it must not be.
    DURALOG_E_EXISTS = -3,
    /// Another handle or process has the log open for writing; the message names it.
    DURALOG_E_BUSY = -4,
    /// The operating system reported an error on a file: see os_error of duralog_error_t.
    DURALOG_E_IO = -5,
    /// There is no space left. Nothing was written, and the handle stays usable.
    DURALOG_E_FULL = -6,
    /// Data that was acknowledged, or the structure of the log, is damaged: see segment, offset
    /// and lsn of duralog_error_t.
    DURALOG_E_CORRUPT = -7,
    /// The files are not a Duralog log.
    DURALOG_E_NOT_A_LOG = -8,
    /// The files were written by a newer version, with features unknown here.
    DURALOG_E_NEWER = -9,
    /// A record or a piece of data is over its limit; nothing was written.
    DURALOG_E_TOO_LARGE = -10,
    /// A batch without records; nothing was written.
    DURALOG_E_EMPTY_BATCH = -11,
    /// The handle was opened for reading only.
    DURALOG_E_READ_ONLY = -12,
    /// An earlier write or sync failed; the handle writes nothing more until the log is reopened.
    DURALOG_E_POISONED = -13,
    /// The write or sync of this very call failed: the batch may be there or not, and only
    /// reopening tells (wal_batch_status).
    DURALOG_E_INDETERMINATE = -14,
    /// The records asked for were truncated.
    DURALOG_E_TRUNCATED = -15,
    /// The handle was inherited through fork and is of no use in the child.
    DURALOG_E_FORKED = -16,
    /// The log was closed.
    DURALOG_E_CLOSED = -17,
    /// Memory could not be had; nothing was written.
    DURALOG_E_NO_MEMORY = -18,
    /// The time given was over first.
    DURALOG_E_TIMEOUT = -19,
    /// This system or file system can't do it.
    DURALOG_E_UNSUPPORTED = -20,
    /// A defect of the library. It was caught, and the log writes nothing more until reopened.
    DURALOG_E_INTERNAL = -21,
    /// The log has an unclean end, and WAL_RECOVERY_STRICT refuses it.
    DURALOG_E_UNCLEAN = -22,
    /// The buffer given is too small; the length needed was reported.
    DURALOG_E_BUFFER_TOO_SMALL = -23,
    /// A precondition of an append to an event store did not hold; nothing was written.
    DURALOG_E_CONFLICT = -24,
    /// Events of an append, or its idempotency key, are in the store already, but not as they were
    /// given; nothing was written.
    DURALOG_E_DUPLICATE = -25,
    /// A line of a file can't be imported; nothing of its batch was.
    DURALOG_E_BAD_LINE = -26,
}

use duralog_status_code_t::*;

pub(super) const OK: duralog_status_t = DURALOG_OK as duralog_status_t;
pub(super) const END: duralog_status_t = DURALOG_END as duralog_status_t;
pub(super) const STOPPED: duralog_status_t = DURALOG_STOPPED as duralog_status_t;

/// The number of an error in C.
pub(super) fn status_of(kind: ErrorKind) -> duralog_status_t {
    let code = match kind {
        ErrorKind::Stopped => DURALOG_STOPPED,
        ErrorKind::InvalidArgument => DURALOG_E_INVALID_ARGUMENT,
        ErrorKind::NotFound => DURALOG_E_NOT_FOUND,
        ErrorKind::Exists => DURALOG_E_EXISTS,
        ErrorKind::Busy => DURALOG_E_BUSY,
        ErrorKind::Io => DURALOG_E_IO,
        ErrorKind::Full => DURALOG_E_FULL,
        ErrorKind::Corrupt => DURALOG_E_CORRUPT,
        ErrorKind::NotALog => DURALOG_E_NOT_A_LOG,
        ErrorKind::Newer => DURALOG_E_NEWER,
        ErrorKind::TooLarge => DURALOG_E_TOO_LARGE,
        ErrorKind::EmptyBatch => DURALOG_E_EMPTY_BATCH,
        ErrorKind::ReadOnly => DURALOG_E_READ_ONLY,
        ErrorKind::Poisoned => DURALOG_E_POISONED,
        ErrorKind::Indeterminate => DURALOG_E_INDETERMINATE,
        ErrorKind::Truncated => DURALOG_E_TRUNCATED,
        ErrorKind::Forked => DURALOG_E_FORKED,
        ErrorKind::Closed => DURALOG_E_CLOSED,
        ErrorKind::NoMemory => DURALOG_E_NO_MEMORY,
        ErrorKind::Timeout => DURALOG_E_TIMEOUT,
        ErrorKind::Unsupported => DURALOG_E_UNSUPPORTED,
        ErrorKind::Internal => DURALOG_E_INTERNAL,
        ErrorKind::Unclean => DURALOG_E_UNCLEAN,
        ErrorKind::BufferTooSmall => DURALOG_E_BUFFER_TOO_SMALL,
        ErrorKind::Conflict => DURALOG_E_CONFLICT,
        ErrorKind::Duplicate => DURALOG_E_DUPLICATE,
        ErrorKind::BadLine => DURALOG_E_BAD_LINE,
    };
    code as duralog_status_t
}

/// Every number with its name, in the order of the header.
const NAMES: [(duralog_status_code_t, &CStr); 29] = [
    (DURALOG_OK, c"DURALOG_OK"),
    (DURALOG_END, c"DURALOG_END"),
    (DURALOG_STOPPED, c"DURALOG_STOPPED"),
    (DURALOG_E_INVALID_ARGUMENT, c"DURALOG_E_INVALID_ARGUMENT"),
    (DURALOG_E_NOT_FOUND, c"DURALOG_E_NOT_FOUND"),
    (DURALOG_E_EXISTS, c"DURALOG_E_EXISTS"),
    (DURALOG_E_BUSY, c"DURALOG_E_BUSY"),
    (DURALOG_E_IO, c"DURALOG_E_IO"),
    (DURALOG_E_FULL, c"DURALOG_E_FULL"),
    (DURALOG_E_CORRUPT, c"DURALOG_E_CORRUPT"),
    (DURALOG_E_NOT_A_LOG, c"DURALOG_E_NOT_A_LOG"),
    (DURALOG_E_NEWER, c"DURALOG_E_NEWER"),
    (DURALOG_E_TOO_LARGE, c"DURALOG_E_TOO_LARGE"),
    (DURALOG_E_EMPTY_BATCH, c"DURALOG_E_EMPTY_BATCH"),
    (DURALOG_E_READ_ONLY, c"DURALOG_E_READ_ONLY"),
    (DURALOG_E_POISONED, c"DURALOG_E_POISONED"),
    (DURALOG_E_INDETERMINATE, c"DURALOG_E_INDETERMINATE"),
    (DURALOG_E_TRUNCATED, c"DURALOG_E_TRUNCATED"),
    (DURALOG_E_FORKED, c"DURALOG_E_FORKED"),
    (DURALOG_E_CLOSED, c"DURALOG_E_CLOSED"),
    (DURALOG_E_NO_MEMORY, c"DURALOG_E_NO_MEMORY"),
    (DURALOG_E_TIMEOUT, c"DURALOG_E_TIMEOUT"),
    (DURALOG_E_UNSUPPORTED, c"DURALOG_E_UNSUPPORTED"),
    (DURALOG_E_INTERNAL, c"DURALOG_E_INTERNAL"),
    (DURALOG_E_UNCLEAN, c"DURALOG_E_UNCLEAN"),
    (DURALOG_E_BUFFER_TOO_SMALL, c"DURALOG_E_BUFFER_TOO_SMALL"),
    (DURALOG_E_CONFLICT, c"DURALOG_E_CONFLICT"),
    (DURALOG_E_DUPLICATE, c"DURALOG_E_DUPLICATE"),
    (DURALOG_E_BAD_LINE, c"DURALOG_E_BAD_LINE"),
];

/// Name of a status, such as "DURALOG_E_BUSY"; "DURALOG_E_UNKNOWN" for a number that is none.
///
/// Callable at any time, from any thread.
///
/// Returns a static text, never NULL.
#[no_mangle]
pub extern "C" fn duralog_status_name(status: duralog_status_t) -> *const c_char {
    NAMES
        .iter()
        .find(|(code, _)| *code as duralog_status_t == status)
        .map_or(c"DURALOG_E_UNKNOWN", |(_, name)| *name)
        .as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each; that none is missing follows from the count, as no two have one number.
    const KINDS: [ErrorKind; 26] = [
        ErrorKind::InvalidArgument,
        ErrorKind::NotFound,
        ErrorKind::Exists,
        ErrorKind::Busy,
        ErrorKind::Io,
        ErrorKind::Full,
        ErrorKind::Corrupt,
        ErrorKind::NotALog,
        ErrorKind::Newer,
        ErrorKind::TooLarge,
        ErrorKind::EmptyBatch,
        ErrorKind::ReadOnly,
        ErrorKind::Poisoned,
        ErrorKind::Indeterminate,
        ErrorKind::Truncated,
        ErrorKind::Forked,
        ErrorKind::Closed,
        ErrorKind::NoMemory,
        ErrorKind::Timeout,
        ErrorKind::Unsupported,
        ErrorKind::Internal,
        ErrorKind::Unclean,
        ErrorKind::BufferTooSmall,
        ErrorKind::Conflict,
        ErrorKind::Duplicate,
        ErrorKind::BadLine,
    ];

    #[test]
    fn c_numbers_are_those_of_the_error_kinds() {
        for kind in KINDS {
            assert_eq!(status_of(kind), kind as i32, "{kind:?}");
        }
        let errors = NAMES.iter().filter(|(code, _)| (*code as i32) < 0).count();
        assert_eq!(errors, KINDS.len());
    }

    #[test]
    fn each_number_has_its_own_name_and_an_unknown_one_says_so() {
        for (code, name) in NAMES {
            assert_eq!(name.to_str().unwrap(), format!("{code:?}"));
            // SAFETY: a static text with a NUL.
            let found = unsafe { CStr::from_ptr(duralog_status_name(code as i32)) };
            assert_eq!(found, name);
        }
        for unknown in [3, -27, i32::MIN, i32::MAX] {
            // SAFETY: a static text with a NUL.
            let found = unsafe { CStr::from_ptr(duralog_status_name(unknown)) };
            assert_eq!(found, c"DURALOG_E_UNKNOWN");
        }
    }
}
