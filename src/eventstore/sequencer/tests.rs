//! Turns and those who wait for them, with requests of one thread that are given a turn together, and with
//! threads that are brought to a certain place of their wait.

use super::payload::STREAMS_SPARE_MAX;
use super::*;
use crate::eventstore::{
    AppendRequest, EventStore, EventStoreOptions, Expectation, Expected, NameKind, NewEvent, Read,
    Selection, SideRecord, SubscribeFrom,
};
use crate::vfs::sim::{errno, Call, CrashStates, Fault, FaultPlan, Fill, SimDisk};
use std::sync::mpsc::{self, Receiver};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// An event in each of the streams.
fn request<S: AsRef<str>>(streams: &[S]) -> Prepared {
    let of = |stream| NewEvent {
        stream,
        event_type: "Happened",
        ..NewEvent::default()
    };
    let events: Vec<NewEvent<'_>> = streams.iter().map(|stream| of(stream.as_ref())).collect();
    let request = AppendRequest {
        events: &events,
        ..AppendRequest::default()
    };
    Prepared::new(&request).unwrap()
}

/// An event with an idempotency key.
fn keyed() -> Prepared {
    Prepared::new(&AppendRequest {
        events: &[NewEvent {
            stream: "s",
            event_type: "Happened",
            ..NewEvent::default()
        }],
        idempotency_key: Some(b"key"),
        ..AppendRequest::default()
    })
    .unwrap()
}

/// Requests that had a turn together, with tickets from 0 on; the last one is the leader's own.
fn turn(store: &EventStore, requests: Vec<Prepared>) -> Turn<'_> {
    let own_ticket = requests.len() as u64 - 1;
    let waiting = |(ticket, request)| Waiting {
        ticket,
        request,
        durability: Durability::AsOpened,
    };
    let mut turn = Turn {
        sequencer: &store.sequencer,
        number: 0,
        taken: (0..).zip(requests).map(waiting).collect(),
        results: Vec::new(),
        own_ticket,
        decided: 0,
        refusal: None,
        complete: false,
        settled: false,
    };
    store.sequencer.take_turn(&mut turn);
    turn.complete = true;
    turn
}

/// What becomes of them.
fn results(store: &EventStore, requests: Vec<Prepared>) -> Vec<Result<AppendReceipt>> {
    let mut turn = turn(store, requests);
    turn.results.drain(..).map(Option::unwrap).collect()
}

/// A request that is left for the next turn must not be left alone: until it has its result, one of
/// those who wait leads, and nobody would wake its own thread, which does not sleep.
#[test]
fn a_leader_finds_what_is_left_for_the_next_turn_in_the_queue() {
    let disk = Arc::new(SimDisk::new(1));
    let store = EventStore::open_on(disk, "/store", &EventStoreOptions::default()).unwrap();
    let mut turn = turn(&store, vec![keyed(), keyed()]);
    let (mut queue, own_result) = turn.settle();
    assert!(own_result.is_none() && !queue.leading);
    let left: Vec<u64> = queue.waiting.iter().map(|waiting| waiting.ticket).collect();
    assert_eq!(left, [1]);
    let first = queue.finished.remove(&0).unwrap().unwrap();
    let again = queue.waiting.remove(0).request;
    drop(queue);
    drop(turn);
    let again = results(&store, vec![again]).remove(0).unwrap();
    assert!(!first.duplicate && again.duplicate);
    assert_eq!(again.first_position, first.first_position);
}

#[test]
fn what_a_request_of_many_streams_needed_is_given_back() {
    let disk = Arc::new(SimDisk::new(1));
    let store = EventStore::open_on(disk, "/store", &EventStoreOptions::default()).unwrap();
    let kept = || {
        let desk = store.sequencer.desk.lock().unwrap();
        desk.encoding.before.capacity()
    };
    let streams: Vec<String> = (0..5000).map(|number| format!("s-{number:04}")).collect();
    results(&store, vec![request(&streams)]).remove(0).unwrap();
    assert!(kept() <= STREAMS_SPARE_MAX, "room for {} streams", kept());
}

