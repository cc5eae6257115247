//! Text of the commands that look into snapshots: stats, diff, find, dump.

use colvault_engine::columnstore::ObjectClass;
use colvault_engine::diff::{Change, Tally};
use colvault_engine::format::snapshot::Snapshot;
use colvault_engine::snapshot::Named;
use colvault_engine::stats::{Chunks, GroupName, Occupied, SnapshotStats};

use super::super::reports::object_rows;
use super::super::table::{Align, Table};
use super::super::width::columns;
use super::super::{ChangedLine, Compared, Counted, Dumped, ListedEntry, Output, Searched};
use super::Text;
use crate::commands::stats::By;
use crate::units::{bytes, count, counted, duration, local_time, rate, ratio};

/// How many columns of a table of changes are named by their changes before the rest is counted.
const COLUMNS_SHOWN_MAX: usize = 20;

impl Text {
    pub(super) fn show_counted(&self, shown: &Counted<'_>) {
        let report = shown.report;
        let of = match shown.others {
            0 => String::new(),
            others => format!("; {} others are not counted", count(others)),
        };
        let snapshots = counted(report.snapshots.len() as u64, "snapshot", "snapshots");
        self.say(format!("{snapshots} of repository {}{of}", shown.id));
        if !report.snapshots.is_empty() {
            total_lines(shown).into_iter().for_each(|line| self.say(format!("  {line}")));
            match shown.by {
                By::Snapshot => self.snapshot_rows(shown),
                By::Time => self.time_rows(shown),
                By::Component | By::Dbroot | By::Table | By::Column | By::Oid => {
                    self.group_rows(shown)
                }
            }
        }
        occupied_lines(shown.location, &report.occupied).iter().for_each(|line| self.say(line));
        object_lines(shown).iter().for_each(|line| self.say(line));
        self.asked(shown.traffic.as_ref());
        self.findings(shown.findings);
        if !shown.findings.is_empty() {
            self.complain("what is missing or damaged is not counted: the figures are incomplete");
        }
    }

    fn table(&self, table: &Table, rows: usize, limit: usize) {
        self.say("");
        table.lines_within(columns()).iter().for_each(|line| self.out.line(line));
        if rows > limit {
            self.say(format!("and {} more", count((rows - limit) as u64)));
        }
    }

    fn snapshot_rows(&self, shown: &Counted<'_>) {
        let rows = &shown.report.snapshots;
        let has_several = rows.iter().any(|row| source(row) != source(&rows[0]));
        let mut names = vec![("ID", Align::Left), ("Time", Align::Left)];
        if has_several {
            names.push(("Source", Align::Left));
        }
        names.extend(["Size", "Recorded", "Added", "Frees"].map(|name| (name, Align::Right)));
        let mut table = Table::new(&names);
        for row in rows.iter().take(shown.limit) {
            let mut cells = vec![row.named.id.short(), minute(&row.named.snapshot)];
            if has_several {
                cells.push(source(row));
            }
            cells.extend(
                [
                    row.counts.bytes,
                    row.added_recorded,
                    row.added.all().stored_bytes,
                    row.freed.all().stored_bytes,
                ]
                .map(bytes),
            );
            table.row(cells);
        }
        self.table(&table, rows.len(), shown.limit);
        self.say("");
        self.say(
            "Added: stored chunks that no earlier snapshot has; Recorded: what its backup said",
        );
        self.say("Frees: stored chunks that only this snapshot has");
        self.say("");
    }

    fn time_rows(&self, shown: &Counted<'_>) {
        let mut table = Table::new(&[
            ("Time", Align::Left),
            ("ID", Align::Left),
            ("Files", Align::Right),
            ("Size", Align::Right),
            ("Added", Align::Right),
            ("Stored in all", Align::Right),
        ]);
        let rows = &shown.report.snapshots;
        for row in rows.iter().take(shown.limit) {
            table.row(vec![
                minute(&row.named.snapshot),
                row.named.id.short(),
                count(row.counts.files),
                bytes(row.counts.bytes),
                bytes(row.added.all().stored_bytes),
                bytes(row.stored_until),
            ]);
        }
        self.table(&table, rows.len(), shown.limit);
        self.say("");
    }

