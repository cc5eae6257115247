//! What a backup would cost, estimated from what the last ones did.

use crate::id::SessionId;
use crate::snapshot::{Named, seconds};

/// How many of the last snapshots an estimate rests on.
const BASIS_MAX: usize = 5;

/// What an estimate rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Basis {
    /// No snapshot that says anything about it: nothing is estimated.
    #[default]
    Nothing,
    /// Snapshots that took unchanged files over from one before, newest first.
    Nights(Vec<SessionId>),
    /// Snapshots that read everything, newest first. Of a night that reads what changed they say
    /// too much: most of a changed file is stored already.
    Full(Vec<SessionId>),
}

/// What a backup would cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// What the estimate rests on.
    pub basis: Basis,
    /// Bytes that would be read: exact, if nothing changes meanwhile.
    pub bytes_to_read: u64,
    /// Bytes that would be stored, after deduplication and compression; `None` if nobody knows.
    pub stored_bytes: Option<u64>,
    /// Seconds it would take; `None` if nobody knows.
    pub seconds: Option<f64>,
}

/// Estimates from the snapshots of the same source, newest first. Reading so much costs what
/// reading cost on average in the last snapshots that read anything; bytes of new files, of which
/// nothing is stored yet, what they cost in backups that read everything, where there is one.
pub(super) fn forecast(
    history: &[&Named],
    has_parent: bool,
    bytes_to_read: u64,
    bytes_of_new_files: u64,
) -> Forecast {
    let useful = |wants_parent: bool| -> Vec<&Named> {
        let is_useful = |named: &&Named| {
            named.snapshot.parent.is_some() == wants_parent && named.snapshot.stats.bytes_read > 0
        };
        history.iter().copied().filter(is_useful).take(BASIS_MAX).collect()
    };
    let nights = if has_parent { useful(true) } else { Vec::new() };
    let (chosen, basis): (_, fn(Vec<SessionId>) -> Basis) = match nights.is_empty() {
        true => (useful(false), Basis::Full),
        false => (nights, Basis::Nights),
    };
    if chosen.is_empty() {
        return Forecast { bytes_to_read, ..Forecast::default() };
    }
    let sum = |over: &[&Named], of: fn(&Named) -> f64| over.iter().map(|n| of(n)).sum::<f64>();
    let read_by = |over: &[&Named]| sum(over, |named| named.snapshot.stats.bytes_read as f64);
    let stored_per_byte = |over: &[&Named]| {
        sum(over, |named| named.snapshot.stats.data_added_packed as f64) / read_by(over)
    };
    let full = useful(false);
    let of_new = if full.is_empty() { &chosen } else { &full };
    let of_changed = bytes_to_read.saturating_sub(bytes_of_new_files);
    let stored = stored_per_byte(&chosen) * of_changed as f64
        + stored_per_byte(of_new) * bytes_of_new_files as f64;
    let read = read_by(&chosen);
    let times: Option<f64> = chosen.iter().map(|named| seconds(&named.snapshot)).sum();
    let share = bytes_to_read as f64 / read;
    Forecast {
        basis: basis(chosen.iter().map(|named| named.id).collect()),
        bytes_to_read,
        stored_bytes: Some(stored.round() as u64),
        seconds: times.map(|seconds| seconds * share),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Findings;
    use crate::format::snapshot::{BackupStats, Snapshot, SnapshotState};

    fn named(id: u8, parent: Option<u8>, read: u64, stored: u64, seconds: u8) -> Named {
        let session = |byte| SessionId([byte; 16]);
        let stats =
            BackupStats { bytes_read: read, data_added_packed: stored, ..BackupStats::default() };
        let snapshot = Snapshot {
            time: "2026-11-23T19:00:00Z".into(),
            end: format!("2026-11-23T20:00:{seconds:02}+01:00"),
            host: String::new(),
            kind: "deployment".into(),
            group: String::new(),
            topology: String::new(),
            paths: Vec::new(),
            tags: Vec::new(),
            parent: parent.map(session),
            state: SnapshotState::Complete,
            evidence: Default::default(),
            components: Vec::new(),
            left_out: Vec::new(),
            record: None,
            proof: None,
            names: Vec::new(),
            credentials: Vec::new(),
            facts: Default::default(),
            findings: Findings::default(),
            stats,
            packers: Vec::new(),
            set: None,
            program: String::new(),
        };
        Named { id: session(id), snapshot }
    }

    #[test]
    fn without_snapshots_nothing_is_invented() {
        let unknown = forecast(&[], false, 77, 0);
        assert_eq!((unknown.basis, unknown.bytes_to_read), (Basis::Nothing, 77));
        assert_eq!((unknown.stored_bytes, unknown.seconds), (None, None));
        let idle = named(2, Some(1), 0, 0, 3);
        assert_eq!(forecast(&[&idle], true, 77, 0).basis, Basis::Nothing);
    }

    #[test]
    fn nights_are_estimated_from_nights_and_full_backups_from_full_ones() {
        let first = named(1, None, 1000, 500, 10);
        let nights = [named(2, Some(1), 100, 10, 2), named(3, Some(2), 300, 50, 4)];
        let idle = named(4, Some(3), 0, 0, 1);
        let history = [&idle, &nights[1], &nights[0], &first];
        let night = forecast(&history, true, 200, 0);
        assert_eq!(night.basis, Basis::Nights(vec![nights[1].id, nights[0].id]));
        assert_eq!((night.stored_bytes, night.seconds), (Some(30), Some(3.0)));
        // What is new is stored as the first backup stored it.
        assert_eq!(forecast(&history, true, 200, 100).stored_bytes, Some(65));
        let full = forecast(&history, false, 2000, 2000);
        assert_eq!(full.basis, Basis::Full(vec![first.id]));
        assert_eq!((full.stored_bytes, full.seconds), (Some(1000), Some(20.0)));
        // The second night has only the first to go by.
        assert_eq!(forecast(&[&first], true, 10, 0).basis, Basis::Full(vec![first.id]));
        // A clock that was set back says nothing of time.
        let mut odd = named(5, Some(1), 100, 10, 2);
        odd.snapshot.end = "2026-11-23T18:00:00Z".into();
        let odd = forecast(&[&odd], true, 100, 0);
        assert_eq!((odd.stored_bytes, odd.seconds), (Some(10), None));
    }
}
