//! What repositories in buckets cost: requests and bytes, which have a price.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZero;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use colvault_benches::generator::{CodecChoice, NightKind, NightOptions, night};
use colvault_engine::backend::{Backend, Key, S3Backend, Space};
use colvault_engine::backup::Group;
use colvault_engine::check::{CheckOptions, check};
use colvault_engine::error::ErrorKind;
use colvault_engine::finding::FindingKind;
use colvault_engine::id::PackId;
use colvault_engine::index::CachePlace;
use colvault_engine::packer::Packers;
use colvault_engine::progress::{Cancel, NullObserver};
use colvault_engine::testing::trees::{Random, write_tree};

use crate::recipes::{generated, recipes};
use crate::support::compare::{self, Leave, assert_equal};
use crate::support::nights::{become_night, bundled};
use crate::support::s3::{
    Answer, BUCKET, Bucket, Fault, Job, Rule, Seen, answering, counted, figure, options,
};
use crate::support::{PACK_BYTES, Store, has_finding, quick, require_root, wait_until_not_racy};

fn store(bucket: &Bucket, cache: CachePlace) -> Store {
    Store { backend: bucket.backend(), cache }
}

/// What a backup asks of the store when nothing changed, in this order. Before its lease it only looks whether there
/// is a repository; one listing says everything else, and before the commit it is seen that the repository
/// still asks for nothing unknown.
const UNCHANGED_NIGHT: [&str; 6] =
    ["GET config", "PUT leases", "LIST all", "LIST features", "PUT snapshots", "DELETE leases"];

fn classes(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(Seen::class).collect()
}

/// Catches a backup that asks more of the store where there is more: when nothing changed it makes these
/// requests and no others, whatever the size, and receives next to nothing; one that looks at the
/// repository before its lease is there; and one that looks for parts that it cannot have left.
#[test]
fn an_unchanged_source_costs_the_same_few_requests_at_any_size() {
    let place = quick();
    let sizes = [("small", 20), ("larger", 1500)];
    for (name, files) in sizes {
        write_tree(&place.path().join(name), 1, files, 2_000).unwrap();
    }
    wait_until_not_racy();
    for (name, _) in sizes {
        let bucket = Bucket::new();
        let cache = CachePlace::Directory(place.path().join(format!("cache {name}")));
        let store = Store::create(bucket.backend(), cache.clone(), PACK_BYTES);
        let source = place.path().join(name);
        let back_up = |store: &Store| {
            let report = store.backup_with(&source, |options| options.group = Group::Paths);
            report.unwrap().snapshot.stats.bytes_read
        };
        assert!(back_up(&store) > 0);
        bucket.proxy.take();
        for _ in 0..3 {
            assert_eq!(back_up(&store), 0, "nothing changed");
            let seen = bucket.proxy.take();
            assert_eq!(classes(&seen), UNCHANGED_NIGHT);
            let objects = seen.iter().filter(|seen| seen.class().starts_with("GET "));
            assert!(objects.map(|seen| seen.received).sum::<u64>() < 1000);
        }
        // A host that has kept nothing: records, and the manifest in one range.
        let stranger = Store { backend: bucket.backend(), cache: CachePlace::Memory };
        assert_eq!(back_up(&stranger), 0);
        let counts = counted(&bucket.proxy.take());
        assert_eq!((counts["GET snapshots"], counts["GET packs"]), (4, 1), "{counts:?}");
        // Packs that go up in parts may have left some behind.
        let backend = bucket.backend();
        backend.set_parts_above(PACK_BYTES.into());
        assert_eq!(back_up(&Store { backend, cache }), 0);
        assert_eq!(counted(&bucket.proxy.take())["LIST uploads"], 1);
    }
}

