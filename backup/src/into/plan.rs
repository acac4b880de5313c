//! Which files of a dump go back, in which order, by which lines; and what is left behind when one fails (pure).

use crate::database::feed::Feed;
use crate::database::{Target, mongo, mysql, postgres, redis, sqlite};
use crate::snapshot::{DumpFile, DumpKind, DumpRecord, DumpRole};

#[cfg(test)]
mod tests;

/// What the client answers to prove that it has read the whole of a text.
const ANSWER: &str = "chores-end-of-dump";

/// Feeds a command of the operator.
const COMMAND: &str = "run() { \"$@\"; }\n";

/// A dump, or files of one, that cannot go back like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No dump at all.
    #[error("the snapshot holds no database dump: restore it with --target or --volume")]
    NoDump,
    /// Several, and none was named.
    #[error("the snapshot holds several dumps ({0}): choose one with --source")]
    Several(String),
    /// None of this name.
    #[error("the snapshot holds no dump {wanted}: it holds {listed}")]
    NoSuchDump {
        /// What was asked for.
        wanted: String,
        /// The folders of its dumps.
        listed: String,
    },
    /// None of its files.
    #[error("the dump {dump} has no database {wanted}: it has {listed}")]
    NoSuchFile {
        /// The dump's folder.
        dump: String,
        /// What was asked for.
        wanted: String,
        /// What `--path` may name.
        listed: String,
    },
    /// Kinds whose dump is one stream.
    #[error(
        "a dump of {0} is one stream, of which no part goes back alone: leave --path out, or restore it into a scratch container"
    )]
    OneStream(DumpKind),
    /// Nobody here knows what takes it back.
    #[error(
        "the dump is the output of a program that is not known here: give the command that takes it back behind --"
    )]
    NoCommand,
    /// Nothing can be removed first.
    #[error(
        "the dump does not say which databases are in it, so --replace cannot remove them first: remove them in the server, and leave --replace out"
    )]
    UnknownDatabases,
    /// A command for what has a way of its own.
    #[error("a dump of {0} goes back by its own client: leave out what stands behind --")]
    Command(DumpKind),
    /// The snapshot is no backup.
    #[error(
        "the snapshot is not complete: its dump did not prove its end; --force restores what there is"
    )]
    Failed,
}

/// How a dump goes back.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Wishes {
    /// What is there already may go.
    pub replace: bool,
    /// Accounts of the dump take effect at once.
    pub accounts: bool,
    /// Missing directories are made.
    pub make: bool,
    /// The command that is fed.
    pub command: Vec<String>,
}

/// A dump and those of its files that go back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The dump.
    pub record: DumpRecord,
    /// Its files, in their order.
    pub files: Vec<DumpFile>,
}

/// One run of a client.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it does, as the words behind "cannot".
    pub act: String,
    /// The path in the snapshot of what it reads.
    pub file: Option<String>,
    /// Behind the file, for the client to answer to.
    pub tail: String,
    /// The answer that must come.
    pub answer: Option<&'static str>,
    /// The lines.
    pub feed: Feed,
    /// The state of the target when this step fails.
    pub after_failure: String,
}

/// Everything that is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tells what is there already.
    pub occupied: Option<Feed>,
    /// In order.
    pub steps: Vec<Step>,
}

/// The dump that is meant, and its files.
pub fn choose(
    dumps: &[DumpRecord],
    source: Option<&str>,
    paths: &[String],
) -> Result<Chosen, PlanError> {
    let listed = || {
        let paths = dumps.iter().map(|record| record.path.as_str());
        paths.collect::<Vec<_>>().join(", ")
    };
    let record = match (source, dumps) {
        (_, []) => return Err(PlanError::NoDump),
        (Some(wanted), _) => dumps
            .iter()
            .find(|record| record.path == wanted || name_of(record) == wanted)
            .ok_or_else(|| PlanError::NoSuchDump { wanted: wanted.to_owned(), listed: listed() })?,
        (None, [only]) => only,
        (None, _) => return Err(PlanError::Several(listed())),
    };
    if paths.is_empty() {
        return Ok(Chosen { record: record.clone(), files: record.files.clone() });
    }
    if !matches!(record.kind, DumpKind::Postgres | DumpKind::Sqlite) {
        return Err(PlanError::OneStream(record.kind));
    }
    let is_named = |file: &DumpFile, wanted: &str| {
        file.name == wanted
            || file.database.as_deref() == Some(wanted)
            || format!("{}/{}", record.path, file.name) == wanted
    };
    let files = &record.files;
    for wanted in paths {
        if !files.iter().any(|file| is_named(file, wanted)) {
            let names = files.iter().map(|file| file.database.as_deref().unwrap_or(&file.name));
            return Err(PlanError::NoSuchFile {
                dump: record.path.clone(),
                wanted: wanted.clone(),
                listed: names.collect::<Vec<_>>().join(", "),
            });
        }
    }
    let chosen = files.iter().filter(|file| paths.iter().any(|wanted| is_named(file, wanted)));
    Ok(Chosen { record: record.clone(), files: chosen.cloned().collect() })
}

