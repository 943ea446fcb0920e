//! What the threads of a group committer know together, under one lock that is never held while anything
//! is written: the open group, the groups under way, and the results that nobody has taken yet.

use super::tickets::Tickets;
use super::{Foretold, Group, GroupOutcome, Handed, Owner, Receipt, FLIGHTS_MAX};
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use std::collections::VecDeque;

/// Buffers of finished groups that are kept for the next ones, besides one for each flight.
const SPARE_GROUPS_MAX: usize = 4;
/// A buffer larger than this is not kept.
const SPARE_LEN_MAX: usize = 2 << 20;
/// Beside fewer batches in flight a group of any size is written at once.
const FEW_BATCHES: usize = 4;
/// Places to wait in, one per group in turn: more than there are groups that anyone waits for, which
/// are the open one, the leader's and those in flight.
pub(super) const SLOTS: usize = FLIGHTS_MAX + 2;

#[derive(Debug)]
pub(super) struct Finished {
    ticket: u64,
    group: Group,
    outcome: GroupOutcome,
    /// Threads that have not taken their result.
    unread: usize,
}

/// A group in flight.
pub(super) struct InFlight<F> {
    pub(super) ticket: u64,
    pub(super) batches: usize,
    /// Set when its write has returned.
    pub(super) ended: Option<(Group, Option<F>, Result<()>)>,
}

pub(super) struct State<F> {
    pub(super) open: Group,
    /// Number of the open group.
    pub(super) ticket: u64,
    /// A thread gives places, or has the writer to itself.
    pub(super) leading: bool,
    /// In the order of their places.
    pub(super) flights: VecDeque<InFlight<F>>,
    pub(super) finished: VecDeque<Finished>,
    spare: Vec<Group>,
    spare_max: usize,
    /// Set once, never taken back: why nothing more is written.
    pub(super) refusal: Option<Error>,
    /// Threads that want the writer to themselves, and whether the last turn was one of theirs. A
    /// group and they take turns, so that neither side can keep the other waiting for ever.
    pub(super) alone_waiting: usize,
    pub(super) alone_last: bool,
    /// The leader is one of them.
    pub(super) alone: bool,
    /// Threads that wait in each of [`slots`](super::GroupCommitter::slots), without those whose group is
    /// finished: they are on their way, and may still be when the slot is another group's. Waking
    /// nobody would cost a system call.
    pub(super) waiting: [usize; SLOTS],
    /// Threads that wait for `turn`, and for `durable`.
    pub(super) turn_waiting: usize,
    pub(super) durable_waiting: usize,
    pub(super) durable_lsn: Lsn,
    pub(super) tickets: Tickets,
    /// Places of the next batches; kept only if batches are buffered.
    pub(super) foretold: Option<Foretold>,
    /// Threads that were called to lead groups that nobody waits for, and have not gone again.
    pub(super) called: usize,
}

