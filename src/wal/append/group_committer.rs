//! Step 2 of 3 of appending: batches of many threads become one write and one sync.
//!
//! Takes payloads that are encoded and checksummed; hands groups of them to the segment writer; gives
//! every thread the receipt, or the error, of its own batch.
//!
//! ```text
//! open group      filling, under one lock
//!    │ swapped by a thread that finds no leader: it becomes the leader
//! leader's group  gets its places, in order, one group at a time
//!    │ alone with the writer           │ or, where several may be in flight: takes off, and the
//!    │ written and synced              │ next leader begins while this one writes
//!    │                                 │ lands when all that took off before it have landed
//! finished group  every thread takes its result; the last one gives the buffers back
//! ```
//!
//! LSNs, links and sequence numbers are assigned by the leader when it takes the group, so a batch
//! that waits has no place yet, and nothing needs to be taken back when a group before it fails
//! with nothing written. A batch need not have a thread that waits in its call: it may have a
//! ticket ([`tickets`]), or wait in the buffer for a group worth writing ([`foretold`]).
//!
//! Invariants: at most one leader; groups take off and land in the order in which they were open; a
//! result is taken exactly once; nobody is told of success before the outcome of his group and of
//! all before it; after a poisoning outcome no group is written.
//!
//! Wake-ups are what a group costs beside its sync, so nobody is woken for nothing, nor under the lock
//! that he needs then ([`lock`]): threads wait by group ([`State::waiting`]), and when the writer is
//! free, one thread of the open group is woken to lead it. That one leads or finds that another has
//! taken its place, who then does the same.

mod alone;
mod foretold;
mod lock;
#[cfg(all(test, loom))]
mod loom_tests;
mod state;
#[cfg(all(test, not(loom)))]
mod tests;
mod tickets;
mod turn;

pub(crate) use super::group::{
    honest, indeterminate, Group, GroupOutcome, Handed, Owner, PendingFrame, Receipt,
};
pub(crate) use alone::Alone;
pub(crate) use foretold::Foretold;
pub(crate) use tickets::Ring;

use super::batch_encoder::EncodedPayload;
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use lock::Guard;
use state::{slot, InFlight, State, SLOTS};
use std::time::Duration;
use turn::Turn;

/// An open group takes no further batch beyond this size while a leader is at work.
const GROUP_LEN_MAX: usize = 8 << 20;
/// Most groups that may be in flight.
pub(crate) const FLIGHTS_MAX: usize = 14;

/// What groups are written to: the segment writer, or a stand-in in a test.
pub(crate) trait GroupSink {
    /// A group that has its places and is to be written.
    type Flight: Flight;

    /// Gives the frames their places, writes and syncs them. No group is in flight. `crowded`:
    /// more will follow at once.
    fn write_group(&mut self, group: &mut Group, crowded: bool) -> GroupOutcome;

    /// Gives the frames their places, to be written beside other groups; `None` if this one can't
    /// be, or need not, since it is not crowded.
    fn take_off(&mut self, group: &mut Group, crowded: bool) -> Option<Self::Flight>;

    /// The flight that took off first of those under way was written, durably.
    fn land(&mut self, flight: Self::Flight);

    /// A flight was not written: readers see what was durable before.
    fn crash(&mut self);

    /// Everything below is durable.
    fn durable_lsn(&self) -> Lsn;

    /// Where the next frame will go, if groups before it are written.
    fn foretold(&self) -> Foretold;
}

/// See [`GroupSink::take_off`].
pub(crate) trait Flight {
    /// Writes it, durably.
    fn write(&self) -> Result<()>;
}

/// How groups are formed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct GroupLimits {
    /// How many may be in flight at once; 0: none, each is written by the leader alone.
    pub(crate) flights_max: usize,
    /// Bytes of batches that nobody waits for that are kept back; 0: none.
    pub(crate) buffer_len_max: usize,
}

/// Calls for a thread that leads what no thread waits for
/// ([`lead_for_others`](GroupCommitter::lead_for_others)); false if none will come.
pub(crate) type CallLeader = Box<dyn Fn() -> bool + Send + Sync>;

