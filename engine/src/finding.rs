//! Findings: what is wrong with data, as opposed to what went wrong with the program.
//!
//! A backup, a restore or a check that meets one goes on, counts it, names it and reports it; the
//! program then ends with exit code 3. A typed kind lets a test, and a monitoring script, ask for
//! exactly one of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many findings a report names; the rest is counted.
pub const FINDINGS_LISTED_MAX: usize = 1000;

/// The kind of a finding; its serialised name is part of the JSON output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingKind {
    /// Backup: the file was there when its directory was listed, and gone when it was opened.
    Vanished,
    /// Backup: size or times changed between opening and the end of the read.
    ChangedWhileRead,
    /// Backup: a file, or a part of it, could not be read.
    Unreadable,
    /// Backup: something that exists only during or after an interrupted write.
    InterruptedWrite,
    /// Backup: a symbolic link in the source points to data that is in no component.
    LinkLeavesComponent,
    /// Backup: daemons of the deployment were running and nothing was frozen.
    NotFrozen,
    /// Backup: a file kind that is not stored (a socket).
    NotStored,
    /// Backup: the header of a segment file, or its table of slots, does not hold.
    DamagedHeader,
    /// Backup: a slot of a segment file whose signature, length or checksum does not hold.
    DamagedSlot,
    /// Backup: an InnoDB page whose checksum does not hold.
    DamagedPage,
    /// Proof: a file of the BRM that is missing or makes no sense, so that rules stay unchecked.
    UnreadableBrm,
    /// Proof: an extent of the extent map whose segment file is not in the snapshot.
    MissingSegment,
    /// Proof: a segment file that stands on another DB Root than its extent says.
    MisplacedSegment,
    /// Proof: a segment file that ends before the high-water mark of its last extent.
    ShortSegment,
    /// Proof: a segment file without a header, of a column that is compressed.
    MissingHeader,
    /// Proof: the header of a segment file and the extent map disagree on width or LBIDs.
    HeaderDisagrees,
    /// Proof: a segment file that no extent names.
    SegmentWithoutExtent,
    /// Proof: an object id that has extents, or is in the catalog, and is free in the bitmap.
    OidNotTaken,
    /// Proof: a table was locked: a load or a statement was under way.
    TableLocked,
    /// Proof: a version of a block was locked: a transaction was under way.
    LockedVersion,
    /// Proof: a version of a block that is newer than the last transaction that was given out.
    UnknownVersion,
    /// Proof: the journal belongs to another set of BRM files than the current one.
    JournalOfAnotherSet,
    /// Proof: a DB Root that is configured or has extents, and is not in the snapshot.
    MissingDbRoot,
    /// Restore: the target refused an owner, a mode, a time, an attribute or a kind of file.
    AttributeRefused,
    /// Restore: the owner's name does not exist here; the numeric id was used.
    UnknownOwner,
    /// Restore: content that was already lost when the snapshot was made.
    LostContent,
    /// Restore: a slot that was packed otherwise than in the source; it holds the same.
    SlotPackedOtherwise,
    /// A snapshot, or a recipe in it, needs a slot packer that this program does not know.
    UnknownPacker,
    /// An object that the repository should have is not there.
    MissingObject,
    /// An object whose bytes are not what its name, checksum or format demands.
    DamagedObject,
    /// A pack whose stored size is not what the index says.
    WrongSize,
    /// A chunk that a snapshot needs and no index names.
    MissingChunk,
    /// A chunk whose bytes do not hash to its id.
    DamagedChunk,
    /// A manifest whose entries are out of order or contradict the snapshot.
    DamagedManifest,
    /// Something in the repository that does not belong there.
    ForeignObject,
    /// An object that snapshots need and whose lock in the bucket could not be extended.
    LockNotExtended,
    /// An object in a bucket that was replaced, or of which nothing is left but the mark of its deletion.
    NotUndeleted,
    /// A snapshot that is not complete.
    IncompleteSnapshot,
    /// A snapshot whose proof is refuted.
    RefutedSnapshot,
}

impl FindingKind {
    /// Returns the name used in reports and JSON.
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            _ => format!("{self:?}"),
        }
    }
}

/// One finding: what kind, on which object, and what was expected and found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind it is.
    pub kind: FindingKind,
    /// The path, key or id.
    pub object: String,
    /// What was expected and found.
    pub detail: String,
    /// The same for programs, where a place in a file is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Box<DamagedPlace>>,
}

/// The damaged place of a file, in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedPlace {
    /// The component that the file belongs to.
    pub component: String,
    /// The number of the slot, or of the page, from 0; none for a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u64>,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl Finding {
    /// Makes a finding.
    pub fn new(kind: FindingKind, object: impl Into<String>, detail: impl Into<String>) -> Self {
        Finding { kind, object: object.into(), detail: detail.into(), at: None }
    }
}

/// Findings of one operation: all counted, the first [`FINDINGS_LISTED_MAX`] named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// How many there are of each kind.
    pub counts: BTreeMap<FindingKind, u64>,
    /// The first of them.
    pub listed: Vec<Finding>,
}

impl Findings {
    /// Adds one.
    pub fn push(&mut self, finding: Finding) {
        self.push_times(finding, 1);
    }

    /// Adds one that stands for so many.
    pub fn push_times(&mut self, finding: Finding, times: u64) {
        let count = self.counts.entry(finding.kind).or_default();
        *count = count.saturating_add(times);
        if self.listed.len() < FINDINGS_LISTED_MAX {
            self.listed.push(finding);
        }
    }

    /// Adds those of another operation: counted all, named as far as there is room.
    pub fn append(&mut self, other: Findings) {
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count;
        }
        let room = FINDINGS_LISTED_MAX.saturating_sub(self.listed.len());
        self.listed.extend(other.listed.into_iter().take(room));
    }

    /// Returns how many there are of all kinds.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Returns how many there are of one kind.
    pub fn count(&self, kind: FindingKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}
