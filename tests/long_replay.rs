//! Long replays, of which a thread of the library reads the next pieces ahead: what is delivered is what
//! was written, whatever the sizes of the frames, for several cursors at a time, beside a writer that
//! goes on, and from places in the middle.
//!
//! A record says its number and is filled with bytes that follow from it, so that each can be judged
//! by itself. Failed reads, and who reads which piece, are the business of the unit tests of
//! `read_ahead.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;
#[path = "common/process.rs"]
mod process;

use duralog::{Cursor, Durability, ErrorKind, Record, SyncMode, Wal, WalOptions};
use process::{read_only, say, seed, Random};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sizes of the values of a batch, and how many records it has.
type Shape = fn(&mut Random) -> (usize, usize);

/// Frames of all sizes that matter: those that fit in front of a piece and those that do not, those as
/// long as a piece, and longer ones.
const SHAPES: [(&str, Shape); 6] = [
    ("single records", |_| (256, 1)),
    ("hundreds", |_| (256, 100)),
    (
        "single records, now and then many",
        |random| match at_most(random, 500) {
            0 => (1000, 60 + at_most(random, 300)),
            _ => (256, 1),
        },
    ),
    ("of 60 to 70 KiB", |random| (1000, 60 + at_most(random, 10))),
    ("of 250 to 270 KiB", |random| {
        (1000, 250 + at_most(random, 20))
    }),
    ("anything", |random| {
        let len = 1 << at_most(random, 12);
        (len, 1 + at_most(random, (400 << 10) / (len + 40)))
    }),
];

/// Bytes of each log.
const LOG_LEN: u64 = 12 << 20;

fn at_most(random: &mut Random, most: usize) -> usize {
    usize::try_from(random.below(most as u64 + 1)).unwrap()
}

fn options() -> WalOptions {
    WalOptions {
        sync_mode: SyncMode::Manual,
        segment_bytes_max: 5 << 20,
        ..WalOptions::default()
    }
}

/// The value of record `seq`.
fn value(seq: u64, len: usize) -> Vec<u8> {
    let mut value = seq.to_le_bytes().to_vec();
    let fill = process::mix(seq).to_le_bytes();
    value.extend(fill.iter().cycle().take(len));
    value
}

/// Appends until the log has grown by `len` bytes, and gives the number of the last record.
fn grow(wal: &Wal, shape: Shape, random: &mut Random, len: u64) -> u64 {
    let begin = wal.stat().unwrap().written_lsn.0;
    let mut next = wal.stat().unwrap().last_seq + 1;
    let mut last = 0;
    while wal.stat().unwrap().written_lsn.0 < begin + len {
        let (len, count) = shape(random);
        let values: Vec<Vec<u8>> = (next..).take(count).map(|seq| value(seq, len)).collect();
        let records: Vec<Record<'_>> = values.iter().map(|v| Record::put(b"key", v)).collect();
        let receipt = wal.append_batch(&records, Durability::AsOpened).unwrap();
        // A COMMIT has a number of its own.
        last = receipt.first_seq + count as u64 - 1;
        next = receipt.seq + 1;
    }
    last
}

/// Whether the thread was seen by any reader.
static READ_AHEAD: AtomicBool = AtomicBool::new(false);

/// Reads on to the end for now, and gives the number of the last record.
fn follow(cursor: &mut Cursor, mut last: u64) -> u64 {
    while let Some(page) = cursor.next_page(1000).unwrap() {
        if !READ_AHEAD.load(Ordering::SeqCst) {
            READ_AHEAD.store(is_read_ahead(), Ordering::SeqCst);
        }
        let ends = page.value_begin.iter().zip(page.value_end);
        for (&seq, (&begin, &end)) in page.seq.iter().zip(ends) {
            assert!(seq > last, "{seq} comes after {last}");
            let found = &page.bytes[begin as usize..end as usize];
            assert!(
                found == value(seq, found.len() - 8),
                "record {seq} is not what was written"
            );
            last = seq;
        }
    }
    last
}

/// Whether the library's thread for reading is there.
fn is_read_ahead() -> bool {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return true;
    };
    let names = threads.flatten().map(|entry| entry.path().join("comm"));
    names
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .any(|name| name.trim() == "duralog-read")
}

