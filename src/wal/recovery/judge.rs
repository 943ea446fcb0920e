//! Judging the end of the log: walk, collect the evidence, look for live frames beyond, decide.

use super::decision::{decide, Findings, Row};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::frame::{frame_flag, frame_type, FrameHeader, HEADER_LEN};
use crate::format::segment_header::SegmentHeader;
use crate::format::tail_page;
use crate::lsn::{Lsn, Seq};
use crate::vfs::{read_full_at, File, OpenMode, Vfs};
use crate::wal::layout::{segment_name, Layout};
use crate::wal::replay::segment_reader::{SegmentReader, Step, StopCause};
use crate::wal::replay::structure::{OpenBatch, Structure};
use crate::wal::report::{EvidenceSource, RecoveryReport, Verdict};
use crate::wal::segment_file::open_segment;
use crate::wal::survey::Survey;

/// Bytes read at a time by the scan beyond X.
const SCAN_LEN: usize = 1 << 20;

/// The greatest promise found, and where it stood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) lsn: Lsn,
    pub(crate) source: EvidenceSource,
}

impl Evidence {
    fn raise(&mut self, lsn: Lsn, source: EvidenceSource) {
        if lsn > self.lsn {
            *self = Evidence { lsn, source };
        }
    }
}

/// A place at which the log was closed (no batch open).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClosedAt {
    pub(crate) lsn: Lsn,
    pub(crate) next_seq: Seq,
    /// Link that a frame here carries.
    pub(crate) link: u32,
    /// The last frame before, 0 if there is none in this segment.
    pub(crate) last_frame_lsn: Lsn,
}

/// How the walk of one segment ended.
#[derive(Debug)]
pub(crate) struct Walked {
    /// X.
    pub(crate) stop: Place,
    /// What stands at X, in words; empty if nothing is wrong with it.
    pub(crate) reason: String,
    pub(crate) structure: Structure,
    /// C.
    pub(crate) closed: ClosedAt,
    pub(crate) blank: bool,
    pub(crate) malformed: bool,
    pub(crate) at_limit: bool,
    pub(crate) read_error: Option<Error>,
    /// Link that a frame at X carries.
    pub(crate) link: u32,
    /// Newest CHECKPOINT in this segment.
    pub(crate) checkpoint_lsn: Lsn,
    /// Greatest promise in an accepted frame.
    pub(crate) promised: Lsn,
}

/// Walks `reader` from the first frame of its segment to the first place where no well-formed frame is
/// accepted.
pub(crate) fn walk(reader: &mut SegmentReader, first_seq: Seq) -> Walked {
    walk_on(reader, Structure::new(first_seq))
}

/// Walks `reader` from where it stands, with the log in the state `structure` there.
fn walk_on(reader: &mut SegmentReader, mut structure: Structure) -> Walked {
    let mut walked = Walked {
        stop: reader.place(),
        reason: String::new(),
        structure,
        closed: ClosedAt {
            lsn: reader.lsn(),
            next_seq: structure.next_seq,
            link: reader.link(),
            last_frame_lsn: Lsn::NONE,
        },
        blank: false,
        malformed: false,
        at_limit: false,
        read_error: None,
        link: reader.link(),
        checkpoint_lsn: Lsn::NONE,
        promised: Lsn::NONE,
    };
    while !structure.sealed {
        let (offset, link) = (reader.offset(), reader.link());
        let frame = match reader.step() {
            Ok(Step::Frame(frame)) => frame,
            Ok(Step::Stop(cause)) => {
                match cause {
                    StopCause::Limit => walked.at_limit = true,
                    StopCause::ZeroHeader | StopCause::OtherGeneration => walked.blank = true,
                    StopCause::Refused(reason) => walked.reason = reason,
                }
                break;
            }
            Err(error) => {
                walked.reason = error.to_string();
                walked.read_error = Some(error);
                break;
            }
        };
        let payload = reader.window().get(frame.payload.clone());
        if let Err(reason) = structure.accept(&frame.header, payload.unwrap_or_default()) {
            walked.reason = format!("an intact frame that can't stand here: {reason}");
            walked.malformed = true;
            reader.jump_to(offset, link);
            break;
        }
        walked.promised = walked.promised.max(frame.header.durable_lsn);
        if frame.header.frame_type == frame_type::CHECKPOINT {
            walked.checkpoint_lsn = frame.header.lsn;
        }
        if structure.open.is_none() {
            walked.closed = ClosedAt {
                lsn: reader.lsn(),
                next_seq: structure.next_seq,
                link: reader.link(),
                last_frame_lsn: frame.header.lsn,
            };
        }
    }
    walked.stop = reader.place();
    walked.link = reader.link();
    walked.structure = structure;
    walked
}

