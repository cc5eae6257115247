//! Repositories in buckets and what is around them: where keys come from, clocks, versions, locks.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use colvault_engine::backend::{Backend, Key, Retention, S3Backend};
use colvault_engine::format::config::ObjectLockMode;
use colvault_engine::id::{PackId, SessionId};
use colvault_engine::testing::trees::write_tree;

use crate::support::s3::{
    ACCESS_KEY, Answer, Bucket, Fault, Job, Made, Metadata, Moto, PREFIX, Proxy, ROLE, Rule,
    SECRET_KEY, Seen, answering, ask, between, options,
};

/// The access key that a request was signed with.
fn signer(seen: &Seen) -> String {
    let authorization = seen.header("authorization").unwrap_or_default();
    let key = authorization.split_once("Credential=").and_then(|(_, rest)| rest.split_once('/'));
    key.map(|(key, _)| key.to_owned()).unwrap_or_default()
}

/// Makes a repository and lists its snapshots; returns the requests.
fn used(job: &Job, proxy: &Proxy) -> Vec<Seen> {
    proxy.take();
    job.init();
    job.expect(0, "snapshots").silent();
    proxy.take()
}

const ROLE_ARN: &str = "arn:aws:iam::123456789012:role/backup";

/// A repository on moto with the roles of moto, behind a proxy.
fn with_roles(proxy: &Proxy) -> Job {
    let moto = Moto::server();
    let job = Job::on(&proxy.endpoint(), &moto.bucket(Made::Plain));
    job.set("AWS_ENDPOINT_URL_STS", moto.endpoint()).set("AWS_REGION", "us-east-1")
}

/// Catches a role that is asked for and not taken on, or whose token does not go with each request.
#[test]
fn a_role_is_taken_on() {
    let proxy = Proxy::before(Moto::server().endpoint());
    let job = with_roles(&proxy).set("COLVAULT_S3_ROLE", ROLE_ARN);
    for seen in used(&job, &proxy) {
        assert!(seen.header("x-amz-security-token").is_some(), "{seen:?}");
        assert!(signer(&seen).starts_with("ASIA"), "{seen:?}");
    }
}

/// Catches a token of a web identity that is not found: how hosts in Kubernetes get their keys.
#[test]
fn a_web_identity_is_taken_on() {
    let proxy = Proxy::before(Moto::server().endpoint());
    let job = with_roles(&proxy)
        .without_keys()
        .set("AWS_WEB_IDENTITY_TOKEN_FILE", "@/token")
        .set("AWS_ROLE_ARN", ROLE_ARN)
        .set("AWS_ROLE_SESSION_NAME", "backup");
    fs::write(job.place.path("token"), "eyJhbGciOiJSUzI1NiJ9.e30.c2ln").unwrap();
    for seen in used(&job, &proxy) {
        assert!(signer(&seen).starts_with("ASIA"), "{seen:?}");
    }
}

/// Catches an instance's role that is not asked for, or with the protocol that hosts forbid; and keys that
/// are asked for again with each request.
#[test]
fn the_role_of_an_instance_is_used() {
    let (bucket, metadata) = (Bucket::new(), Metadata::start());
    let job = metadata.told_to(Job::with(&bucket));
    assert!(!ROLE.is_empty());
    for seen in used(&job, &bucket.proxy) {
        assert_eq!(signer(&seen), ACCESS_KEY);
        assert!(seen.header("x-amz-security-token").is_some(), "{seen:?}");
    }
    assert_eq!(metadata.given(), 2, "once for each of two runs");
}

/// Lets the store take the first keys that it sees for the first requests alone: returns how many of the
/// later ones were refused, and with how many keys it was asked.
fn with_keys_that_end(job: &Job, proxy: &Proxy) -> (usize, usize) {
    write_tree(&job.place.path("source"), 1, 30, 300_000).unwrap();
    job.init();
    let first = OnceLock::new();
    let is_first = move |seen: &Seen| {
        let token = seen.header("x-amz-security-token").unwrap_or_default().to_owned();
        *first.get_or_init(|| token.clone()) == token
    };
    let expired = Fault::Error { status: 400, code: "ExpiredToken", headers: Vec::new() };
    proxy.take();
    proxy.add(Rule::new(expired).when(is_first).after(8));
    job.expect(0, "backup @/source").silent();
    proxy.clear();
    let seen = proxy.take();
    job.expect(0, "check --read-data").silent();
    let tokens: BTreeSet<_> =
        seen.iter().filter_map(|seen| seen.header("x-amz-security-token")).collect();
    (seen.iter().filter(|seen| seen.fault.is_some()).count(), tokens.len())
}

