//! Repositories in buckets when networks and stores fail: what passes is outlasted, what does not is told,
//! and whatever happened, the next backup works.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use colvault_engine::backend::{Backend, Key, S3Backend, Space};
use colvault_engine::backup::BackupReport;
use colvault_engine::error::{Error, ErrorKind, Result};
use colvault_engine::format::{Header, ObjectKind};
use colvault_engine::id::{PackId, SessionId};
use colvault_engine::index::CachePlace;
use colvault_engine::testing::trees::{Random, write_tree};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::compare::{self, Leave, Tree, assert_equal};
use crate::support::s3::{
    Answer, Bucket, Fault, Job, Made, Moto, PATIENCE, PREFIX, Proxy, Rule, answering, objects,
    options,
};
use crate::support::{PACK_BYTES, Store, quick};

/// A tree that changes, and its repository in a bucket.
struct Nights {
    place: TempDir,
    bucket: Bucket,
    store: Store,
    random: Random,
    night: u64,
}

impl Nights {
    /// With one backup done.
    fn new() -> Nights {
        let (place, bucket) = (quick(), Bucket::new());
        write_tree(&place.path().join("source"), 1, 12, 120_000).unwrap();
        let cache = CachePlace::Directory(place.path().join("cache"));
        let store = Store::create(bucket.backend(), cache, PACK_BYTES);
        let nights = Nights { place, bucket, store, random: Random::new(5), night: 0 };
        nights.store.backup(&nights.source());
        nights.bucket.proxy.take();
        nights
    }

    fn source(&self) -> PathBuf {
        self.place.path().join("source")
    }

    /// Changes the tree, and backs it up while a rule holds.
    fn back_up_under(&mut self, rule: Rule) -> Result<BackupReport> {
        self.night += 1;
        let new = self.source().join(format!("new{}", self.night));
        fs::write(new, self.random.bytes(30_000)).unwrap();
        // A host does not ask for what it has kept.
        for kept in ["cache/snapshots", "cache/packs"] {
            let _ = fs::remove_dir_all(self.place.path().join(kept));
        }
        self.bucket.proxy.take();
        self.bucket.proxy.add(rule);
        let report = self.store.backup_with(&self.source(), |_| ());
        self.bucket.proxy.clear();
        report
    }

    /// The latest snapshot, read by a host that has seen nothing, is the tree.
    fn restores(&self, context: &str) {
        let stranger = Store { backend: self.bucket.direct(), cache: CachePlace::Memory };
        let target = self.place.path().join("target");
        stranger.restore(&stranger.latest(), &target);
        assert_equal(&compare::read(&self.source()), &target, Leave::default(), context);
        fs::remove_dir_all(&target).unwrap();
    }

    fn snapshots(&self) -> Vec<SessionId> {
        let stranger = Store { backend: self.bucket.direct(), cache: CachePlace::Memory };
        let listing = stranger.listing().unwrap();
        assert!(listing.findings.is_empty());
        listing.snapshots.iter().map(|named| named.id).collect()
    }
}

/// The requests of a backup on top of another: method, or `LIST`, and what it is about.
const KINDS: [&str; 10] = [
    "GET config",
    "LIST features",
    "LIST all",
    "PUT leases",
    "GET snapshots",
    "GET packs",
    "PUT packs",
    "PUT index",
    "PUT snapshots",
    "DELETE leases",
];

/// A rule that does something to requests of a kind.
fn meeting(kind: &str, fault: Fault) -> Rule {
    match kind.split_once(' ').unwrap() {
        ("LIST", "all") => Rule::new(fault).when(|seen| seen.class() == "LIST all"),
        ("LIST", space) => Rule::new(fault).method("GET").query(&format!("{space}%2F")),
        ("GET", space) => Rule::new(fault).method("GET").path(&format!("/{space}")),
        ("PUT", space) => Rule::new(fault).method("PUT").path(&format!("/{space}/")),
        (_, space) => Rule::new(fault).method("DELETE").path(&format!("/{space}/")),
    }
}

/// What networks and stores do for a while.
fn passing() -> Vec<Fault> {
    vec![
        Fault::slow_down(),
        Fault::slow_down_for(0),
        Fault::internal(),
        Fault::Drop,
        Fault::Reset,
        Fault::Truncate,
    ]
}

