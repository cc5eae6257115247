//! Lines of JSON, each with its `message_type`; restic's names where it has the idea.
//!
//! `snapshots` writes one array, as restic does. Everything goes to standard output but
//! `exit_error`, which goes to standard error.

mod bucket;
mod inspect;
mod plan;
mod proof;
mod reports;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

#[cfg(feature = "s3")]
use colvault_engine::backend::Key;
use colvault_engine::finding::{Finding, FindingKind, Findings};
use colvault_engine::format::config::{CutterParameters, ObjectLock, SlotParameters, StoreFacts};
use colvault_engine::format::manifest::Node;
use colvault_engine::format::snapshot::{
    BackupStats, Counts, CredentialRecord, LeftOutRecord, Proof, RecipeStats, Snapshot,
    SnapshotState, SystemOfRecord, Verified,
};
use colvault_engine::format::text::{encode, encode_path};
use colvault_engine::id::{RepositoryId, SessionId};
use colvault_engine::progress::{Event, Observer};
use colvault_engine::snapshot::Named;
#[cfg(feature = "s3")]
use colvault_engine::undelete::Undone;
use serde::Serialize;

#[cfg(feature = "s3")]
use super::Undeleted;
use super::progress::{Figures, Progress};
use super::reload;
use super::stream::Stream;
use super::traffic::TrafficFields;
use super::{
    BackedUp, ChangedLine, Checked, ColumnName, Compared, Counted, Created, Dumped, Inspected,
    ListedEntry, Locked, Output, Planned, Proved, Restored, RestoredColumn, Searched, Snapshots,
};
use crate::exit::{Exit, Failure};
use crate::settings::Value;
use crate::source::Source;
use crate::units;

