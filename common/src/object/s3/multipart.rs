//! Bodies of unknown length: one PUT when they fit one part, a multipart upload otherwise.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use tokio::task::JoinSet;

use super::{Act, ErrorKind, ObjectError, S3};
use crate::object::body::{Body, Piece};
use crate::object::fault::Fault;

/// Parts of one upload, the protocol's limit.
const PARTS_MAX: i32 = 10_000;
/// The first half of the parts; all equal, since some services demand it.
const PART_BYTES: usize = 16 * 1024 * 1024;
/// The second half, so that bodies of up to 390 GiB fit.
const LATE_PART_BYTES: usize = 64 * 1024 * 1024;
/// Parts on their way at once; one more is being filled.
const PARTS_IN_FLIGHT: usize = 2;

struct Upload {
    key: String,
    full_key: String,
    id: String,
}

struct Part {
    bytes: Bytes,
    is_last: bool,
}

/// A body, and what the last part left of a chunk.
struct Source {
    body: Body,
    rest: Bytes,
}

impl S3 {
    pub(in crate::object) async fn put_stream(
        self: &Arc<Self>,
        key: &str,
        body: Body,
    ) -> Result<u64, ObjectError> {
        let mut source = Source { body, rest: Bytes::new() };
        let first = self.fill(key, &mut source, PART_BYTES).await?;
        if first.is_last {
            let length = first.bytes.len() as u64;
            self.put(key, first.bytes).await?;
            return Ok(length);
        }
        let upload = Arc::new(self.begin(key).await?);
        match self.send_parts(&upload, first, source).await {
            Ok(length) => Ok(length),
            Err(error) => {
                self.abort(&upload).await;
                Err(error)
            }
        }
    }

    async fn send_parts(
        self: &Arc<Self>,
        upload: &Arc<Upload>,
        first: Part,
        mut source: Source,
    ) -> Result<u64, ObjectError> {
        let mut sending = JoinSet::new();
        let mut done = Vec::new();
        let mut length = 0;
        let mut part = first;
        for number in 1..=PARTS_MAX {
            length += part.bytes.len() as u64;
            let is_last = part.is_last;
            if sending.len() == PARTS_IN_FLIGHT {
                self.take_one(upload, &mut sending, &mut done).await?;
            }
            let (store, upload_of_part) = (Arc::clone(self), Arc::clone(upload));
            sending
                .spawn(async move { store.send_part(&upload_of_part, number, part.bytes).await });
            if is_last {
                while !sending.is_empty() {
                    self.take_one(upload, &mut sending, &mut done).await?;
                }
                self.complete(upload, done).await?;
                return Ok(length);
            }
            part = self.fill(&upload.key, &mut source, part_bytes(number + 1)).await?;
        }
        let reason = format!("it is longer than {PARTS_MAX} parts can hold");
        Err(self.tries.error(ErrorKind::Invalid, Act::Write, &upload.key, reason))
    }

    /// The next part: full, or the last.
    async fn fill(
        &self,
        key: &str,
        source: &mut Source,
        part_bytes: usize,
    ) -> Result<Part, ObjectError> {
        let mut bytes = BytesMut::new();
        loop {
            let wanted = part_bytes - bytes.len();
            bytes.extend_from_slice(&source.rest.split_to(wanted.min(source.rest.len())));
            if bytes.len() == part_bytes {
                return Ok(Part { bytes: bytes.freeze(), is_last: false });
            }
            match source.body.next().await {
                Some(Piece::Chunk(chunk)) => source.rest = chunk,
                Some(Piece::End) => return Ok(Part { bytes: bytes.freeze(), is_last: true }),
                None => {
                    let reason = "its source stopped before the end";
                    return Err(self.tries.error(ErrorKind::Corrupt, Act::Write, key, reason));
                }
            }
        }
    }

    async fn take_one(
        &self,
        upload: &Upload,
        sending: &mut JoinSet<Result<CompletedPart, ObjectError>>,
        done: &mut Vec<CompletedPart>,
    ) -> Result<(), ObjectError> {
        match sending.join_next().await {
            Some(Ok(part)) => done.push(part?),
            Some(Err(error)) => {
                let reason = error.to_string();
                return Err(self.tries.error(ErrorKind::Invalid, Act::Write, &upload.key, reason));
            }
            None => {}
        }
        Ok(())
    }

    async fn begin(&self, key: &str) -> Result<Upload, ObjectError> {
        let full_key = self.tries.full_key(Act::Write, &self.prefix, key)?;
        let id = self
            .tries
            .attempts(Act::Write, key, 0, async || {
                let create = self
                    .client
                    .create_multipart_upload()
                    .bucket(&self.bucket)
                    .key(&full_key)
                    .send();
                let answer = create.await.map_err(Fault::from)?;
                answer
                    .upload_id()
                    .map(str::to_owned)
                    .ok_or_else(|| Fault::corrupt("the store gave no upload id"))
            })
            .await?;
        Ok(Upload { key: key.to_owned(), full_key, id })
    }

    async fn send_part(
        &self,
        upload: &Upload,
        number: i32,
        bytes: Bytes,
    ) -> Result<CompletedPart, ObjectError> {
        self.tries
            .attempts(Act::Write, &upload.key, bytes.len() as u64, async || {
                let send = self
                    .client
                    .upload_part()
                    .bucket(&self.bucket)
                    .key(&upload.full_key)
                    .upload_id(&upload.id)
                    .part_number(number)
                    .body(ByteStream::from(bytes.clone()))
                    .send();
                let answer = send.await.map_err(Fault::from)?;
                let e_tag = answer.e_tag().map(str::to_owned);
                Ok(CompletedPart::builder().part_number(number).set_e_tag(e_tag).build())
            })
            .await
    }

    async fn complete(
        &self,
        upload: &Upload,
        mut parts: Vec<CompletedPart>,
    ) -> Result<(), ObjectError> {
        parts.sort_unstable_by_key(CompletedPart::part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        self.tries
            .attempts(Act::Write, &upload.key, 0, async || {
                let complete = self
                    .client
                    .complete_multipart_upload()
                    .bucket(&self.bucket)
                    .key(&upload.full_key)
                    .upload_id(&upload.id)
                    .multipart_upload(parts.clone())
                    .send();
                complete.await.map_err(Fault::from)?;
                Ok(())
            })
            .await
    }

    /// Parts of an upload that is not completed cost money until it is aborted.
    async fn abort(&self, upload: &Upload) {
        let aborted = self.tries.attempts(Act::Write, &upload.key, 0, async || {
            let abort = self
                .client
                .abort_multipart_upload()
                .bucket(&self.bucket)
                .key(&upload.full_key)
                .upload_id(&upload.id)
                .send();
            abort.await.map_err(Fault::from)?;
            Ok(())
        });
        if let Err(error) = aborted.await {
            tracing::warn!(%error, upload = upload.id, "an incomplete upload is left behind");
        }
    }
}

fn part_bytes(number: i32) -> usize {
    if number <= PARTS_MAX / 2 { PART_BYTES } else { LATE_PART_BYTES }
}
