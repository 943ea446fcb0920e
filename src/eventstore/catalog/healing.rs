//! Damaged runs, and syncs that failed: what the index lost, or must not say any more, is made from the log
//! again.

use super::super::anchor::{Cover, LogPlace};
use super::super::index::Layer;
use super::making::{Part, Watch};
use super::{is_same, Catalog, Snapshot, Stored};
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::sync::PoisonError;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

impl Catalog {
    /// Asks `question`; if a run turns out to be damaged, makes it from the log again and asks once
    /// more. A run that is no good although it was just made is an error: the disk spoils it.
    pub(in super::super) fn ask<T>(
        &self,
        mut question: impl FnMut(&Snapshot) -> Result<T>,
    ) -> Result<T> {
        if let Some(error) = self.lost.get() {
            return Err(error.duplicate());
        }
        let mut made_again = HashSet::new();
        loop {
            let error = match question(&self.snapshot()) {
                Err(error) if self.is_of_index(&error) => error,
                answer => return answer,
            };
            let Some(path) = error.place().path.clone() else {
                return Err(error);
            };
            if made_again.contains(&path) {
                return Err(error);
            }
            self.heal(&path)?;
            made_again.insert(path);
        }
    }

    /// Lets all runs check what they read once more.
    pub(in super::super) fn distrust(&self) {
        for stored in self.read_layers().iter() {
            if let Stored::Run(run) = stored {
                run.distrust();
            }
        }
    }

    pub(super) fn is_of_index(&self, error: &Error) -> bool {
        let path = error.place().path.as_ref();
        matches!(
            error.kind(),
            ErrorKind::Corrupt | ErrorKind::Io | ErrorKind::NotFound
        ) && path.and_then(|path| path.parent()) == Some(self.dir.as_path())
    }

    /// Makes the layer again whose run has this path. An error if that can't be done.
    fn heal(&self, path: &Path) -> Result<()> {
        let _one = self.healing.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_again(path)
    }

    /// The same for who holds the lock.
    pub(super) fn make_again(&self, path: &Path) -> Result<()> {
        let layers = self.read_layers();
        let damaged = layers.iter().enumerate().find_map(|(index, stored)| {
            let Stored::Run(run) = stored else {
                return None;
            };
            (run.path() == path).then(|| (index, Arc::clone(run)))
        });
        let Some((index, run)) = damaged else {
            // Somebody else made it again meanwhile, or it was merged.
            return Ok(());
        };
        let cover = Cover::decode(&run.anchor());
        let before = index.checked_sub(1).and_then(|before| layers.get(before));
        let before = before.map(Stored::end).unwrap_or_default();
        let part = Part {
            place: LogPlace {
                end_seq: cover.begin_seq,
                ..before
            },
            next: *run.range().start(),
            until: cover.end.end_seq,
        };
        if self.may_write() {
            let _ = self.vfs.unlink(run.path());
        }
        let made = self.index_from_log(part, &Watch::default(), &mut |_, _| true)?;
        if made.next != run.range().end() + 1 {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "the log holds events up to position {} where {} was expected",
                    made.next - 1,
                    run.range().end()
                ),
            ));
        }
        let mut made = made.layers;
        let mut guard = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for stored in guard.iter() {
            if is_same(stored, &Stored::Run(Arc::clone(&run))) {
                all.append(&mut made);
            } else {
                all.push(stored.clone());
            }
        }
        *guard = all.into();
        Ok(())
    }

    /// Whether a batch is known that does not stand before `end`.
    pub(in super::super) fn goes_beyond(&self, end: Lsn) -> bool {
        let layers = self.read_layers();
        layers.iter().any(|stored| stored.end().batch_id >= end)
    }

    /// After a failed sync: forgets what readers must not see any more, since the log no longer
    /// vouches for it. All layers are made anew, which takes as long as opening the store.
    pub(in super::super) fn withdraw(&self) {
        let _one = self.healing.lock().unwrap_or_else(PoisonError::into_inner);
        let _writing = self.writing();
        match self.layers_of_log(&mut |_, _| true) {
            Ok((layers, _)) => self.replace(layers),
            // Better no answers than those of a state that may never have been.
            Err(error) => {
                let _ = self.lost.set(error.into_kind(
                    ErrorKind::Poisoned,
                    "what is durable could not be read after a failed sync; open the store again",
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventstore::IndexLimits;
    use crate::vfs::sim::SimDisk;
    use crate::wal::{Wal, WalOptions};

    #[test]
    fn a_run_that_is_no_good_after_it_was_made_again_is_an_error() {
        let disk = Arc::new(SimDisk::new(1));
        let wal = Wal::open_on(disk.clone(), "/log", &WalOptions::default()).unwrap();
        let dir = Path::new("/log/index");
        let catalog = Catalog::open(
            disk,
            Arc::new(wal),
            dir.to_path_buf(),
            true,
            false,
            IndexLimits::default(),
            &mut |_, _| true,
        );
        let mut asked = 0;
        let answer: Result<()> = catalog.unwrap().ask(|_| {
            asked += 1;
            assert!(asked < 9, "it is asked over and over");
            // Another run each time but the last one.
            let number = asked.min(3);
            Err(
                Error::new(ErrorKind::Corrupt, "spoilt").at(crate::error::Place {
                    path: Some(dir.join(format!("{number}.run"))),
                    ..crate::error::Place::default()
                }),
            )
        });
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(asked, 4);
    }
}
