//! Files that were made to do harm: every answer is an error or the truth, in bounded time and
//! memory. Checksums are right wherever they are looked at, so nothing is stopped by them.
//!
//! Each case is verified, read in every way, salvaged, opened for writing, written to and read
//! back, in a build that panics when arithmetic overflows. What an open log acknowledges must be
//! there when it is opened again, whatever was there before. The slowest step and the memory of
//! all are printed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]
#![allow(unsafe_code)] // a global allocator that counts, and forwards to the system's

use duralog::format::checksum::crc32;
use duralog::format::control::Control;
use duralog::format::frame::{frame_flag, frame_type, FrameHeader};
use duralog::format::record::encode_header;
use duralog::format::segment_header::SegmentHeader;
use duralog::format::tail_page::{evidence_check, identity_words};
use duralog::{
    Durability, ErrorKind, Lsn, OpenHow, Record, RecoveryPolicy, SyncMode, Wal, WalOptions,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// No step takes longer, in a debug build on a busy machine.
const STEP_MAX: Duration = Duration::from_secs(30);
/// Memory that the library may hold at once for any of these logs, the test's own included.
const MEMORY_MAX: i64 = 512 << 20;

struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

fn took(size: usize) {
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let live = LIVE.fetch_add(size, Ordering::Relaxed) + size;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let size = i64::try_from(layout.size()).unwrap_or(i64::MAX);
        LIVE.fetch_sub(size, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// One test at a time, so that times and memory are those of one log.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    PEAK.store(LIVE.load(Ordering::Relaxed), Ordering::Relaxed);
    guard
}

static SLOWEST_MS: AtomicU64 = AtomicU64::new(0);

/// Times one step.
fn step<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    let took = begun.elapsed();
    assert!(took < STEP_MAX, "{what} took {took:?}");
    let ms = u64::try_from(took.as_millis()).unwrap();
    SLOWEST_MS.fetch_max(ms, Ordering::Relaxed);
    result
}

fn finish(what: &str, cases: u64, base: i64) {
    let memory = PEAK.load(Ordering::Relaxed) - base;
    assert!(memory < MEMORY_MAX, "{what}: {memory} bytes");
    say(&format!(
        "{what}: {cases} cases, slowest step {} ms, at most {} KiB of memory",
        SLOWEST_MS.swap(0, Ordering::Relaxed),
        memory >> 10
    ));
}

// ---- doing everything to a log -------------------------------------------------------------------

fn read_all(wal: &Wal, raw: bool) -> Result<u64, duralog::Error> {
    let mut cursor = if raw {
        wal.raw_cursor(0)?
    } else {
        wal.cursor(0)?
    };
    let mut count = 0;
    while cursor.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn read_pages(wal: &Wal) -> Result<u64, duralog::Error> {
    let mut cursor = wal.cursor(0)?;
    let mut count = 0;
    while let Some(page) = cursor.next_page(1000)? {
        count += page.seq.len() as u64;
    }
    Ok(count)
}

fn read_only(recovery_policy: RecoveryPolicy) -> WalOptions {
    WalOptions {
        how: OpenHow::ReadOnly,
        recovery_policy,
        ..WalOptions::default()
    }
}

/// Everything that can be done to a log, errors being welcome. What is acknowledged must stay.
fn try_everything(path: &Path) {
    let _ = step("verify", || Wal::verify(path));
    for policy in [
        RecoveryPolicy::Default,
        RecoveryPolicy::Strict,
        RecoveryPolicy::Salvage,
    ] {
        let opened = step("open for reading", || Wal::open(path, &read_only(policy)));
        let Ok(wal) = opened else { continue };
        let one = step("read", || read_all(&wal, false));
        let pages = step("read pages", || read_pages(&wal));
        if let (Ok(one), Ok(pages)) = (&one, &pages) {
            assert_eq!(one, pages);
        }
        let _ = step("read raw", || read_all(&wal, true));
        let _ = step("stat", || wal.stat());
        for id in [0, 4096, 8192, 1 << 63, u64::MAX - 7, u64::MAX] {
            let _ = step("batch status", || wal.batch_status(Lsn(id)));
        }
        for after in [u64::MAX, u64::MAX - 1, 1 << 63] {
            let _ = step("read from the end", || {
                wal.cursor(after)
                    .map(|mut cursor| cursor.next().map(|_| ()))
            });
        }
    }
    for round in 0..2 {
        let options = WalOptions {
            how: OpenHow::MustExist,
            sync_mode: SyncMode::Every,
            segment_bytes_max: 64 << 10,
            ..WalOptions::default()
        };
        let Ok(wal) = step("open", || Wal::open(path, &options)) else {
            return;
        };
        let key = format!("written after {round}");
        let record = Record::put(key.as_bytes(), b"value");
        let told = step("append", || wal.append(record, Durability::AsOpened));
        let _ = step("checkpoint", || wal.checkpoint(b"data"));
        if let Ok(receipt) = told {
            let before = receipt.seq - 1;
            let shown = |wal: &Wal| {
                let mut cursor = wal.cursor(before).unwrap();
                let entry = cursor.next().unwrap();
                let entry = entry.unwrap_or_else(|| panic!("{receipt:?} was acknowledged"));
                assert_eq!((entry.seq, entry.key), (receipt.seq, key.as_bytes()));
            };
            shown(&wal);
            let closed = step("close", || wal.close());
            drop(wal);
            let again = match closed {
                Ok(()) => step("open again", || Wal::open(path, &options)).unwrap(),
                // Some number has no successor: the log can still be read.
                Err(error) => {
                    let kinds = [ErrorKind::Unsupported, ErrorKind::Poisoned];
                    assert!(kinds.contains(&error.kind()), "{error}");
                    Wal::open(path, &read_only(RecoveryPolicy::Default)).unwrap()
                }
            };
            shown(&again);
        } else {
            let _ = step("close", || wal.close());
        }
    }
}

// ---- making logs ---------------------------------------------------------------------------------

const LOG_ID: [u8; 16] = *b"hostile log id 1";

fn header(number: u64, base_lsn: u64, first_seq: u64) -> SegmentHeader {
    SegmentHeader {
        header_size: 4096,
        format_minor: 0,
        read_only_compatible: 0,
        compatible: 0,
        flags: 0,
        log_id: LOG_ID,
        segment_number: number,
        base_lsn: Lsn(base_lsn),
        first_seq,
        prev_end_lsn: Lsn(base_lsn),
        prev_link: 0,
        salt: 0x5A17,
        durable_lsn: Lsn(0),
        checkpoint_lsn: Lsn(0),
        allocated_size: 4096,
        created_ns: 1,
        application_id: 0,
    }
}

fn control() -> Control {
    Control {
        closed: false,
        log_id: LOG_ID,
        generation: 1,
        first_segment: 1,
        last_segment: 1,
        truncated_seq: 0,
        durable_lsn: Lsn(0),
        checkpoint_lsn: Lsn(0),
        end_lsn: Lsn(0),
        next_seq: 0,
        last_frame_lsn: Lsn(0),
        end_link: 0,
        time_ns: 1,
    }
}

/// A segment whose frames are chained as they should be.
struct Segment {
    header: SegmentHeader,
    bytes: Vec<u8>,
    link: u32,
    next_seq: u64,
}

impl Segment {
    fn new(header: SegmentHeader) -> Segment {
        let mut bytes = vec![0; header.header_size as usize];
        bytes[..128].copy_from_slice(&header.encode());
        Segment {
            link: header.link(),
            next_seq: header.first_seq,
            header,
            bytes,
        }
    }

    fn lsn(&self) -> u64 {
        let distance = self.bytes.len() as u64 - u64::from(self.header.header_size);
        self.header.base_lsn.0.wrapping_add(distance)
    }

    /// Adds a frame, after `change` was made to its header.
    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        count: u32,
        payload: &[u8],
        change: impl FnOnce(&mut FrameHeader),
    ) -> &mut Segment {
        let mut head = FrameHeader {
            payload_crc: crc32(payload),
            payload_len: u32::try_from(payload.len()).unwrap(),
            frame_type: kind,
            flags,
            link: self.link,
            salt: self.header.salt,
            lsn: Lsn(self.lsn()),
            first_seq: self.next_seq,
            record_count: count,
            durable_lsn: Lsn(0),
            time_ns: 1,
        };
        change(&mut head);
        let encoded = head.encode();
        self.link = u32::from_le_bytes(encoded[..4].try_into().unwrap());
        self.bytes.extend_from_slice(&encoded);
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.next_seq = duralog::format::frame::seq_after(&head).unwrap_or(u64::MAX);
        self
    }

    fn solo(&mut self) -> &mut Segment {
        let flags = frame_flag::BEGIN | frame_flag::COMMIT | frame_flag::SOLO;
        self.frame(frame_type::BATCH, flags, 1, &record(b"k", b"v"), |_| {})
    }

    fn mark(&mut self) -> &mut Segment {
        self.frame(frame_type::MARK, 0, 0, &[], |_| {})
    }

    /// The end as a writer leaves it.
    fn end(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(bytes.len() + 64, 0);
        bytes
    }
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let lens = (key.len() as u32, value.len() as u32);
    let mut bytes = encode_header(1, lens.0, lens.1).to_vec();
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    bytes
}

/// A directory for logs; each case gets a new one.
struct Ground {
    root: tempfile::TempDir,
    cases: u64,
}

impl Ground {
    fn new() -> Ground {
        let shm = Path::new("/dev/shm");
        let root = match shm.is_dir() {
            true => tempfile::tempdir_in(shm).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        Ground { root, cases: 0 }
    }

    fn directory(&mut self) -> PathBuf {
        self.cases += 1;
        let path = self.root.path().join(format!("log{}", self.cases));
        fs::create_dir(&path).unwrap();
        path
    }

    /// Tries a log of these segments and this control file.
    fn log(&mut self, segments: &[(u64, Vec<u8>)], control: Option<&[u8]>) {
        let path = self.directory();
        for (number, bytes) in segments {
            fs::write(path.join(format!("{number:020}.wal")), bytes).unwrap();
        }
        if let Some(control) = control {
            fs::write(path.join("control"), control).unwrap();
        }
        try_everything(&path);
        fs::remove_dir_all(&path).unwrap();
    }
}

fn slots(first: &Control, second: &Control) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    bytes[..128].copy_from_slice(&first.encode());
    bytes[4096..4096 + 128].copy_from_slice(&second.encode());
    bytes
}

/// Numbers at which arithmetic goes wrong.
const NUMBERS: [u64; 26] = [
    0,
    1,
    2,
    7,
    8,
    64,
    4095,
    4096,
    4104,
    4160,
    8192,
    1 << 31,
    (1 << 32) - 8,
    1 << 33,
    1 << 34,
    (1 << 62) - 8,
    1 << 62,
    (1 << 63) - 4096,
    (1 << 63) - 8,
    1 << 63,
    u64::MAX - 4096,
    u64::MAX - 71,
    u64::MAX - 63,
    u64::MAX - 7,
    u64::MAX - 1,
    u64::MAX,
];

/// Segments 1 and 2, the second as its header says after `change`.
fn two_segments(change: impl FnOnce(&mut SegmentHeader)) -> Vec<(u64, Vec<u8>)> {
    let mut first = Segment::new(header(1, 4096, 1));
    first.solo().solo().mark();
    let seal = frame_type::SEAL;
    first.frame(seal, 0, 0, &[], |_| {});
    let mut second = header(2, first.lsn(), first.next_seq);
    second.prev_link = first.link;
    change(&mut second);
    let mut second = Segment::new(second);
    second.solo().solo();
    vec![(1, first.bytes.clone()), (2, second.end())]
}

// ---- the tests -----------------------------------------------------------------------------------

#[test]
fn impossible_claims_of_a_segment_header_are_refused() {
    let _alone = alone();
    let base = LIVE.load(Ordering::Relaxed);
    let mut ground = Ground::new();
    for value in NUMBERS {
        let narrow = u32::try_from(value & 0xFFFF_FFFF).unwrap();
        let changes: [fn(&mut SegmentHeader, u64, u32); 10] = [
            |h, v, _| h.base_lsn = Lsn(v),
            |h, v, _| (h.base_lsn, h.prev_end_lsn) = (Lsn(v), Lsn(v)),
            |h, v, _| h.prev_end_lsn = Lsn(v),
            |h, v, _| h.first_seq = v,
            |h, v, _| h.durable_lsn = Lsn(v),
            |h, v, _| h.checkpoint_lsn = Lsn(v),
            |h, v, _| h.segment_number = v,
            |h, v, _| h.allocated_size = v,
            |h, _, n| h.salt = n,
            |h, _, n| h.prev_link = n,
        ];
        for change in changes {
            // In the second segment of two, and in the only one, with and without control.
            ground.log(&two_segments(|h| change(h, value, narrow)), None);
            let mut only = header(1, 4096, 1);
            change(&mut only, value, narrow);
            let number = only.segment_number.max(1);
            let mut only = Segment::new(only);
            only.solo().solo();
            ground.log(&[(number, only.end())], None);
            let closed = Control {
                closed: true,
                end_lsn: Lsn(only.lsn()),
                durable_lsn: Lsn(only.lsn()),
                next_seq: only.next_seq,
                first_segment: number,
                last_segment: number,
                ..control()
            };
            ground.log(&[(number, only.end())], Some(&slots(&closed, &closed)));
        }
        let mut sized = header(1, 4096, 1);
        sized.header_size = narrow.min(1 << 20) & !7;
        if sized.header_size >= 128 {
            ground.log(&[(1, Segment::new(sized).solo().end())], None);
        }
        let mut bytes = Segment::new(header(1, 4096, 1)).solo().end();
        bytes[12..16].copy_from_slice(&narrow.to_le_bytes());
        let crc = crc32(&bytes[..124]);
        bytes[124..128].copy_from_slice(&crc.to_le_bytes());
        ground.log(&[(1, bytes)], None);
    }
    finish("segment headers", ground.cases, base);
}

#[test]
fn impossible_claims_of_a_control_file_are_refused() {
    let _alone = alone();
    let base = LIVE.load(Ordering::Relaxed);
    let mut ground = Ground::new();
    let segments = two_segments(|_| {});
    for value in NUMBERS {
        let changes: [fn(&mut Control, u64); 9] = [
            |c, v| c.generation = v,
            |c, v| c.first_segment = v,
            |c, v| c.last_segment = v,
            |c, v| (c.first_segment, c.last_segment) = (v, v),
            |c, v| c.truncated_seq = v,
            |c, v| c.durable_lsn = Lsn(v),
            |c, v| c.checkpoint_lsn = Lsn(v),
            |c, v| (c.end_lsn, c.durable_lsn, c.closed) = (Lsn(v), Lsn(v), true),
            |c, v| (c.next_seq, c.last_frame_lsn, c.closed) = (v, Lsn(v), true),
        ];
        for change in changes {
            let mut claimed = Control {
                last_segment: 2,
                ..control()
            };
            change(&mut claimed, value);
            ground.log(&segments, Some(&slots(&claimed, &claimed)));
            ground.log(&[], Some(&slots(&claimed, &claimed)));
            ground.log(&segments[..1], Some(&slots(&claimed, &control())));
        }
    }
    // Garbage of every kind.
    let mut seed = 1u32;
    for len in [0, 1, 127, 128, 4095, 4096, 4097, 8191, 8192, 100_000] {
        let garbage: Vec<u8> = (0..len)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        ground.log(&segments, Some(&garbage));
    }
    finish("control files", ground.cases, base);
}

#[test]
fn impossible_claims_of_frames_are_refused() {
    let _alone = alone();
    let base = LIVE.load(Ordering::Relaxed);
    let mut ground = Ground::new();
    let whole = frame_flag::BEGIN | frame_flag::COMMIT;
    for value in NUMBERS {
        let changes: [fn(&mut FrameHeader, u64); 9] = [
            |f, v| f.payload_len = v as u32,
            |f, v| f.record_count = v as u32,
            |f, v| f.first_seq = v,
            |f, v| f.lsn = Lsn(v),
            |f, v| f.durable_lsn = Lsn(v),
            |f, v| f.frame_type = v as u8,
            |f, v| f.flags = v as u8,
            |f, v| f.time_ns = v,
            |f, v| (f.frame_type, f.first_seq, f.record_count) = (frame_type::CHECKPOINT, v, 0),
        ];
        for change in changes {
            let payload = [record(b"a", b"1"), record(b"b", b"2")].concat();
            let mut segment = Segment::new(header(1, 4096, 1));
            segment.solo();
            segment.frame(frame_type::BATCH, whole, 2, &payload, |f| change(f, value));
            segment.solo().solo();
            ground.log(&[(1, segment.end())], None);
        }
        // Records that claim to be long.
        let narrow = u32::try_from(value & 0xFFFF_FFFF).unwrap();
        for (key_len, value_len) in [(narrow, 1), (1, narrow), (narrow, narrow)] {
            let mut payload = encode_header(1, key_len, value_len).to_vec();
            payload.extend_from_slice(&[0; 100]);
            let mut segment = Segment::new(header(1, 4096, 1));
            segment
                .frame(frame_type::BATCH, whole, 1, &payload, |_| {})
                .solo();
            ground.log(&[(1, segment.end())], None);
        }
        // The numbers run out in the middle.
        let mut segment = Segment::new(header(1, 4096, value.max(1)));
        segment.solo().solo().solo().mark().solo();
        ground.log(&[(1, segment.end())], None);
    }
    finish("frames", ground.cases, base);
}

#[test]
fn a_tail_page_that_lies_costs_nothing_but_an_error() {
    let _alone = alone();
    let base = LIVE.load(Ordering::Relaxed);
    let mut ground = Ground::new();
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
    let mut boot_id = [0; 16];
    for (byte, pair) in boot_id.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    }
    for value in NUMBERS {
        let mut words = [0u64; 512];
        let identity = identity_words(&LOG_ID, &boot_id);
        words[..identity.len()].copy_from_slice(&identity);
        words[5] = value;
        words[6] = value;
        words[7] = value;
        words[8] = value;
        words[9] = evidence_check(&LOG_ID, &boot_id, Lsn(value));
        let page: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let path = ground.directory();
        for (number, bytes) in two_segments(|_| {}) {
            fs::write(path.join(format!("{number:020}.wal")), bytes).unwrap();
        }
        fs::write(path.join("tail"), &page).unwrap();
        try_everything(&path);
    }
    finish("tail pages", ground.cases, base);
}

