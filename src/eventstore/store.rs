//! The handle of the event store.

use super::catalog::{Catalog, IndexLimits, IndexReport};
use super::index::{KeyKind, ListHead};
use super::published::Published;
use super::read_ahead::{Ahead, Reading};
use super::reader::{EventPage, Files, Progress, SparePages};
use super::request::{check_len, AppendReceipt, AppendRequest, Prepared};
use super::selection::Read;
use super::sequencer::Sequencer;
use super::snapshot::Saves;
use crate::error::{Error, ErrorKind, Result};
use crate::format::event::{category_of, position_of_derived_id, EventId};
use crate::format::get_u64;
use crate::vfs::os::RealDisk;
use crate::vfs::Vfs;
use crate::wal::{Durability, OpenHow, RecoveryPolicy, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;

/// Choices for [`EventStore::open`].
#[derive(Clone, Debug, Default)]
pub struct EventStoreOptions {
    /// Those of the log. A store writes one group of appends at a time, and at once:
    /// `groups_in_flight_max` and `buffer_bytes_max` change nothing.
    pub wal: WalOptions,
    /// Events and index are read through mappings of their files: scattered events come about
    /// twice as fast. The price: where the medium does not give what it holds, or a file is
    /// cut off by somebody else, the program ends with a signal (SIGBUS) instead of an error. What
    /// is read is verified in the same way. Not with the policy `Salvage`.
    pub mapped: bool,
    /// Those of the index. Meant for tests; what the store answers does not depend on it.
    #[doc(hidden)]
    pub index: IndexLimits,
}

/// What is known of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// Its version: how many events it has.
    pub stream_version: u64,
    /// Position of its first event.
    pub first_position: u64,
    /// Position of its last event.
    pub last_position: u64,
}

/// A name in the store: a stream, a category, a type or a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameInfo {
    /// The name.
    pub name: String,
    /// How many events bear it.
    pub event_count: u64,
    /// Position of the first of them.
    pub first_position: u64,
    /// Position of the last of them.
    pub last_position: u64,
}

/// What names are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameKind {
    /// Streams.
    Stream,
    /// Categories.
    Category,
    /// Event types.
    Type,
    /// Tags.
    Tag,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStat {
    /// The last position: how many events there are.
    pub last_position: u64,
    /// The log.
    pub log_id: [u8; 16],
    /// Files of the index.
    pub run_count: u64,
    /// Events that no file of the index covers yet: what is known of them is in memory, and is read
    /// from the log when the store is opened next.
    pub memory_events: u64,
    /// What is being done in the background, in keys: files of the index are made one. The total is
    /// an upper bound, and 0 while nothing is done.
    pub work_done: u64,
    /// See `work_done`.
    pub work_total: u64,
}

/// An open event store. Shared by threads; dropping it closes it, without telling of errors.
/// Readers and subscriptions are independent of it: they stay usable, and show what there is.
pub struct EventStore {
    pub(super) source: Arc<Source>,
    pub(super) sequencer: Arc<Sequencer>,
}

/// What reading needs: shared by the store and everything that reads from it.
pub(super) struct Source {
    pub(super) wal: Arc<Wal>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) files: Arc<Files>,
    pub(super) published: Arc<Published>,
    pub(super) snapshot_saves: Saves,
    spare_pages: SparePages,
    read_only: bool,
}

impl Source {
    /// The last position that may be read now.
    pub(super) fn last_position(&self) -> Result<u64> {
        self.wal.check_process()?;
        if self.read_only {
            return Ok(self.published.raise(self.catalog.follow()?));
        }
        Ok(self.published.last())
    }

    /// Whether this handle only reads, so that somebody else's appends have to be looked for.
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(super) fn fill(&self, page: &mut EventPage, positions: &[u64]) -> Result<()> {
        page.fill(&self.catalog, &self.files, positions)
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("wal", &self.wal)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for EventStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStore")
            .field("wal", &self.source.wal)
            .field("last_position", &self.source.published.last())
            .finish_non_exhaustive()
    }
}