/// The last part of a dump's folder.
pub(crate) fn name_of(record: &DumpRecord) -> &str {
    record.path.rsplit('/').next().unwrap_or(&record.path)
}

/// Refuses what cannot take the place of `found`: nobody knows what of it would have to go first.
pub(super) fn refuse_mixing(record: &DumpRecord, found: &[String]) -> Result<(), PlanError> {
    let is_unknown = record.kind == DumpKind::Mysql && record.databases.is_empty();
    if is_unknown && !found.is_empty() { Err(PlanError::UnknownDatabases) } else { Ok(()) }
}

/// Whether a dump is what some program wrote, whatever the database: by a command, or from standard input without
/// a format of which there is one way back.
pub(crate) fn is_of_unknown_program(record: &DumpRecord) -> bool {
    record.kind == DumpKind::Command
        || record.files.iter().any(|file| file.role == DumpRole::Output)
}

/// How `chosen` goes into `target`; `run` makes names unique.
pub fn plan(
    chosen: &Chosen,
    target: &Target,
    wishes: &Wishes,
    run: &str,
) -> Result<Plan, PlanError> {
    let record = &chosen.record;
    match (is_of_unknown_program(record), wishes.command.is_empty()) {
        (true, true) => return Err(PlanError::NoCommand),
        (true, false) => return Ok(of_command(chosen, wishes)),
        (false, false) => return Err(PlanError::Command(record.kind)),
        (false, true) => {}
    }
    Ok(match record.kind {
        DumpKind::Mysql => of_mysql(chosen, wishes),
        DumpKind::Postgres => of_postgres(chosen, run),
        DumpKind::Redis => of_redis(chosen, target),
        DumpKind::Mongo => of_mongo(chosen, wishes),
        DumpKind::Sqlite => of_sqlite(chosen, wishes),
        DumpKind::Command => of_command(chosen, wishes),
    })
}

fn path_of(record: &DumpRecord, file: &DumpFile) -> String {
    format!("{}/{}", record.path, file.name)
}

fn of_mysql(chosen: &Chosen, wishes: &Wishes) -> Plan {
    let record = &chosen.record;
    let mut steps = Vec::new();
    if wishes.replace && !record.databases.is_empty() {
        steps.push(Step {
            act: "remove the old databases".to_owned(),
            file: None,
            tail: String::new(),
            answer: None,
            feed: Feed::new(mysql::back::CLEAR, record.databases.clone()),
            after_failure: "some of the databases of the dump may be gone".to_owned(),
        });
    }
    steps.extend(chosen.files.iter().map(|file| {
        Step {
            act: "restore the databases".to_owned(),
            file: Some(path_of(record, file)),
            tail: format!("\nSELECT '{ANSWER}';\n"),
            answer: Some(ANSWER),
            feed: Feed::new(mysql::back::RESTORE, Vec::new()),
            after_failure:
                "the databases of the dump are there in part, since this server takes no such \
            change back: restore again with --replace"
                    .to_owned(),
        }
    }));
    if wishes.accounts {
        steps.push(Step {
            act: "let the accounts of the dump take effect".to_owned(),
            file: None,
            tail: String::new(),
            answer: None,
            feed: Feed::new(mysql::back::ACCOUNTS, Vec::new()),
            after_failure:
                "the data is restored; the accounts take effect when the server starts next"
                    .to_owned(),
        });
    }
    Plan { occupied: Some(Feed::new(mysql::back::OCCUPIED, Vec::new())), steps }
}