/// Catches keys that end amid a backup and end it; and many requests that are refused at once and ask for new
/// keys each.
#[test]
fn keys_that_end_are_renewed() {
    let (bucket, metadata) = (Bucket::new(), Metadata::start());
    let job = metadata.told_to(Job::with(&bucket));
    let (refused, keys) = with_keys_that_end(&job, &bucket.proxy);
    assert!(refused >= 1 && keys == 2, "{refused} refused, {keys} keys");
    assert_eq!(metadata.given(), 4, "init, backup twice, check");

    let proxy = Proxy::before(Moto::server().endpoint());
    let job = with_roles(&proxy).set("COLVAULT_S3_ROLE", ROLE_ARN);
    let (refused, keys) = with_keys_that_end(&job, &proxy);
    assert!(refused >= 1 && keys == 2, "{refused} refused, {keys} keys");
}

/// Catches a role whose keys end together with those in whose name it was taken on, and a client that asks for
/// the first alone.
#[test]
fn keys_that_end_with_those_they_came_from_are_renewed() {
    let (metadata, moto) = (Metadata::start(), Moto::server());
    let (proxy, sts) = (Proxy::before(moto.endpoint()), Proxy::before(moto.endpoint()));
    let job = with_roles(&proxy)
        .set("AWS_ENDPOINT_URL_STS", &sts.endpoint())
        .set("COLVAULT_S3_ROLE", ROLE_ARN);
    let job = metadata.told_to(job);
    let expired = Fault::Error { status: 403, code: "ExpiredTokenException", headers: Vec::new() };
    // Of the run that is going to be looked at, the first keys are good for one role.
    let last = Mutex::new((String::new(), 0));
    let is_used_up = move |seen: &Seen| {
        let token = seen.header("x-amz-security-token").unwrap_or_default();
        let mut last = last.lock().unwrap();
        if last.0 != token {
            *last = (token.to_owned(), 0);
        }
        last.1 += 1;
        last.1 > 1
    };
    sts.add(Rule::new(expired).when(is_used_up));
    let (refused, keys) = with_keys_that_end(&job, &proxy);
    assert!(refused >= 1 && keys == 2, "{refused} refused, {keys} keys");
    assert_eq!(metadata.given(), 4, "init, backup twice, check");
}

/// Catches a profile that is not read, and keys that another program gives and that are not asked for.
#[test]
fn a_profile_names_keys_or_who_gives_them() {
    let bucket = Bucket::new();
    let job = Job::with(&bucket).without_keys().set("AWS_CONFIG_FILE", "@/config");
    let helper = job.place.path("give-keys");
    let keys = format!(
        "#!/bin/sh\necho '{{\"Version\":1,\"AccessKeyId\":\"{ACCESS_KEY}\",\"SecretAccessKey\":\"{SECRET_KEY}\"}}'\n"
    );
    fs::write(&helper, keys).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o700)).unwrap();
    let config = format!(
        "[profile asks]\ncredential_process = {}\n\
         [profile says]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n",
        helper.display()
    );
    fs::write(job.place.path("config"), config).unwrap();
    job.expect(0, "init --encryption none --s3-profile asks");
    job.expect(0, "snapshots --s3-profile says").silent();
    assert!(bucket.proxy.take().iter().all(|seen| signer(seen) == ACCESS_KEY));
    let told = job.run("snapshots --s3-profile missing");
    assert!(told.code != Some(0) && told.err.contains("missing"), "{told:?}");
}

/// Catches keys that are missing or wrong and are not called that, or that are tried again and again.
#[test]
fn missing_and_wrong_keys_are_told() {
    let bucket = Bucket::new();
    let job = Job::with(&bucket);
    job.init();
    bucket.proxy.take();
    let none = Job::with(&bucket).without_keys().run("snapshots");
    assert!(none.code == Some(1) && none.err.contains("AWS_ACCESS_KEY_ID"), "{none:?}");
    assert_eq!(bucket.proxy.take().len(), 0, "nothing is asked without keys");
    let wrong = Job::with(&bucket).set("AWS_SECRET_ACCESS_KEY", "wrong").run("snapshots");
    assert!(wrong.code == Some(1) && wrong.err.contains("SignatureDoesNotMatch"), "{wrong:?}");
    assert_eq!(bucket.proxy.take().len(), 1, "a wrong key is wrong the second time too");
    let unknown = Job::with(&bucket).set("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN").run("snapshots");
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert_eq!(bucket.proxy.take().len(), 1);
    for ran in [none, wrong, unknown] {
        assert!(!ran.err.contains(SECRET_KEY), "{ran:?}");
    }
}

