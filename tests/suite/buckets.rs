//! The program on a repository in a bucket: what it says of the store, and of what it asked of it.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::support::program::{Place, Ran, write};
use crate::support::s3::{Bucket, Create, Seen, with_keys};

/// Runs a line with `BUCKET` for the repository.
fn run(place: &Place, bucket: &Bucket, code: i32, line: &str) -> Ran {
    let line = line.replace("BUCKET", &bucket.location());
    let mut command = place.command(&line);
    Ran::of(&line, with_keys(&mut command).output().unwrap()).ended(code)
}

/// Returns the last message of a run that wrote JSON.
fn last(ran: &Ran) -> Value {
    let line = ran.out.lines().last().unwrap_or_else(|| panic!("no message: {}", ran.err));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// What came through the proxy, under the names of `traffic`.
fn classes(seen: &[Seen]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::from(["puts", "lists", "gets", "heads", "deletes"].map(|n| (n, 0)));
    for seen in seen {
        let class = match seen.method.as_str() {
            "PUT" | "POST" => "puts",
            "HEAD" => "heads",
            "DELETE" => "deletes",
            // A listing is of the bucket itself.
            _ if seen.query.contains("list-type") || seen.query.contains("uploads") => "lists",
            _ => "gets",
        };
        *counts.entry(class).or_default() += 1;
    }
    counts
}

/// The classes of `traffic` in a message.
fn told(traffic: &Value) -> BTreeMap<&'static str, u64> {
    let names = ["puts", "lists", "gets", "heads", "deletes"];
    let number = |name| traffic[name].as_u64().unwrap_or_else(|| panic!("{name} in {traffic}"));
    names.map(|name| (name, number(name))).into()
}

/// Catches requests that are counted wrongly or not told, a forecast that is far from what a backup asks,
/// and objects of which `stats` counts other kinds than there are.
#[test]
fn what_is_asked_of_the_store_is_told() {
    let place = Place::quick();
    let bucket = Bucket::new();
    write(place.path("source/file"), "content");
    let json = |code, line: &str| {
        bucket.proxy.take();
        let ran = run(&place, &bucket, code, &format!("{line} --json"));
        let message = last(&ran);
        assert_eq!(told(&message["traffic"]), classes(&bucket.proxy.take()), "{line}");
        message
    };
    let created = json(0, "init -r BUCKET --encryption none");
    assert_eq!(created["store"]["create_only"], "kept");
    assert_eq!(created["repository"], bucket.location());
    for night in ["first", "second, with nothing new"] {
        let planned = json(0, "plan -r BUCKET @/source --ignore-ctime");
        let forecast = told(&planned["forecast"]["traffic"]);
        let backed_up = json(0, "backup -r BUCKET @/source --ignore-ctime");
        let made = told(&backed_up["traffic"]);
        // What a plan learns of the index a backup need not ask again; of a file that is read once more,
        // being too fresh, nothing may be new: then two packs and an index object are not written.
        for (class, number) in &made {
            let expected = forecast[class];
            assert!(number.abs_diff(expected) <= 3, "{night}: {forecast:?}, then {made:?}");
        }
        let text = run(&place, &bucket, 0, "plan -r BUCKET @/source");
        assert!(text.out.contains("\nrequests of the backup, an estimate: "), "{}", text.out);
    }
    json(0, "check -r BUCKET");
    json(0, "find -r BUCKET file");
    json(0, "diff -r BUCKET latest~1 latest");
    json(0, "dump -r BUCKET latest @/source/file --output @/dumped");
    let restored = json(0, "restore -r BUCKET latest --target @/back");
    assert!(restored["traffic"]["received"].as_u64().unwrap() > 0);
    let counted = json(0, "stats -r BUCKET --s3-class STANDARD --s3-data-class STANDARD_IA");
    let kinds = &counted["repository"]["objects"];
    for (kind, space) in [("indexes", "index"), ("snapshots", "snapshots")] {
        assert_eq!(kinds[kind]["count"], bucket.names(space).len(), "{kinds}");
        assert_eq!(kinds[kind]["class"], "STANDARD");
    }
    let packs = ["data_packs", "meta_packs"].map(|kind| kinds[kind]["count"].as_u64().unwrap());
    assert_eq!(packs.iter().sum::<u64>(), bucket.names("packs").len() as u64);
    assert_eq!(kinds["data_packs"]["class"], "STANDARD_IA");
    let text = run(&place, &bucket, 0, "stats -r BUCKET --s3-data-class STANDARD_IA").out;
    let row = text.lines().find(|line| line.starts_with("packs of data ")).expect("a row");
    assert!(row.ends_with("STANDARD_IA"), "{text}");
    assert!(text.contains("\nrequests: "), "{text}");
    assert_eq!(fs::read(place.path("dumped")).unwrap(), b"content");
}

/// Catches storage classes that are settings and nothing else.
#[test]
fn storage_classes_reach_the_store() {
    let place = Place::quick();
    let bucket = Bucket::new();
    write(place.path("source/file"), "content");
    run(&place, &bucket, 0, "init -r BUCKET --encryption none");
    bucket.proxy.take();
    run(&place, &bucket, 0, "backup -r BUCKET @/source --s3-data-class STANDARD");
    let seen = bucket.proxy.take();
    let classes: Vec<_> = seen
        .iter()
        .filter(|seen| seen.method == "PUT")
        .map(|seen| (seen.class(), seen.header("x-amz-storage-class").unwrap_or("-").to_owned()))
        .collect();
    // The store in this process knows no other class.
    let of = |class: &str| classes.iter().filter(|(_, found)| found == class).count();
    assert_eq!(of("STANDARD"), 1, "the pack of data alone: {classes:?}");
    assert_eq!(of("-"), classes.len() - 1, "{classes:?}");
}

/// Catches a store that replaces what is only to be created and is taken for one that does not: it has to
/// be told, remembered by the repository, and asked before each write.
#[test]
fn a_store_that_replaces_is_told_and_remembered() {
    let place = Place::quick();
    let bucket = Bucket::that(Create::Ignored);
    write(place.path("source/file"), "content");
    let created = run(&place, &bucket, 0, "init -r BUCKET --encryption none --json");
    assert_eq!(last(&created)["store"]["create_only"], "ignored");
    assert!(created.out.contains("do not revoke sessions or prune"), "{}", created.out);
    bucket.proxy.take();
    let backed_up = run(&place, &bucket, 0, "backup -r BUCKET @/source --json");
    let made = told(&last(&backed_up)["traffic"]);
    assert_eq!(made["heads"], made["puts"], "each create asks first");
    let second = run(&place, &bucket, 1, "init -r BUCKET --encryption none");
    second.complains("there is a repository already");
}

/// Catches a bucket whose objects cannot be locked, and a repository in it that says they are.
#[test]
fn a_bucket_without_object_lock_is_refused_when_objects_are_to_be_locked() {
    let place = Place::quick();
    let bucket = Bucket::new();
    let refused = run(&place, &bucket, 1, "init -r BUCKET --encryption none --object-lock 30");
    refused
        .complains("a bucket with object lock expected")
        .complains("hint: object lock wants versioning");
    assert!(bucket.names("").is_empty(), "nothing was made: {:?}", bucket.names(""));
}