impl EventStore {
    /// Opens the event store in directory `path`. Errors as for [`Wal::open`].
    pub fn open(path: impl AsRef<Path>, options: &EventStoreOptions) -> Result<EventStore> {
        EventStore::open_on(Arc::new(RealDisk::new()), path, options)
    }

    /// Opens an event store on another [`Vfs`], for example a simulated disk.
    pub fn open_on(
        vfs: Arc<dyn Vfs>,
        path: impl AsRef<Path>,
        options: &EventStoreOptions,
    ) -> Result<EventStore> {
        EventStore::open_with_progress(vfs, path, options, &mut |_, _| true)
    }

    /// Like [`open_on`](Self::open_on). What the index lacks is read from the log, by several threads;
    /// `progress` is told now and then, on this thread, how many bytes of the log the index covers,
    /// and of how many; if it returns false, the answer is the error `Stopped`.
    pub fn open_with_progress(
        vfs: Arc<dyn Vfs>,
        path: impl AsRef<Path>,
        options: &EventStoreOptions,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<EventStore> {
        let read_only = options.wal.how == OpenHow::ReadOnly;
        let path = path.as_ref();
        let wal = Arc::new(Wal::open_on(Arc::clone(&vfs), path, &options.wal)?);
        let dir = path.join("index");
        let salvages = options.wal.recovery_policy == RecoveryPolicy::Salvage;
        let mapped = options.mapped && !salvages;
        let catalog = Arc::new(Catalog::open(
            vfs,
            Arc::clone(&wal),
            dir,
            !read_only,
            mapped,
            options.index,
            progress,
        )?);
        // What can't be written or merged now is tried again with the next layer.
        let _ = catalog.begin_work();
        let last = catalog.last_position();
        if !read_only {
            wal.raise_time(catalog.last_time_ns())?;
        }
        let published = Arc::new(Published::new(last));
        let files = Arc::new(Files::new(Arc::clone(&wal), mapped));
        let sequencer = Sequencer::new(
            Arc::clone(&wal),
            Arc::clone(&catalog),
            Arc::clone(&files),
            Arc::clone(&published),
        );
        Ok(EventStore {
            source: Arc::new(Source {
                wal,
                catalog,
                files,
                published,
                snapshot_saves: Saves::default(),
                spare_pages: SparePages::default(),
                read_only,
            }),
            sequencer: Arc::new(sequencer),
        })
    }

    /// The log underneath: its report, statistics, checkpoints. Do not append to it, and do not
    /// truncate it: events stay.
    #[must_use]
    pub fn wal(&self) -> &Wal {
        &self.source.wal
    }

    // ---- appending ---------------------------------------------------------------------------

    /// Appends events and side records: all of them or nothing.
    ///
    /// Errors: `Conflict` ([`Error::conflicts`] has every precondition that did not hold),
    /// `Duplicate` ([`Error::known_ids`]), `InvalidArgument`, `TooLarge`, `EmptyBatch`; and those
    /// of [`Wal::append_batch`]. After `Conflict`, `Duplicate`, `Full` and errors of arguments
    /// nothing was written.
    pub fn append(
        &self,
        request: &AppendRequest<'_>,
        durability: Durability,
    ) -> Result<AppendReceipt> {
        if self.source.read_only {
            let message = "the event store was opened for reading only";
            return Err(Error::new(ErrorKind::ReadOnly, message));
        }
        self.source.wal.check_process()?;
        self.sequencer.append(Prepared::new(request)?, durability)
    }

    /// Makes everything that was appended before durable.
    pub fn sync(&self) -> Result<()> {
        self.sequencer.sync()
    }

    // ---- reading -----------------------------------------------------------------------------

    /// The last position now: how many events there are.
    pub fn last_position(&self) -> Result<u64> {
        self.source.wal.check_readable()?;
        self.source.last_position()
    }

    /// Begins to read. The events are those that are there when a page is asked for.
    pub fn read(&self, read: Read) -> Result<EventReader> {
        self.source.wal.check_readable()?;
        read.check()?;
        Ok(EventReader {
            source: Arc::clone(&self.source),
            reading: Reading::new(Progress::new(read), self.source.spare_pages.take()),
            ahead: Ahead::new(),
            at_end: false,
        })
    }

    /// The event at `position`, in a page of its own; an empty page if there is none.
    pub fn event_at(&self, position: u64) -> Result<EventPage> {
        let mut page = EventPage::default();
        if position > 0 && position <= self.last_position()? {
            self.source.fill(&mut page, &[position])?;
        }
        Ok(page)
    }

    /// The event with this id, its own or a derived one; an empty page if there is none.
    pub fn event_by_id(&self, id: &EventId) -> Result<EventPage> {
        let last = self.last_position()?;
        let own = self.source.catalog.ask(|s| s.value(KeyKind::Id, id))?;
        if let Some(bytes) = own {
            return self.event_at(get_u64(&bytes, 0));
        }
        let derived = position_of_derived_id(self.source.wal.log_id(), id);
        let Some(position) = derived.filter(|&position| position <= last) else {
            return Ok(EventPage::default());
        };
        let page = self.event_at(position)?;
        if page.get(0).is_some_and(|event| event.id == *id) {
            return Ok(page);
        }
        Ok(EventPage::default())
    }

    /// What is known of a stream; `None` if there is none of this name.
    pub fn stream_info(&self, stream: &str) -> Result<Option<StreamInfo>> {
        self.last_position()?;
        let head = self
            .source
            .catalog
            .ask(|s| s.head(KeyKind::Stream, stream.as_bytes()))?;
        Ok(head.map(|head| StreamInfo {
            name: stream.to_string(),
            stream_version: head.first_version + head.count - 1,
            first_position: head.first,
            last_position: head.last,
        }))
    }

    /// Up to `count_max` names of a kind in ascending order of their bytes, behind `after`, that
    /// begin with `prefix`.
    pub fn names(
        &self,
        kind: NameKind,
        after: Option<&str>,
        prefix: &str,
        count_max: usize,
    ) -> Result<Vec<NameInfo>> {
        self.last_position()?;
        if count_max == 0 {
            return Err(Error::invalid("a page of 0 names"));
        }
        let kind = match kind {
            NameKind::Stream => KeyKind::Stream,
            NameKind::Category => KeyKind::Category,
            NameKind::Type => KeyKind::Type,
            NameKind::Tag => KeyKind::Tag,
        };
        let (after, prefix) = (after.map(str::as_bytes), prefix.as_bytes());
        let keys = self
            .source
            .catalog
            .ask(|s| s.keys(kind, after, prefix, count_max))?;
        let info = |(name, head): (Vec<u8>, ListHead)| NameInfo {
            name: String::from_utf8_lossy(&name).into_owned(),
            event_count: head.count,
            first_position: head.first,
            last_position: head.last,
        };
        Ok(keys.into_iter().map(info).collect())
    }

    /// A saved position; `None` if none was saved under this name.
    pub fn saved_position(&self, name: &str) -> Result<Option<u64>> {
        self.last_position()?;
        check_len("name", name.len(), 1, crate::format::event::NAME_LEN_MAX)?;
        let value = self
            .source
            .catalog
            .ask(|s| s.value(KeyKind::SavedPosition, name.as_bytes()))?;
        Ok(value.map(|bytes| get_u64(&bytes, 0)))
    }

    /// A value of the key-value state.
    pub fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.last_position()?;
        self.source.catalog.ask(|s| s.value(KeyKind::State, key))
    }

