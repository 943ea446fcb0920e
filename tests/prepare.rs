//! Space is prepared before it is needed, within bounds, and where it does no harm.
//!
//! On the simulated disk nothing happens in the background: there the tests ask for it
//! (`Wal::prepare`) at the moment of their choice. What a crash leaves of it, `tests/crash_points.rs`
//! tries; what a failing call does to it, `tests/faults.rs`. On the real disk the library's own
//! thread is watched.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::vfs::os::RealDisk;
use duralog::vfs::sim::{errno, Call, Fault, FaultPlan, SimDisk};
use duralog::vfs::{OpenMode, Vfs};
use duralog::{Durability, ErrorKind, Record, SyncMode, Wal, WalOptions};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LOG: &str = "/log";
const FIRST: &str = "/log/00000000000000000001.wal";
const FRESH: &str = "/log/ready/fresh";
/// No file grows for so long without being asked.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(sync_mode: SyncMode) -> WalOptions {
    WalOptions {
        sync_mode,
        segment_bytes_max: 64 << 10,
        ..WalOptions::default()
    }
}

fn open(disk: &SimDisk) -> Wal {
    Wal::open_on(Arc::new(disk.clone()), LOG, &options(SyncMode::Every)).unwrap()
}

fn append(wal: &Wal, byte: u8, len: usize) {
    let value = vec![byte; len];
    wal.append(Record::put(&[byte], &value), Durability::AsOpened)
        .unwrap();
}

/// The records are those of `expected`: a byte, and how often.
fn check(wal: &Wal, expected: &[(u8, usize)]) {
    let mut cursor = wal.cursor(0).unwrap();
    for (byte, len) in expected {
        let entry = cursor.next().unwrap().expect("a record is missing");
        assert_eq!(entry.key, [*byte]);
        assert_eq!(entry.value, vec![*byte; *len]);
    }
    assert!(cursor.next().unwrap().is_none());
}

fn has(disk: &SimDisk, path: &str) -> bool {
    disk.read_file(path).is_some()
}

fn len(disk: &SimDisk, path: &str) -> usize {
    disk.read_file(path).map_or(0, |bytes| bytes.len())
}

#[test]
fn nothing_is_prepared_before_half_of_what_there_is_is_used() {
    let disk = SimDisk::new(1);
    let wal = open(&disk);
    for byte in 0..10 {
        append(&wal, byte, 256);
        wal.prepare().unwrap();
    }
    assert_eq!(len(&disk, FIRST), 64 << 10);
    append(&wal, 99, 30_000);
    assert_eq!(len(&disk, FIRST), 64 << 10, "the append needed no more");
    wal.prepare().unwrap();
    assert_eq!(len(&disk, FIRST), 128 << 10);
    // Nothing is asked for twice.
    let before = disk.counts();
    wal.prepare().unwrap();
    assert_eq!(disk.counts(), before);
}

/// How many bytes more than these records took the segment was given at most, if the background comes
/// to its work after each of them.
fn most_prepared(count: usize, value_len: usize) -> usize {
    let disk = SimDisk::new(1);
    let wal = open_with(&disk, 64 << 20);
    let most = (1..=count).map(|nth| {
        append(&wal, 1, value_len);
        wal.prepare().unwrap();
        len(&disk, FIRST).saturating_sub(nth * value_len)
    });
    most.max().unwrap()
}

/// How large the file is that waits to be the next segment.
fn waiting_for(value_len: usize) -> usize {
    let disk = SimDisk::new(1);
    let segment_bytes_max = 4 << 20;
    let wal = open_with(&disk, segment_bytes_max as u64);
    for _ in 0..segment_bytes_max / 2 / value_len + 2 {
        append(&wal, 1, value_len);
        wal.prepare().unwrap();
    }
    len(&disk, FRESH)
}

fn open_with(disk: &SimDisk, segment_bytes_max: u64) -> Wal {
    let options = WalOptions {
        segment_bytes_max,
        ..options(SyncMode::Every)
    };
    Wal::open_on(Arc::new(disk.clone()), LOG, &options).unwrap()
}

