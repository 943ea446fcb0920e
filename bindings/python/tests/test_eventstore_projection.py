"""Projections and states of streams: whatever is interrupted, saved, lost or repeated, the state is that of
its events, each counted once.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import unittest
import warnings

import duralog
from duralog import EventStore, NewEvent, Projection, Query, QueryItem, on, reconstruct_state
from duralog import format as duralog_format
from support import TESTS, Case, python


def add(state, event):
    return state + int(event.data)


def note(state, event):
    state.append(event.position)


class Totals(Projection):
    initial = dict

    @on("Added", "Taken")
    def counted(self, state, event):
        sign = 1 if event.type == "Added" else -1
        state[event.stream] = state.get(event.stream, 0) + sign * int(event.data)

    @on("Closed")
    def closed(self, state, event):
        return {name: number for name, number in state.items() if name != event.stream}


class ProjectionCase(Case):
    def setUp(self):
        super().setUp()
        self.store = EventStore(self.path, sync="manual")
        self.addCleanup(self.store.close)

    def reopen(self, **options):
        self.store.close()
        self.store = EventStore(self.path, sync="manual", **options)
        self.addCleanup(self.store.close)

    def append(self, *numbers, stream="a-1", kind="Added"):
        return self.store.append([NewEvent(stream, kind, b"%d" % number) for number in numbers])


class Following(ProjectionCase):
    def test_state_is_that_of_all_events_before_and_after_it_was_made(self):
        self.append(1, 2)
        total = Projection(self.store, "total", {"Added": add}, 100)
        self.assertEqual((total.state, total.position), (100, 0))
        self.assertEqual(total.catch_up(), 2)
        self.assertEqual((total.state, total.position), (103, 2))
        self.append(50, kind="Other")
        self.append(3)
        self.assertEqual((total.catch_up(), total.catch_up()), (1, 0))
        self.assertEqual((total.state, total.position), (106, 4))
        self.assertIn("'total' at position 4", repr(total))

    def test_methods_are_handlers_and_are_inherited(self):
        class More(Totals):
            @on("Doubled")
            def doubled(self, state, event):
                state[event.stream] *= 2

        self.append(5, 6)
        self.append(1, kind="Taken")
        self.append(0, kind="Doubled")
        self.append(7, stream="b")
        self.append(0, stream="b", kind="Closed")
        for kind, expected in ((Totals, {"a-1": 10}), (More, {"a-1": 20})):
            totals = kind(self.store, kind.__name__)
            totals.catch_up()
            self.assertEqual(totals.state, expected)
        with self.assertRaisesRegex(TypeError, "two handlers of 'Added'"):
            type("Bad", (Totals,), {"again": on("Added")(lambda self, state, event: None)})

    def test_selections(self):
        for number in range(20):
            self.append(number, stream=f"{'ab'[number % 2]}-{number % 4}", kind=("Added", "Other")[number % 3 == 0])
        every = list(self.store)
        query = Query([QueryItem(["Other"])])
        for selection, member in (({"stream": "a-2"}, lambda e: e.stream == "a-2"), ({"category": "b"}, lambda e: e.category == "b"),
                                  ({"query": query}, lambda e: e.type == "Other"), ({}, lambda e: e.type == "Added"),
                                  ({"query": Query()}, lambda e: True)):
            for snapshot_every in (0, 1, 3):
                name = f"{selection}{snapshot_every}"
                expected = [event.position for event in every if member(event) and event.type == "Added"]
                for limit in (2, 1, 0):  # one after the other, each by a projection that begins with what was saved
                    notes = Projection(self.store, name, {"Added": note}, list, snapshot_every=snapshot_every, **selection)
                    notes.catch_up(limit)
                self.assertEqual(notes.state, expected, name)
                self.assertEqual(notes.position, max(event.position for event in every if member(event)))
        with self.assertRaises(TypeError):
            Projection(self.store, "x", {"Added": add}, stream="a", category="b").catch_up()

    def test_follows_in_a_thread_and_skips_nothing(self):
        self.append(*range(100))
        notes = Projection(self.store, "notes", {"Added": note}, list, snapshot_every=7)
        notes.catch_up(50)
        counts = []
        thread = threading.Thread(target=lambda: counts.append(notes.follow()))
        thread.start()
        writers = [threading.Thread(target=lambda: [self.append(number) for number in range(100)]) for _ in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        while notes.position < 500 and thread.is_alive():
            time.sleep(0.001)
        notes.cancel()
        thread.join(60)
        self.assertEqual((notes.state, counts), (list(range(1, 501)), [450]))

    def test_follows_a_stream_a_category_and_a_query_until_nothing_comes(self):
        for number in range(30):
            self.append(number, stream=f"{'ab'[number % 2]}-{number % 4}", kind=("Added", "Other")[number % 3 == 0])
        for selection, member in (({"stream": "a-2"}, lambda e: e.stream == "a-2"), ({"category": "b"}, lambda e: e.category == "b"),
                                  ({}, lambda e: e.type == "Added")):
            for commit_every in (0, 1, 4):
                name = f"{selection}{commit_every}"
                for limit in (3, 2, 0):  # one after the other, each by a projection that goes on from what was saved
                    notes = Projection(self.store, name, {"Added": note}, list, snapshot_every=0, commit_every=commit_every, **selection)
                    if limit:
                        notes.catch_up(limit)
                    if not commit_every:
                        notes.save()
                self.assertEqual(notes.follow(0.001), len(list(filter(member, self.store))) - 5, name)
                expected = [event.position for event in self.store if member(event) and event.type == "Added"]
                self.assertEqual(notes.state, expected, name)

    def test_many_follow_in_one_loop(self):
        import asyncio

        self.append(*range(1500))

        async def main():
            made = [Projection(self.store, f"notes {n}", {"Added": note}, list, commit_every=n * 1000) for n in range(4)]
            tasks = [asyncio.ensure_future(notes.follow_async()) for notes in made]
            for number in range(50):
                self.append(number)
                await asyncio.sleep(0)
            # What waits is committed, though there are not 1000 events.
            while any(self.store.saved_position(f"projection/notes {n}") != 1550 for n in (1, 2, 3)) or made[0].position < 1550:
                await asyncio.sleep(0.001)
            for notes in made:
                notes.cancel()
            self.assertEqual(await asyncio.gather(*tasks), [1550] * 4)
            self.assertEqual([notes.state for notes in made], [list(range(1, 1551))] * 4)
            self.assertEqual(await Projection(self.store, "notes 1", {"Added": note}, list).follow_async(0.001), 0)
            self.assertEqual(threading.active_count(), 1)

        asyncio.run(asyncio.wait_for(main(), 60))

    def test_cancelled_before_and_while_it_follows(self):
        self.append(1)
        for moment in (0, 0.01):
            notes = Projection(self.store, "notes", {"Added": note}, list)
            thread = threading.Timer(moment, notes.cancel)
            if moment:
                thread.start()
            else:
                notes.cancel()
            self.assertEqual(notes.follow(), 1 if moment else 0)
            self.assertEqual(notes.follow(), 0)
            self.assertEqual(notes.catch_up(), 0 if moment else 1)
        self.store.close()
        with self.assertRaises(duralog.Closed):
            Projection.follow(notes)

    def test_initial_state_is_not_shared(self):
        self.append(1)
        initial = []
        for name in ("one", "two"):
            notes = Projection(self.store, name, {"Added": note}, initial)
            notes.catch_up()
            self.assertEqual((notes.state, initial), ([1], []))

    def test_misuse_is_refused(self):
        for kind, arguments in ((duralog.InvalidArgument, ("", {"A": add})), (TypeError, (b"name", {"A": add})),
                                (duralog.InvalidArgument, ("name", {})), (duralog.InvalidArgument, ("name",)),
                                (TypeError, ("name", {b"A": add}))):
            with self.assertRaises(kind):
                Projection(self.store, *arguments)
        for options in ({"fingerprint": "text"}, {"snapshot_every": "1"}):
            with self.assertRaises(TypeError):
                Projection(self.store, "name", {"A": add}, **options)
        with self.assertRaises(TypeError):
            on(b"A")
        self.append(1)
        strange = Projection(self.store, "strange", {"Added": add}, 0, encode=str)
        strange.catch_up()
        with self.assertRaisesRegex(TypeError, "encoded state is a str"):
            strange.save()
        total = Projection(self.store, "total", {"Added": add}, 0)
        self.store.close()
        for call in (total.catch_up, total.reset, strange.save):
            with self.assertRaises((duralog.Closed, TypeError)):
                call()


class Saving(ProjectionCase):
    def test_goes_on_from_its_snapshot_and_handles_no_event_twice(self):
        handled = []

        def counting(state, event):
            handled.append(event.position)
            return state + 1

        for _ in range(5):
            self.append(*range(10))
            Projection(self.store, "count", {"Added": counting}, 0, snapshot_every=10).catch_up()
            self.reopen()
        self.assertEqual(handled, list(range(1, 51)))
        self.assertEqual(Projection(self.store, "count", {"Added": counting}, 0).state, 50)

    def test_unsaved_events_are_handled_again_after_reopening(self):
        self.append(*range(25))
        notes = Projection(self.store, "notes", {"Added": note}, list, snapshot_every=10)
        notes.catch_up()
        self.reopen()
        notes = Projection(self.store, "notes", {"Added": note}, list, snapshot_every=0)
        self.assertEqual((notes.position, notes.state), (20, list(range(1, 21))))
        notes.catch_up()
        notes.save()
        notes.save()
        self.assertEqual(notes.state, list(range(1, 26)))
        self.assertEqual(Projection(self.store, "notes", {"Added": note}, list).position, 25)

    def test_exception_of_a_handler_goes_back_to_the_snapshot(self):
        self.append(*range(1, 26))
        broken = [True]

        def handler(state, event):
            state.append(event.position)
            if event.position == 17 and broken:
                raise broken.pop() and ZeroDivisionError

        notes = Projection(self.store, "notes", {"Added": handler}, list, snapshot_every=10)
        with self.assertRaises(ZeroDivisionError):
            notes.catch_up()
        self.assertEqual((notes.position, notes.state), (10, list(range(1, 11))))
        self.assertEqual(notes.catch_up(), 15)
        self.assertEqual(notes.state, list(range(1, 26)))

    def test_reset_begins_at_the_beginning(self):
        self.append(1, 2, 3)
        total = Projection(self.store, "total", {"Added": add}, 0, snapshot_every=1)
        total.catch_up()
        total.reset()
        self.assertEqual((total.state, total.position), (0, 0))
        self.assertEqual(Projection(self.store, "total", {"Added": add}, 0).position, 0)
        total.catch_up()
        self.assertEqual(total.state, 6)

    def test_another_fingerprint_begins_at_the_beginning_and_both_live(self):
        self.append(1, 2, 3)
        for _ in range(2):
            for fingerprint, initial in ((b"v1", 0), (b"v2", 100)):
                total = Projection(self.store, "total", {"Added": add}, initial, snapshot_every=1, fingerprint=fingerprint)
                total.catch_up()
                self.assertEqual(total.state, initial + 6)

    def test_a_rebuild_goes_on_from_its_snapshots_however_far_the_old_fingerprint_was(self):
        self.append(*range(1000))
        Projection(self.store, "notes", {"Added": note}, list, snapshot_every=10, fingerprint=b"v1").catch_up()
        Projection(self.store, "notes", {"Added": note}, list, snapshot_every=10, fingerprint=b"v2").catch_up(500)
        self.reopen()
        again = Projection(self.store, "notes", {"Added": note}, list, snapshot_every=10, fingerprint=b"v2")
        self.assertEqual((again.position, again.state), (500, list(range(1, 501))))
        old = Projection(self.store, "notes", {"Added": note}, list, fingerprint=b"v1")
        self.assertEqual((old.position, old.state), (1000, list(range(1, 1001))))

    def test_snapshots_that_cannot_be_decoded_are_passed_over(self):
        def before_25(data):
            state = json.loads(data)
            if state[-1] > 25:
                raise ValueError("too new")
            return state

        def never(data):
            raise KeyError("none of them")

        self.append(*range(40))
        notes = Projection(self.store, "notes", {"Added": note}, list, snapshot_every=10)
        notes.catch_up()
        for decode, position, count in ((before_25, 20, 2), (never, 0, 4)):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                notes = Projection(self.store, "notes", {"Added": note}, list, snapshot_every=0, decode=decode)
            self.assertEqual((notes.position, notes.state), (position, list(range(1, position + 1))))
            self.assertEqual([(w.category, w.filename) for w in caught], [(RuntimeWarning, __file__)] * count)
            self.assertIn("snapshot at position 40", str(caught[0].message))
            self.assertEqual(notes.catch_up(), 40 - position)
            self.assertEqual(notes.state, list(range(1, 41)))
        notes.reset()
        self.assertIsNone(self.store.load_snapshot(b"projection/notes"))
        # A commit behind it is older, but can be decoded.
        notes = Projection(self.store, "notes", {"Added": note}, list, snapshot_every=0)
        notes.catch_up(15)
        notes.commit()
        notes.catch_up(15)
        notes.save()
        with self.assertWarnsRegex(RuntimeWarning, "position 30.*too new"):
            notes = Projection(self.store, "notes", {"Added": note}, list, decode=before_25)
        self.assertEqual((notes.position, notes.state), (15, list(range(1, 16))))
        # One that is in the log is no shortcut: nothing replaces it unasked.
        with self.assertRaisesRegex(KeyError, "none of them"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Projection(self.store, "notes", {"Added": note}, list, decode=never)
        Projection(self.store, "notes", {"Added": note}, list, fingerprint=b"other", decode=never).reset()
        self.assertEqual(Projection(self.store, "notes", {"Added": note}, list, decode=never).position, 0)

    def test_snapshots_that_cannot_be_saved_end_nothing(self):
        self.append(*range(45))
        root = os.path.join(self.path, "snapshots")
        with open(root, "wb"):
            pass
        notes = Projection(self.store, "notes", {"Added": note}, list, snapshot_every=10)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.assertEqual(notes.catch_up(25), 25)
            self.assertEqual(notes.follow(0), 20)
        self.assertEqual([(w.category, w.filename) for w in caught], [(RuntimeWarning, __file__)] * 4)
        for position, warned in zip((10, 20, 30, 40), caught):
            self.assertIn(f"'notes' was not saved at position {position}: DURALOG_E_IO", str(warned.message))
        self.assertEqual((notes.position, notes.state), (45, list(range(1, 46))))
        with self.assertRaises(duralog.IoError):
            notes.save()
        self.assertEqual(Projection(self.store, "notes", {"Added": note}, list).position, 0)
        os.remove(root)
        self.append(*range(5))
        notes.catch_up()  # the tenth since the last attempt
        self.assertEqual(Projection(self.store, "notes", {"Added": note}, list).position, 50)
        self.append(1)
        notes.catch_up()
        notes.save()
        self.assertEqual(Projection(self.store, "notes", {"Added": note}, list).position, 51)

    def test_full_disk_does_not_end_following_in_a_loop(self):
        import asyncio

        class OnFullDisk(EventStore):
            def save_snapshot(self, *arguments, **options):
                raise duralog.Full("no space left", os_error=28)

        self.append(*range(30))
        self.store.close()
        with OnFullDisk(self.path, sync="manual") as store:
            notes = Projection(store, "notes", {"Added": note}, list, snapshot_every=10, commit_every=7)
            with self.assertWarnsRegex(RuntimeWarning, "no space left"):
                self.assertEqual(asyncio.run(notes.follow_async(0)), 30)
            self.assertEqual(store.saved_position("projection/notes"), 30)
            with self.assertRaises(duralog.Full):
                notes.save()

    def test_lost_and_damaged_snapshots_cost_time_only(self):
        generator = random.Random(1)
        self.append(*range(40))
        for _ in range(20):
            notes = Projection(self.store, "notes", {"Added": note}, list, snapshot_every=10)
            notes.catch_up()
            self.assertEqual(notes.state, list(range(1, 41)))
            for directory, _, files in os.walk(os.path.join(self.path, "snapshots")):
                for file in files:
                    path = os.path.join(directory, file)
                    choice = generator.randrange(3)
                    if choice == 0:
                        os.remove(path)
                    elif choice == 1:
                        os.truncate(path, generator.randrange(os.path.getsize(path)))

    def test_own_encoding(self):
        self.append(1, 2)
        total = Projection(self.store, "total", {"Added": add}, 0, snapshot_every=1,
                           encode=lambda state: state.to_bytes(4, "little"), decode=lambda data: int.from_bytes(data, "little"))
        total.catch_up()
        self.assertEqual(self.store.load_snapshot(b"projection/total").data, b"\3\0\0\0")
        self.assertEqual(Projection(self.store, "total", {"Added": add}, decode=lambda data: int.from_bytes(data, "little")).state, 3)

    def test_store_opened_for_reading_is_followed_without_saving(self):
        self.append(*range(30))
        Projection(self.store, "notes", {"Added": note}, list, snapshot_every=10).catch_up(20)
        self.append(*range(5))
        with EventStore(self.path, read_only=True) as reader:
            notes = Projection(reader, "notes", {"Added": note}, list, snapshot_every=1)
            self.assertEqual(notes.position, 20)
            self.assertEqual(notes.catch_up(), 15)
            self.assertEqual(notes.state, list(range(1, 36)))

    def test_snapshots_by_themselves(self):
        self.append(*range(9))
        for version in (2, 4, 6):
            self.store.save_snapshot(b"k", version, version, bytearray(b"%d" % version), fingerprint=b"f")
        load = self.store.load_snapshot
        self.assertEqual(load(b"k", fingerprint=b"f"), duralog.Snapshot(6, 6, b"6"))
        self.assertEqual(load(b"k", 5, fingerprint=b"f"), duralog.Snapshot(4, 4, b"4"))
        self.assertEqual([load(b"k"), load(b"k", 1, fingerprint=b"f"), load(b"other", fingerprint=b"f")], [None] * 3)
        self.store.delete_snapshots(b"k")
        self.assertIsNone(load(b"k", fingerprint=b"f"))
        for call in (lambda: self.store.save_snapshot(b"", 1, 1, b""), lambda: self.store.save_snapshot(b"k", 1, 10, b""),
                     lambda: self.store.save_snapshot(b"k", -1, 1, b""), lambda: load(b""), lambda: load(b"k", -1),
                     lambda: self.store.delete_snapshots(b"")):
            with self.assertRaises(duralog.InvalidArgument):
                call()
        for call in (lambda: self.store.save_snapshot("k", 1, 1, b""), lambda: self.store.save_snapshot(b"k", 1, 1, "x"),
                     lambda: load("k"), lambda: load(b"k", fingerprint="f"), lambda: self.store.delete_snapshots("k")):
            with self.assertRaisesRegex(TypeError, "is a str"):
                call()


class Committing(ProjectionCase):
    def committed(self, name="notes"):
        return self.store.state(b"projection/" + name.encode()), self.store.saved_position("projection/" + name)

    def test_state_and_position_are_in_one_batch_of_the_log(self):
        self.append(*range(10))
        notes = Projection(self.store, "notes", {"Added": note}, list, snapshot_every=0, commit_every=4)
        self.assertEqual(notes.catch_up(), 10)
        self.assertEqual(self.committed(), (b"[1,2,3,4,5,6,7,8,9,10]", 10))
        notes.catch_up()  # nothing came: nothing is committed
        self.store.close()
        batches = {}
        for record in duralog_format.open_log(self.path).records():
            batches.setdefault(record.batch_id, []).append(record)
        commits = [len(records) for records in batches.values() if any(b"projection/notes" in r.key for r in records)]
        self.assertEqual(commits, [3, 3, 3])

    def test_goes_on_from_its_commit_and_takes_each_event_once(self):
        handled = []

        def counting(state, event):
            handled.append(event.position)
            return state + 1

        for _ in range(5):
            self.append(*range(13))
            Projection(self.store, "count", {"Added": counting}, 0, snapshot_every=0, commit_every=10).catch_up()
            self.reopen()
        self.assertEqual(handled, list(range(1, 66)))
        self.assertEqual(self.committed("count"), (b"65", 65))

    def test_what_was_not_committed_is_taken_again(self):
        self.append(*range(1, 26))
        broken = [True]

        def handler(state, event):
            state.append(event.position)
            if event.position == 17 and broken:
                raise broken.pop() and ZeroDivisionError

        notes = Projection(self.store, "notes", {"Added": handler}, list, snapshot_every=0, commit_every=10)
        with self.assertRaises(ZeroDivisionError):
            notes.follow(0)
        self.assertEqual((notes.position, notes.state), (10, list(range(1, 11))))
        self.assertEqual(notes.follow(0), 15)
        self.assertEqual(notes.state, list(range(1, 26)))

    def test_the_newer_of_commit_and_snapshot_is_gone_on_from(self):
        self.append(*range(20))
        made = []
        for snapshot_every, commit_every, limit in ((6, 0, 8), (0, 5, 6), (3, 0, 3), (0, 0, 0)):
            notes = Projection(self.store, "notes", {"Added": note}, list, snapshot_every=snapshot_every, commit_every=commit_every)
            made.append(notes.position)
            notes.catch_up(limit)
        self.assertEqual((made, notes.state), ([0, 6, 12, 15], list(range(1, 21))))

    def test_one_that_is_behind_is_told_and_goes_on_from_the_others_commit(self):
        self.append(*range(10))
        behind, ahead = (Projection(self.store, "notes", {"Added": note}, list, snapshot_every=0) for _ in range(2))
        behind.catch_up(5)
        ahead.catch_up(7)
        ahead.commit()
        with self.assertRaises(duralog.ConcurrencyConflict):
            behind.commit()
        self.assertEqual((behind.position, behind.state), (7, list(range(1, 8))))
        behind.catch_up()
        behind.commit()
        self.assertEqual(self.committed(), (b"[1,2,3,4,5,6,7,8,9,10]", 10))

    def test_reset_and_another_fingerprint_begin_at_the_beginning(self):
        self.append(1, 2, 3)
        for fingerprint, initial, expected in ((b"v1", 0, b"6"), (b"v2", 100, b"106"), (b"v1", 0, b"6")):
            total = Projection(self.store, "total", {"Added": add}, initial, commit_every=1, snapshot_every=0, fingerprint=fingerprint)
            self.assertEqual((total.position, total.state), (0, initial))
            total.catch_up()
            self.assertEqual(self.committed("total"), (expected, 3))
        total.reset()
        self.assertEqual((total.position, total.state, self.committed("total")), (0, 0, (None, 0)))
        total.reset()
        total.catch_up()
        self.assertEqual(self.committed("total"), (b"6", 3))

    def test_store_opened_for_reading_is_followed_from_the_commit(self):
        self.append(*range(30))
        Projection(self.store, "notes", {"Added": note}, list, commit_every=7, snapshot_every=0).catch_up(20)
        with EventStore(self.path, read_only=True) as reader:
            notes = Projection(reader, "notes", {"Added": note}, list, commit_every=1)
            self.assertEqual((notes.position, notes.follow(0)), (20, 10))
            for save in notes.save, notes.commit:
                with self.assertRaises(duralog.ReadOnly):
                    save()
            with self.assertRaises(duralog.ReadOnly):
                Projection(reader, "x", {"Added": note}, list).catch_up() and notes.reset()


class Killed(Case):
    def test_died_before_or_after_any_append_each_event_is_counted_once(self):
        """In a child that ends in the middle of its work: before its n-th append to the log, or right after it."""
        program = (
            "import os, sys\n"
            "from duralog import EventStore, NewEvent\n"
            "from test_eventstore_projection import Totals\n"
            "path, left, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]\n"
            "class Dying(EventStore):\n"
            "    def append(self, *arguments, **options):\n"
            "        global left\n"
            "        left -= 1\n"
            "        if left == 0 and when == 'before': os._exit(9)\n"
            "        receipt = super().append(*arguments, **options)\n"
            "        if left == 0: os._exit(9)\n"
            "        return receipt\n"
            "with Dying(path, sync='manual') as store:\n"
            "    totals = Totals(store, 'totals', commit_every=3, snapshot_every=5)\n"
            "    for batch in range(4):\n"
            "        store.append([NewEvent('a-%d' % (n % 7), 'Added', b'%d' % n) for n in range(5)])\n"
            "        totals.follow(0)\n")
        environment = {"PYTHONPATH": TESTS + os.pathsep + os.environ.get("PYTHONPATH", "")}
        for left in range(1, 14):
            for when in ("before", "after"):
                path = f"{self.path}-{left}-{when}"
                ended = python(program, path, str(left), when, **environment)
                self.assertIn((ended.returncode, ended.stderr), [(9, ""), (0, "")])
                if ended.returncode == 0:
                    self.assertGreater(left, 10)
                with EventStore(path) as store:
                    expected, committed = {}, store.saved_position("projection/totals") or 0
                    for event in store.read(to=committed) if committed else ():
                        expected[event.stream] = expected.get(event.stream, 0) + int(event.data)
                    data = store.state(b"projection/totals")
                    self.assertEqual(json.loads(data or b"{}"), expected, (left, when))
                    totals = Totals(store, "totals", commit_every=1)
                    totals.catch_up()
                    self.assertEqual(sum(totals.state.values()), sum(int(event.data) for event in store))

    def test_killed_again_and_again_each_event_is_counted_once(self):
        """The writer appends and projects; killed at any point, the state must be the sum of what is there."""
        program = (
            "import sys, duralog\n"
            "from duralog import EventStore, NewEvent\n"
            "from test_eventstore_projection import Totals\n"
            "with EventStore(sys.argv[1], sync='manual') as store:\n"
            "    totals = Totals(store, 'totals', snapshot_every=3)\n"
            "    while True:\n"
            "        store.append([NewEvent('a-%d' % (n % 7), 'Added', b'%d' % n) for n in range(5)])\n"
            "        totals.catch_up()\n"
            "        print('once more', flush=True)\n")
        environment = {**os.environ, "PYTHONPATH": TESTS + os.pathsep + os.environ.get("PYTHONPATH", "")}
        for attempt in range(8):
            killed = subprocess.Popen([sys.executable, "-c", program, self.path], stdout=subprocess.PIPE, env=environment)
            try:
                self.assertEqual(killed.stdout.readline(), b"once more\n")
                time.sleep(0.01 + 0.013 * attempt)
            finally:
                killed.send_signal(signal.SIGKILL)
                killed.communicate()
            with EventStore(self.path) as store:
                expected = {}
                for event in store:
                    expected[event.stream] = expected.get(event.stream, 0) + int(event.data)
                totals = Totals(store, "totals", snapshot_every=3)
                self.assertGreater(totals.position, 0)
                totals.catch_up()
                self.assertEqual(totals.state, expected)

    def test_killed_again_and_again_state_and_position_of_a_commit_belong_together(self):
        """The writer appends, projects and commits, and goes on from the commit of the one that was killed before it."""
        program = (
            "import sys\n"
            "from duralog import EventStore, NewEvent\n"
            "from test_eventstore_projection import Totals\n"
            "with EventStore(sys.argv[1], sync='manual') as store:\n"
            "    totals = Totals(store, 'totals', snapshot_every=0, commit_every=1)\n"
            "    begun = store.last_position()\n"
            "    while True:\n"
            "        totals.catch_up()\n"
            "        print(totals.position, flush=True)\n"
            "        store.append([NewEvent('a-%d' % (n % 7), 'Added', b'%d' % (begun + n)) for n in range(20)])\n")
        environment = {**os.environ, "PYTHONPATH": TESTS + os.pathsep + os.environ.get("PYTHONPATH", "")}
        positions = [0]
        for attempt in range(16):
            killed = subprocess.Popen([sys.executable, "-c", program, self.path], stdout=subprocess.PIPE, env=environment)
            try:
                for _ in range(5):
                    self.assertGreaterEqual(int(killed.stdout.readline()), positions[-1])
                time.sleep(0.001 * attempt)
            finally:
                killed.send_signal(signal.SIGKILL)
                killed.communicate()
            with EventStore(self.path) as store:
                committed = store.saved_position("projection/totals")
                self.assertGreater(committed, positions[-1])
                positions.append(committed)
                self.assertEqual(json.loads(store.state(b"projection/totals")), self.sums(store.read(to=committed)))
        with EventStore(self.path) as store:
            totals = Totals(store, "totals", snapshot_every=0, commit_every=1)
            self.assertEqual(totals.position, positions[-1])
            totals.catch_up()
            self.assertEqual(totals.state, self.sums(store))
            self.assertEqual(store.saved_position("projection/totals"), store.last_position())

    def sums(self, events):
        found = {}
        for event in events:
            found[event.stream] = found.get(event.stream, 0) + int(event.data)
        return found


class Reconstruction(ProjectionCase):
    def test_state_of_a_stream_now_and_at_any_version(self):
        self.append(1, 2)
        self.append(100, stream="b")
        self.append(3)
        self.append(50, kind="Other")
        handlers = {"Added": add}
        self.assertEqual(reconstruct_state(self.store, "a-1", handlers, 0), 6)
        self.assertEqual([reconstruct_state(self.store, "a-1", handlers, 0, up_to=n) for n in range(6)], [0, 1, 3, 6, 6, 6])
        self.assertEqual(reconstruct_state(self.store, "none", handlers, 7), 7)
        initial = []
        self.assertEqual(reconstruct_state(self.store, "a-1", {"Added": note}, initial, 2), [1, 2])
        self.assertEqual(initial, [])
        with self.assertRaises(duralog.InvalidArgument):
            reconstruct_state(self.store, "a-1", handlers, 0, up_to=-1)
        with self.assertRaises(TypeError):
            reconstruct_state(self.store, b"a-1", handlers, 0)


if __name__ == "__main__":
    unittest.main()
