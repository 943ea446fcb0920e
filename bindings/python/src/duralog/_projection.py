"""States made of events: `Projection`, which goes on where it stopped, and `reconstruct_state`, of one stream.

A projection is a fold: for each event of a selection, in order, the handler of its type makes the next
state. State and position are saved together in a snapshot, so an event is in a state once or not at all,
whatever happens in between: what was not saved is made again from the events. A snapshot is a shortcut
and nothing else; one that is lost, damaged, or of another fingerprint costs time.
"""

from __future__ import annotations

import copy
import json
import threading
from typing import Any, Callable, Dict, Mapping, Optional, TypeVar

from ._errors import InvalidArgument, ReadOnly
from ._events import Event, Query, QueryItem, text_bytes
from ._eventstore import EventStore
from ._records import BytesLike, to_bytes, unsigned

Handler = Callable[[Any, Event], Any]
"""handler(state, event) returns the next state; None: it has changed the state that it was given."""

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
    """A state that follows the events of a store. One thread at a time.

    name: of its snapshots. handlers: by event type. initial: the state before the first event, of which a
    copy is taken, or a function that makes it. Both can also be said in a class:

        class Totals(Projection):
            initial = dict

            @on("Placed")
            def placed(self, state, event):
                state[event.stream] = event.json()["total"]

        totals = Totals(store, "totals")
        totals.catch_up()

    stream, category, query: which events; none given: those of the types that have a handler. Events
    without a handler are passed over.

    snapshot_every: saves itself after so many events; 0: only in save(). fingerprint: changes whenever the
    handlers do; snapshots of another one are not used. encode, decode: state to bytes and back; JSON,
    which turns tuples into lists and all keys into texts.
    """

    initial: Any = None
    _methods: Dict[str, str] = {}

    _state: Any
    _position: int
    _last: int  # what is behind it is read: of a stream, the stream version; else the position
    _unsaved: int  # events since the last snapshot

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
                 query: Optional[Query] = None, snapshot_every: int = 1000, fingerprint: BytesLike = b"",
                 encode: Optional[Callable[[Any], bytes]] = None, decode: Callable[[bytes], Any] = json.loads) -> None:
        self._store = store
        self._name = name
        self._key = b"projection/" + text_bytes(name, "name")
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
        self._fingerprint = to_bytes(fingerprint, "fingerprint")
        self._encode = _json_bytes if encode is None else encode
        self._decode = decode
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

        If a handler raises, the projection goes back to its last snapshot, and the exception goes on.
        """
        count = 0
        handlers = self._handlers
        for event in self._store.read(stream=self._stream, category=self._category, query=self._query,
                                      from_=self._last + 1, limit=limit):
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
            if 0 < self._snapshot_every <= self._unsaved:
                try:
                    self.save()
                except ReadOnly:
                    self._unsaved = 0  # who reads only begins again from what others saved
        return count

    def follow(self, stop: threading.Event, interval: float = 0.05) -> None:
        """Catches up again and again, every `interval` seconds, until `stop` is set; and once after that."""
        while True:
            last = stop.is_set()
            self.catch_up()
            if last:
                return
            stop.wait(interval)

    def save(self) -> None:
        """Saves state and position in a snapshot."""
        if self._unsaved:
            self._store.save_snapshot(self._key, self._last, self._position, to_bytes(self._encode(self._state), "the encoded state"),
                                      fingerprint=self._fingerprint)
            self._unsaved = 0

    def reset(self) -> None:
        """Forgets the state and all snapshots: the next catch_up() begins at the beginning."""
        self._store.delete_snapshots(self._key)
        self._load()

    def _load(self) -> None:
        """Goes back to the last snapshot."""
        self._unsaved = 0
        found = self._store.load_snapshot(self._key, fingerprint=self._fingerprint)
        if found is None:
            self._state = _initial_state(self.initial)
            self._position = self._last = 0
        else:
            self._state = self._decode(found.data)
            self._position, self._last = found.position, found.version


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
