//! The index of the event store at work: that it is made anew by several threads, says how far it is,
//! is bounded in what it leaves to be read when a store is opened and in what it keeps in memory, and
//! forgets what a failed sync took back. What it answers is compared elsewhere, with a model
//! (`eventstore_model.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/watched.rs"]
mod watched;

use duralog::eventstore::{
    AppendRequest, EventStore, EventStoreOptions, IndexLimits, NameKind, NewEvent, Read,
    SideRecord, StoreStat,
};
use duralog::vfs::os::RealDisk;
use duralog::vfs::sim::{errno, Call, Fault, FaultPlan, SimDisk};
use duralog::{Durability, ErrorKind, OpenHow, SyncMode, WalOptions};
use std::collections::{BTreeSet, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::thread::ThreadId;
use std::time::Duration;
use watched::Watched;

/// What background work needs at most, or the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(freeze_events: u64) -> EventStoreOptions {
    EventStoreOptions {
        wal: WalOptions {
            sync_mode: SyncMode::Manual,
            segment_bytes_max: 64 << 10,
            ..WalOptions::default()
        },
        index: IndexLimits {
            freeze_events,
            tier_runs: 4,
            close_events: freeze_events,
            ..IndexLimits::default()
        },
        ..EventStoreOptions::default()
    }
}

fn reading(freeze_events: u64) -> EventStoreOptions {
    let mut options = options(freeze_events);
    options.wal.how = OpenHow::ReadOnly;
    options
}

fn append(store: &EventStore, first: u64, count: u64) {
    let streams: Vec<String> = (first..first + count)
        .map(|n| format!("s-{}", n % 7))
        .collect();
    let events: Vec<NewEvent<'_>> = streams
        .iter()
        .map(|stream| NewEvent {
            stream,
            event_type: "T",
            data: &[7; 100],
            ..NewEvent::default()
        })
        .collect();
    let request = AppendRequest {
        events: &events,
        ..AppendRequest::default()
    };
    store.append(&request, Durability::AsOpened).unwrap();
}

fn save(store: &EventStore, position: u64) {
    let value = position.to_le_bytes();
    let side_records = [
        SideRecord::SavePosition {
            name: "reader",
            position,
            reset: false,
        },
        SideRecord::PutState {
            key: b"state",
            value: &value,
        },
    ];
    let request = AppendRequest {
        side_records: &side_records,
        ..AppendRequest::default()
    };
    store.append(&request, Durability::AsOpened).unwrap();
}

/// Everything that the index has a part in.
fn answers(store: &EventStore) -> String {
    let mut all = String::new();
    for n in 0..8 {
        let stream = format!("s-{n}");
        all += &format!("{:?} ", store.stream_info(&stream).unwrap());
        let selection = duralog::eventstore::Selection::Stream(stream);
        let read = Read {
            selection,
            ..Read::default()
        };
        let mut reader = store.read(read).unwrap();
        while !reader.next_page(100).unwrap().is_empty() {
            let page = reader.page().iter();
            page.for_each(|event| all += &format!("{} {} ", event.position, event.time_ns));
        }
    }
    for kind in [NameKind::Stream, NameKind::Type, NameKind::Category] {
        all += &format!("{:?} ", store.names(kind, None, "", 100).unwrap());
    }
    let position = store.saved_position("reader").unwrap();
    all + &format!("{position:?} {:?}", store.state(b"state").unwrap())
}

#[test]
fn an_index_made_anew_says_the_same_and_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = EventStore::open(&path, &options(500)).unwrap();
    for batch in 0..300 {
        append(&store, batch * 20, 20);
        // Some segments begin with records of no event, and are made with the one before.
        if batch % 3 == 0 {
            (0..30).for_each(|n| save(&store, batch * 30 + n));
        }
    }
    let before = answers(&store);
    store.close().unwrap();
    let segments = std::fs::read_dir(&path).unwrap().count();
    assert!(segments > 10, "{segments} names are too few to be cut");
    for mapped in [false, true] {
        std::fs::remove_dir_all(path.join("index")).unwrap();
        let mut told: Vec<(u64, u64)> = Vec::new();
        let options = EventStoreOptions {
            mapped,
            ..options(500)
        };
        let disk = Arc::new(RealDisk::new());
        let store = EventStore::open_with_progress(disk, &path, &options, &mut |done, total| {
            told.push((done, total));
            true
        })
        .unwrap();
        let (first, last) = (told[0], told[told.len() - 1]);
        assert!(first.0 == 0 && last.0 == last.1, "{told:?}");
        let is_right = |&(done, total): &(u64, u64)| done <= total && total == last.1;
        assert!(told.iter().all(is_right) && last.1 > 600_000, "{told:?}");
        let stat = store.stat().unwrap();
        assert!(stat.run_count > 0 && stat.memory_events < 500, "{stat:?}");
        assert!(answers(&store) == before);
        store.close().unwrap();
        // Once more, from the files: they fit together without a gap.
        let store = EventStore::open(&path, &options).unwrap();
        assert!(answers(&store) == before);
    }
}

