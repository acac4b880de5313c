//! The hop on the machine's own engine. Without an engine, or without the rights for it, the tests say so and pass.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::atomic::AtomicU32;

use serde_json::Value;

use super::*;
use crate::capability;
use crate::enter::step::live;
use crate::enter::sys::{self, Forked};
use crate::spawner;
use crate::wire::task::{CapabilitySets, Confinement, User};
use crate::wire::{Opaque, Program, Terminal, WindowSize};

/// The image of all targets: busybox, a few users, and nothing else.
const IMAGE: &str = "hop-box:2";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:5:web:/home/web:/bin/sh\n\
    locked:x:1001:1001::/home/web:/usr/sbin/nologin\nnohome:x:1002:1002::/nowhere:/bin/zsh\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nlog:x:44:root,web\nweb:x:1000:\n";
/// Where Docker's own containerd keeps its bundles.
const BUNDLES: &str = "/var/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby";
const GRACE: Duration = Duration::from_millis(200);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A container of a test.
struct Container {
    id: String,
    pid: i32,
}

impl Container {
    /// Starts `docker run` with these options; `None`, said aloud, where that cannot be tested.
    fn start(options: &[&str]) -> Option<Self> {
        Self::start_with(options, &["sleep", "1000000"])
    }

    fn start_with(options: &[&str], command: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !ensure_image() {
            println!("skipped: needs root and a Docker engine with its bundles at {BUNDLES}");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("hop-{}-{number}", std::process::id());
        let mut arguments = vec!["run", "-d", "--name", &name];
        if !options.contains(&"--network") {
            // Not what is tested here, and the bridge of a machine may be in other hands.
            arguments.extend(["--network", "none"]);
        }
        arguments.extend(options);
        if !options.contains(&IMAGE_GIVEN) {
            arguments.push(IMAGE);
        }
        arguments.retain(|argument| *argument != IMAGE_GIVEN);
        arguments.extend(command);
        let id = docker(&arguments);
        let id = id.lines().last().unwrap().trim().to_owned();
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &id]).trim().parse().unwrap();
        Some(Self { id, pid })
    }

    fn config(&self) -> Value {
        let path = format!("{BUNDLES}/{}/config.json", self.id);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// The confinement of the specification, and the runtime's filter.
    async fn target(&self, spawner: &Spawner) -> Target {
        let config = self.config();
        let mut confinement = confinement(&config);
        if config["linux"]["seccomp"].is_object() {
            let filter = spawner.task().await.unwrap().filter(self.pin()).await.unwrap();
            assert!(!filter.is_empty());
            confinement.seccomp = Some(Opaque(filter));
        }
        Target {
            pin: self.pin(),
            cgroup_root: "/sys/fs/cgroup".to_owned(),
            session_cgroup: session_name(),
            confinement,
        }
    }

    fn pin(&self) -> Pin {
        Pin { pid: self.pid, container_id: self.id.clone() }
    }

    fn user(&self) -> User {
        let config = self.config();
        let user = &config["process"]["user"];
        let number = |value: &Value| u32::try_from(value.as_u64().unwrap_or(0)).unwrap();
        let add = docker(&["inspect", "-f", "{{json .HostConfig.GroupAdd}}", &self.id]);
        User {
            name: None,
            container_uid: number(&user["uid"]),
            container_gid: number(&user["gid"]),
            container_groups: user["additionalGids"]
                .as_array()
                .map(|groups| groups.iter().map(number).collect())
                .unwrap_or_default(),
            group_add: serde_json::from_str::<Option<_>>(&add).unwrap().unwrap_or_default(),
        }
    }

    fn starting(&self, program: Program) -> Start {
        let config = self.config();
        let environment = config["process"]["env"].as_array().unwrap();
        Start {
            program,
            user: self.user(),
            terminal: None,
            container_environment: environment
                .iter()
                .map(|line| Opaque(line.as_str().unwrap().as_bytes().to_vec()))
                .collect(),
            session_environment: Vec::new(),
            directory: None,
            toolbox: None,
            as_engine_exec: false,
        }
    }

    /// Names of session groups that are left in any hierarchy.
    fn groups_left(&self) -> Vec<String> {
        let found = Command::new("find")
            .args(["/sys/fs/cgroup", "-maxdepth", "4", "-name", "ssh-*"])
            .output()
            .unwrap();
        let text = String::from_utf8(found.stdout).unwrap();
        text.lines().filter(|line| line.contains(&self.id)).map(str::to_owned).collect()
    }

    /// Processes in the container's cgroup.
    fn processes(&self) -> Vec<i32> {
        let path = format!("/sys/fs/cgroup/pids/docker/{}/cgroup.procs", self.id);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(Command::new("docker").args(["unpause", &self.id]).output());
        drop(Command::new("docker").args(["rm", "-f", "-v", &self.id]).output());
    }
}

