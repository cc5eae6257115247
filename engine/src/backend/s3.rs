//! A repository in a bucket.
//!
//! Objects are created with `If-None-Match: *`. A store that ignores this is found out by
//! [`S3Backend::probe_create_only`]; then each create asks first whether there is such an object, which
//! protects from everything but two creates of one name at the same moment.

use std::collections::BTreeMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::local::{too_long, too_short};
use super::{Backend, Key, Listed, Retention, Space};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::{CreateOnlyFact, ObjectLockMode, VerifiesFact};
use crate::id::{SessionId, random};
use crate::progress::Cancel;
use crate::s3client::{
    BucketLock, Client, Content, Creation, S3Options, Versioning, days_from_now,
};
use crate::traffic::Traffic;

/// Objects of no meaning, for finding out what a store does.
const PROBES: &str = "probes";

/// Of so many prefixes above a new repository's own is asked whether a repository is there.
const ENCLOSING_ASKED_MAX: usize = 8;

/// Why a read does not find an object as it was made, in a bucket that keeps versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// It was deleted.
    Deleted {
        /// The one version of it.
        version: String,
        /// The versions that say so.
        marks: Vec<String>,
    },
    /// There was more than one object of the name, and the last may have been deleted.
    Replaced,
    /// Only the marks of its deletion are left.
    Gone,
}

/// Objects below a prefix of a bucket.
#[derive(Debug)]
pub struct S3Backend {
    client: Client,
    asks_first: AtomicBool,
    /// Whether what arrived is looked at.
    compares: AtomicBool,
    /// How long new objects may not be deleted.
    lock: RwLock<Option<(ObjectLockMode, u32)>>,
    cleaned_up: AtomicBool,
}

impl S3Backend {
    /// Finds region, endpoint and credentials. No request is sent to the bucket.
    pub fn connect(options: &S3Options) -> Result<Self> {
        Ok(S3Backend {
            client: Client::connect(options)?,
            asks_first: AtomicBool::new(false),
            compares: AtomicBool::new(false),
            lock: RwLock::new(None),
            cleaned_up: AtomicBool::new(false),
        })
    }

    /// Lets every request end early, with `Interrupted`, once the user wants to stop: those that are
    /// under way are waited for a moment, the others are not sent any more. What only takes away, as the
    /// lease of a session, is still tried for a few seconds.
    pub fn heeding(mut self, cancel: &Cancel) -> Self {
        self.client = self.client.heeding(cancel);
        self
    }

    /// Returns where the store is: `https://host:port`.
    pub fn store(&self) -> &str {
        self.client.store()
    }

