//! The lines of `--json`: every line of every command has a known type, known fields, and values
//! that agree with the file system. Restic's names stand for what they mean in restic.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use colvault_engine::testing::trees::{Random, files_below};
use rustix::process::Signal;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::support::deployment::{Deployment, SEGMENT};
use crate::support::program::{Place, Ran, listing, names, write};
use crate::support::wait_until_not_racy;

type Counted = BTreeMap<String, u64>;
type Facts = BTreeMap<String, String>;

/// A line of standard output; `S` is the summary of the command.
#[derive(Debug, Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case", deny_unknown_fields)]
enum Message<S> {
    Status(Status),
    VerboseStatus(VerboseStatus),
    Warning(Text),
    Note(Text),
    Credential(Credential),
    Finding(Finding),
    Initialized(Initialized),
    Summary(S),
    Snapshot(Box<Snapshot>),
    Node(Box<Node>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    seconds_elapsed: u64,
    percent_done: f64,
    #[serde(default)]
    total_files: u64,
    files_done: u64,
    #[serde(default)]
    total_bytes: u64,
    bytes_done: u64,
    seconds_remaining: Option<u64>,
    error_count: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VerboseStatus {
    action: String,
    item: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    message: String,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Credential {
    path: String,
    what: String,
    stored: bool,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Finding {
    kind: String,
    object: String,
    detail: String,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct LeftOut {
    component: String,
    path: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Initialized {
    id: String,
    repository: String,
    encryption: String,
    pack_bytes: u32,
    chunker: Chunker,
    slots: serde_json::Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chunker {
    algorithm: String,
    normalization: u8,
    min_bytes: u32,
    average_bytes: u32,
    max_bytes: u32,
    slots: Option<Sizes>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sizes {
    min_bytes: u32,
    average_bytes: u32,
    max_bytes: u32,
}

/// The system of record.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Record {
    source: String,
    assumed: bool,
    database: String,
    data: Vec<String>,
    #[serde(default)]
    tables: Vec<String>,
    reload: Vec<BTreeMap<String, String>>,
    #[serde(default)]
    absent: Vec<String>,
    fingerprint: String,
    left_out: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Proof {
    verdict: String,
    extents: u64,
    segment_files: u64,
    rules: BTreeMap<String, Rule>,
    unchecked: Vec<String>,
    left_out: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Rule {
    checked: u64,
    failed: u64,
}

/// What a backup did; the same names in its summary and in the snapshot.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Figures {
    backup_start: String,
    backup_end: String,
    files_new: u64,
    files_changed: u64,
    files_unmodified: u64,
    dirs_new: u64,
    dirs_changed: u64,
    dirs_unmodified: u64,
    data_blobs: u64,
    tree_blobs: u64,
    data_added: u64,
    data_added_packed: u64,
    total_files_processed: u64,
    total_bytes_processed: u64,
    bytes_read: u64,
    bytes_deduplicated: u64,
    packs_added: u64,
    indexes_added: u64,
    slots_verified: u64,
    slots_known: u64,
    slots_not_verifiable: u64,
    pages_verified: u64,
    pages_known: u64,
    pages_not_verifiable: u64,
    slots_recipe_known: u64,
    slots_unpacked: u64,
    slots_unpacked_bytes: u64,
    slots_recipe_new: u64,
    slots_not_unpacked: u64,
    slots_packed_otherwise: u64,
    slots_not_whole: u64,
    slots_not_tried: u64,
}

/// The summary of a backup without its [`Figures`], which stand in the same object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupRest {
    total_duration: f64,
    snapshot_id: Option<String>,
    dry_run: bool,
    slots: String,
    packers: Vec<String>,
    parent: Option<String>,
    state: String,
    kind: String,
    group: String,
    evidence: Facts,
    record: Option<Record>,
    proof: Option<Proof>,
    num_left_out: u64,
    findings: Counted,
    num_findings: u64,
}

#[derive(Debug)]
struct BackupSummary {
    figures: Figures,
    rest: BackupRest,
}

impl<'de> Deserialize<'de> for BackupSummary {
    /// Divides the fields: flattened structs cannot deny what they do not know.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut rest = serde_json::Map::deserialize(from)?;
        let own = [
            "total_duration",
            "snapshot_id",
            "dry_run",
            "slots",
            "packers",
            "parent",
            "state",
            "kind",
            "group",
            "evidence",
            "record",
            "proof",
            "num_left_out",
            "findings",
            "num_findings",
        ];
        let names: Vec<String> = rest.keys().cloned().collect();
        let figures = names
            .into_iter()
            .filter(|name| !own.contains(&name.as_str()))
            .map(|name| (name.clone(), rest.remove(&name).unwrap()))
            .collect();
        let wrong = serde::de::Error::custom;
        Ok(BackupSummary {
            figures: serde_json::from_value(serde_json::Value::Object(figures)).map_err(wrong)?,
            rest: serde_json::from_value(serde_json::Value::Object(rest)).map_err(wrong)?,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreSummary {
    seconds_elapsed: u64,
    total_duration: f64,
    snapshot_id: String,
    dry_run: bool,
    total_files: u64,
    files_restored: u64,
    files_skipped: u64,
    files_deleted: u64,
    total_bytes: u64,
    bytes_restored: u64,
    bytes_skipped: u64,
    components: Vec<Placed>,
    findings: Counted,
    num_findings: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Placed {
    name: String,
    target: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckSummary {
    num_errors: u64,
    is_damaged: bool,
    snapshots: u64,
    packs: u64,
    indexes: u64,
    chunks: u64,
    leases: u64,
    packs_read: u64,
    packs_unindexed: u64,
    bytes_read: u64,
    total_duration: f64,
    findings: Counted,
}

/// Where a command has no summary.
#[derive(Debug, Deserialize)]
enum NoSummary {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    time: String,
    parent: Option<String>,
    paths: Vec<String>,
    hostname: String,
    tags: Vec<String>,
    program_version: String,
    packers: Vec<String>,
    summary: Figures,
    id: String,
    short_id: String,
    state: String,
    kind: String,
    group: String,
    topology: String,
    evidence: Facts,
    facts: Facts,
    components: Vec<Component>,
    left_out: Vec<LeftOut>,
    num_left_out: u64,
    record: Option<Record>,
    proof: Option<Proof>,
    credentials: Vec<Credential>,
    findings: Counted,
    num_findings: u64,
    findings_listed: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Component {
    name: String,
    path: String,
    files: u64,
    directories: u64,
    symlinks: u64,
    others: u64,
    bytes: u64,
    allocated_bytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    path: String,
    component: String,
    uid: u32,
    gid: u32,
    user: String,
    group: String,
    size: Option<u64>,
    mode: u32,
    permissions: String,
    mtime: String,
    ctime: String,
    inode: u64,
    linktarget: Option<String>,
    #[serde(default)]
    findings: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExitError {
    message_type: String,
    code: i32,
    message: String,
    hint: Option<String>,
}

/// What the lines of a run were.
struct Lines<S> {
    messages: Vec<Message<S>>,
}

impl<S: DeserializeOwned> Lines<S> {
    fn of(ran: &Ran) -> Lines<S> {
        let read = |line: &str| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("colvault {}: {error}: {line}", ran.line))
        };
        Lines { messages: ran.out.lines().map(read).collect() }
    }

    /// Runs a command of `--json`, which ends with this code and nothing on standard error.
    fn run(place: &Place, code: i32, line: &str) -> Lines<S> {
        Lines::of(&place.expect(code, &format!("{line} --json")).silent())
    }

    /// The summary, which has to come last.
    fn summary(self) -> S {
        match self.messages.into_iter().last() {
            Some(Message::Summary(summary)) => summary,
            _ => panic!("a summary comes last"),
        }
    }

    fn findings(&self) -> Vec<&Finding> {
        let mut found = Vec::new();
        for message in &self.messages {
            if let Message::Finding(finding) = message {
                found.push(finding);
            }
        }
        found
    }

    fn credentials(&self) -> Vec<&Credential> {
        let mut found = Vec::new();
        for message in &self.messages {
            if let Message::Credential(credential) = message {
                found.push(credential);
            }
        }
        found
    }

    fn texts(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for message in &self.messages {
            if let Message::Warning(text) | Message::Note(text) = message {
                found.push(text.message.as_str());
            }
        }
        found
    }
}

fn back_up(place: &Place, code: i32, options: &str) -> Lines<BackupSummary> {
    Lines::run(place, code, &format!("backup -r @/repository --root @/live --host db1 {options}"))
}

fn snapshots(place: &Place, code: i32) -> Vec<Snapshot> {
    let ran = place.expect(code, "snapshots -r @/repository --json").silent();
    let array = ran.out.lines().last().unwrap();
    serde_json::from_str(array).unwrap_or_else(|error| panic!("{error}: {array}"))
}

fn list(place: &Place, options: &str) -> (Snapshot, Vec<Node>) {
    let lines = Lines::<NoSummary>::run(place, 0, &format!("ls -r @/repository {options}"));
    let mut messages = lines.messages.into_iter();
    let Some(Message::Snapshot(head)) = messages.next() else { panic!("the snapshot comes first") };
    let node = |message| match message {
        Message::Node(node) => *node,
        other => panic!("a node expected: {other:?}"),
    };
    (*head, messages.map(node).collect())
}

/// A deployment with something to say: credentials, a link that leads out, what an interrupted
/// write left, something left out, a socket, a name that is no UTF-8.
fn deployment(place: &Place) -> Deployment {
    let deployment = Deployment::small(place.path("live"));
    deployment.file("etc/columnstore/cmapi_server.conf", b"x-api-key = 's3cr3t'\n");
    deployment.file("var/lib/columnstore/local/module", b"pm1\n");
    deployment.file("var/lib/mysql/ibtmp1", b"temporary");
    deployment
}

/// Catches a field that is renamed, missing or new; figures under restic's names that are not what
/// restic means by them; and a summary that does not agree with what is on disk.
#[test]
fn figures_of_a_backup_agree_with_the_file_system() {
    let place = Place::new();
    let deployment = deployment(&place);
    let created = Lines::<NoSummary>::run(&place, 0, "init -r @/repository").messages;
    let [Message::Initialized(created)] = &created[..] else { panic!("one line: {created:?}") };
    assert_eq!(created.repository, place.unfolded("@/repository"));
    assert_eq!((created.id.len(), created.encryption.as_str()), (32, "none"));
    assert_eq!(created.pack_bytes, 64 << 20);
    let chunker = &created.chunker;
    assert_eq!((chunker.algorithm.as_str(), chunker.normalization), ("fastcdc-2020", 1));
    let (c, s) = (chunker, chunker.slots.as_ref().unwrap());
    assert_eq!([c.min_bytes, c.average_bytes, c.max_bytes], [16 << 10, 64 << 10, 256 << 10]);
    assert_eq!([s.min_bytes, s.average_bytes, s.max_bytes], [8 << 10, 32 << 10, 128 << 10]);
    assert_eq!(created.slots, serde_json::json!({"form": "recipe", "block_bytes": 65_536}));

    wait_until_not_racy();
    let tried = back_up(&place, 0, "--dry-run --verbose");
    let would = tried.messages.iter().filter_map(|message| match message {
        Message::VerboseStatus(status) if status.action == "stage" => Some(status.item.as_str()),
        _ => None,
    });
    assert_eq!(would.collect::<Vec<_>>(), ["config", "datadir", "dbroot/1"]);
    let tried = tried.summary();
    assert!(tried.rest.dry_run && tried.rest.snapshot_id.is_none());
    // Its segment files have no slots, so no packer is needed.
    assert_eq!((tried.rest.slots.as_str(), tried.rest.packers.len()), ("recipe", 0));

    let lines = back_up(&place, 0, "--tag a,b");
    let notes = lines.texts().join("\n");
    assert!(notes.contains("/var/lib/columnstore/local/module is left out: "), "{notes}");
    let expected = Credential {
        path: "/etc/columnstore/cmapi_server.conf".to_owned(),
        what: "x-api-key".to_owned(),
        stored: true,
    };
    assert_eq!(lines.credentials(), [&expected]);
    let BackupSummary { figures, rest } = lines.summary();
    // What is stored, counted anew: all files but the one outside and the one that is left out.
    let is_stored =
        |path: &&std::path::PathBuf| !path.ends_with("module") && !path.ends_with("ibtmp1");
    let files: Vec<_> = files_below(&deployment.root).unwrap();
    let files: Vec<_> = files.iter().filter(is_stored).collect();
    let bytes: u64 = files.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!(figures.total_files_processed, files.len() as u64);
    assert_eq!((figures.total_bytes_processed, figures.bytes_read), (bytes, bytes));
    assert_eq!(figures.files_new, files.len() as u64);
    assert_eq!((figures.files_changed, figures.files_unmodified), (0, 0));
    assert_eq!(
        (tried.figures.data_added, tried.figures.data_blobs),
        (figures.data_added, figures.data_blobs)
    );
    assert!(figures.data_blobs >= files.len() as u64 - 1 && figures.tree_blobs >= 3, "{figures:?}");
    // Chunks of data are what was read, without the zeros of the bitmap; the rest are manifests.
    let zeros = 7 << 18;
    assert!(figures.data_added > bytes - zeros - figures.bytes_deduplicated, "{figures:?}");
    assert!(figures.data_added < bytes + (16 << 10), "{figures:?}");
    let packs = files_below(&place.path("repository/packs")).unwrap();
    assert_eq!(figures.packs_added, packs.len() as u64);
    assert_eq!(figures.indexes_added, names(&place.path("repository/index")).len() as u64);
    let stored: u64 = packs.iter().map(|pack| fs::metadata(pack).unwrap().len()).sum();
    // A pack has a header, and a trailer of a few bytes for each chunk.
    let chunks = figures.data_blobs + figures.tree_blobs;
    let overhead = stored - figures.data_added_packed;
    assert!((packs.len() as u64 * 80..1024 + 64 * chunks).contains(&overhead), "{overhead}");
    assert_eq!(rest.snapshot_id.as_deref(), Some(place.snapshots("repository")[0].as_str()));
    assert_eq!(
        (rest.state.as_str(), rest.kind.as_str(), rest.group.as_str()),
        ("complete", "deployment", "shop")
    );
    assert_eq!(
        (rest.num_left_out, rest.num_findings, rest.parent, rest.dry_run),
        (2, 0, None, false)
    );
    assert!(rest.findings.is_empty() && rest.total_duration > 0.0 && rest.total_duration < 60.0);
    assert_eq!(rest.evidence["freeze"], "offline");
    assert!(figures.backup_start < figures.backup_end, "{figures:?}");

    // The same again: nothing is read, nothing is added, and it says so.
    let first = figures;
    let BackupSummary { figures, rest } = back_up(&place, 0, "").summary();
    assert_eq!(figures.files_unmodified, first.files_new);
    assert_eq!(figures.dirs_unmodified, first.dirs_new);
    assert_eq!((figures.files_new, figures.files_changed, figures.bytes_read), (0, 0, 0));
    assert_eq!((figures.data_added, figures.data_added_packed, figures.packs_added), (0, 0, 0));
    assert_eq!(figures.total_bytes_processed, bytes);
    assert_eq!(rest.parent, Some(place.snapshots("repository")[0].clone()));
    // And one file changed.
    deployment.file("var/lib/mysql/ibdata1", b"another tablespace");
    let figures = back_up(&place, 0, "").summary().figures;
    assert_eq!((figures.files_new, figures.files_changed), (0, 1));
    assert_eq!((figures.files_unmodified, figures.bytes_read), (first.files_new - 1, 18));
    assert_eq!(figures.data_blobs, 1);
}

/// Catches a snapshot that does not say what it is of, what was left out and why, which files hold
/// credentials and what was found: all of it must be learnable without the backup's own output.
#[test]
fn snapshots_say_what_they_hold_and_what_they_lack() {
    let place = Place::quick();
    let deployment = deployment(&place);
    deployment.file(&format!("{SEGMENT}.chk"), b"old");
    symlink("/far/away", deployment.path("var/lib/mysql/far")).unwrap();
    place.expect(0, "init -r @/repository");
    let lines = back_up(&place, 3, "--tag a,b --without-secrets --deployment warehouse");
    let said: Vec<Finding> = lines
        .findings()
        .into_iter()
        .map(|f| Finding {
            kind: f.kind.clone(),
            object: f.object.clone(),
            detail: f.detail.clone(),
        })
        .collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(!lines.credentials()[0].stored);
    let summary = lines.summary();
    let all = snapshots(&place, 0);
    let [snapshot] = &all[..] else { panic!("one snapshot: {all:?}") };
    assert_eq!(snapshot.id, place.snapshots("repository")[0]);
    assert_eq!(snapshot.short_id, snapshot.id[..8]);
    assert_eq!(snapshot.summary, summary.figures);
    // A file beside a segment file is left over from an interrupted write.
    let proof = snapshot.proof.as_ref().expect("a deployment is proved");
    assert_eq!(summary.rest.proof.as_ref(), Some(proof));
    assert_eq!((proof.verdict.as_str(), proof.rules["no-rollback-file"].failed), ("refuted", 1));
    assert_eq!((proof.extents, proof.segment_files, proof.rules["slots-hold"].checked), (1, 1, 1));
    assert!(proof.unchecked.is_empty() && proof.left_out.is_empty(), "{proof:?}");
    assert_eq!((snapshot.hostname.as_str(), snapshot.group.as_str()), ("db1", "warehouse"));
    assert_eq!(
        (snapshot.kind.as_str(), snapshot.topology.as_str()),
        ("deployment", "shared-local")
    );
    assert_eq!(snapshot.tags, ["a", "b"]);
    assert_eq!(snapshot.packers, summary.rest.packers);
    assert_eq!((snapshot.state.as_str(), &snapshot.parent), ("partial", &None));
    assert_eq!(snapshot.time, snapshot.summary.backup_start);
    assert!(snapshot.program_version.starts_with("colvault "));
    assert_eq!(snapshot.evidence["daemons"], "none running");
    assert_eq!(snapshot.facts["dbroot_1"], "/var/lib/columnstore/data1");
    assert_eq!(
        snapshot.paths,
        ["/etc/columnstore", "/var/lib/mysql", "/var/lib/columnstore/data1"]
    );

    let left_out: BTreeSet<(&str, &str)> =
        snapshot.left_out.iter().map(|l| (l.component.as_str(), l.path.as_str())).collect();
    let expected = [
        ("config", "/etc/columnstore/cmapi_server.conf"),
        ("config", "/var/lib/columnstore/local/module"),
        ("datadir", "/far/away"),
        ("datadir", "/var/lib/mysql/ibtmp1"),
    ];
    assert!(
        expected.iter().filter(|(_, path)| *path != "/far/away").all(|e| left_out.contains(e)),
        "{left_out:?}"
    );
    assert!(snapshot.left_out.iter().all(|left_out| !left_out.reason.is_empty()));
    assert_eq!(snapshot.num_left_out, snapshot.left_out.len() as u64);
    assert_eq!(summary.rest.num_left_out, snapshot.num_left_out);
    let [credential] = &snapshot.credentials[..] else { panic!("{:?}", snapshot.credentials) };
    assert_eq!(credential.path, "/etc/columnstore/cmapi_server.conf");
    assert!(!credential.stored);
    assert_eq!(snapshot.findings_listed, said);
    let record = snapshot.record.as_ref().expect("a deployment has a system of record");
    assert_eq!((record.source.as_str(), record.assumed), ("columnstore", true));
    assert_eq!((record.database.as_str(), record.fingerprint.len()), ("", 64));
    assert!(record.data.is_empty() && record.reload.is_empty() && record.left_out.is_empty());
    assert_eq!(summary.rest.record.as_ref(), Some(record));
    let counts =
        Counted::from([("interrupted-write".into(), 1), ("link-leaves-component".into(), 1)]);
    assert_eq!((&snapshot.findings, snapshot.num_findings), (&counts, 2));
    assert_eq!((&summary.rest.findings, summary.rest.num_findings), (&counts, 2));

    let (files, bytes) = snapshot.components.iter().fold((0, 0), |(files, bytes), component| {
        assert!(component.allocated_bytes <= component.bytes && component.others == 0);
        (files + component.files, bytes + component.bytes)
    });
    assert_eq!(files, snapshot.summary.total_files_processed);
    assert_eq!(bytes, snapshot.summary.total_bytes_processed);
    let datadir = snapshot.components.iter().find(|c| c.name == "datadir").unwrap();
    assert_eq!(
        (datadir.path.as_str(), datadir.symlinks, datadir.directories),
        ("/var/lib/mysql", 1, 2)
    );

    // `ls` begins with the same, after the warning that the snapshot is not complete.
    let lines = Lines::<NoSummary>::run(&place, 0, "ls -r @/repository latest");
    assert!(lines.texts()[0].contains("is partial, not complete"), "{:?}", lines.texts());
    let Message::Snapshot(head) = &lines.messages[1] else { panic!("the snapshot comes first") };
    assert_eq!((&head.left_out, &head.credentials), (&snapshot.left_out, &snapshot.credentials));
    assert_eq!((&head.findings_listed, &head.id), (&snapshot.findings_listed, &snapshot.id));
    let with_findings = lines.messages.iter().filter_map(|message| match message {
        Message::Node(node) if !node.findings.is_empty() => Some(node.path.as_str()),
        _ => None,
    });
    assert_eq!(
        with_findings.collect::<Vec<_>>(),
        ["/var/lib/mysql/far", &format!("/{SEGMENT}.chk")]
    );
}

/// Catches attributes that are not those of the file, a kind of node without its name, and names
/// that cannot be got back from their text form.
#[test]
fn nodes_have_the_attributes_of_the_files() {
    let place = Place::quick();
    let source = place.path("source");
    write(source.join("file"), "content");
    write(source.join(std::ffi::OsStr::from_bytes(b"not\xffutf8%")), "odd");
    symlink("fi\u{1}le", source.join("link")).unwrap();
    fs::set_permissions(source.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o4751))
        .unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, source.join("pipe"), 0o600.into()).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    place.expect(0, "init -r @/repository");
    place.run("backup -r @/repository @/source");
    let (head, nodes) = list(&place, "latest:@/source");
    assert_eq!((head.kind.as_str(), head.topology.as_str()), ("paths", ""));
    assert_eq!(head.group, place.unfolded("@/source"));
    assert_eq!(head.paths, [place.unfolded("@/source")]);
    let kinds: Vec<(&str, &str)> =
        nodes.iter().map(|node| (node.name.as_str(), node.kind.as_str())).collect();
    assert_eq!(
        kinds,
        [
            ("source", "dir"),
            ("file", "file"),
            ("link", "symlink"),
            ("not%FFutf8%25", "file"),
            ("pipe", "fifo"),
            ("socket", "socket"),
        ]
    );
    for node in &nodes {
        let bytes = colvault_engine::format::text::decode(&node.path).unwrap();
        let path = Path::new(std::ffi::OsStr::from_bytes(&bytes));
        let metadata = fs::symlink_metadata(path).unwrap();
        let time = |seconds: i64, nanoseconds: i64| {
            jiff::Timestamp::new(seconds, nanoseconds as i32).unwrap().to_string()
        };
        assert_eq!(node.mtime, time(metadata.mtime(), metadata.mtime_nsec()), "{path:?}");
        assert_eq!(node.ctime, time(metadata.ctime(), metadata.ctime_nsec()), "{path:?}");
        assert_eq!((node.uid, node.gid), (metadata.uid(), metadata.gid()));
        assert_eq!((node.user.as_str(), node.group.as_str()), ("root", "root"));
        assert_eq!((node.inode, node.mode), (metadata.ino(), metadata.mode() & 0o7777), "{path:?}");
        assert_eq!(node.size, metadata.is_file().then_some(metadata.len()), "{path:?}");
        assert_eq!((node.component.as_str(), path.starts_with(&source)), ("files", true));
        assert_eq!(node.linktarget.is_some(), metadata.is_symlink());
    }
    assert_eq!(nodes[1].permissions, "-rwsr-x--x");
    assert_eq!(nodes[2].linktarget.as_deref(), Some("fi%01le"));
    let (_, below) = list(&place, "latest --component files --recursive=false");
    assert_eq!(below[0].path, "/");
}

/// Catches a restore that counts other files and bytes than those it wrote, found in place or
/// deleted.
#[test]
fn figures_of_a_restore_agree_with_the_file_system() {
    let place = Place::quick();
    let deployment = deployment(&place);
    place.expect(0, "init -r @/repository");
    let backup = back_up(&place, 0, "").summary();
    let id = backup.rest.snapshot_id.unwrap();
    let restore = "restore -r @/repository latest --target @/back";
    let run = |options: &str| {
        Lines::<RestoreSummary>::run(&place, 0, &format!("{restore} {options}")).summary()
    };
    let tried = run("--dry-run");
    assert!(tried.dry_run && !place.path("back").exists());
    let done = run("");
    let files = files_below(&place.path("back")).unwrap();
    let bytes: u64 = files.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    for summary in [&tried, &done] {
        assert_eq!((summary.total_files, summary.total_bytes), (files.len() as u64, bytes));
        assert_eq!(summary.snapshot_id, id);
        let placed: Vec<(&str, String)> =
            summary.components.iter().map(|c| (c.name.as_str(), c.target.clone())).collect();
        let target = |name: &str| place.unfolded(&format!("@/back/{name}"));
        let expected = ["config", "datadir", "dbroot/1"].map(|name| (name, target(name)));
        assert_eq!(placed, expected);
    }
    assert_eq!((tried.files_restored, tried.bytes_restored), (0, 0));
    assert_eq!(
        (done.files_restored, done.files_skipped, done.files_deleted),
        (files.len() as u64, 0, 0)
    );
    // Long runs of zeros are allocated and not written.
    assert!(done.bytes_restored <= bytes && done.bytes_restored > 0);
    assert_eq!((done.bytes_skipped, done.num_findings, done.findings.len()), (0, 0, 0));
    assert!(done.total_duration < 60.0 && done.seconds_elapsed <= done.total_duration as u64 + 1);

    write(place.path("back/datadir/extra"), "extra");
    write(place.path("back/datadir/more/extra"), "extra");
    write(place.path("back/datadir/ibdata1"), "TABLESPACE");
    let delta = run("--delta");
    assert_eq!((delta.files_restored, delta.bytes_restored), (1, 10));
    assert_eq!((delta.files_skipped, delta.bytes_skipped), (files.len() as u64 - 1, bytes - 10));
    assert_eq!(delta.files_deleted, 3, "two files and a directory");
    let part = Lines::<RestoreSummary>::run(
        &place,
        0,
        "restore -r @/repository latest:/var/lib/mysql/shop --target @/part",
    );
    let part = part.summary();
    assert_eq!((part.total_files, part.files_restored, part.total_bytes), (1, 1, 10));
    assert!(
        deployment
            .is_equal("var/lib/mysql/shop/orders.frm", &place.path("part/datadir/shop/orders.frm"))
    );
}

/// Catches a check that says less than it found, and findings that a program cannot tell apart.
#[test]
fn a_check_counts_and_names_what_it_found() {
    let place = Place::quick();
    deployment(&place);
    place.expect(0, "init -r @/repository");
    let figures = back_up(&place, 0, "").summary().figures;
    let check = |code, options: &str| {
        let lines =
            Lines::<CheckSummary>::run(&place, code, &format!("check -r @/repository {options}"));
        let findings: Vec<(String, String)> =
            lines.findings().iter().map(|f| (f.kind.clone(), f.object.clone())).collect();
        (findings, lines.summary())
    };
    let (findings, whole) = check(0, "--read-data");
    assert_eq!(findings, []);
    assert_eq!((whole.num_errors, whole.is_damaged, whole.findings.len()), (0, false, 0));
    assert_eq!((whole.snapshots, whole.packs, whole.indexes), (1, figures.packs_added, 1));
    assert_eq!(
        (whole.packs_read, whole.packs_unindexed, whole.leases),
        (figures.packs_added, 0, 0)
    );
    assert!(whole.chunks >= figures.data_blobs, "{whole:?}");
    let packs = files_below(&place.path("repository/packs")).unwrap();
    let stored: u64 = packs.iter().map(|pack| fs::metadata(pack).unwrap().len()).sum();
    assert!(
        whole.bytes_read <= stored && whole.bytes_read >= figures.data_added_packed,
        "{whole:?}"
    );
    assert!(whole.total_duration < 60.0);
    assert_eq!(check(0, "").1.packs_read, 0);

    write(place.path("repository/packs/00/notes.txt"), "mine");
    let (findings, foreign) = check(3, "");
    assert_eq!(findings, [("foreign-object".to_owned(), "packs/00/notes.txt".to_owned())]);
    assert_eq!((foreign.num_errors, foreign.is_damaged), (1, false));
    let largest = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = fs::read(largest).unwrap();
    bytes[200] ^= 1;
    fs::write(largest, bytes).unwrap();
    assert_eq!(check(3, "").1.num_errors, 1, "what is not read is not found");
    let (findings, damaged) = check(20, "--read-data");
    assert!(damaged.is_damaged && damaged.num_errors == findings.len() as u64, "{findings:?}");
    let kinds: BTreeSet<&str> = findings.iter().map(|(kind, _)| kind.as_str()).collect();
    assert!(kinds.contains("foreign-object") && kinds.contains("damaged-chunk"), "{kinds:?}");
    assert_eq!(damaged.findings.values().sum::<u64>(), damaged.num_errors);
}

/// Catches a failure that a program learns of from text alone: for each exit code the last line of
/// standard error says code and message, and standard output has nothing but messages.
#[test]
fn failures_end_with_an_exit_error() {
    let place = Place::new();
    deployment(&place);
    place.expect(0, "init -r @/repository");
    let fails = |code: i32, line: &str, message: &str| {
        let ran = place.expect(code, &format!("{line} --json"));
        Lines::<serde_json::Value>::of(&ran);
        exit_error(&ran, message);
    };
    fails(
        1,
        "ls -r @/repository latest",
        "snapshot \"latest\": the repository has no such snapshot",
    );
    fails(1, "restore -r @/repository latest --target @/x", "the repository has no such snapshot");
    fails(1, "backup -r @/repository @/nowhere", "cannot examine: No such file or directory");
    fails(1, "init -r @/repository", "there is a repository already");
    fails(2, "backup -r @/repository", "nothing to back up was given");
    fails(2, "snapshots", "no repository was given");
    fails(2, "restroe", "unrecognized subcommand 'restroe'");
    fails(10, "check -r @/missing", "no repository there");
    fails(2, "snapshots -r s3://", "no bucket is named");
    write(place.path("repository/features/new"), "x");
    fails(13, "snapshots -r @/repository", "features/new: ");
    fs::remove_file(place.path("repository/features/new")).unwrap();
    let config = fs::read(place.path("repository/config")).unwrap();
    write(place.path("repository/config"), &config[1..]);
    fails(20, "snapshots -r @/repository", "config: checksum does not hold");
    write(place.path("repository/config"), &config);
    // Interrupted, after status lines that make sense.
    let mut random = Random::new(9);
    for number in 0..96 {
        write(place.path(&format!("large/{number}")), random.bytes(1 << 20));
    }
    place.expect(0, "init -r @/slow --pack-size 1");
    let before = listing(&place.path("slow/snapshots")).len();
    let mut backup = place.start("backup -r @/slow @/large --threads 1 --json");
    let packs = || files_below(&place.path("slow/packs")).unwrap().len();
    backup.wait_until("packs were stored", || packs() > 2);
    // However fast the host is, more than a second passes.
    backup.signal(Signal::STOP);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let stored = packs();
    backup.signal(Signal::CONT);
    backup.wait_until("more were stored", || packs() > stored + 2);
    backup.signal(Signal::TERM);
    let ran = backup.end().ended(130);
    exit_error(&ran, "stopped by request");
    assert_eq!(listing(&place.path("slow/snapshots")).len(), before);
    let lines = Lines::<BackupSummary>::of(&ran);
    let status = lines.messages.iter().find_map(|message| match message {
        Message::Status(status) => Some(status),
        _ => None,
    });
    let status = status.expect("a line of status each second");
    assert!((1..30).contains(&status.seconds_elapsed), "{status:?}");
    assert!((1..110).contains(&status.files_done) && status.bytes_done <= 96 << 20, "{status:?}");
    assert!((0.0..=1.0).contains(&status.percent_done) && status.error_count == 0, "{status:?}");
    assert_eq!((status.total_files, status.total_bytes, status.seconds_remaining), (0, 0, None));
}

fn exit_error(ran: &Ran, message: &str) {
    let last = ran.err.lines().last().unwrap_or_default();
    let error: ExitError =
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {}", ran.err));
    assert_eq!((error.message_type.as_str(), Some(error.code)), ("exit_error", ran.code));
    assert!(error.message.contains(message), "{message:?} in {:?}", error.message);
    assert_ne!(error.hint.as_deref(), Some(""));
}
