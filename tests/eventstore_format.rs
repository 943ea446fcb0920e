//! The event store's records (FORMAT.md section 20), held to account.
//!
//! The worked example of section 20.8 is encoded with the types of `duralog::format`, listed byte by
//! byte, and compared with FORMAT.md, with the golden files in `tests/golden/1.0/event_store/`, and
//! with what the engine writes; see tests/worked_example.rs for how, and for `DURALOG_BLESS=1`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/mod.rs"]
mod common;
#[path = "common/differential.rs"]
mod differential;
#[path = "common/example.rs"]
mod example;
#[path = "common/process.rs"]
mod process;
#[path = "common/store_bytes.rs"]
mod store_bytes;

use differential::{compare_with_python, scratch};
use duralog::eventstore::{AppendRequest, EventStore, EventStoreOptions, NewEvent, SideRecord};
use duralog::format::control::SLOT_LEN;
use duralog::format::event::{event_flag, EventBody, OP_STATE_PUT};
use duralog::format::segment_header::HEADER_SIZE;
use duralog::vfs::sim::SimDisk;
use duralog::{Durability, WalOptions};
use example::{
    assert_golden, assert_listed, assert_same, blessing, listed, made_up_control, made_up_segment,
    parse, root, Files, Listing, APPLICATION_ID, CONTROL, SEGMENT, TIME_NS,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store_bytes::{
    assert_same_lines, encode_store, event_record, hex, open_to_read, read_by_engine,
    read_by_python, request_record, saved_position, write_files, Rec,
};

const BEGIN_MARK: &str = "<!-- event store example: listed by tests/eventstore_format.rs -->\n";
const END_MARK: &str = "<!-- event store example: end -->\n";

const TAGS: [&str; 2] = ["order:1", "region:eu"];
const OCCURRED_NS: i64 = 1_699_999_999_000_000_000;

fn full_event() -> NewEvent<'static> {
    NewEvent {
        stream: "order-1",
        event_type: "Opened",
        data: b"{\"total\":42}",
        metadata: b"{\"by\":\"ann\"}",
        tags: &TAGS,
        id: Some([0xA1; 16]),
        schema_version: 2,
        content_type: "application/json",
        occurred_ns: Some(OCCURRED_NS),
        correlation_id: Some([0xC0; 16]),
        causation_id: Some([0xCA; 16]),
    }
}

/// The two appends, encoded.
fn example_batches() -> [Vec<Rec>; 2] {
    let full = full_event();
    let body = EventBody {
        id: full.id.as_ref(),
        event_type: full.event_type.as_bytes(),
        schema_version: full.schema_version,
        content_type: full.content_type.as_bytes(),
        occurred_ns: full.occurred_ns,
        correlation_id: full.correlation_id.as_ref(),
        causation_id: full.causation_id.as_ref(),
        metadata: full.metadata,
        data: full.data,
    };
    let noted = EventBody {
        event_type: b"Noted",
        ..EventBody::default()
    };
    let closed = EventBody {
        event_type: b"Closed",
        data: b"bye",
        ..EventBody::default()
    };
    let both = event_flag::FIRST | event_flag::LAST;
    let mut first = vec![
        event_record("order-1", event_flag::FIRST, (1, 1), &body, &TAGS),
        event_record("customer-7", event_flag::LAST, (2, 1), &noted, &[]),
        saved_position("billing", 2, 0),
        (OP_STATE_PUT, b"total".to_vec(), b"42".to_vec()),
    ];
    first.push(request_record("req-1", 1, &first));
    [
        first,
        vec![event_record("order-1", both, (3, 2), &closed, &[])],
    ]
}

fn example() -> (Files, Vec<u64>) {
    encode_store(&example_batches(), None)
}

fn listing() -> String {
    let (files, frames) = example();
    let mut list = Listing::new(SEGMENT, &files[SEGMENT], HEADER_SIZE as usize);
    let at = |index: usize| usize::try_from(frames[index]).unwrap();
    let flags = "flags: BEGIN, COMMIT";
    list.frame(
        at(0),
        "first append",
        flags,
        "link: crc of the segment header",
    );

    list.record("record: event with every field (sections 6 and 20.2)");
    list.text(7, "key, the stream");
    list.field(
        1,
        "flags: ID, FIRST, METADATA, OCCURRED, CORRELATION, CAUSATION",
    );
    list.fields(&[(1, "position"), (1, "stream_version"), (16, "id")]);
    list.number(1, "length of event_type");
    list.text(6, "event_type");
    list.number(1, "tag_count");
    for tag in TAGS {
        list.number(1, "length of the tag");
        list.text(tag.len(), "tag");
    }
    list.number(1, "schema_version");
    list.number(1, "length of content_type");
    list.text(16, "content_type");
    list.number(8, "occurred_ns");
    list.fields(&[(16, "correlation_id"), (16, "causation_id")]);
    list.number(1, "length of metadata");
    list.text(12, "metadata");
    list.text(12, "data");

    list.record("record: event with what it must have (sections 6 and 20.2)");
    list.text(10, "key, the stream");
    list.field(1, "flags: LAST");
    list.fields(&[(1, "position"), (1, "stream_version")]);
    list.number(1, "length of event_type");
    list.text(5, "event_type");
    list.fields(&[(1, "tag_count"), (1, "schema_version")]);
    list.number(1, "length of content_type");

    list.record("record: saved position (section 20.4)");
    list.text(7, "key, the name");
    list.number(8, "position");
    list.field(1, "flags: none");

    list.record("record: state (section 20.4)");
    list.text(5, "key");
    list.text(2, "value");

    list.record("record: idempotency key (section 20.5)");
    list.text(5, "key");
    list.field(16, "digest: bytes 0..16");
    list.field(16, "digest: bytes 16..32");
    list.number(8, "position of the first event");
    list.number(8, "count of events");
    list.padding();

    let link = format!("link: header_crc of the frame at {}", at(0));
    list.frame(at(1), "second append", flags, &link);
    list.record("record: event (sections 6 and 20.2)");
    list.text(7, "key, the stream");
    list.field(1, "flags: FIRST, LAST");
    list.fields(&[(1, "position"), (1, "stream_version")]);
    list.number(1, "length of event_type");
    list.text(6, "event_type");
    list.fields(&[(1, "tag_count"), (1, "schema_version")]);
    list.number(1, "length of content_type");
    list.text(3, "data");
    list.padding();
    assert_eq!(list.at, at(2));
    format!("```\n{}```\n", list.finish())
}

