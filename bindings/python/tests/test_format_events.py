"""The reader of `duralog/format_events.py` against section 20 of FORMAT.md: stores whose records are
encoded here byte by byte, and again and again with one rule broken.

The names of the tests are the specification; the section stands first. What the engine makes of such
stores, tests/eventstore_format.rs compares.
"""

import contextlib
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

import log_builder as lb
from log_builder import Log
from test_format import HERE, fmt

events = fmt._events_module()

ID, FIRST, LAST, METADATA, OCCURRED, CORRELATION, CAUSATION, NEWER = (1 << bit for bit in range(8))
WHOLE = FIRST | LAST
EVENT, SAVED, PUT, DELETE, REQUEST = 16, 17, 18, 19, 20


def varint(value):
    """20.1, by the definition."""
    out = bytearray()
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out) + bytes((value,))


def text(data):
    data = data.encode() if isinstance(data, str) else data
    return varint(len(data)) + data


def value(flags=WHOLE, position=1, version=1, own_id=b"", event_type="T", tags=(), schema=0, content_type="",
          optional=b"", data=b""):
    """20.2, the value of an event, field after field."""
    return (bytes((flags,)) + varint(position) + varint(version) + own_id + text(event_type) + varint(len(tags))
            + b"".join(map(text, tags)) + varint(schema) + text(content_type) + optional + data)


def event(stream="s", **fields):
    return (EVENT, stream.encode() if isinstance(stream, str) else stream, value(**fields))


def saved(name, position, flags=0):
    return (SAVED, name, struct.pack("<QB", position, flags))


def request(key, first_position, records, digest=None):
    """20.5, over records that are given with position and version 0 and without FIRST and LAST."""
    payload = b"".join(lb.record(op, k, v) for op, k, v in records)
    count = sum(op == EVENT for op, _, _ in records)
    return (REQUEST, key, (digest or hashlib.sha256(payload).digest()) + struct.pack("<QQ", first_position, count))


class Case(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "store")

    def write(self, *batches, times=None):
        log = Log()
        segment = log.segment()
        for index, batch in enumerate(batches):
            records = [lb.put(key, value, op) for op, key, value in batch]
            segment.batch(records, **({} if times is None else {"time_ns": times[index]}))
        log.write(self.path)
        return log

    def read(self, *batches, **options):
        self.write(*batches, **options)
        return list(fmt.open_events(self.path).items())

    def refuse(self, reason, *batches, **options):
        """The last batch is refused for this reason, and nothing of it is shown."""
        self.write(*batches, **options)
        found = []
        with self.assertRaises(events.CorruptRecord) as caught:
            for item in fmt.open_events(self.path).items():
                found.append(item)
        self.assertTrue(caught.exception.reason.startswith(reason), caught.exception)
        self.assertEqual(len(found), sum(len(batch) for batch in batches[:-1]))
        for part in (f"record {caught.exception.seq} ", f"LSN {caught.exception.lsn}", "expected ", "found "):
            self.assertIn(part, str(caught.exception))


