//! What the command line, the environment and the settings file come to.
//!
//! One table, [`table::SETTINGS`], names every setting once. The command line is parsed; what it
//! leaves open is taken from the environment, then from the file, and handed to the parser as the
//! option's default, so that a value is validated by the same code wherever it was said. Each value
//! knows its [`Origin`].

mod again;
mod file;
mod location;
mod s3;
mod table;
mod value;

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::builder::{OsStr as Word, Resettable};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use colvault_engine::error::ErrorKind;
use colvault_engine::format::snapshot::ReloadStep;
#[cfg(feature = "s3")]
use colvault_engine::s3client::S3Options;

use location::BucketLocation;
pub use location::Location;
use s3::HEADING as S3_HEADING;
pub use s3::{S3Args, StorageClasses};
pub use table::{Kind, Setting};
use value::Said;
pub use value::{Origin, Value, holds_a_secret};

use crate::args::{Args, Globals};
use crate::exit::Failure;
use table::{EXCLUSIVE, SETTINGS};

/// Where indexes are cached when neither the user nor the environment says.
const CACHE_OF_THE_HOST: &str = "/var/cache/colvault";

/// What every variable of a setting begins with.
const PREFIX: &str = "COLVAULT_";

/// The variables that choose the file and the profile in it.
const CONFIG: &str = "COLVAULT_CONFIG";
const PROFILE: &str = "COLVAULT_PROFILE";

/// What holds for every command, and every setting as it came to be.
#[derive(Clone, Debug)]
pub struct Settings {
    repository: Option<String>,
    s3: S3Args,
    /// Where the caches of all repositories are; `None` to keep indexes in memory.
    pub cache: Option<CacheDirectory>,
    /// Threads that work at once, at least one.
    pub threads: usize,
    /// The reload procedure of the system of record.
    pub reload: Vec<ReloadStep>,
    /// The beginning of a command line that reaches the same repository, for a shell.
    pub again: String,
    /// Every setting, in the order of the table.
    pub values: Vec<Value>,
    /// What the user should know about them.
    pub warnings: Vec<String>,
}

/// The directory of all caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheDirectory {
    /// Where it is; it need not exist.
    pub path: PathBuf,
    /// Whether nobody asked for this place.
    pub is_default: bool,
}

/// A command line that was understood by itself.
pub struct CommandLine {
    words: Vec<OsString>,
    matches: ArgMatches,
    /// Options as far as the command line says them.
    pub globals: Globals,
}

