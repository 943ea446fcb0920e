//! Mappings whose pages are entered into the page table before they are looked at: by who reads, a window
//! at a time, and once he reads in many places by a thread, all that is in memory already.
//!
//! A page that is not in the table costs whoever looks at it a fault, which takes longer than to read an
//! event. To enter what is in memory takes the processor only, and nothing is read from the disk for it.

use super::mapping::{Mapped, WINDOW_LEN};
use super::{RealFile, FORK_COUNT, PAGE_LEN};
use crate::worker::{self, Worker};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Windows that the thread looks at together.
const WINDOWS_TOGETHER: usize = 16;
/// So many windows are entered one by one before the thread is asked to enter the rest: who reads a few
/// streams does not need it.
const ENTERED_ALONE: usize = 16;

/// The thread that enters what is left of the mappings of all readers.
static ENTERER: Worker<Weak<PagedMapping>> = Worker::new("duralog-pages", enter_rest);

/// See the module.
#[derive(Debug)]
pub(super) struct PagedMapping {
    mapped: Mapped,
    file: Arc<RealFile>,
    /// A bit per window, set by who enters it.
    entered: Box<[AtomicU64]>,
    /// How many were entered by who reads.
    entered_alone: AtomicUsize,
    /// The thread was asked to enter the rest, and has not come to the end of it.
    is_underway: AtomicBool,
}

impl PagedMapping {
    /// `mapped` is of `file`, from its beginning on.
    pub(super) fn new(file: Arc<RealFile>, mapped: Mapped) -> Arc<PagedMapping> {
        let words = mapped.len().div_ceil(WINDOW_LEN).div_ceil(64);
        Arc::new(PagedMapping {
            mapped,
            file,
            entered: (0..words).map(|_| AtomicU64::new(0)).collect(),
            entered_alone: AtomicUsize::new(0),
            is_underway: AtomicBool::new(false),
        })
    }

    pub(super) fn mapped(&self) -> &Mapped {
        &self.mapped
    }

    /// Enters the page at `offset` into the page table, if nothing was read around it before, and with it
    /// those of its window that are in memory already. A call for it takes less than a fault, and lets
    /// what is announced be fetched: a processor fetches nothing from a page that it doesn't find.
    ///
    /// False: it is left to the thread, which is at work and would be kept from it. Until it has entered the
    /// page, to read it by a call takes less than to enter it.
    pub(super) fn enter(self: &Arc<Self>, offset: usize) -> bool {
        let window = offset / WINDOW_LEN;
        if offset >= self.mapped.len() || self.is_entered(window) {
            return true;
        }
        if self.is_underway.load(Ordering::Relaxed) {
            return false;
        }
        if !self.claim(window) {
            return true;
        }
        self.mapped.enter_page(offset - offset % PAGE_LEN);
        let before = self.entered_alone.fetch_add(1, Ordering::Relaxed);
        if before + 1 == ENTERED_ALONE && worker::is_worth_it() {
            let fork_count = FORK_COUNT.load(Ordering::Relaxed);
            self.is_underway.store(true, Ordering::Relaxed);
            if !ENTERER.ask(fork_count, Arc::downgrade(self), |_| false) {
                self.is_underway.store(false, Ordering::Relaxed);
            }
        }
        true
    }

