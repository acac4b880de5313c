//! What our own rotation asks for.

use std::io;

use rustix::io::Errno;

use super::Follow;
use super::order::Order;
use crate::cursor::{Cursor, FileCursor, FileIdentity};
use crate::files::desk::{Answer, Ask, Collapse, Hold};
use crate::files::tailed::{Content, READ_BYTES, Tailed};
use crate::proof::{FileFacts, head_len, piece, proof_of};
use crate::record::Control;
use crate::source::SourceId;

#[cfg(test)]
mod tests;

impl Follow {
    /// Answers what lies on the desk, as long as the log takes what comes of it.
    pub(in crate::files) fn serve_desk(&mut self) {
        let Some(desk) = self.settings.desk.clone() else { return };
        if !self.outbox.is_empty() {
            return;
        }
        let Some(ask) = desk.take() else { return };
        desk.answer(match ask {
            Ask::Collapse(collapse) => self.collapse(&collapse),
            Ask::Retire(identity, size) => self.retire(identity, size),
            Ask::Readmit(identity, bytes) => {
                self.ignored.remove(&identity);
                self.readmitted.insert(identity, bytes);
                self.scan();
                Answer::Done
            }
            Ask::Hold(hold) => self.held.take(hold),
            Ask::Forget(identity) => {
                self.ignored.remove(&identity);
                Answer::Done
            }
        });
    }

    fn collapse(&mut self, collapse: &Collapse) -> Answer {
        let not_now = |reason: &str| Answer::NotNow(reason.to_owned());
        let Some(id) = self.by_identity.get(&collapse.settled.file).copied() else {
            return not_now("nobody reads it");
        };
        // What was read is handed on first: its cursor is of the file as it was.
        self.hand_on(id);
        if self.files.get(&id).is_some_and(|tailed| !tailed.is_open()) && !self.reopen(id) {
            return not_now("it cannot be opened");
        }
        let Some(tailed) = self.files.get_mut(&id) else { return not_now("nobody reads it") };
        if tailed.is_wide() {
            return Answer::Never("its first bytes say that it is UTF-16".to_owned());
        }
        match tailed.collapse(collapse) {
            Ok(()) => {
                let path = tailed.base.to_string_lossy().into_owned();
                // With it, the log hears of the new places.
                let removed = Some(collapse.length);
                self.control(id, &Control::Rotated { path, removed });
                self.wake(id);
                Answer::Done
            }
            Err(error) => {
                let text = error.to_string();
                match error.raw_os_error().map(Errno::from_raw_os_error) {
                    None | Some(Errno::INTR) => Answer::NotNow(text),
                    Some(Errno::OPNOTSUPP | Errno::NOSYS) => Answer::Nowhere(text),
                    Some(_) => Answer::Never(text),
                }
            }
        }
    }

    /// Files that were removed while a writer may have had them: those that have grown are read on.
    pub(in crate::files) fn tend_held(&mut self) {
        for hold in self.held.grown() {
            let Hold { identity, file, path, base, bytes } = hold;
            tracing::warn!(path = %path.display(), "somebody writes to a rotated file that was removed: it is read on");
            let facts = FileFacts::of(&file);
            let cursor = match self.intake.open(self.meta(identity, &base)).cursor {
                Some(Cursor::File(known)) if known.file == identity => Some(known),
                _ => None,
            };
            let cursor = cursor.map_or_else(
                || {
                    let proof = proof_of(&file, bytes)?.unwrap_or_default();
                    Ok(FileCursor { shift: 0, file: identity, offset: bytes, proof })
                },
                Ok,
            );
            let head = |cursor: &FileCursor| piece(&file, 0, head_len(cursor.offset));
            let began: io::Result<_> =
                cursor.and_then(|cursor| Ok((facts?, cursor, head(&cursor)?)));
            match began {
                Ok((facts, cursor, head)) => {
                    let content = Content::Plain(file);
                    // Its name may mean another file by now.
                    let named = self.by_name.remove(&path);
                    let head = head.unwrap_or_default();
                    let id = self.add(&path, &facts, &base, content, cursor, head);
                    self.forget_name(&path);
                    if let Some(tailed) = self.files.get_mut(&id) {
                        tailed.is_held = true;
                    }
                    self.by_name.extend(named.map(|named| (path, named)));
                }
                Err(error) => self.warn_error(&path, &error),
            }
        }
    }

    fn retire(&mut self, identity: FileIdentity, size: u64) -> Answer {
        let not_now = |reason: &str| Answer::NotNow(reason.to_owned());
        let Some(id) = self.by_identity.get(&identity).copied() else { return Answer::Done };
        if self.files.get(&id).is_some_and(|tailed| !tailed.is_open()) && !self.reopen(id) {
            return not_now("it cannot be opened");
        }
        if !self.is_size(id, size) {
            self.wake(id);
            return not_now("it has another size");
        }
        match self.order_of(id) {
            Order::Free => {}
            Order::Until(length) if length >= size => {}
            Order::Until(_) | Order::Wait => {
                self.wake(id);
                return not_now("the file before it is not read to its end");
            }
        }
        let read = self.files.get(&id).map_or(0, Tailed::read);
        if size > read + READ_BYTES as u64 {
            self.wake(id);
            return not_now("it is not read to its end");
        }
        // Nobody will end its last line any more.
        self.finish_line(id);
        let Some(tailed) = self.files.get_mut(&id) else { return not_now("nobody reads it") };
        if tailed.read() != size || tailed.is_unfinished() {
            self.wake(id);
            return not_now("it is not read to its end");
        }
        if !std::mem::replace(&mut tailed.is_rotated, true) {
            let path = tailed.base.to_string_lossy().into_owned();
            self.control(id, &Control::Rotated { path, removed: None });
        }
        self.keep_known(id);
        Answer::Done
    }

    fn is_size(&self, id: SourceId, size: u64) -> bool {
        let file = self.files.get(&id).and_then(Tailed::file);
        file.is_some_and(|file| FileFacts::of(file).is_ok_and(|facts| facts.size == size))
    }
}
