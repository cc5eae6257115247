//! An S3 store on loopback for measurements, or the proxy before one: each a process of its own, so that
//! what it costs can be told from what its clients cost.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use colvault_benches::counted::Counted;
use colvault_benches::s3::{ACCESS_KEY, Create, Fault, Proxy, Rule, SECRET_KEY, Seen, Store};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// The longest wait for requests that are under way when it is asked what came by.
const UNDER_WAY_MAX: Duration = Duration::from_secs(5);

/// Serves the directories in DIRECTORY as buckets, or passes on to another store, until standard input ends.
///
/// Prints the endpoint, the access key and the secret, a line each. Every line of standard input is then
/// answered by a line of JSON: what the process has cost, and which requests came by since the last one.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the buckets are
    #[arg(required_unless_present = "before")]
    directory: Option<PathBuf>,
    /// Serve nothing, pass on to the store at http://HOST:PORT and count
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "directory")]
    before: Option<String>,
    /// Let every request wait before it is passed on
    #[arg(long, value_name = "MS")]
    latency: Option<u64>,
    /// Append every request that came by to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let directory = arguments.directory.as_deref();
    let store = directory.map(|directory| Store::start(directory, Create::Kept));
    let served = store.as_ref().map(Store::endpoint).or_else(|| arguments.before.clone());
    let served = served.unwrap_or_default();
    let counts = arguments.before.is_some() || arguments.log.is_some();
    let proxy = (counts || arguments.latency.is_some()).then(|| Proxy::before(&served));
    if let (Some(proxy), Some(ms)) = (&proxy, arguments.latency) {
        proxy.add(Rule::new(Fault::Delay(Duration::from_millis(ms))));
    }
    let endpoint = proxy.as_ref().map_or(served, Proxy::endpoint);
    let mut out = io::stdout();
    writeln!(out, "{endpoint}\n{ACCESS_KEY}\n{SECRET_KEY}")?;
    out.flush()?;
    let begun = Instant::now();
    for line in io::stdin().lock().lines() {
        line?;
        let seen = proxy.as_ref().map(take).unwrap_or_default();
        if let Some(path) = &arguments.log {
            log(&mut File::options().create(true).append(true).open(path)?, begun, &seen)?;
        }
        let answer = serde_json::to_string(&count(&seen)?)?;
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// The requests that came by. A client may be gone before the proxy has noted its last answer.
fn take(proxy: &Proxy) -> Vec<Seen> {
    let begun = Instant::now();
    while proxy.under_way() > 0 && begun.elapsed() < UNDER_WAY_MAX {
        thread::sleep(Duration::from_millis(5));
    }
    proxy.take()
}

fn count(seen: &[Seen]) -> io::Result<Counted> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let mut counted = Counted { cpu: micros as f64 / 1e6, ..Counted::default() };
    for seen in seen {
        let class = counted.classes.entry(class(seen)).or_default();
        class.requests += 1;
        class.failed += u64::from(seen.status.is_none_or(|status| status >= 400));
        class.sent += seen.sent;
        class.received += seen.received;
    }
    Ok(counted)
}

/// Method and what it is about, whichever tool's: the name behind bucket and prefix.
fn class(seen: &Seen) -> String {
    let query = seen.query.replace("%2F", "/");
    let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix="));
    let is_of_bucket = seen.path.trim_matches('/').split('/').count() == 1;
    let (verb, place) = match (seen.method.as_str(), prefix) {
        ("GET", Some(_)) if is_of_bucket && query.contains("uploads") => ("LIST", Some("uploads")),
        ("GET", Some(prefix)) if is_of_bucket => ("LIST", prefix.split('/').nth(1)),
        (method, _) => (method, seen.path.trim_start_matches('/').split('/').nth(2)),
    };
    format!("{verb} {}", place.filter(|name| !name.is_empty()).unwrap_or("bucket"))
}

fn log(to: &mut File, begun: Instant, seen: &[Seen]) -> io::Result<()> {
    for seen in seen {
        let at = seen.begun.saturating_duration_since(begun).as_secs_f64();
        let took = seen.ended.map_or(f64::NAN, |end| (end - seen.begun).as_secs_f64());
        writeln!(
            to,
            "{at:9.3} {took:7.3} {:4} {} {}?{} sent {} received {} {}",
            seen.status.unwrap_or(0),
            seen.method,
            seen.path,
            seen.query,
            seen.sent,
            seen.received,
            seen.header("range").unwrap_or_default(),
        )?;
    }
    writeln!(to, "--")
}
