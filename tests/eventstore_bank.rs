//! Deciders that get in each other's way never book twice: a bank with transfers between accounts,
//! guarded by expected versions or by conditions over tags, and the standard examples of dynamic
//! consistency boundaries.
//!
//! The bank also runs in child processes that are killed with SIGKILL at random moments, while they
//! open the store, append, or make runs of the index. Whatever they were told is there once; what
//! they asked and got no answer to is asked again by the next child with the same event ids, and is
//! there once as well. All the time somebody audits the bank, and goes on from where its saved
//! position stands after each kill. What is checked of a bank is written in `common/bank.rs`.
//!
//! `DURALOG_KILLS` sets how many (40), `DURALOG_SEED` repeats the choices of a run; the moments of
//! the kills are never quite the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/bank.rs"]
mod bank;
mod common;
#[path = "common/process.rs"]
mod process;

use bank::{Auditor, Transfer};
use duralog::eventstore::{
    AppendReceipt, AppendRequest, Condition, EventStore, EventStoreOptions, IndexLimits, NewEvent,
    Query, QueryItem, Read, Selection,
};
use duralog::vfs::sim::SimDisk;
use duralog::{Durability, ErrorKind, WalOptions};
use process::{say, Random, Reporter, PATIENCE};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

const ACCOUNTS: u64 = 100;

/// Layers so small that runs are made and merged all the time.
fn options() -> EventStoreOptions {
    EventStoreOptions {
        wal: WalOptions {
            segment_bytes_max: 256 << 10,
            ..WalOptions::default()
        },
        index: IndexLimits {
            freeze_events: 64,
            tier_runs: 4,
            close_events: 16,
            ..IndexLimits::default()
        },
        ..EventStoreOptions::default()
    }
}

fn open(path: &Path) -> EventStore {
    EventStore::open(path, &options()).unwrap()
}

fn transfer(seed: u64, number: u64) -> Transfer {
    Transfer::from_seed(seed, number, ACCOUNTS)
}

/// What threads came to. ThreadSanitizer sees who waits for a thread, but not the end of a scope.
fn join<T>(threads: Vec<ScopedJoinHandle<'_, T>>) -> Vec<T> {
    let joined = threads.into_iter().map(|thread| thread.join().unwrap());
    joined.collect()
}

#[test]
fn transfers_of_many_threads_lose_and_double_nothing() {
    const THREADS: u64 = 16;
    const EACH: u64 = 60;
    let begun = Instant::now();
    let seed = process::seed();
    say(&format!("DURALOG_SEED={seed}"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank");
    let store = open(&path);
    bank::open_accounts(&store, ACCOUNTS).unwrap();
    let conflicts = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let mut threads = vec![scope.spawn(|| {
            let last = ACCOUNTS + 2 * THREADS * EACH;
            let mut audited = 0;
            while audited < last {
                // One that begins from where the one before it has saved.
                let mut auditor = Auditor::resume(&store).unwrap();
                for _ in 0..5 {
                    audited = auditor.step(&store, PATIENCE).unwrap().unwrap();
                    if audited == last {
                        break;
                    }
                }
            }
        })];
        threads.extend((0..THREADS).map(|thread| {
            let (store, conflicts) = (&store, &conflicts);
            scope.spawn(move || {
                for round in 0..EACH {
                    let mut transfer = transfer(seed, 1 + thread * EACH + round);
                    // A few accounts that all want.
                    if round % 3 == 0 {
                        (transfer.from, transfer.to) = (thread % 2, 2 + thread % 3);
                    }
                    let (receipt, lost) = transfer.carry_out(store).unwrap();
                    assert!(!receipt.duplicate);
                    conflicts.fetch_add(lost, Ordering::Relaxed);
                }
            })
        }));
        join(threads);
    });
    let all: Vec<u64> = (1..=THREADS * EACH).collect();
    let found = bank::check(&store).unwrap();
    assert!(found.keys().eq(&all));
    let audited = bank::check_audit(&store).unwrap();
    assert_eq!(audited, store.last_position().unwrap());
    let again = transfer(seed, 5).attempt(&store).unwrap();
    assert!(again.duplicate);
    assert_eq!(again.first_position, found[&5]);
    store.close().unwrap();
    drop(store);
    assert_eq!(bank::check(&open(&path)).unwrap(), found);
    let conflicts = conflicts.into_inner();
    say(&format!(
        "{} transfers of {THREADS} threads, {conflicts} conflicts, {:.1} s",
        all.len(),
        begun.elapsed().as_secs_f64()
    ));
    assert!(conflicts > 0);
}

