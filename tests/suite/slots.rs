//! Segment files and InnoDB pages: cut along their slots, and verified while they are read.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use colvault_benches::generator::{CodecChoice, CreateOptions, create};
use colvault_engine::backup::{BackupReport, Group};
use colvault_engine::columnstore::segment::Segment;
use colvault_engine::compress::Decompressor;
use colvault_engine::error::ErrorKind;
use colvault_engine::finding::{Finding, FindingKind};
use colvault_engine::format::ChunkKind;
use colvault_engine::format::config::SlotForm;
use colvault_engine::format::extent::Extent;
use colvault_engine::format::segment::SegmentFacts;
use colvault_engine::format::snapshot::SnapshotState;
use colvault_engine::manifest::{ManifestReader, MetaReader};
use colvault_engine::progress::NullObserver;
use colvault_engine::testing::trees::{Random, files_below};
use rustix::fs::{FallocateFlags, fallocate};
use tempfile::TempDir;

use crate::support::compare::{self, Leave};
use crate::support::nights::bundled;
use crate::support::program::Place;
use crate::support::{COMPONENT, Store, quick, reader, seed, wait_until_not_racy};

const MAGIC: [u8; 8] = 0xfdc1_19a3_84d0_778e_u64.to_le_bytes();

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The borders of a segment file's slots, read from its table.
fn borders(bytes: &[u8]) -> Vec<usize> {
    let header = u64_at(bytes, 24) as usize;
    let table = (4096..header).step_by(8).map(|at| u64_at(bytes, at) as usize);
    table.take_while(|pointer| *pointer != 0).collect()
}

/// Compressed segment files below a directory, by path.
fn segment_files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = files_below(root).unwrap().into_iter();
    let mut found: Vec<_> = files
        .map(|path| (fs::read(&path).unwrap(), path))
        .filter(|(bytes, _)| bytes.starts_with(&MAGIC))
        .map(|(bytes, path)| (path, bytes))
        .collect();
    found.sort();
    found
}

/// A generated deployment whose files have many slots.
fn generated() -> TempDir {
    generated_with(CodecChoice::Mixed)
}

fn generated_with(codec: CodecChoice) -> TempDir {
    let root = quick();
    let options = CreateOptions {
        bytes: 40 << 20,
        seed: 5,
        unpacked_ratio: 2.4,
        dbroots: vec![1],
        tables: 1,
        codec,
        threads: std::num::NonZero::new(2).unwrap(),
    };
    create(root.path(), &options).unwrap();
    root
}

/// The segment file with the most slots.
fn longest(root: &Path) -> (PathBuf, Vec<u8>) {
    let files = segment_files(root).into_iter();
    files.max_by_key(|(_, bytes)| borders(bytes).len()).expect("there are segment files")
}

fn flip(path: &Path, at: usize, bit: u8) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << bit], at as u64).unwrap();
}

/// What is expected of a damage: the kind, and what of the place.
type Expected = Option<(FindingKind, Option<u64>, u64)>;

fn places(findings: &[Finding]) -> Vec<(FindingKind, Option<u64>, u64)> {
    let place = |finding: &Finding| {
        let at = finding.at.as_ref().expect("damage has a place");
        assert_eq!(at.component, COMPONENT);
        assert!(!at.expected.is_empty() && at.expected != at.found, "{finding:?}");
        (finding.kind, at.slot, at.offset)
    };
    findings.iter().map(place).collect()
}

/// Backs up one file, expects the damage and that it comes back as it is.
fn expect(bytes: &[u8], damage: impl FnOnce(&Path), expected: Expected, what: &str) {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    let file = source.join("FILE000.cdf");
    fs::write(&file, bytes).unwrap();
    damage(&file);
    let store = Store::memory();
    let report = store.backup(&source);
    let found = places(&report.snapshot.findings.listed);
    assert_eq!(found, Vec::from_iter(expected), "{what}");
    let state = if expected.is_some() { SnapshotState::Damaged } else { SnapshotState::Complete };
    assert_eq!(report.snapshot.state, state, "{what}");
    let target = place.path().join("target");
    store.restore(&store.latest(), &target);
    let back = files_below(&target).unwrap().pop().map(|path| fs::read(path).unwrap()).unwrap();
    assert!(back == fs::read(&file).unwrap(), "{what}: comes back as it is");
    // The next night says so again, read or taken over.
    let again = store.backup(&source);
    assert_eq!(again.snapshot.findings.listed.len(), found.len(), "{what}: the night after");
}

