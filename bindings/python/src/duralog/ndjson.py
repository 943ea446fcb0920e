"""Events in and out as NDJSON: one JSON object a line. `python3 -m duralog.ndjson import STORE FILE`, and `export`.

    {"event_id": "e-1", "stream_id": "case-891", "event_type": "Opened", "data": {"by": "R26"},
     "timestamp": "2010-10-02T09:20:39.266000+02:00", "metadata": {"group": "G1"}}

What becomes of each field, so that an export gives back the content of what was imported, line by line:

    event_id    text or integer. A UUID is the id of the event as it is; anything else gives the UUIDv5
                of its JSON text in a namespace, so that the same event_id is always the same event.
    stream_id   the stream
    event_type  the type
    data        the data: its JSON text, byte for byte. Absent: null.
    timestamp   when it occurred. A text that is no time with an offset gives none, and is kept.
    metadata    the metadata: its JSON text. Absent: {}.

An export writes an id as a UUID in lower case and a time as UTC. What would not come back by that is
kept in the metadata, in front, under the key "duralog.ndjson": the event_id, the timestamp, a metadata that
is not an object, and fields of the line that are not known here. All other metadata stays readable
where it was.

Events that were not imported can have more to say. It is written in fields of the same line, and
understood by an import: tags, schema_version, content_type (absent: application/json),
correlation_id, causation_id; data_base64 and metadata_base64 for bytes that are no JSON. What does not say when
it occurred has the time when it was recorded.

Importing. Lines are appended in batches of `batch_count` lines, each batch whole or not at all; a progress
callback is called after each. An import that was stopped, in whatever way, is simply repeated: what
is there already is compared with its line and left alone. The first line that is damaged stops
the import with ImportFailed, which has its number: all batches before that of the line are in, and
nothing of its own. A last line without newline that is no whole JSON object is torn: its writer died, or is still
writing, or the power failed and left zeros where its end should be. It is reported and left out. A line has at most
100,663,296 bytes and 1,000 fields; data and metadata are nested at most 500 levels deep.

Exporting. Positions have no gaps, so line n of an export is event n behind where it began. That is how
`resume` goes on with a file that is there, after cutting its torn last line.

The library itself has the same, if it was built with the feature `ndjson`: `eventstore_import_ndjson` of
the header. From the same file both make the same events, and from the same events the same file, byte for byte. A
change here is one there.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import math
import os
import re
import sys
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from ._errors import DuplicateEvent, DuralogError, InvalidArgument, TooLarge
from ._events import Event, NewEvent
from ._eventstore import EventStore, check_event
from ._records import time_of

__all__ = ["Import", "Export", "ImportFailed", "import_events", "export_events", "NAMESPACE"]

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "duralog.ndjson")
"""For the ids of events whose event_id is no UUID. A source whose event_ids mean other events needs another one."""

Progress = Callable[[int, int], Any]
"""progress(done, total); total is 0 if it is not known. Returns False to stop; None and all else go on."""

PathOrFile = Union[str, "os.PathLike[str]", BinaryIO]

DEPTH_MAX = 500
"""Levels to which data and metadata may be nested. The interpreter's own limit is not the same everywhere."""

FIELD_COUNT_MAX = 1000
"""Fields of a line at most."""

LINE_LEN_MAX = 96 << 20
"""Bytes of a line at most, without its newline: what the largest event takes in base64, and the names around it."""

KEPT = "duralog.ndjson"
_KEPT_BEGIN = f'{{"{KEPT}":'
_JSON_TYPE = "application/json"
_BATCH_BYTES_MAX = 32 << 20
"""Bytes of lines at which a batch ends, with the line that reaches it, so that lines that are all long don't fill the
memory."""
_EXPORT_PROGRESS_COUNT = 1000
_TOO_DEEP = f"is nested deeper than {DEPTH_MAX} levels"
_KNOWN = frozenset(("event_id", "stream_id", "event_type", "data", "data_base64", "timestamp", "metadata", "metadata_base64",
                    "tags", "schema_version", "content_type", "correlation_id", "causation_id"))
_KEPT_KINDS: Dict[str, Any] = {"event_id": (str, int), "timestamp": str, "more": dict, "metadata": object}
_INTEGER_LEN_MAX = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):?(\d\d))",
                   re.ASCII)
