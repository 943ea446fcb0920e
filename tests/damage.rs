//! Damage everywhere: what a reader, an opener and the pure-Python reader make of it.
//!
//! Small logs of every shape (`logs`) are damaged at every place: each bit flipped, each length
//! cut, zeros or garbage from each byte on, whole files gone, and random mixtures. For each variant
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
//! variant panics. A seeded sample is exported and read by Python too, together with variants whose
//! checksums were made right again, where no oracle knows the answer but both readers must give the
//! same. `DURALOG_DAMAGE_SEED` and `DURALOG_DAMAGE_SAMPLE` (variants per log) change the sample.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/differential.rs"]
mod differential;
#[path = "common/log_files.rs"]
mod log_files;

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
    boot_id, segment_name, write_files, Builder, Expected, Files, KnownLog, KnownRecord,
    KnownSegment, RawEntry,
};
use std::collections::BTreeMap;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOG: &str = "/log";

/// Header sizes: the least that is read, so that nearly every byte matters, and the one written.
const SMALL: u32 = 128;
const WRITTEN: u32 = 4096;

// ---- The logs ----------------------------------------------------------------------------------

/// Single records, each durable before the next, as in the default mode.
fn singles() -> KnownLog {
    let mut log = Builder::new("singles", SMALL);
    for (key, value) in [("a", "1"), ("", "empty key"), ("c", ""), ("dddd", "4444")] {
        log.single(key, value);
    }
    log.zeros();
    log.finish()
}

/// Batches of one frame, with every kind of operation; promises lag, as in the mode `interval`.
fn batches() -> KnownLog {
    let mut log = Builder::new("batches", SMALL);
    log.sync_each = false;
    log.batch(&[&[(1, "a", "1"), (2, "b", "")]]);
    log.single("c", "3");
    log.sync();
    log.batch(&[&[(200, "", "app"), (17, "event", "x"), (1, "", "")]]);
    log.batch(&[&[(1, "last", "batch")]]);
    log.zeros();
    log.finish()
}

/// Batches of several frames among single records.
fn multi_frame_batches() -> KnownLog {
    let mut log = Builder::new("multi_frame_batches", SMALL);
    log.single("before", "0");
    log.batch(&[
        &[(1, "a", "1"), (1, "b", "2")],
        &[(2, "c", "")],
        &[(1, "d", "4")],
    ]);
    log.batch(&[&[(1, "e", "5")], &[(1, "f", "6")]]);
    log.single("after", "7");
    log.zeros();
    log.finish()
}

/// CHECKPOINTs, MARKs, an ABORTed batch and a frame of a type that readers skip.
fn marks() -> KnownLog {
    let mut log = Builder::new("marks", SMALL);
    log.single("a", "1");
    log.checkpoint(b"state");
    log.uncommitted(&[&[(1, "given", "up")], &[(1, "both", "frames")]]);
    log.abort();
    log.mark();
    log.other(130, b"skipped");
    log.batch(&[&[(1, "b", "2")]]);
    log.checkpoint(b"");
    log.other(3, b"mark with bytes");
    log.zeros();
    log.finish()
}

/// Several segments by regular rotation; control as the last rotation left it.
fn segments() -> KnownLog {
    let mut log = Builder::new("segments", SMALL);
    log.single("a", "1");
    log.batch(&[&[(1, "b", "2")], &[(1, "c", "3")]]);
    log.rotate();
    log.control(3, false);
    log.batch(&[&[(1, "d", "4"), (1, "e", "5")]]);
    log.checkpoint(b"cp");
    log.rotate();
    log.control(4, false);
    log.single("f", "6");
    log.batch(&[&[(1, "g", "7")]]);
    log.zeros();
    log.finish()
}

/// A crash in the middle of a batch, the rescue of what was not covered, and a new generation.
fn recovered() -> KnownLog {
    let mut log = Builder::new("recovered", SMALL);
    log.sync_each = false;
    log.single("a", "1");
    log.sync();
    log.single("b", "2");
    log.uncommitted(&[&[(1, "given up", "2")]]);
    log.abort();
    log.batch(&[&[(1, "c", "3")], &[(1, "d", "4")]]);
    log.uncommitted(&[&[(1, "lost", "5")], &[(1, "lost too", "6")]]);
    log.raw(b"torn bytes of a third frame");
    log.rescue(1);
    log.control(3, false);
    log.control(4, false);
    log.sync_each = true;
    log.single("e", "7");
    log.batch(&[&[(1, "f", "8")]]);
    log.zeros();
    log.finish()
}

