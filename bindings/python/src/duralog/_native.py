"""The C face in ctypes: `include/duralog.h`, name by name and in its order, and where the library is found.

Nothing here decides anything. Constants, structs and functions have the names of the header, and
`argtypes` and `restype` of *every* function are declared: ctypes takes an undeclared argument for a
C int, which cuts pointers and sequence numbers to 32 bits without a word. `tests/test_native.py`
reads the header and compares it with this file, sizes and offsets included.

Pointers that are only handed in or out are `c_void_p`, since an address costs nothing and a typed
pointer object costs as much as a call. `const uint8_t *` is `c_char_p`: it takes `bytes` as they
are, without a copy, and never reads one back.

The library is loaded at the first use, not at import, so that `duralog.format`, which needs no
library, can be used where there is none.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from ctypes import (CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_int, c_int32, c_size_t, c_uint8, c_uint32,
                    c_uint64, c_void_p)
from typing import Any, Dict, List, Optional, Tuple

# == Versions ==================================================================================

DURALOG_ABI_VERSION = 1

# == Status ====================================================================================

DURALOG_OK = 0
DURALOG_END = 1
DURALOG_STOPPED = 2
DURALOG_E_INVALID_ARGUMENT = -1
DURALOG_E_NOT_FOUND = -2
DURALOG_E_EXISTS = -3
DURALOG_E_BUSY = -4
DURALOG_E_IO = -5
DURALOG_E_FULL = -6
DURALOG_E_CORRUPT = -7
DURALOG_E_NOT_A_LOG = -8
DURALOG_E_NEWER = -9
DURALOG_E_TOO_LARGE = -10
DURALOG_E_EMPTY_BATCH = -11
DURALOG_E_READ_ONLY = -12
DURALOG_E_POISONED = -13
DURALOG_E_INDETERMINATE = -14
DURALOG_E_TRUNCATED = -15
DURALOG_E_FORKED = -16
DURALOG_E_CLOSED = -17
DURALOG_E_NO_MEMORY = -18
DURALOG_E_TIMEOUT = -19
DURALOG_E_UNSUPPORTED = -20
DURALOG_E_INTERNAL = -21
DURALOG_E_UNCLEAN = -22
DURALOG_E_BUFFER_TOO_SMALL = -23

duralog_status_t = c_int32

# == The last error ============================================================================


class _Sized(Structure):
    """A struct that begins with struct_size: made with it set and all else zero, as by ..._INIT."""

    def __init__(self) -> None:
        super().__init__(ctypes.sizeof(type(self)))


class duralog_error_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("status", duralog_status_t),
        ("os_error", c_int32),
        ("reserved", c_uint32),
        ("segment", c_uint64),
        ("offset", c_uint64),
        ("lsn", c_uint64),
        ("message", c_char_p),
        ("path", c_char_p),
    ]


# == Options ===================================================================================

WAL_OPEN_READ_ONLY = 1
WAL_OPEN_MUST_EXIST = 2
WAL_OPEN_MUST_CREATE = 4

WAL_SYNC_EVERY = 0
WAL_SYNC_INTERVAL = 1
WAL_SYNC_MANUAL = 2

WAL_RECOVERY_DEFAULT = 0
WAL_RECOVERY_STRICT = 1
WAL_RECOVERY_SALVAGE = 2


class wal_options_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("open_flags", c_uint32),
        ("sync_mode", c_uint32),
        ("recovery_policy", c_uint32),
        ("segment_bytes_max", c_uint64),
        ("sync_interval_batches", c_uint32),
        ("sync_interval_ms", c_uint32),
        ("application_id", c_uint32),
        ("reserved", c_uint32),
    ]


# == Opening and closing a log; appending ======================================================

WAL_OP_PUT = 1
WAL_OP_DELETE = 2
WAL_OP_APPLICATION_MIN = 128

WAL_APPEND_DURABLE = 1


class wal_op_t(Structure):
    _fields_ = [
        ("key", c_void_p),
        ("value", c_void_p),
        ("key_len", c_size_t),
        ("value_len", c_size_t),
        ("op", c_uint8),
        ("reserved", c_uint8 * 7),
    ]


# == Sync, checkpoint, truncation ==============================================================

WAL_BATCH_ABSENT = 0
WAL_BATCH_COMMITTED = 1
WAL_BATCH_TRUNCATED = 2

# == Replay ====================================================================================

WAL_KIND_RECORD = 1
WAL_KIND_COMMIT = 2
WAL_KIND_CHECKPOINT = 3
WAL_KIND_ABORT = 4
WAL_KIND_TORN = 5
WAL_KIND_GAP = 6


class wal_record_t(Structure):
    _fields_ = [
        ("seq", c_uint64),
        ("batch_id", c_uint64),
        ("time_ns", c_uint64),
        ("key", c_void_p),
        ("value", c_void_p),
        ("key_len", c_size_t),
        ("value_len", c_size_t),
        ("kind", c_uint8),
        ("op", c_uint8),
        ("committed", c_uint8),
        ("reserved", c_uint8 * 5),
    ]


wal_replay_callback_t = CFUNCTYPE(c_int, c_void_p, POINTER(wal_record_t))

# == Cursors ===================================================================================

WAL_CURSOR_RAW = 1


class wal_page_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("count", c_size_t),
        ("seq", c_void_p),
        ("batch_id", c_void_p),
        ("time_ns", c_void_p),
        ("kind", c_void_p),
        ("op", c_void_p),
        ("committed", c_void_p),
        ("key_begin", c_void_p),
        ("value_begin", c_void_p),
        ("value_end", c_void_p),
        ("bytes", c_void_p),
        ("bytes_len", c_size_t),
    ]


# == Statistics ================================================================================


class wal_stat_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("application_id", c_uint32),
        ("log_id", c_uint8 * 16),
        ("first_segment", c_uint64),
        ("last_segment", c_uint64),
        ("segment_count", c_uint64),
        ("file_bytes", c_uint64),
        ("truncated_seq", c_uint64),
        ("last_seq", c_uint64),
        ("written_lsn", c_uint64),
        ("durable_lsn", c_uint64),
        ("checkpoint_seq", c_uint64),
        ("batch_count", c_uint64),
        ("record_count", c_uint64),
        ("group_count", c_uint64),
        ("sync_count", c_uint64),
        ("written_bytes", c_uint64),
        ("rotation_count", c_uint64),
    ]


# == What opening found ========================================================================

WAL_VERDICT_CLEAN_END = 0
WAL_VERDICT_TORN = 1
WAL_VERDICT_CORRUPT = 2
WAL_VERDICT_IO_ERROR = 3

WAL_CONTROL_GOOD = 0
WAL_CONTROL_ONE_SLOT = 1
WAL_CONTROL_LOST = 2

WAL_EVIDENCE_SEGMENT_HEADER = 0
WAL_EVIDENCE_FRAME = 1
WAL_EVIDENCE_FRAME_BEYOND = 2
WAL_EVIDENCE_CONTROL = 3
WAL_EVIDENCE_TAIL_PAGE = 4


class wal_recovery_report_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("verdict", c_int32),
        ("control_state", c_int32),
        ("evidence_source", c_int32),
        ("segment", c_uint64),
        ("offset", c_uint64),
        ("lsn", c_uint64),
        ("end_lsn", c_uint64),
        ("next_seq", c_uint64),
        ("evidence_lsn", c_uint64),
        ("dropped_bytes", c_uint64),
        ("dropped_records", c_uint64),
        ("rescued_bytes", c_uint64),
        ("first_segment", c_uint64),
        ("last_segment", c_uint64),
        ("truncated_seq", c_uint64),
        ("duration_ns", c_uint64),
        ("repaired", c_uint32),
        ("reserved", c_uint32),
        ("row", c_char * 8),
        ("reason", c_char * 512),
    ]


# == Verifying and repairing ===================================================================

wal_progress_callback_t = CFUNCTYPE(c_int, c_void_p, c_uint64, c_uint64)

# == Functions, all of them, in the order of the header ========================================

wal_t_p = c_void_p
wal_cursor_t_p = c_void_p

FUNCTIONS: Dict[str, Tuple[Any, List[Any]]] = {
    "duralog_library_version": (c_char_p, []),
    "duralog_abi_version": (c_uint32, []),
    "duralog_format_version": (c_uint32, []),
    "duralog_status_name": (c_char_p, [duralog_status_t]),
    "duralog_last_error": (duralog_status_t, [POINTER(duralog_error_t)]),
    # path, options, out_wal
    "wal_open": (duralog_status_t, [c_char_p, POINTER(wal_options_t), POINTER(wal_t_p)]),
    "wal_close": (duralog_status_t, [wal_t_p]),
    # wal, op, key, key_len, value, value_len, flags, out_seq
    "wal_append": (duralog_status_t, [wal_t_p, c_uint8, c_char_p, c_size_t, c_char_p, c_size_t, c_uint32,
                                      POINTER(c_uint64)]),
    # wal, ops, count, flags, out_seq
    "wal_append_batch": (duralog_status_t, [wal_t_p, POINTER(wal_op_t), c_size_t, c_uint32, POINTER(c_uint64)]),
    # wal, count, ops, key_lens, value_lens, bytes, bytes_len, flags, out_seq
    "wal_append_batch_packed": (duralog_status_t, [wal_t_p, c_size_t, c_char_p, c_void_p, c_void_p, c_char_p,
                                                   c_size_t, c_uint32, POINTER(c_uint64)]),
    "wal_sync": (duralog_status_t, [wal_t_p]),
    # wal, data, len, out_seq
    "wal_checkpoint": (duralog_status_t, [wal_t_p, c_char_p, c_size_t, POINTER(c_uint64)]),
    # wal, buffer, capacity, out_len, out_seq
    "wal_last_checkpoint": (duralog_status_t, [wal_t_p, c_void_p, c_size_t, POINTER(c_size_t), POINTER(c_uint64)]),
    "wal_truncate": (duralog_status_t, [wal_t_p, c_uint64]),
    # wal, batch_id, out_batch_status
    "wal_batch_status": (duralog_status_t, [wal_t_p, c_uint64, POINTER(c_int32)]),
    # wal, after_seq, callback, user_data
    "wal_replay": (duralog_status_t, [wal_t_p, c_uint64, wal_replay_callback_t, c_void_p]),
    # wal, after_seq, flags, out_cursor
    "wal_cursor_open": (duralog_status_t, [wal_t_p, c_uint64, c_uint32, POINTER(wal_cursor_t_p)]),
    "wal_cursor_next": (duralog_status_t, [wal_cursor_t_p, POINTER(wal_record_t)]),
    # cursor, count_max, out_page
    "wal_cursor_next_page": (duralog_status_t, [wal_cursor_t_p, c_size_t, POINTER(wal_page_t)]),
    "wal_cursor_close": (duralog_status_t, [wal_cursor_t_p]),
    "wal_stat": (duralog_status_t, [wal_t_p, POINTER(wal_stat_t)]),
    "wal_recovery_report": (duralog_status_t, [wal_t_p, POINTER(wal_recovery_report_t)]),
    # path, callback, user_data, out_report
    "wal_verify": (duralog_status_t, [c_char_p, wal_progress_callback_t, c_void_p, POINTER(wal_recovery_report_t)]),
    # path, callback, user_data, out_before, out_after
    "wal_repair": (duralog_status_t, [c_char_p, wal_progress_callback_t, c_void_p, POINTER(wal_recovery_report_t),
                                      POINTER(wal_recovery_report_t)]),
}

# == Finding the library =======================================================================

LIBRARY_VARIABLE = "DURALOG_LIBRARY"

if sys.platform == "darwin":
    LIBRARY_NAME = "libduralog.dylib"
elif sys.platform == "win32":
    LIBRARY_NAME = "duralog.dll"
else:
    LIBRARY_NAME = "libduralog.so"


class LibraryNotFound(ImportError):
    """The native library can't be loaded; the message tells every place that was tried, and why not."""


