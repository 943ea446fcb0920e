//! Appending a batch to the event store, and what came of it.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::Out;
use super::eventstore::eventstore_t;
use super::eventstore_append::eventstore_append_t;
use super::eventstore_draft::Outcome;
use super::guard::guard;
use super::handle;
use super::replay::pointer;
use super::sized::{SizedOut, SizedStruct};
use super::status::{duralog_status_t, OK};
use crate::error::{ConflictKind, Error, Result};
use crate::wal::Durability;
use std::ffi::c_char;

/// In flags of eventstore_append: return when the batch is durable, whatever sync_mode says.
pub const EVENTSTORE_APPEND_DURABLE: u32 = 1;

/// In kind of a conflict: a stream has not the version that eventstore_append_expect demanded.
pub const EVENTSTORE_CONFLICT_STREAM: u32 = 1;
/// In kind of a conflict: an event matches the query of a condition.
pub const EVENTSTORE_CONFLICT_CONDITION: u32 = 2;
/// In kind of a conflict: a position to be saved is not beyond the saved one.
pub const EVENTSTORE_CONFLICT_POSITION: u32 = 3;

/// What an append came to. Start from EVENTSTORE_RECEIPT_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_receipt_t {
    /// Size of this struct; set by EVENTSTORE_RECEIPT_INIT.
    pub struct_size: u32,
    /// 1: the batch had been appended before, nothing was written, and the receipt is that of the
    /// first time; 0: it was appended now.
    pub duplicate: u32,
    /// Position of its first event; 0 if it has none.
    pub first_position: u64,
    /// Position of its last event; 0 if it has none.
    pub last_position: u64,
    /// When it was recorded, in nanoseconds since 1970-01-01 UTC; of a duplicate, the first time.
    pub time_ns: u64,
    /// Number of its batch: the LSN where that begins; 0 for a duplicate.
    pub batch_id: u64,
    /// Streams appended to: see eventstore_append_stream_versions.
    pub stream_count: usize,
}

// SAFETY: `repr(C)`, `struct_size` first, integers only.
unsafe impl SizedStruct for eventstore_receipt_t {
    const NAME: &'static str = "eventstore_receipt_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Streams and their versions, in columns: item i of every column belongs to stream i. Start from
/// EVENTSTORE_STREAM_VERSIONS_INIT.
///
/// The name of stream i is bytes[stream_begin[i]] up to bytes[stream_end[i]], without its end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_stream_versions_t {
    /// Size of this struct; set by EVENTSTORE_STREAM_VERSIONS_INIT.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// How many streams.
    pub count: usize,
    /// Version of each.
    pub stream_version: *const u64,
    /// Where the name of each begins in bytes.
    pub stream_begin: *const u32,
    /// Where the name of each ends.
    pub stream_end: *const u32,
    /// The names, in UTF-8.
    pub bytes: *const c_char,
    /// Length of bytes.
    pub bytes_len: usize,
}

// SAFETY: `repr(C)`, `struct_size` first, integers and raw pointers only.
unsafe impl SizedStruct for eventstore_stream_versions_t {
    const NAME: &'static str = "eventstore_stream_versions_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// A precondition that did not hold. Start from EVENTSTORE_CONFLICT_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_conflict_t {
    /// Size of this struct; set by EVENTSTORE_CONFLICT_INIT.
    pub struct_size: u32,
    /// What it was about: one of EVENTSTORE_CONFLICT_*.
    pub kind: u32,
    /// Which one, counted from 0 in the order they were added: of the expectations, of the
    /// conditions, or of the saved positions and states together.
    pub index: usize,
    /// Name of the stream or of the saved position, empty for a condition. Never NULL, without a
    /// NUL at its end.
    pub name: *const c_char,
    /// Length of name.
    pub name_len: usize,
    /// Of a stream, what was expected. Of a condition, the position behind which nothing was to
    /// match. Of a saved position, the one given.
    pub expected: i64,
    /// Of a stream, its version. Of a condition, the first position that matches. Of a saved
    /// position, the one that is saved.
    pub actual: u64,
}