#[test]
fn small_groups_get_small_steps() {
    // Of 256 bytes and 144 around them, 1,024 are 400 KiB.
    let small = most_prepared(5000, 256);
    assert!((400 << 10..1100 << 10).contains(&small), "{small}");
    let large = most_prepared(300, 25_000);
    assert!((4 << 20..8 << 20).contains(&large), "{large}");
    // Nor is more written for the next segment at once.
    let small = waiting_for(256);
    assert!((400 << 10..500 << 10).contains(&small), "{small}");
    assert_eq!(waiting_for(25_000), 4 << 20);
}

#[test]
fn zeros_do_not_touch_what_was_written() {
    let disk = SimDisk::new(1);
    let wal = open(&disk);
    let mut expected = Vec::new();
    for byte in 0..40 {
        let len = usize::from(byte) * 997 % 40_000;
        append(&wal, byte, len);
        expected.push((byte, len));
        if byte % 3 != 0 {
            wal.prepare().unwrap();
        }
        check(&wal, &expected);
    }
    wal.close().unwrap();
    check(&open(&disk), &expected);
}

#[test]
fn appends_into_prepared_blocks_write_once_and_sync_once() {
    let disk = SimDisk::new(1);
    let wal = open(&disk);
    append(&wal, 1, 31_000);
    wal.prepare().unwrap();
    disk.reset_counts();
    append(&wal, 2, 31_000);
    let counts = disk.counts();
    assert_eq!(counts.of(Call::Write), 1);
    assert_eq!(counts.of(Call::SyncData), 1);
    assert_eq!(counts.of(Call::Allocate), 0);
}

#[test]
fn the_next_segment_waits_and_is_used_and_is_gone_after_close() {
    let disk = SimDisk::new(1);
    let wal = open(&disk);
    append(&wal, 1, 40_000);
    assert!(!has(&disk, FRESH));
    wal.prepare().unwrap();
    assert_eq!(len(&disk, FRESH), 128 << 10);
    append(&wal, 2, 40_000);
    disk.reset_counts();
    append(&wal, 3, 40);
    assert_eq!(wal.stat().unwrap().rotation_count, 1);
    assert_eq!(disk.counts().of(Call::Create), 0, "the file was there");
    assert!(!has(&disk, FRESH));
    append(&wal, 4, 60_000);
    wal.prepare().unwrap();
    assert!(has(&disk, FRESH));
    wal.close().unwrap();
    assert!(!has(&disk, FRESH));
    check(
        &open(&disk),
        &[(1, 40_000), (2, 40_000), (3, 40), (4, 60_000)],
    );
}

#[test]
fn behind_a_rotation_the_new_segment_is_prepared_and_the_old_one_left_alone() {
    let disk = SimDisk::new(1);
    let wal = open(&disk);
    append(&wal, 1, 40_000);
    append(&wal, 2, 40_000);
    append(&wal, 3, 40);
    assert_eq!(wal.stat().unwrap().rotation_count, 1);
    let first = disk.read_file(FIRST);
    append(&wal, 4, 40_000);
    wal.prepare().unwrap();
    append(&wal, 5, 15_000);
    assert_eq!(disk.read_file(FIRST), first);
    assert_eq!(len(&disk, &FIRST.replace("1.wal", "2.wal")), 128 << 10);
}

#[test]
fn a_full_disk_met_while_preparing_is_silent_until_the_room_is_needed() {
    let disk = SimDisk::new(1);
    let wal = open(&disk);
    append(&wal, 1, 31_000);
    disk.set_capacity(disk.used() + 8192);
    wal.prepare().unwrap();
    append(&wal, 2, 20_000);
    wal.prepare().unwrap();
    let value = vec![3; 40_000];
    let refused = wal.append(Record::put(&[3], &value), Durability::AsOpened);
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
    append(&wal, 4, 100);
    check(&wal, &[(1, 31_000), (2, 20_000), (4, 100)]);
    disk.set_capacity(u64::MAX);
    append(&wal, 3, 40_000);
    wal.prepare().unwrap();
    append(&wal, 5, 10);
    check(
        &wal,
        &[(1, 31_000), (2, 20_000), (4, 100), (3, 40_000), (5, 10)],
    );
}

#[test]
fn on_a_full_disk_the_append_gets_what_waits_for_the_next_segment() {
    let disk = SimDisk::new(1);
    let wal = open(&disk);
    append(&wal, 1, 40_000);
    wal.prepare().unwrap();
    assert!(has(&disk, FRESH));
    disk.set_capacity(disk.used());
    append(&wal, 2, 100_000);
    assert!(!has(&disk, FRESH));
    check(&wal, &[(1, 40_000), (2, 100_000)]);
}