_library: Optional[ctypes.CDLL] = None


def library() -> ctypes.CDLL:
    """The library, with all functions declared; loaded by the first call."""
    global _library
    if _library is None:
        _library = _find()  # two threads may both do this: they get the same library
    return _library


def _find() -> ctypes.CDLL:
    tried = []
    for origin, file in _places():
        if file is None:
            tried.append(f"{origin}: none")
            continue
        try:
            return _load(file)
        except OSError as error:
            tried.append(f"{origin}: {file}: {error}")
    places = "".join(f"\n  {line}" for line in tried)
    raise LibraryNotFound(
        f"the native library of duralog can't be loaded; tried:{places}\n"
        f"Install the package with pip, which builds the library, or set {LIBRARY_VARIABLE} to its file.")


def _places() -> List[Tuple[str, Optional[str]]]:
    named = os.environ.get(LIBRARY_VARIABLE)
    if named:
        # Who names a library means this one: to take another in silence would be worse than none.
        return [(f"environment variable {LIBRARY_VARIABLE}", named)]
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), LIBRARY_NAME)
    return [
        ("beside the package", beside),
        ("ctypes.util.find_library", ctypes.util.find_library("duralog")),
        ("the system's loader", LIBRARY_NAME),
    ]


def _load(file: str) -> ctypes.CDLL:
    loaded = ctypes.CDLL(file)
    try:
        version = loaded.duralog_abi_version
        version.restype, version.argtypes = FUNCTIONS["duralog_abi_version"]
    except AttributeError:
        raise OSError("is no Duralog library: it has no duralog_abi_version") from None
    found = version()
    if found < DURALOG_ABI_VERSION:
        raise OSError(f"its ABI version is {found}, this package needs {DURALOG_ABI_VERSION} or greater")
    for name, (restype, argtypes) in FUNCTIONS.items():
        try:
            function = getattr(loaded, name)
        except AttributeError:
            raise OSError(f"has no {name}, though its ABI version is {found}") from None
        function.restype = restype
        function.argtypes = argtypes
    return loaded
