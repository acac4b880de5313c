use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_connection() {
    let (ours, theirs) = tokio::io::duplex(16);
    let mut ours = Impatient::new(ours, Some(Duration::from_millis(20)));
    ours.write_all(b"there is room").await.unwrap();
    let stuck = ours.write_all(b"and for this there is none").await.unwrap_err();
    assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
    drop(theirs);
}

#[tokio::test]
async fn a_client_that_takes_something_keeps_it() {
    let (ours, mut theirs) = tokio::io::duplex(16);
    let mut ours = Impatient::new(ours, Some(Duration::from_secs(600)));
    let taking = tokio::spawn(async move {
        let mut taken = 0;
        while taken < 64 {
            tokio::task::yield_now().await;
            taken += theirs.read(&mut [0; 8]).await.unwrap();
        }
    });
    ours.write_all(&[0; 64]).await.unwrap();
    taking.await.unwrap();
}
