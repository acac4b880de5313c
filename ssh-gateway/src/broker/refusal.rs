//! Why not, in the words of a client: nothing in them that it may not know.

use crate::hop::HopError;
use crate::login::shown;
use crate::wire::net::Refusal;
use crate::wire::task::{Failure, FailureKind};

/// What a session ends with that the gateway itself cannot serve, as ssh(1) does for its own failures.
pub(super) const STATUS_GATEWAY: u8 = 255;

/// It is not allowed.
pub(super) fn prohibited(message: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), status: STATUS_GATEWAY, prohibited: true }
}

/// It failed.
pub(super) fn failed(message: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), status: STATUS_GATEWAY, prohibited: false }
}

/// What a failed hop is for the client. The whole reason is for the operator's log.
pub(super) fn of_failure(failure: &Failure) -> Refusal {
    match failure.kind {
        FailureKind::TargetGone => failed("the container is not running any more"),
        FailureKind::TargetPaused => failed("the container is paused"),
        FailureKind::NotNative => failed(
            "this gateway cannot enter the container; its operator finds the reason in its log",
        ),
        FailureKind::Confinement => failed(
            "the confinement of the container cannot be reproduced, so it is not entered; the gateway's operator finds the reason in its log",
        ),
        FailureKind::User => failed(shown(&failure.reason)),
        FailureKind::Program { status } => Refusal { status, ..failed(shown(&failure.reason)) },
        FailureKind::Exhausted => failed("the container has no room for another process"),
        FailureKind::TimedOut => failed("the container took too long"),
        FailureKind::Other => failed(
            "the container cannot be entered; the gateway's operator finds the reason in its log",
        ),
    }
}

/// A failed hop as a failure of one kind.
pub(super) fn failure_of(error: &HopError) -> Failure {
    Failure { kind: error.kind(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_program_has_a_status_of_its_own() {
        let of = |kind| of_failure(&Failure { kind, reason: "/host/path \x1b".to_owned() });
        let program = of(FailureKind::Program { status: 127 });
        assert_eq!((program.status, program.message.as_str()), (127, "/host/path \u{fffd}"));
        for kind in [FailureKind::NotNative, FailureKind::Confinement, FailureKind::Other] {
            let refusal = of(kind);
            assert_eq!(refusal.status, STATUS_GATEWAY);
            assert!(!refusal.message.contains("/host"), "{kind:?}");
        }
    }
}
