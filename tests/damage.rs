//! Damage everywhere: what a reader, an opener and the pure-Python reader make of it.
//!
//! Small logs of every shape (`damage/logs.rs`) are damaged at every place (`damage/changes.rs`): each
//! bit flipped, each length cut, zeros or garbage from each byte on, whole files gone, and random
//! mixtures. For each variant
//! an oracle (`common/log_files.rs`) says from the list of what was put in, and from which bytes
//! changed, what must come out: which batches, which row of the decision table, which place. Then
//!
//! 1. a cursor must deliver exactly those batches, one by one and in pages, and end or fail there;
//! 2. `Wal::verify` must give every field of the verdict;
//! 3. a raw cursor must also show what was not committed, marked as such;
//! 4. opening for writing must be refused without a byte changed if acknowledged data is damaged,
//!    and otherwise come to the same records, go on with the next number, and find the same when
//!    opened again. If it begins with the last frame, as in a long segment that was closed, damage
//!    before that is found where it is read instead.
//!
//! So "damage below the evidence is refused, a torn tail is cut" is asserted for every bit, and no
//! variant panics; for a few it is spelled out (`damage/by_hand.rs`). A seeded sample is exported and read
//! by Python too, together with variants whose checksums were made right again, where no oracle knows the
//! answer but both readers must give the same (`damage/forged.rs`). `DURALOG_DAMAGE_SEED` and `DURALOG_DAMAGE_SAMPLE` (variants per log) change the sample.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "damage/by_hand.rs"]
mod by_hand;
#[path = "damage/changes.rs"]
mod changes;
#[path = "common/differential.rs"]
mod differential;
#[path = "damage/forged.rs"]
mod forged;
#[path = "common/log_files.rs"]
mod log_files;
#[path = "damage/logs.rs"]
mod logs;

use changes::{below, every_damage};
use differential::{compare_with_python, scratch};
use duralog::format::checksum::crc32;
use duralog::format::control::Control;
use duralog::format::frame::{seq_after, FrameHeader, HEADER_LEN};
use duralog::format::segment_header::SegmentHeader;
use duralog::vfs::sim::{errno, Image, Rng, Rot, SimDisk};
use duralog::wal::ControlState;
use duralog::{
    Cursor, Durability, EntryKind, Error, ErrorKind, OpenHow, Record, RecoveryPolicy,
    RecoveryReport, Wal, WalOptions,
};
use log_files::{
    boot_id, segment_name, write_files, Expected, Files, KnownLog, KnownRecord, KnownSegment,
    RawEntry,
};
use logs::{as_written, every_shape, segments, singles, tail_page, without_control};
use std::collections::BTreeMap;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOG: &str = "/log";

// ---- The check ---------------------------------------------------------------------------------

fn image_of(files: &Files) -> Image {
    let mut image = Image::new();
    image.set_boot_id(boot_id());
    image.create_dir(LOG).unwrap();
    for (name, bytes) in files {
        image.write(Path::new(LOG).join(name), bytes).unwrap();
    }
    image
}

/// Opens as a log with a long last segment is opened: at its last frame, if it was closed.
fn from_close(how: OpenHow) -> WalOptions {
    WalOptions {
        how,
        walk_len_max: 0,
        ..WalOptions::default()
    }
}

fn read_only() -> WalOptions {
    WalOptions {
        how: OpenHow::ReadOnly,
        ..WalOptions::default()
    }
}

fn open(disk: &SimDisk, options: &WalOptions) -> Result<Wal, Error> {
    Wal::open_on(Arc::new(disk.clone()), LOG, options)
}

fn verify(disk: &SimDisk) -> Result<RecoveryReport, Error> {
    Wal::verify_on(disk, LOG, &mut |_, _| true)
}

