//! Forwards: everything is dialled and listened to inside the container, by its own names.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use e2e::engine::{Container, Network, Spec, connect};
use e2e::images;
use e2e::process::{Finished, Run, Running};
use e2e::random::Random;
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, MAIN_KEY, Setup, wait_until};

use crate::ssh::{ANSWER_TIME_MAX, BINARY, PROBE, Scene, free_port, line, soak, start_echo};

/// Bytes that go through a forward and come back; `CHORES_SOAK` multiplies them.
const ECHO_BYTES: usize = 24 << 20;

/// A client that does nothing but forward.
fn forward(scene: &Scene, key: &str, flags: &[&str]) -> Running {
    let run = scene.gateway.ssh_as(key, scene.container.name());
    run.args(["-N", "-o", "ExitOnForwardFailure=yes"])
        .args(flags.iter().copied())
        .deadline(Duration::from_secs(600))
        .start()
}

fn dial(port: u16) -> TcpStream {
    let mut stream = None;
    wait_until(CLEAN_UP_TIME_MAX, "a forwarded port", || {
        stream = TcpStream::connect(("127.0.0.1", port)).ok();
        if stream.is_some() { Ok(()) } else { Err("refused".to_owned()) }
    });
    let stream = stream.expect("a connection");
    stream.set_read_timeout(Some(ANSWER_TIME_MAX)).expect("a timeout");
    stream
}

/// Sends noise, ends its side, and expects all of it back.
fn assert_echo(mut stream: TcpStream, bytes: usize) {
    let noise = Random::new(bytes as u64).bytes(bytes);
    let mut writer = stream.try_clone().expect("another handle");
    let sent = noise.clone();
    let feeder = std::thread::spawn(move || {
        writer.write_all(&sent).expect("writes to the forward");
        writer.shutdown(std::net::Shutdown::Write).expect("ends its side");
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("reads from the forward");
    feeder.join().expect("the feeder");
    assert_eq!(back.len(), noise.len());
    assert!(back == noise, "other bytes came back");
}

/// A container `db` with an alias on a network, another one, `web`, that is entered, and the network.
fn neighbours() -> Option<(Scene, Container, Network)> {
    let engine = connect()?;
    let setup = Setup::new(BINARY)?;
    let image = images::ssh_target(&engine, Path::new(PROBE))?;
    let network = engine.network();
    let spec =
        Spec { network: network.name().to_owned(), ..Spec::new(image.name(), ["/probe", "hold"]) };
    let neighbour = engine.start(spec.clone());
    let container = engine.start(spec);
    let gateway =
        setup.key("permitted", &format!("permitopen=\"{}:7000\"", neighbour.name())).start();
    Some((Scene { gateway, container, image, engine }, neighbour, network))
}

#[test]
fn local_forwards_resolve_names_as_the_container_does() {
    let Some((scene, neighbour, _network)) = neighbours() else { return };
    start_echo(&neighbour, 7000);
    start_echo(&scene.container, 7001);
    let (by_name, by_loopback) = (free_port(), free_port());
    let client = forward(
        &scene,
        MAIN_KEY,
        &[
            "-L",
            &format!("{by_name}:{}:7000", neighbour.name()),
            "-L",
            &format!("{by_loopback}:localhost:7001"),
        ],
    );
    assert_echo(dial(by_name), ECHO_BYTES * soak());
    // `localhost` is that of the container.
    assert_echo(dial(by_loopback), 100_000);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| assert_echo(dial(by_name), 1_000_000));
        }
    });
    drop(client);
    scene.gateway.assert_idle(&[&scene.container]);
    drop(scene);
    drop(neighbour);
}

