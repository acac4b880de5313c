//! Choosing a container on a terminal, by OpenSSH's client in a terminal emulator.

use e2e::engine::Container;
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, Tmux, wait_until};

use crate::ssh::{ANSWER_TIME_MAX, Scene, of_tier, tier_rule};

/// A login name that is like that of no container.
const NOBODY: &str = "operator";

/// A gateway whose key may enter the containers of one tier, and what that is called.
fn scene() -> Option<(Scene, String)> {
    let tier = e2e::sandbox::unique_name();
    let rules = tier_rule(&tier);
    let scene = Scene::new(|spec| of_tier(spec, &tier), |setup| setup.policy(&rules))?;
    Some((scene, tier))
}

/// It calls itself as tmux does.
fn terminal(scene: &Scene) -> Option<Tmux> {
    Tmux::start(scene.gateway.sandbox(), &scene.gateway.ssh(NOBODY), 120, 30)
}

fn wait_for(terminal: &Tmux, what: &str, is_so: impl Fn(&str) -> bool) -> String {
    let mut screen = String::new();
    wait_until(CLEAN_UP_TIME_MAX, what, || {
        screen = terminal.screen();
        if is_so(&screen) { Ok(()) } else { Err(screen.clone()) }
    });
    screen
}

/// As much of a name as a list shows.
fn shown(container: &Container) -> &str {
    let name = container.name();
    name.get(..40).unwrap_or(name)
}

#[test]
fn a_list_is_searched_and_what_is_chosen_is_entered() {
    let Some((scene, tier)) = scene() else { return };
    let other = scene.start(|spec| of_tier(spec, &tier));
    let stranger = scene.start(|spec| spec);
    let Some(terminal) = terminal(&scene) else { return };
    let screen = wait_for(&terminal, "the list", |screen| {
        [&scene.container, &other].iter().all(|one| screen.contains(shown(one)))
    });
    assert!(!screen.contains(shown(&stranger)), "{screen}");
    assert!(screen.contains("Search:") && screen.contains("2 of 2"), "{screen}");
    assert!(screen.contains("shop~web?]0;evil??"), "{screen}");
    terminal.resize(70, 12);
    wait_for(&terminal, "the list in a smaller terminal", |screen| {
        screen.lines().nth(1).is_some_and(|line| line.starts_with("Search:"))
            && screen.lines().nth(11).is_some_and(|line| line.starts_with("2 of 2"))
    });
    // tmux keeps back a size that comes soon after another.
    terminal.resize(120, 30);
    wait_for(&terminal, "the list in the larger terminal", |screen| {
        screen.lines().nth(29).is_some_and(|line| line.starts_with("2 of 2"))
    });
    // By name, with a mistake in it.
    for key in ["z", "z", "BSpace", "BSpace", "Down", "Up"] {
        terminal.press(key);
    }
    terminal.line(other.name());
    wait_for(&terminal, "the end of the list", |screen| !screen.contains("Search:"));
    terminal.line("PS1='> '; echo in:$(hostname)");
    terminal.wait_for_line(&format!("in:{}", other.id().get(..12).expect("an id of an engine")));
    let screen = terminal.screen();
    assert!(!screen.contains("Search:"), "{screen}");
    terminal.line("stty size");
    terminal.wait_for_line("30 120");
    terminal.line("exit 7");
    terminal.wait_for_line("[ended with 7]");
    scene.gateway.assert_idle(&[&scene.container, &other, &stranger]);
}

#[test]
fn who_gives_up_has_his_terminal_back() {
    let Some((scene, _)) = scene() else { return };
    for key in ["Escape", "C-c"] {
        let Some(terminal) = terminal(&scene) else { return };
        wait_for(&terminal, "the list", |screen| screen.contains("1 of 1"));
        terminal.press(key);
        terminal.wait_for_line("[ended with 255]");
        let screen = terminal.screen();
        assert!(screen.contains("no container was chosen"), "{key}: {screen}");
        assert!(!screen.contains("Search:"), "{key}: {screen}");
    }
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn a_terminal_that_can_only_write_lines_is_asked_line_by_line() {
    let Some((scene, _)) = scene() else { return };
    let client = scene.gateway.ssh(NOBODY).env("TERM", "dumb").arg("-tt");
    let said = client.stdin("none\n1\nexit 7\n").deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(said.code(), Some(7), "{said}");
    let text = said.stdout_text();
    assert!(text.contains("That is none of them. Number or name: "), "{said}");
    assert!(!text.contains("\u{1b}[?1049"), "{said}");
    scene.gateway.assert_idle(&[&scene.container]);
}
