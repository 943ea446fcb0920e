//! Whatever a power cut or the death of the process leaves, every acknowledged batch is there, and
//! nothing that should not be.
//!
//! The engine runs on the simulated disk (`duralog::vfs::sim`), which knows every state that a death
//! at any moment may leave. Each image is opened like any log and compared with a model of what was
//! asked and answered up to that moment. What is checked of an image:
//!
//! * it opens: never CORRUPT, and reading it beforehand finds the same and writes nothing;
//! * replay gives whole batches, in order, with dense numbers: all that were acknowledged as durable,
//!   perhaps some that were issued, no other; nothing that was truncated; the newest checkpoint;
//! * every batch ever asked for is settled as there or absent, and no id is given twice;
//! * appending goes on, and closing and opening again gives the same;
//! * recovery may itself be cut at each of its own operations, and comes to the same records;
//! * the pure-Python reader finds the same, in a sample of the images and of what recovery makes of
//!   them.
//!
//! `DURALOG_SEED` chooses another run, `DURALOG_CRASH_IMAGES` a longer one:
//!
//! ```text
//! DURALOG_SEED=7 DURALOG_CRASH_IMAGES=5000000 cargo test --release --test crash_points
//! ```

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

use crash_explorer::{images_wanted, seed, Depth, Explorer, Plan, INTERVAL};
use crash_run::{options, Op, Run};
use duralog::vfs::sim::Rng;
use duralog::{SyncMode, WalOptions};

// What each test checks at least; together what CI asks for, and more.
const SHORT: u64 = 90_000;
const SHORT_LAZY: u64 = 190_000;
const SHORT_MAPPED: u64 = 50_000;
const STEPS: u64 = 35_000;
const PREPARED: u64 = 60_000;
const THREADS: u64 = 500;

/// Every history of up to `len` operations, each explored from its last operation on: what lies
/// before was explored with the shorter history, whose disk is the same. Of short ones the recovery
/// of every image is cut again, of those with `len` operations the recovery of one of each kind.
fn histories(explorer: &mut Explorer, options: &WalOptions, letters: &str, len: usize) {
    let alphabet = Op::parse(letters);
    let mut layer: Vec<Vec<Op>> = vec![Vec::new()];
    for depth in 0..=len {
        let mut next = Vec::new();
        for ops in layer {
            let mut run = Run::with(seed(), 512, options.clone());
            let from = match ops.split_last() {
                None => 0,
                Some((&last, before)) => {
                    run.apply_all(before);
                    let from = run.model.steps.len();
                    run.apply(last);
                    from
                }
            };
            for plan in [Plan::power(from), Plan::process(from)] {
                let recoveries = Some(if depth < 2 { 1 } else { 50 });
                explorer.explore(&run, Plan { recoveries, ..plan });
            }
            next.extend(alphabet.iter().map(|&op| [&ops[..], &[op]].concat()));
        }
        layer = next;
    }
}

#[test]
fn every_history_of_three_operations_survives() {
    let mut explorer = Explorer::new("every_history_of_three_operations_survives", seed());
    histories(&mut explorer, &options(SyncMode::Every), "ablfctmr", 3);
    explorer.report(SHORT);
}

#[test]
fn every_history_of_three_operations_survives_in_lazy_modes() {
    let name = "every_history_of_three_operations_survives_in_lazy_modes";
    let mut explorer = Explorer::new(name, seed());
    histories(&mut explorer, &options(SyncMode::Manual), "adlfskr", 3);
    histories(&mut explorer, &options(INTERVAL), "alfcr", 3);
    explorer.report(SHORT_LAZY);
}

/// The same options, with mapped appends.
fn mapped(sync_mode: SyncMode) -> WalOptions {
    WalOptions {
        mapped_appends: true,
        ..options(sync_mode)
    }
}

#[test]
fn every_history_survives_with_mapped_appends() {
    let name = "every_history_survives_with_mapped_appends";
    let mut explorer = Explorer::new(name, seed());
    histories(&mut explorer, &mapped(SyncMode::Manual), "adfks", 2);
    histories(&mut explorer, &mapped(SyncMode::Manual), "lphw", 2);
    histories(&mut explorer, &mapped(INTERVAL), "afc", 2);
    // Windows over rotation, recycling, reopening and recovery. What comes before the bar has been tried.
    for script in ["ff|ak", "faft|fab", "f|paa", "ab|kaf", "afr|afa"] {
        let (before, steps) = script.split_once('|').unwrap();
        let mut run = Run::with(seed(), 512, mapped(SyncMode::Manual));
        run.apply_all(&Op::parse(before));
        let from = run.model.steps.len();
        run.apply_all(&Op::parse(steps));
        explorer.explore(&run, Plan::power(from));
        explorer.explore(&run, Plan::process(from));
    }
    explorer.report(SHORT_MAPPED);
}

