//! `colvault check`

use std::time::Instant;

use colvault_engine::check::{CheckOptions, check};
use colvault_engine::error::ErrorKind;
use colvault_engine::format::config::CreateOnlyFact;
use colvault_engine::format::snapshot::Verdict;
use colvault_engine::packer::Packers;
use colvault_engine::progress::Event;
use colvault_engine::proof::{add_lost, is_provable, prove};
use colvault_engine::session::leases;
use colvault_engine::snapshot::{Chosen, Filter, choose};

use crate::commands::init::NOT_CREATE_ONLY;
use crate::commands::{exit_of, not_chosen};
use crate::context::{Context, Watch};
use crate::damage::is_damaged;
use crate::exit::{Exit, Failure};
use crate::output::{Checked, Proved};

/// How many sessions that run, or ended without saying so, are named.
const LEASES_SHOWN_MAX: usize = 10;

/// Check that the repository has everything its snapshots need
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Read the trailer of every pack and compare it with the index
    #[arg(long)]
    read_trailers: bool,

    /// Read all data, verify every chunk, and pack every slot again that is stored as a recipe
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,

    /// Read this share of all packs, chosen at random, and verify every chunk in them
    #[arg(long, value_name = "N%", value_parser = percent)]
    read_data_subset: Option<f64>,

    /// Prove this snapshot of a deployment, from the repository alone: whether extent map, segment
    /// files and the other files of the BRM agree in it, and whether all its content is in packs that
    /// are there; an id, the beginning of one, latest or latest~N. The rest of the check is done only when
    /// data or trailers are to be read, too
    #[arg(long, value_name = "SNAPSHOT")]
    columnstore: Option<String>,

    /// For --columnstore latest: only snapshots of this host
    #[arg(short = 'H', long, value_name = "NAME", requires = "columnstore")]
    host: Vec<String>,

    /// For --columnstore latest: only snapshots with this tag
    #[arg(long, value_name = "TAG", value_delimiter = ',', requires = "columnstore")]
    tag: Vec<String>,
}

/// Checks the repository, or proves one of its snapshots, or both.
pub fn run(args: &CheckArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let Some(wanted) = &args.columnstore else { return check_all(args, context) };
    let reads = args.read_trailers || args.read_data || args.read_data_subset.is_some();
    let checked = if reads { Some(check_all(args, context)?) } else { None };
    let proved = prove_one(args, wanted, context)?;
    // The worse of both: damage, then findings.
    let is = |exit: Exit| checked == Some(exit) || proved == exit;
    Ok([Exit::Damaged, Exit::Findings].into_iter().find(|exit| is(*exit)).unwrap_or(Exit::Done))
}

/// Repeats the proof of a snapshot.
fn prove_one(args: &CheckArgs, wanted: &str, context: &Context<'_>) -> Result<Exit, Failure> {
    let watch = Watch::new(context.output);
    let (repository, listing) = context.open_to_read(&watch)?;
    let filter = Filter { hosts: args.host.clone(), tags: args.tag.clone() };
    let Chosen { named, warning } = choose(&listing, wanted, &filter, false).map_err(not_chosen)?;
    if let Some(warning) = &warning {
        context.output.event(Event::Warning(warning));
    }
    if !is_provable(&named.snapshot) {
        let object = format!("snapshot {}", named.id.short());
        let problem = "a snapshot of a ColumnStore deployment expected, found one of plain paths";
        return Err(Failure::new(ErrorKind::Invalid, object, problem)
            .with_hint("check without --columnstore checks that all its content is there"));
    }
    let mut outcome = prove(&repository, &named.snapshot, context.cancel)?;
    add_lost(&repository, &named.snapshot, &mut outcome, context.cancel)?;
    let traffic = repository.backend().traffic();
    repository.close();
    for findings in [&outcome.findings, &outcome.repeated] {
        watch.add(findings);
    }
    let findings = watch.findings();
    context.output.proved(&Proved {
        named: &named,
        outcome: &outcome,
        findings: &findings,
        traffic,
    });
    let is_refuted = outcome.proof.verdict == Verdict::Refuted;
    Ok(match is_damaged(&findings) {
        true => Exit::Damaged,
        false if is_refuted => Exit::Findings,
        false => exit_of(&findings),
    })
}

/// Checks the repository.
fn check_all(args: &CheckArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let watch = Watch::new(context.output);
    let repository = context.open_repository()?;
    if repository.config().store.create_only == CreateOnlyFact::Ignored {
        context.output.event(Event::Warning(NOT_CREATE_ONLY));
    }
    let read_data_percent = if args.read_data { Some(100.0) } else { args.read_data_subset };
    let options = CheckOptions {
        read_trailers: args.read_trailers,
        read_data_percent,
        packers: &Packers,
        threads: context.settings.threads,
        cancel: context.cancel.clone(),
    };
    let started = Instant::now();
    let report = check(&repository, &options, &watch)?;
    let leases = match report.leases {
        0 => Vec::new(),
        _ => leases(&repository, LEASES_SHOWN_MAX)?,
    };
    let elapsed = started.elapsed();
    let traffic = repository.backend().traffic();
    repository.close();
    watch.add(&report.findings);
    let findings = watch.findings();
    let exit = if is_damaged(&findings) { Exit::Damaged } else { exit_of(&findings) };
    context.output.checked(&Checked {
        report: &report,
        leases: &leases,
        read_data_percent,
        exit,
        findings: &findings,
        elapsed,
        traffic,
        next: context.next(),
    });
    Ok(exit)
}

/// Reads `N%`: more than 0, at most 100.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    number.filter(|percent| *percent > 0.0 && *percent <= 100.0).ok_or_else(|| {
        "a share such as 5% or 2.5% expected, more than 0% and at most 100%".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        assert_eq!(percent("2.5%"), Ok(2.5));
        assert_eq!(percent("100%"), Ok(100.0));
        for text in ["0%", "101%", "5", "%", "-1%", "NaN%", "inf%"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
