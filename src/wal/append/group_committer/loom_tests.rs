//! The group committer under loom, which runs a small number of threads in every order that the
//! memory model allows (with at most three preemptions, which finds what is to be found).
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --lib --target-dir target/loom loom
//! ```
//!
//! Shown in every order: no thread waits for ever (loom reports a deadlock), no append returns
//! success before the sync that covers its group has returned, each batch is written once and in
//! one group, and the result of a group reaches every waiter, also when the leader fails or
//! panics; after that nothing is written.

use super::*;
use crate::format::frame::{frame_flag, frame_type};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::Arc;
use loom::thread;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// What the stand-in for the segment writer does with a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plan {
    Good,
    /// This group (0 or 1; only the second can have several batches) fails in its sync: it is
    /// doubtful, and the handle is poisoned.
    SyncFails(usize),
    /// This group finds no space: nothing of it is written.
    Full(usize),
    Panics(usize),
}

/// What the disk knows, seen by all threads.
#[derive(Default)]
struct Disk {
    /// Bit for each batch, by its record count: written.
    written: AtomicUsize,
    /// Synced.
    durable: AtomicUsize,
    groups: AtomicUsize,
}

struct Sink {
    disk: Arc<Disk>,
    plan: Plan,
    /// Groups take off.
    flies: bool,
    landed: usize,
}

struct LoomFlight {
    disk: Arc<Disk>,
    plan: Plan,
    number: usize,
    bits: usize,
}

impl Flight for LoomFlight {
    fn write(&self) -> Result<()> {
        let before = self.disk.written.fetch_or(self.bits, Ordering::SeqCst);
        assert_eq!(before & self.bits, 0, "a batch was written twice");
        thread::yield_now();
        match self.plan {
            Plan::SyncFails(at) if self.number == at => {
                return Err(Error::new(ErrorKind::Io, "as planned"))
            }
            Plan::Panics(at) if self.number == at => panic!("as planned"),
            _ => {}
        }
        self.disk.durable.fetch_or(self.bits, Ordering::SeqCst);
        Ok(())
    }
}

fn bits(group: &Group) -> usize {
    let bits = group.frames.iter().map(|frame| frame.record_count);
    bits.fold(0, |all, bit| all | bit as usize)
}

fn failed(good: usize, doubtful: usize, kind: ErrorKind, poison: bool) -> GroupOutcome {
    GroupOutcome {
        good,
        doubtful,
        error: Some(Error::new(kind, "as planned")),
        poison,
    }
}

impl GroupSink for Sink {
    type Flight = LoomFlight;

    fn take_off(&mut self, group: &mut Group, _: bool) -> Option<LoomFlight> {
        if !self.flies {
            return None;
        }
        let number = self.disk.groups.fetch_add(1, Ordering::SeqCst);
        for (index, frame) in group.frames.iter_mut().enumerate() {
            frame.receipt.batch_id = Lsn(4096 + 64 * (number * 8 + index) as u64);
        }
        Some(LoomFlight {
            disk: Arc::clone(&self.disk),
            plan: self.plan,
            number,
            bits: bits(group),
        })
    }

    fn land(&mut self, flight: LoomFlight) {
        assert_eq!(flight.number, self.landed, "landed out of order");
        self.landed += 1;
    }

    fn crash(&mut self) {}

    fn durable_lsn(&self) -> Lsn {
        Lsn::NONE
    }

    fn foretold(&self) -> Foretold {
        Foretold {
            next_seq: 1,
            lsn: Lsn::FIRST,
            offset: 4096,
            segment_bytes_max: 1 << 20,
            header_size: 4096,
        }
    }

