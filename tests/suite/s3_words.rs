//! What a new user of repositories in buckets is told: where something is lost, where the store or its keys
//! are not found, where the store does not do what is asked of it.

use std::fs;

use colvault_engine::testing::trees::write_tree;

use crate::support::program::{Place, Ran, write};
use crate::support::s3::{
    Bucket, Fault, Job, Made, Moto, PREFIX, Rule, figure, with_keys, with_patience,
};

/// A bucket with a repository and a backup of `@/source`.
fn backed_up() -> (Bucket, Job) {
    let bucket = Bucket::new();
    let job = Job::with(&bucket);
    write_tree(&job.place.path("source"), 1, 10, 100_000).unwrap();
    job.init_and_back_up();
    (bucket, job)
}

/// Runs a line without `--repo`.
fn run(place: &Place, line: &str, environment: &[(&str, &str)]) -> Ran {
    let mut command = place.command(line);
    with_patience(&mut command).envs(environment.iter().copied());
    Ran::of(line, command.output().unwrap())
}

/// Catches advice for directories where a bucket has lost a pack: there are no directories, and the bucket
/// may have what was deleted.
#[test]
fn what_to_do_after_loss_is_said_for_buckets() {
    let (bucket, job) = backed_up();
    let undelete = format!("colvault -r {} repair undelete brings back", bucket.location());
    for line in ["check", "backup @/source --host h"] {
        job.expect(0, line).silent();
    }
    for pack in bucket.names("packs/") {
        fs::remove_file(bucket.directory().join(pack)).unwrap();
    }
    let check = job.expect(20, "check").complains(&undelete);
    assert!(!check.err.contains("out of its packs directory"), "{}", check.err);
    job.expect(3, "backup @/source --host h").complains("missing-object").complains(&undelete);
}

/// Catches a restore that lacks content and says nothing of where it may be had.
#[test]
fn a_restore_that_lacks_content_says_where_it_may_be_had() {
    let (bucket, job) = backed_up();
    // The largest pack is one of data.
    let size = |pack: &String| fs::metadata(bucket.directory().join(pack)).unwrap().len();
    let largest = bucket.names("packs/").into_iter().max_by_key(size).unwrap();
    fs::remove_file(bucket.directory().join(largest)).unwrap();
    job.expect(3, "restore latest --target @/back").complains("repair undelete brings back");
}

/// Catches a repository whose config was deleted, and an `init` that has no other advice than its error.
#[test]
fn a_deleted_config_can_be_brought_back() {
    let (bucket, job) = backed_up();
    fs::remove_file(bucket.directory().join("config")).unwrap();
    job.expect(1, "init --encryption none")
        .complains("whose config is missing")
        .complains("hint: config was deleted from it: colvault -r REPOSITORY repair undelete");
}

/// Catches a next line that goes to another store, or to none, when it is copied.
#[test]
fn the_next_line_can_be_copied() {
    let bucket = Bucket::new();
    let place = Place::quick();
    write(place.path("source/file"), "content");
    let endpoint = bucket.proxy.endpoint();
    let repository = format!("s3://bucket/{}", PREFIX.trim_end_matches('/'));
    let mut line = format!(
        "--s3-endpoint {endpoint} -r {repository} --s3-connections 3 init --encryption none"
    );
    for expected in [
        format!("colvault -r {repository} --s3-endpoint {endpoint} backup --root /"),
        format!("try a restore: colvault -r {repository} --s3-endpoint {endpoint} restore "),
    ] {
        let mut command = place.command(&line);
        let ran = Ran::of(&line, with_keys(&mut command).output().unwrap()).ended(0);
        let next = ran.out.lines().find_map(|line| line.strip_prefix("next: ")).unwrap();
        assert!(next.starts_with(&expected), "{next}");
        // It leads to the same repository.
        line = next.replace("colvault ", "").replace("--root /", "@/source");
    }
    // What the environment says holds again by itself.
    let line = format!("init --encryption none -r {repository}x");
    let mut command = place.command(&line);
    with_keys(&mut command).env("COLVAULT_S3_ENDPOINT", &endpoint);
    let ran = Ran::of(&line, command.output().unwrap()).ended(0);
    assert!(ran.out.contains(&format!("next: colvault -r {repository}x backup")), "{}", ran.out);
}

