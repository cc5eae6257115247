//! Undoing deletions and replacements in a bucket that keeps versions.
//!
//! Objects are only ever created, so the first version of a name is ours and whatever came later is not. A
//! deleted object comes back when the marks of its deletion are taken away. One that was replaced is put
//! once more, after its first version was seen to be whole; what took its place stays as a version. No
//! version of an object is deleted, so that an error here cannot lose anything.
//!
//! A prefix may have had one repository after the other: one is deleted, and another made in its place. Then
//! somebody has to say which one is meant, and what belongs to another stays as it is.

use crate::backend::{Backend, Hidden, Key, S3Backend, for_each_read};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::config::{Config, StoreFacts};
use crate::format::{
    HEADER_LEN, Header, ObjectKind, RECORD_BYTES_MAX, open_record, open_record_of,
};
use crate::id::{RepositoryId, hash_stored};
use crate::progress::{Cancel, Event, Observer};
use crate::repository::{CONFIG_BYTES_MAX, config_of};
use crate::s3client::Versioning;

/// The longest pack: filled to 1 GiB at most, with a last chunk and a trailer.
const PACK_BYTES_MAX: u64 = (1 << 30) + (256 << 20);

/// How many versions of an object are read, from the first on.
const VERSIONS_READ_MAX: usize = 100;

/// How many repositories are named where one has to be chosen.
const NAMED_MAX: usize = 10;

/// What came of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It was deleted and is there again, or would be.
    Undeleted,
    /// Something was put in its place; the first version was put again, or would be.
    PutAgain,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct UndeleteOptions {
    /// Change nothing.
    pub dry_run: bool,
    /// Bring back what belongs to this repository; needed where there were several.
    pub repository: Option<RepositoryId>,
    /// To stop it.
    pub cancel: Cancel,
}

/// What was found and done.
#[derive(Clone, Debug, Default)]
pub struct UndeleteReport {
    /// Whether the bucket keeps versions.
    pub versioning: Versioning,
    /// Objects that were deleted and are there again, or would be.
    pub undeleted: u64,
    /// Objects that were replaced, and whose first version was put again, or would be.
    pub put_again: u64,
    /// Objects with several versions that are as they were.
    pub unchanged: u64,
    /// Objects of other repositories, which were left as they are.
    pub of_others: u64,
    /// Objects of which nothing but the marks of their deletion is left.
    pub gone: u64,
    /// What could not be brought back.
    pub findings: Findings,
}

/// Brings back what was deleted or replaced: config, features, packs, index objects, snapshots. `apply` is
/// called with what the repository's config says of the store before anything is put; `each` for every
/// object that comes back.
///
/// An object that cannot be brought back is a finding. Fails with `Unsupported` where the store has no
/// versions, with `NoRepository` where no version of a config is, with `Refused` where there were several repositories and none is chosen, with the store's error
/// when a deletion cannot be undone, and when it is stopped.
pub fn undelete(
    backend: &S3Backend,
    options: &UndeleteOptions,
    apply: &dyn Fn(&StoreFacts),
    each: &mut dyn FnMut(&Key, Undone),
    observer: &dyn Observer,
) -> Result<UndeleteReport> {
    observer.event(Event::Stage("versions"));
    let versioning = backend.versioning()?;
    let hidden = backend.hidden()?;
    if versioning == Versioning::Never && hidden.is_empty() {
        let problem = "a bucket that keeps versions expected, this one never kept any";
        return Err(Error::new(ErrorKind::Unsupported, backend.location(), problem));
    }
    let configs = configs(backend)?;
    let chosen = choose(backend, &configs, options.repository)?;
    if let Some(config) = chosen.and_then(|chosen| chosen.config.as_ref()) {
        apply(&config.store);
    }
    // Where there was only one repository, everything is its own.
    let only = options.repository.or(chosen.map(|chosen| chosen.repository));
    let only = only.filter(|_| configs.len() > 1 || options.repository.is_some());
    let report = UndeleteReport { versioning, ..UndeleteReport::default() };
    let mut run = Run { backend, options, only, each, observer, report };
    // What says what the repository is comes first, then packs before what names them: whatever ends
    // this early, no snapshot lacks more than before.
    let mut groups: [Vec<_>; 4] = Default::default();
    for (key, hidden) in hidden {
        let group = match key {
            Key::Config | Key::Feature(_) => 0,
            Key::Pack(_) => 1,
            Key::Index(_) => 2,
            Key::Snapshot(_) | Key::Lease(_) | Key::Doomed(_) => 3,
        };
        groups[group].push((key, hidden));
    }
    groups.into_iter().try_for_each(|group| run.bring_back(group))?;
    Ok(run.report)
}