#[test]
fn versions_stay_gapless_when_a_request_before_fails_half_way() {
    let disk = Arc::new(SimDisk::new(1));
    let open = || EventStore::open_on(disk.clone(), "/store", &EventStoreOptions::default());
    let store = open().unwrap();
    let streams: Vec<String> = (0..3000).map(|number| format!("s-{number:04}")).collect();
    results(&store, vec![request(&streams)]).remove(0).unwrap();
    store.close().unwrap();
    let store = open().unwrap();
    // Its version is at hand from now on; that of the last stream would have to be looked up.
    results(&store, vec![request(&["s-0000"])])
        .remove(0)
        .unwrap();
    let broken = Fault::Error(errno::EIO);
    disk.fail(FaultPlan::new(Call::Read, 1, broken).lasting());
    let half_way = request(&["s-0000", "s-0000", "s-2999"]);
    let mut both = results(&store, vec![half_way, request(&["s-0000"])]);
    let receipt = both.remove(1).unwrap();
    let error = both.remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(receipt.first_position, 3002);
    assert_eq!(receipt.stream_versions, [("s-0000".to_string(), 3)]);
    disk.clear_faults();
    let selection = Selection::Stream("s-0000".to_string());
    let read = Read {
        selection,
        ..Read::default()
    };
    let mut reader = store.read(read).unwrap();
    let page = reader.next_page(10).unwrap();
    let versions: Vec<u64> = page.iter().map(|event| event.stream_version).collect();
    assert_eq!(versions, [1, 2, 3]);
}

// ---- a group that fails --------------------------------------------------------------------------

/// An event with an id, a tag, a key, a saved position and a value, for a stream of this version.
fn rich(number: u8, version: u64) -> Prepared {
    let position = u64::from(number);
    Prepared::new(&AppendRequest {
        events: &[NewEvent {
            stream: "s",
            event_type: "Rich",
            data: &[number],
            tags: &[["", "t1", "t2", "t3"][usize::from(number)]],
            id: Some([number; 16]),
            ..NewEvent::default()
        }],
        expectations: &[Expectation {
            stream: "s",
            expected: Expected::Exact(version),
        }],
        side_records: &[
            SideRecord::SavePosition {
                name: "p",
                position,
                reset: false,
            },
            SideRecord::PutState {
                key: b"k",
                value: &[number],
            },
        ],
        idempotency_key: Some(&[number]),
        ..AppendRequest::default()
    })
    .unwrap()
}

/// Everything that a handle says.
fn said(store: &EventStore) -> String {
    let mut all = format!("{} events;", store.last_position().unwrap());
    let read = |selection| {
        let mut found = String::new();
        let read = Read {
            selection,
            ..Read::default()
        };
        let mut reader = store.read(read).unwrap();
        while !reader.next_page(10).unwrap().is_empty() {
            for event in reader.page().iter() {
                let (position, stream, version) =
                    (event.position, event.stream, event.stream_version);
                found += &format!(" {position} {stream}/{version} {:?}", event.data);
            }
        }
        found
    };
    all += &read(Selection::All);
    for stream in ["s", "new"] {
        all += &read(Selection::Stream(stream.to_string()));
        all += &read(Selection::Category(stream.to_string()));
        all += &format!(" {:?}", store.stream_info(stream).unwrap());
    }
    for number in 1..6 {
        let by_id = store.event_by_id(&[number; 16]).unwrap().len();
        let at = store.event_at(u64::from(number)).unwrap().len();
        all += &format!(" {by_id} {at}");
    }
    for kind in [
        NameKind::Stream,
        NameKind::Category,
        NameKind::Type,
        NameKind::Tag,
    ] {
        all += &format!(" {:?}", store.names(kind, None, "", 10).unwrap());
    }
    let saved = store.saved_position("p").unwrap();
    all + &format!(" {saved:?} {:?}", store.state(b"k").unwrap())
}

/// How calls on the log's files fail, and of what kind the errors are.
const FAILURES: [(Call, Fault, &[ErrorKind]); 7] = [
    (
        Call::SyncData,
        Fault::Error(errno::EIO),
        &[ErrorKind::Indeterminate],
    ),
    (
        Call::SyncData,
        Fault::ErrorAfter(errno::EIO),
        &[ErrorKind::Indeterminate],
    ),
    (
        Call::SyncData,
        Fault::Error(errno::ENOSPC),
        &[ErrorKind::Indeterminate],
    ),
    (
        Call::Write,
        Fault::Error(errno::EIO),
        &[ErrorKind::Indeterminate],
    ),
    (
        Call::Write,
        Fault::ErrorAfter(errno::EIO),
        &[ErrorKind::Indeterminate],
    ),
    (Call::Write, Fault::Error(errno::ENOSPC), &[ErrorKind::Full]),
    (
        Call::Write,
        Fault::ErrorAfter(errno::ENOSPC),
        &[ErrorKind::Full, ErrorKind::Indeterminate],
    ),
];

