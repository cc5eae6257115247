//! The settings file: TOML, with the line each value stands on.
//!
//! What stands at the top holds for everybody; a profile, `[profiles.NAME]`, has the same keys and
//! goes before it, key by key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::format::snapshot::ReloadStep;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::table::{Kind, SETTINGS, Setting, find};
use super::value::{Origin, Said, Value};
use crate::exit::Failure;

/// Where it is looked for when nobody says.
pub const DEFAULT: &str = "/etc/colvault/colvault.toml";

/// The table of the profiles.
const PROFILES: &str = "profiles";

/// The keys of a reload step.
const STEP: [&str; 3] = ["table", "from", "command"];

/// What the file says, by key.
pub type Layer = BTreeMap<&'static str, Said>;

/// A settings file that was read.
#[derive(Debug, Default)]
pub struct File {
    /// What it says with the chosen profile.
    pub layer: Layer,
    /// What its owner should know.
    pub warnings: Vec<String>,
}

/// Reads a file and the profile in it, if one is chosen.
///
/// Fails with `NotFound` and the like when it cannot be read, `Refused` when somebody else can write
/// it, `Invalid` for what is no TOML, a key that is not known, a value of another type, a profile
/// that it does not have.
pub fn read(path: &Path, profile: Option<&str>) -> Result<File, Failure> {
    let bytes = fs::read(path).map_err(|error| Error::io(path, "read the settings", error))?;
    let metadata =
        fs::metadata(path).map_err(|error| Error::io(path, "examine the settings", error))?;
    refuse_foreign(path, &metadata)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::new(ErrorKind::Invalid, path.display().to_string(), "UTF-8 expected")
            .caused_by(error)
    })?;
    let mut file = File { layer: Reader { path, text: &text }.layer(profile)?, warnings: vec![] };
    let secret = file.layer.iter().find(|(key, said)| {
        let setting = find(key).expect("only known keys are kept");
        Value { setting, said: Some((*said).clone()) }.holds_a_secret()
    });
    let is_open = metadata.is_file() && metadata.mode() & 0o044 != 0;
    if let Some((_, said)) = secret.filter(|_| is_open) {
        file.warnings.push(format!(
            "{} holds a password and others can read it (mode {:04o}): chmod 600 it",
            said.origin.describe(),
            metadata.mode() & 0o7777
        ));
    }
    Ok(file)
}

