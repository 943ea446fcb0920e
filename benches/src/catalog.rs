//! All that is measured: workloads, who takes part, the rows they give, and what is to be reached.
//!
//! The names of rows are stable: README.md and the issues of the project speak of them.

/// What must be there before a workload can run; made once, for all rounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fixture {
    /// A file whose blocks are all written.
    Raw,
    /// A log of batches of 100, and the same records as NDJSON and in SQLite.
    Log100,
    /// A log of single appends, and the same.
    Log1,
    /// Many small logs.
    SmallLogs,
    /// Events, in the store and in SQLite: read only.
    Events,
    /// The same events in the recorder of the Python package eventsourcing, if that is there.
    EventsRecorder,
    /// The events once more, to be appended to.
    EventsAppend,
}

/// One figure of a workload.
pub struct Row {
    pub name: &'static str,
    /// Its name among what a process measures.
    pub key: &'static str,
    pub unit: &'static str,
    pub greater_is_better: bool,
    pub targets: &'static [Target],
}

/// What the figure of Duralog is to reach.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// At least so many times as good as another contender.
    Times(f64, &'static str),
    AtLeast(f64),
    AtMost(f64),
}

pub struct Workload {
    pub name: &'static str,
    pub what: &'static str,
    pub contenders: &'static [&'static str],
    pub fixtures: &'static [Fixture],
    pub rows: &'static [Row],
    /// Run by the Python script.
    pub python: bool,
}

use Fixture::{Events, EventsAppend, EventsRecorder, Log1, Log100, SmallLogs};
use Target::{AtLeast, AtMost, Times};

const fn more(
    name: &'static str,
    key: &'static str,
    unit: &'static str,
    targets: &'static [Target],
) -> Row {
    Row {
        name,
        key,
        unit,
        greater_is_better: true,
        targets,
    }
}

const fn less(
    name: &'static str,
    key: &'static str,
    unit: &'static str,
    targets: &'static [Target],
) -> Row {
    Row {
        name,
        key,
        unit,
        greater_is_better: false,
        targets,
    }
}

const ALL: &[&str] = &["raw", "duralog", "ndjson", "sqlite"];
const NO_NDJSON: &[&str] = &["raw", "duralog", "sqlite"];
const RAW: &[&str] = &["raw", "duralog"];
const PAIR: &[&str] = &["duralog", "sqlite"];

/// Figures that every workload gives where it measures them; shown in a table of their own.
pub const DETAILS: &[Row] = &[
    less("p50", "p50", "us", &[]),
    less("p99", "p99", "us", &[]),
    less("first-tenth", "first_tenth_us", "us", &[]),
    less("syncs", "syncs", "per record", &[]),
    less("written", "written", "B per record", &[]),
    less("rss", "rss", "MiB", &[]),
];

const fn workload(
    name: &'static str,
    what: &'static str,
    contenders: &'static [&'static str],
    fixtures: &'static [Fixture],
    rows: &'static [Row],
) -> Workload {
    Workload {
        name,
        what,
        contenders,
        fixtures,
        rows,
        python: false,
    }
}

