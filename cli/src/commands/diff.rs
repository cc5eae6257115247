//! `colvault diff`

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use colvault_engine::diff::{Change, DiffOptions, diff};
use colvault_engine::error::ErrorKind;
use colvault_engine::format::text::{decode_path, encode_path};
use colvault_engine::manifest::ManifestReader;
use colvault_engine::progress::Event;
use colvault_engine::repository::Repository;
use colvault_engine::restore::Select;
use colvault_engine::snapshot::{Filter, Named, choose, list};

use crate::commands::temporary::TemporaryArgs;
use crate::commands::{
    exit_of, nobody_reads, not_chosen, refuse_unknown_components, selected_path, split_snapshot,
};
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::{ChangedLine, Compared};

/// Show what changed between two snapshots: + added, - removed, M content, T type, U metadata only
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// The first: an id, the beginning of one, latest or latest~N; with :PATH only what is there
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    before: String,

    /// The second
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    after: String,

    /// Name paths of which only owner, mode, time or attributes changed, too
    #[arg(long)]
    metadata: bool,

    /// Only this component; dbroot means every dbroot/N
    #[arg(long, value_name = "COMPONENT")]
    component: Vec<String>,

    /// For latest: only snapshots of this host
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Vec<String>,

    /// For latest: only snapshots with this tag
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,

    #[command(flatten)]
    temporary: TemporaryArgs,
}

/// Compares.
pub fn run(args: &DiffArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let (before, path) = split_snapshot(&args.before);
    let (after, other_path) = split_snapshot(&args.after);
    let path = match (path, other_path) {
        (Some(one), Some(other)) if Path::new(one) != Path::new(other) => {
            return Err(Failure::usage(format!(
                "the same path expected twice, found {one} and {other}"
            )));
        }
        (one, other) => one.or(other).map(PathBuf::from),
    };
    let watch = Watch::new(context.output);
    let repository = context.open_repository()?;
    // Snapshots first: the index that is loaded after names all that they need.
    let listing = list(&repository)?;
    watch.add(&listing.findings);
    repository.load_index(&watch)?;
    let filter = Filter { hosts: args.host.clone(), tags: args.tag.clone() };
    let chosen = |wanted: &str| {
        let chosen = choose(&listing, wanted, &filter, false).map_err(not_chosen)?;
        if let Some(warning) = &chosen.warning {
            context.output.event(Event::Warning(warning));
        }
        Ok::<_, Failure>(chosen.named)
    };
    let (before, after) = (chosen(before)?, chosen(after)?);
    let select = Select {
        components: args.component.clone(),
        paths: path.iter().map(|path| selected_path(path)).collect(),
        ..Select::everything()
    };
    refuse_unknown_components(&args.component, &[&before, &after])?;
    if let Some(path) = &path
        && !holds(&repository, &before, path)
        && !holds(&repository, &after, path)
    {
        let problem = "a path of one of the snapshots expected";
        return Err(Failure::new(ErrorKind::NotFound, encode_path(path), problem));
    }
    let options = DiffOptions {
        select,
        spill: args.temporary.place(context),
        cancel: context.cancel.clone(),
    };
    context.output.comparing(&before, &after);
    let report = diff(&repository, &before, &after, &options, &watch, &mut |changed| {
        if changed.change != Change::Metadata || args.metadata {
            let path = decode_path(&changed.component.path);
            let path = match changed.path() {
                [] => path,
                below => path.join(OsStr::from_bytes(below)),
            };
            context.output.changed(&ChangedLine { changed, path: &encode_path(&path) });
        }
        nobody_reads(context)
    });
    let report = match report {
        // Whoever read it has seen enough.
        Err(_) if context.output.is_closed() => return Ok(exit_of(&watch.findings())),
        report => report?,
    };
    let traffic = repository.backend().traffic();
    repository.close();
    watch.add(&report.findings);
    let findings = watch.findings();
    context.output.compared(&Compared {
        before: &before,
        after: &after,
        report: &report,
        findings: &findings,
        traffic,
    });
    Ok(exit_of(&findings))
}

/// Whether a snapshot has a path, as `--path` and `SNAPSHOT:PATH` name one. What cannot be read may
/// have it: the comparison then tells what is wrong.
fn holds(repository: &Repository, named: &Named, path: &Path) -> bool {
    named.snapshot.components.iter().any(|component| {
        let base = decode_path(&component.path);
        let below = match path.is_absolute() {
            true if base.starts_with(path) => return true,
            true => path.strip_prefix(&base).ok(),
            false => Some(path),
        };
        below.is_some_and(|below| {
            let manifest = ManifestReader::new(repository, component);
            manifest.holds(below.as_os_str().as_bytes()).unwrap_or(true)
        })
    })
}