/// Catches a night of a deployment that reads its catalog and its extent map from the store, which it proved
/// the night before, a plan that does, and a night that stores something; and parts that nobody ever looks for.
#[test]
fn an_unchanged_deployment_costs_no_more() {
    require_root("files of the server's user");
    let bucket = Bucket::new();
    let job = Job::with(&bucket);
    let nights = bundled(&job.place.path(""), 1);
    become_night(&nights[0], &job.place.path("live"));
    wait_until_not_racy();
    bucket.proxy.take();
    job.init();
    assert_eq!(counted(&bucket.proxy.take())["LIST uploads"], 1);
    let line = "backup --root @/live --host db1";
    job.expect(0, line).silent();
    for _ in 0..2 {
        bucket.proxy.take();
        job.expect(0, "plan --root @/live --host db1");
        assert_eq!(classes(&bucket.proxy.take()), [UNCHANGED_NIGHT[0], UNCHANGED_NIGHT[2]]);
        let ran = job.expect(0, &format!("{line} --json")).silent();
        assert_eq!(classes(&bucket.proxy.take()), UNCHANGED_NIGHT);
        assert_eq!(figure(&ran, "data_added"), 0);
    }
    job.expect(0, "check").silent();
    assert_eq!(counted(&bucket.proxy.take())["LIST uploads"], 1);
}

/// Catches a directory on the way to the source that counts as changed because of what lies beside the
/// source, and one whose owner or mode changed and that stays as it was in the snapshot.
#[test]
fn directories_on_the_way_change_by_more_than_their_times() {
    let bucket = Bucket::new();
    let job = Job::with(&bucket);
    let way = job.place.path("way");
    write_tree(&way.join("source"), 1, 10, 10_000).unwrap();
    job.init();
    let back_up = || {
        job.expect(0, "backup @/way/source --host h").silent();
        classes(&bucket.proxy.take())
    };
    wait_until_not_racy();
    back_up();
    fs::write(way.join("beside"), "beside").unwrap();
    assert_eq!(back_up(), UNCHANGED_NIGHT);
    let mode = |mode| fs::set_permissions(&way, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o711);
    assert_eq!(back_up().iter().filter(|class| *class == "PUT packs").count(), 1);
    job.expect(0, "restore latest --target @/back").silent();
    let restored = job.restored("back").with_file_name("way");
    assert_eq!(fs::metadata(restored).unwrap().permissions().mode() & 0o777, 0o711);
    // What is asked for is told by its times, as ever.
    fs::write(way.join("source/new"), "new").unwrap();
    assert_eq!(back_up().iter().filter(|class| *class == "PUT packs").count(), 2);
}

/// Catches an older program that writes into a repository whose features it does not know, that leaves its
/// lease there, or that does not say which one it is; before anything is read, and right before the commit.
#[test]
fn an_unknown_feature_is_met_behind_the_lease_and_the_lease_goes() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 1, 10, 50_000).unwrap();
    let bucket = Bucket::new();
    let cache = CachePlace::Directory(place.path().join("cache"));
    let store = Store::create(bucket.backend(), cache, PACK_BYTES);
    let (key, direct) = (Key::Feature("from-the-future".to_owned()), bucket.direct());
    let newer = {
        let (key, direct) = (key.clone(), direct.clone());
        move || direct.put_new(&key, &[b"whatever"]).unwrap()
    };
    let refused = || {
        bucket.proxy.take();
        let error = store.backup_with(&source, |_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("from-the-future"), "{error}");
        assert_eq!(bucket.names("leases/"), Vec::<String>::new());
        assert_eq!(bucket.names("snapshots/"), Vec::<String>::new());
        classes(&bucket.proxy.take())
    };
    newer();
    assert_eq!(refused(), ["GET config", "PUT leases", "LIST all", "DELETE leases"]);
    assert_eq!(store.open().map(drop).unwrap_err().kind(), ErrorKind::Unsupported);
    direct.delete(&key).unwrap();
    // Just when the packs of a backup go up.
    let once = Mutex::new(Some(newer));
    let is_pack = move |seen: &Seen| {
        seen.class() == "PUT packs" && {
            once.lock().unwrap().take().into_iter().for_each(|newer| newer());
            false
        }
    };
    bucket.proxy.add(Rule::new(Fault::Drop).when(is_pack));
    let seen = refused();
    assert_eq!(seen[seen.len() - 2..], ["LIST features", "DELETE leases"]);
}

