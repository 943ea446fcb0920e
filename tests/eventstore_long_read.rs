//! Long readings of events, of which a thread of the library makes the next page ahead: every selection, in both
//! directions, gives what was appended, for several readers at a time and beside a writer that goes on.
//!
//! What an event must be follows from its position. Ends, damage and readers that are gone are the business of the unit
//! tests of `src/eventstore/read_ahead.rs`. `DURALOG_SEED` gives a run again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;
#[path = "common/process.rs"]
mod process;

use duralog::eventstore::{
    AppendRequest, Direction, EventStore, EventStoreOptions, NewEvent, Query, QueryItem, Read,
    Selection,
};
use duralog::{Durability, SyncMode, WalOptions};
use process::{mix, say, seed, Random};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Events before the readers begin, and those that come while they read.
const EVENTS: u64 = 20_000;
const MORE: u64 = 5_000;

fn stream_of(position: u64) -> String {
    format!(
        "{}-{}",
        ["left", "right"][(mix(position) % 2) as usize],
        position % 3
    )
}

fn type_of(position: u64) -> &'static str {
    ["Rare", "Common", "Common", "Common"][(mix(position) / 2 % 4) as usize]
}

fn data_of(position: u64) -> Vec<u8> {
    let len = 8 + mix(position) / 8 % 500;
    let fill = position.to_le_bytes();
    fill.iter().cycle().take(len as usize).copied().collect()
}

fn append(store: &EventStore, first: u64, count: u64) {
    let parts: Vec<(String, Vec<u8>)> = (first..first + count)
        .map(|position| (stream_of(position), data_of(position)))
        .collect();
    let events: Vec<NewEvent<'_>> = (first..)
        .zip(&parts)
        .map(|(position, (stream, data))| NewEvent {
            stream,
            event_type: type_of(position),
            data,
            ..NewEvent::default()
        })
        .collect();
    let request = AppendRequest {
        events: &events,
        ..AppendRequest::default()
    };
    store.append(&request, Durability::AsOpened).unwrap();
}

/// A selection, and which positions are of it.
type Case = (Selection, fn(u64) -> bool);

fn cases() -> [Case; 4] {
    let item = QueryItem {
        types: vec!["Common".to_string()],
        ..QueryItem::default()
    };
    let query = Query { items: vec![item] };
    [
        (Selection::All, |_| true),
        (Selection::Stream("left-1".to_string()), |position| {
            stream_of(position) == "left-1"
        }),
        (Selection::Category("right".to_string()), |position| {
            stream_of(position).starts_with("right")
        }),
        (Selection::Query(query), |position| {
            type_of(position) == "Common"
        }),
    ]
}

/// Whether the library's thread that makes pages is there.
fn is_made_ahead() -> bool {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return true;
    };
    let names = threads.flatten().map(|entry| entry.path().join("comm"));
    names
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .any(|name| name.trim() == "duralog-page")
}

/// Reads as long as there is anything, taking time over each page; gives the positions, and whether the thread was there.
fn read(
    store: &EventStore,
    selection: &Selection,
    direction: Direction,
    limit: u64,
) -> (Vec<u64>, bool) {
    let read = Read {
        selection: selection.clone(),
        direction,
        limit,
        ..Read::default()
    };
    let mut reader = store.read(read).unwrap();
    let (mut found, mut ahead) = (Vec::new(), false);
    loop {
        let page = reader.next_page(400).unwrap();
        if page.is_empty() {
            return (found, ahead);
        }
        for event in page.iter() {
            let position = event.position;
            assert_eq!(
                (event.stream, event.event_type),
                (&*stream_of(position), type_of(position))
            );
            assert_eq!(event.data, data_of(position));
            found.push(position);
        }
        ahead |= is_made_ahead();
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_made_ahead_is_what_was_appended() {
    let seed = seed();
    say(&format!("eventstore_long_read: seed {seed}"));
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir().unwrap();
    let options = EventStoreOptions {
        wal: WalOptions {
            sync_mode: SyncMode::Manual,
            segment_bytes_max: 3 << 20,
            ..WalOptions::default()
        },
        ..EventStoreOptions::default()
    };
    let store = EventStore::open(directory.path().join("store"), &options).unwrap();
    (0..EVENTS / 500).for_each(|batch| append(&store, batch * 500 + 1, 500));
    let (cases, ahead) = (cases(), AtomicBool::new(false));
    thread::scope(|scope| {
        for (selection, holds) in &cases {
            for direction in [Direction::Forward, Direction::Backward] {
                let limit = [0, 5000 + random.below(1000)][random.below(2) as usize];
                let (store, ahead) = (&store, &ahead);
                scope.spawn(move || {
                    let (mut found, was_ahead) = read(store, selection, direction, limit);
                    ahead.fetch_or(was_ahead, Ordering::Relaxed);
                    if direction == Direction::Backward {
                        found.reverse();
                    }
                    let (first, last) = (found[0], found[found.len() - 1]);
                    let expected: Vec<u64> =
                        (first..=last).filter(|&position| holds(position)).collect();
                    assert_eq!(found, expected, "{selection:?} {direction:?}");
                    let begins = (1..first).any(holds);
                    let ends = (last + 1..=EVENTS).any(holds);
                    let is_cut = limit > 0 && found.len() as u64 == limit;
                    assert!(is_cut || !begins && !ends, "{selection:?} {direction:?}");
                });
            }
        }
        let store = &store;
        scope.spawn(move || {
            (0..MORE / 50).for_each(|batch| append(store, EVENTS + batch * 50 + 1, 50));
        });
    });
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let ahead = ahead.load(Ordering::Relaxed);
    assert!(ahead || processors == 1, "nothing was made ahead");
}
