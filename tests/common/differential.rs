//! The engine against the pure-Python reader, on any directories that a test has produced.
//!
//! What the engine says about each (`Wal::verify`, and what replay delivers) is written as one line
//! of JSON, in the words that `duralog.format.describe` defines; one Python process reads every
//! directory by itself and reports each field that differs. The directories must not be open for
//! writing.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::format::checksum::crc32;
use duralog::vfs::os::RealDisk;
use duralog::vfs::Vfs;
use duralog::wal::ControlState;
use duralog::{ErrorKind, OpenHow, RecoveryReport, Result, Wal, WalOptions};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// What replay of a log delivers, up to where it ends or fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Replayed {
    pub(crate) record_count: u64,
    /// CRC-32 over all records: seq, op, key_len, value_len, key, value.
    pub(crate) digest: u32,
}

/// Replays the log at `path` on `vfs`.
pub(crate) fn replayed(vfs: Arc<dyn Vfs>, path: &Path) -> Result<Replayed> {
    let options = WalOptions {
        how: OpenHow::ReadOnly,
        ..WalOptions::default()
    };
    let mut cursor = Wal::open_on(vfs, path, &options)?.cursor(0)?;
    let (mut bytes, mut record_count) = (Vec::new(), 0);
    // What comes before an error counts; the error itself is the verdict's.
    while let Ok(Some(entry)) = cursor.next() {
        let len = |part: &[u8]| u32::try_from(part.len()).unwrap().to_le_bytes();
        bytes.extend_from_slice(&entry.seq.to_le_bytes());
        bytes.push(entry.op);
        bytes.extend_from_slice(&len(entry.key));
        bytes.extend_from_slice(&len(entry.value));
        bytes.extend_from_slice(entry.key);
        bytes.extend_from_slice(entry.value);
        record_count += 1;
    }
    Ok(Replayed {
        record_count,
        digest: crc32(&bytes),
    })
}

/// The fields of `describe`, as the engine sees them.
fn fields(report: &RecoveryReport, replayed: &Replayed) -> String {
    let control = match report.control {
        ControlState::Good => "good",
        ControlState::OneSlot => "one_slot",
        ControlState::Lost => "lost",
    };
    format!(
        "\"verdict\": \"{}\", \"row\": \"{}\", \"segment\": {}, \"offset\": {}, \"lsn\": {}, \
         \"end_lsn\": {}, \"next_seq\": {}, \"evidence_lsn\": {}, \"control\": \"{control}\", \
         \"first_segment\": {}, \"last_segment\": {}, \"truncated_seq\": {}, \
         \"record_count\": {}, \"digest\": \"{:08x}\"",
        report.verdict,
        report.row,
        report.segment,
        report.offset,
        report.lsn,
        report.end_lsn,
        report.next_seq,
        report.evidence_lsn,
        report.first_segment,
        report.last_segment,
        report.truncated_seq,
        replayed.record_count,
        replayed.digest,
    )
}

/// What the engine says about the directory `dir`, as one line of JSON.
pub(crate) fn describe(dir: &Path) -> String {
    let disk = Arc::new(RealDisk::new());
    let said = Wal::verify_on(disk.as_ref(), dir, &mut |_, _| true)
        .and_then(|report| Ok(fields(&report, &replayed(disk, dir)?)))
        .unwrap_or_else(|error| {
            let verdict = match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotALog => "NOT_A_LOG",
                ErrorKind::Newer => "NEWER",
                ErrorKind::Io => "IO_ERROR",
                other => panic!("{}: {other:?}: {error}", dir.display()),
            };
            format!("\"verdict\": \"{verdict}\"")
        });
    format!("{{\"path\": {}, {said}}}", quoted(dir.to_str().unwrap()))
}

/// Text as JSON has it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A command that runs the pure-Python reader of this repository: the file by itself, since the
/// package around it loads the library that it is compared with.
pub(crate) fn python_reader() -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command.arg(root.join("bindings/python/src/duralog/format.py"));
    command
}

/// Lets both readers read every directory; any difference stops the test. Returns how many were
/// compared.
pub(crate) fn compare_with_python(dirs: &[PathBuf]) -> usize {
    let mut lines = String::new();
    for dir in dirs {
        lines.push_str(&describe(dir));
        lines.push('\n');
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    let output = python_reader()
        .arg("--compare")
        .arg(file.path())
        .output()
        .unwrap_or_else(|error| panic!("python3: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let wanted = format!("{} compared, 0 differ", dirs.len());
    if !output.status.success() || said.trim_end() != wanted {
        let mut shown: Vec<&str> = said.lines().take(40).collect();
        shown.extend(said.lines().last());
        panic!(
            "engine and Python disagree (\"expected\" is the engine):\n{}\n{}",
            shown.join("\n"),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    dirs.len()
}
