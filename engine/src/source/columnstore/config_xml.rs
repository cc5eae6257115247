//! What a backup needs from Columnstore.xml.

use std::collections::BTreeMap;
use std::path::PathBuf;

use roxmltree::{Document, Node};

use crate::error::{Error, ErrorKind, Result};

/// What ColumnStore takes when the element is missing (`oam/etc/Columnstore.xml`).
const FILES_PER_COLUMN_PARTITION_DEFAULT: &str = "4";
const EXTENTS_PER_SEGMENT_FILE_DEFAULT: &str = "2";

/// The parts of Columnstore.xml that say where data is and what a restore must match.
///
/// Elements that are missing, empty or "unassigned" are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnstoreXml {
    pub(super) system_name: Option<String>,
    pub(super) cluster_name: Option<String>,
    pub(super) config_revision: Option<String>,
    pub(super) dbroot_count: Option<String>,
    /// DB Root paths by number; never empty, numbers may have holes, no path twice.
    pub(super) dbroots: BTreeMap<u32, PathBuf>,
    pub(super) dbrm_root: Option<PathBuf>,
    /// Files that must lie in a DB Root to be in the backup, with the element that names each.
    pub(super) system_files: Vec<(&'static str, PathBuf)>,
    /// Directories of scratch files, with the element that names each.
    pub(super) scratch: Vec<(&'static str, PathBuf)>,
    pub(super) version_buffer_size: Option<String>,
    /// The first object id of users' tables, as it stands there.
    pub(super) first_oid: Option<String>,
    pub(super) files_per_column_partition: String,
    pub(super) extents_per_segment_file: String,
    pub(super) storage_manager_enabled: bool,
    pub(super) cross_engine_user: Option<String>,
    pub(super) has_cross_engine_password: bool,
    /// TLS files of CrossEngineSupport, with the element that names each.
    pub(super) tls_files: Vec<(&'static str, PathBuf)>,
    /// DB Root numbers of each performance module, as configured.
    pub(super) module_dbroots: BTreeMap<u32, Vec<u32>>,
    pub(super) notes: Vec<String>,
}

/// Reads Columnstore.xml; `object` names it in errors.
///
/// Errors: [`ErrorKind::Invalid`] if it is not well-formed XML in UTF-8, names no DB Root, or
/// names DB Roots that contradict each other.
pub(super) fn read(bytes: &[u8], object: &str) -> Result<ColumnstoreXml> {
    let invalid = |problem: String| Error::new(ErrorKind::Invalid, object, problem);
    let text = std::str::from_utf8(bytes)
        .map_err(|error| invalid("expected XML in UTF-8".into()).caused_by(error))?;
    let document = Document::parse(text)
        .map_err(|error| invalid("expected well-formed XML".into()).caused_by(error))?;
    let top = document.root_element();

    let dbroots = dbroots(top).map_err(invalid)?;
    let dbroot_count = value(top, &["SystemConfig", "DBRootCount"]);
    let mut notes = Vec::new();
    if dbroot_count.as_ref().and_then(|count| count.parse().ok()) != Some(dbroots.len()) {
        let count = dbroot_count.as_deref().unwrap_or("missing");
        let numbers: Vec<_> = dbroots.keys().map(u32::to_string).collect();
        notes.push(format!(
            "Columnstore.xml: DBRootCount is {count}, but these DB Roots are named: {}",
            numbers.join(", ")
        ));
    }
    let dbrm_root = value(top, &["SystemConfig", "DBRMRoot"]).map(PathBuf::from);
    Ok(ColumnstoreXml {
        system_name: value(top, &["SystemConfig", "SystemName"]),
        cluster_name: value(top, &["ClusterName"]),
        config_revision: value(top, &["ConfigRevision"]),
        dbroot_count,
        dbroots,
        system_files: paths(
            top,
            &[
                ("DBRMRoot", &["SystemConfig", "DBRMRoot"]),
                ("TableLockSaveFile", &["SystemConfig", "TableLockSaveFile"]),
                ("TxnIDFile", &["SessionManager", "TxnIDFile"]),
                ("OIDBitmapFile", &["OIDManager", "OIDBitmapFile"]),
            ],
        ),
        dbrm_root,
        scratch: paths(
            top,
            &[
                ("SystemTempFileDir", &["SystemConfig", "SystemTempFileDir"]),
                ("BulkRoot", &["WriteEngine", "BulkRoot"]),
            ],
        ),
        version_buffer_size: value(top, &["VersionBuffer", "VersionBufferFileSize"]),
        first_oid: value(top, &["OIDManager", "FirstOID"]),
        files_per_column_partition: value(top, &["ExtentMap", "FilesPerColumnPartition"])
            .unwrap_or_else(|| FILES_PER_COLUMN_PARTITION_DEFAULT.into()),
        extents_per_segment_file: value(top, &["ExtentMap", "ExtentsPerSegmentFile"])
            .unwrap_or_else(|| EXTENTS_PER_SEGMENT_FILE_DEFAULT.into()),
        storage_manager_enabled: value(top, &["StorageManager", "Enabled"])
            .is_some_and(|enabled| enabled.eq_ignore_ascii_case("y")),
        cross_engine_user: value(top, &["CrossEngineSupport", "User"]),
        has_cross_engine_password: value(top, &["CrossEngineSupport", "Password"]).is_some(),
        tls_files: paths(
            top,
            &[
                ("TLSCA", &["CrossEngineSupport", "TLSCA"]),
                ("TLSClientCert", &["CrossEngineSupport", "TLSClientCert"]),
                ("TLSClientKey", &["CrossEngineSupport", "TLSClientKey"]),
            ],
        ),
        module_dbroots: module_dbroots(top),
        notes,
    })
}

/// Every element `DBRoot<number>` below SystemConfig; the problem as text if they contradict.
fn dbroots(top: Node<'_, '_>) -> Result<BTreeMap<u32, PathBuf>, String> {
    let mut found: BTreeMap<u32, PathBuf> = BTreeMap::new();
    for element in elements(top, "SystemConfig").flat_map(|section| section.children()) {
        let name = element.tag_name().name();
        let Some(digits) = name.strip_prefix("DBRoot").filter(|rest| is_number(rest)) else {
            continue;
        };
        let Some(text) = text_of(element) else { continue };
        let number: u32 = digits
            .parse()
            .map_err(|_| format!("expected a DB Root number of at most 32 bits, found {name}"))?;
        let path = PathBuf::from(&text);
        if !path.is_absolute() {
            return Err(format!("expected an absolute path in {name}, found {text}"));
        }
        if let Some((other, _)) = found.iter().find(|(_, other)| **other == path) {
            let both = if *other == number {
                format!("DBRoot{number} twice")
            } else {
                format!("DBRoot{other} and DBRoot{number} at the same path")
            };
            return Err(format!("expected a path for each DB Root, found {both}: {text}"));
        }
        if let Some(first) = found.insert(number, path) {
            let first = first.display();
            return Err(format!("expected DBRoot{number} once, found {first} and {text}"));
        }
    }
    if found.is_empty() {
        return Err("expected at least one DBRootN in SystemConfig, found none".into());
    }
    Ok(found)
}

/// Reads `ModuleDBRootID<module>-<position>-3`; 3 is the module type of performance modules.
fn module_dbroots(top: Node<'_, '_>) -> BTreeMap<u32, Vec<u32>> {
    let mut modules: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for element in elements(top, "SystemModuleConfig").flat_map(|section| section.children()) {
        let Some(rest) = element.tag_name().name().strip_prefix("ModuleDBRootID") else { continue };
        let mut parts = rest.split('-');
        let (module, _, kind) = (parts.next(), parts.next(), parts.next());
        let Some(module) = module.and_then(|module| module.parse().ok()) else { continue };
        let dbroot = text_of(element).and_then(|dbroot| dbroot.parse().ok());
        if let (Some("3"), Some(dbroot)) = (kind, dbroot) {
            modules.entry(module).or_default().push(dbroot);
        }
    }
    modules
}

fn paths(top: Node<'_, '_>, wanted: &[(&'static str, &[&str])]) -> Vec<(&'static str, PathBuf)> {
    let path = |(name, place): &(_, &[&str])| Some((*name, PathBuf::from(value(top, place)?)));
    wanted.iter().filter_map(path).collect()
}

/// The text at `place` below `top`; the first one that says something.
fn value(top: Node<'_, '_>, place: &[&str]) -> Option<String> {
    let (last, way) = place.split_last()?;
    let section = way.iter().try_fold(top, |node, name| elements(node, name).next())?;
    elements(section, last).find_map(text_of)
}

fn elements<'a, 'input>(
    parent: Node<'a, 'input>,
    name: &'a str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    parent.children().filter(move |node| node.is_element() && node.tag_name().name() == name)
}

/// The element's own text without the comments in it; `None` if empty or "unassigned".
fn text_of(element: Node<'_, '_>) -> Option<String> {
    let text: String =
        element.children().filter(Node::is_text).filter_map(|node| node.text()).collect();
    let text = text.trim();
    (!text.is_empty() && !text.eq_ignore_ascii_case("unassigned")).then(|| text.to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r#"<?xml version="1.0"?>
<Columnstore Version="V1.0.0">
  <SystemConfig>
    <SystemName>columnstore-1</SystemName>
    <!-- Warning: Do not change this value once database is built -->
    <DBRootCount>3</DBRootCount>
    <DBRoot1>/var/lib/columnstore/data1</DBRoot1>
    <DBRoot2>unassigned</DBRoot2>
    <DBRoot3> /var/lib/columnstore/<!-- moved -->data3/ </DBRoot3>
    <DBRoot12>/mnt/data12</DBRoot12>
    <DBRoot1PreallocSpace>ON</DBRoot1PreallocSpace>
    <DBRMRoot>/var/lib/columnstore/data1/systemFiles/dbrm/BRM_saves</DBRMRoot>
  </SystemConfig>
  <SystemModuleConfig>
    <ModuleDBRootID1-1-2>unassigned</ModuleDBRootID1-1-2>
    <ModuleDBRootID1-1-3>1</ModuleDBRootID1-1-3>
    <ModuleDBRootID1-2-3>12</ModuleDBRootID1-2-3>
    <ModuleDBRootID2-1-3>3</ModuleDBRootID2-1-3>
  </SystemModuleConfig>
  <OIDManager><OIDBitmapFile>/var/lib/columnstore/data1/oidbitmap</OIDBitmapFile></OIDManager>
  <VersionBuffer><VersionBufferFileSize>1GB</VersionBufferFileSize></VersionBuffer>
  <ExtentMap><FilesPerColumnPartition>8</FilesPerColumnPartition></ExtentMap>
  <CrossEngineSupport>
    <User>cross</User><Password/><TLSCA/><TLSClientKey>/etc/tls/key.pem</TLSClientKey>
  </CrossEngineSupport>
  <StorageManager><Enabled>N</Enabled></StorageManager>
  <DataRedundancyConfig><DBRoot7>/not/a/root</DBRoot7></DataRedundancyConfig>
  <ConfigRevision>17</ConfigRevision>
</Columnstore>"#;

    fn dbroots_only(dbroots: &str) -> Result<ColumnstoreXml> {
        let xml = format!("<Columnstore><SystemConfig>{dbroots}</SystemConfig></Columnstore>");
        read(xml.as_bytes(), "Columnstore.xml")
    }

    #[test]
    fn db_roots_with_holes_in_the_numbering_are_all_found() {
        let xml = read(XML.as_bytes(), "Columnstore.xml").unwrap();
        let found: Vec<_> =
            xml.dbroots.iter().map(|(number, path)| (*number, path.to_str().unwrap())).collect();
        assert_eq!(
            found,
            [
                (1, "/var/lib/columnstore/data1"),
                (3, "/var/lib/columnstore/data3/"),
                (12, "/mnt/data12")
            ]
        );
        assert_eq!(xml.notes, [] as [String; 0]);
    }

    #[test]
    fn the_values_a_restore_must_match_are_read() {
        let xml = read(XML.as_bytes(), "Columnstore.xml").unwrap();
        assert_eq!(xml.system_name.as_deref(), Some("columnstore-1"));
        assert_eq!(xml.cluster_name, None);
        assert_eq!(xml.config_revision.as_deref(), Some("17"));
        assert_eq!(xml.files_per_column_partition, "8");
        assert_eq!(xml.extents_per_segment_file, "2");
        assert_eq!(xml.version_buffer_size.as_deref(), Some("1GB"));
        assert_eq!(xml.module_dbroots, BTreeMap::from([(1, vec![1, 12]), (2, vec![3])]));
        assert!(!xml.storage_manager_enabled);
        let system_files: Vec<_> = xml.system_files.iter().map(|(name, _)| *name).collect();
        assert_eq!(system_files, ["DBRMRoot", "OIDBitmapFile"]);
    }

    #[test]
    fn cross_engine_support_tells_of_a_password_without_keeping_it() {
        let xml = read(XML.as_bytes(), "Columnstore.xml").unwrap();
        assert_eq!(xml.cross_engine_user.as_deref(), Some("cross"));
        assert!(!xml.has_cross_engine_password);
        assert_eq!(xml.tls_files, [("TLSClientKey", PathBuf::from("/etc/tls/key.pem"))]);

        let with_password = XML.replace("<Password/>", "<Password>hunter2</Password>");
        let xml = read(with_password.as_bytes(), "Columnstore.xml").unwrap();
        assert!(xml.has_cross_engine_password);
        assert!(!format!("{xml:?}").contains("hunter2"));
    }

    #[test]
    fn a_count_that_disagrees_is_noted() {
        let xml = read(XML.replace("Count>3<", "Count>2<").as_bytes(), "x").unwrap();
        assert_eq!(
            xml.notes,
            ["Columnstore.xml: DBRootCount is 2, but these DB Roots are named: 1, 3, 12"]
        );
        let xml = dbroots_only("<DBRoot1>/a</DBRoot1>").unwrap();
        assert!(xml.notes[0].contains("missing"), "{:?}", xml.notes);
    }

    #[test]
    fn the_storage_manager_is_enabled_by_y() {
        let xml = XML.replace("<Enabled>N<", "<Enabled> y <");
        assert!(read(xml.as_bytes(), "x").unwrap().storage_manager_enabled);
    }

    #[test]
    fn db_roots_that_contradict_each_other_are_errors() {
        for (dbroots, expected) in [
            ("", "found none"),
            ("<DBRoot1/><DBRoot2>Unassigned</DBRoot2>", "found none"),
            ("<DBRoot1>/a</DBRoot1><DBRoot1>/b</DBRoot1>", "DBRoot1 once, found /a and /b"),
            ("<DBRoot1>/a</DBRoot1><DBRoot01>/b</DBRoot01>", "DBRoot1 once, found /a and /b"),
            ("<DBRoot1>/a</DBRoot1><DBRoot1>/a</DBRoot1>", "DBRoot1 twice: /a"),
            ("<DBRoot1>/a</DBRoot1><DBRoot2>/a/</DBRoot2>", "DBRoot1 and DBRoot2 at the same"),
            ("<DBRoot1>data1</DBRoot1>", "absolute path in DBRoot1, found data1"),
            ("<DBRoot99999999999>/a</DBRoot99999999999>", "found DBRoot99999999999"),
        ] {
            let error = dbroots_only(dbroots).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(expected), "{dbroots}: {error}");
        }
    }

    #[test]
    fn bytes_that_are_no_xml_are_an_error_and_no_panic() {
        let deep = "<a>".repeat(200_000);
        let not_utf8 = [XML.as_bytes(), b"<a>\xff</a>"].concat();
        let bombs: [&[u8]; 7] = [
            b"",
            b"\0",
            b"<Columnstore>",
            b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            b"\xef\xbb\xbf",
            deep.as_bytes(),
            &not_utf8,
        ];
        for bytes in bombs {
            assert_eq!(read(bytes, "x").unwrap_err().kind(), ErrorKind::Invalid);
        }
        for length in 0..XML.len() - 1 {
            assert!(read(&XML.as_bytes()[..length], "x").is_err(), "cut at {length}");
        }
    }
}
