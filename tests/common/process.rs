//! What tests share that start other processes: a child that reports line by line, readers in four
//! languages that all print the same dump, Python with the package, and numbers that a seed gives
//! again.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use crate::common::{library_dir, root, run};
use duralog::{EntryKind, ErrorKind, OpenHow, Wal, WalOptions};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// No step of a test takes this long: what does, hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Prints a line in CI too, where the output of tests that pass is not shown.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

// ---- numbers -------------------------------------------------------------------------------------

/// One step of splitmix64: the same in C, Python and Rust.
pub(crate) fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Numbers from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(mix(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// `DURALOG_SEED` (decimal, or hexadecimal after 0x), or one that no run has had before.
pub(crate) fn seed() -> u64 {
    let Ok(text) = std::env::var("DURALOG_SEED") else {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanos = now.unwrap().as_nanos() & u128::from(u64::MAX);
        return mix(u64::try_from(nanos).unwrap() ^ u64::from(std::process::id()));
    };
    let digits = text.strip_prefix("0x");
    let seed = digits.map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    seed.unwrap_or_else(|error| panic!("DURALOG_SEED {text}: {error}"))
}

// ---- children ------------------------------------------------------------------------------------

/// A child whose standard output is read line by line as it comes. Killed when dropped.
///
/// Only lines that begin with `@` count, without it: what the test framework prints in a child that
/// is this test executable again is left out.
#[derive(Debug)]
pub(crate) struct Reporter {
    child: Child,
    lines: Receiver<String>,
    ahead: VecDeque<String>,
    stdin: Option<ChildStdin>,
    name: String,
}

impl Reporter {
    pub(crate) fn start(command: &mut Command) -> Reporter {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { return };
                if let Some(line) = line.strip_prefix('@') {
                    if sender.send(line.to_string()).is_err() {
                        return;
                    }
                }
            }
        });
        Reporter {
            stdin: child.stdin.take(),
            child,
            lines,
            ahead: VecDeque::new(),
            name: format!("{:?}", command.get_program()),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line, or `None` when the child has ended or `patience` is over.
    pub(crate) fn line_within(&mut self, patience: Duration) -> Option<String> {
        if let Some(line) = self.ahead.pop_front() {
            return Some(line);
        }
        self.lines.recv_timeout(patience).ok()
    }

    /// The next line.
    pub(crate) fn line(&mut self) -> String {
        match self.line_within(PATIENCE) {
            Some(line) => line,
            None => panic!("{} says nothing: {:?}", self.name, self.child.try_wait()),
        }
    }

    /// The next line is this one.
    pub(crate) fn expect(&mut self, expected: &str) {
        assert_eq!(self.line(), expected, "{}", self.name);
    }

    /// Waits until a line begins with `prefix`, without taking lines away. False if the child ended
    /// before.
    pub(crate) fn wait_for(&mut self, prefix: &str) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.ahead.iter().any(|line| line.starts_with(prefix)) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.ahead.push_back(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return false,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("{} hangs", self.name),
            }
        }
    }

    /// Writes a line to the child.
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Waits for the end and returns every line that was not taken.
    pub(crate) fn finish(mut self) -> (ExitStatus, Vec<String>) {
        self.stdin = None;
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(1));
        };
        let mut lines: Vec<String> = self.ahead.drain(..).collect();
        lines.extend(self.lines.iter());
        (status, lines)
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs this test executable again, for one ignored test only. `role` tells that
/// test, in the environment, that it is meant.
pub(crate) fn again(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        test,
        "--nocapture",
        "--ignored",
        "--test-threads=1",
    ]);
    command.env("DURALOG_TEST_ROLE", role);
    command
}

/// The role that [`again`] gave this process.
pub(crate) fn role() -> Option<String> {
    std::env::var("DURALOG_TEST_ROLE").ok()
}

/// Reports a line to the [`Reporter`] of this process.
pub(crate) fn report(line: &str) {
    // The test framework leaves a line unfinished, hence the first line break. One call, so that a
    // kill never cuts a line in two.
    let bytes = format!("\n@{line}\n");
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes.as_bytes()).unwrap();
    stdout.flush().unwrap();
}

/// Python, set to find the package in this repository and the library of this test run.
pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command
        .arg(root().join("tests/python").join(script))
        .env("PYTHONPATH", root().join("bindings/python/src"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("DURALOG_LIBRARY", library_dir().join("libduralog.so"));
    command
}

// ---- what a reader found -------------------------------------------------------------------------

/// A committed record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FoundRecord {
    pub(crate) seq: u64,
    pub(crate) batch_id: u64,
    pub(crate) op: u8,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// How a reader judged the end of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FoundEnd {
    pub(crate) row: String,
    pub(crate) end_lsn: u64,
    pub(crate) next_seq: u64,
}

