//! What `inspect` says of the files of a real server, and of copies in which bits were changed.
//!
//! Exact output is compared with files of `fixtures/cli`; `COLVAULT_BLESS=1` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use colvault_benches::generator::{CodecChoice, CreateOptions, create};
use colvault_engine::error::ErrorKind;
use colvault_engine::inspect::{HostFile, InspectOptions, inspect};
use colvault_engine::progress::NullObserver;
use colvault_engine::testing::trees::files_below;
use serde::Deserialize;

use crate::support::nights::{bundled, nights_in};
use crate::support::program::{Place, Ran, Transcript, write};
use crate::support::{quick, require_root};

const DBRM: &str = "var/lib/columnstore/data1/systemFiles/dbrm";

/// A column packed by Snappy, 4 bytes wide.
const COLUMN: &str =
    "var/lib/columnstore/data1/000.dir/000.dir/011.dir/186.dir/000.dir/FILE000.cdf";

/// A dictionary.
const DICTIONARY: &str =
    "var/lib/columnstore/data1/000.dir/000.dir/011.dir/201.dir/000.dir/FILE000.cdf";

/// A column of the system catalog, which is never compressed.
const CATALOG: &str =
    "var/lib/columnstore/data1/000.dir/000.dir/003.dir/233.dir/000.dir/FILE000.cdf";

const TABLESPACE: &str = "var/lib/mysql/app/users.ibd";

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Catches a kind of file that is not recognised, a field that stands in the wrong line, a table too
/// wide for a terminal, a file of a snapshot that is told other than the one it was made of, and a
/// refusal that does not say what was expected.
#[test]
fn files_of_a_night_are_told_as_they_are() {
    require_root("files of the server's user");
    let place = Place::new();
    bundled(&place.path(""), 3);
    let mut told = Transcript::new(&place);
    let on_host = |path: &str| format!("inspect @/night2/{path}");
    for (path, more) in [
        (COLUMN, ""),
        (DICTIONARY, " --slot 0"),
        (CATALOG, ""),
        ("var/lib/columnstore/data1/versionbuffer.cdf", ""),
        (&format!("{DBRM}/BRM_saves_em"), " --oid 3002"),
        (&format!("{DBRM}/BRM_savesA_em"), ""),
        (&format!("{DBRM}/BRM_savesA_vss"), ""),
        (&format!("{DBRM}/BRM_saves_vbbm"), ""),
        (&format!("{DBRM}/BRM_saves_journal"), ""),
        (&format!("{DBRM}/BRM_saves_current"), ""),
        (&format!("{DBRM}/SMTxnID"), ""),
        (&format!("{DBRM}/tablelocks"), ""),
        (&format!("{DBRM}/oidbitmap"), ""),
        (&format!("{DBRM}/oidbitmap"), " --oid 3093"),
        (&format!("{DBRM}/oidbitmap"), " --oid 3094"),
        (TABLESPACE, ""),
        ("var/lib/mysql/ibdata1", ""),
    ] {
        told.run(0, &format!("{}{more}", on_host(path)));
    }
    let vss = place.expect(0, &on_host(&format!("{DBRM}/BRM_saves_vss"))).silent().out;
    let lines: Vec<&str> = vss.lines().collect();
    assert_eq!(lines[2], "  versions          98");
    assert_eq!(lines.len(), 8 + 98, "{vss}");

    told.title("a copy with a lock and a journal");
    // As they were written while a load ran.
    let lock = "01000000 0e00000000000000 d90b0000 3b1c0000 00000000 ffffffff ffffffff \
                c5df036b00000000 1200 6370696d706f72742e62696e2028706d3129 0100 01000000";
    write(place.path("hot/tablelocks"), hex(lock));
    write(place.path("hot/BRM_saves_journal"), hex("05000000 08 0c000000 01000000 11 01000000 ee"));
    told.run(0, "inspect @/hot/tablelocks");
    told.run(0, "inspect @/hot/tablelocks --oid 3000");
    told.run(0, "inspect @/hot/BRM_saves_journal");

    told.title("what there is not");
    told.run(13, "inspect @/night2/etc/my.cnf");
    told.run(1, "inspect @/night2/var");
    told.run(1, "inspect @/night2/nothing");
    told.run(1, &format!("{} --slot 1", on_host(COLUMN)));
    told.run(1, &format!("{} --oid 3002", on_host(COLUMN)));
    told.run(1, &format!("{}/oidbitmap --slot 0", on_host(DBRM)));
    told.run(2, &format!("{} --component datadir", on_host(COLUMN)));
    write(place.path("old/BRM_saves_em"), hex("1e8bf776 00000000 00000000"));
    told.run(13, "inspect @/old/BRM_saves_em");

    told.title("in a snapshot");
    place.expect(0, "init -r @/repository");
    place.expect(0, "backup -r @/repository --root @/night2 --host db1");
    let in_snapshot = "inspect -r @/repository --snapshot";
    told.run(
        0,
        &format!("{in_snapshot} latest 000.dir/000.dir/011.dir/186.dir/000.dir/FILE000.cdf"),
    );
    told.run(0, &format!("{in_snapshot} latest /{DBRM}/BRM_saves_em --oid 3002"));
    told.run(1, &format!("{in_snapshot} latest /{DBRM}/nothing"));
    told.run(1, &format!("{in_snapshot} latest /{DBRM}"));
    told.run(1, &format!("{in_snapshot} latest /{DBRM}/SMTxnID --component datadir"));
    told.run(1, &format!("{in_snapshot} 00 /{DBRM}/SMTxnID"));
    told.compare("inspect.txt");
    for path in [COLUMN, CATALOG, TABLESPACE, &format!("{DBRM}/BRM_saves_vss")] {
        let here = place.expect(0, &on_host(path)).out;
        let there = place.expect(0, &format!("{in_snapshot} latest /{path}")).out;
        // Whose file it is, only the snapshot knows.
        let is_content = |line: &&str| !line.trim().starts_with("name              dw.");
        let content =
            |out: &str| out.lines().skip(1).filter(is_content).collect::<Vec<_>>().join("\n");
        assert_eq!(content(&here), content(&there), "{path}");
    }
}

