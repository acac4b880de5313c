//! Sources that are not what they seem: an empty or missing mount, data that is suddenly gone or another one, the files of a
//! database that is being written.

mod brake;
mod database;
mod look;
mod shrink;

pub use brake::{Content, USUAL_RUNS, anomalies};
pub use database::{Database, Sign, Users, Verdict, judge, judge_unseen, sign};
pub use look::{Seen, look};
pub use shrink::{Before, shrunk_dumps, suspicions};
