//! Is a server ready, and is what it has sound? By kind (pure).

use super::feed::Feed;
use super::{Target, mongo, mysql, postgres, redis, sqlite};
use crate::snapshot::DumpKind;

/// Whether connections are taken. With `everywhere`, not by the socket alone. `None` for kinds without a server.
#[must_use]
pub fn ready(kind: DumpKind, target: &Target, everywhere: bool) -> Option<Feed> {
    let way = || vec![if everywhere { "tcp" } else { "socket" }.to_owned()];
    match kind {
        DumpKind::Mysql => Some(Feed::new(mysql::back::READY, way())),
        DumpKind::Postgres => Some(Feed::new(postgres::back::READY, way())),
        DumpKind::Redis => Some(of_redis(redis::back::READY, target)),
        DumpKind::Mongo => Some(Feed::new(mongo::back::READY, Vec::new())),
        DumpKind::Sqlite | DumpKind::Command => None,
    }
}

/// Counts and checks everything; `files` are the database files of a kind without a server. Writes
/// `rows=NAME=COUNT`, `checked=NAME`, and what `CHECK TABLE` answers. `None` for what nobody here knows.
#[must_use]
pub fn check(kind: DumpKind, target: &Target, files: Vec<String>) -> Option<Feed> {
    match kind {
        DumpKind::Mysql => Some(Feed::new(mysql::back::CHECK, Vec::new())),
        DumpKind::Postgres => Some(Feed::new(postgres::back::CHECK, Vec::new())),
        DumpKind::Redis => Some(of_redis(redis::back::CHECK, target)),
        DumpKind::Mongo => Some(Feed::new(mongo::back::CHECK, Vec::new())),
        DumpKind::Sqlite => Some(Feed::new(sqlite::back::CHECK, files)),
        DumpKind::Command => None,
    }
}

fn of_redis(lines: &'static str, target: &Target) -> Feed {
    let (args, secret) = redis::login(target);
    Feed { lines, args, secret }
}
