//! Damage instead of a crash: what was acknowledged and promised is never dropped in silence.
//!
//! Small logs of every shape (open and closed, rotated, recycled, truncated, recovered after a
//! crash) lie on the simulated disk. Each sector of each file is zeroed, flipped, replaced by another sector
//! of the same file, by the same sector of another log, and by the older content of a recycled file;
//! each file is removed, and cut at each sector. Then
//!
//! * a log either gives all of its records, or an error that names the place, after a prefix of
//!   them: never a shorter log without a word, never a wrong record;
//! * `verify` finds the damage whenever a record is missing;
//! * a salvaging cursor gives every record of every batch that the damage did not touch, and marks
//!   the gap.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/crash_run.rs"]
mod crash_run;
#[path = "common/model.rs"]
mod model;
#[path = "common/overtaking.rs"]
mod overtaking;

use crash_run::{options, Op, Run, LOG};
use duralog::vfs::sim::{CrashStates, Fill, Image, SimDisk};
use duralog::{
    Durability, EntryKind, ErrorKind, Lsn, OpenHow, Record, RecoveryPolicy, RecoveryReport,
    SyncMode, Verdict, Wal, WalOptions,
};
use model::{Found, Model};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

fn verify(disk: &SimDisk) -> duralog::Result<RecoveryReport> {
    Wal::verify_on(disk, LOG, &mut |_, _| true)
}

/// A log whose every batch is covered by a promise.
struct Sample {
    name: String,
    image: Image,
    model: Model,
    found: Found,
    /// For every batch, the file and the bytes in it that hold its frames.
    places: Vec<(String, Range<u64>)>,
    /// When the records were written, in order.
    times: Vec<u64>,
}

impl Sample {
    /// What the letters do, then a close or (with `mark`) a MARK and the death of the machine.
    fn new(seed: u64, text: &str, mark: bool) -> Sample {
        let mut run = Run::new(seed, 512, SyncMode::Every);
        run.apply_all(&Op::parse(text));
        run.apply(Op::Mark);
        if !mark {
            run.apply(Op::Reopen);
        }
        let name = format!("{text}{}", if mark { ", dead" } else { ", closed" });
        Sample::of(&run, name)
    }

    /// What is on the disk after a run; a power cut takes nothing that was synced.
    fn of(run: &Run, name: String) -> Sample {
        let states = CrashStates::new(&run.disk, run.disk.now(), Fill::Zero);
        let image = states.states(0, 2).next().unwrap().image();
        let disk = SimDisk::from_image(&image, 1);
        let wal = reader(&disk, RecoveryPolicy::Default).unwrap();
        let report = wal.recovery_report();
        let all = run.model.expect(run.model.steps.len(), |_| true);
        let found = run.model.compare(&wal, &report, &all).unwrap();
        let places = run.model.batches[..found.batches]
            .iter()
            .map(|batch| place_of(&image, batch.id))
            .collect();
        let mut times = Vec::new();
        let mut cursor = wal.cursor(0).unwrap();
        while let Some(entry) = cursor.next().unwrap() {
            times.push(entry.time_ns);
        }
        Sample {
            name,
            times,
            image,
            model: run.model.clone(),
            found,
            places,
        }
    }

    /// Records that replay gives: number, and the batch's index.
    fn records(&self) -> Vec<(u64, usize)> {
        let batches = self.model.batches[..self.found.batches].iter().enumerate();
        batches
            .flat_map(|(index, batch)| {
                (batch.first_seq..batch.first_seq + batch.records.len() as u64)
                    .map(move |seq| (seq, index))
            })
            .filter(|(seq, _)| *seq > self.found.truncated)
            .collect()
    }
}

fn reader(disk: &SimDisk, recovery_policy: RecoveryPolicy) -> duralog::Result<Wal> {
    let reading = WalOptions {
        how: OpenHow::ReadOnly,
        recovery_policy,
        ..options(SyncMode::Every)
    };
    Wal::open_on(Arc::new(disk.clone()), LOG, &reading)
}

fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Finds the frames of a batch by what FORMAT.md says, and by nothing that the library does: the
/// last segment whose header has a base LSN at or below the id, then frame by frame to the COMMIT.
fn place_of(image: &Image, id: Lsn) -> (String, Range<u64>) {
    let mut best = (0, String::new(), Vec::new());
    for path in image.paths() {
        let name = path.to_str().unwrap().to_owned();
        if !name.ends_with(".wal") || name.contains("ready") {
            continue;
        }
        let bytes = image.read(&path).unwrap();
        let base = get_u64(&bytes, 56);
        if base <= id.0 && base >= best.0 {
            best = (base, name, bytes);
        }
    }
    let (base, name, bytes) = best;
    if name.is_empty() {
        // Its segment was deleted.
        return (name, 0..0);
    }
    let begin = id.0 - base + 4096;
    let mut end = begin;
    loop {
        let at = usize::try_from(end).unwrap();
        let (kind, flags) = (bytes[at + 12], bytes[at + 13]);
        end += (64 + u64::from(get_u32(&bytes, at + 8))).next_multiple_of(8);
        if kind != 1 || flags & 2 != 0 {
            return (name, begin..end);
        }
    }
}

/// Whether a byte of the first segment lies behind a payload and before the next frame.
fn is_padding(sample: &Sample, byte: u64) -> bool {
    let (file, first) = &sample.places[0];
    let bytes = sample.image.read(file).unwrap();
    let mut at = first.start;
    loop {
        let payload_end = at + 64 + u64::from(get_u32(&bytes, usize::try_from(at + 8).unwrap()));
        let next = payload_end.next_multiple_of(8);
        if byte < next {
            return byte >= payload_end;
        }
        at = next;
    }
}

/// The shapes of logs that are damaged.
fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for text in [
        "abla", "abcwb", "awfabfla", "affcb", "faftfab", "abtab", "fafatabl",
    ] {
        for mark in [true, false] {
            samples.push(Sample::new(3, text, mark));
        }
    }
    // A log with a rescue segment, and a gap in its LSNs.
    let run = Run::new(4, 512, SyncMode::Every);
    let mut run = run;
    run.apply_all(&Op::parse("abal"));
    let image = run.disk.image();
    let expected = run.model.expect(run.model.steps.len(), |_| true);
    let found = Found {
        batches: run.model.batches.len(),
        truncated: 0,
    };
    let model = run.model.resume(&expected, &found);
    let mut image = image;
    image.set_boot_id([7; 16]);
    let mut second = Run::resume(&image, model, &run.options, 512, 5, "crashed".to_owned());
    second.apply_all(&Op::parse("abm"));
    samples.push(Sample::of(&second, "rescued".to_owned()));
    samples
}

/// What was done to an image.
struct Damage {
    what: String,
    file: String,
    bytes: Range<u64>,
    image: Image,
}

/// Every damage of one sector.
fn damaged_sectors(sample: &Sample, foreign: &Image) -> Vec<Damage> {
    let mut all = Vec::new();
    for path in sample.image.paths() {
        let file = path.to_str().unwrap().to_owned();
        let bytes = sample.image.read(&path).unwrap();
        let other = foreign.read(&path).unwrap_or_default();
        for at in (0..bytes.len()).step_by(512) {
            let end = bytes.len().min(at + 512);
            let old = &bytes[at..end];
            let flipped: Vec<u8> = old.iter().map(|byte| byte ^ 0x10).collect();
            let mut one_bit = old.to_vec();
            let bit = (at / 512 * 37) % old.len();
            one_bit[bit] ^= 1;
            let mut contents = vec![
                ("zeroed", vec![0; old.len()]),
                ("flipped", flipped),
                ("flipped in one bit", one_bit),
            ];
            if at >= 512 {
                contents.push((
                    "replaced by the one before",
                    bytes[at - 512..][..old.len()].to_vec(),
                ));
            }
            if let Some(next) = bytes.get(at + 512..at + 512 + old.len()) {
                contents.push(("replaced by the one behind", next.to_vec()));
            }
            if let Some(theirs) = other.get(at..end) {
                contents.push(("replaced by that of another log", theirs.to_vec()));
            }
            for (how, new) in contents {
                if new == old {
                    continue;
                }
                // Only what differs is damaged.
                let first = old.iter().zip(&new).position(|(a, b)| a != b).unwrap();
                let last = old.iter().zip(&new).rposition(|(a, b)| a != b).unwrap();
                let mut image = sample.image.clone();
                image.corrupt(&path, at as u64, &new).unwrap();
                all.push(Damage {
                    what: format!("{}: sector {} of {file} {how}", sample.name, at / 512),
                    file: file.clone(),
                    bytes: (at + first) as u64..(at + last) as u64 + 1,
                    image,
                });
            }
        }
    }
    all
}

