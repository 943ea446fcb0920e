//! The last position that readers may see, and who waits for it to grow.
//!
//! The appending side pays one atomic load while nobody waits. Who waits announces it first and looks
//! at the position again afterwards, so that no wake-up is lost: either the appender sees the
//! announcement, or the waiter sees the position.

use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::vfs::bell::Bell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(super) struct Published {
    last: AtomicU64,
    /// Threads that wait, and bells.
    watchers: AtomicUsize,
    ended: AtomicBool,
    bells: Mutex<Vec<Weak<Bell>>>,
    grown: Condvar,
}

impl Published {
    pub(super) fn new(last: u64) -> Published {
        Published {
            last: AtomicU64::new(last),
            watchers: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            bells: Mutex::default(),
            grown: Condvar::new(),
        }
    }

    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }

    fn bells(&self) -> MutexGuard<'_, Vec<Weak<Bell>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readers may see events up to `last`.
    pub(super) fn set(&self, last: u64) {
        let before = self.last.swap(last, Ordering::SeqCst);
        if before != last && self.watchers.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    /// The same for who only finds out how far others are: of two threads the slower one must not take
    /// back what the faster one has shown. Gives what readers may see now.
    pub(super) fn raise(&self, last: u64) -> u64 {
        let before = self.last.fetch_max(last, Ordering::SeqCst);
        if before < last && self.watchers.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
        before.max(last)
    }

    /// Nothing more will be published through this handle.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Wakes everyone, who then looks for himself.
    pub(super) fn wake(&self) {
        let mut bells = self.bells();
        bells.retain(|bell| match bell.upgrade() {
            Some(bell) => {
                bell.ring();
                true
            }
            None => {
                self.watchers.fetch_sub(1, Ordering::SeqCst);
                false
            }
        });
        drop(bells);
        self.grown.notify_all();
    }

    /// From now on `bell` is rung when the position changes.
    pub(super) fn add_bell(&self, bell: &Arc<Bell>) {
        self.bells().push(Arc::downgrade(bell));
        self.watchers.fetch_add(1, Ordering::SeqCst);
        // What was published before it was there is news too.
        bell.ring();
    }

    /// Waits until `is_over` holds or `until` has come; asks again after each change, and at least
    /// every `look` if given.
    pub(super) fn wait(
        &self,
        until: Option<Instant>,
        look: Option<Duration>,
        mut is_over: impl FnMut() -> bool,
    ) {
        self.watchers.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.bells();
        while !is_over() {
            let now = Instant::now();
            let left = until.map(|until| until.saturating_duration_since(now));
            if left == Some(Duration::ZERO) {
                break;
            }
            let longest = match (left, look) {
                (Some(left), Some(look)) => Some(left.min(look)),
                (left, look) => left.or(look),
            };
            // A wait without end is cut into long ones, which does no harm.
            let longest = longest.unwrap_or(Duration::from_secs(3600));
            let waited = self.grown.wait_timeout(guard, longest);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
            if look.is_some() {
                break;
            }
        }
        drop(guard);
        self.watchers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As when two threads of a reader look at the same time, and the slower one has seen less.
    #[test]
    fn what_was_shown_is_not_taken_back_by_a_slower_look() {
        let published = Published::new(3);
        assert_eq!(published.raise(5), 5);
        assert_eq!(published.raise(4), 5);
        assert_eq!(published.last(), 5);
    }
}
