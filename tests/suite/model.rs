//! Random operations against a map of what every snapshot must give back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use colvault_engine::backend::LocalBackend;
use colvault_engine::id::SessionId;
use colvault_engine::index::CachePlace;
use colvault_engine::testing::trees::{Random, edit_tree, files_below, write_tree};

use crate::support::compare::{self, Leave, Tree, assert_equal};
use crate::support::{PACK_BYTES, Store, exotic, quick, require_root, seed};

/// What the world is, and what it must be.
struct Model {
    place: tempfile::TempDir,
    random: Random,
    store: Store,
    caches: u64,
    remembered: BTreeMap<SessionId, Tree>,
    log: Vec<String>,
    /// Files that were unchanged and not read.
    taken_over: u64,
    /// A target that was restored into before, and may be restored into again as a delta.
    target: Option<PathBuf>,
}

impl Model {
    /// Begins with a source of its own, or goes on with that of the world before: what nobody has
    /// edited lately is old enough to be taken over unread.
    fn new(seed: u64, before: Option<&Model>) -> Model {
        let place = quick();
        let source = place.path().join("source");
        match before {
            Some(before) => fs::rename(before.source(), source).unwrap(),
            None => write_tree(&source, seed, 40, 100_000).unwrap(),
        }
        let backend = Arc::new(LocalBackend::create(place.path().join("repository")).unwrap());
        let cache = CachePlace::Directory(place.path().join("cache0"));
        let store = Store::create(backend, cache, PACK_BYTES);
        let random = Random::new(seed);
        let remembered = BTreeMap::new();
        Model {
            place,
            random,
            store,
            caches: 0,
            remembered,
            log: Vec::new(),
            taken_over: 0,
            target: None,
        }
    }

    fn source(&self) -> PathBuf {
        self.place.path().join("source")
    }

    fn cache_files(&self) -> Vec<PathBuf> {
        match &self.store.cache {
            CachePlace::Directory(directory) if directory.exists() => {
                files_below(directory).unwrap()
            }
            _ => Vec::new(),
        }
    }

    /// Does one thing and returns its name.
    fn step(&mut self, context: &str) -> String {
        match self.random.below(20) {
            0..=5 => edit_tree(&self.source(), &mut self.random).unwrap(),
            6 => self.change_attributes(),
            7..=10 => self.backup(),
            11..=13 => self.restore(context),
            14 => self.restore_delta(context),
            15 => {
                let deep = self.random.below(3) == 0;
                let report = self.store.check(deep).unwrap();
                assert_eq!(report.findings.listed, [], "{context}");
                assert_eq!(report.snapshots, self.remembered.len() as u64, "{context}");
                format!("check, deep {deep}")
            }
            16 => {
                self.caches += 1;
                let path = self.place.path().join(format!("cache{}", self.caches));
                self.store.cache = CachePlace::Directory(path);
                "another host".to_owned()
            }
            17 => {
                self.cache_files().iter().for_each(|path| fs::remove_file(path).unwrap());
                "delete the cache".to_owned()
            }
            18 => self.damage_cache(),
            _ => self.old_cache(),
        }
    }

    fn change_attributes(&mut self) -> String {
        let files = files_below(&self.source()).unwrap();
        let Some(path) = self.random.pick(&files) else { return "nothing".to_owned() };
        exotic::set_mode(path, 0o600 + u32::try_from(self.random.below(0o77)).unwrap());
        exotic::set_xattr(path, "user.model", &self.random.number().to_le_bytes());
        format!("attributes of {}", path.display())
    }

    fn backup(&mut self) -> String {
        let threads = 1 + self.random.below(4) as usize;
        let force = self.random.below(8) == 0;
        let report = self.store.backup_with(&self.source(), |options| {
            options.threads = threads;
            options.force = force;
        });
        let report = report.unwrap();
        assert_eq!(report.snapshot.findings.listed, []);
        let id = report.id.unwrap();
        self.taken_over += report.snapshot.stats.files_unmodified;
        self.remembered.insert(id, compare::read(&self.source()));
        format!("backup {} with {threads} threads, force {force}", id.short())
    }

    fn some_snapshot(&mut self) -> Option<SessionId> {
        let ids: Vec<SessionId> = self.remembered.keys().copied().collect();
        self.random.pick(&ids).copied()
    }

