//! What a process has once, and a child made by `fork` must not inherit: a lock that another thread
//! held at that moment stays locked in the child for ever, since the thread is not there to give it up.
//!
//! So each process of a line of forks has a value of its own, found by how many forks led to it. What
//! was inherited stays where it is and is not looked at any more.

use std::sync::OnceLock;

/// A value per process. Meant for statics.
pub(crate) struct PerProcess<T> {
    first: OnceLock<Box<Link<T>>>,
}

struct Link<T> {
    fork_count: u64,
    value: T,
    /// Of a process that this one led to.
    next: OnceLock<Box<Link<T>>>,
}

impl<T: Default> PerProcess<T> {
    pub(crate) const fn new() -> PerProcess<T> {
        PerProcess {
            first: OnceLock::new(),
        }
    }

    /// The value of the process that so many forks led to, which is this one.
    pub(crate) fn get(&self, fork_count: u64) -> &T {
        let mut place = &self.first;
        loop {
            let link = place.get_or_init(|| {
                Box::new(Link {
                    fork_count,
                    value: T::default(),
                    next: OnceLock::new(),
                })
            });
            // A handle of a parent may still be asked for its own.
            if link.fork_count >= fork_count {
                return &link.value;
            }
            place = &link.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn each_process_of_a_line_has_its_own() {
        static COUNT: PerProcess<AtomicU64> = PerProcess::new();
        for fork_count in [0, 1, 5] {
            COUNT
                .get(fork_count)
                .store(fork_count + 7, Ordering::Relaxed);
        }
        for fork_count in [5, 0, 1] {
            let stored = COUNT.get(fork_count).load(Ordering::Relaxed);
            assert_eq!(stored, fork_count + 7);
        }
    }
}
