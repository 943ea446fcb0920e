//! Reading ahead: one thread per process makes the next page of a reading while the caller looks at the
//! one before.
//!
//! To make a page takes copying it out of the disk's cache, checksums and decoding; a caller who makes objects of his
//! own of it takes as long again. On two processors the two go on side by side. A reader asks for a page
//! once it has made a few large ones itself and its caller took his time over each ([`Ahead`]): to one who only
//! wants the next page, a thread in between would be a detour. What nobody has begun when it is needed the
//! reader makes itself.
//!
//! Events never change, so that a page is the same whenever it is made; only what is said of the end is not. That
//! nothing stands behind a page made ahead is believed as long as nothing was appended since. What can't be read the
//! reader tries again itself, and so says how things stand when it is asked.

use super::reader::{EventPage, Progress};
use super::store::Source;
use crate::error::Result;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::worker::{self, Worker};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of a page from which on it pays to let somebody else make the next: waking him takes as long as to make
/// a small one.
const LEN_MIN: usize = 32 << 10;

/// So many pages in a row a reader makes itself before it asks for one.
const PAGES_FIRST: u32 = 4;

/// The thread that makes the pages of all readers.
static MAKER: Worker<Arc<Job>> = Worker::new("duralog-page", |job| job.make());

/// A reading, and the page of it that was made last.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) progress: Progress,
    positions: Vec<u64>,
    pub(super) page: EventPage,
    /// How long that took.
    took: Duration,
}

impl Reading {
    pub(super) fn new(progress: Progress, page: EventPage) -> Reading {
        Reading {
            progress,
            positions: Vec::new(),
            page,
            took: Duration::ZERO,
        }
    }

    /// Makes the next page; says whether it has all that there is up to `last`, or all that was asked for.
    pub(super) fn go_on(&mut self, source: &Source, last: u64, count_max: usize) -> Result<bool> {
        let began = Instant::now();
        let is_all = self.progress.fill(
            &source.catalog,
            &source.files,
            last,
            count_max,
            &mut self.positions,
            &mut self.page,
        );
        self.took = began.elapsed();
        is_all
    }
}

/// The page that one reader asked for.
#[derive(Debug)]
struct Job {
    state: Mutex<State>,
    /// Signalled when it was made.
    made: Condvar,
}

#[derive(Debug)]
enum State {
    /// Nothing is asked for, or it was taken.
    Idle,
    /// Nobody has begun.
    Waiting(Order),
    Making,
    /// The page, if it could be made, and whether nothing stood behind it.
    Made(Option<(Reading, bool)>),
}

#[derive(Debug)]
struct Order {
    source: Arc<Source>,
    reading: Reading,
    last: u64,
    count_max: usize,
}

impl Order {
    fn make(mut self) -> Option<(Reading, bool)> {
        let is_all = self
            .reading
            .go_on(&self.source, self.last, self.count_max)
            .ok()?;
        Some((self.reading, is_all))
    }
}

impl Job {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the page, if nobody has begun to.
    fn make(&self) {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Making) {
            State::Waiting(order) => {
                drop(state);
                // Nobody waits for ever for a page that ended in a panic. What it may have left half-done is not
                // used any more: it is gone with the order.
                let made = catch_unwind(AssertUnwindSafe(|| order.make()));
                *self.state() = State::Made(made.ok().flatten());
                self.made.notify_all();
            }
            other => *state = other,
        }
    }

    /// How it stands, if not in the middle of being made; nothing is asked for any more.
    fn settle(&self) -> State {
        let mut state = self.state();
        while matches!(*state, State::Making) {
            state = self
                .made
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::replace(&mut *state, State::Idle)
    }
}

/// What a reader has asked for, and whether it is worth asking.
#[derive(Debug)]
pub(super) struct Ahead {
    job: Option<Arc<Job>>,
    /// What was asked for: events up to this position, and at most so many.
    last: u64,
    count_max: usize,
    /// A page to be filled: the one that the caller looked at before.
    spare: Option<Reading>,
    /// When the caller was given a page, if it was a large one.
    given: Option<Instant>,
    /// So many pages in a row the caller took his time over.
    slow: u32,
}

impl Ahead {
    pub(super) fn new() -> Ahead {
        Ahead {
            job: None,
            last: 0,
            count_max: 0,
            spare: None,
            given: None,
            slow: 0,
        }
    }

