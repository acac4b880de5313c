//! The broker's side of the hop: asks the [spawner](crate::spawner) for [tasks](crate::task), and talks to them.
//!
//! ```text
//! Spawner::task → Task::enter → Task::start → Task::next_event … → Task::stop
//! ```
//!
//! Dropping a [`Task`] ends its session at once: the task sees its socket closed and kills what is left.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::time::timeout;

use crate::role::{self, Image, Role};
use crate::tally;
use crate::wire::Exit;
use crate::wire::socket::{AsyncSocket, Socket};
use crate::wire::task::{Failure, FailureKind, Order, Pin, Report, Start, Target, Tools};

/// A task has this long to read a seccomp filter.
const FILTER_TIME: Duration = Duration::from_secs(5);
/// A task has this long to enter a container; its own deadline is shorter.
const ENTER_TIME: Duration = Duration::from_secs(15);
/// A task has this long to start a program; its own deadline is shorter.
const START_TIME: Duration = Duration::from_secs(15);
/// The spawner has this long to take a socket, and a task to take an order.
const SEND_TIME: Duration = Duration::from_secs(5);
/// Beyond the grace, a task has this long to kill and collect what a session left.
const STOP_TIME: Duration = Duration::from_secs(20);

/// Why a hop failed.
#[derive(Debug, Error)]
pub enum HopError {
    /// The task says so itself.
    #[error("{}", .0.reason)]
    Failed(Failure),
    /// The spawner or the task is gone.
    #[error("the {who} of the hop is gone: {error}")]
    Lost {
        /// `spawner` or `task`.
        who: &'static str,
        /// What the socket says.
        error: io::Error,
    },
    /// No answer in time.
    #[error("no answer in {} s while it should {doing}", .time.as_secs())]
    TimedOut {
        /// What the task was doing.
        doing: &'static str,
        /// How long it had.
        time: Duration,
    },
    /// An answer to another question. A bug, or a task that was taken over.
    #[error("the task gives an answer that does not fit while it should {doing}")]
    Unexpected {
        /// What the task was doing.
        doing: &'static str,
    },
}

impl HopError {
    /// What kind of failure this is, for the one who asked.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Failed(failure) => failure.kind,
            Self::TimedOut { .. } => FailureKind::TimedOut,
            Self::Lost { .. } | Self::Unexpected { .. } => FailureKind::Other,
        }
    }
}

/// The process that forks tasks.
#[derive(Debug)]
pub struct Spawner {
    socket: AsyncSocket,
}

/// One session's task.
#[derive(Debug)]
pub struct Task {
    socket: AsyncSocket,
    is_entered: AtomicBool,
    tools: OnceLock<Tools>,
}

/// A program that runs, and what it is connected to.
#[derive(Debug)]
pub enum Started {
    /// With a terminal.
    Terminal {
        /// Its master.
        master: OwnedFd,
        /// Where it tells of files, if it serves them ([`crate::wire::files`]): nothing is done once it is closed.
        files: Option<Socket>,
    },
    /// With pipes: our ends.
    Pipes {
        /// To write to its standard input.
        stdin: OwnedFd,
        /// To read its standard output.
        stdout: OwnedFd,
        /// To read its standard error.
        stderr: OwnedFd,
        /// As with a terminal.
        files: Option<Socket>,
    },
    /// A portal: the socket for its messages.
    Portal(Socket),
}

/// What a task tells of itself once its program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The program ended; what it left in the background may go on.
    Exited(Exit),
    /// Nothing of the session is left. The last event.
    Gone,
}

impl Spawner {
    /// Starts the spawner from our own program. Needs a tokio runtime; the process must be reaped by the
    /// caller, who holds it.
    pub fn start(image: &Image) -> io::Result<(Self, role::Process)> {
        let (socket, process) = image.start(Role::Spawner)?;
        Ok((Self::over(socket)?, process))
    }

