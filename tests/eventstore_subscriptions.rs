//! Following the event store: a subscriber gets every event of its selection once, in order, however
//! many threads append, and none before it is durable; whoever waits is woken, and who does not pull costs
//! the writer nothing.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::eventstore::{
    AppendRequest, EventStore, EventStoreOptions, NewEvent, Query, QueryItem, Selection,
    SubscribeFrom, Subscription,
};
use duralog::vfs::sim::{errno, Call, Fault, FaultPlan, SimDisk};
use duralog::{Durability, ErrorKind, SyncMode, WalOptions};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn event<'a>(stream: &'a str, event_type: &'a str, data: &'a [u8]) -> NewEvent<'a> {
    NewEvent {
        stream,
        event_type,
        data,
        ..NewEvent::default()
    }
}

/// Segments as small as they can be, and no syncs to wait for.
fn options() -> EventStoreOptions {
    EventStoreOptions {
        wal: WalOptions {
            segment_bytes_max: 64 << 10,
            sync_mode: SyncMode::Manual,
            ..WalOptions::default()
        },
        ..EventStoreOptions::default()
    }
}

fn open(dir: &Path) -> EventStore {
    EventStore::open(dir, &EventStoreOptions::default()).unwrap()
}

fn append(store: &EventStore, event: NewEvent<'_>) {
    let request = AppendRequest {
        events: &[event],
        ..AppendRequest::default()
    };
    store.append(&request, Durability::AsOpened).unwrap();
}

#[test]
fn a_subscriber_misses_nothing_and_sees_nothing_twice_while_threads_append() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = EventStore::open(&path, &options()).unwrap();
    let (threads, each) = (8u64, 2_000u64);
    let even = Selection::Query(Query {
        items: vec![QueryItem {
            types: vec!["Even".into()],
            tags: vec![],
        }],
    });
    std::thread::scope(|scope| {
        let mut begun = Vec::new();
        for thread in 0..threads {
            let store = &store;
            begun.push(scope.spawn(move || {
                let stream = format!("s-{thread}");
                for number in 0..each {
                    let kind = if number % 2 == 0 { "Even" } else { "Odd" };
                    append(store, event(&stream, kind, &number.to_le_bytes()));
                }
            }));
        }
        for (selection, step) in [(Selection::All, 1), (even, 2)] {
            let store = &store;
            begun.push(scope.spawn(move || {
                let total = threads * each / step;
                let mut seen = 0;
                let mut last = 0;
                let mut next = vec![0u64; threads as usize];
                while seen < total {
                    // A new subscription every now and then, from the saved position.
                    let name = format!("consumer-{step}");
                    let mut subscription = store
                        .subscribe(selection.clone(), &SubscribeFrom::Saved, Some(&name))
                        .unwrap();
                    for _ in 0..20 {
                        let wait = Some(Duration::from_secs(10));
                        let page = subscription.next_page(100, wait).unwrap();
                        for event in page.iter() {
                            assert!(event.position > last);
                            assert!(step == 2 || event.position == last + 1);
                            last = event.position;
                            seen += 1;
                            let thread: usize = event.stream[2..].parse().unwrap();
                            let number = u64::from_le_bytes(event.data.try_into().unwrap());
                            assert_eq!(number, next[thread]);
                            next[thread] += step;
                        }
                        subscription.ack(last).unwrap();
                        if seen == total {
                            break;
                        }
                    }
                }
            }));
        }
        // ThreadSanitizer sees who waits for a thread, but not the end of a scope.
        begun.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!(store.last_position().unwrap(), threads * each);
    let segments = store.wal().stat().unwrap().segment_count;
    assert!(segments > 10, "{segments} segments");
}

#[test]
fn a_waiting_subscription_is_woken_by_an_append_a_cancellation_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    append(&store, event("a", "T", b""));
    let mut subscription = store
        .subscribe(Selection::All, &SubscribeFrom::End, None)
        .unwrap();
    let none = subscription.next_page(10, Some(Duration::ZERO));
    assert!(none.unwrap().is_empty());
    let forever = |subscription: &mut Subscription| {
        let page = subscription.next_page(10, None);
        page.map(|page| page.iter().map(|event| event.position).collect::<Vec<_>>())
    };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| forever(&mut subscription));
        std::thread::sleep(Duration::from_millis(50));
        append(&store, event("a", "T", b""));
        assert_eq!(waiting.join().unwrap().unwrap(), [2]);
    });
    let canceller = subscription.canceller();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| forever(&mut subscription));
        std::thread::sleep(Duration::from_millis(50));
        canceller.cancel();
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped);
    });
    let mut subscription = store
        .subscribe(Selection::All, &SubscribeFrom::After(1), None)
        .unwrap();
    assert_eq!(forever(&mut subscription).unwrap(), [2]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| forever(&mut subscription));
        std::thread::sleep(Duration::from_millis(50));
        store.close().unwrap();
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    });
}

