use super::*;
use crate::coverage::decide::State;
use crate::coverage::inventory::Identity;

fn row(what: What, users: &[&str]) -> Row {
    Row {
        what,
        users: users.iter().map(|user| (*user).to_owned()).collect(),
        state: State::Protected,
        proof: None,
        reasons: Vec::new(),
    }
}

fn volume(name: &str, users: &[&str]) -> Row {
    row(What::Volume { name: name.to_owned(), mountpoint: String::new() }, users)
}

fn known(name: &str, id: &str) -> Known {
    let identity = Identity { id: id.to_owned(), name: name.to_owned(), slot: None };
    Known { identity, started: None, may_be_dumped: true }
}

fn found(text: &str, rows: &[Row], containers: &[Known]) -> Result<Vec<usize>, WantedError> {
    let wanted: Wanted = text.parse().unwrap();
    let wanted = wanted.resolve(rows, containers)?;
    Ok(rows.iter().enumerate().filter(|(_, row)| wanted.is(row)).map(|(at, _)| at).collect())
}

#[test]
fn anonymous_volumes_that_nobody_uses_are_meant_together() {
    let (used, unused) = ("ab".repeat(32), "cd".repeat(32));
    let rows = [volume(&used, &["web"]), volume(&unused, &[]), volume("named", &[])];
    assert_eq!(found("anonymous:unused", &rows, &[]), Ok(vec![1]));
    assert_eq!(found("anonymous:unused", &[], &[]), Ok(Vec::new()));
    let mount = row(What::Mount { name: "web:/data".to_owned() }, &["web"]);
    assert_eq!(found("web:/data", &[mount], &[]), Ok(vec![0]));
}

#[test]
fn names_are_compared_whole() {
    let rows = [
        volume("data", &["web"]),
        volume("data2", &["web"]),
        volume("shared", &["db"]),
        row(What::Bind { path: "/srv/www".to_owned() }, &["web"]),
    ];
    let containers = [known("web", "da7a0123"), known("db", "eeb"), known("idle", "1")];
    let of = |text| found(text, &rows, &containers);
    assert_eq!(of("data"), Ok(vec![0]));
    assert_eq!(of("web"), Ok(vec![0, 1, 3]));
    assert_eq!(of("/srv/www"), Ok(vec![3]));
    // It has nothing that can be lost.
    assert_eq!(of("idle"), Ok(vec![]));
    for nothing in ["da7a0123", "da7a", "eeb", "dat", "/srv", "volume:web", "container:data", ""] {
        assert!(matches!(of(nothing), Err(WantedError::Nothing(_))), "{nothing}");
    }
}

#[test]
fn a_name_of_two_things_is_refused_until_it_is_clear() {
    let rows = [volume("db", &["web"]), volume("files", &["db"])];
    let containers = [known("web", "1"), known("db", "2")];
    assert_eq!(found("db", &rows, &containers), Err(WantedError::Ambiguous("db".to_owned())));
    assert_eq!(found("volume:db", &rows, &containers), Ok(vec![0]));
    assert_eq!(found("container:db", &rows, &containers), Ok(vec![1]));
}

#[test]
fn what_others_use_too_does_not_go_with_a_container() {
    let rows = [volume("own", &["web"]), volume("shared", &["db", "web"])];
    let web = Wanted::Container("web".to_owned());
    assert!(web.is(&rows[0]) && web.is(&rows[1]));
    assert!(web.is_alone(&rows[0]) && !web.is_alone(&rows[1]));
    assert!(Wanted::Volume("shared".to_owned()).is_alone(&rows[1]));
}