/// Whoever can write the file decides what is backed up: that has to be root or this user.
fn refuse_foreign(path: &Path, metadata: &fs::Metadata) -> Result<(), Failure> {
    if !metadata.is_file() {
        return Ok(());
    }
    let (own, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let is_foreign_group = metadata.gid() != 0 && metadata.gid() != group;
    let others = if is_foreign_group { 0o022 } else { 0o002 };
    let problem = if metadata.mode() & others != 0 {
        format!(
            "nobody else able to write it expected, found mode {:04o}",
            metadata.mode() & 0o7777
        )
    } else if metadata.uid() != 0 && metadata.uid() != own {
        format!("root or this user as its owner expected, found user {}", metadata.uid())
    } else {
        return Ok(());
    };
    Err(Failure::new(ErrorKind::Refused, path.display().to_string(), problem).with_hint(
        "whoever can write the settings decides what is backed up: chown root and chmod 600 it",
    ))
}

/// Reads the text of a file.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn layer(&self, profile: Option<&str>) -> Result<Layer, Failure> {
        let document = DeTable::parse(self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.wrong(at, "", format!("TOML expected: {}", error.message()))
        })?;
        let mut layer = Layer::new();
        let mut known = Vec::new();
        self.table(document.get_ref(), "", &mut layer)?;
        for (name, value) in
            document.get_ref().iter().filter(|(name, _)| name.get_ref() == PROFILES)
        {
            let at = name.span().start;
            for (name, value) in self.as_table(value, at, PROFILES)? {
                known.push(name.get_ref().to_string());
                // Every profile has to make sense, chosen or not.
                let prefix = format!("{PROFILES}.{}.", name.get_ref());
                let mut own = Layer::new();
                let at = name.span().start;
                self.table(
                    self.as_table(value, at, prefix.trim_end_matches('.'))?,
                    &prefix,
                    &mut own,
                )?;
                if profile == Some(name.get_ref().as_ref()) {
                    layer.extend(own);
                }
            }
        }
        match profile {
            Some(wanted) if !known.iter().any(|name| name == wanted) => {
                let found = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let problem = format!("profile {wanted:?} expected, found {found}");
                Err(Failure::new(ErrorKind::Invalid, self.path.display().to_string(), problem)
                    .with_hint(format!(
                        "write a table [{PROFILES}.{wanted}], or name another profile"
                    )))
            }
            _ => Ok(layer),
        }
    }

    /// Reads the keys of the top or of a profile; `prefix` is what stands before each.
    fn table(&self, table: &DeTable<'_>, prefix: &str, layer: &mut Layer) -> Result<(), Failure> {
        for (name, value) in table {
            let (key, at) = (name.get_ref().as_ref(), name.span().start);
            if prefix.is_empty() && key == PROFILES {
                continue;
            }
            let is_section = SETTINGS
                .iter()
                .any(|setting| setting.key.split_once('.').is_some_and(|(s, _)| s == key));
            if !is_section {
                self.setting(key, at, value, prefix, layer)?;
                continue;
            }
            for (name, value) in self.as_table(value, at, &format!("{prefix}{key}"))? {
                let key = format!("{key}.{}", name.get_ref());
                self.setting(&key, name.span().start, value, prefix, layer)?;
            }
        }
        Ok(())
    }

    fn setting(
        &self,
        key: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
        prefix: &str,
        layer: &mut Layer,
    ) -> Result<(), Failure> {
        let full = format!("{prefix}{key}");
        let Some(setting) = find(key) else {
            let keys = SETTINGS.iter().map(|setting| setting.key).chain([PROFILES]);
            let failure = self.wrong(at, &full, "there is no such setting".to_owned());
            return Err(failure.with_hint(suggestion(key, keys)));
        };
        let origin =
            Origin::File { path: self.path.to_owned(), line: self.line(at), key: full.clone() };
        let mut said = Said { values: Vec::new(), steps: Vec::new(), origin };
        match setting.kind {
            Kind::Steps => said.steps = self.steps(value, at, &full)?,
            _ => said.values = self.values(setting, value, at, &full)?,
        }
        layer.insert(setting.key, said);
        Ok(())
    }

    fn values(
        &self,
        setting: &Setting,
        value: &Spanned<DeValue<'_>>,
        at: usize,
        key: &str,
    ) -> Result<Vec<OsString>, Failure> {
        let expected = match setting.kind {
            Kind::Number => "a whole number",
            Kind::Flag => "true or false",
            Kind::List => "a list of texts",
            Kind::Text | Kind::Steps => "a text in quotes",
        };
        let wrong =
            |found: &str| self.wrong(at, key, format!("{expected} expected, found {found}"));
        match (setting.kind, value.get_ref()) {
            (Kind::Text | Kind::List, DeValue::String(text)) => Ok(vec![text.as_ref().into()]),
            (Kind::Number, DeValue::Integer(number)) => Ok(vec![number.as_str().into()]),
            (Kind::Flag, DeValue::Boolean(is_set)) => Ok(vec![is_set.to_string().into()]),
            (Kind::List, DeValue::Array(values)) => {
                let text = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
                    DeValue::String(text) => Ok(text.as_ref().into()),
                    other => Err(wrong(&format!("{} in it", in_words(other)))),
                };
                values.iter().map(text).collect()
            }
            (_, other) => Err(wrong(in_words(other))),
        }
    }

    fn steps(
        &self,
        value: &Spanned<DeValue<'_>>,
        at: usize,
        key: &str,
    ) -> Result<Vec<ReloadStep>, Failure> {
        let DeValue::Array(values) = value.get_ref() else {
            let found = in_words(value.get_ref());
            return Err(self.wrong(at, key, format!("tables [[{key}]] expected, found {found}")));
        };
        let mut steps = Vec::new();
        for value in values.iter() {
            let at = value.span().start;
            let mut step =
                ReloadStep { table: String::new(), from: String::new(), command: String::new() };
            for (name, value) in self.as_table(value, at, key)? {
                let (own, at) = (name.get_ref().as_ref(), name.span().start);
                let DeValue::String(text) = value.get_ref() else {
                    let found = in_words(value.get_ref());
                    let problem = format!("a text in quotes expected, found {found}");
                    return Err(self.wrong(at, &format!("{key}.{own}"), problem));
                };
                let text = text.trim().to_owned();
                match own {
                    "table" => step.table = text,
                    "from" => step.from = text,
                    "command" => step.command = text,
                    _ => {
                        let problem = "there is no such key of a step".to_owned();
                        return Err(self
                            .wrong(at, &format!("{key}.{own}"), problem)
                            .with_hint(suggestion(own, STEP.into_iter())));
                    }
                }
            }
            for (name, text) in [("table", &step.table), ("command", &step.command)] {
                if text.is_empty() {
                    let problem = format!("{name} = \"...\" expected in each step, found none");
                    return Err(self.wrong(at, key, problem));
                }
            }
            steps.push(step);
        }
        Ok(steps)
    }

    fn as_table<'a, 'i>(
        &self,
        value: &'a Spanned<DeValue<'i>>,
        at: usize,
        key: &str,
    ) -> Result<&'a DeTable<'i>, Failure> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table),
            other => {
                let problem = format!("a table [{key}] expected, found {}", in_words(other));
                Err(self.wrong(at, key, problem))
            }
        }
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    fn wrong(&self, at: usize, key: &str, problem: String) -> Failure {
        let mut object = format!("{}:{}", self.path.display(), self.line(at));
        if !key.is_empty() {
            object.push_str(&format!(": {key}"));
        }
        Failure::new(ErrorKind::Invalid, object, problem)
            .with_hint("docs/SETTINGS.md and colvault plan --show-settings list all settings")
    }
}

