//! A window: part of a file that is mapped shared and writable, so that writing costs no call.
//!
//! A store into a mapping can't report an error: a page that the kernel can't give, or can't let be
//! written, is a signal that ends the process. So all pages are asked for when the window is made, by
//! a call that gives errors (`MADV_POPULATE_WRITE`, since Linux 5.14); where it fails, there is no
//! window. What is left: a page that the kernel has written to the disk meanwhile is asked for again
//! by the next store into it, and the file may have been cut off, or its file system have given up,
//! by then.

use super::mapping::Mapped;
use crate::vfs::{Window, WindowKind};
use std::fs;
use std::io;
use std::ops::Range;

#[derive(Debug)]
pub(in crate::vfs) struct RealWindow {
    mapped: Mapped,
    /// Place of the first byte in the file.
    begin: u64,
}

impl RealWindow {
    pub(super) fn new(file: &fs::File, offset: u64, len: usize) -> io::Result<RealWindow> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let mapped = Mapped::new(file, offset, len, protection, libc::MAP_SHARED)?;
        // SAFETY: exactly the pages that were just mapped. The call changes no byte of them.
        let populated =
            unsafe { libc::madvise(mapped.address().cast(), len, libc::MADV_POPULATE_WRITE) };
        if populated != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(RealWindow {
            mapped,
            begin: offset,
        })
    }

    pub(in crate::vfs) fn range(&self) -> Range<u64> {
        self.begin..self.begin + self.mapped.len() as u64
    }

    pub(in crate::vfs) fn store(&mut self, offset: u64, data: &[u8]) {
        let at = offset.wrapping_sub(self.begin);
        let len = self.mapped.len() as u64;
        let inside = at <= len && data.len() as u64 <= len - at;
        assert!(inside, "{} bytes at {offset}, {self:?}", data.len());
        #[allow(
            clippy::cast_possible_truncation,
            reason = "at most the length, which is a usize"
        )]
        let at = at as usize;
        // SAFETY: `at` and `at + data.len()` were just found to be inside of the mapping, which lives as
        // long as `self`, and `data` is memory of ours, so they don't overlap. No reference into the
        // mapping exists. The kernel and other mappings of the file may read the same bytes meanwhile:
        // readers of the log take nothing for true that its end does not cover yet, and that moves on
        // after this, with a store that releases.
        unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr(), self.mapped.address().add(at), data.len());
        }
    }
}

impl From<RealWindow> for Window {
    fn from(window: RealWindow) -> Window {
        Window(WindowKind::Real(window))
    }
}
