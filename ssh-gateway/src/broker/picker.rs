//! Lets a client choose its container on a terminal: from a list that is searched while one types, or, where a terminal can
//! only write one line after the other, by a number.

mod keys;
mod menu;
mod paint;

use std::io;
use std::time::Duration;

use chores_common::engine::ListedContainer;
use tokio::time::timeout;

use super::terminal::Terminal;
use crate::login::shown;
use keys::Keys;
use menu::{Menu, Step};
use paint::Painter;

/// Containers that are shown.
const CHOICES_MAX: usize = 99;
/// How long the choice may take, from one key to the next.
const CHOICE_TIME_MAX: Duration = Duration::from_secs(120);
/// And altogether.
const VISIT_TIME_MAX: Duration = Duration::from_secs(600);
/// An escape that nothing follows for this long is the key of this name.
const ESCAPE_TIME: Duration = Duration::from_millis(200);
/// What is shown last is taken in this time, or not at all.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes of what is typed that are looked at together.
const READ_BYTES: usize = 256;
/// How often an answer may be none of the choices.
const ATTEMPTS_MAX: usize = 5;
/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 256;
/// Control-C and Control-D.
const GIVE_UP: [u8; 2] = [3, 4];

/// Names of terminals that cannot put anything at a place.
const DUMB: [&str; 4] = ["", "dumb", "emacs", "unknown"];
/// Where there are fewer columns or rows, there is no room for a list.
const COLUMNS_MIN: u16 = 20;
const ROWS_MIN: u16 = 6;

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
enum Choice<'a> {
    One(&'a ListedContainer),
    None,
    GiveUp,
}

/// Asks on a terminal of this name; `None` when nothing was chosen. `reason` is why it asks. The terminal is as it was
/// afterwards, but for what lines leave on it.
pub(super) async fn pick(
    terminal: &Terminal,
    name: &str,
    reason: &str,
    containers: &[ListedContainer],
) -> io::Result<Option<ListedContainer>> {
    let size = terminal.size()?;
    if DUMB.contains(&name) || size.columns < COLUMNS_MIN || size.rows < ROWS_MIN {
        return ask(terminal, reason, containers).await;
    }
    terminal.make_raw()?;
    let screen = Screen::enter(terminal).await?;
    let visited = timeout(VISIT_TIME_MAX, visit(terminal, reason, containers)).await;
    let left = screen.leave().await;
    let chosen = visited.unwrap_or(Ok(None))?;
    left?;
    Ok(chosen.and_then(|number| containers.get(number).cloned()))
}

/// The alternate screen of a terminal, which is left however this ends.
struct Screen<'t>(Option<&'t Terminal>);

impl<'t> Screen<'t> {
    async fn enter(terminal: &'t Terminal) -> io::Result<Self> {
        // Whatever of it comes through is taken back.
        let screen = Self(Some(terminal));
        terminal.write(paint::ENTER).await?;
        Ok(screen)
    }

