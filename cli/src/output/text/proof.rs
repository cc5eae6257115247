//! Text of proofs: a line for a backup, all rules for `check --columnstore`.

use colvault_engine::format::snapshot::{Proof, Snapshot, Verdict};
use colvault_engine::proof::Rule;

use super::super::table::{Align, Table};
use super::super::{Proved, reload};
use super::{LOST, Text};
use crate::units::{count, counted, local_time};

impl Text {
    pub(super) fn show_proved(&self, shown: &Proved<'_>) {
        let (named, proof) = (shown.named, &shown.outcome.proof);
        let time = local_time(&named.snapshot.time);
        self.say(format!("proof of snapshot {} of {time}: {}", named.id.short(), sentence(proof)));
        let mut table = Table::new(&[
            ("Rule", Align::Left),
            ("Checked", Align::Right),
            ("Failed", Align::Right),
        ]);
        for rule in Rule::ALL {
            let cells = match proof.rules.get(rule.name()) {
                Some(times) => [count(times.checked), count(times.failed)],
                None => ["-".to_owned(), "-".to_owned()],
            };
            table.row([vec![rule.name().to_owned()], cells.into()].concat());
        }
        table.lines().iter().for_each(|line| self.say(format!("  {line}")));
        notes(proof).iter().for_each(|line| self.say(line));
        self.findings(shown.findings);
        match proof.verdict {
            Verdict::Proved => self.say(format!(
                "ColumnStore's own files agree{}, and all content is in packs that are there; whether \
                 its bytes are still what was stored, check --read-data tells",
                match reload::lacks(&shown.named.snapshot) {
                    Some(lacks) => format!(" {lacks}"),
                    None => String::new(),
                }
            )),
            Verdict::Unproven => {
                self.say("what could be checked holds, and all content is in packs that are there");
            }
            Verdict::Refuted if LOST.iter().any(|kind| shown.findings.count(*kind) > 0) => self
                .complain(
                    "a restore of this snapshot lacks content, as the findings say; the next backup \
                     stores anew what the source still has",
                ),
            Verdict::Refuted => self.complain(
                "what a restore of this snapshot brings back does not fit together, as the findings \
                 say",
            ),
        }
    }
}

/// The lines of a backup about its proof; none when there is none.
pub(super) fn lines(snapshot: &Snapshot) -> Vec<String> {
    let Some(proof) = &snapshot.proof else { return Vec::new() };
    let mut lines = vec![format!("proof: {}", sentence(proof))];
    lines.extend(notes(proof));
    lines
}

/// The word in a list of snapshots.
pub(super) fn word(snapshot: &Snapshot) -> String {
    snapshot.proof.as_ref().map_or("-", |proof| proof.verdict.name()).to_owned()
}

/// The verdict, what it is about, and the rules that do not hold.
fn sentence(proof: &Proof) -> String {
    let mut text = format!(
        "{}: {}, {}, {}",
        proof.verdict.name(),
        counted(proof.extents, "extent", "extents"),
        counted(proof.segment_files, "segment file", "segment files"),
        counted(proof.rules.len() as u64, "rule", "rules")
    );
    let failed: Vec<_> = Rule::ALL
        .iter()
        .filter_map(|rule| Some((rule.name(), proof.rules.get(rule.name())?)))
        .filter(|(_, times)| times.failed > 0)
        .map(|(name, times)| {
            format!("{name} ({} of {})", count(times.failed), count(times.checked))
        })
        .collect();
    if !failed.is_empty() {
        text.push_str(&format!("; it fails {}", failed.join(", ")));
    }
    text
}

fn notes(proof: &Proof) -> Vec<String> {
    let unchecked = proof.unchecked.iter().map(|why| format!("not checked: {why}"));
    let left_out = proof.left_out.iter().map(|what| format!("not in it on purpose: {what}"));
    unchecked.chain(left_out).collect()
}
