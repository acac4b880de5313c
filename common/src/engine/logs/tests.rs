use super::*;
use crate::engine::EngineErrorKind;

#[test]
fn output_that_is_not_framed_is_corrupt() {
    let request = Request::new("read the output of", "container", "web");
    let message = Bytes::from_static(b"half a dump");
    let stdout = frame(&request, LogOutput::StdOut { message: message.clone() }).unwrap();
    assert_eq!(stdout, LogFrame { source: LogSource::Stdout, bytes: message.clone() });
    let error = frame(&request, LogOutput::Console { message }).unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::Corrupt);
    assert!(error.to_string().starts_with("cannot read the output of the container web: "));
}
