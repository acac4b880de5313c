use chores_common::engine::MountKind;

use super::*;

fn mount(source: &str, destination: &str, read_write: bool) -> Mount {
    Mount {
        kind: MountKind::Volume,
        name: None,
        source: source.into(),
        destination: destination.into(),
        driver: None,
        read_write,
    }
}

fn container(name: &str, mounts: Vec<Mount>, labels: &[(&str, &str)]) -> Container {
    Container {
        id: format!("id-{name}"),
        name: name.to_owned(),
        running: true,
        mounts,
        labels: labels
            .iter()
            .map(|(key, value)| (format!("chores.logship.{key}"), (*value).to_owned()))
            .collect(),
        ..Container::default()
    }
}

fn names(writers: &[Writer]) -> Vec<&str> {
    writers.iter().map(|writer| writer.name.as_str()).collect()
}

#[test]
fn writers_are_those_that_have_the_place_mounted_writable() {
    let running = vec![
        container("bind", vec![mount("/srv", "/data", true)], &[]),
        container("other", vec![mount("/v/other", "/logs", true)], &[]),
        container("reader", vec![mount("/v/logs", "/logs", false)], &[]),
        container("self", vec![mount("/v/logs", "/in/logs", true)], &[]),
        container("web", vec![mount("/v/logs", "/usr/local/logs", true)], &[]),
    ];
    let on_host = Surroundings { own: None, running: running.clone() };
    let found = on_host.writers(Path::new("/v/logs/app.log"));
    assert_eq!(names(&found), ["self", "web"]);
    assert_eq!(names(&on_host.writers(Path::new("/srv/x/app.log"))), ["bind"]);
    assert_eq!(names(&on_host.writers(Path::new("/v/logs2/app.log"))), [""; 0]);

    // In a container, its own mounts say where a path is.
    let own = running.iter().find(|one| one.name == "self").cloned();
    let inside = Surroundings { own, running };
    assert_eq!(names(&inside.writers(Path::new("/in/logs/a/app.log"))), ["web"]);
    assert_eq!(names(&inside.writers(Path::new("/v/logs/app.log"))), [""; 0]);
}

#[test]
fn labels_refine_the_policy_and_each_container_is_told_its_own_way() {
    let with = |name, labels: &[(&str, &str)]| {
        let mounts = vec![mount("/v/logs", "/logs", true)];
        Surroundings { own: None, running: vec![container(name, mounts, labels)] }
            .writers(Path::new("/v/logs/app.log"))
            .remove(0)
    };
    let web = with("web", &[("rotate", "size=1MB,keep=3"), ("reopen", "signal:HUP")]);
    let job = with("job", &[("reopen", "none")]);
    let plain = with("plain", &[]);
    let all = [web.clone(), job.clone(), plain.clone()];
    let said = wishes(&all).unwrap();
    assert_eq!((said.size, said.keep), (Some(1_000_000), Some(3)));
    assert_eq!(said.reopen, None, "how one is told is no matter of the others");
    let told = tellings(&all, &Reopen::Signal("USR1"));
    let told: Vec<String> = told.iter().map(|(w, way)| format!("{} {way}", w.name)).collect();
    assert_eq!(told, ["web signal:HUP", "plain signal:USR1"]);

    let other = with("api", &[("rotate", "size=2MB,keep=30")]);
    let both = [web.clone(), other];
    assert_eq!(wishes(&both), Err(("web".to_owned(), "api".to_owned())));
    assert_eq!(keep(&both).count, Some(30), "nothing goes that one of them keeps");
    assert_eq!(wishes(&[plain]), Ok(Wishes::default()));
    assert_eq!(tellings(&[job, web], &Reopen::None).len(), 1);
}

#[test]
fn a_program_that_one_label_names_is_started_in_no_other_container() {
    let with = |name, labels: &[(&str, &str)]| {
        let mounts = vec![mount("/v/logs", "/logs", true)];
        container(name, mounts, labels)
    };
    let running = vec![with("a", &[]), with("b", &[("reopen", "exec:/logs/x.sh")])];
    let all = Surroundings { own: None, running }.writers(Path::new("/v/logs/app.log"));
    let operator = Wishes::default();
    let policy = wishes(&all).unwrap().or(&operator).policy();
    assert_eq!(policy.reopen, Reopen::None);
    let told = tellings(&all, &policy.reopen);
    let told: Vec<String> = told.iter().map(|(w, way)| format!("{} {way}", w.name)).collect();
    assert_eq!(told, ["b exec:/logs/x.sh"]);
}
