//! A plan and the settings, for programs.

use std::collections::BTreeMap;

use colvault_engine::finding::FindingKind;
use colvault_engine::format::config::SlotForm;
use colvault_engine::format::snapshot::{LeftOutRecord, SystemOfRecord};
use colvault_engine::format::text::encode_path;
use colvault_engine::id::SessionId;
use colvault_engine::plan::{Basis, PlannedComponent};
use colvault_engine::source::file_system::FileSystem;
use serde::Serialize;

use crate::output::Planned;
use crate::output::traffic::TrafficFields;
use crate::settings::{Kind, Origin, Value};

/// `setting`: one of them, what it came to and where that was said.
#[derive(Debug, Serialize)]
pub struct SettingLine<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<String>,
    /// Absent when nobody said anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<SettingValue>,
    /// What holds then, in words.
    unset: &'a str,
    origin: OriginLine,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum SettingValue {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<String>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "layer", rename_all = "snake_case")]
enum OriginLine {
    Default,
    File { path: String, line: usize, key: String },
    Environment { name: String },
    Flag { name: String },
}

/// Makes the line of a setting.
pub fn setting(value: &Value) -> SettingLine<'_> {
    SettingLine {
        name: value.setting.key,
        variable: value.setting.variable(),
        value: value.shown().map(|values| typed(value.setting.kind, values)),
        unset: value.setting.unset,
        origin: match value.origin().clone() {
            Origin::Default => OriginLine::Default,
            Origin::File { path, line, key } => {
                OriginLine::File { path: encode_path(&path), line, key }
            }
            Origin::Environment { name } => OriginLine::Environment { name },
            Origin::Flag { name } => OriginLine::Flag { name },
        },
    }
}

fn typed(kind: Kind, values: Vec<String>) -> SettingValue {
    let first = values.first().cloned().unwrap_or_default();
    match kind {
        Kind::List | Kind::Steps => SettingValue::List(values),
        Kind::Number => first.parse().map_or(SettingValue::Text(first), SettingValue::Number),
        Kind::Flag => SettingValue::Flag(
            ["1", "on", "t", "true", "y", "yes"].contains(&&*first.to_lowercase()),
        ),
        Kind::Text => SettingValue::Text(first),
    }
}

/// The summary of a plan.
#[derive(Debug, Serialize)]
pub struct PlanSummary<'a> {
    kind: &'a str,
    group: &'a str,
    hostname: &'a str,
    total_files: u64,
    total_bytes: u64,
    files_new: u64,
    files_changed: u64,
    files_unmodified: u64,
    bytes_to_read: u64,
    parent: Option<SessionId>,
    /// `recipe` or `packed`; absent when nobody and no repository says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<&'static str>,
    /// Whether the last backup stored slots in the other form.
    switches_slots: bool,
    compression: &'static str,
    components: Vec<ComponentLine<'a>>,
    /// The first 1000.
    left_out: &'a [LeftOutRecord],
    num_left_out: u64,
    missing_optional: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<&'a SystemOfRecord>,
    daemons: Vec<DaemonLine<'a>>,
    programs: Vec<ProgramLine>,
    forecast: ForecastLine<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<RepositoryLine<'a>>,
    obstacles: Vec<ObstacleLine>,
    findings: &'a BTreeMap<FindingKind, u64>,
    num_findings: u64,
    total_duration: f64,
    /// What the plan itself asked of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

#[derive(Debug, Serialize)]
struct ComponentLine<'a> {
    name: &'a str,
    path: &'a str,
    files: u64,
    directories: u64,
    symlinks: u64,
    others: u64,
    bytes: u64,
    files_new: u64,
    files_changed: u64,
    files_unmodified: u64,
    bytes_to_read: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_system: Option<FileSystemLine<'a>>,
}

#[derive(Debug, Serialize)]
struct FileSystemLine<'a> {
    kind: &'a str,
    free_bytes: u64,
    cloning: &'a str,
}

#[derive(Debug, Serialize)]
struct DaemonLine<'a> {
    name: &'a str,
    pid: Option<u32>,
    evidence: &'a str,
}

#[derive(Debug, Serialize)]
struct ProgramLine {
    name: &'static str,
    purpose: &'static str,
    path: Option<String>,
}