impl CommandLine {
    /// Parses the words of a command line, the program's name first.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        let matches = definition(|command| command).try_get_matches_from(&words)?;
        let globals = Globals::from_arg_matches(&matches)?;
        Ok(CommandLine { words, matches, globals })
    }

    /// Adds what environment and settings file say.
    pub fn resolve(&self) -> Result<(Args, Settings), Failure> {
        let given = |flag: &Option<PathBuf>, variable| match flag {
            Some(said) => Some(said.clone()),
            None => variable_of(variable).map(PathBuf::from),
        };
        let path = file::chosen(given(&self.globals.config, CONFIG));
        let profile = given(&self.globals.profile.as_ref().map(PathBuf::from), PROFILE);
        let profile = profile.map(|name| name.to_string_lossy().into_owned());
        let file = match (&path, &profile) {
            (Some(path), profile) => file::read(path, profile.as_deref())?,
            (None, None) => file::File::default(),
            (None, Some(profile)) => {
                let problem =
                    format!("a settings file with the profile {profile:?} expected, found none");
                return Err(Failure::new(ErrorKind::NotFound, file::DEFAULT, problem)
                    .with_hint("name the file: --config FILE, or COLVAULT_CONFIG=FILE"));
            }
        };
        let command = self.matches.subcommand_name().unwrap_or_default();
        let root = Args::command();
        let mut values: Vec<Value> = SETTINGS
            .iter()
            .map(|setting| Value { setting, said: self.said(setting, command, &root, &file.layer) })
            .collect();
        exclude(&mut values)?;
        let in_place = one_endpoint(&mut values);
        let args = self.parse_with(&values, command)?;
        let steps = values.iter_mut().find(|value| value.setting.kind == Kind::Steps);
        let reload = steps.and_then(|value| value.said.as_ref()).map(|said| said.steps.clone());
        let globals = &args.globals;
        let mut warnings = file.warnings;
        warnings.extend(unknown_variables());
        warnings.extend(s3_warnings(globals));
        let available = || std::thread::available_parallelism().map_or(1, |number| number.get());
        // Given as nothing it is as good as not given.
        let asked = globals.cache_dir.as_ref().filter(|path| !path.is_empty()).map(Path::new);
        let settings = Settings {
            repository: in_place.or(globals.repo.clone()).filter(|text| !text.is_empty()),
            s3: globals.s3.clone(),
            cache: (!globals.no_cache).then(|| cache_directory(asked)),
            threads: globals.threads.map_or_else(available, usize::from),
            reload: reload.unwrap_or_default(),
            again: again::again(&values, &self.globals),
            values,
            warnings,
        };
        Ok((args, settings))
    }

    /// Returns what the highest layer says that says anything.
    fn said(
        &self,
        setting: &Setting,
        command: &str,
        root: &Command,
        file: &file::Layer,
    ) -> Option<Said> {
        if setting.is_option_of(command)
            && let Some(matches) = self.matches_of(setting)
            && matches.value_source(setting.argument) == Some(ValueSource::CommandLine)
        {
            let values = matches.get_raw(setting.argument).unwrap_or_default();
            return Some(Said {
                values: values.map(OsStr::to_owned).collect(),
                steps: Vec::new(),
                origin: Origin::Flag { name: setting.written(root).unwrap_or_default() },
            });
        }
        let name = setting.variable().filter(|name| variable_of(name).is_some());
        name.and_then(|name| Some((variable_of(&name)?, name)))
            .map(|(value, name)| Said {
                values: match setting.kind {
                    Kind::List => lines(&value),
                    _ => vec![value],
                },
                steps: Vec::new(),
                origin: Origin::Environment { name },
            })
            .or_else(|| file.get(setting.key).cloned())
    }

    /// Where the parser put a setting: options of every command stand at the top.
    fn matches_of(&self, setting: &Setting) -> Option<&ArgMatches> {
        match setting.commands.is_empty() {
            true => Some(&self.matches),
            false => self.matches.subcommand().map(|(_, matches)| matches),
        }
    }

    /// Parses once more, with the other layers' values as defaults. What the parser does not take is
    /// told with where it was said.
    fn parse_with(&self, values: &[Value], command: &str) -> Result<Args, Failure> {
        let lower: Vec<(&Value, &Said)> = values
            .iter()
            .filter(|value| value.setting.is_option_of(command))
            .filter_map(|value| Some((value, value.said.as_ref()?)))
            .filter(|(_, said)| !matches!(said.origin, Origin::Flag { .. }))
            .collect();
        let parse = |some: &[(&Value, &Said)]| {
            let with_defaults = |definition| {
                some.iter().fold(definition, |definition, (value, said)| {
                    with_default(definition, value.setting, command, &said.values)
                })
            };
            definition(with_defaults).try_get_matches_from(&self.words)
        };
        let parsed = parse(&lower).and_then(|matches| Args::from_arg_matches(&matches));
        parsed.map_err(|error| {
            let culprit = lower.iter().find(|one| parse(std::slice::from_ref(one)).is_err());
            let object = culprit.map_or_else(String::new, |(_, said)| said.origin.describe());
            // Up to the first blank line: below it stands what is about the command line.
            let text = error.to_string();
            let said: Vec<_> =
                text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            let problem = said.join(" ");
            // A mistake is the same wherever it was said.
            let problem = problem.trim_start_matches("error: ");
            Failure::usage(match object.as_str() {
                "" => problem.to_owned(),
                object => format!("{object}: {problem}"),
            })
        })
    }
}

/// Returns the command line's definition, with the defaults of other layers. A flag can be switched
/// off again with `=false`, where another layer switched it on.
fn definition(with_defaults: impl FnOnce(Command) -> Command) -> Command {
    let mut command = Args::command();
    for setting in SETTINGS.iter().filter(|setting| setting.kind == Kind::Flag) {
        command = with_option(command, setting, None, |option| {
            option
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .value_name("BOOL")
                .value_parser(clap::builder::BoolishValueParser::new())
                .default_value("false")
                .default_missing_value("true")
                .hide_default_value(true)
                .hide_possible_values(true)
        });
    }
    // Last: the commands have copies, which would keep the defaults they were copied with.
    without_repetition(with_defaults(command))
}

/// Leaves the options of buckets out of the help of each command: that of the program lists them.
fn without_repetition(command: Command) -> Command {
    let of_buckets = |argument: &&Arg| {
        let heading = argument.get_help_heading();
        heading.is_some_and(|heading| heading == S3_HEADING)
    };
    let hidden: Vec<Arg> = command.get_arguments().filter(of_buckets).cloned().collect();
    let hidden: Vec<Arg> = hidden.into_iter().map(|argument| argument.hide(true)).collect();
    let names: Vec<String> =
        command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |command| command.args(hidden.clone()))
    })
}

