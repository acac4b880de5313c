//! An HTTP/1 server around an S3 service, stopped on drop with all its connections.

use std::net::SocketAddr;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::service::S3Service;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::runtime::{spawn, wait};

/// A response with this header is not sent: the connection is closed instead.
pub(crate) const DROP_CONNECTION_HEADER: &str = "x-harness-drop-connection";

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Serves `service` on a free port of `host`, an IP address.
    pub(crate) fn start(service: S3Service, host: &str) -> Self {
        let wanted = (host.to_owned(), 0);
        let listener = wait(async move { TcpListener::bind(wanted).await })
            .unwrap_or_else(|error| panic!("cannot listen on {host}: {error}"));
        let address = listener.local_addr().expect("a bound listener has an address");
        let accepting = spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let accepted = listener.accept().await;
                while connections.try_join_next().is_some() {}
                let Ok((stream, _)) = accepted else { continue };
                let service = service.clone();
                connections.spawn(async move {
                    let respond =
                        service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                            let service = service.clone();
                            async move {
                                let response = service
                                    .call(request.map(s3s::Body::from))
                                    .await
                                    .map_err(std::io::Error::other)?;
                                if response.headers().contains_key(DROP_CONNECTION_HEADER) {
                                    return Err(std::io::Error::other("dropped on purpose"));
                                }
                                Ok(response)
                            }
                        });
                    // A connection that ends early is the client's affair, or the plan's.
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), respond)
                        .await
                        .ok();
                });
            }
        });
        Self { address, accepting }
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
