//! Reading ahead: one thread per process copies the next pieces of a segment out of the disk's cache
//! while the caller looks at the one before.
//!
//! Most of the time of a long replay goes into that copy, which the kernel makes, and the rest into
//! checksums and the caller's own work: on two processors the two go on side by side. A reader asks
//! for pieces once it has read on for a while ([`Ahead`]), and always has the next ones asked for. A
//! piece that nobody has begun when it is needed the reader reads itself. While the thread is still at
//! it, the reader reads the one behind it, so that both copy if copying is what takes long. When a piece went
//! wrong the reader does without: the error comes again when it reads for itself.
//!
//! Nothing at or behind the reader's limit is asked for, so that no byte is read that may still
//! change.

use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::vfs::{read_full_at, File};
use crate::worker::{self, Worker};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of a piece: few enough to stay in a processor's own cache from the copy to the caller.
pub(super) const PIECE_LEN: usize = 256 << 10;

/// Bytes in front of a piece, for what is left of a frame that the end of the piece before cuts.
pub(super) const FRONT_LEN: usize = 64 << 10;

/// Pieces asked for at a time: one that the thread reads, one that the reader may read itself meanwhile,
/// and two more, so that the thread need not wait. Fewer and more of them were slower.
const PIECES: usize = 4;

/// So often may a reader forget what it asked for, because it goes on elsewhere or with a frame that is
/// too long, before it asks no more.
const IN_VAIN_MAX: u32 = 2;

/// The thread that reads the pieces of all readers.
static READER: Worker<(Arc<dyn File>, Arc<Piece>)> =
    Worker::new("duralog-read", |(file, piece)| piece.fill(file.as_ref()));

/// A piece of a file, or what was one and will be another.
#[derive(Debug)]
struct Piece {
    state: Mutex<State>,
    /// Signalled when it was read.
    read: Condvar,
}

/// A buffer begins with [`FRONT_LEN`] bytes that are the reader's.
#[derive(Debug)]
enum State {
    /// Nobody has begun to read the bytes from this offset on into this buffer.
    Waiting(u64, Vec<u8>),
    Reading,
    /// The buffer, if all of it could be read.
    Read(Option<Vec<u8>>),
}

impl Piece {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the piece, if nobody has begun to.
    fn fill(&self, file: &dyn File) {
        let mut state = self.state();
        let State::Waiting(offset, buffer) = &mut *state else {
            return;
        };
        let (offset, mut buffer) = (*offset, std::mem::take(buffer));
        *state = State::Reading;
        drop(state);
        let place = buffer.get_mut(FRONT_LEN..).unwrap_or_default();
        let wanted = place.len();
        let is_whole = read_full_at(file, offset, place).is_ok_and(|read| read == wanted);
        *self.state() = State::Read(is_whole.then_some(buffer));
        self.read.notify_all();
    }

