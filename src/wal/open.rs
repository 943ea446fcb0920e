//! Opening a log: creation, recovery, and questions that are answered by walking it.

use super::append::group_committer::{CallLeader, GroupCommitter, GroupLimits};
use super::append::leaders;
use super::append::segment_writer::{retire, Runway, SegmentWriter, WriterStart};
use super::append::tail::Tail;
use super::control_file::{ControlFile, ControlFound};
use super::housekeeper::Charge;
use super::layout::Layout;
use super::options::{OpenHow, RecoveryPolicy, SyncMode, WalOptions};
use super::recovery::judge::{find_batch, judge, silent, Extent, Judgement, Progress};
use super::recovery::repair::repair;
use super::recovery::restart::{new_salt, restart};
use super::replay::cursor::{Cursor, EntryKind};
use super::report::{ControlState, EvidenceSource, RecoveryReport, RepairReport, Verdict};
use super::segment_file::{check_ready_dir, discard, prepare_segment, publish_segment};
use super::segments::Segments;
use super::survey::{glance, survey, Found, Headers, Survey};
use super::view::{no_log, End, Limit, LogView};
use super::{BatchStatus, Checkpoint, Wal};
use crate::error::{Error, ErrorKind, Result};
use crate::format::control::Control;
use crate::format::segment_header::{SegmentHeader, HEADER_SIZE};
use crate::format::FORMAT_MINOR;
use crate::lsn::{Lsn, Seq};
use crate::vfs::{os, LockGuard, LockOutcome, OpenMode, Vfs};
use once_cell::sync::OnceCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Opens a log as `options` say.
pub(crate) fn open(vfs: Arc<dyn Vfs>, layout: Layout, options: &WalOptions) -> Result<Wal> {
    if options.how == OpenHow::ReadOnly {
        return open_read_only(vfs, layout, options);
    }
    // Only names are looked at before the lock is taken: files may be another writer's unfinished
    // work. Where there is no log and none may be made, nothing is left behind, not even LOCK.
    match (glance(vfs.as_ref(), &layout)?, options.how) {
        (Some(Found::Nothing | Found::Room), OpenHow::MustExist) => return Err(no_log(&layout)),
        (Some(Found::Foreign(name)), _) => return Err(foreign(&layout, &name)),
        (Some(Found::Nothing), _) => make_directory(vfs.as_ref(), &layout)?,
        _ => {}
    }
    let lock = take_lock(vfs.as_ref(), &layout)?;
    match survey(vfs.as_ref(), &layout, Headers::Last)? {
        Found::Log(_) if options.how == OpenHow::MustCreate => Err(exists(&layout)),
        Found::Log(found) => open_existing(vfs, layout, options, lock, *found),
        Found::Foreign(name) => Err(foreign(&layout, &name)),
        Found::Nothing | Found::Room if options.how == OpenHow::MustExist => Err(no_log(&layout)),
        Found::Nothing | Found::Room => create(vfs, layout, options, lock),
    }
}

fn exists(layout: &Layout) -> Error {
    Error::new(
        ErrorKind::Exists,
        format!("there is a log at {} already", layout.dir().display()),
    )
    .at(layout.place())
}

fn foreign(layout: &Layout, name: &str) -> Error {
    Error::new(
        ErrorKind::NotALog,
        format!(
            "{} holds other files ({name}) and no log",
            layout.dir().display()
        ),
    )
    .at(layout.place())
}

fn make_directory(vfs: &dyn Vfs, layout: &Layout) -> Result<()> {
    match vfs.create_dir(layout.dir()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("create directory", layout.dir(), error)),
    }
    Ok(())
}

fn take_lock(vfs: &dyn Vfs, layout: &Layout) -> Result<Box<dyn LockGuard>> {
    let path = layout.lock();
    let outcome = vfs
        .lock(&path, &os::describe_this_process())
        .map_err(|error| Error::io("lock", &path, error))?;
    match outcome {
        LockOutcome::Acquired(guard) => Ok(guard),
        LockOutcome::Held(holder) => Err(Error::new(
            ErrorKind::Busy,
            format!("{} is open for writing by {holder}", layout.dir().display()),
        )
        .at(layout.place())),
    }
}

