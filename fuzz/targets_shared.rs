//! What is fuzzed, for cargo-fuzz and for `tests/fuzz_smoke.rs`: one function per target, which
//! takes any bytes and must return. Everything happens on the simulated disk, in memory. What is done to
//! the index of an event store is in `target_index.rs`.
//!
//! | target | bytes |
//! |---|---|
//! | `segment` | a flag, then the first segment of a log; with the flag, its checksums are made right |
//! | `open` | flags, then changes to the files of a log, small or large, 12 bytes each |
//! | `packed` | columns and bytes of a packed batch |
//! | `event` | the value of an event's record |

#![allow(dead_code, reason = "each program uses its target")]

use duralog::format::checksum::crc32;
use duralog::format::control::Control;
use duralog::format::event;
use duralog::format::frame::{frame_len, FrameHeader, HEADER_LEN};
use duralog::format::record;
use duralog::format::segment_header::SegmentHeader;
use duralog::vfs::sim::{Image, SimDisk};
use duralog::{
    Durability, Error, Lsn, OpenHow, PackedBatch, Record, RecoveryPolicy, SyncMode, Wal, WalOptions,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const LOG: &str = "/log";
const SEGMENT: &str = "/log/00000000000000000001.wal";

fn options(how: OpenHow, recovery_policy: RecoveryPolicy) -> WalOptions {
    WalOptions {
        how,
        recovery_policy,
        sync_mode: SyncMode::Every,
        segment_bytes_max: 64 << 10,
        ..WalOptions::default()
    }
}

fn open_log(disk: &SimDisk, how: OpenHow, policy: RecoveryPolicy) -> Result<Wal, Error> {
    Wal::open_on(Arc::new(disk.clone()), LOG, &options(how, policy))
}

/// A record as it was read.
type Read = (u64, Vec<u8>, Vec<u8>);

fn read_all(wal: &Wal) -> (Vec<Read>, Option<Error>) {
    let mut found: Vec<Read> = Vec::new();
    let mut cursor = match wal.cursor(0) {
        Ok(cursor) => cursor,
        Err(error) => return (found, Some(error)),
    };
    loop {
        match cursor.next() {
            Ok(Some(entry)) => found.push((entry.seq, entry.key.to_vec(), entry.value.to_vec())),
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
        }
    }
}

/// Reads in every way, then writes; what is acknowledged is there afterwards. Returns what a plain
/// reader found.
fn use_log(disk: &SimDisk) -> Vec<Read> {
    let _ = Wal::verify_on(disk, Path::new(LOG), &mut |_, _| true);
    let mut plain = Vec::new();
    for policy in [RecoveryPolicy::Default, RecoveryPolicy::Salvage] {
        let Ok(wal) = open_log(disk, OpenHow::ReadOnly, policy) else {
            continue;
        };
        let (found, error) = read_all(&wal);
        if policy == RecoveryPolicy::Default {
            assert!(
                found.windows(2).all(|two| two[0].0 < two[1].0),
                "numbers do not grow"
            );
            let mut paged = 0;
            if let Ok(mut cursor) = wal.cursor(0) {
                while let Ok(Some(page)) = cursor.next_page(7) {
                    paged += page.seq.len();
                }
            }
            assert!(error.is_some() || paged == found.len(), "pages differ");
            plain = found;
        }
        if let Ok(mut cursor) = wal.raw_cursor(0) {
            while let Ok(Some(entry)) = cursor.next() {
                let _ = wal.batch_status(entry.batch_id);
            }
        }
        let _ = wal.batch_status(Lsn(u64::MAX));
        let _ = wal.stat();
    }
    let Ok(wal) = open_log(disk, OpenHow::MustExist, RecoveryPolicy::Default) else {
        return plain;
    };
    let (before, _) = read_all(&wal);
    let _ = wal.checkpoint(b"fuzzed");
    let told = wal.append(Record::put(b"new", b"record"), Durability::AsOpened);
    let closed = wal.close();
    drop(wal);
    if let (Ok(receipt), Ok(())) = (told, closed) {
        let wal = open_log(disk, OpenHow::ReadOnly, RecoveryPolicy::Default);
        let (after, error) = read_all(&wal.unwrap_or_else(|error| panic!("not readable: {error}")));
        assert!(
            after.starts_with(&before) || error.is_some(),
            "records changed when one was added"
        );
        let mut shown = after.iter().filter(|record| record.0 == receipt.seq);
        assert!(
            error.is_some() || shown.any(|record| record.1 == b"new"),
            "{receipt:?} was acknowledged and is not shown"
        );
    }
    plain
}

/// Gives the frames of a segment the checksums, links and places that they should have.
fn make_right(bytes: &mut [u8]) {
    if bytes.len() < 128 {
        return;
    }
    let crc = crc32(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    let Ok(header) = SegmentHeader::decode(bytes) else {
        return;
    };
    let mut link = crc;
    let mut at = header.header_size as usize;
    while at + HEADER_LEN <= bytes.len() {
        let u32_at = |offset: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&bytes[at + offset..at + offset + 4]);
            u32::from_le_bytes(four)
        };
        if bytes[at..at + HEADER_LEN].iter().all(|byte| *byte == 0) {
            return;
        }
        let payload_len = u32_at(8) as usize;
        let payload_end = at + HEADER_LEN + payload_len;
        let payload_crc = bytes.get(at + HEADER_LEN..payload_end).map_or(0, crc32);
        bytes[at + 4..at + 8].copy_from_slice(&payload_crc.to_le_bytes());
        bytes[at + 16..at + 20].copy_from_slice(&link.to_le_bytes());
        bytes[at + 20..at + 24].copy_from_slice(&header.salt.to_le_bytes());
        let lsn = header.lsn_at(at as u64).0;
        bytes[at + 24..at + 32].copy_from_slice(&lsn.to_le_bytes());
        link = crc32(&bytes[at + 4..at + HEADER_LEN]);
        bytes[at..at + 4].copy_from_slice(&link.to_le_bytes());
        let Ok(len) = usize::try_from(frame_len(payload_len)) else {
            return;
        };
        at += len;
    }
}

