//! Cuts a run at every moment that matters, lays out what the cut may leave, and checks each image.
//!
//! The moments: for a power cut just before each sync returns, and the end; between two of these
//! the possible states and the acknowledgements only grow (`SimDisk::crash_moments`). For the death
//! of the process: inside each operation (`SimDisk::every_moment`).
//!
//! The states of a moment: every one if there are at most 12 open choices (sectors, sizes, names),
//! else the telling ones and seeded random ones, 504 in all; each with the unwritten space full of
//! zeros, stale bytes and random bytes. An image that was seen with the same expectation is checked
//! once. (Lock file and tail page do not count for that: after a power cut they say nothing.)
//!
//! A sample of the images is also read by the pure-Python reader (`common/differential.rs`), and of
//! some of these what recovery makes of them.
//!
//! A failing state is shrunk to what must be lost for it to fail, and printed with the command that
//! brings it back.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use crate::crash_run::{Run, LOG};
use crate::differential::{in_sample, one_in, Images};
use crate::model::{Batch, Expectation, Found, Model};
use duralog::format::checksum::crc32;
use duralog::vfs::sim::{CrashState, CrashStates, Fill, Image, Moment, Rng, SimDisk};
use duralog::{
    Durability, ErrorKind, OpenHow, Record, RecoveryReport, SyncMode, Verdict, Wal, WalOptions,
};
use std::collections::hash_map::DefaultHasher;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Up to so many open choices all states are tried.
const WHOLE_CHOICES_MAX: u64 = 12;
/// Otherwise so many.
const SAMPLES: u64 = 504;
/// What stands in space that was never written.
const FILLS: [Fill; 3] = [Fill::Zero, Fill::Stale, Fill::Random];

/// The seed of this run: `DURALOG_SEED`, else always the same.
pub(crate) fn seed() -> u64 {
    number("DURALOG_SEED").unwrap_or(1)
}

/// How many images the whole run should check at least: `DURALOG_CRASH_IMAGES`, else what CI does.
pub(crate) fn images_wanted() -> u64 {
    number("DURALOG_CRASH_IMAGES").unwrap_or(200_000)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(error) => panic!("{variable}={text}: {error}"),
    }
}

/// What is done with an image beyond opening it and comparing what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Depth {
    /// Nothing.
    Open,
    /// Reads it without recovery, verifies, appends, closes, verifies, opens again.
    Full,
}

/// What an image led to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Outcome {
    pub(crate) found: Found,
    /// What kind of recovery it was: equal kinds took the same paths.
    pub(crate) kind: (&'static str, bool, bool, u64, i32),
}

fn verify(disk: &SimDisk) -> duralog::Result<RecoveryReport> {
    Wal::verify_on(disk, LOG, &mut |_, _| true)
}

/// Opens an image and checks everything that is promised.
pub(crate) fn check(
    image: &Image,
    model: &Model,
    expected: &Expectation,
    options: &WalOptions,
    depth: Depth,
) -> Result<Outcome, String> {
    let disk = SimDisk::from_image(image, 99);
    let look = Arc::new(disk.clone());
    let before = match verify(&disk) {
        Ok(report) => {
            if !matches!(report.verdict, Verdict::CleanEnd | Verdict::Torn) {
                return Err(format!("verify before opening: {report:?}"));
            }
            Some(report)
        }
        Err(error) if error.kind() == ErrorKind::NotFound && !expected.exists => None,
        Err(error) => return Err(format!("verify before opening: {error}")),
    };
    if depth == Depth::Full && before.is_some() {
        let reading = WalOptions {
            how: OpenHow::ReadOnly,
            ..options.clone()
        };
        let wal = Wal::open_on(look.clone(), LOG, &reading)
            .map_err(|error| format!("opening for reading: {error}"))?;
        model
            .compare(&wal, &wal.recovery_report(), expected)
            .map_err(|what| format!("reading without recovery: {what}"))?;
    }
    if disk.operation_count() > 0 {
        return Err("reading wrote something".to_owned());
    }
    let wal =
        Wal::open_on(look.clone(), LOG, options).map_err(|error| format!("opening: {error}"))?;
    let report = wal.recovery_report();
    let found = model.compare(&wal, &report, expected)?;
    if let Some(before) = &before {
        if (before.verdict, before.next_seq, before.end_lsn)
            != (report.verdict, report.next_seq, report.end_lsn)
        {
            return Err(format!("verify said {before:?}, opening {report:?}"));
        }
    }
    let outcome = Outcome {
        kind: (
            report.row,
            report.repaired,
            report.rescued_bytes > 0,
            report.last_segment,
            report.control as i32,
        ),
        found,
    };
    if depth == Depth::Full {
        go_on(&disk, wal, model, expected, options, &outcome.found)?;
    }
    Ok(outcome)
}

