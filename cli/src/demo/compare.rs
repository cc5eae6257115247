//! Whether a restored night is the night that was backed up: byte by byte against the archive
//! unpacked once more, attribute by attribute against the listing of the live deployment.
//!
//! Nothing of the engine is used here: what judges the engine must not be a part of it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use colvault_engine::error::{Error, Result};
use colvault_engine::progress::Cancel;
use serde::{Serialize, Serializer};

use super::overlay::read_full_at;
use super::tree::{Kind, Listing, Record, list};

/// How many differences are named; the rest is counted.
pub const DIFFERENCES_NAMED_MAX: usize = 20;

/// How much of a file is compared at once, in bytes.
const BLOCK: usize = 1 << 20;

/// Where a component of the live deployment was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its directory in the live deployment, relative to the deployment's root.
    pub live: PathBuf,
    /// The directory it was restored to.
    pub restored: PathBuf,
}

/// Something that the backup says it left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its path relative to the deployment's root.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// One way in which a restored path is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The path relative to the deployment's root.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// What was expected and found.
    pub problem: String,
}

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Files that were compared.
    pub files: u64,
    /// Files, directories and everything else that was compared.
    pub entries: u64,
    /// Bytes of content that were compared.
    pub bytes: u64,
    /// What the backup left out on purpose, of what was there.
    pub left_out: Vec<LeftOut>,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// How many differences there are.
    pub differences_total: u64,
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// The night unpacked once more: how content has to be.
    pub night: &'a Path,
    /// The live deployment when it was backed up: how attributes have to be, and what there was.
    pub live: &'a Listing,
    /// Where each component was restored.
    pub places: &'a [Place],
    /// What the backup says it left out.
    pub left_out: &'a [LeftOut],
}

/// Compares a restored night with what it has to be.
pub fn compare(sides: Sides<'_>, cancel: &Cancel) -> Result<Comparison> {
    let mut run = Run { sides, cancel, seen: BTreeSet::new(), comparison: Comparison::default() };
    for place in sides.places {
        for (path, found) in list(&place.restored)? {
            cancel.check()?;
            run.restored(place, &path, &found)?;
        }
    }
    for (path, record) in sides.live {
        if !run.seen.contains(path) {
            run.not_restored(path, record);
        }
    }
    for left_out in sides.left_out {
        if sides.live.contains_key(&left_out.path) && !run.seen.contains(&left_out.path) {
            run.comparison.left_out.push(left_out.clone());
        }
    }
    Ok(run.comparison)
}

fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

struct Run<'a> {
    sides: Sides<'a>,
    cancel: &'a Cancel,
    /// Live paths that were restored.
    seen: BTreeSet<PathBuf>,
    comparison: Comparison,
}

