//! Following the store: every event of a selection, in order, none left out and none twice.
//!
//! There is one path for what is there already and for what comes: read up to the last published
//! position, and wait for it to grow when it is reached. Nothing is handed over in memory from who
//! appends, so there is nothing that could overflow, and a slow subscriber costs the writer nothing.
//!
//! What is published is acknowledged: durable in the mode `Every`, and in the others perhaps not yet.

use super::reader::{EventPage, Progress};
use super::request::{check_len, AppendRequest, Prepared, SideRecord};
use super::selection::{Direction, Read, Selection};
use super::sequencer::Sequencer;
use super::store::{EventStore, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::format::event::NAME_LEN_MAX;
use crate::vfs::bell::Bell;
use crate::wal::Durability;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a handle that only reads looks for what others appended.
const LOOK: Duration = Duration::from_millis(5);

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscribeFrom {
    /// With the first event.
    Beginning,
    /// With the first event appended from now on.
    End,
    /// With the first event behind this position.
    After(u64),
    /// Behind the position saved under the subscription's name, or with the first event.
    Saved,
}

/// Ends the waiting of a subscription, from any thread.
#[derive(Clone, Debug)]
pub struct Canceller {
    cancelled: Arc<AtomicBool>,
    source: Arc<Source>,
}

impl Canceller {
    /// The subscription gives nothing more: a call that waits, and every later one, answers
    /// `Stopped`.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.source.published.wake();
    }
}

/// See the module. Belongs to one thread at a time.
pub struct Subscription {
    source: Arc<Source>,
    sequencer: Arc<Sequencer>,
    name: Option<String>,
    progress: Progress,
    positions: Vec<u64>,
    page: EventPage,
    cancelled: Arc<AtomicBool>,
    bell: Option<Arc<Bell>>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("name", &self.name)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl EventStore {
    /// Subscribes to events. `name` is that of the saved position which [`Subscription::ack`]
    /// moves; without one there is nothing to acknowledge. For streams, too, `from` speaks of
    /// positions.
    ///
    /// Errors: `InvalidArgument` (a name that is too long; `Saved` without a name).
    pub fn subscribe(
        &self,
        selection: Selection,
        from: &SubscribeFrom,
        name: Option<&str>,
    ) -> Result<Subscription> {
        if let Some(name) = name {
            check_len("name", name.len(), 1, NAME_LEN_MAX)?;
        }
        let after = match (from, name) {
            (SubscribeFrom::Beginning, _) => 0,
            (SubscribeFrom::End, _) => self.last_position()?,
            (SubscribeFrom::After(position), _) => *position,
            (SubscribeFrom::Saved, Some(name)) => self.saved_position(name)?.unwrap_or(0),
            (SubscribeFrom::Saved, None) => {
                return Err(Error::invalid(
                    "a saved position has a name; none was given",
                ))
            }
        };
        let read = Read {
            selection,
            direction: Direction::Forward,
            ..Read::default()
        };
        read.check()?;
        let mut progress = Progress::new(read);
        progress.next = Some(after.saturating_add(1));
        Ok(Subscription {
            source: Arc::clone(&self.source),
            sequencer: Arc::clone(&self.sequencer),
            name: name.map(str::to_string),
            progress,
            positions: Vec::new(),
            page: EventPage::default(),
            cancelled: Arc::default(),
            bell: None,
        })
    }
}

impl Subscription {
    /// The next events, up to `count_max`. Waits for some for at most `timeout` (`None`: as long as
    /// it takes; zero: not at all); an empty page says that there were none.
    ///
    /// Errors: `Stopped` after [`Canceller::cancel`]; `Closed` once the store was closed and
    /// everything in it was delivered.
    pub fn next_page(&mut self, count_max: usize, timeout: Option<Duration>) -> Result<&EventPage> {
        if count_max == 0 {
            return Err(Error::invalid("a page of 0 events"));
        }
        // A time too far away to be told is no limit.
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let until = if timeout.is_none() { None } else { until };
        // First of all: a child made by fork shares the bell, and would take the parent's ringing.
        self.source.wal.check_process()?;
        loop {
            if self.cancelled.load(Ordering::SeqCst) {
                return Err(Error::new(
                    ErrorKind::Stopped,
                    "the subscription was cancelled",
                ));
            }
            if let Some(bell) = &self.bell {
                bell.silence();
            }
            let ended = self.source.published.has_ended();
            let last = self.source.last_position()?;
            self.progress.fill(
                &self.source.catalog,
                &self.source.files,
                last,
                count_max,
                &mut self.positions,
                &mut self.page,
            )?;
            if !self.page.is_empty() {
                if let Some(bell) = self.bell.as_ref().filter(|_| !self.arrived(last)) {
                    // There may be more already.
                    bell.ring();
                }
                return Ok(&self.page);
            }
            self.progress.pass(last);
            if ended {
                return Err(Error::new(ErrorKind::Closed, "the event store was closed"));
            }
            let over = until.is_some_and(|until| Instant::now() >= until);
            if timeout == Some(Duration::ZERO) || over {
                return Ok(&self.page);
            }
            let published = &self.source.published;
            let look = self.source.is_read_only().then_some(LOOK);
            published.wait(until, look, || {
                self.cancelled.load(Ordering::SeqCst)
                    || published.last() != last
                    || published.has_ended()
            });
        }
    }

