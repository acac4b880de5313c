use super::*;
use crate::reader::ReadError;

#[test]
fn only_what_is_stored_or_what_the_server_says_of_it_is_the_backups_fault() {
    let is_backups = |error| matches!(fault_of(error), Fault::Backup(_));
    let text = || "it".to_owned();
    let content = |source| IntoError::Content { state: text(), source };
    let refused =
        IntoError::Step { act: text(), container: text(), problem: text(), state: text() };
    assert!(is_backups(refused));
    assert!(is_backups(content(BrowseError::Length(text()))));
    let missing = ReadError::Missing(crate::chunk::ChunkId([0; 16]));
    assert!(is_backups(content(BrowseError::Read(missing))));
    let away = ReadError::Decompress(std::io::Error::other("no memory"));
    assert!(!is_backups(content(BrowseError::Read(away))));
    let killed = RunError::NoMark { container: text(), said: text() };
    assert!(!is_backups(IntoError::Run { act: text(), state: text(), source: killed }));
    assert!(!is_backups(IntoError::Interrupted(text())));
}
