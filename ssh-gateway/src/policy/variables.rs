//! Variables that clients may set for their sessions, by name only.

use crate::wire::Opaque;

/// Variables that one session may be given by its client (RFC 4254, 6.4).
pub const ENVIRONMENT_COUNT_MAX: usize = 32;

/// Bytes of all variables together that one session may be given by its client.
pub const ENVIRONMENT_BYTES_MAX: usize = 8 * 1024;

/// Patterns of variables that may be configured.
pub const ENVIRONMENT_PATTERNS_MAX: usize = 64;

/// Names that loaders, shells and interpreters obey, or that we set ourselves; a `*` at the end stands for any rest.
const NEVER_ACCEPTED: [&str; 36] = [
    "LD_*",
    "GLIBC_*",
    "MALLOC_*",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "BASH_*",
    "BASHOPTS",
    "SHELLOPTS",
    "ENV",
    "IFS",
    "PS4",
    "CDPATH",
    "GLOBIGNORE",
    "PERL5*",
    "PERLLIB",
    "PYTHON*",
    "RUBY*",
    "NODE_*",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "PROMPT_COMMAND",
    "GIT_SSH*",
    "GIT_EXEC_PATH",
    "GIT_CONFIG*",
    "GIT_PROXY_COMMAND",
    "OPENSSL_CONF",
    "LESSOPEN",
    "LESSCLOSE",
    "PATH",
    "HOME",
    "SHELL",
    "USER",
    "LOGNAME",
    "SSH_*",
];

/// Longest name of a variable, in bytes.
const VARIABLE_BYTES_MAX: usize = 64;

/// What is wrong with a pattern of variables that clients may set.
#[must_use]
pub fn environment_pattern_fault(pattern: &str) -> Option<String> {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    if !is_variable(name) {
        return Some(format!("{pattern:?} is no NAME or NAME_* of a variable"));
    }
    let is_open = pattern.ends_with('*');
    let forbidden = NEVER_ACCEPTED.iter().find(|never| match never.strip_suffix('*') {
        Some(never) => name.starts_with(never) || (is_open && never.starts_with(name)),
        None => **never == name || (is_open && never.starts_with(name)),
    });
    forbidden.map(|never| format!("{pattern:?} would allow {never}, which no client may set"))
}

/// Whether `accepted` has a pattern for the variable `name`.
#[must_use]
pub fn accepts_variable(accepted: &[String], name: &str) -> bool {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => pattern == name,
    };
    is_variable(name)
        && !NEVER_ACCEPTED.iter().any(|pattern| matches(pattern))
        && accepted.iter().any(|pattern| matches(pattern))
}

fn is_variable(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty()
        && name.len() <= VARIABLE_BYTES_MAX
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(is_plain)
}

/// The variables of a client that it may set, the last of a name, as many as there is room for.
pub(super) fn client_environment(
    accepted: &[String],
    asked: &[(String, Opaque)],
) -> Vec<(String, Vec<u8>)> {
    let mut variables = Vec::new();
    let mut bytes = 0;
    for (name, Opaque(value)) in asked.iter().take(ENVIRONMENT_COUNT_MAX) {
        bytes += name.len() + value.len();
        if bytes > ENVIRONMENT_BYTES_MAX {
            break;
        }
        if accepts_variable(accepted, name) && !value.contains(&0) {
            set(&mut variables, name, value);
        }
    }
    variables
}

pub(super) fn set(variables: &mut Vec<(String, Vec<u8>)>, name: &str, value: &[u8]) {
    match variables.iter_mut().find(|(other, _)| other == name) {
        Some((_, old)) => *old = value.to_vec(),
        None => variables.push((name.to_owned(), value.to_vec())),
    }
}
