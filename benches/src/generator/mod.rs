//! Deployments of any size, laid out as a ColumnStore server leaves them, and what its nights do.
//!
//! Made are: configuration, DB Roots with compressed column and dictionary files and the
//! uncompressed system catalog, the block resolution manager's files, and a small MariaDB data
//! directory. Formats: DB Root files as ColumnStore 6.4 writes them (segment header version 3,
//! extent map version 5), InnoDB pages of full_crc32. Everything a backup can check holds; rows are
//! made up, and no server was asked whether it would start on them.
//!
//! The same options make the same bytes, on any number of threads: each piece of content has a
//! random stream of its own. Memory does not grow with the size: a thread holds some chunks.
//! `.generator.json` at the top of the deployment holds what the next night needs; no backup
//! takes it.

mod brm;
mod catalog;
mod config;
mod content;
mod datadir;
mod layout;
mod murmur;
mod nights;
mod place;
mod random;
mod rows;
mod schema;
mod segment;
mod sizing;
mod slot;
mod small_files;

use std::io::{Error, ErrorKind, Result};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub use nights::{NightKind, NightOptions, NightReport, night};
pub use slot::Codec;
pub use small_files::{create_small_files, small_files_night};

use layout::{Numbers, Roots, State, Table};
use place::Place;
use schema::{BLOCK, TEMPLATES};
use sizing::Wanted;

/// Where the state between nights is kept.
const STATE: &str = ".generator.json";

/// What packs the columns of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecChoice {
    /// All with Snappy.
    Snappy,
    /// All with LZ4.
    Lz4,
    /// One table in seven with LZ4, from the fourth.
    Mixed,
}

/// What to make.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateOptions {
    /// Stored bytes of column and dictionary files of tables; the system catalog and the oid bitmap
    /// come to 62 MB more, the data directory to a 60th.
    pub bytes: u64,
    /// Where all randomness begins.
    pub seed: u64,
    /// Unpacked bytes of all slots for each stored byte of them.
    pub unpacked_ratio: f64,
    /// Numbers of the DB Roots, rising, with holes if wanted; the first has the catalog.
    pub dbroots: Vec<u16>,
    /// How many tables.
    pub tables: usize,
    /// What packs them.
    pub codec: CodecChoice,
    /// Threads that write.
    pub threads: NonZero<usize>,
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateReport {
    /// Tables and rows in all.
    pub tables: usize,
    /// Rows of all tables.
    pub rows: u64,
    /// Segment files of tables, dictionaries included.
    pub files: u64,
    /// Stored bytes of them.
    pub bytes: u64,
    /// Bytes that their slots unpack to.
    pub unpacked_bytes: u64,
}

fn invalid(problem: String) -> Error {
    Error::new(ErrorKind::InvalidInput, problem)
}

/// Makes night 0 of a deployment in a directory that is empty or not there.
///
/// Errors: the directory is not empty; options that make no sense, by name; writing fails.
pub fn create(root: &Path, options: &CreateOptions) -> Result<CreateReport> {
    let roots = check(options)?;
    claim(root)?;
    let mut state = plan(options, roots)?;
    let place = Place::new(root, 0);
    config::write(&place, &state.roots)?;
    catalog::write(&place, &state)?;
    let bytes = rows::write_loads(&place, &mut state, &[], options.threads)?;
    for (root, blocks) in state.roots.numbers.iter().zip(&state.version_buffer_blocks) {
        let mut block = [0; BLOCK];
        content::empty_block(&mut block);
        let buffer = place.data(format!("data{root}/versionbuffer.cdf"));
        place.write(&buffer, 0o644, &block.repeat(*blocks as usize))?;
    }
    brm::write(&place, &state, true)?;
    datadir::create(&place, &state)?;
    place.finish()?;
    save(root, &state)?;
    let files: Vec<_> = state.tables.iter().flat_map(|table| table.files(&state.roots)).collect();
    Ok(CreateReport {
        tables: state.tables.len(),
        rows: state.tables.iter().map(Table::rows).sum(),
        files: files.len() as u64,
        bytes,
        unpacked_bytes: files.iter().map(|file| (file.chunks * file.chunk_bytes) as u64).sum(),
    })
}

