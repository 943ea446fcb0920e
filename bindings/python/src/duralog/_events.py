"""Events on their way in and out: what an append is made of, and how many are packed for one call.

In: `pack_events` turns events into the columns of `eventstore_append_add_columns`: lengths as arrays of
32-bit numbers, texts and bytes joined, and NULL for a column in which no event says anything. Each
column is looked at as a whole; only when one is not as it should be, each value is, to say which.

Out: `events_of` cuts a page into `Event`s. What every program asks for is cut at once, a column at a time;
the rest is kept as it stood in the page, and cut when it is asked for.
"""

from __future__ import annotations

import datetime
import json
import operator
import uuid
from array import array
from collections.abc import Collection, Mapping
from ctypes import c_char_p, c_void_p, cast, string_at
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain, repeat
from operator import itemgetter
from struct import Struct
from types import MappingProxyType
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _native
from ._cursor import PAGE_COUNT_MAX, Cutter, memory_at, new_tuple, u32_column, u64_column
from ._errors import InvalidArgument, TooLarge
from ._records import BytesLike, time_of, to_bytes, unsigned

ANY = _native.EVENTSTORE_EXPECT_ANY
"""In `expected` of an append: whatever version the stream has."""

EXISTS = _native.EVENTSTORE_EXPECT_EXISTS
"""In `expected` of an append: the stream has at least one event."""

NONE = _native.EVENTSTORE_EXPECT_NONE
"""In `expected` of an append: there is no such stream."""

Id = Union[uuid.UUID, bytes]
"""An id: a UUID, or its 16 bytes."""

Time = Union[datetime.datetime, int]
"""A time: a datetime with a time zone, or nanoseconds since 1970-01-01 UTC."""

