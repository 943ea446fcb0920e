//! Reading by callback: the committed records, pushed one after the other.

#![allow(
    unsafe_code,
    reason = "exports a C symbol that takes pointers and calls back"
)]

use super::guard::guard;
use super::handle;
use super::status::{duralog_status_t, OK, STOPPED};
use super::wal::wal_t;
use crate::error::Error;
use crate::wal::Entry;
use std::ffi::{c_int, c_void};

/// In kind of a record: a record that an application appended.
pub const WAL_KIND_RECORD: u8 = 1;
/// In kind of a record, raw cursors only: the COMMIT of a batch. No key, no value.
pub const WAL_KIND_COMMIT: u8 = 2;
/// In kind of a record, raw cursors only: a checkpoint. The value is its data.
pub const WAL_KIND_CHECKPOINT: u8 = 3;
/// In kind of a record, raw cursors only: the batch before it was given up while it was being
/// written. No key, no value.
pub const WAL_KIND_ABORT: u8 = 4;
/// In kind of a record, raw cursors of read-only handles only: the last one, if the log has an
/// unclean end. batch_id is the LSN of the place where what can be read ends. No key, no value.
pub const WAL_KIND_TORN: u8 = 5;
/// In kind of a record, with WAL_RECOVERY_SALVAGE only: something is damaged or missing here.
/// batch_id is the LSN where it begins, the value says what it is, in words (UTF-8, no NUL).
pub const WAL_KIND_GAP: u8 = 6;

/// One record as it is read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct wal_record_t {
    /// Its sequence number.
    pub seq: u64,
    /// Number of its batch: the LSN where that begins, never used again for another.
    pub batch_id: u64,
    /// When its batch was committed, by the wall clock, in nanoseconds since 1970-01-01 UTC.
    pub time_ns: u64,
    /// Never NULL.
    pub key: *const u8,
    /// Never NULL.
    pub value: *const u8,
    /// Length of the key in bytes.
    pub key_len: usize,
    /// Length of the value in bytes.
    pub value_len: usize,
    /// One of WAL_KIND_*.
    pub kind: u8,
    /// WAL_OP_PUT, WAL_OP_DELETE, or the application's; 0 if kind is not WAL_KIND_RECORD.
    pub op: u8,
    /// 1: its batch is committed; 0, raw cursors only: it is not, and replay never shows it.
    pub committed: u8,
    /// 0.
    pub reserved: [u8; 5],
}

/// Called by wal_replay for each record, on the thread that called wal_replay. It may call any
/// function of this library but wal_close of the same log. It must return: neither longjmp nor an
/// exception may leave it.
///
/// user_data: what was given to wal_replay.
/// record: borrowed until the callback returns.
///
/// Returns 0 to go on, anything else to stop.
pub type wal_replay_callback_t =
    Option<unsafe extern "C" fn(user_data: *mut c_void, record: *const wal_record_t) -> c_int>;

/// Calls callback for every committed record after after_seq, in order. A batch is verified whole
/// before its first record is shown. Ends at what is acknowledged; records committed while it runs
/// are shown too.
///
/// after_seq: 0 for all; to resume, the greatest sequence number seen.
/// callback: must not be NULL.
/// user_data: handed to the callback as it is.
///
/// Returns DURALOG_OK: all were shown;
/// DURALOG_STOPPED: the callback asked to stop;
/// DURALOG_E_CORRUPT: all batches before the damage were shown; the last error names the place;
/// DURALOG_E_TRUNCATED: records not shown yet were truncated meanwhile;
/// DURALOG_E_IO.
#[no_mangle]
pub unsafe extern "C" fn wal_replay(
    wal: *mut wal_t,
    after_seq: u64,
    callback: wal_replay_callback_t,
    user_data: *mut c_void,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle. A callback that closes it all
        // the same does no harm: `shared` keeps what stands behind it.
        let wal = unsafe { handle::shared("wal", wal) }?;
        let callback = callback.ok_or_else(|| Error::invalid("callback is NULL"))?;
        let mut cursor = wal.cursor(after_seq)?;
        while let Some(entry) = cursor.next()? {
            let record = record(&entry);
            // SAFETY: convention 8: the caller promises a function of this type that returns. The
            // record and its bytes live until then; nothing of ours is locked meanwhile.
            if unsafe { callback(user_data, &raw const record) } != 0 {
                return Ok(STOPPED);
            }
        }
        Ok(OK)
    })
}

/// What C sees of an entry; the pointers live as long as the entry.
pub(super) fn record(entry: &Entry<'_>) -> wal_record_t {
    wal_record_t {
        seq: entry.seq,
        batch_id: entry.batch_id.0,
        time_ns: entry.time_ns,
        key: pointer(entry.key),
        value: pointer(entry.value),
        key_len: entry.key.len(),
        value_len: entry.value.len(),
        kind: entry.kind as u8,
        op: entry.op,
        committed: u8::from(entry.committed),
        reserved: [0; 5],
    }
}

/// A pointer that C may hand to memcpy and the like, also with length 0: those functions refuse
/// NULL, and the address of an empty slice in Rust is no address of anything.
pub(super) fn pointer<T>(items: &[T]) -> *const T {
    static NOTHING: u64 = 0;
    if items.is_empty() {
        (&raw const NOTHING).cast()
    } else {
        items.as_ptr()
    }
}
