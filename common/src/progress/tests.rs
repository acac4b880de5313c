use super::*;

#[test]
fn many_threads_add_up() {
    let progress = Progress::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let progress = progress.clone();
            scope.spawn(move || {
                for _ in 0..1000 {
                    progress.add_files(1);
                    progress.add_bytes(10);
                    progress.add_bytes_stored(3);
                }
            });
        }
    });
    progress.set_totals(8000, 80_000);
    let expected = Snapshot {
        files: 4000,
        bytes: 40_000,
        bytes_stored: 12_000,
        files_total: Some(8000),
        bytes_total: Some(80_000),
    };
    assert_eq!(progress.snapshot(), expected);
}

#[test]
fn the_time_left_follows_from_the_average_rate() {
    let snapshot = Snapshot { bytes: 1000, bytes_total: Some(5000), ..Snapshot::default() };
    assert_eq!(snapshot.rate(Duration::from_secs(10)), 100);
    assert_eq!(snapshot.time_left(Duration::from_secs(10)), Some(Duration::from_secs(40)));
}

#[test]
fn nothing_is_divided_by_zero() {
    let snapshot = Snapshot::default();
    assert_eq!(snapshot.rate(Duration::ZERO), 0);
    assert_eq!(snapshot.time_left(Duration::ZERO), None);
    let started = Snapshot { bytes_total: Some(5), ..Snapshot::default() };
    assert_eq!(started.time_left(Duration::from_secs(1)), None);
}

#[test]
fn a_line_says_what_is_known() {
    let snapshot = Snapshot { files: 12, bytes: 2048, bytes_stored: 1024, ..Snapshot::default() };
    assert_eq!(
        text::line("backup of web", &snapshot, Duration::from_secs(2)),
        "backup of web: 12 files, 2.00 KiB, 1.00 KiB stored, 1.00 KiB/s"
    );
    let snapshot = Snapshot { files_total: Some(40), bytes_total: Some(4_194_304), ..snapshot };
    assert_eq!(
        text::line("backup of web", &snapshot, Duration::from_secs(2)),
        "backup of web: 12 of 40 files, 2.00 KiB of 4.00 MiB, 1.00 KiB stored, 1.00 KiB/s, \
         1h08m left"
    );
}

#[test]
fn a_json_line_has_the_documented_fields() {
    let snapshot = Snapshot { files: 1, bytes: 500, bytes_stored: 9, ..Snapshot::default() };
    assert_eq!(
        text::json("restore", &snapshot, Duration::from_secs(1)),
        r#"{"event":"progress","act":"restore","elapsed_ms":1000,"files":1,"files_total":null,"bytes":500,"bytes_total":null,"bytes_stored":9,"bytes_per_second":500,"seconds_left":null}"#
    );
}

#[test]
fn every_reporter_ends_when_it_is_told() {
    for output in [Output::Bar, Output::Lines, Output::Nothing] {
        let progress = Progress::new();
        let reporter = Reporter::start("test", &progress, output);
        progress.set_totals(1, 10);
        progress.add_bytes(20);
        reporter.finish();
    }
}
