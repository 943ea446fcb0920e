"""Reading: pages of many records per call, cut into Python objects without a call per record.

The library fills columns and one run of bytes, and keeps them until the next call with the cursor. So
each page is copied as it comes, inside the call: numbers by one `tolist` per column, the bytes once,
and keys and values are slices of that copy. What a caller holds never changes.
"""

from __future__ import annotations

import threading
from ctypes import CDLL, byref, c_void_p, string_at
from itertools import chain, repeat
from typing import Any, Generic, Iterator, List, Tuple, TypeVar

from . import _native
from ._handles import Handle
from ._records import Record

PAGE_COUNT_MAX = 1024
"""Records per call: the call costs some microseconds, and a page of small records stays in the cache."""

RecordTuple = Tuple[int, int, bytes, bytes]
"""(seq, op, key, value)"""

_Item = TypeVar("_Item")


class Pages(Handle):
    """A handle that gives page after page. Subclasses name the struct of a page and the functions of the library."""

    _page_struct: Any
    _next_page_name: str
    _close_name: str

    def __init__(self, library: CDLL, pointer: int, warns: bool = True) -> None:
        self._next_page = getattr(library, self._next_page_name)
        self._page = self._page_struct()
        self._one_at_a_time = threading.Lock()
        self._warns_if_unclosed = warns
        super().__init__(library, pointer, getattr(library, self._close_name))

    def _warns(self) -> bool:
        return self._warns_if_unclosed

    def _take(self, form: Any) -> Any:
        """The next page in the given form, or None at the end for now."""
        if not self._one_at_a_time.acquire(False):
            raise RuntimeError(f"this {self._kind} is in use by another thread: give each thread one of its own")
        try:
            out: List[Any] = []
            self._call(self._take_copy, form, out)
            return out[0] if out else None
        finally:
            self._one_at_a_time.release()

    def _take_copy(self, pointer: int, form: Any, out: List[Any]) -> int:
        status: int = self._next_page(pointer, PAGE_COUNT_MAX, byref(self._page))
        if status == _native.DURALOG_OK:
            out.append(form(self._page))
        return status


class Follower(Pages, Generic[_Item]):
    """Pages that are iterated over item by item, again and again as more comes."""

    _form: Any

    def __init__(self, library: CDLL, pointer: int, warns: bool = True) -> None:
        self._rest: Iterator[_Item] = iter(())
        super().__init__(library, pointer, warns)

    def __iter__(self) -> Iterator[_Item]:
        while True:
            # The rest of a page that was begun belongs to the cursor and not to this loop: who
            # leaves the loop and comes back misses nothing.
            yield from self._rest
            page = self._take(type(self)._form)
            if page is None:
                return
            self._rest = page


def pages(source: Pages, form: Any) -> Iterator[Any]:
    """All pages that there are, then closes their source."""
    with source:
        while True:
            page = source._take(form)
            if page is None:
                return
            yield page


def flat(source: Pages, form: Any) -> Iterator[Any]:
    """The items of all pages. A chain and not a generator: it hands each item on without running a frame."""
    return chain.from_iterable(pages(source, form))


# --- Numbers and bytes of a page --------------------------------------------------------------


def u64_column(address: int, count: int) -> List[int]:
    return memoryview(string_at(address, 8 * count)).cast("Q").tolist()


def u32_column(column: bytes) -> List[int]:
    return memoryview(column).cast("I").tolist()


new_tuple: Any = tuple.__new__  # what Record(*fields) comes to, without a Python frame

# --- Records ----------------------------------------------------------------------------------


def open_cursor(library: CDLL, wal: int, after_seq: int, flags: int, out: List[Any]) -> int:
    """To be called by `Handle._call` of the log; gives the pointer."""
    cursor = c_void_p()
    status: int = library.wal_cursor_open(wal, after_seq, flags, byref(cursor))
    if status == _native.DURALOG_OK:
        out.append(cursor.value)
    return status


def tuples_of(page: _native.wal_page_t) -> Iterator[RecordTuple]:
    """(seq, op, key, value) of each."""
    count = page.count
    keys, values = _keys_and_values(page, count)
    return zip(u64_column(page.seq, count), string_at(page.op, count), keys, values)


def records_of(page: _native.wal_page_t) -> Iterator[Record]:
    """A `Record` of each."""
    count = page.count
    keys, values = _keys_and_values(page, count)
    committed = string_at(page.committed, count)
    fields = zip(
        u64_column(page.seq, count), string_at(page.op, count), keys, values, u64_column(page.time_ns, count),
        u64_column(page.batch_id, count), string_at(page.kind, count),
        repeat(True) if committed.count(1) == count else map(bool, committed))
    return map(new_tuple, repeat(Record), fields)


def _keys_and_values(page: _native.wal_page_t, count: int) -> Tuple[Iterator[bytes], List[bytes]]:
    data = string_at(page.bytes, page.bytes_len)
    key_begin = string_at(page.key_begin, 4 * count)
    value_begin = string_at(page.value_begin, 4 * count)
    value_begins = u32_column(value_begin)
    values = [data[begin:end] for begin, end in zip(value_begins, u32_column(string_at(page.value_end, 4 * count)))]
    if key_begin == value_begin:
        return repeat(b""), values  # a log without keys
    return iter([data[begin:end] for begin, end in zip(u32_column(key_begin), value_begins)]), values


class Cursor(Follower[Record]):
    """A place in a log, from which it is read forward: iterate over it for `Record`s.

    Iteration ends at what is acknowledged. Iterating again goes on from there, so a cursor follows
    a log that grows. It stays usable after its log was closed. One thread at a time.
    """

    _kind = "cursor"
    _page_struct = _native.wal_page_t
    _next_page_name = "wal_cursor_next_page"
    _close_name = "wal_cursor_close"
    _form = records_of
