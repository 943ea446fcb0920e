//! Every call on the disk fails, at each place where it is made, in each way that it can: no
//! acknowledged batch is lost, no call hangs, errors are sticky, and reopening settles what was in
//! doubt for good.
//!
//! A workload goes through appends, batches, rotation, recycling, checkpoints, truncation, marks,
//! closing, death of the process and reopening, once to count its calls and then once for each
//! call, each errno and each of "once" and "from then on". The ledger (`common/sim_log.rs`) holds
//! what the caller was told; after the disk works again the log is opened twice and compared with
//! it, and the power is cut after the failure and at the end. A sample of what the cuts leave is also
//! read by Python (`common/differential.rs`).
//!
//! `DURALOG_CRASH_STATES` sets how many states are looked at in each run (4).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/differential.rs"]
mod differential;
#[path = "common/overtaking.rs"]
mod overtaking;
#[path = "common/sim_log.rs"]
mod sim_log;

use differential::Images;
use duralog::vfs::sim::{errno, Call, Fault, FaultPlan, Rng, SimDisk};
use duralog::{BatchStatus, Durability, ErrorKind, Record, SyncMode, Wal};
use sim_log::{for_each, open_on, replay, value, Fate, Known, Op, Run};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

/// No case takes this long: what does, hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn crash_states() -> u64 {
    let given = std::env::var("DURALOG_CRASH_STATES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Through everything that writes.
fn workload() -> Vec<Op> {
    use Op::{Batch, Checkpoint, Close, Kill, Mark, Open, Prepare, Read, Solo, Sync, Truncate};
    let every = SyncMode::Every;
    vec![
        Open(every),
        Solo(10),
        Batch(3, 100),
        Batch(6, 8_000),
        // Blocks of this segment, and a file for the next.
        Prepare,
        Batch(4, 8_000),
        Prepare,
        // Rotates into that file.
        Solo(20),
        Checkpoint,
        Batch(9, 8_000),
        Mark,
        Batch(3, 40),
        // Retires the first segment, whose file is used for the third.
        Truncate(1),
        Read,
        Batch(1, 30),
        Close,
        Open(SyncMode::Manual),
        Solo(11),
        Batch(2, 20_000),
        Sync,
        Batch(3, 300),
        Solo(12),
        // Recovery finds committed frames that nothing promises.
        Kill,
        Open(SyncMode::Interval {
            batches: 2,
            millis: 1_000,
        }),
        Solo(13),
        Read,
        Batch(2, 200),
        Solo(14),
        Truncate(0),
        Solo(15),
        Kill,
        Open(every),
        Solo(16),
        Close,
        Open(every),
        Checkpoint,
        Read,
        Close,
    ]
}

/// A batch of several frames, given up, completed, and read.
fn large_workload() -> Vec<Op> {
    vec![
        Op::Open(SyncMode::Every),
        Op::Solo(10),
        // Longer than what a reader reads at once.
        Op::Batch(28, 40_000),
        Op::Solo(11),
        Op::Read,
        Op::Kill,
        Op::Open(SyncMode::Every),
        Op::Read,
        Op::Close,
    ]
}

/// Groups in flight, with everything that may come between.
fn workload_with_flights() -> Vec<Op> {
    use Op::{
        Batch, Checkpoint, Close, InFlight, Kill, Later, Mark, Open, Read, Solo, Sync, Truncate,
    };
    let every = SyncMode::Every;
    vec![
        InFlight(4),
        Open(every),
        Later(1, 2),
        Later(4, 2),
        Solo(10),
        Later(3, 2),
        Batch(5, 8_000),
        // Rotates, between flights.
        Later(6, 1),
        Later(3, 2),
        Checkpoint,
        Later(3, 1),
        Mark,
        Batch(7, 8_000),
        Later(3, 2),
        Truncate(1),
        Later(3, 2),
        Read,
        Close,
        Open(every),
        Later(3, 2),
        Kill,
        Open(every),
        Later(3, 2),
        Sync,
        Read,
        Close,
    ]
}

/// Batches wait in the process, and everything is done that writes them.
fn workload_with_buffer() -> Vec<Op> {
    use Op::{
        Batch, Buffer, Checkpoint, Close, Durable, Kill, Later, Open, Read, Solo, Sync, Truncate,
    };
    vec![
        Buffer(4096),
        Open(SyncMode::Manual),
        Solo(10),
        Batch(3, 100),
        Sync,
        Solo(20),
        Batch(3, 1_500),
        Solo(30),
        Durable(40),
        Solo(11),
        Checkpoint,
        Solo(12),
        Batch(7, 8_000),
        Solo(13),
        // Rotates, and does not wait there itself.
        Batch(2, 4_000),
        Solo(14),
        Later(2, 2),
        // Several frames.
        Batch(10, 8_000),
        Solo(15),
        Truncate(2),
        Solo(16),
        Read,
        Close,
        Open(SyncMode::Interval {
            batches: 3,
            millis: 1_000,
        }),
        Solo(17),
        Solo(18),
        Batch(2, 2_500),
        Solo(19),
        Kill,
        Open(SyncMode::Manual),
        Solo(20),
        Sync,
        Solo(21),
        Close,
    ]
}

/// Mapped appends, with everything that gives a window up, and a buffer behind.
fn workload_with_windows() -> Vec<Op> {
    use Op::{
        Batch, Buffer, Checkpoint, Close, Durable, Kill, Mapped, Mark, Open, Prepare, Read, Solo,
        Sync, Truncate,
    };
    let interval = SyncMode::Interval {
        batches: 3,
        millis: 1_000,
    };
    vec![
        Mapped,
        Open(SyncMode::Manual),
        Solo(10),
        Batch(3, 100),
        Durable(40),
        Solo(20),
        Batch(5, 8_000),
        Prepare,
        // From one window into the next.
        Batch(3, 8_000),
        Solo(11),
        Mark,
        Solo(12),
        // Rotates.
        Batch(2, 4_000),
        Solo(13),
        Checkpoint,
        Batch(7, 8_000),
        Sync,
        Solo(14),
        // Rotates; the first file is used again.
        Truncate(1),
        Batch(9, 7_000),
        Batch(2, 4_000),
        // Several frames, by calls.
        Batch(10, 8_000),
        Solo(15),
        Read,
        Close,
        Open(interval),
        Solo(16),
        Solo(17),
        Batch(2, 2_500),
        Solo(18),
        Kill,
        Buffer(4096),
        Open(SyncMode::Manual),
        Solo(19),
        Batch(3, 1_500),
        Solo(20),
        Sync,
        Solo(21),
        Close,
    ]
}

#[derive(Clone, Copy, Debug)]
struct Case {
    call: Call,
    nth: u64,
    fault: Fault,
    lasting: bool,
}

/// The ways in which a call of this kind goes wrong.
fn faults(call: Call) -> Vec<Fault> {
    use errno::{EACCES, EDQUOT, EIO, EMFILE, ENOSPC, EROFS};
    let (codes, after): (&[i32], bool) = match call {
        Call::Open => (&[EIO, EMFILE, EACCES], false),
        Call::Create => (&[EIO, ENOSPC, EMFILE, EROFS], true),
        Call::Read | Call::Len => (&[EIO], false),
        Call::Write => (&[EIO, ENOSPC, EDQUOT], true),
        Call::SetLen => (&[EIO, ENOSPC], true),
        Call::Allocate => (&[EIO, ENOSPC, EDQUOT], true),
        Call::SyncData => (&[EIO, ENOSPC, EDQUOT], true),
        Call::SyncDir => (&[EIO, ENOSPC], true),
        Call::Rename => (&[EIO, ENOSPC, EACCES], true),
        Call::Unlink => (&[EIO, EACCES], true),
        Call::List => (&[EIO, EMFILE], false),
        Call::Lock => (&[EIO, EMFILE], false),
        Call::Map => (&[EIO, ENOSPC, EMFILE], false),
    };
    let mut faults: Vec<Fault> = codes.iter().map(|&code| Fault::Error(code)).collect();
    if after {
        faults.push(Fault::ErrorAfter(EIO));
    }
    faults
}

fn cases(ops: &[Op], faults: impl Fn(Call) -> Vec<Fault>, lasting: bool) -> Vec<Case> {
    let mut run = Run::new(SimDisk::new(1));
    run.run(ops);
    assert!(run.ledger.errors.is_empty(), "{:?}", run.ledger.errors);
    let counts = run.disk.counts();
    run.finish();
    let mut cases = Vec::new();
    for call in Call::ALL {
        for fault in faults(call) {
            for nth in 1..=counts.of(call) {
                let case = Case {
                    call,
                    nth,
                    fault,
                    lasting: false,
                };
                cases.push(case);
                if lasting {
                    cases.push(Case {
                        lasting: true,
                        ..case
                    });
                }
            }
        }
    }
    cases
}

fn begin(case: &Case) -> Run {
    let disk = SimDisk::new(1);
    let plan = FaultPlan::new(case.call, case.nth, case.fault);
    disk.fail(if case.lasting { plan.lasting() } else { plan });
    let mut run = Run::new(disk);
    run.lasting = case.lasting;
    run.crash_states = crash_states();
    run
}

/// Counts what a test did, for its last line.
#[derive(Default)]
struct Tally {
    runs: AtomicU64,
    failing: AtomicU64,
    doubtful: AtomicU64,
    states: AtomicU64,
    images: Mutex<Option<Images>>,
}

impl Tally {
    fn add(&self, case: &dyn std::fmt::Debug, run: &Run) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let failing = u64::from(!run.ledger.errors.is_empty());
        self.failing.fetch_add(failing, Ordering::Relaxed);
        let is_doubtful = |known: &&Known| matches!(known.fate, Fate::Doubtful(_));
        let doubtful = run.ledger.batches.iter().filter(is_doubtful).count() as u64;
        self.doubtful.fetch_add(doubtful, Ordering::Relaxed);
        self.states.fetch_add(run.states_seen, Ordering::Relaxed);
        let mut images = self.images.lock().unwrap();
        let images = images.get_or_insert_with(Images::new);
        for image in &run.sampled {
            let errors = &run.ledger.errors;
            images.add(image, sim_log::PATH, &format!("{case:?}: {errors:?}"));
        }
    }

    fn say(&self, what: &str, begun: Instant) {
        let mut images = self.images.lock().unwrap();
        let compared = images.as_mut().map_or(0, Images::finish);
        say(&format!(
            "{what}: {} runs, {} with an error, {} batches in doubt settled, {} crash states, of \
             which {compared} compared with Python, {:.1} s",
            self.runs.load(Ordering::Relaxed),
            self.failing.load(Ordering::Relaxed),
            self.doubtful.load(Ordering::Relaxed),
            self.states.load(Ordering::Relaxed),
            begun.elapsed().as_secs_f64()
        ));
    }
}

