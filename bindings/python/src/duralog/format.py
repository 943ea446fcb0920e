"""A reader of the Duralog format in pure Python, written from FORMAT.md and from nothing else.

What it is for
--------------
FORMAT.md promises that a program which follows it can read a log without any code of ours. This
file keeps that promise honest: it shares no line with the library, needs neither the native
library nor the rest of this package, and is compared with the library over thousands of logs,
whole and broken (`--compare`). Where the two differ, one of them or FORMAT.md is wrong. Section
numbers in the comments are those of FORMAT.md.

It only reads. It creates, repairs, locks and truncates nothing. What the records of an event store
mean (section 20) is read by format_events.py beside this file: `open_events` here leads to it.

The path of a log through this file
-----------------------------------
    open_log      names, control slots, tail page, segment headers      sections 3, 4, 9, 10, 12.1, 12.2
    _Walk         frame by frame, segment by segment, to the first      sections 5, 7, 11, 12.4
                  place X that does not go on
    decide        the row of the table for X                            section 13
    LogReader     frames, records of committed batches, the verdict     sections 6, 12.5, 12.6

What must hold
--------------
A *frame* is delivered if and only if it is accepted (11.1) and well-formed (11.4), and so is every
frame before it in its segment, and every segment before it ended exactly where its successor says
(rows S1, S2, S3). A *record* is delivered if and only if all frames of its batch were, from BEGIN
to COMMIT: a batch is checked whole before its first record is seen. So damage can make this reader
deliver fewer records, and then it says so, but never other ones.

Nothing read from disk is believed before it is bounded: a payload_len is compared with the limit
and with the size of the file before a byte of the payload is read, a record_count with the length
of the payload before the records are walked. Memory is bounded by one frame plus BATCH_HELD_MAX; a
batch with more payload than that is read a second time instead of being held.

Errors are of two kinds. What the bytes say comes as FormatError or one of its three children, so
the three answers *not ours*, *newer than this reader* and *damaged* stay apart. What the operating
system says (row R) comes as OSError, and is never taken for an end of the log.
"""

from __future__ import annotations

import argparse
import errno
import importlib.util
import json
import os
import stat
import struct
import sys
import zlib
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

__all__ = [
    "FormatError", "NotALog", "NewerFormat", "Corrupt",
    "SegmentHeader", "ControlSlot", "Frame", "Record", "Verdict",
    "LogReader", "open_log", "open_events", "describe",
]

# --- 3. The directory ------------------------------------------------------------------------

SEGMENT_SUFFIX = ".wal"
SEGMENT_DIGITS = 20
CONTROL_NAME = "control"
TAIL_NAME = "tail"
U64_MAX = (1 << 64) - 1

# --- 4. Segment header -----------------------------------------------------------------------

FORMAT_MAJOR = 1
SEGMENT_MAGIC = b"\x8fDUR\r\n\x1a\n"
SEGMENT_HEADER = struct.Struct("<8sHHIIIIHH16sQQQQIIQQQQII")
HEADER_SIZE_MIN = 128
HEADER_SIZE_MAX = 1_048_576
ALIGNMENT = 8
BASE_LSN_LIMIT = 1 << 63
INCOMPATIBLE_KNOWN = 0  # section 15: no feature bit is assigned in 1.0
SEGMENT_RESCUE = 1  # bit 0 of flags

# --- 5. Frame --------------------------------------------------------------------------------

FRAME_HEADER = struct.Struct("<IIIBBHIIQQIIQQ")
FRAME_HEADER_SIZE = 64
FRAME_SALT_OFFSET = 20
PAYLOAD_MAX = 67_108_864

BATCH, CHECKPOINT, MARK, SEAL = 1, 2, 3, 4
SKIPPED_TYPE_MIN = 128
TYPE_NAMES = {BATCH: "BATCH", CHECKPOINT: "CHECKPOINT", MARK: "MARK", SEAL: "SEAL"}

BEGIN, COMMIT, SOLO, ABORT = 1, 2, 4, 8
BATCH_FLAGS_ALLOWED = frozenset((0, BEGIN, COMMIT, BEGIN | COMMIT, BEGIN | COMMIT | SOLO, ABORT))

# --- 6. Record -------------------------------------------------------------------------------

RECORD_HEADER = struct.Struct("<BBHII")
RECORD_HEADER_SIZE = 12
OP_REFUSED = 0

# --- 9. Control file -------------------------------------------------------------------------

CONTROL_MAGIC = b"\x8fDURCTL\n"
CONTROL_SLOT = struct.Struct("<8sHHI16sQQQQQQQQQIIQII")
CONTROL_SLOT_SPACING = 4096
CONTROL_OPEN, CONTROL_CLOSED = 0, 1

# --- 10. Tail page ---------------------------------------------------------------------------

TAIL_MAGIC = b"\x8fDURTLP\n"
TAIL_HEAD = struct.Struct("<8s16s16sQIIQ")
TAIL_SLOT = struct.Struct("<QQ")
TAIL_SLOT_OFFSETS = (64, 128)
TAIL_SIZE = 4096
BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"

# --- Of this reader, not of the format -------------------------------------------------------

READ_WINDOW = 262_144  # bytes asked of the system at a time; most test logs fit whole
SCAN_BLOCK = 1_048_576  # bytes searched at a time for live frames
BATCH_HELD_MAX = 8_388_608  # payload bytes of one batch held in memory before it is read twice
LIVE_OPEN_ATTEMPTS = 16  # a writer that truncates while we list makes us list again

ZERO_HEADER = bytes(FRAME_HEADER_SIZE)
DIGEST_RECORD = struct.Struct("<QBII")  # seq, op, key_len, value_len: see describe()

crc32 = zlib.crc32  # section 1: polynomial, start, reflection and final XOR are those of zlib


# =============================================================================================
# Errors
# =============================================================================================


class FormatError(Exception):
    """The bytes in the directory can't be read as this reader was asked to."""


class NotALog(FormatError):
    """There is no Duralog log here."""


class NewerFormat(FormatError):
    """The log was written in a newer format, or with features this reader does not know (section 15)."""


class Corrupt(FormatError):
    """The log is damaged at a place where no crash damages it (rows M, W, S1, S2, E of section 13)."""

    def __init__(self, row: str, segment: int, offset: int, lsn: int, reason: str,
                 expected: str, found: str) -> None:
        super().__init__(
            f"{segment_name(segment)} offset {offset} (LSN {lsn}), row {row}: {reason}: "
            f"expected {expected}, found {found}")
        self.row = row
        self.segment = segment
        self.offset = offset
        self.lsn = lsn
        self.reason = reason
        self.expected = expected
        self.found = found


