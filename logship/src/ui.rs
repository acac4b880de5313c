//! A page for browsers: lines as they come and as they were, with gaps in their place, and how sources, log and
//! sinks are doing. It shows and changes nothing.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use chores_common::exit::chain;
use chores_common::object::S3Settings;
use chores_common::secret::Secret;
use chores_common::server::{self, Limits};
use chores_common::shutdown::Shutdown;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use access::{Access, AccessError, AccessSettings, Refusal};
use line::Key;
use live::{Live, Origin, Seat};
use overview::{Gaps, Overview};
use past::Past;
use query::Asked;

use crate::status::Watched;
use crate::time;
use crate::wal::{Log, Onlooker, WalError};

pub mod access;
pub mod level;
pub mod line;
pub mod live;
pub mod overview;
pub mod past;
pub mod query;

#[cfg(test)]
mod tests;

/// What clients may take. A stream of lines ends after this time, and the browser asks for the next one.
const LIMITS: Limits = Limits {
    connections: 64,
    head_bytes: 8192,
    headers: 100,
    head_time: Duration::from_secs(5),
    time: Some(Duration::from_secs(3600)),
    stall: None,
};

/// Bytes of a login form.
const FORM_BYTES_MAX: usize = 4096;

/// How long a client may take to send it.
const FORM_TIME_MAX: Duration = Duration::from_secs(5);

/// Searches at once; each may read gigabytes.
const SEARCHES_MAX: usize = 2;

/// How long a search waits for its turn.
const SEARCH_WAIT: Duration = Duration::from_secs(10);

/// A stream without lines says that it is alive this often.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A client that takes nothing for so long is gone.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Everything comes from here and nothing from elsewhere; no script but ours runs, whatever a line holds.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Headers of every answer.
const HEADERS: [(&str, &str); 9] = [
    ("content-security-policy", POLICY),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    // With less, browsers do not say from which page a form is sent.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("cache-control", "no-store"),
    ("x-robots-tag", "noindex"),
];

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// The page cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum UiError {
    /// Who may look is not clear.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The address cannot be used.
    #[error("cannot serve the page at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start the thread that reads lines for the page")]
    Thread(#[source] io::Error),
}

/// How the page is served.
#[derive(Debug, Clone)]
pub struct UiSettings {
    /// Where.
    pub listen: SocketAddr,
    /// To whom.
    pub access: AccessSettings,
    /// Archives that the page looks into.
    pub archives: Vec<String>,
    /// How to reach those in S3.
    pub s3: S3Settings,
}

/// What the page shows.
#[derive(Debug)]
pub enum Subject {
    /// The run of this process.
    Run {
        /// Its numbers.
        watched: Watched,
        /// Its log.
        log: Log,
        /// The state directory of the log; absent when lines are in memory only.
        wal: Option<PathBuf>,
        /// The state directory.
        state: Option<PathBuf>,
    },
    /// What another process keeps in this state directory.
    State(PathBuf),
}

/// The server, which ends with it.
#[derive(Debug)]
pub struct Ui {
    stop: Shutdown,
    address: SocketAddr,
    live: Arc<Live>,
    thread: Option<JoinHandle<()>>,
}