    /// The buffer, when it was read.
    fn take(&self, file: &dyn File) -> Option<Vec<u8>> {
        self.fill(file);
        let mut state = self.state();
        loop {
            if let State::Read(buffer) = &mut *state {
                return buffer.take();
            }
            state = self
                .read
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The next pieces of one file, as one reader asked for them.
#[derive(Debug)]
pub(super) struct Ahead {
    fork_count: u64,
    /// In the order of the file, each where the one before ends.
    asked_for: VecDeque<Arc<Piece>>,
    /// Where the last of them ends.
    asked_to: u64,
    /// Pieces and buffers to be used again.
    spare: Vec<Arc<Piece>>,
    buffers: Vec<Vec<u8>>,
    in_vain: u32,
}

impl Ahead {
    /// Nothing asked for yet. `None` where there is no processor for it. `fork_count` is that of the file
    /// system, by which a child made by `fork` is told from its parent.
    pub(super) fn new(fork_count: u64) -> Option<Ahead> {
        worker::is_worth_it().then(|| Ahead::asking(fork_count))
    }

    fn asking(fork_count: u64) -> Ahead {
        Ahead {
            fork_count,
            asked_for: VecDeque::new(),
            asked_to: 0,
            spare: Vec::new(),
            buffers: Vec::new(),
            in_vain: 0,
        }
    }

    /// The piece that begins at `offset`, if it was asked for and can be had: [`PIECE_LEN`] bytes behind
    /// the front. All that was asked for is forgotten if it is another one.
    pub(super) fn take(&mut self, file: &dyn File, offset: u64) -> Option<Vec<u8>> {
        let asked_from = self.asked_to - (self.asked_for.len() * PIECE_LEN) as u64;
        if offset != asked_from {
            self.forget();
            return None;
        }
        let piece = self.asked_for.pop_front()?;
        if matches!(*piece.state(), State::Reading) {
            if let Some(next) = self.asked_for.front() {
                next.fill(file);
            }
        }
        let buffer = piece.take(file);
        self.spare.push(piece);
        if buffer.is_none() {
            self.forget();
        }
        buffer
    }

    /// Takes back a buffer that is not needed any more.
    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        if buffer.len() == FRONT_LEN + PIECE_LEN && self.buffers.len() < PIECES {
            self.buffers.push(buffer);
        }
    }

    /// Asks for the pieces behind `offset`, as far as they lie before `end`.
    pub(super) fn ask(&mut self, file: &Arc<dyn File>, offset: u64, end: u64) {
        while self.asked_for.len() < PIECES && self.in_vain < IN_VAIN_MAX {
            if self.asked_for.is_empty() {
                self.asked_to = offset;
            }
            if end.saturating_sub(self.asked_to) < PIECE_LEN as u64 {
                // Who stands at the end of the log may stay there for long.
                self.buffers.clear();
                return;
            }
            let Some(buffer) = self.buffers.pop().or_else(new_buffer) else {
                return;
            };
            let waiting = State::Waiting(self.asked_to, buffer);
            let piece = match self.spare.pop() {
                // The thread may come to it for what it was before, and reads it then.
                Some(piece) => {
                    *piece.state() = waiting;
                    piece
                }
                None => Arc::new(Piece {
                    state: Mutex::new(waiting),
                    read: Condvar::new(),
                }),
            };
            let task = (Arc::clone(file), Arc::clone(&piece));
            let is_same = |(_, asked_for): &(_, Arc<Piece>)| Arc::ptr_eq(asked_for, &piece);
            if !READER.ask(self.fork_count, task, is_same) {
                // Without a thread nothing is gained.
                self.in_vain = IN_VAIN_MAX;
                return;
            }
            self.asked_for.push_back(piece);
            self.asked_to += PIECE_LEN as u64;
        }
    }

    /// Forgets what was asked for.
    pub(super) fn forget(&mut self) {
        self.in_vain += u32::from(!self.asked_for.is_empty());
        for piece in self.asked_for.drain(..) {
            let mut state = piece.state();
            if matches!(*state, State::Waiting(..)) {
                // Nobody is to begin with it.
                *state = State::Read(None);
            }
        }
    }
}

/// A buffer for a piece, if there is memory for it.
fn new_buffer() -> Option<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(FRONT_LEN + PIECE_LEN).ok()?;
    buffer.resize(FRONT_LEN + PIECE_LEN, 0);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::mpsc;
    use std::thread::{self, ThreadId};

    const LEN: u64 = 8 * PIECE_LEN as u64;

    /// A file whose bytes tell where they stand, and who reads it.
    #[derive(Debug, Default)]
    struct Told {
        /// No byte from here on can be read.
        bad: Option<u64>,
        /// The first piece is read by the thread only when this says so.
        gate: Mutex<Option<mpsc::Receiver<()>>>,
        readers: Mutex<Vec<(u64, ThreadId)>>,
        begun: Condvar,
    }

    fn byte_at(offset: u64) -> u8 {
        u8::try_from((offset ^ (offset >> 8) ^ (offset >> 16)) & 0xff).unwrap()
    }

    impl File for Told {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            let mut readers = self.readers.lock().unwrap();
            readers.push((offset, thread::current().id()));
            drop(readers);
            self.begun.notify_all();
            let gate = self.gate.lock().unwrap().take();
            if let Some(gate) = gate {
                let _ = gate.recv();
            }
            if self.bad.is_some_and(|bad| offset + buf.len() as u64 > bad) {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            for (byte, at) in buf.iter_mut().zip(offset..LEN) {
                *byte = byte_at(at);
            }
            Ok(buf.len())
        }
        fn write_at(&self, _: u64, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn len(&self) -> io::Result<u64> {
            Ok(LEN)
        }
        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn nth(number: u64) -> u64 {
        100 + number * PIECE_LEN as u64
    }

    fn assert_is_piece(buffer: &[u8], offset: u64) {
        assert_eq!(buffer.len(), FRONT_LEN + PIECE_LEN);
        let is_right = |(at, &byte): (usize, &u8)| byte == byte_at(offset + at as u64);
        assert!(buffer[FRONT_LEN..].iter().enumerate().all(is_right));
    }

    #[test]
    fn pieces_come_in_order_up_to_the_end() {
        let file: Arc<dyn File> = Arc::new(Told::default());
        let mut ahead = Ahead::asking(0);
        let end = nth(6) + 5;
        for number in 0..6 {
            ahead.ask(&file, nth(number), end);
            assert!(ahead.asked_for.len() == PIECES.min(6 - usize::try_from(number).unwrap()));
            let piece = ahead.take(file.as_ref(), nth(number)).unwrap();
            assert_is_piece(&piece, nth(number));
            ahead.give_back(piece);
        }
        ahead.ask(&file, nth(6), end);
        assert!(ahead.asked_for.is_empty() && ahead.buffers.is_empty());
        assert_eq!(ahead.in_vain, 0);
    }

    #[test]
    fn who_goes_on_elsewhere_gets_nothing_and_soon_asks_no_more() {
        let file: Arc<dyn File> = Arc::new(Told::default());
        let mut ahead = Ahead::asking(0);
        for _ in 0..IN_VAIN_MAX {
            ahead.ask(&file, nth(0), LEN);
            assert!(!ahead.asked_for.is_empty());
            assert!(ahead.take(file.as_ref(), nth(0) + 1).is_none());
            assert!(ahead.asked_for.is_empty());
        }
        ahead.ask(&file, nth(0), LEN);
        assert!(ahead.asked_for.is_empty());
    }

    #[test]
    fn a_piece_that_cannot_be_read_is_none() {
        let file: Arc<dyn File> = Arc::new(Told {
            bad: Some(nth(2)),
            ..Told::default()
        });
        let mut ahead = Ahead::asking(0);
        ahead.ask(&file, nth(0), LEN);
        for number in 0..2 {
            let piece = ahead.take(file.as_ref(), nth(number));
            assert_is_piece(&piece.unwrap(), nth(number));
        }
        assert!(ahead.take(file.as_ref(), nth(2)).is_none());
        assert!(ahead.asked_for.is_empty());
    }

    #[test]
    fn the_reader_reads_the_next_piece_while_the_thread_is_at_this_one() {
        let (open, gate) = mpsc::channel();
        let told = Arc::new(Told {
            gate: Mutex::new(Some(gate)),
            ..Told::default()
        });
        let file: Arc<dyn File> = told.clone();
        let mut ahead = Ahead::asking(0);
        ahead.ask(&file, nth(0), LEN);
        let mut readers = told.readers.lock().unwrap();
        while readers.is_empty() {
            readers = told.begun.wait(readers).unwrap();
        }
        drop(readers);
        // Opens the gate when somebody has read something else.
        let watch = thread::spawn(move || {
            let mut readers = told.readers.lock().unwrap();
            while readers.len() < 2 {
                readers = told.begun.wait(readers).unwrap();
            }
            open.send(()).unwrap();
            readers.clone()
        });
        let first = ahead.take(file.as_ref(), nth(0)).unwrap();
        assert_is_piece(&first, nth(0));
        let readers = watch.join().unwrap();
        assert_eq!(readers[1], (nth(1), thread::current().id()));
        assert_ne!(readers[0].1, readers[1].1);
        let second = ahead.take(file.as_ref(), nth(1)).unwrap();
        assert_is_piece(&second, nth(1));
    }
}
