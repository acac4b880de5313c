use std::fs;
use std::path::Path;

use super::*;

/// The documents, and the units that are copied as they are.
const PLACES: [&str; 9] = [
    "README.md",
    "docs/backup.md",
    "docs/backup-keys.md",
    "docs/backup-notify.md",
    "docs/backup-quiesce.md",
    "docs/backup-serve.md",
    "deploy/compose.yaml",
    "deploy/systemd/chores-backup@.service",
    "deploy/systemd/chores-backup-dump@.service",
];

/// So many of their commands there are at least, or they are not found.
const COMMANDS_MIN: usize = 50;

fn read(place: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(place)).unwrap()
}

/// Blocks of shell in a document; another file as a whole. Lines that go on are joined.
fn lines(place: &str, text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let mut is_shell = Path::new(place).extension().is_none_or(|end| end != "md");
    let mut lines = Vec::new();
    for line in joined.lines() {
        match line.trim_end() {
            "```sh" => is_shell = true,
            "```" => is_shell = false,
            line if is_shell => lines.push(line.to_owned()),
            _ => {}
        }
    }
    lines
}

/// The words of a line as a shell takes them apart, up to a comment; what joins two commands is a word.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut is_word) = (String::new(), None, false);
    for character in line.chars() {
        match (quote, character) {
            (Some(end), _) if character == end => quote = None,
            (None, '\'' | '"') => (quote, is_word) = (Some(character), true),
            (None, '#') if !is_word => break,
            (None, ' ' | '|' | ';' | '&' | '>' | '<' | '(' | ')') => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                    is_word = false;
                }
                if character != ' ' {
                    words.push(character.to_string());
                }
            }
            _ => {
                word.push(character);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

/// The words behind the name of the program, of every command that has it; those with something left out have not.
fn commands(words: &[String]) -> Vec<Vec<String>> {
    let is_border =
        |word: &String| matches!(word.as_str(), "|" | ";" | "&" | ">" | "<" | "(" | ")");
    let of = |command: &[String]| {
        let is_name = |word: &String| {
            matches!(
                word.as_str(),
                "backup" | "chores/backup" | "chores/backup-dbclients" | "/backup"
            )
        };
        let first = command.first()?;
        // A container may be called like the program, which stands behind it.
        let at = match command.iter().rposition(is_name) {
            _ if is_name(first) => 0,
            Some(at) if first.ends_with("docker") => at,
            _ => return None,
        };
        let is_whole = !command.iter().any(|word| word.contains('…'));
        is_whole.then(|| command.get(at + 1..).unwrap_or_default().to_vec())
    };
    words.split(is_border).filter_map(of).collect()
}

#[test]
fn every_command_of_the_documents_and_examples_is_one_that_the_program_takes() {
    let mut count = 0;
    for place in PLACES {
        for line in lines(place, &read(place)) {
            for command in commands(&words(line.trim_start_matches(['#', ' ']))) {
                let parsed =
                    Cli::try_parse_from(std::iter::once("backup".to_owned()).chain(command));
                if let Err(error) = parsed {
                    panic!("{place}: {line}: {error}");
                }
                count += 1;
            }
        }
    }
    assert!(count >= COMMANDS_MIN, "only {count} commands were found");
}

#[test]
fn no_example_copies_the_files_of_a_running_database() {
    let compose = read("deploy/compose.yaml");
    let (_, database) = compose.split_once("  mysql:\n").unwrap();
    let (database, _) = database.split_once("\n\n").unwrap();
    assert!(database.contains("chores.backup.enable: \"true\""), "{database}");
    assert!(database.contains("chores.backup.dump: mysql"), "{database}");
    assert!(!compose.contains("volumes_from"), "{compose}");
    let unit = read("deploy/systemd/chores-backup-dump@.service");
    assert!(unit.contains("dump --repo /repo --container %i"), "{unit}");
    for place in
        ["deploy/systemd/chores-backup@.service", "deploy/systemd/chores-backup-dump@.service"]
    {
        let text = read(place);
        assert!(!text.contains("chores-backup@mysql"), "{place}: {text}");
    }
}
