//! Step 2 of 3 of appending: batches of many threads become one write and one sync.
//!
//! Takes payloads that are encoded and checksummed; hands groups of them to the segment writer, one
//! group at a time; gives every thread the receipt, or the error, of its own batch.
//!
//! ```text
//! open group:    filling, under `state`
//!    │ swapped by a thread that finds no leader: it becomes the leader
//! group of the leader: written and synced, outside `state`
//!    │ outcome published on every path, also when the writer panics
//! finished group: every thread takes its result; the last one gives the buffers back
//! ```
//!
//! LSNs, links and sequence numbers are assigned by the leader when it takes the group, so a batch
//! that waits has no place yet, and nothing needs to be taken back when a group before it fails.
//!
//! Invariants: at most one leader; a result is taken exactly once; no thread returns success before
//! the outcome of the group that holds its batch; after a poisoning outcome no group is written.

use super::batch_encoder::EncodedPayload;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{frame_len, HEADER_LEN};
use crate::lsn::{Lsn, Seq};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::collections::VecDeque;

#[cfg(all(test, loom))]
mod loom_tests;

/// An open group takes no further batch beyond this size while a leader is at work.
const GROUP_LEN_MAX: usize = 8 << 20;
/// Buffers of finished groups that are kept for the next ones.
const SPARE_GROUPS_MAX: usize = 4;
/// A buffer larger than this is not kept.
const SPARE_LEN_MAX: usize = 2 << 20;

/// What the caller learns of a batch that was committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Receipt {
    /// Number of its first record.
    pub first_seq: Seq,
    /// Number of its COMMIT, or of the record of a single append: what `cursor` and `truncate`
    /// take to mean "up to and with this batch".
    pub seq: Seq,
    /// LSN of the frame that begins it; never given to another batch.
    pub batch_id: Lsn,
    /// Where it ends.
    pub end_lsn: Lsn,
    /// Wall clock of its COMMIT, nanoseconds since 1970-01-01 UTC; never before that of a batch
    /// committed earlier through the same handle.
    pub time_ns: u64,
}

/// A frame of a group whose header is still to be filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingFrame {
    /// Where the frame begins in the group's bytes.
    pub(crate) at: usize,
    pub(crate) payload_len: u32,
    pub(crate) payload_crc: u32,
    pub(crate) frame_type: u8,
    pub(crate) flags: u8,
    pub(crate) record_count: u32,
    /// Set when the frame gets its place.
    pub(crate) receipt: Receipt,
}

/// Frames that are written and synced together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Frames back to back, headers not filled in yet.
    pub(crate) bytes: Vec<u8>,
    pub(crate) frames: Vec<PendingFrame>,
    /// A batch in it must be durable before its append returns, whatever the mode.
    pub(crate) sync: bool,
}

impl Group {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.sync = false;
    }

    /// Adds a frame and returns its index.
    pub(crate) fn push(
        &mut self,
        payload: &EncodedPayload,
        frame_type: u8,
        flags: u8,
        sync: bool,
    ) -> Result<usize> {
        let at = self.bytes.len();
        let len = usize::try_from(frame_len(payload.bytes.len())).unwrap_or(usize::MAX);
        // Room for the zeros behind the group too, so that the leader need not allocate.
        let reserved =
            self.bytes.try_reserve(len + HEADER_LEN).is_ok() && self.frames.try_reserve(1).is_ok();
        if !reserved {
            return Err(Error::no_memory("a group", len));
        }
        self.bytes.resize(at + HEADER_LEN, 0);
        self.bytes.extend_from_slice(&payload.bytes);
        self.bytes.resize(at + len, 0);
        self.frames.push(PendingFrame {
            at,
            payload_len: u32::try_from(payload.bytes.len()).unwrap_or(u32::MAX),
            payload_crc: payload.crc,
            frame_type,
            flags,
            record_count: payload.record_count,
            receipt: Receipt::default(),
        });
        self.sync |= sync;
        Ok(self.frames.len() - 1)
    }
}

/// How far a group got.
#[derive(Debug)]
pub(crate) struct GroupOutcome {
    /// So many frames, from the first, are committed.
    pub(crate) good: usize,
    /// So many after those may or may not be on the disk.
    pub(crate) doubtful: usize,
    /// Why the rest is not committed.
    pub(crate) error: Option<Error>,
    /// Nothing more may be written through this handle.
    pub(crate) poison: bool,
}

