//! Counters and marks of an open log.

#![allow(unsafe_code, reason = "exports a C symbol that takes pointers")]

use super::guard::guard;
use super::handle;
use super::sized::{SizedOut, SizedStruct};
use super::status::{duralog_status_t, OK};
use super::wal::wal_t;
use crate::wal::Stat;

/// Counters and marks of an open log. Start from WAL_STAT_INIT. Counters begin at 0 when the log is
/// opened.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct wal_stat_t {
    /// Size of this struct; set by WAL_STAT_INIT.
    pub struct_size: u32,
    /// The application's number.
    pub application_id: u32,
    /// Identity of the log: random, the same as long as the log exists.
    pub log_id: [u8; 16],
    /// Smallest segment.
    pub first_segment: u64,
    /// Greatest segment: the one being written.
    pub last_segment: u64,
    /// Segments there are.
    pub segment_count: u64,
    /// Bytes of all segment files.
    pub file_bytes: u64,
    /// Records up to this number are never replayed.
    pub truncated_seq: u64,
    /// Greatest sequence number committed; 0 if none.
    pub last_seq: u64,
    /// Every byte of the log below this LSN was written.
    pub written_lsn: u64,
    /// Every byte of the log below this LSN survives a power cut.
    pub durable_lsn: u64,
    /// Sequence number of the newest checkpoint; 0 if none.
    pub checkpoint_seq: u64,
    /// Batches committed through this handle, single appends included.
    pub batch_count: u64,
    /// Records committed through this handle.
    pub record_count: u64,
    /// Groups written: batches that share one write and one sync.
    pub group_count: u64,
    /// Syncs made for groups.
    pub sync_count: u64,
    /// Bytes written for batches.
    pub written_bytes: u64,
    /// Segments begun because the one before was full.
    pub rotation_count: u64,
}

// SAFETY: `repr(C)`, `struct_size` first, integers only.
unsafe impl SizedStruct for wal_stat_t {
    const NAME: &'static str = "wal_stat_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Counters and marks of the log, as they are now.
///
/// out_stat: filled.
///
/// Returns DURALOG_OK; DURALOG_E_IO.
#[no_mangle]
pub unsafe extern "C" fn wal_stat(wal: *mut wal_t, out_stat: *mut wal_stat_t) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6 and 7: the caller promises an open handle and a struct of the size
        // it says.
        let (wal, out_stat) = unsafe {
            (
                handle::shared("wal", wal)?,
                SizedOut::new("out_stat", out_stat)?,
            )
        };
        out_stat.set(&convert(&wal.stat()?));
        Ok(OK)
    })
}

pub(super) fn convert(stat: &Stat) -> wal_stat_t {
    wal_stat_t {
        struct_size: 0, // the caller's stays
        application_id: stat.application_id,
        log_id: stat.log_id,
        first_segment: stat.first_segment,
        last_segment: stat.last_segment,
        segment_count: stat.segment_count,
        file_bytes: stat.file_bytes,
        truncated_seq: stat.truncated_seq,
        last_seq: stat.last_seq,
        written_lsn: stat.written_lsn.0,
        durable_lsn: stat.durable_lsn.0,
        checkpoint_seq: stat.checkpoint_seq,
        batch_count: stat.batch_count,
        record_count: stat.record_count,
        group_count: stat.group_count,
        sync_count: stat.sync_count,
        written_bytes: stat.written_bytes,
        rotation_count: stat.rotation_count,
    }
}