# =============================================================================================
# Values
# =============================================================================================


@dataclass(frozen=True)
class SegmentHeader:
    """The first 128 bytes of a segment (section 4), in the order of the file."""

    magic: bytes
    format_major: int
    format_minor: int
    header_size: int
    incompatible: int
    read_only_compatible: int
    compatible: int
    flags: int
    alignment: int
    log_id: bytes
    segment_number: int
    base_lsn: int
    first_seq: int
    prev_end_lsn: int
    prev_link: int
    salt: int
    durable_lsn: int
    checkpoint_lsn: int
    allocated_size: int
    created_ns: int
    application_id: int
    crc: int

    @property
    def rescue(self) -> bool:
        """Whether recovery wrote this segment and it holds copies (section 14.6)."""
        return bool(self.flags & SEGMENT_RESCUE)

    def lsn_at(self, offset: int) -> int:
        """The LSN of the byte at `offset` (section 8)."""
        return self.base_lsn + offset - self.header_size


@dataclass(frozen=True)
class ControlSlot:
    """One slot of the control file (section 9), in the order of the file."""

    magic: bytes
    format_major: int
    format_minor: int
    state: int
    log_id: bytes
    generation: int
    first_segment: int
    last_segment: int
    truncated_seq: int
    durable_lsn: int
    checkpoint_lsn: int
    end_lsn: int
    next_seq: int
    last_frame_lsn: int
    end_link: int
    reserved_108: int
    time_ns: int
    reserved_120: int
    crc: int


