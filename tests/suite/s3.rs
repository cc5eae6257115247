//! Repositories in buckets, on stores that work: what every backend promises, and the whole job.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use colvault_engine::backend::{Backend, Key, S3Backend};
use colvault_engine::error::ErrorKind;
use colvault_engine::format::config::CreateOnlyFact;
use colvault_engine::s3client::S3Options;
use colvault_engine::testing::trees::write_tree;

use crate::backend_contract::{keeps_its_promises, one_of_many_wins};
use crate::cli::assert_restored;
use crate::support::compare::{self, Leave, assert_equal};
use crate::support::nights::{become_night, bundled};
use crate::support::program::Started;
use crate::support::require_root;
use crate::support::s3::{
    Bucket, Create, Fault, Job, Made, Moto, PREFIX, Proxy, Rule, Seen, counted, figure, objects,
    options,
};

/// Catches a backend that is kinder or stricter than a directory; keys, ranges, limits and listings that
/// this store takes otherwise than was thought; of many creates of one name more or fewer than one that
/// succeeds.
#[test]
fn a_bucket_keeps_the_promises() {
    let bucket = Bucket::new();
    keeps_its_promises(&*bucket.direct());
    // Without a prefix too, and with things of others beside.
    let bucket = Bucket::new();
    let foreign = bucket.direct();
    foreign.put_new(&Key::Config, &[b"of somebody else"]).unwrap();
    let options = S3Options { prefix: String::new(), ..bucket.options() };
    keeps_its_promises(&S3Backend::connect(&options).unwrap());
    assert_eq!(foreign.get(&Key::Config, 99).unwrap(), b"of somebody else");
}

/// Catches promises that only hold where nothing ever fails; and of many creates of one name more or fewer
/// than one that succeeds when answers are lost: who created it finds that out, and nobody else does.
#[test]
fn a_bucket_keeps_the_promises_behind_a_bad_line() {
    let every = |count: usize, is_put: bool| {
        let number = AtomicUsize::new(1);
        move |seen: &Seen| {
            (seen.method == "PUT") == is_put
                && number.fetch_add(1, Ordering::SeqCst).is_multiple_of(count)
        }
    };
    let bucket = Bucket::new();
    bucket.proxy.add(Rule::new(Fault::slow_down()).when(every(5, false)));
    bucket.proxy.add(Rule::new(Fault::Drop).when(every(7, false)));
    bucket.proxy.add(Rule::new(Fault::Truncate).when(every(8, false)));
    keeps_its_promises(&*bucket.backend());
    assert!(bucket.proxy.met() > 30, "{}", bucket.proxy.met());
    bucket.proxy.take();
    bucket.proxy.add(Rule::new(Fault::internal()).when(every(9, true)));
    bucket.proxy.add(Rule::new(Fault::Reset).when(every(4, true)));
    one_of_many_wins(&*bucket.backend());
    assert!(bucket.proxy.met() > 40, "{}", bucket.proxy.met());
}

/// Catches a backend that only this one store understands.
#[test]
fn a_bucket_on_moto_keeps_the_promises() {
    let moto = Moto::server();
    let proxy = Proxy::before(moto.endpoint());
    for made in [Made::Plain, Made::Versioned] {
        let bucket = moto.bucket(made);
        keeps_its_promises(&S3Backend::connect(&options(&proxy.endpoint(), &bucket)).unwrap());
    }
}

/// Two nights of a real deployment, from the first command to the last.
fn does_the_whole_job(job: &Job) {
    let nights = bundled(&job.place.path(""), 2);
    let live = job.place.path("live");
    become_night(&nights[0], &live);
    job.init().silent();
    let backup = "backup --root @/live --host db1 --json";
    let first = job.expect(0, backup);
    assert!(figure(&first, "files_new") > 100);
    assert!(figure(&first, "traffic.puts") >= 4 && figure(&first, "traffic.sent") > 100_000);
    let again = job.expect(0, backup);
    assert_eq!(figure(&again, "files_new"), 0);
    assert!(figure(&again, "data_added") < 100_000, "nothing but a manifest");
    become_night(&nights[1], &live);
    job.expect(0, backup);
    job.expect(0, "restore latest~2 --target @/back").silent();
    assert_restored(&nights[0], &job.place.path("back"), "night 0");
    job.expect(0, "restore latest --target @/back --delta").silent();
    assert_restored(&nights[1], &job.place.path("back"), "night 1");
    let check = job.expect(0, "check --read-data --json");
    assert_eq!(figure(&check, "num_errors"), 0);
    assert!(job.expect(0, "snapshots").silent().out.ends_with("\n3 snapshots\n"));
}

/// Catches a program that works in directories alone.
#[test]
fn two_nights_go_into_a_bucket_and_come_back() {
    require_root("files of the server's user");
    let bucket = Bucket::new();
    does_the_whole_job(&Job::with(&bucket));
    assert_eq!(bucket.names("leases/"), Vec::<String>::new());
    assert_eq!(bucket.names("probes/"), Vec::<String>::new());
}

