//! The one error of the library: what went wrong, where, and what was expected and found.
//!
//! Callers ask questions ([`Error::is_corrupt`], [`Error::kind`]) and never parse the text. Every
//! kind has a number of its own in the C face (`DURALOG_E_…`), which is never used again for
//! something else.

use crate::lsn::Lsn;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Shorthand for results of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it was. The numbers are those of the C face.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i32)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller's own callback asked to stop: in C no error but a regular outcome.
    Stopped = 2,
    /// An argument is not allowed; nothing was done.
    InvalidArgument = -1,
    /// There is no log, or no such thing in it.
    NotFound = -2,
    /// There is something already where it must not be.
    Exists = -3,
    /// Another handle or process has the log open for writing.
    Busy = -4,
    /// The operating system reported an error on a file.
    Io = -5,
    /// There is no space left; nothing was written, the handle stays usable.
    Full = -6,
    /// Data that was acknowledged, or the structure of the log, is damaged.
    Corrupt = -7,
    /// The files are not a Duralog log.
    NotALog = -8,
    /// The files were written by a newer version with features unknown here.
    Newer = -9,
    /// A record or a piece of data is over its limit; nothing was written.
    TooLarge = -10,
    /// A batch without records; nothing was written.
    EmptyBatch = -11,
    /// The handle was opened for reading only.
    ReadOnly = -12,
    /// An earlier write or sync failed; the handle accepts nothing more until it is reopened.
    Poisoned = -13,
    /// The write or sync of this very batch failed: only reopening tells whether it is there.
    Indeterminate = -14,
    /// The records asked for were truncated.
    Truncated = -15,
    /// The handle was inherited through `fork` and is of no use in the child.
    Forked = -16,
    /// The handle was closed.
    Closed = -17,
    /// Memory could not be had; nothing was written.
    NoMemory = -18,
    /// The time given was over first.
    Timeout = -19,
    /// This system or file system can't do it.
    Unsupported = -20,
    /// A defect of the library; the handle is poisoned.
    Internal = -21,
    /// The log has an unclean end and the strict policy refuses it.
    Unclean = -22,
    /// The caller's buffer is too small; the length needed was reported.
    BufferTooSmall = -23,
    /// A precondition of an append to the event store did not hold; nothing was written. See
    /// [`Error::conflicts`].
    Conflict = -24,
    /// Some events of an append, or its idempotency key, are in the store already, but not as they
    /// were given; nothing was written. See [`Error::known_ids`].
    Duplicate = -25,
    /// A line of a file can't be imported; nothing of its batch was.
    BadLine = -26,
}

/// What a precondition was about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum ConflictKind {
    /// The version of a stream.
    Stream = 1,
    /// Events that match a query.
    Condition = 2,
    /// A saved position that would go back.
    SavedPosition = 3,
}

/// A precondition of an append that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// What it was about.
    pub kind: ConflictKind,
    /// Which: index among the expectations, the conditions or the side records of the request.
    pub index: usize,
    /// Name of the stream or of the saved position.
    pub name: String,
    /// Of a stream, the version: -1 any, -2 any but 0, else itself. Of a condition, the position
    /// behind which nothing was to match. Of a saved position, the one given.
    pub expected: i64,
    /// Of a stream, its version. Of a condition, the first position that matches. Of a saved
    /// position, the one that is saved.
    pub actual: u64,
}

/// What a program wants to know of an error beyond its place.
#[derive(Clone, Debug, Default)]
enum Details {
    #[default]
    None,
    Conflicts(Vec<Conflict>),
    KnownIds(Vec<[u8; 16]>),
}

/// Where in the log it happened, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// File or directory concerned.
    pub path: Option<PathBuf>,
    /// Number of the segment, 0 if none.
    pub segment: u64,
    /// Offset in that segment's file, in bytes.
    pub offset: u64,
    /// LSN of the place, or of the batch concerned; 0 if none.
    pub lsn: Lsn,
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Inner {
    kind: ErrorKind,
    message: String,
    place: Place,
    #[source]
    source: Option<io::Error>,
    details: Details,
}

/// An error with its kind, place and message. One pointer in size, so that results stay small.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

