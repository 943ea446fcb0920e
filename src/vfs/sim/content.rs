//! The bytes of one file, cheap to copy.
//!
//! Every change of a file and every crash state needs the whole file as it was at some moment, and
//! nearly all of it is the same as a moment before. So bytes live in pages of 512, pages in chunks
//! of 64, both shared until written: a copy is a few pointers, a sector taken over from another
//! version of the file is one pointer, and the hash of whatever did not change is remembered.
//!
//! Invariant: bytes at or beyond `len` are zero in every page, so that growing needs no work.

use super::random::mix;
use std::sync::{Arc, OnceLock};

const PAGE_LEN: usize = 512;
const CHUNK_PAGES: usize = 64;
const CHUNK_LEN: usize = PAGE_LEN * CHUNK_PAGES;

/// Longest file of the simulation: keeps a wild offset from costing real memory.
pub(super) const FILE_LEN_MAX: u64 = 1 << 36;

#[derive(Clone)]
struct Page {
    bytes: [u8; PAGE_LEN],
    hash: OnceLock<u64>,
}

impl Page {
    fn new(bytes: [u8; PAGE_LEN]) -> Self {
        Self {
            bytes,
            hash: OnceLock::new(),
        }
    }

    /// 0 if and only if (but for chance) all bytes are zero, like a page that is not there.
    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            if is_zero(&self.bytes) {
                return 0;
            }
            let mut lanes = [1u64, 2, 3, 4];
            for part in self.bytes.chunks_exact(32) {
                for (lane, word) in lanes.iter_mut().zip(part.chunks_exact(8)) {
                    let word = word.try_into().map_or(0, u64::from_le_bytes);
                    *lane = (*lane ^ word)
                        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                        .rotate_left(29);
                }
            }
            lanes.iter().fold(0, |hash, lane| mix(hash ^ lane))
        })
    }
}

#[derive(Clone)]
struct Chunk {
    pages: [Option<Arc<Page>>; CHUNK_PAGES],
    hash: OnceLock<u64>,
}

impl Chunk {
    fn new() -> Self {
        Self {
            pages: std::array::from_fn(|_| None),
            hash: OnceLock::new(),
        }
    }

    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            fold(
                self.pages
                    .iter()
                    .map(|page| page.as_ref().map_or(0, |page| page.hash())),
            )
        })
    }
}

