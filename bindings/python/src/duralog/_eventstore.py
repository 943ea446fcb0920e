"""The event store: `EventStore`, one method for each thing that can be done with it.

One native call carries the events of an append, and one the events of a page. What an append demands
and saves beside them is a call each: these are few. Names are `str`, for they are text; data, metadata,
keys and values of state are bytes.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from ctypes import addressof, byref, c_int32, c_size_t, c_uint64, c_void_p, create_string_buffer, string_at
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, List, Mapping, Optional, Tuple, Union
from uuid import UUID

from . import _native
from ._cursor import Cutter, Follower, Pages, cut, flat, u64_column
from ._errors import BufferTooSmall, ConcurrencyConflict, Conflict, DuplicateEvent, InvalidArgument, NotFound
from ._events import (AppendReceipt, Condition, Event, EventTuple, Id, Name, NewEvent, Query, Snapshot, StreamInfo,
                      event_of, event_tuples_of, events_of, id_bytes, names_of, pack_events, signed, text_bytes)
from ._handles import Handle, last_error
from ._records import BytesLike, to_bytes, unsigned
from ._repair import Progress, progress_callback
from ._reports import IndexReport, RecoveryReport, Stat, index_report_of, named, recovery_report_of, stat_of
from ._subscription import Subscription, check_timeout
from ._wal import BATCH_STATUSES, PathLike, path_bytes, wal_options

if TYPE_CHECKING:
    from ctypes import CDLL
    from typing import Literal

    from ._wal import RecoveryPolicy, SyncMode

_CONFLICTS = {
    _native.EVENTSTORE_CONFLICT_STREAM: "stream",
    _native.EVENTSTORE_CONFLICT_CONDITION: "condition",
    _native.EVENTSTORE_CONFLICT_POSITION: "position",
}

_STATE_CAPACITY_FIRST = 4096


class EventCursor(Follower[Event]):
    """A place in a store, from which it is read: iterate over it for `Event`s.

    Forward, iterating again goes on from there, so a cursor follows a store that grows. It stays usable
    after its store was closed. One thread at a time.
    """

    _kind = "cursor"
    _page_struct = _native.eventstore_page_t
    _next_page_name = "eventstore_cursor_next_page"
    _close_name = "eventstore_cursor_close"
    _form = events_of

    def _is_at_end(self) -> bool:
        return bool(self._page.at_end)


class _Names(Pages):
    _kind = "list of names"
    _page_struct = _native.eventstore_names_page_t
    _next_page_name = "eventstore_names_next_page"
    _close_name = "eventstore_names_close"


@dataclass(frozen=True)
class EventStoreStat:
    """log_id: identity of the store, as long as it exists. last_position: how many events there are.

    run_count: files of the index. memory_events: events that none of them covers yet. work_done, work_total: what
    is being merged in the background, in keys, and of how many at most; 0 while nothing is.
    """

    log_id: bytes
    last_position: int
    run_count: int
    memory_events: int
    work_done: int
    work_total: int


class EventStore(Handle):
    """An open event store, in the directory `path`. Used by any number of threads at once.

    It is a log, and its choices are those of `Wal`, but for groups in flight and the buffer: a store writes one group
    of appends at a time, and at once. Only an EventStore may write to it.

    mapped: events and index are read through mappings of their files: scattered events come about twice as fast,
    but a medium that does not give what it holds ends the program with a signal instead of an exception.
    progress: called while the index is made, if it was deleted, with the bytes of the log that it covers and of how
    many. If it returns False, opening ends with InterruptedError.
    """

    _kind = "event store"
    _path = "?"

    def __init__(self, path: PathLike, *, read_only: bool = False,
                 must_exist: bool = False, must_create: bool = False, sync: "SyncMode" = "every",
                 sync_interval_batches: int = 0, sync_interval_ms: int = 0, segment_bytes_max: int = 0,
                 recovery: "RecoveryPolicy" = "default", application_id: int = 0, mapped: bool = False,
                 progress: Optional[Progress] = None) -> None:
        directory = path_bytes(path)
        self._path = os.fsdecode(directory)
        wal = wal_options(read_only=read_only, must_exist=must_exist, must_create=must_create, sync=sync,
                          sync_interval_batches=sync_interval_batches, sync_interval_ms=sync_interval_ms,
                          segment_bytes_max=segment_bytes_max, recovery=recovery, application_id=application_id)
        options = _native.eventstore_options_t()
        options.wal = addressof(wal)
        options.flags = _native.EVENTSTORE_MAPPED if mapped else 0
        raised: List[BaseException] = []
        options.progress = progress_callback(progress, raised)
        library = _native.library()
        store = c_void_p()
        status = library.eventstore_open(directory, options, byref(store))
        if raised:
            raise raised[0]
        if status == _native.DURALOG_STOPPED:
            raise InterruptedError(f"opening {self._path} was stopped")
        if status < 0:
            raise last_error(library, status)
        super().__init__(library, store.value, library.eventstore_close)

    @property
    def path(self) -> str:
        """Directory of the store."""
        return self._path

    def __repr__(self) -> str:
        return f"<duralog.EventStore {self._path!r}{' closed' if self.closed else ''}>"

    # --- Appending ----------------------------------------------------------------------------

    def append(self, events: Iterable[NewEvent] = (), *, expected: Optional[Mapping[str, int]] = None,
               conditions: Iterable[Union[Condition, Tuple[Query, int]]] = (),
               save_positions: Optional[Mapping[str, int]] = None,
               reset_positions: Optional[Mapping[str, int]] = None,
               state: Optional[Mapping[bytes, Optional[BytesLike]]] = None,
               idempotency_key: BytesLike = b"", durable: bool = False) -> AppendReceipt:
        """Appends events for any number of streams, and what is saved with them: all of it or nothing.

        expected: for streams, the version that each must have: a number, ANY, NONE or EXISTS. conditions:
        each a `Condition`, or (query, after). Whatever does not hold is reported together by ConcurrencyConflict.

        save_positions: by name, the last position that was dealt with; one that is not beyond the saved
        one is a conflict. reset_positions: the same, but it may go back. state: values under keys; None
        deletes one.

        Appended again, events that all have ids, or an append with an idempotency_key, give the receipt of
        the first time; ids that are there otherwise, or another append with the key, are DuplicateEvent.
        Events are known by their ids alone, whatever else they say. durable: return when it survives a
        power cut, whatever `sync` says. Raises Indeterminate if the write or sync failed.
        """
        draft = _Draft(self._library)
        try:
            draft.add_events(events)
            for stream, version in (expected or {}).items():
                name = text_bytes(stream, "a stream in expected")
                draft.add("eventstore_append_expect", name, len(name), signed(version, f"version expected of {stream!r}"))
            for condition in conditions:
                query, after = _condition(condition)
                with _native_query(self._library, query) as pointer:
                    draft.add("eventstore_append_add_condition", pointer, unsigned(after, 64, "after of a condition"))
            for positions, flags in ((save_positions, 0), (reset_positions, _native.EVENTSTORE_POSITION_RESET)):
                for saved, position in (positions or {}).items():
                    name = text_bytes(saved, "a name of a saved position")
                    draft.add("eventstore_append_save_position", name, len(name),
                              unsigned(position, 64, f"position of {saved!r}"), flags)
            for key, value in (state or {}).items():
                key = to_bytes(key, "a key of state")
                if value is None:
                    draft.add("eventstore_append_delete_state", key, len(key))
                else:
                    value = to_bytes(value, "a value of state")
                    draft.add("eventstore_append_put_state", key, len(key), value, len(value))
            key = to_bytes(idempotency_key, "idempotency_key")
            draft.add("eventstore_append_set_idempotency_key", key, len(key))
            return draft.append(self, _native.EVENTSTORE_APPEND_DURABLE if durable else 0)
        finally:
            draft.close()

    def decide(self, query: Query, decision: Callable[[List[Event]], Iterable[NewEvent]], *, attempts: int = 10,
               durable: bool = False) -> Optional[AppendReceipt]:
        """Appends what `decision` makes of the events that match, if no more of them have come meanwhile.

        decision(events) is given all events that match the query and returns new ones; none: nothing is
        appended, and this returns None. If others were faster it is asked again, with what is there now;
        after so many attempts ConcurrencyConflict is raised. It may raise what it likes.
        """
        if unsigned(attempts, 32, "attempts") == 0:
            raise InvalidArgument("attempts is 0, expected 1 or more")
        while True:
            attempts -= 1
            events = list(self.query(query))
            new_events = list(decision(events))
            if not new_events:
                return None
            after = events[-1].position if events else 0
            try:
                return self.append(new_events, conditions=[(query, after)], durable=durable)
            except ConcurrencyConflict:
                if attempts == 0:
                    raise

    def sync(self) -> None:
        """Makes everything that was appended through this handle durable."""
        self._call(self._library.eventstore_sync)

    def batch_status(self, batch_id: int) -> str:
        """What became of an append: as `Wal.batch_status`."""
        status = c_int32()
        self._call(self._library.eventstore_batch_status, unsigned(batch_id, 64, "batch_id"), byref(status))
        return named(BATCH_STATUSES, status.value)

    # --- Reading events -----------------------------------------------------------------------

    def read(self, *, stream: Optional[str] = None, category: Optional[str] = None, query: Optional[Query] = None,
             from_: int = 0, to: int = 0, limit: int = 0, backward: bool = False) -> Iterator[Event]:
        """Every event of a stream, of a category, that matches a query, or (none of these given) of the store.

        from_, to: the first and the last to read: of a stream, its stream versions; else positions. 0: as
        far as there are any. limit: at most so many; 0: all. backward: the newest first, and from_ is then
        the greater one. Forward it ends at what is acknowledged when it gets there; a cursor goes on from there.

        Raises Corrupt when all before the damage were given. Goes on to the end also if the store is
        closed meanwhile.
        """
        return flat(self._cursor(stream, category, query, from_, to, limit, backward, warns=False),
                    partial(events_of, stream=stream))

    def tuples(self, *, stream: Optional[str] = None, category: Optional[str] = None, query: Optional[Query] = None,
               from_: int = 0, to: int = 0, limit: int = 0, backward: bool = False) -> Iterator[EventTuple]:
        """As read(), but (position, stream, stream_version, type, data) of each: the fastest way to read."""
        return flat(self._cursor(stream, category, query, from_, to, limit, backward, warns=False),
                    partial(event_tuples_of, stream=stream))

    def cursor(self, *, stream: Optional[str] = None, category: Optional[str] = None, query: Optional[Query] = None,
               from_: int = 0, to: int = 0, limit: int = 0, backward: bool = False) -> EventCursor:
        """As read(), but a cursor: to follow a store that grows. Close it."""
        return self._cursor(stream, category, query, from_, to, limit, backward, warns=True)

    def read_all(self, from_: int = 0, to: int = 0, limit: int = 0, backward: bool = False) -> Iterator[Event]:
        """Every event; see read()."""
        return self.read(from_=from_, to=to, limit=limit, backward=backward)

    def read_stream(self, stream: str, from_: int = 0, to: int = 0, limit: int = 0,
                    backward: bool = False) -> Iterator[Event]:
        """The events of a stream; from_ and to are stream versions. None if there is no such stream."""
        return self.read(stream=stream, from_=from_, to=to, limit=limit, backward=backward)

    def read_category(self, category: str, from_: int = 0, to: int = 0, limit: int = 0,
                      backward: bool = False) -> Iterator[Event]:
        """The events of all streams of a category."""
        return self.read(category=category, from_=from_, to=to, limit=limit, backward=backward)

    def query(self, query: Query, from_: int = 0, to: int = 0, limit: int = 0,
              backward: bool = False) -> Iterator[Event]:
        """The events that match a query."""
        return self.read(query=query, from_=from_, to=to, limit=limit, backward=backward)

    def __iter__(self) -> Iterator[Event]:
        return self.read()

    def event_at(self, position: int) -> Optional[Event]:
        """The event at a position, or None."""
        number = unsigned(position, 64, "position")
        return self._look_up(self._library.eventstore_cursor_event_at, number)

    def event_by_id(self, id: Id) -> Optional[Event]:
        """The event with an id, its own or the one that was made for it; or None."""
        return self._look_up(self._library.eventstore_cursor_event_by_id, id_bytes(id, "id"))

    def _look_up(self, function: Callable[..., int], what: Any) -> Optional[Event]:
        found = _native.eventstore_event_t()
        out: List[Event] = []

        def look(pointer: int, event: Any) -> int:
            status = function(pointer, what, event)
            if status == _native.DURALOG_OK:
                out.append(event_of(found))
            return status

        with self._cursor(None, None, None, 0, 0, 0, False, warns=False) as cursor:
            try:
                cursor._call(look, byref(found))
            except NotFound:
                return None
        return out[0]

    def _cursor(self, stream: Optional[str], category: Optional[str], query: Optional[Query], from_: int, to: int,
                limit: int, backward: bool, warns: bool) -> EventCursor:
        read = _native.eventstore_read_t()
        read.direction = _native.EVENTSTORE_READ_BACKWARD if backward else _native.EVENTSTORE_READ_FORWARD
        read.first = unsigned(from_, 64, "from_")
        read.last = unsigned(to, 64, "to")
        read.limit = unsigned(limit, 64, "limit")
        pointer = self._open_selection(self._library.eventstore_read, read, stream, category, query)
        return EventCursor(self._library, pointer, warns)

    def _open_selection(self, function: Callable[..., int], read: _native.eventstore_read_t, stream: Optional[str],
                        category: Optional[str], query: Optional[Query], *arguments: Any) -> int:
        """The pointer that function(store, read, *arguments, out) gives, with the selection in `read`."""
        if (stream is not None) + (category is not None) + (query is not None) > 1:
            raise TypeError("only one of stream, category and query can be given")
        out: List[Any] = []
        if query is not None:
            read.selection = _native.EVENTSTORE_READ_QUERY
            with _native_query(self._library, query) as pointer:
                read.query = pointer
                self._call(_open, function, (byref(read), *arguments), out)
        else:
            text, what = (stream, "stream") if stream is not None else (category, "category")
            if text is not None:
                name = text_bytes(text, what)
                read.selection = (_native.EVENTSTORE_READ_STREAM if stream is not None
                                  else _native.EVENTSTORE_READ_CATEGORY)
                read.name, read.name_len = name, len(name)
            self._call(_open, function, (byref(read), *arguments), out)
        found: int = out[0]
        return found

    # --- Following events ---------------------------------------------------------------------

    def subscribe(self, name: Optional[str] = None, *, after: "Union[int, Literal['end'], None]" = None,
                  stream: Optional[str] = None, category: Optional[str] = None, query: Optional[Query] = None,
                  timeout: Optional[float] = None) -> Subscription:
        """Follows the store: every event of the selection that is there, and then every one that comes.

        after: begins behind this position, also if it is a stream that is followed; "end": with the first event
        that is appended from now on. None: behind the position saved under the name, or with the first event.
        name: under which Subscription.ack() saves how far one is. stream, category, query: which events, as
        in read(). timeout: iterating ends when none came for so many seconds; None: it waits.

        Close it, or use it in a `with`.
        """
        name_bytes = b"" if name is None else text_bytes(name, "name")
        if name is not None and not name:
            raise InvalidArgument("name is empty")
        position = 0
        if after is None:
            begin = _native.EVENTSTORE_FROM_BEGINNING if name is None else _native.EVENTSTORE_FROM_SAVED
        elif isinstance(after, str):
            if after != "end":
                raise InvalidArgument(f"after is {after!r}, expected a position, 'end' or None")
            begin = _native.EVENTSTORE_FROM_END
        else:
            begin, position = _native.EVENTSTORE_FROM_AFTER, unsigned(after, 64, "after")
        check_timeout(timeout)
        library = self._library
        pointer = self._open_selection(library.eventstore_subscribe, _native.eventstore_read_t(), stream, category, query,
                                       begin, position, name_bytes, len(name_bytes))
        return Subscription(library, pointer, name, timeout)

    # --- Streams, names, saved positions, state -----------------------------------------------

    def stream_info(self, stream: str) -> Optional[StreamInfo]:
        """What is known of a stream; None: there is no such stream."""
        name = text_bytes(stream, "stream")
        found = _native.eventstore_stream_info_t()
        try:
            self._call(self._library.eventstore_stream_info, name, len(name), byref(found))
        except NotFound:
            return None
        return StreamInfo(found.stream_version, found.first_position, found.last_position)

    def streams(self, prefix: str = "") -> Iterator[Name]:
        """All streams, in the order of their bytes: (name, event_count, first_position, last_position)."""
        return self._names(_native.EVENTSTORE_NAMES_STREAM, prefix)

    def categories(self, prefix: str = "") -> Iterator[Name]:
        """All categories, likewise."""
        return self._names(_native.EVENTSTORE_NAMES_CATEGORY, prefix)

    def types(self, prefix: str = "") -> Iterator[Name]:
        """All event types, likewise."""
        return self._names(_native.EVENTSTORE_NAMES_TYPE, prefix)

    def tags(self, prefix: str = "") -> Iterator[Name]:
        """All tags, likewise."""
        return self._names(_native.EVENTSTORE_NAMES_TAG, prefix)

    def _names(self, kind: int, prefix: str) -> Iterator[Name]:
        begin = text_bytes(prefix, "prefix")
        out: List[Any] = []
        self._call(_open, self._library.eventstore_names_open, (kind, begin, len(begin)), out)
        return flat(_Names(self._library, out[0], False), names_of)

    def saved_position(self, name: str) -> Optional[int]:
        """The position that was saved under a name, or None."""
        name_bytes = text_bytes(name, "name")
        found = c_uint64()
        try:
            self._call(self._library.eventstore_saved_position, name_bytes, len(name_bytes), byref(found))
        except NotFound:
            return None
        return found.value

    def state(self, key: BytesLike) -> Optional[bytes]:
        """The value under a key, or None."""
        key = to_bytes(key, "key")
        capacity = _STATE_CAPACITY_FIRST
        length = c_size_t()
        while True:
            buffer = create_string_buffer(capacity)
            try:
                self._call(self._library.eventstore_state, key, len(key), buffer, capacity, byref(length))
            except NotFound:
                return None
            except BufferTooSmall:
                capacity = length.value  # and again, for a newer one may be longer still
            else:
                return buffer.raw[:length.value]

    # --- Snapshots ----------------------------------------------------------------------------

    def save_snapshot(self, key: BytesLike, version: int, position: int, data: BytesLike, *,
                      fingerprint: BytesLike = b"") -> None:
        """Saves a state, beside the events; losing one costs time and nothing else.

        Of a key are kept: this one and the newest others of its fingerprint, four in all; and of all other
        fingerprints together the four of the greatest versions.

        version: stream version, or any number that only grows, of which it is true. position: up to which events are
        in it. fingerprint: by which version of the program it was made.
        """
        key, data = to_bytes(key, "key"), to_bytes(data, "data")
        fingerprint = to_bytes(fingerprint, "fingerprint")
        self._call(self._library.eventstore_snapshot_save, key, len(key), unsigned(version, 64, "version"),
                   unsigned(position, 64, "position"), fingerprint, len(fingerprint), data, len(data))

    def load_snapshot(self, key: BytesLike, version_max: Optional[int] = None, *,
                      fingerprint: BytesLike = b"") -> Optional[Snapshot]:
        """The newest snapshot of a key, at or before a version, that was made with a fingerprint; or None.

        One that is damaged, can't be read, or is of events that the store does not have any more, is passed over.
        """
        key, fingerprint = to_bytes(key, "key"), to_bytes(fingerprint, "fingerprint")
        version = (1 << 64) - 1 if version_max is None else unsigned(version_max, 64, "version_max")
        out: List[Any] = []
        try:
            self._call(_open, self._library.eventstore_snapshot_load, (key, len(key), version, fingerprint, len(fingerprint)),
                       out)
        except NotFound:
            return None
        pointer = out[0]
        try:
            found = _native.eventstore_snapshot_info_t()
            _check(self._library, self._library.eventstore_snapshot_info(pointer, byref(found)))
            return Snapshot(found.version, found.position, string_at(found.data, found.data_len))
        finally:
            self._library.eventstore_snapshot_close(pointer)

    def delete_snapshots(self, key: BytesLike) -> None:
        """Deletes all snapshots of a key, of every fingerprint."""
        key = to_bytes(key, "key")
        self._call(self._library.eventstore_snapshot_delete, key, len(key))

    # --- What it tells about itself -----------------------------------------------------------

    def last_position(self) -> int:
        """Position of the last event, which is how many there are."""
        found = c_uint64()
        self._call(self._library.eventstore_last_position, byref(found))
        return found.value

    def stat(self) -> EventStoreStat:
        """What is known of the store, as it is now."""
        found = _native.eventstore_stat_t()
        self._call(self._library.eventstore_stat, byref(found))
        return EventStoreStat(bytes(found.log_id), found.last_position, found.run_count, found.memory_events,
                              found.work_done, found.work_total)

    def wal_stat(self) -> Stat:
        """Counters and marks of the log underneath."""
        found = _native.wal_stat_t()
        self._call(self._library.eventstore_wal_stat, byref(found))
        return stat_of(found)

    def recovery_report(self) -> RecoveryReport:
        """What opening found in the log and did."""
        found = _native.wal_recovery_report_t()
        self._call(self._library.eventstore_recovery_report, byref(found))
        return recovery_report_of(found)

    def verify_index(self, progress: Optional[Progress] = None) -> Optional[IndexReport]:
        """Looks through all files of the index, every block, and compares all that they say with the log, read anew.

        progress: called with the bytes of the log that were compared, and of how many. Returns None if it asked to
        stop. What the index has in memory and in no file is not compared. Nothing is changed: a damaged file is made
        again by the first question that meets the damage; deleting index/ while no program has the store open lets
        all of it be made anew. Takes as long as reading the log.
        """
        found = _native.eventstore_index_report_t()
        raised: List[BaseException] = []
        called = progress_callback(progress, raised)
        status = self._call(self._library.eventstore_verify_index, called, None, byref(found))
        if raised:
            raise raised[0]
        return None if status == _native.DURALOG_STOPPED else index_report_of(found)


def _open(owner: int, function: Callable[..., int], arguments: Tuple[Any, ...], out: List[Any]) -> int:
    """To be called by `Handle._call` of the store; gives the pointer that the function gave."""
    pointer = c_void_p()
    status = function(owner, *arguments, byref(pointer))
    if status == _native.DURALOG_OK:
        out.append(pointer.value)
    return status


def _condition(condition: Any) -> Tuple[Query, int]:
    if isinstance(condition, Condition):
        return condition.query, condition.after
    if not isinstance(condition, tuple) or len(condition) != 2:
        raise TypeError(f"a condition must be a Condition or (query, after), not {type(condition).__name__}")
    return condition


@contextmanager
def _native_query(library: "CDLL", query: Query) -> Iterator[int]:
    """The query as the library has it; what uses it keeps a copy."""
    if not isinstance(query, Query):
        raise TypeError(f"query must be a Query, not {type(query).__name__}")
    pointer = c_void_p()
    _check(library, library.eventstore_query_open(byref(pointer)))
    try:
        for item in query.items:
            _check(library, library.eventstore_query_add_item(pointer))
            for event_type in item.types:
                name = event_type.encode()
                _check(library, library.eventstore_query_add_type(pointer, name, len(name)))
            for tag in item.tags:
                name = tag.encode()
                _check(library, library.eventstore_query_add_tag(pointer, name, len(name)))
        yield pointer.value or 0
    finally:
        library.eventstore_query_close(pointer)


def _versions_of(found: _native.eventstore_stream_versions_t, cutter: Cutter) -> "dict[str, int]":
    names = cutter.text_column(found, found.stream_begin, found.stream_end)
    return dict(zip(names, u64_column(found.stream_version, found.count)))


def _check(library: "CDLL", status: int) -> None:
    if status < 0:
        raise last_error(library, status)


def check_event(event: NewEvent) -> None:
    """Raises what an append would, if the event by itself can't be appended."""
    draft = _Draft(_native.library())
    try:
        draft.add_events([event])
    finally:
        draft.close()


