use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// An engine that answers the first request with `answer` and closes the connection.
async fn fake_engine(answer: &'static [u8]) -> Engine {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let docker = bollard::Docker::connect_with_http(&address, 10, bollard::API_DEFAULT_VERSION);
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await.unwrap());
        }
        socket.write_all(answer).await.unwrap();
    });
    Engine { docker: docker.unwrap(), host: Host::Tcp(address) }
}

/// What was read, and whether the end was an error.
async fn read_all(answer: &'static [u8]) -> (Vec<u8>, bool) {
    let engine = fake_engine(answer).await;
    let mut logs = engine.raw_logs("web", LogTail::All, false).await.unwrap();
    let mut buffer = Vec::new();
    loop {
        match logs.read(&mut buffer).await {
            Some(Ok(())) => {}
            Some(Err(_)) => return (buffer, true),
            None => return (buffer, false),
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_some_bytes_is_an_error_and_no_end() {
    let cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    assert_eq!(read_all(cut).await, (b"hello".to_vec(), true));
    let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(read_all(whole).await, (b"hello".to_vec(), false));
}

#[tokio::test]
async fn an_engine_is_known_by_what_it_adds_to_its_answers() {
    for (answer, is_docker) in [
        (b"HTTP/1.1 200 OK\r\nServer: Docker/28.0.1 (linux)\r\nContent-Length: 0\r\n\r\n" as &[u8], true),
        (b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDocker-Experimental: false\r\nContent-Length: 0\r\n\r\n", true),
        (b"HTTP/1.1 200 OK\r\nServer: Libpod/4.3.1 (linux)\r\nContent-Length: 0\r\n\r\n", false),
        (
            b"HTTP/1.1 200 OK\r\nDocker-Experimental: true\r\nLibpod-Api-Version: 4.3.1\r\nContent-Length: 0\r\n\r\n",
            false,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
    ] {
        let logs = fake_engine(answer).await.raw_logs("web", LogTail::All, false).await.unwrap();
        assert_eq!(logs.is_docker(), is_docker, "{}", String::from_utf8_lossy(answer));
    }
}
