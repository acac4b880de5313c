//! A session: a program with its three streams or its terminal, until both it and its output have ended.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::Sig;
use russh::server::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::broker::Item;
use super::connection::Connection;
use super::output::{self, Out, STDERR};
use super::spool::Spool;
use super::stream::{Screen, Stream};
use super::{forward, lock};
use crate::wire::net::{Answer, Question, Refusal};
use crate::wire::{Exit, Opaque, Program, Terminal};

/// How long a program may take to start: a container may be slow, and a portal may have to start first.
const START_TIME: Duration = Duration::from_secs(60);

/// How long a program may go on after it got the rest of its input from a client that has left.
const FINISH_TIME: Duration = Duration::from_secs(2);

/// What a client asked for before it started a program.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// A terminal.
    pub(super) terminal: Option<Terminal>,
    /// Variables.
    pub(super) environment: Vec<(String, Opaque)>,
    /// Its agent.
    pub(super) agent: bool,
}

/// A session that is about to run.
pub(super) struct Session {
    /// Whose.
    pub(super) connection: Arc<Connection>,
    /// To open channels for its agent, and to tell how it ended.
    pub(super) handle: Handle,
    /// At the broker.
    pub(super) item: Item,
    /// To the client.
    pub(super) out: Out,
    /// From the client.
    pub(super) spool: Arc<Spool>,
    /// Cancelled when the client closes the channel.
    pub(super) closed: CancellationToken,
    /// Sizes of the terminal.
    pub(super) screen: Arc<Screen>,
    /// Its room among the channels and the sessions, until it is closed.
    pub(super) permits: Mutex<Option<[OwnedSemaphorePermit; 2]>>,
}

/// How a program began.
struct Started {
    streams: Streams,
    agent: Option<OwnedFd>,
    degraded: Option<String>,
}

enum Streams {
    Terminal(Arc<Stream>),
    Pipes { input: Stream, output: Stream, error: Stream },
}

impl Session {
    /// Runs a program to its end.
    pub(super) async fn run(self, program: Program, wishes: Wishes) {
        tokio::select! {
            biased;
            () = self.connection.over.cancelled() => {}
            () = self.serve(program, wishes) => {}
        }
        self.screen.detach();
        self.connection.remove(self.out.id());
    }

    async fn serve(&self, program: Program, wishes: Wishes) {
        let exit = self.connection.broker.exit_of(self.item.id());
        let cut = self.connection.broker.cut_of(self.item.id());
        let question = Question::Start {
            connection: self.connection.id,
            session: self.item.id(),
            program,
            terminal: wishes.terminal,
            environment: wishes.environment,
            agent: wishes.agent,
        };
        let reply = self.connection.broker.ask(question, START_TIME).await;
        // A client that is gone cannot be told.
        let told = match started(reply) {
            Ok(started) => tokio::select! {
                biased;
                // Its streams are closed with what would have gone on.
                Ok(exit) = cut => {
                    self.screen.detach();
                    self.finish(Ok(exit)).await
                }
                told = self.attend(started, exit) => told,
            },
            Err(refusal) => self.refuse(&refusal).await,
        };
        told.ok();
    }

    async fn refuse(&self, refusal: &Refusal) -> Result<(), russh::Error> {
        output::tell(&self.out, &refusal.message).await;
        self.out.exit_status(refusal.status.into()).await?;
        self.out.eof().await?;
        self.close().await
    }

    async fn attend(
        &self,
        started: Started,
        mut exit: oneshot::Receiver<Exit>,
    ) -> Result<(), russh::Error> {
        if let Some(warning) = &started.degraded {
            output::tell(&self.out, warning).await;
        }
        let _agent = started.agent.map(|listener| {
            AbortOnDropHandle::new(tokio::spawn(forward::agent(
                Arc::clone(&self.connection),
                self.handle.clone(),
                listener,
            )))
        });
        match started.streams {
            Streams::Terminal(terminal) => {
                self.screen.attach(Arc::clone(&terminal));
                let _input = AbortOnDropHandle::new(tokio::spawn(feed_terminal(
                    Arc::clone(&self.connection),
                    Arc::clone(&self.spool),
                    Arc::clone(&terminal),
                )));
                let exit = tokio::select! {
                    // As with sshd, the terminal is hung up at once.
                    () = self.closed.cancelled() => return Ok(()),
                    exit = output::copy_terminal(&terminal, &self.out, &self.connection, exit) => exit,
                };
                self.finish(exit).await
            }
            Streams::Pipes { input, output, error } => {
                let mut input = AbortOnDropHandle::new(tokio::spawn(feed(
                    Arc::clone(&self.connection),
                    Arc::clone(&self.spool),
                    input,
                )));
                // Once it is given up, the program finds nobody who reads.
                let ended = &mut exit;
                let outwards = async move {
                    tokio::join!(
                        output::copy(&output, &self.out, None, &self.connection),
                        output::copy(&error, &self.out, Some(STDERR), &self.connection),
                    );
                    drop((output, error));
                    self.finish(ended.await).await
                };
                tokio::select! {
                    () = self.closed.cancelled() => {
                        if self.spool.backlog() > 0 {
                            self.spool.drained_by(&mut input).await;
                            // It has just got what it was waiting for.
                            timeout(FINISH_TIME, exit).await.ok();
                        }
                        Ok(())
                    }
                    left = outwards => left,
                }
            }
        }
    }

