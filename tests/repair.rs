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
