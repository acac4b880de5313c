use super::*;

#[test]
fn a_run_is_clean_when_nothing_at_all_is_missing() {
    let clean = Outcome { is_drained: true, ..Outcome::default() };
    for (outcome, expected) in [
        (clean, true),
        (Outcome { is_drained: false, ..clean }, false),
        (Outcome { gaps: 1, ..clean }, false),
        (Outcome { sink_gaps: 1, ..clean }, false),
        (Outcome { refused: 1, ..clean }, false),
        (Outcome { unmatched: 1, ..clean }, false),
    ] {
        assert_eq!(outcome.is_clean(), expected, "{outcome:?}");
    }
}
