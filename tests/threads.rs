//! Many threads share one handle, and nothing of what they were promised is lost, doubled, torn or
//! out of order: while 16 of them append, while others read, rotate, checkpoint, truncate, sync and
//! ask for statistics at the same time, and while one closes the log under the hands of the rest.
//!
//! A record names its thread, its batch and its place in it, so that order and completeness can be
//! read off the log itself. Every test ends within a minute, or it fails: a hang is a failure.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;
#[path = "common/differential.rs"]
mod differential;
#[path = "common/process.rs"]
mod process;

use duralog::{Cursor, Durability, ErrorKind, Receipt, Record, SyncMode, Wal, WalOptions};
use process::{read_only, say, Random, PATIENCE};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const THREADS: u64 = 16;

/// Runs `work` in a thread of its own and fails if it takes too long.
fn without_hanging(work: impl FnOnce() + Send + 'static) {
    let (sender, done) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        work();
        let _ = sender.send(());
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = done.recv_timeout(PATIENCE) {
        panic!("it hangs");
    }
    if let Err(cause) = worker.join() {
        std::panic::resume_unwind(cause);
    }
}

/// Lets the threads beside stop, also when an assertion fails.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A batch as its thread appended it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Appended {
    thread: u64,
    /// Number among the batches of the thread, from 0.
    batch: u64,
    count: u64,
    solo: bool,
    receipt: Receipt,
}

/// How many records a batch has, and how long their values are.
fn shape(thread: u64, batch: u64) -> (u64, usize) {
    let drawn = process::mix(thread << 32 | batch);
    let len = match drawn % 16 {
        0 => 3000,
        1..6 => 200,
        _ => 10,
    };
    (1 + (drawn >> 32) % 5, len)
}

fn append(wal: &Wal, thread: u64, batch: u64) -> duralog::Result<Appended> {
    let (count, len) = shape(thread, batch);
    let keys: Vec<String> = (0..count)
        .map(|index| format!("{thread}/{batch}/{index}/{count}"))
        .collect();
    let value = vec![u8::try_from(thread).unwrap(); len];
    let records: Vec<Record<'_>> = keys
        .iter()
        .map(|key| Record::put(key.as_bytes(), &value))
        .collect();
    let solo = count == 1 && batch % 2 == 0;
    let receipt = if solo {
        wal.append(records[0], Durability::AsOpened)?
    } else {
        wal.append_batch(&records, Durability::AsOpened)?
    };
    Ok(Appended {
        thread,
        batch,
        count,
        solo,
        receipt,
    })
}

/// Reads a log and holds every record against what may follow the ones before it.
struct Observer {
    /// Next batch of each thread.
    next: BTreeMap<u64, u64>,
    /// The batch being read: id, thread, batch, records seen, records to come.
    open: Option<(u64, u64, u64, u64, u64)>,
    last_seq: u64,
    records: u64,
    /// First record, last record of each batch.
    batches: Vec<(u64, u64, u64, u64)>,
    /// Batches may be missing at the beginning (they were truncated).
    from_the_start: bool,
}

impl Observer {
    fn new(from_the_start: bool) -> Observer {
        Observer {
            next: BTreeMap::new(),
            open: None,
            last_seq: 0,
            records: 0,
            batches: Vec::new(),
            from_the_start,
        }
    }

    /// Takes what the cursor has now. The end must not come within a batch.
    fn read(&mut self, cursor: &mut Cursor) -> duralog::Result<u64> {
        let before = self.records;
        while let Some(entry) = cursor.next()? {
            self.take(entry.seq, entry.batch_id.0, entry.key, entry.value);
        }
        assert_eq!(self.open, None, "the end came within a batch");
        Ok(self.records - before)
    }

