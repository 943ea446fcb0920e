//! Work that needs the writer to itself: rotation, syncs, checkpoints, truncation, closing. It and groups
//! take turns.

use super::state::slot;
use super::turn::Turn;
use super::{honest, GroupCommitter, GroupOutcome, GroupSink, Guard};
use crate::error::{Error, Result};

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

impl<S: GroupSink> GroupCommitter<S> {
    /// Runs `work` with the writer to itself, after the groups before it and before those after
    /// it. `work` says whether its failure poisons the handle.
    pub(crate) fn alone<T>(&self, work: impl FnOnce(&mut S) -> Alone<T>) -> Result<T> {
        let mut state = self.wait_to_be_alone();
        state.check()?;
        state.leading = true;
        state.alone = true;
        drop(state);
        self.take_turn(work)
    }

    /// The state, when nobody is at the writer and what was appended before is written.
    fn wait_to_be_alone(&self) -> Guard<'_, S> {
        let mut state = self.state();
        let open = state.ticket;
        state.alone_waiting += 1;
        loop {
            let busy = state.leading || !state.flights.is_empty();
            // Batches with a thread take their turn; those without have nobody else to write them.
            // Where batches are buffered all go first, since their places were told.
            let orphans = !state.open.is_empty()
                && state.refusal.is_none()
                && (state.foretold.is_some()
                    || (state.ticket == open && state.waiting[slot(state.ticket)] == 0));
            if busy || (state.is_turn_of_group() && !orphans) {
                state = self.wait_for_turn(state);
            } else if orphans {
                state = self.lead(state);
            } else {
                break;
            }
        }
        state.alone_waiting -= 1;
        state
    }

    /// Like [`alone`](Self::alone), but only if nobody is writing and `wanted` says so.
    pub(crate) fn alone_if(
        &self,
        wanted: impl FnOnce(&S) -> bool,
        work: impl FnOnce(&mut S) -> Alone<()>,
    ) -> Result<()> {
        let mut state = self.state();
        state.check()?;
        if state.leading || !state.flights.is_empty() || !state.open.is_empty() {
            return Ok(());
        }
        state.leading = true;
        state.alone = true;
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
        let mut state = self.wait_to_be_alone();
        if let Some(error) = state.refusal.as_ref() {
            if error.kind() == closed.kind() {
                return Err(error.duplicate());
            }
        }
        let poisoned = state.refusal.replace(closed);
        state.leading = true;
        state.alone = true;
        drop(state);
        self.take_turn(|sink| Alone {
            result: work(sink, poisoned.as_ref()),
            poison: false,
        })
    }

    fn take_turn<T>(&self, work: impl FnOnce(&mut S) -> Alone<T>) -> Result<T> {
        let mut turn = Turn::alone(self);
        let done = work(&mut self.sink_in_turn());
        turn.outcome = Some(GroupOutcome {
            good: 0,
            doubtful: 0,
            error: done.result.as_ref().err().map(Error::duplicate),
            poison: done.poison,
        });
        drop(turn);
        done.result.map_err(|error| honest(error, done.poison))
    }
}