/// Says in the options that they name the image themselves.
const IMAGE_GIVEN: &str = "IMAGE-GIVEN";

fn session_name() -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("ssh-{}-{number}", std::process::id())
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn ensure_image() -> bool {
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    *IS_THERE.get_or_init(|| {
        let version = Command::new("docker").args(["version"]).output();
        if !version.is_ok_and(|output| output.status.success())
            || !std::path::Path::new(BUNDLES).is_dir()
            || !std::path::Path::new("/bin/busybox").exists()
        {
            return false;
        }
        let known = Command::new("docker").args(["image", "inspect", IMAGE]).output().unwrap();
        if !known.status.success() {
            import_image();
        }
        true
    })
}

fn import_image() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for directory in ["bin", "etc", "tmp", "root", "home/web"] {
        std::fs::create_dir_all(at(directory)).unwrap();
    }
    std::fs::copy("/bin/busybox", at("bin/busybox")).unwrap();
    let applets = "sh cat ls id env sleep true false tty stty readlink tr grep mkfifo mount kill \
        ps head od setsid nohup touch mkdir rm echo test dd chmod";
    for applet in applets.split_whitespace() {
        std::os::unix::fs::symlink("busybox", at("bin").join(applet)).unwrap();
    }
    std::fs::write(at("etc/passwd"), PASSWD).unwrap();
    std::fs::write(at("etc/group"), GROUP).unwrap();
    let archive = tempfile::NamedTempFile::new().unwrap();
    let (root, archive) = (root.path().to_str().unwrap(), archive.path().to_str().unwrap());
    let packed = Command::new("tar")
        .args(["-C", root, "-cf", archive, "--owner=0", "--group=0", "."])
        .status()
        .unwrap();
    assert!(packed.success());
    let imported = Command::new("docker").args(["import", archive, IMAGE]).output().unwrap();
    assert!(imported.status.success());
}

fn confinement(config: &Value) -> Confinement {
    let process = &config["process"];
    let set = |name: &str| {
        let names = process["capabilities"][name].as_array().cloned().unwrap_or_default();
        names.iter().fold(0_u64, |mask, name| {
            mask | 1 << capability::number(name.as_str().unwrap()).unwrap()
        })
    };
    let limits = process["rlimits"].as_array().cloned().unwrap_or_default();
    Confinement {
        capabilities: CapabilitySets {
            bounding: set("bounding"),
            effective: set("effective"),
            inheritable: set("inheritable"),
            permitted: set("permitted"),
            ambient: set("ambient"),
        },
        no_new_privileges: process["noNewPrivileges"].as_bool().unwrap_or(false),
        seccomp: None,
        rlimits: limits
            .iter()
            .map(|limit| {
                let number = match limit["type"].as_str().unwrap() {
                    "RLIMIT_NOFILE" => 7,
                    "RLIMIT_NPROC" => 6,
                    "RLIMIT_CORE" => 4,
                    other => panic!("{other}"),
                };
                (number, limit["soft"].as_u64().unwrap(), limit["hard"].as_u64().unwrap())
            })
            .collect(),
        oom_score_adj: process["oomScoreAdj"].as_i64().map(|value| i32::try_from(value).unwrap()),
        umask: u32::try_from(process["user"]["umask"].as_u64().unwrap_or(0o022)).unwrap(),
        apparmor: process["apparmorProfile"].as_str().map(str::to_owned),
        selinux: process["selinuxLabel"].as_str().map(str::to_owned),
    }
}

/// A spawner forked from the test itself. It ends when its client is dropped.
fn spawner() -> Spawner {
    let (ours, its) = Socket::pair().unwrap();
    match sys::fork().unwrap() {
        Forked::Child => live(|| {
            let [socket] = sys::keep_only([its.into_descriptor()]).unwrap();
            spawner::run(Socket::from_descriptor(socket))
        }),
        Forked::Parent(_) => {
            drop(its);
            Spawner::over(ours).unwrap()
        }
    }
}

/// What a program wrote, and how it ended.
#[derive(Debug)]
struct Ended {
    stdout: String,
    stderr: String,
    exit: Exit,
}