#[test]
fn a_group_that_fails_leaves_what_its_handle_says_as_it_was() {
    for (call, fault, kinds) in FAILURES {
        let disk = Arc::new(SimDisk::new(1));
        let options = EventStoreOptions::default();
        let store = EventStore::open_on(disk.clone(), "/store", &options).unwrap();
        results(&store, vec![rich(1, 0)]).remove(0).unwrap();
        let mut reader = store.read(Read::default()).unwrap();
        let from = SubscribeFrom::Beginning;
        let mut subscription = store.subscribe(Selection::All, &from, None).unwrap();
        let now = Some(Duration::ZERO);
        assert_eq!(reader.next_page(10).unwrap().len(), 1);
        assert_eq!(subscription.next_page(10, now).unwrap().len(), 1);
        let before = said(&store);
        disk.fail(FaultPlan::new(call, 1, fault).on(".wal").lasting());
        // The first conflict is with what was there, the second one with the group.
        let group = vec![
            rich(2, 9),
            rich(2, 1),
            request(&["new"]),
            rich(2, 1),
            rich(3, 1),
            request(&["new", "s"]),
        ];
        let mut turn = turn(&store, group);
        // The same request again waits until it is known what came of the first one.
        assert_eq!(turn.decided, 3);
        let mut told: Vec<_> = turn.results.drain(..).collect();
        told.truncate(turn.decided);
        drop(turn);
        let told: Vec<ErrorKind> = told
            .into_iter()
            .map(|told| told.unwrap().unwrap_err().kind())
            .collect();
        let case = format!("{call:?} {fault:?}: {told:?}");
        assert_eq!(told[0], ErrorKind::Conflict, "{case}");
        assert!(told[1..].iter().all(|kind| kinds.contains(kind)), "{case}");
        let goes_on = told[1] == ErrorKind::Full;
        let next = vec![rich(3, 1), request(&["new", "s"])];
        let later = results(&store, next).into_iter();
        let later: Vec<ErrorKind> = later.map(|told| told.unwrap_err().kind()).collect();
        let expected = if goes_on {
            told[1]
        } else {
            ErrorKind::Poisoned
        };
        assert_eq!(later, [expected; 2], "{case}");
        assert_eq!(said(&store), before, "{case}");
        assert_eq!(reader.next_page(10).unwrap().len(), 0, "{case}");
        assert_eq!(subscription.next_page(10, now).unwrap().len(), 0, "{case}");
        assert_eq!(subscription.position(), 1, "{case}");
        disk.clear_faults();
        if goes_on {
            results(&store, vec![rich(2, 1)]).remove(0).unwrap();
            assert_eq!(store.last_position().unwrap(), 2, "{case}");
            continue;
        }
        let refused = results(&store, vec![request(&["new"])]).remove(0);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Poisoned, "{case}");
        assert_eq!(said(&store), before, "{case}");
        std::mem::forget(store);
        // What the program that goes on finds, and what a power cut leaves: all of the first requests.
        let states = CrashStates::new(&disk, disk.now(), Fill::Zero);
        let images = states.states(1, 20).map(|state| state.image());
        for image in images.chain([disk.image()]) {
            let disk = Arc::new(SimDisk::from_image(&image, 2));
            let store = EventStore::open_on(disk, "/store", &options).unwrap();
            let last = store.last_position().unwrap();
            assert!((1..=3).contains(&last), "{case}, {last} events");
            assert_eq!(said(&store) == before, last == 1, "{case}");
            let again = results(&store, vec![rich(2, 1)]).remove(0).unwrap();
            assert_eq!(again.duplicate, last > 1, "{case}");
            assert_eq!(again.last_position, 2, "{case}");
            assert_eq!(store.saved_position("p").unwrap(), Some(2), "{case}");
        }
    }
}

/// A verdict on a request that rests on another one of its group is no verdict if that one failed.
#[test]
fn a_conflict_with_a_request_that_failed_is_told_as_its_failure() {
    let disk = Arc::new(SimDisk::new(1));
    let store = EventStore::open_on(disk.clone(), "/store", &EventStoreOptions::default()).unwrap();
    results(&store, vec![rich(1, 0)]).remove(0).unwrap();
    let broken = Fault::Error(errno::EIO);
    disk.fail(FaultPlan::new(Call::SyncData, 1, broken).on(".wal"));
    // Without the first one the second would be accepted.
    let told = results(&store, vec![rich(2, 1), rich(3, 1)]).into_iter();
    let told: Vec<ErrorKind> = told.map(|told| told.unwrap_err().kind()).collect();
    assert_eq!(told, [ErrorKind::Indeterminate; 2]);
}

