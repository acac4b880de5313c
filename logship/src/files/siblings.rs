//! Where the content of a file went when it is not where it was: copied, compressed, or nowhere.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::cursor::ContentProof;
use crate::descriptors::is_exhausted;
use crate::files::compressed::Decompressed;
use crate::files::patterns::{self, Compression, Patterns};
use crate::proof::{FileFacts, HEAD_BYTES, hash, head_len, piece, proof, tail_len};

#[cfg(test)]
mod tests;

/// Most files that one search opens.
const SEARCH_FILES_MAX: usize = 1000;

/// What was read of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Former {
    /// Bytes.
    pub(super) offset: u64,
    /// What was there.
    pub(super) proof: ContentProof,
    /// The bytes that `proof.head` is of, if they are known.
    pub(super) head: Vec<u8>,
    /// Places before `offset`, and the hashes of what stood before them.
    pub(super) marks: Vec<(u64, u64)>,
}

/// A file beside one that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// A name of it.
    pub(super) path: PathBuf,
    /// What the kernel says of it.
    pub(super) facts: FileFacts,
}

/// A file that holds what was read of another one.
#[derive(Debug)]
pub(super) struct Found {
    /// Which.
    pub(super) candidate: Candidate,
    /// How much of it was read of the other.
    pub(super) from: u64,
    /// Ready to go on.
    pub(super) content: Readable,
    /// Its first bytes, at most [`HEAD_BYTES`].
    pub(super) head: Vec<u8>,
    /// What it holds before `from`.
    pub(super) proof: ContentProof,
}

/// Content that can be compared.
#[derive(Debug)]
pub(super) enum Readable {
    /// As it is.
    Plain(File),
    /// After decompression.
    Compressed(Box<Decompressed>),
}

/// The candidates that hold what was read. What cannot be read is none, unless nothing can be opened now: then it
/// fails. Uncompressed ones are opened first: one that is gone by then was compressed, and the compressed one is
/// whole.
pub(super) fn search(
    patterns: &Patterns,
    former: &Former,
    candidates: Vec<Candidate>,
) -> io::Result<Vec<Found>> {
    let mut candidates = candidates;
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.facts.modified));
    candidates.truncate(SEARCH_FILES_MAX);
    candidates.sort_by_key(|candidate| patterns::is_compressed(&candidate.path));
    let found = candidates.into_iter().map(|candidate| find(patterns, former, candidate));
    found.filter_map(Result::transpose).collect()
}

fn find(patterns: &Patterns, former: &Former, candidate: Candidate) -> io::Result<Option<Found>> {
    let compared = compare(patterns, former, &candidate);
    match compared {
        Ok(found) => Ok(found.map(|(from, content, head, proof)| Found {
            candidate,
            from,
            content,
            head,
            proof,
        })),
        Err(error) if is_exhausted(&error) => Err(error),
        Err(error) => {
            tracing::debug!(path = %candidate.path.display(), %error, "cannot compare");
            Ok(None)
        }
    }
}

type Same = (u64, Readable, Vec<u8>, ContentProof);

fn compare(
    patterns: &Patterns,
    former: &Former,
    candidate: &Candidate,
) -> io::Result<Option<Same>> {
    if former.offset == 0 {
        return Ok(None);
    }
    let file = patterns.open(&candidate.path, candidate.facts.identity)?;
    match patterns::compression_of(&candidate.path) {
        None => compare_plain(former, file),
        Some(compression) => compare_compressed(former, file, compression),
    }
}

fn compare_plain(former: &Former, file: File) -> io::Result<Option<Same>> {
    let size = FileFacts::of(&file)?.size;
    let Some(head) = piece(&file, 0, head_len(size))? else { return Ok(None) };
    let from = former.offset.min(size);
    let at = |offset: u64| -> io::Result<Option<u64>> {
        let length = tail_len(offset);
        Ok(piece(&file, offset - length as u64, length)?.map(|tail| hash(&tail)))
    };
    if from == 0 || !is_head(former, &head, from) {
        return Ok(None);
    }
    let is_same = match place_before(former, from) {
        Some((place, wanted)) => at(place)? == Some(wanted),
        None => is_head_enough(former, from),
    };
    if !is_same {
        return Ok(None);
    }
    let length = tail_len(from);
    let Some(tail) = piece(&file, from - length as u64, length)? else { return Ok(None) };
    let proof = proof(head.get(..head_len(from)).unwrap_or_default(), &tail);
    Ok(Some((from, Readable::Plain(file), head, proof)))
}

