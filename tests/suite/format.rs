//! FORMAT.md and the code say the same: the document's hex examples are read from it, decoded,
//! encoded again and compared byte by byte.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use colvault_engine::columnstore::segment::checksum;
use colvault_engine::compress::{Compressor, Decompressor};
use colvault_engine::format::extent::{self, Extent};
use colvault_engine::format::index::{Index, IndexedPack};
use colvault_engine::format::manifest::{
    self, ChunkRef, Entry, EntryFinding, Identity, Node, Time, begin_chunk, decode_chunk,
};
use colvault_engine::format::names::{self, Column, Table};
use colvault_engine::format::pack::{
    FOOTER_LEN, Place, decode_footer, decode_trailer, encode_trailer,
};
use colvault_engine::format::recipe::Recipe;
use colvault_engine::format::segment::{CompressedFacts, SegmentFacts};
use colvault_engine::format::{
    ChunkKind, FEATURE_RECIPES, FEATURE_ZSTD, Header, ObjectKind, feature_bits, open_record,
    seal_record,
};
use colvault_engine::id::{ChunkId, IdKey, PackId, RepositoryId, SessionId, hash_stored};
use colvault_engine::packer::{Pack, Packer, Packers};
use colvault_engine::recipe::{Rebuilt, rebuild};
use colvault_engine::transform::Transform;

/// Returns the bytes of every hex block of the document, by name.
fn examples() -> BTreeMap<String, Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/FORMAT.md");
    let text = std::fs::read_to_string(path).expect("docs/FORMAT.md is beside the tests");
    let mut found = BTreeMap::new();
    for block in text.split("```hex ").skip(1) {
        let (name, rest) = block.split_once('\n').expect("a block has a name");
        let (lines, _) = rest.split_once("```").expect("a block ends");
        let mut bytes = Vec::new();
        for line in lines.lines() {
            let (offset, digits) = line.split_once("  ").expect("offset, then bytes");
            assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "{name}: {line}");
            let parse = |pair| u8::from_str_radix(pair, 16).expect("two digits");
            bytes.extend(digits.split(' ').map(parse));
        }
        found.insert(name.to_owned(), bytes);
    }
    found
}

fn header(kind: ObjectKind, features: u64) -> Header {
    Header {
        nonce: core::array::from_fn(|n| n as u8),
        kind,
        features,
        repository: RepositoryId([0xaa; 16]),
        session: SessionId([0xbb; 16]),
    }
}

fn key() -> IdKey {
    IdKey(core::array::from_fn(|n| n as u8))
}

fn colvault_chunk() -> ChunkId {
    key().chunk_id(b"colvault")
}

/// Catches a header or record whose layout differs from the document.
#[test]
fn header_and_record_are_as_documented() {
    let examples = examples();
    let lease = header(ObjectKind::Lease, 0);
    assert_eq!(lease.encode()[..], examples["header"][..]);
    assert_eq!(Header::decode(&examples["header"], "example").unwrap(), lease);
    assert_eq!(seal_record(&lease, b"{}"), examples["record"]);
    assert_eq!(open_record(&examples["record"], "example").unwrap(), (lease, &b"{}"[..]));
}

/// Catches a pack or index layout that differs from the document, and a pack id that is not the
/// BLAKE3 of the stored bytes.
#[test]
fn pack_and_index_are_as_documented() {
    let examples = examples();
    let place = Place { id: colvault_chunk(), stored_length: 9, raw_length: 8 };
    let features = feature_bits(&[FEATURE_ZSTD, FEATURE_RECIPES]);
    let mut pack = header(ObjectKind::DataPack, features).encode().to_vec();
    pack.extend_from_slice(b"\0colvault");
    pack.extend(encode_trailer(&[place]));
    assert_eq!(pack, examples["pack"]);
    let (rest, footer) = pack.split_at(pack.len() - FOOTER_LEN);
    let (length, checksum) = decode_footer(footer).unwrap();
    let trailer = &rest[rest.len() - length as usize..];
    assert_eq!(decode_trailer(trailer, checksum, pack.len() as u64), Ok(vec![place]));

    let id = PackId(hash_stored(&[&pack]));
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/FORMAT.md")).unwrap();
    assert!(document.contains(&id.to_string()), "the document names the pack's id");
    let packs = vec![IndexedPack { id, kind: ChunkKind::Data, places: vec![place] }];
    let index = Index { packs, ..Index::default() };
    assert_eq!(index.encode(), examples["index-body"]);
    assert_eq!(Index::decode(&examples["index-body"]), Ok(index));
}