/// Makes a new log (FORMAT.md section 14.1).
fn create(
    vfs: Arc<dyn Vfs>,
    layout: Layout,
    options: &WalOptions,
    lock: Box<dyn LockGuard>,
) -> Result<Wal> {
    let begin = vfs.monotonic_ns();
    // The log's own name: without this a power cut could take the directory with all that is
    // acknowledged in it. Also where the directory was there before: a creation that died may
    // have left it without this.
    vfs.sync_dir(layout.parent())
        .map_err(|error| Error::sync(layout.parent(), error))?;
    let mut log_id = [0; 16];
    vfs.random(&mut log_id)
        .map_err(|error| Error::io("read random bytes for", layout.dir(), error))?;
    let header = SegmentHeader {
        format_minor: FORMAT_MINOR,
        header_size: HEADER_SIZE,
        read_only_compatible: 0,
        compatible: 0,
        flags: 0,
        log_id,
        segment_number: 1,
        base_lsn: Lsn::FIRST,
        first_seq: 1,
        prev_end_lsn: Lsn::FIRST,
        prev_link: 0,
        salt: new_salt(vfs.as_ref())?,
        durable_lsn: Lsn::NONE,
        checkpoint_lsn: Lsn::NONE,
        allocated_size: u64::from(HEADER_SIZE),
        created_ns: vfs.now_ns(),
        application_id: options.application_id,
    };
    clear_ready(vfs.as_ref(), &layout)?;
    prepare_segment(vfs.as_ref(), &layout, &header, |_| Ok(()))?;
    publish_segment(vfs.as_ref(), &layout, 1)?;
    let found = Survey {
        control: ControlFound::lost(),
        segments: Segments::read(BTreeMap::from([(1, header.clone())])),
        unusable: None,
        first_segment: 1,
        last_segment: 1,
        truncated_seq: 0,
        retired: Vec::new(),
    };
    let report = RecoveryReport {
        verdict: Verdict::CleanEnd,
        row: "Z",
        segment: 1,
        offset: u64::from(HEADER_SIZE),
        lsn: header.base_lsn,
        end_lsn: header.base_lsn,
        next_seq: 1,
        evidence_lsn: header.base_lsn,
        evidence_source: EvidenceSource::SegmentHeader,
        dropped_bytes: 0,
        dropped_records: 0,
        rescued_bytes: 0,
        control: ControlState::Good,
        first_segment: 1,
        last_segment: 1,
        truncated_seq: 0,
        reason: String::new(),
        duration_ns: vfs.monotonic_ns().saturating_sub(begin),
        repaired: false,
    };
    let start = Start {
        end_lsn: header.base_lsn,
        link: header.link(),
        next_seq: 1,
        last_frame_lsn: Lsn::NONE,
        checkpoint_lsn: Lsn::NONE,
    };
    start_writer(vfs, layout, options, lock, &found, start, report)
}

/// Where the writer goes on, in the last segment of a survey.
struct Start {
    end_lsn: Lsn,
    link: u32,
    next_seq: Seq,
    last_frame_lsn: Lsn,
    checkpoint_lsn: Lsn,
}

fn open_existing(
    vfs: Arc<dyn Vfs>,
    layout: Layout,
    options: &WalOptions,
    lock: Box<dyn LockGuard>,
    mut found: Survey,
) -> Result<Wal> {
    let begin = vfs.monotonic_ns();
    let extent = extent_of(options);
    let judgement = judge(vfs.as_ref(), &layout, &found, extent, &mut silent)?;
    if let Some(error) = &judgement.error {
        return Err(error.duplicate());
    }
    let Some(last) = found.segments.headers().next_back().cloned() else {
        return Err(Error::new(ErrorKind::Internal, "a log without segments"));
    };
    check_application(options, &last)?;
    check_truncation(&layout, &found, &judgement)?;
    if last.read_only_compatible != 0 {
        return Err(Error::new(
            ErrorKind::Newer,
            format!(
                "feature bits {:#x} are needed for writing, none are known here",
                last.read_only_compatible
            ),
        ));
    }
    if options.recovery_policy == RecoveryPolicy::Strict && !judgement.is_clean() {
        return Err(Error::new(
            ErrorKind::Unclean,
            format!("the log has an unclean end: {}", judgement.report.reason),
        )
        .at(crate::error::Place {
            path: Some(layout.segment(judgement.report.segment)),
            segment: judgement.report.segment,
            offset: judgement.report.offset,
            lsn: judgement.report.lsn,
        }));
    }
    clear_ready(vfs.as_ref(), &layout)?;
    let mut report = judgement.report.clone();
    let start = match continue_behind(&found, &judgement) {
        Some(start) => start,
        None => {
            let restarted = restart(vfs.as_ref(), &layout, &last, &judgement)?;
            report.repaired = true;
            report.rescued_bytes = restarted.rescued_bytes;
            for header in restarted.segments {
                found.last_segment = header.segment_number;
                found.segments.insert(header);
            }
            let Some(fresh) = found.segments.headers().next_back() else {
                return Err(Error::new(ErrorKind::Internal, "restart made no segment"));
            };
            Start {
                end_lsn: fresh.base_lsn,
                link: fresh.link(),
                next_seq: fresh.first_seq,
                last_frame_lsn: Lsn::NONE,
                checkpoint_lsn: fresh.checkpoint_lsn,
            }
        }
    };
    report.duration_ns = vfs.monotonic_ns().saturating_sub(begin);
    start_writer(vfs, layout, options, lock, &found, start, report)
}

