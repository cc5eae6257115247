//! `colvault find`

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use colvault_engine::find::{FindOptions, find};
use colvault_engine::format::manifest::Time;
use colvault_engine::format::text::{decode_path, encode_path};
use colvault_engine::id::PackId;
use colvault_engine::index::IdPrefix;
use colvault_engine::pattern::Patterns;
use colvault_engine::progress::Event;
use colvault_engine::restore::Select;
use colvault_engine::snapshot::{Filter, Listing, Named, choose, list};

use crate::commands::temporary::TemporaryArgs;
use crate::commands::{exit_of, nobody_reads, not_chosen, refuse_unknown_components, tables};
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::{ListedEntry, Searched};
use crate::units;

/// Find files in snapshots: by name, size, time or column, or by what they are stored in
///
/// A pattern without a slash matches a name at any depth; with a leading slash it matches the whole
/// path as the source named it; * does not cross a slash, ** does.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(
    ["patterns", "oid", "table", "chunk", "pack", "size_min", "size_max", "oldest", "newest"]))]
pub struct FindArgs {
    /// Globs, any of which must match
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,

    /// Show kind, permissions, owner, size and time
    #[arg(short, long)]
    long: bool,

    /// Say how many there are in each snapshot, not which
    #[arg(long, conflicts_with = "long")]
    count: bool,

    /// Only files of at least this size, as 512, 64K, 10M, 2G
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    size_min: Option<u64>,

    /// Only files of at most this size
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    size_max: Option<u64>,

    /// Only what was changed then or later, as 2026-11-23 or 2026-11-23T14:30:00 or with a zone
    #[arg(short = 'O', long, value_name = "TIME", value_parser = time)]
    oldest: Option<Time>,

    /// Only what was changed then or before
    #[arg(short = 'N', long, value_name = "TIME", value_parser = time)]
    newest: Option<Time>,

    /// Only segment files of this column object
    #[arg(long, value_name = "N")]
    oid: Option<u32>,

    /// Only segment files of this table, as SCHEMA.TABLE or a glob of both; may be given more than once
    #[arg(long, value_name = "SCHEMA.TABLE")]
    table: Vec<String>,

    /// Only what needs this chunk, of content or of a manifest; 40 digits of its id are enough
    #[arg(long, value_name = "ID", value_parser = chunk)]
    chunk: Option<IdPrefix>,

    /// Only what needs this pack
    #[arg(long, value_name = "ID", value_parser = pack)]
    pack: Option<PackId>,

    /// Only this component; dbroot means every dbroot/N
    #[arg(long, value_name = "COMPONENT")]
    component: Vec<String>,

    /// Only in this snapshot: an id, the beginning of one, latest or latest~N; may be given more
    /// than once
    #[arg(short, long, value_name = "SNAPSHOT")]
    snapshot: Vec<String>,

    /// Only in snapshots of this host
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Vec<String>,

    /// Only in snapshots with this tag
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,

    #[command(flatten)]
    temporary: TemporaryArgs,
}

