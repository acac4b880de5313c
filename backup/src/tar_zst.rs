//! A tar archive into a compressor: one `.tar.zst`, as `tar --zstd` makes it.

use std::io::{self, BufWriter, Write};

use zstd::stream::write::Encoder;

use crate::tar_writer::{TarError, TarWriter};

/// Bytes of headers and small files that go to the compressor at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// Most threads that compress: each holds some 10 MiB at level 3, more at higher levels.
pub const COMPRESS_THREADS_MAX: u32 = 64;

/// An archive that is being written.
pub(crate) type TarZst<W> = TarWriter<BufWriter<Encoder<'static, Counted<W>>>>;

/// Why an archive cannot be begun or ended.
#[derive(Debug, thiserror::Error)]
pub enum TarZstError {
    /// zstd does not take the level or the threads.
    #[error("cannot compress at level {level} with {threads} threads")]
    Compressor {
        /// As asked for.
        level: i32,
        /// As asked for.
        threads: u32,
        /// What zstd said.
        #[source]
        source: io::Error,
    },
    /// The end of the tar archive could not be written.
    #[error(transparent)]
    Tar(TarError),
    /// The last compressed bytes could not be written.
    #[error("cannot write the end of the archive")]
    Finish(#[source] io::Error),
}

/// An empty archive into `sink`, with a checksum; with 0 threads the caller's compresses.
pub(crate) fn begin<W: Write>(sink: W, level: i32, threads: u32) -> Result<TarZst<W>, TarZstError> {
    let threads = threads.min(COMPRESS_THREADS_MAX);
    let set_up = || {
        let mut encoder = Encoder::new(Counted { sink, bytes: 0 }, level)?;
        encoder.include_checksum(true)?;
        encoder.multithread(threads)?;
        Ok(TarWriter::new(BufWriter::with_capacity(BUFFER_BYTES, encoder)))
    };
    set_up().map_err(|source| TarZstError::Compressor { level, threads, source })
}

/// Bytes the sink has got.
pub(crate) fn stored_bytes<W: Write>(archive: &TarZst<W>) -> u64 {
    archive.get_ref().get_ref().get_ref().bytes
}

/// Ends the archive; gives its length in bytes and the sink back.
pub(crate) fn finish<W: Write>(archive: TarZst<W>) -> Result<(u64, W), TarZstError> {
    let buffered = archive.finish().map_err(TarZstError::Tar)?;
    let encoder = buffered.into_inner().map_err(|error| TarZstError::Finish(error.into_error()))?;
    let mut counted = encoder.finish().map_err(TarZstError::Finish)?;
    counted.flush().map_err(TarZstError::Finish)?;
    Ok((counted.bytes, counted.sink))
}

/// A sink that knows how much it got.
#[derive(Debug)]
pub(crate) struct Counted<W> {
    sink: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.sink.write(bytes)?;
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
