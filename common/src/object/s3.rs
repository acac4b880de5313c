//! Objects in an S3 bucket; the only user of the AWS libraries.
//!
//! Requests carry no checksum trailers and no chunked encoding, which many S3-compatible services
//! do not understand; the SHA-256 of the body is part of the signature, so a service that checks
//! signatures also checks the content. Retries are ours and not the SDK's, since the SDK does not
//! repeat a download whose body breaks off.

mod fault;
mod multipart;

use std::fmt::Debug;
use std::future::Future;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::{Client, Config};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use bytes::{Bytes, BytesMut};

use super::error::{Act, ErrorKind, ObjectError};
use super::key::is_valid_key;
use super::location::Location;
use super::{LIST_OBJECTS_MAX, ObjectMeta, S3Settings, trust};
use crate::exit::chain;
use crate::retry::Retry;
use crate::secret::Secret;
use fault::Fault;

#[cfg(test)]
mod tests;

/// Five attempts within about ten seconds when the endpoint refuses at once.
const RETRY: Retry =
    Retry { attempts: 5, base: Duration::from_millis(500), cap: Duration::from_secs(20) };
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// What one attempt may take before its bytes are counted.
const ATTEMPT_TIME_MIN: Duration = Duration::from_secs(60);
/// How long a transfer may stand still.
const STALL_TIME_MAX: Duration = Duration::from_secs(30);
/// Slowest transfer that is waited for, in bytes per second.
const THROUGHPUT_MIN: u64 = 64 * 1024;
/// Idle connections are closed before the usual servers and load balancers do it.
const IDLE_TIME_MAX: Duration = Duration::from_secs(20);
/// Most memory that is reserved before the bytes are there.
const RESERVE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Keys per page of a listing: the protocol's limit.
const PAGE_KEYS: i32 = 1000;
const REGION_DEFAULT: &str = "us-east-1";

#[derive(Debug)]
pub(super) struct S3 {
    client: Client,
    bucket: String,
    prefix: String,
    /// What errors call this store: `s3://b/p at http://…`.
    name: String,
    retry: Retry,
}

impl S3 {
    pub(super) fn new(
        bucket: &str,
        prefix: &str,
        settings: &S3Settings,
    ) -> Result<Self, ObjectError> {
        let location = Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        let name = match &settings.endpoint {
            Some(endpoint) => format!("{location} at {endpoint}"),
            None => location.to_string(),
        };
        let config = config(settings).map_err(|reason| {
            ObjectError::new(ErrorKind::Invalid, Act::Open, "", name.clone(), reason)
        })?;
        Ok(Self {
            client: Client::from_conf(config),
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            name,
            retry: RETRY,
        })
    }

    pub(super) fn location(&self) -> Location {
        let prefix = self.prefix.trim_end_matches('/').to_owned();
        Location::S3 { bucket: self.bucket.clone(), prefix }
    }

