"""Records on their way in and out: what a batch is made of, and how it is packed for one call.

In: `pack` turns the records of a batch into the columns of `wal_append_batch_packed`: the lengths as
arrays of 32-bit numbers, keys and values joined. It looks at the types of all records at once (a set,
built in C) and needs no Python loop for the usual batches: values, (key, value), (op, key, value).
Everything else takes the careful way, which can also say what is wrong with which.

Out: `Record`. It is a NamedTuple and not a frozen dataclass because a frozen dataclass of eight fields
takes longer to make than the record takes to be read, verified and sliced.
"""

from __future__ import annotations

import datetime
import mmap
import operator
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Iterable, List, NamedTuple, NoReturn, Optional, Tuple, Union

from . import _native
from ._errors import InvalidArgument, TooLarge

PUT = _native.WAL_OP_PUT
DELETE = _native.WAL_OP_DELETE
OP_APPLICATION_MIN = _native.WAL_OP_APPLICATION_MIN

KIND_RECORD = _native.WAL_KIND_RECORD
KIND_COMMIT = _native.WAL_KIND_COMMIT
KIND_CHECKPOINT = _native.WAL_KIND_CHECKPOINT
KIND_ABORT = _native.WAL_KIND_ABORT
KIND_TORN = _native.WAL_KIND_TORN
KIND_GAP = _native.WAL_KIND_GAP

BytesLike = Union[bytes, bytearray, memoryview, "array[Any]", mmap.mmap]
"""Whatever has the buffer protocol; these are what type checkers can be told of before Python 3.12."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)

assert array("I").itemsize == 4


class Op(NamedTuple):
    """A record to be appended, with its op: PUT, DELETE, or a number of the application's own, 128 to 255."""

    op: int
    key: BytesLike = b""
    value: BytesLike = b""

    @classmethod
    def put(cls, key: BytesLike, value: BytesLike) -> "Op":
        return cls(PUT, key, value)

    @classmethod
    def delete(cls, key: BytesLike) -> "Op":
        return cls(DELETE, key)


Appendable = Union[BytesLike, Tuple[BytesLike, BytesLike], Tuple[int, BytesLike, BytesLike], Op]
"""A record of a batch: a value, (key, value), (op, key, value) or Op."""


def time_of(time_ns: int) -> datetime.datetime:
    """Nanoseconds since 1970 as a datetime in UTC, to the microsecond below."""
    return _EPOCH + datetime.timedelta(microseconds=time_ns // 1000)


class Record(NamedTuple):
    """One record as it is read; of raw iteration also a mark (see `kind`)."""

    seq: int
    op: int
    key: bytes
    value: bytes
    time_ns: int
    batch_id: int
    kind: int
    committed: bool

    @property
    def time(self) -> datetime.datetime:
        """When its batch was committed, in UTC. `time_ns` has the full precision."""
        return time_of(self.time_ns)


class Batch(NamedTuple):
    """Records that were committed together."""

    batch_id: int
    time_ns: int
    records: List[Record]

    @property
    def time(self) -> datetime.datetime:
        """When it was committed, in UTC."""
        return time_of(self.time_ns)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: its sequence number and the bytes that it was given."""

    seq: int
    data: bytes


class Packed(NamedTuple):
    """The columns of a batch. None: all PUT; no keys."""

    record_count: int
    ops: Optional[bytes]
    key_lens: Optional["array[int]"]
    value_lens: "array[int]"
    data: bytes


def pack(records: Iterable[Appendable]) -> Packed:
    """A batch in columns."""
    if isinstance(records, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"a batch is an iterable of records, and this is one {type(records).__name__}; "
                        "for a single record use append(), or put it into a list")
    if isinstance(records, Mapping):
        raise TypeError("a batch is an iterable of records, and iterating over a mapping gives its keys alone: "
                        "use .items()")
    items = list(records)
    types = set(map(type, items))
    packed = None
    if types == {bytes}:
        packed = _pack_parts(len(items), None, items, keys=False)
    elif types <= {tuple, Op}:
        fields = set(map(len, items))
        if fields == {2}:
            packed = _pack_parts(len(items), None, list(chain.from_iterable(items)), keys=True)
        elif fields == {3}:
            parts = list(chain.from_iterable(items))
            ops = parts[0::3]
            del parts[0::3]
            packed = _pack_parts(len(items), ops, parts, keys=True)
    return _pack_any(items) if packed is None else packed


def _pack_parts(count: int, ops: Optional[List[Any]], parts: List[Any], keys: bool) -> Optional[Packed]:
    """Joins the parts as they are; None if one of them is no bytes after all.

    That shows without a look at each: what is no buffer can't be joined, and a buffer whose len is
    not its length in bytes spoils the sum.
    """
    try:
        lens = list(map(len, parts))
        data = b"".join(parts)
        if sum(lens) != len(data):
            return None
        packed_ops = None if ops is None else bytes(ops)
        if keys:
            return Packed(count, packed_ops, array("I", lens[0::2]), array("I", lens[1::2]), data)
        return Packed(count, packed_ops, None, array("I", lens), data)
    except (TypeError, ValueError, BufferError, OverflowError):
        return None


def _pack_any(items: List[Any]) -> Packed:
    ops = bytearray()
    parts = []
    for index, item in enumerate(items):
        op, key, value = PUT, b"", item
        if isinstance(item, tuple):
            if len(item) == 2:
                key, value = item
            elif len(item) == 3:
                op, key, value = item
            else:
                raise TypeError(f"record {index} of the batch is a tuple of {len(item)}: expected (key, value) or "
                                "(op, key, value)")
        ops.append(op_number(op, f"op of record {index} of the batch"))
        parts.append(to_bytes(key, f"key of record {index} of the batch"))
        parts.append(to_bytes(value, f"value of record {index} of the batch"))
    try:
        lens = array("I", map(len, parts))
    except OverflowError:
        raise TooLarge("a key or value has 4 GiB or more; nothing was written") from None
    return Packed(len(items), bytes(ops), lens[0::2], lens[1::2], b"".join(parts))


def to_bytes(data: BytesLike, what: str) -> bytes:
    """`data` as bytes: as it is if it is some, a copy of any other buffer."""
    if type(data) is bytes:
        return data
    if isinstance(data, str):
        _refuse_str(what)
    try:
        return memoryview(data).tobytes()
    except TypeError:
        raise TypeError(f"{what} must be bytes-like, not {type(data).__name__}") from None


def _refuse_str(what: str) -> NoReturn:
    raise TypeError(f"{what} is a str, and a log keeps bytes: which bytes a text becomes is your choice, "
                    "for example .encode() for UTF-8")


def op_number(op: int, what: str = "op") -> int:
    """An op that fits its byte; which numbers are allowed is the library's affair."""
    return unsigned(op, 8, what)


def unsigned(value: int, bits: int, what: str) -> int:
    """`value` if it fits; ctypes would cut it in silence."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be an int, not {type(value).__name__}") from None
    if not 0 <= number < 1 << bits:
        raise InvalidArgument(f"{what} is {number}, expected 0 to {(1 << bits) - 1}")
    return number