/// All that a committed cursor delivers, and the error that it ends with.
fn records(mut cursor: Cursor) -> (Vec<KnownRecord>, Option<Error>) {
    let mut found = Vec::new();
    loop {
        match cursor.next() {
            Ok(Some(entry)) => {
                assert_eq!((entry.kind, entry.committed), (EntryKind::Record, true));
                found.push(KnownRecord {
                    seq: entry.seq,
                    op: entry.op,
                    key: entry.key.to_vec(),
                    value: entry.value.to_vec(),
                    batch_id: entry.batch_id.0,
                    time_ns: entry.time_ns,
                });
            }
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
        }
    }
}

/// The same in pages.
fn records_in_pages(mut cursor: Cursor) -> (Vec<KnownRecord>, Option<Error>) {
    let mut found = Vec::new();
    loop {
        let page = match cursor.next_page(100) {
            Ok(Some(page)) => page,
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
        };
        for i in 0..page.seq.len() {
            let places = [page.key_begin, page.value_begin, page.value_end];
            let [key_begin, value_begin, value_end] = places.map(|places| places[i] as usize);
            assert_eq!((page.kind[i], page.committed[i]), (1, 1));
            found.push(KnownRecord {
                seq: page.seq[i],
                op: page.op[i],
                key: page.bytes[key_begin..value_begin].to_vec(),
                value: page.bytes[value_begin..value_end].to_vec(),
                batch_id: page.batch_id[i],
                time_ns: page.time_ns[i],
            });
        }
    }
}

/// The same for a raw cursor.
fn raw_entries(mut cursor: Cursor) -> (Vec<RawEntry>, Option<Error>) {
    let mut found = Vec::new();
    loop {
        let entry = match cursor.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
        };
        let (committed, seq) = (entry.committed, entry.seq);
        found.push(match entry.kind {
            EntryKind::Record => RawEntry::Record {
                committed,
                record: KnownRecord {
                    seq,
                    op: entry.op,
                    key: entry.key.to_vec(),
                    value: entry.value.to_vec(),
                    batch_id: entry.batch_id.0,
                    time_ns: entry.time_ns,
                },
            },
            EntryKind::Commit => RawEntry::Commit { committed, seq },
            EntryKind::Checkpoint => RawEntry::Checkpoint {
                seq,
                data: entry.value.to_vec(),
            },
            EntryKind::Abort => RawEntry::Abort,
            EntryKind::Torn => RawEntry::Torn {
                lsn: entry.batch_id.0,
            },
            other => panic!("{other:?} in a log that is not salvaged"),
        });
    }
}

/// How often each row was the answer.
type Tally = BTreeMap<&'static str, u64>;

/// Checks one variant against what the oracle says; `whole` if it is opened for writing too.
fn check(expected: &Expected, files: &Files, whole: bool) {
    let disk = SimDisk::from_image(&image_of(files), 1);
    if expected.verdict == "NOT_A_LOG" {
        if files.keys().all(|name| name == "tail") {
            // Nothing is left: room for a new log.
            assert_eq!(
                open(&disk, &read_only()).unwrap_err().kind(),
                ErrorKind::NotFound
            );
            return;
        }
        for options in [read_only(), WalOptions::default()] {
            let kind = open(&disk, &options).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::NotALog);
        }
        let kind = verify(&disk).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::NotALog);
        assert_unchanged(&disk, files);
        return;
    }
    check_verdict(expected, &disk);
    check_reading(expected, &disk, files);
    assert_eq!(disk.operation_count(), 0, "reading never writes");
    if whole {
        check_opening(expected, &disk, files);
        check_repair(expected, files);
    }
}

fn check_verdict(expected: &Expected, disk: &SimDisk) {
    let report = verify(disk).unwrap();
    let control = format!("{:?}", report.control);
    let control = match control.as_str() {
        "Good" => "good",
        "OneSlot" => "one_slot",
        _ => "lost",
    };
    let found = Expected {
        verdict: expected.verdict,
        row: report.row,
        segment: report.segment,
        offset: report.offset,
        lsn: report.lsn.0,
        end_lsn: report.end_lsn.0,
        next_seq: report.next_seq,
        evidence_lsn: report.evidence_lsn.0,
        control,
        first_segment: report.first_segment,
        last_segment: report.last_segment,
        truncated_seq: report.truncated_seq,
        ..expected.clone()
    };
    assert_eq!(&found, expected, "{}", report.reason);
    assert_eq!(report.verdict.to_string(), expected.verdict);
}

