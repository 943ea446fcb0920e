//! The lock on the state, and who is woken when it is given up.
//!
//! A thread that is woken under a lock stands before it at once, and where it takes the processor from who
//! holds it, all the others stand there, too. So who is to be woken is noted, and woken when the lock is
//! given up. On two processors 64 threads appended twice as much that way.

use super::state::{slot, State, SLOTS};
use super::{GroupCommitter, GroupSink};
use crate::sync::{Condvar, MutexGuard, PoisonError};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// The state, locked.
pub(super) struct Guard<'a, S: GroupSink> {
    /// Stands first, so that it is given up before anybody is woken.
    state: MutexGuard<'a, State<S::Flight>>,
    wakes: Wakes<'a, S>,
}

/// Who is to be woken. Nobody who does not wait: that would cost a system call.
struct Wakes<'a, S: GroupSink> {
    committer: &'a GroupCommitter<S>,
    /// The slot of a thread that may lead.
    leader: Option<usize>,
    /// Slots of all whose group is finished, a bit for each.
    groups: u32,
    turn: bool,
    durable: bool,
}

const _: () = assert!(SLOTS <= u32::BITS as usize, "a bit for each slot");

impl<'a, S: GroupSink> Guard<'a, S> {
    pub(super) fn new(committer: &'a GroupCommitter<S>) -> Guard<'a, S> {
        Guard {
            // No code that can panic runs while the lock is held, except allocation failure, which
            // aborts; the state is usable in any case.
            state: committer
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            wakes: Wakes {
                committer,
                leader: None,
                groups: 0,
                turn: false,
                durable: false,
            },
        }
    }

    /// Waits at `place`, which is one of the committer.
    pub(super) fn wait(self, place: &Condvar) -> Guard<'a, S> {
        let (state, wakes) = self.into_parts();
        let state = place.wait(state).unwrap_or_else(PoisonError::into_inner);
        Guard { state, wakes }
    }

    /// Likewise, but not longer than that.
    pub(super) fn wait_timeout(self, place: &Condvar, longest: Duration) -> Guard<'a, S> {
        let (state, wakes) = self.into_parts();
        let waited = place.wait_timeout(state, longest);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        Guard { state, wakes }
    }

    /// For who waits, which gives up the lock: he may wait for those whom he is to wake.
    fn into_parts(self) -> (MutexGuard<'a, State<S::Flight>>, Wakes<'a, S>) {
        let Guard { state, mut wakes } = self;
        wakes.wake();
        (state, wakes)
    }

    /// The threads of a group that is finished are to be woken.
    pub(super) fn wake_group(&mut self, ticket: u64) {
        if self.state.waiting[slot(ticket)] > 0 {
            self.state.waiting[slot(ticket)] = 0;
            self.wakes.groups |= 1 << slot(ticket);
        }
    }

    /// One thread of the open group is to be woken, to lead it, if it may be taken.
    pub(super) fn wake_leader(&mut self) {
        let state = &self.state;
        let slot = slot(state.ticket);
        if !state.open.is_empty() && state.waiting[slot] > 0 && self.wakes.committer.may_lead(state)
        {
            self.wakes.leader = Some(slot);
        }
    }

    pub(super) fn wake_turn(&mut self) {
        self.wakes.turn |= self.state.turn_waiting > 0;
    }

    pub(super) fn wake_durable(&mut self) {
        self.wakes.durable |= self.state.durable_waiting > 0;
    }
}

impl<S: GroupSink> Deref for Guard<'_, S> {
    type Target = State<S::Flight>;

    fn deref(&self) -> &State<S::Flight> {
        &self.state
    }
}

impl<S: GroupSink> DerefMut for Guard<'_, S> {
    fn deref_mut(&mut self) -> &mut State<S::Flight> {
        &mut self.state
    }
}

impl<S: GroupSink> Wakes<'_, S> {
    fn wake(&mut self) {
        let committer = self.committer;
        // Who leads first: the disk waits for him.
        if let Some(slot) = self.leader.take() {
            committer.slots[slot].notify_one();
        }
        let mut groups = std::mem::take(&mut self.groups);
        while groups != 0 {
            committer.slots[groups.trailing_zeros() as usize].notify_all();
            groups &= groups - 1;
        }
        if std::mem::take(&mut self.turn) {
            committer.turn.notify_all();
        }
        if std::mem::take(&mut self.durable) {
            committer.durable.notify_all();
        }
    }
}

impl<S: GroupSink> Drop for Wakes<'_, S> {
    fn drop(&mut self) {
        self.wake();
    }
}
