//! The log through its C face, as a C program calls it: each function here makes one call, and what
//! fails ends the measurement with the library's own message.

#![allow(unsafe_code, reason = "calls C functions that take pointers")]

use duralog::ffi::append::{wal_append, wal_append_batch, wal_op_t, WAL_OP_PUT};
use duralog::ffi::append_async::{wal_append_batch_async, wal_wait_ticket};
use duralog::ffi::cursor::{
    wal_cursor_close, wal_cursor_next_page, wal_cursor_open, wal_cursor_t, wal_page_t,
    WAL_CURSOR_MAPPED,
};
use duralog::ffi::last_error::{duralog_error_t, duralog_last_error};
use duralog::ffi::maintain::wal_truncate;
use duralog::ffi::options::{
    wal_options_t, WAL_OPEN_MAPPED_APPENDS, WAL_OPEN_READ_ONLY, WAL_SYNC_EVERY, WAL_SYNC_MANUAL,
};
use duralog::ffi::stat::{wal_stat, wal_stat_t};
use duralog::ffi::version::duralog_library_version;
use duralog::ffi::wal::{wal_close, wal_open, wal_t};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};

const OK: i32 = 0;
const END: i32 = 1;

/// How a log is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Durable,
    /// Durable, with several groups in flight.
    Flights,
    /// Not durable, all else as by default: written by calls, in segments of 64 MiB.
    Manual,
    /// Not durable, with mapped appends, in long segments.
    Mapped,
    /// The same in segments of 64 MiB.
    MappedShort,
    /// Not durable, with a buffer in the process, in long segments.
    Buffered,
    ReadOnly,
}

impl Mode {
    pub fn is_durable(self) -> bool {
        matches!(self, Mode::Durable | Mode::Flights | Mode::ReadOnly)
    }
}

/// Groups in flight where several are.
const FLIGHTS: u32 = 4;
/// The buffer where there is one.
const BUFFER: u32 = 256 << 10;
/// Length of long segments: what is measured without durability is appends, not the syncs of segments
/// that are full.
const LONG_SEGMENT: u64 = 1 << 30;

fn check(what: &str, status: i32) {
    if status == OK {
        return;
    }
    // SAFETY: a struct of integers and pointers, for which zeros are values.
    let mut error: duralog_error_t = unsafe { std::mem::zeroed() };
    error.struct_size = size_of::<duralog_error_t>() as u32;
    // SAFETY: the struct says its size and lives through the call; the message is read before
    // another call can fail.
    let message = unsafe {
        duralog_last_error(&mut error);
        CStr::from_ptr(error.message).to_string_lossy().into_owned()
    };
    panic!("{what}: status {status}, {message}");
}

pub fn library_version() -> String {
    // SAFETY: the header promises a static text.
    let version = unsafe { CStr::from_ptr(duralog_library_version()) };
    version.to_string_lossy().into_owned()
}

/// An open log; closed by `close`, or left open, as a killed program leaves it.
pub struct Log(*mut wal_t);

// SAFETY: the header says of wal_t: Shared, used by any number of threads at once.
unsafe impl Send for Log {}
// SAFETY: the same.
unsafe impl Sync for Log {}

impl Log {
    pub fn open(path: &Path, mode: Mode) -> Log {
        let path = CString::new(path.as_os_str().as_bytes()).expect("a path without NUL");
        // SAFETY: a struct of integers, for which zeros are values.
        let mut options: wal_options_t = unsafe { std::mem::zeroed() };
        options.struct_size = size_of::<wal_options_t>() as u32;
        options.sync_mode = match mode.is_durable() {
            true => WAL_SYNC_EVERY,
            false => WAL_SYNC_MANUAL,
        };
        match mode {
            Mode::Durable | Mode::Manual => {}
            Mode::Flights => options.groups_in_flight_max = FLIGHTS,
            Mode::Buffered => options.buffer_bytes_max = BUFFER,
            Mode::Mapped | Mode::MappedShort => options.open_flags = WAL_OPEN_MAPPED_APPENDS,
            Mode::ReadOnly => options.open_flags = WAL_OPEN_READ_ONLY,
        }
        if matches!(mode, Mode::Mapped | Mode::Buffered) {
            options.segment_bytes_max = LONG_SEGMENT;
        }
        let mut log = null_mut();
        // SAFETY: conventions 2, 4 and 7 of the header: text, struct and place live through the call.
        check("wal_open", unsafe {
            wal_open(path.as_ptr(), &options, &mut log)
        });
        Log(log)
    }