/// Catches damage that is not seen, that is seen in the wrong place, and harmless bytes that are called
/// damage: a bit in each part of real files.
#[test]
fn a_flipped_bit_in_each_part_of_a_real_segment_file_is_found_where_it_is() {
    use FindingKind::{DamagedHeader as Header, DamagedSlot as Slot};
    let place = quick();
    let night = &bundled(place.path(), 1)[0];
    let files = segment_files(night);
    let is_kind = |bytes: &[u8], compression: u64, column: bool| {
        u64_at(bytes, 16) == compression && (u64_at(bytes, 40) != 0) == column
    };
    let with_header = |length: u64| files.iter().find(|(_, bytes)| u64_at(bytes, 24) == length);
    let kinds = [
        files.iter().find(|(_, bytes)| is_kind(bytes, 2, true)),
        files.iter().find(|(_, bytes)| is_kind(bytes, 3, true)),
        files.iter().find(|(_, bytes)| is_kind(bytes, 1, false)),
        with_header(16_384),
    ];
    for (path, bytes) in kinds.into_iter().flatten() {
        let borders = borders(bytes);
        let slots = borders.len() as u64 - 1;
        let (first, last) = (borders[0], borders[slots as usize - 1]);
        let payload = u32::from_le_bytes(bytes[last + 5..last + 9].try_into().unwrap()) as usize;
        let lbids = u64_at(bytes, 56) as usize;
        let in_slot = Some((Slot, Some(slots - 1), last as u64));
        let in_header = |at: usize| Some((Header, None, at as u64));
        let mut cases = vec![
            ("magic", 3, 5, in_header(0)),
            ("length of the header", 26, 7, in_header(24)),
            // Not known to be wrong by itself: the extent map and the server know.
            ("blocks", 32, 0, None),
            ("width", 40, 5, in_header(40)),
            ("number of LBIDs", 57, 0, in_header(56)),
            ("an LBID", 64, 0, None),
            ("behind the LBIDs", 64 + 8 * lbids + 100, 1, in_header(64 + 8 * lbids + 100)),
            ("first pointer", 4097, 6, in_header(4096)),
            ("last pointer", 4096 + 8 * slots as usize, 0, in_header(4096 + 8 * slots as usize)),
            ("behind the pointers", 4096 + 8 * slots as usize + 16, 0, None),
            ("signature", last, 1, in_slot),
            // One that there is, and that the header does not name.
            ("signature, the other one", last, 0, in_slot),
            ("compression type", 16, 1, in_header(16)),
            ("checksum", last + 1, 0, in_slot),
            ("length", last + 8, 7, in_slot),
            ("payload, first byte", last + 9, 0, in_slot),
            ("payload, middle", last + 9 + payload / 2, 3, in_slot),
            ("payload, last byte", last + 8 + payload, 7, in_slot),
            // May hold anything: what was there before the slot was packed again.
            ("padding", last + 9 + payload, 0, None),
            ("padding, last byte", bytes.len() - 1, 7, None),
        ];
        cases[9].3 = in_header(4096 + 8 * slots as usize + 16);
        assert!(first >= 8192 && borders.last() == Some(&bytes.len()), "{}", path.display());
        for (what, at, bit, expected) in cases {
            let what = format!("{}: {what}", path.display());
            expect(bytes, |file| flip(file, at, bit), expected, &what);
        }
        expect(bytes, |_| (), None, "nothing is wrong");
        let tail = |file: &Path| {
            let mut longer = bytes.clone();
            longer.extend_from_slice(&[0xfe; 20_000]);
            fs::write(file, longer).unwrap();
        };
        expect(bytes, tail, None, "a tail behind the last slot");
        let cut = |file: &Path| fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
        let pointer = in_header(4096 + 8 * slots as usize);
        expect(bytes, cut, pointer, "the last byte is missing");
        let cut = Segment::decode(&bytes[..u64_at(bytes, 24) as usize], bytes.len() as u64 - 1);
        let told = cut.faults[0].told("slot");
        let expected = format!("a file of at least {} bytes expected, found one of", bytes.len());
        assert!(told.contains(&expected) && told.ends_with("ends before its slots do"), "{told}");
    }
    assert!(kinds[0].is_some() && kinds[1].is_some() && kinds[2].is_some() && kinds[3].is_some());
}