/// Whoever makes a layer writes it; here nobody may do so until somebody else is about to, too.
#[test]
fn several_threads_make_a_missing_index() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    if processors < 2 {
        eprintln!("not shown: there is one processor");
        return;
    }
    let disk = Arc::new(SimDisk::new(1));
    let store = EventStore::open_on(disk.clone(), "/store", &options(500)).unwrap();
    for batch in 0..300 {
        append(&store, batch * 20, 20);
    }
    let before = answers(&store);
    store.close().unwrap();
    for path in disk.paths() {
        if path.starts_with("/store/index") {
            disk.remove(&path).unwrap();
        }
    }
    let met: Arc<(Mutex<HashSet<ThreadId>>, Condvar)> = Arc::default();
    let meeting = Arc::clone(&met);
    let waited_in_vain = AtomicBool::new(false);
    let watched = Watched::writing(disk, move |path, _| {
        if path.parent() != Some(Path::new("/store/index")) {
            return;
        }
        let (threads, arrived) = &*meeting;
        let mut threads = threads.lock().unwrap();
        threads.insert(std::thread::current().id());
        arrived.notify_all();
        let is_alone = |threads: &mut HashSet<ThreadId>| threads.len() < 2;
        if !waited_in_vain.load(Ordering::SeqCst) {
            let patience = Duration::from_secs(10);
            let waited = arrived.wait_timeout_while(threads, patience, is_alone);
            waited_in_vain.store(waited.unwrap().1.timed_out(), Ordering::SeqCst);
        }
    });
    let watched = Arc::new(watched.with_threads());
    let store = EventStore::open_on(watched, "/store", &options(500)).unwrap();
    let threads = met.0.lock().unwrap().clone();
    assert!(threads.len() > 1, "{threads:?}");
    assert!(!threads.contains(&std::thread::current().id()));
    assert!(answers(&store) == before);
}

/// Looked at inside each write of a merge, and all the time by another thread.
#[test]
fn what_is_done_in_the_background_is_told_while_it_is_done() {
    let place: Arc<OnceLock<Weak<EventStore>>> = Arc::default();
    let seen: Arc<Mutex<Vec<(PathBuf, StoreStat)>>> = Arc::default();
    let (look, note) = (Arc::clone(&place), Arc::clone(&seen));
    let watched = Watched::writing(Arc::new(SimDisk::new(1)), move |path, _| {
        if path.parent() == Some(Path::new("/store/index")) {
            if let Some(store) = look.get().and_then(Weak::upgrade) {
                let stat = store.stat().unwrap();
                note.lock().unwrap().push((path.to_owned(), stat));
            }
        }
    });
    let mut options = options(3_000);
    options.wal.segment_bytes_max = 4 << 20;
    let watched = Arc::new(watched.with_threads());
    let store = Arc::new(EventStore::open_on(watched, "/store", &options).unwrap());
    place.set(Arc::downgrade(&store)).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let stat = store.stat().unwrap();
                assert!(stat.work_done <= stat.work_total, "{stat:?}");
            }
        });
        for batch in 0..480 {
            let events: Vec<String> = (0..100).map(|n| format!("s-{batch}-{n}")).collect();
            let events: Vec<NewEvent<'_>> = events
                .iter()
                .map(|stream| NewEvent {
                    stream,
                    event_type: "T",
                    ..NewEvent::default()
                })
                .collect();
            let request = AppendRequest {
                events: &events,
                ..AppendRequest::default()
            };
            store.append(&request, Durability::AsOpened).unwrap();
        }
        // 16 layers: four merges, and one of what they came to.
        let begun = std::time::Instant::now();
        while store.stat().unwrap().run_count != 1 {
            assert!(begun.elapsed() < PATIENCE, "{:?}", store.stat());
            std::thread::sleep(Duration::from_millis(1));
        }
        is_over.store(true, Ordering::SeqCst);
        watcher.join().unwrap();
    });
    let stat = store.stat().unwrap();
    assert_eq!((stat.work_done, stat.work_total), (0, 0));
    let seen = seen.lock().unwrap();
    let files: BTreeSet<&PathBuf> = seen.iter().map(|(path, _)| path).collect();
    let mut merges = 0;
    for file in files {
        let stats = seen.iter().filter(|(path, _)| path == file);
        let told: Vec<(u64, u64)> = stats
            .map(|(_, stat)| (stat.work_done, stat.work_total))
            .collect();
        let (done, total) = told[told.len() - 1];
        if told[0].0 == done {
            // A layer that was in memory is written without that.
            continue;
        }
        assert!(told.iter().all(|told| told.1 == total), "{told:?}");
        assert!(told.is_sorted(), "{told:?}");
        // The last write is that of the header, when all keys but the last few are done.
        assert!(total / 2 < done && done <= total, "{told:?}");
        merges += 1;
    }
    assert_eq!(merges, 5);
}

