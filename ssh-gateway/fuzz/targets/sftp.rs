//! SFTP: whatever a client sends, each request is answered or the conversation ends, never a panic.
//!
//! The server would do what it is told to the machine it runs on, so only requests that look get through.
#![no_main]

use std::fs::File;
use std::io::{Write, pipe};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ssh_gateway::sftp;

/// CLOSE, READ, LSTAT, FSTAT, OPENDIR, READDIR, REALPATH, STAT, READLINK, EXTENDED, and what there is not.
const KINDS: [u8; 11] = [4, 5, 7, 8, 11, 12, 16, 17, 19, 200, 99];

/// Extensions that look.
const EXTENSIONS: [&str; 7] = [
    "statvfs@openssh.com",
    "fstatvfs@openssh.com",
    "limits@openssh.com",
    "expand-path@openssh.com",
    "home-directory",
    "users-groups-by-id@openssh.com",
    "no-such@example.com",
];

/// So that the whole input fits into a pipe that nobody reads yet. In bytes.
const INPUT_MAX: usize = 60_000;

fuzz_target!(|input: (Vec<(u8, u8, Vec<u8>)>, Vec<u8>)| {
    let (requests, rest) = input;
    let mut stream = packet(1, &3u32.to_be_bytes());
    for (kind, extension, fields) in requests {
        let kind = KINDS[usize::from(kind) % KINDS.len()];
        let mut body = 7u32.to_be_bytes().to_vec();
        if kind == 200 {
            let name = EXTENSIONS[usize::from(extension) % EXTENSIONS.len()];
            body.extend(u32::try_from(name.len()).unwrap_or(0).to_be_bytes());
            body.extend(name.as_bytes());
        }
        body.extend(fields);
        stream.extend(packet(kind, &body));
    }
    // The end may be anything that is too short to be a request that changes something.
    stream.extend(rest.iter().take(12));
    if stream.len() > INPUT_MAX {
        return;
    }
    let (Ok((ours, mut theirs)), Ok(nowhere)) =
        (pipe(), File::options().write(true).open("/dev/null"))
    else {
        return;
    };
    if theirs.write_all(&stream).is_ok() {
        drop(theirs);
        let tally = ssh_gateway::tally::Tally::silent();
        drop(sftp::serve_between(&ours, &nowhere, Path::new("/"), sftp::Rights::All, tally));
    }
});

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).unwrap_or(0);
    [length.to_be_bytes().as_slice(), &[kind], body].concat()
}
