//! Steps 2 and 3 of 3 of appending events: requests of many threads get their turns, are decided one
//! after another, and those that are accepted go into the log as one group.
//!
//! ```text
//! waiting     requests of threads, in the order of arrival
//!    │ taken by a thread that finds no leader: it becomes the leader
//! turn        decided against the catalog and each other, encoded with their positions,
//!    │        written and synced by the log: one write, one sync
//! catalog     learns of what was acknowledged; then the waiting threads learn of it
//! ```
//!
//! Invariants: one leader at a time, so positions are given in the order of the log. Results are told
//! on every path, also when the leader panics. A verdict that rests on a request of the same group
//! is told only if that request was committed.

mod payload;
#[cfg(test)]
mod tests;
mod verdict;
mod versions;

use self::payload::{records, Encoding};
pub(super) use self::versions::Versions;
use super::catalog::{Catalog, Memory};
use super::decide::Pending;
use super::published::Published;
use super::reader::Files;
use super::request::{AppendReceipt, Prepared};
use crate::error::{Error, ErrorKind, Result};
use crate::format::event::POSITION_MAX;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::wal::{Durability, EncodedPayload, Receipt, Wal};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of the payloads of one group.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Memory for so many requests is kept from turn to turn.
const SPARE_REQUESTS_MAX: usize = 64;

struct Waiting {
    ticket: u64,
    request: Prepared,
    durability: Durability,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// What the next turn will be made in, so that it allocates nothing.
    spare: TurnSpace,
    next_ticket: u64,
    leading: bool,
    /// Number of the turn that will take what waits.
    turn: u64,
    /// Threads that wait in each of [`Sequencer::done`]. Waking nobody would cost a system call.
    sleeping: [usize; 2],
    finished: HashMap<u64, Result<AppendReceipt>>,
    /// Why nothing more is appended, if that is not the log's own affair.
    refusal: Option<Error>,
}

/// Requests of one turn, and as many results.
#[derive(Default)]
struct TurnSpace {
    taken: Vec<Waiting>,
    results: Vec<Option<Result<AppendReceipt>>>,
}

/// What the leader needs, and nobody else. The lists are empty between turns and kept for their memory.
#[derive(Default)]
struct Desk {
    pending: Pending,
    versions: Versions,
    payloads: Vec<EncodedPayload>,
    accepted: Vec<Accepted>,
    committed: Vec<Result<Receipt>>,
    encoding: Encoding,
}

/// See the module.
pub(super) struct Sequencer {
    wal: Arc<Wal>,
    catalog: Arc<Catalog>,
    files: Arc<Files>,
    /// The last position that readers may see.
    published: Arc<Published>,
    queue: Mutex<Queue>,
    /// Where threads wait for their turn to be over: the one with number `n` in place `n % 2`.
    done: [Condvar; 2],
    /// Locked by the leader only.
    desk: Mutex<Desk>,
}

/// See [`Sequencer::done`].
fn place_of(turn_number: u64) -> usize {
    usize::from(turn_number % 2 == 1)
}

/// A request that was accepted, with what it will come to.
struct Accepted {
    at: usize,
    receipt: AppendReceipt,
    payload: usize,
}

/// The results of a turn, told when it is settled, or dropped without that.
struct Turn<'a> {
    sequencer: &'a Sequencer,
    /// Counted from 0, as [`Queue::turn`].
    number: u64,
    taken: Vec<Waiting>,
    results: Vec<Option<Result<AppendReceipt>>>,
    /// The leader's own request.
    own_ticket: u64,
    /// So many, from the first, had their turn.
    decided: usize,
    refusal: Option<Error>,
    /// The turn came to its end: no defect kept it from telling all results.
    complete: bool,
    settled: bool,
}

impl<'a> Turn<'a> {
    /// Tells the results and lets the next one lead: gives the leader the result of his own request, and
    /// the queue, still locked, since without a result that request is in it again, for him to lead.
    fn settle(&mut self) -> (MutexGuard<'a, Queue>, Option<Result<AppendReceipt>>) {
        self.settled = true;
        let mut own_result = None;
        let mut queue = self.sequencer.queue();
        let mut later = Vec::new();
        let defect = || {
            Error::new(
                ErrorKind::Internal,
                "the library failed while it appended; the handle accepts nothing more",
            )
        };
        let mut results = self.results.drain(..);
        for (index, waiting) in self.taken.drain(..).enumerate() {
            let result = match results.next().flatten() {
                Some(result) => result,
                None if self.complete && index >= self.decided => {
                    later.push(waiting);
                    continue;
                }
                None => Err(defect()),
            };
            if waiting.ticket == self.own_ticket {
                own_result = Some(result);
            } else {
                queue.finished.insert(waiting.ticket, result);
            }
        }
        drop(results);
        queue.waiting.splice(..0, later);
        if self.taken.capacity() <= SPARE_REQUESTS_MAX {
            queue.spare = TurnSpace {
                taken: std::mem::take(&mut self.taken),
                results: std::mem::take(&mut self.results),
            };
        }
        if !self.complete && queue.refusal.is_none() {
            queue.refusal = Some(defect());
        }
        if queue.refusal.is_none() {
            queue.refusal = self.refusal.take();
        }
        queue.leading = false;
        (queue, own_result)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let (queue, _) = self.settle();
            self.sequencer.wake(queue, self.number);
        }
    }
}

