//! The log as a library user sees it: what is appended comes back, in every mode, after every kind
//! of reopening, and nothing else does. Each log is read by the pure-Python reader too.

#[path = "common/differential.rs"]
mod differential;
#[path = "common/watched.rs"]
mod watched;

use differential::compare_with_python;
use duralog::vfs::sim::{Call, SimDisk};
use duralog::{
    BatchStatus, Cursor, Durability, EntryKind, Lsn, OpenHow, Receipt, Record, SyncMode, Wal,
    WalOptions,
};
use std::path::Path;
use std::sync::{mpsc, Arc, OnceLock, Weak};
use std::time::Duration;
use watched::Watched;

fn all(wal: &Wal, after: u64) -> Vec<(u64, Vec<u8>, Vec<u8>)> {
    let mut cursor = wal.cursor(after).unwrap();
    let mut found = Vec::new();
    while let Some(entry) = cursor.next().unwrap() {
        assert_eq!(entry.kind, EntryKind::Record);
        found.push((entry.seq, entry.key.to_vec(), entry.value.to_vec()));
    }
    found
}

fn open(path: &Path) -> Wal {
    Wal::open(path, &WalOptions::default()).unwrap()
}

fn put<'a>(key: &'a str, value: &'a str) -> Record<'a> {
    Record::put(key.as_bytes(), value.as_bytes())
}

#[test]
fn what_was_appended_is_replayed_after_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let wal = open(&path);
    // Also for a log that is new.
    assert!(wal.recovery_report().duration_ns > 0);
    assert_eq!(
        wal.append(put("a", "1"), Durability::AsOpened).unwrap().seq,
        1
    );
    let receipt = wal
        .append_batch(&[put("b", "2"), put("c", "3")], Durability::AsOpened)
        .unwrap();
    assert_eq!((receipt.first_seq, receipt.seq), (2, 4));
    let before = all(&wal, 0);
    assert_eq!(before.len(), 3);
    wal.close().unwrap();
    drop(wal);
    let wal = open(&path);
    assert!(!wal.recovery_report().repaired);
    assert_eq!(all(&wal, 0), before);
    assert_eq!(all(&wal, 2).len(), 1);
    assert_eq!(
        wal.append(put("d", "4"), Durability::AsOpened).unwrap().seq,
        5
    );
    assert_eq!(wal.stat().unwrap().segment_count, 1);
    drop(wal);
    compare_with_python(&[path]);
}

#[test]
fn a_log_of_ten_records_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let wal = open(&path);
    for _ in 0..10 {
        wal.append(put("key", "value"), Durability::AsOpened)
            .unwrap();
    }
    wal.close().unwrap();
    let total: u64 = std::fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(|metadata| metadata.is_file())
        .map(|metadata| metadata.len())
        .sum();
    assert!(total <= 128 << 10, "{total} bytes");
    drop(wal);
    compare_with_python(&[path]);
}

#[test]
fn a_batch_larger_than_a_frame_is_whole_and_segments_rotate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let options = WalOptions {
        segment_bytes_max: 64 << 10,
        sync_mode: SyncMode::Manual,
        ..WalOptions::default()
    };
    let wal = Wal::open(&path, &options).unwrap();
    let value = vec![7u8; 1000];
    let records: Vec<Record<'_>> = (0..20_000).map(|_| Record::put(b"k", &value)).collect();
    let first = wal.append(put("x", "y"), Durability::AsOpened).unwrap();
    let big = wal.append_batch(&records, Durability::AsOpened).unwrap();
    assert_eq!(big.first_seq, first.seq + 1);
    assert_eq!(big.seq, first.seq + 20_001);
    let after = wal.append(put("x", "z"), Durability::AsOpened).unwrap();
    assert_eq!(after.seq, big.seq + 1);
    assert_eq!(wal.stat().unwrap().last_segment, 2);
    assert_eq!(all(&wal, 0).len(), 20_002);
    wal.close().unwrap();
    let reader = Wal::open(
        &path,
        &WalOptions {
            how: OpenHow::ReadOnly,
            ..options.clone()
        },
    )
    .unwrap();
    assert_eq!(all(&reader, 0).len(), 20_002);
    let report = Wal::verify(&path).unwrap();
    assert_eq!(report.row, "Z", "{report:?}");
    drop(wal);
    compare_with_python(&[path]);
}

