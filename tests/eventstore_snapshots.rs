//! Snapshots: which of them are kept and which is given, that nothing that is wrong with one is an error
//! or a wrong state, and that saving at once, dying in the middle of it and failing disks do no harm.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::eventstore::{AppendRequest, EventStore, EventStoreOptions, NewEvent};
use duralog::vfs::sim::{errno, Call, Fault, FaultPlan, SimDisk};
use duralog::vfs::Vfs;
use duralog::{Durability, ErrorKind};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NEWEST: u64 = u64::MAX;

fn open(path: &Path) -> EventStore {
    EventStore::open(path, &EventStoreOptions::default()).unwrap()
}

fn append(store: &EventStore, count: usize) {
    let event = NewEvent {
        stream: "a",
        event_type: "T",
        ..NewEvent::default()
    };
    let request = AppendRequest {
        events: &vec![event; count],
        ..AppendRequest::default()
    };
    store.append(&request, Durability::AsOpened).unwrap();
}

/// Saves one whose data say what it is.
fn save(store: &EventStore, version: u64, fingerprint: &[u8]) -> Result<(), duralog::Error> {
    let data = [fingerprint, b"/", version.to_string().as_bytes()].concat();
    store.save_snapshot(b"key", version, version, fingerprint, &data)
}

/// The version of the one that is given, after a look at the rest of it.
fn load(store: &EventStore, version_max: u64, fingerprint: &[u8]) -> Option<u64> {
    let found = store.load_snapshot(b"key", version_max, fingerprint);
    let found = found.unwrap()?;
    let data = [fingerprint, b"/", found.version.to_string().as_bytes()].concat();
    assert_eq!((found.position, found.data), (found.version, data));
    Some(found.version)
}

/// All files below `snapshots/`.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(path.join("snapshots"))
        .unwrap()
        .flat_map(|entry| fs::read_dir(entry.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// The file of the one that was saved last.
fn file_of(path: &Path, version: u64) -> PathBuf {
    let end = format!("-{version:020}.snap");
    let mut found = files(path)
        .into_iter()
        .filter(|file| file.to_str().unwrap().ends_with(&end));
    let file = found.next().unwrap();
    assert_eq!(found.next(), None);
    file
}

#[test]
fn the_newest_snapshot_that_fits_is_given_and_a_bad_one_is_as_good_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path);
    append(&store, 9);
    for version in [2, 4, 6, 8] {
        save(&store, version, b"v1").unwrap();
    }
    assert_eq!(load(&store, NEWEST, b"v1"), Some(8));
    assert_eq!(load(&store, 7, b"v1"), Some(6));
    assert_eq!(load(&store, 1, b"v1"), None);
    assert_eq!(load(&store, NEWEST, b"v2"), None);
    assert!(store.load_snapshot(b"b", 9, b"v1").unwrap().is_none());
    assert!(store.save_snapshot(b"key", 10, 10, b"v1", b"").is_err());
    drop(store);
    let store = open(&path);
    // Every byte of the newest one damaged, and every length of it.
    assert_eq!(files(&path).len(), 4);
    let newest = file_of(&path, 8);
    let good = fs::read(&newest).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&newest, &bad).unwrap();
        assert_eq!(load(&store, NEWEST, b"v1"), Some(6), "byte {at}");
        fs::write(&newest, &good[..at]).unwrap();
        assert_eq!(load(&store, NEWEST, b"v1"), Some(6), "{at} bytes");
    }
    fs::write(&newest, &good).unwrap();
    save(&store, 9, b"v1").unwrap();
    assert_eq!(load(&store, 9, b"v1"), Some(9));
    assert_eq!(load(&store, 3, b"v1"), None, "only four are kept");
    let reading = EventStoreOptions {
        wal: duralog::WalOptions {
            how: duralog::OpenHow::ReadOnly,
            ..duralog::WalOptions::default()
        },
        ..EventStoreOptions::default()
    };
    let reader = EventStore::open(&path, &reading).unwrap();
    let refused = reader.delete_snapshots(b"key").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly);
    assert_eq!(load(&reader, 9, b"v1"), Some(9));
    store.delete_snapshots(b"key").unwrap();
    assert_eq!(load(&store, 9, b"v1"), None);
}

#[test]
fn one_fingerprint_does_not_displace_another_that_is_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path);
    append(&store, 10);
    for version in 7..=10 {
        save(&store, version, b"v1").unwrap();
    }
    save(&store, 1, b"v2").unwrap();
    assert_eq!(load(&store, NEWEST, b"v2"), Some(1));
    for version in 2..=6 {
        save(&store, version, b"v2").unwrap();
        assert_eq!(load(&store, NEWEST, b"v2"), Some(version));
    }
    for version in 7..=10 {
        assert_eq!(load(&store, version, b"v1"), Some(version));
    }
    assert_eq!(load(&store, 2, b"v2"), None, "four of each are kept");
    assert_eq!(files(&path).len(), 8);
}

