//! Versions of the library, of this C face and of the files.

#![allow(
    unsafe_code,
    reason = "exports C symbols; nothing here is unsafe to call"
)]

use crate::format::{FORMAT_MAJOR, FORMAT_MINOR};
use std::ffi::c_char;

/// Version of the C face that this header describes. It grows with every addition; a program
/// works with any library whose duralog_abi_version() is at least the number it was compiled with.
pub const DURALOG_ABI_VERSION: u32 = 1;

static LIBRARY_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// Version of the library, such as "0.1.0".
///
/// Callable at any time, from any thread.
///
/// Returns a static text, never NULL.
#[no_mangle]
pub extern "C" fn duralog_library_version() -> *const c_char {
    LIBRARY_VERSION.as_ptr().cast()
}

/// Version of the C face of the library that is loaded, to be compared with DURALOG_ABI_VERSION.
///
/// Callable at any time, from any thread.
#[no_mangle]
pub extern "C" fn duralog_abi_version() -> u32 {
    DURALOG_ABI_VERSION
}

/// Version of the files that the library writes: major << 16 | minor (FORMAT.md section 15). It
/// reads every file of the same or a smaller major.
///
/// Callable at any time, from any thread.
#[no_mangle]
pub extern "C" fn duralog_format_version() -> u32 {
    u32::from(FORMAT_MAJOR) << 16 | u32::from(FORMAT_MINOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn library_version_is_the_packages() {
        // SAFETY: a static text with a NUL.
        let version = unsafe { CStr::from_ptr(duralog_library_version()) };
        assert_eq!(version.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
        assert_eq!(duralog_format_version(), 0x0001_0000);
    }
}