    /// Creates objects of random names, one of them twice, and deletes them, to see what the store does:
    /// with storage classes and encryption as later objects have them.
    ///
    /// Fails with `Refused` where the store does not encrypt as it is asked to.
    pub fn probe_create_only(&self) -> Result<CreateOnlyFact> {
        let name = format!("{PROBES}/{}", SessionId(random()));
        let options = self.client.options();
        let class = options.class.as_deref();
        let creation = Creation { class, ..Creation::default() };
        let probed = match self.client.put_new(&name, &[b"first"], &creation) {
            // Some stores do not know the header and say so.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let plain = Creation { asks_first: true, ..creation };
                self.client.put_new(&name, &[b"first"], &plain).map(|()| CreateOnlyFact::Ignored)
            }
            Err(error) => Err(error),
            Ok(()) => match self.client.put_new(&name, &[b"second"], &creation) {
                Ok(()) => Ok(CreateOnlyFact::Ignored),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(CreateOnlyFact::Kept),
                Err(error) => Err(error),
            },
        };
        let probed = probed
            .map_err(|error| of_class(error, class, "s3.class"))
            .and_then(|fact| self.client.check_encrypted(&name).map(|()| fact));
        // A probe that cannot be deleted does no harm, and a backup does not need to delete.
        let _ = self.client.delete(&name);
        let probed = probed?;
        if let Some(class) =
            options.data_class.as_deref().filter(|_| options.data_class != options.class)
        {
            let name = format!("{PROBES}/{}", SessionId(random()));
            let asks_first = probed == CreateOnlyFact::Ignored;
            let creation = Creation { class: Some(class), asks_first, ..Creation::default() };
            let put = self.client.put_new(&name, &[b"data"], &creation);
            put.map_err(|error| of_class(error, Some(class), "s3.data_class"))?;
            let _ = self.client.delete(&name);
        }
        Ok(probed)
    }

    /// Returns the prefixes above the repository's own below which something is named as a repository's
    /// config is, the nearest first. What may not be seen is left out.
    pub fn enclosing(&self) -> Vec<String> {
        let prefix = &self.client.options().prefix;
        let ends = prefix.char_indices().rev().filter(|(_, c)| *c == '/').skip(1);
        let above = ends.map(|(end, _)| &prefix[..=end]).take(ENCLOSING_ASKED_MAX);
        let whole_bucket = (!prefix.is_empty()).then_some("");
        let config = |above: &&str| self.client.has_key(&format!("{above}{}", Key::Config));
        above.chain(whole_bucket).filter(config).map(str::to_owned).collect()
    }

    /// Says what the store was found to do; [`CreateOnlyFact::Kept`] unless said otherwise.
    pub fn set_create_only(&self, create_only: CreateOnlyFact) {
        self.asks_first.store(create_only == CreateOnlyFact::Ignored, Ordering::Relaxed);
    }

    /// Sends an object of a random name damaged, and deletes it, to see whether the store notices.
    pub fn probe_verifies(&self) -> Result<VerifiesFact> {
        let name = format!("{PROBES}/{}", SessionId(random()));
        let taken = self.client.takes_damaged(&name);
        // Some stores keep what they refuse.
        let _ = self.client.delete(&name);
        Ok(if taken? { VerifiesFact::Ignored } else { VerifiesFact::Kept })
    }

    /// Says what the store was found to do; [`VerifiesFact::Kept`] unless said otherwise. Where it is
    /// ignored, the tag of each new object is compared with what was sent, or the object is read back.
    pub fn set_verifies(&self, verifies: VerifiesFact) {
        self.compares.store(verifies == VerifiesFact::Ignored, Ordering::Relaxed);
    }

    /// Says how many days new objects, but leases, may not be deleted.
    pub fn set_lock(&self, lock: Option<(ObjectLockMode, u32)>) {
        *self.lock.write().unwrap_or_else(std::sync::PoisonError::into_inner) = lock;
    }

    /// Says above which length an object goes up in parts; packs of the usual size do not.
    pub fn set_parts_above(&self, bytes: u64) {
        self.client.set_parts_above(bytes);
    }

    /// Returns the objects of a repository that a read does not find, or not as they were made, in a bucket
    /// that keeps versions: but leases and what is doomed, which are deleted in the course of things. Memory grows with their number.
    ///
    /// Fails with `Unsupported` where the store has no versions.
    pub fn hidden(&self) -> Result<Vec<(Key, Hidden)>> {
        /// What was seen of a name: objects that are not the latest version, and deletions.
        #[derive(Default)]
        struct Seen {
            older: u64,
            version: String,
            marks: Vec<String>,
            is_deleted: bool,
        }
        let mut seen: BTreeMap<Key, Seen> = BTreeMap::new();
        self.client.list_versions("", &mut |version| {
            let key = Key::parse(&version.name);
            let is_kept = |key: &Key| !matches!(key, Key::Lease(_) | Key::Doomed(_));
            let Some(key) = key.filter(is_kept) else { return Ok(()) };
            if version.is_latest && !version.is_deletion {
                return Ok(());
            }
            let seen = seen.entry(key).or_default();
            match version.is_deletion {
                true => seen.marks.push(version.version),
                false => {
                    seen.older += 1;
                    seen.version = version.version;
                }
            }
            seen.is_deleted |= version.is_deletion && version.is_latest;
            Ok(())
        })?;
        let hidden = seen.into_iter().filter_map(|(key, seen)| {
            let hidden = match (seen.is_deleted, seen.older) {
                (true, 0) => Hidden::Gone,
                (true, 1) => Hidden::Deleted { version: seen.version, marks: seen.marks },
                (false, 0) => return None,
                _ => Hidden::Replaced,
            };
            Some((key, hidden))
        });
        Ok(hidden.collect())
    }

    /// Takes the marks of an object's deletion away.
    pub fn undelete(&self, key: &Key, marks: &[String]) -> Result<()> {
        marks.iter().try_for_each(|mark| self.client.delete_version(&key.to_string(), mark))
    }

    /// Puts an object where another is, for what took the place of one of a repository.
    pub fn put_over(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        let creation = Creation {
            replaces: true,
            ..self.creation(key, self.client.options().class.as_deref())
        };
        self.client.put_new(&key.to_string(), &[bytes], &creation)
    }

    /// Returns whether the bucket keeps versions.
    pub fn versioning(&self) -> Result<Versioning> {
        self.client.versioning()
    }

    /// Returns the versions of an object, in a bucket that keeps them, from the first to the latest:
    /// objects are only ever created, so what came later is not ours. Deletions are left out.
    pub fn versions(&self, key: &Key) -> Result<Vec<String>> {
        self.client.versions_of(&key.to_string())
    }

    /// Returns all bytes of a version of an object. Fails as [`Backend::get`].
    pub fn get_version(&self, key: &Key, version: &str, bytes_max: u64) -> Result<Vec<u8>> {
        let content = self.client.get_version(&key.to_string(), version, bytes_max)?;
        whole(key, content, bytes_max)
    }

    /// Returns the first bytes of a version, `length` of them unless it ends before.
    pub fn head_of_version(&self, key: &Key, version: &str, length: usize) -> Result<Vec<u8>> {
        self.client.head_of_version(&key.to_string(), version, length)
    }

    /// Returns whether objects of the bucket can be locked, and are by themselves.
    pub fn bucket_lock(&self) -> Result<BucketLock> {
        self.client.bucket_lock()
    }

    fn lock(&self) -> Option<(ObjectLockMode, u32)> {
        *self.lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn creation<'c>(&self, key: &Key, class: Option<&'c str>) -> Creation<'c> {
        let is_lease = matches!(key, Key::Lease(_));
        Creation {
            class,
            lock: self.lock().filter(|_| !is_lease).map(|(mode, days)| (mode, days_from_now(days))),
            asks_first: self.asks_first.load(Ordering::Relaxed),
            compares: self.compares.load(Ordering::Relaxed),
            replaces: false,
        }
    }

    fn put(&self, key: &Key, parts: &[&[u8]], class: Option<&str>, setting: &str) -> Result<()> {
        let put = self.client.put_new(&key.to_string(), parts, &self.creation(key, class));
        put.map_err(|error| of_class(error, class, setting))
    }
}

