//! Many entries at once, as columns: what most callers read by, so each record costs little more here
//! than its checksum.
//!
//! A page points into the reader's window and ends where that would have to move. Whole batches, which
//! is what most logs are made of, are taken frame by frame ([`Cursor::take_whole_batches`]): each
//! record is looked at once, to see that it is well-formed and where it lies. All else comes entry by
//! entry, as from [`Cursor::next`], and gives the same.

use super::advance::Advance;
use super::delivery::Delivery;
use super::entry::{EntryKind, Item, Page};
use super::Cursor;
use crate::error::{Error, Result};
use crate::format::frame::{frame_flag, frame_type, FrameHeader};
use crate::format::record;
use crate::lsn::{Lsn, Seq};
use std::ops::Range;

/// What was added to a page.
enum Filled {
    /// Records, the last of which ends here in the window.
    Records(usize),
    /// Nothing yet, but this is to be.
    Item(Item),
    /// Nothing can be without moving the window.
    Nothing,
}

impl Cursor {
    /// Up to `count_max` entries at once, at least one, or `None` at the end for now. Pages end
    /// where the bytes read together end, so a page may be shorter than `count_max` anywhere.
    pub fn next_page(&mut self, count_max: usize) -> Result<Option<Page<'_>>> {
        if count_max == 0 {
            return Err(Error::invalid("a page of 0 entries"));
        }
        self.columns.clear();
        self.columns.reserve(1)?;
        let Some(first) = self.next_item()? else {
            return Ok(None);
        };
        let base = first.key_begin;
        let mut end = first.value_end;
        self.columns.push(&first, base);
        while self.columns.count() < count_max && first.kind != EntryKind::Gap {
            // An error comes again with the next call, after what is good was delivered.
            match self.fill(base, count_max) {
                Ok(Filled::Records(last)) => end = end.max(last),
                Ok(Filled::Item(item)) => {
                    end = end.max(item.value_end);
                    self.columns.push(&item, base);
                }
                Ok(Filled::Nothing) | Err(_) => break,
            }
        }
        let bytes = self.bytes_of(&first).get(base..end);
        Ok(Some(self.columns.page(bytes.unwrap_or_default())))
    }

    /// Adds to a page what comes next, if that lies in the window.
    fn fill(&mut self, base: usize, count_max: usize) -> Result<Filled> {
        // Before anything is taken for which there would be no room.
        self.columns.reserve(1)?;
        loop {
            if let Some(last) = self.deliver_records(base, count_max)? {
                return Ok(Filled::Records(last));
            }
            if let Some(item) = self.deliver()? {
                return Ok(Filled::Item(item));
            }
            if let Some(last) = self.take_whole_batches(base, count_max) {
                return Ok(Filled::Records(last));
            }
            match self.advance(false)? {
                Advance::Item(item) => return Ok(Filled::Item(item)),
                Advance::Records => {}
                Advance::End | Advance::WouldRead => return Ok(Filled::Nothing),
            }
        }
    }

    /// Adds the records of the frame being delivered, as many as the page has room for. Gives where the
    /// last of them ends in the window; `None` if there are none to be added.
    fn deliver_records(&mut self, base: usize, count_max: usize) -> Result<Option<usize>> {
        let Some(standing) = &mut self.standing else {
            return Ok(None);
        };
        let waiting =
            |delivery: &&mut Delivery| delivery.remaining > 0 && delivery.next_seq > self.floor;
        let Some(delivery) = standing.delivery.as_mut().filter(waiting) else {
            return Ok(None);
        };
        let room = count_max.saturating_sub(self.columns.count());
        let count = delivery
            .remaining
            .min(u32::try_from(room).unwrap_or(u32::MAX));
        let payload = standing.reader.window().get(delivery.payload.clone());
        let payload_begin = delivery.payload.start;
        let records = Records {
            batch_id: delivery.head.batch_id,
            time_ns: delivery.head.time_ns,
            first_seq: delivery.next_seq,
            count,
            payload: payload.unwrap_or_default(),
            payload_begin,
            at: delivery.at,
        };
        self.columns.reserve(count as usize)?;
        let Some(at) = records.put(&mut self.columns.rows(count_max), base) else {
            return Err(self.changed());
        };
        self.columns
            .add_records(count as usize, delivery.head.committed);
        delivery.at = at;
        delivery.remaining -= count;
        delivery.next_seq += u64::from(count);
        if delivery.head.committed {
            self.floor = delivery.next_seq - 1;
        }
        Ok(Some(payload_begin + at))
    }

    /// Adds the frames that follow in the window, as long as each is a whole batch that the page has
    /// room for, without being made longer. Gives where the last of them ends in the window; `None` if
    /// there is none.
    ///
    /// Where each append is a batch of its own, what is done once for each frame is most of what reading
    /// costs beside the checksums. So what can be is done before or behind the loop.
    ///
    /// Whatever is not of that kind, or not as it should be, is left for [`advance`](Self::advance).
    fn take_whole_batches(&mut self, base: usize, count_max: usize) -> Option<usize> {
        let standing = self.standing.as_mut()?;
        let sealed = standing.structure.sealed;
        if self.raw || standing.beyond_end || sealed || standing.delivery.is_some() {
            return None;
        }
        let mut frames = standing.reader.frames_in_window()?;
        let mut rows = self.columns.rows(count_max);
        let (mut count, mut end) = (0, None);
        loop {
            let wanted = |header: &FrameHeader| {
                let count = header.record_count as usize;
                header.frame_type == frame_type::BATCH
                    && header.has(frame_flag::BEGIN | frame_flag::COMMIT)
                    && header.first_seq > self.floor
                    && header.first_seq < standing.seq_end
                    && count <= rows.len()
            };
            let Some(frame) = frames.next(wanted) else {
                break;
            };
            let records = Records {
                batch_id: frame.header.lsn,
                time_ns: frame.header.time_ns,
                first_seq: frame.header.first_seq,
                count: frame.header.record_count,
                payload: frame.payload,
                payload_begin: frame.payload_begin,
                at: 0,
            };
            let accepted = standing.structure.accept_whole_batch(&frame.header, || {
                records.put(&mut rows, base) == Some(frame.payload.len())
            });
            if !accepted {
                break;
            }
            frames.accept(&frame);
            count += frame.header.record_count as usize;
            self.floor = standing.structure.next_seq - 1;
            end = Some(frame.payload_begin + frame.payload.len());
        }
        drop(rows);
        let behind = frames.bookmark();
        standing.reader.return_to(behind);
        self.columns.add_records(count, true);
        end
    }
}

