"""Appends the events of an NDJSON file, one batch for each of its streams; tests/receipt.rs.

Usage: receipt_writer.py LOG FILE
"""

import json
import sys

from duralog import Wal

streams = {}
with open(sys.argv[2], "rb") as lines:
    for line in lines:
        line = line.rstrip(b"\n")
        event = json.loads(line)
        key = str(event["event_id"]).encode()
        streams.setdefault(event["stream_id"], []).append((key, line))

last = 0
with Wal(sys.argv[1]) as wal:
    for records in streams.values():
        seq = wal.append_batch(records)
        if seq != last + len(records) + 1:
            sys.exit(f"the batch ends with number {seq}, the one before with {last}")
        last = seq

print(f"{sum(map(len, streams.values()))} events in {len(streams)} batches")
