use super::*;

#[test]
fn numbers_are_written_with_prefix_and_labels_and_an_end() {
    let text = text("it", |writer| {
        writer.counter("runs", "Runs", 3)?;
        writer.gauge("size_bytes", "Size", 1.5)?;
        writer.counters(
            "faults",
            "Faults",
            [([("kind", "a \"b\"\n")], 1), ([("kind", "c")], 2)],
        )?;
        writer.gauges("state", "State", [([("one", "x"), ("two", "y")], 0.0)])
    });
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
    assert_eq!(
        lines,
        [
            "# TYPE it_runs counter",
            "it_runs_total 3",
            "# TYPE it_size_bytes gauge",
            "it_size_bytes 1.5",
            "# TYPE it_faults counter",
            "it_faults_total{kind=\"a \\\"b\\\"\\n\"} 1",
            "it_faults_total{kind=\"c\"} 2",
            "# TYPE it_state gauge",
            "it_state{one=\"x\",two=\"y\"} 0.0",
            "# EOF",
        ]
    );
}