/// Records of one frame.
struct Records<'a> {
    batch_id: Lsn,
    time_ns: u64,
    first_seq: Seq,
    count: u32,
    payload: &'a [u8],
    /// Where the payload lies in the reader's window.
    payload_begin: usize,
    /// Where the first of them begins in the payload.
    at: usize,
}

impl Records<'_> {
    /// Writes them into the next rows, of which there are enough, with places that count from `base`.
    /// Gives where in the payload the last of them ends; `None` if they are not all there.
    #[inline]
    fn put<'r>(&self, rows: &mut impl Iterator<Item = Row<'r>>, base: usize) -> Option<usize> {
        let place = |at| relative(self.payload_begin + at, base);
        let mut at = self.at;
        for (_, seq) in (0..self.count).zip(self.first_seq..) {
            let row = rows.next()?;
            let span = record::decode(self.payload, at)?;
            *row.seq = seq;
            *row.batch_id = self.batch_id.0;
            *row.time_ns = self.time_ns;
            *row.op = span.op;
            *row.key_begin = place(span.key_begin);
            *row.value_begin = place(span.value_begin);
            *row.value_end = place(span.value_end);
            at = span.value_end;
        }
        Some(at)
    }
}

/// The places of one entry in the columns, but for those that [`Columns::add_records`] fills.
struct Row<'a> {
    seq: &'a mut u64,
    batch_id: &'a mut u64,
    time_ns: &'a mut u64,
    op: &'a mut u8,
    key_begin: &'a mut u32,
    value_begin: &'a mut u32,
    value_end: &'a mut u32,
}

/// The columns of a page being filled. What lies behind its `count` entries is kept as it is, so that
/// nothing has to be made zero for each page.
#[derive(Debug, Default)]
pub(super) struct Columns {
    count: usize,
    seq: Vec<u64>,
    batch_id: Vec<u64>,
    time_ns: Vec<u64>,
    kind: Vec<u8>,
    op: Vec<u8>,
    committed: Vec<u8>,
    key_begin: Vec<u32>,
    value_begin: Vec<u32>,
    value_end: Vec<u32>,
}

impl Columns {
    fn clear(&mut self) {
        self.count = 0;
    }

    fn count(&self) -> usize {
        self.count
    }

