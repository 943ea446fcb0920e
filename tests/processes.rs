//! Processes that use one log at the same time do not harm each other, and readers see only what
//! was acknowledged.
//!
//! - A second writer, in another process or in the same, is told BUSY and by whom, and changes
//!   nothing. The lock goes with the process that held it, however that ends.
//! - A reader beside a writer sees whole acknowledged batches and nothing else: `gated_writer.c`
//!   holds its own sync back, so that a batch stands on the disk unacknowledged while readers in four
//!   languages look. It follows the log through rotation, close, kill, recovery and new writers,
//!   shows nothing twice, and says TRUNCATED where what it was to read next is gone.
//! - Reading writes nothing, and needs no right to.
//! - After fork the child's copy of a handle is of no use, and says so.
//! - The mode `interval` keeps its promise while nobody calls.
//!
//! What each test leaves is read by the engine and by the pure-Python reader, who must agree.

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

use common::{compile_c, root};
use duralog::{Cursor, Durability, ErrorKind, OpenHow, Record, SyncMode, Wal, WalOptions};
use process::{mix, python, read_only, say, Random, Reader, Reporter, PATIENCE, READERS};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Nobody, by the number that systems agree on.
const NOBODY: u32 = 65_534;

/// A directory with a place for a log and the programs built from C.
struct Workshop {
    directory: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Workshop {
        Workshop {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Builds `tests/c/NAME.c`.
    fn program(&self, name: &str) -> PathBuf {
        let program = self.directory.path().join(name);
        if !program.exists() {
            let source = root().join("tests/c").join(format!("{name}.c"));
            compile_c(&[&source], &program);
        }
        program
    }

    /// Another process that has the log open for writing and does as it is told.
    fn writer(&self, mode: &str) -> Reporter {
        let program = self.program("gated_writer");
        let mut writer = Reporter::start(Command::new(program).arg(self.log()).arg(mode));
        writer.expect("O");
        writer
    }

    /// Another process that follows the log.
    fn follower(&self, slow: bool) -> Reporter {
        let mut command = Command::new(self.program("tail_reader"));
        command.arg(self.log()).arg("0");
        if slow {
            command.arg("slow");
        }
        let mut follower = Reporter::start(&mut command);
        follower.expect("O");
        follower
    }
}

/// Dropped after every writer, which was made later: nothing is open any more.
impl Drop for Workshop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let compared = differential::compare_logs_below(self.directory.path());
            assert!(compared > 0, "a test without a log");
        }
    }
}

/// Has `writer` append a batch of two records and returns its sequence number.
fn append(writer: &mut Reporter, text: &str) -> u64 {
    writer.tell(&format!("append {text}"));
    acknowledged(writer)
}

fn acknowledged(writer: &mut Reporter) -> u64 {
    let line = writer.line();
    let seq = line.strip_prefix("A ").and_then(|seq| seq.parse().ok());
    seq.unwrap_or_else(|| panic!("expected an acknowledgement, found {line}"))
}

/// What `cursor` has now, as "seq key value".
fn take_all(cursor: &mut Cursor) -> duralog::Result<Vec<String>> {
    let mut found = Vec::new();
    while let Some(entry) = cursor.next()? {
        let (key, value) = (
            String::from_utf8_lossy(entry.key),
            String::from_utf8_lossy(&entry.value[..entry.value.len().min(64)]),
        );
        found.push(format!("{} {key} {value}", entry.seq));
    }
    Ok(found)
}

/// What another process reports up to its END, in the same form.
fn take_reports(follower: &mut Reporter) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let line = follower.line();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["END"] => return found,
            ["R", seq, _, key, value] => found.push(format!("{seq} {key} {value}")),
            _ => panic!("{line}"),
        }
    }
}

/// The two records of the batch with this text that ends with number `seq`.
fn batch(seq: u64, text: &str) -> Vec<String> {
    vec![
        format!("{} 1 {text}", seq - 2),
        format!("{} 2 {text}", seq - 1),
    ]
}

/// A file as it is: name, length, inode, times of change, content.
type FileAsItIs = (PathBuf, u64, u64, [i64; 4], Vec<u8>);