/// How often a status line is written.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// A message on standard output.
#[derive(Debug, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
enum Message<'a> {
    Status(Status),
    VerboseStatus(VerboseStatus<'a>),
    Warning { message: &'a str },
    Note { message: &'a str },
    Credential(&'a CredentialRecord),
    Finding(&'a Finding),
    Setting(plan::SettingLine<'a>),
    Initialized(Initialized<'a>),
    Summary(Summary<'a>),
    Proof(proof::ProofLine<'a>),
    Snapshot(Box<SnapshotLine<'a>>),
    Node(NodeLine<'a>),
}

/// `status`: how far it has come.
#[derive(Debug, Serialize)]
struct Status {
    seconds_elapsed: u64,
    percent_done: f64,
    #[serde(skip_serializing_if = "is_zero")]
    total_files: u64,
    files_done: u64,
    #[serde(skip_serializing_if = "is_zero")]
    total_bytes: u64,
    bytes_done: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_remaining: Option<u64>,
    error_count: u64,
}

/// `verbose_status`: one step, with `-v`.
#[derive(Debug, Serialize)]
struct VerboseStatus<'a> {
    action: &'static str,
    item: &'a str,
}

/// `initialized`: a new repository.
#[derive(Debug, Serialize)]
struct Initialized<'a> {
    id: RepositoryId,
    repository: &'a str,
    encryption: &'a str,
    pack_bytes: u32,
    chunker: &'a CutterParameters,
    slots: &'a SlotParameters,
    /// What is known of the store; only in a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<StoreFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

/// What is known of a store.
#[derive(Debug, Serialize)]
struct StoreFields {
    /// `kept` or `ignored`: what it does with a write that is to create and never to replace.
    create_only: &'static str,
    /// `kept` or `ignored`: what it does with the checksums that objects are sent with.
    verifies: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_lock: Option<ObjectLock>,
}

impl From<&StoreFacts> for StoreFields {
    fn from(facts: &StoreFacts) -> Self {
        StoreFields {
            create_only: facts.create_only.name(),
            verifies: facts.verifies.name(),
            object_lock: facts.object_lock,
        }
    }
}

/// `summary`: what came of a command.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Summary<'a> {
    Backup(Box<BackupSummary<'a>>),
    Plan(Box<plan::PlanSummary<'a>>),
    Restore(RestoreSummary<'a>),
    Check(CheckSummary<'a>),
}

/// The figures of a backup under restic's names, and what was deduplicated.
#[derive(Debug, Serialize)]
struct BackupFigures<'a> {
    backup_start: &'a str,
    backup_end: &'a str,
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
    #[serde(flatten)]
    verified: Verified,
    #[serde(flatten)]
    recipes: RecipeStats,
}

#[derive(Debug, Serialize)]
struct BackupSummary<'a> {
    #[serde(flatten)]
    figures: BackupFigures<'a>,
    total_duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_id: Option<SessionId>,
    dry_run: bool,
    /// `recipe` or `packed`: in which form slots were stored where they could be.
    slots: &'static str,
    packers: &'a [String],
    parent: Option<SessionId>,
    state: SnapshotState,
    kind: &'a str,
    group: &'a str,
    evidence: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<&'a SystemOfRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'a Proof>,
    num_left_out: u64,
    findings: &'a BTreeMap<FindingKind, u64>,
    num_findings: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

#[derive(Debug, Serialize)]
struct RestoreSummary<'a> {
    seconds_elapsed: u64,
    total_duration: f64,
    snapshot_id: SessionId,
    dry_run: bool,
    total_files: u64,
    files_restored: u64,
    files_skipped: u64,
    files_deleted: u64,
    total_bytes: u64,
    bytes_restored: u64,
    bytes_skipped: u64,
    components: Vec<RestoredComponent<'a>>,
    /// The tables whose segment files alone were restored.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tables: &'a [String],
    /// Their columns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    columns: Vec<RestoredColumnLine<'a>>,
    /// What is to be done after the files are back, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reload: Vec<String>,
    findings: &'a BTreeMap<FindingKind, u64>,
    num_findings: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

#[derive(Debug, Serialize)]
struct RestoredColumnLine<'a> {
    oid: u32,
    #[serde(flatten)]
    name: &'a ColumnName,
    files: u64,
}

#[derive(Debug, Serialize)]
struct RestoredComponent<'a> {
    name: &'a str,
    target: String,
}

#[derive(Debug, Serialize)]
struct CheckSummary<'a> {
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
    findings: &'a BTreeMap<FindingKind, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

/// A snapshot, in the array of `snapshots` and at the head of `ls`.
#[derive(Debug, Serialize)]
struct SnapshotLine<'a> {
    time: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<SessionId>,
    paths: &'a [String],
    hostname: &'a str,
    tags: &'a [String],
    program_version: &'a str,
    /// What a restore needs to pack slots again.
    packers: &'a [String],
    summary: BackupFigures<'a>,
    id: SessionId,
    short_id: String,
    state: SnapshotState,
    kind: &'a str,
    group: &'a str,
    topology: &'a str,
    evidence: &'a BTreeMap<String, String>,
    facts: &'a BTreeMap<String, String>,
    components: Vec<ComponentLine<'a>>,
    /// The first 1000, as the snapshot names them.
    left_out: &'a [LeftOutRecord],
    num_left_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<&'a SystemOfRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'a Proof>,
    credentials: &'a [CredentialRecord],
    findings: &'a BTreeMap<FindingKind, u64>,
    num_findings: u64,
    /// The first 1000, as the snapshot names them.
    findings_listed: &'a [Finding],
}

#[derive(Debug, Serialize)]
struct ComponentLine<'a> {
    name: &'a str,
    path: &'a str,
    #[serde(flatten)]
    counts: Counts,
}

/// `node`: a path of a snapshot.
#[derive(Debug, Serialize)]
struct NodeLine<'a> {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    path: &'a str,
    component: &'a str,
    uid: u32,
    gid: u32,
    user: String,
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    mode: u32,
    permissions: String,
    mtime: String,
    ctime: String,
    inode: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    linktarget: Option<String>,
    /// The column it belongs to, where tables were asked for.
    #[serde(flatten)]
    column: Option<&'a ColumnName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<String>,
}

/// `exit_error`, on standard error.
#[derive(Debug, Serialize)]
struct ExitError<'a> {
    message_type: &'static str,
    code: u8,
    message: &'a str,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// Returns the line that says why the program ends without success.
pub fn exit_error_line(exit: Exit, message: &str, hint: Option<&str>) -> String {
    encoded(&ExitError { message_type: "exit_error", code: exit.code(), message, hint })
}

fn encoded(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("messages have no maps with other keys than text")
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Writes messages.
pub struct Json {
    out: Stream,
    progress: Progress,
    is_quiet: bool,
    is_verbose: bool,
}

impl Json {
    /// Writes to standard output; quiet is without `status`, verbose with `verbose_status`.
    pub fn new(is_quiet: bool, is_verbose: bool) -> Self {
        Json { out: Stream::stdout(), progress: Progress::new(), is_quiet, is_verbose }
    }

    fn send(&self, message: &Message<'_>) {
        self.out.line(&encoded(message));
        self.out.flush();
    }
}

impl Observer for Json {
    fn event(&self, event: Event<'_>) {
        self.progress.count(&event);
        let verbose = |action, item| {
            if self.is_verbose {
                self.send(&Message::VerboseStatus(VerboseStatus { action, item }));
            }
        };
        match event {
            Event::Finding(finding) => self.send(&Message::Finding(finding)),
            Event::Warning(message) => self.send(&Message::Warning { message }),
            Event::Stage(name) => verbose("stage", name),
            Event::Would(path) => verbose("would", path),
            Event::WouldDelete(path) => verbose("would_delete", path),
            Event::Delete(path) => verbose("delete", path),
            Event::KeptPacked { object, .. } => verbose("kept_packed", object),
            Event::Done { .. } if !self.is_quiet && self.progress.is_due(STATUS_PAUSE) => {
                self.send(&Message::Status(status(self.progress.figures())));
            }
            _ => {}
        }
    }
}

impl Output for Json {
    fn source(&self, source: &Source) {
        for message in source.told() {
            self.send(&Message::Note { message: &message });
        }
        for record in &source.credentials {
            self.send(&Message::Credential(record));
        }
    }

    fn settings(&self, values: &[Value]) {
        for value in values {
            self.out.line(&encoded(&Message::Setting(plan::setting(value))));
        }
    }

    fn planned(&self, planned: &Planned<'_>) {
        for message in planned.notes {
            self.send(&Message::Note { message });
        }
        for record in planned.credentials {
            self.send(&Message::Credential(record));
        }
        self.send(&Message::Summary(Summary::Plan(Box::new(plan::summary(planned)))));
    }

    fn created(&self, created: &Created<'_>) {
        self.send(&Message::Initialized(Initialized {
            id: created.config.repository,
            repository: created.location,
            encryption: &created.config.encryption,
            pack_bytes: created.config.pack_bytes,
            chunker: &created.config.cutter,
            slots: &created.config.slots,
            store: created.next.is_bucket.then(|| (&created.config.store).into()),
            traffic: created.traffic.map(TrafficFields::from),
        }));
    }

    fn backed_up(&self, backed_up: &BackedUp<'_>) {
        let snapshot = &backed_up.report.snapshot;
        self.send(&Message::Summary(Summary::Backup(Box::new(BackupSummary {
            figures: figures(&snapshot.time, &snapshot.end, &snapshot.stats, snapshot.counts()),
            total_duration: backed_up.elapsed.as_secs_f64(),
            snapshot_id: backed_up.report.id,
            dry_run: backed_up.dry_run,
            slots: backed_up.report.slots.name(),
            packers: &snapshot.packers,
            parent: snapshot.parent,
            state: snapshot.state,
            kind: &snapshot.kind,
            group: &snapshot.group,
            evidence: &snapshot.evidence,
            record: snapshot.record.as_ref(),
            proof: snapshot.proof.as_ref(),
            num_left_out: backed_up.report.left_out_total,
            findings: &backed_up.findings.counts,
            num_findings: backed_up.findings.total(),
            traffic: backed_up.traffic.map(TrafficFields::from),
        }))));
    }

    fn snapshots(&self, snapshots: &Snapshots<'_>) {
        let lines: Vec<_> = snapshots.snapshots.iter().map(|named| snapshot_line(named)).collect();
        self.out.line(&encoded(&lines));
    }

    fn listing(&self, named: &Named) {
        self.out.line(&encoded(&Message::Snapshot(Box::new(snapshot_line(named)))));
    }

    fn listed(&self, listed: &ListedEntry<'_>) {
        // Not flushed line by line: there may be millions.
        self.out.line(&encoded(&Message::Node(node_line(listed))));
    }

    fn listing_ended(&self, _findings: &Findings) {}

    fn restored(&self, restored: &Restored<'_>) {
        let report = restored.report;
        let placed = report.components.iter();
        self.send(&Message::Summary(Summary::Restore(RestoreSummary {
            seconds_elapsed: restored.elapsed.as_secs(),
            total_duration: restored.elapsed.as_secs_f64(),
            snapshot_id: restored.named.id,
            dry_run: restored.dry_run,
            total_files: report.files_total,
            files_restored: report.files_restored,
            files_skipped: report.files_skipped,
            files_deleted: report.files_deleted,
            total_bytes: report.bytes_total,
            bytes_restored: report.bytes_restored,
            bytes_skipped: report.bytes_skipped,
            components: placed
                .map(|(name, path)| RestoredComponent { name, target: encode_path(path) })
                .collect(),
            tables: restored.tables,
            columns: restored.columns.iter().map(column_line).collect(),
            reload: reload::after(restored),
            findings: &restored.findings.counts,
            num_findings: restored.findings.total(),
            traffic: restored.traffic.map(TrafficFields::from),
        })));
    }

    fn checked(&self, checked: &Checked<'_>) {
        let report = checked.report;
        self.send(&Message::Summary(Summary::Check(CheckSummary {
            num_errors: checked.findings.total(),
            is_damaged: checked.exit == Exit::Damaged,
            snapshots: report.snapshots,
            packs: report.packs,
            indexes: report.indexes,
            chunks: report.chunks,
            leases: report.leases,
            packs_read: report.packs_read,
            packs_unindexed: report.packs_unindexed,
            bytes_read: report.bytes_read,
            total_duration: checked.elapsed.as_secs_f64(),
            findings: &checked.findings.counts,
            traffic: checked.traffic.map(TrafficFields::from),
        })));
    }

    fn proved(&self, proved: &Proved<'_>) {
        self.send(&Message::Proof(proof::line(proved)));
    }

    fn counted(&self, counted: &Counted<'_>) {
        self.show_counted(counted);
    }

    fn comparing(&self, _before: &Named, _after: &Named) {}

    fn changed(&self, changed: &ChangedLine<'_>) {
        self.show_changed(changed);
    }

    fn compared(&self, compared: &Compared<'_>) {
        self.show_compared(compared);
    }

    fn found_in(&self, named: &Named, count: Option<u64>) {
        self.show_found_in(named, count);
    }

    fn found(&self, named: &Named, listed: &ListedEntry<'_>) {
        self.show_found(named, listed);
    }

    fn searched(&self, searched: &Searched<'_>) {
        self.show_searched(searched);
    }

    fn dumped(&self, dumped: &Dumped<'_>) {
        self.show_dumped(dumped);
    }

    fn inspected(&self, inspected: &Inspected<'_>) {
        self.show_inspected(inspected);
    }

    fn locked(&self, locked: &Locked<'_>) {
        self.send_locked(locked);
    }

    #[cfg(feature = "s3")]
    fn undeleted(&self, key: &Key, undone: Undone, dry_run: bool) {
        let action = match undone {
            Undone::Undeleted => "undeleted",
            Undone::PutAgain => "put-again",
        };
        self.send_undeleted(&key.to_string(), action, dry_run);
    }

    #[cfg(feature = "s3")]
    fn undelete_ended(&self, undeleted: &Undeleted<'_>) {
        self.send_undelete_ended(undeleted);
    }

    fn is_for_programs(&self) -> bool {
        true
    }

    #[cfg(feature = "demo")]
    fn demo(&self, message: &crate::demo::message::Message) {
        self.out.line(&encoded(message));
        self.out.flush();
    }

    fn failed(&self, failure: &Failure) {
        let line = exit_error_line(failure.exit(), &failure.message(), failure.hint());
        // Nobody may be listening any more; there is nobody to tell.
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    fn is_closed(&self) -> bool {
        self.out.is_closed()
    }

    fn finish(&self) -> io::Result<()> {
        self.out.finish()
    }
}

fn status(figures: Figures) -> Status {
    let share = match figures.bytes_expected {
        0 => 0.0,
        expected => (figures.bytes as f64 / expected as f64).min(1.0),
    };
    let elapsed = figures.elapsed.as_secs_f64();
    Status {
        seconds_elapsed: figures.elapsed.as_secs(),
        percent_done: share,
        total_files: figures.entries_expected,
        files_done: figures.entries,
        total_bytes: figures.bytes_expected,
        bytes_done: figures.bytes,
        seconds_remaining: (share > 0.0).then(|| (elapsed / share - elapsed) as u64),
        error_count: figures.findings,
    }
}

fn figures<'a>(
    start: &'a str,
    end: &'a str,
    stats: &BackupStats,
    counts: Counts,
) -> BackupFigures<'a> {
    BackupFigures {
        backup_start: start,
        backup_end: end,
        files_new: stats.files_new,
        files_changed: stats.files_changed,
        files_unmodified: stats.files_unmodified,
        dirs_new: stats.dirs_new,
        dirs_changed: stats.dirs_changed,
        dirs_unmodified: stats.dirs_unmodified,
        data_blobs: stats.data_chunks,
        tree_blobs: stats.meta_chunks,
        data_added: stats.data_added,
        data_added_packed: stats.data_added_packed,
        total_files_processed: counts.files,
        total_bytes_processed: counts.bytes,
        bytes_read: stats.bytes_read,
        bytes_deduplicated: stats.bytes_deduplicated,
        packs_added: stats.packs,
        indexes_added: stats.indexes,
        verified: stats.verified,
        recipes: stats.recipes,
    }
}

fn snapshot_line(named: &Named) -> SnapshotLine<'_> {
    let snapshot = &named.snapshot;
    SnapshotLine {
        time: &snapshot.time,
        parent: snapshot.parent,
        paths: &snapshot.paths,
        hostname: &snapshot.host,
        tags: &snapshot.tags,
        program_version: &snapshot.program,
        packers: &snapshot.packers,
        summary: figures(&snapshot.time, &snapshot.end, &snapshot.stats, snapshot.counts()),
        id: named.id,
        short_id: named.id.short(),
        state: snapshot.state,
        kind: &snapshot.kind,
        group: &snapshot.group,
        topology: &snapshot.topology,
        evidence: &snapshot.evidence,
        facts: &snapshot.facts,
        components: snapshot
            .components
            .iter()
            .map(|c| ComponentLine { name: &c.name, path: &c.path, counts: c.counts })
            .collect(),
        left_out: &snapshot.left_out,
        num_left_out: left_out_total(snapshot),
        record: snapshot.record.as_ref(),
        proof: snapshot.proof.as_ref(),
        credentials: &snapshot.credentials,
        findings: &snapshot.findings.counts,
        num_findings: snapshot.findings.total(),
        findings_listed: &snapshot.findings.listed,
    }
}

/// How many paths a snapshot left out: those it names, or what it says when it does not name all.
fn left_out_total(snapshot: &Snapshot) -> u64 {
    let said = snapshot.facts.get("left_out_total").and_then(|total| total.parse().ok());
    said.unwrap_or(snapshot.left_out.len() as u64)
}

fn column_line(column: &RestoredColumn) -> RestoredColumnLine<'_> {
    RestoredColumnLine { oid: column.oid, name: &column.name, files: column.files }
}

fn node_line<'a>(listed: &ListedEntry<'a>) -> NodeLine<'a> {
    let entry = listed.entry;
    let linktarget = match &entry.node {
        Node::Symlink { target } => Some(encode(target)),
        _ => None,
    };
    let has_size = matches!(entry.node, Node::File { .. } | Node::Unreadable { .. });
    NodeLine {
        name: encode(entry.name()),
        kind: entry.node.type_name(),
        path: listed.path,
        component: &listed.component.name,
        uid: entry.uid,
        gid: entry.gid,
        user: encode(&entry.user),
        group: encode(&entry.group),
        size: has_size.then(|| entry.size()),
        mode: entry.mode,
        permissions: units::permissions(entry),
        mtime: units::utc_time(entry.mtime.seconds, entry.mtime.nanoseconds),
        ctime: units::utc_time(entry.identity.ctime.seconds, entry.identity.ctime.nanoseconds),
        inode: entry.identity.inode,
        linktarget,
        column: listed.column,
        findings: entry.findings.iter().map(|finding| encode(&finding.detail)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_carries_its_type() {
        let finding = Finding::new(FindingKind::Vanished, "a", "b");
        assert_eq!(
            encoded(&Message::Finding(&finding)),
            r#"{"message_type":"finding","kind":"vanished","object":"a","detail":"b"}"#
        );
        assert_eq!(
            encoded(&Message::Warning { message: "x" }),
            r#"{"message_type":"warning","message":"x"}"#
        );
        assert_eq!(
            exit_error_line(Exit::Locked, "m", Some("h")),
            r#"{"message_type":"exit_error","code":11,"message":"m","hint":"h"}"#
        );
        let findings = BTreeMap::from([(FindingKind::NotFrozen, 2)]);
        let summary = Message::Summary(Summary::Check(CheckSummary {
            num_errors: 2,
            is_damaged: false,
            snapshots: 0,
            packs: 0,
            indexes: 0,
            chunks: 0,
            leases: 0,
            packs_read: 0,
            packs_unindexed: 0,
            bytes_read: 0,
            total_duration: 0.5,
            findings: &findings,
            traffic: None,
        }));
        let line = encoded(&summary);
        assert!(line.starts_with(r#"{"message_type":"summary","num_errors":2,"#), "{line}");
        assert!(line.ends_with(r#""findings":{"not-frozen":2}}"#), "{line}");
    }

    #[test]
    fn status_knows_a_share_only_of_what_is_known() {
        let mut figures = Figures {
            elapsed: Duration::from_secs(10),
            entries: 1,
            bytes: 25,
            entries_expected: 0,
            bytes_expected: 0,
            findings: 0,
        };
        assert_eq!(status(figures).percent_done, 0.0);
        assert_eq!(status(figures).seconds_remaining, None);
        figures.bytes_expected = 100;
        assert_eq!(status(figures).percent_done, 0.25);
        assert_eq!(status(figures).seconds_remaining, Some(30));
    }
}