/// How much of the log opening looks at.
fn extent_of(options: &WalOptions) -> Extent {
    match options.recovery_policy {
        RecoveryPolicy::Strict => Extent::LastSegment,
        RecoveryPolicy::Default | RecoveryPolicy::Salvage => Extent::End {
            walk_len_max: options.walk_len_max,
        },
    }
}

/// Where to go on in the last segment, if its last writer closed it and nothing happened since
/// (FORMAT.md section 14.2).
fn continue_behind(found: &Survey, judgement: &Judgement) -> Option<Start> {
    let control = found.control.newest.as_ref()?;
    let walked = judgement.walked.as_ref()?;
    let closed = walked.closed;
    let goes_on = judgement.is_clean()
        && !walked.structure.sealed
        && control.closed
        && control.end_lsn == closed.lsn
        && control.durable_lsn == closed.lsn;
    goes_on.then_some(Start {
        end_lsn: closed.lsn,
        link: closed.link,
        next_seq: closed.next_seq,
        last_frame_lsn: closed.last_frame_lsn,
        checkpoint_lsn: control.checkpoint_lsn.max(walked.checkpoint_lsn),
    })
}

/// Numbers that are still to be given can't have been truncated: what would be appended would be
/// acknowledged and never shown.
fn check_truncation(layout: &Layout, found: &Survey, judgement: &Judgement) -> Result<()> {
    let (truncated_seq, next_seq) = (found.truncated_seq, judgement.report.next_seq);
    if truncated_seq < next_seq {
        return Ok(());
    }
    let message = format!(
        "{} says that records up to {truncated_seq} were truncated, the next one takes {next_seq}",
        layout.control().display()
    );
    Err(
        Error::new(ErrorKind::Corrupt, message).at(crate::error::Place {
            path: Some(layout.control()),
            ..crate::error::Place::default()
        }),
    )
}

fn check_application(options: &WalOptions, header: &SegmentHeader) -> Result<()> {
    let (wanted, found) = (options.application_id, header.application_id);
    if wanted == 0 || wanted == found {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the log has application id {found}, expected {wanted}"
    )))
}