    fn arrived(&self, last: u64) -> bool {
        self.progress.next.is_some_and(|next| next > last)
    }

    /// Everything up to `position` has been dealt with: a subscription with this name that begins
    /// from its saved position begins behind it. Saved as the log's sync mode says. A position that
    /// is not beyond the saved one changes nothing; one beyond [`position`](Self::position) is refused,
    /// for it would leave out events that nobody has seen.
    ///
    /// Errors: `InvalidArgument` (the subscription has no name; a position that it has not got to), and
    /// those of [`EventStore::append`].
    pub fn ack(&self, position: u64) -> Result<()> {
        let Some(name) = &self.name else {
            return Err(Error::invalid(
                "a subscription without a name has no saved position",
            ));
        };
        if self.source.is_read_only() {
            let message = "the event store was opened for reading only";
            return Err(Error::new(ErrorKind::ReadOnly, message));
        }
        let given = self.position();
        if position > given {
            let message = format!(
                "position {position} is acknowledged, and events were given up to position {given}"
            );
            return Err(Error::invalid(message));
        }
        let side_records = [SideRecord::SavePosition {
            name,
            position,
            reset: false,
        }];
        let request = AppendRequest {
            side_records: &side_records,
            ..AppendRequest::default()
        };
        let appended = self
            .sequencer
            .append(Prepared::new(&request)?, Durability::AsOpened);
        match appended {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Up to which position everything of the selection was delivered: that of the last event given, or
    /// behind it, if there was nothing of the selection; where the subscription began, if that is greater.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.progress.next.map_or(0, |next| next - 1)
    }

    /// By which any thread can end the waiting.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller {
            cancelled: Arc::clone(&self.cancelled),
            source: Arc::clone(&self.source),
        }
    }

    /// A file descriptor that `poll` finds readable when [`next_page`](Self::next_page) may have
    /// something to give, or the store was closed; it belongs to the subscription, and only its
    /// readiness is meant to be looked at. Poll it after an empty page.
    ///
    /// Errors: `Unsupported` on a handle that only reads, which nobody wakes; `Io`.
    pub fn fd(&mut self) -> Result<i32> {
        if self.source.is_read_only() {
            let message = "a handle that only reads is not told of appends: ask with a timeout";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        if let Some(bell) = &self.bell {
            return Ok(bell.fd());
        }
        let bell =
            Bell::new().map_err(|error| Error::io("make", Path::new("an eventfd"), error))?;
        let bell = Arc::new(bell);
        self.source.published.add_bell(&bell);
        let fd = bell.fd();
        self.bell = Some(bell);
        Ok(fd)
    }
}