/// Catches content of a snapshot that is shown although it is not what was stored.
#[test]
fn content_of_a_snapshot_is_verified() {
    let place = Place::quick();
    let path = "source/BRM_saves_current";
    write(place.path(path), "BRM_savesA\n");
    place.expect(0, "init -r @/repository");
    place.expect(0, "backup -r @/repository @/source");
    let line = "inspect -r @/repository --snapshot latest @/source/BRM_saves_current";
    let shown = place.expect(0, line).silent();
    assert!(shown.out.contains("current set       BRM_savesA\n"), "{}", shown.out);
    for pack in files_below(&place.path("repository/packs")).unwrap() {
        let mut bytes = fs::read(&pack).unwrap();
        if bytes[24] == 3 {
            // The first byte of the only chunk.
            bytes[80] ^= 1;
            fs::write(&pack, bytes).unwrap();
        }
    }
    let ran = place.expect(20, line).complains("its content cannot be had");
    assert_eq!(ran.out, "");
}

/// What one change of a file must lead to.
struct Case {
    file: &'static str,
    /// What to change, and how.
    change: &'static [Change],
    code: i32,
    /// The kind of the one finding, and what it says; without one, what is shown.
    kind: &'static str,
    says: &'static str,
}

enum Change {
    /// One bit of the byte at a place.
    Bit(usize, u8),
    /// So many bytes of this value at the end.
    Longer(usize, u8),
    /// No more than so many bytes.
    Cut(usize),
}

use Change::{Bit, Cut, Longer};

const fn case(
    file: &'static str,
    change: &'static [Change],
    kind: &'static str,
    says: &'static str,
) -> Case {
    Case { file, change, code: if kind.is_empty() { 0 } else { 3 }, kind, says }
}

const EM: &str = "BRM_saves_em";
const VSS: &str = "BRM_saves_vss";
const VBBM: &str = "BRM_saves_vbbm";
const BITMAP: &str = "oidbitmap";
const BRM: &str = "unreadable-brm";

