//! One client for S3: for repositories in buckets, and for buckets that are backed up.
//!
//! Blocking calls outside. The runtime of the SDK lives inside a [`Client`]: the thread that asks waits
//! for its answer, and hands over the bytes of a body itself; connections run on two threads.
//!
//! Every request goes through one loop (`request`): it has a permit, is watched for signs of life,
//! counted, and sent again where that may help (`failure`), with jitter (`backoff`). What is final is
//! explained (`explain`): what it means, and which permission is missing.

mod action;
mod answers;
mod backoff;
mod body;
mod connect;
mod credentials;
mod customer_key;
mod explain;
mod failure;
mod get;
mod limit;
mod list;
mod lock;
mod multipart;
mod options;
mod probe;
mod pulse;
mod put;
mod request;
mod tls;
mod versions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Result};
use crate::format::config::ObjectLockMode;
use crate::progress::Cancel;
use crate::traffic::Traffic;
use customer_key::CustomerKey;
use explain::Place;
use get::Read;
use limit::{Pace, Permits};
use list::{Cursor, Pass};
pub use lock::BucketLock;
pub use options::{
    Addressing, CONNECTIONS_DEFAULT, Patience, Role, S3Options, ServerSideEncryption,
};
pub use put::Creation;
use request::{Asker, Line};
pub use versions::{Version, Versioning};

/// Threads that run connections: they move bytes and do not compute.
const THREADS: usize = 2;
/// Bytes of answers that are gathered at once.
const MEMORY: u64 = 256 << 20;

/// A connection to one bucket, for many threads. Names are keys without the prefix.
#[derive(Debug)]
pub struct Client {
    asker: Asker,
    runtime: Option<Runtime>,
}

/// What there is to read, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The bytes.
    Bytes(Vec<u8>),
    /// The object is longer than it may be, or ends before: its length.
    OtherLength(u64),
}

impl From<Read<Vec<u8>>> for Content {
    fn from(read: Read<Vec<u8>>) -> Self {
        match read {
            Read::Done(bytes) => Content::Bytes(bytes),
            Read::Length(length) => Content::OtherLength(length),
        }
    }
}