/// Appends to a log that was recovered, closes it, and finds it all again.
fn go_on(
    disk: &SimDisk,
    wal: Wal,
    model: &Model,
    expected: &Expectation,
    options: &WalOptions,
    found: &Found,
) -> Result<(), String> {
    let record = Record::put(b"after", b"recovery");
    let receipt = wal
        .append(record, Durability::Durable)
        .map_err(|error| format!("appending after recovery: {error}"))?;
    if receipt.first_seq != model.next_seq(found.batches) {
        return Err(format!(
            "the record after recovery has number {}",
            receipt.first_seq
        ));
    }
    model.is_new(receipt.batch_id, expected.most)?;
    wal.close()
        .map_err(|error| format!("closing after recovery: {error}"))?;
    drop(wal);
    let report = verify(disk).map_err(|error| format!("verify after closing: {error}"))?;
    if (report.row, report.next_seq) != ("Z", receipt.seq + 1) {
        return Err(format!("verify after closing: {report:?}"));
    }
    let wal = Wal::open_on(Arc::new(disk.clone()), LOG, options)
        .map_err(|error| format!("opening a second time: {error}"))?;
    if wal.recovery_report().repaired {
        return Err("a clean end was repaired".to_owned());
    }
    let mut longer = Model {
        batches: model.batches[..found.batches].to_vec(),
        ..Model::default()
    };
    longer.batches.push(Batch {
        id: receipt.batch_id,
        first_seq: receipt.first_seq,
        seq: receipt.seq,
        records: vec![(1, b"after".to_vec(), b"recovery".to_vec())],
        checkpoint: None,
    });
    let all = Expectation {
        exists: true,
        least: longer.batches.len(),
        most: longer.batches.len(),
        truncated: vec![found.truncated],
    };
    longer
        .compare(&wal, &wal.recovery_report(), &all)
        .map(|_| ())
        .map_err(|what| format!("after the second opening: {what}"))
}

/// Which death.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Death {
    Power,
    Process,
}

/// See the module.
pub(crate) struct Explorer {
    test: &'static str,
    seed: u64,
    seen: HashSet<u64>,
    /// Images laid out, those seen before included.
    laid_out: u64,
    /// Distinct images checked.
    pub(crate) checked: u64,
    recoveries: u64,
    /// Images with a batch that stands there whole, behind one that does not.
    pub(crate) holes: u64,
    moments: u64,
    /// Moments of which not every state was tried.
    sampled: u64,
    began: Instant,
    /// Kinds of recovery that were killed at each of their operations.
    kinds: HashSet<u64>,
    rng: Rng,
    /// What Python is to read.
    images: Images,
}

/// How much of a run is looked at, and how closely.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Only moments at which this step was issued.
    pub(crate) from_step: usize,
    pub(crate) death: Death,
    pub(crate) depth: Depth,
    /// States of one moment at most, if they can't all be tried; `None` for what the module says.
    pub(crate) samples: Option<u64>,
    /// Recoveries of images are killed too: one of each kind, and one of so many others.
    pub(crate) recoveries: Option<u64>,
}

