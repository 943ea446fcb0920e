//! Reading at the caller's pace: cursors, one record or a page of columns at a time.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::Out;
use super::guard::guard;
use super::handle::{self, Handle, Movable};
use super::replay::{pointer, record, wal_record_t};
use super::sized::{SizedOut, SizedStruct};
use super::status::{duralog_status_t, END, OK};
use super::wal::wal_t;
use crate::error::Error;
use crate::wal::{Cursor, Page};

/// In flags of wal_cursor_open: everything that is there in the order of the files: also COMMIT,
/// CHECKPOINT and ABORT marks, and records that are not committed.
pub const WAL_CURSOR_RAW: u32 = 1;
/// In flags of wal_cursor_open: sealed segments are looked at in place, through a mapping, instead of
/// being read, which is faster where there is much to replay. Bytes are verified all the same, and
/// the file is kept as it is meanwhile.
///
/// The price: where the disk can't be read there is no DURALOG_E_IO but a signal (SIGBUS), and so there
/// is if another program makes a file of the log shorter. The segment being written is read always; with
/// WAL_RECOVERY_SALVAGE, or where the file system has no mappings, all are.
pub const WAL_CURSOR_MAPPED: u32 = 2;

/// A place in a log, from which it is read forward.
///
/// Movable: one thread at a time, whichever it is. Several cursors of one log are independent of
/// each other.
pub struct wal_cursor_t {
    _opaque: [u8; 0],
}

impl Handle for wal_cursor_t {
    const NAME: &'static str = "wal_cursor_t";
    type Inner = Cursor;
    type Ownership = Movable;
}

/// Many records at once, in columns: item i of every column belongs to record i of the page. Start
/// from WAL_PAGE_INIT.
///
/// The key of record i is bytes[key_begin[i]] up to bytes[value_begin[i]], its value goes from
/// there up to bytes[value_end[i]], each without its end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct wal_page_t {
    /// Size of this struct; set by WAL_PAGE_INIT.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Records in the page: 1 or more.
    pub count: usize,
    /// Sequence number of each.
    pub seq: *const u64,
    /// Batch of each, as in wal_record_t.
    pub batch_id: *const u64,
    /// Time of each, as in wal_record_t.
    pub time_ns: *const u64,
    /// WAL_KIND_* of each.
    pub kind: *const u8,
    /// Op of each, as in wal_record_t.
    pub op: *const u8,
    /// 1 or 0 for each, as in wal_record_t.
    pub committed: *const u8,
    /// Where the key of each begins in bytes.
    pub key_begin: *const u32,
    /// Where the key of each ends and its value begins.
    pub value_begin: *const u32,
    /// Where the value of each ends.
    pub value_end: *const u32,
    /// Keys and values. What lies between them means nothing.
    pub bytes: *const u8,
    /// Length of bytes.
    pub bytes_len: usize,
}

// SAFETY: `repr(C)`, `struct_size` first, integers and raw pointers only.
unsafe impl SizedStruct for wal_page_t {
    const NAME: &'static str = "wal_page_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Opens a cursor on the records after after_seq.
///
/// after_seq: 0 for all; to resume, the greatest sequence number seen.
/// flags: 0, or any of WAL_CURSOR_*.
/// out_cursor: the cursor, to be closed by wal_cursor_close.
///
/// Returns DURALOG_OK;
/// DURALOG_E_CORRUPT, DURALOG_E_IO: the place can't be read.
#[no_mangle]
pub unsafe extern "C" fn wal_cursor_open(
    wal: *mut wal_t,
    after_seq: u64,
    flags: u32,
    out_cursor: *mut *mut wal_cursor_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let wal = unsafe { handle::shared("wal", wal) }?;
        // SAFETY: convention 2: the caller promises that the place is writable.
        let out_cursor = unsafe { Out::required("out_cursor", out_cursor) }?;
        let unknown = flags & !(WAL_CURSOR_RAW | WAL_CURSOR_MAPPED);
        if unknown != 0 {
            return Err(Error::invalid(format!(
                "flags {flags:#x} has unknown flags {unknown:#x}"
            )));
        }
        let cursor = if flags & WAL_CURSOR_RAW == 0 {
            wal.cursor(after_seq)?
        } else {
            wal.raw_cursor(after_seq)?
        };
        let cursor = if flags & WAL_CURSOR_MAPPED == 0 {
            cursor
        } else {
            cursor.mapped()
        };
        out_cursor.set(handle::give_out(cursor));
        Ok(OK)
    })
}