impl Client {
    /// Finds region, endpoint and credentials. No request is sent to the bucket.
    ///
    /// Fails with `Invalid` and says what to set where something is missing.
    pub fn connect(options: &S3Options) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("s3")
            .enable_all()
            .build()
            .map_err(|error| Error::io("s3", "start threads for", error))?;
        let customer_key = match &options.encryption {
            ServerSideEncryption::Customer(path) => Some(CustomerKey::read(path)?),
            _ => None,
        };
        let connected = runtime.block_on(connect::connect(options))?;
        let location = format!("s3://{}/{}", options.bucket, options.prefix);
        let place = Place {
            location: location.trim_end_matches('/').to_owned(),
            bucket: options.bucket.clone(),
            prefix: options.prefix.clone(),
            proxy: tls::proxy_before(&connected.store),
            store: connected.store,
        };
        let mut options = options.clone();
        if options.connections == 0 {
            options.connections = CONNECTIONS_DEFAULT;
        }
        let asker = Asker {
            s3: connected.s3,
            place,
            credentials: connected.credentials,
            customer_key,
            permits: Permits::new(options.connections, MEMORY),
            upload: options.upload_limit.map(Pace::new),
            line: Arc::new(Line {
                download: options.download_limit.map(Pace::new),
                ..Line::default()
            }),
            cancel: Cancel::default(),
            answered: AtomicBool::new(false),
            parts_above: AtomicU64::new(put::ONE_PUT_MAX),
            options,
        };
        Ok(Client { asker, runtime: Some(runtime) })
    }

    /// Lets every request end early once the user wants to stop.
    pub fn heeding(mut self, cancel: &Cancel) -> Self {
        self.asker.cancel = cancel.clone();
        self
    }

    /// Runs a request to its end on this thread.
    fn wait<T>(&self, request: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it lives as long as the client").block_on(request)
    }

    /// Returns the options it was made with.
    pub fn options(&self) -> &S3Options {
        &self.asker.options
    }

    /// Returns `s3://bucket/prefix`, without a `/` at the end.
    pub fn location(&self) -> &str {
        &self.asker.place.location
    }

    /// Returns what was asked of the store so far.
    pub fn traffic(&self) -> Traffic {
        self.asker.line.meter.traffic()
    }

    /// Says above which length an object goes up in parts, for what lets only small requests through.
    pub fn set_parts_above(&self, bytes: u64) {
        self.asker.parts_above.store(bytes, Ordering::Relaxed);
    }

    /// Whether an object of so many bytes goes up in parts, which an interruption leaves behind.
    pub fn goes_up_in_parts(&self, bytes: u64) -> bool {
        bytes > self.asker.parts_above.load(Ordering::Relaxed)
    }

    /// Creates an object from the parts in order; fails with `AlreadyExists` when there is one.
    pub fn put_new(&self, name: &str, parts: &[&[u8]], creation: &Creation<'_>) -> Result<()> {
        self.wait(self.asker.put_new(name, parts, creation))
    }

    /// Creates an object with a checksum of other bytes. Returns whether the store takes it so.
    pub fn takes_damaged(&self, name: &str) -> Result<bool> {
        self.wait(self.asker.takes_damaged(name))
    }

    /// Returns all bytes of an object, unless they are more than `bytes_max`.
    pub fn get(&self, name: &str, bytes_max: u64) -> Result<Content> {
        self.wait(self.asker.get(name, bytes_max)).map(Content::from)
    }

    /// Returns `length` bytes from `offset`, unless the object ends before.
    pub fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Content> {
        self.wait(self.asker.get_range(name, offset, length, true)).map(Content::from)
    }

    /// Returns `length` bytes from `offset`, or as many as there are, unless the object ends before.
    pub fn get_up_to(&self, name: &str, offset: u64, length: usize) -> Result<Content> {
        self.wait(self.asker.get_range(name, offset, length, false)).map(Content::from)
    }

    /// Returns an object's length.
    pub fn length(&self, name: &str) -> Result<u64> {
        self.wait(self.asker.length(name))
    }

    /// Returns an object's length, if there is such an object.
    pub fn find(&self, name: &str) -> Result<Option<u64>> {
        self.wait(self.asker.find(name))
    }

    /// Calls `each` with name and length of every object whose name begins with `start`.
    pub fn list(&self, start: &str, each: &mut dyn FnMut(String, u64)) -> Result<()> {
        let mut cursor = Some(Cursor::default());
        while let Some(place) = cursor {
            let page = self.wait(self.asker.list_page(start, &place))?;
            for (name, bytes) in page.objects {
                each(name, bytes);
            }
            cursor = page.next;
        }
        Ok(())
    }

    /// Calls `each` with name and length of every object whose name begins with one of `starts`, which are
    /// sorted, and of some others: all in one pass of pages. Where many others stand between, they are
    /// passed over, if the store keeps to the order of names.
    pub fn list_below(&self, starts: &[String], each: &mut dyn FnMut(String, u64)) -> Result<()> {
        let mut pass = Pass::default();
        while let Some(place) = pass.next_page() {
            let page = self.wait(self.asker.list_page("", place))?;
            pass.take(&page, starts, &self.asker.place)?;
            for (name, bytes) in page.objects {
                each(name, bytes);
            }
        }
        Ok(())
    }

    /// Deletes an object. Succeeds when it was not there.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.wait(self.asker.delete(name))
    }

    /// Calls `each` for every version of every object whose name begins with `start`.
    pub fn list_versions(
        &self,
        start: &str,
        each: &mut dyn FnMut(Version) -> Result<()>,
    ) -> Result<()> {
        let mut cursor = Some(Cursor::default());
        while let Some(place) = cursor {
            let page = self.wait(self.asker.version_page(start, &place))?;
            page.versions.into_iter().try_for_each(&mut *each)?;
            cursor = page.next;
        }
        Ok(())
    }

    /// Deletes one version of an object; a deletion is undone so.
    pub fn delete_version(&self, name: &str, version: &str) -> Result<()> {
        self.wait(self.asker.delete_version(name, version))
    }

    /// Returns whether the bucket keeps versions.
    pub fn versioning(&self) -> Result<Versioning> {
        self.wait(self.asker.versioning())
    }

    /// Returns the versions of an object from the first to the latest, without deletions.
    pub fn versions_of(&self, name: &str) -> Result<Vec<String>> {
        self.wait(self.asker.versions_of(name))
    }

    /// Returns all bytes of a version, unless they are more than `bytes_max`.
    pub fn get_version(&self, name: &str, version: &str, bytes_max: u64) -> Result<Content> {
        self.wait(self.asker.get_version(name, version, bytes_max)).map(Content::from)
    }

    /// Returns the first bytes of a version, `length` of them unless it ends before.
    pub fn head_of_version(&self, name: &str, version: &str, length: usize) -> Result<Vec<u8>> {
        self.wait(self.asker.head_of_version(name, version, length))
    }

    /// Returns until when an object may not be deleted, and the mode where the store tells one.
    pub fn retention(&self, name: &str) -> Result<Option<(SystemTime, Option<ObjectLockMode>)>> {
        self.wait(self.asker.retention(name))
    }

    /// Locks an object until `until`, which is not before the time it is locked to.
    pub fn extend_lock(&self, name: &str, mode: ObjectLockMode, until: SystemTime) -> Result<()> {
        self.wait(self.asker.extend_lock(name, mode, until))
    }

    /// Returns whether objects of the bucket can be locked, and are by themselves.
    pub fn bucket_lock(&self) -> Result<BucketLock> {
        self.wait(self.asker.bucket_lock())
    }

    /// Aborts uploads of names that are ours, below the prefix, that were left unfinished for more than a
    /// week, where the store lets this program do so; returns how many.
    pub fn abort_abandoned_uploads(&self, is_ours: impl Fn(&str) -> bool) -> Result<u64> {
        self.wait(self.asker.abort_abandoned(is_ours))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Not waited for: a name that is being looked up would hold up the end of the program.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns the time that many days from now.
pub fn days_from_now(days: u32) -> SystemTime {
    put::days_from_now(days)
}