/// Any bytes as a segment: decoded alone, and as the one segment of a log.
pub(crate) fn segment(data: &[u8]) {
    let Some((flag, data)) = data.split_first() else {
        return;
    };
    let mut bytes = data.to_vec();
    if flag & 1 != 0 {
        make_right(&mut bytes);
    }
    let _ = SegmentHeader::decode(&bytes);
    let _ = Control::decode(&bytes);
    for at in (0..bytes.len()).step_by(8) {
        if let Some((head, _)) = FrameHeader::decode(&bytes[at..]) {
            let payload = bytes.get(at + HEADER_LEN..).unwrap_or_default();
            let _ = record::fill_exactly(payload, head.record_count);
        }
        let _ = record::decode(&bytes, at);
    }
    let mut image = Image::new();
    if image.write(SEGMENT, &bytes).is_ok() {
        use_log(&SimDisk::from_image(&image, 1));
    }
}

/// A log of two segments: where its files are, and what a reader finds.
struct Base {
    image: Image,
    paths: Vec<PathBuf>,
    read: Vec<Read>,
}

/// With batches, a checkpoint and a control file. The first segment of the large one was sealed when
/// it was full; that of the small one was left by a process that died, and every attempt takes a
/// tenth of the time.
fn base(is_large: bool) -> &'static Base {
    static BASES: [OnceLock<Base>; 2] = [OnceLock::new(), OnceLock::new()];
    BASES[usize::from(is_large)].get_or_init(|| {
        let disk = SimDisk::new(1);
        let make = || -> Result<(), Error> {
            let mut wal = open_log(&disk, OpenHow::MustCreate, RecoveryPolicy::Default)?;
            let large = vec![5; if is_large { 33_000 } else { 600 }];
            wal.append(Record::put(b"one", b"1"), Durability::AsOpened)?;
            let batch = [Record::put(b"two", &large), Record::put(b"three", &large)];
            wal.append_batch(&batch, Durability::AsOpened)?;
            if !is_large {
                std::mem::forget(wal);
                disk.restart_process();
                wal = open_log(&disk, OpenHow::MustExist, RecoveryPolicy::Default)?;
            }
            let batch = [Record::put(b"four", b"4"), Record::delete(b"one")];
            wal.append_batch(&batch, Durability::AsOpened)?;
            wal.checkpoint(b"checkpoint")?;
            wal.append(Record::put(b"five", b"5"), Durability::AsOpened)?;
            wal.close()
        };
        let made = make();
        let mut image = disk.image();
        let paths = image.paths();
        let segments = paths.iter().filter(|path| is_segment(path));
        for path in segments.clone() {
            // Zeros written ahead take long to look through and tell nothing.
            let bytes = image.read(path).unwrap_or_default();
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            let _ = image.set_len(path, (used as u64).next_multiple_of(8) + HEADER_LEN as u64);
        }
        let wal = open_log(
            &SimDisk::from_image(&image, 1),
            OpenHow::ReadOnly,
            RecoveryPolicy::Default,
        );
        let read = wal.map(|wal| read_all(&wal).0).unwrap_or_default();
        assert!(made.is_ok() && segments.count() == 2 && read.len() == 6);
        Base { image, paths, read }
    })
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wal")
        && path.parent() == Some(Path::new(LOG))
}