    fn group_rows(&self, shown: &Counted<'_>) {
        let rows = &shown.report.groups;
        let has_several = rows.iter().any(|row| row.deployment != rows[0].deployment);
        let mut names = Vec::new();
        if has_several {
            names.push(("Deployment", Align::Left));
        }
        let heading = match shown.by {
            By::Table => "Table",
            By::Column => "Column",
            By::Oid => "Object",
            By::Dbroot => "DB Root",
            _ => "Component",
        };
        names.push((heading, Align::Left));
        // Names are long: they have the room of a number that says little of them.
        let has_files = !matches!(shown.by, By::Table | By::Column);
        names.extend(has_files.then_some(("Files", Align::Right)));
        names.extend(["Size", "Unique", "Stored", "Own", "A night"].map(|n| (n, Align::Right)));
        let mut table = Table::new(&names);
        for row in rows.iter().take(shown.limit) {
            let mut cells = Vec::new();
            if has_several {
                cells.push(match row.deployment.as_str() {
                    "" => "-".to_owned(),
                    name => name.to_owned(),
                });
            }
            cells.push(match row.name {
                GroupName::Oid(_) if !has_files => format!("oid {}", group_name(&row.name)),
                _ => group_name(&row.name),
            });
            cells.extend(has_files.then(|| count(row.files)));
            cells.extend(
                [
                    row.logical_bytes,
                    row.reached.all().raw_bytes,
                    row.reached.all().stored_bytes,
                    row.exclusive.all().stored_bytes,
                ]
                .map(bytes),
            );
            cells.push(match row.nights {
                0 => "-".to_owned(),
                nights => bytes(row.added_later / nights),
            });
            table.row(cells);
        }
        self.table(&table, rows.len(), shown.limit);
        self.say("");
        self.say("Size: of files, in each snapshot anew; Unique: raw bytes of chunks, each once");
        self.say("Own: what is stored of it and of nothing else in the list");
        self.say("A night: what each night after the first added, on average, stored");
        self.say("");
    }

    pub(super) fn show_comparing(&self, before: &Named, after: &Named) {
        let time = |named: &Named| local_time(&named.snapshot.time);
        self.say(format!(
            "from snapshot {} of {} to {} of {}",
            before.id.short(),
            time(before),
            after.id.short(),
            time(after)
        ));
    }

    pub(super) fn show_changed(&self, line: &ChangedLine<'_>) {
        let changed = line.changed;
        let size = |entry: Option<&colvault_engine::format::manifest::Entry>| {
            entry.filter(|entry| entry.size() > 0).map(|entry| bytes(entry.size()))
        };
        let (before, after) = (size(changed.before), size(changed.after));
        let sizes = match (changed.change, before, after) {
            (Change::Metadata | Change::Form, ..) | (_, None, None) => String::new(),
            (Change::Added, _, Some(size)) | (Change::Removed, Some(size), _) => size,
            (_, before, after) => {
                let or_zero = |size: Option<String>| size.unwrap_or_else(|| bytes(0));
                format!("{} -> {}", or_zero(before), or_zero(after))
            }
        };
        let new = match changed.new.stored_bytes {
            0 => String::new(),
            stored => {
                format!("; new {}, stored as {}", bytes(changed.new.raw_bytes), bytes(stored))
            }
        };
        let detail = if sizes.is_empty() { String::new() } else { format!("  ({sizes}{new})") };
        self.out.line(&format!("{}    {}{detail}", changed.change.sign(), line.path));
    }

