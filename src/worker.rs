//! A thread per process that does ahead what others will need: what it is asked for, one after the other. It
//! ends when nobody asked for a while.
//!
//! Nobody depends on it. Who comes for what the thread has not begun does it himself, so whoever asks keeps
//! whatever it takes to do it, and what stands in the queue may be done by the time the thread comes to it.

use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::vfs::per_process::PerProcess;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The thread ends when nobody asked for so long.
const IDLE: Duration = Duration::from_millis(500);

/// So many can ask before the queue has to grow.
const QUEUE_LEN: usize = 64;

/// What it does, and its name. Meant for statics.
pub(crate) struct Worker<T> {
    name: &'static str,
    work: fn(&T),
    desks: PerProcess<Desk<T>>,
}

/// What all of a process share with their thread.
struct Desk<T> {
    queue: Mutex<Queue<T>>,
    /// Signalled when something is asked for.
    asked: Condvar,
}

struct Queue<T> {
    asked_for: VecDeque<T>,
    running: bool,
}

impl<T> Default for Desk<T> {
    fn default() -> Desk<T> {
        Desk {
            queue: Mutex::new(Queue {
                asked_for: VecDeque::new(),
                running: false,
            }),
            asked: Condvar::new(),
        }
    }
}

impl<T> Desk<T> {
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a thread would have a processor of its own. Elsewhere nothing is gained by one.
pub(crate) fn is_worth_it() -> bool {
    /// 0: not asked for yet. Two threads may both ask, and learn the same.
    static PROCESSORS: AtomicUsize = AtomicUsize::new(0);
    let mut processors = PROCESSORS.load(Ordering::Relaxed);
    if processors == 0 {
        processors = thread::available_parallelism().map_or(1, usize::from);
        PROCESSORS.store(processors, Ordering::Relaxed);
    }
    processors > 1
}

impl<T: Send> Worker<T> {
    /// A worker that does `work`, which must not panic.
    pub(crate) const fn new(name: &'static str, work: fn(&T)) -> Worker<T> {
        Worker {
            name,
            work,
            desks: PerProcess::new(),
        }
    }

    /// Lets the thread do this, unless one that `is_same` stands in the queue; false if there is no thread to be
    /// had. `fork_count` is that of the file system, by which a child made by `fork` is told from its
    /// parent.
    pub(crate) fn ask(
        &'static self,
        fork_count: u64,
        task: T,
        is_same: impl Fn(&T) -> bool,
    ) -> bool {
        let desk = self.desks.get(fork_count);
        let mut queue = desk.queue();
        if !queue.running {
            let thread = thread::Builder::new().name(self.name.to_string());
            queue.running = thread.spawn(|| self.work_at(desk)).is_ok();
            if !queue.running {
                return false;
            }
            queue.asked_for.reserve(QUEUE_LEN);
        }
        // What was done by who needed it stands there until the thread comes to it, so that a busy machine
        // would let the queue grow.
        if !queue.asked_for.iter().any(is_same) {
            queue.asked_for.push_back(task);
        }
        drop(queue);
        desk.asked.notify_one();
        true
    }

    /// Does what is asked for, until nobody asks for a while.
    fn work_at(&self, desk: &Desk<T>) {
        let mut queue = desk.queue();
        loop {
            if let Some(task) = queue.asked_for.pop_front() {
                drop(queue);
                (self.work)(&task);
                drop(task);
                queue = desk.queue();
                continue;
            }
            let waited = desk.asked.wait_timeout(queue, IDLE);
            let (guard, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = guard;
            if outcome.timed_out() && queue.asked_for.is_empty() {
                queue.running = false;
                return;
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn tasks_are_done_in_order_also_after_the_thread_has_ended() {
        static TELLER: Worker<(mpsc::Sender<u32>, u32)> =
            Worker::new("duralog-test", |(tell, number)| tell.send(*number).unwrap());
        let (tell, told) = mpsc::channel();
        let mut next = 0;
        for _ in 0..2 {
            for number in next..next + 5 {
                assert!(TELLER.ask(0, (tell.clone(), number), |_| false));
            }
            for number in next..next + 5 {
                assert_eq!(told.recv().unwrap(), number);
            }
            next += 5;
            while TELLER.desks.get(0).queue().running {
                thread::yield_now();
            }
        }
    }

    #[test]
    fn what_the_thread_never_comes_to_does_not_pile_up() {
        static NOBODY: Worker<u32> = Worker::new("duralog-test", |_| {});
        // Nobody is there, whatever is said.
        NOBODY.desks.get(0).queue().running = true;
        for _ in 0..3 {
            for task in [1, 2] {
                assert!(NOBODY.ask(0, task, |&other| other == task));
            }
        }
        assert_eq!(NOBODY.desks.get(0).queue().asked_for, [1, 2]);
    }
}