_NESTING = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)|[\[\]{}]', re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r'[ \t\r\n]*(?:([\[\]{},:])|("[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*")'
                    r"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null)")


class ImportFailed(ValueError):
    """A line can't be imported. line: its number, from 1. reason: why. imported: events that this import appended."""

    def __init__(self, line: int, reason: str, imported: int = 0) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason
        self.imported = imported

    def __reduce__(self) -> "Tuple[Any, Tuple[int, str, int]]":
        return type(self), (self.line, self.reason, self.imported)


@dataclass(frozen=True)
class Import:
    """What an import did.

    line_count: lines that were read. imported: events that were appended. known: events that were there
    already. torn_line: number of a torn last line, which was left out; 0 if there is none. stopped: the
    progress callback asked for it.
    """

    line_count: int
    imported: int
    known: int
    torn_line: int
    stopped: bool


@dataclass(frozen=True)
class Export:
    """What an export did. event_count: lines that it wrote. last_position: of the last event that is in the file."""

    event_count: int
    last_position: int
    stopped: bool


# --- A line -----------------------------------------------------------------------------------


class _Damaged(ValueError):
    """What is wrong with a line; the number is added by who knows it."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _integer(digits: str) -> Union[int, float]:
    """An integer; one that is too long to be an id is a number like any other."""
    return int(digits) if len(digits.lstrip("-")) <= _INTEGER_LEN_MAX else math.inf


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)


def _fields_of(text: str) -> Dict[str, Tuple[Any, str]]:
    """The fields of an object: each with its value and the text of that, which `json.loads` would lose."""
    def skip(at: int) -> int:
        return _SPACE.match(text, at).end()  # type: ignore[union-attr]

    if _is_deeper_than(text, DEPTH_MAX + 1):
        raise _Damaged(_TOO_DEEP)
    at = skip(0)
    if text[at:at + 1] != "{":
        raise _Damaged("is not a JSON object")
    fields: Dict[str, Tuple[Any, str]] = {}
    at = skip(at + 1)
    while text[at:at + 1] != "}":
        if fields:
            if text[at:at + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = skip(at + 1)
        if text[at:at + 1] not in ('"', ""):
            raise _Damaged("has a field whose name is no text")
        name, at = _value_at(text, at)
        at = skip(at)
        if text[at:at + 1] != ":":
            raise json.JSONDecodeError("Expecting ':' delimiter", text, at)
        begin = skip(at + 1)
        value, at = _value_at(text, begin)
        if name in fields:
            raise _Damaged(f"has {name if _is_whole(name) else 'a field'} twice")
        if len(fields) == FIELD_COUNT_MAX:
            raise _Damaged(f"has more than {FIELD_COUNT_MAX} fields")
        fields[name] = value, text[begin:at]
        at = skip(at)
    if skip(at + 1) != len(text):
        raise json.JSONDecodeError("Extra data", text, at + 1)
    return fields


def _within_depth(text: str) -> str:
    """What is deeper would come back as bytes that are no JSON."""
    if _is_deeper_than(text, DEPTH_MAX):
        raise _Damaged(_TOO_DEEP)
    return text


def _is_deeper_than(text: str, depth_max: int) -> bool:
    """Whether arrays and objects are nested deeper than this. Of what is no JSON it may say anything."""
    if text.count("[") + text.count("{") <= depth_max:
        return False
    depth = 0
    for found in _NESTING.finditer(text):
        mark = text[found.start()]
        if mark in "[{":
            depth += 1
            if depth > depth_max:
                return True
        elif mark in "]}":
            depth = max(depth - 1, 0)
    return False


def _is_torn(line: bytes) -> bool:
    """Whether a line that says no event was not written to its end."""
    return not line.endswith(b"\n") and not _is_object(line)


def _is_object(line: bytes) -> bool:
    """Whether it is one object of JSON, whole, whatever it says and however deep it is: the decoder has a limit."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return False
    opened: List[str] = []
    at = 0
    expected = "{"  # tokens that may come next: marks as they are, t for a text, v for any other value
    while expected:
        found = _TOKEN.match(text, at)
        if found is None:
            return False
        at = found.end()
        token = found[1] or ("t" if found[2] else "v")
        if token not in expected:
            return False
        if token in "[{":
            opened.append(token)
            expected = "t}" if token == "{" else "tv[{]"
        elif token == ":":
            expected = "tv[{"
        elif token == ",":
            expected = "t" if opened[-1] == "{" else "tv[{"
        elif token == "t" and expected in ("t", "t}"):
            expected = ":"  # it was a name
        else:
            if token in "]}":
                opened.pop()
            expected = "" if not opened else ",}" if opened[-1] == "{" else ",]"
    return _SPACE.fullmatch(text, at) is not None


