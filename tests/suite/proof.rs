//! The proof of a snapshot: what is whole is proved, what cannot be known is said, and the repository
//! alone is enough.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use colvault_benches::generator::{NightKind, NightOptions, night};
use colvault_engine::compress::Compression;
use colvault_engine::finding::{FindingKind, Findings};
use colvault_engine::format::snapshot::{Snapshot, Verdict};
use colvault_engine::id::{SessionId, random};
use colvault_engine::manifest::{ManifestReader, ManifestWriter};
use colvault_engine::pattern::Patterns;
use colvault_engine::pipeline::{StoreOptions, store_chunks};
use colvault_engine::progress::{Cancel, NullObserver};
use colvault_engine::proof::{Rule, prove};
use colvault_engine::repository::Repository;

use crate::support::nights::{become_night, bundled, nights_in};
use crate::support::program::{Place, Transcript};
use crate::support::proof::{
    COLUMN, DBRM, Live, generated_options, in_data1, proof, repeated, segment, set_modified,
};
use crate::support::{quick, require_root, wait_until_not_racy};

fn assert_proved(snapshot: &Snapshot, context: &str) {
    let proof = proof(snapshot);
    assert_eq!(snapshot.findings.listed, [], "{context}");
    assert_eq!((proof.verdict, &proof.unchecked), (Verdict::Proved, &vec![]), "{context}");
    assert_eq!(proof.extents, proof.segment_files, "{context}: one extent a file, all small");
    let names: Vec<&str> = proof.rules.keys().map(String::as_str).collect();
    let mut all = Rule::ALL.map(Rule::name);
    all.sort_unstable();
    assert_eq!(names, all, "{context}");
    for (name, times) in &proof.rules {
        assert!(times.checked > 0 && times.failed == 0, "{context}: {name} {times:?}");
    }
    assert_eq!(proof.rules["extent-has-segment"].checked, proof.extents, "{context}");
    assert_eq!(proof.rules["segment-has-extent"].checked, proof.segment_files, "{context}");
}

/// Proves some nights, each as the live tree becomes it.
fn prove_nights(nights: &[PathBuf], place: &Path) {
    let live = Live::at(place, &nights[0]);
    for night in nights {
        become_night(night, &live.root);
        let snapshot = live.backup().snapshot;
        assert_proved(&snapshot, &night.display().to_string());
        assert_eq!(repeated(&live.store).proof, *proof(&snapshot), "{}", night.display());
    }
}

/// Catches a rule that a real server does not keep. With `COLVAULT_NIGHTS`, a directory that holds the
/// root directory of a deployment for each night, these are tried too.
#[test]
fn nights_of_a_real_server_are_proved() {
    require_root("files of the server's user");
    let place = quick();
    prove_nights(&bundled(place.path(), 4), place.path());
    if let Some(directory) = std::env::var_os("COLVAULT_NIGHTS") {
        let place = quick();
        prove_nights(&nights_in(Path::new(&directory)), place.path());
    }
}

/// Catches a proof that takes DB Roots for numbers from 1 on, or knows one of them only: three with a
/// hole in their numbers, on nights of every kind.
#[test]
fn generated_nights_on_several_db_roots_are_proved() {
    let live = Live::generated();
    for (number, kind) in [
        (0, None),
        (1, Some(NightKind::Append)),
        (2, Some(NightKind::Update)),
        (3, Some(NightKind::Drop)),
        (4, Some(NightKind::Mixed)),
    ] {
        if let Some(kind) = kind {
            let threads = generated_options().threads;
            night(&live.root, &NightOptions { night: number, kind, share: 0.05, threads }).unwrap();
        }
        let snapshot = live.backup().snapshot;
        assert_proved(&snapshot, &format!("night {number}"));
        assert_eq!(proof(&snapshot).rules["db-roots-complete"].checked, 3);
    }
}

/// Returns the first segment file of users' tables on a DB Root of the generated deployment, below it.
fn some_segment(live: &Live, db_root: u32) -> String {
    let base = live.path(&format!("var/lib/columnstore/data{db_root}"));
    (3000..3200)
        .map(segment)
        .find(|below| base.join(below).exists())
        .expect("each DB Root has files of users' tables")
}