/// Deletes what a writer that died had prepared.
fn clear_ready(vfs: &dyn Vfs, layout: &Layout) -> Result<()> {
    if !check_ready_dir(vfs, layout)? {
        return Ok(());
    }
    match vfs.list(&layout.ready()) {
        Ok(entries) => {
            for entry in entries.iter().filter(|entry| entry.is_file) {
                discard(vfs, &layout.ready().join(&entry.name))?;
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("list", &layout.ready(), error)),
    }
}

fn start_writer(
    vfs: Arc<dyn Vfs>,
    layout: Layout,
    options: &WalOptions,
    lock: Box<dyn LockGuard>,
    found: &Survey,
    start: Start,
    report: RecoveryReport,
) -> Result<Wal> {
    let Some(header) = found.segments.headers().next_back().cloned() else {
        return Err(Error::new(ErrorKind::Internal, "a log without segments"));
    };
    let path = layout.segment(header.segment_number);
    let control = Control {
        closed: false,
        log_id: header.log_id,
        generation: 0,
        first_segment: found.first_segment,
        last_segment: header.segment_number,
        truncated_seq: found.truncated_seq,
        durable_lsn: start.end_lsn,
        checkpoint_lsn: start.checkpoint_lsn,
        end_lsn: Lsn::NONE,
        next_seq: 0,
        last_frame_lsn: Lsn::NONE,
        end_link: 0,
        time_ns: vfs.now_ns(),
    };
    let control = ControlFile::install(vfs.as_ref(), &layout, &found.control, control)?;
    retire(vfs.as_ref(), &layout, &found.retired)?;
    let tail = Tail::install(
        vfs.as_ref(),
        &layout,
        header.log_id,
        header.segment_number,
        start.end_lsn,
    )?;
    let file = vfs
        .open(&path, OpenMode::ReadWrite)
        .map_err(|error| Error::io("open", &path, error))?;
    let view = Arc::new(LogView::of_writer(
        Arc::clone(&vfs),
        layout.clone(),
        found.segments.clone(),
        start.end_lsn,
        found.truncated_seq,
    ));
    let runway = match options.groups_in_flight_max {
        2.. if options.sync_mode == SyncMode::Every => Runway::probe(vfs.as_ref(), &layout)?,
        _ => None,
    };
    let limits = GroupLimits {
        flights_max: match runway {
            Some(_) => options.groups_in_flight_max as usize,
            None => 0,
        },
        buffer_len_max: options.buffer_bytes_max as usize,
    };
    let writer = SegmentWriter::new(
        Arc::clone(&vfs),
        layout,
        Arc::clone(&view),
        control,
        tail,
        lock,
        options,
        runway,
        WriterStart {
            header: header.clone(),
            file,
            end_lsn: start.end_lsn,
            link: start.link,
            next_seq: start.next_seq,
            last_frame_lsn: start.last_frame_lsn,
            checkpoint_lsn: start.checkpoint_lsn,
        },
    )?;
    let fork_count = vfs.fork_count();
    let committer = Arc::new_cyclic(|committer| {
        let committer: Weak<GroupCommitter<SegmentWriter>> = Weak::clone(committer);
        let call: CallLeader = Box::new(move || leaders::call(&committer, fork_count));
        GroupCommitter::new(writer, limits, vfs.background().then_some(call))
    });
    let interval = match options.sync_mode {
        SyncMode::Interval { millis, .. } => Some(Duration::from_millis(u64::from(millis))),
        SyncMode::Every | SyncMode::Manual => None,
    };
    let charge = Charge::new(&committer, Arc::clone(&vfs), view.layout.clone(), interval);
    let charge = Arc::new(charge);
    Ok(Wal {
        charge: vfs.background().then_some(charge),
        view,
        committer: Some(committer),
        report,
        log_id: header.log_id,
        application_id: header.application_id,
        frame_payload_target: options.frame_payload_target,
        bell: OnceCell::new(),
        fork_count,
    })
}

fn open_read_only(vfs: Arc<dyn Vfs>, layout: Layout, options: &WalOptions) -> Result<Wal> {
    let (view, report) = match options.recovery_policy {
        RecoveryPolicy::Salvage => LogView::of_salvager(Arc::clone(&vfs), layout)?,
        RecoveryPolicy::Default | RecoveryPolicy::Strict => {
            LogView::of_reader(Arc::clone(&vfs), layout, extent_of(options))?
        }
    };
    let header = view.known_segment();
    // One that was rebuilt need not know the application.
    let known = |header: &&SegmentHeader| view.damaged_header(header.segment_number).is_none();
    if let Some(header) = header.as_ref().filter(known) {
        check_application(options, header)?;
    }
    if options.recovery_policy == RecoveryPolicy::Strict && report.verdict != Verdict::CleanEnd {
        return Err(Error::new(
            ErrorKind::Unclean,
            format!("the log has an unclean end: {}", report.reason),
        ));
    }
    Ok(Wal {
        log_id: header.as_ref().map_or([0; 16], |header| header.log_id),
        application_id: header.map_or(0, |header| header.application_id),
        view: Arc::new(view),
        committer: None,
        charge: None,
        frame_payload_target: options.frame_payload_target,
        report,
        bell: OnceCell::new(),
        fork_count: vfs.fork_count(),
    })
}

/// Judges every segment of a log.
pub(crate) fn verify(
    vfs: &dyn Vfs,
    layout: &Layout,
    progress: &mut Progress<'_>,
) -> Result<RecoveryReport> {
    match survey(vfs, layout, Headers::All)? {
        Found::Log(found) => Ok(judge(vfs, layout, &found, Extent::Whole, progress)?.report),
        Found::Foreign(name) => Err(foreign(layout, &name)),
        Found::Nothing | Found::Room => Err(no_log(layout)),
    }
}

/// Repairs a log under its writer's lock.
pub(crate) fn repair_log(
    vfs: &dyn Vfs,
    layout: &Layout,
    progress: &mut Progress<'_>,
) -> Result<RepairReport> {
    if glance(vfs, layout)?.is_some() {
        return Err(no_log(layout));
    }
    let lock = take_lock(vfs, layout)?;
    clear_ready(vfs, layout)?;
    let report = repair(vfs, layout, progress);
    drop(lock);
    report
}

/// Number of the last record or mark of a log that is read only.
pub(crate) fn last_seq(view: &Arc<LogView>) -> Result<Seq> {
    undisturbed(view, || search_last_seq(view))
}

fn search_last_seq(view: &Arc<LogView>) -> Result<Seq> {
    let Some(last) = view.last_segment()? else {
        return Ok(0);
    };
    let before = last.first_seq - 1;
    let mut cursor = Cursor::new(Arc::clone(view), before, true);
    let mut seq = before;
    while let Some(entry) = cursor.next()? {
        if entry.committed {
            seq = seq.max(entry.seq);
        }
    }
    Ok(seq)
}

/// How often a search is repeated when segments are truncated under it.
const SEARCHES_MAX: u32 = 20;

/// The answer of a search that no truncation cut short: one that met a segment which was being
/// truncated is made again in what is left.
fn undisturbed<T>(view: &LogView, search: impl Fn() -> Result<T>) -> Result<T> {
    let mut outcome = search();
    for _ in 1..SEARCHES_MAX {
        match &outcome {
            Err(error) if error.kind() == ErrorKind::Truncated => view.look_again()?,
            _ => break,
        }
        outcome = search();
    }
    outcome
}

/// The newest CHECKPOINT that is left.
pub(crate) fn last_checkpoint(view: &Arc<LogView>, hint: Lsn) -> Result<Option<Checkpoint>> {
    undisturbed(view, || search_checkpoint(view, hint))
}

/// The newest CHECKPOINT: that of the last segment's walk, or the one its header names.
fn search_checkpoint(view: &Arc<LogView>, hint: Lsn) -> Result<Option<Checkpoint>> {
    if hint == Lsn::NONE {
        return Ok(None);
    }
    // From the last segment backwards: each header names the newest CHECKPOINT before it, so at
    // most two segments are walked.
    let mut next = match hint {
        Lsn(u64::MAX) => view.last_segment()?,
        hint => view.segment_with(hint)?,
    };
    while let Some(header) = next {
        if let Some(found) = checkpoint_in(view, &header)? {
            return Ok(Some(found));
        }
        if header.checkpoint_lsn == Lsn::NONE {
            return Ok(None);
        }
        let before = view.segment_with(header.checkpoint_lsn)?;
        next = before.filter(|found| found.segment_number < header.segment_number);
    }
    Ok(None)
}

fn checkpoint_in(view: &Arc<LogView>, header: &SegmentHeader) -> Result<Option<Checkpoint>> {
    let mut cursor = Cursor::new(Arc::clone(view), header.first_seq - 1, true);
    let mut newest = None;
    let behind = view
        .segment(header.segment_number + 1)?
        .map(|next| next.base_lsn);
    while let Some(entry) = cursor.next()? {
        if behind.is_some_and(|behind| entry.batch_id >= behind) {
            break;
        }
        if entry.kind == EntryKind::Checkpoint {
            let len = entry.value.len();
            let mut data = Vec::new();
            data.try_reserve_exact(len)
                .map_err(|_| Error::no_memory("a checkpoint", len))?;
            data.extend_from_slice(entry.value);
            newest = Some(Checkpoint {
                seq: entry.seq,
                lsn: entry.batch_id,
                time_ns: entry.time_ns,
                data,
            });
        }
    }
    Ok(newest)
}

/// Whether the batch with this id is in the log.
pub(crate) fn batch_status(view: &Arc<LogView>, batch_id: Lsn) -> Result<BatchStatus> {
    if batch_id < Lsn::FIRST {
        return Ok(BatchStatus::Absent);
    }
    let first = view.first_segment()?;
    if first.is_some_and(|first| batch_id < first.base_lsn) {
        return Ok(BatchStatus::Truncated);
    }
    let Some(header) = view.segment_with(batch_id)? else {
        return Ok(BatchStatus::Absent);
    };
    let number = header.segment_number;
    let mut reader = match view.reader_of(&header) {
        Ok(reader) => reader,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BatchStatus::Truncated),
        Err(error) => return Err(error),
    };
    let limit = view.limit_of(number);
    if matches!(limit, Limit::Gone) {
        return Ok(BatchStatus::Truncated);
    }
    reader.set_limit(limit.lsn(false));
    let last_seq = find_batch(&mut reader, header.first_seq, batch_id)?;
    Ok(match last_seq {
        None => match limit {
            // It may stand behind the damage.
            Limit::End(End {
                error: Some(error), ..
            }) => return Err(error.duplicate()),
            _ => BatchStatus::Absent,
        },
        Some(seq) if seq <= view.truncated_seq() => BatchStatus::Truncated,
        Some(_) => BatchStatus::Committed,
    })
}
