use super::*;
use crate::cursor::{DirectCursor, FileCursor, FileIdentity, LastLine};
use crate::intake::{Sources, intake};
use crate::rule::EngineRule;

fn container(id: &str) -> Container {
    Container { id: id.to_owned(), name: "web".to_owned(), ..Container::default() }
}

fn planner() -> Arc<Planner> {
    Arc::new(Planner { rules: vec![EngineRule::default()], ..Planner::default() })
}

#[test]
fn the_shipper_does_not_ship_itself() {
    let plans = plans(planner(), Some("a".to_owned()));
    assert!(plans(&container("a")).is_none());
    assert_eq!(plans(&container("b")).unwrap().meta.key.0, "engine:b");
    let labels = BTreeMap::from([("chores.logship.enable".to_owned(), "false".to_owned())]);
    assert!(plans(&Container { labels, ..container("b") }).is_none());
}

#[tokio::test]
async fn a_container_that_was_removed_while_nobody_read_it_ends_with_a_gap() {
    let sources = Arc::new(Sources::default());
    let plans = plans(planner(), None);
    let at = FileCursor {
        shift: 0,
        file: FileIdentity { device: 1, inode: 2, born: None },
        offset: 3,
        proof: Default::default(),
    };
    let last = vec![LastLine { stream: Stream::Stdout, ts: 17, hash: 0 }];
    for (id, number) in [("gone", 4), ("here", 5)] {
        let meta = plans(&container(id)).unwrap().meta;
        let cursor = Cursor::Direct(DirectCursor { at, last: last.clone() });
        sources.restore(SourceId(number), meta, Some(cursor));
    }
    let (intake, mut receiver) = intake(sources);
    let source = Source { host: None, directory: None, plans, intake, table: Arc::default() };
    source.forget_removed(&HashSet::from(["here".to_owned()])).await;
    drop(source);
    let Some(Message::Chunk(chunk)) = receiver.messages.recv().await else { panic!() };
    let lines = String::from_utf8(chunk.block.text().to_vec()).unwrap();
    let gap = r#"{"control":"gap","reason":"removed","from":17,"exact":false}"#;
    assert_eq!(lines, format!("{gap}\n{{\"control\":\"stopped\"}}\n"));
    assert!(matches!(receiver.messages.recv().await, Some(Message::End(SourceId(4)))));
    assert!(receiver.messages.recv().await.is_none());
}