/// How a log answers to damage.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// All records.
    Whole,
    /// So many records, then an error.
    Error(usize),
}

/// Opens the log and reads it; panics where it is shorter without a word, or wrong.
fn answer(sample: &Sample, damage: &Damage, writing: bool) -> Answer {
    let disk = SimDisk::from_image(&damage.image, 2);
    let opened = if writing {
        Wal::open_on(Arc::new(disk.clone()), LOG, &options(SyncMode::Every))
    } else {
        reader(&disk, RecoveryPolicy::Default)
    };
    let wal = match opened {
        Ok(wal) => wal,
        Err(error) => {
            assert_names_the_place(&error, damage);
            return Answer::Error(0);
        }
    };
    let expected = sample.records();
    let mut cursor = wal.cursor(0).unwrap();
    let mut count = 0;
    loop {
        match cursor.next() {
            Ok(Some(entry)) => {
                // Without its control file a log forgets a truncation inside a segment.
                let control_lost = damage.file.ends_with("control");
                if control_lost && entry.seq <= sample.found.truncated {
                    continue;
                }
                let Some((seq, index)) = expected.get(count) else {
                    panic!("{}: a record too many: {}", damage.what, entry.seq);
                };
                let batch = &sample.model.batches[*index];
                let record = &batch.records[usize::try_from(seq - batch.first_seq).unwrap()];
                assert_eq!(
                    (entry.seq, entry.batch_id, entry.op, entry.key, entry.value),
                    (*seq, batch.id, record.0, &record.1[..], &record.2[..]),
                    "{}",
                    damage.what
                );
                assert_eq!(entry.time_ns, sample.times[count], "{}", damage.what);
                count += 1;
            }
            Ok(None) => {
                assert_eq!(
                    count,
                    expected.len(),
                    "LOST, {} (writing: {writing}): {:?}",
                    damage.what,
                    wal.recovery_report()
                );
                return Answer::Whole;
            }
            Err(error) => {
                assert_names_the_place(&error, damage);
                return Answer::Error(count);
            }
        }
    }
}

fn assert_names_the_place(error: &duralog::Error, damage: &Damage) {
    let what = &damage.what;
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Corrupt | ErrorKind::Io | ErrorKind::NotALog | ErrorKind::Newer
        ),
        "{what}: {error}"
    );
    if damage.file.ends_with("control") {
        // A control file of another log makes the segments look foreign: either could be meant.
        assert!(error.to_string().contains("another log"), "{what}: {error}");
        return;
    }
    let named = error.place().path.clone().unwrap_or_default();
    // A segment that is gone is missed at its own name; one that is too short, in itself.
    assert!(
        error.kind() != ErrorKind::Corrupt || named.to_str() == Some(&damage.file),
        "{what}: the error names {}: {error}",
        named.display()
    );
    // The frame at which reading stops begins before the damage ends.
    assert!(
        error.place().offset < damage.bytes.end.max(1),
        "{what}: the error names offset {}: {error}",
        error.place().offset
    );
}

fn check(sample: &Sample, damage: &Damage) -> bool {
    let reading = answer(sample, damage, false);
    let writing = answer(sample, damage, true);
    let disk = SimDisk::from_image(&damage.image, 2);
    let verified = verify(&disk);
    let clean = verified
        .as_ref()
        .is_ok_and(|report| matches!(report.verdict, Verdict::CleanEnd | Verdict::Torn));
    let damaged = reading != Answer::Whole || writing != Answer::Whole;
    assert!(
        !(damaged && clean),
        "{}: verify finds nothing: {verified:?}, {reading:?}, {writing:?}",
        damage.what
    );
    salvage(sample, damage);
    damaged
}