#[test]
fn a_failure_while_preparing_is_left_to_the_writer() {
    for (call, part) in [
        (Call::Write, "1.wal"),
        (Call::Allocate, "1.wal"),
        (Call::Create, "fresh"),
        (Call::Write, "fresh"),
        (Call::SyncData, "fresh"),
    ] {
        let disk = SimDisk::new(1);
        let wal = open(&disk);
        append(&wal, 1, 31_000);
        disk.fail(FaultPlan::new(call, 1, Fault::Error(errno::EIO)).on(part));
        wal.prepare().unwrap();
        disk.clear_faults();
        append(&wal, 2, 40_000);
        append(&wal, 3, 40);
        check(&wal, &[(1, 31_000), (2, 40_000), (3, 40)]);
        wal.close().unwrap();
    }
}

#[test]
fn disks_that_copy_on_write_get_neither_zeros_nor_files_to_use_again() {
    for copies in [false, true] {
        let disk = SimDisk::new(1);
        disk.set_copy_on_write(copies);
        let wal = open(&disk);
        disk.reset_counts();
        append(&wal, 1, 31_000);
        let writes = disk.counts().of(Call::Write);
        assert_eq!(writes, if copies { 1 } else { 2 });
        disk.reset_counts();
        wal.prepare().unwrap();
        assert_eq!(disk.counts().total() == 0, copies);
        append(&wal, 2, 40_000);
        append(&wal, 3, 40);
        wal.truncate(2).unwrap();
        let recycled = "/log/ready/recycled-00000000000000000001.wal";
        assert_eq!(has(&disk, recycled), !copies);
        check(&wal, &[(3, 40)]);
        wal.close().unwrap();
        check(&open(&disk), &[(3, 40)]);
    }
}

#[test]
fn where_nobody_syncs_space_is_allocated_only() {
    let disk = SimDisk::new(1);
    let wal = Wal::open_on(Arc::new(disk.clone()), LOG, &options(SyncMode::Manual)).unwrap();
    disk.reset_counts();
    append(&wal, 1, 100);
    append(&wal, 2, 31_000);
    let counts = disk.counts();
    assert_eq!((counts.of(Call::Write), counts.of(Call::Allocate)), (2, 1));
}

/// Around the sizes at which a batch is written by itself, in pieces, in frames.
#[test]
fn large_batches_come_back_whatever_their_size() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [SyncMode::Every, SyncMode::Manual] {
        let path = directory.path().join(format!("{mode:?}"));
        let wal = Wal::open(&path, &options(mode)).unwrap();
        let mut expected = Vec::new();
        let sizes = [
            262_000,
            262_130,
            262_131,
            262_132,
            524_200,
            1 << 20,
            5 << 20,
        ];
        for (byte, len) in (1..).zip(sizes) {
            append(&wal, byte, len);
            append(&wal, byte + 100, 10);
            let value = vec![byte; len / 4];
            let key = [byte];
            let batch = [Record::put(&key, &value); 4];
            wal.append_batch(&batch, Durability::AsOpened).unwrap();
            expected.extend([(byte, len), (byte + 100, 10)]);
            expected.extend([(byte, len / 4); 4]);
        }
        check(&wal, &expected);
        wal.close().unwrap();
        assert_eq!(Wal::verify(&path).unwrap().row, "Z");
        let wal = Wal::open(&path, &options(mode)).unwrap();
        check(&wal, &expected);
    }
}

// ---- the real disk -------------------------------------------------------------------------------

/// Bytes on the disk in a directory and below.
fn disk_bytes(dir: &Path) -> u64 {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            let below = if metadata.is_dir() {
                disk_bytes(&entry.path())
            } else {
                0
            };
            metadata.blocks() * 512 + below
        })
        .sum()
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_background_prepares_while_the_log_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let file_len = |name: &str| fs::metadata(path.join(name)).map_or(0, |file| file.len());
    let first = || file_len("00000000000000000001.wal");
    let wal = Wal::open(&path, &WalOptions::default()).unwrap();
    for byte in 0..10 {
        append(&wal, byte, 256);
    }
    assert_eq!(first(), 64 << 10);
    append(&wal, 10, 30_000);
    // The call came in the append; the log is known to the background from its end on.
    append(&wal, 11, 100);
    wait_for("more blocks", || first() == 128 << 10);
    append(&wal, 12, 70_000);
    append(&wal, 13, 100);
    wait_for("twice as many", || first() >= 256 << 10);
    let last = first();
    wal.close().unwrap();
    assert_eq!(first(), last);
    assert!(disk_bytes(&path) <= last + (64 << 10), "not more than that");
}

