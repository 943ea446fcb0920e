//! The event store by its public face: what an append gives, what is read back, and what is refused.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::eventstore::{
    AppendRequest, Condition, Direction, EventStore, EventStoreOptions, Expectation, Expected,
    NewEvent, Query, QueryItem, Read, Selection, SideRecord,
};
use duralog::{Durability, ErrorKind};

/// What background work needs at most, or the machine is very busy.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

fn event<'a>(stream: &'a str, event_type: &'a str, data: &'a [u8]) -> NewEvent<'a> {
    NewEvent {
        stream,
        event_type,
        data,
        ..NewEvent::default()
    }
}

fn open(dir: &std::path::Path) -> EventStore {
    EventStore::open(dir, &EventStoreOptions::default()).unwrap()
}

fn append(store: &EventStore, events: &[NewEvent<'_>]) -> duralog::eventstore::AppendReceipt {
    let request = AppendRequest {
        events,
        ..AppendRequest::default()
    };
    store.append(&request, Durability::AsOpened).unwrap()
}

fn positions(store: &EventStore, read: Read) -> Vec<u64> {
    let mut reader = store.read(read).unwrap();
    let mut all = Vec::new();
    loop {
        let page = reader.next_page(3).unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page.iter().map(|event| event.position));
    }
}

#[test]
fn events_of_several_streams_come_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path);
    let tags = ["course:c1", "student:s1"];
    let receipt = append(
        &store,
        &[
            event("a-1", "Opened", b"1"),
            NewEvent {
                tags: &tags,
                metadata: b"{}",
                id: Some([7; 16]),
                occurred_ns: Some(-3),
                content_type: "application/json",
                schema_version: 9,
                correlation_id: Some([1; 16]),
                ..event("b-1", "Closed", b"2")
            },
            event("a-1", "Closed", b"3"),
        ],
    );
    assert_eq!((receipt.first_position, receipt.last_position), (1, 3));
    let versions = [("a-1".to_string(), 2), ("b-1".to_string(), 1)];
    assert_eq!(receipt.stream_versions, versions);
    for _ in 0..2 {
        append(&store, &[event("a-2", "Opened", b"4")]);
    }
    let check = |store: &EventStore| {
        assert_eq!(store.last_position().unwrap(), 5);
        assert_eq!(positions(store, Read::default()), [1, 2, 3, 4, 5]);
        let backward = Read {
            direction: Direction::Backward,
            from: 4,
            to: 2,
            ..Read::default()
        };
        assert_eq!(positions(store, backward), [4, 3, 2]);
        let stream = |name: &str, from| Read {
            selection: Selection::Stream(name.to_string()),
            from,
            ..Read::default()
        };
        assert_eq!(positions(store, stream("a-1", 0)), [1, 3]);
        assert_eq!(positions(store, stream("a-1", 2)), [3]);
        assert_eq!(positions(store, stream("a-1", 3)), [0u64; 0]);
        let category = Selection::Category("a".to_string());
        let read = Read {
            selection: category,
            ..Read::default()
        };
        assert_eq!(positions(store, read), [1, 3, 4, 5]);
        let query = Query {
            items: vec![
                QueryItem {
                    types: vec!["Closed".into()],
                    tags: vec!["student:s1".into()],
                },
                QueryItem {
                    types: vec!["Opened".into(), "Nothing".into()],
                    tags: vec![],
                },
            ],
        };
        let read = Read {
            selection: Selection::Query(query),
            limit: 3,
            ..Read::default()
        };
        assert_eq!(positions(store, read), [1, 2, 4]);
        let page = store.event_by_id(&[7; 16]).unwrap();
        let event = page.get(0).unwrap();
        assert_eq!(event.position, 2);
        assert_eq!(event.tags().collect::<Vec<_>>(), tags);
        assert_eq!((event.data, event.metadata), (&b"2"[..], &b"{}"[..]));
        assert_eq!(event.occurred_ns, Some(-3));
        let first = store.event_at(1).unwrap();
        let id = first.get(0).unwrap().id;
        assert_eq!(store.event_by_id(&id).unwrap().get(0).unwrap().position, 1);
    };
    check(&store);
    store.close().unwrap();
    let store = open(&path);
    check(&store);
    drop(store);
    std::fs::remove_dir_all(path.join("index")).unwrap();
    check(&open(&path));
}