@dataclass(frozen=True)
class Frame:
    """An accepted frame (sections 5 and 11.1) and where it stands."""

    segment: int
    offset: int
    header_crc: int
    payload_crc: int
    payload_len: int
    type: int
    flags: int
    link: int
    salt: int
    lsn: int
    first_seq: int
    record_count: int
    durable_lsn: int
    time_ns: int
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes on disk: header, payload, padding."""
        return frame_size(self.payload_len)

    @property
    def end_lsn(self) -> int:
        """The LSN of the byte after the padding."""
        return self.lsn + frame_size(self.payload_len)


@dataclass(frozen=True)
class Record:
    """A committed record. `lsn` is that of its frame, `batch_id` that of the frame with BEGIN (section 7)."""

    seq: int
    op: int
    key: bytes
    value: bytes
    time_ns: int
    lsn: int
    batch_id: int


@dataclass(frozen=True)
class Verdict:
    """What section 13 says about the log, and where.

    `segment`, `offset` and `lsn` are the place X; for a segment that is missing or can't be used
    (row M) its number, 0 and 0. `end_lsn` is C, `next_seq` the number that the next record takes
    there: both 0 if not even the first segment could be walked. `evidence_lsn` is E (12.3), or,
    where the walk ended before the last segment, what control and tail page promise.
    `last_segment` is the greatest number that was found or that control names.
    """

    verdict: str
    row: str
    segment: int
    offset: int
    lsn: int
    end_lsn: int
    next_seq: int
    evidence_lsn: int
    control: str
    first_segment: int
    last_segment: int
    truncated_seq: int
    reason: str


VERDICT_OF_ROW = {
    "R": "IO_ERROR", "M": "CORRUPT", "W": "CORRUPT", "S1": "CORRUPT", "S2": "CORRUPT",
    "E": "CORRUPT", "Z": "CLEAN_END", "T": "TORN",
}


def segment_name(number: int) -> str:
    """The file name of a segment (section 3)."""
    return f"{number:0{SEGMENT_DIGITS}d}{SEGMENT_SUFFIX}"


def parse_segment_name(name: str) -> Optional[int]:
    """The number of a segment, or None for every other name. Numbers go from 1 to 2^64 - 2."""
    digits = name[:SEGMENT_DIGITS]
    if len(name) != SEGMENT_DIGITS + len(SEGMENT_SUFFIX) or not name.endswith(SEGMENT_SUFFIX):
        return None
    if not (digits.isascii() and digits.isdigit()):
        return None
    number = int(digits)
    return number if 1 <= number < U64_MAX else None


def frame_size(payload_len: int) -> int:
    """Header, payload, zero padding to a multiple of 8 (section 5)."""
    return FRAME_HEADER_SIZE + ((payload_len + 7) & ~7)


def type_name(frame_type: int) -> str:
    return TYPE_NAMES.get(frame_type, f"type {frame_type}")


# =============================================================================================
# Section 13, the table
# =============================================================================================


class Facts(NamedTuple):
    """All that the table of section 13 asks about a place X."""

    read_failed: bool = False  # R
    segment_unusable: bool = False  # M: missing, or its header can't be used
    malformed: bool = False  # W: accepted, not well-formed
    last_segment: bool = True
    at_prev_end: bool = False  # X is exactly at the successor's prev_end_lsn
    batch_open: bool = False
    chain_agrees: bool = False  # link and sequence number are those of the successor's header
    below_evidence: bool = False  # X < E
    sealed: bool = False  # a SEAL ends at X
    blank: bool = False  # a zero header, or a frame of another generation, at X (11.3)
    live_beyond: bool = False  # a live frame (11.2) beyond X


def decide(facts: Facts) -> str:
    """The label of the first row that applies, from the top."""
    if facts.read_failed:
        return "R"
    if facts.segment_unusable:
        return "M"
    if facts.malformed:
        return "W"
    if not facts.last_segment:
        if not facts.at_prev_end or facts.batch_open:
            return "S1"
        return "S3" if facts.chain_agrees else "S2"
    if facts.below_evidence:
        return "E"
    if not facts.batch_open and (facts.sealed or facts.blank and not facts.live_beyond):
        return "Z"
    return "T"


# =============================================================================================
# Files
# =============================================================================================


class _File:
    """A regular file, read through one window so that small logs cost one system call.

    A name that is a symbolic link, a directory or anything else but a regular file is an error
    and not an absence (section 3), so it is opened without following and without waiting.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "is not a regular file", path)
        except BaseException:
            os.close(self._fd)
            raise
        self.size = status.st_size
        self._window = b""
        self._window_offset = 0

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes at `offset`; fewer only where the file ends."""
        start = offset - self._window_offset
        if start < 0 or start + length > len(self._window):
            if length > READ_WINDOW:
                return self._read_whole(offset, length)
            self._window = self._read_whole(offset, READ_WINDOW)
            self._window_offset = offset
            start = 0
        return self._window[start:start + length]

    def _read_whole(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))  # never allocate more than the file has
        data = os.pread(self._fd, length, offset) if length else b""
        if len(data) == length:
            return data
        pieces = [data]  # a short read: go on until the system says that the file ends
        have = len(data)
        while have < length and pieces[-1]:
            pieces.append(os.pread(self._fd, length - have, offset + have))
            have += len(pieces[-1])
        return b"".join(pieces)


def _read_control_file(path: str) -> bytes:
    """The bytes of both slots; none if the name is not there. Anything but a file is an error (section 3)."""
    try:
        with _File(os.path.join(path, CONTROL_NAME)) as file:
            return file.read(0, 2 * CONTROL_SLOT_SPACING)
    except FileNotFoundError:
        return b""


def _read_tail_file(path: str) -> bytes:
    """The bytes of the tail page; none where there is none to be had: it may be lost (section 3)."""
    try:
        with _File(os.path.join(path, TAIL_NAME)) as file:
            return file.read(0, TAIL_SIZE)
    except OSError:
        return b""


# =============================================================================================
# Control file and tail page
# =============================================================================================


def _decode_control_slot(data: bytes, index: int) -> Optional[ControlSlot]:
    """A valid slot, or None. A newer one makes the whole log newer (section 9)."""
    begin = index * CONTROL_SLOT_SPACING
    raw = data[begin:begin + CONTROL_SLOT.size]
    if len(raw) < CONTROL_SLOT.size:
        return None
    slot = ControlSlot(*CONTROL_SLOT.unpack(raw))
    if slot.magic != CONTROL_MAGIC or slot.crc != crc32(raw[:124]):
        return None
    if slot.format_major > FORMAT_MAJOR:
        raise NewerFormat(f"{CONTROL_NAME} slot {index}: expected format {FORMAT_MAJOR}, "
                          f"found {slot.format_major}.{slot.format_minor}")
    if (slot.format_major != FORMAT_MAJOR or slot.generation == 0
            or slot.state not in (CONTROL_OPEN, CONTROL_CLOSED)):
        return None
    return slot


def _read_control(path: str) -> Tuple[Optional[ControlSlot], str]:
    """The slot that counts, and "good", "one_slot" or "lost" (section 9)."""
    data = _read_control_file(path)
    slots = [slot for index in (0, 1) for slot in (_decode_control_slot(data, index),)
             if slot is not None]
    if not slots:
        return None, "lost"
    best = max(slots, key=lambda slot: slot.generation)  # of equals the first
    return best, "good" if len(slots) == 2 else "one_slot"


class _Tail(NamedTuple):
    acknowledged_lsn: int
    durable_lsn: int  # the greatest of a slot whose check holds; 0: none


def _boot_id() -> Optional[bytes]:
    """The boot of the running machine, or None where the system does not tell."""
    try:
        with open(BOOT_ID_PATH, "r", encoding="ascii") as file:
            value = bytes.fromhex(file.read().strip().replace("-", ""))
    except (OSError, ValueError):
        return None
    return value if len(value) == 16 else None


def _decode_tail(data: bytes, log_id: bytes, boot_id: Optional[bytes]) -> Optional[_Tail]:
    """The tail page, if all of it is there and magic, log_id and boot_id hold (section 10)."""
    if boot_id is None or len(data) < TAIL_SIZE:
        return None
    magic, page_log_id, page_boot_id, acknowledged_lsn, _, _, _ = TAIL_HEAD.unpack_from(data)
    if magic != TAIL_MAGIC or page_log_id != log_id or page_boot_id != boot_id:
        return None
    promise = 0
    for offset in TAIL_SLOT_OFFSETS:
        durable_lsn, check = TAIL_SLOT.unpack_from(data, offset)
        if check == crc32(log_id + boot_id + data[offset:offset + 8]):
            promise = max(promise, durable_lsn)
    return _Tail(acknowledged_lsn, promise)


# =============================================================================================
# Segment headers
# =============================================================================================


class _Refusal(NamedTuple):
    """Why a header or a frame is not used. `not_ours` is answer 1 of section 4."""

    reason: str
    expected: str
    found: str
    not_ours: bool = False


_HeaderOrWhy = Union[SegmentHeader, _Refusal, OSError]


def _judge_header(raw: bytes, number: int) -> Union[SegmentHeader, _Refusal]:
    """Steps 1 to 4 of section 4; step 5 needs the log_id of the log and is made by open_log."""
    if len(raw) < HEADER_SIZE_MIN:
        return _Refusal("not a Duralog segment", f"at least {HEADER_SIZE_MIN} bytes",
                        f"{len(raw)}", not_ours=True)
    header = SegmentHeader(*SEGMENT_HEADER.unpack(raw))
    if header.magic != SEGMENT_MAGIC:
        return _Refusal("not a Duralog segment", f"magic {SEGMENT_MAGIC.hex()}",
                        header.magic.hex(), not_ours=True)
    computed = crc32(raw[:124])
    if header.crc != computed:
        return _Refusal("segment header checksum", f"0x{header.crc:08x}", f"0x{computed:08x}")
    if header.format_major > FORMAT_MAJOR or header.incompatible & ~INCOMPATIBLE_KNOWN:
        raise NewerFormat(
            f"{segment_name(number)}: expected format {FORMAT_MAJOR} and incompatible features "
            f"0x{INCOMPATIBLE_KNOWN:x} at most, found format {header.format_major}."
            f"{header.format_minor} and features 0x{header.incompatible:x}")
    if header.format_major == 0:
        return _Refusal("segment format_major", str(FORMAT_MAJOR), "0")
    if (header.header_size % ALIGNMENT
            or not HEADER_SIZE_MIN <= header.header_size <= HEADER_SIZE_MAX):
        return _Refusal("segment header_size",
                        f"a multiple of 8 from {HEADER_SIZE_MIN} to {HEADER_SIZE_MAX}",
                        str(header.header_size))
    if header.alignment != ALIGNMENT:
        return _Refusal("segment alignment", str(ALIGNMENT), str(header.alignment))
    if header.salt == 0:
        return _Refusal("segment salt", "not 0", "0")
    if header.segment_number != number:
        return _Refusal("segment_number", str(number), str(header.segment_number))
    if header.first_seq == 0:
        return _Refusal("segment first_seq", "at least 1", "0")
    if header.base_lsn < header.prev_end_lsn:
        return _Refusal("segment base_lsn", f"at least prev_end_lsn {header.prev_end_lsn}",
                        str(header.base_lsn))
    if header.base_lsn >= BASE_LSN_LIMIT:
        return _Refusal("segment base_lsn", f"below {BASE_LSN_LIMIT}", str(header.base_lsn))
    if header.base_lsn % 8:
        return _Refusal("segment base_lsn", "a multiple of 8", str(header.base_lsn))
    return header


def _read_header(path: str, number: int) -> _HeaderOrWhy:
    try:
        with _File(os.path.join(path, segment_name(number))) as file:
            return _judge_header(file.read(0, HEADER_SIZE_MIN), number)
    except OSError as error:
        return error


def _judge_among_neighbours(header: SegmentHeader, log_id: bytes,
                            before: Optional[SegmentHeader]) -> Optional[_Refusal]:
    """Step 5 of section 4 (foreign) and section 12.2."""
    if header.log_id != log_id:
        return _Refusal("segment of another log", f"log_id {log_id.hex()}", header.log_id.hex())
    if before is not None:
        if header.prev_end_lsn < before.base_lsn:
            return _Refusal("segment prev_end_lsn",
                            f"at least {before.base_lsn}, base_lsn of the segment before",
                            str(header.prev_end_lsn))
        if header.first_seq < before.first_seq:
            return _Refusal("segment first_seq",
                            f"at least {before.first_seq}, first_seq of the segment before",
                            str(header.first_seq))
        if header.application_id != before.application_id:
            return _Refusal("segment application_id",
                            f"{before.application_id} as in the segment before",
                            str(header.application_id))
    return None


# =============================================================================================
# Frames
# =============================================================================================


def _accept(file: _File, header: SegmentHeader, offset: int, link: int) -> Union[Frame, _Refusal]:
    """Section 11.1: the frame at `offset` if conditions 1 to 7 hold; the chain is the caller's."""
    raw = file.read(offset, FRAME_HEADER_SIZE)
    if len(raw) < FRAME_HEADER_SIZE:  # 1
        return _Refusal("end of file (11.1.1)", f"{FRAME_HEADER_SIZE} bytes", str(len(raw)))
    (header_crc, payload_crc, payload_len, frame_type, flags, _, frame_link, salt, lsn, first_seq,
     record_count, _, durable_lsn, time_ns) = FRAME_HEADER.unpack(raw)
    computed = crc32(raw[4:])
    if header_crc != computed:  # 2
        return _Refusal("frame header checksum (11.1.2)", f"0x{header_crc:08x}", f"0x{computed:08x}")
    if salt != header.salt:  # 3
        return _Refusal("frame salt (11.1.3)", f"0x{header.salt:08x}", f"0x{salt:08x}")
    if lsn != header.lsn_at(offset):  # 4
        return _Refusal("frame LSN (11.1.4)", str(header.lsn_at(offset)), str(lsn))
    if frame_link != link:  # 5
        return _Refusal("frame link (11.1.5)", f"0x{link:08x}", f"0x{frame_link:08x}")
    if payload_len > PAYLOAD_MAX:  # 6
        return _Refusal("frame payload_len (11.1.6)", f"at most {PAYLOAD_MAX}", str(payload_len))
    if offset + frame_size(payload_len) > file.size:
        return _Refusal("end of file inside a frame (11.1.6)",
                        f"{frame_size(payload_len)} bytes", str(file.size - offset))
    payload = file.read(offset + FRAME_HEADER_SIZE, payload_len)
    computed = crc32(payload)
    if payload_crc != computed or len(payload) != payload_len:  # 7
        return _Refusal("frame payload checksum (11.1.7)", f"0x{payload_crc:08x}", f"0x{computed:08x}")
    return Frame(header.segment_number, offset, header_crc, payload_crc, payload_len, frame_type,
                 flags, frame_link, salt, lsn, first_seq, record_count, durable_lsn, time_ns, payload)


