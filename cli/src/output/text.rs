//! Text for people: what happened, what it cost, what to do next.

mod bucket;
mod inspect;
mod plan;
mod proof;
mod reports;

use std::io::{self, Write};

#[cfg(feature = "s3")]
use colvault_engine::backend::Key;
use colvault_engine::finding::{Finding, FindingKind, Findings};
use colvault_engine::format::config::SlotForm;
use colvault_engine::format::manifest::Node;
use colvault_engine::format::session::Lease;
use colvault_engine::format::snapshot::{
    BackupStats, RecipeStats, Snapshot, SnapshotState, Verified,
};
use colvault_engine::format::text::encode;
use colvault_engine::progress::{Event, Observer};
use colvault_engine::snapshot::Named;
use colvault_engine::traffic::Traffic;
#[cfg(feature = "s3")]
use colvault_engine::undelete::Undone;

#[cfg(feature = "s3")]
use super::Undeleted;
use super::progress::Bar;
use super::reload;
use super::stream::Stream;
use super::table::{Align, Table};
use super::traffic;
use super::{
    BackedUp, ChangedLine, Checked, Compared, Counted, Created, Dumped, Inspected, ListedEntry,
    Locked, Output, Planned, Proved, Restored, Searched, Snapshots,
};
use crate::damage::{is_damaged, remedy};
use crate::exit::{Exit, Failure};
use crate::settings::Value;
use crate::source::Source;
use crate::units::{bytes, count, counted, duration, local_time, permissions, rate, ratio};

/// How many findings are named; the rest is counted.
const FINDINGS_SHOWN_MAX: usize = 20;

/// How many columns of restored tables are named; the rest is counted.
const COLUMNS_SHOWN_MAX: usize = 50;

/// How many paths of a snapshot stand in the table.
const PATHS_SHOWN_MAX: usize = 3;

/// What a restore finds where content is not what it was.
const LOST: [FindingKind; 6] = [
    FindingKind::LostContent,
    FindingKind::MissingObject,
    FindingKind::DamagedObject,
    FindingKind::MissingChunk,
    FindingKind::DamagedChunk,
    FindingKind::UnknownPacker,
];

/// Writes text, and a bar on a terminal.
pub struct Text {
    out: Stream,
    bar: Bar,
    is_quiet: bool,
    is_verbose: bool,
}

impl Text {
    /// Writes to standard output; quiet says only what is wrong.
    pub fn new(is_quiet: bool, is_verbose: bool) -> Self {
        Text { out: Stream::stdout(), bar: Bar::new(!is_quiet), is_quiet, is_verbose }
    }

    /// Writes a line of a result, unless quiet.
    fn say(&self, line: impl AsRef<str>) {
        if !self.is_quiet {
            self.out.line(line.as_ref());
        }
    }

    /// Writes a line about something wrong.
    fn complain(&self, line: impl AsRef<str>) {
        self.bar.aside(|| {
            self.out.flush();
            // Nobody may be listening any more; there is nobody to tell.
            let _ = writeln!(io::stderr().lock(), "{}", line.as_ref());
        });
    }

    /// Says what was asked of the store, where that costs anything.
    fn asked(&self, traffic: Option<&Traffic>) {
        traffic.iter().for_each(|traffic| self.say(traffic::line(traffic)));
    }

    /// Says what slots that were packed otherwise mean.
    fn packed_otherwise(&self, findings: &Findings) {
        if findings.count(FindingKind::SlotPackedOtherwise) > 0 {
            self.say(
                "next: nothing for slots that are packed otherwise: a server reads them as well, and the \
                 files differ from the original in packed bytes only",
            );
        }
    }

