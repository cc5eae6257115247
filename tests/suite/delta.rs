//! A delta makes an existing tree equal to the snapshot, writes only what differs, and touches
//! nothing that is not its own.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use colvault_engine::source::LeaveOut;
use colvault_engine::testing::trees::{Random, files_below, mixed_bytes, write_tree};

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::{Store, disk, exotic, quick, require_root, seed};

const LEAVE: Leave = Leave { blocks: true };

/// Does something bad to one file or directory; returns what, and how many bytes of the file a
/// repair may have to write at most.
fn damage(root: &Path, random: &mut Random) -> String {
    let files = files_below(root).unwrap();
    let victim = random.pick(&files).unwrap().clone();
    let length = fs::metadata(&victim).unwrap().len();
    let beside = |name: &str| victim.with_file_name(format!("extra {name}"));
    let open = || File::options().write(true).open(&victim).unwrap();
    let what = match random.below(14) {
        0 | 1 if length > 0 => {
            let at = random.below(length);
            let mut byte = [0];
            File::open(&victim).unwrap().read_exact_at(&mut byte, at).unwrap();
            open().write_all_at(&[byte[0] ^ 0x20], at).unwrap();
            "flip a byte of"
        }
        2 => {
            open().set_len(random.below(length + 1)).unwrap();
            "cut"
        }
        3 => {
            let count = usize::try_from(random.below(400_000)).unwrap();
            open().write_all_at(&mixed_bytes(random.number(), count), length).unwrap();
            "extend"
        }
        4 => {
            fs::remove_file(&victim).unwrap();
            "delete"
        }
        5 => {
            fs::write(beside("file"), "extra").unwrap();
            "put a file beside"
        }
        6 => {
            fs::create_dir_all(beside("directory").join("below")).unwrap();
            fs::write(beside("directory").join("below/file"), "extra").unwrap();
            "put a directory beside"
        }
        7 => {
            fs::remove_file(&victim).unwrap();
            fs::create_dir(&victim).unwrap();
            fs::write(victim.join("inside"), "wrong").unwrap();
            "make a directory of"
        }
        8 => {
            fs::remove_file(&victim).unwrap();
            symlink("nowhere", &victim).unwrap();
            "make a link of"
        }
        9 => {
            exotic::set_mode(&victim, 0o123);
            "change the mode of"
        }
        10 => {
            exotic::set_owner(&victim, 77, 78);
            "change the owner of"
        }
        11 => {
            exotic::set_xattr(&victim, "user.extra", b"extra");
            "add an attribute to"
        }
        12 => {
            exotic::set_xattr(
                &victim,
                "system.posix_acl_access",
                &exotic::acl(7, 7, 1234, 7, 7, 7),
            );
            "add an access list to"
        }
        _ => {
            let directory = victim.parent().unwrap();
            if directory != root && random.below(3) == 0 {
                fs::remove_dir_all(directory).unwrap();
                fs::write(directory, "a file now").unwrap();
                "make a file of the directory of"
            } else {
                exotic::set_mtime(&victim, 1, 1);
                "change the time of"
            }
        }
    };
    format!("{what} {}", victim.display())
}

/// Catches a delta that overlooks any kind of difference, or leaves something behind.
#[test]
fn any_damage_is_undone() {
    require_root("a tree of everything");
    let seed = seed("any_damage_is_undone");
    let mut random = Random::new(seed);
    let place = disk();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    exotic::write(&source, seed);
    let expected = compare::read(&source);
    let store = Store::memory();
    store.backup(&source);
    let target = place.path().join("target");
    store.restore(&store.latest(), &target);
    for round in 0..8 {
        let done: Vec<String> = (0..12).map(|_| damage(&target, &mut random)).collect();
        let report = store
            .restore_with(&store.latest(), &target, |options| {
                options.delta = true;
                options.threads = 1 + round % 4;
            })
            .unwrap();
        assert_eq!(report.findings.listed, []);
        let context = format!("seed {seed} round {round}, after {done:#?}");
        assert_equal(&expected, &target, LEAVE, &context);
    }
}

/// Catches a delta that writes what is there already, or believes sizes and times.
#[test]
fn only_what_differs_is_written() {
    let place = disk();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("large"), Random::new(5).bytes(20 << 20)).unwrap();
    fs::write(source.join("untouched"), Random::new(6).bytes(3 << 20)).unwrap();
    let expected = compare::read(&source);
    let store = Store::memory();
    store.backup(&source);
    let target = place.path().join("target");
    store.restore(&store.latest(), &target);
    let delta =
        || store.restore_with(&store.latest(), &target, |options| options.delta = true).unwrap();
    let report = delta();
    assert_eq!((report.bytes_restored, report.files_restored), (0, 0), "all is in place");
    assert_eq!((report.files_skipped, report.bytes_skipped), (2, 23 << 20));

    let large = target.join("large");
    let before = fs::metadata(&large).unwrap().modified().unwrap();
    let file = File::options().write(true).open(&large).unwrap();
    for at in [0u64, 7 << 20, (20 << 20) - 1] {
        file.write_all_at(b"\0", at).unwrap();
        file.write_all_at(b"\x55", at).unwrap();
    }
    file.set_modified(before).unwrap();
    drop(file);
    let report = delta();
    assert_equal(&expected, &target, LEAVE, "bytes changed behind the same times");
    assert!(
        (1..=3 * (256 << 10)).contains(&report.bytes_restored),
        "three chunks at most, {} bytes were written",
        report.bytes_restored
    );
    assert_eq!((report.files_restored, report.files_skipped), (1, 1));
}

