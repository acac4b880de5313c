use std::path::PathBuf;

use super::*;
use crate::chunk::ChunkId;
use crate::repository::tests::snapshot;
use crate::snapshot::{
    DumpFile, DumpKind, DumpProof, DumpRole, Provenance, Service, SourceContainer,
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOON: &str = "2026-11-30T12:00:00Z";

fn wish(project: &str) -> Wish<'_> {
    Wish { project, as_of: at(NOON), host: None }
}

fn recorded(number: u8, time: &str) -> Recorded {
    let snapshot = Snapshot { host: "web1".to_owned(), ..snapshot("data", time) };
    let id = SnapshotId(ChunkId([number; 16]));
    Recorded { id, snapshot, standing: Standing::Proved, drill: None }
}

fn volume(name: &str, project: Option<&str>) -> Source {
    let label = project.map(|project| (COMPOSE_PROJECT.to_owned(), project.to_owned()));
    Source {
        path: format!("/volumes/{name}"),
        volume: Some(SourceVolume {
            kind: "volume".to_owned(),
            name: name.to_owned(),
            driver: "local".to_owned(),
            labels: label.into_iter().collect(),
            options: BTreeMap::from([("type".to_owned(), "none".to_owned())]),
        }),
    }
}

/// A snapshot of volumes of the project `shop`, by their labels.
fn of(number: u8, time: &str, volumes: &[&str]) -> Recorded {
    let mut known = recorded(number, time);
    known.snapshot.sources = volumes.iter().map(|name| volume(name, Some("shop"))).collect();
    known
}

fn service(name: &str, volumes: &[(&str, &str)]) -> Service {
    Service {
        service: name.to_owned(),
        container: format!("shop-{name}-1"),
        id: format!("id-{name}"),
        image: format!("{name}:1"),
        image_id: format!("sha256:{name}"),
        volumes: volumes.iter().map(|(name, at)| ((*name).into(), (*at).into())).collect(),
    }
}

fn told(mut known: Recorded, services: Vec<Service>) -> Recorded {
    let stack = Stack { project: "shop".to_owned(), services, ..Stack::default() };
    let images = [("sha256:web".to_owned(), vec!["web@sha256:1".to_owned()])].into();
    known.snapshot.provenance = Provenance { images, stacks: vec![stack] };
    known
}

fn dumped(mut known: Recorded, name: &str, kind: DumpKind) -> Recorded {
    known.snapshot.dumps.push(DumpRecord {
        kind,
        path: format!("/dump/{name}"),
        server: String::new(),
        container: Some(SourceContainer {
            name: format!("shop-{name}-1"),
            id: format!("id-{name}"),
            image: String::new(),
            image_id: String::new(),
        }),
        databases: Vec::new(),
        files: vec![DumpFile {
            name: "all.sql".to_owned(),
            role: DumpRole::All,
            database: None,
            bytes: 1,
        }],
        proof: DumpProof { exit_code: Some(0), marker: true, trailer: None },
    });
    known.snapshot.sources.push(Source { path: format!("/dump/{name}"), volume: None });
    known
}

fn picked(choice: &Choice) -> Vec<(String, u8)> {
    let volumes = choice.volumes.iter();
    volumes.map(|pick| (pick.recorded.name.clone(), pick.from.id.0.0[0])).collect()
}

#[test]
fn a_time_is_rfc_3339_a_date_to_its_end_or_a_duration_ago() {
    let now = at(NOON);
    assert_eq!(as_of("2h", now).unwrap(), at("2026-11-30T10:00:00Z"));
    assert_eq!(as_of("1d", now).unwrap(), at("2026-11-29T12:00:00Z"));
    assert_eq!(as_of("2026-11-28", now).unwrap(), at("2026-11-28T23:59:59Z"));
    assert_eq!(as_of("2026-11-28T01:00:00+02:00", now).unwrap(), at("2026-11-27T23:00:00Z"));
    for text in
        ["", "2026", "2026-13-01", "2026-11-28T01:00:00", "yesterday", "99999999999999d", "-2h"]
    {
        assert!(as_of(text, now).is_err(), "{text}");
    }
}