/// Catches a slot that may be packed in another way than its file's header says, which the server does
/// not unpack: the first and the last of several.
#[test]
fn every_slot_is_packed_as_its_header_says() {
    for (codec, compression) in [(CodecChoice::Snappy, 2), (CodecChoice::Lz4, 3)] {
        let root = generated_with(codec);
        let files = segment_files(root.path()).into_iter();
        let of_type = files.filter(|(_, bytes)| u64_at(bytes, 16) == compression);
        let (path, bytes) = of_type.max_by_key(|(_, bytes)| borders(bytes).len()).unwrap();
        let borders = borders(&bytes);
        let slots = borders.len() - 1;
        assert!(slots > 1, "{}: {slots} slots", path.display());
        for slot in [0, slots - 1] {
            let expected =
                Some((FindingKind::DamagedSlot, Some(slot as u64), borders[slot] as u64));
            let what = format!("{}, slot {slot} of {slots}", path.display());
            expect(&bytes, |file| flip(file, borders[slot], 0), expected, &what);
        }
        // One cause is one finding, whatever all the slots say.
        let expected = Some((FindingKind::DamagedHeader, None, 16));
        expect(&bytes, |file| flip(file, 16, 0), expected, "compression type");
    }
}

/// The extents of a file in the newest snapshot, lists opened.
fn extents(store: &Store, name: &str) -> Vec<(u64, Extent)> {
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let latest = store.latest();
    let mut manifest = ManifestReader::new(&repository, &latest.snapshot.components[0]);
    let mut found = Vec::new();
    while let Some(entry) = manifest.next_entry().unwrap() {
        if entry.path.ends_with(name.as_bytes()) {
            let mut each = |offset, extent| {
                found.push((offset, extent));
                Ok(())
            };
            MetaReader::new(&repository).extents(entry.extents(), &mut each).unwrap();
        }
    }
    found
}

/// Catches cuts that run over the border of a slot: when a slot outgrows its place the server writes the
/// file anew, and every slot behind it moves by whole blocks.
#[test]
fn slots_that_move_are_the_same_chunks() {
    let root = generated();
    let (_, bytes) = longest(root.path());
    let old = borders(&bytes);
    assert!(old.len() > 6, "{} slots", old.len() - 1);
    let source = quick();
    let file = source.path().join("FILE000.cdf");
    fs::write(&file, &bytes).unwrap();
    let store = Store::memory();
    wait_until_not_racy();
    store.backup(source.path());
    let offsets: Vec<u64> = extents(&store, "FILE000.cdf").iter().map(|(at, _)| *at).collect();
    for border in &old[..old.len() - 1] {
        assert!(offsets.contains(&(*border as u64)), "a chunk begins at {border}: {offsets:?}");
    }
    assert!(offsets.len() > 2 * old.len(), "slots are cut inside");

    // Slot 1 gets 16 KiB more padding, as one that was packed again with a longer payload.
    let mut moved = bytes[..old[2]].to_vec();
    moved.extend_from_slice(&[0; 16 << 10]);
    moved.extend_from_slice(&bytes[old[2]..]);
    for (number, border) in old.iter().enumerate().skip(2) {
        let pointer = (*border as u64 + (16 << 10)).to_le_bytes();
        moved[4096 + 8 * number..4104 + 8 * number].copy_from_slice(&pointer);
    }
    wait_until_not_racy();
    fs::write(&file, &moved).unwrap();
    let report = store.backup(source.path());
    let stats = &report.snapshot.stats;
    assert_eq!(report.snapshot.findings.listed, []);
    // The header, and at most the end of slot 1.
    assert!(stats.data_chunks <= 2, "{stats:?}");
    assert_eq!(stats.verified.slots_verified + stats.verified.slots_known, old.len() as u64 - 1);
}

