//! What tests share that run a log on the simulated disk and let it go wrong: batches whose content
//! follows from their number, a ledger of what the caller was told of each, and the check of a log
//! against that ledger.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use crate::differential::in_sample;
use crate::overtaking::Overtaking;
use duralog::vfs::sim::{CrashStates, Fill, Image, SimDisk};
use duralog::{
    BatchStatus, Durability, Error, ErrorKind, Lsn, Receipt, Record, SyncMode, Wal, WalOptions,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::Arc;
use std::time::Duration;

/// Where the log is.
pub(crate) const PATH: &str = "/log";

/// One step of a workload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Solo(usize),
    /// The same, durable before return whatever the mode.
    Durable(usize),
    /// Records, bytes of each.
    Batch(usize, usize),
    /// Groups that overtake each other (`common/overtaking.rs`), batches in the first two; then twice as many
    /// from group to group.
    Later(usize, usize),
    Checkpoint,
    Mark,
    Sync,
    /// What the background does where there is one.
    Prepare,
    /// Up to the batch so many before.
    Truncate(usize),
    Read,
    Close,
    /// The process dies; the machine goes on.
    Kill,
    Open(SyncMode),
    /// From the next opening on, so many groups may be in flight.
    InFlight(u32),
    /// From the next opening on in a lazy mode, so many bytes may wait in the process.
    Buffer(u32),
    /// From the next opening on in a lazy mode, appends are mapped.
    Mapped,
}

/// What the caller knows of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It was acknowledged.
    Told(Receipt),
    /// Nothing of it was written, says the error.
    Absent,
    /// It may be there: reopening says.
    Doubtful(Lsn),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) count: usize,
    pub(crate) len: usize,
    pub(crate) fate: Fate,
    /// A power cut may not take it any more.
    pub(crate) durable: bool,
    /// It does not wait in the process any more.
    written: bool,
    checkpoint: bool,
}

impl Known {
    /// A batch of which nothing is known but its content.
    pub(crate) fn unknown(count: usize, len: usize) -> Known {
        Known {
            count,
            len,
            fate: Fate::Absent,
            durable: false,
            written: true,
            checkpoint: false,
        }
    }
}

/// What the caller was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// By number.
    pub(crate) batches: Vec<Known>,
    ids: HashSet<u64>,
    /// Truncated for sure up to here, and perhaps up to there.
    truncated: u64,
    truncated_maybe: u64,
    /// A call said that the handle is of no use any more.
    pub(crate) poisoned: bool,
    /// An append may return before the batch is written.
    buffered: bool,
    /// Kinds of the errors seen.
    pub(crate) errors: Vec<ErrorKind>,
}

/// The value of a record.
pub(crate) fn value(batch: usize, index: usize, len: usize) -> Vec<u8> {
    let seed = batch.wrapping_mul(31).wrapping_add(index.wrapping_mul(7));
    (0..len)
        .map(|at| u8::try_from((seed + at * 13) % 251).unwrap())
        .collect()
}

/// A batch as replay showed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) batch_id: Lsn,
    pub(crate) seq: u64,
}

/// Reads the whole log; every batch in it is whole and holds what it should.
pub(crate) fn replay(wal: &Wal, batches: &[Known]) -> Result<BTreeMap<usize, Seen>, Error> {
    let mut cursor = wal.cursor(0)?;
    let mut seen: BTreeMap<usize, Seen> = BTreeMap::new();
    let mut open: Option<(usize, usize)> = None;
    let mut last = 0;
    let mut failed = false;
    loop {
        let entry = match cursor.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            // A cursor goes on where a read failed.
            Err(error) if error.kind() == ErrorKind::Io && !failed => {
                failed = true;
                continue;
            }
            Err(error) => return Err(error),
        };
        assert!(entry.seq > last, "numbers grow: {} after {last}", entry.seq);
        last = entry.seq;
        let key = std::str::from_utf8(entry.key).unwrap();
        let (batch, index) = key.split_once('/').unwrap();
        let (batch, index): (usize, usize) = (batch.parse().unwrap(), index.parse().unwrap());
        let known = batches[batch];
        assert_eq!(entry.value, value(batch, index, known.len), "batch {batch}");
        match open {
            None => {
                assert_eq!(
                    index, 0,
                    "batch {batch} does not begin with its first record"
                );
                assert!(!seen.contains_key(&batch), "batch {batch} is there twice");
            }
            Some((number, next)) => {
                assert_eq!((batch, index), (number, next), "a batch is not whole");
                assert_eq!(entry.batch_id, seen[&batch].batch_id);
            }
        }
        let place = seen.entry(batch).or_insert(Seen {
            batch_id: entry.batch_id,
            seq: 0,
        });
        place.seq = entry.seq;
        open = (index + 1 < known.count).then_some((batch, index + 1));
    }
    assert_eq!(open, None, "the last batch is not whole");
    Ok(seen)
}

