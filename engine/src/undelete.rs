//! Undoing deletions and replacements in a bucket that keeps versions.
//!
//! Objects are only ever created, so the first version of a name is ours and whatever came later is not. A
//! deleted object comes back when the marks of its deletion are taken away. One that was replaced is put
//! once more, after its first version was seen to be whole; what took its place stays as a version. No
//! version of an object is deleted, so that an error here cannot lose anything.

use crate::backend::{Backend, Hidden, Key, S3Backend, for_each_read};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::config::StoreFacts;
use crate::format::{ObjectKind, RECORD_BYTES_MAX, open_record};
use crate::id::hash_stored;
use crate::progress::{Cancel, Event, Observer};
use crate::repository::read_config;

/// The longest pack: filled to 1 GiB at most, with a last chunk and a trailer.
const PACK_BYTES_MAX: u64 = (1 << 30) + (256 << 20);

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
    /// To stop it.
    pub cancel: Cancel,
}

/// What was found and done.
#[derive(Clone, Debug, Default)]
pub struct UndeleteReport {
    /// Objects that were deleted and are there again, or would be.
    pub undeleted: u64,
    /// Objects that were replaced, and whose first version was put again, or would be.
    pub put_again: u64,
    /// Objects with several versions that are as they were.
    pub unchanged: u64,
    /// Objects of which nothing but the marks of their deletion is left.
    pub gone: u64,
    /// What could not be brought back.
    pub findings: Findings,
}

/// Brings back what was deleted or replaced: config, features, packs, index objects, snapshots. `apply` is
/// called once the config is there, before anything else is put; `each` for every object that comes back.
///
/// An object that cannot be brought back is a finding. Fails with `Unsupported` where the store has no
/// versions, with the store's error when a deletion cannot be undone, and when it is stopped.
pub fn undelete(
    backend: &S3Backend,
    options: &UndeleteOptions,
    apply: &dyn Fn(&StoreFacts),
    each: &mut dyn FnMut(&Key, Undone),
    observer: &dyn Observer,
) -> Result<UndeleteReport> {
    observer.event(Event::Stage("versions"));
    let hidden = backend.hidden()?;
    let mut run = Run { backend, options, each, observer, report: UndeleteReport::default() };
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
    for (number, group) in groups.into_iter().enumerate() {
        run.bring_back(group)?;
        if number == 0
            && let Ok(config) = read_config(backend)
        {
            apply(&config.store);
        }
    }
    Ok(run.report)
}

struct Run<'a> {
    backend: &'a S3Backend,
    options: &'a UndeleteOptions,
    each: &'a mut dyn FnMut(&Key, Undone),
    observer: &'a dyn Observer,
    report: UndeleteReport,
}

impl Run<'_> {
    fn bring_back(&mut self, hidden: Vec<(Key, Hidden)>) -> Result<()> {
        let mut deleted = Vec::new();
        for (key, hidden) in hidden {
            self.options.cancel.check()?;
            match hidden {
                Hidden::Deleted { marks } => deleted.push((key, marks)),
                Hidden::Replaced => self.put_again(&key)?,
                Hidden::Gone => {
                    self.report.gone += 1;
                    self.find(&key, "it was deleted with all its versions: nothing is left of it");
                }
            }
        }
        let (backend, options) = (self.backend, self.options);
        let undo = |(key, marks): (Key, Vec<String>)| {
            let undone = match options.dry_run {
                true => Ok(()),
                false => backend.undelete(&key, &marks),
            };
            (key, undone)
        };
        for_each_read(backend, deleted, undo, |(key, undone)| {
            options.cancel.check()?;
            undone?;
            self.report.undeleted += 1;
            (self.each)(&key, Undone::Undeleted);
            Ok(())
        })
    }

    /// Puts the first version of an object again, unless the present one is as it was.
    fn put_again(&mut self, key: &Key) -> Result<()> {
        let bytes_max = if matches!(key, Key::Pack(_)) { PACK_BYTES_MAX } else { RECORD_BYTES_MAX };
        let present = match self.backend.get(key, bytes_max) {
            Ok(bytes) => Some(bytes),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => None,
            Err(error) => return Err(error),
        };
        // The name of these is the hash of their bytes.
        if let (Key::Pack(_) | Key::Index(_), Some(present)) = (key, &present)
            && verify(key, present).is_ok()
        {
            self.report.unchanged += 1;
            return Ok(());
        }
        let first = match self.backend.get_oldest(key, bytes_max) {
            Ok(first) => first,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                self.find(key, &e.to_string());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Err(error) = verify(key, &first) {
            self.find(
                key,
                &format!("it was replaced, and its first version is not whole: {error}"),
            );
            return Ok(());
        }
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

    fn find(&mut self, key: &Key, detail: &str) {
        let finding = Finding::new(FindingKind::NotUndeleted, key.to_string(), detail);
        self.observer.event(Event::Finding(&finding));
        self.report.findings.push(finding);
    }
}

/// Fails with `Corrupt` for bytes that cannot be the object of that name.
fn verify(key: &Key, bytes: &[u8]) -> Result<()> {
    let object = key.to_string();
    let expected = match key {
        Key::Pack(id) => return verify_hash(&object, id.0, bytes),
        Key::Index(id) => return verify_hash(&object, id.0, bytes),
        Key::Config => &[ObjectKind::Config][..],
        Key::Feature(_) => &[ObjectKind::Feature],
        Key::Snapshot(_) => &[ObjectKind::Snapshot, ObjectKind::Tombstone],
        Key::Lease(_) | Key::Doomed(_) => return open_record(bytes, &object).map(drop),
    };
    let (header, _) = open_record(bytes, &object)?;
    match expected.contains(&header.kind) {
        true => Ok(()),
        false => {
            let (expected, found) = (expected[0].noun(), header.kind.noun());
            Err(Error::corrupt(object, format!("{expected} expected, found {found}")))
        }
    }
}

fn verify_hash(object: &str, id: [u8; 32], bytes: &[u8]) -> Result<()> {
    match hash_stored(&[bytes]) == id {
        true => Ok(()),
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