/// Says with which storage class an object was to be created, where that may be what was wrong.
fn of_class(error: Error, class: Option<&str>, setting: &str) -> Error {
    let problem = error.problem();
    let is_of_request = problem.contains("does not have this storage class")
        || error.kind() == ErrorKind::Unsupported;
    match class.filter(|_| is_of_request) {
        Some(class) => {
            let problem = format!("{problem}; {setting} asks for the class {class}");
            Error::new(error.kind(), error.object(), problem)
        }
        None => error,
    }
}

fn whole(key: &Key, content: Content, bytes_max: u64) -> Result<Vec<u8>> {
    match content {
        Content::Bytes(bytes) => Ok(bytes),
        Content::OtherLength(found) => Err(too_long(key, found, bytes_max)),
    }
}

fn part(key: &Key, offset: u64, length: usize, content: Content) -> Result<Vec<u8>> {
    match content {
        Content::Bytes(bytes) => Ok(bytes),
        Content::OtherLength(found) => Err(too_short(key, offset, length, found)),
    }
}

impl Backend for S3Backend {
    fn location(&self) -> String {
        self.client.location().to_owned()
    }

    fn put_new(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        self.put(key, parts, self.client.options().class.as_deref(), "s3.class")
    }

    fn put_new_data(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        let options = self.client.options();
        match options.data_class.as_deref() {
            Some(class) => self.put(key, parts, Some(class), "s3.data_class"),
            None => self.put(key, parts, options.class.as_deref(), "s3.class"),
        }
    }

    fn get(&self, key: &Key, bytes_max: u64) -> Result<Vec<u8>> {
        whole(key, self.client.get(&key.to_string(), bytes_max)?, bytes_max)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        part(key, offset, length, self.client.get_range(&key.to_string(), offset, length)?)
    }

    fn get_up_to(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        part(key, offset, length, self.client.get_up_to(&key.to_string(), offset, length)?)
    }

    fn list(&self, space: Space, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let start = format!("{}/", space.prefix());
        self.client.list(&start, &mut |name, bytes| each(Listed { name, bytes }))
    }

    fn list_all(&self, each: &mut dyn FnMut(Space, Listed)) -> Result<()> {
        let starts = Space::ALL.map(|space| format!("{}/", space.prefix()));
        self.client.list_below(&starts, &mut |name, bytes| {
            if let Some(space) = Space::of(&name) {
                each(space, Listed { name, bytes });
            }
        })
    }

    fn length(&self, key: &Key) -> Result<u64> {
        self.client.length(&key.to_string())
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.client.delete(&key.to_string())
    }

    fn writes_at_once(&self) -> usize {
        self.client.options().connections
    }

    fn reads_at_once(&self) -> Option<usize> {
        Some(self.client.options().connections)
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(self.client.traffic())
    }

    fn leaves_traces(&self, bytes: u64) -> bool {
        self.client.goes_up_in_parts(bytes)
    }

    fn clean_up(&self) -> Result<()> {
        if self.cleaned_up.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let is_ours = |name: &str| Key::parse(name).is_some();
        match self.client.abort_abandoned_uploads(is_ours) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            // What stays costs a little money. Whatever else is wrong the backup itself will find.
            _ => Ok(()),
        }
    }

    fn retention(&self, key: &Key) -> Result<Option<Retention>> {
        let found = self.client.retention(&key.to_string())?;
        Ok(found.map(|(until, mode)| Retention { until, mode }))
    }

    fn extend_lock(&self, key: &Key, retention: Retention) -> Result<()> {
        let usual = || self.lock().map_or(ObjectLockMode::Governance, |(mode, _)| mode);
        let mode = retention.mode.unwrap_or_else(usual);
        self.client.extend_lock(&key.to_string(), mode, retention.until)
    }
}
