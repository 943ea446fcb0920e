//! A workload on a simulated disk, with everything noted that tells afterwards what was issued and
//! what was acknowledged at each moment.
//!
//! Nothing dies while it runs: the disk keeps its history, and the explorer cuts it at every moment
//! afterwards. Step n is issued with token n. It is acknowledged with token 2n when its call returns (what
//! the death of the process must leave) and with token 2n+1 when it is known to be durable (what a
//! power cut must leave): in the mode `every` and where the call asked for it when it returns, else when a
//! later sync, checkpoint, truncation or close returns, or when the log itself says so
//! (`Stat::durable_lsn`).

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use crate::model::{Batch, Content, Model, Step};
use crate::overtaking::Overtaking;
use duralog::vfs::sim::{Image, Rng, SimDisk};
use duralog::{Durability, Receipt, Record, SyncMode, Wal, WalOptions};
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Where the log lies on the simulated disk: below the root, so that its own name must be made
/// durable too.
pub(crate) const LOG: &str = "/log";

/// Frames of multi-frame batches hold so many bytes in these tests.
pub(crate) const FRAME_PAYLOAD: usize = 200;

/// A value that nearly fills a segment: the next batch rotates.
pub(crate) const FILL_LEN: usize = 62_000;

/// A value that fills half a segment: more is to be prepared.
pub(crate) const HALF_LEN: usize = 31_000;

/// A value that is written in several pieces.
pub(crate) const GIANT_LEN: usize = 600_000;

/// What a workload does. Spelled as one letter in histories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// `a`: appends one small record.
    Append,
    /// `d`: the same, durable before return whatever the mode.
    AppendDurable,
    /// `b`: a batch of three records in one frame.
    Batch,
    /// `l`: a batch of three frames.
    Large,
    /// `w`: one record over several sectors.
    Wide,
    /// `f`: one record that fills the segment.
    Fill,
    /// `h`: one record that fills half of it.
    Half,
    /// `g`: one record that is larger than the segment.
    Giant,
    /// `p`: what the background does where there is one: prepares what was asked for.
    Prepare,
    /// `c`: a checkpoint.
    Checkpoint,
    /// `t`: truncates all but the newest batch.
    Truncate,
    /// `u`: truncates everything.
    TruncateAll,
    /// `s`: sync.
    Sync,
    /// `m`: the idle MARK.
    Mark,
    /// `r`: close and open again.
    Reopen,
    /// `k`: the process is killed, and another one opens the log on the same running machine: what
    /// was written is there, durable or not.
    Kill,
    /// `P`: two batches appended without waiting, which are one group.
    Pair,
    /// `o`: three groups of two batches, each written while the one before is being written, so
    /// that the last one returns first.
    Overtake,
    /// `O`: the same with larger groups, of several blocks.
    OvertakeWide,
}

impl Op {
    const LETTERS: [(char, Op); 19] = [
        ('a', Op::Append),
        ('d', Op::AppendDurable),
        ('b', Op::Batch),
        ('l', Op::Large),
        ('w', Op::Wide),
        ('f', Op::Fill),
        ('h', Op::Half),
        ('g', Op::Giant),
        ('p', Op::Prepare),
        ('c', Op::Checkpoint),
        ('t', Op::Truncate),
        ('u', Op::TruncateAll),
        ('s', Op::Sync),
        ('m', Op::Mark),
        ('r', Op::Reopen),
        ('k', Op::Kill),
        ('P', Op::Pair),
        ('o', Op::Overtake),
        ('O', Op::OvertakeWide),
    ];

    pub(crate) fn letter(self) -> char {
        let found = Self::LETTERS.iter().find(|(_, op)| *op == self);
        found.map_or('?', |(letter, _)| *letter)
    }

    /// The workload that a string of letters spells.
    pub(crate) fn parse(text: &str) -> Vec<Op> {
        text.chars()
            .map(
                |letter| match Self::LETTERS.iter().find(|(known, _)| *known == letter) {
                    Some((_, op)) => *op,
                    None => panic!("no operation is spelled {letter:?}"),
                },
            )
            .collect()
    }
}

/// The options of these tests: small frames and segments.
pub(crate) fn options(sync_mode: SyncMode) -> WalOptions {
    WalOptions {
        sync_mode,
        segment_bytes_max: 64 << 10,
        frame_payload_target: FRAME_PAYLOAD,
        ..WalOptions::default()
    }
}

fn open(disk: &SimDisk, options: &WalOptions) -> Arc<Wal> {
    Arc::new(Wal::open_on(Arc::new(disk.clone()), LOG, options).unwrap())
}