def _seqs_taken(frame: Frame) -> int:
    """Section 7: how many sequence numbers the records and marks of a frame take."""
    if frame.type == BATCH:
        return frame.record_count + (frame.flags & (COMMIT | SOLO) == COMMIT)
    return 1 if frame.type == CHECKPOINT else 0


def _is_blank(file: _File, header: SegmentHeader, offset: int) -> bool:
    """Section 11.3: a zero header, or a frame of another generation, at `offset`."""
    raw = file.read(offset, FRAME_HEADER_SIZE)
    if raw == ZERO_HEADER[:len(raw)]:
        return True
    if len(raw) < FRAME_HEADER_SIZE:
        return False
    found = FRAME_HEADER.unpack(raw)
    return found[0] == crc32(raw[4:]) and found[7] != header.salt


class _Live(NamedTuple):
    found: bool
    durable_lsn: int  # the greatest promise of a live frame; 0: none


def _find_live(file: _File, header: SegmentHeader, start: int) -> _Live:
    """Section 11.2: the live frames at any multiple of 8 from `start` to the end of the file.

    The salt makes them findable: its four bytes stand at offset 20 of every frame of this use of
    the file, and nearly nowhere else. So the file is searched for these bytes, and only a hit in
    the right column, with the right LSN, has its checksum computed. Blocks overlap by a header.
    """
    salt = header.salt.to_bytes(4, "little")
    found, greatest = False, 0
    start += -start % ALIGNMENT
    while start + FRAME_HEADER_SIZE <= file.size:
        block = file.read(start, SCAN_BLOCK + FRAME_HEADER_SIZE)
        hit = block.find(salt, FRAME_SALT_OFFSET)
        while hit >= 0:
            at = hit - FRAME_SALT_OFFSET
            if at % ALIGNMENT == 0 and at + FRAME_HEADER_SIZE <= len(block):
                lsn, durable_lsn = (struct.unpack_from("<Q", block, at + 24)[0],
                                    struct.unpack_from("<Q", block, at + 48)[0])
                if (lsn == header.lsn_at(start + at) and durable_lsn <= lsn and block[at + 12] != 0
                        and struct.unpack_from("<I", block, at)[0]
                        == crc32(memoryview(block)[at + 4:at + FRAME_HEADER_SIZE])):
                    found = True
                    greatest = max(greatest, durable_lsn)
            # The next place where a salt can stand: the same column, one row of 8 bytes on.
            hit = block.find(salt, hit + 1 + (FRAME_SALT_OFFSET - (hit + 1)) % ALIGNMENT)
        if len(block) < SCAN_BLOCK + FRAME_HEADER_SIZE:
            break
        start += SCAN_BLOCK
    return _Live(found, greatest)


