//! What OpenSSH's client cannot be made to do.

use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse as Reply};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, MethodKind, MethodSet, Pty, Sig};
use tokio::io::{AsyncRead, AsyncWrite};

use super::*;
use crate::wire::net::Question;

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _key: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

async fn connect(gateway: &Gateway) -> Handle<Trusting> {
    let config = Arc::new(client::Config::default());
    let address = ("127.0.0.1", gateway.port);
    let mut handle = client::connect(config, address, Trusting).await.unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key(1)), None);
    assert!(handle.authenticate_publickey("web", key).await.unwrap().success());
    handle
}

/// The same over a stream that is there.
async fn connect_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Handle<Trusting> {
    let config = Arc::new(client::Config::default());
    let mut handle = client::connect_stream(config, stream, Trusting).await.unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key(1)), None);
    assert!(handle.authenticate_publickey("web", key).await.unwrap().success());
    handle
}

/// How a client goes on whose other client came through it, as with `ssh -J`.
#[derive(Debug, Clone, Copy)]
enum Outer {
    /// It leaves, and says so; the last word of the inner one does not pass.
    Leaves,
    /// It closes the way only.
    Closes,
    /// It is not there any more.
    Breaks,
}

#[test]
fn who_comes_through_a_connection_is_lost_with_it_and_not_by_its_leaving() {
    for (outer, is_lost) in [(Outer::Leaves, 0), (Outer::Closes, 0), (Outer::Breaks, 1)] {
        let gateway = Gateway::start();
        within(60, async {
            let socket = std::net::TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
            socket.set_nonblocking(true).unwrap();
            let wire = socket.try_clone().unwrap();
            let way = connect_over(tokio::net::TcpStream::from_std(socket).unwrap()).await;
            let stream = way.channel_open_direct_tcpip("guest", 22, "x", 1).await.unwrap();
            let inner = connect_over(stream.into_stream()).await;
            let mut channel = inner.channel_open_session().await.unwrap();
            channel.exec(true, "echo ready; exec sleep 300").await.unwrap();
            while !matches!(channel.wait().await, Some(ChannelMsg::Data { .. })) {}
            let (its, session) = gateway.double.wait(|question| match question {
                Question::Start { connection, session, .. } => Some((*connection, *session)),
                _ => None,
            });
            match outer {
                Outer::Leaves => {
                    way.disconnect(russh::Disconnect::ByApplication, "bye", "").await.unwrap();
                }
                Outer::Closes => drop((channel, inner)),
                Outer::Breaks => wire.shutdown(std::net::Shutdown::Both).unwrap(),
            }
            gateway.double.wait(|question| {
                matches!(question, Question::Disconnected { connection, .. } if *connection == its)
                    .then_some(())
            });
            let lost = gateway.double.asked(
                |question| matches!(question, Question::Lost { session: one } if *one == session),
            );
            assert_eq!(lost, is_lost, "{outer:?}");
        });
    }
}

/// Proves a key that is half of a login.
async fn half(gateway: &Gateway) -> Handle<Trusting> {
    let config = Arc::new(client::Config::default());
    let mut handle = client::connect(config, ("127.0.0.1", gateway.port), Trusting).await.unwrap();
    // Nobody is asked before.
    let early = handle.authenticate_keyboard_interactive_start("coded", None).await.unwrap();
    assert!(matches!(early, Reply::Failure { partial_success: false, .. }), "{early:?}");
    let key = PrivateKeyWithHashAlg::new(Arc::new(key(1)), None);
    let rest = MethodSet::from(&[MethodKind::KeyboardInteractive][..]);
    match handle.authenticate_publickey("coded", key).await.unwrap() {
        AuthResult::Failure { remaining_methods, partial_success: true } => {
            assert_eq!(remaining_methods, rest);
        }
        other => panic!("{other:?}"),
    }
    handle
}

#[test]
fn a_code_counts_only_behind_a_key_and_under_its_name() {
    let gateway = Gateway::start();
    within(60, async {
        let mut handle = half(&gateway).await;
        // Another name has nothing, and who comes back has lost what he had.
        for user in ["web", "coded"] {
            let reply = handle.authenticate_keyboard_interactive_start(user, None).await.unwrap();
            assert!(matches!(reply, Reply::Failure { .. }), "{user}: {reply:?}");
        }
        assert_eq!(gateway.double.asked(|asked| matches!(asked, Question::Code { .. })), 0);
        let mut handle = half(&gateway).await;
        for (code, counts) in [("000000", false), ("", false), ("123456", true)] {
            let asked = handle.authenticate_keyboard_interactive_start("coded", None).await;
            match asked.unwrap() {
                Reply::InfoRequest { prompts, .. } => {
                    assert_eq!(prompts.len(), 1);
                    assert!(prompts[0].prompt == "Code: " && !prompts[0].echo, "{prompts:?}");
                }
                other => panic!("{other:?}"),
            }
            let given = vec![code.to_owned()];
            let reply = handle.authenticate_keyboard_interactive_respond(given).await.unwrap();
            assert_eq!(matches!(reply, Reply::Success), counts, "{code}: {reply:?}");
        }
        // Several answers to one question are none.
        let mut handle = half(&gateway).await;
        handle.authenticate_keyboard_interactive_start("coded", None).await.unwrap();
        let many = vec!["123456".to_owned(), "123456".to_owned()];
        let reply = handle.authenticate_keyboard_interactive_respond(many).await.unwrap();
        assert!(matches!(reply, Reply::Failure { .. }), "{reply:?}");
    });
}

