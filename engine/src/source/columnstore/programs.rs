//! The programs of a deployment that freezing it while it runs needs.

use std::path::{Path, PathBuf};

use super::rooted::Root;
use crate::error::Result;

/// Programs by the names they have had, and what each is for.
const PROGRAMS: [(&[&str], &str); 5] = [
    (&["dbrmctl"], "makes the extent map read-only, and writable again"),
    (&["viewtablelock"], "tells bulk loads and statements that write"),
    (&["save_brm"], "writes the extent map to disk"),
    (&["mariadb", "mysql"], "holds the read lock"),
    (&["mariadb-backup", "mariabackup"], "copies the MariaDB data directory while it is in use"),
];

/// Where packages put them.
const DIRECTORIES: [&str; 5] =
    ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/local/mariadb/bin"];

/// A program that a freeze needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Where it is, as the deployment names it; `None` if it was not found.
    pub path: Option<PathBuf>,
}

/// Looks for the programs below the deployment's root. None is started.
pub fn programs(root: &Path) -> Result<Vec<Program>> {
    let root = Root::open(root)?;
    let mut found = Vec::new();
    for (names, purpose) in PROGRAMS {
        let mut program = Program { name: names[0], purpose, path: None };
        'search: for name in names {
            for directory in DIRECTORIES {
                let path = Path::new(directory).join(name);
                if root.resolve(&path)?.is_file() {
                    program = Program { name, purpose, path: Some(path) };
                    break 'search;
                }
            }
        }
        found.push(program);
    }
    Ok(found)
}