impl Error {
    /// An error of `kind` with a message that says what was expected and what was found.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            place: Place::default(),
            source: None,
            details: Details::None,
        }))
    }

    /// A refused argument.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidArgument, message)
    }

    /// An error of the operating system while doing `what` to `path`. "No space" and "quota"
    /// become [`ErrorKind::Full`], "not enough memory" becomes [`ErrorKind::NoMemory`].
    pub fn io(what: &str, path: &Path, source: io::Error) -> Error {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => ErrorKind::Full,
            io::ErrorKind::OutOfMemory => ErrorKind::NoMemory,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        let message = format!("{what} {}: {source}", path.display());
        Error(Box::new(Inner {
            kind,
            message,
            place: Place {
                path: Some(path.to_path_buf()),
                ..Place::default()
            },
            source: Some(source),
            details: Details::None,
        }))
    }

    /// A sync of `path` failed. Always [`ErrorKind::Io`], also for "no space": what was to be made
    /// durable is in doubt, and trying again proves nothing.
    pub fn sync(path: &Path, source: io::Error) -> Error {
        let mut error = Error::io("sync", path, source);
        error.0.kind = ErrorKind::Io;
        error
    }

    /// Preconditions that did not hold: all of them.
    #[must_use]
    pub fn of_conflicts(conflicts: Vec<Conflict>) -> Error {
        let what: Vec<String> = conflicts.iter().map(Conflict::to_string).collect();
        let mut error = Error::new(ErrorKind::Conflict, what.join("; "));
        error.0.details = Details::Conflicts(conflicts);
        error
    }

    /// Events with these ids are in the store already.
    #[must_use]
    pub fn of_known_ids(message: String, ids: Vec<[u8; 16]>) -> Error {
        let mut error = Error::new(ErrorKind::Duplicate, message);
        error.0.details = Details::KnownIds(ids);
        error
    }

    /// Of an error of kind `Conflict`: every precondition that did not hold.
    #[must_use]
    pub fn conflicts(&self) -> &[Conflict] {
        match &self.0.details {
            Details::Conflicts(conflicts) => conflicts,
            _ => &[],
        }
    }

    /// Of an error of kind `Duplicate`: the ids that are in the store already.
    #[must_use]
    pub fn known_ids(&self) -> &[[u8; 16]] {
        match &self.0.details {
            Details::KnownIds(ids) => ids,
            _ => &[],
        }
    }

    /// Memory for `len` bytes of `what` could not be had.
    pub fn no_memory(what: &str, len: usize) -> Error {
        Error::new(
            ErrorKind::NoMemory,
            format!("no memory for {len} bytes of {what}"),
        )
    }

    /// The same error with its place.
    #[must_use]
    pub fn at(mut self, place: Place) -> Error {
        let path = self.0.place.path.take();
        self.0.place = place;
        if self.0.place.path.is_none() {
            self.0.place.path = path;
        }
        self
    }

    /// The same error as another kind: the message says what it means for the caller.
    #[must_use]
    pub fn into_kind(mut self, kind: ErrorKind, prefix: &str) -> Error {
        self.0.kind = kind;
        self.0.message = format!("{prefix}: {}", self.0.message);
        self
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Where it happened.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// The operating system's error number, if it was the cause.
    #[must_use]
    pub fn os_error(&self) -> Option<i32> {
        self.0.source.as_ref().and_then(io::Error::raw_os_error)
    }

    /// Acknowledged data or the structure of the log is damaged.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        self.0.kind == ErrorKind::Corrupt
    }

    /// Another writer has the log.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.0.kind == ErrorKind::Busy
    }

    /// The same call may succeed later on the same handle without any repair.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Busy | ErrorKind::Full | ErrorKind::NoMemory | ErrorKind::Timeout
        )
    }

    /// A copy for another waiter of the same group: same kind, text and place.
    #[must_use]
    pub fn duplicate(&self) -> Error {
        let source = self.0.source.as_ref().map(|e| match e.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::from(e.kind()),
        });
        Error(Box::new(Inner {
            kind: self.0.kind,
            message: self.0.message.clone(),
            place: self.0.place.clone(),
            source,
            details: self.0.details.clone(),
        }))
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conflict { name, actual, .. } = self;
        match (self.kind, self.expected) {
            (ConflictKind::Stream, 0) => {
                write!(
                    f,
                    "stream {name:?} has version {actual}, expected that there is none"
                )
            }
            (ConflictKind::Stream, expected) if expected < 0 => {
                write!(f, "stream {name:?} was expected to exist, and does not")
            }
            (ConflictKind::Stream, expected) => {
                write!(
                    f,
                    "stream {name:?} has version {actual}, expected {expected}"
                )
            }
            (ConflictKind::Condition, after) => write!(
                f,
                "condition {}: the event at position {actual} matches, expected none after {after}",
                self.index
            ),
            (ConflictKind::SavedPosition, given) => write!(
                f,
                "saved position {name:?} is {actual}, and {given} is not beyond it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_space_is_told_apart_from_other_errors() {
        let full = Error::io("write", Path::new("x"), io::Error::from_raw_os_error(28));
        assert_eq!(full.kind(), ErrorKind::Full);
        assert!(full.is_retryable());
        let eio = Error::io("write", Path::new("x"), io::Error::from_raw_os_error(5));
        assert_eq!(eio.kind(), ErrorKind::Io);
        assert_eq!(eio.os_error(), Some(5));
        assert_eq!(eio.duplicate().os_error(), Some(5));
    }
}
