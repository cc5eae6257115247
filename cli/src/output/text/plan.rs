//! A plan and the settings, for people.

use std::collections::BTreeMap;
use std::time::Duration;

use colvault_engine::format::config::SlotForm;
use colvault_engine::format::snapshot::{LeftOutRecord, RecordSource, SystemOfRecord};
use colvault_engine::id::SessionId;
use colvault_engine::plan::{Basis, Forecast};
use colvault_engine::source::columnstore::LEFT_TO_THE_RECORD;
use colvault_engine::source::file_system::{Cloning, FileSystem};

use crate::output::table::{Align, Table};
use crate::output::{Planned, Requests, reload, traffic};
use crate::settings::Value;
use crate::units::{bytes, count, counted, duration};

/// How many left-out paths are named unless asked for more.
const LEFT_OUT_SHOWN_MAX: usize = 20;

/// Returns the table of all settings.
pub fn settings(values: &[Value]) -> Vec<String> {
    let mut table =
        Table::new(&[("Setting", Align::Left), ("Value", Align::Left), ("Said by", Align::Left)]);
    for value in values {
        let shown = value.shown().map(|values| values.join(", "));
        table.row(vec![
            value.setting.key.to_owned(),
            shown.unwrap_or_else(|| format!("({})", value.setting.unset)),
            value.origin().describe(),
        ]);
    }
    table.lines()
}

/// Returns what a plan says, but for findings and obstacles.
pub fn lines(planned: &Planned<'_>, is_verbose: bool) -> Vec<String> {
    let mut lines = vec![match planned.kind {
        "deployment" => {
            format!("plan: a full backup of deployment {} on {}", planned.group, planned.host)
        }
        _ => format!("plan: a backup of {} on {}", planned.group.replace('\n', ", "), planned.host),
    }];
    lines.extend(components(planned));
    lines.push(String::new());
    lines.extend(record(planned));
    lines.extend(left_out(planned, is_verbose));
    if let Some(around) = planned.surroundings {
        if let Some(bucket) = &around.bucket {
            lines.push(format!("not taken yet: the objects of the bucket {bucket}"));
        }
        if !around.missing.is_empty() {
            let names: Vec<_> = around.missing.iter().map(|p| p.display().to_string()).collect();
            lines.push(format!("optional files that are not there: {}", names.join(", ")));
        }
    }
    lines.extend(credentials(planned));
    lines.extend(planned.notes.iter().map(|note| format!("note: {note}")));
    lines.extend(freeze(planned));
    lines.extend(file_systems(planned));
    lines.push(String::new());
    lines.extend(cost(planned));
    lines
}

/// Returns what speaks against the backup.
pub fn obstacles(planned: &Planned<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for obstacle in planned.obstacles {
        lines.push(format!("would be refused: {}", obstacle.message()));
        lines.extend(obstacle.hint().map(|hint| format!("  hint: {hint}")));
    }
    lines
}

fn components(planned: &Planned<'_>) -> Vec<String> {
    let mut table = Table::new(&[
        ("Component", Align::Left),
        ("Files", Align::Right),
        ("Directories", Align::Right),
        ("Size", Align::Right),
        ("To read", Align::Right),
        ("At", Align::Left),
    ]);
    let total = planned.report.total();
    let row = |name: &str, at: &str, part: &colvault_engine::plan::PlannedComponent| {
        vec![
            name.to_owned(),
            count(part.counts.files),
            count(part.counts.directories),
            bytes(part.counts.bytes),
            bytes(part.bytes_to_read),
            at.to_owned(),
        ]
    };
    for component in &planned.report.components {
        table.row(row(&component.name, &component.path, component));
    }
    table.row(row("all", "", &total));
    table.lines()
}

fn record(planned: &Planned<'_>) -> Vec<String> {
    let Some(record) = &planned.report.record else { return Vec::new() };
    let assumed = if record.assumed { " (assumed: nobody said so)" } else { "" };
    let mut lines = vec![format!("system of record: {}{assumed}", reload::origin(record))];
    if record.source == RecordSource::Columnstore {
        lines.push("  what is lost in ColumnStore is lost: everything is backed up".to_owned());
        return lines;
    }
    lines.extend(left_to_the_record(record));
    lines.push("  the reload procedure, which the snapshot keeps:".to_owned());
    for (number, step) in record.reload.iter().enumerate() {
        let from = if step.from.is_empty() { "" } else { " from " };
        lines.push(format!(
            "  {}. {}{from}{}: {}",
            number + 1,
            step.table,
            step.from,
            step.command
        ));
    }
    lines
}

