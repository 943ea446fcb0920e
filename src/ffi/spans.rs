//! Parts of a page, put together. In C a part is a pointer and a length and costs nothing; in a
//! language that makes an object of each, taking a whole column from one run of bytes is what makes
//! a page cheap.

#![allow(unsafe_code, reason = "exports a C symbol that takes pointers")]

use super::args::{self, Out};
use super::guard::guard;
use super::status::{duralog_status_t, END, OK};
use crate::error::{Error, ErrorKind, Result};
use crate::format::get_u64;
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

/// Copies the different ones of such parts, each once, in the order in which they come first, and says
/// which of them each part is: for columns in which few texts come again and again, such as event types, so
/// that a language that makes an object of each makes only these.
///
/// bytes, bytes_len, begin, end, count: as for duralog_spans_join.
/// separator, buffer, capacity: likewise.
/// out_numbers: for each part, which of the different ones it is, from 0; place for count bytes.
/// out_different: how many different ones.
/// out_len: length of all that was copied.
///
/// Returns as duralog_spans_join does;
/// DURALOG_E_BUFFER_TOO_SMALL: also out_len is not written;
/// DURALOG_END: too many are different, 257 at the latest. What was written means nothing.
///
/// Callable at any time, from any thread.
#[no_mangle]
pub unsafe extern "C" fn duralog_spans_number(
    bytes: *const u8,
    bytes_len: usize,
    begin: *const u32,
    end: *const u32,
    count: usize,
    separator: c_int,
    buffer: *mut u8,
    capacity: usize,
    out_numbers: *mut u8,
    out_different: *mut usize,
    out_len: *mut usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2 and 4: the caller promises that arrays and bytes are there for the
        // time of this call, and that the places are writable.
        let (bytes, begin, end, out_different, out_len) = unsafe {
            (
                args::array("bytes", bytes, bytes_len)?,
                args::array("begin", begin, count)?,
                args::array("end", end, count)?,
                Out::required("out_different", out_different)?,
                Out::required("out_len", out_len)?,
            )
        };
        args::check_array("out_numbers", out_numbers, count)?;
        args::check_array("buffer", buffer, capacity)?;
        let separator = separator_of(separator)?;
        let mut different = Different::new(bytes);
        let mut len = 0;
        for (index, (&begin, &end)) in begin.iter().zip(end).enumerate() {
            let part = bytes.get(begin as usize..end as usize);
            let part = part.ok_or_else(|| not_within(index, begin, end, bytes_len))?;
            let Some((number, is_new)) = different.number_of(part, (begin, end)) else {
                return Ok(END);
            };
            // SAFETY: not NULL by `check_array`; the caller promises `count` places, and `index` is
            // below.
            unsafe { out_numbers.add(index).write(number) };
            if !is_new {
                continue;
            }
            let before = separator.filter(|_| number > 0);
            let part_at = len + usize::from(before.is_some());
            if part_at.saturating_add(part.len()) > capacity {
                return Err(Error::new(
                    ErrorKind::BufferTooSmall,
                    format!("the buffer has {capacity} bytes, and the parts have more"),
                ));
            }
            // SAFETY: the caller promises that `buffer` is writable for `capacity`, which was just
            // compared with where the part ends, and that it does not overlap `bytes`.
            unsafe {
                if let Some(separator) = before {
                    buffer.add(len).write(separator);
                }
                std::ptr::copy_nonoverlapping(part.as_ptr(), buffer.add(part_at), part.len());
            }
            len = part_at + part.len();
        }
        out_different.set(different.count);
        out_len.set(len);
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

/// As many can be told apart.
const DIFFERENT_MAX: usize = 256;
/// As many slots are looked at for one part: texts that were made to fall into the same slots are taken
/// for too many.
const PROBES_MAX: usize = 32;

/// The different parts so far, in a table of twice as many slots as there can be.
pub(super) struct Different<'a> {
    bytes: &'a [u8],
    spans: [(u32, u32); DIFFERENT_MAX],
    count: usize,
    /// One more than the number of the part there; 0: none.
    slots: [u16; 2 * DIFFERENT_MAX],
}

impl<'a> Different<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Different<'a> {
        Different {
            bytes,
            spans: [(0, 0); DIFFERENT_MAX],
            count: 0,
            slots: [0; 2 * DIFFERENT_MAX],
        }
    }

    /// The number of a part, which lies there, and whether it is new; `None` if there is no place for
    /// it.
    pub(super) fn number_of(&mut self, part: &[u8], span: (u32, u32)) -> Option<(u8, bool)> {
        let first = hash(part);
        for probe in 0..PROBES_MAX {
            let slot = self.slots.get_mut((first + probe) % (2 * DIFFERENT_MAX))?;
            let Some(number) = slot.checked_sub(1) else {
                let number = u8::try_from(self.count).ok()?;
                *slot = u16::from(number) + 1;
                *self.spans.get_mut(self.count)? = span;
                self.count += 1;
                return Some((number, true));
            };
            let (begin, end) = *self.spans.get(usize::from(number))?;
            if self.bytes.get(begin as usize..end as usize)? == part {
                return Some((u8::try_from(number).ok()?, false));
            }
        }
        None
    }

    /// Where they lie, in the order of their numbers.
    pub(super) fn spans(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.spans.iter().take(self.count).copied()
    }
}

/// Spreads what programs call their events; nobody relies on it.
fn hash(part: &[u8]) -> usize {
    let mut sum = part.len() as u64;
    let mut add = |word: u64| {
        sum = (sum.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    };
    let words = part.chunks_exact(8);
    let mut rest = 0;
    for &byte in words.remainder() {
        rest = rest << 8 | u64::from(byte);
    }
    words.for_each(|word| add(get_u64(word, 0)));
    add(rest);
    usize::try_from(sum >> 48).unwrap_or(0)
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