fn in_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Names the known key that is nearest to another; for one of an access key, where those come from.
pub fn suggestion<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    let lower = key.to_lowercase();
    if ["access_key", "secret", "session_token"].iter().any(|part| lower.contains(part)) {
        return "access keys are no settings: they come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), from a \
                profile of ~/.aws (s3.profile names one) or a role; docs/S3.md 3"
            .to_owned();
    }
    let nearest = known.min_by_key(|known| distance(key, known)).unwrap_or_default();
    format!("the nearest there is: {nearest}")
}

/// How many letters have to be put in, taken out or changed.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[other.len()]
}

/// The file to read: the one that is named, or the usual one if it is there.
pub fn chosen(named: Option<PathBuf>) -> Option<PathBuf> {
    // Only one that is not there says nothing; one that cannot be reached is an error when it is read.
    named.or_else(|| {
        let is_absent = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        let path = PathBuf::from(DEFAULT);
        let is_there = !path.symlink_metadata().is_err_and(is_absent);
        is_there.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn layer(text: &str, profile: Option<&str>) -> Result<Layer, String> {
        Reader { path: Path::new("f"), text }
            .layer(profile)
            .map_err(|failure| format!("{} | {}", failure.message(), failure.hint().unwrap_or("")))
    }

    #[test]
    fn values_keep_their_line_and_profiles_go_before_the_top() {
        let text = "threads = 3\nrepository = \"/a\"\n[backup]\nexclude = [\"x\", \"y\"]\n\
                    ignore_ctime = true\n[profiles.erp]\nrepository = \"/b\"\n\
                    backup.exclude = \"z\"\n[[profiles.erp.record.reload]]\ntable = \"d.t\"\n\
                    command = \" c \"\n";
        let plain = layer(text, None).unwrap();
        assert_eq!(plain["threads"].values, ["3"]);
        assert_eq!(plain["backup.exclude"].values, ["x", "y"]);
        assert_eq!(plain["backup.ignore_ctime"].values, ["true"]);
        assert_eq!(plain["repository"].origin.describe(), "f:2: repository");
        assert!(!plain.contains_key("record.reload"));
        let erp = layer(text, Some("erp")).unwrap();
        assert_eq!(erp["threads"].origin.describe(), "f:1: threads");
        assert_eq!(erp["repository"].values, ["/b"]);
        assert_eq!(erp["repository"].origin.describe(), "f:7: profiles.erp.repository");
        assert_eq!(erp["backup.exclude"].values, ["z"]);
        let step = ReloadStep { table: "d.t".into(), from: "".into(), command: "c".into() };
        assert_eq!(erp["record.reload"].steps, [step]);
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_line_and_the_nearest_key() {
        for (text, profile, said) in [
            (
                "\nreposiroty = 1",
                None,
                "f:2: reposiroty: there is no such setting | the nearest there is: repository",
            ),
            (
                "[backup]\nexlude = []",
                None,
                "f:2: backup.exlude: there is no such setting | the nearest there is: backup.exclude",
            ),
            ("[backups]\nexclude = []", None, "f:1: backups: there is no such setting"),
            (
                "[profiles.a.check]\nread = true",
                None,
                "f:2: profiles.a.check.read: there is no such setting",
            ),
            ("threads = \"4\"", None, "f:1: threads: a whole number expected, found a text"),
            (
                "repository = 4",
                None,
                "f:1: repository: a text in quotes expected, found a whole number",
            ),
            ("backup = 1", None, "f:1: backup: a table [backup] expected, found a whole number"),
            (
                "[backup]\nexclude = [1]",
                None,
                "f:2: backup.exclude: a list of texts expected, found a whole number in it",
            ),
            ("no_cache = 1", None, "f:1: no_cache: true or false expected, found a whole number"),
            (
                "record.reload = \"x\"",
                None,
                "f:1: record.reload: tables [[record.reload]] expected, found a text",
            ),
            (
                "[[record.reload]]\ntable = \"a.b\"",
                None,
                "f:1: record.reload: command = \"...\" expected in each step, found none",
            ),
            (
                "[[record.reload]]\ntabel = \"a.b\"",
                None,
                "f:2: record.reload.tabel: there is no such key of a step | the nearest there is: table",
            ),
            (
                "[[record.reload]]\ntable = 1",
                None,
                "f:2: record.reload.table: a text in quotes expected, found a whole number",
            ),
            ("threads = 1\nthreads = 2", None, "f:2: TOML expected: "),
            ("x", None, "f:1: TOML expected: "),
            ("threads = 1", Some("erp"), "f: profile \"erp\" expected, found none"),
            ("[profiles.a]\n[profiles.b]", Some("erp"), "f: profile \"erp\" expected, found a, b"),
            ("profiles = 1", None, "f:1: profiles: a table [profiles] expected"),
        ] {
            let found = layer(text, profile).expect_err(text);
            assert!(found.starts_with(said), "{text:?}\n  expected {said}\n  found    {found}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_refused_and_an_open_password_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f.toml");
        let with_mode = |mode, text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read(&path, None).map(|file| file.warnings.len()).map_err(|f| f.exit().code())
        };
        let secret = "[[record.reload]]\ntable = \"a.b\"\ncommand = \"mariadb --password=x\"\n";
        assert_eq!(with_mode(0o600, secret), Ok(0));
        assert_eq!(with_mode(0o644, secret), Ok(1));
        assert_eq!(with_mode(0o644, "threads = 1"), Ok(0));
        assert_eq!(with_mode(0o664, "threads = 1"), Ok(0));
        assert_eq!(with_mode(0o666, "threads = 1"), Err(1));
        assert!(read(&directory.path().join("absent"), None).is_err());
    }

    #[test]
    fn distances_count_letters() {
        for (one, other, expected) in
            [("", "", 0), ("ab", "", 2), ("abc", "axc", 1), ("abc", "bc", 1)]
        {
            assert_eq!(distance(one, other), expected);
        }
    }
}
