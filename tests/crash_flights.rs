//! With several groups in flight, too, every acknowledged batch survives, and nothing is delivered
//! beyond a hole.
//!
//! As in `tests/crash_points.rs` a log runs on the simulated disk, and each state that a power cut or
//! the death of the process may leave is opened and compared with a model. What is new here are the
//! states: groups are on their way to the disk together, so a later one may be there when an earlier
//! one is not, which is a *hole*. Such images are counted, and must be there in number, or these
//! tests show nothing. Each of them must be judged torn, never corrupt, and end before the hole.
//!
//! Flights overlap in three ways: a group is appended, written and back while the one before is
//! being written (that is arranged, and the same in each run); threads append while writes take
//! their time; and both at random, between rotations, checkpoints, truncations, reopening and
//! crashes.
//!
//! `DURALOG_SEED` chooses another run, `DURALOG_CRASH_IMAGES` a longer one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/crash_explorer.rs"]
mod crash_explorer;
#[path = "common/crash_run.rs"]
mod crash_run;
#[path = "common/differential.rs"]
mod differential;
#[path = "common/model.rs"]
mod model;
#[path = "common/overtaking.rs"]
mod overtaking;

use crash_explorer::{images_wanted, seed, Explorer, Plan, INTERVAL};
use crash_run::{options, Op, Run};
use duralog::vfs::sim::Rng;
use duralog::{SyncMode, WalOptions};

fn in_flight(groups: u32) -> WalOptions {
    WalOptions {
        groups_in_flight_max: groups,
        ..options(SyncMode::Every)
    }
}

/// States of a moment that are looked at, if there are many.
const SAMPLES: u64 = 16;

fn explore(explorer: &mut Explorer, run: &Run, from: usize) {
    for (plan, samples) in [
        (Plan::power(from), SAMPLES),
        (Plan::process(from), SAMPLES / 4),
    ] {
        let plan = Plan {
            samples: Some(samples),
            recoveries: Some(400),
            ..plan
        };
        explorer.explore(run, plan);
    }
}

/// What comes before the bar brings the log to where groups take off; what comes behind it is
/// looked at.
const SCRIPTS: [(&str, &str); 19] = [
    ("the first groups of a log", "|Poo"),
    ("flights of one block", "P|o"),
    ("flights of several blocks", "P|O"),
    ("flights behind flights", "PoO|oO"),
    ("an append that flies alone", "Po|ao"),
    ("a batch of several frames between", "Po|lo"),
    ("rotation between", "Po|fo"),
    ("rotation between flights that fill a segment", "Pf|oOof"),
    ("a checkpoint between", "Po|co"),
    (
        "space that was prepared ahead, and is not durable",
        "Ph|pooOp",
    ),
    ("a prepared file for the next segment", "Phfp|op"),
    ("a mark between", "Po|mo"),
    ("a sync between", "Po|so"),
    ("truncation inside a segment", "Poo|to"),
    ("truncation of segments", "PofOfo|to"),
    ("truncation of everything, and closing", "Poco|uro"),
    ("closing and going on", "Po|rPo"),
    ("the death of the process", "Po|kPo"),
    ("the death of the process behind a rotation", "Pofpo|kako"),
];

#[test]
fn every_step_between_flights_survives() {
    let mut explorer = Explorer::new("every_step_between_flights_survives", seed());
    let mut overtook = 0;
    for (groups, sector_len) in [(2, 4096), (4, 512)] {
        for (_, script) in SCRIPTS {
            let (before, steps) = script.split_once('|').unwrap();
            let mut run = Run::with(seed(), sector_len, in_flight(groups));
            run.apply_all(&Op::parse(before));
            let from = run.model.steps.len();
            run.apply_all(&Op::parse(steps));
            overtook += run.overtook;
            explore(&mut explorer, &run, from);
        }
    }
    explorer.report(5_000);
    assert!(explorer.holes > 100, "{} holes", explorer.holes);
    assert!(overtook > 50, "{overtook} groups overtook another");
}

/// A log that was written without flights has recycled segments, with old bytes behind their end,
/// and ends where it likes.
#[test]
fn a_log_goes_on_with_and_without_flights() {
    let mut explorer = Explorer::new("a_log_goes_on_with_and_without_flights", seed());
    for (sector_len, without, with) in [(4096, "ab", "Po"), (512, "faft", "Po")] {
        let mut run = Run::with(seed(), sector_len, in_flight(1));
        run.apply_all(&Op::parse(without));
        for groups in [4, 1, 2] {
            let from = run.model.steps.len();
            run.options = in_flight(groups);
            run.apply(Op::Reopen);
            run.apply_all(&Op::parse(if groups == 1 { "bPa" } else { with }));
            explore(&mut explorer, &run, from);
        }
    }
    explorer.report(500);
    assert!(explorer.holes > 10, "{} holes", explorer.holes);
}

/// Where nothing is durable when it is acknowledged, nothing flies: a flight would promise what was
/// written before it.
#[test]
fn nothing_flies_in_lazy_modes() {
    let mut explorer = Explorer::new("nothing_flies_in_lazy_modes", seed());
    for mode in [SyncMode::Manual, INTERVAL] {
        let options = WalOptions {
            sync_mode: mode,
            ..in_flight(4)
        };
        let mut run = Run::with(seed(), 512, options);
        run.apply_all(&Op::parse("aPooPo"));
        explore(&mut explorer, &run, 1);
    }
    explorer.report(100);
}

#[test]
fn flights_of_many_threads_survive() {
    let mut explorer = Explorer::new("flights_of_many_threads_survive", seed());
    for round in 0..4 {
        let groups = if round % 2 == 0 { 4 } else { 2 };
        let sector_len = if round < 2 { 512 } else { 4096 };
        let mut run = Run::with(seed() + round, sector_len, in_flight(groups));
        run.append_in_threads(6, 6);
        explore(&mut explorer, &run, 1);
    }
    explorer.report(500);
    assert!(explorer.holes > 10, "{} holes", explorer.holes);
}

#[test]
fn long_workloads_with_flights_and_crashes_between_survive() {
    let name = "long_workloads_with_flights_and_crashes_between_survive";
    let mut explorer = Explorer::new(name, seed());
    let wanted = images_wanted() / 50;
    for seed in seed().. {
        if explorer.checked >= wanted {
            break;
        }
        explorer.reseed(seed);
        let mut rng = Rng::new(seed);
        let groups = [2, 3, 4, 14][usize::try_from(rng.below(4)).unwrap()];
        let sector_len = if rng.percent(50) { 4096 } else { 512 };
        let mut run = Run::with(seed, sector_len, in_flight(groups));
        for generation in 0..3 {
            run.apply_all(&workload(&mut rng, 10));
            explore(&mut explorer, &run, 0);
            if generation < 2 {
                let (image, model, history) = explorer.crash_somewhere(&run);
                let seed = rng.next_u64();
                run = Run::resume(&image, model, &run.options, sector_len, seed, history);
            }
        }
    }
    explorer.report(wanted);
    assert!(explorer.holes > wanted / 200, "{} holes", explorer.holes);
}

/// Random operations, of all kinds, flights most of all.
fn workload(rng: &mut Rng, len: usize) -> Vec<Op> {
    let letters = b"PPPPooooOOablwffhppctumsrk";
    let mut pick = || letters[usize::try_from(rng.below(letters.len() as u64)).unwrap()];
    let text: String = (0..len).map(|_| char::from(pick())).collect();
    Op::parse(&text)
}