    /// Asks with a listing, because keys that may list a prefix may not always look at the bucket.
    pub(super) async fn create_root(&self) -> Result<(), ObjectError> {
        self.attempts(Act::CreateRoot, "", 0, async || {
            let listed = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(&self.prefix)
                .max_keys(1)
                .send();
            listed.await.map_err(Fault::from)?;
            Ok(())
        })
        .await
    }

    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        let full_key = self.full_key(Act::Write, key)?;
        self.attempts(Act::Write, key, bytes.len() as u64, async || {
            let put = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(&full_key)
                .body(ByteStream::from(bytes.clone()))
                .send();
            put.await.map_err(Fault::from)?;
            Ok(())
        })
        .await
    }

    pub(super) async fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        let full_key = self.full_key(Act::Read, key)?;
        self.attempts(Act::Read, key, bytes_max.min(RESERVE_BYTES_MAX), async || {
            let get = self.client.get_object().bucket(&self.bucket).key(&full_key).send();
            let answer = get.await.map_err(Fault::from)?;
            let length = known_length(answer.content_length())?;
            if length > bytes_max {
                return Err(Fault::corrupt(format!(
                    "it is {length} bytes long, at most {bytes_max} were expected"
                )));
            }
            collect(answer.body, length).await
        })
        .await
    }

    pub(super) async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, ObjectError> {
        let full_key = self.full_key(Act::Read, key)?;
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
            return Ok(Bytes::new());
        };
        let wanted = range.end - range.start;
        let header = format!("bytes={}-{last}", range.start);
        self.attempts(Act::Read, key, wanted, async || {
            let get =
                self.client.get_object().bucket(&self.bucket).key(&full_key).range(&header).send();
            let answer = get.await.map_err(Fault::from)?;
            let length = known_length(answer.content_length())?;
            if length != wanted {
                return Err(Fault::corrupt(format!(
                    "{length} bytes were sent, but bytes {} to {} are needed",
                    range.start, range.end
                )));
            }
            collect(answer.body, length).await
        })
        .await
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, ObjectError> {
        let full_prefix = format!("{}{prefix}", self.prefix);
        let mut objects = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let (page, next) = self
                .attempts(Act::List, prefix, 0, async || {
                    self.list_page(&full_prefix, token.clone()).await
                })
                .await?;
            objects.extend(page);
            if objects.len() > LIST_OBJECTS_MAX {
                let reason = format!("there are more than {LIST_OBJECTS_MAX} objects");
                return Err(self.error(ErrorKind::Corrupt, Act::List, prefix, reason));
            }
            match next {
                None => return Ok(objects),
                // A service that repeats itself would be asked for ever.
                Some(next) if token.as_ref() == Some(&next) => {
                    let reason = "the pages of the listing repeat";
                    return Err(self.error(ErrorKind::Corrupt, Act::List, prefix, reason));
                }
                Some(next) => token = Some(next),
            }
        }
    }

    pub(super) async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        let full_key = self.full_key(Act::Find, key)?;
        self.attempts(Act::Find, key, 0, async || {
            let head = self.client.head_object().bucket(&self.bucket).key(&full_key).send();
            match head.await.map_err(Fault::from) {
                Ok(answer) => Ok(ObjectMeta {
                    key: key.to_owned(),
                    size: known_length(answer.content_length())?,
                    modified: time(answer.last_modified()),
                }),
                Err(fault) => Err(self.explain_head(fault).await),
            }
        })
        .await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let full_key = self.full_key(Act::Delete, key)?;
        self.attempts(Act::Delete, key, 0, async || {
            let delete = self.client.delete_object().bucket(&self.bucket).key(&full_key).send();
            match delete.await.map_err(Fault::from) {
                Err(fault) if fault.kind != ErrorKind::NotFound => Err(fault),
                _ => Ok(()),
            }
        })
        .await
    }

    /// One page: its objects, and the token of the next.
    async fn list_page(
        &self,
        full_prefix: &str,
        token: Option<String>,
    ) -> Result<(Vec<ObjectMeta>, Option<String>), Fault> {
        let list = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(full_prefix)
            .max_keys(PAGE_KEYS)
            .set_continuation_token(token)
            .send();
        let answer = list.await.map_err(Fault::from)?;
        let objects = answer.contents().iter().filter_map(|object| {
            let key = object.key()?.strip_prefix(&self.prefix).filter(|key| is_valid_key(key))?;
            Some(ObjectMeta {
                key: key.to_owned(),
                size: u64::try_from(object.size()?).ok()?,
                modified: time(object.last_modified()),
            })
        });
        let objects = objects.collect();
        match (answer.is_truncated(), answer.next_continuation_token()) {
            (Some(true), Some(next)) => Ok((objects, Some(next.to_owned()))),
            (Some(true), None) => Err(Fault::corrupt("the listing breaks off between two pages")),
            _ => Ok((objects, None)),
        }
    }

    /// An answer to HEAD has no body: whether the object or the bucket is missing has to be asked.
    async fn explain_head(&self, fault: Fault) -> Fault {
        if fault.kind != ErrorKind::NotFound {
            return fault;
        }
        match self.client.head_bucket().bucket(&self.bucket).send().await.map_err(Fault::from) {
            Err(bucket) if bucket.kind == ErrorKind::NotFound => Fault::no_bucket(),
            _ => fault,
        }
    }

    fn full_key(&self, act: Act, key: &str) -> Result<String, ObjectError> {
        if is_valid_key(key) {
            Ok(format!("{}{key}", self.prefix))
        } else {
            Err(ObjectError::invalid_key(act, key, self.name.clone()))
        }
    }

    /// Tries until it works, the fault is final, or the attempts are used up. `bytes` is what one
    /// attempt transfers at most.
    async fn attempts<T, Attempt>(
        &self,
        act: Act,
        key: &str,
        bytes: u64,
        attempt: impl Fn() -> Attempt,
    ) -> Result<T, ObjectError>
    where
        Attempt: Future<Output = Result<T, Fault>>,
    {
        let mut number = 1;
        loop {
            let fault = match tokio::time::timeout(attempt_time(bytes), attempt()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::timeout(attempt_time(bytes)),
            };
            if !fault.is_temporary {
                return Err(self.error(fault.kind, act, key, fault.reason));
            }
            let random = getrandom::u64().unwrap_or(u64::from(number));
            let Some(pause) = self.retry.pause_after(number, random) else {
                let reason = format!("{} ({number} attempts)", fault.reason);
                return Err(self.error(fault.kind, act, key, reason));
            };
            tracing::debug!(key, attempt = number, reason = fault.reason, "will be tried again");
            tokio::time::sleep(pause).await;
            number += 1;
        }
    }

    fn error(
        &self,
        kind: ErrorKind,
        act: Act,
        key: &str,
        reason: impl Into<String>,
    ) -> ObjectError {
        ObjectError::new(kind, act, key, self.name.clone(), reason)
    }
}

