//! Who may look: whoever has the token, or whom a reverse proxy vouches for; everybody of this host when neither is
//! set. Decides, and remembers who is logged in.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use blake3::Hash;
use chores_common::config::{ConfigError, secret_from};
use chores_common::secret::Secret;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderName, HeaderValue, ORIGIN};

use crate::time::SECOND;

#[cfg(test)]
mod tests;

/// Bytes of a token at the least: shorter ones can be tried out.
const TOKEN_BYTES_MIN: usize = 16;

/// How long a browser stays logged in, in seconds.
const SESSION_SECONDS: i64 = 12 * 3600;

/// Browsers that are logged in at the most; then the one that logged in first is logged out.
const SESSIONS_MAX: usize = 256;

/// Random bytes of a session.
const SESSION_BYTES: usize = 32;

/// The value of a header of ours.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What was set.
#[derive(Debug, Clone, Default)]
pub struct AccessSettings {
    /// A file that holds the token.
    pub token_file: Option<PathBuf>,
    /// Names, beside addresses and `localhost`, under which the page is reached.
    pub hosts: Vec<String>,
    /// The header in which a reverse proxy names its user.
    pub user_header: Option<String>,
    /// Where that proxy connects from.
    pub proxies: Vec<Network>,
}

/// What was set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] ConfigError),
    /// The token can be guessed.
    #[error(
        "the token of --ui-token-file is shorter than {TOKEN_BYTES_MIN} bytes: make one with `openssl rand -hex 32`"
    )]
    Short,
    /// No name of a header.
    #[error("--ui-user-header {0:?} is no name of a header")]
    Header(String),
    /// Half a proxy.
    #[error(
        "--ui-user-header and --ui-proxy belong together: the header is believed from these addresses only"
    )]
    Proxy,
    /// Everybody could read everything.
    #[error(
        "{0} can be reached from elsewhere, and everybody could read all logs: give --ui-token-file, or --ui-user-header and --ui-proxy"
    )]
    Open(SocketAddr),
    /// No random numbers.
    #[error("cannot get random bytes: {0}")]
    Random(String),
}

/// Addresses that begin alike: `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: u128,
    mask: u128,
}

/// IPv4 and IPv6 addresses as one number (RFC 4291, section 2.5.5.2).
fn number(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        number(address) & self.mask == self.address & self.mask
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is no address: give for example 10.0.0.5 or 10.0.0.0/24");
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| fault())?;
        let most: u32 = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| fault())?;
        let host_bits = most.checked_sub(bits).ok_or_else(fault)?;
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Ok(Self { address: number(address), mask })
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The name it was sent to is not ours: a page of somebody else may have its name resolve to our address.
    Host,
    /// A page of somebody else asks.
    Site,
    /// Nobody knows who it is.
    Unknown,
}

/// Who may look.
pub struct Access {
    token: Option<Hash>,
    user_header: Option<HeaderName>,
    proxies: Vec<Network>,
    hosts: Vec<String>,
    cookie: String,
    sessions: Mutex<VecDeque<Session>>,
}

