"""`duralog.ndjson`: what is imported is exported with the same content, line by line; twice, or again after
being killed, adds nothing; what is damaged or torn is named, and nothing is in by halves.

The receipt log (8,577 events of 1,434 cases) is a real file of this format. It lies beside the project,
or where the environment variable DURALOG_RECEIPTS says.
"""

import io
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import unittest
import uuid
from collections import Counter, defaultdict

from duralog import EventStore, NewEvent, Query, QueryItem, ndjson
from support import REPOSITORY, Case

SEED = random.randrange(1 << 32)
RECEIPTS = os.environ.get("DURALOG_RECEIPTS", os.path.join(REPOSITORY, "..", "shared", "data", "receipt.ndjson"))

LINE = {"event_id": "e-1", "stream_id": "case-1", "event_type": "Opened", "data": {"n": 1},
        "timestamp": "2010-10-02T09:20:39.266000+02:00", "metadata": {"group": "G1"}}


def lines_of(*objects):
    return b"".join(json.dumps(some).encode() + b"\n" for some in objects)


def nested(levels):
    return b"[" * levels + b"]" * levels


def line(number, **fields):
    return {**LINE, "event_id": f"e-{number}", **fields}


class StoreCase(Case):
    def setUp(self):
        super().setUp()
        self.store = EventStore(self.path, sync="manual")
        self.addCleanup(self.store.close)

    def load(self, content, **options):
        return ndjson.import_events(self.store, io.BytesIO(content), **options)

    def dump(self, **options):
        out = io.BytesIO()
        ndjson.export_events(self.store, out, **options)
        return out.getvalue()


