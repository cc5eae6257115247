//! Object locks of what snapshots need, and what comes back in a bucket that keeps versions.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use colvault_engine::backend::S3Backend;
use colvault_engine::index::CachePlace;
use colvault_engine::lock::{LockOptions, extend_locks};
use colvault_engine::progress::{Cancel, NullObserver};
use colvault_engine::repository::Repository;
use colvault_engine::snapshot::list;
use colvault_engine::spill::{BUFFER_BYTES_DEFAULT, SpillPlace};
use colvault_engine::testing::trees::write_tree;

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::program::listing;
use crate::support::s3::{
    Bucket, Fault, Job, Made, Moto, PREFIX, Proxy, Rule, Seen, ask, between, counted, figure,
    options,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The keys of a bucket, without those of leases.
fn keys(bucket: &str) -> Vec<String> {
    let (_, listing) =
        ask(Moto::server().endpoint(), "GET", &format!("/{bucket}?list-type=2"), "", "");
    let keys = between(&listing, "<Key>", "</Key>").into_iter().map(str::to_owned);
    keys.filter(|key| !key.contains("/leases/")).collect()
}

/// Until when an object is locked, in days from now.
fn locked_days(bucket: &str, key: &str) -> Option<f64> {
    let (status, head) =
        ask(Moto::server().endpoint(), "HEAD", &format!("/{bucket}/{key}"), "", "");
    assert_eq!(status, 200, "{key}");
    let until = between(&head, "x-amz-object-lock-retain-until-date: ", "\r\n");
    let until: jiff::Timestamp = until.first()?.parse().unwrap();
    Some(until.duration_since(jiff::Timestamp::now()).as_secs_f64() / DAY.as_secs_f64())
}

fn delete(bucket: &str, key: &str) {
    let (status, answer) =
        ask(Moto::server().endpoint(), "DELETE", &format!("/{bucket}/{key}"), "", "");
    assert_eq!(status, 204, "{answer}");
}

/// Puts rubbish on top of an object.
fn spoil(bucket: &str, key: &str) {
    let target = format!("/{bucket}/{key}");
    assert_eq!(ask(Moto::server().endpoint(), "PUT", &target, "", "rubbish").0, 200, "{key}");
}

/// Deletes all versions of an object, but no marks of its deletion.
fn destroy(bucket: &str, key: &str) {
    let endpoint = Moto::server().endpoint();
    let target = format!("/{bucket}?versions&prefix={key}");
    let (_, versions) = ask(endpoint, "GET", &target, "", "");
    for version in between(&versions, "<Version>", "</Version>") {
        let id = between(version, "<VersionId>", "</VersionId>")[0];
        let target = format!("/{bucket}/{key}?versionId={id}");
        assert_eq!(ask(endpoint, "DELETE", &target, "", "").0, 204);
    }
}

/// A job with a repository that locks for so many days, and a backup in it.
fn locked_job(endpoint: &str, bucket: &str, days: u32) -> Job {
    let job = Job::on(endpoint, bucket);
    write_tree(&job.place.path("source"), 1, 10, 50_000).unwrap();
    job.expect(0, &format!("init --encryption none --pack-size 1 --object-lock {days}"));
    job.expect(0, "backup @/source --host h").silent();
    job
}

/// Copies all objects to a bucket of which they say nothing about locks, as another tool would.
fn copied(bucket: &str) -> String {
    let moto = Moto::server();
    let copy = moto.bucket(Made::Lockable);
    for key in keys(bucket) {
        let source = format!("x-amz-copy-source: /{bucket}/{key}\r\n");
        let (status, answer) = ask(moto.endpoint(), "PUT", &format!("/{copy}/{key}"), &source, "");
        assert_eq!(status, 200, "{answer}");
    }
    copy
}

/// Catches a plan that knows nothing of the requests with which locks are extended, or of rounds that are not
/// due yet.
#[test]
fn a_plan_counts_what_extends_locks() {
    let moto = Moto::server();
    let bucket = moto.bucket(Made::Lockable);
    let job = locked_job(moto.endpoint(), &bucket, 10);
    let forecast = |job: &Job| {
        let planned = job.expect(0, "plan @/source --host h --force --json");
        ["heads", "puts"].map(|of| figure(&planned, &format!("forecast.traffic.{of}")))
    };
    let [none, puts] = forecast(&job);
    assert_eq!(none, 0);
    // A host that does not know when the last round was begins one.
    let job = job.set("XDG_CACHE_HOME", "@/other");
    let [heads, more_puts] = forecast(&job);
    assert!(more_puts > puts, "{more_puts}, {puts}");
    let done = job.expect(0, "backup @/source --host h --force --json");
    let found = figure(&done, "traffic.heads");
    assert!(found > 3 && heads.abs_diff(found) <= found / 2, "{heads} of {found}");
}

/// Catches objects that snapshots need and whose locks are not extended, locks that are extended at each
/// run, and a dry run that extends.
#[test]
fn locks_of_what_snapshots_need_are_extended() {
    let moto = Moto::server();
    let first = moto.bucket(Made::Lockable);
    locked_job(moto.endpoint(), &first, 10);
    for key in keys(&first) {
        let days = locked_days(&first, &key).unwrap_or_default();
        assert!((14.9..15.1).contains(&days), "{key}: {days}");
    }
    let bucket = copied(&first);
    let all = keys(&bucket);
    assert!(all.len() >= 6, "{all:?}");
    assert!(all.iter().all(|key| locked_days(&bucket, key).is_none()));
    let job = Job::on(moto.endpoint(), &bucket);
    let dry = job.expect(0, "object-lock --dry-run --json");
    assert_eq!(figure(&dry, "objects_needed"), all.len() as u64);
    assert_eq!(figure(&dry, "objects_extended"), all.len() as u64);
    assert!(all.iter().all(|key| locked_days(&bucket, key).is_none()));

    let done = job.expect(0, "object-lock --json");
    assert_eq!(figure(&done, "objects_extended"), all.len() as u64);
    for key in &all {
        let days = locked_days(&bucket, key).unwrap_or_default();
        assert!((14.9..15.1).contains(&days), "{key}: {days}");
    }
    let again = job.expect(0, "object-lock --json");
    assert_eq!(figure(&again, "objects_extended"), 0);
    assert_eq!(figure(&again, "traffic.heads"), all.len() as u64, "{}", again.out);
    let told = job.expect(0, "object-lock").out;
    assert!(told.contains("0 locks extended") && told.contains("10 days, governance"), "{told}");

    // As time goes by.
    let backend = S3Backend::connect(&options(moto.endpoint(), &bucket)).unwrap();
    let repository = Repository::open(Arc::new(backend), |_| CachePlace::Memory).unwrap();
    let listing = list(&repository).unwrap();
    repository.load_index(&NullObserver).unwrap();
    let lock = repository.config().store.object_lock.unwrap();
    for (days, expected) in [(2, 0), (3, all.len() as u64), (20, all.len() as u64)] {
        let options = LockOptions {
            days: lock.days,
            now: SystemTime::now() + days * DAY,
            dry_run: true,
            with_unneeded: false,
            spill: SpillPlace {
                directory: job.place.path("spill"),
                buffer_bytes: BUFFER_BYTES_DEFAULT,
            },
            cancel: Cancel::default(),
        };
        let report = extend_locks(&repository, &listing, &options, &NullObserver).unwrap();
        assert_eq!((report.extended, report.failed), (expected, 0), "{days} days on");
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}

/// Catches a backup that does not look after locks, or looks at every object each time.
#[test]
fn backups_extend_locks_as_often_as_needed() {
    let moto = Moto::server();
    let first = moto.bucket(Made::Lockable);
    locked_job(moto.endpoint(), &first, 10);
    let bucket = copied(&first);
    let old = keys(&bucket);
    let proxy = Proxy::before(moto.endpoint());
    let job = Job::on(&proxy.endpoint(), &bucket);
    write_tree(&job.place.path("source"), 1, 10, 50_000).unwrap();

    // Without the permission: a finding, soon, and the snapshot is there.
    proxy.add(Rule::new(Fault::denied()).method("PUT").query("retention"));
    let told = job.run("backup @/source --host h --json").ended(3);
    assert!(told.out.contains("lock-not-extended"), "{told:?}");
    assert!(told.out.contains("s3:PutObjectRetention"), "{told:?}");
    let snapshots = job.expect(0, "snapshots --json").out;
    assert_eq!(snapshots.matches("\"short_id\"").count(), 2, "{snapshots}");
    assert!(old.iter().all(|key| locked_days(&bucket, key).is_none()));
    proxy.clear();

    // The next one makes up for it.
    job.expect(0, "backup @/source --host h").silent();
    for key in keys(&bucket) {
        let days = locked_days(&bucket, &key);
        assert!(days.is_some_and(|days| days > 14.9), "{key}: {days:?}");
    }
    // After that it is not due for a while, and costs nothing.
    proxy.take();
    job.expect(0, "backup @/source --host h").silent();
    let heads: Vec<_> = proxy.take().into_iter().filter(|seen| seen.method == "HEAD").collect();
    assert!(heads.is_empty(), "{:?}", counted(&heads));
}

/// Catches packs that nobody needs and whose locks are extended for ever, and a wrong word on when they go.
#[test]
fn what_no_snapshot_needs_is_told_with_its_day() {
    let moto = Moto::server();
    let bucket = moto.bucket(Made::Lockable);
    let job = locked_job(moto.endpoint(), &bucket, 10);
    let whole = job.expect(0, "object-lock --json");
    assert!(whole.out.contains("\"unneeded\":[]"), "{}", whole.out);
    for snapshot in keys(&bucket).iter().filter(|key| key.contains("/snapshots/")) {
        delete(&bucket, snapshot);
    }
    let told = job.expect(0, "object-lock --json");
    let packs = keys(&bucket).iter().filter(|key| key.contains("/packs/")).count();
    let summary: serde_json::Value =
        serde_json::from_str(told.out.lines().last().unwrap()).unwrap();
    let unneeded = &summary["unneeded"][0];
    assert_eq!(unneeded["packs"], packs, "{summary}");
    let may_go: jiff::Timestamp = unneeded["may_go"].as_str().unwrap().parse().unwrap();
    let days = may_go.duration_since(jiff::Timestamp::now()).as_secs_f64() / DAY.as_secs_f64();
    assert!((15.0..=16.1).contains(&days), "{summary}");
    let text = job.expect(0, "object-lock").out;
    assert!(text.contains("needed by no snapshot") && text.contains("may go from"), "{text}");

    // The snapshot itself was locked: it comes back.
    job.expect(0, "repair undelete").silent();
    let back = job.expect(0, "object-lock --json");
    assert!(back.out.contains("\"unneeded\":[]"), "{}", back.out);
    let plain = Job::on(moto.endpoint(), &moto.bucket(Made::Plain));
    plain.init();
    let told = plain.run("object-lock").ended(1);
    assert!(told.err.contains("locks no objects"), "{told:?}");
}

/// Catches a repository that is lost although its bucket keeps versions: what a thief or a mistake deleted or
/// replaced comes back, config included, and nothing else changes.
#[test]
fn what_was_deleted_or_replaced_comes_back() {
    let moto = Moto::server();
    let bucket = moto.bucket(Made::Versioned);
    let job = Job::on(moto.endpoint(), &bucket);
    write_tree(&job.place.path("source"), 1, 10, 50_000).unwrap();
    job.init_and_back_up();
    let expected = compare::read(&job.place.path("source"));
    let told = job.expect(0, "repair undelete").out;
    assert!(told.contains("nothing was deleted or replaced"), "{told}");
    let all = keys(&bucket);
    assert!(all.len() >= 5, "{all:?}");
    // Twice: a deletion may be marked more than once.
    all.iter().chain(&all[..1]).for_each(|key| delete(&bucket, key));
    job.expect(10, "snapshots");
    let dry = job.expect(0, "repair undelete --dry-run --json");
    assert_eq!(figure(&dry, "objects_undeleted"), all.len() as u64);
    assert_eq!(dry.out.matches("\"action\":\"undeleted\"").count(), all.len());
    job.expect(10, "snapshots");
    let done = job.expect(0, "repair undelete --json");
    assert_eq!(figure(&done, "objects_undeleted"), all.len() as u64);
    assert_eq!(keys(&bucket), all);
    job.expect(0, "restore latest --target @/back").silent();
    assert_equal(&expected, &job.restored("back"), Leave::default(), "after it was undeleted");

    // Rubbish in the place of objects of every kind; that of the config deleted on top of it.
    all.iter().for_each(|key| spoil(&bucket, key));
    delete(&bucket, &format!("{PREFIX}config"));
    let done = job.expect(0, "repair undelete --json");
    assert_eq!(figure(&done, "objects_put_again"), all.len() as u64, "{}", done.out);
    job.expect(0, "check --read-data").silent();
    let again = job.expect(0, "repair undelete --json");
    assert_eq!(figure(&again, "objects_put_again"), 0);
    assert_eq!(figure(&again, "objects_unchanged"), all.len() as u64);

    // With all its versions gone, an object is lost, and that is told.
    let pack = all.iter().find(|key| key.contains("/packs/")).unwrap();
    delete(&bucket, pack);
    destroy(&bucket, pack);
    let told = job.run("repair undelete").ended(3);
    assert!(told.err.contains("nothing is left of it"), "{told:?}");
}

/// Catches a promise where there are no versions.
#[test]
fn a_directory_keeps_no_versions() {
    let place = crate::support::program::Place::quick();
    let told = place.run("repair undelete --repo @/repository").ended(2);
    assert!(told.err.contains("needs a bucket"), "{told:?}");
}

/// Makes a repository and backs up; returns its id.
fn made(job: &Job) -> String {
    let told = job.expect(0, "init --encryption none --pack-size 1 --json").out;
    job.expect(0, "backup @/source --host h").silent();
    between(&told, "\"id\":\"", "\"")[0].to_owned()
}

/// Catches a dead repository whose config takes the place of the living one's: the snapshots of the living
/// one would be lost to sight.
#[test]
fn of_several_repositories_only_the_chosen_one_comes_back() {
    let moto = Moto::server();
    let bucket = moto.bucket(Made::Versioned);
    let job = Job::on(moto.endpoint(), &bucket);
    write_tree(&job.place.path("source"), 1, 10, 50_000).unwrap();
    let dead = made(&job);
    let old = keys(&bucket);
    old.iter().for_each(|key| delete(&bucket, key));
    let told = job.expect(10, "snapshots").err;
    let (undelete, init) = (told.find("repair undelete").unwrap(), told.find(" init ").unwrap());
    assert!(undelete < init, "{told}");
    let living = made(&job);
    let new = keys(&bucket);
    for line in ["repair undelete", "repair undelete --dry-run"] {
        let told = job.run(line).ended(1);
        assert!(told.err.contains(&format!("{living} (made 2")), "{told:?}");
        assert!(told.err.contains(&dead) && told.err.contains("--repository-id"), "{told:?}");
        assert_eq!(keys(&bucket), new);
    }
    let other = "0".repeat(32);
    let told = job.run(&format!("repair undelete --repository-id {other}")).ended(1);
    assert!(told.err.contains(&other) && told.err.contains(&living), "{told:?}");

    // What the living one lost comes back, and nothing of the dead one.
    let lost = new.iter().filter(|key| !old.contains(key));
    let lost: Vec<_> =
        lost.filter(|key| key.contains("/packs/") || key.contains("/snap")).collect();
    assert!(lost.len() >= 2, "{new:?}");
    lost.iter().for_each(|key| delete(&bucket, key));
    spoil(&bucket, &format!("{PREFIX}config"));
    let chosen = format!("repair undelete --repository-id {living} --json");
    let done = job.expect(0, &chosen);
    assert_eq!(figure(&done, "objects_undeleted"), lost.len() as u64, "{}", done.out);
    assert_eq!(figure(&done, "objects_put_again"), 1, "{}", done.out);
    let gone = old.iter().filter(|key| !new.contains(key)).count();
    assert_eq!(figure(&done, "objects_of_others"), gone as u64, "{}", done.out);
    assert_eq!(keys(&bucket), new);
    job.expect(0, "check --read-data").silent();

    // The dead one, when somebody says so; and back.
    job.expect(0, &format!("repair undelete --repository-id {dead}"));
    assert!(job.run("snapshots --json").out.contains("\"short_id\""));
    let told = job.expect(3, "restore latest --target @/back");
    assert!(told.err.contains(&format!("object of repository {dead} expected")), "{told:?}");
    job.expect(0, &chosen);
    let (_, config) = ask(moto.endpoint(), "GET", &format!("/{bucket}/{PREFIX}config"), "", "");
    assert!(config.contains(&living), "{config}");
}

/// Catches a round that did not see everything and is taken for one that did: what was not seen would not be
/// locked any longer, and the report would say that all is.
#[test]
fn a_round_that_does_not_see_everything_is_not_the_last_for_a_while() {
    let moto = Moto::server();
    let first = moto.bucket(Made::Lockable);
    locked_job(moto.endpoint(), &first, 10);
    let bucket = copied(&first);
    let old = keys(&bucket);
    let packs = || old.iter().filter(|key| key.contains("/packs/"));
    old.iter().filter(|key| key.contains("/index/")).for_each(|key| spoil(&bucket, key));
    let job = Job::on(moto.endpoint(), &bucket);
    write_tree(&job.place.path("source"), 2, 10, 50_000).unwrap();
    let told = job.run("object-lock --json").ended(3);
    assert!(told.out.contains("\"all_seen\":false"), "{told:?}");
    assert!(!told.out.contains("locked_until"), "{told:?}");
    let told = job.run("object-lock").ended(3);
    assert!(told.out.contains("is not known") && !told.out.contains("locked until"), "{told:?}");
    assert!(packs().all(|key| locked_days(&bucket, key).is_none()));

    // Nothing is remembered: once everything can be seen again, the next backup locks it.
    let is_remembered = || {
        let all = listing(&job.place.path("cache"));
        all.iter().any(|(path, ..)| path.ends_with("locks.json"))
    };
    assert!(!is_remembered());
    job.expect(0, "repair undelete").silent();
    job.expect(0, "backup @/source --host h").silent();
    assert!(is_remembered());
    for key in packs() {
        let days = locked_days(&bucket, key);
        assert!(days.is_some_and(|days| days > 14.9), "{key}: {days:?}");
    }
}

/// Catches some objects whose locks cannot be extended, and that keep all others from being locked at every
/// round.
#[test]
fn some_locks_that_cannot_be_extended_do_not_stop_the_others() {
    let moto = Moto::server();
    let first = moto.bucket(Made::Lockable);
    let job = locked_job(moto.endpoint(), &first, 10);
    for number in 0..12 {
        write_tree(&job.place.path("source"), 10 + number, 1, 5000).unwrap();
        job.expect(0, "backup @/source --host h").silent();
    }
    let bucket = copied(&first);
    let (good, bad): (Vec<_>, Vec<_>) = keys(&bucket)
        .into_iter()
        .partition(|key| key.contains("/packs/") || key.contains("/snapshots/"));
    assert!(bad.len() > 12 && good.len() > 24, "{bad:?} {good:?}");
    let proxy = Proxy::before(moto.endpoint());
    let job = Job::on(&proxy.endpoint(), &bucket);
    let is_bad = |seen: &Seen| !seen.path.contains("/packs/") && !seen.path.contains("/snapshots/");
    proxy.add(Rule::new(Fault::denied()).method("PUT").query("retention").when(is_bad));
    let told = job.run("object-lock --s3-connections 2 --json").ended(3);
    assert_eq!(figure(&told, "objects_failed"), bad.len() as u64, "{told:?}");
    assert_eq!(figure(&told, "objects_extended"), good.len() as u64, "{told:?}");
    assert!(good.iter().all(|key| locked_days(&bucket, key).is_some()));
    let told = job.run("object-lock").ended(3).out;
    let failed = format!("the locks of {} were not extended", bad.len());
    assert!(told.contains(&failed), "{told}");
}

/// Catches a lock that changes its mode when it is extended: `compliance` for `governance` could never be
/// taken back, and the other way round is refused.
#[test]
fn extended_locks_keep_their_mode() {
    let moto = Moto::server();
    let first = moto.bucket(Made::Lockable);
    locked_job(moto.endpoint(), &first, 10);
    let bucket = copied(&first);
    let pack = keys(&bucket).into_iter().find(|key| key.contains("/packs/")).unwrap();
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let body = format!(
        "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>COMPLIANCE</Mode>\
         <RetainUntilDate>{}</RetainUntilDate></Retention>",
        until.strftime("%Y-%m-%dT%H:%M:%SZ")
    );
    let target = format!("/{bucket}/{pack}?retention");
    assert_eq!(ask(moto.endpoint(), "PUT", &target, "", &body).0, 200);
    let job = Job::on(moto.endpoint(), &bucket);
    job.expect(0, "object-lock").silent();
    for key in keys(&bucket) {
        let (_, head) = ask(moto.endpoint(), "HEAD", &format!("/{bucket}/{key}"), "", "");
        let mode = if key == pack { "COMPLIANCE" } else { "GOVERNANCE" };
        assert!(head.contains(&format!("x-amz-object-lock-mode: {mode}")), "{key}: {head}");
        assert!(locked_days(&bucket, &key).is_some_and(|days| days > 14.9), "{key}");
    }
}

/// Catches a pack of manifests that is hidden and told as many chunks, without its name.
#[test]
fn hidden_packs_are_named_once() {
    let moto = Moto::server();
    let bucket = moto.bucket(Made::Lockable);
    let job = locked_job(moto.endpoint(), &bucket, 10);
    for number in 0..3 {
        write_tree(&job.place.path("source"), 10 + number, 1, 5000).unwrap();
        job.expect(0, "backup @/source --host h").silent();
    }
    let all = keys(&bucket);
    let packs: Vec<_> = all.iter().filter(|key| key.contains("/packs/")).collect();
    packs.iter().for_each(|key| delete(&bucket, key));
    let told = job.run("object-lock --no-cache").ended(3);
    assert!(told.out.contains("until when all is locked is not known"), "{told:?}");
    assert!(told.err.contains("missing-object") && told.err.contains("packs/"), "{told:?}");
    assert!(!told.err.contains("missing-chunk"), "{told:?}");
    for key in packs {
        let name = key.strip_prefix(PREFIX).unwrap();
        let lines = told.err.matches(&format!("missing-object: {name}")).count();
        assert!(lines <= 1, "{name}: {told:?}");
    }
    job.expect(0, "repair undelete").silent();
    job.expect(0, "object-lock").silent();
}

/// Catches a word of comfort where nothing can be known: in a bucket that keeps no versions, below a prefix
/// with nothing in it, of objects that are gone with all their versions.
#[test]
fn an_undelete_that_cannot_see_anything_says_so() {
    let moto = Moto::server();
    let plain = Job::on(moto.endpoint(), &moto.bucket(Made::Plain));
    plain.init();
    let told = plain.run("repair undelete").ended(13);
    assert!(told.err.contains("never kept any"), "{told:?}");
    let store = Bucket::new();
    let unversioned = Job::with(&store);
    unversioned.init();
    unversioned.expect(13, "repair undelete");
    let bucket = moto.bucket(Made::Versioned);
    let proxy = Proxy::before(moto.endpoint());
    let job = Job::on(&proxy.endpoint(), &bucket);
    let told = job.run("repair undelete").ended(10);
    assert!(told.err.contains("no version of a config"), "{told:?}");
    assert!(told.err.contains("correct the bucket or the prefix"), "{told:?}");

    write_tree(&job.place.path("source"), 1, 10, 50_000).unwrap();
    job.init_and_back_up();
    let pack = keys(&bucket).into_iter().find(|key| key.contains("/packs/")).unwrap();
    destroy(&bucket, &pack);
    let told = job.expect(0, "repair undelete").out;
    assert!(told.contains("leaves no trace") && told.contains(" check, which tells"), "{told}");
    proxy.add(Rule::new(Fault::denied()).method("GET").query("versioning"));
    let told = job.expect(0, "repair undelete").out;
    assert!(told.contains("s3:GetBucketVersioning"), "{told}");
    proxy.clear();
    let body = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                <Status>Suspended</Status></VersioningConfiguration>";
    let target = format!("/{bucket}?versioning");
    assert_eq!(ask(moto.endpoint(), "PUT", &target, "", body).0, 200);
    let told = job.expect(0, "repair undelete").out;
    assert!(told.contains("does not keep versions at present"), "{told}");
    let told = job.expect(0, "repair undelete --json").out;
    assert!(told.contains("\"versioning\":\"suspended\""), "{told}");
}

/// Catches doomed packs that come back as doomed: no backup would use them ever again.
#[test]
fn what_was_doomed_stays_deleted() {
    let moto = Moto::server();
    let bucket = moto.bucket(Made::Versioned);
    let job = Job::on(moto.endpoint(), &bucket);
    job.init();
    let key = format!("{PREFIX}doomed/{}", "1".repeat(32));
    spoil(&bucket, &key);
    assert!(keys(&bucket).contains(&key));
    delete(&bucket, &key);
    let done = job.expect(0, "repair undelete --json");
    assert_eq!(figure(&done, "objects_undeleted"), 0);
    assert!(!keys(&bucket).contains(&key));
}
