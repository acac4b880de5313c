use super::*;

#[test]
fn copies_stand_at_the_places_of_their_sources() {
    let source = Source { path: "/var/lib/app".to_owned(), volume: None };
    let mounts = mounts(&[(&source, "copy".to_owned())], true);
    assert_eq!(
        mounts,
        [MountSpec {
            source: MountSource::Volume("copy".to_owned()),
            target: "/var/lib/app".into(),
            read_only: true
        }]
    );
}
