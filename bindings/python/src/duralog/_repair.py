"""Whole logs, without a handle: verify one, repair one.

These, and opening an event store, are the only calls back from the library into Python. They come now and
then, so their price does not matter, but an exception must not leave one (C can't pass it on): it is kept,
the work is stopped, and the exception goes on from here.
"""

from __future__ import annotations

from ctypes import byref
from dataclasses import dataclass
from typing import Any, Callable, List, Optional

from . import _native
from ._handles import last_error
from ._reports import RecoveryReport, recovery_report_of
from ._wal import PathLike, path_bytes

Progress = Callable[[int, int], Any]
"""progress(done, total), in segments. Returns False to stop; None and all else go on."""


@dataclass(frozen=True)
class Repair:
    """What the whole log looked like before, and what it looks like now."""

    before: RecoveryReport
    after: RecoveryReport


def verify(path: PathLike, progress: Optional[Progress] = None) -> Optional[RecoveryReport]:
    """Walks a whole log, every segment and every byte, and reports what it finds.

    Reads only, takes no lock. Beside a live writer the end looks torn. Returns None if `progress`
    asked to stop.
    """
    report = _native.wal_recovery_report_t()
    done = _walk("wal_verify", path, progress, report)
    return recovery_report_of(report) if done else None


def repair(path: PathLike, progress: Optional[Progress] = None) -> Optional[Repair]:
    """Makes a log that is refused as corrupt usable again: cuts it at the last batch before the damage.

    What is dropped, also if it was acknowledged, is copied first into a directory "dropped-N" inside
    the log's. A log that is not corrupt is left alone. Nobody may have it open for writing. Returns
    None if `progress` asked to stop; the log is then as it was, or repaired in part.
    """
    before, after = _native.wal_recovery_report_t(), _native.wal_recovery_report_t()
    done = _walk("wal_repair", path, progress, before, after)
    return Repair(recovery_report_of(before), recovery_report_of(after)) if done else None


def _walk(name: str, path: PathLike, progress: Optional[Progress], *reports: _native.wal_recovery_report_t) -> bool:
    raised: List[BaseException] = []
    directory = path_bytes(path)
    library = _native.library()
    called = progress_callback(progress, raised)
    status: int = getattr(library, name)(directory, called, None, *map(byref, reports))
    if raised:
        raise raised[0]
    if status < 0:
        raise last_error(library, status)
    return status != _native.DURALOG_STOPPED


def progress_callback(progress: Optional[Progress], raised: List[BaseException]) -> Any:
    """The function for C that calls `progress`, to be kept as long as C may call it; what `progress` raises
    is put into `raised`, and stops the work."""
    if progress is None:
        return _native.wal_progress_callback_t()  # without a function it is NULL

    def callback(user_data: Optional[int], done: int, total: int) -> int:
        try:
            return int(progress(done, total) is False)
        except BaseException as error:
            raised.append(error)
            return 1

    return _native.wal_progress_callback_t(callback)
