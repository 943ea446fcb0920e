//! Looking at sealed segments in place: a mapped cursor shows what one that reads shows, and what it
//! has shown stays as it is, whatever the writer does with the segment meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::format::checksum::crc32;
use duralog::format::frame::{FrameHeader, HEADER_LEN};
use duralog::{
    Cursor, Durability, EntryKind, Error, ErrorKind, OpenHow, Record, RecoveryPolicy, SyncMode,
    Wal, WalOptions,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

fn options() -> WalOptions {
    WalOptions {
        segment_bytes_max: 64 << 10,
        sync_mode: SyncMode::Manual,
        ..WalOptions::default()
    }
}

fn open_reader(path: &Path) -> Wal {
    let options = WalOptions {
        how: OpenHow::ReadOnly,
        ..options()
    };
    Wal::open(path, &options).unwrap()
}

fn segment(path: &Path, number: u64) -> PathBuf {
    path.join(format!("{number:020}.wal"))
}

/// Fills segment after segment, until the log has `segments` of them.
fn fill(wal: &Wal, segments: u64, value: &[u8]) {
    let records = [Record::put(b"key", value), Record::put(b"", value)];
    while wal.stat().unwrap().segment_count < segments {
        wal.append(records[0], Durability::AsOpened).unwrap();
        wal.append_batch(&records, Durability::AsOpened).unwrap();
    }
}

/// One entry, with its bytes.
type Shown = (EntryKind, bool, u8, u64, u64, Vec<u8>, Vec<u8>);

/// All that a cursor gives, in pages, and the error that it ends with.
fn all(mut cursor: Cursor, count_max: usize) -> (Vec<Shown>, Option<Error>) {
    let mut found = Vec::new();
    loop {
        let page = match cursor.next_page(count_max) {
            Ok(Some(page)) => page,
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
        };
        for i in 0..page.seq.len() {
            let at = |places: &[u32]| places[i] as usize;
            let value_begin = at(page.value_begin);
            let kind = match page.kind[i] {
                1 => EntryKind::Record,
                2 => EntryKind::Commit,
                3 => EntryKind::Checkpoint,
                other => panic!("kind {other}"),
            };
            found.push((
                kind,
                page.committed[i] == 1,
                page.op[i],
                page.seq[i],
                page.batch_id[i],
                page.bytes[at(page.key_begin)..value_begin].to_vec(),
                page.bytes[value_begin..at(page.value_end)].to_vec(),
            ));
        }
    }
}

#[test]
fn a_mapped_cursor_shows_what_one_that_reads_shows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let wal = Wal::open(&path, &options()).unwrap();
    fill(&wal, 3, &[1; 300]);
    wal.checkpoint(b"half-way").unwrap();
    // Longer than what is mapped at a time, in one frame and in several; between them segments that a
    // mapping holds whole.
    let large = vec![2; 9 << 20];
    wal.append(Record::put(b"large", &large), Durability::AsOpened)
        .unwrap();
    fill(&wal, 6, &[3; 100]);
    let batch: Vec<Record<'_>> = (0..3).map(|_| Record::put(b"large", &large)).collect();
    wal.append_batch(&batch, Durability::AsOpened).unwrap();
    fill(&wal, 8, &[4; 5000]);

    for wal in [&wal, &open_reader(&path)] {
        for after in [0, 500] {
            for count_max in [7, 1024] {
                let read = all(wal.cursor(after).unwrap(), count_max);
                let mapped = all(wal.cursor(after).unwrap().mapped(), count_max);
                assert!(read.0.len() > 500 && read.1.is_none());
                assert!(read.0 == mapped.0 && mapped.1.is_none());
                let read = all(wal.raw_cursor(after).unwrap(), count_max);
                let mapped = all(wal.raw_cursor(after).unwrap().mapped(), count_max);
                let checkpoints = read.0.iter().filter(|e| e.0 == EntryKind::Checkpoint);
                assert_eq!(checkpoints.count(), usize::from(after == 0));
                assert!(read.0 == mapped.0 && mapped.1.is_none());
            }
        }
    }
}

