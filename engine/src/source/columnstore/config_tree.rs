//! The `config` component: the configuration files of a deployment, wherever below the root.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::config_mycnf::{MAIN_FILES, OptionFiles};
use super::config_xml::ColumnstoreXml;
use super::rooted::{Root, is_absent};
use super::trees::covers;
use crate::error::{Error, ErrorKind, Result};
use crate::pattern::escaped;
use crate::source::{LeaveOut, SourceTree};

pub(super) const COLUMNSTORE_DIRECTORY: &str = "/etc/columnstore";
pub(super) const COLUMNSTORE_XML: &str = "/etc/columnstore/Columnstore.xml";
pub(super) const STORAGEMANAGER_CNF: &str = "/etc/columnstore/storagemanager.cnf";
pub(super) const CMAPI_SERVER_CONF: &str = "/etc/columnstore/cmapi_server.conf";
pub(super) const SYSTEMD_ENV: &str = "/etc/columnstore/systemd.env";
/// The key of the encrypted passwords in Columnstore.xml; the one file of the configuration that
/// lies among the data.
pub(super) const SECRETS: &str = "/var/lib/columnstore/.secrets";

const OPTION_DIRECTORIES: [&str; 2] = ["/etc/my.cnf.d", "/etc/mysql"];
const SYSTEMD_UNITS: &str = "/etc/systemd/system";

/// Copies of Columnstore.xml that programs keep for themselves.
const COPIES: [&str; 3] = ["cmapi.save", "loadbrm", "source_backup"];

/// The paths of the `config` component while they are collected.
pub(super) struct ConfigPaths<'a> {
    root: &'a Root,
    /// Inside the root, without symbolic links on the way.
    paths: BTreeSet<PathBuf>,
    /// Optional files that were looked for and are not there, as the deployment names them.
    pub(super) missing: Vec<PathBuf>,
}

impl<'a> ConfigPaths<'a> {
    /// Collects every configuration file that exists, and the names of those that do not.
    pub(super) fn collect(
        root: &'a Root,
        xml: &ColumnstoreXml,
        options: &OptionFiles,
    ) -> Result<ConfigPaths<'a>> {
        let mut paths = ConfigPaths { root, paths: BTreeSet::new(), missing: Vec::new() };
        for directory in OPTION_DIRECTORIES.iter().chain(&[COLUMNSTORE_DIRECTORY]) {
            paths.take(Path::new(directory))?;
        }
        let optional = [STORAGEMANAGER_CNF, CMAPI_SERVER_CONF, SYSTEMD_ENV, SECRETS].map(Path::new);
        let tls_files = xml.tls_files.iter().map(|(_, path)| path.as_path());
        for wanted in [Path::new(COLUMNSTORE_XML)].into_iter().chain(optional).chain(tls_files) {
            if !paths.take(wanted)? {
                paths.missing.push(wanted.to_owned());
            }
        }
        // A main file that is a dangling link was not read, but the link is worth keeping.
        let main_files = MAIN_FILES.iter().map(Path::new);
        for file in main_files.chain(options.files.iter().map(PathBuf::as_path)) {
            paths.take(file)?;
        }
        paths.missing.extend(options.missing.iter().cloned());
        paths.take_drop_ins()?;
        Ok(paths)
    }

    /// Makes the component of what was collected. What one of the `others` holds anyway is not
    /// taken twice; only the key file is.
    pub(super) fn into_tree(self, others: &[SourceTree]) -> Result<SourceTree> {
        let secrets = self.root.follow(Path::new(SECRETS))?.inside;
        let mut select: Vec<PathBuf> = Vec::new();
        // In order, so that a directory comes before what is below it.
        for inside in &self.paths {
            let host = self.root.on_host(inside);
            let is_elsewhere = others.iter().any(|tree| covers(tree, &host));
            let is_below =
                select.iter().any(|taken| inside.starts_with(Path::new("/").join(taken)));
            if is_below || (is_elsewhere && *inside != secrets) {
                continue;
            }
            select
                .push(inside.strip_prefix("/").expect("paths inside the root are absolute").into());
        }
        Ok(SourceTree {
            component: "config".into(),
            base: self.root.host().to_owned(),
            recorded: "/".into(),
            select,
            leave_out: self.leave_out()?,
        })
    }

    fn leave_out(&self) -> Result<Vec<LeaveOut>> {
        let xml =
            self.root.follow(Path::new(COLUMNSTORE_DIRECTORY))?.inside.join("Columnstore.xml");
        let Some(xml) = xml.to_str().map(escaped) else { return Ok(Vec::new()) };
        let copy = |suffix: &&str| LeaveOut {
            glob: format!("{xml}.{suffix}"),
            reason: "a program's own copy of Columnstore.xml, state of this host".into(),
        };
        Ok(COPIES.iter().map(copy).collect())
    }

    /// Takes a path if it is there, and every symbolic link on the way; tells whether it is there.
    fn take(&mut self, named: &Path) -> Result<bool> {
        let resolved = self.root.follow(named)?;
        let host = self.root.on_host(&resolved.inside);
        if resolved.inside == Path::new("/") {
            let problem =
                "expected a part of the configuration, found a link to the root directory";
            return Err(Error::new(ErrorKind::Invalid, named.display().to_string(), problem));
        }
        self.paths.extend(resolved.links);
        match fs::symlink_metadata(&host) {
            Ok(_) => {
                self.paths.insert(resolved.inside);
                Ok(true)
            }
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(Error::io(&host, "look at", error)),
        }
    }

    fn take_drop_ins(&mut self) -> Result<()> {
        let units = self.root.resolve(Path::new(SYSTEMD_UNITS))?;
        if !units.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(&units).map_err(|error| Error::io(&units, "list", error))? {
            let name = entry.map_err(|error| Error::io(&units, "list", error))?.file_name();
            if name.to_str().is_some_and(is_drop_in) {
                self.take(&Path::new(SYSTEMD_UNITS).join(name))?;
            }
        }
        Ok(())
    }
}

/// Whether the name is that of a drop-in directory of one of the deployment's services.
fn is_drop_in(name: &str) -> bool {
    let Some(service) = name.strip_suffix(".service.d") else { return false };
    service == "mariadb"
        || service.starts_with("mcs-")
        || service.starts_with("mariadb@")
        || service.starts_with("mariadb-columnstore")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_drop_ins_of_the_deployment_are_taken() {
        for (name, taken) in [
            ("mcs-controllernode.service.d", true),
            ("mcs-workernode@.service.d", true),
            ("mariadb.service.d", true),
            ("mariadb-columnstore-cmapi.service.d", true),
            ("mariadb.service", false),
            ("mcs-primproc.service", false),
            ("sshd.service.d", false),
            ("mariadbsomething.service.d", false),
        ] {
            assert_eq!(is_drop_in(name), taken, "{name}");
        }
    }
}
