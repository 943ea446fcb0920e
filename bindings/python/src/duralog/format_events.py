"""A reader of event stores in pure Python, written from section 20 of FORMAT.md and from nothing else.

An event store is a log whose records of ops 16 to 20 mean something. So this file stands on
`format.py` beside it, which decides what is committed and says where the log ends; here the records
of each committed batch are decoded and held against every rule of section 20. `duralog.format`
gives access to it: `duralog.format.open_events(path)`, and `python3 -m duralog.format events DIR`.

The path of a batch through this file
-------------------------------------
    LogReader      records of committed batches                          sections 7, 12.6
    _decode_event  the bytes of one record, by themselves                20.1, 20.2
    _decode_side   the same for side records and idempotency keys        20.4, 20.5
    _Store         what must hold between the records of the whole log   20.2 to 20.6
    EventReader    events, side records

What must hold
--------------
A batch is shown whole or not at all: it is checked whole before its first event is seen. The first
record that breaks a rule ends the reading with CorruptRecord, which names it; what comes behind it
could not be judged, since the numbers no longer say anything.

Memory: one batch, the id of every event (for 20.3), the version of every stream, the keys of the
side records. This reader is for checking and for getting at the data, not for serving it.

Lines of JSON
-------------
The command line prints one object a line, with the fields of Event in their order, always all of
them: numbers as integers; `id`, `correlation_id` and `causation_id` as UUIDs in lower case with
hyphens; bytes (`metadata`, `data`) in base64; what an event has not is null, but `metadata` is
empty. Names and text are strings. With `--side` the side records that count at the end of the log
are printed instead, each with its `kind`: saved_position, state, idempotency, in this order and
each by key. Fields may be added; those that are there keep their names and meaning.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import struct
import sys
import uuid
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple, Union

if __package__:
    from . import format as log_format
else:  # loaded by path, beside format.py
    import format as log_format  # type: ignore[import-not-found,no-redef]

__all__ = [
    "CorruptRecord", "Event", "SavedPosition", "StatePut", "StateDelete", "IdempotencyKey",
    "SideRecords", "EventReader", "open_events",
]

# --- 20.2 Event, 20.4 Side records, 20.5 Idempotency key ---------------------------------------

EVENT, SAVED_POSITION, STATE_PUT, STATE_DELETE, IDEMPOTENCY_KEY = 16, 17, 18, 19, 20

ID, FIRST, LAST, METADATA, OCCURRED, CORRELATION, CAUSATION, NEWER = (1 << bit for bit in range(8))

STREAM_MAX = 1024
TYPE_MAX = 255
TAG_COUNT_MAX = 64
TAG_MAX = 255
CONTENT_TYPE_MAX = 255
POSITION_MAX = (1 << 62) - 1
NAME_MAX = 255  # of a saved position; the idempotency key has the same limit
STATE_KEY_MAX = 1024
STATE_VALUE_MAX = 1_048_576
VARINT_MAX_LEN = 10
U64_MAX = (1 << 64) - 1
ID_LEN = 16
NO_ID = bytes(ID_LEN)

SAVED_POSITION_VALUE = struct.Struct("<QB")
RESET = 1  # bit 0 of its flags
IDEMPOTENCY_VALUE = struct.Struct("<32sQQ")


class CorruptRecord(log_format.FormatError):
    """A record that breaks a rule of section 20, in a log whose checksums hold. `lsn` is that of its frame."""

    def __init__(self, record: log_format.Record, reason: str, expected: str, found: str) -> None:
        super().__init__(f"record {record.seq} (LSN {record.lsn}, batch {record.batch_id}, op {record.op}): "
                         f"{reason}: expected {expected}, found {found}")
        self.seq = record.seq
        self.lsn = record.lsn
        self.batch_id = record.batch_id
        self.reason = reason
        self.expected = expected
        self.found = found


# =============================================================================================
# Values
# =============================================================================================


@dataclass(frozen=True)
class Event:
    """An event (20.2). `id` is its own or the derived one (20.3); `time_ns` is when it was recorded."""

    position: int
    stream: str
    stream_version: int
    type: str
    tags: Tuple[str, ...]
    id: bytes
    has_own_id: bool
    schema_version: int
    content_type: str
    occurred_ns: Optional[int]
    correlation_id: Optional[bytes]
    causation_id: Optional[bytes]
    metadata: bytes
    data: bytes
    time_ns: int
    first_of_batch: bool
    last_of_batch: bool
    batch_id: int
    seq: int

    @property
    def category(self) -> str:
        return self.stream.split("-", 1)[0]


@dataclass(frozen=True)
class SavedPosition:
    name: str
    position: int
    reset: bool
    seq: int


@dataclass(frozen=True)
class StatePut:
    key: bytes
    value: bytes
    seq: int


@dataclass(frozen=True)
class StateDelete:
    key: bytes
    seq: int


@dataclass(frozen=True)
class IdempotencyKey:
    """The batch `batch_id` was appended under this key (20.5)."""

    key: bytes
    digest: bytes
    first_position: int
    event_count: int
    batch_id: int
    seq: int


Item = Union[Event, SavedPosition, StatePut, StateDelete, IdempotencyKey]


class SideRecords(NamedTuple):
    """The side records that count: of each key the newest, without deleted state."""

    saved_positions: Dict[str, SavedPosition]
    state: Dict[bytes, StatePut]
    idempotency_keys: Dict[bytes, IdempotencyKey]


# =============================================================================================
# One record
# =============================================================================================


class _Broken(Exception):
    """Why a record is refused: reason, expected, found. Becomes CorruptRecord, which knows the record."""


def _require(holds: bool, reason: str, expected: str, found: object) -> None:
    if not holds:
        raise _Broken(reason, expected, str(found))


class _Input:
    """The value of an event from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int, what: str) -> bytes:
        left = len(self.data) - self.at
        _require(length <= left, what, f"{length} bytes", left)
        self.at += length
        return self.data[self.at - length:self.at]

    def varint(self, what: str) -> int:
        """20.1: in as few bytes as it needs, so the last byte is not 0 but for the number 0."""
        value = 0
        for index in range(VARINT_MAX_LEN):
            byte = self.take(1, what)[0]
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                _require(byte != 0 or index == 0, what, "a varint without needless bytes", f"{index + 1} bytes")
                _require(value <= U64_MAX, what, f"at most {U64_MAX}", value)
                return value
        raise _Broken(what, f"a varint of at most {VARINT_MAX_LEN} bytes", "more")

    def sized(self, what: str, least: int, most: Optional[int] = None) -> bytes:
        length = self.varint(f"{what} length")
        _check_len(length, what, least, most)
        return self.take(length, what)

    def text(self, what: str, least: int, most: int) -> str:
        return _utf8(self.sized(what, least, most), what)


