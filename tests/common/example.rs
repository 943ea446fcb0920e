//! What the worked examples of FORMAT.md share: identity, salt and clock that are made up, the
//! listing of bytes, and its way back.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::format::checksum::crc32;
use duralog::format::control::Control;
use duralog::format::frame::{FrameHeader, HEADER_LEN};
use duralog::format::segment_header::{SegmentHeader, HEADER_SIZE};
use duralog::format::FORMAT_MINOR;
use duralog::Lsn;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub(crate) const SEGMENT: &str = "00000000000000000001.wal";
pub(crate) const CONTROL: &str = "control";

pub(crate) const LOG_ID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
pub(crate) const SALT: u32 = 0x1122_3344;
pub(crate) const APPLICATION_ID: u32 = 7;
pub(crate) const TIME_NS: u64 = 1_700_000_000_000_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// The files of a log's directory by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The header of the segment.
pub(crate) fn segment_header() -> SegmentHeader {
    SegmentHeader {
        format_minor: FORMAT_MINOR,
        header_size: HEADER_SIZE,
        read_only_compatible: 0,
        compatible: 0,
        flags: 0,
        log_id: LOG_ID,
        segment_number: 1,
        base_lsn: Lsn(4096),
        first_seq: 1,
        prev_end_lsn: Lsn(4096),
        prev_link: 0,
        salt: SALT,
        durable_lsn: Lsn::NONE,
        checkpoint_lsn: Lsn::NONE,
        allocated_size: u64::from(HEADER_SIZE),
        created_ns: TIME_NS,
        application_id: APPLICATION_ID,
    }
}

/// The slot of the control file that the creation wrote last, into slot 1.
pub(crate) fn created() -> Control {
    Control {
        closed: false,
        log_id: LOG_ID,
        generation: 2,
        first_segment: 1,
        last_segment: 1,
        truncated_seq: 0,
        durable_lsn: Lsn(4096),
        checkpoint_lsn: Lsn::NONE,
        end_lsn: Lsn::NONE,
        next_seq: 0,
        last_frame_lsn: Lsn::NONE,
        end_link: 0,
        time_ns: TIME_NS,
    }
}

/// Puts the made-up identity, salt and clock in place of those that the engine took, and every
/// checksum and link of the frames at `frames` right.
pub(crate) fn made_up_segment(segment: &[u8], frames: &[u64]) -> Vec<u8> {
    let mut segment = segment.to_vec();
    let header = SegmentHeader {
        log_id: LOG_ID,
        salt: SALT,
        created_ns: TIME_NS,
        ..SegmentHeader::decode(&segment).unwrap()
    };
    segment[..128].copy_from_slice(&header.encode());
    let mut link = header.link();
    for (index, offset) in frames.iter().enumerate() {
        let begin = usize::try_from(*offset).unwrap();
        let place = begin..begin + HEADER_LEN;
        let (head, _) = FrameHeader::decode(&segment[place.clone()]).unwrap();
        let head = FrameHeader {
            salt: SALT,
            link,
            time_ns: TIME_NS + SECOND * (index as u64 + 1),
            ..head
        };
        let encoded = head.encode();
        link = crc32(&encoded[4..]);
        segment[place].copy_from_slice(&encoded);
    }
    segment
}

/// The same for the control file; each slot with its clock.
pub(crate) fn made_up_control(control: &[u8], slots: [(usize, u64); 2]) -> Vec<u8> {
    let mut control = control.to_vec();
    for (at, time_ns) in slots {
        let slot = Control {
            log_id: LOG_ID,
            time_ns,
            ..Control::decode(&control[at..]).unwrap()
        };
        control[at..at + 128].copy_from_slice(&slot.encode());
    }
    control
}

/// The files that the engine wrote are those of the example. It prepares space: zeros, more of them
/// than the example has.
pub(crate) fn assert_same(mut found: Files, wanted: &Files) {
    let segment = found.get_mut(SEGMENT).unwrap();
    let rest = segment.split_off(wanted[SEGMENT].len());
    assert!(rest.iter().all(|&byte| byte == 0));
    for (name, bytes) in wanted {
        let differs = bytes.iter().zip(&found[name]).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{name} differs at this offset");
        assert_eq!(found[name].len(), bytes.len(), "{name}");
    }
}

// ---- The listing -------------------------------------------------------------------------------

/// Lists fields of one file in the order of the file.
pub(crate) struct Listing<'a> {
    bytes: &'a [u8],
    pub(crate) at: usize,
    text: String,
}