_NO_ID = bytes(16)
_INDEXES = tuple(range(PAGE_COUNT_MAX))
_PACK_ALL = _native.EVENTSTORE_PACK_STREAMS | _native.EVENTSTORE_PACK_REST
_DIFFERENT = (1 << 64) - 1
"""As the length of data: not all are of one."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class NewEvent(NamedTuple):
    """An event to be appended.

    stream: 1 to 1024 bytes of UTF-8; its category is what stands before the first "-". type: what
    happened. data: the event; metadata: about it; both in bytes of the application's own. tags: at most
    64, a set. id: its own, that no other event has; None: one is made for it. schema_version: the application's
    number for the form of the data. content_type: media type of the data. occurred: when it happened;
    when it was recorded is known anyway. correlation_id, causation_id: what it belongs to, and follows from.
    """

    stream: str
    type: str
    data: BytesLike = b""
    metadata: BytesLike = b""
    tags: Collection[str] = ()
    id: Optional[Id] = None
    occurred: Optional[Time] = None
    correlation_id: Optional[Id] = None
    causation_id: Optional[Id] = None
    schema_version: int = 0
    content_type: str = ""


class _Rest:
    """What is rarely asked for of the events of a page, as `eventstore_page_pack` says, and cut when it is asked for."""

    __slots__ = ("columns", "count", "_parts")

    def __init__(self, columns: bytes, count: int) -> None:
        self.columns = columns
        self.count = count
        self._parts: Optional[List[List[bytes]]] = None

    def id_bytes(self, column: int, index: int) -> bytes:
        at = column * self.count + 16 * index
        return self.columns[at:at + 16]

    def part(self, column: int, index: int) -> bytes:
        """Of content types, tags and metadata, one after the other."""
        parts = self._parts
        if parts is None:  # two threads may both do this: they get the same
            count = self.count
            source = BytesIO(self.columns)
            lens = memoryview(self.columns)[_LENS * count:_FLAGS * count].cast("I").tolist()
            source.seek(_REST_SIZE * count)
            parts = self._parts = [list(map(source.read, lens[begin:begin + count]))
                                   for begin in range(0, 3 * count, count)]
        return parts[column][index]


# Columns of the rest, each from its number times the count of events on.
_TIME, _SCHEMA_VERSION, _OCCURRED, _ID, _CORRELATION, _CAUSATION, _LENS, _FLAGS, _REST_SIZE = (
    0, 8, 16, 24, 40, 56, 72, 84, 86)
_CONTENT_TYPES, _TAGS, _METADATA = 0, 1, 2
_REST_OF_ONE = Struct("=QQq16s16s16sIIIBB")
_u64_from = Struct("Q").unpack_from
_i64_from = Struct("q").unpack_from


class _Layout(NamedTuple):
    """What an Event is made of, and where its class takes the attributes from."""

    position: Any
    stream: Any
    stream_version: Any
    type: Any
    data: Any
    rest: Any
    index: Any


class Event(tuple):  # type: ignore[type-arg]
    """An event as it is read. It never changes.

    position: its number in the store; stream_version: its number in its stream; both from 1, without
    gaps. time_ns: when it was recorded, occurred_ns: when it happened (None: not said), in nanoseconds since
    1970-01-01 UTC. tags: in ascending order. flags: see has_own_id, first_of_batch, last_of_batch.

    Only what every program asks for is made at once. All else is cut, decoded and parsed when it is asked for, each
    time anew. That it is a tuple inside, the only class of one's own that Python makes of columns without running
    a frame for each, is nobody's business: it can't be indexed or iterated over.
    """

    __slots__ = ()
    __match_args__ = ("position", "stream", "stream_version", "type", "data")

    position: int = _Layout.position
    stream: str = _Layout.stream
    stream_version: int = _Layout.stream_version
    type: str = _Layout.type
    data: bytes = _Layout.data
    _rest: _Rest = _Layout.rest
    _index: int = _Layout.index

    __iter__ = __getitem__ = __len__ = __contains__ = __add__ = __mul__ = __rmul__ = None  # type: ignore[assignment]
    __lt__ = __le__ = __gt__ = __ge__ = count = index = None  # type: ignore[assignment]

    def json(self) -> Any:
        """The data, read as JSON."""
        return json.loads(self.data)

    @property
    def category(self) -> str:
        """Its stream's name up to the first "-"."""
        return self.stream.partition("-")[0]

    @property
    def metadata(self) -> bytes:
        """What was said about the event."""
        return self._rest.part(_METADATA, self._index)

    @property
    def tags(self) -> Tuple[str, ...]:
        """Its tags, in ascending order."""
        return tags_of(self._rest.part(_TAGS, self._index))

    @property
    def content_type(self) -> str:
        """Media type of the data; empty: not said."""
        return self._rest.part(_CONTENT_TYPES, self._index).decode()

    @property
    def schema_version(self) -> int:
        """The application's number for the form of the data; 0: not said."""
        rest = self._rest
        number: int = _u64_from(rest.columns, _SCHEMA_VERSION * rest.count + 8 * self._index)[0]
        return number

    @property
    def id(self) -> uuid.UUID:
        """Its own id, or the one that was made for it."""
        return uuid.UUID(bytes=self.id_bytes)

    @property
    def id_bytes(self) -> bytes:
        """The same in 16 bytes."""
        return self._rest.id_bytes(_ID, self._index)

    @property
    def correlation_id(self) -> Optional[uuid.UUID]:
        """What it belongs to."""
        found = self.correlation_id_bytes
        return None if found is None else uuid.UUID(bytes=found)

    @property
    def correlation_id_bytes(self) -> Optional[bytes]:
        """The same in 16 bytes."""
        has = self.flags & _native.EVENTSTORE_EVENT_CORRELATION
        return self._rest.id_bytes(_CORRELATION, self._index) if has else None

    @property
    def causation_id(self) -> Optional[uuid.UUID]:
        """What it follows from."""
        found = self.causation_id_bytes
        return None if found is None else uuid.UUID(bytes=found)

    @property
    def causation_id_bytes(self) -> Optional[bytes]:
        """The same in 16 bytes."""
        has = self.flags & _native.EVENTSTORE_EVENT_CAUSATION
        return self._rest.id_bytes(_CAUSATION, self._index) if has else None

    @property
    def time(self) -> datetime.datetime:
        """When it was recorded, in UTC. `time_ns` has the full precision."""
        return time_of(self.time_ns)

    @property
    def time_ns(self) -> int:
        """The same in nanoseconds since 1970-01-01 UTC."""
        rest = self._rest
        number: int = _u64_from(rest.columns, _TIME * rest.count + 8 * self._index)[0]
        return number

    @property
    def occurred(self) -> Optional[datetime.datetime]:
        """When it happened, in UTC, if that was said. `occurred_ns` has the full precision."""
        found = self.occurred_ns
        return None if found is None else time_of(found)

    @property
    def occurred_ns(self) -> Optional[int]:
        """The same in nanoseconds since 1970-01-01 UTC."""
        if not self.flags & _native.EVENTSTORE_EVENT_OCCURRED:
            return None
        rest = self._rest
        number: int = _i64_from(rest.columns, _OCCURRED * rest.count + 8 * self._index)[0]
        return number

    @property
    def flags(self) -> int:
        """EVENTSTORE_EVENT_* of the C face."""
        rest = self._rest
        return rest.columns[_FLAGS * rest.count + self._index]

    @property
    def has_own_id(self) -> bool:
        """Its id was given when it was appended."""
        return bool(self.flags & _native.EVENTSTORE_EVENT_OWN_ID)

    @property
    def first_of_batch(self) -> bool:
        return bool(self.flags & _native.EVENTSTORE_EVENT_FIRST)

    @property
    def last_of_batch(self) -> bool:
        return bool(self.flags & _native.EVENTSTORE_EVENT_LAST)

    def _fields(self) -> Tuple[Any, ...]:
        return tuple(getattr(self, name) for name in _EVENT_FIELDS)

    def __repr__(self) -> str:
        return f"Event({', '.join(f'{name}={getattr(self, name)!r}' for name in _EVENT_FIELDS)})"

    def __eq__(self, other: object) -> bool:
        return self._fields() == other._fields() if isinstance(other, Event) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return self._fields() != other._fields() if isinstance(other, Event) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.position, self.id_bytes))

    def __reduce__(self) -> Tuple[Any, ...]:
        # To other processes, and into copies, it goes without the page that it is of.
        part, index = self._rest.part, self._index
        return _event, (self.position, self.stream, self.stream_version, self.type, self.data, self.flags, self.id_bytes,
                        self.time_ns, self.schema_version, self.occurred_ns or 0, self.correlation_id_bytes or _NO_ID,
                        self.causation_id_bytes or _NO_ID, self.metadata, part(_TAGS, index), part(_CONTENT_TYPES, index))


