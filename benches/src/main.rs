//! Measures Duralog beside the raw limit, NDJSON and SQLite, and prints one table. README.md beside
//! `src/` says what each row means and how it is measured.
//!
//! This process only directs: each measurement is a process of its own, so that its memory can be
//! seen and nothing of one contender is left over for the next. In every round all contenders of a
//! workload have their turn, each round beginning with another one.

mod c_face;
mod catalog;
mod event_work;
mod fixtures;
mod group;
mod log_work;
mod meter;
mod payload;
mod python;
mod scale;
mod system;
mod table;
mod writers;

use c_face::Mode;
use catalog::{Fixture, Workload, WORKLOADS};
use log_work::{Appending, Replay};
use meter::Measured;
use scale::Scale;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use writers::Places;

const USAGE: &str = "\
usage: duralog-bench [--only NAME[,NAME...]] [--rounds N] [--events N] [--dir DIR] [--json] [--smoke] [--list]
  --only    workloads or rows whose names begin with NAME
  --rounds  rounds per workload (7)
  --events  events in the event store (1000000)
  --dir     where files are put, and removed again (target/bench)
  --json    JSON instead of the table
  --smoke   everything once and tiny, to see that it runs
  --list    names of the workloads, and what they do";

struct Options {
    only: Vec<String>,
    rounds: usize,
    events: u64,
    dir: PathBuf,
    json: bool,
    smoke: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            only: Vec::new(),
            rounds: 0,
            events: 1_000_000,
            dir: PathBuf::from("target/bench"),
            json: false,
            smoke: false,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            let number = |text: String| {
                let number = text.parse::<u64>().ok().filter(|&number| number > 0);
                number.ok_or(format!("{text:?} is not a number above 0"))
            };
            match arg.as_str() {
                "--only" => options.only.extend(value()?.split(',').map(str::to_owned)),
                "--rounds" => options.rounds = number(value()?)? as usize,
                "--events" => options.events = number(value()?)?,
                "--dir" => options.dir = PathBuf::from(value()?),
                "--json" => options.json = true,
                "--smoke" => options.smoke = true,
                other => return Err(format!("{other:?} is not an option")),
            }
        }
        if options.rounds == 0 {
            options.rounds = if options.smoke { 1 } else { 7 };
        }
        let streams = scale::streams_of(options.events);
        if options.events % streams != 0 || streams < scale::RARE_EVENTS {
            return Err("--events: a multiple of 100, and 10000 at least".to_owned());
        }
        Ok(options)
    }

    fn scale(&self) -> Scale {
        if self.smoke {
            Scale::smoke()
        } else {
            Scale::full(self.events)
        }
    }

    fn wants(&self, workload: &Workload) -> bool {
        let names = || std::iter::once(workload.name).chain(workload.rows.iter().map(|r| r.name));
        self.only.is_empty()
            || self
                .only
                .iter()
                .any(|only| names().any(|name| name.starts_with(only.as_str())))
    }
}

/// A directory of ours, gone when this is.
struct Directory(PathBuf);

impl Directory {
    /// Empty, whatever was in it.
    fn new(path: PathBuf) -> std::io::Result<Directory> {
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn main() -> ExitCode {
    system::allow_many_files();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--child") {
        child(&args);
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        for workload in WORKLOADS {
            println!("{:18} {}", workload.name, workload.what);
        }
        return ExitCode::SUCCESS;
    }
    let done = Options::parse(args.into_iter())
        .map_err(|error| format!("{error}\n{USAGE}"))
        .and_then(|options| direct(&options));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duralog-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn direct(options: &Options) -> Result<(), String> {
    let began = Instant::now();
    let scale = options.scale();
    let workloads: Vec<_> = WORKLOADS.iter().filter(|w| options.wants(w)).collect();
    if workloads.is_empty() {
        return Err("--only names no workload; --list shows them".to_owned());
    }
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| format!("{what}: {error}")
    };
    fs::create_dir_all(&options.dir).map_err(failed("the directory"))?;
    let dir = options
        .dir
        .canonicalize()
        .map_err(failed("the directory"))?;
    let dir = Directory::new(dir.join("duralog-bench")).map_err(failed("the directory"))?;
    let fixtures = Directory::new(dir.0.join("fixtures")).map_err(failed("the directory"))?;
    check_space(&workloads, scale, &dir.0)?;

    let mut made: Vec<Fixture> = Vec::new();
    let mut results = Vec::new();
    for workload in workloads {
        for &fixture in workload.fixtures {
            if !made.contains(&fixture) {
                eprint!("making {fixture:?} ...");
                let began = Instant::now();
                fixtures::make(fixture, &fixtures.0, scale).map_err(failed("a fixture"))?;
                eprintln!(" {:.1} s", began.elapsed().as_secs_f64());
                made.push(fixture);
            }
        }
        let quiet = Quiet::now();
        let measured = rounds(workload, options, &dir.0, &fixtures.0)?;
        let others = quiet.others();
        eprintln!(" ({:.1} s)", quiet.began.elapsed().as_secs_f64());
        results.extend(table::results_of(workload, &measured, others));
    }
    let about = about(options, began.elapsed());
    if options.json {
        print!("{}", table::json(&results, &about));
    } else {
        print!("{}", table::table(&results, &about));
    }
    Ok(())
}

/// How much of the machine others use meanwhile. On a busy machine a thread that was woken by the
/// disk waits for its turn, which may take as long as many syncs.
struct Quiet {
    began: Instant,
    all: f64,
    own: f64,
}

impl Quiet {
    fn now() -> Quiet {
        let (all, own) = system::processor_seconds();
        Quiet {
            began: Instant::now(),
            all,
            own,
        }
    }

