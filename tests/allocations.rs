//! Memory: who asks for it and when, and what happens where there is none.
//!
//! The allocator of this test counts, per thread, and refuses when told: what is larger than a
//! limit, or the n-th of all.
//!
//! * In steady state, appending, committing and reading small batches allocate nothing.
//! * Buffers sized by the caller or by a file give `NoMemory`, and the handle goes on.
//! * The n-th allocation fails, for each n, once or from then on, in a child process: it ends with
//!   an error or an abort, what it acknowledged is there, and nothing else than what it issued.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]
#![allow(unsafe_code)] // a global allocator, which forwards to the system's

use duralog::{BatchSource, Durability, ErrorKind, OpenHow, Record, SyncMode, Wal, WalOptions};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;

// ---- the allocator -------------------------------------------------------------------------------

struct Counting;

thread_local! {
    /// Allocations of this thread.
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// This thread gets no more than this at once.
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Allocations of all threads until one is refused; negative: none is.
static UNTIL_REFUSED: AtomicI64 = AtomicI64::new(-1);
/// So many in a row are refused then.
static REFUSED_MAX: AtomicI64 = AtomicI64::new(1);
/// Allocations of all threads.
static TOTAL: AtomicU64 = AtomicU64::new(0);

fn refused(size: usize) -> bool {
    TOTAL.fetch_add(1, Ordering::Relaxed);
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    if LIMIT.try_with(Cell::get).is_ok_and(|limit| size > limit) {
        return true;
    }
    if UNTIL_REFUSED.load(Ordering::Relaxed) < 0 {
        return false;
    }
    let left = UNTIL_REFUSED.fetch_sub(1, Ordering::Relaxed);
    if left != 0 {
        return false;
    }
    // Again with the next one, as often as told.
    if REFUSED_MAX.fetch_sub(1, Ordering::Relaxed) > 1 {
        UNTIL_REFUSED.store(0, Ordering::Relaxed);
    }
    true
}

// SAFETY: every call is forwarded unchanged to the system's allocator, or refused with null, which
// the contract allows.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refused(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if refused(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if refused(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates in this thread.
fn count(work: impl FnOnce()) -> u64 {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

/// Runs `work` with nothing larger than `bytes` to be had in this thread.
fn limited<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    LIMIT.with(|limit| limit.set(bytes));
    let result = work();
    LIMIT.with(|limit| limit.set(usize::MAX));
    result
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn options(sync_mode: SyncMode) -> WalOptions {
    WalOptions {
        sync_mode,
        ..WalOptions::default()
    }
}

// ---- steady state --------------------------------------------------------------------------------

fn append_some(wal: &Wal, times: u64) {
    let value = [7; 100];
    let batch = [
        Record::put(b"one", &value),
        Record::put(b"two", &value),
        Record::delete(b"three"),
    ];
    for _ in 0..times {
        wal.append(batch[0], Durability::AsOpened).unwrap();
        wal.append_batch(&batch, Durability::AsOpened).unwrap();
    }
}

#[test]
fn appending_small_batches_allocates_nothing_in_steady_state() {
    for (mode, times) in [
        (SyncMode::Every, 300),
        (SyncMode::Manual, 5_000),
        (
            SyncMode::Interval {
                batches: 100,
                millis: 10_000,
            },
            5_000,
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let wal = Wal::open(directory.path().join("log"), &options(mode)).unwrap();
        append_some(&wal, 20);
        // More than the space that is prepared at a time.
        let allocations = count(|| append_some(&wal, times));
        assert_eq!(allocations, 0, "{mode:?}");
        let syncs = count(|| {
            for _ in 0..50 {
                append_some(&wal, 1);
                wal.sync().unwrap();
            }
        });
        assert_eq!(syncs, 0, "{mode:?}");
    }
}

#[test]
fn threads_that_append_together_allocate_nothing_in_steady_state() {
    let directory = tempfile::tempdir().unwrap();
    let wal = Wal::open(directory.path().join("log"), &options(SyncMode::Every)).unwrap();
    let wal = Arc::new(wal);
    let barrier = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (wal, barrier) = (Arc::clone(&wal), Arc::clone(&barrier));
            std::thread::spawn(move || {
                append_some(&wal, 200);
                barrier.wait();
                count(|| append_some(&wal, 200))
            })
        })
        .collect();
    let allocations: u64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
    // A buffer may meet its largest group late, and grow once more: 5 buffers of 2 parts.
    assert!(allocations <= 10, "{allocations} in 1600 appends");
}

/// With groups in flight there are buffers for each of them, and one may meet its largest group
/// late; they do not grow with the number of appends.
#[test]
fn groups_in_flight_allocate_nothing_in_steady_state() {
    let directory = tempfile::tempdir().unwrap();
    let options = WalOptions {
        groups_in_flight_max: 4,
        ..options(SyncMode::Every)
    };
    let wal = Arc::new(Wal::open(directory.path().join("log"), &options).unwrap());
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (wal, barrier) = (Arc::clone(&wal), Arc::clone(&barrier));
            std::thread::spawn(move || {
                append_some(&wal, 100);
                barrier.wait();
                count(|| append_some(&wal, 250))
            })
        })
        .collect();
    let allocations: u64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
    assert!(allocations <= 60, "{allocations} in 4000 appends");
    let value = [7; 100];
    let later = |times: u64| {
        for _ in 0..times {
            wal.append_later(&Values([&value; 3]), Durability::AsOpened)
                .unwrap();
        }
        let (untold, _) = wal.tickets().unwrap();
        assert_eq!(untold, times);
        while wal.tickets().unwrap().1 < times {
            std::thread::yield_now();
        }
    };
    let told = |last: u64| assert!(wal.wait_for(last, None).unwrap().is_some());
    later(2_000);
    told(2_000);
    // How many batches meet in one group is not the same each time, above all on a busy machine. Each of 5
    // buffers may meet its largest group late and double each of its 2 parts up to 10 times until then.
    let mut allocations = 0;
    for round in 2..=6 {
        allocations += count(|| later(2_000));
        assert_eq!(count(|| told(round * 2_000)), 0);
    }
    assert!(allocations <= 100, "{allocations} in 10000 appends");
}

