use super::*;
use crate::encode::tests::engine_meta;
use crate::source::SourceKey;

fn of_file(path: &str, inode: u64) -> Arc<SourceMeta> {
    let key = SourceKey(format!("file:1-{inode}-0"));
    let origin = Origin::File { path: path.to_owned(), volume: None, inode };
    Arc::new(SourceMeta { key, origin, ..engine_meta() })
}

fn of_container(name: &str) -> Arc<SourceMeta> {
    let mut meta = engine_meta();
    if let Origin::Engine { container, .. } = &mut meta.origin {
        *container = name.to_owned();
    }
    Arc::new(meta)
}

/// `path: first, second` of each.
fn shared_by(template: &str, sources: &[Arc<SourceMeta>]) -> Vec<String> {
    let template = Template::parse(template).unwrap();
    let shown = |one: SharedPath| format!("{}: {}, {}", one.path, one.first, one.second);
    shared(&template, sources.iter(), 0).into_iter().map(shown).collect()
}

#[test]
fn files_of_equal_names_in_two_directories_share_a_path_unless_it_has_theirs() {
    let files = [of_file("/a/app.log", 1), of_file("/b/app.log", 2), of_file("/c/app.log", 3)];
    assert_eq!(shared_by("/out/{name}", &files), ["/out/app.log: /a/app.log, /b/app.log"]);
    assert_eq!(shared_by("/out/{path}", &files), [""; 0]);
    // These two fall together all the same.
    let files = [of_file("/a_b/app.log", 1), of_file("/a/b_app.log", 2)];
    assert_eq!(shared_by("/out/{path}", &files), ["/out/a_b_app.log: /a_b/app.log, /a/b_app.log"]);
}

#[test]
fn a_stem_falls_together_with_others_and_with_a_container() {
    let sources = [of_file("/a/web.log", 1), of_file("/a/web.err", 2), of_container("web")];
    assert_eq!(shared_by("/out/{stem}", &sources), ["/out/web: /a/web.log, /a/web.err"]);
    assert_eq!(shared_by("/out/{stem}", &sources[1..]), ["/out/web: /a/web.err, web"]);
    assert_eq!(shared_by("/out/{container}", &sources[..2]), ["/out/none: /a/web.log, /a/web.err"]);
}

#[test]
fn what_is_meant_for_all_and_what_comes_anew_under_its_name_is_shared_in_silence() {
    let both = [of_file("/a/app.log", 1), of_file("/b/app.log", 2)];
    assert_eq!(shared_by("/out/all-{project}.log", &both), [""; 0]);
    let rotated = [of_file("/a/app.log", 1), of_file("/a/app.log", 2)];
    assert_eq!(shared_by("/out/{name}", &rotated), [""; 0]);
    assert_eq!(shared_by("/out/{name}", &[of_container("web"), of_container("web")]), [""; 0]);
}

#[test]
fn a_shared_path_is_told_once() {
    let mut paths = Paths::default();
    for _ in 0..2 {
        for meta in [of_file("/a/app.log", 1), of_file("/b/app.log", 2), of_file("/c/app.log", 3)] {
            paths.note(&"/out/app.log".into(), &meta);
        }
    }
    assert_eq!(paths.shared_told, 1);
}
