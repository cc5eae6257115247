//! A small MariaDB data directory: InnoDB's page format without rows that a server would read.

use std::io::Result;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::catalog::SCHEMA;
use super::layout::{State, Table};
use super::place::Place;
use super::random::{Random, parts};

const PAGE: usize = 16 << 10;

/// `FSP_FLAGS` of full_crc32 with pages of 16 KiB.
const FULL_CRC32: u32 = 0x15;

const FSP_HEADER: u16 = 8;
const IBUF_BITMAP: u16 = 5;
const INODE: u16 = 3;
const INDEX: u16 = 17855;
const UNDO_LOG: u16 = 2;

/// Tablespaces: name, id, parts of 16 of the whole.
const SPACES: [(&str, u32, u64); 4] = [
    ("ibdata1", 0, 6),
    ("app/users.ibd", 5, 5),
    ("app/audit.ibd", 6, 4),
    ("app/settings.ibd", 7, 1),
];

fn data(below: &str) -> PathBuf {
    PathBuf::from("var/lib/mysql").join(below)
}

/// Returns how many pages a tablespace has, a multiple of 16.
fn pages(state: &State, parts: u64) -> u64 {
    (state.datadir_bytes * parts / 16 / PAGE as u64).next_multiple_of(16).max(16)
}

fn page(state: &State, space: u32, number: u64, pages: u64) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    let mut stream =
        Random::of(&[state.seed, u64::from(space) << 32 | number, u64::from(state.night), 77]);
    let lsn = (u64::from(state.night) + 1) << 24 | number << 8 | stream.below(200);
    let kind = match number {
        0 => FSP_HEADER,
        1 => IBUF_BITMAP,
        2 => INODE,
        _ if space == 0 && number.is_multiple_of(5) => UNDO_LOG,
        _ => INDEX,
    };
    page[4..8].copy_from_slice(&(number as u32).to_be_bytes());
    page[8..16].fill(0xff);
    page[16..24].copy_from_slice(&lsn.to_be_bytes());
    page[24..26].copy_from_slice(&kind.to_be_bytes());
    page[34..38].copy_from_slice(&space.to_be_bytes());
    if kind == FSP_HEADER {
        page[38..42].copy_from_slice(&space.to_be_bytes());
        page[46..50].copy_from_slice(&(pages as u32).to_be_bytes());
        page[54..58].copy_from_slice(&FULL_CRC32.to_be_bytes());
    } else if kind == INDEX || kind == UNDO_LOG {
        // Records: fixed parts, a rising key, some noise.
        let used = PAGE - 400 - stream.below(4000) as usize;
        let mut at = 120;
        let mut key = number << 20;
        while at + 90 < used {
            key += 1 + stream.below(3);
            page[at] = 0x2d;
            page[at + 5..at + 13].copy_from_slice(&key.to_be_bytes());
            let length = 20 + stream.below(50) as usize;
            let text = b"user-record@example.invalid active 2026-01-01 00:00:00 role=member note=-";
            page[at + 13..at + 13 + length].copy_from_slice(&text[..length]);
            stream.fill(&mut page[at + 13 + length..at + 21 + length]);
            at += 24 + length;
        }
    }
    page[PAGE - 8..PAGE - 4].copy_from_slice(&(lsn as u32).to_be_bytes());
    let checksum = crc32c::crc32c(&page[..PAGE - 4]);
    page[PAGE - 4..].copy_from_slice(&checksum.to_be_bytes());
    page
}

