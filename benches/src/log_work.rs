//! The workloads of the log. Each runs in a process of its own, for one contender, once.

use crate::c_face::{Log, Mode};
use crate::group;
use crate::meter::{Latencies, Measured, Meter};
use crate::payload::Payload;
use crate::scale::{Scale, MIB_RECORDS, MIB_RECORD_LEN, RECORD_LEN};
use crate::system;
use crate::writers::{self, Places, Writer};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Space is given back, where it is, after so many bytes.
const FORGET_EVERY: u64 = 128 << 20;

/// Of appends that are not durable, one of so many is timed: two looks at the clock take as long as a
/// fifth of one.
const UNSYNCED_TIMED_EVERY: u64 = 16;

/// One thread that appends.
#[derive(Clone, Copy)]
pub struct Appending {
    pub writes: u64,
    /// Records in each.
    pub count: usize,
    pub len: usize,
    pub mode: Mode,
    /// Old records are given up again and again, and so many bytes were written before.
    pub recycled: Option<u64>,
}

impl Appending {
    pub fn singles(writes: u64, mode: Mode) -> Appending {
        Appending {
            writes,
            count: 1,
            len: RECORD_LEN,
            mode,
            recycled: None,
        }
    }

    pub fn hundreds(writes: u64, mode: Mode) -> Appending {
        Appending {
            count: 100,
            ..Appending::singles(writes, mode)
        }
    }

    pub fn mebibytes(writes: u64) -> Appending {
        Appending {
            count: MIB_RECORDS,
            len: MIB_RECORD_LEN,
            ..Appending::singles(writes, Mode::Durable)
        }
    }

    /// The same in a log that gives up its records, and did so before.
    pub fn recycled(self, bytes_before: u64) -> Appending {
        Appending {
            recycled: Some(bytes_before),
            ..self
        }
    }

    /// Bytes of one batch.
    fn batch_len(&self) -> u64 {
        (self.count * self.len) as u64
    }
}

pub fn append(contender: &str, places: Places<'_>, what: Appending, out: &mut Measured) {
    let Appending {
        writes, count, len, ..
    } = what;
    let payload = Payload::new();
    let mut latencies = Latencies::with_capacity(writes as usize);
    let mut meter = Meter::new();
    let mut writer = writers::open(contender, places, what.mode);
    let mut live = 0;
    let forget_every = FORGET_EVERY / what.batch_len();
    let write = |writer: &mut dyn Writer, index: u64, live: &mut u64| {
        writer.write(payload.records(index, count, len), len);
        *live += count as u64;
        if what.recycled.is_some() && (index + 1) % forget_every == 0 {
            writer.forget();
            *live = 0;
        }
    };
    for index in 0..what.recycled.unwrap_or(0) / what.batch_len() {
        write(writer.as_mut(), index, &mut live);
    }
    let timed_every = if what.mode.is_durable() {
        1
    } else {
        UNSYNCED_TIMED_EVERY
    };
    meter.begin();
    for index in 0..writes {
        if index % timed_every == 0 {
            latencies.time(|| write(writer.as_mut(), index, &mut live));
        } else {
            write(writer.as_mut(), index, &mut live);
        }
    }
    meter.end();
    meter.tell_memory(out);
    writer.close();

    let records = writes * count as u64;
    out.set("writes_per_s", writes as f64 / meter.seconds());
    out.set("records_per_s", records as f64 / meter.seconds());
    let bytes = (records * len as u64) as f64;
    out.set("mb_per_s", bytes / 1e6 / meter.seconds());
    latencies.tell(out);
    meter.tell_writes(records, out);
    if let Some(found) = writers::count(contender, places) {
        assert_eq!(found, live, "records found after reopening, and written");
    }
}

/// Batches of one record that one thread has under way at once.
const UNDER_WAY: u64 = 256;

/// One thread that appends records durably: one after the other (`wal`), or many on their way.
pub fn append_later(contender: &str, places: Places<'_>, writes: u64, out: &mut Measured) {
    let payload = Payload::new();
    let mut meter = Meter::new();
    let log = Log::open(&places.work.join("log"), Mode::Durable);
    meter.begin();
    for index in 0..writes {
        let record = payload.records(index, 1, RECORD_LEN);
        if contender == "wal" {
            log.append(record);
            continue;
        }
        let ticket = log.append_later(record);
        if ticket > UNDER_WAY {
            log.wait_for(ticket - UNDER_WAY);
        }
    }
    if contender != "wal" {
        log.wait_for(writes);
    }
    meter.end();
    meter.tell_memory(out);
    log.close();
    out.set("writes_per_s", writes as f64 / meter.seconds());
    meter.tell_writes(writes, out);
    let found = writers::count("duralog", places);
    assert_eq!(found, Some(writes), "records found after reopening");
}