    fn write_group(&mut self, group: &mut Group, _: bool) -> GroupOutcome {
        let number = self.disk.groups.fetch_add(1, Ordering::SeqCst);
        let bits = bits(group);
        for (index, frame) in group.frames.iter_mut().enumerate() {
            frame.receipt.batch_id = Lsn(4096 + 64 * (number * 8 + index) as u64);
        }
        if self.plan == Plan::Full(number) {
            return failed(0, 0, ErrorKind::Full, false);
        }
        let before = self.disk.written.fetch_or(bits, Ordering::SeqCst);
        assert_eq!(before & bits, 0, "a batch was written twice");
        // Between the write and the end of the sync others may run.
        thread::yield_now();
        match self.plan {
            Plan::SyncFails(at) if number == at => {
                return failed(0, group.frames.len(), ErrorKind::Io, true)
            }
            Plan::Panics(at) if number == at => panic!("as planned"),
            Plan::SyncFails(at) | Plan::Panics(at) if number > at => {
                panic!("a group was written to a poisoned handle")
            }
            _ => {}
        }
        self.disk.durable.fetch_or(bits, Ordering::SeqCst);
        GroupOutcome {
            good: group.frames.len(),
            doubtful: 0,
            error: None,
            poison: false,
        }
    }
}

fn committer(disk: &Arc<Disk>, plan: Plan, flies: bool) -> GroupCommitter<Sink> {
    let sink = Sink {
        disk: Arc::clone(disk),
        plan,
        flies,
        landed: 0,
    };
    let limits = GroupLimits {
        flights_max: if flies { 2 } else { 0 },
        buffer_len_max: 0,
    };
    GroupCommitter::new(sink, limits, None)
}

/// Appends the batch that is known by one bit; what came of it, or `None` after a panic.
fn append(committer: &GroupCommitter<Sink>, bit: usize) -> Option<Result<Receipt>> {
    let mut payload = EncodedPayload::default();
    payload.record_count = u32::try_from(bit).unwrap();
    let flags = frame_flag::BEGIN | frame_flag::COMMIT;
    catch_unwind(AssertUnwindSafe(|| {
        committer.commit(&mut payload, frame_type::BATCH, flags, false)
    }))
    .ok()
}

/// Runs `threads` threads that append one batch each, in every order.
fn explore(
    threads: usize,
    plan: Plan,
    flies: bool,
    judge: impl Fn(&Disk, usize, Option<Result<Receipt>>) + Copy + Send + Sync + 'static,
    finish: impl Fn(&GroupCommitter<Sink>, &Disk) + Send + Sync + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    let executions = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&executions);
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let disk = Arc::new(Disk::default());
        let committer = Arc::new(committer(&disk, plan, flies));
        let others: Vec<_> = (1..threads)
            .map(|thread| {
                let (committer, disk) = (Arc::clone(&committer), Arc::clone(&disk));
                thread::spawn(move || judge(&disk, 1 << thread, append(&committer, 1 << thread)))
            })
            .collect();
        judge(&disk, 1, append(&committer, 1));
        for other in others {
            other.join().unwrap();
        }
        finish(&committer, &disk);
    });
    let executions = executions.load(std::sync::atomic::Ordering::Relaxed);
    println!("{threads} threads, in flight: {flies}: {executions} executions");
}

fn durable(disk: &Disk, bit: usize) -> bool {
    disk.durable.load(Ordering::SeqCst) & bit != 0
}

#[test]
fn loom_no_append_returns_before_the_sync_that_covers_it() {
    for (threads, flies) in [(2, false), (3, false), (2, true), (3, true)] {
        explore(
            threads,
            Plan::Good,
            flies,
            |disk, bit, told| {
                told.unwrap().unwrap();
                assert!(durable(disk, bit), "acknowledged before it was durable");
            },
            move |committer, disk| {
                let all = (1 << threads) - 1;
                assert_eq!(disk.durable.load(Ordering::SeqCst), all);
                let state = committer.state();
                assert!(state.finished.is_empty() && !state.leading);
                assert!(state.flights.is_empty());
            },
        );
    }
}

#[test]
fn loom_a_failed_sync_reaches_every_waiter_and_poisons() {
    for (at, flies) in [(0, false), (1, false), (0, true), (1, true)] {
        explore(
            3,
            Plan::SyncFails(at),
            flies,
            move |disk, bit, told| {
                let written = disk.written.load(Ordering::SeqCst) & bit != 0;
                let Err(error) = told.unwrap() else {
                    assert!(durable(disk, bit));
                    return;
                };
                // One in flight behind the one that failed may be there, but is not acknowledged.
                assert!(flies || !durable(disk, bit));
                match error.kind() {
                    ErrorKind::Indeterminate => {
                        assert!(written);
                        assert_ne!(error.place().lsn, Lsn::NONE);
                    }
                    ErrorKind::Poisoned => assert!(!written),
                    kind => panic!("{kind:?}"),
                }
            },
            move |committer, disk| {
                let groups = disk.groups.load(Ordering::SeqCst);
                assert!(flies || groups == at + 1, "written once");
                assert!(committer.refusal().is_some());
                assert!(committer.state().finished.is_empty());
            },
        );
    }
}

