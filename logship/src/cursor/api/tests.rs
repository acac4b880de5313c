use proptest::prelude::*;

use super::*;

fn runs() -> impl Strategy<Value = VecDeque<Run>> {
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr), Just(Stream::Console)];
    let run = (stream, any::<i64>(), any::<u32>(), prop_oneof![Just(1_u32), any::<u32>()])
        .prop_map(|(stream, ts, hash, count)| Run { seen: Seen { stream, ts, hash }, count });
    proptest::collection::vec(run, 0..70).prop_map(VecDeque::from)
}

proptest! {
    #[test]
    fn a_cursor_is_the_same_after_it_was_written_and_read(
        recent in runs(), ahead in runs(), newest in any::<Option<i64>>(),
    ) {
        let cursor = ApiCursor { recent, ahead, newest, ..ApiCursor::default() };
        let text = serde_json::to_string(&cursor).unwrap();
        prop_assert_eq!(serde_json::from_str::<ApiCursor>(&text).unwrap(), cursor);
    }

    #[test]
    fn bytes_that_are_no_cursor_are_refused_without_a_panic(bytes in any::<Vec<u8>>()) {
        let text = format!(r#"{{"recent":"{}"}}"#, STANDARD_NO_PAD.encode(bytes));
        // Whether some bytes happen to be one does not matter.
        drop(serde_json::from_str::<ApiCursor>(&text));
    }
}

#[test]
fn a_frame_adds_to_what_is_known_and_the_memory_stays_bounded() {
    let seen = |ts| Seen { stream: Stream::Stdout, ts, hash: 7 };
    let one = |ts| VecDeque::from([Run { seen: seen(ts), count: 1 }]);
    let mut cursor = ApiCursor::default();
    for ts in 0..200 {
        cursor.advance(ApiCursor { recent: one(ts), newest: Some(ts), ..ApiCursor::default() });
    }
    assert_eq!((cursor.recent.len(), cursor.newest), (RECENT_RUNS_MAX, Some(199)));
    cursor.advance(ApiCursor { recent: one(199), ..ApiCursor::default() });
    assert_eq!(cursor.recent.back(), Some(&Run { seen: seen(199), count: 2 }));
    assert_eq!(cursor.last(), Some(seen(199)));
    let whole = ApiCursor { recent: one(5), recent_is_whole: true, ..ApiCursor::default() };
    cursor.advance(whole);
    assert_eq!(cursor.recent, one(5));
}