/// A workload that runs, or has run.
pub(crate) struct Run {
    pub(crate) disk: SimDisk,
    pub(crate) model: Model,
    /// How it came about, for failure messages.
    pub(crate) history: String,
    pub(crate) options: WalOptions,
    /// The log, open. Dropping it would close it, which is more history.
    wal: Option<Arc<Wal>>,
    /// Steps up to here (exclusive) are known to be durable.
    durable: usize,
    /// Groups that were written while another was.
    pub(crate) overtook: u64,
}

impl Run {
    /// Makes a new log.
    pub(crate) fn new(seed: u64, sector_len: u64, sync_mode: SyncMode) -> Run {
        Run::with(seed, sector_len, options(sync_mode))
    }

    /// The same with options of its own.
    pub(crate) fn with(seed: u64, sector_len: u64, options: WalOptions) -> Run {
        let disk = SimDisk::new(seed);
        disk.set_sector_len(sector_len);
        let (mode, flights) = (options.sync_mode, options.groups_in_flight_max);
        let history = match flights {
            1 if options.mapped_appends => {
                format!("{mode:?}, mapped, sectors of {sector_len}: new log; ")
            }
            1 => format!("{mode:?}, sectors of {sector_len}: new log; "),
            _ => format!("{flights} in flight, sectors of {sector_len}: new log; "),
        };
        Run::open(disk, Model::default(), options, history)
    }

    /// Boots from what a crash left, and opens the log that is described by `model`.
    pub(crate) fn resume(
        image: &Image,
        model: Model,
        options: &WalOptions,
        sector_len: u64,
        seed: u64,
        history: String,
    ) -> Run {
        let disk = SimDisk::from_image(image, seed);
        disk.set_sector_len(sector_len);
        Run::open(disk, model, options.clone(), history)
    }

    fn open(disk: SimDisk, model: Model, options: WalOptions, history: String) -> Run {
        let mut run = Run {
            disk,
            model,
            history,
            options,
            wal: None,
            durable: 0,
            overtook: 0,
        };
        run.step(Step::Nothing, |run| {
            run.wal = Some(open(&run.disk, &run.options));
        });
        run.all_durable();
        run
    }

    /// Like [`resume`](Self::resume) on a machine that dies in the operation after `operations` of
    /// them; `None` if opening needs no more.
    pub(crate) fn die_in_recovery(
        image: &Image,
        model: &Model,
        options: &WalOptions,
        operations: u64,
        history: &str,
    ) -> Option<Run> {
        let disk = SimDisk::from_image(image, 5);
        disk.die_after(operations);
        let mut run = Run {
            disk,
            model: model.clone(),
            history: format!("{history}(dies after {operations} operations)"),
            options: options.clone(),
            wal: None,
            durable: 0,
            overtook: 0,
        };
        run.model.steps.push(Step::Nothing);
        run.disk.issue(0);
        let opened = Wal::open_on(Arc::new(run.disk.clone()), LOG, &run.options);
        opened.is_err().then_some(run)
    }

    fn wal(&self) -> &Wal {
        self.wal.as_ref().unwrap()
    }

    fn step<T>(&mut self, step: Step, work: impl FnOnce(&mut Run) -> T) -> T {
        let number = self.model.steps.len() as u64;
        self.model.steps.push(step);
        self.disk.issue(number);
        let done = work(self);
        self.disk.acknowledge(2 * number);
        done
    }

    /// Everything up to now is durable.
    fn all_durable(&mut self) {
        self.durable_up_to(self.model.steps.len());
    }

    fn durable_up_to(&mut self, steps: usize) {
        for number in self.durable..steps {
            self.disk.acknowledge(2 * number as u64 + 1);
        }
        self.durable = self.durable.max(steps);
    }

    /// Takes the log at its word.
    fn believe(&mut self) {
        let mark = self.wal().stat().unwrap().durable_lsn;
        let mut known = self.durable;
        while let Some(step) = self.model.steps.get(known) {
            match *step {
                Step::Batch(index) => {
                    let next = self.model.batches.get(index + 1);
                    let end = next.map_or(self.wal().stat().unwrap().written_lsn, |next| next.id);
                    if end > mark {
                        break;
                    }
                }
                Step::Nothing => {}
                Step::Truncate(_) => break,
            }
            known += 1;
        }
        self.durable_up_to(known);
    }

    /// Bytes that no other record has: they follow from all that happened before.
    fn value(&self, part: usize, len: usize) -> Vec<u8> {
        let mut hasher = DefaultHasher::new();
        (&self.history, part).hash(&mut hasher);
        let mut value = vec![0; len];
        Rng::new(hasher.finish()).fill(&mut value);
        value
    }

