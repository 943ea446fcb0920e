"""Subscriptions: a subscriber gets every event of its selection once and in order, whatever happens beside it;
it waits without a thread, and whoever wants ends the waiting. Where a thread waits, the test waits for it with
a time that is never needed: none of them asserts how long something takes.
"""

import asyncio
import gc
import os
import random
import select
import signal
import threading
import time
import unittest
import warnings

import duralog
from duralog import EventStore, NewEvent, Query, QueryItem
from support import Case, python

SEED = random.randrange(1 << 32)
LONG = 60  # seconds; who waits so long has failed


def numbered(*numbers, stream="a", kind="T"):
    return [NewEvent(stream, kind, b"%d" % number) for number in numbers]


def positions(events):
    return [event.position for event in events]


def in_thread(function, *arguments):
    """Runs it in a thread; what is returned waits for its end and gives what it gave or raised."""
    outcome = []

    def run():
        try:
            outcome.append((True, function(*arguments)))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result():
        thread.join(LONG)
        if not outcome:
            raise AssertionError("the thread does not end")
        good, value = outcome[0]
        if not good:
            raise value
        return value

    return result


class SubscriptionCase(Case):
    def setUp(self):
        super().setUp()
        self.store = EventStore(self.path, sync="manual", segment_bytes_max=65536)
        self.addCleanup(self.store.close)

    def append(self, *numbers, **names):
        return self.store.append(numbered(*numbers, **names))

    def subscribe(self, *arguments, **options):
        subscription = self.store.subscribe(*arguments, **options)
        self.addCleanup(subscription.close)
        return subscription