/// Every file of a log as it is.
fn picture(log: &Path) -> Vec<FileAsItIs> {
    let mut files = Vec::new();
    let mut directories = vec![log.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path.clone());
            }
            files.push(path);
        }
    }
    files.push(log.to_path_buf());
    files.sort();
    let as_it_is = files.into_iter().map(|path| {
        let found = fs::metadata(&path).unwrap();
        let times = [
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        ];
        let content = if found.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        (path, found.len(), found.ino(), times, content)
    });
    as_it_is.collect()
}

// ---- one writer ----------------------------------------------------------------------------------

#[test]
fn a_second_writer_is_told_who_has_the_log_and_changes_nothing() {
    let workshop = Workshop::new();
    let mut writer = workshop.writer("every");
    let seq = append(&mut writer, "first");
    // A MARK comes when a log has been idle for a moment; after it, nothing moves by itself.
    std::thread::sleep(Duration::from_millis(500));
    let before = picture(&workshop.log());
    for how in [OpenHow::CreateIfAbsent, OpenHow::MustExist] {
        let options = WalOptions {
            how,
            ..WalOptions::default()
        };
        let error = Wal::open(workshop.log(), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.is_busy() && error.is_retryable());
        let message = error.to_string();
        assert!(message.contains(&writer.id().to_string()), "{message}");
        assert!(message.contains("gated_writer"), "{message}");
    }
    let second = Command::new(workshop.program("gated_writer"))
        .arg(workshop.log())
        .arg("every")
        .output()
        .unwrap();
    let message = String::from_utf8(second.stdout).unwrap();
    assert!(message.starts_with("@E DURALOG_E_BUSY"), "{message}");
    assert!(message.contains(&writer.id().to_string()), "{message}");
    assert_eq!(picture(&workshop.log()), before);
    assert_eq!(append(&mut writer, "second"), seq + 3);
    writer.tell("close");
    writer.expect("X");
    let wal = Wal::open(workshop.log(), &WalOptions::default()).unwrap();
    assert!(!wal.recovery_report().repaired);
    let found = take_all(&mut wal.cursor(0).unwrap()).unwrap();
    let expected = [batch(3, "first"), batch(6, "second")].concat();
    assert_eq!(found, expected);
}