/// Catches a program that only this one store understands.
#[test]
fn two_nights_go_to_moto_and_come_back() {
    require_root("files of the server's user");
    let moto = Moto::server();
    does_the_whole_job(&Job::on(moto.endpoint(), &moto.bucket(Made::Plain)));
}

/// Catches a bucket that is written to without a word on encryption, a repository that is made over another,
/// and one that is made where the bucket is missing.
#[test]
fn a_repository_is_made_once_and_with_a_word_on_encryption() {
    let bucket = Bucket::new();
    let job = Job::with(&bucket);
    job.expect(2, "init").complains("--encryption none");
    assert!(objects(&bucket.directory()).is_empty(), "nothing is written");
    job.expect(10, "snapshots");
    job.init().silent();
    let before = objects(&bucket.directory());
    job.expect(1, "init --encryption none").complains("there is a repository already");
    assert_eq!(objects(&bucket.directory()), before);
    // The store in this process makes buckets as they are named.
    let proxy = Proxy::before(Moto::server().endpoint());
    let job = Job::on(&proxy.endpoint(), "missing-bucket");
    for line in ["init --encryption none", "snapshots"] {
        let told = job.run(line);
        assert!(told.code != Some(0) && told.err.contains("missing-bucket"), "{told:?}");
        assert!(told.err.contains("bucket") && told.err.contains("NoSuchBucket"), "{told:?}");
        let seen = counted(&proxy.take());
        assert!(seen.values().all(|count| *count == 1), "nothing is asked again: {seen:?}");
    }
}

/// Catches a store that replaces objects and is trusted: `init` says so, the config remembers it, each
/// create asks first, and what is there stays.
#[test]
fn a_store_that_ignores_conditions_is_found_out() {
    let bucket = Bucket::that(Create::Ignored);
    let job = Job::with(&bucket);
    job.init().complains("If-None-Match");
    let config = objects(&bucket.directory())["config"].clone();
    assert!(String::from_utf8_lossy(&config).contains("\"create_only\": \"ignored\""));
    let before = objects(&bucket.directory());
    job.expect(1, "init --encryption none").complains("there is a repository already");
    let after = objects(&bucket.directory());
    assert_eq!(after, before, "nothing is replaced, and no probe stays");

    write_tree(&job.place.path("source"), 1, 10, 100_000).unwrap();
    bucket.proxy.take();
    job.expect(0, "backup @/source").silent();
    let seen = bucket.proxy.take();
    let mut asked = BTreeSet::new();
    for seen in &seen {
        match seen.method.as_str() {
            "HEAD" => drop(asked.insert(&seen.path)),
            "PUT" => assert!(asked.contains(&seen.path), "{} without a question", seen.path),
            _ => {}
        }
    }
    assert!(asked.len() >= 4);
    job.expect(0, "restore latest --target @/back").silent();
    let expected = compare::read(&job.place.path("source"));
    assert_equal(&expected, &job.restored("back"), Leave::default(), "from a kind store");
    job.expect(0, "check").complains("If-None-Match");

    let backend = bucket.backend();
    assert_eq!(backend.probe_create_only().unwrap(), CreateOnlyFact::Ignored);
    let key = Key::Feature("x".to_owned());
    backend.put_new(&key, &[b"first"]).unwrap();
    backend.set_create_only(CreateOnlyFact::Ignored);
    let second = backend.put_new(&key, &[b"second"]).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::AlreadyExists);
    assert_eq!(backend.get(&key, 99).unwrap(), b"first");
    assert_eq!(Bucket::new().backend().probe_create_only().unwrap(), CreateOnlyFact::Kept);
}

/// Catches hosts that wait for each other, chunks that are claimed by one and missing in the other's
/// snapshot, a reader that meets something half done, and a host that does not find what the others stored.
#[test]
fn two_hosts_write_while_a_third_reads() {
    let bucket = Bucket::new();
    let job = Job::with(&bucket);
    for (name, seed) in [("one", 1), ("two", 2)] {
        write_tree(&job.place.path(name).join("own"), seed, 12, 300_000).unwrap();
        write_tree(&job.place.path(name).join("shared"), 3, 12, 300_000).unwrap();
    }
    write_tree(&job.place.path("source"), 9, 12, 100_000).unwrap();
    job.init_and_back_up();
    let night = compare::read(&job.place.path("source"));
    let of = |host: &str, line: String| {
        let mut command = job.command(&line);
        command.env("XDG_CACHE_HOME", job.place.path("cache").join(host));
        Started::of(&line, command)
    };
    for round in 0..2 {
        let writers = ["one", "two"]
            .map(|name| of(name, format!("backup @/{name} --host {name} --tag round{round}")));
        let reader = of("three", format!("restore latest --host h --target @/read{round}"));
        for ran in [reader].into_iter().chain(writers).map(Started::end) {
            ran.ended(0).silent();
        }
        let read = job.restored(&format!("read{round}"));
        assert_equal(&night, &read, Leave::default(), "read beside two writers");
        for name in ["one", "two"] {
            let target = format!("back-{name}-{round}");
            job.expect(0, &format!("restore latest --host {name} --target @/{target}")).silent();
            let source = job.place.path(name);
            let back = job.place.path(&target).join(source.strip_prefix("/").unwrap());
            assert_equal(&compare::read(&source), &back, Leave::default(), name);
            fs::write(source.join(format!("new{round}")), vec![round; 100_000]).unwrap();
        }
    }
    job.expect(0, "check --read-data").silent();
    // Who comes later stores nothing of what both have.
    write_tree(&job.place.path("three"), 3, 12, 300_000).unwrap();
    let mut late = job.command("backup @/three --host three --json");
    late.env("XDG_CACHE_HOME", job.place.path("cache/four"));
    let late = Started::of("backup @/three", late).end().ended(0);
    let stored = figure(&late, "data_added");
    assert!(stored < 20_000, "a manifest and no data: {stored}");
}

