use super::*;

fn at(second: i64) -> Option<Timestamp> {
    Some(Timestamp::from_second(second).unwrap())
}

#[test]
fn what_is_known_is_written_and_what_is_not_is_left_out() {
    let save = RunNumbers {
        is_running: false,
        next: at(2000),
        last_start: at(1000),
        last_end: at(1060),
        last_result: Some("good".to_owned()),
        failures: 0,
    };
    let web = SourceNumbers {
        name: "web \"quoted\"".to_owned(),
        last_success: at(1000),
        save,
        ..SourceNumbers::default()
    };
    let never = SourceNumbers {
        name: "never".to_owned(),
        is_overdue: true,
        save: RunNumbers { is_running: true, failures: 3, ..RunNumbers::default() },
        ..SourceNumbers::default()
    };
    let channel = ChannelCounts {
        channel: "slack".to_owned(),
        dropped: 4,
        failing: Some("it is away".to_owned()),
        ..ChannelCounts::default()
    };
    let text = text(Numbers {
        started: Timestamp::from_second(500).unwrap(),
        ailments: 1,
        sources: vec![web, never],
        check: Some(RunNumbers {
            last_result: Some("not good".to_owned()),
            ..RunNumbers::default()
        }),
        stored_bytes: Some(12),
        channels: vec![channel],
        ..Numbers::default()
    });
    for line in [
        "backup_start_time_seconds 500.0",
        "backup_ailments 1.0",
        "backup_sources 2.0",
        "backup_source_last_success_time_seconds{source=\"web \\\"quoted\\\"\"} 1000.0",
        "backup_source_overdue{source=\"never\"} 1.0",
        "backup_source_next_run_time_seconds{source=\"web \\\"quoted\\\"\",run=\"save\"} 2000.0",
        "backup_source_last_run_duration_seconds{source=\"web \\\"quoted\\\"\",run=\"save\"} 60.0",
        "backup_source_last_result{source=\"web \\\"quoted\\\"\",run=\"save\",result=\"good\"} 1.0",
        "backup_source_running{source=\"never\",run=\"save\"} 1.0",
        "backup_source_failures{source=\"never\",run=\"save\"} 3.0",
        "backup_repository_last_result{run=\"check\",result=\"not good\"} 1.0",
        "backup_stored_bytes 12.0",
        "backup_notices_dropped_total{channel=\"slack\"} 4",
        "backup_notices_failing{channel=\"slack\"} 1.0",
        "# EOF",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is not in:\n{text}");
    }
    for absent in ["source_added_bytes", "{source=\"never\",run=\"drill\"", "backup_snapshots"] {
        assert!(!text.contains(absent), "{absent} is in:\n{text}");
    }
    assert!(!text.contains("last_success_time_seconds{source=\"never\""), "{text}");
}

#[test]
fn many_sources_are_counted_and_not_all_shown() {
    let sources = (0..SOURCES_SHOWN_MAX + 7)
        .map(|number| SourceNumbers { name: number.to_string(), ..SourceNumbers::default() });
    let text = text(Numbers { sources: sources.collect(), ..Numbers::default() });
    assert!(text.contains("\nbackup_sources_hidden 7.0\n"), "{text}");
    assert_eq!(text.matches("backup_source_overdue{").count(), SOURCES_SHOWN_MAX);
}