/// A hash of hashes that does not see zeros at the end.
fn fold(hashes: impl Iterator<Item = u64>) -> u64 {
    let mut out = 0;
    for (index, hash) in hashes.enumerate() {
        if hash != 0 {
            out = mix(out ^ mix(hash.wrapping_add(index as u64)));
        }
    }
    out
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

/// A length or offset as an index. Larger than memory can hold only where `FILE_LEN_MAX` was not
/// checked, and then nothing is found there.
pub(super) fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The bytes of one file at one moment.
#[derive(Clone, Default)]
pub(super) struct Content {
    len: u64,
    chunks: Vec<Option<Arc<Chunk>>>,
}

impl Content {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Equal contents have equal hashes, however they came about.
    pub(super) fn hash(&self) -> u64 {
        mix(fold(
            self.chunks
                .iter()
                .map(|chunk| chunk.as_ref().map_or(0, |chunk| chunk.hash())),
        ) ^ self.len)
    }

    fn page(&self, page: usize) -> Option<&Arc<Page>> {
        self.chunks.get(page / CHUNK_PAGES)?.as_ref()?.pages[page % CHUNK_PAGES].as_ref()
    }

    fn page_slot(&mut self, page: usize) -> &mut Option<Arc<Page>> {
        let chunk = page / CHUNK_PAGES;
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, None);
        }
        let chunk = Arc::make_mut(self.chunks[chunk].get_or_insert_with(|| Arc::new(Chunk::new())));
        chunk.hash = OnceLock::new();
        &mut chunk.pages[page % CHUNK_PAGES]
    }

    /// Changes part of one page.
    fn edit(&mut self, page: usize, edit: impl FnOnce(&mut [u8; PAGE_LEN])) {
        let page = self
            .page_slot(page)
            .get_or_insert_with(|| Arc::new(Page::new([0; PAGE_LEN])));
        let page = Arc::make_mut(page);
        page.hash = OnceLock::new();
        edit(&mut page.bytes);
    }

    /// Reads up to the end of the file; the number of bytes read.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let len = index(self.len.saturating_sub(offset)).min(buf.len());
        let (start, mut done) = (index(offset), 0);
        while done < len {
            let at = start + done;
            let within = at % PAGE_LEN;
            let part = (PAGE_LEN - within).min(len - done);
            let to = &mut buf[done..done + part];
            match self.page(at / PAGE_LEN) {
                Some(page) => to.copy_from_slice(&page.bytes[within..within + part]),
                None => to.fill(0),
            }
            done += part;
        }
        len
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; index(self.len)];
        self.read(0, &mut bytes);
        bytes
    }

    /// Writes and grows.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let (start, mut done) = (index(offset), 0);
        while done < data.len() {
            let at = start + done;
            let (page, within) = (at / PAGE_LEN, at % PAGE_LEN);
            let part = (PAGE_LEN - within).min(data.len() - done);
            let from = &data[done..done + part];
            if is_zero(from) && self.page(page).is_none() {
                // Prepared space stays a hole: it is most of a log file.
            } else if let Ok(whole) = <[u8; PAGE_LEN]>::try_from(from) {
                *self.page_slot(page) = Some(Arc::new(Page::new(whole)));
            } else {
                self.edit(page, |bytes| {
                    bytes[within..within + part].copy_from_slice(from)
                });
            }
            done += part;
        }
        self.len = self.len.max(offset + data.len() as u64);
    }

    /// Cuts or grows with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (pages, within) = (index(len) / PAGE_LEN, index(len) % PAGE_LEN);
            self.chunks.truncate(index(len).div_ceil(CHUNK_LEN));
            let first = if within == 0 { pages } else { pages + 1 };
            let end = self.chunks.len() * CHUNK_PAGES;
            for page in first..end {
                if self.page(page).is_some() {
                    *self.page_slot(page) = None;
                }
            }
            if within != 0 && self.page(pages).is_some() {
                self.edit(pages, |bytes| bytes[within..].fill(0));
            }
        }
        self.len = len;
    }

    /// Whether both show the same bytes from `start` to `end`; zeros beyond an end.
    pub(super) fn same_range(&self, other: &Content, start: u64, end: u64) -> bool {
        let (mut at, stop) = (index(start), index(end));
        while at < stop {
            let (page, within) = (at / PAGE_LEN, at % PAGE_LEN);
            let part = (PAGE_LEN - within).min(stop - at);
            let same = match (self.page(page), other.page(page)) {
                (None, None) => true,
                (Some(one), Some(two)) => {
                    Arc::ptr_eq(one, two)
                        || one.bytes[within..within + part] == two.bytes[within..within + part]
                }
                (Some(page), None) | (None, Some(page)) => {
                    is_zero(&page.bytes[within..within + part])
                }
            };
            if !same {
                return false;
            }
            at += part;
        }
        true
    }

    /// Takes over the bytes from `start` to `end` of another version of the file (zeros beyond its
    /// end), and grows to hold them.
    pub(super) fn copy_range(&mut self, from: &Content, start: u64, end: u64) {
        let (mut at, stop) = (index(start), index(end));
        while at < stop {
            let (page, within) = (at / PAGE_LEN, at % PAGE_LEN);
            let part = (PAGE_LEN - within).min(stop - at);
            let source = from.page(page);
            if part == PAGE_LEN {
                if source.is_some() || self.page(page).is_some() {
                    *self.page_slot(page) = source.cloned();
                }
            } else if let Some(source) = source {
                self.edit(page, |bytes| {
                    bytes[within..within + part]
                        .copy_from_slice(&source.bytes[within..within + part])
                });
            } else if self.page(page).is_some() {
                self.edit(page, |bytes| bytes[within..within + part].fill(0));
            }
            at += part;
        }
        self.len = self.len.max(end);
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, hash {:016x}", self.len, self.hash())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::sim::Rng;

    /// The same random changes on a `Content` and on a plain vector.
    #[test]
    fn content_behaves_like_a_vector() {
        let mut rng = Rng::new(7);
        for _ in 0..200 {
            let (mut content, mut plain) = (Content::default(), Vec::<u8>::new());
            let mut old = (content.clone(), plain.clone());
            for _ in 0..30 {
                let at = index(rng.below(70_000));
                match rng.below(5) {
                    0 => {
                        content.set_len(at as u64);
                        plain.resize(at, 0);
                    }
                    1 => {
                        let end = (at + index(rng.below(3000))).min(old.1.len());
                        if at < end {
                            content.copy_range(&old.0, at as u64, end as u64);
                            plain.resize(plain.len().max(end), 0);
                            plain[at..end].copy_from_slice(&old.1[at..end]);
                        }
                    }
                    2 => old = (content.clone(), plain.clone()),
                    _ => {
                        let byte = u8::try_from(rng.below(3)).unwrap();
                        let data = vec![byte; index(rng.below(3000))];
                        content.write(at as u64, &data);
                        plain.resize(plain.len().max(at + data.len()), 0);
                        plain[at..at + data.len()].copy_from_slice(&data);
                    }
                }
                assert_eq!(content.len(), plain.len() as u64);
                assert!(content.to_vec() == plain);
                assert!(old.0.to_vec() == old.1);
                assert_eq!(content.hash(), Content::from_bytes(&plain).hash());
                let mut grown = content.clone();
                grown.set_len(FILE_LEN_MAX);
                let mut beyond = [9; 600];
                assert_eq!(grown.read(content.len(), &mut beyond), 600);
                assert!(is_zero(&beyond));
            }
        }
    }
}
