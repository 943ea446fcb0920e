"""What all handles have in common: they are closed once, and never used after.

The C face forbids two things that Python can't let happen, since they would end the process: a call
with a handle that was closed, and a close while another thread is in a call. So a handle notes who
is in a call (`_users`), and `close` first turns new calls away, then waits for these.

No lock is involved. Every step is one operation of a list, atomic in Python, and their order is
what counts: a call enters and then looks whether the handle is open; a close takes the handle's
openness and then looks who is in. Whichever comes first, one of the two sees the other. A lock
would do the same, but a signal handler that closes the log (which is what SIGTERM handlers do) would
wait for the very code that it interrupted. Such a close is left to the interrupted call. Whether there is
one is asked from the stack and not from the note: an exception of a signal handler (Ctrl-C) can, in
Python 3.10 and before, end a call between its last two steps, and the note then stays.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
import warnings
from types import TracebackType
from typing import Any, Callable, List, Optional, Type, TypeVar

from . import _native
from ._errors import CLASSES, Closed, DuralogError

_Self = TypeVar("_Self", bound="Handle")

WAIT_SECONDS = 0.001


def last_error(library: ctypes.CDLL, status: int) -> DuralogError:
    """The exception for `status`, which the last call of this thread returned."""
    found = _native.duralog_error_t()
    library.duralog_last_error(found)
    kind = CLASSES.get(status, DuralogError)
    if found.status != status:  # a signal handler came in between and had an error of its own
        return kind(library.duralog_status_name(status).decode(), status=status)
    return kind(found.message.decode("utf-8", "replace"), status=status, segment=found.segment, offset=found.offset,
                lsn=found.lsn, path=os.fsdecode(found.path), os_error=found.os_error)


class Handle:
    """A handle of the library. Subclasses set `_kind` and pass the function that closes it."""

    _kind = "handle"
    _openness: List[bool] = []  # until __init__ is done there is nothing to close
    _left_to_call = False

    def __init__(self, library: ctypes.CDLL, pointer: Optional[int], release: Callable[[Optional[int]], int]) -> None:
        self._library = library
        self._pointer = pointer
        self._release_function = release
        self._process = os.getpid()
        self._users: List[int] = []  # thread of each call in progress
        self._openness = [True]  # who pops it, closes

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._openness

    def _call(self, function: Callable[..., int], *arguments: Any) -> int:
        """`function(pointer, *arguments)` while the handle is sure to stay; an error becomes an exception."""
        users, thread = self._users, threading.get_ident()
        try:
            users.append(thread)
            if not self._openness:
                raise Closed(f"the {self._kind} was closed")
            status = function(self._pointer, *arguments)
            if status < 0:
                raise last_error(self._library, status)
            return status
        finally:
            if thread in users:  # not so if a signal handler raised before the first line
                users.remove(thread)
            if self._left_to_call and thread not in users:
                self._release()

    def close(self) -> None:
        """Closes it, after the calls in progress in other threads. Closing again does nothing.

        Closed also if this raises an error.
        """
        try:
            self._openness.pop()
        except IndexError:
            return
        if os.getpid() != self._process:
            return  # made by fork: the handle is the parent's, and nothing of it may be touched here
        users, thread = self._users, threading.get_ident()
        while users and any(user != thread for user in tuple(users)):
            time.sleep(WAIT_SECONDS)
        if thread in users and self._interrupts_a_call():
            self._left_to_call = True
        else:
            self._release()

    def _interrupts_a_call(self) -> bool:
        """Whether this runs in a signal handler that interrupted a call with this very handle."""
        frame = sys._getframe()
        while frame is not None:
            if frame.f_code is _CALL and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back  # type: ignore[assignment]
        return False

    def _release(self) -> None:
        self._left_to_call = False
        pointer, self._pointer = self._pointer, None
        status = self._release_function(pointer)
        if status < 0:
            raise last_error(self._library, status)

    def __enter__(self: _Self) -> _Self:
        if self.closed:
            raise Closed(f"the {self._kind} was closed")
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.close()

    def __del__(self, _warn: Any = warnings.warn, _finalizing: Any = sys.is_finalizing,
                _getpid: Any = os.getpid) -> None:
        # The functions are arguments because at the end of the interpreter the modules may be empty.
        if not self._openness and not self._left_to_call:
            return
        try:
            # At that end, and in a child made by fork, nobody forgot anything.
            if self._openness and self._warns() and not _finalizing() and _getpid() == self._process:
                _warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            try:
                self.close()
                if self._left_to_call:
                    self._release()
            except Exception:  # nobody is there to be told
                pass

    def _warns(self) -> bool:
        return True


_CALL = Handle._call.__code__
