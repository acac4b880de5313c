//! The page of `logship`: who may see it, what it shows, and what hostile lines and slow browsers cannot do.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::browser::Browser;
use e2e::process::{Run, Running};
use e2e::sandbox::Sandbox;
use logship::block::BlockBuilder;
use logship::cursor::{ContentProof, Cursor, FileCursor, FileIdentity};
use logship::intake::{Chunk, Intake, Message, intake};
use logship::record::{Control, Flags, Gap, GapReason, Stream, control_line};
use logship::source::{Origin, Parse, SourceId, SourceKey, SourceMeta};
use logship::wal::{Log, LogSettings, Role, Running as Writing};
use serde_json::Value;

use crate::tool::WRONG_USAGE;

const BINARY: &str = env!("CARGO_BIN_EXE_logship-under-test");

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(90);

const LOOK_EVERY: Duration = Duration::from_millis(20);

const TOKEN: &str = "4f1d0a7e9c8b6a5f4e3d2c1b0a998877";

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A program that serves the page.
struct Page {
    address: SocketAddr,
    _program: Running,
}

impl Page {
    fn start(args: &[&str], flag: &str) -> Self {
        let address = free_address();
        let (listen, deadline) = (address.to_string(), Duration::from_secs(600));
        let args = args.iter().copied().chain([flag, &listen]).map(str::to_owned);
        let program = Run::new(BINARY).args(args.collect::<Vec<_>>()).deadline(deadline).start();
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "nobody listens at {address}");
            std::thread::sleep(LOOK_EVERY);
        }
        Self { address, _program: program }
    }

    /// What another process ships, from its state directory.
    fn of_state(state: &Path, more: &[&str]) -> Self {
        let state = state.to_str().unwrap();
        Self::start(&[&["serve-ui", "--state", state], more].concat(), "--listen")
    }

    /// A run that ships files and shows them.
    fn of_files(sandbox: &Sandbox, more: &[&str]) -> Self {
        let sink = format!("file://{}/out.ndjson", sandbox.directory("out").display());
        let files = format!("{}/*.log", sandbox.directory("logs").display());
        let state = sandbox.path("state");
        let state = state.to_str().unwrap();
        let args = ["run", "--state", state, "--files", &files, "--sink", &sink];
        Self::start(&[&args, more].concat(), "--ui")
    }

    fn ask(&self, request: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        // A server that has not read all of a request may end the connection with a reset; its answer came before.
        stream.read_to_end(&mut bytes).ok();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
        Reply { head: head.to_owned(), body: body.to_owned() }
    }

    fn get(&self, path: &str, headers: &[&str]) -> Reply {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let address = self.address;
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n"))
    }

    fn post(&self, form: &str, headers: &[&str]) -> Reply {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let (address, length) = (self.address, form.len());
        self.ask(&format!(
            "POST /login HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{headers}\r\n{form}"
        ))
    }

    fn json(&self, path: &str) -> Value {
        let reply = self.get(path, &[]);
        assert_eq!(reply.status(), 200, "{path}: {reply:?}");
        serde_json::from_str(&reply.body).unwrap()
    }

    /// Lines of a page of the past.
    fn lines(&self, query: &str) -> Vec<Value> {
        self.json(&format!("/api/lines?{query}"))["lines"].as_array().unwrap().clone()
    }

    /// Waits until a page of the past is as wanted.
    fn wait_for(&self, query: &str, is_right: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let lines = self.lines(query);
            if is_right(&lines) {
                return lines;
            }
            assert!(Instant::now() < until, "{query}: {lines:?}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn follow(&self, query: &str) -> Follow {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // HTTP/1.0 has no chunks between the events.
        let address = self.address;
        let request = format!("GET /api/live?{query} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut follow = Follow { stream, text: Vec::new() };
        follow.until("event: ready\ndata: {}\n\n");
        follow
    }
}

#[derive(Debug)]
struct Reply {
    head: String,
    body: String,
}

impl Reply {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// A stream of events.
struct Follow {
    stream: TcpStream,
    text: Vec<u8>,
}

impl Follow {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }

    fn read(&mut self) {
        let mut buffer = vec![0; 256 << 10];
        let length = self.stream.read(&mut buffer).unwrap();
        assert!(length > 0, "the stream ended: {}", self.text());
        self.text.extend_from_slice(&buffer[..length]);
    }

    fn until(&mut self, wanted: &str) {
        while !self.text().contains(wanted) {
            self.read();
        }
    }
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// The last bytes of a file that may not be there yet.
fn end_of(path: &Path) -> String {
    const BYTES: u64 = 4096;
    let Ok(mut file) = std::fs::File::open(path) else { return String::new() };
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES))).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["line"].as_str()).collect()
}

