"""Builds Duralog logs for tests, byte by byte from FORMAT.md, including logs no writer would write.

This is the encoder that stands against the decoder in `duralog/format.py`: it imports nothing from
it, so that a misreading of FORMAT.md has to be made twice, independently, to go unnoticed.

A `Segment` keeps a running state (link, LSN, sequence number, open batch) and encodes each frame as
a correct writer would. Every field of every structure can be overridden by name; checksums are
computed after the overrides, unless they are overridden too. So `segment.mark(type=0)` gives a
frame that is intact and wrong, and `segment.mark(payload_crc=1)` gives a damaged one.

    log = Log()
    one = log.segment()
    one.batch([put(b"k", b"v")])
    one.seal()
    log.segment().solo(put(b"k2", b"v2"))
    log.write(path)
"""

import os
import struct
import zlib

MAGIC = bytes([0x8F, 0x44, 0x55, 0x52, 0x0D, 0x0A, 0x1A, 0x0A])  # section 4
CONTROL_MAGIC = bytes([0x8F, 0x44, 0x55, 0x52, 0x43, 0x54, 0x4C, 0x0A])  # section 9
TAIL_MAGIC = bytes([0x8F, 0x44, 0x55, 0x52, 0x54, 0x4C, 0x50, 0x0A])  # section 10

LOG_ID = bytes(range(16))
APPLICATION_ID = 0x41424344
TIME_NS = 1_700_000_000_000_000_000
ZEROS = bytes(64)  # section 14.3: what follows a group

BEGIN, COMMIT, SOLO, ABORT = 1, 2, 4, 8