// SAFETY: `repr(C)`, `struct_size` first, integers and raw pointers only.
unsafe impl SizedStruct for eventstore_conflict_t {
    const NAME: &'static str = "eventstore_conflict_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Appends a batch: all of it, or nothing if any of its preconditions does not hold. They are judged
/// together, against the store as it is before the batch. Whatever happens, the batch stays as it
/// is.
///
/// A batch that was appended before gives the receipt of that time and writes nothing: one whose
/// events all have ids and were the events of one batch, in this order, or one with an idempotency
/// key and the contents that it had with that key. Events are known by their ids alone: what else they say now is not compared.
///
/// flags: 0 or EVENTSTORE_APPEND_DURABLE.
/// out_receipt: filled; may be NULL.
///
/// Returns DURALOG_OK: acknowledged, and durable unless sync_mode says otherwise;
/// DURALOG_E_CONFLICT: eventstore_append_conflict tells all that did not hold;
/// DURALOG_E_DUPLICATE: some of its events are in the store already, see
/// eventstore_append_known_ids, or its idempotency key belongs to another batch;
/// DURALOG_E_EMPTY_BATCH: it has neither an event nor anything to save;
/// DURALOG_E_INVALID_ARGUMENT: also if two events have one id, or one name occurs twice where the
/// functions that add it forbid it, or an item of a query is empty;
/// DURALOG_E_TOO_LARGE (see eventstore_append_add_event), DURALOG_E_FULL: nothing was written, the
/// handle stays usable;
/// DURALOG_E_INDETERMINATE, DURALOG_E_POISONED, DURALOG_E_READ_ONLY: as from wal_append. What is
/// indeterminate may be appended again after reopening if all its events have ids, or it has an
/// idempotency key.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append(
    store: *mut eventstore_t,
    batch: *mut eventstore_append_t,
    flags: u32,
    out_receipt: *mut eventstore_receipt_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6 and 9: the caller promises an open store, and an open batch that no
        // other thread uses.
        let (store, draft) = unsafe {
            (
                handle::shared("store", store)?,
                handle::movable("batch", batch)?,
            )
        };
        let durability = durability(flags)?;
        let out_receipt = if out_receipt.is_null() {
            None
        } else {
            // SAFETY: convention 7: the caller promises a struct of the size it says.
            Some(unsafe { SizedOut::new("out_receipt", out_receipt) }?)
        };
        draft.outcome = Outcome::default();
        match draft.with_request(|request| store.append(request, durability)) {
            Ok(receipt) => draft.outcome.receipt = receipt,
            Err(error) => {
                draft.outcome.conflicts = error.conflicts().to_vec();
                draft.outcome.known_ids = error.known_ids().to_vec();
                return Err(error);
            }
        }
        let receipt = &draft.outcome.receipt;
        if let Some(out_receipt) = out_receipt {
            out_receipt.set(&eventstore_receipt_t {
                struct_size: 0, // the caller's stays
                duplicate: u32::from(receipt.duplicate),
                first_position: receipt.first_position,
                last_position: receipt.last_position,
                time_ns: receipt.time_ns,
                batch_id: receipt.batch_id,
                stream_count: receipt.stream_versions.len(),
            });
        }
        Ok(OK)
    })
}

/// A stream that the last append of this batch appended to, and its version after that.
///
/// index: below stream_count of the receipt; streams are in the order of first mention.
/// out_stream, out_stream_len: its name, without a NUL at its end.
/// out_stream_version: its version.
///
/// Returns DURALOG_OK;
/// DURALOG_E_INVALID_ARGUMENT: also if there is none of this index, or the append failed.
///
/// Borrowed until the batch is appended again, cleared or closed: the name.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_stream_version(
    batch: *mut eventstore_append_t,
    index: usize,
    out_stream: *mut *const c_char,
    out_stream_len: *mut usize,
    out_stream_version: *mut u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2, 6 and 9: the caller promises an open batch that no other thread
        // uses, and writable places.
        let (draft, out_stream, out_stream_len, out_stream_version) = unsafe {
            (
                handle::movable("batch", batch)?,
                Out::required("out_stream", out_stream)?,
                Out::required("out_stream_len", out_stream_len)?,
                Out::required("out_stream_version", out_stream_version)?,
            )
        };
        let (stream, version) = item(&draft.outcome.receipt.stream_versions, "streams", index)?;
        out_stream.set(pointer(stream.as_bytes()).cast());
        out_stream_len.set(stream.len());
        out_stream_version.set(*version);
        Ok(OK)
    })
}