fn with_default(
    definition: Command,
    setting: &Setting,
    command: &str,
    values: &[OsString],
) -> Command {
    with_option(definition, setting, Some(command), |option| {
        // Help is shown before this; in errors a default would be taken for what is built in.
        let option = option.hide_default_value(true);
        match values {
            [] => option.default_value(Resettable::Reset),
            values => option.default_values(values.iter().map(Word::from)),
        }
    })
}

/// Changes an option: of one command, or of all that have it.
fn with_option(
    definition: Command,
    setting: &Setting,
    only: Option<&str>,
    change: impl Fn(Arg) -> Arg,
) -> Command {
    if setting.commands.is_empty() {
        return definition.mut_arg(setting.argument, change);
    }
    let commands = setting.commands.iter().filter(|name| only.is_none_or(|only| only == **name));
    commands.fold(definition, |definition, name| {
        definition.mut_subcommand(name, |command| command.mut_arg(setting.argument, &change))
    })
}

/// Drops, of two settings that rule each other out, the one from the lower layer.
///
/// Fails with `Invalid` when both were said in the same layer; of options the parser says so.
fn exclude(values: &mut [Value]) -> Result<(), Failure> {
    for (one, other) in EXCLUSIVE {
        let origins: BTreeMap<&str, Origin> = values
            .iter()
            .filter(|value| says_something(value))
            .map(|value| (value.setting.key, value.origin().clone()))
            .collect();
        let (Some(first), Some(second)) = (origins.get(one), origins.get(other)) else { continue };
        let loser = match first.rank().cmp(&second.rank()) {
            std::cmp::Ordering::Less => one,
            std::cmp::Ordering::Greater => other,
            std::cmp::Ordering::Equal if matches!(first, Origin::Flag { .. }) => continue,
            std::cmp::Ordering::Equal => {
                let problem = format!("only one of {one} and {other} expected, found both");
                return Err(Failure::new(ErrorKind::Invalid, second.describe(), problem));
            }
        };
        values
            .iter_mut()
            .filter(|value| value.setting.key == loser)
            .for_each(|value| value.said = None);
    }
    Ok(())
}

/// Of two endpoints, one in the repository's name and one in its setting, leaves the one that was said
/// closer to the command line. Returns the repository's name without an endpoint, where that goes.
fn one_endpoint(values: &mut [Value]) -> Option<String> {
    let at = |values: &[Value], key| values.iter().position(|value| value.setting.key == key);
    let (name, endpoint) = (at(values, "repository")?, at(values, "s3.endpoint")?);
    let text = values[name].said.as_ref()?.values.first()?.to_str()?;
    let Ok(Location::Bucket(bucket)) = Location::parse(text) else { return None };
    let named = bucket.endpoint.as_ref()?;
    let said = values[endpoint].said.as_ref()?.values.first()?.to_str()?;
    if location::endpoint(said).is_ok_and(|said| said == *named) {
        return None;
    }
    match values[name].origin().rank().cmp(&values[endpoint].origin().rank()) {
        std::cmp::Ordering::Less => {
            Some(Location::Bucket(BucketLocation { endpoint: None, ..bucket }).shown())
        }
        std::cmp::Ordering::Greater => {
            values[endpoint].said = None;
            None
        }
        // Told where the bucket is opened.
        std::cmp::Ordering::Equal => None,
    }
}

/// Whether a value is more than an empty text, an empty list or a flag that is off, however that is
/// spelt.
fn says_something(value: &Value) -> bool {
    let said = value.said.iter().flat_map(|said| &said.values);
    let is_flag = value.setting.kind == Kind::Flag;
    said.filter(|text| !text.is_empty()).any(|text| !is_flag || !text.to_str().is_some_and(is_off))
}

/// Whether the parser of flags takes a text for false.
fn is_off(text: &str) -> bool {
    ["false", "no", "off", "n", "f", "0"].contains(&text.to_lowercase().as_str())
}

/// Returns a variable; set to nothing it is as good as not set.
fn variable_of(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns the lines of a value without empty ones.
fn lines(value: &OsStr) -> Vec<OsString> {
    let lines = value.as_bytes().split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| OsStr::from_bytes(line).to_owned()).collect()
}

/// Returns what the user should know about the way to a bucket, if the repository is in one.
fn s3_warnings(globals: &Globals) -> Vec<String> {
    let location = globals.repo.as_deref().map(Location::parse);
    match location {
        #[cfg(feature = "s3")]
        Some(Ok(Location::Bucket(_))) => globals.s3.warnings(),
        _ => Vec::new(),
    }
}

