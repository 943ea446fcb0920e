//! The group committer with threads and a stand-in for the segment writer, whose flights wait until
//! they are told how to end: so every order in which they can return is brought about at will.
//!
//! Shown: flights land in the order in which they took off; one that fails or panics takes along all
//! behind it, poisons, and leaves nobody waiting; tickets are settled without anyone asking, and
//! told once; what stands in the buffer keeps the place that was foretold, whoever comes between.

use super::*;
use crate::format::frame::{frame_flag, frame_type, HEADER_LEN};
use std::collections::HashMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
// The locks that ThreadSanitizer sees are those of `crate::sync`, which come with `super`.
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// Nothing here takes as long: what does, hangs.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Good,
    Fails,
    Panics,
}

/// What the test and the stand-in share.
#[derive(Default)]
struct Disk {
    told: Mutex<Told>,
    changed: Condvar,
}

#[derive(Default)]
struct Told {
    /// Flights whose write was called.
    flights: u64,
    /// How flights end, by number from 1; they wait for it.
    ends: HashMap<u64, End>,
    /// Groups written alone, and those of them (from 1) that find no space.
    groups: u64,
    full: Vec<u64>,
    /// Receipts of all that was written, in the order of the log.
    log: Vec<Receipt>,
}

impl Disk {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets this flight end.
    fn end(&self, flight: u64, end: End) {
        self.told().ends.insert(flight, end);
        self.changed.notify_all();
    }