/// See the module.
pub(crate) struct GroupCommitter<S: GroupSink> {
    state: Mutex<State<S::Flight>>,
    /// Where threads wait for a group: the one with number `n` in slot `n % SLOTS`.
    slots: [Condvar; SLOTS],
    /// Where they wait for the writer, for room in the open group, and for flights to land.
    turn: Condvar,
    /// Where they wait for the durable mark, and for tickets.
    durable: Condvar,
    /// Locked by the leader, and by who lands; never for long while a flight is under way.
    sink: Mutex<S>,
    /// Held by who waits to look at the writer, so that no leader passes him.
    looking: Mutex<()>,
    limits: GroupLimits,
    call_leader: Option<CallLeader>,
}

impl<S: GroupSink> GroupCommitter<S> {
    pub(crate) fn new(sink: S, limits: GroupLimits, call_leader: Option<CallLeader>) -> Self {
        let foretold = (limits.buffer_len_max > 0).then(|| sink.foretold());
        let state = State::new(
            limits.flights_max.min(FLIGHTS_MAX),
            sink.durable_lsn(),
            foretold,
        );
        GroupCommitter {
            state: Mutex::new(state),
            slots: std::array::from_fn(|_| Condvar::new()),
            turn: Condvar::new(),
            durable: Condvar::new(),
            sink: Mutex::new(sink),
            looking: Mutex::new(()),
            limits: GroupLimits {
                flights_max: limits.flights_max.min(FLIGHTS_MAX),
                ..limits
            },
            call_leader,
        }
    }