/// A new generation behind a gap without a rescue: all that was committed was covered.
fn gap() -> KnownLog {
    let mut log = Builder::new("gap", SMALL);
    log.batch(&[&[(1, "a", "1")]]);
    log.mark();
    log.uncommitted(&[&[(1, "lost", "2")]]);
    log.restart();
    log.control(3, false);
    log.mark();
    log.single("b", "3");
    log.zeros();
    log.finish()
}

/// Closed: control says where the log ends and that nothing was given out behind it.
fn closed() -> KnownLog {
    let mut log = Builder::new("closed", SMALL);
    log.single("a", "1");
    log.batch(&[&[(1, "b", "2")], &[(2, "c", "")]]);
    log.mark();
    log.control(3, true);
    log.zeros();
    log.finish()
}

/// Truncated inside the second segment, with the first not deleted yet.
fn truncated() -> KnownLog {
    let mut log = Builder::new("truncated", SMALL);
    log.single("a", "1");
    log.single("b", "2");
    log.rotate();
    log.batch(&[&[(1, "c", "3"), (1, "d", "4")]]);
    log.single("e", "6");
    log.zeros();
    log.control(3, false);
    log.control(4, false);
    let mut known = log.finish();
    // One slot has the newer truncation, as after a crash between the two.
    for (slot, truncated_seq) in [(0, 5), (1, 3)] {
        let control = known.control[slot].as_mut().unwrap();
        control.first_segment = 2;
        control.truncated_seq = truncated_seq;
    }
    known
}

/// A crash in the middle of a batch: no COMMIT on disk.
fn without_commit() -> KnownLog {
    let mut log = Builder::new("without_commit", SMALL);
    log.single("a", "1");
    log.single("b", "2");
    log.uncommitted(&[&[(1, "x", "never")], &[(1, "y", "never")]]);
    log.zeros();
    log.finish()
}

/// The tail page of this boot promises more than the files do.
fn tail_page() -> KnownLog {
    let mut log = Builder::new("tail_page", SMALL);
    log.single("a", "1");
    log.batch(&[&[(1, "b", "2")], &[(1, "c", "3")]]);
    let before = log.lsn();
    log.single("d", "4");
    let end = log.lsn();
    log.zeros();
    let mut known = log.finish();
    known.tail = Some([before, end]);
    known
}

/// A crash between SEAL and the next segment, with old bytes behind the SEAL.
fn sealed() -> KnownLog {
    let mut log = Builder::new("sealed", SMALL);
    log.single("a", "1");
    log.batch(&[&[(1, "b", "2")]]);
    log.seal();
    log.raw(b"whatever the file held before");
    log.finish()
}

/// A file that was used before: frames of another generation stand behind the end.
fn used_before() -> KnownLog {
    let mut log = Builder::new("used_before", SMALL);
    log.single("a", "1");
    log.batch(&[&[(1, "b", "2")]]);
    log.foreign();
    log.raw(&[0xA5; 40]);
    log.finish()
}

/// Control was lost, and nothing was written behind the last frame.
fn without_control() -> KnownLog {
    let mut log = Builder::new("without_control", SMALL);
    log.single("a", "1");
    log.rotate();
    log.batch(&[&[(1, "b", "2"), (1, "c", "3")]]);
    let mut known = log.finish();
    known.control = [None, None];
    known
}

/// A torn group: its beginning never arrived, a frame of its end did.
fn torn_group() -> KnownLog {
    let mut log = Builder::new("torn_group", SMALL);
    log.single("a", "1");
    log.batch(&[&[(1, "b", "2")]]);
    log.stray(72);
    log.zeros();
    log.finish()
}

/// One segment alone, without control: where a damaged magic makes it no log at all.
fn alone() -> KnownLog {
    let mut log = Builder::new("alone", SMALL);
    log.single("a", "1");
    log.zeros();
    let mut known = log.finish();
    known.control = [None, None];
    known
}

