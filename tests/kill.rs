//! Writers in C, Python and Rust are killed with SIGKILL at random moments, and readers in all
//! three languages, and the reader in pure Python that shares nothing with the library, then find
//! every acknowledged batch whole, in order, and nothing partial.
//!
//! A log lives through many writers, each in another language and another sync mode than the one
//! before, so every writer also recovers what another language left behind. Batches are small and
//! large (several segments' worth at times), with rotation, checkpoints and truncation between.
//! What a batch holds follows from the seed of the log and the number of the batch, so that every
//! byte that a reader finds is compared. Most kills come 0 to 60 ms after the first acknowledged
//! batch of a writer; a third comes while the log is being opened.
//!
//! `DURALOG_KILLS` sets how many (210), `DURALOG_SEED` repeats the choices of a run; the moments of
//! the kills are never quite the same.
//!
//! A killed process loses nothing that it wrote, so in all sync modes acknowledged means there.
//! Losing power is another matter: `tests/sim_disk.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;
#[path = "common/process.rs"]
mod process;

use duralog::{Durability, Record, SyncMode, Wal, WalOptions};
use process::{mix, python, say, Dump, FoundRecord, Random, Reader, Reporter, READERS};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Kills in one life of a log, after which a new one is made.
const KILLS_PER_LOG: u64 = 14;
/// Logs that live at the same time.
const LANES: u64 = 2;

// ---- what writers write --------------------------------------------------------------------------

const POOL_LEN: u64 = 65_536;

/// The contents of every batch of one log, by number from 1.
struct Contents {
    seed: u64,
    pool: Vec<u8>,
}

/// A batch as it is appended.
struct Batch {
    solo: bool,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a writer does behind a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Nothing,
    Sync,
    Checkpoint,
    /// Up to the batch so many before.
    Truncate(u64),
}

impl Contents {
    fn new(seed: u64) -> Contents {
        let words = (0..POOL_LEN / 8).map(|word| mix(seed.wrapping_add(word)));
        Contents {
            seed,
            pool: words.flat_map(u64::to_le_bytes).collect(),
        }
    }

    fn number(&self, batch: u64, index: u64) -> u64 {
        mix(mix(self.seed ^ mix(batch)).wrapping_add(index))
    }

    /// How many records, the bounds of their values, and whether it is a single append.
    fn shape(&self, batch: u64) -> (u64, u64, u64, bool) {
        let drawn = self.number(batch, 0);
        let size = drawn >> 32;
        match drawn % 100 {
            0..35 => (1, 0, 300, true),
            35..40 => (1, 0, 300, false),
            40..75 => (2 + size % 19, 0, 300, false),
            75..90 => (1 + size % 8, 0, 8192, false),
            // More than a segment.
            90..98 => (5 + size % 8, 16_384, 32_768, false),
            // More than a frame.
            _ => (200 + size % 61, 16_384, 32_768, false),
        }
    }

    fn batch(&self, batch: u64) -> Batch {
        let (count, len_min, len_max, solo) = self.shape(batch);
        let records = (0..count).map(|index| {
            let drawn = self.number(batch, index + 1);
            let len = len_min + drawn % (len_max - len_min + 1);
            let begin = usize::try_from((drawn >> 32) % (POOL_LEN - len + 1)).unwrap();
            let end = begin + usize::try_from(len).unwrap();
            let key = format!("{batch}/{index}/{count}");
            (key.into_bytes(), self.pool[begin..end].to_vec())
        });
        Batch {
            solo,
            records: records.collect(),
        }
    }

    fn action(&self, batch: u64) -> Action {
        match self.number(batch, 1 << 32) % 24 {
            0 => Action::Sync,
            1 => Action::Checkpoint,
            2 => Action::Truncate(6),
            3 => Action::Truncate(1),
            _ => Action::Nothing,
        }
    }
}

/// Number of the batch that a record with this key belongs to.
fn batch_of(key: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(key).ok()?;
    text.split('/').next()?.parse().ok()
}

// ---- the writers ---------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Writer {
    C,
    Python,
    Rust,
}

const WRITERS: [Writer; 3] = [Writer::C, Writer::Python, Writer::Rust];
/// The last two with mapped appends, the others without.
const MODES: [&str; 5] = [
    "every",
    "interval",
    "manual",
    "mapped-interval",
    "mapped-manual",
];

/// The programs built from C.
struct Programs {
    kill_writer: PathBuf,
    dump_log: PathBuf,
}

