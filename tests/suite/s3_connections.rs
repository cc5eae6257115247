//! The way to a store: certificates, and the proxies of a site.

use std::fs;

use colvault_engine::testing::trees::write_tree;

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::s3::{Authority, BUCKET, Bucket, Job, Tls, Tunnel};

/// A host name that no resolver knows: who reaches it has asked the proxy.
const STORE: &str = "store.colvault.invalid";

/// Makes a repository, backs a tree up and restores it.
fn does_a_job(job: &Job) {
    write_tree(&job.place.path("source"), 1, 10, 100_000).unwrap();
    job.init();
    job.expect(0, "backup @/source");
    job.expect(0, "restore latest --target @/back");
    let expected = compare::read(&job.place.path("source"));
    assert_equal(&expected, &job.restored("back"), Leave::default(), "through the line");
}

/// Catches authorities that are given and not trusted, and stores that are reached without TLS.
#[test]
fn an_authority_of_ones_own_is_trusted() {
    let (bucket, authority) = (Bucket::new(), Authority::new());
    let tls = Tls::before(&bucket.proxy.endpoint(), authority.issue("127.0.0.1"));
    let job = Job::on(&tls.endpoint(), BUCKET).set("COLVAULT_S3_CA_FILE", "@/ca.pem");
    fs::write(job.place.path("ca.pem"), authority.pem()).unwrap();
    does_a_job(&job);
    assert!(bucket.proxy.take().len() > 10);
}

/// Catches certificates that are taken without being good; errors that do not say what is wrong with one and
/// what to do; and requests that are sent again although no wait makes a certificate good.
#[test]
fn a_certificate_that_is_not_good_is_refused() {
    let (bucket, authority) = (Bucket::new(), Authority::new());
    let store = bucket.proxy.endpoint();
    for (certificate, is_trusted, words) in [
        (authority.issue("127.0.0.1"), false, ["certificate is not trusted", "--s3-ca-file"]),
        (authority.issue("elsewhere.example"), true, ["for another host", "--s3-endpoint"]),
        (authority.issue_expired("127.0.0.1"), true, ["certificate has expired", "clock"]),
    ] {
        let tls = Tls::before(&store, certificate);
        let mut job = Job::on(&tls.endpoint(), BUCKET);
        if is_trusted {
            job = job.set("COLVAULT_S3_CA_FILE", "@/ca.pem");
        }
        fs::write(job.place.path("ca.pem"), authority.pem()).unwrap();
        for line in ["init --encryption none", "snapshots"] {
            let told = job.expect(1, line);
            assert!(words.iter().all(|word| told.err.contains(word)), "{words:?}: {told:?}");
            assert!(!told.err.contains("tried"), "{told:?}");
        }
    }
    assert_eq!(bucket.proxy.take(), [], "nothing is asked over a line that is not trusted");
}

/// Catches a file of certificates that is missing or has none and is passed over.
#[test]
fn a_file_of_certificates_has_to_have_some() {
    let job = Job::with(&Bucket::new()).set("COLVAULT_S3_CA_FILE", "@/ca.pem");
    job.run("snapshots").ended(1).complains("ca.pem");
    fs::write(job.place.path("ca.pem"), "no certificate").unwrap();
    job.run("snapshots").ended(1).complains("certificates in PEM expected");
}

/// Catches a switch that does nothing, or that nobody hears of.
#[test]
fn any_certificate_is_taken_on_request_and_that_is_told() {
    let bucket = Bucket::new();
    for host in ["127.0.0.1", "elsewhere.example"] {
        let tls = Tls::before(&bucket.proxy.endpoint(), Authority::new().issue_expired(host));
        let job = Job::on(&tls.endpoint(), BUCKET);
        let told = job.run("snapshots --s3-insecure-tls");
        assert!(told.code == Some(10) && told.err.contains("not verified"), "{told:?}");
        let job = job.set("COLVAULT_S3_INSECURE_TLS", "true");
        does_a_job(&job);
        job.run("snapshots").ended(0).complains("not verified");
        fs::remove_dir_all(bucket.directory()).unwrap();
    }
}
