//! What is to be saved, and the words with which this program is called for it (pure).

use serde::{Deserialize, Serialize};

use crate::machine::{BOOT_TAG, NODE_TAG};
use crate::retain::Retain;
use crate::schedule::Cron;
use crate::snapshot::{DumpKind, ENGINE_TAG};

#[cfg(test)]
mod tests;

/// Something that is saved by itself, again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// What it and its snapshots are called.
    pub name: String,
    /// The container whose labels order it; `None` for one of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<ByContainer>,
    /// What is saved.
    pub what: What,
    /// Who holds still meanwhile.
    #[serde(default, skip_serializing_if = "Quiesce::is_empty")]
    pub still: Quiesce,
    /// Patterns of paths that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// When.
    pub schedule: Cron,
    /// Which snapshots are kept; all of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<Retain>,
    /// When the newest backup is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Cron>,
    /// How long a run may take, in seconds.
    pub time_max_seconds: u64,
    /// How long after its time a good run may be missing, in seconds.
    pub overdue_after_seconds: u64,
}

/// The container whose labels order a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByContainer {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name, which changes with each task of Swarm.
    pub name: String,
    /// When its last run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<jiff::Timestamp>,
}

/// What is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum What {
    /// All volumes of a container, with a dump of a database in the same snapshot where one is named.
    Container {
        /// The container.
        name: String,
        /// The database.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dump: Option<Dump>,
    },
    /// Volumes, with a dump as above.
    Volumes {
        /// Their names.
        names: Vec<String>,
        /// The database.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dump: Option<Dump>,
    },
    /// Paths as this process sees them.
    Paths {
        /// Absolute ones.
        paths: Vec<String>,
    },
    /// A database alone.
    Dump {
        /// Which.
        dump: Dump,
        /// The program whose output is the dump; without one, the database's own client.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        command: Vec<String>,
    },
}

/// A database in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dump {
    /// The container.
    pub container: String,
    /// Its kind; recognised without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<DumpKind>,
}

/// Who holds still while something is saved, and what runs before and behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quiesce {
    /// Containers that are paused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pause: Vec<String>,
    /// Containers that are stopped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Container and command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre: Vec<(String, String)>,
    /// Container and command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub post: Vec<(String, String)>,
    /// As `--max-pause`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pause: Option<String>,
}

/// Under which names it is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The host name.
    pub host: String,
    /// What the engine calls itself, where it does.
    pub engine: Option<String>,
    /// Which node of a Swarm it is.
    pub node: Option<String>,
    /// The boot of the machine, where it is the engine's.
    pub boot: Option<String>,
}

impl Names {
    /// The labels of snapshots.
    fn tags(&self) -> impl Iterator<Item = String> {
        let tags = [(ENGINE_TAG, &self.engine), (NODE_TAG, &self.node), (BOOT_TAG, &self.boot)];
        tags.into_iter().filter_map(|(key, value)| Some(format!("--tag={key}={}", value.as_ref()?)))
    }

    /// What tells `forget` and `learn` which snapshots are those of another machine.
    #[must_use]
    pub fn own(&self) -> Vec<String> {
        let node = self.node.as_deref().unwrap_or_default();
        let boot = self.boot.iter().map(|boot| format!("--own-boot={boot}"));
        std::iter::once(format!("--own-node={node}")).chain(boot).collect()
    }
}

impl Quiesce {
    /// Whether nobody holds still and nothing runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn words(&self) -> impl Iterator<Item = String> {
        let pause = self.pause.iter().map(|name| format!("--pause={name}"));
        let stop = self.stop.iter().map(|name| format!("--stop={name}"));
        let pre = self.pre.iter().map(|(name, command)| format!("--pre={name}={command}"));
        let post = self.post.iter().map(|(name, command)| format!("--post={name}={command}"));
        let limit = self.max_pause.iter().map(|time| format!("--max-pause={time}"));
        pause.chain(stop).chain(pre).chain(post).chain(limit)
    }
}

impl Dump {
    /// `CONTAINER=KIND`.
    fn word(&self) -> String {
        match self.kind {
            Some(kind) => format!("--dump={}={kind}", self.container),
            None => format!("--dump={}", self.container),
        }
    }
}

impl Job {
    /// What makes a backup of it.
    #[must_use]
    pub fn save(&self, names: &Names) -> Vec<String> {
        let mut words = Vec::new();
        let mut behind = Vec::new();
        match &self.what {
            What::Container { name, dump } => {
                words.extend(["create".to_owned(), format!("--volumes-from={name}")]);
                words.extend(dump.iter().map(Dump::word));
            }
            What::Volumes { names, dump } => {
                words.push("create".to_owned());
                words.extend(names.iter().map(|name| format!("--volume={name}")));
                words.extend(dump.iter().map(Dump::word));
            }
            What::Paths { paths } => {
                words.push("create".to_owned());
                behind.clone_from(paths);
            }
            What::Dump { dump, command } => {
                words.extend(["dump".to_owned(), format!("--container={}", dump.container)]);
                words.extend(dump.kind.map(|kind| format!("--kind={kind}")));
                behind.clone_from(command);
            }
        }
        words.extend([format!("--name={}", self.name), format!("--host={}", names.host)]);
        words.extend(names.tags());
        words.extend(self.exclude.iter().map(|pattern| format!("--exclude={pattern}")));
        words.extend(self.still.words());
        if !behind.is_empty() {
            words.push("--".to_owned());
            words.extend(behind);
        }
        words
    }

    /// What drops those of its snapshots on this host that need not be kept.
    #[must_use]
    pub fn forget(&self, names: &Names) -> Option<Vec<String>> {
        let retain = self.retain.as_ref()?;
        let mut words = ["forget", "--group-by=host"].map(str::to_owned).to_vec();
        words.extend([format!("--name={}", self.name), format!("--host={}", names.host)]);
        // Another machine may have this one's name.
        words.extend(names.engine.iter().map(|engine| format!("--tag={ENGINE_TAG}={engine}")));
        words.extend(names.own());
        words.extend(retain.options());
        Some(words)
    }

    /// What it is, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.what {
            What::Container { .. } => "container",
            What::Volumes { .. } => "volumes",
            What::Paths { .. } => "paths",
            What::Dump { .. } => "dump",
        }
    }
}

/// What tries a snapshot.
#[must_use]
pub fn drill(snapshot: &str) -> Vec<String> {
    vec!["drill".to_owned(), snapshot.to_owned()]
}
