//! Messages of the commands that look into snapshots: stats, diff, find, dump.

use std::collections::BTreeMap;

use colvault_engine::columnstore::ObjectClass;
use colvault_engine::diff::{OneSided, Tally};
use colvault_engine::finding::FindingKind;
use colvault_engine::format::text::encode_path;
use colvault_engine::id::{RepositoryId, SessionId};
use colvault_engine::snapshot::Named;
use colvault_engine::stats::{
    Amount, Chunks, GroupName, GroupStats, Occupied, SnapshotStats, Tally as Objects,
};
use serde::Serialize;

use super::super::reports::object_rows;
use super::super::traffic::TrafficFields;
use super::super::{ChangedLine, Compared, Counted, Dumped, ListedEntry, Searched};
use super::{Json, NodeLine, encoded, is_zero, node_line};

/// A message of these commands.
#[derive(Debug, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
enum Message<'a> {
    SnapshotStats(Box<SnapshotRow<'a>>),
    GroupStats(Box<GroupRow<'a>>),
    Change(ChangeLine<'a>),
    ComponentChanges(TallyLine<'a>),
    ColumnChanges(TallyLine<'a>),
    Statistics(Box<Statistics<'a>>),
    Match(Box<MatchLine<'a>>),
    Matches(MatchesLine),
    Summary(Summary<'a>),
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Summary<'a> {
    Stats(Box<StatsSummary<'a>>),
    Find(FindSummary<'a>),
    Dump(DumpSummary<'a>),
}

/// Some chunks.
#[derive(Debug, Serialize)]
struct AmountFields {
    blobs: u64,
    raw_bytes: u64,
    stored_bytes: u64,
}

#[derive(Debug, Serialize)]
struct ChunksFields {
    data: AmountFields,
    tree: AmountFields,
}

impl From<&Amount> for AmountFields {
    fn from(amount: &Amount) -> Self {
        AmountFields {
            blobs: amount.chunks,
            raw_bytes: amount.raw_bytes,
            stored_bytes: amount.stored_bytes,
        }
    }
}

impl From<&Chunks> for ChunksFields {
    fn from(chunks: &Chunks) -> Self {
        ChunksFields { data: (&chunks.data).into(), tree: (&chunks.meta).into() }
    }
}

#[derive(Debug, Serialize)]
struct SnapshotRow<'a> {
    snapshot_id: SessionId,
    time: &'a str,
    hostname: &'a str,
    kind: &'a str,
    group: &'a str,
    total_restore_size: u64,
    total_file_count: u64,
    /// Stored bytes its backup said it added.
    data_added_packed: u64,
    added: ChunksFields,
    freed: ChunksFields,
    stored_until: u64,
}

#[derive(Debug, Serialize)]
struct GroupRow<'a> {
    deployment: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    /// Of a column: its own and its dictionary's.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    oids: &'a [u32],
    total_restore_size: u64,
    total_file_count: u64,
    reached: ChunksFields,
    own: ChunksFields,
    /// Stored bytes that came after the first night, on so many nights, and with the last one.
    added_later_stored: u64,
    nights: u64,
    added_last_stored: u64,
}

#[derive(Debug, Serialize)]
struct StatsSummary<'a> {
    snapshots_count: u64,
    total_restore_size: u64,
    total_file_count: u64,
    /// Stored bytes of the chunks.
    total_size: u64,
    /// Their raw bytes.
    total_uncompressed_size: u64,
    total_blob_count: u64,
    dedup_ratio: f64,
    compression_ratio: f64,
    /// The share of chunks that are stored compressed, in percent.
    compression_progress: f64,
    /// What compression saves, in percent.
    compression_space_saving: f64,
    reached: ChunksFields,
    repository: RepositoryFields<'a>,
    blobs_missing: u64,
    is_complete: bool,
    findings: &'a BTreeMap<FindingKind, u64>,
    num_findings: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

#[derive(Debug, Serialize)]
struct RepositoryFields<'a> {
    id: RepositoryId,
    location: &'a str,
    total_bytes: u64,
    reached: ChunksFields,
    unreached: ChunksFields,
    copies: AmountFields,
    pack_overhead_bytes: u64,
    unusable_packs: u64,
    unusable_pack_bytes: u64,
    index_bytes: u64,
    snapshot_bytes: u64,
    record_bytes: u64,
    foreign_bytes: u64,
    packs: u64,
    packs_unindexed: u64,
    packs_unindexed_bytes: u64,
    objects: BTreeMap<&'static str, ObjectsFields<'a>>,
}

/// Objects of a kind.
#[derive(Debug, Serialize)]
struct ObjectsFields<'a> {
    count: u64,
    bytes: u64,
    /// The storage class that new ones get; absent where the bucket decides, and in a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
}

/// `change`: as restic has it, with sizes.
#[derive(Debug, Serialize)]
struct ChangeLine<'a> {
    path: &'a str,
    modifier: &'static str,
    component: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_after: Option<u64>,
    new_bytes: u64,
    new_bytes_stored: u64,
}

#[derive(Debug, Serialize)]
struct TallyLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    files_added: u64,
    files_removed: u64,
    files_changed: u64,
    metadata_changed: u64,
    bytes_before: u64,
    bytes_after: u64,
    new_bytes: u64,
    new_bytes_stored: u64,
}

/// `statistics`: as restic has it.
#[derive(Debug, Serialize)]
struct Statistics<'a> {
    source_snapshot: SessionId,
    target_snapshot: SessionId,
    changed_files: u64,
    metadata_changed: u64,
    stored_otherwise: u64,
    bytes_before: u64,
    bytes_after: u64,
    new_bytes: u64,
    new_bytes_stored: u64,
    added: SideFields,
    removed: SideFields,
    is_complete: bool,
    findings: &'a BTreeMap<FindingKind, u64>,
    num_findings: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

#[derive(Debug, Serialize)]
struct SideFields {
    files: u64,
    dirs: u64,
    others: u64,
    data_blobs: u64,
    tree_blobs: u64,
    /// Raw bytes of the chunks.
    bytes: u64,
    bytes_stored: u64,
}

/// `match`: an entry that was found, as `ls` shows it.
#[derive(Debug, Serialize)]
struct MatchLine<'a> {
    snapshot: SessionId,
    #[serde(flatten)]
    node: NodeLine<'a>,
}

/// `matches`: how many there are in a snapshot.
#[derive(Debug, Serialize)]
struct MatchesLine {
    snapshot: SessionId,
    hits: u64,
}

#[derive(Debug, Serialize)]
struct FindSummary<'a> {
    hits: u64,
    snapshots_count: u64,
    snapshots_matched: u64,
    /// Snapshots that need the chunk or pack for the names of their tables and columns.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    needed_as_names: &'a [SessionId],
    /// Snapshots that were not searched, as their names of tables could not be read.
    #[serde(skip_serializing_if = "is_zero")]
    snapshots_unsearched: u64,
    is_complete: bool,
    findings: &'a BTreeMap<FindingKind, u64>,
    num_findings: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

#[derive(Debug, Serialize)]
struct DumpSummary<'a> {
    snapshot_id: SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    is_archive: bool,
    total_entries: u64,
    total_files: u64,
    total_bytes: u64,
    total_duration: f64,
    findings: &'a BTreeMap<FindingKind, u64>,
    num_findings: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

impl Json {
    fn report(&self, message: &Message<'_>) {
        // Not flushed line by line: there may be millions.
        self.out.line(&encoded(message));
    }

    pub(super) fn show_counted(&self, shown: &Counted<'_>) {
        let report = shown.report;
        match report.groups.is_empty() {
            true => {
                for row in report.snapshots.iter().take(shown.limit) {
                    self.report(&Message::SnapshotStats(Box::new(snapshot_row(row))));
                }
            }
            false => {
                for row in report.groups.iter().take(shown.limit) {
                    self.report(&Message::GroupStats(Box::new(group_row(row))));
                }
            }
        }
        let all = report.reached.all();
        let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
        self.report(&Message::Summary(Summary::Stats(Box::new(StatsSummary {
            snapshots_count: report.snapshots.len() as u64,
            total_restore_size: report.counts.bytes,
            total_file_count: report.counts.files,
            total_size: all.stored_bytes,
            total_uncompressed_size: all.raw_bytes,
            total_blob_count: all.chunks,
            dedup_ratio: share(report.counts.bytes, all.raw_bytes),
            compression_ratio: share(all.raw_bytes, all.stored_bytes),
            compression_progress: 100.0 * share(all.compressed, all.chunks),
            compression_space_saving: match all.raw_bytes {
                0 => 0.0,
                raw => 100.0 * (1.0 - all.stored_bytes as f64 / raw as f64),
            },
            reached: (&report.reached).into(),
            repository: repository_fields(shown),
            blobs_missing: report.chunks_missing,
            is_complete: shown.findings.is_empty(),
            findings: &shown.findings.counts,
            num_findings: shown.findings.total(),
            traffic: shown.traffic.map(TrafficFields::from),
        }))));
    }

    pub(super) fn show_changed(&self, line: &ChangedLine<'_>) {
        let changed = line.changed;
        self.report(&Message::Change(ChangeLine {
            path: line.path,
            modifier: changed.change.sign(),
            component: &changed.component.name,
            size_before: changed.before.map(|entry| entry.size()),
            size_after: changed.after.map(|entry| entry.size()),
            new_bytes: changed.new.raw_bytes,
            new_bytes_stored: changed.new.stored_bytes,
        }));
    }

    pub(super) fn show_compared(&self, compared: &Compared<'_>) {
        let report = compared.report;
        for (name, tally) in &report.components {
            self.report(&Message::ComponentChanges(tally_line(Some(name), None, tally)));
        }
        for (oid, tally) in &report.columns {
            self.report(&Message::ColumnChanges(tally_line(None, Some(*oid), tally)));
        }
        self.report(&Message::Statistics(Box::new(Statistics {
            source_snapshot: compared.before.id,
            target_snapshot: compared.after.id,
            changed_files: report.total.files_changed,
            metadata_changed: report.total.metadata_changed,
            stored_otherwise: report.total.stored_otherwise,
            bytes_before: report.total.bytes_before,
            bytes_after: report.total.bytes_after,
            new_bytes: report.total.new.raw_bytes,
            new_bytes_stored: report.total.new.stored_bytes,
            added: side_fields(&report.added),
            removed: side_fields(&report.removed),
            is_complete: compared.findings.is_empty(),
            findings: &compared.findings.counts,
            num_findings: compared.findings.total(),
            traffic: compared.traffic.map(TrafficFields::from),
        })));
    }

    pub(super) fn show_found(&self, named: &Named, listed: &ListedEntry<'_>) {
        let (snapshot, node) = (named.id, node_line(listed));
        self.report(&Message::Match(Box::new(MatchLine { snapshot, node })));
    }

    pub(super) fn show_found_in(&self, named: &Named, number: Option<u64>) {
        if let Some(hits) = number {
            self.report(&Message::Matches(MatchesLine { snapshot: named.id, hits }));
        }
    }

    pub(super) fn show_searched(&self, searched: &Searched<'_>) {
        let report = searched.report;
        self.report(&Message::Summary(Summary::Find(FindSummary {
            hits: report.matches,
            snapshots_count: report.snapshots,
            snapshots_matched: report.snapshots_matched,
            needed_as_names: &report.needed_as_names,
            snapshots_unsearched: searched.unsearched,
            is_complete: searched.findings.is_empty() && searched.unsearched == 0,
            findings: &searched.findings.counts,
            num_findings: searched.findings.total(),
            traffic: searched.traffic.map(TrafficFields::from),
        })));
    }

    pub(super) fn show_dumped(&self, dumped: &Dumped<'_>) {
        let report = dumped.report;
        self.report(&Message::Summary(Summary::Dump(DumpSummary {
            snapshot_id: dumped.named.id,
            output: dumped.output.map(encode_path),
            is_archive: report.is_archive,
            total_entries: report.entries,
            total_files: report.files,
            total_bytes: report.bytes,
            total_duration: dumped.elapsed.as_secs_f64(),
            findings: &dumped.findings.counts,
            num_findings: dumped.findings.total(),
            traffic: dumped.traffic.map(TrafficFields::from),
        })));
    }
}

fn snapshot_row(row: &SnapshotStats) -> SnapshotRow<'_> {
    let snapshot = &row.named.snapshot;
    SnapshotRow {
        snapshot_id: row.named.id,
        time: &snapshot.time,
        hostname: &snapshot.host,
        kind: &snapshot.kind,
        group: &snapshot.group,
        total_restore_size: row.counts.bytes,
        total_file_count: row.counts.files,
        data_added_packed: row.added_recorded,
        added: (&row.added).into(),
        freed: (&row.freed).into(),
        stored_until: row.stored_until,
    }
}

fn group_row(row: &GroupStats) -> GroupRow<'_> {
    let mut fields = (None, None, None, None);
    let (component, table, column, oid) = &mut fields;
    match &row.name {
        GroupName::Component(name) => *component = Some(name.as_str()),
        GroupName::Table(name) => *table = Some(name.as_str()),
        GroupName::Column { table: of, column: name } => {
            (*table, *column) = (Some(of.as_str()), Some(name.as_str()));
        }
        GroupName::Oid(number) => *oid = Some(*number),
        GroupName::Rest => {}
    }
    let (component, table, column, oid) = fields;
    GroupRow {
        deployment: &row.deployment,
        component,
        table,
        column,
        oid,
        class: oid.map(|oid| ObjectClass::of(oid).name()),
        oids: &row.oids,
        total_restore_size: row.logical_bytes,
        total_file_count: row.files,
        reached: (&row.reached).into(),
        own: (&row.exclusive).into(),
        added_later_stored: row.added_later,
        nights: row.nights,
        added_last_stored: row.added_last,
    }
}

fn repository_fields<'a>(shown: &Counted<'a>) -> RepositoryFields<'a> {
    let occupied: &Occupied = &shown.report.occupied;
    RepositoryFields {
        id: shown.id,
        location: shown.location,
        total_bytes: occupied.total_bytes(),
        reached: (&occupied.reached).into(),
        unreached: (&occupied.unreached).into(),
        copies: (&occupied.copies).into(),
        pack_overhead_bytes: occupied.pack_overhead_bytes,
        unusable_packs: occupied.unusable_packs,
        unusable_pack_bytes: occupied.unusable_pack_bytes,
        index_bytes: occupied.objects.indexes.bytes,
        snapshot_bytes: occupied.objects.snapshots.bytes,
        record_bytes: occupied.objects.records.bytes,
        foreign_bytes: occupied.objects.foreign.bytes,
        packs: occupied.packs,
        packs_unindexed: occupied.packs_unindexed,
        packs_unindexed_bytes: occupied.packs_unindexed_bytes,
        objects: object_rows(&occupied.objects, shown.classes)
            .into_iter()
            .map(|row| {
                let Objects { count, bytes } = row.tally;
                (row.name, ObjectsFields { count, bytes, class: row.class.flatten() })
            })
            .collect(),
    }
}

fn tally_line<'a>(component: Option<&'a str>, oid: Option<u32>, tally: &Tally) -> TallyLine<'a> {
    TallyLine {
        component,
        oid,
        class: oid.map(|oid| ObjectClass::of(oid).name()),
        files_added: tally.files_added,
        files_removed: tally.files_removed,
        files_changed: tally.files_changed,
        metadata_changed: tally.metadata_changed,
        bytes_before: tally.bytes_before,
        bytes_after: tally.bytes_after,
        new_bytes: tally.new.raw_bytes,
        new_bytes_stored: tally.new.stored_bytes,
    }
}

fn side_fields(side: &OneSided) -> SideFields {
    let all = side.chunks.all();
    SideFields {
        files: side.files,
        dirs: side.directories,
        others: side.others,
        data_blobs: side.chunks.data.chunks,
        tree_blobs: side.chunks.meta.chunks,
        bytes: all.raw_bytes,
        bytes_stored: all.stored_bytes,
    }
}
