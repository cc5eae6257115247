//! What happens to a deployment from one night to the next.

use std::collections::BTreeSet;
use std::io::Result;
use std::num::NonZero;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::content::{Bounds, Filling};
use super::layout::{EXTENT_ROWS, SegmentFile, State, Table};
use super::place::Place;
use super::random::{Random, parts};
use super::rows::{chunk_rows, parallel, write_loads};
use super::schema::{BLOCK, TEMPLATES};
use super::segment::{Patched, patch};
use super::slot::{CHUNK, Packer};
use super::{Codec, brm, catalog, datadir, invalid, load, save, table_name};

/// What a night is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NightKind {
    /// cpimport adds rows to three tables in four: the share of all rows.
    Append,
    /// UPDATEs of scattered rows: the share of all slots is touched.
    Update,
    /// DELETE from one table, half of it in one piece: the share of its rows.
    Delete,
    /// DROP TABLE of the last table, CREATE TABLE and a load of another.
    Drop,
    /// All of these.
    Mixed,
}

/// Which night to make.
#[derive(Clone, Debug, PartialEq)]
pub struct NightOptions {
    /// Its number: one more than the deployment is at.
    pub night: u32,
    /// What happens.
    pub kind: NightKind,
    /// How much, between 0 and 1.
    pub share: f64,
    /// Threads that write.
    pub threads: NonZero<usize>,
}

/// What a night did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NightReport {
    /// Rows added.
    pub rows_added: u64,
    /// Rows deleted.
    pub rows_deleted: u64,
    /// Slots that were packed again.
    pub slots_changed: u64,
    /// Files that were written anew because a slot outgrew its place.
    pub files_rewritten: u64,
    /// Tables dropped.
    pub tables_dropped: Vec<String>,
    /// Tables made.
    pub tables_created: Vec<String>,
}

/// Turns the night before, in place, into another night.
///
/// Errors: no generated deployment there, or one at another night; a share outside 0 to 1; writing
/// fails, after which the deployment is of no use.
pub fn night(root: &Path, options: &NightOptions) -> Result<NightReport> {
    let mut state = load(root)?;
    if options.night != state.night + 1 {
        let expected = state.night + 1;
        return Err(invalid(format!("--night: expected {expected}, found {}", options.night)));
    }
    if !(0.0..=1.0).contains(&options.share) {
        return Err(invalid(format!("--share: expected 0 to 1, found {}", options.share)));
    }
    state.night = options.night;
    let mut report = NightReport::default();
    let place = Place::new(root, state.night);
    let mut run = Night { place: &place, state: &mut state, options, report: &mut report };
    let all = options.kind == NightKind::Mixed;
    if all || options.kind == NightKind::Append {
        run.append()?;
    }
    if all || options.kind == NightKind::Update {
        run.update()?;
    }
    if all || options.kind == NightKind::Delete {
        run.delete()?;
    }
    if all || options.kind == NightKind::Drop {
        run.drop_and_create()?;
    }
    datadir::change(&place, &state)?;
    brm::write(&place, &state, false)?;
    place.finish()?;
    save(root, &state)?;
    Ok(report)
}

struct Night<'a> {
    place: &'a Place,
    state: &'a mut State,
    options: &'a NightOptions,
    report: &'a mut NightReport,
}

/// Slots of one file that change.
struct Change {
    table: usize,
    file: SegmentFile,
    chunks: Vec<usize>,
    /// Where the blocks of the first of them go in the version buffer.
    buffer_block: u64,
}

/// Changes a chunk and names the blocks of it that are no longer as they were.
type Edit<'a> = &'a mut dyn FnMut(usize, &mut [u8], &mut BTreeSet<usize>);

/// Blocks that the version buffer keeps of each changed slot.
const KEPT_BLOCKS: u64 = 4;

