"""`Wal` from outside: what goes in comes out, in every form; what can't go in is refused with the reason;
every error has its class and its fields. Logs are also read by `duralog.format`, which shares nothing
with the library.
"""

import array
import datetime
import errno
import json
import mmap
import os
import pickle
import select
import subprocess
import tempfile
import unittest

import duralog
from duralog import Op, Wal
from duralog import format as duralog_format
from support import REPOSITORY, Case, command, python

RECEIPTS = os.environ.get("DURALOG_RECEIPTS", os.path.join(REPOSITORY, "..", "shared", "data", "receipt.ndjson"))


def by_format(path):
    return [(r.seq, r.op, r.key, r.value) for r in duralog_format.open_log(path).records()]


class AppendingLater(Case):
    def test_tickets_are_settled_in_order(self):
        with Wal(self.path, groups_in_flight_max=4) as wal:
            tickets = [wal.append_later([b"%d" % n, (b"k", b"v")]) for n in range(1000)]
            self.assertEqual(tickets, list(range(1, 1001)))
            self.assertEqual(wal.wait_for(1), 3)
            self.assertEqual(wal.wait_for(1000), 3000)
            wal.wait_durable(wal.stat().written_lsn, timeout=0)
            with self.assertRaisesRegex(duralog.InvalidArgument, "has been told"):
                wal.wait_for(500)
            with self.assertRaises(duralog.InvalidArgument):
                wal.wait_for(1001, timeout=0)
        values = [value for _, _, key, value in by_format(self.path) if not key]
        self.assertEqual(values, [b"%d" % n for n in range(1000)])

    def test_the_descriptor_is_readable_when_tickets_are_settled(self):
        with Wal(self.path) as wal:
            fd = wal.ticket_fd()
            self.assertEqual(select.select([fd], [], [], 0)[0], [])
            ticket = wal.append_later([b"value"])
            self.assertEqual(select.select([fd], [], [], 60)[0], [fd])
            self.assertEqual(wal.ticket_fd(), fd)
            self.assertEqual(select.select([fd], [], [], 0)[0], [])
            self.assertEqual(wal.wait_for(ticket, timeout=0), 2)

    def test_what_is_not_settled_is_a_timeout(self):
        with Wal(self.path) as wal:
            with self.assertRaises(duralog.Timeout):
                wal.wait_durable(1 << 60, timeout=0.001)
            for bad in ("1", float("nan"), float("inf")):
                with self.assertRaisesRegex(duralog.InvalidArgument, "timeout"):
                    wal.wait_durable(1, timeout=bad)

    def test_a_buffer_is_written_when_it_is_full_and_at_sync(self):
        waited = 0
        for number in range(20):  # the background may come first, and writes what waits
            with Wal(f"{self.path}{number}", sync="manual", buffer_bytes_max=4096) as wal:
                wal.append(b"one")
                waited += list(wal.tuples()) == []
        self.assertGreater(waited, 0)
        with Wal(self.path, sync="manual", buffer_bytes_max=4096) as wal:
            self.assertEqual(wal.append(b"one"), 1)
            wal.sync()
            self.assertEqual([value for *_, value in wal.tuples()], [b"one"])
            self.assertEqual(wal.append(b"x" * 5000), 2)
            self.assertEqual(len(list(wal.tuples())), 2)
            self.assertEqual(wal.append_batch([b"a", b"b"]), 5)
        self.assertEqual([seq for seq, *_ in by_format(self.path)], [1, 2, 3, 4])

    def test_mapped_appends_are_read_as_all_others_and_are_for_lazy_modes(self):
        values = [bytes([n % 251]) * (n * 37 % 3000) for n in range(500)]
        for sync in ("interval", "manual"):
            path = os.path.join(self.path, sync)
            os.makedirs(path)
            with Wal(path, sync=sync, segment_bytes_max=1 << 17, mapped_appends=True) as wal:
                for value in values:
                    wal.append(value)
                self.assertEqual(list(wal.values()), values)
            self.assertEqual([value for *_, value in by_format(path)], values)
        with self.assertRaisesRegex(duralog.InvalidArgument, "mapped appends"):
            Wal(self.path, mapped_appends=True)


