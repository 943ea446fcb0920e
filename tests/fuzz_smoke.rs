//! The fuzz targets of `fuzz/` on stable: the corpus is replayed, then changed at random for a fixed
//! number of iterations.
//!
//! `DURALOG_FUZZ_ITERATIONS` sets how many per target (1500), `DURALOG_SEED` repeats a run. An input
//! that fails is written to a file, whose name is printed; put into `fuzz/corpus/<target>`, it is
//! tried first from then on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../fuzz/target_index.rs"]
mod target_index;
#[path = "../fuzz/targets_shared.rs"]
mod targets;

use duralog::vfs::sim::Rng;
use std::io::Write as _;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

/// Bytes at which things happen.
const TELLING: [&[u8]; 8] = [
    &[0; 8],
    &[0xFF; 8],
    &[0xFF; 4],
    &[1, 0, 0, 0],
    &[0, 0, 0, 0x80],
    &[0, 0, 0, 0, 0, 0, 0, 0x80],
    &[0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
    &[0; 64],
];

fn change(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let below = |rng: &mut Rng, end: usize| usize::try_from(rng.below(end as u64)).unwrap();
    for _ in 0..=rng.below(6) {
        let at = below(rng, input.len() + 1);
        let len = below(rng, 32).min(input.len() - at);
        match rng.below(8) {
            0 | 1 if at < input.len() => input[at] ^= 1 << rng.below(8),
            2 if at < input.len() => input[at] = rng.next_u64().to_le_bytes()[0],
            3 => {
                let telling = TELLING[below(rng, TELLING.len())];
                // Fields stand at multiples of 4, behind the flag.
                let at = (at & !3) + 1;
                let end = input.len().min(at + telling.len());
                if at < end {
                    input[at..end].copy_from_slice(&telling[..end - at]);
                }
            }
            4 => drop(input.drain(at..at + len)),
            5 => {
                let copied = input[at..at + len].to_vec();
                let to = below(rng, input.len() + 1);
                input.splice(to..to, copied);
            }
            6 if !other.is_empty() => {
                let from = below(rng, other.len());
                let end = other.len().min(from + 64);
                input.truncate(at);
                input.extend_from_slice(&other[from..end]);
            }
            _ => {
                let random: Vec<u8> = (0..len).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
                input.splice(at..at, random);
            }
        }
    }
    input.truncate(20_000);
}

fn fuzz(name: &str, target: fn(&[u8])) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let inputs: Vec<Vec<u8>> = files
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    assert!(!inputs.is_empty(), "no corpus for {name}");
    for (path, input) in files.iter().zip(&inputs) {
        let run = catch_unwind(|| target(input));
        assert!(run.is_ok(), "{} fails", path.display());
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("DURALOG_SEED").unwrap_or(u64::from(clock.subsec_nanos()));
    let iterations = number("DURALOG_FUZZ_ITERATIONS").unwrap_or(1500);
    let begun = Instant::now();
    let mut rng = Rng::new(seed);
    let count = inputs.len() as u64;
    for iteration in 0..iterations {
        let pick = |rng: &mut Rng| &inputs[usize::try_from(rng.below(count)).unwrap()];
        let mut input = pick(&mut rng).clone();
        let other = pick(&mut rng);
        change(&mut input, other, &mut rng);
        if catch_unwind(|| target(&input)).is_err() {
            let kept = std::env::temp_dir().join(format!("duralog-fuzz-{name}-{seed}"));
            std::fs::write(&kept, &input).unwrap();
            panic!(
                "{name}: DURALOG_SEED={seed}, iteration {iteration}: {}",
                kept.display()
            );
        }
    }
    let _ = writeln!(
        std::io::stderr(),
        "{name}: {count} inputs and {iterations} changed ones, DURALOG_SEED={seed}, {:.1} s",
        begun.elapsed().as_secs_f64()
    );
}

#[test]
fn no_segment_makes_the_decoder_fail() {
    fuzz("segment", targets::segment);
}

#[test]
fn no_change_to_a_directory_makes_opening_fail() {
    fuzz("open", targets::open);
}

#[test]
fn no_packed_batch_is_taken_for_another() {
    fuzz("packed", targets::packed);
}

#[test]
fn no_bytes_make_the_event_decoder_fail() {
    fuzz("event", targets::event);
}

#[test]
fn no_change_to_an_index_changes_an_answer() {
    fuzz("index", target_index::index);
}

/// Writes the corpus anew: `cargo test --test fuzz_smoke -- --ignored`.
#[test]
#[ignore = "writes fuzz/corpus"]
fn write_the_corpus() {
    use duralog::format::checksum::crc32;
    use duralog::format::frame::{frame_flag, frame_type, FrameHeader};
    use duralog::format::record::encode_header;
    let put = |target: &str, name: &str, bytes: &[u8]| {
        std::fs::create_dir_all(corpus(target)).unwrap();
        std::fs::write(corpus(target).join(name), bytes).unwrap();
    };
    // The smallest segment there can be: its frames begin at 128.
    let mut header = vec![
        0x8F, b'D', b'U', b'R', b'\r', b'\n', 0x1A, b'\n', 1, 0, 0, 0,
    ];
    header.extend_from_slice(&128u32.to_le_bytes());
    header.resize(30, 0);
    header.extend_from_slice(&8u16.to_le_bytes());
    header.extend_from_slice(b"log id of corpus");
    for field in [1u64, 4096, 1, 4096] {
        header.extend_from_slice(&field.to_le_bytes());
    }
    header.extend_from_slice(&[0, 0, 0, 0, 7, 0, 0, 0]);
    header.resize(128, 0);
    let record = |key: &[u8], value: &[u8]| {
        let lens = (key.len() as u32, value.len() as u32);
        [&encode_header(1, lens.0, lens.1)[..], key, value].concat()
    };
    let two = [record(b"a", b"1"), record(b"b", b"2")].concat();
    let (begin, commit, abort) = (frame_flag::BEGIN, frame_flag::COMMIT, frame_flag::ABORT);
    let solo = begin | commit | frame_flag::SOLO;
    let batch = frame_type::BATCH;
    let one = record(b"key", b"value");
    type Frame<'a> = (u8, u8, u32, u64, &'a [u8]);
    let logs: [(&str, Vec<Frame<'_>>); 5] = [
        ("empty", vec![]),
        (
            "solo",
            vec![(batch, solo, 1, 1, &one), (batch, solo, 1, 2, &one)],
        ),
        (
            "frames",
            vec![
                (batch, begin, 2, 1, &two),
                (batch, commit, 2, 3, &two),
                (3, 0, 0, 6, b""),
            ],
        ),
        (
            "abort",
            vec![
                (batch, begin, 2, 1, &two),
                (batch, abort, 0, 1, b""),
                (batch, solo, 1, 1, &one),
            ],
        ),
        (
            "sealed",
            vec![
                (2, 0, 0, 1, b"checkpoint"),
                (200, 0, 0, 2, b"later"),
                (4, 0, 0, 2, b""),
            ],
        ),
    ];
    for (name, frames) in logs {
        let mut bytes = header.clone();
        for (frame_type, flags, record_count, first_seq, payload) in frames {
            let head = FrameHeader {
                payload_crc: crc32(payload),
                payload_len: payload.len() as u32,
                frame_type,
                flags,
                link: 0,
                salt: 7,
                lsn: duralog::Lsn(0),
                first_seq,
                record_count,
                durable_lsn: duralog::Lsn(0),
                time_ns: 0,
            };
            bytes.extend_from_slice(&head.encode());
            bytes.extend_from_slice(payload);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes.resize(bytes.len() + 64, 0);
        put("segment", name, &[&[1], bytes.as_slice()].concat());
    }
    // Every kind of change, with checksums that are right afterwards and without; large logs, and
    // stores that are only read, a few times.
    for kind in 0..8 {
        for flag in 0..4 {
            let changes: Vec<u8> = (0..3)
                .flat_map(|at| [at * 2, kind, at, 0, 0, 77, 3, 0, 9, 1, 0, 0])
                .collect();
            let input = [&[flag], changes.as_slice()].concat();
            if flag < 2 || kind % 4 == 0 {
                put("open", &format!("kind{kind}-{flag}"), &input);
                put("index", &format!("kind{kind}-{flag}"), &input);
            }
        }
    }
    put("packed", "values", b"\0\0\x03\0\x01\x02\x03abbccc");
    put("packed", "keys", b"\0\x02\x02\x02\x01\x02\x03\x01kkkvvvv");
    put(
        "packed",
        "ops",
        b"\x02\x02\x02\x03\x01\x01\x00\x02\x02\x01abxy",
    );
    put("packed", "none", b"\0\0\0\0");
    put("packed", "huge", b"\0\x02\x02\x02\xFF\xFF\xFF\xFFxx");
    let bare: &[u8] = b"\x00\x01\x01\x01T\x00\x00\x00data";
    put("event", "bare", bare);
    let mut full = vec![0x7F, 0xAC, 0x02, 0x03];
    full.extend_from_slice(&[7; 16]);
    full.extend_from_slice(b"\x06Opened\x02\x01a\x09course:c1\x03\x10application/json");
    full.extend_from_slice(&[0xFB; 8]);
    full.extend_from_slice(&[8; 32]);
    full.extend_from_slice(b"\x02{}[1,2]");
    put("event", "full", &full);
}
