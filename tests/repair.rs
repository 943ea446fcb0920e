//! Repair and salvage: a damaged log is refused, read around, and made usable again, and nothing is
//! dropped from it before a copy of it is kept.

#[path = "common/differential.rs"]
mod differential;

use differential::compare_with_python;
use duralog::vfs::sim::SimDisk;
use duralog::{
    Durability, EntryKind, ErrorKind, OpenHow, Record, RecoveryPolicy, Verdict, Wal, WalOptions,
};
use std::sync::Arc;

const PATH: &str = "/log";

fn options() -> WalOptions {
    WalOptions {
        segment_bytes_max: 64 << 10,
        ..WalOptions::default()
    }
}

/// A log of several segments on a simulated disk, closed; values are `number` in a long text.
fn write(disk: &SimDisk, count: u32) {
    let wal = Wal::open_on(Arc::new(disk.clone()), PATH, &options()).unwrap();
    for number in 0..count {
        let value = format!("{number:09000}");
        let pair = [
            Record::put(b"debit", value.as_bytes()),
            Record::put(b"credit", value.as_bytes()),
        ];
        wal.append_batch(&pair, Durability::AsOpened).unwrap();
    }
    wal.close().unwrap();
}

fn read(
    disk: &SimDisk,
    policy: RecoveryPolicy,
) -> (Vec<(u64, u32)>, Vec<String>, Option<ErrorKind>) {
    let options = WalOptions {
        how: OpenHow::ReadOnly,
        recovery_policy: policy,
        ..options()
    };
    let wal = Wal::open_on(Arc::new(disk.clone()), PATH, &options).unwrap();
    let mut cursor = wal.cursor(0).unwrap();
    let (mut records, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match cursor.next() {
            Ok(Some(entry)) if entry.kind == EntryKind::Gap => {
                gaps.push(String::from_utf8(entry.value.to_vec()).unwrap());
            }
            Ok(Some(entry)) => {
                let text = std::str::from_utf8(entry.value).unwrap();
                records.push((entry.seq, text.parse().unwrap()));
            }
            Ok(None) => return (records, gaps, None),
            Err(error) => return (records, gaps, Some(error.kind())),
        }
    }
}

/// Both readers agree about what is on the disk.
fn compare(disk: &SimDisk) {
    let dir = tempfile::tempdir().unwrap();
    disk.image().export(dir.path()).unwrap();
    compare_with_python(&[dir.path().join("log")]);
}

fn segment(number: u32) -> String {
    format!("{PATH}/{number:020}.wal")
}

#[test]
fn damage_in_the_middle_is_read_around_and_repaired() {
    let disk = SimDisk::new(1);
    write(&disk, 20);
    let (all, _, error) = read(&disk, RecoveryPolicy::Default);
    assert_eq!((all.len(), error), (40, None));
    let segments = disk
        .paths()
        .iter()
        .filter(|p| p.to_string_lossy().ends_with(".wal"))
        .count();
    assert!(segments >= 4, "{segments}");

    disk.corrupt(segment(2), 30_000, b"damage").unwrap();
    let (before, _, error) = read(&disk, RecoveryPolicy::Default);
    assert_eq!(error, Some(ErrorKind::Corrupt));
    let (salvaged, gaps, error) = read(&disk, RecoveryPolicy::Salvage);
    assert_eq!(error, None);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    // One batch of two records is gone, and nothing else.
    assert_eq!(salvaged.len(), 38);
    assert!(salvaged.iter().all(|record| all.contains(record)));

    compare(&disk);
    let damaged = disk.read_file(segment(2)).unwrap();
    let report = Wal::repair_on(&disk, PATH, &mut |_, _| true).unwrap();
    assert!(report.repaired);
    assert_eq!(report.before.verdict, Verdict::Corrupt);
    assert_eq!(report.after.verdict, Verdict::CleanEnd, "{report:?}");
    let (after, _, error) = read(&disk, RecoveryPolicy::Default);
    assert_eq!((after, error), (before.clone(), None));
    compare(&disk);
    let side = report.side_directory.unwrap();
    let copy = side.join(format!("{:020}.wal", 2));
    assert_eq!(disk.read_file(copy).unwrap(), damaged);

    let wal = Wal::open_on(Arc::new(disk.clone()), PATH, &options()).unwrap();
    let receipt = wal
        .append(Record::put(b"new", b"7"), Durability::AsOpened)
        .unwrap();
    assert_eq!(receipt.seq, before.last().unwrap().0 + 2);
    wal.close().unwrap();
    assert_eq!(
        read(&disk, RecoveryPolicy::Default).0.len(),
        before.len() + 1
    );
    assert!(
        !Wal::repair_on(&disk, PATH, &mut |_, _| true)
            .unwrap()
            .repaired
    );
}