class Appending(Case):
    def test_records_come_back_after_reopening_and_in_the_other_reader(self):
        with Wal(self.path) as wal:
            self.assertEqual(wal.append(b"value"), 1)
            self.assertEqual(wal.append(b"value", b"key"), 2)
            self.assertEqual(wal.append(b"value", key=b"key", op=200, durable=True), 3)
            self.assertEqual(wal.delete(b"key"), 4)
            self.assertEqual(wal.append_batch([b"a", b"b"]), 7)
        expected = [(1, 1, b"", b"value"), (2, 1, b"key", b"value"), (3, 200, b"key", b"value"), (4, 2, b"key", b""),
                    (5, 1, b"", b"a"), (6, 1, b"", b"b")]
        with Wal(self.path, must_exist=True) as wal:
            self.assertEqual(list(wal.tuples()), expected)
            self.assertEqual([record[:4] for record in wal], expected)
            self.assertEqual(wal.append(b"next"), 8)
        self.assertEqual(by_format(self.path), [*expected, (8, 1, b"", b"next")])

    def test_batches_of_every_form(self):
        forms = {
            "values": ([b"a", b"", b"ccc"], [(1, b"", b"a"), (1, b"", b""), (1, b"", b"ccc")]),
            "pairs": ([(b"k", b"v"), (b"", b"v"), (b"k", b"")], [(1, b"k", b"v"), (1, b"", b"v"), (1, b"k", b"")]),
            "triples": ([(1, b"k", b"v"), (255, b"", b"v")], [(1, b"k", b"v"), (255, b"", b"v")]),
            "ops": ([Op.put(b"k", b"v"), Op.delete(b"k"), Op(128, b"x")],
                    [(1, b"k", b"v"), (2, b"k", b""), (128, b"x", b"")]),
            "mixed": ([b"v", (b"k", b"w"), Op.delete(b"k"), (130, b"x", b"y"), bytearray(b"z")],
                      [(1, b"", b"v"), (1, b"k", b"w"), (2, b"k", b""), (130, b"x", b"y"), (1, b"", b"z")]),
            "one": ([b"only"], [(1, b"", b"only")]),
            "generator": ((b"%d" % n for n in range(3)), [(1, b"", b"0"), (1, b"", b"1"), (1, b"", b"2")]),
            "items": ({b"k": b"v", b"l": b"w"}.items(), [(1, b"k", b"v"), (1, b"l", b"w")]),
            "set": ({b"v"}, [(1, b"", b"v")]),
        }
        with Wal(self.path, sync="manual") as wal:
            for name, (records, expected) in forms.items():
                with self.subTest(name):
                    before = wal.stat().last_seq
                    self.assertEqual(wal.append_batch(records), before + len(expected) + 1)
                    self.assertEqual([record[1:] for record in wal.tuples(before)], expected)

    def test_buffers_of_every_kind_are_taken_by_their_bytes(self):
        numbers = array.array("I", [1, 2, 3])
        with tempfile.TemporaryFile() as file:
            file.write(b"mapped bytes")
            file.flush()
            with mmap.mmap(file.fileno(), 0) as mapped:
                buffers = [bytearray(b"abc"), memoryview(b"abc"), memoryview(b"abcdef")[::2], numbers,
                           memoryview(numbers), mapped, memoryview(b""), array.array("Q"),
                           memoryview(b"abcd").cast("B", (2, 2)), SubclassOfBytes(b"abc")]
                expected = [b"abc", b"abc", b"ace", numbers.tobytes(), numbers.tobytes(), b"mapped bytes", b"", b"",
                            b"abcd", b"abc"]
                with Wal(self.path, sync="manual") as wal:
                    for buffer in buffers:
                        wal.append(buffer, key=buffer)
                        wal.append_batch([buffer])
                        wal.append_batch([(buffer, buffer)])
                        wal.append_batch([(1, buffer, buffer)])
                        wal.checkpoint(buffer)
                        self.assertEqual(wal.last_checkpoint().data, memoryview(buffer).tobytes())
                    wal.append_batch(buffers)
                    wal.append_batch([(buffer, b"") for buffer in buffers])
                    found = list(wal.tuples())
        each = [row for data in expected for row in ((data, data), (b"", data), (data, data), (data, data))]
        self.assertEqual([row[2:] for row in found],
                         each + [(b"", data) for data in expected] + [(data, b"") for data in expected])

    def test_str_is_refused_with_the_reason_and_the_way_out(self):
        with Wal(self.path) as wal:
            for call in (lambda: wal.append("text"), lambda: wal.append(b"", "text"), lambda: wal.delete("text"),
                         lambda: wal.append_batch(["text"]), lambda: wal.append_batch([b"", "text"]),
                         lambda: wal.append_batch([("text", b"")]), lambda: wal.append_batch([(b"", "text")]),
                         lambda: wal.append_batch([(1, b"", "text")]), lambda: wal.append_batch([Op.delete("text")]),
                         lambda: wal.append_batch([("k", "v"), ("l", "w")]), lambda: wal.checkpoint("text")):
                with self.assertRaisesRegex(TypeError, r"is a str.*\.encode\(\)"):
                    call()
            with self.assertRaisesRegex(TypeError, "key of record 1 of the batch"):
                wal.append_batch([(b"k", b"v"), ("k", b"v")])
            self.assertEqual(wal.stat().last_seq, 0)

    def test_what_is_no_batch_or_no_record_is_refused(self):
        with Wal(self.path) as wal:
            for records, reason in ((b"value", "one bytes"), ("text", "one str"), (bytearray(2), "one bytearray"),
                                    ({b"k": b"v"}, r"\.items\(\)"), ([1], "record 0.*not int"), ([None], "not NoneType"),
                                    ([b"", [b"k", b"v"]], "record 1.*not list"), ([(b"k",)], "tuple of 1"),
                                    ([(1, b"", b"", b"")], "tuple of 4"), ([("PUT", b"", b"")], "op of record 0"),
                                    ([(b"k", 5)], "value of record 0.*not int"), (5, "not iterable")):
                with self.subTest(records), self.assertRaisesRegex(TypeError, reason):
                    wal.append_batch(records)
            with self.assertRaises(TypeError):
                wal.append(5)
            self.assertEqual(wal.stat().last_seq, 0)

    def test_op_out_of_range_is_refused(self):
        with Wal(self.path) as wal:
            for op in (0, 3, 127, 256, -1, 1 << 40):
                for call in (lambda: wal.append(b"", op=op), lambda: wal.append_batch([(op, b"", b"")]),
                             lambda: wal.append_batch([b"", (op, b"", b"")])):
                    with self.subTest(op), self.assertRaises(duralog.InvalidArgument):
                        call()
            self.assertEqual(wal.stat().last_seq, 0)

    def test_empty_batch_and_record_over_the_limit_are_refused(self):
        with Wal(self.path) as wal:
            for empty in ([], (), iter(())):
                with self.assertRaises(duralog.EmptyBatch):
                    wal.append_batch(empty)
            large = bytes(67_108_853)
            with self.assertRaises(duralog.TooLarge):
                wal.append(large)
            with self.assertRaisesRegex(duralog.TooLarge, "record 1"):
                wal.append_batch([b"", large])
            self.assertEqual(wal.append(b"usable"), 1)

    def test_batch_of_100_000_records_is_one_batch(self):
        records = [(b"key %d" % n, b"value %d" % n * (n % 7)) for n in range(100_000)]
        with Wal(self.path) as wal:
            self.assertEqual(wal.append_batch(records), 100_001)
            self.assertEqual(wal.append_batch(b"%d" % n for n in range(100_000)), 200_002)
            first, second = wal.batches()
            self.assertEqual([(r.key, r.value) for r in first.records], records)
            self.assertEqual([r.value for r in second.records], [b"%d" % n for n in range(100_000)])
            self.assertEqual([r.seq for r in second.records], list(range(100_002, 200_002)))
            self.assertEqual(wal.stat().batch_count, 2)
        self.assertEqual(len(by_format(self.path)), 200_000)