impl Ledger {
    /// Checks a log, as `wal` shows it, against what the caller was told. `all` says that every
    /// acknowledged batch must be there, else only the durable ones.
    pub(crate) fn check(&self, wal: &Wal, all: bool) {
        let seen = replay(wal, &self.batches).unwrap();
        let truncated = wal.stat().unwrap().truncated_seq;
        assert!(
            truncated == self.truncated || truncated == self.truncated_maybe,
            "truncated up to {truncated}, told {} or {}",
            self.truncated,
            self.truncated_maybe
        );
        for (number, known) in self.batches.iter().enumerate() {
            let found = seen.get(&number);
            match known.fate {
                Fate::Told(receipt) if known.checkpoint => {
                    if all || known.durable {
                        let status = wal.batch_status(receipt.batch_id).unwrap();
                        assert_ne!(status, BatchStatus::Absent, "checkpoint {number}");
                    }
                }
                Fate::Told(receipt) => {
                    if receipt.seq <= truncated {
                        assert_eq!(found, None, "batch {number} was truncated");
                    } else if (all && known.written) || known.durable {
                        let found = found.unwrap_or_else(|| {
                            panic!("batch {number} was acknowledged and is gone: {receipt:?}")
                        });
                        assert_eq!(found.batch_id, receipt.batch_id);
                        let status = wal.batch_status(receipt.batch_id).unwrap();
                        assert_eq!(status, BatchStatus::Committed);
                    }
                }
                Fate::Absent => assert_eq!(found, None, "batch {number} was reported as absent"),
                Fate::Doubtful(id) => {
                    let status = wal.batch_status(id).unwrap();
                    if let Some(found) = found {
                        assert_eq!(found.batch_id, id);
                        assert_eq!(status, BatchStatus::Committed, "batch {number}");
                    } else if !known.checkpoint {
                        assert_ne!(status, BatchStatus::Committed, "batch {number}");
                    }
                }
            }
        }
    }

    /// Everything that the log shows now will be there for good: recovery has made it durable.
    fn settle(&mut self, wal: &Wal) {
        let seen = replay(wal, &self.batches).unwrap();
        for (number, known) in self.batches.iter_mut().enumerate() {
            known.durable |= seen.contains_key(&number);
        }
    }

    /// The process is dead, or the handle is poisoned: what waited in the process may be lost.
    fn lose_buffer(&mut self) {
        for known in &mut self.batches {
            if let (Fate::Told(receipt), false) = (known.fate, known.written) {
                known.fate = Fate::Doubtful(receipt.batch_id);
            }
        }
    }

    /// Like [`note`](Self::note), of a batch that was appended without waiting: it may have failed
    /// with others, each of which is told why.
    fn note_later(&mut self, count: usize, len: usize, told: Result<Receipt, Error>) {
        let first = |error: &Error| error.kind() != ErrorKind::Poisoned;
        let again = self.poisoned && told.as_ref().is_err_and(first);
        if again {
            self.poisoned = false;
        }
        self.note(count, len, false, told);
        assert!(self.poisoned || !again);
    }

