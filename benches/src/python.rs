//! The script that measures from Python, and makes what only a Python package can.

use crate::scale::Scale;
use std::path::Path;
use std::process::Command;

/// What it ends with where something that it needs is not there.
pub const SKIPPED: i32 = 77;

/// To be run; python_peers.py says what its arguments are.
pub fn peer(
    workload: &str,
    contender: &str,
    work: &Path,
    fixtures: &Path,
    scale: Scale,
) -> Command {
    let python = std::env::var_os("PYTHON").unwrap_or("python3".into());
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python_peers.py"));
    command.args([workload, contender]).args([work, fixtures]);
    let numbers = [
        scale.batches,
        scale.python_records,
        scale.stream_reads,
        scale.events,
    ];
    command.args(numbers.map(|number| number.to_string()));
    command
}
