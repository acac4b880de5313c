use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::net::spool::{Allowance, Bounds, Spool};

fn transport() -> (Arc<Link>, Transport<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let link = Link::new(Brake::new(Allowance { total: u64::MAX, overrun: 0, memory: u64::MAX }));
    (Arc::clone(&link), Transport::new(ours, link), theirs)
}

#[tokio::test]
async fn bytes_are_counted_and_the_first_line_is_kept_in_print() {
    let (link, mut transport, mut client) = transport();
    client.write_all(b"SSH-2.0-x\x1b[31m \xff\r\nrest").await.unwrap();
    let mut bytes = [0; 100];
    let length = transport.read(&mut bytes).await.unwrap();
    transport.write_all(b"hello").await.unwrap();
    assert_eq!(link.identification(), "SSH-2.0-x[31m ");
    assert_eq!(link.traffic(), (length as u64, 5));
}

#[tokio::test]
async fn a_connection_that_is_cut_fails_whatever_waits() {
    let (link, mut transport, _client) = transport();
    let waiting = tokio::spawn(async move {
        let mut byte = [0; 1];
        let read = transport.read(&mut byte).await;
        let written = transport.write(b"x").await;
        (read.unwrap_err().kind(), written.unwrap_err().kind())
    });
    tokio::task::yield_now().await;
    link.cut();
    let aborted = io::ErrorKind::ConnectionAborted;
    assert_eq!(waiting.await.unwrap(), (aborted, aborted));
}

#[tokio::test]
async fn two_ends_that_write_first_and_read_later_do_not_wait_for_each_other() {
    const BYTES: usize = 1024 * 1024;
    let (link, mut transport, mut client) = transport();
    let other = tokio::spawn(async move {
        client.write_all(&vec![1; BYTES]).await.unwrap();
        let mut all = vec![0; BYTES];
        client.read_exact(&mut all).await.unwrap();
        all
    });
    transport.write_all(&vec![2; BYTES]).await.unwrap();
    let mut all = vec![0; BYTES];
    transport.read_exact(&mut all).await.unwrap();
    assert!(all.iter().all(|byte| *byte == 1));
    assert!(other.await.unwrap().iter().all(|byte| *byte == 2));
    assert_eq!(link.traffic(), (BYTES as u64, BYTES as u64));
    assert_eq!(link.stalled_for(), Duration::ZERO);
}

#[tokio::test]
async fn a_slowed_client_is_read_a_little_each_tick() {
    struct None;
    impl crate::net::spool::Shelf for None {
        async fn file(&self) -> Option<std::fs::File> {
            Option::None
        }
    }
    let (link, mut transport, mut client) = transport();
    let bounds = Bounds { memory: 1, total: 1, overrun: 10 };
    let spool = Arc::new(Spool::new(bounds, Arc::clone(&link.brake)));
    spool.push(b"full", &Arc::new(None)).await.unwrap();
    client.write_all(&[0; 1000]).await.unwrap();
    let start = Instant::now();
    let mut byte = [0; 1];
    for _ in 0..SLOW_READS * 3 {
        transport.read_exact(&mut byte).await.unwrap();
    }
    assert!(start.elapsed() >= SLOW_TICK * 2);
    // Once the spool is empty, nothing waits.
    spool.discard();
    for _ in 0..SLOW_READS * 3 {
        transport.read_exact(&mut byte).await.unwrap();
    }
    assert!(transport.tick.is_none());
}

#[tokio::test]
async fn what_a_client_said_before_it_left_is_read_though_it_takes_nothing_any_more() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (mut client, (ours, _)) = (client.unwrap(), accepted.unwrap());
    let link = Link::new(Brake::new(Allowance { total: u64::MAX, overrun: 0, memory: u64::MAX }));
    let mut transport = Transport::new(ours, Arc::clone(&link));
    transport.write_all(b"what nobody reads").await.unwrap();
    client.readable().await.unwrap();
    client.write_all(b"goodbye").await.unwrap();
    // With something unread, so that the connection is reset.
    drop(client);
    while !transport.is_unread {
        transport.write_all(b"more").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    transport.write_all(b"more").await.unwrap();
    let mut said = [0; 7];
    transport.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"goodbye");
    assert!(matches!(transport.read(&mut said).await, Ok(0) | Err(_)));
    assert_eq!(link.stalled_for(), Duration::ZERO);
}
