"""Duralog: an embedded write-ahead log with atomic, durable batches, and an event store on top of it.

    from duralog import Wal

    with Wal("mylog") as wal:
        wal.append_batch([(b"alice", b"90"), (b"bob", b"110")])   # both or none, and durable
        for record in wal.iterate():
            print(record.seq, record.key, record.value)

    from duralog import EventStore, NewEvent, NONE

    with EventStore("mystore") as store:
        store.append([NewEvent("order-1", "Placed", b'{"total": 90}')], expected={"order-1": NONE})
        for event in store.read_stream("order-1"):
            print(event.position, event.type, event.json())

The native library is loaded when the first log is opened, not at import: `duralog.format`, a reader
in pure Python, works without it.
"""

from ._cursor import Cursor
from ._errors import (BadLine, Busy, BufferTooSmall, Closed, ConcurrencyConflict, Conflict, Corrupt, DuplicateEvent,
                      DuralogError, EmptyBatch, Exists, Forked, Full, Indeterminate, Internal, InvalidArgument, IoError, Newer,
                      NoMemory, NotALog, NotFound, Poisoned, ReadOnly, Timeout, TooLarge, Truncated, Unclean,
                      Unsupported)
from ._events import (ANY, EXISTS, NONE, AppendReceipt, Condition, Event, Name, NewEvent, Query, QueryItem,
                      Snapshot, StreamInfo)
from ._eventstore import EventCursor, EventStore, EventStoreStat
from ._native import LibraryNotFound
from ._projection import Projection, on, reconstruct_state
from ._records import (DELETE, KIND_ABORT, KIND_CHECKPOINT, KIND_COMMIT, KIND_GAP, KIND_RECORD, KIND_TORN, OP_APPLICATION_MIN,
                       PUT, Batch, Checkpoint, Op, Record)
from ._repair import Repair, repair, verify
from ._reports import IndexReport, RecoveryReport, Stat
from ._subscription import Subscription
from ._wal import Wal

__all__ = [
    "Wal", "Cursor", "Op", "Record", "Batch", "Checkpoint", "Stat", "RecoveryReport", "Repair", "verify", "repair",
    "EventStore", "EventCursor", "Subscription", "EventStoreStat", "IndexReport", "NewEvent", "Event", "Query", "QueryItem",
    "Condition", "AppendReceipt", "StreamInfo", "Snapshot", "Name", "Conflict", "ANY", "NONE", "EXISTS",
    "Projection", "on", "reconstruct_state",
    "PUT", "DELETE", "OP_APPLICATION_MIN",
    "KIND_RECORD", "KIND_COMMIT", "KIND_CHECKPOINT", "KIND_ABORT", "KIND_TORN", "KIND_GAP",
    "DuralogError", "InvalidArgument", "NotFound", "Exists", "Busy", "IoError", "Full", "Corrupt", "NotALog", "Newer",
    "TooLarge", "EmptyBatch", "ReadOnly", "Poisoned", "Indeterminate", "Truncated", "Forked", "Closed", "NoMemory",
    "Timeout", "Unsupported", "Internal", "Unclean", "BufferTooSmall", "ConcurrencyConflict", "DuplicateEvent",
    "BadLine", "LibraryNotFound",
    "library_version", "format_version",
]


def library_version() -> str:
    """Version of the native library, such as "0.1.0"."""
    from . import _native
    version: bytes = _native.library().duralog_library_version()
    return version.decode()


def format_version() -> "tuple[int, int]":
    """Major and minor version of the files that the native library writes."""
    from . import _native
    version: int = _native.library().duralog_format_version()
    return version >> 16, version & 0xFFFF