_EVENT_FIELDS = ("position", "stream", "stream_version", "type", "data", "metadata", "tags", "id_bytes", "time_ns",
                 "occurred_ns", "correlation_id_bytes", "causation_id_bytes", "schema_version", "content_type", "flags")


EventTuple = Tuple[int, str, int, str, bytes]
"""(position, stream, stream_version, type, data)"""


@dataclass(frozen=True, init=False)
class QueryItem:
    """Events that are of one of these types and have all of these tags. No types: of any type."""

    types: Tuple[str, ...] = ()
    tags: Tuple[str, ...] = ()

    def __init__(self, types: Iterable[str] = (), tags: Iterable[str] = ()) -> None:
        object.__setattr__(self, "types", _texts(types, "types of a QueryItem"))
        object.__setattr__(self, "tags", _texts(tags, "tags of a QueryItem"))


@dataclass(frozen=True, init=False)
class Query:
    """Events that match at least one of the items. Without items: every event.

        Query([QueryItem(types=["StudentSubscribed"], tags=["course:c1"])])
    """

    items: Tuple[QueryItem, ...] = ()

    def __init__(self, items: Iterable[QueryItem] = ()) -> None:
        found = tuple(items)
        for item in found:
            if not isinstance(item, QueryItem):
                raise TypeError(f"an item of a Query must be a QueryItem, not {type(item).__name__}")
        object.__setattr__(self, "items", found)


@dataclass(frozen=True)
class Condition:
    """Demands that no event behind the position `after` matches: nothing of the kind came since one looked."""

    query: Query
    after: int = 0


