//! The small logs that are damaged: one of every shape that a log can have.

use super::log_files::{Builder, KnownLog};

/// Header sizes: the least that is read, so that nearly every byte matters, and the one written.
const SMALL: u32 = 128;
const WRITTEN: u32 = 4096;

/// Single records, each durable before the next, as in the default mode.
pub(super) fn singles() -> KnownLog {
    let mut log = Builder::new("singles", SMALL);
    for (key, value) in [("a", "1"), ("", "empty key"), ("c", ""), ("dddd", "4444")] {
        log.single(key, value);
    }
    log.zeros();
    log.finish()
}

/// Batches of one frame, with every kind of operation; promises lag, as in the mode `interval`.
fn batches() -> KnownLog {
    let mut log = Builder::new("batches", SMALL);
    log.sync_each = false;
    log.batch(&[&[(1, "a", "1"), (2, "b", "")]]);
    log.single("c", "3");
    log.sync();
    log.batch(&[&[(200, "", "app"), (17, "event", "x"), (1, "", "")]]);
    log.batch(&[&[(1, "last", "batch")]]);
    log.zeros();
    log.finish()
}

/// Batches of several frames among single records.
fn multi_frame_batches() -> KnownLog {
    let mut log = Builder::new("multi_frame_batches", SMALL);
    log.single("before", "0");
    log.batch(&[
        &[(1, "a", "1"), (1, "b", "2")],
        &[(2, "c", "")],
        &[(1, "d", "4")],
    ]);
    log.batch(&[&[(1, "e", "5")], &[(1, "f", "6")]]);
    log.single("after", "7");
    log.zeros();
    log.finish()
}

/// CHECKPOINTs, MARKs, an ABORTed batch and a frame of a type that readers skip.
fn marks() -> KnownLog {
    let mut log = Builder::new("marks", SMALL);
    log.single("a", "1");
    log.checkpoint(b"state");
    log.uncommitted(&[&[(1, "given", "up")], &[(1, "both", "frames")]]);
    log.abort();
    log.mark();
    log.other(130, b"skipped");
    log.batch(&[&[(1, "b", "2")]]);
    log.checkpoint(b"");
    log.other(3, b"mark with bytes");
    log.zeros();
    log.finish()
}

/// Several segments by regular rotation; control as the last rotation left it.
pub(super) fn segments() -> KnownLog {
    let mut log = Builder::new("segments", SMALL);
    log.single("a", "1");
    log.batch(&[&[(1, "b", "2")], &[(1, "c", "3")]]);
    log.rotate();
    log.control(3, false);
    log.batch(&[&[(1, "d", "4"), (1, "e", "5")]]);
    log.checkpoint(b"cp");
    log.rotate();
    log.control(4, false);
    log.single("f", "6");
    log.batch(&[&[(1, "g", "7")]]);
    log.zeros();
    log.finish()
}

/// A crash in the middle of a batch, the rescue of what was not covered, and a new generation.
fn recovered() -> KnownLog {
    let mut log = Builder::new("recovered", SMALL);
    log.sync_each = false;
    log.single("a", "1");
    log.sync();
    log.single("b", "2");
    log.uncommitted(&[&[(1, "given up", "2")]]);
    log.abort();
    log.batch(&[&[(1, "c", "3")], &[(1, "d", "4")]]);
    log.uncommitted(&[&[(1, "lost", "5")], &[(1, "lost too", "6")]]);
    log.raw(b"torn bytes of a third frame");
    log.rescue(1);
    log.control(3, false);
    log.control(4, false);
    log.sync_each = true;
    log.single("e", "7");
    log.batch(&[&[(1, "f", "8")]]);
    log.zeros();
    log.finish()
}

/// A new generation behind a gap without a rescue: all that was committed was covered.
fn gap() -> KnownLog {
    let mut log = Builder::new("gap", SMALL);
    log.batch(&[&[(1, "a", "1")]]);
    log.mark();
    log.uncommitted(&[&[(1, "lost", "2")]]);
    log.restart();
    log.control(3, false);
    log.mark();
    log.single("b", "3");
    log.zeros();
    log.finish()
}