    pub fn append(&self, value: &[u8]) {
        // SAFETY: the handle is open; the bytes live through the call.
        let status = unsafe {
            wal_append(
                self.0,
                WAL_OP_PUT,
                null(),
                0,
                value.as_ptr(),
                value.len(),
                0,
                null_mut(),
            )
        };
        check("wal_append", status);
    }

    /// A batch of records of `len` bytes each; returns the number of its COMMIT.
    pub fn append_batch(&self, bytes: &[u8], len: usize, ops: &mut Vec<wal_op_t>) -> u64 {
        ops.clear();
        ops.extend(bytes.chunks_exact(len).map(|value| wal_op_t {
            key: null(),
            value: value.as_ptr(),
            key_len: 0,
            value_len: value.len(),
            op: WAL_OP_PUT,
            reserved: [0; 7],
        }));
        let mut seq = 0;
        // SAFETY: the handle is open; the array and the bytes it points to live through the call.
        let status = unsafe { wal_append_batch(self.0, ops.as_ptr(), ops.len(), 0, &mut seq) };
        check("wal_append_batch", status);
        seq
    }

    /// A batch of one record, handed over; returns its ticket.
    pub fn append_later(&self, value: &[u8]) -> u64 {
        let op = wal_op_t {
            key: null(),
            value: value.as_ptr(),
            key_len: 0,
            value_len: value.len(),
            op: WAL_OP_PUT,
            reserved: [0; 7],
        };
        let mut ticket = 0;
        // SAFETY: the handle is open; the record and its bytes live through the call.
        let status = unsafe { wal_append_batch_async(self.0, &op, 1, 0, &mut ticket) };
        check("wal_append_batch_async", status);
        ticket
    }

    pub fn wait_for(&self, ticket: u64) {
        // SAFETY: the handle is open.
        let status = unsafe { wal_wait_ticket(self.0, ticket, -1, null_mut(), null_mut()) };
        check("wal_wait_ticket", status);
    }

    /// Syncs and durable writes of batches, as the log counts them.
    pub fn sync_count(&self) -> u64 {
        // SAFETY: a struct of integers, for which zeros are values.
        let mut stat: wal_stat_t = unsafe { std::mem::zeroed() };
        stat.struct_size = size_of::<wal_stat_t>() as u32;
        // SAFETY: the handle is open, the struct says its size.
        check("wal_stat", unsafe { wal_stat(self.0, &mut stat) });
        stat.sync_count
    }

    pub fn truncate(&self, up_to_seq: u64) {
        // SAFETY: the handle is open.
        check("wal_truncate", unsafe { wal_truncate(self.0, up_to_seq) });
    }

    /// Reads everything in pages, or looks at it in place; calls `each` with every value. Returns how
    /// many there were.
    pub fn replay(&self, mapped: bool, mut each: impl FnMut(&[u8])) -> u64 {
        let mut cursor: *mut wal_cursor_t = null_mut();
        let flags = if mapped { WAL_CURSOR_MAPPED } else { 0 };
        // SAFETY: the handle is open, the place lives through the call.
        check("wal_cursor_open", unsafe {
            wal_cursor_open(self.0, 0, flags, &mut cursor)
        });
        // SAFETY: a struct of integers and pointers, for which zeros are values.
        let mut page: wal_page_t = unsafe { std::mem::zeroed() };
        page.struct_size = size_of::<wal_page_t>() as u32;
        let mut count = 0;
        loop {
            // SAFETY: the cursor is open and used by this thread alone.
            let status = unsafe { wal_cursor_next_page(cursor, 1024, &mut page) };
            if status == END {
                break;
            }
            check("wal_cursor_next_page", status);
            // SAFETY: columns and bytes are as long as the page says, and stay until the next call
            // with the cursor.
            let (begins, ends, bytes) = unsafe {
                (
                    std::slice::from_raw_parts(page.value_begin, page.count),
                    std::slice::from_raw_parts(page.value_end, page.count),
                    std::slice::from_raw_parts(page.bytes, page.bytes_len),
                )
            };
            for (&begin, &end) in begins.iter().zip(ends) {
                each(&bytes[begin as usize..end as usize]);
            }
            count += page.count as u64;
        }
        // SAFETY: the cursor is open and not used again.
        check("wal_cursor_close", unsafe { wal_cursor_close(cursor) });
        count
    }

    pub fn close(self) {
        // SAFETY: the handle is open and not used again, nor by another thread: it is owned here.
        check("wal_close", unsafe { wal_close(self.0) });
    }
}