#[test]
fn loom_a_full_disk_reaches_its_group_only() {
    for at in [0, 1] {
        explore(
            3,
            Plan::Full(at),
            false,
            |disk, bit, told| match told.unwrap() {
                Ok(_) => assert!(durable(disk, bit)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Full);
                    assert!(!durable(disk, bit));
                }
            },
            |committer, disk| {
                assert!(committer.refusal().is_none());
                // The handle goes on.
                append(committer, 8).unwrap().unwrap();
                assert!(durable(disk, 8));
            },
        );
    }
}

#[test]
fn loom_a_leader_that_panics_leaves_nobody_waiting() {
    // Not in flight: loom runs its threads on one, so that a lock which another of them gives up
    // while one panics counts as poisoned.
    for at in [0, 1] {
        explore(
            3,
            Plan::Panics(at),
            false,
            |disk, bit, told| {
                let written = disk.written.load(Ordering::SeqCst) & bit != 0;
                match told {
                    // The leader itself: its panic goes on to the boundary.
                    None => assert!(written),
                    Some(Ok(_)) => assert!(durable(disk, bit)),
                    Some(Err(error)) => {
                        let wanted = match written {
                            true => ErrorKind::Indeterminate,
                            false => ErrorKind::Poisoned,
                        };
                        assert_eq!(error.kind(), wanted);
                    }
                }
            },
            |committer, _| assert!(committer.refusal().is_some()),
        );
    }
}

#[test]
fn loom_work_alone_and_groups_take_turns_until_the_handle_is_closed() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let disk = Arc::new(Disk::default());
        let committer = Arc::new(committer(&disk, Plan::Good, false));
        let (one, two) = (Arc::clone(&committer), Arc::clone(&committer));
        let seen = Arc::clone(&disk);
        let appender = thread::spawn(move || match append(&one, 2).unwrap() {
            Ok(_) => assert!(durable(&seen, 2)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed);
                assert!(!durable(&seen, 2));
            }
        });
        let alone = thread::spawn(move || {
            let done = two.alone(|sink| Alone {
                result: Ok(sink.disk.groups.load(Ordering::SeqCst)),
                poison: false,
            });
            assert!(done.is_ok_and(|groups| groups <= 1) || two.refusal().is_some());
        });
        let closed = Error::new(ErrorKind::Closed, "closed");
        committer.finally(closed, |_, _| Ok(())).unwrap();
        let refused = append(&committer, 1).unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed);
        appender.join().unwrap();
        alone.join().unwrap();
    });
}

#[test]
fn loom_tickets_are_settled_in_order_whoever_leads() {
    for flies in [false, true] {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let disk = Arc::new(Disk::default());
            let committer = Arc::new(committer(&disk, Plan::Good, flies));
            let (other, leader) = (Arc::clone(&committer), Arc::clone(&committer));
            let seen = Arc::clone(&disk);
            let appender = thread::spawn(move || {
                append(&other, 4).unwrap().unwrap();
                assert!(durable(&seen, 4));
            });
            let later = |bit: usize| {
                let mut payload = EncodedPayload::default();
                payload.record_count = u32::try_from(bit).unwrap();
                let flags = frame_flag::BEGIN | frame_flag::COMMIT;
                committer
                    .commit_later(&mut payload, frame_type::BATCH, flags, false)
                    .unwrap()
            };
            let first = later(1);
            let called = thread::spawn(move || {
                leader.state().called += 1;
                leader.lead_for_others();
            });
            let second = later(2);
            assert_eq!((first, second), (1, 2));
            committer.wait_for_ticket(second, None).unwrap().unwrap();
            assert!(durable(&disk, 1) && durable(&disk, 2));
            assert!(committer.wait_for_ticket(first, None).is_err(), "told");
            appender.join().unwrap();
            called.join().unwrap();
        });
    }
}
