//! Structs whose first field is `struct_size`, so that they can grow at the end.
//!
//! The caller writes the size *it* was compiled with. A smaller one (an older program) is served
//! with the fields it knows; a larger one (a newer program) is accepted as long as it asks for
//! nothing this library does not know. What cannot be the size of any version is refused: below the
//! first version, or above [`LEN_MAX`], which is what memory that nobody initialised looks like.

#![allow(
    unsafe_code,
    reason = "structs of another version are read and written as bytes"
)]

use crate::error::{Error, Result};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// No version of any struct will be larger, so a larger `struct_size` is garbage.
const LEN_MAX: usize = 4096;

/// A `#[repr(C)]` struct that begins with `struct_size: u32`.
///
/// # Safety The type is `repr(C)`, its first field is the `u32` `struct_size`, and all zeros is a
/// valid value of it as is any value C can give to its fields.
pub(super) unsafe trait SizedStruct: Copy {
    /// Name in C, for messages.
    const NAME: &'static str;
    /// Size in the first released version. Once a field is added, this becomes the offset of that
    /// field.
    const LEN_FIRST: usize;
}

/// Size that the caller wrote into the struct, if it can be one.
unsafe fn caller_len<T: SizedStruct>(name: &str, place: *const T) -> Result<usize> {
    if place.is_null() {
        return Err(Error::invalid(format!("{name} is NULL")));
    }
    if !place.is_aligned() {
        return Err(Error::invalid(format!(
            "{name} is at {place:p}, which is not a multiple of {}",
            align_of::<T>()
        )));
    }
    // SAFETY: `struct_size` is the first field of every version, and the caller of this function
    // promises that it is readable.
    let len = unsafe { place.cast::<u32>().read() };
    usize::try_from(len)
        .ok()
        .filter(|len| (T::LEN_FIRST..=LEN_MAX).contains(len))
        .ok_or_else(|| {
            Error::invalid(format!(
                "struct_size of {} is {len}, expected {} (this library) or another version's, at \
                 least {}",
                T::NAME,
                size_of::<T>(),
                T::LEN_FIRST
            ))
        })
}

/// Reads a struct of options: fields the caller does not have are zero, fields this library does
/// not have must be.
///
/// # Safety
/// If `place` is not NULL, as many bytes as its `struct_size` says are readable and initialised.
pub(super) unsafe fn read<T: SizedStruct>(name: &str, place: *const T) -> Result<T> {
    // SAFETY: the same promise.
    let len = unsafe { caller_len(name, place) }?;
    // SAFETY: `len` bytes are readable by the promise; `u8` has no alignment and no invalid value.
    let bytes = unsafe { std::slice::from_raw_parts(place.cast::<u8>(), len) };
    let known = len.min(size_of::<T>());
    if bytes[known..].iter().any(|byte| *byte != 0) {
        return Err(Error::invalid(format!(
            "{} of {len} bytes sets fields that this library of {} bytes does not know",
            T::NAME,
            size_of::<T>()
        )));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` is at most the size of both; the two do not overlap, one is ours. The result
    // is a valid `T` because zeros and whatever C writes into its fields are (`SizedStruct`).
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_mut_ptr().cast::<u8>(), known);
        Ok(value.assume_init())
    }
}

/// A struct to be filled for the caller, checked before the work begins.
pub(super) struct SizedOut<T> {
    place: NonNull<T>,
    len: usize,
}

impl<T: SizedStruct> SizedOut<T> {
    /// A place whose `struct_size` the caller has set.
    ///
    /// # Safety
    /// If `place` is not NULL, its `struct_size` is readable, and as many bytes as that says are
    /// writable as long as this value lives.
    pub(super) unsafe fn new(name: &str, place: *mut T) -> Result<SizedOut<T>> {
        // SAFETY: the same promise.
        let len = unsafe { caller_len(name, place) }?;
        NonNull::new(place)
            .map(|place| SizedOut { place, len })
            .ok_or_else(|| Error::invalid(format!("{name} is NULL")))
    }

    /// Fills what the caller has of the struct, and no byte more. `struct_size` stays the caller's.
    pub(super) fn set(self, value: &T) {
        let skip = size_of::<u32>();
        let known = self.len.min(size_of::<T>());
        // SAFETY: `known` bytes are readable in `value` and, by the promise made to `new`,
        // writable at `place`; `known` is at least LEN_FIRST and so above `skip`; the two do not
        // overlap, one is ours.
        unsafe {
            std::ptr::copy_nonoverlapping(
                std::ptr::from_ref(value).cast::<u8>().add(skip),
                self.place.as_ptr().cast::<u8>().add(skip),
                known - skip,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 2 of a struct that had only `a` in version 1.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Grown {
        struct_size: u32,
        a: u32,
        b: u64,
    }

    // SAFETY: `repr(C)`, `struct_size` first, integers only.
    unsafe impl SizedStruct for Grown {
        const NAME: &'static str = "grown_t";
        const LEN_FIRST: usize = 8;
    }

    fn read_words(words: &[u64]) -> Result<Grown> {
        // SAFETY: each test says a size that its array has.
        unsafe { read("options", words.as_ptr().cast::<Grown>()) }
    }

    fn first(len: u32, a: u32) -> u64 {
        let [l, a] = [len.to_ne_bytes(), a.to_ne_bytes()];
        u64::from_ne_bytes([l[0], l[1], l[2], l[3], a[0], a[1], a[2], a[3]])
    }

    #[test]
    fn older_callers_get_zero_for_what_they_do_not_have() {
        let read = read_words(&[first(8, 5), u64::MAX]).unwrap();
        assert_eq!((read.a, read.b), (5, 0));
    }

    #[test]
    fn newer_callers_may_not_use_what_is_unknown() {
        assert_eq!(read_words(&[first(24, 5), 6, 0]).unwrap().b, 6);
        assert!(read_words(&[first(24, 5), 6, 1]).is_err());
    }

    #[test]
    fn sizes_of_no_version_are_refused() {
        assert!(read_words(&[first(0, 0), 0]).is_err());
        assert!(read_words(&[first(7, 0), 0]).is_err());
        assert!(read_words(&[first(u32::MAX, 0), 0]).is_err());
    }

    #[test]
    fn only_the_callers_bytes_are_written_and_its_size_is_kept() {
        let value = Grown {
            struct_size: 0,
            a: 1,
            b: 2,
        };
        let mut words = [first(8, 0), 77];
        let place = words.as_mut_ptr().cast::<Grown>();
        // SAFETY: 8 bytes are said and 16 are there.
        unsafe { SizedOut::new("out", place) }.unwrap().set(&value);
        assert_eq!(words, [first(8, 1), 77]);
    }
}