    /// The page, whose places count from the beginning of `bytes`.
    fn page<'a>(&'a self, bytes: &'a [u8]) -> Page<'a> {
        let count = self.count;
        Page {
            seq: first(&self.seq, count),
            batch_id: first(&self.batch_id, count),
            time_ns: first(&self.time_ns, count),
            kind: first(&self.kind, count),
            op: first(&self.op, count),
            committed: first(&self.committed, count),
            key_begin: first(&self.key_begin, count),
            value_begin: first(&self.value_begin, count),
            value_end: first(&self.value_end, count),
            bytes,
        }
    }

    /// Makes room for `more` entries.
    fn reserve(&mut self, more: usize) -> Result<()> {
        let needed = self.count.saturating_add(more);
        if needed <= self.seq.len() {
            return Ok(());
        }
        // Twice as many as before, or a page that grows record by record would be copied each time.
        let len = needed.max(self.seq.len().saturating_mul(2)).max(64);
        let grown = grow(&mut self.seq, len)
            && grow(&mut self.batch_id, len)
            && grow(&mut self.time_ns, len)
            && grow(&mut self.kind, len)
            && grow(&mut self.op, len)
            && grow(&mut self.committed, len)
            && grow(&mut self.key_begin, len)
            && grow(&mut self.value_begin, len)
            && grow(&mut self.value_end, len);
        if grown {
            Ok(())
        } else {
            Err(Error::no_memory("a page", len.saturating_mul(50)))
        }
    }

    /// Adds one entry, for which there is room. Its places will count from `base`.
    fn push(&mut self, item: &Item, base: usize) {
        let at = self.count;
        put(&mut self.seq, at, item.seq);
        put(&mut self.batch_id, at, item.batch_id.0);
        put(&mut self.time_ns, at, item.time_ns);
        put(&mut self.kind, at, item.kind as u8);
        put(&mut self.op, at, item.op);
        put(&mut self.committed, at, u8::from(item.committed));
        put(&mut self.key_begin, at, relative(item.key_begin, base));
        put(&mut self.value_begin, at, relative(item.value_begin, base));
        put(&mut self.value_end, at, relative(item.value_end, base));
        self.count += 1;
    }

    /// The room that is there for more entries, of which there are to be `count_max` at most. What is
    /// written there is an entry once [`add_records`](Self::add_records) counts it.
    ///
    /// The columns are as long as each other, which the iterator looks at once for each row: to look at
    /// each would take longer than to write it.
    #[inline]
    fn rows(&mut self, count_max: usize) -> impl ExactSizeIterator<Item = Row<'_>> {
        let end = self.seq.len().min(count_max);
        let new = self.count.min(end)..end;
        part(&mut self.seq, &new)
            .iter_mut()
            .zip(part(&mut self.batch_id, &new))
            .zip(part(&mut self.time_ns, &new))
            .zip(part(&mut self.op, &new))
            .zip(part(&mut self.key_begin, &new))
            .zip(part(&mut self.value_begin, &new))
            .zip(part(&mut self.value_end, &new))
            .map(
                |((((((seq, batch_id), time_ns), op), key_begin), value_begin), value_end)| Row {
                    seq,
                    batch_id,
                    time_ns,
                    op,
                    key_begin,
                    value_begin,
                    value_end,
                },
            )
    }

    /// Counts `count` more entries, which are the records that [`Records::put`] wrote, and says of them
    /// what is the same for all.
    fn add_records(&mut self, count: usize, committed: bool) {
        let new = self.count..self.count + count;
        part(&mut self.kind, &new).fill(EntryKind::Record as u8);
        part(&mut self.committed, &new).fill(u8::from(committed));
        self.count = new.end;
    }
}

fn grow<T: Clone + Default>(column: &mut Vec<T>, len: usize) -> bool {
    let reserved = column.try_reserve_exact(len.saturating_sub(column.len()));
    if reserved.is_ok() {
        column.resize(len, T::default());
    }
    reserved.is_ok()
}

fn put<T>(column: &mut [T], at: usize, value: T) {
    if let Some(place) = column.get_mut(at) {
        *place = value;
    }
}

fn first<T>(column: &[T], count: usize) -> &[T] {
    column.get(..count).unwrap_or_default()
}

fn part<'a, T>(column: &'a mut [T], new: &Range<usize>) -> &'a mut [T] {
    column.get_mut(new.clone()).unwrap_or_default()
}

fn relative(at: usize, base: usize) -> u32 {
    u32::try_from(at.saturating_sub(base)).unwrap_or(u32::MAX)
}