fn run_all(
    what: &str,
    cases: Vec<Case>,
    ops: Vec<Op>,
    judge: impl Fn(&Run) + Send + Sync + 'static,
) {
    let begun = Instant::now();
    let tally = Arc::new(Tally::default());
    let counted = Arc::clone(&tally);
    for_each(cases, PATIENCE, move |case| {
        let mut run = begin(case);
        run.honest = case.fault != Fault::Lie;
        run.run(&ops);
        judge(&run);
        run.finish();
        counted.add(case, &run);
    });
    tally.say(what, begun);
}

#[test]
fn every_call_fails_once_and_from_then_on() {
    let ops = workload();
    let cases = cases(&ops, faults, true);
    assert!(cases.len() > 1_000, "{}", cases.len());
    run_all("every call fails", cases, ops, |_| {});
}

/// What fails while groups are in flight, or batches wait in the process: calls that write.
fn faults_of_writing(call: Call) -> Vec<Fault> {
    use errno::{EIO, EMFILE, ENOSPC};
    match call {
        Call::Write | Call::Allocate => {
            vec![
                Fault::Error(EIO),
                Fault::Error(ENOSPC),
                Fault::ErrorAfter(EIO),
            ]
        }
        Call::SyncData => vec![Fault::Error(EIO), Fault::ErrorAfter(EIO)],
        Call::Open => vec![Fault::Error(EIO), Fault::Error(EMFILE)],
        Call::Create | Call::Rename | Call::SyncDir => {
            vec![Fault::Error(EIO), Fault::Error(ENOSPC)]
        }
        Call::Unlink => vec![Fault::Error(EIO)],
        _ => vec![],
    }
}