    fn commit(
        &mut self,
        records: Vec<Content>,
        checkpoint: Option<Vec<u8>>,
        work: impl FnOnce(&Wal, &[Record<'_>]) -> Receipt,
    ) {
        let index = self.model.batches.len();
        self.step(Step::Batch(index), |run| {
            let borrowed: Vec<Record<'_>> = records
                .iter()
                .map(|(op, key, value)| Record {
                    op: *op,
                    key,
                    value,
                })
                .collect();
            let receipt = work(run.wal(), &borrowed);
            let next_seq = run.model.next_seq(index);
            assert_eq!(receipt.first_seq, next_seq, "{}", run.history);
            run.model.is_new(receipt.batch_id, index).unwrap();
            run.model.batches.push(Batch {
                id: receipt.batch_id,
                first_seq: receipt.first_seq,
                seq: receipt.seq,
                records,
                checkpoint,
            });
        });
    }

    /// Does one operation.
    pub(crate) fn apply(&mut self, op: Op) {
        self.history.push(op.letter());
        let mut durable = self.options.sync_mode == SyncMode::Every;
        let single = |run: &mut Run, len: usize, durability: Durability| {
            let record = (1, b"key".to_vec(), run.value(0, len));
            run.commit(vec![record], None, |wal, records| {
                wal.append(records[0], durability).unwrap()
            });
        };
        match op {
            Op::Append => single(self, 20, Durability::AsOpened),
            Op::AppendDurable => {
                single(self, 20, Durability::Durable);
                durable = true;
            }
            Op::Wide => single(self, 1500, Durability::AsOpened),
            Op::Fill => single(self, FILL_LEN, Durability::AsOpened),
            Op::Half => single(self, HALF_LEN, Durability::AsOpened),
            Op::Giant => single(self, GIANT_LEN, Durability::AsOpened),
            Op::Prepare => {
                self.step(Step::Nothing, |run| run.wal().prepare().unwrap());
                // It promises nothing.
                durable = false;
            }
            Op::Batch => {
                let records = vec![
                    (1, b"a".to_vec(), self.value(0, 30)),
                    (2, b"b".to_vec(), Vec::new()),
                    (200, Vec::new(), self.value(2, 5)),
                ];
                self.commit(records, None, |wal, records| {
                    wal.append_batch(records, Durability::AsOpened).unwrap()
                });
            }
            Op::Large => {
                let records = (0..3)
                    .map(|part| (1, vec![b'k', part], self.value(usize::from(part), 150)))
                    .collect();
                self.commit(records, None, |wal, records| {
                    wal.append_batch(records, Durability::AsOpened).unwrap()
                });
            }
            Op::Checkpoint => {
                let data = self.value(0, 40);
                self.commit(Vec::new(), Some(data.clone()), |wal, _| {
                    wal.checkpoint(&data).unwrap()
                });
                durable = true;
            }
            Op::Truncate | Op::TruncateAll => {
                let count = self.model.batches.len();
                let kept = usize::from(op == Op::Truncate);
                let up_to = self.model.next_seq(count.saturating_sub(kept)) - 1;
                // Truncating nothing promises nothing.
                let cuts = up_to > self.truncated();
                let step = if cuts {
                    Step::Truncate(up_to)
                } else {
                    Step::Nothing
                };
                self.step(step, |run| run.wal().truncate(up_to).unwrap());
                durable |= cuts;
            }
            Op::Sync => {
                self.step(Step::Nothing, |run| run.wal().sync().unwrap());
                durable = true;
            }
            Op::Mark => {
                self.step(Step::Nothing, |run| run.wal().mark().unwrap());
                durable = true;
            }
            Op::Reopen => {
                self.step(Step::Nothing, |run| run.wal().close().unwrap());
                self.all_durable();
                self.wal = None;
                self.step(Step::Nothing, |run| {
                    run.wal = Some(open(&run.disk, &run.options));
                    assert!(!run.wal().recovery_report().repaired, "{}", run.history);
                });
                durable = true;
            }
            Op::Pair => self.append_later(&[2], 20),
            Op::Overtake => self.append_later(&[2, 2, 3], 20),
            // Each is large enough to be written beside those before it.
            Op::OvertakeWide => self.append_later(&[2, 3, 25, 40], 150),
            Op::Kill => {
                // The dead close nothing.
                std::mem::forget(self.wal.take());
                self.disk.restart_process();
                self.step(Step::Nothing, |run| {
                    run.wal = Some(open(&run.disk, &run.options));
                    let found = run.wal().recovery_report().next_seq;
                    let written = run.model.next_seq(run.model.batches.len());
                    assert_eq!(found, written, "{}", run.history);
                });
                // What recovery shows, it has made durable.
                durable = true;
            }
        }
        if durable {
            self.all_durable();
        } else {
            self.believe();
        }
    }

    fn truncated(&self) -> u64 {
        let steps = self.model.steps.iter().rev();
        let mut truncations = steps.filter_map(|step| match step {
            Step::Truncate(seq) => Some(*seq),
            _ => None,
        });
        truncations.next().unwrap_or(self.model.truncated)
    }

    /// Appends groups of so many batches without waiting, each while the one before is being
    /// written.
    fn append_later(&mut self, groups: &[usize], len: usize) {
        let mut number = self.model.steps.len() as u64;
        let mut values = Vec::new();
        let mut batch = || {
            let value = self.value(values.len(), len);
            values.push(value.clone());
            number += 1;
            (number - 1, vec![(b"t".to_vec(), value)])
        };
        let groups: Vec<Vec<_>> = groups
            .iter()
            .map(|&count| (0..count).map(|_| batch()).collect())
            .collect();
        let wal = Arc::clone(self.wal.as_ref().unwrap());
        let overtaking = Overtaking::new(&self.disk, &wal, LOG, groups);
        for (place, value) in values.into_iter().enumerate() {
            let (step, ticket) = overtaking.next(place).unwrap();
            let receipt = wal.wait_for(ticket.unwrap(), None).unwrap().unwrap();
            self.disk.acknowledge(2 * step);
            if self.options.sync_mode == SyncMode::Every {
                self.disk.acknowledge(2 * step + 1);
            }
            let index = self.model.batches.len();
            assert_eq!(self.model.steps.len() as u64, step);
            self.model.steps.push(Step::Batch(index));
            self.model.is_new(receipt.batch_id, index).unwrap();
            self.model.batches.push(single(&receipt, value));
        }
        assert!(overtaking.next(usize::MAX).is_none());
        self.overtook += overtaking.overtook();
    }

    /// Appends from several threads at once while syncs take their time, `each` times in each
    /// thread, in the mode `every`.
    pub(crate) fn append_in_threads(&mut self, threads: usize, each: usize) {
        let _ = write!(self.history, "[{threads} threads append {each} times]");
        let before = self.model.steps.len();
        let issued = Mutex::new(before as u64);
        let done = Mutex::new(Vec::new());
        self.disk.set_sync_delay(Duration::from_micros(200));
        thread::scope(|scope| {
            for thread in 0..threads {
                let (run, issued, done) = (&*self, &issued, &done);
                scope.spawn(move || {
                    for part in 0..each {
                        let value = run.value(thread * each + part, 100);
                        let number = {
                            let mut next = issued.lock().unwrap();
                            run.disk.issue(*next);
                            *next += 1;
                            *next - 1
                        };
                        let record = Record::put(b"t", &value);
                        let receipt = run.wal().append(record, Durability::AsOpened).unwrap();
                        run.disk.acknowledge(2 * number);
                        run.disk.acknowledge(2 * number + 1);
                        done.lock().unwrap().push((number, receipt, value));
                    }
                });
            }
        });
        self.disk.set_sync_delay(Duration::ZERO);
        let mut done = done.into_inner().unwrap();
        done.sort_by_key(|(_, receipt, _)| receipt.batch_id);
        self.model
            .steps
            .resize(before + threads * each, Step::Nothing);
        for (number, receipt, value) in done {
            let step = usize::try_from(number).unwrap();
            self.model.steps[step] = Step::Batch(self.model.batches.len());
            self.model.batches.push(single(&receipt, value));
        }
        self.durable = self.model.steps.len();
    }

    /// Does them all.
    pub(crate) fn apply_all(&mut self, ops: &[Op]) {
        for &op in ops {
            self.apply(op);
        }
    }

    /// Says that a crash came next, and how.
    pub(crate) fn crashed(&self, how: &str) -> String {
        let mut history = self.history.clone();
        let _ = write!(history, "; {how}; opened again; ");
        history
    }
}

/// A batch of one record under the key that all threads use.
fn single(receipt: &Receipt, value: Vec<u8>) -> Batch {
    Batch {
        id: receipt.batch_id,
        first_seq: receipt.first_seq,
        seq: receipt.seq,
        records: vec![(1, b"t".to_vec(), value)],
        checkpoint: None,
    }
}