#[test]
fn an_append_beyond_the_last_position_is_refused() {
    let disk = Arc::new(SimDisk::new(1));
    let store = EventStore::open_on(disk, "/store", &EventStoreOptions::default()).unwrap();
    results(&store, vec![request(&["s"])]).remove(0).unwrap();
    store.sequencer.published.set(POSITION_MAX - 2);
    let error = results(&store, vec![request(&["s", "s"])]).remove(0);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    // Nothing came of it.
    store.sequencer.published.set(1);
    let receipt = results(&store, vec![request(&["s"])]).remove(0).unwrap();
    assert_eq!(receipt.first_position, 2);
}

// ---- waiting -------------------------------------------------------------------------------------

/// Nothing here takes as long: what does, hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Threads that append, each with the result to come.
type Appending = Receiver<Result<AppendReceipt>>;

fn append(store: &Arc<EventStore>, request: Prepared) -> Appending {
    let (tell, told) = mpsc::channel();
    let store = Arc::clone(store);
    thread::spawn(move || {
        let result = store.sequencer.append(request, Durability::AsOpened);
        // Who has given up is told nothing.
        let _ = tell.send(result);
    });
    told
}

/// A store in which turn 0 seems to be under way, so that who comes waits for turn 1.
fn store_under_way() -> Arc<EventStore> {
    let disk = Arc::new(SimDisk::new(1));
    let store = EventStore::open_on(disk, "/store", &EventStoreOptions::default()).unwrap();
    let mut queue = store.sequencer.queue();
    (queue.leading, queue.turn) = (true, 1);
    drop(queue);
    Arc::new(store)
}

/// The queue, when so many threads sleep in each place.
fn wait_until_asleep(store: &EventStore, sleeping: [usize; 2]) -> MutexGuard<'_, Queue> {
    let begun = Instant::now();
    loop {
        let queue = store.sequencer.queue();
        if queue.sleeping == sleeping {
            return queue;
        }
        let found = queue.sleeping;
        drop(queue);
        assert!(begun.elapsed() < PATIENCE, "{found:?}, not {sleeping:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn when_a_turn_is_over_one_of_those_who_wait_leads_the_next() {
    let store = store_under_way();
    let both = [
        append(&store, request(&["a"])),
        append(&store, request(&["b"])),
    ];
    let mut queue = wait_until_asleep(&store, [0, 2]);
    queue.leading = false;
    store.sequencer.wake(queue, 0);
    let mut positions = both.map(|one| one.recv_timeout(PATIENCE).unwrap().unwrap().first_position);
    positions.sort_unstable();
    assert_eq!(positions, [1, 2]);
    assert_eq!(store.sequencer.queue().turn, 2, "one turn for both");
}

#[test]
fn who_is_left_for_a_later_turn_has_one() {
    let store = store_under_way();
    let requests = [keyed(), request(&["a"]), request(&["b"]), keyed()];
    let all: Vec<Appending> = (1..)
        .zip(requests)
        .map(|(asleep, request)| {
            let told = append(&store, request);
            drop(wait_until_asleep(&store, [0, asleep]));
            told
        })
        .collect();
    let mut queue = store.sequencer.queue();
    // Who sleeps longest leads. His own request, the last now, has the key of the one before it: it is
    // left for later, and he goes on leading.
    queue.waiting.rotate_left(1);
    queue.leading = false;
    store.sequencer.wake(queue, 0);
    let result = |told: Appending| told.recv_timeout(PATIENCE).unwrap().unwrap();
    let receipts: Vec<AppendReceipt> = all.into_iter().map(result).collect();
    let positions: Vec<u64> = receipts.iter().map(|r| r.first_position).collect();
    assert_eq!(positions, [3, 1, 2, 3]);
    assert!(receipts[0].duplicate && !receipts[3].duplicate);
    assert_eq!(store.sequencer.queue().turn, 3);
}

/// Left for later, it wakes when another leads already: it must wait for that turn, not for its first.
#[test]
fn who_is_left_for_a_later_turn_waits_for_that_one() {
    let store = store_under_way();
    let left = append(&store, request(&["a"]));
    // Turn 1 took the request and left it, and turn 2 took it before its thread looked.
    let mut queue = wait_until_asleep(&store, [0, 1]);
    let taken = queue.waiting.remove(0);
    queue.turn = 3;
    drop(queue);
    store.sequencer.done[1].notify_all();
    let mut queue = wait_until_asleep(&store, [1, 0]);
    let result = Err(Error::new(ErrorKind::Io, "as planned"));
    queue.finished.insert(taken.ticket, result);
    queue.leading = false;
    store.sequencer.wake(queue, 2);
    let told = left.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Io, "{told}");
}