    /// The same in pages.
    fn read_pages(&mut self, cursor: &mut Cursor, count_max: usize) -> duralog::Result<()> {
        while let Some(page) = cursor.next_page(count_max)? {
            for index in 0..page.seq.len() {
                let at = |column: &[u32]| usize::try_from(column[index]).unwrap();
                let value_begin = at(page.value_begin);
                self.take(
                    page.seq[index],
                    page.batch_id[index],
                    &page.bytes[at(page.key_begin)..value_begin],
                    &page.bytes[value_begin..at(page.value_end)],
                );
            }
        }
        assert_eq!(self.open, None, "the end came within a batch");
        Ok(())
    }

    fn take(&mut self, seq: u64, batch_id: u64, key: &[u8], value: &[u8]) {
        let key = std::str::from_utf8(key).unwrap();
        let numbers: Vec<u64> = key.split('/').map(|word| word.parse().unwrap()).collect();
        let [thread, batch, index, count] = numbers[..] else {
            panic!("{key}")
        };
        assert_eq!(shape(thread, batch), (count, value.len()), "{key}");
        let byte = u8::try_from(thread).unwrap();
        assert!(value.iter().all(|&found| found == byte), "{key}");
        assert!(seq > self.last_seq, "{key}: {seq} after {}", self.last_seq);
        match self.open.take() {
            None => {
                assert_eq!(index, 0, "{key} begins a batch");
                let known = self.next.get(&thread).copied();
                let expected = known.unwrap_or(if self.from_the_start { 0 } else { batch });
                assert_eq!(batch, expected, "{key}: the order of its thread");
            }
            Some(open) => {
                let expected = (batch_id, thread, batch, index, count - index);
                assert_eq!(open, expected, "{key} within another batch");
                assert_eq!(seq, self.last_seq + 1, "{key}");
            }
        }
        if index + 1 < count {
            self.open = Some((batch_id, thread, batch, index + 1, count - index - 1));
        } else {
            self.next.insert(thread, batch + 1);
            self.batches.push((thread, batch, seq - index, seq));
        }
        self.last_seq = seq;
        self.records += 1;
    }

    /// Everything that was acknowledged was seen, at the numbers that the appends returned.
    fn has_seen(&self, appended: &[Appended]) {
        let seen: BTreeMap<(u64, u64), (u64, u64)> = self
            .batches
            .iter()
            .map(|&(thread, batch, first, last)| ((thread, batch), (first, last)))
            .collect();
        assert_eq!(seen.len(), self.batches.len());
        for batch in appended {
            let receipt = batch.receipt;
            let last = receipt.seq - u64::from(!batch.solo);
            let expected = (receipt.first_seq, last);
            assert_eq!(last - receipt.first_seq + 1, batch.count, "{batch:?}");
            let found = seen.get(&(batch.thread, batch.batch));
            assert_eq!(found, Some(&expected), "{batch:?}");
        }
    }
}

/// 16 threads append `count` batches each, and more until there were `enough`; returns what was
/// acknowledged.
fn append_from_many(
    wal: &Wal,
    count: u64,
    acknowledged: &AtomicU64,
    enough: &(impl Fn() -> bool + Sync),
) -> Vec<Appended> {
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut appended = Vec::new();
                    for batch in 0.. {
                        if batch >= count && enough() {
                            break;
                        }
                        appended.push(append(wal, thread, batch).unwrap());
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                    appended
                })
            })
            .collect();
        for thread in threads {
            all.extend(thread.join().unwrap());
        }
    });
    all
}

fn read_again(path: &Path, appended: &[Appended]) {
    let wal = Wal::open(path, &read_only()).unwrap();
    let mut observer = Observer::new(true);
    observer.read(&mut wal.cursor(0).unwrap()).unwrap();
    observer.has_seen(appended);
    assert_eq!(observer.batches.len(), appended.len(), "nothing else");
}