/// Catches a codec whose documented bytes can no longer be read.
#[test]
fn a_stored_chunk_is_read_as_documented() {
    let stored = &examples()["zstd-chunk"];
    assert_eq!(Decompressor::new().open(stored, 4096, "example").unwrap(), [7; 4096]);
    let mut out = Vec::new();
    Compressor::new().store(&[7; 4096], &mut out);
    assert_eq!(out[0], stored[0], "the same codec is chosen");
}

/// Catches a transform whose bytes differ from the document.
#[test]
fn typed_chunks_are_as_documented() {
    let examples = examples();
    let mut values: Vec<u8> =
        [1000u32, 1003, 1001].into_iter().flat_map(u32::to_le_bytes).collect();
    values.push(0xff);
    let mut strings = vec![0; 8192];
    strings[..2].copy_from_slice(&8160u16.to_le_bytes());
    for (n, word) in [8192u16, 8184, 8178, 0xffff].into_iter().enumerate() {
        strings[10 + 2 * n..][..2].copy_from_slice(&word.to_le_bytes());
    }
    strings[8178..].copy_from_slice(b"recipecolvault");
    for (name, raw) in [("typed-chunk", &values), ("strings-chunk", &strings)] {
        let stored = &examples[name];
        let length = u32::try_from(raw.len()).unwrap();
        assert_eq!(Decompressor::new().open(stored, length, "example").unwrap(), raw, "{name}");
        let mut out = Vec::new();
        let transform = Transform::from_byte(stored[1]).unwrap();
        transform.apply(raw, &mut out);
        match stored[2] {
            0 => assert_eq!(stored[3..], out),
            _ => {
                let mut again = Vec::new();
                Compressor::new().store_typed(raw, transform, &mut again);
                assert_eq!(stored[..3], again[..3], "{name}: {again:02x?}");
            }
        }
    }
}

/// Catches an extent or entry encoding that differs from the document.
#[test]
fn manifests_and_span_lists_are_as_documented() {
    let examples = examples();
    let id = colvault_chunk();
    let extents = vec![
        Extent::Chunk { id, length: 8 },
        Extent::Slice { id, chunk_length: 8, offset: 2, length: 3 },
        Extent::Zero { length: 4096 },
        Extent::Hole { length: 1 << 20 },
        Extent::Lost { length: 512 },
        Extent::Recipe { id: key().chunk_id(&slot()), length: 8192 },
    ];
    let length = extents.iter().map(Extent::length).sum();
    assert_eq!(extent::encode_list(&extents), examples["span-list"]);
    assert_eq!(extent::decode_list(&examples["span-list"], length), Ok(extents));

    let file = Entry {
        path: b"a/\xff".to_vec(),
        node: Node::File { size: 8, extents: vec![Extent::Chunk { id, length: 8 }] },
        mode: 0o644,
        uid: 999,
        gid: 995,
        user: b"mysql".to_vec(),
        group: b"mysql".to_vec(),
        mtime: Time { seconds: 1_763_900_000, nanoseconds: 5 },
        identity: Identity { ctime: Time { seconds: -1, nanoseconds: 999_999_999 }, inode: 42 },
        racy: true,
        hard_link: Some(7),
        xattrs: vec![(b"user.k".to_vec(), b"v".to_vec())],
        findings: vec![EntryFinding { code: 1, detail: b"x".to_vec() }],
        segment: Some(SegmentFacts::Compressed(CompressedFacts {
            version: 3,
            compression: 2,
            width: 8,
            data_type: 6,
            blocks: 8192,
            slots: 2,
            slots_end: 57_344,
            lbids: vec![234_496],
        })),
    };
    let mut directory =
        Entry { path: Vec::new(), node: Node::Directory, mode: 0o1755, ..file.clone() };
    directory.racy = false;
    directory.hard_link = None;
    directory.xattrs.clear();
    directory.findings.clear();
    directory.segment = None;
    // The example keeps the directory's mode and the file's, as the document says.
    let mut chunk = begin_chunk();
    directory.encode(&mut chunk);
    file.encode(&mut chunk);
    let decoded = decode_chunk(&examples["manifest-chunk"]).unwrap();
    assert_eq!(decoded, [directory, file]);
    assert_eq!(chunk, examples["manifest-chunk"]);

    let chunks = vec![ChunkRef { id: key().chunk_id(&chunk), entries: 2, first_path: Vec::new() }];
    assert_eq!(manifest::encode_list(&chunks), examples["manifest-list"]);
    assert_eq!(manifest::decode_list(&examples["manifest-list"]), Ok(chunks));
}