#[test]
fn every_call_fails_while_groups_are_in_flight() {
    let ops = workload_with_flights();
    let mut run = Run::new(SimDisk::new(1));
    run.run(&ops);
    assert!(
        run.overtook > 10,
        "{} groups overtook another",
        run.overtook
    );
    let cases = cases(&ops, faults_of_writing, true);
    assert!(cases.len() > 500, "{}", cases.len());
    run_all("with groups in flight", cases, ops, |_| {});
}

#[test]
fn every_call_fails_while_batches_wait_in_the_process() {
    let ops = workload_with_buffer();
    let cases = cases(&ops, faults_of_writing, true);
    assert!(cases.len() > 300, "{}", cases.len());
    run_all("with a buffer", cases, ops, |_| {});
}

#[test]
fn every_call_fails_while_appends_are_mapped() {
    let ops = workload_with_windows();
    let some = |call| match call {
        Call::Map => vec![
            Fault::Error(errno::EFAULT),
            Fault::Error(errno::EINVAL),
            Fault::ErrorAfter(errno::EIO),
        ],
        call => faults_of_writing(call),
    };
    let cases = cases(&ops, some, true);
    assert!(cases.len() > 500, "{}", cases.len());
    run_all("with windows", cases, ops, |_| {});
}

/// Windows that are not to be had, and short or interrupted calls beside them, are not seen. (The one
/// mapping that a log can't do without is that of the tail page.)
#[test]
fn without_windows_appends_are_written_by_calls() {
    let ops = workload_with_windows();
    let some = |call| match call {
        Call::Write => vec![Fault::Short, Fault::Error(errno::EINTR)],
        Call::Allocate => vec![Fault::Error(errno::ENOSYS)],
        _ => vec![],
    };
    let mut cases = cases(&ops, some, true);
    cases.retain(|case| !(case.lasting && case.fault == Fault::Error(errno::EINTR)));
    run_all(
        "short and interrupted, with windows",
        cases,
        ops.clone(),
        |run| {
            assert!(run.ledger.errors.is_empty(), "{:?}", run.ledger.errors);
        },
    );
    for nth in 1..30 {
        let disk = SimDisk::new(1);
        let plan = FaultPlan::new(Call::Map, nth, Fault::Error(errno::EINVAL)).on(".wal");
        disk.fail(if nth % 2 == 0 { plan.lasting() } else { plan });
        let mut run = Run::new(disk);
        run.run(&ops);
        assert!(run.ledger.errors.is_empty(), "{:?}", run.ledger.errors);
        run.finish();
    }
}