fn check(path: &Path, what: &str, shape: Shape, random: &mut Random) {
    let wal = Wal::open(path, &options()).unwrap();
    grow(&wal, shape, random, LOG_LEN);
    let grown = AtomicBool::new(false);
    let mut from = vec![0];
    from.extend((0..3).map(|_| random.below(wal.stat().unwrap().last_seq)));
    let (last, rounds) = std::thread::scope(|scope| {
        let readers: Vec<_> = from
            .iter()
            .map(|&after| {
                let (wal, grown) = (&wal, &grown);
                scope.spawn(move || {
                    let mut rounds = 0;
                    while !grown.load(Ordering::SeqCst) || rounds < 2 {
                        let mut cursor = wal.cursor(after).unwrap();
                        let last = follow(&mut cursor, after);
                        // What was appended meanwhile comes with the next calls.
                        follow(&mut cursor, last);
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        let last = grow(&wal, shape, random, LOG_LEN / 2);
        grown.store(true, Ordering::SeqCst);
        let rounds = readers.into_iter().map(|reader| reader.join().unwrap());
        (last, rounds.sum::<u64>())
    });
    wal.close().unwrap();
    let reader = Wal::open(path, &read_only()).unwrap();
    let mut cursor = reader.cursor(0).unwrap();
    assert_eq!(follow(&mut cursor, 0), last);
    say(&format!(
        "long_replay: {what}: records up to {last}, {rounds} replays beside a writer"
    ));
}

#[test]
fn what_is_read_ahead_is_what_was_written() {
    let seed = seed();
    say(&format!("long_replay: seed {seed}"));
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir().unwrap();
    for (what, shape) in SHAPES {
        let path = directory.path().join(what.replace(' ', "-"));
        check(&path, what, shape, &mut random);
        std::fs::remove_dir_all(path).unwrap();
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let read_ahead = READ_AHEAD.load(Ordering::SeqCst);
    assert!(read_ahead || processors == 1, "nothing was read ahead");
}

/// In batches of one and of a few records, whose checksums the thread computes, and of many.
#[test]
fn damage_in_what_is_read_ahead_is_found_where_it_is() {
    let seed = seed();
    say(&format!("long_replay: damage, seed {seed}"));
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir().unwrap();
    for (what, shape) in SHAPES {
        let path = directory.path().join(what.replace(' ', "-"));
        let wal = Wal::open(&path, &options()).unwrap();
        // More than a segment: the first one is sealed.
        let last = grow(&wal, shape, &mut random, 7 << 20);
        wal.close().unwrap();
        let segment = path.join("00000000000000000001.wal");
        let bytes = std::fs::read(&segment).unwrap();
        for _ in 0..12 {
            // Behind where reading ahead begins, in headers, payloads and padding.
            let at = (1 << 20) + random.below(3 << 20);
            let mut damaged = bytes.clone();
            damaged[usize::try_from(at).unwrap()] ^= 1 << random.below(8);
            std::fs::write(&segment, &damaged).unwrap();
            let reader = Wal::open(&path, &read_only()).unwrap();
            let mut cursor = reader.cursor(0).unwrap();
            let (delivered, error) = read_to_error(&mut cursor);
            let Some(error) = error else {
                // It was padding, which nobody relies on.
                assert_eq!(delivered, last, "{what}: flipped at {at}");
                continue;
            };
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
            let place = error.place();
            assert_eq!(place.segment, 1, "{what}: flipped at {at}: {error}");
            let before = place.offset <= at;
            let frame_len = (1 << 20) + (1 << 16);
            assert!(
                before && at - place.offset < frame_len,
                "{what}: flipped at {at}: {error}"
            );
        }
        std::fs::remove_dir_all(path).unwrap();
    }
}

/// The last number before an error, and the error.
fn read_to_error(cursor: &mut Cursor) -> (u64, Option<duralog::Error>) {
    let mut last = 0;
    loop {
        match cursor.next_page(1000) {
            Ok(None) => return (last, None),
            Err(error) => return (last, Some(error)),
            Ok(Some(page)) => {
                let ends = page.value_begin.iter().zip(page.value_end);
                for (&seq, (&begin, &end)) in page.seq.iter().zip(ends) {
                    let found = &page.bytes[begin as usize..end as usize];
                    assert!(seq > last && found == value(seq, found.len() - 8), "{seq}");
                    last = seq;
                }
            }
        }
    }
}