/// Salvage gives what the damage did not touch. Returns how many records it gave and its gaps in
/// words.
fn salvage(sample: &Sample, damage: &Damage) -> (usize, Vec<String>) {
    let disk = SimDisk::from_image(&damage.image, 3);
    let Ok(wal) = reader(&disk, RecoveryPolicy::Salvage) else {
        // One file that is no segment any more, and nothing else: not a log.
        let other = |file: &str| !file.is_empty() && file != damage.file;
        assert!(!sample.places.iter().any(|(file, _)| other(file)));
        assert!(damage.bytes.end > 4096, "{}", damage.what);
        return (0, Vec::new());
    };
    let mut cursor = wal.cursor(0).unwrap();
    let mut got = BTreeSet::new();
    let mut gaps = Vec::new();
    let mut last = 0;
    while let Some(entry) = cursor.next().unwrap() {
        if entry.kind == EntryKind::Gap {
            gaps.push(String::from_utf8(entry.value.to_vec()).unwrap());
            continue;
        }
        assert!(entry.seq > last, "{}: salvage goes back", damage.what);
        last = entry.seq;
        let mut batches = sample.model.batches.iter().zip(&sample.places);
        let found = batches.find(|(batch, _)| batch.id == entry.batch_id);
        let Some((batch, (file, _))) = found else {
            panic!("{}: a batch out of thin air", damage.what);
        };
        // What a file held before it was used again.
        assert!(!file.is_empty(), "{}: an old batch", damage.what);
        let record = &batch.records[usize::try_from(entry.seq - batch.first_seq).unwrap()];
        assert_eq!(
            (entry.op, entry.key, entry.value),
            (record.0, &record.1[..], &record.2[..]),
            "{}",
            damage.what
        );
        got.insert(entry.seq);
    }
    for (seq, index) in sample.records() {
        let (file, bytes) = &sample.places[index];
        let touched = *file == damage.file
            && bytes.start < damage.bytes.end
            && damage.bytes.start < bytes.end;
        assert!(
            touched || got.contains(&seq),
            "{}: salvage misses record {seq}",
            damage.what
        );
        assert!(
            !gaps.is_empty() || got.contains(&seq),
            "{}: salvage misses record {seq} and shows no gap",
            damage.what
        );
    }
    (got.len(), gaps)
}

#[test]
fn no_damaged_sector_shortens_a_log_in_silence() {
    let (mut count, mut refused) = (0, 0);
    for sample in samples() {
        let foreign = Sample::new(11, "wflabwfaba", true).image;
        for damage in damaged_sectors(&sample, &foreign) {
            count += 1;
            refused += u64::from(check(&sample, &damage));
        }
    }
    say(&format!("{count} damaged logs, {refused} of them refused"));
    assert!(refused > 1000, "{refused} of {count}");
}

#[test]
fn no_flipped_bit_of_a_frame_is_believed() {
    for mark in [true, false] {
        let sample = Sample::new(3, "abl", mark);
        let (first, last) = (&sample.places[0], &sample.places[2]);
        for byte in first.1.start..last.1.end {
            for bit in 0..8 {
                let mut image = sample.image.clone();
                image.flip(&first.0, byte, 1 << bit).unwrap();
                let damage = Damage {
                    what: format!("{}: bit {bit} of byte {byte}", sample.name),
                    file: first.0.clone(),
                    bytes: byte..byte + 1,
                    image,
                };
                let refused = check(&sample, &damage);
                // Padding is covered by no checksum.
                assert!(refused || is_padding(&sample, byte), "{}", damage.what);
            }
        }
    }
}

