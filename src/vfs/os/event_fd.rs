//! A descriptor that other programs' event loops can wait for.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

/// A counter that `poll` finds readable while it is not 0 (eventfd).
#[derive(Debug)]
pub(crate) struct EventFd(fs::File);

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(EventFd(unsafe { fs::File::from_raw_fd(fd) }))
    }

    pub(crate) fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Makes it readable. Fails only if it is so already, to the limit.
    pub(crate) fn signal(&self) {
        let _ = io::Write::write(&mut &self.0, &1u64.to_ne_bytes());
    }

    /// Makes it not readable. Fails only if it is not.
    pub(crate) fn drain(&self) {
        let _ = io::Read::read(&mut &self.0, &mut [0; 8]);
    }
}

#[cfg(test)]
mod tests {
    use crate::vfs::bell::Bell;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_bell_that_is_rung_while_it_is_silenced_is_heard() {
        const RINGS: u64 = 3_000_000;
        let bell = Bell::new().unwrap();
        let happened = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..RINGS {
                    happened.fetch_add(1, Ordering::SeqCst);
                    bell.ring();
                }
            });
            while happened.load(Ordering::SeqCst) < RINGS {
                let mut poll = libc::pollfd {
                    fd: bell.fd(),
                    events: libc::POLLIN,
                    revents: 0,
                };
                // SAFETY: one structure, which lives through the call.
                let readable = unsafe { libc::poll(&raw mut poll, 1, 20_000) } == 1;
                bell.silence();
                let seen = happened.load(Ordering::SeqCst);
                assert!(readable, "nobody rings after {seen} of {RINGS}");
            }
        });
    }
}
