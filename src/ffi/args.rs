//! Pointers and lengths from C, checked before they become slices and references.
//!
//! What can be checked is: NULL, alignment, lengths no object can have. What can't, that the
//! memory is there and stays, is the caller's promise (conventions 4 and 5 of the header), and
//! each function here is `unsafe` for that and nothing else.

#![allow(
    unsafe_code,
    reason = "turning pointers of the caller into slices is what this file is for"
)]

use crate::error::{Error, ErrorKind, Result};
use crate::format::event::EventId;
use crate::format::frame::PAYLOAD_LEN_MAX;
use crate::format::record::RECORD_LEN_MAX;
use std::ffi::{c_char, CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

/// Whether `count` items of `T` at `data` can be an array at all.
#[inline]
pub(super) fn check_array<T>(name: &str, data: *const T, count: usize) -> Result<()> {
    let fits = count
        .checked_mul(size_of::<T>())
        .filter(|len| isize::try_from(*len).is_ok())
        .is_some_and(|len| (data as usize).checked_add(len).is_some());
    if count == 0 || (fits && !data.is_null() && data.is_aligned()) {
        return Ok(());
    }
    Err(no_array(name, data, count))
}

/// Why that is not an array. Apart from the check, which is made for every record.
#[cold]
fn no_array<T>(name: &str, data: *const T, count: usize) -> Error {
    if data.is_null() {
        return Error::invalid(format!("{name} is NULL, but its length is {count}"));
    }
    if !data.is_aligned() {
        return Error::invalid(format!(
            "{name} is at {data:p}, which is not a multiple of {}",
            align_of::<T>()
        ));
    }
    Error::invalid(format!(
        "{name} has length {count}, more than memory can hold"
    ))
}

/// The array of `count` items at `data`; empty if `count` is 0, whatever `data` is.
///
/// # Safety
/// If `data` is not NULL it points to `count` initialised items that nobody changes during `'a`.
pub(super) unsafe fn array<'a, T>(name: &str, data: *const T, count: usize) -> Result<&'a [T]> {
    check_array(name, data, count)?;
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, aligned and not larger than `isize::MAX` bytes by `check_array`;
    // initialised and unchanged by the promise of the caller.
    Ok(unsafe { std::slice::from_raw_parts(data, count) })
}

/// Checks key and value of one record without touching their bytes: pointers and lengths first,
/// then the limit, so that a huge length is an error and never a read.
#[inline]
pub(super) fn check_record(
    key: *const u8,
    key_len: usize,
    value: *const u8,
    value_len: usize,
) -> Result<()> {
    check_array("key", key, key_len)?;
    check_array("value", value, value_len)?;
    check_record_len(key_len, value_len)
}

/// Refuses a record over the limit of FORMAT.md section 16.
#[inline]
pub(super) fn check_record_len(key_len: usize, value_len: usize) -> Result<()> {
    // Neither addend is above `isize::MAX` or `u32::MAX`; saturating keeps a 32-bit sum honest.
    let len = key_len.saturating_add(value_len);
    if len <= RECORD_LEN_MAX {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::TooLarge,
        format!(
            "key_len {key_len} and value_len {value_len} make {len} bytes, a record holds at most \
             {RECORD_LEN_MAX}"
        ),
    ))
}

/// Refuses data of a checkpoint over the limit of FORMAT.md section 16.
pub(super) fn check_data_len(len: usize) -> Result<()> {
    if len > PAYLOAD_LEN_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("the data has {len} bytes, a checkpoint holds at most {PAYLOAD_LEN_MAX}"),
        ));
    }
    Ok(())
}

/// A path of the file system, byte for byte as C gave it.
///
/// # Safety
/// If `path` is not NULL it points to bytes that end with a NUL and that nobody changes during
/// `'a`.
pub(super) unsafe fn path<'a>(path: *const c_char) -> Result<&'a Path> {
    if path.is_null() {
        return Err(Error::invalid("path is NULL"));
    }
    // SAFETY: not NULL; ends with a NUL by the promise of the caller.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    if bytes.is_empty() {
        return Err(Error::invalid("path is empty"));
    }
    Ok(Path::new(OsStr::from_bytes(bytes)))
}