/// Short writes and interruptions change nothing for flights either.
#[test]
fn short_and_interrupted_flights_are_not_seen() {
    for ops in [workload_with_flights(), workload_with_buffer()] {
        let some = |call| match call {
            Call::Write => vec![Fault::Short, Fault::Error(errno::EINTR)],
            _ => vec![],
        };
        are_not_seen(ops, some);
    }
}

/// Where space runs out, flights do not take off, and the handle stays usable.
#[test]
fn a_full_disk_poisons_nothing_with_groups_in_flight() {
    let ops = workload_with_flights();
    let some = |call| match call {
        Call::Allocate => vec![Fault::Error(errno::ENOSPC), Fault::Error(errno::EDQUOT)],
        Call::Create | Call::Rename => vec![Fault::Error(errno::ENOSPC)],
        _ => vec![],
    };
    let cases = cases(&ops, some, true);
    run_all("no space, with groups in flight", cases, ops, |run| {
        for kind in &run.ledger.errors {
            assert_eq!(*kind, ErrorKind::Full, "{:?}", run.ledger.errors);
        }
    });
}

/// Where space runs out, no window is opened, and the handle stays usable.
#[test]
fn a_full_disk_poisons_nothing_with_mapped_appends() {
    let mut ops = workload_with_windows();
    // Batches that waited in the process were acknowledged before.
    ops.retain(|op| !matches!(op, Op::Buffer(_)));
    let some = |call| match call {
        Call::Write | Call::Allocate => {
            vec![Fault::Error(errno::ENOSPC), Fault::Error(errno::EDQUOT)]
        }
        Call::Create | Call::Rename => vec![Fault::Error(errno::ENOSPC)],
        _ => vec![],
    };
    let mut cases = cases(&ops, some, true);
    // A batch of several frames that has begun needs room for its end, and was given it.
    cases.retain(|case| case.call != Call::Write || !case.lasting);
    run_all("no space, with windows", cases, ops, |run| {
        for kind in &run.ledger.errors {
            assert_eq!(*kind, ErrorKind::Full, "{:?}", run.ledger.errors);
        }
    });
}

