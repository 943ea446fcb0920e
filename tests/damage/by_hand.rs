//! The rules by hand: what the oracle says of every variant, spelled out for one.

use super::forged::mend;
use super::*;
use duralog::{BatchStatus, Receipt};

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

/// A log of four records that was closed, and their places.
fn closed_log() -> (SimDisk, Vec<u64>) {
    let disk = SimDisk::new(5);
    let wal = open(&disk, &WalOptions::default()).unwrap();
    let ids = (0..4)
        .map(|_| wal.append(Record::put(b"k", b"v"), Durability::AsOpened))
        .map(|receipt| receipt.unwrap().batch_id.0)
        .collect();
    wal.close().unwrap();
    (disk, ids)
}

/// A frame that says that it reaches beyond what is acknowledged is damage, not the end: what stands
/// behind it would be lost without a word.
#[test]
fn a_frame_that_reaches_beyond_the_acknowledged_end_is_refused() {
    let (disk, ids) = closed_log();
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
    let (disk, ids) = closed_log();
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
        let header = SegmentHeader::decode(&disk.read_file(&name).unwrap()).unwrap();
        disk.rot(&name, 0..4096, Rot::Error(errno::EIO)).unwrap();
        // Opening reads the last header, and reading those that it comes to.
        let refused = open(&disk, &read_only()).and_then(|wal| {
            let (found, error) = records(wal.cursor(0)?);
            let before = all
                .iter()
                .filter(|record| record.batch_id < header.base_lsn.0);
            assert_eq!(found, before.cloned().collect::<Vec<_>>());
            Err::<(), Error>(error.unwrap())
        });
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Io);
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

/// Whoever asks for what may stand in a segment with a damaged header is told of the damage, not that there
/// is nothing; and behind it the log goes on, for appends, reading and truncation.
#[test]
fn a_log_is_used_behind_a_segment_whose_header_is_damaged() {
    let disk = SimDisk::new(8);
    let options = WalOptions {
        segment_bytes_max: 64 << 10,
        ..WalOptions::default()
    };
    let wal = open(&disk, &options).unwrap();
    let value = vec![7; 10_000];
    let append = |wal: &Wal| wal.append(Record::put(b"k", &value), Durability::AsOpened);
    let receipts: Vec<Receipt> = (0..40).map(|_| append(&wal).unwrap()).collect();
    drop(wal);
    let name = Path::new(LOG).join(segment_name(3));
    let header = SegmentHeader::decode(&disk.read_file(&name).unwrap()).unwrap();
    let mut image = disk.image();
    image.corrupt(&name, 100, b"?").unwrap();

    // Without its control file the log is looked at in order, and ends there.
    let mut without_control = image.clone();
    without_control.remove(Path::new(LOG).join("control"));
    let reader = open(&SimDisk::from_image(&without_control, 1), &read_only()).unwrap();
    for receipt in &receipts {
        let is_before = receipt.seq < header.first_seq;
        match reader.batch_status(receipt.batch_id) {
            Ok(status) => assert!(is_before && status == BatchStatus::Committed, "{status:?}"),
            Err(error) => assert!(!is_before && error.place().segment == 3, "{error}"),
        }
    }

    let disk = SimDisk::from_image(&image, 1);
    let wal = open(&disk, &options).unwrap();
    let new = append(&wal).unwrap();
    let mut statuses = [0; 2];
    for receipt in receipts.iter().chain([&new]) {
        match wal.batch_status(receipt.batch_id) {
            Ok(BatchStatus::Committed) => statuses[0] += 1,
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.place().segment),
                    (ErrorKind::Corrupt, 3)
                );
                statuses[1] += 1;
            }
            status => panic!("{status:?} of {}", receipt.batch_id),
        }
    }
    // Of segments 2, the end of which that header would have told, and 3 it is not known.
    assert!(statuses[0] > 20 && statuses[1] < 20, "{statuses:?}");

    let (found, error) = records(wal.cursor(0).unwrap());
    assert_eq!(found.last().unwrap().seq, header.first_seq - 1);
    assert_eq!(error.unwrap().place().segment, 3);
    let (found, error) = records(wal.cursor(30).unwrap());
    assert_eq!((found.len(), error.is_none()), (11, true));
    assert_eq!(verify(&disk).unwrap().row, "M");

    wal.truncate(30).unwrap();
    let (found, error) = records(wal.cursor(0).unwrap());
    assert_eq!((found.len(), error.is_none()), (11, true));
    drop(wal);
    assert_eq!(verify(&disk).unwrap().row, "Z");
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