    fn note(&mut self, count: usize, len: usize, checkpoint: bool, told: Result<Receipt, Error>) {
        let fate = match told {
            Ok(receipt) => {
                assert!(!self.poisoned, "a poisoned handle took a batch");
                assert!(self.ids.insert(receipt.batch_id.0), "an id came twice");
                Fate::Told(receipt)
            }
            Err(error) => {
                self.write_failed(&error);
                if error.kind() == ErrorKind::Indeterminate {
                    let id = error.place().lsn;
                    assert_ne!(id, Lsn::NONE, "an indeterminate batch has an id");
                    assert!(self.ids.insert(id.0), "an id came twice");
                    Fate::Doubtful(id)
                } else {
                    Fate::Absent
                }
            }
        };
        self.batches.push(Known {
            count,
            len,
            fate,
            durable: false,
            written: !self.buffered,
            checkpoint,
        });
    }

    /// An error of a call that writes: it is one of few kinds, and sticky unless clean.
    fn write_failed(&mut self, error: &Error) {
        let kind = error.kind();
        self.errors.push(kind);
        if self.poisoned {
            assert_eq!(kind, ErrorKind::Poisoned, "poison is sticky: {error}");
            return;
        }
        match kind {
            ErrorKind::Full | ErrorKind::NoMemory => {}
            ErrorKind::Io | ErrorKind::NotFound | ErrorKind::Indeterminate => self.poisoned = true,
            // Batches of which the caller was told could not be written.
            ErrorKind::Poisoned if self.buffered => self.poisoned = true,
            _ => panic!("an unexpected kind of error: {kind:?}: {error}"),
        }
    }

    fn all_durable(&mut self) {
        for known in &mut self.batches {
            known.durable |= matches!(known.fate, Fate::Told(_));
            known.written = true;
        }
    }
}

/// A workload under way.
pub(crate) struct Run {
    pub(crate) disk: SimDisk,
    pub(crate) ledger: Ledger,
    pub(crate) wal: Option<Arc<Wal>>,
    mode: SyncMode,
    groups_in_flight_max: u32,
    buffer_bytes_max: u32,
    mapped_appends: bool,
    /// Groups that were written while another was.
    pub(crate) overtook: u64,
    /// Whether a power cut leaves what it should (no sync lied).
    pub(crate) honest: bool,
    /// Whether a fault may strike at any time.
    pub(crate) lasting: bool,
    /// States to look at after the first failure and at the end.
    pub(crate) crash_states: u64,
    pub(crate) states_seen: u64,
    /// A sample of these states, for the pure-Python reader.
    pub(crate) sampled: Vec<Image>,
    failed: bool,
}

pub(crate) fn options(mode: SyncMode) -> WalOptions {
    WalOptions {
        segment_bytes_max: 64 << 10,
        sync_mode: mode,
        // Larger batches take several frames, each for itself.
        frame_payload_target: 64 << 10,
        ..WalOptions::default()
    }
}

pub(crate) fn open_on(disk: &SimDisk, mode: SyncMode) -> Result<Wal, Error> {
    Wal::open_on(Arc::new(disk.clone()), PATH, &options(mode))
}

impl Run {
    pub(crate) fn new(disk: SimDisk) -> Run {
        Run {
            disk,
            ledger: Ledger::default(),
            wal: None,
            mode: SyncMode::Every,
            groups_in_flight_max: 1,
            buffer_bytes_max: 0,
            mapped_appends: false,
            overtook: 0,
            honest: true,
            lasting: false,
            crash_states: 0,
            states_seen: 0,
            sampled: Vec::new(),
            failed: false,
        }
    }