#[test]
fn truncation_is_remembered_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let options = WalOptions {
        segment_bytes_max: 64 << 10,
        ..WalOptions::default()
    };
    let wal = Wal::open(&path, &options).unwrap();
    let value = vec![1u8; 10_000];
    for _ in 0..30 {
        wal.append(Record::put(b"k", &value), Durability::AsOpened)
            .unwrap();
    }
    let segments = wal.stat().unwrap().segment_count;
    assert!(segments > 3, "{segments}");
    wal.truncate(25).unwrap();
    assert_eq!(all(&wal, 0).first().unwrap().0, 26);
    assert!(wal.stat().unwrap().segment_count < segments);
    drop(wal);
    let wal = Wal::open(&path, &options).unwrap();
    assert_eq!(
        all(&wal, 0).iter().map(|r| r.0).collect::<Vec<_>>(),
        [26, 27, 28, 29, 30]
    );
    wal.truncate(30).unwrap();
    assert!(all(&wal, 0).is_empty());
    assert_eq!(
        wal.append(put("a", "b"), Durability::AsOpened).unwrap().seq,
        31
    );
    drop(wal);
    let wal = Wal::open(&path, &options).unwrap();
    assert_eq!(all(&wal, 0).len(), 1);
    drop(wal);
    compare_with_python(&[path]);
}

/// Opening reads the last header alone. The others are asked for after their segments are gone.
#[test]
fn a_reader_is_told_of_segments_that_were_truncated_before_it_looked_at_them() {
    let disk = SimDisk::new(1);
    let options = WalOptions {
        segment_bytes_max: 64 << 10,
        ..WalOptions::default()
    };
    let writer = Wal::open_on(Arc::new(disk.clone()), "/log", &options).unwrap();
    let value = vec![1; 10_000];
    let append = |_| writer.append(Record::put(b"k", &value), Durability::AsOpened);
    let receipts: Vec<Receipt> = (0..60).map(|n| append(n).unwrap()).collect();
    let readers: Vec<Wal> = (0..4).map(|_| open_on(&disk, OpenHow::ReadOnly)).collect();
    writer.truncate(45).unwrap();
    let [status, batches, stat, checkpoint] = readers.try_into().unwrap();

    let gone = status.batch_status(receipts[1].batch_id).unwrap();
    assert_eq!(gone, BatchStatus::Truncated);
    let there = status.batch_status(receipts[50].batch_id).unwrap();
    assert_eq!(there, BatchStatus::Committed);
    assert_eq!(next_seqs(&mut batches.cursor(0).unwrap())[0], 46);
    assert_eq!(stat.stat().unwrap().last_seq, 60);
    assert!(checkpoint.last_checkpoint().unwrap().is_none());
}

/// A question makes an old header be read, and while that is read another thread appends.
#[test]
fn no_append_waits_until_a_header_is_read() {
    let disk = SimDisk::new(1);
    let options = WalOptions {
        segment_bytes_max: 64 << 10,
        ..WalOptions::default()
    };
    let wal = Wal::open_on(Arc::new(disk.clone()), "/log", &options).unwrap();
    let value = vec![1; 10_000];
    for _ in 0..20 {
        wal.append(Record::put(b"k", &value), Durability::AsOpened)
            .unwrap();
    }
    drop(wal);

    let opened: Arc<OnceLock<Weak<Wal>>> = Arc::default();
    let (sender, appended) = mpsc::channel();
    let of_disk = Arc::clone(&opened);
    let watched = Watched::opening(Arc::new(disk), move |path| {
        let wal = of_disk.get().and_then(Weak::upgrade);
        let Some(wal) = wal.filter(|_| path.ends_with("00000000000000000001.wal")) else {
            return;
        };
        let (begun, done) = mpsc::channel();
        std::thread::spawn(move || {
            let receipt = wal.append(put("a", "b"), Durability::AsOpened);
            let _ = begun.send(receipt.unwrap().seq);
        });
        let _ = sender.send(done.recv_timeout(Duration::from_secs(10)));
    });
    let wal = Arc::new(Wal::open_on(Arc::new(watched), "/log", &options).unwrap());
    opened.set(Arc::downgrade(&wal)).unwrap();
    let first = wal.batch_status(Lsn::FIRST).unwrap();
    assert_eq!(first, BatchStatus::Committed);
    assert_eq!(appended.try_recv().unwrap(), Ok(21));
}

