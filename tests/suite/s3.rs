//! Repositories in buckets, on stores that work: what every backend promises, and the whole job.

use std::sync::atomic::{AtomicUsize, Ordering};

use colvault_engine::backend::{Backend, Key, S3Backend};
use colvault_engine::s3client::S3Options;

use crate::backend_contract::{keeps_its_promises, one_of_many_wins};
use crate::support::s3::{Bucket, Fault, Made, Moto, Proxy, Rule, Seen, options};

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
            (seen.method == "PUT") == is_put && number.fetch_add(1, Ordering::SeqCst) % count == 0
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