    fn findings(&self, findings: &Findings) {
        if findings.is_empty() {
            return;
        }
        let kinds = findings.counts.iter();
        let kinds: Vec<_> =
            kinds.map(|(kind, n)| format!("{} {}", count(*n), kind.name())).collect();
        let total = counted(findings.total(), "finding", "findings");
        self.complain(format!("{total}: {}", kinds.join(", ")));
        for finding in findings.listed.iter().take(FINDINGS_SHOWN_MAX) {
            self.complain(format!("  {}", finding_line(finding)));
        }
        let shown = findings.listed.len().min(FINDINGS_SHOWN_MAX) as u64;
        let rest = findings.total() - shown;
        if rest > 0 {
            self.complain(format!("  and {} more; --json names them", count(rest)));
        }
    }
}

impl Observer for Text {
    fn event(&self, event: Event<'_>) {
        self.bar.event(&event);
        match event {
            Event::Warning(text) => self.complain(format!("warning: {text}")),
            Event::Finding(finding) if self.is_verbose => self.complain(finding_line(finding)),
            Event::KeptPacked { object, slots } if self.is_verbose => {
                let slots = counted(slots, "slot", "slots");
                self.bar.aside(|| self.say(format!("as packed bytes: {slots} of {object}")))
            }
            Event::Would(path) if self.is_verbose => {
                self.bar.aside(|| self.say(format!("would write {path}")))
            }
            Event::WouldDelete(path) if self.is_verbose => {
                self.bar.aside(|| self.say(format!("would delete {path}")))
            }
            Event::Delete(path) if self.is_verbose => {
                self.bar.aside(|| self.say(format!("delete {path}")))
            }
            _ => {}
        }
    }
}

impl Output for Text {
    fn source(&self, source: &Source) {
        for note in source.told() {
            self.say(format!("note: {note}"));
        }
        if self.is_verbose {
            for (name, value) in &source.facts {
                self.say(format!("fact: {name} = {value}"));
            }
        }
        if !source.credentials.is_empty() {
            self.say(match source.credentials.iter().any(|record| record.stored) {
                true => {
                    "credentials that will be stored; nothing in this repository is encrypted \
                     (--without-secrets leaves these files out):"
                }
                false => "credentials that are left out; a restore needs them from elsewhere:",
            });
        }
        for record in &source.credentials {
            self.say(format!("  {}: {}", record.path, record.what));
        }
        self.out.flush();
    }

    fn settings(&self, values: &[Value]) {
        plan::settings(values).iter().for_each(|line| self.out.line(line));
    }

    fn planned(&self, planned: &Planned<'_>) {
        self.bar.end();
        plan::lines(planned, self.is_verbose).iter().for_each(|line| self.say(line));
        self.findings(planned.findings);
        plan::obstacles(planned).iter().for_each(|line| self.complain(line));
    }

    fn created(&self, created: &Created<'_>) {
        let config = created.config;
        self.say(format!("created repository {} at {}", config.repository, created.location));
        self.say(format!(
            "  packs of {}, chunks of {} on average",
            bytes(config.pack_bytes.into()),
            bytes(config.cutter.average_bytes.into())
        ));
        let slots = &config.slots;
        self.say(match slots.form {
            SlotForm::Recipe => format!(
                "  slots of segment files as recipes, unpacked in blocks of {}",
                bytes(slots.block_bytes.into())
            ),
            SlotForm::Packed => "  slots of segment files as packed bytes".to_owned(),
        });
        let place = if created.next.is_bucket { "bucket" } else { "directory" };
        self.say(match created.has_customer_key {
            true => "  the store encrypts it with the key of s3.customer_key_file, colvault does not: every restore \
                     needs that key, without it nothing comes back; keep a copy elsewhere"
                .to_owned(),
            false => format!(
                "  nothing in it is encrypted: whoever can read the {place} can read the data"
            ),
        });
        if let Some(lock) = &config.store.object_lock {
            self.say(format!(
                "  what snapshots need stays locked for {} from each backup on, mode {}",
                counted(lock.days.into(), "day", "days"),
                lock.mode.name()
            ));
            if created.is_default_lock {
                self.say("  that is the bucket's default retention, taken over; init --object-lock DAYS says otherwise");
            }
        }
        self.asked(created.traffic.as_ref());
        self.say(format!("next: {} backup --root /", created.next.again));
    }