    pub(crate) fn run(&mut self, ops: &[Op]) {
        for op in ops {
            self.step(*op);
            if !self.failed && !self.ledger.errors.is_empty() {
                self.failed = true;
                self.cut_power();
            }
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Open(mode) => {
                self.mode = mode;
                return self.open();
            }
            Op::InFlight(groups) => {
                self.groups_in_flight_max = groups;
                return;
            }
            Op::Buffer(bytes) => {
                self.buffer_bytes_max = bytes;
                return;
            }
            Op::Mapped => {
                self.mapped_appends = true;
                return;
            }
            Op::Kill => {
                std::mem::forget(self.wal.take());
                self.ledger.poisoned = false;
                self.ledger.lose_buffer();
                return self.disk.restart_process();
            }
            _ if self.wal.is_none() => self.open(),
            _ => {}
        }
        let Some(wal) = self.wal.take() else {
            return;
        };
        let ledger = &mut self.ledger;
        let number = ledger.batches.len();
        match op {
            Op::Solo(len) => {
                let (key, value) = (format!("{number}/0"), value(number, 0, len));
                let record = Record::put(key.as_bytes(), &value);
                ledger.note(1, len, false, wal.append(record, Durability::AsOpened));
                self.appended();
            }
            Op::Durable(len) => {
                let (key, value) = (format!("{number}/0"), value(number, 0, len));
                let record = Record::put(key.as_bytes(), &value);
                let told = wal.append(record, Durability::Durable);
                let good = told.is_ok();
                ledger.note(1, len, false, told);
                if good {
                    ledger.all_durable();
                }
            }
            Op::Later(groups, each) => self.append_later(&wal, groups, each),
            Op::Batch(count, len) => {
                let content: Vec<_> = (0..count)
                    .map(|index| (format!("{number}/{index}"), value(number, index, len)))
                    .collect();
                let records: Vec<_> = content
                    .iter()
                    .map(|(key, value)| Record::put(key.as_bytes(), value))
                    .collect();
                let told = wal.append_batch(&records, Durability::AsOpened);
                ledger.note(count, len, false, told);
                self.appended();
            }
            Op::Checkpoint => {
                let told = wal.checkpoint(format!("checkpoint {number}").as_bytes());
                let good = told.is_ok();
                ledger.note(0, 0, true, told);
                if good {
                    ledger.all_durable();
                }
            }
            Op::Mark | Op::Sync => {
                let told = match op {
                    Op::Mark => wal.mark(),
                    _ => wal.sync(),
                };
                match told {
                    Ok(()) => {
                        assert!(!ledger.poisoned, "a poisoned handle synced");
                        ledger.all_durable();
                    }
                    Err(error) => ledger.write_failed(&error),
                }
            }
            // Nothing that goes wrong there is anybody's error.
            Op::Prepare => wal.prepare().unwrap(),
            Op::Truncate(back) => self.truncate(&wal, back),
            Op::Read => self.read(&wal),
            Op::Close => {
                match wal.close() {
                    Ok(()) => {
                        assert!(!ledger.poisoned, "a poisoned handle closed cleanly");
                        ledger.all_durable();
                    }
                    Err(error) => ledger.errors.push(error.kind()),
                }
                ledger.poisoned = false;
                ledger.lose_buffer();
                return;
            }
            Op::Open(_) | Op::Kill | Op::InFlight(_) | Op::Buffer(_) | Op::Mapped => {}
        }
        self.wal = Some(wal);
    }

    fn append_later(&mut self, wal: &Arc<Wal>, groups: usize, each: usize) {
        const LEN: usize = 60;
        let mut number = self.ledger.batches.len();
        let mut batch = || {
            number += 1;
            let key = format!("{}/0", number - 1);
            let record = (key.into_bytes(), value(number - 1, 0, LEN));
            (number as u64 - 1, vec![record])
        };
        // From the third on, twice as many as before: a group takes off beside others if it is large enough.
        let sizes = (0..groups).map(|nth| each << nth.max(1) >> 1);
        let groups = sizes.map(|size| (0..size).map(|_| batch()).collect());
        let overtaking = Overtaking::new(&self.disk, wal, PATH, groups.collect());
        let mut place = 0;
        while let Some((_, ticket)) = overtaking.next(place) {
            place += 1;
            let told = ticket.and_then(|ticket| {
                let told = wal.wait_for(ticket, None);
                let again = wal.wait_for(ticket, None).unwrap_err();
                assert_eq!(again.kind(), ErrorKind::InvalidArgument, "{again}");
                Ok(told?.unwrap())
            });
            self.ledger.note_later(1, LEN, told);
        }
        assert_eq!(wal.tickets().unwrap(), (0, 0));
        self.overtook += overtaking.overtook();
        self.appended();
    }