/// A repository whose config is among the versions.
struct Found {
    repository: RepositoryId,
    /// `None` when this program cannot use it.
    config: Option<Config>,
}

impl Found {
    /// Its id, and when it was made.
    fn described(&self, present: Option<RepositoryId>) -> String {
        let is_plain = |created: &&Config| {
            created.created.len() <= 40 && created.created.chars().all(|c| c.is_ascii_graphic())
        };
        let made = self.config.as_ref().filter(is_plain).map(|config| config.created.as_str());
        let made = made.map(|made| format!("made {made}, ")).unwrap_or_default();
        let state = match present == Some(self.repository) {
            true => "the present one",
            false => "deleted or replaced",
        };
        format!("{} ({made}{state})", self.repository)
    }
}

/// Returns the versions that are read, from the first on, and the latest, however many there are.
fn readable(versions: &[String]) -> impl Iterator<Item = &String> {
    let latest = versions.get(VERSIONS_READ_MAX..).and_then(|rest| rest.last());
    versions.iter().take(VERSIONS_READ_MAX).chain(latest)
}

/// Returns the first config of each repository that has one among the versions. Fails with `NoRepository`
/// when there never was a config, or nothing is left of any.
fn configs(backend: &S3Backend) -> Result<Vec<Found>> {
    let versions = backend.versions(&Key::Config)?;
    if versions.is_empty() {
        let problem = "no repository there: no version of a config object is";
        return Err(Error::new(ErrorKind::NoRepository, backend.location(), problem));
    }
    let mut configs: Vec<Found> = Vec::new();
    for version in readable(&versions) {
        let bytes = match backend.get_version(&Key::Config, version, CONFIG_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if is_lost(&error) => continue,
            Err(error) => return Err(error),
        };
        let Some(repository) = config_id(&bytes) else { continue };
        if configs.iter().all(|config| config.repository != repository) {
            configs.push(Found { repository, config: config_of(&bytes).ok() });
        }
    }
    Ok(configs)
}

/// Returns the repository of a config, unless it is rubbish.
fn config_id(bytes: &[u8]) -> Option<RepositoryId> {
    let opened = open_record_of(bytes, "config", ObjectKind::Config, None);
    opened.ok().map(|(header, _)| header.repository)
}

/// Returns the repository that was asked for, or the only one. `None` where no config says what it is.
fn choose<'f>(
    backend: &S3Backend,
    configs: &'f [Found],
    asked: Option<RepositoryId>,
) -> Result<Option<&'f Found>> {
    let chosen = configs.iter().find(|config| Some(config.repository) == asked);
    match (asked, configs) {
        (_, []) => return Ok(None),
        (Some(_), _) if chosen.is_some() => return Ok(chosen),
        (None, [only]) => return Ok(Some(only)),
        _ => {}
    }
    let present = match backend.get(&Key::Config, CONFIG_BYTES_MAX) {
        Ok(bytes) => config_id(&bytes),
        Err(error) if is_lost(&error) => None,
        Err(error) => return Err(error),
    };
    let named = configs.iter().take(NAMED_MAX).map(|config| config.described(present));
    let mut named = named.collect::<Vec<_>>().join(", ");
    if configs.len() > NAMED_MAX {
        named.push_str(", and more");
    }
    let problem = match asked {
        Some(asked) => format!("a config of repository {asked} expected, found {named}"),
        None => format!(
            "one repository expected, found the configs of {} that were there one after the other: {named}; \
             nothing was changed",
            configs.len()
        ),
    };
    Err(Error::new(ErrorKind::Refused, backend.location(), problem))
}

