//! Object lock: keeping what snapshots need from being deleted, and telling what may go when.
//!
//! An object is locked when it is put, for [`days_of_new`]. A later snapshot may need it too, so from time
//! to time everything that snapshots need is looked at, and what is locked for too short a time is locked
//! for longer: a *round*. With rounds at most [`LockPolicy::pause`] apart, everything that a round saw
//! stays locked for at least the days that were asked for, and each object is extended once or twice in
//! that time. A round asks the store for the lock of each object (a HEAD) and believes nothing else: objects
//! that were copied, or put while the lock was not set, are found so.
//!
//! A round comes after the commit of a snapshot and never makes a backup fail. One that is interrupted, that
//! did not see everything, or could not extend everything, is not remembered, and the next backup begins
//! another.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Key, Retention, Space, for_each_read};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::ChunkKind;
use crate::format::manifest::Entry;
use crate::format::snapshot::Component;
use crate::id::{PackId, RepositoryId, hash_stored, random};
use crate::index::{IdPrefix, PlacedChunk};
use crate::progress::{Cancel, Event, Observer};
use crate::reach::{REFERENCE_LEN, Reached, Reference, Root, Visitor, Walk};
use crate::repository::Repository;
use crate::snapshot::{Listing, Named};
use crate::spill::{Sorted, SpillPlace};

const DAY: u64 = 24 * 3600;

/// Stores lock for no longer than a hundred years.
const DAYS_MAX: u32 = 36_500;

/// After so many locks that could not be extended, and none that could, the others are not tried: a
/// permission is missing.
const FAILURES_MAX: u64 = 100;

/// So many of them are named.
const FAILURES_NAMED_MAX: usize = 10;

/// Returns for how many days a new object is locked where so many were asked for: longer by half, so that
/// it need not be extended at once.
pub fn days_of_new(days: u32) -> u32 {
    days.saturating_add(days.div_ceil(2)).min(DAYS_MAX)
}

/// What is decided from the days asked for, and from nothing but its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockPolicy {
    days: u32,
}

impl LockPolicy {
    /// For how many days what snapshots need has to stay locked.
    pub fn new(days: u32) -> Self {
        LockPolicy { days }
    }

    /// Returns how far apart rounds may be: a quarter of the days.
    pub fn pause(self) -> Duration {
        Duration::from_secs(u64::from(self.days) * DAY / 4)
    }

    /// Whether a round is due after that one. One in the future is none: a clock was wrong.
    pub fn is_due(self, last: Option<SystemTime>, now: SystemTime) -> bool {
        let since = last.and_then(|last| now.duration_since(last).ok());
        since.is_none_or(|since| since >= self.pause())
    }

    /// Returns until when to lock a needed object that is locked until then; `None` when that is enough
    /// for this round: for the days and the time until the next one.
    pub fn extended(self, until: Option<SystemTime>, now: SystemTime) -> Option<SystemTime> {
        let days = |days: u32| Duration::from_secs(u64::from(days) * DAY);
        let enough = now + days(self.days) + self.pause();
        let new = now + days(days_of_new(self.days));
        let is_longer = until.is_none_or(|until| until < new);
        (is_longer && until.is_none_or(|until| until < enough)).then_some(new)
    }
}

/// Whether an object may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayGo {
    /// No: a snapshot needs it.
    Needed,
    /// Not before then: it is locked.
    From(SystemTime),
    /// Yes.
    Now,
}

/// Tells whether an object may be deleted, and when.
pub fn may_go(is_needed: bool, locked_until: Option<SystemTime>, now: SystemTime) -> MayGo {
    match locked_until {
        _ if is_needed => MayGo::Needed,
        Some(until) if until > now => MayGo::From(until),
        _ => MayGo::Now,
    }
}

/// What a round does.
#[derive(Clone, Debug)]
pub struct LockOptions {
    /// For how many days objects stay locked.
    pub days: u32,
    /// The present time.
    pub now: SystemTime,
    /// Extend nothing.
    pub dry_run: bool,
    /// Look at packs that no snapshot needs, too.
    pub with_unneeded: bool,
    /// Where sorted references go that memory does not hold.
    pub spill: SpillPlace,
    /// To stop it.
    pub cancel: Cancel,
}

/// Packs that may go from the same day on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unneeded {
    /// How many.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a round found and did.
