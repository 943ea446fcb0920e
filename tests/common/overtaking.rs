//! Groups in flight on the simulated disk, each written while the one before is being written, so
//! that the last one is back first: arranged, and the same in each run.
//!
//! A test may do something inside a sync of the simulated disk (`SimDisk::during_next_sync`), and a
//! write that is durable by itself is one. There the next group is appended without waiting, and a
//! thread asks for it without patience: who asks leads, where no threads work in the background. So
//! its write is called and returns there too, unless the log has it wait.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::format::checksum::crc32;
use duralog::vfs::sim::SimDisk;
use duralog::{BatchSource, Durability, Error, Lsn, Record, Wal};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Keys and values of the records of one batch.
pub(crate) type Batch = Vec<(Vec<u8>, Vec<u8>)>;

/// A batch that was appended: the number that the test gave it, and its ticket or why it has none.
pub(crate) type Appended = (u64, Result<u64, Error>);

/// See the module.
pub(crate) struct Overtaking {
    disk: SimDisk,
    wal: Arc<Wal>,
    log: &'static str,
    /// Groups to come.
    groups: Mutex<VecDeque<Vec<(u64, Batch)>>>,
    appended: Mutex<Vec<Appended>>,
    /// Threads that let a group be written, and how many groups were while another was.
    threads: Mutex<Vec<JoinHandle<()>>>,
    overtook: Mutex<u64>,
}

/// What a thread that can go on needs at most, or the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(1);

/// Records as a source of records.
struct Records<'a>(&'a [(Vec<u8>, Vec<u8>)]);

impl BatchSource for Records<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn record(&self, index: usize) -> Record<'_> {
        Record::put(&self.0[index].0, &self.0[index].1)
    }
}

/// Appends one batch without waiting.
pub(crate) fn append_later(wal: &Wal, batch: &Batch) -> Result<u64, Error> {
    wal.append_later(&Records(batch), Durability::AsOpened)
}

impl Overtaking {
    pub(crate) fn new(
        disk: &SimDisk,
        wal: &Arc<Wal>,
        log: &'static str,
        groups: Vec<Vec<(u64, Batch)>>,
    ) -> Arc<Overtaking> {
        Arc::new(Overtaking {
            disk: disk.clone(),
            wal: Arc::clone(wal),
            log,
            groups: Mutex::new(groups.into()),
            appended: Mutex::default(),
            threads: Mutex::default(),
            overtook: Mutex::default(),
        })
    }

    /// The `index`-th batch that was appended, in the order of the log; `None` when there is no
    /// further one. The caller asks for each before he takes the next.
    pub(crate) fn next(self: &Arc<Overtaking>, index: usize) -> Option<Appended> {
        loop {
            let mut appended = self.appended.lock().unwrap();
            if let Some((number, ticket)) = appended.get_mut(index) {
                let gone = Error::new(duralog::ErrorKind::Internal, "taken");
                let ticket = match ticket {
                    Ok(ticket) => Ok(*ticket),
                    Err(error) => Err(std::mem::replace(error, gone)),
                };
                return Some((*number, ticket));
            }
            drop(appended);
            if !self.append() {
                // Nothing is left for a sync to come.
                self.disk.during_next_sync(|| {});
                for thread in self.threads.lock().unwrap().drain(..) {
                    thread.join().unwrap();
                }
                return None;
            }
        }
    }

    /// How many groups were written while another was.
    pub(crate) fn overtook(&self) -> u64 {
        *self.overtook.lock().unwrap()
    }

    /// Appends the next group; false if there is none. The one behind it follows inside the next
    /// sync.
    fn append(self: &Arc<Overtaking>) -> bool {
        let Some(group) = self.groups.lock().unwrap().pop_front() else {
            return false;
        };
        let next = Arc::clone(self);
        self.disk.during_next_sync(move || {
            if next.append() {
                next.let_it_be_written();
            }
        });
        for (number, batch) in group {
            self.disk.issue(number);
            let ticket = append_later(&self.wal, &batch);
            self.appended.lock().unwrap().push((number, ticket));
        }
        true
    }

    fn let_it_be_written(&self) {
        if !self.can_take_off() {
            // It would wait for the one that waits for it to return.
            return;
        }
        let before = self.disk.operation_count();
        let wal = Arc::clone(&self.wal);
        let thread = std::thread::spawn(move || {
            // Who asks when everything will be durable leads, and takes nobody's answer away.
            let _ = wal.wait_durable(Lsn(u64::MAX), Some(Duration::ZERO));
        });
        let begun = Instant::now();
        while !thread.is_finished() && begun.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        *self.overtook.lock().unwrap() += u64::from(self.disk.operation_count() > before);
        self.threads.lock().unwrap().push(thread);
    }

    /// Whether the last segment ends where a block does, and has room for more.
    fn can_take_off(&self) -> bool {
        let paths = self.disk.paths();
        let segments = paths.iter().filter(|path| {
            path.parent()
                .is_some_and(|parent| parent.ends_with(&self.log[1..]))
                && path.extension().is_some_and(|ending| ending == "wal")
        });
        let Some(bytes) = segments.max().and_then(|path| self.disk.read_file(path)) else {
            return false;
        };
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (base_lsn, mut at) = (number(56), 4096);
        // Offsets of fields: FORMAT.md sections 4 and 5.
        while at + 64 <= bytes.len()
            && half(at) == crc32(&bytes[at + 4..at + 64])
            && number(at + 24) == base_lsn + at as u64 - 4096
        {
            if bytes[at + 12] == 4 {
                return false;
            }
            at += 64 + (half(at + 8) as usize).next_multiple_of(8);
        }
        at % 4096 == 0 && at < 60 << 10 && at + (20 << 10) <= bytes.len()
    }
}