    /// Counters.
    pub fn stat(&self) -> Result<StoreStat> {
        let last_position = self.last_position()?;
        let index = self.source.catalog.stat();
        Ok(StoreStat {
            last_position,
            log_id: *self.source.wal.log_id(),
            run_count: index.run_count,
            memory_events: index.memory_events,
            work_done: index.work_done,
            work_total: index.work_total,
        })
    }

    /// Looks through all files of the index, every block, and compares all that they say with the log, read
    /// anew: where each event stands; the positions of each stream, category, type and tag, and the stream
    /// versions; ids, idempotency keys, saved positions and state. What the index has in memory and in no file
    /// ([`StoreStat::memory_events`]) is not compared: this handle read it from the log, or appended it.
    ///
    /// Damage of the index is an answer. Nothing is changed: a damaged file is made again by the first
    /// question that meets the damage, which one that only says something else than the log need not be.
    /// Deleting `index/` while no program has the store open lets it be made anew as a whole.
    ///
    /// Beside appends, merges and readers, it is of the files that there are when it begins. It takes as long as
    /// reading the log, and memory for one layer of the index and 24 MiB at most.
    ///
    /// `progress` is told now and then, on this thread, how many bytes of the log were compared, and of how
    /// many; if it returns false, the answer is the error `Stopped`.
    ///
    /// Errors: those of reading the log.
    pub fn verify_index(&self, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<IndexReport> {
        // A handle that only reads takes over what there is.
        self.last_position()?;
        self.source.catalog.verify(progress)
    }

    /// Waits for work on the index, and closes the log. Later calls answer `Closed`; closing again
    /// does nothing.
    ///
    /// Errors: what kept the end from being clean; the store is closed all the same.
    pub fn close(&self) -> Result<()> {
        let Source { wal, catalog, .. } = self.source.as_ref();
        if wal.check_process().is_err() {
            return Ok(());
        }
        if !self.source.read_only {
            self.sequencer
                .refuse(Error::new(ErrorKind::Closed, "the handle was closed"));
        }
        catalog.close();
        self.source.published.end();
        wal.close()
    }
}

impl Drop for EventStore {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`; the log is safe either way.
        let _ = self.close();
    }
}

/// The category of a stream: its name up to the first `-`, all of it if there is none.
#[must_use]
pub fn category(stream: &str) -> &str {
    std::str::from_utf8(category_of(stream.as_bytes())).unwrap_or_default()
}

/// A reading that goes on from page to page.
#[derive(Debug)]
pub struct EventReader {
    source: Arc<Source>,
    pub(super) reading: Reading,
    pub(super) ahead: Ahead,
    at_end: bool,
}

impl EventReader {
    /// The page that was filled last; empty before the first.
    #[must_use]
    pub fn page(&self) -> &EventPage {
        &self.reading.page
    }

    /// Whether nothing stood behind the page when it was filled: the next one is empty, unless more
    /// was appended since. Without it, too, there may be nothing.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// The next page of up to `count_max` events; empty at the end for now. Arriving there is not
    /// final: forward, later pages have what was appended since.
    pub fn next_page(&mut self, count_max: usize) -> Result<&EventPage> {
        if count_max == 0 {
            return Err(Error::invalid("a page of 0 events"));
        }
        let last = self.source.last_position()?;
        self.at_end = false;
        let is_all = match self.ahead.take(&mut self.reading, last, count_max) {
            Some(is_all) => is_all,
            None => self.reading.go_on(&self.source, last, count_max)?,
        };
        self.at_end = is_all;
        if is_all {
            // The next page is found empty without looking.
            self.reading.progress.end(last);
        } else {
            self.ahead.ask(&self.source, &self.reading, last, count_max);
        }
        Ok(&self.reading.page)
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        if self.source.wal.check_process().is_ok() {
            self.ahead.end();
        }
        let page = std::mem::take(&mut self.reading.page);
        self.source.spare_pages.give(page);
    }
}
