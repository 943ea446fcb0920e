"""Appends the batches of powercut_events.h, as powercut_events.c does, through the Python package.

    powercut_events.py STORE COUNT
"""

import os
import struct
import sys

from duralog import EventStore, NewEvent, Query, QueryItem

STREAMS, TAGS, BULK = 5, 4, 2100
SEGMENT_BYTES = 65536


def event_count(batch):
    return BULK if batch % 30 == 0 else 1 + batch * 7 % 4


def event(batch, index):
    length = batch * batch * 37 % 1500 + index * 113
    if event_count(batch) == BULK:
        length = 8
    elif batch % 6 == 0:
        length = 9000 - index
    data = bytes(batch * 31 + index * 17 + k * 7 + k // 256 & 255 for k in range(length))
    return NewEvent(f"s-{(batch + index) % STREAMS}", f"T{batch % 3}", data, tags=(f"t-{batch % TAGS}",))


def tell(what, number):
    # In one write: the power may go at any moment between two, since the library syncs in another thread too.
    os.write(1, f"{what} {number}\n".encode())


def append(store, batch):
    events = [event(batch, index) for index in range(event_count(batch))]
    choices = {}
    if batch % 2 == 1:
        info = store.stream_info(events[0].stream)
        choices["expected"] = {events[0].stream: info.stream_version if info else 0}
    else:
        query = Query([QueryItem(tags=events[0].tags)])
        choices["conditions"] = [(query, store.last_position())]
    if batch % 3 == 0:
        choices["save_positions"] = {"batches": batch}
        choices["state"] = {b"batch": b"%d" % batch}
    store.append(events, idempotency_key=b"%d" % batch, **choices)
    tell("ack", batch)


def add_up(store):
    count, size = struct.unpack("<QQ", store.state(b"totals") or bytes(16))
    with store.subscribe("totals") as subscription:
        while events := subscription.take(timeout=0):
            count += len(events)
            size += sum(len(event.data) for event in events)
            position = subscription.position
            totals = {b"totals": struct.pack("<QQ", count, size)}
            store.append(save_positions={"totals": position}, state=totals)
            tell("saved", position)


def main():
    path, count = sys.argv[1], int(sys.argv[2])
    store = EventStore(path, segment_bytes_max=SEGMENT_BYTES)
    for batch in range(1, count + 1):
        append(store, batch)
        if batch % 5 == 0:
            add_up(store)
        if batch % 10 == 0:
            store.save_snapshot(b"batch", batch, store.last_position(), b"%d" % batch)
        if batch % 35 == 0:
            store.close()
            store = EventStore(path, segment_bytes_max=SEGMENT_BYTES)
    store.close()


main()
