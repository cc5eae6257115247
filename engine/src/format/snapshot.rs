//! The snapshot: the small root of everything a backup stored. Source: FORMAT.md 6.3.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

use super::config::SlotForm;
use super::text::{decode_path, encode_path};
use crate::finding::Findings;
use crate::id::{ChunkId, SessionId};

/// Whether a snapshot holds all it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotState {
    /// Everything was read as it was.
    Complete,
    /// Everything was read, but not at one moment: nothing held writes off.
    Inconsistent,
    /// Something could not be read, or changed while it was.
    Partial,
    /// Content does not hold: it was damaged in the source, or something stored is lost since.
    Damaged,
}

impl SnapshotState {
    /// Returns the word used in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            SnapshotState::Complete => "complete",
            SnapshotState::Inconsistent => "inconsistent",
            SnapshotState::Partial => "partial",
            SnapshotState::Damaged => "damaged",
        }
    }
}

/// Counts of entries by kind, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Everything else.
    pub others: u64,
    /// Sizes of all regular files added up.
    pub bytes: u64,
    /// Bytes that restore allocates: sizes without holes.
    pub allocated_bytes: u64,
}

impl Counts {
    /// Returns the number of entries.
    pub fn entries(&self) -> u64 {
        self.files + self.directories + self.symlinks + self.others
    }

    /// Adds another count to this one.
    pub fn add(&mut self, other: &Counts) {
        self.files += other.files;
        self.directories += other.directories;
        self.symlinks += other.symlinks;
        self.others += other.others;
        self.bytes += other.bytes;
        self.allocated_bytes += other.allocated_bytes;
    }
}

/// A component of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// `dbroot/1`, `datadir`, `storagemanager`, `config`, `files`.
    pub name: String,
    /// The directory entry paths are relative to, as the source named it, in text form.
    pub path: String,
    /// The manifest: ids of its lists, in order.
    pub manifest: Vec<ChunkId>,
    /// What the manifest holds.
    pub counts: Counts,
}

impl Component {
    /// Returns the path of an entry as the source named it, in text form.
    pub fn recorded(&self, path: &[u8]) -> String {
        encode_path(&decode_path(&self.path).join(OsStr::from_bytes(path)))
    }
}

/// Something left out, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutRecord {
    /// The component it would have belonged to.
    pub component: String,
    /// Its path as the source named it, in text form.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// A file that holds credentials, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRecord {
    /// Its path as the source named it, in text form.
    pub path: String,
    /// What kind of credential.
    pub what: String,
    /// Whether the file is in the snapshot.
    pub stored: bool,
}

/// What the backup did, in numbers. Bytes are raw unless they say stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStats {
    /// Files that were not in the parent.
    pub files_new: u64,
    /// Files that were, and were read again.
    pub files_changed: u64,
    /// Files taken over from the parent unread.
    pub files_unmodified: u64,
    /// Directories that were not in the parent.
    pub dirs_new: u64,
    /// Directories whose attributes changed.
    pub dirs_changed: u64,
    /// Directories as before.
    pub dirs_unmodified: u64,
    /// Raw bytes read from the source.
    pub bytes_read: u64,
    /// Data chunks added.
    pub data_chunks: u64,
    /// Meta chunks added.
    pub meta_chunks: u64,
    /// Raw bytes of the chunks added, both kinds.
    pub data_added: u64,
    /// Stored bytes of the chunks added, both kinds.
    pub data_added_packed: u64,
    /// Raw bytes of data chunks that were known already.
    pub bytes_deduplicated: u64,
    /// Packs written.
    pub packs: u64,
    /// Index objects written.
    pub indexes: u64,
    /// What of it was verified as it was read.
    #[serde(flatten)]
    pub verified: Verified,
    /// In which form its slots were stored.
    #[serde(flatten)]
    pub recipes: RecipeStats,
}

impl BackupStats {
    /// Returns in which form slots were stored; `None` when none was met that holds.
    pub fn slot_form(&self) -> Option<SlotForm> {
        let recipes = &self.recipes;
        let wanted = recipes.slots_recipe_known + recipes.slots_recipe_new + recipes.kept_packed();
        let held = self.verified.slots_verified + self.verified.slots_known;
        match (wanted, held) {
            (0, 0) => None,
            (0, _) => Some(SlotForm::Packed),
            _ => Some(SlotForm::Recipe),
        }
    }
}

