//! A few threads per process that lead groups which no thread of the program waits for: those of
//! batches that were appended asynchronously, or wait in a buffer.
//!
//! A log calls for a leader when such a group may be written and nobody else will; the thread leads as
//! long as there is another, and then serves the next log. Threads are started when all are busy and
//! end when none was needed for a while: a process that appends nothing this way has none.

use super::group_committer::GroupCommitter;
use super::segment_writer::SegmentWriter;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::vfs::per_process::PerProcess;
use std::collections::VecDeque;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Weak;
use std::thread;
use std::time::Duration;

/// Most threads, whatever the number of logs.
const THREADS_MAX: usize = 4;
/// A thread that was not needed for so long ends.
const IDLE: Duration = Duration::from_millis(500);

type Committer = GroupCommitter<SegmentWriter>;

#[derive(Default)]
struct Leaders {
    calls: VecDeque<Weak<Committer>>,
    threads: usize,
    /// Those of them that wait.
    idle: usize,
}

/// What all logs of a process share with these threads.
#[derive(Default)]
struct Office {
    leaders: Mutex<Leaders>,
    called: Condvar,
}

impl Office {
    fn leaders(&self) -> MutexGuard<'_, Leaders> {
        self.leaders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static OFFICE: PerProcess<Office> = PerProcess::new();

/// Sends a thread to lead groups of this log; false if there is none to be had.
pub(crate) fn call(committer: &Weak<Committer>, fork_count: u64) -> bool {
    let office = OFFICE.get(fork_count);
    let mut leaders = office.leaders();
    if leaders.idle <= leaders.calls.len() && leaders.threads < THREADS_MAX {
        let started = thread::Builder::new()
            .name("duralog-append".to_string())
            .spawn(|| lead(office));
        if started.is_ok() {
            leaders.threads += 1;
        }
    }
    if leaders.threads == 0 {
        return false;
    }
    leaders.calls.push_back(Weak::clone(committer));
    drop(leaders);
    office.called.notify_one();
    true
}

fn lead(office: &Office) {
    let mut leaders = office.leaders();
    loop {
        if let Some(call) = leaders.calls.pop_front() {
            drop(leaders);
            if let Some(committer) = call.upgrade() {
                // A panic poisons its log; the other logs need this thread.
                let lead = AssertUnwindSafe(|| committer.lead_for_others());
                let _ = catch_unwind(lead);
            }
            leaders = office.leaders();
            continue;
        }
        leaders.idle += 1;
        let waited = office.called.wait_timeout(leaders, IDLE);
        let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        leaders = guard;
        leaders.idle -= 1;
        if timeout.timed_out() && leaders.calls.is_empty() {
            leaders.threads -= 1;
            return;
        }
    }
}
