//! What the demonstration tells: lines of JSON by their types, and the same as text.

use std::time::Duration;

use colvault_engine::id::SessionId;
use serde::{Deserialize, Serialize};

use super::compare::{Comparison, LeftOut};
use super::overlay::Changes;
use super::sample::OWNER;
use crate::exit::Exit;
use crate::output::table::{Align, Table};
use crate::units::{bytes, count, counted, duration, ratio};

/// What to do next, on a host with a deployment of one's own.
const NEXT: &str = "\
next, on a host with ColumnStore, its daemons stopped:
  colvault -r /backup/colvault init
  colvault -r /backup/colvault backup --root /
  colvault -r /backup/colvault snapshots
  colvault -r /backup/colvault restore latest --target /restore
  colvault -r /backup/colvault check --read-data-subset 10%";

/// One message.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "message_type")]
pub enum Message {
    /// Everything is ready.
    #[serde(rename = "demo_started")]
    Started(Started),
    /// A night was backed up.
    #[serde(rename = "demo_night")]
    Night(Night),
    /// A night was restored and compared.
    #[serde(rename = "demo_restored")]
    Restored(Restored),
    /// The repository was checked.
    #[serde(rename = "demo_check")]
    Check(Check),
    /// What came of it all.
    #[serde(rename = "summary")]
    Summary(Summary),
}

/// Where the demonstration runs, and as whom.
#[derive(Clone, Debug, Serialize)]
pub struct Started {
    /// The directory it works in.
    pub directory: String,
    /// Whether that stays.
    pub is_kept: bool,
    /// Bytes of space it needs there.
    pub bytes_needed: u64,
    /// Bytes of space that are free there.
    pub bytes_free: u64,
    /// Whether files are given to their owners: only root may.
    pub is_root: bool,
    /// Whether the host has a user of the owner's name.
    pub has_owner: bool,
}

/// A night: what happened, what its backup cost, what a plain copy cost.
#[derive(Clone, Debug, Serialize)]
pub struct Night {
    /// Its number.
    pub night: usize,
    /// What happened since the night before.
    pub what: &'static str,
    /// Files and directories of the live deployment.
    pub entries: u64,
    /// Files of it.
    pub files: u64,
    /// Bytes in these files.
    pub bytes: u64,
    /// What was changed in it since the night before.
    pub changes: Changes,
    /// How long a plain copy of all of it took.
    pub plain_copy_seconds: f64,
    /// How long the backup took, as a process.
    pub backup_seconds: f64,
    /// What the backup did.
    pub backup: BackupFigures,
    /// Findings and warnings of the backup.
    pub complaints: Vec<String>,
}

/// What a backup did, as it says in its summary.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BackupFigures {
    /// The snapshot it made.
    pub snapshot_id: SessionId,
    /// Whether the snapshot is complete.
    pub state: String,
    /// Files in the snapshot.
    pub total_files_processed: u64,
    /// Bytes in the snapshot.
    pub total_bytes_processed: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Chunks of data added.
    pub data_blobs: u64,
    /// Chunks of manifests added.
    pub tree_blobs: u64,
    /// Bytes of all added chunks before compression.
    pub data_added: u64,
    /// Bytes of all added chunks as stored.
    pub data_added_packed: u64,
}

/// A night that was restored and compared.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// Its number.
    pub night: usize,
    /// How long the restore took, as a process.
    pub restore_seconds: f64,
    /// How long the comparison took.
    pub compare_seconds: f64,
    /// What the comparison came to.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// Findings and warnings of the restore.
    pub complaints: Vec<String>,
}

/// What a check looked at, as it says in its summary.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Check {
    /// Snapshots checked.
    pub snapshots: u64,
    /// Chunks in the repository.
    pub chunks: u64,
    /// Packs read.
    pub packs_read: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// How long it took.
    pub total_duration: f64,
    /// Findings and warnings of the check.
    #[serde(default)]
    pub complaints: Vec<String>,
}

/// What came of it all.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The nights again.
    pub nights: Vec<Night>,
    /// Bytes of everything in the repository.
    pub repository_bytes: u64,
    /// What backups left out on purpose.
    pub left_out: Vec<LeftOut>,
    /// Differences of all nights.
    pub differences_total: u64,
    /// Findings and warnings of all commands.
    pub complaints_total: u64,
    /// Whether files had their real owners.
    pub is_root: bool,
    /// The directory, if it stays.
    pub kept: Option<String>,
}

impl Message {
    /// Returns the lines that say what went well.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Message::Started(started) => started.lines(),
            Message::Night(night) => night.lines(),
            Message::Restored(restored) => restored.lines(),
            Message::Check(check) => check.lines(),
            Message::Summary(summary) => summary.lines(),
        }
    }

    /// Returns the lines that say what is wrong.
    pub fn complaints(&self) -> Vec<String> {
        match self {
            Message::Started(_) => Vec::new(),
            Message::Night(night) => night.complaints.clone(),
            Message::Restored(restored) => restored.wrong(),
            Message::Check(check) => check.complaints.clone(),
            Message::Summary(summary) => summary.wrong(),
        }
    }
}

