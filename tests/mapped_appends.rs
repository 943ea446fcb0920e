//! Mapped appends: small groups are stored into windows of the segment, and all else is as ever. The log
//! that comes of it is the same; where there is no window, calls write; what is stored survives SIGKILL;
//! readers see what is acknowledged and no more.
//!
//! What a crash leaves of it, `tests/crash_points.rs` tries; what a failing call does to it,
//! `tests/faults.rs`; a child made by fork has the memory too: `tests/processes.rs`. On the simulated disk
//! a store where the file has no space is a panic, on the real one it would be a signal.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;
#[path = "common/process.rs"]
mod process;

use duralog::vfs::os::RealDisk;
use duralog::vfs::sim::{errno, Call, Fault, FaultPlan, Rng, SimDisk};
use duralog::vfs::{OpenMode, Vfs};
use duralog::{Durability, ErrorKind, OpenHow, Record, SyncMode, Wal, WalOptions};
use process::{say, Reporter};
use std::io::BufRead;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

const LOG: &str = "/log";
const INTERVAL: SyncMode = SyncMode::Interval {
    batches: 50,
    millis: 5,
};

fn options(sync_mode: SyncMode) -> WalOptions {
    WalOptions {
        sync_mode,
        segment_bytes_max: 1 << 20,
        mapped_appends: true,
        ..WalOptions::default()
    }
}

fn open(disk: &SimDisk, sync_mode: SyncMode) -> Wal {
    Wal::open_on(Arc::new(disk.clone()), LOG, &options(sync_mode)).unwrap()
}

/// The bytes of record `number`, which nobody else has.
fn value(number: u64, len: usize) -> Vec<u8> {
    let mut value = vec![0; len];
    Rng::new(number).fill(&mut value);
    value
}

/// Appends record number `number`.
fn append(wal: &Wal, number: u64, len: usize) -> Result<(), duralog::Error> {
    let (key, value) = (number.to_le_bytes(), value(number, len));
    wal.append(Record::put(&key, &value), Durability::AsOpened)?;
    Ok(())
}

/// The log holds the records with these lengths, from number 0 on.
fn check(wal: &Wal, lens: &[usize]) {
    let mut cursor = wal.cursor(0).unwrap();
    for (number, &len) in (0..).zip(lens) {
        let entry = cursor.next().unwrap().expect("a record is missing");
        assert_eq!(entry.key, u64::to_le_bytes(number));
        assert!(entry.value == value(number, len), "record {number}");
    }
    assert!(cursor.next().unwrap().is_none());
}

/// Lengths of records: mostly small, some that cross windows, few that are written in pieces.
fn lens(rng: &mut Rng, count: usize) -> Vec<usize> {
    let len = |_| match rng.below(40) {
        0..30 => rng.below(600),
        30..36 => rng.below(9_000),
        36..39 => rng.below(100_000),
        _ => 250_000 + rng.below(60_000),
    };
    (0..count)
        .map(len)
        .map(|len| usize::try_from(len).unwrap())
        .collect()
}

#[test]
fn appends_that_find_a_window_write_by_no_call() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, SyncMode::Manual);
    append(&wal, 0, 100).unwrap();
    disk.reset_counts();
    for number in 1..100 {
        append(&wal, number, 100).unwrap();
    }
    assert_eq!(disk.counts().of(Call::Write), 0);
    assert_eq!(disk.counts().of(Call::Allocate), 0);
    // What is synced at once goes by a call, and the next one is stored again.
    let record = Record::put(b"durable", b"");
    wal.append(record, Durability::Durable).unwrap();
    assert_eq!(disk.counts().of(Call::Write), 1);
    append(&wal, 100, 100).unwrap();
    assert_eq!(disk.counts().of(Call::Write), 1);
    // Groups and the zeros behind them end wherever they like: what calls write is space ahead alone.
    disk.reset_counts();
    let segment = "/log/00000000000000000001.wal";
    let before = disk.read_file(segment).unwrap().len();
    for number in 101..8_000 {
        append(&wal, number, 0).unwrap();
    }
    let ahead = disk.read_file(segment).unwrap().len() - before;
    assert!(ahead > 400_000);
    assert_eq!(
        disk.counts().of(Call::Write),
        ahead.div_ceil(64 << 10) as u64
    );
}

