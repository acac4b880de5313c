use super::*;

fn level_of(verbose: u8, quiet: u8) -> LevelFilter {
    level(Verbosity { verbose, quiet })
}

#[test]
fn each_v_says_more_and_each_q_says_less() {
    assert_eq!(level_of(0, 0), LevelFilter::INFO);
    assert_eq!(level_of(1, 0), LevelFilter::DEBUG);
    assert_eq!(level_of(255, 0), LevelFilter::TRACE);
    assert_eq!(level_of(0, 1), LevelFilter::WARN);
    assert_eq!(level_of(0, 2), LevelFilter::ERROR);
    assert_eq!(level_of(0, 255), LevelFilter::OFF);
    assert_eq!(level_of(1, 1), LevelFilter::INFO);
}

#[test]
fn foreign_libraries_are_heard_from_warnings_upwards_until_everything_is_asked_for() {
    let would_say = |verbose, target, level| {
        targets(Verbosity { verbose, quiet: 0 }).would_enable(target, &level)
    };
    assert!(would_say(0, "backup::create", tracing::Level::INFO));
    assert!(!would_say(0, "backup::create", tracing::Level::DEBUG));
    assert!(would_say(0, AUDIT, tracing::Level::INFO));
    assert!(would_say(1, "chores_common::object", tracing::Level::DEBUG));
    assert!(!would_say(1, "hyper_util::client", tracing::Level::INFO));
    assert!(would_say(1, "hyper_util::client", tracing::Level::WARN));
    assert!(would_say(2, "hyper_util::client", tracing::Level::TRACE));
}

#[test]
fn the_format_follows_the_terminal_unless_it_is_forced() {
    assert!(!is_json(LogFormat::Auto, true));
    assert!(is_json(LogFormat::Auto, false));
    assert!(!is_json(LogFormat::Text, false));
    assert!(is_json(LogFormat::Json, true));
}

#[test]
fn the_format_is_read_from_its_name() {
    assert_eq!("json".parse(), Ok(LogFormat::Json));
    let error = "xml".parse::<LogFormat>().unwrap_err();
    assert_eq!(error, "xml is no log format; use auto, text or json");
}
