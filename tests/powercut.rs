//! Power cuts under the shipped library: programs in C and in Python are recorded call by call, and
//! every state that losing power could have left of their files is laid out and opened again.
//!
//! The tool is `powercut`, in the folder `shared/tools` beside this repository; where that is
//! missing, these tests say so and show nothing. It knows which changes a sync has settled, believes
//! in nothing else (its *strict* model), and takes sectors, sizes and names from what is open in any
//! combination: all combinations where they are few, samples from a seed where they are many. Three
//! questions are asked of each program:
//!
//! - *lint*: was anything still in doubt when something later was acknowledged?
//! - *explore*: does a checker find everything acknowledged, whole and right, and nothing partial,
//!   in every state?
//! - *nest*: also if the power goes again while the log is recovered?
//!
//! `DURALOG_POWERCUT_SAMPLES` sets how many states are tried of each program (2000).

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;
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
        let manifest = root().join("../shared/tools/powercut/Cargo.toml");
        if !manifest.is_file() {
            say("skipped: ../shared/tools/powercut is not there, no power is cut");
            return None;
        }
        // target/debug/deps/powercut-…: beside "debug".
        let executable = std::env::current_exe().unwrap();
        let target = executable.ancestors().nth(3).unwrap().join("powercut");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--release", "--locked", "--quiet"]);
        build.arg("--manifest-path").arg(manifest);
        build.arg("--target-dir").arg(&target);
        run(&mut build);
        Some(target.join("release/powercut"))
    })
    .as_deref()
}

/// How many states to try of a program; `share` is its part of what was asked for, in percent.
fn samples(share: u64) -> String {
    let asked =
        std::env::var("DURALOG_POWERCUT_SAMPLES").map_or(2000, |text| text.parse().unwrap());
    (asked * share / 100).max(1).to_string()
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
        let mut command = Command::new(self.powercut);
        command.arg("record").arg("--root").arg(self.path("root"));
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
            .filter(|(_, what)| !may_be_lost(what))
            .map(|(ack, what)| format!("acknowledgement {ack}: {what}"))
            .collect()
    }

    /// Lays out states and runs `check` in each.
    fn explore(&self, share: u64, check: &str) -> Output {
        let mut command = self.ask("explore");
        command.arg("--scratch").arg(self.path("states"));
        command.args(["--samples", &samples(share), "--check", check]);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let summary = text.lines().find(|line| line.contains(" checks run"));
        say(&format!(
            "powercut, {}: {}",
            self.name,
            summary.unwrap_or("?")
        ));
        output
    }

    /// Nothing acknowledged is in doubt, and no state is bad.
    fn keeps_its_promises(&self, share: u64, check: &str) {
        assert_eq!(self.in_doubt(), Vec::<String>::new(), "{}", self.name);
        let output = self.explore(share, check);
        assert!(
            output.status.success(),
            "{}: {}{}",
            self.name,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// LOCK and `tail` may be lost at any time, and so may the names in `ready/`: a file prepared there
/// becomes a segment by a rename into the log's directory, and that is synced.
fn may_be_lost(what: &str) -> bool {
    let (call, name) = what.split_once(' ').unwrap();
    let file = call.strip_suffix(':');
    matches!(file.unwrap_or(name), "LOCK" | "tail")
        || (file.is_none() && name.starts_with("recycled-"))
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
    let mut program = Command::new(writer);
    program.arg(recorded.path("root/log")).arg("90");
    recorded.record(&program, Stdio::null());
    recorded.keeps_its_promises(100, &shell(&[text(&check), "log"]));
}

#[test]
fn what_a_python_program_acknowledged_survives_every_power_cut() {
    let Some(recorded) = Recorded::new("writer in Python") else {
        return;
    };
    let check = recorded.build("tests/c/powercut_check.c");
    let mut program = python("powercut_writer.py");
    program.arg(recorded.path("root/log")).arg("45");
    recorded.record(&program, Stdio::null());
    recorded.keeps_its_promises(100, &shell(&[text(&check), "log"]));
}

#[test]
fn the_power_may_go_again_during_recovery() {
    let Some(recorded) = Recorded::new("recovery") else {
        return;
    };
    let writer = recorded.build("tests/c/powercut_writer.c");
    let check = recorded.build("tests/c/powercut_check.c");
    let mut program = Command::new(&writer);
    program.arg(recorded.path("root/log")).arg("45");
    recorded.record(&program, Stdio::null());
    let mut nest = recorded.ask("nest");
    nest.arg("--scratch").arg(recorded.path("states"));
    nest.args(["--states", &samples(2), "--samples", "40"]);
    nest.args(["--recover", &shell(&[text(&writer), "log", "0"])]);
    nest.args(["--check", &shell(&[text(&check), "log"])]);
    let output = run(&mut nest);
    say(&format!("powercut, recovery: {}", output.trim_end()));
}

/// The check of the check: a program that acknowledges what is not synced yet is found out.
#[test]
fn acknowledging_before_the_sync_is_found_out() {
    let Some(recorded) = Recorded::new("writer that promises too early") else {
        return;
    };
    let writer = recorded.build("tests/c/powercut_writer.c");
    let check = recorded.build("tests/c/powercut_check.c");
    let mut program = Command::new(writer);
    program
        .arg(recorded.path("root/log"))
        .args(["20", "manual"]);
    recorded.record(&program, Stdio::null());
    assert!(!recorded.in_doubt().is_empty());
    let output = recorded.explore(10, &shell(&[text(&check), "log"]));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("batches were acknowledged, the last one there is"),
        "{said}"
    );
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
    recorded.keeps_its_promises(100, &shell(&words));
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
    recorded.keeps_its_promises(50, &shell(&words));
}
