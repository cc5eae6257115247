//! Deployments that are damaged, backed up with a proof, and mended again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use colvault_benches::generator::{CodecChoice, CreateOptions, create};
use colvault_engine::backup::{BackupOptions, BackupReport, Group};
use colvault_engine::format::snapshot::{Proof, Snapshot};
use colvault_engine::progress::{Cancel, NullObserver};
use colvault_engine::proof::{ProofOutcome, prove};
use colvault_engine::source::columnstore::discover;

use super::deployment::DBROOT;
use super::nights::{become_night, bundled};
use super::{Store, quick, require_root};

/// Where the files of the BRM are.
pub const DBRM: &str = "var/lib/columnstore/data1/systemFiles/dbrm";

/// A column of the sample, compressed.
pub const COLUMN: u32 = 3002;

/// A column of the system catalog, which is never compressed.
pub const CATALOG: u32 = 1003;

/// A deployment that is damaged, backed up and mended again, in one repository.
pub struct Live {
    pub root: PathBuf,
    whole: PathBuf,
    pub store: Store,
    _place: Option<tempfile::TempDir>,
}

impl Live {
    /// The bundled sample on its third night, whose statements left versions behind.
    pub fn sample() -> Live {
        require_root("files of the server's user");
        let place = quick();
        let whole = bundled(place.path(), 3).pop().unwrap();
        Live::of(place, whole)
    }

    pub fn generated() -> Live {
        let place = quick();
        let whole = place.path().join("whole");
        create(&whole, &generated_options()).unwrap();
        Live::of(place, whole)
    }

    fn of(place: tempfile::TempDir, whole: PathBuf) -> Live {
        let live = Live::at(place.path(), &whole);
        Live { _place: Some(place), ..live }
    }

    /// A copy of a deployment, and a repository, in a directory.
    pub fn at(place: &Path, whole: &Path) -> Live {
        let root = place.join("live");
        become_night(whole, &root);
        let store = Store::local(&place.join("repository"));
        Live { root, whole: whole.to_owned(), store, _place: None }
    }

