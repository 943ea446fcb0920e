//! What an event store does for one call does not grow with its history: the same calls on a store, and on
//! one with 20 times the events, are counted by what they read from the disk. Each call is made through a
//! handle that was just opened and keeps no block of the index in memory, so that nothing is at hand.
//!
//! A run of the index covers few events here, so that there are hundreds of layers to be merged. What
//! grows with the logarithm of history are the tiers of runs, the height of a run's tree, and in how many
//! steps a segment is found among the others, which are as small here as they can be.
//!
//! And an event is written into a run once for each tier, not each time that there is a new run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/watched.rs"]
mod watched;

use duralog::eventstore::{
    AppendRequest, Condition, EventStore, EventStoreOptions, Expectation, Expected, IndexLimits,
    NameKind, NewEvent, Query, QueryItem, Read, Selection, SideRecord,
};
use duralog::vfs::sim::{Image, SimDisk};
use duralog::{Durability, ErrorKind, SyncMode, WalOptions};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use watched::{ReadSoFar, Watched};

/// Events of a round: 20 streams get 100 each, and then no more.
const ROUND: u64 = 2_000;
const STREAM_LEN: u64 = 100;
/// Rounds of the smaller and of the larger history.
const ROUNDS: [u64; 2] = [1, 20];
/// Events behind the last round: in no run yet when the store is killed.
const REST: u64 = 37;

fn options(sync_mode: SyncMode) -> EventStoreOptions {
    EventStoreOptions {
        wal: WalOptions {
            sync_mode,
            segment_bytes_max: 64 << 10,
            ..WalOptions::default()
        },
        index: IndexLimits {
            freeze_events: 100,
            tier_runs: 4,
            close_events: 20,
            cache_bytes: 0,
            ..IndexLimits::default()
        },
        ..EventStoreOptions::default()
    }
}

fn id(number: u64) -> [u8; 16] {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id
}

fn stream(number: u64) -> String {
    format!("s-{}", number / ROUND * 20 + number % 20)
}

/// Committed with the first events, and never again.
const SIDE_RECORDS: [SideRecord<'_>; 2] = [
    SideRecord::SavePosition {
        name: "reader",
        position: 1,
        reset: false,
    },
    SideRecord::PutState {
        key: b"key",
        value: b"value",
    },
];

/// Events from `first` on, each with an id of its own, and with them every tenth time a key.
fn append_rounds(store: &EventStore, first: u64, count: u64) {
    for begin in (first..first + count).step_by(20) {
        let numbers = begin..(begin + 20).min(first + count);
        let streams: Vec<String> = numbers.clone().map(stream).collect();
        let tags: Vec<String> = numbers.clone().map(|n| format!("one:{n}")).collect();
        let tags: Vec<[&str; 2]> = tags.iter().map(|tag| [tag.as_str(), "all"]).collect();
        let event = |((number, stream), tags)| NewEvent {
            stream,
            event_type: if number == 10 { "Rare" } else { "Usual" },
            data: &[7; 30],
            tags,
            id: Some(id(number)),
            ..NewEvent::default()
        };
        let streams = streams.iter().map(String::as_str);
        let tags = tags.iter().map(<[&str; 2]>::as_slice);
        let events: Vec<NewEvent<'_>> = numbers.zip(streams).zip(tags).map(event).collect();
        let key = begin.to_be_bytes();
        let request = AppendRequest {
            events: &events,
            idempotency_key: (begin % 200 == 0).then_some(&key),
            side_records: if begin == 0 { &SIDE_RECORDS } else { &[] },
            ..AppendRequest::default()
        };
        store.append(&request, Durability::AsOpened).unwrap();
    }
}

/// A history: its events, and the disk after a clean close and after a kill.
struct History {
    last: u64,
    closed: Image,
    killed: Image,
}

fn histories() -> Vec<History> {
    let disk = SimDisk::new(1);
    let mut histories = Vec::new();
    let mut done = 0;
    for rounds in ROUNDS {
        let options = options(SyncMode::Manual);
        let store = EventStore::open_on(Arc::new(disk.clone()), "/store", &options).unwrap();
        append_rounds(&store, done, rounds * ROUND - done);
        done = rounds * ROUND;
        // From here on as a store is used that goes on behind this.
        let beside = SimDisk::from_image(&disk.image(), 2);
        let copy = EventStore::open_on(Arc::new(beside.clone()), "/store", &options).unwrap();
        append_rounds(&copy, done, REST);
        copy.sync().unwrap();
        let killed = beside.image();
        copy.close().unwrap();
        histories.push(History {
            last: done + REST,
            closed: beside.image(),
            killed,
        });
        store.close().unwrap();
    }
    histories
}

