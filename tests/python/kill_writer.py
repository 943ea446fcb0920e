"""A writer that tests/kill.rs kills; does and says what tests/c/kill_writer.c does and says.

Usage: kill_writer.py LOG SEED MODE STOP_AFTER
"""

import os
import struct
import sys

from duralog import DuralogError, Wal

U64 = (1 << 64) - 1
POOL_LEN = 65536
VALUE_LEN_MAX = 32768


def report(text):
    os.write(1, f"@{text}\n".encode())


def mix(value):
    z = (value + 0x9E3779B97F4A7C15) & U64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & U64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & U64
    return z ^ (z >> 31)


class Contents:
    """What each batch of the log with this seed holds."""

    def __init__(self, seed):
        self.seed = seed
        words = (mix((seed + word) & U64) for word in range(POOL_LEN // 8))
        self.pool = struct.pack(f"<{POOL_LEN // 8}Q", *words)

    def number(self, batch, index):
        return mix((mix(self.seed ^ mix(batch)) + index) & U64)

    def shape(self, batch):
        """Record count, bounds of the values' lengths, and whether it is a single append."""
        drawn = self.number(batch, 0)
        kind, size = drawn % 100, drawn >> 32
        if kind < 40:
            return 1, 0, 300, kind < 35
        if kind < 75:
            return 2 + size % 19, 0, 300, False
        if kind < 90:
            return 1 + size % 8, 0, 8192, False
        if kind < 98:
            return 5 + size % 8, 16384, VALUE_LEN_MAX, False
        return 200 + size % 61, 16384, VALUE_LEN_MAX, False

    def records(self, batch):
        count, len_min, len_max, _ = self.shape(batch)
        for index in range(count):
            drawn = self.number(batch, index + 1)
            length = len_min + drawn % (len_max - len_min + 1)
            begin = (drawn >> 32) % (POOL_LEN - length + 1)
            yield f"{batch}/{index}/{count}".encode(), self.pool[begin:begin + length]


def write(path, seed, mode, stop_after):
    contents = Contents(seed)
    report("S")
    with Wal(path, segment_bytes_max=65536, sync=mode.replace("mapped-", ""),
             sync_interval_batches=20, sync_interval_ms=5, mapped_appends=mode.startswith("mapped-")) as wal:
        last, seqs = 0, {}
        for record in wal.iterate(0):
            last = int(record.key.split(b"/")[0])
            seqs[last] = record.seq + (0 if contents.shape(last)[3] else 1)
        report(f"O {last}")

        def truncate(batch):
            if batch in seqs:
                report(f"T {batch}")
                wal.truncate(seqs[batch])
                report(f"t {batch}")

        done = 0
        while stop_after == 0 or done < stop_after:
            done += 1
            last += 1
            records = list(contents.records(last))
            if contents.shape(last)[3]:
                key, value = records[0]
                seq = wal.append(value, key)
            else:
                seq = wal.append_batch(records)
            report(f"A {last} {seq}")
            seqs[last] = seq
            action = contents.number(last, 1 << 32) % 24
            if action == 0:
                wal.sync()
            elif action == 1:
                seq = wal.checkpoint(str(last).encode())
                report(f"C {last} {seq}")
            elif action == 2:
                truncate(last - 6)
            elif action == 3:
                truncate(last - 1)
    report("X")


def main():
    path, seed, mode, stop_after = sys.argv[1:]
    try:
        write(path, int(seed), mode, int(stop_after))
    except DuralogError as error:
        report(f"E {error}")
        raise


main()
