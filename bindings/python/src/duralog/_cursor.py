"""Reading: pages of many records per call, cut into Python objects without a call per record.

The library fills columns and one run of bytes, and keeps them until the next call with the cursor. So
each page is copied as it comes, inside the call: numbers by one `tolist` per column, texts and bytes by
a `Cutter`. What a caller holds never changes.
"""

from __future__ import annotations

import threading
from array import array
from ctypes import CDLL, addressof, byref, c_char, c_size_t, c_void_p
from io import BytesIO
from itertools import chain, repeat
from struct import Struct
from typing import Any, Callable, Dict, Generic, Iterable, Iterator, List, Optional, Sequence, Tuple, TypeVar

from . import _native
from ._handles import Handle, last_error
from ._records import Record

PAGE_COUNT_MAX = 1024
"""Records per call at most. The call costs some microseconds."""

_READ_COUNT = 512
"""Records per call where many are read: small ones, and what is made of them, stay in the cache meanwhile."""

RecordTuple = Tuple[int, int, bytes, bytes]
"""(seq, op, key, value)"""

_MANY = 32
"""Parts of one length that are taken at once."""

_STRUCTS_MAX = 16
"""Lengths for which it is known how to do so."""

_CAPACITY_FIRST = 1 << 16
"""Enough for a stream of a hundred events."""

_PACKED_HEAD = Struct("8Q")
"""With which a page of events begins that was packed."""

_SPARE_MAX = 4
_SPARE_CAPACITY_MAX = 2 << 20
"""Cutters that wait to be used again, and how large they may be: a page has 1 MiB, and what reaches beyond it."""

_Item = TypeVar("_Item")
_Form = TypeVar("_Form")