/// Searches.
pub fn run(args: &FindArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let mut options = FindOptions {
        patterns: Patterns::new(args.patterns.iter().map(String::as_str))?,
        select: Select { components: args.component.clone(), ..Select::everything() },
        size_min: args.size_min,
        size_max: args.size_max,
        oldest: args.oldest,
        newest: args.newest,
        oid: args.oid,
        tables: None,
        chunk: args.chunk,
        pack: args.pack,
        spill: args.temporary.place(context),
        cancel: context.cancel.clone(),
    };
    let watch = Watch::new(context.output);
    let repository = context.open_repository()?;
    // Snapshots first: the index that is loaded after names all that they need.
    let listing = list(&repository)?;
    watch.add(&listing.findings);
    repository.load_index(&watch)?;
    let searched = args.searched(&listing, context)?;
    refuse_unknown_components(&args.component, &searched.iter().collect::<Vec<_>>())?;
    let mut tables = tables::of_snapshots(&repository, &searched, &args.table, &watch)?;
    options.tables = tables.as_mut().map(|tables| std::mem::take(&mut tables.oids));
    let mut last = None;
    let mut count = 0;
    let report = find(&repository, &searched, &options, &watch, &mut |found| {
        if last != Some(found.named.id) {
            match searched.iter().find(|named| Some(named.id) == last) {
                Some(named) if args.count => context.output.found_in(named, Some(count)),
                _ if args.count => {}
                _ => context.output.found_in(found.named, None),
            }
            (last, count) = (Some(found.named.id), 0);
        }
        count += 1;
        if !args.count {
            let base = decode_path(&found.component.path);
            let path = match found.entry.path.as_slice() {
                [] => base,
                below => base.join(OsStr::from_bytes(below)),
            };
            let path = encode_path(&path);
            let (component, entry) = (found.component, found.entry);
            let of_tables = tables.as_ref();
            let column = of_tables.and_then(|tables| tables.column(found.named.id, &entry.path));
            let column = column.as_ref();
            let is_long = args.long;
            let listed = ListedEntry { component, path: &path, entry, column, is_long };
            context.output.found(found.named, &listed);
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
    if let Some(named) = searched.iter().find(|named| args.count && Some(named.id) == last) {
        context.output.found_in(named, Some(count));
    }
    watch.add(&report.findings);
    let findings = watch.findings();
    let unsearched = tables.map_or(0, |tables| tables.unsearched);
    context.output.searched(&Searched {
        report: &report,
        unsearched,
        findings: &findings,
        traffic,
    });
    Ok(exit_of(&findings))
}

impl FindArgs {
    fn searched(&self, listing: &Listing, context: &Context<'_>) -> Result<Vec<Named>, Failure> {
        let filter = Filter { hosts: self.host.clone(), tags: self.tag.clone() };
        if self.snapshot.is_empty() {
            let allowed = listing.snapshots.iter().filter(|named| filter.allows(&named.snapshot));
            return Ok(allowed.cloned().collect());
        }
        let mut chosen: Vec<Named> = Vec::new();
        for wanted in &self.snapshot {
            let found = choose(listing, wanted, &filter, false).map_err(not_chosen)?;
            if let Some(warning) = &found.warning {
                context.output.event(Event::Warning(warning));
            }
            if !chosen.contains(&found.named) {
                chosen.push(found.named);
            }
        }
        Ok(chosen)
    }
}

fn time(text: &str) -> Result<Time, String> {
    let (seconds, nanoseconds) = units::parse_time(text)?;
    Ok(Time { seconds, nanoseconds })
}

/// Reads the beginning of a chunk id: 40 digits or more, as findings name them.
fn chunk(text: &str) -> Result<IdPrefix, String> {
    let digits = text.trim_end_matches('.');
    let is_id = (40..=64).contains(&digits.len())
        && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let mut prefix = [0; 20];
    for (byte, at) in prefix.iter_mut().zip((0..).step_by(2)) {
        let parsed = digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        *byte = parsed.unwrap_or(0);
    }
    let problem = "the id of a chunk expected: 64 hexadecimal digits, or the first 40 of them";
    is_id.then_some(prefix).ok_or_else(|| problem.to_owned())
}

/// Reads a pack id; the name of its object will do.
fn pack(text: &str) -> Result<PackId, String> {
    let id = text.rsplit('/').next().unwrap_or(text);
    id.parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_findings_name_them() {
        let digits = "00112233445566778899aabbccddeeff00112233";
        assert_eq!(chunk(digits).unwrap()[..3], [0, 0x11, 0x22]);
        assert_eq!(chunk(&format!("{digits}...")), chunk(digits));
        assert_eq!(chunk(&format!("{digits}445566778899aabbccddeeff")), chunk(digits));
        for wrong in ["", "00", &digits[1..], &digits.replace('a', "A"), &format!("{digits}x")] {
            assert!(chunk(wrong).is_err(), "{wrong}");
        }
        let id = "ab".repeat(32);
        assert_eq!(pack(&id), pack(&format!("packs/ab/{id}")));
        assert!(pack("ab").is_err());
    }
}
