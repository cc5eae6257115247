//! The way to a store: certificates, and the proxies of a site.

use std::collections::BTreeSet;
use std::fs;

use colvault_engine::testing::trees::write_tree;

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::s3::{Authority, BUCKET, Bucket, Job, Metadata, Tls, Tunnel};

/// A host name that no resolver knows: who reaches it has asked the proxy.
const STORE: &str = "store.colvault.invalid";

/// Makes a repository, backs a tree up and restores it.
fn does_a_job(job: &Job) {
    write_tree(&job.place.path("source"), 1, 10, 100_000).unwrap();
    job.init();
    job.expect(0, "backup @/source");
    fs::remove_dir_all(job.place.path("back")).unwrap_or_default();
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

/// Catches a proxy of the environment that is passed by, names that are looked up before it, certificates that
/// are not looked at because of it, and a switch that does not know of it.
#[test]
fn a_store_is_reached_through_a_proxy() {
    let (bucket, authority) = (Bucket::new(), Authority::new());
    let tls = Tls::before(&bucket.proxy.endpoint(), authority.issue(STORE));
    let proxy = Tunnel::to(&tls.address());
    let through = |variable: &str| {
        fs::remove_dir_all(bucket.directory()).unwrap_or_default();
        let job = Job::on(&format!("https://{STORE}"), BUCKET);
        fs::write(job.place.path("ca.pem"), authority.pem()).unwrap();
        job.set(variable, &format!("http://{}", proxy.address()))
    };
    let tunnels = || proxy.take().into_iter().collect::<BTreeSet<_>>();
    let expected = BTreeSet::from([format!("CONNECT {STORE}:443 HTTP/1.1")]);
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        does_a_job(&through(variable).set("COLVAULT_S3_CA_FILE", "@/ca.pem"));
        assert_eq!(tunnels(), expected, "{variable}");
    }
    through("HTTPS_PROXY").run("snapshots").ended(1).complains("certificate is not trusted");
    assert_eq!(tunnels(), expected);
    does_a_job(&through("HTTPS_PROXY").set("COLVAULT_S3_INSECURE_TLS", "true"));
    assert_eq!(tunnels(), expected);
    let insecure = |endpoint: &str| {
        let job = Job::on(endpoint, BUCKET).set("COLVAULT_S3_INSECURE_TLS", "true");
        job.set("HTTPS_PROXY", &format!("http://{}", proxy.address()))
    };
    // The repository that was made just now, without the proxy.
    insecure(&tls.endpoint()).set("NO_PROXY", "127.0.0.1").expect(0, "snapshots");
    assert_eq!(tunnels(), BTreeSet::new());
    insecure(&tls.endpoint()).set("NO_PROXY", "example.com").expect(0, "snapshots");
    assert_eq!(tunnels().len(), 1);
}

/// Catches a proxy that has a certificate itself and is spoken to without TLS.
#[test]
fn a_proxy_may_be_behind_tls() {
    let (bucket, authority) = (Bucket::new(), Authority::new());
    let tls = Tls::before(&bucket.proxy.endpoint(), authority.issue(STORE));
    let proxy = Tunnel::to(&tls.address());
    let before = format!("http://{}", proxy.address());
    let before = Tls::before(&before, authority.issue("127.0.0.1"));
    let job = Job::on(&format!("https://{STORE}"), BUCKET).set("HTTPS_PROXY", &before.endpoint());
    fs::write(job.place.path("ca.pem"), authority.pem()).unwrap();
    let job = job.set("COLVAULT_S3_CA_FILE", "@/ca.pem");
    does_a_job(&job);
    assert!(!proxy.take().is_empty());
    let told = job.run("snapshots --s3-insecure-tls").ended(1);
    assert!(
        told.err.contains("a proxy at http:// expected") && !told.err.contains("tried"),
        "{told:?}"
    );
}

/// Catches hosts that are to be reached past the proxy and are not.
#[test]
fn a_proxy_is_passed_by_on_request() {
    let (bucket, metadata) = (Bucket::new(), Metadata::start());
    let refuses = Tunnel::guarded("127.0.0.1:1", "no such header");
    let proxy = format!("http://{}", refuses.address());
    let job = Job::with(&bucket).set("HTTP_PROXY", &proxy).set("NO_PROXY", "127.0.0.1");
    does_a_job(&job);
    let job = metadata.told_to(job);
    job.expect(0, "snapshots").silent();
    assert_eq!(metadata.given(), 1);
    assert_eq!(refuses.take(), Vec::<String>::new());
    job.set("NO_PROXY", "").run("snapshots").ended(1);
    assert_ne!(refuses.take(), Vec::<String>::new());
}

/// Catches what the proxy wants to know and is not told, or is told to others; and an error that does not say
/// that it is the proxy that refuses.
#[test]
fn a_proxy_is_told_who_asks() {
    let (bucket, authority) = (Bucket::new(), Authority::new());
    let tls = Tls::before(&bucket.proxy.endpoint(), authority.issue(STORE));
    let header = "Proxy-Authorization: Basic Ym9iOnNlY3JldA==";
    let proxy = Tunnel::guarded(&tls.address(), header);
    let mut job = Job::on(&format!("https://{STORE}"), BUCKET);
    fs::write(job.place.path("ca.pem"), authority.pem()).unwrap();
    for (name, value) in [("COLVAULT_S3_CA_FILE", "@/ca.pem"), ("COLVAULT_S3_INSECURE_TLS", "true")]
    {
        fs::remove_dir_all(bucket.directory()).unwrap_or_default();
        job = job.set(name, value);
        job = job.set_as_is("HTTPS_PROXY", &format!("http://bob:secret@{}", proxy.address()));
        does_a_job(&job);
        let seen = bucket.proxy.take();
        assert!(seen.iter().all(|seen| seen.header("proxy-authorization").is_none()));
        job = job.set_as_is("HTTPS_PROXY", &format!("http://bob:wrong@{}", proxy.address()));
        let told = job.run("snapshots").ended(1);
        assert!(told.err.contains("the proxy wants a name"), "{told:?}");
        assert!(!told.err.contains("wrong") && proxy.take().len() > 1, "{told:?}");
    }
    job.set("HTTPS_PROXY", &bucket.proxy.endpoint()).run("snapshots").complains("NO_PROXY");
}

/// Catches a proxy that is used for stores under TLS alone.
#[test]
fn a_store_without_tls_is_reached_through_a_proxy() {
    let bucket = Bucket::new();
    // What passes requests on to one store does for a proxy that asks every store.
    let job = Job::on(&format!("http://{STORE}"), BUCKET)
        .set("HTTP_PROXY", &bucket.proxy.endpoint())
        .set("COLVAULT_S3_INSECURE_TLS", "true");
    does_a_job(&job);
    let seen = bucket.proxy.take();
    let through = format!("http://{STORE}/{BUCKET}/");
    assert!(
        !seen.is_empty() && seen.iter().all(|seen| seen.path.starts_with(&through)),
        "{seen:?}"
    );
}
