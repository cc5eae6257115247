//! `proof`: what came of `check --columnstore`.

use std::collections::BTreeMap;

use colvault_engine::finding::FindingKind;
use colvault_engine::format::snapshot::Proof;
use colvault_engine::id::SessionId;
use serde::Serialize;

use super::super::Proved;
use super::super::traffic::TrafficFields;

#[derive(Debug, Serialize)]
pub(super) struct ProofLine<'a> {
    snapshot_id: SessionId,
    time: &'a str,
    group: &'a str,
    #[serde(flatten)]
    proof: &'a Proof,
    findings: &'a BTreeMap<FindingKind, u64>,
    num_findings: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFields>,
}

pub(super) fn line<'a>(shown: &Proved<'a>) -> ProofLine<'a> {
    let snapshot = &shown.named.snapshot;
    ProofLine {
        snapshot_id: shown.named.id,
        time: &snapshot.time,
        group: &snapshot.group,
        proof: &shown.outcome.proof,
        findings: &shown.findings.counts,
        num_findings: shown.findings.total(),
        traffic: shown.traffic.map(TrafficFields::from),
    }
}
