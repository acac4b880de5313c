use clap::Subcommand;

use super::*;

#[derive(Debug, Parser)]
#[command(name = "chore")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks.
    Look,
    /// Listens.
    Listen,
}

#[test]
fn manuals_are_of_one_command_or_of_all() {
    let of = |wanted| {
        let pages = manual::<Cli>(wanted).unwrap().map_err(|error| error.to_string())?;
        Ok::<_, String>(String::from_utf8(pages).unwrap())
    };
    let headings = |text: &str| text.matches(".TH ").count();
    assert_eq!(of(None).map(|text| headings(&text)), Ok(3));
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
