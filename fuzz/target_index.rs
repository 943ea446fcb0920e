//! The fuzz target `index`: flags, then changes to the index of a small event store, 12 bytes each.
//!
//! Damage to the index changes no answer. With the first flag the checksums of all blocks are made
//! right after the changes: then what a careful hand wrote is believed as far as it makes sense. It
//! may hide events and tell of wrong times, but what else is said of an event that is shown is true,
//! and nothing loops, fails or asks for all memory. Deleting the index mends it.

use crate::targets::change;
use duralog::eventstore::{
    AppendRequest, Direction, EventPage, EventStore, EventStoreOptions, IndexLimits, NameKind,
    NewEvent, Query, QueryItem, Read, ReadEvent, Selection, SideRecord,
};
use duralog::format::checksum::crc32;
use duralog::vfs::sim::{Image, SimDisk};
use duralog::{Durability, Error, OpenHow, SyncMode, WalOptions};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

const STORE: &str = "/store";
const BLOCK_LEN: usize = 4096;
const EVENTS: u64 = 40;
const STREAMS: [&str; 3] = ["a-1", "a-2", "b"];
const TAGS: [&str; 3] = ["t", "u", "course:1"];

fn open(disk: &SimDisk, how: OpenHow) -> Result<EventStore, Error> {
    let options = EventStoreOptions {
        wal: WalOptions {
            how,
            sync_mode: SyncMode::Manual,
            segment_bytes_max: 64 << 10,
            ..WalOptions::default()
        },
        index: IndexLimits {
            // An event, a saved position and a value each.
            freeze_events: 3 * 6,
            // What was made is merged further when it is opened again.
            tier_runs: if how == OpenHow::MustCreate { 4 } else { 3 },
            close_events: 1,
            cache_bytes: 1 << 16,
            ..IndexLimits::default()
        },
        ..EventStoreOptions::default()
    };
    EventStore::open_on(Arc::new(disk.clone()), STORE, &options)
}

fn id(number: u64) -> [u8; 16] {
    let mut id = [9; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    id
}

/// Appends event `number`, which has a bit of everything.
fn append(store: &EventStore, number: u64) -> Result<(), Error> {
    let pick =
        |names: [&'static str; 3], by: u64| names[usize::try_from(number / by % 3).unwrap_or(0)];
    let value = vec![1; if number == 7 { 9_000 } else { 5 }];
    let event = NewEvent {
        stream: pick(STREAMS, 1),
        event_type: if number % 2 == 0 { "Even" } else { "Odd" },
        tags: &[pick(TAGS, 1), pick(TAGS, 3)],
        id: (number % 4 != 0).then_some(id(number)),
        ..NewEvent::default()
    };
    let key = number.to_le_bytes();
    let request = AppendRequest {
        events: &[event],
        side_records: &[
            SideRecord::SavePosition {
                name: "reader",
                position: number,
                reset: false,
            },
            SideRecord::PutState {
                key: &key[..1],
                value: &value,
            },
        ],
        idempotency_key: (number % 5 == 0).then_some(&key),
        ..AppendRequest::default()
    };
    store.append(&request, Durability::AsOpened).map(drop)
}

/// A store with runs of several tiers, their files, its events, and what it answers.
struct Base {
    image: Image,
    runs: Vec<PathBuf>,
    events: Vec<Vec<u8>>,
    answers: Vec<u8>,
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let disk = SimDisk::new(1);
        let make = || -> Result<(), Error> {
            let store = open(&disk, OpenHow::MustCreate)?;
            for number in 1..=EVENTS {
                append(&store, number)?;
            }
            store.close()
        };
        let made = make();
        let image = disk.image();
        let mut runs = image.paths();
        runs.retain(|path| path.extension().is_some_and(|extension| extension == "run"));
        let (mut events, mut answers) = (Vec::new(), Vec::new());
        if let Ok(store) = open(&SimDisk::from_image(&image, 1), OpenHow::ReadOnly) {
            events = read_timeless(&store).unwrap_or_default();
            answers = ask(&store).unwrap_or_default();
        }
        assert!(made.is_ok() && runs.len() > 2 && events.len() as u64 == EVENTS);
        assert!(answers.len() > events.len());
        Base {
            image,
            runs,
            events,
            answers,
        }
    })
}

/// An event as bytes. Its time is known by the index alone.
fn put_event(event: &ReadEvent<'_>, with_time: bool, out: &mut Vec<u8>) {
    let time_ns = if with_time { event.time_ns } else { 0 };
    for number in [event.position, event.stream_version, time_ns] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&event.id);
    let [stream, event_type] = [event.stream, event.event_type].map(str::as_bytes);
    for bytes in [stream, event_type, event.tag_bytes, event.data] {
        out.extend_from_slice(bytes);
        out.push(0);
    }
}

