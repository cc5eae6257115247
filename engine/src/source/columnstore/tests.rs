//! Discovery on small deployments made for each test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Credential, Deployment, Topology, discover};
use crate::error::{Error, ErrorKind};
use crate::source::SourceTree;

const CNF: &str = "\
[ObjectStorage]
service = LocalStorage
object_size = 5M
metadata_path = /var/lib/columnstore/storagemanager/metadata
journal_path = /var/lib/columnstore/storagemanager/journal
common_prefix_depth = 3
[LocalStorage]
path = /var/lib/columnstore/storagemanager/fake-cloud
[Cache]
path = /var/lib/columnstore/storagemanager/cache
";

/// A deployment below a temporary root, with DB Root 1 and a data directory.
struct Sample {
    directory: tempfile::TempDir,
}

impl Sample {
    fn new() -> Sample {
        let sample = Sample { directory: tempfile::tempdir().unwrap() };
        sample.columnstore_xml("<DBRoot1>/var/lib/columnstore/data1</DBRoot1>", "");
        sample.file("etc/columnstore/storagemanager.cnf", CNF);
        sample.file("etc/my.cnf", "[mariadbd]\ndatadir=/var/lib/mysql\n");
        sample.file("var/lib/columnstore/data1/systemFiles/dbrm/BRM_saves_em", "em");
        sample.file("var/lib/columnstore/local/module", "pm1\n");
        sample.directory("var/lib/columnstore/storagemanager");
        sample.file("var/lib/mysql/ibdata1", "innodb");
        sample
    }

    /// Writes Columnstore.xml with these DB Roots; `more` comes after SystemConfig.
    fn columnstore_xml(&self, dbroots: &str, more: &str) {
        let count = dbroots.matches("</DBRoot").count();
        let xml = format!(
            "<?xml version=\"1.0\"?>\n<Columnstore Version=\"V1.0.0\">\n<SystemConfig>\
             <SystemName>columnstore-1</SystemName><DBRootCount>{count}</DBRootCount>{dbroots}\
             <DBRMRoot>/var/lib/columnstore/data1/systemFiles/dbrm/BRM_saves</DBRMRoot>\
             </SystemConfig>{more}</Columnstore>\n"
        );
        self.file("etc/columnstore/Columnstore.xml", &xml);
    }

    fn host(&self, path: &str) -> PathBuf {
        fs::canonicalize(self.directory.path()).unwrap().join(path)
    }

    fn file(&self, path: &str, content: &str) {
        fs::create_dir_all(self.host(path).parent().unwrap()).unwrap();
        fs::write(self.host(path), content).unwrap();
    }

    fn directory(&self, path: &str) {
        fs::create_dir_all(self.host(path)).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        fs::create_dir_all(self.host(path).parent().unwrap()).unwrap();
        symlink(target, self.host(path)).unwrap();
    }

    fn remove(&self, path: &str) {
        let host = self.host(path);
        if host.is_dir() { fs::remove_dir_all(host) } else { fs::remove_file(host) }.unwrap();
    }

    fn discover(&self) -> Deployment {
        discover(self.directory.path()).unwrap()
    }

    #[track_caller]
    fn error(&self, kind: ErrorKind, parts: &[&str]) -> Error {
        let error = discover(self.directory.path()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part} is not in: {error}");
        }
        error
    }
}

fn components(deployment: &Deployment) -> Vec<&str> {
    deployment.trees.iter().map(|tree| tree.component.as_str()).collect()
}

fn tree<'a>(deployment: &'a Deployment, component: &str) -> &'a SourceTree {
    deployment.trees.iter().find(|tree| tree.component == component).unwrap()
}

fn selected<'a>(deployment: &'a Deployment, component: &str) -> Vec<&'a str> {
    let tree = tree(deployment, component);
    tree.select.iter().map(|path| path.to_str().unwrap()).collect()
}

fn globs<'a>(deployment: &'a Deployment, component: &str) -> Vec<&'a str> {
    tree(deployment, component).leave_out.iter().map(|rule| rule.glob.as_str()).collect()
}

