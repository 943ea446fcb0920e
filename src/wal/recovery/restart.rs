//! Going on after an unclean end (FORMAT.md section 14.6): no existing file is changed.
//!
//! Two steps, each published by a rename, each harmless if the next one never happens:
//!
//! 1. If committed frames lie beyond the evidence, they are copied into a sealed RESCUE segment and
//!    synced. They were readable, but perhaps only in the page cache: a sync of the old file could
//!    report success without persisting them, if an earlier one had failed.
//! 2. A new empty segment begins with a gap in the LSNs, so that no batch id that the dead writer
//!    may have given out is given again.

use super::judge::{walk, ClosedAt, Judgement};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{frame_type, FrameHeader, HEADER_LEN};
use crate::format::segment_header::{SegmentHeader, BASE_LSN_LIMIT, FLAG_RESCUE, HEADER_SIZE};
use crate::format::FORMAT_MINOR;
use crate::lsn::{Lsn, Seq};
use crate::vfs::{write_all_at, File, Vfs};
use crate::wal::layout::Layout;
use crate::wal::replay::segment_reader::{SegmentReader, Step, StopCause};
use crate::wal::segment_file::{open_segment, prepare_segment, publish_segment};

/// LSNs of new generations after an unclean end are multiples of this.
const LSN_GAP_UNIT: u64 = 1 << 34;
/// Least distance of a new generation from the end of the old one.
const LSN_GAP_MIN: u64 = 1 << 33;

/// The end of the log after it: where a new segment connects.
#[derive(Clone, Copy, Debug)]
struct End {
    segment: u64,
    lsn: Lsn,
    link: u32,
    next_seq: Seq,
}

/// What it made.
#[derive(Debug)]
pub(crate) struct Restarted {
    /// Headers of the new segments, in order; the last is empty and open for appending.
    pub(crate) segments: Vec<SegmentHeader>,
    pub(crate) rescued_bytes: u64,
}

/// The base LSN of the segment that follows an unclean end at `end`; `None` if the LSNs are used
/// up.
pub(crate) fn base_after_gap(end: Lsn) -> Option<Lsn> {
    let least = end.0.checked_add(LSN_GAP_MIN)?;
    let base = least.checked_next_multiple_of(LSN_GAP_UNIT)?;
    // Half of the number space stays for regular appends behind the last gap.
    (base < BASE_LSN_LIMIT / 2).then_some(Lsn(base))
}

/// Makes a random salt, which is never 0.
pub(crate) fn new_salt(vfs: &dyn Vfs) -> Result<u32> {
    let mut bytes = [0; 4];
    vfs.random(&mut bytes).map_err(|error| {
        Error::io(
            "read random bytes for",
            std::path::Path::new("a salt"),
            error,
        )
    })?;
    Ok(u32::from_le_bytes(bytes).max(1))
}

