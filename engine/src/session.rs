//! Sessions: who may write, and the commit.
//!
//! A writer draws a random session id, creates its lease, *then* lists what is doomed, *then* reads
//! index and snapshots (FORMAT.md 7.1); all of that is one listing of everything. Its commit is the create-only write of
//! `snapshots/<session>`; whoever revokes the session writes a tombstone of the same name, and
//! exactly one of the two succeeds.

use crate::backend::{Contents, Key, Listed, Space, is_unanswered};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::config::{VerifiesFact, from_json, to_json};
use crate::format::index::{Index, IndexedPack};
use crate::format::session::{Doomed, Lease};
use crate::format::snapshot::Snapshot;
use crate::format::{ChunkKind, ObjectKind};
use crate::id::{PackId, SessionId, hash_stored, random};
use crate::pack::read_trailer;
use crate::progress::{Event, Observer};
use crate::repository::{PackSurvey, Repository, check_features};
use crate::snapshot::{self, Listing};

/// An index object made of packs' own trailers names about this many chunks at most (10 MB).
const ADOPTED_CHUNKS_MAX: usize = 1 << 18;

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
    /// What is wrong with the repository, as far as beginning a session saw it.
    pub findings: Findings,
    /// Packs are missing, or cannot be read: what a snapshot says is stored may be gone.
    pub doubtful: bool,
}

impl<'a> Session<'a> {
    /// Begins a session. Without a lease (a dry run) nothing is written.
    ///
    /// Fails with `Unsupported` when the repository requires a feature that this program does not know;
    /// the lease is gone then.
    pub fn begin(
        repository: &'a Repository,
        lease: Option<&Lease>,
        observer: &dyn Observer,
    ) -> Result<Begun<'a>> {
        let id = SessionId(random());
        let session = Session { repository, id, has_lease: lease.is_some() };
        if let Some(lease) = lease {
            // A request, where nothing can have been left behind: `check` asks then.
            if repository.backend().leaves_traces(repository.pack_bytes_max()) {
                repository.backend().clean_up()?;
            }
            repository.create_record(&Key::Lease(id), ObjectKind::Lease, id, &to_json(lease))?;
        }
        let contents = Contents::list(repository.backend())?;
        // Before anything else is looked at: what it means may have changed.
        repository.take_features(contents.features)?;
        if session.has_lease {
            repository.add_features(id)?;
        }
        repository.index().begin_session();
        let doomed = doomed_packs(repository, &contents.doomed)?.packs;
        repository.index().avoid(doomed.iter().copied());
        let report = repository.load_listed_index(&contents.indexes, observer)?;
        let mut findings = report.findings;
        // What no index object names is unknown to a writer, whoever may have it.
        repository.never_recover();
        // With a cache that knew every index object from before, nothing can have been lost
        // without being seen; otherwise what a parent says is stored is looked up.
        repository.keep_packs(&contents.packs);
        let survey = repository.survey_listed_packs(contents.packs)?;
        let survey_doubtful = session.survey(survey, &doomed, observer, &mut findings)?;
        let doubtful = survey_doubtful || report.rebuilt || !findings.is_empty();
        let snapshots = snapshot::read(repository, contents.snapshots)?;
        for finding in &snapshots.findings.listed {
            observer.event(Event::Finding(finding));
            findings.push(finding.clone());
        }
        Ok(Begun { session, snapshots, findings, doubtful })
    }

    /// Compares packs with the index. Chunks in packs that are gone count as unknown, so that they
    /// are stored anew; packs that no index object names get one: they are what an interrupted
    /// session stored, or what a lost index object named.
    fn survey(
        &self,
        survey: PackSurvey,
        doomed: &[PackId],
        observer: &dyn Observer,
        findings: &mut Findings,
    ) -> Result<bool> {
        let repository = self.repository;
        let mut doubtful = !survey.missing.is_empty();
        let mut find = |kind, object: String, detail: &str| {
            let finding = Finding::new(kind, object, detail);
            observer.event(Event::Finding(&finding));
            findings.push(finding);
        };
        for id in &survey.missing {
            find(
                FindingKind::MissingObject,
                Key::Pack(*id).to_string(),
                "the index names this pack; it is missing or has another length",
            );
        }
        repository.index().avoid(survey.missing);
        let mut adopted = Vec::new();
        for (id, bytes) in survey.unindexed.into_iter().filter(|(id, _)| !doomed.contains(id)) {
            match adopt(repository, id, bytes) {
                Ok(pack) => adopted.push(pack),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if is_unanswered(repository.backend(), &error) => return Err(error),
                Err(error) => {
                    doubtful = true;
                    let object = Key::Pack(id).to_string();
                    find(FindingKind::DamagedObject, object, error.problem());
                }
            }
        }
        if !adopted.is_empty() {
            doubtful = true;
        }
        if !self.has_lease {
            // Nothing may be written, but what the real session would find is known all the same.
            adopted.iter().for_each(|pack| repository.index().add_unnamed(pack));
            return Ok(doubtful);
        }
        while !adopted.is_empty() {
            let mut chunks = 0;
            let fit = adopted
                .iter()
                .take_while(|pack| {
                    chunks += pack.places.len();
                    chunks <= ADOPTED_CHUNKS_MAX
                })
                .count();
            let rest = adopted.split_off(fit.max(1));
            let index = Index { packs: std::mem::replace(&mut adopted, rest), ..Index::default() };
            let name = repository.create_index(self.id, &index)?;
            repository.index().add(&index.packs, name)?;
        }
        Ok(doubtful)
    }

    /// The session's id, which becomes the snapshot's.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Commits the snapshot. Everything it names must be durable.
    ///
    /// Fails with `Locked` when the session was revoked, `Unsupported` when the repository has
    /// meanwhile been given a feature this program does not know.
    pub fn commit(mut self, snapshot: &Snapshot) -> Result<SessionId> {
        check_features(self.repository.backend())?;
        let key = Key::Snapshot(self.id);
        let body = to_json(snapshot);
        match self.repository.create_snapshot(self.id, &body) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::new(
                ErrorKind::Locked,
                key.to_string(),
                "this session was revoked; what it uploaded is found again by the next backup",
            )),
            Err(error) if is_unanswered(self.repository.backend(), &error) => {
                match self.repository.read_snapshot_record(self.id) {
                    // Only its answer was lost.
                    Ok(Some(stored)) if stored == body => Ok(self.id),
                    Err(read) if read.kind() == ErrorKind::NotFound => Err(error),
                    // It may be there: its packs are in use as long as the lease says so.
                    _ => {
                        self.has_lease = false;
                        let problem = "whether the snapshot was made is not known: the store gave no answer; \
                                       look for it with `colvault snapshots`";
                        Err(Error::new(error.kind(), key.to_string(), problem).caused_by(error))
                    }
                }
            }
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