/// Catches settings that reach only some of the requests: encryption, its key, classes; and creates without
/// condition or checksum.
#[test]
fn what_is_asked_of_the_store_goes_with_each_object() {
    let bucket = Bucket::new();
    let job = Job::with(&bucket);
    write_tree(&job.place.path("source"), 1, 10, 100_000).unwrap();
    fs::write(job.place.path("key"), [7; 32]).unwrap();
    job.init();
    let number = AtomicUsize::new(0);
    let run = |line: &str| {
        // Something new each time.
        let new = format!("source/new{}", number.fetch_add(1, Ordering::SeqCst));
        fs::write(job.place.path(&new), &new).unwrap();
        bucket.proxy.take();
        job.expect(0, line);
        bucket.proxy.take()
    };
    let header = |seen: &Seen, name: &str| seen.header(name).unwrap_or_default().to_owned();
    let puts = |seen: Vec<Seen>| -> Vec<Seen> {
        let puts: Vec<Seen> = seen.into_iter().filter(|seen| seen.method == "PUT").collect();
        assert!(puts.len() >= 3, "{puts:?}");
        puts
    };

    for put in puts(run("backup @/source")) {
        assert_eq!(header(&put, "if-none-match"), "*", "{}", put.path);
        assert_eq!(header(&put, "x-amz-checksum-crc32c").len(), 8, "{}", put.path);
        for absent in ["x-amz-server-side-encryption", "x-amz-storage-class"] {
            assert_eq!(header(&put, absent), "", "{}", put.path);
        }
    }
    for put in puts(run("backup @/source --s3-sse s3")) {
        assert_eq!(header(&put, "x-amz-server-side-encryption"), "AES256", "{}", put.path);
    }
    for put in puts(run("backup @/source --s3-sse kms --s3-kms-key arn:aws:kms:key/1")) {
        assert_eq!(header(&put, "x-amz-server-side-encryption"), "aws:kms", "{}", put.path);
        let key = header(&put, "x-amz-server-side-encryption-aws-kms-key-id");
        assert_eq!(key, "arn:aws:kms:key/1", "{}", put.path);
    }
    let customer = "--s3-sse customer --s3-customer-key-file @/key";
    let mut seen = run(&format!("backup @/source {customer}"));
    seen.extend(run(&format!("restore latest --target @/back {customer}")));
    assert!(seen.iter().any(|seen| seen.class() == "GET packs"));
    for seen in &seen {
        let is_of_an_object = seen.path.contains(PREFIX) && seen.method != "DELETE";
        let algorithm = if is_of_an_object { "AES256" } else { "" };
        let name = "x-amz-server-side-encryption-customer-algorithm";
        assert_eq!(header(seen, name), algorithm, "{} {}", seen.method, seen.path);
    }
    assert_eq!(objects(&bucket.directory()).len(), bucket.names("").len());
}

/// Catches packs of manifests on storage that every backup would wait for, and packs of data that are not on
/// the storage that was asked for.
#[test]
fn only_packs_of_data_are_on_slower_storage() {
    let bucket = Bucket::new();
    let job = Job::with(&bucket);
    write_tree(&job.place.path("source"), 1, 10, 200_000).unwrap();
    job.init();
    bucket.proxy.take();
    job.expect(0, "backup @/source --s3-data-class REDUCED_REDUNDANCY --s3-class STANDARD");
    let (mut data, mut meta) = (0, 0);
    for put in bucket.proxy.take().iter().filter(|seen| seen.method == "PUT") {
        match (put.header("x-amz-storage-class"), put.class() == "PUT packs") {
            (Some("REDUCED_REDUNDANCY"), true) => data += 1,
            (Some("STANDARD"), true) => meta += 1,
            (class, is_pack) => assert!(class == Some("STANDARD") && !is_pack, "{put:?}"),
        }
    }
    assert!(data >= 1 && meta == 1, "{data} packs of data, {meta} of manifests");
}