#[test]
fn no_lost_or_shortened_file_shortens_a_log_in_silence() {
    let (mut count, mut refused) = (0, 0);
    for sample in samples() {
        for path in sample.image.paths() {
            let file = path.to_str().unwrap().to_owned();
            if file.contains("/ready/") {
                continue;
            }
            let len = sample.image.len(&path).unwrap();
            let mut image = sample.image.clone();
            image.remove(&path);
            let gone = Damage {
                what: format!("{}: {file} removed", sample.name),
                file: file.clone(),
                bytes: 0..len,
                image,
            };
            count += 1;
            refused += u64::from(check(&sample, &gone));
            for cut in (0..len).step_by(512).chain(
                [1, 127, 128, 4095, 4097]
                    .into_iter()
                    .filter(|&cut| cut < len),
            ) {
                let mut image = sample.image.clone();
                image.set_len(&path, cut).unwrap();
                let cut_off = Damage {
                    what: format!("{}: {file} cut at {cut} of {len}", sample.name),
                    file: file.clone(),
                    bytes: cut..len,
                    image,
                };
                count += 1;
                refused += u64::from(check(&sample, &cut_off));
            }
        }
    }
    say(&format!(
        "{count} shortened logs, {refused} of them refused"
    ));
    assert!(refused > 1000, "{refused} of {count}");
}

/// The segments of a sample that hold a record which replay gives.
fn segments_with_records(sample: &Sample) -> BTreeSet<String> {
    let records = sample.records();
    let files = records
        .iter()
        .map(|(_, index)| sample.places[*index].0.clone());
    files.collect()
}

/// Every way in which the header of a segment can be damaged and no frame with it: each word, each
/// sector, all of it, and all of it with an older one of the same log in its place.
fn damaged_headers(sample: &Sample, file: &str) -> Vec<Damage> {
    let bytes = sample.image.read(file).unwrap();
    let mut contents = Vec::new();
    for at in (0..128).step_by(8) {
        for mask in [0x01, 0xFF] {
            let flipped: Vec<u8> = bytes[at..at + 8].iter().map(|byte| byte ^ mask).collect();
            contents.push((format!("word {at} flipped by {mask:#x}"), at, flipped));
        }
        contents.push((format!("word {at} zeroed"), at, vec![0; 8]));
    }
    for at in (0..4096).step_by(512) {
        contents.push((format!("sector at {at} zeroed"), at, vec![0; 512]));
        contents.push((format!("sector at {at} overwritten"), at, vec![0xA5; 512]));
    }
    contents.push(("zeroed".to_owned(), 0, vec![0; 4096]));
    for other in sample.image.paths() {
        let other = other.to_str().unwrap();
        if other.ends_with(".wal") && other != file {
            let theirs = sample.image.read(other).unwrap();
            contents.push((
                format!("replaced by that of {other}"),
                0,
                theirs[..128].into(),
            ));
        }
    }
    let damage = |(how, at, new): (String, usize, Vec<u8>)| {
        let old = &bytes[at..at + new.len()];
        let first = old.iter().zip(&new).position(|(a, b)| a != b)?;
        let mut image = sample.image.clone();
        image.corrupt(file, at as u64, &new).unwrap();
        Some(Damage {
            what: format!("{}: header of {file}: {how}", sample.name),
            file: file.to_owned(),
            bytes: (at + first) as u64..(at + new.len()) as u64,
            image,
        })
    };
    contents.into_iter().filter_map(damage).collect()
}

#[test]
fn a_damaged_segment_header_costs_no_batch() {
    let (mut count, mut rebuilt) = (0, 0);
    for sample in samples() {
        let expected = sample.records().len();
        let holding = segments_with_records(&sample);
        for path in sample.image.paths() {
            let file = path.to_str().unwrap();
            if !file.ends_with(".wal") || file.contains("/ready/") {
                continue;
            }
            for damage in damaged_headers(&sample, file) {
                count += 1;
                let used = damage.bytes.start < 128;
                // Without the option nothing changes: such a log is refused.
                let refused = check(&sample, &damage);
                assert_eq!(refused, used, "{}", damage.what);
                let (got, gaps) = salvage(&sample, &damage);
                assert_eq!(got, expected, "{}: {gaps:?}", damage.what);
                let name = file.rsplit('/').next().unwrap();
                let told = gaps.iter().any(|gap| {
                    gap.starts_with(name) && gap.contains("was rebuilt from the frames behind it")
                });
                assert_eq!(
                    told,
                    used && holding.contains(file),
                    "{}: {gaps:?}",
                    damage.what
                );
                rebuilt += u64::from(told);
            }
        }
    }
    say(&format!("{count} damaged headers, {rebuilt} rebuilt"));
    assert!(rebuilt > 500, "{rebuilt} of {count}");
}