/// Catches a delta that writes through a link: the data of somebody else is what is lost then.
#[test]
fn what_a_link_leads_to_is_not_touched() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir_all(source.join("directory")).unwrap();
    for name in ["hard", "soft", "directory/file"] {
        fs::write(source.join(name), mixed_bytes(9, 200_000)).unwrap();
    }
    let expected = compare::read(&source);
    let store = Store::memory();
    store.backup(&source);
    let target = place.path().join("target");
    store.restore(&store.latest(), &target);

    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    for name in ["precious", "file"] {
        fs::write(outside.join(name), Random::new(1).bytes(200_000)).unwrap();
    }
    for name in ["hard", "soft"] {
        fs::remove_file(target.join(name)).unwrap();
    }
    fs::remove_dir_all(target.join("directory")).unwrap();
    fs::hard_link(outside.join("precious"), target.join("hard")).unwrap();
    symlink(outside.join("precious"), target.join("soft")).unwrap();
    symlink(&outside, target.join("directory")).unwrap();
    symlink(&outside, target.join("extra")).unwrap();
    let content = |name: &str| compare::content(&outside.join(name));
    let before = (content("precious"), content("file"));
    store.restore_with(&store.latest(), &target, |options| options.delta = true).unwrap();
    assert_eq!(before, (content("precious"), content("file")), "outside nothing was written");
    assert_equal(&expected, &target, LEAVE, "the target is equal again");
}

/// Catches a selective restore that follows a link which somebody put in its way.
#[test]
fn a_link_in_the_way_of_a_selected_path_is_not_followed() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir_all(source.join("directory/below")).unwrap();
    fs::write(source.join("directory/below/file"), "content").unwrap();
    let store = Store::memory();
    store.backup(&source);
    let (target, outside) = (place.path().join("target"), place.path().join("outside"));
    fs::create_dir(&target).unwrap();
    fs::create_dir_all(outside.join("below")).unwrap();
    fs::write(outside.join("below/file"), "precious").unwrap();
    symlink(&outside, target.join("directory")).unwrap();
    let result = store.restore_with(&store.latest(), &target, |options| {
        options.delta = true;
        options.select.paths = vec![b"directory/below/file".to_vec()];
    });
    assert_eq!(fs::read(outside.join("below/file")).unwrap(), b"precious");
    assert!(result.is_err(), "and it says so");
}

/// Catches a delta that deletes what the snapshot never knew: files left out by rule or pattern; and
/// a dry run that deletes, or does not say how much would go.
#[test]
fn what_was_left_out_is_not_deleted() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 1, 6, 10_000).unwrap();
    fs::write(source.join("mysqld.pid"), "1").unwrap();
    fs::write(source.join("000.dir/left.tmp"), "2").unwrap();
    fs::create_dir(source.join("cache")).unwrap();
    fs::write(source.join("cache/object"), "3").unwrap();
    let store = Store::memory();
    let report = store
        .backup_with(&source, |options| {
            let rule = |glob: &str| LeaveOut { glob: glob.into(), reason: "rule".into() };
            options.trees[0].leave_out = vec![rule("*.pid"), rule("/cache/**")];
            options.exclude = colvault_engine::pattern::Patterns::new(["*.tmp"]).unwrap();
        })
        .unwrap();
    assert_eq!(report.left_out_total, 3);
    fs::write(source.join("000.dir/new"), "newer than the snapshot").unwrap();
    let kept: [PathBuf; 3] =
        ["mysqld.pid", "000.dir/left.tmp", "cache/object"].map(|name| source.join(name));
    // The target is the source itself: a disaster on the same host. First only said.
    let rehearsed = store
        .restore_with(&store.latest(), &source, |options| {
            (options.delta, options.dry_run) = (true, true);
        })
        .unwrap();
    assert_eq!(rehearsed.files_deleted, 1);
    assert!(source.join("000.dir/new").exists(), "a dry run deletes nothing");
    let report =
        store.restore_with(&store.latest(), &source, |options| options.delta = true).unwrap();
    for path in &kept {
        assert!(path.exists(), "{} was left out and stays", path.display());
    }
    assert!(!source.join("000.dir/new").exists(), "what is newer goes");
    assert_eq!((report.files_deleted, report.bytes_restored), (1, 0));
}

/// Catches attributes that a new file inherits from the directory it is restored into.
#[test]
fn access_lists_of_the_target_are_not_inherited() {
    let place = disk();
    let source = place.path().join("source");
    write_tree(&source, 1, 4, 10_000).unwrap();
    fs::write(source.join("plain"), "plain").unwrap();
    let expected = compare::read(&source);
    let store = Store::memory();
    store.backup(&source);
    let target = place.path().join("target");
    fs::create_dir(&target).unwrap();
    exotic::set_xattr(&target, "system.posix_acl_default", &exotic::acl(7, 7, 1234, 7, 7, 7));
    store.restore(&store.latest(), &target);
    assert_equal(&expected, &target, LEAVE, "a target with an access list of its own");
}