    fn state(&self) -> Guard<'_, S> {
        Guard::new(self)
    }

    fn looking(&self) -> MutexGuard<'_, ()> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer, for a leader: behind who waits to look at it. A lock does not go to who waits longest,
    /// and one leader follows the other.
    fn sink_in_turn(&self) -> MutexGuard<'_, S> {
        drop(self.looking());
        self.sink()
    }

    fn sink(&self) -> MutexGuard<'_, S> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something happened to the group with this number.
    fn wait_for_group<'a>(&self, mut state: Guard<'a, S>, ticket: u64) -> Guard<'a, S> {
        let slot = slot(ticket);
        state.waiting[slot] += 1;
        let mut state = state.wait(&self.slots[slot]);
        if !state.is_finished(ticket) {
            state.waiting[slot] -= 1;
        }
        state
    }

    /// Waits until the writer may be free, or there may be room.
    fn wait_for_turn<'a>(&self, mut state: Guard<'a, S>) -> Guard<'a, S> {
        state.turn_waiting += 1;
        let mut state = state.wait(&self.turn);
        state.turn_waiting -= 1;
        state
    }

    // ---- appending ---------------------------------------------------------------------------

    /// Commits one frame together with what other threads commit at the same time. Returns when
    /// its group is acknowledged; or at once, if batches are buffered and it need not be durable.
    pub(crate) fn commit(
        &self,
        payload: &mut EncodedPayload,
        frame_type: u8,
        flags: u8,
        sync: bool,
    ) -> Result<Receipt> {
        if self.limits.buffer_len_max > 0 && !sync {
            if let Some(receipt) = self.buffer(payload, frame_type, flags)? {
                return Ok(receipt);
            }
        }
        let mut outcome = None;
        let given = std::iter::once(Handed::Given(payload));
        self.commit_each(given, frame_type, flags, sync, |result| {
            outcome = Some(result);
        })?;
        outcome.unwrap_or_else(|| Err(Error::new(ErrorKind::Internal, "a commit without result")))
    }

    /// Like [`commit`](Self::commit), for several batches of one frame each, one group for all.
    /// Tells the result of each, in order; those that fail are the last ones. An error: nothing
    /// was written.
    pub(crate) fn commit_each<'p>(
        &self,
        payloads: impl ExactSizeIterator<Item = Handed<'p>>,
        frame_type: u8,
        flags: u8,
        sync: bool,
        mut tell: impl FnMut(Result<Receipt>),
    ) -> Result<()> {
        let mut state = self.wait_for_room()?;
        let first = state.open.frames.len();
        let count = payloads.len();
        let mut refused = None;
        for handed in payloads {
            if let Err(error) = state.push(handed, frame_type, flags, sync, Owner::Caller) {
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
        while !state.is_finished(ticket) {
            state = self.advance(state, ticket);
        }
        for index in pushed.clone() {
            if let Some(result) = state.take_result(ticket, index) {
                tell(result);
            }
        }
        drop(state);
        if let Some(error) = refused {
            for _ in pushed.len()..count {
                tell(Err(error.duplicate()));
            }
        }
        Ok(())
    }

    /// The state, when the open group has room for a batch.
    fn wait_for_room(&self) -> Result<Guard<'_, S>> {
        let mut state = self.state();
        loop {
            state.check()?;
            let foretelling_stopped =
                state.foretold.is_some() && (state.alone || state.alone_waiting > 0);
            if state.open.bytes.len() < GROUP_LEN_MAX && !foretelling_stopped {
                return Ok(state);
            }
            state = if !foretelling_stopped && self.may_lead(&state) {
                self.lead(state)
            } else {
                self.wait_for_turn(state)
            };
        }
    }

    /// Whether a thread may take the open group now.
    fn may_lead(&self, state: &State<S::Flight>) -> bool {
        !state.leading
            && state.flights.len() < self.limits.flights_max.max(1)
            && !state.is_turn_of_alone()
            && state.is_worth_a_flight()
    }

    /// Leads the group with this number if it is open and may be taken, or waits for news of it.
    fn advance<'a>(&'a self, mut state: Guard<'a, S>, ticket: u64) -> Guard<'a, S> {
        if ticket != state.ticket || !self.may_lead(&state) {
            return self.wait_for_group(state, ticket);
        }
        if let Err(error) = state.check() {
            // Poisoned while this batch waited: nothing of it was written.
            let group = state.swap_open();
            state.finish(ticket, group, GroupOutcome::nothing(error));
            state.wake_group(ticket);
            state.wake_durable();
            return state;
        }
        self.lead(state)
    }

    /// Writes the open group as its leader.
    fn lead<'a>(&'a self, mut state: Guard<'a, S>) -> Guard<'a, S> {
        let crowded = state.open.frames.len() > 1 || !state.flights.is_empty();
        let ticket = state.ticket;
        let group = state.swap_open();
        state.leading = true;
        // There is room again.
        state.wake_turn();
        drop(state);
        let mut turn = Turn::of_group(self, ticket, group);
        if self.limits.flights_max > 0 {
            let group = turn.group();
            if let Some(flight) =
                group.and_then(|group| self.sink_in_turn().take_off(group, crowded))
            {
                let mut airborne = turn.take_off();
                airborne.result = Some(flight.write());
                airborne.flight = Some(flight);
                drop(airborne);
                return self.state();
            }
            let mut state = self.state();
            while !state.flights.is_empty() {
                state = self.wait_for_turn(state);
            }
            if let Err(error) = state.check() {
                drop(state);
                turn.outcome = Some(GroupOutcome::nothing(error));
                drop(turn);
                return self.state();
            }
        }
        turn.write(crowded)
    }

    // ---- for nobody in particular ------------------------------------------------------------

    /// Commits one frame that nobody waits for now. Its result is kept until somebody asks
    /// ([`wait_for_ticket`](Self::wait_for_ticket)).
    pub(crate) fn commit_later(
        &self,
        payload: &mut EncodedPayload,
        frame_type: u8,
        flags: u8,
        sync: bool,
    ) -> Result<u64> {
        let mut state = self.wait_for_room()?;
        let number = state.tickets.next()?;
        let (handed, owner) = (Handed::Given(payload), Owner::Ticket(number));
        state.push(handed, frame_type, flags, sync, owner)?;
        state.tickets.give();
        drop(self.call_for_leader(state));
        Ok(number)
    }

    /// Writes what waits in the buffer, if nobody is writing.
    pub(crate) fn write_buffered(&self) {
        let state = self.state();
        if !state.open.is_empty() && state.refusal.is_none() && self.may_lead(&state) {
            drop(self.lead(state));
        }
    }

    /// Calls for a thread to lead the open group, if no other will.
    fn call_for_leader<'a>(&'a self, mut state: Guard<'a, S>) -> Guard<'a, S> {
        let needed = state.open.wanted
            && state.waiting[slot(state.ticket)] == 0
            && state.called < self.limits.flights_max.max(1)
            && self.may_lead(&state);
        let Some(call) = self.call_leader.as_ref().filter(|_| needed) else {
            return state;
        };
        state.called += 1;
        drop(state);
        let called = call();
        let mut state = self.state();
        if !called {
            // Who asks for the result will have to lead.
            state.called -= 1;
        }
        state
    }

    /// Leads groups as long as there is one that somebody wants to know of. For the thread that
    /// was called.
    pub(crate) fn lead_for_others(&self) {
        let mut called = Called {
            committer: self,
            over: false,
        };
        let mut state = self.state();
        // Also when nothing more is written: then they are told so.
        while state.open.wanted && self.may_lead(&state) {
            let open = state.ticket;
            state = self.advance(state, open);
        }
        state.called -= 1;
        called.over = true;
    }

    /// Waits until all batches with tickets up to `ticket` are settled, and answers for those that
    /// nobody was told of: the receipt of `ticket` if all are committed, else the error of the
    /// first that is not, which is told once. `None`: not settled within `longest`.
    pub(crate) fn wait_for_ticket(
        &self,
        ticket: u64,
        longest: Option<Duration>,
    ) -> Result<Option<Receipt>> {
        let mut until = Until::new(longest);
        let mut state = self.state();
        state.tickets.check(ticket)?;
        loop {
            if let Some(result) = state.tickets.take_up_to(ticket) {
                return result.map(Some);
            }
            if state.is_left_alone() && self.may_lead(&state) {
                let open = state.ticket;
                state = self.advance(state, open);
            } else {
                let Some(left) = until.left() else {
                    return Ok(None);
                };
                state = self.wait_for_durable(state, left);
            }
        }
    }

    /// Waits until everything below `lsn` is durable; false: not within `longest`.
    pub(crate) fn wait_until_durable(&self, lsn: Lsn, longest: Option<Duration>) -> Result<bool> {
        let mut until = Until::new(longest);
        let mut state = self.state();
        loop {
            if state.durable_lsn >= lsn {
                return Ok(true);
            }
            state.check()?;
            if state.is_left_alone() && self.may_lead(&state) {
                state = self.lead(state);
                continue;
            }
            let Some(left) = until.left() else {
                return Ok(false);
            };
            state = self.wait_for_durable(state, left);
        }
    }

    fn wait_for_durable<'a>(&self, mut state: Guard<'a, S>, longest: Duration) -> Guard<'a, S> {
        state.durable_waiting += 1;
        let mut state = state.wait_timeout(&self.durable, longest);
        state.durable_waiting -= 1;
        state
    }

    /// How many batches with tickets nobody was told of, and how many of them are settled.
    pub(crate) fn tickets(&self) -> (u64, u64) {
        self.state().tickets.counts()
    }

    /// Runs `ring` whenever tickets are settled, from now on.
    pub(crate) fn on_settled(&self, ring: Ring) {
        self.state().tickets.set_ring(ring);
    }

    /// Everything below is durable, also for who waits for it: the writer knows that a moment earlier.
    pub(crate) fn durable_lsn(&self) -> Lsn {
        self.state().durable_lsn
    }

    /// Looks at the writer between groups. Waits for a group that is being written.
    pub(crate) fn inspect<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        let looking = self.looking();
        let sink = self.sink();
        drop(looking);
        look(&sink)
    }

    /// Why nothing more can be written, if that is so.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.state().refusal.as_ref().map(Error::duplicate)
    }
}

/// A thread that was called to lead for others. If it panics, another is called.
struct Called<'a, S: GroupSink> {
    committer: &'a GroupCommitter<S>,
    over: bool,
}

impl<S: GroupSink> Drop for Called<'_, S> {
    fn drop(&mut self) {
        if !self.over {
            let mut state = self.committer.state();
            state.called -= 1;
            drop(self.committer.call_for_leader(state));
        }
    }
}

/// The end of a wait.
struct Until {
    longest: Option<Duration>,
    end: Option<std::time::Instant>,
}

impl Until {
    fn new(longest: Option<Duration>) -> Until {
        Until { longest, end: None }
    }

    /// How long there is to wait; `None` when it is over. A wait without end is cut into long
    /// ones, which does no harm. The clock is looked at only by who has to wait.
    fn left(&mut self) -> Option<Duration> {
        let Some(longest) = self.longest else {
            return Some(Duration::from_secs(3600));
        };
        if longest.is_zero() {
            return None;
        }
        let now = std::time::Instant::now();
        let end = *self
            .end
            .get_or_insert_with(|| now.checked_add(longest).unwrap_or(now));
        let left = end.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

impl<S: GroupSink> std::fmt::Debug for GroupCommitter<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupCommitter")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