class Cutter:
    """Takes the texts and bytes of a column out of a page.

    Where the parts of a column lie scattered, a slice for each is what costs most. So the library puts them
    one behind the other into a buffer that stays, and they are taken from there by loops that Python has in C:
    `BytesIO.read` for each length, `str.split` at each separator, and if all are of one length, `Struct` for
    many at once. Of events, whose columns are many, the whole page is put there by one call.
    """

    def __init__(self, library: CDLL) -> None:
        self._library = library
        self._spans_join = library.duralog_spans_join
        self._page_pack = library.eventstore_page_pack
        self._len = c_size_t()
        self._out_len = byref(self._len)
        self._capacity = self._count_max = -1
        self._make_room(_CAPACITY_FIRST, PAGE_COUNT_MAX)
        self._structs: Dict[int, Optional[Struct]] = {}

    @property
    def is_small(self) -> bool:
        """Whether it is worth keeping for other pages."""
        return self._capacity <= _SPARE_CAPACITY_MAX

    def bytes_column(self, page: Any, begin: int, end: int) -> Iterable[bytes]:
        """The parts from begin to end, which are columns of the page."""
        count = page.count
        if not self._join(page, begin, end, -1):
            return repeat(b"", count)
        lens = memoryview(self._lens)[:count]
        if lens.tobytes() == lens[:1].tobytes() * count:
            return self.equal_parts(0, count, lens[0])
        return self.parts(0, lens)

    def parts(self, at: int, lens: memoryview) -> List[bytes]:
        """What lies one behind the other in the buffer, from there on."""
        self._buffer.seek(at)
        return list(map(self._buffer.read, lens.tolist()))

    def equal_parts(self, at: int, count: int, size: int) -> Iterable[bytes]:
        """The same if all are of one length."""
        if not size:
            return repeat(b"", count)
        parts: List[bytes] = []
        rest = count
        many = self._struct_of(size) if count >= _MANY else None
        if many is not None:
            rest = count % _MANY
            begin, at = at, at + (count - rest) * size
            for some in many.iter_unpack(self._view[begin:at]):
                parts += some
        self._buffer.seek(at)
        parts += map(self._buffer.read, repeat(size, rest))
        return parts

    def _struct_of(self, size: int) -> Optional[Struct]:
        # Made when a size comes for the second time: to make one takes as long as it saves over a large page.
        structs = self._structs
        found = structs.get(size)
        if found is None:
            if size in structs:
                found = Struct(f"{size}s" * _MANY)
            elif len(structs) == _STRUCTS_MAX:
                structs.clear()
            structs[size] = found
        return found

    def text_column(self, page: Any, begin: int, end: int) -> Iterable[str]:
        """The same as texts."""
        count = page.count
        length = self._join(page, begin, end, 0)
        if length == count - 1:
            return repeat("", count)
        texts = str(self._view[:length], "utf-8").split("\0")
        if len(texts) != count:  # one of them has the separator in it
            texts = [part.decode() for part in self.bytes_column(page, begin, end)]
        return texts

    def pack(self, page: Any, flags: int) -> Tuple[int, ...]:
        """Puts a page of events into the buffer, all of it; gives the numbers with which it begins there."""
        where = byref(page)
        status = self._page_pack(where, flags, self._address, self._capacity, self._out_len)
        if status == _native.DURALOG_E_BUFFER_TOO_SMALL:
            needed = self._len.value
            self._make_room(needed + needed // 8, 0)
            status = self._page_pack(where, flags, self._address, self._capacity, self._out_len)
        if status < 0:
            raise last_error(self._library, status)
        return _PACKED_HEAD.unpack_from(self._view)

    def u64(self, at: int, count: int) -> List[int]:
        """Numbers that lie in the buffer, from there on."""
        return self._u64[at // 8:at // 8 + count].tolist()

    def dense(self, at: int, count: int) -> Sequence[int]:
        """The same of numbers that ascend, or descend, each of them once; most often without gaps."""
        first = self._u64[at // 8]
        if self._u64[at // 8 + count - 1] - first == count - 1:
            return range(first, first + count)
        return self.u64(at, count)

    def u32(self, at: int, count: int) -> memoryview:
        """Numbers of 32 bits, as long as nothing else is put into the buffer."""
        return self._u32[at // 4:at // 4 + count]

    def copy(self, begin: int, end: int) -> bytes:
        """A part of the buffer."""
        return self._view[begin:end].tobytes()

    def texts(self, begin: int, end: int, count: int) -> Optional[List[str]]:
        """Texts with a NUL between two; None if one of them has a NUL in it, so that they can't be told apart."""
        texts = str(self._view[begin:end], "utf-8").split("\0")
        return texts if len(texts) == count else None

    def _join(self, page: Any, begin: int, end: int, separator: int) -> int:
        count, bytes_len = page.count, page.bytes_len
        self._make_room(bytes_len + count, count)
        status = self._spans_join(page.bytes, bytes_len, begin, end, count, separator, self._address, self._capacity,
                                  self._lens_address, self._out_len)
        if status < 0:
            raise last_error(self._library, status)
        return self._len.value

    def _make_room(self, capacity: int, count: int) -> None:
        if capacity > self._capacity:
            self._capacity = capacity + -capacity % 8
            self._buffer = BytesIO(bytes(self._capacity))
            self._view = self._buffer.getbuffer()  # as long as it is there, the buffer stays where it is
            self._u64, self._u32 = self._view.cast("Q"), self._view.cast("I")
            self._address = addressof(c_char.from_buffer(self._view))
        if count > self._count_max:
            self._count_max = count
            self._lens = array("I", bytes(4 * count))
            self._lens_address = self._lens.buffer_info()[0]


_spare_cutters: List[Cutter] = []


def cut(library: CDLL, page: Any, form: Callable[[Any, Cutter], _Form]) -> _Form:
    """form(page, cutter). What it gives must not need the cutter any more.

    Cutters are used again: their buffers take longer to make than a small page takes to be cut. None is used twice at
    the same time, also not where a signal handler reads: who takes one out of the list is alone with it.
    """
    try:
        cutter = _spare_cutters.pop()
    except IndexError:
        cutter = Cutter(library)
    made = form(page, cutter)
    if cutter.is_small and len(_spare_cutters) < _SPARE_MAX:
        _spare_cutters.append(cutter)
    return made


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
        self._begin_use()
        try:
            out: List[Any] = []
            self._call(self._take_copy, form, out)
            return out[0] if out else None
        finally:
            self._one_at_a_time.release()

    def _begin_use(self) -> None:
        if not self._one_at_a_time.acquire(False):
            raise RuntimeError(f"this {self._kind} is in use by another thread: give each thread one of its own")

    def _is_at_end(self) -> bool:
        """Whether the page taken last is known to have nothing behind it."""
        return False

    def _take_copy(self, pointer: int, form: Any, out: List[Any]) -> int:
        status: int = self._next_page(pointer, _READ_COUNT, byref(self._page))
        if status == _native.DURALOG_OK:
            out.append(cut(self._library, self._page, form))
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
            if source._is_at_end():
                return


def flat(source: Pages, form: Any) -> Iterator[Any]:
    """The items of all pages. A chain and not a generator: it hands each item on without running a frame."""
    return chain.from_iterable(pages(source, form))


# --- Numbers and bytes of a page --------------------------------------------------------------

memory_at = (c_char * 0x7FFFFFFF).from_address
"""memory_at(address)[:length]: these bytes. What string_at gives, in a third of the time."""


def u64_column(address: int, count: int) -> List[int]:
    return memoryview(memory_at(address)[:8 * count]).cast("Q").tolist()


def u32_column(address: int, count: int) -> List[int]:
    return memoryview(memory_at(address)[:4 * count]).cast("I").tolist()


new_tuple: Any = tuple.__new__  # what Record(*fields) comes to, without a Python frame

# --- Records ----------------------------------------------------------------------------------


def open_cursor(library: CDLL, wal: int, after_seq: int, flags: int, out: List[Any]) -> int:
    """To be called by `Handle._call` of the log; gives the pointer."""
    cursor = c_void_p()
    status: int = library.wal_cursor_open(wal, after_seq, flags, byref(cursor))
    if status == _native.DURALOG_OK:
        out.append(cursor.value)
    return status


def values_of(page: _native.wal_page_t, cutter: Cutter) -> Iterable[bytes]:
    """The value of each."""
    return cutter.bytes_column(page, page.value_begin, page.value_end)


def tuples_of(page: _native.wal_page_t, cutter: Cutter) -> Iterator[RecordTuple]:
    """(seq, op, key, value) of each."""
    count = page.count
    return zip(u64_column(page.seq, count), memory_at(page.op)[:count], _keys_of(page, cutter), values_of(page, cutter))


def records_of(page: _native.wal_page_t, cutter: Cutter) -> Iterator[Record]:
    """A `Record` of each."""
    count = page.count
    committed = memory_at(page.committed)[:count]
    fields = zip(
        u64_column(page.seq, count), memory_at(page.op)[:count], _keys_of(page, cutter), values_of(page, cutter),
        u64_column(page.time_ns, count), u64_column(page.batch_id, count), memory_at(page.kind)[:count],
        repeat(True) if committed.count(1) == count else map(bool, committed))
    return map(new_tuple, repeat(Record), fields)


def _keys_of(page: _native.wal_page_t, cutter: Cutter) -> Iterable[bytes]:
    return cutter.bytes_column(page, page.key_begin, page.value_begin)


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