fn left_out(deployment: &Deployment) -> Vec<(&str, &str)> {
    deployment
        .left_out
        .iter()
        .map(|left| (left.component.as_str(), left.path.to_str().unwrap()))
        .collect()
}

#[test]
fn an_ordinary_deployment_is_found_whole() {
    let sample = Sample::new();
    let deployment = sample.discover();
    assert_eq!(deployment.root, sample.host(""));
    assert_eq!(deployment.topology, Topology::SharedLocal);
    assert_eq!(deployment.name, "columnstore-1");
    assert_eq!(components(&deployment), ["config", "datadir", "dbroot/1", "storagemanager"]);
    assert_eq!(selected(&deployment, "config"), ["etc/columnstore", "etc/my.cnf"]);
    assert_eq!(selected(&deployment, "dbroot/1"), [""]);

    let dbroot = tree(&deployment, "dbroot/1");
    assert_eq!(dbroot.base, sample.host("var/lib/columnstore/data1"));
    assert_eq!(dbroot.recorded, Path::new("/var/lib/columnstore/data1"));
    assert_eq!(tree(&deployment, "config").recorded, Path::new("/"));
    assert_eq!(globs(&deployment, "dbroot/1"), ["/dbroot*-lock", "/lost+found"]);
    assert_eq!(
        globs(&deployment, "config"),
        ["cmapi.save", "loadbrm", "source_backup"]
            .map(|suffix| format!("/etc/columnstore/Columnstore.xml.{suffix}"))
    );
    assert_eq!(
        globs(&deployment, "storagemanager"),
        ["/storagemanager-lock", "/cache/*", "/fake-cloud/*"]
    );
    assert!(globs(&deployment, "datadir").contains(&"/ibtmp1"));
    assert_eq!(left_out(&deployment), [("config", "/var/lib/columnstore/local/module")]);
    assert_eq!(deployment.credentials, []);
    assert_eq!(deployment.notes, [] as [String; 0]);
    let missing: Vec<_> = deployment.missing_optional.iter().map(|p| p.to_str().unwrap()).collect();
    assert_eq!(
        missing,
        [
            "/etc/columnstore/cmapi_server.conf",
            "/etc/columnstore/systemd.env",
            "/var/lib/columnstore/.secrets"
        ]
    );
}