fn put(page: &EventPage, out: &mut Vec<u8>) {
    page.iter().for_each(|event| put_event(&event, true, out));
}

/// Reads page by page and hands each to `take`.
fn walk(store: &EventStore, read: Read, mut take: impl FnMut(&EventPage)) -> Result<(), Error> {
    let mut reader = store.read(read)?;
    let mut count = 0;
    loop {
        let page = reader.next_page(15)?;
        if page.is_empty() {
            return Ok(());
        }
        take(page);
        count += page.len() as u64;
        assert!(count <= EVENTS + 1, "reading has no end");
    }
}

/// All events, without their times.
fn read_timeless(store: &EventStore) -> Result<Vec<Vec<u8>>, Error> {
    let mut events = Vec::new();
    walk(store, Read::default(), |page| {
        events.extend(page.iter().map(|event| {
            let mut bytes = Vec::new();
            put_event(&event, false, &mut bytes);
            bytes
        }));
    })?;
    Ok(events)
}

/// What a store says to all sorts of questions, one after another.
fn ask(store: &EventStore) -> Result<Vec<u8>, Error> {
    let mut answers = Vec::new();
    let mut selections = vec![Selection::All, Selection::Category("a".to_owned())];
    selections.extend(STREAMS.map(|name| Selection::Stream(name.to_owned())));
    for tag in TAGS {
        let item = QueryItem {
            types: vec!["Odd".to_owned()],
            tags: vec![tag.to_owned()],
        };
        selections.push(Selection::Query(Query { items: vec![item] }));
    }
    for (at, selection) in selections.into_iter().enumerate() {
        let directions = [Direction::Forward, Direction::Backward];
        let read = Read {
            selection,
            direction: directions[at % 2],
            ..Read::default()
        };
        walk(store, read, |page| put(page, &mut answers))?;
    }
    for number in (0..=EVENTS).step_by(3) {
        put(&store.event_by_id(&id(number))?, &mut answers);
    }
    for key in 0..=10u8 {
        answers.extend(store.state(&[key])?.unwrap_or_default());
        answers.push(key);
    }
    for name in STREAMS {
        answers.extend(format!("{:?}", store.stream_info(name)?).bytes());
    }
    for kind in [
        NameKind::Stream,
        NameKind::Category,
        NameKind::Type,
        NameKind::Tag,
    ] {
        answers.extend(format!("{:?}", store.names(kind, Some("a"), "", 2)?).bytes());
    }
    answers.extend(format!("{:?}", store.saved_position("reader")?).bytes());
    Ok(answers)
}

/// Gives the blocks of a run the checks that they should have.
fn make_right(bytes: &mut [u8]) {
    let Some(salt) = bytes.get(32..40).map(<[u8]>::to_vec) else {
        return;
    };
    for (number, block) in (0u32..).zip(bytes.chunks_exact_mut(BLOCK_LEN)) {
        let (payload, check) = block.split_at_mut(BLOCK_LEN - 4);
        let identity = [&salt[..], &number.to_le_bytes()].concat();
        let right = crc32(payload) ^ crc32(&identity);
        check.copy_from_slice(&right.to_le_bytes());
    }
}

/// Any bytes as changes to an index.
pub(crate) fn index(data: &[u8]) {
    let Some((flag, data)) = data.split_first() else {
        return;
    };
    let base = base();
    let mut image = base.image.clone();
    change(&mut image, &base.runs, data);
    let right = flag & 1 != 0;
    if right {
        for path in &base.runs {
            if let Some(mut bytes) = image.read(path) {
                make_right(&mut bytes);
                let _ = image.write(path, &bytes);
            }
        }
    }
    // Another machine than the one that made it: two runs with one salt are not to be.
    let disk = SimDisk::from_image(&image, 2);
    let how = if flag & 2 == 0 {
        OpenHow::MustExist
    } else {
        OpenHow::ReadOnly
    };
    let store = match open(&disk, how) {
        Ok(store) => store,
        // It can say of itself that it holds what the log does not have.
        Err(error) => {
            assert!(right, "{error}");
            return;
        }
    };
    if right {
        if let Ok(events) = read_timeless(&store) {
            assert!(events.iter().all(|event| base.events.contains(event)));
        }
        let _ = ask(&store);
        drop(store);
    } else {
        let answers = ask(&store).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(answers, base.answers);
        if how == OpenHow::MustExist {
            assert!(append(&store, EVENTS + 1).is_ok());
        }
        drop(store);
    }
    let mut image = disk.image();
    for path in image.paths() {
        if path.starts_with("/store/index") {
            image.remove(path);
        }
    }
    let store = open(&SimDisk::from_image(&image, 3), OpenHow::ReadOnly);
    let events = store.and_then(|store| read_timeless(&store));
    let events = events.unwrap_or_else(|error| panic!("without the index: {error}"));
    assert!(events.starts_with(&base.events));
}