#[test]
fn only_those_who_may_see_it_get_the_page() {
    let sandbox = Sandbox::new();
    let state = sandbox.directory("state");
    let token = sandbox.file("token", format!("{TOKEN}\n"));
    let page = Page::of_state(&state, &["--ui-token-file", token.to_str().unwrap()]);
    for path in ["/api/overview", "/api/lines", "/api/line?id=1.0.0", "/api/live"] {
        let reply = page.get(path, &[]);
        assert_eq!((reply.status(), reply.header("www-authenticate")), (401, Some("Bearer")));
    }
    let reply = page.get("/", &[]);
    assert_eq!((reply.status(), reply.header("location")), (303, Some("/login")), "{reply:?}");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(page.get("/api/overview", &[&bearer]).status(), 200);
    assert_eq!(page.get("/api/overview", &["Authorization: Bearer no"]).status(), 401);
    assert_eq!(page.get("/api/overview", &["X-Remote-User: root"]).status(), 401);

    let form = format!("token={TOKEN}");
    assert_eq!(page.post("token=wrong", &[]).status(), 401);
    assert_eq!(page.post(&form, &["Origin: http://evil.example"]).status(), 403);
    assert_eq!(page.post(&"x".repeat(5000), &[]).status(), 400);
    let reply = page.post(&form, &[&format!("Origin: http://{}", page.address)]);
    assert_eq!((reply.status(), reply.header("location")), (303, Some("/")));
    let cookie = reply.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(TOKEN));
    let session = format!("Cookie: {}", cookie.split(';').next().unwrap());
    assert_eq!(page.get("/", &[&session]).status(), 200);
    assert_eq!(page.get("/api/lines", &[&session]).status(), 200);
    let left = page.post("leave=1", &[&session]);
    assert!(left.header("set-cookie").unwrap().contains("Max-Age=0"), "{left:?}");
}

#[test]
fn it_answers_only_what_is_meant_for_it_and_only_reads() {
    let sandbox = Sandbox::new();
    let page = Page::of_state(&sandbox.directory("state"), &["--ui-host", "logs.example.org"]);
    let address = page.address;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), 421),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 421),
        ("GET / HTTP/1.1\r\nHost: logs.example.org\r\n\r\n".to_owned(), 200),
        (format!("GET /none HTTP/1.1\r\nHost: {address}\r\n\r\n"), 404),
        (format!("POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"), 405),
        (format!("DELETE /api/lines HTTP/1.1\r\nHost: {address}\r\n\r\n"), 405),
        (format!("HEAD / HTTP/1.1\r\nHost: {address}\r\n\r\n"), 200),
        (format!("GET / HTTP/1.1\r\nHost: {address}\r\nSec-Fetch-Site: cross-site\r\n\r\n"), 403),
        (format!("GET /api/lines?level=loud HTTP/1.1\r\nHost: {address}\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {address}\r\nX: {}\r\n\r\n", "x".repeat(9000)), 431),
    ] {
        let reply = page.ask(&request);
        assert_eq!(reply.status(), status, "{request}: {reply:?}");
        if status == 431 {
            continue;
        }
        for (name, part) in [
            ("content-security-policy", "default-src 'none'; script-src 'self'"),
            ("content-security-policy", "frame-ancestors 'none'"),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            let value = reply.header(name).unwrap_or_else(|| panic!("{name}: {reply:?}"));
            assert!(value.contains(part), "{name}: {value}");
        }
        assert_eq!(reply.body.is_empty(), request.starts_with("HEAD"), "{request}");
    }
}

