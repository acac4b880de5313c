//! Lets a client choose its container on a terminal.

use std::io;
use std::time::Duration;

use chores_common::engine::ListedContainer;
use tokio::time::timeout;

use super::terminal::Terminal;
use crate::login::shown;

/// Containers that are shown.
const CHOICES_MAX: usize = 99;
/// How long the choice may take.
const CHOICE_TIME_MAX: Duration = Duration::from_secs(120);
/// How often an answer may be none of the choices.
const ATTEMPTS_MAX: usize = 5;
/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 256;
/// Control-C and Control-D.
const GIVE_UP: [u8; 2] = [3, 4];

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
enum Choice<'a> {
    One(&'a ListedContainer),
    None,
    GiveUp,
}

/// Asks; `None` when nothing was chosen. `reason` is why it asks.
pub(super) async fn pick(
    terminal: &Terminal,
    reason: &str,
    containers: &[ListedContainer],
) -> io::Result<Option<ListedContainer>> {
    terminal.write(menu(reason, containers).as_bytes()).await?;
    let asked = async {
        for _ in 0..ATTEMPTS_MAX {
            let mut answer = [0; ANSWER_BYTES_MAX];
            let length = terminal.read(&mut answer).await?;
            match meaning(answer.get(..length).unwrap_or_default(), containers) {
                Choice::One(container) => return Ok(Some(container.clone())),
                Choice::GiveUp => break,
                Choice::None => terminal.write(b"That is none of them. Number or name: ").await?,
            }
        }
        Ok(None)
    };
    match timeout(CHOICE_TIME_MAX, asked).await {
        Ok(chosen) => chosen,
        Err(_) => Ok(None),
    }
}

fn menu(reason: &str, containers: &[ListedContainer]) -> String {
    let mut text = format!("{}\n", shown(reason));
    for (number, container) in containers.iter().take(CHOICES_MAX).enumerate() {
        let (name, image) = (shown(&container.name), shown(&container.image_ref));
        text.push_str(&format!("{:>4}  {name}  ({image})\n", number + 1));
    }
    let more = containers.len().saturating_sub(CHOICES_MAX);
    if more > 0 {
        text.push_str(&format!("      and {more} more\n"));
    }
    text.push_str("Number or name: ");
    text
}

fn meaning<'a>(answer: &[u8], containers: &'a [ListedContainer]) -> Choice<'a> {
    if answer.is_empty() || answer.iter().any(|byte| GIVE_UP.contains(byte)) {
        return Choice::GiveUp;
    }
    let Ok(answer) = std::str::from_utf8(answer) else { return Choice::None };
    let answer = answer.trim();
    // A container may have a number as its name; then the number of the list is still what was shown first.
    let by_number = answer
        .parse::<usize>()
        .ok()
        .filter(|number| *number <= CHOICES_MAX)
        .and_then(|number| containers.get(number.checked_sub(1)?));
    let by_name = || containers.iter().find(|container| container.name == answer);
    by_number.or_else(by_name).map_or(Choice::None, Choice::One)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chores_common::engine::ContainerState;

    use super::*;

    fn container(name: &str) -> ListedContainer {
        ListedContainer {
            id: name.to_owned(),
            name: name.to_owned(),
            image_ref: "image\x1b[2J".to_owned(),
            labels: BTreeMap::new(),
            state: ContainerState::Running,
        }
    }

    #[test]
    fn an_answer_is_a_number_or_a_name() {
        let containers = [container("web"), container("1")];
        let chosen = |answer: &[u8]| match meaning(answer, &containers) {
            Choice::One(container) => container.name.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(chosen(b"1\n"), "web");
        assert_eq!(chosen(b" 2 \r\n"), "1");
        assert_eq!(chosen(b"web\n"), "web");
        for answer in
            [&b"3\n"[..], b"0\n", b"-1\n", b"\n", b"we\n", b"\xff\n", b"99999999999999999999\n"]
        {
            assert_eq!(chosen(answer), "None", "{answer:?}");
        }
        for answer in [&b""[..], b"\x03", b"we\x03", b"\x04"] {
            assert_eq!(chosen(answer), "GiveUp", "{answer:?}");
        }
    }

    #[test]
    fn the_menu_has_nothing_that_a_terminal_obeys() {
        let many: Vec<_> = (0..150).map(|number| container(&format!("c{number}"))).collect();
        let text = menu("choose\x07", &many);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(text.contains("and 51 more"), "{text}");
        assert_eq!(text.lines().count(), 1 + CHOICES_MAX + 2);
    }

    #[tokio::test]
    async fn it_asks_on_a_terminal() {
        let size = crate::wire::WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
        let (terminal, master) = Terminal::new(size).unwrap();
        let containers = [container("web"), container("db")];
        rustix::io::write(&master, b"nothing\rdb\r").unwrap();
        let chosen = pick(&terminal, "which?", &containers).await.unwrap();
        assert_eq!(chosen.unwrap().name, "db");
        rustix::io::write(&master, b"we\x03").unwrap();
        assert_eq!(pick(&terminal, "which?", &containers).await.unwrap(), None);
        assert_eq!(terminal.size().unwrap(), size);
        drop(master);
        assert_eq!(pick(&terminal, "which?", &containers).await.ok().flatten(), None);
    }
}