    /// Talks to a spawner that serves the other end already. Needs a tokio runtime.
    pub fn over(socket: Socket) -> io::Result<Self> {
        Ok(Self { socket: socket.into_async()? })
    }

    /// A new task.
    pub async fn task(&self) -> Result<Task, HopError> {
        let lost = |error| HopError::Lost { who: "spawner", error };
        let (ours, its) = Socket::pair().map_err(lost)?;
        let descriptors = [its.as_fd()];
        let sent = timeout(SEND_TIME, self.socket.send(&0_u8, &descriptors)).await;
        sent.map_err(|_| HopError::TimedOut { doing: "fork a task", time: SEND_TIME })?
            .map_err(lost)?;
        drop(its);
        Ok(Task {
            socket: ours.into_async().map_err(lost)?,
            is_entered: AtomicBool::new(false),
            tools: OnceLock::new(),
        })
    }

    /// Waits until the spawner is gone, which must not happen: it says nothing while it lives.
    pub async fn gone(&self) -> io::Error {
        loop {
            match self.socket.receive::<u8>().await {
                Ok(Some(_)) => {}
                Ok(None) => return io::ErrorKind::UnexpectedEof.into(),
                Err(error) => return error,
            }
        }
    }
}

impl Task {
    /// The seccomp filter the runtime gave to a container's first process, as `struct sock_filter`s of eight
    /// bytes; empty if it has none. The task ends with it.
    pub async fn filter(self, pin: Pin) -> Result<Vec<u8>, HopError> {
        const DOING: &str = "read a seccomp filter";
        self.order(&Order::Filter { pin }, DOING).await?;
        match self.report_within(FILTER_TIME, DOING).await? {
            (Report::Filter { instructions }, _) => Ok(instructions),
            _ => Err(HopError::Unexpected { doing: DOING }),
        }
    }

    /// Tells the task to enter a container. Does not wait until it is done: [`Task::entered`] and
    /// [`Task::start`] do.
    pub async fn enter(&self, target: Target) -> Result<(), HopError> {
        self.order(&Order::Enter(Box::new(target)), "enter a container").await
    }

    /// Waits until the container is entered.
    pub async fn entered(&self) -> Result<(), HopError> {
        const DOING: &str = "enter a container";
        if self.is_entered.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.report_within(ENTER_TIME, DOING).await? {
            (Report::Entered, _) => {
                self.is_entered.store(true, Ordering::Release);
                Ok(())
            }
            _ => Err(HopError::Unexpected { doing: DOING }),
        }
    }

    /// Starts the program, after [`Task::enter`]. Returns when it runs and is proved to be confined.
    pub async fn start(&self, start: Start) -> Result<Started, HopError> {
        const DOING: &str = "start a program";
        let form = Form::of(&start);
        self.order(&Order::Start(Box::new(start)), DOING).await?;
        self.entered().await?;
        let mut report = self.report_within(START_TIME, DOING).await?;
        if let (Report::Tools(tools), _) = report {
            self.tools.set(tools).map_err(|_| HopError::Unexpected { doing: DOING })?;
            report = self.report_within(START_TIME, DOING).await?;
        }
        let (Report::Started, descriptors) = report else {
            return Err(HopError::Unexpected { doing: DOING });
        };
        form.started(descriptors).ok_or(HopError::Unexpected { doing: DOING })
    }

    /// What came of the toolbox, once [`Task::start`] has returned.
    #[must_use]
    pub fn tools(&self) -> Tools {
        self.tools.get().cloned().unwrap_or_default()
    }

    /// Sends a signal to the process group of the program. Fails when the task is gone.
    pub async fn signal(&self, number: i32) -> Result<(), HopError> {
        self.send(&Order::Signal { number }, "send a signal").await
    }

    /// Tells the task to end everything the session started. [`Event::Gone`] says when it is done.
    pub async fn end(&self, grace: Duration) -> Result<(), HopError> {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        self.send(&Order::Stop { grace_ms }, "end its session").await
    }