def _is_whole(text: str) -> bool:
    """Whether UTF-8 has it: JSON can say half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _value_at(text: str, at: int) -> Tuple[Any, int]:
    if at == len(text):  # what raw_decode says of it differs between versions
        raise json.JSONDecodeError("Expecting value", text, at)
    return _decoder.raw_decode(text, at)


def event_of_line(line: bytes, namespace: uuid.UUID = NAMESPACE) -> NewEvent:
    """The event that a line says. Raises ValueError if it says none."""
    fields = _fields_of(line.decode())
    kept: Dict[str, str] = {}

    def take(name: str, kinds: Any, what: str) -> Any:
        if name not in fields:
            raise _Damaged(f"has no {name}")
        value = fields.pop(name)[0]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise _Damaged(f"{name} is not {what}")
        return value

    event_id = take("event_id", (str, int), "a text or an integer")
    id = _id_of(event_id, namespace)
    if event_id != str(id):
        kept["event_id"] = _compact(event_id)
    stream = take("stream_id", str, "a text")
    event_type = take("event_type", str, "a text")
    timestamp = take("timestamp", str, "a text")
    occurred = _ns_of_text(timestamp)
    if occurred is None or timestamp != _text_of_ns(occurred):
        kept["timestamp"] = _compact(timestamp)
    optional: Dict[str, Any] = {"content_type": "" if "data_base64" in fields else _JSON_TYPE}
    for name, kinds, what in (("tags", list, "a list"), ("schema_version", int, "an integer"),
                              ("content_type", str, "a text")):
        if name in fields:
            optional[name] = take(name, kinds, what)
    tags = optional.get("tags", ())
    if not all(isinstance(tag, str) for tag in tags):
        raise _Damaged("tags is not a list of texts")
    if not all(map(_is_whole, tags)):
        raise _Damaged("a tag is no text that UTF-8 has")
    optional["tags"] = tuple(sorted(set(tags), key=str.encode))
    for name in ("correlation_id", "causation_id"):
        if name in fields:
            value = take(name, str, "a text")
            if not _UUID.fullmatch(value):
                raise _Damaged(f"{name} is not a UUID")
            optional[name] = uuid.UUID(value)
    if "data_base64" in fields:
        data = _bytes_of_base64(take("data_base64", str, "a text"), "data_base64")
        if "data" in fields:
            raise _Damaged("has data_base64 and also data")
    else:
        data = _within_depth(fields.pop("data", (None, "null"))[1]).encode()
    if "metadata_base64" in fields:
        metadata = _bytes_of_base64(take("metadata_base64", str, "a text"), "metadata_base64")
        if kept or fields:
            raise _Damaged(f"has metadata_base64 and also {', '.join([*kept, *fields])}, for which there is no place")
    else:
        value, text = fields.pop("metadata", ({}, "{}"))
        if fields:
            kept["more"] = _object(fields)
        metadata = _within_depth(_metadata_with(kept, value, text)).encode()
    return NewEvent(stream, event_type, data, metadata, id=id, occurred=occurred, **optional)


def line_of_event(event: Event) -> bytes:
    """The line that says an event, with its newline."""
    kept, metadata = _metadata_without(event.metadata)
    time_ns = event.time_ns if event.occurred_ns is None else event.occurred_ns
    data = _json_text(event.data)
    fields = {
        "event_id": kept.get("event_id") or _plain(str(event.id)),
        "stream_id": _plain(event.stream),
        "event_type": _plain(event.type),
    }
    if data is not None:
        fields["data"] = data
    else:
        fields["data_base64"] = _plain(base64.b64encode(event.data).decode())
    fields["timestamp"] = kept.get("timestamp") or _plain(_text_of_ns(time_ns))
    if metadata is not None:
        fields["metadata"] = metadata
    else:
        fields["metadata_base64"] = _plain(base64.b64encode(event.metadata).decode())
    if event.tags:
        fields["tags"] = _plain(event.tags)
    if event.schema_version:
        fields["schema_version"] = _plain(event.schema_version)
    if event.content_type != (_JSON_TYPE if data is not None else ""):
        fields["content_type"] = _plain(event.content_type)
    for name in ("correlation_id", "causation_id"):
        id = getattr(event, name)
        if id is not None:
            fields[name] = _plain(str(id))
    if "more" in kept:
        fields.update((name, text) for name, (_, text) in _fields_of(kept["more"]).items())
    names = [_plain(name) if _is_whole(name) else _compact(name) for name in fields]
    return ("{" + ", ".join([f"{name}: {text}" for name, text in zip(names, fields.values())]) + "}\n").encode()


def _id_of(event_id: Union[str, int], namespace: uuid.UUID) -> uuid.UUID:
    if isinstance(event_id, str) and _UUID.fullmatch(event_id) and event_id.strip("0-"):
        return uuid.UUID(event_id)
    # The JSON text tells "1" from 1, and is ASCII whatever the text has in it.
    return uuid.uuid5(namespace, _compact(event_id))


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _object(fields: Dict[str, Tuple[Any, str]]) -> str:
    return "{" + ",".join([f"{_compact(name)}:{text}" for name, (_, text) in fields.items()]) + "}"


def _metadata_with(kept: Dict[str, str], value: Any, text: str) -> str:
    """The metadata, with what must be kept in front."""
    looks_kept = isinstance(value, dict) and KEPT in value
    if not kept and not looks_kept:
        return text
    rest = "}"
    if looks_kept or not isinstance(value, dict):
        kept["metadata"] = text
    elif value:
        rest = "," + text[1:]
    return f"{_KEPT_BEGIN}{{{','.join([f'{_compact(name)}:{raw}' for name, raw in kept.items()])}}}{rest}"


def _metadata_without(metadata: bytes) -> Tuple[Dict[str, str], Optional[str]]:
    """What was kept, and the metadata as it was; None if that is no JSON.

    What only looks as if it had been kept, since no import writes it so, is metadata.
    """
    text = _json_text(metadata) if metadata else "{}"
    if text is None or not text.startswith(_KEPT_BEGIN):
        return {}, text
    try:
        _, end = _value_at(text, len(_KEPT_BEGIN))
        fields = _fields_of(text[len(_KEPT_BEGIN):end])
        more = _fields_of(fields["more"][1]) if "more" in fields else None
    except ValueError:
        return {}, text
    for name, (value, _) in fields.items():
        if not isinstance(value, _KEPT_KINDS.get(name, ())) or (name == "event_id" and isinstance(value, bool)):
            return {}, text
    if not fields or text[end] not in ",}" or (more is not None and (not more or _KNOWN & more.keys())):
        return {}, text
    kept = {name: raw for name, (_, raw) in fields.items()}
    return kept, kept.get("metadata") or ("{" + text[end + 1:] if text[end] == "," else "{}")


def _json_text(data: bytes) -> Optional[str]:
    """The bytes as a text of one line, if they are JSON that an import would take."""
    try:
        text = data.decode()
        if _is_deeper_than(text, DEPTH_MAX):
            return None
        _decoder.decode(text)
    except (ValueError, RecursionError):
        return None
    # Outside of strings, where alone they can be, these are the same as a blank.
    return text.replace("\n", " ").replace("\r", " ")


def _bytes_of_base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise _Damaged(f"{name} is not base64") from None


def _ns_of_text(text: str) -> Optional[int]:
    """Nanoseconds since 1970-01-01 UTC; None if the text is no time with an offset, or out of range."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.group(1, 2, 3, 4, 5, 6))
    fraction, _, sign, hours, minutes = found.group(7, 8, 9, 10, 11)
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if offset >= timedelta(days=1) or int(minutes or 0) > 59:
        return None
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
        seconds = ((moment + offset if sign == "-" else moment - offset) - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError):
        return None
    time_ns = seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
    return time_ns if -(1 << 63) <= time_ns < 1 << 63 else None


