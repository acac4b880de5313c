//! The broker with doubles of everything around it: net, the engine, the spawner, tasks and portals.

use std::os::fd::OwnedFd;
use std::path::Path;

use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{EnterConfig, KeySource, LIMITS_DEFAULT, Mode, RecordConfig};
use crate::host_keys;
use crate::policy::ToolboxUse;
use crate::wire::net::{Answer, Guest, LoginName, Place, Question, Refusal, Signed};
use crate::wire::portal;
use crate::wire::task::{Failure, FailureKind, Order, Report, Start};
use crate::wire::{Exit, Opaque, Program};

pub(super) mod lingering;

/// Everything here is quick; this is for a broken test only.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
const WEB: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const DATABASE: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const SPECIFICATION: &str = r#"{
    "process": {"user": {"uid": 7, "gid": 8, "additionalGids": [9]}, "env": ["A=1"], "cwd": "/"},
    "linux": {}
}"#;

fn private(number: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[number; 32]))
}

pub(super) fn key(number: u8) -> PublicKey {
    private(number).public_key().clone()
}

/// What the holder of a key signs, in the session that is the connection's.
fn signed(connection: u64, user: &str, number: u8) -> Signed {
    let mut data = Vec::new();
    [connection.to_be_bytes(); 4].concat().encode(&mut data).unwrap();
    50_u8.encode(&mut data).unwrap();
    for word in [user, "ssh-connection", "publickey"] {
        word.encode(&mut data).unwrap();
    }
    1_u8.encode(&mut data).unwrap();
    "ssh-ed25519".encode(&mut data).unwrap();
    key(number).to_bytes().unwrap().encode(&mut data).unwrap();
    let mut signature = Vec::new();
    private(number).try_sign(&data).unwrap().encode(&mut signature).unwrap();
    Signed { signature, data }
}

/// A line of authorized_keys.
pub(super) fn line(options: &str, number: u8) -> String {
    format!("{options} {} somebody\n", key(number).to_openssh().unwrap())
}

/// What the engine was asked, a line each, below the state directory.
const ENGINE_LOG: &str = "engine.log";

