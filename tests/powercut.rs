//! Power cuts under the shipped library: programs in C and in Python are recorded call by call, and
//! every state that losing power could have left of their files is laid out and opened again.
//!
//! The tool is `powercut`, in the folder `shared/tools` beside this repository; where that is
//! missing, these tests say so and show nothing. It knows which changes a sync has settled, believes
//! in nothing else (its *strict* model), and takes sectors, sizes and names from what is open in any
//! combination: all combinations where they are few, samples from a seed where they are many. Four
//! questions are asked of the programs:
//!
//! - *lint*: was anything still in doubt when something later was acknowledged?
//! - *explore*: does a checker find everything acknowledged, whole and right, and nothing partial,
//!   in every state? With sectors of 512 bytes, of 64, and with another file's old bytes wherever
//!   new ones have not arrived.
//! - *sweep*: also after the first, second, third … write, sync, create, resize or rename failed,
//!   whether the program ends or opens the log again and goes on?
//! - *nest*: also if the power goes again while the log is recovered?
//!
//! A few states of each program are kept and also read by the pure-Python reader. Programs that use the
//! event store are asked the same, with a checker that opens the store.
//!
//! `DURALOG_POWERCUT_SAMPLES` is how many states are tried of each program (2000), and
//! `DURALOG_SEED` chooses them (1). A long run:
//!
//! ```text
//! DURALOG_POWERCUT_SAMPLES=100000 DURALOG_SEED=7 cargo test --test powercut
//! ```
//!
//! `make powercut-disk` does the like under ext4, XFS and btrfs, where the kernel decides what is
//! written when.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;
#[path = "common/differential.rs"]
mod differential;
#[path = "common/process.rs"]
mod process;

use common::{compile_c, root, run};
use process::{python, say, Random};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// The tool, built once; `None`, with a message, where its sources are not there.
fn powercut() -> Option<&'static Path> {
    static TOOL: OnceLock<Option<PathBuf>> = OnceLock::new();
    TOOL.get_or_init(|| {
        let source = root().join("../shared/tools/powercut");
        if !source.join("Cargo.toml").is_file() {
            say("skipped: ../shared/tools/powercut is not there, no power is cut");
            return None;
        }
        // target/debug/deps/powercut-…: beside "debug".
        let executable = std::env::current_exe().unwrap();
        let target = executable.ancestors().nth(3).unwrap().join("powercut");
        // Its folder may be read-only and has no Cargo.lock: it is built from a copy, with the
        // versions of ours where both name a package.
        let copy = target.join("source");
        copy_sources(&source, &copy);
        copy_file(&root().join("Cargo.lock"), &copy.join("Cargo.lock"));
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--release", "--quiet", "--manifest-path"]);
        build.arg(copy.join("Cargo.toml"));
        build.arg("--target-dir").arg(&target);
        run(&mut build);
        Some(target.join("release/powercut"))
    })
    .as_deref()
}

/// What of the tool is needed to build it.
fn copy_sources(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("src")).unwrap();
    copy_file(&from.join("Cargo.toml"), &to.join("Cargo.toml"));
    for entry in fs::read_dir(from.join("src")).unwrap() {
        let entry = entry.unwrap();
        copy_file(&entry.path(), &to.join("src").join(entry.file_name()));
    }
}

/// Copies what is in a file but not its permissions, and leaves a copy that is up to date alone, so
/// that nothing is built twice.
fn copy_file(from: &Path, to: &Path) {
    let content = fs::read(from).unwrap();
    if fs::read(to).ok().as_ref() != Some(&content) {
        fs::write(to, content).unwrap();
    }
}

/// How many states to try of a program; `share` is its part of what was asked for, in per mille.
fn samples(share: u64) -> String {
    let asked = std::env::var("DURALOG_POWERCUT_SAMPLES");
    let asked: u64 = asked.map_or(2000, |text| text.parse().unwrap());
    (asked * share / 1000).max(1).to_string()
}

