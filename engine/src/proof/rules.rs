//! The rules of a proof, and the book in which is kept how often each was checked and did not hold.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::snapshot::{Proof, RuleCount, Verdict};

/// How many sentences about what is unchecked or left out a proof keeps; the rest is counted.
const SENTENCES_MAX: usize = 100;

/// A rule; docs/COLUMNSTORE.md 7 says what each means, and from where it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The files of the BRM are there and make sense.
    BrmReadable,
    /// The journal belongs to the set of BRM files that counts.
    JournalCurrent,
    /// No table is locked.
    NoTableLock,
    /// No version of a block is locked.
    NoLockedVersion,
    /// No version is of a later transaction than the last one that was given out.
    VersionsKnown,
    /// Every object id that has extents is taken in the bitmap.
    OidTaken,
    /// Every DB Root that is configured or has extents is in the snapshot.
    DbRootsComplete,
    /// Every extent has its segment file, on its DB Root.
    ExtentHasSegment,
    /// Every segment file has an extent.
    SegmentHasExtent,
    /// Every segment file reaches its high-water mark.
    SegmentLongEnough,
    /// Every segment file of a compressed column has a header.
    CompressedHasHeader,
    /// Headers and extent map agree on width and LBIDs.
    HeaderAgrees,
    /// Every segment file was read whole, and at one moment.
    SegmentReadWhole,
    /// Headers and slots hold.
    SlotsHold,
    /// Nothing is there that only an interrupted write leaves behind.
    NoRollbackFile,
}

impl Rule {
    /// All of them, in the order in which they are told.
    pub const ALL: [Rule; 15] = [
        Rule::BrmReadable,
        Rule::JournalCurrent,
        Rule::NoTableLock,
        Rule::NoLockedVersion,
        Rule::VersionsKnown,
        Rule::OidTaken,
        Rule::DbRootsComplete,
        Rule::ExtentHasSegment,
        Rule::SegmentHasExtent,
        Rule::SegmentLongEnough,
        Rule::CompressedHasHeader,
        Rule::HeaderAgrees,
        Rule::SegmentReadWhole,
        Rule::SlotsHold,
        Rule::NoRollbackFile,
    ];

    /// Returns the name used in snapshots, reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Rule::BrmReadable => "brm-readable",
            Rule::JournalCurrent => "journal-current",
            Rule::NoTableLock => "no-table-lock",
            Rule::NoLockedVersion => "no-locked-version",
            Rule::VersionsKnown => "versions-known",
            Rule::OidTaken => "oid-taken",
            Rule::DbRootsComplete => "db-roots-complete",
            Rule::ExtentHasSegment => "extent-has-segment",
            Rule::SegmentHasExtent => "segment-has-extent",
            Rule::SegmentLongEnough => "segment-long-enough",
            Rule::CompressedHasHeader => "compressed-has-header",
            Rule::HeaderAgrees => "header-agrees",
            Rule::SegmentReadWhole => "segment-read-whole",
            Rule::SlotsHold => "slots-hold",
            Rule::NoRollbackFile => "no-rollback-file",
        }
    }

    /// Whether changes that only the journal has could make it hold: it compares what the journal
    /// changes with something else.
    fn may_be_mended_by_the_journal(self) -> bool {
        matches!(
            self,
            Rule::NoLockedVersion
                | Rule::VersionsKnown
                | Rule::OidTaken
                | Rule::DbRootsComplete
                | Rule::ExtentHasSegment
                | Rule::SegmentHasExtent
                | Rule::SegmentLongEnough
                | Rule::HeaderAgrees
        )
    }
}

/// How often each rule was checked, what did not hold, and what could not be checked.
#[derive(Debug, Default)]
pub(super) struct Book {
    counts: BTreeMap<Rule, RuleCount>,
    /// What nobody has found before.
    pub findings: Findings,
    /// What a backup has found already, and the snapshot says.
    pub repeated: Findings,
    unchecked: Vec<String>,
    left_out: Vec<String>,
    /// Bytes of the journal, whose changes no other file has.
    pub journal_bytes: u64,
    /// What did not hold, and may hold with the changes of the journal: how often, and where first.
    doubts: BTreeMap<Rule, (u64, String)>,
    is_refuted: bool,
}

