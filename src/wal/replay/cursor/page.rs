//! Many entries at once, as columns: what most callers read by, so each record costs little more here
//! than its checksum.
//!
//! A page points into the reader's window and ends where that would have to move. Whole batches, which
//! is what most logs are made of, are taken frame by frame ([`Cursor::take_whole_batches`]): each
//! record is looked at once, to see that it is well-formed and where it lies. All else comes entry by
//! entry, as from [`Cursor::next`], and gives the same.

use super::advance::Advance;
use super::delivery::{Delivery, Head};
use super::entry::{EntryKind, Item, Page};
use super::Cursor;
use crate::error::{Error, Result};
use crate::format::frame::{frame_flag, frame_type, FrameHeader};
use crate::format::record;
use crate::lsn::Seq;
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
            head: delivery.head,
            first_seq: delivery.next_seq,
            count,
            payload: payload.unwrap_or_default(),
            payload_begin,
            at: delivery.at,
        };
        self.columns.reserve(count as usize)?;
        let Some(at) = self.columns.push_records(&records, base) else {
            return Err(self.changed());
        };
        delivery.at = at;
        delivery.remaining -= count;
        delivery.next_seq += u64::from(count);
        if delivery.head.committed {
            self.floor = delivery.next_seq - 1;
        }
        Ok(Some(payload_begin + at))
    }

    /// Adds the frames that follow in the window, as long as each is a whole batch that the page has
    /// room for. Gives where the last of them ends in the window; `None` if there is none.
    ///
    /// Whatever is not of that kind, or not as it should be, is left for [`advance`](Self::advance).
    fn take_whole_batches(&mut self, base: usize, count_max: usize) -> Option<usize> {
        let standing = self.standing.as_mut()?;
        if self.raw || standing.beyond_end || standing.delivery.is_some() {
            return None;
        }
        let mut end = None;
        while !standing.structure.sealed {
            let room = count_max.saturating_sub(self.columns.count());
            let (seq_end, floor) = (standing.seq_end, self.floor);
            let wanted = |header: &FrameHeader| {
                let count = header.record_count as usize;
                header.frame_type == frame_type::BATCH
                    && header.has(frame_flag::BEGIN | frame_flag::COMMIT)
                    && header.first_seq > floor
                    && header.first_seq < seq_end
                    && count <= room
                    && count <= header.payload_len as usize / record::HEADER_LEN
            };
            let bookmark = standing.reader.bookmark();
            let Some(frame) = standing.reader.frame_in_window(wanted) else {
                break;
            };
            let header = &frame.header;
            let payload = standing.reader.window().get(frame.payload.clone());
            let records = Records {
                head: Head {
                    batch_id: header.lsn,
                    time_ns: header.time_ns,
                    committed: true,
                },
                first_seq: header.first_seq,
                count: header.record_count,
                payload: payload.unwrap_or_default(),
                payload_begin: frame.payload.start,
                at: 0,
            };
            let count_before = self.columns.count();
            let reserved = self.columns.reserve(header.record_count as usize);
            let accepted = reserved.is_ok()
                && standing
                    .structure
                    .accept_where(header, || {
                        let end = self.columns.push_records(&records, base);
                        end == Some(records.payload.len())
                    })
                    .is_ok();
            if !accepted {
                self.columns.truncate(count_before);
                standing.reader.return_to(bookmark);
                break;
            }
            self.floor = standing.structure.next_seq - 1;
            end = Some(frame.payload.end);
        }
        end
    }
}

/// Records of one frame.
struct Records<'a> {
    head: Head,
    first_seq: Seq,
    count: u32,
    payload: &'a [u8],
    /// Where the payload lies in the reader's window.
    payload_begin: usize,
    /// Where the first of them begins in the payload.
    at: usize,
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

    /// Adds the records of one frame that begin at `from.at` in its payload, `from.count` of them, for
    /// which there is room. Gives
    /// where in the payload the last of them ends; `None`, with nothing added, if they are not all
    /// there.
    ///
    /// What the records of a frame have in common is written column by column, which costs next to
    /// nothing for each.
    #[inline]
    fn push_records(&mut self, from: &Records<'_>, base: usize) -> Option<usize> {
        if from.count == 1 {
            return self.push_record(from, base);
        }
        let new = self.count..self.count + from.count as usize;
        let mut at = from.at;
        let places = part(&mut self.op, &new)
            .iter_mut()
            .zip(part(&mut self.key_begin, &new))
            .zip(part(&mut self.value_begin, &new))
            .zip(part(&mut self.value_end, &new));
        for (((op, key_begin), value_begin), value_end) in places {
            let span = record::decode(from.payload, at)?;
            *op = span.op;
            *key_begin = relative(from.payload_begin + span.key_begin, base);
            *value_begin = relative(from.payload_begin + span.value_begin, base);
            *value_end = relative(from.payload_begin + span.value_end, base);
            at = span.value_end;
        }
        let numbers = part(&mut self.seq, &new).iter_mut();
        for (seq, number) in numbers.zip(from.first_seq..) {
            *seq = number;
        }
        part(&mut self.batch_id, &new).fill(from.head.batch_id.0);
        part(&mut self.time_ns, &new).fill(from.head.time_ns);
        part(&mut self.kind, &new).fill(EntryKind::Record as u8);
        part(&mut self.committed, &new).fill(u8::from(from.head.committed));
        self.count = new.end;
        Some(at)
    }

    /// Like [`push_records`](Self::push_records), of one record: where each append is a batch of its own,
    /// what prepares the loops over columns would cost more than they do.
    #[inline]
    fn push_record(&mut self, from: &Records<'_>, base: usize) -> Option<usize> {
        let span = record::decode(from.payload, from.at)?;
        let item = Item {
            kind: EntryKind::Record,
            committed: from.head.committed,
            op: span.op,
            seq: from.first_seq,
            batch_id: from.head.batch_id,
            time_ns: from.head.time_ns,
            key_begin: from.payload_begin + span.key_begin,
            value_begin: from.payload_begin + span.value_begin,
            value_end: from.payload_begin + span.value_end,
        };
        self.push(&item, base);
        Some(span.value_end)
    }

    /// Forgets the entries behind the first `count`.
    fn truncate(&mut self, count: usize) {
        self.count = self.count.min(count);
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
