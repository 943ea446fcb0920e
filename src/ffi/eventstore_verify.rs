//! Looking through the index of an event store.

#![allow(
    unsafe_code,
    reason = "exports a C symbol that takes pointers and calls back"
)]

use super::eventstore::eventstore_t;
use super::guard::guard;
use super::handle;
use super::recovery_report::inline;
use super::sized::{SizedOut, SizedStruct};
use super::status::duralog_status_t;
use super::verify::{self, wal_progress_callback_t};
use crate::eventstore::IndexReport;
use std::ffi::{c_char, c_void};

/// What looking through the index found. Start from EVENTSTORE_INDEX_REPORT_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_index_report_t {
    /// Size of this struct; set by EVENTSTORE_INDEX_REPORT_INIT.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Files of the index that were looked through.
    pub run_count: u64,
    /// Those of them that are damaged, or say something else than the log; 0: the index is in order.
    pub damaged_run_count: u64,
    /// Events that were compared. What no file covers is not among these.
    pub event_count: u64,
    /// Keys that were compared (names, ids, saved positions, state), each once for each file that has it.
    pub key_count: u64,
    /// Of the first damage: the block of the file, of 4096 bytes; 0: the first one, or the file as a whole.
    pub damaged_block: u64,
    /// Name of the first damaged file, in index/, with a NUL; empty if there is none.
    pub damaged_file: [c_char; 64],
    /// What was expected there and what was found, in words (UTF-8), with a NUL; empty if there is none.
    pub reason: [c_char; 512],
}

// SAFETY: `repr(C)`, `struct_size` first, integers and arrays of integers only.
unsafe impl SizedStruct for eventstore_index_report_t {
    const NAME: &'static str = "eventstore_index_report_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Looks through all files of the index, every block, and compares all that they say with the log, read
/// anew: where each event stands; the positions of each stream, category, type and tag, and the stream
/// versions; ids, idempotency keys, saved positions and state. What the index has in memory and in no
/// file (memory_events of eventstore_stat_t) is not compared: this handle read it from the log, or
/// appended it.
///
/// Nothing is changed. A damaged file is made again by the first question that meets the damage; one
/// that only says something else than the log is not met so. Deleting index/ while no program has the
/// store open lets all of it be made anew. Beside appends and readers it is of the files that there are when
/// it begins. It takes as long as reading the log, and at most about 32 MiB of memory.
///
/// callback: told how many bytes of the log were compared, and of how many; may be NULL.
/// user_data: handed to the callback as it is.
/// out_report: filled; damaged_run_count says whether the index is in order.
///
/// Returns DURALOG_OK: the report is there, whatever it says;
/// DURALOG_STOPPED: the callback asked to stop;
/// DURALOG_E_CORRUPT, DURALOG_E_IO: the log could not be read.
#[no_mangle]
pub unsafe extern "C" fn eventstore_verify_index(
    store: *mut eventstore_t,
    callback: wal_progress_callback_t,
    user_data: *mut c_void,
    out_report: *mut eventstore_index_report_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6 and 7: the caller promises an open handle and a struct of the size
        // it says.
        let (store, out_report) = unsafe {
            (
                handle::shared("store", store)?,
                SizedOut::new("out_report", out_report)?,
            )
        };
        // SAFETY: convention 8: the caller promises a function of this type that returns.
        let mut progress = unsafe { verify::progress(callback, user_data) };
        let verified = store.verify_index(&mut progress);
        verify::finish(verified, |report| out_report.set(&convert(&report)))
    })
}

fn convert(report: &IndexReport) -> eventstore_index_report_t {
    let damage = report.first_damage.as_ref();
    let file = damage.and_then(|damage| damage.path.file_name()?.to_str());
    eventstore_index_report_t {
        struct_size: 0, // the caller's stays
        reserved: 0,
        run_count: report.run_count,
        damaged_run_count: report.damaged_run_count,
        event_count: report.event_count,
        key_count: report.key_count,
        damaged_block: damage.map_or(0, |damage| damage.block),
        damaged_file: inline(file.unwrap_or_default()),
        reason: inline(damage.map_or("", |damage| damage.reason.as_str())),
    }
}
