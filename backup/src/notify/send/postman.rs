//! A mail to a mail server (RFC 5321). All of it has one time limit, and the server one for what it says.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chores_common::exit::chain;
use chores_common::tls::{TlsError, TlsSettings};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{ATTEMPT_TIME_MAX, Outcome};
use crate::notify::channel::address::{MailSettings, Security};
use crate::notify::event::plain;

/// How long a connection may take to come about.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes that a server may say in one session: a line without an end would fill the memory.
const HEARD_BYTES_MAX: usize = 1 << 20;

/// How long a server may take to take leave.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);

/// The first byte of a handshake of TLS (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// How much of what a server says a message shows, in characters.
const SAID_CHARS_MAX: usize = 300;

/// A mail server that cannot be spoken to from this machine.
#[derive(Debug, thiserror::Error)]
pub(in crate::notify) enum PostmanError {
    /// Whom to trust is not known.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The library wants none of it.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
    /// The system has no means left.
    #[error("no requests can be made")]
    Runtime(#[source] io::Error),
}

/// Speaks to one mail server, from one thread.
pub(in crate::notify) struct Postman {
    runtime: Option<Runtime>,
    hello: ClientId,
    security: Secured,
}

/// [`Security`] with what it takes.
enum Secured {
    None,
    StartTls(TlsParameters),
    Tls(Arc<ClientConfig>),
}

impl fmt::Debug for Postman {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postman")
    }
}