/// Catches a file on the wrong DB Root that is found twice, as missing and as too many; and a DB Root
/// that is gone, of which every extent is found by itself.
#[test]
fn what_is_wrong_with_a_db_root_is_one_finding() {
    let live = Live::generated();
    let find = |snapshot: &Snapshot, kind, object: &str, detail: &str| {
        let listed = &snapshot.findings.listed;
        assert_eq!(listed.len(), 1, "{listed:#?}");
        assert_eq!((listed[0].kind, listed[0].object.as_str()), (kind, object), "{listed:#?}");
        assert!(listed[0].detail.contains(detail), "{listed:#?}");
        assert_eq!(proof(snapshot).verdict, Verdict::Refuted);
    };
    // Moved.
    let below = some_segment(&live, 4);
    let [from, to] = ["data4", "data2"].map(|data| live.path("var/lib/columnstore").join(data));
    fs::create_dir_all(to.join(&below).parent().unwrap()).unwrap();
    fs::rename(from.join(&below), to.join(&below)).unwrap();
    let object = format!("/var/lib/columnstore/data2/{below}");
    let detail = "DB Root 4 expected, as its 1 extent say, found on DB Root 2";
    find(&live.backup().snapshot, FindingKind::MisplacedSegment, &object, detail);
    // Copied: the extents have their file, and there is one too many.
    fs::copy(to.join(&below), from.join(&below)).unwrap();
    let detail = "left over from an interrupted load";
    find(&live.backup().snapshot, FindingKind::SegmentWithoutExtent, &object, detail);
    live.mend();
    // Not in the snapshot at all; and there, but with nothing in it.
    let snapshot = live.backup_with(|o| o.trees.retain(|t| t.component != "dbroot/2")).snapshot;
    let detail = "DB Root 2, /var/lib/columnstore/data2 in Columnstore.xml, expected";
    find(&snapshot, FindingKind::MissingDbRoot, "dbroot/2", detail);
    // No change that only the journal has puts it there.
    let journal = live.path(&format!("{DBRM}/BRM_saves_journal"));
    fs::write(&journal, b"\x05\0\0\0\x1d\x01\x02\x03\x04").unwrap();
    set_modified(&journal, SystemTime::now() + Duration::from_secs(60));
    let snapshot = live.backup_with(|o| o.trees.retain(|t| t.component != "dbroot/2")).snapshot;
    find(&snapshot, FindingKind::MissingDbRoot, "dbroot/2", detail);
    assert_eq!(proof(&snapshot).rules["db-roots-complete"].failed, 1);
    live.mend();
    let globs = ["/000.dir"];
    let snapshot = live
        .backup_with(|options| {
            let tree = options.trees.iter_mut().find(|tree| tree.component == "dbroot/2").unwrap();
            let glob = globs[0].to_owned();
            let reason = "a test".to_owned();
            tree.leave_out.push(colvault_engine::source::LeaveOut { glob, reason });
        })
        .snapshot;
    find(&snapshot, FindingKind::MissingDbRoot, "dbroot/2", "of DB Root 2 expected, found none");
    // What a user's pattern leaves out is missing all the same, and the finding says why.
    let below = some_segment(&live, 1);
    let glob = format!("/{below}");
    let exclude = |globs: &[&str]| Patterns::new(globs.iter().copied()).unwrap();
    let snapshot = live.backup_with(|options| options.exclude = exclude(&[&glob])).snapshot;
    let object = format!("/var/lib/columnstore/data1/{below}");
    find(&snapshot, FindingKind::MissingSegment, &object, "--exclude left it out");
}

