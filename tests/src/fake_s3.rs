//! An object store in memory that fails where a plan says.
//!
//! It speaks S3 over HTTP (through the `s3s` crate), is strongly consistent like S3 itself, counts every
//! call, and can fail, lose the answer, reorder or die at any of them. [`FakeS3::objects`] is the state a
//! crash leaves; [`FakeS3::with_objects`] is the store after the restart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use hyper::header::HeaderValue;
use hyper::{HeaderMap, StatusCode};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CommonPrefix,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, DeletedObject, ETag, GetObjectInput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListObjectVersionsInput, ListObjectVersionsOutput,
    ListObjectsV2Input, ListObjectsV2Output, Object, ObjectLockConfiguration, ObjectLockEnabled,
    PutObjectInput, PutObjectOutput, PutObjectRetentionInput, PutObjectRetentionOutput,
    StreamingBlob, UploadPartInput, UploadPartOutput,
};
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tokio::sync::Notify;

use crate::http_server::{DROP_CONNECTION_HEADER, Server};
use crate::object_store::{Address, own_address};
use crate::sandbox::unique_name;
use versions::Versions;
pub use versions::{Locks, Version};

mod versions;

/// How long a held call waits for another one to overtake it when nothing is in flight (milliseconds).
const REORDER_MILLISECONDS_MAX: u64 = 250;

/// The longest list answer (keys), as in S3.
const LIST_KEYS_MAX: usize = 1000;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Store an object, a part or a finished upload.
    Put,
    /// Read an object or a range of it.
    Get,
    /// Ask for an object's size, or whether the bucket is there.
    Head,
    /// List keys.
    List,
    /// Delete objects, or drop an upload.
    Delete,
    /// Lock an object, or ask whether the bucket has locks.
    Lock,
}

/// What goes wrong, addressed by the index of the call over all calls of the store's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// From this call on, this operation on this key is answered 500 and not done.
    Fail(usize),
    /// This call is answered 500 and not done; a retry works.
    FailOnce(usize),
    /// This call is done, but the connection closes before the answer; a retry works.
    AppliedButLost(usize),
    /// From this call on, every call is refused with 403 and not done.
    Crash(usize),
    /// This call is done, but neither it nor any later one is answered with success.
    CrashAfter(usize),
    /// The first call of this kind on a pack is done only after this time.
    Stall(Op, Duration),
    /// This call, if it stores, is done only after another one that came later, or after nothing else
    /// has come for a quarter of a second.
    Reorder(usize),
}

/// A call that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its index.
    pub index: usize,
    /// What it asked for.
    pub op: Op,
    /// The key, or the prefix of a list.
    pub key: String,
    /// Bytes stored or returned.
    pub bytes: usize,
    /// Whether it was done, whatever was answered.
    pub done: bool,
}

/// The objects of a store by key.
pub type Objects = BTreeMap<String, Bytes>;

/// The store. Its server ends on drop.
#[derive(Debug)]
pub struct FakeS3 {
    address: Address,
    shared: Arc<Shared>,
    _server: Server,
}

impl FakeS3 {
    /// An empty store that works.
    #[must_use]
    pub fn new() -> Self {
        Self::with_objects(Objects::new(), &[])
    }

    /// A store that holds these objects and fails as planned.
    #[must_use]
    pub fn with_objects(objects: Objects, plan: &[Fault]) -> Self {
        Self::of_kind(objects, plan, Locks::Unknown)
    }

    /// An empty store with Object Lock, as far as `locks` says.
    #[must_use]
    pub fn locking(locks: Locks) -> Self {
        Self::of_kind(Objects::new(), &[], locks)
    }

    fn of_kind(objects: Objects, plan: &[Fault], locks: Locks) -> Self {
        const HOST: &str = "127.0.0.1";
        let address = own_address(&unique_name());
        let now = SystemTime::now();
        let objects = objects.into_iter().map(|(key, bytes)| (key, (bytes, now))).collect();
        let versions = Versions::new(locks);
        let state = State { objects, plan: plan.to_vec(), versions, ..State::default() };
        let shared = Arc::new(Shared {
            bucket: address.bucket.clone(),
            state: Mutex::new(state),
            stored: Notify::new(),
        });
        let mut service = S3ServiceBuilder::new(Frontend(Arc::clone(&shared)));
        service.set_auth(SimpleAuth::from_single(
            address.access_key.as_str(),
            address.secret_key.as_str(),
        ));
        service.set_access(Anyone);
        let server = Server::start(service.build(), HOST);
        let address = Address { endpoint: format!("http://{HOST}:{}", server.port()), ..address };
        Self { address, shared, _server: server }
    }