#[test]
fn two_fingerprints_at_one_version_are_two_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path);
    append(&store, 5);
    save(&store, 5, b"v1").unwrap();
    let of_v1 = file_of(&path, 5);
    save(&store, 5, b"v2").unwrap();
    assert_eq!(load(&store, NEWEST, b"v1"), Some(5));
    assert_eq!(load(&store, NEWEST, b"v2"), Some(5));
    // A name has only a part of the digest of a fingerprint; so what stands in the file counts.
    let mut of_v2 = files(&path);
    of_v2.retain(|file| *file != of_v1);
    fs::copy(&of_v1, &of_v2[0]).unwrap();
    assert_eq!(load(&store, NEWEST, b"v1"), Some(5));
    assert_eq!(load(&store, NEWEST, b"v2"), None);
    store.delete_snapshots(b"key").unwrap();
    assert_eq!(load(&store, NEWEST, b"v1"), None);
    assert!(files(&path).is_empty());
}

#[test]
fn of_many_fingerprints_four_snapshots_are_kept_beside_those_of_the_one_that_saves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path);
    append(&store, 30);
    let fingerprints = [b"v1", b"v2", b"v3", b"v4", b"v5"];
    for version in 1..=30 {
        let fingerprint = fingerprints[usize::try_from(version % 5).unwrap()];
        save(&store, version, fingerprint).unwrap();
        assert!(files(&path).len() <= 8);
    }
    assert_eq!(files(&path).len(), 6);
    assert_eq!(load(&store, 29, b"v1"), Some(25));
    for (fingerprint, version) in fingerprints.into_iter().zip([30, 26, 27, 28, 29]) {
        assert_eq!(load(&store, NEWEST, fingerprint), Some(version));
    }
}

#[test]
fn snapshots_of_a_log_that_was_longer_do_not_block_those_of_now() {
    let dir = tempfile::tempdir().unwrap();
    let (path, backup) = (dir.path().join("store"), dir.path().join("backup"));
    let store = open(&path);
    append(&store, 5);
    store.close().unwrap();
    copy(&path, &backup);
    let store = open(&path);
    append(&store, 15);
    for version in 17..=20 {
        save(&store, version, b"v1").unwrap();
    }
    store.close().unwrap();
    copy(&path.join("snapshots"), &backup.join("snapshots"));

    let store = open(&backup);
    assert_eq!(load(&store, NEWEST, b"v1"), None);
    for version in 1..=5 {
        save(&store, version, b"v1").unwrap();
        assert_eq!(load(&store, NEWEST, b"v1"), Some(version));
        assert_eq!(files(&backup).len(), 4);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn files_that_are_no_snapshots_do_no_harm_and_what_dead_saves_left_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path);
    append(&store, 9);
    save(&store, 1, b"").unwrap();
    let first = file_of(&path, 1);
    let folder = first.parent().unwrap().to_path_buf();
    let stem = &first.file_name().unwrap().to_str().unwrap()[..31];
    store.close().unwrap();

    let good = fs::read(&first).unwrap();
    // As an earlier version named them, and names that are nearly right.
    let foreign = [
        format!("{stem}00000000000000000009.snap"),
        format!("{stem}0000000000000000-9.snap"),
        format!("{stem}0000000000000000-+0000000000000000009.snap"),
        format!("{stem}00000000000000-00000000000000000009.snap"),
        format!("{stem}0000000000000000-99999999999999999999.snap"),
        format!("{stem}.snap"),
    ];
    let left_over = [1, 2, 3, 1 << 20].map(|number| format!("{stem}{number:020}.new"));
    let of_another_key = format!("{}{:020}.new", stem.to_uppercase().replace('-', "_"), 1);
    for name in foreign.iter().chain(&left_over).chain([&of_another_key]) {
        fs::write(folder.join(name), &good).unwrap();
    }
    fs::create_dir(folder.join(format!("{stem}0000000000000000-{:020}.snap", 8))).unwrap();

    let store = open(&path);
    assert_eq!(load(&store, NEWEST, b""), Some(1));
    for version in 2..=6 {
        save(&store, version, b"").unwrap();
        assert_eq!(load(&store, NEWEST, b""), Some(version));
    }
    assert_eq!(
        load(&store, 3, b""),
        Some(3),
        "four are kept, foreign names or not"
    );
    let there = |name: &String| folder.join(name).exists();
    assert!(!left_over.iter().any(there));
    assert!(there(&of_another_key));
    fs::write(folder.join(&left_over[3]), b"").unwrap();
    store.delete_snapshots(b"key").unwrap();
    assert!(!left_over.iter().chain(&foreign).any(there));
    assert!(there(&of_another_key));
    assert_eq!(load(&store, NEWEST, b""), None);
}

