use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn out(ts: i64) -> Seen {
    Seen { stream: Stream::Stdout, ts, hash: ts as u32 }
}

fn err(ts: i64) -> Seen {
    Seen { stream: Stream::Stderr, ts, hash: ts as u32 }
}

/// Steps of the model's clock. Each time it is set back it gets another remainder: no clock meets the same
/// nanosecond twice.
const TICK: i64 = 1000;

/// In the model, hashes from here on are those of pieces.
const FIRST_PIECE: u32 = 1 << 31;

/// Those from here on are of no message of the log.
const FIRST_STRAY: u32 = 1 << 30;

/// The hash of what does not end its line.
const PIECE: u32 = u32::MAX;

/// What one picture gives: taken messages (late ones negative) and controls, and its outcome.
fn picture(tracker: &mut Tracker, extent: Extent, log: &[Seen]) -> (Vec<String>, Outcome) {
    let mut picture = Picture::new(tracker, extent);
    let mut events = Vec::new();
    for seen in log {
        match picture.message(tracker, *seen, seen.hash != PIECE) {
            Verdict::Skip => {}
            Verdict::TooShort => return (events, Outcome::TooShort),
            Verdict::Full => return (events, Outcome::Full),
            Verdict::Take { late, before } => {
                events.extend(before.as_ref().map(shown));
                events.push(format!("{}{}", seen.ts, if late { " late" } else { "" }));
            }
        }
    }
    let outcome = picture.finish(tracker);
    (events, outcome)
}

fn shown(control: &Control) -> String {
    let moment = |ts: Option<i64>| ts.map_or_else(|| "?".to_owned(), |ts| ts.to_string());
    match control {
        Control::Gap(gap) => {
            let exact = if gap.exact { "" } else { " or less" };
            format!("gap {}..{}{exact}", moment(gap.from), moment(gap.to))
        }
        Control::ClockStep { from, to } => format!("step {from}..{to}"),
        other => format!("{other:?}"),
    }
}

fn all(tracker: &mut Tracker, log: &[Seen]) -> Vec<String> {
    let (events, outcome) = picture(tracker, Extent::Everything, log);
    assert_eq!(outcome, Outcome::Proven(Vec::new()));
    events
}

#[test]
fn a_picture_continues_behind_the_last_message() {
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &[out(1), err(2)]), ["1", "2"]);
    assert_eq!(all(&mut tracker, &[out(1), err(2), out(3)]), ["3"]);
    assert_eq!(all(&mut tracker, &[err(2), out(3)]), [""; 0]);
    let (events, outcome) = picture(&mut tracker, Extent::Tail(2), &[out(3), out(4)]);
    assert_eq!((events, outcome), (vec!["4".to_owned()], Outcome::Proven(Vec::new())));
}

#[test]
fn a_tail_that_does_not_reach_back_is_too_short_and_everything_shows_the_hole() {
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &[out(1), err(2)]), ["1", "2"]);
    let log = [out(5), out(6), err(7)];
    assert_eq!(picture(&mut tracker, Extent::Tail(3), &log), (Vec::new(), Outcome::TooShort));
    assert_eq!(all(&mut tracker, &log), ["gap 1..5", "5", "6", "gap 2..7", "7"]);
}

#[test]
fn a_stream_that_is_silent_after_a_hole_may_have_lost_something_too() {
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &[out(1), err(2)]), ["1", "2"]);
    let (events, outcome) = picture(&mut tracker, Extent::Everything, &[out(5), out(6)]);
    assert_eq!(events, ["gap 1..5", "5", "6"]);
    let Outcome::Proven(told) = outcome else { panic!("{outcome:?}") };
    assert_eq!(shown(&told[0].1), "gap 2..6");
}

#[test]
fn a_clock_that_goes_back_is_told_and_hides_nothing() {
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &[out(100), err(101)]), ["100", "101"]);
    let log = [out(100), err(101), out(50), err(51), out(52)];
    assert_eq!(all(&mut tracker, &log), ["step 100..50", "50", "step 101..51", "51", "52"]);
    // The place is older than the youngest before it: only a second look shows that it is gone.
    let rest = [out(60), out(61)];
    let (events, outcome) = picture(&mut tracker, Extent::Everything, &rest);
    assert_eq!((events, outcome), (Vec::new(), Outcome::Lost));
    let mut picture = Picture::of_the_rest(&tracker);
    let Verdict::Take { before: Some(gap), .. } = picture.message(&mut tracker, rest[0], true)
    else {
        panic!("it is not taken")
    };
    assert_eq!(shown(&gap), "gap 52..60");
}