def _check_len(length: int, what: str, least: int, most: Optional[int]) -> None:
    _require(length >= least and (most is None or length <= most), f"{what} length",
             f"at least {least}" if most is None else f"{least} to {most}", length)


def _utf8(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Broken(what, "UTF-8", f"byte 0x{data[error.start]:02x} at {error.start}") from None


def _derived_id(log_id: bytes, position: int) -> bytes:
    """20.3: a UUID of version 8 from the log's id and the position."""
    version = bytes((log_id[6] & 0x0F | 0x80,))
    return log_id[:6] + version + log_id[7:8] + (position & POSITION_MAX | 1 << 63).to_bytes(8, "big")


def _derived_from(log_id: bytes, event_id: bytes) -> Optional[int]:
    """The position that this id is derived from, or None for every other id."""
    position = int.from_bytes(event_id[8:], "big") & POSITION_MAX
    return position if position > 0 and event_id == _derived_id(log_id, position) else None


def _decode_event(record: log_format.Record, log_id: bytes) -> Tuple[Event, bytes]:
    """An event, and its value as the digest of 20.5 takes it."""
    _check_len(len(record.key), "stream name", 1, STREAM_MAX)
    stream = _utf8(record.key, "stream name")
    source = _Input(record.value)
    flags = source.take(1, "event flags")[0]
    if flags & NEWER:
        raise log_format.NewerFormat(f"record {record.seq} (LSN {record.lsn}): an event with flag bit 7")
    position = source.varint("position")
    stream_version = source.varint("stream_version")
    _require(1 <= position <= POSITION_MAX, "position", f"1 to {POSITION_MAX}", position)
    behind_numbers = source.at
    own_id = source.take(ID_LEN, "id") if flags & ID else None
    _require(own_id != NO_ID, "id", "an id", "zeros")
    event_type = source.text("event_type", 1, TYPE_MAX)
    tag_count = source.varint("tag_count")
    _require(tag_count <= TAG_COUNT_MAX, "tag_count", f"at most {TAG_COUNT_MAX}", tag_count)
    tags: List[str] = []
    for index in range(tag_count):
        tags.append(source.text(f"tag {index}", 1, TAG_MAX))
        _require(index == 0 or tags[-2].encode() < tags[-1].encode(), f"tag {index}",
                 "tags ascending, none twice", repr(tags[-1]))
    schema_version = source.varint("schema_version")
    content_type = source.text("content_type", 0, CONTENT_TYPE_MAX)
    occurred_ns = (int.from_bytes(source.take(8, "occurred_ns"), "little", signed=True)
                   if flags & OCCURRED else None)
    correlation_id = source.take(ID_LEN, "correlation_id") if flags & CORRELATION else None
    causation_id = source.take(ID_LEN, "causation_id") if flags & CAUSATION else None
    metadata = source.sized("metadata", 1) if flags & METADATA else b""
    event = Event(
        position=position, stream=stream, stream_version=stream_version, type=event_type, tags=tuple(tags),
        id=own_id if own_id is not None else _derived_id(log_id, position), has_own_id=own_id is not None,
        schema_version=schema_version, content_type=content_type, occurred_ns=occurred_ns,
        correlation_id=correlation_id, causation_id=causation_id, metadata=metadata,
        data=record.value[source.at:], time_ns=record.time_ns, first_of_batch=bool(flags & FIRST),
        last_of_batch=bool(flags & LAST), batch_id=record.batch_id, seq=record.seq)
    return event, bytes((flags & ~(FIRST | LAST), 0, 0)) + record.value[behind_numbers:]


def _header(record: log_format.Record, value_len: int) -> bytes:
    """The header of a record as it stands in the payload (section 6)."""
    return log_format.RECORD_HEADER.pack(record.op, 0, 0, len(record.key), value_len)


def _decode_side(record: log_format.Record) -> Union[SavedPosition, StatePut, StateDelete, IdempotencyKey]:
    key, value, seq = record.key, record.value, record.seq
    if record.op == SAVED_POSITION:
        _check_len(len(key), "name of a saved position", 1, NAME_MAX)
        _check_len(len(value), "value of a saved position", SAVED_POSITION_VALUE.size, SAVED_POSITION_VALUE.size)
        position, flags = SAVED_POSITION_VALUE.unpack(value)
        _require(position <= POSITION_MAX, "saved position", f"at most {POSITION_MAX}", position)
        return SavedPosition(_utf8(key, "name of a saved position"), position, bool(flags & RESET), seq)
    if record.op == IDEMPOTENCY_KEY:
        _check_len(len(key), "idempotency key", 1, NAME_MAX)
        _check_len(len(value), "value of an idempotency key", IDEMPOTENCY_VALUE.size, IDEMPOTENCY_VALUE.size)
        return IdempotencyKey(key, *IDEMPOTENCY_VALUE.unpack(value), record.batch_id, seq)
    _check_len(len(key), "key of state", 1, STATE_KEY_MAX)
    if record.op == STATE_PUT:
        _check_len(len(value), "value of state", 0, STATE_VALUE_MAX)
        return StatePut(key, value, seq)
    _check_len(len(value), "value of deleted state", 0, 0)
    return StateDelete(key, seq)


# =============================================================================================
# The store
# =============================================================================================


class _Store:
    """What is known of the log so far: whatever a rule between records needs."""

    def __init__(self, log_id: bytes) -> None:
        self.log_id = log_id
        self.last_position = 0
        self.versions: Dict[str, int] = {}
        self.ids: Set[bytes] = set()
        self.saved: Dict[str, int] = {}
        self.idempotency_keys: Set[bytes] = set()
        self.time_ns = 0

    def batch(self, records: List[log_format.Record]) -> List[Item]:
        """Everything that one batch says, or CorruptRecord."""
        items: List[Item] = []
        events = [record for record in records if record.op == EVENT]
        taken = self.last_position
        digest = hashlib.sha256()
        side_keys: Set[Tuple[bool, bytes]] = set()
        key_seen = False
        for record in records:
            counted = record.value
            try:
                if EVENT <= record.op <= IDEMPOTENCY_KEY:
                    _require(not key_seen, "order in the batch (20.6)", "nothing behind the idempotency key",
                             f"op {record.op}")
                if record.op == EVENT:
                    _require(not side_keys, "order in the batch (20.6)", "events before side records",
                             "an event behind")
                    event, counted = _decode_event(record, self.log_id)
                    self._place(event, taken)
                    for flag, is_set, holder in (("FIRST", event.first_of_batch, events[0]),
                                                 ("LAST", event.last_of_batch, events[-1])):
                        _require(is_set == (record is holder), f"flag {flag}", str(record is holder), is_set)
                    items.append(event)
                elif EVENT < record.op <= IDEMPOTENCY_KEY:
                    side = _decode_side(record)
                    if isinstance(side, IdempotencyKey):
                        key_seen = True
                        self._check_key(side, len(events), digest.digest())
                    else:
                        key = (record.op == SAVED_POSITION, record.key)
                        _require(key not in side_keys, "side record", "each key once in a batch", repr(record.key))
                        side_keys.add(key)
                    if isinstance(side, SavedPosition):
                        self._save(side)
                    items.append(side)
            except _Broken as why:
                raise CorruptRecord(record, *why.args) from None
            digest.update(_header(record, len(counted)) + record.key + counted)
        return items

    def _place(self, event: Event, taken: int) -> None:
        """20.2 and 20.3: the numbers, the id and the time of an event against all before it."""
        _require(event.position == self.last_position + 1, "position", str(self.last_position + 1), event.position)
        version = self.versions.get(event.stream, 0) + 1
        _require(event.stream_version == version, "stream_version", str(version), event.stream_version)
        if event.has_own_id:
            position = _derived_from(self.log_id, event.id)
            _require(position is None or position <= taken, "id of its own",
                     f"none derived from a position above {taken}", f"that of {position}")
        _require(event.id not in self.ids, "id", "one that no event has", event.id.hex())
        _require(event.time_ns >= self.time_ns, "recorded time", f"at least {self.time_ns}", event.time_ns)
        self.last_position = event.position
        self.versions[event.stream] = version
        self.ids.add(event.id)
        self.time_ns = event.time_ns

    def _save(self, side: SavedPosition) -> None:
        before = self.saved.get(side.name, -1)
        _require(side.reset or side.position > before, "saved position", f"more than {before}", side.position)
        self.saved[side.name] = side.position

    def _check_key(self, side: IdempotencyKey, event_count: int, digest: bytes) -> None:
        """20.5: what the key says about its batch."""
        first = self.last_position - event_count + 1
        _require(side.first_position == first, "position of the idempotency key", str(first), side.first_position)
        _require(side.event_count == event_count, "event count of the idempotency key", str(event_count),
                 side.event_count)
        _require(side.digest == digest, "digest of the idempotency key", digest.hex(), side.digest.hex())
        _require(side.key not in self.idempotency_keys, "idempotency key", "one that no batch has", repr(side.key))
        self.idempotency_keys.add(side.key)


class EventReader:
    """An event store that was found. Made by open_events. Each iteration walks the log anew."""

    def __init__(self, log: log_format.LogReader) -> None:
        self.log = log

    def items(self) -> Iterator[Item]:
        """Events and side records of committed batches, in the order of the log.

        Where the log is damaged, what was committed before comes first, then Corrupt is raised;
        CorruptRecord, where a record breaks a rule of section 20.
        """
        store = _Store(self.log.log_id or NO_ID)
        for _, records in groupby(self.log.records(), lambda record: record.batch_id):
            yield from store.batch(list(records))

    def events(self, from_position: int = 0) -> Iterator[Event]:
        """The events from this position on."""
        for item in self.items():
            if isinstance(item, Event) and item.position >= from_position:
                yield item

    def side_records(self) -> SideRecords:
        """The side records that count at the end of the log (20.4)."""
        side = SideRecords({}, {}, {})
        for item in self.items():
            if isinstance(item, SavedPosition):
                side.saved_positions[item.name] = item
            elif isinstance(item, StatePut):
                side.state[item.key] = item
            elif isinstance(item, StateDelete):
                side.state.pop(item.key, None)
            elif isinstance(item, IdempotencyKey):
                side.idempotency_keys[item.key] = item
        return side


def open_events(path: Union[str, "os.PathLike[str]"], live: bool = False) -> EventReader:
    """Find the event store in the directory `path`; `live` and the errors are those of open_log."""
    return EventReader(log_format.open_log(path, live))


# =============================================================================================
# Command line
# =============================================================================================


def _json_of(item: Item) -> Dict[str, Any]:
    """The fields of an item as values that JSON can hold."""
    found = asdict(item)
    for name, value in found.items():
        if name in ("id", "correlation_id", "causation_id") and value is not None:
            found[name] = str(uuid.UUID(bytes=value))
        elif name == "digest":
            found[name] = value.hex()
        elif isinstance(value, bytes):
            found[name] = base64.b64encode(value).decode("ascii")
    return found


def _print_side(reader: EventReader, out: Callable[[str], None]) -> None:
    side = reader.side_records()
    for kind, items in (("saved_position", side.saved_positions), ("state", side.state),
                        ("idempotency", side.idempotency_keys)):
        for key in sorted(items):
            out(json.dumps({"kind": kind, **_json_of(items[key])}))


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m duralog.format events",
        description="Read the events of a Duralog event store without the library, one line of JSON each.")
    parser.add_argument("dir", help="the directory of the store")
    parser.add_argument("--from", dest="from_position", type=int, default=0, metavar="POSITION",
                        help="begin at this position")
    parser.add_argument("--side", action="store_true",
                        help="print saved positions, state and idempotency keys instead")
    options = parser.parse_args(arguments)
    try:
        reader = open_events(options.dir)
        if options.side:
            _print_side(reader, print)
        else:
            for event in reader.events(options.from_position):
                print(json.dumps(_json_of(event)))
        return 0
    except (log_format.FormatError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