fn compare_compressed(
    former: &Former,
    file: File,
    compression: Compression,
) -> io::Result<Option<Same>> {
    let mut stream = Decompressed::new(file, compression)?;
    stream.skip_to(HEAD_BYTES as u64)?;
    let known = usize::try_from(stream.front()).unwrap_or(HEAD_BYTES).min(HEAD_BYTES);
    let head = stream.kept(0, known).unwrap_or_default().to_vec();
    if !is_head(former, &head, former.offset.min(known as u64)) {
        return Ok(None);
    }
    let mut is_proved = false;
    for (place, wanted) in &former.marks {
        // Only what is still kept can be compared; the file has many places.
        if *place >= stream.front() && stream.skip_to(*place)? {
            let length = tail_len(*place);
            if stream.kept(*place - length as u64, length).map(hash) != Some(*wanted) {
                return Ok(None);
            }
            is_proved = true;
        }
    }
    let is_whole = stream.skip_to(former.offset)?;
    let from = former.offset.min(stream.front());
    let length = tail_len(from);
    let Some(tail) = stream.kept(from - length as u64, length) else { return Ok(None) };
    let is_same = if is_whole {
        hash(tail) == former.proof.tail
    } else {
        is_proved || is_head_enough(former, from)
    };
    if from == 0 || !is_same {
        return Ok(None);
    }
    let proof = proof(head.get(..head_len(from)).unwrap_or_default(), tail);
    Ok(Some((from, Readable::Compressed(Box::new(stream)), head, proof)))
}

/// Whether a file that begins with `head`, and of which `until` bytes count, begins like the former one.
fn is_head(former: &Former, head: &[u8], until: u64) -> bool {
    let wanted = former.proof.head_len as usize;
    let length = wanted.min(head_len(until));
    let Some(begin) = head.get(..length) else { return false };
    match former.head.get(..length) {
        Some(known) => begin == known,
        // Only the hash of all of it is known.
        None => length < wanted || hash(begin) == former.proof.head,
    }
}

/// The last place up to `until` whose content is known.
fn place_before(former: &Former, until: u64) -> Option<(u64, u64)> {
    if until >= former.offset {
        return Some((former.offset, former.proof.tail));
    }
    former.marks.iter().rev().find(|(at, _)| *at <= until).copied()
}

/// Whether the beginning alone is proof enough, of a file that ends at `until` and before any known place: all of
/// it is known, or so much that another file does not begin so by accident.
fn is_head_enough(former: &Former, until: u64) -> bool {
    let is_all = until <= former.head.len() as u64;
    is_all || (until >= HEAD_BYTES as u64 && former.proof.head_len as usize >= HEAD_BYTES)
}

/// Whether a file may be a copy of another one that is still being made, by samples of what both hold now: `None`
/// when one of them is empty. A copy is never longer than what it is made of.
pub(super) fn is_copy(copy: &File, original: &File) -> io::Result<Option<bool>> {
    /// Places that are compared.
    const SAMPLES: u64 = 16;
    // In this order: the original may grow in between, and the copy after it.
    let length = FileFacts::of(copy)?.size;
    let whole = FileFacts::of(original)?.size;
    if length == 0 || whole == 0 {
        return Ok(None);
    }
    if length > whole {
        return Ok(Some(false));
    }
    let head = head_len(length);
    if piece(copy, 0, head)? != piece(original, 0, head)? {
        return Ok(Some(false));
    }
    let step = (length / SAMPLES).max(1);
    for sample in 1..=SAMPLES {
        let end = length.saturating_sub(step * (SAMPLES - sample));
        let length = tail_len(end);
        let from = end - length as u64;
        if piece(copy, from, length)? != piece(original, from, length)? {
            return Ok(Some(false));
        }
    }
    Ok(Some(true))
}
