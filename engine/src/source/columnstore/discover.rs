//! Finding out what a deployment is made of.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::config_mycnf::OptionFiles;
use super::config_storagemanager::{self, StorageManagerCnf};
use super::config_tree::{COLUMNSTORE_XML, ConfigPaths, STORAGEMANAGER_CNF, SYSTEMD_ENV};
use super::config_xml::{self, ColumnstoreXml};
use super::credentials::{self, Credential, KEY_FILE_VARIABLES};
use super::rooted::{Root, read_optional};
use super::trees;
use crate::error::{Error, ErrorKind, Result};
use crate::source::{LeftOut, SourceTree};

/// Source: ColumnStore `oam/etc/Columnstore.xml`.
const FIRST_OID_DEFAULT: &str = "3000";

const MODULE: &str = "/var/lib/columnstore/local/module";

/// Settings of the server that data files depend on, or that a reader of a snapshot asks for.
const SERVER_FACTS: [&str; 8] = [
    "innodb_data_file_path",
    "innodb_page_size",
    "innodb_undo_tablespaces",
    "log_bin",
    "lower_case_table_names",
    "plugin_load_add",
    "relay_log",
    "server_id",
];

/// Where a deployment keeps its column data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// In the DB Root directories.
    SharedLocal,
    /// In a bucket, through the Storage Manager.
    ObjectStorage,
}

/// What a deployment is made of, as its configuration says and the file system confirms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The root directory on this host, without symbolic links.
    pub root: PathBuf,
    /// Where the column data is. With [`Topology::ObjectStorage`] the trees are only what lies on
    /// this host, and a missing directory is a note.
    pub topology: Topology,
    /// The system's or cluster's name; `columnstore` if it has none.
    pub name: String,
    /// The components: config, datadir, dbroot/N ascending, datadir.VARIABLE, storagemanager.
    /// None overlaps another, but config takes `.secrets` wherever it is.
    pub trees: Vec<SourceTree>,
    /// What exists, belongs to the deployment and is in no component. What rules of a component
    /// leave out is not listed here.
    pub left_out: Vec<LeftOut>,
    /// Optional files that were looked for and are not there, as the deployment names them.
    pub missing_optional: Vec<PathBuf>,
    /// The first object id of users' tables, as Columnstore.xml says it.
    pub first_oid: String,
    /// The secrets that a backup of the components holds.
    pub credentials: Vec<Credential>,
    /// What a restore must match or a reader wants to know, by name: `dbroot_count`, `dbroot_1`,
    /// `object_size` (bytes), `module`, `datadir`, `mariadb_version` and so on.
    pub facts: BTreeMap<String, String>,
    /// What a reader should know, as sentences.
    pub notes: Vec<String>,
}

/// Everything read from the configuration.
struct Configuration {
    root: Root,
    xml: ColumnstoreXml,
    cnf: Option<StorageManagerCnf>,
    options: OptionFiles,
    topology: Topology,
}

/// Finds out what the deployment below `root` is made of. Reads configuration files and lists
/// directories, but reads no data.
///
/// Errors: [`ErrorKind::NotFound`] if Columnstore.xml, a DB Root, the data directory or, with the
/// Storage Manager enabled, storagemanager.cnf is missing; [`ErrorKind::Invalid`] for a
/// configuration that makes no sense, a DB Root that is an empty directory or a file, system files
/// outside every DB Root, and for components that overlap.
pub fn discover(root: &Path) -> Result<Deployment> {
    let configuration = Configuration::read(Root::open(root)?)?;
    let mut notes = configuration.notes();
    let (data_trees, datadir) = configuration.data_trees(&mut notes)?;
    let Configuration { root, xml, cnf, options, topology } = &configuration;

    let config_paths = ConfigPaths::collect(root, xml, options)?;
    let mut missing_optional = config_paths.missing.clone();
    missing_optional.sort();
    let mut trees = vec![config_paths.into_tree(&data_trees)?];
    trees.extend(data_trees);
    trees::check_overlap(&trees)?;

    let name = xml.system_name.as_ref().or(xml.cluster_name.as_ref());
    Ok(Deployment {
        root: root.host().to_owned(),
        topology: *topology,
        name: name.cloned().unwrap_or_else(|| "columnstore".into()),
        left_out: configuration.left_out(&trees, &datadir)?,
        missing_optional,
        first_oid: xml.first_oid.clone().unwrap_or_else(|| FIRST_OID_DEFAULT.into()),
        credentials: credentials::find(root, xml, cnf.as_ref(), options, &trees)?,
        facts: configuration.facts(&datadir)?,
        notes,
        trees,
    })
}

