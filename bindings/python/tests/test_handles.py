"""Handles at their edges: use after close, close in the middle of use (threads, signal handlers), fork,
handles that nobody closed, and the end of the interpreter. None of it may crash, hang, or print.
"""

import gc
import os
import signal
import sys
import threading
import time
import unittest
import warnings
from itertools import islice

import duralog
from duralog import Wal
from support import Case, python


class Closing(Case):
    def test_every_method_after_close_says_closed(self):
        wal = Wal(self.path)
        cursor = wal.cursor()
        wal.append(b"x")
        wal.close()
        wal.close()
        self.assertTrue(wal.closed)
        calls = {
            "append": lambda: wal.append(b""), "delete": lambda: wal.delete(b""),
            "append_batch": lambda: wal.append_batch([b""]), "append_later": lambda: wal.append_later([b""]),
            "wait_for": lambda: wal.wait_for(1), "wait_durable": lambda: wal.wait_durable(1),
            "ticket_fd": wal.ticket_fd, "sync": wal.sync, "checkpoint": wal.checkpoint,
            "last_checkpoint": wal.last_checkpoint, "truncate": lambda: wal.truncate(0),
            "batch_status": lambda: wal.batch_status(1), "replay": lambda: wal.replay(print), "iterate": wal.iterate,
            "tuples": wal.tuples, "values": wal.values, "batches": lambda: next(wal.batches()), "cursor": wal.cursor, "stat": wal.stat,
            "recovery_report": wal.recovery_report, "__iter__": lambda: iter(wal), "__enter__": wal.__enter__,
        }
        public = {name for name in dir(Wal) if not name.startswith("_")} - {"close", "closed", "path"}
        self.assertEqual(public - set(calls), set())
        for name, call in calls.items():
            with self.subTest(name), self.assertRaises(duralog.Closed) as caught:
                call()
            self.assertIsInstance(caught.exception, ValueError)
        self.assertEqual([r.value for r in cursor], [b"x"])
        cursor.close()
        cursor.close()
        self.assertIn("closed", repr(wal))

    def test_iterators_begun_before_close_go_on(self):
        with Wal(self.path) as wal:
            wal.append_batch([b"%d" % n for n in range(5000)])
            begun, fresh = wal.iterate(), wal.tuples()
            next(begun)
        self.assertEqual(len(list(begun)), 4999)
        self.assertEqual(len(list(fresh)), 5000)

    def test_log_can_be_opened_again_at_once(self):
        for n in range(20):
            with Wal(self.path) as wal:
                self.assertEqual(wal.append(b"x"), n + 1)

    def test_close_waits_for_the_calls_of_other_threads_and_turns_new_ones_away(self):
        for _ in range(10):
            wal = Wal(self.path)
            acknowledged, ends = [], []

            def work():
                try:
                    while True:
                        acknowledged.append(wal.append_batch([b"x"] * 10))
                        wal.stat()
                        sum(1 for _ in wal.tuples(acknowledged[-1] - 11))
                except duralog.Closed:
                    ends.append("closed")
                except BaseException as error:
                    ends.append(error)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(0.02)
            wal.close()
            for thread in threads:
                thread.join(20)
            self.assertEqual(ends, ["closed"] * 4)
            with Wal(self.path) as wal:
                numbers = {row[0] for row in wal.tuples()}
            for seq in acknowledged:
                self.assertLessEqual(set(range(seq - 10, seq)), numbers)

    def test_two_threads_may_close(self):
        for _ in range(20):
            wal = Wal(self.path)
            errors = []

            def close():
                try:
                    wal.close()
                except BaseException as error:
                    errors.append(error)

            threads = [threading.Thread(target=close) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(errors, [])

    def test_cursor_used_by_two_threads_is_an_error_not_a_crash(self):
        with Wal(self.path) as wal, wal.cursor() as cursor:
            wal.append(b"x")
            cursor._one_at_a_time.acquire()
            with self.assertRaisesRegex(RuntimeError, "another thread"):
                list(cursor)
            cursor._one_at_a_time.release()
            self.assertEqual(len(list(cursor)), 1)

    def test_signal_handler_may_close(self):
        """SIGTERM handlers do. The handler runs in the thread that is in a call, so waiting would be for ever."""
        for round in range(40):
            wal = Wal(self.path, sync="manual")
            before = signal.signal(signal.SIGALRM, lambda *_: wal.close())
            try:
                with self.assertRaises(duralog.Closed):
                    signal.setitimer(signal.ITIMER_REAL, 0.001 + round * 0.0001)
                    while True:
                        wal.append_batch([b"x"])
            finally:
                signal.signal(signal.SIGALRM, before)
        with Wal(self.path) as wal:
            self.assertGreater(wal.stat().last_seq, 0)

    def test_close_in_the_middle_of_a_call_of_its_thread_is_left_to_that_call(self):
        wal = Wal(self.path)

        def interrupted(pointer):
            wal.close()
            self.assertTrue(wal.closed)
            self.assertEqual(wal._pointer, pointer)
            with self.assertRaises(duralog.Busy):
                Wal(self.path)
            return 0

        wal._call(interrupted)
        Wal(self.path).close()

    def test_close_waits_for_a_call_of_another_thread(self):
        wal = Wal(self.path)
        entered, go_on = threading.Event(), threading.Event()
        caller = threading.Thread(target=wal._call, args=(lambda pointer: entered.set() or go_on.wait(20) and 0,))
        closer = threading.Thread(target=wal.close)
        caller.start()
        entered.wait()
        closer.start()
        closer.join(0.05)
        self.assertTrue(closer.is_alive())
        with self.assertRaises(duralog.Closed):
            wal.append(b"too late")
        go_on.set()
        closer.join(20)
        self.assertFalse(closer.is_alive())
        caller.join()
        Wal(self.path).close()

    def test_exception_of_a_signal_handler_leaves_nothing_behind(self):
        class Interrupt(Exception):
            pass

        def interrupt(*_):
            raise Interrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            with Wal(self.path, sync="manual") as wal:
                for round in range(100):
                    with self.assertRaises(Interrupt):
                        signal.setitimer(signal.ITIMER_REAL, 0.0005 + round * 0.00001)
                        while True:
                            wal.append_batch([b"x"])
            Wal(self.path).close()  # it is not open any more
        finally:
            signal.signal(signal.SIGALRM, before)


class Forgotten(Case):
    def test_forgotten_log_warns_and_is_closed(self):
        wal = Wal(self.path)
        wal.append(b"x")
        with self.assertWarnsRegex(ResourceWarning, "unclosed <duralog.Wal"):
            del wal
            gc.collect()
        Wal(self.path).close()

    def test_forgotten_cursor_warns_and_a_forgotten_iterator_does_not(self):
        with Wal(self.path) as wal:
            wal.append_batch([b"a", b"b"])
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                next(wal.iterate())
                wal.tuples()
                gc.collect()
                self.assertEqual(caught, [])
                wal.cursor()
                gc.collect()
            self.assertEqual([warning.category for warning in caught], [ResourceWarning])

    def test_log_that_could_not_be_opened_leaves_nothing(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for bad in ({"must_exist": True}, {"sync": "?"}):
                try:
                    Wal(self.path, **bad)
                except duralog.DuralogError:
                    pass
            gc.collect()
        self.assertEqual(caught, [])

    def test_end_of_the_interpreter_is_quiet_and_closes(self):
        """Also with iterators half-way, in a cycle, in a module, in a thread that still runs."""
        done = python(
            "import duralog, sys, threading, builtins\n"
            "path = sys.argv[1]\n"
            "wal = duralog.Wal(path)\n"
            "wal.append_batch([b'x'] * 3000)\n"
            "begun = wal.iterate(); next(begun)\n"
            "cursor = wal.cursor(); next(iter(cursor))\n"
            "class Cycle: pass\n"
            "cycle = Cycle(); cycle.me = cycle; cycle.wal = duralog.Wal(path + '2'); cycle.wal.append(b'x')\n"
            "builtins.kept = duralog.Wal(path + '3')\n"
            "busy = duralog.Wal(path + '4', sync='manual')\n"
            "def work():\n"
            "    while True: busy.append(b'x')\n"
            "threading.Thread(target=work, daemon=True).start()\n",
            self.path, options=("-X", "dev", "-W", "error"))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        with Wal(self.path, recovery="strict") as wal:
            self.assertEqual(wal.stat().last_seq, 3001)
        for other in "234":
            Wal(self.path + other).close()


class Fork(Case):
    def in_child(self, work):
        """Runs `work` in a child made by fork; what it returns must be true."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: the library has a thread of its own
            child = os.fork()
        if child == 0:
            try:
                os._exit(0 if work() else 1)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(2)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return self.assertEqual(status, 0)
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.fail("the child hangs")

    def test_handles_of_the_parent_answer_forked(self):
        with Wal(self.path) as wal:
            wal.append(b"parent")
            cursor = wal.cursor()

            def child():
                for call in (lambda: wal.append(b"child"), lambda: wal.append_batch([b"child"]), wal.sync, wal.stat,
                             wal.iterate, wal.last_checkpoint, lambda: wal.batch_status(4096)):
                    try:
                        call()
                        return False
                    except duralog.Forked:
                        pass
                return True

            self.in_child(child)
            wal.append(b"parent again")
            self.assertEqual([r.value for r in cursor], [b"parent", b"parent again"])
            cursor.close()

    def test_child_closes_and_forgets_without_touching_the_log_of_the_parent(self):
        with Wal(self.path) as wal:
            box = [wal, wal.cursor(), wal.iterate()]
            next(box[2], None)

            def child():
                warnings.simplefilter("error")
                wal.close()
                box.clear()
                gc.collect()
                return wal.closed

            self.in_child(child)
            self.assertEqual(wal.append(b"still open"), 1)
            with self.assertRaises(duralog.Busy):
                Wal(self.path)
            box[1].close()

    def test_child_does_not_wait_for_threads_that_it_does_not_have(self):
        with Wal(self.path) as wal:
            entered, go_on = threading.Event(), threading.Event()
            caller = threading.Thread(target=wal._call, args=(lambda pointer: entered.set() or go_on.wait(20) and 0,))
            caller.start()
            entered.wait()
            self.in_child(lambda: wal.close() is None)
            go_on.set()
            caller.join()

    def test_child_does_not_wait_for_a_page_that_is_made_ahead(self):
        with duralog.EventStore(self.path) as store:
            store.append(duralog.NewEvent("stream", "Type", bytes(200)) for _ in range(20_000))
            events = store.read()
            seen = 0

            def child():
                try:
                    for _ in events:
                        pass
                    return False
                except duralog.Forked:
                    return True

            while page := list(islice(events, 512)):
                self.assertEqual([event.position for event in page], list(range(seen + 1, seen + len(page) + 1)))
                seen += len(page)
                if seen % 2048 == 0:
                    self.in_child(child)
            self.assertEqual(seen, 20_000)

    def test_child_opens_logs_of_its_own(self):
        with Wal(self.path) as wal:
            wal.append(b"parent")

            def child():
                with Wal(self.path, read_only=True) as reader:
                    seen = [r.value for r in reader]
                with Wal(self.path + "2") as own:
                    own.append(b"child")
                try:
                    Wal(self.path)
                    return False
                except duralog.Busy:
                    return seen == [b"parent"]

            self.in_child(child)
            wal.append(b"parent")


if __name__ == "__main__":
    unittest.main()