#[test]
fn who_could_be_read_by_everybody_does_not_begin() {
    let sandbox = Sandbox::new();
    let state = sandbox.directory("state");
    let state = state.to_str().unwrap();
    let short = sandbox.file("short", "secret\n");
    for (args, wanted) in [
        (&["--listen", "0.0.0.0:0"][..], "0.0.0.0:0 can be reached from elsewhere"),
        (&["--ui-user-header", "X-User"], "--ui-user-header and --ui-proxy belong together"),
        (&["--ui-token-file", short.to_str().unwrap()], "the token of --ui-token-file is shorter"),
        (&["--ui-token-file", "/no/such"], "cannot read /no/such"),
    ] {
        let args = [&["serve-ui", "--state", state], args].concat();
        let finished = Run::new(BINARY).args(args).finish();
        assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
        let said = finished.stderr_text();
        assert!(said.contains(&format!("logship: {wanted}")), "{wanted}: {finished}");
    }
    let args = ["run", "--state", state, "--files", "/no/*.log", "--ui", "0.0.0.0:0"];
    let finished = Run::new(BINARY).args(args).finish();
    assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
    let finished = Run::new(BINARY).args(["serve-ui", "--state", "/no/such"]).finish();
    assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
}

#[test]
fn lines_come_as_they_are_written_and_are_chosen_on_the_server() {
    let sandbox = Sandbox::new();
    let page = Page::of_files(&sandbox, &[]);
    let logs = sandbox.path("logs");
    let mut all = page.follow("");
    let mut errors = page.follow("level=error");
    let mut search = page.follow("q=PA.+%5Cd+f&regex=1");
    append(&logs.join("web.log"), "INFO start\nERROR pay 7 failed\nlevel=info paa 8\n");
    all.until("level=info paa 8");
    errors.until("ERROR pay 7 failed");
    assert!(all.text().contains("INFO start") && all.text().contains("\"level\":\"error\""));
    search.until("ERROR pay 7 failed");
    append(&logs.join("web.log"), "ERROR last\npay 9 failed\n");
    errors.until("ERROR last");
    search.until("pay 9 failed");
    for (follow, foreign) in [(&errors, "paa 8"), (&errors, "INFO"), (&search, "paa 8")] {
        assert!(!follow.text().contains(foreign), "{}", follow.text());
    }
    // The same lines are there for whoever comes later, also by the state directory alone.
    let lines = page.wait_for("", |lines| texts(lines).len() == 5);
    assert_eq!(texts(&lines)[0], "INFO start");
    let other = Page::of_state(&sandbox.path("state"), &[]);
    assert_eq!(other.lines(""), lines);
    let name = format!("{}/web.log", logs.display());
    let overview = other.json("/api/overview");
    assert_eq!(overview["sources"][0]["name"], name);
    assert_eq!(overview["sources"][0]["records"], lines.len());
    let mut live = other.follow(&format!("source={name}"));
    append(&logs.join("other.log"), "not this\n");
    append(&logs.join("web.log"), "but this\n");
    live.until("but this");
    assert!(!live.text().contains("not this"));
}

