use std::fs;

use super::*;

fn patterns(patterns: &[&str], exclude: &[&str]) -> Patterns {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Patterns::new(&owned(patterns), &owned(exclude)).unwrap()
}

#[test]
fn rotated_names_lead_back_to_the_name_that_is_written() {
    let cases = [
        ("app.log.1", "app.log"),
        ("app.log.12.gz", "app.log"),
        ("app.log-20261124", "app.log"),
        ("app.log-20261124-1637000000.gz", "app.log"),
        ("app.log.2026-11-24T10:20:30Z", "app.log"),
        ("app.log.2026-11-24.1", "app.log"),
        ("app-20261124.log", "app.log"),
        ("app-20261124.log.zst", "app.log"),
        ("app.1.log", "app.log"),
        ("app.log.old", "app.log"),
        ("app.log.gz", "app.log"),
        ("REPORT-1", "REPORT"),
        ("catalina.2026-11-24.log", "catalina.log"),
    ];
    for (name, base) in cases {
        assert!(
            bases(OsStr::new(name)).contains(&OsString::from(base)),
            "{name}: {:?}",
            bases(OsStr::new(name))
        );
    }
}

#[test]
fn other_names_are_nobodys_rotation() {
    for name in ["app.log", "app.log.err", "app", ".1", "1", "-1", "old", "REPORT", "app.log."] {
        assert_eq!(bases(OsStr::new(name)), Vec::<OsString>::new(), "{name}");
    }
}

#[test]
fn a_base_must_be_meant() {
    let meant = patterns(&["/logs/*.log"], &["/logs/secret*"]);
    let base = |path: &str| meant.base_of(Path::new(path));
    assert_eq!(base("/logs/a.log.1"), Some("/logs/a.log".into()));
    assert_eq!(base("/logs/a-1.log"), Some("/logs/a.log".into()));
    assert_eq!(base("/logs/a.txt.1"), None);
    assert_eq!(base("/logs/secret.log.1"), None);
    assert_eq!(base("/logs/a.log"), None);
}

#[test]
fn a_name_like_a_rotated_one_is_a_file_of_its_own_where_its_base_is_not() {
    let meant = patterns(&["/logs/*"], &["/logs/secret*"]);
    let is_written = |name: &str, beside: &[&str]| {
        let names = beside.iter().chain([&name]).map(OsStr::new).collect();
        meant.is_written(&Path::new("/logs").join(name), &names)
    };
    assert!(is_written("worker-1.log", &["worker-2.log"]));
    assert!(!is_written("worker-1.log", &["worker.log"]));
    assert!(is_written("app.log", &["app.log.1"]));
    assert!(!is_written("app.log.1", &["app.log"]));
    // One of several that it may be of.
    assert!(!is_written("app-1.log.2", &["app-1.log"]));
    assert!(!is_written("app.log.gz", &[]) && !is_written("secret.log", &[]));
}

#[test]
fn patterns_that_cannot_work_are_refused_with_the_reason() {
    for (pattern, reason) in [
        ("logs/*.log", "begin with /"),
        ("/logs/", "append *"),
        ("/logs/../x", ". or .."),
        ("/logs/{a/b,c}.log", "between { and }"),
        ("/logs/[a.log", "unclosed character class"),
    ] {
        let error = Patterns::new(&[pattern.to_owned()], &[]).unwrap_err().to_string();
        assert!(error.contains(pattern) && error.contains(reason), "{error}");
    }
}

#[test]
fn listings_have_the_directories_that_matter_and_no_others() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for directory in ["a/logs/deep/deeper", "b/logs", "c/other"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    for file in ["a/logs/x.log", "a/logs/deep/deeper/y.log", "b/logs/z.log", "c/other/w.log"] {
        fs::write(at(file), "").unwrap();
    }
    std::os::unix::fs::symlink(at("a"), at("a/logs/deep/loop")).unwrap();
    let list = |pattern: &str| {
        let pattern = at(pattern).to_str().unwrap().to_owned();
        let listing = Patterns::new(&[pattern], &[]).unwrap().list();
        let shown = |path: &PathBuf| path.strip_prefix(root.path()).unwrap().to_owned();
        listing.directories.keys().map(shown).collect::<Vec<_>>()
    };
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert_eq!(list("a/logs/x.log"), paths(&["a/logs"]));
    assert_eq!(list("*/logs/*.log"), paths(&["", "a/logs", "b/logs"]));
    assert_eq!(list("a/**/*.log"), paths(&["a", "a/logs", "a/logs/deep", "a/logs/deep/deeper"]));
    assert_eq!(list("missing/*.log"), paths(&[]));
    let all = patterns(&[at("a/**").to_str().unwrap()], &[]);
    assert!(all.is_meant(&at("a/logs/x.log")) && !all.is_meant(&at("b/logs/z.log")));
}