#[test]
fn every_volume_comes_from_its_own_newest_snapshot_of_that_time_or_before() {
    let history = [
        of(1, "2026-11-28T02:00:00Z", &["data", "uploads"]),
        of(2, "2026-11-29T02:00:00Z", &["data"]),
        of(3, "2026-11-30T12:00:00.7Z", &["uploads"]),
        of(4, "2026-11-30T12:00:01Z", &["data", "uploads", "later"]),
    ];
    let choice = choose(&history, &wish("shop")).unwrap();
    assert_eq!(picked(&choice), [("data".to_owned(), 2), ("uploads".to_owned(), 3)]);
    assert!(choice.notes.contains(&"volume later: first saved after that time".to_owned()));
    assert!(choice.left.is_empty(), "{:?}", choice.left);
    assert!(choice.notes.iter().any(|note| note.contains("which services")), "{choice:?}");
}

#[test]
fn only_proved_snapshots_count_and_that_is_said() {
    let mut newest = of(3, "2026-11-30T02:00:00Z", &["data", "other"]);
    newest.standing = Standing::Suspicious;
    let mut drilled = of(2, "2026-11-29T02:00:00Z", &["data"]);
    drilled.drill = Some(Outcome::Failed);
    let history = [of(1, "2026-11-28T02:00:00Z", &["data"]), drilled, newest];
    let choice = choose(&history, &wish("shop")).unwrap();
    assert_eq!(picked(&choice), [("data".to_owned(), 1)]);
    assert!(choice.notes[0].contains("does not count: suspicious"), "{:?}", choice.notes);
    assert_eq!(choice.left.len(), 1);
    assert_eq!(choice.left[0].what, "volume other");
    let nothing = choose(&history[1..], &wish("shop")).unwrap_err();
    assert!(nothing.to_string().contains("was saved and proved at or before"), "{nothing}");
}

#[test]
fn a_run_that_was_not_at_its_end_is_told() {
    let mut known = of(1, "2026-11-30T11:59:00Z", &["data"]);
    known.snapshot.stats.duration_ms = 120_000;
    let choice = choose(&[known], &wish("shop")).unwrap();
    assert!(choice.notes[0].contains("may hold later changes"), "{:?}", choice.notes);
}

#[test]
fn a_project_that_nothing_is_of_is_named_with_those_that_are_known() {
    let history = [of(1, "2026-11-28T02:00:00Z", &["data"])];
    let error = choose(&history, &wish("blog")).unwrap_err().to_string();
    assert!(error.contains("blog") && error.contains("shop"), "{error}");
    assert!(choose(&[], &wish("blog")).unwrap_err().to_string().contains("nor of any other"));
    let early = Wish { as_of: at("2026-11-01T00:00:00Z"), ..wish("shop") };
    let error = choose(&history, &early).unwrap_err().to_string();
    assert!(error.contains("the first is of 2026-11-28T02:00:00Z"), "{error}");
}

#[test]
fn two_hosts_with_one_name_of_a_project_are_never_mixed() {
    let mut other = of(2, "2026-11-29T02:00:00Z", &["data"]);
    other.snapshot.host = "web2".to_owned();
    let mut throw_away = of(3, "2026-11-29T03:00:00Z", &["uploads"]);
    throw_away.snapshot.host = "0123456789ab".to_owned();
    let history = [of(1, "2026-11-28T02:00:00Z", &["data"]), other, throw_away];
    let error = choose(&history, &wish("shop")).unwrap_err();
    assert!(error.to_string().contains("web1, web2"), "{error}");
    let one = Wish { host: Some("web1"), ..wish("shop") };
    assert_eq!(picked(&choose(&history, &one).unwrap()), [("data".to_owned(), 1)]);
    let alone = [history[0].clone(), history[2].clone()];
    assert_eq!(choose(&alone, &wish("shop")).unwrap().volumes.len(), 2);
}

#[test]
fn what_a_container_of_the_project_has_is_of_the_project_without_any_label() {
    let mut known = recorded(1, "2026-11-28T02:00:00Z");
    known.snapshot.sources = vec![volume("external", None), volume("foreign", None)];
    let known = told(known, vec![service("web", &[("external", "/data")])]);
    let choice = choose(&[known], &wish("shop")).unwrap();
    assert_eq!(picked(&choice), [("external".to_owned(), 1)]);
    let stack = choice.stack.unwrap();
    assert_eq!(stack.images["sha256:web"], ["web@sha256:1"]);
}

