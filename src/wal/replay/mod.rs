//! Reading what is there: `segment_reader` → `structure` → `cursor`.
//!
//! ```text
//! file → accepted frames → well-formed batches → records, marks
//! ```
//!
//! Never imports `append`: the two paths meet only in the bytes and in [`super::view`].

pub(crate) mod cursor;
mod read_ahead;
pub(crate) mod rebuild;
pub(crate) mod salvage;
pub(crate) mod segment_reader;
pub(crate) mod structure;
