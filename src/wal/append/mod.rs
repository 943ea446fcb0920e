//! Writing: `batch_encoder` → `group_committer` → `segment_writer` → vfs.
//!
//! ```text
//! thread 1  encode ─┐
//! thread 2  encode ─┼─→ open group ─→ leader: assign LSNs, one write, one sync ─→ everyone returns
//! thread 3  encode ─┘        └ fills again while the leader syncs
//! ```
//!
//! Never imports `replay`: the two paths meet only in the bytes and in [`super::view`].

pub(crate) mod batch_encoder;
pub(crate) mod group;
pub(crate) mod group_committer;
pub(crate) mod leaders;
pub(crate) mod ready_pool;
pub(crate) mod room;
pub(crate) mod segment_writer;
pub(crate) mod tail;