#[test]
fn a_slow_browser_holds_nothing_up_and_is_told_what_it_missed() {
    const LINES: usize = 20_000;
    let sandbox = Sandbox::new();
    let page = Page::of_files(&sandbox, &[]);
    let mut slow = page.follow("");
    let filler = "x".repeat(1000);
    let mut text = String::new();
    for number in 0..LINES {
        text.push_str(&format!("{number} {filler}\n"));
    }
    append(&sandbox.path("logs/fast.log"), &text);
    // Everything is shipped, while the browser takes nothing.
    let (out, until) = (sandbox.path("out/out.ndjson"), Instant::now() + PATIENCE);
    let last = format!("\"line\":\"{} x", LINES - 1);
    while !end_of(&out).contains(&last) {
        assert!(Instant::now() < until, "the shipper is held up");
        std::thread::sleep(LOOK_EVERY);
    }
    let (mut got, mut skipped) = (0, 0);
    let until = Instant::now() + PATIENCE;
    while got + skipped < LINES {
        assert!(Instant::now() < until, "{got} lines and {skipped} skipped are not {LINES}");
        slow.read();
        let end = slow.text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let events: Vec<u8> = slow.text.drain(..end).collect();
        for line in String::from_utf8(events).unwrap().lines() {
            got += line.matches("\"line\":\"").count();
            skipped += line.strip_prefix("data: ").map_or(0, |data| data.parse().unwrap_or(0));
        }
    }
    assert_eq!(got + skipped, LINES);
    assert!(skipped > 0, "nothing was skipped: the browser was not slow");
}

#[test]
fn a_gap_is_shown_where_it_is() {
    let sandbox = Sandbox::new();
    let logs = sandbox.directory("logs");
    let config = format!(
        "[[source]]\ntype = \"files\"\npaths = [\"{}/*.log\"]\nrate = \"1/s,burst=10\"\n",
        logs.display()
    );
    let config = sandbox.file("logship.toml", config);
    let sink = format!("file://{}/out.ndjson", sandbox.directory("out").display());
    let state = sandbox.path("state");
    let args = ["--state", state.to_str().unwrap(), "--config", config.to_str().unwrap()];
    let page = Page::start(&[&["run", "--sink", &sink], &args[..]].concat(), "--ui");
    let mut live = page.follow("q=nothing+has+this");
    let text: String = (0..100).map(|number| format!("line {number}\n")).collect();
    append(&logs.join("a.log"), &text);
    live.until("rate_limited");
    let is_gap = |line: &Value| line["control"]["control"] == "gap";
    let lines = page.wait_for("", |lines| lines.iter().any(is_gap));
    let gap = lines.iter().find(|line| is_gap(line)).unwrap();
    let lost = gap["control"]["lines"].as_u64().unwrap();
    assert_eq!(usize::try_from(lost).unwrap() + texts(&lines).len(), 100);
    // The ledger hears of it a moment later than who reads along.
    while page.json("/api/overview")["gaps"][0]["lines"].is_null() {
        std::thread::yield_now();
    }
    let overview = page.json("/api/overview");
    assert_eq!(overview["gaps"][0]["lines"], lost);
    assert_eq!(overview["sources"][0]["lost_lines"], lost);
}

/// A log that this process writes, and the page of it another one serves.
struct Written {
    log: Log,
    intake: Option<Intake>,
    writing: Option<Writing>,
    sources: BTreeMap<String, (SourceId, u64)>,
}

impl Written {
    fn new(state: &Path) -> Self {
        let (log, sources) = Log::open(LogSettings::at(state)).unwrap();
        for name in ["archive", "loki"] {
            drop(log.sink(name, Role::Mandatory).unwrap());
        }
        let (intake, receiver) = intake(sources);
        let writing = log.run(receiver).unwrap();
        Self { log, intake: Some(intake), writing: Some(writing), sources: BTreeMap::new() }
    }

    fn write(&mut self, container: &str, ts: i64, flags: Flags, line: &[u8]) {
        let intake = self.intake.as_ref().unwrap();
        let number = self.sources.len();
        let (source, offset) = self.sources.entry(container.to_owned()).or_insert_with(|| {
            let id = format!("{number:064x}");
            let meta = SourceMeta {
                key: SourceKey(format!("engine:{id}")),
                origin: Origin::Engine {
                    id,
                    container: container.to_owned(),
                    image: "shop".to_owned(),
                    project: Some("shop".to_owned()),
                    service: None,
                },
                host: "web-1".to_owned(),
                fields: BTreeMap::new(),
                sinks: None,
                parse: Parse::None,
            };
            (intake.open(meta).id, 0)
        });
        *offset += 1;
        let file = FileIdentity { device: 1, inode: 1, born: None };
        let cursor = FileCursor { shift: 0, file, offset: *offset, proof: ContentProof::default() };
        let mut builder = BlockBuilder::default();
        builder.push(ts, flags, line);
        let block = builder.finish().unwrap();
        let chunk = Chunk { source: *source, block, cursor: Cursor::File(cursor) };
        intake.send_blocking(Message::Chunk(chunk)).unwrap();
    }