/// The error must say where: segment, offset and LSN, in its fields and in its text.
fn assert_place(error: &Option<Error>, expected: &Expected) {
    let Some(error) = error else {
        assert_ne!(expected.verdict, "CORRUPT", "no error");
        return;
    };
    assert!(error.is_corrupt(), "{error}");
    let place = error.place();
    assert_eq!(
        (place.segment, place.offset, place.lsn.0, expected.verdict),
        (expected.segment, expected.offset, expected.lsn, "CORRUPT"),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains(&format!("row {}", expected.row)), "{text}");
    assert!(text.contains(&segment_name(expected.segment)), "{text}");
}

/// Where the log goes on, if opening begins with its last frame, though the last segment is damaged
/// before: it was closed, and the last frame bears out what `control` says of it (FORMAT.md section 12.4).
fn closed_behind(expected: &Expected, files: &Files) -> Option<Control> {
    if matches!(expected.last_row, "Z" | "T" | "M") {
        return None;
    }
    let slots = files.get("control")?.chunks(4096);
    let control = slots
        .filter_map(|slot| Control::decode(slot).ok())
        .max_by_key(|control| control.generation)
        .filter(|control| control.closed)?;
    let bytes = files.get(&segment_name(control.last_segment))?;
    let segment = SegmentHeader::decode(bytes).ok()?;
    let at = usize::try_from(segment.offset_of(control.last_frame_lsn)?).unwrap();
    let (head, crc) = FrameHeader::decode(bytes.get(at..)?)?;
    let payload = bytes
        .get(at + HEADER_LEN..)?
        .get(..head.payload_len as usize)?;
    let holds = crc == control.end_link
        && (head.salt, head.lsn) == (segment.salt, control.last_frame_lsn)
        && crc32(payload) == head.payload_crc
        && head.lsn.0 + head.frame_len() == control.end_lsn.0
        && seq_after(&head) == Some(control.next_seq);
    holds.then_some(control)
}

fn check_reading(expected: &Expected, disk: &SimDisk, files: &Files) {
    let wal = open(disk, &read_only()).unwrap();
    assert_eq!(wal.recovery_report().row, expected.last_row);
    check_delivery(expected, &wal);
    let wal = open(disk, &from_close(OpenHow::ReadOnly)).unwrap();
    let row = wal.recovery_report().row;
    if closed_behind(expected, files).is_some() {
        // Found on reading, below.
        assert!(matches!(row, "Z" | "T"), "row {row}");
    } else {
        assert_eq!(row, expected.last_row);
    }
    check_delivery(expected, &wal);
}

fn check_delivery(expected: &Expected, wal: &Wal) {
    let (found, error) = records(wal.cursor(0).unwrap());
    assert_eq!(found, expected.records, "replay: {error:?}");
    assert_place(&error, expected);
    let (found, error) = records_in_pages(wal.cursor(0).unwrap());
    assert_eq!(found, expected.records, "replay in pages: {error:?}");
    assert_place(&error, expected);
    let (found, error) = raw_entries(wal.raw_cursor(0).unwrap());
    assert_eq!(found, expected.raw, "raw: {error:?}");
    assert_place(&error, expected);
}

fn assert_unchanged(disk: &SimDisk, files: &Files) {
    for path in disk.paths() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name != "LOCK" {
            assert_eq!(disk.read_file(&path).as_ref(), files.get(name), "{name}");
        }
    }
}