#[test]
fn preconditions_are_judged_together_and_nothing_is_written_when_one_fails() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    append(&store, &[event("a", "Opened", b"")]);
    let query = Query {
        items: vec![QueryItem {
            types: vec!["Opened".into()],
            tags: vec![],
        }],
    };
    let save = [SideRecord::SavePosition {
        name: "p",
        position: 1,
        reset: false,
    }];
    let request = AppendRequest {
        events: &[event("a", "Closed", b"")],
        side_records: &save,
        ..AppendRequest::default()
    };
    store.append(&request, Durability::AsOpened).unwrap();
    assert_eq!(store.saved_position("p").unwrap(), Some(1));
    let expectations = [
        Expectation {
            stream: "a",
            expected: Expected::Exact(1),
        },
        Expectation {
            stream: "b",
            expected: Expected::Exists,
        },
        Expectation {
            stream: "c",
            expected: Expected::None,
        },
    ];
    let conditions = [Condition {
        query: &query,
        after: 0,
    }];
    let refused = AppendRequest {
        expectations: &expectations,
        conditions: &conditions,
        ..request
    };
    let error = store.append(&refused, Durability::AsOpened).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.conflicts().len(), 4, "{error}");
    assert_eq!(store.last_position().unwrap(), 2);
    let good = AppendRequest {
        expectations: &expectations[2..],
        conditions: &[Condition {
            query: &query,
            after: 1,
        }],
        side_records: &[],
        ..request
    };
    assert_eq!(
        store
            .append(&good, Durability::AsOpened)
            .unwrap()
            .first_position,
        3
    );
}

#[test]
fn a_request_that_comes_again_gives_the_first_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path);
    let with_id = |id: u8| NewEvent {
        id: Some([id; 16]),
        ..event("a", "T", b"x")
    };
    let expectations = [Expectation {
        stream: "a",
        expected: Expected::None,
    }];
    let events = [with_id(1), with_id(2)];
    let request = AppendRequest {
        events: &events,
        expectations: &expectations,
        ..AppendRequest::default()
    };
    let first = store.append(&request, Durability::AsOpened).unwrap();
    let again = store.append(&request, Durability::AsOpened).unwrap();
    assert!(again.duplicate && !first.duplicate);
    assert_eq!(
        (again.first_position, again.last_position, again.time_ns),
        (first.first_position, first.last_position, first.time_ns)
    );
    assert_eq!(again.stream_versions, first.stream_versions);
    for part in [
        &[with_id(1)][..],
        &[with_id(2), with_id(1)],
        &[with_id(1), with_id(3)],
        &[with_id(1), with_id(2), event("a", "T", b"")],
    ] {
        let request = AppendRequest {
            events: part,
            ..AppendRequest::default()
        };
        let error = store.append(&request, Durability::AsOpened).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Duplicate, "{error}");
        assert!(!error.known_ids().is_empty());
    }
    let plain = [event("b", "T", b"y")];
    let keyed = AppendRequest {
        events: &plain,
        idempotency_key: Some(b"key"),
        ..AppendRequest::default()
    };
    let first = store.append(&keyed, Durability::AsOpened).unwrap();
    drop(store);
    let store = open(&path);
    let again = store.append(&keyed, Durability::AsOpened).unwrap();
    assert!(again.duplicate);
    assert_eq!(again.last_position, first.last_position);
    assert_eq!(again.time_ns, first.time_ns);
    let other = [event("b", "T", b"z")];
    let other = AppendRequest {
        events: &other,
        ..keyed
    };
    let error = store.append(&other, Durability::AsOpened).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Duplicate);
    // Who it was is told: by which key, and where what it appended begins.
    let expected = format!(
        "another request was carried out with the idempotency key \"key\": 1 events from position {} on",
        first.first_position
    );
    assert_eq!(error.to_string(), expected);

    let side = [SideRecord::PutState {
        key: b"k",
        value: b"v",
    }];
    let bare = AppendRequest {
        side_records: &side,
        idempotency_key: Some(b"bare"),
        ..AppendRequest::default()
    };
    let first = store.append(&bare, Durability::AsOpened).unwrap();
    let again = store.append(&bare, Durability::AsOpened).unwrap();
    assert_eq!((again.duplicate, again.last_position), (true, 0));
    assert_eq!(again.time_ns, first.time_ns);
    let other = AppendRequest {
        idempotency_key: Some(b"bare"),
        ..other
    };
    let error = store.append(&other, Durability::AsOpened).unwrap_err();
    assert_eq!(
        error.to_string(),
        "another request was carried out with the idempotency key \"bare\": one without events"
    );
}