    /// Goes on to the page that was made ahead, and says whether nothing stands behind it. `None` if there is none, or
    /// one of another size.
    pub(super) fn take(
        &mut self,
        reading: &mut Reading,
        last: u64,
        count_max: usize,
    ) -> Option<bool> {
        let is_slow = self
            .given
            .take()
            .is_some_and(|given| 2 * given.elapsed() >= reading.took);
        self.slow = if is_slow { self.slow + 1 } else { 0 };
        let (made, is_all) = match self.job.as_deref()?.settle() {
            _ if count_max != self.count_max => None,
            State::Waiting(order) => order.make(),
            State::Made(made) => made,
            State::Idle | State::Making => None,
        }?;
        if made.page.is_empty() {
            // Since then there may be more.
            return None;
        }
        self.spare = Some(std::mem::replace(reading, made));
        Some(is_all && last == self.last)
    }

    /// The caller is given the page of `reading`, behind which there may be more: asks for the next one, if that
    /// pays.
    pub(super) fn ask(
        &mut self,
        source: &Arc<Source>,
        reading: &Reading,
        last: u64,
        count_max: usize,
    ) {
        if reading.page.bytes().len() < LEN_MIN {
            return;
        }
        self.given = Some(Instant::now());
        let wal = &source.wal;
        if self.slow < PAGES_FIRST || !worker::is_worth_it() || !wal.view().vfs.background() {
            return;
        }
        let progress = &reading.progress;
        let next = match self.spare.take() {
            Some(mut spare) => {
                spare.progress.next = progress.next;
                spare.progress.delivered = progress.delivered;
                spare
            }
            None => Reading::new(progress.clone(), EventPage::default()),
        };
        let job = self.job.get_or_insert_with(|| {
            Arc::new(Job {
                state: Mutex::new(State::Idle),
                made: Condvar::new(),
            })
        });
        (self.last, self.count_max) = (last, count_max);
        *job.state() = State::Waiting(Order {
            source: Arc::clone(source),
            reading: next,
            last,
            count_max,
        });
        let is_same = |asked_for: &Arc<Job>| Arc::ptr_eq(asked_for, job);
        // Without a thread the reader makes it itself.
        MAKER.ask(wal.fork_count(), Arc::clone(job), is_same);
    }