fn left_to_the_record(record: &SystemOfRecord) -> Vec<String> {
    let (files, sum) = record.left_out_sums();
    let mut lines = vec![format!(
        "  left out{}: {}, {}; definitions, system catalog, extent map, data directory and \
         configuration are taken",
        match record.tables.as_slice() {
            [] => String::new(),
            patterns => format!(", of {} alone", patterns.join(", ")),
        },
        counted(files, "user segment file", "user segment files"),
        bytes(sum)
    )];
    // By table where tables were chosen by name, else by directory.
    let mut rows: Vec<(&str, u64, u64)> = Vec::new();
    let mut of_tables: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for left_out in &record.left_out {
        match left_out.table.as_str() {
            "" => rows.push((&left_out.path, left_out.files, left_out.bytes)),
            table => {
                let sums = of_tables.entry(table).or_default();
                *sums = (sums.0 + left_out.files, sums.1 + left_out.bytes);
            }
        }
    }
    rows.extend(of_tables.into_iter().map(|(table, (files, sum))| (table, files, sum)));
    for (what, files, sum) in rows.iter().take(LEFT_OUT_SHOWN_MAX) {
        let files = counted(*files, "file", "files");
        lines.push(format!("    {what}: {files}, {}", bytes(*sum)));
    }
    if rows.len() > LEFT_OUT_SHOWN_MAX {
        let rest = rows.len() - LEFT_OUT_SHOWN_MAX;
        lines.push(format!("    and {} more; --json names them", count(rest as u64)));
    }
    lines
}

/// What is left out but for what the system of record makes good, which is told with it.
fn left_out(planned: &Planned<'_>, is_verbose: bool) -> Vec<String> {
    let report = planned.report;
    let is_told = |record: &&LeftOutRecord| record.reason != LEFT_TO_THE_RECORD;
    let others: Vec<&LeftOutRecord> = report.left_out.iter().filter(is_told).collect();
    let told = (report.left_out.len() - others.len()) as u64;
    let total = report.left_out_total - told;
    if total == 0 {
        return vec!["left out: nothing".to_owned()];
    }
    let mut lines = vec![format!("left out: {}", counted(total, "path", "paths"))];
    let most = if is_verbose { others.len() } else { LEFT_OUT_SHOWN_MAX.min(others.len()) };
    let shown = others.iter().take(most);
    lines.extend(shown.map(|record| format!("  {}: {}", record.path, record.reason)));
    let rest = total - most as u64;
    if rest > 0 {
        lines.push(format!("  and {} more; -v and --json name more of them", count(rest)));
    }
    lines
}

fn credentials(planned: &Planned<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if !planned.credentials.is_empty() {
        lines.push("files with credentials; nothing in a repository is encrypted yet:".to_owned());
    }
    lines.extend(planned.credentials.iter().map(|record| {
        let stored = if record.stored { "stored" } else { "left out" };
        format!("  {}: {}, {stored}", record.path, record.what)
    }));
    lines
}

fn freeze(planned: &Planned<'_>) -> Vec<String> {
    let Some(around) = planned.surroundings else { return Vec::new() };
    let mut lines = vec![match around.running.as_slice() {
        [] => "freeze: none of its daemons runs, so none is needed".to_owned(),
        running => {
            format!("freeze: to be stopped for the backup: {}", crate::source::describe(running))
        }
    }];
    lines.push(
        "  a later version freezes a running deployment: read lock, extent map saved and read-only; \
         of what that needs there are here"
            .to_owned(),
    );
    for program in planned.programs {
        let path = program.path.as_ref().map(|path| path.display().to_string());
        let path = path.unwrap_or_else(|| "not found".to_owned());
        lines.push(format!("  {}: {path} ({})", program.name, program.purpose));
    }
    lines
}