/// Answers as an engine with two containers that run, and keeps what it was asked.
async fn engine(listener: UnixListener, log: PathBuf) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let log = log.clone();
        tokio::spawn(async move {
            let mut seen = Vec::new();
            loop {
                let mut bytes = [0; 4096];
                match stream.read(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(length) => seen.extend_from_slice(&bytes[..length]),
                }
                if !seen.ends_with(b"\r\n\r\n") {
                    continue;
                }
                let head = String::from_utf8_lossy(&seen).into_owned();
                seen.clear();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let mut asked =
                    std::fs::File::options().create(true).append(true).open(&log).unwrap();
                io::Write::write_all(&mut asked, format!("{path}\n").as_bytes()).unwrap();
                let body = engine_says(&path);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nApi-Version: 1.41\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn engine_says(path: &str) -> String {
    let listed = |id: &str, name: &str| serde_json::json!({"Id": id, "Names": [format!("/{name}")], "State": "running", "Image": "box"});
    let inspected = |id: &str, name: &str| {
        serde_json::json!({
            "Id": id, "Name": format!("/{name}"), "Image": "sha256:1",
            "State": {"Running": true, "Pid": 4711, "StartedAt": "2026-11-24T10:00:00Z"},
            "HostConfig": {"GroupAdd": ["44"]}
        })
    };
    let answer = if path.contains(WEB) {
        inspected(WEB, "web")
    } else if path.contains(DATABASE) {
        inspected(DATABASE, "database")
    } else if path.contains("/containers/json") {
        serde_json::json!([listed(WEB, "web"), listed(DATABASE, "database")])
    } else {
        serde_json::json!({"ApiVersion": "1.41", "Version": "20.10"})
    };
    answer.to_string()
}

/// What a broker shares, with an engine and bundles in its state directory, and the spawner's end of the socket.
pub(super) async fn shared(config: Config, keys: &str) -> (Arc<Shared>, AsyncSocket) {
    let directory = config.state.clone();
    let path = directory.join("engine.sock");
    tokio::spawn(engine(UnixListener::bind(&path).unwrap(), directory.join(ENGINE_LOG)));
    for id in [WEB, DATABASE] {
        std::fs::create_dir(directory.join(id)).unwrap();
        std::fs::write(directory.join(id).join("config.json"), SPECIFICATION).unwrap();
    }
    let address = format!("unix://{}", path.display());
    let engine = Engine::connect(Some(&address)).await.unwrap();
    let (spawner, its) = Socket::pair().unwrap();
    let spawner = Arc::new(Spawner::over(spawner).unwrap());
    let bundles = Bundles::open(&[directory], None);
    let source = KeySource::Text { variable: "KEYS", text: keys.to_owned() };
    let (_, policy) = policy::file::load(&PolicySource::Keys(vec![source]), &[], &|_| true);
    std::fs::create_dir(config.state.join(host_keys::AUDIT_DIRECTORY)).unwrap();
    let journal = Journal::start(&config.state, private(99), config.record.audit_quota).unwrap();
    let recordings = Recordings::new(&config.state, &config.record, journal.clone());
    let codes = Arc::new(codes::Codes::load(&config.state, Timestamp::now()));
    let shared = Arc::new(Shared {
        policy: RwLock::new(Arc::new(policy.unwrap())),
        containers: Containers::new(engine, bundles, Arc::clone(&spawner)),
        config,
        spawner,
        listening: Vec::new(),
        cgroup_root: "/cgroup".to_owned(),
        cgroup_prefix: "ssh-test-".to_owned(),
        proved: Mutex::default(),
        codes,
        promises: spool::Promises::default(),
        journal,
        denials: audit::Denials::default(),
        recordings,
        sessions: sessions::Sessions::default(),
        connections: connections::Connections::default(),
        watchers: inquiry::room(),
        fan_outs: session::fan_out_room(),
        lingering: linger::Lingering::default(),
        paces: files::Paces::default(),
        running: TaskTracker::new(),
    });
    (shared, its.into_async().unwrap())
}

/// A broker, and the ends of its sockets that others have.
struct Stage {
    shared: Arc<Shared>,
    net: AsyncSocket,
    spawner: AsyncSocket,
    serving: JoinHandle<NetEnd>,
    shutdown: Shutdown,
    number: u64,
    directory: tempfile::TempDir,
}

impl Stage {
    async fn new(keys: &str) -> Self {
        Self::with(keys, Mode::Native).await
    }

    async fn with(keys: &str, mode: Mode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path(), mode);
        Self::of(directory, config, keys).await
    }

    async fn of(directory: tempfile::TempDir, config: Config, keys: &str) -> Self {
        let (shared, its) = shared(config, keys).await;
        let (net, ours) = Socket::pair().unwrap();
        let ours = ours.into_async().unwrap();
        let shutdown = Shutdown::new();
        let serving = {
            let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
            tokio::spawn(async move { serve_net(&shared, ours, &shutdown).await })
        };
        Self {
            shared,
            net: net.into_async().unwrap(),
            spawner: its,
            serving,
            shutdown,
            number: 0,
            directory,
        }
    }

    async fn tell(&self, question: Question) {
        self.net.send(&Ask { number: 0, question }, &[]).await.unwrap();
    }

    async fn ask(&mut self, question: Question) -> u64 {
        self.number += 1;
        self.net.send(&Ask { number: self.number, question }, &[]).await.unwrap();
        self.number
    }

    async fn hear(&self) -> (Word, Vec<OwnedFd>) {
        timeout(PATIENCE, self.net.receive()).await.unwrap().unwrap().unwrap()
    }

    async fn answer(&mut self, question: Question) -> (Answer, Vec<OwnedFd>) {
        let asked = self.ask(question).await;
        match self.hear().await {
            (Word::Answer { number, answer }, descriptors) if number == asked => {
                (answer, descriptors)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn refusal(&mut self, question: Question) -> Refusal {
        match self.answer(question).await {
            (Answer::Refused(refusal), _) => refusal,
            other => panic!("{other:?}"),
        }
    }

    async fn login(&mut self, connection: u64, user: &str, number: u8) -> Answer {
        self.answer(authenticate(connection, user, number)).await.0
    }

    /// The task that the spawner was told to fork.
    async fn task(&self) -> AsyncSocket {
        let received = timeout(PATIENCE, self.spawner.receive::<u8>()).await.unwrap().unwrap();
        let (_, mut descriptors) = received.unwrap();
        Socket::from_descriptor(descriptors.pop().unwrap()).into_async().unwrap()
    }

    /// What the engine has been asked by now.
    fn engine_asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.directory.path().join(ENGINE_LOG)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// What the audit has by now.
    fn audit(&self) -> String {
        let directory = self.directory.path().join(host_keys::AUDIT_DIRECTORY);
        std::fs::read_to_string(directory.join(journal::file_name(1))).unwrap()
    }

    /// Whether net is given up.
    async fn breaks(self) -> bool {
        matches!(timeout(PATIENCE, self.serving).await.unwrap().unwrap(), NetEnd::Gone(_))
    }
}

pub(super) fn config(directory: &Path, mode: Mode) -> Config {
    Config {
        path: None,
        listen: Vec::new(),
        state: directory.to_owned(),
        policy: PolicySource::Keys(Vec::new()),
        revoked_keys: Vec::new(),
        banner: None,
        enter: EnterConfig {
            engine: None,
            mode,
            bundles: Vec::new(),
            cgroup_roots: Vec::new(),
            toolbox: None,
            toolbox_use: ToolboxUse::default(),
        },
        limits: LIMITS_DEFAULT,
        stop_grace: Duration::from_millis(100),
        accept_environment: vec!["LC_*".to_owned()],
        record: RecordConfig::default(),
        proxies: Vec::new(),
    }
}

fn authenticate(connection: u64, user: &str, number: u8) -> Question {
    authenticate_behind(connection, user, None, number)
}

fn authenticate_behind(connection: u64, user: &str, host: Option<&str>, number: u8) -> Question {
    Question::Authenticate {
        connection,
        peer: "192.0.2.1:5000".parse().unwrap(),
        local: "192.0.2.2:22".parse().unwrap(),
        login: LoginName { user: user.to_owned(), host: host.map(str::to_owned) },
        key: key(number).to_bytes().unwrap(),
        signed: signed(connection, user, number),
        client: "SSH-2.0-test".to_owned(),
        through: None,
    }
}

fn start(connection: u64, session: u64, program: Program) -> Question {
    let environment = vec![
        ("LC_ALL".to_owned(), Opaque(b"C".to_vec())),
        ("LD_PRELOAD".to_owned(), Opaque(b"/x".to_vec())),
    ];
    Question::Start { connection, session, program, terminal: None, environment, agent: false }
}

fn command(text: &str) -> Program {
    Program::Command(text.as_bytes().to_vec())
}

async fn order(task: &AsyncSocket) -> Option<Order> {
    timeout(PATIENCE, task.receive()).await.unwrap().unwrap().map(|(order, _)| order)
}

async fn enter_and_start(task: &AsyncSocket) -> Start {
    let Some(Order::Enter(target)) = order(task).await else { panic!("no order to enter") };
    assert_eq!(target.pin.pid, 4711);
    assert!(target.session_cgroup.starts_with("ssh-test-"), "{}", target.session_cgroup);
    task.send(&Report::Entered, &[]).await.unwrap();
    let Some(Order::Start(start)) = order(task).await else { panic!("no order to start") };
    *start
}

async fn say_started(task: &AsyncSocket) {
    let null = std::fs::File::open("/dev/null").unwrap();
    task.send(&Report::Started, &[null.as_fd(), null.as_fd(), null.as_fd()]).await.unwrap();
}

#[tokio::test]
async fn a_session_goes_its_way() {
    let mut stage = Stage::new(&line("", 1)).await;
    assert_eq!(stage.login(1, "web+app", 1).await, Answer::Granted);
    stage.tell(Question::Prepare { connection: 1, session: 5 }).await;
    // Before anybody has said what for.
    let task = stage.task().await;
    let asked = stage.ask(start(1, 5, command("true"))).await;
    let started = enter_and_start(&task).await;
    assert_eq!(started.program, command("true"));
    assert_eq!(started.user.name.as_deref(), Some("app"));
    assert_eq!((started.user.container_uid, started.user.container_gid), (7, 8));
    assert_eq!(started.user.group_add, ["44"]);
    assert_eq!(started.container_environment, [Opaque(b"A=1".to_vec())]);
    let texts: Vec<_> = started
        .session_environment
        .iter()
        .map(|variable| String::from_utf8_lossy(&variable.0).into_owned())
        .collect();
    assert_eq!(
        texts,
        ["LC_ALL=C", "SSH_CLIENT=192.0.2.1 5000 22", "SSH_CONNECTION=192.0.2.1 5000 192.0.2.2 22"]
    );
    say_started(&task).await;
    let (word, descriptors) = stage.hear().await;
    let answer = Answer::Started { terminal: false, agent: false, degraded: None };
    assert_eq!(word, Word::Answer { number: asked, answer });
    assert_eq!(descriptors.len(), 3);
    stage.tell(Question::Signal { session: 5, name: "USR1".to_owned() }).await;
    stage.tell(Question::Signal { session: 5, name: "NONSENSE".to_owned() }).await;
    assert_eq!(order(&task).await, Some(Order::Signal { number: libc::SIGUSR1 }));
    task.send(&Report::Exited(Exit::Status(3)), &[]).await.unwrap();
    let news = News::Exited { session: 5, exit: Exit::Status(3) };
    assert_eq!(stage.hear().await.0, Word::News(news));
    stage.tell(Question::Close { item: 5 }).await;
    assert_eq!(order(&task).await, Some(Order::Stop { grace_ms: 100 }));
    task.send(&Report::Gone, &[]).await.unwrap();
    assert_eq!(order(&task).await, None);
}

#[tokio::test]
async fn who_is_killed_is_cut_off_before_his_program_has_its_grace() {
    let mut stage = Stage::new(&line("", 1)).await;
    stage.login(1, "web", 1).await;
    stage.ask(start(1, 5, command("trap '' TERM; sleep 9"))).await;
    let task = stage.task().await;
    enter_and_start(&task).await;
    say_started(&task).await;
    stage.hear().await;
    let name = timeout(PATIENCE, async {
        loop {
            if let Some(told) = stage.shared.sessions.told().pop() {
                return told.session;
            }
            sleep(LOOK_PERIOD).await;
        }
    });
    let name = name.await.unwrap();
    stage.shared.sessions.get(&name).unwrap().end.cancel();
    let exit = Exit::Signal { number: libc::SIGKILL, core_dumped: false };
    assert_eq!(stage.hear().await.0, Word::News(News::Cut { session: 5, exit }));
    assert_eq!(order(&task).await, Some(Order::Stop { grace_ms: 100 }));
    // How it has really ended is in the audit.
    stage.tell(Question::Close { item: 5 }).await;
    task.send(&Report::Exited(Exit::Status(7)), &[]).await.unwrap();
    task.send(&Report::Gone, &[]).await.unwrap();
    timeout(PATIENCE, async {
        while !stage.audit().contains("\"status\":7") {
            sleep(LOOK_PERIOD).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_unknown_key_and_one_from_elsewhere_get_the_same_answer() {
    let keys = line("from=\"198.51.100.1\"", 1) + &line("", 2);
    let mut stage = Stage::new(&keys).await;
    let mut answers = Vec::new();
    for number in [1, 9] {
        let peer = "192.0.2.1:5000".parse().unwrap();
        let key = key(number).to_bytes().unwrap();
        let login = LoginName { user: "web".to_owned(), host: None };
        let offered = stage.refusal(Question::Offer { connection: 1, peer, login, key }).await;
        let signed = stage.refusal(authenticate(1, "web", number)).await;
        answers.extend([offered, signed]);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    let refusal = stage.refusal(start(1, 5, Program::Shell)).await;
    assert!(refusal.message.contains("no such connection"), "{refusal:?}");
}

#[tokio::test]
async fn what_a_key_does_not_allow_does_not_exist() {
    let mut stage = Stage::new(&line("container=\"web\"", 1)).await;
    stage.login(1, "database", 1).await;
    let forbidden = stage.refusal(start(1, 1, command("true"))).await;
    stage.login(2, "databast", 1).await;
    let absent = stage.refusal(start(2, 2, command("true"))).await;
    assert_eq!(forbidden.message.replace("database", "databast"), absent.message);
    assert!(forbidden.prohibited);
}

/// How long an answer takes is not measured here: what it costs is the same, request by request.
#[tokio::test]
async fn the_engine_is_asked_the_same_about_a_forbidden_container_as_about_none() {
    let mut stage = Stage::new(&line("container=\"web\"", 1)).await;
    let mut before = stage.engine_asked().len();
    let mut asked = Vec::new();
    let id = DATABASE.get(..12).unwrap();
    let names = ["database", "databast", "database+root", "databast+root", id, "0a0a0a0a0a0a"];
    for (number, name) in (1..).zip(names) {
        stage.login(number, name, 1).await;
        assert_eq!(stage.engine_asked().len(), before, "{name}: nothing before a session");
        stage.tell(Question::Prepare { connection: number, session: number }).await;
        stage.refusal(start(number, number, command("true"))).await;
        asked.push(stage.engine_asked().split_off(before));
        before += asked.last().unwrap().len();
    }
    assert!(asked.iter().all(|one| one.len() == 1 && *one == asked[0]), "{asked:#?}");
    // A wrong key is refused before anybody asks for anything.
    assert!(matches!(stage.login(9, "web", 2).await, Answer::Refused(_)));
    assert_eq!(stage.engine_asked().len(), before);
    // Nor does a host behind the gateway cost more than another.
    stage.login(10, "_", 1).await;
    let mut asked = Vec::new();
    for (item, host) in [(21, "database"), (22, "databast")] {
        stage.refusal(reach(10, item, host)).await;
        asked.push(stage.engine_asked().split_off(before));
        before += asked.last().unwrap().len();
    }
    assert_eq!(asked[0], asked[1]);
}

fn reach(connection: u64, item: u64, host: &str) -> Question {
    let to = Place::Tcp { host: host.to_owned(), port: 22 };
    Question::Connect { connection, item, to }
}

#[tokio::test]
async fn a_container_behind_the_gateway_is_reached_by_the_name_of_a_host() {
    let mut stage = Stage::new(&line("container=\"web\",permitopen=\"*:22\"", 1)).await;
    // A login name that is no container.
    stage.login(1, "operator", 1).await;
    stage.tell(reach(1, 5, "web")).await;
    let (guest, nets) = match stage.hear().await {
        (Word::Guest(guest), nets) => (guest, nets),
        other => panic!("{other:?}"),
    };
    let addresses = ("192.0.2.1:5000".parse().unwrap(), "192.0.2.2:22".parse().unwrap());
    let (peer, local) = addresses;
    assert_eq!(guest, Guest { through: 1, host: "web".to_owned(), peer, local });
    let (Word::Answer { answer: Answer::Opened { .. }, .. }, streams) = stage.hear().await else {
        panic!("no stream")
    };
    rustix::io::write(&streams[0], b"SSH-2.0").unwrap();
    let mut bytes = [0; 16];
    assert_eq!(rustix::io::read(&nets[0], &mut bytes).unwrap(), 7);

    // It is a connection of its own, and the user is the container's.
    let answer = stage.answer(authenticate_behind(2, "app", Some("web"), 1)).await.0;
    assert_eq!(answer, Answer::Granted);
    stage.tell(start(2, 7, command("true"))).await;
    let task = stage.task().await;
    assert_eq!(enter_and_start(&task).await.user.name.as_deref(), Some("app"));

    // The same host with what clients put behind it, so that it is no other one.
    stage.tell(reach(1, 6, "web.chores")).await;
    let (Word::Guest(again), _) = stage.hear().await else { panic!("no guest") };
    assert_eq!(again.host, "web");
    stage.hear().await;

    // What is not there, what the key may not enter, where it may not go, and once more through.
    let absent = stage.refusal(reach(1, 11, "wep")).await;
    assert!(absent.message.contains("did you mean web?"), "{absent:?}");
    for (item, host) in [(12, "database"), (14, "database.chores")] {
        let foreign = stage.refusal(reach(1, item, host)).await;
        assert_eq!(foreign.message, "there is no container database that this key may enter");
    }
    stage.refusal(reach(1, 15, ".chores")).await;
    stage.refusal(reach(1, 16, "web.chores.chores")).await;
    // Within the container it is a forward like any other, for which a portal is started.
    stage.tell(reach(2, 13, "web")).await;
    stage.task().await;
}

#[tokio::test]
async fn who_may_not_forward_goes_nowhere_behind_the_gateway() {
    let mut stage = Stage::new(&line("restrict,pty", 1)).await;
    stage.login(1, "operator", 1).await;
    let refusal = stage.refusal(reach(1, 5, "web")).await;
    assert!(refusal.prohibited && refusal.message.contains("forwards"), "{refusal:?}");
    let mut stage = Stage::new(&line("permitopen=\"db:22\",permitopen=\"web.chores:22\"", 1)).await;
    stage.login(1, "operator", 1).await;
    // What is permitted is the container, however the client writes it.
    for (item, host) in [(5, "web"), (6, "web.chores")] {
        let refusal = stage.refusal(reach(1, item, host)).await;
        assert!(refusal.prohibited && refusal.message.contains("web:22"), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_forced_command_takes_the_place_of_everything() {
    let mut stage = Stage::new(&line("restrict,command=\"backup now\"", 1)).await;
    stage.login(1, "web", 1).await;
    stage.ask(start(1, 5, Program::Sftp)).await;
    let task = stage.task().await;
    let started = enter_and_start(&task).await;
    assert_eq!(started.program, command("backup now"));
    let original = Opaque(b"SSH_ORIGINAL_COMMAND=internal-sftp".to_vec());
    assert!(started.session_environment.contains(&original));
    let to = Place::Tcp { host: "127.0.0.1".to_owned(), port: 80 };
    let asked = stage.ask(Question::Connect { connection: 1, item: 6, to }).await;
    let (word, _) = stage.hear().await;
    assert!(
        matches!(&word, Word::Answer { number, answer: Answer::Refused(_) } if *number == asked),
        "{word:?}"
    );
}

#[tokio::test]
async fn a_terminal_is_refused_where_the_key_allows_none() {
    let mut stage = Stage::new(&line("no-pty", 1)).await;
    stage.login(1, "web", 1).await;
    let Question::Start { connection, session, program, environment, agent, .. } =
        start(1, 5, Program::Shell)
    else {
        panic!()
    };
    let terminal = Some(wire_terminal());
    let question = Question::Start { connection, session, program, terminal, environment, agent };
    let asked = stage.ask(question).await;
    let task = stage.task().await;
    assert!(matches!(order(&task).await, Some(Order::Enter(_))));
    let (word, _) = stage.hear().await;
    assert!(matches!(word, Word::Answer { number, answer: Answer::Refused(_) } if number == asked));
    // What was entered is left again.
    assert_eq!(order(&task).await, None);
}

fn wire_terminal() -> crate::wire::Terminal {
    let size = crate::wire::WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
    crate::wire::Terminal { term: "xterm".to_owned(), size, modes: Vec::new() }
}

#[tokio::test]
async fn a_failed_hop_is_told_without_its_details_and_not_gone_round() {
    for (mode, kind) in [
        (Mode::Native, FailureKind::NotNative),
        (Mode::Native, FailureKind::Confinement),
        (Mode::Auto, FailureKind::Confinement),
    ] {
        let mut stage = Stage::with(&line("", 1), mode).await;
        stage.login(1, "web", 1).await;
        let asked = stage.ask(start(1, 5, command("true"))).await;
        let task = stage.task().await;
        assert!(matches!(order(&task).await, Some(Order::Enter(_))));
        let reason = "/host/secret".to_owned();
        task.send(&Report::Failed(Failure { kind, reason }), &[]).await.unwrap();
        let (word, _) = stage.hear().await;
        let Word::Answer { number, answer: Answer::Refused(refusal) } = word else {
            panic!("{mode} {kind:?}: {word:?}")
        };
        assert_eq!(number, asked);
        assert!(!refusal.message.contains("secret"), "{}", refusal.message);
    }
}

#[tokio::test]
async fn forwards_go_through_one_portal_and_not_to_clouds() {
    let mut stage = Stage::new(&line("", 1)).await;
    stage.login(1, "web", 1).await;
    let tcp = |host: &str, port| Place::Tcp { host: host.to_owned(), port };
    let metadata = Question::Connect { connection: 1, item: 1, to: tcp("169.254.169.254", 80) };
    assert!(stage.refusal(metadata).await.prohibited);
    let gateway = Question::Connect { connection: 1, item: 2, to: tcp("192.0.2.2", 22) };
    assert!(stage.refusal(gateway).await.prohibited);
    let first = stage.ask(Question::Connect { connection: 1, item: 3, to: tcp("db", 5432) }).await;
    let task = stage.task().await;
    assert_eq!(enter_and_start(&task).await.program, Program::Portal);
    let (theirs, its) = Socket::pair().unwrap();
    task.send(&Report::Started, &[its.as_fd()]).await.unwrap();
    let portal = theirs.into_async().unwrap();
    let (order, _) =
        timeout(PATIENCE, portal.receive::<portal::Order>()).await.unwrap().unwrap().unwrap();
    assert_eq!(order.act, portal::Act::Connect { host: "db".to_owned(), port: 5432 });
    // The audit has it before it begins.
    let told = |stage: &Stage, what: &str, place: &str| {
        let audit = stage.audit();
        let is_it = |line: &&str| line.contains(what) && line.contains(place);
        audit.lines().filter(is_it).filter(|line| line.contains("\"event\":\"forward\"")).count()
    };
    assert_eq!(told(&stage, "\"connect\"", "\"db:5432\""), 1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let result = Ok(portal::Opened::Connected);
    let report = portal::Report { number: order.number, result };
    portal.send(&report, &[stream.as_fd()]).await.unwrap();
    let (word, descriptors) = stage.hear().await;
    assert_eq!(word, Word::Answer { number: first, answer: Answer::Opened { port: None } });
    assert_eq!(descriptors.len(), 1);
    // The second one needs no other portal.
    let at = tcp("localhost", 0);
    let second = stage.ask(Question::Listen { connection: 1, item: 4, at }).await;
    let (order, _) =
        timeout(PATIENCE, portal.receive::<portal::Order>()).await.unwrap().unwrap().unwrap();
    assert_eq!(told(&stage, "\"listen\"", "\"localhost:0\""), 1);
    let result = Ok(portal::Opened::Listening { port: 4000 });
    let report = portal::Report { number: order.number, result };
    portal.send(&report, &[listener.as_fd()]).await.unwrap();
    let (word, _) = stage.hear().await;
    assert_eq!(word, Word::Answer { number: second, answer: Answer::Opened { port: Some(4000) } });
    stage.tell(Question::Close { item: 4 }).await;
    let (unlisten, _) =
        timeout(PATIENCE, portal.receive::<portal::Order>()).await.unwrap().unwrap().unwrap();
    assert_eq!(unlisten.act, portal::Act::Unlisten { number: order.number });
}

/// Starts the portal that a forward waits for.
async fn open_portal(stage: &Stage) -> (AsyncSocket, AsyncSocket) {
    let task = stage.task().await;
    assert_eq!(enter_and_start(&task).await.program, Program::Portal);
    let (theirs, its) = Socket::pair().unwrap();
    task.send(&Report::Started, &[its.as_fd()]).await.unwrap();
    (task, theirs.into_async().unwrap())
}

/// Has a portal do what it is told next.
async fn portal_does(portal: &AsyncSocket, opened: portal::Opened, socket: impl AsFd) {
    let (order, _) =
        timeout(PATIENCE, portal.receive::<portal::Order>()).await.unwrap().unwrap().unwrap();
    let report = portal::Report { number: order.number, result: Ok(opened) };
    portal.send(&report, &[socket.as_fd()]).await.unwrap();
}

#[tokio::test]
async fn forwards_are_listed_and_can_be_ended() {
    let mut stage = Stage::new(&line("", 1)).await;
    stage.login(1, "web", 1).await;
    let tcp = |host: &str, port| Place::Tcp { host: host.to_owned(), port };
    stage.ask(Question::Connect { connection: 1, item: 3, to: tcp("db", 5432) }).await;
    let (_task, portal) = open_portal(&stage).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    portal_does(&portal, portal::Opened::Connected, &stream).await;
    stage.hear().await;
    stage.ask(Question::Listen { connection: 1, item: 4, at: tcp("localhost", 0) }).await;
    portal_does(&portal, portal::Opened::Listening { port: 4000 }, &listener).await;
    stage.hear().await;

    let told = stage.shared.sessions.told();
    let mut programs: Vec<_> = told.iter().map(|one| one.program.as_str()).collect();
    programs.sort_unstable();
    assert_eq!(programs, ["connect db:5432", "listen localhost:4000"]);
    for one in &told {
        assert_eq!((one.kind, one.connection), (crate::control::Kind::Forward, 1));
        assert_eq!((one.container.as_str(), one.peer.as_str()), ("web", "192.0.2.1:5000"));
        let named = format!("\"name\":\"{}\"", one.session);
        let audit = stage.audit();
        let line = audit.lines().find(|line| line.contains(&named)).unwrap();
        assert!(line.contains("\"event\":\"forward\""), "{line}");
        // Who ends it has net end it, and it is listed until that is so.
        stage.shared.sessions.get(&one.session).unwrap().end.cancel();
        let item = if one.program.starts_with("connect") { 3 } else { 4 };
        assert_eq!(stage.hear().await.0, Word::News(News::HangUp { item }));
        assert!(stage.shared.sessions.get(&one.session).is_some());
        stage.tell(Question::Close { item }).await;
    }
    let (unlisten, _) =
        timeout(PATIENCE, portal.receive::<portal::Order>()).await.unwrap().unwrap().unwrap();
    assert!(matches!(unlisten.act, portal::Act::Unlisten { .. }), "{unlisten:?}");
    timeout(PATIENCE, async {
        while !stage.shared.sessions.told().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn who_is_in_is_listed_until_he_is_gone() {
    let mut stage = Stage::new(&line("", 1)).await;
    stage.login(1, "web", 2).await;
    assert!(stage.shared.connections.told().is_empty(), "nobody came in");
    stage.login(2, "web", 1).await;
    let told = stage.shared.connections.told();
    let [one] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((one.connection, one.login.as_str()), (2, "web"));
    assert_eq!((one.peer.as_str(), one.client.as_str()), ("192.0.2.1:5000", "SSH-2.0-test"));
    let reason = "closed by the client".to_owned();
    stage.tell(Question::Disconnected { connection: 2, reason }).await;
    timeout(PATIENCE, async {
        while !stage.shared.connections.told().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

/// Its client does not read, so that what it has said never ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_reads_any_more_can_be_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path(), Mode::Native);
    config.record.sessions = Record::Output;
    let mut stage = Stage::of(directory, config, &line("", 1)).await;
    stage.login(1, "web", 1).await;
    let Question::Start { connection, session, program, environment, agent, .. } =
        start(1, 5, Program::Shell)
    else {
        panic!()
    };
    let asked = wire_terminal();
    let size = asked.size;
    let terminal = Some(asked);
    stage.ask(Question::Start { connection, session, program, terminal, environment, agent }).await;
    let task = stage.task().await;
    enter_and_start(&task).await;
    let (program, master) = terminal::Terminal::new(size).unwrap();
    task.send(&Report::Started, &[master.as_fd()]).await.unwrap();
    drop(master);
    let (word, _unread) = stage.hear().await;
    assert!(matches!(word, Word::Answer { answer: Answer::Started { .. }, .. }), "{word:?}");
    let more_than_fits = vec![b'x'; 1 << 20];
    let writing = program.write(&more_than_fits);
    assert!(timeout(Duration::from_millis(100), writing).await.is_err());
    let exit = Exit::Status(0);
    task.send(&Report::Exited(exit), &[]).await.unwrap();
    timeout(PATIENCE, async {
        while !stage.audit().contains("\"event\":\"exit\"") {
            sleep(LOOK_PERIOD).await;
        }
    })
    .await
    .unwrap();
    let name = stage.shared.sessions.told().pop().unwrap().session;
    stage.shared.sessions.get(&name).unwrap().end.cancel();
    assert_eq!(stage.hear().await.0, Word::News(News::Exited { session: 5, exit }));
    assert_eq!(order(&task).await, Some(Order::Stop { grace_ms: 100 }));
    task.send(&Report::Gone, &[]).await.unwrap();
    // Its recording is whole as far as it goes, although the client still has the other end.
    timeout(PATIENCE, async {
        while !stage.audit().contains("\"event\":\"recording\"") {
            sleep(LOOK_PERIOD).await;
        }
    })
    .await
    .unwrap();
    timeout(PATIENCE, async {
        while !stage.shared.sessions.told().is_empty() {
            sleep(LOOK_PERIOD).await;
        }
    })
    .await
    .unwrap();
}

/// What an open pipe gives until its end.
async fn all_of(end: OwnedFd) -> String {
    rustix::io::ioctl_fionbio(&end, true).unwrap();
    let mut receiver = tokio::net::unix::pipe::Receiver::from_owned_fd(end).unwrap();
    let mut text = String::new();
    timeout(PATIENCE, receiver.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

#[tokio::test]
async fn the_gateway_itself_says_what_a_key_may_enter() {
    let mut stage = Stage::new(&line("container=\"web\"", 1)).await;
    stage.login(1, "_", 1).await;
    for (session, text) in [(5, "ls"), (6, "ls --json")] {
        let asked = stage.ask(start(1, session, command(text))).await;
        let (word, mut descriptors) = stage.hear().await;
        let answer = Answer::Started { terminal: false, agent: false, degraded: None };
        assert_eq!(word, Word::Answer { number: asked, answer });
        let said = all_of(descriptors.remove(1)).await;
        assert!(said.contains("web") && !said.contains("database"), "{text}: {said}");
        let news = News::Exited { session, exit: Exit::Status(0) };
        assert_eq!(stage.hear().await.0, Word::News(news));
    }
    assert!(stage.audit().contains("\"event\":\"inquiry\""), "{}", stage.audit());
    // Other commands are for containers.
    for program in [command("ls /"), Program::Shell, Program::Sftp] {
        let refusal = stage.refusal(start(1, 7, program)).await;
        assert!(refusal.prohibited && refusal.message.contains("_ is the gateway"), "{refusal:?}");
        stage.tell(Question::Close { item: 7 }).await;
    }
    // Containers behind it are reached as by any name that means none.
    stage.tell(reach(1, 8, "web")).await;
    assert!(matches!(stage.hear().await.0, Word::Guest(_)));
    stage.hear().await;
    // Whatever else names no container does not mean the gateway.
    let names =
        ["somebody", "wep", "shop~web", "tier=db", "fedcba987654", "web:root", "web/1", "_+root"];
    for (number, name) in (20..).zip(names) {
        stage.login(number, name, 1).await;
        let refusal = stage.refusal(start(number, number, command("ls"))).await;
        assert!(refusal.prohibited, "{name}: {refusal:?}");
    }
    // In a container it is the container's.
    stage.login(3, "web", 1).await;
    stage.ask(start(3, 9, command("ls"))).await;
    assert_eq!(enter_and_start(&stage.task().await).await.program, command("ls"));
}

#[tokio::test]
async fn who_looks_at_events_is_counted_listed_and_killed() {
    let mut stage = Stage::new(&line("", 1)).await;
    stage.login(1, "_", 1).await;
    for session in [1, 2] {
        stage.ask(start(1, session, command("events"))).await;
        assert_eq!(stage.hear().await.1.len(), 3);
    }
    // A third one is one too many for one key, on another connection too.
    stage.login(2, "_", 1).await;
    let refusal = stage.refusal(start(2, 3, command("events"))).await;
    assert!(refusal.message.contains("you look at events already"), "{refusal:?}");
    let listed = stage.shared.sessions.told();
    let told: Vec<_> =
        listed.iter().map(|its| (its.container.as_str(), its.program.as_str())).collect();
    assert_eq!(told, [("-", "command events"); 2]);
    // Whether the client ends it or the administrator, the audit says when.
    stage.tell(Question::Close { item: 1 }).await;
    let exit = Exit::Signal { number: libc::SIGKILL, core_dumped: false };
    assert_eq!(stage.hear().await.0, Word::News(News::Exited { session: 1, exit }));
    let name = timeout(PATIENCE, async {
        loop {
            if let [only] = stage.shared.sessions.told().as_slice() {
                return only.session.clone();
            }
            sleep(LOOK_PERIOD).await;
        }
    });
    let name = name.await.unwrap();
    stage.shared.sessions.get(&name).unwrap().end.cancel();
    assert_eq!(stage.hear().await.0, Word::News(News::Cut { session: 2, exit }));
    assert_eq!(stage.hear().await.0, Word::News(News::Exited { session: 2, exit }));
    for session in listed {
        let told = format!("\"name\":\"{}\"", session.session);
        timeout(PATIENCE, async {
            while stage.audit().lines().filter(|line| line.contains(&told)).count() < 2 {
                sleep(LOOK_PERIOD).await;
            }
        })
        .await
        .unwrap();
    }
    // There is room again.
    let asked = stage.ask(start(2, 4, command("events"))).await;
    let answer = Answer::Started { terminal: false, agent: false, degraded: None };
    assert_eq!(stage.hear().await.0, Word::Answer { number: asked, answer });
}

#[tokio::test]
async fn the_gateway_itself_answers_by_what_counts_now() {
    let mut stage = Stage::new(&line("no-pty", 1)).await;
    stage.login(1, "_", 1).await;
    let with_terminal = |session| {
        let Question::Start { connection, program, environment, agent, .. } =
            start(1, session, command("ls"))
        else {
            panic!()
        };
        let terminal = Some(wire_terminal());
        Question::Start { connection, session, program, terminal, environment, agent }
    };
    let refusal = stage.refusal(with_terminal(1)).await;
    assert!(refusal.message.contains("no terminal"), "{refusal:?}");
    stage.ask(start(1, 2, command("ls"))).await;
    assert_eq!(stage.hear().await.1.len(), 3);
    assert!(matches!(stage.hear().await.0, Word::News(News::Exited { session: 2, .. })));
    // Who looks on is refused at the next look when his key is forced to one thing meanwhile.
    stage.ask(start(1, 3, command("events"))).await;
    let (_, mut descriptors) = stage.hear().await;
    let text = line("command=\"backup\"", 1);
    let source = KeySource::Text { variable: "KEYS", text };
    let (_, policy) = policy::file::load(&PolicySource::Keys(vec![source]), &[], &|_| true);
    stage.shared.set_policy(policy.unwrap());
    let said = all_of(descriptors.remove(2)).await;
    assert!(said.contains("may ask the gateway itself nothing"), "{said}");
    assert!(matches!(stage.hear().await.0, Word::News(News::Exited { session: 3, .. })));
    for text in ["ls", "events"] {
        let refusal = stage.refusal(start(1, 10 + text.len() as u64, command(text))).await;
        assert!(refusal.message.contains("may ask the gateway itself nothing"), "{refusal:?}");
    }
}

/// What a session leaves may take long to end; its recording does not wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_ends_with_its_program() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path(), Mode::Native);
    config.record.sessions = Record::Output;
    let mut stage = Stage::of(directory, config, &line("", 1)).await;
    stage.login(1, "web", 1).await;
    stage.ask(start(1, 5, command("true"))).await;
    let task = stage.task().await;
    enter_and_start(&task).await;
    let null = std::fs::File::open("/dev/null").unwrap();
    let [output, errors] = [(); 2].map(|()| rustix::pipe::pipe().unwrap().0);
    let descriptors = [null.as_fd(), output.as_fd(), errors.as_fd()];
    task.send(&Report::Started, &descriptors).await.unwrap();
    stage.hear().await;
    let exit = Exit::Status(0);
    task.send(&Report::Exited(exit), &[]).await.unwrap();
    assert_eq!(stage.hear().await.0, Word::News(News::Exited { session: 5, exit }));
    timeout(PATIENCE, async {
        while !stage.audit().contains("\"event\":\"recording\"") {
            sleep(LOOK_PERIOD).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(stage.shared.sessions.told().len(), 1, "it is not gone yet");
}

/// His connection is there still, as behind a ControlMaster.
#[tokio::test]
async fn who_is_nobody_any_more_is_told_no_names_and_enters_nothing() {
    let mut stage = Stage::new(&line("", 1)).await;
    for (connection, user) in [(1, "wep"), (2, "_"), (3, "operator"), (4, "web")] {
        assert_eq!(stage.login(connection, user, 1).await, Answer::Granted);
    }
    let told = stage.refusal(start(1, 1, command("true"))).await;
    assert!(told.message.contains("did you mean web?"), "{told:?}");
    // One has its container already.
    stage.ask(start(4, 2, command("true"))).await;
    let task = stage.task().await;
    enter_and_start(&task).await;
    say_started(&task).await;
    stage.hear().await;
    stage.shared.set_policy(Policy::default());
    for (session, connection, program) in [
        (11, 1, command("true")),
        (12, 1, Program::Shell),
        (13, 2, Program::Shell),
        (14, 3, command("ls")),
        (15, 4, command("true")),
        (16, 4, Program::Sftp),
    ] {
        stage.tell(Question::Prepare { connection, session }).await;
        let refusal = stage.refusal(start(connection, session, program)).await;
        assert!(refusal.message.contains("has been changed since"), "{session}: {refusal:?}");
        let names = ["web", "database"];
        assert!(!names.iter().any(|name| refusal.message.contains(name)), "{refusal:?}");
    }
    for (item, host) in [(21, "web"), (22, "wep"), (23, "shop")] {
        let refusal = stage.refusal(reach(3, item, host)).await;
        assert!(refusal.message.contains("has been changed since"), "{host}: {refusal:?}");
    }
    // In the container that one has, nothing is held ready for him.
    let forked = timeout(Duration::from_millis(100), stage.spawner.receive::<u8>());
    assert!(forked.await.is_err());
}

/// What was found while the client still talked names containers.
#[tokio::test]
async fn who_is_nobody_any_more_when_he_starts_is_told_nothing_that_was_found_before() {
    let mut stage = Stage::new(&line("", 1)).await;
    for connection in 1..=3 {
        assert_eq!(stage.login(connection, "wep", 1).await, Answer::Granted);
        let before = stage.engine_asked().len();
        stage.tell(Question::Prepare { connection, session: connection }).await;
        timeout(PATIENCE, async {
            while stage.engine_asked().len() == before {
                sleep(LOOK_PERIOD).await;
            }
        })
        .await
        .unwrap();
    }
    // The last answer of the engine has come by the one after it.
    let told = stage.refusal(start(3, 3, command("true"))).await;
    assert!(told.message.contains("did you mean web?"), "{told:?}");
    stage.shared.set_policy(Policy::default());
    let Question::Start { connection, session, program, environment, agent, .. } =
        start(2, 2, Program::Shell)
    else {
        panic!()
    };
    let terminal = Some(wire_terminal());
    let shell = Question::Start { connection, session, program, terminal, environment, agent };
    for question in [start(1, 1, command("true")), shell] {
        let refusal = stage.refusal(question).await;
        assert!(refusal.message.contains("has been changed since"), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_disconnected_client_leaves_nothing() {
    let mut stage = Stage::new(&line("", 1)).await;
    stage.login(1, "web", 1).await;
    stage.ask(start(1, 5, command("sleep"))).await;
    let task = stage.task().await;
    enter_and_start(&task).await;
    say_started(&task).await;
    stage.hear().await;
    stage.tell(Question::Disconnected { connection: 1, reason: "gone".to_owned() }).await;
    assert_eq!(order(&task).await, Some(Order::Stop { grace_ms: 100 }));
}

#[tokio::test]
async fn a_stopped_gateway_ends_sessions_and_tells_their_clients() {
    let mut stage = Stage::new(&line("", 1)).await;
    stage.login(1, "web", 1).await;
    stage.ask(start(1, 5, command("sleep"))).await;
    let task = stage.task().await;
    enter_and_start(&task).await;
    say_started(&task).await;
    stage.hear().await;
    stage.shutdown.request();
    assert_eq!(stage.hear().await.0, Word::News(News::Drain));
    assert_eq!(order(&task).await, Some(Order::Stop { grace_ms: 100 }));
    let exit = Exit::Signal { number: libc::SIGHUP, core_dumped: false };
    task.send(&Report::Exited(exit), &[]).await.unwrap();
    task.send(&Report::Gone, &[]).await.unwrap();
    assert_eq!(stage.hear().await.0, Word::News(News::Exited { session: 5, exit }));
    let (word, _) = stage.hear().await;
    assert!(matches!(word, Word::News(News::Disconnect { connection: 1, .. })), "{word:?}");
    stage.tell(Question::Disconnected { connection: 1, reason: String::new() }).await;
    assert!(!stage.breaks().await);
}

#[tokio::test]
async fn sessions_of_one_connection_are_counted() {
    let mut stage = Stage::new(&line("", 1)).await;
    stage.login(1, "nothing", 1).await;
    for session in 1..=u64::from(LIMITS_DEFAULT.sessions) {
        stage.tell(Question::Prepare { connection: 1, session }).await;
    }
    stage.tell(Question::Prepare { connection: 1, session: 100 }).await;
    let refusal = stage.refusal(start(1, 101, Program::Shell)).await;
    assert!(refusal.message.contains("too many"), "{refusal:?}");
    stage.tell(Question::Close { item: 1 }).await;
    let refusal = stage.refusal(start(1, 102, Program::Shell)).await;
    assert!(refusal.message.contains("nothing"), "{refusal:?}");
}

#[tokio::test]
async fn an_identity_does_not_change() {
    let mut stage = Stage::new(&line("", 1)).await;
    stage.login(1, "web", 1).await;
    let refusal = stage.refusal(authenticate(1, "database", 1)).await;
    assert!(refusal.message.contains("somebody's already"), "{refusal:?}");
    stage.ask(start(1, 5, command("true"))).await;
    let Some(Order::Enter(_)) = order(&stage.task().await).await else { panic!("no order") };
}

#[tokio::test]
async fn a_net_that_breaks_the_rules_is_given_up() {
    // A number that is used twice.
    let mut stage = Stage::new(&line("", 1)).await;
    stage.login(1, "web", 1).await;
    stage.tell(Question::Prepare { connection: 1, session: 5 }).await;
    stage.tell(Question::Prepare { connection: 1, session: 5 }).await;
    assert!(stage.breaks().await);
    // A session of another connection.
    let mut stage = Stage::new(&line("", 1)).await;
    stage.login(1, "web", 1).await;
    stage.login(2, "web", 1).await;
    stage.tell(Question::Prepare { connection: 1, session: 5 }).await;
    stage.ask(start(2, 5, Program::Shell)).await;
    assert!(stage.breaks().await);
    // What no client can ask for.
    for program in [Program::Portal, Program::Words(vec![b"sh".to_vec()])] {
        let mut stage = Stage::new(&line("", 1)).await;
        stage.login(1, "web", 1).await;
        stage.ask(start(1, 5, program)).await;
        assert!(stage.breaks().await);
    }
    // No message at all.
    let stage = Stage::new(&line("", 1)).await;
    rustix::net::send(stage.net.as_fd(), b"\0\xff\xff\xff", rustix::net::SendFlags::empty())
        .unwrap();
    assert!(stage.breaks().await);
}

#[tokio::test]
async fn what_does_not_exist_is_closed_in_silence() {
    let mut stage = Stage::new(&line("", 1)).await;
    stage.tell(Question::Close { item: 99 }).await;
    stage.tell(Question::Signal { session: 99, name: "TERM".to_owned() }).await;
    stage.tell(Question::Disconnected { connection: 99, reason: String::new() }).await;
    stage.tell(Question::Prepare { connection: 99, session: 1 }).await;
    assert_eq!(stage.login(1, "web", 1).await, Answer::Granted);
}

#[tokio::test]
async fn a_key_counts_only_when_it_was_proved_and_each_proof_once() {
    let keys = line("", 1) + &line("", 2);
    let mut stage = Stage::new(&keys).await;
    let claimed = |connection: u64, by: Signed| {
        let mut question = authenticate_behind(connection, "web", None, 1);
        if let Question::Authenticate { signed, .. } = &mut question {
            *signed = by;
        }
        question
    };
    let nothing = Signed { signature: Vec::new(), data: Vec::new() };
    for by in [nothing, signed(1, "web", 2), signed(1, "db", 1)] {
        let refused = stage.answer(claimed(1, by)).await.0;
        assert!(matches!(refused, Answer::Refused(_)), "{refused:?}");
    }
    // A failed attempt takes nothing from the next one of the same session.
    assert_eq!(stage.answer(claimed(1, signed(1, "web", 1))).await.0, Answer::Granted);
    // What was seen once is not believed for another connection.
    let again = stage.answer(claimed(2, signed(1, "web", 1))).await.0;
    assert!(matches!(again, Answer::Refused(_)), "{again:?}");
    assert_eq!(stage.answer(claimed(2, signed(2, "web", 1))).await.0, Answer::Granted);
}

/// A policy that demands a code of the first key and none of the second, and the secret of these codes.
fn coded_policy(stage: &Stage) -> crate::totp::Secret {
    use std::os::unix::fs::PermissionsExt as _;

    let write = |name: &str, text: &str| {
        let path = stage.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let secret = write("secret", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n");
    let policy = format!(
        "[[identity]]\nname = 'alice'\nkeys = ['{}']\ntotp_file = '{}'\n\
         [[identity]]\nname = 'bob'\nkeys = ['{}']\n\
         [[rule]]\nname = 'coded'\nwho = ['alice']\ncontainers = ['*']\nusers = ['*']\n\
         allow = ['exec']\nrequire = ['totp']\n\
         [[rule]]\nname = 'free'\nwho = ['bob']\ncontainers = ['*']\nusers = ['*']\nallow = ['exec']\n",
        line("", 1).trim(),
        secret.display(),
        line("", 2).trim()
    );
    let policy = write("policy.toml", &policy);
    let (files, policy) = policy::file::load(&PolicySource::File(policy), &[], &|_| true);
    assert!(files.contains(&secret), "a changed secret is not seen");
    stage.shared.set_policy(policy.unwrap());
    crate::totp::Secret::load(&secret).unwrap()
}

/// The same, and the code of now.
fn coded(stage: &Stage) -> String {
    format!("{:06}", coded_policy(stage).code(crate::totp::step(Timestamp::now())))
}

#[tokio::test]
async fn a_code_is_needed_where_a_rule_demands_one() {
    let mut stage = Stage::new(&line("", 1)).await;
    let secret = coded_policy(&stage);
    let now = crate::totp::step(Timestamp::now());
    let [right, next] = [now, now + 1].map(|step| format!("{:06}", secret.code(step)));
    let code = |connection, user: &str, code: &str| Question::Code {
        connection,
        login: LoginName { user: user.to_owned(), host: None },
        code: Opaque(code.as_bytes().to_vec()),
    };
    // Nobody owes one yet, and half of a login is none.
    stage.refusal(code(1, "web", &right)).await;
    assert_eq!(stage.login(1, "web", 1).await, Answer::CodeNeeded);
    stage.refusal(start(1, 5, command("true"))).await;
    // Under another name, a wrong one, and then the right one.
    stage.refusal(code(1, "database", &right)).await;
    stage.refusal(code(1, "web", "12345")).await;
    assert_eq!(stage.answer(code(1, "web", &right)).await.0, Answer::Granted);
    assert!(stage.directory.path().join("totp-used.json").exists());
    // It counts once, and after three tries none does.
    assert_eq!(stage.login(2, "web", 1).await, Answer::CodeNeeded);
    for given in [&right, &right, &right, &next] {
        stage.refusal(code(2, "web", given)).await;
    }
    assert_eq!(stage.login(3, "web", 1).await, Answer::CodeNeeded);
    stage.tell(Question::Disconnected { connection: 3, reason: String::new() }).await;
    stage.refusal(code(3, "web", &next)).await;
    // Who comes through a connection of the same identity that has given one needs no other: nobody else does.
    let through = |connection, by, outer| {
        let mut question = authenticate_behind(connection, "root", Some("web"), by);
        if let Question::Authenticate { through, .. } = &mut question {
            *through = outer;
        }
        question
    };
    assert_eq!(stage.login(4, "web", 2).await, Answer::Granted);
    for (connection, outer, wanted) in [
        (5, None, Answer::CodeNeeded),
        (6, Some(4), Answer::CodeNeeded),
        (7, Some(2), Answer::CodeNeeded),
        (8, Some(99), Answer::CodeNeeded),
        (9, Some(1), Answer::Granted),
    ] {
        assert_eq!(stage.answer(through(connection, 1, outer)).await.0, wanted, "{outer:?}");
    }
    stage.tell(Question::Disconnected { connection: 1, reason: String::new() }).await;
    assert_eq!(stage.answer(through(10, 1, Some(1))).await.0, Answer::CodeNeeded);
}

#[tokio::test]
async fn a_code_that_cannot_be_kept_lets_nobody_in() {
    let mut stage = Stage::new(&line("", 1)).await;
    let code = coded(&stage);
    assert_eq!(stage.login(1, "web", 1).await, Answer::CodeNeeded);
    // A directory is where the file should be.
    std::fs::create_dir(stage.directory.path().join("totp-used.json")).unwrap();
    let given = Question::Code {
        connection: 1,
        login: LoginName { user: "web".to_owned(), host: None },
        code: Opaque(code.into_bytes()),
    };
    stage.refusal(given).await;
    let refused = stage.refusal(start(1, 5, command("true"))).await;
    assert!(refused.message.contains("no such connection"), "{refused:?}");
}

/// With a policy that hangs: lists that can be read have all the time they need, and changes are seen at once.
const HANGING_POLICY: Patience = Patience {
    policy: Duration::from_millis(500),
    lists: PATIENCE,
    period: Duration::from_millis(20),
};

/// With a list that hangs.
const HANGING_LIST: Patience = Patience { lists: Duration::from_millis(100), ..HANGING_POLICY };

#[tokio::test]
async fn a_key_file_that_hangs_lets_nobody_in_and_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authorized_keys");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let mut config = config(directory.path(), Mode::Native);
    config.policy = PolicySource::Keys(vec![KeySource::File(path.clone())]);
    let (shared, _spawner) = shared(config, &line("", 1)).await;
    let count = || shared.policy().keys().lines().len();
    let known = Some(Seen::now(shared.config.policy.files()));
    let seen = look_at_policy(&shared, known.clone(), false, &POLICY_PATIENCE).await;
    assert_eq!(seen, known);
    assert_eq!(count(), 1, "nothing has changed");
    let looking = {
        let (shared, known) = (Arc::clone(&shared), known.clone());
        tokio::spawn(async move { look_at_policy(&shared, known, true, &HANGING_POLICY).await })
    };
    timeout(PATIENCE, async {
        while count() > 0 {
            sleep(LOOK_PERIOD).await;
        }
    })
    .await
    .unwrap();
    // It waits for a writer.
    let text = [line("", 2), line("", 3)].concat();
    spawn_blocking(move || std::fs::write(path, text)).await.unwrap().unwrap();
    timeout(PATIENCE, looking).await.unwrap().unwrap();
    assert_eq!(count(), 2);
}

/// Looks until nothing is left to be read.
async fn settled(shared: &Arc<Shared>, mut seen: Option<Seen>) -> Option<Seen> {
    for _ in 0..CHANGES_MAX {
        seen = look_at_policy(shared, seen, false, &POLICY_PATIENCE).await;
        if seen.as_ref().is_some_and(|seen| seen.changes == 0) {
            return seen;
        }
    }
    panic!("it does not hold still: {seen:?}");
}

/// A list of revoked keys does not wait for the policy to be mended, and nobody comes in by a list that nobody can read.
#[tokio::test]
async fn what_is_revoked_counts_although_the_policy_is_broken() {
    let directory = tempfile::tempdir().unwrap();
    let (config, policy, list) = with_list(directory.path());
    let whole = std::fs::read(&policy).unwrap();
    let (shared, _spawner) = shared(config, &line("", 3)).await;
    let admitted = || admitted(&shared);
    let seen = settled(&shared, None).await;
    assert_eq!(admitted(), [true, true]);
    std::fs::write(&policy, "[[rule]]\n").unwrap();
    std::fs::write(&list, line("", 1)).unwrap();
    let seen = settled(&shared, seen).await;
    assert_eq!(admitted(), [false, true], "the policy is broken");
    std::fs::write(&policy, &whole).unwrap();
    std::fs::write(&list, "sha1 of something").unwrap();
    let seen = settled(&shared, seen).await;
    assert_eq!(admitted(), [false, false], "the list is broken");
    std::fs::write(&list, line("", 1)).unwrap();
    settled(&shared, seen).await;
    assert_eq!(admitted(), [false, true], "both are mended");
}

/// A policy with the keys 1 and 2, and a list of revoked keys beside it.
fn with_list(directory: &Path) -> (Config, PathBuf, PathBuf) {
    let path = |name: &str| directory.join(name);
    let whole = format!(
        "[[identity]]\nname = 'a'\nkeys = ['{}', '{}']\n[[rule]]\nname = 'r'\nwho = ['a']\n\
         containers = ['*']\nusers = ['*']\nallow = ['exec']\n",
        line("", 1).trim(),
        line("", 2).trim()
    );
    std::fs::write(path("policy"), whole).unwrap();
    std::fs::write(path("revoked"), "# nobody\n").unwrap();
    let mut config = config(directory, Mode::Native);
    config.policy = PolicySource::File(path("policy"));
    config.revoked_keys = vec![path("revoked")];
    (config, path("policy"), path("revoked"))
}

/// Which of the keys 1 and 2 come in.
fn admitted(shared: &Shared) -> [bool; 2] {
    [1, 2].map(|number| {
        let blob = key(number).to_bytes().unwrap();
        let presence = crate::proof::Presence::Signed { touched: false, verified: false };
        let peer = "192.0.2.7".parse().unwrap();
        policy::admit(&shared.policy(), &blob, presence, peer, Timestamp::now()).is_ok()
    })
}

/// A file every read of which hangs. Dropped, it is gone where it was not replaced, so that a test that fails ends.
struct Hanging {
    file: PathBuf,
    _pipe: std::fs::File,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        if self.file.is_symlink() {
            std::fs::remove_file(&self.file).unwrap();
        }
    }
}

/// Makes every read of this file hang until what is given back is dropped.
fn hang(file: &Path) -> Hanging {
    let (pipe, link) = (file.with_extension("pipe"), file.with_extension("link"));
    let (kind, mode) =
        (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    std::fs::rename(link, file).unwrap();
    // Who writes and says nothing.
    let pipe = std::fs::File::options().read(true).write(true).open(pipe).unwrap();
    Hanging { file: file.to_owned(), _pipe: pipe }
}

#[tokio::test]
async fn a_list_of_revoked_keys_that_hangs_lets_nobody_in_beside_a_policy() {
    let directory = tempfile::tempdir().unwrap();
    let (config, _, list) = with_list(directory.path());
    let (shared, _spawner) = shared(config, &line("", 3)).await;
    let seen = settled(&shared, None).await;
    assert_eq!(admitted(&shared), [true, true]);
    let hanging = hang(&list);
    let looking = {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { look_at_policy(&shared, seen, true, &HANGING_LIST).await })
    };
    timeout(PATIENCE, async {
        while admitted(&shared) != [false, false] {
            sleep(LOOK_PERIOD).await;
        }
    })
    .await
    .unwrap();
    // It is mended.
    std::fs::write(list.with_extension("new"), line("", 1)).unwrap();
    std::fs::rename(list.with_extension("new"), &list).unwrap();
    drop(hanging);
    let seen = timeout(PATIENCE, looking).await.unwrap().unwrap();
    settled(&shared, seen).await;
    assert_eq!(admitted(&shared), [false, true]);
}

#[tokio::test]
async fn what_is_revoked_counts_although_the_policy_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let (config, policy, list) = with_list(directory.path());
    let (shared, _spawner) = shared(config, &line("", 3)).await;
    let seen = settled(&shared, None).await;
    let whole = std::fs::read(&policy).unwrap();
    std::fs::write(&list, line("", 1)).unwrap();
    let hanging = hang(&policy);
    let looking = {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { look_at_policy(&shared, seen, true, &HANGING_POLICY).await })
    };
    let comes_to = async |wanted: [bool; 2]| {
        let looking = async {
            while admitted(&shared) != wanted {
                sleep(LOOK_PERIOD).await;
            }
        };
        timeout(PATIENCE, looking).await.unwrap();
    };
    comes_to([false, true]).await;
    // So do keys that are revoked later, while it still hangs, and a list in which nobody can read who is.
    std::fs::write(&list, [line("", 1), line("", 2)].concat()).unwrap();
    comes_to([false, false]).await;
    std::fs::write(&list, line("", 2)).unwrap();
    comes_to([true, false]).await;
    std::fs::write(&list, "sha1 of something").unwrap();
    comes_to([false, false]).await;
    std::fs::write(&list, line("", 1)).unwrap();
    comes_to([false, true]).await;
    assert!(!looking.is_finished());
    std::fs::write(policy.with_extension("new"), whole).unwrap();
    std::fs::rename(policy.with_extension("new"), policy).unwrap();
    drop(hanging);
    timeout(PATIENCE, looking).await.unwrap().unwrap();
    assert_eq!(admitted(&shared), [false, true]);
}

/// Files that never hold still are read all the same; what changes while they are is read again.
#[tokio::test(flavor = "multi_thread")]
async fn what_changes_during_the_last_chance_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let (config, policy, list) = with_list(directory.path());
    let (shared, _spawner) = shared(config, &line("", 3)).await;
    let seen = settled(&shared, None).await;
    let whole = std::fs::read(&policy).unwrap();
    std::fs::remove_file(&policy).unwrap();
    let (kind, mode) =
        (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &policy, kind, mode, 0).unwrap();
    let seen = seen.map(|seen| Seen { changes: CHANGES_MAX, ..seen });
    let looking = {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { look_at_policy(&shared, seen, false, &POLICY_PATIENCE).await })
    };
    // It has looked, and reads now.
    let mut written = spawn_blocking({
        let policy = policy.clone();
        move || std::fs::File::options().write(true).open(policy)
    })
    .await
    .unwrap()
    .unwrap();
    std::fs::write(&list, line("", 1)).unwrap();
    io::Write::write_all(&mut written, &whole).unwrap();
    drop(written);
    let seen = timeout(PATIENCE, looking).await.unwrap().unwrap();
    assert_eq!(seen.as_ref().map(|seen| seen.changes), Some(1));
    std::fs::remove_file(&policy).unwrap();
    std::fs::write(&policy, whole).unwrap();
    settled(&shared, seen).await;
    assert_eq!(admitted(&shared), [false, true]);
}

/// Half of a policy can be a policy, and allow what the whole does not.
#[tokio::test]
async fn a_policy_that_is_being_written_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    let key = line("", 1);
    let half = format!(
        "[[identity]]\nname = 'a'\nkeys = ['{}']\n[[rule]]\nname = 'half'\nwho = ['a']\n\
         containers = ['*']\nusers = ['*']\nallow = ['exec']\n",
        key.trim()
    );
    let whole = half.replace("half", "whole") + "from = ['192.0.2.1']\n";
    let mut config = config(directory.path(), Mode::Native);
    config.policy = PolicySource::File(path.clone());
    let (shared, _spawner) = shared(config, &key).await;
    let names = || {
        let policy = shared.policy();
        policy.rules().iter().map(|rule| rule.name.clone()).collect::<Vec<_>>().join(",")
    };
    let before = names();
    std::fs::write(&path, &half).unwrap();
    let seen = look_at_policy(&shared, None, false, &POLICY_PATIENCE).await;
    assert_eq!(names(), before, "it was seen once");
    std::fs::write(&path, &whole).unwrap();
    let seen = look_at_policy(&shared, seen, false, &POLICY_PATIENCE).await;
    assert_eq!(names(), before, "it has changed since");
    let seen = look_at_policy(&shared, seen, false, &POLICY_PATIENCE).await;
    assert_eq!(names(), "whole");
    // One that changes at every look is read all the same in the end.
    let mut seen = seen;
    for number in 0..=CHANGES_MAX {
        std::fs::write(&path, format!("{half}#{}\n", "x".repeat(number.into()))).unwrap();
        assert_eq!(names(), "whole", "{number}");
        seen = look_at_policy(&shared, seen, false, &POLICY_PATIENCE).await;
    }
    assert_eq!(names(), "half");
}

#[tokio::test]
async fn a_policy_that_breaks_is_not_taken_over_and_one_that_is_mended_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    let key_file = directory.path().join("keys");
    let write = |rules: &str| {
        let text = format!(
            "[[identity]]\nname = 'a'\nauthorized_keys = ['{}']\n{rules}",
            key_file.display()
        );
        std::fs::write(&path, text).unwrap();
    };
    let rule = |name: &str| {
        format!(
            "[[rule]]\nname = '{name}'\nwho = ['a']\ncontainers = ['*']\nusers = ['*']\nallow = ['exec']\n"
        )
    };
    let mut config = config(directory.path(), Mode::Native);
    config.policy = PolicySource::File(path.clone());
    let (shared, _spawner) = shared(config, &line("", 1)).await;
    let names = || {
        let policy = shared.policy();
        policy.rules().iter().map(|rule| rule.name.clone()).collect::<Vec<_>>().join(",")
    };
    let keys = || shared.policy().keys().lines().len();
    std::fs::write(&key_file, line("", 1) + &line("", 2)).unwrap();
    write(&rule("one"));
    let seen = settled(&shared, None).await;
    assert_eq!((names().as_str(), keys()), ("one", 2));
    // The file of the identity was not known before: it is looked at once more, and then no more.
    let seen = settled(&shared, seen).await;
    assert_eq!(look_at_policy(&shared, seen.clone(), false, &POLICY_PATIENCE).await, seen);
    write("[[rule]]\nname = 'everything'\nwho = ['*']\n");
    let seen = settled(&shared, seen).await;
    assert_eq!((names().as_str(), keys()), ("one", 2), "a broken one");
    // It is asked for, and as broken as it was.
    let seen = look_at_policy(&shared, seen, true, &POLICY_PATIENCE).await;
    assert_eq!(names(), "one");
    write(&rule("two"));
    let seen = settled(&shared, seen).await;
    assert_eq!(names(), "two");
    // A key file that is gone breaks it; one that is there again mends it, though the policy is as it was.
    std::fs::remove_file(&key_file).unwrap();
    let seen = settled(&shared, seen).await;
    assert_eq!((names().as_str(), keys()), ("two", 2));
    std::fs::write(&key_file, line("", 3)).unwrap();
    let seen = settled(&shared, seen).await;
    assert_eq!((names().as_str(), keys()), ("two", 1));
    std::fs::remove_file(&path).unwrap();
    let seen = settled(&shared, seen).await;
    assert_eq!(names(), "two", "one that is gone");
    write(&rule("three"));
    settled(&shared, seen).await;
    assert_eq!(names(), "three");
}
