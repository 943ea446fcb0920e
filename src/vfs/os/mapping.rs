//! Mappings of files: the one place that makes and unmakes them, and the two that only read.
//!
//! [`Mapping`] shows bytes in place, for who knows that nobody changes them. [`MappedFile`] only ever
//! copies out of its mapping, so it may be of a file that others write to.

use super::page_table::PagedMapping;
use super::{RealFile, PAGE_LEN};
use crate::vfs::File;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;

/// Part of a file in the address space of this process, as long as the value lives. It is raw memory:
/// what may be done with it, its owner argues.
#[derive(Debug)]
pub(super) struct Mapped {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process and not to a thread, so it may be unmapped by any; nothing is
// done to its bytes here.
unsafe impl Send for Mapped {}
// SAFETY: a shared `Mapped` only tells where it is.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps `len` bytes, at least one, at `offset`, a multiple of the length of a page. `protection` and
    /// `flags` are those of `mmap`, with no flag that names a place.
    pub(super) fn new(
        file: &fs::File,
        offset: u64,
        len: usize,
        protection: libc::c_int,
        flags: libc::c_int,
    ) -> io::Result<Mapped> {
        let offset = super::to_off_t(offset)?;
        // SAFETY: a fresh mapping of an open regular file; null lets the kernel choose the place, so no
        // existing mapping is touched. The result is checked before use.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                flags,
                file.as_raw_fd(),
                offset,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Nothing is ever put at address 0 unless a flag asks for it.
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapped { address, len })
    }

    pub(super) fn address(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Enters the page that begins at `at` into the page table, and with it those of its window that are in
    /// memory already. `MAP_POPULATE` enters each page by itself, which takes three times as long.
    pub(super) fn enter_page(&self, at: usize) {
        if at >= self.len || at % PAGE_LEN != 0 {
            return;
        }
        // SAFETY: the page is one of the mapping, and `at` is where it begins. The call reads it into the
        // page table, and gives an error instead of a signal where that fails; then whoever reads the
        // page learns of it.
        unsafe {
            let address = self.address().add(at).cast();
            libc::madvise(address, PAGE_LEN, libc::MADV_POPULATE_READ);
        }
    }
}

/// Part of a mapping whose pages are entered together: as much as the kernel enters with a page that it is
/// asked for, of what is in memory already. Windows begin at addresses that are multiples of it.
pub(super) const WINDOW_LEN: usize = 64 << 10;

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped; whoever uses the address owns this value, or borrows
        // it, and so is through with it.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.len) };
    }
}

/// Bytes of a file, looked at in place.
///
/// They are the file's as long as this lives, whatever becomes of its name. Where the file can't be read,
/// or is shorter by now, looking at them ends the process with SIGBUS.
#[derive(Debug)]
pub struct Mapping(Mapped);

impl Mapping {
    pub(super) fn new(file: &fs::File, offset: u64, len: usize) -> io::Result<Mapping> {
        let mapped = Mapped::new(file, offset, len, libc::PROT_READ, libc::MAP_SHARED)?;
        // Ahead of who looks at them, since a fault for each takes longer than looking.
        let second = WINDOW_LEN - mapped.address() as usize % WINDOW_LEN;
        for window in std::iter::once(0).chain((second..len).step_by(WINDOW_LEN)) {
            mapped.enter_page(window);
        }
        Ok(Mapping(mapped))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has that many readable bytes at its address, which is not null, and lives
        // as long as the borrow of `self`. That they do not change meanwhile is what the log sees to:
        // only bytes below the end of a sealed segment are looked at, no writer writes there again, and
        // none uses the file again for something else while its reader holds the shared lock on it. A
        // program that writes into a log's files against all rules can break this; it could as well
        // write into the memory of this process.
        unsafe { std::slice::from_raw_parts(self.0.address(), self.0.len()) }
    }
}

/// A file whose bytes, as many as it had when it was opened, are read through a mapping; others are
/// read as those of every file.
#[derive(Debug)]
pub(super) struct MappedFile {
    file: Arc<RealFile>,
    /// There is no mapping of nothing.
    mapped: Option<Arc<PagedMapping>>,
}

/// What a processor fetches at once.
const CACHE_LINE_LEN: usize = 64;

impl MappedFile {
    pub(super) fn new(file: RealFile) -> io::Result<MappedFile> {
        let file = Arc::new(file);
        let len = usize::try_from(file.len()?)
            .map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
        let mapped = match len {
            0 => None,
            _ => {
                let (protection, flags) = (libc::PROT_READ, libc::MAP_SHARED);
                let mapped = Mapped::new(&file.0, 0, len, protection, flags)?;
                Some(PagedMapping::new(Arc::clone(&file), mapped))
            }
        };
        Ok(MappedFile { file, mapped })
    }

    /// How many of `len` bytes at `offset` are mapped, from where on; `None` if they are better had by a call.
    fn find(&self, offset: u64, len: usize) -> Option<(*const u8, usize)> {
        let paged = self.mapped.as_ref()?;
        let mapped = paged.mapped();
        let offset = usize::try_from(offset).ok()?;
        let there = mapped.len().checked_sub(offset)?.min(len);
        if !paged.enter(offset) {
            return None;
        }
        // SAFETY: `offset` is at most the length of the mapping, so the result is inside of it or right
        // behind it.
        let from = unsafe { mapped.address().add(offset) };
        (there > 0).then_some((from.cast_const(), there))
    }
}

impl File for MappedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Some((from, len)) = self.find(offset, buf.len()) else {
            return self.file.read_at(offset, buf);
        };
        // SAFETY: `from` is followed by `len` mapped bytes, which live as long as `self`; `len` is at
        // most that of `buf`, and `buf` is memory of ours, so they don't overlap. Other processes may
        // write to the file meanwhile: that makes the copy a mixture, which checksums find, and no
        // reference into the mapping exists whose promise it would break. A page that can't be had is a
        // signal, as `OpenMode` says.
        unsafe { std::ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), len) };
        Ok(len)
    }

    fn expect(&self, offset: u64, len: usize) {
        let Some((from, len)) = self.find(offset, len) else {
            return;
        };
        // From the beginning of the first line on, so that the last one is not left out.
        let ahead = from as usize % CACHE_LINE_LEN;
        for line in (0..len + ahead).step_by(CACHE_LINE_LEN) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: mappings begin at a page, so `from` can be taken back by `ahead`, and what is
            // less than `len` behind it is inside of the mapping. The instruction is a hint: it reads
            // nothing into the program and never faults.
            unsafe {
                use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
                _mm_prefetch::<_MM_HINT_T0>(from.sub(ahead).add(line).cast());
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = (from, line);
        }
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.file.write_at(offset, data)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.file.next_data(offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
