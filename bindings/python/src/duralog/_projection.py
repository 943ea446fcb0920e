"""States made of events: `Projection`, which goes on where it stopped, and `reconstruct_state`, of one stream.

A projection is a fold: for each event of a selection, in order, the handler of its type makes the next
state. State and position are saved together, so an event is in a saved state once or not at all, whatever
happens in between: what was not saved is made again from the events. There are two places. A snapshot
lies beside the log and is a shortcut: one that is lost, damaged, of another fingerprint, or that could
not be saved costs time. A commit goes into the log, state and position in one batch: it is as durable as the events, and others
can read it.
"""

from __future__ import annotations

import copy
import json
import warnings
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, Mapping, Optional, Tuple, TypeVar

from ._errors import ConcurrencyConflict, Full, InvalidArgument, IoError, NoMemory, ReadOnly, TooLarge
from ._events import Event, Query, QueryItem, text_bytes
from ._eventstore import EventStore
from ._records import BytesLike, to_bytes, unsigned
from ._subscription import Subscription

Handler = Callable[[Any, Event], Any]
"""handler(state, event) returns the next state; None: it has changed the state that it was given."""

_FINGERPRINT = b"/fingerprint"

_NOT_SAVED = (Full, IoError, NoMemory, TooLarge)
"""Why a snapshot may be missing and nothing else is."""

_Method = TypeVar("_Method", bound=Callable[..., Any])


def on(*types: str) -> Callable[[_Method], _Method]:
    """Makes a method of a Projection the handler of these event types."""
    for name in types:
        text_bytes(name, "a type")

    def mark(method: _Method) -> _Method:
        method._event_types = types  # type: ignore[attr-defined]
        return method

    return mark