fn opened(image: &Image) -> (EventStore, Watched, ReadSoFar) {
    let disk = Watched::new(Arc::new(SimDisk::from_image(image, 3)));
    let options = options(SyncMode::Every);
    let store = EventStore::open_on(Arc::new(disk.clone()), "/store", &options).unwrap();
    let read = disk.read_so_far();
    (store, disk, read)
}

fn event(stream: &str) -> NewEvent<'_> {
    NewEvent {
        stream,
        event_type: "Usual",
        ..NewEvent::default()
    }
}

fn query(types: &[&str], tags: &[String]) -> Query {
    let item = QueryItem {
        types: types.iter().map(ToString::to_string).collect(),
        tags: tags.to_vec(),
    };
    Query { items: vec![item] }
}

/// An append to `stream` if it has this version.
fn append_at(store: &EventStore, stream: &str, version: u64) {
    let expected = match version {
        0 => Expected::None,
        _ => Expected::Exact(version),
    };
    let request = AppendRequest {
        events: &[event(stream)],
        expectations: &[Expectation { stream, expected }],
        ..AppendRequest::default()
    };
    let receipt = store.append(&request, Durability::AsOpened).unwrap();
    assert_eq!(receipt.stream_versions, [(stream.to_string(), version + 1)]);
}

/// An append on a condition, and whether it was one that holds.
fn append_on(store: &EventStore, query: &Query, after: u64, holds: bool) {
    let request = AppendRequest {
        events: &[event("decided")],
        conditions: &[Condition { query, after }],
        ..AppendRequest::default()
    };
    match store.append(&request, Durability::AsOpened) {
        Ok(_) => assert!(holds),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            assert!(!holds);
        }
    }
}

fn read_stream(store: &EventStore, stream: &str) {
    let read = Read {
        selection: Selection::Stream(stream.to_string()),
        ..Read::default()
    };
    let mut reader = store.read(read).unwrap();
    let mut count = 0;
    while !reader.next_page(100).unwrap().is_empty() {
        count += reader.page().len() as u64;
    }
    assert_eq!(count, STREAM_LEN);
}

/// A call on a store with so many events.
type Job = fn(&EventStore, u64);

const JOBS: [(&str, Job); 24] = [
    ("append at the version of the oldest stream", |store, _| {
        append_at(store, "s-0", STREAM_LEN);
    }),
    ("append at the version of a new stream", |store, _| {
        append_at(store, "new", 0);
    }),
    ("append at a version that is wrong", |store, _| {
        let request = AppendRequest {
            events: &[event("s-1")],
            expectations: &[Expectation {
                stream: "s-1",
                expected: Expected::Exact(1),
            }],
            ..AppendRequest::default()
        };
        let error = store.append(&request, Durability::AsOpened).unwrap_err();
        assert_eq!(error.conflicts()[0].actual, STREAM_LEN);
    }),
    ("append with a new id", |store, last| {
        let event = NewEvent {
            id: Some(id(last + 1)),
            ..event("s-0")
        };
        let request = AppendRequest {
            events: &[event],
            ..AppendRequest::default()
        };
        let receipt = store.append(&request, Durability::AsOpened).unwrap();
        assert!(!receipt.duplicate);
    }),
    ("append with the oldest ids again", |store, _| {
        let streams: Vec<String> = (0..20).map(stream).collect();
        let event = |(number, stream)| NewEvent {
            id: Some(id(number)),
            ..event(stream)
        };
        let streams = (0..).zip(streams.iter().map(String::as_str));
        let events: Vec<NewEvent<'_>> = streams.map(event).collect();
        let request = AppendRequest {
            events: &events,
            ..AppendRequest::default()
        };
        let receipt = store.append(&request, Durability::AsOpened).unwrap();
        assert!(receipt.duplicate && receipt.last_position == 20);
    }),
    ("append with a new idempotency key", |store, _| {
        let request = AppendRequest {
            events: &[event("s-0")],
            idempotency_key: Some(b"new"),
            ..AppendRequest::default()
        };
        let receipt = store.append(&request, Durability::AsOpened).unwrap();
        assert!(!receipt.duplicate);
    }),
    (
        "append with the oldest idempotency key again",
        |store, _| {
            let request = AppendRequest {
                events: &[event("s-0")],
                idempotency_key: Some(&[0; 8]),
                ..AppendRequest::default()
            };
            let error = store.append(&request, Durability::AsOpened).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Duplicate, "{error}");
        },
    ),
    (
        "condition on everything behind the last event",
        |store, last| {
            append_on(store, &Query::default(), last, true);
        },
    ),
    (
        "condition on a usual type and tag behind the last event",
        |store, last| {
            append_on(store, &query(&["Usual"], &["all".to_string()]), last, true);
        },
    ),
    ("condition on a tag that is nowhere", |store, _| {
        append_on(store, &query(&[], &["none".to_string()]), 0, true);
    }),
    (
        "condition on a usual type with a tag of one event",
        |store, _| {
            append_on(store, &query(&["Usual"], &["one:5".to_string()]), 6, true);
        },
    ),
    (
        "condition on a rare type behind its only event",
        |store, _| {
            append_on(store, &query(&["Rare"], &[]), 11, true);
        },
    ),
    (
        "condition on a usual type, refuted by the oldest event",
        |store, _| {
            append_on(store, &query(&["Usual"], &[]), 0, false);
        },
    ),
    ("condition on a tag of the oldest event", |store, _| {
        append_on(store, &query(&["Usual"], &["one:0".to_string()]), 0, false);
    }),
    ("condition on a tag of the newest event", |store, last| {
        let tag = format!("one:{}", last - 1);
        append_on(store, &query(&["Usual"], &[tag]), 0, false);
    }),
    ("read of the oldest stream", |store, _| {
        read_stream(store, "s-0");
    }),
    ("read of one of the newest streams", |store, last| {
        read_stream(store, &stream(last - REST - 1));
    }),
    ("event by the oldest id", |store, _| {
        assert_eq!(store.event_by_id(&id(0)).unwrap().len(), 1);
    }),
    ("event by an id that is nowhere", |store, last| {
        assert_eq!(store.event_by_id(&id(last)).unwrap().len(), 0);
    }),
    ("information on the oldest stream", |store, _| {
        let info = store.stream_info("s-0").unwrap().unwrap();
        assert_eq!(info.stream_version, STREAM_LEN);
    }),
    ("a page of names of streams", |store, _| {
        let names = store.names(NameKind::Stream, None, "s-1", 5).unwrap();
        assert_eq!(names[0].event_count, STREAM_LEN);
    }),
    ("position saved at the beginning", |store, _| {
        assert_eq!(store.saved_position("reader").unwrap(), Some(1));
    }),
    ("state put at the beginning", |store, _| {
        assert_eq!(store.state(b"key").unwrap().as_deref(), Some(&b"value"[..]));
    }),
    ("oldest event by its position", |store, _| {
        assert_eq!(store.event_at(1).unwrap().len(), 1);
    }),
];

