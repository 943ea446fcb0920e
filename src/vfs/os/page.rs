//! The tail page: 512 words that processes share.

use super::mapping::Mapped;
use super::PAGE_LEN;
use crate::vfs::SharedPage;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
pub(super) struct MappedPage(Mapped);

impl MappedPage {
    /// The first page of a file that is at least that long.
    pub(super) fn new(file: &fs::File) -> io::Result<MappedPage> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let mapped = Mapped::new(file, 0, PAGE_LEN, protection, libc::MAP_SHARED)?;
        Ok(MappedPage(mapped))
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        let index = index.min(PAGE_LEN / 8 - 1);
        // SAFETY: the mapping is page-aligned, readable and writable, 4096 bytes long and lives as long
        // as the borrow of `self`, and `index` is below 512; all access to it in this process is
        // through atomics, and other processes can only change values, which atomics allow.
        unsafe { &*self.0.address().cast::<AtomicU64>().add(index) }
    }
}

impl SharedPage for MappedPage {
    fn load(&self, word: usize) -> u64 {
        u64::from_le(self.word(word).load(Ordering::Acquire))
    }

    fn store(&self, word: usize, value: u64) {
        self.word(word).store(value.to_le(), Ordering::Release);
    }
}
