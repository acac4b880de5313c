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

/// Groups as the processor would make them.
fn groups(preset: &str, text: &str) -> Vec<String> {
    let mut groups: Vec<String> = Vec::new();
    for (line, joins) in text.lines().zip(joined(preset, text)) {
        match groups.last_mut() {
            Some(group) if joins => group.extend(["\n", line]),
            _ => groups.push(line.to_owned()),
        }
    }
    groups
}

#[test]
fn a_ruby_trace_is_one_record() {
    let text = "\
I, [2026-11-24T10:20:30.000001 #1]  INFO -- : before
app.rb:3:in `/': divided by 0 (ZeroDivisionError)
\tfrom app.rb:3:in `divide'
\tfrom app.rb:7:in `<main>'
app.rb:3:in 'Integer#/': divided by 0 (ZeroDivisionError)
\tfrom app.rb:3:in 'Object#divide'
F, [2026-11-24T10:20:30.000001 #1] FATAL -- : NoMethodError (undefined method `x' for nil:NilClass):
  
app/controllers/users_controller.rb:10:in `show'
lib/middleware.rb:5:in `call'
after";
    let starts: Vec<&str> = text
        .lines()
        .zip(joined("ruby", text))
        .filter(|(_, joins)| !joins)
        .map(|(line, _)| line)
        .collect();
    // The line of spaces is none of a trace: it may stand anywhere.
    assert_eq!(starts.len(), 6, "{starts:?}");
    let groups = groups("ruby", text);
    assert_eq!(
        groups.iter().map(|group| group.lines().count()).collect::<Vec<_>>(),
        [1, 3, 2, 1, 3, 1]
    );
}

#[test]
fn a_dotnet_trace_is_one_record() {
    let text = "\
before
Unhandled exception. System.InvalidOperationException: outer
 ---> System.ArgumentException: inner (Parameter 'x')
   at Shop.Cart.Add(Int32 x) in /src/Cart.cs:line 12
   --- End of inner exception stack trace ---
   at Shop.Program.Main(String[] args) in /src/Program.cs:line 7
--- End of stack trace from previous location ---
   at System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw()
fail: Microsoft.AspNetCore.Server.Kestrel[13]
      Connection id \"0HN\", Request id \"0HN:1\": An unhandled exception was thrown.
      System.Exception: no
         at Shop.Startup.<>c.<Configure>b__0(HttpContext context)
info: next";
    let groups = groups("dotnet", text);
    let lines: Vec<usize> = groups.iter().map(|group| group.lines().count()).collect();
    assert_eq!(lines, [1, 7, 4, 1], "{groups:?}");
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