/// A file system without direct writes: everything works, one group after the other.
#[test]
fn without_direct_writes_groups_are_written_one_after_the_other() {
    let ops = workload_with_flights();
    for code in [errno::EINVAL, errno::EIO, errno::ENOSPC] {
        let disk = SimDisk::new(1);
        let plan = FaultPlan::new(Call::Write, 1, Fault::Error(code)).on("ready/direct");
        disk.fail(plan.lasting());
        let mut run = Run::new(disk);
        run.run(&ops);
        assert!(run.ledger.errors.is_empty(), "{:?}", run.ledger.errors);
        assert_eq!(run.overtook, 0);
        run.finish();
        let left = run.disk.paths();
        assert!(
            !left.iter().any(|path| path.ends_with("direct")),
            "{left:?}"
        );
    }
}

#[test]
fn every_call_of_a_large_batch_fails() {
    let ops = large_workload();
    let some = |call| match call {
        Call::Write => vec![Fault::Error(errno::EIO), Fault::Error(errno::ENOSPC)],
        Call::Allocate | Call::SyncData | Call::Read => {
            vec![Fault::Error(errno::EIO), Fault::Error(errno::ENOSPC)]
        }
        _ => vec![],
    };
    let mut cases = cases(&ops, some, false);
    cases.retain(|case| case.call != Call::Read || case.fault == Fault::Error(errno::EIO));
    run_all("a large batch", cases, ops, |_| {});
}

#[test]
fn short_and_interrupted_calls_are_not_seen() {
    let ops = workload();
    let some = |call| match call {
        Call::Read | Call::Write => vec![Fault::Short, Fault::Error(errno::EINTR)],
        Call::Allocate => vec![Fault::Error(errno::ENOSYS)],
        _ => vec![],
    };
    are_not_seen(ops, some);
}

/// The program that does `ops` is told of none of these faults.
fn are_not_seen(ops: Vec<Op>, faults: impl Fn(Call) -> Vec<Fault>) {
    let mut cases = cases(&ops, faults, true);
    // An interruption that never ends is none.
    cases.retain(|case| !(case.lasting && case.fault == Fault::Error(errno::EINTR)));
    run_all("short and interrupted", cases, ops, |run| {
        assert!(run.ledger.errors.is_empty(), "{:?}", run.ledger.errors);
    });
}

#[test]
fn a_sync_that_lies_leads_to_nothing_partial() {
    let ops = workload();
    let some = |call| match call {
        Call::SyncData | Call::SyncDir => vec![Fault::Lie],
        _ => vec![],
    };
    let cases = cases(&ops, some, true);
    run_all("lying syncs", cases, ops, |run| {
        assert!(run.ledger.errors.is_empty(), "{:?}", run.ledger.errors);
    });
}

#[test]
fn a_full_disk_poisons_nothing_wherever_it_is_met() {
    use errno::{EDQUOT, EFBIG, ENOSPC};
    let some = |call| match call {
        Call::Write | Call::Allocate => {
            vec![
                Fault::Error(ENOSPC),
                Fault::Error(EDQUOT),
                Fault::Error(EFBIG),
            ]
        }
        Call::Create | Call::Rename | Call::Map => vec![Fault::Error(ENOSPC), Fault::Error(EDQUOT)],
        _ => vec![],
    };
    let ops = workload();
    let cases = cases(&ops, some, true);
    // One exception: frames of a large batch are out, and no byte at all can be written any more,
    // not even into the room that was made for the ABORT.
    let (stuck, rest): (Vec<Case>, Vec<Case>) = cases
        .into_iter()
        .partition(|case| case.lasting && case.call == Call::Write);
    run_all("no space in one call", rest, ops.clone(), |run| {
        for kind in &run.ledger.errors {
            assert_eq!(*kind, ErrorKind::Full, "{:?}", run.ledger.errors);
        }
    });
    run_all("no space for any write", stuck, ops, |run| {
        let errors = &run.ledger.errors;
        let poison = |kind: &ErrorKind| *kind == ErrorKind::Poisoned;
        let clean = errors.iter().all(|kind| *kind == ErrorKind::Full);
        assert!(clean || errors[0] == ErrorKind::Indeterminate && poison(&errors[1]));
    });
}