fn counts(report: &BackupReport) -> (u64, u64) {
    (report.snapshot.stats.verified.slots_verified, report.snapshot.stats.verified.slots_known)
}

/// Catches a program that verifies what is known again, at the cost of a pass over everything, and one
/// that takes a slot with a finding for verified.
#[test]
fn what_is_known_is_not_verified_again_unless_something_was_wrong() {
    let root = generated();
    let (_, bytes) = longest(root.path());
    let slots = borders(&bytes).len() as u64 - 1;
    let start = borders(&bytes)[slots as usize - 1];
    let source = quick();
    let file = source.path().join("FILE000.cdf");
    fs::write(&file, &bytes).unwrap();
    let store = Store::memory();
    wait_until_not_racy();
    assert_eq!(counts(&store.backup(source.path())), (slots, 0));
    let touch = || fs::File::open(&file).unwrap().set_modified(std::time::SystemTime::now());
    touch().unwrap();
    wait_until_not_racy();
    assert_eq!(counts(&store.backup(source.path())), (0, slots), "all of it is known");
    flip(&file, start + 100, 2);
    wait_until_not_racy();
    let damaged = store.backup(source.path());
    assert_eq!(counts(&damaged), (0, slots - 1), "the others are known");
    let slot = (FindingKind::DamagedSlot, Some(slots - 1), start as u64);
    assert_eq!(places(&damaged.snapshot.findings.listed), [slot]);
    // Taken over unread, the finding stays; read again, all is verified, known or not.
    assert_eq!(places(&store.backup(source.path()).snapshot.findings.listed), [slot]);
    touch().unwrap();
    wait_until_not_racy();
    let again = store.backup(source.path());
    assert_eq!(counts(&again), (slots - 1, 0));
    assert_eq!(places(&again.snapshot.findings.listed), [slot]);
    // Without a parent everything is verified: who knows what the chunks were stored as.
    let alone = store.backup_with(source.path(), |options| options.force = true).unwrap();
    assert_eq!(places(&alone.snapshot.findings.listed), [slot]);
    flip(&file, start + 100, 2);
    wait_until_not_racy();
    let mended = store.backup(source.path());
    assert_eq!(mended.snapshot.findings.listed, []);
    assert_eq!(mended.snapshot.state, SnapshotState::Complete);
    assert_eq!(counts(&mended), (slots, 0));
    wait_until_not_racy();
    touch().unwrap();
    wait_until_not_racy();
    assert_eq!(counts(&store.backup(source.path())), (0, slots));
}

/// Catches damage that passes as verified because its chunks are known: stored by a backup that made no
/// snapshot, or with another source.
#[test]
fn damage_whose_chunks_are_known_is_found() {
    for form in [SlotForm::Packed, SlotForm::Recipe] {
        let root = generated();
        let (_, bytes) = longest(root.path());
        let (source, other) = (quick(), quick());
        let file = source.path().join("FILE000.cdf");
        fs::write(&file, &bytes).unwrap();
        let start = borders(&bytes)[1];
        let ibd = source.path().join("t.ibd");
        fs::copy(root.path().join("var/lib/mysql/app/users.ibd"), &ibd).unwrap();
        let store = Store::memory();
        let run = |from: &Path, refuse: bool| {
            wait_until_not_racy();
            store.backup_with(from, |options| {
                options.slots = Some(form);
                options.fail_on_corruption = refuse;
                if from == other.path() {
                    options.group = Group::Paths;
                }
            })
        };
        assert_eq!(run(source.path(), true).unwrap().snapshot.findings.listed, []);
        flip(&file, start + 100, 2);
        // In its first page, which is in use.
        flip(&ibd, 5000, 2);
        for _ in 0..2 {
            let error = run(source.path(), true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DamagedSource, "{form:?}");
        }
        let stored = run(source.path(), false).unwrap();
        assert_eq!(stored.snapshot.findings.listed.len(), 2, "{form:?}");
        // The same files in a source that has no snapshot yet.
        for name in ["FILE000.cdf", "t.ibd"] {
            fs::copy(source.path().join(name), other.path().join(name)).unwrap();
        }
        let elsewhere = run(other.path(), false).unwrap();
        assert_eq!(elsewhere.snapshot.findings.listed.len(), 2, "{form:?}");
    }
}