// ---- killed processes ----------------------------------------------------------------------------

/// A child of the next test: first the transfers whose answers were lost, then new ones without end.
#[test]
#[ignore = "started by killed_banks_are_whole_and_every_transfer_is_there_once"]
fn child() {
    let Some(role) = process::role() else { return };
    let mut words = role.splitn(4, ' ');
    let mut number = || words.next().unwrap().parse::<u64>().unwrap();
    let (seed, first) = (number(), number());
    let rest = words.next().unwrap();
    let again: Vec<u64> = rest.split(',').filter_map(|n| n.parse().ok()).collect();
    let store = open(Path::new(words.next().unwrap()));
    bank::open_accounts(&store, ACCOUNTS).unwrap();
    process::report("O");
    let next = AtomicU64::new(first);
    let again = Mutex::new(again);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut auditor = Auditor::resume(&store).unwrap();
            loop {
                if let Some(position) = auditor.step(&store, PATIENCE).unwrap() {
                    process::report(&format!("S {position}"));
                }
            }
        });
        for _ in 0..16 {
            scope.spawn(|| loop {
                let known = again.lock().unwrap().pop();
                let number = known.unwrap_or_else(|| next.fetch_add(1, Ordering::Relaxed));
                process::report(&format!("B {number}"));
                let (receipt, _) = transfer(seed, number).carry_out(&store).unwrap();
                let (position, duplicate) = (receipt.first_position, receipt.duplicate);
                process::report(&format!("A {number} {position} {}", u8::from(duplicate)));
            });
        }
    });
}

#[test]
fn killed_banks_are_whole_and_every_transfer_is_there_once() {
    let begun = Instant::now();
    let seed = process::seed();
    let kills = std::env::var("DURALOG_KILLS").ok();
    let kills: u64 = kills.map_or(40, |text| text.parse().unwrap());
    say(&format!("DURALOG_SEED={seed}"));
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank");
    // What was acknowledged, with its position; and what was asked and not answered.
    let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
    let mut lost: BTreeSet<u64> = BTreeSet::new();
    let (mut settled, mut doubled, mut next, mut audited) = (0, 0, 1, 0);
    for kill in 0..kills {
        // Some that were answered are asked again too.
        let mut again = lost.clone();
        again.extend(acknowledged.keys().rev().step_by(7).take(3));
        let list: Vec<String> = again.iter().map(u64::to_string).collect();
        let list = if list.is_empty() {
            "-".to_owned()
        } else {
            list.join(",")
        };
        let role = format!("{seed} {next} {list} {}", path.display());
        let mut child = Reporter::start(&mut process::again("child", &role));
        if kill % 3 != 0 {
            assert!(child.wait_for("O"), "the child ended by itself");
        }
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        child.kill();
        let (status, lines) = child.finish();
        assert_eq!(status.code(), None, "the child ended by itself: {lines:?}");
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap();
            match words[0] {
                "B" => {
                    next = next.max(number(1) + 1);
                    if !acknowledged.contains_key(&number(1)) {
                        lost.insert(number(1));
                    }
                }
                "A" => {
                    lost.remove(&number(1));
                    doubled += number(3);
                    let known = acknowledged.insert(number(1), number(2));
                    assert!(known.is_none_or(|known| known == number(2)));
                }
                "S" => audited = number(1),
                _ => {}
            }
        }
        let store = open(&path);
        bank::open_accounts(&store, ACCOUNTS).unwrap();
        let found = bank::check(&store).unwrap();
        for (number, position) in &acknowledged {
            assert_eq!(found.get(number), Some(position), "transfer {number}");
        }
        for number in found.keys() {
            let known = acknowledged.contains_key(number) || lost.contains(number);
            assert!(known, "transfer {number} was never asked for");
        }
        let saved = bank::check_audit(&store).unwrap();
        assert!(saved >= audited, "audited up to {audited}, saved {saved}");
        settled += lost.iter().filter(|n| found.contains_key(n)).count();
        // Sometimes what is not known is asked again right here.
        if kill % 5 == 0 {
            for number in std::mem::take(&mut lost) {
                let there = found.get(&number);
                let (receipt, _) = transfer(seed, number).carry_out(&store).unwrap();
                assert_eq!(receipt.duplicate, there.is_some());
                assert!(there.is_none_or(|there| *there == receipt.first_position));
                acknowledged.insert(number, receipt.first_position);
            }
            let found = bank::check(&store).unwrap();
            assert_eq!(found, acknowledged);
            bank::audit_the_rest(&store).unwrap();
            store.close().unwrap();
        }
    }
    say(&format!(
        "{kills} kills, {} transfers acknowledged, {settled} there whose answer was lost, {doubled} \
         asked twice and known, audited up to {audited}, {:.1} s",
        acknowledged.len(),
        begun.elapsed().as_secs_f64()
    ));
    assert!(acknowledged.len() as u64 > kills && doubled > 0 && audited > ACCOUNTS);
}

