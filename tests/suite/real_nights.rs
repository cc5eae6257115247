//! Nights of a real server: each is backed up from the same place, and each comes back.

use std::fs;
use std::path::{Path, PathBuf};

use colvault_engine::backup::Group;
use colvault_engine::format::snapshot::SnapshotState;
use colvault_engine::id::SessionId;
use colvault_engine::restore::Target;
use colvault_engine::source::columnstore::discover;
use colvault_engine::testing::trees::files_below;

use crate::support::compare::{self, Leave, Tree, assert_equal};
use crate::support::nights::{become_night, bundled, nights_in};
use crate::support::{Store, disk, require_root};

const MIB: u64 = 1 << 20;

/// What every component of a night holds.
type Night = Vec<(String, Tree)>;

/// Backs up and restores all nights of one server.
fn all_nights(nights: &[PathBuf], place: &Path) {
    assert!(!nights.is_empty(), "there are nights in {}", place.display());
    let live = place.join("live");
    let store = Store::local(&place.join("repository"));
    let mut kept: Vec<(SessionId, Night)> = Vec::new();
    for night in nights {
        become_night(night, &live);
        let deployment = discover(&live).unwrap();
        let report = store
            .backup_with(&live, |options| {
                options.trees = deployment.trees.clone();
                options.group = Group::Deployment {
                    name: deployment.name.clone(),
                    topology: "shared-local".to_owned(),
                };
                options.facts = deployment.facts.clone();
            })
            .unwrap();
        let snapshot = &report.snapshot;
        assert_eq!(snapshot.findings.listed, [], "{}", night.display());
        assert_eq!(snapshot.state, SnapshotState::Complete);
        let names: Vec<&str> = snapshot.components.iter().map(|c| c.name.as_str()).collect();
        for wanted in ["config", "datadir", "dbroot/1"] {
            assert!(names.contains(&wanted), "{wanted} in {names:?}");
        }
        let stats = &snapshot.stats;
        println!(
            "{}: {} files, {} MiB, {} KiB added",
            night.display(),
            snapshot.counts().files,
            snapshot.counts().bytes / MIB,
            stats.data_added_packed >> 10
        );
        if !kept.is_empty() {
            // What a night changes is small; a program that stores it all again is caught here.
            assert!(
                stats.data_added * 2 < snapshot.counts().bytes,
                "{} of {} bytes are new",
                stats.data_added,
                snapshot.counts().bytes
            );
        }
        let trees = deployment.trees.iter().filter(|tree| tree.component != "config");
        let trees = trees.map(|tree| (tree.component.clone(), compare::read(&tree.base)));
        kept.push((report.id.unwrap(), trees.collect()));
    }
    for (number, (id, night)) in kept.iter().enumerate() {
        let target = place.join("target");
        let report = store
            .restore_with(&store.named(*id), &target, |options| {
                options.target = Target::Directory(target.clone());
            })
            .unwrap();
        assert_eq!(report.findings.listed, [], "night {number}");
        for (component, expected) in night {
            let context = format!("{component} of night {number}");
            let left_out: Vec<String> = store
                .named(*id)
                .snapshot
                .left_out
                .iter()
                .filter(|left_out| left_out.component == *component)
                .map(|left_out| left_out.path.clone())
                .collect();
            let stays = |path: &[u8]| {
                let path = String::from_utf8_lossy(path);
                !left_out.iter().any(|left_out| {
                    left_out.ends_with(&format!("/{path}"))
                        || path
                            .match_indices('/')
                            .any(|(at, _)| left_out.ends_with(&format!("/{}", &path[..at])))
                })
            };
            let expected: Tree = expected
                .iter()
                .filter(|(path, _)| path.is_empty() || stays(path))
                .map(|(path, facts)| (path.clone(), facts.clone()))
                .collect();
            assert!(expected.len() > 1 || component == "storagemanager", "{context}");
            assert_equal(&expected, &target.join(component), Leave::default(), &context);
        }
        // Configuration: every file of it, with what it held that night.
        let files = files_below(&target.join("config")).unwrap();
        assert!(files.iter().any(|path| path.ends_with("etc/columnstore/Columnstore.xml")));
        for path in files {
            let original = nights[number].join(path.strip_prefix(target.join("config")).unwrap());
            assert!(fs::read(&path).unwrap() == fs::read(&original).unwrap(), "{path:?}");
        }
        fs::remove_dir_all(&target).unwrap();
    }
    store.expect_clean("after all nights");
}

/// Catches a program that works on made-up trees only: four nights of a server with Snappy and LZ4
/// columns, InnoDB, updates, deletes and a dropped table. With `COLVAULT_NIGHTS`, a directory that
/// holds the root directory of a deployment for each night, these are tried too.
#[test]
fn the_bundled_nights_come_back() {
    require_root("files of the server's user");
    let place = disk();
    let nights = bundled(place.path(), 4);
    assert_eq!(nights.len(), 4);
    all_nights(&nights, place.path());
    if let Some(directory) = std::env::var_os("COLVAULT_NIGHTS") {
        all_nights(&nights_in(Path::new(&directory)), disk().path());
    }
}