    fn appended(&mut self) {
        let told = matches!(
            self.ledger.batches.last().map(|b| b.fate),
            Some(Fate::Told(_))
        );
        if told && self.mode == SyncMode::Every {
            self.ledger.all_durable();
        }
    }

    fn truncate(&mut self, wal: &Wal, back: usize) {
        let ledger = &mut self.ledger;
        let told: Vec<u64> = ledger
            .batches
            .iter()
            .filter_map(|known| match known.fate {
                Fate::Told(receipt) => Some(receipt.seq),
                _ => None,
            })
            .collect();
        let Some(&seq) = told.len().checked_sub(back + 1).and_then(|at| told.get(at)) else {
            return;
        };
        match wal.truncate(seq) {
            Ok(()) => {
                assert!(!ledger.poisoned, "a poisoned handle truncated");
                ledger.truncated = ledger.truncated.max(seq).max(ledger.truncated_maybe);
                // The records counted were synced first.
                ledger.all_durable();
            }
            Err(error) => {
                ledger.errors.push(error.kind());
                if ledger.poisoned {
                    assert_eq!(error.kind(), ErrorKind::Poisoned);
                } else {
                    // The note may be on the disk. Whether the handle is poisoned is for the next
                    // call to say: deleting files afterwards may fail without harm.
                    ledger.truncated_maybe = ledger.truncated_maybe.max(seq);
                    ledger.poisoned = wal.sync().is_err();
                }
            }
        }
        ledger.truncated_maybe = ledger.truncated_maybe.max(ledger.truncated);
    }

    /// Reads all, again if a read fails.
    fn read(&mut self, wal: &Wal) {
        for attempt in 0..2 {
            match replay(wal, &self.ledger.batches) {
                Ok(seen) => {
                    let withdrawn = self.ledger.poisoned;
                    let truncated = self.ledger.truncated_maybe;
                    for (number, known) in self.ledger.batches.iter().enumerate() {
                        match known.fate {
                            Fate::Told(receipt) if !known.checkpoint => {
                                let shown = receipt.seq > truncated
                                    && known.written
                                    && (known.durable || !withdrawn);
                                assert!(
                                    !shown || seen.contains_key(&number),
                                    "batch {number} is not shown"
                                );
                            }
                            Fate::Absent => assert!(!seen.contains_key(&number)),
                            _ => {}
                        }
                    }
                    return;
                }
                Err(error) => {
                    self.ledger.errors.push(error.kind());
                    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                    assert!(
                        self.lasting || attempt == 0,
                        "the second read failed too: {error}"
                    );
                }
            }
        }
    }

    /// Opens the log, again if that fails.
    fn open(&mut self) {
        for _ in 0..2 {
            let lazy = self.mode != SyncMode::Every;
            let options = WalOptions {
                groups_in_flight_max: self.groups_in_flight_max,
                buffer_bytes_max: if lazy { self.buffer_bytes_max } else { 0 },
                mapped_appends: lazy && self.mapped_appends,
                ..options(self.mode)
            };
            self.ledger.buffered = options.buffer_bytes_max > 0;
            match Wal::open_on(Arc::new(self.disk.clone()), PATH, &options) {
                Ok(wal) => {
                    // Each look costs reads that may fail: only whole lives are checked here.
                    self.wal = Some(Arc::new(wal));
                    return;
                }
                Err(error) => {
                    self.ledger.errors.push(error.kind());
                    let fine = matches!(
                        error.kind(),
                        ErrorKind::Io | ErrorKind::Full | ErrorKind::NoMemory | ErrorKind::NotFound
                    );
                    assert!(fine, "open: {:?}: {error}", error.kind());
                }
            }
        }
    }

