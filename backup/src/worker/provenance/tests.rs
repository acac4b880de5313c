use std::path::PathBuf;

use chores_common::engine::Mount;

use super::*;
use crate::snapshot::SourceVolume;

fn container(project: &str, service: &str, volumes: &[&str]) -> Container {
    let labels = [
        (COMPOSE_PROJECT, project),
        ("com.docker.compose.service", service),
        ("com.docker.compose.project.working_dir", "/srv/shop"),
        ("com.docker.compose.project.config_files", "/srv/shop/a.yaml,/srv/shop/b.yaml"),
    ];
    let mounts = volumes.iter().map(|name| Mount {
        kind: MountKind::Volume,
        name: Some((*name).to_owned()),
        source: PathBuf::new(),
        destination: PathBuf::from("/data"),
        driver: None,
        read_write: true,
    });
    Container {
        id: format!("id-{project}-{service}"),
        name: format!("{project}-{service}-1"),
        image_id: format!("sha256:{service}"),
        image_ref: format!("{service}:1"),
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        mounts: mounts.collect(),
        ..Container::default()
    }
}

fn volume(name: &str, project: Option<&str>) -> Source {
    let labels = project.map(|project| (COMPOSE_PROJECT.to_owned(), project.to_owned()));
    Source {
        path: format!("/volumes/{name}"),
        volume: Some(SourceVolume {
            kind: "volume".to_owned(),
            name: name.to_owned(),
            driver: "local".to_owned(),
            labels: labels.into_iter().collect(),
            options: BTreeMap::new(),
        }),
    }
}

#[test]
fn a_container_brings_all_of_its_project_and_no_other() {
    let containers = [
        container("shop", "web", &["uploads"]),
        container("shop", "db", &["data"]),
        container("blog", "web", &["posts"]),
    ];
    let ids = BTreeSet::from(["id-shop-web".to_owned()]);
    let found = stacks(&containers, &ids, &[]);
    assert_eq!(found.len(), 1);
    let stack = &found[0];
    assert_eq!((stack.project.as_str(), stack.directory.as_deref()), ("shop", Some("/srv/shop")));
    assert_eq!(stack.files, ["/srv/shop/a.yaml", "/srv/shop/b.yaml"]);
    let services: Vec<_> = stack.services.iter().map(|service| service.service.as_str()).collect();
    assert_eq!(services, ["db", "web"]);
    assert_eq!(stack.services[0].volumes, BTreeMap::from([("data".into(), "/data".into())]));
    let images = images_of(&containers, &ids, &found);
    assert_eq!(images.into_iter().collect::<Vec<_>>(), ["sha256:db", "sha256:web"]);
}

#[test]
fn a_volume_is_of_the_project_in_its_label_and_of_those_whose_containers_have_it() {
    let containers = [container("shop", "web", &["shared"]), container("blog", "web", &["posts"])];
    let names = |source: Source| {
        let found = stacks(&containers, &BTreeSet::new(), &[source]);
        found.into_iter().map(|stack| stack.project).collect::<Vec<_>>()
    };
    assert_eq!(names(volume("shared", None)), ["shop"]);
    assert_eq!(names(volume("shared", Some("blog"))), ["blog", "shop"]);
    assert_eq!(names(volume("gone", Some("gone"))), Vec::<String>::new());
    assert_eq!(names(volume("other", None)), Vec::<String>::new());
}

#[test]
fn runs_beside_a_service_and_endless_labels_are_left_out() {
    let mut once = container("shop", "migrate", &["uploads"]);
    once.labels.insert("com.docker.compose.oneoff".to_owned(), "True".to_owned());
    let mut odd = container("shop", "web", &["uploads"]);
    odd.labels.insert("com.docker.compose.project.config_files".to_owned(), "x".repeat(5000));
    let found = stacks(&[once, odd], &BTreeSet::new(), &[volume("uploads", Some("shop"))]);
    assert_eq!(found[0].services.len(), 1);
    assert_eq!(found[0].files, Vec::<String>::new());
    let many: Vec<_> =
        (0..300).map(|number| container("shop", &format!("s{number:03}"), &["uploads"])).collect();
    let found = stacks(&many, &BTreeSet::new(), &[volume("uploads", None)]);
    assert_eq!(found[0].services.len(), SERVICES_MAX);
}