impl Programs {
    fn build(directory: &Path) -> Programs {
        let kill_writer = directory.join("kill_writer");
        let source = common::root().join("tests/c/kill_writer.c");
        common::compile_c(&[&source], &kill_writer);
        Programs {
            kill_writer,
            dump_log: process::build_dump_c(directory),
        }
    }
}

impl Writer {
    fn command(
        self,
        programs: &Programs,
        log: &Path,
        seed: u64,
        mode: &str,
        stop_after: u64,
    ) -> Command {
        let mut command = match self {
            Writer::C => Command::new(&programs.kill_writer),
            Writer::Python => python("kill_writer.py"),
            Writer::Rust => {
                let role = format!("{seed} {mode} {stop_after} {}", log.display());
                return process::again("writer_in_rust", &role);
            }
        };
        command.arg(log).arg(seed.to_string()).arg(mode);
        command.arg(stop_after.to_string());
        command
    }
}

/// Not a test: the writer in Rust, run by the tests below in a process of its own. Says what
/// `tests/c/kill_writer.c` says.
#[test]
#[ignore = "a writer for the other tests"]
fn writer_in_rust() {
    let Some(role) = process::role() else { return };
    let words: Vec<&str> = role.splitn(4, ' ').collect();
    let [seed, mode, stop_after, path] = words[..] else {
        panic!("{role}")
    };
    let contents = Contents::new(seed.parse().unwrap());
    let stop_after: u64 = stop_after.parse().unwrap();
    let options = WalOptions {
        sync_mode: match mode {
            "every" => SyncMode::Every,
            "interval" | "mapped-interval" => SyncMode::Interval {
                batches: 20,
                millis: 5,
            },
            _ => SyncMode::Manual,
        },
        mapped_appends: mode.starts_with("mapped"),
        segment_bytes_max: 65_536,
        ..WalOptions::default()
    };
    process::report("S");
    let wal = Wal::open(path, &options).unwrap_or_else(|error| {
        process::report(&format!("E open: {error}"));
        panic!("{error}")
    });
    if let Err(error) = write_batches(&wal, &contents, stop_after) {
        process::report(&format!("E {error}"));
    }
}

fn write_batches(wal: &Wal, contents: &Contents, stop_after: u64) -> duralog::Result<()> {
    let mut last = 0;
    let mut seqs = BTreeMap::new();
    let mut cursor = wal.cursor(0)?;
    while let Some(entry) = cursor.next()? {
        last = batch_of(entry.key).unwrap();
        let solo = contents.shape(last).3;
        seqs.insert(last, entry.seq + u64::from(!solo));
    }
    process::report(&format!("O {last}"));
    let mut done = 0;
    while stop_after == 0 || done < stop_after {
        done += 1;
        last += 1;
        let batch = contents.batch(last);
        let records: Vec<Record<'_>> = batch
            .records
            .iter()
            .map(|(key, value)| Record::put(key, value))
            .collect();
        let receipt = if batch.solo {
            wal.append(records[0], Durability::AsOpened)?
        } else {
            wal.append_batch(&records, Durability::AsOpened)?
        };
        process::report(&format!("A {last} {}", receipt.seq));
        seqs.insert(last, receipt.seq);
        match contents.action(last) {
            Action::Nothing => {}
            Action::Sync => wal.sync()?,
            Action::Checkpoint => {
                let receipt = wal.checkpoint(last.to_string().as_bytes())?;
                process::report(&format!("C {last} {}", receipt.seq));
            }
            Action::Truncate(before) => {
                let up_to = last.saturating_sub(before);
                if let Some(&seq) = seqs.get(&up_to) {
                    process::report(&format!("T {up_to}"));
                    wal.truncate(seq)?;
                    process::report(&format!("t {up_to}"));
                }
            }
        }
    }
    wal.close()?;
    process::report("X");
    Ok(())
}

// ---- what must be there --------------------------------------------------------------------------

/// What the writers of one log have reported so far, and readers have seen.
#[derive(Clone, Default, Debug)]
struct Expectation {
    /// A writer had the log open: it exists from then on.
    opened: bool,
    /// The last batch that must be there: acknowledged, or seen by a reader.
    last: u64,
    /// What the appends returned.
    seqs: BTreeMap<u64, u64>,
    /// Truncation up to this batch was acknowledged.
    truncated: u64,
    /// Truncation up to this batch was begun.
    truncation_begun: u64,
    /// Batch and number of the newest checkpoint acknowledged, or seen.
    checkpoint: Option<(u64, u64)>,
}