#[test]
fn no_call_reads_more_where_there_are_twenty_times_the_events() {
    let histories = histories();
    let mut table = Vec::new();
    for (what, is_closed) in [("closed", true), ("killed", false)] {
        let read = histories.iter().map(|history| {
            let image = if is_closed {
                &history.closed
            } else {
                &history.killed
            };
            opened(image).2
        });
        table.push((format!("opening a store that was {what}"), read.collect()));
    }
    for (what, job) in JOBS {
        let read = histories.iter().map(|history| {
            let (store, disk, before) = opened(&history.closed);
            job(&store, history.last);
            disk.read_so_far().since(before)
        });
        let read: Vec<ReadSoFar> = read.collect();
        table.push((what.to_string(), read));
    }
    let mut lines = String::new();
    for history in &histories {
        let segments = opened(&history.closed)
            .0
            .wal()
            .stat()
            .unwrap()
            .segment_count;
        lines += &format!("{} events in {segments} segments\n", history.last);
    }
    let mut grown = Vec::new();
    for (what, read) in table {
        lines += &format!("{what:<58}");
        for read in &read {
            lines += &format!(
                "{:>4} reads of {:>7} B, {:>3} opened;",
                read.calls, read.bytes, read.opened
            );
        }
        lines += "\n";
        let [few, many] =
            [read[0], read[1]].map(|read| [read.calls, read.bytes >> 12, read.opened]);
        let is_bounded = few.iter().zip(many).all(|(few, many)| many <= 2 * few + 8);
        if !is_bounded {
            grown.push(what);
        }
    }
    let _ = std::io::stderr().write_all(lines.as_bytes());
    assert!(grown.is_empty(), "{grown:?} grew\n{lines}");
}

#[test]
fn events_are_not_written_again_each_time_that_runs_are_merged() {
    let written = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&written);
    let disk = Watched::writing(Arc::new(SimDisk::new(1)), move |path, len| {
        if path.starts_with("/store/index") {
            count.fetch_add(len as u64, Ordering::SeqCst);
        }
    });
    let options = options(SyncMode::Manual);
    let store = EventStore::open_on(Arc::new(disk), "/store", &options).unwrap();
    let mut done = 0;
    let each = ROUNDS.map(|rounds| {
        append_rounds(&store, done, rounds * ROUND - done);
        done = rounds * ROUND;
        written.load(Ordering::SeqCst) / done
    });
    let _ = writeln!(
        std::io::stderr(),
        "{each:?} bytes of the index written for each event of {ROUNDS:?} rounds"
    );
    assert!(each[0] > 0 && each[1] <= 3 * each[0], "{each:?}");
}