impl Sequencer {
    pub(super) fn new(
        wal: Arc<Wal>,
        catalog: Arc<Catalog>,
        files: Arc<Files>,
        published: Arc<Published>,
    ) -> Sequencer {
        Sequencer {
            wal,
            catalog,
            files,
            published,
            queue: Mutex::default(),
            done: [Condvar::new(), Condvar::new()],
            desk: Mutex::default(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends; returns when the log has acknowledged it.
    pub(super) fn append(
        &self,
        request: Prepared,
        durability: Durability,
    ) -> Result<AppendReceipt> {
        let mut queue = self.queue();
        if let Some(error) = &queue.refusal {
            return Err(error.duplicate());
        }
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push(Waiting {
            ticket,
            request,
            durability,
        });
        let mut turn_number = queue.turn;
        loop {
            if queue.leading {
                // One that was left for later is in the turn under way by now.
                turn_number = turn_number.max(queue.turn.saturating_sub(1));
                let place = place_of(turn_number);
                queue.sleeping[place] += 1;
                let waited = self.done[place].wait(queue);
                queue = waited.unwrap_or_else(PoisonError::into_inner);
                queue.sleeping[place] -= 1;
                if let Some(result) = queue.finished.remove(&ticket) {
                    return result;
                }
            } else {
                queue.leading = true;
                let number = queue.turn;
                queue.turn += 1;
                let TurnSpace { taken, results } = std::mem::take(&mut queue.spare);
                let mut turn = Turn {
                    sequencer: self,
                    number,
                    taken: std::mem::replace(&mut queue.waiting, taken),
                    results,
                    own_ticket: ticket,
                    decided: 0,
                    refusal: queue.refusal.as_ref().map(Error::duplicate),
                    complete: false,
                    settled: false,
                };
                drop(queue);
                self.take_turn(&mut turn);
                turn.complete = true;
                let (settled, own_result) = turn.settle();
                if let Some(result) = own_result {
                    self.wake(settled, number);
                    return result;
                }
                if settled.sleeping[place_of(number)] > 0 {
                    self.done[place_of(number)].notify_all();
                }
                queue = settled;
            }
        }
    }

    /// Lets one of those who wait for the next turn lead it, and those of this one look for their results.
    /// Outside the lock, which they need.
    fn wake(&self, queue: MutexGuard<'_, Queue>, turn_number: u64) {
        let (over, next) = (place_of(turn_number), place_of(queue.turn));
        let [over_waits, next_waits] = [over, next].map(|place| queue.sleeping[place] > 0);
        drop(queue);
        if next_waits {
            self.done[next].notify_one();
        }
        if over_waits {
            self.done[over].notify_all();
        }
    }

    /// Nothing more is appended, for this reason.
    pub(super) fn refuse(&self, error: Error) {
        self.queue().refusal = Some(error);
    }

    // ---- the leader --------------------------------------------------------------------------

    fn take_turn(&self, turn: &mut Turn<'_>) {
        turn.results.resize_with(turn.taken.len(), || None);
        let refusal = turn.refusal.as_ref().map(Error::duplicate);
        if let Some(error) = refusal.or_else(|| self.wal.refusal()) {
            turn.results.fill_with(|| Some(Err(error.duplicate())));
            turn.decided = turn.taken.len();
            return;
        }
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let desk = &mut *desk;
        desk.pending.clear();
        desk.versions.begin_group();
        let active = self.catalog.active();
        let last = self.published.last();
        let mut next = last + 1;
        let mut accepted = std::mem::take(&mut desk.accepted);
        accepted.clear();
        let mut durability = Durability::AsOpened;
        let mut group_bytes = 0usize;
        // Verdicts that hold only if the group is committed.
        let mut dependent: Vec<usize> = Vec::new();
        for at in 0..turn.taken.len() {
            let request = &turn.taken[at].request;
            let large = request.encoded_len > self.wal.frame_payload_target() as u64;
            let must_wait = desk.pending.may_repeat(request)
                || (large && !accepted.is_empty())
                || (group_bytes > GROUP_BYTES_MAX);
            if must_wait {
                break;
            }
            turn.decided = at + 1;
            match self.decide(&turn.taken, &accepted, desk, last, at) {
                Err(error) => {
                    if error.kind() == ErrorKind::Conflict && !accepted.is_empty() {
                        dependent.push(at);
                    }
                    turn.results[at] = Some(Err(error));
                    continue;
                }
                Ok(Some(receipt)) => {
                    // What was written in a lazy mode may not be durable yet.
                    let durable = match turn.taken[at].durability {
                        Durability::Durable => self.sync(),
                        Durability::AsOpened => Ok(()),
                    };
                    turn.results[at] = Some(durable.map(|()| receipt));
                    continue;
                }
                Ok(None) => {}
            }
            if turn.taken[at].durability == Durability::Durable {
                durability = Durability::Durable;
            }
            let request = &turn.taken[at].request;
            if next + request.events.len() as u64 > POSITION_MAX {
                let full = Error::new(ErrorKind::TooLarge, "no positions are left");
                turn.results[at] = Some(Err(full));
                continue;
            }
            let payload = accepted.len();
            if desk.payloads.len() <= payload {
                desk.payloads.push(EncodedPayload::default());
            }
            match self.encode(request, next, desk, payload) {
                Ok(receipt) => {
                    group_bytes += desk.payloads[payload].bytes().len();
                    desk.pending.add(request);
                    next += request.events.len() as u64;
                    accepted.push(Accepted {
                        at,
                        receipt,
                        payload,
                    });
                }
                Err(error) => {
                    turn.results[at] = Some(Err(error));
                    continue;
                }
            }
            if large {
                break;
            }
        }
        if accepted.is_empty() {
            desk.accepted = accepted;
            return;
        }
        let outcome = self.commit(turn, desk, &active, &mut accepted, durability);
        desk.accepted = accepted;
        desk.accepted.shrink_to(SPARE_REQUESTS_MAX);
        desk.committed.shrink_to(SPARE_REQUESTS_MAX);
        desk.encoding.shrink();
        if let Err(error) = outcome {
            for at in dependent {
                turn.results[at] = Some(Err(error.duplicate()));
            }
        }
        for payload in &mut desk.payloads {
            if payload.capacity() > GROUP_BYTES_MAX {
                *payload = EncodedPayload::default();
            }
        }
        desk.payloads.truncate(SPARE_REQUESTS_MAX);
        // What of the index can't be written stays in memory; the events are in the log.
        let _ = self.catalog.grown();
    }

    /// Commits the accepted requests and tells their results. An error if not all of them are in
    /// the log.
    fn commit(
        &self,
        turn: &mut Turn<'_>,
        desk: &mut Desk,
        active: &Arc<Memory>,
        accepted: &mut Vec<Accepted>,
        durability: Durability,
    ) -> Result<()> {
        let results = &mut desk.committed;
        results.clear();
        let payloads = desk.payloads.get(..accepted.len()).unwrap_or_default();
        let target = self.wal.frame_payload_target();
        let refused = match payloads {
            [one] if one.bytes().len() > target => {
                let committed = self.wal.append_events(|| records(one.bytes()), durability);
                results.push(committed);
                Ok(())
            }
            _ => self
                .wal
                .append_encoded(payloads, durability, |result| results.push(result)),
        };
        if let Err(error) = refused {
            results.clear();
            results.resize_with(accepted.len(), || Err(error.duplicate()));
        }
        let mut failure = None;
        let mut published = self.published.last();
        {
            let mut index = active.index.write().unwrap_or_else(PoisonError::into_inner);
            for (accepted, result) in accepted.drain(..).zip(results.drain(..)) {
                let request = &turn.taken[accepted.at].request;
                let payload = &desk.payloads[accepted.payload];
                turn.results[accepted.at] = Some(match result {
                    Err(error) => {
                        failure = Some(error.duplicate());
                        Err(error)
                    }
                    Ok(receipt) => {
                        let learned = self.learn(
                            &mut index,
                            active,
                            request,
                            payload,
                            published + 1,
                            &receipt,
                        );
                        published += request.events.len() as u64;
                        if let Err(error) = learned {
                            // The log has it; what memory lacks, reopening gives.
                            turn.refusal = Some(error.into_kind(
                                ErrorKind::Poisoned,
                                "the index could not follow the log; open the store again",
                            ));
                        }
                        Ok(AppendReceipt {
                            time_ns: receipt.time_ns,
                            batch_id: receipt.batch_id.0,
                            ..accepted.receipt
                        })
                    }
                });
            }
        }
        if turn.refusal.is_none() {
            self.published.set(published);
        }
        match failure {
            Some(error) => {
                self.withdraw();
                Err(error)
            }
            None => {
                desk.versions.settle();
                Ok(())
            }
        }
    }

    /// Makes everything that was appended before durable.
    pub(super) fn sync(&self) -> Result<()> {
        let synced = self.wal.sync();
        if synced.is_err() {
            self.withdraw();
        }
        synced
    }

    /// After a failed sync, readers go on to what is durable and no further. That concerns lazy modes
    /// only, where more is known than is durable.
    fn withdraw(&self) {
        if !self.catalog.goes_beyond(self.wal.view().end().lsn) {
            return;
        }
        self.catalog.withdraw();
        let last = self.catalog.last_position().min(self.published.last());
        self.published.set(last);
    }
}