/// A write is short and finds no space when it goes on: what is reported as FULL left no byte.
#[test]
fn full_means_that_nothing_was_written() {
    let ops = workload();
    let only = |call| match call {
        Call::Write => vec![Fault::Short],
        _ => vec![],
    };
    let cases = cases(&ops, only, false);
    let begun = Instant::now();
    let tally = Arc::new(Tally::default());
    let counted = Arc::clone(&tally);
    for_each(cases, PATIENCE, move |case| {
        let mut run = begin(case);
        let full = Fault::Error(errno::ENOSPC);
        run.disk
            .fail(FaultPlan::new(Call::Write, case.nth + 1, full));
        for op in &ops {
            let before = run.ledger.errors.len();
            run.run(&[*op]);
            let clean = run.ledger.errors[before..] == [ErrorKind::Full];
            if clean && matches!(op, Op::Solo(_) | Op::Batch(..)) {
                let log = Path::new(sim_log::PATH);
                let report = Wal::verify_on(&run.disk, log, &mut |_, _| true).unwrap();
                assert_eq!(report.dropped_bytes, 0, "{report:?}");
            }
        }
        run.finish();
        counted.add(case, &run);
    });
    tally.say("short, then no space", begun);
}

/// The disk is full at each of its sizes; then there is room again.
#[test]
fn a_disk_of_every_size_fills_up_cleanly_and_the_handle_goes_on() {
    let begun = Instant::now();
    let ops = workload();
    let mut whole = Run::new(SimDisk::new(1));
    let mut most = 0;
    for op in &ops {
        whole.run(&[*op]);
        most = most.max(whole.disk.used());
    }
    let sizes: Vec<u64> = (0..=most / 4096).map(|blocks| blocks * 4096).collect();
    let count = sizes.len();
    for_each(sizes, PATIENCE, move |&size| {
        let disk = SimDisk::new(1);
        disk.set_capacity(size);
        let mut run = Run::new(disk);
        run.crash_states = crash_states();
        for op in &ops {
            let before = run.ledger.errors.len();
            run.run(&[*op]);
            if run.ledger.errors.len() == before {
                continue;
            }
            // Nothing is lost while the disk is full, and the same handle works when it is not.
            run.run(&[Op::Read]);
            run.disk.set_capacity(u64::MAX);
            let errors = run.ledger.errors.len();
            run.run(&[Op::Solo(33), Op::Read]);
            assert_eq!(run.ledger.errors.len(), errors, "{:?}", run.ledger.errors);
            run.disk.set_capacity(size);
        }
        for kind in &run.ledger.errors {
            assert_eq!(*kind, ErrorKind::Full, "{:?}", run.ledger.errors);
        }
        run.finish();
    });
    say(&format!(
        "{count} sizes of a disk that fills up, {:.1} s",
        begun.elapsed().as_secs_f64()
    ));
}

#[test]
fn several_faults_in_one_run() {
    let ops = workload();
    let seeds: Vec<u64> = (0..600).collect();
    let begun = Instant::now();
    let tally = Arc::new(Tally::default());
    let counted = Arc::clone(&tally);
    for_each(seeds, PATIENCE, move |&seed| {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::new(seed);
        for _ in 0..2 + rng.below(3) {
            let call = Call::ALL[usize::try_from(rng.below(14)).unwrap()];
            let choice = faults(call);
            let fault = choice[usize::try_from(rng.below(choice.len() as u64)).unwrap()];
            let nth = 1 + rng.below(if call == Call::Write { 120 } else { 30 });
            disk.fail(FaultPlan::new(call, nth, fault).times(1 + rng.below(3)));
        }
        let mut run = Run::new(disk);
        run.lasting = true;
        run.crash_states = crash_states();
        run.run(&ops);
        run.finish();
        counted.add(&format!("seed {seed}"), &run);
    });
    tally.say("several faults", begun);
}

