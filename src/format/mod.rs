//! Bytes ⇄ values, and nothing else: no files, threads or clock. FORMAT.md is the norm; every
//! offset here has its section beside it.
//!
//! Decoders take `&[u8]`, check lengths before they believe them and cannot panic. Multi-byte
//! integers are little-endian on every machine.

pub mod checksum;
pub mod control;
pub mod digest;
pub mod event;
pub mod frame;
pub mod record;
pub mod segment_header;
pub mod tail_page;
pub mod varint;

/// `format_major` that this library writes and reads (FORMAT.md section 15).
pub const FORMAT_MAJOR: u16 = 1;
/// `format_minor` that this library writes.
pub const FORMAT_MINOR: u16 = 0;

pub(crate) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(get_array(bytes, at))
}

pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get_array(bytes, at))
}

pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(get_array(bytes, at))
}

/// `N` bytes at `at`; zeros where `bytes` is too short, which no caller lets happen.
pub(crate) fn get_array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    if let Some(found) = bytes.get(at..at.saturating_add(N)) {
        array.copy_from_slice(found);
    }
    array
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}
