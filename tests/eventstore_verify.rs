//! Looking through the index of the event store: a sound one is found sound, whatever went into it and
//! whatever goes on beside; every byte of a file of the index counts; what is wrong with the log is an error.
//! Files that say something else with right checksums are in `src/eventstore/catalog/verifying.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::eventstore::{
    AppendRequest, EventStore, EventStoreOptions, IndexLimits, IndexReport, NewEvent, SideRecord,
};
use duralog::vfs::sim::SimDisk;
use duralog::{Durability, ErrorKind, OpenHow, SyncMode, WalOptions};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

fn options(freeze_events: u64, tier_runs: usize) -> EventStoreOptions {
    EventStoreOptions {
        wal: WalOptions {
            sync_mode: SyncMode::Manual,
            segment_bytes_max: 64 << 10,
            ..WalOptions::default()
        },
        index: IndexLimits {
            freeze_events,
            tier_runs,
            close_events: 1,
            ..IndexLimits::default()
        },
        ..EventStoreOptions::default()
    }
}

fn open(disk: &SimDisk, options: &EventStoreOptions) -> EventStore {
    EventStore::open_on(Arc::new(disk.clone()), "/store", options).unwrap()
}

fn verify(store: &EventStore) -> IndexReport {
    store.verify_index(&mut |_, _| true).unwrap()
}

/// One append of everything that a store takes; each `number` gives another.
fn append(store: &EventStore, number: u64) {
    let streams = [format!("s-{}", number % 7), format!("other-{number}")];
    let tags = [format!("tag {}", number % 3), format!("only {number}")];
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let id = u128::from(number + 1).to_le_bytes();
    let event = |stream, id: Option<[u8; 16]>| NewEvent {
        stream,
        event_type: "Happened",
        tags: &tags,
        id,
        data: &[7; 50],
        ..NewEvent::default()
    };
    let events = [event(&streams[0], Some(id)), event(&streams[1], None)];
    let (kept, gone) = (format!("kept {}", number % 11), format!("gone {number}"));
    let (late, long) = (format!("gone {}", number / 2), vec![number as u8; 9000]);
    let state = |key, value| SideRecord::PutState { key, value };
    let mut side_records = vec![
        SideRecord::SavePosition {
            name: "reader",
            position: number,
            reset: true,
        },
        state(kept.as_bytes(), &long[..(number % 4 * 3000) as usize]),
        state(gone.as_bytes(), b"for a while"),
    ];
    if number % 2 == 1 {
        side_records.push(SideRecord::DeleteState {
            key: late.as_bytes(),
        });
    }
    let request_key = format!("request {number}");
    let request = AppendRequest {
        // Some appends have side records only.
        events: if number % 10 < 7 { &events } else { &[] },
        side_records: &side_records,
        idempotency_key: (number % 3 == 0).then_some(request_key.as_bytes()),
        ..AppendRequest::default()
    };
    store.append(&request, Durability::AsOpened).unwrap();
}

#[track_caller]
fn assert_sound(report: &IndexReport) {
    assert_eq!(report.damaged_run_count, 0, "{report:?}");
    assert_eq!(report.first_damage, None);
}

#[test]
fn a_sound_store_is_found_sound() {
    for (freeze_events, tier_runs) in [(2, 1000), (30, 3), (100, 2), (10_000, 8)] {
        let disk = SimDisk::new(1);
        let options = options(freeze_events, tier_runs);
        let mut store = open(&disk, &options);
        assert_eq!(verify(&store), IndexReport::default());
        for number in 0..400 {
            append(&store, number);
            if number % 130 == 0 {
                assert_sound(&verify(&store));
            }
        }
        store.close().unwrap();
        for cut in [usize::MAX, 1, 3] {
            // As much at once as there is, and as little as possible.
            let mut options = options.clone();
            options.index.verify_leaves = options.index.verify_leaves.min(cut);
            options.index.verify_hashes = options.index.verify_hashes.min(cut);
            store = open(&disk, &options);
            let (report, stat) = (verify(&store), store.stat().unwrap());
            assert_sound(&report);
            assert_eq!(report.run_count, stat.run_count);
            assert_eq!(
                report.event_count,
                store.last_position().unwrap() - stat.memory_events
            );
            assert!(
                report.event_count > 300 && report.key_count > 900,
                "{report:?}"
            );
            assert!(stat.run_count > 20 || freeze_events > 2, "{stat:?}");
            store.close().unwrap();
        }
        let reading = EventStoreOptions {
            wal: WalOptions {
                how: OpenHow::ReadOnly,
                ..options.wal.clone()
            },
            ..options.clone()
        };
        let before = disk.image();
        let reader = open(&disk, &reading);
        assert_sound(&verify(&reader));
        drop(reader);
        for path in disk.paths() {
            let then = SimDisk::from_image(&before, 1);
            assert!(then.read_file(&path) == disk.read_file(&path), "{path:?}");
        }
    }
}

