//! Objects in an S3 bucket; the only user of the AWS libraries.
//!
//! Requests carry no checksum trailers and no chunked encoding, which many S3-compatible services
//! do not understand; the SHA-256 of the body is part of the signature, so a service that checks
//! signatures also checks the content. Retries are ours and not the SDK's, since the SDK does not
//! repeat a download whose body breaks off.

mod judge;
mod multipart;
mod retention;

use std::fmt::Debug;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, ConfigBag, Credentials, Intercept, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, RuntimeComponents, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::{Client, Config};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use bytes::{Bytes, BytesMut};

use super::error::{Act, ErrorKind, ObjectError, too_long, too_many, too_short};
use super::fault::{Fault, Tries};
use super::key::is_valid_key;
use super::location::{Location, without_password};
use super::part::{Cut, bytes_of_part};
use super::retention::Retention;
use super::{LIST_OBJECTS_MAX, ObjectMeta, S3Settings, trust};
use crate::exit::chain;
use crate::secret::Secret;

#[cfg(test)]
mod tests;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a transfer may stand still.
const STALL_TIME_MAX: Duration = Duration::from_secs(30);
/// Idle connections are closed before the usual servers and load balancers do it.
const IDLE_TIME_MAX: Duration = Duration::from_secs(20);
/// Most memory that is reserved before the bytes are there.
const RESERVE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Acts at once: more than any of our programs begins.
const REQUESTS_MAX: usize = 256;
/// Keys per page of a listing: the protocol's limit.
const PAGE_KEYS: i32 = 1000;
/// Pages of one listing, of which a service may leave each next to empty.
const PAGES_MAX: usize = 100_000;
/// How long one listing may take, of which each page has its own time: more than one of as many objects as are taken needs.
const LISTING_TIME_MAX: Duration = Duration::from_secs(6 * 60 * 60);
/// A part is sent (RFC 9110, section 15.3.7).
const PARTIAL_CONTENT: u16 = 206;
/// A condition that did not hold (RFC 9110, section 15.5.13).
const PRECONDITION_FAILED: u16 = 412;
/// What services that do not know a condition say of it: no such argument, no such method, not implemented.
const CONDITION_UNKNOWN: [u16; 3] = [400, 405, 501];
const REGION_DEFAULT: &str = "us-east-1";

#[derive(Debug)]
pub(super) struct S3 {
    client: Client,
    bucket: String,
    prefix: String,
    /// By a name such as `s3://b/p at http://…`.
    tries: Tries,
}

impl S3 {
    pub(super) fn new(
        bucket: &str,
        prefix: &str,
        settings: &S3Settings,
    ) -> Result<Self, ObjectError> {
        let location = Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        let name = match &settings.endpoint {
            // Keys do not belong into it, and who put them there is not to find them in the log.
            Some(endpoint) => format!("{location} at {}", without_password(endpoint)),
            None => location.to_string(),
        };
        let config = config(settings).map_err(|reason| {
            ObjectError::new(ErrorKind::Invalid, Act::Open, "", name.clone(), reason)
        })?;
        Ok(Self {
            client: Client::from_conf(config),
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            tries: Tries::at(name, REQUESTS_MAX),
        })
    }

    pub(super) fn location(&self) -> Location {
        let prefix = self.prefix.trim_end_matches('/').to_owned();
        Location::S3 { bucket: self.bucket.clone(), prefix }
    }

    /// Asks with a listing, because keys that may list a prefix may not always look at the bucket.
    pub(super) async fn create_root(&self) -> Result<(), ObjectError> {
        self.tries
            .attempts(Act::CreateRoot, "", 0, async || {
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
        self.put_as(key, bytes, None, false).await.map(drop)
    }

    pub(super) async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        self.put_as(key, bytes, None, true).await
    }

    /// Says whether it was stored. What `is_new` is not where something is under the key.
    async fn put_as(
        &self,
        key: &str,
        bytes: Bytes,
        retention: Option<Retention>,
        is_new: bool,
    ) -> Result<bool, ObjectError> {
        let full_key = self.tries.full_key(Act::Write, &self.prefix, key)?;
        self.tries
            .attempts(Act::Write, key, bytes.len() as u64, async || {
                let put = self
                    .client
                    .put_object()
                    .bucket(&self.bucket)
                    .key(&full_key)
                    .set_if_none_match(is_new.then(|| "*".to_owned()))
                    .body(ByteStream::from(bytes.clone()));
                let put = match retention {
                    Some(retention) => retention::locked(put, retention),
                    None => put.customize(),
                };
                match put.send().await {
                    Ok(_) => Ok(true),
                    Err(error) => {
                        let status = error.raw_response().map(|answer| answer.status().as_u16());
                        match status {
                            Some(PRECONDITION_FAILED) if is_new => Ok(false),
                            Some(status) if is_new && CONDITION_UNKNOWN.contains(&status) => {
                                Err(Fault::from(error).of_condition())
                            }
                            _ => Err(error.into()),
                        }
                    }
                }
            })
            .await
    }

    pub(super) async fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        self.get_any(key, None, bytes_max).await
    }

    /// What is under `key` now, or one version of it.
    async fn get_any(
        &self,
        key: &str,
        version: Option<&str>,
        bytes_max: u64,
    ) -> Result<Bytes, ObjectError> {
        let full_key = self.tries.full_key(Act::Read, &self.prefix, key)?;
        self.tries
            .attempts(Act::Read, key, bytes_max.min(RESERVE_BYTES_MAX), async || {
                let get = self.client.get_object().bucket(&self.bucket).key(&full_key);
                let get = get.set_version_id(version.map(str::to_owned)).send();
                let answer = get.await.map_err(Fault::from)?;
                let length = known_length(answer.content_length())?;
                if length > bytes_max {
                    return Err(Fault::corrupt(too_long(length, bytes_max)));
                }
                collect(answer.body, Cut::whole(length)).await
            })
            .await
    }

