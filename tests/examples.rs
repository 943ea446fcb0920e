//! The programs of `examples-c/` do what they say: each is compiled as strict C99 with warnings as
//! errors, run, and its output compared; run again under valgrind where that is installed; and those
//! that claim to survive a kill are killed. The logs that they leave are also read by the pure-Python
//! reader.

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

use common::{compile_c, library_dir, root, run, valgrind};
use process::{seed, Random};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// An example that was built, and a directory to run it in.
struct Example {
    program: PathBuf,
    dir: TempDir,
}

impl Example {
    fn new(name: &str) -> Example {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(name);
        let source = root().join("examples-c").join(format!("{name}.c"));
        compile_c(&[&source], &program);
        Example { program, dir }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.dir.path());
        command
    }

    /// What it prints; it must end with 0.
    fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// The same under valgrind, if there is one.
    fn run_checked(&self, arguments: &[&str]) -> Option<String> {
        let mut command = valgrind(&self.program)?;
        command.args(arguments).current_dir(self.dir.path());
        Some(run(&mut command))
    }
}

/// Its programs have ended by now.
impl Drop for Example {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let compared = differential::compare_logs_below(self.dir.path());
            assert!(compared > 0, "an example without a log");
        }
    }
}

/// Runs `command` with this on its standard input, and returns what it prints.
fn run_with_input(mut command: Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn all_examples_are_tested_here_and_are_short() {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("examples-c")).unwrap() {
        let path = entry.unwrap().path();
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 120, "{}: {lines} lines", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "append_replay.c",
            "async_append.c",
            "bank_transfer.c",
            "eventstore_append.c",
            "eventstore_consumer.c",
            "eventstore_ndjson.c",
            "kv_store.c",
            "kv_table.h",
            "many_writers.c",
            "quickstart.c"
        ]
    );
}

#[test]
fn append_replay_finds_what_it_left() {
    let example = Example::new("append_replay");
    let first = example.run(&["log"]);
    let expected = "found:\n0 records\n\
                    appended one record: 1\n\
                    appended a batch, committed as 5\n\
                    after 1:\n  2: river = Rhine\n  3: bridge = Kennedy\n  4: ferry = \n3 records\n";
    assert_eq!(first, expected);
    let second = example.run(&["log"]);
    assert!(
        second.starts_with("found:\n  1: city = Bonn\n  2: river = Rhine\n"),
        "{second}"
    );
    assert!(
        second.contains("\n4 records\nappended one record: 6\n"),
        "{second}"
    );
    if let Some(checked) = example.run_checked(&["other-log"]) {
        assert_eq!(checked, expected);
    }
}

#[test]
fn async_append_makes_every_batch_durable() {
    let example = Example::new("async_append");
    let first = example.run(&["log", "500"]);
    assert_eq!(
        first,
        "500 batches are durable, the last committed as 1500\n"
    );
    let second = example.run(&["log", "7"]);
    assert_eq!(
        second,
        "7 batches are durable, the last committed as 1521\n"
    );
    if let Some(checked) = example.run_checked(&["other-log", "100"]) {
        assert_eq!(
            checked,
            "100 batches are durable, the last committed as 300\n"
        );
    }
}

#[test]
fn bank_transfer_keeps_its_money_when_it_is_killed() {
    let example = Example::new("bank_transfer");
    let all_there = |output: &str| output.ends_with("total: 10000, expected 10000\n");
    assert!(all_there(&example.run(&["bank", "50"])));
    let seed = seed();
    let mut random = Random::new(seed);
    for _ in 0..10 {
        let mut child = example
            .command(&["bank", "100000000"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.below(40)));
        child.kill().unwrap();
        child.wait().unwrap();
        let output = example.run(&["bank", "0"]);
        assert!(all_there(&output), "seed {seed}: {output}");
    }
    if let Some(checked) = example.run_checked(&["bank", "20"]) {
        assert!(all_there(&checked), "{checked}");
    }
}

#[test]
fn many_writers_share_their_syncs() {
    let example = Example::new("many_writers");
    let expect = |output: &str| {
        for thread in 0..8 {
            let line = format!("thread {thread}: 300 records, in order\n");
            assert!(output.contains(&line), "{output}");
        }
        let (_, end) = output.rsplit_once("in order\n").unwrap();
        let syncs = end
            .strip_prefix("800 batches, 2400 records, ")
            .and_then(|end| end.strip_suffix(" syncs\n"));
        let syncs: u64 = syncs.unwrap().parse().unwrap();
        assert!((1..=800).contains(&syncs), "{output}");
    };
    expect(&example.run(&["log"]));
    if let Some(checked) = example.run_checked(&["other-log"]) {
        expect(&checked);
    }
}