/// What a reader found, as far as it is not determined by what was reported.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    first: u64,
    last: u64,
    checkpoint: Option<(u64, u64)>,
}

impl Expectation {
    /// Takes in what a writer reported. Returns how many batches it had acknowledged.
    fn learn(&mut self, lines: &[String]) -> Result<u64, String> {
        let mut acknowledged = 0;
        for line in lines {
            let (tag, rest) = line.split_at(1);
            let number = |index: usize| -> Result<u64, String> {
                let word = rest.split_whitespace().nth(index);
                word.and_then(|word| word.parse().ok())
                    .ok_or_else(|| format!("not understood: {line}"))
            };
            match tag {
                "S" | "X" => {}
                "O" => {
                    self.opened = true;
                    if number(0)? != self.last {
                        return Err(format!(
                            "the writer found batch {} to be the last, readers had found {}",
                            number(0)?,
                            self.last
                        ));
                    }
                }
                "A" => {
                    acknowledged += 1;
                    self.last += 1;
                    if number(0)? != self.last {
                        return Err(format!("{line}: expected batch {}", self.last));
                    }
                    self.seqs.insert(self.last, number(1)?);
                }
                "C" => self.checkpoint = Some((number(0)?, number(1)?)),
                // One that goes less far than another before changes nothing.
                "T" => self.truncation_begun = self.truncation_begun.max(number(0)?),
                "t" => self.truncated = self.truncated.max(number(0)?),
                _ => return Err(format!("the writer failed: {line}")),
            }
        }
        Ok(acknowledged)
    }

    /// Compares with what a reader found.
    fn check(&self, dump: &Dump, contents: &Contents) -> Result<Seen, String> {
        if let Some(error) = &dump.error {
            return Err(error.clone());
        }
        if !dump.log_exists && self.opened {
            return Err("the log is gone".to_string());
        }
        let mut seen = Seen {
            first: 0,
            last: 0,
            checkpoint: None,
        };
        let mut before: Option<(u64, u64, u64)> = None;
        for records in dump.records.chunk_by(|a, b| a.batch_id == b.batch_id) {
            let batch = self.check_batch(records, contents)?;
            let (first_seq, batch_id) = (records[0].seq, records[0].batch_id);
            if let Some((batch_before, seq_before, id_before)) = before {
                if batch != batch_before + 1 {
                    return Err(format!("batch {batch} follows batch {batch_before}"));
                }
                if batch_id <= id_before {
                    return Err(format!("batch {batch} has id {batch_id} after {id_before}"));
                }
                let checkpoints = first_seq.wrapping_sub(seq_before + 1);
                let most = u64::from(contents.action(batch_before) == Action::Checkpoint);
                if checkpoints > most {
                    return Err(format!(
                        "batch {batch} begins with number {first_seq}, the one before ended with \
                         {seq_before}"
                    ));
                }
            } else {
                seen.first = batch;
            }
            let solo = contents.shape(batch).3;
            let last_seq = records[records.len() - 1].seq + u64::from(!solo);
            match self.seqs.get(&batch) {
                Some(&seq) if seq != last_seq => {
                    return Err(format!(
                        "batch {batch} ends with number {last_seq}, its append returned {seq}"
                    ));
                }
                _ => {}
            }
            before = Some((batch, last_seq, batch_id));
            seen.last = batch;
        }
        if seen.last < self.last {
            return Err(format!(
                "batch {} was acknowledged, the last found is {}",
                self.last, seen.last
            ));
        }
        if seen.last > self.last + 1 {
            return Err(format!(
                "batch {} is there, begun was no other than {}",
                seen.last,
                self.last + 1
            ));
        }
        let first = [self.truncated + 1, self.truncation_begun + 1];
        if seen.last > 0 && !first.contains(&seen.first) {
            return Err(format!(
                "the first batch is {}, expected one of {first:?}",
                seen.first
            ));
        }
        seen.checkpoint = self.check_checkpoint(dump, &seen, contents)?;
        Ok(seen)
    }

