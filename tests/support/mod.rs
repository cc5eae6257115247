//! What the suites share: a store to back up into, and the verbs in one line each.

pub mod compare;
pub mod deployment;
pub mod exotic;
pub mod nights;
pub mod program;
pub mod proof;
pub mod reached;
pub mod reader;
pub mod s3;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use colvault_engine::backend::{Backend, LocalBackend, MemoryBackend};
use colvault_engine::backup::{BackupOptions, BackupReport, Group, backup};
use colvault_engine::check::{CheckOptions, CheckReport, check};
use colvault_engine::compress::Compression;
use colvault_engine::error::Result;
use colvault_engine::finding::{Finding, FindingKind};
use colvault_engine::format::config::{CutterParameters, SlotParameters};
use colvault_engine::id::SessionId;
use colvault_engine::index::CachePlace;
use colvault_engine::packer::Packers;
use colvault_engine::pattern::Patterns;
use colvault_engine::progress::{Cancel, NullObserver};
use colvault_engine::repository::{CreateOptions, Repository};
use colvault_engine::restore::{RestoreOptions, RestoreReport, Select, Target, restore};
use colvault_engine::snapshot::{self, Filter, Listing, Named};
use colvault_engine::source::SourceTree;
use tempfile::TempDir;

/// Small packs, so that a small tree fills several.
pub const PACK_BYTES: u32 = 512 << 10;

/// The component that [`Store::backup`] stores a tree as.
pub const COMPONENT: &str = "dbroot/1";

/// A repository somewhere, and where its cache is kept. Every verb opens it anew, as the program
/// does.
pub struct Store {
    pub backend: Arc<dyn Backend>,
    pub cache: CachePlace,
}

impl Store {
    /// Creates a repository at a backend.
    pub fn create(backend: Arc<dyn Backend>, cache: CachePlace, pack_bytes: u32) -> Store {
        let options = CreateOptions {
            cutter: CutterParameters::default(),
            slots: SlotParameters::default(),
            pack_bytes,
            now: now(),
            program: "colvault-tests".to_owned(),
            store: Default::default(),
        };
        Repository::create(&*backend, &options).expect("an empty backend takes a repository");
        Store { backend, cache }
    }

    /// Creates a repository in memory.
    pub fn memory() -> Store {
        Store::create(Arc::new(MemoryBackend::new()), CachePlace::Memory, PACK_BYTES)
    }

    /// Creates a repository in a directory, its cache beside it.
    pub fn local(directory: &Path) -> Store {
        let backend = LocalBackend::create(directory).expect("the directory can be created");
        let cache = CachePlace::Directory(directory.with_extension("cache"));
        Store::create(Arc::new(backend), cache, PACK_BYTES)
    }

    /// Uses the repository in a directory as another program would.
    pub fn reopen(directory: &Path, cache: CachePlace) -> Store {
        Store { backend: Arc::new(LocalBackend::open(directory)), cache }
    }

    pub fn open(&self) -> Result<Repository> {
        Repository::open(Arc::clone(&self.backend), |_| self.cache.clone())
    }

    /// Backs up a tree as [`COMPONENT`].
    pub fn backup(&self, source: &Path) -> BackupReport {
        self.backup_with(source, |_| ()).expect("the backup succeeds")
    }

    /// The same with other options, and may fail.
    pub fn backup_with(
        &self,
        source: &Path,
        change: impl FnOnce(&mut BackupOptions),
    ) -> Result<BackupReport> {
        let mut options = backup_options(source);
        change(&mut options);
        let cache = |_| self.cache.clone();
        let repository = Repository::open_for_session(Arc::clone(&self.backend), cache)?;
        let report = backup(&repository, &options, &NullObserver)?;
        repository.close();
        Ok(report)
    }

    pub fn listing(&self) -> Result<Listing> {
        snapshot::list(&self.open()?)
    }

    pub fn latest(&self) -> Named {
        let listing = self.listing().expect("snapshots can be listed");
        snapshot::choose(&listing, "latest", &Filter::default(), false)
            .expect("there is a snapshot")
            .named
    }

    pub fn named(&self, id: SessionId) -> Named {
        let listing = self.listing().expect("snapshots can be listed");
        let found = listing.snapshots.into_iter().find(|named| named.id == id);
        found.unwrap_or_else(|| panic!("snapshot {id} is listed"))
    }

    /// Restores [`COMPONENT`] of a snapshot into a directory and expects nothing wrong.
    pub fn restore(&self, named: &Named, target: &Path) -> RestoreReport {
        let report = self.restore_with(named, target, |_| ()).expect("the restore succeeds");
        assert_eq!(report.findings.listed, [], "a restore without findings");
        report
    }