impl Ui {
    /// Serves from now on.
    pub fn start(
        settings: UiSettings,
        subject: Subject,
        runtime: &Handle,
    ) -> Result<Self, UiError> {
        let UiSettings { listen: address, access, archives, s3 } = settings;
        let access = Access::new(access, address)?;
        let (listener, bound) = server::listen(address, runtime)
            .map_err(|source| UiError::Listen { address, source })?;
        let access = access.at(bound.port());
        let past = |state: Option<PathBuf>, log: Option<Log>| Past {
            state,
            log,
            archives,
            s3,
            runtime: runtime.clone(),
        };
        let (origin, past) = match &subject {
            Subject::Run { log, wal, .. } => {
                let in_memory = wal.is_none().then(|| log.clone());
                (Origin::Own(log.clone()), past(wal.clone(), in_memory))
            }
            Subject::State(state) => {
                (Origin::Other(state.clone()), past(Some(state.clone()), None))
            }
        };
        let onlooker = match &subject {
            Subject::Run { .. } => None,
            Subject::State(state) => Some(Mutex::new(Onlooker::new(state))),
        };
        let live = Arc::new(Live::default());
        let reading = live.clone();
        let thread = std::thread::Builder::new()
            .name("page".to_owned())
            .spawn(move || reading.run(&origin))
            .map_err(UiError::Thread)?;
        let pages = Arc::new(Pages {
            access,
            subject,
            onlooker,
            gaps: Gaps::default(),
            past: Arc::new(past),
            live: live.clone(),
            searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
        });
        let stop = Shutdown::new();
        let stopped = stop.clone();
        runtime.spawn(async move {
            let accept = || listener.accept();
            let served = server::serve(accept, LIMITS, move |request, peer: SocketAddr| {
                let pages = pages.clone();
                async move { pages.answer(request, peer.ip()).await }
            });
            stopped.or(served).await
        });
        tracing::info!(address = %bound, "serving the page: http://{bound}/");
        Ok(Self { stop, address: bound, live, thread: Some(thread) })
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        self.stop.request();
        self.live.end();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing to add.
            thread.join().ok();
        }
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Page,
    Login,
    File(&'static str, &'static str),
    Overview,
    Lines,
    Line,
    Live,
}

/// Files that everybody may have: they tell nothing.
const FILES: [(&str, Route); 4] = [
    ("/page.css", Route::File("text/css; charset=utf-8", include_str!("ui/page.css"))),
    ("/page.js", Route::File("text/javascript; charset=utf-8", include_str!("ui/page.js"))),
    ("/text.js", Route::File("text/javascript; charset=utf-8", include_str!("ui/text.js"))),
    ("/icon.svg", Route::File("image/svg+xml", include_str!("ui/icon.svg"))),
];

fn route(path: &str) -> Option<Route> {
    match path {
        "/" => Some(Route::Page),
        "/login" => Some(Route::Login),
        "/api/overview" => Some(Route::Overview),
        "/api/lines" => Some(Route::Lines),
        "/api/line" => Some(Route::Line),
        "/api/live" => Some(Route::Live),
        path => FILES.into_iter().find(|(name, _)| *name == path).map(|(_, file)| file),
    }
}

/// What the server holds.
#[derive(Debug)]
struct Pages {
    access: Access,
    subject: Subject,
    /// Only for the state directory of another process.
    onlooker: Option<Mutex<Onlooker>>,
    gaps: Gaps,
    past: Arc<Past>,
    live: Arc<Live>,
    searches: Arc<Semaphore>,
}