    pub(super) fn show_compared(&self, compared: &Compared<'_>) {
        let report = compared.report;
        let headings = |first: &'static str| {
            let mut names = vec![(first, Align::Left)];
            let numbers = ["Added", "Removed", "Changed", "Before", "After", "New", "Stored"];
            names.extend(numbers.map(|name| (name, Align::Right)));
            Table::new(&names)
        };
        let row = |name: String, tally: &Tally| {
            vec![
                name,
                count(tally.files_added),
                count(tally.files_removed),
                count(tally.files_changed),
                bytes(tally.bytes_before),
                bytes(tally.bytes_after),
                bytes(tally.new.raw_bytes),
                bytes(tally.new.stored_bytes),
            ]
        };
        let mut table = headings("Component");
        for (name, tally) in &report.components {
            table.row(row(name.clone(), tally));
        }
        table.row(row("all".to_owned(), &report.total));
        self.table(&table, 0, 0);
        if !report.columns.is_empty() {
            let mut columns: Vec<_> = report.columns.iter().collect();
            columns.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.new.stored_bytes));
            let mut table = headings("Object");
            for (oid, tally) in columns.iter().take(COLUMNS_SHOWN_MAX) {
                table.row(row(group_name(&GroupName::Oid(**oid)), tally));
            }
            self.table(&table, columns.len(), COLUMNS_SHOWN_MAX);
        }
        self.say("");
        for (what, side) in [("added", &report.added), ("removed", &report.removed)] {
            let all = side.chunks.all();
            self.say(format!(
                "{what}: {}, {}, {} others; {}, {}, stored as {}",
                counted(side.files, "file", "files"),
                counted(side.directories, "directory", "directories"),
                count(side.others),
                counted(all.chunks, "chunk", "chunks"),
                bytes(all.raw_bytes),
                bytes(all.stored_bytes)
            ));
        }
        self.say(format!(
            "changed: {}; only metadata of {}",
            counted(report.total.files_changed, "file", "files"),
            counted(report.total.metadata_changed, "path", "paths")
        ));
        if report.total.stored_otherwise > 0 {
            self.say(format!(
                "stored otherwise: slots of {}, unchanged by size, times and inode; not compared",
                counted(report.total.stored_otherwise, "file", "files")
            ));
        }
        self.asked(compared.traffic.as_ref());
        self.findings(compared.findings);
        if !compared.findings.is_empty() {
            self.complain("what could not be read was not compared");
        }
    }

    pub(super) fn show_found_in(&self, named: &Named, number: Option<u64>) {
        let (id, time) = (named.id.short(), local_time(&named.snapshot.time));
        match number {
            None => self.say(format!("snapshot {id} of {time} on {}", named.snapshot.host)),
            Some(number) => self.out.line(&format!("{id} {time} {}", count(number))),
        }
    }

    pub(super) fn show_found(&self, listed: &ListedEntry<'_>) {
        self.listed(listed);
    }

    pub(super) fn show_searched(&self, searched: &Searched<'_>) {
        let report = searched.report;
        self.say(format!(
            "{} in {} of {}",
            counted(report.matches, "match", "matches"),
            count(report.snapshots_matched),
            counted(report.snapshots, "snapshot", "snapshots")
        ));
        for id in &report.needed_as_names {
            self.out.line(&format!("names of tables and columns of snapshot {}", id.short()));
        }
        self.asked(searched.traffic.as_ref());
        self.findings(searched.findings);
        if !searched.findings.is_empty() || searched.unsearched > 0 {
            self.complain("what could not be read was not searched");
        }
    }

    pub(super) fn show_dumped(&self, dumped: &Dumped<'_>) {
        self.bar.end();
        let report = dumped.report;
        if let Some(path) = dumped.output {
            let what = match report.is_archive {
                true => format!(
                    "{} with {}",
                    counted(report.entries, "entry", "entries"),
                    counted(report.files, "file", "files")
                ),
                false => "a file".to_owned(),
            };
            self.say(format!(
                "{}: {what} of snapshot {}, {} in {} ({})",
                path.display(),
                dumped.named.id.short(),
                bytes(report.bytes),
                duration(dumped.elapsed),
                rate(report.bytes, dumped.elapsed)
            ));
            self.asked(dumped.traffic.as_ref());
        }
        self.findings(dumped.findings);
    }
}

/// The minute a snapshot was made in.
fn minute(snapshot: &Snapshot) -> String {
    local_time(&snapshot.time).chars().take("2026-11-23 14:36".len()).collect()
}

fn source(row: &SnapshotStats) -> String {
    let snapshot = &row.named.snapshot;
    match snapshot.kind.as_str() {
        "deployment" => format!("{} {}", snapshot.host, snapshot.group),
        _ => format!("{} {}", snapshot.host, super::paths(snapshot)),
    }
}