#[test]
fn a_second_handle_of_the_same_process_is_refused_and_its_end_frees_nothing() {
    let workshop = Workshop::new();
    let wal = Wal::open(workshop.log(), &WalOptions::default()).unwrap();
    wal.append(Record::put(b"a", b"1"), Durability::AsOpened)
        .unwrap();
    for _ in 0..3 {
        // Locks of the older kind are lost when any descriptor of the file is closed.
        let error = Wal::open(workshop.log(), &WalOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        let message = error.to_string();
        assert!(
            message.contains(&std::process::id().to_string()) && message.contains("this process"),
            "{message}"
        );
        drop(Wal::open(workshop.log(), &read_only()).unwrap());
    }
    let other = Command::new(workshop.program("gated_writer"))
        .arg(workshop.log())
        .arg("every")
        .output()
        .unwrap();
    let message = String::from_utf8(other.stdout).unwrap();
    assert!(message.starts_with("@E DURALOG_E_BUSY"), "{message}");
    assert!(
        message.contains(&std::process::id().to_string()),
        "{message}"
    );
    let receipt = wal.append(Record::put(b"a", b"2"), Durability::AsOpened);
    assert_eq!(receipt.unwrap().seq, 2);
    wal.close().unwrap();
    let again = Wal::open(workshop.log(), &WalOptions::default()).unwrap();
    assert!(!again.recovery_report().repaired);
}

#[test]
fn of_many_processes_that_open_at_once_one_gets_the_log() {
    let workshop = Workshop::new();
    let program = workshop.program("gated_writer");
    for _ in 0..5 {
        let mut processes: Vec<Reporter> = (0..6)
            .map(|_| Reporter::start(Command::new(&program).arg(workshop.log()).arg("every")))
            .collect();
        let first_words: Vec<String> = processes.iter_mut().map(Reporter::line).collect();
        let got_it = first_words.iter().filter(|line| *line == "O").count();
        let busy = |line: &&String| line.starts_with("E DURALOG_E_BUSY");
        assert_eq!(got_it, 1, "{first_words:?}");
        assert_eq!(
            first_words.iter().filter(busy).count(),
            5,
            "{first_words:?}"
        );
        for mut process in processes {
            process.kill();
        }
    }
}

#[test]
fn the_lock_goes_with_a_writer_that_is_killed() {
    let workshop = Workshop::new();
    for round in 0..10 {
        let mut writer = workshop.writer("every");
        append(&mut writer, "text");
        writer.kill();
        writer.finish();
        let wal = Wal::open(workshop.log(), &WalOptions::default()).unwrap();
        let report = wal.recovery_report();
        assert!(report.repaired, "nobody closed it: {report:?}");
        let found = take_all(&mut wal.cursor(0).unwrap()).unwrap();
        assert_eq!(found.len(), 2 * (round + 1));
        wal.close().unwrap();
    }
}

// ---- readers beside a writer ---------------------------------------------------------------------

#[test]
fn a_batch_that_is_written_but_not_acknowledged_is_seen_by_no_reader() {
    let workshop = Workshop::new();
    let dump_log = process::build_dump_c(workshop.directory.path());
    let mut writer = workshop.writer("every");
    let first = append(&mut writer, "acknowledged");
    let reader = Wal::open(workshop.log(), &read_only()).unwrap();
    let mut cursor = reader.cursor(0).unwrap();
    let mut follower = workshop.follower(false);
    assert_eq!(take_all(&mut cursor).unwrap(), batch(first, "acknowledged"));
    assert_eq!(take_reports(&mut follower), batch(first, "acknowledged"));

    writer.tell("hold");
    writer.tell("append in-between");
    writer.expect("H");
    let segment = fs::read(workshop.log().join("00000000000000000001.wal")).unwrap();
    let written = segment.windows(10).filter(|bytes| bytes == b"in-between");
    assert_eq!(written.count(), 2, "it is on its way to the disk");
    let beside = |reader: Reader| match reader {
        // The one that shares nothing with the library must be told that there is a writer.
        Reader::PurePython => {
            let mut command = python("dump_log.py");
            process::dump_by(command.arg(workshop.log()).arg("live"))
        }
        reader => reader.dump(&workshop.log(), &dump_log),
    };
    for reader in READERS {
        let dump = beside(reader);
        assert_eq!(dump.error, None, "{reader:?}");
        assert_eq!(dump.records.len(), 2, "{reader:?} beside a held sync");
    }
    assert_eq!(take_all(&mut cursor).unwrap(), [""; 0]);
    assert_eq!(follower.line_within(Duration::from_millis(100)), None);
    let fresh = Wal::open(workshop.log(), &read_only()).unwrap();
    assert_eq!(fresh.stat().unwrap().last_seq, first);

    writer.tell("let");
    let second = acknowledged(&mut writer);
    assert_eq!(second, first + 3);
    for reader in READERS {
        assert_eq!(
            beside(reader).records.len(),
            4,
            "{reader:?} when it is acknowledged"
        );
    }
    assert_eq!(take_all(&mut cursor).unwrap(), batch(second, "in-between"));
    assert_eq!(take_reports(&mut follower), batch(second, "in-between"));
}

#[test]
fn a_batch_whose_writer_is_killed_before_it_is_acknowledged_is_there_whole_or_not_at_all() {
    let workshop = Workshop::new();
    let mut writer = workshop.writer("every");
    let first = append(&mut writer, "one");
    let reader = Wal::open(workshop.log(), &read_only()).unwrap();
    let mut cursor = reader.cursor(0).unwrap();
    assert_eq!(take_all(&mut cursor).unwrap().len(), 2);
    writer.tell("hold");
    writer.tell("append two");
    writer.expect("H");
    assert_eq!(take_all(&mut cursor).unwrap().len(), 0);
    writer.kill();
    writer.finish();
    // Written whole, and only its process died: so it is there.
    let expected = batch(first + 3, "two");
    assert_eq!(take_all(&mut cursor).unwrap(), expected);
    let wal = Wal::open(workshop.log(), &WalOptions::default()).unwrap();
    assert_eq!(take_all(&mut wal.cursor(first).unwrap()).unwrap(), expected);
    assert_eq!(take_all(&mut cursor).unwrap(), [""; 0], "and not again");
}

#[test]
fn a_reader_follows_through_rotation_close_kill_and_new_writers() {
    for mode in ["every", "manual"] {
        let workshop = Workshop::new();
        let mut writer = workshop.writer(mode);
        let reader = Wal::open(workshop.log(), &read_only()).unwrap();
        let mut cursor = reader.cursor(0).unwrap();
        let mut follower = workshop.follower(false);
        follower.expect("END");
        let mut expected = Vec::new();
        let mut told = Vec::new();
        let mut seen = Vec::new();
        for life in 0..9 {
            for round in 0..3 {
                let text = format!("{life}-{round}");
                let seq = append(&mut writer, &text);
                expected.extend(batch(seq, &text));
                // At once, for it is acknowledged.
                seen.extend(take_all(&mut cursor).unwrap());
                assert_eq!(seen, expected, "{mode}, life {life}, round {round}");
                if round == life % 3 {
                    writer.tell("fill");
                    let seq = acknowledged(&mut writer);
                    expected.push(format!("{seq} fill {}", ".".repeat(64)));
                }
            }
            match life % 3 {
                0 => {
                    writer.tell("close");
                    writer.expect("X");
                    assert!(writer.finish().0.success());
                }
                1 => {
                    writer.kill();
                    writer.finish();
                    // A look while nobody writes.
                    seen.extend(take_all(&mut cursor).unwrap());
                    assert_eq!(seen, expected, "{mode}, after the kill of life {life}");
                }
                _ => {
                    writer.kill();
                    writer.finish();
                }
            }
            writer = workshop.writer(mode);
        }
        let seq = append(&mut writer, "last");
        expected.extend(batch(seq, "last"));
        seen.extend(take_all(&mut cursor).unwrap());
        assert_eq!(seen, expected, "{mode}");
        while told.len() < expected.len() {
            told.extend(take_reports(&mut follower));
        }
        assert_eq!(told, expected, "{mode}, in another process");
        let first_segment = workshop.log().join("00000000000000000001.wal");
        assert!(first_segment.exists());
        let stat = reader.stat().unwrap();
        assert!(stat.last_segment >= 9, "{stat:?}");
        assert_eq!(stat.last_seq, seq);
    }
}

// ---- truncation under a reader -------------------------------------------------------------------

/// The value of record `seq`: what a reader shows can be checked by itself.
fn value_of(seq: u64) -> Vec<u8> {
    let word = format!("{:016x}", mix(seq));
    word.as_bytes()
        .repeat(usize::try_from(4 + mix(seq) % 400).unwrap())
}

fn append_numbered(wal: &Wal, count: u64) -> u64 {
    let mut last = wal.stat().unwrap().last_seq;
    for _ in 0..count {
        let seq = last + 1;
        let receipt = wal.append(Record::put(b"n", &value_of(seq)), Durability::AsOpened);
        last = receipt.unwrap().seq;
        assert_eq!(last, seq);
    }
    last
}

#[test]
fn a_reader_that_falls_behind_a_truncation_is_told_so() {
    let workshop = Workshop::new();
    let options = WalOptions {
        segment_bytes_max: 64 << 10,
        ..WalOptions::default()
    };
    let wal = Wal::open(workshop.log(), &options).unwrap();
    let last = append_numbered(&wal, 200);
    assert!(wal.stat().unwrap().segment_count >= 8);
    let reader = Wal::open(workshop.log(), &read_only()).unwrap();
    // One that stands in the first segment, one that has not begun, and one of the writer's own
    // handle; and one in another process.
    let mut begun = reader.cursor(0).unwrap();
    let mut own = wal.cursor(0).unwrap();
    assert_eq!(begun.next().unwrap().unwrap().seq, 1);
    assert_eq!(own.next().unwrap().unwrap().seq, 1);
    let mut not_begun = reader.cursor(0).unwrap();
    let mut follower = workshop.follower(true);
    follower.tell("");
    assert!(follower.line().starts_with("R 1 "));
    wal.truncate(last - 1).unwrap();
    // New segments take the place of old ones, perhaps in the same files.
    let last = append_numbered(&wal, 200);
    for cursor in [&mut begun, &mut own] {
        let mut seq = 1;
        let error = loop {
            match cursor.next() {
                // What it held in memory it may still show.
                Ok(Some(entry)) => {
                    seq += 1;
                    assert_eq!(entry.seq, seq);
                    assert_eq!(entry.value, value_of(seq));
                }
                Ok(None) => panic!("the end, after record {seq}, where {last} is the last"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
        assert!(seq < 200);
        let again = cursor.next().unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Truncated, "it stays so: {again}");
    }
    match not_begun.next() {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Truncated),
        Ok(entry) => panic!("record {:?}", entry.map(|entry| entry.seq)),
    }
    loop {
        follower.tell("");
        let line = follower.line();
        if line.starts_with("X ") {
            assert!(line.starts_with("X DURALOG_E_TRUNCATED"), "{line}");
            break;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let value = value_of(words[1].parse().unwrap());
        assert_eq!(words[4].as_bytes(), &value[..64], "{line}");
    }
    // The same handle begins anew with what is left.
    let mut anew = reader.cursor(0).unwrap();
    let first = anew.next().unwrap().unwrap().seq;
    assert_eq!(first, 200);
    let mut count = 1;
    while let Some(entry) = anew.next().unwrap() {
        count += 1;
        assert_eq!(entry.value, value_of(entry.seq));
    }
    assert_eq!(count, last - 200 + 1);
    assert_eq!(reader.stat().unwrap().truncated_seq, 199);
}

#[test]
fn readers_beside_endless_truncation_see_right_records_or_truncated() {
    let workshop = Workshop::new();
    let seed = process::seed();
    say(&format!("processes: seed {seed}"));
    let mut random = Random::new(seed);
    let options = WalOptions {
        segment_bytes_max: 64 << 10,
        sync_mode: SyncMode::Manual,
        ..WalOptions::default()
    };
    let wal = Wal::open(workshop.log(), &options).unwrap();
    append_numbered(&wal, 50);
    let program = workshop.program("tail_reader");
    let log = workshop.log();
    let finished = std::sync::atomic::AtomicBool::new(false);
    let (records, truncations, openings) = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|which| {
                let (program, log, finished) = (&program, &log, &finished);
                scope.spawn(move || {
                    let mut tally = (0u64, 0u64, 0u64);
                    while !finished.load(std::sync::atomic::Ordering::SeqCst) {
                        tally.2 += 1;
                        if which == 0 {
                            read_here(log, &mut tally);
                        } else {
                            read_elsewhere(program, log, which == 2, &mut tally);
                        }
                    }
                    tally
                })
            })
            .collect();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(4) {
            let last = append_numbered(&wal, 1 + random.below(60));
            wal.truncate(last - random.below(40).min(last)).unwrap();
        }
        finished.store(true, std::sync::atomic::Ordering::SeqCst);
        readers.into_iter().fold((0, 0, 0), |sum, reader| {
            let tally = reader.join().unwrap();
            (sum.0 + tally.0, sum.1 + tally.1, sum.2 + tally.2)
        })
    });
    let stat = wal.stat().unwrap();
    say(&format!(
        "processes: {} records appended, {} segments begun; readers opened the log {openings} times, \
         saw {records} records and were told {truncations} times that they were truncated",
        stat.last_seq, stat.rotation_count
    ));
    assert!(stat.rotation_count > 10);
    assert!(records > 0 && openings > 3);
    wal.close().unwrap();
    let report = Wal::verify(&log).unwrap();
    assert_eq!(report.row, "Z", "{report:?}");
}