#[test]
fn kv_store_recovers_from_its_snapshot_and_its_log() {
    let example = Example::new("kv_store");
    let dir = |name: &str| {
        fs::create_dir(example.dir.path().join(name)).unwrap();
        name.to_owned()
    };
    let store = dir("store");
    let mut writer = example
        .command(&[&store])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut commands = writer.stdin.take().unwrap();
    let mut answers = BufReader::new(writer.stdout.take().unwrap());
    for command in [
        "put b 2", "put a 1", "save", "put c 3", "del a", "save", "put d 4", "del c", "put b 5",
    ] {
        writeln!(commands, "{command}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "ok\n", "{command}");
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    let after = "b = 5\nd = 4\nok\n";
    for _ in 0..2 {
        let found = run_with_input(example.command(&[&store]), "list\n");
        assert_eq!(found, after);
    }
    let found = run_with_input(
        example.command(&[&store]),
        "save\nget b\nget c\nsave\nlist\n",
    );
    assert_eq!(found, format!("ok\nb = 5\nok\nok\nok\n{after}"));
    for store in [store, dir("other-store")] {
        let Some(mut command) = valgrind(&example.program) else {
            return;
        };
        command.arg(store).current_dir(example.dir.path());
        let found = run_with_input(command, "put b 5\nput d 4\nsave\nput e 6\ndel e\nlist\n");
        assert_eq!(found, format!("ok\nok\nok\nok\nok\n{after}"));
    }
}

#[test]
fn eventstore_append_gives_no_seat_twice() {
    let example = Example::new("eventstore_append");
    let all = [
        "anna", "ben", "carla", "dora", "emil", "fred", "gina", "hans",
    ];
    let seats = |output: &str| {
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines.len(), all.len(), "{output}");
        let has = |line: &&&str| line.ends_with(": a seat");
        lines.iter().filter(has).count()
    };
    let arguments = |store, seats| [&[store, "course:c1", seats], &all[..]].concat();
    let first = example.run(&arguments("school", "3"));
    assert_eq!(seats(&first), 3, "{first}");
    // Who has a seat keeps it, and two more are given.
    let second = example.run(&arguments("school", "5"));
    assert_eq!(seats(&second), 5, "{second}");
    for (before, after) in first.lines().zip(second.lines()) {
        assert!(
            before.ends_with("no seat") || before == after,
            "{first}{second}"
        );
    }
    if let Some(checked) = example.run_checked(&arguments("other-school", "3")) {
        assert_eq!(seats(&checked), 3, "{checked}");
    }
}

#[test]
fn eventstore_consumer_counts_each_event_once_when_it_is_killed() {
    let example = Example::new("eventstore_consumer");
    let numbers: Vec<String> = (1..=1000).map(|number: u32| number.to_string()).collect();
    let mut sell = vec!["orders", "sell"];
    sell.extend(numbers.iter().map(String::as_str));
    let seed = seed();
    let mut random = Random::new(seed);
    for round in 1..=5_u64 {
        example.run(&sell);
        for _ in 0..3 {
            let mut child = example
                .command(&["orders", "count"])
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(random.below(20)));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let output = example.run(&["orders", "count"]);
        let expected = format!("{} orders, {} sold\n", round * 1000, round * 500_500);
        assert_eq!(output, expected, "seed {seed}");
    }
    if let Some(checked) = example.run_checked(&["orders", "count"]) {
        assert_eq!(checked, "5000 orders, 2502500 sold\n");
    }
}

#[test]
fn eventstore_consumer_counts_what_comes_while_it_follows() {
    let example = Example::new("eventstore_consumer");
    let lines: String = (1..=300).map(|number: u32| format!("{number}\n")).collect();
    let seed = seed();
    let mut random = Random::new(seed);
    let (mut orders, mut sold) = (0, 0);
    for _ in 0..8 {
        let mut child = example
            .command(&["orders", "follow"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(lines.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(random.below(60)));
        child.kill().unwrap();
        child.wait().unwrap();
        let counted = example.run(&["orders", "count"]);
        let numbers: Vec<u64> = counted
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        // Of each run the first so many lines were sold, whatever was counted of them then.
        let here = numbers[0] - orders;
        assert!(here <= 300, "seed {seed}: {counted}");
        sold += here * (here + 1) / 2;
        orders += here;
        assert_eq!(numbers, [orders, sold], "seed {seed}");
    }
    run_with_input(example.command(&["orders", "follow"]), &lines);
    let expected = format!("{} orders, {} sold\n", orders + 300, sold + 45_150);
    assert_eq!(example.run(&["orders", "count"]), expected, "seed {seed}");
}

#[test]
fn eventstore_ndjson_imports_and_exports_and_goes_on_when_it_is_killed() {
    let example = Example::new("eventstore_ndjson");
    let line = |number: u32| {
        format!(
            "{{\"event_id\": {number}, \"stream_id\": \"s\", \"event_type\": \"T\", \"data\": {{}}, \
             \"timestamp\": \"2010-10-02T09:20:39+02:00\", \"metadata\": {{}}}}\n"
        )
    };
    let text: String = (1..=20_000).map(line).collect();
    let file = |name: &str| example.dir.path().join(name);
    fs::write(file("events.ndjson"), &text).unwrap();
    let seed = seed();
    let mut random = Random::new(seed);
    for (command, name) in [("import", "events.ndjson"), ("export", "copy.ndjson")] {
        for _ in 0..5 {
            let mut child = example
                .command(&["store", command, name])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(random.below(60)));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        example.run(&["store", command, name]);
    }
    let copied = fs::read_to_string(file("copy.ndjson")).unwrap();
    assert!(copied == text, "seed {seed}");
    let told = example.run(&["store", "import", "copy.ndjson"]);
    let expected = "20000 lines: 0 events imported, 20000 were there already\n";
    assert_eq!(told, expected, "seed {seed}");

    let short = [line(1), line(2), "{\"torn".into()].concat();
    let torn =
        "3 lines: 2 events imported, 0 were there already\nline 3 is torn and was left out\n";
    let found = run_with_input(example.command(&["other", "import", "-"]), &short);
    assert_eq!(found, torn);
    assert_eq!(
        example.run(&["other", "export", "-"]),
        short[..short.len() - 6]
    );
    fs::write(file("damaged.ndjson"), "{}\n").unwrap();
    let damaged = example
        .command(&["other", "import", "damaged.ndjson"])
        .output();
    let damaged = damaged.unwrap();
    assert_eq!(damaged.status.code(), Some(1));
    let told = String::from_utf8_lossy(&damaged.stdout).into_owned();
    assert!(
        told.ends_with("stopped at line 1, before its batch\n"),
        "{told}"
    );
    if let Some(mut command) = valgrind(&example.program) {
        command.args(["checked", "import", "-"]);
        command.current_dir(example.dir.path());
        assert_eq!(run_with_input(command, &short), torn);
        let checked = example.run_checked(&["checked", "export", "-"]);
        assert_eq!(checked.unwrap(), short[..short.len() - 6]);
    }
}

#[test]
fn quickstart_goes_on_where_it_stopped() {
    let example = Example::new("quickstart");
    for folder in ["one", "two", "three"] {
        let folder = example.dir.path().join(folder);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("full"), "contents").unwrap();
        fs::write(folder.join("empty"), "").unwrap();
        fs::create_dir(folder.join("inner")).unwrap();
    }
    let found = example.run(&["log", "0", "one", "two"]);
    assert_eq!(found, "found 0\nack 1 one\nack 2 two\n");
    let found = example.run(&["log", "0", "one", "two", "three"]);
    assert_eq!(found, "found 2\nack 3 three\n");
    if let Some(checked) = example.run_checked(&["other-log", "1", "one", "two"]) {
        assert_eq!(checked, "found 0\nack 1 one\nack 2 two\n");
    }
    let missing = example.command(&["log", "0", "a", "b", "c", "d"]).output();
    assert_eq!(missing.unwrap().status.code(), Some(1));
}

/// The driver of `make quickstart`: kill, replay from Python, compare, complete.
#[test]
fn the_quick_start_keeps_its_promises() {
    let example = Example::new("quickstart");
    let work = example.dir.path().join("work");
    let run_driver = |program: &Path, work: &Path| {
        let mut driver = Command::new("python3");
        driver.arg(root().join("tools/quickstart.py"));
        driver.arg(program).arg(work);
        driver.env("DURALOG_LIBRARY", library_dir().join("libduralog.so"));
        driver.env("PYTHONDONTWRITEBYTECODE", "1");
        run(&mut driver)
    };
    let output = run_driver(&example.program, &work);
    assert!(output.contains("\nAll as promised, in "), "{output}");
    assert_eq!(output.matches("all equal").count(), 2, "{output}");
}
