//! Content that is suddenly another one: saved, and nothing before it is forgotten for it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use e2e::random::Random;
use e2e::sandbox::Sandbox;
use serde_json::Value;

use crate::tool::{Repo, WARNINGS};

/// Of text, in bytes: more than what is too little to tell anything.
const TEXT_BYTES: usize = 24 << 20;

const FILES: usize = 24;

/// Text that no two pieces of are equal, and that can be compressed.
fn write_text(folder: &Path) {
    let mut random = Random::new(11);
    for number in 0..FILES {
        let mut text = String::with_capacity(TEXT_BYTES / FILES + 64);
        while text.len() < TEXT_BYTES / FILES {
            let (order, price) = (random.below(1 << 40), random.below(1 << 20));
            writeln!(text, "order {order}, paid {price}, delivered to the door").unwrap();
        }
        fs::write(folder.join(format!("orders-{number}")), text).unwrap();
    }
}

fn created(repo: &Repo, source: &Path, options: &[&str], code: i32) -> Value {
    let source = source.to_str().unwrap();
    let words = [&["create", "--json", "--name", "shop"], options, &[source]].concat();
    repo.run(words).finish().expect_code(code).last_json()
}

#[test]
fn encrypted_files_are_saved_and_freeze_what_was_before() {
    let sandbox = Sandbox::new();
    let repo = Repo::directory(&sandbox);
    let source = sandbox.directory("source");
    write_text(&source);
    assert_eq!(created(&repo, &source, &[], 0)["suspicious"], false);
    fs::write(source.join("more"), "of the day").unwrap();
    created(&repo, &source, &[], 0);

    // As somebody does who wants money for it.
    for number in 0..FILES {
        let noise = Random::new(number as u64).bytes(TEXT_BYTES / FILES);
        fs::write(source.join(format!("orders-{number}")), noise).unwrap();
    }
    // The night after as well, when nothing is new any more.
    for _ in 0..2 {
        let summary = created(&repo, &source, &[], WARNINGS);
        assert_eq!(summary["suspicious"], true, "{summary}");
        let warnings = summary["warnings"].to_string();
        assert!(warnings.contains("cannot be compressed"), "{warnings}");
    }
    let forget = ["forget", "--keep-last", "1"];
    let forgotten = repo.run(forget).finish().expect_code(WARNINGS);
    assert!(forgotten.stdout_text().contains("--allow-change"), "{forgotten}");
    assert_eq!(repo.snapshots().len(), 4);

    // It was meant: from now on that is what there is.
    assert_eq!(created(&repo, &source, &["--allow-change"], 0)["suspicious"], false);
    created(&repo, &source, &[], 0);
    repo.run(forget).succeed();
    repo.check_clean();
}