class _Draft(Handle):
    """A batch that is being built. It is of one call, and so of one thread."""

    _kind = "batch"

    def __init__(self, library: "CDLL") -> None:
        pointer = c_void_p()
        _check(library, library.eventstore_append_open(byref(pointer)))
        super().__init__(library, pointer.value, library.eventstore_append_close)

    def add_events(self, events: Iterable[NewEvent]) -> None:
        packed = pack_events(events)
        if packed is not None:
            self.add("eventstore_append_add_columns", byref(packed.columns))

    def add(self, name: str, *arguments: Any) -> None:
        self._call(getattr(self._library, name), *arguments)

    def append(self, store: EventStore, flags: int) -> AppendReceipt:
        library, draft = self._library, self._pointer
        found = _native.eventstore_receipt_t()
        try:
            store._call(library.eventstore_append, draft, flags, byref(found))
        except ConcurrencyConflict as error:
            error.conflicts = self._conflicts()
            raise
        except DuplicateEvent as error:
            error.event_ids = self._known_ids()
            raise
        return AppendReceipt(found.first_position, found.last_position, found.time_ns, found.batch_id,
                             bool(found.duplicate), self._stream_versions())

    def _stream_versions(self) -> "dict[str, int]":
        found = _native.eventstore_stream_versions_t()
        self.add("eventstore_append_stream_versions", byref(found))
        if not found.count:
            return {}
        return cut(self._library, found, _versions_of)

    def _conflicts(self) -> Tuple[Conflict, ...]:
        count = c_size_t()
        self.add("eventstore_append_conflict_count", byref(count))
        found = _native.eventstore_conflict_t()
        conflicts = []
        for index in range(count.value):
            self.add("eventstore_append_conflict", index, byref(found))
            conflicts.append(Conflict(named(_CONFLICTS, found.kind), found.index,
                                      string_at(found.name, found.name_len).decode(), found.expected, found.actual))
        return tuple(conflicts)

    def _known_ids(self) -> Tuple[UUID, ...]:
        ids, count = c_void_p(), c_size_t()
        self.add("eventstore_append_known_ids", byref(ids), byref(count))
        found = string_at(ids.value or 0, 16 * count.value) if count.value else b""
        return tuple(UUID(bytes=found[at:at + 16]) for at in range(0, len(found), 16))
