//! The engine against the pure-Python reader, on any directories that a test has produced.
//!
//! What the engine says about each (`Wal::verify`, and what replay delivers) is written as one line
//! of JSON, in the words that `duralog.format.describe` defines; one Python process reads every
//! directory by itself and reports each field that differs. The directories must not be open for
//! writing.
//!
//! Of images of simulated disks, which are very many, a sample is compared: one in
//! `DURALOG_COMPARE_ONE_IN` (150), the same ones again with the same seed. `DURALOG_KEEP=1` keeps
//! the directories that were made for this, each with a text beside it that says where it is from.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::format::checksum::crc32;
use duralog::format::tail_page::{evidence_check, PAGE_LEN, WORDS_EVIDENCE};
use duralog::vfs::os::RealDisk;
use duralog::vfs::sim::{Image, SimDisk};
use duralog::vfs::Vfs;
use duralog::wal::ControlState;
use duralog::{ErrorKind, Lsn, OpenHow, RecoveryReport, Result, Wal, WalOptions};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

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

/// What the engine says about the log at `dir` on `vfs`, as the inside of a JSON object.
fn said_of(vfs: Arc<dyn Vfs>, dir: &Path) -> String {
    Wal::verify_on(vfs.as_ref(), dir, &mut |_, _| true)
        .and_then(|report| Ok(fields(&report, &replayed(vfs, dir)?)))
        .unwrap_or_else(|error| {
            let verdict = match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotALog => "NOT_A_LOG",
                ErrorKind::Newer => "NEWER",
                ErrorKind::Io => "IO_ERROR",
                other => panic!("{}: {other:?}: {error}", dir.display()),
            };
            format!("\"verdict\": \"{verdict}\"")
        })
}

/// What the engine says about the directory `dir`, as one line of JSON.
pub(crate) fn describe(dir: &Path) -> String {
    let said = said_of(Arc::new(RealDisk::new()), dir);
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

/// The same for every log below `dir`, at any depth.
pub(crate) fn compare_logs_below(dir: &Path) -> usize {
    let (mut logs, mut todo) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = todo.pop() {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        let is_log = |path: &PathBuf| {
            path.extension().is_some_and(|end| end == "wal") || path.ends_with("control")
        };
        if paths.iter().any(is_log) {
            logs.push(dir);
        } else {
            paths.retain(|path| path.is_dir());
            todo.append(&mut paths);
        }
    }
    match logs.len() {
        0 => 0,
        _ => compare_with_python(&logs),
    }
}

// ---- images of simulated disks -------------------------------------------------------------------

/// One image in so many is compared.
pub(crate) fn one_in() -> u64 {
    static ONE_IN: OnceLock<u64> = OnceLock::new();
    *ONE_IN.get_or_init(|| match std::env::var("DURALOG_COMPARE_ONE_IN") {
        Ok(text) => match text.parse() {
            Ok(number) if number > 0 => number,
            _ => panic!("DURALOG_COMPARE_ONE_IN={text}: not a positive number"),
        },
        Err(_) => 150,
    })
}

/// Whether an image with this hash is in the sample; `times` as many are as elsewhere.
pub(crate) fn in_sample(hash: u64, times: u64) -> bool {
    hash % (one_in() / times).max(1) == 0
}

/// A place for directories to compare: in memory where that is possible, since they are many.
pub(crate) fn scratch() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.disable_cleanup(std::env::var_os("DURALOG_KEEP").is_some());
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        builder.tempdir_in(memory).unwrap()
    } else {
        builder.tempdir().unwrap()
    }
}

/// Images that both readers are to read. They are written out, and compared some hundreds at a
/// time: a Python process for each would take too long, and all at once too much memory.
pub(crate) struct Images {
    dir: TempDir,
    logs: Vec<PathBuf>,
    compared: usize,
}

impl Images {
    const AT_ONCE: usize = 300;

    pub(crate) fn new() -> Images {
        Images {
            dir: scratch(),
            logs: Vec::new(),
            compared: 0,
        }
    }

    /// Takes the log at `log` in this image, which came about as `what` says.
    pub(crate) fn add(&mut self, image: &Image, log: &str, what: &str) {
        let number = self.compared + self.logs.len();
        let dir = self.dir.path().join(number.to_string());
        image.export(&dir).unwrap();
        std::fs::write(dir.with_extension("txt"), what).unwrap();
        let real = dir.join(log.trim_start_matches('/'));
        bring_tail_page_home(&real.join("tail"), &image.boot_id());
        let simulated = Arc::new(SimDisk::from_image(image, 1));
        assert_eq!(
            said_of(simulated, Path::new(log)),
            said_of(Arc::new(RealDisk::new()), &real),
            "{what}: the engine reads an image and its files differently"
        );
        self.logs.push(real);
        if self.logs.len() == Self::AT_ONCE {
            self.finish();
        }
    }

    /// Compares what is left; returns how many were compared in all.
    pub(crate) fn finish(&mut self) -> usize {
        if !self.logs.is_empty() {
            self.compared += compare_with_python(&self.logs);
        }
        for log in self.logs.drain(..) {
            let dir = log.parent().unwrap();
            if std::env::var_os("DURALOG_KEEP").is_none() {
                std::fs::remove_dir_all(dir).unwrap();
            }
        }
        self.compared
    }
}

/// A tail page counts only in the boot that wrote it. If that is `boot_id`, the boot of the
/// simulated machine, it is made one that this machine has written.
fn bring_tail_page_home(path: &Path, boot_id: &[u8; 16]) {
    let Ok(mut page) = std::fs::read(path) else {
        return;
    };
    if page.len() < PAGE_LEN || page[24..40] != *boot_id {
        return;
    }
    let here = RealDisk::new().boot_id().unwrap();
    let log_id: [u8; 16] = page[8..24].try_into().unwrap();
    page[24..40].copy_from_slice(&here);
    for at in WORDS_EVIDENCE.map(|word| word * 8) {
        let (lsn, check) = (at..at + 8, at + 8..at + 16);
        let durable_lsn = Lsn(u64::from_le_bytes(page[lsn].try_into().unwrap()));
        if page[check.clone()] == evidence_check(&log_id, boot_id, durable_lsn).to_le_bytes() {
            let told = evidence_check(&log_id, &here, durable_lsn);
            page[check].copy_from_slice(&told.to_le_bytes());
        }
    }
    std::fs::write(path, page).unwrap();
}