/// Catches what a host has kept and is believed although it is damaged, cut, another file, too long or no file
/// at all; that stays when its pack is gone; or that hides from a check what the store has lost.
#[test]
fn what_a_host_has_kept_is_never_believed() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 1, 200, 5_000).unwrap();
    wait_until_not_racy();
    let bucket = Bucket::new();
    let cache = place.path().join("cache");
    let directory = CachePlace::Directory(cache.clone());
    let store = Store::create(bucket.backend(), directory, PACK_BYTES);
    store.backup(&source);
    let expected = compare::read(&source);
    let packs = crate::support::s3::objects(&bucket.directory().join("packs"));
    let kept = || crate::support::s3::objects(&cache.join("packs"));
    let whole = kept();
    assert!(!whole.is_empty() && whole.len() < 20, "{:?}", whole.keys());
    type Damage<'d> = &'d dyn Fn(&[u8]) -> Vec<u8>;
    let damages: [(&str, Damage<'_>); 5] = [
        ("bits", &|bytes| bytes.iter().map(|byte| byte ^ 0x10).collect()),
        ("half", &|bytes| bytes[..bytes.len() / 2].to_vec()),
        ("nothing", &|_| Vec::new()),
        ("zeros", &|bytes| vec![0; bytes.len()]),
        ("too much", &|bytes| bytes.repeat(1 + (5 << 20) / bytes.len())),
    ];
    let works = |context: &str| {
        let named = store.latest();
        bucket.proxy.take();
        let report = store.backup_with(&source, |options| options.group = Group::Paths).unwrap();
        assert_eq!(report.repository_findings.listed, [], "{context}");
        let again = store.backup(&source);
        assert_eq!((again.snapshot.parent, again.snapshot.stats.bytes_read), (Some(named.id), 0));
        let seen = counted(&bucket.proxy.take()).get("GET packs").copied().unwrap_or(0);
        let target = place.path().join("target");
        store.restore(&store.latest(), &target);
        assert_equal(&expected, &target, Leave::default(), context);
        fs::remove_dir_all(&target).unwrap();
        seen
    };
    assert_eq!(works("whole"), 0);
    for (context, damage) in damages {
        for (name, bytes) in &whole {
            fs::write(cache.join("packs").join(name), damage(bytes)).unwrap();
        }
        assert!(works(context) > 0, "{context}: it is read from the store");
        assert_eq!(works(context), 0, "{context}: and kept anew");
    }
    // Those of another pack, and no files.
    let names: Vec<&String> = whole.keys().collect();
    let other = Random::new(1).bytes(100_000);
    names.iter().for_each(|name| fs::write(cache.join("packs").join(name), &other).unwrap());
    assert!(works("another file") > 0);
    for name in &names {
        fs::remove_file(cache.join("packs").join(name)).unwrap();
        fs::create_dir(cache.join("packs").join(name)).unwrap();
    }
    assert!(works("directories") > 0);
    for name in &names {
        fs::remove_dir(cache.join("packs").join(name)).unwrap();
    }
    let gone = format!("{}.0", PackId([0xab; 32]));
    fs::write(cache.join("packs").join(&gone), "of a pack that is gone").unwrap();
    works("a pack that is gone");
    assert!(!kept().contains_key(&gone));

    // Everything is kept, and the store loses it.
    works("before");
    store.expect_clean("before");
    let snapshot = bucket.names("snapshots/").pop().unwrap();
    let path = bucket.directory().join(&snapshot);
    let record = fs::read(&path).unwrap();
    fs::write(&path, &record[..record.len() - 1]).unwrap();
    let is_meta = |name: &&String| {
        let id = name.rsplit('/').next().unwrap();
        whole.keys().any(|kept| kept.starts_with(id))
    };
    let pack = packs.keys().find(is_meta).unwrap();
    let path = bucket.directory().join("packs").join(pack);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..].iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(&path, bytes).unwrap();
    let found = store.check_with(false, false).unwrap().findings.listed;
    assert!(has_finding(&found, FindingKind::DamagedObject, &snapshot), "{found:?}");
    assert!(has_finding(&found, FindingKind::DamagedManifest, ""), "{found:?}");
}