    /// Where it is and what opens it. Unsigned calls are let in, wrongly signed ones are not.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What it holds now.
    #[must_use]
    pub fn objects(&self) -> Objects {
        let state = self.shared.state();
        state.objects.iter().map(|(key, (bytes, _))| (key.clone(), bytes.clone())).collect()
    }

    /// So much time passes for the store.
    pub fn advance(&self, time: Duration) {
        self.shared.state().ahead += time;
    }

    /// The store's time.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.shared.state().now()
    }

    /// From now on other locks, such as none for who has lost the right to set them.
    pub fn set_locks(&self, locks: Locks) {
        self.shared.state().versions.locks = locks;
    }

    /// Whether somebody else keeps all versions from going, in a way that no version shows.
    pub fn set_held_by_others(&self, held: bool) {
        self.shared.state().versions.held_by_others = held;
    }

    /// Every version of every key, from the oldest to the latest, where the store has locks.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<String, Vec<Version>> {
        self.shared.state().versions.all.clone()
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }
}

impl Default for FakeS3 {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Shared {
    bucket: String,
    state: Mutex<State>,
    stored: Notify,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, (Bytes, SystemTime)>,
    uploads: HashMap<String, BTreeMap<i32, Bytes>>,
    plan: Vec<Fault>,
    calls: Vec<Call>,
    failing: BTreeSet<(Op, String)>,
    crashed: bool,
    stalled: bool,
    stored: usize,
    /// How much later it is here than elsewhere.
    ahead: Duration,
    versions: Versions,
}

/// What to do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Work,
    Fail,
    Refuse,
    WorkAndLose,
    WorkAndRefuse,
    Hold { stored: usize },
    Stall(Duration),
}

impl State {
    fn now(&self) -> SystemTime {
        SystemTime::now() + self.ahead
    }

    /// What a key holds now is what its versions say.
    fn show(&mut self, key: &str) {
        match self.versions.current(key) {
            Some(version) => {
                let object = (version.bytes.clone(), version.modified);
                self.objects.insert(key.to_owned(), object);
            }
            None => {
                self.objects.remove(key);
            }
        }
    }

    /// Stores an object.
    fn store(&mut self, key: &str, bytes: Bytes, retention: Option<versions::Retention>) {
        let now = self.now();
        if self.versions.are_kept() {
            self.versions.put(key, bytes, now, retention);
            self.show(key);
        } else {
            self.objects.insert(key.to_owned(), (bytes, now));
        }
    }

    /// Removes an object, or one version of it.
    fn remove(&mut self, key: &str, version: Option<&str>) -> S3Result<()> {
        if self.versions.are_kept() {
            let now = self.now();
            self.versions.delete(key, version, now)?;
            self.show(key);
        } else {
            self.objects.remove(key);
        }
        Ok(())
    }