/// Threads that each append one record after the other.
pub fn append_together(
    contender: &str,
    places: Places<'_>,
    threads: usize,
    mode: Mode,
    duration: Duration,
    out: &mut Measured,
) {
    let payload = Payload::new();
    let empty = || Latencies::with_capacity(1 << 14);
    let each: Vec<Latencies> = std::iter::repeat_with(empty).take(threads).collect();
    let mut meter = Meter::new();
    let log = group::open(contender, places, mode);
    let barrier = Barrier::new(threads + 1);
    let thread = |number: usize, mut latencies: Latencies| {
        let mut index = number as u64 * 1_000_003;
        barrier.wait();
        let began = Instant::now();
        while began.elapsed() < duration {
            let record = payload.records(index, 1, RECORD_LEN);
            latencies.time(|| log.append(record));
            index += 1;
        }
        latencies
    };
    let each: Vec<Latencies> = std::thread::scope(|scope| {
        let (thread, each) = (&thread, each.into_iter().enumerate());
        let handles: Vec<_> = each
            .map(|(number, latencies)| scope.spawn(move || thread(number, latencies)))
            .collect();
        barrier.wait();
        meter.begin();
        let each = handles.into_iter().map(|handle| handle.join());
        let each = each.collect::<Result<_, _>>().expect("no thread fails");
        meter.end();
        each
    });
    meter.tell_memory(out);
    // A write that is durable when it returns is no call that is counted where syncs are.
    let durable_writes = match mode {
        Mode::Flights => log.durable_writes(),
        _ => None,
    };
    log.close();

    let shares: Vec<u64> = each.iter().map(|one| one.len() as u64).collect();
    let total: u64 = shares.iter().sum();
    let least = shares.iter().min().copied().unwrap_or(0).max(1);
    let most = shares.iter().max().copied().unwrap_or(0);
    out.set("share", most as f64 / least as f64);
    out.set("writes_per_s", total as f64 / meter.seconds());
    meter.tell_writes(total, out);
    if let Some(writes) = durable_writes {
        out.set("syncs", writes as f64 / total.max(1) as f64);
    }
    let mut all = Latencies::default();
    for one in each {
        all.append(one);
    }
    all.tell(out);
    if let Some(found) = writers::count(contender, places) {
        assert_eq!(found, total, "records found after reopening, and written");
    }
}

/// One word of each cache line, so that what is delivered has truly arrived.
pub fn touch(sum: &mut u64, value: &[u8]) {
    for line in value.chunks(64) {
        *sum = sum.wrapping_add(u64::from(line[0]));
    }
}

/// How a log is replayed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// As by default.
    Read,
    /// Sealed segments looked at in place.
    Mapped,
}

/// Everything read from the beginning, from the page cache.
pub fn replay(
    contender: &str,
    places: Places<'_>,
    (log, how): (&str, Replay),
    records: u64,
    out: &mut Measured,
) {
    let at = |name: &str| places.fixtures.join(name);
    let len = records * RECORD_LEN as u64;
    let mut sum = 0;
    let mut meter = Meter::new();
    meter.begin();
    let mut each = |value: &[u8]| touch(&mut sum, value);
    let found = match contender {
        "raw" if how == Replay::Mapped => writers::mapped_replay(&at("raw"), len, &mut each),
        "raw" => writers::raw_replay(&at("raw"), len, &mut each),
        "duralog" => {
            let log = Log::open(&at(log), Mode::ReadOnly);
            let count = log.replay(how == Replay::Mapped, &mut each);
            log.close();
            count
        }
        "ndjson" => writers::ndjson_replay(&at("log.ndjson"), &mut each),
        "sqlite" => writers::sqlite_replay(&at("log.db"), &mut each),
        other => panic!("no contender {other:?} here"),
    };
    meter.end();
    std::hint::black_box(sum);
    assert_eq!(found, records, "records read");
    meter.tell_memory(out);
    out.set("mb_per_s", len as f64 / 1e6 / meter.seconds());
    out.set("records_per_s", records as f64 / meter.seconds());
    let disk = match contender {
        "duralog" => system::disk_bytes(&at(log)),
        "ndjson" => system::disk_bytes(&at("log.ndjson")),
        "sqlite" => system::disk_bytes(&at("log.db")),
        _ => return,
    };
    out.set("disk", disk as f64 / records as f64);
}

/// Opening a log that is there, for writing.
pub fn open_clean(contender: &str, places: Places<'_>, records: u64, out: &mut Measured) {
    let at = |name: &str| places.fixtures.join(name);
    time_open(contender, &at("log-100"), &at("log.db"), records, out);
}

/// The same after a writer was killed that had filled it.
pub fn open_killed(contender: &str, places: Places<'_>, records: u64, out: &mut Measured) {
    let fixtures = if contender == "sqlite" {
        // Filling it takes long, and what a kill leaves to do is in its own log alone.
        places.fixtures
    } else {
        places.work
    };
    let added = fill_and_kill("fill-log", contender, fixtures, fixtures);
    let expected = if contender == "sqlite" {
        u64::MAX
    } else {
        added
    };
    assert!(contender == "sqlite" || added == records, "all was written");
    let (log, db) = (fixtures.join("log"), fixtures.join("log.db"));
    time_open(contender, &log, &db, expected, out);
}

