//! What a log should hold: the smallest thing that knows the promises of Duralog.
//!
//! A [`Model`] is the list of what was asked of a log, in order: batches (a single append and a
//! CHECKPOINT are batches too) and truncations, each one a *step*. An [`Expectation`] says, for one
//! moment, which of them a crash may have left: the log must be a prefix of the batches, no shorter
//! than what was acknowledged as durable and no longer than what was issued. [`Model::compare`] looks
//! at a log that was opened and says where it breaks a promise.

#![allow(dead_code, reason = "each test uses its part of it")]

use duralog::{BatchStatus, Cursor, EntryKind, Lsn, RecoveryReport, Seq, Wal};

/// One record: operation, key, value.
pub(crate) type Content = (u8, Vec<u8>, Vec<u8>);

/// Records committed together, or a CHECKPOINT.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) id: Lsn,
    pub(crate) first_seq: Seq,
    /// Number of its COMMIT, or of its only record, or of the CHECKPOINT.
    pub(crate) seq: Seq,
    pub(crate) records: Vec<Content>,
    /// The data of a CHECKPOINT, which has no records.
    pub(crate) checkpoint: Option<Vec<u8>>,
}

/// What one step asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A call that adds nothing: opening, sync, mark, close.
    Nothing,
    /// The batch with this index.
    Batch(usize),
    /// Records up to this number go.
    Truncate(Seq),
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) batches: Vec<Batch>,
    /// Steps of this run, from 0; batches before the first of them are the [base](Model::base).
    pub(crate) steps: Vec<Step>,
    /// So many batches were there, durably, before the first step.
    pub(crate) base: usize,
    /// What was truncated before the first step.
    pub(crate) truncated: Seq,
    /// Whether the log was there before the first step.
    pub(crate) exists: bool,
    /// Ids of batches that an earlier crash took: they never come back, as nothing else either.
    pub(crate) lost: Vec<Lsn>,
}

/// What a crash at one moment may have left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Expectation {
    /// There must be a log.
    pub(crate) exists: bool,
    /// At least so many batches.
    pub(crate) least: usize,
    /// At most so many.
    pub(crate) most: usize,
    /// One of these truncations, the greatest acknowledged one first.
    pub(crate) truncated: Vec<Seq>,
}

/// What was found instead of the impossible.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Found {
    pub(crate) batches: usize,
    pub(crate) truncated: Seq,
}

impl Model {
    /// Number that the record behind the first `count` batches takes.
    pub(crate) fn next_seq(&self, count: usize) -> Seq {
        count
            .checked_sub(1)
            .map_or(1, |last| self.batches[last].seq + 1)
    }

    /// What the steps that were `issued` and those that were `acknowledged` (as far as the moment
    /// is concerned) allow.
    pub(crate) fn expect(
        &self,
        issued: usize,
        acknowledged: impl Fn(usize) -> bool,
    ) -> Expectation {
        let mut expected = Expectation {
            exists: self.exists,
            least: self.base,
            most: self.base,
            truncated: vec![self.truncated],
        };
        for (number, step) in self.steps[..issued].iter().enumerate() {
            let sure = acknowledged(number);
            expected.exists |= sure;
            match *step {
                Step::Nothing => {}
                Step::Batch(index) => {
                    // Threads may be given places in another order than they asked.
                    expected.most = expected.most.max(index + 1);
                    if sure {
                        expected.least = expected.least.max(index + 1);
                    }
                }
                Step::Truncate(seq) => {
                    if sure {
                        expected.truncated.clear();
                    }
                    expected.truncated.push(seq);
                }
            }
        }
        expected
    }

    /// The model of a log that goes on behind `found`, after a crash that `expected` describes.
    pub(crate) fn resume(&self, expected: &Expectation, found: &Found) -> Model {
        let mut lost = self.lost.clone();
        lost.extend(
            self.batches[found.batches..expected.most]
                .iter()
                .map(|batch| batch.id),
        );
        Model {
            batches: self.batches[..found.batches].to_vec(),
            steps: Vec::new(),
            base: found.batches,
            truncated: found.truncated,
            exists: expected.exists,
            lost,
        }
    }