/// The packs that hold data, and all others, by the class they were put with.
fn packs_of(seen: &[Seen]) -> (BTreeSet<String>, BTreeSet<String>) {
    let puts = seen.iter().filter(|seen| seen.class() == "PUT packs");
    let (data, meta): (Vec<&Seen>, Vec<&Seen>) =
        puts.partition(|put| put.header("x-amz-storage-class").is_some());
    let paths = |puts: Vec<&Seen>| puts.into_iter().map(|put| put.path.clone()).collect();
    (paths(data), paths(meta))
}

/// Catches looking at a repository that costs as much as restoring it: opening, listing and checking
/// without `--read-data` read no pack of data, and of packs of manifests only ranges.
#[test]
fn looking_reads_no_data() {
    let bucket = Bucket::new();
    let job = Job::with(&bucket).set("COLVAULT_S3_DATA_CLASS", "REDUCED_REDUNDANCY");
    write_tree(&job.place.path("source"), 1, 40, 100_000).unwrap();
    bucket.proxy.take();
    job.init_and_back_up();
    let (data, meta) = packs_of(&bucket.proxy.take());
    assert!(!data.is_empty() && meta.len() == 1, "{data:?} {meta:?}");
    for (line, reads_manifests) in [
        ("snapshots", false),
        ("check", true),
        ("ls latest", true),
        ("stats", true),
        ("plan @/source", true),
        ("backup @/source --dry-run", true),
        ("find FILE001.cdf", true),
    ] {
        job.expect(0, line);
        let seen = bucket.proxy.take();
        for get in seen.iter().filter(|seen| seen.class() == "GET packs") {
            assert!(reads_manifests && meta.contains(&get.path), "{line} reads {}", get.path);
            assert!(get.range().is_some(), "{line} reads a whole pack");
        }
        assert!(!seen.iter().any(|seen| seen.class() == "HEAD packs"), "{line}");
        assert!(counted(&seen).values().all(|count| *count < 8), "{line}: {:?}", counted(&seen));
    }
}

/// Asserts that no byte of any pack was asked for twice; returns how many came.
fn asked_once(seen: &[Seen]) -> u64 {
    let mut ranges: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for get in seen.iter().filter(|seen| seen.class() == "GET packs") {
        let range = get.range().expect("packs are read by ranges");
        ranges.entry(&get.path).or_default().push(range);
    }
    for (path, mut ranges) in ranges {
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            assert!(pair[0].1 < pair[1].0, "{path}: bytes of {:?} and {:?}", pair[0], pair[1]);
        }
    }
    seen.iter().filter(|seen| seen.class() == "GET packs").map(|seen| seen.received).sum()
}