impl Plan {
    pub(crate) fn power(from_step: usize) -> Plan {
        Plan {
            from_step,
            death: Death::Power,
            depth: Depth::Full,
            samples: None,
            recoveries: Some(1000),
        }
    }

    pub(crate) fn process(from_step: usize) -> Plan {
        Plan {
            death: Death::Process,
            ..Plan::power(from_step)
        }
    }
}

impl Explorer {
    pub(crate) fn new(test: &'static str, seed: u64) -> Explorer {
        Explorer {
            test,
            seed,
            seen: HashSet::new(),
            laid_out: 0,
            checked: 0,
            recoveries: 0,
            holes: 0,
            moments: 0,
            sampled: 0,
            began: Instant::now(),
            kinds: HashSet::new(),
            rng: Rng::new(seed),
            images: Images::new(),
        }
    }

    /// Goes on with another seed, whose images have nothing in common with those before.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.seed = seed;
        self.rng = Rng::new(seed);
        self.seen.clear();
        self.kinds.clear();
    }

    /// One state that a power cut at some moment may leave, and what was found in it.
    pub(crate) fn crash_somewhere(&mut self, run: &Run) -> (Image, Model, String) {
        let moments = run.disk.crash_moments();
        let place = usize::try_from(self.rng.below(moments.len() as u64)).unwrap();
        let moment = &moments[place];
        let issued = run.disk.issued(moment.at).len();
        let acknowledged = run.disk.acknowledged(moment.at);
        let expected = run
            .model
            .expect(issued, |step| acknowledged.contains(&(2 * step as u64 + 1)));
        let states = CrashStates::new(&run.disk, moment.at, FILLS[place % FILLS.len()]);
        let state = states.sampled(self.rng.next_u64(), 1).next().unwrap();
        let image = state.image();
        let plan = Plan::power(0);
        match self.examine(&image, run, &expected, plan.depth) {
            Ok(outcome) => {
                let how = format!("power dies at operation {}", moment.operation);
                let model = run.model.resume(&expected, &outcome.found);
                (image, model, run.crashed(&how))
            }
            Err(what) => self.fail(run, plan, moment, Fill::Zero, &expected, &state, &what),
        }
    }

    /// Cuts `run` everywhere.
    pub(crate) fn explore(&mut self, run: &Run, plan: Plan) {
        let moments = match plan.death {
            Death::Power => run.disk.crash_moments(),
            Death::Process => run.disk.every_moment(),
        };
        for moment in moments {
            let issued = run.disk.issued(moment.at).len();
            if issued <= plan.from_step {
                continue;
            }
            let acknowledged = run.disk.acknowledged(moment.at);
            let kind = u64::from(plan.death == Death::Power);
            let expected = run.model.expect(issued, |step| {
                acknowledged.contains(&(2 * step as u64 + kind))
            });
            self.moments += 1;
            self.explore_moment(run, plan, &moment, &expected);
        }
    }

    /// Cuts `run` where it ended.
    pub(crate) fn explore_end(&mut self, run: &Run, plan: Plan) {
        let moments = run.disk.crash_moments();
        if let Some(end) = moments.last() {
            let expected = run.model.expect(0, |_| false);
            self.moments += 1;
            self.explore_moment(run, plan, end, &expected);
        }
    }

    fn explore_moment(&mut self, run: &Run, plan: Plan, moment: &Moment, expected: &Expectation) {
        let fills: &[Fill] = match plan.death {
            Death::Power => &FILLS,
            Death::Process => &FILLS[..1],
        };
        for &fill in fills {
            let states = match plan.death {
                Death::Power => CrashStates::new(&run.disk, moment.at, fill),
                Death::Process => CrashStates::killed(&run.disk, moment.at),
            };
            let budget = match plan.samples {
                Some(samples) => samples,
                None if states.open_choice_count() <= WHOLE_CHOICES_MAX => u64::MAX,
                None => SAMPLES / FILLS.len() as u64,
            };
            self.sampled += u64::from(states.state_count() > budget);
            let draw = self.rng.next_u64();
            for state in states.states(draw, budget) {
                self.laid_out += 1;
                let image = state.image();
                let identity = identity(&image, expected);
                if !self.seen.insert(identity) {
                    continue;
                }
                self.checked += 1;
                match self.examine(&image, run, expected, plan.depth) {
                    Ok(outcome) => {
                        self.holes += u64::from(has_hole(&image, run, expected, &outcome));
                        if in_sample(identity, 1) {
                            let whole = identity % (4 * one_in()) == 0;
                            self.compare(&image, run, plan, moment, whole);
                        }
                        self.kill_recovery(run, plan, moment, expected, &state, &outcome)
                    }
                    Err(what) => self.fail(run, plan, moment, fill, expected, &state, &what),
                }
            }
        }
    }

    fn examine(
        &self,
        image: &Image,
        run: &Run,
        expected: &Expectation,
        depth: Depth,
    ) -> Result<Outcome, String> {
        let checked = catch_unwind(AssertUnwindSafe(|| {
            check(image, &run.model, expected, &run.options, depth)
        }));
        checked.unwrap_or_else(|_| Err("PANIC".to_owned()))
    }

    /// Lets Python read the image as the death left it; if `whole`, also as its recovery leaves it,
    /// when it was appended to, and when it was closed.
    fn compare(&mut self, image: &Image, run: &Run, plan: Plan, moment: &Moment, whole: bool) {
        let (death, operation) = (plan.death, moment.operation);
        let history = format!("{}; {death:?} dies at operation {operation}", run.history);
        self.images.add(image, LOG, &history);
        if !whole {
            return;
        }
        let disk = SimDisk::from_image(image, 99);
        let wal = Wal::open_on(Arc::new(disk.clone()), LOG, &run.options).unwrap();
        let recovered = format!("{history}; recovered");
        self.images.add(&disk.image(), LOG, &recovered);
        let record = Record::put(b"after", b"recovery");
        wal.append(record, Durability::Durable).unwrap();
        // Only the tail page promises that record yet.
        let appended = format!("{recovered}, appended to");
        self.images.add(&disk.image(), LOG, &appended);
        wal.close().unwrap();
        let closed = format!("{appended}, closed");
        self.images.add(&disk.image(), LOG, &closed);
    }

    /// Recovery of an image is a run of its own, which is cut like any other and must always come
    /// to the same records.
    fn kill_recovery(
        &mut self,
        run: &Run,
        plan: Plan,
        moment: &Moment,
        expected: &Expectation,
        state: &CrashState<'_>,
        outcome: &Outcome,
    ) {
        let Some(one_of) = plan.recoveries else {
            return;
        };
        let mut hasher = DefaultHasher::new();
        (&run.history, expected, &outcome).hash(&mut hasher);
        if !self.kinds.insert(hasher.finish()) && self.rng.below(one_of) != 0 {
            return;
        }
        self.recoveries += 1;
        let model = run.model.resume(expected, &outcome.found);
        let how = format!("{:?} dies at operation {}", plan.death, moment.operation);
        let recovery = Run::resume(
            &state.image(),
            model,
            &run.options,
            512,
            self.rng.next_u64(),
            run.crashed(&how),
        );
        for death in [Death::Power, Death::Process] {
            self.explore(
                &recovery,
                Plan {
                    from_step: 0,
                    death,
                    depth: Depth::Open,
                    samples: Some(16),
                    recoveries: None,
                },
            );
        }
    }

    fn fail(
        &self,
        run: &Run,
        plan: Plan,
        moment: &Moment,
        fill: Fill,
        expected: &Expectation,
        state: &CrashState<'_>,
        what: &str,
    ) -> ! {
        let smallest =
            state.shrink(|image| self.examine(image, run, expected, plan.depth).is_err());
        let still = self.examine(&smallest.image(), run, expected, plan.depth);
        panic!(
            "{what}\n\
             history: {}\n\
             {:?} dies in operation {}, {}; unwritten space: {fill:?}\n\
             expected: {expected:?}\n\
             smallest state that fails ({}):\n{}\
             again: DURALOG_SEED={} cargo test --test {} {}\n",
            run.history,
            plan.death,
            moment.operation,
            moment.why,
            still.err().unwrap_or_default(),
            smallest.describe(),
            self.seed,
            env!("CARGO_CRATE_NAME"),
            self.test,
        );
    }

    /// Tells what was done, in CI too, where the output of tests that pass is not shown; and that
    /// it was not less than it should be.
    pub(crate) fn report(&mut self, least: u64) {
        let compared = self.images.finish() as u64;
        let elapsed = self.began.elapsed().max(Duration::from_millis(1));
        let _ = writeln!(
            std::io::stderr(),
            "{}: {} distinct images ({} laid out) of {} moments ({} sampled), {} with a hole, {} \
             recoveries cut again, {compared} compared with Python; {:.1} s, {:.0} images/s; \
             DURALOG_SEED={}",
            self.test,
            self.checked,
            self.laid_out,
            self.moments,
            self.sampled,
            self.holes,
            self.recoveries,
            elapsed.as_secs_f64(),
            self.checked as f64 / elapsed.as_secs_f64(),
            seed(),
        );
        assert!(
            self.checked >= least,
            "{} images, not {least}",
            self.checked
        );
        assert!(
            compared >= self.checked / (2 * one_in()),
            "{compared} images compared with Python"
        );
    }
}

