//! What of the engine's answers a shipper gets to see: an allow-list, so that what later engines add stays hidden.
//!
//! Environment, command lines, health checks, network settings, paths of the host's storage and options of log
//! drivers other than those of rotation (`splunk-token` is one) are not in it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

#[cfg(test)]
mod tests;

/// What is kept of a value.
#[derive(Debug, Clone, Copy)]
pub enum Keep {
    /// All of it.
    All,
    /// These keys of an object.
    Keys(&'static [(&'static str, Keep)]),
    /// The same of every element of a list.
    Each(&'static Keep),
}

/// One mount: which volume is where, and whether it is writable.
const MOUNT: Keep = Keep::Keys(&[
    ("Type", Keep::All),
    ("Name", Keep::All),
    ("Source", Keep::All),
    ("Destination", Keep::All),
    ("Driver", Keep::All),
    ("Mode", Keep::All),
    ("RW", Keep::All),
]);

/// `GET /containers/json`.
pub const LISTED: Keep = Keep::Each(&Keep::Keys(&[
    ("Id", Keep::All),
    ("Names", Keep::All),
    ("Image", Keep::All),
    ("ImageID", Keep::All),
    ("Created", Keep::All),
    ("State", Keep::All),
    ("Status", Keep::All),
    ("Labels", Keep::All),
    ("Mounts", Keep::Each(&MOUNT)),
]));

/// `GET /containers/NAME/json`.
pub const INSPECTED: Keep = Keep::Keys(&[
    ("Id", Keep::All),
    ("Name", Keep::All),
    ("Image", Keep::All),
    ("Created", Keep::All),
    ("LogPath", Keep::All),
    ("Driver", Keep::All),
    ("Mounts", Keep::Each(&MOUNT)),
    (
        "State",
        Keep::Keys(&[
            ("Status", Keep::All),
            ("Running", Keep::All),
            ("Paused", Keep::All),
            ("Restarting", Keep::All),
            ("OOMKilled", Keep::All),
            ("Dead", Keep::All),
            ("Pid", Keep::All),
            ("ExitCode", Keep::All),
            ("StartedAt", Keep::All),
            ("FinishedAt", Keep::All),
        ]),
    ),
    (
        "Config",
        Keep::Keys(&[
            ("Image", Keep::All),
            ("Labels", Keep::All),
            ("Tty", Keep::All),
            ("User", Keep::All),
        ]),
    ),
    (
        "HostConfig",
        Keep::Keys(&[
            ("AutoRemove", Keep::All),
            (
                "LogConfig",
                Keep::Keys(&[
                    ("Type", Keep::All),
                    (
                        "Config",
                        Keep::Keys(&[
                            ("max-size", Keep::All),
                            ("max-file", Keep::All),
                            ("compress", Keep::All),
                            ("mode", Keep::All),
                            ("max-buffer-size", Keep::All),
                            ("cache-disabled", Keep::All),
                            ("cache-max-size", Keep::All),
                            ("cache-max-file", Keep::All),
                            ("cache-compress", Keep::All),
                        ]),
                    ),
                ]),
            ),
        ]),
    ),
]);

/// What is kept of a JSON text; `None` when it is none.
#[must_use]
pub fn strip(json: &[u8], keep: Keep) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(json).ok()?;
    serde_json::to_vec(&kept(value, keep)).ok()
}

fn kept(value: Value, keep: Keep) -> Value {
    match (keep, value) {
        (Keep::All, value) => value,
        (Keep::Each(keep), Value::Array(values)) => {
            Value::Array(values.into_iter().map(|value| kept(value, *keep)).collect())
        }
        (Keep::Keys(keys), Value::Object(mut object)) => {
            let parts = keys.iter().filter_map(|(key, keep)| {
                let (key, value) = object.remove_entry(*key)?;
                Some((key, kept(value, *keep)))
            });
            Value::Object(parts.collect::<Map<String, Value>>())
        }
        // Not what it was when this was written: nobody knows what is in it.
        (Keep::Each(_) | Keep::Keys(_), _) => Value::Null,
    }
}

/// Id and labels of an inspected container.
#[must_use]
pub fn identity(json: &[u8]) -> Option<(String, BTreeMap<String, String>)> {
    let container: Value = serde_json::from_slice(json).ok()?;
    let id = container.get("Id")?.as_str()?;
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let labels = container.pointer("/Config/Labels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    is_id.then(|| (id.to_owned(), labels.collect()))
}
