"""Prints all that a reader finds in a log, in the form that tests/c/dump_log.c describes.

Usage: dump_log.py LOG native|format|live

`native` reads through the library, `format` with duralog.format, which shares nothing with it,
`live` does too, beside a writer that has the log open; then there is no verdict.
"""

import struct
import sys

out = sys.stdout.buffer


def put_bytes(data):
    out.write(struct.pack("<Q", len(data)))
    out.write(data)


def put_record(record):
    out.write(b"R" + struct.pack("<QQB", record.seq, record.batch_id, record.op))
    put_bytes(record.key)
    put_bytes(record.value)


def put_error(error):
    out.write(b"X")
    put_bytes(f"{type(error).__name__}: {error}".encode())


def dump_native(path):
    from duralog import DuralogError, NotFound, Wal

    try:
        wal = Wal(path, read_only=True)
    except NotFound:
        out.write(b"N")
        return
    with wal:
        try:
            for record in wal.iterate(0):
                put_record(record)
            checkpoint = wal.last_checkpoint()
            if checkpoint is not None:
                out.write(b"C" + struct.pack("<Q", checkpoint.seq))
                put_bytes(checkpoint.data)
            report = wal.recovery_report()
            out.write(b"V")
            put_bytes(report.row.encode())
            out.write(struct.pack("<QQ", report.end_lsn, report.next_seq))
        except DuralogError as error:
            put_error(error)


def dump_format(path, live=False):
    from duralog import format

    try:
        log = format.open_log(path, live)
    except format.NotALog:
        out.write(b"N")
        return
    try:
        for record in log.records():
            put_record(record)
        checkpoints = [frame for frame in log.frames()
                       if frame.type == format.CHECKPOINT and frame.first_seq > log.truncated_seq]
        if checkpoints:
            out.write(b"C" + struct.pack("<Q", checkpoints[-1].first_seq))
            put_bytes(checkpoints[-1].payload)
        if live:
            return
        verdict = log.verdict()
        out.write(b"V")
        put_bytes(verdict.row.encode())
        out.write(struct.pack("<QQ", verdict.end_lsn, verdict.next_seq))
    except format.FormatError as error:
        put_error(error)


def dump_live(path):
    dump_format(path, live=True)


{"native": dump_native, "format": dump_format, "live": dump_live}[sys.argv[2]](sys.argv[1])
out.write(b".")
out.flush()