class Lines(StoreCase):
    def test_fields_become_those_of_the_event(self):
        own = uuid.uuid4()
        self.load(lines_of(LINE, {**LINE, "event_id": str(own)}, {**LINE, "event_id": str(uuid.uuid4()).upper()}))
        first, second, third = self.store
        self.assertEqual((first.stream, first.type, first.json(), first.content_type),
                         ("case-1", "Opened", {"n": 1}, "application/json"))
        self.assertEqual(first.occurred.isoformat(), "2010-10-02T07:20:39.266000+00:00")
        self.assertEqual(json.loads(first.metadata), {
            "duralog.ndjson": {"event_id": "e-1", "timestamp": LINE["timestamp"]}, "group": "G1"})
        self.assertEqual(first.id, uuid.uuid5(ndjson.NAMESPACE, '"e-1"'))
        self.assertEqual(second.id, own)
        self.assertEqual(json.loads(second.metadata)["duralog.ndjson"], {"timestamp": LINE["timestamp"]})
        self.assertEqual(str(third.id).upper(), json.loads(third.metadata)["duralog.ndjson"]["event_id"])

    def test_what_came_in_goes_out(self):
        variants = [
            *({"event_id": value} for value in (
                1, "1", -5, 10 ** 30, "", "ä", "\ud800", "e\n", str(uuid.uuid4()), str(uuid.uuid4()).upper(), str(uuid.UUID(int=0)),
                "{" + str(uuid.uuid4()) + "}", uuid.uuid4().hex)),
            *({"timestamp": value} for value in (
                "2010-10-02T07:20:39+00:00", "2010-10-02T07:20:39Z", "2010-10-02 07:20:39.5-05:30", "2010-10-02",
                "2010-10-02T07:20:39", "", "soon", "2016-12-31T23:59:60Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+01:00",
                "2010-10-02T07:20:39.123456789+00:00", "2010-10-02T07:20:39.1234567891Z", "1969-12-31T23:59:59.999999999+00:00",
                "2010-10-02T07:20:39+25:00", "2010-10-02T07:20:39+01:60", "2010-02-30T07:20:39Z",
                "2262-04-11T23:47:16.854775807Z", "2262-04-11T23:47:16.854775808Z", "1677-09-21T00:12:43.145224192Z",
                "\u0662\u0660\u0661\u0660-10-02T07:20:39Z")),
            *({"metadata": value} for value in (
                {}, None, [], [1, {}], "text", 5, {"duralog.ndjson": 1}, {"a": 1, "duralog.ndjson": {"event_id": 1}}, {"ä": "\ud800"})),
            *({"data": value} for value in (None, [], {}, "", 0, 1.5, 1e300, "ä\u2028\0", {"a": [{"b": None}] * 100}, True)),
            *({"stream_id": value} for value in ("ä", "a\nb", "x" * 1024)),
            {"more": [1.50, {}], "event_version": 3, "ä": None}, {"\ud800": 1, "a": "\ud800"}, {"": 10 ** 2000},
            {"data_base64": "AA==", "data": ...}, {"metadata": {"a": 1}, "event_id": 10 ** 999},
            {"tags": ["b", "a"], "schema_version": 3, "content_type": "", "correlation_id": str(uuid.uuid4()),
             "causation_id": str(uuid.uuid4())},
        ]
        objects = [{name: value for name, value in line(f"variant {number}", **fields).items() if value is not ...}
                   for number, fields in enumerate(variants)]
        # Without offsets in the time and with a UUID, nothing has to be kept.
        objects += [{**some, "event_id": str(uuid.uuid4()), "timestamp": fields.get("timestamp", "2010-10-02T07:20:39+00:00")}
                    for some, fields in zip(objects, variants) if "event_id" not in fields]
        content = lines_of(*objects)
        self.assertEqual(self.load(content, batch_count=7).imported, len(objects))
        out = self.dump()
        for given, found in zip(objects, map(json.loads, out.splitlines())):
            if "tags" in given:
                given = {**given, "tags": sorted(given["tags"])}
            self.assertEqual(found, given)
        self.assertEqual(out.count(b"\n"), len(objects))
        # And what is exported can be imported elsewhere, and gives the same again.
        with EventStore(self.path + "2", sync="manual") as other:
            ndjson.import_events(other, io.BytesIO(out))
            again = io.BytesIO()
            ndjson.export_events(other, again)
            self.assertEqual(again.getvalue(), out)
            self.assertEqual([event.id for event in other], [event.id for event in self.store])

    def test_numbers_and_spaces_of_the_data_are_kept_to_the_byte(self):
        data = '{"a" : 1.10,  "b":1E400, "c":0.1234567890123456789012, "a":2, "\\u00e4": "\\ud800"}'
        text = '{"event_id":"e","data":%s,"timestamp":"", "stream_id":"s","event_type":"t","metadata":%s}\r\n' % (data, data)
        self.load(text.encode())
        [event] = self.store
        self.assertEqual(event.data, data.encode())
        self.assertIn(f'"data": {data}, "timestamp": "", "metadata": {data}}}', self.dump().decode())

    def test_fields_that_are_absent_get_their_defaults(self):
        some = {name: value for name, value in LINE.items() if name not in ("data", "metadata")}
        self.load(lines_of(some))
        self.assertEqual(json.loads(self.dump()), {**some, "data": None, "metadata": {}})

    def test_events_that_were_not_imported_come_back_in_another_store(self):
        self.store.append([
            NewEvent("a", "T"), NewEvent("a", "T", b"\0\xff", b"\xfe"), NewEvent("a", "T", b'{\n"a": 1\r\n}', b"[\n]"),
            NewEvent("ä", "T", b"{}", b'{"a":1}', ["x", "ä"], uuid.uuid4(), 1_700_000_000_123_456_789, uuid.uuid4(), uuid.uuid4(),
                     7, "application/json"),
            NewEvent("a", "T", b"5", occurred=-1), NewEvent("a", "T", b"NaN", content_type="text/plain"),
            NewEvent("a", "T", b"{}", b'{"duralog.ndjson" : 5}'), NewEvent("a", "T", b"{}", b'{"duralog.ndjson":{} , "a": 1}'),
            NewEvent("a", "T", b"[" * 100_000), NewEvent("a", "T", nested(500), nested(500)),
            NewEvent("a", "T", nested(501), nested(501)), NewEvent("a", "T", b"1" * 5000),
            # What no import writes was not kept by one.
            *(NewEvent("a", "T", b"{}", b'{"duralog.ndjson":%s}' % kept) for kept in (
                b"{}", b" {}", b"5", b'{"event_id":true}', b'{"event_id":1.5}', b'{"timestamp":5}', b'{"other":1}',
                b'{"event_id":1,"event_id":2}', b'{"more":5}', b'{"more":{}}', b'{"more":{"data":5}}',
                b'{"more":{"a":1,"a":2}}', b'{"event_id":1} ,"a":2', b'{"metadata":true}'))])
        out = self.dump()
        self.assertEqual(out.count(b"\n"), self.store.last_position())
        with EventStore(self.path + "2", sync="manual") as other:
            ndjson.import_events(other, io.BytesIO(out))
            for event, copy in zip(self.store, other):
                for name in ("stream", "stream_version", "type", "tags", "id", "correlation_id", "causation_id",
                             "schema_version", "content_type"):
                    self.assertEqual(getattr(event, name), getattr(copy, name), name)
                self.assertEqual(copy.occurred_ns, event.time_ns if event.occurred_ns is None else event.occurred_ns)
                self.assertEqual(copy.data, event.data.replace(b"\n", b" ").replace(b"\r", b" "))
            again = io.BytesIO()
            ndjson.export_events(other, again)
        self.assertEqual(again.getvalue(), out)


