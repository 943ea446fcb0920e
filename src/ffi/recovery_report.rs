//! What opening the log found and did.

#![allow(unsafe_code, reason = "exports a C symbol that takes pointers")]

use super::guard::guard;
use super::handle;
use super::sized::{SizedOut, SizedStruct};
use super::status::{duralog_status_t, OK};
use super::wal::wal_t;
use crate::wal::{ControlState, EvidenceSource, RecoveryReport, Verdict};
use std::ffi::c_char;

/// In verdict: the log ends where its last writer left it.
pub const WAL_VERDICT_CLEAN_END: i32 = 0;
/// In verdict: a crash cut it. What was being written then is gone, nothing acknowledged is.
pub const WAL_VERDICT_TORN: i32 = 1;
/// In verdict: acknowledged data, or the structure, is damaged.
pub const WAL_VERDICT_CORRUPT: i32 = 2;
/// In verdict: a file could not be read; nothing can be said about the end.
pub const WAL_VERDICT_IO_ERROR: i32 = 3;

/// In control_state: both slots of the control file are valid.
pub const WAL_CONTROL_GOOD: i32 = 0;
/// In control_state: one slot is valid.
pub const WAL_CONTROL_ONE_SLOT: i32 = 1;
/// In control_state: the control file is missing or was lost.
pub const WAL_CONTROL_LOST: i32 = 2;

/// In evidence_source: the header of the last segment.
pub const WAL_EVIDENCE_SEGMENT_HEADER: i32 = 0;
/// In evidence_source: a frame that was accepted.
pub const WAL_EVIDENCE_FRAME: i32 = 1;
/// In evidence_source: a live frame behind the place where the walk stopped.
pub const WAL_EVIDENCE_FRAME_BEYOND: i32 = 2;
/// In evidence_source: the control file.
pub const WAL_EVIDENCE_CONTROL: i32 = 3;
/// In evidence_source: the page that processes share while the log is open.
pub const WAL_EVIDENCE_TAIL_PAGE: i32 = 4;

/// What opening the log found and did (FORMAT.md sections 12 to 14). Start from
/// WAL_RECOVERY_REPORT_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct wal_recovery_report_t {
    /// Size of this struct; set by WAL_RECOVERY_REPORT_INIT.
    pub struct_size: u32,
    /// How the end of the log was judged: one of WAL_VERDICT_*.
    pub verdict: i32,
    /// What was found of the control file: one of WAL_CONTROL_*.
    pub control_state: i32,
    /// Where the greatest promise stood: one of WAL_EVIDENCE_*.
    pub evidence_source: i32,
    /// Segment in which reading stopped.
    pub segment: u64,
    /// Offset of that place in the segment's file.
    pub offset: u64,
    /// LSN of that place.
    pub lsn: u64,
    /// LSN at which the log ends: what lies below is kept.
    pub end_lsn: u64,
    /// Sequence number that the next record takes.
    pub next_seq: u64,
    /// The greatest LSN below which everything was promised to be durable.
    pub evidence_lsn: u64,
    /// Bytes behind the end that were left out.
    pub dropped_bytes: u64,
    /// Records of an uncommitted batch that were left out.
    pub dropped_records: u64,
    /// Committed bytes without evidence that were copied into a new segment.
    pub rescued_bytes: u64,
    /// Smallest segment of the log.
    pub first_segment: u64,
    /// Greatest segment of the log, as found.
    pub last_segment: u64,
    /// Records up to this number are never replayed.
    pub truncated_seq: u64,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
    /// 1: recovery wrote new files; 0: it did not.
    pub repaired: u32,
    /// 0.
    pub reserved: u32,
    /// Row of the decision table in FORMAT.md section 13, such as "Z", with a NUL.
    pub row: [c_char; 8],
    /// What was found, in words (UTF-8), with a NUL; empty if the end is clean.
    pub reason: [c_char; 512],
}

// SAFETY: `repr(C)`, `struct_size` first, integers and arrays of integers only.
unsafe impl SizedStruct for wal_recovery_report_t {
    const NAME: &'static str = "wal_recovery_report_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// What wal_open found and did; the same as long as the handle is open.
///
/// out_report: filled.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn wal_recovery_report(
    wal: *mut wal_t,
    out_report: *mut wal_recovery_report_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6 and 7: the caller promises an open handle and a struct of the size
        // it says.
        let (wal, out_report) = unsafe {
            (
                handle::shared("wal", wal)?,
                SizedOut::new("out_report", out_report)?,
            )
        };
        out_report.set(&convert(&wal.recovery_report()));
        Ok(OK)
    })
}

pub(super) fn convert(report: &RecoveryReport) -> wal_recovery_report_t {
    wal_recovery_report_t {
        struct_size: 0, // the caller's stays
        verdict: match report.verdict {
            Verdict::CleanEnd => WAL_VERDICT_CLEAN_END,
            Verdict::Torn => WAL_VERDICT_TORN,
            Verdict::Corrupt => WAL_VERDICT_CORRUPT,
            Verdict::IoError => WAL_VERDICT_IO_ERROR,
        },
        control_state: match report.control {
            ControlState::Good => WAL_CONTROL_GOOD,
            ControlState::OneSlot => WAL_CONTROL_ONE_SLOT,
            ControlState::Lost => WAL_CONTROL_LOST,
        },
        evidence_source: match report.evidence_source {
            EvidenceSource::SegmentHeader => WAL_EVIDENCE_SEGMENT_HEADER,
            EvidenceSource::Frame => WAL_EVIDENCE_FRAME,
            EvidenceSource::FrameBeyond => WAL_EVIDENCE_FRAME_BEYOND,
            EvidenceSource::Control => WAL_EVIDENCE_CONTROL,
            EvidenceSource::TailPage => WAL_EVIDENCE_TAIL_PAGE,
        },
        segment: report.segment,
        offset: report.offset,
        lsn: report.lsn.0,
        end_lsn: report.end_lsn.0,
        next_seq: report.next_seq,
        evidence_lsn: report.evidence_lsn.0,
        dropped_bytes: report.dropped_bytes,
        dropped_records: report.dropped_records,
        rescued_bytes: report.rescued_bytes,
        first_segment: report.first_segment,
        last_segment: report.last_segment,
        truncated_seq: report.truncated_seq,
        duration_ns: report.duration_ns,
        repaired: u32::from(report.repaired),
        reserved: 0,
        row: inline(report.row),
        reason: inline(&report.reason),
    }
}

/// As much of a text as fits with its NUL, cut between characters.
pub(super) fn inline<const N: usize>(text: &str) -> [c_char; N] {
    let mut len = text.len().min(N.saturating_sub(1));
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    let mut chars = [0; N];
    for (place, byte) in chars.iter_mut().zip(&text.as_bytes()[..len]) {
        *place = c_char::from_ne_bytes([*byte]);
    }
    chars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(chars: [c_char; N]) -> Vec<u8> {
        chars.iter().flat_map(|c| c.to_ne_bytes()).collect()
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_end_with_nul() {
        assert_eq!(bytes(inline::<4>("ab")), b"ab\0\0");
        assert_eq!(bytes(inline::<4>("abcd")), b"abc\0");
        assert_eq!(bytes(inline::<4>("ab\u{e9}")), b"ab\0\0");
        assert_eq!(bytes(inline::<1>("x")), b"\0");
    }
}
