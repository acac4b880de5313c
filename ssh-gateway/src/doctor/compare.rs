//! What a program finds in a container when we start it, beside what it finds when the engine does.

use crate::login::shown;
use chores_common::finding::{Finding, Status};

/// What is asked, and the words that ask it: what nearly every image has.
pub(super) const PARTS: [Part; 8] = [
    Part { name: "status", words: &["cat", "/proc/self/status"], form: Form::Fields },
    Part { name: "limits", words: &["cat", "/proc/self/limits"], form: Form::Lines },
    Part { name: "cgroup", words: &["cat", "/proc/self/cgroup"], form: Form::Groups },
    Part { name: "mounts", words: &["cat", "/proc/self/mountinfo"], form: Form::Lines },
    Part { name: "label", words: &["cat", "/proc/self/attr/current"], form: Form::Lines },
    Part { name: "oom_score_adj", words: &["cat", "/proc/self/oom_score_adj"], form: Form::Lines },
    Part { name: "environment", words: &["cat", "/proc/self/environ"], form: Form::Variables },
    Part { name: "namespaces", words: &["ls", "-l", "/proc/self/ns"], form: Form::Links },
];

/// One question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) words: &'static [&'static str],
    form: Form,
}

/// How an answer is to be read.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// `Name: value`, without those that are different every time.
    Fields,
    /// Line by line.
    Lines,
    /// Lines of proc_pid_cgroup(5); the group of a session in the v2 hierarchy is meant to be there.
    Groups,
    /// `NAME=value`, with NUL between them.
    Variables,
    /// Whatever is before and after an arrow.
    Links,
}

impl Form {
    /// What is told of a line: of a variable its name only, since its value may be a secret.
    fn told(self, line: &str) -> &str {
        match self {
            Self::Variables => line.split('=').next().unwrap_or_default(),
            _ => line,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    /// What was written.
    pub(super) bytes: Vec<u8>,
    /// How it ended; 128 and a signal's number for a killed program.
    pub(super) status: i64,
}

/// Fields of proc_pid_status(5) that differ from process to process, or from moment to moment.
const DIFFERENT_FIELDS: [&str; 16] = [
    "Pid",
    "PPid",
    "Tgid",
    "Ngid",
    "TracerPid",
    "NSpid",
    "NStgid",
    "NSpgid",
    "NSsid",
    "SigQ",
    "voluntary_ctxt_switches",
    "nonvoluntary_ctxt_switches",
    "FDSize",
    "State",
    "HugetlbPages",
    "untag_mask",
];

/// Differences that are told of one part.
const DIFFERENCES_MAX: usize = 20;

/// The answers of both to one question; `None` when neither could answer.
pub(super) fn finding(part: Part, ours: &Output, engines: &Output) -> Option<Finding> {
    let name = format!("hop {}", part.name);
    if ours.status != 0 && engines.status != 0 {
        return None;
    }
    if ours.status != engines.status {
        let (words, ours, engines) = (part.words.join(" "), ours.status, engines.status);
        let found = format!("`{words}` ends with {ours}, and with {engines} by the engine");
        return Some(differs(name, found));
    }
    let (left, right) = (lines(part.form, &ours.bytes), lines(part.form, &engines.bytes));
    let only = |some: &[String], others: &[String], whose: &str| -> Vec<String> {
        let only = some.iter().filter(|line| !others.contains(line));
        only.map(|line| format!("{whose} {}", shown(part.form.told(line)))).collect()
    };
    let mut told = only(&left, &right, "ours:");
    told.extend(only(&right, &left, "the engine's:"));
    let more = told.len().saturating_sub(DIFFERENCES_MAX);
    told.truncate(DIFFERENCES_MAX);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    if told.is_empty() && left.len() == right.len() {
        return Some(Finding::ok(name, "as by the engine's exec"));
    }
    if told.is_empty() {
        told.push(format!("{} lines, and {} by the engine's exec", left.len(), right.len()));
    }
    Some(differs(name, told.join("; ")))
}

fn differs(name: String, found: String) -> Finding {
    let advice = "report it as a bug, with this output";
    Finding::new(name, Status::Warn, found, advice)
}

/// An answer in lines that can be compared, in order.
fn lines(form: Form, bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<String> = match form {
        Form::Fields => text.lines().filter(|line| !is_different(line)).map(spaced).collect(),
        Form::Lines => text.lines().map(spaced).collect(),
        Form::Groups => text.lines().map(without_session).collect(),
        Form::Variables => text.split_terminator('\0').map(str::to_owned).collect(),
        Form::Links => text.lines().filter_map(link).collect(),
    };
    lines.sort_unstable();
    lines
}

fn is_different(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    DIFFERENT_FIELDS.contains(&name) || name.starts_with("Vm") || name.starts_with("Rss")
}

fn spaced(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn without_session(line: &str) -> String {
    match line.rsplit_once('/') {
        Some((group, session)) if session.starts_with("ssh-") && line.starts_with("0::") => {
            // The container's own group can be the root of its namespace.
            if group == "0::" { "0::/".to_owned() } else { group.to_owned() }
        }
        _ => line.to_owned(),
    }
}

fn link(line: &str) -> Option<String> {
    let (before, after) = line.split_once(" -> ")?;
    Some(format!("{} {after}", before.split_whitespace().next_back()?))
}