def _text_of_ns(time_ns: int) -> str:
    moment = time_of(time_ns)
    if time_ns % 1000 == 0:
        return moment.isoformat()
    return f"{moment.replace(microsecond=0, tzinfo=None).isoformat()}.{time_ns % 1_000_000_000:09}+00:00"


# --- Import -----------------------------------------------------------------------------------


def import_events(store: EventStore, source: PathOrFile, *, batch_count: int = 1000, namespace: uuid.UUID = NAMESPACE,
                  progress: Optional[Progress] = None) -> Import:
    """Appends the events of a file: its path, or a file that is open for reading bytes.

    progress(done, total) is called after each batch, in bytes. Raises ImportFailed if a line can't be
    imported, and what `EventStore.append` raises.
    """
    if batch_count < 1:
        raise ValueError(f"batch_count is {batch_count}, expected 1 or more")
    lines = bytes_read = batch_bytes = known = imported = torn_line = 0
    batch: List[Tuple[int, NewEvent]] = []
    stopped = False
    with _opened(source, "rb") as file:
        total = _size_of(file)
        for line in iter(partial(file.readline, LINE_LEN_MAX + 1), b""):
            lines += 1
            if len(line) > LINE_LEN_MAX and not line.endswith(b"\n"):
                raise ImportFailed(lines, f"is longer than {LINE_LEN_MAX} bytes", imported)
            bytes_read += len(line)
            batch_bytes += len(line)
            if line.strip():
                try:
                    batch.append((lines, event_of_line(line, namespace)))
                except (ValueError, RecursionError) as error:
                    if _is_torn(line):
                        torn_line = lines
                        break
                    raise ImportFailed(lines, str(error), imported) from None
            if batch and (len(batch) >= batch_count or batch_bytes >= _BATCH_BYTES_MAX):
                imported, known = _append(store, batch, imported, known)
                batch.clear()
                batch_bytes = 0
                if progress is not None and progress(bytes_read, total) is False:
                    stopped = True
                    break
    if batch:
        imported, known = _append(store, batch, imported, known)
        if progress is not None:
            progress(bytes_read, total)
    return Import(lines, imported, known, torn_line, stopped)


