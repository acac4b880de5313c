//! Sources that are not what they seem: an empty or missing mount, data that is suddenly gone, the files of a database
//! that is being written.

mod database;
mod look;
mod shrink;

pub use database::{Database, Sign, Users, Verdict, judge, judge_unseen, sign};
pub use look::{Seen, look};
pub use shrink::{Before, suspicions};