#[test]
fn millions_of_tiny_frames_are_read_in_linear_time() {
    let _alone = alone();
    let base = LIVE.load(Ordering::Relaxed);
    let mut ground = Ground::new();
    let build = |make: &dyn Fn(&mut Segment)| {
        let mut segment = Segment::new(header(1, 4096, 1));
        make(&mut segment);
        segment.end()
    };
    // 1,000,000 marks; 200,000 single records; a batch of as many frames that never ends,
    // and one that does.
    let cases: [(&str, Vec<u8>); 4] = [
        (
            "marks",
            build(&|segment| {
                (0..1_000_000).fold(segment, |segment, _| segment.mark());
            }),
        ),
        (
            "single records",
            build(&|segment| {
                (0..200_000).fold(segment, |segment, _| segment.solo());
            }),
        ),
        (
            "an endless batch",
            build(&|segment| {
                segment.solo();
                let payload = record(b"k", b"v");
                for index in 0..200_000 {
                    let begin = if index == 0 { frame_flag::BEGIN } else { 0 };
                    segment.frame(frame_type::BATCH, begin, 1, &payload, |_| {});
                }
            }),
        ),
        (
            "a long batch",
            build(&|segment| {
                let payload = record(b"k", b"v");
                for index in 0..200_000 {
                    let begin = if index == 0 { frame_flag::BEGIN } else { 0 };
                    segment.frame(frame_type::BATCH, begin, 1, &payload, |_| {});
                }
                segment.frame(frame_type::BATCH, frame_flag::COMMIT, 1, &payload, |_| {});
            }),
        ),
    ];
    for (what, bytes) in cases {
        let (begun, len) = (Instant::now(), bytes.len());
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        ground.log(&[(1, bytes)], None);
        let memory = PEAK.load(Ordering::Relaxed) - before;
        assert!(memory < 8 << 20, "{what}: {memory} bytes");
        say(&format!(
            "  {what}: {} MiB, everything in {:.1} s",
            len >> 20,
            begun.elapsed().as_secs_f64()
        ));
    }
    finish("tiny frames", ground.cases, base);
}