/// Closed: control says where the log ends and that nothing was given out behind it.
fn closed() -> KnownLog {
    let mut log = Builder::new("closed", SMALL);
    log.single("a", "1");
    log.batch(&[&[(1, "b", "2")], &[(2, "c", "")]]);
    log.mark();
    log.control(3, true);
    log.zeros();
    log.finish()
}

/// Truncated inside the second segment, with the first not deleted yet.
fn truncated() -> KnownLog {
    let mut log = Builder::new("truncated", SMALL);
    log.single("a", "1");
    log.single("b", "2");
    log.rotate();
    log.batch(&[&[(1, "c", "3"), (1, "d", "4")]]);
    log.single("e", "6");
    log.zeros();
    log.control(3, false);
    log.control(4, false);
    let mut known = log.finish();
    // One slot has the newer truncation, as after a crash between the two.
    for (slot, truncated_seq) in [(0, 5), (1, 3)] {
        let control = known.control[slot].as_mut().unwrap();
        control.first_segment = 2;
        control.truncated_seq = truncated_seq;
    }
    known
}

/// A crash in the middle of a batch: no COMMIT on disk.
fn without_commit() -> KnownLog {
    let mut log = Builder::new("without_commit", SMALL);
    log.single("a", "1");
    log.single("b", "2");
    log.uncommitted(&[&[(1, "x", "never")], &[(1, "y", "never")]]);
    log.zeros();
    log.finish()
}

/// The tail page of this boot promises more than the files do.
pub(super) fn tail_page() -> KnownLog {
    let mut log = Builder::new("tail_page", SMALL);
    log.single("a", "1");
    log.batch(&[&[(1, "b", "2")], &[(1, "c", "3")]]);
    let before = log.lsn();
    log.single("d", "4");
    let end = log.lsn();
    log.zeros();
    let mut known = log.finish();
    known.tail = Some([before, end]);
    known
}

/// A crash between SEAL and the next segment, with old bytes behind the SEAL.
fn sealed() -> KnownLog {
    let mut log = Builder::new("sealed", SMALL);
    log.single("a", "1");
    log.batch(&[&[(1, "b", "2")]]);
    log.seal();
    log.raw(b"whatever the file held before");
    log.finish()
}

/// A file that was used before: frames of another generation stand behind the end.
fn used_before() -> KnownLog {
    let mut log = Builder::new("used_before", SMALL);
    log.single("a", "1");
    log.batch(&[&[(1, "b", "2")]]);
    log.foreign();
    log.raw(&[0xA5; 40]);
    log.finish()
}

/// Control was lost, and nothing was written behind the last frame.
pub(super) fn without_control() -> KnownLog {
    let mut log = Builder::new("without_control", SMALL);
    log.single("a", "1");
    log.rotate();
    log.batch(&[&[(1, "b", "2"), (1, "c", "3")]]);
    let mut known = log.finish();
    known.control = [None, None];
    known
}

/// A torn group: its beginning never arrived, a frame of its end did.
fn torn_group() -> KnownLog {
    let mut log = Builder::new("torn_group", SMALL);
    log.single("a", "1");
    log.batch(&[&[(1, "b", "2")]]);
    log.stray(72);
    log.zeros();
    log.finish()
}

/// One segment alone, without control: where a damaged magic makes it no log at all.
fn alone() -> KnownLog {
    let mut log = Builder::new("alone", SMALL);
    log.single("a", "1");
    log.zeros();
    let mut known = log.finish();
    known.control = [None, None];
    known
}

/// As the library writes them, with headers of 4096 bytes.
pub(super) fn as_written() -> KnownLog {
    let mut log = Builder::new("as_written", WRITTEN);
    log.single("key", "value");
    log.batch(&[&[(1, "a", "1"), (2, "b", "")]]);
    log.batch(&[&[(1, "c", "3")], &[(1, "d", "4")]]);
    log.checkpoint(b"snapshot");
    log.mark();
    log.zeros();
    log.finish()
}

/// One of every shape, with headers so small that nearly every byte matters.
pub(super) fn every_shape() -> Vec<KnownLog> {
    vec![
        singles(),
        batches(),
        multi_frame_batches(),
        marks(),
        segments(),
        recovered(),
        gap(),
        closed(),
        truncated(),
        without_commit(),
        tail_page(),
        sealed(),
        used_before(),
        without_control(),
        torn_group(),
        alone(),
    ]
}