#[test]
fn behind_the_end_of_the_log_a_picture_of_podman_is_proven_by_the_next() {
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &(1..=3).map(out).collect::<Vec<_>>()), ["1", "2", "3"]);
    assert_eq!(tracker.follow(out(4), false), Live::Take);
    let mut look = |log: &[i64]| {
        let mut picture = Picture::new(&tracker, Extent::Tail(4)).that_may_skip();
        let taken =
            log.iter().filter_map(|ts| match picture.message(&mut tracker, out(*ts), true) {
                Verdict::Skip => None,
                Verdict::Take { late, .. } => Some((*ts, late)),
                Verdict::TooShort | Verdict::Full => panic!("it is not looked at to its end"),
            });
        let taken: Vec<_> = taken.collect();
        assert_eq!(picture.finish(&mut tracker), Outcome::Proven(Vec::new()));
        (taken, tracker.ahead())
    };
    // While it is taken, 5 and 6 are written and left out.
    assert_eq!(look(&[1, 2, 3, 4, 7, 8]), (vec![(7, false), (8, false)], 2));
    assert_eq!(look(&[4, 5, 6, 7, 8, 9]), (vec![(5, true), (6, true), (9, false)], 1));
    assert_eq!(look(&[6, 7, 8, 9]), (vec![], 0));
}

/// What one picture of podman gives: taken messages, late ones negative.
fn podman(tracker: &mut Tracker, log: &[i64]) -> Vec<i64> {
    let mut picture = Picture::new(tracker, Extent::Tail(4)).that_may_skip();
    let taken = log.iter().filter_map(|ts| match picture.message(tracker, out(*ts), true) {
        Verdict::Skip => None,
        Verdict::Take { late, .. } => Some(if late { -*ts } else { *ts }),
        Verdict::TooShort | Verdict::Full => panic!("it is not looked at to its end"),
    });
    let taken = taken.collect();
    assert_eq!(picture.finish(tracker), Outcome::Proven(Vec::new()));
    taken
}

#[test]
fn what_a_follower_gave_and_no_picture_shows_hides_nothing_that_one_leaves_out() {
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &(1..=3).map(out).collect::<Vec<_>>()), ["1", "2", "3"]);
    // The rest of a line that was half written when it began.
    assert_eq!(tracker.follow(out(4), false), Live::Take);
    // While it is looked, 5 and 6 are written and left out.
    assert_eq!(podman(&mut tracker, &[1, 2, 3, 7, 8]), [-7, -8]);
    assert_eq!(tracker.ahead(), 2);
    assert_eq!(podman(&mut tracker, &[3, 5, 6, 7, 8]), [-5, -6]);
    assert_eq!(tracker.ahead(), 0);
}

#[test]
fn what_a_picture_shows_before_what_is_known_is_proven_and_not_taken_again_after_a_restart() {
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &(1..=3).map(out).collect::<Vec<_>>()), ["1", "2", "3"]);
    for ts in [6, 7] {
        assert_eq!(tracker.follow(out(ts), false), Live::Take);
    }
    let mut picture = Picture::new(&tracker, Extent::Tail(8)).that_may_skip();
    for ts in [2, 3, 4, 5] {
        picture.message(&mut tracker, out(ts), true);
    }
    // What is handed on in the middle of a picture is remembered.
    let cursor = Cursor::Api(Box::new(tracker.cursor_at(tracker.taken())));
    let mut again = Tracker::new(Some(&cursor));
    assert_eq!(podman(&mut again, &[2, 3, 4, 5, 6, 7, 9]), [9]);
    for ts in [6, 7, 9] {
        picture.message(&mut tracker, out(ts), true);
    }
    assert_eq!(picture.finish(&mut tracker), Outcome::Proven(Vec::new()));
    for mut tracker in [tracker, again] {
        assert_eq!(tracker.ahead(), 1);
        assert_eq!(podman(&mut tracker, &[5, 6, 7, 8, 9]), [-8]);
        assert_eq!(tracker.ahead(), 0);
    }
}

