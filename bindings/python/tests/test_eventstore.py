"""`EventStore` from outside: what is appended comes back, in every form and selection; what does not hold is
reported together; what comes twice is written once; what can't go in is refused with the reason. Stores are
also read by `duralog.format`, which shares nothing with the library.
"""

import array
import copy
import dataclasses
import datetime
import gc
import os
import pickle
import random
import shutil
import threading
import unittest
import uuid
import warnings

import duralog
from duralog import (ANY, EXISTS, NONE, Closed, Condition, Conflict, EventStore, IndexReport, NewEvent, Query, QueryItem,
                     StreamInfo)
from duralog import format as duralog_format
from duralog._cursor import pages
from duralog._events import events_of
from support import Case, python

UTC = datetime.timezone.utc
CEST = datetime.timezone(datetime.timedelta(hours=2))
SEED = random.randrange(1 << 32)
ID, OTHER_ID, THIRD_ID = (uuid.UUID(int=number) for number in (1, 2, 3))


def positions(events):
    return [event.position for event in events]


def numbered(count, stream="a", kind="T"):
    return [NewEvent(stream, kind, b"%d" % number) for number in range(count)]


class Opening(Case):
    def test_choices_are_those_of_a_log(self):
        with self.assertRaises(duralog.NotFound):
            EventStore(self.path, must_exist=True)
        with EventStore(self.path, must_create=True, application_id=7, segment_bytes_max=65536) as store:
            with self.assertRaises(duralog.Busy):
                EventStore(self.path)
            store.append([NewEvent("a", "T", bytes(1000)) for _ in range(100)])
            store.append([NewEvent("a", "T", bytes(1000)) for _ in range(100)])
            self.assertEqual((store.wal_stat().application_id, store.wal_stat().segment_count), (7, 2))
            self.assertEqual((store.stat().last_position, len(store.stat().log_id)), (200, 16))
            self.assertEqual(store.recovery_report().verdict, "CLEAN_END")
            self.assertEqual(store.path, self.path)
        for bad in ({"must_create": True}, {"application_id": 8}, {"sync": "?"}, {"recovery": 5}, {"segment_bytes_max": -1}):
            with self.assertRaises(duralog.DuralogError):
                EventStore(self.path, **bad)

    def fill(self):
        with EventStore(self.path, sync="manual") as store:
            for number in range(20):
                store.append([NewEvent(f"account-{number % 3}", "opened", b"%d" % number) for _ in range(100)])

    def test_mapped_reading_gives_the_same(self):
        self.fill()
        with EventStore(self.path) as plain:
            expected = list(plain.tuples())
            one = [event.data for event in plain.read_stream("account-1")]
        for read_only in (False, True):
            with EventStore(self.path, mapped=True, read_only=read_only) as store:
                self.assertEqual(list(store.tuples()), expected)
                self.assertEqual([event.data for event in store.read_stream("account-1")], one)
                stat = store.stat()
                self.assertEqual(stat.last_position, 2000)
                self.assertEqual(stat.work_total, 0)

    def test_progress_is_told_while_the_index_is_made_and_can_stop_it(self):
        self.fill()
        shutil.rmtree(os.path.join(self.path, "index"))
        with self.assertRaises(InterruptedError):
            EventStore(self.path, progress=lambda done, total: False)
        with self.assertRaises(ZeroDivisionError):
            EventStore(self.path, progress=lambda done, total: 1 // 0)
        told = []
        with EventStore(self.path, progress=lambda done, total: told.append((done, total))) as store:
            self.assertEqual(store.stat().last_position, 2000)
        self.assertTrue(told)
        self.assertEqual(told, sorted(told))
        self.assertLessEqual(told[-1][0], told[-1][1])


class Verifying(Case):
    def setUp(self):
        super().setUp()
        with EventStore(self.path) as store:
            store.append([NewEvent(f"s-{n % 3}", "Counted", b"data", tags=["tag"]) for n in range(3000)])

    def test_a_sound_index_is_found_sound(self):
        told = []
        for read_only in (False, True):
            with EventStore(self.path, read_only=read_only) as store:
                report = store.verify_index(lambda done, total: told.append((done, total)))
                self.assertEqual(report, IndexReport(run_count=1, damaged_run_count=0, event_count=3000, key_count=6,
                                                     damaged_file="", damaged_block=0, reason=""))
        self.assertEqual(told[-1][0], told[-1][1])
        with self.assertRaises(Closed):
            store.verify_index()

    def test_damage_is_reported_and_nothing_is_changed(self):
        with EventStore(self.path) as store:
            name, = os.listdir(os.path.join(self.path, "index"))
            with open(os.path.join(self.path, "index", name), "r+b") as run:
                run.seek(4096 + 100)
                byte, = run.read(1)
                run.seek(4096 + 100)
                run.write(bytes([byte ^ 1]))
            for _ in range(2):
                report = store.verify_index()
                self.assertEqual((report.run_count, report.damaged_run_count), (1, 1))
                self.assertEqual((report.damaged_file, report.damaged_block), (name, 1))
                self.assertEqual(report.reason, "the checksum does not hold")
        shutil.rmtree(os.path.join(self.path, "index"))
        with EventStore(self.path) as store:
            self.assertEqual(store.verify_index().damaged_run_count, 0)

    def test_it_stops_when_it_is_asked_to(self):
        with EventStore(self.path) as store:
            self.assertIsNone(store.verify_index(lambda done, total: False))
            with self.assertRaises(ZeroDivisionError):
                store.verify_index(lambda done, total: 1 // 0)
            self.assertEqual(store.verify_index(lambda done, total: None).damaged_run_count, 0)


class Appending(Case):
    def test_every_field_comes_back_after_reopening_and_in_the_other_reader(self):
        occurred = datetime.datetime(2010, 10, 2, 9, 20, 39, 266001, tzinfo=CEST)
        with EventStore(self.path) as store:
            receipt = store.append([
                NewEvent("case-1", "Opened"),
                NewEvent("Käse-2", "Größer", b"\0\xff", b"{}", ["b:2", "ä", "a:1", "a:1"], ID, occurred, OTHER_ID,
                         THIRD_ID.bytes, (1 << 64) - 1, "application/json"),
                NewEvent("case-1", "Closed", b"last", tags={"x" * 200}, occurred=-3)])
        self.assertEqual((receipt.first_position, receipt.last_position, receipt.duplicate), (1, 3, False))
        self.assertEqual(receipt.stream_versions, {"case-1": 2, "Käse-2": 1})
        self.assertEqual(receipt.time.tzinfo, UTC)
        with EventStore(self.path, must_exist=True, read_only=True) as store:
            first, second, third = store.read_all()
            self.assertEqual(store.batch_status(receipt.batch_id), "committed")
        self.assertEqual((first.position, first.stream, first.stream_version, first.type), (1, "case-1", 1, "Opened"))
        self.assertEqual((first.data, first.metadata, first.tags, first.occurred, first.occurred_ns, first.correlation_id,
                          first.causation_id, first.schema_version, first.content_type),
                         (b"", b"", (), None, None, None, None, 0, ""))
        self.assertEqual((first.has_own_id, first.first_of_batch, first.last_of_batch), (False, True, False))
        self.assertEqual((second.stream, second.category, second.type), ("Käse-2", "Käse", "Größer"))
        self.assertEqual((second.data, second.metadata, second.json), (b"\0\xff", b"{}", second.json))
        self.assertEqual(second.tags, ("a:1", "b:2", "ä"))
        self.assertEqual((second.id, second.correlation_id, second.causation_id), (ID, OTHER_ID, THIRD_ID))
        self.assertEqual((second.occurred, second.occurred.tzinfo), (occurred, UTC))
        self.assertEqual((second.schema_version, second.content_type), ((1 << 64) - 1, "application/json"))
        self.assertTrue(second.has_own_id)
        self.assertEqual((third.stream_version, third.tags, third.occurred_ns), (2, ("x" * 200,), -3))
        self.assertEqual((third.first_of_batch, third.last_of_batch), (False, True))
        self.assertEqual({event.time_ns for event in (first, second, third)}, {receipt.time_ns})
        fields = ("position", "stream", "stream_version", "type", "tags", "schema_version", "content_type", "occurred_ns",
                  "metadata", "data", "time_ns", "has_own_id", "first_of_batch", "last_of_batch")
        for event, other in zip((first, second, third), duralog_format.open_events(self.path).events()):
            self.assertEqual([getattr(event, name) for name in fields], [getattr(other, name) for name in fields])
            self.assertEqual((event.id_bytes, event.correlation_id_bytes, event.causation_id_bytes),
                             (other.id, other.correlation_id, other.causation_id))

    def test_events_of_every_form(self):
        numbers = array.array("I", [1, 2])
        forms = {
            "bytes": ([NewEvent("a", "T", b"x")], [b"x"]),
            "buffers": ([NewEvent("a", "T", data) for data in
                         (bytearray(b"abc"), memoryview(b"abcdef")[::2], numbers, memoryview(numbers), b"")],
                        [b"abc", b"ace", numbers.tobytes(), numbers.tobytes(), b""]),
            "generator": ((event for event in numbered(3)), [b"0", b"1", b"2"]),
            "keywords": ([NewEvent(stream="a", type="T", data=b"x", id=uuid.uuid4())], [b"x"]),
            "many": (numbered(10_000), [b"%d" % n for n in range(10_000)]),
        }
        with EventStore(self.path, sync="manual") as store:
            for name, (events, expected) in forms.items():
                with self.subTest(name):
                    before = store.last_position()
                    receipt = store.append(events)
                    self.assertEqual((receipt.first_position, receipt.last_position),
                                     (before + 1, before + len(expected)))
                    self.assertEqual([event.data for event in store.read_all(before + 1)], expected)

    def test_columns_say_of_each_event_only_what_it_says(self):
        """Every optional field, given by every subset of three events."""
        values = {"data": (b"x", b""), "metadata": (b"m", b""), "tags": (("t",), ()), "id": (None, None),
                  "occurred": (7, None), "correlation_id": (ID, None), "causation_id": (ID, None),
                  "schema_version": (5, 0), "content_type": ("text/plain", "")}
        with EventStore(self.path, sync="manual") as store:
            for name, (some, none) in values.items():
                for subset in range(8):
                    given = [bool(subset >> index & 1) for index in range(3)]
                    made = [uuid.uuid4() if name == "id" and has else some if has else none for has in given]
                    before = store.last_position()
                    store.append([NewEvent("a", "T", **{name: value}) for value in made])
                    events = list(store.read_all(before + 1))
                    if name == "id":
                        self.assertEqual([event.has_own_id for event in events], given)
                        found = [event.id if has else None for event, has in zip(events, given)]
                    else:
                        found = [getattr(event, name + "_ns" if name == "occurred" else name) for event in events]
                    self.assertEqual(found, made, name)

    def test_tags_of_every_length(self):
        tags = ["%03d" % length + "x" * (length - 3) for length in range(3, 256)]
        with EventStore(self.path, sync="manual") as store:
            for begin in range(0, len(tags), 64):
                some = tuple(tags[begin:begin + 64])
                store.append([NewEvent("a", "T", tags=some)])
                self.assertEqual(store.event_at(store.last_position()).tags, some)
                self.assertEqual(next(store.read_all(backward=True)).tags, some)
            self.assertEqual([name.name for name in store.tags()], tags)

    def test_ids_of_all_kinds_in_one_append(self):
        ids = [uuid.uuid4() for _ in range(8)]
        forms = ([*ids], [id.bytes for id in ids], [id.bytes if n % 2 else id for n, id in enumerate(ids)],
                 [bytearray(id.bytes) for id in ids])
        for form in forms:
            with EventStore(self.path + str(id(form)), sync="manual") as store:
                store.append([NewEvent("a", "T", id=some, correlation_id=some) for some in form])
                self.assertEqual([(event.id, event.correlation_id) for event in store], list(zip(ids, ids)))
                for bad in (form[:7] + [bytes(16)], form[:7] + [b"short"], form[:7] + [uuid.UUID(int=0)], form[:7] + ["x"]):
                    with self.assertRaisesRegex((ValueError, TypeError), "causation_id of event 7"):
                        store.append([NewEvent("a", "T", causation_id=some) for some in bad])

    def test_str_where_bytes_are_meant_is_refused_and_bytes_where_text_is(self):
        with EventStore(self.path) as store:
            for call in (lambda: store.append([NewEvent("a", "T", "text")]),
                         lambda: store.append([NewEvent("a", "T", b"", "text")]),
                         lambda: store.append([], state={"key": b""}), lambda: store.append([], state={b"key": "text"}),
                         lambda: store.append(numbered(1), idempotency_key="key"), lambda: store.state("key")):
                with self.assertRaisesRegex(TypeError, r"is a str.*\.encode\(\)"):
                    call()
            with self.assertRaisesRegex(TypeError, "data of event 1"):
                store.append([NewEvent("a", "T", b""), NewEvent("a", "T", "text")])
            for call in (lambda: store.append([NewEvent(b"a", "T")]), lambda: store.append([NewEvent("a", b"T")]),
                         lambda: store.append([NewEvent("a", "T", tags=[b"t"])]),
                         lambda: store.append([NewEvent("a", "T", content_type=b"t")]),
                         lambda: store.append(numbered(1), expected={b"a": 0}),
                         lambda: store.append([], save_positions={b"a": 0}), lambda: store.read_stream(b"a"),
                         lambda: store.read_category(b"a"), lambda: store.stream_info(b"a"),
                         lambda: store.saved_position(b"a"), lambda: store.streams(b"a"),
                         lambda: QueryItem(types=[b"T"]), lambda: QueryItem(tags=[b"T"])):
                with self.assertRaisesRegex(TypeError, "must be a str, not bytes"):
                    call()
            self.assertEqual(store.last_position(), 0)

    def test_what_is_no_event_is_refused_with_its_number(self):
        good = NewEvent("a", "T")
        cases = [
            (TypeError, "one NewEvent: put it into a list", good), (TypeError, "not a str", "a"),
            (TypeError, "not a bytes", b"a"), (TypeError, "not a dict", {"stream": "a"}),
            (TypeError, "not iterable", 5), (TypeError, "event 1 must be a NewEvent, not tuple", [good, ("a", "T")]),
            (TypeError, "event 0 must be a NewEvent, not NoneType", [None]),
            (TypeError, "tags of event 1.*not str", [good, NewEvent("a", "T", tags="abc")]),
            (TypeError, "tags of event 0.*not generator", [NewEvent("a", "T", tags=(tag for tag in "abc"))]),
            (TypeError, "tags of event 0.*not NoneType", [NewEvent("a", "T", tags=None)]),
            (TypeError, "stream 0 must be a str, not NoneType", [NewEvent(None, "T")]),
            (TypeError, "content_type 1", [good, NewEvent("a", "T", content_type=None)]),
            (TypeError, "data of event 0.*not int", [NewEvent("a", "T", 5)]),
            (TypeError, "id of event 1.*not str", [good, NewEvent("a", "T", id=str(ID))]),
            (TypeError, "id of event 0.*not int", [NewEvent("a", "T", id=5)]),
            (ValueError, "id of event 0 has 4 bytes", [NewEvent("a", "T", id=b"1234")]),
            (ValueError, "id of event 0 is all zero", [NewEvent("a", "T", id=bytes(16))]),
            (ValueError, "correlation_id of event 0 is all zero", [NewEvent("a", "T", correlation_id=uuid.UUID(int=0))]),
            (ValueError, "schema_version of event 0", [NewEvent("a", "T", schema_version=-1)]),
            (TypeError, "schema_version of event 0", [NewEvent("a", "T", schema_version=None)]),
            (ValueError, "occurred of event 1 is 9223372036854775808", [good, NewEvent("a", "T", occurred=1 << 63)]),
            (TypeError, "occurred of event 0 must be a datetime or an int, not float", [NewEvent("a", "T", occurred=1.5)]),
            (TypeError, "occurred of event 0.*not str", [NewEvent("a", "T", occurred="2010-10-02")]),
            (ValueError, "stream 1 is no text that UTF-8 has", [good, NewEvent("\ud800", "T")]),
            (duralog.InvalidArgument, "stream", [NewEvent("", "T")]),
            (duralog.InvalidArgument, "stream", [NewEvent("a" * 1025, "T")]),
            (duralog.InvalidArgument, "event_type", [NewEvent("a", "")]),
            (duralog.InvalidArgument, "event_type", [NewEvent("a", "T" * 256)]),
            (duralog.InvalidArgument, "tag", [NewEvent("a", "T", tags=[""])]),
            (duralog.InvalidArgument, "65 tags", [NewEvent("a", "T", tags=[str(n) for n in range(65)])]),
            (duralog.InvalidArgument, "id", [NewEvent("a", "T", id=ID), NewEvent("a", "T", id=ID)]),
            (duralog.TooLarge, "event 1", [good, NewEvent("a", "T", bytes(67_108_864))]),
            (duralog.EmptyBatch, "", []), (duralog.EmptyBatch, "", iter(())),
        ]
        with EventStore(self.path) as store:
            for kind, reason, events in cases:
                with self.subTest(reason), self.assertRaisesRegex(kind, reason):
                    store.append(events)
            self.assertEqual(store.last_position(), 0)
            self.assertEqual(store.append([good]).first_position, 1)

    def test_naive_datetime_is_refused_and_others_keep_their_moment(self):
        class NoOffset(datetime.tzinfo):
            def utcoffset(self, when):
                return None

        with EventStore(self.path) as store:
            for naive in (datetime.datetime(2010, 10, 2), datetime.datetime(2010, 10, 2, tzinfo=NoOffset())):
                with self.assertRaisesRegex(duralog.InvalidArgument, "occurred of event 0.*without a time zone"):
                    store.append([NewEvent("a", "T", occurred=naive)])
            with self.assertRaises(TypeError):
                store.append([NewEvent("a", "T", occurred=datetime.date(2010, 10, 2))])
            with self.assertRaises(duralog.InvalidArgument):
                store.append([NewEvent("a", "T", occurred=datetime.datetime(9999, 1, 1, tzinfo=UTC))])
            moments = [datetime.datetime(1677, 9, 22, tzinfo=UTC), datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
                       datetime.datetime(2262, 4, 11, 23, 47, 16, 854775, UTC),
                       datetime.datetime(2010, 10, 2, 9, 20, 39, 266000, CEST), datetime.datetime(1970, 1, 1, tzinfo=UTC)]
            store.append([NewEvent("a", "T", occurred=moment) for moment in moments])
            self.assertEqual([event.occurred for event in store], moments)
            self.assertEqual([event.occurred.utcoffset() for event in store], [datetime.timedelta(0)] * len(moments))

    def test_durable_append_is_durable_when_the_store_syncs_by_hand(self):
        with EventStore(self.path, sync="manual") as store:
            store.append(numbered(1))
            stat = store.wal_stat()
            self.assertLess(stat.durable_lsn, stat.written_lsn)
            store.append(numbered(1), durable=True)
            stat = store.wal_stat()
            self.assertEqual(stat.durable_lsn, stat.written_lsn)
            store.append(numbered(1))
            store.sync()
            stat = store.wal_stat()
            self.assertEqual(stat.durable_lsn, stat.written_lsn)


class Preconditions(Case):
    def test_versions_expected_of_streams(self):
        with EventStore(self.path) as store:
            store.append(numbered(2), expected={"a": NONE, "b": ANY})
            store.append(numbered(1), expected={"a": 2, "b": NONE})
            store.append(numbered(1), expected={"a": EXISTS})
            for expected, actual in ((NONE, 4), (3, 4), (5, 4)):
                with self.assertRaises(duralog.ConcurrencyConflict) as caught:
                    store.append(numbered(1), expected={"a": expected})
                self.assertEqual(caught.exception.conflicts, (Conflict("stream", 0, "a", expected, actual),))
            with self.assertRaises(duralog.ConcurrencyConflict) as caught:
                store.append(numbered(1), expected={"b": EXISTS})
            self.assertEqual(caught.exception.conflicts, (Conflict("stream", 0, "b", EXISTS, 0),))
            for bad in (-3, 1 << 63, -(1 << 63) - 1):
                with self.assertRaises(duralog.InvalidArgument):
                    store.append(numbered(1), expected={"a": bad})
            with self.assertRaises(TypeError):
                store.append(numbered(1), expected={"a": "any"})
            self.assertEqual(store.last_position(), 4)

    def test_all_that_does_not_hold_is_reported_together_and_nothing_is_written(self):
        opened = Query([QueryItem(types=["Opened"], tags=["x"])])
        with EventStore(self.path) as store:
            store.append([NewEvent("ä", "Opened", tags=["x"])], save_positions={"p": 1})
            with self.assertRaises(duralog.ConcurrencyConflict) as caught:
                store.append([NewEvent("ä", "Closed")], expected={"b": 7, "ä": NONE},
                             conditions=[Condition(opened, 1), (opened, 0), (Query(), 0)],
                             save_positions={"q": 1, "p": 1}, state={b"k": b"v"})
            self.assertEqual(caught.exception.conflicts, (
                Conflict("stream", 0, "b", 7, 0), Conflict("stream", 1, "ä", 0, 1), Conflict("condition", 1, "", 0, 1),
                Conflict("condition", 2, "", 0, 1), Conflict("position", 1, "p", 1, 1)))
            self.assertEqual((store.last_position(), store.saved_position("q"), store.state(b"k")), (1, None, None))
            copy = pickle.loads(pickle.dumps(caught.exception))
            self.assertEqual((type(copy), copy.conflicts, str(copy)),
                             (duralog.ConcurrencyConflict, caught.exception.conflicts, str(caught.exception)))
            store.append([NewEvent("ä", "Closed")], conditions=[Condition(opened, 1)])

    def test_conditions_and_queries_of_wrong_form_are_refused(self):
        query = Query([QueryItem(types=["T"])])
        with EventStore(self.path) as store:
            for conditions, reason in (([query], "must be a Condition"), ([(query, 1, 2)], "must be a Condition"),
                                       ([("T", 1)], "must be a Query"), ([(query, "1")], "after of a condition")):
                with self.assertRaisesRegex(TypeError, reason):
                    store.append(numbered(1), conditions=conditions)
            with self.assertRaises(duralog.InvalidArgument):
                store.append(numbered(1), conditions=[(query, -1)])
            for item in (QueryItem(), QueryItem(types=[""]), QueryItem(tags=["t" * 256])):
                with self.assertRaises(duralog.InvalidArgument):
                    store.append(numbered(1), conditions=[(Query([item]), 0)])
                with self.assertRaises(duralog.InvalidArgument):
                    store.query(Query([item]))
            for call in (lambda: QueryItem(types="T"), lambda: QueryItem(tags="t"), lambda: Query(["T"]),
                         lambda: store.query("T"), lambda: store.query(QueryItem(types=["T"]))):
                with self.assertRaises(TypeError):
                    call()
            self.assertEqual(store.last_position(), 0)
        self.assertEqual(query, Query(iter([QueryItem(["T"])])))
        self.assertEqual(len({query, Query([QueryItem(["T"])]), Query()}), 2)
        with self.assertRaises(AttributeError):
            query.items = ()

    def test_decision_is_made_again_when_others_were_faster(self):
        seats = Query([QueryItem(["Taken"], ["course:c1"])])
        take = NewEvent("student-1", "Taken", tags=["course:c1"])
        with EventStore(self.path) as store:
            store.append([take, NewEvent("student-2", "Taken", tags=["course:c2"])])
            seen = []

            def with_rival(events):
                seen.append(positions(events))
                if len(seen) < 3:
                    store.append([take])
                return (event for event in [take])

            self.assertEqual(store.decide(seats, with_rival).last_position, 5)
            self.assertEqual(seen, [[1], [1, 3], [1, 3, 4]])
            self.assertIsNone(store.decide(seats, lambda events: []))
            with self.assertRaises(duralog.ConcurrencyConflict):
                store.decide(seats, lambda events: [store.append([take]), take][1:], attempts=3)
            self.assertEqual(store.last_position(), 8)
            with self.assertRaises(ZeroDivisionError):
                store.decide(seats, lambda events: 1 // 0)
            with self.assertRaises(duralog.InvalidArgument):
                store.decide(seats, lambda events: [take], attempts=0)

    def test_seats_are_never_sold_twice_by_threads_that_decide(self):
        seats = Query([QueryItem(["Taken"], ["course:c1"])])
        sold = []
        with EventStore(self.path, sync="manual") as store:

            def sell(name):
                def decision(events):
                    return [NewEvent(name, "Taken", tags=["course:c1"])] if len(events) < 20 else []
                while store.decide(seats, decision, attempts=1000) is not None:
                    sold.append(name)

            threads = [threading.Thread(target=sell, args=(f"student-{n}",)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            self.assertEqual((len(sold), store.last_position()), (20, 20))


class Repetition(Case):
    def test_same_ids_give_the_first_receipt_and_a_part_of_them_is_refused(self):
        events = [NewEvent("a", "T", b"1", id=ID), NewEvent("b", "T", b"2", id=OTHER_ID)]
        with EventStore(self.path) as store:
            first = store.append(events, expected={"a": NONE})
        with EventStore(self.path) as store:
            again = store.append(events, expected={"a": NONE})
            self.assertEqual((again.duplicate, again.batch_id), (True, 0))
            self.assertEqual((again.first_position, again.last_position, again.time_ns, again.stream_versions),
                             (first.first_position, first.last_position, first.time_ns, first.stream_versions))
            for part, known in ((events[:1], (ID,)), (events[::-1], (OTHER_ID, ID)),
                                ([events[0], NewEvent("a", "T", id=THIRD_ID)], (ID,)),
                                ([*events, NewEvent("a", "T")], (ID, OTHER_ID))):
                with self.assertRaises(duralog.DuplicateEvent) as caught:
                    store.append(part)
                self.assertEqual(caught.exception.event_ids, known)
            copy = pickle.loads(pickle.dumps(caught.exception))
            self.assertEqual((type(copy), copy.event_ids), (duralog.DuplicateEvent, caught.exception.event_ids))
            # Events are known by their ids and by nothing else.
            self.assertTrue(store.append([events[0], events[1]._replace(data=b"other")]).duplicate)
            self.assertEqual([event.data for event in store], [b"1", b"2"])

    def test_idempotency_key_makes_one_of_many_appends(self):
        with EventStore(self.path) as store:
            first = store.append(numbered(2), idempotency_key=b"\0key")
            self.assertFalse(first.duplicate)
        with EventStore(self.path) as store:
            store.append(numbered(1))
            again = store.append(numbered(2), idempotency_key=bytearray(b"\0key"))
            self.assertEqual((again.duplicate, again.batch_id), (True, 0))
            self.assertEqual((again.first_position, again.last_position, again.time_ns, again.stream_versions),
                             (first.first_position, first.last_position, first.time_ns, first.stream_versions))
            second = store.append(numbered(1), idempotency_key=b"second")
            for key, told, count, position in ((b"\0key", "\\0key", 2, 1), (b"second", "second", 1, second.first_position)):
                with self.assertRaises(duralog.DuplicateEvent) as caught:
                    store.append(numbered(3), idempotency_key=key)
                self.assertEqual(caught.exception.event_ids, ())
                self.assertEqual(caught.exception.message, "another request was carried out with the idempotency key "
                                 f'"{told}": {count} events from position {position} on')
            with self.assertRaises(duralog.InvalidArgument):
                store.append(numbered(1), idempotency_key=bytes(256))
            self.assertEqual(store.last_position(), 4)


class SidePositionsAndState(Case):
    def test_positions_only_grow_unless_reset(self):
        with EventStore(self.path) as store:
            self.assertIsNone(store.saved_position("p"))
            receipt = store.append(save_positions={"p": 0, "ö": 3})
            self.assertEqual((receipt.first_position, receipt.last_position, receipt.stream_versions), (0, 0, {}))
            store.append(save_positions={"p": 9})
            for position in (9, 8):
                with self.assertRaises(duralog.ConcurrencyConflict):
                    store.append(save_positions={"p": position})
            store.append(reset_positions={"p": 2})
        with EventStore(self.path, read_only=True) as store:
            self.assertEqual((store.saved_position("p"), store.saved_position("ö")), (2, 3))
            with self.assertRaises(duralog.ReadOnly):
                store.append(save_positions={"p": 10})
            for name in ("", "n" * 256):
                with self.assertRaises(duralog.InvalidArgument):
                    store.saved_position(name)

    def test_state_is_put_and_deleted_with_events(self):
        large = os.urandom(1 << 20)
        with EventStore(self.path) as store:
            store.append(numbered(1), state={b"k": b"v", b"large": memoryview(large), b"empty": b""})
            self.assertEqual([store.state(key) for key in (b"k", b"large", b"empty", b"no")], [b"v", large, b"", None])
            store.append(state={b"k": None, b"no": None})
            with self.assertRaises((duralog.TooLarge, duralog.InvalidArgument)):
                store.append(state={b"k": large + b"x"})
            with self.assertRaises(duralog.InvalidArgument):
                store.append(state={b"": b""})
        with EventStore(self.path) as store:
            self.assertEqual([store.state(key) for key in (b"k", b"large")], [None, large])
        side = duralog_format.open_events(self.path).side_records()
        self.assertEqual(set(side.state), {b"large", b"empty"})


class Reading(Case):
    def filled(self):
        store = EventStore(self.path, sync="manual")
        self.addCleanup(store.close)
        store.append([NewEvent(f"{'even' if n % 2 == 0 else 'odd'}-{n % 4}", f"T{n % 3}", b"%d" % n,
                               tags=[f"mod5:{n % 5}"]) for n in range(1, 5001)])
        return store

    def test_selections_ranges_limits_and_directions(self):
        store = self.filled()
        every = range(1, 5001)
        of_query = Query([QueryItem(["T1"], ["mod5:0"]), QueryItem(["T2"], ["mod5:1"])])
        selections = [
            ({}, list(every)),
            ({"category": "odd"}, [n for n in every if n % 2]),
            ({"query": of_query}, [n for n in every if (n % 3, n % 5) in ((1, 0), (2, 1))]),
            ({"query": Query()}, list(every)), ({"category": "none"}, []), ({"stream": "none"}, []),
            ({"query": Query([QueryItem(["none"])])}, []),
        ]
        for selection, expected in selections:
            for from_, to in ((0, 0), (1, 0), (3000, 0), (0, 700), (1500, 3500), (4999, 9000), (9000, 0), (5, 3)):
                for limit in (0, 1, 1500):
                    inside = [n for n in expected if n >= from_ and (not to or n <= to)]
                    backward = [n for n in reversed(expected) if (not to or n <= to) and n >= from_]
                    with self.subTest(selection=selection, from_=from_, to=to, limit=limit):
                        found = positions(store.read(**selection, from_=from_, to=to, limit=limit))
                        self.assertEqual(found, inside[:limit] if limit else inside)
                        found = positions(store.read(**selection, from_=to, to=from_, limit=limit, backward=True))
                        self.assertEqual(found, backward[:limit] if limit else backward)
        self.assertEqual(positions(store.read_stream("even-2", 10, 12)), [38, 42, 46])
        self.assertEqual([e.stream_version for e in store.read_stream("even-2", 12, 10, backward=True)], [12, 11, 10])
        self.assertEqual(positions(store.read_category("odd", limit=2)), [1, 3])
        self.assertEqual(positions(store.query(of_query, limit=2, backward=True)), [4991, 4990])
        self.assertEqual(positions(store.read_all(4999)), [4999, 5000])
        self.assertEqual(positions(store), list(every))

    def test_tuples_are_the_same_without_the_rest(self):
        store = self.filled()
        for selection in ({}, {"stream": "odd-1"}, {"query": Query([QueryItem(["T0"])])}):
            self.assertEqual(list(store.tuples(**selection)),
                             [(e.position, e.stream, e.stream_version, e.type, e.data) for e in store.read(**selection)])

    def test_pages_that_end_anywhere_and_hold_anything_are_read_whole(self):
        """Around the length of a page; types that are few, many, too many to be numbered, and with the separator in one;
        more than the buffer has room for at first."""
        store = EventStore(self.path, sync="manual")
        self.addCleanup(store.close)
        expected = []
        for size, kinds, data_len in ((511, 1, 5), (1, 1, 5), (1, 1, 0), (511, 256, 300), (512, 257, 7), (1024, 500, 8),
                                      (31, 3, 9), (32, 3, 9), (33, 3, 9), (33, 3, None), (512, 2, None), (9, 2, 30000)):
            stream = f"s-{len(expected)}" if kinds != 256 else "with\0in"
            types = [f"T{n % kinds}" if n % kinds else "a\0b" for n in range(size)]
            data = [bytes(n % 251 for _ in range(n % 13 if data_len is None else data_len)) for n in range(size)]
            store.append([NewEvent(stream, *both) for both in zip(types, data)])
            own = [(len(expected) + n + 1, stream, n + 1, types[n], data[n]) for n in range(size)]
            expected += own
            for _ in range(3):  # lengths are cut in another way when they come again
                self.assertEqual(list(store.tuples(stream=stream)), own)
            self.assertEqual(list(store.tuples(stream=stream, backward=True)), own[::-1])
            self.assertEqual([event.id for event in store.read_stream(stream)],
                             [store.event_at(position).id for position, *_ in own])
            self.assertEqual(list(store.tuples(stream=stream, limit=size)), own)
        self.assertEqual(list(store.tuples()), expected)
        self.assertEqual(list(store.tuples(backward=True)), expected[::-1])
        self.assertEqual(list(store.tuples(query=Query([QueryItem(["T1"])]))), [e for e in expected if e[3] == "T1"])

    def test_who_wants_what_is_there_asks_once_and_a_cursor_goes_on(self):
        store = self.filled()
        calls = []
        library = store._library
        original = library.eventstore_cursor_next_page
        def counted(*arguments):
            calls.append(1)
            return original(*arguments)
        library.eventstore_cursor_next_page = counted
        self.addCleanup(setattr, library, "eventstore_cursor_next_page", original)
        for selection, pages in (({"stream": "odd-1", "limit": 9}, 1), ({"stream": "none"}, 1), ({"to": 7}, 1),
                                 ({"stream": "odd-1"}, 3), ({"category": "odd", "backward": True}, 5)):
            calls.clear()
            list(store.read(**selection))
            self.assertEqual(len(calls), pages, selection)
        with store.cursor(from_=5000) as cursor:
            self.assertEqual(positions(cursor), [5000])
            store.append(numbered(1))
            self.assertEqual(positions(cursor), [5001])

    def test_a_buffer_in_use_is_not_given_to_who_interrupts(self):
        store = self.filled()
        seen = []
        def form(page, cutter):
            self.assertNotIn(cutter, seen)
            seen.append(cutter)
            if len(seen) < 3:  # as a signal handler does that reads, too
                page_of(store, form)
            return list(events_of(page, cutter))
        def page_of(store, form):
            return next(iter(pages(store._cursor(None, None, None, 0, 0, 9, False, False), form)))
        self.assertEqual(positions(page_of(store, form)), list(range(1, 10)))
        self.assertEqual(len(seen), 3)
        seen.clear()
        self.assertEqual(positions(page_of(store, form)), list(range(1, 10)))

    def test_wrong_selections_are_refused(self):
        store = self.filled()
        for call in (lambda: store.read(stream="a", category="b"), lambda: store.tuples(stream="a", query=Query()),
                     lambda: store.cursor(category="a", query=Query()), lambda: store.read_all("1"),
                     lambda: store.event_at("1"), lambda: store.event_by_id("1"), lambda: store.event_by_id(None)):
            with self.assertRaises(TypeError):
                call()
        for call in (lambda: store.read_all(-1), lambda: store.read_all(to=1 << 64), lambda: store.read_stream(""),
                     lambda: store.read_stream("a" * 1025), lambda: store.event_by_id(b"1"), lambda: store.event_at(-1)):
            with self.assertRaises(duralog.InvalidArgument):
                call()

    def test_one_event_by_position_and_by_id(self):
        store = self.filled()
        store.append([NewEvent("ä", "T", b"own", b"m", ["t1", "t2"], ID, 5, OTHER_ID, THIRD_ID, 6, "c")])
        for position in (1, 2500, 5001):
            event = store.event_at(position)
            self.assertEqual(event, next(store.read_all(position)))
            self.assertEqual(store.event_by_id(event.id), event)
            self.assertEqual(store.event_by_id(event.id_bytes), event)
        for nothing in (store.event_at(0), store.event_at(5002), store.event_by_id(uuid.UUID(int=99))):
            self.assertIsNone(nothing)

    def test_names_with_counts_and_positions(self):
        store = self.filled()
        self.assertEqual([name.name for name in store.streams()], ["even-0", "even-2", "odd-1", "odd-3"])
        self.assertEqual(list(store.streams("odd-1")), [("odd-1", 1250, 1, 4997)])
        self.assertEqual([(n.name, n.event_count) for n in store.categories()], [("even", 2500), ("odd", 2500)])
        self.assertEqual([(n.name, n.event_count) for n in store.types()], [("T0", 1666), ("T1", 1667), ("T2", 1667)])
        self.assertEqual([n.first_position for n in store.tags("mod5:")], [5, 1, 2, 3, 4])
        self.assertEqual(list(store.tags("x")), [])
        self.assertEqual(store.stream_info("odd-1"), StreamInfo(1250, 1, 4997))
        self.assertIsNone(store.stream_info("none"))
        store.append([NewEvent(f"s-{n:04}", "T") for n in range(3000)])
        self.assertEqual([name.name for name in store.streams("s-")], [f"s-{n:04}" for n in range(3000)])

    def test_a_name_that_begins_with_a_dash_is_of_the_category_without_a_name(self):
        with EventStore(self.path) as store:
            store.append([NewEvent(stream, "T") for stream in ("-a", "b", "-", "--", "c-")])
            self.assertEqual(positions(store.read_category("")), [1, 3, 4])
            self.assertEqual([event.category for event in store], ["", "b", "", "", "c"])
            self.assertEqual([position for position, *_ in store.tuples(category="", backward=True)], [4, 3, 1])
            self.assertEqual(list(store.categories()), [("", 3, 1, 4), ("b", 1, 2, 2), ("c", 1, 5, 5)])
            with store.subscribe(category="", timeout=0) as subscription:
                self.assertEqual(positions(subscription), [1, 3, 4])

    def test_cursor_follows_and_misses_nothing(self):
        with EventStore(self.path) as store, store.cursor(stream="a") as cursor:
            self.assertEqual(list(cursor), [])
            store.append([*numbered(3), *numbered(2, "b")])
            self.assertEqual(next(iter(cursor)).position, 1)
            self.assertEqual(positions(cursor), [2, 3])
            store.append(numbered(1))
            self.assertEqual(positions(cursor), [6])
            self.assertEqual(list(cursor), [])

    def test_reader_in_another_handle_sees_what_is_appended(self):
        with EventStore(self.path) as store, EventStore(self.path, read_only=True) as reader:
            for n in range(1, 4):
                store.append(numbered(1), save_positions={"p": n})
                self.assertEqual((reader.last_position(), reader.saved_position("p")), (n, n))
                self.assertEqual(positions(reader.read_all()), list(range(1, n + 1)))

    def test_events_are_frozen_and_parse_their_data_when_asked(self):
        with EventStore(self.path) as store:
            store.append([NewEvent("a", "T", b'{"n": [1, 2]}'), NewEvent("a", "T", b"no json")])
            good, bad = store
            self.assertEqual(good.json(), {"n": [1, 2]})
            with self.assertRaises(ValueError):
                bad.json()
            with self.assertRaises(AttributeError):
                good.data = b""
            self.assertEqual(pickle.loads(pickle.dumps(good)), good)

    def test_events_are_the_same_however_they_are_read(self):
        """Of pages in which some, all or none of the events have a field, with names that have the separator in them."""
        generator = random.Random(SEED)
        texts = ["a", "b\0c", "\0", "Käse-1", "x" * 200]
        with EventStore(self.path, sync="manual") as store:
            for has in (0.0, 0.5, 1.0):
                def some(value, none):
                    return value if generator.random() < has else none
                for _ in range(300):
                    store.append([NewEvent(
                        generator.choice(texts), generator.choice(texts), some(generator.randbytes(generator.randrange(50)), b""),
                        some(b"about \0", b""), some(generator.sample(texts, 2), ()), some(uuid.uuid4(), None), some(-7, None),
                        some(ID, None), some(OTHER_ID, None), some(9, 0), some("text/plain", ""))])
            events = list(store)
            self.assertEqual(len(events), 900, f"seed {SEED}")
            for event in events:
                for other in (store.event_at(event.position), store.event_by_id(event.id), copy.deepcopy(event),
                              pickle.loads(pickle.dumps(event))):
                    self.assertEqual((event, hash(event), repr(event)), (other, hash(other), repr(other)))
            self.assertEqual(len({*events, *store}), 900)
            self.assertEqual(list(store.read_all(backward=True))[::-1], events)
            self.assertEqual([(e.position, e.stream, e.stream_version, e.type, e.data) for e in events], list(store.tuples()))
            other = copy.copy(events[0])
            self.assertFalse(other != events[0])
            self.assertNotEqual(events[0], events[1])
            self.assertNotEqual(events[0], 1)

    def test_an_event_is_no_tuple_to_whom_it_is_given(self):
        with EventStore(self.path, sync="manual") as store:
            store.append(numbered(1))
            event = store.event_at(1)
        for call in (lambda: event[0], lambda: len(event), lambda: list(event), lambda: 1 in event, lambda: event + event,
                     lambda: event < event, lambda: event.count(1), lambda: event.index(1)):
            with self.assertRaises(TypeError):
                call()

    def test_receipt_of_many_streams(self):
        names = [f"stream-{number}\0ä" for number in range(5000)]
        with EventStore(self.path, sync="manual") as store:
            for version in (1, 2):
                receipt = store.append([NewEvent(name, "T") for name in names])
                self.assertEqual(receipt.stream_versions, dict.fromkeys(names, version))
            self.assertEqual(store.append(save_positions={"p": 1}).stream_versions, {})

    def test_what_is_given_never_changes_and_can_be_kept_and_sent(self):
        query = Query([QueryItem(["T"])])
        with EventStore(self.path) as store:
            receipt = store.append(numbered(2), conditions=[Condition(query), (query, 0)])
            store.save_snapshot(b"k", 2, 2, b"state")
            with self.assertRaises(duralog.ConcurrencyConflict) as caught:
                store.append(numbered(1), expected={"a": 7})
            found = [(receipt, "stream_versions"), (store.load_snapshot(b"k"), "data"), (store.stream_info("a"), "last_position"),
                     (Condition(query, 1), "after"), (caught.exception.conflicts[0], "actual")]
        for item, name in found:
            with self.subTest(type(item).__name__):
                with self.assertRaises(dataclasses.FrozenInstanceError):
                    setattr(item, name, None)
                for other in (pickle.loads(pickle.dumps(item)), copy.deepcopy(item)):
                    self.assertEqual((other, hash(other), repr(other)), (item, hash(item), repr(item)))
                with self.assertRaises(TypeError):
                    iter(item)
        with self.assertRaises(TypeError):
            receipt.stream_versions["a"] = 1
        versions = {"a": 1}
        made = duralog.AppendReceipt(1, 1, 5, 7, False, versions)
        versions["a"] = 2
        self.assertEqual(made.stream_versions, {"a": 1})
        self.assertEqual(found[1][0], duralog.Snapshot(2, 2, b"state"))
        self.assertEqual(Condition(query), Condition(query=query, after=0))


class Lifetime(Case):
    def test_every_method_after_close_says_closed(self):
        store = EventStore(self.path)
        store.append(numbered(3))
        cursor, begun, names = store.cursor(), store.read_all(), store.streams()
        store.close()
        store.close()
        calls = {
            "append": lambda: store.append(numbered(1)), "sync": store.sync, "batch_status": lambda: store.batch_status(1),
            "decide": lambda: store.decide(Query(), lambda events: []), "read": store.read, "tuples": store.tuples,
            "cursor": store.cursor, "subscribe": store.subscribe, "read_all": store.read_all, "read_stream": lambda: store.read_stream("a"),
            "read_category": lambda: store.read_category("a"), "query": lambda: store.query(Query()),
            "event_at": lambda: store.event_at(1), "event_by_id": lambda: store.event_by_id(ID),
            "stream_info": lambda: store.stream_info("a"), "streams": store.streams, "categories": store.categories,
            "types": store.types, "tags": store.tags, "saved_position": lambda: store.saved_position("p"),
            "state": lambda: store.state(b"k"), "last_position": store.last_position,
            "save_snapshot": lambda: store.save_snapshot(b"k", 1, 1, b""), "load_snapshot": lambda: store.load_snapshot(b"k"),
            "delete_snapshots": lambda: store.delete_snapshots(b"k"), "stat": store.stat, "verify_index": store.verify_index,
            "wal_stat": store.wal_stat, "recovery_report": store.recovery_report, "__iter__": lambda: iter(store),
            "__enter__": store.__enter__,
        }
        public = {name for name in dir(EventStore) if not name.startswith("_")} - {"close", "closed", "path"}
        self.assertEqual(public - set(calls), set())
        for name, call in calls.items():
            with self.subTest(name), self.assertRaises(duralog.Closed):
                call()
        self.assertEqual(positions(begun), [1, 2, 3])
        self.assertEqual(positions(cursor), [1, 2, 3])
        with self.assertRaises(duralog.Closed):
            list(names)
        cursor.close()
        cursor.close()
        with self.assertRaises(duralog.Closed):
            list(cursor)
        self.assertIn("closed", repr(store))

    def test_forgotten_store_and_cursor_warn_and_iterators_do_not(self):
        store = EventStore(self.path)
        store.append(numbered(2))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            next(store.read_all())
            store.tuples()
            next(store.streams())
            store.event_at(1)
            try:
                store.append(["no event"])
            except TypeError:
                pass
            try:
                store.append(numbered(1), expected={"a": 99})
            except duralog.ConcurrencyConflict as error:
                del error
            gc.collect()
            self.assertEqual(caught, [])
            store.cursor()
            gc.collect()
            self.assertEqual([warning.category for warning in caught], [ResourceWarning])
        with self.assertWarnsRegex(ResourceWarning, "unclosed <duralog.EventStore"):
            del store
            gc.collect()
        EventStore(self.path).close()

    def test_end_of_the_interpreter_is_quiet_and_closes(self):
        done = python(
            "import duralog, sys\n"
            "store = duralog.EventStore(sys.argv[1])\n"
            "store.append([duralog.NewEvent('a', 'T')] * 3000)\n"
            "begun = store.read_all(); next(begun)\n"
            "cursor = store.cursor(); next(iter(cursor))\n"
            "names = store.streams(); next(names)\n",
            self.path, options=("-X", "dev", "-W", "error"))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        with EventStore(self.path, recovery="strict") as store:
            self.assertEqual(store.last_position(), 3000)

    def test_threads_share_a_store(self):
        with EventStore(self.path) as store:
            def work(name):
                for n in range(50):
                    store.append(numbered(3, name), expected={name: 3 * n})
                    self.assertEqual(len(list(store.read_stream(name))), 3 * n + 3)

            threads = [threading.Thread(target=work, args=(f"s-{n}",)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            self.assertEqual([tuple(name)[:2] for name in store.streams()], [(f"s-{n}", 150) for n in range(4)])
            self.assertEqual(positions(store), list(range(1, 601)))


if __name__ == "__main__":
    unittest.main()