/// As the library writes them, with headers of 4096 bytes.
fn as_written() -> KnownLog {
    let mut log = Builder::new("as_written", WRITTEN);
    log.single("key", "value");
    log.batch(&[&[(1, "a", "1"), (2, "b", "")]]);
    log.batch(&[&[(1, "c", "3")], &[(1, "d", "4")]]);
    log.checkpoint(b"snapshot");
    log.mark();
    log.zeros();
    log.finish()
}

fn logs() -> Vec<KnownLog> {
    vec![
        singles(),
        batches(),
        multi_frame_batches(),
        marks(),
        segments(),
        recovered(),
        gap(),
        closed(),
        truncated(),
        without_commit(),
        tail_page(),
        sealed(),
        used_before(),
        without_control(),
        torn_group(),
        alone(),
    ]
}

// ---- Damage ------------------------------------------------------------------------------------

/// One change of one file.
#[derive(Clone, Debug)]
enum Damage {
    FlipBit {
        file: String,
        bit: usize,
    },
    Cut {
        file: String,
        len: usize,
    },
    Append {
        file: String,
        bytes: Vec<u8>,
    },
    Overwrite {
        file: String,
        at: usize,
        bytes: Vec<u8>,
    },
    Remove {
        file: String,
    },
    Several(Vec<Damage>),
}