/// Writes what is needed to go on behind `judgement`, whose verdict is CLEAN END or TORN.
pub(crate) fn restart(
    vfs: &dyn Vfs,
    layout: &Layout,
    last: &SegmentHeader,
    judgement: &Judgement,
) -> Result<Restarted> {
    let Some(walked) = &judgement.walked else {
        return Err(Error::new(ErrorKind::Internal, "restart without a walk"));
    };
    let closed = walked.closed;
    let mut end = End {
        segment: last.segment_number,
        lsn: closed.lsn,
        link: closed.link,
        next_seq: closed.next_seq,
    };
    let used_up = |what: &str| {
        Error::new(
            ErrorKind::Unsupported,
            format!("the {what} of this log are used up"),
        )
    };
    // Before anything is written: a rescue segment adds a SEAL, which the gap has room for.
    base_after_gap(closed.lsn).ok_or_else(|| used_up("LSNs"))?;
    // Two more at most, and the greatest number names no segment.
    if last.segment_number > u64::MAX - 3 {
        return Err(used_up("segment numbers"));
    }
    let checkpoint_lsn = last.checkpoint_lsn.max(walked.checkpoint_lsn);
    let mut segments = Vec::new();
    let mut rescued_bytes = 0;
    if closed.lsn > judgement.evidence.lsn {
        let covered = last_closed_at_or_below(vfs, layout, last, judgement.evidence.lsn)?;
        if covered.lsn < closed.lsn {
            rescued_bytes = closed.lsn.0 - covered.lsn.0;
            let (rescue, sealed) = rescue(vfs, layout, last, covered, closed, checkpoint_lsn)?;
            segments.push(rescue);
            end = sealed;
        }
    }
    let base_lsn = base_after_gap(end.lsn).ok_or_else(|| used_up("LSNs"))?;
    let header = SegmentHeader {
        format_minor: FORMAT_MINOR,
        compatible: 0,
        header_size: HEADER_SIZE,
        flags: 0,
        segment_number: end.segment + 1,
        base_lsn,
        first_seq: end.next_seq,
        prev_end_lsn: end.lsn,
        prev_link: end.link,
        salt: new_salt(vfs)?,
        durable_lsn: end.lsn,
        checkpoint_lsn,
        allocated_size: u64::from(HEADER_SIZE),
        created_ns: vfs.now_ns(),
        ..last.clone()
    };
    prepare_segment(vfs, layout, &header, |_| Ok(()))?;
    publish_segment(vfs, layout, header.segment_number)?;
    segments.push(header);
    Ok(Restarted {
        segments,
        rescued_bytes,
    })
}

/// K: the last place at or below `evidence` at which the log was closed.
fn last_closed_at_or_below(
    vfs: &dyn Vfs,
    layout: &Layout,
    header: &SegmentHeader,
    evidence: Lsn,
) -> Result<ClosedAt> {
    let (file, _) = open_segment(vfs, layout, header.segment_number)?;
    let mut reader =
        SegmentReader::new(file, layout.segment(header.segment_number), header.clone());
    // A limit in the middle of a frame stops before that frame, which is what is wanted: no frame
    // that reaches beyond the evidence is covered by it.
    reader.set_limit(evidence);
    let walked = walk(&mut reader, header.first_seq);
    match walked.read_error {
        Some(error) => Err(error),
        None => Ok(walked.closed),
    }
}

/// Copies the frames from `from` to `to` into a sealed segment of their own, with the same LSNs.
fn rescue(
    vfs: &dyn Vfs,
    layout: &Layout,
    last: &SegmentHeader,
    from: ClosedAt,
    to: ClosedAt,
    checkpoint_lsn: Lsn,
) -> Result<(SegmentHeader, End)> {
    let (file, _) = open_segment(vfs, layout, last.segment_number)?;
    let mut reader = SegmentReader::new(file, layout.segment(last.segment_number), last.clone());
    reader.set_limit(to.lsn);
    skip_to(&mut reader, from.lsn)?;
    let sealed_already = last_frame_is_seal(&reader, to)?;
    let end_lsn = if sealed_already {
        to.lsn
    } else {
        Lsn(to.lsn.0 + HEADER_LEN as u64)
    };
    let header = SegmentHeader {
        format_minor: FORMAT_MINOR,
        compatible: 0,
        header_size: HEADER_SIZE,
        flags: FLAG_RESCUE,
        segment_number: last.segment_number + 1,
        base_lsn: from.lsn,
        first_seq: from.next_seq,
        prev_end_lsn: from.lsn,
        prev_link: from.link,
        salt: new_salt(vfs)?,
        // True when it is published, since all of this file is synced before.
        durable_lsn: end_lsn,
        checkpoint_lsn,
        allocated_size: u64::from(HEADER_SIZE) + (end_lsn.0 - from.lsn.0),
        created_ns: vfs.now_ns(),
        ..last.clone()
    };
    let mut link = header.link();
    prepare_segment(vfs, layout, &header, |file| {
        let mut offset = u64::from(header.header_size);
        while let Some(frame) = next_frame(&mut reader)? {
            let (head, payload) = frame;
            link = copy_frame(file, &mut offset, &head, payload, header.salt, link)?;
        }
        if !sealed_already {
            let seal = FrameHeader {
                payload_crc: 0,
                payload_len: 0,
                frame_type: frame_type::SEAL,
                flags: 0,
                link,
                salt: header.salt,
                lsn: to.lsn,
                first_seq: to.next_seq,
                record_count: 0,
                durable_lsn: from.lsn,
                time_ns: header.created_ns,
            };
            link = copy_frame(file, &mut offset, &seal, &[], header.salt, link)?;
        }
        Ok(())
    })?;
    publish_segment(vfs, layout, header.segment_number)?;
    let end = End {
        segment: header.segment_number,
        lsn: end_lsn,
        link,
        next_seq: to.next_seq,
    };
    Ok((header, end))
}