/// Walks the last segment from its last frame, if the control file says that the log was closed behind
/// it and the frame bears that out in all: link, length, number and payload. `None`, with the reader
/// where it was, if the whole segment has to be walked.
///
/// A clean close is a promise for all that lies before, synced before it was written, so no tear can lie
/// there. Damage can, as in any segment before; it is found by whoever reads it.
fn walk_from_close(
    survey: &Survey,
    reader: &mut SegmentReader,
    walk_len_max: u64,
) -> Option<Walked> {
    let number = reader.header().segment_number;
    let control = survey.control.newest.filter(|control| {
        control.closed && control.last_segment == number && control.durable_lsn == control.end_lsn
    })?;
    if reader.header().offset_of(control.end_lsn)? <= walk_len_max {
        return None;
    }
    let lsn = control.last_frame_lsn;
    let offset = reader.header().offset_of(lsn)?;
    let mut bytes = [0; HEADER_LEN];
    // An error of reading comes again, with its place, when the segment is walked.
    let len = read_full_at(reader.file(), offset, &mut bytes).ok()?;
    let head = FrameHeader::decode_live(&bytes[..len], reader.header().salt, lsn)?;
    let mut structure = Structure::new(head.first_seq);
    if head.frame_type == frame_type::BATCH && !head.has(frame_flag::BEGIN) {
        // The end of a batch of several frames, the first of which need not be known here.
        structure.open = Some(OpenBatch {
            batch_id: lsn,
            first_seq: head.first_seq,
            record_count: 0,
        });
    }
    let bookmark = reader.bookmark();
    reader.jump_to(offset, head.link);
    let mut walked = walk_on(reader, structure);
    let closed = walked.closed;
    let holds = closed.last_frame_lsn == lsn
        && closed.lsn == control.end_lsn
        && closed.link == control.end_link
        && closed.next_seq == control.next_seq
        && walked.stop.lsn == control.end_lsn
        && walked.read_error.is_none()
        && !walked.malformed;
    if !holds {
        reader.return_to(bookmark);
        return None;
    }
    walked.checkpoint_lsn = walked.checkpoint_lsn.max(control.checkpoint_lsn);
    Some(walked)
}

/// The last sequence number of the batch whose first frame stands at `batch_id` in the segment of
/// `reader`; `None` if no such batch is committed.
pub(crate) fn find_batch(
    reader: &mut SegmentReader,
    first_seq: Seq,
    batch_id: Lsn,
) -> Result<Option<Seq>> {
    let mut structure = Structure::new(first_seq);
    while !structure.sealed && reader.lsn() <= batch_id {
        let Step::Frame(frame) = reader.step()? else {
            return Ok(None);
        };
        let payload = reader.window().get(frame.payload).unwrap_or_default();
        let begins = frame.header.lsn == batch_id && frame.header.has(frame_flag::BEGIN);
        if structure.accept(&frame.header, payload).is_err() {
            return Ok(None);
        }
        if begins && frame.header.frame_type == frame_type::BATCH {
            return fate_of_open(reader, structure);
        }
        // A checkpoint is settled like a batch: its id is the LSN of its frame too.
        if frame.header.lsn == batch_id && frame.header.frame_type == frame_type::CHECKPOINT {
            return Ok(Some(frame.header.first_seq));
        }
    }
    Ok(None)
}

/// Walks from behind the first frame of a batch to its COMMIT, if it has one.
fn fate_of_open(reader: &mut SegmentReader, mut structure: Structure) -> Result<Option<Seq>> {
    while structure.open.is_some() {
        let Step::Frame(frame) = reader.step()? else {
            return Ok(None);
        };
        let payload = reader.window().get(frame.payload).unwrap_or_default();
        let aborted = frame.header.has(frame_flag::ABORT);
        if structure.accept(&frame.header, payload).is_err() || aborted {
            return Ok(None);
        }
    }
    Ok(Some(structure.next_seq - 1))
}

/// What stands beyond X in the last segment.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Beyond {
    /// A live frame stands beyond X (not at it).
    live: bool,
    /// Greatest promise in a live frame at or beyond X.
    promised: Lsn,
    /// Bytes from X to the last that is not zero.
    pub(crate) nonzero_len: u64,
}