/// The client's settings, or the sentence's end that says what is wrong with ours.
fn config(settings: &S3Settings) -> Result<Config, String> {
    if settings.endpoint.as_ref().is_some_and(|endpoint| !is_endpoint(endpoint)) {
        return Err("the S3 endpoint must be http://host:port or https://host".to_owned());
    }
    let credentials = credentials(settings)?;
    let http_client = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls_context(settings.endpoint.as_deref())?)
        .pool_idle_timeout(IDLE_TIME_MAX)
        .build_https();
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIME_MAX).build();
    let stall = StalledStreamProtectionConfig::enabled().grace_period(STALL_TIME_MAX).build();
    let region = settings.region.clone().unwrap_or_else(|| REGION_DEFAULT.to_owned());
    let mut builder = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http_client)
        .region(Region::new(region))
        .credentials_provider(credentials)
        .force_path_style(settings.path_style.unwrap_or(settings.endpoint.is_some()))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(stall)
        .timeout_config(timeouts);
    builder.set_endpoint_url(settings.endpoint.clone());
    Ok(builder.build())
}

/// The machine's roots of trust, or none for an endpoint without TLS. The library panics or fails
/// without a reason when the machine has none, so that is found out before.
fn tls_context(endpoint: Option<&str>) -> Result<TlsContext, String> {
    let roots = match trust::roots(endpoint).map_err(|error| chain(&error))? {
        Some(_) => TrustStore::default(),
        None => TrustStore::empty(),
    };
    TlsContext::builder().with_trust_store(roots).build().map_err(|error| chain(&error))
}

fn credentials(settings: &S3Settings) -> Result<Credentials, &'static str> {
    let access_key = settings.access_key.as_ref().filter(|key| !key.is_empty());
    let (Some(access_key), Some(secret_key)) = (access_key, &settings.secret_key) else {
        return Err("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must both be set");
    };
    let session_token = settings.session_token.as_ref().map(|token| token.expose().to_owned());
    Ok(Credentials::new(access_key, Secret::expose(secret_key), session_token, None, "chores"))
}

fn is_endpoint(endpoint: &str) -> bool {
    endpoint
        .strip_prefix("http://")
        .or_else(|| endpoint.strip_prefix("https://"))
        .map(|rest| rest.trim_end_matches('/'))
        .is_some_and(|host| {
            !host.is_empty()
                && host.chars().all(|c| {
                    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']')
                })
        })
}

fn attempt_time(bytes: u64) -> Duration {
    ATTEMPT_TIME_MIN + Duration::from_secs(bytes / THROUGHPUT_MIN)
}

fn known_length(length: Option<i64>) -> Result<u64, Fault> {
    length
        .and_then(|length| u64::try_from(length).ok())
        .ok_or_else(|| Fault::corrupt("the answer does not say its length"))
}

/// The body, which must be exactly `length` bytes long. One that breaks off is worth another
/// attempt.
async fn collect(mut body: ByteStream, length: u64) -> Result<Bytes, Fault> {
    let reserve = usize::try_from(length.min(RESERVE_BYTES_MAX)).unwrap_or(0);
    let mut bytes = BytesMut::with_capacity(reserve);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| Fault::broken_body(&error))?;
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > length {
            return Err(Fault::corrupt(format!("more than the announced {length} bytes came")));
        }
    }
    if bytes.len() as u64 == length {
        Ok(bytes.freeze())
    } else {
        Err(Fault::short_body(bytes.len() as u64, length))
    }
}

fn time(time: Option<&DateTime>) -> std::time::SystemTime {
    time.and_then(|time| std::time::SystemTime::try_from(*time).ok()).unwrap_or(UNIX_EPOCH)
}