    async fn close(&self) -> Result<(), russh::Error> {
        // Before the client knows, for it may open another one then.
        lock(&self.permits).take();
        self.out.close().await
    }

    /// After the last byte. A client that has nothing more to say closes the channel at our end of file; russh
    /// then closes it too, so that no status could be told, and the program would be ended. So the end of file
    /// comes last, even if the program goes on without its output.
    async fn finish(
        &self,
        exit: Result<Exit, oneshot::error::RecvError>,
    ) -> Result<(), russh::Error> {
        self.leave(exit).await?;
        self.out.eof().await?;
        self.close().await
    }

    /// Tells how the program ended.
    async fn leave(
        &self,
        exit: Result<Exit, oneshot::error::RecvError>,
    ) -> Result<(), russh::Error> {
        match exit {
            Ok(Exit::Status(status)) => self.out.exit_status(status.into()).await?,
            Ok(Exit::Signal { number, core_dumped }) => {
                let (handle, id) = (&self.handle, self.out.id());
                let sent = handle
                    .exit_signal_request(
                        id,
                        signal(number),
                        core_dumped,
                        String::new(),
                        String::new(),
                    )
                    .await;
                sent.map_err(|()| russh::Error::SendError)?;
            }
            // The broker is gone, and with it this process.
            Err(_) => {}
        }
        Ok(())
    }
}

fn started((answer, descriptors): (Answer, Vec<OwnedFd>)) -> Result<Started, Refusal> {
    let fault = |what: String| Refusal {
        message: format!("the session could not be connected: {what}"),
        status: 255,
        prohibited: false,
    };
    match answer {
        Answer::Started { terminal, agent, degraded } => {
            let mut descriptors = descriptors;
            let agent = agent.then(|| descriptors.pop()).flatten();
            let streams =
                streams(terminal, descriptors).map_err(|error| fault(error.to_string()))?;
            Ok(Started { streams, agent, degraded })
        }
        Answer::Refused(refusal) => Err(refusal),
        Answer::Granted | Answer::CodeNeeded | Answer::Opened { .. } => {
            Err(fault("a wrong answer".to_owned()))
        }
    }
}

fn streams(terminal: bool, descriptors: Vec<OwnedFd>) -> std::io::Result<Streams> {
    let mut streams = descriptors.into_iter().map(Stream::new);
    let mut next = || streams.next().unwrap_or_else(|| Err(std::io::Error::other("no descriptor")));
    Ok(if terminal {
        Streams::Terminal(Arc::new(next()?))
    } else {
        Streams::Pipes { input: next()?, output: next()?, error: next()? }
    })
}

/// From the client to a program, until either end; dropping `input` is the program's end of file.
async fn feed(connection: Arc<Connection>, spool: Arc<Spool>, input: Stream) {
    connection.pass(&spool, &input).await;
}

/// The same for a terminal, which has no end of file: as sshd, nothing is written for it.
async fn feed_terminal(connection: Arc<Connection>, spool: Arc<Spool>, terminal: Arc<Stream>) {
    connection.pass(&spool, &terminal).await;
}

/// The name of a signal, as sshd names it.
fn signal(number: i32) -> Sig {
    match number {
        libc::SIGABRT => Sig::ABRT,
        libc::SIGALRM => Sig::ALRM,
        libc::SIGFPE => Sig::FPE,
        libc::SIGHUP => Sig::HUP,
        libc::SIGILL => Sig::ILL,
        libc::SIGINT => Sig::INT,
        libc::SIGKILL => Sig::KILL,
        libc::SIGPIPE => Sig::PIPE,
        libc::SIGQUIT => Sig::QUIT,
        libc::SIGSEGV => Sig::SEGV,
        libc::SIGTERM => Sig::TERM,
        libc::SIGUSR1 => Sig::USR1,
        libc::SIGUSR2 => Sig::Custom("USR2".to_owned()),
        _ => Sig::Custom("SIG@openssh.com".to_owned()),
    }
}
