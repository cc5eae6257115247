//! The lines that `stats`, `diff`, `find` and `dump` write for programs and for people: every field
//! known, every figure what the file system says.
//!
//! Exact output is compared with files of `fixtures/cli`; `COLVAULT_BLESS=1` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;

use colvault_engine::testing::trees::{Random, files_below};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::support::deployment::{Deployment, SEGMENT};
use crate::support::exotic::set_mtime;
use crate::support::program::{Place, Ran, Transcript};

type Found = BTreeMap<String, u64>;

#[derive(Debug, Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case", deny_unknown_fields)]
enum Message<S> {
    SnapshotStats(Box<SnapshotStats>),
    GroupStats(Box<GroupStats>),
    Change(Change),
    ComponentChanges(Tally),
    ColumnChanges(Tally),
    Statistics(Box<Statistics>),
    Match(Box<Match>),
    Matches(Matches),
    Summary(S),
    Warning(Text),
    Finding(Finding),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Finding {
    kind: String,
    object: String,
    detail: String,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Amount {
    blobs: u64,
    raw_bytes: u64,
    stored_bytes: u64,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Chunks {
    data: Amount,
    tree: Amount,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotStats {
    snapshot_id: String,
    time: String,
    hostname: String,
    kind: String,
    group: String,
    total_restore_size: u64,
    total_file_count: u64,
    data_added_packed: u64,
    added: Chunks,
    freed: Chunks,
    stored_until: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupStats {
    deployment: String,
    component: Option<String>,
    table: Option<String>,
    column: Option<String>,
    oid: Option<u32>,
    #[serde(default)]
    oids: Vec<u32>,
    class: Option<String>,
    total_restore_size: u64,
    total_file_count: u64,
    reached: Chunks,
    own: Chunks,
    added_later_stored: u64,
    nights: u64,
    added_last_stored: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatsSummary {
    snapshots_count: u64,
    total_restore_size: u64,
    total_file_count: u64,
    total_size: u64,
    total_uncompressed_size: u64,
    total_blob_count: u64,
    dedup_ratio: f64,
    compression_ratio: f64,
    compression_progress: f64,
    compression_space_saving: f64,
    reached: Chunks,
    repository: Repository,
    blobs_missing: u64,
    is_complete: bool,
    findings: Found,
    num_findings: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repository {
    id: String,
    location: String,
    total_bytes: u64,
    reached: Chunks,
    unreached: Chunks,
    copies: Amount,
    pack_overhead_bytes: u64,
    unusable_packs: u64,
    unusable_pack_bytes: u64,
    index_bytes: u64,
    snapshot_bytes: u64,
    record_bytes: u64,
    foreign_bytes: u64,
    packs: u64,
    packs_unindexed: u64,
    packs_unindexed_bytes: u64,
    objects: BTreeMap<String, Objects>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Objects {
    count: u64,
    bytes: u64,
    class: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    path: String,
    modifier: String,
    component: String,
    size_before: Option<u64>,
    size_after: Option<u64>,
    new_bytes: u64,
    new_bytes_stored: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tally {
    component: Option<String>,
    oid: Option<u32>,
    class: Option<String>,
    files_added: u64,
    files_removed: u64,
    files_changed: u64,
    metadata_changed: u64,
    bytes_before: u64,
    bytes_after: u64,
    new_bytes: u64,
    new_bytes_stored: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statistics {
    source_snapshot: String,
    target_snapshot: String,
    changed_files: u64,
    metadata_changed: u64,
    stored_otherwise: u64,
    bytes_before: u64,
    bytes_after: u64,
    new_bytes: u64,
    new_bytes_stored: u64,
    added: Side,
    removed: Side,
    is_complete: bool,
    findings: Found,
    num_findings: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Side {
    files: u64,
    dirs: u64,
    others: u64,
    data_blobs: u64,
    tree_blobs: u64,
    bytes: u64,
    bytes_stored: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "that the fields are these, and no others, is what is tested")]
struct Match {
    snapshot: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    path: String,
    component: String,
    uid: u32,
    gid: u32,
    user: String,
    group: String,
    size: Option<u64>,
    mode: u32,
    permissions: String,
    mtime: String,
    ctime: String,
    inode: u64,
    linktarget: Option<String>,
    #[serde(default)]
    findings: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Matches {
    snapshot: String,
    hits: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FindSummary {
    hits: u64,
    snapshots_count: u64,
    snapshots_matched: u64,
    #[serde(default)]
    needed_as_names: Vec<String>,
    is_complete: bool,
    findings: Found,
    num_findings: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DumpSummary {
    snapshot_id: String,
    output: Option<String>,
    is_archive: bool,
    total_entries: u64,
    total_files: u64,
    total_bytes: u64,
    total_duration: f64,
    findings: Found,
    num_findings: u64,
}

fn lines<S: DeserializeOwned>(ran: &Ran) -> Vec<Message<S>> {
    let read = |line: &str| {
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("colvault {}: {error}: {line}", ran.line))
    };
    ran.out.lines().map(read).collect()
}

/// Runs a command of `--json`, and returns its messages and the summary, which comes last.
fn run<S: DeserializeOwned + Debug>(place: &Place, code: i32, line: &str) -> (Vec<Message<S>>, S) {
    let ran = place.expect(code, &format!("{line} -r @/repository --json")).silent();
    let mut messages = lines::<S>(&ran);
    match messages.pop() {
        Some(Message::Summary(summary)) => (messages, summary),
        other => panic!("a summary comes last: {other:?}"),
    }
}

/// The last changed file of the deployments below.
const COLUMN: &str =
    "var/lib/columnstore/data1/000.dir/000.dir/011.dir/184.dir/000.dir/FILE000.cdf";

/// Two nights of a deployment whose content does not compress, so that all sizes are known.
fn two_nights(place: &Place) -> Deployment {
    let deployment = Deployment::small(place.path("live"));
    let mut random = Random::new(1);
    deployment.file(SEGMENT, &random.bytes(8192));
    deployment.brm_files(&[1001, 3000]);
    deployment.file(COLUMN, &random.bytes(8192));
    deployment.file("var/lib/mysql/app/gone.ibd", &random.bytes(16_192));
    place.expect(0, "init -r @/repository");
    // The same in every run, and to the second: rows of `ls -l` show it.
    let age = |path: &str, seconds| set_mtime(&deployment.path(path), seconds, 0);
    age(COLUMN, 1_700_000_000);
    let backup = "backup -r @/repository --root @/live --host db1";
    place.expect(0, &format!("{backup} --tag first"));
    deployment.file(COLUMN, &random.bytes(16_384));
    age(COLUMN, 1_700_000_100);
    deployment.file("var/lib/mysql/app/new.ibd", &random.bytes(8000));
    fs::remove_file(deployment.path("var/lib/mysql/app/gone.ibd")).unwrap();
    place.expect(0, backup);
    deployment
}

/// Catches a field that is renamed, missing or new, and figures that are not those of the files.
#[test]
fn messages_have_known_fields_and_true_figures() {
    let place = Place::quick();
    let deployment = two_nights(&place);
    let ids = place.snapshots("repository");

    let (rows, summary) = run::<StatsSummary>(&place, 0, "stats");
    let rows: Vec<_> = rows
        .into_iter()
        .map(|row| match row {
            Message::SnapshotStats(row) => row,
            other => panic!("a row of a snapshot expected: {other:?}"),
        })
        .collect();
    assert_eq!(rows.iter().map(|row| &row.snapshot_id).collect::<Vec<_>>(), [&ids[0], &ids[1]]);
    let [first, second] = &rows[..] else { panic!("two rows") };
    assert_eq!((first.hostname.as_str(), first.kind.as_str()), ("db1", "deployment"));
    assert_eq!((first.group.as_str(), first.time < second.time), ("shop", true));
    // Chunks that do not compress have a byte more: the codec.
    let amount = |blobs, raw_bytes| Amount { blobs, raw_bytes, stored_bytes: raw_bytes + blobs };
    assert_eq!(second.added.data, amount(2, 24_384));
    assert_eq!(first.freed.data, amount(2, 24_384));
    assert_eq!(second.freed, second.added);
    let stored = |chunks: &Chunks| chunks.data.stored_bytes + chunks.tree.stored_bytes;
    assert_eq!(second.data_added_packed, stored(&second.added));
    assert_eq!(first.stored_until, stored(&first.added));
    assert_eq!(second.stored_until, stored(&first.added) + stored(&second.added));
    let files: Vec<_> = files_below(&deployment.root).unwrap();
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(second.total_restore_size, bytes);
    assert_eq!(first.total_restore_size, bytes);
    assert_eq!(second.total_file_count, files.len() as u64);
    assert_eq!((summary.snapshots_count, summary.total_restore_size), (2, 2 * bytes));
    assert_eq!(summary.total_file_count, 2 * files.len() as u64);
    assert_eq!(summary.total_size, second.stored_until);
    assert_eq!(summary.total_size, stored(&summary.reached));
    let raw = summary.reached.data.raw_bytes + summary.reached.tree.raw_bytes;
    assert_eq!(summary.total_uncompressed_size, raw);
    let blobs = summary.reached.data.blobs + summary.reached.tree.blobs;
    assert_eq!(summary.total_blob_count, blobs);
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}");
    near(summary.dedup_ratio, 2.0 * bytes as f64 / raw as f64);
    near(summary.compression_ratio, raw as f64 / summary.total_size as f64);
    near(summary.compression_space_saving, 100.0 - 100.0 / summary.compression_ratio);
    let share = summary.compression_progress;
    assert!(share > 0.0 && share < 100.0, "manifests compress, the rest does not: {share}");
    let repository = &summary.repository;
    let objects = files_below(&place.path("repository")).unwrap();
    let total: u64 = objects.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(repository.total_bytes, total);
    assert_eq!((&repository.reached, repository.id.len()), (&summary.reached, 32));
    assert_eq!(repository.location, place.unfolded("@/repository"));
    assert_eq!(stored(&repository.unreached) + repository.copies.stored_bytes, 0);
    let parts = repository.pack_overhead_bytes + repository.index_bytes;
    let parts = parts + repository.snapshot_bytes + repository.record_bytes;
    assert_eq!(parts + summary.total_size, total);
    let left =
        (repository.unusable_packs, repository.unusable_pack_bytes, repository.foreign_bytes);
    assert_eq!(left, (0, 0, 0));
    let unindexed = (repository.packs_unindexed, repository.packs_unindexed_bytes);
    assert_eq!((repository.packs, unindexed), (4, (0, 0)));
    let kinds = &repository.objects;
    assert_eq!(kinds["data_packs"].count + kinds["meta_packs"].count, 4);
    assert_eq!(kinds["snapshots"].bytes, repository.snapshot_bytes);
    assert_eq!(kinds.values().map(|kind| kind.count).sum::<u64>(), objects.len() as u64);
    assert_eq!(kinds.values().map(|kind| kind.bytes).sum::<u64>(), total);
    assert!(kinds.values().all(|kind| kind.class.is_none()), "a directory has no classes");
    assert_eq!((summary.blobs_missing, summary.is_complete), (0, true));
    assert!(summary.findings.is_empty() && summary.num_findings == 0);

    let (rows, _) = run::<StatsSummary>(&place, 0, "stats latest --by oid --sort size --limit 2");
    // What is no object's, the bitmap above all, is larger.
    let [Message::GroupStats(_), Message::GroupStats(largest)] = &rows[..] else {
        panic!("two rows: {rows:?}")
    };
    assert_eq!((largest.oid, &largest.component), (Some(3000), &None));
    assert_eq!((largest.class.as_deref(), largest.total_restore_size), (Some("user"), 16_384));
    let (rows, _) = run::<StatsSummary>(&place, 0, "stats --by oid --sort name --limit 1");
    let [Message::GroupStats(column)] = &rows[..] else { panic!("one row: {rows:?}") };
    assert_eq!((column.deployment.as_str(), column.oid.is_some()), ("shop", true));
    assert!(["user", "system-catalog"].contains(&column.class.as_deref().unwrap()));
    assert!(column.total_file_count == 2 && column.total_restore_size == 16_384);
    assert_eq!((&column.own, column.reached.data.blobs), (&column.reached, 1));

    // This deployment has no catalog that could be read: its objects have no names.
    assert_eq!((column.added_later_stored, column.nights, column.added_last_stored), (0, 1, 0));
    for by in ["table", "column"] {
        let (rows, _) = run::<StatsSummary>(&place, 0, &format!("stats --by {by} --limit 99"));
        let named: Vec<_> = rows
            .iter()
            .filter_map(|row| match row {
                Message::GroupStats(row) => Some((row.table.clone(), row.column.clone(), row.oid)),
                _ => None,
            })
            .collect();
        assert!(named.contains(&(None, None, Some(3000))), "{named:?}");
        let of_catalog = match by {
            "table" => (Some("calpontsys.systable".to_owned()), None, None),
            _ => (Some("calpontsys.systable".to_owned()), Some("oid 1001".to_owned()), None),
        };
        assert!(named.contains(&of_catalog), "{named:?}");
        let of_columns =
            rows.iter().filter(|row| matches!(row, Message::GroupStats(row) if row.oids == [1001]));
        assert_eq!(of_columns.count() > 0, by == "column");
    }

    let ran = place.expect(0, "diff -r @/repository --json latest~1 latest").silent();
    let (mut changes, mut components, mut columns, mut statistics) = (vec![], vec![], vec![], None);
    for message in lines::<()>(&ran) {
        match message {
            Message::Change(change) => changes.push(change),
            Message::ComponentChanges(tally) => components.push(tally),
            Message::ColumnChanges(tally) => columns.push(tally),
            Message::Statistics(found) => statistics = Some(found),
            other => panic!("not of a comparison: {other:?}"),
        }
    }
    let told: Vec<_> = changes
        .iter()
        .map(|c| (c.modifier.as_str(), c.path.as_str(), c.size_before, c.size_after, c.new_bytes))
        .collect();
    let column = format!("/{COLUMN}");
    assert_eq!(
        told,
        [
            ("-", "/var/lib/mysql/app/gone.ibd", Some(16_192), None, 0),
            ("+", "/var/lib/mysql/app/new.ibd", None, Some(8000), 8000),
            ("M", column.as_str(), Some(8192), Some(16_384), 16_384),
        ]
    );
    assert_eq!((changes[2].component.as_str(), changes[2].new_bytes_stored), ("dbroot/1", 16_385));
    let named: Vec<_> = components.iter().map(|tally| tally.component.as_deref()).collect();
    assert!(named.contains(&Some("datadir")) && named.contains(&Some("dbroot/1")), "{named:?}");
    let datadir = components.iter().find(|t| t.component.as_deref() == Some("datadir")).unwrap();
    assert_eq!((datadir.files_added, datadir.files_removed, datadir.files_changed), (1, 1, 0));
    assert_eq!((datadir.bytes_before, datadir.bytes_after), (16_192, 8000));
    assert_eq!((datadir.oid, &datadir.class, datadir.metadata_changed), (None, &None, 1));
    let [column] = &columns[..] else { panic!("one column: {columns:?}") };
    assert_eq!((column.oid, column.class.as_deref()), (Some(3000), Some("user")));
    assert_eq!((column.new_bytes, column.new_bytes_stored), (16_384, 16_385));
    let statistics = statistics.unwrap();
    assert_eq!((&statistics.source_snapshot, &statistics.target_snapshot), (&ids[0], &ids[1]));
    assert_eq!((statistics.changed_files, statistics.metadata_changed), (1, 1));
    assert_eq!(statistics.stored_otherwise, 0);
    assert_eq!((statistics.bytes_before, statistics.bytes_after), (24_384, 24_384));
    assert_eq!((statistics.new_bytes, statistics.new_bytes_stored), (24_384, 24_386));
    let (added, removed) = (&statistics.added, &statistics.removed);
    assert_eq!((added.files, added.dirs, added.others, added.data_blobs), (1, 0, 0, 2));
    assert_eq!((removed.files, removed.dirs, removed.others, removed.data_blobs), (1, 0, 0, 2));
    assert_eq!(added.tree_blobs, second.added.tree.blobs);
    assert_eq!(added.bytes, 24_384 + second.added.tree.raw_bytes);
    assert_eq!(added.bytes_stored, stored(&second.added));
    assert_eq!(removed.bytes_stored, stored(&first.freed));
    assert_eq!(
        removed.tree_blobs + removed.bytes,
        first.freed.tree.blobs + 24_384 + first.freed.tree.raw_bytes
    );
    assert!(statistics.is_complete && statistics.findings.is_empty());
    assert_eq!(statistics.num_findings, 0);

    let (found, summary) = run::<FindSummary>(&place, 0, "find new.ibd");
    let [Message::Match(found)] = &found[..] else { panic!("one match: {found:?}") };
    assert_eq!((&found.snapshot, found.path.as_str()), (&ids[1], "/var/lib/mysql/app/new.ibd"));
    assert_eq!((found.size, found.component.as_str()), (Some(8000), "datadir"));
    assert_eq!((summary.hits, summary.snapshots_count, summary.snapshots_matched), (1, 2, 1));
    assert!(summary.is_complete && summary.findings.is_empty() && summary.num_findings == 0);
    assert!(summary.needed_as_names.is_empty());
    let (found, summary) = run::<FindSummary>(&place, 0, "find --oid 3000 --count");
    let hits = |message: &Message<_>| match message {
        Message::Matches(matches) => (matches.snapshot.clone(), matches.hits),
        other => panic!("a count expected: {other:?}"),
    };
    let expected: Vec<_> = ids.iter().map(|id| (id.clone(), 1)).collect();
    assert_eq!(found.iter().map(hits).collect::<Vec<_>>(), expected);
    assert_eq!(summary.hits, 2);

    let (_, summary) = run::<DumpSummary>(&place, 0, "dump latest --output @/all.tar");
    assert_eq!((&summary.snapshot_id, summary.is_archive), (&ids[1], true));
    assert_eq!(summary.output.as_deref(), Some(place.unfolded("@/all.tar").as_str()));
    assert_eq!((summary.total_files, summary.total_bytes), (files.len() as u64, bytes));
    assert!(summary.total_entries > summary.total_files && summary.total_duration < 60.0);
    assert!(summary.findings.is_empty() && summary.num_findings == 0);
}

/// Catches damage that the messages do not tell: figures that pass for whole, exit code 0.
#[test]
fn damage_shows_in_every_message_and_exit_code() {
    let place = Place::quick();
    two_nights(&place);
    // The last pack of content that was written: both files of the second night.
    let packs = files_below(&place.path("repository/packs")).unwrap();
    let is_data = |path: &&std::path::PathBuf| fs::read(path).unwrap()[24] == 3;
    let written = |path: &&std::path::PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    let pack = packs.iter().filter(is_data).max_by_key(written).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap().to_owned();
    let bytes = fs::read(pack).unwrap();
    fs::remove_file(pack).unwrap();
    let (messages, summary) = run::<StatsSummary>(&place, 3, "stats");
    assert_eq!((summary.blobs_missing, summary.is_complete, summary.num_findings), (2, false, 3));
    let expected = Found::from([("missing-chunk".to_owned(), 2), ("missing-object".to_owned(), 1)]);
    assert_eq!(summary.findings, expected);
    let told = messages.iter().filter_map(|message| match message {
        Message::Finding(finding) => {
            Some((finding.kind.as_str(), &finding.object, &finding.detail))
        }
        Message::Warning(text) => panic!("nothing to warn of: {}", text.message),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    assert!(told.iter().any(|f| f.0 == "missing-object" && f.1.ends_with(&name)), "{told:?}");
    let second = &place.snapshots("repository")[1][..8];
    let needed = format!("snapshot {second} needs it");
    assert_eq!(told.iter().filter(|f| f.2.contains(&needed)).count(), 2, "{told:?}");

    let (found, summary) = run::<FindSummary>(&place, 0, &format!("find --pack {name}"));
    assert_eq!((found.len(), summary.hits), (2, 2));
    let chunk = told.iter().find(|f| f.0 == "missing-chunk").unwrap().1.clone();
    let chunk = chunk.split(' ').nth(1).unwrap();
    let (found, _) = run::<FindSummary>(&place, 0, &format!("find --chunk {chunk}"));
    assert_eq!(found.len(), 1, "a chunk is found as the finding names it");
    place.expect(20, &format!("dump -r @/repository latest /{COLUMN}")).complains("cannot be had");
    let text = place.expect(3, "stats -r @/repository");
    text.complains("what is missing or damaged is not counted: the figures are incomplete");
    fs::write(pack, bytes).unwrap();

    // A pack of manifests.
    let packs = files_below(&place.path("repository/packs")).unwrap();
    for pack in packs.iter().filter(|pack| !is_data(pack)) {
        let mut bytes = fs::read(pack).unwrap();
        bytes[90] ^= 1;
        fs::write(pack, bytes).unwrap();
    }
    let (_, summary) = run::<StatsSummary>(&place, 3, "stats");
    assert!(!summary.is_complete && summary.findings["damaged-manifest"] > 0);
    let ran = place.expect(3, "diff -r @/repository --json latest~1 latest");
    let is_whole =
        |message: &Message<()>| matches!(message, Message::Statistics(s) if s.is_complete);
    assert!(!lines::<()>(&ran).iter().any(is_whole), "{}", ran.out);
    let (_, summary) = run::<FindSummary>(&place, 3, "find *.ibd");
    assert!(!summary.is_complete && summary.num_findings > 0);
    place.expect(20, "dump -r @/repository latest").complains("manifest cannot be had");
}

/// Catches text whose columns do not fit the terminal, signs and sizes that are not those of what
/// changed, options that do nothing and refusals that do not say what to do.
#[test]
fn reports_are_told_as_they_were() {
    let place = Place::quick();
    two_nights(&place);
    let mut told = Transcript::new(&place);
    for line in [
        "",
        "latest~1",
        "--by time",
        "--by component --sort name",
        "--by dbroot",
        "--by oid --limit 2 --sort own",
        "--tag first --by snapshot",
        "--host nowhere",
    ] {
        told.add(&masked(&place, place.expect(0, &format!("stats -r @/repository {line}"))));
    }
    told.run(2, "stats -r @/repository --sort own");
    told.run(1, "stats -r @/repository nothing");
    told.run(0, "diff -r @/repository latest~1:/var/lib latest --component dbroot --metadata");
    told.run(0, "diff -r @/repository latest:/var/lib/mysql latest~1");
    told.run(2, "diff -r @/repository latest~1:/a latest:/b");
    told.run(1, "diff -r @/repository latest~1 latest --component storage");
    told.run(0, "find -r @/repository *.ibd --size-max 8K --snapshot latest");
    told.run(0, "find -r @/repository --oid 3000 --count");
    told.run(0, "find -r @/repository --oid 3000 --newest 2023-11-14T22:13:20Z");
    told.run(0, "find -r @/repository --oid 3000 -s latest -l");
    told.run(2, "find -r @/repository");
    told.run(2, "find -r @/repository --chunk 12");
    told.run(2, "find -r @/repository --oldest yesterday");
    told.run(1, &format!("find -r @/repository --pack {}", "ab".repeat(32)));
    told.run(1, "dump -r @/repository latest nothing");
    told.compare("reports.txt");
    for columns in ["40", "60", "80"] {
        let mut command = place.command("stats -r @/repository --by component");
        let out = Ran::of("stats", command.env("COLUMNS", columns).output().unwrap()).ended(0).out;
        let table = out.lines().skip_while(|line| !line.starts_with("Component"));
        let widest = table.take_while(|line| !line.is_empty()).map(|line| line.chars().count());
        let widest = widest.max().unwrap();
        assert!(
            widest <= columns.parse::<usize>().unwrap().max(70),
            "{widest} of {columns}: {out}"
        );
    }
}

/// A run with all figures masked and blanks made one: how much manifests take depends on inodes and
/// times, and the figures have tests of their own.
fn masked(place: &Place, ran: Ran) -> Ran {
    let mut out = String::new();
    // An id may have nothing but digits.
    let text = place.normalised(&ran.out);
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let is_within_a_word =
            out.ends_with(|c: char| c.is_ascii_alphanumeric()) || out.ends_with("<snap-");
        let digits = rest.find(|c: char| !c.is_ascii_digit() && !".,".contains(c));
        let digits = if is_within_a_word { 0 } else { digits.unwrap_or(rest.len()) };
        let is_number = digits > 0 && first.is_ascii_digit();
        let after = &rest[digits..];
        if is_number && !after.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            let units = [" KiB", " MiB", " B"];
            let unit = units.iter().find(|unit| after.starts_with(**unit)).map_or(0, |u| u.len());
            out.push('#');
            rest = &after[unit..];
            continue;
        }
        if first != ' ' || !out.ends_with([' ', '\n']) {
            out.push(first);
        }
        rest = &rest[first.len_utf8()..];
    }
    Ran { out, ..ran }
}
