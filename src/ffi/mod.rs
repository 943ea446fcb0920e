//! The C face: convert, guard, call. Nothing is decided here.
//!
//! `include/duralog.h` is generated from these files, one after the other in learning order (the
//! list is in `tests/header.rs`), so their comments are written for readers of C: what a comment
//! says here is what the manual says there. What all functions have in common stands once, as
//! numbered conventions, at the top of the header (`cbindgen.toml`).
//!
//! What must hold in every function:
//!
//! - the whole body runs inside [`guard`](guard::guard), so that no panic unwinds into C and the
//!   last error of the thread is written in one place;
//! - every pointer goes through [`args`], [`sized`] or [`handle`] before it is used, every length
//!   and number is checked before it is believed;
//! - outputs are written at the very end, when nothing can fail any more.
//!
//! Functions are written out, never made by a macro: cbindgen does not see those.

#![allow(
    non_camel_case_types,
    reason = "types carry their C names, which are what the documentation of both sides speaks of"
)]
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "in comments written for C, brackets are indices"
)]
#![allow(
    clippy::missing_safety_doc,
    reason = "the contract of every function is the numbered conventions of the header; a section \
              in each comment would be copied into the manual"
)]

pub mod append;
pub mod append_async;
pub mod cursor;
pub mod eventstore;
pub mod eventstore_append;
pub mod eventstore_columns;
pub mod eventstore_cursor;
pub mod eventstore_facts;
pub mod eventstore_names;
#[cfg(feature = "ndjson")]
pub mod eventstore_ndjson;
pub mod eventstore_pack;
pub mod eventstore_query;
pub mod eventstore_receipt;
pub mod eventstore_snapshot;
pub mod eventstore_subscription;
pub mod eventstore_verify;
pub mod last_error;
pub mod maintain;
pub mod options;
pub mod recovery_report;
pub mod replay;
pub mod spans;
pub mod stat;
pub mod status;
pub mod verify;
pub mod version;
pub mod wal;

mod args;
mod different;
mod eventstore_draft;
mod guard;
mod handle;
mod sized;