    fn backed_up(&self, backed_up: &BackedUp<'_>) {
        self.bar.end();
        let report = backed_up.report;
        let snapshot = &report.snapshot;
        let state = snapshot.state.name();
        match report.id {
            Some(id) => self.say(format!("snapshot {} saved, {state}", id.short())),
            None => {
                self.say(format!("dry run: nothing was written; the snapshot would be {state}"))
            }
        }
        for line in backup_lines(backed_up) {
            self.say(format!("  {line}"));
        }
        if self.is_verbose {
            for record in &snapshot.left_out {
                self.say(format!("left out: {} ({})", record.path, record.reason));
            }
        }
        self.asked(backed_up.traffic.as_ref());
        self.findings(backed_up.findings);
        if is_damaged(backed_up.findings) {
            let remedy = remedy(&backed_up.next);
            self.complain(format!("the repository has lost content: {remedy}"));
        }
        self.say(format!("next: {}", after_backup(backed_up)));
    }

    fn snapshots(&self, snapshots: &Snapshots<'_>) {
        let mut table = Table::new(&[
            ("ID", Align::Left),
            ("Time", Align::Left),
            ("Host", Align::Left),
            ("Deployment", Align::Left),
            ("State", Align::Left),
            ("Proof", Align::Left),
            ("Size", Align::Right),
            ("Added", Align::Right),
            ("Tags", Align::Left),
            ("Paths", Align::Left),
        ]);
        for named in snapshots.snapshots {
            table.row(snapshot_row(named));
        }
        if !snapshots.snapshots.is_empty() {
            table.lines().iter().for_each(|line| self.out.line(line));
        }
        for named in snapshots.snapshots {
            if let Some(lacks) = reload::lacks(&named.snapshot) {
                self.say(format!("{}: {lacks}", named.id.short()));
            }
        }
        let shown = counted(snapshots.snapshots.len() as u64, "snapshot", "snapshots");
        match snapshots.others {
            0 => self.say(shown),
            others => self.say(format!("{shown}; {} others are not shown", count(others))),
        }
        self.findings(snapshots.findings);
    }

    fn listing(&self, named: &Named) {
        if self.is_verbose {
            let snapshot = &named.snapshot;
            let (id, time) = (named.id.short(), local_time(&snapshot.time));
            self.say(format!("snapshot {id} of {time} on {}", snapshot.host));
            if !snapshot.packers.is_empty() {
                self.say(format!("a restore needs the packers {}", snapshot.packers.join(", ")));
            }
        }
        if let Some(lacks) = reload::lacks(&named.snapshot) {
            self.complain(format!("note: {lacks}; a restore says how to load them"));
        }
    }

    fn listed(&self, listed: &ListedEntry<'_>) {
        let target = match &listed.entry.node {
            Node::Symlink { target } if listed.is_long => format!(" -> {}", encode(target)),
            _ => String::new(),
        };
        let column = listed.column.map_or_else(String::new, |name| format!("  {}", name.told()));
        match listed.is_long {
            false => self.out.line(&format!("{}{column}", listed.path)),
            true => {
                let path = listed.path;
                self.out.line(&format!("{} {path}{target}{column}", long_columns(listed)));
            }
        }
    }

    fn listing_ended(&self, findings: &Findings) {
        self.findings(findings);
    }