/// Catches a proof that claims what cannot be known: with an extent map of an older version, with
/// changes that only the journal has, or with the data in a bucket, it says so and finds nothing.
#[test]
fn what_cannot_be_checked_is_said() {
    let live = Live::sample();
    let unproven = |snapshot: &Snapshot, words: &[&str]| {
        let proof = proof(snapshot);
        assert_eq!(snapshot.findings.listed, [], "{words:?}");
        assert_eq!(proof.verdict, Verdict::Unproven, "{words:?}");
        for word in words {
            let said = proof.unchecked.iter().any(|sentence| sentence.contains(word));
            assert!(said, "{word:?} in {:#?}", proof.unchecked);
        }
        assert!(proof.rules.values().all(|times| times.failed == 0));
        assert_eq!(repeated(&live.store).proof, *proof);
    };
    live.patch(&format!("{DBRM}/BRM_saves_em"), |bytes| bytes[0] = 0x1e);
    unproven(&live.backup().snapshot, &["the extent map is of version 3"]);
    live.mend();
    // A server starts without table locks, and had none or some.
    fs::remove_file(live.path(&format!("{DBRM}/tablelocks"))).unwrap();
    unproven(&live.backup().snapshot, &["no-table-lock: /var/lib/columnstore/data1/systemFiles"]);
    live.mend();
    // Headers of other versions: what an older one has not, and what in a newer one is not known.
    for (version, words) in [
        (1, "header-agrees: 1 headers are of versions that know neither width nor LBIDs"),
        (2, "header-agrees: 1 headers are of versions that know neither width nor LBIDs"),
        (4, "header-agrees: 1 headers are of versions above 3, of which only the slots are known"),
    ] {
        live.patch(&in_data1(COLUMN), |bytes| {
            bytes[8] = version;
            bytes[40] = 8;
            bytes[32..40].fill(if version > 3 { 0 } else { 1 });
        });
        unproven(&live.backup().snapshot, &[words]);
        live.mend();
    }
    let journal = live.path(&format!("{DBRM}/BRM_saves_journal"));
    fs::write(&journal, b"\x05\0\0\0\x1d\x01\x02\x03\x04").unwrap();
    set_modified(&journal, SystemTime::now() + Duration::from_secs(60));
    let words = "only the journal has: 1 in 9 bytes";
    unproven(&live.backup().snapshot, &[words]);
    // A table may have been dropped: what does not hold without the journal is no finding.
    fs::remove_file(live.path(&in_data1(COLUMN))).unwrap();
    let doubt = "extent-has-segment: it does not hold 1 times";
    unproven(&live.backup().snapshot, &[words, doubt]);
    // So it is whatever the journal's size, here one change of more than 1 GiB, nearly all of it a hole.
    let huge = fs::File::create(&journal).unwrap();
    huge.write_all_at(&[0x01, 0, 0, 0x40, 0x1d], 0).unwrap();
    huge.set_len((1 << 30) + 5).unwrap();
    huge.set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
    unproven(&live.backup().snapshot, &["only the journal has: 1 in 1073741829 bytes", doubt]);
    fs::write(&journal, b"\x05\0\0\0\x1d\x01\x02\x03\x04").unwrap();
    set_modified(&journal, SystemTime::now() + Duration::from_secs(60));
    // Extents may have been moved from a DB Root that is gone, or dropped with all its tables.
    live.patch_extents(COLUMN, |extent| extent[34] = 7);
    let doubt = "db-roots-complete: it does not hold 1 times (dbroot/7 first)";
    unproven(&live.backup().snapshot, &[words, doubt]);
    live.mend();
    let snapshot = live
        .backup_with(|options| {
            let colvault_engine::backup::Group::Deployment { topology, .. } = &mut options.group
            else {
                panic!("a deployment")
            };
            *topology = "object-storage".to_owned();
        })
        .snapshot;
    unproven(&snapshot, &["objects in a bucket"]);
    assert!(!proof(&snapshot).rules.contains_key(Rule::ExtentHasSegment.name()));
}

