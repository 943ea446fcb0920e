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
//!
//! Where frames are small, their checksums take longer than the copy leaves the reader time for. So the
//! thread computes those of the payloads as well, while the bytes are at hand ([`Sum`]). It holds them
//! against nothing: whether a frame is accepted is for the reader to say.

use crate::format::checksum::crc32;
use crate::format::frame::{self, FrameHeader};
use crate::format::segment_header::SegmentHeader;
use crate::lsn::Lsn;
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

/// Greatest payload of which a checksum is worth computing ahead: for larger ones it takes little beside the copy.
const SUMMED_LEN_MAX: usize = 4 << 10;

/// The first frame of a piece is looked for so far.
const SEARCHED_LEN: usize = 2 * SUMMED_LEN_MAX;

/// The thread that reads the pieces of all readers.
static READER: Worker<(Arc<dyn File>, Arc<Piece>)> =
    Worker::new("duralog-read", |(file, piece)| {
        piece.fill(file.as_ref(), true)
    });

/// A piece of a file, or what was one and will be another.
#[derive(Debug)]
struct Piece {
    state: Mutex<State>,
    /// Signalled when it was read.
    read: Condvar,
}

#[derive(Debug)]
enum State {
    /// Nobody has begun to read this place of the file into this buffer.
    Waiting(Start, Buffer),
    Reading,
    /// The buffer, if all of it could be read.
    Read(Option<Buffer>),
}

/// Where a piece begins.
#[derive(Clone, Copy, Debug)]
struct Start {
    offset: u64,
    /// LSN of the byte there.
    lsn: Lsn,
    /// That of the segment.
    salt: u32,
}

/// The bytes of a piece, behind a front of [`FRONT_LEN`], and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    /// Checksums of payloads that lie in it whole, in order; not of all.
    pub(super) sums: Vec<Sum>,
}

/// The checksum of some bytes of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sum {
    /// Where they begin.
    pub(super) begin: usize,
    pub(super) len: usize,
    pub(super) crc: u32,
}

impl Buffer {
    /// One for a piece, if there is memory for it.
    fn new() -> Option<Buffer> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(FRONT_LEN + PIECE_LEN).ok()?;
        bytes.resize(FRONT_LEN + PIECE_LEN, 0);
        let sums = Vec::new();
        Some(Buffer { bytes, sums })
    }

    fn piece(&mut self) -> &mut [u8] {
        self.bytes.get_mut(FRONT_LEN..).unwrap_or_default()
    }

    /// Computes the checksums of the payloads that the piece has where frames seem to be, as far as there
    /// is memory for them.
    fn sum(&mut self, start: Start) {
        let piece = self.bytes.get(FRONT_LEN..).unwrap_or_default();
        let claimed_at = |at: usize| {
            let lsn = Lsn(start.lsn.0.wrapping_add(at as u64));
            let len = FrameHeader::claimed_payload_len(piece.get(at..)?, start.salt, lsn)?;
            usize::try_from(len).ok()
        };
        self.sums.clear();
        // Frames stand at multiples of 8.
        let first = (8 - start.lsn.0 % 8) % 8;
        let searched = (first as usize..SEARCHED_LEN).step_by(8);
        let mut at = searched.into_iter().find(|&at| claimed_at(at).is_some());
        while let Some((begin, len)) =
            at.and_then(|at| Some((at + frame::HEADER_LEN, claimed_at(at)?)))
        {
            let Some(payload) = piece.get(begin..).and_then(|rest| rest.get(..len)) else {
                return;
            };
            if len <= SUMMED_LEN_MAX {
                if self.sums.try_reserve(1).is_err() {
                    return;
                }
                self.sums.push(Sum {
                    begin: FRONT_LEN + begin,
                    len,
                    crc: crc32(payload),
                });
            }
            at = Some(begin + len.next_multiple_of(8));
        }
    }
}

impl Piece {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the piece, if nobody has begun to; with checksums if that is wanted.
    fn fill(&self, file: &dyn File, with_sums: bool) {
        let mut state = self.state();
        let State::Waiting(start, buffer) = &mut *state else {
            return;
        };
        let (start, mut buffer) = (*start, std::mem::take(buffer));
        *state = State::Reading;
        drop(state);
        buffer.sums.clear();
        let place = buffer.piece();
        let wanted = place.len();
        let is_whole = read_full_at(file, start.offset, place).is_ok_and(|read| read == wanted);
        if is_whole && with_sums {
            buffer.sum(start);
        }
        *self.state() = State::Read(is_whole.then_some(buffer));
        self.read.notify_all();
    }