/// Looks at every multiple of 8 from `from` (X) to the end of the file for live frames.
pub(crate) fn scan_beyond(reader: &SegmentReader, from: u64) -> std::io::Result<Beyond> {
    let header = reader.header();
    let mut beyond = Beyond::default();
    // Most logs are small when they are opened: no megabyte is cleared for a few bytes.
    let rest = usize::try_from(reader.file().len()?.saturating_sub(from)).unwrap_or(usize::MAX);
    let step = rest.clamp(8, SCAN_LEN).next_multiple_of(8);
    let mut chunk = vec![0; step + HEADER_LEN];
    let mut offset = from;
    loop {
        // Over what was never written: a file may claim any size. A frame could begin in the zeros
        // before the first byte that was.
        match reader.file().next_data(offset)? {
            None => return Ok(beyond),
            Some(data) => offset = offset.max(data.saturating_sub(HEADER_LEN as u64) & !7),
        }
        let len = read_full_at(reader.file(), offset, &mut chunk)?;
        let bytes = &chunk[..len];
        let nonzero_len = len_without_zeros(bytes);
        if nonzero_len > 0 {
            beyond.nonzero_len = offset - from + nonzero_len as u64;
        }
        // No live frame is 64 zeros, so none begins where only zeros follow.
        let starts = len
            .saturating_sub(HEADER_LEN - 1)
            .min(step)
            .min(nonzero_len);
        for at in (0..starts).step_by(8) {
            let place = offset + at as u64;
            let head = &bytes[at..at + HEADER_LEN];
            if let Some(live) = FrameHeader::decode_live(head, header.salt, header.lsn_at(place)) {
                beyond.live |= place > from;
                beyond.promised = beyond.promised.max(live.durable_lsn);
            }
        }
        if len < chunk.len() {
            return Ok(beyond);
        }
        offset += step as u64;
    }
}

/// Length of `bytes` up to the last that is not zero. Prepared space is most of what a scan sees,
/// so it is passed over in large steps.
fn len_without_zeros(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 512] = [0; 512];
    let mut len = bytes.len();
    while len >= ZEROS.len() && bytes[len - ZEROS.len()..len] == ZEROS {
        len -= ZEROS.len();
    }
    let last = bytes[..len].iter().rposition(|&byte| byte != 0);
    last.map_or(0, |last| last + 1)
}

/// The judgement of a whole log, or of its end.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) report: RecoveryReport,
    pub(crate) evidence: Evidence,
    /// The walk of the segment in which it was decided; `None` if no segment could be walked.
    pub(crate) walked: Option<Walked>,
    /// The error that a reader gets at X, if the verdict is CORRUPT or I/O ERROR.
    pub(crate) error: Option<Error>,
}

impl Judgement {
    /// Whether the end is clean and everything up to it is covered by evidence.
    pub(crate) fn is_clean(&self) -> bool {
        self.report.verdict == Verdict::CleanEnd
    }
}

/// How much of a log to walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extent {
    /// What opening needs: the last segment. If the log was closed in it behind more bytes than these,
    /// and that can be relied on, only what follows its last frame.
    End { walk_len_max: u64 },
    /// The whole last segment.
    LastSegment,
    /// Every segment.
    Whole,
}

/// Told how many segments have been judged, and of how many; false stops.
pub(crate) type Progress<'a> = dyn FnMut(u64, u64) -> bool + 'a;

/// For who does not want to be told.
pub(crate) fn silent(_: u64, _: u64) -> bool {
    true
}

/// Judges a log. Reads only; damage is part of the answer.
pub(crate) fn judge(
    vfs: &dyn Vfs,
    layout: &Layout,
    survey: &Survey,
    extent: Extent,
    progress: &mut Progress<'_>,
) -> Result<Judgement> {
    let start = vfs.monotonic_ns();
    let mut judgement = judge_segments(vfs, layout, survey, extent, progress)?;
    judgement.report.duration_ns = vfs.monotonic_ns().saturating_sub(start);
    Ok(judgement)
}