const CASES: [Case; 45] = [
    // The extent map: 12 bytes, then 96 an extent.
    case(EM, &[Bit(1, 0)], BRM, "at byte 0: the first word of an extent map"),
    case(EM, &[Bit(4, 1)], BRM, "at byte 4: numbers of extents and free ranges that fill the file"),
    case(EM, &[Bit(8, 0)], BRM, "at byte 4: numbers of extents and free ranges that fill the file"),
    case(EM, &[Cut(13_000)], BRM, "at byte 4: numbers of extents and free ranges that fill"),
    case(EM, &[Bit(12 + 7, 7)], BRM, "at byte 12: an LBID that is not negative"),
    case(EM, &[Bit(12 + 19, 7)], BRM, "at byte 28: an OID that is not negative"),
    case(EM, &[Bit(108 + 1, 5)], BRM, "LBIDs from 8192 on expected, found 0: extent "),
    case(
        EM,
        &[Bit(12 + 8, 3)],
        BRM,
        "extent 0 (OID 1001), LBIDs: at least 1024 expected, found none",
    ),
    case(EM, &[Bit(12 + 36, 4)], BRM, "column width: 0, 1, 2, 4, 8 or 16 expected, found 24"),
    case(EM, &[Bit(12 + 34, 0)], BRM, "extent 0 (OID 1001), DB Root: 1 or more expected, found 0"),
    case(EM, &[Bit(12 + 38, 2)], BRM, "extent 0 (OID 1001), status: 0 to 2 expected, found 4"),
    case(EM, &[Bit(12 + 52, 7)], BRM, "smallest and largest value: 0 to 2 expected, found 129"),
    case(EM, &[Bit(204 + 16, 0), Bit(204 + 16, 1)], BRM, "where extent 0 ends, found 0"),
    case(EM, &[Bit(12 + 20, 6)], BRM, "block 0 of its file expected for the first of its own"),
    // A mark that is another number is a mark: the proof of a snapshot holds it against the file.
    case(EM, &[Bit(12 + 24, 3)], "", "   8192       0    8  available"),
    // Bytes between fields mean nothing.
    case(EM, &[Bit(12 + 13, 3), Bit(12 + 60, 1)], "", "extents           128"),
    // Versions of blocks: 8 bytes, then 24 a version.
    case(VSS, &[Bit(2, 7)], BRM, "at byte 0: the first word of a file of versions (vss)"),
    case(VSS, &[Bit(4, 0)], BRM, "at byte 4: a number of versions that fills the file"),
    case(VSS, &[Bit(8 + 7, 7)], BRM, "at byte 8: an LBID that is not negative"),
    case(VSS, &[Bit(8 + 12, 3)], BRM, "at byte 20: 0 or 1 for being in the version buffer"),
    case(VSS, &[Bit(8 + 13, 7)], BRM, "at byte 21: 0 or 1 for being locked"),
    case(VSS, &[Bit(8 + 11, 7)], BRM, "version 0, transaction: none below zero expected"),
    case(VSS, &[Bit(8 + 13, 0)], "", "locked            1"),
    case(VSS, &[Cut(0)], BRM, "at byte 0: the first word of a file of versions (vss)"),
    case(VBBM, &[Bit(3, 1)], BRM, "at byte 0: the first word of the version buffer's block map"),
    case(VBBM, &[Bit(36 + 12, 0)], BRM, "block 0: one of the files listed expected, found 1"),
    case(VBBM, &[Bit(12 + 22, 0)], BRM, "file 0: a next place within its 1073741824 bytes"),
    // The bitmap: 2048 bytes of free ranges, then a bit for each OID.
    case(
        BITMAP,
        &[Bit(2048 + 625, 7)],
        BRM,
        "OIDs 3094 to 16777215: none in use expected, found 5000",
    ),
    case(BITMAP, &[Bit(2048 + 375, 7)], "", "3001  3093"),
    case(BITMAP, &[Bit(7, 0)], BRM, "at byte 0: a range of free OIDs, or none (-1 and -1)"),
    case(BITMAP, &[Longer(2, 0)], BRM, "at byte 2099204: the end of the OID bitmap"),
    case("SMTxnID", &[Bit(3, 7)], BRM, "last transaction: none below zero expected"),
    case("tablelocks", &[Bit(0, 0)], BRM, "at byte 0: a number of table locks"),
    case("BRM_saves_current", &[Bit(8, 3)], BRM, "BRM_saves, BRM_savesA or BRM_savesB expected"),
    case("BRM_saves_journal", &[Longer(5, 1)], BRM, "at byte 4: a whole record expected"),
    // A segment file: header, table, the only slot, its padding, a tail.
    case(COLUMN, &[Bit(0, 3)], "damaged-header", "magic at byte 0: 0xfdc119a384d0778e expected"),
    case(COLUMN, &[Bit(40, 1)], "damaged-header", "column width at byte 40: 0, 1, 2, 4, 8 or 16"),
    case(
        COLUMN,
        &[Bit(4104, 2)],
        "damaged-header",
        "slot pointer 1 at byte 4104: a multiple of 8192",
    ),
    case(COLUMN, &[Bit(8192, 2)], "damaged-slot", "slot 0, signature at byte 8192: 0xfd (Snappy)"),
    case(COLUMN, &[Bit(8200, 6)], "damaged-slot", "slot 0, length at byte 8192: 1 to "),
    case(COLUMN, &[Bit(9000, 0)], "damaged-slot", "slot 0, checksum at byte 8192: 0x"),
    case(COLUMN, &[Longer(8192, 7)], "", "tail              8.0 KiB of stale"),
    case(CATALOG, &[Cut(8192 * 3 + 5)], "short-segment", "found 5 bytes behind block 3"),
    case(
        TABLESPACE,
        &[Bit(16_384 * 3 + 200, 4)],
        "damaged-page",
        "page 3, page checksum at byte 49152",
    ),
    case(TABLESPACE, &[Longer(100, 0)], "damaged-page", "found 100 bytes behind page"),
];