impl Book {
    /// Notes that a rule was checked so many times and held.
    pub fn holds(&mut self, rule: Rule, times: u64) {
        self.counts.entry(rule).or_default().checked += times;
    }

    /// Notes that a rule was checked so many times and did not hold, for the reason of one finding.
    pub fn fails(&mut self, rule: Rule, times: u64, finding: Finding) {
        if self.journal_bytes > 0 && rule.may_be_mended_by_the_journal() {
            let doubt = self.doubts.entry(rule).or_insert_with(|| (0, finding.object));
            doubt.0 += times;
            return;
        }
        self.fails_for_good(rule, times, finding);
    }

    /// The same for what no change of the journal could make hold.
    pub fn fails_for_good(&mut self, rule: Rule, times: u64, finding: Finding) {
        self.failed(rule, times);
        self.findings.push(finding);
    }

    /// The same for what the snapshot says already.
    pub fn repeats(&mut self, rule: Rule, times: u64, finding: Finding) {
        self.failed(rule, times);
        self.repeated.push(finding);
    }

    fn failed(&mut self, rule: Rule, times: u64) {
        let count = self.counts.entry(rule).or_default();
        count.checked += times;
        count.failed += times;
        self.is_refuted = true;
    }

    /// Notes what could not be checked, and why.
    pub fn unchecked(&mut self, sentence: impl Into<String>) {
        self.unchecked.push(sentence.into());
    }

    /// Notes what is not in the snapshot on purpose.
    pub fn left_out(&mut self, sentence: impl Into<String>) {
        self.left_out.push(sentence.into());
    }

    /// Notes something of the repository that could not be read. What is missing or damaged there is
    /// a finding, and the snapshot is not whole. Fails when nothing more can be read.
    pub fn lacks(&mut self, what: &str, error: &Error) -> Result<()> {
        let kind = match error.kind() {
            ErrorKind::NotFound => Some(FindingKind::MissingChunk),
            ErrorKind::Corrupt => Some(FindingKind::DamagedChunk),
            ErrorKind::Interrupted | ErrorKind::Locked => return Err(error.repeat()),
            _ => None,
        };
        self.unchecked(format!("{what} cannot be read from the repository: {error}"));
        if let Some(kind) = kind {
            self.is_refuted = true;
            self.findings.push(Finding::new(kind, what, error.to_string()));
        }
        Ok(())
    }

    /// Returns the proof and both kinds of findings.
    pub fn close(mut self, extents: u64, segment_files: u64) -> (Proof, Findings, Findings) {
        for (rule, (times, object)) in std::mem::take(&mut self.doubts) {
            // How often it was checked says something only when it failed whatever the journal has.
            if self.counts.get(&rule).is_none_or(|count| count.failed == 0) {
                self.counts.remove(&rule);
            }
            let sentence = format!(
                "{}: it does not hold {times} times ({object} first), unless the journal mends it",
                rule.name()
            );
            self.unchecked(sentence);
        }
        let verdict = match (self.is_refuted, self.unchecked.is_empty()) {
            (true, _) => Verdict::Refuted,
            (false, true) => Verdict::Proved,
            (false, false) => Verdict::Unproven,
        };
        let rules = self.counts.iter().map(|(rule, count)| (rule.name().to_owned(), *count));
        let proof = Proof {
            verdict,
            extents,
            segment_files,
            rules: rules.collect(),
            unchecked: shortened(self.unchecked),
            left_out: shortened(self.left_out),
        };
        (proof, self.findings, self.repeated)
    }
}

fn shortened(mut sentences: Vec<String>) -> Vec<String> {
    if sentences.len() > SENTENCES_MAX {
        let more = sentences.len() - SENTENCES_MAX;
        sentences.truncate(SENTENCES_MAX);
        sentences.push(format!("and {more} more"));
    }
    sentences
}