fn reading(descriptor: OwnedFd) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A terminal without a slave is an error, and the end.
        drop(std::fs::File::from(descriptor).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

async fn start(
    spawner: &Spawner,
    target: Target,
    start: Start,
) -> Result<(Task, Started), HopError> {
    let task = spawner.task().await?;
    task.enter(target).await?;
    let started = task.start(start).await?;
    Ok((task, started))
}

/// Runs a program to its end, with this input.
async fn run(
    spawner: &Spawner,
    target: Target,
    what: Start,
    input: &str,
) -> Result<Ended, HopError> {
    let (task, started) = start(spawner, target, what).await?;
    let (stdout, stderr) = match started {
        Started::Pipes { stdin, stdout, stderr, files } => {
            std::thread::spawn(move || {
                while let Some(Ok(Some(_))) =
                    files.as_ref().map(Socket::receive::<crate::wire::files::Report>)
                {
                }
            });
            std::fs::File::from(stdin).write_all(input.as_bytes()).ok();
            (reading(stdout), reading(stderr))
        }
        Started::Terminal { master, .. } => {
            let mut writer = std::fs::File::from(master.try_clone().unwrap());
            writer.write_all(input.as_bytes()).unwrap();
            (reading(master), std::thread::spawn(String::new))
        }
        Started::Portal(_) => panic!("a portal"),
    };
    let Event::Exited(exit) = task.next_event().await? else { panic!("gone without an exit") };
    task.stop(GRACE).await?;
    Ok(Ended { stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap(), exit })
}

fn words(words: &[&str]) -> Program {
    Program::Words(words.iter().map(|word| word.as_bytes().to_vec()).collect())
}

fn command(line: &str) -> Program {
    Program::Command(line.as_bytes().to_vec())
}

fn as_user(mut start: Start, name: &str) -> Start {
    start.user.name = Some(name.to_owned());
    start
}

fn terminal() -> Option<Terminal> {
    let size = WindowSize { columns: 90, rows: 30, width: 0, height: 0 };
    Some(Terminal { term: "xterm".to_owned(), size, modes: Vec::new() })
}

#[tokio::test]
async fn a_command_runs_in_the_container_and_says_how_it_ended() {
    let Some(container) = Container::start(&[]) else { return };
    let spawner = spawner();
    let target = || container.target(&spawner);
    let line = "cat; echo out; echo err >&2; exit 7";
    let ended =
        run(&spawner, target().await, container.starting(command(line)), "in\n").await.unwrap();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("in\nout\n", "err\n"));
    assert_eq!(ended.exit, Exit::Status(7));
    let kill = container.starting(command("kill -9 $$"));
    let ended = run(&spawner, target().await, kill, "").await.unwrap();
    assert_eq!(ended.exit, Exit::Signal { number: 9, core_dumped: false });
    assert_eq!(container.groups_left(), Vec::<String>::new());
    assert_eq!(container.processes(), [container.pid]);
}

#[tokio::test]
async fn a_session_knows_who_and_where_it_is() {
    let Some(container) = Container::start(&["-e", "A=b"]) else { return };
    let spawner = spawner();
    let line = "id -u; id -g; id -G; pwd; echo $HOME $USER $LOGNAME $SHELL $A ${TERM-none} $X";
    for (user, expected) in [
        ("web", "1000\n5\n5 44\n/home/web\n/home/web web web /bin/sh b none y\n"),
        ("locked", "1001\n1001\n1001\n/home/web\n/home/web locked locked /bin/sh b none y\n"),
        ("nohome", "1002\n1002\n1002\n/\n/nowhere nohome nohome /bin/sh b none y\n"),
        ("4321", "4321\n0\n0\n/\n/ 4321 4321 /bin/sh b none y\n"),
        ("root", "0\n0\n0 44\n/root\n/root root root /bin/sh b none y\n"),
    ] {
        let mut start = as_user(container.starting(command(line)), user);
        start.session_environment.push(Opaque(b"X=y".to_vec()));
        // Busybox's ash as `$SHELL` of those whose shell is none: the image has no bash and no /bin/ash.
        let ended = run(&spawner, container.target(&spawner).await, start, "").await.unwrap();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), (expected, ""), "{user}");
    }
    let nobody = as_user(container.starting(command("true")), "nobody-of-this-name");
    let error = run(&spawner, container.target(&spawner).await, nobody, "").await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::User);
    assert_eq!(container.groups_left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_login_shell_has_a_terminal_of_the_container() {
    let Some(container) = Container::start(&[]) else { return };
    let spawner = spawner();
    let mut start = as_user(container.starting(Program::Shell), "web");
    start.terminal = terminal();
    let input = "echo $0; tty; echo $SSH_TTY $TERM; stty size; ls -l $SSH_TTY; exit 3\n";
    let ended = run(&spawner, container.target(&spawner).await, start, input).await.unwrap();
    for part in ["-sh\r\n", "/dev/pts/0\r\n", "/dev/pts/0 xterm\r\n", "30 90\r\n", "web"] {
        assert!(ended.stdout.contains(part), "{part:?} in {}", ended.stdout);
    }
    assert_eq!(ended.exit, Exit::Status(3));
}

#[tokio::test]
async fn what_cannot_be_run_is_127_or_126() {
    let Some(container) = Container::start(&[]) else { return };
    let spawner = spawner();
    for (program, status) in [
        (words(&["nothing"]), 127),
        (words(&["/bin/nothing"]), 127),
        (words(&["/etc"]), 126),
        (words(&["/etc/passwd"]), 126),
        (words(&["/proc/self/fd/3"]), 126),
        (words(&["/proc/self/fd/4"]), 127),
    ] {
        let target = container.target(&spawner).await;
        let error =
            run(&spawner, target, container.starting(program.clone()), "").await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Program { status }, "{program:?}: {error}");
    }
    for (line, status) in [("nothing", 127), ("/etc", 126)] {
        let target = container.target(&spawner).await;
        let ended = run(&spawner, target, container.starting(command(line)), "").await.unwrap();
        assert_eq!(ended.exit, Exit::Status(status), "{line}");
    }
    assert_eq!(container.groups_left(), Vec::<String>::new());
}