/// Catches damage that is not seen, is seen elsewhere, or twice; and a change that is none and is
/// called damage.
#[test]
fn one_changed_bit_is_told_once() {
    let place = Place::quick();
    let nights = bundled(&place.path(""), 3);
    for case in &CASES {
        let original = match case.file.contains('/') {
            true => nights[2].join(case.file),
            false => nights[2].join(DBRM).join(case.file),
        };
        let mut bytes = fs::read(&original).unwrap();
        for change in case.change {
            match change {
                Bit(at, bit) => bytes[*at] ^= 1 << bit,
                Longer(more, value) => bytes.resize(bytes.len() + more, *value),
                Cut(length) => bytes.truncate(*length),
            }
        }
        let copy = place.path("copy").join(original.strip_prefix(&nights[2]).unwrap());
        write(&copy, bytes);
        let below = copy.strip_prefix(place.path("")).unwrap().to_str().unwrap();
        let ran = place.expect(case.code, &format!("inspect @/{below}"));
        let context = format!("{}: {}\n{}\n{}", case.file, case.says, ran.out, ran.err);
        if case.kind.is_empty() {
            assert!(ran.err.is_empty() && ran.out.contains(case.says), "{context}");
            continue;
        }
        let lines: Vec<&str> = ran.err.lines().collect();
        assert_eq!(lines.len(), 2, "{context}");
        assert_eq!(lines[0], format!("1 finding: 1 {}", case.kind), "{context}");
        assert!(lines[1].contains(below) && lines[1].contains(case.says), "{context}");
    }
    // Padding may hold anything, and is told.
    let mut bytes = fs::read(nights[2].join(COLUMN)).unwrap();
    let end = 8192 + 9 + u32_at(&bytes, 8197) as usize;
    bytes[end] ^= 1;
    write(place.path("FILE000.cdf"), bytes);
    let ran = place.expect(0, "inspect @/FILE000.cdf").silent();
    assert!(ran.out.trim_end().ends_with("  stale"), "{}", ran.out);
}