#[derive(Clone, Debug, Default)]
pub struct LockReport {
    /// Objects that snapshots need.
    pub needed: u64,
    /// Those whose locks were extended, or would be.
    pub extended: u64,
    /// Those whose locks should have been and were not.
    pub failed: u64,
    /// Whether everything was seen that snapshots need: what cannot be read may need more than is known.
    pub all_seen: bool,
    /// Until when all that are needed are locked now; `None` when one is not locked at all, or that is not
    /// known.
    pub locked_until: Option<SystemTime>,
    /// Packs in the index that no snapshot needs, by the day from which they may go, in seconds; 0 is now.
    pub unneeded: BTreeMap<u64, Unneeded>,
    /// What is missing, and what could not be extended.
    pub findings: Findings,
}

impl LockReport {
    /// Whether everything that snapshots need was seen, and is locked for as long as it is to be.
    pub fn is_done(&self) -> bool {
        self.all_seen && self.failed == 0
    }
}

/// Loads the index and extends the locks of everything that snapshots need. `listing` has all snapshots of
/// the repository; the index that is loaded after it names all that they need.
///
/// What cannot be extended or is not there is a finding. Fails when the index or temporary files cannot be
/// read or written, and when it is stopped.
pub fn extend_locks(
    repository: &Repository,
    listing: &Listing,
    options: &LockOptions,
    observer: &dyn Observer,
) -> Result<LockReport> {
    let index = repository.load_index(observer)?;
    let roots: Vec<Root<'_>> =
        listing.snapshots.iter().map(|named| Root { named, is_selected: true }).collect();
    observer.event(Event::Stage("manifests"));
    // What is not there is referred to, too: it is told by the name of its pack, once.
    let mut walk = Walk {
        repository,
        spill: &options.spill,
        cancel: &options.cancel,
        observer: &ButMissing(observer),
        refers_to_missing: true,
        findings: Findings::default(),
    };
    let references = walk.references(&roots, &mut Everything)?;
    let (found, missing) = apart(walk.findings);
    let seen = [&listing.findings, &index.findings, &found, &missing];
    let all_seen = seen.iter().all(|findings| findings.is_empty());
    let mut findings = index.findings;
    findings.append(found);
    let mut round = Round {
        backend: repository.backend(),
        policy: LockPolicy::new(options.days),
        options,
        observer,
        attempts: Attempts::default(),
        report: LockReport { all_seen, findings, ..LockReport::default() },
    };
    let needed = round.needed_packs(repository, references)?;
    let mut keys = round.records(listing)?;
    keys.extend(needed.iter().map(|id| Key::Pack(*id)));
    observer.event(Event::Stage("locks"));
    round.extend(keys)?;
    round.tell_missing(missing);
    if options.with_unneeded {
        round.tell_unneeded(repository, &needed)?;
    }
    Ok(round.report)
}

/// Hands on everything but chunks that are missing.
struct ButMissing<'a>(&'a dyn Observer);

impl Observer for ButMissing<'_> {
    fn event(&self, event: Event<'_>) {
        if !matches!(event, Event::Finding(finding) if finding.kind == FindingKind::MissingChunk) {
            self.0.event(event);
        }
    }
}

/// Takes chunks that are missing out of findings.
fn apart(mut findings: Findings) -> (Findings, Findings) {
    let mut missing = Findings::default();
    if let Some(count) = findings.counts.remove(&FindingKind::MissingChunk) {
        missing.counts.insert(FindingKind::MissingChunk, count);
    }
    let listed = findings.listed.into_iter();
    (missing.listed, findings.listed) =
        listed.partition(|finding| finding.kind == FindingKind::MissingChunk);
    (findings, missing)
}

/// All content counts the same.
struct Everything;

impl Visitor for Everything {
    fn component(&mut self, _: &Named, _: &Component) -> u32 {
        0
    }
    fn names_group(&mut self, _: &Named) -> u32 {
        0
    }
    fn manifest_group(&mut self, _: u32) -> u32 {
        0
    }
    fn entry(&mut self, _: u32, _: &Entry, _: &Reached) -> u32 {
        0
    }
}

/// References, read in step with the index.
struct Wanted {
    references: Sorted<REFERENCE_LEN>,
    prefix: Option<IdPrefix>,
    /// Kinds that are wanted under the prefix, and whether one was met.
    kinds: Vec<(ChunkKind, bool)>,
    missing: u64,
}

