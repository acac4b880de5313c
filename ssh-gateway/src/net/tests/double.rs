//! A broker that grants one key and runs programs on this machine.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::Winsize;
use tempfile::TempDir;

use crate::wire::net::{
    Answer, Ask, Guest, ItemId, News, Place, Question, Refusal, Settings, Word,
};
use crate::wire::socket::Socket;
use crate::wire::{Exit, Program, Terminal};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Double {
    socket: Socket,
    key: Vec<u8>,
    questions: Mutex<Vec<Question>>,
    asked: Condvar,
    running: Mutex<HashMap<ItemId, rustix::process::Pid>>,
    directory: TempDir,
    /// What is kept in files cannot be read again.
    pub(super) is_disk_broken: AtomicBool,
    /// Who asks for a file has to wait for it.
    pub(super) is_disk_slow: AtomicBool,
    /// Those that wait.
    waiting: Mutex<Vec<u64>>,
}

impl Double {
    /// The double and the end of `net`.
    pub(super) fn start(key: Vec<u8>) -> (Arc<Self>, Socket) {
        let (socket, theirs) = Socket::pair().unwrap();
        let double = Arc::new(Self {
            socket,
            key,
            questions: Mutex::default(),
            asked: Condvar::new(),
            running: Mutex::default(),
            directory: TempDir::new().unwrap(),
            is_disk_broken: AtomicBool::new(false),
            is_disk_slow: AtomicBool::new(false),
            waiting: Mutex::default(),
        });
        let hearing = Arc::clone(&double);
        std::thread::spawn(move || {
            while let Ok(Some((ask, _))) = hearing.socket.receive::<Ask>() {
                hearing.hear(ask);
            }
        });
        (double, theirs)
    }

    /// The first word.
    pub(super) fn begin(&self, settings: Settings, listener: &TcpListener) {
        let word = Word::Begin(Box::new(settings));
        self.socket.send(&word, &[listener.as_fd()]).unwrap();
    }

    pub(super) fn say(&self, news: News) {
        self.socket.send(&Word::News(news), &[]).unwrap();
    }

    /// The first question that `look` wants, as soon as it was asked.
    pub(super) fn wait<T>(&self, look: impl Fn(&Question) -> Option<T>) -> T {
        let questions = self.questions.lock().unwrap();
        let (questions, _) = self
            .asked
            .wait_timeout_while(questions, PATIENCE, |questions| {
                !questions.iter().any(|q| look(q).is_some())
            })
            .unwrap();
        questions.iter().find_map(look).unwrap_or_else(|| panic!("not asked: {questions:?}"))
    }

    pub(super) fn asked(&self, look: impl Fn(&Question) -> bool) -> usize {
        self.questions.lock().unwrap().iter().filter(|question| look(question)).count()
    }

    /// Gives who has waited longest for a file one, and the same to the caller.
    pub(super) fn give_file(&self) -> std::fs::File {
        let number = self.waiting.lock().unwrap().remove(0);
        let file = tempfile::tempfile().unwrap();
        self.opened(number, Ok((file.try_clone().unwrap().into(), None)));
        file
    }

