//! A small made-up deployment: its configuration, some files in each component.

use std::fs;
use std::path::{Path, PathBuf};

use super::program::write;

/// The DB Root of a deployment with one.
pub const DBROOT: &str = "var/lib/columnstore/data1";

/// A segment file of that DB Root.
pub const SEGMENT: &str =
    "var/lib/columnstore/data1/000.dir/000.dir/003.dir/233.dir/000.dir/FILE000.cdf";

/// Its size: whole blocks.
const SEGMENT_BYTES: usize = 37 * 8192;

/// Builds the root directory of a deployment.
pub struct Deployment {
    pub root: PathBuf,
}

impl Deployment {
    /// Makes one with a DB Root, a data directory and nothing optional.
    pub fn small(root: impl Into<PathBuf>) -> Deployment {
        let deployment = Deployment { root: root.into() };
        deployment.columnstore_xml(&[(1, "/var/lib/columnstore/data1")], "");
        deployment.file(SEGMENT, &colvault_engine::testing::trees::mixed_bytes(7, SEGMENT_BYTES));
        deployment.brm_files(&[1001]);
        deployment.file("var/lib/mysql/ibdata1", b"tablespace");
        deployment.file("var/lib/mysql/shop/orders.frm", b"definition");
        deployment
    }

    /// Writes the files of the BRM as a stopped server leaves them, with one extent for each of some
    /// objects, on DB Root 1, whose last block in use is the first.
    pub fn brm_files(&self, oids: &[u32]) {
        let mut map = b"\x20\x8b\xf7\x76".to_vec();
        map.extend([oids.len() as u8, 0, 0, 0, 0, 0, 0, 0]);
        for (number, oid) in oids.iter().enumerate() {
            let mut extent = [0; 96];
            extent[1] = 32 * number as u8;
            extent[8] = 8;
            extent[16..20].copy_from_slice(&oid.to_le_bytes());
            extent[34] = 1;
            extent[36] = 8;
            map.extend(extent);
        }
        // No free ranges, the object ids taken, the version buffer of DB Root 1.
        let mut bitmap = vec![0xff; 2048];
        bitmap.resize(2048 + (1 << 21), 0);
        oids.iter().for_each(|oid| bitmap[2048 + *oid as usize / 8] |= 0x80 >> (oid % 8));
        bitmap.extend(b"\x01\0\x01\0");
        for (name, content) in [
            ("BRM_saves_current", &b"BRM_saves\n"[..]),
            ("BRM_saves_em", &map),
            ("BRM_saves_journal", b""),
            ("BRM_saves_vbbm", b"\x7a\x8c\xb5\x1f\0\0\0\0\0\0\0\0"),
            ("BRM_saves_vss", b"\x12\xdb\x18\x72\0\0\0\0"),
            ("SMTxnID", &[0; 12]),
            ("oidbitmap", &bitmap),
            ("tablelocks", &[0; 4]),
        ] {
            self.file(&format!("{DBROOT}/systemFiles/dbrm/{name}"), content);
        }
    }

    /// Writes Columnstore.xml with these DB Roots and more text inside its outermost element.
    pub fn columnstore_xml(&self, dbroots: &[(u32, &str)], more: &str) {
        let named: String = dbroots
            .iter()
            .map(|(number, path)| format!("    <DBRoot{number}>{path}</DBRoot{number}>\n"))
            .collect();
        let count = dbroots.len();
        self.file(
            "etc/columnstore/Columnstore.xml",
            format!(
                "<Columnstore Version=\"V1.0.0\">\n  <SystemConfig>\n    \
                 <SystemName>shop</SystemName>\n    <DBRootCount>{count}</DBRootCount>\n{named}  \
                 </SystemConfig>\n{more}</Columnstore>\n"
            )
            .as_bytes(),
        );
    }

    pub fn file(&self, below: &str, content: &[u8]) {
        write(self.root.join(below), content);
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub fn remove(&self, below: &str) {
        let path = self.path(below);
        match path.is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }

    /// Whether two files are equal.
    pub fn is_equal(&self, below: &str, other: &Path) -> bool {
        fs::read(self.path(below)).unwrap() == fs::read(other).unwrap()
    }
}