    /// The sink has everything up to now.
    fn deliver(&self, sink: &str) {
        let until = Instant::now() + PATIENCE;
        while self.log.durable() < self.log.end() {
            assert!(Instant::now() < until, "the log does not become durable");
            std::thread::sleep(LOOK_EVERY);
        }
        let mut cursor = self.log.sink(sink, Role::Mandatory).unwrap();
        cursor.commit(self.log.durable(), Value::Null).unwrap();
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        drop(self.intake.take());
        if let Some(writing) = self.writing.take() {
            writing.finish(Instant::now() + PATIENCE).ok();
        }
    }
}

fn now() -> i64 {
    logship::time::now()
}

const MILLISECOND: i64 = 1_000_000;

/// Lines that attack whoever looks at them.
const HOSTILE: [&str; 6] = [
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>",
    "</pre></li></ol><a href=\"javascript:document.title='owned'\">click</a><iframe src=//evil.example>",
    "\u{1b}[31mred\u{1b}[0m \u{1b}]0;owned\u{7}\u{1b}[2J\u{8}\u{8}bell",
    "abc \u{202e}gpj.exe\u{2066} \u{200b}hidden\u{feff} end",
    "{\"__proto__\":{\"polluted\":true},\"line\":\"'};alert(1);//\"}",
    "data: [{\"id\":\"forged\"}]\r\revent: lines",
];