    async fn leave(mut self) -> io::Result<()> {
        let Some(terminal) = self.0.take() else { return Ok(()) };
        match timeout(LEAVE_TIME_MAX, terminal.write(paint::LEAVE)).await {
            Ok(written) => written,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        if let Some(terminal) = self.0 {
            // Nobody can wait any more; a terminal that takes nothing is gone.
            terminal.write_at_once(paint::LEAVE);
        }
    }
}

/// Shows the menu and does what is typed, until something is chosen; gives its number.
async fn visit(
    terminal: &Terminal,
    reason: &str,
    containers: &[ListedContainer],
) -> io::Result<Option<usize>> {
    let mut size = terminal.size()?;
    let mut menu = Menu::new(reason, containers);
    let mut painter = Painter::new(size)?;
    let mut keys = Keys::default();
    let mut bytes = [0; READ_BYTES];
    loop {
        terminal.write(&painter.paint(&mut menu)?).await?;
        let patience = if keys.is_in_doubt() { ESCAPE_TIME } else { CHOICE_TIME_MAX };
        let typed: &[u8] = tokio::select! {
            read = timeout(patience, terminal.read(&mut bytes)) => match read {
                Ok(Ok(0)) => return Ok(None),
                Ok(length) => bytes.get(..length?).unwrap_or_default(),
                // Only an escape was typed.
                Err(_) if keys.is_in_doubt() => bytes.get(..0).unwrap_or_default(),
                Err(_) => return Ok(None),
            },
            resized = terminal.resized(size) => {
                size = resized?;
                painter.resize(size)?;
                continue;
            }
        };
        let settled = if typed.is_empty() { keys.settle() } else { None };
        // What is typed behind the choice in one breath is not the program's: nobody knew of it yet.
        let typed = typed.iter().filter_map(|byte| keys.take(*byte));
        for key in settled.into_iter().chain(typed.collect::<Vec<_>>()) {
            match menu.take(key) {
                Step::GoOn => {}
                Step::Redraw => painter.resize(size)?,
                Step::Chosen(number) => return Ok(Some(number)),
                Step::GivenUp => return Ok(None),
            }
        }
    }
}

/// Asks line by line.
async fn ask(
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
    async fn it_asks_on_a_terminal_line_by_line() {
        let size = crate::wire::WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
        let (terminal, master) = Terminal::new(size).unwrap();
        let containers = [container("web"), container("db")];
        rustix::io::write(&master, b"nothing\rdb\r").unwrap();
        let chosen = pick(&terminal, "dumb", "which?", &containers).await.unwrap();
        assert_eq!(chosen.unwrap().name, "db");
        rustix::io::write(&master, b"we\x03").unwrap();
        assert_eq!(pick(&terminal, "dumb", "which?", &containers).await.unwrap(), None);
        assert_eq!(terminal.size().unwrap(), size);
        drop(master);
        assert_eq!(pick(&terminal, "dumb", "which?", &containers).await.ok().flatten(), None);
    }

    /// What is said on a terminal until these words are.
    fn said(master: &std::os::fd::OwnedFd, end: &str) -> String {
        let mut said = String::new();
        while !said.ends_with(end) {
            let mut bytes = [0; 4096];
            let length = rustix::io::read(master, &mut bytes).unwrap();
            said.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        said
    }

    #[tokio::test]
    async fn a_list_is_searched_and_the_terminal_is_as_it_was_afterwards() {
        let size = crate::wire::WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
        let (terminal, master) = Terminal::new(size).unwrap();
        let containers = [container("web"), container("db")];
        for (typed, wanted) in [
            (&b"d\r"[..], Some("db")),
            (b"\x1b[B\r", Some("db")),
            (b"\r", Some("web")),
            (b"\x1b", None),
        ] {
            terminal.make_raw().unwrap();
            rustix::io::write(&master, typed).unwrap();
            let chosen = pick(&terminal, "xterm", "which?", &containers).await.unwrap();
            assert_eq!(chosen.map(|one| one.name).as_deref(), wanted, "{typed:?}");
            let said = said(&master, "\x1b[?1049l");
            assert!(said.starts_with("\x1b[?1049h"), "{said:?}");
            assert_eq!(said.matches("\x1b[?2004").count(), 2, "{said:?}");
        }
    }

    #[tokio::test]
    async fn a_choice_that_is_dropped_leaves_the_screen_too() {
        let size = crate::wire::WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
        let (terminal, master) = Terminal::new(size).unwrap();
        let containers = [container("web")];
        let asked = pick(&terminal, "xterm", "which?", &containers);
        assert!(timeout(Duration::from_millis(50), asked).await.is_err());
        assert!(said(&master, "\x1b[?1049l").starts_with("\x1b[?1049h"));
    }

    #[tokio::test]
    async fn there_is_no_list_on_a_terminal_without_room() {
        let size = crate::wire::WindowSize { columns: 0, rows: 0, width: 0, height: 0 };
        let (terminal, master) = Terminal::new(size).unwrap();
        rustix::io::write(&master, b"1\r").unwrap();
        let chosen = pick(&terminal, "xterm", "which?", &[container("web")]).await.unwrap();
        assert_eq!(chosen.unwrap().name, "web");
        assert!(!said(&master, "Number or name: ").contains('\x1b'));
    }
}