    fn is_entered(&self, window: usize) -> bool {
        let word = self.entered.get(window / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (window % 64)) != 0)
    }

    /// Whether this window was entered by nobody before; from now on it was.
    fn claim(&self, window: usize) -> bool {
        let bit = 1 << (window % 64);
        let word = self.entered.get(window / 64);
        word.is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// Enters those of some windows that are in memory; false if there are none from `first` on, or it can't
    /// be known.
    fn enter_some(&self, first: usize) -> bool {
        for window in first..first + WINDOWS_TOGETHER {
            let begin = window * WINDOW_LEN;
            if begin >= self.mapped.len() {
                return false;
            }
            match self.is_in_memory(begin) {
                Ok(true) if self.claim(window) => self.mapped.enter_page(begin),
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Whether the page at `at` can be had without the disk.
    fn is_in_memory(&self, at: usize) -> io::Result<bool> {
        let mut byte = 0u8;
        let place = libc::iovec {
            iov_base: std::ptr::from_mut(&mut byte).cast(),
            iov_len: 1,
        };
        let at = super::to_off_t(at as u64)?;
        // SAFETY: one place, of one byte that is ours and writable.
        let read =
            unsafe { libc::preadv2(self.file.0.as_raw_fd(), &place, 1, at, libc::RWF_NOWAIT) };
        match read {
            0.. => Ok(read == 1),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                // Not every file system can say.
                error => Err(error),
            },
        }
    }
}

/// Enters what is in memory, as long as somebody reads.
fn enter_rest(mapping: &Weak<PagedMapping>) {
    let mut first = 0;
    while mapping
        .upgrade()
        .is_some_and(|mapping| mapping.enter_some(first))
    {
        first += WINDOWS_TOGETHER;
    }
    if let Some(mapping) = mapping.upgrade() {
        mapping.is_underway.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::{Duration, Instant};

    const WINDOWS: usize = 3 * WINDOWS_TOGETHER + 2;

    /// A file that was just written, with an odd rest in its last window.
    fn paged() -> (Arc<PagedMapping>, Arc<RealFile>) {
        let bytes = vec![1; (WINDOWS - 1) * WINDOW_LEN + PAGE_LEN + 1];
        let path = tempfile::NamedTempFile::new().unwrap();
        fs::write(&path, &bytes).unwrap();
        let file = Arc::new(RealFile(fs::File::open(&path).unwrap()));
        let (protection, flags) = (libc::PROT_READ, libc::MAP_SHARED);
        let mapped = Mapped::new(&file.0, 0, bytes.len(), protection, flags).unwrap();
        (PagedMapping::new(Arc::clone(&file), mapped), file)
    }

    fn is_told(paged: &PagedMapping) -> bool {
        let is_told = paged.is_in_memory(0).is_ok();
        if !is_told {
            println!("skipped: this file system does not say what is in memory");
        }
        is_told
    }

    fn entered(paged: &PagedMapping) -> usize {
        let ones = |word: &AtomicU64| word.load(Ordering::Relaxed).count_ones() as usize;
        paged.entered.iter().map(ones).sum()
    }

    #[test]
    fn who_reads_in_many_places_has_the_rest_entered() {
        let (paged, _) = paged();
        if !is_told(&paged) {
            return;
        }
        for window in 0..ENTERED_ALONE - 1 {
            paged.enter(2 * window * WINDOW_LEN + 5);
            paged.enter((2 * window + 1) * WINDOW_LEN - 1);
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(
            entered(&paged),
            ENTERED_ALONE - 1,
            "each once, and no others"
        );
        paged.enter((WINDOWS - 1) * WINDOW_LEN);
        if !worker::is_worth_it() {
            println!("skipped: one processor, so there is no thread for it");
            return;
        }
        let begun = Instant::now();
        while entered(&paged) < WINDOWS {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{}",
                entered(&paged)
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn while_the_thread_is_at_work_nobody_else_enters_anything() {
        let (paged, _) = paged();
        if !is_told(&paged) {
            return;
        }
        assert!(paged.enter(WINDOW_LEN));
        paged.is_underway.store(true, Ordering::Relaxed);
        assert!(paged.enter(WINDOW_LEN + 1), "it was entered before");
        assert!(!paged.enter(0));
        assert_eq!(entered(&paged), 1);
        enter_rest(&Arc::downgrade(&paged));
        assert!(paged.enter(0));
        assert_eq!(entered(&paged), WINDOWS);
        assert!(!paged.is_underway.load(Ordering::Relaxed));
    }

    #[test]
    fn what_is_not_in_memory_is_left_to_who_needs_it() {
        let (paged, file) = paged();
        if !is_told(&paged) {
            return;
        }
        file.0.sync_all().unwrap();
        // SAFETY: an open file; the call changes no memory of this process.
        let outcome =
            unsafe { libc::posix_fadvise(file.0.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        assert_eq!(outcome, 0);
        if paged.is_in_memory(WINDOW_LEN).unwrap() {
            println!("skipped: this file system keeps its files in memory");
            return;
        }
        paged.is_underway.store(true, Ordering::Relaxed);
        enter_rest(&Arc::downgrade(&paged));
        assert_eq!(entered(&paged), 0);
        assert!(paged.enter(WINDOW_LEN));
        assert_eq!(entered(&paged), 1);
        assert!(paged.is_in_memory(WINDOW_LEN).unwrap(), "it was read");
    }

    #[test]
    fn nothing_is_entered_of_a_mapping_that_is_gone() {
        let (paged, _) = paged();
        let gone = Arc::downgrade(&paged);
        drop(paged);
        enter_rest(&gone);
    }
}