#[test]
fn a_log_that_arrives_while_the_background_waits_gets_its_space() {
    let directory = tempfile::tempdir().unwrap();
    let busy = Wal::open(directory.path().join("busy"), &WalOptions::default()).unwrap();
    for number in 0..20 {
        // The background knows this log, and waits for its next look.
        append(&busy, 1, 10);
        let path = directory.path().join(format!("log-{number}"));
        let wal = Wal::open(&path, &WalOptions::default()).unwrap();
        append(&wal, 2, 10);
        // It calls once, and nothing is appended that could call again.
        append(&wal, 3, 40_000);
        wait_for("more blocks", || {
            fs::metadata(path.join("00000000000000000001.wal"))
                .unwrap()
                .len()
                == 128 << 10
        });
        wal.close().unwrap();
    }
    busy.close().unwrap();
}

#[test]
fn a_log_of_ten_records_is_small() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let wal = Wal::open(&path, &WalOptions::default()).unwrap();
    for byte in 0..10 {
        append(&wal, byte, 256);
    }
    wal.close().unwrap();
    assert!(disk_bytes(&path) <= 128 << 10, "{}", disk_bytes(&path));
}

#[test]
fn many_logs_share_one_thread() {
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let directory = tempfile::tempdir().unwrap();
    let before = threads();
    let logs: Vec<Wal> = (0..50)
        .map(|number| {
            let path = directory.path().join(number.to_string());
            let wal = Wal::open(path, &options(SyncMode::Every)).unwrap();
            append(&wal, 1, 40_000);
            append(&wal, 2, 10);
            wal
        })
        .collect();
    // Other tests of this file run beside this one: at most 10 of them.
    assert!(threads() <= before + 12, "{} threads", threads() - before);
    for wal in logs {
        wal.close().unwrap();
    }
}

/// A btrfs in a file, mounted as long as the test runs.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn btrfs() -> Option<Mounted> {
        let directory = tempfile::tempdir().unwrap();
        let (image, place) = (directory.path().join("image"), directory.path().join("mnt"));
        fs::create_dir(&place).unwrap();
        fs::File::create(&image)
            .unwrap()
            .set_len(256 << 20)
            .unwrap();
        let run = |command: &mut Command| {
            let output = command.output().ok()?;
            output.status.success().then_some(())
        };
        run(Command::new("mkfs.btrfs").arg("-q").arg(&image))?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&image, &place]))?;
        Some(Mounted(directory))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mnt")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn btrfs_is_known_to_copy_on_write_but_not_files_that_are_exempt() {
    let Some(mounted) = Mounted::btrfs() else {
        eprintln!("skipped: no mkfs.btrfs, or no right to mount");
        return;
    };
    let vfs = RealDisk::new();
    let make = |path: &Path| vfs.open(path, OpenMode::CreateNew).unwrap();
    assert!(!make(&mounted.path().join("file")).overwrites_in_place());
    let exempt = mounted.path().join("exempt");
    fs::create_dir(&exempt).unwrap();
    match Command::new("chattr").arg("+C").arg(&exempt).status() {
        Ok(status) if status.success() => {
            assert!(make(&exempt.join("file")).overwrites_in_place());
        }
        _ => eprintln!("skipped: no chattr"),
    }
    let wal = Wal::open(mounted.path().join("log"), &options(SyncMode::Every)).unwrap();
    append(&wal, 1, 40_000);
    append(&wal, 2, 40_000);
    append(&wal, 3, 40);
    wal.truncate(2).unwrap();
    check(&wal, &[(3, 40)]);
    assert_eq!(
        fs::read_dir(mounted.path().join("log/ready"))
            .unwrap()
            .count(),
        0
    );
    wal.close().unwrap();
}
