//! A file system that is really full: an append is refused cleanly, nothing is lost, and the same
//! handle goes on when there is room again.
//!
//! Two ways to fill one up. A tmpfs of 1 MiB, where the test may mount one: space comes back when a
//! ballast file is deleted, or when the log is truncated. A limit on the size of files
//! (`RLIMIT_FSIZE`) in a child process: it comes back when the limit is raised. What can't be done
//! is skipped with a message. `tests/faults.rs` meets a full disk at every single call. The logs that
//! are left are also read by the pure-Python reader.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]
#![allow(unsafe_code)] // a limit of the process, and one signal ignored

#[path = "common/differential.rs"]
mod differential;

use duralog::{Durability, ErrorKind, OpenHow, Record, Wal, WalOptions};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the child: where its log goes.
const CHILD: &str = "DURALOG_FULL_DISK_CHILD";

fn options() -> WalOptions {
    WalOptions {
        segment_bytes_max: 64 << 10,
        ..WalOptions::default()
    }
}

fn value(number: u64) -> Vec<u8> {
    let len = 100 + usize::try_from(number * 977 % 9_000).unwrap();
    vec![u8::try_from(number % 251).unwrap(); len]
}

/// Appends record number `number`; true if it was taken, false if the disk is full.
fn append(wal: &Wal, number: u64) -> bool {
    let key = number.to_le_bytes();
    match wal.append(Record::put(&key, &value(number)), Durability::AsOpened) {
        Ok(receipt) => {
            assert_eq!(receipt.seq, number, "no number is lost to a refused append");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            assert!(error.is_retryable());
            false
        }
    }
}

/// Appends from `number` on until the disk is full; the first number that was not taken.
fn fill(wal: &Wal, mut number: u64) -> u64 {
    while append(wal, number) {
        number += 1;
        assert!(number < 10_000, "the disk does not fill up");
    }
    number
}

/// The log holds exactly the records from `first` up to, and without, `end`.
fn check(wal: &Wal, first: u64, end: u64) {
    let mut cursor = wal.cursor(0).unwrap();
    let mut next = first;
    while let Some(entry) = cursor.next().unwrap() {
        assert_eq!(entry.seq, next);
        assert_eq!(entry.key, next.to_le_bytes());
        assert_eq!(entry.value, value(next));
        next += 1;
    }
    assert_eq!(next, end);
}

/// Copies the files of a directory, not what is in directories below.
fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

// ---- a small file system -------------------------------------------------------------------------

/// A tmpfs that is unmounted when the test ends.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(size: &str) -> Option<Mounted> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={size}"));
        let output = mount
            .arg("duralog-test")
            .arg(directory.path())
            .output()
            .ok()?;
        output.status.success().then_some(Mounted(directory))
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

/// The log in it, made later, is closed by now.
impl Drop for Mounted {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            differential::compare_logs_below(self.0.path());
        }
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_file_system_refuses_cleanly_and_the_handle_goes_on() {
    let Some(mounted) = Mounted::new("1m") else {
        eprintln!("skipped: no right to mount a tmpfs");
        return;
    };
    let ballast = mounted.path().join("ballast");
    fs::write(&ballast, vec![1; 400 << 10]).unwrap();
    let path = mounted.path().join("log");
    let wal = Wal::open(&path, &options()).unwrap();
    let full = fill(&wal, 1);
    assert!(full > 20, "{full}");
    for _ in 0..5 {
        // A smaller one may still fit; none of this size does.
        let big = vec![7; 60 << 10];
        let batch: Vec<_> = (0..4).map(|_| Record::put(b"k", &big)).collect();
        let refused = wal.append_batch(&batch, Durability::AsOpened).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
    }
    let large = vec![7; 5 << 20];
    let refused = wal.append(Record::put(b"k", &large), Durability::AsOpened);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Full);
    check(&wal, 1, full);
    wal.sync().unwrap();

    // The disk has room again.
    fs::remove_file(&ballast).unwrap();
    let full_again = fill(&wal, full);
    assert!(full_again > full + 20, "{full} {full_again}");
    check(&wal, 1, full_again);

    // Truncating a log on a full disk makes room.
    let kept = full_again / 2;
    wal.truncate(kept).unwrap();
    let end = fill(&wal, full_again);
    assert!(end > full_again + 10, "{full_again} {end}");
    check(&wal, kept + 1, end);
    drop(wal);

    // Reading needs no room; opening for writing needs none either after a clean close.
    let reader = WalOptions {
        how: OpenHow::ReadOnly,
        ..options()
    };
    check(&Wal::open(&path, &reader).unwrap(), kept + 1, end);
    let wal = Wal::open(&path, &options()).unwrap();
    check(&wal, kept + 1, end);
    wal.truncate(end - 1).unwrap();
    assert!(append(&wal, end));
    wal.close().unwrap();
}

