//! Streams that are no programs.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;
use crate::wire::net::{News, Question};

/// Answers each connection, once its other side is finished, with how much came and a greeting.
fn counting() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let length = io::copy(&mut socket, &mut io::sink()).unwrap();
                write!(socket, "{length} bytes came").unwrap();
            });
        }
    });
    port
}

/// Sends everything back.
fn echoing() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.unwrap();
            std::thread::spawn(move || io::copy(&mut &socket, &mut &socket));
        }
    });
    port
}

fn wait_for(path: &std::path::Path) {
    while !path.exists() {
        std::thread::yield_now();
    }
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_stream_is_half_closed_and_answered() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let to = format!("127.0.0.1:{}", counting());
    let mut client = gateway.ssh(&["-W", &to], &[]).stdin(Stdio::piped()).spawn().unwrap();
    let writer = feed(&mut client, 20 * MB);
    let output = ended(client);
    assert_eq!(text(&output.stdout), format!("{} bytes came", 20 * MB), "{output:?}");
    writer.join().unwrap().unwrap();
}

#[test]
fn much_goes_through_a_stream_both_ways() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let bytes = 60 * MB * soak();
    let to = format!("127.0.0.1:{}", echoing());
    let mut client = gateway.ssh(&["-W", &to], &[]).stdin(Stdio::piped()).spawn().unwrap();
    let writer = feed(&mut client, bytes);
    let reader = client.stdout.take().unwrap();
    let reading = std::thread::spawn(move || check(reader, bytes));
    assert!(ended(client).status.success());
    writer.join().unwrap().unwrap();
    reading.join().unwrap();
}

#[test]
fn what_may_not_be_reached_is_refused_with_its_reason() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let output = gateway.run(&["-o", "LogLevel=INFO", "-W", "forbidden:80"], &[]);
    let said = text(&output.stderr);
    assert!(said.contains("administratively prohibited: not there"), "{said}");
    let output = gateway.run(&["-o", "LogLevel=INFO", "-W", "127.0.0.1:1"], &[]);
    let said = text(&output.stderr);
    assert!(said.contains("connect failed: Connection refused"), "{said}");
}

#[test]
fn local_forwards_reach_ports_sockets_and_any_destination() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let inside = |name: &str| gateway.directory.path().join(name).display().to_string();
    let target = UnixListener::bind(inside("target")).unwrap();
    std::thread::spawn(move || {
        for socket in target.incoming() {
            let mut socket = socket.unwrap();
            let mut all = String::new();
            socket.read_to_string(&mut all).unwrap();
            socket.write_all(all.to_uppercase().as_bytes()).unwrap();
        }
    });
    let port = counting();
    let tcp = format!("{}:127.0.0.1:{port}", inside("tcp"));
    let unix = format!("{}:{}", inside("unix"), inside("target"));
    // The client tells the port of its proxy only when asked for a fixed one.
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = gateway
        .ssh(&["-N", "-L", &tcp, "-L", &unix, "-D", &format!("127.0.0.1:{proxy}")], &[])
        .spawn()
        .unwrap();
    wait_for(inside("tcp").as_ref());
    wait_for(inside("unix").as_ref());
    let ask = |path: String, words: &str| {
        let mut socket = UnixStream::connect(path).unwrap();
        socket.write_all(words.as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut all = String::new();
        socket.read_to_string(&mut all).unwrap();
        all
    };
    assert_eq!(ask(inside("tcp"), "12345"), "5 bytes came");
    assert_eq!(ask(inside("unix"), "loud"), "LOUD");

    let mut socks = loop {
        if let Ok(socket) = TcpStream::connect(("127.0.0.1", proxy)) {
            break socket;
        }
    };
    socks.write_all(&[5, 1, 0]).unwrap();
    let mut reply = [0; 2];
    socks.read_exact(&mut reply).unwrap();
    let mut request = vec![5, 1, 0, 1, 127, 0, 0, 1];
    request.extend(port.to_be_bytes());
    socks.write_all(&request).unwrap();
    let mut reply = [0; 10];
    socks.read_exact(&mut reply).unwrap();
    assert_eq!(reply[1], 0, "{reply:?}");
    socks.write_all(b"123").unwrap();
    socks.shutdown(Shutdown::Write).unwrap();
    let mut all = String::new();
    socks.read_to_string(&mut all).unwrap();
    assert_eq!(all, "3 bytes came");
    end(client);
}