fn check(options: &CreateOptions) -> Result<Roots> {
    let roots = &options.dbroots;
    if roots.is_empty() || roots[0] == 0 || !roots.is_sorted_by(|one, next| one < next) {
        return Err(invalid(format!("--dbroots: expected rising numbers from 1, found {roots:?}")));
    }
    if options.tables == 0 {
        return Err(invalid("--tables: expected at least 1, found 0".into()));
    }
    if options.bytes < 1 << 20 {
        return Err(invalid(format!("--bytes: expected at least 1M, found {}", options.bytes)));
    }
    Ok(Roots::new(roots.clone()))
}

/// Makes the top directory, which has to be empty.
fn claim(root: &Path) -> Result<()> {
    std::fs::create_dir_all(root)?;
    if std::fs::read_dir(root)?.next().is_some() {
        let problem = format!("{}: expected an empty directory", root.display());
        return Err(Error::new(ErrorKind::AlreadyExists, problem));
    }
    Ok(())
}

fn codec(choice: CodecChoice, table: usize) -> Codec {
    match choice {
        CodecChoice::Snappy => Codec::Snappy,
        CodecChoice::Lz4 => Codec::Lz4,
        CodecChoice::Mixed if table % 7 == 3 => Codec::Lz4,
        CodecChoice::Mixed => Codec::Snappy,
    }
}

/// The name and columns of the nth table that is made.
fn table_name(number: usize) -> String {
    let template = &TEMPLATES[number % TEMPLATES.len()];
    match number / TEMPLATES.len() {
        0 => template.name.to_owned(),
        round => format!("{}{}", template.name, round + 1),
    }
}

fn plan(options: &CreateOptions, roots: Roots) -> Result<State> {
    let weight = |table: usize| {
        let round = table / TEMPLATES.len();
        TEMPLATES[table % TEMPLATES.len()].weight / (1 + round) as f64
    };
    let weights: f64 = (0..options.tables).map(weight).sum();
    let wanted: Vec<Wanted> = (0..options.tables)
        .map(|table| Wanted {
            columns: TEMPLATES[table % TEMPLATES.len()].columns,
            codec: codec(options.codec, table),
            weight: weight(table) / weights,
        })
        .collect();
    let sizes = sizing::find(
        &wanted,
        options.bytes,
        options.unpacked_ratio,
        options.seed,
        options.threads,
    )?;
    let mut numbers = Numbers { next_lbid: catalog::LBIDS, next_oid: 3000, freed: Vec::new() };
    let mut tables = Vec::new();
    for (number, (wanted, rows)) in wanted.iter().zip(&sizes.rows).enumerate() {
        let first_root = number % roots.numbers.len();
        let name = table_name(number);
        let mut table = Table::new(name, wanted.codec, first_root, wanted.columns, &mut numbers);
        table.load(*rows, &roots, &mut numbers);
        tables.push(table);
    }
    Ok(State {
        seed: options.seed,
        night: 0,
        change: sizes.change,
        numbers,
        transaction: 2 * options.tables as u32,
        catalog_version: options.tables as u32,
        tables,
        tables_made: options.tables as u32,
        datadir_bytes: (options.bytes / 60).clamp(2 << 20, 512 << 20),
        version_buffer_blocks: vec![16; roots.numbers.len()],
        roots,
    })
}

fn save(root: &Path, state: &State) -> Result<()> {
    let text = serde_json::to_string(state).map_err(Error::other)?;
    let file = std::fs::File::create(root.join(STATE))?;
    file.write_all_at(text.as_bytes(), 0)
}

fn load(root: &Path) -> Result<State> {
    let path = root.join(STATE);
    let named =
        |error: String| Error::new(ErrorKind::InvalidInput, format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(&path)
        .map_err(|error| named(format!("expected the state of a generated deployment: {error}")))?;
    serde_json::from_str(&text).map_err(|error| named(error.to_string()))
}
