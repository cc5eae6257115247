//! First backup, unchanged night, restore, changed night: in rounds, the tools in turn.

use std::io::Write;
use std::path::PathBuf;

use crate::ceiling::{cut_hash_compress, write_packs};
use crate::measure::{measure, sync};
use crate::report::{Step, median, megabytes};
use crate::tool::{Job, Tool};
use crate::workspace::{Workspace, bytes_below};
use crate::{Common, Outcome};

#[derive(Debug, clap::Args)]
pub struct TimesArgs {
    #[command(flatten)]
    common: Common,
    /// The files to back up
    #[arg(long)]
    source: PathBuf,
    /// A shell command that turns the folder $1 into the next night
    #[arg(long)]
    night: Option<String>,
    /// How often everything is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leave the restore out
    #[arg(long)]
    no_restore: bool,
    /// Leave out what the work alone takes
    #[arg(long)]
    no_ceiling: bool,
}

#[derive(Default)]
struct Figures {
    first: Step,
    unchanged: Step,
    restore: Step,
    night: Step,
    work: Vec<f64>,
    writing: Vec<f64>,
    stored: Vec<(&'static str, u64, u64)>,
}

pub fn run(args: &TimesArgs) -> Outcome<()> {
    let common = &args.common;
    let workspace = Workspace::create(common)?;
    let mut out = std::io::stdout();
    for tool in &common.tools {
        writeln!(out, "{}: {}", tool.name(), tool.version(common)?)?;
    }
    let mut figures = Figures::default();
    for round in 0..args.rounds {
        one_round(args, &workspace, round, &mut figures)?;
        writeln!(out, "round {} of {} done", round + 1, args.rounds)?;
    }
    print(&mut out, args, &workspace, &figures)
}

fn one_round(
    args: &TimesArgs,
    workspace: &Workspace,
    round: usize,
    figures: &mut Figures,
) -> Outcome<()> {
    let common = &args.common;
    workspace.lay(&args.source)?;
    workspace.settle()?;
    let mut tools = common.tools.clone();
    let tools_count = tools.len().max(1);
    tools.rotate_left(round % tools_count);
    let mut jobs = Vec::new();
    let repositories = &workspace.repositories;
    let mut sizes = Vec::new();
    for tool in tools {
        let mut job = Job::new(tool, common, repositories, &workspace.live);
        job.init()?;
        if tool.has_repository() {
            sync(repositories)?;
            figures.first.add(tool, measure(&job.backup(), &workspace.log, repositories)?);
            sizes.push((tool.name(), bytes_below(&job.repository)?));
            figures.unchanged.add(tool, measure(&job.backup(), &workspace.log, repositories)?);
        }
        if !args.no_restore {
            let target = workspace.target(tool.name())?;
            sync(&target)?;
            let (command, copy) = job.restore(&target);
            figures.restore.add(tool, measure(&command, &workspace.log, &target)?);
            if round == 0 {
                workspace.compare(&copy, tool.name())?;
            }
        }
        jobs.push(job);
    }
    if !args.no_ceiling {
        let work = cut_hash_compress(&workspace.live)?;
        figures.work.push(work.seconds);
        sync(repositories)?;
        figures.writing.push(write_packs(&repositories.join("ceiling"), work.stored_bytes)?);
    }
    figures.stored = sizes.into_iter().map(|(name, first)| (name, first, 0)).collect();
    workspace.clear_targets()?;
    if let Some(night) = &args.night {
        workspace.night(night)?;
        workspace.settle()?;
        for mut job in jobs.into_iter().filter(|job| job.tool.has_repository()) {
            sync(repositories)?;
            let before = bytes_below(&job.repository)?;
            figures.night.add(job.tool, measure(&job.backup(), &workspace.log, repositories)?);
            let added = bytes_below(&job.repository)?.saturating_sub(before);
            let stored = figures.stored.iter_mut().filter(|(name, ..)| *name == job.tool.name());
            stored.for_each(|(.., of_the_night)| *of_the_night = added);
        }
    }
    Ok(())
}

fn print(
    out: &mut impl Write,
    args: &TimesArgs,
    workspace: &Workspace,
    figures: &Figures,
) -> Outcome<()> {
    writeln!(
        out,
        "\n{} MB of files, medians of {} rounds\n",
        megabytes(bytes_below(&args.source)?),
        args.rounds
    )?;
    let steps = [
        ("first backup", &figures.first),
        ("unchanged night", &figures.unchanged),
        ("changed night", &figures.night),
        ("restore", &figures.restore),
    ];
    for (title, step) in steps {
        for line in step.table(title) {
            writeln!(out, "{line}")?;
        }
        if let Some(fastest) = step.fastest_peer() {
            let own = step.median(Tool::Colvault, |usage| usage.wall).unwrap_or(f64::NAN);
            writeln!(
                out,
                "\nfastest of restic, rustic and borg: {fastest:.2} s, {:.1} times colvault\n",
                fastest / own
            )?;
        }
    }
    if let (Some(work), Some(writing)) =
        (median(figures.work.clone()), median(figures.writing.clone()))
    {
        writeln!(
            out,
            "cut, hash and compress alone, all cores: {work:.2} s; writing the same bytes as packs \
             with fsync to {}: {writing:.2} s\n",
            if workspace.repositories.starts_with("/dev/shm") { "tmpfs" } else { "disk" }
        )?;
    }
    writeln!(out, "| stored | first, MB | night, MB |\n|---|---|---|")?;
    for (name, first, night) in &figures.stored {
        writeln!(out, "| {name} | {} | {} |", megabytes(*first), megabytes(*night))?;
    }
    Ok(())
}
