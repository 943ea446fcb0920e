"""What can go wrong, as exceptions: one class for each status of the C face, and one table.

Every exception has the fields of `duralog_error_t`, so that programs never parse the text. A class
also descends from the built-in exception that means the same, where there is one: code that knows
files but not Duralog (`except FileNotFoundError`) does the right thing.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, Callable, Dict, Tuple, Type
from uuid import UUID

from . import _native

_NAMES = {value: name for name, value in vars(_native).items() if name.startswith("DURALOG_E_")}


class DuralogError(Exception):
    """Base of all errors of Duralog.

    status: number of the C face; name: its name, such as "DURALOG_E_BUSY". message: one sentence
    for people. segment, offset, lsn: the place in the log, 0 if none. path: the file or directory
    concerned, "" if none. os_error: the operating system's errno, 0 if that was not the cause.
    """

    status: int = _native.DURALOG_E_INTERNAL
    _fields: Tuple[str, ...] = ("status", "segment", "offset", "lsn", "path", "os_error")

    def __init__(self, message: str = "", *, status: int = 0, segment: int = 0, offset: int = 0, lsn: int = 0,
                 path: str = "", os_error: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or type(self).status
        self.name = _NAMES.get(self.status, "DURALOG_E_UNKNOWN")
        self.segment = segment
        self.offset = offset
        self.lsn = lsn
        self.path = path
        self.os_error = os_error

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"

    def __reduce__(self) -> Tuple[Callable[..., Any], Tuple[Any, ...]]:
        # Exceptions travel between processes (multiprocessing, concurrent.futures) by pickling.
        return _rebuild, (type(self), self.message, {field: getattr(self, field) for field in self._fields})


def _rebuild(kind: Type[DuralogError], message: str, fields: Dict[str, Any]) -> DuralogError:
    return kind(message, **fields)


class _SystemError(DuralogError, OSError):
    """Those that are an OSError have what programs look at in one: errno, strerror, filename."""

    def __init__(self, message: str = "", **fields: Any) -> None:
        super().__init__(message, **fields)
        self.errno = self.os_error or _ERRNO.get(self.status)
        self.strerror = message
        self.filename = self.path or None


class InvalidArgument(DuralogError, ValueError):
    """An argument is not allowed; nothing was done."""

    status = _native.DURALOG_E_INVALID_ARGUMENT


class NotFound(_SystemError, FileNotFoundError):
    """There is no log, or no such thing in it."""

    status = _native.DURALOG_E_NOT_FOUND


class Exists(_SystemError, FileExistsError):
    """There is something already where it must not be."""

    status = _native.DURALOG_E_EXISTS


class Busy(DuralogError):
    """Another handle or process has the log open for writing; the message names it."""

    status = _native.DURALOG_E_BUSY


class IoError(_SystemError):
    """The operating system reported an error on a file: see os_error and path."""

    status = _native.DURALOG_E_IO


class Full(_SystemError):
    """There is no space left. Nothing was written, and the handle stays usable."""

    status = _native.DURALOG_E_FULL


class Corrupt(DuralogError):
    """Data that was acknowledged, or the structure of the log, is damaged at segment, offset, lsn."""

    status = _native.DURALOG_E_CORRUPT


class NotALog(DuralogError):
    """The files are not a Duralog log."""

    status = _native.DURALOG_E_NOT_A_LOG


class Newer(DuralogError):
    """The files were written by a newer version, with features unknown here."""

    status = _native.DURALOG_E_NEWER


class TooLarge(DuralogError, ValueError):
    """A record or a piece of data is over its limit; nothing was written."""

    status = _native.DURALOG_E_TOO_LARGE


class EmptyBatch(DuralogError, ValueError):
    """A batch without records; nothing was written."""

    status = _native.DURALOG_E_EMPTY_BATCH


class ReadOnly(DuralogError):
    """The log was opened for reading only."""

    status = _native.DURALOG_E_READ_ONLY


class Poisoned(DuralogError):
    """An earlier write or sync failed; nothing more is written until the log is reopened."""

    status = _native.DURALOG_E_POISONED


class Indeterminate(DuralogError):
    """The write or sync of this very call failed: the batch may be there or not.

    Close the log, open it again, and ask `Wal.batch_status(error.batch_id)`.
    """

    status = _native.DURALOG_E_INDETERMINATE

    @property
    def batch_id(self) -> int:
        return self.lsn


class Truncated(DuralogError):
    """The records asked for were truncated."""

    status = _native.DURALOG_E_TRUNCATED


class Forked(DuralogError):
    """The handle is the parent process's: open one of your own."""

    status = _native.DURALOG_E_FORKED