/// Two neighbours, and all of them: each is rebuilt from its own frames.
#[test]
fn several_damaged_segment_headers_cost_no_batch() {
    for sample in samples() {
        let files: Vec<String> = sample
            .image
            .paths()
            .iter()
            .map(|path| path.to_str().unwrap().to_owned())
            .filter(|file| file.ends_with(".wal") && !file.contains("/ready/"))
            .collect();
        for width in [2, files.len()] {
            for some in files.windows(width) {
                for control in [true, false] {
                    let mut image = sample.image.clone();
                    for file in some {
                        image.corrupt(file, 0, &[0; 4096]).unwrap();
                    }
                    if !control {
                        image.remove(format!("{LOG}/control"));
                    }
                    let damage = Damage {
                        what: format!("{}: {some:?}, control: {control}", sample.name),
                        file: some[0].clone(),
                        bytes: 0..4096,
                        image,
                    };
                    let (got, gaps) = salvage(&sample, &damage);
                    // Without control a truncation inside a segment is forgotten.
                    assert!(got >= sample.records().len(), "{}: {gaps:?}", damage.what);
                    assert!(!gaps.is_empty(), "{}", damage.what);
                }
            }
        }
    }
}

/// Header and frames are lost up to some sector: what stands behind is given, and nothing that the
/// file held before it was used again.
#[test]
fn frames_of_an_older_use_of_a_file_are_not_taken() {
    let mut count = 0;
    for sample in samples() {
        for path in sample.image.paths() {
            let file = path.to_str().unwrap().to_owned();
            if !file.ends_with(".wal") || file.contains("/ready/") {
                continue;
            }
            let len = sample.image.len(&path).unwrap();
            for end in (4096 + 64..len).step_by(512) {
                for control in [true, false] {
                    let mut image = sample.image.clone();
                    let zeros = vec![0; usize::try_from(end).unwrap()];
                    image.corrupt(&path, 0, &zeros).unwrap();
                    if !control {
                        image.remove(format!("{LOG}/control"));
                    }
                    let what = format!("{}: {file} zeroed up to {end}", sample.name);
                    let damage = Damage {
                        what: format!("{what}, control: {control}"),
                        file: file.clone(),
                        bytes: 0..end,
                        image,
                    };
                    salvage_what_can_be_told(&sample, &damage, control);
                    count += 1;
                }
            }
        }
    }
    say(&format!("{count} segments that lost their beginning"));
}

/// Like [`salvage`]; without control and neighbours, and without its first frame, a segment may
/// also be left out.
fn salvage_what_can_be_told(sample: &Sample, damage: &Damage, control: bool) {
    if control {
        salvage(sample, damage);
        return;
    }
    let alone = Damage {
        what: damage.what.clone(),
        file: damage.file.clone(),
        bytes: 0..u64::MAX,
        image: damage.image.clone(),
    };
    salvage(sample, &alone);
}

/// FORMAT.md section 17: the residue. Damage to the last acknowledged group is taken for a tear only
/// as long as nothing was promised after it.
#[test]
fn damage_to_the_last_group_is_found_from_the_next_promise_on() {
    let damaged = |then: Option<Op>, mark_first: bool| {
        let mut run = Run::new(6, 512, SyncMode::Every);
        run.apply_all(&Op::parse("ab"));
        if mark_first {
            run.apply(Op::Mark);
        }
        run.apply(Op::Wide);
        let last = run.model.batches.last().unwrap().id;
        if let Some(op) = then {
            run.apply(op);
        }
        let states = CrashStates::new(&run.disk, run.disk.now(), Fill::Zero);
        let mut image = states.states(0, 2).next().unwrap().image();
        let (file, bytes) = place_of(&image, last);
        image.flip(&file, bytes.start + 100, 1).unwrap();
        let report = verify(&SimDisk::from_image(&image, 1)).unwrap();
        (report.verdict, report.next_seq, report.offset, bytes.start)
    };
    for mark_first in [false, true] {
        // Nothing came after it: it looks like a tear, and only this one group is cut.
        let (verdict, next_seq, ..) = damaged(None, mark_first);
        assert_eq!((verdict, next_seq), (Verdict::Torn, 6));
        for then in [
            Op::Append,
            Op::Batch,
            Op::Large,
            Op::Mark,
            Op::Checkpoint,
            Op::Truncate,
            Op::Reopen,
            Op::Fill,
        ] {
            let (verdict, _, offset, at) = damaged(Some(then), mark_first);
            assert_eq!((verdict, offset), (Verdict::Corrupt, at), "then {then:?}");
        }
    }
}

