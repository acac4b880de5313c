use std::fs::{self, File};
use std::path::Path;

use super::*;

#[test]
fn a_proof_holds_until_a_byte_near_either_end_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut content: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
    for offset in [0, 1, 1023, 1024, 1025, 4096, 4097, 20_000] {
        fs::write(&path, &content).unwrap();
        let proof = proof_of(&File::open(&path).unwrap(), offset).unwrap().unwrap();
        assert_eq!(u64::from(proof.head_len), offset.min(1024));
        assert_eq!(u64::from(proof.tail_len), offset.min(4096));
        for at in [0, offset.saturating_sub(1)].into_iter().filter(|at| *at < offset) {
            let at = usize::try_from(at).unwrap();
            content[at] ^= 1;
            fs::write(&path, &content).unwrap();
            content[at] ^= 1;
            assert!(!holds(&File::open(&path).unwrap(), offset, &proof).unwrap());
        }
        fs::write(&path, &content).unwrap();
        assert!(holds(&File::open(&path).unwrap(), offset, &proof).unwrap());
    }
    assert_eq!(proof_of(&File::open(&path).unwrap(), 20_001).unwrap(), None);
}

#[test]
fn a_file_is_the_same_under_every_name_and_another_after_it_was_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| directory.path().join(name));
    fs::write(&a, "x").unwrap();
    fs::hard_link(&a, &b).unwrap();
    std::os::unix::fs::symlink(&a, &c).unwrap();
    let at = |path: &Path| FileFacts::of(&File::open(path).unwrap()).unwrap();
    let first = at(&a);
    assert!(first.is_regular && first.links == 2 && first.size == 1);
    assert_eq!((at(&b), at(&c)), (first, first));
    let all = File::open(directory.path()).unwrap();
    let named = |name: &str| FileFacts::named(&all, OsStr::new(name)).unwrap();
    assert_eq!((named("b"), named("c")), (Some(first), None));
    fs::remove_file(&a).unwrap();
    fs::remove_file(&b).unwrap();
    fs::write(&a, "x").unwrap();
    assert_ne!(at(&a).identity, first.identity);
    assert!(at(directory.path()).is_directory);
}
