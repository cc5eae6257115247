//! What `dump` writes is what was backed up: a file byte by byte, a tree as a tar stream that the
//! system's tar unpacks to the same tree; or it ends with an error.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use colvault_engine::backend::{Backend, Key, MemoryBackend};
use colvault_engine::dump::{DumpOptions, DumpReport, dump};
use colvault_engine::error::{ErrorKind, Result};
use colvault_engine::finding::FindingKind;
use colvault_engine::format::extent::Extent;
use colvault_engine::format::manifest::{Entry, Node};
use colvault_engine::format::{self, ChunkKind, Header, ObjectKind};
use colvault_engine::id::{ChunkId, IdKey, PackId, SessionId, hash_stored, random};
use colvault_engine::index::CachePlace;
use colvault_engine::manifest::{ManifestWriter, MetaStore};
use colvault_engine::packer::Packers;
use colvault_engine::progress::{Cancel, NullObserver};
use colvault_engine::testing::trees::{Random, mixed_bytes, write_tree};

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::nights::bundled;
use crate::support::program::{Place, Ran, names, run_other, write};
use crate::support::reached::World;
use crate::support::{COMPONENT, PACK_BYTES, Store, disk, exotic, now, quick, require_root, seed};

/// Dumps a path, or everything, of the latest snapshot.
fn dump_to(store: &Store, path: Option<&[u8]>, out: &mut dyn Write) -> Result<DumpReport> {
    let options = DumpOptions {
        components: Vec::new(),
        path: path.map(<[u8]>::to_vec),
        archive: false,
        packers: &Packers,
        threads: 3,
        cancel: Cancel::default(),
    };
    let repository = store.open()?;
    repository.load_index(&NullObserver)?;
    dump(&repository, &store.latest(), &options, out, &NullObserver)
}

/// Unpacks an archive with the system's tar, as `--help` says.
fn unpack(archive: &[u8], target: &Path) {
    fs::create_dir_all(target).unwrap();
    let mut tar = Command::new("tar");
    // Times before 1970 and in the future are meant.
    tar.arg("--warning=no-timestamp");
    tar.args(["--xattrs", "--xattrs-include=*", "-xpf", "-", "-C"]).arg(target);
    let mut child = tar.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(archive).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "tar: {complaints}");
}

/// Catches an archive that loses or changes anything a restore would bring back: names of any
/// bytes and lengths, sizes, owners by name and number, modes, times, attributes, access lists,
/// links, pipes, devices; and zeros or holes that are not zeros.
#[test]
fn the_archive_of_everything_unpacks_to_the_same_tree() {
    require_root("the tree of everything");
    let place = disk();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    exotic::write(&source, seed("the_archive_of_everything"));
    let expected = compare::read(&source);
    let store = Store::memory();
    store.backup(&source);
    let mut archive = Vec::new();
    let report = dump_to(&store, None, &mut archive).unwrap();
    assert!(report.is_archive && report.findings.is_empty());
    assert_eq!(report.entries, expected.len() as u64);
    assert_eq!(archive.len() % 512, 0);
    assert!(archive.ends_with(&[0; 1024]), "two blocks of zeros end an archive");
    let target = place.path().join("target");
    unpack(&archive, &target);
    // Holes come as zeros.
    let leave = Leave { blocks: true };
    assert_equal(&expected, &target.join(COMPONENT), leave, "everything");
}