/// Catches a store, a proxy or a service of roles that is not reached and not named.
#[test]
fn who_is_not_reached_is_named() {
    let (bucket, job) = backed_up();
    let closed = Job::on("http://127.0.0.1:1", "bucket");
    closed.expect(1, "snapshots").complains("no whole answer of http://127.0.0.1:1: tcp connect");
    Job::on("http://127.0.0.1:2", "bucket")
        .set("HTTP_PROXY", "http://127.0.0.1:3")
        .expect(1, "snapshots")
        .complains("of http://127.0.0.1:2 through the proxy http://127.0.0.1:3:");
    let plain = Moto::server().endpoint().replace("http://", "https://");
    Job::on(&plain, "bucket")
        .expect(1, "snapshots")
        .complains(&format!("no whole answer of {plain}"))
        .complains("does not speak TLS: name the store with http://");
    job.expect(0, "snapshots").silent();
    Job::with(&bucket)
        .set("COLVAULT_S3_ROLE", "arn:aws:iam::123456789012:role/backup")
        .set("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:4")
        .set("AWS_REGION", "eu-west-1")
        .expect(1, "snapshots")
        .complains("role arn:aws:iam::123456789012:role/backup: it cannot be taken on at http://127.0.0.1:4;");
}

/// Catches credentials that are missing and not told of in words of a user: half of a pair, a profile that is
/// not there, single sign-on, nothing at all.
#[test]
fn which_credentials_are_missing_is_said() {
    let place = Place::quick();
    let bucket = Bucket::new();
    let line = format!("snapshots -r {}", bucket.location());
    let config = "[profile signs-on]\nsso_start_url = https://example.com/start\nsso_region = eu-west-1\n\
                  sso_account_id = 123456789012\nsso_role_name = backup\nregion = eu-west-1\n";
    write(place.path("home/.aws/config"), config);
    let set = |environment: &[(&str, &str)]| {
        let ran = run(&place, &line, environment).ended(1);
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
        ran
    };
    set(&[]).complains("no credentials: access keys are looked for in AWS_ACCESS_KEY_ID");
    set(&[("AWS_ACCESS_KEY_ID", "AKIA")])
        .complains("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not");
    set(&[("AWS_SECRET_ACCESS_KEY", "word")])
        .complains("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not");
    let none = "profile nix: it is neither in ~/.aws/config nor in ~/.aws/credentials";
    set(&[("AWS_PROFILE", "nix")]).complains(none);
    run(&place, &format!("{line} --s3-profile nix"), &[]).ended(1).complains(none);
    for ran in [
        set(&[("AWS_PROFILE", "signs-on")]),
        run(&place, &format!("{line} --s3-profile signs-on"), &[]).ended(1),
    ] {
        ran.complains("single sign-on is not supported")
            .complains("aws configure export-credentials");
    }
    assert_eq!(bucket.proxy.take().len(), 0, "nothing is asked without keys");
}

/// Catches a restore into a directory that is called like a bucket.
#[test]
fn a_bucket_is_no_target_of_a_restore() {
    let (_bucket, job) = backed_up();
    for line in ["--target s3://other/place", "--map files=s3:https://host/other"] {
        job.expect(2, &format!("restore latest {line}"))
            .complains("a directory expected, found a bucket");
    }
    assert!(!job.place.path("s3:").exists());
    job.expect(0, "restore latest --target ./s3:x").silent();
}

/// Catches a storage class that the store does not have and that the first backup finds out, or that is
/// refused without a word on which it was.
#[test]
fn a_storage_class_that_is_not_there_is_found_by_init() {
    let refuses = |class: &'static str| {
        let bucket = Bucket::new();
        let fault = Fault::Error { status: 400, code: "InvalidStorageClass", headers: Vec::new() };
        let rule =
            Rule::new(fault).when(move |seen| seen.header("x-amz-storage-class") == Some(class));
        bucket.proxy.add(rule);
        let job = Job::with(&bucket);
        (bucket, job)
    };
    for (setting, class) in [("data_class", "REDUCED_REDUNDANCY"), ("class", "STANDARD_IA")] {
        let (bucket, job) = refuses(class);
        let option = setting.replace('_', "-");
        job.expect(1, &format!("init --encryption none --s3-{option} {class}"))
            .complains("the store does not have this storage class")
            .complains(&format!("s3.{setting} asks for the class {class}"));
        assert!(bucket.names("").is_empty(), "{:?}", bucket.names(""));
        // A backup that asks for it says so, too.
        job.init();
        write(job.place.path("source/file"), "content");
        job.expect(1, &format!("backup @/source --s3-{option} {class}"))
            .complains(&format!("s3.{setting} asks for the class {class}"));
    }
}