    /// Percent of all processors.
    fn others(&self) -> f64 {
        let (all, own) = system::processor_seconds();
        let others = (all - self.all) - (own - self.own);
        let there = self.began.elapsed().as_secs_f64() * processors() as f64;
        (100.0 * others / there).clamp(0.0, 100.0)
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn check_space(workloads: &[&Workload], scale: Scale, dir: &Path) -> Result<(), String> {
    let mut needed: Vec<Fixture> = Vec::new();
    for workload in workloads {
        let new = workload.fixtures.iter();
        let new: Vec<_> = new.filter(|fixture| !needed.contains(fixture)).collect();
        needed.extend(new);
    }
    let fixtures: u64 = needed.iter().map(|&f| fixtures::space(f, scale)).sum();
    // Beside them: the greatest log of a round, and what SQLite keeps twice for a while.
    let round = (scale.mib_batches << 20) * 3 + scale.bulk_events * 800;
    let needed = fixtures + round;
    let left = system::space_left(dir).map_err(|error| format!("the space left: {error}"))?;
    if left < needed {
        return Err(format!(
            "{} MiB are needed in {}, {} MiB are left; --dir names another place",
            needed >> 20,
            dir.display(),
            left >> 20
        ));
    }
    Ok(())
}

/// All rounds of a workload, the contenders one after the other in each.
fn rounds(
    workload: &'static Workload,
    options: &Options,
    dir: &Path,
    fixtures: &Path,
) -> Result<Vec<table::OfContender>, String> {
    eprint!("{}:", workload.name);
    let of = |&contender: &&'static str| (contender, Vec::new());
    let mut measured: Vec<table::OfContender> = workload.contenders.iter().map(of).collect();
    let mut skipped: Vec<&str> = Vec::new();
    for round in 0..options.rounds {
        eprint!(" {}", round + 1);
        let count = measured.len();
        for turn in 0..count {
            let (contender, figures) = &mut measured[(round + turn) % count];
            if skipped.contains(contender) {
                continue;
            }
            let work = Directory::new(dir.join("work")).map_err(|error| error.to_string())?;
            system::settle();
            for &fixture in workload.fixtures {
                fixtures::warm(fixture, fixtures).map_err(|error| error.to_string())?;
            }
            match measure(workload, contender, &work.0, fixtures, options)? {
                Some(figure) => figures.push(figure),
                None => skipped.push(contender),
            }
        }
    }
    Ok(measured)
}

/// One contender, once; `None` if something that it needs is not there.
fn measure(
    workload: &Workload,
    contender: &str,
    work: &Path,
    fixtures: &Path,
    options: &Options,
) -> Result<Option<Vec<(String, f64)>>, String> {
    let name = workload.name;
    let mut command = if workload.python {
        python::peer(name, contender, work, fixtures, options.scale())
    } else {
        let mut command = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
        command
            .args(["--child", name, contender])
            .args([work, fixtures]);
        command.args(["--events", &options.events.to_string()]);
        if options.smoke {
            command.arg("--smoke");
        }
        command
    };
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("{name}, {contender}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(python::SKIPPED) {
        eprint!(" [{contender} skipped: {}]", said.trim());
        return Ok(None);
    }
    if !output.status.success() {
        return Err(format!("{name}, {contender}: {}\n{said}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    let figures: Option<Vec<_>> = text.lines().map(figure).collect();
    let figures = figures.filter(|figures| !figures.is_empty());
    let unclear = || format!("{name}, {contender}: it said {text:?}");
    Ok(Some(figures.ok_or_else(unclear)?))
}

fn about(options: &Options, took: Duration) -> Vec<(&'static str, String)> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    vec![
        ("duralog", c_face::library_version()),
        ("sqlite", rusqlite::version().to_owned()),
        ("processors", processors().to_string()),
        ("kernel", kernel.trim().to_owned()),
        ("rounds", options.rounds.to_string()),
        ("events", options.scale().events.to_string()),
        ("smoke", options.smoke.to_string()),
        ("seconds", format!("{:.0}", took.as_secs_f64())),
    ]
}

/// One measurement: `--child WORKLOAD CONTENDER WORK FIXTURES [--events N] [--smoke]`.
fn child(args: &[String]) {
    let [_, workload, contender, work, fixtures, rest @ ..] = args else {
        panic!("--child is for this program itself");
    };
    let options = Options::parse(rest.iter().cloned()).expect("options of this program");
    let scale = options.scale();
    let places = Places {
        work: Path::new(work),
        fixtures: Path::new(fixtures),
    };
    let name = contender.as_str();
    // SQLite and NDJSON are slow where they are slow by nature: a tenth tells as much.
    let manual = match name {
        "sqlite" => scale.manual_records / 10,
        _ => scale.manual_records,
    };
    let hundreds = scale.manual_records / 100;
    let mut out = Measured::default();
    let it = &mut out;
    let group = Duration::from_millis(scale.group_ms);
    let append = |what, it: &mut Measured| log_work::append(name, places, what, it);
    let together = |threads, mode, it: &mut Measured| {
        log_work::append_together(name, places, threads, mode, group, it);
    };
    let replay =
        |what, it: &mut Measured| log_work::replay(name, places, what, scale.replay_records, it);
    match workload.as_str() {
        "log-append" => append(Appending::singles(scale.appends, Mode::Durable), it),
        "log-batch-100" => append(Appending::hundreds(scale.batches, Mode::Durable), it),
        "log-batch-100-recycled" => append(
            Appending::hundreds(scale.batches, Mode::Durable).recycled(scale.recycled_bytes),
            it,
        ),
        "log-mib-new" => append(Appending::mebibytes(scale.mib_batches), it),
        "log-mib-recycled" => append(
            Appending::mebibytes(scale.mib_batches).recycled(scale.recycled_bytes),
            it,
        ),
        "log-group-16" => together(16, Mode::Durable, it),
        "log-group-64" => together(64, Mode::Durable, it),
        "log-flights-16" => together(16, Mode::Flights, it),
        "log-flights-64" => together(64, Mode::Flights, it),
        "log-async" => log_work::append_later(name, places, scale.async_records(name), it),
        "log-manual-1" => append(Appending::singles(manual, Mode::Mapped), it),
        "log-manual-100" => append(Appending::hundreds(hundreds, Mode::Mapped), it),
        "log-manual-plain-1" => append(Appending::singles(manual, Mode::Manual), it),
        "log-manual-plain-100" => append(Appending::hundreds(hundreds, Mode::Manual), it),
        "log-manual-short-1" => append(Appending::singles(manual, Mode::MappedShort), it),
        "log-buffered" => append(Appending::singles(manual, Mode::Buffered), it),
        "log-replay-100" => replay(("log-100", Replay::Read), it),
        "log-replay-1" => replay(("log-1", Replay::Read), it),
        "log-replay-mapped" => replay(("log-100", Replay::Mapped), it),
        "log-disk-ten" => log_work::ten(name, places, it),
        "log-open-clean" => log_work::open_clean(name, places, scale.replay_records, it),
        "log-open-killed" => log_work::open_killed(name, places, scale.replay_records, it),
        "fill-log" => log_work::fill(name, places, scale),
        "log-small" => log_work::many(name, places, scale.small_logs, it),
        "es-bulk" => event_work::bulk(name, places, scale.bulk_events, it),
        "es-scan" => event_work::scan(name, places, scale, false, it),
        "es-scan-mapped" => event_work::scan(name, places, scale, true, it),
        "es-stream-100" => event_work::read_streams(name, places, scale, false, it),
        "es-stream-100-mapped" => event_work::read_streams(name, places, scale, true, it),
        "es-rare" => event_work::rare(name, places, scale, it),
        "es-refused" => event_work::refused(name, places, scale, it),
        "es-open-clean" => event_work::reopen(name, places, scale, false, it),
        "es-open-killed" => event_work::reopen(name, places, scale, true, it),
        "fill-events" => event_work::fill(name, places, scale),
        "es-append" => event_work::append(name, places, scale, true, it),
        "es-append-manual" => event_work::append(name, places, scale, false, it),
        other => panic!("no workload {other:?}"),
    }
    out.print();
    let _ = std::io::stdout().flush();
}