def _records_problem(payload: bytes, record_count: int) -> Optional[_Refusal]:
    """Section 6: exactly `record_count` records fill the payload exactly."""
    size = len(payload)
    if record_count * RECORD_HEADER_SIZE > size:
        return _Refusal("records of a BATCH frame (section 6)",
                        f"at most {size // RECORD_HEADER_SIZE} in {size} bytes", str(record_count))
    at = 0
    unpack_from = RECORD_HEADER.unpack_from
    for index in range(record_count):
        if size - at < RECORD_HEADER_SIZE:
            return _Refusal(f"record {index} at payload offset {at} (section 6)",
                            f"{RECORD_HEADER_SIZE} bytes of header", str(size - at))
        op, _, _, key_len, value_len = unpack_from(payload, at)
        if op == OP_REFUSED:
            return _Refusal(f"op of record {index} at payload offset {at} (section 6)", "not 0", "0")
        at += RECORD_HEADER_SIZE + key_len + value_len
        if at > size:
            return _Refusal(f"record {index} reaches beyond its frame (section 6)",
                            f"an end at {size} at most", str(at))
    if at != size:
        return _Refusal("records of a BATCH frame (section 6)", f"{size} bytes filled", str(at))
    return None


def _payload_records(frame: Frame) -> Iterator[Tuple[int, bytes, bytes]]:
    """op, key, value of the records of a well-formed BATCH frame."""
    payload, at = frame.payload, 0
    size = len(payload)
    unpack_from = RECORD_HEADER.unpack_from
    while at < size:
        op, _, _, key_len, value_len = unpack_from(payload, at)
        key_end = at + RECORD_HEADER_SIZE + key_len
        yield op, payload[at + RECORD_HEADER_SIZE:key_end], payload[key_end:key_end + value_len]
        at = key_end + value_len


# =============================================================================================
# The walk
# =============================================================================================


class _End(NamedTuple):
    """Where and why a walk ended. The row "" is the stop beside a live writer, which judges nothing."""

    row: str
    segment: int
    offset: int
    lsn: int
    why: _Refusal
    error: Optional[OSError] = None
    evidence: Optional[int] = None  # E, where the walk came to know it