/// Catches encryption that is asked for and taken for granted, and a text that says the bucket alone is
/// enough to read data for which a key is needed.
#[test]
fn encryption_by_the_store_is_seen() {
    let bucket = Bucket::new();
    let job = Job::with(&bucket);
    fs::write(job.place.path("key"), [7; 32]).unwrap();
    for (options, expected) in [
        ("--s3-sse s3", "encryption by the store (AES256) expected"),
        ("--s3-sse kms --s3-kms-key key", "encryption by the store (aws:kms) expected"),
        ("--s3-sse customer --s3-customer-key-file @/key", "the customer's key (AES256) expected"),
    ] {
        // The store in this process takes the wish and does nothing.
        job.expect(1, &format!("init --encryption none {options}"))
            .complains(expected)
            .complains("hint: this store may not have such encryption");
        assert!(bucket.names("").is_empty(), "{:?}", bucket.names(""));
    }
    // A store that encrypts so does not give an object to who has no key.
    let without_key = Rule::new(Fault::Error { status: 400, code: "", headers: Vec::new() })
        .method("HEAD")
        .path("/probes/")
        .when(|seen| seen.header("x-amz-server-side-encryption-customer-algorithm").is_none());
    bucket.proxy.add(without_key);
    let ran =
        job.expect(0, "init --encryption none --s3-sse customer --s3-customer-key-file @/key");
    assert!(ran.out.contains("every restore needs that key"), "{}", ran.out);
    assert!(!ran.out.contains("whoever can read the bucket"), "{}", ran.out);
    let moto = Moto::server();
    let on_moto = |options: &str| {
        let job = Job::on(moto.endpoint(), &moto.bucket(Made::Plain));
        fs::write(job.place.path("key"), [7; 32]).unwrap();
        job.expect(0, &format!("init --encryption none {options}"))
    };
    for options in ["--s3-sse s3", "--s3-sse kms --s3-kms-key key"] {
        let ran = on_moto(options);
        assert!(ran.out.contains("whoever can read the bucket can read the data"), "{}", ran.out);
    }
}

/// Catches a repository in the middle of another, whose objects would be foreign there; and a place that is
/// refused because of something else that is called config.
#[test]
fn no_repository_is_made_within_another() {
    let bucket = Bucket::new();
    let root = bucket.location();
    let place = Place::quick();
    let init = |code: i32, repository: &str| {
        let line = format!("init --encryption none -r {repository}");
        let mut command = place.command(&line);
        Ran::of(&line, with_keys(&mut command).output().unwrap()).ended(code)
    };
    init(0, &root);
    for below in ["packs", "x/y/z"] {
        init(1, &format!("{root}/{below}")).complains("this is within s3://bucket/deep/er");
    }
    // Beside it is another matter, whatever is called config above.
    write(bucket.directory().join("../config"), "of somebody else");
    init(0, &format!("{root}-beside"));
}

/// Catches an unprotected way to the store that nobody is told of, where the data itself is not encrypted.
#[test]
fn a_way_without_tls_is_warned_of_once() {
    let (bucket, _job) = backed_up();
    let place = Place::quick();
    let port = bucket.proxy.endpoint().rsplit_once(':').unwrap().1.to_owned();
    // This host, by an address that is not loopback.
    let repository = format!("s3:http://0.0.0.0:{port}/bucket/elsewhere");
    let run = |line: &str| {
        let line = format!("{line} -r {repository}");
        let mut command = place.command(&line);
        Ran::of(&line, with_keys(&mut command).output().unwrap()).ended(0)
    };
    run("init --encryption none").complains("warning: everything goes to http://0.0.0.0:");
    assert!(!run("snapshots").err.contains("warning:"));
}

