//! The decision table of FORMAT.md section 13, literally: which row applies to what was found at
//! the place X where a walk stopped.
//!
//! Each line of [`TABLE`] is a pattern over the findings; `-` means that the finding does not
//! matter. The lines exclude each other, and a test walks every combination of findings to show
//! that exactly one row applies.

use crate::wal::report::Verdict;

/// A row of the table, with the label of FORMAT.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Row {
    /// The read itself failed.
    R,
    /// A segment is missing or can't be used.
    M,
    /// An accepted frame that is not well-formed.
    W,
    /// Not the last segment, and it does not end where its successor says.
    S1,
    /// Not the last segment, it ends there, but link or sequence number differ.
    S2,
    /// Not the last segment, all is well: go on.
    S3,
    /// The last segment, and X lies below the evidence.
    E,
    /// The last segment ends cleanly.
    Z,
    /// The last segment is torn.
    T,
}

impl Row {
    /// The label, as FORMAT.md and reports spell it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Row::R => "R",
            Row::M => "M",
            Row::W => "W",
            Row::S1 => "S1",
            Row::S2 => "S2",
            Row::S3 => "S3",
            Row::E => "E",
            Row::Z => "Z",
            Row::T => "T",
        }
    }

    /// What the row means; S3 goes on, and so is no verdict of its own.
    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Row::R => Verdict::IoError,
            Row::M | Row::W | Row::S1 | Row::S2 | Row::E => Verdict::Corrupt,
            Row::S3 | Row::Z => Verdict::CleanEnd,
            Row::T => Verdict::Torn,
        }
    }
}

/// What was found at X.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Findings {
    /// The read itself failed.
    pub(crate) read_failed: bool,
    /// The segment, or the next one, is missing or can't be used.
    pub(crate) segment_missing: bool,
    /// The frame at X is accepted but not well-formed.
    pub(crate) malformed: bool,
    /// This is the last segment.
    pub(crate) last_segment: bool,
    /// X is the successor's prev_end_lsn, and no batch is open there.
    pub(crate) at_declared_end: bool,
    /// Link and next sequence number are those that the successor names.
    pub(crate) declared_link_holds: bool,
    /// X lies below the evidence E.
    pub(crate) below_evidence: bool,
    /// A batch is open at X.
    pub(crate) batch_open: bool,
    /// The frame before X is a SEAL.
    pub(crate) sealed: bool,
    /// At X stands a zero header, or an intact frame of another generation.
    pub(crate) blank: bool,
    /// A live frame stands beyond X.
    pub(crate) live_beyond: bool,
}

const FINDING_COUNT: usize = 11;

impl Findings {
    fn columns(&self) -> [bool; FINDING_COUNT] {
        [
            self.read_failed,
            self.segment_missing,
            self.malformed,
            self.last_segment,
            self.at_declared_end,
            self.declared_link_holds,
            self.below_evidence,
            self.batch_open,
            self.sealed,
            self.blank,
            self.live_beyond,
        ]
    }
}

/// Columns: Read failed, Missing, malFormed, Last, At declared end, linK holds, Below evidence,
/// Open batch, Sealed, blanK at X, liVe beyond.
#[rustfmt::skip]
const TABLE: [(Row, &[u8; FINDING_COUNT]); 12] = [
    //         R M F L A K B O S K V
    (Row::R,  b"y----------"),
    (Row::M,  b"ny---------"),
    (Row::W,  b"nny--------"),
    (Row::S1, b"nnnnn------"),
    (Row::S2, b"nnnnyn-----"),
    (Row::S3, b"nnnnyy-----"),
    (Row::E,  b"nnny--y----"),
    (Row::Z,  b"nnny--nny--"),
    (Row::Z,  b"nnny--nnnyn"),
    (Row::T,  b"nnny--ny---"),
    (Row::T,  b"nnny--nnnyy"),
    (Row::T,  b"nnny--nnnn-"),
];

fn applies(pattern: &[u8; FINDING_COUNT], findings: &Findings) -> bool {
    pattern
        .iter()
        .zip(findings.columns())
        .all(|(&column, found)| match column {
            b'-' => true,
            b'y' => found,
            b'n' => !found,
            _ => false,
        })
}

/// The row that applies.
pub(crate) fn decide(findings: &Findings) -> Row {
    TABLE
        .iter()
        .find(|(_, pattern)| applies(pattern, findings))
        .map_or(Row::R, |(row, _)| *row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_combination() -> impl Iterator<Item = Findings> {
        (0u32..1 << FINDING_COUNT).map(|bits| {
            let bit = |index: u32| bits & (1 << index) != 0;
            Findings {
                read_failed: bit(0),
                segment_missing: bit(1),
                malformed: bit(2),
                last_segment: bit(3),
                at_declared_end: bit(4),
                declared_link_holds: bit(5),
                below_evidence: bit(6),
                batch_open: bit(7),
                sealed: bit(8),
                blank: bit(9),
                live_beyond: bit(10),
            }
        })
    }

    /// The table in the words of FORMAT.md, row by row, each complete in itself.
    fn in_words(row: Row, f: &Findings) -> bool {
        let read = !f.read_failed;
        let usable = read && !f.segment_missing && !f.malformed;
        let last = usable && f.last_segment;
        let clean = !f.batch_open && (f.sealed || (f.blank && !f.live_beyond));
        match row {
            Row::R => f.read_failed,
            Row::M => read && f.segment_missing,
            Row::W => read && !f.segment_missing && f.malformed,
            Row::S1 => usable && !f.last_segment && !f.at_declared_end,
            Row::S2 => usable && !f.last_segment && f.at_declared_end && !f.declared_link_holds,
            Row::S3 => usable && !f.last_segment && f.at_declared_end && f.declared_link_holds,
            Row::E => last && f.below_evidence,
            Row::Z => last && !f.below_evidence && clean,
            Row::T => last && !f.below_evidence && !clean,
        }
    }

    const ROWS: [Row; 9] = [
        Row::R,
        Row::M,
        Row::W,
        Row::S1,
        Row::S2,
        Row::S3,
        Row::E,
        Row::Z,
        Row::T,
    ];

    #[test]
    fn exactly_one_line_applies_to_every_combination_and_it_is_the_row_of_the_norm() {
        for findings in every_combination() {
            let lines: Vec<Row> = TABLE
                .iter()
                .filter(|(_, pattern)| applies(pattern, &findings))
                .map(|(row, _)| *row)
                .collect();
            assert_eq!(lines.len(), 1, "{findings:?}: {lines:?}");
            let worded: Vec<Row> = ROWS
                .into_iter()
                .filter(|&row| in_words(row, &findings))
                .collect();
            assert_eq!(worded, lines, "{findings:?}");
            assert_eq!(decide(&findings), lines[0]);
        }
    }

    #[test]
    fn every_row_is_in_the_norm() {
        let norm = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/FORMAT.md"))
            .expect("FORMAT.md");
        for row in ROWS {
            assert!(norm.contains(&format!("\n| {} | ", row.label())), "{row:?}");
        }
    }
}