    fn restore(&mut self, context: &str) -> String {
        let Some(id) = self.some_snapshot() else { return "nothing to restore".to_owned() };
        if let Some(target) = self.target.take() {
            fs::remove_dir_all(target).unwrap();
        }
        let target = self.place.path().join("target");
        self.store.restore(&self.store.named(id), &target);
        let context = format!("{context}: restore of {}", id.short());
        assert_equal(&self.remembered[&id], &target, Leave::default(), &context);
        self.target = Some(target);
        format!("restore {}", id.short())
    }

    fn restore_delta(&mut self, context: &str) -> String {
        let (Some(id), Some(target)) = (self.some_snapshot(), self.target.clone()) else {
            return "nothing to compare with".to_owned();
        };
        edit_tree(&target, &mut self.random).unwrap();
        let named = self.store.named(id);
        let report = self.store.restore_with(&named, &target, |options| options.delta = true);
        assert_eq!(report.unwrap().findings.listed, [], "{context}");
        let context = format!("{context}: delta to {}", id.short());
        assert_equal(&self.remembered[&id], &target, Leave { blocks: true }, &context);
        format!("delta to {}", id.short())
    }

    fn damage_cache(&mut self) -> String {
        let files = self.cache_files();
        let Some(path) = self.random.pick(&files) else { return "no cache yet".to_owned() };
        let length = fs::metadata(path).unwrap().len();
        let file = fs::File::options().write(true).open(path).unwrap();
        match self.random.below(3) {
            0 => file.set_len(self.random.below(length + 1)).unwrap(),
            1 => file.set_len(0).unwrap(),
            _ => {
                // A header that is none: damage that redb and the filter can see.
                file.write_all_at(&[0xa5; 64], 0).unwrap();
            }
        }
        format!("damage {}", path.display())
    }

    /// Puts the cache back to what it was some snapshots ago: a host restored from a backup.
    fn old_cache(&mut self) -> String {
        let old = self.place.path().join("old cache");
        let CachePlace::Directory(cache) = &self.store.cache else { return String::new() };
        let copy = |from: &PathBuf, to: &PathBuf| {
            let _ = fs::remove_dir_all(to);
            fs::create_dir_all(to).unwrap();
            for file in files_below(from).unwrap() {
                fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
            }
        };
        if old.exists() {
            copy(&old, cache);
            fs::remove_dir_all(&old).unwrap();
            "an old cache comes back".to_owned()
        } else if cache.exists() {
            copy(cache, &old);
            "keep a copy of the cache".to_owned()
        } else {
            String::new()
        }
    }
}

/// Catches whatever nobody thought of: any order of edits, backups, restores, checks, lost, damaged
/// and outdated caches, for some seconds.
#[test]
fn every_snapshot_gives_back_what_it_was_made_of() {
    require_root("files of any mode");
    let start = seed("every_snapshot_gives_back");
    let end = Instant::now() + Duration::from_secs(15);
    let (mut worlds, mut snapshots, mut steps) = (0, 0, 0);
    let (mut taken_over, mut before) = (0, None);
    while worlds == 0 || Instant::now() < end {
        let seed = start.wrapping_add(worlds);
        let mut model = Model::new(seed, before.as_ref());
        for number in 0..60 {
            let context = format!(
                "COLVAULT_SEED={start}, world {worlds}, step {number} after {:#?}",
                model.log
            );
            let done = model.step(&context);
            model.log.push(done);
            steps += 1;
        }
        let ids: Vec<SessionId> = model.remembered.keys().copied().collect();
        snapshots += ids.len();
        for id in ids {
            let target = model.place.path().join("last");
            model.store.restore(&model.store.named(id), &target);
            let context =
                format!("COLVAULT_SEED={start}, world {worlds}, at the end of {:#?}", model.log);
            assert_equal(&model.remembered[&id], &target, Leave::default(), &context);
            fs::remove_dir_all(&target).unwrap();
        }
        worlds += 1;
        taken_over += model.taken_over;
        before = Some(model);
    }
    println!("{worlds} worlds, {steps} steps, {snapshots} snapshots, {taken_over} files reused");
    assert!(snapshots > 5);
    assert!(worlds < 20 || taken_over > 0, "no file was ever old enough to be taken over");
}