/// Takes the next record.
///
/// out_record: the record.
///
/// Returns DURALOG_OK;
/// DURALOG_END: there is none now; later calls may find more. Nobody is told when there is: who
/// follows a log, in this or another process, pauses and calls again;
/// DURALOG_E_CORRUPT: all batches before the damage were given; the last error names the place;
/// DURALOG_E_TRUNCATED: the next record was truncated meanwhile;
/// DURALOG_E_IO.
///
/// Borrowed until the next call with this cursor: key and value.
#[no_mangle]
pub unsafe extern "C" fn wal_cursor_next(
    cursor: *mut wal_cursor_t,
    out_record: *mut wal_record_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2, 6 and 9: the caller promises an open cursor that no other thread
        // uses now, and a writable place.
        let (cursor, out_record) = unsafe {
            (
                handle::movable("cursor", cursor)?,
                Out::required("out_record", out_record)?,
            )
        };
        match cursor.next()? {
            None => Ok(END),
            Some(entry) => {
                // The bytes are the cursor's own and stay until it is used again, though the
                // pointers say nothing of that: the header does.
                out_record.set(record(&entry));
                Ok(OK)
            }
        }
    })
}

/// Takes the next records, many at once. Mixes freely with wal_cursor_next.
///
/// count_max: records wanted at most, 1 or more. The page may hold fewer though more are there.
/// out_page: the page.
///
/// Returns as wal_cursor_next does.
///
/// Borrowed until the next call with this cursor: all columns and bytes.
#[no_mangle]
pub unsafe extern "C" fn wal_cursor_next_page(
    cursor: *mut wal_cursor_t,
    count_max: usize,
    out_page: *mut wal_page_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6, 7 and 9: the caller promises an open cursor that no other thread
        // uses now, and a struct of the size it says.
        let (cursor, out_page) = unsafe {
            (
                handle::movable("cursor", cursor)?,
                SizedOut::new("out_page", out_page)?,
            )
        };
        if count_max == 0 {
            return Err(Error::invalid("count_max is 0, expected at least 1"));
        }
        match cursor.next_page(count_max)? {
            None => Ok(END),
            Some(page) => {
                out_page.set(&columns(&page));
                Ok(OK)
            }
        }
    })
}

/// Releases a cursor, before or after its log is closed.
///
/// cursor: may be NULL, which is nothing.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn wal_cursor_close(cursor: *mut wal_cursor_t) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises that the cursor is open, and that no other call
        // with it runs or follows.
        unsafe { handle::release(cursor) };
        Ok(OK)
    })
}

/// What C sees of a page; the pointers live as long as the page's bytes in the cursor.
///
/// Never inlined: the optimiser would look at the columns before it knows that there is a page. That
/// is harmless, since the answer is not used then, but valgrind reports it to our users.
#[inline(never)]
fn columns(page: &Page<'_>) -> wal_page_t {
    wal_page_t {
        struct_size: 0, // the caller's stays
        reserved: 0,
        count: page.seq.len(),
        seq: pointer(page.seq),
        batch_id: pointer(page.batch_id),
        time_ns: pointer(page.time_ns),
        kind: pointer(page.kind),
        op: pointer(page.op),
        committed: pointer(page.committed),
        key_begin: pointer(page.key_begin),
        value_begin: pointer(page.value_begin),
        value_end: pointer(page.value_end),
        bytes: pointer(page.bytes),
        bytes_len: page.bytes.len(),
    }
}