#[test]
fn a_rest_that_is_more_than_can_be_remembered_is_looked_at_again_without_another_gap() {
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &[out(1)]), ["1"]);
    let rest: Vec<Seen> = (10..10 + 2 * AHEAD_MAX as i64).map(out).collect();
    let (mut taken, mut gaps, mut pictures) = (0, 0, 0);
    loop {
        let picture = Picture::of_the_rest(&tracker).that_may_skip();
        let mut picture = if pictures > 0 { picture.that_goes_on() } else { picture };
        pictures += 1;
        let is_full = rest.iter().any(|seen| match picture.message(&mut tracker, *seen, true) {
            Verdict::Take { before, .. } => {
                taken += 1;
                gaps += usize::from(before.is_some());
                false
            }
            verdict => verdict == Verdict::Full,
        });
        if !is_full {
            assert_eq!(picture.finish(&mut tracker), Outcome::Proven(Vec::new()));
            break;
        }
    }
    assert_eq!((taken, gaps, pictures), (rest.len(), 1, 2));
}

#[test]
fn what_the_last_follower_gives_behind_unproven_messages_is_no_place_that_a_picture_lacks() {
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &[out(1)]), ["1"]);
    assert_eq!(tracker.follow(out(3), false), Live::Take);
    // It is about to be removed, and then it is not.
    assert_eq!(tracker.follow(out(4), true), Live::Take);
    assert_eq!(all(&mut tracker, &(1..=5).map(out).collect::<Vec<_>>()), ["2 late", "5"]);
}

#[test]
fn a_first_line_of_more_pieces_than_are_remembered_is_no_hole() {
    let piece = |number: u32| Seen { stream: Stream::Stdout, ts: 1, hash: number };
    let line: Vec<Seen> = (0..=RECENT_RUNS_MAX as u32).map(piece).collect();
    let mut taker = Tracker::new(None);
    assert_eq!(all(&mut taker, &line).len(), line.len());
    let cursor = Cursor::Api(Box::new(taker.cursor_at(taker.taken())));
    // Who begins from a cursor does not know where the log began.
    for (mut tracker, is_told) in [(taker, false), (Tracker::new(Some(&cursor)), true)] {
        let mut picture = Picture::new(&tracker, Extent::Everything);
        let mut taken = Vec::new();
        for seen in line.iter().copied().chain([out(2)]) {
            let ends_line = seen.hash == RECENT_RUNS_MAX as u32 || seen.ts == 2;
            if let Verdict::Take { before, .. } = picture.message(&mut tracker, seen, ends_line) {
                taken.push((seen.ts, before.is_some()));
            }
        }
        assert_eq!(taken, [(2, is_told)]);
    }
}

#[test]
fn what_a_follower_left_out_is_taken_late_and_nothing_twice() {
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &[out(1)]), ["1"]);
    for ts in [2, 5, 6] {
        assert_eq!(tracker.follow(out(ts), false), Live::Take);
    }
    // A message that was sent before.
    assert_eq!(tracker.follow(out(5), false), Live::Doubt);
    let log: Vec<_> = (1..=8).map(out).collect();
    assert_eq!(all(&mut tracker, &log), ["3 late", "4 late", "7", "8"]);
    assert_eq!(tracker.ahead(), 0);
}

#[test]
fn a_hole_around_what_a_follower_gave_is_not_exact() {
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &[out(1)]), ["1"]);
    assert_eq!(tracker.follow(out(3), false), Live::Take);
    assert_eq!(all(&mut tracker, &[out(5), out(6)]), ["gap 1..5 or less", "5", "6"]);
}

#[test]
fn equal_pieces_of_one_line_are_counted() {
    let piece = Seen { stream: Stream::Stdout, ts: 5, hash: PIECE };
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &[out(1), piece, piece, piece]), ["1", "5", "5", "5"]);
    let log = [out(1), piece, piece, piece, piece, piece, out(6)];
    let (_, outcome) = picture(&mut tracker, Extent::Tail(4), &log[3..]);
    assert_eq!(outcome, Outcome::TooShort);
    assert_eq!(all(&mut tracker, &log), ["5", "5", "6"]);
    // A whole pattern of them.
    let mut log = vec![out(1)];
    log.resize(200, piece);
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &log).len(), 200);
    log.resize(300, piece);
    assert_eq!(all(&mut tracker, &log).len(), 100);
}