class Events(Case):
    def test_20_2_an_event_with_every_field(self):
        optional = struct.pack("<q", -5) + b"C" * 16 + b"c" * 16 + text("{}")
        flags = WHOLE | ID | METADATA | OCCURRED | CORRELATION | CAUSATION
        found, = self.read([event("naïve-1", flags=flags, own_id=b"i" * 16, event_type="Öffnen", tags=("a", "é"),
                                  schema=1 << 63, content_type="text/x", optional=optional, data=b"\0\xff")])
        self.assertEqual(found, events.Event(
            1, "naïve-1", 1, "Öffnen", ("a", "é"), b"i" * 16, True, 1 << 63, "text/x", -5, b"C" * 16, b"c" * 16,
            b"{}", b"\0\xff", found.time_ns, True, True, 4096, 1))
        self.assertEqual(found.category, "naïve")

    def test_20_2_an_event_with_what_it_must_have(self):
        found, = self.read([event()])
        self.assertEqual((found.tags, found.content_type, found.occurred_ns, found.correlation_id, found.causation_id,
                          found.metadata, found.data), ((), "", None, None, None, b"", b""))
        self.assertFalse(found.has_own_id)

    def test_20_2_limits_hold_and_one_more_does_not(self):
        tags = tuple(f"{number:02}" + "t" * 253 for number in range(64))
        self.assertEqual(len(self.read([event("s" * 1024, event_type="T" * 255, tags=tags, content_type="c" * 255)])), 1)
        self.refuse("stream name", [event("s" * 1025)])
        self.refuse("stream name", [event("")])
        self.refuse("event_type", [event(event_type="T" * 256)])
        self.refuse("event_type", [event(event_type="")])
        self.refuse("tag_count", [event(tags=tags + ("x",))])
        self.refuse("tag 0", [event(tags=("t" * 256,))])
        self.refuse("tag 0", [event(tags=("",))])
        self.refuse("content_type", [event(content_type="c" * 256)])
        self.refuse("metadata", [event(flags=WHOLE | METADATA, optional=b"\0")])

    def test_20_2_reserved_flag_is_newer(self):
        self.write([event(flags=WHOLE | NEWER)])
        with self.assertRaises(fmt.NewerFormat):
            list(fmt.open_events(self.path).items())

    def test_20_2_cut_anywhere_before_the_data_is_refused(self):
        flags = WHOLE | ID | METADATA | OCCURRED | CORRELATION | CAUSATION
        optional = struct.pack("<q", 5) + b"C" * 16 + b"c" * 16 + text("{}")
        whole = value(flags=flags, own_id=b"i" * 16, tags=("a", "b"), content_type="x", optional=optional, data=b"D")
        for length in range(len(whole) - 1):
            self.refuse("", [(EVENT, b"s", whole[:length])])
        self.assertEqual(self.read([(EVENT, b"s", whole[:-1])])[0].data, b"")

    def test_20_2_positions_and_versions_have_no_gaps(self):
        first = [event()]
        self.read(first, [event(position=2, version=2)], [event("t", position=3)])
        for position in (0, 1, 3, 1 << 62):
            self.refuse("position", first, [event(position=position, version=2)])
        for version in (0, 1, 3):
            self.refuse("stream_version", first, [event(position=2, version=version)])
        self.refuse("position", [event(position=2)])

    def test_20_2_first_and_last_are_those_of_the_batch(self):
        one, two = dict(flags=FIRST), dict(flags=LAST, position=2, version=2)
        self.read([event(**one), event(**two)])
        self.refuse("flag LAST", [event(), event(**two)])
        self.refuse("flag FIRST", [event(**one), event(**{**two, "flags": WHOLE})])
        self.refuse("flag LAST", [event(**one)])
        self.refuse("flag FIRST", [event(flags=LAST)])

    def test_20_2_tags_ascend_by_bytes(self):
        self.refuse("tag 1", [event(tags=("b", "a"))])
        self.refuse("tag 1", [event(tags=("a", "a"))])
        self.refuse("tag 1", [event(tags=("é", "z"))])

    def test_20_2_recorded_time_never_decreases(self):
        second = [event(position=2, version=2)]
        self.read([event()], second, times=(7, 7))
        self.refuse("recorded time", [event()], second, times=(7, 6))

    def test_20_1_text_is_utf_8(self):
        self.refuse("stream name", [event(b"\xff")])
        self.refuse("event_type", [event(event_type=b"\xed\xa0\x80")])
        self.refuse("tag 0", [event(tags=(b"\xc0\x80",))])
        self.refuse("content_type", [event(content_type=b"\x80")])
        self.refuse("name of a saved position", [saved(b"\xff", 1)])

    def test_20_1_numbers_have_one_form(self):
        for number in (b"\x81\x00", b"\x80" * 10 + b"\x01", b"\xff" * 9 + b"\x02"):
            self.refuse("position", [(EVENT, b"s", bytes((WHOLE,)) + number + value()[2:])])
        schema = (1 << 64) - 1
        self.assertEqual(self.read([event(schema=schema)])[0].schema_version, schema)

    def test_20_3_derived_ids(self):
        found, = self.read([event()])
        self.assertEqual(found.id.hex(), "0001020304058607" + "8000000000000001")

    def test_20_3_no_two_events_have_one_id(self):
        own = dict(flags=WHOLE | ID, own_id=b"i" * 16)
        self.refuse("id", [event(**own)], [event(position=2, version=2, **own)])
        derived = bytes.fromhex("00010203040586078000000000000001")
        self.refuse("id", [event()], [event(position=2, version=2, flags=WHOLE | ID, own_id=derived)])
        self.refuse("id of its own", [event(flags=WHOLE | ID, own_id=derived)])
        self.refuse("id", [event(flags=WHOLE | ID, own_id=bytes(16))])
        # An id derived from a position whose event has another one is as good as any.
        self.read([event(**own)], [event(position=2, version=2, flags=WHOLE | ID, own_id=derived)])


