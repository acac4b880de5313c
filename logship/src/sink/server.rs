//! The server that a URL names, with TLS when the scheme says so.

use std::fmt;

use chores_common::tls::TlsSettings;

use super::options::{OptionFault, Options, SinkUrl};
use super::tls;

/// Where it is, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Server {
    /// As the URL begins.
    pub scheme: String,
    /// Name or address.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// For schemes that end with `+tls`.
    pub tls: Option<TlsSettings>,
}

impl Server {
    /// Reads a URL without a path, such as `form` shows.
    pub(super) fn read(
        url: &SinkUrl,
        default_port: u16,
        form: &'static str,
        options: &mut Options<'_>,
    ) -> Result<Self, OptionFault> {
        if !matches!(url.path.as_str(), "" | "/") {
            return Err(OptionFault::Form(form));
        }
        let (host, port) = url.host_and_port(default_port, form)?;
        Ok(Self { scheme: url.scheme.clone(), host, port, tls: tls::read_for(url, options)? })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, .. } = self;
        write!(f, "{scheme}://{host}:{port}")
    }
}