@dataclass(frozen=True)
class AppendReceipt:
    """What an append came to.

    first_position, last_position: of its events; 0 if it had none. time_ns: when it was recorded.
    duplicate: it had been appended before, nothing was written, and this is the receipt of the first time (but
    batch_id is 0). stream_versions: each stream that was appended to, and its version after that; it can't be
    changed, and dict() of it gives one that can.
    """

    first_position: int
    last_position: int
    time_ns: int
    batch_id: int
    duplicate: bool
    stream_versions: Mapping[str, int] = field(hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stream_versions", MappingProxyType(dict(self.stream_versions)))

    def __reduce__(self) -> Tuple[Any, ...]:
        # A MappingProxyType can be neither pickled nor copied.
        return AppendReceipt, (self.first_position, self.last_position, self.time_ns, self.batch_id, self.duplicate,
                               dict(self.stream_versions))

    @property
    def time(self) -> datetime.datetime:
        """When it was recorded, in UTC."""
        return time_of(self.time_ns)


@dataclass(frozen=True)
class StreamInfo:
    """What is known of a stream: its version, and the positions of its first and its last event."""

    stream_version: int
    first_position: int
    last_position: int


class Name(NamedTuple):
    """A stream, category, type or tag: how many events bear it, and the positions of the first and the last."""

    name: str
    event_count: int
    first_position: int
    last_position: int


@dataclass(frozen=True)
class Snapshot:
    """A saved state: the version that it is of, the position up to which events are in it, and its bytes."""

    version: int
    position: int
    data: bytes


# --- In ---------------------------------------------------------------------------------------


class PackedEvents(NamedTuple):
    """The columns, and what they point to: to be kept as long as the columns are used."""

    columns: _native.eventstore_columns_t
    kept: List[Any]


def pack_events(events: Iterable[NewEvent]) -> Optional[PackedEvents]:
    """Events in columns; None if there are none."""
    if isinstance(events, (NewEvent, Event)):
        raise TypeError(f"an append takes many events, and this is one {type(events).__name__}: put it into a list")
    if isinstance(events, (str, bytes, bytearray, memoryview, Mapping)):
        raise TypeError(f"an append takes an iterable of NewEvent, not a {type(events).__name__}")
    items = list(events)
    if not items:
        return None
    for kind in set(map(type, items)):
        if not issubclass(kind, NewEvent):
            index = next(index for index, item in enumerate(items) if type(item) is kind)
            raise TypeError(f"event {index} must be a NewEvent, not {kind.__name__}")
    (streams, types, data, metadata, tags, ids, occurred, correlation_ids, causation_ids, schema_versions,
     content_types) = zip(*items)
    columns = _native.eventstore_columns_t()
    columns.count = len(items)
    packed = PackedEvents(columns, [])
    parts: List[bytes] = []
    for name, texts in (("stream", streams), ("event_type", types), ("content_type", content_types)):
        if name != "content_type" or texts.count("") < len(items):
            _set_lens(packed, f"{name}_lens", _text_column(texts, name), parts)
    if tags.count(()) < len(items):
        counts, all_tags = _tags_column(tags)
        _set_numbers(packed, "tag_counts", counts)
        _set_lens(packed, "tag_lens", _text_column(all_tags, "tag"), parts)
    for name, values in (("data", data), ("metadata", metadata)):
        if values.count(b"") < len(items):
            _set_lens(packed, f"{name}_lens", _bytes_column(values, name), parts)
    for name, given in (("id", ids), ("correlation_id", correlation_ids), ("causation_id", causation_ids)):
        if given.count(None) < len(items):
            column = _ids_column(given, name)
            packed.kept.append(column)
            setattr(columns, f"{name}s", _address(column))
    if schema_versions.count(0) < len(items):
        numbers = [unsigned(value, 64, f"schema_version of event {index}") for index, value in enumerate(schema_versions)]
        _set_numbers(packed, "schema_versions", array("Q", numbers))
    if occurred.count(None) < len(items):
        _set_numbers(packed, "occurred_ns", _times_column(occurred))
        _set_numbers(packed, "has_occurred", array("B", [value is not None for value in occurred]))
    joined = b"".join(parts)
    packed.kept.append(joined)
    columns.bytes = _address(joined)
    columns.bytes_len = len(joined)
    return packed


def _address(data: bytes) -> int:
    return cast(c_char_p(data), c_void_p).value or 0


def _set_numbers(packed: PackedEvents, field: str, numbers: "array[int]") -> None:
    packed.kept.append(numbers)
    setattr(packed.columns, field, numbers.buffer_info()[0])


def _set_lens(packed: PackedEvents, field: str, column: "Tuple[array[int], bytes]", parts: List[bytes]) -> None:
    lens, joined = column
    _set_numbers(packed, field, lens)
    parts.append(joined)


def _text_column(texts: Sequence[str], name: str) -> "Tuple[array[int], bytes]":
    """Lengths in UTF-8, and all texts joined."""
    try:
        joined = "".join(texts)
        if joined.isascii():
            return array("I", map(len, texts)), joined.encode()
        encoded = [text.encode() for text in texts]
        return array("I", map(len, encoded)), b"".join(encoded)
    except (TypeError, UnicodeEncodeError):
        for index, text in enumerate(texts):
            text_bytes(text, f"{name} {index}")
        raise


def text_bytes(text: str, what: str) -> bytes:
    """A name in UTF-8."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{what} is no text that UTF-8 has: {error}") from None


def _texts(texts: Iterable[str], what: str) -> Tuple[str, ...]:
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"{what} is one {type(texts).__name__}, expected a list or set of str")
    found = tuple(texts)
    for text in found:
        text_bytes(text, f"one of the {what}")
    return found


def _tags_column(tags: Sequence[Collection[str]]) -> "Tuple[array[int], List[str]]":
    for index, some in enumerate(tags):
        if isinstance(some, (str, bytes)) or not isinstance(some, Collection):
            raise TypeError(f"tags of event {index} must be a list, tuple or set of str, not {type(some).__name__}")
    return array("I", map(len, tags)), list(chain.from_iterable(tags))


def _bytes_column(values: Sequence[BytesLike], name: str) -> "Tuple[array[int], bytes]":
    """As `_pack_parts` of the log does, a look at each only if one is no plain buffer."""
    try:
        lens = list(map(len, values))
        joined = b"".join(values)
        if sum(lens) == len(joined):
            return array("I", lens), joined
    except (TypeError, BufferError):
        pass
    except OverflowError:
        raise TooLarge(f"{name} of an event has 4 GiB or more; nothing was written") from None
    parts = [to_bytes(value, f"{name} of event {index}") for index, value in enumerate(values)]
    return array("I", map(len, parts)), b"".join(parts)


def _ids_column(given: Sequence[Optional[Id]], name: str) -> bytes:
    """16 bytes for each; zeros for those that are None."""
    ids: Sequence[Any] = given
    kinds = set(map(type, given))
    if kinds == {uuid.UUID}:
        ids = [id.bytes for id in ids]
        kinds = {bytes}
    if kinds == {bytes} and set(map(len, ids)) == {16} and _NO_ID not in ids:
        return b"".join(ids)
    return b"".join([_NO_ID if value is None else id_bytes(value, f"{name} of event {index}")
                     for index, value in enumerate(given)])


def _times_column(given: Sequence[Optional[Time]]) -> "array[int]":
    """Nanoseconds; 0 for those that are None."""
    if set(map(type, given)) == {int}:
        try:
            return array("q", given)  # type: ignore[arg-type]
        except OverflowError:
            pass
    return array("q", [0 if value is None else ns_of(value, f"occurred of event {index}")
                       for index, value in enumerate(given)])


def id_bytes(value: Id, what: str) -> bytes:
    """The 16 bytes of an id."""
    if isinstance(value, uuid.UUID):
        found = value.bytes
    elif isinstance(value, (bytes, bytearray, memoryview)):
        found = bytes(value)
    else:
        raise TypeError(f"{what} must be a uuid.UUID or 16 bytes, not {type(value).__name__}")
    if len(found) != 16:
        raise InvalidArgument(f"{what} has {len(found)} bytes, expected 16")
    if found == _NO_ID:
        raise InvalidArgument(f"{what} is all zero, which means that there is none")
    return found


def ns_of(value: Time, what: str) -> int:
    """A time in nanoseconds since 1970-01-01 UTC."""
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise InvalidArgument(f"{what} is a datetime without a time zone, so it is not known which time it means: "
                                  "give it one, for example datetime.timezone.utc")
        since = value - _EPOCH
        number = ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000
    else:
        try:
            number = operator.index(value)
        except TypeError:
            raise TypeError(f"{what} must be a datetime or an int, not {type(value).__name__}") from None
    return signed(number, what)


def signed(value: int, what: str) -> int:
    """`value` if it fits 64 bits; ctypes would cut it in silence."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be an int, not {type(value).__name__}") from None
    if not -(1 << 63) <= number < 1 << 63:
        raise InvalidArgument(f"{what} is {number}, expected {-(1 << 63)} to {(1 << 63) - 1}")
    return number


