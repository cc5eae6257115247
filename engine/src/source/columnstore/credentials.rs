//! Which secrets a backup of the deployment holds, and where. Their values are never kept.

use std::path::{Path, PathBuf};

use super::config_mycnf::{self, OptionFiles};
use super::config_storagemanager::StorageManagerCnf;
use super::config_tree::{CMAPI_SERVER_CONF, COLUMNSTORE_XML, SECRETS, STORAGEMANAGER_CNF};
use super::config_xml::ColumnstoreXml;
use super::rooted::{Root, read_optional};
use super::trees::{covers, names_in};
use crate::error::Result;
use crate::source::SourceTree;

/// Written by Debian's package; read by its maintenance scripts, not by the server.
const DEBIAN_CNF: &str = "/etc/mysql/debian.cnf";

/// Variables that name files of keys, and what is in the file.
pub(super) const KEY_FILE_VARIABLES: [(&str, &str); 3] = [
    ("ssl_key", "private key"),
    ("file_key_management_filename", "keys of the encryption at rest"),
    ("file_key_management_filekey", "password of the keys of the encryption at rest"),
];

/// A secret in a file that is backed up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credential {
    /// The component the file is in.
    pub component: String,
    /// The file, as the deployment names it.
    pub path: PathBuf,
    /// What is in it: "x-api-key", "S3 secret key", "private key" and the like.
    pub kind: String,
}

/// Finds the credentials in `trees`; sorted, without repetition.
pub(super) fn find(
    root: &Root,
    xml: &ColumnstoreXml,
    cnf: Option<&StorageManagerCnf>,
    options: &OptionFiles,
    trees: &[SourceTree],
) -> Result<Vec<Credential>> {
    let mut held: Vec<(PathBuf, &str)> = Vec::new();
    if xml.has_cross_engine_password {
        held.push((COLUMNSTORE_XML.into(), "CrossEngineSupport password"));
    }
    if cnf.is_some_and(|cnf| cnf.has_secret_key) {
        held.push((STORAGEMANAGER_CNF.into(), "S3 secret key"));
    }
    if file_says(root, CMAPI_SERVER_CONF, has_api_key)? {
        held.push((CMAPI_SERVER_CONF.into(), "x-api-key"));
    }
    if file_says(root, DEBIAN_CNF, |bytes| config_mycnf::sets(bytes, "password"))? {
        held.push((DEBIAN_CNF.into(), "client password"));
    }
    held.push((SECRETS.into(), "password key (.secrets)"));
    let tls_keys = xml.tls_files.iter().filter(|(element, _)| *element == "TLSClientKey");
    held.extend(tls_keys.map(|(_, path)| (path.clone(), "private key")));
    held.extend(in_option_files(options));
    held.extend(in_datadir(trees)?);
    let mut credentials = Vec::new();
    for (path, kind) in held {
        let host = root.resolve(&path)?;
        let tree = trees.iter().find(|tree| covers(tree, &host));
        if let Some(tree) = tree.filter(|_| host.is_file()) {
            let component = tree.component.clone();
            credentials.push(Credential { component, path, kind: kind.into() });
        }
    }
    credentials.sort();
    credentials.dedup();
    Ok(credentials)
}

/// Returns the file that a key file variable names; `None` if it is not set.
pub(super) fn key_file(options: &OptionFiles, datadir: &Path, variable: &str) -> Option<PathBuf> {
    let named = options.server_path(variable)?;
    // The password may stand in the option file itself; only `FILE:` makes it a path.
    if variable == "file_key_management_filekey" {
        let path = named.to_str()?.strip_prefix("FILE:")?;
        return Some(datadir.join(path));
    }
    Some(datadir.join(named))
}

fn in_option_files(options: &OptionFiles) -> Vec<(PathBuf, &'static str)> {
    let mut held = Vec::new();
    for setting in options.settings.iter().filter(|setting| !setting.value.is_empty()) {
        let kind = match setting.name.as_str() {
            "password" => "client password",
            "wsrep_sst_auth" => "state transfer password",
            "file_key_management_filekey" if !setting.value.starts_with(b"FILE:") => {
                "password of the keys of the encryption at rest"
            }
            _ => continue,
        };
        held.push((setting.file.clone(), kind));
    }
    let datadir = super::trees::datadir_path(options);
    for (variable, kind) in KEY_FILE_VARIABLES {
        held.extend(key_file(options, &datadir, variable).map(|path| (path, kind)));
    }
    held
}

fn in_datadir(trees: &[SourceTree]) -> Result<Vec<(PathBuf, &'static str)>> {
    let Some(datadir) = trees.iter().find(|tree| tree.component == "datadir") else {
        return Ok(Vec::new());
    };
    let accounts = datadir.recorded.join("mysql/global_priv.MAD");
    let mut held = vec![(accounts, "password hashes of accounts")];
    for name in names_in(&datadir.base)? {
        let text = name.to_string_lossy();
        if text == "master.info" || (text.starts_with("master-") && text.ends_with(".info")) {
            held.push((datadir.recorded.join(&name), "replication password"));
        }
    }
    Ok(held)
}

fn file_says(root: &Root, named: &str, says: impl Fn(&[u8]) -> bool) -> Result<bool> {
    let bytes = read_optional(&root.resolve(Path::new(named))?)?;
    Ok(bytes.is_some_and(|bytes| says(&bytes)))
}

/// Whether cmapi_server.conf holds an API key. The key stands in quotes, at times in two pairs.
fn has_api_key(bytes: &[u8]) -> bool {
    bytes.split(|&byte| byte == b'\n').any(|line| {
        let Some(at) = line.iter().position(|&byte| byte == b'=' || byte == b':') else {
            return false;
        };
        let is_quote_or_blank = |byte: &u8| b"'\"".contains(byte) || byte.is_ascii_whitespace();
        line[..at].trim_ascii().eq_ignore_ascii_case(b"x-api-key")
            && !line[at + 1..].iter().all(is_quote_or_blank)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_key_is_found_in_any_quotes() {
        for (line, found) in [
            ("x-api-key = \"'somekey123'\"", true),
            ("x-api-key='k'", true),
            ("  X-API-Key: k\r", true),
            ("x-api-key = k", true),
            ("x-api-key = \"\"", false),
            ("x-api-key = \"''\"\r", false),
            ("x-api-key =", false),
            ("x-api-key", false),
            ("# x-api-key = k", false),
            ("max-x-api-key = k", false),
        ] {
            let text = format!("[Authentication]\n{line}\n[global]\nlog = x\n");
            assert_eq!(has_api_key(text.as_bytes()), found, "{line}");
        }
    }
}