// ---- dynamic consistency boundaries --------------------------------------------------------------

const THREADS: u64 = 8;

/// A store on a disk whose syncs take their time, so that groups form.
fn slow_store() -> EventStore {
    let disk = SimDisk::new(1);
    disk.set_sync_delay(Duration::from_micros(200));
    EventStore::open_on(Arc::new(disk), "/store", &options()).unwrap()
}

/// Lets all threads decide at the same time, and gives what each came to.
fn in_threads<T: Send>(decide: impl Fn(u64, &mut Random) -> T + Sync) -> Vec<T> {
    let seed = process::seed();
    say(&format!("DURALOG_SEED={seed}"));
    let barrier = std::sync::Barrier::new(usize::try_from(THREADS).unwrap());
    std::thread::scope(|scope| {
        let begin = |thread| {
            let (decide, barrier) = (&decide, &barrier);
            scope.spawn(move || {
                barrier.wait();
                decide(thread, &mut Random::new(seed ^ thread))
            })
        };
        join((0..THREADS).map(begin).collect())
    })
}

/// All of one type that have all of these tags, or one item of several such.
fn query(items: &[(&str, &[&str])]) -> Query {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let items = items.iter().map(|(event_type, tags)| QueryItem {
        types: owned(&[event_type]),
        tags: owned(tags),
    });
    Query {
        items: items.collect(),
    }
}

/// Types and tags of the events that match, and the position behind which nothing was seen.
fn look(store: &EventStore, query: &Query) -> (Vec<(String, Vec<String>)>, u64) {
    let after = store.last_position().unwrap();
    let read = Read {
        selection: Selection::Query(query.clone()),
        to: after,
        ..Read::default()
    };
    let mut found = Vec::new();
    if after > 0 {
        let mut reader = store.read(read).unwrap();
        loop {
            let page = reader.next_page(100).unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page.iter().map(|event| {
                let tags = event.tags().map(str::to_owned).collect();
                (event.event_type.to_owned(), tags)
            }));
        }
    }
    (found, after)
}