class _Walk:
    """Section 12.4: one pass over the log, from the first segment to X.

    `frames()` gives every frame that is accepted and well-formed. While it runs, `closed_lsn` and
    `closed_seq` are C and the sequence number there; when it is exhausted, `end` says why it ended.
    It raises nothing of its own: to report, to raise or to ignore is for the one who walks.
    """

    def __init__(self, log: "LogReader") -> None:
        self._log = log
        self._file: Optional[_File] = None
        self._header: Optional[SegmentHeader] = None
        self.closed_lsn = 0
        self.closed_seq = 0
        self.end: Optional[_End] = None

    def frames(self) -> Iterator[Frame]:
        log = self._log
        for index in range(len(log.run)):
            header = log.run[index]
            if not isinstance(header, SegmentHeader):
                return self._stop_before(log.first_segment + index, header)
            try:
                yield from self._walk_segment(index, header)
            except OSError as error:
                at = self._place
                self.end = _End(decide(Facts(read_failed=True)), header.segment_number, at, header.lsn_at(at),
                                _Refusal("the read failed", "data", str(error)), error)
            if self.end is not None:
                return
        # Only a missing segment lets the loop run out: the last one always ends the walk.
        self._stop_before(log.missing, None)

    def _stop_before(self, number: Optional[int], why: Union[_Refusal, OSError, None]) -> None:
        """The log can't be entered at segment `number`: rows R and M."""
        assert number is not None
        if isinstance(why, OSError):
            refusal = _Refusal("the read failed", "a readable regular file", str(why))
            self.end = _End(decide(Facts(read_failed=True)), number, 0, 0, refusal, why)
            return
        if why is None:
            why = _Refusal("segment missing", f"a file {segment_name(number)}", "none")
        self.end = _End(decide(Facts(segment_unusable=True)), number, 0, 0, why)

    def _walk_segment(self, index: int, header: SegmentHeader) -> Iterator[Frame]:
        log = self._log
        number = header.segment_number
        is_last = index + 1 == len(log.run) and log.missing is None
        successor = log.run[index + 1] if index + 1 < len(log.run) else None
        if not isinstance(successor, SegmentHeader):
            successor = None
        prev_end = None if successor is None else successor.prev_end_lsn

        self._place = offset = header.header_size
        self._header = header
        link = header.crc
        seq = header.first_seq
        batch_seq: Optional[int] = None  # where the open batch began; None: no batch is open
        self.closed_lsn, self.closed_seq = header.base_lsn, seq
        sealed = False
        promise = 0  # the greatest of a well-formed frame

        with _File(os.path.join(log.path, segment_name(number))) as file:
            self._file = file
            while True:
                lsn = header.lsn_at(offset)
                if lsn == prev_end:
                    assert successor is not None
                    agrees = link == successor.prev_link and seq == successor.first_seq
                    row = decide(Facts(last_segment=False, at_prev_end=True,
                                       batch_open=batch_seq is not None, chain_agrees=agrees))
                    if row == "S1":
                        self.end = _End(row, number, offset, lsn, _Refusal(
                            "a batch is open where the segment ends", "its COMMIT", "prev_end_lsn"))
                    elif row == "S2":
                        self.end = _End(row, number, offset, lsn, _Refusal(
                            "the successor does not continue this segment",
                            f"link 0x{link:08x} and sequence number {seq}",
                            f"0x{successor.prev_link:08x} and {successor.first_seq}"))
                    return
                if log.acknowledged_lsn is not None and lsn >= log.acknowledged_lsn:
                    self.end = _End("", number, offset, lsn, _Refusal("acknowledged_lsn", "", ""))
                    return

                if sealed:
                    frame: Union[Frame, _Refusal] = _Refusal("the segment is sealed", "", "")
                else:
                    frame = _accept(file, header, offset, link)
                    if isinstance(frame, Frame) and prev_end is not None and frame.end_lsn > prev_end:
                        frame = _Refusal("a frame reaches beyond its segment", f"an end at {prev_end} at most",
                                         str(frame.end_lsn))
                if isinstance(frame, _Refusal):
                    if successor is not None:
                        self.end = _End(decide(Facts(last_segment=False)), number, offset, lsn,
                                        frame._replace(reason=f"{frame.reason}, below the "
                                                              f"successor's prev_end_lsn {prev_end}"))
                    elif is_last:
                        self.end = self._judge_tail(file, header, offset, batch_seq is not None, sealed,
                                                    promise, frame)
                    return  # without a usable successor: frames() says what is wrong with it
                if log.acknowledged_lsn is not None and frame.end_lsn > log.acknowledged_lsn:
                    self.end = _End("", number, offset, lsn, _Refusal("acknowledged_lsn", "", ""))
                    return

                expected_seq = seq if batch_seq is None or frame.flags != ABORT else batch_seq
                problem = self._form_problem(frame, batch_seq is not None, expected_seq)
                if problem is not None:
                    evidence = self._evidence(file, header, offset, promise) if is_last else None
                    self.end = _End(decide(Facts(malformed=True)), number, offset, lsn, problem,
                                    evidence=evidence)
                    return
                promise = max(promise, frame.durable_lsn)

                # Section 7: count.
                if frame.type == BATCH:
                    if frame.flags & BEGIN:
                        batch_seq = seq
                    if frame.flags == ABORT:
                        assert batch_seq is not None
                        seq, batch_seq = batch_seq, None
                    elif frame.flags & COMMIT:
                        batch_seq = None
                seq += _seqs_taken(frame)
                offset += frame.size
                self._place = offset
                link = frame.header_crc
                if batch_seq is None:
                    self.closed_lsn, self.closed_seq = frame.end_lsn, seq
                sealed = frame.type == SEAL
                yield frame

    @staticmethod
    def _form_problem(frame: Frame, batch_open: bool, expected_seq: int) -> Optional[_Refusal]:
        """Section 11.4: why an accepted frame is not well-formed, or None."""
        if frame.type == BATCH:
            if frame.flags not in BATCH_FLAGS_ALLOWED:
                return _Refusal("flags of a BATCH frame", "a combination of section 5",
                                f"0x{frame.flags:02x}")
            if frame.flags & BEGIN:
                if batch_open:
                    return _Refusal("BATCH frame with BEGIN", "no open batch", "one")
            elif not batch_open:
                return _Refusal("BATCH frame without BEGIN", "an open batch", "none")
        else:
            if not (CHECKPOINT <= frame.type <= SEAL or frame.type >= SKIPPED_TYPE_MIN):
                return _Refusal("frame type", "1 to 4 or 128 to 255", str(frame.type))
            if frame.flags:
                return _Refusal(f"flags of a {type_name(frame.type)} frame", "0", f"0x{frame.flags:02x}")
            if frame.record_count:
                return _Refusal(f"record_count of a {type_name(frame.type)} frame", "0",
                                str(frame.record_count))
            if frame.type == SEAL and frame.payload_len:
                return _Refusal("payload of a SEAL frame", "none", f"{frame.payload_len} bytes")
            if batch_open:
                return _Refusal(f"{type_name(frame.type)} frame", "no open batch", "one")
        if frame.first_seq != expected_seq:
            return _Refusal("frame first_seq", str(expected_seq), str(frame.first_seq))
        if frame.first_seq + _seqs_taken(frame) > U64_MAX:
            return _Refusal("sequence number after the frame", f"at most {U64_MAX}",
                            str(frame.first_seq + _seqs_taken(frame)))
        if frame.durable_lsn > frame.lsn:
            return _Refusal("frame durable_lsn", f"at most {frame.lsn}", str(frame.durable_lsn))
        if frame.type != BATCH:
            return None
        if frame.flags == ABORT:
            if frame.record_count or frame.payload_len:
                return _Refusal("ABORT frame", "no records and no payload",
                                f"{frame.record_count} and {frame.payload_len} bytes")
            return None
        if frame.record_count == 0:
            return _Refusal("records of a BATCH frame", "at least 1", "0")
        if frame.flags & SOLO and frame.record_count != 1:
            return _Refusal("records of a SOLO frame", "1", str(frame.record_count))
        return _records_problem(frame.payload, frame.record_count)

    def _evidence(self, file: _File, header: SegmentHeader, offset: int, promise: int) -> int:
        """E, section 12.3, at X in the last segment without a SEAL before it."""
        return max(self._log.outside_evidence(), header.durable_lsn, header.base_lsn, promise,
                   _find_live(file, header, offset).durable_lsn)

    def _judge_tail(self, file: _File, header: SegmentHeader, offset: int, batch_open: bool, sealed: bool,
                    promise: int, why: _Refusal) -> _End:
        """Rows E, Z and T: the last segment goes no further than X."""
        log = self._log
        lsn = header.lsn_at(offset)
        if log.acknowledged_lsn is not None:  # beside a live writer: no judgement of the end
            if lsn >= log.acknowledged_lsn:
                return _End("", header.segment_number, offset, lsn, why)
            return _End("E", header.segment_number, offset, lsn, why._replace(
                reason=f"{why.reason}, below acknowledged_lsn {log.acknowledged_lsn}"))
        evidence = max(log.outside_evidence(), header.durable_lsn, header.base_lsn, promise)
        facts = Facts(batch_open=batch_open, sealed=sealed)
        if not sealed:  # nothing behind a SEAL is looked at
            live = _find_live(file, header, offset)
            evidence = max(evidence, live.durable_lsn)
            facts = facts._replace(blank=_is_blank(file, header, offset), live_beyond=live.found)
        row = decide(facts._replace(below_evidence=lsn < evidence))
        if row == "E":
            why = why._replace(reason=f"{why.reason}, below the evidence {evidence}")
        elif row == "Z":
            why = _Refusal("sealed" if sealed else "clean end", "", "")
        else:
            after = ("a batch is open" if batch_open else
                     "live frames follow" if facts.blank else "not a clean end")
            why = why._replace(reason=f"{after}, {why.reason}")
        return _End(row, header.segment_number, offset, lsn, why, evidence=evidence)

    def read_again(self, first: int, link: int, end: int) -> Iterator[Frame]:
        """The frames from offset `first` to offset `end` of the current segment, once more."""
        assert self._file is not None and self._header is not None
        offset = first
        while offset < end:
            frame = _accept(self._file, self._header, offset, link)
            if isinstance(frame, _Refusal):
                raise FormatError(
                    f"{segment_name(self._header.segment_number)} offset {offset} changed while it "
                    f"was read: {frame.reason}: expected {frame.expected}, found {frame.found}")
            yield frame
            offset += frame.size
            link = frame.header_crc


# =============================================================================================
# The reader
# =============================================================================================