class Closed(DuralogError, ValueError):
    """The handle was closed. A ValueError, as for closed files."""

    status = _native.DURALOG_E_CLOSED


class NoMemory(DuralogError, MemoryError):
    """Memory could not be had; nothing was written."""

    status = _native.DURALOG_E_NO_MEMORY


class Timeout(_SystemError, TimeoutError):
    """The time given was over first."""

    status = _native.DURALOG_E_TIMEOUT


class Unsupported(DuralogError):
    """This system or file system can't do it."""

    status = _native.DURALOG_E_UNSUPPORTED


class Internal(DuralogError):
    """A defect of the library. It was caught, and the log writes nothing more until reopened."""

    status = _native.DURALOG_E_INTERNAL


class Unclean(DuralogError):
    """The log has an unclean end, and recovery="strict" refuses it."""

    status = _native.DURALOG_E_UNCLEAN


class BufferTooSmall(DuralogError):
    """The buffer given is too small; the length needed was reported."""

    status = _native.DURALOG_E_BUFFER_TOO_SMALL


@dataclass(frozen=True)
class Conflict:
    """A precondition that did not hold.

    kind: "stream", "condition" or "position". index: which one, from 0: of `expected`, of `conditions`, or of
    the positions to be saved. name: of the stream or the saved position, "" for a condition. expected
    and actual: of a stream, the version demanded and its version; of a condition, the position behind which
    nothing was to match and the first that matches; of a saved position, the one given and the one saved.
    """

    kind: str
    index: int
    name: str
    expected: int
    actual: int


class ConcurrencyConflict(DuralogError):
    """Preconditions of an append to an event store did not hold: `conflicts` has them all. Nothing was written."""

    status = _native.DURALOG_E_CONFLICT
    _fields = (*DuralogError._fields, "conflicts")

    def __init__(self, message: str = "", *, conflicts: Tuple[Conflict, ...] = (), **fields: Any) -> None:
        super().__init__(message, **fields)
        self.conflicts = conflicts


class DuplicateEvent(DuralogError):
    """Events of an append, or its idempotency key, are in the store already, but not as they were given.

    event_ids: those of the events that are there; empty if it is about the idempotency key. Nothing was written.
    """

    status = _native.DURALOG_E_DUPLICATE
    _fields = (*DuralogError._fields, "event_ids")

    def __init__(self, message: str = "", *, event_ids: Tuple[UUID, ...] = (), **fields: Any) -> None:
        super().__init__(message, **fields)
        self.event_ids = event_ids


class BadLine(DuralogError):
    """A line of a file can't be imported. Not raised by this package, whose `duralog.ndjson` raises ImportFailed."""

    status = _native.DURALOG_E_BAD_LINE


CLASSES: Dict[int, Type[DuralogError]] = {
    kind.status: kind for kind in (
        InvalidArgument, NotFound, Exists, Busy, IoError, Full, Corrupt, NotALog, Newer, TooLarge, EmptyBatch,
        ReadOnly, Poisoned, Indeterminate, Truncated, Forked, Closed, NoMemory, Timeout, Unsupported, Internal,
        Unclean, BufferTooSmall, ConcurrencyConflict, DuplicateEvent, BadLine)
}
"""The table. A status that is not in it (of a newer library) becomes a plain DuralogError."""

_ERRNO = {
    _native.DURALOG_E_NOT_FOUND: errno.ENOENT,
    _native.DURALOG_E_EXISTS: errno.EEXIST,
    _native.DURALOG_E_IO: errno.EIO,
    _native.DURALOG_E_FULL: errno.ENOSPC,
    _native.DURALOG_E_TIMEOUT: errno.ETIMEDOUT,
}
"""errno of an OSError whose cause was no errno: `except OSError` code compares it."""