/// Catches a proof that takes the extents of a file in another order than the file's, one that wants
/// every LBID in a header, where the server writes some, and one that takes any LBIDs.
#[test]
fn a_header_names_some_extents_of_its_file_in_their_order() {
    let live = Live::sample();
    for count in [2, 3] {
        let lbids = live.grow(COLUMN, count);
        let (first, last) = (lbids[0], lbids[lbids.len() - 1]);
        // What a load writes: the first and the last, the last alone, or nothing.
        for said in [lbids.clone(), vec![first, last], vec![last], vec![0, last], vec![]] {
            live.name_lbids(COLUMN, &said);
            let snapshot = live.backup().snapshot;
            let proof = proof(&snapshot);
            assert_eq!(snapshot.findings.listed, [], "{said:?} of {lbids:?}");
            assert_eq!(proof.verdict, Verdict::Proved, "{said:?} of {lbids:?}");
            assert_eq!((proof.extents, proof.segment_files), (127 + count, 128));
        }
        for said in [vec![last, first], vec![first, first], vec![first, last + 1024], vec![1]] {
            live.name_lbids(COLUMN, &said);
            let listed = live.backup().snapshot.findings.listed;
            assert_eq!(listed.len(), 1, "{said:?} of {lbids:?}: {listed:#?}");
            assert_eq!(listed[0].kind, FindingKind::HeaderDisagrees, "{said:?} of {lbids:?}");
            let says = format!("its header says {said:?}");
            assert!(listed[0].detail.contains(&says), "{listed:#?}");
        }
        live.mend();
    }
}

/// The latest snapshot as an older version would have made it: without facts of headers.
fn without_facts(live: &Live) -> (Repository, Snapshot) {
    let mut snapshot = live.store.latest().snapshot;
    let repository = live.store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let options = StoreOptions { dry_run: false, lanes: 1, compression: Compression::Default };
    let component = snapshot.components.iter_mut().find(|c| c.name == "dbroot/1").unwrap();
    let session = SessionId(random());
    let (manifest, _) = store_chunks(&repository, session, options, &NullObserver, |store| {
        let mut writer = ManifestWriter::new(store);
        let mut reader = ManifestReader::new(&repository, component);
        let mut facts = 0;
        while let Some(mut entry) = reader.next_entry()? {
            facts += u64::from(entry.segment.take().is_some());
            entry.findings.clear();
            writer.push(&entry)?;
        }
        assert_eq!(facts, 128);
        writer.finish()
    })
    .unwrap();
    component.manifest = manifest;
    snapshot.findings = Findings::default();
    (repository, snapshot)
}

