//! What a crash left of a file, made to be again what the cursor says.

use std::fs;
use std::io;
use std::path::Path;

use chores_common::durable;

use super::generations::{self, rotated_path};
use super::{Mark, SinkFailure, create};

/// Cuts the file back; `None` when it is not there any more.
pub(super) fn restore(path: &Path, mut mark: Mark) -> Result<Option<Mark>, SinkFailure> {
    let failed = |act: &str, error: &dyn std::error::Error| {
        SinkFailure::of(&format!("cannot {act} {}", path.display()), error)
    };
    if mark.rotating {
        undo_rotation(path, &mark).map_err(|error| failed("undo the last rotation of", &error))?;
        mark.rotating = false;
    }
    let there = fs::symlink_metadata(path);
    match there {
        Ok(metadata) if mark.is_of(&metadata) && metadata.is_file() => {
            if metadata.len() < mark.length {
                tracing::warn!(
                    file = %path.display(), length = metadata.len(), expected = mark.length,
                    "another program made a file shorter that is written here"
                );
                mark.length = metadata.len();
            } else if metadata.len() > mark.length {
                let cut = create(path).and_then(|file| {
                    file.set_len(mark.length)?;
                    file.sync_data()
                });
                cut.map_err(|error| failed("cut back", &error))?;
            }
            Ok(Some(mark))
        }
        Ok(_) => {
            tracing::warn!(
                file = %path.display(),
                "another program replaced a file that was written here; the last lines may be in both"
            );
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), "a file that was written here is gone");
            Ok(None)
        }
        Err(error) => Err(failed("look at", &error)),
    }
}

/// Everything younger than the marked file was written after the cursor.
fn undo_rotation(path: &Path, mark: &Mark) -> io::Result<()> {
    let rotated = rotated_path(path, mark.generation);
    match fs::symlink_metadata(&rotated) {
        Ok(metadata) if mark.is_of(&metadata) => {}
        // It did not come to the rename, or all of it is undone already.
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    // All there are, not one after the other until one is missing: a crash may have come in the middle of this.
    for younger in generations::list(path)? {
        if younger.generation > mark.generation {
            fs::remove_file(&younger.path)?;
        }
    }
    fs::rename(&rotated, path)?;
    match path.parent() {
        Some(directory) => {
            durable::sync_directory(directory).map_err(|error| io::Error::other(error.to_string()))
        }
        None => Ok(()),
    }
}