#[test]
fn a_segment_that_is_looked_at_is_not_used_again() {
    for mapped in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let wal = Wal::open(&path, &options()).unwrap();
        fill(&wal, 3, b"what was shown");
        let inode = fs::metadata(segment(&path, 1)).unwrap().ino();
        let reader = open_reader(&path);
        let cursor = reader.cursor(0).unwrap();
        let mut cursor = if mapped { cursor.mapped() } else { cursor };
        let page = cursor.next_page(100).unwrap().unwrap();
        let copy = page.bytes.to_vec();

        // All of what the log keeps for use again is used again.
        for _ in 0..3 {
            wal.truncate(wal.stat().unwrap().last_seq).unwrap();
            fill(&wal, 3, b"something else");
        }
        assert_eq!(page.bytes, copy);
        let mut used_again = false;
        for number in 1..20 {
            let found = fs::metadata(segment(&path, number));
            used_again |= number > 1 && found.is_ok_and(|found| found.ino() == inode);
        }
        assert_eq!(used_again, !mapped, "only held by who looks at it in place");

        // It goes on to the end of what it holds, or says that it can't.
        let (found, error) = all(cursor, 100);
        assert_eq!(error.unwrap().kind(), ErrorKind::Truncated);
        for (.., value) in found {
            assert_eq!(value, b"what was shown");
        }
    }
}

#[test]
fn a_segment_that_is_not_looked_at_any_more_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let wal = Wal::open(&path, &options()).unwrap();
    fill(&wal, 3, b"value");
    let inodes: Vec<u64> = (1..3)
        .map(|number| fs::metadata(segment(&path, number)).unwrap().ino())
        .collect();
    // To the last segment, which is read, and the others are given back.
    let mut cursor = wal.cursor(0).unwrap().mapped();
    while cursor.next_page(1000).unwrap().is_some() {}
    wal.truncate(wal.stat().unwrap().last_seq).unwrap();
    fill(&wal, 3, b"value");
    let last = wal.stat().unwrap().last_segment;
    let again = (1..=last).filter_map(|number| fs::metadata(segment(&path, number)).ok());
    let again = again.filter(|found| inodes.contains(&found.ino())).count();
    assert_eq!(again, 2);
    drop(cursor);
}

/// A closed log whose first segment was changed behind its back.
fn log_with(change: impl FnOnce(&mut [u8])) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let wal = Wal::open(&path, &options()).unwrap();
    fill(&wal, 3, b"value");
    wal.close().unwrap();
    let name = segment(&path, 1);
    let mut bytes = fs::read(&name).unwrap();
    change(&mut bytes);
    fs::write(&name, bytes).unwrap();
    (dir, path)
}

#[test]
fn damage_is_found_in_a_mapped_segment_and_salvage_reads() {
    let (_dir, path) = log_with(|bytes| bytes[20_000] ^= 1);
    let wal = open_reader(&path);
    let (read, error) = all(wal.cursor(0).unwrap(), 1024);
    let (mapped, again) = all(wal.cursor(0).unwrap().mapped(), 1024);
    assert!(read == mapped && !read.is_empty());
    let (error, again) = (error.unwrap(), again.unwrap());
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(again.to_string(), error.to_string());

    let options = WalOptions {
        how: OpenHow::ReadOnly,
        recovery_policy: RecoveryPolicy::Salvage,
        ..options()
    };
    let wal = Wal::open(&path, &options).unwrap();
    let mut cursor = wal.cursor(0).unwrap().mapped();
    let mut gaps = 0;
    while let Some(entry) = cursor.next().unwrap() {
        gaps += u32::from(entry.kind == EntryKind::Gap);
    }
    assert_eq!(gaps, 1);
}

/// Makes the first record of the `nth` frame a byte shorter than it was, and all checksums right again.
fn shorten_record(bytes: &mut [u8], nth: usize) {
    let is_frame = |at: &usize| FrameHeader::decode(&bytes[*at..]).is_some();
    let mut at = (0..).step_by(8).find(is_frame).unwrap();
    let mut before = None;
    for number in 0.. {
        let Some((mut header, _)) = FrameHeader::decode(&bytes[at..]) else {
            break;
        };
        let payload = &mut bytes[at + HEADER_LEN..][..header.payload_len as usize];
        if number == nth {
            payload[8] -= 1;
        }
        header.payload_crc = crc32(payload);
        header.link = before.unwrap_or(header.link);
        let encoded = header.encode();
        before = encoded.first_chunk().copied().map(u32::from_le_bytes);
        bytes[at..at + HEADER_LEN].copy_from_slice(&encoded);
        at += usize::try_from(header.frame_len()).unwrap();
    }
}

#[test]
fn records_that_do_not_fill_their_frame_are_refused() {
    // Frames of one record and of two take turns.
    for nth in [10, 11] {
        let (_dir, path) = log_with(|bytes| shorten_record(bytes, nth));
        let wal = open_reader(&path);
        let read = all(wal.cursor(0).unwrap(), 1024);
        let mapped = all(wal.cursor(0).unwrap().mapped(), 1024);
        for (found, error) in [read, mapped] {
            assert_eq!(found.len(), nth + nth / 2);
            let error = error.unwrap();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains("do not fill"), "{error}");
        }
    }
}