#[test]
fn remote_forwards_come_back_to_the_client_until_cancelled() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let control = format!("ControlPath={}", gateway.directory.path().join("mux").display());
    let socket = gateway.directory.path().join("remote").display().to_string();
    let port = counting();
    let tcp = format!("0:127.0.0.1:{port}");
    let unix = format!("{socket}:127.0.0.1:{port}");
    let options = ["-M", "-N", "-o", &control, "-o", "LogLevel=INFO", "-R", &tcp, "-R", &unix];
    let mut client = gateway.ssh(&options, &[]).spawn().unwrap();
    // "Allocated port 41234 for remote forward to 127.0.0.1:80"
    let mut said = BufReader::new(client.stderr.take().unwrap()).lines();
    let line =
        said.find(|line| line.as_ref().unwrap().contains("Allocated port")).unwrap().unwrap();
    let remote: u16 = line.split(' ').nth(2).unwrap().parse().unwrap();
    let drain = std::thread::spawn(move || said.for_each(drop));

    let mut one = TcpStream::connect(("127.0.0.1", remote)).unwrap();
    one.write_all(b"1234").unwrap();
    one.shutdown(Shutdown::Write).unwrap();
    let mut all = String::new();
    one.read_to_string(&mut all).unwrap();
    assert_eq!(all, "4 bytes came");

    wait_for(socket.as_ref());
    let mut other = UnixStream::connect(&socket).unwrap();
    other.write_all(b"12").unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    let mut all = String::new();
    other.read_to_string(&mut all).unwrap();
    assert_eq!(all, "2 bytes came");

    let listener = gateway.double.wait(|question| match question {
        Question::Listen { item, at: crate::wire::net::Place::Tcp { .. }, .. } => Some(*item),
        _ => None,
    });
    let cancel = gateway.run(&["-o", &control, "-O", "cancel", "-R", &tcp], &[]);
    assert!(cancel.status.success(), "{cancel:?}");
    gateway.double.wait(|question| {
        matches!(question, Question::Close { item } if *item == listener).then_some(())
    });
    while TcpStream::connect(("127.0.0.1", remote)).is_ok() {
        std::thread::yield_now();
    }
    end(client);
    drain.join().unwrap();
}

#[test]
fn a_stream_that_the_broker_hangs_up_ends_for_both_sides() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let to = format!("127.0.0.1:{}", echoing());
    let mut client = gateway.ssh(&["-W", &to], &[]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    input.write_all(b"x").unwrap();
    let mut back = [0; 1];
    client.stdout.as_mut().unwrap().read_exact(&mut back).unwrap();
    let item = gateway.double.wait(|question| match question {
        Question::Connect { item, .. } => Some(*item),
        _ => None,
    });
    gateway.double.say(News::HangUp { item });
    // Its input is still open.
    ended(client);
    gateway.double.wait(|question| {
        matches!(question, Question::Close { item: its } if *its == item).then_some(())
    });
}

#[test]
fn a_listener_that_the_broker_hangs_up_takes_what_came_through_it_along() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let tcp = format!("0:127.0.0.1:{}", echoing());
    let options = ["-N", "-o", "LogLevel=INFO", "-R", &tcp];
    let mut client = gateway.ssh(&options, &[]).spawn().unwrap();
    let mut said = BufReader::new(client.stderr.take().unwrap()).lines();
    let line =
        said.find(|line| line.as_ref().unwrap().contains("Allocated port")).unwrap().unwrap();
    let remote: u16 = line.split(' ').nth(2).unwrap().parse().unwrap();
    let drain = std::thread::spawn(move || said.for_each(drop));
    let mut one = TcpStream::connect(("127.0.0.1", remote)).unwrap();
    one.write_all(b"x").unwrap();
    one.read_exact(&mut [0; 1]).unwrap();
    let item = gateway.double.wait(|question| match question {
        Question::Listen { item, .. } => Some(*item),
        _ => None,
    });
    gateway.double.say(News::HangUp { item });
    one.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(one.read(&mut [0; 1]).unwrap(), 0, "it is closed");
    gateway.double.wait(|question| {
        matches!(question, Question::Close { item: its } if *its == item).then_some(())
    });
    while TcpStream::connect(("127.0.0.1", remote)).is_ok() {
        std::thread::yield_now();
    }
    // The connection itself goes on.
    assert_eq!(
        gateway.double.asked(|question| matches!(question, Question::Disconnected { .. })),
        0
    );
    end(client);
    drain.join().unwrap();
}

#[test]
fn a_client_has_no_more_listeners_than_it_may() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::with(Limits { listeners: 1, ..limits() });
    let many = ["-o", "ExitOnForwardFailure=yes", "-R", "0:x:1", "-R", "0:x:2"];
    let output = gateway.run(&many, &["echo not reached"]);
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    assert_eq!(gateway.double.asked(|question| matches!(question, Question::Listen { .. })), 1);
}

#[test]
fn the_clients_agent_is_reached_from_inside() {
    if !have("ssh") || !have("ssh-agent") || !have("ssh-add") {
        return;
    }
    let gateway = Gateway::start();
    let socket = gateway.directory.path().join("agent");
    let mut agent = Command::new("ssh-agent")
        .arg("-D")
        .arg("-a")
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&socket);
    let added =
        Command::new("ssh-add").arg(gateway.key()).env("SSH_AUTH_SOCK", &socket).output().unwrap();
    assert!(added.status.success(), "{added:?}");
    let mut client = gateway.ssh(&["-A"], &["ssh-add -l; ssh-add -l | wc -l"]);
    let output = ended(client.env("SSH_AUTH_SOCK", &socket).spawn().unwrap());
    assert!(text(&output.stdout).contains("(ED25519)\n1\n"), "{output:?}");
    // Not without being asked.
    let mut client = gateway.ssh(&["-a"], &["echo agent=$SSH_AUTH_SOCK"]);
    let output = ended(client.env("SSH_AUTH_SOCK", &socket).spawn().unwrap());
    assert!(!text(&output.stdout).contains("agent-"), "{output:?}");
    agent.kill().unwrap();
    agent.wait().unwrap();
}