impl Run<'_> {
    fn differs(&mut self, path: &Path, problem: impl Into<String>) {
        self.comparison.differences_total += 1;
        if self.comparison.differences.len() < DIFFERENCES_NAMED_MAX {
            let difference = Difference { path: path.to_owned(), problem: problem.into() };
            self.comparison.differences.push(difference);
        }
    }

    fn restored(&mut self, place: &Place, below: &Path, found: &Record) -> Result<()> {
        let path: PathBuf = place.live.components().chain(below.components()).collect();
        let Some(wanted) = self.sides.live.get(&path) else {
            self.differs(&path, "nothing expected, found it in the restored night");
            return Ok(());
        };
        self.comparison.entries += 1;
        self.attributes(&path, wanted, found);
        if wanted.kind == Kind::File && found.kind == Kind::File {
            let restored = place.restored.join(below);
            self.content(&path, &restored)?;
        }
        if !self.seen.insert(path.clone()) {
            self.differs(&path, "one restored copy expected, found two");
        }
        Ok(())
    }

    fn attributes(&mut self, path: &Path, wanted: &Record, found: &Record) {
        let octal = |mode: u32| format!("{mode:o}");
        let time = |(seconds, nanoseconds): (i64, i64)| format!("{seconds}.{nanoseconds:09}");
        let mut one = |what: &str, wanted: String, found: String| {
            if wanted != found {
                self.differs(path, format!("{what} {wanted} expected, found {found}"));
            }
        };
        one("kind", format!("{:?}", wanted.kind), format!("{:?}", found.kind));
        one("mode", octal(wanted.mode), octal(found.mode));
        one("owner", format!("{:?}", wanted.owner), format!("{:?}", found.owner));
        one("mtime", time(wanted.mtime), time(found.mtime));
        one("size", wanted.size.to_string(), found.size.to_string());
        one("number of links", wanted.links.to_string(), found.links.to_string());
        one("target", format!("{:?}", wanted.target), format!("{:?}", found.target));
        one("attributes", format!("{:?}", wanted.xattrs), format!("{:?}", found.xattrs));
    }

    fn content(&mut self, path: &Path, restored: &Path) -> Result<()> {
        let original = self.sides.night.join(path);
        let open =
            |place: &Path| File::open(place).map_err(|error| Error::io(place, "open", error));
        let read = |file: &File, place: &Path, buffer: &mut [u8], offset| {
            read_full_at(file, buffer, offset).map_err(|error| Error::io(place, "read", error))
        };
        let (wanted, found) = (open(&original)?, open(restored)?);
        let (mut one, mut other) = (vec![0; BLOCK], vec![0; BLOCK]);
        let mut offset = 0;
        loop {
            self.cancel.check()?;
            let length = read(&wanted, &original, &mut one, offset)?;
            let found = read(&found, restored, &mut other, offset)?;
            if one[..length] != other[..found] {
                let same = one.iter().zip(&other).take(length.min(found));
                let at = offset + same.take_while(|(a, b)| a == b).count() as u64;
                self.differs(path, format!("other content from byte {at} on"));
                return Ok(());
            }
            offset += length as u64;
            if length < BLOCK {
                break;
            }
        }
        self.comparison.files += 1;
        self.comparison.bytes += offset;
        Ok(())
    }

    /// Judges a live path that was not restored.
    fn not_restored(&mut self, path: &Path, record: &Record) {
        let left_out = || self.sides.left_out.iter().map(|left_out| left_out.path.as_path());
        let places = || self.sides.places.iter().map(|place| place.live.as_path());
        let is_left_out = left_out().any(|above| path.starts_with(above));
        // A directory that only leads to components, or to what was left out, is in neither.
        let is_inside = places().any(|top| !top.as_os_str().is_empty() && path.starts_with(top));
        let is_way = record.kind == Kind::Directory
            && !is_inside
            && places().chain(left_out()).any(|below| below != path && below.starts_with(path));
        if !is_left_out && !is_way {
            self.differs(path, "expected it in the restored night, found nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use crate::demo::sample::set_mtime;

    /// A night with one component at `var/data` and one that is a part of the root, and both
    /// restored.
    struct Scene {
        directory: tempfile::TempDir,
        live: Listing,
    }

    impl Scene {
        fn new() -> Scene {
            let directory = tempfile::tempdir().unwrap();
            let at = |path: &str| directory.path().join(path);
            for top in ["night/var/data", "restored/data"] {
                fs::create_dir_all(at(top)).unwrap();
                fs::create_dir(at(top).join("d")).unwrap();
                fs::write(at(top).join("d/file"), vec![5; BLOCK + 100]).unwrap();
                fs::write(at(top).join("empty"), "").unwrap();
                symlink("d/file", at(top).join("link")).unwrap();
            }
            for top in ["night", "restored/config"] {
                fs::create_dir_all(at(top).join("etc")).unwrap();
                fs::write(at(top).join("etc/my.cnf"), "[mysqld]\n").unwrap();
            }
            fs::create_dir(at("night/var/local")).unwrap();
            fs::write(at("night/var/local/module"), "pm1\n").unwrap();
            let scene = Scene { live: Listing::new(), directory };
            for top in ["night", "restored/data", "restored/config"] {
                for path in list(&scene.at(top)).unwrap().keys().rev() {
                    set_mtime(&scene.at(top).join(path), (1_700_000_000, 123_456_789)).unwrap();
                }
            }
            let live = list(&scene.at("night")).unwrap();
            Scene { live, ..scene }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.directory.path().join(path)
        }

        fn compare_with(&self, left_out: &[&str]) -> Comparison {
            let place = |live: &str, restored: &str| Place {
                live: live.into(),
                restored: self.at("restored").join(restored),
            };
            let left_out: Vec<LeftOut> = left_out
                .iter()
                .map(|path| LeftOut { path: path.into(), reason: "of this host".into() })
                .collect();
            let night = self.at("night");
            let sides = Sides {
                night: &night,
                live: &self.live,
                places: &[place("var/data", "data"), place("", "config")],
                left_out: &left_out,
            };
            compare(sides, &Cancel::default()).unwrap()
        }

        /// Returns the differences as `path: problem`.
        fn differences(&self) -> Vec<String> {
            let comparison = self.compare_with(&["var/local"]);
            assert_eq!(comparison.differences_total, comparison.differences.len() as u64);
            let shown = |one: &Difference| format!("{}: {}", one.path.display(), one.problem);
            comparison.differences.iter().map(shown).collect()
        }

        /// Changes the restored `d/file`, sets its time back, and returns the differences.
        fn after(&self, change: impl FnOnce(&Path)) -> Vec<String> {
            let file = self.at("restored/data/d/file");
            change(&file);
            for path in ["restored/data/d/file", "restored/data/d", "restored/data"] {
                if self.at(path).exists() {
                    set_mtime(&self.at(path), (1_700_000_000, 123_456_789)).unwrap();
                }
            }
            self.differences()
        }
    }

    #[test]
    fn equal_trees_have_no_difference_and_everything_is_counted() {
        let comparison = Scene::new().compare_with(&["var/local"]);
        assert_eq!(comparison.differences, []);
        assert_eq!((comparison.files, comparison.entries), (3, 8));
        assert_eq!(comparison.bytes, BLOCK as u64 + 100 + 9);
        assert_eq!(comparison.left_out.len(), 1);
    }

    #[test]
    fn content_is_compared_to_the_last_byte() {
        for at in [0, BLOCK - 1, BLOCK, BLOCK + 99] {
            let differences = Scene::new().after(|file| {
                let mut content = fs::read(file).unwrap();
                content[at] ^= 1;
                fs::write(file, content).unwrap();
            });
            assert_eq!(differences, [format!("var/data/d/file: other content from byte {at} on")]);
        }
    }

    #[test]
    fn sizes_differ_in_both_directions() {
        for size in [BLOCK as u64 + 99, BLOCK as u64 + 101, 0] {
            let differences = Scene::new().after(|file| {
                fs::OpenOptions::new().write(true).open(file).unwrap().set_len(size).unwrap();
            });
            let at = size.min(BLOCK as u64 + 100);
            let (one, two) =
                (format!("size 1048676 expected, found {size}"), format!("from byte {at} on"));
            assert_eq!(differences.len(), 2, "{differences:?}");
            assert!(differences[0].contains(&one) && differences[1].contains(&two));
        }
    }

    #[test]
    fn modes_links_and_kinds_differ() {
        let scene = Scene::new();
        let differences =
            scene.after(|file| fs::set_permissions(file, Permissions::from_mode(0o4600)).unwrap());
        assert_eq!(differences, ["var/data/d/file: mode 644 expected, found 4600"]);

        let scene = Scene::new();
        let elsewhere = scene.at("elsewhere");
        let differences = scene.after(|file| fs::hard_link(file, &elsewhere).unwrap());
        assert_eq!(differences, ["var/data/d/file: number of links 1 expected, found 2"]);

        let differences = Scene::new().after(|file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        });
        assert!(differences[0].contains("kind File expected, found Directory"), "{differences:?}");
    }

    #[test]
    fn times_differ_by_a_nanosecond_also_of_directories() {
        let scene = Scene::new();
        for path in ["empty", "d", "link", ""] {
            set_mtime(&scene.at("restored/data").join(path), (1_700_000_000, 123_456_788)).unwrap();
        }
        let differences = scene.differences();
        assert_eq!(differences.len(), 4, "{differences:?}");
        for difference in differences {
            let end = "mtime 1700000000.123456789 expected, found 1700000000.123456788";
            assert!(difference.ends_with(end), "{difference}");
        }
    }

    #[test]
    fn link_targets_and_owners_and_attributes_differ() {
        let mut scene = Scene::new();
        let path = Path::new("var/data/link").to_owned();
        let record = scene.live.get_mut(&path).unwrap();
        record.target = Some("elsewhere".into());
        record.owner.1 += 1;
        record.xattrs.insert("user.x".into(), b"1".to_vec());
        let differences = scene.differences().join("\n");
        for what in ["target Some(\"elsewhere\")", "owner (", "attributes {\"user.x\""] {
            assert!(differences.contains(what), "{differences}");
        }
        assert_eq!(differences.lines().count(), 3, "{differences}");
    }

    #[test]
    fn what_is_missing_or_too_much_differs() {
        let differences = Scene::new().after(|file| {
            fs::remove_file(file).unwrap();
        });
        assert_eq!(
            differences,
            ["var/data/d/file: expected it in the restored night, found nothing"]
        );
        let scene = Scene::new();
        let differences = scene.after(|file| fs::write(file.with_file_name("more"), "").unwrap());
        assert_eq!(
            differences,
            ["var/data/d/more: nothing expected, found it in the restored night"]
        );
    }

    #[test]
    fn what_was_left_out_must_have_been_named() {
        let named: Vec<_> = Scene::new().compare_with(&[]).differences;
        let paths: Vec<_> = named.iter().map(|one| one.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["var/local", "var/local/module"]);
        let comparison = Scene::new().compare_with(&["var/local/module", "var/data/never/there"]);
        assert_eq!(comparison.differences, []);
        assert_eq!(comparison.left_out.len(), 1);
    }

    #[test]
    fn a_directory_of_a_component_must_be_there_whatever_was_left_out_below_it() {
        let scene = Scene::new();
        fs::remove_dir_all(scene.at("restored/data/d")).unwrap();
        set_mtime(&scene.at("restored/data"), (1_700_000_000, 123_456_789)).unwrap();
        let comparison = scene.compare_with(&["var/local", "var/data/d/file"]);
        let paths: Vec<_> = comparison.differences.iter().map(|one| &one.path).collect();
        assert_eq!(paths, [Path::new("var/data/d")]);
    }

    #[test]
    fn only_the_first_differences_are_named() {
        let scene = Scene::new();
        for number in 0..100 {
            fs::write(scene.at("restored/data").join(number.to_string()), "").unwrap();
        }
        let comparison = scene.compare_with(&["var/local"]);
        assert_eq!(comparison.differences.len(), DIFFERENCES_NAMED_MAX);
        // The directory has another time now.
        assert_eq!(comparison.differences_total, 101);
    }
}
