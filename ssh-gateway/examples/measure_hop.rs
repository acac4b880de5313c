//! Measures the hop alone, without SSH: from the request for a task to the end of the program in the container.
//!
//! ```text
//! measure_hop ID PID COUNT PAUSE_MS PROGRAM…
//! ```
//!
//! ID are the 64 digits of a running container, PID is its first process. Prints a line for each hop: the
//! microseconds until the program is proved to run, until it has ended, and until nothing of its session is
//! left. For bench/ssh/run.py.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ssh_gateway::config::BUNDLES_DEFAULT;
use ssh_gateway::container::Specification;
use ssh_gateway::container::bundle::Bundles;
use ssh_gateway::hop::{Event, Spawner};
use ssh_gateway::role::{self, Image};
use ssh_gateway::wire::Program;
use ssh_gateway::wire::task::{Pin, Start, Target, User};

/// Who listens here is the engine, which keeps the specification.
const ENGINE: &str = "/var/run/docker.sock";

type Failure = Box<dyn std::error::Error>;

/// What was typed.
struct Request {
    pin: Pin,
    count: usize,
    pause: Duration,
    words: Vec<Vec<u8>>,
}

impl Request {
    fn of(mut words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut next = |what: &str| words.next().ok_or(format!("no {what} is given"));
        let container_id = next("ID")?;
        let pid = next("PID")?.parse()?;
        let count = next("COUNT")?.parse()?;
        let pause = Duration::from_millis(next("PAUSE_MS")?.parse()?);
        let words = words.map(String::into_bytes).collect();
        Ok(Self { pin: Pin { pid, container_id }, count, pause, words })
    }
}

fn main() -> ExitCode {
    // The spawner is this program, started again.
    if role::runs_from_memory() {
        return ssh_gateway::main();
    }
    let measured = Request::of(std::env::args().skip(1)).and_then(|request| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(measure(&request))
    });
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when this fails as well.
            writeln!(io::stderr(), "{error}").ok();
            ExitCode::FAILURE
        }
    }
}

async fn measure(request: &Request) -> Result<(), Failure> {
    let own = BUNDLES_DEFAULT.map(PathBuf::from);
    let bytes = Bundles::open(&own, Some(Path::new(ENGINE))).read(&request.pin.container_id)?;
    let specification = Specification::parse(&bytes)?;
    let (spawner, _process) = Spawner::start(&Image::of_ourselves()?)?;
    let filter = if specification.needs_filter() {
        spawner.task().await?.filter(request.pin.clone()).await?
    } else {
        Vec::new()
    };
    let confinement = specification.confinement(&filter)?;
    for number in 0..request.count {
        let target = Target {
            pin: request.pin.clone(),
            cgroup_root: "/sys/fs/cgroup".into(),
            session_cgroup: format!("ssh-bench-{}-{number}", std::process::id()),
            confinement: confinement.clone(),
        };
        let start = Start {
            program: Program::Words(request.words.clone()),
            user: User {
                container_uid: specification.uid,
                container_gid: specification.gid,
                container_groups: specification.groups.clone(),
                ..User::default()
            },
            terminal: None,
            container_environment: specification.environment.clone(),
            session_environment: Vec::new(),
            directory: None,
            toolbox: None,
            as_engine_exec: false,
        };
        tokio::time::sleep(request.pause).await;
        let began = Instant::now();
        let task = spawner.task().await?;
        task.enter(target).await?;
        let _pipes = task.start(start).await?;
        let runs = began.elapsed();
        let mut ended = None;
        while task.next_event().await? != Event::Gone {
            ended = Some(began.elapsed());
        }
        let gone = began.elapsed();
        let ended = ended.ok_or("a session was gone before its program had ended")?;
        let [runs, ended, gone] = [runs, ended, gone].map(|time| time.as_micros());
        writeln!(io::stdout(), "{runs} {ended} {gone}")?;
    }
    Ok(())
}