impl Drop for Postman {
    fn drop(&mut self) {
        // A name that is still being looked up must not hold up the end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Why a mail did not get away.
enum Failed {
    /// Before anything was said of this mail: that of another would fare the same.
    Smtp(SmtpError),
    /// No recipient was taken.
    Recipients(SmtpError),
    /// Its text was not taken.
    Content(SmtpError),
    Other(String),
}

impl From<SmtpError> for Failed {
    fn from(error: SmtpError) -> Self {
        Self::Smtp(error)
    }
}

impl Postman {
    pub(in crate::notify) fn new(
        settings: &MailSettings,
        tls: &TlsSettings,
    ) -> Result<Self, PostmanError> {
        let shown = settings.shown();
        let security = match settings.security {
            Security::None => Secured::None,
            Security::Tls => Secured::Tls(Arc::new(tls.client_config(&shown)?)),
            Security::StartTls => Secured::StartTls(parameters(settings, tls, &shown)?),
        };
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(PostmanError::Runtime)?;
        Ok(Self { runtime: Some(runtime), hello: hello(), security })
    }

    pub(in crate::notify) fn send(&self, settings: &MailSettings, text: &str) -> Outcome {
        let shown = settings.shown();
        let late = || Failed::Other(format!("no answer within {} s", ATTEMPT_TIME_MAX.as_secs()));
        let Some(runtime) = &self.runtime else {
            return super::later("it is over", None, false);
        };
        let sent = runtime.block_on(async {
            let session = timeout(ATTEMPT_TIME_MAX, self.session(settings, text));
            let mut connection = session.await.unwrap_or_else(|_| Err(late()))?;
            // It has the mail: whether it takes leave is its own affair.
            timeout(LEAVE_TIME_MAX, connection.quit()).await.ok();
            Ok::<(), Failed>(())
        });
        match sent {
            Ok(()) => Outcome::Accepted,
            Err(failed) => failed.judged(settings, &shown),
        }
    }

    /// To the moment when the server has the mail.
    async fn session(
        &self,
        settings: &MailSettings,
        text: &str,
    ) -> Result<AsyncSmtpConnection, Failed> {
        let place = (settings.host.as_str(), settings.port);
        let other = |error: io::Error| Failed::Other(chain(&error));
        let connecting = timeout(CONNECT_TIME_MAX, TcpStream::connect(place)).await;
        let stream =
            connecting.map_err(|_| Failed::Other("no connection".to_owned()))?.map_err(other)?;
        let peer = stream.peer_addr().map_err(other)?;
        let stream: Box<dyn AsyncTokioStream> = match &self.security {
            Secured::Tls(config) => {
                let name = ServerName::try_from(settings.host.clone())
                    .map_err(|error| Failed::Other(chain(&error)))?;
                let secured = TlsConnector::from(config.clone()).connect(name, stream).await;
                Box::new(Bounded {
                    stream: secured.map_err(other)?,
                    left: HEARD_BYTES_MAX,
                    peer,
                    heard: None,
                })
            }
            Secured::None | Secured::StartTls(_) => {
                let heard = matches!(self.security, Secured::StartTls(_)).then(Vec::new);
                Box::new(Bounded { stream, left: HEARD_BYTES_MAX, peer, heard })
            }
        };
        let mut connection =
            AsyncSmtpConnection::connect_with_transport(stream, &self.hello).await?;
        if let Secured::StartTls(parameters) = &self.security {
            connection.starttls(parameters.clone(), &self.hello).await?;
        }
        if let Some((user, password)) = &settings.login {
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
        }
        connection.command(Mail::new(Some(settings.from.address.clone()), Vec::new())).await?;
        let mut refused = None;
        let mut taken = 0_usize;
        for mailbox in &settings.to {
            match connection.command(Rcpt::new(mailbox.address.clone(), Vec::new())).await {
                Ok(_) => taken += 1,
                // One of them that is gone must not keep the others from hearing it.
                Err(error) if error.status().is_some() => {
                    let said = said(&error, settings);
                    tracing::warn!(
                        "{} does not take mail for a recipient: {said}",
                        settings.shown()
                    );
                    refused = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(error) = refused.filter(|_| taken == 0) {
            return Err(Failed::Recipients(error));
        }
        connection.command(Data).await.map_err(Failed::Content)?;
        connection.message(text.as_bytes()).await.map_err(Failed::Content)?;
        Ok(connection)
    }
}

impl Failed {
    fn judged(self, settings: &MailSettings, shown: &str) -> Outcome {
        let (error, is_of_mail, may_be_its_own) = match &self {
            Self::Other(text) => {
                let text = shorten(text, settings);
                return super::later(&format!("cannot send to {shown}: {text}"), None, false);
            }
            Self::Smtp(error) => (error, false, false),
            Self::Recipients(error) => (error, true, false),
            Self::Content(error) => (error, true, error.status().is_some()),
        };
        let sentence = format!("{shown} does not take it: {}", said(error, settings));
        if is_of_mail && error.is_permanent() {
            Outcome::Refused { sentence }
        } else {
            super::later(&sentence, None, may_be_its_own)
        }
    }
}

/// What a server said or what went wrong, in one line and without the password.
fn said(error: &SmtpError, settings: &MailSettings) -> String {
    shorten(&chain(error), settings)
}

fn shorten(text: &str, settings: &MailSettings) -> String {
    let mut text = text.to_owned();
    if let Some((user, password)) = &settings.login {
        let password = password.expose();
        // As PLAIN and LOGIN say it (RFC 4616): a server may repeat what it was told.
        let plain = STANDARD.encode(format!("\0{user}\0{password}"));
        for form in [plain.as_str(), STANDARD.encode(password).as_str(), password] {
            text = text.replace(form, "…");
        }
    }
    plain(&text, SAID_CHARS_MAX)
}

fn parameters(
    settings: &MailSettings,
    tls: &TlsSettings,
    shown: &str,
) -> Result<TlsParameters, PostmanError> {
    let setup = |error: SmtpError| PostmanError::Setup(chain(&error));
    let mut builder =
        TlsParameters::builder(settings.host.clone()).certificate_store(CertificateStore::None);
    for root in tls.roots(shown)? {
        // Some of a distribution's roots may be of a kind that rustls does not know; one of them would spoil all.
        if RootCertStore::empty().add(root.clone()).is_ok() {
            let root = Certificate::from_der(root.to_vec()).map_err(setup)?;
            builder = builder.add_root_certificate(root);
        }
    }
    builder.build_rustls().map_err(setup)
}

/// Who we say we are (RFC 5321, section 4.1.1.1): a name where we have one of the right form.
fn hello() -> ClientId {
    let name = crate::worker::host_name();
    let is_domain = name.contains('.')
        && name.len() <= 253
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    if is_domain { ClientId::Domain(name) } else { ClientId::default() }
}

/// A stream that gives so many bytes and no more.
#[derive(Debug)]
struct Bounded<S> {
    stream: S,
    left: usize,
    peer: SocketAddr,
    /// What was heard since we last said something, before TLS that is to come.
    heard: Option<Vec<u8>>,
}

/// Whether more was said than one answer: lettre would take what was said in the clear for words behind the handshake.
fn is_more_than_an_answer(mut heard: &[u8]) -> bool {
    while let Some(end) = heard.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = heard.split_at_checked(end + 1).unwrap_or((heard, &[]));
        // All lines but the last have a hyphen behind the code (RFC 5321, section 4.2).
        if line.get(3) != Some(&b'-') {
            return !rest.is_empty();
        }
        heard = rest;
    }
    false
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other(
                "the server says more than a mail server has to say",
            )));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        self.left = self.left.saturating_sub(new.len());
        if let Some(heard) = &mut self.heard {
            heard.extend_from_slice(new);
            if is_more_than_an_answer(heard) {
                let error = "it says more than it was asked for, before TLS";
                return Poll::Ready(Err(io::Error::other(error)));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.first() == Some(&HANDSHAKE) {
            self.heard = None;
        } else if let Some(heard) = &mut self.heard {
            heard.clear();
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug> AsyncTokioStream for Bounded<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

#[cfg(test)]
mod tests;