/// How many slots went which way while recipes were made. Not in snapshots made before that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecipeStats {
    /// Slots whose recipe was known: they were hashed and neither unpacked nor packed.
    pub slots_recipe_known: u64,
    /// Slots that were unpacked and packed again, to see whether they come out the same.
    pub slots_unpacked: u64,
    /// Bytes that they unpacked to.
    pub slots_unpacked_bytes: u64,
    /// Slots that came out the same, and were stored as recipes.
    pub slots_recipe_new: u64,
    /// Slots whose checksum holds and that do not unpack: damaged, stored as packed bytes.
    pub slots_not_unpacked: u64,
    /// Slots that unpack and came out otherwise, as another library packs: stored as packed bytes.
    pub slots_packed_otherwise: u64,
    /// Slots with holes, or of which not all could be read: stored as far as they are there.
    pub slots_not_whole: u64,
    /// Slots that were not tried, because those before them came out otherwise: stored as packed bytes.
    pub slots_not_tried: u64,
}

impl RecipeStats {
    /// Adds another count to this one.
    pub fn add(&mut self, other: &RecipeStats) {
        self.slots_recipe_known += other.slots_recipe_known;
        self.slots_unpacked += other.slots_unpacked;
        self.slots_unpacked_bytes += other.slots_unpacked_bytes;
        self.slots_recipe_new += other.slots_recipe_new;
        self.slots_not_unpacked += other.slots_not_unpacked;
        self.slots_packed_otherwise += other.slots_packed_otherwise;
        self.slots_not_whole += other.slots_not_whole;
        self.slots_not_tried += other.slots_not_tried;
    }

    /// Returns how many slots that hold could not be stored as recipes.
    pub fn kept_packed(&self) -> u64 {
        self.slots_packed_otherwise + self.slots_not_tried
    }
}

/// How many slots and pages were looked at while they were read. Not in snapshots made before that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verified {
    /// Slots of segment files whose signature, length and checksum were verified and hold.
    pub slots_verified: u64,
    /// Slots that were read and whose chunks were all known: verified when these were stored.
    pub slots_known: u64,
    /// Slots packed in a way that is not known.
    pub slots_not_verifiable: u64,
    /// InnoDB pages whose checksum was verified and holds.
    pub pages_verified: u64,
    /// InnoDB pages that were read and whose chunks were known.
    pub pages_known: u64,
    /// InnoDB pages that are encrypted, compressed or of an older form.
    pub pages_not_verifiable: u64,
}

impl Verified {
    /// Adds another count to this one.
    pub fn add(&mut self, other: &Verified) {
        self.slots_verified += other.slots_verified;
        self.slots_known += other.slots_known;
        self.slots_not_verifiable += other.slots_not_verifiable;
        self.pages_verified += other.pages_verified;
        self.pages_known += other.pages_known;
        self.pages_not_verifiable += other.pages_not_verifiable;
    }
}

/// Where the column data of a deployment has its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordSource {
    /// In ColumnStore itself: what is lost there is lost.
    Columnstore,
    /// In another database, from which it is loaded.
    Database,
    /// In data files, from which it is loaded.
    Files,
}

impl RecordSource {
    /// Returns the word used in settings, reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            RecordSource::Columnstore => "columnstore",
            RecordSource::Database => "database",
            RecordSource::Files => "files",
        }
    }
}

/// How the data of one table gets back into ColumnStore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadStep {
    /// The table, as `schema.table`.
    pub table: String,
    /// Where its rows come from: a table, a query, a file. May be empty.
    #[serde(default)]
    pub from: String,
    /// The command that loads them.
    pub command: String,
}

/// A directory whose segment files were left out because their rows can be loaded again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLeftOut {
    /// The component it belongs to.
    pub component: String,
    /// Its path as the source named it, in text form.
    pub path: String,
    /// Regular files in it and below.
    pub files: u64,
    /// Their sizes added up.
    pub bytes: u64,
    /// The table whose column or dictionary it is, where tables were chosen by name; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub table: String,
}