/// Catches a fault that passes and ends a backup all the same, on any kind of request; a create that was
/// done although its answer was lost and counts as somebody else's; a snapshot that is there twice, or
/// not at all.
#[test]
fn what_passes_is_outlasted() {
    let mut nights = Nights::new();
    for kind in KINDS {
        for fault in passing() {
            let context = format!("{fault:?} of {kind}");
            let before = nights.snapshots();
            let report = nights.back_up_under(meeting(kind, fault).times(1));
            let report = report.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(nights.bucket.proxy.met(), 1, "{context}: it happened");
            let mut wanted = before;
            wanted.push(report.id.unwrap());
            assert_eq!(nights.snapshots(), wanted, "{context}");
            nights.restores(&context);
        }
        assert_eq!(nights.bucket.names("leases/"), Vec::<String>::new(), "{kind}");
    }
    nights.store.expect_clean("after all of them");
}

/// Catches a client that waits for ever for a store that went silent, before or after it did what was
/// asked.
#[test]
fn a_store_that_goes_silent_is_asked_again() {
    let mut nights = Nights::new();
    for fault in [Fault::Stall, Fault::StallAfter] {
        for kind in ["LIST all", "GET packs", "PUT packs", "PUT snapshots"] {
            let context = format!("{fault:?} of {kind}");
            let report = nights.back_up_under(meeting(kind, fault.clone()).times(1));
            report.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(nights.bucket.proxy.met(), 1, "{context}: it happened");
            nights.restores(&context);
        }
    }
    nights.store.expect_clean("after silences");
}

/// Catches attempts without an end, fewer than were asked for, and a failure that leaves something behind
/// that stops the next backup.
#[test]
fn what_lasts_ends_the_backup_and_the_next_one_works() {
    let mut nights = Nights::new();
    for kind in KINDS {
        let before = nights.snapshots();
        let report = nights.back_up_under(meeting(kind, Fault::slow_down()));
        let seen = nights.bucket.proxy.take();
        let mut attempts: BTreeMap<String, u32> = BTreeMap::new();
        for met in seen.iter().filter(|seen| seen.fault.is_some()) {
            *attempts.entry(format!("{} {}?{}", met.method, met.path, met.query)).or_default() += 1;
        }
        // Of packs that are written at once, those that come second may not have been tried as often.
        assert_eq!(attempts.values().max(), Some(&PATIENCE.attempts), "{kind}: {attempts:?}");
        match report {
            // A lease that stays delays a later prune.
            Ok(report) => {
                assert_eq!(kind, "DELETE leases", "a backup goes on without");
                assert!(report.repository_findings.is_empty());
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io, "{kind}: {error}");
                assert!(error.to_string().contains("SlowDown"), "{kind}: {error}");
                assert_eq!(nights.snapshots(), before, "{kind}");
            }
        }
        nights.store.backup(&nights.source());
        nights.restores(kind);
    }
    nights.store.expect_clean("after all of them");
}

/// Catches a refusal that is asked for again and again, and one that does not say which permission is
/// missing.
#[test]
fn a_refusal_is_final_and_names_the_permission() {
    let mut nights = Nights::new();
    for kind in KINDS {
        let report = nights.back_up_under(meeting(kind, Fault::denied()));
        let seen = nights.bucket.proxy.take();
        let mut refused: Vec<String> = seen
            .iter()
            .filter(|seen| seen.fault.is_some())
            .map(|seen| format!("{} {}?{}", seen.method, seen.path, seen.query))
            .collect();
        let all = refused.len();
        refused.sort();
        refused.dedup();
        assert_eq!(refused.len(), all, "{kind}: nothing is asked twice: {refused:?}");
        let permission = match kind.split(' ').next().unwrap() {
            "PUT" => "s3:PutObject",
            "LIST" => "s3:ListBucket",
            "GET" => "s3:GetObject",
            _ => "",
        };
        match report {
            // A lease that stays delays a later prune.
            Ok(report) => {
                assert_eq!(kind, "DELETE leases", "a backup goes on without");
                assert!(report.repository_findings.is_empty());
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(permission) && !permission.is_empty(), "{kind}: {text}");
            }
        }
        nights.store.backup(&nights.source());
    }
    nights.restores("after refusals");
    nights.store.expect_clean("after refusals");
}

