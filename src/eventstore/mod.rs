//! The event store: events in streams, on top of the log.
//!
//! ```text
//! append   request → sequencer (decide, encode) → one group of the log → catalog → subscribers
//! read     selection → catalog (positions → places) → reader (log) → page
//! ```
//!
//! An event is one record of the log and complete in itself (FORMAT.md section 20). What else there
//! is can be made from the log again: `index/` changes speed, never an answer.
//!
//! Positions and stream versions are given by the thread that leads a group, in the order in which
//! the log will hold them, so that they are gapless and none can appear later than a greater one.
//! Memory follows the disk: the catalog learns of events only after their group is acknowledged.

mod anchor;
mod catalog;
mod columns;
mod decide;
mod index;
mod lists;
mod name;
#[cfg(feature = "ndjson")]
pub mod ndjson;
mod published;
mod read_ahead;
mod reader;
mod replay;
mod request;
mod selection;
mod sequencer;
mod snapshot;
mod store;
mod subscription;

#[doc(hidden)]
pub use catalog::IndexLimits;
pub use catalog::{IndexDamage, IndexReport};
pub use reader::{EventPage, ReadEvent};
pub use request::{
    AppendReceipt, AppendRequest, Condition, Expectation, Expected, NewEvent, Query, QueryItem,
    SideRecord,
};
pub use selection::{Direction, Read, Selection};
pub use snapshot::Snapshot;
pub use store::{
    category, EventReader, EventStore, EventStoreOptions, NameInfo, NameKind, StoreStat, StreamInfo,
};
pub use subscription::{Canceller, SubscribeFrom, Subscription};