/// Reads all there is with a handle of this process. Counts records and truncations.
fn read_here(log: &Path, tally: &mut (u64, u64, u64)) {
    let reader = Wal::open(log, &read_only()).unwrap();
    for _ in 0..20 {
        let mut cursor = reader.cursor(0).unwrap();
        let mut before = 0;
        loop {
            match cursor.next() {
                Ok(Some(entry)) => {
                    assert!(
                        before == 0 || entry.seq == before + 1,
                        "{} {before}",
                        entry.seq
                    );
                    before = entry.seq;
                    assert_eq!(entry.value, value_of(entry.seq));
                    tally.0 += 1;
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
                    tally.1 += 1;
                    break;
                }
            }
        }
        reader.stat().unwrap();
    }
}

/// The same in another process, step by step or as fast as it can.
fn read_elsewhere(program: &Path, log: &Path, slow: bool, tally: &mut (u64, u64, u64)) {
    let mut command = Command::new(program);
    command.arg(log).arg("0");
    if slow {
        command.arg("slow");
    }
    let mut follower = Reporter::start(&mut command);
    follower.expect("O");
    let mut before: u64 = 0;
    for _ in 0..300 {
        if slow {
            follower.tell("");
            std::thread::sleep(Duration::from_micros(200));
        }
        // Nothing more comes when the writer is done.
        let Some(line) = follower.line_within(Duration::from_secs(2)) else {
            return;
        };
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["R", seq, _, "n", value] => {
                let seq: u64 = seq.parse().unwrap();
                assert!(before == 0 || seq == before + 1, "{line} after {before}");
                before = seq;
                assert_eq!(value.as_bytes(), &value_of(seq)[..64], "{line}");
                tally.0 += 1;
            }
            ["END"] if slow => return,
            ["END"] => {}
            _ => {
                assert!(line.starts_with("X DURALOG_E_TRUNCATED"), "{line}");
                tally.1 += 1;
                return;
            }
        }
        if !slow && tally.0 % 256 == 0 {
            return;
        }
    }
}