/// Whether a version cannot be had, now or ever.
fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt)
}

struct Run<'a> {
    backend: &'a S3Backend,
    options: &'a UndeleteOptions,
    /// What belongs to another repository stays as it is.
    only: Option<RepositoryId>,
    each: &'a mut dyn FnMut(&Key, Undone),
    observer: &'a dyn Observer,
    report: UndeleteReport,
}

/// What there is among the versions of an object.
enum First {
    /// The one that was put first.
    Whole(Vec<u8>),
    /// Only what belongs to other repositories.
    OfOthers,
    /// Nothing that is whole.
    Lost(Error),
}

impl Run<'_> {
    fn bring_back(&mut self, hidden: Vec<(Key, Hidden)>) -> Result<()> {
        let mut deleted = Vec::new();
        for (key, hidden) in hidden {
            self.options.cancel.check()?;
            match hidden {
                Hidden::Deleted { version, marks } => deleted.push((key, version, marks)),
                Hidden::Replaced => self.put_again(&key)?,
                Hidden::Gone => {
                    self.report.gone += 1;
                    self.find(&key, "it was deleted with all its versions: nothing is left of it");
                }
            }
        }
        let (backend, options, only) = (self.backend, self.options, self.only);
        let undo = |(key, version, marks): (Key, String, Vec<String>)| {
            let is_ours = match only {
                Some(only) => belongs(backend, &key, &version, only),
                None => Ok(true),
            };
            let undone = is_ours.and_then(|is_ours| {
                if is_ours && !options.dry_run {
                    backend.undelete(&key, &marks)?;
                }
                Ok(is_ours)
            });
            (key, undone)
        };
        for_each_read(backend, deleted, undo, |(key, undone)| {
            options.cancel.check()?;
            if undone? {
                self.report.undeleted += 1;
                (self.each)(&key, Undone::Undeleted);
            } else {
                self.report.of_others += 1;
            }
            Ok(())
        })
    }

    /// Puts the first version of an object again, unless the present one is as it was.
    fn put_again(&mut self, key: &Key) -> Result<()> {
        let bytes_max = if matches!(key, Key::Pack(_)) { PACK_BYTES_MAX } else { RECORD_BYTES_MAX };
        let present = match self.backend.get(key, bytes_max) {
            Ok(bytes) => Some(bytes),
            Err(error) if is_lost(&error) => None,
            Err(error) => return Err(error),
        };
        // The name of these is the hash of their bytes.
        if let (Key::Pack(_) | Key::Index(_), Some(present)) = (key, &present)
            && let Ok(repository) = verify(key, present)
        {
            match self.is_only(repository) {
                true => self.report.unchanged += 1,
                false => self.report.of_others += 1,
            }
            return Ok(());
        }
        let first = match self.first(key, bytes_max)? {
            First::Whole(first) => first,
            First::OfOthers => {
                self.report.of_others += 1;
                return Ok(());
            }
            First::Lost(error) => {
                let detail =
                    format!("it was replaced, and its first version is not whole: {error}");
                self.find(key, &detail);
                return Ok(());
            }
        };
        if present.as_deref() == Some(&first[..]) {
            self.report.unchanged += 1;
            return Ok(());
        }
        if !self.options.dry_run {
            self.backend.put_over(key, &first)?;
        }
        self.report.put_again += 1;
        (self.each)(key, Undone::PutAgain);
        Ok(())
    }

    /// Whether what has this repository's id is to come back.
    fn is_only(&self, repository: Option<RepositoryId>) -> bool {
        self.only.is_none_or(|only| repository == Some(only))
    }

    /// Returns the first version of an object; where there were several repositories, the first that
    /// belongs to the chosen one.
    fn first(&self, key: &Key, bytes_max: u64) -> Result<First> {
        let mut outcome = First::Lost(Error::new(
            ErrorKind::NotFound,
            key.to_string(),
            "no version of it is there",
        ));
        for version in readable(&self.backend.versions(key)?) {
            let bytes = match self.backend.get_version(key, version, bytes_max) {
                Ok(bytes) => bytes,
                Err(error) if is_lost(&error) => Vec::new(),
                Err(error) => return Err(error),
            };
            match verify(key, &bytes) {
                Ok(repository) if self.is_only(repository) => return Ok(First::Whole(bytes)),
                Ok(_) => outcome = First::OfOthers,
                Err(error) if self.only.is_none() => return Ok(First::Lost(error)),
                Err(error) if matches!(outcome, First::Lost(_)) => outcome = First::Lost(error),
                Err(_) => {}
            }
        }
        Ok(outcome)
    }

    fn find(&mut self, key: &Key, detail: &str) {
        let finding = Finding::new(FindingKind::NotUndeleted, key.to_string(), detail);
        self.observer.event(Event::Finding(&finding));
        self.report.findings.push(finding);
    }
}