/// In the order in which they run: what changes a fixture comes after what only reads it.
pub const WORKLOADS: &[Workload] = &[
    workload(
        "log-append",
        "durable appends of 256 B, one thread, from the first second of a new log",
        ALL,
        &[Fixture::Raw],
        &[
            more(
                "log-append",
                "writes_per_s",
                "appends/s",
                &[Times(0.97, "raw")],
            ),
            // 1.2 times the limit's at most.
            less("log-append-p99", "p99", "us", &[Times(0.833, "raw")]),
        ],
    ),
    workload(
        "log-batch-100",
        "durable batches of 100 x 256 B, one thread, new log",
        ALL,
        &[Fixture::Raw],
        &[more(
            "log-batch-100",
            "writes_per_s",
            "batches/s",
            &[Times(0.97, "raw")],
        )],
    ),
    workload(
        "log-batch-100-recycled",
        "the same in a log that gives up its records every 128 MiB and did so before",
        NO_NDJSON,
        &[Fixture::Raw],
        &[more(
            "log-batch-100-recycled",
            "writes_per_s",
            "batches/s",
            &[Times(0.97, "raw")],
        )],
    ),
    workload(
        "log-mib-new",
        "durable batches of 1 MiB (16 x 64 KiB), 1 GiB in all, new log",
        ALL,
        &[Fixture::Raw],
        &[more(
            "log-mib-new",
            "mb_per_s",
            "MB/s",
            &[Times(0.6, "raw")],
        )],
    ),
    workload(
        "log-mib-recycled",
        "the same in a log that gives up its records every 128 MiB and did so before",
        NO_NDJSON,
        &[Fixture::Raw],
        &[more(
            "log-mib-recycled",
            "mb_per_s",
            "MB/s",
            &[Times(0.95, "raw")],
        )],
    ),
    workload(
        "log-group-16",
        "durable appends of 256 B by 16 threads; raw is the group limit",
        ALL,
        &[Fixture::Raw],
        &[
            more(
                "log-group-16",
                "writes_per_s",
                "appends/s",
                &[Times(1.0, "raw")],
            ),
            less("log-group-16-p50", "p50", "us", &[AtMost(300.0)]),
            less("log-group-16-share", "share", "most/least", &[AtMost(1.5)]),
        ],
    ),
    workload(
        "log-group-64",
        "the same by 64 threads",
        ALL,
        &[Fixture::Raw],
        &[
            more(
                "log-group-64",
                "writes_per_s",
                "appends/s",
                &[Times(1.0, "raw")],
            ),
            less("log-group-64-share", "share", "most/least", &[AtMost(1.5)]),
        ],
    ),
    workload(
        "log-flights-16",
        "durable appends of 256 B by 16 threads, up to 4 groups in flight; raw is the group limit",
        RAW,
        &[Fixture::Raw],
        &[
            more(
                "log-flights-16",
                "writes_per_s",
                "appends/s",
                &[Times(1.5, "raw")],
            ),
            less("log-flights-16-p50", "p50", "us", &[AtMost(300.0)]),
            less(
                "log-flights-16-share",
                "share",
                "most/least",
                &[AtMost(1.5)],
            ),
        ],
    ),
    workload(
        "log-flights-64",
        "the same by 64 threads",
        RAW,
        &[Fixture::Raw],
        &[
            more(
                "log-flights-64",
                "writes_per_s",
                "appends/s",
                &[Times(1.3, "raw")],
            ),
            less(
                "log-flights-64-share",
                "share",
                "most/least",
                &[AtMost(1.5)],
            ),
        ],
    ),
    workload(
        "log-async",
        "durable appends of 256 B by one thread, 256 of them under way at once",
        &["wal", "duralog"],
        &[],
        &[more(
            "log-async",
            "writes_per_s",
            "appends/s",
            &[Times(5.0, "wal")],
        )],
    ),
    workload(
        "log-manual-1",
        "appends of 256 B, not durable but surviving SIGKILL, one thread; mapped, segments of 1 GiB",
        ALL,
        &[Fixture::Raw],
        &[more(
            "log-manual-1",
            "writes_per_s",
            "appends/s",
            &[Times(1.0, "raw")],
        )],
    ),
    workload(
        "log-manual-100",
        "the same in batches of 100",
        ALL,
        &[Fixture::Raw],
        &[more(
            "log-manual-100",
            "records_per_s",
            "records/s",
            &[Times(0.85, "raw")],
        )],
    ),
    workload(
        "log-manual-plain-1",
        "appends as in log-manual-1 with all options as by default: written by calls, segments of 64 MiB",
        RAW,
        &[Fixture::Raw],
        &[more("log-manual-plain-1", "writes_per_s", "appends/s", &[])],
    ),
    workload(
        "log-manual-plain-100",
        "the same in batches of 100",
        RAW,
        &[Fixture::Raw],
        &[more("log-manual-plain-100", "records_per_s", "records/s", &[])],
    ),
    workload(
        "log-manual-short-1",
        "appends as in log-manual-1 in segments of 64 MiB, each synced when it is full",
        RAW,
        &[Fixture::Raw],
        &[more("log-manual-short-1", "writes_per_s", "appends/s", &[])],
    ),
    workload(
        "log-buffered",
        "appends of 256 B that wait in a buffer of 256 KiB, segments of 1 GiB; raw writes each by itself",
        RAW,
        &[Fixture::Raw],
        &[more(
            "log-buffered",
            "writes_per_s",
            "appends/s",
            &[AtLeast(4e6)],
        )],
    ),
    workload(
        "log-replay-100",
        "replay of 1 GiB of 256 B records in batches of 100, every byte verified",
        ALL,
        &[Fixture::Raw, Log100],
        &[
            more("log-replay-100", "mb_per_s", "MB/s", &[Times(0.85, "raw")]),
            less("log-disk-100", "disk", "B per record", &[AtMost(300.0)]),
        ],
    ),
    workload(
        "log-replay-1",
        "the same of single appends",
        ALL,
        &[Fixture::Raw, Log1],
        &[
            more("log-replay-1", "mb_per_s", "MB/s", &[Times(0.5, "raw")]),
            less("log-disk-1", "disk", "B per record", &[AtMost(336.0)]),
        ],
    ),
    workload(
        "log-replay-mapped",
        "the log of batches of 100 looked at through a mapping; raw is a mapped scan",
        &["raw", "duralog"],
        &[Fixture::Raw, Log100],
        &[more(
            "log-replay-mapped",
            "mb_per_s",
            "MB/s",
            &[Times(0.6, "raw")],
        )],
    ),
    workload(
        "log-disk-ten",
        "what a log of ten records takes after close",
        &["duralog", "ndjson", "sqlite"],
        &[],
        &[less("log-disk-ten", "disk", "KiB", &[AtMost(128.0)])],
    ),
    workload(
        "log-open-clean",
        "opening 1 GiB after a clean close",
        PAIR,
        &[Log100],
        &[less("log-open-clean", "ms", "ms", &[AtMost(5.0)])],
    ),
    workload(
        "log-open-killed",
        "opening 1 GiB after SIGKILL of its writer",
        PAIR,
        &[Log100],
        &[less("log-open-killed", "ms", "ms", &[AtMost(20.0)])],
    ),
    workload(
        "log-small",
        "1,000 small logs opened and appended to, all open at once",
        &["duralog", "ndjson", "sqlite"],
        &[SmallLogs],
        &[
            less("log-small", "us", "us per log", &[]),
            less("log-small-threads", "threads", "threads", &[AtMost(8.0)]),
            less("log-small-files", "files", "per log", &[]),
        ],
    ),
    Workload {
        name: "py-batch-100",
        what: "Python: durable batches of 100 x 256 B",
        contenders: PAIR,
        fixtures: &[],
        rows: &[more(
            "py-batch-100",
            "records_per_s",
            "records/s",
            &[Times(1.3, "sqlite")],
        )],
        python: true,
    },
    Workload {
        name: "py-replay-tuples",
        what: "Python: records as tuples, beside fetchmany",
        contenders: PAIR,
        fixtures: &[Log100],
        rows: &[more(
            "py-replay-tuples",
            "records_per_s",
            "records/s",
            &[Times(2.5, "sqlite")],
        )],
        python: true,
    },
    Workload {
        name: "py-replay-values",
        what: "Python: payloads alone, beside the cursor of the module lmdb",
        contenders: &["duralog", "sqlite", "lmdb"],
        fixtures: &[Log100],
        rows: &[more(
            "py-replay-values",
            "records_per_s",
            "records/s",
            &[Times(1.0, "lmdb")],
        )],
        python: true,
    },
    workload(
        "es-bulk",
        "durable batches of 1,000 events for 1,000 streams, new store",
        NO_NDJSON,
        &[Fixture::Raw],
        &[
            more(
                "es-bulk",
                "events_per_s",
                "events/s",
                &[AtLeast(600e3), Times(5.0, "sqlite")],
            ),
            less("es-disk", "disk", "B per event", &[AtMost(330.0)]),
        ],
    ),
    workload(
        "es-scan",
        "all events from the beginning",
        NO_NDJSON,
        &[Fixture::Raw, Events],
        &[more(
            "es-scan",
            "events_per_s",
            "events/s",
            &[Times(1.2, "sqlite")],
        )],
    ),
    workload(
        "es-scan-mapped",
        "the same with the option to read through mappings",
        NO_NDJSON,
        &[Fixture::Raw, Events],
        &[more("es-scan-mapped", "events_per_s", "events/s", &[])],
    ),
    workload(
        "es-stream-100",
        "one stream of 100 events scattered over the store; raw is as many preads",
        NO_NDJSON,
        &[Fixture::Raw, Events],
        &[less("es-stream-100", "us", "us per stream", &[])],
    ),
    workload(
        "es-stream-100-mapped",
        "the same with the option to read through mappings, as SQLite does here",
        NO_NDJSON,
        &[Fixture::Raw, Events],
        &[less(
            "es-stream-100-mapped",
            "us",
            "us per stream",
            &[Times(3.0, "sqlite")],
        )],
    ),
    workload(
        "es-rare",
        "the 100 events of a rare type",
        PAIR,
        &[Events],
        &[less("es-rare", "us", "us per query", &[AtMost(1000.0)])],
    ),
    workload(
        "es-refused",
        "an append refused by its condition over a type and a tag",
        PAIR,
        &[Events],
        &[less("es-refused", "us", "us per append", &[AtMost(20.0)])],
    ),
    Workload {
        name: "py-es-scan",
        what: "Python: all events as Event objects, beside fetchmany",
        contenders: PAIR,
        fixtures: &[Events],
        rows: &[more(
            "py-es-scan",
            "events_per_s",
            "events/s",
            &[Times(2.5, "sqlite")],
        )],
        python: true,
    },
    Workload {
        name: "py-es-tuples",
        what: "Python: all events as tuples of five fields, beside fetchmany",
        contenders: PAIR,
        fixtures: &[Events],
        rows: &[more(
            "py-es-tuples",
            "events_per_s",
            "events/s",
            &[Times(2.5, "sqlite")],
        )],
        python: true,
    },
    Workload {
        name: "py-es-stream-100",
        what: "Python: one stream of 100 events scattered over the store, beside eventsourcing's recorder",
        contenders: &["duralog", "sqlite", "eventsourcing"],
        fixtures: &[Events, EventsRecorder],
        rows: &[less(
            "py-es-stream-100",
            "us",
            "us per stream",
            &[Times(5.0, "eventsourcing")],
        )],
        python: true,
    },
    Workload {
        name: "py-es-stream-100-mapped",
        what: "the same, read through mappings",
        contenders: &["duralog", "sqlite", "eventsourcing"],
        fixtures: &[Events, EventsRecorder],
        rows: &[less(
            "py-es-stream-100-mapped",
            "us",
            "us per stream",
            &[Times(5.0, "eventsourcing")],
        )],
        python: true,
    },
    Workload {
        name: "py-es-stream-100-tuples",
        what: "the same, as tuples, which is what the recorder gives: four fields of each event",
        contenders: &["duralog", "sqlite", "eventsourcing"],
        fixtures: &[Events, EventsRecorder],
        rows: &[less(
            "py-es-stream-100-tuples",
            "us",
            "us per stream",
            &[Times(5.0, "eventsourcing")],
        )],
        python: true,
    },
    workload(
        "es-open-clean",
        "opening the store after a clean close, up to its first answer",
        PAIR,
        &[Events],
        &[less("es-open-clean", "ms", "ms", &[AtMost(20.0)])],
    ),
    workload(
        "es-append",
        "durable appends of one event at an expected version; wal is wal_append alone",
        &["raw", "wal", "duralog", "sqlite"],
        &[Fixture::Raw, EventsAppend],
        &[more(
            "es-append",
            "events_per_s",
            "events/s",
            &[Times(0.95, "wal"), Times(1.15, "sqlite")],
        )],
    ),
    workload(
        "es-open-killed",
        "opening the store after SIGKILL of its writer, up to its first answer",
        PAIR,
        &[EventsAppend],
        &[less("es-open-killed", "ms", "ms", &[AtMost(50.0)])],
    ),
    workload(
        "es-append-manual",
        "appends of one event at an expected version, not durable",
        &["raw", "wal", "duralog", "sqlite"],
        &[Fixture::Raw, EventsAppend],
        &[more(
            "es-append-manual",
            "events_per_s",
            "events/s",
            &[Times(8.0, "sqlite")],
        )],
    ),
];