/// All streams that the last append of this batch appended to, and their versions after that: what
/// eventstore_append_stream_version tells one by one.
///
/// out_versions: filled; in the order of first mention; none if that append failed.
///
/// Returns DURALOG_OK.
///
/// Borrowed until the batch is used again: all columns and bytes.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_stream_versions(
    batch: *mut eventstore_append_t,
    out_versions: *mut eventstore_stream_versions_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6, 7 and 9: the caller promises an open batch that no other thread
        // uses, and a struct of the size it says.
        let (draft, out_versions) = unsafe {
            (
                handle::movable("batch", batch)?,
                SizedOut::new("out_versions", out_versions)?,
            )
        };
        draft.outcome.fill_columns()?;
        let columns = &draft.outcome.columns;
        out_versions.set(&eventstore_stream_versions_t {
            struct_size: 0, // the caller's stays
            reserved: 0,
            count: columns.stream_version.len(),
            stream_version: pointer(&columns.stream_version),
            stream_begin: pointer(&columns.stream_begin),
            stream_end: pointer(&columns.stream_end),
            bytes: pointer(columns.bytes.as_bytes()).cast(),
            bytes_len: columns.bytes.len(),
        });
        Ok(OK)
    })
}

/// How many preconditions did not hold in the last append of this batch.
///
/// out_count: the number; 0 unless that append returned DURALOG_E_CONFLICT.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_conflict_count(
    batch: *mut eventstore_append_t,
    out_count: *mut usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2, 6 and 9: the caller promises an open batch that no other thread
        // uses, and a writable place.
        let (draft, out_count) = unsafe {
            (
                handle::movable("batch", batch)?,
                Out::required("out_count", out_count)?,
            )
        };
        out_count.set(draft.outcome.conflicts.len());
        Ok(OK)
    })
}

/// A precondition that did not hold in the last append of this batch.
///
/// index: below the number that eventstore_append_conflict_count gives.
/// out_conflict: filled.
///
/// Returns DURALOG_OK;
/// DURALOG_E_INVALID_ARGUMENT: also if there is none of this index.
///
/// Borrowed until the batch is appended again, cleared or closed: the name.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_conflict(
    batch: *mut eventstore_append_t,
    index: usize,
    out_conflict: *mut eventstore_conflict_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6, 7 and 9: the caller promises an open batch that no other thread
        // uses, and a struct of the size it says.
        let (draft, out_conflict) = unsafe {
            (
                handle::movable("batch", batch)?,
                SizedOut::new("out_conflict", out_conflict)?,
            )
        };
        let conflict = item(&draft.outcome.conflicts, "conflicts", index)?;
        out_conflict.set(&eventstore_conflict_t {
            struct_size: 0, // the caller's stays
            kind: match conflict.kind {
                ConflictKind::Stream => EVENTSTORE_CONFLICT_STREAM,
                ConflictKind::Condition => EVENTSTORE_CONFLICT_CONDITION,
                ConflictKind::SavedPosition => EVENTSTORE_CONFLICT_POSITION,
            },
            index: conflict.index,
            name: pointer(conflict.name.as_bytes()).cast(),
            name_len: conflict.name.len(),
            expected: conflict.expected,
            actual: conflict.actual,
        });
        Ok(OK)
    })
}

/// Ids of events of this batch that were in the store already when it was last appended.
///
/// out_ids: 16 bytes for each, one after the other.
/// out_count: how many; 0 unless that append returned DURALOG_E_DUPLICATE, and 0 if it did because
/// of the idempotency key.
///
/// Returns DURALOG_OK.
///
/// Borrowed until the batch is appended again, cleared or closed: the ids.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_known_ids(
    batch: *mut eventstore_append_t,
    out_ids: *mut *const u8,
    out_count: *mut usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2, 6 and 9: the caller promises an open batch that no other thread
        // uses, and writable places.
        let (draft, out_ids, out_count) = unsafe {
            (
                handle::movable("batch", batch)?,
                Out::required("out_ids", out_ids)?,
                Out::required("out_count", out_count)?,
            )
        };
        out_ids.set(pointer(&draft.outcome.known_ids).cast());
        out_count.set(draft.outcome.known_ids.len());
        Ok(OK)
    })
}

fn durability(flags: u32) -> Result<Durability> {
    match flags {
        0 => Ok(Durability::AsOpened),
        EVENTSTORE_APPEND_DURABLE => Ok(Durability::Durable),
        _ => Err(Error::invalid(format!(
            "flags {flags:#x} has unknown flags, known is EVENTSTORE_APPEND_DURABLE"
        ))),
    }
}

fn item<'a, T>(items: &'a [T], what: &str, index: usize) -> Result<&'a T> {
    items.get(index).ok_or_else(|| {
        let count = items.len();
        Error::invalid(format!("index is {index}, but there are {count} {what}"))
    })
}