class LogReader:
    """A log that was found (12.1) and whose headers were judged (12.2). Made by open_log.

    It holds no open file between calls, so there is nothing to close. Each iteration walks the log
    anew. `control`, `control_state`, `first_segment`, `last_segment` and `truncated_seq` are what
    sections 9 and 12.1 make of the directory; `run` has the headers of the segments that are there
    without a gap from first_segment on, or why one can't be used; `missing` is the first number
    that should be there and is not.
    """

    def __init__(self, path: str, live: bool) -> None:
        self.path = path
        self.acknowledged_lsn: Optional[int] = None  # live: where to stop; else None
        self.control, self.control_state = _read_control(path)
        tail_data = _read_tail_file(path)
        # The names come after the tail page, so that what it acknowledges is among them.
        numbers = sorted(number for number in map(parse_segment_name, os.listdir(path))
                         if number is not None)
        if not numbers and self.control is None:
            raise NotALog(f"{path}: no segment and no valid control slot")

        # Section 12.1: the numbers that must be there, and those that are, up to the first gap.
        self.first_segment = numbers[0] if self.control is None else self.control.first_segment
        self.last_segment = max(numbers[-1:] + ([] if self.control is None else [self.control.last_segment]))
        present = [number for number in numbers if number >= self.first_segment]
        unbroken = 0
        while unbroken < len(present) and present[unbroken] == self.first_segment + unbroken:
            unbroken += 1
        self.missing: Optional[int] = None
        if unbroken < len(present) or self.first_segment + unbroken <= self.last_segment:
            self.missing = self.first_segment + unbroken
        if self.control is not None and self.control.last_segment < self.first_segment:
            self.missing, unbroken = self.control.last_segment, 0  # it can't be among them

        # Sections 4 and 12.2: in order, up to the first that can't be used.
        self.log_id: Optional[bytes] = self.control.log_id if self.control is not None else None
        self.run: List[_HeaderOrWhy] = []
        before: Optional[SegmentHeader] = None
        for number in present[:unbroken]:
            header = _read_header(path, number)
            if isinstance(header, _Refusal) and header.not_ours and self.control is None and len(present) == 1:
                raise NotALog(f"{path}: {segment_name(number)}: {header.reason}: "
                              f"expected {header.expected}, found {header.found}")
            if isinstance(header, SegmentHeader):
                if self.log_id is None:
                    self.log_id = header.log_id
                header = _judge_among_neighbours(header, self.log_id, before) or header
            self.run.append(header)
            if not isinstance(header, SegmentHeader):
                break
            before = header

        if self.control is not None:
            self.truncated_seq = self.control.truncated_seq
        else:
            first = self.run[0]
            self.truncated_seq = first.first_seq - 1 if isinstance(first, SegmentHeader) else 0

        self._tail = (None if self.log_id is None
                      else _decode_tail(tail_data, self.log_id, _boot_id()))
        if live:
            if self._tail is None:
                raise FormatError(f"{os.path.join(path, TAIL_NAME)}: expected the tail page of this "
                                  f"log and of this boot, found none: no writer is live")
            self.acknowledged_lsn = self._tail.acknowledged_lsn

    # --- Evidence, section 12.3 ---

    def outside_evidence(self) -> int:
        """The part of E that does not stand in a segment: control and tail page."""
        return max(self.control.durable_lsn if self.control is not None else 0,
                   self._tail.durable_lsn if self._tail is not None else 0)

    # --- Reading ---

    def frames(self) -> Iterator[Frame]:
        """Every accepted, well-formed frame up to X, of committed batches or not; then raises like records()."""
        walk = _Walk(self)
        yield from walk.frames()
        self._raise_end(walk)

    def records(self, after_seq: int = 0) -> Iterator[Record]:
        """The committed records with a greater sequence number than `after_seq`, in order (12.6).

        Where the log is damaged, all records of batches committed before the damage come first;
        then Corrupt is raised (OSError, if the read itself failed).
        """
        walk = _Walk(self)
        floor = max(after_seq, self.truncated_seq)
        for batch_id, batch in self._batches(walk):
            for frame in batch:
                if frame.first_seq + frame.record_count - 1 <= floor:
                    continue
                for seq, (op, key, value) in enumerate(_payload_records(frame), frame.first_seq):
                    if seq > floor:
                        yield Record(seq, op, key, value, frame.time_ns, frame.lsn, batch_id)
        self._raise_end(walk)

    def verdict(self) -> Verdict:
        """Walk the whole log and judge it (section 13)."""
        walk = _Walk(self)
        for _ in walk.frames():
            pass
        return self._verdict_of(walk)

    @staticmethod
    def _batches(walk: _Walk) -> Iterator[Tuple[int, Iterable[Frame]]]:
        """The batch id and the frames of each committed batch (section 7)."""
        held: Optional[List[Frame]] = None
        held_bytes = 0
        batch_id = first_offset = first_link = 0
        for frame in walk.frames():
            if frame.type != BATCH or frame.flags == ABORT:
                held, held_bytes = None, 0
                continue
            if frame.flags & BEGIN:
                held, held_bytes = [], 0
                batch_id, first_offset, first_link = frame.lsn, frame.offset, frame.link
            held_bytes += frame.payload_len
            if held is not None:
                held.append(frame)
                if held_bytes > BATCH_HELD_MAX and len(held) > 1:
                    held = None  # too much to hold: read it again when its COMMIT is there
            if frame.flags & COMMIT:
                if held is not None:
                    yield batch_id, held
                else:
                    yield batch_id, walk.read_again(first_offset, first_link,
                                                    frame.offset + frame.size)
                held, held_bytes = None, 0

    @staticmethod
    def _raise_end(walk: _Walk) -> None:
        end = walk.end
        assert end is not None
        if end.error is not None:
            raise end.error
        if VERDICT_OF_ROW.get(end.row) == "CORRUPT":
            raise Corrupt(end.row, end.segment, end.offset, end.lsn, end.why.reason,
                          end.why.expected, end.why.found)

    def _verdict_of(self, walk: _Walk) -> Verdict:
        end = walk.end
        assert end is not None
        if self.acknowledged_lsn is not None:
            raise FormatError("a log beside a live writer has no verdict (section 12)")
        reason = end.why.reason
        if end.why.expected:
            reason += f": expected {end.why.expected}, found {end.why.found}"
        return Verdict(
            verdict=VERDICT_OF_ROW[end.row], row=end.row, segment=end.segment, offset=end.offset,
            lsn=end.lsn, end_lsn=walk.closed_lsn, next_seq=walk.closed_seq,
            evidence_lsn=end.evidence if end.evidence is not None else self.outside_evidence(),
            control=self.control_state, first_segment=self.first_segment,
            last_segment=self.last_segment, truncated_seq=self.truncated_seq, reason=reason)


def open_log(path: Union[str, "os.PathLike[str]"], live: bool = False) -> LogReader:
    """Find the log in the directory `path`.

    Raises NotALog, NewerFormat, or OSError; what is damaged shows when it is read. With `live`, a
    writer has the log open now: reading stops, without verdict, at the acknowledged_lsn that the
    tail page had when the log was opened here, and open_log raises FormatError without such a page.
    """
    path = os.fspath(path)
    try:
        if not live:
            return LogReader(path, False)
        # A writer may truncate between our reading control and our opening the segments. Two equal
        # readings of control around them show that it did not.
        for _ in range(LIVE_OPEN_ATTEMPTS):
            log = LogReader(path, True)
            control, _ = _read_control(path)
            if (control is None or log.control is None
                    or control.first_segment == log.control.first_segment):
                break
        return log
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotALog(f"{path}: expected a directory, found {error.strerror}") from error