    /// Nothing is made for this reader any more when this returns. Not in a child made by `fork`, which does not have
    /// the thread.
    pub(super) fn end(&mut self) {
        if let Some(job) = self.job.take() {
            job.settle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::eventstore::{AppendRequest, EventReader, EventStore, EventStoreOptions};
    use crate::eventstore::{NewEvent, Read};
    use crate::wal::Durability;

    /// Events of a page: enough to make it a large one.
    const COUNT: usize = 100;
    const DATA_LEN: usize = 400;

    fn data_of(position: u64) -> Vec<u8> {
        let mut data = position.to_le_bytes().to_vec();
        data.resize(DATA_LEN, u8::try_from(position % 251).unwrap());
        data
    }

    fn append(store: &EventStore, count: u64) {
        let first = store.last_position().unwrap() + 1;
        let data: Vec<Vec<u8>> = (first..first + count).map(data_of).collect();
        let of = |data| NewEvent {
            stream: "stream",
            event_type: "Happened",
            data,
            ..NewEvent::default()
        };
        let events: Vec<NewEvent<'_>> = data.iter().map(|data| of(data)).collect();
        let request = AppendRequest {
            events: &events,
            ..AppendRequest::default()
        };
        store.append(&request, Durability::AsOpened).unwrap();
    }

    fn store_with(count: u64) -> (tempfile::TempDir, EventStore) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let store = EventStore::open(path, &EventStoreOptions::default()).unwrap();
        append(&store, count);
        (directory, store)
    }

    /// Lets what the reader asked for be made; says whether there was a page.
    fn is_made(reader: &EventReader) -> bool {
        let Some(job) = &reader.ahead.job else {
            return false;
        };
        job.make();
        let mut state = job.state();
        while matches!(*state, State::Making) {
            state = job.made.wait(state).unwrap();
        }
        matches!(*state, State::Made(Some(_)))
    }

    /// The positions of the next page, for a caller who took his time over many.
    fn next(reader: &mut EventReader, count_max: usize) -> Result<Vec<u64>> {
        (reader.ahead.slow, reader.ahead.given) = (PAGES_FIRST, Some(Instant::now()));
        reader.reading.took = Duration::ZERO;
        let page = reader.next_page(count_max)?;
        assert!(page
            .iter()
            .all(|event| event.data == data_of(event.position)));
        Ok(page.iter().map(|event| event.position).collect())
    }

    fn positions(first: u64, count: usize) -> Vec<u64> {
        (first..first + count as u64).collect()
    }

    #[test]
    fn pages_made_ahead_are_those_that_come_next_and_the_last_is_known_as_such() {
        let (_directory, store) = store_with(350);
        let mut reader = store.read(Read::default()).unwrap();
        for first in [1, 101, 201] {
            assert_eq!(next(&mut reader, COUNT).unwrap(), positions(first, COUNT));
            assert!(!reader.is_at_end());
            assert!(is_made(&reader) || !worker::is_worth_it());
        }
        assert_eq!(next(&mut reader, COUNT).unwrap(), positions(301, 50));
        assert!(reader.is_at_end());
        assert!(next(&mut reader, COUNT).unwrap().is_empty());
    }

    #[test]
    fn who_asks_for_another_number_of_events_gets_so_many() {
        let (_directory, store) = store_with(500);
        let mut reader = store.read(Read::default()).unwrap();
        assert_eq!(next(&mut reader, COUNT).unwrap(), positions(1, COUNT));
        assert!(is_made(&reader) || !worker::is_worth_it());
        assert_eq!(next(&mut reader, 90).unwrap(), positions(101, 90));
        assert_eq!(next(&mut reader, COUNT).unwrap(), positions(191, COUNT));
    }

    #[test]
    fn what_was_appended_since_comes_behind_a_page_that_was_the_last() {
        let (_directory, store) = store_with(150);
        let mut reader = store.read(Read::default()).unwrap();
        assert_eq!(next(&mut reader, COUNT).unwrap(), positions(1, COUNT));
        assert!(is_made(&reader) || !worker::is_worth_it());
        append(&store, 70);
        let mut found = Vec::new();
        while !reader.is_at_end() {
            found.extend(next(&mut reader, COUNT).unwrap());
        }
        assert_eq!(found, positions(101, 120));
    }

    #[test]
    fn what_was_appended_since_is_seen_where_nothing_was() {
        let (_directory, store) = store_with(COUNT as u64);
        let mut reader = store.read(Read::default()).unwrap();
        assert_eq!(next(&mut reader, COUNT).unwrap(), positions(1, COUNT));
        assert!(is_made(&reader) || !worker::is_worth_it());
        append(&store, 70);
        assert_eq!(next(&mut reader, COUNT).unwrap(), positions(101, 70));
    }

    #[test]
    fn a_limit_counts_what_was_made_ahead() {
        let (_directory, store) = store_with(500);
        let read = Read {
            limit: 250,
            ..Read::default()
        };
        let mut reader = store.read(read).unwrap();
        let mut found = Vec::new();
        while !reader.is_at_end() {
            found.extend(next(&mut reader, COUNT).unwrap());
            is_made(&reader);
        }
        assert_eq!(found, positions(1, 250));
    }

    #[test]
    fn damage_is_reported_by_the_reader_behind_all_that_is_whole() {
        let (directory, store) = store_with(400);
        let segment = std::fs::read_dir(directory.path().join("store")).unwrap();
        let mut segments = segment.map(|entry| entry.unwrap().path());
        let segment = segments.find(|path| path.extension().is_some_and(|name| name == "wal"));
        let segment = segment.unwrap();
        let mut bytes = std::fs::read(&segment).unwrap();
        let data = data_of(250);
        let at = bytes.windows(data.len()).position(|part| part == data);
        bytes[at.unwrap() + DATA_LEN - 1] ^= 1;
        let mut reader = store.read(Read::default()).unwrap();
        assert_eq!(next(&mut reader, COUNT).unwrap(), positions(1, COUNT));
        is_made(&reader);
        std::fs::write(&segment, bytes).unwrap();
        let mut found = COUNT as u64;
        let error = loop {
            match next(&mut reader, COUNT) {
                Ok(page) => found += page.len() as u64,
                Err(error) => break error,
            }
            is_made(&reader);
        };
        assert_eq!((error.kind(), found), (ErrorKind::Corrupt, 249));
        assert!(next(&mut reader, COUNT).is_err());
    }

    #[test]
    fn nothing_is_made_for_a_reader_that_is_gone() {
        let (_directory, store) = store_with(300);
        for _ in 0..50 {
            let mut reader = store.read(Read::default()).unwrap();
            next(&mut reader, COUNT).unwrap();
            assert!(reader.ahead.job.is_some() || !worker::is_worth_it());
            drop(reader);
            assert_eq!(Arc::strong_count(&store.source), 1);
        }
    }
}