fn judge_segments(
    vfs: &dyn Vfs,
    layout: &Layout,
    survey: &Survey,
    extent: Extent,
    progress: &mut Progress<'_>,
) -> Result<Judgement> {
    let evidence = outside_evidence(vfs, layout, survey);
    let mut end = None;
    // Of the headers of segments that are not judged not all have been read.
    let last = survey.segments.last_number();
    for header in survey.segments.headers() {
        let number = header.segment_number;
        let is_last = Some(number) == last && survey.unusable.is_none();
        if !is_last && extent != Extent::Whole {
            continue;
        }
        let total = survey.last_segment - survey.first_segment + 1;
        if !progress(number - survey.first_segment, total) {
            return Err(Error::new(ErrorKind::Stopped, "stopped by the caller"));
        }
        let (file, _) = open_segment(vfs, layout, number)?;
        let mut reader = SegmentReader::new(file, layout.segment(number), header.clone());
        let successor = survey.segments.get(number + 1).ok().flatten();
        if is_last {
            return Ok(judge_last(survey, &mut reader, evidence, extent));
        }
        let Some(successor) = successor else {
            // The next one can't be used: what is before it counts, up to where it is accepted.
            let walked = walk(&mut reader, header.first_seq);
            if walked.read_error.is_none() && !walked.malformed {
                end = Some(walked.closed);
                continue;
            }
            let row = if walked.malformed { Row::W } else { Row::R };
            return Ok(conclude(survey, evidence, row, walked, Beyond::default()));
        };
        if let Some(judgement) = judge_inner(survey, &mut reader, successor, evidence) {
            return Ok(judgement);
        }
    }
    Ok(conclude_missing(survey, evidence, end))
}

/// Judges a segment that has a successor; `None` means "go on".
fn judge_inner(
    survey: &Survey,
    reader: &mut SegmentReader,
    successor: &SegmentHeader,
    evidence: Evidence,
) -> Option<Judgement> {
    reader.set_limit(successor.prev_end_lsn);
    let mut walked = walk(reader, reader.header().first_seq);
    let at_declared_end =
        walked.stop.lsn == successor.prev_end_lsn && walked.structure.open.is_none();
    let declared_link_holds =
        walked.link == successor.prev_link && walked.structure.next_seq == successor.first_seq;
    let row = decide(&Findings {
        read_failed: walked.read_error.is_some(),
        malformed: walked.malformed,
        at_declared_end,
        declared_link_holds,
        ..Findings::default()
    });
    if row == Row::S3 {
        return None;
    }
    if walked.reason.is_empty() {
        walked.reason = match row {
            Row::S2 => format!(
                "link {:#010x} and next sequence number {}, the next segment expects {:#010x} and {}",
                walked.link,
                walked.structure.next_seq,
                successor.prev_link,
                successor.first_seq
            ),
            _ => format!(
                "the segment ends at LSN {}, the next one expects {}",
                walked.stop.lsn, successor.prev_end_lsn
            ),
        };
    }
    Some(conclude(survey, evidence, row, walked, Beyond::default()))
}

fn judge_last(
    survey: &Survey,
    reader: &mut SegmentReader,
    mut evidence: Evidence,
    extent: Extent,
) -> Judgement {
    let header = reader.header().clone();
    evidence.raise(header.durable_lsn, EvidenceSource::SegmentHeader);
    evidence.raise(header.base_lsn, EvidenceSource::SegmentHeader);
    let from_close = match extent {
        Extent::End { walk_len_max } => walk_from_close(survey, reader, walk_len_max),
        Extent::LastSegment | Extent::Whole => None,
    };
    let mut walked = from_close.unwrap_or_else(|| walk(reader, header.first_seq));
    evidence.raise(walked.promised, EvidenceSource::Frame);
    let mut beyond = Beyond::default();
    if !walked.structure.sealed && walked.read_error.is_none() {
        match scan_beyond(reader, walked.stop.offset) {
            Ok(found) => beyond = found,
            Err(error) => {
                let error = Error::io("read", &reader.place().path.unwrap_or_default(), error)
                    .at(walked.stop.clone());
                walked.reason = error.to_string();
                walked.read_error = Some(error);
            }
        }
        evidence.raise(beyond.promised, EvidenceSource::FrameBeyond);
    }
    let row = decide(&Findings {
        read_failed: walked.read_error.is_some(),
        malformed: walked.malformed,
        last_segment: true,
        below_evidence: walked.stop.lsn < evidence.lsn,
        batch_open: walked.structure.open.is_some(),
        sealed: walked.structure.sealed,
        blank: walked.blank,
        live_beyond: beyond.live,
        ..Findings::default()
    });
    if walked.reason.is_empty() {
        walked.reason = match row {
            Row::Z => String::new(),
            Row::T if beyond.live => "live frames stand beyond an empty place".to_string(),
            Row::T => "a batch without its COMMIT".to_string(),
            _ => "no frame stands here".to_string(),
        };
    }
    conclude(survey, evidence, row, walked, beyond)
}

