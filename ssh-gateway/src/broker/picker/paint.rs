//! The menu as bytes for a terminal, by ratatui: of each picture only what has changed.
//!
//! No colours and no more than what a VT100 with an alternate screen understands; sizes are the client's word, and bounded.

use std::fmt::Write as _;
use std::io;

use ratatui_core::backend::{Backend, ClearType, WindowSize as BackendSize};
use ratatui_core::buffer::Cell;
use ratatui_core::layout::{Constraint, Layout, Position, Rect, Size};
use ratatui_core::style::{Modifier, Style};
use ratatui_core::terminal::{Frame, Terminal};
use ratatui_core::text::Line;
use ratatui_widgets::paragraph::Paragraph;
use ratatui_widgets::table::{Row, Table, TableState};

use super::menu::Menu;
use crate::wire::WindowSize;

/// A larger terminal is drawn on as far as this, in columns and rows.
const COLUMNS_MAX: u16 = 250;
const ROWS_MAX: u16 = 100;
/// The widest a column is, in columns of the terminal.
const CELL_COLUMNS_MAX: u16 = 40;
/// Rows that are not of the list: reason, search, heads, help.
const OTHER_ROWS: u16 = 4;
const HEADS: [&str; 4] = ["CONTAINER", "SERVICE", "STATE", "IMAGE"];
const SEARCH: &str = "Search: ";

/// To the alternate screen, and what is pasted is marked.
pub(super) const ENTER: &[u8] = b"\x1b[?1049h\x1b[?2004h";
/// Back from there, with everything as it was.
pub(super) const LEAVE: &[u8] = b"\x1b[?2004l\x1b[0m\x1b[?25h\x1b[?1049l";

/// Draws menus.
#[derive(Debug)]
pub(super) struct Painter {
    terminal: Terminal<Bytes>,
    state: TableState,
}

impl Painter {
    pub(super) fn new(size: WindowSize) -> io::Result<Self> {
        let terminal = Terminal::new(Bytes { size: bounded(size), ..Bytes::default() })?;
        Ok(Self { terminal, state: TableState::new() })
    }

    /// Everything is drawn anew from now on, at this size.
    pub(super) fn resize(&mut self, size: WindowSize) -> io::Result<()> {
        let Size { width, height } = bounded(size);
        self.terminal.backend_mut().size = Size { width, height };
        self.terminal.resize(Rect::new(0, 0, width, height))
    }

    /// What brings the menu on the screen.
    pub(super) fn paint(&mut self, menu: &mut Menu) -> io::Result<Vec<u8>> {
        let state = &mut self.state;
        self.terminal.draw(|frame| draw(frame, menu, state))?;
        Ok(std::mem::take(&mut self.terminal.backend_mut().bytes).into_bytes())
    }
}

fn bounded(size: WindowSize) -> Size {
    Size { width: size.columns.clamp(1, COLUMNS_MAX), height: size.rows.clamp(1, ROWS_MAX) }
}

fn draw(frame: &mut Frame<'_>, menu: &mut Menu, state: &mut TableState) {
    let rows = [1, 1, 0, 1].map(|rows| match rows {
        0 => Constraint::Min(0),
        rows => Constraint::Length(rows),
    });
    let [reason, search, list, help] = Layout::vertical(rows).areas(frame.area());
    menu.page = usize::from(frame.area().height.saturating_sub(OTHER_ROWS)).max(1);

    frame.render_widget(Paragraph::new(menu.reason.as_str()), reason);
    let line = Line::from(format!("{SEARCH}{}", menu.search));
    let column = u16::try_from(line.width()).unwrap_or(u16::MAX);
    frame.render_widget(Paragraph::new(line), search);
    let (found, all) = menu.counts();
    let said = format!("{found} of {all}   Enter: into it   Arrows: move   Escape: none");
    frame.render_widget(Paragraph::new(said).style(Modifier::DIM), help);

    let mut widths = HEADS.map(str::len);
    for entry in menu.listed() {
        for (width, cell) in widths.iter_mut().zip(&entry.cells) {
            *width = (*width).max(cell.len());
        }
    }
    let widths = widths.map(|width| {
        let width = u16::try_from(width).unwrap_or(u16::MAX).min(CELL_COLUMNS_MAX);
        Constraint::Length(width)
    });
    let entries = menu.listed().map(|entry| Row::new(entry.cells.iter().map(String::as_str)));
    let table = Table::new(entries, widths)
        .column_spacing(2)
        .header(Row::new(HEADS).style(Modifier::BOLD))
        .row_highlight_style(Style::from(Modifier::REVERSED));
    state.select((found > 0).then_some(menu.marked));
    frame.render_stateful_widget(table, list, state);

    if search.height > 0 {
        let last = search.right().saturating_sub(1);
        frame.set_cursor_position(Position { x: column.min(last), y: search.y });
    }
}

/// Where ratatui draws.
#[derive(Debug, Default)]
struct Bytes {
    bytes: String,
    size: Size,
    /// Where the cursor is known to be.
    cursor: Option<Position>,
}

impl Bytes {
    fn add(&mut self, order: std::fmt::Arguments<'_>) {
        // A String takes everything.
        self.bytes.write_fmt(order).ok();
    }
}

impl Backend for Bytes {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut style = Modifier::empty();
        for (x, y, cell) in content {
            let at = Position { x, y };
            if self.cursor != Some(at) {
                self.set_cursor_position(at)?;
            }
            if cell.modifier != style {
                style = cell.modifier;
                self.bytes.push_str("\x1b[0");
                for (modifier, code) in
                    [(Modifier::BOLD, ";1"), (Modifier::DIM, ";2"), (Modifier::REVERSED, ";7")]
                {
                    if style.contains(modifier) {
                        self.bytes.push_str(code);
                    }
                }
                self.bytes.push('m');
            }
            let symbol = cell.symbol();
            self.bytes.push_str(symbol);
            // How wide another one is only the terminal knows, and what it does in the last column too.
            let is_sure = symbol.len() == 1 && x.saturating_add(1) < self.size.width;
            self.cursor = is_sure.then(|| Position { x: x.saturating_add(1), y });
        }
        if !style.is_empty() {
            self.bytes.push_str("\x1b[0m");
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.bytes.push_str("\x1b[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.bytes.push_str("\x1b[?25h");
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.cursor.unwrap_or_default())
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        self.add(format_args!("\x1b[{};{}H", u32::from(y) + 1, u32::from(x) + 1));
        self.cursor = Some(Position { x, y });
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.bytes.push_str(match region {
            ClearType::All => "\x1b[2J",
            ClearType::AfterCursor => "\x1b[J",
            ClearType::BeforeCursor => "\x1b[1J",
            ClearType::CurrentLine => "\x1b[2K",
            ClearType::UntilNewLine => "\x1b[K",
        });
        Ok(())
    }

    fn size(&self) -> io::Result<Size> {
        Ok(self.size)
    }

    fn window_size(&mut self) -> io::Result<BackendSize> {
        Ok(BackendSize { columns_rows: self.size, pixels: Size::default() })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