def _append(store: EventStore, batch: List[Tuple[int, NewEvent]], imported: int, known: int) -> Tuple[int, int]:
    """Appends what is not there yet, in one batch; gives both counts with it."""
    new: Dict[Any, Tuple[int, NewEvent]] = {}
    for line, event in batch:
        first = new.setdefault(event.id, (line, event))
        if first[1] != event:
            raise ImportFailed(line, f"has the event_id of line {first[0]}, but says something else", imported)
    known += len(batch) - len(new)
    try:
        receipt = store.append([event for _, event in new.values()])
        if not receipt.duplicate:
            return imported + len(new), known
        there = {event.id: event for event in store.read_all(receipt.first_position, receipt.last_position)}
    except DuplicateEvent as error:
        there = {}
        for id in error.event_ids:
            known_event = store.event_by_id(id)
            if known_event is not None:
                there[id] = known_event
    except (InvalidArgument, TooLarge) as error:
        raise _failure_of(new.values(), error, imported) from None
    for id, found in there.items():
        line, event = new.pop(id)
        if not _same(found, event):
            raise ImportFailed(line, f"its event_id belongs to the event at position {found.position}, which says "
                               "something else", imported)
    known += len(there)
    if new:
        store.append([event for _, event in new.values()])
    return imported + len(new), known


def _failure_of(events: Iterable[Tuple[int, NewEvent]], error: DuralogError, imported: int) -> ImportFailed:
    """Which line is the one that the store refuses."""
    for line, event in events:
        try:
            check_event(event)
        except DuralogError as own:
            return ImportFailed(line, own.message, imported)
    raise error


def _same(event: Event, new: NewEvent) -> bool:
    return ((event.stream, event.type, event.data, event.metadata, event.occurred_ns, event.tags, event.correlation_id,
             event.causation_id, event.schema_version, event.content_type)
            == (new.stream, new.type, new.data, new.metadata, new.occurred, new.tags, new.correlation_id,
                new.causation_id, new.schema_version, new.content_type))


# --- Export -----------------------------------------------------------------------------------


