use super::*;
use crate::compare::{Ignore, assert_same};
use crate::sandbox::Sandbox;
use crate::tree::{self, Kind};

#[test]
fn the_zoo_is_made_whole_where_everything_is_allowed() {
    let sandbox = Sandbox::new();
    let root = sandbox.directory("zoo");
    let refused = build(&root, Options::ALL);
    if rustix::process::geteuid().is_root() {
        assert_eq!(refused, Vec::<String>::new());
    }
    let tree = tree::read(&root);
    let deepest = tree.keys().map(Vec::len).max().unwrap();
    assert!(deepest > 4096, "the deepest path has only {deepest} bytes");
    let Kind::File(huge) = &tree[&b"holes/huge"[..]].kind else { panic!("huge is no file") };
    assert_eq!(huge.size, HUGE_BYTES);
    assert!(huge.allocated < 1 << 20, "the huge file occupies {} bytes", huge.allocated);
    assert!(allocated_bytes(&root) < 64 << 20);
}

#[test]
fn the_same_zoo_is_made_every_time() {
    let sandbox = Sandbox::new();
    let (first, second) = (sandbox.directory("first"), sandbox.directory("second"));
    build(&first, Options { deep: false, ..Options::QUICK });
    build(&second, Options { deep: false, ..Options::QUICK });
    let digest = |root: &Path| {
        let tree = tree::read(root);
        let content = tree.iter().filter_map(|(path, node)| match &node.kind {
            Kind::File(content) => Some((path.clone(), content.size, content.digest)),
            _ => None,
        });
        content.collect::<Vec<_>>()
    };
    assert_eq!(digest(&first), digest(&second));
}

#[test]
fn a_faithful_copy_of_the_zoo_has_no_differences() {
    if !rustix::process::geteuid().is_root() {
        crate::notice!("skipped: only root can copy owners and devices");
        return;
    }
    let sandbox = Sandbox::new();
    let root = sandbox.directory("zoo");
    // GNU cp cannot name a path longer than PATH_MAX.
    build(&root, Options { deep: false, huge: true, bulk: false, special: true });
    let copied = sandbox.path("copy");
    copy(&root, &copied);
    assert_same(&root, &copied, Ignore::default());
}