/// Catches sessions that were killed and are told of as if they ran for ever, nobody knows where.
#[test]
fn sessions_that_ended_without_a_word_are_named() {
    let (bucket, job) = backed_up();
    let lease = bucket.directory().join("leases");
    // A backup that may not delete its lease leaves it behind.
    bucket.proxy.add(Rule::new(Fault::denied()).when(|seen| seen.method == "DELETE"));
    job.run("backup @/source --host db1");
    bucket.proxy.clear();
    assert_eq!(fs::read_dir(&lease).unwrap().count(), 1);
    let check = job.expect(0, "check");
    assert!(
        check.out.contains(
            "1 session running, or ended without saying so; that does no harm:\n    backup of "
        ),
        "{}",
        check.out
    );
    assert!(check.out.contains(", process ") && check.out.contains(", began 20"), "{}", check.out);
}

/// Catches advice that people get and programs do not.
#[test]
fn hints_are_for_programs_too() {
    let place = Place::quick();
    for line in ["snapshots -r s3:", "init -r s3://bucket", "snapshots"] {
        let text = place.expect(2, line);
        let hint = text.err.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap();
        let told = place.expect(2, &format!("{line} --json"));
        let told: serde_json::Value = serde_json::from_str(told.err.trim()).unwrap();
        assert_eq!(told["hint"], hint, "{line}");
    }
}

/// Catches two stores, one in the repository's name and one in its setting, of which the one is asked that was
/// said farther from the command line.
#[test]
fn the_store_that_is_said_in_the_higher_place_is_asked() {
    let (bucket, job) = backed_up();
    let named = |repository: &str, endpoint: &str, option: &str| {
        let line = format!("snapshots {option}");
        let mut command = job.place.command(&line);
        with_keys(&mut command).env("COLVAULT_REPOSITORY", repository);
        if !endpoint.is_empty() {
            command.env("COLVAULT_S3_ENDPOINT", endpoint);
        }
        Ran::of(&line, command.output().unwrap())
    };
    let (right, wrong) = (bucket.location(), "http://127.0.0.1:1");
    let elsewhere = right.replace(&bucket.proxy.endpoint(), wrong);
    let option = format!("--s3-endpoint {}", bucket.proxy.endpoint());
    named(&elsewhere, "", &option).ended(0).silent();
    named("/nowhere", wrong, &format!("-r {right}")).ended(0).silent();
    named(&right, wrong, "").ended(2).complains("only one endpoint expected");
}

/// Catches reports of locks and of what came back without the figures that all reports have.
#[test]
fn reports_about_buckets_have_the_figures_of_all_reports() {
    let moto = Moto::server();
    let job = Job::on(moto.endpoint(), &moto.bucket(Made::Lockable));
    write_tree(&job.place.path("source"), 1, 3, 5_000).unwrap();
    job.expect(0, "init --encryption none --object-lock 1");
    job.expect(0, "backup @/source").silent();
    for line in ["object-lock --dry-run --json", "repair undelete --dry-run --json"] {
        let ran = job.expect(0, line);
        assert_eq!(figure(&ran, "num_findings"), 0);
        assert!(ran.out.contains("\"total_duration\":"), "{}", ran.out);
    }
}

/// Catches a plan that leaves the round of locks out, which asks for each object that snapshots need, or that
/// expects one each time.
#[test]
fn a_plan_knows_of_the_round_of_locks() {
    let moto = Moto::server();
    let job = Job::on(moto.endpoint(), &moto.bucket(Made::Lockable));
    write_tree(&job.place.path("source"), 1, 10, 50_000).unwrap();
    job.expect(0, "init --encryption none --pack-size 1 --object-lock 30");
    for is_due in [true, false] {
        let planned = job.expect(0, "plan @/source --host h --json");
        let planned = figure(&planned, "forecast.traffic.heads");
        let made = figure(&job.expect(0, "backup @/source --host h --json"), "traffic.heads");
        assert!(planned.abs_diff(made) <= 2, "{planned} planned, {made} made");
        assert_eq!(made >= 4, is_due, "{made} questions");
    }
}