# --- Out --------------------------------------------------------------------------------------


def event_tuples_of(page: _native.eventstore_page_t, cutter: Cutter,
                    stream: Optional[str] = None) -> Iterator[EventTuple]:
    """(position, stream, stream_version, type, data) of each; stream: of all of them, if that is known."""
    head = cutter.pack(page, _native.EVENTSTORE_PACK_STREAMS if stream is None else 0)
    return zip(*_first_columns(page, cutter, head, stream))


def events_of(page: _native.eventstore_page_t, cutter: Cutter, stream: Optional[str] = None) -> Iterator[Event]:
    """An `Event` of each."""
    head = cutter.pack(page, _PACK_ALL if stream is None else _native.EVENTSTORE_PACK_REST)
    rest = _Rest(cutter.copy(head[3], head[4]), head[0])
    return map(Event, zip(*_first_columns(page, cutter, head, stream), repeat(rest), _INDEXES))


def _first_columns(page: _native.eventstore_page_t, cutter: Cutter, head: Tuple[int, ...],
                   stream: Optional[str]) -> Tuple[Iterable[Any], ...]:
    """What every program asks for, of a page that was just packed."""
    count, types_count, data_len, _, streams_at, types_at, data_at, _ = head
    # Behind the head of 64 bytes: positions and versions of 8 bytes each, lengths of data of 4, numbers of types.
    versions_at, lens_at, numbers_at = 64 + 8 * count, 64 + 16 * count, 64 + 20 * count
    streams: Optional[Iterable[str]]
    if stream is None:
        streams, versions = cutter.texts(streams_at, types_at, count), cutter.u64(versions_at, count)
        if streams is None:
            streams = _texts_with_nul(page, page.stream_begin, page.stream_end)
    else:
        streams, versions = repeat(stream, count), cutter.dense(versions_at, count)
    types: Optional[Iterable[str]]
    texts = types = cutter.texts(types_at, data_at, types_count or count)
    if texts is None:
        types = _texts_with_nul(page, page.event_type_begin, page.event_type_end)
    elif types_count == 1:
        types = repeat(texts[0], count)
    elif types_count:  # 0: they are too many to be numbered
        types = itemgetter(*cutter.copy(numbers_at, numbers_at + count))(texts)
    data: Iterable[bytes]
    if data_len == _DIFFERENT:
        data = cutter.parts(data_at, cutter.u32(lens_at, count))
    else:
        data = cutter.equal_parts(data_at, count, data_len)
    return cutter.dense(64, count), streams, versions, types, data


