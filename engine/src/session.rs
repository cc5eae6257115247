//! Sessions: who may write, and the commit.
//!
//! A writer draws a random session id, creates its lease, *then* lists what is doomed, *then* reads
//! index and snapshots (FORMAT.md 6). Its commit is the create-only write of
//! `snapshots/<session>`; whoever revokes the session writes a tombstone of the same name, and
//! exactly one of the two succeeds.

use crate::backend::{Key, Space};
use crate::error::{Error, ErrorKind, Result};
use crate::format::ObjectKind;
use crate::format::config::{from_json, to_json};
use crate::format::session::{Doomed, Lease};
use crate::format::snapshot::Snapshot;
use crate::id::{SessionId, random};
use crate::index::IndexReport;
use crate::progress::Observer;
use crate::repository::{Repository, check_features};
use crate::snapshot::{self, Listing};

/// A running write session; its lease goes when it ends, on every path out.
pub struct Session<'a> {
    repository: &'a Repository,
    id: SessionId,
    has_lease: bool,
}

/// A session that has begun, and the repository as it saw it after its lease was there.
pub struct Begun<'a> {
    /// The session.
    pub session: Session<'a>,
    /// Snapshots listed after the lease: what they reach may be reused by id alone.
    pub snapshots: Listing,
    /// What loading the index met.
    pub index: IndexReport,
    /// Packs that are missing and whose chunks count as unknown.
    pub packs_missing: u64,
}

impl<'a> Session<'a> {
    /// Begins a session. Without a lease (a dry run) nothing is written.
    pub fn begin(
        repository: &'a Repository,
        lease: Option<&Lease>,
        observer: &dyn Observer,
    ) -> Result<Begun<'a>> {
        let id = SessionId(random());
        let session = Session { repository, id, has_lease: lease.is_some() };
        if let Some(lease) = lease {
            repository.backend().clean_up()?;
            repository.create_record(&Key::Lease(id), ObjectKind::Lease, id, &to_json(lease))?;
        }
        repository.index().avoid(doomed_packs(repository)?.packs);
        let index = repository.load_index(observer)?;
        let packs_missing = repository.avoid_missing_packs(observer)?;
        let snapshots = snapshot::list(repository)?;
        Ok(Begun { session, snapshots, index, packs_missing })
    }

    /// The session's id, which becomes the snapshot's.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Commits the snapshot. Everything it names must be durable.
    ///
    /// Fails with `Locked` when the session was revoked, `Unsupported` when the repository has
    /// meanwhile been given a feature this program does not know.
    pub fn commit(self, snapshot: &Snapshot) -> Result<SessionId> {
        check_features(self.repository.backend())?;
        let key = Key::Snapshot(self.id);
        let body = to_json(snapshot);
        match self.repository.create_record(&key, ObjectKind::Snapshot, self.id, &body) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::new(
                ErrorKind::Locked,
                key.to_string(),
                "this session was revoked; what it uploaded is found again by the next backup",
            )),
            other => other.map(|()| self.id),
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.has_lease {
            // A lease that stays behind only delays a later prune.
            let _ = self.repository.backend().delete(&Key::Lease(self.id));
        }
    }
}

/// Reads every doomed record; one that cannot be read stops the session, since it might name any
/// pack.
fn doomed_packs(repository: &Repository) -> Result<Doomed> {
    let mut names = Vec::new();
    repository.backend().list(Space::Doomed, &mut |object| {
        names.extend(Key::parse(&object.name));
    })?;
    let mut all = Doomed { packs: Vec::new() };
    for key in names {
        match repository.read_record(&key, ObjectKind::Doomed) {
            Ok((_, body)) => {
                let doomed: Doomed = from_json(&body, &key.to_string())?;
                all.packs.extend(doomed.packs);
            }
            // Its prune ended meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}