def export_events(store: EventStore, target: PathOrFile, *, from_: int = 1, resume: bool = False,
                  progress: Optional[Progress] = None) -> Export:
    """Writes every event from the position `from_` on to a file: a path where nothing is yet, or a file that
    is open for writing bytes.

    resume: of a path, goes on with the export that is there (with the same `from_`); one that is not
    there is begun. progress(done, total) is called now and then, in positions.
    """
    position = max(from_, 1)
    mode = "xb"
    if resume:
        if not isinstance(target, (str, os.PathLike)):
            raise TypeError("an export into an open file can't be resumed: give its path")
        with open(target, "ab"):
            pass
        mode = "r+b"
    count = 0
    stopped = False
    with _opened(target, mode) as file:
        if resume:
            position += _cut_torn_line(file, store, position)
        last = position - 1
        total = store.last_position()
        for event in store.read_all(position, max(total, 1)) if total >= position else ():
            file.write(line_of_event(event))
            count += 1
            last = event.position
            if progress is not None and count % _EXPORT_PROGRESS_COUNT == 0 and progress(last, total) is False:
                stopped = True
                break
        file.flush()
    if progress is not None and not stopped:
        progress(last, total)
    return Export(count, last, stopped)


def _cut_torn_line(file: BinaryIO, store: EventStore, first: int) -> int:
    """Goes to the end of the whole lines of an export that begins with position `first`; how many there are."""
    lines = end = 0
    last = b""
    for line in file:
        if line.endswith(b"\n"):
            lines += 1
            end += len(line)
            last = line
    event = store.event_at(first + lines - 1) if lines else None
    if lines and (event is None or line_of_event(event) != last):
        raise ValueError(f"line {lines} of the file is not the event at position {first + lines - 1}: it is no export of "
                         "this store that began at this position")
    file.seek(end)
    file.truncate()
    return lines


@contextlib.contextmanager
def _opened(file: PathOrFile, mode: str) -> Iterator[BinaryIO]:
    """The file, closed behind only if it was opened here."""
    if isinstance(file, (str, os.PathLike)):
        with open(file, mode) as opened:
            yield opened  # type: ignore[misc]
    else:
        yield file


def _size_of(file: BinaryIO) -> int:
    try:
        return os.fstat(file.fileno()).st_size
    except (OSError, AttributeError, ValueError):
        return 0


# --- Command line -----------------------------------------------------------------------------


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m duralog.ndjson",
                                     description="Events of a Duralog event store in and out, one JSON object a line.")
    commands = parser.add_subparsers(dest="command", required=True)
    into = commands.add_parser("import", help="append the events of a file; what is there already is left alone")
    into.add_argument("--batch", type=int, default=1000, metavar="LINES", help="lines that are appended together (1000)")
    into.add_argument("--namespace", metavar="TEXT", help="for event_ids that are no UUIDs: sources with different ones may "
                                                          "have the same event_ids for different events")
    out = commands.add_parser("export", help="write the events of a store to a file")
    out.add_argument("--from", dest="from_", type=int, default=1, metavar="POSITION", help="begin at this position")
    out.add_argument("--resume", action="store_true", help="go on with a file that is there")
    for command in (into, out):
        command.add_argument("store", help="the directory of the store")
        command.add_argument("file", help="the file, - for standard input or output")
    options = parser.parse_args(arguments)
    progress = _show_progress if sys.stderr.isatty() else None
    try:
        if options.command == "import":
            namespace = NAMESPACE if options.namespace is None else uuid.uuid5(NAMESPACE, options.namespace)
            with EventStore(options.store) as store:
                done = import_events(store, sys.stdin.buffer if options.file == "-" else options.file,
                                     batch_count=options.batch, namespace=namespace, progress=progress)
            print(f"{done.line_count} lines: {done.imported} events imported, {done.known} were there already")
            if done.torn_line:
                print(f"line {done.torn_line} is torn and was left out", file=sys.stderr)
        else:
            with EventStore(options.store, read_only=True) as store:
                written = export_events(store, sys.stdout.buffer if options.file == "-" else options.file,
                                        from_=options.from_, resume=options.resume, progress=progress)
            print(f"{written.event_count} events written, up to position {written.last_position}", file=sys.stderr)
        return 0
    except (DuralogError, OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _show_progress(done: int, total: int) -> None:
    print(f"\r{done} of {total or '?'} ", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