#[test]
fn what_was_not_given_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    for number in 0..9 {
        append(&store, event("a", ["T", "U"][number % 2], b""));
    }
    let (now, name) = (Some(Duration::ZERO), Some("name"));
    let mut subscription = store
        .subscribe(Selection::All, &SubscribeFrom::Saved, name)
        .unwrap();
    let refused = |subscription: &Subscription, position, given: u64| {
        let error = subscription.ack(position).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let message = error.to_string();
        let said = |number: u64| message.contains(&format!("position {number}"));
        assert!(said(position) && said(given), "{message}");
    };
    refused(&subscription, 1, 0);
    assert_eq!(subscription.next_page(4, now).unwrap().len(), 4);
    for position in [5, 9, 10, 1_000_000_000_000, u64::MAX] {
        refused(&subscription, position, 4);
    }
    assert_eq!(store.saved_position("name").unwrap(), None);
    subscription.ack(3).unwrap();
    subscription.ack(4).unwrap();
    let mut next = store
        .subscribe(Selection::All, &SubscribeFrom::Saved, name)
        .unwrap();
    refused(&next, 5, 4);
    next.ack(4).unwrap();
    assert_eq!(next.next_page(10, now).unwrap().get(0).unwrap().position, 5);

    // Where it began counts as given, and so does what is not of the selection.
    let mut behind = store
        .subscribe(Selection::All, &SubscribeFrom::After(7), name)
        .unwrap();
    refused(&behind, 8, 7);
    behind.ack(7).unwrap();
    assert_eq!(behind.next_page(1, now).unwrap().len(), 1);
    behind.ack(8).unwrap();
    refused(&behind, 9, 8);
    let odd = Selection::Query(Query {
        items: vec![QueryItem {
            types: vec!["U".into()],
            tags: vec![],
        }],
    });
    let mut odd = store.subscribe(odd, &SubscribeFrom::Saved, name).unwrap();
    refused(&odd, 9, 8);
    assert!(odd.next_page(10, now).unwrap().is_empty());
    odd.ack(9).unwrap();
    assert_eq!(store.saved_position("name").unwrap(), Some(9));
}

#[test]
fn the_descriptor_of_a_subscription_is_readable_while_there_may_be_news() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    let mut subscription = store
        .subscribe(Selection::All, &SubscribeFrom::Beginning, None)
        .unwrap();
    let fd = subscription.fd().unwrap();
    let readable = |millis: i32| {
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut poll, 1, millis) == 1 }
    };
    let now = Some(Duration::ZERO);
    for round in 1..=5u64 {
        while readable(0) {
            if subscription.next_page(10, now).unwrap().is_empty() {
                break;
            }
        }
        assert!(!readable(20), "nothing is new");
        for _ in 0..3 {
            append(&store, event("a", "T", b""));
        }
        assert!(readable(1000));
        assert_eq!(subscription.next_page(2, now).unwrap().len(), 2);
        assert!(readable(0), "one is left");
        assert_eq!(subscription.next_page(2, now).unwrap().len(), 1);
        assert_eq!(subscription.position(), 3 * round);
    }
}

/// What everybody may see of a store: the last position, and what a subscription gives now.
fn seen(store: &EventStore, subscription: &Mutex<Subscription>) -> (u64, Vec<u64>) {
    let mut subscription = subscription.lock().unwrap();
    let page = subscription.next_page(10, Some(Duration::ZERO)).unwrap();
    let given = page.iter().map(|event| event.position).collect();
    (store.last_position().unwrap(), given)
}

/// Looked at inside the sync, when everything is written: nobody sees it before the sync is over.
#[test]
fn a_subscription_gives_what_is_durable_and_nothing_before() {
    let disk = SimDisk::new(1);
    let options = EventStoreOptions::default();
    let store = EventStore::open_on(Arc::new(disk.clone()), "/store", &options).unwrap();
    let store = Arc::new(store);
    append(&store, event("a", "T", b""));
    let subscription = store.subscribe(Selection::All, &SubscribeFrom::Beginning, None);
    let subscription = Arc::new(Mutex::new(subscription.unwrap()));
    assert_eq!(seen(&store, &subscription), (1, vec![1]));
    for position in 2..20 {
        let found = Arc::new(Mutex::new(None));
        let (inside, place) = (Arc::clone(&found), Arc::clone(&store));
        let follower = Arc::clone(&subscription);
        disk.during_next_sync(move || {
            let is_known = place.stream_info("a").unwrap().unwrap().last_position;
            let event = place.event_at(position).unwrap().len();
            *inside.lock().unwrap() = Some((seen(&place, &follower), is_known, event));
        });
        append(&store, event("a", "T", b""));
        let before = ((position - 1, vec![]), position - 1, 0);
        assert_eq!(found.lock().unwrap().take(), Some(before));
        assert_eq!(seen(&store, &subscription), (position, vec![position]));
    }
}

