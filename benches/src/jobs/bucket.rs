//! Repositories in a bucket of a store on loopback: first backup, unchanged night, restore and changed
//! night in rounds, with what was asked of the store.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use colvault_benches::counted::Counted;

use crate::measure::{Usage, measure, sync};
use crate::report::{median, megabytes};
use crate::tool::{Bucket, Job, Tool};
use crate::workspace::{Workspace, bytes_below};
use crate::{Common, Outcome};

/// The bucket of all tools, each below a prefix of its own.
const BUCKET: &str = "bench";

#[derive(Debug, clap::Args)]
pub struct BucketArgs {
    #[command(flatten)]
    common: Common,
    /// The files to back up
    #[arg(long)]
    source: PathBuf,
    /// A shell command that turns the folder $1 into the next night
    #[arg(long)]
    night: Option<String>,
    /// How often everything is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Let every request wait so long before it reaches the store
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency: u64,
    /// Write every request to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// The program `store`, serving or passing on.
struct Served {
    child: Child,
    asks: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
    bucket: Bucket,
}

impl Served {
    fn start(arguments: &mut Command) -> Outcome<Served> {
        let mut child = arguments.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let asks = child.stdin.take();
        let mut says = BufReader::new(child.stdout.take().ok_or("a store that says nothing")?);
        let mut line = || -> Outcome<String> {
            let mut line = String::new();
            says.read_line(&mut line)?;
            Ok(line.trim_end().to_owned())
        };
        let bucket = Bucket {
            endpoint: line()?,
            access_key: line()?,
            secret_key: line()?,
            name: BUCKET.to_owned(),
        };
        Ok(Served { child, asks, says, bucket })
    }

    /// What came by since the last time, and what the process has cost since it began.
    fn count(&mut self) -> Outcome<Counted> {
        let asks = self.asks.as_mut().ok_or("the store has ended")?;
        writeln!(asks)?;
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.asks.take());
        let _ = self.child.wait();
    }
}

/// A store, and the proxy before it that counts and delays.
struct Stores {
    store: Served,
    proxy: Served,
    store_cpu: f64,
    proxy_cpu: f64,
}

impl Stores {
    fn start(args: &BucketArgs, directory: &Path) -> Outcome<Stores> {
        let program = std::env::current_exe()?.with_file_name("store");
        if !program.exists() {
            return Err(
                "build the store: cargo build --release -p colvault-benches --features s3".into()
            );
        }
        fs::create_dir_all(directory.join(BUCKET))?;
        let store = Served::start(Command::new(&program).arg(directory))?;
        let mut before = Command::new(&program);
        before.arg("--before").arg(&store.bucket.endpoint);
        if args.latency > 0 {
            before.arg("--latency").arg(args.latency.to_string());
        }
        if let Some(log) = &args.log {
            before.arg("--log").arg(log);
        }
        let proxy = Served::start(&mut before)?;
        Ok(Stores { store, proxy, store_cpu: 0.0, proxy_cpu: 0.0 })
    }

    /// What came by since the last time; the seconds are of that time too.
    fn count(&mut self) -> Outcome<(Counted, f64, f64)> {
        let (proxy, store) = (self.proxy.count()?, self.store.count()?);
        let cpu = (store.cpu - self.store_cpu, proxy.cpu - self.proxy_cpu);
        (self.store_cpu, self.proxy_cpu) = (store.cpu, proxy.cpu);
        Ok((proxy, cpu.0, cpu.1))
    }
}

/// One job of one tool.
struct Run {
    usage: Usage,
    counted: Counted,
    store_cpu: f64,
    proxy_cpu: f64,
}

/// The jobs in the order of the report, with their runs by tool.
#[derive(Default)]
struct Figures {
    steps: BTreeMap<&'static str, BTreeMap<Tool, Vec<Run>>>,
    stored: BTreeMap<Tool, u64>,
}

const STEPS: [&str; 4] = ["first backup", "unchanged night", "changed night", "restore"];

pub fn run(args: &BucketArgs) -> Outcome<()> {
    let workspace = Workspace::create(&args.common)?;
    let mut out = std::io::stdout();
    let tools: Vec<Tool> =
        args.common.tools.iter().copied().filter(|tool| tool.has_bucket()).collect();
    for tool in &tools {
        writeln!(out, "{}: {}", tool.name(), tool.version(&args.common)?)?;
    }
    let mut figures = Figures::default();
    for round in 0..args.rounds {
        let mut tools = tools.clone();
        let count = tools.len().max(1);
        tools.rotate_left(round % count);
        one_round(args, &workspace, &tools, round == 0, &mut figures)?;
        writeln!(out, "round {} of {} done", round + 1, args.rounds)?;
    }
    writeln!(
        out,
        "\n{} MB of files, medians of {} rounds, {} ms before each request\n",
        megabytes(bytes_below(&args.source)?),
        args.rounds,
        args.latency
    )?;
    for step in STEPS {
        if let Some(runs) = figures.steps.get(step) {
            print(&mut out, step, runs)?;
        }
    }
    writeln!(out, "| stored | first, MB |\n|---|---|")?;
    for (tool, bytes) in &figures.stored {
        writeln!(out, "| {} | {} |", tool.name(), megabytes(*bytes))?;
    }
    Ok(())
}