class Following(SubscriptionCase):
    def test_gives_what_is_there_and_then_what_comes(self):
        self.append(*range(3000))
        subscription = self.subscribe(timeout=0)
        self.assertEqual(positions(subscription), list(range(1, 3001)))
        self.assertEqual(positions(subscription), [])
        receipt = self.append(1, 2)
        self.assertEqual(positions(subscription), [3001, 3002])
        self.assertEqual(subscription.position, receipt.last_position)
        self.assertEqual(list(self.subscribe(timeout=0)), list(self.store))
        self.assertIn("at position 3002", repr(subscription))

    def test_begins_where_it_is_told(self):
        self.append(*range(10))
        cases = {(): 1, (("after", 0),): 1, (("after", 4),): 5, (("after", 10),): 11, (("after", 12),): 13, (("after", "end"),): 11}
        made = [(self.subscribe(timeout=0, **dict(options)), first) for options, first in cases.items()]
        self.append(*range(10))
        for subscription, first in made:
            self.assertEqual(subscription.position, first - 1)
            self.assertEqual(positions(subscription), list(range(first, 21)))

    def test_selections_give_what_reading_them_gives(self):
        generator = random.Random(SEED)
        queries = [Query([QueryItem(["T1"]), QueryItem(tags=["even"])]), Query([QueryItem(["T2"], ["even"])]), Query()]
        selections = [{}, {"stream": "a-1"}, {"stream": "nobody"}, {"category": "b"}, *({"query": query} for query in queries)]
        live = [self.subscribe(timeout=0, **selection) for selection in selections]
        found = [[] for _ in selections]
        for _ in range(60):
            self.store.append([NewEvent(f"{generator.choice('ab')}-{generator.randrange(3)}", f"T{generator.randrange(4)}",
                                        tags=generator.choice([(), ("even",)])) for _ in range(generator.randrange(1, 40))])
            index = generator.randrange(len(live))
            found[index] += live[index]
        for selection, subscription, events in zip(selections, live, found):
            events += subscription
            expected = list(self.store.read(**selection))
            self.assertEqual(events, expected, f"{selection}, seed {SEED}")
            self.assertEqual(subscription.position, self.store.last_position())
            middle = self.store.last_position() // 2
            self.assertEqual(list(self.subscribe(after=middle, timeout=0, **selection)),
                             [event for event in expected if event.position > middle])

    def test_a_loop_that_is_left_and_begun_again_misses_nothing(self):
        self.append(*range(5000))
        subscription = self.subscribe(timeout=0)
        found = []
        while len(found) < 5000:
            for event in subscription:
                found.append(event.position)
                self.assertEqual(subscription.position, event.position)
                if len(found) % 777 == 0:
                    break
        found += positions(subscription.take(0))
        self.assertEqual(found, list(range(1, 5001)))

    def test_take_gives_pages_and_the_rest_of_one_that_was_begun(self):
        self.append(*range(2500))
        subscription = self.subscribe()
        next(iter(subscription))
        found = [positions(subscription.take()) for _ in range(3)]
        self.assertEqual(sum(found, []), list(range(2, 2501)))
        self.assertEqual((subscription.take(0), subscription.take(0.001)), ([], []))
        waiting = in_thread(subscription.take)
        self.append(1)
        self.assertEqual(positions(waiting()), [2501])

    def test_timeout_ends_iterating_and_iterating_again_goes_on(self):
        subscription = self.subscribe(timeout=0.01)
        for number in range(1, 4):
            self.assertEqual(positions(subscription), [])
            self.append(number)
            self.assertEqual(positions(subscription), [number])
        self.assertFalse(subscription.cancelled)

    def test_misses_and_repeats_nothing_while_threads_append_and_it_restarts_from_its_saved_position(self):
        generator = random.Random(SEED)
        batches = [[generator.randrange(1, 30) for _ in range(60)] for _ in range(8)]
        total = sum(map(sum, batches))

        def append(stream, sizes):
            number = 0
            for size in sizes:
                self.append(*range(number, number + size), stream=stream)
                number += size

        writers = [in_thread(append, f"writer-{index}", sizes) for index, sizes in enumerate(batches)]
        handled, given, restarts = [], [], 0
        while len(handled) < total:
            restarts += 1
            with self.store.subscribe("reader") as subscription:
                begin = len(handled)
                count = generator.randrange(1, total // 6)
                for event in subscription:
                    given.append(event.position)
                    if len(given) % 5 == 0 and begin + count <= len(handled):
                        break  # given, but not dealt with: it must come again
                    handled.append((event.position, event.stream, int(event.data)))
                    if len(handled) == total:
                        break
                    if len(handled) % 50 == 0 or begin + count <= len(handled):
                        subscription.ack()
                if len(handled) < total:  # what was handled since the last ack is forgotten, as by a crash
                    del handled[self.store.saved_position("reader") or 0:]
        for writer in writers:
            writer()
        self.assertEqual([position for position, _, _ in handled], list(range(1, total + 1)), f"seed {SEED}")
        for index, sizes in enumerate(batches):
            self.assertEqual([number for _, stream, number in handled if stream == f"writer-{index}"], list(range(sum(sizes))))
        self.assertGreater(restarts, 3)
        self.assertGreater(self.store.wal_stat().rotation_count, 1)

    def test_a_store_opened_for_reading_is_followed(self):
        self.append(1)
        with EventStore(self.path, read_only=True) as reader, reader.subscribe("name") as subscription:
            self.assertEqual(positions(subscription.take(LONG)), [1])
            waiting = in_thread(subscription.take)
            self.append(2)
            self.assertEqual(positions(waiting()), [2])
            self.assertEqual(subscription.take(0.01), [])
            with self.assertRaises(duralog.ReadOnly):
                subscription.ack()

            async def follow():
                async for event in subscription:
                    return event.position

            async def both():
                following = asyncio.ensure_future(follow())
                await asyncio.sleep(0.01)
                self.append(3)
                return await asyncio.wait_for(following, LONG)

            self.assertEqual(asyncio.run(both()), 3)


class Acknowledging(SubscriptionCase):
    def test_goes_on_behind_what_was_acknowledged_also_after_reopening(self):
        self.append(*range(10))
        with self.store.subscribe("reader", timeout=0) as subscription:
            subscription.ack()
            self.assertIsNone(self.store.saved_position("reader"))
            for event in subscription:
                if event.position == 4:
                    subscription.ack()
                    break
            subscription.ack(2)  # not beyond: nothing changes
        self.assertEqual(self.store.saved_position("reader"), 4)
        self.store.close()
        with EventStore(self.path) as store:
            with store.subscribe("reader", timeout=0) as subscription, store.subscribe("other", timeout=0) as other:
                self.assertEqual(positions(subscription), [5, 6, 7, 8, 9, 10])
                subscription.ack(7)
                self.assertEqual(len(list(other)), 10)
            with store.subscribe("reader", timeout=0) as subscription:
                self.assertEqual(positions(subscription), [8, 9, 10])
                subscription.ack()
            with store.subscribe("reader", after=9, timeout=0) as subscription:
                self.assertEqual(positions(subscription), [10])

    def test_events_passed_over_are_not_looked_at_again(self):
        self.append(1, kind="Wanted")
        self.append(*range(100))
        query = Query([QueryItem(["Wanted"])])
        with self.store.subscribe("reader", query=query, timeout=0) as subscription:
            self.assertEqual(positions(subscription), [1])
            subscription.ack()
        self.assertEqual(self.store.saved_position("reader"), 101)

    def test_what_was_not_handed_out_is_not_acknowledged(self):
        self.append(*range(10))
        with self.store.subscribe("reader", timeout=0) as subscription:
            for position in (1, 10, 10**12, (1 << 64) - 1):
                with self.assertRaisesRegex(duralog.InvalidArgument, f"position {position} is.*up to position 0"):
                    subscription.ack(position)
            for event in subscription:
                if event.position == 4:
                    break
            # The rest of the page waits, so the library has given it.
            for position in (5, 10, 11):
                with self.assertRaisesRegex(duralog.InvalidArgument, f"position {position} is.*up to position 4"):
                    subscription.ack(position)
            subscription.ack(4)
            self.assertEqual(positions(subscription.take(0)), [5, 6, 7, 8, 9, 10])
            subscription.ack(9)
            subscription.cancel()
            with self.assertRaisesRegex(duralog.InvalidArgument, "position 11 is.*up to position 10"):
                subscription.ack(11)
        self.assertEqual(self.store.saved_position("reader"), 9)
        with self.store.subscribe("reader", timeout=0) as subscription:
            self.assertEqual(positions(subscription), [10])
        with self.store.subscribe("other", after="end", timeout=0) as subscription:
            subscription.ack(10)
            with self.assertRaises(duralog.InvalidArgument):
                subscription.ack(11)

    def test_acknowledged_one_by_one_in_a_loop(self):
        self.append(*range(30))
        found = []

        async def follow():
            async for event in subscription:
                found.append(event.position)
                subscription.ack(event.position)

        with self.store.subscribe("reader", timeout=0) as subscription:
            asyncio.run(follow())
        self.assertEqual((found, self.store.saved_position("reader")), (list(range(1, 31)), 30))

    def test_without_a_name_there_is_nothing_to_acknowledge(self):
        self.append(1)
        subscription = self.subscribe(timeout=0)
        list(subscription)
        for arguments in ((), (1,)):
            with self.assertRaisesRegex(duralog.InvalidArgument, "without a name"):
                subscription.ack(*arguments)


class Ending(SubscriptionCase):
    def test_cancelled_from_another_thread_while_it_waits(self):
        self.append(1)
        for wait in (list, lambda subscription: subscription.take() and subscription.take(), lambda s: s.take() and s.take(LONG)):
            subscription = self.subscribe()
            waiting = in_thread(wait, subscription)
            time.sleep(0.01)
            subscription.cancel()
            self.assertEqual(positions(waiting()), [1] if wait is list else [])
            self.assertTrue(subscription.cancelled)
            subscription.cancel()
            self.assertEqual((list(subscription), subscription.take(), subscription.take(0)), ([], [], []))
            self.append(1)
            self.assertEqual(list(subscription), [])
            self.store.append(reset_positions={"x": 1})

    def test_cancelled_in_the_middle_of_a_page_ends_there(self):
        self.append(*range(100))
        subscription = self.subscribe("reader")
        found = []
        for event in subscription:
            found.append(event.position)
            if event.position == 7:
                subscription.cancel()
        self.assertEqual(found, list(range(1, 8)))
        subscription.ack()
        self.assertEqual(self.store.saved_position("reader"), 7)

    def test_cancelled_at_any_moment_by_threads(self):
        self.append(*range(2000))
        for _ in range(30):
            subscription = self.subscribe()
            threads = [in_thread(list, subscription), in_thread(subscription.cancel), in_thread(subscription.cancel)]
            found = positions(threads[0]())
            self.assertEqual(found, list(range(1, len(found) + 1)))
            for thread in threads[1:]:
                thread()

    def test_closed_while_it_waits(self):
        for _ in range(20):
            subscription = self.subscribe()
            waiting = in_thread(list, subscription)
            subscription.close()
            try:
                self.assertEqual(waiting(), [])
            except duralog.Closed:
                pass  # it was closed before the loop began

    def test_closing_the_store_ends_it_when_everything_was_given(self):
        subscription = self.subscribe()
        waiting = in_thread(list, subscription)
        time.sleep(0.01)
        self.store.close()
        with self.assertRaises(duralog.Closed):
            waiting()
        store = EventStore(self.path, sync="manual")
        store.append(numbered(*range(1500)))
        subscription = store.subscribe()
        store.close()
        with subscription:
            self.assertEqual(len(subscription.take()) + len(subscription.take()), 1500)
            for _ in range(2):
                with self.assertRaisesRegex(duralog.Closed, "the event store was closed"):
                    subscription.take()
        for call in (store.subscribe, lambda: store.subscribe("x", after="end")):
            with self.assertRaises(duralog.Closed):
                call()

    def test_every_method_after_close_says_closed(self):
        subscription = self.subscribe("x")
        self.append(1)
        subscription.close()
        subscription.close()
        subscription.cancel()
        for call in (subscription.take, lambda: list(subscription), lambda: subscription.ack(1), subscription.__enter__,
                     lambda: asyncio.run(subscription.take_async()), lambda: asyncio.run(first_of(subscription))):
            with self.assertRaises(duralog.Closed):
                call()
        self.assertTrue(subscription.closed and subscription.cancelled)
        self.assertIn("closed", repr(subscription))

    def test_a_signal_handler_ends_the_waiting(self):
        class Alarm(Exception):
            pass

        def raise_alarm(*_):
            raise Alarm

        subscription = self.subscribe()
        for handler, expected in ((raise_alarm, Alarm), (lambda *_: subscription.cancel(), None)):
            previous = signal.signal(signal.SIGALRM, handler)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                if expected is None:
                    self.assertEqual(subscription.take(LONG), [])
                else:
                    with self.assertRaises(expected):
                        subscription.take(LONG)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, previous)
        subscription = self.subscribe()
        previous = signal.signal(signal.SIGALRM, lambda *_: subscription.close())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            self.assertEqual(list(subscription), [])
            self.assertTrue(subscription.closed)
        finally:
            signal.signal(signal.SIGALRM, previous)

    def test_forked_child_is_told_and_the_parent_goes_on(self):
        self.append(1)
        subscription = self.subscribe()
        subscription.take()
        self.append(2)  # the bell rings, and must not be silenced by the child
        child = os.fork()
        if child == 0:
            try:
                try:
                    subscription.take(LONG)
                except duralog.Forked:
                    subscription.cancel()
                    subscription.close()
                    os._exit(33)
            finally:
                os._exit(1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 33)
        poll = select.poll()
        poll.register(subscription._fd, select.POLLIN)
        self.assertTrue(poll.poll(0), "the child took what was the parent's")
        self.assertEqual(positions(subscription.take(LONG)), [2])

    def test_forgotten_subscription_warns(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.store.subscribe()
            gc.collect()
        self.assertIn("unclosed <duralog.Subscription", str(caught[0].message))

    def test_end_of_the_interpreter_is_quiet_while_a_thread_waits(self):
        ended = python(
            "import sys, threading, duralog\n"
            "store = duralog.EventStore(sys.argv[1])\n"
            "subscription = store.subscribe()\n"
            "threading.Thread(target=subscription.take, daemon=True).start()\n", self.path + "2", options=("-W", "error"))
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))

    def test_used_by_two_threads_is_an_error(self):
        subscription = self.subscribe("x")
        waiting = in_thread(subscription.take)
        while not subscription._one_at_a_time.locked():
            time.sleep(0.001)
        for call in (lambda: subscription.take(0), lambda: subscription.ack(1)):
            with self.assertRaisesRegex(RuntimeError, "another thread"):
                call()
        subscription.cancel()
        self.assertEqual(waiting(), [])

    def test_misuse_is_refused(self):
        for options in ({"after": -1}, {"after": 1 << 64}, {"after": "beginning"}, {"timeout": -1}, {"timeout": float("nan")},
                        {"name": ""}, {"name": "x" * 300}):
            with self.assertRaises(duralog.InvalidArgument):
                self.store.subscribe(**options)
        for options in ({"after": 1.5}, {"name": b"x"}, {"timeout": "1"}, {"stream": "a", "category": "b"}, {"query": "q"}):
            with self.assertRaises(TypeError):
                self.store.subscribe(**options)
        subscription = self.subscribe()
        for timeout in (-0.1, float("nan")):
            with self.assertRaises(duralog.InvalidArgument):
                subscription.take(timeout)