    /// Looks at a log that has been opened: a prefix of the batches, whole, in order, with dense
    /// numbers, as short and as long as expected; nothing truncated comes back; the newest
    /// CHECKPOINT is found; the state of every batch agrees.
    pub(crate) fn compare(
        &self,
        wal: &Wal,
        report: &RecoveryReport,
        expected: &Expectation,
    ) -> Result<Found, String> {
        let truncated = report.truncated_seq;
        if !expected.truncated.contains(&truncated) {
            return Err(format!(
                "truncated up to {truncated}, expected one of {:?}",
                expected.truncated
            ));
        }
        let count = (0..=self.batches.len())
            .find(|&count| self.next_seq(count) == report.next_seq)
            .ok_or_else(|| format!("the next number is {}, inside a batch", report.next_seq))?;
        if count < expected.least {
            return Err(format!(
                "LOST: {count} batches are there, {} were acknowledged",
                expected.least
            ));
        }
        if count > expected.most {
            return Err(format!(
                "{count} batches are there, {} were issued",
                expected.most
            ));
        }
        let found = Found {
            batches: count,
            truncated,
        };
        let mut cursor = wal.cursor(0).map_err(|error| format!("cursor: {error}"))?;
        self.compare_records(&mut cursor, &found)?;
        self.compare_checkpoint(wal, &found)?;
        self.compare_status(wal, &found, expected.most)?;
        Ok(found)
    }

    /// Exactly these records, and nothing else.
    pub(crate) fn compare_records(&self, cursor: &mut Cursor, found: &Found) -> Result<(), String> {
        for batch in &self.batches[..found.batches] {
            for (seq, (op, key, value)) in (batch.first_seq..).zip(&batch.records) {
                if seq <= found.truncated {
                    continue;
                }
                let entry = cursor
                    .next()
                    .map_err(|error| format!("reading record {seq}: {error}"))?
                    .ok_or_else(|| format!("LOST: replay ends before record {seq}"))?;
                let same = entry.kind == EntryKind::Record
                    && entry.committed
                    && (entry.seq, entry.batch_id, entry.op) == (seq, batch.id, *op)
                    && entry.key == key
                    && entry.value == value;
                if !same {
                    return Err(format!(
                        "record {seq} of batch {} expected, replay gives {:?} {} of batch {} \
                         (key of {} bytes, value of {})",
                        batch.id,
                        entry.kind,
                        entry.seq,
                        entry.batch_id,
                        entry.key.len(),
                        entry.value.len()
                    ));
                }
            }
        }
        match cursor.next() {
            Ok(None) => Ok(()),
            Ok(Some(entry)) => Err(format!(
                "replay goes on behind the last batch with record {}",
                entry.seq
            )),
            Err(error) => Err(format!("reading behind the last batch: {error}")),
        }
    }

    fn compare_checkpoint(&self, wal: &Wal, found: &Found) -> Result<(), String> {
        let newest = self.batches[..found.batches]
            .iter()
            .rev()
            .find(|batch| batch.checkpoint.is_some() && batch.seq > found.truncated);
        let is = wal
            .last_checkpoint()
            .map_err(|error| format!("last_checkpoint: {error}"))?;
        let same = match (newest, &is) {
            (None, None) => true,
            (Some(batch), Some(is)) => {
                (batch.seq, batch.id) == (is.seq, is.lsn)
                    && batch.checkpoint.as_ref() == Some(&is.data)
            }
            _ => false,
        };
        if same {
            return Ok(());
        }
        Err(format!(
            "the newest checkpoint is {:?}, expected {:?}",
            is.map(|is| is.seq),
            newest.map(|batch| batch.seq)
        ))
    }

    fn compare_status(&self, wal: &Wal, found: &Found, issued: usize) -> Result<(), String> {
        let status = |id: Lsn| {
            wal.batch_status(id)
                .map_err(|error| format!("status of batch {id}: {error}"))
        };
        for (index, batch) in self.batches[..issued].iter().enumerate() {
            if batch.checkpoint.is_some() {
                continue;
            }
            let is = status(batch.id)?;
            let right = match is {
                BatchStatus::Committed => index < found.batches,
                BatchStatus::Absent => index >= found.batches,
                BatchStatus::Truncated => {
                    found.truncated > 0 && (index >= found.batches || batch.seq <= found.truncated)
                }
            };
            if !right {
                return Err(format!(
                    "batch {} of {} is {is:?}, {} are there",
                    index + 1,
                    issued,
                    found.batches
                ));
            }
        }
        for &id in &self.lost {
            if status(id)? == BatchStatus::Committed {
                return Err(format!(
                    "batch {id} was lost in an earlier crash, and is back"
                ));
            }
        }
        Ok(())
    }

    /// Whether `id` was never given to a batch that was issued before, and lies beyond all of them.
    pub(crate) fn is_new(&self, id: Lsn, issued: usize) -> Result<(), String> {
        let before = self.batches[..issued].iter().map(|batch| &batch.id);
        match before.chain(&self.lost).max() {
            Some(&last) if id <= last => {
                Err(format!("batch id {id} is given, {last} was given before"))
            }
            _ => Ok(()),
        }
    }
}
