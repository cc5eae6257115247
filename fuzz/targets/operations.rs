//! Whole operations with crashes: edits of a tree, backups, and a crash after any write of the last
//! one. What was committed before must restore, and the next backup must succeed.
#![no_main]
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use colvault_engine::compress::Compression;
use colvault_engine::packer::Packers;
use colvault_engine::backend::{Backend, MemoryBackend};
use colvault_engine::backup::{BackupOptions, Group, backup};
use colvault_engine::check::{CheckOptions, check};
use colvault_engine::format::config::{CutterParameters, SlotParameters};
use colvault_engine::index::CachePlace;
use colvault_engine::pattern::Patterns;
use colvault_engine::progress::{Cancel, NullObserver};
use colvault_engine::repository::{CreateOptions, Repository};
use colvault_engine::restore::{RestoreOptions, Select, Target, restore};
use colvault_engine::snapshot::{Filter, choose, list};
use colvault_engine::source::SourceTree;
use colvault_engine::testing::CrashBackend;
use libfuzzer_sys::fuzz_target;

/// A file to write: which of a few names, what byte, how often.
type Edit = (u8, u8, u16);
type Files = BTreeMap<String, Vec<u8>>;

fn apply(root: &Path, files: &mut Files, edits: &[Edit]) {
    for (name, byte, length) in edits.iter().take(8) {
        let name = format!("d{}/f{}", name % 3, name / 3 % 5);
        let path = root.join(&name);
        if *length == 0 {
            let _ = std::fs::remove_file(path);
            files.remove(&name);
            continue;
        }
        let mut bytes: Vec<u8> = (0..*length).map(|n| (n as u8).wrapping_mul(*byte)).collect();
        bytes.extend(std::iter::repeat_n(0, usize::from(*byte) * 64));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &bytes).unwrap();
        files.insert(name, bytes);
    }
}

fn open(backend: Arc<dyn Backend>) -> Repository {
    Repository::open(backend, |_| CachePlace::Memory).unwrap()
}

fn back_up(backend: Arc<dyn Backend>, root: &Path) {
    let options = BackupOptions {
        trees: vec![SourceTree {
            component: "files".into(),
            base: root.canonicalize().unwrap(),
            recorded: "/".into(),
            select: vec!["".into()],
            leave_out: Vec::new(),
        }],
        group: Group::Paths,
        paths: vec!["/".into()],
        host: "fuzz".into(),
        tags: Vec::new(),
        exclude: Patterns::new([]).unwrap(),
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
        threads: 1,
        left_out: Vec::new(),
        record: None,
        credentials: Vec::new(),
        facts: BTreeMap::new(),
        evidence: BTreeMap::new(),
        findings: Vec::new(),
        clock: || "2026-01-01T00:00:00Z".into(),
        program: "fuzz".into(),
        cancel: Cancel::default(),
    };
    backup(&open(backend), &options, &NullObserver).unwrap();
}

/// Checks a repository; returns its snapshots' files.
fn examine(backend: Arc<dyn Backend>) -> Vec<Files> {
    let options = CheckOptions {
        read_trailers: true,
        read_data_percent: Some(100.0),
        packers: &Packers,
        threads: 1,
        cancel: Cancel::default(),
    };
    let report = check(&open(Arc::clone(&backend)), &options, &NullObserver).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let repository = open(backend);
    repository.load_index(&NullObserver).unwrap();
    let listing = list(&repository).unwrap();
    let mut found = Vec::new();
    for named in &listing.snapshots {
        let target = tempfile::tempdir().unwrap();
        let options = RestoreOptions {
            target: Target::Directory(target.path().join("out")),
            select: Select::everything(),
            delta: false,
            sparse: false,
            numeric_ids: true,
            dry_run: false,
            packers: &Packers,
            threads: 1,
            cancel: Cancel::default(),
        };
        let id = named.id.to_string();
        let chosen = choose(&listing, &id, &Filter::default(), false).unwrap();
        restore(&repository, &chosen.named, &options, &NullObserver).unwrap();
        found.push(read_files(&target.path().join("out")));
    }
    found
}

fn read_files(root: &Path) -> Files {
    let mut files = Files::new();
    for directory in std::fs::read_dir(root).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(directory.path()).into_iter().flatten().flatten() {
            let name = format!(
                "{}/{}",
                directory.file_name().to_str().unwrap(),
                file.file_name().to_str().unwrap()
            );
            files.insert(name, std::fs::read(file.path()).unwrap());
        }
    }
    files
}

fuzz_target!(|input: (Vec<Edit>, Vec<Edit>, u8)| {
    let (first, second, crash) = input;
    let source = tempfile::tempdir().unwrap();
    let mut files = Files::new();
    let memory = Arc::new(MemoryBackend::new());
    let options = CreateOptions {
        cutter: CutterParameters {
            min_bytes: 512,
            average_bytes: 1024,
            max_bytes: 4096,
            ..CutterParameters::default()
        },
        slots: SlotParameters::default(),
        pack_bytes: 8192,
        now: "2026-01-01T00:00:00Z".into(),
        program: "fuzz".into(),
        store: Default::default(),
    };
    Repository::create(&*memory, &options).unwrap();
    apply(source.path(), &mut files, &first);
    back_up(Arc::clone(&memory) as _, source.path());
    let before = files.clone();

    apply(source.path(), &mut files, &second);
    let crashing = Arc::new(CrashBackend::new(memory.objects()));
    back_up(Arc::clone(&crashing) as _, source.path());
    let survived = usize::from(crash) % (crashing.steps() + 1);
    let image = Arc::new(MemoryBackend::with_objects(crashing.image(survived, &[])));

    let found = examine(Arc::clone(&image) as _);
    assert!(found.contains(&before), "the first snapshot restores");
    assert!(found.len() == 1 || found.contains(&files), "the second is whole or absent");
    back_up(Arc::clone(&image) as _, source.path());
    assert!(examine(image).contains(&files), "the next backup restores");
});
