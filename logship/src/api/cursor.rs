//! What was taken from the API of one container.

use serde::{Deserialize, Serialize};

/// How far the API of one container was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ApiCursor {}

impl ApiCursor {
    /// Takes over what a later frame adds.
    pub fn advance(&mut self, update: Self) {
        *self = update;
    }
}