/// The JSON messages, by their type.
#[derive(Debug, Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case", deny_unknown_fields)]
enum Message {
    Slot(Slot),
    Extent(Extent),
    FreeLbids { lbid: u64, blocks: u64 },
    Version { lbid: u64, transaction: i32, in_version_buffer: bool, locked: bool },
    VersionBufferFile { number: u32, size_bytes: u64, next_byte: u64 },
    VersionBufferBlock { lbid: u64, transaction: i32, file: u32, block: u32 },
    JournalCommand { command: u8, name: Option<String>, count: u64 },
    OidsTaken { first: u32, last: u32 },
    OidsFree { first: u32, last: u32 },
    TableLock(Lock),
    PageType { page_type: u16, name: Option<String>, pages: u64 },
    Finding(Finding),
    Summary(Summary),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slot {
    number: u64,
    offset: u64,
    length: u64,
    packing: Option<String>,
    signature: u8,
    payload_bytes: u32,
    checksum_stored: String,
    checksum_computed: Option<String>,
    padding_bytes: Option<u64>,
    padding_is_zeros: Option<bool>,
    state: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extent {
    number: u64,
    oid: u32,
    db_root: u16,
    partition: u32,
    segment: u16,
    width: u16,
    lbid: u64,
    blocks: u64,
    block_offset: u32,
    hwm: u32,
    status: i16,
    status_name: Option<String>,
    low: String,
    high: String,
    values: Option<String>,
    sequence: i32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    id: u64,
    table_oid: u32,
    owner: String,
    pid: u32,
    state: String,
    session: i32,
    transaction: i32,
    created: String,
    db_roots: Vec<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Finding {
    kind: String,
    object: String,
    detail: String,
    at: Option<At>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    component: String,
    slot: Option<u64>,
    offset: u64,
    expected: String,
    found: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Summary {
    snapshot_id: Option<String>,
    component: Option<String>,
    path: String,
    kind: String,
    size: u64,
    table: Option<String>,
    column: Option<String>,
    is_dictionary: Option<bool>,
    contents: Option<serde_json::Value>,
    findings: BTreeMap<String, u64>,
    num_findings: u64,
}

fn messages(ran: &Ran) -> (Vec<Message>, Summary) {
    let parse = |line: &str| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", ran.line))
    };
    let mut all: Vec<Message> = ran.out.lines().map(parse).collect();
    match all.pop() {
        Some(Message::Summary(summary)) => (all, summary),
        last => panic!("{}: a summary at the end, found {last:?}", ran.line),
    }
}

/// Catches a field that is missing, new or wrong in what programs read: every value of the extent
/// map, the versions, the block map and the slots is read here once more, by its place in the file.
#[test]
fn programs_are_told_every_value() {
    require_root("files of the server's user");
    let place = Place::new();
    let night = &bundled(&place.path(""), 3)[2];
    let json =
        |code: i32, path: &str| messages(&place.expect(code, &format!("inspect --json @/{path}")));
    let dbrm = |name: &str| {
        (format!("night2/{DBRM}/{name}"), fs::read(night.join(DBRM).join(name)).unwrap())
    };

    let (path, bytes) = dbrm("BRM_saves_em");
    let (lines, summary) = json(0, &path);
    let number = u32_at(&bytes, 4) as usize;
    assert_eq!((summary.kind.as_str(), summary.size), ("extent-map", bytes.len() as u64));
    assert_eq!(summary.path, place.unfolded(&format!("@/{path}")));
    assert_eq!((summary.snapshot_id, summary.component, summary.num_findings), (None, None, 0));
    assert_eq!((summary.table, summary.column, summary.is_dictionary), (None, None, None));
    let contents = serde_json::json!({"version": 5, "extents": number, "extents_shown": number});
    assert_eq!(summary.contents, Some(contents));
    assert_eq!(lines.len(), number + 1, "and one free range");
    for (at, line) in lines.iter().take(number).enumerate() {
        let Message::Extent(extent) = line else { panic!("{line:?}") };
        let entry = &bytes[12 + 96 * at..][..96];
        assert_eq!(extent.number, at as u64);
        assert_eq!((extent.lbid, extent.oid), (u64_at(entry, 0), u32_at(entry, 16)));
        assert_eq!(extent.blocks, u64::from(u32_at(entry, 8)) * 1024);
        assert_eq!((extent.block_offset, extent.hwm), (u32_at(entry, 20), u32_at(entry, 24)));
        assert_eq!((extent.partition, extent.segment), (u32_at(entry, 28), u16_at(entry, 32)));
        assert_eq!((extent.db_root, extent.width), (u16_at(entry, 34), u16_at(entry, 36)));
        assert_eq!((extent.status, extent.status_name.as_deref()), (0, Some("available")));
        assert_eq!(extent.sequence, u32_at(entry, 48).cast_signed());
        let values = ["invalid", "updating", "valid"][usize::from(entry[52])];
        assert_eq!(extent.values.as_deref(), Some(values));
        let value = |at: usize| match extent.width {
            0 => i128::from_le_bytes(entry[at..at + 16].try_into().unwrap()),
            _ => u64_at(entry, at).cast_signed().into(),
        };
        assert_eq!((&extent.low, &extent.high), (&value(64).to_string(), &value(80).to_string()));
    }
    let Some(Message::FreeLbids { lbid, blocks }) = lines.last() else { panic!("{lines:?}") };
    assert_eq!((*lbid, *lbid + *blocks), (u64_at(&bytes, 12 + 96 * number), 1 << 36));

    let (path, bytes) = dbrm("BRM_saves_vss");
    let (lines, summary) = json(0, &path);
    assert!(lines.len() > 50 && lines.len() == u32_at(&bytes, 4) as usize);
    let mut in_buffer = 0;
    for (line, entry) in lines.iter().zip(bytes[8..].chunks(24)) {
        let Message::Version { lbid, transaction, in_version_buffer, locked } = line else {
            panic!("{line:?}")
        };
        assert_eq!((*lbid, *transaction), (u64_at(entry, 0), u32_at(entry, 8).cast_signed()));
        assert_eq!((*in_version_buffer, *locked), (entry[12] == 1, false));
        in_buffer += u64::from(*in_version_buffer);
    }
    let contents = serde_json::json!(
        {"versions": lines.len(), "in_version_buffer": in_buffer, "locked": 0});
    assert_eq!((summary.kind.as_str(), summary.contents), ("versions", Some(contents)));

    let (path, bytes) = dbrm("BRM_saves_vbbm");
    let (lines, summary) = json(0, &path);
    let Message::VersionBufferFile { number: 0, size_bytes, next_byte } = lines[0] else {
        panic!("{lines:?}")
    };
    assert_eq!((size_bytes, next_byte), (u64_at(&bytes, 20), u64_at(&bytes, 28)));
    for (line, entry) in lines[1..].iter().zip(bytes[36..].chunks(24)) {
        let Message::VersionBufferBlock { lbid, transaction, file, block } = line else {
            panic!("{line:?}")
        };
        assert_eq!((*lbid, *transaction), (u64_at(entry, 0), u32_at(entry, 8).cast_signed()));
        assert_eq!((*file, *block), (u32_at(entry, 12), u32_at(entry, 16)));
    }
    let contents = serde_json::json!({"files": 1, "blocks": u32_at(&bytes, 4)});
    assert_eq!((summary.kind.as_str(), summary.contents), ("version-buffer", Some(contents)));

    let (path, bytes) = dbrm("SMTxnID");
    let contents = serde_json::json!({"last": u32_at(&bytes, 0), "catalog_version": u32_at(&bytes, 4),
        "system_state": 0});
    assert_eq!(json(0, &path).1.contents, Some(contents));
    assert_eq!(json(0, &dbrm("BRM_saves_current").0).1.contents.unwrap()["set"], "BRM_saves");
    let (lines, summary) = json(0, &dbrm("oidbitmap").0);
    let [Message::OidsTaken { first: 0, last: 3093 }, Message::OidsFree { first, last }] =
        &lines[..]
    else {
        panic!("{lines:?}")
    };
    assert_eq!((*first, *last), (3094, (1 << 24) - 1));
    let contents =
        serde_json::json!({"taken": 3094, "version_buffer_db_roots": [1], "asked": null});
    assert_eq!((summary.kind.as_str(), summary.contents), ("oid-bitmap", Some(contents)));
    let (lines, summary) = json(0, &format!("{} --oid 3094", dbrm("oidbitmap").0));
    let asked = serde_json::json!({"oid": 3094, "is_taken": false});
    assert_eq!((lines.len(), &summary.contents.unwrap()["asked"]), (0, &asked));

    let lock = "01000000 0e00000000000000 d90b0000 3b1c0000 01000000 05000000 0c000000 \
                c5df036b00000000 0300 63c370 0200 01000000 04000000";
    write(place.path("tablelocks"), hex(lock));
    let (lines, summary) = json(0, "tablelocks");
    let [Message::TableLock(lock)] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((lock.id, lock.table_oid, lock.pid), (14, 3033, 7227));
    assert_eq!((lock.state.as_str(), lock.session, lock.transaction), ("cleanup", 5, 12));
    assert_eq!((lock.owner.as_str(), lock.db_roots.as_slice()), ("c%C3p", &[1, 4][..]));
    assert_eq!(lock.created, "2026-11-23T06:40:05Z");
    assert_eq!(summary.contents, Some(serde_json::json!({"locks": 1})));
    write(place.path("BRM_saves_journal"), hex("01000000 08 02000000 0801 01000000 ee"));
    let (lines, summary) = json(0, "BRM_saves_journal");
    let [
        Message::JournalCommand { command: 8, name: Some(commit), count: 2 },
        Message::JournalCommand { command: 238, name: None, count: 1 },
    ] = &lines[..]
    else {
        panic!("{lines:?}")
    };
    assert_eq!(
        (commit.as_str(), summary.contents.unwrap()["records"].as_u64()),
        ("commit", Some(3))
    );
    segments_are_told(&place, night, &json);
}

/// Runs `inspect --json` on a path of the place, which has to end with a code.
type Inspected<'a> = &'a dyn Fn(i32, &str) -> (Vec<Message>, Summary);

fn segments_are_told(place: &Place, night: &Path, json: Inspected<'_>) {
    // A second slot after the first: the same once more, one bit of its payload changed.
    let mut bytes = fs::read(night.join(COLUMN)).unwrap();
    let length = bytes.len() - 8192;
    bytes.extend_from_within(8192..);
    let end = bytes.len();
    bytes[4112..4120].copy_from_slice(&(end as u64).to_le_bytes());
    bytes[8192 + length + 500] ^= 4;
    bytes.extend([0; 100]);
    let copy = format!("copy/{COLUMN}");
    write(place.path(&copy), &bytes);
    let (lines, summary) = json(3, &copy);
    let [Message::Finding(finding), Message::Slot(first), Message::Slot(second)] = &lines[..]
    else {
        panic!("{lines:?}")
    };
    for (slot, number) in [(first, 0), (second, 1)] {
        let at = 8192 + number * length;
        assert_eq!(
            (slot.number, slot.offset, slot.length),
            (number as u64, at as u64, length as u64)
        );
        assert_eq!((slot.packing.as_deref(), slot.signature), (Some("snappy"), 0xfd));
        assert_eq!(slot.checksum_stored, format!("{:08x}", u32_at(&bytes, at + 1)));
        assert_eq!(slot.payload_bytes, u32_at(&bytes, at + 5));
        let padding = length as u64 - 9 - u64::from(slot.payload_bytes);
        assert_eq!((slot.padding_bytes, slot.padding_is_zeros), (Some(padding), Some(true)));
    }
    assert_eq!(first.checksum_computed.as_ref(), Some(&first.checksum_stored));
    assert_ne!(second.checksum_computed.as_ref(), Some(&second.checksum_stored));
    assert_eq!((first.state.as_str(), second.state.as_str()), ("holds", "damaged"));
    let at = finding.at.as_ref().unwrap();
    assert_eq!(
        (finding.kind.as_str(), at.slot, at.offset),
        ("damaged-slot", Some(1), second.offset)
    );
    assert_eq!(at.expected, format!("0x{}", second.checksum_stored));
    assert_eq!(at.found, format!("0x{}", second.checksum_computed.as_ref().unwrap()));
    assert!(at.component.is_empty() && finding.detail.starts_with("slot 1, checksum at byte "));
    assert_eq!(finding.object, summary.path);
    assert_eq!(summary.findings, BTreeMap::from([("damaged-slot".to_owned(), 1)]));
    let contents = serde_json::json!({
        "object": {"oid": 3002, "partition": 0, "segment": 0},
        "version": 3, "compression": 2, "packing": "snappy", "header_bytes": 8192,
        "blocks": u64_at(&bytes, 32), "width": 4, "data_type": u32_at(&bytes, 48),
        "lbids": [u64_at(&bytes, 64)], "slots": 2, "slots_shown": 2,
        "tail_bytes": 100, "tail_is_zeros": true,
    });
    assert_eq!((summary.kind.as_str(), summary.contents), ("segment", Some(contents)));
    let (lines, summary) = json(0, &format!("{copy} --slot 0"));
    assert!(matches!(&lines[..], [Message::Slot(slot)] if slot.number == 0), "{lines:?}");
    assert_eq!(summary.contents.unwrap()["slots_shown"], 1);

    let (lines, summary) = json(0, &format!("night2/{CATALOG}"));
    let contents = serde_json::json!({
        "object": {"oid": 1001, "partition": 0, "segment": 0},
        "blocks": 256, "blocks_uniform": 255, "last_varied": 0,
    });
    assert_eq!((lines.len(), summary.contents), (0, Some(contents)));

    let bytes = fs::read(night.join(TABLESPACE)).unwrap();
    let (lines, summary) = json(0, &format!("night2/{TABLESPACE}"));
    let mut types = BTreeMap::new();
    let (mut unused, mut pages) = (0, 0);
    for page in bytes.chunks(16 << 10) {
        pages += 1;
        match page.iter().all(|byte| *byte == 0) {
            true => unused += 1,
            false => *types.entry(u16::from_be_bytes([page[24], page[25]])).or_insert(0) += 1,
        }
    }
    let told: BTreeMap<u16, u64> = lines
        .iter()
        .map(|line| match line {
            Message::PageType { page_type, name, pages } => {
                assert_eq!(*page_type == 17_855, name.as_deref() == Some("index"));
                (*page_type, *pages)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, types);
    let contents = serde_json::json!({"page_bytes": 16_384, "is_full_crc32": true, "pages": pages,
        "unused": unused, "hold": pages - unused, "damaged": 0, "not_verifiable": 0});
    assert_eq!(summary.contents, Some(contents));
}

/// Looks at every file of a deployment, and returns how many there are of each kind.
fn kinds(root: &Path) -> BTreeMap<&'static str, u64> {
    let mut kinds = BTreeMap::new();
    for path in files_below(root).unwrap() {
        let mut file = HostFile::open(&path).unwrap();
        let name = path.as_os_str().as_bytes();
        match inspect(&mut file, name, &InspectOptions::default(), &NullObserver) {
            Ok(report) => {
                assert_eq!(report.findings.listed, [], "{}", path.display());
                assert!(report.contents.is_some(), "{}", path.display());
                *kinds.entry(report.kind.name()).or_default() += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                let name = path.file_name().unwrap().to_str().unwrap();
                let is_one =
                    [".cdf", ".ibd", "_em", "_vss", "_vbbm"].iter().any(|end| name.ends_with(end));
                assert!(!is_one, "{error}");
            }
        }
    }
    kinds
}

/// Catches a decoder that takes anything for damage that a server, or the generator, writes; and
/// files of theirs that are not recognised. With `COLVAULT_NIGHTS` its nights are looked at, too.
#[test]
fn nothing_that_a_server_wrote_is_called_damaged() {
    let place = quick();
    let mut nights = bundled(place.path(), 4);
    if let Some(directory) = std::env::var_os("COLVAULT_NIGHTS") {
        nights.extend(nights_in(Path::new(&directory)));
    }
    for night in &nights {
        let kinds = kinds(night);
        let of = |kind: &str| kinds.get(kind).copied().unwrap_or(0);
        let sets = [of("extent-map"), of("versions"), of("version-buffer")];
        assert_eq!(sets, [3, 3, 3], "{}", night.display());
        for one in ["journal", "current", "oid-bitmap", "transactions", "table-locks"] {
            assert_eq!(of(one), 1, "{one} of {}", night.display());
        }
        assert_eq!(of("version-buffer-file"), 1);
        assert!(of("segment") > 60 && of("uncompressed-segment") > 40 && of("tablespace") > 4);
    }
    let root: PathBuf = place.path().join("generated");
    let options = CreateOptions {
        bytes: 8 << 20,
        seed: 5,
        unpacked_ratio: 2.4,
        dbroots: vec![1, 2, 4],
        tables: 4,
        codec: CodecChoice::Mixed,
        threads: NonZero::new(2).unwrap(),
    };
    create(&root, &options).unwrap();
    let kinds = kinds(&root);
    assert!(kinds["segment"] > 10 && kinds["extent-map"] == 3 && kinds["oid-bitmap"] == 1);
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