/// Whether a batch that is not in the log stands in the image whole: one before it does not.
fn has_hole(image: &Image, run: &Run, expected: &Expectation, outcome: &Outcome) -> bool {
    if run.options.groups_in_flight_max == 1 || outcome.kind.0 != "T" {
        return false;
    }
    let number = |bytes: &[u8], at: usize, len: usize| {
        let mut number = [0; 8];
        number[..len].copy_from_slice(&bytes[at..at + len]);
        u64::from_le_bytes(number)
    };
    // Names of fields and their places: FORMAT.md sections 4 and 5.
    let whole = |segment: &[u8], id: u64| -> Option<bool> {
        let base_lsn = number(segment.get(..128)?, 56, 8);
        let at = usize::try_from(id.checked_sub(base_lsn)?).ok()? + 4096;
        let frame = segment.get(at..)?;
        let header = frame.get(..64)?;
        let payload_len = usize::try_from(number(header, 8, 4)).ok()?;
        let payload = frame.get(64..64 + payload_len)?;
        let intact = number(header, 0, 4) == u64::from(crc32(&header[4..]))
            && number(header, 4, 4) == u64::from(crc32(payload))
            && number(header, 24, 8) == id;
        Some(intact && header[13] & 2 != 0)
    };
    let segments: Vec<Vec<u8>> = image
        .paths()
        .iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "wal"))
        .filter_map(|path| image.read(path))
        .collect();
    let missing = &run.model.batches[outcome.found.batches..expected.most];
    missing.iter().any(|batch| {
        let mut places = segments.iter().filter_map(|bytes| whole(bytes, batch.id.0));
        places.any(|intact| intact)
    })
}

/// Images with equal files and equal expectations are one.
fn identity(image: &Image, expected: &Expectation) -> u64 {
    let mut told = image.clone();
    told.remove(format!("{LOG}/LOCK"));
    told.remove(format!("{LOG}/tail"));
    let mut hasher = DefaultHasher::new();
    (told.hash(), expected).hash(&mut hasher);
    hasher.finish()
}

/// A sync mode that syncs by itself after two batches.
pub(crate) const INTERVAL: SyncMode = SyncMode::Interval {
    batches: 2,
    millis: 60_000,
};