// ---- reading writes nothing ----------------------------------------------------------------------

#[test]
fn reading_changes_nothing_in_a_log_that_is_closed_or_torn() {
    let workshop = Workshop::new();
    let dump_log = process::build_dump_c(workshop.directory.path());
    let mut writer = workshop.writer("every");
    append(&mut writer, "text");
    writer.tell("fill");
    acknowledged(&mut writer);
    append(&mut writer, "text");
    writer.tell("close");
    writer.expect("X");
    drop(writer);
    let check = |records: usize| {
        let before = picture(&workshop.log());
        for reader in READERS {
            let dump = reader.dump(&workshop.log(), &dump_log);
            assert_eq!(dump.error, None, "{reader:?}");
            assert_eq!(dump.records.len(), records, "{reader:?}");
            assert_eq!(picture(&workshop.log()), before, "{reader:?}");
        }
        Wal::verify(workshop.log()).unwrap();
        let reader = Wal::open(workshop.log(), &read_only()).unwrap();
        reader.stat().unwrap();
        let refused = [
            reader
                .append(Record::put(b"k", b"v"), Durability::AsOpened)
                .err(),
            reader.sync().err(),
            reader.checkpoint(b"").err(),
            reader.truncate(1).err(),
        ];
        for error in refused {
            assert_eq!(error.unwrap().kind(), ErrorKind::ReadOnly);
        }
        reader.close().unwrap();
        assert_eq!(picture(&workshop.log()), before);
    };
    check(5);
    // And one that needs recovery, with half a frame at its end.
    let mut writer = workshop.writer("every");
    append(&mut writer, "more");
    writer.kill();
    writer.finish();
    check(7);
    let segment = workshop.log().join("00000000000000000002.wal");
    let mut bytes = fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[end] ^= 0x55;
    fs::write(&segment, &bytes).unwrap();
    fs::remove_file(workshop.log().join("tail")).unwrap();
    check(5);
}

