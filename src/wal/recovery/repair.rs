//! Repair, the explicit call: makes a log that is refused as corrupt usable again, at the price of
//! what lies behind the damage, which is copied aside first.
//!
//! ```text
//! judge whole → copy what will be dropped → new segment behind the last good place → control
//! ```
//!
//! Nothing is taken from the log before its copy is durable. A repair that dies leaves a log that is
//! still corrupt, or repaired; running it again ends in the same state. A log that is not corrupt is
//! left alone.

use super::judge::{judge, walk, ClosedAt, Extent, Judgement, Progress};
use super::restart::{base_after_gap, new_salt};
use crate::error::{Error, ErrorKind, Result};
use crate::format::control::Control;
use crate::format::segment_header::{SegmentHeader, HEADER_SIZE};
use crate::format::FORMAT_MINOR;
use crate::lsn::{Lsn, Seq};
use crate::vfs::{read_full_at, write_all_at, OpenMode, Vfs};
use crate::wal::control_file::ControlFile;
use crate::wal::layout::{segment_name, Layout};
use crate::wal::replay::segment_reader::SegmentReader;
use crate::wal::report::{RecoveryReport, RepairReport, Verdict};
use crate::wal::segment_file::{discard, open_segment, prepare_segment, publish_segment};
use crate::wal::survey::{segment_numbers, survey, usable_segments, Found, Headers, Survey};
use crate::wal::view::no_log;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes copied at a time.
const COPY_LEN: usize = 1 << 20;
/// Each round removes one damage; a log that needs more rounds than this is given up.
const ROUNDS_MAX: u32 = 1000;

/// Repairs the log, whose lock the caller holds.
pub(crate) fn repair(
    vfs: &dyn Vfs,
    layout: &Layout,
    progress: &mut Progress<'_>,
) -> Result<RepairReport> {
    let mut before: Option<RecoveryReport> = None;
    let mut side = None;
    for _ in 0..ROUNDS_MAX {
        let found = match survey(vfs, layout, Headers::All)? {
            Found::Log(found) => *found,
            Found::Nothing | Found::Room | Found::Foreign(_) => return Err(no_log(layout)),
        };
        let judgement = judge(vfs, layout, &found, Extent::Whole, progress)?;
        let report = judgement.report.clone();
        let first = before.get_or_insert_with(|| report.clone()).clone();
        match report.verdict {
            Verdict::CleanEnd | Verdict::Torn => {
                return Ok(RepairReport {
                    repaired: side.is_some(),
                    before: first,
                    after: report,
                    side_directory: side,
                })
            }
            Verdict::IoError => {
                return Err(judgement
                    .error
                    .unwrap_or_else(|| Error::new(ErrorKind::Io, report.reason)))
            }
            Verdict::Corrupt => {}
        }
        let aside = match &side {
            Some(aside) => aside,
            None => side.insert(make_side_directory(vfs, layout)?),
        };
        cut(vfs, layout, &found, &judgement, aside)?;
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        format!("still damaged after {ROUNDS_MAX} repairs"),
    ))
}

/// Removes the first damage.
fn cut(
    vfs: &dyn Vfs,
    layout: &Layout,
    found: &Survey,
    judgement: &Judgement,
    aside: &Path,
) -> Result<()> {
    let numbers = segment_numbers(vfs, layout)?;
    let Some((number, closed)) = last_good_place(vfs, layout, found, judgement)? else {
        return begin_later(vfs, layout, found, &numbers, aside);
    };
    let Ok(Some(last)) = found.segments.get(number) else {
        return Err(Error::new(ErrorKind::Internal, "repair without a segment"));
    };
    for &dropped in numbers.iter().filter(|&&n| n >= number) {
        copy_aside(vfs, layout, dropped, aside)?;
    }
    sync_dir(vfs, aside)?;
    let mut highest = judgement.report.evidence_lsn.max(closed.lsn);
    for header in usable_segments(vfs, layout, number)?.values() {
        highest = highest.max(end_of_file(vfs, layout, header)?);
    }
    let base_lsn = base_after_gap(highest)
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, "the LSNs of this log are used up"))?;
    let header = SegmentHeader {
        format_minor: FORMAT_MINOR,
        compatible: 0,
        header_size: HEADER_SIZE,
        flags: 0,
        segment_number: number + 1,
        base_lsn,
        first_seq: closed.next_seq,
        prev_end_lsn: closed.lsn,
        prev_link: closed.link,
        salt: new_salt(vfs)?,
        durable_lsn: closed.lsn,
        checkpoint_lsn: Lsn::NONE,
        allocated_size: u64::from(HEADER_SIZE),
        created_ns: vfs.now_ns(),
        ..last.clone()
    };
    prepare_segment(vfs, layout, &header, |_| Ok(()))?;
    // Replaces the segment behind the damage, if there is one: it was copied.
    publish_segment(vfs, layout, header.segment_number)?;
    for &dropped in numbers.iter().rev().filter(|&&n| n > number + 1) {
        discard(vfs, &layout.segment(dropped))?;
    }
    sync_dir(vfs, layout.dir())?;
    note(
        vfs,
        layout,
        found,
        &header,
        found.first_segment,
        closed.next_seq - 1,
    )
}