/// A test in a runtime of its own that does not hang.
fn within(patience: u64, test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(patience * soak()), test).await.expect("hung");
    });
    runtime.shutdown_background();
}

#[test]
fn a_terminal_has_its_size_and_its_modes_and_hears_of_a_new_size() {
    let gateway = Gateway::start();
    within(60, async {
        let client = connect(&gateway).await;
        let mut channel = client.channel_open_session().await.unwrap();
        let modes = [(Pty::ECHO, 0), (Pty::VINTR, 3)];
        channel.request_pty(true, "vt100", 81, 25, 0, 0, &modes).await.unwrap();
        channel.exec(true, "stty size; read line; stty size").await.unwrap();
        let mut output = Vec::new();
        let mut changed = false;
        while let Some(message) = channel.wait().await {
            if let ChannelMsg::Data { data } = message {
                output.extend_from_slice(&data);
            }
            if !changed && text(&output).contains("25 81") {
                changed = true;
                channel.window_change(101, 33, 0, 0).await.unwrap();
                channel.data(&b"\n"[..]).await.unwrap();
            }
        }
        assert!(text(&output).contains("33 101"), "{}", text(&output));
        let modes = gateway.double.wait(|question| match question {
            Question::Start { terminal: Some(terminal), .. } => Some(terminal.modes.clone()),
            _ => None,
        });
        assert_eq!(modes, [(53, 0), (1, 3)]);
    });
}

#[test]
fn a_signal_reaches_the_program_and_its_end_is_told() {
    let gateway = Gateway::start();
    within(60, async {
        let client = connect(&gateway).await;
        let mut channel = client.channel_open_session().await.unwrap();
        channel.exec(true, "echo ready; exec sleep 300").await.unwrap();
        let mut end = None;
        let mut order = Vec::new();
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { .. } => channel.signal(Sig::TERM).await.unwrap(),
                ChannelMsg::ExitSignal { signal_name, .. } => {
                    order.push("signal");
                    end = Some(format!("{signal_name:?}"));
                }
                ChannelMsg::Eof => order.push("eof"),
                ChannelMsg::Close => order.push("close"),
                _ => {}
            }
        }
        assert_eq!(end.as_deref(), Some("TERM"));
        assert_eq!(order, ["signal", "eof", "close"]);
    });
}

#[test]
fn output_status_end_and_close_come_in_this_order() {
    let gateway = Gateway::start();
    within(60, async {
        let client = connect(&gateway).await;
        let mut channel = client.channel_open_session().await.unwrap();
        channel
            .exec(true, "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 9")
            .await
            .unwrap();
        let (mut out, mut error, mut order) = (0, 0, Vec::new());
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    assert!(order.is_empty());
                    out += data.len();
                }
                ChannelMsg::ExtendedData { data, ext: 1 } => {
                    assert!(order.is_empty());
                    error += data.len();
                }
                ChannelMsg::Eof => order.push("eof".to_owned()),
                ChannelMsg::ExitStatus { exit_status } => order.push(exit_status.to_string()),
                ChannelMsg::Close => order.push("close".to_owned()),
                _ => {}
            }
        }
        assert_eq!((out, error), (300_000, 300_000));
        assert_eq!(order, ["9", "eof", "close"]);
    });
}

#[test]
fn a_client_that_writes_and_reads_in_one_loop_does_not_hang_either() {
    let gateway = Gateway::start();
    within(60, async {
        let client = connect(&gateway).await;
        let channel = client.channel_open_session().await.unwrap();
        channel.exec(true, "cat").await.unwrap();
        let bytes = 60 * MB * soak();
        let (mut read, write) = channel.split();
        let writer = tokio::spawn(async move {
            let mut noise = Noise::default();
            let mut left = bytes;
            while left > 0 {
                let length = usize::try_from(left.min(30_000)).unwrap();
                write.data_bytes(noise.next(length).to_vec()).await.unwrap();
                left -= length as u64;
            }
            write.eof().await.unwrap();
        });
        let (mut noise, mut got) = (Noise::default(), 0);
        let mut rest = Vec::new();
        while let Some(message) = read.wait().await {
            if let ChannelMsg::Data { data } = message {
                got += data.len() as u64;
                // Noise comes in fours.
                rest.extend_from_slice(&data);
                let whole = rest.len() / 4 * 4;
                assert!(rest[..whole] == *noise.next(whole));
                rest.drain(..whole);
            }
        }
        writer.await.unwrap();
        assert_eq!(got, bytes);
    });
}