    fn hear(self: &Arc<Self>, ask: Ask) {
        let Ask { number, question } = ask;
        self.questions.lock().unwrap().push(question.clone());
        self.asked.notify_all();
        let answer = match question {
            Question::Offer { key, .. } => self.judge(&key),
            Question::Authenticate { login, .. } if login.user == "coded" => Answer::CodeNeeded,
            Question::Authenticate { key, login, .. } if login.user != "nobody" => self.judge(&key),
            Question::Code { code, .. } if code.0 == b"123456" => Answer::Granted,
            Question::Code { .. } => refused("no"),
            Question::Authenticate { .. } => refused("no"),
            Question::Start { session, program, terminal, environment, agent, .. } => {
                let mut descriptors = Vec::new();
                let script = match program {
                    Program::Shell => "exec sh".to_owned(),
                    Program::Command(command) => String::from_utf8_lossy(&command).into_owned(),
                    Program::Sftp => "exec /usr/lib/openssh/sftp-server".to_owned(),
                    _ => unreachable!(),
                };
                if script == "refused" {
                    return self.answer(
                        number,
                        Answer::Refused(Refusal {
                            message: "you may not enter web".to_owned(),
                            status: 77,
                            prohibited: true,
                        }),
                        &[],
                    );
                }
                let degraded =
                    (script == "degraded").then(|| "not as confined as it should be".to_owned());
                let mut command = Command::new("setsid");
                if terminal.is_some() {
                    command.arg("-c");
                }
                command.args(["sh", "-c", &script]);
                for (name, value) in environment {
                    command.env(name, String::from_utf8(value.0).unwrap());
                }
                let listener = agent.then(|| {
                    let path = self.directory.path().join(format!("agent-{session}"));
                    command.env("SSH_AUTH_SOCK", &path);
                    OwnedFd::from(UnixListener::bind(path).unwrap())
                });
                let child = start(&mut command, terminal.as_ref(), &mut descriptors);
                descriptors.extend(listener);
                self.running
                    .lock()
                    .unwrap()
                    .insert(session, rustix::process::Pid::from_child(&child));
                let answer = Answer::Started { terminal: terminal.is_some(), agent, degraded };
                self.answer(number, answer, &descriptors);
                let double = Arc::clone(self);
                std::thread::spawn(move || double.bury(session, child));
                return;
            }
            Question::Signal { session, name } => {
                if let Some(pid) = self.running.lock().unwrap().get(&session) {
                    let signal = match &*name {
                        "TERM" => rustix::process::Signal::TERM,
                        "USR1" => rustix::process::Signal::USR1,
                        _ => rustix::process::Signal::INT,
                    };
                    rustix::process::kill_process_group(*pid, signal).ok();
                }
                return;
            }
            Question::Close { item } => {
                if let Some(pid) = self.running.lock().unwrap().remove(&item) {
                    rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).ok();
                }
                return;
            }
            Question::Connect { connection, to: Place::Tcp { host, .. }, .. }
                if host == "guest" =>
            {
                let (stream, nets) = UnixStream::pair().unwrap();
                let address = "127.0.0.1:9".parse().unwrap();
                let guest = Guest { through: connection, host, peer: address, local: address };
                self.socket.send(&Word::Guest(guest), &[nets.as_fd()]).unwrap();
                return self.opened(number, Ok((stream.into(), None)));
            }
            Question::Connect { to, .. } => {
                let opened = match to {
                    Place::Tcp { host, .. } if host == "forbidden" => {
                        return self.answer(
                            number,
                            Answer::Refused(Refusal {
                                message: "not there".to_owned(),
                                status: 255,
                                prohibited: true,
                            }),
                            &[],
                        );
                    }
                    Place::Tcp { host, port } => {
                        TcpStream::connect((host, port)).map(OwnedFd::from)
                    }
                    Place::Unix { path } => {
                        UnixStream::connect(String::from_utf8(path).unwrap()).map(OwnedFd::from)
                    }
                };
                return self.opened(number, opened.map(|descriptor| (descriptor, None)));
            }
            Question::Listen { at, .. } => {
                let opened = match at {
                    // A container that does not answer.
                    Place::Tcp { host, .. } if host == "silent" => return,
                    Place::Tcp { port, .. } => {
                        TcpListener::bind(("127.0.0.1", port)).map(|listener| {
                            let port = listener.local_addr().unwrap().port();
                            (OwnedFd::from(listener), Some(port))
                        })
                    }
                    Place::Unix { path } => UnixListener::bind(String::from_utf8(path).unwrap())
                        .map(|listener| (OwnedFd::from(listener), None)),
                };
                return self.opened(number, opened);
            }
            Question::Spool { .. } if self.is_disk_slow.load(Ordering::Relaxed) => {
                return self.waiting.lock().unwrap().push(number);
            }
            Question::Spool { .. } => {
                let file = if self.is_disk_broken.load(Ordering::Relaxed) {
                    let named = tempfile::NamedTempFile::new().unwrap();
                    std::fs::File::options().write(true).open(named.path())
                } else {
                    tempfile::tempfile()
                };
                return self.opened(number, file.map(|file| (OwnedFd::from(file), None)));
            }
            Question::Prepare { .. } | Question::Lost { .. } | Question::Disconnected { .. } => {
                return;
            }
        };
        self.answer(number, answer, &[]);
    }

    fn judge(&self, key: &[u8]) -> Answer {
        // The same point as that of a security key (PROTOCOL.u2f of OpenSSH), behind the longer name of its type.
        let is_security_key = key.starts_with(b"\0\0\0\x1ask-ssh-ed25519@openssh.com")
            && key.get(30..66).is_some_and(|point| self.key.get(15..51) == Some(point));
        let is_known = key == self.key || is_security_key;
        if is_known { Answer::Granted } else { refused("no") }
    }

    fn opened(&self, number: u64, opened: std::io::Result<(OwnedFd, Option<u16>)>) {
        match opened {
            Ok((descriptor, port)) => self.answer(number, Answer::Opened { port }, &[descriptor]),
            Err(error) => self.answer(number, refused(&error.to_string()), &[]),
        }
    }

    fn answer(&self, number: u64, answer: Answer, descriptors: &[OwnedFd]) {
        let descriptors: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
        self.socket.send(&Word::Answer { number, answer }, &descriptors).ok();
    }

    fn bury(&self, session: ItemId, mut child: Child) {
        let exit = exit(child.wait().unwrap());
        self.socket.send(&Word::News(News::Exited { session, exit }), &[]).ok();
    }
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Status(u8::try_from(code).unwrap()),
        (None, Some(number)) => Exit::Signal { number, core_dumped: status.core_dumped() },
        (None, None) => unreachable!(),
    }
}

fn refused(message: &str) -> Answer {
    Answer::Refused(Refusal { message: message.to_owned(), status: 255, prohibited: false })
}

fn start(command: &mut Command, terminal: Option<&Terminal>, ends: &mut Vec<OwnedFd>) -> Child {
    match terminal {
        Some(terminal) => {
            command.env("TERM", &terminal.term);
            let master =
                openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
            grantpt(&master).unwrap();
            unlockpt(&master).unwrap();
            let name = ptsname(&master, Vec::new()).unwrap();
            let slave = std::fs::File::options()
                .read(true)
                .write(true)
                .open(name.to_str().unwrap())
                .unwrap();
            let size = Winsize {
                ws_row: terminal.size.rows,
                ws_col: terminal.size.columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            rustix::termios::tcsetwinsize(&master, size).unwrap();
            let (one, other) = (slave.try_clone().unwrap(), slave.try_clone().unwrap());
            let child = command.stdin(one).stdout(other).stderr(slave).spawn().unwrap();
            // The copies in the command would keep the terminal open.
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            ends.push(master);
            child
        }
        None => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            ends.push(child.stdin.take().unwrap().into());
            ends.push(child.stdout.take().unwrap().into());
            ends.push(child.stderr.take().unwrap().into());
            child
        }
    }
}