#[test]
fn a_log_can_be_read_without_any_right_to_write() {
    let root_user = fs::metadata("/proc/self").unwrap().uid() == 0;
    let workshop = Workshop::new();
    let dump_log = process::build_dump_c(workshop.directory.path());
    let mut writer = workshop.writer("every");
    append(&mut writer, "text");
    let log = workshop.log();
    let permit = |mode: u32, file_mode: u32| {
        for entry in fs::read_dir(&log).unwrap() {
            let path = entry.unwrap().path();
            let mode = if path.is_dir() { mode } else { file_mode };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(&log, fs::Permissions::from_mode(mode)).unwrap();
    };
    let directory = workshop.directory.path();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    // Its own copy of the library: the build directory may be closed to others.
    let library = directory.join("libduralog.so");
    fs::copy(common::library_dir().join("libduralog.so"), &library).unwrap();
    let read = |expected: usize| {
        permit(0o555, 0o444);
        let before = picture(&log);
        let mut command = Command::new(&dump_log);
        command.arg(&log).env("LD_LIBRARY_PATH", directory);
        if root_user {
            // Root may write whatever the mode says, so it becomes someone else.
            command.uid(NOBODY).gid(NOBODY);
        }
        let dump = process::dump_by(&mut command);
        assert_eq!(dump.error, None);
        assert_eq!(dump.records.len(), expected);
        assert_eq!(picture(&log), before);
        permit(0o755, 0o644);
    };
    // Beside the writer, after its close, and after a kill.
    std::thread::sleep(Duration::from_millis(500));
    read(2);
    writer.tell("close");
    writer.expect("X");
    drop(writer);
    read(2);
    let mut writer = workshop.writer("every");
    append(&mut writer, "text");
    writer.kill();
    writer.finish();
    read(4);
    // To write is refused, and plainly.
    permit(0o555, 0o444);
    let mut command = Command::new(workshop.program("gated_writer"));
    command
        .arg(&log)
        .arg("every")
        .env("LD_LIBRARY_PATH", directory);
    if root_user {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stdout).unwrap();
    assert!(message.starts_with("@E DURALOG_E_IO"), "{message}");
    assert!(message.contains("LOCK"), "{message}");
    permit(0o755, 0o644);
}

// ---- fork, and the mode interval -----------------------------------------------------------------

#[test]
fn after_fork_the_child_is_told_and_the_parent_goes_on() {
    let workshop = Workshop::new();
    let program = workshop.program("fork");
    let output = process::output_of(Command::new(&program).arg(workshop.log()));
    assert!(output.contains("0 failed"), "{output}");
    let mut mapped = Command::new(program);
    mapped.arg(workshop.directory.path().join("mapped"));
    let output = process::output_of(mapped.arg("mapped"));
    assert!(output.contains("0 failed"), "{output}");
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    begin.elapsed()
}

#[test]
fn the_mode_interval_syncs_while_nobody_calls() {
    let workshop = Workshop::new();
    let options = WalOptions {
        sync_mode: SyncMode::Interval {
            batches: 1000,
            millis: 400,
        },
        ..WalOptions::default()
    };
    let wal = Wal::open(workshop.log(), &options).unwrap();
    let mut syncs = 0;
    for round in 0..3 {
        let before = wal.stat().unwrap();
        assert_eq!(before.durable_lsn, before.written_lsn);
        let begin = Instant::now();
        wal.append(Record::put(b"k", b"v"), Durability::AsOpened)
            .unwrap();
        let stat = wal.stat().unwrap();
        if begin.elapsed() < Duration::from_millis(300) {
            assert!(
                stat.durable_lsn < stat.written_lsn,
                "round {round}: too early"
            );
            assert_eq!(stat.sync_count, before.sync_count);
        }
        let waited = wait_until("a sync by itself", || {
            let stat = wal.stat().unwrap();
            stat.durable_lsn == stat.written_lsn
        });
        syncs = wal.stat().unwrap().sync_count;
        assert!(syncs > before.sync_count, "round {round}");
        say(&format!(
            "processes: interval of 400 ms: synced by itself after {} ms",
            waited.as_millis()
        ));
        // Let the idle MARK pass, which is synced too.
        std::thread::sleep(Duration::from_millis(1000));
    }
    assert!(syncs >= 3);
    // As many batches as were asked for are synced at once, by the append that fills the number.
    let few = WalOptions {
        sync_mode: SyncMode::Interval {
            batches: 10,
            millis: 60_000,
        },
        ..WalOptions::default()
    };
    let second = Wal::open(workshop.directory.path().join("second"), &few).unwrap();
    for number in 1..=25 {
        second
            .append(Record::put(b"k", b"v"), Durability::AsOpened)
            .unwrap();
        assert_eq!(second.stat().unwrap().sync_count, number / 10);
    }
}

#[test]
fn the_mode_manual_syncs_when_told_and_never_by_itself() {
    let workshop = Workshop::new();
    let options = WalOptions {
        sync_mode: SyncMode::Manual,
        ..WalOptions::default()
    };
    let wal = Wal::open(workshop.log(), &options).unwrap();
    wal.append(Record::put(b"k", b"v"), Durability::AsOpened)
        .unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let stat = wal.stat().unwrap();
    assert!(stat.durable_lsn < stat.written_lsn);
    assert_eq!(stat.sync_count, 0);
    wal.sync().unwrap();
    let stat = wal.stat().unwrap();
    assert_eq!(stat.durable_lsn, stat.written_lsn);
    assert_eq!(stat.sync_count, 1);
    // One call may ask for more than the mode.
    wal.append(Record::put(b"k", b"v"), Durability::Durable)
        .unwrap();
    let stat = wal.stat().unwrap();
    assert_eq!(stat.durable_lsn, stat.written_lsn);
    assert_eq!(stat.sync_count, 2);
}