/// What a repair dropped still stands behind the place at which it cut, in a segment whose end only
/// the header of the next one declares.
#[test]
fn what_a_repair_dropped_does_not_come_back_with_a_damaged_header() {
    // The segment that the repair made is empty: the writer began another behind it.
    for damaged in [&[3][..], &[4], &[3, 4]] {
        let disk = SimDisk::new(1);
        write(&disk, 20);
        disk.corrupt(segment(2), 30_000, b"damage").unwrap();
        Wal::repair_on(&disk, PATH, &mut |_, _| true).unwrap();
        let wal = Wal::open_on(Arc::new(disk.clone()), PATH, &options()).unwrap();
        for number in 100..110 {
            let value = format!("{number:09000}");
            let record = Record::put(b"new", value.as_bytes());
            wal.append(record, Durability::AsOpened).unwrap();
        }
        wal.close().unwrap();
        let (all, _, error) = read(&disk, RecoveryPolicy::Default);
        assert_eq!((all.last().unwrap().1, error), (109, None));
        for number in damaged {
            disk.corrupt(segment(*number), 0, &[0; 4096]).unwrap();
        }
        let (salvaged, gaps, error) = read(&disk, RecoveryPolicy::Salvage);
        assert_eq!((salvaged, error), (all, None), "{gaps:?}");
        let told = gaps.iter().any(|gap| gap.contains("rebuilt"));
        assert_eq!(told, damaged.contains(&4), "{gaps:?}");
        assert!(!gaps.is_empty());
    }
}

/// Number, value and batch id of every record that a salvaging cursor gives.
fn salvage(disk: &SimDisk) -> Vec<(u64, u32, u64)> {
    let options = WalOptions {
        how: OpenHow::ReadOnly,
        recovery_policy: RecoveryPolicy::Salvage,
        ..options()
    };
    let Ok(wal) = Wal::open_on(Arc::new(disk.clone()), PATH, &options) else {
        return Vec::new();
    };
    let mut cursor = wal.cursor(0).unwrap();
    let mut records = Vec::new();
    while let Some(entry) = cursor.next().unwrap() {
        if entry.kind == EntryKind::Record {
            let text = std::str::from_utf8(entry.value).unwrap();
            records.push((entry.seq, text.parse().unwrap(), entry.batch_id.0));
        }
    }
    records
}

/// Segments in files that were used before: behind the new frames stand old ones, which are intact
/// and were all truncated. Whatever is lost of the new ones, none of the old ones comes back, and
/// what is left of the new ones does.
#[test]
fn frames_of_an_older_use_of_a_file_are_never_salvaged() {
    let mut found_both = 0;
    let ends = [(true, true), (true, false), (false, true), (false, false)];
    for (case, (closed, only_last)) in ends.into_iter().chain([(false, true)]).enumerate() {
        let restarted = case == ends.len();
        let mut disk = SimDisk::new(1);
        let mut wal = Wal::open_on(Arc::new(disk.clone()), PATH, &options()).unwrap();
        let append = |wal: &Wal, number: u32, len: usize| {
            let value = format!("{number:0len$}");
            let record = Record::put(b"k", value.as_bytes());
            wal.append(record, Durability::AsOpened).unwrap().seq
        };
        let mut last = 0;
        for number in 0..300 {
            last = append(&wal, number, 600);
        }
        wal.truncate(last - 10).unwrap();
        for number in 300..400 {
            last = append(&wal, number, 700);
        }
        let keep = last - 10;
        if restarted {
            // The segment ends early, and has a successor.
            let image = disk.image();
            disk = SimDisk::from_image(&image, 1);
            wal = Wal::open_on(Arc::new(disk.clone()), PATH, &options()).unwrap();
            for number in 400..410 {
                append(&wal, number, 700);
            }
        }
        if only_last {
            wal.truncate(keep).unwrap();
        }
        if closed {
            wal.close().unwrap();
        }
        let image = disk.image();
        drop(wal);
        let all = salvage(&SimDisk::from_image(&image, 1));
        assert!(all.iter().any(|record| record.0 > keep));
        let word =
            |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let segments: Vec<(String, Vec<u8>)> = image
            .paths()
            .iter()
            .map(|path| path.to_str().unwrap().to_owned())
            .filter(|name| name.ends_with(".wal") && !name.contains("/ready/"))
            .map(|name| (name.clone(), image.read(&name).unwrap()))
            .collect();
        let first_base = word(&segments[0].1, 56);
        for (index, (name, bytes)) in segments.iter().enumerate() {
            let base = word(bytes, 56);
            let next = segments
                .get(index + 1)
                .map_or(u64::MAX, |(_, bytes)| word(bytes, 56));
            // Intact headers by their LSN: those below this segment are of an older use.
            let is_frame = |at: &usize| {
                let crc = u32::from_le_bytes(bytes[*at..at + 4].try_into().unwrap());
                bytes[at + 12] == 1 && crc == crc32fast::hash(&bytes[at + 4..at + 64])
            };
            let frames = (4096..bytes.len() - 64).step_by(8).filter(is_frame);
            let old = frames
                .filter(|at| word(bytes, at + 24) < first_base)
                .count();
            found_both += usize::from(old > 10);
            for end in (4096..bytes.len()).step_by(1000) {
                for control in [true, false] {
                    let mut image = image.clone();
                    image.corrupt(name, 0, &vec![0; end]).unwrap();
                    if !control {
                        image.remove(format!("{PATH}/control"));
                    }
                    let got = salvage(&SimDisk::from_image(&image, 1));
                    let what = format!("{name} up to {end}, {control}, case {case}");
                    for record in &got {
                        assert!(record.2 >= first_base, "{what}: {record:?}");
                        assert!(!control || all.contains(record), "{what}: {record:?}");
                    }
                    for record in &all {
                        let lost =
                            (base..next).contains(&record.2) && record.2 - base + 4096 < end as u64;
                        // With nothing around it, a segment can't be told from an older use.
                        let untold = !control && segments.len() == 1;
                        assert!(lost || untold || got.contains(record), "{what}: {record:?}");
                    }
                }
            }
        }
    }
    assert!(found_both > 1, "{found_both}");
}

