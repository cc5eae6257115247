//! The backend of a repository's location.

use std::sync::Arc;

#[cfg(feature = "s3")]
use colvault_engine::backend::S3Backend;
use colvault_engine::backend::{Backend, LocalBackend};
use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::format::config::{CreateOnlyFact, ObjectLock, StoreFacts, VerifiesFact};
#[cfg(feature = "s3")]
use colvault_engine::lock::days_of_new;
use colvault_engine::progress::Cancel;
use colvault_engine::repository::read_config;
#[cfg(feature = "s3")]
use colvault_engine::s3client::{BucketLock, S3Options};

use crate::exit::Failure;
use crate::settings::{Location, Settings};

/// What the engine says where there is no bucket.
const NO_BUCKET_SAID: &str = "there is no bucket";

/// Said where there is no bucket.
const NO_BUCKET: &str = "correct the name, or make the bucket with the store's own tools: aws s3 mb s3://BUCKET, \
     mc mb STORE/BUCKET (docs/S3.md 2)";

/// Said where there is a bucket and nothing in it.
const NOT_CREATED: &str = "if one was deleted from a bucket that keeps versions: colvault -r REPOSITORY repair undelete; if \
     there never was one, create it: colvault -r REPOSITORY init --encryption none";

/// Said where a repository has lost its config and is to be made anew.
const CONFIG_GONE: &str = "config was deleted from it: colvault -r REPOSITORY repair undelete brings it back, where the bucket \
     keeps versions; a new repository wants another prefix";

/// Said where a store does not encrypt as it is asked to.
const NOT_ENCRYPTED: &str = "this store may not have such encryption: leave s3.sse out, and encrypt the bucket or its disks with the \
     store's own means";

/// Said where objects cannot be locked.
#[cfg(feature = "s3")]
const NO_LOCK: &str = "object lock wants versioning and is switched on when a bucket is made (docs/S3.md); make one with it, or leave \
     --object-lock out";

/// Said where a bucket cannot be reached or used.
const WRONG_WAY: &str = "docs/S3.md has the settings: s3.endpoint, s3.region, where access keys come from, which permissions \
     are needed";

/// A store that may hold a repository.
pub enum Store {
    /// A directory.
    Directory(Arc<LocalBackend>),
    /// A bucket, or a part of one.
    #[cfg(feature = "s3")]
    Bucket(Arc<S3Backend>),
}

impl Store {
    /// Opens the store that is there. Nothing is asked of a bucket yet.
    pub fn open(
        location: &Location,
        settings: &Settings,
        cancel: &Cancel,
    ) -> Result<Self, Failure> {
        match location {
            Location::Directory(path) => Ok(Store::Directory(Arc::new(LocalBackend::open(path)))),
            #[cfg(feature = "s3")]
            Location::Bucket(bucket) => {
                let options = settings.s3_options(bucket)?;
                Ok(Store::Bucket(Arc::new(S3Backend::connect(&options)?.heeding(cancel))))
            }
            #[cfg(not(feature = "s3"))]
            Location::Bucket(_) => {
                let _ = (settings, cancel);
                Err(crate::settings::no_s3(location))
            }
        }
    }

    /// Makes the store ready for a new repository; a directory is made if it is not there.
    ///
    /// Fails with `AlreadyExists` when there is a repository.
    pub fn create(
        location: &Location,
        settings: &Settings,
        cancel: &Cancel,
    ) -> Result<Self, Failure> {
        let store = Store::open(location, settings, cancel)?;
        match (read_config(&*store.backend()), location) {
            (Ok(_), _) => {
                let problem = "there is a repository already";
                Err(Failure::new(ErrorKind::AlreadyExists, location.shown(), problem))
            }
            (_, Location::Directory(path)) => {
                Ok(Store::Directory(Arc::new(LocalBackend::create(path)?)))
            }
            (Err(error), _)
                if error.kind() == ErrorKind::NoRepository
                    && !error.problem().contains(NO_BUCKET_SAID) =>
            {
                store.refuse_within_another(location, settings)?;
                Ok(store)
            }
            (Err(error), _) => Err(store.explain(error)),
        }
    }