/// Zeros where a frame should be are not believed by themselves: what was written behind them shows
/// that something is missing.
#[test]
fn a_hole_in_the_last_group_is_no_clean_end() {
    let mut run = Run::new(6, 512, SyncMode::Every);
    run.apply_all(&Op::parse("abl"));
    let last = run.model.batches.last().unwrap().id;
    let states = CrashStates::new(&run.disk, run.disk.now(), Fill::Zero);
    let mut image = states.states(0, 2).next().unwrap().image();
    let (file, bytes) = place_of(&image, last);
    image.corrupt(&file, bytes.start, &[0; 64]).unwrap();
    let report = verify(&SimDisk::from_image(&image, 1)).unwrap();
    assert_eq!(
        (report.verdict, report.offset),
        (Verdict::Torn, bytes.start)
    );
}

/// What FORMAT.md section 11.1 asks of a frame, each thing by itself: the checksum of a frame that
/// belongs elsewhere is right.
#[test]
fn an_intact_frame_that_belongs_elsewhere_is_not_accepted() {
    let mut run = Run::new(6, 512, SyncMode::Every);
    run.apply_all(&Op::parse("ab"));
    let last = run.model.batches.last().unwrap();
    let states = CrashStates::new(&run.disk, run.disk.now(), Fill::Zero);
    let image = states.states(0, 2).next().unwrap().image();
    let (file, bytes) = place_of(&image, last.id);
    let next_seq = |image: &Image| {
        let report = verify(&SimDisk::from_image(image, 1)).unwrap();
        assert_ne!(report.verdict, Verdict::Corrupt, "{report:?}");
        report.next_seq
    };
    assert_eq!(next_seq(&image), last.seq + 1);
    for (field, offset) in [("link", 16), ("salt", 20), ("lsn", 25)] {
        let at = usize::try_from(bytes.start).unwrap();
        let mut head = image.read(&file).unwrap()[at..at + 64].to_vec();
        head[offset] ^= 8;
        let crc = crc32fast::hash(&head[4..]);
        head[..4].copy_from_slice(&crc.to_le_bytes());
        let mut elsewhere = image.clone();
        elsewhere.corrupt(&file, bytes.start, &head).unwrap();
        assert_eq!(next_seq(&elsewhere), last.first_seq, "{field}");
    }
}

#[test]
fn every_use_of_a_file_has_its_own_salt() {
    let mut run = Run::new(6, 512, SyncMode::Every);
    let mut salts = BTreeMap::new();
    for op in Op::parse("faftafaftafat") {
        run.apply(op);
        for path in run.disk.paths() {
            let name = path.to_str().unwrap().to_owned();
            if name.ends_with(".wal") && !name.contains("ready") {
                salts.insert(name, get_u32(&run.disk.read_file(&path).unwrap(), 84));
            }
        }
    }
    let distinct: BTreeSet<u32> = salts.values().copied().collect();
    assert!(salts.len() > 4, "{salts:?}");
    assert_eq!(distinct.len(), salts.len(), "{salts:?}");
}