#[test]
fn they_are_for_modes_in_which_an_append_need_not_be_durable() {
    let disk = SimDisk::new(1);
    let refused = Wal::open_on(Arc::new(disk.clone()), LOG, &options(SyncMode::Every));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// One log in many lives: appends of all sizes, the background at work at some moments, syncs, clean and
/// unclean ends. Small segments, so that windows end in rotations too.
#[test]
fn the_log_is_the_same_whatever_the_windows() {
    let seed = process::seed();
    say(&format!("mapped appends: seed {seed}"));
    for round in 0..12 {
        let mut rng = Rng::new(seed.wrapping_add(round));
        let disk = SimDisk::new(1);
        let options = WalOptions {
            segment_bytes_max: [64 << 10, 300_000, 3 << 20][usize::try_from(round % 3).unwrap()],
            buffer_bytes_max: if rng.percent(30) { 20_000 } else { 0 },
            ..options(if rng.percent(50) {
                SyncMode::Manual
            } else {
                INTERVAL
            })
        };
        let mut expected = Vec::new();
        let open = || Wal::open_on(Arc::new(disk.clone()), LOG, &options).unwrap();
        let mut wal = open();
        for _ in 0..6 {
            for len in lens(&mut rng, 60) {
                append(&wal, expected.len() as u64, len).unwrap();
                expected.push(len);
                match rng.below(12) {
                    0 => wal.prepare().unwrap(),
                    1 => wal.sync().unwrap(),
                    _ => {}
                }
            }
            if rng.percent(50) {
                wal.close().unwrap();
            } else {
                // All that is not in the process any more is there.
                wal.sync().unwrap();
                std::mem::forget(wal);
                disk.restart_process();
            }
            wal = open();
            check(&wal, &expected);
        }
    }
}

/// As many of the first windows as there are, and then none: nothing is lost, no call of the log fails.
#[test]
fn where_a_window_is_not_to_be_had_calls_write() {
    let lens = lens(&mut Rng::new(7), 150);
    let mut by_calls = 0;
    for nth in 1..12 {
        let disk = SimDisk::new(1);
        let plan = FaultPlan::new(Call::Map, nth, Fault::Error(errno::EINVAL));
        disk.fail(plan.lasting().on(".wal"));
        let wal = open(&disk, SyncMode::Manual);
        for (number, &len) in (0..).zip(&lens) {
            append(&wal, number, len).unwrap();
        }
        by_calls += u64::from(disk.counts().of(Call::Write) > 150);
        check(&wal, &lens);
        wal.close().unwrap();
        check(&open(&disk, SyncMode::Manual), &lens);
    }
    assert!(by_calls > 0);
}

#[test]
fn file_systems_that_do_not_allocate_or_write_elsewhere_get_no_windows() {
    for copies in [false, true] {
        let disk = SimDisk::new(1);
        disk.set_copy_on_write(copies);
        if !copies {
            let plan = FaultPlan::new(Call::Allocate, 1, Fault::Error(errno::ENOSYS));
            disk.fail(plan.lasting());
        }
        let wal = open(&disk, SyncMode::Manual);
        let mapped = disk.counts().of(Call::Map);
        for number in 0..20 {
            append(&wal, number, 1_000).unwrap();
        }
        assert_eq!(disk.counts().of(Call::Map), mapped, "the tail page's only");
        check(&wal, &[1_000; 20]);
    }
}

/// A disk of every size fills up: the append is refused, and taken when there is room.
#[test]
fn a_full_disk_refuses_an_append_and_the_handle_goes_on() {
    for blocks in 20..120 {
        let disk = SimDisk::new(1);
        disk.set_capacity(blocks * 4096);
        let Ok(wal) = Wal::open_on(Arc::new(disk.clone()), LOG, &options(SyncMode::Manual)) else {
            continue;
        };
        let mut number = 0;
        let refusal = loop {
            if number % 3 == 0 {
                wal.prepare().unwrap();
            }
            match append(&wal, number, 3_000) {
                Ok(()) => number += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refusal.kind(), ErrorKind::Full);
        disk.set_capacity(u64::MAX);
        append(&wal, number, 3_000).unwrap();
        check(&wal, &vec![3_000; usize::try_from(number).unwrap() + 1]);
        wal.close().unwrap();
    }
}

// ---- the real disk -------------------------------------------------------------------------------

/// A window shows the file, to calls too, both ways; it begins and ends where it was asked to.
#[test]
fn what_is_stored_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let disk = RealDisk::new();
    let file = disk.open(&path, OpenMode::CreateNew).unwrap();
    file.allocate(0, 100_000).unwrap();
    let mut window = file.window(8192, 50_000).unwrap();
    assert_eq!(window.range(), 8192..58_192);
    window.store(8192, b"first");
    window.store(58_188, b"last");
    file.write_at(8197, b" and more").unwrap();
    let mut found = [0; 14];
    file.read_at(8192, &mut found).unwrap();
    assert_eq!(&found, b"first and more");
    drop(window);
    file.sync_data().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(&bytes[58_188..58_192], b"last");
    assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 18);
}

