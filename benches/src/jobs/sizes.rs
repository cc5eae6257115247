//! Bytes stored: nights laid over each other in one folder, each backed up by every tool.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use crate::measure::measure;
use crate::report::megabytes;
use crate::tool::{Job, Tool};
use crate::workspace::{Workspace, bytes_below};
use crate::{Common, Outcome};

#[derive(Debug, clap::Args)]
pub struct SizesArgs {
    #[command(flatten)]
    common: Common,
    /// The nights, each a folder of its own, in order; the first may be followed by --night
    #[arg(required = true)]
    nights: Vec<PathBuf>,
    /// A shell command that turns the folder $1 into the next night ($2 is its number); in place
    /// of more folders
    #[arg(long)]
    night: Option<String>,
    /// How many nights --night makes
    #[arg(long, default_value_t = 4)]
    count: u32,
}

pub fn run(args: &SizesArgs) -> Outcome<()> {
    let common = &args.common;
    let workspace = Workspace::create(common)?;
    let tools = common.tools.iter().filter(|tool| tool.has_repository());
    let mut jobs: Vec<Job> = tools
        .map(|tool| Job::new(*tool, common, &workspace.repositories, &workspace.live))
        .collect();
    jobs.iter_mut().try_for_each(Job::init)?;
    let mut out = std::io::stdout();
    let mut added: BTreeMap<Tool, Vec<u64>> = BTreeMap::new();
    let mut source = Vec::new();
    let made = args.night.iter().flat_map(|shell| (1..=args.count).map(move |n| (shell, n)));
    let folders = args.nights.iter().map(|folder| (Some(folder), None));
    for (folder, made) in folders.chain(made.map(|made| (None, Some(made)))) {
        if let Some(folder) = folder {
            workspace.lay(folder)?;
        }
        if let Some((shell, number)) = made {
            workspace.night(&format!("set -- \"$1\" {number}; {shell}"))?;
        }
        workspace.settle()?;
        source.push(bytes_below(&workspace.live)?);
        for job in &mut jobs {
            let before = bytes_below(&job.repository)?;
            measure(&job.backup(), &workspace.log, &workspace.repositories)?;
            let stored = bytes_below(&job.repository)?.saturating_sub(before);
            added.entry(job.tool).or_default().push(stored);
        }
    }
    let numbers = 0..source.len();
    let heads: Vec<String> = numbers.map(|n| format!("night {n}")).collect();
    writeln!(out, "\n| MB | {} | all | all / colvault |", heads.join(" | "))?;
    writeln!(out, "|---|{}---|---|", "---|".repeat(source.len()))?;
    let row =
        |figures: &[u64]| figures.iter().map(|n| megabytes(*n)).collect::<Vec<_>>().join(" | ");
    writeln!(out, "| source | {} | | |", row(&source))?;
    let total = |tool: &Tool| added.get(tool).map(|figures| figures.iter().sum::<u64>());
    let own = total(&Tool::Colvault);
    for (tool, figures) in &added {
        let all = figures.iter().sum::<u64>();
        let ratio = own.map_or("-".to_owned(), |own| format!("{:.2}", all as f64 / own as f64));
        writeln!(out, "| {} | {} | {} | {ratio} |", tool.name(), row(figures), megabytes(all))?;
    }
    Ok(())
}