impl<F> State<F> {
    pub(super) fn new(
        flights_max: usize,
        durable_lsn: Lsn,
        foretold: Option<Foretold>,
    ) -> State<F> {
        State {
            open: Group::default(),
            ticket: 0,
            leading: false,
            flights: VecDeque::new(),
            finished: VecDeque::new(),
            spare: Vec::new(),
            spare_max: SPARE_GROUPS_MAX + flights_max,
            refusal: None,
            alone_waiting: 0,
            alone_last: false,
            alone: false,
            waiting: [0; SLOTS],
            turn_waiting: 0,
            durable_waiting: 0,
            durable_lsn,
            tickets: Tickets::default(),
            foretold,
            called: 0,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match &self.refusal {
            Some(error) => Err(error.duplicate()),
            None => Ok(()),
        }
    }

    /// Adds a frame to the open group.
    pub(super) fn push(
        &mut self,
        handed: Handed<'_>,
        frame_type: u8,
        flags: u8,
        sync: bool,
        owner: Owner,
    ) -> Result<()> {
        let index = self.open.push(handed, frame_type, flags, sync, owner)?;
        if let (Some(foretold), Some(frame)) = (&mut self.foretold, self.open.frames.get_mut(index))
        {
            frame.receipt = foretold.next(frame);
        }
        Ok(())
    }

    /// Somebody wants to know of the open group, and no thread was called to lead it, or none was
    /// to be had: who asks leads.
    pub(super) fn is_left_alone(&self) -> bool {
        self.open.wanted && (self.called == 0 || self.refusal.is_some())
    }

    /// Whether the open group has enough batches to be written beside those in flight: three quarters as
    /// many, where those are more than a few. With less, each write takes few, and all wait for many:
    /// without this 16 threads appended 41,500 a second in up to 4 flights, so 60,800; with a half or all
    /// as many 51,500 and 50,700 (medians of 3 in one run).
    pub(super) fn is_worth_a_flight(&self) -> bool {
        let in_flight: usize = self.flights.iter().map(|flight| flight.batches).sum();
        in_flight < FEW_BATCHES || 4 * self.open.frames.len() >= 3 * in_flight
    }

    /// Whether a batch must let a thread go first that wants the writer to itself.
    pub(super) fn is_turn_of_alone(&self) -> bool {
        self.refusal.is_none() && self.alone_waiting > 0 && !self.alone_last
    }

    /// The other way round. Once nothing is written any more nobody waits for a turn.
    pub(super) fn is_turn_of_group(&self) -> bool {
        self.refusal.is_none() && self.alone_last && !self.open.is_empty()
    }

    pub(super) fn swap_open(&mut self) -> Group {
        let fresh = self.spare.pop().unwrap_or_default();
        self.ticket += 1;
        std::mem::replace(&mut self.open, fresh)
    }

    /// A group has its outcome: whoever asks for it later is told now, threads that wait take
    /// theirs.
    pub(super) fn finish(&mut self, ticket: u64, group: Group, mut outcome: GroupOutcome) {
        // The append of a batch that was buffered has said that it is in the log.
        let mut failed = group.frames.iter().skip(outcome.good);
        outcome.poison |= failed.any(|frame| frame.owner == Owner::Nobody);
        let mut unread = 0;
        for (index, frame) in group.frames.iter().enumerate() {
            match frame.owner {
                Owner::Caller => unread += 1,
                Owner::Ticket(number) => {
                    self.tickets.settle(number, outcome.of_frame(&group, index));
                }
                Owner::Nobody => {}
            }
        }
        if let (true, Some(error)) = (outcome.poison, &outcome.error) {
            self.refuse(error, "an earlier write or sync failed");
        }
        if unread > 0 {
            self.finished.push_back(Finished {
                ticket,
                unread,
                group,
                outcome,
            });
        } else {
            self.keep(group);
        }
    }

    /// Nothing more is written.
    pub(super) fn refuse(&mut self, error: &Error, why: &str) {
        if self.refusal.is_none() {
            self.refusal = Some(error.duplicate().into_kind(ErrorKind::Poisoned, why));
        }
    }

    pub(super) fn is_finished(&self, ticket: u64) -> bool {
        self.finished.iter().any(|f| f.ticket == ticket)
    }

    pub(super) fn take_result(&mut self, ticket: u64, index: usize) -> Option<Result<Receipt>> {
        let place = self.finished.iter().position(|f| f.ticket == ticket)?;
        let finished = self.finished.get_mut(place)?;
        let result = finished.outcome.of_frame(&finished.group, index);
        finished.unread -= 1;
        if finished.unread == 0 {
            if let Some(finished) = self.finished.remove(place) {
                self.keep(finished.group);
            }
        }
        Some(result)
    }

    /// Keeps the buffers of a group for another.
    fn keep(&mut self, mut group: Group) {
        let small = group.bytes.capacity() <= SPARE_LEN_MAX;
        if small && self.spare.len() < self.spare_max {
            group.clear();
            self.spare.push(group);
        }
    }
}

/// The place in which threads wait for the group with this number.
pub(super) fn slot(ticket: u64) -> usize {
    usize::try_from(ticket % SLOTS as u64).unwrap_or(0)
}