/// Warns of variables that look like settings and are none.
fn unknown_variables() -> Vec<String> {
    let known: Vec<String> = SETTINGS.iter().filter_map(Setting::variable).collect();
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown = names.filter(|name| {
        name.starts_with(PREFIX)
            && ![CONFIG, PROFILE].contains(&name.as_str())
            && !known.contains(name)
    });
    unknown
        .map(|name| {
            let nearest = file::suggestion(&name, known.iter().map(String::as_str));
            format!("environment variable {name} is no setting; {nearest}")
        })
        .collect()
}

impl Settings {
    /// Returns where the repository is.
    ///
    /// Fails when nobody said it or it makes no sense, and with `Unsupported` when it is somewhere this
    /// program cannot reach.
    pub fn repository(&self) -> Result<Location, Failure> {
        let Some(text) = &self.repository else {
            return Err(Failure::usage("no repository was given").with_hint(
                "say where it is: -r REPOSITORY, or COLVAULT_REPOSITORY=REPOSITORY; a directory, or \
                 s3://BUCKET/PREFIX",
            ));
        };
        match Location::parse(text)? {
            #[cfg(not(feature = "s3"))]
            location @ Location::Bucket(_) => Err(no_s3(&location)),
            location => Ok(location),
        }
    }

    /// Returns the directory that the repository is in; `None` for one in a bucket.
    ///
    /// Fails as [`Settings::repository`].
    pub fn directory(&self) -> Result<Option<PathBuf>, Failure> {
        Ok(match self.repository()? {
            Location::Directory(path) => Some(path),
            Location::Bucket(_) => None,
        })
    }

    /// Whether the repository is in a bucket.
    pub fn is_bucket(&self) -> bool {
        matches!(self.repository(), Ok(Location::Bucket(_)))
    }

    /// Whether the store is given a key that it does not keep, for all objects.
    pub fn has_customer_key(&self) -> bool {
        self.is_bucket() && self.s3.has_customer_key()
    }

    /// Returns the storage classes of new objects; `None` for a repository that is in no bucket.
    pub fn storage_classes(&self) -> Option<StorageClasses<'_>> {
        self.is_bucket().then(|| self.s3.classes())
    }

    /// Returns how a bucket is reached.
    #[cfg(feature = "s3")]
    pub fn s3_options(&self, bucket: &BucketLocation) -> Result<S3Options, Failure> {
        self.s3.options(bucket)
    }

    /// Whether a repository was given.
    pub fn has_repository(&self) -> bool {
        self.repository.is_some()
    }
}

/// Says that this program was built without S3.
#[cfg(not(feature = "s3"))]
pub fn no_s3(location: &Location) -> Failure {
    let problem = "this build of the program has no S3";
    Failure::new(ErrorKind::Unsupported, location.shown(), problem)
        .with_hint("build it with the feature s3, or use a directory")
}

fn cache_directory(asked: Option<&Path>) -> CacheDirectory {
    if let Some(path) = asked {
        return CacheDirectory { path: path.to_owned(), is_default: false };
    }
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let path = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map_or_else(|| CACHE_OF_THE_HOST.into(), |cache| cache.join("colvault"));
    CacheDirectory { path, is_default: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_can_be_switched_off_and_the_definition_stays_sound() {
        let mut command = definition(|command| command);
        command.build();
        command.debug_assert();
        for (words, expected) in [
            (&["colvault", "--no-cache", "check"][..], true),
            (&["colvault", "--no-cache=false", "check"], false),
            (&["colvault", "check", "--no-cache=yes"], true),
            (&["colvault", "check"], false),
        ] {
            let line = CommandLine::parse(words.iter().map(OsString::from)).unwrap();
            assert_eq!(line.globals.no_cache, expected, "{words:?}");
        }
    }

    #[test]
    fn options_of_buckets_hold_for_commands_whose_help_does_not_list_them() {
        for words in [
            &["colvault", "--s3-class", "A", "check"][..],
            &["colvault", "check", "--s3-class", "A"],
            &["colvault", "--s3-class", "B", "check", "--s3-class=A"],
        ] {
            let line = CommandLine::parse(words.iter().map(OsString::from)).unwrap();
            assert_eq!(line.globals.s3.classes().data, Some("A"), "{words:?}");
        }
        let mut root = definition(|command| command);
        root.build();
        let help = |command: &mut Command| command.render_long_help().to_string();
        assert!(help(&mut root).contains("--s3-class"));
        let check = root.find_subcommand_mut("check").unwrap();
        assert!(!help(check).contains("--s3-class"));
    }
}