    /// Counts the call and decides what happens to it.
    fn admit(&mut self, op: Op, key: &str, bytes: usize) -> (usize, Verdict) {
        let index = self.calls.len();
        let mut verdict = Verdict::Work;
        for fault in &self.plan {
            match *fault {
                Fault::Fail(at) if at == index => {
                    self.failing.insert((op, key.to_owned()));
                }
                Fault::FailOnce(at) if at == index => verdict = Verdict::Fail,
                Fault::AppliedButLost(at) if at == index => verdict = Verdict::WorkAndLose,
                Fault::Crash(at) if at == index => self.crashed = true,
                Fault::CrashAfter(at) if at == index => verdict = Verdict::WorkAndRefuse,
                Fault::Reorder(at) if at == index && op == Op::Put => {
                    verdict = Verdict::Hold { stored: self.stored };
                }
                Fault::Stall(of, time) if of == op && key.contains("packs/") && !self.stalled => {
                    self.stalled = true;
                    verdict = Verdict::Stall(time);
                }
                _ => {}
            }
        }
        if self.failing.contains(&(op, key.to_owned())) {
            verdict = Verdict::Fail;
        }
        if self.crashed {
            verdict = Verdict::Refuse;
        }
        if verdict == Verdict::WorkAndRefuse {
            self.crashed = true;
        }
        let done = !matches!(verdict, Verdict::Fail | Verdict::Refuse);
        self.calls.push(Call { index, op, key: key.to_owned(), bytes, done });
        (index, verdict)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one call under the plan: `work` sees the state exactly once, or not at all.
    async fn call<T>(
        &self,
        bucket: &str,
        op: Op,
        key: &str,
        bytes: usize,
        work: impl FnOnce(&mut State) -> S3Result<(T, usize)>,
    ) -> S3Result<S3Response<T>> {
        if bucket != self.bucket {
            return Err(s3_error!(NoSuchBucket, "no such bucket"));
        }
        let (index, verdict) = self.state().admit(op, key, bytes);
        if let Verdict::Hold { stored } = verdict {
            self.wait_for_another(stored).await;
        }
        if let Verdict::Stall(time) = verdict {
            tokio::time::sleep(time).await;
        }
        match verdict {
            Verdict::Fail => return Err(s3_error!(InternalError, "failed on purpose")),
            Verdict::Refuse => return Err(s3_error!(AccessDenied, "down on purpose")),
            _ => {}
        }
        let outcome = {
            let mut state = self.state();
            let outcome = work(&mut state);
            if let (Ok((_, bytes)), Some(call)) = (&outcome, state.calls.get_mut(index)) {
                call.bytes = *bytes;
            }
            state.stored += usize::from(op == Op::Put);
            outcome
        };
        self.stored.notify_waiters();
        match verdict {
            Verdict::WorkAndLose => Err(dropped_connection()),
            Verdict::WorkAndRefuse => Err(s3_error!(AccessDenied, "down on purpose")),
            _ => outcome.map(|(output, _)| S3Response::new(output)),
        }
    }

    async fn wait_for_another(&self, stored: usize) {
        let patience = Duration::from_millis(REORDER_MILLISECONDS_MAX);
        loop {
            let notified = self.stored.notified();
            if self.state().stored > stored {
                return;
            }
            // The client may be waiting for this very call: then nothing can overtake it.
            if tokio::time::timeout(patience, notified).await.is_err() {
                return;
            }
        }
    }
}

fn dropped_connection() -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::InternalError);
    error.set_status_code(StatusCode::INTERNAL_SERVER_ERROR);
    error.set_headers(HeaderMap::from_iter([(
        hyper::header::HeaderName::from_static(DROP_CONNECTION_HEADER),
        HeaderValue::from_static("1"),
    )]));
    error
}

/// Lets in calls without a signature, so that a test can look without a client.
struct Anyone;

#[async_trait]
impl S3Access for Anyone {
    async fn check(&self, _context: &mut S3AccessContext<'_>) -> S3Result<()> {
        Ok(())
    }
}

struct Frontend(Arc<Shared>);

async fn body(blob: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(blob) = blob else { return Ok(Bytes::new()) };
    let pieces: Vec<Bytes> = blob
        .try_collect()
        .await
        .map_err(|error| S3Error::with_source(S3ErrorCode::IncompleteBody, error))?;
    Ok(pieces.concat().into())
}

/// An opaque tag that differs when the content does.
fn tag(bytes: &[u8]) -> ETag {
    ETag::Strong(blake3::hash(bytes).to_hex().as_str().get(..32).unwrap_or_default().to_owned())
}