/// The system of record of a deployment, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemOfRecord {
    /// Where the column data has its origin.
    pub source: RecordSource,
    /// Whether nobody said so.
    pub assumed: bool,
    /// Name of the other database, for people; may be empty.
    pub database: String,
    /// The data files and directories, as the deployment names them, in text form.
    pub data: Vec<String>,
    /// Patterns of the tables that are left to it, as `schema.table`; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// The tables whose rows are not in the snapshot and how they get back, in order.
    pub reload: Vec<ReloadStep>,
    /// Tables of the steps that did not exist when the snapshot was made: dropped since the steps were
    /// written, or misspelt. They are not loaded again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
    /// BLAKE3 of these settings and of where they apply, in hexadecimal. Who confirmed them once
    /// need not do so again while it stays the same.
    pub fingerprint: String,
    /// What was left out for this reason; empty when the column data is in the snapshot.
    pub left_out: Vec<RecordLeftOut>,
}

impl SystemOfRecord {
    /// Returns regular files and bytes that were left out.
    pub fn left_out_sums(&self) -> (u64, u64) {
        self.left_out.iter().fold((0, 0), |(files, bytes), left_out| {
            (files + left_out.files, bytes + left_out.bytes)
        })
    }
}

/// What the proof of a snapshot came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every rule could be checked, and holds.
    Proved,
    /// At least one rule does not hold; the findings say which and where.
    Refuted,
    /// What could be checked holds; some rules could not be checked, and `unchecked` says why.
    Unproven,
}

impl Verdict {
    /// Returns the word used in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Proved => "proved",
            Verdict::Refuted => "refuted",
            Verdict::Unproven => "unproven",
        }
    }
}

/// The proof of a snapshot: what ColumnStore's own files say about each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// What it came to.
    pub verdict: Verdict,
    /// Extents in the extent map.
    pub extents: u64,
    /// Segment files in the snapshot.
    pub segment_files: u64,
    /// Each rule by its name: how often it was checked, and how often it did not hold.
    pub rules: BTreeMap<String, RuleCount>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
    /// What is not in the snapshot on purpose: tables left to the system of record.
    pub left_out: Vec<String>,
}

/// How often a rule was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// Times it was checked.
    pub checked: u64,
    /// Times it did not hold.
    pub failed: u64,
}

/// The body of `snapshots/<session>`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the backup began, RFC 3339 with offset.
    pub time: String,
    /// When it was committed.
    pub end: String,
    /// The host it was made on, or the name given for it.
    pub host: String,
    /// `deployment` or `paths`.
    pub kind: String,
    /// The deployment's name; for paths, the selected paths joined by newlines.
    pub group: String,
    /// `shared-local` or `object-storage`; empty for paths.
    pub topology: String,
    /// What was asked for, in text form.
    pub paths: Vec<String>,
    /// Free words.
    pub tags: Vec<String>,
    /// The snapshot unchanged files were taken from.
    pub parent: Option<SessionId>,
    /// Whether it holds all it should.
    pub state: SnapshotState,
    /// What was seen and done so that the data belongs together, as facts.
    pub evidence: BTreeMap<String, String>,
    /// The components, by name.
    pub components: Vec<Component>,
    /// What was left out on purpose.
    pub left_out: Vec<LeftOutRecord>,
    /// The system of record; `None` for plain paths, and in snapshots made before it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<SystemOfRecord>,
    /// What ColumnStore's own files say about each other; `None` for plain paths, and in snapshots
    /// made before it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// The meta chunks that say which object ids belong to which column (FORMAT.md 6.4).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<ChunkId>,
    /// Files that hold credentials.
    pub credentials: Vec<CredentialRecord>,
    /// What a restore must match or a reader wants to know of the source.
    pub facts: BTreeMap<String, String>,
    /// What was wrong.
    pub findings: Findings,
    /// What the backup did.
    pub stats: BackupStats,
    /// Slot packers that restore needs, by name (FORMAT.md 8); none without recipes.
    pub packers: Vec<String>,
    /// The backup set this is a part of, when several nodes commit one together.
    pub set: Option<String>,
    /// The program.
    pub program: String,
}

impl Snapshot {
    /// Whether its files were found not to agree with each other: what a restore brings back is no
    /// deployment that works.
    pub fn is_refuted(&self) -> bool {
        self.proof.as_ref().is_some_and(|proof| proof.verdict == Verdict::Refuted)
    }

    /// Whether it holds all it should, and nothing is known to be wrong with it.
    pub fn is_good(&self) -> bool {
        self.state == SnapshotState::Complete && !self.is_refuted()
    }

    /// Returns the counts of all components added up.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        self.components.iter().for_each(|component| all.add(&component.counts));
        all
    }
}