#[test]
fn opening_reads_no_more_after_many_records_without_events() {
    let disk = SimDisk::new(1);
    let open = || EventStore::open_on(Arc::new(disk.clone()), "/store", &options(50)).unwrap();
    let mut read = Vec::new();
    for round in 0..6 {
        let store = open();
        // In the last rounds beside events, in the first ones without any.
        for n in 0..400 {
            save(&store, round * 400 + n);
            if round >= 4 && n % 100 == 0 {
                append(&store, 0, 1);
            }
        }
        // Not closed: everything is as a killed program leaves it.
        store.sync().unwrap();
        let position = round * 400 + 399;
        let image = SimDisk::from_image(&disk.image(), 2);
        let killed = |disk: &SimDisk| {
            let disk = Arc::new(disk.clone());
            EventStore::open_on(disk, "/store", &options(50)).unwrap()
        };
        image.reset_counts();
        let store_again = killed(&image);
        read.push(image.counts().of(Call::Read));
        let stat = store_again.stat().unwrap();
        assert!(stat.run_count > 0 && stat.run_count < 20, "{stat:?}");
        assert_eq!(
            store_again.saved_position("reader").unwrap(),
            Some(position)
        );
        let state = store_again.state(b"state").unwrap();
        assert_eq!(state.as_deref(), Some(&position.to_le_bytes()[..]));
        store.close().unwrap();
    }
    let least = read.iter().min().copied().unwrap_or(0);
    assert!(read.iter().all(|&count| count < 3 * least + 60), "{read:?}");
}

/// Opening does not look at the headers of older segments. A damaged one is told by opening, or by every
/// question about what stands there: nothing is ever said to be missing, or to be something else.
#[test]
fn what_stands_behind_a_damaged_header_is_refused_and_never_missing() {
    const EVENTS: u64 = 8_000;
    let disk = SimDisk::new(1);
    let store = EventStore::open_on(Arc::new(disk.clone()), "/s", &options(1_000)).unwrap();
    for first in (0..EVENTS).step_by(100) {
        append(&store, first, 100);
    }
    let segments = store.wal().stat().unwrap().segment_count;
    store.close().unwrap();
    let (sound, mut tally) = (disk.image(), [0; 3]);
    for (number, with_index) in (1..=segments).flat_map(|n| [(n, true), (n, false)]) {
        let mut image = sound.clone();
        let name = format!("/s/{number:020}.wal");
        image.corrupt(&name, 100, b"?").unwrap();
        if !with_index {
            for path in sound.paths() {
                if path.starts_with("/s/index/") {
                    image.remove(path);
                }
            }
        }
        let disk: Arc<SimDisk> = Arc::new(SimDisk::from_image(&image, 1));
        let refused = |error: duralog::Error| {
            let place = (error.kind(), error.place().segment);
            assert_eq!(place, (ErrorKind::Corrupt, number), "{error}");
        };
        for options in [options(1_000), reading(1_000)] {
            let store = match EventStore::open_on(disk.clone(), "/s", &options) {
                Err(error) => {
                    refused(error);
                    tally[0] += 1;
                    continue;
                }
                Ok(store) => store,
            };
            assert!(with_index && number < segments);
            for position in 1..=EVENTS {
                match store.event_at(position) {
                    Ok(page) => {
                        assert_eq!(page.get(0).unwrap().position, position);
                        tally[1] += 1;
                    }
                    Err(error) => {
                        refused(error);
                        tally[2] += 1;
                    }
                }
            }
            let mut reader = store.read(Read::default()).unwrap();
            let mut next = 1;
            let error = loop {
                match reader.next_page(100) {
                    Ok(count) => assert!(!count.is_empty(), "the end"),
                    Err(error) => break error,
                }
                for event in reader.page().iter() {
                    assert_eq!(event.position, next);
                    next += 1;
                }
            };
            refused(error);
            store.close().unwrap();
        }
    }
    let _ = writeln!(
        std::io::stderr(),
        "{segments} segments: {} refused to be opened, {} events read, {} refused",
        tally[0],
        tally[1],
        tally[2]
    );
    assert!(tally.iter().all(|&count| count > 10), "{tally:?}");
}