#[test]
fn a_browser_shows_hostile_lines_as_text_and_asks_nobody_else() {
    let Some(mut browser) = Browser::start() else { return };
    let sandbox = Sandbox::new();
    let state = sandbox.path("state");
    let mut log = Written::new(&state);
    let stdout = Flags::new(Stream::Stdout);
    for (at, line) in HOSTILE.iter().enumerate() {
        log.write("<b>evil</b>", now() + at as i64, stdout, line.as_bytes());
    }
    let long = format!("BEGIN {} THE END", "long ".repeat(200_000));
    log.write("web", now(), stdout, long.as_bytes());
    log.write("web", now(), stdout, b"\xff\xfe not text");
    log.deliver("archive");
    let token = sandbox.file("token", TOKEN);
    let page = Page::of_state(&state, &["--ui-token-file", token.to_str().unwrap()]);
    let origin = format!("http://{}", page.address);

    browser.resize(1280, 800, false);
    browser.open(&origin);
    browser.wait_for("document.querySelector('#token')");
    browser.evaluate("document.querySelector('#token').focus()");
    browser.type_text("wrong token");
    browser.press("Enter");
    browser.wait_for("document.querySelector('.wrong')");
    browser.evaluate("document.querySelector('#token').focus()");
    browser.type_text(TOKEN);
    browser.press("Enter");
    let count = HOSTILE.len() + 2;
    browser.wait_for(&format!("document.querySelectorAll('#list > li.line').length === {count}"));
    // They are text: nothing of them became an element, and none ran.
    let made = "document.querySelectorAll('#list img, #list script, #list iframe, #list a, #list b, #sources b').length";
    assert_eq!(browser.evaluate(made), 0);
    assert_eq!(browser.evaluate("document.title"), "logship");
    assert_eq!(browser.evaluate("({}).polluted === undefined"), true);
    let shown = browser.evaluate("document.querySelector('#list').textContent");
    let shown = shown.as_str().unwrap();
    for part in [HOSTILE[0], "<b>evil</b>", "U+202E", "U+200B", "U+FEFF", "␇", "␛]0;owned"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert!(!shown.contains(['\u{202e}', '\u{1b}', '\u{7}']), "{shown}");
    // A long line is cut, and all of it is there on demand.
    assert!(shown.contains("show all") && !shown.contains("THE END"));
    browser.evaluate("document.querySelector('.more').click()");
    browser.wait_for("document.querySelector('.all pre').textContent.endsWith('THE END')");

    // Lines come by themselves, and a search asks the server.
    log.write("web", now(), stdout, b"ERROR payment 4711 failed");
    browser.wait_for("document.querySelector('#list > li.error')");
    browser.evaluate("document.querySelector('#lines').focus()");
    browser.press("/");
    assert_eq!(browser.evaluate("document.activeElement.id"), "q");
    browser.type_text("PAYMENT 47");
    browser.wait_for("document.querySelectorAll('#list > li').length === 1");
    browser.wait_for("document.querySelector('#list mark').textContent === 'payment 47'");
    log.write("web", now(), stdout, b"payment 1 done");
    log.write("web", now(), stdout, b"payment 4712 done");
    browser.wait_for("document.querySelectorAll('#list > li').length === 2");
    browser.press("Escape");
    browser.press("r");
    browser.evaluate("document.querySelector('#q').value = '('; document.querySelector('#search').requestSubmit()");
    browser.wait_for("document.querySelector('#fault').textContent.includes('pattern')");

    // A phone shows all of it, and nothing sticks out.
    browser.resize(360, 740, true);
    browser.wait_for("document.documentElement.scrollWidth <= 360");
    browser.evaluate("document.querySelector('#menu').click()");
    browser.wait_for("document.querySelector('#sources button').offsetWidth > 0");
    // What can be pressed has a name for those who do not see it.
    let nameless = "[...document.querySelectorAll('button, input, select')].filter(it => \
        !(it.textContent.trim() || it.ariaLabel || it.labels?.length || it.title)).length";
    assert_eq!(browser.evaluate(nameless), 0);

    let requests = browser.events("Network.requestWillBeSent");
    assert!(requests.len() > 5, "{requests:?}");
    for request in requests {
        let url = request["request"]["url"].as_str().unwrap();
        // The browser's own icon of a field for times, which is in the browser.
        let is_own = url == "about:blank" || url.starts_with("data:image/svg+xml");
        assert!(url.starts_with(&origin) || is_own, "{url} was asked");
    }
    assert_eq!(browser.events("Runtime.exceptionThrown"), Vec::<Value>::new());
    assert_eq!(browser.events("Runtime.consoleAPICalled"), Vec::<Value>::new());
    // The browser itself tells of answers that are no success: those above were meant to fail. And it notes where somebody
    // was faster than its autofocus.
    let complaints = browser.events("Log.entryAdded");
    let is_unexpected =
        |it: &&Value| it["entry"]["source"] != "network" && it["entry"]["level"] != "info";
    let unexpected = complaints.iter().filter(is_unexpected);
    assert_eq!(unexpected.collect::<Vec<_>>(), Vec::<&Value>::new());
}

/// A shop with a bad minute. Leaves pictures in `target/tmp`; `docs/logship-ui.png` shows the same lines.
#[test]
fn a_picture_of_the_page_can_be_taken() {
    /// More would be a burden in a repository, in bytes.
    const PICTURE_BYTES_MAX: usize = 300_000;
    let Some(mut browser) = Browser::start() else { return };
    let sandbox = Sandbox::new();
    let state = sandbox.path("state");
    let mut log = Written::new(&state);
    let begin = now() - 45_000 * MILLISECOND;
    let out = Flags::new(Stream::Stdout);
    let err = Flags::new(Stream::Stderr);
    let mut at = begin;
    for round in 0..6_i64 {
        for (source, flags, line) in SHOP {
            at += 137 * MILLISECOND + (round * 31 % 7) * 11 * MILLISECOND;
            let line = line.replace("{n}", &format!("{}", 48_120 + round));
            let flags = if flags { err } else { out };
            log.write(source, at, flags, line.as_bytes());
        }
        if round == 4 {
            let gap = Gap {
                reason: GapReason::Rotated,
                from: Some(at - 600 * MILLISECOND),
                to: Some(at + 1900 * MILLISECOND),
                from_byte: None,
                bytes: Some(412_960),
                lines: Some(1_284),
                exact: true,
            };
            let gap = control_line(&Control::Gap(gap));
            log.write("shop-api-1", at + 1900 * MILLISECOND, out.control(), &gap);
            log.deliver("loki");
        }
    }
    log.deliver("archive");
    let page = Page::of_state(&state, &[]);
    browser.resize(1280, 760, false);
    browser.open(&format!("http://{}", page.address));
    browser.wait_for("document.querySelector('#list > li.gap')");
    browser.wait_for("document.querySelectorAll('#sources li').length === 6");
    let gap = browser.evaluate("document.querySelector('#list > li.gap').textContent");
    assert!(gap.as_str().unwrap().contains("Gap: 1,284 lines, 403 KiB missing"), "{gap}");
    browser.wait_for("document.querySelector('#sinks').textContent.includes('behind')");
    let picture = browser.screenshot();
    assert!(picture.starts_with(b"\x89PNG"));
    assert!(picture.len() < PICTURE_BYTES_MAX, "{} bytes", picture.len());
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("logship-ui.png"), picture).unwrap();
    for (name, width, height, script) in
        [("dark", 1280, 760, "document.querySelector('#theme').click()"), ("phone", 390, 800, "0")]
    {
        browser.resize(width, height, name == "phone");
        browser.evaluate(script);
        browser.wait_for("document.querySelector('#list > li.gap')");
        let name = format!("logship-ui-{name}.png");
        std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), browser.screenshot())
            .unwrap();
    }
}

