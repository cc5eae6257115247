//! Buckets to test with: on a store in this process, or on moto, each behind a proxy.

mod job;
mod metadata;
mod moto;
mod raw;
mod tls;
mod tunnel;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

pub use colvault_benches::s3::{
    ACCESS_KEY, Answer, Create, Fault, Proxy, Rule, SECRET_KEY, Seen, Store, answering,
};
use colvault_engine::backend::S3Backend;
use colvault_engine::s3client::{Patience, S3Options};
use tempfile::TempDir;

pub use job::{Job, figure};
pub use metadata::{Metadata, ROLE};
pub use moto::{Made, Moto};
pub use raw::{ask, between};
pub use tls::{Authority, Tls};
pub use tunnel::Tunnel;

use super::quick;

/// The bucket of every store in this process.
pub const BUCKET: &str = "bucket";

/// Where in the bucket the repository is: some stores get prefixes wrong.
pub const PREFIX: &str = "deep/er/";

/// Waits that are over before a test is.
pub const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(5),
    stalled: Duration::from_secs(1),
    attempts: 4,
    backoff_max: Duration::from_millis(20),
};

/// Returns how tests reach a repository in a bucket.
///
/// Access keys come from the environment, as always: `tests/run.sh` sets them to those of [`Store`].
pub fn options(endpoint: &str, bucket: &str) -> S3Options {
    let key = std::env::var("AWS_ACCESS_KEY_ID");
    assert_eq!(key.as_deref(), Ok(ACCESS_KEY), "tests/run.sh sets AWS_ACCESS_KEY_ID for the suite");
    S3Options {
        bucket: bucket.to_owned(),
        prefix: PREFIX.to_owned(),
        endpoint: Some(endpoint.to_owned()),
        patience: PATIENCE,
        ..S3Options::default()
    }
}

/// Gives a command the keys of [`Store`] and short waits.
pub fn with_keys(command: &mut Command) -> &mut Command {
    with_patience(command)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
}

/// Gives a command short waits, and nobody to ask for keys.
pub fn with_patience(command: &mut Command) -> &mut Command {
    command.env("AWS_EC2_METADATA_DISABLED", "true").envs([
        ("COLVAULT_S3_ATTEMPTS", "4"),
        ("COLVAULT_S3_BACKOFF_MAX", "1"),
        ("COLVAULT_S3_STALL_TIMEOUT", "2"),
    ])
}

/// A bucket on a store in this process, behind a proxy that does nothing yet.
pub struct Bucket {
    /// Before the store, so that connections end first.
    pub proxy: Proxy,
    store: Store,
    directory: TempDir,
}

impl Bucket {
    /// Makes an empty one.
    pub fn new() -> Bucket {
        Bucket::that(Create::Kept)
    }

    /// Makes one on a store that does so with creates.
    pub fn that(create: Create) -> Bucket {
        let directory = quick();
        fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let store = Store::start(directory.path(), create);
        let proxy = Proxy::before(&store.endpoint());
        Bucket { proxy, store, directory }
    }

    /// The repository's options, through the proxy.
    pub fn options(&self) -> S3Options {
        options(&self.proxy.endpoint(), BUCKET)
    }

    /// A backend through the proxy, as another host would have it.
    pub fn backend(&self) -> Arc<S3Backend> {
        Arc::new(S3Backend::connect(&self.options()).expect("credentials are found"))
    }

    /// A backend that does not go through the proxy.
    pub fn direct(&self) -> Arc<S3Backend> {
        let options = options(&self.store.endpoint(), BUCKET);
        Arc::new(S3Backend::connect(&options).expect("credentials are found"))
    }

    /// The repository's name for the program, through the proxy.
    pub fn location(&self) -> String {
        location(&self.proxy.endpoint(), BUCKET)
    }

    /// The directory in which the store keeps the repository's objects, as files of their names.
    pub fn directory(&self) -> PathBuf {
        self.directory.path().join(BUCKET).join(PREFIX)
    }

    /// Files in which the store keeps parts of objects that are not whole, sorted.
    pub fn unfinished(&self) -> Vec<String> {
        let names = crate::support::program::names(self.directory.path());
        names.into_iter().filter(|name| name.starts_with(".upload")).collect()
    }

    /// The names of the repository's objects below a first part, sorted.
    pub fn names(&self, space: &str) -> Vec<String> {
        objects(&self.directory()).into_keys().filter(|name| name.starts_with(space)).collect()
    }
}

/// The name of the repository in a bucket for the program.
pub fn location(endpoint: &str, bucket: &str) -> String {
    format!("s3:{endpoint}/{bucket}/{}", PREFIX.trim_end_matches('/'))
}

/// Returns the files below a directory with their content, by the path from there.
pub fn objects(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    if !directory.exists() {
        return BTreeMap::new();
    }
    let files = colvault_engine::testing::trees::files_below(directory).unwrap();
    let named = |path: PathBuf| {
        let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
        (name, fs::read(&path).unwrap())
    };
    files.into_iter().map(named).collect()
}

/// Counts requests by what they are about.
pub fn counted(seen: &[Seen]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for seen in seen {
        *counts.entry(seen.class()).or_default() += 1;
    }
    counts
}