impl Configuration {
    fn read(root: Root) -> Result<Configuration> {
        let xml_host = root.resolve(Path::new(COLUMNSTORE_XML))?;
        let Some(xml) = read_optional(&xml_host)? else {
            let problem = "expected the configuration of a ColumnStore deployment, found nothing";
            return Err(Error::new(ErrorKind::NotFound, xml_host.display().to_string(), problem));
        };
        let xml = config_xml::read(&xml, &xml_host.display().to_string())?;
        let cnf = read_storagemanager_cnf(&root)?;
        if xml.storage_manager_enabled && cnf.is_none() {
            let object = root.resolve(Path::new(STORAGEMANAGER_CNF))?.display().to_string();
            let problem = "expected it as the Storage Manager is enabled, found nothing";
            return Err(Error::new(ErrorKind::NotFound, object, problem));
        }
        let options = OptionFiles::read(&root)?;
        let is_s3 = cnf.as_ref().is_some_and(StorageManagerCnf::is_s3);
        let topology = if is_s3 || xml.storage_manager_enabled {
            Topology::ObjectStorage
        } else {
            Topology::SharedLocal
        };
        Ok(Configuration { root, xml, cnf, options, topology })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.xml.notes.clone();
        match &self.cnf {
            Some(cnf) => notes.extend(cnf.notes.iter().cloned()),
            None => notes.push("storagemanager.cnf is missing; the Storage Manager is off".into()),
        }
        notes.extend(self.options.notes.iter().cloned());
        notes
    }

    /// The components but config, in order, and the recorded path of the data directory.
    fn data_trees(&self, notes: &mut Vec<String>) -> Result<(Vec<SourceTree>, PathBuf)> {
        let root = &self.root;
        let datadir = trees::datadir_path(&self.options);
        let mut found = Vec::new();
        found.extend(self.unless_remote(trees::datadir(root, &datadir), notes)?);
        self.note_links("the data directory", &datadir, notes)?;
        let mut beside = Vec::new();
        if let Some(datadir) = found.first() {
            beside = trees::beside_datadir(root, &self.options, datadir, notes)?;
        }
        for (number, recorded) in &self.xml.dbroots {
            let dbroot = trees::dbroot(root, *number, recorded);
            found.extend(self.unless_remote(dbroot, notes)?);
            self.note_links(&format!("DB Root {number}"), recorded, notes)?;
        }
        if self.topology == Topology::SharedLocal {
            self.check_system_files(&found)?;
        }
        found.extend(beside);
        let fake_cloud_in_use =
            self.xml.storage_manager_enabled && self.cnf.as_ref().is_some_and(|cnf| !cnf.is_s3());
        let cnf = self.cnf.as_ref();
        let tree = trees::storagemanager(root, cnf, fake_cloud_in_use, &found, notes)?;
        found.extend(tree);
        Ok((found, datadir))
    }