/// One segment and nothing that names it: the frames say that it is one.
#[test]
fn a_lone_segment_without_its_header_is_salvaged() {
    let disk = SimDisk::new(1);
    write(&disk, 2);
    let (all, _, _) = read(&disk, RecoveryPolicy::Default);
    disk.remove(format!("{PATH}/control")).unwrap();
    disk.corrupt(segment(1), 0, &[0; 4096]).unwrap();
    for policy in [RecoveryPolicy::Default, RecoveryPolicy::Strict] {
        let reading = WalOptions {
            how: OpenHow::ReadOnly,
            recovery_policy: policy,
            ..options()
        };
        let error = Wal::open_on(Arc::new(disk.clone()), PATH, &reading).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotALog);
    }
    let (salvaged, gaps, error) = read(&disk, RecoveryPolicy::Salvage);
    assert_eq!((salvaged, error), (all, None), "{gaps:?}");
    assert!(gaps.iter().any(|gap| gap.contains("rebuilt")), "{gaps:?}");
}

#[test]
fn every_segment_can_be_missing() {
    for missing in 1..=5 {
        let disk = SimDisk::new(2);
        write(&disk, 20);
        let all = read(&disk, RecoveryPolicy::Default).0;
        disk.remove(segment(missing)).unwrap();
        let writable = Wal::open_on(Arc::new(disk.clone()), PATH, &options());
        assert_eq!(
            writable.unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{missing}"
        );
        let (salvaged, gaps, _) = read(&disk, RecoveryPolicy::Salvage);
        assert!(salvaged.iter().all(|record| all.contains(record)));
        // The last segment leaves no trace in the files that are left but in the control file.
        assert!(
            missing == 5 || salvaged.last() == all.last(),
            "{missing}: {gaps:?}"
        );
        compare(&disk);
        let report = Wal::repair_on(&disk, PATH, &mut |_, _| true).unwrap();
        assert!(report.repaired, "{missing}");
        compare(&disk);
        let (after, _, error) = read(&disk, RecoveryPolicy::Default);
        assert_eq!(error, None);
        assert!(after.iter().all(|record| all.contains(record)), "{missing}");
        let wal = Wal::open_on(Arc::new(disk.clone()), PATH, &options()).unwrap();
        wal.append(Record::put(b"new", b"7"), Durability::AsOpened)
            .unwrap();
        wal.close().unwrap();
        assert_eq!(
            read(&disk, RecoveryPolicy::Default).0.len(),
            after.len() + 1
        );
    }
}

#[test]
fn a_repair_that_dies_can_be_repeated() {
    let prepare = || {
        let disk = SimDisk::new(3);
        write(&disk, 20);
        disk.corrupt(segment(2), 30_000, b"damage").unwrap();
        disk
    };
    let whole = prepare();
    let expected = read(&whole, RecoveryPolicy::Default).0;
    let first = whole.operation_count();
    Wal::repair_on(&whole, PATH, &mut |_, _| true).unwrap();
    let last = whole.operation_count();
    for operation in first..last {
        let disk = prepare();
        disk.die_after(operation);
        let died = Wal::repair_on(&disk, PATH, &mut |_, _| true);
        assert!(died.is_err(), "operation {operation}");
        disk.restart_process();
        let report = Wal::repair_on(&disk, PATH, &mut |_, _| true).unwrap();
        assert_eq!(report.after.verdict, Verdict::CleanEnd);
        let (after, _, error) = read(&disk, RecoveryPolicy::Default);
        assert_eq!(
            (after, error),
            (expected.clone(), None),
            "operation {operation}"
        );
    }
}
