//! What says that a repository is damaged, and what to do about it.

use colvault_engine::finding::{FindingKind, Findings};

use crate::output::Next;

/// What says that stored content is damaged.
const DAMAGE: [FindingKind; 6] = [
    FindingKind::MissingObject,
    FindingKind::DamagedObject,
    FindingKind::WrongSize,
    FindingKind::MissingChunk,
    FindingKind::DamagedChunk,
    FindingKind::DamagedManifest,
];

/// Whether some of what was found says that stored content is damaged.
pub fn is_damaged(findings: &Findings) -> bool {
    DAMAGE.iter().any(|kind| findings.count(*kind) > 0)
}

/// Returns what to do about a repository that is damaged.
pub fn remedy(next: &Next<'_>) -> String {
    match next.is_bucket {
        false => {
            "move packs that are damaged out of its packs directory, then back up again; what is \
                  missing is stored anew, if the source still has it"
                .to_owned()
        }
        true => format!(
            "where the bucket keeps versions, {} repair undelete brings back what was deleted or replaced; \
             where it keeps none, delete packs that are damaged from the bucket with the store's own tools, \
             then back up again: what is missing is stored anew, if the source still has it",
            next.again
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use colvault_engine::finding::Finding;

    #[test]
    fn only_content_that_is_missing_or_wrong_is_damage() {
        for (kind, expected) in [
            (FindingKind::ForeignObject, false),
            (FindingKind::IncompleteSnapshot, false),
            (FindingKind::WrongSize, true),
            (FindingKind::MissingChunk, true),
        ] {
            let mut findings = Findings::default();
            findings.push(Finding::new(kind, "x", "y"));
            assert_eq!(is_damaged(&findings), expected, "{kind:?}");
        }
    }
}