/// The slot of FORMAT.md 5.5: `colvault`, packed.
fn slot() -> Vec<u8> {
    let mut payload = Vec::new();
    assert!(Packers.pack(Packer::SnappyV1, b"colvault", &mut payload));
    let mut slot = vec![Packer::SnappyV1.packing().signature()];
    slot.extend_from_slice(&checksum(&payload).to_le_bytes());
    slot.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    slot.extend_from_slice(&payload);
    slot.resize(8192, 0);
    slot
}

/// Catches a recipe whose bytes differ from the document, or that no longer makes the slot that the
/// document says.
#[test]
fn a_recipe_is_as_documented() {
    let example = examples().remove("recipe").expect("5.5 has it");
    let (slot, key) = (slot(), key());
    let id = key.chunk_id(&slot);
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/FORMAT.md")).unwrap();
    let head: Vec<String> = slot[..19].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(document.contains(&head.join(" ")), "the document shows the slot: {head:?}");
    assert!(document.contains(&id.to_string()), "the document names the slot's id: {id}");
    let recipe = Recipe {
        packer: Packer::SnappyV1.number(),
        payload_length: 10,
        blocks: vec![Extent::Chunk { id: colvault_chunk(), length: 8 }],
        padding: vec![Extent::Zero { length: 8192 - 19 }],
    };
    assert_eq!(recipe.seal(id, &key), example);
    assert_eq!(Recipe::open(&example, id, 8192, &key).as_ref(), Ok(&recipe));
    let mut made = Vec::new();
    let fetch = &mut |chunk, out: &mut [u8]| {
        assert_eq!(chunk, colvault_chunk());
        out.copy_from_slice(b"colvault");
        Ok(())
    };
    let rebuilt = rebuild(id, &recipe, &key, &Packers, fetch, &mut made).unwrap();
    assert_eq!((rebuilt, made), (Rebuilt::Same, slot));
}

/// Catches names of columns whose bytes differ from the document.
#[test]
fn names_are_as_documented() {
    let column = |oid, dictionary, name: &str, numbers: [u32; 4]| {
        let [data_type, length, position, compression] = numbers;
        let name = name.to_owned();
        Column { oid, dictionary, name, data_type, length, position, compression }
    };
    let table = |schema: &str, name: &str, oid, columns| {
        let (schema, name) = (schema.to_owned(), name.to_owned());
        Table { schema, name, oid, columns }
    };
    let columns = vec![
        column(3001, None, "id", [9, 8, 0, 2]),
        column(3002, Some(3003), "note", [12, 176, 1, 3]),
    ];
    let tables = [table("app", "e", 0, Vec::new()), table("dw", "a%FF", 3000, columns)];
    let example = examples().remove("names").expect("6.4 has it");
    assert_eq!(names::encode(&tables), std::slice::from_ref(&example));
    assert_eq!(names::decode(&example).unwrap(), tables);
}

/// Catches chunk ids that another implementation of keyed BLAKE3 does not make.
#[test]
fn chunk_ids_are_those_of_b3sum() {
    let directory = tempfile::tempdir().unwrap();
    for (n, raw) in [&b""[..], b"colvault", &[0xa5; 262_144], &[1; 65_537]].iter().enumerate() {
        let path = directory.path().join(n.to_string());
        std::fs::write(&path, raw).unwrap();
        let mut b3sum = Command::new("b3sum")
            .args(["--keyed", "--no-names"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("b3sum is installed by tests/run.sh");
        b3sum.stdin.take().unwrap().write_all(&key().0).unwrap();
        let output = b3sum.wait_with_output().unwrap();
        let sum = String::from_utf8(output.stdout).unwrap();
        assert_eq!(sum.trim(), key().chunk_id(raw).to_string(), "{} bytes", raw.len());
    }
}