/// Catches a restore that stops at what passes, and one that writes what came damaged without a word.
#[test]
fn a_restore_outlasts_what_passes() {
    let nights = Nights::new();
    let expected = compare::read(&nights.source());
    let mut rules: Vec<(String, Rule, bool)> = Vec::new();
    for fault in passing() {
        for kind in [
            "GET config",
            "LIST snapshots",
            "LIST index",
            "GET index",
            "GET snapshots",
            "GET packs",
        ] {
            let rule = meeting(kind, fault.clone()).times(1);
            rules.push((format!("{fault:?} of {kind}"), rule, true));
        }
        let rule = meeting("GET packs", fault.clone()).after(1).times(1);
        rules.push((format!("{fault:?} of the second range"), rule, true));
    }
    for after in 0..2 {
        let rule = meeting("GET packs", Fault::Flip).after(after).times(1);
        rules.push((format!("a wrong byte in range {after}"), rule, false));
    }
    for (context, rule, is_whole) in rules {
        let target = nights.place.path().join("target");
        let host = Store { backend: nights.bucket.backend(), cache: CachePlace::Memory };
        nights.bucket.proxy.take();
        nights.bucket.proxy.add(rule);
        let outcome = host.listing().and_then(|listing| {
            let named = listing.snapshots.into_iter().next_back().expect("a snapshot");
            host.restore_with(&named, &target, |_| ())
        });
        nights.bucket.proxy.clear();
        assert_eq!(nights.bucket.proxy.met(), 1, "{context}: it happened");
        match outcome {
            Ok(report) if report.findings.is_empty() => {
                assert_equal(&expected, &target, Leave::default(), &context);
            }
            Ok(report) => {
                assert!(!is_whole, "{context}: {:?}", report.findings.listed);
            }
            Err(error) => {
                let told = [ErrorKind::Corrupt].contains(&error.kind());
                assert!(!is_whole && told, "{context}: {error}");
            }
        }
        let _ = fs::remove_dir_all(&target);
    }
}

/// Catches an object in parts that replaces another, that is not there whole after parts or the last word on
/// them were lost on the way, and parts that nobody needs and that stay.
#[test]
fn objects_in_parts_are_created_once_and_whole() {
    let bucket = Bucket::new();
    let backend = bucket.backend();
    backend.set_parts_above(1 << 20);
    let bytes = Random::new(4).bytes(40 << 20);
    let (half, rest) = bytes.split_at(23_456_789);
    let put = |number: u8| {
        let key = Key::Pack(PackId([number; 32]));
        (backend.put_new(&key, &[half, b"", rest]), key)
    };
    let parts = || Rule::new(Fault::Drop).method("PUT").query("partNumber");
    let last = || Rule::new(Fault::Drop).method("POST").query("uploadId");
    for (number, rule) in (0..).zip([
        parts().times(0),
        parts().times(2),
        parts().fault(Fault::slow_down()).after(1).times(2),
        parts().fault(Fault::Reset).times(1),
        Rule::new(Fault::internal()).method("POST").query("uploads").times(1),
        last().times(1),
        last().fault(Fault::internal()).times(1),
        last().fault(Fault::Reset).times(1),
    ]) {
        let context = format!("{rule:?}");
        bucket.proxy.add(rule);
        let (created, key) = put(number);
        bucket.proxy.clear();
        created.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(backend.get(&key, 64 << 20).unwrap() == bytes, "{context}");
        let again = backend.put_new(&key, &[&vec![1; 2 << 20]]).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists, "{context}: {again}");
        assert!(backend.get(&key, 64 << 20).unwrap() == bytes, "{context}: it stays");
        backend.delete(&key).unwrap();
    }
    bucket.proxy.take();
    bucket.proxy.add(parts().fault(Fault::denied()).after(2));
    let (refused, _) = put(99);
    bucket.proxy.clear();
    assert!(refused.unwrap_err().to_string().contains("s3:PutObject"));
    let aborted = bucket.proxy.take().iter().filter(|seen| seen.method == "DELETE").count();
    assert_eq!(aborted, 1);
    assert_eq!(bucket.unfinished(), Vec::<String>::new(), "no part stays");
}