/// Appends if nothing new matches; false if something does.
fn append_if(store: &EventStore, event: NewEvent<'_>, query: &Query, after: u64) -> bool {
    let request = AppendRequest {
        events: &[event],
        conditions: &[Condition { query, after }],
        ..AppendRequest::default()
    };
    match store.append(&request, Durability::AsOpened) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::Conflict => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_username_is_given_once() {
    const NAMES: u64 = 60;
    let store = slow_store();
    let won = in_threads(|thread, random| {
        let mut won = Vec::new();
        for round in 0..NAMES {
            let name = if round % 2 == 0 {
                round
            } else {
                random.below(NAMES)
            };
            let tag = format!("username:{name}");
            let taken = query(&[("UserRegistered", &[&tag])]);
            let (found, after) = look(&store, &taken);
            if !found.is_empty() {
                continue;
            }
            let user = format!("user-{thread}-{round}");
            let event = NewEvent {
                stream: &user,
                event_type: "UserRegistered",
                tags: &[&tag],
                ..NewEvent::default()
            };
            if append_if(&store, event, &taken, after) {
                won.push(name);
            }
        }
        won
    });
    let count: usize = won.iter().map(Vec::len).sum();
    let won: BTreeSet<u64> = won.into_iter().flatten().collect();
    assert_eq!(won.len(), count, "two threads were given one name");
    for name in &won {
        let tag = format!("username:{name}");
        assert_eq!(
            look(&store, &query(&[("UserRegistered", &[&tag])])).0.len(),
            1
        );
    }
    assert_eq!(store.last_position().unwrap(), won.len() as u64);
    assert!(won.len() as u64 >= NAMES / 2);
}

#[test]
fn a_course_is_not_overbooked_and_no_student_has_too_many() {
    const COURSES: u64 = 5;
    const CAPACITY: usize = 12;
    const STUDENTS: u64 = 25;
    const PER_STUDENT: usize = 3;
    let store = slow_store();
    let conflicts = AtomicU64::new(0);
    in_threads(|_, random| {
        for _ in 0..60 {
            let course = format!("course:{}", random.below(COURSES));
            let student = format!("student:{}", random.below(STUDENTS));
            let both = query(&[("Enrolled", &[&course]), ("Enrolled", &[&student])]);
            loop {
                let (found, after) = look(&store, &both);
                let count = |named: &[&String]| {
                    let has = |tags: &[String]| named.iter().all(|&tag| tags.contains(tag));
                    found.iter().filter(|(_, tags)| has(tags)).count()
                };
                let twice = count(&[&course, &student]) > 0;
                let full = count(&[&course]) >= CAPACITY;
                if twice || full || count(&[&student]) >= PER_STUDENT {
                    break;
                }
                let event = NewEvent {
                    stream: "enrolments",
                    event_type: "Enrolled",
                    tags: &[&course, &student],
                    ..NewEvent::default()
                };
                if append_if(&store, event, &both, after) {
                    break;
                }
                conflicts.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let (found, _) = look(&store, &query(&[("Enrolled", &[])]));
    let mut count: HashMap<&str, usize> = HashMap::new();
    let mut pairs = BTreeSet::new();
    for (_, tags) in &found {
        tags.iter()
            .for_each(|tag| *count.entry(tag).or_default() += 1);
        assert!(pairs.insert(tags), "{tags:?} twice");
    }
    for (tag, count) in &count {
        let most = if tag.starts_with("course") {
            CAPACITY
        } else {
            PER_STUDENT
        };
        assert!(*count <= most, "{tag}: {count}");
    }
    let conflicts = conflicts.into_inner();
    say(&format!(
        "{} enrolments, {conflicts} conflicts",
        found.len()
    ));
    assert!(found.len() > 50 && conflicts > 0);
}

#[test]
fn an_order_whose_reply_was_lost_is_placed_once() {
    const ORDERS: u64 = 80;
    let store = slow_store();
    let told = in_threads(|thread, random| {
        let mut told = Vec::new();
        // Two threads each have the same orders, and lose half of the replies.
        for order in (0..ORDERS).filter(|order| order % 4 == thread % 4) {
            let mut replied = false;
            while !replied {
                let key = format!("order {order}");
                let mut id = [3; 16];
                id[0] = u8::try_from(order).unwrap();
                let stream = format!("order-{order}");
                let tags = ["order"];
                let event = NewEvent {
                    stream: &stream,
                    event_type: "OrderPlaced",
                    tags: &tags,
                    // Half are known by their key, half by their ids.
                    id: (order % 8 < 4).then_some(id),
                    ..NewEvent::default()
                };
                let request = AppendRequest {
                    events: &[event],
                    idempotency_key: (order % 8 >= 4).then_some(key.as_bytes()),
                    ..AppendRequest::default()
                };
                let receipt = store.append(&request, Durability::AsOpened).unwrap();
                replied = random.below(2) == 0;
                told.push((order, receipt));
            }
        }
        told
    });
    assert_eq!(store.last_position().unwrap(), ORDERS);
    let mut receipts: HashMap<u64, Vec<AppendReceipt>> = HashMap::new();
    for (order, receipt) in told.into_iter().flatten() {
        receipts.entry(order).or_default().push(receipt);
    }
    for (order, receipts) in &receipts {
        let first = &receipts[0];
        let new = receipts.iter().filter(|receipt| !receipt.duplicate);
        assert_eq!(new.count(), 1, "order {order}");
        for receipt in receipts {
            assert_eq!(receipt.first_position, first.first_position);
            assert_eq!(receipt.time_ns, first.time_ns);
            assert_eq!(receipt.stream_versions, first.stream_versions);
        }
    }
    let asked: usize = receipts.values().map(Vec::len).sum();
    say(&format!("{ORDERS} orders asked for {asked} times"));
    assert!(asked as u64 > 2 * ORDERS);
}
