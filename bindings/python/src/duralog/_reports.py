"""What a log tells about itself: counters, and what opening found."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Dict

from . import _native

_VERDICTS = {
    _native.WAL_VERDICT_CLEAN_END: "CLEAN_END",
    _native.WAL_VERDICT_TORN: "TORN",
    _native.WAL_VERDICT_CORRUPT: "CORRUPT",
    _native.WAL_VERDICT_IO_ERROR: "IO_ERROR",
}

_CONTROL_STATES = {
    _native.WAL_CONTROL_GOOD: "good",
    _native.WAL_CONTROL_ONE_SLOT: "one_slot",
    _native.WAL_CONTROL_LOST: "lost",
}

_EVIDENCE_SOURCES = {
    _native.WAL_EVIDENCE_SEGMENT_HEADER: "segment_header",
    _native.WAL_EVIDENCE_FRAME: "frame",
    _native.WAL_EVIDENCE_FRAME_BEYOND: "frame_beyond",
    _native.WAL_EVIDENCE_CONTROL: "control",
    _native.WAL_EVIDENCE_TAIL_PAGE: "tail_page",
}


@dataclass(frozen=True)
class Stat:
    """Counters and marks of an open log. Counters begin at 0 when the log is opened.

    log_id: identity of the log, as long as it exists. first_segment, last_segment, segment_count,
    file_bytes: its files. truncated_seq: records up to this number are never replayed. last_seq: the
    greatest sequence number committed. written_lsn, durable_lsn: every byte below was written,
    survives a power cut. checkpoint_seq: the newest checkpoint, 0 if none. batch_count,
    record_count: committed through this handle. group_count: batches that shared one write and
    sync; sync_count: their syncs. written_bytes: for batches. rotation_count: segments begun because
    the one before was full.
    """

    application_id: int
    log_id: bytes
    first_segment: int
    last_segment: int
    segment_count: int
    file_bytes: int
    truncated_seq: int
    last_seq: int
    written_lsn: int
    durable_lsn: int
    checkpoint_seq: int
    batch_count: int
    record_count: int
    group_count: int
    sync_count: int
    written_bytes: int
    rotation_count: int


@dataclass(frozen=True)
class RecoveryReport:
    """What opening a log found and did (FORMAT.md sections 12 to 14).

    verdict: "CLEAN_END", "TORN" (a crash cut it: what was being written is gone, nothing
    acknowledged is), "CORRUPT" or "IO_ERROR"; row: the row of the table in section 13. reason: what
    was found, in words. control_state: "good", "one_slot", "lost". evidence_source: where the
    greatest promise stood: "segment_header", "frame", "frame_beyond", "control", "tail_page";
    evidence_lsn: everything below was promised to be durable. segment, offset, lsn: where reading
    stopped. end_lsn: where the log ends. next_seq: the number that the next record takes.
    dropped_bytes, dropped_records: behind the end, left out. rescued_bytes: committed without
    evidence, copied into a new segment. repaired: recovery wrote new files.
    """

    verdict: str
    row: str
    reason: str
    control_state: str
    evidence_source: str
    segment: int
    offset: int
    lsn: int
    end_lsn: int
    next_seq: int
    evidence_lsn: int
    dropped_bytes: int
    dropped_records: int
    rescued_bytes: int
    first_segment: int
    last_segment: int
    truncated_seq: int
    duration_ns: int
    repaired: bool


@dataclass(frozen=True)
class IndexReport:
    """What looking through the index of an event store found.

    run_count: files that were looked through. damaged_run_count: those that are damaged, or say something else than
    the log; 0: the index is in order. event_count, key_count: events and keys that were compared, keys once for
    each file that has them. Of the first damage: damaged_file: name of the file in index/; damaged_block: its block of
    4096 bytes, 0 also for the file as a whole; reason: what was expected and found, in words. Without damage they
    are empty and 0.
    """

    run_count: int
    damaged_run_count: int
    event_count: int
    key_count: int
    damaged_file: str
    damaged_block: int
    reason: str


def stat_of(found: _native.wal_stat_t) -> Stat:
    values = _same_names(Stat, found)
    values["log_id"] = bytes(found.log_id)
    return Stat(**values)


def recovery_report_of(found: _native.wal_recovery_report_t) -> RecoveryReport:
    values = _same_names(RecoveryReport, found)
    values.update(
        verdict=named(_VERDICTS, found.verdict),
        control_state=named(_CONTROL_STATES, found.control_state),
        evidence_source=named(_EVIDENCE_SOURCES, found.evidence_source),
        row=found.row.decode(),
        reason=found.reason.decode("utf-8", "replace"),
        repaired=bool(found.repaired))
    return RecoveryReport(**values)


def index_report_of(found: _native.eventstore_index_report_t) -> IndexReport:
    values = _same_names(IndexReport, found)
    values.update(damaged_file=found.damaged_file.decode("utf-8", "replace"),
                  reason=found.reason.decode("utf-8", "replace"))
    return IndexReport(**values)


def _same_names(kind: Any, found: Any) -> Dict[str, Any]:
    return {field.name: getattr(found, field.name) for field in fields(kind)}


def named(names: Dict[int, str], number: int) -> str:
    """The word for a number; a newer library may have numbers unknown here."""
    return names.get(number, f"unknown ({number})")
