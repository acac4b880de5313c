use super::*;
use crate::compare::{Ignore, differences};
use crate::sandbox::Sandbox;
use crate::tree::Kind;

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_operations_make_the_same_content(operations in operations(30)) {
        let (first, second) = (Sandbox::new(), Sandbox::new());
        let last = |sandbox: &Sandbox| {
            let apply = |operation| apply(sandbox.root(), operation);
            operations.iter().filter_map(apply).fold(None, |_, tree| Some(tree)).expect("a snapshot at the end")
        };
        let content = |tree: Tree| -> Vec<_> {
            let digest = |kind: &Kind| match kind {
                Kind::File(content) => Some((content.size, content.digest)),
                _ => None,
            };
            tree.into_iter().map(|(path, node)| (path, digest(&node.kind), node.mode, node.same_as)).collect()
        };
        prop_assert_eq!(content(last(&first)), content(last(&second)));
    }
}

#[test]
fn a_disguised_change_shows_only_in_the_content() {
    let sandbox = Sandbox::new();
    apply(sandbox.root(), &Operation::Create { name: 0, seed: 1, length: 5000 });
    let before = apply(sandbox.root(), &Operation::Snapshot).unwrap();
    apply(sandbox.root(), &Operation::Disguise { name: 0, seed: 3 });
    let after = apply(sandbox.root(), &Operation::Snapshot).unwrap();
    assert_eq!(differences(&before, &after, Ignore::default()), [r#""n0": has other content"#]);
}

#[test]
fn operations_that_do_not_apply_change_nothing() {
    let sandbox = Sandbox::new();
    apply(sandbox.root(), &Operation::Delete { name: 4 });
    apply(sandbox.root(), &Operation::Append { name: 7, seed: 0, length: 9 });
    apply(sandbox.root(), &Operation::Rename { from: 1, to: 2 });
    assert_eq!(tree::read(sandbox.root()).len(), 1);
}
