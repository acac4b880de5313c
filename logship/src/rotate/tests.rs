use super::*;
use crate::rotation::Keep;

#[test]
fn what_an_earlier_process_left_is_told_to_the_reader() {
    let state = tempfile::tempdir().unwrap();
    assert!(left(state.path()).unwrap().begun.is_empty());
    let intents = Intents::at(state.path());
    let file = FileIdentity { device: 1, inode: 2, born: None };
    let begun = intent::BegunRecord { file, shift: 0, length: 4096, before: 1, after: 2 };
    let base = PathBuf::from("/logs/app.log");
    intents.add(&Intent::Collapse { base: base.clone(), begun }).unwrap();
    let path = PathBuf::from("/logs/app.log.000001");
    let keep = Keep::default();
    let kept = intent::KeptFile { base, path, file, begun: 1, bytes: 3, keep };
    intents.add(&Intent::Kept(kept)).unwrap();
    let left = left(state.path()).unwrap();
    assert_eq!(left.begun, [Begun::from(begun)]);
    assert_eq!(left.kept, [file]);
}