/// The next frame below the reader's limit; `None` at the limit. What was accepted a moment ago
/// must be accepted again.
fn next_frame(reader: &mut SegmentReader) -> Result<Option<(FrameHeader, &[u8])>> {
    let place = reader.place();
    match reader.step()? {
        Step::Frame(frame) => {
            let payload = reader.window().get(frame.payload).unwrap_or_default();
            Ok(Some((frame.header, payload)))
        }
        Step::Stop(StopCause::Limit) => Ok(None),
        Step::Stop(cause) => Err(Error::new(
            ErrorKind::Io,
            format!("a frame changed between two reads: {cause:?}"),
        )
        .at(place)),
    }
}

fn skip_to(reader: &mut SegmentReader, lsn: Lsn) -> Result<()> {
    while reader.lsn() < lsn {
        if next_frame(reader)?.is_none() {
            break;
        }
    }
    Ok(())
}

/// Whether the last frame before `to` is a SEAL.
fn last_frame_is_seal(reader: &SegmentReader, to: ClosedAt) -> Result<bool> {
    let mut head = [0; HEADER_LEN];
    let Some(offset) = reader.header().offset_of(to.last_frame_lsn) else {
        return Ok(false);
    };
    crate::vfs::read_full_at(reader.file(), offset, &mut head)
        .map_err(|error| Error::io("read", &reader.place().path.unwrap_or_default(), error))?;
    Ok(FrameHeader::decode(&head).is_some_and(|(h, _)| h.frame_type == frame_type::SEAL))
}

/// Writes one frame with the salt and link of its new segment; returns its own link.
fn copy_frame(
    file: &dyn File,
    offset: &mut u64,
    head: &FrameHeader,
    payload: &[u8],
    salt: u32,
    link: u32,
) -> Result<u32> {
    let head = FrameHeader {
        salt,
        link,
        ..*head
    };
    let encoded = head.encode();
    let len = usize::try_from(head.frame_len()).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(len)
        .map_err(|_| Error::no_memory("a frame", len))?;
    bytes.extend_from_slice(&encoded);
    bytes.extend_from_slice(payload);
    bytes.resize(len, 0);
    write_all_at(file, *offset, &bytes).map_err(|failure| {
        Error::io(
            "write",
            std::path::Path::new("a rescue segment"),
            failure.error,
        )
    })?;
    *offset += head.frame_len();
    Ok(crate::format::get_u32(&encoded, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_wide_enough_and_ends_on_its_unit() {
        for end in [
            4096,
            (1 << 33) - 8,
            1 << 33,
            (1 << 34) - 8,
            1 << 34,
            5 << 34,
        ] {
            let base = base_after_gap(Lsn(end)).unwrap().0;
            assert!(base - end >= LSN_GAP_MIN, "{end}");
            assert!(base - end < LSN_GAP_MIN + LSN_GAP_UNIT, "{end}");
            assert_eq!(base % LSN_GAP_UNIT, 0);
        }
        assert_eq!(base_after_gap(Lsn(u64::MAX - 7)), None);
        assert_eq!(base_after_gap(Lsn(BASE_LSN_LIMIT - 8)), None);
    }
}