impl GroupOutcome {
    fn of_frame(&self, group: &Group, index: usize) -> Result<Receipt> {
        let receipt = group
            .frames
            .get(index)
            .map(|frame| frame.receipt)
            .unwrap_or_default();
        let cause = match &self.error {
            Some(error) if index >= self.good => honest(error.duplicate(), self.poison),
            _ => return Ok(receipt),
        };
        if index < self.good + self.doubtful {
            return Err(indeterminate(cause, receipt.batch_id));
        }
        if self.poison && self.doubtful > 0 {
            return Err(cause.into_kind(ErrorKind::Poisoned, "an earlier write failed"));
        }
        Err(cause)
    }
}

/// An error that poisons must not say that trying again may help.
fn honest(error: Error, poison: bool) -> Error {
    if poison && error.is_retryable() {
        return error.into_kind(ErrorKind::Io, "the handle is poisoned");
    }
    error
}

/// The error of a batch that may or may not be on the disk.
pub(crate) fn indeterminate(cause: Error, batch_id: Lsn) -> Error {
    let place = crate::error::Place {
        lsn: batch_id,
        ..cause.place().clone()
    };
    cause
        .into_kind(
            ErrorKind::Indeterminate,
            "the batch may or may not be on the disk; reopening settles it",
        )
        .at(place)
}

/// What groups are written to: the segment writer, or a stand-in in a test.
pub(crate) trait GroupSink {
    /// Gives the frames their places, writes and syncs them.
    fn write_group(&mut self, group: &mut Group) -> GroupOutcome;
}

#[derive(Debug)]
struct Finished {
    ticket: u64,
    group: Group,
    outcome: GroupOutcome,
    /// Threads that have not taken their result.
    unread: usize,
}

