//! Parts of a page, put together. In C a part is a pointer and a length and costs nothing; in a
//! language that makes an object of each, taking a whole column from one run of bytes is what makes
//! a page cheap.

#![allow(unsafe_code, reason = "exports a C symbol that takes pointers")]

use super::args::{self, Out};
use super::guard::guard;
use super::status::{duralog_status_t, OK};
use crate::error::{Error, ErrorKind, Result};
use std::ffi::c_int;

/// Copies parts of bytes, such as the values of a wal_page_t or the streams of an
/// eventstore_page_t, one behind the other. Programs in C have no need of it; it is for languages
/// that take many parts from one run of bytes faster than each from its place.
///
/// bytes, bytes_len: what the parts are of.
/// begin, end, count: where each begins and ends.
/// separator: a byte, 0 to 255, to be put between two of them; -1: none.
/// buffer, capacity: place for the parts; NULL only with capacity 0. It must not overlap bytes.
/// bytes_len and a separator for each part are always enough for a column of a page.
/// out_lens: length of each part, place for count numbers; may be NULL.
/// out_len: length of all that was copied; written on DURALOG_E_BUFFER_TOO_SMALL too: it is the
/// capacity needed.
///
/// Returns DURALOG_OK;
/// DURALOG_E_INVALID_ARGUMENT: also if a part does not lie within bytes;
/// DURALOG_E_BUFFER_TOO_SMALL: nothing but out_len was written.
///
/// Callable at any time, from any thread.
#[no_mangle]
pub unsafe extern "C" fn duralog_spans_join(
    bytes: *const u8,
    bytes_len: usize,
    begin: *const u32,
    end: *const u32,
    count: usize,
    separator: c_int,
    buffer: *mut u8,
    capacity: usize,
    out_lens: *mut u32,
    out_len: *mut usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2 and 4: the caller promises that arrays and bytes are there for the
        // time of this call, and that the place is writable.
        let (bytes, begin, end, out_len) = unsafe {
            (
                args::array("bytes", bytes, bytes_len)?,
                args::array("begin", begin, count)?,
                args::array("end", end, count)?,
                Out::required("out_len", out_len)?,
            )
        };
        args::check_array("buffer", buffer, capacity)?;
        if !out_lens.is_null() {
            args::check_array("out_lens", out_lens, count)?;
        }
        let separator = separator_of(separator)?;
        let spans = || begin.iter().zip(end);
        let len = joined_len(spans(), bytes_len, usize::from(separator.is_some()))?;
        out_len.set(len);
        if len > capacity {
            return Err(Error::new(
                ErrorKind::BufferTooSmall,
                format!("the parts have {len} bytes, the buffer {capacity}"),
            ));
        }
        let mut at = 0;
        for (index, (&begin, &end)) in spans().enumerate() {
            if let (Some(separator), true) = (separator, index > 0) {
                // SAFETY: `joined_len` counted this byte, and its sum is within `capacity`, for
                // which the caller promises that `buffer` is writable.
                unsafe { buffer.add(at).write(separator) };
                at += 1;
            }
            let part = bytes.get(begin as usize..end as usize).unwrap_or_default();
            // SAFETY: the same for each of these bytes; the caller promises that they do not
            // overlap `bytes`.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), buffer.add(at), part.len()) };
            at += part.len();
            if !out_lens.is_null() {
                // SAFETY: not NULL, and aligned by `check_array`; the caller promises `count`
                // places, and `index` is below.
                unsafe { out_lens.add(index).write(end - begin) };
            }
        }
        Ok(OK)
    })
}

fn separator_of(separator: c_int) -> Result<Option<u8>> {
    if separator == -1 {
        return Ok(None);
    }
    let found = u8::try_from(separator)
        .map_err(|_| Error::invalid(format!("separator is {separator}, expected -1 to 255")))?;
    Ok(Some(found))
}

fn not_within(index: usize, begin: u32, end: u32, bytes_len: usize) -> Error {
    Error::invalid(format!(
        "part {index} is from {begin} to {end}, of {bytes_len} bytes"
    ))
}

/// How long the parts are together, if all of them lie within `bytes_len`.
pub(super) fn joined_len<'a>(
    spans: impl Iterator<Item = (&'a u32, &'a u32)>,
    bytes_len: usize,
    separator_len: usize,
) -> Result<usize> {
    let mut len: usize = 0;
    for (index, (&begin, &end)) in spans.enumerate() {
        if begin > end || end as usize > bytes_len {
            return Err(not_within(index, begin, end, bytes_len));
        }
        let before = if index > 0 { separator_len } else { 0 };
        len = len
            .checked_add(before + (end - begin) as usize)
            .ok_or_else(|| Error::invalid("the parts are longer than memory can be"))?;
    }
    Ok(len)
}
