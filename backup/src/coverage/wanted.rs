//! Which rows a name on the command line means (pure): those of exactly that name, never those of an id that begins so.

use super::decide::{Row, is_random};
use super::inventory::{Known, What};

#[cfg(test)]
mod tests;

/// What means the anonymous volumes that no container uses; no name has a colon in it.
const UNUSED_ANONYMOUS: &str = "anonymous:unused";

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `volume:NAME`.
    Volume(String),
    /// `container:NAME`: its database, and what it uses.
    Container(String),
    /// `/PATH`: a path of the host.
    Path(String),
    /// The volume or container of this name; `CONTAINER:/PATH`: a mount of no known kind.
    Name(String),
    /// `anonymous:unused`: the anonymous volumes that no container uses.
    UnusedAnonymous,
}

/// A name that does not say what is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    /// There is nothing of this name.
    #[error(
        "no volume, container or bound path of this host is called {0}: names are compared whole, and ids are none"
    )]
    Nothing(String),
    /// There are two.
    #[error("{0} is the name of a volume and of a container: say volume:{0} or container:{0}")]
    Ambiguous(String),
}

impl std::str::FromStr for Wanted {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == UNUSED_ANONYMOUS {
            Self::UnusedAnonymous
        } else if let Some(name) = text.strip_prefix("volume:") {
            Self::Volume(name.to_owned())
        } else if let Some(name) = text.strip_prefix("container:") {
            Self::Container(name.to_owned())
        } else if text.starts_with('/') {
            Self::Path(text.to_owned())
        } else {
            Self::Name(text.to_owned())
        })
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume(name) => write!(f, "volume:{name}"),
            Self::Container(name) => write!(f, "container:{name}"),
            Self::UnusedAnonymous => f.write_str(UNUSED_ANONYMOUS),
            Self::Path(name) | Self::Name(name) => f.write_str(name),
        }
    }
}

impl Wanted {
    /// The same without doubt about what is meant.
    pub fn resolve(&self, rows: &[Row], containers: &[Known]) -> Result<Self, WantedError> {
        let is_container = |name: &str| {
            containers.iter().any(|known| known.identity.name == name)
                || rows.iter().any(|row| Self::Container(name.to_owned()).is(row))
        };
        let is_row = |wanted: &Self| rows.iter().any(|row| wanted.is(row));
        let found = match self {
            Self::Name(name) => {
                let volume = Self::Volume(name.clone());
                match (is_row(&volume), is_container(name)) {
                    (true, true) => return Err(WantedError::Ambiguous(name.clone())),
                    (true, false) => Some(volume),
                    (false, true) => Some(Self::Container(name.clone())),
                    (false, false) => is_row(self).then(|| self.clone()),
                }
            }
            Self::Container(name) => is_container(name).then(|| self.clone()),
            // There need not be any.
            Self::UnusedAnonymous => Some(Self::UnusedAnonymous),
            Self::Volume(_) | Self::Path(_) => is_row(self).then(|| self.clone()),
        };
        found.ok_or_else(|| WantedError::Nothing(self.to_string()))
    }

    /// Whether it means this row.
    #[must_use]
    pub fn is(&self, row: &Row) -> bool {
        match (self, &row.what) {
            (Self::Volume(wanted), What::Volume { name, .. }) => wanted == name,
            (Self::Path(wanted), What::Bind { path }) => wanted == path,
            (Self::Container(wanted), _) => {
                row.users.contains(wanted) || row.is_database_of(wanted)
            }
            (Self::Name(wanted), What::Mount { name }) => wanted == name,
            (Self::UnusedAnonymous, What::Volume { name, .. }) => {
                is_random(name) && row.users.is_empty()
            }
            (Self::Volume(_) | Self::Path(_) | Self::Name(_) | Self::UnusedAnonymous, _) => false,
        }
    }
}

impl Wanted {
    /// Whether it means this row and nobody else's data is in it.
    #[must_use]
    pub fn is_alone(&self, row: &Row) -> bool {
        let is_its = |name: &String| row.users.iter().all(|user| user == name);
        self.is(row) && !matches!(self, Self::Container(name) if !is_its(name))
    }
}

impl Row {
    fn is_database_of(&self, wanted: &str) -> bool {
        matches!(&self.what, What::Database { container, .. } if container.name == wanted)
    }
}