/// Catches a restore that reads bytes twice, in more requests than it must, or one after the other; and one
/// whose result depends on the order in which answers come.
#[test]
fn a_restore_reads_no_byte_twice_whatever_the_latency() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 1, 60, 200_000).unwrap();
    let bucket = Bucket::new();
    let writer = Store::create(bucket.backend(), CachePlace::Memory, PACK_BYTES);
    writer.backup(&source);
    let expected = compare::read(&source);
    let stored: u64 = crate::support::s3::objects(&bucket.directory())
        .iter()
        .filter(|(name, _)| name.starts_with("packs/"))
        .map(|(_, bytes)| bytes.len() as u64)
        .sum();
    for round in 0..2 {
        if round == 1 {
            let number = AtomicUsize::new(0);
            let is_slow = move |_: &Seen| number.fetch_add(7, Ordering::SeqCst).is_multiple_of(3);
            let delay = Fault::Delay(Duration::from_millis(25));
            bucket.proxy.add(Rule::new(delay).when(is_slow));
        }
        // A host without a cache.
        let reader = store(&bucket, CachePlace::Memory);
        let named = reader.latest();
        bucket.proxy.take();
        let target = place.path().join(format!("target {round}"));
        reader.restore(&named, &target);
        let seen = bucket.proxy.take();
        assert_equal(&expected, &target, Leave::default(), "restored");
        let bytes = asked_once(&seen);
        assert!(bytes <= stored, "{bytes} of {stored} bytes");
        let gets = counted(&seen)["GET packs"];
        let packs = bucket.names("packs/").len();
        assert!(gets <= 2 * packs + 4, "{gets} ranges of {packs} packs");
    }
    let most = bucket.proxy.at_once_max();
    assert!((2..=16).contains(&most), "{most} requests at once");
}

/// Catches slots that are read in many short pieces, or some of their blocks twice, because blocks of one
/// lie in several packs; and a check that asks for everything a second time to pack slots again.
#[test]
fn slots_come_in_few_long_reads_and_no_byte_twice() {
    let source = generated(CodecChoice::Snappy);
    let place = quick();
    let bucket = Bucket::new();
    let store = store(&bucket, CachePlace::Directory(place.path().join("cache")));
    // Slots are small beside their packs, as they are in real ones.
    let store = Store::create(store.backend, store.cache, 8 << 20);
    store.backup_with(source.path(), recipes).unwrap();
    // Values of many slots change, and a night stores the blocks that are new.
    for (number, kind) in [(1, NightKind::Update), (2, NightKind::Append)] {
        let threads = NonZero::new(2).unwrap();
        let options = NightOptions { night: number, kind, share: 0.2, threads };
        night(source.path(), &options).unwrap();
        store.backup_with(source.path(), recipes).unwrap();
    }
    let expected = compare::read(source.path());
    let stored: u64 = crate::support::s3::objects(&bucket.directory())
        .iter()
        .filter(|(name, _)| name.starts_with("packs/"))
        .map(|(_, bytes)| bytes.len() as u64)
        .sum();
    let named = store.latest();
    bucket.proxy.take();
    store.restore(&named, &place.path().join("target"));
    let seen = bucket.proxy.take();
    assert_equal(&expected, &place.path().join("target"), Leave::default(), "restored");
    let bytes = asked_once(&seen);
    let packs = bucket.names("packs/").len();
    let gets = counted(&seen)["GET packs"];
    assert!(bytes <= stored, "{bytes} of {stored} bytes");
    assert!(gets <= 4 * packs + 8, "{gets} ranges of {packs} packs");

    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    bucket.proxy.take();
    let options = CheckOptions {
        read_trailers: false,
        read_data_percent: Some(100.0),
        packers: &Packers,
        threads: 2,
        cancel: Cancel::default(),
    };
    let report = check(&repository, &options, &NullObserver).unwrap();
    assert!(report.findings.is_empty() && report.slots_packed > 8, "{report:?}");
    let seen = bucket.proxy.take();
    let gets = seen.iter().filter(|seen| seen.class() == "GET packs");
    let bytes: u64 = gets.map(|seen| seen.received).sum();
    assert!(bytes < 2 * stored, "{bytes} of {stored} bytes");
}