#[test]
fn a_reader_takes_over_the_runs_of_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = EventStore::open(&path, &options(200)).unwrap();
    append(&store, 0, 1);
    let reader = EventStore::open(&path, &reading(200)).unwrap();
    let mut most = 0;
    for batch in 0..400 {
        append(&store, 1 + batch * 25, 25);
        save(&store, batch);
        assert_eq!(reader.last_position().unwrap(), 26 + batch * 25);
        most = most.max(reader.stat().unwrap().memory_events);
    }
    // The writer's thread takes its time to write runs, but it does not fall far behind.
    assert!(most < 4_000, "{most} events in memory of 10,001");
    assert!(reader.stat().unwrap().run_count > 0);
    assert!(answers(&reader) == answers(&store));
    // A reader that begins now has the same.
    let late = EventStore::open(&path, &reading(200)).unwrap();
    assert!(answers(&late) == answers(&store));
}

#[test]
fn what_a_failed_sync_takes_back_is_forgotten() {
    for freeze_events in [10, 1000] {
        let disk = SimDisk::new(3);
        let shared = Arc::new(disk.clone());
        let options = options(freeze_events);
        let store = EventStore::open_on(shared, "/store", &options).unwrap();
        append(&store, 0, 20);
        save(&store, 20);
        store.sync().unwrap();
        let durable = answers(&store);
        // New streams and more events of old ones; runs of the index cover them if layers are small.
        append(&store, 0, 30);
        save(&store, 50);
        let in_doubt = answers(&store);
        assert!(in_doubt != durable);
        let fault = Fault::Error(errno::EIO);
        disk.fail(
            FaultPlan::new(Call::SyncData, 1, fault)
                .on(".wal")
                .lasting(),
        );
        assert_eq!(store.sync().unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(store.last_position().unwrap(), 20);
        assert!(answers(&store) == durable, "{}", answers(&store));
        disk.clear_faults();
        store.close().unwrap_err();
        drop(store);
        // Afterwards either may be there, but it is one of them.
        let store = EventStore::open_on(Arc::new(disk), "/store", &options).unwrap();
        let found = answers(&store);
        assert!(found == durable || found == in_doubt);
    }
}

#[test]
fn a_run_that_is_missing_is_missed_also_if_it_has_no_event() {
    let disk = SimDisk::new(4);
    let shared = Arc::new(disk.clone());
    let mut options = options(16);
    options.index.tier_runs = 100;
    let store = EventStore::open_on(shared, "/store", &options).unwrap();
    for number in 0..200u32 {
        let key = format!("key {number}");
        let side_records = [SideRecord::PutState {
            key: key.as_bytes(),
            value: b"v",
        }];
        let request = AppendRequest {
            side_records: &side_records,
            ..AppendRequest::default()
        };
        store.append(&request, Durability::AsOpened).unwrap();
        if number % 50 == 49 {
            append(&store, u64::from(number), 20);
        }
    }
    store.close().unwrap();
    let image = disk.image();
    let paths = disk.paths();
    let runs = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "run"));
    let mut count = 0;
    for run in runs {
        let disk = SimDisk::from_image(&image, 5);
        disk.remove(run).unwrap();
        let store = EventStore::open_on(Arc::new(disk), "/store", &options).unwrap();
        for number in 0..200u32 {
            let value = store.state(format!("key {number}").as_bytes()).unwrap();
            assert!(value.is_some(), "{number} is lost with {}", run.display());
        }
        assert_eq!(store.last_position().unwrap(), 80);
        count += 1;
    }
    assert!(count > 12, "{count} runs");
}