    fn restored(&self, restored: &Restored<'_>) {
        self.bar.end();
        let report = restored.report;
        let id = restored.named.id.short();
        let taken = local_time(&restored.named.snapshot.time);
        self.say(match restored.dry_run {
            true => format!("dry run: nothing was written; snapshot {id} of {taken} would go to"),
            false => format!("snapshot {id} of {taken} restored to"),
        });
        for (component, path) in &report.components {
            self.say(format!("  {component}: {}", path.display()));
        }
        for line in restore_lines(restored) {
            self.say(format!("  {line}"));
        }
        self.asked(restored.traffic.as_ref());
        self.findings(restored.findings);
        if LOST.iter().any(|kind| restored.report.findings.count(*kind) > 0) {
            self.say("next: content is missing, as the findings say; do not start a server on it");
            if restored.next.is_bucket && is_damaged(&restored.report.findings) {
                self.complain(format!("the repository is damaged: {}", remedy(&restored.next)));
            }
        } else if restored.dry_run {
            self.say("next: the same command without --dry-run");
        }
        self.packed_otherwise(restored.findings);
        for column in restored.columns.iter().take(COLUMNS_SHOWN_MAX) {
            let files = counted(column.files, "file", "files");
            self.say(format!("  OID {}: {}, {files}", column.oid, column.name.told()));
        }
        if restored.columns.len() > COLUMNS_SHOWN_MAX {
            let more = restored.columns.len() - COLUMNS_SHOWN_MAX;
            self.say(format!("  and {} more; ls --table names all", count(more as u64)));
        }
        if !restored.tables.is_empty() && !restored.dry_run {
            self.say(format!(
                "these are segment files of {} to look at, and no way to put rows back: the extent map and \
                 the system catalog of a deployment know nothing of them",
                restored.tables.join(", ")
            ));
        }
        reload::after(restored).iter().for_each(|line| self.say(line));
    }

    fn checked(&self, checked: &Checked<'_>) {
        self.bar.end();
        for line in check_lines(checked) {
            self.say(line);
        }
        self.asked(checked.traffic.as_ref());
        self.findings(checked.findings);
        match checked.exit {
            Exit::Done => self.say("nothing is wrong"),
            Exit::Damaged => {
                let remedy = remedy(&checked.next);
                self.complain(format!("the repository is damaged: {remedy}"));
            }
            _ => self.say("no content is missing or damaged, as far as it was read"),
        }
        self.packed_otherwise(checked.findings);
    }

    fn proved(&self, proved: &Proved<'_>) {
        self.bar.end();
        self.show_proved(proved);
        self.asked(proved.traffic.as_ref());
    }

    fn counted(&self, counted: &Counted<'_>) {
        self.show_counted(counted);
    }

    fn comparing(&self, before: &Named, after: &Named) {
        self.show_comparing(before, after);
    }

    fn changed(&self, changed: &ChangedLine<'_>) {
        self.show_changed(changed);
    }

    fn compared(&self, compared: &Compared<'_>) {
        self.show_compared(compared);
    }

    fn found_in(&self, named: &Named, count: Option<u64>) {
        self.show_found_in(named, count);
    }

    fn found(&self, _named: &Named, listed: &ListedEntry<'_>) {
        self.show_found(listed);
    }

    fn searched(&self, searched: &Searched<'_>) {
        self.show_searched(searched);
    }

    fn dumped(&self, dumped: &Dumped<'_>) {
        self.show_dumped(dumped);
    }

    fn inspected(&self, inspected: &Inspected<'_>) {
        self.show_inspected(inspected);
    }

    fn locked(&self, locked: &Locked<'_>) {
        self.show_locked(locked);
    }

    #[cfg(feature = "s3")]
    fn undeleted(&self, key: &Key, undone: Undone, dry_run: bool) {
        if self.is_verbose {
            let would = if dry_run { "would be " } else { "" };
            self.bar.aside(|| {
                self.say(match undone {
                    Undone::Undeleted => format!("{would}undeleted: {key}"),
                    Undone::PutAgain => format!("{would}put again: {key}"),
                })
            });
        }
    }

    #[cfg(feature = "s3")]
    fn undelete_ended(&self, undeleted: &Undeleted<'_>) {
        self.show_undelete_ended(undeleted);
    }

    fn is_for_programs(&self) -> bool {
        false
    }

