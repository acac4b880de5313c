use proptest::prelude::*;

use super::super::keys::Key;
use super::super::menu::tests::container;
use super::*;

fn size(columns: u16, rows: u16) -> WindowSize {
    WindowSize { columns, rows, width: 0, height: 0 }
}

fn menu(count: usize) -> Menu {
    let containers: Vec<_> =
        (0..count).map(|n| container(&format!("c{n}"), "image\x1b[2J")).collect();
    Menu::new("Choose one.", &containers)
}

/// What bytes leave on a screen, by the few orders that there are.
fn screen(bytes: &[u8], columns: u16, rows: u16) -> Vec<String> {
    let mut lines = vec![vec![' '; columns.into()]; rows.into()];
    let (mut x, mut y) = (0_usize, 0_usize);
    let text = std::str::from_utf8(bytes).unwrap();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\x1b' {
            lines[y][x] = character;
            x += 1;
            continue;
        }
        assert_eq!(characters.next(), Some('['));
        let mut parameters = String::new();
        let last = loop {
            match characters.next().unwrap() {
                parameter @ ('0'..='9' | ';' | '?') => parameters.push(parameter),
                last => break last,
            }
        };
        match last {
            'H' => {
                let (row, column) = parameters.split_once(';').unwrap();
                (y, x) = (row.parse::<usize>().unwrap() - 1, column.parse::<usize>().unwrap() - 1);
            }
            'J' => lines.iter_mut().flatten().for_each(|cell| *cell = ' '),
            'm' | 'h' | 'l' => {}
            other => panic!("{other:?}"),
        }
    }
    lines
        .into_iter()
        .map(|line| line.into_iter().collect::<String>().trim_end().to_owned())
        .collect()
}

#[test]
fn a_menu_has_what_somebody_needs_to_choose() {
    let mut menu = menu(3);
    let mut painter = Painter::new(size(70, 8)).unwrap();
    let mut bytes = painter.paint(&mut menu).unwrap();
    let lines = screen(&bytes, 70, 8);
    assert_eq!(lines[0], "Choose one.");
    assert_eq!(lines[1], "Search:");
    assert_eq!(lines[2], "CONTAINER  SERVICE  STATE    IMAGE");
    assert_eq!(lines[3], "c0         shop~c0  running  image?[2J");
    assert!(lines[7].starts_with("3 of 3"), "{lines:?}");
    // The next picture has only what is another.
    for character in ['c', '2'] {
        menu.take(Key::Character(character));
    }
    let more = painter.paint(&mut menu).unwrap();
    assert!(more.len() < bytes.len(), "{}", more.len());
    bytes.extend(more);
    let lines = screen(&bytes, 70, 8);
    assert_eq!((lines[1].as_str(), lines[4].as_str()), ("Search: c2", ""));
    assert!(lines[3].starts_with("c2 "), "{lines:?}");
}

#[test]
fn a_long_list_moves_with_the_mark() {
    let mut menu = menu(500);
    let mut painter = Painter::new(size(60, 10)).unwrap();
    let mut bytes = painter.paint(&mut menu).unwrap();
    assert_eq!(menu.page, 6);
    menu.take(Key::Last);
    bytes.extend(painter.paint(&mut menu).unwrap());
    let lines = screen(&bytes, 60, 10);
    assert!(lines[8].starts_with("c499 "), "{lines:?}");
    painter.resize(size(60, 5)).unwrap();
    let lines = screen(&painter.paint(&mut menu).unwrap(), 60, 5);
    assert!(lines[3].starts_with("c499 "), "{lines:?}");
}

#[test]
fn a_terminal_that_says_it_is_huge_is_drawn_on_as_far_as_anybody_sees() {
    let mut painter = Painter::new(size(u16::MAX, u16::MAX)).unwrap();
    assert!(painter.paint(&mut menu(2000)).unwrap().len() < 100_000);
    painter.resize(size(u16::MAX, u16::MAX)).unwrap();
    assert!(painter.paint(&mut menu(2)).unwrap().len() < 100_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the sizes and keys: it draws, and nothing that a terminal obeys beyond its few orders.
    #[test]
    fn any_size_is_drawn_on(
        sizes in proptest::collection::vec((0_u16..200, 0_u16..60), 1..6),
        search in "\\PC{0,20}",
    ) {
        let mut menu = menu(30);
        let mut painter = Painter::new(size(sizes[0].0, sizes[0].1)).unwrap();
        for (columns, rows) in sizes {
            painter.resize(size(columns, rows)).unwrap();
            for character in search.chars() {
                menu.take(Key::Character(character));
            }
            menu.take(Key::PageDown);
            let bytes = painter.paint(&mut menu).unwrap();
            let text = String::from_utf8(bytes).unwrap();
            for order in text.split('\x1b').skip(1) {
                prop_assert!(order.starts_with('['), "{:?}", order);
                let end = order.trim_start_matches(|c: char| "[0123456789;?".contains(c));
                prop_assert!(end.starts_with(['H', 'J', 'm', 'h', 'l', 'K']), "{:?}", order);
            }
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\x1b'), "{:?}", text);
        }
    }
}
