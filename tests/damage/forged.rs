//! Checksums made right again, and the other reader.

use super::*;

/// Puts the checksum of a structure right: `len` bytes from `at` on, the checksum at `crc_at` in
/// them, over the others.
pub(super) fn mend(bytes: &mut [u8], at: usize, len: usize, crc_at: usize) {
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
    let wal = reader.unwrap();
    let (found, error) = records(wal.cursor(0).unwrap());
    let report = match verdict {
        Ok(report) => report,
        // Of a segment before the last one, which opening does not look at.
        Err(newer) => {
            let error = error.unwrap();
            assert_eq!(
                (newer.kind(), error.kind()),
                (ErrorKind::Newer, ErrorKind::Newer)
            );
            assert_eq!(newer.place(), error.place());
            return format!("{:?} in the middle", newer.kind());
        }
    };
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
    let mut logs = every_shape();
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