#[tokio::test]
async fn signals_reach_the_group_and_the_end_takes_everything() {
    let Some(container) = Container::start(&[]) else { return };
    let spawner = spawner();
    // Ready when the second shell has left the group: a signal would end it before.
    let line = "trap 'echo got' USR1; trap '' TERM HUP; (setsid sh -c 'trap \"\" TERM HUP; \
        sleep 1000 & echo ready; sleep 1000' &) ; while :; do sleep 0.05; done";
    let target = container.target(&spawner).await;
    let (task, started) = start(&spawner, target, container.starting(command(line))).await.unwrap();
    let Started::Pipes { stdout, stdin: _stdin, .. } = started else { panic!("no pipes") };
    let mut stdout = io::BufReader::new(std::fs::File::from(stdout));
    let mut line = || {
        let mut line = String::new();
        io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        line
    };
    assert_eq!(line(), "ready\n");
    // The container's own, the supervisor, the shell and its sleep, and what has left the group with its sleeps. Before
    // it has left, a signal reaches it too.
    hold(&container, |processes| processes.len() >= 6).await;
    task.signal(10).await.unwrap();
    assert_eq!(line(), "got\n");
    task.stop(GRACE).await.unwrap();
    assert_eq!(container.processes(), [container.pid]);
    assert_eq!(container.groups_left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_broker_that_goes_away_ends_its_sessions() {
    let Some(container) = Container::start(&[]) else { return };
    let spawner = spawner();
    let sleeping = || container.starting(words(&["sleep", "1000"]));
    let (task, started) =
        start(&spawner, container.target(&spawner).await, sleeping()).await.unwrap();
    hold(&container, |processes| processes.len() == 3).await;
    drop((task, started));
    let entered = spawner.task().await.unwrap();
    entered.enter(container.target(&spawner).await).await.unwrap();
    entered.entered().await.unwrap();
    drop(entered);
    settled(&container).await;
}

/// Waits until nothing but the container's own process is there.
async fn settled(container: &Container) {
    hold(container, |processes| processes == [container.pid]).await;
    for _ in 0..500 {
        if container.groups_left().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("left: {:?}", container.groups_left());
}

/// Waits until this holds of the processes in the container.
async fn hold(container: &Container, what: impl Fn(&[i32]) -> bool) {
    for _ in 0..500 {
        if what(&container.processes()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("still: {:?}", container.processes());
}

#[tokio::test]
async fn background_processes_of_an_ended_program_stay_until_the_end() {
    let Some(container) = Container::start(&[]) else { return };
    let spawner = spawner();
    let line = "(sleep 1000 >/dev/null 2>&1 &); (true &); exit 4";
    let target = container.target(&spawner).await;
    let (task, _started) =
        start(&spawner, target, container.starting(command(line))).await.unwrap();
    assert_eq!(task.next_event().await.unwrap(), Event::Exited(Exit::Status(4)));
    // The container's own process, the supervisor, and what was left: and no zombie. The program may end
    // before the two it left behind have been adopted, or reaped.
    hold(&container, |processes| processes.len() == 3).await;
    task.stop(GRACE).await.unwrap();
    settled(&container).await;
}