#[test]
fn dumps_are_of_the_project_whose_container_they_were_made_in() {
    let services = || vec![service("db", &[("db", "/var/lib/mysql")]), service("web", &[])];
    let known = told(of(1, "2026-11-28T02:00:00Z", &["data"]), services());
    let known = dumped(dumped(known, "db", DumpKind::Mysql), "elsewhere", DumpKind::Redis);
    let later =
        told(dumped(recorded(2, "2026-11-29T02:00:00Z"), "db", DumpKind::Mysql), services());
    let choice = choose(&[known, later], &wish("shop")).unwrap();
    assert_eq!(choice.dumps.len(), 1);
    let dump = &choice.dumps[0];
    assert_eq!((dump.service.as_str(), dump.from.id.0.0[0]), ("db", 2));
    // Its files are in no snapshot, its dump is.
    assert!(choice.left.is_empty(), "{:?}", choice.left);
    assert!(choice.notes.iter().any(|note| note.contains("there is a dump")), "{:?}", choice.notes);
}

#[test]
fn what_cannot_come_back_is_named_with_the_way_that_does_it() {
    let random = "0123456789abcdef".repeat(4);
    let mut known = of(1, "2026-11-28T02:00:00Z", &["data"]);
    known.snapshot.sources.push(volume(&random, None));
    known.snapshot.sources.push(Source {
        path: "/srv".to_owned(),
        volume: Some(SourceVolume {
            kind: "bind".to_owned(),
            name: "/host/srv".to_owned(),
            ..volume("", None).volume.unwrap()
        }),
    });
    known.snapshot.container = Some(SourceContainer {
        name: "shop-web-1".to_owned(),
        id: "id-web".to_owned(),
        image: String::new(),
        image_id: String::new(),
    });
    let web = service("web", &[("data", "/data"), (random.as_str(), "/anon"), ("never", "/never")]);
    let known = dumped(told(known, vec![web]), "web", DumpKind::Command);
    let choice = choose(&[known], &wish("shop")).unwrap();
    assert_eq!(picked(&choice), [("data".to_owned(), 1)]);
    let left = |what: &str| {
        let found = choice.left.iter().find(|left| left.what.contains(what));
        found.unwrap_or_else(|| panic!("{what}: {:?}", choice.left)).reason.clone()
    };
    assert!(left(&random).contains("anonymous"));
    assert!(left("path /host/srv").contains("--target /host/srv"));
    assert!(left("volume never").contains("has it"));
    assert!(left("dump of shop-web-1").contains("-- COMMAND"));
}

#[test]
fn a_volume_that_no_container_had_any_more_is_told() {
    let old = of(1, "2026-11-20T02:00:00Z", &["old", "data"]);
    let new =
        told(of(2, "2026-11-29T02:00:00Z", &["data"]), vec![service("web", &[("data", "/d")])]);
    let choice = choose(&[old, new], &wish("shop")).unwrap();
    assert_eq!(picked(&choice), [("data".to_owned(), 2), ("old".to_owned(), 1)]);
    assert_eq!(choice.notes, ["volume old: no container had it any more at 2026-11-29T02:00:00Z"]);
}

fn there(pick: &VolumePick) -> Volume {
    Volume {
        name: pick.recorded.name.clone(),
        driver: "local".to_owned(),
        labels: pick.recorded.labels.clone(),
        options: pick.recorded.options.clone(),
        mountpoint: PathBuf::new(),
    }
}