/// Catches a clock that is wrong by an hour and stops every backup, and a correction that is forgotten: the
/// store's own time is used after the first request.
#[test]
fn a_clock_that_is_wrong_is_corrected() {
    let moto = Moto::server();
    let proxy = Proxy::before(moto.endpoint());
    let job = Job::on(&proxy.endpoint(), &moto.bucket(Made::Plain));
    write_tree(&job.place.path("source"), 1, 10, 50_000).unwrap();
    let ahead = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let is_before = move |seen: &Seen| {
        let limit = ahead - jiff::SignedDuration::from_mins(15);
        seen.header("x-amz-date").unwrap_or_default()
            < limit.strftime("%Y%m%dT%H%M%SZ").to_string().as_str()
    };
    let date = ahead.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    proxy.add(Rule::new(Fault::skewed(date.clone())).when(is_before));
    proxy.add(Rule::new(Fault::Dated(date)));
    job.init();
    for line in ["backup @/source", "check --read-data", "restore latest --target @/back"] {
        proxy.take();
        job.expect(0, line).silent();
        let seen = proxy.take();
        let refused = seen.iter().filter(|seen| seen.status == Some(403)).count();
        assert!(refused == 1 && seen.len() > 5, "{line}: {refused} of {}", seen.len());
    }
}

/// The repository of a directory in a bucket on moto, for the engine.
fn backend(bucket: &str) -> S3Backend {
    S3Backend::connect(&options(Moto::server().endpoint(), bucket)).unwrap()
}

/// Catches parts of objects that were left behind and are paid for ever, and a clean-up that takes away what
/// others have begun.
#[test]
fn uploads_that_were_left_behind_are_cleaned_up() {
    let moto = Moto::server();
    let bucket = moto.bucket(Made::Plain);
    let begin = |key: &str| {
        let target = format!("/{bucket}/{key}?uploads");
        assert_eq!(ask(moto.endpoint(), "POST", &target, "", "").0, 200);
    };
    let unfinished = || {
        let (_, answer) = ask(moto.endpoint(), "GET", &format!("/{bucket}?uploads"), "", "");
        between(&answer, "<Key>", "</Key>").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    // moto says of all that they began in 2010.
    begin(&format!("{PREFIX}{}", Key::Pack(PackId([0; 32]))));
    begin(&format!("{PREFIX}{}", Key::Pack(PackId([1; 32]))));
    // A prefix may be that of other programs too, and a bucket without one is.
    let foreign = [
        format!("{PREFIX}packs/00/dump.sql"),
        format!("{PREFIX}video/2026.mkv"),
        format!("of-somebody-else/{}", Key::Pack(PackId([0; 32]))),
    ];
    foreign.iter().for_each(|key| begin(key));
    assert_eq!(unfinished().len(), 5);
    backend(&bucket).clean_up().unwrap();
    assert_eq!(unfinished(), foreign);
    // A store that does not know the question is not cleaned up, and that is no error; neither is one that
    // has no time for it.
    Bucket::new().backend().clean_up().unwrap();
    let busy = Bucket::new();
    busy.proxy.add(Rule::new(Fault::slow_down()).query("uploads"));
    busy.backend().clean_up().unwrap();
}

/// Catches a host whose clock is ahead by weeks and that takes away what others are sending just now.
#[test]
fn the_age_of_uploads_is_told_by_the_clock_of_the_store() {
    let deleted = |date: &'static str| {
        let count = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&count);
        let store = answering(move |asked| {
            if asked.method == "DELETE" {
                counting.fetch_add(1, Ordering::SeqCst);
                return Answer::new(204, "application/xml", "");
            }
            let key = Key::Pack(PackId([0; 32]));
            let body = format!(
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload>\
                 <Key>{PREFIX}{key}</Key><UploadId>1</UploadId>\
                 <Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload>\
                 </ListMultipartUploadsResult>"
            );
            let mut answer = Answer::new(200, "application/xml", body);
            answer.headers.push(("Date".to_owned(), date.to_owned()));
            answer
        });
        let options = options(&store.endpoint(), "bucket");
        S3Backend::connect(&options).unwrap().clean_up().unwrap();
        count.load(Ordering::SeqCst)
    };
    assert_eq!(deleted("Fri, 12 Nov 2010 20:48:33 GMT"), 0, "after two days");
    assert_eq!(deleted("Fri, 19 Nov 2010 20:48:33 GMT"), 1, "after nine days");
}