impl Damage {
    fn apply(&self, files: &mut Files) {
        match self {
            Damage::FlipBit { file, bit } => {
                if let Some(byte) = files.get_mut(file).and_then(|b| b.get_mut(bit / 8)) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Damage::Cut { file, len } => {
                if let Some(bytes) = files.get_mut(file) {
                    bytes.truncate(*len);
                }
            }
            Damage::Append { file, bytes } => {
                if let Some(found) = files.get_mut(file) {
                    found.extend_from_slice(bytes);
                }
            }
            Damage::Overwrite { file, at, bytes } => {
                if let Some(found) = files.get_mut(file) {
                    for (place, byte) in found.iter_mut().skip(*at).zip(bytes) {
                        *place = *byte;
                    }
                }
            }
            Damage::Remove { file } => {
                files.remove(file);
            }
            Damage::Several(all) => all.iter().for_each(|damage| damage.apply(files)),
        }
    }
}

/// Every damage to a log that is tried one by one.
fn every_damage(files: &Files, rng: &mut Rng) -> Vec<Damage> {
    let mut all = vec![Damage::Several(Vec::new())];
    for (name, bytes) in files {
        let file = || name.clone();
        let segment = name.ends_with(".wal");
        // Of control and tail, the bytes that mean nothing are tried now and then only.
        let matters = |at: usize| segment || at % 4096 < 160 || at % 4096 > 4090 || at % 97 == 0;
        for at in (0..bytes.len()).filter(|at| matters(*at)) {
            all.extend((at * 8..at * 8 + 8).map(|bit| Damage::FlipBit { file: file(), bit }));
            all.push(Damage::Cut {
                file: file(),
                len: at,
            });
            let rest = bytes.len() - at;
            all.push(Damage::Overwrite {
                file: file(),
                at,
                bytes: vec![0; rest],
            });
            all.push(Damage::Overwrite {
                file: file(),
                at,
                bytes: garbage(rng, rest),
            });
            if at % 8 == 0 {
                let bytes = vec![0; 64];
                let file = file();
                all.push(Damage::Overwrite { file, at, bytes });
            }
        }
        for len in [1, 7, 8, 63, 64, 100, 5000] {
            for bytes in [vec![0; len], vec![0xFF; len], garbage(rng, len)] {
                all.push(Damage::Append {
                    file: file(),
                    bytes,
                });
            }
        }
        all.push(Damage::Remove { file: file() });
    }
    for _ in 0..500 {
        let count = 2 + rng.below(3);
        let several = (0..count).map(|_| random_damage(files, rng)).collect();
        all.push(Damage::Several(several));
    }
    all
}

fn garbage(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

fn below(rng: &mut Rng, limit: usize) -> usize {
    usize::try_from(rng.below(limit as u64)).unwrap()
}

fn random_damage(files: &Files, rng: &mut Rng) -> Damage {
    let names: Vec<&String> = files.keys().collect();
    let file = names[below(rng, names.len())].clone();
    let len = files[&file].len();
    let at = below(rng, len);
    match rng.below(6) {
        0 | 1 => Damage::FlipBit { file, bit: at * 8 },
        2 => Damage::Cut { file, len: at },
        3 => {
            let len = below(rng, 100);
            let bytes = garbage(rng, len);
            Damage::Overwrite { file, at, bytes }
        }
        4 => {
            let at = at & !63;
            let bytes = vec![0; 64];
            Damage::Overwrite { file, at, bytes }
        }
        _ if rng.below(4) == 0 => Damage::Remove { file },
        _ => {
            let len = below(rng, 200);
            let bytes = garbage(rng, len);
            Damage::Append { file, bytes }
        }
    }
}

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
    let logs = logs();
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

// ---- The rules by hand -------------------------------------------------------------------------

/// The oracle's rule once more, spelled out: in the default mode each record is promised by the
/// frame behind it, so all but the last are acknowledged beyond doubt.
#[test]
fn damage_below_the_evidence_is_refused_and_a_torn_tail_is_cut() {
    let log = singles();
    let original = log.files();
    let name = segment_name(1);
    let frames = &log.segments[&1].frames;
    for (index, frame) in frames.iter().enumerate() {
        let mut files = original.clone();
        files.get_mut(&name).unwrap()[frame.end_of_payload() - 1] ^= 0x40;
        let disk = SimDisk::from_image(&image_of(&files), 1);
        let (found, error) = records(open(&disk, &read_only()).unwrap().cursor(0).unwrap());
        assert_eq!(found.len(), index, "what is before the damage is delivered");
        let opened = open(&disk, &WalOptions::default());
        if index + 1 < frames.len() {
            for error in [error.unwrap(), opened.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                let place = error.place();
                assert_eq!(
                    (place.segment, place.offset, place.lsn.0),
                    (1, frame.offset as u64, frame.lsn)
                );
            }
        } else {
            assert!(error.is_none());
            let wal = opened.unwrap();
            let report = wal.recovery_report();
            assert_eq!((report.row, report.end_lsn.0), ("T", frame.lsn));
            assert_eq!(records(wal.cursor(0).unwrap()).0, found);
        }
    }
}

/// A frame that says that it reaches beyond what is acknowledged is damage, not the end: what stands
/// behind it would be lost without a word.
#[test]
fn a_frame_that_reaches_beyond_the_acknowledged_end_is_refused() {
    let disk = SimDisk::new(5);
    let wal = open(&disk, &WalOptions::default()).unwrap();
    let ids: Vec<u64> = (0..4)
        .map(|_| wal.append(Record::put(b"k", b"v"), Durability::AsOpened))
        .map(|receipt| receipt.unwrap().batch_id.0)
        .collect();
    wal.close().unwrap();
    let name = Path::new(LOG).join(segment_name(1));
    let mut bytes = disk.read_file(&name).unwrap();
    // LSN and offset are equal in the first segment.
    let at = usize::try_from(ids[1]).unwrap();
    bytes[at + 8..at + 12].copy_from_slice(&100_000u32.to_le_bytes());
    mend(&mut bytes, at, HEADER_LEN, 0);
    let mut image = disk.image();
    image
        .corrupt(&name, ids[1], &bytes[at..at + HEADER_LEN])
        .unwrap();
    let disk = SimDisk::from_image(&image, 1);
    // The log was closed, so opening need not find it.
    let wal = open(&disk, &from_close(OpenHow::MustExist)).unwrap();
    let (found, error) = records(wal.cursor(0).unwrap());
    assert_eq!(found.len(), 1);
    let error = error.unwrap();
    assert!(error.is_corrupt(), "{error}");
    assert_eq!((error.place().segment, error.place().lsn.0), (1, ids[1]));
}

/// Where the last frame does not bear out that the log was closed behind it, the whole segment is looked
/// at, and the first damage is named.
#[test]
fn a_damaged_last_frame_makes_opening_look_at_the_whole_segment() {
    let disk = SimDisk::new(7);
    let wal = open(&disk, &WalOptions::default()).unwrap();
    let ids: Vec<u64> = (0..4)
        .map(|_| wal.append(Record::put(b"k", b"v"), Durability::AsOpened))
        .map(|receipt| receipt.unwrap().batch_id.0)
        .collect();
    wal.close().unwrap();
    let name = Path::new(LOG).join(segment_name(1));
    for (damaged, named) in [
        (&ids[1..2], None),
        (&ids[3..], Some(ids[3])),
        (&ids[1..], Some(ids[1])),
    ] {
        let mut image = disk.image();
        for id in damaged {
            // LSN and offset are equal in the first segment.
            image.corrupt(&name, id + HEADER_LEN as u64, b"?").unwrap();
        }
        let disk = SimDisk::from_image(&image, 1);
        let opened = open(&disk, &from_close(OpenHow::MustExist));
        let place = opened.err().map(|error| error.place().lsn.0);
        assert_eq!(place, named, "damaged: {damaged:?}");
    }
}

/// The header's sector can't be read: salvage takes the segment by its frames, as where it is damaged.
#[test]
fn a_segment_whose_header_cannot_be_read_is_salvaged() {
    let disk = SimDisk::new(6);
    let options = WalOptions {
        segment_bytes_max: 64 << 10,
        ..WalOptions::default()
    };
    let wal = open(&disk, &options).unwrap();
    let value = vec![7; 20_000];
    while wal.stat().unwrap().segment_count < 3 {
        wal.append(Record::put(b"k", &value), Durability::AsOpened)
            .unwrap();
    }
    let (all, _) = records(wal.cursor(0).unwrap());
    drop(wal);
    let salvage = WalOptions {
        recovery_policy: RecoveryPolicy::Salvage,
        ..read_only()
    };
    for number in 1..=3 {
        disk.clear_faults();
        let name = Path::new(LOG).join(segment_name(number));
        disk.rot(&name, 0..4096, Rot::Error(errno::EIO)).unwrap();
        assert_eq!(open(&disk, &read_only()).unwrap_err().kind(), ErrorKind::Io);
        let wal = open(&disk, &salvage).unwrap();
        let mut cursor = wal.cursor(0).unwrap();
        let (mut seqs, mut gaps) = (Vec::new(), Vec::new());
        while let Some(entry) = cursor.next().unwrap() {
            match entry.kind {
                EntryKind::Gap => gaps.push(String::from_utf8(entry.value.to_vec()).unwrap()),
                _ => seqs.push(entry.seq),
            }
        }
        let wanted: Vec<u64> = all.iter().map(|record| record.seq).collect();
        assert_eq!(seqs, wanted, "segment {number}: {gaps:?}");
        assert!(
            gaps.iter().any(|gap| gap.contains(&segment_name(number))),
            "{gaps:?}"
        );
    }
}

/// The control file can't be read, or one slot of it: that is an error for who wants to be sure of the end,
/// and nothing to who takes what there is.
#[test]
fn a_log_whose_control_file_cannot_be_read_is_salvaged() {
    let disk = SimDisk::new(7);
    let wal = open(&disk, &WalOptions::default()).unwrap();
    for value in [b"1", b"2", b"3"] {
        wal.append(Record::put(b"k", value), Durability::AsOpened)
            .unwrap();
    }
    let (all, _) = records(wal.cursor(0).unwrap());
    wal.close().unwrap();
    let salvage = WalOptions {
        recovery_policy: RecoveryPolicy::Salvage,
        ..read_only()
    };
    let control = Path::new(LOG).join("control");
    for (unreadable, state) in [
        (0..8192, ControlState::Lost),
        (0..4096, ControlState::OneSlot),
        (4096..8192, ControlState::OneSlot),
    ] {
        disk.clear_faults();
        disk.rot(&control, unreadable.clone(), Rot::Error(errno::EIO))
            .unwrap();
        assert_eq!(open(&disk, &read_only()).unwrap_err().kind(), ErrorKind::Io);
        let wal = open(&disk, &salvage).unwrap();
        assert_eq!(wal.recovery_report().control, state, "{unreadable:?}");
        let (salvaged, error) = records(wal.cursor(0).unwrap());
        assert!(error.is_none(), "{error:?}");
        assert_eq!(salvaged, all);
    }
}

/// Two single records and a batch of three frames, written by the engine; the machine then loses
/// its power, so that the tail page promises nothing, or only the process dies, and it does.
fn crashed_with_a_batch(power_cut: bool) -> (Image, [usize; 3]) {
    let options = WalOptions {
        frame_payload_target: 1,
        ..WalOptions::default()
    };
    let disk = SimDisk::new(3);
    let wal = open(&disk, &options).unwrap();
    for key in ["first", "second"] {
        wal.append(Record::put(key.as_bytes(), b"single"), Durability::AsOpened)
            .unwrap();
    }
    let batch = [
        Record::put(b"debit", b"100"),
        Record::put(b"credit", b"100"),
        Record::put(b"note", b"transfer"),
    ];
    wal.append_batch(&batch, Durability::AsOpened).unwrap();
    let mut image = disk.image();
    if power_cut {
        image.set_boot_id([9; 16]);
    }
    let (entries, _) = raw_entries(wal.raw_cursor(0).unwrap());
    let RawEntry::Record { record, .. } = &entries[2] else {
        panic!("{entries:?}")
    };
    // LSN and offset are equal in the first segment.
    let begin = usize::try_from(record.batch_id).unwrap();
    let sizes = [64 + 24, 64 + 24, 64 + 24];
    (
        image,
        [begin, begin + sizes[0], begin + sizes[0] + sizes[1]],
    )
}

/// The keys that replay gives, and those that a raw cursor shows as not committed.
fn keys(disk: &SimDisk) -> (Vec<String>, Vec<String>) {
    let wal = open(disk, &read_only()).unwrap();
    let text = |record: &KnownRecord| String::from_utf8(record.key.clone()).unwrap();
    let (found, _) = records(wal.cursor(0).unwrap());
    let (raw, _) = raw_entries(wal.raw_cursor(0).unwrap());
    let shown = raw.iter().filter_map(|entry| match entry {
        RawEntry::Record {
            committed: false,
            record,
        } => Some(text(record)),
        _ => None,
    });
    (found.iter().map(text).collect(), shown.collect())
}

/// The case that started all this.
#[test]
fn a_batch_without_its_commit_is_not_replayed_and_raw_iteration_shows_what_there_was() {
    let name = Path::new(LOG).join(segment_name(1));
    let (image, [_, middle, last]) = crashed_with_a_batch(true);
    assert_eq!(keys(&SimDisk::from_image(&image, 1)).0.len(), 5);
    let cases: [(&str, usize, &[u8], &[&str]); 4] = [
        ("COMMIT never arrived", last, &[0; 88], &["debit", "credit"]),
        (
            "COMMIT frame damaged",
            last + 70,
            b"?",
            &["debit", "credit"],
        ),
        (
            "COMMIT frame's header damaged",
            last + 13,
            b"?",
            &["debit", "credit"],
        ),
        ("middle frame damaged", middle + 70, b"?", &["debit"]),
    ];
    for (case, at, bytes, shown) in cases {
        let mut image = image.clone();
        image.corrupt(&name, at as u64, bytes).unwrap();
        let disk = SimDisk::from_image(&image, 1);
        assert_eq!(verify(&disk).unwrap().row, "T", "{case}");
        let (replayed, uncommitted) = keys(&disk);
        assert_eq!(replayed, ["first", "second"], "{case}");
        assert_eq!(uncommitted, shown, "{case}");
        // Opened for writing, it stays so; the numbers that the batch had are given again.
        let wal = open(&disk, &WalOptions::default()).unwrap();
        let receipt = wal.append(Record::put(b"third", b""), Durability::AsOpened);
        assert_eq!(receipt.unwrap().seq, 3, "{case}");
        drop(wal);
        let (replayed, uncommitted) = keys(&disk);
        assert_eq!(replayed, ["first", "second", "third"], "{case}");
        assert_eq!(uncommitted, shown, "{case}");

        // Where the tail page of this boot proves that the batch was acknowledged, it is damage.
        let (mut image, _) = crashed_with_a_batch(false);
        image.corrupt(&name, at as u64, bytes).unwrap();
        let disk = SimDisk::from_image(&image, 1);
        let error = open(&disk, &WalOptions::default()).unwrap_err();
        assert!(error.is_corrupt(), "{case}: {error}");
        assert!(error.to_string().contains("row E"), "{case}: {error}");
        assert_eq!(keys(&disk).0, ["first", "second"], "{case}");
    }
}

// ---- Checksums made right again, and the other reader ------------------------------------------

/// Puts the checksum of a structure right: `len` bytes from `at` on, the checksum at `crc_at` in
/// them, over the others.
fn mend(bytes: &mut [u8], at: usize, len: usize, crc_at: usize) {
    let part = &mut bytes[at..at + len];
    let covered = if crc_at == 0 { 4..len } else { 0..crc_at };
    let crc = crc32(&part[covered]);
    part[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Makes every checksum of the frames right, and, if `relink`, every link.
fn mend_frames(bytes: &mut [u8], segment: &KnownSegment, relink: bool) {
    let mut link: [u8; 4] = bytes[124..128].try_into().unwrap();
    for frame in &segment.frames {
        let at = frame.offset;
        let payload_crc = crc32(&bytes[at + HEADER_LEN..frame.end_of_payload()]);
        bytes[at + 4..at + 8].copy_from_slice(&payload_crc.to_le_bytes());
        if relink {
            bytes[at + 16..at + 20].copy_from_slice(&link);
        }
        mend(bytes, at, HEADER_LEN, 0);
        link.copy_from_slice(&bytes[at..at + 4]);
    }
}

/// A random bit of a random structure, or two, changed by one who knows the format.
fn forge(log: &KnownLog, files: &mut Files, rng: &mut Rng) -> String {
    let names: Vec<String> = files.keys().cloned().collect();
    let name = names[below(rng, names.len())].clone();
    let relink = rng.percent(70);
    let bytes = files.get_mut(&name).unwrap();
    let mut said = format!("{name}, relink {relink}:");
    for _ in 0..1 + rng.below(2) {
        let bit = match name.as_str() {
            "control" => below(rng, 2) * 4096 * 8 + below(rng, 124 * 8),
            "tail" => [64, 128][below(rng, 2)] * 8 + below(rng, 64),
            _ if rng.percent(15) => below(rng, 124 * 8),
            _ => {
                let begin = 128.min(bytes.len() - 1);
                (begin + below(rng, bytes.len() - begin)) * 8 + below(rng, 8)
            }
        };
        said += &format!(" bit {bit} (byte {})", bit / 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    match name.as_str() {
        "control" => [0, 4096]
            .into_iter()
            .for_each(|at| mend(bytes, at, 128, 124)),
        "tail" => {
            for at in [64, 128] {
                let covered = [&bytes[8..40], &bytes[at..at + 8]].concat();
                let check = u64::from(crc32(&covered));
                bytes[at + 8..at + 16].copy_from_slice(&check.to_le_bytes());
            }
        }
        _ => {
            mend(bytes, 0, 128, 124);
            let segment = log.segments.iter().find(|(n, _)| segment_name(**n) == name);
            mend_frames(bytes, segment.unwrap().1, relink);
            // What follows may be forged to fit.
            let next = segment_name(segment.unwrap().0 + 1);
            let last = segment.unwrap().1.frames.last().map(|frame| frame.offset);
            if let (true, Some(at), true) = (relink, last, files.contains_key(&next)) {
                let link: [u8; 4] = files[&name][at..at + 4].try_into().unwrap();
                let header = files.get_mut(&next).unwrap();
                header[80..84].copy_from_slice(&link);
                mend(header, 0, 128, 124);
                mend_frames(header, &log.segments[&(segment.unwrap().0 + 1)], true);
            }
        }
    }
    said
}

/// What must hold of any bytes whatever: no panic, the same twice, and no writing while reading.
fn check_forged(files: &Files) -> String {
    let disk = SimDisk::from_image(&image_of(files), 1);
    let verdict = verify(&disk);
    let reader = open(&disk, &from_close(OpenHow::ReadOnly));
    if let (Err(one), Err(two)) = (&verdict, &reader) {
        assert_eq!(one.kind(), two.kind());
        assert!(matches!(one.kind(), ErrorKind::NotALog | ErrorKind::Newer));
        open(&disk, &WalOptions::default()).unwrap_err();
        assert_unchanged(&disk, files);
        return format!("{:?}", one.kind());
    }
    let (report, wal) = (verdict.unwrap(), reader.unwrap());
    let (found, error) = records(wal.cursor(0).unwrap());
    let (raw, _) = raw_entries(wal.raw_cursor(0).unwrap());
    let committed = raw.into_iter().filter_map(|entry| match entry {
        RawEntry::Record {
            committed: true,
            record,
        } => Some(record),
        _ => None,
    });
    assert_eq!(
        committed.collect::<Vec<_>>(),
        found,
        "raw and committed differ"
    );
    assert_eq!(error.is_some(), report.verdict.to_string() == "CORRUPT");
    assert!(error.is_none_or(|error| error.is_corrupt()));
    assert_eq!(disk.operation_count(), 0, "reading never writes");
    match open(&disk, &from_close(OpenHow::CreateIfAbsent)) {
        Ok(wal) => {
            let (again, _) = records(wal.cursor(0).unwrap());
            assert_eq!(again, found, "after recovery");
        }
        Err(_) => assert_unchanged(&disk, files),
    }
    report.row.to_owned()
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn engine_and_python_agree_on_damaged_and_on_forged_logs() {
    let seed = from_environment("DURALOG_DAMAGE_SEED", 20_261_121);
    let sample = from_environment("DURALOG_DAMAGE_SAMPLE", 120);
    let forged = from_environment("DURALOG_DAMAGE_FORGED", 1500);
    println!("seed {seed}: DURALOG_DAMAGE_SEED={seed} gives the same");
    let mut rng = Rng::new(seed);
    let (mut compared, mut tally) = (0, BTreeMap::<String, u64>::new());
    let mut logs = logs();
    logs.push(as_written());
    for log in &logs {
        let original = log.files();
        let dir = scratch();
        let mut dirs: Vec<PathBuf> = Vec::new();
        let mut export = |files: &Files, what: &str| {
            let path = dir.path().join(format!("{}-{}", log.name, dirs.len()));
            write_files(files, &path);
            std::fs::write(path.with_extension("txt"), what).unwrap();
            dirs.push(path);
        };
        let damages = every_damage(&original, &mut rng);
        for _ in 0..sample {
            let damage = &damages[below(&mut rng, damages.len())];
            let mut files = original.clone();
            damage.apply(&mut files);
            export(&files, &format!("{damage:?}"));
        }
        for count in 0..forged {
            let mut files = original.clone();
            let said = forge(log, &mut files, &mut rng);
            let row = named(log, &said, || check_forged(&files));
            *tally.entry(row).or_default() += 1;
            if count < sample {
                export(&files, &said);
            }
        }
        compared += compare_with_python(&dirs);
    }
    println!("forged: {tally:?}");
    println!("{compared} directories read by the engine and by Python, 0 differ");
}

/// Names that are no regular files, and files that are no part of the log.
#[test]
fn engine_and_python_agree_on_what_is_no_regular_file_and_on_other_names() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let mut dirs = Vec::new();
    let mut variant = |log: &KnownLog, change: &dyn Fn(&Path)| {
        let path = dir.path().join(dirs.len().to_string());
        write_files(&log.files(), &path);
        change(&path);
        dirs.push(path);
    };
    for name in [
        segment_name(1),
        segment_name(3),
        "control".into(),
        "tail".into(),
    ] {
        for log in [segments(), without_control(), tail_page()] {
            let elsewhere = |dir: &Path| dir.join("elsewhere");
            variant(&log, &|dir| {
                let _ = std::fs::rename(dir.join(&name), elsewhere(dir));
                symlink(elsewhere(dir), dir.join(&name)).unwrap();
            });
            variant(&log, &|dir| {
                let _ = std::fs::remove_file(dir.join(&name));
                std::fs::create_dir(dir.join(&name)).unwrap();
            });
            variant(&log, &|dir| {
                let _ = std::fs::rename(dir.join(&name), dir.join(name.to_uppercase() + "~"));
            });
        }
    }
    let far = |number: &str| number.to_owned() + ".wal";
    for name in [
        far("00000000000000000000"),
        far("18446744073709551614"),
        far("18446744073709551615"),
        far("99999999999999999999"),
        far("2"),
        far("+0000000000000000004"),
        "ready".to_owned(),
        "index".to_owned(),
        "dropped-1".to_owned(),
    ] {
        variant(&segments(), &|dir| {
            std::fs::write(dir.join(&name), b"x").unwrap()
        });
    }
    let compared = compare_with_python(&dirs);
    println!("{compared} directories read by the engine and by Python, 0 differ");
}