/// A thread waits in vain for as long as a sync takes, and is woken when it is over.
#[test]
fn a_waiting_subscription_is_woken_by_the_sync_and_not_by_the_write() {
    let disk = SimDisk::new(1);
    let options = EventStoreOptions::default();
    let store = EventStore::open_on(Arc::new(disk.clone()), "/store", &options).unwrap();
    let subscribe = || store.subscribe(Selection::All, &SubscribeFrom::Beginning, None);
    let mut subscription = subscribe().unwrap();
    let synced = Arc::new(AtomicBool::new(false));
    let is_synced = Arc::clone(&synced);
    disk.during_next_sync(move || {
        std::thread::sleep(Duration::from_millis(50));
        is_synced.store(true, Ordering::SeqCst);
    });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let len = subscription.next_page(10, None).unwrap().len();
            (len, synced.load(Ordering::SeqCst))
        });
        append(&store, event("a", "T", b""));
        assert_eq!(waiting.join().unwrap(), (1, true));
    });
}

/// In the lazy modes a subscription gives what was acknowledged: a sync that fails takes it back from
/// the store, not from who was given it.
#[test]
fn a_lazy_store_gives_what_is_acknowledged_and_not_durable_yet() {
    let interval = SyncMode::Interval {
        batches: 1_000,
        millis: 1_000_000,
    };
    for sync_mode in [SyncMode::Manual, interval] {
        let disk = SimDisk::new(1);
        let mut options = options();
        options.wal.sync_mode = sync_mode;
        let store = EventStore::open_on(Arc::new(disk.clone()), "/store", &options).unwrap();
        let subscription = store.subscribe(Selection::All, &SubscribeFrom::Beginning, None);
        let subscription = Mutex::new(subscription.unwrap());
        append(&store, event("a", "T", b""));
        store.sync().unwrap();
        assert_eq!(seen(&store, &subscription), (1, vec![1]));
        let syncs = disk.counts().of(Call::SyncData);
        append(&store, event("a", "T", b""));
        assert_eq!(seen(&store, &subscription), (2, vec![2]));
        assert_eq!(disk.counts().of(Call::SyncData), syncs);
        let fault = Fault::Error(errno::EIO);
        disk.fail(FaultPlan::new(Call::SyncData, 1, fault).on(".wal"));
        store.sync().unwrap_err();
        assert_eq!(seen(&store, &subscription), (1, vec![]));
    }
}

/// It looks for more all the time, so that most events come while it finds that there are none.
#[test]
fn a_subscriber_that_is_always_at_the_end_misses_nothing() {
    const COUNT: u64 = 20_000;
    let disk = SimDisk::new(1);
    let store = EventStore::open_on(Arc::new(disk), "/store", &options()).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..COUNT {
                append(&store, event("a", "T", &number.to_le_bytes()));
            }
        });
        let mut subscription = store
            .subscribe(Selection::All, &SubscribeFrom::End, None)
            .unwrap();
        let mut seen = subscription.position();
        while seen < COUNT {
            let page = subscription.next_page(10, Some(Duration::ZERO)).unwrap();
            for event in page.iter() {
                assert_eq!(event.position, seen + 1);
                seen += 1;
            }
            let position = subscription.position();
            assert_eq!(position, seen, "passed over what it did not give");
        }
        writer.join().unwrap();
    });
}

/// Whoever appends here is who should pull: if it waited for that, it would wait for ever.
#[test]
fn a_subscriber_that_does_not_pull_costs_the_writer_nothing() {
    const COUNT: u64 = 20_000;
    let calls = [false, true].map(|is_followed| {
        let disk = SimDisk::new(1);
        let store = EventStore::open_on(Arc::new(disk.clone()), "/store", &options()).unwrap();
        let subscribe = || store.subscribe(Selection::All, &SubscribeFrom::Beginning, None);
        let mut slow = is_followed.then(|| subscribe().unwrap());
        let fd = slow.as_mut().map(|slow| slow.fd().unwrap());
        append(&store, event("a", "T", b""));
        if let Some(slow) = &mut slow {
            for len in [1, 0] {
                let page = slow.next_page(10, Some(Duration::ZERO)).unwrap();
                assert_eq!(page.len(), len);
            }
        }
        disk.reset_counts();
        for number in 0..COUNT {
            append(&store, event("a", "T", &number.to_le_bytes()));
        }
        let calls = disk.counts().total();
        if let (Some(slow), Some(fd)) = (&mut slow, fd) {
            // It was told once that there is something, not once for each event.
            let mut rung = 0u64;
            // SAFETY: reading an eventfd takes 8 bytes, which `rung` has.
            let read = unsafe { libc::read(fd, (&raw mut rung).cast(), 8) };
            assert_eq!((read, rung), (8, 1));
            let mut seen = 1;
            while seen < 1 + COUNT {
                for event in slow.next_page(1_000, Some(Duration::ZERO)).unwrap().iter() {
                    seen += 1;
                    assert_eq!(event.position, seen);
                }
            }
        }
        calls
    });
    assert_eq!(calls[0], calls[1], "calls on the disk");
}