/// The segment that keeps its beginning, and where it is cut; `None` if nothing before the damage
/// is left.
fn last_good_place(
    vfs: &dyn Vfs,
    layout: &Layout,
    found: &Survey,
    judgement: &Judgement,
) -> Result<Option<(u64, ClosedAt)>> {
    if let Some(walked) = &judgement.walked {
        return Ok(Some((walked.stop.segment, walked.closed)));
    }
    let Some(header) = found.segments.headers().next_back() else {
        return Ok(None);
    };
    let number = header.segment_number;
    let (file, _) = open_segment(vfs, layout, number)?;
    let mut reader = SegmentReader::new(file, layout.segment(number), header.clone());
    let walked = walk(&mut reader, header.first_seq);
    match walked.read_error {
        Some(error) => Err(error),
        None => Ok(Some((number, walked.closed))),
    }
}

/// The beginning of the log is gone: it begins with the first segment that can be used.
fn begin_later(
    vfs: &dyn Vfs,
    layout: &Layout,
    found: &Survey,
    numbers: &[u64],
    aside: &Path,
) -> Result<()> {
    let usable = usable_segments(vfs, layout, found.first_segment)?;
    let Some(header) = usable.values().next() else {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "no segment of this log can be used; nothing can be repaired",
        ));
    };
    for &dropped in numbers.iter().filter(|&&n| n < header.segment_number) {
        copy_aside(vfs, layout, dropped, aside)?;
    }
    sync_dir(vfs, aside)?;
    let last = usable.values().next_back().unwrap_or(header);
    let truncated_seq = found.truncated_seq.max(header.first_seq - 1);
    note(
        vfs,
        layout,
        found,
        last,
        header.segment_number,
        truncated_seq,
    )
}

/// Makes the control file say what the log is now. `last_seq` bounds what counts as truncated, so
/// that records appended from now on are not taken for truncated ones.
fn note(
    vfs: &dyn Vfs,
    layout: &Layout,
    found: &Survey,
    last: &SegmentHeader,
    first_segment: u64,
    last_seq: Seq,
) -> Result<()> {
    let truncated_seq = if first_segment == found.first_segment {
        found.truncated_seq.min(last_seq)
    } else {
        last_seq
    };
    let control = Control {
        closed: false,
        log_id: last.log_id,
        generation: 0,
        first_segment,
        last_segment: last.segment_number,
        truncated_seq,
        durable_lsn: last.base_lsn,
        checkpoint_lsn: Lsn::NONE,
        end_lsn: Lsn::NONE,
        next_seq: 0,
        last_frame_lsn: Lsn::NONE,
        end_link: 0,
        time_ns: vfs.now_ns(),
    };
    let mut file = ControlFile::install(vfs, layout, &found.control, control)?;
    file.write(control)
}

/// The place in the log up to which a segment's file reaches.
fn end_of_file(vfs: &dyn Vfs, layout: &Layout, header: &SegmentHeader) -> Result<Lsn> {
    let (file, _) = open_segment(vfs, layout, header.segment_number)?;
    let len = file
        .len()
        .map_err(|error| Error::io("look up", &layout.segment(header.segment_number), error))?;
    Ok(header.lsn_at(len.max(u64::from(header.header_size))))
}

/// Makes the first directory `dropped-N` that does not exist.
fn make_side_directory(vfs: &dyn Vfs, layout: &Layout) -> Result<PathBuf> {
    let mut number = 1u32;
    loop {
        let path = layout.side_directory(number);
        match vfs.create_dir(&path) {
            Ok(()) => {
                sync_dir(vfs, layout.dir())?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::io("create directory", &path, error)),
        }
    }
}

/// Copies a segment into the side directory and syncs the copy. Bytes that can't be read are left
/// as zeros: what can be read is what there is to keep.
fn copy_aside(vfs: &dyn Vfs, layout: &Layout, number: u64, aside: &Path) -> Result<()> {
    let from = layout.segment(number);
    let source = vfs
        .open(&from, OpenMode::Read)
        .map_err(|error| Error::io("open", &from, error))?;
    let to = unused_name(vfs, aside, number)?;
    let copy = vfs
        .open(&to, OpenMode::CreateNew)
        .map_err(|error| Error::io("create", &to, error))?;
    let len = source
        .len()
        .map_err(|error| Error::io("look up", &from, error))?;
    let mut buffer = vec![0; COPY_LEN];
    let mut offset = 0;
    while offset < len {
        let there = usize::try_from(len - offset).unwrap_or(usize::MAX);
        let piece = &mut buffer[..there.min(COPY_LEN)];
        piece.fill(0);
        // An unreadable piece stays zero in the copy; the next one may be readable.
        let _ = read_full_at(source.as_ref(), offset, piece);
        write_all_at(copy.as_ref(), offset, piece)
            .map_err(|failure| Error::io("write", &to, failure.error))?;
        offset += piece.len() as u64;
    }
    // Before anything is taken from the log: the copy is all that will be left.
    copy.sync_data().map_err(|error| Error::sync(&to, error))
}

/// A name for the copy of segment `number`: rounds of one repair may copy a segment again.
fn unused_name(vfs: &dyn Vfs, aside: &Path, number: u64) -> Result<PathBuf> {
    let taken = vfs
        .list(aside)
        .map_err(|error| Error::io("list", aside, error))?;
    let name = segment_name(number);
    let mut candidate = name.clone();
    let mut round = 2;
    while taken.iter().any(|entry| entry.name == candidate) {
        candidate = format!("{name}.{round}");
        round += 1;
    }
    Ok(aside.join(candidate))
}

fn sync_dir(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    vfs.sync_dir(dir).map_err(|error| Error::sync(dir, error))
}
