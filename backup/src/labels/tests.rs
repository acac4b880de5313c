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
        ("chores.backup.exclude", " , "),
        ("chores.backup.schedule", "whenever"),
        ("chores.backup.drill", "true"),
        ("chores.backup.retain", "all"),
        ("chores.backup.pause", ""),
        ("chores.backup.pre", " "),
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

#[test]
fn a_label_of_any_length_takes_little_room_and_orders_nothing() {
    let long = "é".repeat(1 << 20);
    let strange = format!("{PREFIX}{long}");
    // Each is two bytes.
    let longest = "é".repeat(VALUE_BYTES_MAX / 2);
    let labels = [
        ("chores.backup.enable", "true"),
        ("chores.backup.pre", long.as_str()),
        ("chores.backup.schedule", longest.as_str()),
        ("chores.backup.retain", longest.as_str()),
        (strange.as_str(), "x"),
    ];
    let orders = orders(&labels);
    assert_eq!((orders.problems.len(), &orders.pre), (4, &None));
    assert!(orders.problems.iter().all(|problem| problem.len() < 2000), "{orders:?}");
    assert!(orders.problems[0].contains("longer than 8192 bytes"), "{orders:?}");
    let longest = "x".repeat(VALUE_BYTES_MAX);
    let labels = map(&[("chores.backup.pre", &longest)]);
    let given = given(&labels, Some(&BTreeMap::new()));
    assert_eq!(read(&given).pre, Some(longest.clone()));
}

#[test]
fn a_command_that_orders_nothing_is_not_told_since_passwords_stand_in_them() {
    let secret = format!("mysqldump --password=hunter2 {}", "x".repeat(VALUE_BYTES_MAX));
    for label in ["chores.backup.pre", "chores.backup.post"] {
        let orders = orders(&[(label, &secret)]);
        assert!(orders.problems[0].contains(label), "{orders:?}");
        assert!(orders.problems[0].contains("longer than 8192 bytes"), "{orders:?}");
        assert!(!orders.problems[0].contains("mysqldump"), "{orders:?}");
    }
}

#[test]
fn all_orders_of_a_job_are_read() {
    let orders = orders(&[
        ("chores.backup.enable", "true"),
        ("chores.backup.schedule", "30 3 * * *"),
        ("chores.backup.pause", "true"),
        ("chores.backup.stop", "web, worker"),
        ("chores.backup.pre", "sync"),
        ("chores.backup.post", "rm -f /tmp/lock"),
        ("chores.backup.exclude", "*.tmp,cache/"),
        ("chores.backup.retain", "daily=7"),
        ("chores.backup.drill", "@weekly"),
    ]);
    assert_eq!(orders.problems, Vec::<String>::new());
    assert_eq!(orders.schedule.unwrap().to_string(), "30 3 * * *");
    assert_eq!(orders.pause, Some(Still::Itself));
    assert_eq!(orders.stop, Some(Still::Named(vec!["web".to_owned(), "worker".to_owned()])));
    assert_eq!(
        (orders.pre.as_deref(), orders.post.as_deref()),
        (Some("sync"), Some("rm -f /tmp/lock"))
    );
    assert_eq!(orders.exclude, ["*.tmp", "cache/"]);
    assert_eq!(orders.retain.unwrap().to_string(), "daily=7");
    assert_eq!(orders.drill.unwrap().to_string(), "@weekly");
}

#[test]
fn a_volume_is_left_out_or_not_and_nothing_else() {
    let given = BTreeMap::from([
        ("chores.backup.enable", "false"),
        ("chores.backup.schedule", "@daily"),
        ("chores.backup.what", "x"),
    ]);
    let orders = read_of_volume(&given);
    assert_eq!((orders.enable, &orders.schedule), (Some(false), &None));
    assert_eq!(orders.problems.len(), 2, "{orders:?}");
}