class SubclassOfBytes(bytes):
    def __len__(self):
        return 1  # who believes it writes a wrong record


class Reading(Case):
    def setUp(self):
        super().setUp()
        self.wal = Wal(self.path, sync="manual", segment_bytes_max=65536)
        self.addCleanup(self.wal.close)

    def test_pages_of_all_sizes_give_every_record_once(self):
        """Values of 0 to 200,000 bytes, so that pages end by count and by bytes, and files rotate."""
        expected = []
        for n in range(300):
            size = (n * n * 7919) % 200_000 if n % 10 == 0 else n % 50
            records = [(b"%d/%d" % (n, index), bytes([n % 256]) * size) for index in range(n % 9 + 1)]
            expected += records
            self.wal.append_batch(records)
        self.assertGreater(self.wal.stat().rotation_count, 3)
        self.assertEqual([row[2:] for row in self.wal.tuples()], expected)
        self.assertEqual(list(self.wal.values()), [value for _, value in expected])
        self.assertEqual([(r.key, r.value) for r in self.wal.iterate()], expected)
        self.assertEqual([row[2:] for row in by_format(self.path)], expected)

    def test_values_of_one_length_alone_and_among_others(self):
        expected = []
        for count, sizes in ((1, [8]), (63, [8]), (64, [8]), (65, [8]), (3000, [8]), (200, [0]), (200, [5]), (200, [5, 6])):
            values = [os.urandom(sizes[n % len(sizes)]) for n in range(count)]
            self.wal.append_batch([(b"key", value) for value in values])
            expected += values
            self.assertEqual(list(self.wal.values(self.wal.stat().last_seq - count - 1)), values)
        self.assertEqual(list(self.wal.values()), expected)
        self.assertEqual([row[2:] for row in self.wal.tuples()], [(b"key", value) for value in expected])

    def test_records_have_number_batch_time_kind(self):
        before = datetime.datetime.now(datetime.timezone.utc)
        self.wal.append(b"single", b"k")
        self.wal.append_batch([b"a", b"b"])
        after = datetime.datetime.now(datetime.timezone.utc)
        single, a, b = self.wal.iterate()
        self.assertEqual((single.seq, single.op, single.key, single.value), (1, duralog.PUT, b"k", b"single"))
        self.assertEqual((a.batch_id, a.time_ns), (b.batch_id, b.time_ns))
        self.assertLess(single.batch_id, a.batch_id)
        self.assertEqual((single.kind, single.committed), (duralog.KIND_RECORD, True))
        self.assertLessEqual(before - datetime.timedelta(microseconds=1), single.time)
        self.assertLessEqual(single.time, after)
        self.assertEqual(single.time.utcoffset(), datetime.timedelta(0))
        with self.assertRaises(AttributeError):
            single.seq = 5

    def test_after_seq_resumes(self):
        for n in range(1, 11):
            self.wal.append(b"%d" % n)
        self.assertEqual([r.seq for r in self.wal.iterate(7)], [8, 9, 10])
        self.assertEqual(list(self.wal.values(7)), [b"8", b"9", b"10"])
        self.assertEqual([r[0] for r in self.wal.tuples(10)], [])
        self.assertEqual([r[0] for r in self.wal.tuples(1000)], [])

    def test_raw_iteration_shows_the_marks(self):
        self.wal.append_batch([b"a", b"b"])
        self.wal.checkpoint(b"saved")
        self.assertEqual([(r.seq, r.kind, r.value) for r in self.wal.iterate(raw=True)],
                         [(1, duralog.KIND_RECORD, b"a"), (2, duralog.KIND_RECORD, b"b"), (3, duralog.KIND_COMMIT, b""),
                          (4, duralog.KIND_CHECKPOINT, b"saved")])

    def test_mapped_iteration_gives_the_same(self):
        while self.wal.stat().segment_count < 3:
            self.wal.append_batch([b"a" * 1000, b"b" * 1000])
        self.assertEqual(list(self.wal.tuples(mapped=True)), list(self.wal.tuples()))
        self.assertEqual(list(self.wal.iterate(raw=True, mapped=True)), list(self.wal.iterate(raw=True)))
        with self.wal.cursor(after_seq=5, mapped=True) as cursor:
            self.assertEqual(list(cursor), list(self.wal.iterate(5)))

    def test_batches_are_whole_and_separate(self):
        self.wal.append(b"x")
        self.wal.append_batch([b"a", b"b"])
        self.wal.append_batch([b"c"])
        batches = list(self.wal.batches())
        self.assertEqual([[r.value for r in batch.records] for batch in batches], [[b"x"], [b"a", b"b"], [b"c"]])
        self.assertEqual([batch.batch_id for batch in batches], [batch.records[0].batch_id for batch in batches])
        self.assertEqual(batches[0].time, batches[0].records[0].time)
        self.assertEqual([r.value for r in next(self.wal.batches(2)).records], [b"b"])

    def test_replay_calls_back_until_false_and_tells_the_place(self):
        self.assertEqual(self.wal.replay(lambda record: None), 0)
        self.wal.append_batch([b"a", b"b", b"c"])
        seen = []
        self.assertEqual(self.wal.replay(seen.append), 3)
        self.assertEqual([record.value for record in seen], [b"a", b"b", b"c"])
        self.assertEqual(self.wal.replay(lambda record: record.value < b"b"), 2)
        self.assertEqual(self.wal.replay(lambda record: 0, after_seq=1), 3)  # 0 is not False
        with self.assertRaisesRegex(ZeroDivisionError, "division"):
            self.wal.replay(lambda record: 1 // 0)

    def test_callback_may_use_the_log(self):
        self.wal.append_batch([b"a", b"b"])

        def copy(record):
            if len(record.value) < 3:
                self.wal.append(record.value + b"+")

        self.wal.replay(copy)  # it also sees what it appends
        self.assertEqual([row[3] for row in self.wal.tuples()], [b"a", b"b", b"a+", b"b+", b"a++", b"b++"])

    def test_cursor_goes_on_where_it_was_and_when_the_log_grows(self):
        with self.wal.cursor() as cursor:
            self.assertEqual(list(cursor), [])
            self.wal.append_batch([b"a", b"b", b"c"])
            for record in cursor:
                break
            self.assertEqual(record.value, b"a")
            self.assertEqual([r.value for r in cursor], [b"b", b"c"])
            self.wal.append(b"d")
            self.assertEqual([r.value for r in cursor], [b"d"])
        with self.assertRaises(duralog.Closed):
            list(cursor)

    def test_what_was_read_stays_when_the_cursor_moves_on(self):
        self.wal.append_batch([b"%05d" % n for n in range(5000)])
        with self.wal.cursor() as cursor:
            records = list(cursor)
        self.wal.close()
        self.assertEqual([r.value for r in records], [b"%05d" % n for n in range(5000)])

    def test_numbers_that_do_not_fit_are_refused_and_not_cut(self):
        for call in (self.wal.iterate, self.wal.tuples, self.wal.cursor, self.wal.truncate, self.wal.batch_status):
            for number in (-1, 1 << 64):
                with self.assertRaises(duralog.InvalidArgument):
                    call(number)
            with self.assertRaises(TypeError):
                call("1")
        with self.assertRaises(duralog.InvalidArgument):
            Wal(self.path + "2", application_id=1 << 32)


class Keeping(Case):
    def test_checkpoints_of_any_size_come_back(self):
        with Wal(self.path) as wal:
            self.assertIsNone(wal.last_checkpoint())
            for data in (b"", b"saved", bytes(4096), os.urandom(4097), os.urandom(1 << 20)):
                seq = wal.checkpoint(data)
                self.assertEqual(wal.last_checkpoint(), duralog.Checkpoint(seq, data))
        with Wal(self.path, read_only=True) as wal:
            self.assertEqual(wal.last_checkpoint().data, data)
            self.assertEqual(wal.stat().checkpoint_seq, 5)

    def test_truncated_records_never_come_back(self):
        with Wal(self.path, sync="manual", segment_bytes_max=65536) as wal:
            for n in range(100):
                wal.append_batch([bytes(4000)])
            self.assertGreater(wal.stat().segment_count, 3)
            wal.truncate(101)
            self.assertEqual(next(wal.tuples())[0], 103)
            self.assertEqual(wal.stat().truncated_seq, 101)
            wal.truncate(200)
            self.assertEqual(list(wal.tuples()), [])
            self.assertEqual(wal.stat().segment_count, 1)
            with self.assertRaises(duralog.InvalidArgument):
                wal.truncate(201)
        with Wal(self.path) as wal:
            self.assertEqual(list(wal.tuples()), [])
            self.assertEqual(wal.append(b"next"), 201)

    def test_stat_counts(self):
        with Wal(self.path, application_id=77) as wal:
            wal.append_batch([b"a", b"b"])
            wal.append(b"c")
            wal.sync()
            stat = wal.stat()
        self.assertEqual((stat.application_id, stat.last_seq, stat.batch_count, stat.record_count), (77, 4, 2, 3))
        self.assertEqual((stat.segment_count, stat.first_segment, stat.last_segment), (1, 1, 1))
        self.assertEqual(stat.written_lsn, stat.durable_lsn)
        self.assertEqual(len(stat.log_id), 16)
        self.assertEqual(stat.log_id, duralog_format.open_log(self.path).log_id)

    def test_recovery_report_tells_what_was_cut(self):
        with Wal(self.path) as wal:
            self.assertEqual(wal.recovery_report().verdict, "CLEAN_END")
            wal.append(b"kept")
        copy = bytearray(self.segment())
        with Wal(self.path) as wal:
            wal.append(b"torn by the crash")
        self.write_segment(bytes(copy[:4096 + 80]) + self.segment()[4096 + 80:4096 + 170])
        for name in ("control", "tail"):
            os.remove(os.path.join(self.path, name))
        with self.assertRaises(duralog.Unclean):
            Wal(self.path, recovery="strict")
        with Wal(self.path) as wal:
            report = wal.recovery_report()
            self.assertEqual([row[3] for row in wal.tuples()], [b"kept"])
        self.assertEqual((report.verdict, report.row, report.control_state), ("TORN", "T", "lost"))
        self.assertTrue(report.repaired)
        self.assertGreater(report.dropped_bytes, 0)
        self.assertEqual((report.segment, report.next_seq), (1, 2))
        self.assertNotEqual(report.reason, "")

    def segment(self):
        with open(os.path.join(self.path, f"{1:020}.wal"), "rb") as file:
            return file.read()

    def write_segment(self, data):
        with open(os.path.join(self.path, f"{1:020}.wal"), "wb") as file:
            file.write(data)


class Errors(Case):
    def test_open_flags(self):
        with self.assertRaises(duralog.NotFound) as caught:
            Wal(self.path, must_exist=True)
        self.assertIsInstance(caught.exception, FileNotFoundError)
        self.assertEqual(caught.exception.errno, errno.ENOENT)
        with self.assertRaises(duralog.NotFound):
            Wal(self.path, read_only=True)
        self.assertFalse(os.path.exists(self.path))
        Wal(self.path, must_create=True).close()
        with self.assertRaises(duralog.Exists) as caught:
            Wal(self.path, must_create=True)
        self.assertIsInstance(caught.exception, FileExistsError)

    def test_paths_of_every_kind(self):
        class Path:
            def __init__(self, path):
                self.path = path

            def __fspath__(self):
                return self.path

        odd = os.fsdecode(os.fsencode(self.path) + b"\xff\xfe")
        for path in (self.path, os.fsencode(self.path), Path(self.path), odd):
            with Wal(path) as wal:
                wal.append(b"x")
                self.assertEqual(wal.path, os.fsdecode(path))
        self.assertTrue(os.path.isdir(odd))
        with self.assertRaises(duralog.InvalidArgument):
            Wal(self.path + "\0tail")
        with self.assertRaises(duralog.InvalidArgument):
            Wal("")
        with self.assertRaises(TypeError):
            Wal(5)

    def test_options_that_are_wrong(self):
        for options in ({"sync": "sometimes"}, {"sync": None}, {"recovery": "hope"}, {"segment_bytes_max": 1},
                        {"segment_bytes_max": -1}, {"sync_interval_ms": 1 << 32}, {"recovery": "salvage"}):
            with self.subTest(options), self.assertRaises(duralog.InvalidArgument) as caught:
                Wal(self.path, **options)
            self.assertIsInstance(caught.exception, ValueError)
        Wal(self.path, application_id=5).close()
        with self.assertRaises(duralog.InvalidArgument):
            Wal(self.path, application_id=6)

    def test_sync_modes_append(self):
        for mode in ("every", "interval", "manual"):
            with Wal(self.path, sync=mode, sync_interval_batches=2, sync_interval_ms=5) as wal:
                wal.append(b"x")
                wal.sync()
                self.assertEqual(wal.stat().durable_lsn, wal.stat().written_lsn)
                wal.append(b"x", durable=True)
                self.assertEqual(wal.stat().durable_lsn, wal.stat().written_lsn)

    def test_second_writer_in_this_process_is_busy_and_harms_nothing(self):
        with Wal(self.path) as wal:
            wal.append(b"a")
            with self.assertRaises(duralog.Busy) as caught:
                Wal(self.path)
            self.assertEqual((caught.exception.status, caught.exception.name), (-4, "DURALOG_E_BUSY"))
            self.assertIn(str(os.getpid()), caught.exception.message)
            wal.append(b"b")
        with Wal(self.path) as wal:
            self.assertEqual([row[3] for row in wal.tuples()], [b"a", b"b"])

    def test_second_writer_in_another_process_is_busy_and_harms_nothing(self):
        source = ("import duralog, sys\n"
                  "try: duralog.Wal(sys.argv[1])\n"
                  "except duralog.Busy as error: print(error.message)\n")
        with Wal(self.path) as wal:
            wal.append(b"a")
            other = python(source, self.path)
            self.assertIn(str(os.getpid()), other.stdout, other.stderr)
            wal.append(b"b")
        self.assertEqual(python(source, self.path).stdout, "")
        self.assertEqual([row[3] for row in by_format(self.path)], [b"a", b"b"])

    def test_reader_does_not_write(self):
        with Wal(self.path) as writer, Wal(self.path, read_only=True) as reader:
            writer.append(b"x")
            self.assertEqual([row[3] for row in reader.tuples()], [b"x"])
            for call in (lambda: reader.append(b""), lambda: reader.append_batch([b""]), reader.sync,
                         reader.checkpoint, lambda: reader.truncate(1)):
                with self.assertRaises(duralog.ReadOnly):
                    call()

    def test_not_a_log(self):
        os.mkdir(self.path)
        with open(os.path.join(self.path, f"{1:020}.wal"), "wb") as file:
            file.write(b"something else" * 1000)
        with self.assertRaises(duralog.NotALog):
            Wal(self.path)

    def test_corruption_names_the_place_and_is_read_up_to_it(self):
        with Wal(self.path) as wal:
            for n in range(5):
                wal.append(b"value %d" % n)
        segment = os.path.join(self.path, f"{1:020}.wal")
        with open(segment, "r+b") as file:
            offset = file.read().index(b"value 2")
            file.seek(offset)
            file.write(b"VALUE")
        for how in (lambda: Wal(self.path), lambda: self.read()):
            with self.assertRaises(duralog.Corrupt) as caught:
                how()
            error = caught.exception
            self.assertEqual((error.segment, error.offset), (1, offset - 12 - 64))
            self.assertEqual(error.lsn, error.offset)
            self.assertTrue(error.path.startswith(self.path), error.path)
        self.assertEqual(self.found, [b"value 0", b"value 1"])

        self.assertEqual(duralog.verify(self.path).verdict, "CORRUPT")
        with Wal(self.path, read_only=True, recovery="salvage") as wal:
            salvaged = list(wal)
        self.assertEqual([r.value for r in salvaged if r.kind == duralog.KIND_RECORD],
                         [b"value 0", b"value 1", b"value 3", b"value 4"])
        self.assertIn(duralog.KIND_GAP, [r.kind for r in salvaged])
        repair = duralog.repair(self.path)
        self.assertEqual((repair.before.verdict, repair.after.verdict), ("CORRUPT", "CLEAN_END"))
        with Wal(self.path) as wal:
            self.assertEqual([row[3] for row in wal.tuples()], [b"value 0", b"value 1"])

    def read(self):
        self.found = []
        with Wal(self.path, read_only=True) as wal:
            for row in wal.tuples():
                self.found.append(row[3])

    def test_verify_tells_progress_and_stops(self):
        with Wal(self.path, sync="manual", segment_bytes_max=65536) as wal:
            for _ in range(100):
                wal.append(bytes(5000))
        seen = []
        self.assertEqual(duralog.verify(self.path, lambda *progress: seen.append(progress)).verdict, "CLEAN_END")
        self.assertTrue(seen)
        self.assertIsNone(duralog.verify(self.path, lambda done, total: False))
        with self.assertRaises(ZeroDivisionError):
            duralog.verify(self.path, lambda done, total: 1 // 0)
        with self.assertRaises(duralog.NotFound):
            duralog.verify(self.path + "2")
        self.assertEqual(duralog.repair(self.path).before.verdict, "CLEAN_END")

    def test_full_disk_fails_one_append_and_the_log_goes_on(self):
        """No file of that process may grow beyond a limit, which is what a full disk looks like."""
        done = python(
            "import duralog, resource, sys\n"
            "wal = duralog.Wal(sys.argv[1])\n"
            "wal.append(b'before')\n"
            "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))\n"
            "try: wal.append(bytes(2 << 20))\n"
            "except duralog.Full as error: print(isinstance(error, OSError), error.os_error == error.errno)\n"
            "wal.append(b'small')\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
            "wal.append(bytes(2 << 20))\n"
            "wal.close()\n", self.path)
        self.assertEqual((done.stdout, done.stderr), ("True True\n", ""))
        self.assertEqual([len(row[3]) for row in by_format(self.path)], [6, 5, 2 << 20])

    def test_failed_write_is_indeterminate_then_poisoned_and_settled_after_reopening(self):
        wal = Wal(self.path)
        wal.append(b"before")
        written = next(wal.iterate()).batch_id
        for fd in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{fd}").startswith(self.path) and ".wal" in os.readlink(f"/proc/self/fd/{fd}"):
                    os.dup2(self.read_only_fd(), int(fd))  # as if the device had gone: each write fails
            except FileNotFoundError:
                pass
        with self.assertRaises(duralog.Indeterminate) as caught:
            wal.append(b"lost")
        error = caught.exception
        self.assertGreater(error.batch_id, written)
        self.assertEqual(error.os_error, errno.EBADF)
        for call in (lambda: wal.append(b""), lambda: wal.append_batch([b""]), wal.sync):
            with self.assertRaises(duralog.Poisoned):
                call()
        with self.assertRaises(duralog.DuralogError):
            wal.close()
        self.assertTrue(wal.closed)
        with Wal(self.path) as wal:
            self.assertEqual(wal.batch_status(error.batch_id), "absent")
            self.assertEqual(wal.batch_status(written), "committed")
            self.assertEqual([row[3] for row in wal.tuples()], [b"before"])

    def read_only_fd(self):
        fd = os.open(os.devnull, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        return fd

    def test_errors_survive_pickling_with_their_fields(self):
        for kind in duralog._errors.CLASSES.values():
            error = kind("the text", segment=1, offset=2, lsn=3, path="p", os_error=5)
            again = pickle.loads(pickle.dumps(error))
            self.assertIs(type(again), kind)
            self.assertEqual(vars(again), vars(error))
            self.assertEqual(str(again), f"{error.name}: the text")

    def test_unknown_status_is_a_plain_error(self):
        error = duralog.DuralogError("new", status=-999)
        self.assertEqual((error.status, error.name), (-999, "DURALOG_E_UNKNOWN"))


class Processes(Case):
    def test_reader_beside_a_live_writer_sees_whole_batches_only(self):
        source = ("import duralog, sys, itertools\n"
                  "with duralog.Wal(sys.argv[1], sync='manual', segment_bytes_max=65536) as wal:\n"
                  "    wal.append(b'0')\n"
                  "    print('ready', flush=True)\n"
                  "    for n in range(1, 2000):\n"
                  "        wal.append_batch([b'%d/%d' % (n, index) for index in range(n % 50 + 2)])\n"
                  "        if n % 100 == 0: wal.sync()\n")
        with subprocess.Popen(command(source, self.path), stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            with Wal(self.path, read_only=True) as reader, reader.cursor() as follower:
                looks, followed = 0, []
                while True:
                    ended = writer.poll() is not None
                    found = [[r.value for r in batch.records] for batch in reader.batches()]
                    self.assertEqual(found, [[b"0"], *whole_batches(len(found))])
                    followed += [r.value for r in follower]
                    looks += 1
                    if ended:
                        break
        self.assertEqual(writer.returncode, 0)
        self.assertEqual(len(found), 2000)
        self.assertEqual(followed, [value for batch in found for value in batch])
        self.assertGreater(looks, 1)

    @unittest.skipUnless(os.path.isfile(RECEIPTS), f"no {RECEIPTS}: set DURALOG_RECEIPTS")
    def test_receipts_one_batch_per_case_come_back_byte_for_byte(self):
        cases = {}
        with open(RECEIPTS, "rb") as file:
            for line in file:
                cases.setdefault(json.loads(line)["stream_id"].encode(), []).append(line)
        with Wal(self.path, segment_bytes_max=1 << 20, sync="interval") as wal:
            for case, lines in cases.items():
                wal.append_batch([(case, line) for line in lines])
        expected = [(case, line) for case, lines in cases.items() for line in lines]
        self.assertEqual(len(expected), 8577)
        with Wal(self.path, read_only=True) as wal:
            self.assertEqual([row[2:] for row in wal.tuples()], expected)
            self.assertEqual([(batch.records[0].key, [r.value for r in batch.records]) for batch in wal.batches()],
                             list(cases.items()))
        self.assertEqual([row[2:] for row in by_format(self.path)], expected)


def whole_batches(count):
    return [[b"%d/%d" % (n, index) for index in range(n % 50 + 2)] for n in range(1, count)]


if __name__ == "__main__":
    unittest.main()