/// Catches a program that goes on asking after it was told to stop, whatever it waits for, and one that
/// leaves its lease behind then.
#[test]
fn a_stop_is_heard_while_the_store_is_waited_for() {
    let bucket = Bucket::new();
    let mut job = Job::with(&bucket);
    write_tree(&job.place.path("source"), 1, 10, 100_000).unwrap();
    job.init_and_back_up();
    for (name, value) in [("ATTEMPTS", "9"), ("BACKOFF_MAX", "3"), ("STALL_TIMEOUT", "20")] {
        job = job.set(&format!("COLVAULT_S3_{name}"), value);
    }
    let again = Rule::new(Fault::slow_down());
    let silent = Rule::new(Fault::Stall);
    let half = Rule::new(Fault::Stall).method("PUT").path("/packs/");
    for (line, rule) in [("snapshots", again), ("snapshots", silent), ("backup @/source", half)] {
        let context = format!("{rule:?} at {line}");
        fs::write(job.place.path("source/new"), &context).unwrap();
        bucket.proxy.take();
        bucket.proxy.add(rule);
        let mut started = job.start(line);
        started.wait_until("it waits", || bucket.proxy.met() > 0);
        started.signal(Signal::TERM);
        started.end().ended(130).complains("stopped by request");
        bucket.proxy.clear();
        assert_eq!(bucket.names("leases/"), Vec::<String>::new(), "{context}");
    }
    job.expect(0, "backup @/source --host h").silent();
    job.expect(0, "check --read-data").silent();
}

/// The key of a pack that a test makes.
fn pack(number: u8) -> Key {
    Key::Pack(PackId([number; 32]))
}

/// Catches memory and time without bound where a store answers without end: with pages, with bytes, or with
/// bytes that hardly come.
#[test]
fn answers_without_end_are_given_up() {
    let page = |name: &str, next: &str| {
        let body = format!(
            "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>{PREFIX}packs/{name}</Key>\
             <Size>1</Size></Contents><NextContinuationToken>{next}</NextContinuationToken>\
             </ListBucketResult>"
        );
        Answer::new(200, "application/xml", body)
    };
    let store = answering(move |asked| match asked.query.contains("continuation-token=B") {
        true => page("b", "A"),
        false => page("a", "B"),
    });
    let circling = S3Backend::connect(&options(&store.endpoint(), "bucket")).unwrap();
    let circled = circling.list(Space::Packs, &mut |_| ()).unwrap_err().to_string();
    assert!(circled.contains("contradicts itself"), "{circled}");

    let bucket = Bucket::new();
    let backend = bucket.backend();
    (0..9).for_each(|number| backend.put_new(&pack(number), &[&[number; 2000]]).unwrap());
    bucket.proxy.add(Rule::new(Fault::Endless).query("list-type"));
    let endless = backend.list(Space::Packs, &mut |_| ()).unwrap_err().to_string();
    assert!(endless.contains("more than 16777216 bytes"), "{endless}");
    // A byte comes well before the store counts as silent.
    let drops = Rule::new(Fault::Trickle(PATIENCE.stalled / 4)).method("GET");
    bucket.proxy.clear();
    bucket.proxy.take();
    bucket.proxy.add(drops.times(1));
    assert_eq!(backend.get(&pack(1), 9999).unwrap(), [1; 2000]);
    assert_eq!(bucket.proxy.met(), 1);
}

/// Catches a create that was done although the answer was an error, and then counts as somebody else's; and
/// an object of somebody else, or a damaged one, that counts as created.
#[test]
fn what_was_done_in_spite_of_an_error_is_ours_if_its_bytes_are() {
    let bucket = Bucket::new();
    let backend = bucket.backend();
    let put = || Rule::new(Fault::Drop).method("PUT").times(1);
    for (number, (status, code)) in (0..).zip([
        (408, ""),
        (408, "RequestTimeout"),
        (429, ""),
        (200, "InternalError"),
        (409, "OperationAborted"),
        (400, "BadDigest"),
        (403, "ExpiredToken"),
    ]) {
        let context = format!("{status} {code}");
        bucket.proxy.take();
        bucket.proxy.add(put().fault(Fault::ErrorAfter { status, code }));
        let created = backend.put_new(&pack(number), &[b"as it ", b"was sent"]);
        created.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(bucket.proxy.met(), 1, "{context}");
        let again = backend.put_new(&pack(number), &[b"as it was sent"]).unwrap_err();
        assert!(!again.to_string().contains("other bytes"), "{context}: {again}");
        bucket.proxy.add(put().fault(Fault::slow_down()));
        let other = backend.put_new(&pack(number), &[b"of another one"]).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::AlreadyExists, "{context}");
        assert!(other.to_string().contains("with other bytes"), "{context}: {other}");
        assert_eq!(backend.get(&pack(number), 99).unwrap(), b"as it was sent", "{context}");
        bucket.proxy.clear();
    }
    // This store keeps a body that it refuses.
    bucket.proxy.add(put().fault(Fault::FlipSent));
    let damaged = backend.put_new(&pack(99), &[b"as it was sent"]).unwrap_err().to_string();
    assert!(damaged.contains("other bytes") && damaged.contains("delete"), "{damaged}");
}