class Beside(Case):
    def test_20_4_the_newest_of_a_key_counts(self):
        self.write([saved(b"p", 5), (PUT, b"k", b"1"), (PUT, b"gone", b"")], [saved(b"p", 6), (PUT, b"k", b"2")],
                   [saved(b"p", 0, 0xFF), (DELETE, b"gone", b"")])
        side = fmt.open_events(self.path).side_records()
        self.assertEqual((side.saved_positions["p"].position, side.saved_positions["p"].reset), (0, True))
        self.assertEqual({key: put.value for key, put in side.state.items()}, {b"k": b"2"})

    def test_20_4_saved_positions_grow_unless_reset(self):
        for position in (4, 5):
            self.refuse("saved position", [saved(b"p", 5)], [saved(b"p", position)])
        self.refuse("saved position", [saved(b"p", 1 << 62)])

    def test_20_4_limits(self):
        self.read([saved(b"n" * 255, 1), (PUT, b"k" * 1024, bytes(1 << 20)), (DELETE, b"d" * 1024, b"")])
        for record in (saved(b"n" * 256, 1), saved(b"", 1), (SAVED, b"p", bytes(8)), (SAVED, b"p", bytes(10)),
                       (PUT, b"k" * 1025, b""), (PUT, b"", b""), (PUT, b"k", bytes((1 << 20) + 1)),
                       (DELETE, b"", b""), (DELETE, b"k" * 1025, b""), (DELETE, b"k", b"v")):
            self.refuse("", [record])

    def test_20_4_a_batch_has_a_key_once(self):
        self.refuse("side record", [saved(b"p", 5), saved(b"p", 6)])
        self.refuse("side record", [(PUT, b"k", b"1"), (DELETE, b"k", b"")])
        self.read([saved(b"k", 5), (PUT, b"k", b"1")])

    def test_20_5_the_digest_is_that_of_the_batch(self):
        counted = [event(flags=0, position=0, version=0), saved(b"p", 1), (200, b"own", b"op")]
        batch = [event(), saved(b"p", 1), (200, b"own", b"op")]
        self.read(batch + [request(b"k", 1, counted)])
        self.assertEqual(fmt.open_events(self.path).side_records().idempotency_keys[b"k"].event_count, 1)
        self.refuse("digest", batch + [request(b"k", 1, counted, bytes(32))])
        self.refuse("digest", batch + [request(b"k", 1, batch)])
        self.refuse("position", batch + [request(b"k", 2, counted)])
        self.refuse("event count", batch + [request(b"k", 1, counted[1:])])
        self.refuse("idempotency key", batch + [request(b"", 1, counted)])
        self.refuse("idempotency key", batch + [request(b"k" * 256, 1, counted)])
        self.refuse("value of an idempotency key", batch + [(REQUEST, b"k", bytes(47))])

    def test_20_5_without_events_the_position_is_that_of_the_next(self):
        self.read([event()], [saved(b"p", 1), request(b"k", 2, [saved(b"p", 1)])])
        self.refuse("position", [event()], [saved(b"p", 1), request(b"k", 1, [saved(b"p", 1)])])

    def test_20_5_no_two_batches_have_one_key(self):
        batches = [[(PUT, b"s", b""), request(b"k", 1, [(PUT, b"s", b"")])] for _ in range(2)]
        self.refuse("idempotency key", *batches)

    def test_20_6_order_in_a_batch(self):
        self.refuse("order", [saved(b"p", 1), event()])
        key = request(b"k", 1, [saved(b"p", 1)])
        self.refuse("order", [saved(b"p", 1), key, saved(b"q", 1)])
        self.refuse("order", [saved(b"p", 1), key, request(b"l", 1, [])])

    def test_20_other_ops_mean_nothing(self):
        found = self.read([(21, b"", b"x"), (127, b"", b""), event(), (200, b"k", b"v")])
        self.assertEqual(len(found), 1)


