//! What one child process measures, and how it tells its parent: lines of a name and a number.

use crate::system;
use std::time::{Duration, Instant};

/// What was measured, by name. What the names mean stands in README.md.
#[derive(Default)]
pub struct Measured {
    values: Vec<(String, f64)>,
}

impl Measured {
    /// Sets a figure, in place of one with this name.
    pub fn set(&mut self, name: &str, value: f64) {
        self.values.retain(|(known, _)| known != name);
        self.values.push((name.to_owned(), value));
    }

    pub fn print(&self) {
        for (name, value) in &self.values {
            println!("{name} {value}");
        }
    }
}

/// Watches a workload. Made when the caller's own data is there and before anything is opened.
pub struct Meter {
    resident_before: u64,
    began: Instant,
    elapsed: Duration,
    data_syncs: u64,
    full_syncs: u64,
    written: u64,
}

impl Meter {
    pub fn new() -> Meter {
        system::forget_peak();
        Meter {
            resident_before: system::resident(),
            began: Instant::now(),
            elapsed: Duration::ZERO,
            data_syncs: 0,
            full_syncs: 0,
            written: 0,
        }
    }

    /// What counts begins now.
    pub fn begin(&mut self) {
        (self.data_syncs, self.full_syncs) = system::syncs();
        self.written = system::written_bytes();
        self.began = Instant::now();
    }

    /// What counts has ended.
    pub fn end(&mut self) {
        self.elapsed = self.began.elapsed();
        let (data, full) = system::syncs();
        self.data_syncs = data - self.data_syncs;
        self.full_syncs = full - self.full_syncs;
        self.written = system::written_bytes() - self.written;
    }

    pub fn seconds(&self) -> f64 {
        self.elapsed.as_secs_f64()
    }

    /// Memory beyond the caller's own data, so far.
    pub fn tell_memory(&self, out: &mut Measured) {
        let more = system::resident_peak().saturating_sub(self.resident_before);
        out.set("rss", more as f64 / f64::from(1 << 20));
    }

    /// Syncs and bytes written per record.
    pub fn tell_writes(&self, records: u64, out: &mut Measured) {
        let per_record = |count: u64| count as f64 / records.max(1) as f64;
        out.set("syncs", per_record(self.data_syncs + self.full_syncs));
        out.set("written", per_record(self.written));
    }
}

/// How long each call took.
#[derive(Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    pub fn with_capacity(capacity: usize) -> Latencies {
        // Touched now, so that it is the caller's own memory and not the library's.
        let mut values = vec![1; capacity];
        values.clear();
        Latencies(values)
    }

    pub fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = call();
        let nanos = u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX);
        self.0.push(nanos);
        result
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn append(&mut self, mut others: Latencies) {
        self.0.append(&mut others.0);
    }

    /// Median and 99th percentile, in microseconds.
    pub fn tell(mut self, out: &mut Measured) {
        if self.0.is_empty() {
            return;
        }
        self.0.sort_unstable();
        let at = |share: f64| self.0[((self.0.len() - 1) as f64 * share) as usize];
        out.set("p50", f64::from(at(0.5)) / 1e3);
        out.set("p99", f64::from(at(0.99)) / 1e3);
    }
}
