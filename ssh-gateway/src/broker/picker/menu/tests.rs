use std::collections::BTreeMap;

use super::*;

pub(in crate::broker::picker) fn container(name: &str, image: &str) -> ListedContainer {
    let labels = login::compose_labels("shop", name);
    ListedContainer {
        id: name.to_owned(),
        name: name.to_owned(),
        image_ref: image.to_owned(),
        labels: BTreeMap::from(labels),
        state: ContainerState::Running,
    }
}

fn menu() -> Menu {
    let containers = [("web", "nginx:1"), ("db", "postgres:16"), ("Worker", "shop/web:2")];
    let containers = containers.map(|(name, image)| container(name, image));
    Menu::new("which?", &containers)
}

fn names(menu: &Menu) -> Vec<&str> {
    menu.listed().map(|entry| entry.cells[0].as_str()).collect()
}

fn typed(menu: &mut Menu, text: &str) {
    for character in text.chars() {
        assert_eq!(menu.take(Key::Character(character)), Step::GoOn);
    }
}

#[test]
fn a_search_finds_every_word_in_name_service_and_image_whatever_the_case() {
    let mut menu = menu();
    typed(&mut menu, "WEB");
    assert_eq!(names(&menu), ["web", "Worker"]);
    typed(&mut menu, " shop/");
    assert_eq!(names(&menu), ["Worker"]);
    assert_eq!(menu.take(Key::Enter), Step::Chosen(2));
    menu.take(Key::Clear);
    assert_eq!(menu.counts(), (3, 3));
    typed(&mut menu, "grün");
    assert_eq!(menu.counts(), (0, 3));
    assert_eq!(menu.take(Key::Enter), Step::GoOn);
    for _ in 0..4 {
        menu.take(Key::Backspace);
    }
    assert_eq!(names(&menu), ["web", "db", "Worker"]);
}

#[test]
fn keys_move_the_mark_and_never_out_of_the_list() {
    let mut menu = menu();
    menu.page = 2;
    let mut at = |key| {
        menu.take(key);
        menu.marked
    };
    assert_eq!(at(Key::Up), 0);
    assert_eq!(at(Key::Down), 1);
    assert_eq!(at(Key::PageDown), 2);
    assert_eq!(at(Key::Down), 2);
    assert_eq!(at(Key::PageUp), 0);
    assert_eq!(at(Key::Last), 2);
    assert_eq!(at(Key::First), 0);
    menu.take(Key::Last);
    typed(&mut menu, "db");
    assert_eq!((menu.marked, menu.take(Key::Enter)), (0, Step::Chosen(1)));
    assert_eq!(menu.take(Key::GiveUp), Step::GivenUp);
}

#[test]
fn texts_of_containers_are_plain_and_bounded() {
    let hostile = container("we\u{1b}[2Jb\u{202e}", &"\u{4e2d}e\u{301}x".repeat(200));
    let menu = Menu::new("why\u{7}?", &[hostile]);
    assert_eq!(menu.reason, "why??");
    let entry = menu.listed().next().unwrap();
    assert_eq!(entry.cells[0], "we?[2Jb?");
    assert!(entry.cells[3].ends_with('~') && entry.cells[3].len() <= 130, "{entry:?}");
    assert!(entry.cells.iter().all(|cell| cell.is_ascii()), "{entry:?}");
}

#[test]
fn a_search_is_bounded_and_has_nothing_that_cannot_be_seen() {
    let mut menu = menu();
    typed(&mut menu, &"x".repeat(1000));
    assert_eq!(menu.search.len(), SEARCH_CHARACTERS_MAX);
    menu.take(Key::Clear);
    typed(&mut menu, "a\u{202e}\u{200b}\u{85}b");
    assert_eq!(menu.search, "ab");
}

#[test]
fn a_long_list_is_cut_and_searched_whole() {
    let containers: Vec<_> =
        (0..2500).map(|number| container(&format!("c{number}"), "image")).collect();
    let mut menu = Menu::new("", &containers);
    assert_eq!(menu.listed().count(), LISTED_MAX);
    menu.take(Key::Last);
    assert_eq!(menu.take(Key::Enter), Step::Chosen(LISTED_MAX - 1));
    typed(&mut menu, "c2499");
    assert_eq!(menu.take(Key::Enter), Step::Chosen(2499));
}