/// Whether a version belongs to a repository. One that does not say belongs to all: to bring it back does no
/// harm, and some of it may be whole.
fn belongs(backend: &S3Backend, key: &Key, version: &str, only: RepositoryId) -> Result<bool> {
    let object = key.to_string();
    match backend.head_of_version(key, version, HEADER_LEN) {
        Ok(bytes) => {
            Ok(Header::decode(&bytes, &object).map_or(true, |header| header.repository == only))
        }
        Err(error) if is_lost(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Returns the repository that an object says it belongs to. Fails with `Corrupt` for bytes that cannot be
/// the object of that name.
fn verify(key: &Key, bytes: &[u8]) -> Result<Option<RepositoryId>> {
    let object = key.to_string();
    let expected = match key {
        Key::Pack(id) => return verify_hash(&object, id.0, bytes),
        Key::Index(id) => return verify_hash(&object, id.0, bytes),
        Key::Config => &[ObjectKind::Config][..],
        Key::Feature(_) => &[ObjectKind::Feature],
        Key::Snapshot(_) => &[ObjectKind::Snapshot, ObjectKind::Tombstone],
        Key::Lease(_) | Key::Doomed(_) => {
            return open_record(bytes, &object).map(|(header, _)| Some(header.repository));
        }
    };
    let (header, _) = open_record(bytes, &object)?;
    match expected.contains(&header.kind) {
        true => Ok(Some(header.repository)),
        false => {
            let (expected, found) = (expected[0].noun(), header.kind.noun());
            Err(Error::corrupt(object, format!("{expected} expected, found {found}")))
        }
    }
}

fn verify_hash(object: &str, id: [u8; 32], bytes: &[u8]) -> Result<Option<RepositoryId>> {
    match hash_stored(&[bytes]) == id {
        true => Ok(Header::decode(bytes, object).ok().map(|header| header.repository)),
        false => Err(Error::corrupt(object, "its bytes do not hash to its name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Header, seal_record};
    use crate::id::{IndexId, PackId, RepositoryId, SessionId};

    /// Catches rubbish that is taken for the object whose place it took.
    #[test]
    fn only_what_can_be_the_object_of_a_name_is_put_again() {
        let hash = hash_stored(&[b"pack"]);
        assert!(verify(&Key::Pack(PackId(hash)), b"pack").is_ok());
        assert!(verify(&Key::Index(IndexId(hash)), b"pack").is_ok());
        assert!(verify(&Key::Pack(PackId(hash)), b"kcap").is_err());
        let session = SessionId([2; 16]);
        let record =
            |kind| seal_record(&Header::new(kind, 0, RepositoryId([1; 16]), session), b"{}");
        assert!(verify(&Key::Config, &record(ObjectKind::Config)).is_ok());
        assert!(verify(&Key::Config, &record(ObjectKind::Snapshot)).is_err());
        assert!(verify(&Key::Snapshot(session), &record(ObjectKind::Tombstone)).is_ok());
        assert!(verify(&Key::Snapshot(session), b"rubbish").is_err());
    }
}