/// Reads what a pack says of itself that no index object names. A meta pack of a store is read whole: whoever
/// uploaded it did not see it arrive, and without its chunks no content is found. Where a store takes whatever
/// arrives, so is every pack.
fn adopt(repository: &Repository, id: PackId, bytes: u64) -> Result<IndexedPack> {
    let backend = repository.backend();
    let pack = read_trailer(backend, id, bytes, repository.id())?;
    let is_doubtful =
        pack.kind == ChunkKind::Meta || repository.config().store.verifies == VerifiesFact::Ignored;
    if is_doubtful && backend.reads_at_once().is_some() {
        let key = Key::Pack(id);
        if hash_stored(&[&backend.get(&key, bytes)?]) != id.0 {
            let problem = "a pack whose bytes hash to its name expected";
            return Err(Error::corrupt(key.to_string(), problem));
        }
    }
    Ok(pack)
}

/// Returns at most `count_max` leases of sessions that run, or ended without taking theirs away; those
/// that cannot be read are left out.
pub fn leases(repository: &Repository, count_max: usize) -> Result<Vec<Lease>> {
    let mut names = Vec::new();
    repository
        .backend()
        .list(Space::Leases, &mut |object| names.extend(Key::parse(&object.name)))?;
    names.truncate(count_max);
    let read = |key: Key| {
        let (_, body) = repository.read_record(&key, ObjectKind::Lease).ok()?;
        from_json(&body, &key.to_string()).ok()
    };
    Ok(names.into_iter().filter_map(read).collect())
}

/// Reads every doomed record; one that cannot be read stops the session, since it might name any
/// pack.
fn doomed_packs(repository: &Repository, listed: &[Listed]) -> Result<Doomed> {
    let mut all = Doomed { packs: Vec::new() };
    for key in listed.iter().filter_map(|object| Key::parse(&object.name)) {
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