/// Behind a damaged place, each of very many headers claims all that follows as its payload.
#[test]
fn headers_that_all_claim_the_rest_of_the_file_are_given_up() {
    let _alone = alone();
    let base = LIVE.load(Ordering::Relaxed);
    let mut ground = Ground::new();
    let mut segment = Segment::new(header(1, 4096, 1));
    segment.solo();
    segment.bytes.resize(segment.bytes.len() + 64, 0xEE);
    let total: u32 = 16 << 20;
    let flags = frame_flag::BEGIN | frame_flag::COMMIT;
    while (segment.bytes.len() as u32) < total {
        let rest = total - segment.bytes.len() as u32;
        let claim = |head: &mut FrameHeader| head.payload_len = rest;
        segment.frame(frame_type::BATCH, flags, 1, &[], claim);
    }
    let end = segment.bytes.len() + (16 << 20);
    segment.bytes.resize(end, 1);
    ground.log(&[(1, segment.bytes.clone())], None);
    finish("claims", ground.cases, base);
}

/// Without its header, a segment is looked through for frames of any use of the file.
#[test]
fn frames_behind_a_damaged_header_are_looked_for_in_linear_time() {
    let _alone = alone();
    let base = LIVE.load(Ordering::Relaxed);
    let mut ground = Ground::new();
    let build = |make: &dyn Fn(&mut Segment)| {
        let mut segment = Segment::new(header(1, 4096, 1));
        make(&mut segment);
        // The first frame is damaged too.
        segment.bytes[..4096 + 64].fill(0);
        segment.end()
    };
    let flags = frame_flag::BEGIN | frame_flag::COMMIT;
    let cases: [(&str, Vec<u8>); 4] = [
        (
            "marks",
            build(&|segment| {
                (0..300_000).fold(segment, |segment, _| segment.mark());
            }),
        ),
        (
            "a salt for each frame",
            build(&|segment| {
                for salt in 1..300_000 {
                    segment.frame(frame_type::MARK, 0, 0, &[], |head| head.salt = salt);
                }
            }),
        ),
        (
            "any numbers",
            build(&|segment| {
                for value in NUMBERS.repeat(100) {
                    segment.frame(frame_type::MARK, 0, 0, &[], |head| head.lsn = Lsn(value));
                    segment.frame(frame_type::MARK, 0, 0, &[], |head| head.first_seq = value);
                }
            }),
        ),
        (
            "claims",
            build(&|segment| {
                let total: u32 = 16 << 20;
                while (segment.bytes.len() as u32) < total {
                    let rest = total - segment.bytes.len() as u32;
                    let claim = |head: &mut FrameHeader| head.payload_len = rest;
                    segment.frame(frame_type::BATCH, flags, 1, &[], claim);
                }
                segment.bytes.resize(32 << 20, 1);
            }),
        ),
    ];
    for (what, bytes) in cases {
        let begun = Instant::now();
        ground.log(&[(1, bytes.clone())], None);
        ground.log(&[(1, bytes.clone())], Some(&slots(&control(), &control())));
        let mut many = two_segments(|_| {});
        many.push((3, bytes.clone()));
        many.push((4, bytes));
        ground.log(&many, None);
        let took = begun.elapsed().as_secs_f64();
        say(&format!("  {what}: everything in {took:.1} s"));
    }
    finish("damaged headers", ground.cases, base);
}