/// Catches an archive of a directory that lacks what is in it, has what is not, or whose paths are
/// not those of a restore; and directories above it without their attributes.
#[test]
fn the_archive_of_a_directory_is_a_part_of_a_restore() {
    require_root("files of the server's user");
    let place = Place::new();
    let nights = bundled(&place.path(""), 1);
    place.expect(0, "init -r @/repository");
    place.expect(0, "backup -r @/repository --root @/night0 --host db1");
    let store = Store::reopen(&place.path("repository"), CachePlace::Memory);
    for (number, (path, component, below)) in [
        ("/var/lib/mysql/app", "datadir", "app"),
        ("000.dir/000.dir/003.dir", "dbroot/1", "000.dir/000.dir/003.dir"),
        ("/var/lib/columnstore/data1/", "dbroot/1", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let mut archive = Vec::new();
        dump_to(&store, Some(path.as_bytes()), &mut archive).unwrap();
        let unpacked = place.path(&format!("unpacked{number}"));
        unpack(&archive, &unpacked);
        let restored = place.path(&format!("restored{number}"));
        let line = format!("restore -r @/repository latest --target @/restored{number} --path");
        place.expect(0, &format!("{line} {path}"));
        let mut expected = compare::read(&restored.join(component));
        // Of a part, a restore makes the component's own directory and leaves it at that.
        let base = nights[0].join(match component {
            "datadir" => "var/lib/mysql",
            _ => "var/lib/columnstore/data1",
        });
        expected.insert(Vec::new(), compare::read(&base)[&b""[..]].clone());
        assert!(expected.len() > 3 && expected.contains_key(below.as_bytes()), "{path}");
        assert_equal(&expected, &unpacked.join(component), Leave { blocks: true }, path);
    }
    // Everything, which is what `restore` without options brings back.
    let mut archive = Vec::new();
    dump_to(&store, None, &mut archive).unwrap();
    unpack(&archive, &place.path("all"));
    for (component, below) in [
        ("dbroot/1", "var/lib/columnstore/data1"),
        ("storagemanager", "var/lib/columnstore/storagemanager"),
        ("config/etc/columnstore", "etc/columnstore"),
    ] {
        let expected = compare::read(&nights[0].join(below));
        let unpacked = place.path("all").join(component);
        assert_equal(&expected, &unpacked, Leave { blocks: true }, component);
    }
}

/// Catches bytes of a file that are missing, doubled or out of order: around the windows that are
/// read ahead, with repeated content, zeros, holes and small files, by any thread.
#[test]
fn files_are_dumped_byte_by_byte() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    let window = 32 << 20;
    for (name, size) in [("a", 0), ("b", 1), ("c", 70_000), ("d", window - 1), ("e", 100 << 20)] {
        fs::write(source.join(name), mixed_bytes(size as u64, size)).unwrap();
    }
    let repeated = Random::new(1).bytes(1 << 20).repeat(80);
    fs::write(source.join("repeated"), repeated).unwrap();
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.set_len(200 << 20).unwrap();
    let odd = source.join(std::ffi::OsStr::from_bytes(b"not\xffutf8\n%"));
    fs::write(odd, "odd").unwrap();
    let store = Store::memory();
    store.backup(&source);
    let mut count = 0;
    for name in fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().file_name()) {
        let mut dumped = Vec::new();
        let report = dump_to(&store, Some(name.as_bytes()), &mut dumped).unwrap();
        assert!(dumped == fs::read(source.join(&name)).unwrap(), "{name:?} is what it was");
        assert_eq!((report.is_archive, report.bytes), (false, dumped.len() as u64), "{name:?}");
        count += 1;
    }
    assert_eq!(count, 8);
    let error = dump_to(&store, Some(b"/nowhere"), &mut io::sink()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

/// Catches a dump that goes on after something it could not have, writes anything that is not the
/// file's, ends an archive as if it were whole, or calls damage anything else.
#[test]
fn damage_ends_the_stream_with_an_error() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 5, 20, 300_000).unwrap();
    let backend = std::sync::Arc::new(MemoryBackend::new());
    let store = Store::create(backend.clone(), CachePlace::Memory, PACK_BYTES);
    store.backup(&source);
    let mut whole = Vec::new();
    dump_to(&store, None, &mut whole).unwrap();
    let world = World::read(&store);
    let objects = backend.objects();
    let packs: Vec<&String> = objects.keys().filter(|name| name.starts_with("packs/")).collect();
    assert!(packs.len() > 3);
    let mut kinds = [0; 2];
    for name in packs {
        for is_removed in [true, false] {
            let mut damaged = objects.clone();
            let is_meta = objects[name][24] == 4;
            match is_removed {
                true => drop(damaged.remove(name)),
                // The first chunk of the pack.
                false => damaged.get_mut(name).unwrap()[90] ^= 1,
            }
            let backend = std::sync::Arc::new(MemoryBackend::with_objects(damaged));
            let store = Store { backend, cache: CachePlace::Memory };
            let mut out = Vec::new();
            let error = dump_to(&store, None, &mut out).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
            assert!(whole.starts_with(&out) && out.len() < whole.len() - 1024, "{name}: {error}");
            kinds[usize::from(is_meta)] += 1;
            if is_meta {
                continue;
            }
            // Each file by itself: whole, or an error that names it.
            for seen in &world.snapshots[0].entries {
                let Node::File { .. } = seen.entry.node else { continue };
                let mut out = Vec::new();
                let dumped = dump_to(&store, Some(&seen.path), &mut out);
                let content =
                    fs::read(source.join(std::ffi::OsStr::from_bytes(&seen.entry.path))).unwrap();
                let id = name.rsplit('/').next().unwrap();
                let needs = !world.packs[id].is_disjoint(&seen.content);
                match dumped {
                    Ok(_) => assert!(out == content && !(needs && is_removed), "{name}"),
                    Err(error) => {
                        assert!(needs && content.starts_with(&out), "{name}: {error}");
                        let path = String::from_utf8(seen.path.clone()).unwrap();
                        assert!(error.object().ends_with(&path), "{error}");
                    }
                }
            }
        }
    }
    assert!(kinds[0] > 4 && kinds[1] >= 2, "{kinds:?}");
}