    fn check_batch(&self, records: &[FoundRecord], contents: &Contents) -> Result<u64, String> {
        let first = &records[0];
        let batch = batch_of(&first.key)
            .ok_or_else(|| format!("record {} has a key that no writer gave", first.seq))?;
        let expected = contents.batch(batch).records;
        if expected.len() != records.len() {
            return Err(format!(
                "batch {batch} has {} records of {}",
                records.len(),
                expected.len()
            ));
        }
        for ((seq, record), (key, value)) in (first.seq..).zip(records).zip(&expected) {
            let same = record.op == 1 && record.key == *key && record.value == *value;
            if !same || record.seq != seq {
                return Err(format!(
                    "batch {batch}: record {} (expected number {seq}) is not as it was appended",
                    record.seq
                ));
            }
        }
        Ok(batch)
    }

    fn check_checkpoint(
        &self,
        dump: &Dump,
        seen: &Seen,
        contents: &Contents,
    ) -> Result<Option<(u64, u64)>, String> {
        let found = match &dump.checkpoint {
            None => None,
            Some((seq, data)) => {
                let batch = batch_of(data).ok_or("a checkpoint with data that no writer gave")?;
                Some((batch, *seq))
            }
        };
        // What is acknowledged stays, unless a truncation went beyond it.
        let kept = self
            .checkpoint
            .filter(|(batch, _)| seen.first <= batch + 1 || seen.first == 0);
        let begun = contents.action(seen.last) == Action::Checkpoint;
        match found {
            _ if found == kept => Ok(found),
            Some((batch, _)) if batch == seen.last && begun => Ok(found),
            _ => Err(format!(
                "the newest checkpoint (batch, number) is {found:?}, acknowledged was {:?}",
                self.checkpoint
            )),
        }
    }

    /// What readers have seen stays.
    fn settle(&mut self, seen: &Seen) {
        self.last = seen.last;
        self.checkpoint = seen.checkpoint;
        if seen.last > 0 {
            self.truncated = seen.first - 1;
        }
        self.truncation_begun = self.truncated;
        self.seqs = self.seqs.split_off(&(self.truncated + 1));
    }
}

// ---- the tests -----------------------------------------------------------------------------------

/// Moves a log on which a test failed to where it outlives the test.
fn keep(log: &Path) -> PathBuf {
    let name = format!(
        "duralog-kill-{}",
        log.file_name().unwrap().to_string_lossy()
    );
    let kept = std::env::temp_dir().join(name);
    std::fs::rename(log, &kept).map_or(log.to_path_buf(), |()| kept)
}

/// What happened, for the line that is printed.
#[derive(Default)]
struct Tally {
    kills: BTreeMap<(Writer, Reader), u64>,
    rows: BTreeMap<String, u64>,
    kills_in_open: u64,
    acknowledged: u64,
    /// Batches found that had not been acknowledged: the kill fell between commit and report.
    unreported: u64,
    logs: u64,
    clean_closes: u64,
}

struct Lane<'a> {
    programs: &'a Programs,
    random: Random,
    tally: &'a Mutex<Tally>,
}

