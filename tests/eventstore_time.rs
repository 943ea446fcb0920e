//! The time at which events were recorded never decreases, from one position to the next, whatever the
//! clock says: it is set back while a store is open, between closing and opening, after a kill and
//! after a power cut, with the index and without. In receipts, in events, and in the log itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::eventstore::{
    AppendRequest, EventStore, EventStoreOptions, IndexLimits, NewEvent, Read, SideRecord,
};
use duralog::vfs::sim::{CrashStates, Fill, Image, SimDisk};
use duralog::{Durability, Record, SyncMode, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;

const HOUR_NS: u64 = 3_600_000_000_000;
const BEGIN_NS: u64 = 1_700_000_000_000_000_000;

fn options(index: bool) -> EventStoreOptions {
    let mut options = EventStoreOptions {
        wal: WalOptions {
            segment_bytes_max: 64 << 10,
            frame_payload_target: 1_000,
            ..WalOptions::default()
        },
        ..EventStoreOptions::default()
    };
    if index {
        // Every few events are a run, so that an index that is there covers all of them.
        options.index = IndexLimits {
            freeze_events: 2,
            tier_runs: 3,
            close_events: 1,
            ..IndexLimits::default()
        };
    }
    options
}

fn open(disk: &SimDisk, options: &EventStoreOptions) -> EventStore {
    EventStore::open_on(Arc::new(disk.clone()), "/store", options).unwrap()
}

/// Appends an event, a few together, a batch of several frames, or a side record alone; gives the time
/// it was told.
fn append(store: &EventStore, number: u64) -> u64 {
    let data = vec![7; if number % 4 == 3 { 4_000 } else { 10 }];
    let event = NewEvent {
        stream: "s",
        event_type: "T",
        data: &data,
        ..NewEvent::default()
    };
    let events = [event; 3];
    let side_records = [SideRecord::PutState {
        key: b"k",
        value: &number.to_le_bytes(),
    }];
    let request = AppendRequest {
        events: match number % 4 {
            0 => &events[..1],
            1 | 3 => &events,
            _ => &[],
        },
        side_records: if number % 4 == 2 { &side_records } else { &[] },
        ..AppendRequest::default()
    };
    store.append(&request, Durability::Durable).unwrap().time_ns
}

/// The times of all events, and of all records of the log: neither may fall. Gives the last one.
fn check(store: &EventStore) -> u64 {
    let mut reader = store.read(Read::default()).unwrap();
    let mut last = (0, 0);
    while !reader.next_page(10).unwrap().is_empty() {
        for event in reader.page().iter() {
            assert!(
                event.time_ns >= last.1,
                "position {} is of {}, and {} of {}",
                event.position,
                event.time_ns,
                last.0,
                last.1
            );
            last = (event.position, event.time_ns);
        }
    }
    assert_eq!(last.0, store.last_position().unwrap());
    let mut cursor = store.wal().cursor(0).unwrap();
    let mut last_record = 0;
    while let Some(entry) = cursor.next().unwrap() {
        assert!(entry.time_ns >= last_record, "record {}", entry.seq);
        last_record = entry.time_ns;
    }
    assert!(last_record >= last.1);
    last_record
}

/// How a store's life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    Killed,
    /// With so many states of the disk at most that a power cut may leave.
    PowerCut(u64),
}

/// The disks that there may be after it.
fn ended(disk: &SimDisk, store: EventStore, end: End) -> Vec<Image> {
    match end {
        End::Closed => {
            store.close().unwrap();
            vec![disk.image()]
        }
        End::Killed => {
            std::mem::forget(store);
            vec![disk.image()]
        }
        End::PowerCut(states) => {
            std::mem::forget(store);
            let all = CrashStates::new(disk, disk.now(), Fill::Zero);
            all.states(1, states).map(|state| state.image()).collect()
        }
    }
}

fn without_index(image: &Image) -> Image {
    let mut image = image.clone();
    for path in image.paths() {
        if path.starts_with(Path::new("/store/index")) {
            image.remove(&path);
        }
    }
    image
}

#[test]
fn recorded_time_never_falls_in_a_store_whatever_the_clock_does() {
    let mut opened = 0;
    for index in [false, true] {
        let options = options(index);
        for end in [End::Closed, End::Killed, End::PowerCut(12)] {
            // What is appended last decides which frame tells the time: of an event, of a side record,
            // or the first of several.
            for count in [1, 2, 3, 4, 8] {
                let disk = SimDisk::new(1);
                disk.set_now_ns(BEGIN_NS);
                let store = open(&disk, &options);
                let mut told = 0;
                for number in 0..count {
                    let now = append(&store, number);
                    assert!(now >= told, "{now} after {told}, in a handle");
                    told = now;
                    // Back and forth, each time further back than it ever was.
                    let moved = match number % 2 {
                        0 => BEGIN_NS - (number + 1) * HOUR_NS,
                        _ => BEGIN_NS + number * HOUR_NS,
                    };
                    disk.set_now_ns(moved);
                }
                assert_eq!(check(&store), told);
                for image in ended(&disk, store, end) {
                    for image in [without_index(&image), image] {
                        let disk = SimDisk::from_image(&image, 2);
                        disk.set_now_ns(BEGIN_NS - 9 * HOUR_NS);
                        let store = open(&disk, &options);
                        let mut before = check(&store);
                        assert!(before >= told, "what was acknowledged is there");
                        for number in 0..3 {
                            let now = append(&store, number);
                            assert!(
                                now >= before,
                                "{now} after {before}, {end:?}, {count} appends, index {index}"
                            );
                            before = now;
                        }
                        assert_eq!(check(&store), before);
                        opened += 1;
                    }
                }
            }
        }
    }
    assert!(opened > 60, "{opened} stores");
}

/// The log promises it for one handle; the store keeps it up from handle to handle.
#[test]
fn time_never_falls_within_a_handle_of_the_log() {
    let disk = SimDisk::new(1);
    let options = WalOptions {
        sync_mode: SyncMode::Manual,
        segment_bytes_max: 64 << 10,
        frame_payload_target: 1_000,
        ..WalOptions::default()
    };
    let wal = Wal::open_on(Arc::new(disk.clone()), "/log", &options).unwrap();
    let mut last = 0;
    for number in 0..200u64 {
        disk.set_now_ns(BEGIN_NS - (number * 7 % 11) * HOUR_NS);
        let value = vec![7; if number % 5 == 4 { 9_000 } else { 100 }];
        let record = Record::put(b"key", &value);
        let receipt = match number % 10 {
            9 => wal.checkpoint(b"").unwrap(),
            // Of several frames.
            4 => wal
                .append_batch(&[record; 3], Durability::AsOpened)
                .unwrap(),
            _ => wal.append(record, Durability::AsOpened).unwrap(),
        };
        assert!(receipt.time_ns >= last, "{number}");
        last = receipt.time_ns;
    }
    assert!(wal.stat().unwrap().segment_count > 2);
    let mut cursor = wal.cursor(0).unwrap();
    let mut last_record = 0;
    while let Some(entry) = cursor.next().unwrap() {
        assert!(entry.time_ns >= last_record, "record {}", entry.seq);
        last_record = entry.time_ns;
    }
    assert_eq!(last_record, last);
}