/// Catches a file that could not be read when it was backed up and stands empty in the archive, or
/// is left out without a word; and a socket that is.
#[test]
fn what_was_not_read_when_it_was_backed_up_is_a_finding() {
    require_root("becoming another user");
    let place = quick();
    exotic::set_mode(place.path(), 0o755);
    let source = place.path().join("source");
    write_tree(&source, 5, 3, 30_000).unwrap();
    fs::write(source.join("secret"), "secret").unwrap();
    exotic::set_mode(&source.join("secret"), 0o600);
    let socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    let store = Store::memory();
    std::thread::scope(|scope| {
        let nobody = scope.spawn(|| {
            let nobody = rustix::process::Uid::from_raw(65_534);
            // Of this thread alone, and of those it starts.
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            store.backup(&source);
        });
        nobody.join().unwrap();
    });
    drop(socket);
    let mut archive = Vec::new();
    let report = dump_to(&store, None, &mut archive).unwrap();
    assert_eq!(report.findings.total(), 1);
    assert_eq!(report.findings.count(FindingKind::LostContent), 1);
    assert!(report.findings.listed[0].object.ends_with("data1/secret"), "{:?}", report.findings);
    unpack(&archive, &place.path().join("target"));
    let target = place.path().join("target").join(COMPONENT);
    assert!(!target.join("secret").exists(), "an empty file would pass for the real one");
    let entries = World::read(&store).snapshots[0].entries.len() as u64;
    assert_eq!(report.entries, entries - 2);
    for (path, kind, text) in [
        ("socket", ErrorKind::Invalid, "found a socket"),
        ("secret", ErrorKind::NotFound, "could not be read when it was backed up"),
    ] {
        let error = dump_to(&store, Some(path.as_bytes()), &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

/// Takes chunks of manifests, to be put into a pack by the test.
struct Collected {
    key: IdKey,
    chunks: RefCell<Vec<(ChunkId, Vec<u8>)>>,
}

impl MetaStore for Collected {
    fn store_meta(&self, raw: &[u8]) -> Result<ChunkId> {
        let id = self.key.chunk_id(raw);
        self.chunks.borrow_mut().push((id, raw.to_vec()));
        Ok(id)
    }
}

/// Adds a snapshot like the latest one, but with these entries.
fn add_snapshot(store: &Store, entries: &[Entry]) {
    let repository = store.open().unwrap();
    let chunks = RefCell::default();
    let collected = Collected { key: repository.id_key().clone(), chunks };
    let mut writer = ManifestWriter::new(&collected);
    entries.iter().for_each(|entry| writer.push(entry).unwrap());
    let manifest = writer.finish().unwrap();
    let session = SessionId(random());
    let header = Header::new(
        ObjectKind::MetaPack,
        repository.pack_features(ChunkKind::Meta),
        repository.id(),
        session,
    );
    let (mut pack, mut places) = (header.encode().to_vec(), Vec::new());
    for (id, raw) in collected.chunks.take() {
        let raw_length = u32::try_from(raw.len()).unwrap();
        places.push(format::pack::Place { id, stored_length: raw_length + 1, raw_length });
        pack.push(0);
        pack.extend(raw);
    }
    pack.extend(format::pack::encode_trailer(&places));
    let id = PackId(hash_stored(&[&pack]));
    store.backend.put_new(&Key::Pack(id), &[&pack]).unwrap();
    let packs = vec![format::index::IndexedPack { id, kind: ChunkKind::Meta, places }];
    let index = format::index::Index { packs, ..Default::default() };
    repository.create_index(session, &index).unwrap();
    let mut snapshot = store.latest().snapshot;
    snapshot.time = now();
    snapshot.components[0].manifest = manifest;
    let body = serde_json::to_vec(&snapshot).unwrap();
    let key = Key::Snapshot(session);
    repository.create_record(&key, ObjectKind::Snapshot, session, &body).unwrap();
}

/// Catches parts of chunks that begin or end elsewhere, content that was lost before it was stored
/// and is dumped without a word, and a content list that nests for ever.
#[test]
fn every_kind_of_extent_is_dumped_as_a_restore_writes_it() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    let content = Random::new(4).bytes(5000);
    fs::write(source.join("file"), &content).unwrap();
    let store = Store::memory();
    store.backup(&source);
    let world = World::read(&store);
    let [base, file] = &world.snapshots[0].entries[..] else { panic!("a directory and a file") };
    let [Extent::Chunk { id, .. }] = *file.entry.extents() else { panic!("one chunk") };
    let slice = |offset, length| Extent::Slice { id, chunk_length: 5000, offset, length };
    let extents = vec![
        slice(10, 20),
        Extent::Lost { length: 1000 },
        slice(4000, 1000),
        Extent::Zero { length: 5 },
        Extent::Hole { length: 7 },
        Extent::Chunk { id, length: 5000 },
    ];
    let size = extents.iter().map(Extent::length).sum();
    let entry = Entry { node: Node::File { size, extents }, ..file.entry.clone() };
    add_snapshot(&store, &[base.entry.clone(), entry]);
    let mut expected = content[10..30].to_vec();
    expected.resize(1020, 0);
    expected.extend(&content[4000..]);
    expected.resize(2032, 0);
    expected.extend(&content);
    let mut dumped = Vec::new();
    let report = dump_to(&store, Some(b"file"), &mut dumped).unwrap();
    assert!(dumped == expected, "every extent is where it belongs");
    assert_eq!(report.findings.total(), 1);
    let finding = &report.findings.listed[0];
    assert_eq!(finding.kind, FindingKind::LostContent);
    assert!(finding.detail.starts_with("1000 bytes from byte 20 "), "{finding:?}");
    let target = place.path().join("restored");
    store.restore_with(&store.latest(), &target, |_| ()).unwrap();
    assert!(fs::read(target.join("file")).unwrap() == expected, "as a restore writes it");
    let mut archive = Vec::new();
    assert_eq!(dump_to(&store, None, &mut archive).unwrap().findings.total(), 1);
    unpack(&archive, &place.path().join("unpacked"));
    let unpacked = place.path().join("unpacked").join(COMPONENT).join("file");
    assert!(fs::read(unpacked).unwrap() == expected, "in an archive, too");

    // A list that is not there: nothing of it is made up.
    let extents = vec![Extent::List { id: ChunkId([9; 32]), length: 5000 }];
    let entry = Entry { node: Node::File { size: 5000, extents }, ..file.entry.clone() };
    add_snapshot(&store, &[base.entry.clone(), entry]);
    let mut dumped = Vec::new();
    let error = dump_to(&store, Some(b"file"), &mut dumped).unwrap_err();
    assert_eq!((error.kind(), dumped.len()), (ErrorKind::Corrupt, 0), "{error}");
    assert!(error.to_string().contains("a list of its content cannot be had"), "{error}");
}

/// Catches a program that complains about a reader that has had enough, writes to a terminal
/// unasked, mixes messages with content, replaces a file or leaves a part of one; and exit codes
/// other than those of a restore.
#[test]
fn the_program_writes_where_it_was_told_to() {
    let place = Place::quick();
    let content = mixed_bytes(3, 40 << 20);
    write(place.path("source/large"), &content);
    write(place.path("source/small"), "small");
    place.expect(0, "init -r @/repository");
    place.expect(0, "backup -r @/repository @/source").silent();
    let large = "dump -r @/repository latest @/source/large";
    let mut child =
        place.command(large).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut few = [0; 1000];
    child.stdout.take().unwrap().read_exact(&mut few).unwrap();
    assert_eq!(few, content[..1000]);
    Ran::of(large, child.wait_with_output().unwrap()).ended(1).silent();
    let mut full = place.command(large);
    full.stdout(File::options().write(true).open("/dev/full").unwrap());
    Ran::of(large, full.output().unwrap()).ended(1).complains("No space left on device");

    let whole = place.command(large).output().unwrap();
    assert!(whole.stdout == content && whole.stderr.is_empty());
    let told = place.expect(0, &format!("{large} --output @/copy")).silent();
    assert!(fs::read(place.path("copy")).unwrap() == content);
    assert!(told.out.contains("/copy: a file of snapshot "), "{}", told.out);
    place.expect(1, &format!("{large} --output @/copy")).complains("File exists");
    assert!(fs::read(place.path("copy")).unwrap() == content);
    place.expect(2, &format!("{large} --json")).complains("cannot both go to standard output");
    let small = place.expect(0, "dump -r @/repository latest:@/source/small").silent();
    assert_eq!(small.out, "small");
    place.expect(2, "dump -r @/repository latest:@/source/small other");
    place.expect(1, "dump -r @/repository latest nothing").complains("nothing in it is named");
    place.expect(1, "dump -r @/repository latest --component datadir").complains("\"datadir\"");
    place.expect(0, "dump -r @/repository latest @/source/small --archive -o @/one.tar");
    let listed = run_other("tar", &["-tf", place.path("one.tar").to_str().unwrap()]);
    let below = place.unfolded("@/source/small");
    assert_eq!(listed.lines().last(), Some(below.trim_start_matches('/')));

    // A terminal, as Python makes one.
    let mut terminal = Command::new("python3");
    let spawn = "import pty, sys, os; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let dump = place.command("dump -r @/repository latest @/source/small");
    terminal.args(["-c", spawn]).arg(dump.get_program()).args(dump.get_args());
    terminal.env("XDG_CACHE_HOME", place.path("cache")).stdin(Stdio::null());
    let refused = terminal.output().unwrap();
    let text = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("a file or a pipe expected, found a terminal"), "{text}");
    terminal.arg("--force");
    let forced = terminal.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&forced.stdout), "small");

    // Damage: what was written of a file is taken away again.
    let packs = place.path("repository/packs");
    for shard in names(&packs) {
        for name in names(&packs.join(&shard)) {
            let path = packs.join(&shard).join(name);
            let mut bytes = fs::read(&path).unwrap();
            if bytes[24] == 3 {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
        }
    }
    place.expect(20, &format!("{large} --output @/part")).complains("cannot be had");
    assert!(!place.path("part").exists());
    let part = place.command(large).output().unwrap();
    assert_eq!(part.status.code(), Some(20));
    assert!(content.starts_with(&part.stdout) && part.stdout.len() < content.len());
}