/// The seed, the same in every run that asks for no other.
fn seed() -> String {
    let asked = std::env::var_os("DURALOG_SEED");
    asked.map_or(1, |_| process::seed()).to_string()
}

/// A program that was recorded, with all that belongs to it in one directory: in memory where that
/// is possible, because thousands of trees will be laid out.
struct Recorded {
    name: &'static str,
    powercut: &'static Path,
    dir: TempDir,
}

impl Recorded {
    /// A place for a program, and `None` where there is no tool.
    fn new(name: &'static str) -> Option<Recorded> {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let powercut = powercut()?;
        let dir = dir.unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        Some(Recorded {
            name,
            powercut,
            dir,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Builds a C program of this repository and returns where it is.
    fn build(&self, source: &str) -> PathBuf {
        let source = root().join(source);
        let out = self.path(source.file_stem().unwrap().to_str().unwrap());
        compile_c(&[&source], &out);
        out
    }

    fn ask(&self, verb: &str) -> Command {
        let mut command = Command::new(self.powercut);
        command.arg(verb).arg("--rec").arg(self.path("rec"));
        command
    }

    /// Runs `program`, whose files are below `root`, and writes down what it does; then makes sure
    /// that the recording is the whole truth.
    fn record(&self, program: &Command, input: Stdio) {
        self.record_slowly(program, input, 0);
    }

    /// The same with syncs that take so many milliseconds, so that other threads get on meanwhile.
    fn record_slowly(&self, program: &Command, input: Stdio, slow_sync_ms: u32) {
        let mut command = Command::new(self.powercut);
        command.arg("record").arg("--root").arg(self.path("root"));
        command.args(["--slow-sync", &slow_sync_ms.to_string()]);
        command.arg("--out").arg(self.path("rec")).arg("--");
        command.arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            command.env(name, value.unwrap());
        }
        run(command.stdin(input));
        run(self.ask("verify").arg("--root").arg(self.path("root")));
    }

    /// What was in doubt when something was acknowledged, without what may be lost.
    fn in_doubt(&self) -> Vec<String> {
        let output = self.ask("lint").args(["--show", "1000000"]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(
            text.ends_with("changes in doubt at a later acknowledgement\n"),
            "{text}"
        );
        text.lines()
            .filter_map(|line| line.split_once("in doubt at acknowledgement "))
            .filter_map(|(_, rest)| rest.split_once(": "))
            .filter(|(_, what)| !may_be_lost(what) && !self.is_space_ahead(what))
            .map(|(ack, what)| format!("acknowledgement {ack}: {what}"))
            .collect()
    }

    /// Space that was prepared in the background, in a segment or in the file for the next one: it
    /// was allocated, or nothing but zeros was written. No frame is only zeros, so no promise
    /// stands on it.
    fn is_space_ahead(&self, what: &str) -> bool {
        let Some((file, change)) = what.split_once(": ") else {
            return false;
        };
        if !file.ends_with(".wal") && file != "fresh" {
            return false;
        }
        let Some(fields) = change.strip_prefix("Write { ") else {
            return change.starts_with("Falloc { ");
        };
        let number = |name: &str| -> usize {
            let (_, rest) = fields.split_once(&format!("{name}: ")).unwrap();
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
            digits.unwrap().parse().unwrap()
        };
        let written = fs::read(self.path("rec").join("data.bin")).unwrap();
        let (begin, len) = (number("data"), number("len"));
        written[begin..begin + len].iter().all(|&byte| byte == 0)
    }

    /// How often a segment that was truncated became a new one.
    fn recycled(&self) -> usize {
        let output = self.ask("show").output().unwrap();
        let bytes: Vec<String> = b"recycled-".iter().map(u8::to_string).collect();
        let from = format!(", [{}, ", bytes.join(", "));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter_map(|line| line.split_once("\"rename\", slots: [("))
            .filter(|(_, slots)| {
                let digits = slots.trim_start_matches(|c: char| c.is_ascii_digit());
                digits.starts_with(&from)
            })
            .count()
    }

    /// How many writes that are durable by themselves there were, and how many of them were begun
    /// while another was under way.
    fn durable_writes(&self) -> (usize, usize) {
        let output = self.ask("show").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut last_writes = BTreeMap::new();
        let mut durable: Vec<(u64, u64)> = Vec::new();
        for line in text.lines() {
            let mut words = line.split_whitespace().skip(1);
            let (Some(span), Some(thread), Some(kind)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let span = span.trim_matches(['[', ']']).split_once("..");
            let span = span.map(|(enter, exit)| (enter.parse(), exit.parse()));
            let Some((Ok(enter), Ok(exit))) = span else {
                continue;
            };
            if kind == "Write" {
                last_writes.insert(thread, (enter, exit));
            } else if kind == "Sync" && line.contains("\"dsync\"") {
                durable.extend(last_writes.remove(thread));
            }
        }
        let beside = |&&(enter, _): &&(u64, u64)| {
            durable
                .iter()
                .any(|&(begun, ended)| begun < enter && enter < ended)
        };
        (durable.len(), durable.iter().filter(beside).count())
    }

    /// Lays out states and runs `check` in each.
    fn explore(&self, share: u64, how: &[&str], check: &str) -> Output {
        let mut command = self.ask("explore");
        command.arg("--scratch").arg(self.path("states")).args(how);
        command.args(["--samples", &samples(share), "--seed", &seed()]);
        let output = command.args(["--check", check]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let summary = text.lines().find(|line| line.contains(" checks run"));
        let name = [&[self.name], how].concat().join(" ");
        say(&format!("powercut, {name}: {}", summary.unwrap_or("?")));
        output
    }

    /// The engine and the pure-Python reader find the same in some of the states.
    fn is_read_by_python(&self, share: u64) {
        let kept = self.path("kept");
        fs::create_dir(&kept).unwrap();
        let keep = self.path("keep.sh");
        fs::write(&keep, "cp -r . $(mktemp -d \"$1/XXXXXX\")\n").unwrap();
        let output = self.explore(share, &[], &shell(&["sh", text(&keep), text(&kept)]));
        assert!(output.status.success(), "{}: {output:?}", self.name);
        let compared = differential::compare_logs_below(&kept);
        assert!(compared > 0, "{}: no state was kept", self.name);
        say(&format!(
            "powercut, {}: {compared} compared with Python",
            self.name
        ));
    }

    /// No state is bad, in three ways of losing power.
    fn has_no_bad_state(&self, share: u64, check: &str) {
        let ways: [&[&str]; 3] = [&[], &["--sector", "64"], &["--stale", "yes"]];
        for (index, how) in ways.into_iter().enumerate() {
            let share = if index == 0 { share } else { share / 2 };
            let output = self.explore(share, how, check);
            assert!(
                output.status.success(),
                "{} {how:?}: {}{}",
                self.name,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        self.is_read_by_python(share / 20);
    }

    /// Nothing acknowledged is in doubt, and no state is bad.
    fn keeps_its_promises(&self, share: u64, check: &str) {
        assert_eq!(self.in_doubt(), Vec::<String>::new(), "{}", self.name);
        self.has_no_bad_state(share, check);
    }

    /// The power goes a second time, while `recover` opens the log that the first cut left.
    fn recovers_from_its_recovery(&self, share: u64, recover: &str, check: &str) {
        let mut nest = self.ask("nest");
        nest.arg("--scratch").arg(self.path("states"));
        nest.args(["--states", &samples(share), "--samples", "40"]);
        nest.args(["--seed", &seed(), "--recover", recover, "--check", check]);
        let output = run(&mut nest);
        say(&format!(
            "powercut, {}, recovery: {}",
            self.name,
            output.trim_end()
        ));
    }
}

/// LOCK and `tail` may be lost at any time, and so may the names in `ready/`: a file prepared there
/// becomes a segment by a rename into the log's directory, and that is synced. Of an event store,
/// what is derived: `index/` and snapshots.
fn may_be_lost(what: &str) -> bool {
    let (call, name) = what.split_once(' ').unwrap();
    let file = call.strip_suffix(':');
    let derived = [".run", ".run.tmp", ".snap", ".new"];
    let changed = file.unwrap_or(name);
    let of_snapshots = call == "mkdir" && name.len() == 2;
    matches!(changed, "LOCK" | "tail" | "index" | "snapshots")
        || derived.iter().any(|suffix| changed.ends_with(suffix))
        || of_snapshots
        || (file.is_none() && (name == "fresh" || name.starts_with("recycled-")))
        || (call == "create" && name.ends_with(".wal"))
}

/// A command line for the shell, of paths without anything that a shell would see.
fn shell(words: &[&str]) -> String {
    let line = words.join(" ");
    assert!(
        !line.contains(['\'', '"', '$', '\\', '*', '(', ';']),
        "{line}"
    );
    line
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

// ---- the workload: batches, checkpoints, truncation, rotation, recycling, reopening --------------

#[test]
fn what_a_c_program_acknowledged_survives_every_power_cut() {
    let Some(recorded) = Recorded::new("writer in C") else {
        return;
    };
    let writer = recorded.build("tests/c/powercut_writer.c");
    let check = recorded.build("tests/c/powercut_check.c");
    let mut program = Command::new(&writer);
    program.arg(recorded.path("root/log")).arg("90");
    recorded.record(&program, Stdio::null());
    assert!(recorded.recycled() > 1);
    let check = shell(&[text(&check), "log"]);
    recorded.keeps_its_promises(1000, &check);
    recorded.recovers_from_its_recovery(20, &shell(&[text(&writer), "log", "0"]), &check);
}

#[test]
fn what_a_python_program_acknowledged_survives_every_power_cut() {
    let Some(recorded) = Recorded::new("writer in Python") else {
        return;
    };
    let check = recorded.build("tests/c/powercut_check.c");
    let mut program = python("powercut_writer.py");
    program.arg(recorded.path("root/log")).arg("60");
    recorded.record(&program, Stdio::null());
    assert!(recorded.recycled() > 0);
    recorded.keeps_its_promises(1000, &shell(&[text(&check), "log"]));
}

// ---- threads that share their syncs --------------------------------------------------------------

/// A program whose threads append at once, recorded with syncs of 2 ms: all threads write into them.
fn threads(name: &'static str, mode: &str) -> Option<(Recorded, String)> {
    let recorded = Recorded::new(name)?;
    let writer = recorded.build("tests/c/powercut_threads.c");
    let check = recorded.build("tests/c/powercut_check_threads.c");
    let mut program = Command::new(writer);
    program.arg(recorded.path("root/log"));
    program.args(["2", "15", mode]);
    // The tool makes only calls slow that sync, not writes that are durable by themselves.
    let slow_sync_ms = if mode == "flights" || mode == "async" {
        0
    } else {
        2
    };
    recorded.record_slowly(&program, Stdio::null(), slow_sync_ms);
    let ahead = if mode == "async" { "3" } else { "1" };
    let check = shell(&[text(&check), "log", ahead]);
    Some((recorded, check))
}

/// At an acknowledgement of one thread the writes of others are rightly in doubt; which states are
/// bad is for the checker to say.
#[test]
fn what_any_of_several_threads_acknowledged_survives_every_power_cut() {
    let Some((recorded, check)) = threads("threads", "free") else {
        return;
    };
    assert!(recorded.recycled() > 0);
    recorded.has_no_bad_state(1000, &check);
    let writer = recorded.path("powercut_threads");
    let recover = shell(&[text(&writer), "log", "1", "0", "free"]);
    recorded.recovers_from_its_recovery(20, &recover, &check);
}

/// Groups are written beside each other, and a later one may be there without an earlier one.
fn flights(name: &'static str, mode: &str) {
    let Some((recorded, check)) = threads(name, mode) else {
        return;
    };
    let (durable, overlapping) = recorded.durable_writes();
    // The first finds out whether there can be others; none succeeds where there can't.
    assert!(durable == 0 || durable > 2, "{durable} durable writes");
    say(&format!(
        "powercut, {name}: {durable} durable writes, {overlapping} begun beside another"
    ));
    recorded.has_no_bad_state(200, &check);
    let writer = recorded.path("powercut_threads");
    let recover = shell(&[text(&writer), "log", "1", "0", mode]);
    recorded.recovers_from_its_recovery(8, &recover, &check);
}

#[test]
fn what_threads_acknowledged_with_groups_in_flight_survives_every_power_cut() {
    flights("threads with groups in flight", "flights");
}

#[test]
fn what_was_appended_without_waiting_survives_every_power_cut() {
    flights("appends without waiting", "async");
}

/// Once every thread's append has returned, nothing at all may be in doubt.
#[test]
fn when_all_threads_have_returned_nothing_is_in_doubt() {
    let Some((recorded, check)) = threads("threads in bursts", "bursts") else {
        return;
    };
    recorded.keeps_its_promises(500, &check);
}

/// The check of the check.
#[test]
fn threads_that_acknowledge_before_the_sync_are_found_out() {
    let Some((recorded, check)) = threads("threads that promise too early", "early") else {
        return;
    };
    assert!(!recorded.in_doubt().is_empty());
    let output = recorded.explore(100, &[], &check);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("was acknowledged, the last one"), "{said}");
}

// ---- calls that fail -----------------------------------------------------------------------------

/// A program that appends batches, one that checks what is left, and its part of the samples: what
/// is left of an event store takes longer to check.
const LOG: (&str, &str, u64) = ("powercut_writer.c", "powercut_check.c", 4);
const STORE: (&str, &str, u64) = ("powercut_events.c", "powercut_check_events.c", 1);

/// Makes every call of the classes in `fail_at` fail, one run for each, while the first of the
/// programs takes the log from batch `base` to batch `last`, and then cuts the power.
fn sweep(
    name: &'static str,
    (writer, check, share): (&str, &str, u64),
    base: u32,
    last: u32,
    mode: &str,
    onward: &str,
    fail_at: &str,
) {
    let Some(recorded) = Recorded::new(name) else {
        return;
    };
    let [writer, check] = [writer, check].map(|name| recorded.build(&format!("tests/c/{name}")));
    let from = recorded.path("from");
    fs::create_dir(&from).unwrap();
    let base = base.to_string();
    if base != "0" {
        run(Command::new(&writer).arg(from.join("log")).arg(&base));
    }
    let mut command = Command::new(recorded.powercut);
    command.arg("sweep").arg("--from").arg(from);
    command.arg("--root").arg(recorded.path("root"));
    command.arg("--scratch").arg(recorded.path("states"));
    command.args(["--fail-at", fail_at, "--onward", onward]);
    command.args(["--samples", &samples(share), "--seed", &seed()]);
    command.args(["--check", &shell(&[text(&check), "log", &base])]);
    command
        .arg("--")
        .arg(writer)
        .arg(recorded.path("root/log"))
        .args([&last.to_string(), mode, &base]);
    let output = run(&mut command);
    let (classes, summary) = output.trim_end().rsplit_once('\n').unwrap();
    say(&format!("powercut, {name}: {summary}"));
    // A class of which no call was found was not tried.
    for class in classes.lines() {
        assert!(!class.contains(": 0 calls"), "{class}");
    }
    assert_eq!(classes.lines().count(), fail_at.split(',').count());
}

/// From the first call of a new log on.
#[test]
fn a_new_log_goes_on_after_any_call_that_failed() {
    sweep(
        "a call fails on a new log",
        LOG,
        0,
        4,
        "goon",
        "no",
        "write:EIO,write:ENOSPC,write:short,write:EINTR,sync:EIO,sync:ENOSPC,create:EMFILE,\
         create:ENOSPC,size:ENOSPC,size:EIO,name:EIO,name:ENOSPC",
    );
}

#[test]
fn a_new_log_keeps_its_promises_when_calls_fail_from_then_on() {
    sweep(
        "calls fail on a new log, from then on",
        LOG,
        0,
        4,
        "stop",
        "yes",
        "write:EIO,write:ENOSPC,write:short,sync:EIO,create:EMFILE,size:ENOSPC,name:EIO",
    );
}

/// Through a checkpoint, truncation and the recycling of a segment.
#[test]
fn an_old_log_goes_on_after_any_call_that_failed() {
    sweep(
        "a call fails",
        LOG,
        39,
        51,
        "goon",
        "no",
        "write:EIO,write:ENOSPC,write:short,sync:EIO,size:ENOSPC,name:EIO",
    );
}

#[test]
fn an_old_log_keeps_its_promises_when_calls_fail_from_then_on() {
    sweep(
        "calls fail, from then on",
        LOG,
        39,
        51,
        "stop",
        "yes",
        "write:EIO,write:ENOSPC,sync:EIO,size:ENOSPC,name:EIO",
    );
}

// ---- the event store -----------------------------------------------------------------------------

fn event_programs(recorded: &Recorded) -> [PathBuf; 2] {
    let sources = [
        "tests/c/powercut_events.c",
        "tests/c/powercut_check_events.c",
    ];
    sources.map(|source| recorded.build(source))
}

#[test]
fn what_a_c_program_appended_to_an_event_store_survives_every_power_cut() {
    let Some(recorded) = Recorded::new("event store in C") else {
        return;
    };
    let [writer, check] = event_programs(&recorded);
    let mut program = Command::new(&writer);
    program.arg(recorded.path("root/log")).arg("40");
    recorded.record(&program, Stdio::null());
    let runs = fs::read_dir(recorded.path("root/log/index")).unwrap();
    assert!(runs.count() > 0, "the index got no file");
    let check = shell(&[text(&check), "log"]);
    recorded.keeps_its_promises(200, &check);
    recorded.recovers_from_its_recovery(6, &shell(&[text(&writer), "log", "0"]), &check);
}

#[test]
fn what_a_python_program_appended_to_an_event_store_survives_every_power_cut() {
    let Some(recorded) = Recorded::new("event store in Python") else {
        return;
    };
    let [_, check] = event_programs(&recorded);
    let mut program = python("powercut_events.py");
    program.arg(recorded.path("root/log")).arg("27");
    recorded.record(&program, Stdio::null());
    recorded.keeps_its_promises(200, &shell(&[text(&check), "log"]));
}

#[test]
fn a_new_event_store_goes_on_after_any_call_that_failed() {
    sweep(
        "a call fails on a new event store",
        STORE,
        0,
        5,
        "goon",
        "no",
        "write:EIO,write:ENOSPC,sync:EIO,create:ENOSPC,name:EIO",
    );
}

/// Through a batch of many events, which give the index a file when the store is closed.
#[test]
fn an_old_event_store_goes_on_after_any_call_that_failed() {
    sweep(
        "a call fails on an event store",
        STORE,
        29,
        30,
        "goon",
        "no",
        "write:EIO,sync:EIO,name:EIO",
    );
}

#[test]
fn an_old_event_store_keeps_its_promises_when_calls_fail_from_then_on() {
    sweep(
        "calls fail on an event store, from then on",
        STORE,
        38,
        40,
        "stop",
        "yes",
        "write:EIO,write:ENOSPC,sync:EIO,name:EIO",
    );
}

// ---- the check of the check ----------------------------------------------------------------------

/// A program that acknowledges what is not synced yet is found out by its checker.
fn is_found_out(recorded: &Recorded, [writer, check]: [PathBuf; 2], share: u64) {
    let mut program = Command::new(writer);
    program
        .arg(recorded.path("root/log"))
        .args(["20", "manual"]);
    recorded.record(&program, Stdio::null());
    assert!(!recorded.in_doubt().is_empty());
    let output = recorded.explore(share, &[], &shell(&[text(&check), "log"]));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("batches were acknowledged, the last one there is"),
        "{said}"
    );
}

#[test]
fn acknowledging_before_the_sync_is_found_out() {
    let Some(recorded) = Recorded::new("writer that promises too early") else {
        return;
    };
    let programs = ["tests/c/powercut_writer.c", "tests/c/powercut_check.c"];
    is_found_out(
        &recorded,
        programs.map(|source| recorded.build(source)),
        100,
    );
}

#[test]
fn an_event_store_that_acknowledges_before_the_sync_is_found_out() {
    let Some(recorded) = Recorded::new("event store that promises too early") else {
        return;
    };
    is_found_out(&recorded, event_programs(&recorded), 50);
}

// ---- the examples --------------------------------------------------------------------------------

#[test]
fn the_quick_start_survives_every_power_cut() {
    const FILES: u64 = 3;
    let Some(recorded) = Recorded::new("quick start") else {
        return;
    };
    let quickstart = recorded.build("examples-c/quickstart.c");
    let check = recorded.build("tests/c/powercut_check_folders.c");
    let mut random = Random::new(1);
    let mut folders = Vec::new();
    for folder in 0..8 {
        let folder = recorded.path(&format!("folder-{folder}"));
        fs::create_dir(&folder).unwrap();
        for file in 0..FILES {
            let len = random.below(9000);
            let contents: Vec<u8> = (0..len).map(|_| (random.next() & 0xFF) as u8).collect();
            fs::write(folder.join(format!("file-{file}")), contents).unwrap();
        }
        folders.push(folder);
    }
    let mut program = Command::new(quickstart);
    program
        .arg(recorded.path("root/log"))
        .arg("0")
        .args(&folders);
    recorded.record(&program, Stdio::null());
    let files = FILES.to_string();
    let mut words = vec![text(&check), "log", &files];
    words.extend(folders.iter().map(|folder| text(folder)));
    recorded.keeps_its_promises(500, &shell(&words));
}

/// The store's own commands are the checker: what `list` prints after a power cut is what the
/// commands before it have made, all that said `ok` and at most one more.
#[test]
fn the_key_value_store_survives_every_power_cut() {
    const COMMANDS: u64 = 40;
    let Some(recorded) = Recorded::new("key-value store") else {
        return;
    };
    let store = recorded.build("examples-c/kv_store.c");
    let mut random = Random::new(1);
    let mut state = BTreeMap::new();
    let mut script = String::new();
    for number in 0..=COMMANDS {
        let key = format!("key-{}", random.below(9));
        if number == 0 {
            // The empty store.
        } else if number % 8 == 0 {
            script.push_str("save\n");
        } else if random.below(3) == 0 {
            writeln!(script, "del {key}").unwrap();
            state.remove(&key);
        } else {
            writeln!(script, "put {key} value-{number}").unwrap();
            state.insert(key, number);
        }
        let mut list = String::new();
        for (key, value) in &state {
            writeln!(list, "{key} = value-{value}").unwrap();
        }
        list.push_str("ok\n");
        fs::write(recorded.path(&format!("after-{number}")), list).unwrap();
    }
    let commands = recorded.path("commands");
    fs::write(&commands, script).unwrap();
    let check = recorded.path("check.sh");
    fs::write(
        &check,
        r#"n=$(grep -c '^ok$' "$POWERCUT_ACKS")
found=$(echo list | "$1/kv_store" .) || exit 1
for i in $n $((n + 1)); do
    [ -f "$1/after-$i" ] && [ "$found" = "$(cat "$1/after-$i")" ] && exit 0
done
echo "after $n commands: $found"
exit 1
"#,
    )
    .unwrap();
    let mut program = Command::new(store);
    program.arg(recorded.path("root"));
    recorded.record(&program, fs::File::open(commands).unwrap().into());
    let words = ["sh", text(&check), text(recorded.dir.path())];
    recorded.keeps_its_promises(250, &shell(&words));
}