    /// The buffer, when it was read.
    fn take(&self, file: &dyn File) -> Option<Buffer> {
        self.fill(file, false);
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
    buffers: Vec<Buffer>,
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
    pub(super) fn take(&mut self, file: &dyn File, offset: u64) -> Option<Buffer> {
        let asked_from = self.asked_to - (self.asked_for.len() * PIECE_LEN) as u64;
        if offset != asked_from {
            self.forget();
            return None;
        }
        let piece = self.asked_for.pop_front()?;
        if matches!(*piece.state(), State::Reading) {
            if let Some(next) = self.asked_for.front() {
                next.fill(file, false);
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
    pub(super) fn give_back(&mut self, buffer: Buffer) {
        if buffer.bytes.len() == FRONT_LEN + PIECE_LEN && self.buffers.len() < PIECES {
            self.buffers.push(buffer);
        }
    }

    /// Asks for the pieces behind `offset` of the segment with this header, as far as they lie before `end`.
    pub(super) fn ask(
        &mut self,
        file: &Arc<dyn File>,
        header: &SegmentHeader,
        offset: u64,
        end: u64,
    ) {
        while self.asked_for.len() < PIECES && self.in_vain < IN_VAIN_MAX {
            if self.asked_for.is_empty() {
                self.asked_to = offset;
            }
            if end.saturating_sub(self.asked_to) < PIECE_LEN as u64 {
                // Who stands at the end of the log may stay there for long.
                self.buffers.clear();
                return;
            }
            let Some(buffer) = self.buffers.pop().or_else(Buffer::new) else {
                return;
            };
            let start = Start {
                offset: self.asked_to,
                lsn: header.lsn_at(self.asked_to),
                salt: header.salt,
            };
            let waiting = State::Waiting(start, buffer);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::segment_header::tests::example;
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

    fn assert_is_piece(buffer: &Buffer, offset: u64) {
        assert_eq!(buffer.bytes.len(), FRONT_LEN + PIECE_LEN);
        let is_right = |(at, &byte): (usize, &u8)| byte == byte_at(offset + at as u64);
        assert!(buffer.bytes[FRONT_LEN..].iter().enumerate().all(is_right));
    }

    /// A buffer with frames of these payloads, each of bytes of their own, from `at` of the piece on.
    fn of_frames(start: Start, mut at: usize, lens: &[usize]) -> (Buffer, Vec<Sum>) {
        let mut buffer = Buffer::new().unwrap();
        let mut sums = Vec::new();
        for (number, &len) in lens.iter().enumerate() {
            let payload = vec![u8::try_from(number % 255).unwrap(); len];
            let lsn = Lsn(start.lsn.0 + at as u64);
            let frame = FrameHeader {
                payload_len: u32::try_from(len).unwrap(),
                salt: start.salt,
                lsn,
                ..frame::tests::example()
            };
            let begin = FRONT_LEN + at + frame::HEADER_LEN;
            let encoded = frame.encode();
            let bytes = encoded.iter().chain(&payload);
            for (to, &byte) in buffer.bytes.iter_mut().skip(FRONT_LEN + at).zip(bytes) {
                *to = byte;
            }
            if len <= SUMMED_LEN_MAX && begin + len <= buffer.bytes.len() {
                let crc = crc32(&payload);
                sums.push(Sum { begin, len, crc });
            }
            at += usize::try_from(frame.frame_len()).unwrap();
        }
        (buffer, sums)
    }

    #[test]
    fn pieces_come_in_order_up_to_the_end() {
        let file: Arc<dyn File> = Arc::new(Told::default());
        let mut ahead = Ahead::asking(0);
        let end = nth(6) + 5;
        for number in 0..6 {
            ahead.ask(&file, &example(), nth(number), end);
            assert!(ahead.asked_for.len() == PIECES.min(6 - usize::try_from(number).unwrap()));
            let piece = ahead.take(file.as_ref(), nth(number)).unwrap();
            assert_is_piece(&piece, nth(number));
            ahead.give_back(piece);
        }
        ahead.ask(&file, &example(), nth(6), end);
        assert!(ahead.asked_for.is_empty() && ahead.buffers.is_empty());
        assert_eq!(ahead.in_vain, 0);
    }

    #[test]
    fn who_goes_on_elsewhere_gets_nothing_and_soon_asks_no_more() {
        let file: Arc<dyn File> = Arc::new(Told::default());
        let mut ahead = Ahead::asking(0);
        for _ in 0..IN_VAIN_MAX {
            ahead.ask(&file, &example(), nth(0), LEN);
            assert!(!ahead.asked_for.is_empty());
            assert!(ahead.take(file.as_ref(), nth(0) + 1).is_none());
            assert!(ahead.asked_for.is_empty());
        }
        ahead.ask(&file, &example(), nth(0), LEN);
        assert!(ahead.asked_for.is_empty());
    }

    #[test]
    fn a_piece_that_cannot_be_read_is_none() {
        let file: Arc<dyn File> = Arc::new(Told {
            bad: Some(nth(2)),
            ..Told::default()
        });
        let mut ahead = Ahead::asking(0);
        ahead.ask(&file, &example(), nth(0), LEN);
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
        ahead.ask(&file, &example(), nth(0), LEN);
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

    #[test]
    fn checksums_are_those_of_the_small_payloads_that_lie_in_the_piece_whole() {
        let start = Start {
            offset: 1 << 16,
            lsn: Lsn((1 << 20) + 4),
            salt: 2,
        };
        let mut lens = vec![0, 3, SUMMED_LEN_MAX, SUMMED_LEN_MAX + 1, 60_000];
        lens.extend([256; 1000]);
        let (mut buffer, expected) = of_frames(start, 132, &lens);
        buffer.sum(start);
        assert_eq!(buffer.sums, expected);
        assert!(expected.len() > 500 && expected.len() < 1000);
        let others = [
            Start { salt: 3, ..start },
            Start {
                lsn: Lsn(start.lsn.0 + 8),
                ..start
            },
        ];
        for other in others {
            buffer.sum(other);
            assert!(buffer.sums.is_empty(), "of another place: {other:?}");
        }
        let (mut far, _) = of_frames(start, SEARCHED_LEN + 4, &[256]);
        far.sum(start);
        assert!(far.sums.is_empty());
    }

    #[test]
    fn lengths_that_cannot_be_end_the_search_for_checksums() {
        let start = Start {
            offset: 0,
            lsn: Lsn(4096),
            salt: 2,
        };
        for len in [PIECE_LEN, 1 << 31, u32::MAX as usize] {
            let (mut buffer, expected) = of_frames(start, 0, &[256, 256]);
            let second = FRONT_LEN + 256 + frame::HEADER_LEN;
            let len = u32::try_from(len).unwrap().to_le_bytes();
            buffer.bytes[second + 8..second + 12].copy_from_slice(&len);
            buffer.sum(start);
            assert_eq!(buffer.sums, expected[..1]);
        }
    }
}
