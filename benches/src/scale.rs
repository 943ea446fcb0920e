//! How much work each workload does: the sizes of the claims, or tiny ones to try that all runs.

/// Events of one stream of the event store.
const EVENTS_PER_STREAM: u64 = 100;
/// Length of every small record and event.
pub const RECORD_LEN: usize = 256;
/// Records of one batch of 1 MiB.
pub const MIB_RECORDS: usize = 16;
/// Length of each of them.
pub const MIB_RECORD_LEN: usize = 64 << 10;
/// Events of the rare type in the whole store.
pub const RARE_EVENTS: u64 = 100;

/// Streams of an event store: as many more as there are events, so that each has the same number.
pub fn streams_of(events: u64) -> u64 {
    (events / EVENTS_PER_STREAM).max(1)
}

#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Durable appends of one thread.
    pub appends: u64,
    /// Durable batches of 100.
    pub batches: u64,
    /// Durable batches of 1 MiB.
    pub mib_batches: u64,
    /// Bytes that a log was given, and gave up, before its space is used again.
    pub recycled_bytes: u64,
    /// How long many threads append, in milliseconds.
    pub group_ms: u64,
    /// Records appended without durability; peers that are slow by nature do a tenth.
    pub manual_records: u64,
    /// Records of the logs that are replayed and opened.
    pub replay_records: u64,
    /// Logs that are open at once.
    pub small_logs: u64,
    /// Events of the event store.
    pub events: u64,
    /// Events of the event store that is filled anew in every round.
    pub bulk_events: u64,
    /// Streams read one by one: each one once, so that what is met for the first time weighs the same in
    /// stores of any size.
    pub stream_reads: u64,
    /// Queries for the rare type, and refused appends.
    pub queries: u64,
    /// Appends without durability to the event store.
    pub event_appends_unsynced: u64,
    /// Records and events that Python reads.
    pub python_records: u64,
}

impl Scale {
    pub fn full(events: u64) -> Scale {
        Scale {
            appends: 4_000,
            batches: 2_000,
            mib_batches: 1_024,
            recycled_bytes: 256 << 20,
            group_ms: 1_000,
            manual_records: 1_000_000,
            replay_records: 4 << 20,
            small_logs: 1_000,
            events,
            bulk_events: events.min(1_000_000),
            stream_reads: streams_of(events),
            queries: 1_000,
            event_appends_unsynced: 200_000,
            python_records: 1_000_000,
        }
    }

    /// Durable records of one thread that does not wait for each, and of one that does.
    pub fn async_records(&self, contender: &str) -> u64 {
        match contender {
            "wal" => self.appends,
            _ => self.appends * 50,
        }
    }

    pub fn smoke() -> Scale {
        Scale {
            appends: 50,
            batches: 20,
            mib_batches: 8,
            recycled_bytes: 8 << 20,
            group_ms: 50,
            manual_records: 10_000,
            replay_records: 20_000,
            small_logs: 20,
            events: 20_000,
            bulk_events: 5_000,
            stream_reads: streams_of(20_000),
            queries: 20,
            event_appends_unsynced: 1_000,
            python_records: 10_000,
        }
    }
}
