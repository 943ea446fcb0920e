//! The small files in which a handle that only reads sees whether there may be more: LOCK, `tail` and
//! `control`.
//!
//! They are read whenever somebody arrives at the end, or begins to read events, so they are kept open: to
//! open them takes longer than to read them. A writer writes them in place and never puts others there; each
//! look at the directory opens them anew all the same.

use crate::error::{Error, Result};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::vfs::{File, OpenMode, Vfs};
use crate::wal::control_file::{read_control_in, ControlFound};
use crate::wal::layout::Layout;
use crate::wal::recovery::judge::read_tail;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watch {
    kept: Mutex<[Option<Arc<dyn File>>; 3]>,
}

const LOCK: usize = 0;
const TAIL: usize = 1;
const CONTROL: usize = 2;

impl Watch {
    fn kept(&self) -> MutexGuard<'_, [Option<Arc<dyn File>>; 3]> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody has the log open for writing.
    pub(super) fn writer_is_live(&self, vfs: &dyn Vfs, layout: &Layout) -> Result<bool> {
        self.file(vfs, LOCK, || layout.lock())
            .and_then(|file| file.map_or(Ok(false), |file| file.is_locked()))
            .map_err(|error| Error::io("look up lock", &layout.lock(), error))
    }

    /// The bytes of the tail page as they are now. Its loss is no error.
    pub(super) fn tail(&self, vfs: &dyn Vfs, layout: &Layout) -> Option<Vec<u8>> {
        let file = self.file(vfs, TAIL, || layout.tail()).ok()??;
        read_tail(file.as_ref())
    }

    /// The control file; errors as of [`read_control`](crate::wal::control_file::read_control).
    pub(super) fn control(&self, vfs: &dyn Vfs, layout: &Layout) -> Result<ControlFound> {
        match self.file(vfs, CONTROL, || layout.control()) {
            Ok(Some(file)) => read_control_in(file.as_ref(), layout),
            Ok(None) => Ok(ControlFound::lost()),
            Err(error) => Err(Error::io("open", &layout.control(), error)),
        }
    }

    /// One of the files; `None` if there is none.
    fn file(
        &self,
        vfs: &dyn Vfs,
        which: usize,
        path: impl FnOnce() -> PathBuf,
    ) -> io::Result<Option<Arc<dyn File>>> {
        if let Some(file) = &self.kept()[which] {
            return Ok(Some(Arc::clone(file)));
        }
        match vfs.open(&path(), OpenMode::Read) {
            Ok(file) => {
                self.kept()[which] = Some(Arc::clone(&file));
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