/// What comes before the bar has been tried elsewhere; what comes behind it is tried whole.
const STEPS_TRIED_WHOLE: [(&str, &str); 29] = [
    ("rotation by a single append", "f|a"),
    ("rotation by a batch", "f|b"),
    ("rotation by a batch of several frames", "af|l"),
    ("rotation by a checkpoint", "f|c"),
    ("rotation from a segment that was continued", "afr|a"),
    ("rotation twice", "fa|ff"),
    ("a second checkpoint", "ac|c"),
    ("a checkpoint in another segment", "acf|c"),
    ("truncation inside a segment", "abab|t"),
    ("truncation of a segment", "faf|t"),
    ("truncation of three segments, and closing", "fafafab|tr"),
    ("truncation of everything, and closing", "fcfa|ur"),
    ("recycling of a file, and appending there", "faft|fab"),
    ("recycling of two files", "faffaft|ffa"),
    ("recycling by a batch of several frames", "ffft|fl"),
    ("closing a recycled file, and going on in it", "faft|brar"),
    ("closing with nothing", "|rr"),
    ("recovery from the cache of a dead process", "ab|ka"),
    ("the same behind a rotation", "falb|kab"),
    ("the same twice in a row", "a|kkf"),
    ("the same with a checkpoint", "ac|kcr"),
    ("blocks prepared ahead, and appending there", "h|paf"),
    (
        "a file prepared for the next segment, and rotation into it",
        "f|paa",
    ),
    ("the same by a batch of several frames", "f|pl"),
    ("a prepared file that is not needed, and closing", "af|prp"),
    ("the same, and the process dies", "af|pka"),
    ("a recycled file beside a prepared one", "fapf|tpfaf"),
    ("a record in several pieces", "a|ga"),
    ("the same in a recycled file", "faft|fga"),
];

#[test]
fn rotation_checkpoint_truncation_and_recycling_survive() {
    let name = "rotation_checkpoint_truncation_and_recycling_survive";
    let mut explorer = Explorer::new(name, seed());
    for sector_len in [512, 64] {
        for mode in [SyncMode::Every, SyncMode::Manual] {
            for (_, script) in STEPS_TRIED_WHOLE {
                let (before, steps) = script.split_once('|').unwrap();
                let mut run = Run::new(seed(), sector_len, mode);
                run.apply_all(&Op::parse(before));
                let from = run.model.steps.len();
                run.apply_all(&Op::parse(steps));
                explorer.explore(&run, Plan::power(from));
                explorer.explore(&run, Plan::process(from));
            }
        }
    }
    explorer.report(STEPS);
}

#[test]
fn what_is_prepared_ahead_survives() {
    let mut explorer = Explorer::new("what_is_prepared_ahead_survives", seed());
    histories(&mut explorer, &options(SyncMode::Every), "phfat", 3);
    explorer.report(PREPARED);
}

#[test]
fn long_workloads_with_crashes_between_survive() {
    let name = "long_workloads_with_crashes_between_survive";
    let mut explorer = Explorer::new(name, seed());
    let wanted = images_wanted()
        .saturating_sub(SHORT + SHORT_LAZY + SHORT_MAPPED + STEPS + PREPARED + THREADS);
    let wanted = wanted.max(20_000);
    for seed in seed().. {
        if explorer.checked >= wanted {
            break;
        }
        explorer.reseed(seed);
        let mut rng = Rng::new(seed);
        let mode = [SyncMode::Every, SyncMode::Every, SyncMode::Manual, INTERVAL]
            [usize::try_from(rng.below(4)).unwrap()];
        let sector_len = if rng.percent(25) { 64 } else { 512 };
        let mapped_appends = mode != SyncMode::Every && rng.percent(50);
        let options = WalOptions {
            mapped_appends,
            ..options(mode)
        };
        let mut run = Run::with(seed, sector_len, options);
        for generation in 0..3 {
            run.apply_all(&workload(&mut rng, 16));
            explorer.explore(&run, Plan::power(0));
            explorer.explore(&run, Plan::process(0));
            if generation < 2 {
                let (image, model, history) = explorer.crash_somewhere(&run);
                let seed = rng.next_u64();
                run = Run::resume(&image, model, &run.options, sector_len, seed, history);
            }
        }
    }
    explorer.report(wanted);
}

/// Random operations, of all kinds, rare ones rarer.
fn workload(rng: &mut Rng, len: usize) -> Vec<Op> {
    let letters = b"aaaabbbllwwfffhhppdcctumsrk";
    let mut pick = || letters[usize::try_from(rng.below(letters.len() as u64)).unwrap()];
    let text: String = (0..len).map(|_| char::from(pick())).collect();
    Op::parse(&text)
}

#[test]
fn groups_of_many_threads_survive() {
    let mut explorer = Explorer::new("groups_of_many_threads_survive", seed());
    for round in 0..4 {
        let mut run = Run::new(seed() + round, 512, SyncMode::Every);
        run.append_in_threads(4, 6);
        explorer.explore(&run, Plan::power(1));
    }
    explorer.report(THREADS);
}

/// What the other tests work out from the history of one recovery, done literally: the machine dies
/// in the first operation of a recovery, in the second, and so on; and in each operation of the
/// recovery from that.
#[test]
fn recovery_that_dies_in_each_operation_comes_to_the_same() {
    let name = "recovery_that_dies_in_each_operation_comes_to_the_same";
    let mut explorer = Explorer::new(name, seed());
    for (mode, text) in [
        (SyncMode::Every, "abf"),
        (SyncMode::Every, "fafatf"),
        (SyncMode::Manual, "absalab"),
        (SyncMode::Every, "abcr"),
    ] {
        let mut run = Run::new(seed(), 512, mode);
        run.apply_all(&Op::parse(text));
        for _ in 0..8 {
            let (image, model, history) = explorer.crash_somewhere(&run);
            let options = &run.options;
            let mut deaths = 0;
            while let Some(dead) = Run::die_in_recovery(&image, &model, options, deaths, &history) {
                let plan = Plan {
                    depth: Depth::Full,
                    samples: Some(30),
                    recoveries: Some(20),
                    ..Plan::power(0)
                };
                explorer.explore_end(&dead, plan);
                explorer.explore_end(
                    &dead,
                    Plan {
                        death: crash_explorer::Death::Process,
                        ..plan
                    },
                );
                deaths += 1;
            }
            assert!(deaths > 0, "opening writes");
        }
    }
    explorer.report(1000);
}