/// Two machines went on from one copy of a log. A segment of one, put into the other, has the right
/// log id, number, place and sequence numbers, and is still not taken for its own.
#[test]
fn a_segment_from_another_life_of_the_log_is_refused() {
    let mut run = Run::new(6, 512, SyncMode::Every);
    run.apply_all(&Op::parse("abr"));
    let image = run.disk.image();
    let lives = [8, 9].map(|seed| {
        let all = run.model.expect(run.model.steps.len(), |_| true);
        let found = Found {
            batches: run.model.batches.len(),
            truncated: 0,
        };
        let model = run.model.resume(&all, &found);
        let history = format!("life {seed}");
        let mut life = Run::resume(&image, model, &run.options, 512, seed, history);
        life.apply_all(&Op::parse("fafabm"));
        Sample::of(&life, format!("life {seed}"))
    });
    let mut refused = 0;
    for path in lives[0].image.paths() {
        let file = path.to_str().unwrap().to_owned();
        if !file.ends_with(".wal") {
            continue;
        }
        let theirs = lives[1].image.read(&path).unwrap();
        if theirs == lives[0].image.read(&path).unwrap() {
            continue;
        }
        let mut image = lives[0].image.clone();
        image.write(&path, &theirs).unwrap();
        let disk = SimDisk::from_image(&image, 1);
        let report = verify(&disk).unwrap();
        assert_eq!(report.verdict, Verdict::Corrupt, "{file}: {report:?}");
        refused += 1;
    }
    assert!(refused > 1, "{refused}");
}

/// The tail page closes the window for the death of the process: there is no residue then.
#[test]
fn damage_to_the_last_group_is_found_while_the_machine_runs() {
    let mut run = Run::new(6, 512, SyncMode::Every);
    run.apply_all(&Op::parse("abw"));
    let last = run.model.batches.last().unwrap().id;
    let mut image = run.disk.image();
    let (file, bytes) = place_of(&image, last);
    image.flip(&file, bytes.start + 100, 1).unwrap();
    let report = verify(&SimDisk::from_image(&image, 1)).unwrap();
    assert_eq!(report.verdict, Verdict::Corrupt);
}

/// A truncation stands in both slots of the control file when it is acknowledged (FORMAT.md section
/// 14.5): the loss of either brings nothing back.
#[test]
fn a_truncation_survives_the_loss_of_either_slot() {
    for text in ["ababt", "fafafat"] {
        let mut run = Run::new(7, 512, SyncMode::Every);
        run.apply_all(&Op::parse(text));
        let sample = Sample::of(&run, text.to_owned());
        for slot in [0, 4096] {
            let mut image = sample.image.clone();
            image.flip(format!("{LOG}/control"), slot + 60, 1).unwrap();
            let wal = reader(&SimDisk::from_image(&image, 1), RecoveryPolicy::Default).unwrap();
            let mut cursor = wal.cursor(0).unwrap();
            let first = cursor.next().unwrap().unwrap();
            assert_eq!(first.seq, sample.found.truncated + 1, "{text}");
        }
    }
}

/// What is refused for writing is not changed by trying.
#[test]
fn a_refused_log_is_left_as_it_is() {
    let sample = Sample::new(3, "awfab", true);
    let (file, bytes) = sample.places.last().unwrap().clone();
    let mut image = sample.image.clone();
    image.flip(&file, bytes.start + 70, 1).unwrap();
    let disk = SimDisk::from_image(&image, 1);
    for _ in 0..2 {
        let error = Wal::open_on(Arc::new(disk.clone()), LOG, &options(SyncMode::Every));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let mut after = disk.image();
    // The lock is taken to look, and says by whom.
    after.remove(format!("{LOG}/LOCK"));
    image.remove(format!("{LOG}/LOCK"));
    assert_eq!(after.difference(&image), None);
    // Reading up to the damage stays possible.
    let wal = reader(&disk, RecoveryPolicy::Default).unwrap();
    let mut cursor = wal.cursor(0).unwrap();
    let mut count = 0;
    let error = loop {
        match cursor.next() {
            Ok(Some(_)) => count += 1,
            Ok(None) => panic!("the damage was not found"),
            Err(error) => break error,
        }
    };
    assert!(error.is_corrupt());
    assert_eq!(
        count,
        sample.records().len() - sample.model.batches.last().unwrap().records.len()
    );
    let record = Record::put(b"k", b"v");
    let refused = wal.append(record, Durability::AsOpened).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly);
}

fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