/// Catches locks that are asked for and not set, set on what has to go, or that end too soon.
#[test]
fn locked_objects_stay() {
    let moto = Moto::server();
    let bucket = moto.bucket(Made::Lockable);
    let job = Job::on(moto.endpoint(), &bucket);
    job.expect(
        0,
        "init --encryption none --pack-size 1 --object-lock 30 --object-lock-mode compliance",
    );
    write_tree(&job.place.path("source"), 1, 10, 50_000).unwrap();
    job.expect(0, "backup @/source --host h").silent();
    let (_, versions) = ask(moto.endpoint(), "GET", &format!("/{bucket}?versions"), "", "");
    let mut locked = 0;
    // Longer by half, so that a lock is not extended at once.
    let soonest = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(44 * 24);
    for version in between(&versions, "<Version>", "</Version>") {
        let field = |name: &str| {
            between(version, &format!("<{name}>"), &format!("</{name}>"))[0].to_owned()
        };
        let (key, id) = (field("Key"), field("VersionId"));
        let target = format!("/{bucket}/{key}?versionId={id}");
        let (_, head) = ask(moto.endpoint(), "HEAD", &target, "", "");
        let until = between(&head, "x-amz-object-lock-retain-until-date: ", "\r\n");
        if key.contains("/leases/") || key.contains("/probes/") {
            assert_eq!(until, Vec::<&str>::new(), "{key} has to go");
            continue;
        }
        assert!(head.contains("x-amz-object-lock-mode: COMPLIANCE"), "{key}: {head}");
        let until: jiff::Timestamp = until[0].parse().unwrap();
        assert!(until > soonest, "{key} until {until}");
        let (status, _) = ask(moto.endpoint(), "DELETE", &target, "", "");
        assert_eq!(status, 403, "{key} stays");
        locked += 1;
    }
    assert!(locked >= 5, "{locked}");

    let backend = backend(&bucket);
    backend.set_lock(Some((ObjectLockMode::Governance, 2)));
    let key = Key::Pack(PackId([1; 32]));
    backend.put_new(&key, &[b"pack"]).unwrap();
    let first = backend.retention(&key).unwrap().unwrap();
    assert_eq!(first.mode, Some(ObjectLockMode::Governance));
    let until = first.until + std::time::Duration::from_secs(86_400);
    backend.extend_lock(&key, Retention { until, ..first }).unwrap();
    assert!(backend.retention(&key).unwrap().unwrap().until > first.until);
    let lease = Key::Lease(SessionId([1; 16]));
    backend.put_new(&lease, &[b"lease"]).unwrap();
    assert_eq!(backend.retention(&lease).unwrap(), None);
}

/// Catches locks that are promised where the bucket knows none.
#[test]
fn locks_are_refused_where_the_bucket_has_none() {
    let moto = Moto::server();
    let job = Job::on(moto.endpoint(), &moto.bucket(Made::Plain));
    let told = job.run("init --encryption none --object-lock 30");
    assert!(told.code != Some(0) && told.err.contains("object lock"), "{told:?}");
    job.expect(10, "snapshots");
}

/// Catches a mode that is asked for and dropped, a repository that locks nothing where its owner thinks it
/// does, and a default of the bucket that is taken without a word.
#[test]
fn init_says_what_is_locked_and_why() {
    let moto = Moto::server();
    let bucket = moto.bucket(Made::Lockable);
    let job = Job::on(moto.endpoint(), &bucket);
    let told = job.run("init --encryption none --object-lock-mode compliance").ended(2);
    assert!(told.err.contains("--object-lock DAYS"), "{told:?}");
    let told = job.init();
    assert!(told.err.contains("will lock nothing"), "{told:?}");
    assert!(told.err.contains("cannot be added later"), "{told:?}");

    let bucket = moto.bucket(Made::Lockable);
    let body = "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                <ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                <Mode>COMPLIANCE</Mode><Days>7</Days></DefaultRetention></Rule>\
                </ObjectLockConfiguration>";
    let target = format!("/{bucket}?object-lock");
    assert_eq!(ask(moto.endpoint(), "PUT", &target, "", body).0, 200);
    let job = Job::on(moto.endpoint(), &bucket);
    let told = job.init();
    assert!(!told.err.contains("lock"), "{told:?}");
    assert!(told.out.contains("7 days") && told.out.contains("mode compliance"), "{told:?}");
    assert!(told.out.contains("default retention, taken over"), "{told:?}");

    let job = Job::on(moto.endpoint(), &moto.bucket(Made::Lockable));
    let told = job.expect(0, "init --encryption none --object-lock 3");
    assert!(!told.err.contains("lock"), "{told:?}");
    assert!(!told.out.contains("default retention"), "{told:?}");
}