class Projection:
    """A state that follows the events of a store. One thread at a time; but cancel() is for all.

    name: of its snapshots and commits. handlers: by event type. initial: the state before the first event, of which a
    copy is taken, or a function that makes it. Both can also be said in a class:

        class Totals(Projection):
            initial = dict

            @on("Placed")
            def placed(self, state, event):
                state[event.stream] = event.json()["total"]

        totals = Totals(store, "totals")
        totals.catch_up()                       # what is there
        totals.follow()                         # and what comes

    stream, category, query: which events; none given: those of the types that have a handler. Events
    without a handler are passed over.

    snapshot_every: saves itself in a snapshot after so many events; 0: only in save(). One that can't be saved, for
    example since the disk is full, is a RuntimeWarning, and the next is tried after as many events again.
    commit_every: commits itself after so many events, or as soon as there are no more; 0: only in commit().
    fingerprint: changes whenever the handlers do, or encode and decode; what was saved with another one is not used.
    encode, decode: state to bytes and back; JSON, which turns tuples into lists and all keys into texts. A snapshot for
    which decode raises an Exception is a RuntimeWarning, and it goes on from what was saved before it, or from the
    beginning. That of a commit goes on to the caller: others rely on it, and it is not to be replaced unasked; made with
    another fingerprint, a projection begins at the beginning, and can be reset.
    """

    initial: Any = None
    _methods: Dict[str, str] = {}

    _state: Any
    _position: int
    _last: int  # what is behind it is read: of a stream, the stream version; else the position
    _unsaved: int  # events since the last snapshot
    _save_at: int  # with so many of them the next is due
    _uncommitted: int  # events since the last commit
    _is_anew: bool  # there is a commit that it does not go on from
    _live: Optional[Subscription] = None
    _cancelled = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._methods = {}
        for name in dir(cls):
            for event_type in getattr(getattr(cls, name), "_event_types", ()):
                if event_type in cls._methods:
                    raise TypeError(f"{cls.__name__} has two handlers of {event_type!r}: {cls._methods[event_type]} and {name}")
                cls._methods[event_type] = name

    def __init__(self, store: EventStore, name: str, handlers: Optional[Mapping[str, Handler]] = None,
                 initial: Any = None, *, stream: Optional[str] = None, category: Optional[str] = None,
                 query: Optional[Query] = None, snapshot_every: int = 1000, commit_every: int = 0,
                 fingerprint: BytesLike = b"", encode: Optional[Callable[[Any], bytes]] = None,
                 decode: Callable[[bytes], Any] = json.loads) -> None:
        self._store = store
        self._name = name
        self._key = b"projection/" + text_bytes(name, "name")
        self._saved_name = "projection/" + name
        if not name:
            raise InvalidArgument("name is empty")
        self._handlers: Dict[str, Handler] = {kind: getattr(self, method) for kind, method in self._methods.items()}
        self._handlers.update(handlers or {})
        if not self._handlers:
            raise InvalidArgument("there are no handlers")
        if initial is not None:
            self.initial = initial
        self._stream = stream
        if stream is None and category is None and query is None:
            query = Query([QueryItem(types=self._handlers)])
        self._category = category
        self._query = query
        self._snapshot_every = unsigned(snapshot_every, 64, "snapshot_every")
        self._commit_every = unsigned(commit_every, 64, "commit_every")
        self._fingerprint = to_bytes(fingerprint, "fingerprint")
        self._encode = _json_bytes if encode is None else encode
        self._decode = decode
        self._saves_itself = True  # as far as the store is not found to be open for reading only
        self._load()

    def __repr__(self) -> str:
        return f"<duralog.{type(self).__name__} {self._name!r} at position {self._position}>"

    @property
    def state(self) -> Any:
        """The state after the event at `position`."""
        return self._state

    @property
    def position(self) -> int:
        """Position of the last event that is in the state, or was passed over; 0 if there was none yet."""
        return self._position

    def catch_up(self, limit: int = 0) -> int:
        """Takes what has come since, at most `limit` events (0: all); returns how many.

        If a handler raises, the projection goes back to what it saved last, and the exception goes on. The same
        if another projection of this name has committed more: ConcurrencyConflict.
        """
        count = self._take(self._store.read(stream=self._stream, category=self._category, query=self._query,
                                            from_=self._last + 1, limit=limit))
        self._commit_rest()
        return count

    def follow(self, timeout: Optional[float] = None) -> int:
        """Takes what is there and then what comes; returns how many when none came for `timeout` seconds, or at cancel().

        It skips nothing: it goes on from its position, whatever was appended before or is appended meanwhile.
        Raises Closed when the store is closed, and what catch_up() raises.
        """
        count = 0
        with self._subscribe() as subscription:
            while True:
                events = subscription.take(0)
                if not events:
                    self._commit_rest()
                    events = subscription.take(timeout)
                    if not events:
                        return count
                count += self._take(events)

    async def follow_async(self, timeout: Optional[float] = None) -> int:
        """The same for asyncio. Handlers run in the loop, and a commit takes as long there as an append."""
        count = 0
        with self._subscribe() as subscription:
            while True:
                events = await subscription.take_async(0)
                if not events:
                    self._commit_rest()
                    events = await subscription.take_async(timeout)
                    if not events:
                        return count
                count += self._take(events)

    def cancel(self) -> None:
        """Ends following, now and from now on. From any thread, any number of times."""
        self._cancelled = True
        live = self._live
        if live is not None:
            live.cancel()

    @contextmanager
    def _subscribe(self) -> Iterator[Subscription]:
        with self._store.subscribe(after=self._position, stream=self._stream, category=self._category,
                                   query=self._query) as subscription:
            self._live = subscription
            if self._cancelled:  # looked at after it can be found there: one of both sees the other
                subscription.cancel()
            try:
                yield subscription
            finally:
                self._live = None

    def _take(self, events: Iterable[Event]) -> int:
        count = 0
        handlers = self._handlers
        for event in events:
            handler = handlers.get(event.type)
            if handler is not None:
                try:
                    self._state = _next_state(handler, self._state, event)
                except BaseException:
                    self._load()
                    raise
            self._position = event.position
            self._last = event.position if self._stream is None else event.stream_version
            count += 1
            self._unsaved += 1
            self._uncommitted += 1
            if not self._saves_itself:
                continue
            try:
                if 0 < self._commit_every <= self._uncommitted:
                    self.commit()
                if 0 < self._snapshot_every and self._save_at <= self._unsaved:
                    self._save_if_possible()
            except ReadOnly:
                self._saves_itself = False  # who reads only begins again from what others saved
        return count

    def _commit_rest(self) -> None:
        if self._commit_every and self._saves_itself:
            try:
                self.commit()
            except ReadOnly:
                self._saves_itself = False

    def commit(self) -> None:
        """Commits state and position to the log, in one batch: both are there or none.

        Others find the encoded state by `store.state(b"projection/" + name)`, and up to which event it goes by
        `store.saved_position("projection/" + name)`. Each commit is a copy of the state in the log, so a large
        one is better left to snapshots; one over 1 MiB is InvalidArgument.
        """
        if not self._uncommitted:
            return
        positions = {self._saved_name: self._position}
        try:
            self._store.append(state={self._key: to_bytes(self._encode(self._state), "the encoded state"),
                                      self._key + _FINGERPRINT: self._fingerprint},
                               save_positions=None if self._is_anew else positions,
                               reset_positions=positions if self._is_anew else None)
        except ConcurrencyConflict:
            self._load()
            raise
        self._uncommitted = 0
        self._is_anew = False

    def _save_if_possible(self) -> None:
        try:
            self.save()
        except _NOT_SAVED as error:
            self._save_at = self._unsaved + self._snapshot_every
            warnings.warn(f"projection {self._name!r} was not saved at position {self._position}: {error}", RuntimeWarning, stacklevel=4)

    def save(self) -> None:
        """Saves state and position in a snapshot. Unlike one that saves itself, it raises if that can't be done."""
        if self._unsaved:
            self._store.save_snapshot(self._key, self._last, self._position, to_bytes(self._encode(self._state), "the encoded state"),
                                      fingerprint=self._fingerprint)
            self._unsaved = 0
            self._save_at = self._snapshot_every

    def reset(self) -> None:
        """Forgets the state, all snapshots and the commit: the next catch_up() begins at the beginning."""
        self._store.delete_snapshots(self._key)
        if self._store.saved_position(self._saved_name):
            self._store.append(state={self._key: None, self._key + _FINGERPRINT: None},
                               reset_positions={self._saved_name: 0})
        self._load()

    def _load(self) -> None:
        """Goes back to what was saved last."""
        self._unsaved = self._uncommitted = 0
        self._save_at = self._snapshot_every
        committed, data = self._committed()
        self._is_anew = committed > 0 and data is None
        found = self._load_snapshot(0 if data is None else committed + 1)
        if found is not None:
            self._position, self._last, self._state = found
        elif data is not None:
            self._state = self._decode(data)
            self._position = self._last = committed
            if self._stream is not None:
                event = self._store.event_at(committed)
                self._last = 0 if event is None else event.stream_version
        else:
            self._state = _initial_state(self.initial)
            self._position = self._last = 0

    def _load_snapshot(self, position_min: int) -> Optional[Tuple[int, int, Any]]:
        """Position, what is behind it, and state, of the newest snapshot that can be decoded; None: there is none from there on."""
        version_max: Optional[int] = None
        while True:
            found = self._store.load_snapshot(self._key, version_max, fingerprint=self._fingerprint)
            if found is None or found.position < position_min:
                return None
            try:
                return found.position, found.version, self._decode(found.data)
            except Exception as error:  # whatever a decode of the caller's raises
                warnings.warn(f"projection {self._name!r}: the snapshot at position {found.position} can't be decoded, and is passed over: "
                              f"{error!r}", RuntimeWarning, stacklevel=4)
            if not found.version:
                return None
            version_max = found.version - 1

    def _committed(self) -> Tuple[int, Optional[bytes]]:
        """Position of the commit, 0 if there is none, and the state; None: it is of another fingerprint."""
        store = self._store
        while True:
            position = store.saved_position(self._saved_name) or 0
            data, fingerprint = store.state(self._key), store.state(self._key + _FINGERPRINT)
            if position == (store.saved_position(self._saved_name) or 0):  # else a commit came in between
                return position, data if position and fingerprint == self._fingerprint else None


def reconstruct_state(store: EventStore, stream: str, handlers: Mapping[str, Handler], initial: Any = None,
                      up_to: Optional[int] = None) -> Any:
    """The state of a stream: as it is, or as it was at the stream version `up_to`.

    handlers: by event type, as those of a Projection. initial: the state before the first event, of which
    a copy is taken, or a function that makes it.
    """
    state = _initial_state(initial)
    if up_to is not None and unsigned(up_to, 64, "up_to") == 0:
        return state
    for event in store.read_stream(stream, to=up_to or 0):
        handler = handlers.get(event.type)
        if handler is not None:
            state = _next_state(handler, state, event)
    return state


def _initial_state(initial: Any) -> Any:
    return initial() if callable(initial) else copy.deepcopy(initial)


def _next_state(handler: Handler, state: Any, event: Event) -> Any:
    following = handler(state, event)
    return state if following is None else following


def _json_bytes(state: Any) -> bytes:
    return json.dumps(state, separators=(",", ":")).encode()
