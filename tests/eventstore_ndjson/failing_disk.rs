//! On the simulated disk every call fails once, and the disk loses power: repeated, the import is whole.

use super::*;

fn open_on(disk: &SimDisk) -> duralog::Result<EventStore> {
    EventStore::open_on(
        Arc::new(disk.clone()),
        "/store",
        &EventStoreOptions::default(),
    )
}

/// After whatever happened, the import is repeated, and is whole.
fn repeat_on(disk: &SimDisk, text: &str, batch_count: u64, what: &str) {
    let store = open_on(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let there = store.last_position().unwrap();
    let count = text.lines().count() as u64;
    assert!(
        there % batch_count == 0 || there == count,
        "{what}: {there}"
    );
    let report = load(&store, text.as_bytes(), 7).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(
        (report.known, report.imported),
        (there, count - there),
        "{what}"
    );
    assert!(dump(&store) == text, "{what}");
}

#[test]
fn an_import_on_a_failing_disk_is_repeated_and_whole() {
    let text = lines(0..40);
    let mut nth = 0;
    let mut failed = 0;
    loop {
        nth += 1;
        let disk = SimDisk::new(nth);
        let store = open_on(&disk).unwrap();
        disk.fail(FaultPlan::any(nth, Fault::Error(errno::EIO)));
        let outcome = load(&store, text.as_bytes(), 10);
        disk.clear_faults();
        let calls = disk.counts().total();
        if let Err(error) = &outcome {
            failed += 1;
            assert_ne!(
                error.error.kind(),
                ErrorKind::BadLine,
                "call {nth}: {error}"
            );
            assert_eq!(error.report.imported % 10, 0, "call {nth}");
            let read = store.last_position().unwrap();
            assert!(read >= error.report.imported, "call {nth}");
        }
        drop(store);
        repeat_on(&disk, &text, 10, &format!("call {nth}"));
        disk.reset_counts();
        if outcome.is_ok() && nth > calls {
            break;
        }
    }
    assert!(failed >= 4, "{failed} of {nth} calls failed the import");
}

#[test]
fn an_import_that_loses_power_is_repeated_and_whole() {
    let seed = seed();
    let text = lines(0..40);
    let disk = SimDisk::new(seed);
    let store = open_on(&disk).unwrap();
    let teller = disk.clone();
    let mut tell = |now: Progress| {
        teller.acknowledge(now.events);
        true
    };
    import(&store, &mut text.as_bytes(), 0, &batches_of(10), &mut tell).unwrap();
    drop(store);
    let mut images = 0;
    for moment in disk.crash_moments() {
        let acknowledged = disk.acknowledged(moment.at).into_iter().max().unwrap_or(0);
        for fill in [Fill::Zero, Fill::Random] {
            for state in CrashStates::new(&disk, moment.at, fill).sampled(seed, 2) {
                let what = format!("seed {seed}, {}: {}", moment.why, state.describe());
                let cut = SimDisk::from_image(&state.image(), seed);
                let store = open_on(&cut).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(store.last_position().unwrap() >= acknowledged, "{what}");
                drop(store);
                repeat_on(&cut, &text, 10, &what);
                images += 1;
            }
        }
    }
    say(&format!(
        "ndjson: {images} images of power cuts, DURALOG_SEED={seed}"
    ));
    assert!(images > 20, "{images}");
}
