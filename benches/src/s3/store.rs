//! A store in this process: s3s-fs over a directory, on loopback.
//!
//! s3s-fs asks whether a name is taken before it takes the body, and creates at the end: of two who create
//! one name at once both would succeed. A store that promises `If-None-Match` decides once, so creates of one
//! name wait for each other here.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use hyper::body::Incoming;
use hyper::header::IF_NONE_MATCH;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::access::S3Access;
use s3s::auth::SimpleAuth;
use s3s::dto::{CompleteMultipartUploadInput, PutObjectInput};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpResponse, S3Request, S3Result};
use s3s_fs::FileSystem;
use tokio::sync::oneshot;

use super::http::lock;

/// Who may use the store.
pub const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";

/// The secret of [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// More than any single upload.
const BODY_BYTES_MAX: usize = 5 << 30;

/// What the store makes of `If-None-Match: *`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// A name that is taken stays as it is.
    Kept,
    /// Who comes last wins: the header is not known.
    Ignored,
}

/// A store over a directory, whose buckets are directories in it. Ends when it is dropped.
#[derive(Debug)]
pub struct Store {
    address: SocketAddr,
    ends: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Begins to serve a directory that is there.
    pub fn start(directory: &Path, create: Create) -> Store {
        let mut builder =
            S3ServiceBuilder::new(FileSystem::new(directory).expect("a directory to serve"));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        if create == Create::Ignored {
            builder.set_access(Ignoring);
        }
        let service = builder.build();
        let (ends, end) = oneshot::channel::<()>();
        let (say, said) = channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                    .await
                    .expect("a port on loopback");
                let address = listener.local_addr().expect("a bound socket has an address");
                let _ = say.send(address);
                tokio::spawn(serve(listener, service));
                let _ = end.await;
            });
            // With whatever is under way.
            runtime.shutdown_background();
        });
        let address = said.recv().expect("the server says where it is");
        Store { address, ends: Some(ends), thread: Some(thread) }
    }

    /// Returns `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.ends.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The names that are being created, and who waits for them.
type Creating = Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>;

async fn serve(listener: tokio::net::TcpListener, service: S3Service) {
    let creating = Creating::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (service, creating) = (service.clone(), Arc::clone(&creating));
        let answer = service_fn(move |request| answer(service.clone(), creating.clone(), request));
        tokio::spawn(async move {
            // A connection that breaks is its client's matter.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(
    service: S3Service,
    creating: Creating,
    request: hyper::Request<Incoming>,
) -> Result<HttpResponse, HttpError> {
    if !request.headers().contains_key(IF_NONE_MATCH) {
        return service.call(request.map(Body::from)).await;
    }
    // Whole before anything is decided: a refusal amid the body would break the connection.
    let (head, body) = request.into_parts();
    let body = Body::from(body).store_all_limited(BODY_BYTES_MAX).await;
    let body = body.map_err(HttpError::new)?;
    let name = head.uri.path().to_owned();
    let turn = Arc::clone(lock(&creating).entry(name.clone()).or_default());
    let held = turn.lock().await;
    let answered = service.call(hyper::Request::from_parts(head, Body::from(body))).await;
    drop(held);
    let mut creating = lock(&creating);
    // This one and the table: nobody waits.
    if Arc::strong_count(&turn) == 2 {
        creating.remove(&name);
    }
    answered
}

/// Lets everybody in, and forgets on which condition objects were to be created.
struct Ignoring;

#[async_trait::async_trait]
impl S3Access for Ignoring {
    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        request.input.if_none_match = None;
        Ok(())
    }

    async fn complete_multipart_upload(
        &self,
        request: &mut S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<()> {
        request.input.if_none_match = None;
        Ok(())
    }
}