    /// The same with other options, and may fail.
    pub fn restore_with(
        &self,
        named: &Named,
        target: &Path,
        change: impl FnOnce(&mut RestoreOptions),
    ) -> Result<RestoreReport> {
        let mut options = restore_options(target);
        change(&mut options);
        let repository = self.open()?;
        repository.load_index(&NullObserver)?;
        restore(&repository, named, &options, &NullObserver)
    }

    /// Checks; `deep` reads all data.
    pub fn check(&self, deep: bool) -> Result<CheckReport> {
        self.check_with(deep, deep)
    }

    pub fn check_with(&self, read_trailers: bool, read_data: bool) -> Result<CheckReport> {
        let options = CheckOptions {
            read_trailers,
            read_data_percent: read_data.then_some(100.0),
            packers: &Packers,
            threads: 2,
            cancel: Cancel::default(),
        };
        check(&self.open()?, &options, &NullObserver)
    }

    /// Checks all there is to check and expects nothing wrong.
    pub fn expect_clean(&self, context: &str) {
        let report = self.check(true).expect("the check runs");
        assert_eq!(report.findings.listed, [], "{context}: a clean repository");
    }
}

/// Options of a backup of one tree.
pub fn backup_options(source: &Path) -> BackupOptions {
    let tree = SourceTree {
        component: COMPONENT.to_owned(),
        base: source.canonicalize().expect("the source is there"),
        recorded: PathBuf::from("/var/lib/columnstore/data1"),
        select: vec![PathBuf::new()],
        leave_out: Vec::new(),
    };
    BackupOptions {
        trees: vec![tree],
        group: Group::Deployment {
            name: "columnstore".to_owned(),
            topology: "shared-local".to_owned(),
        },
        paths: vec![PathBuf::from("/var/lib/columnstore/data1")],
        host: "host".to_owned(),
        tags: Vec::new(),
        exclude: no_patterns(),
        one_file_system: false,
        forbidden: Vec::new(),
        ignore_ctime: false,
        ignore_inode: false,
        force: false,
        fail_on_corruption: false,
        slots: None,
        compression: Compression::Default,
        packers: &Packers,
        dry_run: false,
        prove: false,
        threads: 2,
        left_out: Vec::new(),
        record: None,
        credentials: Vec::new(),
        facts: Default::default(),
        evidence: Default::default(),
        findings: Vec::new(),
        clock: now,
        program: "colvault-tests".to_owned(),
        cancel: Cancel::default(),
    }
}

/// Options of a restore of [`COMPONENT`] into a directory.
pub fn restore_options(target: &Path) -> RestoreOptions {
    RestoreOptions {
        target: Target::Map(vec![(COMPONENT.to_owned(), target.to_path_buf())]),
        select: Select::everything(),
        delta: false,
        sparse: false,
        numeric_ids: false,
        dry_run: false,
        packers: &Packers,
        threads: 2,
        cancel: Cancel::default(),
    }
}

pub fn no_patterns() -> Patterns {
    Patterns::new([]).expect("no pattern is malformed")
}

/// The present time; finer than two backups can be apart.
pub fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// A directory on a real disk.
pub fn disk() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A directory in memory where there is one, else on disk: for tests that make many small trees
/// and do not care what they lie on.
pub fn quick() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| disk())
}

/// Waits until a later change of a file cannot hide behind the times it has now: an entry whose
/// times are younger is read again next time.
pub fn wait_until_not_racy() {
    let seconds = u64::try_from(colvault_engine::backup::RACY_SECONDS).expect("not negative");
    std::thread::sleep(std::time::Duration::from_millis(1000 * seconds + 1100));
}

/// Asks for root, which owners, devices and mounts need.
pub fn require_root(what: &str) {
    assert!(rustix::process::geteuid().is_root(), "{what} needs root: run the suite as root");
}

/// Returns the seed from `COLVAULT_SEED`, or another one each time, and prints it.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("COLVAULT_SEED").ok();
    let seed = given.map_or_else(
        || u64::from_le_bytes(colvault_engine::id::random()),
        |text| text.parse().expect("COLVAULT_SEED is a number"),
    );
    println!("{test}: COLVAULT_SEED={seed}");
    seed
}

/// Whether a finding of this kind is among some, about an object that contains the text.
pub fn has_finding(findings: &[Finding], kind: FindingKind, object: &str) -> bool {
    findings.iter().any(|finding| finding.kind == kind && finding.object.contains(object))
}