#[test]
fn what_16_threads_append_is_there_once_and_in_order_with_fewer_syncs_than_batches() {
    without_hanging(|| {
        const BATCHES: u64 = 100;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let wal = Wal::open(&path, &WalOptions::default()).unwrap();
        let acknowledged = AtomicU64::new(0);
        let done = AtomicBool::new(false);
        let begin = Instant::now();
        let appended = std::thread::scope(|scope| {
            let wal = &wal;
            let _at_the_end = Finish(&done);
            // Two readers of this handle, by record and by page, and one of another.
            scope.spawn(|| {
                let mut observer = Observer::new(true);
                let mut cursor = wal.cursor(0).unwrap();
                while !done.load(Ordering::SeqCst) {
                    let promised = acknowledged.load(Ordering::SeqCst);
                    observer.read(&mut cursor).unwrap();
                    let seen = observer.batches.len() as u64;
                    assert!(
                        seen >= promised,
                        "{seen} seen, {promised} acknowledged before"
                    );
                }
            });
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let mut observer = Observer::new(true);
                    let promised = acknowledged.load(Ordering::SeqCst);
                    let mut cursor = wal.cursor(0).unwrap();
                    observer.read_pages(&mut cursor, 7).unwrap();
                    assert!(observer.batches.len() as u64 >= promised);
                }
            });
            scope.spawn(|| {
                let reader = Wal::open(&path, &read_only()).unwrap();
                let mut cursor = reader.cursor(0).unwrap();
                let mut observer = Observer::new(true);
                while !done.load(Ordering::SeqCst) {
                    let promised = acknowledged.load(Ordering::SeqCst);
                    observer.read(&mut cursor).unwrap();
                    assert!(observer.batches.len() as u64 >= promised);
                }
            });
            let appended = append_from_many(wal, BATCHES, &acknowledged, &|| true);
            done.store(true, Ordering::SeqCst);
            appended
        });
        let elapsed = begin.elapsed();
        let stat = wal.stat().unwrap();
        let records: u64 = appended.iter().map(|batch| batch.count).sum();
        assert_eq!(stat.batch_count, THREADS * BATCHES);
        assert_eq!(stat.record_count, records);
        assert_eq!(stat.durable_lsn, stat.written_lsn, "durable before return");
        assert!(stat.sync_count > 0);
        assert!(
            stat.sync_count < stat.batch_count,
            "{} syncs for {} batches",
            stat.sync_count,
            stat.batch_count
        );
        say(&format!(
            "threads: {THREADS} threads, {} batches of {records} records in {} groups with {} syncs, \
             {:.2} s",
            stat.batch_count,
            stat.group_count,
            stat.sync_count,
            elapsed.as_secs_f64()
        ));
        let mut observer = Observer::new(true);
        observer.read(&mut wal.cursor(0).unwrap()).unwrap();
        observer.has_seen(&appended);
        assert_eq!(observer.batches.len(), appended.len());
        wal.close().unwrap();
        read_again(&path, &appended);
    });
}

#[test]
fn one_thread_alone_syncs_once_for_each_batch() {
    let directory = tempfile::tempdir().unwrap();
    let wal = Wal::open(directory.path().join("log"), &WalOptions::default()).unwrap();
    for batch in 0..20 {
        append(&wal, 0, batch).unwrap();
    }
    // So fewer syncs than batches, above, come from sharing and not from leaving out.
    assert_eq!(wal.stat().unwrap().sync_count, 20);
}

#[test]
fn appends_go_on_beside_rotation_checkpoint_truncation_sync_and_statistics() {
    for mode in [SyncMode::Every, SyncMode::Manual] {
        without_hanging(move || everything_at_once(mode, 1, 0));
    }
}

#[test]
fn groups_are_in_flight_beside_rotation_checkpoint_truncation_sync_and_statistics() {
    without_hanging(|| everything_at_once(SyncMode::Every, 4, 0));
}

#[test]
fn batches_wait_in_the_process_beside_rotation_checkpoint_truncation_sync_and_statistics() {
    without_hanging(|| everything_at_once(SyncMode::Manual, 1, 16 << 10));
}

