use std::collections::BTreeMap;

use super::*;

fn running(name: &str) -> Container {
    Container {
        id: format!("{name:0>64}"),
        name: name.to_owned(),
        running: true,
        status: "running".to_owned(),
        started_at: Some("2026-11-29T10:00:00.5Z".to_owned()),
        ..Container::default()
    }
}

fn service(name: &str, needs: &str) -> Container {
    let labels = [
        ("com.docker.compose.project", "shop"),
        ("com.docker.compose.service", name),
        ("com.docker.compose.container-number", "1"),
        ("com.docker.compose.depends_on", needs),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Container { labels: BTreeMap::from(labels), ..running(name) }
}

fn request(pause: &[&str], stop: &[&str]) -> Request {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Request { pause: owned(pause), stop: owned(stop), ..Request::default() }
}

fn planned(request: &Request, containers: &[Container]) -> Result<Plan, PlanError> {
    let by_name =
        |name: &str| containers.iter().find(|known| known.name == name || known.id == name);
    let engine = ["172.17.0.9".parse().unwrap()];
    plan(request, by_name, Needs { own: Some("own"), engine: &engine })
}

#[test]
fn the_way_to_the_engine_stays_open() {
    let proxy = Container { addresses: vec!["172.17.0.9".parse().unwrap()], ..running("proxy") };
    for request in [request(&["proxy"], &[]), request(&[], &["proxy"])] {
        let refused = planned(&request, std::slice::from_ref(&proxy));
        assert_eq!(refused, Err(PlanError::Way("proxy".to_owned())));
    }
}

fn names(plan: &Plan) -> Vec<(&str, Action)> {
    plan.targets.iter().map(|target| (target.container.name.as_str(), target.action)).collect()
}

#[test]
fn what_needs_others_is_stopped_first_and_pauses_come_last() {
    let containers = [
        service("db", ""),
        service("cache", ""),
        service("web", "api:service_started:false"),
        service("api", "db:service_healthy:true,cache:service_started"),
        running("lone"),
    ];
    let plan = planned(&request(&["lone"], &["db", "cache", "api", "web"]), &containers).unwrap();
    let stop = Action::Stop;
    assert_eq!(
        names(&plan),
        [("web", stop), ("api", stop), ("db", stop), ("cache", stop), ("lone", Action::Pause)]
    );
}

#[test]
fn a_circle_and_a_stranger_of_the_same_name_keep_the_given_order() {
    let circle = [service("a", "b"), service("b", "a")];
    let plan = planned(&request(&[], &["a", "b"]), &circle).unwrap();
    assert_eq!(names(&plan), [("a", Action::Stop), ("b", Action::Stop)]);
    let mut other = service("b", "a");
    other.labels.insert("com.docker.compose.project".to_owned(), "blog".to_owned());
    let plan = planned(&request(&[], &["a", "b"]), &[service("a", ""), other]).unwrap();
    assert_eq!(names(&plan), [("a", Action::Stop), ("b", Action::Stop)]);
}

#[test]
fn only_what_runs_is_touched() {
    let stopped = Container { running: false, ..running("stopped") };
    let frozen = Container { paused: true, ..running("frozen") };
    let containers = [stopped, frozen, running("live")];
    let plan = planned(&request(&["frozen", "live", "live"], &["stopped"]), &containers).unwrap();
    assert_eq!(names(&plan), [("live", Action::Pause)]);
    let quiet: Vec<_> = plan.quiet.iter().map(|quiet| quiet.container.name.as_str()).collect();
    assert_eq!(quiet, ["stopped", "frozen"]);
}

#[test]
fn what_would_not_come_back_is_refused() {
    let name = || "live".to_owned();
    let swarm = BTreeMap::from([(SWARM_TASK.to_owned(), "x".to_owned())]);
    let refused = [
        (Container { paused: true, ..running("live") }, PlanError::Paused(name())),
        (Container { auto_remove: true, ..running("live") }, PlanError::AutoRemove(name())),
        (Container { labels: swarm, ..running("live") }, PlanError::Swarm(name())),
        (Container { restarting: true, ..running("live") }, PlanError::Restarting(name())),
        (Container { stop_timeout: Some(-1), ..running("live") }, PlanError::StopTimeout(name())),
        (Container { stop_timeout: Some(9999), ..running("live") }, PlanError::StopTimeout(name())),
        (Container { id: "own".to_owned(), ..running("live") }, PlanError::Own(name())),
    ];
    for (container, error) in refused {
        let answer = planned(&request(&[], &["live"]), &[container]);
        assert_eq!(answer, Err(error));
    }
    let both = planned(&request(&["live"], &["live"]), &[running("live")]);
    assert_eq!(both, Err(PlanError::Both(name())));
}

#[test]
fn a_container_has_the_time_to_end_that_it_was_given() {
    let timed = |stop_timeout| stop_seconds(&Container { stop_timeout, ..running("live") });
    assert_eq!(timed(None), Some(10));
    assert_eq!(timed(Some(0)), Some(0));
    assert_eq!(timed(Some(120)), Some(120));
    assert_eq!(timed(Some(-1)), None);
}

#[test]
fn commands_need_a_running_container() {
    let hook = |name: &str| (name.to_owned(), "sync".to_owned());
    let wanted =
        Request { pre: vec![hook("live")], post: vec![hook("live")], ..Request::default() };
    let plan = planned(&wanted, &[running("live")]).unwrap();
    assert_eq!((plan.pre.len(), plan.post.len()), (1, 1));
    let frozen = Container { paused: true, ..running("live") };
    assert_eq!(planned(&wanted, &[frozen]), Err(PlanError::NotRunning("live".to_owned())));
}

#[test]
fn a_replica_is_known_again_by_project_service_and_number() {
    let identity = Identity::of(&service("db", ""));
    let again = Container { id: "f".repeat(64), ..service("db", "") };
    assert!(identity.is_replaced_by(&again));
    let mut second = again.clone();
    second.labels.insert(COMPOSE_NUMBER.to_owned(), "2".to_owned());
    assert!(!identity.is_replaced_by(&second));
    assert!(!Identity::of(&running("db")).is_replaced_by(&running("db")));
}

#[test]
fn what_ran_once_beside_a_service_is_not_the_service() {
    let mut once = service("db", "");
    once.labels.insert(COMPOSE_ONEOFF.to_owned(), "True".to_owned());
    assert!(!Identity::of(&service("db", "")).is_replaced_by(&once));
    assert_eq!(Identity::of(&once).compose, None);
    once.labels.insert(COMPOSE_ONEOFF.to_owned(), "False".to_owned());
    assert!(Identity::of(&service("db", "")).is_replaced_by(&once));
}