/// All that a reader found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Dump {
    pub(crate) log_exists: bool,
    pub(crate) records: Vec<FoundRecord>,
    /// Number and data of the newest checkpoint.
    pub(crate) checkpoint: Option<(u64, Vec<u8>)>,
    /// Not told by every reader.
    pub(crate) end: Option<FoundEnd>,
    /// Why reading stopped before the end.
    pub(crate) error: Option<String>,
}

/// Who reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Reader {
    C,
    /// The package over the library.
    Python,
    /// `duralog.format`, which shares nothing with the library.
    PurePython,
    Rust,
}

/// All of them.
pub(crate) const READERS: [Reader; 4] =
    [Reader::C, Reader::Python, Reader::PurePython, Reader::Rust];

impl Reader {
    /// Reads the log at `path`. `dump_c` is `tests/c/dump_log.c`, built.
    pub(crate) fn dump(self, path: &Path, dump_c: &Path) -> Dump {
        match self {
            Reader::C => dump_by(Command::new(dump_c).arg(path)),
            Reader::Python => dump_by(python("dump_log.py").arg(path).arg("native")),
            Reader::PurePython => dump_by(python("dump_log.py").arg(path).arg("format")),
            Reader::Rust => dump_rust(path),
        }
    }
}

/// Builds `tests/c/dump_log.c` in `directory`.
pub(crate) fn build_dump_c(directory: &Path) -> PathBuf {
    let program = directory.join("dump_log");
    crate::common::compile_c(&[&root().join("tests/c/dump_log.c")], &program);
    program
}

/// Runs a program that prints a dump.
pub(crate) fn dump_by(command: &mut Command) -> Dump {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    parse_dump(&output.stdout).unwrap_or_else(|| {
        panic!(
            "{command:?}: a dump of {} bytes ends early or can't be read",
            output.stdout.len()
        )
    })
}

/// Reads the bytes that `tests/c/dump_log.c` and `tests/python/dump_log.py` print: items that begin
/// with a letter, integers little-endian, the last one `.`.
fn parse_dump(bytes: &[u8]) -> Option<Dump> {
    let mut rest = bytes;
    let mut dump = Dump {
        log_exists: true,
        ..Dump::default()
    };
    loop {
        match take(&mut rest, 1)?[0] {
            b'R' => {
                let (seq, batch_id) = (take_u64(&mut rest)?, take_u64(&mut rest)?);
                let op = take(&mut rest, 1)?[0];
                dump.records.push(FoundRecord {
                    seq,
                    batch_id,
                    op,
                    key: take_bytes(&mut rest)?,
                    value: take_bytes(&mut rest)?,
                });
            }
            b'C' => dump.checkpoint = Some((take_u64(&mut rest)?, take_bytes(&mut rest)?)),
            b'V' => {
                dump.end = Some(FoundEnd {
                    row: String::from_utf8(take_bytes(&mut rest)?).ok()?,
                    end_lsn: take_u64(&mut rest)?,
                    next_seq: take_u64(&mut rest)?,
                });
            }
            b'X' => dump.error = Some(String::from_utf8(take_bytes(&mut rest)?).ok()?),
            b'N' => dump.log_exists = false,
            b'.' => return rest.is_empty().then_some(dump),
            _ => return None,
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(taken)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?))
}

fn take_bytes(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let len = usize::try_from(take_u64(rest)?).ok()?;
    Some(take(rest, len)?.to_vec())
}

/// Options of a reader.
pub(crate) fn read_only() -> WalOptions {
    WalOptions {
        how: OpenHow::ReadOnly,
        ..WalOptions::default()
    }
}

fn dump_rust(path: &Path) -> Dump {
    let wal = match Wal::open(path, &read_only()) {
        Ok(wal) => wal,
        Err(error) if error.kind() == ErrorKind::NotFound => return Dump::default(),
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let mut dump = Dump {
        log_exists: true,
        ..Dump::default()
    };
    let mut cursor = wal.cursor(0).unwrap();
    loop {
        match cursor.next() {
            Ok(Some(entry)) => {
                assert!(entry.committed && entry.kind == EntryKind::Record);
                dump.records.push(FoundRecord {
                    seq: entry.seq,
                    batch_id: entry.batch_id.0,
                    op: entry.op,
                    key: entry.key.to_vec(),
                    value: entry.value.to_vec(),
                });
            }
            Ok(None) => break,
            Err(error) => {
                dump.error = Some(error.to_string());
                break;
            }
        }
    }
    let checkpoint = wal.last_checkpoint().unwrap();
    dump.checkpoint = checkpoint.map(|found| (found.seq, found.data));
    let found = wal.recovery_report();
    dump.end = Some(FoundEnd {
        row: found.row.to_string(),
        end_lsn: found.end_lsn.0,
        next_seq: found.next_seq,
    });
    dump
}

/// Runs a command to its end and returns what it printed; a failure stops the test.
pub(crate) fn output_of(command: &mut Command) -> String {
    run(command)
}
