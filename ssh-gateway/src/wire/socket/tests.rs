use super::*;
use crate::wire::Program;

#[test]
fn a_message_arrives_with_its_descriptors() {
    let (one, other) = Socket::pair().unwrap();
    let (read, write) = rustix::pipe::pipe().unwrap();
    one.send(&Program::Command(b"ls".to_vec()), &[write.as_fd()]).unwrap();
    drop(write);
    let (program, descriptors) = other.receive::<Program>().unwrap().unwrap();
    assert_eq!(program, Program::Command(b"ls".to_vec()));
    let [write] = <[OwnedFd; 1]>::try_from(descriptors).unwrap();
    rustix::io::write(&write, b"through").unwrap();
    let mut bytes = [0; 7];
    rustix::io::read(&read, &mut bytes).unwrap();
    assert_eq!(&bytes, b"through");
}

#[test]
fn a_long_message_arrives_whole_and_one_that_is_too_long_is_not_sent() {
    let (one, other) = Socket::pair().unwrap();
    let long = Program::Command(vec![7; 3 * 1024 * 1024]);
    one.send(&long, &[]).unwrap();
    assert_eq!(other.receive::<Program>().unwrap().unwrap().0, long);
    let error = one.send(&Program::Command(vec![7; MESSAGE_BYTES_MAX + 1]), &[]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_closed_end_is_the_end_and_noise_is_an_error() {
    let (one, other) = Socket::pair().unwrap();
    rustix::net::send(&one, &[0, 250, 1], SendFlags::empty()).unwrap();
    assert_eq!(other.receive::<Program>().unwrap_err().kind(), io::ErrorKind::InvalidData);
    rustix::net::send(&one, &[1], SendFlags::empty()).unwrap();
    assert_eq!(other.receive::<Program>().unwrap_err().kind(), io::ErrorKind::InvalidData);
    drop(one);
    assert!(other.receive::<Program>().unwrap().is_none());
}

#[tokio::test]
async fn both_kinds_of_ends_understand_each_other() {
    let (one, other) = Socket::pair().unwrap();
    let one = one.into_async().unwrap();
    let thread = std::thread::spawn(move || {
        let (program, _) = other.receive::<Program>().unwrap().unwrap();
        other.send(&program, &[]).unwrap();
    });
    one.send(&Program::Sftp, &[]).await.unwrap();
    assert_eq!(one.receive::<Program>().await.unwrap().unwrap().0, Program::Sftp);
    thread.join().unwrap();
}
