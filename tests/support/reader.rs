//! The reader of whole deployments that shares no code with what is tested: a Python program.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// What the reader says of a deployment.
#[derive(Debug, Deserialize)]
pub struct Reading {
    /// What does not hold, with the place.
    pub problems: Vec<String>,
    /// Numbers of the DB Roots.
    pub roots: Vec<u32>,
    /// Compressed segment files.
    pub files: u64,
    pub slots: u64,
    /// Slots by what packed them.
    pub snappy: u64,
    pub lz4: u64,
    /// Bytes of compressed segment files, and what their slots unpack to.
    pub stored: u64,
    pub unpacked: u64,
    /// Slots with something behind their payload.
    pub stale: u64,
    pub catalog_files: u64,
    /// InnoDB pages with content.
    pub pages: u64,
    pub extents: u64,
    /// Different tokens of string columns.
    pub tokens: u64,
    pub tables: u64,
    /// Rows of all tables that are not deleted.
    pub rows: u64,
    /// `schema.table.column` by the object ids of columns and dictionaries.
    pub names: BTreeMap<u32, String>,
}

/// Reads the deployment below a root directory.
pub fn read(root: &Path) -> Reading {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let packages = workspace.join("target/python");
    assert!(packages.exists(), "{}: tests/run.sh installs it", packages.display());
    let output = Command::new("python3")
        .arg(workspace.join("tests/support/columnstore_reader.py"))
        .arg(root)
        .env("PYTHONPATH", packages)
        .output()
        .expect("python3 runs");
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("the reader failed: {error}"))
}