/// Catches a store that gives no answer for a pack told as damage, zeros put where its content belongs, and
/// every chunk asked for by itself before the restore ends.
#[test]
fn a_pack_that_is_not_answered_for_ends_what_reads_it() {
    let bucket = Bucket::new();
    let job = Job::with(&bucket).set("COLVAULT_S3_ATTEMPTS", "2");
    write_tree(&job.place.path("source"), 1, 30, 200_000).unwrap();
    job.init_and_back_up();
    let largest = crate::support::s3::objects(&bucket.directory())
        .into_iter()
        .filter(|(name, _)| name.starts_with("packs/"))
        .max_by_key(|(_, bytes)| bytes.len());
    let name = largest.unwrap().0;
    let is_it = move |seen: &Seen| seen.class() == "GET packs" && seen.path.ends_with(&name);
    bucket.proxy.add(Rule::new(Fault::slow_down()).when(is_it));
    for line in ["restore latest --target @/target", "check --read-data", "dump latest --archive"] {
        bucket.proxy.take();
        let ran = job.expect(1, line);
        assert!(ran.err.contains("SlowDown"), "{line}: {}", ran.err);
        assert!(
            !ran.err.contains("damaged") && !ran.out.contains("damaged"),
            "{line}: {}",
            ran.err
        );
        let gets = counted(&bucket.proxy.take())["GET packs"];
        assert!(gets < 30, "{line}: {gets} requests");
    }
}

/// A store that holds a million objects and nothing else: pages of listings.
fn page(start: usize, objects: usize, token: Option<usize>) -> String {
    let mut text = String::with_capacity(objects * 260);
    text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult>");
    for number in start..start + objects {
        let id = format!("{number:064x}");
        text.push_str(&format!(
            "<Contents><Key>deep/er/packs/00/{id}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>&quot;0&quot;</ETag><Size>{number}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        ));
    }
    let more = token.is_some();
    text.push_str(&format!("<IsTruncated>{more}</IsTruncated><KeyCount>{objects}</KeyCount>"));
    if let Some(token) = token {
        text.push_str(&format!("<NextContinuationToken>{token}</NextContinuationToken>"));
    }
    text.push_str("</ListBucketResult>");
    text
}

const LISTING_CHILD: &str = "COLVAULT_TEST_LISTING";

/// Most memory this process ever had, in KiB.
fn memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Not a test of its own: a process that lists what is at an endpoint, and watches its memory.
#[test]
fn child_that_lists() {
    let Ok(endpoint) = std::env::var(LISTING_CHILD) else { return };
    let backend = S3Backend::connect(&options(&endpoint, BUCKET)).unwrap();
    let (mut objects, mut bytes, mut begun) = (0u64, 0u64, 0);
    let each = &mut |listed: colvault_engine::backend::Listed| {
        assert!(listed.name.starts_with("packs/00/"), "{}", listed.name);
        objects += 1;
        bytes += listed.bytes;
        if objects == 10_000 {
            begun = memory_kib();
        }
    };
    backend.list(Space::Packs, each).unwrap();
    assert_eq!((objects, bytes), (1_000_000, 1_000_000 * 999_999 / 2));
    let grown = memory_kib() - begun;
    assert!(grown < 32 << 10, "memory grew by {grown} KiB");
}

/// Catches a listing that is held in memory, that asks for a page twice, or that loses one.
#[test]
fn a_million_objects_are_listed_page_by_page() {
    const PAGES: usize = 1000;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let pages = Arc::clone(&asked);
    let server = answering(move |request| {
        let value = |name: &str| {
            let mut pairs = request.query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(own, _)| *own == name).map(|(_, value)| value.to_owned())
        };
        assert_eq!(value("prefix").as_deref(), Some("deep%2Fer%2Fpacks%2F"));
        let number = value("continuation-token").map_or(0, |token| token.parse().unwrap());
        pages.lock().unwrap().push(number);
        let next = (number + 1 < PAGES).then_some(number + 1);
        Answer::new(200, "application/xml", page(number * 1000, 1000, next))
    });
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "s3_requests::child_that_lists", "--nocapture"])
        .env(LISTING_CHILD, server.endpoint())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(*asked.lock().unwrap(), (0..PAGES).collect::<Vec<_>>());
}

