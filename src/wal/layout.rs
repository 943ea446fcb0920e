//! The names in a log's directory (FORMAT.md section 3).

use crate::error::Place;
use std::path::{Path, PathBuf};

/// Suffix of a segment's name.
const SEGMENT_SUFFIX: &str = ".wal";
/// Digits of a segment's name.
const SEGMENT_DIGITS: usize = 20;
/// How the names of directories begin in which repairs keep what they drop.
const SIDE_PREFIX: &str = "dropped-";

/// Where everything of one log lies.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
}

impl Layout {
    pub(crate) fn new(dir: &Path) -> Layout {
        Layout {
            dir: dir.to_path_buf(),
        }
    }

    /// The log as the place of an error.
    pub(crate) fn place(&self) -> Place {
        Place {
            path: Some(self.dir.clone()),
            ..Place::default()
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory that holds the log's own name.
    pub(crate) fn parent(&self) -> &Path {
        match self.dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) => Path::new("."),
            None => &self.dir,
        }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("LOCK")
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.dir.join("control")
    }

    pub(crate) fn tail(&self) -> PathBuf {
        self.dir.join("tail")
    }

    pub(crate) fn ready(&self) -> PathBuf {
        self.dir.join("ready")
    }

    pub(crate) fn segment(&self, number: u64) -> PathBuf {
        self.dir.join(segment_name(number))
    }

    /// Where segment `number` is prepared before it gets its name.
    pub(crate) fn prepared(&self, number: u64) -> PathBuf {
        self.ready().join(segment_name(number))
    }

    /// Where a file for the next segment waits, made in the background.
    pub(crate) fn fresh(&self) -> PathBuf {
        self.ready().join("fresh")
    }

    /// Where repair number `number` keeps what it drops.
    pub(crate) fn side_directory(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{SIDE_PREFIX}{number}"))
    }

    /// Where segment `number` waits to be used again after it was retired.
    pub(crate) fn recycled(&self, number: u64) -> PathBuf {
        self.ready()
            .join(format!("recycled-{}", segment_name(number)))
    }
}

/// The file name of segment `number`.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:0width$}{SEGMENT_SUFFIX}", width = SEGMENT_DIGITS)
}

/// The number of the segment with this name; `None` for every other name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    let ours = digits.len() == SEGMENT_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    ours.then(|| digits.parse().ok())
        .flatten()
        .filter(|&number| number > 0 && number < u64::MAX)
}

/// Whether a log's directory may hold this name: a directory with other names in it and no log is
/// somebody else's, and no log is made there.
pub(crate) fn is_known_name(name: &str) -> bool {
    matches!(
        name,
        "LOCK" | "control" | "tail" | "ready" | "index" | "snapshots"
    ) || segment_number(name).is_some()
        || name.starts_with(SIDE_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_twenty_digits_name_a_segment() {
        assert_eq!(segment_number(&segment_name(42)), Some(42));
        assert_eq!(segment_number("42.wal"), None);
        assert_eq!(segment_number("+0000000000000000042.wal"), None);
        assert_eq!(segment_number("00000000000000000000.wal"), None);
        assert_eq!(segment_number("99999999999999999999.wal"), None);
        assert_eq!(segment_number(&segment_name(u64::MAX)), None);
        assert_eq!(Layout::new(Path::new("a")).parent(), Path::new("."));
        assert_eq!(Layout::new(Path::new("/a/b")).parent(), Path::new("/a"));
    }
}