impl Wanted {
    /// Goes on to the references of a prefix, or to the end; those before were in no pack.
    fn go_to(&mut self, prefix: Option<IdPrefix>) -> Result<()> {
        self.missing += self.kinds.drain(..).filter(|(_, is_met)| !is_met).count() as u64;
        self.prefix = prefix;
        let mut last = None;
        while let Some(next) = self.references.peek()?.map(Reference::decode) {
            if prefix.is_some_and(|prefix| next.prefix > prefix) {
                break;
            }
            self.references.next()?;
            if last == Some((next.prefix, next.kind)) {
                continue;
            }
            last = Some((next.prefix, next.kind));
            match Some(next.prefix) == prefix {
                true => self.kinds.push((next.kind, false)),
                false => self.missing += 1,
            }
        }
        Ok(())
    }

    fn takes(&mut self, place: &PlacedChunk) -> Result<bool> {
        if self.prefix != Some(place.prefix) {
            self.go_to(Some(place.prefix))?;
        }
        let wanted = self.kinds.iter_mut().find(|(kind, _)| *kind == place.kind);
        Ok(wanted.map(|(_, is_met)| *is_met = true).is_some())
    }
}

/// What came of looking at an object.
enum Outcome {
    /// It is locked until then, after its lock was extended or not.
    Locked {
        until: Option<SystemTime>,
        is_extended: bool,
    },
    Failed(Key, Error),
    /// Others had failed before.
    NotTried,
}

/// Locks that were to be extended.
#[derive(Debug, Default)]
struct Attempts {
    failed: AtomicU64,
    extended: AtomicU64,
}

impl Attempts {
    fn is_hopeless(&self) -> bool {
        self.extended.load(Ordering::Relaxed) == 0
            && self.failed.load(Ordering::Relaxed) >= FAILURES_MAX
    }
}

struct Round<'a> {
    backend: &'a dyn Backend,
    policy: LockPolicy,
    options: &'a LockOptions,
    observer: &'a dyn Observer,
    attempts: Attempts,
    report: LockReport,
}