    #[cfg(feature = "demo")]
    fn demo(&self, message: &crate::demo::message::Message) {
        message.lines().iter().for_each(|line| self.say(line));
        message.complaints().iter().for_each(|line| self.complain(line));
        self.out.flush();
    }

    fn failed(&self, failure: &Failure) {
        self.bar.end();
        self.complain(format!("error: {}", failure.message()));
        if let Some(hint) = failure.hint() {
            self.complain(format!("hint: {hint}"));
        }
    }

    fn is_closed(&self) -> bool {
        self.out.is_closed()
    }

    fn finish(&self) -> io::Result<()> {
        self.bar.end();
        self.out.finish()
    }
}

fn finding_line(finding: &Finding) -> String {
    format!("{}: {}: {}", finding.kind.name(), finding.object, finding.detail)
}

fn backup_lines(backed_up: &BackedUp<'_>) -> Vec<String> {
    let snapshot = &backed_up.report.snapshot;
    let (stats, counts) = (&snapshot.stats, snapshot.counts());
    let mut lines = vec![
        format!("{}, {}", title(snapshot), bytes(counts.bytes)),
        format!(
            "files: {} new, {} changed, {} unmodified; directories: {} new, {} changed, {} \
             unmodified",
            count(stats.files_new),
            count(stats.files_changed),
            count(stats.files_unmodified),
            count(stats.dirs_new),
            count(stats.dirs_changed),
            count(stats.dirs_unmodified)
        ),
        format!(
            "read {} in {} ({}); {} of it were known already",
            bytes(stats.bytes_read),
            duration(backed_up.elapsed),
            rate(stats.bytes_read, backed_up.elapsed),
            bytes(stats.bytes_deduplicated)
        ),
        added(stats),
    ];
    lines.extend(verified(&stats.verified, &snapshot.findings));
    lines.extend(recipes(&stats.recipes));
    if let Some(parent) = snapshot.parent {
        lines.push(format!("unmodified files were taken over from snapshot {}", parent.short()));
    }
    if let Some(lacks) = reload::lacks(snapshot) {
        lines.push(lacks);
    }
    lines.extend(proof::lines(snapshot));
    match backed_up.report.left_out_total {
        0 => {}
        total => {
            lines.push(format!("left out: {} (-v names them)", counted(total, "path", "paths")));
        }
    }
    lines
}

/// What was verified while it was read, where there was something to verify.
fn verified(of: &Verified, findings: &Findings) -> Option<String> {
    let damaged = |kind| findings.count(kind);
    let (slots, pages) = (damaged(FindingKind::DamagedSlot), damaged(FindingKind::DamagedPage));
    let kinds = [
        ([of.slots_verified, of.slots_known, of.slots_not_verifiable, slots], "slot", "slots"),
        ([of.pages_verified, of.pages_known, of.pages_not_verifiable, pages], "page", "pages"),
    ];
    let parts = kinds.into_iter().filter(|(numbers, ..)| numbers.iter().any(|n| *n > 0));
    let parts: Vec<_> = parts
        .map(|([new, known, unknown, damaged], one, many)| {
            let mut part = counted(new, one, many);
            if damaged > 0 {
                part.push_str(&format!(" ({} damaged)", count(damaged)));
            }
            if known > 0 {
                part.push_str(&format!(" ({} more were when they were stored)", count(known)));
            }
            if unknown > 0 {
                part.push_str(&format!(" ({} of a form that cannot be)", count(unknown)));
            }
            part
        })
        .collect();
    (!parts.is_empty()).then(|| format!("verified {}", parts.join(" and ")))
}

