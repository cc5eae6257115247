//! The bundled sample: nights of a real server, unpacked, and a live tree that becomes each of them.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use colvault_engine::testing::trees::files_below;

/// Unpacks the first `count` of the bundled nights and returns them, in order. Files belong to the
/// users of this host that have the names in the archive.
pub fn bundled(place: &Path, count: usize) -> Vec<PathBuf> {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/sample/tiny-nights.tar.zst");
    let file = File::open(&archive).unwrap_or_else(|e| panic!("{}: {e}", archive.display()));
    let mut archive = tar::Archive::new(zstd::stream::read::Decoder::new(file).unwrap());
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(false);
    archive.set_preserve_mtime(true);
    let wanted: Vec<String> = (0..count).map(|night| format!("night{night}")).collect();
    let mut owners = Owners::default();
    // Directories get their times last, when nothing changes in them any more.
    let mut directories = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let below = entry.path().unwrap().into_owned();
        if !wanted.iter().any(|night| below.starts_with(night)) {
            continue;
        }
        let path = place.join(&below);
        let header = entry.header().clone();
        if header.entry_type().is_dir() {
            fs::create_dir_all(&path).unwrap();
            directories.push((path, header));
        } else {
            assert!(entry.unpack_in(place).unwrap(), "{} is below the place", below.display());
            owners.give(&path, &header);
        }
    }
    for (path, header) in directories {
        owners.give(&path, &header);
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(header.mtime().unwrap());
        File::open(&path).unwrap().set_modified(changed).unwrap();
    }
    nights_in(place)
}

/// Ids of this host's users and groups, as far as they were asked for.
#[derive(Default)]
struct Owners(BTreeMap<(&'static str, String), u32>);

impl Owners {
    fn give(&mut self, path: &Path, header: &tar::Header) {
        let user = self.id("/etc/passwd", header.username().unwrap().unwrap());
        let group = self.id("/etc/group", header.groupname().unwrap().unwrap());
        lchown(path, Some(user), Some(group)).unwrap();
        if !header.entry_type().is_symlink() {
            // After the owner, a change of which clears some bits.
            let mode = Permissions::from_mode(header.mode().unwrap());
            fs::set_permissions(path, mode).unwrap();
        }
    }

    fn id(&mut self, file: &'static str, name: &str) -> u32 {
        *self.0.entry((file, name.to_owned())).or_insert_with(|| {
            id_in(file, name).unwrap_or_else(|| panic!("{name} in {file}: tests/run.sh makes it"))
        })
    }
}

/// Returns the number of a name in `/etc/passwd` or `/etc/group`.
pub fn id_in(file: &str, name: &str) -> Option<u32> {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

/// Returns the nights in a directory: the root directories of deployments, in order.
pub fn nights_in(place: &Path) -> Vec<PathBuf> {
    let mut nights: Vec<PathBuf> = fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("etc/columnstore/Columnstore.xml").exists())
        .collect();
    nights.sort();
    nights
}

/// Makes `live` what a night is, as a server would leave it: files that are the same are left
/// alone.
pub fn become_night(night: &Path, live: &Path) {
    fs::create_dir_all(live).unwrap();
    for path in files_below(live).unwrap() {
        if !night.join(path.strip_prefix(live).unwrap()).exists() {
            fs::remove_file(path).unwrap();
        }
    }
    copy_changed(night, live);
}

fn copy_changed(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_changed(&source, &target);
        } else if kind.is_symlink() {
            let _ = fs::remove_file(&target);
            symlink(fs::read_link(&source).unwrap(), &target).unwrap();
        } else {
            let bytes = fs::read(&source).unwrap();
            let metadata = fs::metadata(&source).unwrap();
            if is_like(&target, &metadata) && fs::read(&target).unwrap() == bytes {
                continue;
            }
            let mut file = File::create(&target).unwrap();
            file.write_all(&bytes).unwrap();
            become_like(&target, &metadata);
        }
    }
    let metadata = fs::metadata(from).unwrap();
    if !is_like(to, &metadata) {
        become_like(to, &metadata);
    }
}

fn is_like(path: &Path, wanted: &Metadata) -> bool {
    fs::metadata(path).is_ok_and(|found| {
        (found.len() == wanted.len() || found.is_dir())
            && found.mtime() == wanted.mtime()
            && found.mode() == wanted.mode()
            && (found.uid(), found.gid()) == (wanted.uid(), wanted.gid())
    })
}

fn become_like(path: &Path, wanted: &Metadata) {
    chown(path, Some(wanted.uid()), Some(wanted.gid())).unwrap();
    fs::set_permissions(path, wanted.permissions()).unwrap();
    File::open(path).unwrap().set_modified(wanted.modified().unwrap()).unwrap();
}