fn of_postgres(chosen: &Chosen, run: &str) -> Plan {
    let record = &chosen.record;
    let mut done: Vec<&str> = Vec::new();
    let mut steps = Vec::new();
    for file in &chosen.files {
        let restored = match done.as_slice() {
            [] => "no database was changed".to_owned(),
            done => format!("{} restored before it stay", done.join(", ")),
        };
        let path = Some(path_of(record, file));
        match (file.role, &file.database) {
            (DumpRole::Database, Some(name)) => {
                let old = format!("chores_old_{run}");
                steps.push(Step {
                    act: format!("restore the database {name}"),
                    file: path,
                    tail: String::new(),
                    answer: None,
                    after_failure: format!(
                        "an old database {name} is as it was, or still called {old} if the container ended \
                         meanwhile; {restored}"
                    ),
                    feed: Feed::new(postgres::back::RESTORE, vec![name.clone(), old]),
                });
                done.push(name);
            }
            _ => steps.push(Step {
                act: "restore roles and tablespaces".to_owned(),
                file: path,
                tail: format!("\nSELECT '{ANSWER}';\n"),
                answer: Some(ANSWER),
                feed: Feed::new(postgres::back::GLOBALS, Vec::new()),
                after_failure: format!("some roles of the dump may be there; {restored}"),
            }),
        }
    }
    let names = chosen.files.iter().filter_map(|file| file.database.clone()).collect();
    Plan { occupied: Some(Feed::new(postgres::back::OCCUPIED, names)), steps }
}

fn of_redis(chosen: &Chosen, target: &Target) -> Plan {
    let record = &chosen.record;
    let (mut args, secret) = redis::login(target);
    args.resize(2, String::new());
    let occupied =
        Feed { lines: redis::back::OCCUPIED, args: args.clone(), secret: secret.clone() };
    let steps = chosen.files.iter().map(|file| {
        let mut args = args.clone();
        args.push(file.bytes.to_string());
        Step {
            act: "restore the keys".to_owned(),
            file: Some(path_of(record, file)),
            tail: String::new(),
            answer: None,
            feed: Feed { lines: redis::back::RESTORE, args, secret: secret.clone() },
            after_failure:
                "the server has what it had, unless the copy broke off on its way in: then it is \
                empty; it takes writes again within a minute or two"
                    .to_owned(),
        }
    });
    Plan { occupied: Some(occupied), steps: steps.collect() }
}

fn of_mongo(chosen: &Chosen, wishes: &Wishes) -> Plan {
    let args: Vec<_> = wishes.replace.then(|| "--drop".to_owned()).into_iter().collect();
    let steps = chosen.files.iter().map(|file| Step {
        act: "restore the databases".to_owned(),
        file: Some(path_of(&chosen.record, file)),
        tail: String::new(),
        answer: None,
        feed: Feed::new(mongo::back::RESTORE, args.clone()),
        after_failure: "collections are there in part: restore again with --replace".to_owned(),
    });
    Plan { occupied: Some(Feed::new(mongo::back::OCCUPIED, Vec::new())), steps: steps.collect() }
}

fn of_sqlite(chosen: &Chosen, wishes: &Wishes) -> Plan {
    let make = if wishes.make { "make" } else { "keep" };
    let place =
        |file: &DumpFile| file.database.clone().unwrap_or_else(|| format!("/{}", file.name));
    let steps = chosen.files.iter().map(|file| Step {
        act: format!("put {} in place", place(file)),
        file: Some(path_of(&chosen.record, file)),
        tail: String::new(),
        answer: None,
        feed: Feed::new(
            sqlite::back::RESTORE,
            vec![place(file), file.bytes.to_string(), make.to_owned()],
        ),
        after_failure:
            "an old file is as it was; its log, if the container ended meanwhile, is called .chores-old-wal"
                .to_owned(),
    });
    let places = chosen.files.iter().map(place).collect();
    let occupied = (!wishes.make).then(|| Feed::new(sqlite::back::OCCUPIED, places));
    Plan { occupied, steps: steps.collect() }
}

fn of_command(chosen: &Chosen, wishes: &Wishes) -> Plan {
    let steps = chosen.files.iter().map(|file| Step {
        act: "restore by the command".to_owned(),
        file: Some(path_of(&chosen.record, file)),
        tail: String::new(),
        answer: None,
        feed: Feed::new(COMMAND, wishes.command.clone()),
        after_failure: "what the command had done by then stays".to_owned(),
    });
    Plan { occupied: None, steps: steps.collect() }
}
