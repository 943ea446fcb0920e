//! Each limit of the event store at its boundary: so much is accepted and is there afterwards, one more is
//! refused, with this kind of error, and nothing of it was written.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::eventstore::{
    AppendRequest, Condition, EventStore, EventStoreOptions, Expectation, Expected, NewEvent,
    Query, QueryItem, Selection, SideRecord, SubscribeFrom,
};
use duralog::format::record::RECORD_LEN_MAX;
use duralog::vfs::sim::SimDisk;
use duralog::{Durability, Error, ErrorKind, SyncMode, WalOptions};
use std::sync::Arc;

type Outcome = Result<(), Error>;

fn append(store: &EventStore, request: &AppendRequest<'_>) -> Outcome {
    let receipt = store.append(request, Durability::AsOpened)?;
    assert!(!receipt.duplicate);
    Ok(())
}

fn append_event(store: &EventStore, event: NewEvent<'_>) -> Outcome {
    let before = store.last_position().unwrap();
    append(
        store,
        &AppendRequest {
            events: &[event],
            ..AppendRequest::default()
        },
    )?;
    // What was taken comes back as it was.
    let page = store.event_at(before + 1).unwrap();
    let found = page.get(0).unwrap();
    let tags: Vec<&str> = found.tags().collect();
    let mut expected = event.tags.to_vec();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(
        (found.stream, found.event_type),
        (event.stream, event.event_type)
    );
    assert_eq!((found.content_type, tags), (event.content_type, expected));
    assert!((found.data, found.metadata) == (event.data, event.metadata));
    Ok(())
}

fn append_side(store: &EventStore, side: SideRecord<'_>) -> Outcome {
    append(
        store,
        &AppendRequest {
            side_records: &[side],
            ..AppendRequest::default()
        },
    )
}

const EVENT: NewEvent<'_> = NewEvent {
    stream: "s",
    event_type: "T",
    data: b"data",
    metadata: b"",
    tags: &[],
    id: None,
    schema_version: 0,
    content_type: "",
    occurred_ns: None,
    correlation_id: None,
    causation_id: None,
};

/// What is tried with a text of a length, or with a number.
type Try = fn(&EventStore, &str, u64) -> Outcome;