/// Catches a proof that needs what only newer backups keep of headers, or that believes slots which
/// nobody has verified.
#[test]
fn headers_are_read_from_content_where_a_manifest_has_no_facts() {
    let live = Live::sample();
    let kept = proof(&live.backup().snapshot).clone();
    let prove_old = || {
        let (repository, snapshot) = without_facts(&live);
        prove(&repository, &snapshot, &Cancel::default()).unwrap()
    };
    let outcome = prove_old();
    assert_eq!(outcome.proof.rules, kept.rules, "each rule is checked as often");
    assert_eq!((outcome.findings.listed, outcome.repeated.listed), (vec![], vec![]));
    assert_eq!(outcome.proof.verdict, Verdict::Unproven);
    let unchecked = outcome.proof.unchecked.join("; ");
    assert!(unchecked.contains("slots-hold: 128 segment files"), "{unchecked}");
    // A header that does not hold, and one that disagrees.
    live.patch(&in_data1(COLUMN), |bytes| bytes[4096] ^= 1);
    live.patch(&in_data1(COLUMN + 1), |bytes| bytes[65] ^= 4);
    live.backup();
    let outcome = prove_old();
    assert_eq!(outcome.proof.verdict, Verdict::Refuted);
    let found = outcome.findings.listed.iter().map(|finding| (finding.kind, &*finding.object));
    let object = |oid| format!("/var/lib/columnstore/data1/{}", segment(oid));
    let expected = [
        (FindingKind::DamagedHeader, object(COLUMN)),
        (FindingKind::HeaderDisagrees, object(COLUMN + 1)),
    ];
    let expected = expected.iter().map(|(kind, object)| (*kind, object.as_str()));
    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

/// Catches a proof that needs the source, another exit code for a snapshot that does not hold together,
/// a field that is renamed, and a proof of something that has none. The lines are those a user reads.
#[test]
fn a_proof_is_repeated_when_the_source_is_gone() {
    require_root("files of the server's user");
    let place = Place::quick();
    let night = bundled(&place.path(""), 1).pop().unwrap();
    become_night(&night, &place.path("live"));
    place.expect(0, "init -r @/repository");
    let backup = "backup -r @/repository --root @/live --host db1";
    // A file whose times are too fresh has another entry in the next snapshot.
    wait_until_not_racy();
    let backed_up = place.expect(0, backup).silent().out;
    let line = "  proof: proved: 128 extents, 128 segment files, 15 rules\n";
    assert!(backed_up.contains(line), "{backed_up}");
    place.expect(0, "backup -r @/repository @/live/etc --host db1");
    fs::remove_file(place.path("live").join(in_data1(COLUMN))).unwrap();
    fs::write(place.path("live").join(DBRM).join("tablelocks"), b"").unwrap();
    place.expect(3, backup);
    fs::remove_dir_all(place.path("live")).unwrap();
    let lacking = place.snapshots("repository").pop().unwrap();
    let mut told = Transcript::new(&place);
    told.run(0, "check -r @/repository --columnstore latest~2");
    told.run(3, "check -r @/repository --columnstore latest --read-data");
    told.run(1, "check -r @/repository --columnstore latest~1");
    told.run(2, "check -r @/repository --host db1");
    told.run(1, "check -r @/repository --columnstore latest --host db2");
    told.compare("proof.txt");
    let listed = place.expect(0, "snapshots -r @/repository").silent().out;
    let words: Vec<&str> = listed
        .lines()
        .filter(|line| line.contains("db1"))
        .map(|line| line.split_whitespace().nth(6).unwrap())
        .collect();
    assert_eq!(words, ["proved", "-", "refuted"], "{listed}");

    let json = place.expect(3, &format!("check -r @/repository --columnstore {lacking} --json"));
    let lines: Vec<serde_json::Value> =
        json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["message_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["warning", "finding", "finding", "proof"]);
    let line = lines[3].as_object().unwrap();
    let fields: Vec<&str> = line.keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "extents",
            "findings",
            "group",
            "left_out",
            "message_type",
            "num_findings",
            "rules",
            "segment_files",
            "snapshot_id",
            "time",
            "unchecked",
            "verdict",
        ]
    );
    assert_eq!((&line["verdict"], &line["extents"]), (&"refuted".into(), &128.into()));
    let rule =
        |checked: u64, failed: u64| serde_json::json!({"checked": checked, "failed": failed});
    assert_eq!(line["rules"]["extent-has-segment"], rule(128, 1));
    assert_eq!(line["rules"]["brm-readable"], rule(8, 1));
    assert_eq!(line["findings"], serde_json::json!({"unreadable-brm": 1, "missing-segment": 1}));
    // What the snapshot keeps is what the repetition says.
    let all: serde_json::Value =
        serde_json::from_str(&place.expect(0, "snapshots -r @/repository --json").out).unwrap();
    let kept = &all[2]["proof"];
    for field in ["verdict", "extents", "segment_files", "rules", "unchecked", "left_out"] {
        assert_eq!(kept[field], line[field], "{field}");
    }
    assert_eq!(all[1].get("proof"), None, "plain paths have none");
}

/// Catches a proof that says nothing of a catalog it cannot read whole: which files have to have a
/// header is not known then.
#[test]
fn a_catalog_that_cannot_be_read_whole_is_unproven() {
    let live = Live::sample();
    let unproven = |words: &str| {
        let snapshot = live.backup().snapshot;
        let kept = proof(&snapshot);
        assert_eq!((kept.verdict, snapshot.findings.total()), (Verdict::Unproven, 0), "{words}");
        assert!(kept.unchecked.iter().any(|text| text.contains(words)), "{:?}", kept.unchecked);
        assert_eq!(repeated(&live.store).proof, *kept, "{words}");
        live.mend();
    };
    // The names in systable; then tokens of no string in syscolumn.
    live.patch(&in_data1(1001), |bytes| bytes[..8192].fill(0));
    unproven("7 rows of the system catalog cannot be read");
    live.patch(&in_data1(1023), |bytes| bytes[..8].fill(0));
    unproven("1 rows of the system catalog cannot be read");
    assert_proved(&live.backup().snapshot, "mended");
}

