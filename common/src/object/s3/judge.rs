//! What an S3 service or the way to it answered, in our words.

use std::error::Error;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::object::ErrorKind;
use crate::object::fault::{Fault, root, shown};

#[cfg(test)]
mod tests;

impl Fault {
    pub(super) fn no_bucket() -> Self {
        Self::lasting(ErrorKind::NoBucket, "the bucket does not exist")
    }

    pub(super) fn broken_body(error: &dyn Error) -> Self {
        Self::temporary(format!("the answer breaks off: {}", root(error)))
    }

    pub(super) fn short_body(length: u64, announced: u64) -> Self {
        Self::temporary(format!("the answer ends after {length} of {announced} bytes"))
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Fault
where
    E: ProvideErrorMetadata + Error + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        match &error {
            SdkError::ServiceError(context) => {
                let meta = context.err().meta();
                judge(context.raw().status().as_u16(), meta.code(), meta.message())
            }
            SdkError::ResponseError(context) => match context.raw().status().as_u16() {
                200..=299 => Self::temporary(format!("the answer breaks off: {}", root(&error))),
                status => judge(status, None, None),
            },
            SdkError::TimeoutError(_) => Self::temporary("the connection timed out"),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                Self::temporary("the connection timed out")
            }
            SdkError::DispatchFailure(_) => {
                Self::temporary(format!("it cannot be reached: {}", root(&error)))
            }
            _ => Self::lasting(ErrorKind::Invalid, root(&error)),
        }
    }
}

/// Decides by the status and the code of the S3 error list
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).
fn judge(status: u16, code: Option<&str>, message: Option<&str>) -> Fault {
    let denied = |reason: &str| Fault::lasting(ErrorKind::Denied, reason);
    match (status, code.unwrap_or_default()) {
        (_, "NoSuchBucket") => Fault::no_bucket(),
        (_, "NoSuchUpload") => Fault::lasting(ErrorKind::Invalid, "its upload was aborted"),
        (_, "NoSuchKey") => Fault::lasting(ErrorKind::NotFound, "it does not exist"),
        (_, "InvalidAccessKeyId" | "NotSignedUp") => {
            denied("the access key is unknown there; check AWS_ACCESS_KEY_ID")
        }
        (_, "SignatureDoesNotMatch") => {
            denied("the secret key does not fit the access key; check AWS_SECRET_ACCESS_KEY")
        }
        (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
            denied("the session token is not valid any more; check AWS_SESSION_TOKEN")
        }
        (_, "RequestTimeTooSkewed") => denied("the clocks of this machine and the store differ"),
        (301 | 307, _) | (400, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
            Fault::lasting(ErrorKind::Invalid, "the bucket is in another region; set AWS_REGION")
        }
        (401 | 403, code) => {
            Fault::lasting(ErrorKind::Denied, answered("access is denied", status, code, message))
        }
        (507, _) | (_, "QuotaExceeded" | "StorageFull" | "XMinioStorageFull") => {
            Fault::lasting(ErrorKind::Full, "the store is full")
        }
        (404, _) => Fault::lasting(ErrorKind::NotFound, "it does not exist"),
        (416, _) => Fault::corrupt("it ends before the bytes that are needed"),
        (501 | 505, code) => Fault::lasting(
            ErrorKind::Invalid,
            answered("the store cannot do this", status, code, message),
        ),
        (408 | 409 | 429 | 500.., code)
        | (_, code @ ("SlowDown" | "RequestTimeout" | "InternalError" | "ServiceUnavailable")) => {
            Fault::temporary(answered("the store fails", status, code, message))
        }
        (_, code) => {
            Fault::lasting(ErrorKind::Invalid, answered("the store refuses", status, code, message))
        }
    }
}

fn answered(judgement: &str, status: u16, code: &str, message: Option<&str>) -> String {
    let mut text = format!("{judgement} (HTTP {status}");
    for part in [Some(code), message].into_iter().flatten().filter(|part| !part.is_empty()) {
        text.push_str(", ");
        text.push_str(&shown(part));
    }
    text.push(')');
    text
}
