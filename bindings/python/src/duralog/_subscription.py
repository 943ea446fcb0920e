"""Following a store: `Subscription`, which gives what is there and then what comes.

It never waits inside the library, but for the library's file descriptor, with `poll`: so a signal (Ctrl-C) ends
the waiting like any other in Python, any thread can end it, and asyncio waits for the same descriptor
without a thread. A store that was opened for reading only is told of nothing and has no descriptor; there
one looks again and again, as the library itself does.
"""

from __future__ import annotations

import math
import os
import select
import time
from ctypes import CDLL, byref, c_int32, c_uint64
from operator import length_hint
from typing import Any, AsyncIterator, Iterator, List, Optional, Tuple

from . import _native
from ._cursor import PAGE_COUNT_MAX, Pages, cut
from ._errors import Closed, InvalidArgument, Unsupported
from ._events import Event, events_of
from ._records import unsigned

_LOOK_SECONDS = 0.005


class Subscription(Pages):
    """Events of a selection, in order, none left out and none twice: iterate over it, with `for` or `async for`.

        with store.subscribe("mailer") as subscription:
            for event in subscription:
                send(event)
                subscription.ack()

    Iterating waits for what comes. It ends when cancel() or close() is called, by any thread, or when nothing came
    for `timeout` seconds; in this case, iterating again goes on. When the store is closed and everything in
    it was given, it raises Closed. A slow subscription costs who appends nothing.

    One thread at a time, or one task; but cancel() and close() are for all.
    """

    _kind = "subscription"
    _page_struct = _native.eventstore_page_t
    _next_page_name = "eventstore_subscription_next_page"
    _close_name = "eventstore_subscription_close"

    def __init__(self, library: CDLL, pointer: int, name: Optional[str], timeout: Optional[float]) -> None:
        self._name = name
        self._timeout = timeout
        self._cancelled = False
        self._awaited = False
        super().__init__(library, pointer)
        try:
            # Who is in the middle of a page and comes back to it must find the rest: it belongs to the subscription
            # and not to a loop. Replaced as one, since position may be asked for by any thread.
            self._given: Tuple[List[Event], Iterator[Event], int] = ([], iter(()), self._library_position())
            self._fd = self._open_fd()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<duralog.Subscription at position {self.position}{' closed' if self.closed else ''}>"

    @property
    def position(self) -> int:
        """Up to this position, all events of the selection were handed out."""
        events, rest, before = self._given
        count = len(events) - length_hint(rest)
        return events[count - 1].position if count > 0 else before

    @property
    def cancelled(self) -> bool:
        """Whether cancel() or close() was called."""
        return self._cancelled

    def take(self, timeout: Optional[float] = None) -> List[Event]:
        """The next events, up to 1,024; waits at most `timeout` seconds for the first of them; None: as long as it takes.

        None came in time, or the subscription was cancelled: an empty list.
        """
        self._check_open()
        self._fill(_until(timeout))
        return list(self._given[1])

    async def take_async(self, timeout: Optional[float] = None) -> List[Event]:
        """The same for asyncio."""
        self._check_open()
        await self._fill_async(_until(timeout))
        return list(self._given[1])

    def __iter__(self) -> Iterator[Event]:
        self._check_open()
        while self._fill(_until(self._timeout)):
            yield from self._given[1]

    async def __aiter__(self) -> AsyncIterator[Event]:
        self._check_open()
        while await self._fill_async(_until(self._timeout)):
            for event in self._given[1]:
                yield event

    def ack(self, position: Optional[int] = None) -> None:
        """Saves that everything up to a position was dealt with; None: what was handed out.

        A subscription of this name begins behind it next time. Durable as the store's `sync` says; so it may take
        as long as an append. A position that is not beyond the saved one changes nothing. One beyond `position`, so
        that events would be left out that were never handed out, is InvalidArgument.
        """
        if self._name is None:
            raise InvalidArgument("a subscription without a name has no saved position")
        number = self.position if position is None else unsigned(position, 64, "position")
        if not number:
            return  # before the first event there is nothing to be saved
        self._begin_use()
        try:
            # The library knows pages, and some of one may wait here to be handed out. Once cancelled, what waits is
            # gone, and a loop in another thread may have got one event more: then the library's answer has to do.
            if number > self.position and not self._cancelled:
                raise InvalidArgument(f"position {number} is acknowledged, and events were handed out up to position {self.position}")
            self._call(self._library.eventstore_subscription_ack, number)
        finally:
            self._one_at_a_time.release()

    def cancel(self) -> None:
        """Ends iterating and waiting, now and from now on. From any thread, any number of times."""
        self._cancelled = True
        if os.getpid() == self._process:
            try:
                self._call(self._library.eventstore_subscription_cancel)
            except Closed:
                pass
        self._drop_rest()

    def _drop_rest(self) -> None:
        events = self._given[0]
        self._given = ([], iter(()), self.position)
        events.clear()  # a loop that is in the middle of it ends there

    def close(self) -> None:
        """Cancels and closes it. Closing again does nothing."""
        if not self.closed:
            self.cancel()
        super().close()

    # --- Waiting --------------------------------------------------------------------------------

    def _check_open(self) -> None:
        """For who begins something; who is in the middle of it when it is closed, comes to an end."""
        if self.closed:
            raise Closed("the subscription was closed")

    def _fill(self, until: float) -> bool:
        """Takes the next page if all of the last was handed out; whether there is anything to hand out."""
        return length_hint(self._given[1]) > 0 or self._next(until)

    async def _fill_async(self, until: float) -> bool:
        import asyncio  # takes longer to import than all of duralog, and few need it

        if length_hint(self._given[1]):
            return True
        await asyncio.sleep(0)  # between two pages others of the loop have their turn
        if self._awaited:
            raise RuntimeError("this subscription is in use by another task: give each task one of its own")
        self._awaited = True
        try:
            while not self._next(0.0):
                if self._cancelled or time.monotonic() >= until:
                    return False
                await self._readable(until)
            return True
        finally:
            self._awaited = False

    def _next(self, until: float) -> bool:
        if self._cancelled:
            return False
        out: List[Event] = []
        self._begin_use()
        try:
            self._call(self._wait_and_copy, until, out)
        except Closed:
            if not self._cancelled:
                raise
        finally:
            self._one_at_a_time.release()
        return bool(out)

    def _wait_and_copy(self, pointer: int, until: float, out: List[Event]) -> int:
        while True:
            status: int = self._next_page(pointer, PAGE_COUNT_MAX, 0, byref(self._page))
            if status == _native.DURALOG_OK:
                out.extend(cut(self._library, self._page, events_of))
                self._given = (out, iter(out), self.position)
                if self._cancelled:  # while the page was read
                    self._drop_rest()
            elif status == _native.DURALOG_END:
                found = c_uint64()
                self._library.eventstore_subscription_position(pointer, byref(found))
                self._given = ([], iter(()), found.value)
                if self._wait(until):
                    continue
            return status

    def _wait(self, until: float) -> bool:
        """Waits until there may be something; False: the time is over."""
        left = until - time.monotonic()
        if left <= 0:
            return False
        if self._fd is None:
            time.sleep(min(left, _LOOK_SECONDS))
        else:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            poll.poll(None if left == math.inf else math.ceil(min(left, 86_400.0) * 1000))
        return True

    async def _readable(self, until: float) -> None:
        """The same for asyncio; a time that is over is found out by the caller."""
        import asyncio

        left = until - time.monotonic()
        if self._fd is None:
            await asyncio.sleep(max(0.0, min(left, _LOOK_SECONDS)))
            return
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        # One of our own: close() may close the other while the loop waits, and its number be given to something else.
        duplicates: List[int] = []
        self._call(self._duplicate_fd, duplicates)
        timer = None if left == math.inf else loop.call_later(left, _wake, woken)
        loop.add_reader(duplicates[0], _wake, woken)
        try:
            await woken
        finally:
            loop.remove_reader(duplicates[0])
            os.close(duplicates[0])
            if timer is not None:
                timer.cancel()

    # --- The library's side ---------------------------------------------------------------------

    def _open_fd(self) -> Optional[int]:
        fd = c_int32()
        try:
            self._call(self._library.eventstore_subscription_fd, byref(fd))
        except Unsupported:
            return None
        return fd.value

    def _duplicate_fd(self, _pointer: int, out: List[int]) -> int:
        assert self._fd is not None
        out.append(os.dup(self._fd))
        return _native.DURALOG_OK

    def _library_position(self) -> int:
        found = c_uint64()
        self._call(self._library.eventstore_subscription_position, byref(found))
        return found.value


def check_timeout(timeout: Optional[float]) -> None:
    """Seconds that can be waited."""
    if timeout is not None and not timeout >= 0:
        raise InvalidArgument(f"timeout is {timeout!r}, expected 0 or more, or None")


def _until(timeout: Optional[float]) -> float:
    """When the waiting ends, by the clock that only grows."""
    if timeout is None:
        return math.inf
    check_timeout(timeout)
    return time.monotonic() + timeout


def _wake(woken: Any) -> None:
    if not woken.done():
        woken.set_result(None)