#[test]
fn folders_that_cannot_be_listed_are_as_good_as_empty() {
    for whole in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = open(&path);
        append(&store, 2);
        save(&store, 1, b"").unwrap();
        let folder = match whole {
            true => path.join("snapshots"),
            false => file_of(&path, 1).parent().unwrap().to_path_buf(),
        };
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, b"a file").unwrap();
        assert_eq!(load(&store, NEWEST, b""), None);
        assert_eq!(save(&store, 2, b"").unwrap_err().kind(), ErrorKind::Io);
        append(&store, 1);
        fs::remove_file(&folder).unwrap();
        save(&store, 3, b"").unwrap();
        assert_eq!(load(&store, NEWEST, b""), Some(3));
    }
}

#[test]
fn threads_that_save_at_once_are_not_in_each_others_way() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 300;
    let disk = SimDisk::new(1);
    let store = open_on(&disk);
    append(&store, 10);
    std::thread::scope(|scope| {
        let mut begun = Vec::new();
        for thread in 0..THREADS {
            let store = &store;
            begun.push(scope.spawn(move || {
                for round in 0..ROUNDS {
                    let fingerprint: &[u8] = [b"v1", b"v2"][usize::from(round % 10 == 0)];
                    save(store, 1 + round % 3, fingerprint).unwrap();
                    assert!(load(store, NEWEST, b"v1").is_some() || round == 0);
                    if thread == 0 && round % 50 == 0 {
                        store.delete_snapshots(b"other").unwrap();
                    }
                }
            }));
        }
        // ThreadSanitizer sees who waits for a thread, but not the end of a scope.
        begun.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let names = names_on(&disk);
    assert!(
        names.iter().all(|name| name.ends_with(".snap")),
        "{names:?}"
    );
}

/// Whatever call on the folders of snapshots fails: loading gives a good one or none, saving says that it
/// was not saved, and after it all is as before.
#[test]
fn failing_disks_cost_snapshots_and_nothing_else() {
    let (mut refused, mut missed) = (0, 0);
    for call in Call::ALL {
        for fault in [
            Fault::Error(errno::EIO),
            Fault::Error(errno::ENOSPC),
            Fault::ErrorAfter(errno::EIO),
        ] {
            for (nth, lasting) in [(1, false), (2, false), (3, false), (1, true), (2, true)] {
                let case = format!("{call:?} {fault:?} {nth} {lasting}");
                let disk = SimDisk::new(1);
                let store = open_on(&disk);
                append(&store, 9);
                for version in 1..=4 {
                    save(&store, version, b"v1").unwrap();
                }
                let mut plan = FaultPlan::new(call, nth, fault).on("snapshots");
                if lasting {
                    plan = plan.lasting();
                }
                disk.fail(plan);
                let told = save(&store, 5, b"v1");
                if let Err(error) = &told {
                    refused += 1;
                    let kind = error.kind();
                    assert!(
                        matches!(kind, ErrorKind::Io | ErrorKind::Full),
                        "{case}: {error}"
                    );
                }
                for version_max in [NEWEST, 4, 3] {
                    missed += u64::from(load(&store, version_max, b"v1").is_none());
                }
                append(&store, 1);
                disk.clear_faults();

                let newest = load(&store, NEWEST, b"v1");
                assert!(
                    newest == Some(5) || told.is_err() && newest == Some(4),
                    "{case}"
                );
                save(&store, 6, b"v1").unwrap();
                assert_eq!(load(&store, NEWEST, b"v1"), Some(6), "{case}");
                let names = names_on(&disk);
                let whole = names.iter().all(|name| name.ends_with(".snap"));
                assert!(whole && names.len() == 4, "{case}: {names:?}");
                store.delete_snapshots(b"key").unwrap();
                assert_eq!(names_on(&disk).len(), 0, "{case}");
                store.close().unwrap();
            }
        }
    }
    assert!(refused > 10 && missed > 10, "{refused}, {missed}");
}

fn open_on(disk: &SimDisk) -> EventStore {
    let options = EventStoreOptions::default();
    EventStore::open_on(Arc::new(disk.clone()), "/store", &options).unwrap()
}

/// The names of all files of snapshots.
fn names_on(disk: &SimDisk) -> Vec<String> {
    let root = Path::new("/store/snapshots");
    let folders = disk.list(root).unwrap();
    let files = folders
        .iter()
        .flat_map(|folder| disk.list(&root.join(&folder.name)).unwrap());
    files.map(|file| file.name).collect()
}
