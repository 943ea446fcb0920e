//! What a process has once, and a child made by `fork` must not inherit: a lock that another thread
//! held at that moment stays locked in the child for ever, since the thread is not there to give it up.
//!
//! So each process of a line of forks has a value of its own, found by how many forks led to it. What
//! was inherited stays where it is and is not looked at any more.

use crate::sync::OnceLock;

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
    use std::sync::Mutex;

    #[test]
    fn what_a_parent_has_locked_is_free_in_the_child() {
        static NUMBER: PerProcess<Mutex<u64>> = PerProcess::new();
        let mut of_parent = NUMBER.get(0).lock().unwrap();
        *of_parent = 7;
        for fork_count in [1, 5] {
            let mut of_child = NUMBER.get(fork_count).try_lock().unwrap();
            assert_eq!(*of_child, 0);
            *of_child = fork_count;
        }
        drop(of_parent);
        let found = [0, 1, 5].map(|fork_count| *NUMBER.get(fork_count).lock().unwrap());
        assert_eq!(found, [7, 1, 5]);
    }
}