/// A browser that is logged in. What it sends as a cookie is known by its hash only.
struct Session {
    hash: Hash,
    /// It is the browser of this address, and of no other: a cookie goes to every port of a host.
    peer: IpAddr,
    /// In seconds since 1970.
    until: i64,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Access {
    /// Makes sense of what was set, for a server at `listen`.
    pub fn new(settings: AccessSettings, listen: SocketAddr) -> Result<Self, AccessError> {
        let token = secret_from("LOGSHIP_UI_TOKEN", None, settings.token_file)?;
        if token.as_ref().is_some_and(|token| token.expose().len() < TOKEN_BYTES_MIN) {
            return Err(AccessError::Short);
        }
        let header = settings
            .user_header
            .map(|name| HeaderName::from_str(&name).map_err(|_| AccessError::Header(name)));
        let header = header.transpose()?;
        if header.is_some() == settings.proxies.is_empty() {
            return Err(AccessError::Proxy);
        }
        if token.is_none() && header.is_none() && !listen.ip().to_canonical().is_loopback() {
            return Err(AccessError::Open(listen));
        }
        Ok(Self {
            token: token.as_ref().map(hash),
            user_header: header,
            proxies: settings.proxies,
            hosts: settings.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            cookie: String::new(),
            sessions: Mutex::default(),
        }
        .at(listen.port()))
    }

    /// The same at this port: cookies are those of a host, whatever its port.
    #[must_use]
    pub fn at(mut self, port: u16) -> Self {
        self.cookie = format!("logship_{port}");
        self
    }

    /// Whether a browser can log in with a token.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Refuses what is not meant for us, or what the page of somebody else asks.
    pub fn is_ours(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()).ok_or(Refusal::Host)?;
        if hosts.next().is_some() || !self.knows(host) {
            return Err(Refusal::Host);
        }
        // A browser says which page asks (Fetch Metadata); other clients say nothing.
        match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
            None | Some(b"same-origin" | b"none") => {}
            // A link to the page is no harm: it shows nothing to whoever made it.
            Some(_) if headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate") => {}
            Some(_) => return Err(Refusal::Site),
        }
        Ok(())
    }

    /// Whether a login comes from our own page.
    pub fn is_own_form(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        match origin.zip(host) {
            Some(((_, origin), host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
            _ => Err(Refusal::Site),
        }
    }

    /// Whether a name is one of ours: an address, which no name service can turn into another one, `localhost`, or
    /// a name that was set.
    fn knows(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let name = name.to_ascii_lowercase();
        address.unwrap_or(&name).parse::<IpAddr>().is_ok()
            || name == "localhost"
            || self.hosts.contains(&name)
    }

    /// Whether whoever asks may look; `now` in nanoseconds since 1970.
    pub fn admits(&self, headers: &HeaderMap, peer: IpAddr, now: i64) -> Result<(), Refusal> {
        if self.token.is_none() && self.user_header.is_none() {
            return Ok(());
        }
        let is_vouched = self.user_header.as_ref().is_some_and(|name| {
            self.proxies.iter().any(|proxy| proxy.holds(peer))
                && headers.get(name).is_some_and(|user| !user.is_empty())
        });
        let has_token = || {
            let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let bearer = bearer.and_then(|value| value.split_once(' '));
            let token = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            token.is_some_and(|(_, token)| self.is_token(&Secret::new(token.trim().to_owned())))
        };
        if is_vouched || has_token() || self.has_session(headers, peer, now) {
            Ok(())
        } else {
            Err(Refusal::Unknown)
        }
    }

    /// Whether it is the token. Hashes are compared, and in constant time: how long it takes tells nothing.
    #[must_use]
    pub fn is_token(&self, token: &Secret) -> bool {
        self.token.is_some_and(|known| known == hash(token))
    }

    /// The cookie of a browser at `peer` that has just logged in, at `now` in nanoseconds since 1970.
    pub fn session(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        now: i64,
    ) -> Result<String, AccessError> {
        let mut bytes = [0; SESSION_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| AccessError::Random(error.to_string()))?;
        let value = Hash::from_bytes(bytes).to_hex();
        let now = now / SECOND;
        let hash = blake3::hash(value.as_bytes());
        let mut sessions = self.sessions();
        sessions.retain(|session| session.until > now);
        if sessions.len() >= SESSIONS_MAX {
            sessions.pop_front();
        }
        let peer = peer.to_canonical();
        sessions.push_back(Session { hash, peer, until: now + SESSION_SECONDS });
        Ok(self.set_cookie(&value, SESSION_SECONDS, headers))
    }

    /// Ends the session of a browser that logs out; its cookie afterwards.
    pub fn end_session(&self, headers: &HeaderMap) -> String {
        for hash in self.cookies(headers) {
            self.sessions().retain(|session| session.hash != hash);
        }
        self.set_cookie("", 0, headers)
    }

    fn set_cookie(&self, value: &str, seconds: i64, headers: &HeaderMap) -> String {
        let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
        let secure = if origin.starts_with(b"https://") { "; Secure" } else { "" };
        let name = &self.cookie;
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }

    fn has_session(&self, headers: &HeaderMap, peer: IpAddr, now: i64) -> bool {
        let sessions = self.sessions();
        let (peer, now) = (peer.to_canonical(), now / SECOND);
        let is_open = |hash: Hash| {
            let mut open = sessions.iter().filter(|session| session.until > now);
            open.any(|session| session.hash == hash && session.peer == peer)
        };
        self.cookies(headers).into_iter().any(is_open)
    }

    /// Hashes of the values of our cookie: another server on this host may have set one of the same name too.
    fn cookies(&self, headers: &HeaderMap) -> Vec<Hash> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = cookies.flat_map(|cookies| cookies.split(';'));
        let ours = pairs.filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == self.cookie).then(|| blake3::hash(value.as_bytes()))
        });
        ours.collect()
    }

    fn sessions(&self) -> MutexGuard<'_, VecDeque<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(token: &Secret) -> Hash {
    blake3::hash(token.expose().as_bytes())
}
