"""Appends the batches of powercut_workload.h, as powercut_writer.c does, through the Python package.

    powercut_writer.py LOG COUNT
"""

import os
import sys

from duralog import Wal

KEPT = 7
SEGMENT_BYTES = 65536


def record_count(batch):
    return 1 + batch * 7 % 4


def record(batch, index):
    length = 9000 - index if batch % 6 == 0 else batch * batch * 37 % 1500 + index * 113
    value = bytes(batch * 31 + index * 17 + k * 7 + k // 256 & 255 for k in range(length))
    return b"%d/%d" % (batch, index), value


def tell(what, batch):
    # In one write: the power may go at any moment between two, since the library syncs in another thread too.
    os.write(1, f"{what} {batch}\n".encode())


def main():
    path, count = sys.argv[1], int(sys.argv[2])
    last_seq = {}
    wal = Wal(path, segment_bytes_max=SEGMENT_BYTES)
    for batch in range(1, count + 1):
        records = [record(batch, index) for index in range(record_count(batch))]
        if len(records) == 1:
            key, value = records[0]
            last_seq[batch] = wal.append(value, key)
        else:
            last_seq[batch] = wal.append_batch(records)
        tell("ack", batch)
        if batch % 10 == 0:
            wal.checkpoint(b"%d" % batch)
            tell("checkpoint", batch)
        if batch % 20 == 0:
            tell("truncating", batch - KEPT)
            wal.truncate(last_seq[batch - KEPT])
            tell("truncated", batch - KEPT)
        if batch % 35 == 0:
            wal.close()
            wal = Wal(path, segment_bytes_max=SEGMENT_BYTES)
    wal.close()


main()
