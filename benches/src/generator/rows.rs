//! Writing tables: the same for the first night and for a load on a later one.

use std::io::Result;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::content::{Bounds, Filling, dictionary_block, empty_block};
use super::layout::{CHUNK_BLOCKS, EXTENT_ROWS, SegmentFile, State, Table};
use super::place::Place;
use super::random::Random;
use super::schema::{BLOCK, Kind};
use super::segment::{Header, header_bytes};
use super::slot::{CHUNK, Codec, Packer};

/// Calls `work` for every item on some threads, and returns what it returned, in order.
pub(super) fn parallel<T: Sync, R: Send>(
    threads: NonZero<usize>,
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Result<R>>>> = Mutex::new(items.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| {
                while let Some((number, item)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    items.get(number).map(|item| (number, item))
                } {
                    let result = work(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(result);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}

/// What one file is to become.
struct Task {
    table: usize,
    file: SegmentFile,
    /// The file as it was, if it was there.
    old: Option<SegmentFile>,
    /// Rows of the last load.
    rows: Range<u64>,
}

/// Writes the rows that were loaded into tables since they were `before`: positions after their last
/// rows, by table. Returns stored bytes of the files that were written.
pub(super) fn write_loads(
    place: &Place,
    state: &mut State,
    before: &[Table],
    threads: NonZero<usize>,
) -> Result<u64> {
    let mut tasks = Vec::new();
    for (number, table) in state.tables.iter().enumerate() {
        let old_table = before.iter().find(|old| old.oid == table.oid);
        let old_end = old_table.map_or(0, Table::end);
        if old_end == table.end() && old_table.is_some() {
            continue;
        }
        let old_files = old_table.map(|old| old.files(&state.roots)).unwrap_or_default();
        for file in table.files(&state.roots) {
            let same = |other: &&SegmentFile| other.oid == file.oid && other.file == file.file;
            let old = old_files.iter().find(same).cloned();
            if old.as_ref() == Some(&file) && !has_rows(&file, old_end, table) {
                continue;
            }
            tasks.push(Task { table: number, file, old, rows: old_end..table.end() });
        }
    }
    // Large ones first, so that no thread is left alone with one at the end.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.file.chunks));
    let written = parallel(threads, &tasks, |task| write_file(place, state, task))?;
    let mut bytes = 0;
    for (task, (length, bounds)) in tasks.iter().zip(written) {
        bytes += length;
        let column = &mut state.tables[task.table].columns[task.file.column];
        let kind = column.kind;
        for (extent, bounds) in bounds {
            column.extents[extent as usize].add_bounds(bounds, kind);
        }
    }
    Ok(bytes)
}

/// Whether rows from `old_end` on stand in a file.
fn has_rows(file: &SegmentFile, old_end: u64, table: &Table) -> bool {
    // The strings of a shared dictionary do not become more.
    let kind = table.columns[file.column].kind;
    let shared = file.is_dictionary && matches!(kind, Kind::Label { .. });
    !shared
        && file.extents.iter().any(|extent| {
            table
                .loaded(extent * EXTENT_ROWS..(extent + 1) * EXTENT_ROWS)
                .any(|(_, rows)| rows.end > old_end)
        })
}

type Written = (u64, Vec<(u64, Bounds)>);

fn write_file(place: &Place, state: &State, task: &Task) -> Result<Written> {
    let Task { file, old, .. } = task;
    let table = &state.tables[task.table];
    let column = &table.columns[file.column];
    let header = Header {
        compression: match (file.is_dictionary, table.codec) {
            // As seen: dictionaries packed with Snappy say 1, those packed with LZ4 say 3.
            (true, Codec::Snappy) => 1,
            _ => table.codec.number(),
        },
        bytes: match file.is_dictionary {
            true => header_bytes(column.kind.declared_width()),
            false => header_bytes(8),
        },
        blocks: file.blocks,
        width: if file.is_dictionary { 0 } else { column.kind.width() as u64 },
        data_type: column.kind.data_type(),
        lbids: file.lbids.clone(),
        pointers: Vec::new(),
    };
    let path = place.data(file.file.path(file.oid));
    let mut packer = Packer::new(table.codec);
    if file.is_dictionary {
        let from = old.as_ref().map_or(0, |old| old.used_blocks / CHUNK_BLOCKS) as usize;
        let from = from.min(file.chunks - 1);
        let mut fill = |chunk: usize, raw: &mut Vec<u8>| {
            dictionary_chunk(state, table, file, chunk, raw);
            Ok(())
        };
        let length = header.write(place, &path, from, file.chunks, &mut packer, &mut fill)?;
        return Ok((length, Vec::new()));
    }
    let width = column.kind.width();
    let rows_per_chunk = (CHUNK / width) as u64;
    // The last chunk is written again, if rows are added to it.
    let last = old.as_ref().map_or(0, |old| old.chunks - 1);
    let position = |chunk: usize| chunk_rows(file, chunk, rows_per_chunk);
    let goes_on =
        |chunk: usize| table.loaded(position(chunk)).any(|(start, _)| start >= task.rows.start);
    let grown = old.as_ref().is_some_and(|old| old.chunk_bytes != file.chunk_bytes);
    let from = match old {
        Some(_) if !grown && !goes_on(last) => last + 1,
        _ => last,
    };
    let mut bounds: Vec<(u64, Bounds)> = Vec::new();
    let empty = &column.kind.empty()[..width];
    let mut fill = |chunk: usize, raw: &mut Vec<u8>| {
        let had = raw.len();
        raw.resize(file.chunk_bytes, 0);
        fill_with(&mut raw[had..], empty);
        let rows = position(chunk);
        let extent = rows.start / EXTENT_ROWS;
        for (start, rows) in table.loaded(rows.clone()) {
            if start < task.rows.start {
                continue;
            }
            let tokens = table.tokens(column, rows.start, &state.roots);
            let filling =
                Filling { kind: column.kind, change: state.change, tokens: tokens.as_ref() };
            let stream = Random::of(&[state.seed, u64::from(column.oid), rows.start]);
            let first = position(chunk).start;
            let found = filling.fill(raw, first, rows, stream);
            match bounds.last_mut() {
                Some((last, bounds)) if *last == extent => {
                    bounds.add(found, column.kind.compares_bytes());
                }
                _ => bounds.push((extent, found)),
            }
        }
        Ok(())
    };
    let length = header.write(place, &path, from, file.chunks, &mut packer, &mut fill)?;
    Ok((length, bounds))
}

/// Returns the positions of the rows that have room in a chunk of a column file.
pub(super) fn chunk_rows(file: &SegmentFile, chunk: usize, rows_per_chunk: u64) -> Range<u64> {
    let at = chunk as u64 * rows_per_chunk;
    let extent = file.extents[(at / EXTENT_ROWS) as usize];
    let start = extent * EXTENT_ROWS + at % EXTENT_ROWS;
    start..start + rows_per_chunk
}

/// Repeats a pattern of 1, 2, 4 or 8 bytes.
pub(super) fn fill_with(bytes: &mut [u8], pattern: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    bytes[..pattern.len()].copy_from_slice(pattern);
    let mut done = pattern.len();
    while done < bytes.len() {
        let next = done.min(bytes.len() - done);
        bytes.copy_within(..next, done);
        done += next;
    }
}

fn dictionary_chunk(
    state: &State,
    table: &Table,
    file: &SegmentFile,
    chunk: usize,
    raw: &mut Vec<u8>,
) {
    let column = &table.columns[file.column];
    let (Kind::Label { length, .. } | Kind::Text { length }) = column.kind else { return };
    let strings = table.strings(column.kind, file.extents[0], &state.roots).unwrap_or(0);
    let per_block = column.strings_per_block();
    raw.resize(CHUNK, 0);
    for (number, block) in raw.chunks_exact_mut(BLOCK).enumerate() {
        let number = chunk as u64 * CHUNK_BLOCKS + number as u64;
        let left = strings.saturating_sub(number * per_block);
        if left == 0 {
            empty_block(block);
            continue;
        }
        let names = [
            state.seed,
            u64::from(file.oid),
            u64::from(file.file.segment),
            u64::from(file.file.partition),
            number,
        ];
        dictionary_block(block, length, left, state.change, Random::of(&names));
    }
}
