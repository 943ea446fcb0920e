//! Results of batches that were appended without waiting.
//!
//! Tickets count such batches of one handle, from 1, in the order in which they will stand in the
//! log. A result is kept until somebody is told of it: who asks for one ticket is answered for all
//! before it too, so a program that submits a thousand batches and asks for the last learns of a
//! failure of any of them.

use super::super::group::Receipt;
use crate::error::{Error, ErrorKind, Result};
use std::collections::VecDeque;

/// Batches that nobody was told of yet: more are refused, so that a program that never asks does
/// not fill the memory.
pub(crate) const UNTOLD_MAX: usize = 1 << 16;

/// Told whenever batches are settled.
pub(crate) type Ring = Box<dyn Fn() + Send>;

/// See the module.
#[derive(Default)]
pub(super) struct Tickets {
    /// Number of the last ticket given out.
    last: u64,
    /// How many of those that nobody was told of are settled.
    settled: u64,
    /// How many of these failed.
    failed: usize,
    /// Results of the last tickets given out; `None` while it is not known.
    untold: VecDeque<Option<Result<Receipt>>>,
    ring: Option<Ring>,
}

impl Tickets {
    /// The number of the next batch; an error if too many are untold.
    pub(super) fn next(&self) -> Result<u64> {
        if self.untold.len() >= UNTOLD_MAX {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("{UNTOLD_MAX} batches were appended without asking what became of them"),
            ));
        }
        Ok(self.last + 1)
    }

    /// That number is given out.
    pub(super) fn give(&mut self) {
        self.last += 1;
        self.untold.push_back(None);
    }

    fn first_untold(&self) -> u64 {
        self.last + 1 - self.untold.len() as u64
    }

    pub(super) fn settle(&mut self, ticket: u64, result: Result<Receipt>) {
        let Some(index) = ticket.checked_sub(self.first_untold()) else {
            return;
        };
        let place = usize::try_from(index)
            .ok()
            .and_then(|index| self.untold.get_mut(index));
        if let Some(place) = place {
            self.failed += usize::from(result.is_err());
            self.settled += 1;
            *place = Some(result);
        }
        if let Some(ring) = &self.ring {
            ring();
        }
    }

    /// Whether somebody may ask for this ticket.
    pub(super) fn check(&self, ticket: u64) -> Result<()> {
        if (self.first_untold()..=self.last).contains(&ticket) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "ticket {ticket}: what became of batches before {} has been told, and {} were appended",
            self.first_untold(),
            self.last
        )))
    }

    /// Answers for all tickets up to this one if they are settled: the receipt of the last, or the
    /// error of the first that failed, behind which all stay untold.
    pub(super) fn take_up_to(&mut self, ticket: u64) -> Option<Result<Receipt>> {
        let Some(index) = ticket.checked_sub(self.first_untold()) else {
            // Another thread was told.
            return Some(Err(Error::invalid(format!(
                "what became of the batch with ticket {ticket} has been told"
            ))));
        };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let failed = |result: &Option<Result<Receipt>>| matches!(result, Some(Err(_)));
        let first_failed = match self.failed {
            0 => None,
            _ => self.untold.iter().take(index + 1).position(failed),
        };
        let last = first_failed.unwrap_or(index);
        // Those that are good are settled in order; one that failed may be known before them.
        let known = |index: usize| self.untold.get(index).is_some_and(Option::is_some);
        if !known(last) || (last > 0 && !known(last - 1)) {
            return None;
        }
        let mut settled = self.untold.drain(..=last);
        let told = settled.len() as u64;
        let result = settled.next_back().flatten();
        drop(settled);
        self.settled -= told;
        self.failed -= usize::from(first_failed.is_some());
        result
    }

    /// How many are untold, and how many of them settled.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.untold.len() as u64, self.settled)
    }

    pub(super) fn set_ring(&mut self, ring: Ring) {
        self.ring = Some(ring);
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets")
            .field("last", &self.last)
            .field("untold", &self.untold.len())
            .finish_non_exhaustive()
    }
}
