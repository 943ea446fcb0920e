//! Looking at a log that this process does not write, without touching it: which segments there are
//! now, and where reading ends.
//!
//! Beside a live writer nothing is judged: the end is where the tail page says. Where there is none, the
//! end is judged as when the log is opened for writing. Either way the answer must be of one moment,
//! while files come and go: a look that a writer has disturbed is made again.

use super::{no_log, End, State, Watch};
use crate::error::{ErrorKind, Result};
use crate::lsn::Lsn;
use crate::vfs::Vfs;
use crate::wal::layout::Layout;
use crate::wal::recovery::judge::{decode_tail, judge, silent, Extent};
use crate::wal::report::{EvidenceSource, RecoveryReport, Verdict};
use crate::wal::survey::{survey, Found, Headers, Survey};
use std::sync::Arc;

/// How often a look is repeated when the writer changes the directory under it.
const LOOKS_MAX: u32 = 20;

/// Looks at a log without touching it.
pub(super) fn look(
    vfs: &dyn Vfs,
    layout: &Layout,
    extent: Extent,
) -> Result<(State, RecoveryReport)> {
    let mut outcome = look_once(vfs, layout, extent);
    for _ in 1..LOOKS_MAX {
        let disturbed = match &outcome {
            // Between listing and opening, a writer may have retired what was listed.
            Err(error) => error.kind() == ErrorKind::NotFound && vfs.list(layout.dir()).is_ok(),
            // Or have begun what was not listed: the control file, read after the list, names it.
            Ok((state, report)) => {
                report.row == "M"
                    && (state.writer_live || state.watch.writer_is_live(vfs, layout)?)
            }
        };
        if !disturbed {
            break;
        }
        outcome = look_once(vfs, layout, extent);
    }
    outcome
}

fn look_once(vfs: &dyn Vfs, layout: &Layout, extent: Extent) -> Result<(State, RecoveryReport)> {
    // The mark before the list: segments can only be added between the two, so every segment up
    // to the mark is in the list.
    let watch = Watch::default();
    let live = watch.writer_is_live(vfs, layout)?;
    let page = if live { watch.tail(vfs, layout) } else { None };
    let found = match survey(vfs, layout, Headers::Last)? {
        Found::Log(found) => *found,
        Found::Nothing | Found::Room | Found::Foreign(_) => {
            return Err(no_log(layout));
        }
    };
    let mark = decode_tail(vfs, page, &found.log_id());
    let (end, report) = match mark.filter(|_| found.unusable.is_none()) {
        Some(page) => look_at_live(&found, page.acknowledged_lsn),
        None => look_at_end(vfs, layout, &found, live, extent)?,
    };
    let state = State {
        end,
        control_generation: found.control.newest.map_or(0, |newest| newest.generation),
        truncated_seq: found.truncated_seq,
        segments: found.segments,
        writer_live: live,
        watch: Arc::new(watch),
    };
    Ok((state, report))
}

/// Beside a live writer nothing is judged: the end is where it says, and what lies beyond is being
/// written.
fn look_at_live(found: &Survey, acknowledged_lsn: Lsn) -> (End, RecoveryReport) {
    let end = End {
        lsn: acknowledged_lsn,
        raw_lsn: acknowledged_lsn,
        torn: false,
        error: None,
    };
    let report = RecoveryReport {
        verdict: Verdict::CleanEnd,
        row: "LIVE",
        segment: found.last_segment,
        offset: 0,
        lsn: acknowledged_lsn,
        end_lsn: acknowledged_lsn,
        next_seq: 0,
        evidence_lsn: acknowledged_lsn,
        evidence_source: EvidenceSource::TailPage,
        dropped_bytes: 0,
        dropped_records: 0,
        rescued_bytes: 0,
        control: found.control.state,
        first_segment: found.first_segment,
        last_segment: found.last_segment,
        truncated_seq: found.truncated_seq,
        reason: String::new(),
        duration_ns: 0,
        repaired: false,
    };
    (end, report)
}

fn look_at_end(
    vfs: &dyn Vfs,
    layout: &Layout,
    found: &Survey,
    live: bool,
    extent: Extent,
) -> Result<(End, RecoveryReport)> {
    let mut judgement = judge(vfs, layout, found, extent, &mut silent)?;
    let end = match judgement.error.take() {
        Some(error) => End::refused(error),
        // A live writer without its page: only what it promised on disk is known to be
        // acknowledged.
        None if live => {
            let lsn = judgement.report.end_lsn.min(judgement.report.evidence_lsn);
            End {
                lsn,
                raw_lsn: lsn,
                torn: false,
                error: None,
            }
        }
        None => End {
            lsn: judgement.report.end_lsn,
            raw_lsn: judgement.report.lsn,
            torn: judgement.report.verdict == Verdict::Torn,
            error: None,
        },
    };
    Ok((end, judgement.report))
}
