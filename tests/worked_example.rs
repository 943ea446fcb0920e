//! The worked example of FORMAT.md (section 18), held to account.
//!
//! The log is encoded with the types of `duralog::format`, listed byte by byte, and compared with
//! the listing in FORMAT.md and with the golden files in `tests/golden/1.0/`. The other way round,
//! the bytes in the document are read back by the engine and by the pure-Python reader. And the
//! engine itself, given the same program, must write the same bytes but for what is made up in the
//! example (identity, salt and clock), so that the example shows what is really written.
//!
//! `DURALOG_BLESS=1` writes listing and golden files anew. Golden files of a released version are
//! never written anew: a change to them is a change of the format.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/differential.rs"]
mod differential;
#[path = "common/example.rs"]
mod example;

use differential::{compare_with_python, python_reader};
use duralog::format::checksum::crc32;
use duralog::format::control::{Control, SLOT_LEN};
use duralog::format::frame::{frame_flag, frame_type, FrameHeader, HEADER_LEN};
use duralog::format::record::{encode_header, OP_DELETE, OP_PUT};
use duralog::format::segment_header::HEADER_SIZE;
use duralog::vfs::sim::SimDisk;
use duralog::{Durability, EntryKind, Lsn, OpenHow, Record, Wal, WalOptions};
use example::{
    assert_golden, assert_listed, assert_same, blessing, created, listed, made_up_control,
    made_up_segment, parse, root, segment_header, Files, Listing, APPLICATION_ID, CONTROL, SALT,
    SECOND, SEGMENT, TIME_NS,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BEGIN_MARK: &str = "<!-- worked example: listed by tests/worked_example.rs -->\n";
const END_MARK: &str = "<!-- worked example: end -->\n";

/// Where the frames begin and end.
const FRAMES: [u64; 4] = [4096, 4184, 4280, 4352];

fn record_bytes(op: u8, key: &str, value: &str) -> Vec<u8> {
    let len = |text: &str| u32::try_from(text.len()).unwrap();
    let mut bytes = encode_header(op, len(key), len(value)).to_vec();
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// The example, encoded. One frame is promised by the next: LSN and offset are equal in segment 1.
fn example() -> Files {
    let header = segment_header();
    let mut segment = header.encode().to_vec();
    segment.resize(HEADER_SIZE as usize, 0);
    let whole = frame_flag::BEGIN | frame_flag::COMMIT;
    let batch = [
        record_bytes(OP_PUT, "a", "1"),
        record_bytes(OP_DELETE, "b", ""),
    ]
    .concat();
    let frames = [
        (
            frame_type::BATCH,
            whole | frame_flag::SOLO,
            1,
            1,
            record_bytes(OP_PUT, "k", "hello"),
        ),
        (frame_type::BATCH, whole, 2, 2, batch),
        (frame_type::CHECKPOINT, 0, 5, 0, b"snap".to_vec()),
    ];
    let mut link = header.link();
    for (index, (frame_type, flags, first_seq, record_count, payload)) in frames.iter().enumerate()
    {
        assert_eq!(segment.len() as u64, FRAMES[index]);
        let head = FrameHeader {
            payload_crc: crc32(payload),
            payload_len: u32::try_from(payload.len()).unwrap(),
            frame_type: *frame_type,
            flags: *flags,
            link,
            salt: SALT,
            lsn: Lsn(FRAMES[index]),
            first_seq: *first_seq,
            record_count: *record_count,
            durable_lsn: Lsn(FRAMES[index]),
            time_ns: TIME_NS + SECOND * (index as u64 + 1),
        };
        let encoded = head.encode();
        link = crc32(&encoded[4..]);
        segment.extend_from_slice(&encoded);
        segment.extend_from_slice(payload);
        segment.resize(segment.len().next_multiple_of(8), 0);
    }
    assert_eq!(segment.len() as u64, FRAMES[3]);
    segment.resize(segment.len() + HEADER_LEN, 0);

    let created = created();
    let with_checkpoint = Control {
        generation: 3,
        durable_lsn: Lsn(FRAMES[3]),
        checkpoint_lsn: Lsn(FRAMES[2]),
        time_ns: TIME_NS + 3 * SECOND,
        ..created
    };
    let mut control = vec![0; 2 * SLOT_LEN];
    control[..128].copy_from_slice(&with_checkpoint.encode());
    control[SLOT_LEN..SLOT_LEN + 128].copy_from_slice(&created.encode());
    Files::from([(SEGMENT.to_owned(), segment), (CONTROL.to_owned(), control)])
}

// ---- The listing -------------------------------------------------------------------------------

fn list_segment(bytes: &[u8]) -> String {
    let mut list = Listing::new(SEGMENT, bytes, 0);
    list.heading(0, "segment header (section 4)");
    list.fields(&[
        (8, "magic: 8F, DUR, CR LF, 1A, LF"),
        (2, "format_major"),
        (2, "format_minor"),
        (4, "header_size"),
        (4, "incompatible"),
        (4, "read_only_compatible"),
        (4, "compatible"),
        (2, "flags"),
        (2, "alignment"),
        (16, "log_id"),
        (8, "segment_number"),
        (8, "base_lsn"),
        (8, "first_seq"),
        (8, "prev_end_lsn"),
        (4, "prev_link"),
        (4, "salt: 0x11223344"),
        (8, "durable_lsn"),
        (8, "checkpoint_lsn"),
        (8, "allocated_size"),
        (8, "created_ns"),
        (4, "application_id"),
        (4, "crc: of bytes 0..124; link of the first frame"),
    ]);
    let frames = [
        (
            "single append",
            "flags: BEGIN, COMMIT, SOLO",
            "link: crc of the segment header",
        ),
        (
            "batch of two",
            "flags: BEGIN, COMMIT",
            "link: header_crc of the frame at 4096",
        ),
        (
            "checkpoint",
            "flags: none",
            "link: header_crc of the frame at 4184",
        ),
    ];
    let records: [&[(usize, usize)]; 3] = [&[(1, 5)], &[(1, 1), (1, 0)], &[]];
    for (index, (what, flags, link)) in frames.into_iter().enumerate() {
        let at = usize::try_from(FRAMES[index]).unwrap();
        list.frame(at, what, flags, link);
        for &(key_len, value_len) in records[index] {
            list.record("record (section 6)");
            for (len, name) in [(key_len, "key"), (value_len, "value")] {
                if len > 0 {
                    list.text(len, name);
                }
            }
        }
        if records[index].is_empty() {
            list.field(4, "payload: snap");
        }
        list.padding();
    }
    list.finish()
}

fn list_control(bytes: &[u8]) -> String {
    let mut list = Listing::new(CONTROL, bytes, 0);
    for (at, what) in [
        (0, "slot 0 (section 9), written with the checkpoint"),
        (SLOT_LEN, "slot 1, written at creation"),
    ] {
        list.heading(at, what);
        list.fields(&[
            (8, "magic: 8F, DURCTL, LF"),
            (2, "format_major"),
            (2, "format_minor"),
            (4, "state: OPEN"),
            (16, "log_id"),
            (8, "generation"),
            (8, "first_segment"),
            (8, "last_segment"),
            (8, "truncated_seq"),
            (8, "durable_lsn"),
            (8, "checkpoint_lsn"),
            (8, "end_lsn"),
            (8, "next_seq"),
            (8, "last_frame_lsn"),
            (4, "end_link"),
            (4, "reserved"),
            (8, "time_ns"),
            (4, "reserved"),
            (4, &format!("crc: of bytes {at}..{}", at + 124)),
        ]);
    }
    list.finish()
}

fn listing(files: &Files) -> String {
    let segment = list_segment(&files[SEGMENT]);
    let control = list_control(&files[CONTROL]);
    format!("```\n{segment}```\n\n```\n{control}```\n")
}

// ---- The tests ---------------------------------------------------------------------------------

fn golden_dir() -> PathBuf {
    root().join("tests/golden/1.0/worked_example")
}

#[test]
fn the_listing_in_format_md_is_what_is_encoded() {
    assert_listed(BEGIN_MARK, END_MARK, &listing(&example()));
}

#[test]
fn the_golden_files_are_what_is_encoded() {
    assert_golden(&golden_dir(), &example());
}

#[test]
fn the_bytes_in_format_md_are_read_back_by_both_readers() {
    let found = if blessing() {
        listing(&example())
    } else {
        listed(BEGIN_MARK, END_MARK)
    };
    let files = parse(&found);
    assert!(files == example());
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in &files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }

    let report = Wal::verify(dir.path()).unwrap();
    assert_eq!(
        (report.row, report.lsn.0, report.end_lsn.0, report.next_seq),
        ("Z", FRAMES[3], FRAMES[3], 6)
    );
    assert_eq!(report.evidence_lsn.0, FRAMES[3]);
    let options = WalOptions {
        how: OpenHow::ReadOnly,
        ..WalOptions::default()
    };
    let wal = Wal::open(dir.path(), &options).unwrap();
    let mut cursor = wal.raw_cursor(0).unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = cursor.next().unwrap() {
        assert!(entry.committed);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (key, value) = (text(entry.key), text(entry.value));
        entries.push((entry.kind, entry.seq, entry.op, key, value));
    }
    let entry =
        |kind, seq, op, key: &str, value: &str| (kind, seq, op, key.to_owned(), value.to_owned());
    let wanted = [
        entry(EntryKind::Record, 1, OP_PUT, "k", "hello"),
        entry(EntryKind::Record, 2, OP_PUT, "a", "1"),
        entry(EntryKind::Record, 3, OP_DELETE, "b", ""),
        entry(EntryKind::Commit, 4, 0, "", ""),
        entry(EntryKind::Checkpoint, 5, 0, "", "snap"),
    ];
    assert_eq!(entries, wanted);

    compare_with_python(&[dir.path().to_owned()]);
    let mut python = python_reader();
    let output = python.arg("--records").arg(dir.path()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let wanted = "1\tLSN 4096\tbatch 4096\top 1\tb'k'\tb'hello'\n\
                  2\tLSN 4184\tbatch 4184\top 1\tb'a'\tb'1'\n\
                  3\tLSN 4184\tbatch 4184\top 2\tb'b'\tb''\n";
    assert_eq!(said, wanted, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_engine_writes_the_same_but_for_what_is_made_up() {
    let disk = SimDisk::new(1);
    let options = WalOptions {
        application_id: APPLICATION_ID,
        ..WalOptions::default()
    };
    let wal = Wal::open_on(Arc::new(disk.clone()), "/log", &options).unwrap();
    wal.append(Record::put(b"k", b"hello"), Durability::AsOpened)
        .unwrap();
    let batch = [Record::put(b"a", b"1"), Record::delete(b"b")];
    let receipt = wal.append_batch(&batch, Durability::AsOpened).unwrap();
    assert_eq!(receipt.seq, 4);
    assert_eq!(wal.checkpoint(b"snap").unwrap().seq, 5);
    let read = |name: &str| disk.read_file(Path::new("/log").join(name)).unwrap();
    let files = [SEGMENT, CONTROL].map(|name| (name.to_owned(), read(name)));
    let found = Files::from(files);
    let slots = [(0, TIME_NS + 3 * SECOND), (SLOT_LEN, TIME_NS)];
    let found = Files::from([
        (
            SEGMENT.to_owned(),
            made_up_segment(&found[SEGMENT], &FRAMES[..3]),
        ),
        (CONTROL.to_owned(), made_up_control(&found[CONTROL], slots)),
    ]);
    assert_same(found, &example());
}
