//! The session keyring (keyrings(7)): every process of a container that its runtime starts shares one.

use std::ffi::CString;
use std::io;

use super::step::{OrFail as _, Step};
use super::sys;
use crate::wire::task::FailureKind;

/// Joins the keyring that the runtime made for the container (`_ses.ID`). A kernel without keyrings has none
/// to join.
pub fn join(container_id: &str) -> Step<()> {
    let name = CString::new(format!("_ses.{container_id}")).map_err(io::Error::from);
    let joined = name.and_then(|name| sys::join_session_keyring(&name));
    match joined {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        joined => joined
            .map(|_serial| ())
            .or_errno(FailureKind::Confinement, "joining the container's session keyring"),
    }
}