/// Writes the data directory of night 0.
pub(super) fn create(place: &Place, state: &State) -> Result<()> {
    for directory in ["app", SCHEMA, "mysql", "performance_schema"] {
        place.directory(&place.path(data(directory)), 0o700)?;
        let options = b"default-character-set=utf8mb4\ndefault-collation=utf8mb4_general_ci\n";
        place.write(&place.path(data(&format!("{directory}/db.opt"))), 0o660, options)?;
    }
    for (name, space, parts) in SPACES {
        let pages = pages(state, parts);
        // The last fifth was never written.
        let written = pages * 4 / 5;
        let path = place.path(data(name));
        let file = place.create(&path, 0o660)?;
        for number in 0..pages {
            match number < written {
                true => {
                    file.write_all_at(&page(state, space, number, pages), number * PAGE as u64)?
                }
                false => file.write_all_at(&[0; PAGE], number * PAGE as u64)?,
            }
        }
        place.done(&file, &path)?;
    }
    for name in ["users", "audit", "settings"] {
        let frm = frm(b"\x06InnoDB", name, 9);
        place.write(&place.path(data(&format!("app/{name}.frm"))), 0o660, &frm)?;
    }
    state.tables.iter().try_for_each(|table| create_frm(place, table))?;
    let files: [(&str, &[u8]); 5] = [
        ("aria_log_control", &[0xfe; 52]),
        ("aria_log.00000001", &[0; 24 << 10]),
        ("ib_buffer_pool", b"5,3\n5,4\n6,3\n"),
        ("mysqld-bin.index", b"./mysqld-bin.000001\n"),
        ("multi-master.info", b""),
    ];
    for (name, bytes) in files {
        place.write(&place.path(data(name)), 0o660, bytes)?;
    }
    redo_log(place, state)?;
    binary_log(place, state)
}

/// Writes what a server changes in a day: some pages, the redo log, the binary log.
pub(super) fn change(place: &Place, state: &State) -> Result<()> {
    for (name, space, of_16) in SPACES {
        let pages = pages(state, of_16);
        let mut stream = Random::of(&[state.seed, u64::from(space), u64::from(state.night), 78]);
        let path = place.path(data(name));
        let file = place.open(&path)?;
        for number in 0..pages * 4 / 5 {
            if number == 0 || stream.chance(parts(0.08)) {
                file.write_all_at(&page(state, space, number, pages), number * PAGE as u64)?;
            }
        }
        place.done(&file, &path)?;
    }
    redo_log(place, state)?;
    binary_log(place, state)
}

fn redo_log(place: &Place, state: &State) -> Result<()> {
    let mut log = vec![0; 2 << 20];
    let mut stream = Random::of(&[state.seed, u64::from(state.night), 79]);
    stream.fill(&mut log[12288..][..256 << 10]);
    log[..4].copy_from_slice(b"Phys");
    place.rewrite(&place.path(data("ib_logfile0")), 0o660, &log, 4096)
}

/// Appends the night's events to the binary log.
fn binary_log(place: &Place, state: &State) -> Result<()> {
    let path = place.path(data("mysqld-bin.000001"));
    let mut log = match state.night {
        0 => b"\xfebin".to_vec(),
        _ => std::fs::read(&path)?,
    };
    let mut stream = Random::of(&[state.seed, u64::from(state.night), 80]);
    for event in 0..400u32 {
        log.extend_from_slice(&(1_767_232_800 + state.night * 86_400 + event).to_le_bytes());
        log.extend_from_slice(b"\x02\x01\0\0\0 INSERT INTO audit VALUES ");
        log.extend_from_slice(&stream.next().to_le_bytes());
    }
    let file = match state.night {
        0 => place.create(&path, 0o660)?,
        _ => place.open(&path)?,
    };
    file.write_all_at(&log, 0)?;
    place.done(&file, &path)
}

/// Writes the table definition that belongs to a ColumnStore table.
pub(super) fn create_frm(place: &Place, table: &Table) -> Result<()> {
    let bytes = frm(b"\x0bColumnstore", &table.name, table.columns.len());
    place.write(&place.path(data(&format!("{SCHEMA}/{}.frm", table.name))), 0o660, &bytes)
}

/// Removes it.
pub(super) fn remove_frm(place: &Place, table: &Table) -> Result<()> {
    std::fs::remove_file(place.path(data(&format!("{SCHEMA}/{}.frm", table.name))))
}

fn frm(engine: &[u8], table: &str, columns: usize) -> Vec<u8> {
    let mut frm = vec![0; 700 + 48 * columns];
    frm[..10].copy_from_slice(&[0xfe, 0x01, 0x0a, 0x2d, 0x12, 0x00, 0x56, 0x00, 0x01, 0x00]);
    frm[64..64 + engine.len()].copy_from_slice(engine);
    frm[256..256 + table.len()].copy_from_slice(table.as_bytes());
    for column in 0..columns {
        let at = 600 + 48 * column;
        frm[at..at + 8].copy_from_slice(&(column as u64 + 1).to_le_bytes());
    }
    frm
}