class Importing(StoreCase):
    def test_again_adds_nothing_whatever_the_batches(self):
        content = lines_of(*(line(n) for n in range(100)))
        done = self.load(content, batch_count=30)
        self.assertEqual((done.line_count, done.imported, done.known), (100, 100, 0))
        for batch_count in (30, 1, 7, 100, 1000):
            done = self.load(content, batch_count=batch_count)
            self.assertEqual((done.imported, done.known), (0, 100))
        done = self.load(content + lines_of(*(line(n) for n in range(100, 120))), batch_count=33)
        self.assertEqual((done.imported, done.known), (20, 100))
        self.assertEqual([event.stream_version for event in self.store], list(range(1, 121)))
        self.assertEqual([json.loads(text)["event_id"] for text in self.dump().splitlines()], [f"e-{n}" for n in range(120)])

    def test_same_id_with_another_content_is_refused(self):
        content = lines_of(*(line(n) for n in range(10)))
        self.load(content)
        for name, value in (("data", {}), ("stream_id", "b"), ("event_type", "b"), ("metadata", {}), ("tags", ["a"]),
                            ("timestamp", "2010-10-02T09:20:39.266000+01:00"), ("schema_version", 1), ("content_type", "a"),
                            ("causation_id", str(uuid.uuid4()))):
            other = lines_of(*(line(n, **{name: value} if n == 6 else {}) for n in range(10)))
            for batch_count in (10, 3, 100):
                with self.assertRaisesRegex(ndjson.ImportFailed, "line 7: its event_id belongs to the event at position 7"):
                    self.load(other, batch_count=batch_count)
        self.assertEqual(self.store.last_position(), 10)
        # In one batch, and of another source that has event_ids of its own.
        self.assertEqual(self.load(lines_of(line(20), line(20), line(20))).known, 2)
        with self.assertRaisesRegex(ndjson.ImportFailed, "line 3: has the event_id of line 1"):
            self.load(lines_of(line(30), line(31), line(30, data=5)))
        self.assertEqual(self.load(content, namespace=uuid.uuid4()).imported, 10)

    def test_damaged_line_names_its_number_and_nothing_of_its_batch_is_in(self):
        damaged = [
            (b"{\n", "Expecting"), (b"no json\n", "not a JSON object"), (b"[1]\n", "not a JSON object"), (b"\xff\n", "utf-8"),
            (b"5", "not a JSON object"), (lines_of(LINE)[:-2] + b",}\n", "name is no text"), (lines_of(LINE)[:-2] + b" 5}\n", "Expecting"),
            (lines_of(LINE)[:-1] + b"5\n", "Extra data"), (b'{"a":NaN}\n', "NaN is no JSON"), (b'{"a":1,"a":2}\n', "a twice"),
            (b'{1:1}\n', "name is no text"), (b'{"a" 1}\n', "Expecting"), (b"[" * 100_000 + b"\n", ""),
            (b'{"data":' + b"[" * 100_000 + b"\n", "nested deeper than 500 levels"),
            (lines_of(LINE)[:-2] + b', "a":' + nested(501) + b"}\n", "nested deeper"),
            (b"{" + b",".join(b'"%d":0' % n for n in range(1001)) + b"}\n", "more than 1000 fields"),
            *((lines_of({name: value for name, value in LINE.items() if name != missing}), f"has no {missing}")
              for missing in ("event_id", "stream_id", "event_type", "timestamp")),
            *((lines_of(line(99, **fields)), reason) for fields, reason in (
                ({"event_id": None}, "event_id is not a text or an integer"), ({"event_id": 1.5}, "event_id"),
                ({"event_id": True}, "event_id"), ({"event_id": 10 ** 1000}, "event_id"), ({"stream_id": 5}, "stream_id is not a text"),
                ({"timestamp": 5}, "timestamp is not a text"), ({"tags": "a"}, "tags is not a list"), ({"tags": [1]}, "list of texts"), ({"tags": ["\ud800"]}, "UTF-8"),
                ({"data_base64": "AA=="}, "also data"),
                ({"correlation_id": "a"}, "correlation_id is not a UUID"), ({"data_base64": "ä"}, "not base64"),
                ({"metadata_base64": "AA=="}, "there is no place"),
                # What only the library knows.
                ({"stream_id": ""}, "stream"), ({"stream_id": "a" * 1025}, "stream"), ({"event_type": ""}, "event_type"),
                ({"stream_id": "\ud800"}, "UTF-8"), ({"tags": [""]}, "tag"), ({"schema_version": -1}, "schema_version"),
                ({"causation_id": str(uuid.UUID(int=0))}, "zero"), ({"data": "x" * 67_108_864}, "67"))),
        ]
        good = lines_of(*(line(n) for n in range(24)))
        self.load(lines_of(*(line(n) for n in range(10))))
        for bad, reason in damaged:
            with self.subTest(bad[:60]), self.assertRaisesRegex(ndjson.ImportFailed, "(?i)line 25: .*" + reason) as caught:
                self.load(good + bad + lines_of(line(100)), batch_count=10)
            failed = caught.exception
            self.assertIsInstance(failed, ValueError)
            self.assertEqual(self.store.last_position(), 20)
        self.assertEqual((failed.line, failed.imported), (25, 0))
        copy = pickle.loads(pickle.dumps(failed))
        self.assertEqual((copy.line, copy.reason, copy.imported, str(copy)),
                         (failed.line, failed.reason, failed.imported, str(failed)))
        done = self.load(good + lines_of(line(100)), batch_count=10)
        self.assertEqual((done.imported, done.known), (5, 20))

    def test_torn_last_line_is_reported_and_left_out_at_every_length(self):
        content = lines_of(line(0), line(1, data="ä"))
        end = content.index(b"\n") + 1
        last = content[end:-1].replace(b"\\u00e4", "ä".encode())
        self.load(content[:end])
        for length in range(1, len(last)):
            done = self.load(content[:end] + last[:length])
            self.assertEqual((done.torn_line, done.line_count, done.imported, done.known), (2, 2, 0, 1), last[:length])
        self.assertEqual(self.store.last_position(), 1)
        done = self.load(content[:end] + last)  # whole, though without newline
        self.assertEqual((done.torn_line, done.imported), (0, 1))
        # The same piece of a line with a newline behind it was not torn.
        with self.assertRaises(ndjson.ImportFailed):
            self.load(content[:end] + last[:-5] + b"\n")

    def test_a_last_line_that_is_no_whole_object_is_torn_whatever_else_is_wrong_with_it(self):
        first, whole = lines_of(line(0)), lines_of(line(1))[:-1]
        deep = whole.replace(b'{"n": 1}', nested(5000))
        many = b",".join(b'"%d":0' % n for n in range(1001))
        self.load(first)
        for last in (b"\0", bytes(4096), whole + bytes(100), whole[:30] + bytes(100), b" \t" + bytes(100), b"5", b"no json", b"\xff",
                     b"{1:1}", b'{"a":1,"a":2', whole + b" {", b'{"data":' + b"[" * 5000, deep[:-1], deep.replace(b"]]", b"]\0]", 1),
                     b"{" + many):
            with self.subTest(last[:60]):
                done = self.load(first + last)
                self.assertEqual((done.torn_line, done.line_count, done.imported, done.known), (2, 2, 0, 1))
                # The first of two is not the last, and neither is one with a newline behind it.
                for behind in (b"\n", b"\n{}"):
                    with self.assertRaisesRegex(ndjson.ImportFailed, "line 2: "):
                        self.load(first + last + behind)
        for last in (b"{}", b'{"a":1,"a":2}', whole.replace(b"case-1", b""), deep, b"{" + many + b"}"):
            with self.subTest(last[:60]), self.assertRaisesRegex(ndjson.ImportFailed, "line 2: "):
                self.load(first + last)
        self.assertEqual(self.store.last_position(), 1)

    def test_what_is_a_whole_object_is_that_of_the_decoder(self):
        generator = random.Random(SEED)
        content = b'{"a": [1, -2.5e+3, "x\\u00e4\\n", {"b": null}, [], {}], "\xc3\xa4": true, "": [false, 0] }'
        self.assertTrue(ndjson._is_object(content))
        pieces = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"0", b"-", b".", b"1e5", b"null", b" ", b"\0", b"\n", b"\\u12", b"\xff"]
        both = Counter()
        for _ in range(20_000):
            at = generator.randrange(len(content) + 1)
            text = content[:at] + generator.choice(pieces) + content[at + generator.randrange(4):]
            try:
                expected = isinstance(json.loads(text.decode(), parse_constant=ndjson._refuse_constant), dict)
            except ValueError:
                expected = False
            self.assertEqual(ndjson._is_object(text), expected, (text, SEED))
            both[expected] += 1
        self.assertGreater(min(both[True], both[False]), 500)

    def test_a_line_has_a_length_at_most_and_so_has_a_batch(self):
        class Endless(io.RawIOBase):
            def readable(self):
                return True

            def readinto(self, buffer):
                buffer[:] = b" " * len(buffer)
                return len(buffer)

        with self.assertRaisesRegex(ndjson.ImportFailed, f"line 1: is longer than {96 << 20} bytes"):
            ndjson.import_events(self.store, io.BufferedReader(Endless()))
        blank = b" " * ndjson.LINE_LEN_MAX
        self.assertEqual(self.load(blank + b"\n" + blank).line_count, 2)
        for newline in (b"", b"\n"):
            with self.assertRaisesRegex(ndjson.ImportFailed, "line 2: is longer than 100663296 bytes"):
                self.load(b"\n" + blank + b" " + newline)
        # 33 of these and a bit are 32 MiB, at which a batch ends; blank lines count like others.
        long = [line(number, data="x" * 1_000_000) for number in range(40)]
        content = lines_of(*long) + (b" " * 999_999 + b"\n") * 28 + lines_of(line(40), line(41))
        there = []
        self.load(content, progress=lambda done, total: there.append(self.store.last_position()))
        self.assertEqual(there, [34, 40, 42])

    def test_empty_lines_mean_nothing(self):
        done = self.load(b"\n \r\n" + lines_of(LINE) + b"\n\t\n ")
        self.assertEqual((done.line_count, done.imported, done.torn_line), (6, 1, 0))
        self.assertEqual(self.load(b"").line_count, 0)

    def test_progress_is_told_after_each_batch_and_can_stop(self):
        content = lines_of(*(line(n) for n in range(25)))
        told = []
        with open(self.path + ".ndjson", "wb") as file:
            file.write(content)
        ndjson.import_events(self.store, self.path + ".ndjson", batch_count=10, progress=lambda *now: told.append(now))
        self.assertEqual([total for _, total in told], [len(content)] * 3)
        self.assertEqual(told[-1][0], len(content))
        self.assertEqual(told, sorted(told))
        done = self.load(lines_of(*(line(n) for n in range(50, 75))), batch_count=10, progress=lambda done, total: False)
        self.assertEqual((done.stopped, done.imported, done.line_count), (True, 10, 10))
        with self.assertRaises(ZeroDivisionError):
            self.load(lines_of(line(99)), progress=lambda done, total: 1 // 0)
        with self.assertRaises(ValueError):
            self.load(content, batch_count=0)
        with self.assertRaises(FileNotFoundError):
            ndjson.import_events(self.store, self.path + ".none")


class Exporting(StoreCase):
    def setUp(self):
        super().setUp()
        self.load(lines_of(*(line(n) for n in range(2500))))
        self.whole = self.dump()
        self.out = self.path + ".out"

    def export(self, **options):
        return ndjson.export_events(self.store, self.out, **options)

    def exported(self):
        with open(self.out, "rb") as file:
            return file.read()

    def test_resumed_after_any_cut_it_is_the_same(self):
        lines = self.whole.splitlines(keepends=True)
        for kept in (0, 1, len(lines[0]) - 1, len(lines[0]), len(lines[0]) + 1, len(self.whole) // 2, len(self.whole) - 1,
                     len(self.whole)):
            with open(self.out, "wb") as file:
                file.write(self.whole[:kept])
            done = self.export(resume=True)
            self.assertEqual(self.exported(), self.whole)
            self.assertEqual((done.event_count, done.last_position), (2500 - self.whole[:kept].count(b"\n"), 2500))
        self.load(lines_of(line(3000)))
        self.assertEqual(self.export(resume=True).event_count, 1)
        self.assertEqual(self.exported(), self.dump())

    def test_begins_at_a_position(self):
        lines = self.whole.splitlines(keepends=True)
        self.assertEqual(self.export(from_=2401).event_count, 100)
        self.assertEqual(self.exported(), b"".join(lines[2400:]))
        self.assertEqual(self.export(from_=2401, resume=True).event_count, 0)
        self.assertEqual(self.dump(from_=2501), b"")
        self.assertEqual(ndjson.export_events(self.store, io.BytesIO(), from_=2501).last_position, 2500)

    def test_file_that_is_there_is_not_overwritten_and_a_strange_one_is_not_resumed(self):
        self.export()
        with self.assertRaises(FileExistsError):
            self.export()
        for strange in (b"hello\n", self.whole.splitlines(keepends=True)[1], self.whole + b"\n"):
            with open(self.out, "wb") as file:
                file.write(strange)
            with self.assertRaisesRegex(ValueError, "is no export of this store"):
                self.export(resume=True)
            self.assertEqual(self.exported(), strange)
        with self.assertRaises(TypeError):
            ndjson.export_events(self.store, io.BytesIO(), resume=True)

    def test_progress_is_told_and_can_stop(self):
        told = []
        self.export(progress=lambda *now: told.append(now))
        self.assertEqual(told, [(1000, 2500), (2000, 2500), (2500, 2500)])
        os.remove(self.out)
        done = self.export(progress=lambda done, total: False)
        self.assertEqual((done.stopped, done.event_count, done.last_position), (True, 1000, 1000))
        self.assertEqual(self.export(resume=True).event_count, 1500)
        self.assertEqual(self.exported(), self.whole)


def tool(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "duralog.ndjson", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=120, **options)


class CommandLine(Case):
    def test_import_and_export(self):
        content = lines_of(*(line(n) for n in range(5)))
        done = tool("import", self.path, "-", input=content + b'{"torn')
        self.assertEqual((done.returncode, done.stdout), (0, b"6 lines: 5 events imported, 0 were there already\n"))
        self.assertEqual(done.stderr, b"line 6 is torn and was left out\n")
        done = tool("export", self.path, "-")
        self.assertEqual((done.returncode, done.stderr), (0, b"5 events written, up to position 5\n"))
        self.assertEqual([json.loads(text) for text in done.stdout.splitlines()],
                         [json.loads(text) for text in content.splitlines()])
        done = tool("export", "--from", "5", self.path, self.path + ".out")
        self.assertEqual(done.returncode, 0)
        done = tool("export", "--from", "5", "--resume", self.path, self.path + ".out")
        self.assertEqual(done.stderr, b"0 events written, up to position 5\n")
        done = tool("import", "--namespace", "other", "--batch", "2", self.path, "-", input=content)
        self.assertEqual(done.stdout, b"5 lines: 5 events imported, 0 were there already\n")

    def test_failures_are_one_line_and_a_status(self):
        for arguments, reason in ((("import", self.path, self.path + ".none"), b"FileNotFoundError"),
                                  (("export", self.path + ".none", "-"), b"NotFound: DURALOG_E_NOT_FOUND"),
                                  (("import", self.path, "-"), b"ImportFailed: line 1: is not a JSON object")):
            done = tool(*arguments, input=b"damaged\n")
            self.assertEqual((done.returncode, done.stdout, done.stderr.count(b"\n")), (1, b"", 1), done.stderr)
            self.assertIn(reason, done.stderr)


@unittest.skipUnless(os.path.exists(RECEIPTS), "the receipt log is not there (set DURALOG_RECEIPTS to its file)")
class ReceiptLog(Case):
    """The real file: whole, and with the import killed at some point, and repeated."""

    @classmethod
    def setUpClass(cls):
        with open(RECEIPTS, "rb") as file:
            cls.objects = [json.loads(text) for text in file]
        cls.by_stream, cls.by_type = defaultdict(list), defaultdict(list)
        for some in cls.objects:
            cls.by_stream[some["stream_id"]].append(some)
            cls.by_type[some["event_type"]].append(some)

    def check(self):
        with EventStore(self.path, read_only=True) as store:
            self.assertEqual(store.last_position(), 8577)
            streams = list(store.streams())
            self.assertEqual(len(streams), 1434)
            self.assertEqual({name.name: name.event_count for name in streams},
                             {name: len(some) for name, some in self.by_stream.items()})
            for stream, expected in self.by_stream.items():
                found = list(store.read_stream(stream))
                self.assertEqual([event.stream_version for event in found], list(range(1, len(expected) + 1)))
                self.assertEqual([(event.type, event.json()) for event in found],
                                 [(some["event_type"], some["data"]) for some in expected])
            self.assertEqual({name.name: name.event_count for name in store.types()},
                             dict(Counter(some["event_type"] for some in self.objects)))
            for event_type, expected in self.by_type.items():
                found = [event.json() for event in store.query(Query([QueryItem([event_type])]))]
                self.assertEqual(found, [some["data"] for some in expected])
            out = io.BytesIO()
            ndjson.export_events(store, out)
            exported = [json.loads(text) for text in out.getvalue().splitlines()]
            for number, (found, expected) in enumerate(zip(exported, self.objects), 1):
                self.assertEqual(found, expected, f"line {number}")
            self.assertEqual(len(exported), 8577)

    def test_imported_read_exported_and_imported_again(self):
        done = tool("import", self.path, RECEIPTS)
        self.assertEqual(done.stdout, b"8577 lines: 8577 events imported, 0 were there already\n", done.stderr)
        self.check()
        done = tool("import", self.path, RECEIPTS)
        self.assertEqual(done.stdout, b"8577 lines: 0 events imported, 8577 were there already\n", done.stderr)
        self.check()

    def test_killed_half_way_and_repeated_it_is_the_same(self):
        self.assertEqual(len(self.objects), 8577)
        for attempt, wanted in enumerate((1, 2000, 6000)):
            command = [sys.executable, "-m", "duralog.ndjson", "import", "--batch", "50", self.path, RECEIPTS]
            killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            reader = None
            try:
                while killed.poll() is None:
                    if reader is None and os.path.exists(self.path):
                        try:
                            reader = EventStore(self.path, read_only=True)
                        except Exception:  # it is being made
                            continue
                    if reader is not None and reader.last_position() >= wanted:
                        break
                    time.sleep(0.001)
                self.assertIsNone(killed.poll(), "it was done before it was killed")
                killed.send_signal(signal.SIGKILL)
            finally:
                killed.kill()
                killed.communicate()
                if reader is not None:
                    reader.close()
            with EventStore(self.path) as store:
                there = store.last_position()
                self.assertEqual((there % 50, wanted <= there < 8577), (0, True), there)
        done = tool("import", self.path, RECEIPTS)
        self.assertEqual(done.stdout, f"8577 lines: {8577 - there} events imported, {there} were there already\n".encode(),
                         done.stderr)
        self.check()
        # And once more, after it was whole.
        done = tool("import", self.path, RECEIPTS)
        self.assertEqual(done.stdout, b"8577 lines: 0 events imported, 8577 were there already\n", done.stderr)
        self.check()


if __name__ == "__main__":
    unittest.main()