// ---- threads -------------------------------------------------------------------------------------

const THREADS: usize = 8;

/// What one thread learned of one batch: its number, and the receipt or the error.
type Told = (usize, Result<duralog::Receipt, duralog::Error>);

/// Threads append until they are refused.
fn append_together(wal: &Arc<Wal>, each: usize) -> Vec<Told> {
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (wal, barrier) = (Arc::clone(wal), Arc::clone(&barrier));
            std::thread::spawn(move || {
                let mut told = Vec::new();
                barrier.wait();
                for round in 0..each {
                    let number = thread * each + round;
                    let content = [
                        (format!("{number}/0"), value(number, 0, 40)),
                        (format!("{number}/1"), value(number, 1, 40)),
                    ];
                    let records = content
                        .each_ref()
                        .map(|(key, value)| Record::put(key.as_bytes(), value));
                    let result = wal.append_batch(&records, Durability::AsOpened);
                    let stop = matches!(&result, Err(error) if !error.is_retryable());
                    told.push((number, result));
                    if stop {
                        break;
                    }
                }
                told
            })
        })
        .collect();
    let told = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap());
    told.collect()
}

#[test]
fn every_waiter_of_a_group_whose_leader_fails_wakes_and_learns_the_truth() {
    const EACH: usize = 6;
    let begun = Instant::now();
    let mut cases = Vec::new();
    for call in [Call::Write, Call::SyncData, Call::Allocate] {
        for nth in 1..=10 {
            for fault in faults(call) {
                cases.push(Case {
                    call,
                    nth,
                    fault,
                    lasting: nth % 2 == 0,
                });
            }
        }
    }
    let count = cases.len();
    let widest = Arc::new(AtomicU64::new(0));
    let seen_widest = Arc::clone(&widest);
    for_each(cases, PATIENCE, move |case| {
        let disk = SimDisk::new(case.nth);
        let wal = Arc::new(open_on(&disk, SyncMode::Every).unwrap());
        disk.set_sync_delay(Duration::from_millis(2));
        let plan = FaultPlan::new(case.call, case.nth, case.fault);
        disk.fail(if case.lasting { plan.lasting() } else { plan });
        let told = append_together(&wal, EACH);
        let poisoned = wal.sync().is_err();
        drop(wal);
        disk.clear_faults();
        disk.set_sync_delay(Duration::ZERO);
        let known = Known::unknown(2, 40);
        let wal = open_on(&disk, SyncMode::Every).unwrap();
        let found = replay(&wal, &vec![known; THREADS * EACH]).unwrap();
        let mut doubtful = 0;
        let mut ids = std::collections::HashSet::new();
        for (number, result) in &told {
            match result {
                Ok(receipt) => {
                    assert!(ids.insert(receipt.batch_id));
                    assert_eq!(found[number].batch_id, receipt.batch_id);
                }
                Err(error) if error.kind() == ErrorKind::Indeterminate => {
                    assert!(poisoned);
                    doubtful += 1;
                    assert!(ids.insert(error.place().lsn));
                    let status = wal.batch_status(error.place().lsn).unwrap();
                    let there = found.get(number).map(|seen| seen.batch_id);
                    let wanted = there.map_or(BatchStatus::Absent, |_| BatchStatus::Committed);
                    assert_eq!(status, wanted);
                    assert!(there.is_none_or(|id| id == error.place().lsn));
                }
                Err(error) => {
                    let kind = error.kind();
                    let clean = kind == ErrorKind::Full || poisoned;
                    assert!(clean, "{error}");
                    assert!(!found.contains_key(number), "{kind:?}, but it is there");
                }
            }
        }
        assert_eq!(
            found.len() as u64,
            told.iter()
                .filter(|(number, result)| result.is_ok() || found.contains_key(number))
                .count() as u64
        );
        seen_widest.fetch_max(doubtful, Ordering::Relaxed);
    });
    let widest = widest.load(Ordering::Relaxed);
    assert!(widest >= 4, "no group of waiters failed together: {widest}");
    say(&format!(
        "{THREADS} threads, {count} failures, up to {widest} batches in doubt together, {:.1} s",
        begun.elapsed().as_secs_f64()
    ));
}