/// A text of the caller: UTF-8 without a NUL. Its length is checked before a byte is touched.
///
/// # Safety
/// If `data` is not NULL it points to `len` initialised bytes that nobody changes during `'a`.
pub(super) unsafe fn text<'a>(
    name: &str,
    data: *const c_char,
    len: usize,
    len_max: usize,
) -> Result<&'a str> {
    // SAFETY: the same promise.
    let bytes = unsafe { short_array(name, data.cast::<u8>(), len, len_max) }?;
    std::str::from_utf8(bytes).map_err(|error| {
        let good = error.valid_up_to();
        Error::invalid(format!("{name} is not UTF-8 from byte {good} on"))
    })
}

/// Bytes of the caller, of which there can't be many.
///
/// # Safety
/// As for [`array`].
pub(super) unsafe fn short_array<'a>(
    name: &str,
    data: *const u8,
    len: usize,
    len_max: usize,
) -> Result<&'a [u8]> {
    check_array(name, data, len)?;
    if len > len_max {
        return Err(Error::invalid(format!(
            "{name} has {len} bytes, at most {len_max} are allowed"
        )));
    }
    // SAFETY: the same promise.
    unsafe { array(name, data, len) }
}

/// The array of `count` items at `data`; `None` for NULL.
///
/// # Safety
/// As for [`array`].
pub(super) unsafe fn optional_array<'a, T>(
    name: &str,
    data: *const T,
    count: usize,
) -> Result<Option<&'a [T]>> {
    if data.is_null() {
        return Ok(None);
    }
    // SAFETY: the same promise.
    Ok(Some(unsafe { array(name, data, count) }?))
}

/// The 16 bytes at `data`; `None` for NULL.
///
/// # Safety
/// If `data` is not NULL it points to 16 initialised bytes that nobody changes meanwhile.
pub(super) unsafe fn optional_id(name: &str, data: *const u8) -> Result<Option<EventId>> {
    // SAFETY: the same promise.
    let bytes = unsafe { optional_array(name, data, size_of::<EventId>()) }?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()))
}

/// A place for one output. It is looked at before the work begins and written when the work is
/// done, because outputs are written only on success.
pub(super) struct Out<T> {
    place: Option<NonNull<T>>,
}

impl<T> Out<T> {
    /// A place that must be given.
    ///
    /// # Safety
    /// If `place` is not NULL it is valid for writing a `T` as long as this value lives.
    pub(super) unsafe fn required(name: &str, place: *mut T) -> Result<Out<T>> {
        if place.is_null() {
            return Err(Error::invalid(format!("{name} is NULL")));
        }
        // SAFETY: the same promise.
        unsafe { Out::optional(name, place) }
    }

    /// A place that may be NULL: then the output is not wanted.
    ///
    /// # Safety
    /// As for [`Out::required`].
    pub(super) unsafe fn optional(name: &str, place: *mut T) -> Result<Out<T>> {
        if !place.is_aligned() {
            return Err(Error::invalid(format!(
                "{name} is {place:p}, which is not a multiple of {}",
                align_of::<T>()
            )));
        }
        Ok(Out {
            place: NonNull::new(place),
        })
    }

    /// Writes the output.
    pub(super) fn set(self, value: T) {
        if let Some(place) = self.place {
            // SAFETY: aligned by the check in `optional`, writable by the promise made to it. The
            // old content is not dropped: C never initialised it.
            unsafe { place.as_ptr().write(value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_allowed_only_with_length_zero() {
        assert!(check_array::<u8>("x", std::ptr::null(), 0).is_ok());
        let error = check_array::<u8>("x", std::ptr::null(), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn lengths_that_no_object_has_are_refused() {
        let byte = 0_u8;
        let max = isize::MAX.unsigned_abs();
        assert!(check_array("x", &raw const byte, max + 1).is_err());
        assert!(check_array("x", &raw const byte, usize::MAX).is_err());
        let word = 0_u32;
        assert!(check_array("x", &raw const word, usize::MAX / 4 + 2).is_err());
        let high = std::ptr::null::<u8>().wrapping_sub(3);
        assert!(check_array("x", high, 4).is_err());
    }

    #[test]
    fn unaligned_arrays_are_refused() {
        let odd = std::ptr::null::<u32>().wrapping_byte_add(4098);
        assert!(check_array("x", odd, 1).is_err());
    }

    #[test]
    fn record_over_the_limit_is_too_large_and_not_read() {
        let byte = 0_u8;
        let error = check_record(&raw const byte, RECORD_LEN_MAX, &raw const byte, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(check_record_len(RECORD_LEN_MAX, 0).is_ok());
    }
}
