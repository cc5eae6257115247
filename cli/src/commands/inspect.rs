//! `colvault inspect`

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::inspect::{FileBytes, HostFile, InspectOptions, StoredFile, inspect};
use colvault_engine::progress::Event;
use colvault_engine::snapshot::{Filter, Named, choose};

use crate::commands::{exit_of, not_chosen};
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::Inspected;

/// Show what a file of ColumnStore says, and what in it does not hold
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// The file: one of this host or, with --snapshot, of the snapshot, as the source named it or,
    /// without a leading slash, from a component's base on
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Look into a snapshot: an id, the beginning of one, latest or latest~N
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<String>,

    /// Of a segment file, only this slot, from 0
    #[arg(long, value_name = "NUMBER")]
    slot: Option<u64>,

    /// Of an extent map, an OID bitmap or table locks, only this object
    #[arg(long, value_name = "OID")]
    oid: Option<u32>,

    /// Of a snapshot, only this component; dbroot means every dbroot/N; may be given more than once
    #[arg(long, value_name = "COMPONENT", requires = "snapshot")]
    component: Vec<String>,

    /// For latest: only snapshots of this host
    #[arg(short = 'H', long, value_name = "NAME", requires = "snapshot")]
    host: Vec<String>,

    /// For latest: only snapshots with this tag
    #[arg(long, value_name = "TAG", value_delimiter = ',', requires = "snapshot")]
    tag: Vec<String>,
}

/// Shows what a file says.
pub fn run(args: &InspectArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let watch = Watch::new(context.output);
    let path = args.file.as_os_str().as_bytes();
    let Some(wanted) = &args.snapshot else {
        let mut file = HostFile::open(&args.file)?;
        return shown(args, &mut file, None, &watch, context);
    };
    let (repository, listing) = context.open_to_read(&watch)?;
    let filter = Filter { hosts: args.host.clone(), tags: args.tag.clone() };
    let chosen = choose(&listing, wanted, &filter, false).map_err(not_chosen)?;
    if let Some(warning) = &chosen.warning {
        context.output.event(Event::Warning(warning));
    }
    let mut file = StoredFile::open(&repository, &chosen.named, &args.component, path)?;
    let exit = shown(args, &mut file, Some(&chosen.named), &watch, context)?;
    drop(file);
    repository.close();
    Ok(exit)
}

fn shown(
    args: &InspectArgs,
    file: &mut dyn FileBytes,
    named: Option<&Named>,
    watch: &Watch<'_>,
    context: &Context<'_>,
) -> Result<Exit, Failure> {
    let options = InspectOptions { slot: args.slot, oid: args.oid, cancel: context.cancel.clone() };
    let path = args.file.as_os_str().as_bytes();
    let report = inspect(file, path, &options, watch).map_err(with_hint)?;
    watch.add(&report.findings);
    let findings = watch.findings();
    context.output.inspected(&Inspected {
        named,
        path: file.shown(),
        component: file.component(),
        report: &report,
        findings: &findings,
    });
    Ok(exit_of(&findings))
}

/// Says what to do about a file that is not one of those.
fn with_hint(error: Error) -> Failure {
    let is_unknown = error.kind() == ErrorKind::Unsupported;
    let failure = Failure::from(error);
    match is_unknown {
        true => failure.with_hint("colvault inspect --help says which files it knows"),
        false => failure,
    }
}
