//! **Duralog**: an embedded write-ahead log that a program can trust.
//!
//! Batches are atomic, durable before the call returns, and replayed whole or not at all, however
//! the program or the machine died. The files follow FORMAT.md; the C face is
//! `include/duralog.h`.
//!
//! ```
//! use duralog::{Durability, Record, Wal, WalOptions};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("log");
//! let wal = Wal::open(&path, &WalOptions::default())?;
//! wal.append_batch(
//!     &[Record::put(b"alice", b"-10"), Record::put(b"bob", b"+10")],
//!     Durability::AsOpened,
//! )?;
//! let mut cursor = wal.cursor(0)?;
//! while let Some(entry) = cursor.next()? {
//!     println!("{} {:?}", entry.seq, entry.key);
//! }
//! wal.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The two data paths:
//!
//! ```text
//! append   ffi → wal/append/: batch_encoder → group_committer → segment_writer → vfs
//! replay   vfs → wal/replay/: segment_reader → structure → cursor → ffi
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        // A length that does not fit is an error, never a wrapped number.
        clippy::cast_possible_truncation
    )
)]

pub mod error;
pub mod eventstore;
pub mod ffi;
pub mod format;
pub mod lsn;
mod sync;
pub mod vfs;
pub mod wal;
mod worker;

pub use error::{Error, ErrorKind, Result};
pub use lsn::{Lsn, Seq};
pub use wal::{
    BatchSource, BatchStatus, Checkpoint, Cursor, Durability, Entry, EntryKind, OpenHow,
    PackedBatch, Page, Receipt, Record, RecoveryPolicy, RecoveryReport, Stat, SyncMode, Verdict,
    Wal, WalOptions,
};