#[test]
fn pieces_that_repeat_within_the_first_line_are_counted() {
    let piece = |hash| Seen { stream: Stream::Stdout, ts: 5, hash };
    let log: Vec<_> = (0..40).map(|at| piece(PIECE - at % 9)).collect();
    let tell = |tracker: &mut Tracker, log: &[Seen]| {
        let mut picture = Picture::new(tracker, Extent::Everything);
        let taken = log
            .iter()
            .filter(|seen| picture.message(tracker, **seen, false) != Verdict::Skip)
            .count();
        assert_eq!(picture.finish(tracker), Outcome::Proven(Vec::new()));
        taken
    };
    let mut tracker = Tracker::new(None);
    assert_eq!(tell(&mut tracker, &log[..30]), 30);
    let mut attach = Attach::new(&tracker, Extent::Everything);
    let attached: Vec<_> = log.iter().map(|seen| attach.message(*seen, false)).collect();
    assert_eq!(attached.iter().position(|found| *found == Attached::Last), Some(29));
    assert_eq!(tell(&mut tracker, &log), 10);
}

#[test]
fn a_log_that_begins_among_equal_pieces_may_have_lost_one() {
    let piece = Seen { stream: Stream::Stdout, ts: 5, hash: PIECE };
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &[out(1), piece, piece]), ["1", "5", "5"]);
    assert_eq!(all(&mut tracker, &[piece, piece, out(7)]), ["gap 5..7 or less", "7"]);
}

#[test]
fn an_emptied_log_is_told_with_its_next_message() {
    let mut tracker = Tracker::new(None);
    assert_eq!(all(&mut tracker, &[out(1)]), ["1"]);
    let empty = picture(&mut tracker, Extent::Everything, &[]);
    assert_eq!(empty, (Vec::new(), Outcome::Empty));
    assert_eq!(all(&mut tracker, &[out(9)]), ["gap 1..9", "9"]);
}

#[test]
fn a_follower_attaches_behind_the_last_message_or_not_at_all() {
    let mut tracker = Tracker::new(None);
    assert_eq!(Attach::new(&tracker, Extent::Tail(5)).message(out(1), true), Attached::New);
    assert_eq!(all(&mut tracker, &[out(1), out(2)]), ["1", "2"]);
    let mut attach = Attach::new(&tracker, Extent::Tail(5));
    let got = [out(1), out(2)].map(|seen| attach.message(seen, true));
    assert_eq!(got, [Attached::Before, Attached::Last]);
    assert_eq!(Attach::new(&tracker, Extent::Tail(5)).message(out(3), true), Attached::No);
}

#[test]
fn the_api_goes_on_where_the_direct_path_stopped() {
    use crate::cursor::{ContentProof, DirectCursor, FileCursor, FileIdentity, LastLine};
    let hash = twox_hash::XxHash3_64::oneshot(b"x\n");
    let seen = |stream, ts| Seen::of(stream, ts, b"x\n");
    let direct = DirectCursor {
        at: FileCursor {
            shift: 0,
            file: FileIdentity { device: 1, inode: 2, born: None },
            offset: 0,
            proof: ContentProof::default(),
        },
        last: vec![
            LastLine { stream: Stream::Stderr, ts: 8, hash },
            LastLine { stream: Stream::Stdout, ts: 7, hash },
        ],
    };
    let mut tracker = Tracker::new(Some(&Cursor::Direct(direct)));
    let log = [seen(Stream::Stderr, 8), seen(Stream::Stdout, 7), seen(Stream::Stdout, 9)];
    assert_eq!(all(&mut tracker, &log), ["9"]);
    let mut cursor = Cursor::Direct(DirectCursor {
        at: FileCursor {
            shift: 0,
            file: FileIdentity { device: 1, inode: 2, born: None },
            offset: 0,
            proof: ContentProof::default(),
        },
        last: Vec::new(),
    });
    cursor.advance(Cursor::Api(Box::new(tracker.cursor_at(0))));
    let again = Tracker::new(Some(&cursor));
    assert_eq!(again.live.recent.back().unwrap().seen, seen(Stream::Stdout, 7));
}

