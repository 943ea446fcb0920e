//! What the log tells about itself: the report of its recovery, and its statistics.

use crate::lsn::{Lsn, Seq};
use std::fmt;
use std::path::PathBuf;

/// How the end of the log was judged (FORMAT.md section 13).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Verdict {
    /// The log ends where its last writer left it.
    CleanEnd = 0,
    /// A crash cut it: what was being written then is gone, nothing acknowledged is.
    Torn = 1,
    /// Acknowledged data, or the structure, is damaged.
    Corrupt = 2,
    /// A file could not be read: nothing can be said about the end.
    IoError = 3,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::CleanEnd => "CLEAN_END",
            Verdict::Torn => "TORN",
            Verdict::Corrupt => "CORRUPT",
            Verdict::IoError => "IO_ERROR",
        })
    }
}

/// What was found of the control file (FORMAT.md section 9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum ControlState {
    /// Both slots are valid.
    Good = 0,
    /// One slot is valid.
    OneSlot = 1,
    /// None is: it is missing, or was lost.
    Lost = 2,
}

/// Which kind of promise the evidence came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum EvidenceSource {
    /// The header of the last segment.
    SegmentHeader = 0,
    /// A frame that was accepted.
    Frame = 1,
    /// A live frame behind the place where the walk stopped.
    FrameBeyond = 2,
    /// The control file.
    Control = 3,
    /// The tail page of this boot.
    TailPage = 4,
}

/// What opening the log found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveryReport {
    /// The judgement.
    pub verdict: Verdict,
    /// Row of the decision table: R, M, W, S1, S2, S3, E, Z or T (FORMAT.md section 13).
    pub row: &'static str,
    /// Segment in which the walk stopped (X).
    pub segment: u64,
    /// Offset of X in that segment.
    pub offset: u64,
    /// LSN of X.
    pub lsn: Lsn,
    /// Where the log ends (C): what lies below is kept.
    pub end_lsn: Lsn,
    /// Number that the next record takes.
    pub next_seq: Seq,
    /// The greatest promise found (E).
    pub evidence_lsn: Lsn,
    /// Where that promise stood.
    pub evidence_source: EvidenceSource,
    /// Bytes of accepted frames behind the end (C up to X) that are dropped, and what lies from X
    /// to the last byte that is not zero.
    pub dropped_bytes: u64,
    /// Records in accepted frames of an uncommitted batch at the end.
    pub dropped_records: u64,
    /// Committed bytes that no evidence covered, copied into a new segment.
    pub rescued_bytes: u64,
    /// What was found of the control file.
    pub control: ControlState,
    /// Smallest segment of the log.
    pub first_segment: u64,
    /// Greatest segment of the log, as found.
    pub last_segment: u64,
    /// Records up to this number are never replayed.
    pub truncated_seq: Seq,
    /// What was found, in words; empty if the end is clean.
    pub reason: String,
    /// How long the judgement and the recovery took.
    pub duration_ns: u64,
    /// Whether recovery wrote new files.
    pub repaired: bool,
}

/// What a repair found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepairReport {
    /// Whether anything had to be repaired.
    pub repaired: bool,
    /// The judgement of the whole log before.
    pub before: RecoveryReport,
    /// The judgement of the whole log after.
    pub after: RecoveryReport,
    /// The directory with copies of every segment from which something was dropped.
    pub side_directory: Option<PathBuf>,
}

/// Counters and marks of an open log. Counters start at 0 when the log is opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    /// Identity of the log.
    pub log_id: [u8; 16],
    /// The application's number.
    pub application_id: u32,
    /// Smallest segment.
    pub first_segment: u64,
    /// Greatest segment: the one being written.
    pub last_segment: u64,
    /// Segments there are.
    pub segment_count: u64,
    /// Bytes of all segment files.
    pub file_bytes: u64,
    /// Records up to this number are never replayed.
    pub truncated_seq: Seq,
    /// Greatest sequence number committed.
    pub last_seq: Seq,
    /// Everything below was written.
    pub written_lsn: Lsn,
    /// Everything below survives a power cut.
    pub durable_lsn: Lsn,
    /// Number of the newest CHECKPOINT, 0 if none.
    pub checkpoint_seq: Seq,
    /// Batches committed through this handle, single appends included.
    pub batch_count: u64,
    /// Records committed through this handle.
    pub record_count: u64,
    /// Groups written.
    pub group_count: u64,
    /// Syncs of segment files for groups.
    pub sync_count: u64,
    /// Bytes of frames written.
    pub written_bytes: u64,
    /// Segments begun by rotation.
    pub rotation_count: u64,
}
