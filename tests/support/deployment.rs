//! A small made-up deployment: its configuration, some files in each component.

use std::fs;
use std::path::{Path, PathBuf};

use super::program::write;

/// The DB Root of a deployment with one.
pub const DBROOT: &str = "var/lib/columnstore/data1";

/// A segment file of that DB Root.
pub const SEGMENT: &str =
    "var/lib/columnstore/data1/000.dir/000.dir/003.dir/233.dir/000.dir/FILE000.cdf";

/// Builds the root directory of a deployment.
pub struct Deployment {
    pub root: PathBuf,
}

impl Deployment {
    /// Makes one with a DB Root, a data directory and nothing optional.
    pub fn small(root: impl Into<PathBuf>) -> Deployment {
        let deployment = Deployment { root: root.into() };
        deployment.columnstore_xml(&[(1, "/var/lib/columnstore/data1")], "");
        deployment.file(SEGMENT, &colvault_engine::testing::trees::mixed_bytes(7, 300_000));
        deployment.file("var/lib/columnstore/data1/systemFiles/dbrm/BRM_saves_em", b"extents");
        deployment.file("var/lib/mysql/ibdata1", b"tablespace");
        deployment.file("var/lib/mysql/shop/orders.frm", b"definition");
        deployment
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
