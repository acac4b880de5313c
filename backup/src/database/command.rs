//! Any program whose output is the dump.

use super::{PlanError, Script, Step, Target, Trailer};
use crate::snapshot::DumpRole;

/// Name of the one file.
pub const FILE: &str = "output";

const RUN: &str = r#"
run() { exec "$@"; }
"#;

pub(super) fn plan(target: &Target) -> Result<Vec<Step>, PlanError> {
    if target.words.is_empty() {
        return Err(PlanError::NoCommand);
    }
    let script = Script {
        args: target.words.clone(),
        direct: Some(target.words.clone()),
        ..Script::new(RUN)
    };
    Ok(vec![Step {
        file: FILE.to_owned(),
        role: DumpRole::Output,
        database: None,
        script,
        trailer: Trailer::None,
    }])
}
