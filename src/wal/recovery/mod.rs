//! Deciding on open what is there, by evidence (FORMAT.md sections 12 and 13), and going on after
//! an unclean end (section 14.6).
//!
//! ```text
//! survey → judge → (policy) → restart → the segment writer starts
//! ```
//!
//! Judging reads only. Restarting writes only new files and gives them their names by rename; it may
//! die at any point, and the next open comes to the same records.

pub(crate) mod decision;
pub(crate) mod judge;
pub(crate) mod repair;
pub(crate) mod restart;
