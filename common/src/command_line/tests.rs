use clap::Subcommand;

use super::*;

#[derive(Debug, Parser)]
#[command(name = "chore")]
struct Cli {
    /// Where.
    #[arg(long, global = true)]
    at: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks.
    Look,
    /// Listens.
    Listen,
    /// Cleans.
    #[command(subcommand)]
    Clean(Room),
}

#[derive(Debug, Subcommand)]
enum Room {
    /// Where one cooks.
    Kitchen,
}

#[test]
fn who_names_no_command_is_shown_them_also_beside_options() {
    let of = |words: &[&str]| {
        let answer = Cli::try_parse_from(words).unwrap_err();
        commands(Cli::command(), &answer)
    };
    let all = of(&["chore", "--at", "home"]).unwrap();
    assert!(all.contains("Looks") && all.contains("Listens") && all.contains("Usage:"), "{all}");
    let some = of(&["chore", "--at", "home", "clean", "--at", "work"]).unwrap();
    assert!(some.contains("Where one cooks") && !some.contains("Listens"), "{some}");
    assert_eq!(of(&["chore", "smell"]), None, "the error says it better");
}

#[test]
fn manuals_are_of_one_command_or_of_all() {
    let of = |wanted| {
        let pages = manual::<Cli>(wanted).unwrap().map_err(|error| error.to_string())?;
        Ok::<_, String>(String::from_utf8(pages).unwrap())
    };
    let headings = |text: &str| text.matches(".TH ").count();
    assert_eq!(of(None).map(|text| headings(&text)), Ok(4));
    let one = of(Some("look")).unwrap();
    assert!(headings(&one) == 1 && one.contains("Looks") && !one.contains("Listens"), "{one}");
    let sentence = "there is no command smell: `chore --help` lists them";
    assert_eq!(of(Some("smell")), Err(sentence.to_owned()));
}

#[test]
fn shells_learn_every_command() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let script = String::from_utf8(completions::<Cli>(shell)).unwrap();
        assert!(script.contains("chore") && script.contains("listen"), "{shell}: {script}");
    }
}