/// What, its least and its greatest value, and how it is tried.
type Limit = (&'static str, u64, u64, Try);

const LIMITS: [Limit; 20] = [
    ("bytes of a stream's name", 1, 1024, |store, text, _| {
        append_event(
            store,
            NewEvent {
                stream: text,
                ..EVENT
            },
        )
    }),
    (
        "bytes of an expected stream's name",
        1,
        1024,
        |store, text, _| {
            let expectation = Expectation {
                stream: text,
                expected: Expected::Any,
            };
            let request = AppendRequest {
                events: &[EVENT],
                expectations: &[expectation],
                ..AppendRequest::default()
            };
            append(store, &request)
        },
    ),
    ("bytes of a type", 1, 255, |store, text, _| {
        append_event(
            store,
            NewEvent {
                event_type: text,
                ..EVENT
            },
        )
    }),
    ("bytes of a content type", 0, 255, |store, text, _| {
        append_event(
            store,
            NewEvent {
                content_type: text,
                ..EVENT
            },
        )
    }),
    ("bytes of a tag", 1, 255, |store, text, _| {
        append_event(
            store,
            NewEvent {
                tags: &["a", text],
                ..EVENT
            },
        )
    }),
    ("tags of an event", 0, 64, |store, _, count| {
        let tags: Vec<String> = (0..count).map(|tag| format!("t{tag}")).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        append_event(
            store,
            NewEvent {
                tags: &tags,
                ..EVENT
            },
        )
    }),
    (
        "different tags of an event, each twice",
        0,
        64,
        |store, _, count| {
            let tags: Vec<String> = (0..2 * count).map(|tag| format!("t{}", tag / 2)).collect();
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            append_event(
                store,
                NewEvent {
                    tags: &tags,
                    ..EVENT
                },
            )
        },
    ),
    (
        "bytes of a type in a condition",
        1,
        255,
        |store, text, _| {
            let query = Query {
                items: vec![QueryItem {
                    types: vec![text.to_owned()],
                    tags: vec![],
                }],
            };
            append_on(store, &query)
        },
    ),
    ("bytes of a tag in a condition", 1, 255, |store, text, _| {
        let query = Query {
            items: vec![QueryItem {
                types: vec![],
                tags: vec![text.to_owned()],
            }],
        };
        append_on(store, &query)
    }),
    ("bytes of an idempotency key", 1, 255, |store, text, _| {
        let request = AppendRequest {
            events: &[EVENT],
            idempotency_key: Some(text.as_bytes()),
            ..AppendRequest::default()
        };
        append(store, &request)?;
        let again = store.append(&request, Durability::AsOpened).unwrap();
        assert!(again.duplicate);
        Ok(())
    }),
    ("bytes of a state's key", 1, 1024, |store, text, _| {
        let key = text.as_bytes();
        append_side(store, SideRecord::PutState { key, value: b"v" })?;
        assert_eq!(store.state(key).unwrap().as_deref(), Some(&b"v"[..]));
        Ok(())
    }),
    (
        "bytes of a state's key that is deleted",
        1,
        1024,
        |store, text, _| {
            let key = text.as_bytes();
            append_side(store, SideRecord::DeleteState { key })?;
            assert_eq!(store.state(key).unwrap(), None);
            Ok(())
        },
    ),
    ("bytes of a state's value", 0, 1 << 20, |store, text, _| {
        let value = text.as_bytes();
        append_side(store, SideRecord::PutState { key: b"k", value })?;
        assert!(store.state(b"k").unwrap().as_deref() == Some(value));
        Ok(())
    }),
    (
        "bytes of the name of a saved position",
        1,
        255,
        |store, text, _| {
            let side = SideRecord::SavePosition {
                name: text,
                position: 3,
                reset: false,
            };
            append_side(store, side)?;
            assert_eq!(store.saved_position(text).unwrap(), Some(3));
            Ok(())
        },
    ),
    (
        "bytes of the name of a saved position asked for",
        1,
        255,
        |store, text, _| store.saved_position(text).map(drop),
    ),
    (
        "bytes of the name of a subscription",
        1,
        255,
        |store, text, _| {
            let subscribed = store.subscribe(Selection::All, &SubscribeFrom::Saved, Some(text));
            subscribed.map(drop)
        },
    ),
    (
        "a saved position",
        0,
        (1 << 62) - 1,
        |store, _, position| {
            let side = SideRecord::SavePosition {
                name: "p",
                position,
                reset: true,
            };
            append_side(store, side)?;
            assert_eq!(store.saved_position("p").unwrap(), Some(position));
            Ok(())
        },
    ),
    ("events of a page", 1, u64::MAX, |store, _, count| {
        let mut reader = store.read(duralog::eventstore::Read::default()).unwrap();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        reader.next_page(count).map(drop)
    }),
    (
        "events of a page of a subscription",
        1,
        u64::MAX,
        |store, _, count| {
            let from = SubscribeFrom::Beginning;
            let mut subscription = store.subscribe(Selection::All, &from, None).unwrap();
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let now = Some(std::time::Duration::ZERO);
            subscription.next_page(count, now).map(drop)
        },
    ),
    ("names of a page", 1, u64::MAX, |store, _, count| {
        let kind = duralog::eventstore::NameKind::Stream;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        store.names(kind, None, "", count).map(drop)
    }),
];

fn append_on(store: &EventStore, query: &Query) -> Outcome {
    let after = store.last_position().unwrap();
    let request = AppendRequest {
        events: &[EVENT],
        conditions: &[Condition { query, after }],
        ..AppendRequest::default()
    };
    append(store, &request)
}

#[test]
fn each_limit_is_where_it_is_said_to_be() {
    let store = EventStore::open_on(
        Arc::new(SimDisk::new(1)),
        "/store",
        &EventStoreOptions::default(),
    )
    .unwrap();
    for (what, least, most, attempt) in LIMITS {
        let text = |number: u64| {
            let len = usize::try_from(number.min(2 << 20)).unwrap();
            // One letter of two bytes: it is bytes that count.
            let text = "ä".repeat(len / 2) + &"x".repeat(len % 2);
            assert_eq!(text.len(), len);
            text
        };
        for number in [least, most] {
            if let Err(error) = attempt(&store, &text(number), number) {
                panic!("{what}: {number} is refused: {error}");
            }
        }
        let (wal, last) = (store.wal().stat().unwrap(), store.last_position().unwrap());
        let beyond = [least.checked_sub(1), most.checked_add(1)];
        for number in beyond.into_iter().flatten() {
            match attempt(&store, &text(number), number) {
                Ok(()) => panic!("{what}: {number} is accepted"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{what}: {error}");
                }
            }
        }
        assert_eq!(store.wal().stat().unwrap().last_seq, wal.last_seq, "{what}");
        assert_eq!(store.last_position().unwrap(), last, "{what}");
    }
    // After all that was refused the store goes on.
    append_event(&store, EVENT).unwrap();
}

/// As FORMAT.md section 20.2 counts it, with 10 bytes each for position and stream version.
fn counted_len(event: &NewEvent<'_>) -> usize {
    let varint = |number: usize| match number {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    };
    let text = |text: &str| varint(text.len()) + text.len();
    let mut len = event.stream.len() + 1 + 10 + 10;
    len += event.id.map_or(0, |id| id.len());
    len += text(event.event_type);
    len += varint(event.tags.len()) + event.tags.iter().map(|tag| text(tag)).sum::<usize>();
    len += if event.schema_version == u64::MAX {
        10
    } else {
        1
    };
    len += text(event.content_type);
    len += event.occurred_ns.map_or(0, |_| 8);
    len += event.correlation_id.map_or(0, |id| id.len());
    len += event.causation_id.map_or(0, |id| id.len());
    if !event.metadata.is_empty() {
        len += varint(event.metadata.len()) + event.metadata.len();
    }
    len + event.data.len()
}

#[test]
fn the_largest_event_is_accepted_and_one_byte_more_is_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let options = EventStoreOptions {
        wal: WalOptions {
            sync_mode: SyncMode::Manual,
            ..WalOptions::default()
        },
        ..EventStoreOptions::default()
    };
    let store = EventStore::open(dir.path().join("store"), &options).unwrap();
    let name = "n".repeat(255);
    let stream = "s".repeat(1024);
    let tags: Vec<String> = (0..64).map(|tag| format!("{tag:0>255}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let bytes = vec![7; RECORD_LEN_MAX + 1];
    let full = NewEvent {
        stream: &stream,
        event_type: &name,
        content_type: &name,
        tags: &tags,
        id: Some([1; 16]),
        schema_version: u64::MAX,
        occurred_ns: Some(-1),
        correlation_id: Some([2; 16]),
        causation_id: Some([3; 16]),
        metadata: &bytes[..3_000_000],
        data: &[],
    };
    // What is not data and metadata, at most, as the header says.
    assert_eq!(counted_len(&full) - full.metadata.len(), 18_078);
    let plain = NewEvent { data: &[], ..EVENT };
    for event in [plain, full] {
        let room = RECORD_LEN_MAX - counted_len(&event);
        let before = store.wal().stat().unwrap().last_seq;
        for more in [1, 2] {
            let event = NewEvent {
                data: &bytes[..room + more],
                ..event
            };
            let error = append_event(&store, event).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        }
        assert_eq!(store.wal().stat().unwrap().last_seq, before);
        let largest = NewEvent {
            data: &bytes[..room],
            ..event
        };
        append_event(&store, largest).unwrap();
    }
    assert_eq!(store.last_position().unwrap(), 2);
}