/// A store of 400 events, opened again.
fn filled(path: &Path, options: &EventStoreOptions) -> EventStore {
    let store = EventStore::open(path, options).unwrap();
    for batch in 0..40 {
        append(&store, batch * 10, 10);
    }
    store.close().unwrap();
    EventStore::open(path, options).unwrap()
}

#[test]
fn a_place_that_changed_since_it_was_checked_changes_no_answer() {
    for mapped in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let mut options = options(400);
        options.mapped = mapped;
        options.index.cache_bytes = 0;
        let store = filled(&path, &options);
        let before = answers(&store);
        // Bytes of the first places: of LSN, check and time.
        for byte in 0..39_u64 {
            let at = 4096 + 6 + usize::try_from(byte).unwrap();
            let run = std::fs::read_dir(path.join("index")).unwrap().next();
            let run = run.unwrap().unwrap().path();
            let mut damaged = std::fs::read(&run).unwrap();
            damaged[at] ^= 0x10;
            // In place: the file that is open is this one.
            std::fs::write(&run, &damaged).unwrap();
            // A snapshot knows the place of its last event.
            let newest = || {
                let found = store.load_snapshot(b"key", u64::MAX, b"").unwrap();
                found.map(|found| found.version)
            };
            if byte % 2 == 0 {
                store.save_snapshot(b"key", byte, 1, b"", b"data").unwrap();
            } else {
                assert_eq!(newest(), Some(byte - 1));
            }
            assert!(answers(&store) == before, "byte {byte}, mapped {mapped}");
            assert_eq!(newest(), Some(byte & !1));
            // What is mapped was looked at, so the run was made again; a block may still be in memory.
            let is_new = std::fs::read(&run).unwrap() != damaged;
            assert!(is_new || !mapped, "byte {byte}");
            if !is_new {
                damaged[at] ^= 0x10;
                std::fs::write(&run, &damaged).unwrap();
            }
        }
    }
}

/// A mapped index gives single places of blocks that nobody has checked: what is wrong with one, the record
/// tells that it leads to.
#[test]
fn a_place_that_is_damaged_before_it_is_first_read_changes_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut options = options(400);
    options.mapped = true;
    let store = filled(&path, &options);
    let before = answers(&store);
    store.close().unwrap();
    let run = std::fs::read_dir(path.join("index")).unwrap().next();
    let run = run.unwrap().unwrap().path();
    let sound = std::fs::read(&run).unwrap();
    for byte in 0..26 {
        for mask in [1, 0x80] {
            let mut damaged = sound.clone();
            damaged[4096 + 6 + byte] ^= mask;
            std::fs::write(&run, &damaged).unwrap();
            let store = EventStore::open(&path, &options).unwrap();
            assert!(answers(&store) == before, "byte {byte}, mask {mask:#x}");
            let now = std::fs::read(&run).unwrap();
            assert!(now != damaged, "byte {byte}, mask {mask:#x}: not noticed");
            store.close().unwrap();
        }
    }
}

#[test]
fn a_mapping_does_not_keep_from_seeing_what_was_appended_since() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut options = options(300);
    options.mapped = true;
    let store = EventStore::open(&path, &options).unwrap();
    let mut mapped = reading(300);
    mapped.mapped = true;
    append(&store, 0, 5);
    let beside = EventStore::open(&path, &mapped).unwrap();
    for batch in 0..120 {
        append(&store, 5 + batch * 30, 30);
        let found = answers(&store);
        assert!(answers(&beside) == found, "batch {batch}");
        if batch % 40 == 39 {
            let plain = EventStore::open(&path, &reading(300)).unwrap();
            assert!(answers(&plain) == found);
        }
    }
    // Closing cuts off what was prepared in the last file, while the reader has it mapped.
    let found = answers(&store);
    store.close().unwrap();
    drop(store);
    assert!(answers(&beside) == found);
}

#[test]
fn an_index_that_is_deleted_under_an_open_store_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = filled(&path, &options(64));
    let before = answers(&store);
    std::fs::remove_dir_all(path.join("index")).unwrap();
    assert_eq!(answers(&store), before);
    for n in 0..40 {
        append(&store, 1 + 64 * n, 64);
        let waiting = store.stat().unwrap().memory_events;
        assert!(waiting <= 5 * 64, "{waiting} events stay in memory");
    }
    let after = answers(&store);
    store.close().unwrap();
    assert!(std::fs::read_dir(path.join("index")).unwrap().count() > 0);
    let store = EventStore::open(&path, &options(64)).unwrap();
    assert_eq!(answers(&store), after);
}