/// Catches a new host that reads packs to know what is stored, one that begins again from nothing when
/// it was interrupted, and one that asks for what it has.
#[test]
fn a_new_host_reads_index_objects_alone_and_resumes() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 1, 10, 50_000).unwrap();
    let bucket = Bucket::new();
    let writer = Store::create(bucket.backend(), CachePlace::Memory, PACK_BYTES);
    let mut random = Random::new(1);
    for number in 0..8 {
        fs::write(source.join(format!("new{number}")), random.bytes(50_000)).unwrap();
        writer.backup(&source);
    }
    let indexes = bucket.names("index/").len();
    assert!(indexes >= 8);
    let load = |cache: &str| {
        let host = store(&bucket, CachePlace::Directory(place.path().join(cache)));
        bucket.proxy.take();
        let repository = host.open().unwrap();
        let loaded = repository.load_index(&NullObserver);
        repository.close();
        (loaded, counted(&bucket.proxy.take()))
    };
    let (loaded, counts) = load("new host");
    loaded.unwrap();
    assert_eq!(counts.get("GET index"), Some(&indexes), "{counts:?}");
    assert_eq!((counts.get("GET packs"), counts.get("LIST index")), (None, Some(&1)));
    let (loaded, counts) = load("new host");
    loaded.unwrap();
    assert_eq!((counts.get("GET index"), counts.get("LIST index")), (None, Some(&1)));

    // The line breaks for good after half of them.
    let half = indexes / 2;
    let get = || Rule::new(Fault::Drop).method("GET").path("/index/");
    bucket.proxy.add(get().after(half));
    let (loaded, _) = load("interrupted");
    let error = loaded.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "no answer is no damage: {error}");
    bucket.proxy.clear();
    let (loaded, counts) = load("interrupted");
    loaded.unwrap();
    let again = counts.get("GET index").copied().unwrap_or(0);
    assert!(again <= indexes - half + 1, "{again} of {indexes} are read again");
}

/// Catches a cache that is believed although it is of another repository, of an older time, or no cache.
#[test]
fn a_cache_that_does_not_fit_is_made_anew() {
    let bucket = Bucket::new();
    let job = Job::with(&bucket);
    write_tree(&job.place.path("source"), 1, 10, 50_000).unwrap();
    job.init_and_back_up();
    let cache = job.place.path("cache");
    let old = crate::support::s3::objects(&cache);
    assert!(!old.is_empty(), "there is a cache");
    let files: Vec<String> = old.keys().cloned().collect();
    fs::write(job.place.path("source/new"), Random::new(8).bytes(50_000)).unwrap();
    job.expect(0, "backup @/source --host h").silent();
    let put_back = |content: &dyn Fn(&str) -> Vec<u8>| {
        for file in &files {
            fs::write(cache.join(file), content(file)).unwrap();
        }
    };
    let works = |context: &str| {
        job.expect(0, "backup @/source --host h");
        job.expect(0, "restore latest --target @/back").silent();
        let expected = compare::read(&job.place.path("source"));
        assert_equal(&expected, &job.restored("back"), Leave::default(), context);
        fs::remove_dir_all(job.place.path("back")).unwrap();
    };
    put_back(&|file| old[file].clone());
    works("an older cache");
    put_back(&|_| b"no cache at all".to_vec());
    works("no cache");
    put_back(&|file| old[file][..old[file].len() / 2].to_vec());
    works("half a cache");

    let other_bucket = Bucket::new();
    let other = Job::with(&other_bucket);
    write_tree(&other.place.path("source"), 2, 10, 50_000).unwrap();
    other.init_and_back_up();
    let foreign = crate::support::s3::objects(&other.place.path("cache"));
    assert_eq!(foreign.len(), files.len());
    let foreign: Vec<Vec<u8>> = foreign.into_values().collect();
    put_back(&|file| foreign[files.iter().position(|own| own == file).unwrap()].clone());
    works("the cache of another repository");
    job.expect(0, "check --read-data").silent();
}