fn file_systems(planned: &Planned<'_>) -> Vec<String> {
    let mut lines = vec!["file systems:".to_owned()];
    for (component, file_system) in planned.file_systems {
        lines.push(format!("  {component}: {}, {}", file_system.kind, cloning(file_system)));
    }
    lines
}

fn cloning(file_system: &FileSystem) -> &'static str {
    match file_system.cloning {
        Cloning::Yes => "can clone files",
        Cloning::Perhaps => "can clone files if it was made so",
        Cloning::No => "cannot clone files",
    }
}

fn cost(planned: &Planned<'_>) -> Vec<String> {
    let (report, total) = (planned.report, planned.report.total());
    let form = match report.slots {
        Some(SlotForm::Recipe) => "as recipes",
        Some(SlotForm::Packed) => "as packed bytes",
        None => "as the repository says",
    };
    let mut lines = vec![format!(
        "files: {} new, {} changed, {} unmodified{}",
        count(total.files_new),
        count(total.files_changed),
        count(total.files_unmodified),
        match report.parent {
            Some(parent) => format!(", compared with snapshot {}", parent.short()),
            None => ": the first backup of it, or a forced one".to_owned(),
        }
    )];
    lines.push(format!("stored: slots {}; compression {}", form, planned.compression.name()));
    lines.push(estimate(&report.forecast, report.switches_slots));
    match planned.repository {
        Some((location, Some(file_system))) => {
            lines.push(format!(
                "space at {location} ({}): {} free",
                file_system.kind,
                bytes(file_system.free_bytes)
            ));
            lines.extend(short_of_space(&report.forecast, file_system.free_bytes));
        }
        Some((location, None)) if planned.requests.is_some() => {
            lines.push(format!("space at {location}: as much as the bucket takes"));
        }
        Some((location, None)) => lines.push(format!("space at {location}: not known")),
        None => lines.push("space: no repository to look at (-r REPOSITORY)".to_owned()),
    }
    lines.extend(planned.requests.map(requests));
    lines.push(format!(
        "planned in {}; nothing was written but the index cache",
        duration(planned.elapsed)
    ));
    lines
}

/// What a backup would ask of the store, and what the plan did.
fn requests(requests: &Requests) -> String {
    format!(
        "requests of the backup, an estimate: {}; this plan took {}",
        traffic::classes(&requests.of_backup),
        traffic::classes(&requests.own)
    )
}

fn estimate(forecast: &Forecast, switches_slots: bool) -> String {
    if forecast.bytes_to_read == 0 {
        return "forecast: nothing to read, so next to nothing to store".to_owned();
    }
    let read = bytes(forecast.bytes_to_read);
    let ids = |ids: &[SessionId]| {
        let shorts: Vec<_> = ids.iter().map(|id| id.short()).collect();
        shorts.join(", ")
    };
    let (basis, remark) = match &forecast.basis {
        Basis::Nothing => {
            return format!(
                "forecast: {read} to read; what is stored is not known before a first backup, at \
                 most as much; time: not known"
            );
        }
        Basis::Nights(nights) => (ids(nights), ""),
        Basis::Full(full) if switches_slots => (
            ids(full),
            ", which read everything: the last snapshot has slots in the other form, so those of changed \
             files are stored anew",
        ),
        Basis::Full(full) => (
            ids(full),
            ", which read everything: of a changed file most is stored already, so expect less",
        ),
    };
    let stored = forecast.stored_bytes.map_or_else(|| "not known".to_owned(), bytes);
    let time = forecast.seconds.map_or_else(
        || "not known".to_owned(),
        |seconds| duration(Duration::from_secs_f64(seconds.max(0.0))),
    );
    format!(
        "forecast, an estimate: {read} to read, about {stored} stored, in about {time}; at the \
         rates of {basis}{remark}"
    )
}

/// Warns when the estimate, or without one the whole, does not fit.
fn short_of_space(forecast: &Forecast, free: u64) -> Option<String> {
    let needed = forecast.stored_bytes.unwrap_or(forecast.bytes_to_read);
    (needed > free)
        .then(|| format!("  that may not be enough: up to {} are to be stored", bytes(needed)))
}