/// Catches a listing that ends early, at whatever place, and passes for all there is.
#[test]
fn a_listing_that_ends_early_is_asked_for_again() {
    let bucket = Bucket::new();
    let backend = bucket.backend();
    (0..5).for_each(|number| backend.put_new(&pack(number), &[b"x"]).unwrap());
    let list = || {
        let mut names = BTreeSet::new();
        backend.list(Space::Packs, &mut |object| {
            names.insert(object.name);
        })?;
        Ok::<_, Error>(names)
    };
    let all = list().unwrap();
    assert_eq!(all.len(), 5);
    for fault in [
        Fault::EndBefore("<Contents>"),
        Fault::EndBefore("<Key>"),
        Fault::EndBefore("<IsTruncated>"),
        Fault::EndBefore("</ListBucketResult>"),
        Fault::Replace("<KeyCount>5<", "<KeyCount>6<"),
        Fault::Replace("IsTruncated>", "IsOther>"),
    ] {
        let context = format!("{fault:?}");
        bucket.proxy.take();
        bucket.proxy.add(Rule::new(fault.clone()).query("list-type").times(1));
        assert_eq!(list().unwrap(), all, "{context}");
        assert_eq!(bucket.proxy.met(), 1, "{context}");
        bucket.proxy.add(Rule::new(fault).query("list-type"));
        assert_eq!(list().unwrap_err().kind(), ErrorKind::Io, "{context}");
        bucket.proxy.clear();
    }
    // Not every store counts.
    bucket.proxy.add(Rule::new(Fault::Replace("KeyCount>", "Other>")).query("list-type"));
    assert_eq!(list().unwrap(), all);
}

/// Catches the same where versions are listed.
#[test]
fn a_listing_of_versions_that_ends_early_is_asked_for_again() {
    let moto = Moto::server();
    let proxy = Proxy::before(moto.endpoint());
    let name = moto.bucket(Made::Versioned);
    let backend = S3Backend::connect(&options(&proxy.endpoint(), &name)).unwrap();
    for number in 0..3 {
        backend.put_new(&pack(number), &[b"x"]).unwrap();
        backend.delete(&pack(number)).unwrap();
    }
    assert_eq!(backend.hidden().unwrap().len(), 3);
    for fault in [
        Fault::EndBefore("<Version>"),
        Fault::EndBefore("</Version>"),
        Fault::EndBefore("<DeleteMarker>"),
        Fault::EndBefore("</ListVersionsResult>"),
        Fault::Replace("IsTruncated>", "IsOther>"),
    ] {
        let context = format!("{fault:?}");
        proxy.take();
        proxy.add(Rule::new(fault).query("versions").times(1));
        let hidden = backend.hidden().unwrap();
        assert_eq!((hidden.len(), proxy.met()), (3, 1), "{context}");
        proxy.clear();
    }
}

/// What a store holds of a repository, and the bucket to put it back into.
fn put_back(bucket: &Bucket, held: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in held {
        crate::support::program::write(bucket.directory().join(name), bytes);
    }
}

