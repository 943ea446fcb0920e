"""The log: `Wal`, one method for each thing that can be done with it.

One native call carries a batch, in either direction. Arguments are checked before, since ctypes would
cut a number that does not fit and take a NUL in a path for its end; all else is decided by the library.
"""

from __future__ import annotations

import math
import os
from ctypes import byref, c_int32, c_size_t, c_uint64, c_void_p, create_string_buffer
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, List, Optional, Union

from . import _native
from ._cursor import Cursor, RecordTuple, flat, open_cursor, records_of, tuples_of, values_of
from ._errors import BufferTooSmall, InvalidArgument, NotFound
from ._handles import Handle, last_error
from ._records import DELETE, PUT, Appendable, Batch, BytesLike, Checkpoint, Record, op_number, pack, to_bytes, unsigned
from ._reports import RecoveryReport, Stat, named, recovery_report_of, stat_of

if TYPE_CHECKING:
    from typing import Literal

    SyncMode = Literal["every", "interval", "manual"]
    RecoveryPolicy = Literal["default", "strict", "salvage"]

PathLike = Union[str, bytes, "os.PathLike[Any]"]

_SYNC_MODES = {
    "every": _native.WAL_SYNC_EVERY,
    "interval": _native.WAL_SYNC_INTERVAL,
    "manual": _native.WAL_SYNC_MANUAL,
}

_RECOVERY_POLICIES = {
    "default": _native.WAL_RECOVERY_DEFAULT,
    "strict": _native.WAL_RECOVERY_STRICT,
    "salvage": _native.WAL_RECOVERY_SALVAGE,
}

BATCH_STATUSES = {
    _native.WAL_BATCH_ABSENT: "absent",
    _native.WAL_BATCH_COMMITTED: "committed",
    _native.WAL_BATCH_TRUNCATED: "truncated",
}

_CHECKPOINT_CAPACITY_FIRST = 4096