/// Any bytes as changes to files, 12 bytes each: which file, what, where, with what.
pub(crate) fn change(image: &mut Image, paths: &[PathBuf], changes: &[u8]) {
    for change in changes.chunks_exact(12).take(16) {
        let path = &paths[usize::from(change[0]) % paths.len()];
        let Some(len) = image.len(path) else {
            continue;
        };
        let number = |range: std::ops::Range<usize>| {
            let fold = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
            change[range].iter().fold(0, fold)
        };
        // Most of a file is the large batch: near its ends more happens.
        let offset = match change[2] % 3 {
            0 => number(3..6) % len.max(1),
            1 => number(4..6) % len.clamp(1, 300),
            _ => len.saturating_sub(1 + number(4..6) % 300),
        };
        let value = &change[6..12];
        let _ = match change[1] % 8 {
            0 => image.flip(path, offset, value[0]),
            1 => image.corrupt(path, offset, &value[..1]),
            2 => image.corrupt(path, offset & !7, &[value[0]; 8]),
            3 => image.corrupt(path, offset & !511, &[value[0]; 512]),
            4 => image.set_len(path, offset),
            5 => image.set_len(path, len + number(6..8)),
            6 => {
                image.remove(path);
                Ok(())
            }
            _ => {
                let other = &paths[usize::from(value[0]) % paths.len()];
                let bytes = image.read(other).unwrap_or_default();
                let from = usize::try_from(number(7..10)).unwrap_or(0) % bytes.len().max(1);
                let end = bytes.len().min(from + 512);
                image.corrupt(path, offset & !511, &bytes[from..end])
            }
        };
    }
}

/// Any bytes as changes to a log.
pub(crate) fn open(data: &[u8]) {
    let Some((flag, data)) = data.split_first() else {
        return;
    };
    let Base { image, paths, read } = base(flag & 2 != 0);
    let mut image = image.clone();
    change(&mut image, paths, data);
    let right = flag & 1 != 0;
    if right {
        for path in paths {
            let Some(mut bytes) = image.read(path) else {
                continue;
            };
            if path.ends_with("control") {
                for slot in bytes.chunks_mut(4096).filter(|slot| slot.len() >= 128) {
                    let crc = crc32(&slot[..124]);
                    slot[124..128].copy_from_slice(&crc.to_le_bytes());
                }
            } else {
                make_right(&mut bytes);
            }
            let _ = image.write(path, &bytes);
        }
    }
    let found = use_log(&SimDisk::from_image(&image, 1));
    if !right {
        // Nobody made the checksums right: what is shown is what was written.
        for record in &found {
            assert!(read.contains(record), "{record:?} was never written");
        }
    }
}

/// Any bytes as an event: refused, or an event that is encoded to the same bytes.
pub(crate) fn event(data: &[u8]) {
    let Some(found) = event::decode(data) else {
        return;
    };
    if found.flaw(b"stream").is_some() {
        return;
    }
    let mut again = Vec::new();
    event::encode_place(
        &mut again,
        found.flags,
        found.position,
        found.stream_version,
    );
    let tags: Vec<&[u8]> = found.tags.iter().collect();
    found.body.encode(&mut again, tags.into_iter());
    assert_eq!(again, data);
    let place = found.flags & (event::event_flag::FIRST | event::event_flag::LAST);
    assert_eq!(found.body.flags() | place, found.flags);
}

/// Any bytes as a packed batch: refused, or appended and read back.
pub(crate) fn packed(data: &[u8]) {
    let Some((head, rest)) = data.split_at_checked(4) else {
        return;
    };
    let (ops_len, keys_len, values_len) = (head[0], head[1], head[2]);
    let mut rest = rest.iter().copied();
    let mut column = |len: u8| -> Vec<u32> {
        let wide = |byte: u8| match byte {
            // Lengths that do not fit are as likely as those that do.
            250..=255 => u32::MAX - u32::from(255 - byte),
            _ => u32::from(byte),
        };
        rest.by_ref().take(usize::from(len)).map(wide).collect()
    };
    let key_lens = column(keys_len);
    let value_lens = column(values_len);
    let ops: Vec<u8> = rest.by_ref().take(usize::from(ops_len)).collect();
    let bytes: Vec<u8> = rest.collect();
    let batch = PackedBatch {
        ops: (head[3] & 1 != 0).then_some(&ops),
        key_lens: (head[3] & 2 != 0).then_some(&key_lens),
        value_lens: &value_lens,
        bytes: &bytes,
    };
    let disk = SimDisk::new(1);
    let Ok(wal) = open_log(&disk, OpenHow::MustCreate, RecoveryPolicy::Default) else {
        panic!("a new log can't be made");
    };
    let told = wal.append_packed(&batch, Durability::AsOpened);
    let (found, error) = read_all(&wal);
    assert!(error.is_none());
    let Ok(receipt) = told else {
        assert!(found.is_empty(), "refused, and there all the same");
        return;
    };
    assert_eq!(found.len(), value_lens.len());
    assert_eq!(receipt.seq, value_lens.len() as u64 + 1);
    let joined: Vec<u8> = found
        .iter()
        .flat_map(|(_, key, value)| [key.as_slice(), value])
        .flatten()
        .copied()
        .collect();
    assert_eq!(joined, bytes);
    for (record, len) in found.iter().zip(&value_lens) {
        assert_eq!(record.2.len() as u64, u64::from(*len));
    }
}
