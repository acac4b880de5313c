use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::sink::stats::Failing;
use crate::source::{Parse, SourceId, SourceKey, SourceMeta};
use crate::wal::Totals;

fn source(name: &str, ended: Option<i64>) -> SourceState {
    SourceState {
        meta: Arc::new(SourceMeta {
            key: SourceKey(format!("engine:{name}")),
            origin: Origin::Engine {
                id: name.to_owned(),
                container: format!("{name} \"quoted\""),
                image: "i".to_owned(),
                project: None,
                service: None,
            },
            host: "h".to_owned(),
            fields: BTreeMap::new(),
            sinks: None,
            parse: Parse::None,
        }),
        cursor: None,
        next_seq: 10,
        end: 0,
        last_ts: Some(5 * SECOND),
        ended,
        totals: Totals { records: 10, bytes: 100, gaps: 1, lost_lines: 7, ..Totals::default() },
    }
}

fn snapshot() -> Snapshot {
    let mut log = LogStats { bytes: 4096, segments: 1, ..LogStats::default() };
    log.sources.insert(SourceId(0), source("a", None));
    log.forgotten = Totals { records: 1000, ..Totals::default() };
    let report = SinkReport {
        records: 9,
        lag_bytes: 50,
        dropped: 4,
        skipped: 5,
        gaps: 2,
        delivered_ts: 40 * SECOND,
        ..SinkReport::default()
    };
    Snapshot {
        now: 100 * SECOND,
        started: SECOND,
        log,
        sinks: vec![("archive".to_owned(), report)],
        followed: vec![Way::Api, Way::Direct, Way::Api],
        engine_away: None,
        files: FilesCounts { refused: 3, outside: 2 },
        rotate: RotateCounts {
            collapsed: 6,
            removed_bytes: 7,
            draining: 1,
            ..RotateCounts::default()
        },
    }
}

/// The lines of `text` that begin with `name`, comments left out.
fn values(text: &str, name: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.map(str::to_owned).collect()
}

#[test]
fn sums_sources_and_sinks_have_their_numbers() {
    let text = text(snapshot());
    for (name, wanted) in [
        ("logship_records_total", "logship_records_total 1010"),
        ("logship_lost_lines_total", "logship_lost_lines_total 7"),
        ("logship_wal_bytes", "logship_wal_bytes 4096.0"),
        ("logship_disk_full", "logship_disk_full 0.0"),
        ("logship_sources ", "logship_sources 1.0"),
        (r#"logship_containers{way="api"}"#, r#"logship_containers{way="api"} 2.0"#),
        ("logship_engine_away", "logship_engine_away 0.0"),
        ("logship_descriptors_exhausted", "logship_descriptors_exhausted 0.0"),
        ("logship_files_refused_total", "logship_files_refused_total 3"),
        ("logship_links_refused_total", "logship_links_refused_total 2"),
        (
            "logship_source_records_total",
            r#"logship_source_records_total{source="engine:a",name="a \"quoted\"",type="engine"} 10"#,
        ),
        ("logship_sink_records_total", r#"logship_sink_records_total{sink="archive"} 9"#),
        (
            "logship_sink_dropped_records_total",
            r#"logship_sink_dropped_records_total{sink="archive"} 4"#,
        ),
        (
            "logship_sink_skipped_records_total",
            r#"logship_sink_skipped_records_total{sink="archive"} 5"#,
        ),
        ("logship_sink_gaps_total", r#"logship_sink_gaps_total{sink="archive"} 2"#),
        ("logship_sink_lag_seconds", r#"logship_sink_lag_seconds{sink="archive"} 60.0"#),
        ("logship_sink_failing", r#"logship_sink_failing{sink="archive"} 0.0"#),
    ] {
        assert_eq!(values(&text, name), [wanted], "{text}");
    }
    assert!(text.contains("# TYPE logship_records counter\n"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_sink_that_has_everything_does_not_lag() {
    let mut snapshot = snapshot();
    snapshot.sinks[0].1.lag_bytes = 0;
    let text = text(snapshot);
    assert_eq!(
        values(&text, "logship_sink_lag_seconds"),
        [r#"logship_sink_lag_seconds{sink="archive"} 0.0"#]
    );
}

#[test]
fn ended_sources_lose_their_numbers_and_there_is_a_bound() {
    let mut snapshot = snapshot();
    snapshot.now = SERIES_AGE_MAX + 100;
    snapshot.log.sources.insert(SourceId(1), source("young", Some(101)));
    snapshot.log.sources.insert(SourceId(2), source("old", Some(100)));
    let shown =
        |snapshot: &Snapshot| values(&text(snapshot.clone()), "logship_source_records_total");
    assert_eq!(shown(&snapshot).len(), 2);
    for number in 3..SOURCES_SHOWN_MAX as u32 + 10 {
        let name = number.to_string();
        snapshot.log.sources.insert(SourceId(number), source(&name, None));
    }
    assert_eq!(shown(&snapshot).len(), SOURCES_SHOWN_MAX);
    let text = text(snapshot.clone());
    assert_eq!(values(&text, "logship_sources_hidden"), ["logship_sources_hidden 10.0"]);
    // The sums count all of them.
    let records = 1000 + 10 * snapshot.log.sources.len();
    assert_eq!(
        values(&text, "logship_records_total"),
        [format!("logship_records_total {records}")]
    );
}

#[test]
fn every_ailment_is_a_sentence() {
    let mut snapshot = snapshot();
    assert_eq!(ailments(&snapshot), [""; 0]);
    let failing = |since| Some(Failing { since, error: "connection refused".to_owned() });
    snapshot.sinks[0].1.failing = failing(41 * SECOND);
    assert_eq!(ailments(&snapshot), [""; 0]);
    snapshot.sinks[0].1.failing = failing(40 * SECOND);
    snapshot.log.pressure = Pressure::DiskFull;
    snapshot.log.failed = Some("no such device".to_owned());
    snapshot.engine_away = Some(EngineAway { since: 0, error: "no socket".to_owned() });
    assert_eq!(
        ailments(&snapshot),
        [
            "the log has failed: no such device",
            "the disk of the log is full",
            "the engine has not answered for 100 s: no socket",
            "the sink archive has failed for 60 s: connection refused",
        ]
    );
}
