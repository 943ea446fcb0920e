//! A file descriptor that is readable while there may be something new.

use super::os::EventFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Bell {
    fd: EventFd,
    /// It was rung since it was silenced: ringing again costs nothing.
    rung: AtomicBool,
}

impl Bell {
    pub(crate) fn new() -> std::io::Result<Bell> {
        Ok(Bell {
            fd: EventFd::new()?,
            rung: AtomicBool::new(false),
        })
    }

    pub(crate) fn fd(&self) -> i32 {
        self.fd.number()
    }

    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            self.fd.signal();
        }
    }

    /// To be called before looking for what is new: what comes later rings again.
    pub(crate) fn silence(&self) {
        // In this order: the other way round, who rings in between is not heard and takes himself
        // for heard. This way he does not signal, and is in time to be seen.
        self.fd.drain();
        self.rung.swap(false, Ordering::SeqCst);
    }
}