#[test]
fn a_checkpoint_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let wal = open(&path);
    assert_eq!(wal.last_checkpoint().unwrap(), None);
    wal.append(put("a", "1"), Durability::AsOpened).unwrap();
    let receipt = wal.checkpoint(b"snapshot-1").unwrap();
    assert_eq!(receipt.seq, 2);
    wal.append(put("a", "2"), Durability::AsOpened).unwrap();
    let found = wal.last_checkpoint().unwrap().unwrap();
    assert_eq!((found.seq, found.data.as_slice()), (2, &b"snapshot-1"[..]));
    drop(wal);
    let wal = open(&path);
    assert_eq!(wal.last_checkpoint().unwrap().unwrap().seq, 2);
    assert_eq!(wal.stat().unwrap().checkpoint_seq, 2);
    assert_eq!(all(&wal, 0).len(), 2);
    drop(wal);
    compare_with_python(&[path]);
}

/// A log on a simulated disk, with a writer and somebody who follows it.
fn followed() -> (SimDisk, Wal, Wal, Cursor) {
    let disk = SimDisk::new(1);
    let writer = open_on(&disk, OpenHow::CreateIfAbsent);
    writer.append(put("a", "1"), Durability::AsOpened).unwrap();
    let reader = open_on(&disk, OpenHow::ReadOnly);
    let mut cursor = reader.cursor(0).unwrap();
    assert_eq!(next_seqs(&mut cursor), [1]);
    (disk, writer, reader, cursor)
}

fn open_on(disk: &SimDisk, how: OpenHow) -> Wal {
    let options = WalOptions {
        how,
        ..WalOptions::default()
    };
    Wal::open_on(Arc::new(disk.clone()), "/log", &options).unwrap()
}

fn next_seqs(cursor: &mut Cursor) -> Vec<u64> {
    std::iter::from_fn(|| cursor.next().unwrap().map(|entry| entry.seq)).collect()
}

#[test]
fn who_follows_a_log_opens_no_file_to_learn_that_there_is_nothing_new() {
    let (disk, writer, _reader, mut cursor) = followed();
    let opened_at_the_end = |cursor: &mut Cursor| {
        // The first look finds out who writes, the second opens what it needs then.
        assert!(next_seqs(cursor).is_empty());
        assert!(next_seqs(cursor).is_empty());
        disk.reset_counts();
        assert!(next_seqs(cursor).is_empty());
        let counts = disk.counts();
        assert!(counts.of(Call::Lock) > 0, "it did look");
        counts.of(Call::Open)
    };
    assert_eq!(opened_at_the_end(&mut cursor), 0, "beside a writer");
    writer.append(put("b", "2"), Durability::AsOpened).unwrap();
    assert_eq!(next_seqs(&mut cursor), [2]);
    writer.close().unwrap();
    assert_eq!(opened_at_the_end(&mut cursor), 0, "without a writer");
    let writer = open_on(&disk, OpenHow::MustExist);
    writer.append(put("c", "3"), Durability::AsOpened).unwrap();
    assert_eq!(next_seqs(&mut cursor), [3]);
    assert_eq!(opened_at_the_end(&mut cursor), 0, "beside another writer");
}

#[test]
fn who_follows_a_log_goes_on_when_the_files_that_may_be_lost_were_made_anew() {
    let (disk, writer, _reader, mut cursor) = followed();
    writer.close().unwrap();
    assert!(next_seqs(&mut cursor).is_empty());
    disk.remove("/log/LOCK").unwrap();
    disk.remove("/log/tail").unwrap();
    let writer = open_on(&disk, OpenHow::MustExist);
    for seq in 2..5 {
        writer.append(put("b", "2"), Durability::AsOpened).unwrap();
        assert_eq!(next_seqs(&mut cursor), [seq]);
    }
}