#[test]
fn a_log_that_died_on_a_full_file_system_opens_when_there_is_room() {
    let Some(mounted) = Mounted::new("512k") else {
        eprintln!("skipped: no right to mount a tmpfs");
        return;
    };
    let reserve = mounted.path().join("reserve");
    fs::write(&reserve, vec![1; 64 << 10]).unwrap();
    let path = mounted.path().join("log");
    let wal = Wal::open(&path, &options()).unwrap();
    let full = fill(&wal, 1);
    // What a killed process leaves: everything but a clean end.
    let outside = tempfile::tempdir().unwrap();
    let kept = outside.path().join("log");
    copy_files(&path, &kept);
    drop(wal);
    fs::remove_dir_all(&path).unwrap();
    copy_files(&kept, &path);
    let ballast = mounted.path().join("ballast");
    let mut room = 512 << 10;
    // To the last page.
    while room >= 4096 {
        let more = fs::read(&ballast).unwrap_or_default().len() + room;
        if fs::write(&ballast, vec![1; more]).is_err() {
            fs::write(&ballast, vec![1; more - room]).unwrap();
            room /= 2;
        }
    }
    for _ in 0..3 {
        let refused = Wal::open(&path, &options()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
    }
    fs::remove_file(&reserve).unwrap();
    let wal = Wal::open(&path, &options()).unwrap();
    check(&wal, 1, full);
    assert!(append(&wal, full));
}

#[test]
fn a_log_that_cannot_be_made_on_a_full_file_system_can_be_made_later() {
    let Some(mounted) = Mounted::new("64k") else {
        eprintln!("skipped: no right to mount a tmpfs");
        return;
    };
    let path = mounted.path().join("log");
    let mut refusals = 0;
    // Every amount of room between none and enough.
    for free in 0..=12 {
        let ballast = mounted.path().join("ballast");
        let _ = fs::remove_dir_all(&path);
        fs::write(&ballast, vec![1; (15 - free) * 4096]).unwrap();
        match Wal::open(&path, &options()) {
            Ok(wal) => drop(wal),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                refusals += 1;
                fs::remove_file(&ballast).unwrap();
                let wal = Wal::open(&path, &options()).unwrap();
                check(&wal, 1, 1);
            }
        }
    }
    assert!(refusals > 0);
}

// ---- a limit on the size of files ----------------------------------------------------------------

fn limit_file_size(bytes: u64) -> bool {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the call reads one structure that lives through it.
    unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) == 0 }
}

#[test]
fn a_limit_on_file_sizes_is_met_cleanly_and_can_be_raised() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_with_a_limit",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, directory.path().join("log"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    if text.contains("skipped: ") {
        eprintln!("{text}");
        return;
    }
    assert!(text.contains("the child went on"), "{text}");
    let wal = Wal::open(directory.path().join("log"), &WalOptions::default()).unwrap();
    check(&wal, 1, wal.stat().unwrap().last_seq + 1);
    drop(wal);
    differential::compare_logs_below(directory.path());
}

/// Does nothing but in the child process that the test above starts.
#[test]
fn child_with_a_limit() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    // SAFETY: no handler runs; without this the kernel would kill the process at the limit.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if !limit_file_size(300_000) {
        println!("skipped: the size of files can't be limited");
        return;
    }
    let path = Path::new(&path);
    let wal = Wal::open(path, &WalOptions::default()).unwrap();
    let full = fill(&wal, 1);
    assert!(full > 10, "{full}");
    assert!(!append(&wal, full));
    check(&wal, 1, full);
    assert!(limit_file_size(600_000));
    let full_again = fill(&wal, full);
    assert!(full_again > full + 10, "{full} {full_again}");
    assert!(limit_file_size(libc::RLIM_INFINITY));
    for number in full_again..full_again + 50 {
        assert!(append(&wal, number));
    }
    check(&wal, 1, full_again + 50);
    wal.close().unwrap();
    println!("the child went on");
}