#[test]
fn forwards_and_connections_are_listed_and_ended() {
    let Some(scene) = Scene::busybox() else { return };
    let state = scene.gateway.sandbox().path("state");
    let ours = |words: &[&str]| {
        Run::new(BINARY).args(words.iter().copied()).arg("--state").arg(&state).finish()
    };
    let connection = |sessions: u64, forwards: u64| {
        let mut found = None;
        wait_until(CLEAN_UP_TIME_MAX, "the connection on the list", || {
            let said = ours(&["connections", "ls", "--json"]).expect_code(0);
            found = said.json_lines().into_iter().find(|one| {
                (&one["sessions"], &one["forwards"]) == (&sessions.into(), &forwards.into())
            });
            if found.is_some() { Ok(()) } else { Err(said.to_string()) }
        });
        found.expect("a connection")
    };
    let client = forward(&scene, MAIN_KEY, &["-R", "0:127.0.0.1:9"]);
    connection(0, 1);
    let listed = ours(&["sessions", "ls", "--json"]).expect_code(0).json_lines();
    let [one] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!(
        (&one["kind"], &one["container"]),
        (&"forward".into(), &scene.container.name().into())
    );
    let name = one["session"].as_str().expect("a name");
    let program = one["program"].as_str().expect("what it does");
    assert!(program.starts_with("listen ") && !program.ends_with(":0"), "{program}");
    let table = ours(&["sessions", "ls"]).expect_code(0).stdout_text();
    assert!(table.contains("KIND") && table.contains(program), "{table}");
    ours(&["sessions", "kill", name]).expect_code(0);

    let left = connection(0, 0);
    let number = left["connection"].to_string();
    assert_eq!(left["login"], scene.container.name());
    let table = ours(&["connections", "ls"]).expect_code(0).stdout_text();
    assert!(table.starts_with("CONNECTION"), "{table}");
    let unknown = ours(&["connections", "kill", "4711"]).expect_code(1);
    assert!(unknown.stderr_text().contains("there is no connection 4711"), "{unknown}");
    ours(&["connections", "kill", "web"]).expect_code(2);
    ours(&["connections", "kill", &number]).expect_code(0);
    let ended = client.wait();
    assert!(ended.stderr_text().contains("the operator of the gateway has ended"), "{ended}");
    let listed = ours(&["connections", "ls", "--json"]).expect_code(0);
    assert_eq!(listed.stdout_text(), "");
    scene.gateway.wait_for_log(&["administration", "\"what\":\"kill\"", name]);
    let told = format!("\"connection\":{number},");
    scene.gateway.wait_for_log(&["administration", "\"what\":\"disconnect\"", &told]);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn standard_input_and_output_are_forwarded_and_rules_hold() {
    let Some((scene, neighbour, _network)) = neighbours() else { return };
    start_echo(&neighbour, 7000);
    start_echo(&neighbour, 7002);
    let to = |port: u16| format!("{}:{port}", neighbour.name());
    assert_eq!(line(&scene.through(MAIN_KEY, &to(7002), "hello\n")), "hello");
    assert_eq!(line(&scene.through("permitted", &to(7000), "hello\n")), "hello");
    for (key, target) in [
        ("permitted", to(7002)),
        ("permitted", "localhost:7000".to_owned()),
        // Nobody there, and no such name.
        (MAIN_KEY, to(7999)),
        (MAIN_KEY, "no-such-host.invalid:80".to_owned()),
        // What cloud machines tell of themselves, in three spellings.
        (MAIN_KEY, "169.254.169.254:80".to_owned()),
        (MAIN_KEY, "[::ffff:169.254.169.254]:80".to_owned()),
        (MAIN_KEY, "2852039166:80".to_owned()),
    ] {
        let said = scene.through(key, &target, "hello\n");
        assert_eq!(said.code(), Some(255), "{key} {target}: {said}");
        assert_eq!(said.stdout, b"", "{key} {target}: {said}");
    }
    // The session itself is not bound by a rule for forwards.
    assert_eq!(line(&scene.sh_as("permitted", "echo in")), "in");
    scene.gateway.assert_idle(&[&scene.container]);
    drop(scene);
    drop(neighbour);
}

/// OpenSSH's client for a host behind the gateway.
fn jump(scene: &Scene, key: &str, outer: &str, target: &str, command: &str) -> Finished {
    let gateway = &scene.gateway;
    let of_target = |name: &str, value: &str| ["-o".to_owned(), format!("{name}={value}")];
    Run::new("ssh")
        .arg("-F")
        .arg(gateway.config(key))
        .args(["-J", &format!("{outer}@gateway")])
        .args(of_target("IdentityFile", &gateway.key_file(MAIN_KEY).to_string_lossy()))
        .args(of_target("IdentitiesOnly", "yes"))
        .args(of_target("BatchMode", "yes"))
        .args(of_target("StrictHostKeyChecking", "yes"))
        .args(of_target("UserKnownHostsFile", &gateway.known_hosts().to_string_lossy()))
        .args(of_target("HostKeyAlias", &format!("[127.0.0.1]:{}", gateway.port())))
        .args([target, command])
        .deadline(ANSWER_TIME_MAX)
        .finish()
}

#[test]
fn containers_are_hosts_behind_the_gateway() {
    let scene = Scene::new(|spec| spec, |setup| setup.key("elsewhere", "permitopen=\"db:22\""));
    let Some(scene) = scene else { return };
    let name = scene.container.name();
    let said = jump(&scene, MAIN_KEY, "_", &format!("root@{name}"), "id -u; hostname");
    let inside = line(&scene.sh("hostname"));
    assert_eq!(said.stdout_text(), format!("0\n{inside}\n"), "{said}");
    let said = jump(&scene, MAIN_KEY, "operator", &format!("12@{name}"), "id -u; exit 7");
    assert_eq!((said.code(), said.stdout_text().trim()), (Some(7), "12"), "{said}");
    let absent = jump(&scene, MAIN_KEY, "operator", &format!("root@{name}x"), "true");
    assert_eq!(absent.code(), Some(255), "{absent}");
    scene.gateway.wait_for_log(&["forward refused", "that this key may enter"]);
    // Who may not forward to there does not come through, and who is in a container already goes on from there.
    let refused = jump(&scene, "elsewhere", "operator", &format!("root@{name}"), "true");
    assert_eq!(refused.code(), Some(255), "{refused}");
    scene.gateway.wait_for_log(&["forward refused", "the key does not allow forwards to"]);
    let inside = jump(&scene, MAIN_KEY, name, &format!("root@{name}"), "true");
    assert_eq!(inside.code(), Some(255), "{inside}");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn a_forward_reaches_what_the_container_reaches_and_not_what_the_host_does() {
    let Some(scene) = Scene::busybox() else { return };
    let on_host = TcpListener::bind("127.0.0.1:0").expect("listens");
    let port = on_host.local_addr().expect("an address").port();
    let said = scene.through(MAIN_KEY, &format!("127.0.0.1:{port}"), "hello\n");
    assert_eq!(said.code(), Some(255), "{said}");
    on_host.set_nonblocking(true).expect("does not block");
    assert!(on_host.accept().is_err(), "the host's own port was dialled");
}

#[test]
fn remote_forwards_listen_in_the_container_only() {
    let Some(scene) = Scene::busybox() else { return };
    let here = TcpListener::bind("127.0.0.1:0").expect("listens");
    let port = here.local_addr().expect("an address").port();
    let echo = std::thread::spawn(move || {
        for stream in here.incoming().take(2) {
            let mut stream = stream.expect("a connection");
            let mut input = stream.try_clone().expect("another handle");
            std::io::copy(&mut input, &mut stream).expect("echoes");
            stream.shutdown(std::net::Shutdown::Write).ok();
        }
    });
    let client = forward(&scene, MAIN_KEY, &["-R", &format!("7100:127.0.0.1:{port}")]);
    wait_until(CLEAN_UP_TIME_MAX, "a listener in the container", || {
        let tcp = scene.container.sh("cat /proc/net/tcp").stdout_text();
        if tcp.contains(":1BBC 00000000:0000 0A") { Ok(()) } else { Err(tcp) }
    });
    let listener = scene.container.sh("grep ':1BBC 00000000:0000 0A' /proc/net/tcp").stdout_text();
    assert!(listener.contains("0100007F:1BBC"), "not the loopback: {listener}");
    let echoed = |words: &str| {
        scene.container.sh(&format!("echo {words} | nc 127.0.0.1 7100")).stdout_text()
    };
    assert_eq!(echoed("from inside"), "from inside\n");
    let sum = scene.container.sh(
        "head -c 5000000 /dev/urandom > /tmp/n; nc 127.0.0.1 7100 < /tmp/n > /tmp/m; cmp /tmp/n /tmp/m && echo same",
    );
    assert_eq!(sum.stdout_text(), "same\n");
    echo.join().expect("the echo server");
    assert!(TcpStream::connect(("127.0.0.1", 7100)).is_err(), "it listens on the host");
    // Taken is taken.
    let second = scene.ssh().args([
        "-N",
        "-o",
        "ExitOnForwardFailure=yes",
        "-R",
        &format!("7100:127.0.0.1:{port}"),
    ]);
    let second = second.deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(second.code(), Some(255), "{second}");
    drop(client);
    scene.gateway.assert_idle(&[&scene.container]);
    let tcp = scene.container.sh("cat /proc/net/tcp").stdout_text();
    assert!(!tcp.contains(":1BBC 00000000:0000 0A"), "the listener stays: {tcp}");
}

#[test]
fn a_remote_port_of_zero_is_chosen_and_told() {
    let Some(scene) = Scene::busybox() else { return };
    let here = TcpListener::bind("127.0.0.1:0").expect("listens");
    let port = here.local_addr().expect("an address").port();
    let run =
        scene.ssh().args(["-o", "LogLevel=INFO", "-R", &format!("0:127.0.0.1:{port}"), "sleep 1"]);
    let said = run.deadline(ANSWER_TIME_MAX).finish();
    assert!(said.stderr_text().contains("Allocated port"), "{said}");
}

#[test]
fn socks_clients_reach_names_of_the_container() {
    let Some((scene, neighbour, _network)) = neighbours() else { return };
    neighbour.sh("mkdir /srv && echo page > /srv/index.html && httpd -p 8080 -h /srv");
    let port = free_port();
    let client = forward(&scene, MAIN_KEY, &["-D", &port.to_string()]);
    drop(dial(port));
    let Some(curl) = e2e::ssh_gateway::program("curl", "curl") else { return };
    let said = Run::new(curl)
        .args(["--silent", "--show-error", "--max-time", "30", "--socks5-hostname"])
        .arg(format!("127.0.0.1:{port}"))
        .arg(format!("http://{}:8080/index.html", neighbour.name()))
        .finish();
    assert_eq!(line(&said), "page");
    drop(client);
    scene.gateway.assert_idle(&[&scene.container]);
    drop(scene);
    drop(neighbour);
}

#[test]
fn unix_sockets_are_forwarded_both_ways_as_the_user() {
    let Some(scene) = Scene::busybox() else { return };
    let sandbox = scene.gateway.sandbox();
    let (local, here) = (sandbox.path("local.sock"), sandbox.path("here.sock"));
    let listener = UnixListener::bind(&here).expect("listens");
    let login = format!("{}+www", scene.container.name());
    // An echo server at a unix socket in the container: our own remote forward to `here`.
    let echo = std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.expect("a connection");
            let mut input = stream.try_clone().expect("another handle");
            std::io::copy(&mut input, &mut stream).expect("echoes");
            stream.shutdown(std::net::Shutdown::Write).ok();
        }
    });
    let run = scene.gateway.ssh(&login).args(["-N", "-o", "ExitOnForwardFailure=yes"]);
    let client = run
        .args(["-R".to_owned(), format!("/tmp/remote.sock:{}", here.display())])
        .args(["-L".to_owned(), format!("{}:/tmp/remote.sock", local.display())])
        .start();
    wait_until(CLEAN_UP_TIME_MAX, "both sockets", || {
        let there = scene.container.exec(["test", "-S", "/tmp/remote.sock"]).code == 0;
        if there && local.exists() { Ok(()) } else { Err(format!("there {there}")) }
    });
    let owner = scene.container.sh("stat -c '%U %a' /tmp/remote.sock").stdout_text();
    assert!(owner.starts_with("www "), "{owner}");
    for _ in 0..2 {
        let mut stream = UnixStream::connect(&local).expect("connects");
        stream.set_read_timeout(Some(ANSWER_TIME_MAX)).expect("a timeout");
        stream.write_all(b"round and round").expect("writes");
        stream.shutdown(std::net::Shutdown::Write).expect("ends its side");
        let mut back = String::new();
        stream.read_to_string(&mut back).expect("reads");
        assert_eq!(back, "round and round");
    }
    echo.join().expect("the echo server");
    drop(client);
    scene.gateway.assert_idle(&[&scene.container]);
    assert_ne!(
        scene.container.exec(["test", "-e", "/tmp/remote.sock"]).code,
        0,
        "the socket file stays"
    );
    // Sockets that only root may use are not for www.
    scene.container.sh("mkdir -m 700 /root/private");
    let said = scene.gateway.ssh(&login).args([
        "-N",
        "-o",
        "ExitOnForwardFailure=yes",
        "-R",
        "/root/private/s:/nowhere",
    ]);
    let said = said.deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(said.code(), Some(255), "{said}");
}