impl Round<'_> {
    fn find(&mut self, kind: FindingKind, object: String, detail: String) {
        let finding = Finding::new(kind, object, detail);
        self.observer.event(Event::Finding(&finding));
        self.report.findings.push(finding);
    }

    /// Returns the packs that hold a chunk which a snapshot reaches; of several copies all.
    fn needed_packs(
        &mut self,
        repository: &Repository,
        references: Sorted<REFERENCE_LEN>,
    ) -> Result<HashSet<PackId>> {
        let mut wanted = Wanted { references, prefix: None, kinds: Vec::new(), missing: 0 };
        let packs = repository.index().packs_with(&mut |place| wanted.takes(&place))?;
        wanted.go_to(None)?;
        if wanted.missing > 0 {
            let detail = format!(
                "no index object names {} chunks that snapshots need; colvault check tells which",
                wanted.missing
            );
            self.find(FindingKind::MissingChunk, self.backend.location(), detail);
            self.report.all_seen = false;
        }
        Ok(packs.into_iter().map(|pack| pack.id).collect())
    }

    /// Returns config, features, index objects and the snapshots.
    fn records(&self, listing: &Listing) -> Result<Vec<Key>> {
        let mut keys = vec![Key::Config];
        for space in [Space::Features, Space::Indexes] {
            self.backend.list(space, &mut |object| keys.extend(Key::parse(&object.name)))?;
        }
        keys.extend(listing.snapshots.iter().map(|named| Key::Snapshot(named.id)));
        Ok(keys)
    }

    fn extend(&mut self, mut keys: Vec<Key>) -> Result<()> {
        self.report.needed = keys.len() as u64;
        // In another order each time: some that cannot be extended do not always come before all others.
        let nonce: [u8; 16] = random();
        keys.sort_by_cached_key(|key| hash_stored(&[&nonce, key.to_string().as_bytes()]));
        let mut soonest = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::MAX / 4));
        let mut outcomes = Vec::new();
        let (policy, options, attempts) = (self.policy, self.options, &self.attempts);
        let backend = self.backend;
        let look = |key| look(backend, policy, options, attempts, key);
        for_each_read(backend, keys, look, |outcome| {
            options.cancel.check()?;
            self.observer.event(Event::Done { entries: 1, bytes: 0 });
            match outcome {
                Outcome::Locked { until, is_extended } => {
                    soonest = soonest.zip(until).map(|(soonest, until)| soonest.min(until));
                    self.report.extended += u64::from(is_extended);
                }
                Outcome::Failed(key, error) => outcomes.push((key, error)),
                Outcome::NotTried => self.report.failed += 1,
            }
            Ok(())
        })?;
        let not_tried = self.report.failed;
        self.report.failed += outcomes.len() as u64;
        let is_missing = |(_, error): &(Key, Error)| matches!(error.kind(), ErrorKind::NotFound);
        let (missing, failed): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(is_missing);
        for (key, error) in missing {
            self.find(FindingKind::MissingObject, key.to_string(), error.to_string());
        }
        let kind = FindingKind::LockNotExtended;
        for (key, error) in failed.iter().take(FAILURES_NAMED_MAX) {
            self.find(kind, key.to_string(), error.to_string());
        }
        let not_named = failed.len().saturating_sub(FAILURES_NAMED_MAX);
        if not_named > 0 || not_tried > 0 {
            let detail = format!(
                "besides these, the locks of {not_named} objects could not be extended, and {not_tried} were not tried"
            );
            self.find(kind, self.backend.location(), detail);
        }
        self.report.locked_until = soonest.filter(|_| self.report.is_done());
        Ok(())
    }

    /// Tells of chunks that are missing where that was not told by the names of their packs: they may have
    /// been gone for a moment.
    fn tell_missing(&mut self, missing: Findings) {
        let kinds = [FindingKind::MissingObject, FindingKind::MissingChunk];
        let is_told = kinds.iter().any(|kind| self.report.findings.count(*kind) > 0);
        if !is_told {
            missing.listed.iter().for_each(|finding| self.observer.event(Event::Finding(finding)));
            self.report.findings.append(missing);
        }
    }

    fn tell_unneeded(&mut self, repository: &Repository, needed: &HashSet<PackId>) -> Result<()> {
        let mut packs = Vec::new();
        repository.index().packs(&mut |pack| {
            if !needed.contains(&pack.id) {
                packs.push((pack.id, pack.bytes));
            }
        })?;
        let (backend, options) = (self.backend, self.options);
        let read = |(id, bytes)| (bytes, backend.retention(&Key::Pack(id)));
        for_each_read(backend, packs, read, |(bytes, until)| {
            options.cancel.check()?;
            let until = match until {
                Ok(retention) => retention.map(|retention| retention.until),
                // Gone already.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            let day = match may_go(false, until, options.now) {
                // The day after, on which it surely is not locked any more.
                MayGo::From(until) => (seconds(until) / DAY + 1) * DAY,
                MayGo::Needed | MayGo::Now => 0,
            };
            let unneeded = self.report.unneeded.entry(day).or_default();
            unneeded.packs += 1;
            unneeded.bytes += bytes;
            Ok(())
        })
    }
}