/// Catches a process that is killed, or cut off, at the wrong moment and loses what was committed: after
/// every single request of a backup the repository opens, what was there restores, and the next
/// backup works and finds again what was stored.
#[test]
fn killed_after_any_request_loses_nothing_that_was_committed() {
    let first = Bucket::new();
    let mut job = Job::with(&first);
    write_tree(&job.place.path("source"), 1, 10, 100_000).unwrap();
    job.init_and_back_up();
    let night: Tree = compare::read(&job.place.path("source"));
    let held = objects(&first.directory());
    let mut random = Random::new(3);
    for number in 0..3 {
        fs::write(job.place.path("source").join(format!("new{number}")), random.bytes(700_000))
            .unwrap();
    }
    let now = compare::read(&job.place.path("source"));
    first.proxy.take();
    job.expect(0, "backup @/source --host h").silent();
    let total = first.proxy.take().len();
    assert!(total >= 10, "a backup of {total} requests");
    let committed = |bucket: &Bucket| bucket.names("snapshots/").len();
    for after in 0..total {
        let context = format!("killed after request {after} of {total}");
        let bucket = Bucket::new();
        put_back(&bucket, &held);
        job.repository = bucket.location();
        bucket.proxy.add(Rule::new(Fault::Stall).after(after));
        let mut backup = job.start("backup @/source --host h");
        backup.wait_until("it is cut off", || bucket.proxy.met() > 0);
        backup.signal(Signal::KILL);
        backup.end();
        bucket.proxy.clear();
        let ran = job.expect(0, "snapshots").silent();
        assert!(
            ran.out.ends_with(
                &format!("\n{} snapshots\n", committed(&bucket))
                    .replace("\n1 snapshots", "\n1 snapshot")
            ),
            "{context}: {}",
            ran.out
        );
        let oldest = if committed(&bucket) == 2 { "latest~1" } else { "latest" };
        job.expect(0, &format!("restore {oldest} --target @/back")).silent();
        assert_equal(&night, &job.restored("back"), Leave::default(), &context);
        fs::remove_dir_all(job.place.path("back")).unwrap();
        job.expect(0, "backup @/source --host h");
        job.expect(0, "restore latest --target @/back").silent();
        assert_equal(&now, &job.restored("back"), Leave::default(), &context);
        fs::remove_dir_all(job.place.path("back")).unwrap();
        job.expect(0, "check --read-data").silent();
    }
}

/// Catches a backup that is told as failed although its snapshot is there, and one whose lease is taken away
/// while nobody knows whether its snapshot is.
#[test]
fn a_commit_without_an_answer_is_looked_up() {
    for answers_later in [true, false] {
        let bucket = Bucket::new();
        let job = Job::with(&bucket).set("COLVAULT_S3_ATTEMPTS", "1");
        write_tree(&job.place.path("source"), 1, 5, 10_000).unwrap();
        job.init();
        bucket.proxy.add(meeting("PUT snapshots", Fault::Reset));
        if !answers_later {
            bucket.proxy.add(Rule::new(Fault::Drop).method("HEAD").path("/snapshots/"));
            bucket.proxy.add(meeting("GET snapshots", Fault::Drop));
        }
        let ran = job.expect(i32::from(!answers_later), "backup @/source");
        bucket.proxy.clear();
        assert_eq!(bucket.names("snapshots/").len(), 1, "the store has done it");
        assert_eq!(bucket.names("leases/").len(), usize::from(!answers_later), "{}", ran.err);
        if !answers_later {
            assert!(ran.err.contains("not known"), "{}", ran.err);
        }
        job.expect(0, "check");
    }
}

/// Catches a pack of manifests that nobody saw arrive, taken for sound because its end is.
#[test]
fn a_meta_pack_that_no_index_names_is_read_before_it_is_used() {
    let mut nights = Nights::new();
    let before = nights.bucket.names("packs/");
    let denied = Fault::Error { status: 403, code: "AccessDenied", headers: Vec::new() };
    nights.back_up_under(meeting("PUT index", denied)).unwrap_err();
    let mut flipped = 0;
    for (name, mut bytes) in objects(&nights.bucket.directory()) {
        let id = name.rsplit('/').next().unwrap_or_default();
        let is_new = name.starts_with("packs/") && !before.iter().any(|old| old.ends_with(id));
        let header = is_new.then(|| Header::decode(&bytes, &name).unwrap());
        if header.is_some_and(|header| header.kind == ObjectKind::MetaPack) {
            let middle = bytes.len() / 3;
            bytes[middle] ^= 1;
            fs::write(nights.bucket.directory().join(&name), &bytes).unwrap();
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1);
    let report = nights.back_up_under(Rule::new(Fault::slow_down()).path("/nothing")).unwrap();
    assert_eq!(report.repository_findings.listed.len(), 1, "{:?}", report.repository_findings);
    nights.restores("a flipped pack was left alone");
}