fn check_opening(expected: &Expected, disk: &SimDisk, files: &Files) {
    let closed = closed_behind(expected, files);
    if !matches!(expected.last_row, "Z" | "T") {
        let strict = WalOptions {
            recovery_policy: RecoveryPolicy::Strict,
            ..from_close(OpenHow::CreateIfAbsent)
        };
        let mut refused = vec![WalOptions::default(), strict];
        if closed.is_none() {
            refused.push(from_close(OpenHow::CreateIfAbsent));
        }
        for options in refused {
            let error = open(disk, &options).unwrap_err();
            if expected.row == expected.last_row {
                assert_place(&Some(error), expected);
            } else {
                assert!(error.is_corrupt(), "{error}");
            }
            assert_unchanged(disk, files);
        }
        if closed.is_none() {
            return;
        }
    }
    let wal = open(disk, &from_close(OpenHow::CreateIfAbsent)).unwrap();
    let report = wal.recovery_report();
    match &closed {
        Some(control) => assert_eq!(report.end_lsn, control.end_lsn),
        None => assert_eq!(report.row, expected.last_row),
    }
    // Where something stood behind the end, a new segment declares it now.
    let row = match expected.row {
        "E" if closed.is_some() && report.repaired => "S1",
        row => row,
    };
    let expected = &Expected {
        row,
        ..expected.clone()
    };
    for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".wal")) {
        match disk.read_file(Path::new(LOG).join(name)) {
            // Behind a clean close the same file is written on, from its end; all else only grows
            // by new files.
            Some(found) if !report.repaired => {
                let behind = usize::try_from(expected.offset).unwrap();
                let kept = if segment_name(expected.segment) == *name {
                    behind
                } else {
                    bytes.len()
                };
                assert_eq!(found[..kept], bytes[..kept], "{name}");
            }
            Some(found) => assert_eq!(found, *bytes, "{name}"),
            None => assert!(*name < segment_name(expected.first_segment), "{name}"),
        }
    }
    let (found, error) = records(wal.cursor(0).unwrap());
    assert_eq!(found, expected.records, "after recovery: {error:?}");
    assert_place(&error, expected);
    let receipt = wal.append(Record::put(b"new", b"record"), Durability::AsOpened);
    let next_seq = closed.map_or(expected.last_next_seq, |control| control.next_seq);
    assert_eq!(receipt.unwrap().seq, next_seq);
    drop(wal);

    // Damage further back stays where it was and is told in the same words.
    let report = verify(disk).unwrap();
    if expected.verdict == "CORRUPT" {
        let place = (report.row, report.segment, report.offset, report.lsn.0);
        let wanted = (
            expected.row,
            expected.segment,
            expected.offset,
            expected.lsn,
        );
        assert_eq!(place, wanted, "{}", report.reason);
    } else {
        assert_eq!(report.row, "Z", "{}", report.reason);
    }
    let wal = open(disk, &from_close(OpenHow::CreateIfAbsent)).unwrap();
    assert_eq!(wal.recovery_report().row, "Z");
    let (mut found, error) = records(wal.cursor(0).unwrap());
    if expected.verdict != "CORRUPT" {
        let new = found.pop().unwrap();
        assert_eq!(
            (new.seq, new.key.as_slice()),
            (expected.last_next_seq, &b"new"[..])
        );
    }
    assert_eq!(found, expected.records, "opened again: {error:?}");
    assert_place(&error, expected);
    // What was not committed is still there to be seen, where recovery left its file.
    let mut shown: Vec<RawEntry> = raw_entries(wal.raw_cursor(0).unwrap())
        .0
        .into_iter()
        .filter(not_committed)
        .collect();
    let mut wanted: Vec<RawEntry> = expected
        .raw
        .iter()
        .filter(|e| not_committed(e))
        .cloned()
        .collect();
    for entries in [&mut shown, &mut wanted] {
        entries.sort();
        entries.dedup();
    }
    assert_eq!(shown, wanted, "what was not committed, after recovery");
}