/// Looks at an object and extends its lock where that is too short.
fn look(
    backend: &dyn Backend,
    policy: LockPolicy,
    options: &LockOptions,
    attempts: &Attempts,
    key: Key,
) -> Outcome {
    if options.cancel.check().is_err() || attempts.is_hopeless() {
        return Outcome::NotTried;
    }
    let held = match backend.retention(&key) {
        Ok(held) => held,
        Err(error) => return Outcome::Failed(key, error),
    };
    let until = held.map(|held| held.until);
    let Some(new) = policy.extended(until, options.now) else {
        return Outcome::Locked { until, is_extended: false };
    };
    if options.dry_run {
        return Outcome::Locked { until, is_extended: true };
    }
    // Stores refuse another mode than the object has, or never let go of it again.
    let wanted = Retention { until: new, mode: held.and_then(|held| held.mode) };
    match backend.extend_lock(&key, wanted) {
        Ok(()) => {
            attempts.extended.fetch_add(1, Ordering::Relaxed);
            Outcome::Locked { until: Some(new), is_extended: true }
        }
        Err(error) => {
            attempts.failed.fetch_add(1, Ordering::Relaxed);
            Outcome::Failed(key, error)
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The last round, as a file beside the index cache of this host.
#[derive(Debug, Serialize, Deserialize)]
struct LastRound {
    repository: RepositoryId,
    /// In seconds since 1970.
    at: u64,
}

fn last_round_path(repository: &Repository) -> Option<PathBuf> {
    Some(repository.index().cache_path()?.parent()?.join("locks.json"))
}

/// Returns when this host's last round began that extended everything; `None` when it is not known.
pub fn last_round(repository: &Repository) -> Option<SystemTime> {
    let bytes = std::fs::read(last_round_path(repository)?).ok()?;
    let last: LastRound = serde_json::from_slice(&bytes).ok()?;
    (last.repository == repository.id()).then_some(())?;
    UNIX_EPOCH.checked_add(Duration::from_secs(last.at))
}

/// Remembers a round. What cannot be remembered is done again.
pub fn keep_round(repository: &Repository, at: SystemTime) {
    let last = LastRound { repository: repository.id(), at: seconds(at) };
    if let (Some(path), Ok(bytes)) = (last_round_path(repository), serde_json::to_vec(&last)) {
        let _ = std::fs::write(path, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: f64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs_f64((20_000.0 + number) * DAY as f64)
    }

    /// Catches a lock that ends before the days asked for although rounds were made in time, and one that
    /// is extended at each round.
    #[test]
    fn what_each_round_sees_stays_locked_for_the_days_asked_for() {
        for days in [1, 2, 7, 30, 365] {
            let policy = LockPolicy::new(days);
            let pause = policy.pause().as_secs_f64() / DAY as f64;
            let mut until = day(f64::from(days_of_new(days)));
            let mut extended = 0;
            let rounds = 40;
            for round in 1..=rounds {
                // Right before the round it has been the longest time since the last.
                let now = day(pause * f64::from(round));
                let left = until.duration_since(now).unwrap();
                assert!(left.as_secs() + 1 >= u64::from(days) * DAY, "{days}: {left:?}");
                if let Some(new) = policy.extended(Some(until), now) {
                    assert!(new > until);
                    until = new;
                    extended += 1;
                }
            }
            assert!(
                (rounds / 5..=rounds / 2).contains(&extended),
                "{days}: {extended} of {rounds}"
            );
        }
    }

    #[test]
    fn what_is_not_locked_is_locked_and_what_is_locked_for_long_stays() {
        let policy = LockPolicy::new(30);
        assert_eq!(policy.extended(None, day(0.0)), Some(day(45.0)));
        assert_eq!(policy.extended(Some(day(-1.0)), day(0.0)), Some(day(45.0)));
        assert_eq!(policy.extended(Some(day(37.0)), day(0.0)), Some(day(45.0)));
        assert_eq!(policy.extended(Some(day(38.0)), day(0.0)), None);
        assert_eq!(policy.extended(Some(day(1000.0)), day(0.0)), None);
        // No store locks for longer than a hundred years.
        assert_eq!(days_of_new(36_500), 36_500);
        assert_eq!(LockPolicy::new(36_500).extended(Some(day(36_500.0)), day(0.0)), None);
        assert_eq!((days_of_new(1), days_of_new(30)), (2, 45));
    }

    /// Catches some locks that cannot be extended and keep all others from it.
    #[test]
    fn only_where_no_lock_can_be_extended_the_rest_is_not_tried() {
        let attempts = |failed, extended| Attempts {
            failed: AtomicU64::new(failed),
            extended: AtomicU64::new(extended),
        };
        assert!(!attempts(FAILURES_MAX - 1, 0).is_hopeless());
        assert!(attempts(FAILURES_MAX, 0).is_hopeless());
        assert!(!attempts(FAILURES_MAX * 9, 1).is_hopeless());
    }

    #[test]
    fn a_round_is_due_after_a_quarter_of_the_days_or_when_none_is_known() {
        let policy = LockPolicy::new(8);
        assert!(policy.is_due(None, day(0.0)));
        assert!(!policy.is_due(Some(day(0.0)), day(1.9)));
        assert!(policy.is_due(Some(day(0.0)), day(2.0)));
        assert!(policy.is_due(Some(day(5.0)), day(4.0)), "from the future");
    }

    #[test]
    fn what_is_needed_stays_and_the_rest_goes_once_it_is_not_locked() {
        assert_eq!(may_go(true, None, day(0.0)), MayGo::Needed);
        assert_eq!(may_go(true, Some(day(-9.0)), day(0.0)), MayGo::Needed);
        assert_eq!(may_go(false, Some(day(3.0)), day(0.0)), MayGo::From(day(3.0)));
        assert_eq!(may_go(false, Some(day(0.0)), day(0.0)), MayGo::Now);
        assert_eq!(may_go(false, None, day(0.0)), MayGo::Now);
    }
}