/// In which form slots were stored, where recipes were wanted and there were slots.
fn recipes(of: &RecipeStats) -> Option<String> {
    let mut parts = Vec::new();
    if of.slots_recipe_new + of.slots_recipe_known > 0 {
        parts.push(format!(
            "as recipes {} new, {} known ({} unpacked)",
            count(of.slots_recipe_new),
            count(of.slots_recipe_known),
            bytes(of.slots_unpacked_bytes)
        ));
    }
    let kept = [
        (of.slots_packed_otherwise, "packed by another library version"),
        (of.slots_not_tried, "behind such and not tried"),
        (of.slots_not_unpacked, "that cannot be unpacked"),
        (of.slots_not_whole, "with holes or not to be read"),
    ];
    let kept = kept.into_iter().filter(|(number, _)| *number > 0);
    let kept: Vec<_> = kept.map(|(number, why)| format!("{} {why}", count(number))).collect();
    if !kept.is_empty() {
        parts.push(format!("as packed bytes {}", kept.join(", ")));
    }
    (!parts.is_empty()).then(|| format!("slots stored: {}", parts.join("; ")))
}

/// What a backup added to the repository. A dry run fills no packs.
fn added(stats: &BackupStats) -> String {
    if stats.packs == 0 && stats.data_added == 0 {
        return "added nothing: all of it was stored already".to_owned();
    }
    let packs = match stats.packs {
        0 => String::new(),
        packs => format!(" in {}", counted(packs, "pack", "packs")),
    };
    let unpacked = if stats.recipes.slots_recipe_new > 0 { " (slots unpacked)" } else { "" };
    format!(
        "added {}{unpacked} in {}, stored as {} ({}){packs}",
        bytes(stats.data_added),
        counted(stats.data_chunks + stats.meta_chunks, "chunk", "chunks"),
        bytes(stats.data_added_packed),
        ratio(stats.data_added, stats.data_added_packed)
    )
}

/// What a snapshot is of, and how much.
fn title(snapshot: &Snapshot) -> String {
    let counts = snapshot.counts();
    let entries = format!(
        "{} and {}",
        counted(counts.files, "file", "files"),
        counted(counts.directories, "directory", "directories")
    );
    match snapshot.kind.as_str() {
        "deployment" => format!(
            "deployment {} on {}: {}, {entries}",
            snapshot.group,
            snapshot.host,
            counted(snapshot.components.len() as u64, "component", "components")
        ),
        _ => format!("{} on {}: {entries}", paths(snapshot), snapshot.host),
    }
}

fn after_backup(backed_up: &BackedUp<'_>) -> String {
    let id = backed_up.report.id.map(|id| id.short());
    let again = backed_up.next.again;
    match (id, backed_up.report.snapshot.state) {
        (None, _) => "the same command without --dry-run".to_owned(),
        (Some(id), SnapshotState::Complete) if backed_up.report.snapshot.is_refuted() => format!(
            "see to what does not hold, and back up again; {again} check --columnstore {id} repeats \
             the proof"
        ),
        (Some(id), SnapshotState::Complete) => {
            format!("try a restore: {again} restore {id} --target DIR")
        }
        (Some(_), SnapshotState::Inconsistent) => {
            "stop or freeze the deployment and back it up again: writes went on".to_owned()
        }
        (Some(_), SnapshotState::Damaged) => {
            "see to what does not hold, as the findings say, and back up again".to_owned()
        }
        (Some(_), _) => "see to what could not be read, and back up again".to_owned(),
    }
}

fn snapshot_row(named: &Named) -> Vec<String> {
    let snapshot = &named.snapshot;
    let deployment = match snapshot.kind.as_str() {
        "deployment" => snapshot.group.clone(),
        _ => "-".to_owned(),
    };
    vec![
        named.id.short(),
        local_time(&snapshot.time),
        snapshot.host.clone(),
        deployment,
        snapshot.state.name().to_owned(),
        proof::word(snapshot),
        bytes(snapshot.counts().bytes),
        bytes(snapshot.stats.data_added_packed),
        snapshot.tags.join(","),
        paths(snapshot),
    ]
}

/// The first paths of a snapshot and how many more there are.
fn paths(snapshot: &Snapshot) -> String {
    let shown = snapshot.paths.iter().take(PATHS_SHOWN_MAX).map(String::as_str);
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if snapshot.paths.len() > PATHS_SHOWN_MAX {
        text.push_str(&format!(" and {} more", snapshot.paths.len() - PATHS_SHOWN_MAX));
    }
    text
}