impl<'a> Listing<'a> {
    /// Of the bytes from `at` on.
    pub(crate) fn new(text: &str, bytes: &'a [u8], at: usize) -> Listing<'a> {
        let text = format!("{text} ({} bytes)\n", bytes.len());
        Listing { bytes, at, text }
    }

    pub(crate) fn heading(&mut self, at: usize, what: &str) {
        // What is not listed is zero.
        assert!(self.bytes[self.at..at].iter().all(|&byte| byte == 0));
        self.at = at;
        let _ = write!(self.text, "\n  {what}\n");
    }

    /// The next `len` bytes.
    pub(crate) fn field(&mut self, len: usize, what: &str) {
        let bytes = &self.bytes[self.at..self.at + len];
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        let line = format!("{:6}  {:<47}  {what}", self.at, hex.join(" "));
        let _ = writeln!(self.text, "{}", line.trim_end());
        self.at += len;
    }

    /// The next `len` bytes as a number, with its name before it.
    pub(crate) fn number(&mut self, len: usize, name: &str) {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        let value = u64::from_le_bytes(bytes);
        self.field(len, &format!("{name} {value}"));
    }

    /// The next `len` bytes as text, with its name before it.
    pub(crate) fn text(&mut self, len: usize, name: &str) {
        let text = String::from_utf8_lossy(&self.bytes[self.at..self.at + len]);
        self.field(len, &format!("{name}: {text}"));
    }

    /// Fields one after the other: a size and a name; a name with a colon says what the bytes mean.
    pub(crate) fn fields(&mut self, fields: &[(usize, &str)]) {
        for (len, name) in fields {
            if name.contains(':') || *len > 8 {
                self.field(*len, name);
            } else {
                self.number(*len, name);
            }
        }
    }

    /// The header of a BATCH or CHECKPOINT frame at `at`.
    pub(crate) fn frame(&mut self, at: usize, what: &str, flags: &str, link: &str) {
        self.heading(at, &format!("frame: {what} (section 5)"));
        self.fields(&[
            (4, &format!("header_crc: of bytes {}..{}", at + 4, at + 64)),
            (4, "payload_crc: of the payload"),
            (4, "payload_len"),
            (1, "type"),
        ]);
        self.fields(&[
            (1, flags),
            (2, "reserved"),
            (4, link),
            (4, "salt: that of the segment header"),
            (8, "lsn"),
            (8, "first_seq"),
            (4, "record_count"),
            (4, "reserved"),
            (8, "durable_lsn"),
            (8, "time_ns"),
        ]);
    }

    /// The header of a record.
    pub(crate) fn record(&mut self, what: &str) {
        self.heading(self.at, &format!("  {what}"));
        self.fields(&[(1, "op"), (1, "flags"), (2, "reserved")]);
        self.fields(&[(4, "key_len"), (4, "value_len")]);
    }

    /// What follows a payload.
    pub(crate) fn padding(&mut self) {
        let padding = self.at.next_multiple_of(8) - self.at;
        if padding > 0 {
            self.field(padding, "padding");
        }
    }

    pub(crate) fn finish(mut self) -> String {
        let end = self.bytes.len();
        assert!(self.bytes[self.at..].iter().all(|&byte| byte == 0));
        let _ = writeln!(self.text, "\n  from {} to {end}: zero", self.at);
        self.text
    }
}

/// The files that a listing describes: hexadecimal bytes at decimal offsets, zero elsewhere.
pub(crate) fn parse(listing: &str) -> Files {
    let mut files = Files::new();
    let mut current = String::new();
    for line in listing.lines() {
        if let Some((name, size)) = line
            .strip_suffix(" bytes)")
            .and_then(|l| l.split_once(" ("))
        {
            current = name.to_owned();
            files.insert(current.clone(), vec![0; size.parse().unwrap()]);
            continue;
        }
        let mut words = line.split_whitespace();
        let Some(at) = words.next().and_then(|word| word.parse::<usize>().ok()) else {
            continue;
        };
        // The column of bytes ends with two spaces.
        let column = line.trim_start().split_once("  ").unwrap().1;
        let column = column.split("  ").next().unwrap();
        let file = files.get_mut(&current).unwrap();
        for (index, hex) in column.split(' ').enumerate() {
            file[at + index] = u8::from_str_radix(hex, 16).unwrap();
        }
    }
    files
}

// ---- FORMAT.md and golden files ----------------------------------------------------------------

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn blessing() -> bool {
    std::env::var_os("DURALOG_BLESS").is_some()
}

fn format_md() -> PathBuf {
    root().join("FORMAT.md")
}

/// What stands in FORMAT.md between the marks.
pub(crate) fn listed(begin_mark: &str, end_mark: &str) -> String {
    let text = std::fs::read_to_string(format_md()).unwrap();
    let (_, rest) = text.split_once(begin_mark).unwrap();
    rest.split_once(end_mark).unwrap().0.to_owned()
}

/// FORMAT.md has this between the marks; or gets it, if so told.
pub(crate) fn assert_listed(begin_mark: &str, end_mark: &str, wanted: &str) {
    if blessing() {
        let text = std::fs::read_to_string(format_md()).unwrap();
        let (before, rest) = text.split_once(begin_mark).unwrap();
        let (_, behind) = rest.split_once(end_mark).unwrap();
        let text = format!("{before}{begin_mark}{wanted}{end_mark}{behind}");
        std::fs::write(format_md(), text).unwrap();
    }
    let found = listed(begin_mark, end_mark);
    assert_eq!(found, wanted, "DURALOG_BLESS=1 writes it anew");
}

/// The golden files in `dir` are these; or become these, if so told.
pub(crate) fn assert_golden(dir: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = dir.join(name);
        if blessing() {
            std::fs::create_dir_all(dir).unwrap();
            std::fs::write(&path, bytes).unwrap();
        }
        let golden = std::fs::read(&path).unwrap();
        assert!(golden == *bytes, "{} differs", path.display());
    }
}
