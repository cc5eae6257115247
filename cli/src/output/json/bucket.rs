//! Messages of the commands about what only buckets have: object lock, undelete.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use colvault_engine::finding::FindingKind;
use serde::Serialize;

use super::super::Locked;
#[cfg(feature = "s3")]
use super::super::Undeleted;
use super::super::traffic::TrafficFields;
use super::{Json, encoded};
use crate::units::utc_time;

/// `summary` of `object-lock`.
#[derive(Debug, Serialize)]
struct LockSummary<'a> {
    message_type: &'static str,
    repository: &'a str,
    days: u32,
    mode: &'static str,
    dry_run: bool,
    objects_needed: u64,
    objects_extended: u64,
    objects_failed: u64,
    /// Whether everything that snapshots need could be seen.
    all_seen: bool,
    /// Until when all that are needed are locked; not there where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    locked_until: Option<String>,
    unneeded: Vec<UnneededLine>,
    findings: &'a BTreeMap<FindingKind, u64>,
    num_findings: u64,
    total_duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

/// Packs that no snapshot needs.
#[derive(Debug, Serialize)]
struct UnneededLine {
    /// The day from which they may go; none when that is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    may_go: Option<String>,
    packs: u64,
    bytes: u64,
}

/// `undeleted`: an object that came back.
#[cfg(feature = "s3")]
#[derive(Debug, Serialize)]
struct UndeletedLine<'a> {
    message_type: &'static str,
    object: &'a str,
    /// `undeleted` or `put-again`.
    action: &'static str,
    dry_run: bool,
}

/// `summary` of `repair undelete`.
#[cfg(feature = "s3")]
#[derive(Debug, Serialize)]
struct UndeleteSummary<'a> {
    message_type: &'static str,
    repository: &'a str,
    dry_run: bool,
    /// Whether the bucket keeps versions: `enabled`, `suspended`, `unknown`.
    versioning: &'static str,
    objects_undeleted: u64,
    objects_put_again: u64,
    objects_unchanged: u64,
    objects_gone: u64,
    objects_of_others: u64,
    findings: &'a BTreeMap<FindingKind, u64>,
    num_findings: u64,
    total_duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

impl Json {
    pub(super) fn send_locked(&self, locked: &Locked<'_>) {
        let report = locked.report;
        let unneeded = report.unneeded.iter().map(|(day, unneeded)| UnneededLine {
            may_go: (*day > 0).then(|| utc_time(*day as i64, 0)),
            packs: unneeded.packs,
            bytes: unneeded.bytes,
        });
        let until = report.locked_until.and_then(|until| until.duration_since(UNIX_EPOCH).ok());
        self.out.line(&encoded(&LockSummary {
            message_type: "summary",
            repository: locked.location,
            days: locked.lock.days,
            mode: locked.lock.mode.name(),
            dry_run: locked.dry_run,
            objects_needed: report.needed,
            objects_extended: report.extended,
            objects_failed: report.failed,
            all_seen: report.all_seen,
            locked_until: until.map(|until| utc_time(until.as_secs() as i64, 0)),
            unneeded: unneeded.collect(),
            findings: &locked.findings.counts,
            num_findings: locked.findings.total(),
            total_duration: locked.elapsed.as_secs_f64(),
            traffic: locked.traffic.map(TrafficFields::from),
        }));
    }

    #[cfg(feature = "s3")]
    pub(super) fn send_undeleted(&self, object: &str, action: &'static str, dry_run: bool) {
        let message_type = "undeleted";
        self.out.line(&encoded(&UndeletedLine { message_type, object, action, dry_run }));
    }

    #[cfg(feature = "s3")]
    pub(super) fn send_undelete_ended(&self, undeleted: &Undeleted<'_>) {
        let report = undeleted.report;
        self.out.line(&encoded(&UndeleteSummary {
            message_type: "summary",
            repository: undeleted.location,
            dry_run: undeleted.dry_run,
            versioning: report.versioning.name(),
            objects_undeleted: report.undeleted,
            objects_put_again: report.put_again,
            objects_unchanged: report.unchanged,
            objects_gone: report.gone,
            objects_of_others: report.of_others,
            findings: &undeleted.findings.counts,
            num_findings: undeleted.findings.total(),
            total_duration: undeleted.elapsed.as_secs_f64(),
            traffic: undeleted.traffic.map(TrafficFields::from),
        }));
    }
}
