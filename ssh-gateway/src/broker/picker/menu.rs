//! What somebody who chooses has before him, and what a key makes of it.

use chores_common::engine::{ContainerState, ListedContainer};

use super::keys::Key;
use crate::login;

/// Containers that are listed together; a search finds the others.
const LISTED_MAX: usize = 1000;
/// Characters of a search.
const SEARCH_CHARACTERS_MAX: usize = 64;

/// What a key has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It may look different now.
    GoOn,
    /// All of it is to be shown again.
    Redraw,
    /// The container of this number in the list that it was made of.
    Chosen(usize),
    GivenUp,
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Name, service, state, image: letters, digits and signs of ASCII, each one column wide.
    pub(super) cells: [String; 4],
    /// What a search looks at.
    haystack: String,
}

impl Entry {
    fn of(container: &ListedContainer) -> Self {
        let project = login::compose_project(container);
        let service = match (project, login::compose_service(container)) {
            (Some(project), Some(service)) => format!("{project}~{service}"),
            _ => "-".to_owned(),
        };
        let state = match container.state {
            ContainerState::Running => "running",
            ContainerState::Paused => "paused",
            ContainerState::NotRunning => "stopped",
        };
        let (name, image) = (&container.name, &container.image_ref);
        let haystack = [name.as_str(), &service, image].map(login::shown).join("\n").to_lowercase();
        Self { cells: [name.as_str(), &service, state, image].map(plain), haystack }
    }
}

/// A text of a container in which every character takes one column and none is anything else than it seems: names,
/// services and images that engines and Compose take are of such.
pub(super) fn plain(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_graphic() || character == ' ';
    let shown = login::shown(text);
    shown
        .chars()
        .map(|character| match character {
            '…' => '~',
            character if is_plain(character) => character,
            _ => '?',
        })
        .collect()
}

/// The list, what is searched, and what is marked.
#[derive(Debug)]
pub(super) struct Menu {
    pub(super) reason: String,
    entries: Vec<Entry>,
    pub(super) search: String,
    /// The numbers of the entries that the search finds.
    found: Vec<usize>,
    /// Which of these is marked.
    pub(super) marked: usize,
    /// How many are on the screen at once.
    pub(super) page: usize,
}

impl Menu {
    pub(super) fn new(reason: &str, containers: &[ListedContainer]) -> Self {
        let entries: Vec<_> = containers.iter().map(Entry::of).collect();
        let found = (0..entries.len()).collect();
        let reason = plain(reason);
        Self { reason, entries, search: String::new(), found, marked: 0, page: 1 }
    }

    /// What the search finds, as far as it is listed.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Entry> {
        self.found.iter().take(LISTED_MAX).filter_map(|number| self.entries.get(*number))
    }

    /// How many it finds, and how many there are.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.found.len(), self.entries.len())
    }

    pub(super) fn take(&mut self, key: Key) -> Step {
        let last = self.found.len().min(LISTED_MAX).saturating_sub(1);
        match key {
            Key::Character(character) => self.add(character),
            Key::Backspace => {
                self.search.pop();
                self.look();
            }
            Key::Clear => {
                self.search.clear();
                self.look();
            }
            Key::Up => self.marked = self.marked.saturating_sub(1),
            Key::Down => self.marked = self.marked.saturating_add(1).min(last),
            Key::PageUp => self.marked = self.marked.saturating_sub(self.page),
            Key::PageDown => self.marked = self.marked.saturating_add(self.page).min(last),
            Key::First => self.marked = 0,
            Key::Last => self.marked = last,
            Key::Enter => {
                // Nothing is found: there is nothing to choose.
                return self.found.get(self.marked).copied().map_or(Step::GoOn, Step::Chosen);
            }
            Key::GiveUp => return Step::GivenUp,
            Key::Redraw => return Step::Redraw,
        }
        Step::GoOn
    }

    fn add(&mut self, character: char) {
        // What could not be seen, or would turn the line round.
        let is_seen = !login::shown(character.encode_utf8(&mut [0; 4])).contains('\u{fffd}');
        if is_seen && self.search.chars().count() < SEARCH_CHARACTERS_MAX {
            self.search.push(character);
            self.look();
        }
    }

    /// Every word must be in what is searched.
    fn look(&mut self) {
        let search = self.search.to_lowercase();
        let words: Vec<_> = search.split_whitespace().collect();
        let finds = |entry: &Entry| words.iter().all(|word| entry.haystack.contains(word));
        let found = self.entries.iter().enumerate().filter(|(_, entry)| finds(entry));
        self.found = found.map(|(number, _)| number).collect();
        self.marked = 0;
    }
}

#[cfg(test)]
pub(super) mod tests;