    /// Fails with `Refused` where a prefix above is that of another repository: its own objects would be
    /// foreign to that one.
    fn refuse_within_another(
        &self,
        location: &Location,
        settings: &Settings,
    ) -> Result<(), Failure> {
        match (self, location) {
            #[cfg(feature = "s3")]
            (Store::Bucket(backend), Location::Bucket(bucket)) => {
                for prefix in backend.enclosing() {
                    let options = S3Options { prefix, ..settings.s3_options(bucket)? };
                    let above = S3Backend::connect(&options)?;
                    // It may be of a later version, or damaged; what is something else does not matter.
                    let is_one = match read_config(&above) {
                        Ok(_) => true,
                        Err(error) => error.kind() == ErrorKind::Unsupported,
                    };
                    if is_one {
                        let problem = format!(
                            "a prefix outside of other repositories expected, this is within {}",
                            above.location()
                        );
                        return Err(Failure::new(ErrorKind::Refused, location.shown(), problem)
                            .with_hint("give it a prefix beside that repository's"));
                    }
                }
                Ok(())
            }
            _ => {
                let _ = settings;
                Ok(())
            }
        }
    }

    /// Returns what the user should know before objects go to this store.
    pub fn warning(&self) -> Option<String> {
        match self {
            Store::Directory(_) => None,
            #[cfg(feature = "s3")]
            Store::Bucket(backend) => is_open(backend.store()).then(|| {
                format!(
                    "everything goes to {} as it is, without TLS: whoever is between can read and change it; \
                     name the store with https://, unless nobody else is on that network",
                    backend.store()
                )
            }),
        }
    }

    /// Says what to do about an error of the store, where its kind does not say it.
    pub fn explain(&self, error: Error) -> Failure {
        let is_bucket = !matches!(self, Store::Directory(_));
        let kind = error.kind();
        let has_no_bucket = error.problem().contains(NO_BUCKET_SAID);
        let is_unencrypted = error.problem().contains("expected of an object that was put so");
        let lacks_config = error.problem().contains("whose config is missing");
        let failure = Failure::from(error);
        match kind {
            ErrorKind::Refused if lacks_config && is_bucket => failure.with_hint(CONFIG_GONE),
            _ if !is_bucket => failure,
            ErrorKind::Refused if is_unencrypted => failure.with_hint(NOT_ENCRYPTED),
            ErrorKind::NoRepository if has_no_bucket => failure.with_hint(NO_BUCKET),
            ErrorKind::NoRepository => failure.with_hint(NOT_CREATED),
            ErrorKind::Io | ErrorKind::Invalid => failure.with_hint(WRONG_WAY),
            _ => failure,
        }
    }

    /// Returns the backend.
    pub fn backend(&self) -> Arc<dyn Backend> {
        match self {
            Store::Directory(backend) => Arc::clone(backend) as _,
            #[cfg(feature = "s3")]
            Store::Bucket(backend) => Arc::clone(backend) as _,
        }
    }

    /// Finds out, by writing, whether a write that is to create never replaces.
    pub fn probe(&self) -> Result<CreateOnlyFact, Failure> {
        match self {
            Store::Directory(_) => Ok(CreateOnlyFact::Kept),
            #[cfg(feature = "s3")]
            Store::Bucket(backend) => {
                backend.probe_create_only().map_err(|error| self.explain(error))
            }
        }
    }

    /// Finds out, by writing, whether the store verifies what it is sent.
    pub fn probe_verifies(&self) -> Result<VerifiesFact, Failure> {
        match self {
            Store::Directory(_) => Ok(VerifiesFact::Kept),
            #[cfg(feature = "s3")]
            Store::Bucket(backend) => backend.probe_verifies().map_err(|error| self.explain(error)),
        }
    }

    /// Returns how objects are going to be locked: as asked, or as the bucket does it by itself.
    ///
    /// Fails with `Refused` when they are to be locked and the bucket cannot.
    pub fn lock(&self, asked: Option<ObjectLock>) -> Result<Locking, Failure> {
        match self {
            Store::Directory(_) => {
                let _ = asked;
                Ok(Locking::No)
            }
            #[cfg(feature = "s3")]
            Store::Bucket(backend) => lock_of(asked, backend.bucket_lock(), backend.location())
                .map_err(|error| match error.kind() {
                    ErrorKind::Refused => Failure::from(error).with_hint(NO_LOCK),
                    _ => self.explain(error),
                }),
        }
    }

    /// Makes the backend do what the repository's config says of the store.
    pub fn apply(&self, facts: &StoreFacts) {
        match self {
            Store::Directory(_) => {
                let _ = facts;
            }
            #[cfg(feature = "s3")]
            Store::Bucket(backend) => {
                backend.set_create_only(facts.create_only);
                backend.set_verifies(facts.verifies);
                backend.set_lock(facts.object_lock.map(|lock| (lock.mode, days_of_new(lock.days))));
            }
        }
    }
}