/// An engine without files: messages with numbers, the first of which are rotated away.
#[derive(Debug, Default)]
struct Model {
    log: Vec<Seen>,
    retained: usize,
    clock: i64,
}

#[derive(Debug, Clone)]
enum Act {
    Write {
        stream: bool,
        count: u8,
        tick: u8,
    },
    Piece {
        stream: bool,
        count: u8,
        period: u8,
    },
    ClockBack(u8),
    Rotate(u8),
    Catch,
    /// A picture as podman takes one: while it shows the end of the log, messages are written, of which it leaves out
    /// the first.
    CatchWhileWritten {
        unseen: u8,
        seen: u8,
    },
    Follow {
        tail: u8,
        skip: u8,
        again: u8,
        trusted_part: u8,
    },
    /// A follower gives what is no message of the log, such as the rest of a line that was half written.
    Stray,
    Restart {
        lose: u8,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (any::<bool>(), 1..20_u8, 0..3_u8)
            .prop_map(|(stream, count, tick)| Act::Write { stream, count, tick }),
        1 => (any::<bool>(), 1..90_u8, 1..5_u8)
            .prop_map(|(stream, count, period)| Act::Piece { stream, count, period }),
        1 => (1..60_u8).prop_map(Act::ClockBack),
        1 => (1..50_u8).prop_map(Act::Rotate),
        3 => Just(Act::Catch),
        2 => (0..6_u8, 0..6_u8)
            .prop_map(|(unseen, seen)| Act::CatchWhileWritten { unseen, seen }),
        3 => (1..40_u8, 0..10_u8, 0..10_u8, 0..30_u8)
            .prop_map(|(tail, skip, again, trusted_part)| Act::Follow { tail, skip, again, trusted_part }),
        1 => Just(Act::Stray),
        1 => (0..10_u8).prop_map(|lose| Act::Restart { lose }),
    ];
    proptest::collection::vec(act, 1..60)
}

/// What came out: the message with its place in the model, or a control.
#[derive(Debug, Clone)]
enum Event {
    Line { number: usize, late: bool },
    Stray,
    Control(Stream, Control),
}

#[derive(Debug)]
struct Play {
    model: Model,
    tracker: Tracker,
    events: Vec<Event>,
    cursor: Option<Cursor>,
    told: u64,
    /// Events that a restart cannot take back.
    durable: usize,
}

impl Play {
    fn window(&self) -> &[Seen] {
        &self.model.log[self.model.retained..]
    }

    /// Another content than any before: that a clock which went back meets the same nanosecond with the same
    /// text is left out.
    fn message(&self, stream: bool) -> Seen {
        let seen = if stream { out(self.model.clock) } else { err(self.model.clock) };
        Seen { hash: self.model.log.len() as u32, ..seen }
    }

    fn ends_line(&self, seen: Seen) -> bool {
        seen.hash < FIRST_PIECE
    }

    fn line(&mut self, number: usize, late: bool) {
        self.events.push(Event::Line { number, late });
    }

    fn catch_up(&mut self) {
        self.catch_up_while(None);
    }