    /// With the data in a bucket, a directory that is missing or empty on this host is a note.
    fn unless_remote(
        &self,
        tree: Result<SourceTree>,
        notes: &mut Vec<String>,
    ) -> Result<Option<SourceTree>> {
        match tree {
            Err(error) if self.topology == Topology::ObjectStorage => {
                notes.push(error.to_string());
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn note_links(&self, what: &str, recorded: &Path, notes: &mut Vec<String>) -> Result<()> {
        let resolved = self.root.follow(recorded)?;
        for link in resolved.links {
            let (link, inside) = (link.display(), resolved.inside.display());
            notes.push(format!("{what} is at {inside}: {link} is a symbolic link, and not taken"));
        }
        Ok(())
    }

    fn check_system_files(&self, found: &[SourceTree]) -> Result<()> {
        let is_dbroot = |tree: &&SourceTree| tree.component.starts_with("dbroot/");
        for (element, recorded) in &self.xml.system_files {
            let host = self.root.resolve(recorded)?;
            if !found.iter().filter(is_dbroot).any(|tree| trees::covers(tree, &host)) {
                let problem =
                    format!("expected {element} inside a DB Root, found {}", recorded.display());
                let object = self.root.resolve(Path::new(COLUMNSTORE_XML))?;
                return Err(Error::new(ErrorKind::Invalid, object.display().to_string(), problem));
            }
        }
        Ok(())
    }

    fn left_out(&self, all: &[SourceTree], datadir: &Path) -> Result<Vec<LeftOut>> {
        let mut left_out = Vec::new();
        let mut leave = |component: &str, path: &Path, reason: String| -> Result<()> {
            let host = self.root.resolve(path)?;
            if host.exists() && !all.iter().any(|tree| trees::covers(tree, &host)) {
                left_out.push(LeftOut { component: component.into(), path: path.into(), reason });
            }
            Ok(())
        };
        leave("config", Path::new(MODULE), "state of this host; its content is recorded".into())?;
        for (variable, kind) in [("ssl_ca", "certificate"), ("ssl_cert", "certificate")]
            .into_iter()
            .chain(KEY_FILE_VARIABLES)
        {
            if let Some(path) = credentials::key_file(&self.options, datadir, variable) {
                let reason = format!("{kind}, named by {variable}, outside the configuration");
                leave("config", &path, reason)?;
            }
        }
        for (element, path) in &self.xml.scratch {
            leave("temporary", path, format!("scratch files, named by {element}"))?;
        }
        for (number, path) in self.other_data_directories()? {
            let reason = "looks like a DB Root, but Columnstore.xml does not name it".into();
            leave(&format!("dbroot/{number}"), &path, reason)?;
        }
        for tree in all.iter().filter(|tree| tree.component != "config") {
            let and_below = tree.component == "datadir";
            left_out.extend(trees::pointed_at(&self.root, tree, and_below, all)?);
        }
        Ok(left_out)
    }

    /// Directories `data<number>` beside the DB Roots.
    fn other_data_directories(&self) -> Result<BTreeMap<u32, PathBuf>> {
        let mut found = BTreeMap::new();
        for parent in self.xml.dbroots.values().filter_map(|path| path.parent()) {
            let host = self.root.resolve(parent)?;
            if !host.is_dir() {
                continue;
            }
            for name in trees::names_in(&host)? {
                let digits = name.to_str().and_then(|name| name.strip_prefix("data"));
                let number = digits.and_then(|digits| digits.parse().ok());
                if let Some(number) = number.filter(|_| host.join(&name).is_dir()) {
                    found.insert(number, parent.join(name));
                }
            }
        }
        Ok(found)
    }

    fn facts(&self, datadir: &Path) -> Result<BTreeMap<String, String>> {
        let Configuration { root, xml, options, topology, .. } = self;
        let mut facts = BTreeMap::new();
        let mut fact = |name: &str, value: Option<String>| {
            facts.extend(value.map(|value| (name.to_owned(), value)));
        };
        fact("dbroot_count", Some(xml.dbroots.len().to_string()));
        for (number, path) in &xml.dbroots {
            fact(&format!("dbroot_{number}"), Some(path.display().to_string()));
        }
        for (module, dbroots) in &xml.module_dbroots {
            let dbroots: Vec<_> = dbroots.iter().map(u32::to_string).collect();
            fact(&format!("pm{module}_dbroots"), Some(dbroots.join(",")));
        }
        fact("system_name", xml.system_name.clone());
        fact("cluster_name", xml.cluster_name.clone());
        fact("config_revision", xml.config_revision.clone());
        fact("dbrm_root", xml.dbrm_root.as_ref().map(|path| path.display().to_string()));
        for (element, name) in [
            ("OIDBitmapFile", "oid_bitmap_file"),
            ("TableLockSaveFile", "table_lock_file"),
            ("TxnIDFile", "txn_id_file"),
        ] {
            let path = xml.system_files.iter().find(|(known, _)| *known == element);
            fact(name, path.map(|(_, path)| path.display().to_string()));
        }
        fact("version_buffer_size", xml.version_buffer_size.clone());
        fact("files_per_column_partition", Some(xml.files_per_column_partition.clone()));
        fact("extents_per_segment_file", Some(xml.extents_per_segment_file.clone()));
        fact("cross_engine_user", xml.cross_engine_user.clone());
        fact("storagemanager_enabled", Some(xml.storage_manager_enabled.to_string()));
        let topology = match topology {
            Topology::SharedLocal => "shared local storage",
            Topology::ObjectStorage => "object storage",
        };
        fact("topology", Some(topology.into()));
        if let Some(cnf) = &self.cnf {
            let path =
                |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
            fact("storagemanager_service", Some(cnf.service.clone()));
            fact("object_size", cnf.object_size_bytes.map(|bytes| bytes.to_string()));
            fact("common_prefix_depth", cnf.common_prefix_depth.clone());
            fact("metadata_path", path(&cnf.metadata_path));
            fact("journal_path", path(&cnf.journal_path));
            for (name, value) in [
                ("s3_bucket", &cnf.bucket),
                ("s3_endpoint", &cnf.endpoint),
                ("s3_prefix", &cnf.prefix),
                ("s3_region", &cnf.region),
            ] {
                fact(name, value.clone().filter(|_| cnf.is_s3()));
            }
        }
        fact("module", first_line(root, Path::new(MODULE))?);
        fact("datadir", Some(datadir.display().to_string()));
        for name in ["mariadb_upgrade_info", "mysql_upgrade_info"] {
            fact("mariadb_version", first_line(root, &datadir.join(name))?);
        }
        for name in SERVER_FACTS {
            fact(name, options.server(name).map(|value| String::from_utf8_lossy(value).into()));
        }
        Ok(facts)
    }
}

/// Reads storagemanager.cnf with the environment that its daemon gets from systemd; what is not
/// set there is looked for in the environment of this process.
fn read_storagemanager_cnf(root: &Root) -> Result<Option<StorageManagerCnf>> {
    let host = root.resolve(Path::new(STORAGEMANAGER_CNF))?;
    let Some(bytes) = read_optional(&host)? else { return Ok(None) };
    let environment_file = read_optional(&root.resolve(Path::new(SYSTEMD_ENV))?)?;
    let daemon = environment_of(&environment_file.unwrap_or_default());
    let environment =
        |name: &str| daemon.get(name.as_bytes()).cloned().or_else(|| std::env::var_os(name));
    config_storagemanager::read(&bytes, &host.display().to_string(), &environment).map(Some)
}

/// The variables of an environment file as systemd reads it, but for values over several lines.
/// A comment that looks like one has a name nobody asks for.
fn environment_of(bytes: &[u8]) -> BTreeMap<Vec<u8>, OsString> {
    let mut variables = BTreeMap::new();
    for line in bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
        let Some(at) = line.iter().position(|&byte| byte == b'=') else { continue };
        let value = match line[at + 1..].trim_ascii() {
            [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
            value => value,
        };
        variables.insert(line[..at].trim_ascii().to_vec(), OsString::from_vec(value.to_vec()));
    }
    variables
}

/// The first line of a file without the blanks around it; `None` without file or text.
fn first_line(root: &Root, named: &Path) -> Result<Option<String>> {
    let Some(bytes) = read_optional(&root.resolve(named)?)? else { return Ok(None) };
    let line = bytes.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default();
    let line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
    Ok(Some(line).filter(|line| !line.is_empty()))
}