/// A batch that can be appended without waiting.
struct Values<'a>([&'a [u8]; 3]);

impl BatchSource for Values<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn record(&self, index: usize) -> Record<'_> {
        Record::put(b"key", self.0[index])
    }
}

/// How full a buffer becomes depends on when the thread comes that writes it, so each may meet its
/// largest group late, the last one even be used late for the first time. That is once for each: the
/// one that fills, the one that is written and a spare one, of 2 parts, which double at most 12 times.
#[test]
fn batches_that_wait_in_the_process_allocate_nothing_in_steady_state() {
    let directory = tempfile::tempdir().unwrap();
    let options = WalOptions {
        buffer_bytes_max: 64 << 10,
        ..options(SyncMode::Manual)
    };
    let wal = Wal::open(directory.path().join("log"), &options).unwrap();
    append_some(&wal, 2_000);
    let allocations = count(|| {
        // Many more groups than that, and many more syncs.
        append_some(&wal, 20_000);
        for _ in 0..200 {
            append_some(&wal, 10);
            wal.sync().unwrap();
        }
    });
    assert!(allocations <= 72, "{allocations} in 44000 appends");
}

#[test]
fn reading_small_batches_allocates_nothing_in_steady_state() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let wal = Wal::open(&path, &options(SyncMode::Manual)).unwrap();
    append_some(&wal, 10_000);
    let read_only = WalOptions {
        how: OpenHow::ReadOnly,
        ..WalOptions::default()
    };
    wal.sync().unwrap();
    let reader = Wal::open(&path, &read_only).unwrap();
    for handle in [&wal, &reader] {
        let mut cursor = handle.cursor(0).unwrap();
        // More than one window.
        for _ in 0..15_000 {
            cursor.next().unwrap().unwrap();
        }
        let allocations = count(|| {
            for _ in 0..20_000 {
                cursor.next().unwrap().unwrap();
            }
        });
        assert_eq!(allocations, 0, "one by one");
        let mut cursor = handle.cursor(0).unwrap();
        for _ in 0..100 {
            cursor.next_page(200).unwrap().unwrap();
        }
        let allocations = count(|| {
            for _ in 0..50 {
                cursor.next_page(200).unwrap().unwrap();
            }
        });
        assert_eq!(allocations, 0, "by pages");
        let mut cursor = handle.raw_cursor(0).unwrap();
        for _ in 0..15_000 {
            cursor.next().unwrap().unwrap();
        }
        let allocations = count(|| {
            for _ in 0..20_000 {
                cursor.next().unwrap().unwrap();
            }
        });
        assert_eq!(allocations, 0, "raw");
    }
}