#[test]
fn everything_that_stands_in_the_way_is_said_at_once() {
    let mut history = vec![of(1, "2026-11-28T02:00:00Z", &["data", "uploads", "plugin"])];
    history[0].snapshot.sources[2].volume.as_mut().unwrap().driver = "vieux/sshfs".to_owned();
    history[0].snapshot.state = State::Warnings;
    let choice = choose(&history, &wish("shop")).unwrap();
    let [data, _, uploads] = choice.volumes.as_slice() else { panic!("{choice:?}") };
    let facts = Facts {
        volumes: [data, uploads].map(|pick| (pick.recorded.name.clone(), there(pick))).into(),
        users: BTreeMap::from([("data".to_owned(), vec!["web".to_owned()])]),
        drivers: Some(vec!["local".to_owned()]),
    };
    let problems = steps(&choice, &facts, &Rules::default()).unwrap_err();
    let text = problems.join("\n");
    assert_eq!(problems.len(), 4, "{text}");
    for part in ["data is there already", "in use by web", "driver vieux/sshfs", "uploads is there"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What is replaced by less than it was needs more words.
    let replace = Rules { replace: true, ..Rules::default() };
    let drivers = Some(vec!["vieux/sshfs:latest".to_owned(), "local".to_owned()]);
    let facts = Facts { drivers, ..facts };
    let problems = steps(&choice, &facts, &replace).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
    let (steps_forced, notes) = steps(&choice, &facts, &Rules { force: true, ..replace }).unwrap();
    let exist: Vec<_> = steps_forced.iter().map(|step| step.exists).collect();
    assert_eq!((exist, notes), (vec![true, false, true], Vec::new()));
}

#[test]
fn under_a_prefix_nothing_of_the_old_volumes_is_touched() {
    let choice = choose(&[of(1, "2026-11-28T02:00:00Z", &["data"])], &wish("shop")).unwrap();
    let there = BTreeMap::from([("data".to_owned(), there(&choice.volumes[0]))]);
    let facts = Facts { volumes: there, ..Facts::default() };
    let rules = Rules { prefix: "try-", ..Rules::default() };
    let (found, notes) = steps(&choice, &facts, &rules).unwrap();
    assert_eq!((found[0].target.as_str(), found[0].exists), ("try-data", false));
    assert_eq!(notes.len(), 1);
    for prefix in ["../", "-", " "] {
        assert!(steps(&choice, &facts, &Rules { prefix, ..rules }).is_err(), "{prefix}");
    }
}

#[test]
fn a_volume_that_stays_with_other_options_is_told() {
    let choice = choose(&[of(1, "2026-11-28T02:00:00Z", &["data"])], &wish("shop")).unwrap();
    let mut other = there(&choice.volumes[0]);
    other.labels.clear();
    let volumes = BTreeMap::from([("data".to_owned(), other)]);
    let facts = Facts { volumes, ..Facts::default() };
    let rules = Rules { replace: true, ..Rules::default() };
    let (_, notes) = steps(&choice, &facts, &rules).unwrap();
    assert!(notes[0].contains("has another driver, other options or labels"), "{notes:?}");
}

fn now(name: &str, service: &str, running: bool) -> Container {
    let labels = [(COMPOSE_PROJECT, "shop"), ("com.docker.compose.service", service)];
    Container {
        name: name.to_owned(),
        running,
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..Container::default()
    }
}

#[test]
fn a_dump_goes_into_the_running_container_of_its_service() {
    let known = told(recorded(1, "2026-11-28T02:00:00Z"), vec![service("db", &[])]);
    let choice = choose(&[dumped(known, "db", DumpKind::Mysql)], &wish("shop")).unwrap();
    let into = |containers: &[Container]| {
        databases(&choice, containers)
            .map(|found| found[0].1.clone())
            .map_err(|problems| problems[0].clone())
    };
    assert_eq!(into(&[now("shop_db_1", "db", true), now("w", "web", true)]).unwrap(), "shop_db_1");
    let several = [now("shop-db-2", "db", true), now("shop-db-1", "db", true)];
    assert_eq!(into(&several).unwrap(), "shop-db-1");
    assert!(into(&[now("shop-db-1", "db", false)]).unwrap_err().contains("does not run"));
    assert!(into(&[now("w", "web", true)]).unwrap_err().contains("has no container"));
    let others = [now("shop-db-2", "db", true), now("shop-db-3", "db", true)];
    assert!(into(&others).unwrap_err().contains("has 2 containers"));
    let mut once = now("shop-db-run-1", "db", true);
    once.labels.insert("com.docker.compose.oneoff".to_owned(), "True".to_owned());
    assert!(into(&[once]).is_err());
}

proptest::proptest! {
    #[test]
    fn nothing_younger_than_the_time_and_nothing_unproved_is_ever_picked(
        made in proptest::collection::vec((0u8..5, 0i64..20, 0u8..6, proptest::bool::ANY), 1..40),
        then in 0i64..20,
    ) {
        let standings =
            [Standing::Proved, Standing::Suspicious, Standing::Incomplete, Standing::Unproved, Standing::Failed];
        let history: Vec<_> = made.iter().enumerate().map(|(number, (volume, time, standing, drilled))| {
            let time = Timestamp::from_second(*time).unwrap().to_string();
            let mut known = of(u8::try_from(number).unwrap(), &time, &[&format!("v{volume}")]);
            known.standing = *standings.get(usize::from(*standing)).unwrap_or(&Standing::Proved);
            known.drill = drilled.then_some(Outcome::Failed).filter(|_| number % 3 == 0);
            known
        }).collect();
        let as_of = Timestamp::from_second(then).unwrap();
        let Ok(choice) = choose(&history, &Wish { as_of, ..wish("shop") }) else { return Ok(()) };
        for pick in &choice.volumes {
            let counted = |known: &&Recorded| {
                known.snapshot.sources[0].volume.as_ref().unwrap().name == pick.recorded.name
                    && known.snapshot.time <= as_of && why_not(known).is_none()
            };
            let newest = history.iter().filter(counted).map(|known| known.snapshot.time).max();
            proptest::prop_assert_eq!(Some(pick.from.time), newest);
        }
    }
}

#[test]
fn an_old_dump_of_a_container_that_is_gone_never_goes_over_a_newer_one() {
    let mut replica = service("db", &[]);
    (replica.container, replica.id) = ("shop-old-1".to_owned(), "id-old".to_owned());
    let old = told(recorded(1, "2026-10-01T02:00:00Z"), vec![replica.clone()]);
    let old = dumped(old, "old", DumpKind::Mysql);
    let new = told(recorded(2, "2026-11-28T02:00:00Z"), vec![service("db", &[])]);
    let history = [old.clone(), dumped(new, "db", DumpKind::Mysql)];
    let choice = choose(&history, &wish("shop")).unwrap();
    let kept: Vec<_> = choice.dumps.iter().map(|dump| dump.container.as_str()).collect();
    assert_eq!(kept, ["shop-db-1"]);
    assert!(choice.left[0].what.contains("shop-old-1"), "{:?}", choice.left);
    // Both were there then, and one container is there now.
    let both = told(recorded(3, "2026-11-29T02:00:00Z"), vec![service("db", &[]), replica]);
    let choice = choose(&[old, dumped(both, "db", DumpKind::Mysql)], &wish("shop")).unwrap();
    assert_eq!(choice.dumps.len(), 2);
    let problems = databases(&choice, &[now("shop-db-1", "db", true)]).unwrap_err();
    assert!(problems[0].contains("two dumps would go into shop-db-1"), "{problems:?}");
}

#[test]
fn a_volume_that_was_first_saved_later_is_left_and_not_forgotten() {
    let then = told(
        of(1, "2026-11-28T02:00:00Z", &["uploads"]),
        vec![service("web", &[("uploads", "/u")]), service("db", &[("data", "/d")])],
    );
    let history = [then, of(2, "2026-12-01T02:00:00Z", &["data"])];
    let choice = choose(&history, &wish("shop")).unwrap();
    assert_eq!(choice.left.len(), 1, "{:?}", choice.left);
    assert_eq!(choice.left[0].what, "volume data");
}

#[test]
fn a_volume_that_was_no_more_of_the_project_is_not_replaced() {
    let old = of(1, "2026-11-20T02:00:00Z", &["old"]);
    let new =
        told(of(2, "2026-11-29T02:00:00Z", &["data"]), vec![service("web", &[("data", "/d")])]);
    let choice = choose(&[old, new], &wish("shop")).unwrap();
    let volumes = choice.volumes.iter().map(|pick| (pick.recorded.name.clone(), there(pick)));
    let facts = Facts { volumes: volumes.collect(), ..Facts::default() };
    let (found, notes) =
        steps(&choice, &facts, &Rules { replace: true, ..Rules::default() }).unwrap();
    assert_eq!((found.len(), found[0].target.as_str()), (1, "data"));
    assert!(notes[0].contains("left alone"), "{notes:?}");
}

#[test]
fn a_path_that_is_only_mounted_is_no_volume() {
    let mut known = of(1, "2026-11-28T02:00:00Z", &["data", "other"]);
    known.snapshot.sources[1].volume.as_mut().unwrap().kind = "bind".to_owned();
    let choice = choose(&[known], &wish("shop")).unwrap();
    assert_eq!(picked(&choice), [("data".to_owned(), 1)]);
}

#[test]
fn what_comes_of_two_machines_of_one_name_is_told() {
    let on = |mut known: Recorded, engine: &str| {
        known.snapshot.tags.insert(ENGINE_TAG.to_owned(), engine.to_owned());
        known
    };
    let one = on(of(1, "2026-11-29T02:00:00Z", &["shop_db"]), "E1");
    let other = on(of(2, "2026-11-29T03:00:00Z", &["shop_web"]), "E2");
    let notes = |history: &[Recorded]| choose(history, &wish("shop")).unwrap().notes.join("\n");
    let told = notes(&[one.clone(), other.clone()]);
    assert!(told.contains("chores.engine=E1: shop_db; chores.engine=E2: shop_web"), "{told}");
    assert!(!notes(&[one, on(other, "E1")]).contains("machines"));
}