def _events_module() -> ModuleType:
    """format_events.py beside this file, on top of this very module, whatever name that goes by."""
    prefix = f"{__package__}." if __package__ else ""
    name = f"{prefix}format_events"
    if name not in sys.modules:
        sys.modules.setdefault(f"{prefix}format", sys.modules[__name__])
        spec = importlib.util.spec_from_file_location(
            name, os.path.join(os.path.dirname(os.path.abspath(__file__)), "format_events.py"))
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def open_events(path: Union[str, "os.PathLike[str]"], live: bool = False) -> Any:
    """Find the event store in the directory `path`: the EventReader of format_events.py (section 20)."""
    return _events_module().open_events(path, live)


def describe(path: Union[str, "os.PathLike[str]"]) -> Dict[str, Any]:
    """The verdict on the log at `path` and what replay delivers, as values that JSON can hold.

    All fields of Verdict but `reason`; `record_count`; and `digest`, 8 hex digits: the CRC-32 over
    all delivered records, each as the little-endian u64 seq, u8 op, u32 key_len, u32 value_len, the
    key and the value. Of a damaged log both cover what comes before the damage. What is no log at
    all gives {"verdict": "NOT_A_LOG"}, a newer one {"verdict": "NEWER"}.
    """
    try:
        return _describe_open(open_log(path))[0]
    except NotALog:
        return {"verdict": "NOT_A_LOG"}
    except NewerFormat:
        return {"verdict": "NEWER"}
    except (OSError, FormatError):  # control or tail unreadable, or files changed while being read
        result = {field.name: 0 for field in fields(Verdict) if field.name != "reason"}
        return {**result, "verdict": "IO_ERROR", "row": "R", "control": "lost",
                "record_count": 0, "digest": "00000000"}


def _describe_open(log: LogReader) -> Tuple[Dict[str, Any], str]:
    """The dict of describe(), and the reason, from one walk."""
    walk = _Walk(log)
    record_count, digest = 0, 0
    floor = log.truncated_seq
    pack = DIGEST_RECORD.pack
    for _, batch in log._batches(walk):
        for frame in batch:
            for seq, (op, key, value) in enumerate(_payload_records(frame), frame.first_seq):
                if seq > floor:
                    record_count += 1
                    digest = crc32(pack(seq, op, len(key), len(value)), digest)
                    digest = crc32(value, crc32(key, digest))
    verdict = log._verdict_of(walk)
    result = {field.name: getattr(verdict, field.name) for field in fields(Verdict)
              if field.name != "reason"}
    result["record_count"] = record_count
    result["digest"] = f"{digest:08x}"
    return result, verdict.reason


# =============================================================================================
# Command line
# =============================================================================================


def _print_report(path: str, out: Callable[[str], None]) -> int:
    log = open_log(path)
    result, reason = _describe_open(log)
    out(f"log        {path}")
    if log.log_id is not None:
        out(f"log_id     {log.log_id.hex()}")
    out(f"control    {log.control_state}" + (
        "" if log.control is None else
        f", generation {log.control.generation}, "
        f"{'CLOSED' if log.control.state == CONTROL_CLOSED else 'OPEN'}"))
    for index, header in enumerate(log.run):
        name = segment_name(log.first_segment + index)
        if isinstance(header, SegmentHeader):
            out(f"segment    {name}  base LSN {header.base_lsn}, first seq {header.first_seq}"
                + (", RESCUE" if header.rescue else ""))
        else:
            out(f"segment    {name}  can't be used: "
                f"{header if isinstance(header, OSError) else header.reason}")
    if log.missing is not None:
        out(f"segment    {segment_name(log.missing)}  missing")
    out(f"verdict    {result['verdict']} (row {result['row']}): {reason}")
    out(f"place      {segment_name(result['segment'])} offset {result['offset']}, LSN {result['lsn']}")
    out(f"end        LSN {result['end_lsn']}, next seq {result['next_seq']}, "
        f"evidence {result['evidence_lsn']}")
    out(f"truncated  up to seq {result['truncated_seq']}")
    out(f"records    {result['record_count']}, digest {result['digest']}")
    return 0 if result["verdict"] in ("CLEAN_END", "TORN") else 1


def _shortened(data: bytes, length_max: int = 60) -> str:
    return repr(data) if len(data) <= length_max else f"{data[:length_max]!r}... ({len(data)} bytes)"


def _print_records(path: str, out: Callable[[str], None]) -> int:
    for record in open_log(path).records():
        out(f"{record.seq}\tLSN {record.lsn}\tbatch {record.batch_id}\top {record.op}\t"
            f"{_shortened(record.key)}\t{_shortened(record.value)}")
    return 0


def _compare(lines: Iterable[str], out: Callable[[str], None]) -> int:
    """Describe the log of each JSON line and name every field that is not as the line says."""
    compared = differ = 0
    for line_number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        compared += 1
        problems = []
        try:
            expected = json.loads(line)
            path = expected.pop("path")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            path, problems = f"line {line_number}", [f"not a JSON object with a path: {error!r}"]
        else:
            found = describe(path)
            problems = [f"{name}: expected {value!r}, found {found.get(name)!r}"
                        for name, value in expected.items()
                        if name not in found or found[name] != value]
        if problems:
            differ += 1
            for problem in problems:
                out(f"{path}: {problem}")
    out(f"{compared} compared, {differ} differ")
    return 1 if differ else 0


def main(arguments: Optional[List[str]] = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["events"] and len(arguments) > 1:
        status: int = _events_module().main(arguments[1:])
        return status
    parser = argparse.ArgumentParser(
        prog="python3 -m duralog.format",
        description="Read a Duralog log without the library, and say what is in it. "
                    "`events DIR` lists the events of an event store (`events --help`).")
    parser.add_argument("logdir", nargs="?", help="the directory of the log")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="print the verdict as one line of JSON")
    what.add_argument("--records", action="store_true", help="list the committed records")
    what.add_argument("--compare", metavar="FILE",
                      help="JSON lines with a path and expected fields; - is the standard input")
    options = parser.parse_args(arguments)
    if (options.logdir is None) == (options.compare is None):
        parser.error("give either LOGDIR or --compare FILE")

    if options.compare == "-":
        return _compare(sys.stdin, print)
    if options.compare is not None:
        with open(options.compare, "r", encoding="utf-8") as lines:
            return _compare(lines, print)
    if options.json:
        print(json.dumps(describe(options.logdir)))
        return 0
    try:
        if options.records:
            return _print_records(options.logdir, print)
        return _print_report(options.logdir, print)
    except (FormatError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