#[async_trait]
impl S3 for Frontend {
    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let bytes = body(input.body).await?;
        let only_new = input.if_none_match.is_some();
        let key = input.key.clone();
        self.0
            .call(&input.bucket, Op::Put, &key, bytes.len(), |state| {
                if only_new && state.objects.contains_key(&input.key) {
                    return Err(s3_error!(PreconditionFailed, "the object exists"));
                }
                let retention =
                    match (&input.object_lock_mode, &input.object_lock_retain_until_date) {
                        (Some(mode), Some(until)) => {
                            let has_checksum =
                                input.content_md5.is_some() || input.checksum_sha256.is_some();
                            state.versions.wanted(
                                mode.as_str(),
                                until,
                                has_checksum,
                                state.now(),
                            )?
                        }
                        _ => None,
                    };
                let (e_tag, length) = (Some(tag(&bytes)), bytes.len());
                state.store(&input.key, bytes, retention);
                Ok((PutObjectOutput { e_tag, ..PutObjectOutput::default() }, length))
            })
            .await
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let mut partial = false;
        let response = self
            .0
            .call(&input.bucket, Op::Get, &input.key, 0, |state| {
                let found = match &input.version_id {
                    Some(id) => state.versions.held(&input.key, id),
                    None => state.objects.get(&input.key).cloned(),
                };
                let (bytes, modified) = found.ok_or_else(|| s3_error!(NoSuchKey, "no such key"))?;
                let total = bytes.len() as u64;
                let range = match &input.range {
                    Some(range) => {
                        Some(range.check(total).map_err(|_| s3_error!(InvalidRange, "bad range"))?)
                    }
                    None => None,
                };
                let part = match &range {
                    Some(range) => bytes.slice(range.start as usize..range.end as usize),
                    None => bytes.clone(),
                };
                partial = range.is_some();
                let length = part.len();
                let output = GetObjectOutput {
                    content_length: Some(length as i64),
                    content_range: range.map(|range| {
                        format!("bytes {}-{}/{total}", range.start, range.end.saturating_sub(1))
                    }),
                    e_tag: Some(tag(&bytes)),
                    last_modified: Some(modified.into()),
                    body: Some(StreamingBlob::from(s3s::Body::from(part))),
                    ..GetObjectOutput::default()
                };
                Ok((output, length))
            })
            .await?;
        let status = partial.then_some(StatusCode::PARTIAL_CONTENT);
        Ok(S3Response { status, ..response })
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        self.0
            .call(&input.bucket, Op::Head, &input.key, 0, |state| {
                if state.versions.are_kept() {
                    return Ok((state.versions.head(&input.key, input.version_id.as_deref())?, 0));
                }
                let (bytes, modified) = state
                    .objects
                    .get(&input.key)
                    .ok_or_else(|| s3_error!(NoSuchKey, "no such key"))?;
                let output = HeadObjectOutput {
                    content_length: Some(bytes.len() as i64),
                    e_tag: Some(tag(bytes)),
                    last_modified: Some((*modified).into()),
                    ..HeadObjectOutput::default()
                };
                Ok((output, 0))
            })
            .await
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        let work = |_: &mut State| Ok((HeadBucketOutput::default(), 0));
        self.0.call(&request.input.bucket, Op::Head, "", 0, work).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let prefix = input.prefix.clone().unwrap_or_default();
        self.0
            .call(&input.bucket, Op::List, &prefix, 0, |state| {
                Ok((list(state, &input, &prefix), 0))
            })
            .await
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        self.0
            .call(&input.bucket, Op::Delete, &input.key, 0, |state| {
                state.remove(&input.key, input.version_id.as_deref())?;
                Ok((DeleteObjectOutput::default(), 0))
            })
            .await
    }

    async fn get_object_lock_configuration(
        &self,
        request: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        self.0
            .call(&request.input.bucket, Op::Lock, "", 0, |state| {
                state.versions.configured()?;
                let enabled = ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED);
                let configuration = ObjectLockConfiguration {
                    object_lock_enabled: Some(enabled),
                    ..ObjectLockConfiguration::default()
                };
                let output = GetObjectLockConfigurationOutput {
                    object_lock_configuration: Some(configuration),
                };
                Ok((output, 0))
            })
            .await
    }

    async fn put_object_retention(
        &self,
        request: S3Request<PutObjectRetentionInput>,
    ) -> S3Result<S3Response<PutObjectRetentionOutput>> {
        let input = request.input;
        self.0
            .call(&input.bucket, Op::Lock, &input.key, 0, |state| {
                let now = state.now();
                state.versions.retain(&input, now)?;
                Ok((PutObjectRetentionOutput::default(), 0))
            })
            .await
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        let prefix = input.prefix.clone().unwrap_or_default();
        self.0
            .call(&input.bucket, Op::List, &prefix, 0, |state| {
                Ok((state.versions.list(&input, &prefix)?, 0))
            })
            .await
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        let keys: Vec<String> = input.delete.objects.into_iter().map(|object| object.key).collect();
        self.0
            .call(&input.bucket, Op::Delete, &keys.join(" "), 0, |state| {
                for key in &keys {
                    state.remove(key, None)?;
                }
                let deleted =
                    |key: &String| DeletedObject { key: Some(key.clone()), ..Default::default() };
                let deleted = Some(keys.iter().map(deleted).collect());
                Ok((DeleteObjectsOutput { deleted, ..DeleteObjectsOutput::default() }, 0))
            })
            .await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        self.0
            .call(&input.bucket, Op::Put, &input.key, 0, |state| {
                let id = unique_name();
                state.uploads.insert(id.clone(), BTreeMap::new());
                let output = CreateMultipartUploadOutput {
                    bucket: Some(input.bucket.clone()),
                    key: Some(input.key.clone()),
                    upload_id: Some(id),
                    ..CreateMultipartUploadOutput::default()
                };
                Ok((output, 0))
            })
            .await
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let bytes = body(input.body).await?;
        self.0
            .call(&input.bucket, Op::Put, &input.key, bytes.len(), |state| {
                let parts = state
                    .uploads
                    .get_mut(&input.upload_id)
                    .ok_or_else(|| s3_error!(NoSuchUpload, "no such upload"))?;
                let (e_tag, length) = (Some(tag(&bytes)), bytes.len());
                parts.insert(input.part_number, bytes);
                Ok((UploadPartOutput { e_tag, ..UploadPartOutput::default() }, length))
            })
            .await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        self.0
            .call(&input.bucket, Op::Put, &input.key, 0, |state| {
                let parts = state
                    .uploads
                    .remove(&input.upload_id)
                    .ok_or_else(|| s3_error!(NoSuchUpload, "no such upload"))?;
                let bytes: Bytes = parts.into_values().collect::<Vec<_>>().concat().into();
                let (e_tag, length) = (Some(tag(&bytes)), bytes.len());
                state.store(&input.key, bytes, None);
                let output = CompleteMultipartUploadOutput {
                    bucket: Some(input.bucket.clone()),
                    key: Some(input.key.clone()),
                    e_tag,
                    ..CompleteMultipartUploadOutput::default()
                };
                Ok((output, length))
            })
            .await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.0
            .call(&input.bucket, Op::Delete, &input.key, 0, |state| {
                state.uploads.remove(&input.upload_id);
                Ok((AbortMultipartUploadOutput::default(), 0))
            })
            .await
    }
}