    /// The disk works again: what is there is what the caller was told, and stays so.
    pub(crate) fn finish(&mut self) {
        self.disk.clear_faults();
        self.disk.set_capacity(u64::MAX);
        if let Some(wal) = self.wal.take() {
            if self.ledger.poisoned {
                let kind = wal.sync().unwrap_err().kind();
                assert_eq!(kind, ErrorKind::Poisoned, "poison is sticky");
            }
            if self.ledger.buffered && (self.ledger.poisoned || wal.sync().is_err()) {
                self.ledger.lose_buffer();
            }
            drop(wal);
        }
        self.ledger.poisoned = false;
        for round in 0..2 {
            let wal = open_on(&self.disk, SyncMode::Every).unwrap();
            self.ledger.check(&wal, true);
            self.ledger.settle(&wal);
            self.ledger.truncated = wal.stat().unwrap().truncated_seq;
            self.ledger.truncated_maybe = self.ledger.truncated;
            self.mode = SyncMode::Every;
            self.ledger.buffered = false;
            self.wal = Some(Arc::new(wal));
            self.step(Op::Solo(100 + round));
            self.step(Op::Batch(3, 50));
            let known = self.ledger.batches.last().unwrap();
            assert!(matches!(known.fate, Fate::Told(_)));
            if let Some(wal) = self.wal.take() {
                self.ledger.check(&wal, true);
                wal.close().unwrap();
            }
        }
        self.cut_power();
    }

    /// Cuts the power now, in some of the ways it may go: what was acknowledged is there.
    fn cut_power(&mut self) {
        if self.crash_states == 0 {
            return;
        }
        let seed = self.disk.operation_count();
        for fill in [Fill::Zero, Fill::Random] {
            let states = CrashStates::new(&self.disk, self.disk.now(), fill);
            for state in states.states(seed, self.crash_states / 2) {
                self.states_seen += 1;
                let image = state.image();
                let disk = SimDisk::from_image(&image, seed);
                match open_on(&disk, SyncMode::Every) {
                    Ok(wal) if self.honest => self.ledger.check(&wal, false),
                    // Not partial, nothing made up; more can't be had from a disk that lies.
                    Ok(wal) => {
                        let _ = replay(&wal, &self.ledger.batches);
                    }
                    Err(error) if self.honest => {
                        panic!("after a power cut: {error}\n{}", state.describe())
                    }
                    Err(error) => assert!(error.is_corrupt(), "{error}"),
                }
                // Far fewer than in `tests/crash_points.rs`.
                if in_sample(image.hash(), 10) {
                    self.sampled.push(image);
                }
            }
        }
    }
}

/// Runs `job` for every case on two threads, and stops the test if one of them takes longer than
/// `patience`: what does, hangs.
pub(crate) fn for_each<C: Send + Sync + 'static + std::fmt::Debug>(
    cases: Vec<C>,
    patience: Duration,
    job: impl Fn(&C) + Send + Sync + 'static,
) {
    let cases = Arc::new(cases);
    let job = Arc::new(job);
    let next = Arc::new(AtomicUsize::new(0));
    let (done, finished) = mpsc::channel();
    let workers = 2;
    for _ in 0..workers {
        let (cases, job) = (Arc::clone(&cases), Arc::clone(&job));
        let (next, done) = (Arc::clone(&next), done.clone());
        std::thread::spawn(move || loop {
            let at = next.fetch_add(1, Ordering::SeqCst);
            let Some(case) = cases.get(at) else {
                let _ = done.send(None);
                return;
            };
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(case)));
            let _ = done.send(Some((at, run.is_ok())));
        });
    }
    let mut ended = 0;
    while ended < workers {
        match finished.recv_timeout(patience) {
            Ok(None) => ended += 1,
            Ok(Some((_, true))) => {}
            Ok(Some((at, false))) => panic!("case {:?} failed", cases[at]),
            Err(_) => {
                let at = next.load(Ordering::SeqCst);
                panic!(
                    "a call hangs near case {:?}",
                    cases.get(at.saturating_sub(workers))
                );
            }
        }
    }
}
