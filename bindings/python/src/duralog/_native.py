"""The C face in ctypes: `include/duralog.h`, name by name and in its order, and where the library is found.

Nothing here decides anything. Constants, structs and functions have the names of the header, and
`argtypes` and `restype` of *every* function are declared: ctypes takes an undeclared argument for a
C int, which cuts pointers and sequence numbers to 32 bits without a word. `tests/test_native.py`
reads the header and compares it with this file, sizes and offsets included. Left out is what a library
has only with a feature: `duralog.ndjson` does the same in Python, with any library.

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
from ctypes import (CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint8,
                    c_uint32, c_uint64, c_void_p)
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
DURALOG_E_CONFLICT = -24
DURALOG_E_DUPLICATE = -25
DURALOG_E_BAD_LINE = -26

duralog_status_t = c_int32

# == The last error ============================================================================


class _Sized(Structure):
    """A struct that begins with struct_size: made with it set and all else zero, as by ..._INIT."""

    def __init__(self) -> None:
        self.struct_size = ctypes.sizeof(self)


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
WAL_OPEN_MAPPED_APPENDS = 8

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
        ("groups_in_flight_max", c_uint32),
        ("buffer_bytes_max", c_uint32),
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
WAL_CURSOR_MAPPED = 2


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


# == Parts of a page ===========================================================================

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

# == Opening and closing an event store ========================================================


EVENTSTORE_MAPPED = 1


class eventstore_options_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("wal", c_void_p),
        ("progress", wal_progress_callback_t),
        ("progress_user_data", c_void_p),
    ]


class eventstore_stat_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("log_id", c_uint8 * 16),
        ("last_position", c_uint64),
        ("run_count", c_uint64),
        ("memory_events", c_uint64),
        ("work_done", c_uint64),
        ("work_total", c_uint64),
    ]


# == Queries over types and tags ===============================================================

# == Building an append ========================================================================

EVENTSTORE_EXPECT_ANY = -1
EVENTSTORE_EXPECT_EXISTS = -2
EVENTSTORE_EXPECT_NONE = 0

EVENTSTORE_POSITION_RESET = 1


class eventstore_new_event_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("has_occurred", c_uint32),
        ("stream", c_void_p),
        ("stream_len", c_size_t),
        ("event_type", c_void_p),
        ("event_type_len", c_size_t),
        ("data", c_void_p),
        ("data_len", c_size_t),
        ("metadata", c_void_p),
        ("metadata_len", c_size_t),
        ("content_type", c_void_p),
        ("content_type_len", c_size_t),
        ("tags", c_void_p),
        ("tag_lens", c_void_p),
        ("tag_count", c_size_t),
        ("id", c_void_p),
        ("correlation_id", c_void_p),
        ("causation_id", c_void_p),
        ("schema_version", c_uint64),
        ("occurred_ns", c_int64),
    ]


# == Adding many events at once ================================================================


class eventstore_columns_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("count", c_size_t),
        ("stream_lens", c_void_p),
        ("event_type_lens", c_void_p),
        ("content_type_lens", c_void_p),
        ("tag_counts", c_void_p),
        ("tag_lens", c_void_p),
        ("data_lens", c_void_p),
        ("metadata_lens", c_void_p),
        ("ids", c_void_p),
        ("correlation_ids", c_void_p),
        ("causation_ids", c_void_p),
        ("schema_versions", c_void_p),
        ("occurred_ns", c_void_p),
        ("has_occurred", c_void_p),
        ("bytes", c_void_p),
        ("bytes_len", c_size_t),
    ]


# == Appending events ==========================================================================

EVENTSTORE_APPEND_DURABLE = 1

EVENTSTORE_CONFLICT_STREAM = 1
EVENTSTORE_CONFLICT_CONDITION = 2
EVENTSTORE_CONFLICT_POSITION = 3


class eventstore_receipt_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("duplicate", c_uint32),
        ("first_position", c_uint64),
        ("last_position", c_uint64),
        ("time_ns", c_uint64),
        ("batch_id", c_uint64),
        ("stream_count", c_size_t),
    ]


class eventstore_stream_versions_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("count", c_size_t),
        ("stream_version", c_void_p),
        ("stream_begin", c_void_p),
        ("stream_end", c_void_p),
        ("bytes", c_void_p),
        ("bytes_len", c_size_t),
    ]


class eventstore_conflict_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("kind", c_uint32),
        ("index", c_size_t),
        ("name", c_void_p),
        ("name_len", c_size_t),
        ("expected", c_int64),
        ("actual", c_uint64),
    ]


# == Reading events ============================================================================

EVENTSTORE_READ_ALL = 0
EVENTSTORE_READ_STREAM = 1
EVENTSTORE_READ_CATEGORY = 2
EVENTSTORE_READ_QUERY = 3

EVENTSTORE_READ_FORWARD = 0
EVENTSTORE_READ_BACKWARD = 1

EVENTSTORE_EVENT_OWN_ID = 1
EVENTSTORE_EVENT_FIRST = 2
EVENTSTORE_EVENT_LAST = 4
EVENTSTORE_EVENT_METADATA = 8
EVENTSTORE_EVENT_OCCURRED = 16
EVENTSTORE_EVENT_CORRELATION = 32
EVENTSTORE_EVENT_CAUSATION = 64


class eventstore_read_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("selection", c_uint32),
        ("direction", c_uint32),
        ("reserved", c_uint32),
        ("name", c_char_p),
        ("name_len", c_size_t),
        ("query", c_void_p),
        ("first", c_uint64),
        ("last", c_uint64),
        ("limit", c_uint64),
    ]


class eventstore_event_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("position", c_uint64),
        ("stream_version", c_uint64),
        ("time_ns", c_uint64),
        ("schema_version", c_uint64),
        ("occurred_ns", c_int64),
        ("id", c_uint8 * 16),
        ("correlation_id", c_uint8 * 16),
        ("causation_id", c_uint8 * 16),
        ("stream", c_void_p),
        ("stream_len", c_size_t),
        ("event_type", c_void_p),
        ("event_type_len", c_size_t),
        ("content_type", c_void_p),
        ("content_type_len", c_size_t),
        ("tags", c_void_p),
        ("tags_len", c_size_t),
        ("tag_count", c_size_t),
        ("metadata", c_void_p),
        ("metadata_len", c_size_t),
        ("data", c_void_p),
        ("data_len", c_size_t),
    ]


class eventstore_page_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("at_end", c_uint32),
        ("count", c_size_t),
        ("position", c_void_p),
        ("stream_version", c_void_p),
        ("time_ns", c_void_p),
        ("schema_version", c_void_p),
        ("occurred_ns", c_void_p),
        ("flags", c_void_p),
        ("tag_count", c_void_p),
        ("id", c_void_p),
        ("correlation_id", c_void_p),
        ("causation_id", c_void_p),
        ("stream_begin", c_void_p),
        ("stream_end", c_void_p),
        ("event_type_begin", c_void_p),
        ("event_type_end", c_void_p),
        ("content_type_begin", c_void_p),
        ("content_type_end", c_void_p),
        ("tags_begin", c_void_p),
        ("tags_end", c_void_p),
        ("metadata_begin", c_void_p),
        ("metadata_end", c_void_p),
        ("data_begin", c_void_p),
        ("data_end", c_void_p),
        ("bytes", c_void_p),
        ("bytes_len", c_size_t),
    ]


# == A page of events in one run of bytes ======================================================

EVENTSTORE_PACK_STREAMS = 1
EVENTSTORE_PACK_REST = 2

# == Following events ==========================================================================

EVENTSTORE_FROM_BEGINNING = 0
EVENTSTORE_FROM_END = 1
EVENTSTORE_FROM_AFTER = 2
EVENTSTORE_FROM_SAVED = 3

# == Streams, saved positions, state ===========================================================


class eventstore_stream_info_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("stream_version", c_uint64),
        ("first_position", c_uint64),
        ("last_position", c_uint64),
    ]


# == Names =====================================================================================

EVENTSTORE_NAMES_STREAM = 1
EVENTSTORE_NAMES_CATEGORY = 2
EVENTSTORE_NAMES_TYPE = 3
EVENTSTORE_NAMES_TAG = 4


class eventstore_names_page_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("count", c_size_t),
        ("event_count", c_void_p),
        ("first_position", c_void_p),
        ("last_position", c_void_p),
        ("name_begin", c_void_p),
        ("name_end", c_void_p),
        ("bytes", c_void_p),
        ("bytes_len", c_size_t),
    ]


# == Snapshots =================================================================================


class eventstore_snapshot_info_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("version", c_uint64),
        ("position", c_uint64),
        ("data", c_void_p),
        ("data_len", c_size_t),
    ]


# == Looking through the index =================================================================


class eventstore_index_report_t(_Sized):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("run_count", c_uint64),
        ("damaged_run_count", c_uint64),
        ("event_count", c_uint64),
        ("key_count", c_uint64),
        ("damaged_block", c_uint64),
        ("damaged_file", c_char * 64),
        ("reason", c_char * 512),
    ]


# == Functions, all of them, in the order of the header ========================================

wal_t_p = c_void_p
wal_cursor_t_p = c_void_p
eventstore_t_p = c_void_p
eventstore_query_t_p = c_void_p
eventstore_append_t_p = c_void_p
eventstore_cursor_t_p = c_void_p
eventstore_subscription_t_p = c_void_p
eventstore_names_t_p = c_void_p
eventstore_snapshot_t_p = c_void_p

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
    "wal_append_batch_async": (duralog_status_t, [wal_t_p, POINTER(wal_op_t), c_size_t, c_uint32, POINTER(c_uint64)]),
    "wal_append_batch_packed_async": (duralog_status_t, [wal_t_p, c_size_t, c_char_p, c_void_p, c_void_p, c_char_p,
                                                         c_size_t, c_uint32, POINTER(c_uint64)]),
    "wal_wait_ticket": (duralog_status_t, [wal_t_p, c_uint64, c_int64, POINTER(c_uint64), POINTER(c_uint64)]),
    "wal_wait_durable": (duralog_status_t, [wal_t_p, c_uint64, c_int64]),
    "wal_ticket_fd": (duralog_status_t, [wal_t_p, POINTER(c_int32)]),
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
    # bytes, bytes_len, begin, end, count, separator, buffer, capacity, out_lens, out_len
    "duralog_spans_join": (duralog_status_t, [c_void_p, c_size_t, c_void_p, c_void_p, c_size_t, c_int, c_void_p, c_size_t,
                                              c_void_p, POINTER(c_size_t)]),
    "wal_stat": (duralog_status_t, [wal_t_p, POINTER(wal_stat_t)]),
    "wal_recovery_report": (duralog_status_t, [wal_t_p, POINTER(wal_recovery_report_t)]),
    # path, callback, user_data, out_report
    "wal_verify": (duralog_status_t, [c_char_p, wal_progress_callback_t, c_void_p, POINTER(wal_recovery_report_t)]),
    # path, callback, user_data, out_before, out_after
    "wal_repair": (duralog_status_t, [c_char_p, wal_progress_callback_t, c_void_p, POINTER(wal_recovery_report_t),
                                      POINTER(wal_recovery_report_t)]),
    # path, options, out_store
    "eventstore_open": (duralog_status_t, [c_char_p, POINTER(eventstore_options_t), POINTER(eventstore_t_p)]),
    "eventstore_close": (duralog_status_t, [eventstore_t_p]),
    "eventstore_sync": (duralog_status_t, [eventstore_t_p]),
    "eventstore_last_position": (duralog_status_t, [eventstore_t_p, POINTER(c_uint64)]),
    "eventstore_stat": (duralog_status_t, [eventstore_t_p, POINTER(eventstore_stat_t)]),
    "eventstore_wal_stat": (duralog_status_t, [eventstore_t_p, POINTER(wal_stat_t)]),
    "eventstore_recovery_report": (duralog_status_t, [eventstore_t_p, POINTER(wal_recovery_report_t)]),
    # store, batch_id, out_batch_status
    "eventstore_batch_status": (duralog_status_t, [eventstore_t_p, c_uint64, POINTER(c_int32)]),
    "eventstore_query_open": (duralog_status_t, [POINTER(eventstore_query_t_p)]),
    "eventstore_query_add_item": (duralog_status_t, [eventstore_query_t_p]),
    # query, event_type, event_type_len
    "eventstore_query_add_type": (duralog_status_t, [eventstore_query_t_p, c_char_p, c_size_t]),
    # query, tag, tag_len
    "eventstore_query_add_tag": (duralog_status_t, [eventstore_query_t_p, c_char_p, c_size_t]),
    "eventstore_query_close": (duralog_status_t, [eventstore_query_t_p]),
    "eventstore_append_open": (duralog_status_t, [POINTER(eventstore_append_t_p)]),
    "eventstore_append_clear": (duralog_status_t, [eventstore_append_t_p]),
    "eventstore_append_close": (duralog_status_t, [eventstore_append_t_p]),
    "eventstore_append_add_event": (duralog_status_t, [eventstore_append_t_p, POINTER(eventstore_new_event_t)]),
    # batch, stream, stream_len, expected
    "eventstore_append_expect": (duralog_status_t, [eventstore_append_t_p, c_char_p, c_size_t, c_int64]),
    # batch, query, after
    "eventstore_append_add_condition": (duralog_status_t, [eventstore_append_t_p, eventstore_query_t_p, c_uint64]),
    # batch, name, name_len, position, flags
    "eventstore_append_save_position": (duralog_status_t, [eventstore_append_t_p, c_char_p, c_size_t, c_uint64,
                                                           c_uint32]),
    # batch, key, key_len, value, value_len
    "eventstore_append_put_state": (duralog_status_t, [eventstore_append_t_p, c_char_p, c_size_t, c_char_p, c_size_t]),
    # batch, key, key_len
    "eventstore_append_delete_state": (duralog_status_t, [eventstore_append_t_p, c_char_p, c_size_t]),
    # batch, key, key_len
    "eventstore_append_set_idempotency_key": (duralog_status_t, [eventstore_append_t_p, c_char_p, c_size_t]),
    "eventstore_append_add_columns": (duralog_status_t, [eventstore_append_t_p, POINTER(eventstore_columns_t)]),
    # store, batch, flags, out_receipt
    "eventstore_append": (duralog_status_t, [eventstore_t_p, eventstore_append_t_p, c_uint32,
                                             POINTER(eventstore_receipt_t)]),
    # batch, index, out_stream, out_stream_len, out_stream_version
    "eventstore_append_stream_version": (duralog_status_t, [eventstore_append_t_p, c_size_t, POINTER(c_void_p),
                                                            POINTER(c_size_t), POINTER(c_uint64)]),
    # batch, out_versions
    "eventstore_append_stream_versions": (duralog_status_t, [eventstore_append_t_p,
                                                             POINTER(eventstore_stream_versions_t)]),
    "eventstore_append_conflict_count": (duralog_status_t, [eventstore_append_t_p, POINTER(c_size_t)]),
    # batch, index, out_conflict
    "eventstore_append_conflict": (duralog_status_t, [eventstore_append_t_p, c_size_t, POINTER(eventstore_conflict_t)]),
    # batch, out_ids, out_count
    "eventstore_append_known_ids": (duralog_status_t, [eventstore_append_t_p, POINTER(c_void_p), POINTER(c_size_t)]),
    # store, read, out_cursor
    "eventstore_read": (duralog_status_t, [eventstore_t_p, POINTER(eventstore_read_t), POINTER(eventstore_cursor_t_p)]),
    "eventstore_cursor_next": (duralog_status_t, [eventstore_cursor_t_p, POINTER(eventstore_event_t)]),
    # cursor, count_max, out_page
    "eventstore_cursor_next_page": (duralog_status_t, [eventstore_cursor_t_p, c_size_t, POINTER(eventstore_page_t)]),
    # cursor, position, out_event
    "eventstore_cursor_event_at": (duralog_status_t, [eventstore_cursor_t_p, c_uint64, POINTER(eventstore_event_t)]),
    # cursor, id, out_event
    "eventstore_cursor_event_by_id": (duralog_status_t, [eventstore_cursor_t_p, c_char_p, POINTER(eventstore_event_t)]),
    "eventstore_cursor_close": (duralog_status_t, [eventstore_cursor_t_p]),
    # tags, tags_len, at, out_tag, out_tag_len
    "eventstore_tag_next": (duralog_status_t, [c_char_p, c_size_t, POINTER(c_size_t), POINTER(c_void_p),
                                               POINTER(c_size_t)]),
    # page, flags, buffer, capacity, out_len
    "eventstore_page_pack": (duralog_status_t, [POINTER(eventstore_page_t), c_uint32, c_void_p, c_size_t,
                                                POINTER(c_size_t)]),
    # store, read, from, after, saved_name, saved_name_len, out_subscription
    "eventstore_subscribe": (duralog_status_t, [eventstore_t_p, POINTER(eventstore_read_t), c_uint32, c_uint64,
                                                c_char_p, c_size_t, POINTER(eventstore_subscription_t_p)]),
    # subscription, count_max, wait_ms_max, out_page
    "eventstore_subscription_next_page": (duralog_status_t, [eventstore_subscription_t_p, c_size_t, c_int64,
                                                             POINTER(eventstore_page_t)]),
    "eventstore_subscription_ack": (duralog_status_t, [eventstore_subscription_t_p, c_uint64]),
    "eventstore_subscription_position": (duralog_status_t, [eventstore_subscription_t_p, POINTER(c_uint64)]),
    "eventstore_subscription_fd": (duralog_status_t, [eventstore_subscription_t_p, POINTER(c_int32)]),
    "eventstore_subscription_cancel": (duralog_status_t, [eventstore_subscription_t_p]),
    "eventstore_subscription_close": (duralog_status_t, [eventstore_subscription_t_p]),
    # store, stream, stream_len, out_info
    "eventstore_stream_info": (duralog_status_t, [eventstore_t_p, c_char_p, c_size_t,
                                                  POINTER(eventstore_stream_info_t)]),
    # store, name, name_len, out_position
    "eventstore_saved_position": (duralog_status_t, [eventstore_t_p, c_char_p, c_size_t, POINTER(c_uint64)]),
    # store, key, key_len, buffer, capacity, out_len
    "eventstore_state": (duralog_status_t, [eventstore_t_p, c_char_p, c_size_t, c_void_p, c_size_t, POINTER(c_size_t)]),
    # store, kind, prefix, prefix_len, out_names
    "eventstore_names_open": (duralog_status_t, [eventstore_t_p, c_uint32, c_char_p, c_size_t,
                                                 POINTER(eventstore_names_t_p)]),
    # names, count_max, out_page
    "eventstore_names_next_page": (duralog_status_t, [eventstore_names_t_p, c_size_t,
                                                      POINTER(eventstore_names_page_t)]),
    "eventstore_names_close": (duralog_status_t, [eventstore_names_t_p]),
    # store, key, key_len, version, position, fingerprint, fingerprint_len, data, data_len
    "eventstore_snapshot_save": (duralog_status_t, [eventstore_t_p, c_char_p, c_size_t, c_uint64, c_uint64, c_char_p,
                                                    c_size_t, c_char_p, c_size_t]),
    # store, key, key_len, version_max, fingerprint, fingerprint_len, out_snapshot
    "eventstore_snapshot_load": (duralog_status_t, [eventstore_t_p, c_char_p, c_size_t, c_uint64, c_char_p, c_size_t,
                                                    POINTER(eventstore_snapshot_t_p)]),
    "eventstore_snapshot_info": (duralog_status_t, [eventstore_snapshot_t_p, POINTER(eventstore_snapshot_info_t)]),
    "eventstore_snapshot_close": (duralog_status_t, [eventstore_snapshot_t_p]),
    # store, key, key_len
    "eventstore_snapshot_delete": (duralog_status_t, [eventstore_t_p, c_char_p, c_size_t]),
    # store, callback, user_data, out_report
    "eventstore_verify_index": (duralog_status_t, [eventstore_t_p, wal_progress_callback_t, c_void_p,
                                                   POINTER(eventstore_index_report_t)]),
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