/// Catches a slot that passes as verified because another file, packed otherwise, has one like it.
#[test]
fn a_slot_of_a_file_that_is_packed_otherwise_is_damage() {
    let roots = [CodecChoice::Snappy, CodecChoice::Lz4].map(generated_with);
    let [snappy, lz4] = roots.each_ref().map(|root| longest(root.path()).1);
    let (at, from) = (borders(&snappy), borders(&lz4));
    assert!(at.len() > 3 && from.len() > 1);
    let slot = &lz4[from[0]..from[1]];
    let mut mixed = [&snappy[..at[1]], slot, &snappy[at[2]..]].concat();
    for (number, border) in at.iter().enumerate().skip(2) {
        let pointer = (border + slot.len() - (at[2] - at[1])) as u64;
        mixed[4096 + 8 * number..4104 + 8 * number].copy_from_slice(&pointer.to_le_bytes());
    }
    let source = quick();
    let store = Store::memory();
    let run = || store.backup_with(source.path(), |o| o.slots = Some(SlotForm::Recipe)).unwrap();
    fs::write(source.path().join("A"), &lz4).unwrap();
    wait_until_not_racy();
    assert_eq!(run().snapshot.findings.listed, []);
    fs::write(source.path().join("B"), &mixed).unwrap();
    wait_until_not_racy();
    let expected = (FindingKind::DamagedSlot, Some(1), at[1] as u64);
    assert_eq!(places(&run().snapshot.findings.listed), [expected]);
}

/// Catches a list of findings that grows with a file of which nothing holds, and a count that stops where
/// the list does.
#[test]
fn damage_beyond_what_is_listed_is_counted() {
    let root = generated();
    let source = quick();
    let file = source.path().join("t.ibd");
    let mut bytes = fs::read(root.path().join("var/lib/mysql/app/users.ibd")).unwrap();
    bytes.truncate(1 << 14);
    let mut damaged = bytes.clone();
    damaged[5000] ^= 1;
    bytes.extend(damaged.repeat(300));
    fs::write(&file, &bytes).unwrap();
    let store = Store::memory();
    wait_until_not_racy();
    for night in 0..3 {
        let report = store.backup(source.path());
        let findings = &report.snapshot.findings;
        assert_eq!(findings.count(FindingKind::DamagedPage), 300, "night {night}");
        assert_eq!(findings.listed.len(), 101, "night {night}");
        if night == 1 {
            // Read again, after a night on which it was taken over.
            fs::File::open(&file).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
            wait_until_not_racy();
        }
    }
}

/// Catches files that take less space than they are long, as on a file system that compresses, whose
/// slots are read twice, verified every night, or never become recipes.
#[test]
fn a_hole_costs_only_the_slot_that_it_is_in() {
    let root = generated();
    let (_, bytes) = longest(root.path());
    let slots = borders(&bytes);
    let source = quick();
    let path = source.path().join("FILE000.cdf");
    fs::write(&path, &bytes).unwrap();
    // In the last page of the first slot, which is padding.
    let hole = slots[1] as u64 - 4096;
    assert!(bytes[hole as usize..slots[1]].iter().all(|byte| *byte == 0), "padding");
    let file = fs::File::options().write(true).open(&path).unwrap();
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, flags, hole, 4096).unwrap();
    let store = Store::memory();
    wait_until_not_racy();
    let count = slots.len() as u64 - 1;
    let report = store.backup_with(source.path(), |o| o.slots = Some(SlotForm::Recipe)).unwrap();
    assert_eq!(counts(&report), (count, 0));
    assert_eq!(report.snapshot.stats.recipes.slots_recipe_new, count - 1);
    assert_eq!(report.snapshot.stats.bytes_read, bytes.len() as u64 - 4096);
    fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    wait_until_not_racy();
    let report = store.backup_with(source.path(), |o| o.slots = Some(SlotForm::Recipe)).unwrap();
    assert_eq!(report.snapshot.stats.recipes.slots_recipe_known, count - 1);
    assert_eq!(counts(&report), (1, count - 1));
}