/// Whether an endpoint is reached without TLS over a network that others may be on.
#[cfg(feature = "s3")]
fn is_open(store: &str) -> bool {
    let Some(rest) = store.strip_prefix("http://") else { return false };
    let host = match rest.strip_prefix('[') {
        Some(six) => six.split(']').next(),
        None => rest.split([':', '/']).next(),
    };
    let host = host.unwrap_or_default();
    let is_loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    !is_loopback && host != "localhost"
}

/// How the objects of a new repository are locked, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// As the user asked.
    #[cfg_attr(not(feature = "s3"), allow(dead_code))]
    Asked(ObjectLock),
    /// As the bucket does by itself.
    #[cfg_attr(not(feature = "s3"), allow(dead_code))]
    ByDefault(ObjectLock),
    /// Not at all, though the bucket could.
    #[cfg_attr(not(feature = "s3"), allow(dead_code))]
    NotUsed,
    /// Not at all.
    No,
}

impl Locking {
    /// Returns what the repository's config says.
    pub fn lock(self) -> Option<ObjectLock> {
        match self {
            Locking::Asked(lock) | Locking::ByDefault(lock) => Some(lock),
            Locking::NotUsed | Locking::No => None,
        }
    }
}

/// Decides how objects are locked, from what is asked for and what the bucket says of itself.
#[cfg(feature = "s3")]
fn lock_of(
    asked: Option<ObjectLock>,
    found: Result<BucketLock, Error>,
    location: String,
) -> Result<Locking, Error> {
    match (asked, found) {
        (Some(lock), Ok(found)) if found.is_enabled => Ok(Locking::Asked(lock)),
        // Some stores take the wish and do not fulfil it.
        (Some(_), Ok(_)) => {
            let problem = "a bucket with object lock expected, this one has none";
            Err(Error::new(ErrorKind::Refused, location, problem))
        }
        (Some(_), Err(error)) => Err(error),
        (None, Ok(BucketLock { is_enabled: true, default: Some((mode, days)) })) => {
            Ok(Locking::ByDefault(ObjectLock { mode, days }))
        }
        (None, Ok(BucketLock { is_enabled: true, default: None })) => Ok(Locking::NotUsed),
        // Nobody asked, and who may not ask the bucket does not have to.
        (None, _) => Ok(Locking::No),
    }
}

#[cfg(all(test, feature = "s3"))]
mod tests {
    use colvault_engine::format::config::ObjectLockMode;

    use super::*;

    #[test]
    fn what_goes_over_a_network_without_tls_is_known() {
        for (store, expected) in [
            ("https://store:9000", false),
            ("http://store:9000", true),
            ("http://10.0.0.1", true),
            ("http://127.0.0.1:9000", false),
            ("http://localhost:9000", false),
            ("http://[::1]:9000", false),
            ("http://[2001:db8::1]:9000", true),
        ] {
            assert_eq!(is_open(store), expected, "{store}");
        }
    }

    #[test]
    fn objects_are_locked_as_asked_or_as_the_bucket_does() {
        let lock = ObjectLock { mode: ObjectLockMode::Compliance, days: 3 };
        let asked = Some(lock);
        let by_itself = ObjectLock { mode: ObjectLockMode::Governance, days: 30 };
        let default = Some((ObjectLockMode::Governance, 30));
        let none = BucketLock::default();
        let able = BucketLock { is_enabled: true, default: None };
        let locks = BucketLock { is_enabled: true, default };
        let of = |asked, found| lock_of(asked, Ok(found), "s3://b".into()).map_err(|e| e.kind());
        assert_eq!(of(asked, able), Ok(Locking::Asked(lock)));
        assert_eq!(of(asked, locks), Ok(Locking::Asked(lock)));
        assert_eq!(of(asked, none), Err(ErrorKind::Refused));
        assert_eq!(of(None, none), Ok(Locking::No));
        assert_eq!(of(None, able), Ok(Locking::NotUsed));
        assert_eq!(of(None, locks), Ok(Locking::ByDefault(by_itself)));
        let denied = || Err(Error::new(ErrorKind::Io, "x", "access denied"));
        assert!(lock_of(asked, denied(), "s3://b".into()).is_err());
        assert_eq!(lock_of(None, denied(), "s3://b".into()).unwrap(), Locking::No);
    }
}
