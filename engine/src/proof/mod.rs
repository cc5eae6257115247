//! The proof of a snapshot: whether ColumnStore's own files agree with each other in it.
//!
//! A proof reads the repository alone: the files of the BRM, the manifests of the DB Roots, and of
//! segment files what the manifests keep of their headers, or the headers themselves where an older
//! backup kept nothing. So it can be repeated long after the source is gone. The rules, and from
//! where each is known, are in docs/COLUMNSTORE.md 7.
//!
//! Memory grows with the extent map, while that is read some 250 bytes an extent, later 40; never
//! with files. What a backup has found already is counted by its rule, and not found again.

mod brm;
mod catalog;
mod expected;
mod lost;
mod rules;
mod segments;

use std::collections::HashSet;

use crate::content::ContentReader;
use crate::error::Result;
use crate::finding::{Finding, Findings};
use crate::format::manifest::{Entry, EntryFinding};
use crate::format::snapshot::{Component, Proof, Snapshot};
use crate::manifest::ManifestReader;
use crate::names::Names;
use crate::progress::Cancel;
use crate::repository::Repository;
use crate::source::directory::EXCLUDED;
use expected::Expected;
pub use lost::add_lost;
use rules::Book;
pub use rules::Rule;

/// The topology, as snapshots say it, of a deployment whose data is in a bucket.
const OBJECT_STORAGE: &str = "object-storage";

/// What came of a proof.
#[derive(Clone, Debug)]
pub struct ProofOutcome {
    /// The verdict, as the snapshot keeps it.
    pub proof: Proof,
    /// What does not hold, and nobody has found before.
    pub findings: Findings,
    /// What does not hold, and the backup found when it read the source: the snapshot has it among
    /// its findings.
    pub repeated: Findings,
}

/// Proves a snapshot of a ColumnStore deployment from what the repository has of it.
///
/// The index must have been loaded. What does not hold is in the outcome, and so is what cannot be read
/// from the repository: an error means that the proof was interrupted, or the session revoked.
///
/// # Panics
/// When the snapshot is one of plain paths: there is nothing to prove about them.
pub fn prove(
    repository: &Repository,
    snapshot: &Snapshot,
    cancel: &Cancel,
) -> Result<ProofOutcome> {
    assert!(is_provable(snapshot), "only snapshots of deployments are proved");
    let mut prover = Prover {
        repository,
        snapshot,
        cancel,
        content: ContentReader::new(repository),
        roots: db_roots(snapshot),
        excluded: excluded(snapshot),
        names: None,
        book: Book::default(),
        segment_files: 0,
    };
    let (mut expected, mut bitmap) = (None, None);
    if snapshot.topology == OBJECT_STORAGE {
        let sentence = "extents: the extent map and the segment files are objects in a bucket, which \
                        this snapshot does not have";
        prover.book.unchecked(sentence);
    } else {
        prover.names = prover.names()?;
        let brm = prover.brm()?;
        bitmap = brm.bitmap;
        match brm.map {
            Some(map) => expected = Some(Expected::new(map)),
            None => prover.book.unchecked("extents: there is no extent map to compare with"),
        }
    }
    let extents = expected.as_ref().map_or(0, |expected| expected.extents.len() as u64);
    if let Some(expected) = &mut expected {
        prover.object_ids(expected, bitmap.as_ref());
        prover.leave_to_the_record(expected);
    }
    prover.segments(expected, bitmap.as_ref())?;
    let (proof, findings, repeated) = prover.book.close(extents, prover.segment_files);
    Ok(ProofOutcome { proof, findings, repeated })
}

/// Whether a snapshot is one that can be proved: of a deployment.
pub fn is_provable(snapshot: &Snapshot) -> bool {
    snapshot.kind == "deployment"
}

/// A DB Root of the snapshot.
struct DbRoot<'a> {
    number: u32,
    component: &'a Component,
}

/// What all steps of a proof share.
struct Prover<'a> {
    repository: &'a Repository,
    snapshot: &'a Snapshot,
    cancel: &'a Cancel,
    content: ContentReader<'a>,
    /// In the order of their numbers.
    roots: Vec<DbRoot<'a>>,
    /// Paths that `--exclude` left out, as far as the snapshot names them.
    excluded: HashSet<&'a str>,
    /// Of tables and columns, as far as the catalog can be read.
    names: Option<Names>,
    book: Book,
    segment_files: u64,
}

impl<'a> Prover<'a> {
    fn manifest(&self, component: &Component) -> ManifestReader<'a> {
        ManifestReader::new(self.repository, component)
    }

    /// Says that `--exclude` left a path out, or nothing.
    fn excluded(&self, path: &str) -> &'static str {
        let mut ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        match ends.any(|end| self.excluded.contains(&path[..end])) {
            true => ": --exclude left it out",
            false => "",
        }
    }

    /// Returns what the backup found when it could not read an entry as it was.
    fn repeated_unreadable(&self, component: &Component, entry: &Entry) -> Option<Finding> {
        const UNREAD: [u8; 3] =
            [EntryFinding::CHANGED, EntryFinding::UNREADABLE, EntryFinding::LINK_LEAVES];
        let unread = |finding: &&EntryFinding| UNREAD.contains(&finding.code);
        entry.findings.iter().find(unread).map(|finding| repeated(component, entry, finding))
    }
}

/// Returns the finding of a backup that stands beside an entry.
fn repeated(component: &Component, entry: &Entry, finding: &EntryFinding) -> Finding {
    finding.reported(&component.name, component.recorded(&entry.path))
}

fn db_roots(snapshot: &Snapshot) -> Vec<DbRoot<'_>> {
    let numbered = snapshot.components.iter().filter_map(|component| {
        let number = component.name.strip_prefix("dbroot/")?.parse().ok()?;
        Some(DbRoot { number, component })
    });
    let mut roots: Vec<DbRoot<'_>> = numbered.collect();
    roots.sort_by_key(|root| root.number);
    roots
}

fn excluded(snapshot: &Snapshot) -> HashSet<&str> {
    let left_out = snapshot.left_out.iter().filter(|left_out| left_out.reason == EXCLUDED);
    left_out.map(|left_out| left_out.path.as_str()).collect()
}