    pub(super) async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, ObjectError> {
        let full_key = self.tries.full_key(Act::Read, &self.prefix, key)?;
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
            return Ok(Bytes::new());
        };
        let wanted = range.end - range.start;
        let header = format!("bytes={}-{last}", range.start);
        self.tries
            .attempts(Act::Read, key, bytes_of_part(&range), async || {
                let get = self
                    .client
                    .get_object()
                    .bucket(&self.bucket)
                    .key(&full_key)
                    .range(&header)
                    .customize();
                let seen = SeenStatus::default();
                let answer = get.interceptor(seen.clone()).send().await.map_err(Fault::from)?;
                let length = known_length(answer.content_length())?;
                let is_part = seen.0.load(Ordering::Relaxed) == PARTIAL_CONTENT;
                let cut = match answer.content_range() {
                    // Some gateways do not say which part it is.
                    None if is_part && length == wanted => Cut::whole(wanted),
                    sent => Cut::of(&range, is_part, sent, Some(length))?,
                };
                if cut.length() != wanted {
                    return Err(Fault::corrupt(too_short(range.start + cut.length(), &range)));
                }
                collect(answer.body, cut).await
            })
            .await
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, ObjectError> {
        let full_prefix = format!("{}{prefix}", self.prefix);
        self.pages(prefix, "objects", |token| self.list_page(&full_prefix, token), |_| {}).await
    }

    /// What is on all pages of a listing of `what`. Each is asked for with what the one before says of it, and `tidy` is
    /// called behind each, with all there is.
    async fn pages<Item, Next, Page>(
        &self,
        prefix: &str,
        what: &str,
        page: impl Fn(Option<Next>) -> Page,
        mut tidy: impl FnMut(&mut Vec<Item>),
    ) -> Result<Vec<Item>, ObjectError>
    where
        Next: Clone + PartialEq,
        Page: Future<Output = Result<(Vec<Item>, Option<Next>), Fault>>,
    {
        let failed =
            |reason: String| Err(self.tries.error(ErrorKind::Corrupt, Act::List, prefix, reason));
        let mut all = Vec::new();
        let mut at: Option<Next> = None;
        let deadline = Instant::now() + LISTING_TIME_MAX;
        for _page in 0..PAGES_MAX {
            if Instant::now() > deadline {
                let reason =
                    format!("the listing takes more than {} s", LISTING_TIME_MAX.as_secs());
                return Err(self.tries.error(ErrorKind::Unavailable, Act::List, prefix, reason));
            }
            let asked = self.tries.attempts(Act::List, prefix, 0, || page(at.clone()));
            let (found, next) = asked.await?;
            all.extend(found);
            tidy(&mut all);
            if all.len() > LIST_OBJECTS_MAX {
                return failed(too_many(what));
            }
            match next {
                None => return Ok(all),
                // A service that repeats itself would be asked for ever.
                Some(_) if next == at => {
                    return failed("the pages of the listing repeat".to_owned());
                }
                next => at = next,
            }
        }
        failed(format!("the listing has more than {PAGES_MAX} pages"))
    }

    pub(super) async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        let full_key = self.tries.full_key(Act::Find, &self.prefix, key)?;
        self.tries
            .attempts(Act::Find, key, 0, async || {
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
        let full_key = self.tries.full_key(Act::Delete, &self.prefix, key)?;
        self.tries
            .attempts(Act::Delete, key, 0, async || {
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
        let keyed = answer.contents().iter().filter_map(|object| {
            let key = object.key()?.strip_prefix(&self.prefix).filter(|key| is_valid_key(key))?;
            Some((key, object))
        });
        let objects = keyed.map(|(key, object)| {
            // To pass over a snapshot would mean to delete what it needs.
            let size = object.size().and_then(|size| u64::try_from(size).ok());
            Ok(ObjectMeta {
                key: key.to_owned(),
                size: size
                    .ok_or_else(|| Fault::corrupt("the listing gives an object no length"))?,
                modified: time(object.last_modified()),
            })
        });
        let objects = objects.collect::<Result<_, Fault>>()?;
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
}

/// The status of an answer, of which the library tells nobody when it is a good one. 0 before there is any.
#[derive(Debug, Clone, Default)]
struct SeenStatus(Arc<AtomicU16>);

impl Intercept for SeenStatus {
    fn name(&self) -> &'static str {
        "status"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.store(context.response().status().as_u16(), Ordering::Relaxed);
        Ok(())
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

fn known_length(length: Option<i64>) -> Result<u64, Fault> {
    length
        .and_then(|length| u64::try_from(length).ok())
        .ok_or_else(|| Fault::corrupt("the answer does not say its length"))
}

/// What is cut out of a body, which must have all of it. One that breaks off is worth another attempt.
async fn collect(mut body: ByteStream, mut cut: Cut) -> Result<Bytes, Fault> {
    let length = cut.length();
    let reserve = usize::try_from(length.min(RESERVE_BYTES_MAX)).unwrap_or(0);
    let mut bytes = BytesMut::with_capacity(reserve);
    while !cut.is_done()
        && let Some(piece) = body.next().await
    {
        let piece = piece.map_err(|error| Fault::broken_body(&error))?;
        bytes.extend_from_slice(&cut.take(&piece));
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
