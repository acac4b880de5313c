//! The end of a dump by its own format, checked while it streams.
//!
//! Bytes are passed on as they come; what is wrong is kept and told at the end, so that a broken dump can
//! still be stored for inspection.

mod line;
mod mongo;
mod pgdump;
mod postgres;
mod rdb;
mod sqlite;

#[cfg(test)]
mod tests;

use crate::database::Trailer;

use line::Line;
use mongo::Mongo;
use pgdump::PgDump;
use postgres::Postgres;
use rdb::Rdb;
use sqlite::Sqlite;

/// The format of a dump says that it is not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Flaw(pub(super) String);

impl Flaw {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// A check in progress.
#[derive(Debug)]
pub(super) enum Check {
    None,
    Line(Line),
    PgDump(Box<PgDump>),
    Postgres(Postgres),
    Rdb(Box<Rdb>),
    Mongo(Box<Mongo>),
    Sqlite(Sqlite),
}

impl Check {
    pub(super) fn new(trailer: &Trailer) -> Self {
        match trailer {
            Trailer::None => Self::None,
            Trailer::Line(text) => Self::Line(Line::new(*text, "dump-completed")),
            Trailer::Text(text) => Self::Line(Line::new(text.clone(), "text")),
            Trailer::Postgres => Self::Postgres(Postgres::default()),
            Trailer::PgDump => Self::PgDump(Box::default()),
            Trailer::Rdb => Self::Rdb(Box::default()),
            Trailer::Mongo => Self::Mongo(Box::default()),
            Trailer::Sqlite => Self::Sqlite(Sqlite::default()),
        }
    }

    /// Looks at the next bytes and passes on what belongs to the dump.
    pub(super) fn push<E>(
        &mut self,
        bytes: &[u8],
        pass: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::None => {}
            Self::Line(check) => check.push(bytes),
            Self::PgDump(check) => check.push(bytes),
            Self::Postgres(check) => check.push(bytes),
            Self::Rdb(check) => return check.push(bytes, pass),
            Self::Mongo(check) => check.push(bytes),
            Self::Sqlite(check) => check.push(bytes),
        }
        pass(bytes)
    }

    /// Passes on the rest and says what was proved, nothing where the format is not known; the names are those of `docs/backup-format.md`.
    pub(super) fn finish<E>(
        self,
        pass: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Result<Option<&'static str>, Flaw>, E> {
        Ok(match self {
            Self::None => Ok(None),
            Self::Line(check) => check.finish().map(Some),
            Self::PgDump(check) => check.finish(),
            Self::Postgres(check) => check.finish(),
            Self::Rdb(check) => check.finish(pass)?.map(Some),
            Self::Mongo(check) => check.finish().map(Some),
            Self::Sqlite(check) => check.finish().map(Some),
        })
    }
}