/// One page of a listing: keys after the marker, those below a delimiter folded into their prefix.
fn list(state: &State, input: &ListObjectsV2Input, prefix: &str) -> ListObjectsV2Output {
    let wanted =
        usize::try_from(input.max_keys.unwrap_or(i32::MAX)).unwrap_or(0).min(LIST_KEYS_MAX);
    let after = input.continuation_token.as_deref().or(input.start_after.as_deref()).unwrap_or("");
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let (mut contents, mut prefixes) = (Vec::new(), BTreeSet::new());
    let mut last = None;
    let mut is_truncated = false;
    for (key, (bytes, modified)) in state.objects.range(prefix.to_owned()..) {
        let Some(rest) = key.strip_prefix(prefix) else { break };
        let folded = delimiter.and_then(|delimiter| {
            rest.split_once(delimiter).map(|(head, _)| format!("{prefix}{head}{delimiter}"))
        });
        let name = folded.as_ref().unwrap_or(key);
        if name.as_str() <= after || folded.as_ref().is_some_and(|folded| prefixes.contains(folded))
        {
            continue;
        }
        if contents.len() + prefixes.len() == wanted {
            is_truncated = true;
            break;
        }
        last = Some(name.clone());
        match folded {
            Some(folded) => {
                prefixes.insert(folded);
            }
            None => contents.push(Object {
                key: Some(key.clone()),
                size: Some(bytes.len() as i64),
                e_tag: Some(tag(bytes)),
                last_modified: Some((*modified).into()),
                ..Object::default()
            }),
        }
    }
    let common_prefixes = prefixes
        .into_iter()
        .map(|prefix| CommonPrefix { prefix: Some(prefix) })
        .collect::<Vec<_>>();
    ListObjectsV2Output {
        name: Some(input.bucket.clone()),
        prefix: input.prefix.clone(),
        delimiter: input.delimiter.clone(),
        max_keys: input.max_keys,
        key_count: i32::try_from(contents.len() + common_prefixes.len()).ok(),
        is_truncated: Some(is_truncated),
        next_continuation_token: last.filter(|_| is_truncated),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        ..ListObjectsV2Output::default()
    }
}

#[cfg(test)]
mod tests;