/// Tells a search that nobody waits for it any more.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Pages {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Answer {
        let is_head = request.method() == Method::HEAD;
        let mut answer = self.choose(request, peer).await;
        for (name, value) in HEADERS {
            let name = HeaderName::from_static(name);
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if is_head {
            *answer.body_mut() = body(Bytes::new());
        }
        answer
    }

    async fn choose(self: Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Answer {
        if let Err(refusal) = self.access.is_ours(request.headers()) {
            return refused(refusal);
        }
        let Some(route) = route(request.uri().path()) else {
            return fault(StatusCode::NOT_FOUND, "there is no such page");
        };
        let method = request.method();
        if route == Route::Login && method == Method::POST {
            return self.log_in(request, peer).await;
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut answer = fault(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match route {
            Route::File(kind, text) => return ok(kind, text),
            Route::Login if self.access.has_token() => return ok(HTML, LOGIN),
            _ => {}
        }
        if let Err(refusal) = self.access.admits(request.headers(), peer, time::now()) {
            // A person is led to where the token can be given.
            if route == Route::Page && self.access.has_token() {
                return lead("/login", None);
            }
            return refused(refusal);
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        match route {
            Route::Login => lead("/", None),
            Route::Overview => self.overview().await,
            Route::Lines => self.lines(&query).await,
            Route::Line => self.line(&query).await,
            // Its stream would never be read.
            Route::Live if method == Method::HEAD => ok(EVENTS, ""),
            Route::Live => self.live(&query),
            Route::Page | Route::File(..) => ok(HTML, PAGE),
        }
    }

    /// Takes the token of the form, or ends the session.
    async fn log_in(&self, request: Request<Incoming>, peer: IpAddr) -> Answer {
        let (head, content) = request.into_parts();
        if let Err(refusal) = self.access.is_own_form(&head.headers) {
            return refused(refusal);
        }
        let form = Limited::new(content, FORM_BYTES_MAX).collect();
        let Ok(Ok(form)) = tokio::time::timeout(FORM_TIME_MAX, form).await else {
            return fault(StatusCode::BAD_REQUEST, "the form is too long or too slow");
        };
        let form = form.to_bytes();
        let (mut token, mut is_leaving) = (String::new(), false);
        for (name, value) in form_urlencoded::parse(&form) {
            match name.as_ref() {
                "token" => token = value.into_owned(),
                "leave" => is_leaving = true,
                _ => {}
            }
        }
        let token = Secret::new(token);
        if is_leaving {
            return lead("/login", Some(self.access.end_session(&head.headers)));
        }
        if !self.access.is_token(&token) {
            tracing::warn!(%peer, "a login with a wrong token");
            let mut answer = ok(HTML, LOGIN.replacen(FORM, &format!("{WRONG}{FORM}"), 1));
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
            return answer;
        }
        match self.access.session(&head.headers, peer, time::now()) {
            Ok(cookie) => lead("/", Some(cookie)),
            Err(error) => fault(StatusCode::INTERNAL_SERVER_ERROR, &chain(&error)),
        }
    }

    async fn overview(self: Arc<Self>) -> Answer {
        let has_login = self.access.has_token();
        match tokio::task::spawn_blocking(move || self.look()).await {
            Ok(Ok(overview)) => json(&Overview { has_login, ..overview }),
            Ok(Err(error)) => fault(StatusCode::INTERNAL_SERVER_ERROR, &chain(&error)),
            Err(_) => fault(StatusCode::INTERNAL_SERVER_ERROR, "the overview failed"),
        }
    }

    fn look(&self) -> Result<Overview, WalError> {
        match (&self.subject, &self.onlooker) {
            (Subject::Run { watched, state, .. }, _) => {
                let gaps = self.gaps.of(state.as_deref());
                Ok(overview::of_snapshot(&watched.snapshot(), gaps))
            }
            (Subject::State(state), Some(onlooker)) => {
                let mut onlooker = onlooker.lock().unwrap_or_else(PoisonError::into_inner);
                let glance = onlooker.look()?;
                Ok(overview::of_glance(&glance, self.gaps.of(Some(state))))
            }
            (Subject::State(_), None) => Err(WalError::Failed("nothing is looked at".to_owned())),
        }
    }

    async fn lines(&self, query: &str) -> Answer {
        let asked = match Asked::parse(query, time::now()) {
            Ok(asked) => asked,
            Err(error) => return fault(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let search = move |past: &Past, is_unwanted: &AtomicBool| {
            past.page(&asked.query, asked.page(), is_unwanted)
        };
        match self.search(search).await {
            Ok(found) => json(&found),
            Err(answer) => answer,
        }
    }

    async fn line(&self, query: &str) -> Answer {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let id = pairs.find(|(name, _)| name == "id").and_then(|(_, id)| Key::parse(&id));
        let Some(key) = id else {
            return fault(StatusCode::BAD_REQUEST, "give the id of a line");
        };
        let search = move |past: &Past, is_unwanted: &AtomicBool| past.line(key, is_unwanted);
        match self.search(search).await {
            Ok(Some(line)) => ok(TEXT, Bytes::from(String::from_utf8_lossy(&line).into_owned())),
            Ok(None) => fault(
                StatusCode::NOT_FOUND,
                "the line is neither in the log any more nor in an archive that the page knows",
            ),
            Err(answer) => answer,
        }
    }

    /// Searches in a thread, when it is its turn; what nobody waits for any more is given up.
    async fn search<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Past, &AtomicBool) -> T + Send + 'static,
    ) -> Result<T, Answer> {
        let turn = tokio::time::timeout(SEARCH_WAIT, self.searches.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            let sentence = "other searches are running: try again in a moment";
            return Err(fault(StatusCode::SERVICE_UNAVAILABLE, sentence));
        };
        let is_unwanted = Arc::new(AtomicBool::new(false));
        let wanted = Wanted(is_unwanted.clone());
        let past = self.past.clone();
        let done = tokio::task::spawn_blocking(move || {
            let found = work(&past, &is_unwanted);
            drop(turn);
            found
        });
        let done = done.await;
        drop(wanted);
        done.map_err(|_| fault(StatusCode::INTERNAL_SERVER_ERROR, "the search failed"))
    }

    fn live(&self, query: &str) -> Answer {
        let asked = match Asked::parse(query, time::now()) {
            Ok(asked) => asked,
            Err(error) => return fault(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let Some(seat) = self.live.join(asked.query) else {
            let sentence = "too many browsers look at lines as they come: close one";
            return fault(StatusCode::SERVICE_UNAVAILABLE, sentence);
        };
        // One chunk waits for the client; all else in its queue, which is bounded and tells what it left out.
        let (sender, chunks) = mpsc::channel(1);
        tokio::spawn(feed(seat, sender));
        let mut answer = Response::new(Chunks(chunks).boxed_unsync());
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(EVENTS));
        answer
    }
}

const EVENTS: &str = "text/event-stream";
const PAGE: &str = include_str!("ui/page.html");
const LOGIN: &str = include_str!("ui/login.html");
/// Where the form to log in begins, and what stands before it after a wrong token.
const FORM: &str = "<form ";
const WRONG: &str = "<p class=\"wrong\" role=\"alert\">This is not the token.</p>\n";

/// Sends what a browser asked for until it is gone.
async fn feed(seat: Seat, sender: mpsc::Sender<Bytes>) {
    loop {
        let mut chunk = seat.take();
        if chunk.is_empty() {
            tokio::select! {
                () = sender.closed() => return,
                () = seat.more() => continue,
                () = tokio::time::sleep(HEARTBEAT) => chunk = Bytes::from_static(b":\n\n"),
            }
        }
        if sender.send_timeout(chunk, STALL_MAX).await.is_err() {
            return;
        }
    }
}

/// The body of a stream.
struct Chunks(mpsc::Receiver<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

fn body(bytes: Bytes) -> UnsyncBoxBody<Bytes, Infallible> {
    Full::new(bytes).boxed_unsync()
}

fn ok(kind: &'static str, content: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(body(content.into()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(text) => ok(JSON, text),
        Err(error) => fault(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// A refusal or failure, one sentence.
fn fault(status: StatusCode, sentence: &str) -> Answer {
    let mut answer = ok(JSON, serde_json::json!({"error": sentence}).to_string());
    *answer.status_mut() = status;
    answer
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::Host => fault(
            StatusCode::MISDIRECTED_REQUEST,
            "this name is not known here: name it with --ui-host",
        ),
        Refusal::Site => fault(StatusCode::FORBIDDEN, "the page of another site asks"),
        Refusal::Unknown => {
            let mut answer = fault(StatusCode::UNAUTHORIZED, "give the token");
            let name = HeaderName::from_static("www-authenticate");
            answer.headers_mut().insert(name, HeaderValue::from_static("Bearer"));
            answer
        }
    }
}

fn lead(path: &'static str, cookie: Option<String>) -> Answer {
    let mut answer = ok(TEXT, "");
    *answer.status_mut() = StatusCode::SEE_OTHER;
    let headers: &mut HeaderMap = answer.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static(path));
    // It is made of digits, letters and signs that headers may have.
    let cookie = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok());
    if let Some(cookie) = cookie {
        headers.insert(SET_COOKIE, cookie);
    }
    answer
}
