use super::*;

/// Which lines go on with the one before.
fn joined(preset: &str, text: &str) -> Vec<bool> {
    let multiline = Multiline::parse(preset).unwrap();
    text.lines().map(|line| multiline.joins(line.as_bytes())).collect()
}

#[test]
fn a_java_trace_is_one_record() {
    let text = "\
2026-11-24 ERROR it failed
java.lang.IllegalStateException: no
\tat a.B.c(B.java:1)
    at a.B.d(B.java:2)
Caused by: java.io.IOException: disk
\t... 12 more
2026-11-24 INFO next";
    // The exception's own line begins a record: nothing tells it from any other line.
    assert_eq!(joined("java", text), [false, false, true, true, true, true, false]);
}

#[test]
fn a_python_traceback_is_one_record() {
    let text = "\
Traceback (most recent call last):
  File \"x.py\", line 1, in <module>
    f()
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File \"x.py\", line 3, in <module>
package.module.CustomError: no
INFO next";
    let joins = joined("python", text);
    assert_eq!(joins.iter().filter(|joins| !**joins).count(), 1, "{joins:?}");
}

#[test]
fn a_go_panic_is_one_record() {
    let text = "\
panic: no
[signal SIGSEGV: segmentation violation]

goroutine 1 [running]:
main.f(0x1, 0x2)
\t/src/main.go:10 +0x1d
github.com/a/b.(*T).Method(...)
\t/src/b.go:3
created by main.main
exit status 2
next line (with words)";
    let joins = joined("go", text);
    assert_eq!(joins.iter().position(|joins| !joins), Some(0));
    assert_eq!(joins.iter().rposition(|joins| !joins), Some(joins.len() - 1), "{joins:?}");
    assert_eq!(joins.iter().filter(|joins| !**joins).count(), 2, "{joins:?}");
}

#[test]
fn start_and_continue_are_told_apart() {
    assert_eq!(joined(r"^\d", "1 a\nb\n2 c"), [false, true, false]);
    assert_eq!(joined(r"start:^\d", "1 a\nb\n2 c"), [false, true, false]);
    assert_eq!(joined(r"continue:^\s", "a\n b\nc"), [false, true, false]);
    let both = Multiline::new(Some("^A"), Some("^[AB]"), "both").unwrap();
    assert_eq!(["A", "B", "C"].map(|line| both.joins(line.as_bytes())), [false, true, false]);
}

#[test]
fn what_is_no_pattern_or_too_large_is_refused() {
    for text in ["start:(", "[", r"continue:(\w{1000}){1000}"] {
        assert!(Multiline::parse(text).is_err(), "{text}");
    }
}