#[test]
fn what_an_earlier_source_takes_is_not_meant_and_what_it_leaves_out_is() {
    let earlier = patterns(&["/logs/*.log"], &["/logs/b.log"]);
    let later = patterns(&["/logs/**/*"], &[]).after(vec![earlier]);
    let is_meant = |path: &str| later.is_meant(Path::new(path));
    assert!(!is_meant("/logs/a.log"));
    assert!(is_meant("/logs/b.log") && is_meant("/logs/a.txt"));
}

#[test]
fn the_root_of_a_pattern_is_what_stands_before_its_first_wildcard() {
    for (pattern, directory, expected) in [
        ("/logs/*.log", "/logs", true),
        ("/logs/*.log", "/logs/a", false),
        ("/logs/*.log", "/", false),
        ("/logs/app.log", "/logs", true),
        ("/logs/*/x/*.log", "/logs/a/x", true),
        ("/logs/*/x/*.log", "/logs/a", false),
        ("/logs/*/x/*.log", "/logs/a/y", false),
        ("/logs/**/*.log", "/logs", true),
        ("/logs/**/*.log", "/logs/a/b/c", true),
        ("/logs/**", "/logs/a/b/c", true),
        ("/logs/**/x/**/*.log", "/logs/x", true),
        ("/logs/**/x/**/*.log", "/logs/a/x/b/x/c", true),
        ("/logs/**/x/**/*.log", "/logs/a/b", false),
        ("/logs/**", "/log", false),
        ("/*.log", "/", true),
    ] {
        let pattern = Pattern::new(pattern).unwrap();
        assert_eq!(pattern.looks_into(Path::new(directory)), expected, "{pattern:?} {directory}");
    }
}

#[test]
fn directories_behind_links_are_listed_only_inside_of_the_root() {
    let top = tempfile::tempdir().unwrap();
    let at = |path: &str| top.path().join(path);
    fs::create_dir_all(at("logs/a")).unwrap();
    fs::create_dir(at("secret")).unwrap();
    fs::write(at("secret/x.log"), "secret").unwrap();
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, at(name)).unwrap();
    link("a", "logs/b");
    link("../secret", "logs/c");
    link("../secret/x.log", "logs/d");
    link("logs", "as-written");
    for root in ["logs", "as-written"] {
        let pattern = at(root).join("*/*.log").to_str().unwrap().to_owned();
        let meant = Patterns::new(&[pattern], &[]).unwrap();
        let listing = meant.list();
        let listed: Vec<_> = listing.directories.keys().cloned().collect();
        assert_eq!(listed, ["", "a", "b"].map(|name| at(root).join(name).join("")));
        let [(refused, why)] = listing.refused.as_slice() else { panic!("{listing:?}") };
        assert!(*refused == at(root).join("c") && reach::is_outside(why), "{why}");
        let error = meant.facts(&at(root).join("c/x.log")).unwrap_err();
        assert!(reach::is_outside(&error), "{error}");
    }
    // Each pattern answers for what it looks into, and for nothing that another one is for.
    let wide = [at("*.log"), at("logs/*.log")].map(|pattern| pattern.to_str().unwrap().to_owned());
    let wide = Patterns::new(&wide, &[]).unwrap();
    assert!(reach::is_outside(&wide.facts(&at("logs/d")).unwrap_err()));
    let deep = [at("**"), at("logs/*.log")].map(|pattern| pattern.to_str().unwrap().to_owned());
    assert!(Patterns::new(&deep, &[]).unwrap().facts(&at("logs/d")).unwrap().is_regular);
}

#[test]
fn a_pattern_that_matches_no_file_is_named() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path).to_str().unwrap().to_owned();
    fs::create_dir_all(at("logs/sub")).unwrap();
    fs::write(at("logs/a.log"), "").unwrap();
    fs::write(at("logs/b.txt"), "").unwrap();
    let all = ["logs/*.log", "logs/*.txt", "logs/*.lgo", "logs/sub", "logs/sub/*", "lgos/*.log"];
    let meant = Patterns::new(&all.map(at), &[at("logs/b*")]).unwrap();
    // An excluded file is one that is there; a directory is no file.
    let wanted = ["logs/*.lgo", "logs/sub", "logs/sub/*", "lgos/*.log"].map(at);
    assert_eq!(meant.unmatched(&meant.list()), wanted);
    // What cannot be looked into may have what is meant.
    let refused = vec![(root.path().join("logs/sub"), io::Error::from(io::ErrorKind::NotFound))];
    let listing = Listing { refused, ..meant.list() };
    assert_eq!(meant.unmatched(&listing), ["lgos/*.log"].map(at));
    assert_eq!(meant.unmatched(&Listing { is_cut: true, ..meant.list() }), [""; 0]);
}