class Wal(Handle):
    """An open log, in the directory `path`. Used by any number of threads at once.

    read_only: writes nothing and takes no lock; any number of readers, in any process, work beside
    one writer. must_exist: a log that is not there is NotFound, else it is made. must_create: one
    that is there is Exists.

    sync: "every" (the default): an append returns when its batch survives a power cut; "interval":
    when it is written, and the log syncs by itself after `sync_interval_batches` (0: 1000) or
    `sync_interval_ms` (0: 100); "manual": only sync(), checkpoint(), rotation and close() sync.

    recovery: "default": a tail torn by a crash is cut and reported, see recovery_report(); "strict":
    any end that is not clean is Unclean; "salvage", with read_only: all that is undamaged is read, and what
    is passed over is marked by a record of KIND_GAP, whose value says why. segment_bytes_max: size at which a file is full; 0: 64 MiB.
    application_id: the application's own number, kept in the files; 0: none.

    groups_in_flight_max, with sync "every": how many groups of batches may be written to the disk at
    once, 1 (0) to 14. buffer_bytes_max, with the others: how many bytes of batches may wait in the
    process, and are lost with it, before they are written; a thread of the library writes them when there
    are half as many; 0: none. mapped_appends, with the others too: small batches are written by storing them
    into memory that shows the file, several times as fast. What is stored survives the death of the process;
    but if the file system fails under it, or somebody cuts the file off, the process can end with a signal
    (SIGBUS). Where there is no such memory, calls write.

    Of all processes, one handle at a time has a log open for writing: another is Busy.
    """

    _kind = "log"
    _path = "?"

    def __init__(self, path: PathLike, *, read_only: bool = False,
                 must_exist: bool = False, must_create: bool = False, sync: "SyncMode" = "every",
                 sync_interval_batches: int = 0, sync_interval_ms: int = 0, segment_bytes_max: int = 0,
                 recovery: "RecoveryPolicy" = "default", application_id: int = 0,
                 groups_in_flight_max: int = 0, buffer_bytes_max: int = 0,
                 mapped_appends: bool = False) -> None:
        directory = path_bytes(path)
        self._path = os.fsdecode(directory)
        options = wal_options(read_only=read_only, must_exist=must_exist, must_create=must_create, sync=sync,
                              sync_interval_batches=sync_interval_batches, sync_interval_ms=sync_interval_ms,
                              segment_bytes_max=segment_bytes_max, recovery=recovery, application_id=application_id,
                              groups_in_flight_max=groups_in_flight_max, buffer_bytes_max=buffer_bytes_max,
                              mapped_appends=mapped_appends)
        library = _native.library()
        wal = c_void_p()
        status = library.wal_open(directory, options, byref(wal))
        if status < 0:
            raise last_error(library, status)
        super().__init__(library, wal.value, library.wal_close)

    @property
    def path(self) -> str:
        """Directory of the log."""
        return self._path

    def __repr__(self) -> str:
        return f"<duralog.Wal {self._path!r}{' closed' if self.closed else ''}>"

    # --- Appending ----------------------------------------------------------------------------

    def append(self, value: BytesLike, key: BytesLike = b"", op: int = PUT, durable: bool = False) -> int:
        """Appends one record, atomically; returns its sequence number.

        durable: return when it survives a power cut, whatever `sync` says. Raises Indeterminate if
        the write or sync failed: the record may be there after reopening or not.
        """
        if type(value) is not bytes:
            value = to_bytes(value, "value")
        if type(key) is not bytes:
            key = to_bytes(key, "key")
        seq = c_uint64()
        self._call(self._library.wal_append, op_number(op), key, len(key), value, len(value),
                   _native.WAL_APPEND_DURABLE if durable else 0, byref(seq))
        return seq.value

    def delete(self, key: BytesLike, durable: bool = False) -> int:
        """Appends a record that says: the key is deleted. Returns its sequence number."""
        return self.append(b"", key, DELETE, durable)

    def append_batch(self, records: Iterable[Appendable], durable: bool = False) -> int:
        """Appends a batch: all its records or none, whatever happens.

        records: each a value, (key, value), (op, key, value) or an `Op`. Returns the sequence number
        of the COMMIT, one more than that of the last record; n records before it have the n numbers
        before it. Raises Indeterminate as append() does.
        """
        batch = pack(records)
        seq = c_uint64()
        key_lens, value_lens = batch.key_lens, batch.value_lens
        self._call(self._library.wal_append_batch_packed, batch.record_count, batch.ops,
                   None if key_lens is None else key_lens.buffer_info()[0], value_lens.buffer_info()[0],
                   batch.data, len(batch.data), _native.WAL_APPEND_DURABLE if durable else 0, byref(seq))
        return seq.value

    # --- Appending without waiting ------------------------------------------------------------

    def append_later(self, records: Iterable[Appendable], durable: bool = False) -> int:
        """Hands a batch over and returns its ticket; the library writes it together with others.

        records: as for append_batch(), at most 4 MiB with 12 bytes for each. Batches stand in the log in
        the order of their tickets, which count from 1. wait_for() tells what became of them, and is
        to be asked: with 65,536 tickets that nobody asked for, another batch is Busy.
        """
        batch = pack(records)
        ticket = c_uint64()
        key_lens, value_lens = batch.key_lens, batch.value_lens
        self._call(self._library.wal_append_batch_packed_async, batch.record_count, batch.ops,
                   None if key_lens is None else key_lens.buffer_info()[0], value_lens.buffer_info()[0],
                   batch.data, len(batch.data), _native.WAL_APPEND_DURABLE if durable else 0, byref(ticket))
        return ticket.value

    def wait_for(self, ticket: int, timeout: Optional[float] = None) -> int:
        """Waits until all batches with tickets up to this one are acknowledged; returns the sequence
        number of this one's COMMIT.

        timeout: seconds; None: as long as it takes. Raises Timeout if not all are settled; or what came
        of the first batch that was not acknowledged, once: then ask again for those behind it.
        """
        seq = c_uint64()
        self._call(self._library.wal_wait_ticket, unsigned(ticket, 64, "ticket"), milliseconds(timeout),
                   byref(seq), None)
        return seq.value

    def wait_durable(self, lsn: int, timeout: Optional[float] = None) -> None:
        """Waits until everything below an LSN (such as stat().written_lsn) survives a power cut.

        timeout: seconds; None: as long as it takes. Raises Timeout. Makes nothing durable by itself.
        """
        self._call(self._library.wal_wait_durable, unsigned(lsn, 64, "lsn"), milliseconds(timeout))

    def ticket_fd(self) -> int:
        """A file descriptor for select and asyncio: readable when tickets were settled since this was
        called last. It belongs to the log."""
        fd = c_int32()
        self._call(self._library.wal_ticket_fd, byref(fd))
        return fd.value

    # --- Sync, checkpoint, truncation ---------------------------------------------------------

    def sync(self) -> None:
        """Makes everything that was appended through this handle durable."""
        self._call(self._library.wal_sync)

    def checkpoint(self, data: BytesLike = b"") -> int:
        """Commits a checkpoint: nothing before it is needed to rebuild the application's state.

        data: bytes of the application's own, such as where it saved that state. Always durable on
        return. Returns its sequence number. Records are forgotten only by truncate().
        """
        data = to_bytes(data, "data of the checkpoint")
        seq = c_uint64()
        self._call(self._library.wal_checkpoint, data, len(data), byref(seq))
        return seq.value

    def last_checkpoint(self) -> Optional[Checkpoint]:
        """The newest checkpoint, or None: a tuple (seq, data)."""
        capacity = _CHECKPOINT_CAPACITY_FIRST
        length, seq = c_size_t(), c_uint64()
        while True:
            buffer = create_string_buffer(capacity)
            try:
                self._call(self._library.wal_last_checkpoint, buffer, capacity, byref(length), byref(seq))
            except NotFound:
                return None
            except BufferTooSmall:
                capacity = length.value  # and again, for a newer one may be longer still
            else:
                return Checkpoint(seq.value, buffer.raw[:length.value])

    def truncate(self, up_to_seq: int) -> None:
        """Forgets all records with a sequence number up to this one, durably.

        They are never replayed again. A number that an append returned keeps batches whole.
        """
        self._call(self._library.wal_truncate, unsigned(up_to_seq, 64, "up_to_seq"))

    def batch_status(self, batch_id: int) -> str:
        """What became of a batch: "committed", "absent", or "truncated" (nothing can be said).

        To be asked after reopening, with the batch_id of an Indeterminate.
        """
        status = c_int32()
        self._call(self._library.wal_batch_status, unsigned(batch_id, 64, "batch_id"), byref(status))
        return named(BATCH_STATUSES, status.value)

    # --- Reading ------------------------------------------------------------------------------

    def replay(self, callback: Callable[[Record], Any], after_seq: int = 0) -> int:
        """Calls `callback(record)` for every committed record after `after_seq`, in order.

        It stops if the callback returns False (the very object: None and all else go on), or raises.
        Returns the sequence number of the last record shown, `after_seq` if none was: the place to
        resume from.
        """
        last = after_seq
        for record in self.iterate(after_seq):
            last = record.seq
            if callback(record) is False:
                break
        return last

    def iterate(self, after_seq: int = 0, raw: bool = False, mapped: bool = False) -> Iterator[Record]:
        """Every committed record after `after_seq`, in order, up to what is acknowledged.

        raw: everything that is there, in the order of the files: also COMMIT, CHECKPOINT and ABORT
        marks, records that are not committed, and the place where a log is torn (see `kind`).

        mapped: sealed segments are looked at in place instead of being read, which is faster where there
        is much. An error of the disk ends the process with a signal then, instead of raising.

        Raises Corrupt when all batches before the damage were given; Truncated if records were
        truncated before they were read. Goes on to the end also if the log is closed meanwhile.
        """
        return flat(self._cursor(after_seq, raw, mapped, warns=False), records_of)

    def tuples(self, after_seq: int = 0, mapped: bool = False) -> Iterator[RecordTuple]:
        """As iterate(), but (seq, op, key, value) of each record: several times as fast."""
        return flat(self._cursor(after_seq, False, mapped, warns=False), tuples_of)

    def values(self, after_seq: int = 0, mapped: bool = False) -> Iterator[bytes]:
        """As iterate(), but the value of each record alone: the fastest way to read."""
        return flat(self._cursor(after_seq, False, mapped, warns=False), values_of)

    def batches(self, after_seq: int = 0) -> Iterator[Batch]:
        """As iterate(), but whole batches. The first is a part of one if after_seq is inside of it."""
        for batch_id, group in groupby(self.iterate(after_seq), attrgetter("batch_id")):
            records = list(group)
            yield Batch(batch_id, records[0].time_ns, records)

    def __iter__(self) -> Iterator[Record]:
        return self.iterate()

    def cursor(self, after_seq: int = 0, raw: bool = False, mapped: bool = False) -> Cursor:
        """A cursor on the records after `after_seq`: to follow a log that grows. Close it."""
        return self._cursor(after_seq, raw, mapped, warns=True)

    def _cursor(self, after_seq: int, raw: bool, mapped: bool, warns: bool) -> Cursor:
        out: List[Any] = []
        library = self._library
        flags = (_native.WAL_CURSOR_RAW if raw else 0) | (_native.WAL_CURSOR_MAPPED if mapped else 0)
        self._call(lambda wal: open_cursor(library, wal, unsigned(after_seq, 64, "after_seq"), flags, out))
        return Cursor(library, out[0], warns)

    # --- What it tells about itself -----------------------------------------------------------

    def stat(self) -> Stat:
        """Counters and marks, as they are now."""
        found = _native.wal_stat_t()
        self._call(self._library.wal_stat, byref(found))
        return stat_of(found)

    def recovery_report(self) -> RecoveryReport:
        """What opening found and did; the same as long as the log is open."""
        found = _native.wal_recovery_report_t()
        self._call(self._library.wal_recovery_report, byref(found))
        return recovery_report_of(found)


