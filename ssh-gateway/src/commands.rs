//! One function a command.