impl Lane<'_> {
    /// One life of a log, with up to `kills` kills.
    fn live(&mut self, directory: &Path, kills_begun: &AtomicU64, kills_wanted: u64) {
        let seed = self.random.next();
        let contents = Contents::new(seed);
        let log = directory.join(format!("{seed:016x}"));
        let mut expectation = Expectation::default();
        let mut history = String::new();
        let mut kills_here = 0;
        while kills_here < KILLS_PER_LOG {
            let killed = self.random.below(8) != 0;
            let mut writer = WRITERS[usize::try_from(self.random.below(3)).unwrap()];
            if killed {
                let number = kills_begun.fetch_add(1, Ordering::Relaxed);
                if number >= kills_wanted {
                    break;
                }
                // In turn, so that every language has its share of the kills.
                writer = WRITERS[usize::try_from(number % 3).unwrap()];
                kills_here += 1;
            }
            let mode = MODES[usize::try_from(self.random.below(MODES.len() as u64)).unwrap()];
            let in_open = killed && self.random.below(3) == 0;
            let (delay, stop_after) = match (killed, in_open) {
                (false, _) => (0, 1 + self.random.below(20)),
                (true, true) => (self.random.below(8_000), 0),
                (true, false) => (self.random.below(60_000), 0),
            };
            let _ = write!(
                history,
                "\n  {writer:?} {mode}, {}",
                match (killed, in_open) {
                    (false, _) => format!("{stop_after} batches and closed"),
                    (true, true) => format!("killed {delay} us after the open began"),
                    (true, false) => format!("killed {delay} us after the first batch"),
                }
            );
            let mut command = writer.command(self.programs, &log, seed, mode, stop_after);
            let mut child = Reporter::start(&mut command);
            if killed {
                child.wait_for(if in_open { "S" } else { "A" });
                std::thread::sleep(Duration::from_micros(delay));
                child.kill();
            }
            let (status, lines) = child.finish();
            let outcome = if status.success() == killed {
                Err(format!("{writer:?} ended with {status}"))
            } else {
                expectation.learn(&lines).and_then(|acknowledged| {
                    let seen = self.read_by_all(&log, &expectation, &contents, writer, killed)?;
                    Ok((acknowledged, seen))
                })
            };
            let (acknowledged, seen) = outcome.unwrap_or_else(|error| {
                panic!(
                    "{error}\nlog {} of seed {seed}, kept; its life:{history}\nlast reports: {:?}",
                    keep(&log).display(),
                    &lines[lines.len().saturating_sub(5)..]
                )
            });
            let mut tally = self.tally.lock().unwrap();
            tally.acknowledged += acknowledged;
            tally.unreported += seen.last - expectation.last;
            tally.kills_in_open += u64::from(in_open);
            tally.clean_closes += u64::from(!killed);
            expectation.settle(&seen);
        }
        self.tally.lock().unwrap().logs += 1;
        std::fs::remove_dir_all(&log).unwrap();
    }

    /// Every reader finds what must be there, and all find the same.
    fn read_by_all(
        &mut self,
        log: &Path,
        expectation: &Expectation,
        contents: &Contents,
        writer: Writer,
        killed: bool,
    ) -> Result<Seen, String> {
        let mut common: Option<(Seen, Dump)> = None;
        // Begins with another one each time, in case that reading changes something.
        let first = usize::try_from(self.random.below(4)).unwrap();
        for index in first..first + READERS.len() {
            let reader = READERS[index % READERS.len()];
            let dump = reader.dump(log, &self.programs.dump_log);
            let seen = expectation
                .check(&dump, contents)
                .map_err(|error| format!("{reader:?} reads: {error}"))?;
            if let Some(end) = &dump.end {
                let rows: &[&str] = if killed { &["Z", "T"] } else { &["Z"] };
                if !rows.contains(&end.row.as_str()) {
                    return Err(format!("{reader:?} judges: {end:?}"));
                }
            }
            let mut tally = self.tally.lock().unwrap();
            if killed {
                *tally.kills.entry((writer, reader)).or_default() += 1;
            }
            match &mut common {
                None => {
                    let row = dump.end.as_ref().map(|end| end.row.clone());
                    *tally.rows.entry(row.unwrap_or_default()).or_default() += 1;
                    common = Some((seen, dump));
                }
                Some((seen_before, before)) => {
                    if before.end.is_none() {
                        before.end.clone_from(&dump.end);
                    }
                    let same_end = dump.end.is_none() || dump.end == before.end;
                    if seen != *seen_before || dump.records != before.records || !same_end {
                        return Err(format!(
                            "{reader:?} reads {seen:?} {:?}, others {seen_before:?} {:?}",
                            dump.end, before.end
                        ));
                    }
                }
            }
        }
        common
            .map(|(seen, _)| seen)
            .ok_or_else(|| "nobody reads".to_string())
    }
}