#[test]
fn facts_tell_what_a_restore_must_match() {
    let sample = Sample::new();
    sample.file("var/lib/mysql/mysql_upgrade_info", "10.11.18-MariaDB\n");
    sample.columnstore_xml(
        "<DBRoot1>/var/lib/columnstore/data1</DBRoot1>",
        "<ExtentMap><FilesPerColumnPartition>8</FilesPerColumnPartition></ExtentMap>\
         <SystemModuleConfig><ModuleDBRootID1-1-3>1</ModuleDBRootID1-1-3></SystemModuleConfig>\
         <ConfigRevision>5</ConfigRevision>",
    );
    let facts = sample.discover().facts;
    for (name, value) in [
        ("dbroot_count", "1"),
        ("dbroot_1", "/var/lib/columnstore/data1"),
        ("pm1_dbroots", "1"),
        ("object_size", "5242880"),
        ("common_prefix_depth", "3"),
        ("files_per_column_partition", "8"),
        ("extents_per_segment_file", "2"),
        ("dbrm_root", "/var/lib/columnstore/data1/systemFiles/dbrm/BRM_saves"),
        ("module", "pm1"),
        ("system_name", "columnstore-1"),
        ("config_revision", "5"),
        ("storagemanager_service", "LocalStorage"),
        ("datadir", "/var/lib/mysql"),
        ("mariadb_version", "10.11.18-MariaDB"),
    ] {
        assert_eq!(facts.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn db_roots_come_in_the_order_of_their_numbers_and_may_be_links() {
    let sample = Sample::new();
    sample.columnstore_xml(
        "<DBRoot12>/var/lib/columnstore/data12/</DBRoot12>\
         <DBRoot1>/var/lib/columnstore/data1</DBRoot1>\
         <DBRoot3>/var/lib/columnstore/data3</DBRoot3>",
        "",
    );
    sample.file("mnt/disk3/dbroot3-lock", "");
    sample.link("var/lib/columnstore/data3", "/mnt/disk3");
    sample.file("var/lib/columnstore/data12/versionbuffer.cdf", "");
    let deployment = sample.discover();
    assert_eq!(
        components(&deployment),
        ["config", "datadir", "dbroot/1", "dbroot/3", "dbroot/12", "storagemanager"]
    );
    let third = tree(&deployment, "dbroot/3");
    assert_eq!(third.base, sample.host("mnt/disk3"));
    assert_eq!(third.recorded, Path::new("/var/lib/columnstore/data3"));
    let twelfth = tree(&deployment, "dbroot/12").recorded.to_str();
    assert_eq!(twelfth, Some("/var/lib/columnstore/data12"));
    assert_eq!(deployment.notes.len(), 1);
    assert!(deployment.notes[0].contains("DB Root 3 is at /mnt/disk3"), "{:?}", deployment.notes);
}

#[test]
fn a_deployment_without_its_configuration_is_an_error() {
    let sample = Sample::new();
    sample.file("etc/columnstore/Columnstore.xml", "<Columnstore>");
    sample.error(ErrorKind::Invalid, &["expected well-formed XML"]);
    sample.remove("etc/columnstore/Columnstore.xml");
    let host = sample.host("etc/columnstore/Columnstore.xml");
    sample.error(ErrorKind::NotFound, &[host.to_str().unwrap(), "found nothing"]);
}

#[test]
fn a_missing_db_root_is_an_error_that_names_it() {
    let sample = Sample::new();
    sample.columnstore_xml(
        "<DBRoot1>/var/lib/columnstore/data1</DBRoot1><DBRoot2>/mnt/data2</DBRoot2>",
        "",
    );
    let host = sample.host("mnt/data2");
    let (host, nothing) = (host.to_str().unwrap(), "found nothing");
    sample.error(ErrorKind::NotFound, &["DB Root 2, /mnt/data2", host, nothing]);
    sample.file("mnt/data2", "");
    sample.error(ErrorKind::Invalid, &["DB Root 2, /mnt/data2", host, "found a file"]);
}

#[test]
fn an_empty_db_root_is_an_error() {
    let sample = Sample::new();
    sample.columnstore_xml(
        "<DBRoot1>/var/lib/columnstore/data1</DBRoot1><DBRoot2>/mnt/data2</DBRoot2>",
        "",
    );
    sample.directory("mnt/data2");
    sample.error(ErrorKind::Invalid, &["DB Root 2, /mnt/data2", "found an empty directory"]);
    sample.directory("mnt/data2/lost+found");
    sample.error(ErrorKind::Invalid, &["found an empty directory"]);
    sample.file("mnt/data2/dbroot2-lock", "");
    sample.discover();
}

#[test]
fn a_missing_data_directory_is_an_error() {
    let sample = Sample::new();
    sample.file("etc/my.cnf", "[mysqld]\ndatadir=/srv/mysql\n");
    let host = sample.host("srv/mysql");
    sample.error(ErrorKind::NotFound, &["data directory", "/srv/mysql", host.to_str().unwrap()]);
    sample.remove("etc/my.cnf");
    assert_eq!(sample.discover().facts["datadir"], "/var/lib/mysql");
}

#[test]
fn storagemanager_cnf_may_be_missing_unless_it_is_needed() {
    let sample = Sample::new();
    sample.remove("etc/columnstore/storagemanager.cnf");
    let deployment = sample.discover();
    assert_eq!(deployment.topology, Topology::SharedLocal);
    let cnf = PathBuf::from("/etc/columnstore/storagemanager.cnf");
    assert!(deployment.missing_optional.contains(&cnf));
    assert!(deployment.notes[0].contains("storagemanager.cnf is missing"));

    sample.columnstore_xml(
        "<DBRoot1>/var/lib/columnstore/data1</DBRoot1>",
        "<StorageManager><Enabled>Y</Enabled></StorageManager>",
    );
    sample.error(ErrorKind::NotFound, &["storagemanager.cnf", "Storage Manager is enabled"]);
}

#[test]
fn object_storage_is_recognised_either_way() {
    let sample = Sample::new();
    sample.file("etc/columnstore/storagemanager.cnf", &CNF.replace("= LocalStorage", "= s3"));
    assert_eq!(sample.discover().topology, Topology::ObjectStorage);

    sample.file("etc/columnstore/storagemanager.cnf", CNF);
    assert_eq!(sample.discover().topology, Topology::SharedLocal);
    sample.columnstore_xml(
        "<DBRoot1>/var/lib/columnstore/data1</DBRoot1>",
        "<StorageManager><Enabled>Y</Enabled></StorageManager>",
    );
    let deployment = sample.discover();
    assert_eq!(deployment.topology, Topology::ObjectStorage);
    // The service in use keeps its objects there.
    assert!(!globs(&deployment, "storagemanager").contains(&"/fake-cloud/*"));
}

#[test]
fn with_object_storage_missing_directories_are_notes() {
    let sample = Sample::new();
    sample.file("etc/columnstore/storagemanager.cnf", &CNF.replace("= LocalStorage", "= S3"));
    sample.remove("var/lib/columnstore/data1");
    sample.remove("var/lib/mysql");
    let deployment = sample.discover();
    assert_eq!(components(&deployment), ["config", "storagemanager"]);
    assert_eq!(deployment.notes.len(), 2, "{:?}", deployment.notes);
}

#[test]
fn a_storage_manager_directory_that_is_not_there_or_not_its_own_is_noted() {
    let sample = Sample::new();
    sample.remove("var/lib/columnstore/storagemanager");
    let deployment = sample.discover();
    assert_eq!(components(&deployment), ["config", "datadir", "dbroot/1"]);
    assert!(deployment.notes[0].contains("is not there"), "{:?}", deployment.notes);

    let shared = CNF.replace("/storagemanager/", "/");
    sample.file("etc/columnstore/storagemanager.cnf", &shared);
    let deployment = sample.discover();
    assert_eq!(components(&deployment), ["config", "datadir", "dbroot/1"]);
    assert!(deployment.notes[0].contains("holds other data"), "{:?}", deployment.notes);
}

#[test]
fn paths_with_variables_take_the_environment_of_the_daemon() {
    let sample = Sample::new();
    let base = "/var/lib/columnstore/storagemanager";
    sample.file("etc/columnstore/storagemanager.cnf", &CNF.replace(base, "${SM_DIR}"));
    sample.file("etc/columnstore/systemd.env", "# of mcs\nSM_DIR=\"/srv/sm\"\n#SM_DIR=/no\n");
    sample.directory("srv/sm");
    let deployment = sample.discover();
    assert_eq!(tree(&deployment, "storagemanager").recorded, Path::new("/srv/sm"));
    assert!(globs(&deployment, "storagemanager").contains(&"/cache/*"));
}

#[test]
fn components_that_overlap_are_an_error() {
    let sample = Sample::new();
    sample.columnstore_xml(
        "<DBRoot1>/var/lib/columnstore/data1</DBRoot1><DBRoot2>/var/lib/mysql/data2</DBRoot2>",
        "",
    );
    sample.file("var/lib/mysql/data2/versionbuffer.cdf", "");
    let both = ["datadir at /var/lib/mysql", "dbroot/2 at /var/lib/mysql/data2"];
    sample.error(ErrorKind::Invalid, &both);

    sample.remove("var/lib/mysql/data2");
    sample.link("var/lib/mysql/data2", "/var/lib/columnstore/data1/");
    sample.error(ErrorKind::Invalid, &["dbroot/1 at", "dbroot/2 at"]);

    sample.columnstore_xml(
        "<DBRoot1>/var/lib/columnstore/data1</DBRoot1><DBRoot2>/etc/mysql/data2</DBRoot2>",
        "",
    );
    sample.file("etc/mysql/data2/versionbuffer.cdf", "");
    sample.error(ErrorKind::Invalid, &["config at /", "dbroot/2 at /etc/mysql/data2"]);
}

#[test]
fn system_files_outside_every_db_root_are_an_error() {
    let sample = Sample::new();
    sample.columnstore_xml(
        "<DBRoot1>/var/lib/columnstore/data1</DBRoot1>",
        "<OIDManager><OIDBitmapFile>/srv/oidbitmap</OIDBitmapFile></OIDManager>",
    );
    sample.error(ErrorKind::Invalid, &["OIDBitmapFile inside a DB Root, found /srv/oidbitmap"]);
    sample.columnstore_xml(
        "<DBRoot1>/var/lib/columnstore/data1</DBRoot1>",
        "<SessionManager><TxnIDFile>/var/lib/mysql/SMTxnID</TxnIDFile></SessionManager>",
    );
    sample.error(ErrorKind::Invalid, &["TxnIDFile inside a DB Root"]);
}

#[test]
fn configuration_is_taken_wherever_it_is() {
    let sample = Sample::new();
    sample.columnstore_xml(
        "<DBRoot1>/var/lib/columnstore/data1</DBRoot1>",
        "<CrossEngineSupport><TLSCA>/etc/tls/ca.pem</TLSCA>\
         <TLSClientKey>/etc/tls/key.pem</TLSClientKey></CrossEngineSupport>",
    );
    sample.file("etc/tls/key.pem", "");
    sample.file("etc/tls/unrelated.pem", "");
    sample.file("etc/my.cnf", "!includedir /etc/my.cnf.d\n!include /opt/site.cnf\n");
    sample.file("etc/my.cnf.d/server.cnf", "[mysqld]\n!include /var/lib/mysql/my.cnf\n");
    sample.file("opt/site.cnf", "");
    sample.file("var/lib/mysql/my.cnf", "");
    sample.file("var/lib/columnstore/.secrets", "{}");
    sample.file("etc/systemd/system/mcs-workernode@.service.d/limits.conf", "");
    sample.file("etc/systemd/system/sshd.service.d/limits.conf", "");
    let deployment = sample.discover();
    assert_eq!(
        selected(&deployment, "config"),
        [
            "etc/columnstore",
            "etc/my.cnf",
            "etc/my.cnf.d",
            "etc/systemd/system/mcs-workernode@.service.d",
            "etc/tls/key.pem",
            "opt/site.cnf",
            "var/lib/columnstore/.secrets"
        ]
    );
    assert!(deployment.missing_optional.contains(&PathBuf::from("/etc/tls/ca.pem")));
}

#[test]
fn links_on_the_way_to_configuration_are_taken_with_what_they_lead_to() {
    let sample = Sample::new();
    fs::rename(sample.host("etc/columnstore"), sample.host("columnstore-etc")).unwrap();
    sample.link("etc/columnstore", "../columnstore-etc");
    sample.remove("etc/my.cnf");
    sample.file("etc/mysql/mariadb.cnf", "[server]\n");
    sample.link("etc/alternatives/my.cnf", "/etc/mysql/mariadb.cnf");
    sample.link("etc/mysql/my.cnf", "/etc/alternatives/my.cnf");
    let deployment = sample.discover();
    assert_eq!(
        selected(&deployment, "config"),
        ["columnstore-etc", "etc/alternatives/my.cnf", "etc/columnstore", "etc/mysql"]
    );
    assert!(
        globs(&deployment, "config").contains(&"/columnstore-etc/Columnstore.xml.cmapi.save"),
        "{:?}",
        globs(&deployment, "config")
    );
}

#[test]
fn only_the_key_file_is_in_two_components() {
    let sample = Sample::new();
    sample.columnstore_xml("<DBRoot1>/var/lib/columnstore</DBRoot1>", "");
    sample.file("etc/columnstore/storagemanager.cnf", &CNF.replace("/var/lib/columnstore", "/srv"));
    sample.directory("srv/storagemanager");
    sample.file("var/lib/columnstore/.secrets", "{}");
    sample.file("var/lib/columnstore/site.cnf", "");
    sample.file("etc/my.cnf", "!include /var/lib/columnstore/site.cnf\n");
    // An overlap, but one on purpose.
    let deployment = sample.discover();
    assert_eq!(
        selected(&deployment, "config"),
        ["etc/columnstore", "etc/my.cnf", "var/lib/columnstore/.secrets"]
    );
}

#[test]
fn parts_of_the_server_outside_its_data_directory_are_components() {
    let sample = Sample::new();
    sample.file(
        "etc/my.cnf",
        "[mysqld]\ninnodb_log_group_home_dir=/fast/redo\ninnodb-undo-directory=../undo/.\n\
         innodb_data_home_dir=/fast\naria_log_dir_path=/fast/redo\n[client]\nlog_bin=/none/x\n",
    );
    sample.file("fast/redo/ib_logfile0", "");
    sample.directory("var/lib/undo");
    let deployment = sample.discover();
    assert_eq!(
        components(&deployment),
        [
            "config",
            "datadir",
            "dbroot/1",
            "datadir.innodb_data_home_dir",
            "datadir.innodb_undo_directory",
            "storagemanager"
        ]
    );
    assert_eq!(tree(&deployment, "datadir.innodb_data_home_dir").recorded, Path::new("/fast"));
    let undo = tree(&deployment, "datadir.innodb_undo_directory");
    assert_eq!(undo.recorded, Path::new("/var/lib/undo"));
    assert_eq!(undo.base, sample.host("var/lib/undo"));
}

#[test]
fn two_variables_with_the_same_directory_make_one_component() {
    let sample = Sample::new();
    sample.file(
        "etc/my.cnf",
        "[mysqld]\naria_log_dir_path=/logs/\ninnodb_log_group_home_dir=/logs\n\
         innodb_undo_directory=undo\ninnodb_data_home_dir=/gone\n",
    );
    sample.directory("logs");
    sample.directory("var/lib/mysql/undo");
    let deployment = sample.discover();
    assert_eq!(
        components(&deployment),
        ["config", "datadir", "dbroot/1", "datadir.aria_log_dir_path", "storagemanager"]
    );
    assert_eq!(deployment.notes, ["innodb_data_home_dir names /gone: no such directory"]);
}

#[test]
fn of_a_log_directory_only_the_servers_logs_are_taken() {
    let sample = Sample::new();
    sample
        .file("etc/my.cnf", "[mysqld]\nlog_bin=/var/log/mysql-bin.log\nrelay_log=/var/log/relay\n");
    for name in ["mysql-bin.000001", "mysql-bin.index", "relay.000007", "syslog", "mysql-binary"] {
        sample.file(&format!("var/log/{name}"), "");
    }
    let deployment = sample.discover();
    let logs = selected(&deployment, "datadir.log_bin");
    assert_eq!(logs, ["mysql-bin.000001", "mysql-bin.index"]);
    assert_eq!(selected(&deployment, "datadir.relay_log"), ["relay.000007"]);
    assert_eq!(tree(&deployment, "datadir.log_bin").recorded, Path::new("/var/log"));

    sample.file("etc/my.cnf", "[mysqld]\nlog_bin\nrelay_log=relay\n");
    assert_eq!(sample.discover().trees.len(), 4);
}

#[test]
fn files_of_the_system_tablespace_with_paths_of_their_own_are_taken() {
    let sample = Sample::new();
    let cnf = "[mysqld]\ninnodb_data_file_path=ibdata1:4M;/big/ibdata2:1G:autoextend\n";
    sample.file("etc/my.cnf", &format!("{cnf}innodb_data_home_dir=\n"));
    sample.file("big/ibdata2", "");
    sample.file("big/other", "");
    assert_eq!(selected(&sample.discover(), "datadir.innodb_data_file_path"), ["ibdata2"]);

    for home in ["", "innodb_data_home_dir=/var/lib/mysql\n"] {
        sample.file("etc/my.cnf", &format!("{cnf}{home}"));
        assert_eq!(sample.discover().trees.len(), 4, "{home}");
    }

    let elsewhere = cnf.replace("ibdata1:4M", "/huge/ibdata1:4M");
    sample.file("etc/my.cnf", &format!("{elsewhere}innodb_data_home_dir=\n"));
    sample.file("huge/ibdata1", "");
    sample.error(ErrorKind::Unsupported, &["innodb_data_file_path", "/huge and /big"]);
}

#[test]
fn what_belongs_to_the_deployment_but_is_not_taken_is_told() {
    let sample = Sample::new();
    sample.file(
        "etc/my.cnf",
        "[mysqld]\nssl_key=/etc/pki/server.key\nssl_ca=/etc/pki/gone.pem\n\
         file_key_management_filename=keys.enc\n\
         file_key_management_filekey=FILE:/root/filekey\n",
    );
    sample.file("etc/pki/server.key", "");
    sample.file("root/filekey", "");
    sample.file("var/lib/mysql/keys.enc", "");
    sample.file("var/lib/columnstore/data2/000.dir/x", "");
    sample.file("var/lib/columnstore/data3", "a file is no DB Root");
    sample.file("other/app/t.ibd", "");
    sample.link("var/lib/mysql/app", "/other/app");
    sample.link("var/lib/mysql/inner", "ibdata1");
    sample.file("var/lib/mysql/dw/t.isl", "/huge/dw/t.ibd\n");
    sample.file("var/lib/mysql/lost+found/x.isl", "/nowhere");
    sample.link("var/lib/columnstore/data1/000.dir", "/mnt/000");
    let deployment = sample.discover();
    let mut found = left_out(&deployment);
    found.sort();
    assert_eq!(
        found,
        [
            ("config", "/etc/pki/server.key"),
            ("config", "/root/filekey"),
            ("config", "/var/lib/columnstore/local/module"),
            ("datadir", "/huge/dw/t.ibd"),
            ("datadir", "/other/app"),
            ("dbroot/1", "/mnt/000"),
            ("dbroot/2", "/var/lib/columnstore/data2"),
        ]
    );
    let app = deployment.left_out.iter().find(|left| left.path == Path::new("/other/app"));
    assert_eq!(app.unwrap().reason, "only /var/lib/mysql/app, which leads here, is taken");
}

#[test]
fn credentials_are_told_without_their_values() {
    let sample = Sample::new();
    assert_eq!(sample.discover().credentials, []);
    sample.columnstore_xml(
        "<DBRoot1>/var/lib/columnstore/data1</DBRoot1>",
        "<CrossEngineSupport><User>cross</User><Password>HIDDEN</Password>\
         <TLSClientKey>/etc/tls/key.pem</TLSClientKey></CrossEngineSupport>",
    );
    sample.file("etc/tls/key.pem", "HIDDEN");
    let cnf = format!("{CNF}[S3]\naws_secret_access_key = HIDDEN\n");
    sample.file("etc/columnstore/storagemanager.cnf", &cnf);
    sample.file("etc/columnstore/cmapi_server.conf", "[A]\nx-api-key = \"'HIDDEN'\"\n");
    sample.file("etc/mysql/debian.cnf", "[client]\npassword = HIDDEN\n");
    sample.file("etc/my.cnf", "[client]\npassword=HIDDEN\n[mysqld]\nwsrep_sst_auth=a:HIDDEN\n");
    sample.file("var/lib/columnstore/.secrets", "HIDDEN");
    sample.file("var/lib/mysql/master.info", "HIDDEN");
    sample.file("var/lib/mysql/mysql/global_priv.MAD", "HIDDEN");
    let deployment = sample.discover();
    let credential = |component: &str, path: &str, kind: &str| Credential {
        component: component.into(),
        path: path.into(),
        kind: kind.into(),
    };
    assert_eq!(
        deployment.credentials,
        [
            credential("config", "/etc/columnstore/Columnstore.xml", "CrossEngineSupport password"),
            credential("config", "/etc/columnstore/cmapi_server.conf", "x-api-key"),
            credential("config", "/etc/columnstore/storagemanager.cnf", "S3 secret key"),
            credential("config", "/etc/my.cnf", "client password"),
            credential("config", "/etc/my.cnf", "state transfer password"),
            credential("config", "/etc/mysql/debian.cnf", "client password"),
            credential("config", "/etc/tls/key.pem", "private key"),
            credential("config", "/var/lib/columnstore/.secrets", "password key (.secrets)"),
            credential("datadir", "/var/lib/mysql/master.info", "replication password"),
            credential(
                "datadir",
                "/var/lib/mysql/mysql/global_priv.MAD",
                "password hashes of accounts"
            ),
        ]
    );
    assert!(!format!("{deployment:?}").contains("HIDDEN"));
}