#[derive(Debug, Serialize)]
struct ForecastLine<'a> {
    /// `nothing`, `nights` or `full`.
    basis: &'static str,
    snapshots: &'a [SessionId],
    bytes_to_read: u64,
    bytes_stored: Option<u64>,
    seconds: Option<f64>,
    /// What would be asked of the store, where that costs anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

#[derive(Debug, Serialize)]
struct RepositoryLine<'a> {
    location: &'a str,
    file_system: Option<FileSystemLine<'a>>,
}

#[derive(Debug, Serialize)]
struct ObstacleLine {
    code: u8,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Makes the summary of a plan.
pub fn summary<'a>(planned: &Planned<'a>) -> PlanSummary<'a> {
    let (report, around) = (planned.report, planned.surroundings);
    let total = report.total();
    let paths = |paths: &[std::path::PathBuf]| paths.iter().map(|path| encode_path(path)).collect();
    let (basis, snapshots): (_, &[SessionId]) = match &report.forecast.basis {
        Basis::Nothing => ("nothing", &[]),
        Basis::Nights(ids) => ("nights", ids),
        Basis::Full(ids) => ("full", ids),
    };
    PlanSummary {
        kind: planned.kind,
        group: planned.group,
        hostname: planned.host,
        total_files: total.counts.files,
        total_bytes: total.counts.bytes,
        files_new: total.files_new,
        files_changed: total.files_changed,
        files_unmodified: total.files_unmodified,
        bytes_to_read: total.bytes_to_read,
        parent: report.parent,
        slots: report.slots.map(SlotForm::name),
        switches_slots: report.switches_slots,
        compression: planned.compression.name(),
        components: report.components.iter().map(|part| component(part, planned)).collect(),
        left_out: &report.left_out,
        num_left_out: report.left_out_total,
        missing_optional: around.map(|around| paths(&around.missing)).unwrap_or_default(),
        bucket: around.and_then(|around| around.bucket.as_deref()),
        record: report.record.as_ref(),
        daemons: around
            .map(|around| &around.running[..])
            .unwrap_or_default()
            .iter()
            .map(|running| DaemonLine {
                name: &running.name,
                pid: running.pid,
                evidence: &running.evidence,
            })
            .collect(),
        programs: planned
            .programs
            .iter()
            .map(|program| ProgramLine {
                name: program.name,
                purpose: program.purpose,
                path: program.path.as_deref().map(encode_path),
            })
            .collect(),
        forecast: ForecastLine {
            basis,
            snapshots,
            bytes_to_read: report.forecast.bytes_to_read,
            bytes_stored: report.forecast.stored_bytes,
            seconds: report.forecast.seconds,
            traffic: planned.requests.map(|requests| requests.of_backup.into()),
        },
        repository: planned.repository.map(|(location, found)| RepositoryLine {
            location,
            file_system: found.as_ref().map(file_system),
        }),
        obstacles: planned
            .obstacles
            .iter()
            .map(|obstacle| ObstacleLine {
                code: obstacle.exit().code(),
                message: obstacle.message(),
                hint: obstacle.hint().map(str::to_owned),
            })
            .collect(),
        findings: &planned.findings.counts,
        num_findings: planned.findings.total(),
        total_duration: planned.elapsed.as_secs_f64(),
        traffic: planned.requests.map(|requests| requests.own.into()),
    }
}

fn component<'a>(part: &'a PlannedComponent, planned: &Planned<'a>) -> ComponentLine<'a> {
    let found = planned.file_systems.iter().find(|(name, _)| *name == part.name);
    ComponentLine {
        name: &part.name,
        path: &part.path,
        files: part.counts.files,
        directories: part.counts.directories,
        symlinks: part.counts.symlinks,
        others: part.counts.others,
        bytes: part.counts.bytes,
        files_new: part.files_new,
        files_changed: part.files_changed,
        files_unmodified: part.files_unmodified,
        bytes_to_read: part.bytes_to_read,
        file_system: found.map(|(_, found)| file_system(found)),
    }
}

fn file_system(found: &FileSystem) -> FileSystemLine<'_> {
    FileSystemLine {
        kind: &found.kind,
        free_bytes: found.free_bytes,
        cloning: found.cloning.name(),
    }
}
