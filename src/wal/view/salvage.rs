//! The view of a reader that takes what it can get (policy `Salvage`): every segment whose header can be
//! used or is given back by its frames, and no end but the end of the files.

use super::{no_log, End, LogView, State};
use crate::error::{ErrorKind, Result};
use crate::format::segment_header::SegmentHeader;
use crate::lsn::Lsn;
use crate::sync::Mutex;
use crate::vfs::Vfs;
use crate::wal::layout::Layout;
use crate::wal::recovery::judge::{judge, silent, Extent};
use crate::wal::replay::rebuild::rebuild_headers;
use crate::wal::report::RecoveryReport;
use crate::wal::segments::Segments;
use crate::wal::survey::{survey, survey_damaged, usable_segments, Found, Headers};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of a log that is read by whatever can be read of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Salvaged {
    /// The log begins with this segment.
    pub(crate) first_segment: u64,
    /// The log goes up to this segment.
    pub(crate) last_segment: u64,
    /// And at least up to here.
    pub(crate) evidence_lsn: Lsn,
}

impl LogView {
    /// See the module; with the report of what a judge of the log says.
    pub(crate) fn of_salvager(
        vfs: Arc<dyn Vfs>,
        layout: Layout,
    ) -> Result<(LogView, RecoveryReport)> {
        let (surveyed, lone) = match survey(vfs.as_ref(), &layout, Headers::All) {
            // One file that does not begin like a segment, or one whose beginning can't be read: what
            // stands behind may say what it is. Or the control file can't be read.
            Err(error) if matches!(error.kind(), ErrorKind::NotALog | ErrorKind::Io) => {
                (survey_damaged(vfs.as_ref(), &layout)?, Some(error))
            }
            surveyed => (surveyed?, None),
        };
        let Found::Log(found) = surveyed else {
            return Err(no_log(&layout));
        };
        let report = judge(vfs.as_ref(), &layout, &found, Extent::Whole, &mut silent)?.report;
        let mut segments = usable_segments(vfs.as_ref(), &layout, found.first_segment)?;
        keep_one_log(&mut segments, &found.log_id());
        let damaged = rebuild_headers(vfs.as_ref(), &layout, &found, &mut segments)?;
        if let (Some(error), true) = (lone, segments.is_empty()) {
            return Err(error);
        }
        let view = LogView {
            vfs,
            layout,
            read_only: false,
            extent: Extent::Whole,
            damaged,
            salvaged: Some(Salvaged {
                first_segment: found.first_segment,
                last_segment: found.last_segment,
                evidence_lsn: report.evidence_lsn,
            }),
            state: Mutex::new(State {
                segments: Segments::read(segments),
                end: End {
                    lsn: Lsn(u64::MAX),
                    raw_lsn: Lsn(u64::MAX),
                    torn: false,
                    error: None,
                },
                truncated_seq: found.truncated_seq,
                control_generation: 0,
                writer_live: false,
                watch: Arc::default(),
            }),
        };
        Ok((view, report))
    }
}

/// Keeps the segments of one log: the one that most of them belong to, or `log_id` of several that
/// are equal in that. What is damaged may be the control file that says which it is.
fn keep_one_log(segments: &mut BTreeMap<u64, SegmentHeader>, log_id: &[u8; 16]) {
    let mut counts: BTreeMap<[u8; 16], usize> = BTreeMap::new();
    for header in segments.values() {
        *counts.entry(header.log_id).or_default() += 1;
    }
    let most = counts
        .iter()
        .max_by_key(|(id, count)| (**count, *id == log_id));
    if let Some(kept) = most.map(|(id, _)| *id) {
        segments.retain(|_, header| header.log_id == kept);
    }
}
