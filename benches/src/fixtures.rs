//! What is made before the rounds begin, once, and read or appended to in all of them.

use crate::c_face::Mode;
use crate::catalog::Fixture;
use crate::event_work;
use crate::log_work::small_log;
use crate::payload::Payload;
use crate::python;
use crate::scale::{Scale, RECORD_LEN};
use crate::system;
use crate::writers::{self, Places, Writer, RAW_FILES};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Stdio;

/// Bytes that a fixture takes at most, about.
pub fn space(fixture: Fixture, scale: Scale) -> u64 {
    let records = scale.replay_records;
    match fixture {
        Fixture::Raw => raw_len(scale) + 2 * RAW_SMALL_LEN,
        Fixture::Log100 => records * 900,
        Fixture::Log1 => records * 340,
        Fixture::SmallLogs => scale.small_logs * (400 << 10),
        Fixture::Events => scale.events * 900,
        Fixture::EventsRecorder => scale.events * 450,
        Fixture::EventsAppend => scale.events * 1600,
    }
}

/// Length of the files for small durable writes, at most: more than any row writes.
const RAW_SMALL_LEN: u64 = 64 << 20;

fn raw_len(scale: Scale) -> u64 {
    (scale.mib_batches << 20).max(scale.replay_records * RECORD_LEN as u64)
}

pub fn make(fixture: Fixture, dir: &Path, scale: Scale) -> io::Result<()> {
    match fixture {
        Fixture::Raw => {
            let payload = Payload::new();
            for (name, piece) in RAW_FILES {
                let mut file = File::create(dir.join(name))?;
                let len = match name {
                    "raw" => raw_len(scale),
                    _ => raw_len(scale).min(RAW_SMALL_LEN),
                };
                for index in 0..len.div_ceil(piece as u64) {
                    file.write_all(payload.records(index, 1, piece))?;
                }
                file.sync_all()?;
            }
        }
        Fixture::Log100 => {
            for (contender, count) in [("duralog", 100), ("ndjson", 1000), ("sqlite", 10_000)] {
                fill_log(contender, dir, scale, count);
            }
            fs::rename(dir.join("log"), dir.join("log-100"))?;
        }
        Fixture::Log1 => {
            fill_log("duralog", dir, scale, 1);
            fs::rename(dir.join("log"), dir.join("log-1"))?;
            // The others are the same, whether they were written in batches or not.
            for (contender, name, count) in
                [("ndjson", "log.ndjson", 1000), ("sqlite", "log.db", 10_000)]
            {
                if !dir.join(name).exists() {
                    fill_log(contender, dir, scale, count);
                }
            }
        }
        Fixture::SmallLogs => {
            let payload = Payload::new();
            for number in 0..scale.small_logs {
                let work = &small_log(dir, number);
                fs::create_dir_all(work)?;
                for contender in ["duralog", "ndjson", "sqlite"] {
                    let fixtures = dir;
                    let mut writer =
                        writers::open(contender, Places { work, fixtures }, Mode::Manual);
                    writer.write(payload.records(number, 1, RECORD_LEN), RECORD_LEN);
                    writer.close();
                }
            }
        }
        Fixture::EventsRecorder => {
            let mut fill = python::peer("fill-events", "eventsourcing", dir, dir, scale);
            let output = fill.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
            // Where the package is missing, the rows that are beside it say so.
            if !output.status.success() && output.status.code() != Some(python::SKIPPED) {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(io::Error::other(format!("{}\n{said}", output.status)));
            }
        }
        Fixture::Events | Fixture::EventsAppend => {
            let name = match fixture {
                Fixture::Events => "events",
                _ => "events-append",
            };
            let dir = dir.join(name);
            fs::create_dir_all(&dir)?;
            for contender in ["duralog", "sqlite"] {
                event_work::fill_fixture(contender, &dir, scale.events);
            }
        }
    }
    system::settle();
    Ok(())
}

/// Brings the bytes of a fixture into memory: what nobody uses for some seconds is not left there by every machine.
pub fn warm(fixture: Fixture, dir: &Path) -> io::Result<()> {
    let raw = RAW_FILES.map(|(name, _)| name);
    let names: &[&str] = match fixture {
        Fixture::Raw => &raw,
        Fixture::Log100 => &["log-100", "log.ndjson", "log.db"],
        Fixture::Log1 => &["log-1", "log.ndjson", "log.db"],
        Fixture::SmallLogs => &["small"],
        Fixture::Events | Fixture::EventsRecorder => &["events"],
        Fixture::EventsAppend => &["events-append"],
    };
    let mut piece = vec![0; 1 << 20];
    let mut names = names.iter();
    names.try_for_each(|name| read_all(&dir.join(name), &mut piece))
}

/// Reads a file, or all files in a directory.
fn read_all(path: &Path, piece: &mut [u8]) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() {
        return fs::read_dir(path)?.try_for_each(|entry| read_all(&entry?.path(), piece));
    }
    let mut file = File::open(path)?;
    while file.read(piece)? > 0 {}
    Ok(())
}

fn fill_log(contender: &str, dir: &Path, scale: Scale, count: u64) {
    let payload = Payload::new();
    let places = Places {
        work: dir,
        fixtures: dir,
    };
    let mut writer: Box<dyn Writer> = writers::open(contender, places, Mode::Manual);
    let mut written = 0;
    while written < scale.replay_records {
        let count = count.min(scale.replay_records - written);
        writer.write(
            payload.records(written, count as usize, RECORD_LEN),
            RECORD_LEN,
        );
        written += count;
    }
    writer.close();
    let found = writers::count(contender, places);
    assert_eq!(found, Some(scale.replay_records), "records found in it");
}
