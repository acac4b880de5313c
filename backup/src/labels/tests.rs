use super::*;

fn map(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn orders(labels: &[(&str, &str)]) -> Orders {
    let (labels, image) = (map(labels), BTreeMap::new());
    read(&given(&labels, Some(&image)))
}

#[test]
fn orders_are_read() {
    assert_eq!(orders(&[("chores.backup.enable", "false")]).enable, Some(false));
    assert_eq!(orders(&[("chores.backup.enable", "true")]).enable, Some(true));
    let dump = |value| orders(&[("chores.backup.dump", value)]).dump;
    assert_eq!(dump("false"), Some(DumpOrder::No));
    assert_eq!(dump("true"), Some(DumpOrder::Recognised));
    assert_eq!(dump("auto"), Some(DumpOrder::Recognised));
    assert_eq!(dump("sqlite"), Some(DumpOrder::Kind(DumpKind::Sqlite)));
    assert_eq!(dump("command"), Some(DumpOrder::Kind(DumpKind::Command)));
    assert_eq!(orders(&[("com.example.enable", "false")]), Orders::default());
}

#[test]
fn what_orders_nothing_is_told() {
    for (key, value) in [
        ("chores.backup.enabel", "false"),
        ("chores.backup.enable", "no"),
        ("chores.backup.enable", ""),
        ("chores.backup.exclude", "*.log"),
        ("chores.backup.dump", "oracle"),
        ("chores.backup.", "x"),
    ] {
        let orders = orders(&[(key, value)]);
        assert_eq!((orders.enable, orders.dump), (None, None), "{key}={value}");
        assert_eq!(orders.problems.len(), 1, "{key}={value}");
        assert!(orders.problems[0].contains(key), "{orders:?}");
    }
    assert!(orders(&[("chores.backup.parent", "{}")]).problems.is_empty());
}

#[test]
fn an_image_orders_nothing_and_what_overrules_it_does() {
    let image = map(&[("chores.backup.enable", "false"), ("chores.backup.dump", "mysql")]);
    assert_eq!(read(&given(&image, Some(&image))), Orders::default());
    let labels = map(&[("chores.backup.enable", "false"), ("chores.backup.dump", "postgres")]);
    let orders = read(&given(&labels, Some(&image)));
    assert_eq!(orders.enable, None);
    assert_eq!(orders.dump, Some(DumpOrder::Kind(DumpKind::Postgres)));
    // Who cannot be asked may have said it.
    assert_eq!(read(&given(&labels, None)), Orders::default());
}