/// Promises that stand outside the segments: control file and tail page.
fn outside_evidence(vfs: &dyn Vfs, layout: &Layout, survey: &Survey) -> Evidence {
    let mut evidence = Evidence {
        lsn: Lsn::NONE,
        source: EvidenceSource::SegmentHeader,
    };
    if let Some(control) = survey.control.newest {
        evidence.raise(control.durable_lsn, EvidenceSource::Control);
    }
    let tail = vfs.open(&layout.tail(), OpenMode::Read);
    let page = tail.ok().and_then(|file| read_tail(file.as_ref()));
    if let Some(page) = decode_tail(vfs, page, &survey.log_id()) {
        evidence.raise(page.durable_lsn, EvidenceSource::TailPage);
    }
    evidence
}

/// The bytes of the tail page as they are now. Its loss is no error.
pub(crate) fn read_tail(file: &dyn File) -> Option<Vec<u8>> {
    let mut page = vec![0; tail_page::PAGE_LEN];
    let len = read_full_at(file, 0, &mut page).ok()?;
    page.truncate(len);
    Some(page)
}

/// What the tail page says, if it is of this log and this boot.
pub(crate) fn decode_tail(
    vfs: &dyn Vfs,
    page: Option<Vec<u8>>,
    log_id: &[u8; 16],
) -> Option<tail_page::TailPage> {
    tail_page::decode(&page?, log_id, &vfs.boot_id().ok()?)
}

fn conclude(
    survey: &Survey,
    evidence: Evidence,
    row: Row,
    mut walked: Walked,
    beyond: Beyond,
) -> Judgement {
    let verdict = row.verdict();
    let stop = walked.stop.clone();
    let name = segment_name(stop.segment);
    let at = format!("{name} at offset {} (LSN {})", stop.offset, stop.lsn);
    let error = match verdict {
        Verdict::IoError => Some(walked.read_error.take().unwrap_or_else(|| {
            Error::new(ErrorKind::Io, format!("row R: {at}: {}", walked.reason))
        })),
        Verdict::Corrupt => {
            let what = match row {
                Row::E => format!(
                    "{}; everything below LSN {} was durable",
                    walked.reason, evidence.lsn
                ),
                _ => walked.reason.clone(),
            };
            let message = format!("row {}: {at}: {what}", row.label());
            Some(Error::new(ErrorKind::Corrupt, message).at(stop.clone()))
        }
        Verdict::CleanEnd | Verdict::Torn => None,
    };
    let reason = match &error {
        Some(error) => error.to_string(),
        None if walked.reason.is_empty() => String::new(),
        None => format!("row {}: {at}: {}", row.label(), walked.reason),
    };
    Judgement {
        report: RecoveryReport {
            verdict,
            row: row.label(),
            segment: stop.segment,
            offset: stop.offset,
            lsn: stop.lsn,
            end_lsn: walked.closed.lsn,
            next_seq: walked.closed.next_seq,
            evidence_lsn: evidence.lsn,
            evidence_source: evidence.source,
            dropped_bytes: stop
                .lsn
                .0
                .saturating_sub(walked.closed.lsn.0)
                .saturating_add(beyond.nonzero_len),
            dropped_records: walked.structure.open.map_or(0, |open| open.record_count),
            rescued_bytes: 0,
            control: survey.control.state,
            first_segment: survey.first_segment,
            last_segment: survey.last_segment,
            truncated_seq: survey.truncated_seq,
            reason,
            duration_ns: 0,
            repaired: false,
        },
        evidence,
        walked: Some(walked),
        error,
    }
}

/// Row M. `end` is where the segment before was closed last, if it was walked.
fn conclude_missing(survey: &Survey, evidence: Evidence, end: Option<ClosedAt>) -> Judgement {
    let (segment, error) = match &survey.unusable {
        Some(unusable) => (unusable.number, unusable.error.duplicate()),
        None => (
            survey.first_segment,
            Error::new(ErrorKind::Internal, "no segment was judged"),
        ),
    };
    let place = error.place().clone();
    Judgement {
        report: RecoveryReport {
            verdict: Row::M.verdict(),
            row: Row::M.label(),
            segment,
            offset: place.offset,
            lsn: place.lsn,
            end_lsn: end.map_or(Lsn::NONE, |end| end.lsn),
            next_seq: end.map_or(0, |end| end.next_seq),
            evidence_lsn: evidence.lsn,
            evidence_source: evidence.source,
            dropped_bytes: 0,
            dropped_records: 0,
            rescued_bytes: 0,
            control: survey.control.state,
            first_segment: survey.first_segment,
            last_segment: survey.last_segment,
            truncated_seq: survey.truncated_seq,
            reason: error.to_string(),
            duration_ns: 0,
            repaired: false,
        },
        evidence,
        walked: None,
        error: Some(error),
    }
}