/// Catches slots and pages that are passed over, whole kinds of files that are not recognised, and facts
/// that are not those of the header: every file of a night, against the independent reader.
#[test]
fn every_slot_and_page_of_a_real_night_is_verified() {
    let place = quick();
    let night = &bundled(place.path(), 1)[0];
    let read = reader::read(night);
    assert_eq!(read.problems, [""; 0]);
    let store = Store::memory();
    let report = store.backup(night);
    let stats = &report.snapshot.stats;
    assert_eq!(report.snapshot.findings.listed, []);
    assert_eq!(stats.verified.slots_verified + stats.verified.slots_known, read.slots, "{stats:?}");
    // Undo tablespaces are no `.ibd` and not among those the reader counts.
    assert!(stats.verified.pages_verified + stats.verified.pages_known >= read.pages, "{stats:?}");
    assert_eq!((stats.verified.slots_not_verifiable, stats.verified.pages_not_verifiable), (0, 0));

    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let mut decompressor = Decompressor::new();
    let latest = store.latest();
    let mut manifest = ManifestReader::new(&repository, &latest.snapshot.components[0]);
    let (mut compressed, mut uncompressed) = (0, 0);
    while let Some(entry) = manifest.next_entry().unwrap() {
        match &entry.segment {
            None => assert!(!entry.path.ends_with(b"FILE000.cdf")),
            Some(SegmentFacts::Damaged) => panic!("{:?}", String::from_utf8_lossy(&entry.path)),
            Some(SegmentFacts::Uncompressed) => uncompressed += 1,
            Some(SegmentFacts::Compressed(facts)) => {
                compressed += 1;
                let mut head = None;
                MetaReader::new(&repository)
                    .extents(entry.extents(), &mut |_, extent| {
                        head = head.or(Some(extent));
                        Ok(())
                    })
                    .unwrap();
                let Some(Extent::Chunk { id, length }) = head else { panic!("{head:?}") };
                let header = repository.read_chunk(id, ChunkKind::Data, &mut decompressor).unwrap();
                assert_eq!(u64_at(&header, 24), u64::from(length), "the header by itself");
                let fields = [facts.version, facts.compression, facts.blocks, facts.width];
                assert_eq!(fields, [8, 16, 32, 40].map(|at| u64_at(&header, at)));
                assert_eq!(facts.lbids.len() as u64, u64_at(&header, 56));
                assert!(
                    facts
                        .lbids
                        .iter()
                        .enumerate()
                        .all(|(number, lbid)| { *lbid == u64_at(&header, 64 + 8 * number) })
                );
                let ends = borders(&header);
                assert_eq!(
                    (facts.slots, facts.slots_end),
                    (ends.len() as u64 - 1, ends[ends.len() - 1] as u64)
                );
            }
        }
    }
    assert_eq!((compressed, uncompressed), (read.files, read.catalog_files));
}

/// Catches pages that are not looked at, that are looked at beside the place, and page forms that are not
/// known and called damage.
#[test]
fn a_flipped_bit_in_a_page_is_found_and_an_unknown_form_is_only_counted() {
    let place = quick();
    let night = &bundled(place.path(), 1)[0];
    let all = files_below(&night.join("var/lib/mysql")).unwrap();
    let table = all.iter().find(|path| path.extension().is_some_and(|e| e == "ibd")).unwrap();
    let bytes = fs::read(table).unwrap();
    let page = |number: usize| &bytes[number << 14..(number + 1) << 14];
    let used = (0..bytes.len() >> 14).filter(|n| page(*n).iter().any(|byte| *byte != 0));
    let used: Vec<usize> = used.collect();
    let source = quick();
    let file = source.path().join("t.ibd");
    for number in [used[0], used[used.len() - 1]] {
        for at in [200, 16_380] {
            fs::write(&file, &bytes).unwrap();
            flip(&file, (number << 14) + at, 4);
            let report = Store::memory().backup(source.path());
            let expected = (FindingKind::DamagedPage, Some(number as u64), (number as u64) << 14);
            assert_eq!(places(&report.snapshot.findings.listed), [expected], "byte {at}");
            assert_eq!(report.snapshot.stats.verified.pages_verified, used.len() as u64 - 1);
        }
    }
    // The version of a key in the first four bytes of a page: it is encrypted.
    fs::write(&file, &bytes).unwrap();
    flip(&file, (used[1] << 14) + 3, 0);
    let report = Store::memory().backup(source.path());
    assert_eq!(report.snapshot.findings.listed, []);
    let stats = &report.snapshot.stats;
    assert_eq!(
        (stats.verified.pages_verified, stats.verified.pages_not_verifiable),
        (used.len() as u64 - 1, 1)
    );
}

