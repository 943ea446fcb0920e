//! Many threads that each append one record at a time and wait for it to be durable.

use crate::c_face::{Log, Mode};
use crate::writers::{Ndjson, Places, Raw, Sqlite, Writer};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};

/// Shared by the threads.
pub trait Shared: Sync {
    /// Durable on return.
    fn append(&self, record: &[u8]);
    /// Syncs and durable writes so far, by its own count; none where nothing counts them.
    fn durable_writes(&self) -> Option<u64> {
        None
    }
    fn close(self: Box<Self>);
}

pub fn open(contender: &str, places: Places<'_>, mode: Mode) -> Box<dyn Shared> {
    let in_work = |name: &str| -> PathBuf { places.work.join(name) };
    match contender {
        "raw" => Box::new(GroupLimit::new(Raw::open(places.fixtures, true))),
        "duralog" => Box::new(Log::open(&in_work("log"), mode)),
        // Neither groups by itself; one handle under a lock is the best that either can do.
        "ndjson" => Box::new(Locked(Mutex::new(Ndjson::open(
            &in_work("log.ndjson"),
            true,
        )))),
        "sqlite" => Box::new(Locked(Mutex::new(Sqlite::open(&in_work("log.db"), true)))),
        other => panic!("no contender {other:?} here"),
    }
}

impl Shared for Log {
    fn append(&self, record: &[u8]) {
        Log::append(self, record);
    }

    fn durable_writes(&self) -> Option<u64> {
        Some(self.sync_count())
    }

    fn close(self: Box<Self>) {
        Log::close(*self);
    }
}

struct Locked<W>(Mutex<W>);

impl<W: Writer + Send + 'static> Shared for Locked<W> {
    fn append(&self, record: &[u8]) {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write(record, record.len());
    }

    fn close(self: Box<Self>) {
        let writer = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        Box::new(writer).close();
    }
}

/// The limit of group commit: whoever finds nobody writing writes what waits, with one pwrite and
/// one fdatasync into blocks written before, while the next records gather. Nobody is woken under the
/// lock, and none but who is through and one who leads the next group.
struct GroupLimit {
    state: Mutex<GroupState>,
    /// Where the threads of a group wait: those of odd numbers, and the others.
    done: [Condvar; 2],
    file: Mutex<(Raw, Vec<u8>)>,
}

#[derive(Default)]
struct GroupState {
    waiting: Vec<u8>,
    /// Number of the group that gathers; all before are written, or being written.
    gathering: u64,
    /// Groups below this number are durable.
    durable: u64,
    writing: bool,
}

impl GroupLimit {
    fn new(file: Raw) -> GroupLimit {
        GroupLimit {
            state: Mutex::default(),
            done: [Condvar::new(), Condvar::new()],
            file: Mutex::new((file, Vec::new())),
        }
    }

    fn done(&self, group: u64) -> &Condvar {
        &self.done[group as usize % 2]
    }
}

impl Shared for GroupLimit {
    fn append(&self, record: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.extend_from_slice(record);
        let mine = state.gathering;
        while state.writing {
            let waited = self.done(mine).wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.durable > mine {
                return;
            }
        }
        state.writing = true;
        state.gathering += 1;
        let group = std::mem::take(&mut state.waiting);
        drop(state);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (raw, spare) = &mut *file;
        raw.write(&group, group.len());
        let mut empty = std::mem::replace(spare, group);
        empty.clear();
        drop(file);
        state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() {
            state.waiting = empty;
        }
        state.writing = false;
        state.durable = mine + 1;
        drop(state);
        self.done(mine + 1).notify_one();
        self.done(mine).notify_all();
    }

    fn close(self: Box<Self>) {}
}
