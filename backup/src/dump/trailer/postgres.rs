//! What PostgreSQL's programs write to one stream: the custom format of `pg_dump`, or text. A text of `pg_dumpall`
//! has the last line of `pg_dump` behind every database, so its head tells which line counts.

use super::{Flaw, Line, PgDump};
use crate::database::postgres::{CLUSTER_END, CLUSTER_START, TEXT_END};

/// Bytes that tell what it is.
const HEAD_BYTES: usize = 256;
/// The custom format.
const MAGIC: &[u8] = b"PGDMP";

/// One of them, once it is known which.
#[derive(Debug)]
pub(in super::super) enum Postgres {
    Unknown(Vec<u8>),
    Text(Line),
    Custom(Box<PgDump>),
}

impl Default for Postgres {
    fn default() -> Self {
        Self::Unknown(Vec::new())
    }
}

impl Postgres {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Text(check) => check.push(bytes),
            Self::Custom(check) => check.push(bytes),
            Self::Unknown(head) => {
                head.extend_from_slice(bytes);
                if head.len() >= HEAD_BYTES {
                    *self = known(head);
                }
            }
        }
    }

    pub(super) fn finish(self) -> Result<Option<&'static str>, Flaw> {
        match self {
            Self::Text(check) => check.finish().map(Some),
            Self::Custom(check) => check.finish(),
            Self::Unknown(head) => known(&head).finish(),
        }
    }
}

/// What has this head, which it is given.
fn known(head: &[u8]) -> Postgres {
    if head.starts_with(MAGIC) {
        let mut check = Box::<PgDump>::default();
        check.push(head);
        return Postgres::Custom(check);
    }
    let mut lines = head.get(..HEAD_BYTES).unwrap_or(head).split(|byte| *byte == b'\n');
    let is_cluster = lines.any(|line| line.trim_ascii() == CLUSTER_START.as_bytes());
    let mut check = Line::new(if is_cluster { CLUSTER_END } else { TEXT_END }, "dump-completed");
    check.push(head);
    Postgres::Text(check)
}