/// Catches a snapshot that is made although the user asked for none, an exit code that says all is well,
/// and a refusal of what holds.
#[test]
fn a_damaged_slot_is_stored_marked_or_refused_as_asked() {
    let place = Place::new();
    let night = &bundled(&place.path(""), 1)[0];
    let name = night.file_name().unwrap().to_str().unwrap().to_owned();
    place.expect(0, "init -r @/repository");
    let backup = format!("backup -r @/repository --root @/{name} --host db1");
    wait_until_not_racy();
    place.expect(0, &format!("{backup} --fail-on-corruption"));
    let (path, bytes) = segment_files(night).pop().unwrap();
    flip(&path, borders(&bytes)[0] + 9, 0);
    wait_until_not_racy();
    let refused = place.expect(1, &format!("{backup} --fail-on-corruption"));
    assert!(refused.err.contains("1 do not, so no snapshot was made"), "{}", refused.err);
    assert!(refused.err.contains("slot 0 at byte"), "{}", refused.err);
    let count = |place: &Place| {
        let listed = place.expect(0, "snapshots -r @/repository --json").out;
        (listed.matches("\"state\":\"complete\"").count(), listed.matches("\"damaged\"").count())
    };
    assert_eq!(count(&place), (1, 0));
    let marked = place.expect(3, &backup);
    assert!(marked.out.contains("damaged-slot") || marked.err.contains("damaged-slot"));
    assert_eq!(count(&place), (1, 1));
}

/// Catches headers and tables, damaged in whatever way, that make a backup fail or lose bytes; and holes
/// that are filled.
#[test]
fn files_with_damaged_headers_and_with_holes_come_back_as_they_are() {
    let root = generated();
    let (_, bytes) = longest(root.path());
    let borders = borders(&bytes);
    let small = &bytes[..borders[2] + 5000];
    let seed = seed("damaged headers");
    let mut random = Random::new(seed);
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    for number in 0..60 {
        let mut damaged = small.to_vec();
        for _ in 0..=random.below(3) {
            // Mostly where the fields and the pointers are.
            let at = match random.below(3) {
                0 => random.below(120),
                1 => 4096 + random.below(40),
                _ => random.below(damaged.len() as u64),
            };
            damaged[at as usize] = random.below(256) as u8;
        }
        damaged.truncate(damaged.len() - random.below(9000) as usize);
        fs::write(source.join(format!("{number}.cdf")), damaged).unwrap();
    }
    let holey = source.join("holes.cdf");
    fs::write(&holey, &bytes).unwrap();
    let middle = (borders[3] as u64 + 8192) & !8191;
    let file = fs::File::options().write(true).open(&holey).unwrap();
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, middle, 64 << 10)
        .unwrap();
    drop(file);
    let store = Store::memory();
    let report = store.backup(&source);
    let named = store.latest();
    let hole = (FindingKind::DamagedSlot, Some(3), borders[3] as u64);
    let of_holey =
        report.snapshot.findings.listed.iter().filter(|f| f.object.ends_with("holes.cdf"));
    assert_eq!(places(&of_holey.cloned().collect::<Vec<_>>()), [hole], "seed {seed}");
    assert!(report.snapshot.findings.total() > 20, "seed {seed}: damage is found");
    let target = place.path().join("target");
    store.restore(&named, &target);
    // Holes in the middle of a slot come back as holes.
    let leave = Leave { blocks: false };
    compare::assert_equal(&compare::read(&source), &target, leave, &format!("seed {seed}"));
}