fn group_name(name: &GroupName) -> String {
    match name {
        GroupName::Component(name) => name.clone(),
        GroupName::Table(name) => name.clone(),
        GroupName::Column { table, column } => format!("{table}.{column}"),
        GroupName::Rest => "the rest".to_owned(),
        GroupName::Oid(oid) => match ObjectClass::of(*oid) {
            ObjectClass::User => oid.to_string(),
            class => format!("{oid} {}", class.name()),
        },
    }
}

fn total_lines(shown: &Counted<'_>) -> Vec<String> {
    let report = shown.report;
    let reached = &report.reached;
    let all = reached.all();
    let parts = |of: fn(&colvault_engine::stats::Amount) -> u64, chunks: &Chunks| {
        format!("content {}, manifests {}", bytes(of(&chunks.data)), bytes(of(&chunks.meta)))
    };
    vec![
        format!(
            "size    {} in {}",
            bytes(report.counts.bytes),
            counted(report.counts.files, "file", "files")
        ),
        format!(
            "unique  {} in {} ({})",
            bytes(all.raw_bytes),
            counted(all.chunks, "chunk", "chunks"),
            parts(|amount| amount.raw_bytes, reached)
        ),
        format!("stored  {} ({})", bytes(all.stored_bytes), parts(|a| a.stored_bytes, reached)),
        format!(
            "ratio   {} deduplicated, {} compressed, {} in all",
            ratio(report.counts.bytes, all.raw_bytes),
            ratio(all.raw_bytes, all.stored_bytes),
            ratio(report.counts.bytes, all.stored_bytes)
        ),
    ]
}

/// The objects by kind, where they have storage classes and requests for them cost something.
fn object_lines(shown: &Counted<'_>) -> Vec<String> {
    if shown.classes.is_none() {
        return Vec::new();
    }
    let mut table = Table::new(&[
        ("Objects", Align::Left),
        ("Number", Align::Right),
        ("Size", Align::Right),
        ("Storage class of new ones", Align::Left),
    ]);
    let rows = object_rows(&shown.report.occupied.objects, shown.classes);
    for row in rows.into_iter().filter(|row| row.tally.count > 0) {
        let class = row.class.map_or("-", |class| class.unwrap_or("as the bucket does"));
        let (number, size) = (count(row.tally.count), bytes(row.tally.bytes));
        table.row(vec![row.what.to_owned(), number, size, class.to_owned()]);
    }
    [vec![String::new()], table.lines(), vec![String::new()]].concat()
}

fn occupied_lines(location: &str, occupied: &Occupied) -> Vec<String> {
    let mut lines = vec![format!("{location} takes {} in all:", bytes(occupied.total_bytes()))];
    let chunks = |number: u64| counted(number, "chunk", "chunks");
    let packs = |number: u64| counted(number, "pack", "packs");
    let (reached, unreached) = (&occupied.reached, &occupied.unreached);
    let parts = [
        (reached.data.stored_bytes, "content that snapshots need", chunks(reached.data.chunks)),
        (reached.meta.stored_bytes, "manifests that snapshots need", chunks(reached.meta.chunks)),
        (unreached.all().stored_bytes, "needed by no snapshot", chunks(unreached.all().chunks)),
        (occupied.copies.stored_bytes, "further copies", chunks(occupied.copies.chunks)),
        (occupied.pack_overhead_bytes, "headers and trailers of packs", packs(occupied.packs)),
        (occupied.unusable_pack_bytes, "packs that cannot be used", packs(occupied.unusable_packs)),
        (occupied.objects.indexes.bytes, "index objects", String::new()),
        (occupied.objects.snapshots.bytes, "snapshots", String::new()),
        (occupied.objects.records.bytes, "other records", String::new()),
        (occupied.objects.foreign.bytes, "objects that do not belong there", String::new()),
    ];
    for (taken, what, detail) in parts {
        if taken > 0 {
            let detail = if detail.is_empty() { detail } else { format!(", {detail}") };
            lines.push(format!("  {:>10}  {what}{detail}", bytes(taken)));
        }
    }
    if occupied.packs_unindexed > 0 {
        lines.push(format!(
            "  {} of these, {}, are of interrupted or running backups, in no index",
            packs(occupied.packs_unindexed),
            bytes(occupied.packs_unindexed_bytes)
        ));
    }
    lines
}
