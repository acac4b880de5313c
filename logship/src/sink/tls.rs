//! TLS to a sink, as an operator writes it.

use std::sync::Arc;

use chores_common::tls::TlsSettings;
use rustls::ClientConfig;

use super::failure::SinkFailure;
use super::options::{OptionFault, Options, SinkUrl};

/// The options of a sink with TLS.
pub(super) fn read(options: &mut Options<'_>) -> Result<TlsSettings, OptionFault> {
    let settings = TlsSettings {
        ca_file: options.path("ca_file"),
        cert_file: options.path("cert_file"),
        key_file: options.path("key_file"),
    };
    if settings.cert_file.is_some() != settings.key_file.is_some() {
        return Err(OptionFault::Conflict(
            "cert_file and key_file belong together: give both or none".to_owned(),
        ));
    }
    Ok(settings)
}

/// The same for a scheme that ends with `+tls`; nothing for others.
pub(super) fn read_for(
    url: &SinkUrl,
    options: &mut Options<'_>,
) -> Result<Option<TlsSettings>, OptionFault> {
    url.scheme.ends_with("+tls").then(|| read(options)).transpose()
}

/// All of it for rustls; nothing for a connection without TLS.
pub(super) fn client_config(
    tls: Option<&TlsSettings>,
    peer: &str,
) -> Result<Option<Arc<ClientConfig>>, SinkFailure> {
    let config = tls.map(|tls| tls.client_config(peer).map(Arc::new)).transpose();
    config.map_err(|error| SinkFailure::of(&format!("cannot use {peer}"), &error))
}