/// `records`: found in it; `u64::MAX`: whatever is there.
fn time_open(contender: &str, log: &Path, db: &Path, records: u64, out: &mut Measured) {
    let mut meter = Meter::new();
    let found = match contender {
        "duralog" => {
            meter.begin();
            let log = Log::open(log, Mode::Durable);
            meter.end();
            meter.tell_memory(out);
            let found = log.replay(false, |_| {});
            log.close();
            found
        }
        "sqlite" => {
            meter.begin();
            let db = writers::sqlite_open(db, true);
            // SQLite recovers when it is first asked something.
            let last = "SELECT max(seq) FROM log";
            let found: u64 = db.query_row(last, [], |row| row.get(0)).expect("select");
            meter.end();
            meter.tell_memory(out);
            found
        }
        other => panic!("no contender {other:?} here"),
    };
    assert!(
        records == u64::MAX || found == records,
        "{found} records found, {records} written"
    );
    out.set("ms", meter.seconds() * 1e3);
}

/// Starts this program to fill a log or store, and kills it when it says that all is acknowledged.
/// Returns what it says it has written.
pub fn fill_and_kill(work: &str, contender: &str, places: &Path, fixtures: &Path) -> u64 {
    let mut command = Command::new(std::env::current_exe().expect("a program knows its file"));
    let mut args: Vec<_> = std::env::args().skip(1).collect();
    args[1] = work.to_owned();
    args[2] = contender.to_owned();
    args[3] = places.display().to_string();
    args[4] = fixtures.display().to_string();
    command.args(args).stdout(Stdio::piped());
    let mut child = command.spawn().expect("this program starts again");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    let read = BufReader::new(stdout).read_line(&mut line);
    // SIGKILL: nothing of the child runs after this.
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    read.expect("its words can be read");
    let written = line.trim().strip_prefix("ready ").map(str::parse);
    match written {
        Some(Ok(written)) => written,
        _ => panic!("the writer said {line:?}"),
    }
}

/// What [`fill_and_kill`] starts: durable batches of 1 MiB, made of small records.
pub fn fill(contender: &str, places: Places<'_>, scale: Scale) -> ! {
    let payload = Payload::new();
    let mut writer = writers::open(contender, places, Mode::Durable);
    let batch = 4096.min(scale.replay_records);
    let writes = match contender {
        "sqlite" => 8,
        _ => scale.replay_records.div_ceil(batch),
    };
    let mut written = 0;
    for index in 0..writes {
        let count = match contender {
            "sqlite" => 100,
            _ => batch.min(scale.replay_records - written),
        };
        let bytes = payload.records(index, count as usize, RECORD_LEN);
        writer.write(bytes, RECORD_LEN);
        written += count;
    }
    wait_for_death(written)
}

/// Says what was written, and neither closes nor ends.
pub fn wait_for_death(written: u64) -> ! {
    println!("ready {written}");
    loop {
        std::thread::park();
    }
}

/// A log of ten records.
pub fn ten(contender: &str, places: Places<'_>, out: &mut Measured) {
    let payload = Payload::new();
    let mut writer = writers::open(contender, places, Mode::Durable);
    for index in 0..10 {
        writer.write(payload.records(index, 1, RECORD_LEN), RECORD_LEN);
    }
    writer.close();
    // Seen before it is opened again.
    out.set("disk", system::disk_bytes(places.work) as f64 / 1024.0);
    let found = writers::count(contender, places);
    assert_eq!(found, Some(10), "records found after reopening");
}

/// Many logs open at once, each appended to once.
pub fn many(contender: &str, places: Places<'_>, count: u64, out: &mut Measured) {
    let payload = Payload::new();
    let (files, threads) = (system::open_file_count(), system::thread_count());
    let mut meter = Meter::new();
    let mut writers = Vec::new();
    let dirs: Vec<_> = (0..count)
        .map(|number| small_log(places.fixtures, number))
        .collect();
    meter.begin();
    for dir in &dirs {
        let places = Places {
            work: dir,
            fixtures: places.fixtures,
        };
        let mut writer = writers::open(contender, places, Mode::Durable);
        writer.write(payload.records(0, 1, RECORD_LEN), RECORD_LEN);
        writers.push(writer);
    }
    meter.end();
    let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / count as f64;
    meter.tell_memory(out);
    out.set("us", meter.seconds() * 1e6 / count as f64);
    out.set("files", each(system::open_file_count(), files));
    out.set("threads", (system::thread_count() - threads) as f64);
    for writer in writers {
        writer.close();
    }
}

pub fn small_log(fixtures: &Path, number: u64) -> std::path::PathBuf {
    fixtures.join("small").join(number.to_string())
}
