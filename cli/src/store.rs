//! The backend of a repository's location.

use std::sync::Arc;

#[cfg(feature = "s3")]
use colvault_engine::backend::S3Backend;
use colvault_engine::backend::{Backend, LocalBackend};
use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::format::config::{CreateOnlyFact, ObjectLock, StoreFacts};
#[cfg(feature = "s3")]
use colvault_engine::lock::days_of_new;
use colvault_engine::repository::read_config;
#[cfg(feature = "s3")]
use colvault_engine::s3client::BucketLock;

use crate::exit::Failure;
use crate::settings::{Location, Settings};

/// Said where there is no bucket.
const NO_BUCKET: &str =
    "make the bucket with the store's own tools (docs/S3.md says how), or correct the name";

/// Said where there is a bucket and nothing in it.
const NOT_CREATED: &str = "if one was deleted from a bucket that keeps versions: colvault -r REPOSITORY repair undelete; if \
     there never was one, create it: colvault -r REPOSITORY init --encryption none";

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
    pub fn open(location: &Location, settings: &Settings) -> Result<Self, Failure> {
        match location {
            Location::Directory(path) => Ok(Store::Directory(Arc::new(LocalBackend::open(path)))),
            #[cfg(feature = "s3")]
            Location::Bucket(bucket) => {
                let options = settings.s3_options(bucket)?;
                Ok(Store::Bucket(Arc::new(S3Backend::connect(&options)?)))
            }
            #[cfg(not(feature = "s3"))]
            Location::Bucket(_) => {
                let _ = settings;
                Err(crate::settings::no_s3(location))
            }
        }
    }

    /// Makes the store ready for a new repository; a directory is made if it is not there.
    ///
    /// Fails with `AlreadyExists` when there is a repository.
    pub fn create(location: &Location, settings: &Settings) -> Result<Self, Failure> {
        let store = Store::open(location, settings)?;
        match (read_config(&*store.backend()), location) {
            (Ok(_), _) => {
                let problem = "there is a repository already";
                Err(Failure::new(ErrorKind::AlreadyExists, location.shown(), problem))
            }
            (_, Location::Directory(path)) => {
                Ok(Store::Directory(Arc::new(LocalBackend::create(path)?)))
            }
            (Err(error), _) if error.kind() == ErrorKind::NoRepository => Ok(store),
            (Err(error), _) => Err(store.explain(error)),
        }
    }

    /// Says what to do about an error of the store, where its kind does not say it.
    pub fn explain(&self, error: Error) -> Failure {
        let is_bucket = !matches!(self, Store::Directory(_));
        let kind = error.kind();
        let has_no_bucket = error.problem().contains("there is no bucket");
        let failure = Failure::from(error);
        match kind {
            _ if !is_bucket => failure,
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
                backend.set_lock(facts.object_lock.map(|lock| (lock.mode, days_of_new(lock.days))));
            }
        }
    }
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
