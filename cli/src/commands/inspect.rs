//! `colvault inspect`

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::inspect::{FileBytes, HostFile, InspectOptions, StoredFile, inspect};
use colvault_engine::names::Names;
use colvault_engine::progress::Event;
use colvault_engine::snapshot::{Filter, Named, choose};

use crate::commands::{exit_of, not_chosen, selected_path, split_snapshot, tables};
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::{ColumnName, Inspected};

/// How deep below a DB Root segment files are.
const SEGMENT_DEPTH: usize = 5;

/// Show what a file of ColumnStore says, and what in it does not hold
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// The file: one of this host or, with --snapshot or as SNAPSHOT:PATH, of a snapshot, as the source
    /// named it or, without a leading slash, from a component's base on
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
    let Some((wanted, path)) = args.in_snapshot() else {
        let mut file = HostFile::open(&args.file)?;
        return shown(args, &mut file, None, None, &watch, context);
    };
    let path = selected_path(&path);
    let (repository, listing) = context.open_to_read(&watch)?;
    let filter = Filter { hosts: args.host.clone(), tags: args.tag.clone() };
    let chosen = choose(&listing, &wanted, &filter, false).map_err(not_chosen)?;
    if let Some(warning) = &chosen.warning {
        context.output.event(Event::Warning(warning));
    }
    let mut file = StoredFile::open(&repository, &chosen.named, &args.component, &path)?;
    // What names cannot be read for is told by `check`; here they only help.
    let names = Names::load(&repository, &chosen.named.snapshot).ok().flatten();
    let column = names.and_then(|names| column_at(&names, file.shown()));
    let exit = shown(args, &mut file, Some(&chosen.named), column.as_ref(), &watch, context)?;
    drop(file);
    repository.close();
    Ok(exit)
}

impl InspectArgs {
    /// Returns the snapshot to look into and the path in it; `None` for a file of this host.
    fn in_snapshot(&self) -> Option<(String, PathBuf)> {
        if let Some(snapshot) = &self.snapshot {
            return Some((snapshot.clone(), self.file.clone()));
        }
        let (snapshot, path) = split_snapshot(self.file.to_str()?);
        let is_id =
            |text: &str| text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_snapshot =
            snapshot == "latest" || snapshot.starts_with("latest~") || is_id(snapshot);
        (is_snapshot && !self.file.exists()).then_some((snapshot.to_owned(), path?.into()))
    }
}

/// Returns the column that a segment file belongs to.
fn column_at(names: &Names, path: &str) -> Option<ColumnName> {
    let start = path.rmatch_indices('/').nth(SEGMENT_DEPTH).map_or(0, |(at, _)| at + 1);
    tables::column(names, path.get(start..)?.as_bytes())
}

fn shown(
    args: &InspectArgs,
    file: &mut dyn FileBytes,
    named: Option<&Named>,
    column: Option<&ColumnName>,
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
        column,
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