#[test]
fn files_that_claim_to_be_huge_are_skipped_over() {
    let _alone = alone();
    let base = LIVE.load(Ordering::Relaxed);
    let mut ground = Ground::new();
    for len in [1u64 << 30, 1 << 36, 1 << 40] {
        for name in ["00000000000000000001.wal", "control", "tail", "LOCK"] {
            let path = ground.directory();
            for (number, bytes) in two_segments(|_| {}) {
                fs::write(path.join(format!("{number:020}.wal")), bytes).unwrap();
            }
            let last = path.join("00000000000000000002.wal");
            for grown in [path.join(name), last] {
                let mut open = fs::OpenOptions::new();
                let file = open.create(true).truncate(false).write(true).open(grown);
                if file.unwrap().set_len(len).is_err() {
                    say(&format!("skipped: no files of {len} bytes here"));
                }
            }
            try_everything(&path);
            fs::remove_dir_all(&path).unwrap();
        }
    }
    finish("huge files", ground.cases, base);
}

#[test]
fn versions_and_features_that_are_not_known_are_called_newer() {
    let _alone = alone();
    let mut ground = Ground::new();
    for (offset, value, kind) in [
        (8, 2u16, ErrorKind::Newer),
        (8, u16::MAX, ErrorKind::Newer),
        (16, 1, ErrorKind::Newer),
        (18, 0x8000, ErrorKind::Newer),
        (8, 0, ErrorKind::Corrupt),
    ] {
        let path = ground.directory();
        let mut bytes = Segment::new(header(1, 4096, 1)).solo().end();
        bytes[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
        let crc = crc32(&bytes[..124]);
        bytes[124..128].copy_from_slice(&crc.to_le_bytes());
        fs::write(path.join("00000000000000000001.wal"), bytes).unwrap();
        let error = Wal::open(&path, &WalOptions::default()).unwrap_err();
        assert_eq!(error.kind(), kind, "{offset} {value}: {error}");
        try_everything(&path);
    }
}

#[test]
fn what_is_no_file_in_the_place_of_one_is_refused_and_nothing_behind_it_is_touched() {
    let _alone = alone();
    let base = LIVE.load(Ordering::Relaxed);
    let mut ground = Ground::new();
    let names = [
        "control",
        "tail",
        "LOCK",
        "ready",
        "00000000000000000001.wal",
        "00000000000000000002.wal",
        "00000000000000000003.wal",
    ];
    type Put = fn(&Path, &Path) -> bool;
    let puts: [(&str, Put); 8] = [
        ("link to a file", |path, victim| {
            symlink(victim.join("00000000000000000001.wal"), path).is_ok()
        }),
        ("link to a directory", |path, victim| {
            symlink(victim, path).is_ok()
        }),
        ("link to itself", |path, _| symlink(path, path).is_ok()),
        ("link to nothing", |path, _| {
            symlink("/nowhere/x", path).is_ok()
        }),
        ("link to a device", |path, _| {
            symlink("/dev/zero", path).is_ok()
        }),
        ("directory", |path, _| {
            fs::create_dir(path).is_ok() && fs::write(path.join("kept"), b"kept").is_ok()
        }),
        ("pipe", |path, _| {
            let made = Command::new("mkfifo").arg(path).status();
            made.is_ok_and(|status| status.success())
        }),
        ("device", |path, _| {
            let made = Command::new("mknod")
                .arg(path)
                .args(["c", "1", "5"])
                .output();
            made.is_ok_and(|output| output.status.success())
        }),
    ];
    let mut made = 0;
    for name in names {
        for (what, put) in puts {
            let victim = ground.directory();
            let whole = Segment::new(header(1, 4096, 1)).solo().end();
            let files = [
                "00000000000000000001.wal",
                "00000000000000000003.wal",
                "other",
            ];
            for file in files {
                fs::write(victim.join(file), &whole).unwrap();
            }
            let path = ground.directory();
            for (number, bytes) in two_segments(|_| {}) {
                fs::write(path.join(format!("{number:020}.wal")), bytes).unwrap();
            }
            let place = path.join(name);
            let _ = fs::remove_file(&place);
            if !put(&place, &victim) {
                say(&format!("skipped: {what}"));
                continue;
            }
            made += 1;
            try_everything(&path);
            for file in files {
                let kept = fs::read(victim.join(file)).unwrap_or_default();
                assert_eq!(kept, whole, "{name} as {what}: {file} was touched");
            }
            assert_eq!(
                fs::read_dir(&victim).unwrap().count(),
                3,
                "{name} as {what}"
            );
            if what == "directory" {
                // In `ready/`, which is a directory by right, files are ours to delete.
                assert!(name == "ready" || place.join("kept").exists());
            }
            if name != "tail" && what != "directory" || name.ends_with("2.wal") {
                let refused = Wal::open(&path, &WalOptions::default());
                assert!(refused.is_err(), "{name} as {what}");
            }
        }
    }
    assert!(made >= names.len() as u64 * 6);
    finish("no files", made, base);
}

#[test]
fn names_that_do_not_fit_are_not_part_of_the_log() {
    let _alone = alone();
    let base = LIVE.load(Ordering::Relaxed);
    let mut ground = Ground::new();
    let path = ground.directory();
    for (number, bytes) in two_segments(|_| {}) {
        fs::write(path.join(format!("{number:020}.wal")), bytes).unwrap();
    }
    for name in [
        "00000000000000000000.wal",
        "18446744073709551615.wal",
        "18446744073709551616.wal",
        "99999999999999999999.wal",
        "000000000000000000001.wal",
        "0000000000000000001.wal",
        "+0000000000000000001.wal",
        "00000000000000000003.WAL",
        "00000000000000000003.wal ",
        "\u{0660}\u{0661}.wal",
        "control.old",
        "-rf",
    ] {
        fs::write(path.join(name), b"no segment").unwrap();
    }
    fs::write(path.join(OsStr::from_bytes(b"\xFF\xFE.wal")), b"no text").unwrap();
    assert_eq!(Wal::verify(&path).unwrap().row, "Z");
    try_everything(&path);

    // Very many names, and segments beyond all others.
    let path = ground.directory();
    for number in 1..=20_000u64 {
        fs::write(path.join(format!("{number:020}.wal")), b"").unwrap();
    }
    try_everything(&path);
    for number in [u64::MAX - 1, u64::MAX - 2, u64::MAX - 3] {
        let mut only = Segment::new(header(number, 4096, 1));
        ground.log(&[(number, only.solo().end())], None);
    }

    // Paths that can't be.
    let long = "x".repeat(300);
    let deep = "y/".repeat(3_000);
    for path in ["", "\0", "a\0b", "/dev/null", "/dev/null/log", &long, &deep] {
        let refused = Wal::open(path, &WalOptions::default());
        assert!(refused.is_err(), "{path:?}");
        assert!(Wal::verify(path).is_err());
    }
    finish("names", ground.cases, base);
}