#[derive(Debug, Default)]
struct State {
    open: Group,
    /// Number of the open group.
    ticket: u64,
    /// A thread is writing, or has the writer to itself.
    leading: bool,
    finished: VecDeque<Finished>,
    spare: Vec<Group>,
    /// Set once, never taken back: why nothing more is written.
    refusal: Option<Error>,
    /// Threads that want the writer to themselves, and whether the last turn was one of theirs. A
    /// group and they take turns, so that neither side can keep the other waiting for ever.
    alone_waiting: usize,
    alone_last: bool,
    /// Threads that wait for `done`. Waking nobody would cost a system call.
    waiting: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct GroupCommitter<S> {
    state: Mutex<State>,
    /// Signalled when a leader is done.
    done: Condvar,
    /// Locked by the leader only, so never contended.
    sink: Mutex<S>,
}

impl<S: GroupSink> GroupCommitter<S> {
    pub(crate) fn new(sink: S) -> GroupCommitter<S> {
        GroupCommitter {
            state: Mutex::default(),
            done: Condvar::new(),
            sink: Mutex::new(sink),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs while the lock is held, except allocation failure, which
        // aborts; the state is usable in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.waiting += 1;
        let mut state = self
            .done
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    /// Commits one frame together with what other threads commit at the same time. Returns when
    /// its group is acknowledged.
    pub(crate) fn commit(
        &self,
        payload: &EncodedPayload,
        frame_type: u8,
        flags: u8,
        sync: bool,
    ) -> Result<Receipt> {
        let mut outcome = None;
        let payloads = std::slice::from_ref(payload);
        self.commit_each(payloads, frame_type, flags, sync, |result| {
            outcome = Some(result);
        })?;
        outcome.unwrap_or_else(|| Err(Error::new(ErrorKind::Internal, "a commit without result")))
    }

    /// Like [`commit`](Self::commit), for several batches of one frame each, one group for all.
    /// Tells the result of each, in order; those that fail are the last ones. An error: nothing
    /// was written.
    pub(crate) fn commit_each(
        &self,
        payloads: &[EncodedPayload],
        frame_type: u8,
        flags: u8,
        sync: bool,
        mut tell: impl FnMut(Result<Receipt>),
    ) -> Result<()> {
        let mut state = self.state();
        loop {
            state.check()?;
            if !state.leading || state.open.bytes.len() < GROUP_LEN_MAX {
                break;
            }
            state = self.wait(state);
        }
        let first = state.open.frames.len();
        let mut refused = None;
        for payload in payloads {
            if let Err(error) = state.open.push(payload, frame_type, flags, sync) {
                refused = Some(error);
                break;
            }
        }
        let pushed = first..state.open.frames.len();
        match refused {
            Some(error) if pushed.is_empty() => return Err(error),
            _ => {}
        }
        let ticket = state.ticket;
        loop {
            if state.is_finished(ticket) {
                for index in pushed.clone() {
                    if let Some(result) = state.take_result(ticket, index) {
                        tell(result);
                    }
                }
                drop(state);
                if let Some(error) = refused {
                    for _ in pushed.len()..payloads.len() {
                        tell(Err(error.duplicate()));
                    }
                }
                return Ok(());
            }
            if state.leading || state.is_turn_of_alone() {
                state = self.wait(state);
                continue;
            }
            if let Err(error) = state.check() {
                // Poisoned while this batch waited: nothing of it was written.
                state.refuse_open_group(error);
                continue;
            }
            let group = state.swap_open();
            state.leading = true;
            drop(state);
            self.lead(ticket, group);
            state = self.state();
        }
    }

    /// Writes one group as its leader.
    fn lead(&self, ticket: u64, group: Group) {
        let mut turn = Turn {
            committer: self,
            ticket: Some((ticket, group)),
            outcome: None,
        };
        if let Some((_, group)) = &mut turn.ticket {
            let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
            turn.outcome = Some(sink.write_group(group));
        }
    }

    /// Runs `work` with the writer to itself, after the groups before it and before those after
    /// it. `work` says whether its failure poisons the handle.
    pub(crate) fn alone<T>(&self, work: impl FnOnce(&mut S) -> Alone<T>) -> Result<T> {
        let mut state = self.state();
        state.alone_waiting += 1;
        while state.leading || state.is_turn_of_group() {
            state = self.wait(state);
        }
        state.alone_waiting -= 1;
        state.check()?;
        state.leading = true;
        drop(state);
        self.take_turn(work)
    }

    /// Like [`alone`](Self::alone), but only if nobody is writing and `wanted` says so.
    pub(crate) fn alone_if(
        &self,
        wanted: impl FnOnce(&S) -> bool,
        work: impl FnOnce(&mut S) -> Alone<()>,
    ) -> Result<()> {
        let mut state = self.state();
        if state.leading {
            return Ok(());
        }
        state.check()?;
        state.leading = true;
        drop(state);
        self.take_turn(|sink| {
            if wanted(sink) {
                return work(sink);
            }
            Alone {
                result: Ok(()),
                poison: false,
            }
        })
    }

    /// Like [`alone`](Self::alone), for closing: runs even if the handle is poisoned, and lets no
    /// later call in.
    pub(crate) fn finally<T>(
        &self,
        closed: Error,
        work: impl FnOnce(&mut S, Option<&Error>) -> Result<T>,
    ) -> Result<T> {
        let mut state = self.state();
        state.alone_waiting += 1;
        while state.leading || state.is_turn_of_group() {
            state = self.wait(state);
        }
        state.alone_waiting -= 1;
        if let Some(error) = state.refusal.as_ref() {
            if error.kind() == closed.kind() {
                return Err(error.duplicate());
            }
        }
        let poisoned = state.refusal.replace(closed);
        state.leading = true;
        drop(state);
        self.take_turn(|sink| Alone {
            result: work(sink, poisoned.as_ref()),
            poison: false,
        })
    }

    fn take_turn<T>(&self, work: impl FnOnce(&mut S) -> Alone<T>) -> Result<T> {
        let mut turn = Turn {
            committer: self,
            ticket: None,
            outcome: None,
        };
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut sink);
        drop(sink);
        turn.outcome = Some(GroupOutcome {
            good: 0,
            doubtful: 0,
            error: done.result.as_ref().err().map(Error::duplicate),
            poison: done.poison,
        });
        drop(turn);
        done.result.map_err(|error| honest(error, done.poison))
    }

    /// Looks at the writer between groups. Waits for a group that is being written.
    pub(crate) fn inspect<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&self.sink.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why nothing more can be written, if that is so.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.state().refusal.as_ref().map(Error::duplicate)
    }
}

/// The result of work done alone.
pub(crate) struct Alone<T> {
    pub(crate) result: Result<T>,
    /// Nothing more may be written through this handle.
    pub(crate) poison: bool,
}

impl<T> Alone<T> {
    pub(crate) fn done(value: T) -> Alone<T> {
        Alone {
            result: Ok(value),
            poison: false,
        }
    }

