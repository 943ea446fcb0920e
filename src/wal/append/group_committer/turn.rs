//! The turn of a leader and the flight of a group, each as a guard whose end publishes the outcome
//! and wakes who waits for it, on every path: one that panics leaves an outcome that poisons the
//! handle, and no thread waits for ever.

use super::{Foretold, Group, GroupCommitter, GroupOutcome, GroupSink, Guard, InFlight};
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;

fn panicked() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the library failed while it wrote; the handle is poisoned",
    )
}

/// A leader's turn: from when it was made leader to when another may be.
pub(super) struct Turn<'a, S: GroupSink> {
    committer: &'a GroupCommitter<S>,
    /// The group that it leads, with its number; `None` of one that works alone.
    group: Option<(u64, Group)>,
    pub(super) outcome: Option<GroupOutcome>,
    /// Where the writer stands after it, if it was asked already.
    standing: Option<(Lsn, Foretold)>,
    /// All that is to be told of it has been told.
    over: bool,
}

impl<'a, S: GroupSink> Turn<'a, S> {
    pub(super) fn of_group(
        committer: &'a GroupCommitter<S>,
        ticket: u64,
        group: Group,
    ) -> Turn<'a, S> {
        Turn {
            committer,
            group: Some((ticket, group)),
            outcome: None,
            standing: None,
            over: false,
        }
    }

    pub(super) fn alone(committer: &'a GroupCommitter<S>) -> Turn<'a, S> {
        Turn {
            committer,
            group: None,
            outcome: None,
            standing: None,
            over: false,
        }
    }

    /// Has the group written, and the turn is over.
    pub(super) fn write(mut self, crowded: bool) -> Guard<'a, S> {
        if let Some((_, group)) = &mut self.group {
            let mut sink = self.committer.sink_in_turn();
            self.outcome = Some(sink.write_group(group, crowded));
            self.standing = Some((sink.durable_lsn(), sink.foretold()));
        }
        self.end()
    }

    pub(super) fn group(&mut self) -> Option<&mut Group> {
        self.group.as_mut().map(|(_, group)| group)
    }

    /// Publishes the outcome and wakes who waits for it.
    fn end(&mut self) -> Guard<'a, S> {
        self.over = true;
        let group = self.group.take();
        let committer = self.committer;
        // A writer that panicked is not asked any more.
        if self.outcome.is_some() && self.standing.is_none() {
            let sink = committer.sink();
            self.standing = Some((sink.durable_lsn(), sink.foretold()));
        }
        let outcome = self.outcome.take().unwrap_or_else(|| GroupOutcome {
            good: 0,
            doubtful: group.as_ref().map_or(0, |(_, group)| group.frames.len()),
            error: Some(panicked()),
            poison: true,
        });
        let mut state = committer.state();
        state.alone_last = group.is_none();
        state.alone = false;
        state.leading = false;
        let failed = outcome.error.is_some();
        let finished = match group {
            Some((ticket, group)) => {
                state.finish(ticket, group, outcome);
                Some(ticket)
            }
            None => {
                if let (true, Some(error)) = (outcome.poison, &outcome.error) {
                    state.refuse(error, "an earlier write or sync failed");
                }
                None
            }
        };
        if let Some((durable_lsn, foretold)) = self.standing {
            state.durable_lsn = durable_lsn;
            state.foretell(foretold, failed);
        }
        state.wake_leader();
        if let Some(ticket) = finished {
            state.wake_group(ticket);
        }
        state.wake_durable();
        state.wake_turn();
        committer.call_for_leader(state)
    }

    /// The group has its places: another thread may lead while this one writes.
    pub(super) fn take_off(mut self) -> Airborne<'a, S> {
        let (ticket, group) = self.group.take().unwrap_or_default();
        self.over = true;
        let committer = self.committer;
        let mut state = committer.state();
        state.flights.push_back(InFlight {
            ticket,
            batches: group.frames.len(),
            ended: None,
        });
        state.leading = false;
        state.alone_last = false;
        state.wake_leader();
        drop(committer.call_for_leader(state));
        Airborne {
            committer,
            ticket,
            group: Some(group),
            flight: None,
            result: None,
        }
    }
}

impl<S: GroupSink> Drop for Turn<'_, S> {
    fn drop(&mut self) {
        if !self.over {
            drop(self.end());
        }
    }
}

/// A group that is being written beside others.
pub(super) struct Airborne<'a, S: GroupSink> {
    committer: &'a GroupCommitter<S>,
    ticket: u64,
    group: Option<Group>,
    pub(super) flight: Option<S::Flight>,
    pub(super) result: Option<Result<()>>,
}

impl<S: GroupSink> Drop for Airborne<'_, S> {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| Err(panicked()));
        let group = self.group.take().unwrap_or_default();
        let committer = self.committer;
        let mut state = committer.state();
        let mine = state.flights.iter_mut().find(|f| f.ticket == self.ticket);
        if let Some(mine) = mine {
            mine.ended = Some((group, self.flight.take(), result));
        }
        committer.land(&mut state);
        state.wake_leader();
        state.wake_durable();
        state.wake_turn();
        drop(committer.call_for_leader(state));
    }
}

impl<S: GroupSink> GroupCommitter<S> {
    /// Lets the flights land that have ended, up to the first that has not: what is behind a hole
    /// is not acknowledged. Behind one that failed nothing is good.
    fn land(&self, state: &mut Guard<'_, S>) {
        while state.flights.front().is_some_and(|f| f.ended.is_some()) {
            let Some(landed) = state.flights.pop_front() else {
                return;
            };
            let Some((group, flight, result)) = landed.ended else {
                return;
            };
            let mut sink = self.sink();
            let outcome = match (result, &state.refusal, flight) {
                (Ok(()), None, Some(flight)) => {
                    sink.land(flight);
                    GroupOutcome::good(&group)
                }
                (Ok(()), Some(earlier), _) => GroupOutcome::doubtful(&group, earlier.duplicate()),
                (Ok(()), None, None) => GroupOutcome::doubtful(&group, panicked()),
                (Err(error), _, _) => {
                    sink.crash();
                    GroupOutcome::doubtful(&group, error)
                }
            };
            state.durable_lsn = sink.durable_lsn();
            drop(sink);
            state.finish(landed.ticket, group, outcome);
            state.wake_group(landed.ticket);
        }
    }
}