#[test]
fn no_more_sessions_and_channels_are_open_than_may_be() {
    let gateway = Gateway::with(Limits { sessions: 3, channels: 4, ..limits() });
    within(60, async {
        let client = connect(&gateway).await;
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(client.channel_open_session().await.unwrap());
        }
        let refused = |result: Result<russh::Channel<client::Msg>, russh::Error>| {
            assert!(matches!(
                result.unwrap_err(),
                russh::Error::ChannelOpenFailure(russh::ChannelOpenFailure::ResourceShortage)
            ));
        };
        refused(client.channel_open_session().await);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().into();
        let forward = client.channel_open_direct_tcpip("127.0.0.1", port, "x", 1).await.unwrap();
        refused(client.channel_open_direct_tcpip("127.0.0.1", port, "x", 1).await);
        drop(forward);
        // A place is free again when its channel is closed.
        let mut last = open.pop().unwrap();
        last.exec(true, "true").await.unwrap();
        while last.wait().await.is_some() {}
        client.channel_open_session().await.unwrap();
    });
}

#[test]
fn too_much_of_anything_is_refused_and_the_connection_lives() {
    let gateway = Gateway::start();
    within(60, async {
        let client = connect(&gateway).await;
        let mut channel = client.channel_open_session().await.unwrap();
        let mut answers = Vec::new();
        for number in 0..33 {
            channel.set_env(true, format!("LC_{number}"), "x").await.unwrap();
        }
        channel.set_env(true, "LC_LONG", "x".repeat(9000)).await.unwrap();
        channel.exec(true, "x".repeat(129 * 1024)).await.unwrap();
        channel.request_subsystem(true, "unknown").await.unwrap();
        channel.request_x11(true, false, "a", "b", 0).await.unwrap();
        channel.exec(true, "echo fine").await.unwrap();
        let mut output = Vec::new();
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Success => answers.push(true),
                ChannelMsg::Failure => answers.push(false),
                ChannelMsg::Data { data } => output.extend_from_slice(&data),
                _ => {}
            }
        }
        assert_eq!(answers[..32], [true; 32]);
        assert_eq!(answers[32..], [false, false, false, false, false, true]);
        assert_eq!(text(&output), "fine\n");
        let variables = gateway.double.wait(|question| match question {
            Question::Start { environment, .. } => Some(environment.len()),
            _ => None,
        });
        assert_eq!(variables, 32);
    });
}

#[test]
fn what_was_sent_before_a_channel_was_closed_still_arrives() {
    let gateway = Gateway::start();
    let path = gateway.directory.path().join("file");
    let done = gateway.directory.path().join("done");
    within(60, async {
        let client = connect(&gateway).await;
        let channel = client.channel_open_session().await.unwrap();
        let script = format!("sleep 0.5; cat > {}; touch {}", path.display(), done.display());
        channel.exec(false, script).await.unwrap();
        let mut noise = Noise::default();
        channel.data_bytes(noise.next(3_000_000).to_vec()).await.unwrap();
        channel.eof().await.unwrap();
        channel.close().await.unwrap();
        while !done.exists() {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(std::fs::metadata(path).unwrap().len(), 3_000_000);
}

#[test]
fn a_listener_that_does_not_come_holds_its_connection_up_once_and_not_for_long() {
    let gateway = Gateway::start();
    within(60, async {
        let client = connect(&gateway).await;
        let mut channel = client.channel_open_session().await.unwrap();
        channel.exec(true, "cat").await.unwrap();
        let echoed = async |channel: &mut russh::Channel<client::Msg>, word: &[u8]| {
            channel.data(word).await.unwrap();
            let mut output = Vec::new();
            while output.len() < word.len() {
                if let Some(ChannelMsg::Data { data }) = channel.wait().await {
                    output.extend_from_slice(&data);
                }
            }
            assert_eq!(text(&output), text(word));
        };
        echoed(&mut channel, b"before").await;
        let asked = |question: &Question| matches!(question, Question::Listen { .. });
        // What is sent meanwhile is answered afterwards, in its order.
        let (silent, (), next) = tokio::join!(
            client.tcpip_forward("silent", 1),
            echoed(&mut channel, b"during"),
            client.tcpip_forward("127.0.0.1", 0),
        );
        assert!(silent.is_err() && next.is_err(), "{silent:?} {next:?}");
        assert_eq!(gateway.double.asked(asked), 1);
        echoed(&mut channel, b"after").await;
        // Another connection is not concerned.
        let other = connect(&gateway).await;
        assert!(other.tcpip_forward("127.0.0.1", 0).await.is_ok());
    });
}