    /// Nothing was done; the handle stays usable.
    pub(crate) fn refused(error: Error) -> Alone<T> {
        Alone {
            result: Err(error),
            poison: false,
        }
    }

    /// The handle is poisoned.
    pub(crate) fn failed(error: Error) -> Alone<T> {
        Alone {
            result: Err(error),
            poison: true,
        }
    }
}

impl State {
    fn check(&self) -> Result<()> {
        match &self.refusal {
            Some(error) => Err(error.duplicate()),
            None => Ok(()),
        }
    }

    /// Whether a batch must let a thread go first that wants the writer to itself.
    fn is_turn_of_alone(&self) -> bool {
        self.refusal.is_none() && self.alone_waiting > 0 && !self.alone_last
    }

    /// The other way round. Once nothing is written any more nobody waits for a turn.
    fn is_turn_of_group(&self) -> bool {
        self.refusal.is_none() && self.alone_last && !self.open.frames.is_empty()
    }

    fn swap_open(&mut self) -> Group {
        let fresh = self.spare.pop().unwrap_or_default();
        self.ticket += 1;
        std::mem::replace(&mut self.open, fresh)
    }

    /// Gives every batch of the open group an error, since no group is written any more.
    fn refuse_open_group(&mut self, error: Error) {
        let ticket = self.ticket;
        let group = self.swap_open();
        self.finish(
            ticket,
            group,
            GroupOutcome {
                good: 0,
                doubtful: 0,
                error: Some(error),
                poison: false,
            },
        );
    }

    fn finish(&mut self, ticket: u64, group: Group, outcome: GroupOutcome) {
        self.finished.push_back(Finished {
            ticket,
            unread: group.frames.len(),
            group,
            outcome,
        });
    }

    fn is_finished(&self, ticket: u64) -> bool {
        self.finished.iter().any(|f| f.ticket == ticket)
    }

    fn take_result(&mut self, ticket: u64, index: usize) -> Option<Result<Receipt>> {
        let place = self.finished.iter().position(|f| f.ticket == ticket)?;
        let finished = self.finished.get_mut(place)?;
        let result = finished.outcome.of_frame(&finished.group, index);
        finished.unread -= 1;
        if finished.unread == 0 {
            if let Some(mut finished) = self.finished.remove(place) {
                let small = finished.group.bytes.capacity() <= SPARE_LEN_MAX;
                if small && self.spare.len() < SPARE_GROUPS_MAX {
                    finished.group.clear();
                    self.spare.push(finished.group);
                }
            }
        }
        Some(result)
    }
}

/// The leader's turn. Its end publishes the outcome and wakes everyone, on every path: a leader
/// that panics leaves an outcome that poisons the handle, and no thread waits for ever.
struct Turn<'a, S: GroupSink> {
    committer: &'a GroupCommitter<S>,
    ticket: Option<(u64, Group)>,
    outcome: Option<GroupOutcome>,
}

impl<S: GroupSink> Drop for Turn<'_, S> {
    fn drop(&mut self) {
        let ticket = self.ticket.take();
        let outcome = self.outcome.take().unwrap_or_else(|| GroupOutcome {
            good: 0,
            doubtful: ticket.as_ref().map_or(0, |(_, group)| group.frames.len()),
            error: Some(Error::new(
                ErrorKind::Internal,
                "the library failed while it wrote; the handle is poisoned",
            )),
            poison: true,
        });
        let mut state = self.committer.state();
        if let (true, Some(error)) = (outcome.poison, &outcome.error) {
            if state.refusal.is_none() {
                state.refusal = Some(
                    error
                        .duplicate()
                        .into_kind(ErrorKind::Poisoned, "an earlier write or sync failed"),
                );
            }
        }
        state.alone_last = ticket.is_none();
        if let Some((number, group)) = ticket {
            state.finish(number, group, outcome);
        }
        state.leading = false;
        let somebody_waits = state.waiting > 0;
        drop(state);
        if somebody_waits {
            self.committer.done.notify_all();
        }
    }
}