class Fields:
    """A structure of named little-endian integers and byte strings, encoded field by field."""

    def __init__(self, *layout):
        self.layout = layout

    def encode(self, values):
        values = dict(values)
        out = bytearray()
        for name, size in self.layout:
            value = values.pop(name, 0)
            out += value if isinstance(value, bytes) else (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        assert not values, f"unknown fields {sorted(values)}"
        return bytes(out)


HEADER = Fields(
    ("magic", 8), ("format_major", 2), ("format_minor", 2), ("header_size", 4), ("incompatible", 4),
    ("read_only_compatible", 4), ("compatible", 4), ("flags", 2), ("alignment", 2), ("log_id", 16),
    ("segment_number", 8), ("base_lsn", 8), ("first_seq", 8), ("prev_end_lsn", 8), ("prev_link", 4),
    ("salt", 4), ("durable_lsn", 8), ("checkpoint_lsn", 8), ("allocated_size", 8), ("created_ns", 8),
    ("application_id", 4))

FRAME = Fields(
    ("payload_crc", 4), ("payload_len", 4), ("type", 1), ("flags", 1), ("reserved_14", 2), ("link", 4),
    ("salt", 4), ("lsn", 8), ("first_seq", 8), ("record_count", 4), ("reserved_44", 4),
    ("durable_lsn", 8), ("time_ns", 8))

CONTROL = Fields(
    ("magic", 8), ("format_major", 2), ("format_minor", 2), ("state", 4), ("log_id", 16),
    ("generation", 8), ("first_segment", 8), ("last_segment", 8), ("truncated_seq", 8),
    ("durable_lsn", 8), ("checkpoint_lsn", 8), ("end_lsn", 8), ("next_seq", 8), ("last_frame_lsn", 8),
    ("end_link", 4), ("reserved_108", 4), ("time_ns", 8), ("reserved_120", 4))


def crc(data):
    """CRC-32 IEEE, by the definition of section 1 in zlib."""
    return zlib.crc32(data)


def put(key, value=b"", op=1):
    return (op, key, value)


def record(op, key, value, key_len=None, value_len=None):
    """Section 6."""
    return struct.pack("<BBHII", op, 0, 0, len(key) if key_len is None else key_len,
                       len(value) if value_len is None else value_len) + key + value


def frame_bytes(payload, values, header_crc=None):
    """Section 5: header, payload, padding."""
    rest = FRAME.encode(values)
    assert len(rest) == 60
    checksum = crc(rest) if header_crc is None else header_crc
    return struct.pack("<I", checksum) + rest + payload + bytes(-len(payload) % 8)


class Segment:
    """One segment, growing frame by frame. `expected` collects (seq, op, key, value) of committed records."""

    def __init__(self, number, base_lsn, first_seq, prev_end_lsn, prev_link, header_size=4096, **overrides):
        self.number = number
        values = dict(
            magic=MAGIC, format_major=1, format_minor=0, header_size=header_size, alignment=8,
            log_id=LOG_ID, segment_number=number, base_lsn=base_lsn, first_seq=first_seq,
            prev_end_lsn=prev_end_lsn, prev_link=prev_link, salt=0xA5000000 + number,
            durable_lsn=base_lsn, created_ns=TIME_NS, application_id=APPLICATION_ID)
        header_crc = overrides.pop("crc", None)
        values.update(overrides)
        head = HEADER.encode(values)
        assert len(head) == 124
        self.header_crc = crc(head) if header_crc is None else header_crc
        self.header_size = header_size
        self.base_lsn = values["base_lsn"]
        self.salt = values["salt"]
        self.data = bytearray((head + struct.pack("<I", self.header_crc)).ljust(header_size, b"\0"))
        self.link = self.header_crc
        self.seq = values["first_seq"]
        self.durable_lsn = values["durable_lsn"] if values["durable_lsn"] <= self.base_lsn else 0
        self.batch_seq = None
        self.pending = []
        self.expected = []
        self.frames = []  # (offset, bytes)
        self.tail = ZEROS

    @property
    def lsn(self):
        """The LSN at which the next frame goes."""
        return self.base_lsn + len(self.data) - self.header_size

    def frame(self, payload=b"", header_crc=None, **overrides):
        """Any frame; what is not overridden is as a correct writer has it. Gives its offset."""
        values = dict(payload_crc=crc(payload), payload_len=len(payload), link=self.link, salt=self.salt,
                      lsn=self.lsn, first_seq=self.seq, durable_lsn=min(self.durable_lsn, self.lsn),
                      time_ns=TIME_NS + self.seq)
        values.update(overrides)
        raw = frame_bytes(payload, values, header_crc)
        offset = len(self.data)
        self.data += raw
        self.link = struct.unpack_from("<I", raw)[0]
        self.frames.append((offset, raw))
        return offset

    def sync(self):
        """What was written so far becomes a promise in the next frames."""
        self.durable_lsn = self.lsn

    def part(self, records, flags=0, **overrides):
        """One BATCH frame, with the flags given."""
        payload = b"".join(record(*r) for r in records)
        if flags & BEGIN:
            self.batch_seq, self.pending = self.seq, []
        offset = self.frame(payload, **{**dict(type=1, flags=flags, record_count=len(records)), **overrides})
        for one in records:
            self.pending.append((self.seq, *one))
            self.seq += 1
        if flags & COMMIT:
            self.expected += self.pending
            self.pending, self.batch_seq = [], None
            if not flags & SOLO:
                self.seq += 1
        return offset

    def batch(self, *parts, **overrides):
        """A committed batch: each argument is the list of records of one frame."""
        for index, records in enumerate(parts):
            self.part(records, (BEGIN if index == 0 else 0) | (COMMIT if index == len(parts) - 1 else 0),
                      **overrides)

    def solo(self, one, **overrides):
        return self.part([one], BEGIN | COMMIT | SOLO, **overrides)

    def abort(self, **overrides):
        if self.batch_seq is not None:
            self.seq = self.batch_seq
        self.pending, self.batch_seq = [], None
        return self.frame(**{**dict(type=1, flags=ABORT), **overrides})

    def checkpoint(self, data=b"", **overrides):
        offset = self.frame(data, **{**dict(type=2), **overrides})
        self.seq += 1
        return offset

    def mark(self, payload=b"", **overrides):
        return self.frame(payload, **{**dict(type=3), **overrides})

    def seal(self, **overrides):
        return self.frame(**{**dict(type=4), **overrides})

    def copy_frames(self, other, start):
        """Section 14.6: the frames of `other` from offset `start`, with salt, link and header_crc new."""
        for offset, raw in other.frames:
            if offset >= start:
                rest = bytearray(raw[4:64])
                struct.pack_into("<II", rest, 12, self.link, self.salt)
                self.link = crc(bytes(rest))
                copied = struct.pack("<I", self.link) + bytes(rest) + raw[64:]
                self.frames.append((len(self.data), copied))
                self.data += copied

    def bytes(self):
        return bytes(self.data) + self.tail


class Log:
    """Segments, two control slots and perhaps a tail page."""

    def __init__(self, header_size=4096):
        self.header_size = header_size
        self.segments = []
        self.names = {}  # number -> bytes, symlink target (str) or None, instead of the segment
        self.slots = None  # list of two bytes objects; None: a good control is made by write()
        self.control_values = {}
        self.tail = None

    def segment(self, gap=0, prev_end_lsn=None, **overrides):
        """The next segment; it continues the one before as it stands now, or at `prev_end_lsn`."""
        if not self.segments:
            values = dict(number=1, base_lsn=4096, first_seq=1, prev_link=0,
                          prev_end_lsn=4096 if prev_end_lsn is None else prev_end_lsn)
        else:
            last = self.segments[-1]
            values = dict(number=last.number + 1, base_lsn=last.lsn + gap, first_seq=last.seq,
                          prev_end_lsn=last.lsn, prev_link=last.link)
            if prev_end_lsn is not None:
                values.update(prev_end_lsn=prev_end_lsn, base_lsn=prev_end_lsn + gap)
        values.update(header_size=self.header_size)
        values.update(overrides)
        made = Segment(**values)
        self.segments.append(made)
        return made

    @property
    def last(self):
        return self.segments[-1]

    @property
    def expected(self):
        return [one for segment in self.segments for one in segment.expected]

    def control_slot(self, generation=1, **overrides):
        """Section 9: one slot of 4096 bytes."""
        values = dict(magic=CONTROL_MAGIC, format_major=1, state=0, log_id=LOG_ID, generation=generation,
                      first_segment=self.segments[0].number if self.segments else 1,
                      last_segment=self.segments[-1].number if self.segments else 1,
                      durable_lsn=self.segments[0].base_lsn if self.segments else 4096, time_ns=TIME_NS)
        values.update(self.control_values)
        checksum = overrides.pop("crc", None)
        values.update(overrides)
        head = CONTROL.encode(values)
        assert len(head) == 124
        return (head + struct.pack("<I", crc(head) if checksum is None else checksum)).ljust(4096, b"\0")

    def control(self, **values):
        """Fields of both slots of the control file that write() makes."""
        self.control_values.update(values)

    def no_control(self):
        self.slots = []

    def write(self, path):
        os.makedirs(path, exist_ok=True)
        contents = {segment.number: segment.bytes() for segment in self.segments}
        contents.update(self.names)
        for number, data in contents.items():
            name = os.path.join(path, f"{number:020d}.wal")
            if isinstance(data, str):
                os.symlink(data, name)
            elif data is not None:
                with open(name, "wb") as file:
                    file.write(data)
        slots = self.slots
        if slots is None:
            slots = [self.control_slot(1), self.control_slot(2)]
        if slots:
            with open(os.path.join(path, "control"), "wb") as file:
                file.write(b"".join(slots))
        if self.tail is not None:
            with open(os.path.join(path, "tail"), "wb") as file:
                file.write(self.tail)
        return path


def boot_id():
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return bytes.fromhex(file.read().strip().replace("-", ""))


def tail_page(durable=(), acknowledged_lsn=0, log_id=LOG_ID, boot=None, magic=TAIL_MAGIC, check_xor=0,
              segment_number=1):
    """Section 10. `durable` holds the durable_lsn of evidence slot 0 and perhaps of slot 1."""
    boot = boot_id() if boot is None else boot
    page = bytearray(4096)
    page[0:8], page[8:24], page[24:40] = magic, log_id, boot
    struct.pack_into("<QIIQ", page, 40, acknowledged_lsn, 7, 4242, segment_number)
    for offset, durable_lsn in zip((64, 128), durable):
        lsn_bytes = struct.pack("<Q", durable_lsn)
        page[offset:offset + 16] = lsn_bytes + struct.pack("<Q", crc(log_id + boot + lsn_bytes) ^ check_xor)
    return bytes(page)


def digest(records):
    """The digest of duralog.format.describe, from (seq, op, key, value)."""
    data = b"".join(struct.pack("<QBII", seq, op, len(key), len(value)) + key + value
                    for seq, op, key, value in records)
    return f"{crc(data):08x}"