// ---- too large for the memory there is -----------------------------------------------------------

#[test]
fn what_does_not_fit_into_memory_is_refused_and_the_handle_goes_on() {
    const LIMIT_BYTES: usize = 2 << 20;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let wal = Wal::open(&path, &options(SyncMode::Manual)).unwrap();
    append_some(&wal, 1);
    let large = vec![1; 6 << 20];
    let half = vec![2; 3 << 20];
    let batch = [Record::put(b"a", &half), Record::put(b"b", &half)];
    let before = wal.stat().unwrap().last_seq;
    let no_memory = |what: &str, result: Result<(), duralog::Error>| {
        let error = result.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::NoMemory, "{what}: {error}");
        assert!(error.is_retryable());
    };
    let record = Record::put(b"k", &large);
    let as_opened = Durability::AsOpened;
    // A large batch goes out in pieces; one piece must fit.
    const LESS_THAN_A_PIECE: usize = 100 << 10;
    no_memory(
        "append",
        limited(LESS_THAN_A_PIECE, || {
            wal.append(record, as_opened).map(drop)
        }),
    );
    no_memory(
        "batch",
        limited(LESS_THAN_A_PIECE, || {
            wal.append_batch(&batch, as_opened).map(drop)
        }),
    );
    no_memory(
        "checkpoint",
        limited(LIMIT_BYTES, || wal.checkpoint(&large).map(drop)),
    );
    assert_eq!(wal.stat().unwrap().last_seq, before, "nothing was written");
    append_some(&wal, 1);
    let behind = limited(LIMIT_BYTES, || wal.append(record, as_opened).unwrap().seq);
    append_some(&wal, 1);
    wal.checkpoint(&large).unwrap();

    // Reading: what comes before is delivered, the error comes again, and goes away with its cause.
    let mut cursor = wal.cursor(0).unwrap();
    let mut last = 0;
    for _ in 0..2 {
        let stopped = limited(LIMIT_BYTES, || loop {
            match cursor.next() {
                Ok(Some(entry)) => last = entry.seq,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        });
        no_memory("cursor", stopped);
        assert!(last < behind && last + 2 >= behind, "{last} {behind}");
    }
    assert_eq!(cursor.next().unwrap().unwrap().value.len(), large.len());
    no_memory(
        "last_checkpoint",
        limited(LIMIT_BYTES, || wal.last_checkpoint().map(drop)),
    );
    assert_eq!(wal.last_checkpoint().unwrap().unwrap().data, large);
    drop(wal);

    // Opening walks the last segment.
    no_memory(
        "open",
        limited(LIMIT_BYTES, || {
            Wal::open(&path, &WalOptions::default()).map(drop)
        }),
    );
    // To verify is to report: what could not be read is no damage.
    let report = limited(LIMIT_BYTES, || Wal::verify(&path).unwrap());
    assert_eq!(report.row, "R", "{report:?}");
    let wal = Wal::open(&path, &WalOptions::default()).unwrap();
    assert_eq!(wal.last_checkpoint().unwrap().unwrap().data, large);
}

// ---- the n-th allocation -------------------------------------------------------------------------

/// Set in a child: directory, allocations until one is refused, how many are then, and how many
/// groups may be in flight; if that is not 1, batches are appended without waiting.
const CHILD: &str = "DURALOG_ALLOCATION_CHILD";
/// Batches in one run of the child.
const BATCHES: u8 = 24;