    /// The doer's loop over pictures, in small. `written`: while the first one is taken, so many messages that it leaves out,
    /// and then so many that it shows.
    fn catch_up_while(&mut self, mut written: Option<[u8; 2]>) {
        let mut ways =
            vec![Some(Extent::Tail(3)), Some(Extent::Tail(20)), Some(Extent::Everything), None];
        ways.reverse();
        while let Some(way) = ways.pop() {
            let before = self.window().len();
            let skipped = match way {
                Some(Extent::Tail(count)) => before.saturating_sub(count as usize),
                _ => 0,
            };
            let mut picture = match way {
                Some(extent @ Extent::Tail(_)) if written.is_some() => {
                    Picture::new(&self.tracker, extent).that_may_skip()
                }
                Some(extent) => Picture::new(&self.tracker, extent),
                None => Picture::of_the_rest(&self.tracker),
            };
            let mut unseen = before..before;
            if let (Some(Extent::Tail(_)), Some([first, then])) = (way, written.as_mut()) {
                unseen.end += usize::from(*first);
                let count = std::mem::take(first) + std::mem::take(then);
                self.act(&Act::Write { stream: true, count, tick: 0 });
            }
            let window = self.window().to_vec();
            let mut short = false;
            for (at, seen) in window.iter().enumerate().skip(skipped) {
                if unseen.contains(&at) {
                    continue;
                }
                let ends_line = self.ends_line(*seen);
                match picture.message(&mut self.tracker, *seen, ends_line) {
                    Verdict::Skip => {}
                    Verdict::TooShort | Verdict::Full => {
                        short = true;
                        break;
                    }
                    Verdict::Take { late, before } => {
                        self.events
                            .extend(before.map(|before| Event::Control(seen.stream, before)));
                        let number = self.model.retained + at;
                        self.line(number, late);
                    }
                }
            }
            if short {
                continue;
            }
            match picture.finish(&mut self.tracker) {
                Outcome::Proven(told) => {
                    let told = told.into_iter().map(|(stream, told)| Event::Control(stream, told));
                    self.events.extend(told);
                    return;
                }
                Outcome::Empty => return,
                Outcome::TooShort | Outcome::Full | Outcome::Lost => {}
            }
        }
        panic!("the rest is always taken");
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Write { stream, count, tick } => {
                for _ in 0..count {
                    self.model.clock += (i64::from(tick) + 1) * TICK;
                    let message = self.message(stream);
                    self.model.log.push(message);
                }
            }
            Act::Piece { stream, count, period } => {
                self.model.clock += TICK;
                let piece = self.message(stream);
                self.model.log.extend((0..count).map(|at| {
                    let hash = FIRST_PIECE + piece.hash + u32::from(at % period);
                    Seen { hash, ..piece }
                }));
            }
            // Beyond what the streams of one engine may differ by: a step that they show.
            Act::ClockBack(by) => self.model.clock += 1 - i64::from(by) * TICK,
            Act::Rotate(count) => {
                let left = self.model.log.len() - self.model.retained;
                self.model.retained += usize::from(count).min(left);
                // A line of pieces is not cut: see the test of its own.
                let log = &self.model.log;
                while let Some(next) = log.get(self.model.retained)
                    && self
                        .model
                        .retained
                        .checked_sub(1)
                        .is_some_and(|at| (log[at].stream, log[at].ts) == (next.stream, next.ts))
                {
                    self.model.retained += 1;
                }
            }
            Act::Catch => self.catch_up(),
            Act::CatchWhileWritten { unseen, seen } => self.catch_up_while(Some([unseen, seen])),
            Act::Follow { tail, skip, again, trusted_part } => {
                let start = self.model.log.len().saturating_sub(usize::from(tail));
                let start = start.max(self.model.retained);
                if self.tracker.is_new() && start > 0 {
                    return self.catch_up();
                }
                let mut order: Vec<usize> = (start..self.model.log.len()).collect();
                // The follower lags, leaves out some, and then sends some again.
                // The history it begins with is whole.
                let at = usize::from(trusted_part).max(1).min(order.len());
                let skipped = usize::from(skip).min(order.len() - at);
                order.drain(at..at + skipped);
                if again > 0 && at > 0 {
                    let from = at.saturating_sub(usize::from(again));
                    let repeated: Vec<usize> = order[from..at].to_vec();
                    order.splice(at..at, repeated);
                }
                let mut attach = Some(Attach::new(&self.tracker, Extent::Tail(u64::from(tail))));
                for number in order {
                    let seen = self.model.log[number];
                    if let Some(searching) = &mut attach {
                        match searching.message(seen, self.ends_line(seen)) {
                            Attached::Before => continue,
                            Attached::No => return self.catch_up(),
                            Attached::Last => {
                                attach = None;
                                continue;
                            }
                            Attached::New => attach = None,
                        }
                    }
                    if self.tracker.follow(seen, false) == Live::Doubt {
                        return self.catch_up();
                    }
                    self.line(number, false);
                }
                if attach.is_some() {
                    self.catch_up();
                }
            }
            Act::Stray => {
                if self.tracker.is_new() {
                    return self.catch_up();
                }
                self.model.clock += TICK;
                let seen =
                    Seen { hash: FIRST_STRAY + self.model.clock as u32, ..out(self.model.clock) };
                if self.tracker.follow(seen, false) == Live::Take {
                    self.events.push(Event::Stray);
                }
            }
            Act::Restart { lose } => {
                let mark = self.tracker.taken().saturating_sub(u64::from(lose)).max(self.told);
                self.tell(mark);
                let lines = |event: &Event| !matches!(event, Event::Control(..));
                let mut surplus = self.tracker.taken() - mark;
                while surplus > 0 {
                    let event = self.events.pop().expect("as many events as messages");
                    surplus -= u64::from(lines(&event));
                    if surplus == 0 {
                        // What was said of the hole before it goes with it.
                        while self.events.len() > self.durable
                            && matches!(self.events.last(), Some(Event::Control(..)))
                        {
                            self.events.pop();
                        }
                    }
                }
                self.tracker = Tracker::new(self.cursor.as_ref());
                self.told = 0;
            }
        }
        let mark = self.tracker.taken();
        if matches!(act, Act::Catch | Act::CatchWhileWritten { .. }) {
            self.tell(mark);
            self.durable = self.events.len();
        }
    }

    fn tell(&mut self, mark: u64) {
        let update = Cursor::Api(Box::new(self.tracker.cursor_at(mark)));
        self.told = mark;
        match &mut self.cursor {
            Some(cursor) => cursor.advance(update),
            none => *none = Some(update),
        }
        let text = serde_json::to_string(&self.cursor).unwrap();
        assert_eq!(serde_json::from_str::<Option<Cursor>>(&text).unwrap(), self.cursor);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_taken_twice_and_whatever_is_missing_lies_in_a_gap(acts in acts()) {
        let mut play = Play {
            model: Model { clock: 1_000_000, ..Model::default() },
            tracker: Tracker::new(None),
            events: Vec::new(),
            cursor: None,
            told: 0,
            durable: 0,
        };
        for act in &acts {
            play.act(act);
        }
        play.act(&Act::Write { stream: true, count: 1, tick: 1 });
        play.catch_up();
        let log = &play.model.log;
        let mut times: BTreeMap<Seen, i64> = BTreeMap::new();
        for seen in log {
            *times.entry(*seen).or_default() += 1;
        }
        let mut got: BTreeMap<Seen, i64> = BTreeMap::new();
        for event in &play.events {
            if let Event::Line { number, .. } = event {
                *got.entry(log[*number]).or_default() += 1;
            }
        }
        let gaps: Vec<_> = play.events.iter().filter_map(|event| match event {
            Event::Control(stream, Control::Gap(gap)) => Some((*stream, gap.clone())),
            _ => None,
        }).collect();
        let first = play.events.iter().find_map(|event| match event {
            Event::Line { number, .. } => Some(*number),
            Event::Stray | Event::Control(..) => None,
        });
        // What was rotated away before anything was read is nobody's loss.
        let first = first.unwrap_or(log.len());
        let mut wanted_times: BTreeMap<Seen, i64> = BTreeMap::new();
        for seen in log.iter().skip(first) {
            *wanted_times.entry(*seen).or_default() += 1;
        }
        let is_known = |number: usize, stream: Stream| play.events.iter().any(|event| {
            matches!(event, Event::Line { number: at, .. }
                if *at < number && log[*at].stream == stream)
        });
        for (number, seen) in log.iter().enumerate() {
            let (written, taken) = (times[seen], got.get(seen).copied().unwrap_or(0));
            prop_assert!(taken <= written, "{seen:?} came {taken} times, was written {written}");
            let wanted = wanted_times.get(seen).copied().unwrap_or(0);
            let is_told = gaps.iter().any(|(stream, gap)| {
                // Nobody can say of a stream that never showed that it lost something.
                (*stream == seen.stream || !is_known(number, seen.stream))
                    && gap.from.is_none_or(|from| from <= seen.ts)
                    && gap.to.is_none_or(|to| seen.ts <= to)
            });
            let has_stepped = acts.iter().any(|act| matches!(act, Act::ClockBack(_)));
            let is_told = is_told || (has_stepped && !gaps.is_empty());
            prop_assert!(taken >= wanted || number < first || is_told, "{seen:?} is missing: {gaps:?}");
        }
        // In the order of the file, late ones left aside.
        let mut last = None;
        for event in &play.events {
            if let Event::Line { number, late: false } = event {
                // Equal pieces of one line can be told apart by nothing.
                let twin = log[*number].hash >= FIRST_PIECE;
                prop_assert!(last.is_none_or(|last| last < *number) || twin);
                last = Some(*number);
            }
        }
    }
}
