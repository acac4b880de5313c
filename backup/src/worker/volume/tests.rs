use chores_common::engine::Mount;

use super::*;

fn recorded() -> SourceVolume {
    SourceVolume {
        kind: "volume".to_owned(),
        name: "data".to_owned(),
        driver: "local".to_owned(),
        labels: [("team".to_owned(), "web".to_owned())].into(),
        options: [("device".to_owned(), "/srv/data".to_owned())].into(),
    }
}

#[test]
fn the_same_volume_is_made_as_it_was() {
    let new = new_volume("data", Some(&recorded()));
    assert_eq!(new.name.as_deref(), Some("data"));
    assert_eq!(new.driver.as_deref(), Some("local"));
    assert_eq!((new.labels, new.options), (recorded().labels, recorded().options));
}

#[test]
fn a_volume_of_another_name_does_not_lead_to_the_old_data() {
    let bind = SourceVolume { kind: "bind".to_owned(), ..recorded() };
    for (name, recorded) in [("other", Some(recorded())), ("data", Some(bind)), ("data", None)] {
        let new = new_volume(name, recorded.as_ref());
        let plain = NewVolume { name: Some(name.to_owned()), ..NewVolume::default() };
        assert_eq!(new, plain);
    }
}

#[test]
fn only_running_containers_with_the_volume_use_it() {
    let mount = Mount {
        kind: MountKind::Volume,
        name: Some("data".to_owned()),
        source: "/var/lib/x".into(),
        destination: "/data".into(),
        driver: None,
        read_write: true,
    };
    let running = Container { running: true, mounts: vec![mount], ..Container::default() };
    assert!(uses(&running, "data"));
    assert!(!uses(&running, "other"));
    assert!(!uses(&Container { running: false, ..running }, "data"));
}

#[test]
fn who_writes_where_a_volume_leads_to_uses_it_under_any_name() {
    let options = |device: &str| {
        [("type", "none"), ("o", "bind,rw"), ("device", device)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    };
    assert_eq!(device_of(&options("/srv/data")), Some("/srv/data"));
    assert_eq!(device_of(&options("nas:/export")), None);
    assert_eq!(device_of(&BTreeMap::new()), None);
    let other = Volume {
        name: "other".to_owned(),
        driver: "local".to_owned(),
        labels: BTreeMap::new(),
        options: options("/srv/data"),
        mountpoint: "/var/lib/x".into(),
    };
    let mount = |kind, name: Option<&str>, source: &str| Mount {
        kind,
        name: name.map(str::to_owned),
        source: source.into(),
        destination: "/data".into(),
        driver: None,
        read_write: true,
    };
    let leads = |mount: Mount| {
        let running = Container { running: true, mounts: vec![mount], ..Container::default() };
        leads_to(&running, "/srv/data", std::slice::from_ref(&other))
    };
    assert!(leads(mount(MountKind::Volume, Some("other"), "/var/lib/x")));
    assert!(leads(mount(MountKind::Bind, None, "/srv/data/below")));
    assert!(leads(mount(MountKind::Bind, None, "/srv")));
    assert!(!leads(mount(MountKind::Bind, None, "/srv/data2")));
    assert!(!leads(mount(MountKind::Volume, Some("unknown"), "/var/lib/x")));
    assert!(!leads(Mount { read_write: false, ..mount(MountKind::Bind, None, "/srv/data") }));
}