/// Catches a snapshot that is refuted and restored without a word, chosen as the latest good one, or
/// not found by `check`.
#[test]
fn a_refuted_snapshot_is_no_good_one() {
    require_root("files of the server's user");
    let place = Place::quick();
    let night = bundled(&place.path(""), 1).pop().unwrap();
    become_night(&night, &place.path("live"));
    place.expect(0, "init -r @/repository");
    let backup = "backup -r @/repository --root @/live --host db1 -q";
    place.expect(0, backup);
    fs::remove_file(place.path("live").join(in_data1(COLUMN))).unwrap();
    place.expect(3, backup);
    let ids = place.snapshots("repository");
    let checked = place.expect(3, "check -r @/repository");
    checked
        .complains(&format!("1 refuted-snapshot\n  refuted-snapshot: snapshot {}", &ids[1][..8]));
    for wanted in ["latest", &ids[1][..12]] {
        let restore = format!("restore -r @/repository {wanted} --component config --target");
        place.expect(0, &format!("{restore} @/{wanted}")).complains("is refuted: its files");
    }
    let good = "restore -r @/repository latest --latest-good --component config --target @/good";
    let restored = place.expect(0, good).silent().out;
    assert!(restored.contains(&format!("snapshot {} of", &ids[0][..8])), "{restored}");
}

/// Catches a proof that promises what the repository does not have any more: a pack that is gone, and
/// one that is short. What needs none of them is as good as before.
#[test]
fn content_that_is_lost_refutes_what_was_proved() {
    require_root("files of the server's user");
    let place = Place::quick();
    let nights = bundled(&place.path(""), 2);
    place.expect(0, "init -r @/repository");
    let packs = || -> Vec<PathBuf> {
        colvault_engine::testing::trees::files_below(&place.path("repository/packs")).unwrap()
    };
    let back_up = |night: &Path| {
        become_night(night, &place.path("live"));
        place.expect(0, "backup -r @/repository --root @/live --host db1 -q");
    };
    back_up(&nights[0]);
    let before = packs();
    back_up(&nights[1]);
    let proof = "check -r @/repository --columnstore";
    let whole = place.expect(0, &format!("{proof} latest")).silent().out;
    assert!(whole.contains("all content is in packs that are there"), "{whole}");
    // The largest pack that the second night added is one of content.
    let added = packs().into_iter().filter(|pack| !before.contains(pack));
    let pack = added.max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let bytes = fs::read(&pack).unwrap();
    let total = packs().len();
    for damage in ["missing-object", "wrong-size"] {
        match damage {
            "missing-object" => fs::remove_file(&pack).unwrap(),
            _ => fs::write(&pack, &bytes[..bytes.len() - 1]).unwrap(),
        }
        let ran = place.expect(20, &format!("{proof} latest"));
        assert!(ran.out.contains(" refuted: "), "{}", ran.out);
        assert!(!ran.out.contains("packs that are there"), "{}", ran.out);
        let ran =
            ran.complains(&format!("1 {damage}")).complains("a restore of this snapshot lacks");
        assert!(ran.err.contains("missing-chunk: /var/lib/columnstore/data1/"), "{}", ran.err);
        let all = place.expect(20, "check -r @/repository --read-data").out;
        let read = format!(" in {} of {total} packs (", total - 1);
        assert!(all.contains(&read) && !all.contains('%'), "{read}: {all}");
        let json = place.expect(20, &format!("{proof} latest --json")).out;
        assert!(json.lines().last().unwrap().contains("\"verdict\":\"refuted\""), "{json}");
        place.expect(0, &format!("{proof} latest~1")).silent();
        fs::write(&pack, &bytes).unwrap();
    }
    place.expect(0, &format!("{proof} latest")).silent();
}