#[test]
fn every_acknowledged_batch_of_a_killed_writer_is_read_whole_in_every_language() {
    let kills_wanted = std::env::var("DURALOG_KILLS").map_or(210, |text| text.parse().unwrap());
    let seed = process::seed();
    say(&format!("kill: seed {seed}, {kills_wanted} kills"));
    let begin = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::build(directory.path());
    let tally = Mutex::new(Tally::default());
    let kills_begun = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let mut lane = Lane {
                programs: &programs,
                random: Random::new(seed.wrapping_add(lane)),
                tally: &tally,
            };
            let (directory, kills_begun) = (directory.path(), &kills_begun);
            scope.spawn(move || {
                while kills_begun.load(Ordering::Relaxed) < kills_wanted {
                    lane.live(directory, kills_begun, kills_wanted);
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    let mut kills = 0;
    for writer in WRITERS {
        let mut line = format!("kill: writer {writer:?}:");
        for reader in READERS {
            let count = tally.kills.get(&(writer, reader)).copied().unwrap_or(0);
            assert!(
                count > 0 || kills_wanted < 3,
                "{writer:?} was never read by {reader:?}"
            );
            let _ = write!(line, " {count} read by {reader:?},");
        }
        kills += tally.kills.get(&(writer, Reader::Rust)).unwrap_or(&0);
        say(line.trim_end_matches(','));
    }
    assert!(
        kills >= kills_wanted,
        "{kills} kills of {kills_wanted} wanted"
    );
    say(&format!(
        "kill: {kills} kills ({} while opening) and {} clean closes of {} logs, {} batches \
         acknowledged, {} more committed unreported, rows {:?}, {:.0} s",
        tally.kills_in_open,
        tally.clean_closes,
        tally.logs,
        tally.acknowledged,
        tally.unreported,
        tally.rows,
        begin.elapsed().as_secs_f64()
    ));
}

#[test]
fn a_writer_that_acknowledges_too_early_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::build(directory.path());
    let mut random = Random::new(process::seed());
    for attempt in 0..100 {
        let seed = random.next();
        let log = directory.path().join(format!("lie-{attempt}"));
        let mut command = Writer::C.command(&programs, &log, seed, "every", 0);
        let mut child = Reporter::start(command.env("KILL_WRITER_LIES", "1"));
        child.wait_for("A");
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        child.kill();
        let (_, lines) = child.finish();
        let mut expectation = Expectation::default();
        expectation.learn(&lines).unwrap();
        let dump = Reader::Rust.dump(&log, &programs.dump_log);
        if let Err(error) = expectation.check(&dump, &Contents::new(seed)) {
            assert!(error.contains("was acknowledged"), "{error}");
            say(&format!(
                "kill: a lie was found out after {} kills",
                attempt + 1
            ));
            return;
        }
    }
    panic!("100 kills of a writer that lies, and none was found out");
}

/// Something that a defective log could do to what a reader finds.
type Damage = (&'static str, fn(&mut Dump));

#[test]
fn the_check_sees_every_kind_of_damage() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::build(directory.path());
    // A seed whose first batches are small, with no truncation and one checkpoint among them.
    let seed = (0..)
        .find(|&seed| {
            let contents = Contents::new(seed);
            let count = |wanted: fn(&Action) -> bool| {
                (1..=12)
                    .map(|batch| contents.action(batch))
                    .filter(wanted)
                    .count()
            };
            count(|action| matches!(action, Action::Truncate(_))) == 0
                && count(|action| *action == Action::Checkpoint) == 1
                && contents.shape(12).0 > 1
                && contents.shape(11).0 > 1
        })
        .unwrap();
    let contents = Contents::new(seed);
    let log = directory.path().join("log");
    let mut command = Writer::C.command(&programs, &log, seed, "every", 12);
    let (status, lines) = Reporter::start(&mut command).finish();
    assert!(status.success());
    let mut expectation = Expectation::default();
    assert_eq!(expectation.learn(&lines), Ok(12));
    let good = Reader::C.dump(&log, &programs.dump_log);
    assert_eq!(expectation.check(&good, &contents).unwrap().last, 12);
    let damages: [Damage; 10] = [
        ("the last record is missing", |dump| {
            dump.records.pop();
        }),
        ("the last batch is missing", |dump| {
            let last = dump.records.last().unwrap().batch_id;
            dump.records.retain(|record| record.batch_id != last);
        }),
        ("the first batch is missing", |dump| {
            let first = dump.records[0].batch_id;
            dump.records.retain(|record| record.batch_id != first);
        }),
        ("a batch in the middle is missing", |dump| {
            let middle = dump.records[dump.records.len() / 2].batch_id;
            dump.records.retain(|record| record.batch_id != middle);
        }),
        ("the last batch is there twice", |dump| {
            let mut last = dump.records.last().unwrap().clone();
            last.batch_id += 1;
            dump.records.push(last);
        }),
        ("a byte is another", |dump| {
            let record = dump.records.iter_mut().rev().find(|r| !r.value.is_empty());
            record.unwrap().value[0] ^= 1;
        }),
        ("two records are exchanged", |dump| {
            let len = dump.records.len();
            dump.records.swap(len - 1, len - 2);
        }),
        ("an op is another", |dump| dump.records[0].op = 2),
        ("numbers are shifted", |dump| {
            dump.records.iter_mut().for_each(|record| record.seq += 1);
        }),
        ("the checkpoint is gone", |dump| dump.checkpoint = None),
    ];
    for (what, damage) in damages {
        let mut dump = good.clone();
        damage(&mut dump);
        assert!(expectation.check(&dump, &contents).is_err(), "{what}");
    }
    assert!(expectation.check(&Dump::default(), &contents).is_err());
}
