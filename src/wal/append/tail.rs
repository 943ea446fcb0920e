//! The writer's side of the tail page (FORMAT.md section 10): marks for readers in other processes,
//! and a promise that survives the death of the process, though not of the machine.

use crate::error::{Error, Result};
use crate::format::tail_page::{
    evidence_check, identity_words, WORDS_EVIDENCE, WORD_ACKNOWLEDGED, WORD_SEGMENT, WORD_WAKE,
};
use crate::lsn::Lsn;
use crate::vfs::{SharedPage, Vfs};
use crate::wal::layout::Layout;
use std::sync::Arc;

/// Owned by the segment writer; stores are made under its lock, so the order here is the order
/// that other processes see.
pub(crate) struct Tail {
    page: Arc<dyn SharedPage>,
    log_id: [u8; 16],
    boot_id: [u8; 16],
    durable_lsn: Lsn,
    /// The evidence slot written last.
    slot: usize,
}

impl Tail {
    /// Makes the page say where the log stands when it is opened for writing.
    pub(crate) fn install(
        vfs: &dyn Vfs,
        layout: &Layout,
        log_id: [u8; 16],
        segment: u64,
        end_lsn: Lsn,
    ) -> Result<Tail> {
        let path = layout.tail();
        let page = vfs
            .map_shared(&path)
            .map_err(|error| Error::io("map", &path, error))?;
        let boot_id = vfs
            .boot_id()
            .map_err(|error| Error::io("read boot id for", &path, error))?;
        // First the page stops being one, so that no reader takes a mixture for it.
        page.store(0, 0);
        for slot in WORDS_EVIDENCE {
            page.store(slot, 0);
            page.store(slot + 1, 0);
        }
        page.store(WORD_ACKNOWLEDGED, end_lsn.0);
        page.store(WORD_SEGMENT, segment);
        let pid = u64::from(std::process::id());
        page.store(WORD_WAKE, pid << 32);
        let identity = identity_words(&log_id, &boot_id);
        for (word, value) in identity.iter().enumerate().skip(1) {
            page.store(word, *value);
        }
        let mut tail = Tail {
            page,
            log_id,
            boot_id,
            durable_lsn: Lsn::NONE,
            slot: 1,
        };
        tail.promise(end_lsn);
        tail.page.store(0, identity[0]);
        Ok(tail)
    }

    /// Everything below `lsn` is durable: called after the sync, never before.
    pub(crate) fn promise(&mut self, lsn: Lsn) {
        if lsn <= self.durable_lsn {
            return;
        }
        self.durable_lsn = lsn;
        self.slot = 1 - self.slot;
        let word = WORDS_EVIDENCE[self.slot];
        // The check is of the old number until the last store: a death in between makes this slot
        // invalid and leaves the other.
        self.page.store(word, lsn.0);
        self.page
            .store(word + 1, evidence_check(&self.log_id, &self.boot_id, lsn));
    }

    /// Everything below `lsn`, in segment `segment` or before, is acknowledged.
    pub(crate) fn acknowledge(&self, segment: u64, lsn: Lsn) {
        self.page.store(WORD_SEGMENT, segment);
        self.page.store(WORD_ACKNOWLEDGED, lsn.0);
        let wake = self.page.load(WORD_WAKE);
        let (pid, count) = (wake >> 32, wake & 0xFFFF_FFFF);
        let next = (count + 1) & 0xFFFF_FFFF;
        self.page.store(WORD_WAKE, (pid << 32) | next);
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail")
            .field("durable_lsn", &self.durable_lsn)
            .finish_non_exhaustive()
    }
}