fn not_committed(entry: &RawEntry) -> bool {
    matches!(
        entry,
        RawEntry::Record {
            committed: false,
            ..
        }
    )
}

/// Repair of what is refused keeps what reading delivers before the damage.
fn check_repair(expected: &Expected, files: &Files) {
    let nothing_before = expected.segment <= expected.first_segment && expected.row == "M";
    if expected.verdict != "CORRUPT" || nothing_before {
        return;
    }
    let disk = SimDisk::from_image(&image_of(files), 1);
    Wal::repair_on(&disk, LOG, &mut |_, _| true).unwrap();
    let report = verify(&disk).unwrap();
    assert_eq!(report.row, "Z", "{}", report.reason);
    let wal = open(&disk, &WalOptions::default()).unwrap();
    let (found, error) = records(wal.cursor(0).unwrap());
    assert!(error.is_none(), "after repair: {error:?}");
    assert_eq!(found, expected.records, "after repair");
}

/// Runs `check` and names the variant if it fails.
fn named<T>(log: &KnownLog, what: &dyn std::fmt::Debug, check: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(value) => value,
        Err(panic) => {
            eprintln!("{}: {what:?}", log.name);
            resume_unwind(panic)
        }
    }
}

/// Of the variants that must come out alike (say, the bits of one frame), so many are opened for
/// writing, and then one in so many.
const OPENED_FIRST: u64 = 6;
const OPENED_LATER: u64 = 9;

/// Damages `log` everywhere; returns how often each row came out.
fn damage_everywhere(log: &KnownLog) -> Tally {
    let every_one = std::env::var_os("DURALOG_DAMAGE_FULL").is_some();
    let original = log.files();
    let (mut tally, mut opened) = (Tally::new(), 0);
    let mut alike: BTreeMap<Vec<u64>, u64> = BTreeMap::new();
    for damage in every_damage(&original, &mut Rng::new(7)) {
        let mut files = original.clone();
        damage.apply(&mut files);
        let expected = log.expect_from(&original, &files);
        let row = if expected.row.is_empty() {
            "no log"
        } else {
            expected.row
        };
        *tally.entry(row).or_default() += 1;
        let key = vec![
            expected.segment,
            expected.lsn,
            expected.end_lsn,
            expected.evidence_lsn,
            expected.truncated_seq,
            expected.first_segment,
            u64::from(expected.control.as_bytes()[0]),
            u64::from(row.as_bytes()[0]),
        ];
        let seen = alike.entry(key).or_default();
        let whole = every_one || *seen < OPENED_FIRST || *seen % OPENED_LATER == 0;
        *seen += 1;
        opened += u64::from(whole);
        named(log, &damage, || check(&expected, &files, whole));
    }
    let count: u64 = tally.values().sum();
    println!(
        "{}: {count} variants, {opened} opened for writing, rows {tally:?}",
        log.name
    );
    tally
}

#[test]
fn damage_anywhere_gives_a_prefix_of_whole_batches_or_names_its_place() {
    let logs = every_shape();
    let halves = logs.split_at(logs.len() / 2);
    let mut tally = Tally::new();
    std::thread::scope(|scope| {
        let workers = [halves.0, halves.1]
            .map(|logs| scope.spawn(|| logs.iter().map(damage_everywhere).collect::<Vec<_>>()));
        for worker in workers {
            for (row, count) in worker.join().unwrap().into_iter().flatten() {
                *tally.entry(row).or_default() += count;
            }
        }
    });
    let count: u64 = tally.values().sum();
    println!("all: {count} variants, rows {tally:?}");
    for row in ["M", "S1", "E", "Z", "T", "no log"] {
        assert!(tally[row] > 100, "row {row} was hardly tried: {tally:?}");
    }
}

#[test]
fn every_flipped_bit_of_a_log_as_it_is_written_is_found_or_means_nothing() {
    let tally = damage_everywhere(&as_written());
    assert!(tally["E"] > 100 && tally["T"] > 100 && tally["Z"] > 100);
}