async def first_of(subscription):
    async for event in subscription:
        return event


class Asynchronous(SubscriptionCase):
    def run_async(self, coroutine):
        async def in_time():
            return await asyncio.wait_for(coroutine, LONG)

        return asyncio.run(in_time())

    def test_many_subscriptions_in_one_loop_get_everything_without_a_thread(self):
        self.append(*range(1500), stream="before")
        selections = [{}, {"stream": "live-1"}, {"category": "live"}, {"query": Query([QueryItem(["T2"])])}, {"after": "end"}] * 3
        last = 1500 + 400

        async def follow(subscription):
            found = []
            async for event in subscription:
                found.append(event)
            return found

        async def append():
            for number in range(400):
                self.append(number, stream=f"live-{number % 3}", kind=f"T{number % 4}")
                if number % 7 == 0:
                    await asyncio.sleep(0)
                if number % 90 == 0:
                    await asyncio.sleep(0.002)

        async def main():
            subscriptions = [self.store.subscribe(**selection) for selection in selections]
            tasks = [asyncio.ensure_future(follow(subscription)) for subscription in subscriptions]
            await append()
            while any(subscription.position < last for subscription in subscriptions):
                await asyncio.sleep(0.001)
            self.assertEqual(threading.active_count(), 1)
            for subscription in subscriptions:
                subscription.close()
            return await asyncio.gather(*tasks)

        for selection, found in zip(selections, self.run_async(main())):
            selection = dict(selection)
            behind = 1500 if selection.pop("after", None) else 0
            self.assertEqual(found, [event for event in self.store.read(**selection) if event.position > behind])

    def test_woken_by_threads_that_append(self):
        subscription = self.subscribe()

        def append():
            for number in range(300):
                self.append(number)

        async def main():
            threads = [in_thread(append) for _ in range(4)]
            found = []
            async for event in subscription:
                found.append(event.position)
                if len(found) == 1200:
                    break
            for thread in threads:
                thread()
            return found

        self.assertEqual(self.run_async(main()), list(range(1, 1201)))

    def test_waiting_ends_by_time_cancel_and_close_from_wherever(self):
        async def main():
            with self.store.subscribe(timeout=0.01) as subscription:
                self.assertEqual([event async for event in subscription], [])
                self.append(1)
                self.assertEqual([event.position async for event in subscription], [1])
                self.assertEqual(await subscription.take_async(0), [])
            for end in (lambda s: s.cancel(), lambda s: s.close(), lambda s: in_thread(s.cancel)(), lambda s: in_thread(s.close)()):
                subscription = self.store.subscribe(after="end")
                task = asyncio.ensure_future(subscription.take_async())
                await asyncio.sleep(0.005)
                self.assertFalse(task.done())
                end(subscription)
                self.assertEqual(await task, [])
                subscription.close()
            with self.store.subscribe(after="end") as subscription:
                task = asyncio.ensure_future(first_of(subscription))
                await asyncio.sleep(0.005)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.append(2)  # and the subscription is as good as new
                self.assertEqual((await first_of(subscription)).position, 2)
                task = asyncio.ensure_future(subscription.take_async())
                await asyncio.sleep(0.005)
                with self.assertRaisesRegex(RuntimeError, "another task"):
                    await subscription.take_async()
                self.store.close()
                with self.assertRaisesRegex(duralog.Closed, "the event store was closed"):
                    await task

        self.run_async(main())

    def test_a_backlog_leaves_the_others_of_the_loop_their_turn(self):
        self.append(*range(20_000))

        async def main():
            turns = 0

            async def others():
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.ensure_future(others())
            with self.store.subscribe() as subscription:
                async for event in subscription:
                    if event.position == 20_000:
                        break
            task.cancel()
            return turns

        self.assertGreater(self.run_async(main()), 10)

    def test_no_descriptor_is_left_behind(self):
        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        async def main():
            for _ in range(50):
                with self.store.subscribe(timeout=0.0005) as subscription:
                    self.assertEqual([event async for event in subscription], [])

        self.run_async(main())
        before = descriptors()
        self.run_async(main())
        self.assertEqual(descriptors(), before)


if __name__ == "__main__":
    unittest.main()
