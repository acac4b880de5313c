use bollard::errors::Error as Foreign;

use super::*;

fn answer(status_code: u16, message: &str) -> EngineError {
    let foreign = Foreign::DockerResponseServerError { status_code, message: message.to_owned() };
    Request::new("inspect", "container", "web").failed(&foreign)
}

#[test]
fn answers_of_the_engine_become_kinds_and_sentences() {
    let missing = answer(404, "No such container: web");
    assert_eq!(missing.kind(), EngineErrorKind::NotFound);
    assert_eq!(missing.to_string(), "cannot inspect the container web: there is no such container");
    let image = answer(404, "No such image: x");
    assert_eq!(image.to_string(), "cannot inspect the container web: No such image: x");
    assert_eq!(answer(409, "in use").kind(), EngineErrorKind::Conflict);
    assert_eq!(answer(403, "proxy").kind(), EngineErrorKind::Denied);
    assert_eq!(answer(500, "boom").kind(), EngineErrorKind::Other);
    assert_eq!(
        answer(500, "boom").to_string(),
        "cannot inspect the container web: boom (HTTP 500)"
    );
}

#[test]
fn system_errors_become_kinds() {
    let kind = |io: io::ErrorKind| {
        let foreign = Foreign::IOError { err: io.into() };
        Request::new("inspect", "container", "web").failed(&foreign).kind()
    };
    assert_eq!(kind(io::ErrorKind::PermissionDenied), EngineErrorKind::Denied);
    assert_eq!(kind(io::ErrorKind::ConnectionRefused), EngineErrorKind::Unreachable);
    assert_eq!(kind(io::ErrorKind::NotFound), EngineErrorKind::Unreachable);
    let timeout = Request::new("stop", "container", "web").failed(&Foreign::RequestTimeoutError);
    assert_eq!(timeout.kind(), EngineErrorKind::Timeout);
}

#[test]
fn a_name_that_would_become_another_request_is_refused() {
    let check = |name| Request::new("inspect", "container", name).checked_name().is_ok();
    for name in ["web", "/web", "a1b2", "my_app-db.1", "registry:5000/team/image:tag@sha256:ab"] {
        assert!(check(name), "{name}");
    }
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    for name in ["", "/", "..", "a/../b", "a//b", "//web", "a?b", "a#b", "a%2fb", "a b", "ü", &long]
    {
        assert!(!check(name), "{name}");
    }
}

#[test]
fn a_foreign_text_is_shown_short_and_plain() {
    let error = answer(500, &format!("bad\n\u{1b}[31m{}", "x".repeat(10_000)));
    assert!(!error.to_string().contains(char::is_control));
    assert!(error.to_string().len() < 400);
}
