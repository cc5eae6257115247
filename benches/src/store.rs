//! An S3 store on loopback for measurements: a process of its own, so that what it costs can be told from
//! what its clients cost.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use colvault_benches::s3::{ACCESS_KEY, Create, Fault, Proxy, Rule, SECRET_KEY, Store};

/// Serves the directories in DIRECTORY as buckets until its standard input ends.
///
/// Prints the endpoint, the access key and the secret, a line each.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the buckets are
    directory: PathBuf,
    /// Let every request wait before it is passed on
    #[arg(long, value_name = "MS")]
    latency: Option<u64>,
}

fn main() {
    let arguments = Arguments::parse();
    let store = Store::start(&arguments.directory, Create::Kept);
    let proxy = arguments.latency.map(|ms| {
        let proxy = Proxy::before(&store.endpoint());
        proxy.add(Rule::new(Fault::Delay(Duration::from_millis(ms))));
        proxy
    });
    let endpoint = proxy.as_ref().map_or_else(|| store.endpoint(), Proxy::endpoint);
    println!("{endpoint}\n{ACCESS_KEY}\n{SECRET_KEY}");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
