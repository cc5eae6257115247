//! `colvault ls`

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::finding::{Finding, FindingKind};
use colvault_engine::format::manifest::Entry;
use colvault_engine::format::snapshot::Component;
use colvault_engine::format::text::{decode_path, encode_path};
use colvault_engine::manifest::ManifestReader;
use colvault_engine::progress::{Event, Observer};
use colvault_engine::repository::Repository;
use colvault_engine::restore::Select;
use colvault_engine::snapshot::{Filter, choose};

use crate::commands::tables::{self, Tables};
use crate::commands::{exit_of, not_chosen, split_snapshot};
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::ListedEntry;

/// List the files of a snapshot
#[derive(Debug, clap::Args)]
pub struct LsArgs {
    /// The snapshot: an id, the beginning of one, latest or latest~N; with :PATH only what is there
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: String,

    /// Only these paths, as the source named them, and everything below
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Only this component; dbroot means every dbroot/N
    #[arg(long, value_name = "COMPONENT")]
    component: Vec<String>,

    /// Only segment files of this table, as SCHEMA.TABLE or a glob of both; may be given more than once
    #[arg(long, value_name = "SCHEMA.TABLE")]
    table: Vec<String>,

    /// Show kind, permissions, owner, size and time
    #[arg(short, long)]
    long: bool,

    /// List everything below, not only what is directly in a directory
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1,
          default_missing_value = "true", require_equals = true,
          action = clap::ArgAction::Set)]
    recursive: bool,

    /// For latest: only snapshots of this host
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Vec<String>,

    /// For latest: only snapshots with this tag
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
}

/// Lists the paths of a snapshot.
pub fn run(args: &LsArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let (wanted, path) = split_snapshot(&args.snapshot);
    let mut paths = args.paths.clone();
    paths.extend(path.map(PathBuf::from));
    let watch = Watch::new(context.output);
    let (repository, listing) = context.open_to_read(&watch)?;
    let filter = Filter { hosts: args.host.clone(), tags: args.tag.clone() };
    let chosen = choose(&listing, wanted, &filter, false).map_err(not_chosen)?;
    if let Some(warning) = &chosen.warning {
        context.output.event(Event::Warning(warning));
    }
    let tables = tables::of_snapshot(&repository, &chosen.named, &args.table)?;
    let select = Select {
        components: args.component.clone(),
        oids: tables.as_ref().map(Tables::oids),
        ..Select::everything()
    };
    if let Some(tables) = &tables {
        tables.columns(&repository, &chosen.named, &select, context.cancel, &watch)?;
    }
    context.output.listing(&chosen.named);
    let lister = Lister { args, paths: &paths, select: &select, tables: tables.as_ref(), context };
    let mut found = 0;
    for component in &chosen.named.snapshot.components {
        if select.takes_component(&component.name) {
            found += lister.component(&repository, component, &watch)?;
        }
    }
    let findings = watch.findings();
    context.output.listing_ended(&findings);
    if found == 0 && findings.is_empty() && !(paths.is_empty() && select.is_everything()) {
        let object = format!("snapshot {}", chosen.named.id.short());
        return Err(Failure::new(ErrorKind::NotFound, object, "nothing in it is named like that"));
    }
    Ok(exit_of(&findings))
}

/// Lists components one after the other.
struct Lister<'a> {
    args: &'a LsArgs,
    paths: &'a [PathBuf],
    select: &'a Select,
    tables: Option<&'a Tables>,
    context: &'a Context<'a>,
}

impl Lister<'_> {
    /// Lists a component and returns how many paths it showed. A manifest that cannot be read on
    /// is a finding.
    fn component(
        &self,
        repository: &Repository,
        component: &Component,
        watch: &Watch<'_>,
    ) -> Result<u64, Error> {
        let base = decode_path(&component.path);
        let mut manifest = ManifestReader::new(repository, component);
        let mut shown = 0;
        loop {
            self.context.cancel.check()?;
            let entry = match manifest.next_entry() {
                Ok(Some(entry)) if !self.context.output.is_closed() => entry,
                Ok(_) => return Ok(shown),
                Err(error) => {
                    let kind = finding_kind(&error)?;
                    let object = format!("component {}", component.name);
                    watch.event(Event::Finding(&Finding::new(kind, object, error.to_string())));
                    return Ok(shown);
                }
            };
            shown += u64::from(self.entry(component, &base, &entry));
        }
    }

    fn entry(&self, component: &Component, base: &Path, entry: &Entry) -> bool {
        let path = if entry.path.is_empty() {
            base.to_owned()
        } else {
            base.join(OsStr::from_bytes(&entry.path))
        };
        if !self.select.takes(component, &entry.path)
            || !is_listed(&path, base, self.paths, self.args.recursive)
        {
            return false;
        }
        let path = encode_path(&path);
        let is_long = self.args.long;
        let column = self.tables.and_then(|tables| tables.column(&entry.path));
        let column = column.as_ref();
        self.context.output.listed(&ListedEntry { component, path: &path, entry, column, is_long });
        true
    }
}

/// Whether a path is one of those asked for or below one: with `recursive` at any depth, without
/// right below. When none is asked for, the component's base stands for them.
fn is_listed(path: &Path, base: &Path, asked: &[PathBuf], recursive: bool) -> bool {
    let below = |outer: &Path| match path.strip_prefix(outer) {
        Ok(rest) => recursive || rest.components().count() <= 1,
        Err(_) => false,
    };
    match asked {
        [] => below(base),
        // A path without a leading slash is meant from the component's base on.
        asked => asked.iter().any(|outer| below(&base.join(outer))),
    }
}

/// Returns what a manifest that cannot be read is found as; fails when that says nothing about it.
fn finding_kind(error: &Error) -> Result<FindingKind, Error> {
    match error.kind() {
        ErrorKind::NotFound => Ok(FindingKind::MissingChunk),
        ErrorKind::Corrupt => Ok(FindingKind::DamagedManifest),
        _ => Err(error.repeat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_choose_themselves_and_what_is_below() {
        let listed = |path: &str, asked: &[&str], recursive| {
            let asked: Vec<PathBuf> = asked.iter().map(PathBuf::from).collect();
            is_listed(Path::new(path), Path::new("/var/lib"), &asked, recursive)
        };
        for (path, asked, recursive, expected) in [
            ("/var/lib/mysql/x", &[][..], true, true),
            ("/var/lib/mysql/x", &[], false, false),
            ("/var/lib/mysql", &[], false, true),
            ("/var/lib/mysql/x", &["/var/lib/mysql"], false, true),
            ("/var/lib/mysql/x/y", &["/var/lib/mysql"], false, false),
            ("/var/lib/mysql/x/y", &["/var/lib/my"], true, false),
            ("/var/lib/mysql/x/y", &["mysql/x"], true, true),
            ("/var/lib/mysql/x/y", &["/other", "/var"], true, true),
        ] {
            assert_eq!(listed(path, asked, recursive), expected, "{path} {asked:?} {recursive}");
        }
    }
}