#[test]
fn many_events_become_runs_and_runs_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let options = EventStoreOptions {
        wal: duralog::WalOptions {
            sync_mode: duralog::SyncMode::Manual,
            ..duralog::WalOptions::default()
        },
        ..EventStoreOptions::default()
    };
    let store = EventStore::open(&path, &options).unwrap();
    let names: Vec<String> = (0..1000).map(|n| format!("s-{n}")).collect();
    let count = 400_000u64;
    for batch in 0..count / 1000 {
        let events: Vec<NewEvent<'_>> = (0..1000)
            .map(|n| event(&names[((batch * 7 + n) % 1000) as usize], "T", b"data"))
            .collect();
        append(&store, &events);
    }
    // A layer is frozen with 33 batches; of 12 the first 8 become one run, and 4 are left of the tier
    // below.
    let begun = std::time::Instant::now();
    loop {
        let stat = store.stat().unwrap();
        if stat.run_count == 5 && stat.work_total == 0 {
            assert_eq!(stat.memory_events, count - 12 * 33_000);
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "never merged: {stat:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let runs = || {
        let files = std::fs::read_dir(path.join("index")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut runs: Vec<(u64, u64)> = names
            .map(|name| {
                let (first, last) = name.strip_suffix(".run").unwrap().split_once('-').unwrap();
                (first.parse().unwrap(), last.parse().unwrap())
            })
            .collect();
        runs.sort_unstable();
        runs
    };
    // Sequence numbers: each batch has a mark beside its events.
    let layer = 33 * 1001;
    let behind_merged = 8 * layer;
    let four = (0..4).map(|n| behind_merged + n * layer);
    let mut expected = vec![(1, behind_merged)];
    expected.extend(four.map(|behind| (behind + 1, behind + layer)));
    assert_eq!(runs(), expected);
    let check = |store: &EventStore| {
        for name in names.iter().step_by(97) {
            let read = Read {
                selection: Selection::Stream(name.clone()),
                ..Read::default()
            };
            let info = store.stream_info(name).unwrap().unwrap();
            assert_eq!(info.stream_version, count / 1000);
            let mut reader = store.read(read).unwrap();
            let mut version = 0;
            loop {
                let page = reader.next_page(100).unwrap();
                for event in page.iter() {
                    version += 1;
                    assert_eq!(event.stream_version, version);
                    assert_eq!(event.stream, name);
                }
                if page.is_empty() {
                    break;
                }
            }
            assert_eq!(version, count / 1000);
        }
    };
    check(&store);
    store.close().unwrap();
    let store = open(&path);
    // Closing has written what was in memory.
    assert_eq!(store.stat().unwrap().run_count, 6);
    assert_eq!(runs()[..5], expected);
    check(&store);
    store.close().unwrap();
    std::fs::remove_dir_all(path.join("index")).unwrap();
    check(&open(&path));
}

/// Large events fill a page before it has as many as were asked for.
#[test]
fn a_page_that_is_full_for_its_bytes_is_not_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    let data = vec![7; 300 << 10];
    let events: Vec<NewEvent<'_>> = (0..10).map(|_| event("a-1", "T", &data)).collect();
    append(&store, &events);
    for direction in [Direction::Forward, Direction::Backward] {
        for limit in [0, 8] {
            let read = Read {
                direction,
                limit,
                ..Read::default()
            };
            let mut reader = store.read(read).unwrap();
            let (mut count, mut pages) = (0, 0);
            while !reader.is_at_end() {
                count += reader.next_page(1024).unwrap().len();
                pages += 1;
            }
            assert_eq!(count, if limit == 0 { 10 } else { 8 });
            assert!(pages > 1, "all in one page");
            assert!(reader.next_page(1024).unwrap().is_empty());
        }
    }
}

#[test]
fn a_page_is_bounded_however_many_events_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let events = vec![event("s", "t", b""); 10_000];
    append(&store, &events);
    let query = Query {
        items: vec![QueryItem {
            types: vec!["t".to_string()],
            ..QueryItem::default()
        }],
    };
    let selections = [
        Selection::All,
        Selection::Stream("s".to_string()),
        Selection::Category("s".to_string()),
        Selection::Query(query),
    ];
    for selection in selections {
        for direction in [Direction::Forward, Direction::Backward] {
            let mut reader = store
                .read(Read {
                    selection: selection.clone(),
                    direction,
                    ..Read::default()
                })
                .unwrap();
            let (mut lens, mut at_end) = (Vec::new(), Vec::new());
            loop {
                let len = reader.next_page(usize::MAX).unwrap().len();
                if len == 0 {
                    break;
                }
                lens.push(len);
                at_end.push(reader.is_at_end());
            }
            assert_eq!(lens, [4096, 4096, 1808], "{selection:?}, {direction:?}");
            assert_eq!(at_end, [false, false, true]);
        }
    }
}