#[test]
fn a_window_beyond_the_file_is_an_error_and_no_signal() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    let path = directory.path().join("file");
    let file = disk.open(&path, OpenMode::CreateNew).unwrap();
    file.write_at(0, &[1; 5000]).unwrap();
    assert!(file.window(0, 5000).is_ok());
    assert!(file.window(0, 100_000).is_err());
    assert!(file.window(0, 0).is_err());
    assert!(file.window(100, 100).is_err(), "not at a page");
    let reading = disk.open(&path, OpenMode::Read).unwrap();
    assert!(reading.window(0, 4096).is_err());
}

#[test]
#[should_panic(expected = "3 bytes at 4094")]
fn a_store_across_the_end_of_a_window_is_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    let path = directory.path().join("file");
    let file = disk.open(&path, OpenMode::CreateNew).unwrap();
    file.allocate(0, 8192).unwrap();
    file.window(0, 4096).unwrap().store(4094, b"end");
}

/// The same log on the real disk, with the library's own thread beside.
#[test]
fn the_background_opens_windows_while_the_log_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut rng = Rng::new(process::seed());
    let mut expected = Vec::new();
    for (round, mode) in [SyncMode::Manual, INTERVAL, SyncMode::Manual]
        .into_iter()
        .enumerate()
    {
        let options = WalOptions {
            segment_bytes_max: [1 << 20, 10 << 20, 30 << 20][round],
            ..options(mode)
        };
        let wal = Wal::open(&path, &options).unwrap();
        check(&wal, &expected);
        for len in lens(&mut rng, 1_000) {
            append(&wal, expected.len() as u64, len).unwrap();
            expected.push(len);
        }
        check(&wal, &expected);
        wal.close().unwrap();
        assert_eq!(Wal::verify(&path).unwrap().row, "Z");
    }
}

/// Beside the writer, a handle as other processes have it: it sees whole records, in order, none that
/// nobody has appended yet, and at the end all of them. (One that was let on before the store was
/// done would find damage.)
#[test]
fn readers_see_what_is_acknowledged_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let options = options(SyncMode::Manual);
    let wal = Wal::open(&path, &options).unwrap();
    append(&wal, 0, 10).unwrap();
    let reading = WalOptions {
        how: OpenHow::ReadOnly,
        ..WalOptions::default()
    };
    let (issued, over) = (AtomicU64::new(1), AtomicBool::new(false));
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let reader = Wal::open(&path, &reading).unwrap();
            let mut cursor = reader.cursor(0).unwrap();
            let (mut next, mut looks) = (0, 0u64);
            loop {
                let last_look = over.load(Ordering::SeqCst);
                while let Some(entry) = cursor.next().unwrap() {
                    let known = issued.load(Ordering::SeqCst);
                    assert!(next < known, "record {next} of {known}");
                    assert_eq!(entry.key, u64::to_le_bytes(next));
                    assert!(
                        entry.value == value(next, entry.value.len()),
                        "record {next}"
                    );
                    next += 1;
                }
                looks += 1;
                if last_look {
                    return (next, looks);
                }
            }
        });
        let mut rng = Rng::new(3);
        for number in 1..5_000 {
            // Some take long enough to be looked at half-way.
            let len_max = if number % 5 == 0 { 200_000 } else { 900 };
            let len = usize::try_from(rng.below(len_max)).unwrap();
            issued.store(number + 1, Ordering::SeqCst);
            append(&wal, number, len).unwrap();
        }
        over.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    assert_eq!(seen.0, 5_000);
    say(&format!("mapped appends: a reader looked {} times", seen.1));
}

/// Appends as it is told to, until it is killed.
#[test]
#[ignore = "started by the test below, in another process"]
fn child_that_is_killed() {
    let Some(path) = process::role() else { return };
    let wal = Wal::open(path, &options(SyncMode::Manual)).unwrap();
    for line in std::io::stdin().lock().lines() {
        let (number, len) = line
            .unwrap()
            .split_once(' ')
            .map_or((0, 0), |(number, len)| {
                (number.parse().unwrap(), len.parse().unwrap())
            });
        append(&wal, number, len).unwrap();
        process::report("done");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_stored() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut rng = Rng::new(process::seed());
    let mut expected: Vec<usize> = Vec::new();
    for _ in 0..5 {
        let mut command = process::again("child_that_is_killed", path.to_str().unwrap());
        let mut child = Reporter::start(&mut command);
        for _ in 0..40 {
            let len = usize::try_from(rng.below(20_000)).unwrap();
            child.tell(&format!("{} {len}", expected.len()));
            child.expect("done");
            expected.push(len);
        }
        child.kill();
        child.finish();
        check(
            &Wal::open(Path::new(&path), &options(INTERVAL)).unwrap(),
            &expected,
        );
    }
}