def _texts_with_nul(page: _native.eventstore_page_t, begin: int, end: int) -> List[str]:
    """Texts of a page of which one has a NUL in it."""
    joined = memory_at(page.bytes)[:page.bytes_len]
    count = page.count
    return [joined[begin:end].decode() for begin, end in zip(u32_column(begin, count), u32_column(end, count))]


def tags_of(packed: bytes) -> Tuple[str, ...]:
    """The tags of an event, each with its length before it."""
    tags = []
    at = 0
    while at < len(packed):
        length = packed[at]
        at += 1
        if length >= 128:
            length += 128 * (packed[at] - 1)
            at += 1
        tags.append(packed[at:at + length].decode())
        at += length
    return tuple(tags)


def event_of(found: _native.eventstore_event_t) -> Event:
    """An event that was looked up by itself."""
    return _event(
        found.position, string_at(found.stream, found.stream_len).decode(), found.stream_version,
        string_at(found.event_type, found.event_type_len).decode(), string_at(found.data, found.data_len),
        found.flags, bytes(found.id), found.time_ns, found.schema_version, found.occurred_ns,
        bytes(found.correlation_id), bytes(found.causation_id), string_at(found.metadata, found.metadata_len),
        string_at(found.tags, found.tags_len), string_at(found.content_type, found.content_type_len))


def _event(position: int, stream: str, stream_version: int, type: str, data: bytes, flags: int, id_bytes: bytes,
           time_ns: int, schema_version: int, occurred_ns: int, correlation_id: bytes, causation_id: bytes,
           metadata: bytes, tags: bytes, content_type: bytes) -> Event:
    """An event by itself: of a page of one."""
    columns = _REST_OF_ONE.pack(time_ns, schema_version, occurred_ns, id_bytes, correlation_id, causation_id,
                                len(content_type), len(tags), len(metadata), flags, len(tags_of(tags)))
    rest = _Rest(b"".join((columns, content_type, tags, metadata)), 1)
    return Event((position, stream, stream_version, type, data, rest, 0))


def names_of(page: _native.eventstore_names_page_t, cutter: Cutter) -> Iterator[Name]:
    """A `Name` of each."""
    size = page.count
    fields = zip(cutter.text_column(page, page.name_begin, page.name_end), u64_column(page.event_count, size),
                 u64_column(page.first_position, size), u64_column(page.last_position, size))
    return map(new_tuple, repeat(Name), fields)