class WholeStores(Case):
    def test_uncommitted_events_are_not_there(self):
        log = Log()
        segment = log.segment()
        segment.batch([lb.put(b"s", value(), EVENT)])
        segment.part([lb.put(b"s", value(position=2, version=2), EVENT)], lb.BEGIN)
        log.write(self.path)
        self.assertEqual([event.position for event in fmt.open_events(self.path).events()], [1])

    def test_a_batch_is_shown_whole_or_not_at_all(self):
        self.refuse("saved position", [saved(b"p", 5)], [event(), saved(b"p", 5)])

    def test_damage_in_the_log_ends_the_reading_with_its_place(self):
        log = self.write([event()], [event(position=2, version=2)], [event(position=3, version=3)])
        name = os.path.join(self.path, f"{1:020d}.wal")
        with open(name, "r+b") as file:
            file.seek(log.last.frames[1][0] + 64)
            file.write(b"\xee")
        found = []
        try:
            for item in fmt.open_events(self.path).events():
                found.append(item.position)
        except fmt.Corrupt:
            pass
        self.assertEqual(found, [1])


class CommandLine(Case):
    def run_main(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = fmt.main(["events", *arguments])
        return status, out.getvalue().splitlines(), err.getvalue()

    def test_one_line_of_json_for_each_event_with_every_field(self):
        self.write([event(flags=FIRST | OCCURRED, optional=struct.pack("<q", -1)), event("t", flags=LAST, position=2)])
        status, lines, _ = self.run_main(self.path)
        self.assertEqual((status, len(lines)), (0, 2))
        first = json.loads(lines[0])
        self.assertEqual(list(first), [
            "position", "stream", "stream_version", "type", "tags", "id", "has_own_id", "schema_version",
            "content_type", "occurred_ns", "correlation_id", "causation_id", "metadata", "data", "time_ns",
            "first_of_batch", "last_of_batch", "batch_id", "seq"])
        self.assertEqual((first["id"], first["occurred_ns"], first["causation_id"], first["data"]),
                         ("00010203-0405-8607-8000-000000000001", -1, None, ""))
        self.assertEqual(self.run_main("--from", "2", self.path)[1], lines[1:])

    def test_side_records_by_kind_and_key(self):
        self.write([saved(b"q", 5), saved(b"p", 6), (PUT, b"k", b"v")])
        _, lines, _ = self.run_main("--side", self.path)
        found = [json.loads(line) for line in lines]
        self.assertEqual([one["kind"] for one in found], ["saved_position", "saved_position", "state"])
        self.assertEqual([found[0]["name"], found[1]["name"], found[2]["value"]], ["p", "q", "dg=="])

    def test_a_broken_record_is_told_and_fails(self):
        self.write([event()], [event(position=3, version=2)])
        status, lines, said = self.run_main(self.path)
        self.assertEqual((status, len(lines)), (1, 1))
        self.assertTrue(said.startswith("CorruptRecord: record 3 "), said)

    def test_the_package_and_the_file_by_itself_do_the_same(self):
        self.write([event()])
        source = os.path.join(HERE, "..", "src")
        by_name = [sys.executable, "-m", "duralog.format", "events", self.path]
        by_path = [sys.executable, os.path.join(source, "duralog", "format.py"), "events", self.path]
        said = [subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": source}).stdout
                for command in (by_name, by_path)]
        self.assertEqual(said[0], said[1])
        self.assertEqual(len(said[0].splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