fn one_round(
    args: &BucketArgs,
    workspace: &Workspace,
    tools: &[Tool],
    compares: bool,
    figures: &mut Figures,
) -> Outcome<()> {
    workspace.lay(&args.source)?;
    workspace.settle()?;
    // A store that begins empty, so that none has more to look through than another round's.
    let directory = workspace.repositories.join("store");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    let mut stores = Stores::start(args, &directory)?;
    let mut jobs = Vec::new();
    let written = &workspace.repositories;
    for tool in tools {
        let repositories = directory.join(BUCKET);
        let mut job = Job::new(*tool, &args.common, &repositories, &workspace.live);
        job.bucket = Some(stores.proxy.bucket.clone());
        job.init()?;
        sync(written)?;
        stores.count()?;
        for step in [STEPS[0], STEPS[1]] {
            let usage = measure(&job.backup(), &workspace.log, written)?;
            figures.add(step, *tool, usage, &mut stores)?;
            if step == STEPS[0] {
                figures.stored.insert(*tool, bytes_below(&job.repository)?);
            }
        }
        let target = workspace.target(tool.name())?;
        sync(&target)?;
        let (command, copy) = job.restore(&target);
        let usage = measure(&command, &workspace.log, &target)?;
        figures.add(STEPS[3], *tool, usage, &mut stores)?;
        if compares {
            workspace.compare(&copy, tool.name())?;
        }
        jobs.push(job);
    }
    workspace.clear_targets()?;
    let Some(night) = &args.night else { return Ok(()) };
    workspace.night(night)?;
    workspace.settle()?;
    for mut job in jobs {
        sync(written)?;
        stores.count()?;
        let usage = measure(&job.backup(), &workspace.log, written)?;
        figures.add(STEPS[2], job.tool, usage, &mut stores)?;
    }
    Ok(())
}

impl Figures {
    fn add(
        &mut self,
        step: &'static str,
        tool: Tool,
        usage: Usage,
        stores: &mut Stores,
    ) -> Outcome<()> {
        let (counted, store_cpu, proxy_cpu) = stores.count()?;
        let runs = self.steps.entry(step).or_default().entry(tool).or_default();
        runs.push(Run { usage, counted, store_cpu, proxy_cpu });
        Ok(())
    }
}

/// What tools are compared in.
const FIGURES: [fn(&Run) -> f64; 5] = [
    |run| run.usage.wall,
    |run| run.usage.cpu,
    |run| run.counted.total().requests as f64,
    |run| run.counted.total().sent as f64,
    |run| run.counted.total().received as f64,
];

fn figure(runs: &[Run], figure: fn(&Run) -> f64) -> f64 {
    median(runs.iter().map(figure).collect()).unwrap_or(f64::NAN)
}

/// A tool's figures by those of another one in the same step.
fn ratios(runs: &[Run], own: &[Run]) -> String {
    let [wall, cpu, requests, sent, received] = FIGURES.map(|of| figure(runs, of));
    let own = FIGURES.map(|of| figure(own, of));
    format!(
        "{:.2}, {:.2}, {:.2}, {:.2}",
        wall / own[0],
        cpu / own[1],
        requests / own[2],
        (sent + received) / (own[3] + own[4])
    )
}

fn print(out: &mut impl Write, step: &str, runs: &BTreeMap<Tool, Vec<Run>>) -> Outcome<()> {
    // Who does not unpack slots is also compared with what does not.
    let own: Vec<(Tool, &Vec<Run>)> = [Tool::Colvault, Tool::ColvaultPacked]
        .into_iter()
        .filter_map(|tool| Some((tool, runs.get(&tool)?)))
        .collect();
    write!(
        out,
        "| {step} | wall s | min..max | CPU s | requests | sent MB | received MB | store CPU s | proxy CPU s |"
    )?;
    for (tool, _) in &own {
        write!(out, " wall, CPU, requests, bytes / {} |", tool.name())?;
    }
    writeln!(out, "\n|---|---|---|---|---|---|---|---|---|{}", "---|".repeat(own.len()))?;
    for (tool, of_tool) in runs {
        let [wall, cpu, requests, sent, received] = FIGURES.map(|of| figure(of_tool, of));
        let walls = || of_tool.iter().map(|run| run.usage.wall);
        write!(
            out,
            "| {} | {wall:.2} | {:.2}..{:.2} | {cpu:.2} | {requests} | {:.2} | {:.2} | {:.2} | {:.2} |",
            tool.name(),
            walls().fold(f64::INFINITY, f64::min),
            walls().fold(0.0, f64::max),
            sent / 1e6,
            received / 1e6,
            figure(of_tool, |run| run.store_cpu),
            figure(of_tool, |run| run.proxy_cpu),
        )?;
        for (_, own) in &own {
            write!(out, " {} |", ratios(of_tool, own))?;
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    for (tool, of_tool) in runs {
        let Some(last) = of_tool.last() else { continue };
        let classes: Vec<String> = last
            .counted
            .classes
            .iter()
            .map(|(name, class)| match class.failed {
                0 => format!("{} {name}", class.requests),
                failed => format!("{} {name} ({failed} not 2xx)", class.requests),
            })
            .collect();
        writeln!(out, "* {}, last round: {}", tool.name(), classes.join(", "))?;
    }
    writeln!(out)?;
    Ok(())
}