fn long_columns(listed: &ListedEntry<'_>) -> String {
    let entry = listed.entry;
    let owner = |name: &[u8], id: u32| match name.is_empty() {
        true => id.to_string(),
        false => encode(name),
    };
    let (mtime, size) = (entry.mtime, entry.size());
    let time = local_time(&crate::units::utc_time(mtime.seconds, mtime.nanoseconds));
    let (user, group) = (owner(&entry.user, entry.uid), owner(&entry.group, entry.gid));
    format!("{} {user:<8} {group:<8} {size:>12} {time}", permissions(entry))
}

fn restore_lines(restored: &Restored<'_>) -> Vec<String> {
    let report = restored.report;
    let files = counted(report.files_total, "file", "files");
    let mut lines = vec![format!("{files}, {}", bytes(report.bytes_total))];
    if restored.dry_run && restored.delta {
        let deleted = counted(report.files_deleted, "path that is", "paths that are");
        lines.push(format!(
            "{} would be written, new or of another size; {} of the same size compared, and written \
             where they differ",
            counted(report.files_to_write, "file", "files"),
            count(report.files_to_compare)
        ));
        lines.push(format!(
            "{deleted} there and not in the snapshot would be DELETED (-v names all of these)"
        ));
    }
    if restored.dry_run {
        return lines;
    }
    lines.push(format!(
        "{} restored: {} in {} ({})",
        count(report.files_restored),
        bytes(report.bytes_restored),
        duration(restored.elapsed),
        rate(report.bytes_restored, restored.elapsed)
    ));
    if report.files_incomplete > 0 {
        lines.push(format!("{} LACK CONTENT that cannot be had", count(report.files_incomplete)));
    }
    let left_out = &restored.named.snapshot.left_out;
    if !left_out.is_empty() {
        lines.push(format!(
            "left out when the snapshot was made: {} paths (ls --json names them)",
            count(left_out.len() as u64)
        ));
    }
    if restored.delta {
        lines.push(format!(
            "{} were as they should be already: {}; {} deleted",
            count(report.files_skipped),
            bytes(report.bytes_skipped),
            count(report.files_deleted)
        ));
    }
    lines
}

fn check_lines(checked: &Checked<'_>) -> Vec<String> {
    let report = checked.report;
    let mut lines = vec![format!(
        "checked {}, {}, {} and {} in {}",
        counted(report.snapshots, "snapshot", "snapshots"),
        counted(report.chunks, "chunk", "chunks"),
        counted(report.packs, "pack", "packs"),
        counted(report.indexes, "index", "indexes"),
        duration(checked.elapsed)
    )];
    lines.push(match checked.read_data_percent {
        Some(_) => format!(
            "  read and verified {} of {} in {} of {} ({})",
            bytes(report.bytes_read),
            bytes(report.pack_bytes),
            count(report.packs_read),
            counted(report.packs, "pack", "packs"),
            rate(report.bytes_read, checked.elapsed)
        ),
        None => "  the data itself was not read; --read-data does that".to_owned(),
    });
    if report.leases > 0 {
        let leases = counted(report.leases, "session", "sessions");
        lines.push(format!("  {leases} running, or ended without saying so; that does no harm:"));
        for Lease { purpose, host, pid, started, .. } in checked.leases {
            let started = local_time(started);
            lines.push(format!("    {purpose} of {host}, process {pid}, began {started}"));
        }
        let rest = report.leases - (checked.leases.len() as u64).min(report.leases);
        if rest > 0 {
            lines.push(format!("    and {} more", count(rest)));
        }
    }
    if report.packs_unindexed > 0 {
        let packs = counted(report.packs_unindexed, "pack", "packs");
        lines.push(format!("  {packs} of interrupted or running backups, in no index"));
    }
    lines
}