fn golden_dir() -> PathBuf {
    root().join("tests/golden/1.0/event_store")
}

#[test]
fn the_listing_in_format_md_is_what_is_encoded() {
    assert_listed(BEGIN_MARK, END_MARK, &listing());
}

#[test]
fn the_golden_files_are_what_is_encoded() {
    let (files, _) = example();
    assert_golden(&golden_dir(), &files);
    // The header is that of section 18.
    let other = root().join("tests/golden/1.0/worked_example").join(SEGMENT);
    let header = HEADER_SIZE as usize;
    assert!(std::fs::read(other).unwrap()[..header] == files[SEGMENT][..header]);
}

#[test]
fn the_bytes_in_format_md_are_read_back_by_both_readers() {
    let text = if blessing() {
        listing()
    } else {
        listed(BEGIN_MARK, END_MARK)
    };
    let (wanted, _) = example();
    let mut files = parse(&text);
    let header = HEADER_SIZE as usize;
    files.get_mut(SEGMENT).unwrap()[..header].copy_from_slice(&wanted[SEGMENT][..header]);
    files.insert(CONTROL.to_owned(), wanted[CONTROL].clone());
    assert!(files == wanted);
    let dir = scratch();
    write_files(dir.path(), &files);

    compare_with_python(&[dir.path().to_owned()]);
    let (engine, outcome) = read_by_engine(dir.path());
    outcome.unwrap();
    let (python, outcome) = read_by_python(dir.path(), &[]);
    outcome.unwrap();
    assert_same_lines("the example", &engine, &python);
    assert_eq!(engine.len(), 3);
    assert!(engine[1].contains("\"id\": \"00010203-0405-8607-8000-000000000002\""));

    let store = open_to_read(dir.path()).unwrap();
    assert_eq!(store.saved_position("billing").unwrap(), Some(2));
    assert_eq!(store.state(b"total").unwrap().as_deref(), Some(&b"42"[..]));
    let (side, outcome) = read_by_python(dir.path(), &["--side"]);
    outcome.unwrap();
    let digest = hex(&example_batches()[0][4].2[..32]);
    let wanted = [
        "{\"kind\": \"saved_position\", \"name\": \"billing\", \"position\": 2, \
         \"reset\": false, \"seq\": 3}"
            .to_owned(),
        "{\"kind\": \"state\", \"key\": \"dG90YWw=\", \"value\": \"NDI=\", \"seq\": 4}".to_owned(),
        format!(
            "{{\"kind\": \"idempotency\", \"key\": \"cmVxLTE=\", \"digest\": \"{digest}\", \
             \"first_position\": 1, \"event_count\": 2, \"batch_id\": 4096, \"seq\": 5}}"
        ),
    ];
    assert_same_lines("side records", &wanted, &side);
}

#[test]
fn the_engine_writes_the_same_but_for_what_is_made_up() {
    let disk = SimDisk::new(1);
    let options = EventStoreOptions {
        wal: WalOptions {
            application_id: APPLICATION_ID,
            ..WalOptions::default()
        },
        ..EventStoreOptions::default()
    };
    let store = EventStore::open_on(Arc::new(disk.clone()), "/log", &options).unwrap();
    let noted = NewEvent {
        stream: "customer-7",
        event_type: "Noted",
        ..NewEvent::default()
    };
    let closed = NewEvent {
        stream: "order-1",
        event_type: "Closed",
        data: b"bye",
        ..NewEvent::default()
    };
    let side_records = [
        SideRecord::SavePosition {
            name: "billing",
            position: 2,
            reset: false,
        },
        SideRecord::PutState {
            key: b"total",
            value: b"42",
        },
    ];
    let first = AppendRequest {
        events: &[full_event(), noted],
        side_records: &side_records,
        idempotency_key: Some(b"req-1"),
        ..AppendRequest::default()
    };
    store.append(&first, Durability::AsOpened).unwrap();
    let second = AppendRequest {
        events: &[closed],
        ..AppendRequest::default()
    };
    store.append(&second, Durability::AsOpened).unwrap();
    let (wanted, frames) = example();
    let read = |name: &str| disk.read_file(Path::new("/log").join(name)).unwrap();
    let segment = made_up_segment(&read(SEGMENT), &frames[..2]);
    let control = made_up_control(&read(CONTROL), [(0, TIME_NS), (SLOT_LEN, TIME_NS)]);
    let found = [(SEGMENT.to_owned(), segment), (CONTROL.to_owned(), control)];
    assert_same(Files::from(found), &wanted);
}
