//! The backend of a repository's location.

use std::sync::Arc;

use colvault_engine::backend::{Backend, LocalBackend};
#[cfg(feature = "s3")]
use colvault_engine::backend::{CreateOnly, S3Backend};
use colvault_engine::error::ErrorKind;
#[cfg(feature = "s3")]
use colvault_engine::format::config::ObjectLockMode;
use colvault_engine::format::config::{CreateOnlyFact, StoreFacts};
use colvault_engine::repository::read_config;
#[cfg(feature = "s3")]
use colvault_engine::s3client::LockMode;

use crate::exit::Failure;
use crate::settings::{Location, Settings};

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
            (Err(error), _) => Err(error.into()),
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
            Store::Bucket(backend) => Ok(match backend.probe_create_only()? {
                CreateOnly::Kept => CreateOnlyFact::Kept,
                CreateOnly::Ignored => CreateOnlyFact::Ignored,
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
                backend.set_create_only(match facts.create_only {
                    CreateOnlyFact::Kept => CreateOnly::Kept,
                    CreateOnlyFact::Ignored => CreateOnly::Ignored,
                });
                backend.set_lock(facts.object_lock.map(|lock| {
                    let mode = match lock.mode {
                        ObjectLockMode::Governance => LockMode::Governance,
                        ObjectLockMode::Compliance => LockMode::Compliance,
                    };
                    (mode, lock.days)
                }));
            }
        }
    }
}