impl Started {
    fn lines(&self) -> Vec<String> {
        let end = if self.is_kept { "kept" } else { "removed at the end" };
        let owners = match (self.is_root, self.has_owner) {
            (true, true) => format!("files belong to {OWNER}, as on a real host"),
            (true, false) => {
                format!("this host has no user {OWNER}: files belong to the id it had elsewhere")
            }
            (false, _) => "not root: all files belong to you, so that owners are not put to the \
                           test"
                .to_owned(),
        };
        vec![
            "four nights of a small ColumnStore deployment, real but for its made-up rows".into(),
            format!("  directory: {}, {end}", self.directory),
            format!(
                "  space: {} needed, {} free",
                bytes(self.bytes_needed),
                bytes(self.bytes_free)
            ),
            format!("  owners: {owners}"),
        ]
    }
}

impl Night {
    fn lines(&self) -> Vec<String> {
        let Changes { created, rewritten, touched, deleted, untouched, .. } = self.changes;
        let mut changes = Vec::new();
        for (number, what) in [
            (created, "new"),
            (rewritten, "changed inside"),
            (touched, "with another time only"),
            (deleted, "deleted"),
            (untouched, "as before"),
        ] {
            if number > 0 {
                changes.push(format!("{} {what}", count(number)));
            }
        }
        let backup = &self.backup;
        vec![
            format!("night {}: {}", self.night, self.what),
            format!(
                "  on the host: {} in {}; files and directories: {}",
                bytes(self.bytes),
                counted(self.files, "file", "files"),
                changes.join(", ")
            ),
            format!(
                "  plain copy:  {} written in {}",
                bytes(self.bytes),
                seconds(self.plain_copy_seconds)
            ),
            format!(
                "  backup:      {} read, {} stored in {}; snapshot {}, {}",
                bytes(backup.bytes_read),
                bytes(backup.data_added_packed),
                seconds(self.backup_seconds),
                backup.snapshot_id.short(),
                backup.state
            ),
        ]
    }
}

impl Restored {
    fn lines(&self) -> Vec<String> {
        let compared = &self.comparison;
        if compared.differences_total > 0 {
            return Vec::new();
        }
        vec![format!(
            "night {} restored in {} and compared: {}, {}, {} in all: equal",
            self.night,
            seconds(self.restore_seconds),
            counted(compared.files, "file", "files"),
            bytes(compared.bytes),
            counted(compared.entries, "entry", "entries")
        )]
    }

    fn wrong(&self) -> Vec<String> {
        let mut lines = self.complaints.clone();
        let total = self.comparison.differences_total;
        if total == 0 {
            return lines;
        }
        let differences = counted(total, "difference", "differences");
        lines.push(format!("night {} restored and compared: {differences}", self.night));
        for difference in &self.comparison.differences {
            lines.push(format!("  /{}: {}", difference.path.display(), difference.problem));
        }
        let rest = total - self.comparison.differences.len() as u64;
        if rest > 0 {
            lines.push(format!("  and {} more", count(rest)));
        }
        lines
    }
}

impl Check {
    fn lines(&self) -> Vec<String> {
        vec![format!(
            "repository checked in {}: {} of {} read and verified, {}",
            seconds(self.total_duration),
            bytes(self.bytes_read),
            counted(self.chunks, "chunk", "chunks"),
            if self.complaints.is_empty() { "nothing is wrong" } else { "with findings" }
        )]
    }
}