fn everything_at_once(sync_mode: SyncMode, groups_in_flight_max: u32, buffer_bytes_max: u32) {
    const BATCHES: u64 = 150;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let options = WalOptions {
        sync_mode,
        groups_in_flight_max,
        buffer_bytes_max,
        segment_bytes_max: 64 << 10,
        ..WalOptions::default()
    };
    let wal = Wal::open(&path, &options).unwrap();
    let acknowledged = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    // What the slowest of the readers that must miss nothing has read.
    let tailed = [AtomicU64::new(0), AtomicU64::new(0)];
    let (checkpoints, truncations) = (AtomicU64::new(0), AtomicU64::new(0));
    let retired = AtomicU64::new(0);
    let restarts = AtomicU64::new(0);
    let busy = || !done.load(Ordering::SeqCst);
    let (appended, observers) = std::thread::scope(|scope| {
        let (wal, done) = (&wal, &done);
        let _at_the_end = Finish(done);
        let tailers: Vec<_> = [true, false]
            .into_iter()
            .zip(&tailed)
            .map(|(same_handle, tailed)| {
                let path = &path;
                scope.spawn(move || {
                    let reader = Wal::open(path, &read_only()).unwrap();
                    let wal = if same_handle { wal } else { &reader };
                    let mut cursor = wal.cursor(0).unwrap();
                    let mut observer = Observer::new(true);
                    loop {
                        let last_round = done.load(Ordering::SeqCst);
                        observer.read(&mut cursor).unwrap();
                        tailed.store(observer.last_seq, Ordering::SeqCst);
                        if last_round {
                            return observer;
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while busy() {
                let up_to = tailed.iter().map(|seq| seq.load(Ordering::SeqCst)).min();
                wal.truncate(up_to.unwrap()).unwrap();
                truncations.fetch_add(1, Ordering::SeqCst);
                let stat = wal.stat().unwrap();
                assert!(stat.truncated_seq >= up_to.unwrap());
                retired.store(stat.first_segment - 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        scope.spawn(|| {
            let mut seq = 0;
            while busy() {
                let data = checkpoints.load(Ordering::SeqCst).to_string();
                let receipt = wal.checkpoint(data.as_bytes()).unwrap();
                assert!(receipt.seq > seq);
                seq = receipt.seq;
                checkpoints.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        scope.spawn(|| {
            let mut before = wal.stat().unwrap();
            while busy() {
                let stat = wal.stat().unwrap();
                assert!(stat.last_seq >= before.last_seq);
                assert!(stat.written_lsn >= before.written_lsn);
                assert!(stat.durable_lsn >= before.durable_lsn);
                assert!(stat.durable_lsn <= stat.written_lsn);
                assert!(stat.sync_count >= before.sync_count);
                assert!(stat.truncated_seq >= before.truncated_seq);
                before = stat;
            }
        });
        scope.spawn(|| {
            while busy() {
                wal.sync().unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        // A reader that begins anew all the time: what it sees is whole, or it is told that it was
        // truncated.
        scope.spawn(|| {
            while busy() {
                let mut cursor = wal.cursor(0).unwrap();
                let mut observer = Observer::new(false);
                match observer.read_pages(&mut cursor, 50) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::Truncated => {
                        restarts.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let appended = append_from_many(wal, BATCHES, &acknowledged, &|| {
            retired.load(Ordering::SeqCst) >= 3 && checkpoints.load(Ordering::SeqCst) >= 3
        });
        // What waits in the process is seen when it is written.
        wal.sync().unwrap();
        done.store(true, Ordering::SeqCst);
        let observers: Vec<_> = tailers.into_iter().map(|t| t.join().unwrap()).collect();
        (appended, observers)
    });
    for observer in observers {
        observer.has_seen(&appended);
        assert_eq!(observer.batches.len(), appended.len());
    }
    let stat = wal.stat().unwrap();
    let checkpoints = checkpoints.load(Ordering::SeqCst);
    assert_eq!(stat.batch_count, appended.len() as u64 + checkpoints);
    assert!(stat.rotation_count >= 3);
    say(&format!(
        "threads: {sync_mode:?}, {groups_in_flight_max} in flight, buffer of {buffer_bytes_max}: {} \
         batches with {} syncs, beside {} rotations, {checkpoints} \
         checkpoints, {} truncations with {} segments retired, readers told {} times that they were \
         truncated",
        stat.batch_count,
        stat.sync_count,
        stat.rotation_count,
        truncations.load(Ordering::SeqCst),
        retired.load(Ordering::SeqCst),
        restarts.load(Ordering::SeqCst)
    ));
    wal.close().unwrap();
    let report = Wal::verify(&path).unwrap();
    differential::compare_with_python(std::slice::from_ref(&path));
    assert_eq!(report.row, "Z", "{report:?}");
    let next_seq = report.next_seq;
    let wal = Wal::open(&path, &options).unwrap();
    let receipt = wal.append(Record::put(b"k", b"v"), Durability::AsOpened);
    assert_eq!(receipt.unwrap().seq, next_seq);
}

#[test]
fn closing_under_the_hands_of_others_gives_closed_and_loses_nothing() {
    without_hanging(|| {
        let mut random = Random::new(process::seed());
        let mut acknowledged = 0;
        for _ in 0..20 {
            acknowledged += close_while_16_append(&mut random);
        }
        assert!(acknowledged > 0);
        say(&format!(
            "threads: closed 20 times while {THREADS} threads appended, {acknowledged} batches \
             acknowledged and found"
        ));
    });
}

fn close_while_16_append(random: &mut Random) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let sync_mode = match random.below(3) {
        0 => SyncMode::Every,
        1 => SyncMode::Manual,
        _ => SyncMode::Interval {
            batches: 10,
            millis: 2,
        },
    };
    let lazy = sync_mode != SyncMode::Every;
    let options = WalOptions {
        sync_mode,
        segment_bytes_max: 64 << 10,
        groups_in_flight_max: 1 + u32::try_from(random.below(2) * 3).unwrap(),
        buffer_bytes_max: if lazy && random.below(2) == 0 {
            8 << 10
        } else {
            0
        },
        ..WalOptions::default()
    };
    let wal = Wal::open(&path, &options).unwrap();
    let started = AtomicU64::new(0);
    let appended: Vec<Appended> = std::thread::scope(|scope| {
        let (wal, started) = (&wal, &started);
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut appended = Vec::new();
                    for batch in 0.. {
                        match append(wal, thread, batch) {
                            Ok(batch) => appended.push(batch),
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                                break;
                            }
                        }
                        started.fetch_add(1, Ordering::SeqCst);
                    }
                    appended
                })
            })
            .collect();
        let others: Vec<_> = (0..3)
            .map(|which| {
                scope.spawn(move || loop {
                    let result = match which {
                        0 => wal.sync(),
                        1 => wal.checkpoint(b"mark").map(|_| ()),
                        _ => wal.stat().map(|_| ()),
                    };
                    if let Err(error) = result {
                        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                        return;
                    }
                    std::thread::sleep(Duration::from_micros(200));
                })
            })
            .collect();
        while started.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        wal.close().unwrap();
        // Whoever comes now is told so at once, and closing again is nothing.
        let late = append(wal, 0, 0).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Closed);
        assert_eq!(wal.sync().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(wal.cursor(0).unwrap_err().kind(), ErrorKind::Closed);
        wal.close().unwrap();
        for other in others {
            other.join().unwrap();
        }
        let appended = threads.into_iter().flat_map(|t| t.join().unwrap());
        appended.collect()
    });
    // The lock is free although the handle lives, and the end is clean: nothing was written after
    // the close.
    let again = Wal::open(&path, &options).unwrap();
    assert!(
        !again.recovery_report().repaired,
        "{:?}",
        again.recovery_report()
    );
    let mut observer = Observer::new(true);
    observer.read(&mut again.cursor(0).unwrap()).unwrap();
    observer.has_seen(&appended);
    assert_eq!(observer.batches.len(), appended.len(), "nothing else");
    appended.len()
}
