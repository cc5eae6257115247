//! The configuration that names the parts of a deployment.

use std::fmt::Write;
use std::io::Result;

use super::layout::Roots;
use super::place::Place;

/// As a server of version 6.4 has it after its first start, without comments.
const COLUMNSTORE_XML: &str = include_str!("columnstore.xml");

const STORAGEMANAGER_CNF: &str = "\
[ObjectStorage]
service = LocalStorage
object_size = 5M
metadata_path = /var/lib/columnstore/storagemanager/metadata
journal_path = /var/lib/columnstore/storagemanager/journal
max_concurrent_downloads = 21
max_concurrent_uploads = 21
common_prefix_depth = 3

[S3]
region = some_region
bucket = some_bucket

[LocalStorage]
path = /var/lib/columnstore/storagemanager/fake-cloud
fake_latency = n
max_latency = 50000

[Cache]
cache_size = 2g
path = /var/lib/columnstore/storagemanager/cache
";

const MY_CNF: &str = "\
[mariadbd]
user=mysql
datadir=/var/lib/mysql
socket=/run/mysqld/mysqld.sock
character-set-server=utf8mb4
innodb_data_file_path=ibdata1:4M:autoextend
innodb_undo_tablespaces=0
log_bin=mysqld-bin
server_id=1
plugin-load-add=ha_columnstore.so
";

/// Writes the configuration, and the directories that are there without files.
pub(super) fn write(place: &Place, roots: &Roots) -> Result<()> {
    let mut named = String::new();
    let mut modules = String::new();
    let count = roots.numbers.len();
    let _ = writeln!(named, "\t\t<DBRootCount>{count}</DBRootCount>");
    let _ = writeln!(modules, "\t\t<ModuleDBRootCount1-3>{count}</ModuleDBRootCount1-3>");
    for (place, root) in roots.numbers.iter().enumerate() {
        let path = format!("/var/lib/columnstore/data{root}");
        let _ = writeln!(named, "\t\t<DBRoot{root}>{path}</DBRoot{root}>");
        let name = format!("ModuleDBRootID1-{}-3", place + 1);
        let _ = writeln!(modules, "\t\t<{name}>{root}</{name}>");
    }
    let xml = COLUMNSTORE_XML
        .replace("@ROOTS@", &named)
        .replace("@MODULES@", &modules)
        .replace("@FIRST@", &roots.first().to_string())
        .replace("@FILES@", &roots.files_per_partition.to_string());
    place.write(&place.path("etc/columnstore/Columnstore.xml"), 0o644, xml.as_bytes())?;
    let cnf = place.path("etc/columnstore/storagemanager.cnf");
    place.write(&cnf, 0o644, STORAGEMANAGER_CNF.as_bytes())?;
    place.write(&place.path("etc/my.cnf"), 0o644, MY_CNF.as_bytes())?;
    for root in &roots.numbers {
        place.directory(&place.data(format!("data{root}")), 0o1755)?;
        place.directory(&place.data(format!("data{root}/bulkRollback")), 0o755)?;
    }
    let system_files = place.data(format!("data{}/systemFiles", roots.first()));
    place.directory(&system_files, 0o1755)?;
    place.directory(&system_files.join("dbrm"), 0o1755)?;
    place.directory(&place.data("storagemanager"), 0o755)?;
    place.write(&place.data("local/module"), 0o644, b"pm1\n")
}