impl Night<'_> {
    fn append(&mut self) -> Result<()> {
        let before = self.state.tables.clone();
        let night = self.state.night as usize;
        let count = before.len();
        for (number, table) in self.state.tables.iter_mut().enumerate() {
            if count > 1 && (number + night) % 4 == 3 {
                continue;
            }
            let share = if count > 1 { self.options.share * 4.0 / 3.0 } else { self.options.share };
            let rows = ((table.rows() as f64 * share) as u64).max(1);
            table.load(rows, &self.state.roots, &mut self.state.numbers);
            self.report.rows_added += rows;
            self.state.transaction += 1;
        }
        write_loads(self.place, self.state, &before, self.options.threads)?;
        Ok(())
    }

    fn update(&mut self) -> Result<()> {
        let state = &*self.state;
        let files = |wanted: fn(&Table, &SegmentFile) -> bool| {
            let all = state.tables.iter().enumerate();
            all.flat_map(|(number, table)| {
                let files = table.files(&state.roots).into_iter();
                files.filter(move |file| wanted(table, file)).map(move |file| (number, file))
            })
            .collect::<Vec<_>>()
        };
        let slots = |files: &[(usize, SegmentFile)]| -> u64 {
            files.iter().map(|(_, file)| file.chunks as u64).sum()
        };
        let all = slots(&files(|_, _| true));
        let candidates = files(|table, file| {
            !file.is_dictionary && table.columns[file.column].kind.is_updated()
        });
        let share = self.options.share * all as f64 / slots(&candidates) as f64;
        let mut changes = Vec::new();
        for (table, file) in candidates {
            let names = [state.seed, u64::from(file.oid), u64::from(state.night), file.extents[0]];
            let mut stream = Random::of(&names);
            let chunks = (0..file.chunks).filter(|_| stream.chance(parts(share))).collect();
            changes.push(Change { table, file, chunks, buffer_block: 0 });
        }
        if changes.iter().all(|change: &Change| change.chunks.is_empty())
            && let Some(first) = changes.first_mut()
        {
            // However small the share, something changes.
            first.chunks.push(0);
        }
        let changes = self.claim_version_buffer(changes);
        let state = &*self.state;
        let work = |change: &Change| -> Result<(Patched, Vec<(u64, Bounds)>)> {
            let table = &state.tables[change.table];
            let column = &table.columns[change.file.column];
            let width = column.kind.width();
            let mut found = Vec::new();
            let mut update = |chunk: usize, raw: &mut [u8], touched: &mut BTreeSet<usize>| {
                let rows = chunk_rows(&change.file, chunk, (CHUNK / width) as u64);
                let loads: Vec<Range<u64>> = table.loaded(rows.clone()).map(|(_, r)| r).collect();
                let names = [state.seed, u64::from(column.oid), u64::from(state.night), rows.start];
                let mut stream = Random::of(&names);
                let count: u64 = loads.iter().map(|rows| rows.end - rows.start).sum();
                if count == 0 {
                    return;
                }
                let tokens = table.tokens(column, loads[0].start, &state.roots);
                let filling =
                    Filling { kind: column.kind, change: u32::MAX, tokens: tokens.as_ref() };
                // Most updates are few and fit; some are many, and the slot outgrows its place.
                let many = stream.below(8) == 0;
                let updates = if many { 1 + count / 30 } else { 1 + count.min(150) };
                let mut bounds = Bounds::NONE;
                for _ in 0..updates {
                    let mut number = stream.below(count);
                    let load = loads.iter().find(|rows| {
                        let length = rows.end - rows.start;
                        let here = number < length;
                        number -= if here { 0 } else { length };
                        here
                    });
                    let Some(row) = load.map(|rows| rows.start + number) else { continue };
                    let at = (row - rows.start) as usize * width;
                    let value = filling.value(&mut stream, row, row);
                    if raw[at..at + width] == column.kind.empty()[..width] {
                        continue;
                    }
                    touched.insert(at / BLOCK);
                    raw[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
                    bounds.add(filling.bounds_of(value), column.kind.compares_bytes());
                }
                found.push((rows.start / EXTENT_ROWS, bounds));
            };
            let patched = self.patch_file(change, table.codec, &mut update)?;
            Ok((patched, found))
        };
        let done = parallel(self.options.threads, &changes, work)?;
        for (change, (patched, bounds)) in changes.iter().zip(done) {
            self.report.slots_changed += patched.slots;
            self.report.files_rewritten += u64::from(patched.rewritten);
            let column = &mut self.state.tables[change.table].columns[change.file.column];
            for (extent, bounds) in bounds {
                column.extents[extent as usize].add_bounds(bounds, column.kind);
            }
        }
        self.state.transaction += 1;
        Ok(())
    }

    fn delete(&mut self) -> Result<()> {
        let state = &*self.state;
        let number = (state.seed as usize + state.night as usize) % state.tables.len();
        let table = &state.tables[number];
        let deleted = Deleted::of(state, table, self.options.share);
        let mut rows_deleted = 0;
        for (_, rows) in table.loaded(0..table.end()) {
            rows_deleted += rows.filter(|row| deleted.contains(*row)).count() as u64;
        }
        let mut changes = Vec::new();
        for file in table.files(&state.roots).into_iter().filter(|file| !file.is_dictionary) {
            let rows_per_chunk = (CHUNK / table.columns[file.column].kind.width()) as u64;
            let touched = |chunk: &usize| {
                let rows = chunk_rows(&file, *chunk, rows_per_chunk);
                table.loaded(rows).any(|(_, mut rows)| rows.any(|row| deleted.contains(row)))
            };
            let chunks = (0..file.chunks).filter(touched).collect();
            changes.push(Change { table: number, file, chunks, buffer_block: 0 });
        }
        let changes = self.claim_version_buffer(changes);
        let state = &*self.state;
        let table = &state.tables[number];
        let work = |change: &Change| -> Result<Patched> {
            let kind = table.columns[change.file.column].kind;
            let width = kind.width();
            let mut empty = |chunk: usize, raw: &mut [u8], touched: &mut BTreeSet<usize>| {
                let rows = chunk_rows(&change.file, chunk, (CHUNK / width) as u64);
                for (_, load) in table.loaded(rows.clone()) {
                    for row in load.filter(|row| deleted.contains(*row)) {
                        let at = (row - rows.start) as usize * width;
                        touched.insert(at / BLOCK);
                        raw[at..at + width].copy_from_slice(&kind.empty()[..width]);
                    }
                }
            };
            self.patch_file(change, table.codec, &mut empty)
        };
        for patched in parallel(self.options.threads, &changes, work)? {
            self.report.slots_changed += patched.slots;
            self.report.files_rewritten += u64::from(patched.rewritten);
        }
        self.report.rows_deleted += rows_deleted;
        self.state.transaction += 1;
        Ok(())
    }

    /// Gives every changed slot a place for blocks in its DB Root's version buffer.
    fn claim_version_buffer(&mut self, mut changes: Vec<Change>) -> Vec<Change> {
        changes.retain(|change| !change.chunks.is_empty());
        for change in &mut changes {
            let roots = &self.state.roots.numbers;
            let root = roots.iter().position(|root| *root == change.file.file.root).unwrap_or(0);
            let blocks = &mut self.state.version_buffer_blocks[root];
            change.buffer_block = *blocks;
            *blocks += KEPT_BLOCKS * change.chunks.len() as u64;
        }
        changes
    }

    /// Changes the slots of one file; blocks as they were go to the version buffer.
    fn patch_file(&self, change: &Change, codec: Codec, edit: Edit<'_>) -> Result<Patched> {
        let file = &change.file;
        let path = self.place.data(file.file.path(file.oid));
        let buffer_path = self.place.data(format!("data{}/versionbuffer.cdf", file.file.root));
        let buffer = self.place.open(&buffer_path)?;
        let mut failed = Ok(());
        let mut keep = |chunk: usize, raw: &mut [u8]| {
            let before = raw.to_vec();
            let mut touched = BTreeSet::new();
            edit(chunk, raw, &mut touched);
            let number = change.chunks.iter().position(|other| *other == chunk).unwrap_or(0) as u64;
            let mut kept = vec![0; KEPT_BLOCKS as usize * BLOCK];
            for (place, block) in kept.chunks_exact_mut(BLOCK).zip(touched) {
                place.copy_from_slice(&before[block * BLOCK..][..BLOCK]);
            }
            let at = (change.buffer_block + number * KEPT_BLOCKS) * BLOCK as u64;
            if let Err(error) = buffer.write_all_at(&kept, at) {
                failed = Err(error);
            }
        };
        let patched = patch(self.place, &path, &change.chunks, &mut Packer::new(codec), &mut keep)?;
        failed?;
        self.place.done(&buffer, &buffer_path)?;
        Ok(patched)
    }

    fn drop_and_create(&mut self) -> Result<()> {
        let (mut rows, mut codec) = (10_000, self.state.tables[0].codec);
        if self.state.tables.len() > 1
            && let Some(table) = self.state.tables.pop()
        {
            for file in table.files(&self.state.roots) {
                self.place.remove(&self.place.data(file.file.path(file.oid)))?;
            }
            datadir::remove_frm(self.place, &table)?;
            for column in &table.columns {
                let own = column.extents.iter();
                let strings = column.dictionary.iter().flat_map(|dictionary| &dictionary.extents);
                let freed = own.chain(strings).map(|extent| (extent.lbid, extent.size));
                self.state.numbers.freed.extend(freed);
            }
            merge_freed(&mut self.state.numbers.freed);
            (rows, codec) = (table.rows().max(2) / 2, table.codec);
            self.report.tables_dropped.push(table.name);
        }
        let number = self.state.tables_made as usize;
        self.state.tables_made += 1;
        let before = self.state.tables.clone();
        let state = &mut *self.state;
        let mut table = Table::new(
            table_name(number),
            codec,
            number % state.roots.numbers.len(),
            TEMPLATES[number % TEMPLATES.len()].columns,
            &mut state.numbers,
        );
        table.load(rows, &state.roots, &mut state.numbers);
        datadir::create_frm(self.place, &table)?;
        self.report.tables_created.push(table.name.clone());
        self.report.rows_added += rows;
        state.tables.push(table);
        state.transaction += 3;
        state.catalog_version += 2;
        write_loads(self.place, state, &before, self.options.threads)?;
        catalog::write(self.place, state)
    }
}