def wal_options(*, read_only: bool, must_exist: bool, must_create: bool, sync: "SyncMode", sync_interval_batches: int,
                sync_interval_ms: int, segment_bytes_max: int, recovery: "RecoveryPolicy",
                application_id: int, groups_in_flight_max: int = 0, buffer_bytes_max: int = 0,
                mapped_appends: bool = False) -> _native.wal_options_t:
    """The choices for opening, checked."""
    options = _native.wal_options_t()
    options.open_flags = ((_native.WAL_OPEN_READ_ONLY if read_only else 0)
                          | (_native.WAL_OPEN_MUST_EXIST if must_exist else 0)
                          | (_native.WAL_OPEN_MUST_CREATE if must_create else 0)
                          | (_native.WAL_OPEN_MAPPED_APPENDS if mapped_appends else 0))
    options.sync_mode = _choice("sync", _SYNC_MODES, sync)
    options.recovery_policy = _choice("recovery", _RECOVERY_POLICIES, recovery)
    options.segment_bytes_max = unsigned(segment_bytes_max, 64, "segment_bytes_max")
    options.sync_interval_batches = unsigned(sync_interval_batches, 32, "sync_interval_batches")
    options.sync_interval_ms = unsigned(sync_interval_ms, 32, "sync_interval_ms")
    options.application_id = unsigned(application_id, 32, "application_id")
    options.groups_in_flight_max = unsigned(groups_in_flight_max, 32, "groups_in_flight_max")
    options.buffer_bytes_max = unsigned(buffer_bytes_max, 32, "buffer_bytes_max")
    return options


def milliseconds(timeout: Optional[float]) -> int:
    """A time to wait as C takes it: rounded up, negative for ever."""
    if timeout is None:
        return -1
    try:
        return unsigned(max(0, math.ceil(timeout * 1000)), 63, "timeout in milliseconds")
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgument(f"timeout is {timeout!r}, expected seconds or None") from None


def path_bytes(path: PathLike) -> bytes:
    """The path as C takes it: the bytes of the file system, and no NUL in them."""
    directory = os.fsencode(path)
    if b"\0" in directory:
        raise InvalidArgument(f"the path has a NUL in it: {directory!r}")
    return directory


def _choice(name: str, choices: "dict[str, int]", value: str) -> int:
    try:
        return choices[value]
    except (KeyError, TypeError):
        raise InvalidArgument(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}") from None
