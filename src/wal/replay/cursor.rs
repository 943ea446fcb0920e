//! Step 3 of 3 of replay: records for the caller, segment by segment, batch by batch.
//!
//! A batch of one frame was checked whole when its frame was accepted. A batch of several frames is
//! walked to its COMMIT first and delivered in a second pass, so that nothing of it is shown before
//! all of it is known to be there, in memory that does not grow with the batch.
//!
//! Invariant: what is delivered lies below the end that [`LogView`] gives, is committed (or, for a
//! raw cursor, marked as not committed), and was verified in the very bytes that are handed out.

mod advance;
mod delivery;
mod entry;
mod page;
mod seek;
mod segment_end;

pub(crate) use advance::Standing;
pub(crate) use entry::Item;
pub use entry::{Entry, EntryKind, Page};

use super::salvage::Salvage;
use crate::error::{ErrorKind, Result};
use crate::lsn::Seq;
use crate::wal::view::LogView;
use advance::Advance;
use page::Columns;
pub(crate) use seek::RecordPlace;
use segment_end::truncated;
use std::sync::Arc;

/// Reads the log in order. Belongs to one thread at a time; independent of the handle that made
/// it. Arriving at the end is not final: later calls deliver what was appended since.
#[derive(Debug)]
pub struct Cursor {
    pub(super) view: Arc<LogView>,
    raw: bool,
    /// Sealed segments are looked at in place.
    mapped: bool,
    /// Records up to this number are not delivered (again).
    pub(super) floor: Seq,
    pub(super) standing: Option<Standing>,
    torn_shown: bool,
    columns: Columns,
    /// Set for the policy `Salvage`.
    pub(super) salvage: Option<Salvage>,
    fork_count: u64,
}

impl Cursor {
    pub(crate) fn new(view: Arc<LogView>, after_seq: Seq, raw: bool) -> Cursor {
        let floor = after_seq.max(view.truncated_seq());
        let salvage = view.salvaged().map(|_| Salvage::default());
        Cursor {
            fork_count: view.vfs.fork_count(),
            salvage,
            view,
            raw,
            mapped: false,
            floor,
            standing: None,
            torn_shown: false,
            columns: Columns::default(),
        }
    }

    /// Looks at sealed segments in place, through a mapping, instead of reading them: for who has
    /// more to read than the processor's cache holds and can live with the price. An error of the
    /// disk is then no [`Io`](ErrorKind::Io) but ends the process with a signal (SIGBUS), and so does a
    /// program that makes the files of the log shorter. What is given is verified all the same, and
    /// stays as it is until the next call.
    ///
    /// Where there are no mappings, and with the policy `Salvage`, all is read. The last segment is
    /// read always.
    #[must_use]
    pub fn mapped(mut self) -> Cursor {
        self.mapped = self.salvage.is_none();
        self
    }

    /// The next entry, or `None` at the end for now.
    #[allow(clippy::should_implement_trait)] // an entry borrows from the cursor
    pub fn next(&mut self) -> Result<Option<Entry<'_>>> {
        let Some(item) = self.next_item()? else {
            return Ok(None);
        };
        Ok(Some(item.entry(self.bytes_of(&item))))
    }

    /// The bytes that the places in `item` point into.
    fn bytes_of(&self, item: &Item) -> &[u8] {
        match (&self.salvage, &self.standing) {
            (Some(salvage), _) if item.kind == EntryKind::Gap => salvage.gap_text(),
            (_, Some(standing)) => standing.reader.window(),
            (_, None) => &[],
        }
    }

    fn next_item(&mut self) -> Result<Option<Item>> {
        if self.view.vfs.fork_count() != self.fork_count {
            return Err(crate::wal::forked());
        }
        let mut refreshed = false;
        loop {
            let advanced = match self.deliver() {
                Ok(Some(item)) => return Ok(Some(item)),
                Ok(None) => self.advance(true),
                Err(error) => Err(error),
            };
            let advanced = match advanced {
                Err(error) if self.salvage.is_some() && Salvage::passes_over(&error) => {
                    match self.pass_over(&error) {
                        Some(item) => return Ok(Some(item)),
                        None => continue,
                    }
                }
                Err(error) if error.is_corrupt() && self.was_retired() => {
                    let number = self.standing.as_ref().map_or(0, |standing| standing.number);
                    return Err(truncated(number));
                }
                Err(error) if error.kind() == ErrorKind::Truncated => {
                    // The next cursor of this handle begins with what is left.
                    let _ = self.view.look_again();
                    return Err(error);
                }
                advanced => advanced?,
            };
            match advanced {
                Advance::Item(item) => return Ok(Some(item)),
                Advance::End if !refreshed => {
                    // Another process may have written since; this handle's own writer
                    // publishes by itself.
                    self.view.refresh()?;
                    refreshed = true;
                }
                Advance::End => return Ok(None),
                Advance::Records | Advance::WouldRead => {}
            }
        }
    }

    /// Whether the segment in which the cursor stands was truncated meanwhile: its file may be in
    /// use for something else by now, so what looks like damage is none.
    fn was_retired(&self) -> bool {
        let Some(standing) = &self.standing else {
            return false;
        };
        let looked = self.view.look_again();
        let found = looked.and_then(|()| self.view.segment(standing.number));
        found.is_ok_and(|found| found.as_ref() != Some(standing.reader.header()))
    }
}
