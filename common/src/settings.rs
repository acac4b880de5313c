//! Configuration files: TOML, read to its end, so that all of its faults are told at once, each with its line, its
//! column, its key and what would be right.

use std::cell::RefCell;
use std::fmt;
use std::io::Read as _;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::quantity;

#[cfg(test)]
mod tests;

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Faults that are told; more of them would hide the first.
pub const FAULTS_MAX: usize = 50;

/// A place in the file: line and column, from 1; a column is a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where; `None` when it is no matter of one place.
    pub place: Option<Place>,
    /// Which key: `source[2].rate`; empty when it is no TOML.
    pub key: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

/// All that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFaults {
    /// The file.
    pub path: PathBuf,
    /// In the order of the file; never empty.
    pub faults: Vec<Fault>,
}

impl fmt::Display for FileFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.path.display())?;
            if let Some(place) = fault.place {
                write!(f, ":{}:{}", place.line, place.column)?;
            }
            f.write_str(": ")?;
            if !fault.key.is_empty() {
                write!(f, "{}: ", fault.key)?;
            }
            f.write_str(&fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for FileFaults {}

/// Reads a file with [`parse`] or something round it.
pub fn read<T>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, Vec<Fault>>,
) -> Result<T, FileFaults> {
    let fail = |message: String| FileFaults {
        path: path.to_owned(),
        faults: vec![Fault { place: None, key: String::new(), message }],
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| fail(format!("the configuration cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(fail(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| fail("it is no UTF-8 text".to_owned()))?;
    parse(&text).map_err(|faults| FileFaults { path: path.to_owned(), faults })
}

/// Reads the text of a file: `take` asks the root table for what it knows, and ends it.
pub fn parse<T>(text: &str, take: impl FnOnce(&Table<'_>) -> T) -> Result<T, Vec<Fault>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let reader = Reader { text, faults: RefCell::default() };
    for error in errors {
        reader.fault(&error.span().unwrap_or_default(), "", error.message());
    }
    // What a broken text seems to say would only add faults that are none.
    let is_toml = reader.faults.borrow().is_empty();
    let span = 0..text.len();
    let taken = is_toml.then(|| take(&Table::new(&reader, String::new(), span, root.get_ref())));
    let mut faults = reader.faults.into_inner();
    if let Some(taken) = taken.filter(|_| faults.is_empty()) {
        return Ok(taken);
    }
    faults.sort_by_key(|fault| fault.place);
    faults.truncate(FAULTS_MAX);
    Err(faults)
}

/// `x is none of a, b and c`.
#[must_use]
pub fn one_of(text: &str, allowed: &[&str]) -> String {
    let allowed = match allowed.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => allowed.join(""),
    };
    format!("{text:?} is none of {allowed}")
}

#[derive(Debug)]
struct Reader<'a> {
    text: &'a str,
    faults: RefCell<Vec<Fault>>,
}

impl Reader<'_> {
    fn fault(&self, span: &Range<usize>, key: &str, message: &str) {
        let place = Some(place(self.text, span.start));
        let message = message.replace('\n', " ");
        self.faults.borrow_mut().push(Fault { place, key: key.to_owned(), message });
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Integer,
    /// Another number.
    Float,
    /// True or false.
    Boolean,
    /// A date, a time, or both.
    Time,
    /// A list.
    List,
    /// A table.
    Table,
}

/// A value with the key it stands under. What reads it tells the fault and gives `None` when it is something else.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    reader: &'a Reader<'a>,
    key: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

/// A table whose keys are asked for by name; those that nobody asked for are faults.
#[derive(Debug)]
pub struct Table<'a> {
    reader: &'a Reader<'a>,
    key: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    fn new(
        reader: &'a Reader<'a>,
        key: String,
        span: Range<usize>,
        table: &'a DeTable<'a>,
    ) -> Self {
        Self { reader, key, span, table, asked: RefCell::default() }
    }

    fn path(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }

    /// A value by its key.
    #[must_use]
    pub fn get(&self, name: &'static str) -> Option<Item<'a>> {
        self.asked.borrow_mut().push(name);
        self.table.get(name).map(|value| self.item(name, value))
    }

    fn item(&self, name: &str, value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        let (reader, key) = (self.reader, self.path(name));
        Item { reader, key, span: value.span(), value: value.get_ref() }
    }

    /// Every key with its value. None of them counts as asked for.
    pub fn items(&self) -> impl Iterator<Item = (&'a str, Item<'a>)> {
        self.table.iter().map(|(name, value)| {
            let name: &str = name.get_ref();
            (name, self.item(name, value))
        })
    }

    /// Where the table begins.
    #[must_use]
    pub fn place(&self) -> Place {
        place(self.reader.text, self.span.start)
    }

    /// Says that a key is missing.
    pub fn missing(&self, name: &str, message: &str) {
        self.reader.fault(&self.span, &self.path(name), message);
    }

    /// Nothing else may be there.
    pub fn end(&self) {
        let asked = self.asked.borrow();
        for name in self.table.keys() {
            let text: &str = name.get_ref();
            if !asked.contains(&text) {
                let allowed = asked.join(", ");
                let fault = format!("there is no such key here; there are {allowed}");
                self.reader.fault(&name.span(), &self.path(text), &fault);
            }
        }
    }
}

impl<'a> Item<'a> {
    /// Where it begins.
    #[must_use]
    pub fn place(&self) -> Place {
        place(self.reader.text, self.span.start)
    }

    /// Says what is wrong with it.
    pub fn fault(&self, message: &str) {
        self.reader.fault(&self.span, &self.key, message);
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.value {
            DeValue::String(_) => Kind::Text,
            DeValue::Integer(_) => Kind::Integer,
            DeValue::Float(_) => Kind::Float,
            DeValue::Boolean(_) => Kind::Boolean,
            DeValue::Datetime(_) => Kind::Time,
            DeValue::Array(_) => Kind::List,
            DeValue::Table(_) => Kind::Table,
        }
    }

    /// Says that it is something else than wanted.
    pub fn is_not<T>(&self, wanted: &str) -> Option<T> {
        let is = match self.kind() {
            Kind::Text => "a text",
            Kind::Integer => "a whole number",
            Kind::Float => "a number",
            Kind::Boolean => "a boolean",
            Kind::Time => "a time",
            Kind::List => "a list",
            Kind::Table => "a table",
        };
        self.fault(&format!("it is {is}; give {wanted}"));
        None
    }

    /// A path that begins at the root.
    #[must_use]
    pub fn absolute_path(&self) -> Option<PathBuf> {
        self.text("a path", |text| {
            let path = Path::new(text);
            if path.is_absolute() {
                Ok(path.to_owned())
            } else {
                Err(format!("{text:?} is no absolute path"))
            }
        })
    }

    /// What `read` makes of the text.
    pub fn text<T, E: ToString>(
        &self,
        wanted: &str,
        read: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Option<T> {
        let DeValue::String(text) = self.value else { return self.is_not(wanted) };
        match read(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(&error.to_string());
                None
            }
        }
    }

    /// A text that is not empty.
    #[must_use]
    pub fn string(&self) -> Option<String> {
        self.text("a text", |text| match text {
            "" => Err("it is empty"),
            text => Ok(text.to_owned()),
        })
    }

    /// The value of anything but lists, tables and times as it is written.
    #[must_use]
    pub fn scalar(&self) -> Option<String> {
        match self.value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) => Some(number.to_string()),
            DeValue::Float(number) => Some(number.to_string()),
            DeValue::Boolean(value) => Some(value.to_string()),
            _ => None,
        }
    }

    /// True or false.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.is_not("true or false"),
        }
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        match self.value {
            DeValue::Integer(_) => self.integer(0..=i64::MAX.cast_unsigned()),
            _ => self.text("a size such as \"100MB\" or \"1GiB\"", quantity::size),
        }
    }

    /// A time span.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.text("a time such as \"500ms\" or \"5m\"", quantity::duration)
    }

    /// A whole number.
    #[must_use]
    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = self.value else { return self.is_not("a whole number") };
        let value = u64::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            self.fault(&format!("it is out of range: give {} to {}", range.start(), range.end()));
        }
        value
    }

    /// A table.
    #[must_use]
    pub fn table(&self) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(table) => {
                Some(Table::new(self.reader, self.key.clone(), self.span.clone(), table))
            }
            _ => self.is_not("a table"),
        }
    }

    /// The tables of `[[name]]`.
    #[must_use]
    pub fn tables(&self) -> Vec<Table<'a>> {
        match self.value {
            DeValue::Array(_) => self.items().iter().filter_map(Item::table).collect(),
            _ => self.is_not(&format!("[[{}]]", self.key)).unwrap_or_default(),
        }
    }

    /// The elements of a list; something else counts as a list of one.
    #[must_use]
    pub fn items(&self) -> Vec<Self> {
        let DeValue::Array(array) = self.value else { return vec![self.clone()] };
        let items = array.iter().enumerate().map(|(at, value)| Item {
            reader: self.reader,
            key: format!("{}[{}]", self.key, at + 1),
            span: value.span(),
            value: value.get_ref(),
        });
        items.collect()
    }

    /// The texts of a list, or the one text.
    #[must_use]
    pub fn strings(&self) -> Vec<String> {
        self.items().iter().filter_map(Item::string).collect()
    }
}

/// The line and column of a byte.
fn place(text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    Place { line, column }
}