    pub fn mend(&self) {
        let path = self.path(&in_data1(COLUMN));
        if path.is_symlink() {
            fs::remove_file(&path).unwrap();
        } else if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        }
        become_night(&self.whole, &self.root);
    }

    pub fn backup(&self) -> BackupReport {
        self.backup_with(|_| ())
    }

    pub fn backup_with(&self, change: impl FnOnce(&mut BackupOptions)) -> BackupReport {
        let deployment = discover(&self.root).unwrap();
        self.store
            .backup_with(&self.root, |options| {
                options.trees = deployment.trees;
                options.group = Group::Deployment {
                    name: deployment.name,
                    topology: "shared-local".to_owned(),
                };
                options.facts = deployment.facts;
                options.prove = true;
                change(options);
            })
            .unwrap()
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// Changes bytes of a file.
    pub fn patch(&self, below: &str, change: impl FnOnce(&mut Vec<u8>)) {
        patch(&self.path(below), change);
    }

    /// Changes the entries of the extent map that belong to an object: 96 bytes each.
    pub fn patch_extents(&self, oid: u32, change: impl Fn(&mut [u8])) {
        self.patch(&format!("{DBRM}/BRM_saves_em"), |bytes| {
            let extents = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
            let of_object = bytes[12..12 + 96 * extents]
                .chunks_mut(96)
                .filter(|extent| extent[16..20] == oid.to_le_bytes());
            assert_ne!(of_object.map(change).count(), 0, "there are extents of {oid}");
        });
    }

    /// Lets a column have more extents in its only file, as loads would. Returns their first LBIDs in the
    /// order of the file, which is neither that of LBIDs nor that of the extent map.
    pub fn grow(&self, oid: u32, count: u64) -> Vec<u64> {
        let number =
            |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let (mut lbids, mut blocks) = (Vec::new(), 0);
        self.patch(&format!("{DBRM}/BRM_saves_em"), |bytes| {
            let extents = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
            let entries = bytes[12..12 + 96 * extents].chunks(96);
            let units =
                |extent: &[u8]| u64::from(u32::from_le_bytes(extent[8..12].try_into().unwrap()));
            let end = entries.clone().map(|e| number(e, 0) + units(e) * 1024).max().unwrap();
            let of_object = |extent: &&[u8]| extent[16..20] == oid.to_le_bytes();
            let at = entries.clone().position(|extent| of_object(&extent)).unwrap();
            let first = entries.clone().find(of_object).unwrap().to_vec();
            blocks = units(&first) * 1024;
            lbids.push(number(&first, 0));
            bytes[12 + 96 * at + 24..12 + 96 * at + 28].fill(0);
            for more in 1..count {
                let lbid = end + (count - more) * blocks;
                lbids.push(lbid);
                let mut extent = first.clone();
                extent[..8].copy_from_slice(&lbid.to_le_bytes());
                let block = u32::try_from(more * blocks).unwrap();
                extent[20..24].copy_from_slice(&block.to_le_bytes());
                let hwm = if more + 1 == count { block + 7 } else { 0 };
                extent[24..28].copy_from_slice(&hwm.to_le_bytes());
                bytes.splice(12..12, extent);
            }
            let extents = u32::try_from(extents as u64 + count - 1).unwrap();
            bytes[4..8].copy_from_slice(&extents.to_le_bytes());
        });
        // The first slot, as often as it takes.
        self.patch(&in_data1(oid), |bytes| {
            let (start, end) = (number(bytes, 4096) as usize, number(bytes, 4104) as usize);
            let slot = bytes[start..end].to_vec();
            bytes.truncate(start);
            for pointer in 0..=(count * blocks / 512) as usize {
                let at = (start + pointer * slot.len()) as u64;
                bytes[4096 + 8 * pointer..4104 + 8 * pointer].copy_from_slice(&at.to_le_bytes());
                bytes.extend_from_slice(if pointer == 0 { &[] } else { &slot });
            }
            bytes[32..40].copy_from_slice(&(count * blocks).to_le_bytes());
        });
        self.name_lbids(oid, &lbids);
        lbids
    }

    /// Writes LBIDs into the header of a column's file.
    pub fn name_lbids(&self, oid: u32, lbids: &[u64]) {
        self.patch(&in_data1(oid), |bytes| {
            bytes[56..64].copy_from_slice(&(lbids.len() as u64).to_le_bytes());
            bytes[64..64 + 8 * 48].fill(0);
            for (lbid, at) in lbids.iter().zip((64..).step_by(8)) {
                bytes[at..at + 8].copy_from_slice(&lbid.to_le_bytes());
            }
        });
    }
}

pub fn generated_options() -> CreateOptions {
    CreateOptions {
        bytes: 8 << 20,
        seed: 11,
        unpacked_ratio: 2.4,
        dbroots: vec![1, 2, 4],
        tables: 4,
        codec: CodecChoice::Mixed,
        threads: 2.try_into().unwrap(),
    }
}

fn patch(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// The first segment file of an object, below a DB Root.
pub fn segment(oid: u32) -> String {
    let [a, b, c, d] = oid.to_be_bytes();
    format!("{a:03}.dir/{b:03}.dir/{c:03}.dir/{d:03}.dir/000.dir/FILE000.cdf")
}

pub fn in_data1(oid: u32) -> String {
    format!("{DBROOT}/{}", segment(oid))
}

pub fn set_modified(path: &Path, changed: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(changed).unwrap();
}

/// Returns the proof that a snapshot has.
pub fn proof(snapshot: &Snapshot) -> &Proof {
    snapshot.proof.as_ref().expect("the snapshot has a proof")
}

/// Repeats the proof of the latest snapshot from the repository.
pub fn repeated(store: &Store) -> ProofOutcome {
    let named = store.latest();
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    prove(&repository, &named.snapshot, &Cancel::default()).unwrap()
}