fn small_segments(groups_in_flight_max: u32) -> WalOptions {
    WalOptions {
        groups_in_flight_max,
        segment_bytes_max: 64 << 10,
        ..WalOptions::default()
    }
}

/// The value of record `index` of batch `number`.
fn fill(number: u8, index: u8, value: &mut [u8; 4_000]) {
    value.fill(number.wrapping_mul(17).wrapping_add(index));
}

/// Appends one batch without allocating; true if it was acknowledged.
fn append_batch(wal: &Wal, number: u8) -> bool {
    let mut values = [[0; 4_000]; 3];
    for (index, value) in (0..).zip(&mut values) {
        fill(number, index, value);
    }
    let keys = [[number, 0], [number, 1], [number, 2]];
    let records = [0, 1, 2].map(|at| Record::put(&keys[at], &values[at]));
    is_acknowledged(wal.append_batch(&records, Durability::AsOpened))
}

/// Like [`append_batch`], without waiting: the ticket, if it was taken.
fn append_later(wal: &Wal, number: u8) -> Option<u64> {
    let mut values = [[0; 4_000]; 3];
    for (index, value) in (0..).zip(&mut values) {
        fill(number, index, value);
    }
    let keys = [[number, 0], [number, 1], [number, 2]];
    let batch = Pairs([0, 1, 2].map(|at| (&keys[at], &values[at])));
    let ticket = wal.append_later(&batch, Durability::AsOpened);
    let ticket_given = ticket.as_ref().ok().copied();
    is_acknowledged(ticket);
    ticket_given
}

struct Pairs<'a>([(&'a [u8; 2], &'a [u8; 4_000]); 3]);

impl BatchSource for Pairs<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn record(&self, index: usize) -> Record<'_> {
        let (key, value) = self.0[index];
        Record::put(key, value)
    }
}

fn is_acknowledged<T>(result: Result<T, duralog::Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            let kind = error.kind();
            let known = matches!(
                kind,
                ErrorKind::NoMemory
                    | ErrorKind::Io
                    | ErrorKind::Indeterminate
                    | ErrorKind::Poisoned
            );
            assert!(known, "{kind:?}");
            false
        }
    }
}

/// Reads all there is without allocating in the test; the batches found, as bits. Panics at
/// anything that was not written so.
fn read_all(wal: &Wal) -> Option<u32> {
    let mut cursor = wal.cursor(0).ok()?;
    let mut found = 0;
    let mut expected = 0;
    let mut value = [0; 4_000];
    loop {
        let entry = match cursor.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoMemory);
                return None;
            }
        };
        let (number, index) = (entry.key[0], entry.key[1]);
        assert_eq!(index, expected, "a batch is not whole");
        expected = (index + 1) % 3;
        fill(number, index, &mut value);
        assert_eq!(entry.value, value);
        found |= 1 << number;
    }
    assert_eq!(expected, 0, "the last batch is not whole");
    Some(found)
}

