"""Projections and states of streams: whatever is interrupted, saved, lost or repeated, the state is that of
its events, each counted once.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import unittest

import duralog
from duralog import EventStore, NewEvent, Projection, Query, QueryItem, on, reconstruct_state
from support import TESTS, Case


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
        stop = threading.Event()
        thread = threading.Thread(target=notes.follow, args=(stop, 0.001))
        thread.start()
        for number in range(200):
            self.append(number)
        stop.set()
        thread.join(20)
        self.assertEqual(notes.state, list(range(1, 301)))

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
        self.assertEqual(load(b"k", fingerprint=b"f"), (6, 6, b"6"))
        self.assertEqual(load(b"k", 5, fingerprint=b"f"), (4, 4, b"4"))
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


class Killed(Case):
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
