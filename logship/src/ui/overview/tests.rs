use std::sync::Arc;

use super::*;
use crate::source::{Parse, SourceKey, SourceMeta};
use crate::wal::LogState;

fn state(name: &str, end: u64, last_ts: i64, ended: Option<i64>) -> SourceState {
    let meta = SourceMeta {
        key: SourceKey(format!("file:{name}-{end}")),
        origin: Origin::File { path: name.to_owned(), volume: None, inode: end },
        host: "h".to_owned(),
        fields: BTreeMap::new(),
        sinks: None,
        parse: Parse::None,
    };
    SourceState {
        meta: Arc::new(meta),
        cursor: None,
        next_seq: 2,
        end,
        last_ts: Some(last_ts),
        ended,
        totals: Totals { records: 2, bytes: 20, gaps: 1, lost_lines: 5, ..Totals::default() },
    }
}

fn glance(states: Vec<SourceState>) -> Glance {
    let sources = (0..).map(crate::source::SourceId).zip(states).collect();
    let place = |frame| Position { frame, record: 0 };
    Glance {
        written: place(100),
        state: LogState { sources, ..LogState::default() },
        sinks: vec![
            ("fast".to_owned(), Role::Mandatory, place(100)),
            ("slow".to_owned(), Role::Optional { bytes_max: 1 }, place(40)),
        ],
        ..Glance::default()
    }
}

#[test]
fn sources_of_one_name_are_one_and_know_who_lacks_them() {
    let states =
        vec![state("/a", 40, 1, Some(9)), state("/b", 90, 2, None), state("/a", 30, 5, None)];
    let overview = of_glance(&glance(states), Vec::new());
    let told: Vec<_> = overview
        .sources
        .iter()
        .map(|it| (it.name.as_str(), it.records, it.lost_lines, it.is_over, it.behind.clone()))
        .collect();
    assert_eq!(told, [("/a", 4, 10, false, vec![]), ("/b", 2, 5, false, vec!["slow".to_owned()])]);
    assert_eq!(overview.sources[0].last.as_deref(), Some("1970-01-01T00:00:00.000000005Z"));
    let lags: Vec<_> = overview.sinks.iter().map(|it| (it.lag_bytes, it.is_optional)).collect();
    assert_eq!(lags, [(0, Some(false)), (50, Some(true))]);
}

#[test]
fn a_source_that_a_sink_does_not_get_is_not_missing_there() {
    let mut other = state("/a", 90, 1, None);
    let meta = SourceMeta { sinks: Some(vec!["fast".to_owned()]), ..other.meta.as_ref().clone() };
    other.meta = Arc::new(meta);
    let overview = of_glance(&glance(vec![other]), Vec::new());
    assert!(overview.sources[0].behind.is_empty());
}

#[test]
fn only_the_youngest_sources_are_listed() {
    let count = SOURCES_MAX + 3;
    let states = (0..count).map(|at| state(&format!("/{at:04}"), 1, at as i64, None)).collect();
    let overview = of_glance(&glance(states), Vec::new());
    assert_eq!((overview.sources.len(), overview.sources_hidden), (SOURCES_MAX, 3));
    assert_eq!(overview.sources[0].name, "/0003");
}