/// Container, whether it is standard error, line.
const SHOP: [(&str, bool, &str); 16] = [
    (
        "nginx",
        false,
        r#"10.0.3.17 - - "GET /products?page=2 HTTP/1.1" 200 18422 "https://shop.example/" 0.042"#,
    ),
    (
        "shop-api-1",
        false,
        r#"{"level":"info","msg":"request","method":"GET","path":"/products","status":200,"ms":41,"trace":"9f2c{n}"}"#,
    ),
    (
        "shop-api-2",
        false,
        r#"{"level":"info","msg":"request","method":"POST","path":"/cart/{n}/items","status":201,"ms":18}"#,
    ),
    (
        "postgres",
        true,
        r#"LOG:  duration: 12.402 ms  statement: SELECT id, name, price FROM products ORDER BY name LIMIT 50 OFFSET 50"#,
    ),
    ("redis", false, "1:M 29 Nov 2026 23:10:04.117 * 100 changes in 300 seconds. Saving..."),
    (
        "nginx",
        false,
        r#"10.0.3.21 - - "POST /cart/{n}/items HTTP/1.1" 201 311 "https://shop.example/products" 0.020"#,
    ),
    ("worker", false, "INFO  orders.mailer: order {n} confirmed, mail queued"),
    ("shop-api-1", false, r#"{"level":"debug","msg":"cache","key":"products:2","hit":true}"#),
    (
        "shop-api-2",
        false,
        r#"{"level":"warn","msg":"slow query","table":"orders","ms":1204,"order":{n}}"#,
    ),
    (
        "worker",
        true,
        "WARNING payments.client: retry 1 of 5 for order {n}: read timed out after 3.0 s",
    ),
    (
        "nginx",
        false,
        r#"10.0.3.17 - - "GET /static/app.4c1e.css HTTP/1.1" 304 0 "https://shop.example/" 0.001"#,
    ),
    ("postgres", true, r#"ERROR:  deadlock detected at character 87"#),
    ("worker", true, "ERROR payments.client: order {n} not charged: gateway answered 503"),
    (
        "shop-api-1",
        false,
        r#"{"level":"error","msg":"payment failed","order":{n},"gateway":"adyen","status":503}"#,
    ),
    (
        "nginx",
        true,
        r#"2026/11/29 23:10:05 [warn] 29#29: *8123 upstream response is buffered to a temporary file, client: 10.0.3.21"#,
    ),
    ("redis", false, "1:M 29 Nov 2026 23:10:05.220 * Background saving terminated with success"),
];
