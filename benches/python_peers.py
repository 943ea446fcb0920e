"""One measurement from Python, as duralog-bench asks for it: prints names and numbers, one a line.

    python_peers.py WORKLOAD CONTENDER WORK FIXTURES BATCHES RECORDS STREAM_READS EVENTS

Duralog is the package of bindings/python with the library that DURALOG_LIBRARY names; its peers are
the modules sqlite3, as fast as it goes, lmdb, and the recorder of the package eventsourcing as it is.
Ends with status 77 and a reason if something is not there. The workload fill-events measures nothing:
it makes what the recorder reads.
"""

import importlib
import os
import random
import sqlite3
import sys
import time
from collections import deque
from itertools import chain, islice

EVENTS_PER_STREAM = 100
RECORD_LEN = 256
TYPES = ("AccountOpened", "MoneyDeposited", "MoneyWithdrawn", "TransferSent", "TransferReceived", "TransferRefused",
         "InterestPaid", "FeeCharged", "LimitRaised", "LimitLowered", "CardIssued", "CardBlocked", "StatementSent",
         "AddressChanged", "OwnerAdded", "OwnerRemoved")
LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def skip(reason):
    print(reason, file=sys.stderr)
    sys.exit(77)


def module(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        skip(f"no module {name}")


def duralog():
    if "DURALOG_LIBRARY" not in os.environ:
        skip("DURALOG_LIBRARY names no library")
    return module("duralog")


def sqlite(path, durable=True):
    connection = sqlite3.connect(path, isolation_level=None)
    for setting in ("journal_mode=WAL", f"synchronous={'FULL' if durable else 'OFF'}", "cache_size=-65536",
                    "mmap_size=8589934592", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {setting}")
    return connection


def resident(name):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(name):
                return int(line.split()[1]) / 1024
    return 0.0


class Meter:
    """As that of src/meter.rs, without syncs: they are not counted here."""

    def __init__(self):
        try:
            with open("/proc/self/clear_refs", "w") as refs:
                refs.write("5")
        except OSError:
            pass
        self.before = resident("VmRSS:")

    def __enter__(self):
        self.began = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.began
        print("rss", max(0.0, resident("VmHWM:") - self.before))


def consume(iterator):
    """Runs through all of it, as fast as Python can, and keeps nothing; tells how many there were."""
    numbers = iter(range(sys.maxsize))
    deque(zip(iterator, numbers), maxlen=0)
    return next(numbers)


def pages(cursor, size=1000):
    while True:
        rows = cursor.fetchmany(size)
        if not rows:
            return
        yield rows


def records(count):
    source = random.Random(7)
    pool = bytes(source.choices(LETTERS, k=1 << 16))
    starts = [source.randrange(len(pool) - RECORD_LEN) for _ in range(count)]
    return [pool[start:start + RECORD_LEN] for start in starts]


def check(found, expected):
    if found != expected:
        sys.exit(f"{found} found, expected {expected}")


def tell_rate(name, count, meter):
    print(f"{name}_per_s", count / meter.seconds)


# --- Workloads --------------------------------------------------------------------------------


def batch_100(contender, work, batches):
    data = records(100 * 64)
    lots = [data[begin:begin + 100] for begin in range(0, len(data), 100)]
    if contender == "duralog":
        path = os.path.join(work, "log")
        wal_class = duralog().Wal
        meter = Meter()
        with wal_class(path) as wal:
            with meter:
                for number in range(batches):
                    wal.append_batch(lots[number % len(lots)])
        with wal_class(path) as wal:
            check(consume(wal.tuples()), batches * 100)
    else:
        path = os.path.join(work, "log.db")
        meter = Meter()
        connection = sqlite(path)
        connection.execute("CREATE TABLE log(seq INTEGER PRIMARY KEY, data BLOB NOT NULL)")
        lots = [[(value,) for value in lot] for lot in lots]
        with meter:
            for number in range(batches):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO log(data) VALUES(?)", lots[number % len(lots)])
                connection.execute("COMMIT")
        connection.close()
        check(sqlite(path).execute("SELECT count(*) FROM log").fetchone()[0], batches * 100)
    tell_rate("records", batches * 100, meter)


def replay(contender, work, fixtures, count, values_only):
    if contender == "duralog":
        wal_class = duralog().Wal
        with wal_class(os.path.join(fixtures, "log-100"), read_only=True) as wal:
            with Meter() as meter:
                found = consume(islice(wal.values() if values_only else wal.tuples(), count))
    elif contender == "sqlite":
        connection = sqlite(os.path.join(fixtures, "log.db"))
        columns = "data" if values_only else "seq, 1, x'', data"
        with Meter() as meter:
            rows = connection.execute(f"SELECT {columns} FROM log ORDER BY seq LIMIT ?", (count,))
            found = consume(chain.from_iterable(pages(rows)))
    else:
        lmdb = module("lmdb")
        with lmdb.open(os.path.join(work, "lmdb"), map_size=count * 1024 + (1 << 20), sync=False) as env:
            data = records(4096)
            with env.begin(write=True) as transaction:
                for number in range(count):
                    key = number.to_bytes(8, "big")
                    transaction.put(key, data[number % len(data)], append=True)
            with env.begin() as transaction, Meter() as meter:
                found = consume(transaction.cursor().iternext(keys=False, values=True))
    check(found, count)
    tell_rate("records", count, meter)


def event_store(fixtures, mapped=False):
    return duralog().EventStore(os.path.join(fixtures, "events", "store"), read_only=True, mapped=mapped)


SELECT = "SELECT position, stream, version, type, time, data FROM events"
SELECT_TUPLES = "SELECT position, stream, version, type, data FROM events"


def event_scan(contender, fixtures, count, events, tuples):
    count = min(count, events)
    if contender == "duralog":
        with event_store(fixtures) as store:
            with Meter() as meter:
                found = consume(islice(store.tuples() if tuples else store.read_all(), count))
    else:
        connection = sqlite(os.path.join(fixtures, "events", "store.db"))
        with Meter() as meter:
            rows = connection.execute(f"{SELECT_TUPLES if tuples else SELECT} ORDER BY position LIMIT ?", (count,))
            found = consume(chain.from_iterable(pages(rows)))
    check(found, count)
    tell_rate("events", count, meter)


def stream_name(number):
    return f"account-{number:06}"


def recorder(fixtures):
    """That of eventsourcing which keeps the order of all events; streams have names in it, as in the other stores."""
    package = module("eventsourcing.sqlite")
    datastore = package.SQLiteDatastore(os.path.join(fixtures, "events", "recorder.db"), originator_id_type="text")
    return package.SQLiteApplicationRecorder(datastore)


def fill_events(fixtures, events):
    """The table is the recorder's own, and so is what is in it; that another connection fills it saves a minute."""
    recorder(fixtures).create_table()
    connection = sqlite(os.path.join(fixtures, "events", "recorder.db"), durable=False)
    connection.execute("PRAGMA wal_autocheckpoint=16000")
    data = records(4096)
    streams = events // EVENTS_PER_STREAM
    names = [stream_name(number) for number in range(streams)]
    for begin in range(0, events, 1000):
        rows = [(names[number % streams], number // streams + 1,
                 TYPES[(number * 0x9E37_79B9_7F4A_7C15 & (1 << 64) - 1) >> 60], data[number % len(data)])
                for number in range(begin, min(begin + 1000, events))]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO stored_events VALUES(?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    connection.close()


def event_streams(contender, fixtures, reads, events, mapped, tuples):
    streams = events // EVENTS_PER_STREAM
    names = [stream_name(number * 7919 % streams) for number in range(reads)]
    found = 0
    first_tenth = reads // 10

    def read_all(read):
        nonlocal found
        with Meter() as meter:
            for name in names[:first_tenth]:
                found += len(read(name))
            first = time.perf_counter() - meter.began
            for name in names[first_tenth:]:
                found += len(read(name))
        print("first_tenth_us", first * 1e6 / first_tenth)
        print("us", meter.seconds * 1e6 / reads)

    if contender == "duralog":
        with event_store(fixtures, mapped) as store:
            read_all((lambda name: list(store.tuples(stream=name))) if tuples else
                     (lambda name: list(store.read_stream(name))))
    elif contender == "eventsourcing":
        select = recorder(fixtures).select_events
        select("")  # which connects
        read_all(select)
    else:
        connection = sqlite(os.path.join(fixtures, "events", "store.db"))
        select = f"{SELECT_TUPLES if tuples else SELECT} WHERE stream = ? ORDER BY version"
        read_all(lambda name: connection.execute(select, (name,)).fetchall())
    check(found, reads * EVENTS_PER_STREAM)


def main():
    workload, contender, work, fixtures = sys.argv[1:5]
    batches, count, reads, events = map(int, sys.argv[5:9])
    if workload == "fill-events":
        fill_events(fixtures, events)
    elif workload == "py-batch-100":
        batch_100(contender, work, batches)
    elif workload == "py-replay-tuples":
        replay(contender, work, fixtures, count, False)
    elif workload == "py-replay-values":
        replay(contender, work, fixtures, count, True)
    elif workload == "py-es-scan":
        event_scan(contender, fixtures, count, events, False)
    elif workload == "py-es-tuples":
        event_scan(contender, fixtures, count, events, True)
    elif workload in ("py-es-stream-100", "py-es-stream-100-mapped", "py-es-stream-100-tuples"):
        event_streams(contender, fixtures, reads, events, workload != "py-es-stream-100", workload.endswith("tuples"))
    else:
        sys.exit(f"no workload {workload!r}")


if __name__ == "__main__":
    main()