    /// Ends everything the session started, and waits until nothing is left of it.
    pub async fn stop(&self, grace: Duration) -> Result<(), HopError> {
        const DOING: &str = "end its session";
        let time = grace.saturating_add(STOP_TIME);
        // A task whose session ended by itself does not take orders any more, but what it said is still there.
        let order = self.end(grace).await;
        let ended = timeout(time, async {
            loop {
                if self.next_event().await? == Event::Gone {
                    return Ok::<_, HopError>(());
                }
            }
        });
        match ended.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(order.err().unwrap_or(error)),
            Err(_) => Err(HopError::TimedOut { doing: DOING, time }),
        }
    }

    /// What happens next. May be dropped before it is done without losing anything. No deadline: a program
    /// may run for ever.
    pub async fn next_event(&self) -> Result<Event, HopError> {
        match self.report("run a program").await? {
            (Report::Exited(exit), _) => Ok(Event::Exited(exit)),
            (Report::Gone, _) => Ok(Event::Gone),
            _ => Err(HopError::Unexpected { doing: "run a program" }),
        }
    }

    /// Gives an order to a task that has not started a program. When it has failed, it has said why.
    async fn order(&self, order: &Order, doing: &'static str) -> Result<(), HopError> {
        let Err(error) = self.send(order, doing).await else { return Ok(()) };
        loop {
            match self.report_within(SEND_TIME, doing).await {
                Ok(_) => {}
                Err(failed @ HopError::Failed(_)) => return Err(failed),
                Err(_) => return Err(error),
            }
        }
    }

    async fn send(&self, order: &Order, doing: &'static str) -> Result<(), HopError> {
        match timeout(SEND_TIME, self.socket.send(order, &[])).await {
            Ok(sent) => sent.map_err(|error| HopError::Lost { who: "task", error }),
            Err(_) => Err(HopError::TimedOut { doing, time: SEND_TIME }),
        }
    }

    async fn report_within(
        &self,
        time: Duration,
        doing: &'static str,
    ) -> Result<(Report, Vec<OwnedFd>), HopError> {
        match timeout(time, self.report(doing)).await {
            Ok(report) => report,
            Err(_) => Err(HopError::TimedOut { doing, time }),
        }
    }

    async fn report(&self, doing: &'static str) -> Result<(Report, Vec<OwnedFd>), HopError> {
        match self.socket.receive().await {
            Ok(Some((Report::Failed(failure), _))) => Err(HopError::Failed(failure)),
            Ok(Some(report)) => Ok(report),
            Ok(None) => {
                let error = io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("it ended while it should {doing}"),
                );
                Err(HopError::Lost { who: "task", error })
            }
            Err(error) => Err(HopError::Lost { who: "task", error }),
        }
    }
}

/// Which descriptors a program comes with.
#[derive(Debug, Clone, Copy)]
enum Form {
    Terminal { tells: bool },
    Pipes { tells: bool },
    Portal,
}

impl Form {
    fn of(start: &Start) -> Self {
        let tells = tally::tells(&start.program);
        match (&start.program, &start.terminal) {
            (crate::wire::Program::Portal, _) => Self::Portal,
            (_, Some(_)) => Self::Terminal { tells },
            (_, None) => Self::Pipes { tells },
        }
    }

    fn started(self, descriptors: Vec<OwnedFd>) -> Option<Started> {
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next();
        // The last one, where there must be one.
        let files = |last: Option<OwnedFd>| last.map(Socket::from_descriptor);
        let started = match self {
            Self::Terminal { tells } => Started::Terminal {
                master: next()?,
                files: if tells { Some(files(next())?) } else { None },
            },
            Self::Pipes { tells } => Started::Pipes {
                stdin: next()?,
                stdout: next()?,
                stderr: next()?,
                files: if tells { Some(files(next())?) } else { None },
            },
            Self::Portal => Started::Portal(files(next())?),
        };
        descriptors.next().is_none().then_some(started)
    }
}

#[cfg(test)]
mod tests;