/// Joins ranges that follow each other.
fn merge_freed(freed: &mut Vec<(u64, u32)>) {
    freed.sort_unstable();
    let mut merged: Vec<(u64, u32)> = Vec::new();
    for (start, size) in freed.drain(..) {
        match merged.last_mut() {
            Some((last, length)) if *last + (u64::from(*length) << 10) == start => *length += size,
            _ => merged.push((start, size)),
        }
    }
    *freed = merged;
}

/// The rows of a table that a DELETE takes: half of them in one piece, half scattered.
struct Deleted {
    piece: Range<u64>,
    scattered: Range<u64>,
    seed: u64,
    night: u64,
}

/// One row in so many of the scattered part goes.
const SCATTER: u64 = 16;

impl Deleted {
    fn of(state: &State, table: &Table, share: f64) -> Deleted {
        let (first, end) = (table.loads[0].0, table.end());
        let rows = end - first;
        let mut stream = Random::of(&[state.seed, u64::from(state.night), 90]);
        let mut range = |length: u64| {
            let length = length.clamp(1, rows);
            let start = first + stream.below(rows - length + 1);
            start..start + length
        };
        let half = (rows as f64 * share / 2.0) as u64;
        Deleted {
            piece: range(half),
            scattered: range(half.saturating_mul(SCATTER)),
            seed: state.seed,
            night: u64::from(state.night),
        }
    }

    fn contains(&self, row: u64) -> bool {
        self.piece.contains(&row)
            || self.scattered.contains(&row)
                && Random::of(&[self.seed, self.night, row]).below(SCATTER) == 0
    }
}
