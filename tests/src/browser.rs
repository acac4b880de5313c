//! A real browser: headless Chromium of the machine, driven over its DevTools protocol
//! (<https://chromedevtools.github.io/devtools-protocol/>) through pipes: messages are JSON, each ends with a zero
//! byte.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::process::find_program;
use crate::sandbox::Sandbox;

/// How long an answer, or what a test waits for, may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often a page is asked whether something has come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Messages that wait to be read.
const MESSAGES_MAX: usize = 4096;

/// No sandbox of its own: it cannot have one as root. Nothing but the page is asked of anybody.
const FLAGS: [&str; 13] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
];

/// A browser with one page, which ends with this value.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    events: VecDeque<Value>,
    last: u64,
    session: Option<String>,
    _home: Sandbox,
}

impl Browser {
    /// Starts it; `None`, with the reason on stderr, when the machine has none.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(program) = find_program("chromium") else {
            assert!(
                std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(),
                "chromium is missing (Debian package chromium)"
            );
            crate::notice!("skipped: no chromium (Debian package chromium)");
            return None;
        };
        let home = Sandbox::new();
        // It reads orders from descriptor 3 and answers on 4.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null"#, "sh"])
            .arg(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", home.path("profile").display()))
            .arg("about:blank")
            .env("HOME", home.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("chromium starts");
        let input = child.stdin.take().expect("stdin is piped");
        let mut output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, messages) = sync_channel(MESSAGES_MAX);
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                let read = serde_json::from_slice::<Value>(&message);
                if read.is_ok_and(|read| sender.send(read).is_err()) {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            child,
            input,
            messages,
            events: VecDeque::new(),
            last: 0,
            session: None,
            _home: home,
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        Some(browser)
    }

    /// Gives an order, and its answer. What happens meanwhile is kept.
    ///
    /// # Panics
    /// When it is refused, or not answered in time.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut order = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            order["sessionId"] = json!(session);
        }
        let mut bytes = order.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).expect("the browser takes orders");
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            let mut message = message.unwrap_or_else(|_| panic!("no answer to {method}"));
            if message["id"] == json!(self.last) {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
            self.events.push_back(message);
        }
    }

    /// Opens a page.
    pub fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", &json!({"url": url}));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
    }

    /// The value of an expression in the page.
    ///
    /// # Panics
    /// When it throws.
    pub fn evaluate(&mut self, script: &str) -> Value {
        let how = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let mut done = self.call("Runtime.evaluate", &how);
        assert!(done["exceptionDetails"].is_null(), "{script}: {}", done["exceptionDetails"]);
        done["result"]["value"].take()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// When it does not become so in time, with what the page shows.
    pub fn wait_for(&mut self, script: &str) {
        let until = Instant::now() + PATIENCE;
        // A page that is being opened has nothing to ask for yet.
        let guarded =
            format!("(() => {{ try {{ return Boolean({script}) }} catch {{ return false }} }})()");
        while self.evaluate(&guarded) != json!(true) {
            if Instant::now() > until {
                let text = self.evaluate("document.body.innerText");
                panic!("{script} is not true: {text}\n{:?}", self.events);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Presses and releases a key, by its name in the DOM.
    pub fn press(&mut self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            _ => 0,
        };
        let text = if key == "Enter" { "\r" } else { text };
        let down =
            json!({"type": "keyDown", "key": key, "text": text, "windowsVirtualKeyCode": code});
        self.call("Input.dispatchKeyEvent", &down);
        let up = json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code});
        self.call("Input.dispatchKeyEvent", &up);
    }

    /// Types a text where the focus is.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Makes the window as large.
    pub fn resize(&mut self, width: u32, height: u32, is_phone: bool) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone});
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// What the page looks like, as PNG.
    ///
    /// # Panics
    /// When there is no picture.
    pub fn screenshot(&mut self) -> Vec<u8> {
        let taken = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        STANDARD.decode(taken["data"].as_str().expect("a picture")).expect("base64")
    }

    /// Everything that happened with this name (`Network.requestWillBeSent`), so far.
    #[must_use]
    pub fn events(&mut self, name: &str) -> Vec<Value> {
        self.events.extend(self.messages.try_iter());
        let named = self.events.iter().filter(|event| event["method"] == json!(name));
        named.map(|event| event["params"].clone()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
        drop(self.child.wait());
    }
}