#[test]
fn side_records_alone_are_compared_too() {
    let disk = SimDisk::new(1);
    let store = open(&disk, &options(16, 4));
    for number in 0..100u64 {
        let key = (number % 40).to_le_bytes();
        let side_records = match number % 5 {
            0 => [SideRecord::DeleteState { key: &key }],
            _ => [SideRecord::PutState {
                key: &key,
                value: &number.to_le_bytes(),
            }],
        };
        let request = AppendRequest {
            side_records: &side_records,
            ..AppendRequest::default()
        };
        store.append(&request, Durability::AsOpened).unwrap();
    }
    let report = verify(&store);
    assert_sound(&report);
    assert!(report.run_count > 1 && report.key_count > 40, "{report:?}");
    assert_eq!(report.event_count, 0);
}

#[test]
fn a_store_is_sound_while_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let options = options(64, 3);
    let store = EventStore::open(&path, &options).unwrap();
    append(&store, 0);
    let mut reading = options.clone();
    reading.wal.how = OpenHow::ReadOnly;
    let reader = EventStore::open(&path, &reading).unwrap();
    let ended = AtomicBool::new(false);
    let mut most = [0, 0];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (1..3000).for_each(|number| append(&store, number));
            ended.store(true, Ordering::Relaxed);
        });
        while !ended.load(Ordering::Relaxed) {
            for (most, store) in most.iter_mut().zip([&store, &reader]) {
                let report = verify(store);
                assert_sound(&report);
                *most = report.event_count.max(*most);
            }
        }
    });
    assert!(most.iter().all(|&most| most > 500), "{most:?}");
}

fn runs(disk: &SimDisk) -> Vec<PathBuf> {
    let is_run = |path: &PathBuf| path.extension().is_some_and(|e| e == "run");
    disk.paths().into_iter().filter(is_run).collect()
}

#[test]
fn every_byte_of_a_run_counts() {
    let disk = SimDisk::new(1);
    let options = options(1000, 8);
    let store = open(&disk, &options);
    (0..40).for_each(|number| append(&store, number));
    store.close().unwrap();
    let store = open(&disk, &options);
    let runs = runs(&disk);
    let [run] = runs.as_slice() else {
        panic!("{runs:?}");
    };
    assert_sound(&verify(&store));
    let bytes = disk.read_file(run).unwrap();
    assert!(bytes.len() > 5 * 4096, "{} bytes", bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        disk.corrupt(run, at as u64, &[byte ^ (1 << (at % 8))])
            .unwrap();
        let report = verify(&store);
        assert_eq!(report.damaged_run_count, 1, "byte {at}");
        let damage = report.first_damage.unwrap();
        assert_eq!(&damage.path, run);
        assert_eq!(damage.block, at as u64 / 4096, "byte {at}: {damage:?}");
        disk.corrupt(run, at as u64, &[*byte]).unwrap();
    }
    assert_sound(&verify(&store));
}

#[test]
fn a_damaged_run_is_reported_and_the_others_are_looked_through() {
    let disk = SimDisk::new(1);
    let options = options(50, 1000);
    let store = open(&disk, &options);
    (0..200).for_each(|number| append(&store, number));
    let sound = verify(&store);
    let runs = runs(&disk);
    assert!(runs.len() > 8, "{runs:?}");
    for run in [&runs[2], &runs[5]] {
        disk.corrupt(run, 4096 + 100, &[0xAA; 8]).unwrap();
    }
    let before: Vec<_> = runs.iter().map(|run| disk.read_file(run)).collect();
    let report = verify(&store);
    assert_eq!(report.damaged_run_count, 2);
    assert_eq!(report.run_count, sound.run_count);
    assert!(report.event_count < sound.event_count && report.event_count > 0);
    let damage = report.first_damage.unwrap();
    assert_eq!((&damage.path, damage.block), (&runs[2], 1));
    assert!(
        damage.reason.contains("the checksum does not hold"),
        "{damage:?}"
    );
    // Nothing was healed.
    let after: Vec<_> = runs.iter().map(|run| disk.read_file(run)).collect();
    assert!(before == after);
}

#[test]
fn a_damaged_log_is_an_error() {
    let disk = SimDisk::new(1);
    let options = options(50, 4);
    let store = open(&disk, &options);
    (0..200).for_each(|number| append(&store, number));
    store.close().unwrap();
    let store = open(&disk, &options);
    let segment = disk
        .paths()
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "wal"));
    disk.corrupt(segment.unwrap(), 5000, &[0xAA; 16]).unwrap();
    let error = store.verify_index(&mut |_, _| true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn progress_goes_up_to_all_and_may_stop() {
    let disk = SimDisk::new(1);
    let options = options(500, 4);
    let store = open(&disk, &options);
    (0..2000).for_each(|number| append(&store, number));
    let mut told: Vec<(u64, u64)> = Vec::new();
    let mut tell = |done, total| {
        told.push((done, total));
        true
    };
    assert_sound(&store.verify_index(&mut tell).unwrap());
    assert!(told.is_sorted() && told.len() > 20, "{told:?}");
    let (done, total) = told[told.len() - 1];
    assert!(done == total && total > 200_000, "{told:?}");
    assert!(told.iter().all(|told| told.1 == total), "{told:?}");
    for stop_at in [0, 1, told.len() / 2, told.len() - 2] {
        let mut count = 0;
        let mut stop = |_, _| {
            count += 1;
            count <= stop_at
        };
        let error = store.verify_index(&mut stop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped);
        assert_eq!(count, stop_at + 1);
    }
}