    fn wait(&self, what: &str, ready: impl Fn(&Told) -> bool) {
        let mut told = self.told();
        let begun = Instant::now();
        while !ready(&told) {
            assert!(begun.elapsed() < PATIENCE, "{what}");
            let step = Duration::from_millis(10);
            let waited = self.changed.wait_timeout(told, step);
            told = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wait_for_flights(&self, count: u64) {
        self.wait("so many flights", |told| told.flights >= count);
    }
}

struct Sink {
    disk: Arc<Disk>,
    flies: bool,
    taken_off: u64,
    landed: u64,
    place: Foretold,
    durable_lsn: Lsn,
}

struct Waiting {
    disk: Arc<Disk>,
    number: u64,
    end_lsn: Lsn,
}

impl Flight for Waiting {
    fn write(&self) -> Result<()> {
        self.disk.told().flights += 1;
        self.disk.changed.notify_all();
        let number = self.number;
        self.disk
            .wait("an end", |told| told.ends.contains_key(&number));
        let end = self.disk.told().ends[&number];
        match end {
            End::Good => Ok(()),
            End::Fails => Err(Error::new(ErrorKind::Io, "as planned")),
            End::Panics => panic!("as planned"),
        }
    }
}

impl Sink {
    fn give_places(&mut self, group: &mut Group) {
        for frame in &mut group.frames {
            let before = frame.receipt;
            frame.receipt = self.place.next(frame);
            if frame.owner == Owner::Nobody {
                assert_eq!(before, frame.receipt, "it was foretold otherwise");
            }
            self.disk.told().log.push(frame.receipt);
        }
    }
}

impl GroupSink for Sink {
    type Flight = Waiting;

    fn take_off(&mut self, group: &mut Group, _: bool) -> Option<Waiting> {
        if !self.flies {
            return None;
        }
        self.give_places(group);
        self.taken_off += 1;
        Some(Waiting {
            disk: Arc::clone(&self.disk),
            number: self.taken_off,
            end_lsn: self.place.lsn,
        })
    }

    fn land(&mut self, flight: Waiting) {
        self.landed += 1;
        assert_eq!(flight.number, self.landed, "landed out of order");
        self.durable_lsn = flight.end_lsn;
    }

    fn crash(&mut self) {}

    fn durable_lsn(&self) -> Lsn {
        self.durable_lsn
    }

    fn foretold(&self) -> Foretold {
        self.place
    }

    fn write_group(&mut self, group: &mut Group, _: bool) -> GroupOutcome {
        let full = {
            let mut told = self.disk.told();
            told.groups += 1;
            let number = told.groups;
            told.full.contains(&number)
        };
        if full {
            return GroupOutcome::nothing(Error::new(ErrorKind::Full, "as planned"));
        }
        self.give_places(group);
        self.durable_lsn = self.place.lsn;
        GroupOutcome::good(group)
    }
}

type Committer = GroupCommitter<Sink>;

fn sink(disk: &Arc<Disk>, flies: bool) -> Sink {
    Sink {
        disk: Arc::clone(disk),
        flies,
        taken_off: 0,
        landed: 0,
        place: Foretold {
            next_seq: 1,
            lsn: Lsn::FIRST,
            offset: 4096,
            segment_bytes_max: 1 << 20,
            header_size: 4096,
        },
        durable_lsn: Lsn::FIRST,
    }
}

/// Groups fly, led for nobody in particular by threads that are started when called.
fn flying(disk: &Arc<Disk>) -> Arc<Committer> {
    let limits = GroupLimits {
        flights_max: 4,
        buffer_len_max: 0,
    };
    Arc::new_cyclic(|committer: &Weak<Committer>| {
        let committer = Weak::clone(committer);
        let call: CallLeader = Box::new(move || {
            let Some(committer) = committer.upgrade() else {
                return false;
            };
            thread::spawn(move || committer.lead_for_others());
            true
        });
        GroupCommitter::new(sink(disk, true), limits, Some(call))
    })
}

fn buffering(disk: &Arc<Disk>) -> Arc<Committer> {
    let limits = GroupLimits {
        flights_max: 0,
        buffer_len_max: 1 << 20,
    };
    Arc::new(GroupCommitter::new(sink(disk, false), limits, None))
}

/// With a buffer in which so many batches are too many.
fn buffering_less_than(
    count: usize,
    disk: &Arc<Disk>,
    call_leader: Option<CallLeader>,
) -> Committer {
    let limits = GroupLimits {
        flights_max: 0,
        buffer_len_max: count * HEADER_LEN,
    };
    GroupCommitter::new(sink(disk, false), limits, call_leader)
}

fn payload() -> EncodedPayload {
    let mut payload = EncodedPayload::default();
    payload.record_count = 1;
    payload
}

fn append(committer: &Committer, sync: bool) -> Result<Receipt> {
    let flags = frame_flag::BEGIN | frame_flag::COMMIT;
    committer.commit(&mut payload(), frame_type::BATCH, flags, sync)
}

fn append_later(committer: &Committer) -> Result<u64> {
    let flags = frame_flag::BEGIN | frame_flag::COMMIT;
    committer.commit_later(&mut payload(), frame_type::BATCH, flags, true)
}

fn ask(committer: &Committer, ticket: u64) -> Result<Receipt> {
    let told = committer.wait_for_ticket(ticket, Some(PATIENCE))?;
    Ok(told.expect("it is settled in time"))
}

/// Waits until so many tickets are settled, asking for none of them.
fn wait_until_settled(committer: &Committer, count: u64) {
    let begun = Instant::now();
    while committer.tickets().1 < count {
        assert!(begun.elapsed() < PATIENCE, "{:?}", committer.tickets());
        thread::sleep(Duration::from_millis(1));
    }
}

/// One batch in each of so many flights, whose writes have been called.
fn take_off(disk: &Disk, committer: &Committer, count: u64) {
    for flight in 1..=count {
        assert_eq!(append_later(committer).unwrap(), flight);
        disk.wait_for_flights(flight);
    }
}

#[test]
fn flights_land_in_the_order_in_which_they_took_off() {
    let disk = Arc::new(Disk::default());
    let committer = flying(&disk);
    take_off(&disk, &committer, 3);
    disk.end(3, End::Good);
    disk.end(2, End::Good);
    // Behind a hole nothing is acknowledged, however long it has been written.
    assert_eq!(
        committer.wait_for_ticket(3, Some(Duration::ZERO)).unwrap(),
        None
    );
    thread::sleep(Duration::from_millis(20));
    assert_eq!(committer.tickets(), (3, 0));
    let first = disk.told().log[0];
    assert!(!committer
        .wait_until_durable(first.end_lsn, Some(Duration::ZERO))
        .unwrap());
    disk.end(1, End::Good);
    let last = ask(&committer, 3).unwrap();
    assert_eq!(last, disk.told().log[2]);
    assert_eq!(committer.tickets(), (0, 0));
    assert!(committer
        .wait_until_durable(last.end_lsn, Some(Duration::ZERO))
        .unwrap());
}

#[test]
fn a_small_group_is_not_written_beside_a_large_one() {
    let disk = Arc::new(Disk::default());
    let committer = flying(&disk);
    // As if a group were being written, so that they wait for each other.
    committer.state().leading = true;
    for ticket in 1..=8 {
        assert_eq!(append_later(&committer).unwrap(), ticket);
    }
    committer.state().leading = false;
    for ticket in 9..=9 + 5 {
        // The first leads all that waits, and flies with them.
        assert_eq!(append_later(&committer).unwrap(), ticket);
        disk.wait_for_flights(1);
        assert_eq!(disk.told().flights, 1);
    }
    // 9 batches are in flight, and three quarters of them are 7.
    assert_eq!(committer.state().open.frames.len(), 5);
    for ticket in 15..=16 {
        assert!(disk.told().flights <= 1, "not before it has 7");
        assert_eq!(append_later(&committer).unwrap(), ticket);
    }
    disk.wait_for_flights(2);
    assert_eq!(append_later(&committer).unwrap(), 17);
    // However small it is: with nothing in flight any more it is written.
    disk.end(1, End::Good);
    disk.end(2, End::Good);
    disk.wait_for_flights(3);
    disk.end(3, End::Good);
    assert_eq!(ask(&committer, 17).unwrap(), disk.told().log[16]);
}

#[test]
fn one_that_fails_takes_along_all_behind_it_and_each_is_told_once() {
    for end in [End::Fails, End::Panics] {
        let disk = Arc::new(Disk::default());
        let committer = flying(&disk);
        take_off(&disk, &committer, 4);
        // Waits for a place among the flights, and finds the handle poisoned.
        assert_eq!(append_later(&committer).unwrap(), 5);
        disk.end(4, End::Good);
        disk.end(3, End::Good);
        disk.end(2, end);
        let begun = Instant::now();
        let ended = |flight: &InFlight<Waiting>| flight.ended.is_some();
        while committer
            .state()
            .flights
            .iter()
            .filter(|f| ended(f))
            .count()
            < 3
        {
            assert!(begun.elapsed() < PATIENCE, "flights do not end");
            thread::sleep(Duration::from_millis(1));
        }
        disk.end(1, End::Good);
        wait_until_settled(&committer, 5);
        assert_eq!(ask(&committer, 1).unwrap(), disk.told().log[0]);
        for ticket in 2..=4 {
            // Also when a later one is asked for, the first that failed is told first.
            let error = ask(&committer, 4).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Indeterminate, "{end:?}: {error}");
            let batch = disk.told().log[ticket - 1];
            assert_eq!(error.place().lsn, batch.batch_id);
        }
        let told = ask(&committer, 4).unwrap_err();
        assert_eq!(told.kind(), ErrorKind::InvalidArgument, "{told}");
        assert_eq!(ask(&committer, 5).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(
            append(&committer, true).unwrap_err().kind(),
            ErrorKind::Poisoned
        );
        assert_eq!(
            append_later(&committer).unwrap_err().kind(),
            ErrorKind::Poisoned
        );
        assert_eq!(disk.told().log.len(), 4, "nothing more was written");
    }
}

#[test]
fn a_flight_that_panics_leaves_no_thread_waiting() {
    for panics in 1..=4 {
        let disk = Arc::new(Disk::default());
        let committer = flying(&disk);
        let outcomes: Vec<_> = (0..8)
            .map(|_| {
                let committer = Arc::clone(&committer);
                thread::spawn(move || {
                    catch_unwind(AssertUnwindSafe(|| append(&committer, true))).ok()
                })
            })
            .collect();
        // Each flies alone, or with those that came while it could not.
        for flight in 1..=8 {
            let end = if flight == panics {
                End::Panics
            } else {
                End::Good
            };
            disk.end(flight, end);
        }
        let begun = Instant::now();
        while outcomes.iter().any(|thread| !thread.is_finished()) {
            assert!(begun.elapsed() < PATIENCE, "a thread waits for ever");
            thread::sleep(Duration::from_millis(1));
        }
        for thread in outcomes {
            match thread.join().unwrap() {
                None | Some(Ok(_)) => {}
                Some(Err(error)) => {
                    let kind = error.kind();
                    let fine = matches!(kind, ErrorKind::Indeterminate | ErrorKind::Poisoned);
                    assert!(fine, "{error}");
                }
            }
        }
    }
}

#[test]
fn tickets_are_settled_though_nobody_asks() {
    let disk = Arc::new(Disk::default());
    let committer = flying(&disk);
    let rung = Arc::new(AtomicUsize::new(0));
    let bell = Arc::clone(&rung);
    committer.on_settled(Box::new(move || {
        bell.fetch_add(1, Ordering::SeqCst);
    }));
    for flight in 1..=20 {
        disk.end(flight, End::Good);
    }
    for _ in 0..20 {
        append_later(&committer).unwrap();
    }
    wait_until_settled(&committer, 20);
    assert_eq!(rung.load(Ordering::SeqCst), 20);
    assert_eq!(committer.tickets(), (20, 20));
    assert!(ask(&committer, 7).is_ok());
    assert_eq!(committer.tickets(), (13, 13));
    let kind = |ticket| ask(&committer, ticket).unwrap_err().kind();
    assert_eq!([0, 7, 21].map(kind), [ErrorKind::InvalidArgument; 3]);
    assert!(ask(&committer, 20).is_ok());
}

#[test]
fn closing_settles_what_has_no_thread() {
    let disk = Arc::new(Disk::default());
    let committer = flying(&disk);
    take_off(&disk, &committer, 4);
    for _ in 0..3 {
        append_later(&committer).unwrap();
    }
    let closing = {
        let committer = Arc::clone(&committer);
        let closed = Error::new(ErrorKind::Closed, "closed");
        thread::spawn(move || committer.finally(closed, |_, _| Ok(())))
    };
    thread::sleep(Duration::from_millis(10));
    assert!(!closing.is_finished(), "flights are under way");
    for flight in 1..=8 {
        disk.end(flight, End::Good);
    }
    closing.join().unwrap().unwrap();
    assert_eq!(committer.tickets(), (7, 7));
    assert_eq!(ask(&committer, 7).unwrap(), disk.told().log[6]);
}

#[test]
fn who_works_alone_waits_for_all_flights() {
    let disk = Arc::new(Disk::default());
    let committer = flying(&disk);
    take_off(&disk, &committer, 2);
    let alone = {
        let committer = Arc::clone(&committer);
        thread::spawn(move || committer.alone(|sink| Alone::done(sink.landed)))
    };
    let begun = Instant::now();
    while committer.state().alone_waiting == 0 && !alone.is_finished() {
        assert!(begun.elapsed() < PATIENCE, "it does not come");
        thread::sleep(Duration::from_millis(1));
    }
    disk.end(2, End::Good);
    disk.end(1, End::Good);
    assert_eq!(alone.join().unwrap().unwrap(), 2);
}

#[test]
fn who_asks_leads_where_no_other_thread_is_to_be_had() {
    let disk = Arc::new(Disk::default());
    let limits = GroupLimits {
        flights_max: 4,
        buffer_len_max: 0,
    };
    let nobody: CallLeader = Box::new(|| false);
    let committer = GroupCommitter::new(sink(&disk, true), limits, Some(nobody));
    disk.end(1, End::Good);
    disk.end(2, End::Good);
    assert_eq!(append_later(&committer).unwrap(), 1);
    let receipt = ask(&committer, 1).unwrap();
    assert_eq!(append_later(&committer).unwrap(), 2);
    let end = Lsn(receipt.end_lsn.0 + 64);
    assert!(committer.wait_until_durable(end, Some(PATIENCE)).unwrap());
}

#[test]
fn who_never_asks_is_refused_in_the_end() {
    let disk = Arc::new(Disk::default());
    let limits = GroupLimits::default();
    let committer = GroupCommitter::new(sink(&disk, false), limits, None);
    for _ in 0..tickets::UNTOLD_MAX {
        append_later(&committer).unwrap();
    }
    assert_eq!(
        append_later(&committer).unwrap_err().kind(),
        ErrorKind::Busy
    );
    ask(&committer, 1).unwrap();
    append_later(&committer).unwrap();
}

/// Returns when a thread has come so far.
fn wait_until<S: GroupSink>(
    committer: &GroupCommitter<S>,
    so_far: impl Fn(&State<S::Flight>) -> bool,
) {
    let begun = Instant::now();
    while !so_far(&committer.state()) {
        assert!(begun.elapsed() < PATIENCE, "it does not come");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Finishes a group whose thread waits, and is to be woken when the lock is given up. It then wakes those
/// who wait for what is durable.
fn finish_a_group(committer: &Arc<Committer>) -> (JoinHandle<Result<Receipt>>, Guard<'_, Sink>) {
    committer.state().leading = true;
    let waiter = {
        let committer = Arc::clone(committer);
        thread::spawn(move || {
            let receipt = append(&committer, true);
            committer.durable.notify_all();
            receipt
        })
    };
    wait_until(committer, |state| state.waiting[slot(0)] > 0);
    let mut state = committer.state();
    state.leading = false;
    let group = state.swap_open();
    let outcome = GroupOutcome::good(&group);
    state.finish(0, group, outcome);
    state.wake_group(0);
    (waiter, state)
}

/// A thread that was woken may run late, when its place is another group's already: it must not
/// count as one that will lead that group.
#[test]
fn a_thread_that_was_woken_does_not_count_as_waiting() {
    let disk = Arc::new(Disk::default());
    let committer = flying(&disk);
    let (waiter, state) = finish_a_group(&committer);
    assert_eq!(state.waiting, [0; SLOTS]);
    drop(state);
    assert!(waiter.join().unwrap().is_ok());
    assert_eq!(committer.state().waiting, [0; SLOTS]);
}

#[test]
fn who_waits_wakes_first_whom_he_is_to_wake() {
    let disk = Arc::new(Disk::default());
    let committer = flying(&disk);
    let (waiter, state) = finish_a_group(&committer);
    let begun = Instant::now();
    drop(committer.wait_for_durable(state, PATIENCE));
    assert!(begun.elapsed() < PATIENCE, "he was not woken");
    assert!(waiter.join().unwrap().is_ok());
}

// ---- the buffer ----------------------------------------------------------------------------------

#[test]
fn what_is_buffered_is_written_before_anyone_has_the_writer_to_himself() {
    let disk = Arc::new(Disk::default());
    let committer = buffering(&disk);
    // As if a group were being written: what comes now waits.
    committer.state().leading = true;
    let foretold = append(&committer, false).unwrap();
    let durable = {
        let committer = Arc::clone(&committer);
        thread::spawn(move || append(&committer, true))
    };
    wait_until(&committer, |state| state.waiting[slot(0)] > 0);
    let alone = {
        let committer = Arc::clone(&committer);
        thread::spawn(move || {
            committer.alone(|sink| {
                // What a checkpoint does: it takes the next place.
                let place = sink.place;
                sink.place.lsn = Lsn(place.lsn.0 + 64);
                sink.place.offset += 64;
                sink.place.next_seq += 1;
                Alone::done(place)
            })
        })
    };
    wait_until(&committer, |state| state.alone_waiting > 0);
    let mut state = committer.state();
    state.leading = false;
    state.wake_leader();
    committer.turn.notify_all();
    drop(state);
    let place = alone.join().unwrap().unwrap();
    let durable = durable.join().unwrap().unwrap();
    assert_eq!(disk.told().log, [foretold, durable]);
    assert_eq!(place.lsn, durable.end_lsn);
    assert!(append(&committer, false).is_ok());
}

#[test]
fn a_buffered_batch_that_finds_no_space_poisons() {
    let disk = Arc::new(Disk::default());
    disk.told().full = vec![1];
    let committer = buffering(&disk);
    append(&committer, false).unwrap();
    let error = committer.alone(|_| Alone::done(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
    assert_eq!(
        append(&committer, false).unwrap_err().kind(),
        ErrorKind::Poisoned
    );
    assert!(disk.told().log.is_empty());
}

#[test]
fn a_batch_that_finds_no_space_moves_nothing_if_nothing_is_buffered() {
    let disk = Arc::new(Disk::default());
    disk.told().full = vec![1];
    let committer = buffering(&disk);
    assert_eq!(
        append(&committer, true).unwrap_err().kind(),
        ErrorKind::Full
    );
    let foretold = append(&committer, false).unwrap();
    let durable = append(&committer, true).unwrap();
    assert_eq!(disk.told().log, [foretold, durable]);
}

#[test]
fn a_buffer_that_is_half_full_is_written_by_a_thread_that_is_called() {
    let disk = Arc::new(Disk::default());
    let committer = Arc::new_cyclic(|committer: &Weak<Committer>| {
        let committer = Weak::clone(committer);
        let call: CallLeader = Box::new(move || {
            let committer = committer.upgrade().expect("who calls is there");
            thread::spawn(move || committer.lead_for_others());
            true
        });
        buffering_less_than(10, &disk, Some(call))
    });
    let first: Vec<_> = (0..4).map(|_| append(&committer, false).unwrap()).collect();
    assert_eq!(committer.state().called, 0, "less than half");
    // As if a group were being written: the other half fills, and nobody is called.
    committer.state().leading = true;
    let second: Vec<_> = (0..4).map(|_| append(&committer, false).unwrap()).collect();
    assert_eq!(committer.state().called, 0);
    assert!(disk.told().log.is_empty());
    committer.state().leading = false;
    let last = append(&committer, false).unwrap();
    disk.wait("it is written", |told| told.log.len() == 9);
    assert_eq!(disk.told().log, [first, second, vec![last]].concat());
}

#[test]
fn a_buffer_that_is_full_is_written_by_who_finds_it_so_where_no_thread_is_to_be_had() {
    let nobody: CallLeader = Box::new(|| false);
    for call_leader in [None, Some(nobody)] {
        let disk = Arc::new(Disk::default());
        let committer = buffering_less_than(10, &disk, call_leader);
        let mut foretold: Vec<_> = (0..10)
            .map(|_| append(&committer, false).unwrap())
            .collect();
        assert!(disk.told().log.is_empty());
        foretold.push(append(&committer, false).unwrap());
        assert_eq!(disk.told().log, foretold);
    }
}