impl Summary {
    /// How the program ends.
    pub fn exit(&self) -> Exit {
        match (self.differences_total, self.complaints_total) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::Findings,
            _ => Exit::Failed,
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![String::new()];
        lines.extend(self.table().lines());
        lines.push(String::new());
        lines.extend(self.totals());
        if !self.left_out.is_empty() {
            lines.push("left out on purpose, and so not compared:".into());
        }
        for left_out in &self.left_out {
            lines.push(format!("  /{}: {}", left_out.path.display(), left_out.reason));
        }
        if self.differences_total == 0 {
            lines.push(self.shown());
        }
        if let Some(directory) = &self.kept {
            lines.push(format!("kept: {directory}; in it: repository, live, restored-night0 to 3"));
        }
        lines.push(String::new());
        lines.extend(NEXT.lines().map(str::to_owned));
        lines
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            ("Night", Align::Right),
            ("What happened", Align::Left),
            ("Size", Align::Right),
            ("Read", Align::Right),
            ("New chunks", Align::Right),
            ("Stored", Align::Right),
            ("Time", Align::Right),
            ("Plain copy", Align::Right),
        ]);
        for night in &self.nights {
            let backup = &night.backup;
            table.row(vec![
                night.night.to_string(),
                night.what.to_owned(),
                bytes(backup.total_bytes_processed),
                bytes(backup.bytes_read),
                count(backup.data_blobs + backup.tree_blobs),
                bytes(backup.data_added_packed),
                seconds(night.backup_seconds),
                seconds(night.plain_copy_seconds),
            ]);
        }
        table
    }

    fn totals(&self) -> Vec<String> {
        let sum = |of: fn(&Night) -> u64| self.nights.iter().map(of).sum::<u64>();
        let (all, copied) = (sum(|night| night.backup.total_bytes_processed), sum(|n| n.bytes));
        let added = sum(|night| night.backup.data_added);
        let stored = sum(|night| night.backup.data_added_packed);
        vec![
            format!(
                "{} full backups of {} are stored as {} ({}): {} by deduplication, {} by \
                 compression",
                self.nights.len(),
                bytes(all),
                bytes(stored),
                ratio(all, stored),
                ratio(all, added),
                ratio(added, stored)
            ),
            format!(
                "the repository with its indexes takes {}; {} plain copies take {}",
                bytes(self.repository_bytes),
                self.nights.len(),
                bytes(copied)
            ),
            "most of so small a deployment is ColumnStore's empty catalog: a large one compresses \
             less"
                .into(),
        ]
    }

    fn shown(&self) -> String {
        let owners = match self.is_root {
            true => "owner, ",
            false => "",
        };
        format!(
            "shown: each night restores by itself, equal in every byte, and in type, mode, \
             {owners}time, size, links and extended attributes of every entry"
        )
    }

    fn wrong(&self) -> Vec<String> {
        match (self.differences_total, self.complaints_total) {
            (0, 0) => Vec::new(),
            (0, number) => {
                vec![format!("with {}, see above", counted(number, "finding", "findings"))]
            }
            (number, _) => vec![format!(
                "FAILED: {} between what was backed up and what was restored, see above",
                counted(number, "difference", "differences")
            )],
        }
    }
}

/// Returns a duration as text; what is short in milliseconds.
fn seconds(number: f64) -> String {
    match number < 0.95 {
        true => format!("{:.0} ms", number * 1000.0),
        false => duration(Duration::try_from_secs_f64(number).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::compare::Difference;

    fn restored(differences: u64) -> Restored {
        let difference = Difference { path: "etc/my.cnf".into(), problem: "gone".into() };
        Restored {
            night: 2,
            restore_seconds: 0.5,
            compare_seconds: 0.1,
            comparison: Comparison {
                files: 1,
                entries: 3,
                bytes: 2048,
                differences: vec![difference; differences.min(1) as usize],
                differences_total: differences,
                ..Comparison::default()
            },
            complaints: Vec::new(),
        }
    }

    fn summary(differences_total: u64, complaints_total: u64) -> Summary {
        Summary {
            nights: Vec::new(),
            repository_bytes: 0,
            left_out: Vec::new(),
            differences_total,
            complaints_total,
            is_root: true,
            kept: None,
        }
    }

    #[test]
    fn an_equal_night_is_said_to_be_equal_and_a_different_one_only_complained_about() {
        let equal = Message::Restored(restored(0));
        let line =
            "night 2 restored in 500 ms and compared: 1 file, 2.0 KiB, 3 entries in all: equal";
        assert_eq!((equal.lines(), equal.complaints()), (vec![line.into()], vec![]));
        let different = Message::Restored(restored(7));
        assert_eq!(different.lines(), Vec::<String>::new());
        let complaints =
            ["night 2 restored and compared: 7 differences", "  /etc/my.cnf: gone", "  and 6 more"];
        assert_eq!(different.complaints(), complaints);
    }

    #[test]
    fn differences_fail_and_findings_are_findings() {
        assert_eq!(summary(0, 0).exit(), Exit::Done);
        assert_eq!(summary(0, 1).exit(), Exit::Findings);
        assert_eq!(summary(1, 0).exit(), Exit::Failed);
        assert_eq!(summary(1, 1).exit(), Exit::Failed);
        let says_it_is_shown = |summary: Summary| {
            Message::Summary(summary).lines().iter().any(|line| line.starts_with("shown:"))
        };
        assert!(says_it_is_shown(summary(0, 0)) && !says_it_is_shown(summary(1, 0)));
    }

    #[test]
    fn messages_are_lines_of_typed_json() {
        let line = serde_json::to_value(Message::Restored(restored(1))).unwrap();
        assert_eq!(line["message_type"], "demo_restored");
        assert_eq!(line["differences"][0]["path"], "etc/my.cnf");
    }
}
