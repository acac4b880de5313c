//! The standard input of a container.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bollard::query_parameters::AttachContainerOptions;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::Engine;
use super::error::{EngineError, EngineErrorKind, Request};

/// How long the engine may take to accept one piece of input.
const WRITE_TIME_MAX: Duration = Duration::from_secs(20);

/// What the process of a container reads. When it is dropped, or this process dies, the container reads the end of
/// its input.
pub struct ContainerInput {
    container: String,
    writer: Pin<Box<dyn AsyncWrite + Send>>,
}

impl fmt::Debug for ContainerInput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ContainerInput")
            .field("container", &self.container)
            .finish_non_exhaustive()
    }
}

impl ContainerInput {
    /// Writes all of it. [`EngineErrorKind::Unreachable`] when the container has ended or the engine was restarted.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let request = Request::new("write to the input of", "container", &self.container);
        let writer = &mut self.writer;
        let writing = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        match timeout(WRITE_TIME_MAX, writing).await {
            Ok(written) => written.map_err(|error| request.unreachable(error.kind(), &error)),
            Err(_) => {
                Err(request.error(EngineErrorKind::Timeout, "the engine does not take it in time"))
            }
        }
    }
}

impl Engine {
    /// Attaches to the input of a container made with
    /// [`has_input`](super::ContainerSpec::has_input), best before its start. Its output is not read.
    pub async fn attach_input(&self, name: &str) -> Result<ContainerInput, EngineError> {
        let request = Request::new("attach to", "container", name);
        let name = request.checked_name()?;
        let options = AttachContainerOptions { stdin: true, stream: true, ..Default::default() };
        let attached = self.docker.attach_container(name, Some(options)).await;
        let attached = attached.map_err(|error| request.failed(&error))?;
        Ok(ContainerInput { container: name.to_owned(), writer: attached.input })
    }
}