/// Does nothing but in a child process.
#[test]
fn child_that_runs_out_of_memory() {
    let Ok(given) = std::env::var(CHILD) else {
        return;
    };
    let mut parts = given.split(' ');
    let directory = PathBuf::from(parts.next().unwrap());
    let until: i64 = parts.next().unwrap().parse().unwrap();
    let many: i64 = parts.next().unwrap().parse().unwrap();
    let groups: u32 = parts.next().unwrap().parse().unwrap();
    let path = directory.join("log");
    let mut acknowledged = File::create(directory.join("acknowledged")).unwrap();
    let options = small_segments(groups);
    REFUSED_MAX.store(many, Ordering::Relaxed);
    let before = TOTAL.load(Ordering::Relaxed);
    UNTIL_REFUSED.store(until, Ordering::Relaxed);
    let mut number = 0;
    let mut told = 0u32;
    while number < BATCHES {
        let Ok(wal) = Wal::open(&path, &options) else {
            // Opening again may work.
            number += 1;
            continue;
        };
        // A new handle each so many batches, so that opening is part of it.
        let behind = BATCHES.min(number + 8);
        let mut tickets = [None; 8];
        if groups > 1 {
            for (ticket, number) in tickets.iter_mut().zip(number..behind) {
                *ticket = append_later(&wal, number);
            }
        }
        for ticket in tickets.iter().take(usize::from(behind - number)) {
            let good = match (groups, ticket) {
                (1, _) => append_batch(&wal, number),
                (_, Some(ticket)) => is_acknowledged(wal.wait_for(*ticket, None)),
                (_, None) => false,
            };
            if good {
                told |= 1 << number;
                acknowledged.write_all(&[number]).unwrap();
            }
            number += 1;
        }
        let _ = wal.checkpoint(b"here");
        if let Some(found) = read_all(&wal) {
            // A handle that is poisoned shows what is durable, which all of it is.
            assert_eq!(found & told, told, "an acknowledged batch is not shown");
        }
        let _ = wal.last_checkpoint();
        let _ = wal.stat();
        let _ = wal.close();
    }
    UNTIL_REFUSED.store(-1, Ordering::Relaxed);
    let total = TOTAL.load(Ordering::Relaxed) - before;
    fs::write(directory.join("total"), total.to_string()).unwrap();
}

/// Runs a child and checks what it left; how many allocations it made, if it came to its end.
fn run_child(until: i64, many: i64, groups: u32) -> Option<u64> {
    let shm = Path::new("/dev/shm");
    let directory = match shm.is_dir() {
        true => tempfile::tempdir_in(shm).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_that_runs_out_of_memory",
            "--test-threads=1",
        ])
        .env(
            CHILD,
            format!("{} {until} {many} {groups}", directory.path().display()),
        )
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let ended_well = output.status.success();
    // An abort is what Rust does where an allocation can't fail otherwise.
    let aborted = output.status.signal() == Some(libc::SIGABRT);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        ended_well || aborted && stderr.contains("memory allocation of"),
        "allocation {until}, {many} refused: {:?}\n{}{stderr}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    let acknowledged = fs::read(directory.path().join("acknowledged")).unwrap_or_default();
    let told = acknowledged
        .iter()
        .fold(0u32, |all, number| all | 1 << number);
    let path = directory.path().join("log");
    let wal = Wal::open(&path, &small_segments(1)).unwrap();
    let found = read_all(&wal).unwrap();
    assert_eq!(found & told, told, "allocation {until}: {told:b} {found:b}");
    // And it can be written to.
    assert_eq!(found >> BATCHES, 0);
    assert!(append_batch(&wal, BATCHES));
    wal.close().unwrap();
    ended_well
        .then(|| fs::read_to_string(directory.path().join("total")).ok())
        .flatten()
        .and_then(|text| text.parse().ok())
}

#[test]
fn the_nth_allocation_fails_and_nothing_acknowledged_is_lost() {
    each_allocation_fails(1, &[1, i64::MAX]);
}

/// The threads that lead share in the allocations, so that the n-th is not the same in each run.
#[test]
fn the_nth_allocation_fails_and_nothing_on_its_way_is_lost() {
    each_allocation_fails(4, &[1]);
}

fn each_allocation_fails(groups: u32, how_many: &'static [i64]) {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let begun = Instant::now();
    let total = run_child(i64::MAX, 1, groups).unwrap();
    assert!(total > 50, "{total}");
    let next = Arc::new(AtomicI64::new(0));
    let survived = Arc::new(AtomicU64::new(0));
    let last = i64::try_from(total).unwrap();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (next, survived) = (Arc::clone(&next), Arc::clone(&survived));
            std::thread::spawn(move || loop {
                let until = next.fetch_add(1, Ordering::Relaxed);
                if until >= last {
                    break;
                }
                for &many in how_many {
                    let ended = run_child(until, many, groups).is_some();
                    survived.fetch_add(u64::from(ended), Ordering::Relaxed);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    say(&format!(
        "{total} allocations, each failed in {} ways, up to {groups} groups in flight: {} children \
         went on, the others aborted, {:.1} s",
        how_many.len(),
        survived.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64()
    ));
}
