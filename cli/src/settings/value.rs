//! A value and where it was said.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::PathBuf;

use colvault_engine::format::snapshot::ReloadStep;

use super::table::Setting;

/// Where a value was said. Later ones win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In the file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// The key as it is written out, with the profile.
        key: String,
    },
    /// In an environment variable.
    Environment {
        /// Its name.
        name: String,
    },
    /// On the command line.
    Flag {
        /// The option.
        name: String,
    },
}

impl Origin {
    /// Returns the layer, the lowest first; a profile is above the rest of its file.
    pub fn rank(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::File { key, .. } if !key.starts_with("profiles.") => 1,
            Origin::File { .. } => 2,
            Origin::Environment { .. } => 3,
            Origin::Flag { .. } => 4,
        }
    }

    /// Returns it in words, as errors name it.
    pub fn describe(&self) -> String {
        match self {
            Origin::Default => "built-in default".to_owned(),
            Origin::File { path, line, key } => format!("{}:{line}: {key}", path.display()),
            Origin::Environment { name } => format!("environment variable {name}"),
            Origin::Flag { name } => format!("option {name}"),
        }
    }
}

/// What a layer says of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The values: one, or any number of a list; `true` or `false` of a flag.
    pub values: Vec<OsString>,
    /// The steps, of the one setting that has some.
    pub steps: Vec<ReloadStep>,
    /// Where.
    pub origin: Origin,
}

/// A setting and what it came to.
#[derive(Clone, Debug)]
pub struct Value {
    /// The setting.
    pub setting: &'static Setting,
    /// What was said; `None` when nobody said anything.
    pub said: Option<Said>,
}

impl Value {
    /// Returns where it was said.
    pub fn origin(&self) -> &Origin {
        self.said.as_ref().map_or(&Origin::Default, |said| &said.origin)
    }

    /// Returns the values as text that may be shown: passwords are hidden. `None` when nobody said
    /// anything.
    pub fn shown(&self) -> Option<Vec<String>> {
        let said = self.said.as_ref()?;
        let steps = said.steps.iter().map(|step| {
            let from =
                if step.from.is_empty() { String::new() } else { format!(" from {}", step.from) };
            format!("{}{from}: {}", step.table, step.command)
        });
        let values = said.values.iter().map(|value| value.to_string_lossy().into_owned());
        Some(values.chain(steps).map(|text| concealed(&text).into_owned()).collect())
    }

    /// Whether something in it is a password.
    pub fn holds_a_secret(&self) -> bool {
        let said = self.said.iter();
        let mut steps = said.clone().flat_map(|said| &said.steps);
        let mut values = said.flat_map(|said| &said.values);
        steps.any(holds_a_secret) || values.any(|value| is_concealed(&value.to_string_lossy()))
    }
}

/// Whether a step has a password in it.
pub fn holds_a_secret(step: &ReloadStep) -> bool {
    is_concealed(&step.from) || is_concealed(&step.command)
}

fn is_concealed(text: &str) -> bool {
    matches!(concealed(text), Cow::Owned(_))
}

/// What stands before a password, in lower case.
const BEFORE_A_SECRET: [&str; 6] =
    ["password=", "password ", "passwd=", "pwd=", "secret=", "mysql_pwd="];

/// Returns a text with stars where passwords are: after `password=` and the like, after the `-p` of
/// a MariaDB client, between user and host of a URL.
pub fn concealed(text: &str) -> Cow<'_, str> {
    let mut out = String::with_capacity(text.len());
    let mut is_changed = false;
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(length) = secret_at(&out, rest) {
            out.push_str("***");
            rest = &rest[length..];
            is_changed = true;
            continue;
        }
        let length = rest.chars().next().map_or(1, char::len_utf8);
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    if is_changed { Cow::Owned(out) } else { Cow::Borrowed(text) }
}

/// Returns how long the password is that `rest` begins with, after `before`.
fn secret_at(before: &str, rest: &str) -> Option<usize> {
    let ends_word = |c: char| c.is_whitespace() || "\"'&;,".contains(c);
    let word = rest.find(ends_word).unwrap_or(rest.len());
    let lower = before.to_ascii_lowercase();
    let is_option = lower.ends_with(" -p") && before.ends_with('p');
    if word > 0 && !rest.starts_with('*') {
        if is_option || BEFORE_A_SECRET.iter().any(|mark| lower.ends_with(mark)) {
            return Some(word);
        }
        // scheme://user:PASSWORD@host
        if let Some((_, authority)) = before.rsplit_once("://")
            && authority.ends_with(':')
            && !authority.contains(['/', '@'])
            && let Some(at) = rest[..word].find('@')
            && !rest[..at].contains('/')
        {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_nothing_else() {
        for (text, shown) in [
            ("mysql://etl:s3cr3t@erp/dw", "mysql://etl:***@erp/dw"),
            ("mariadb --password=s3cr3t -e x", "mariadb --password=*** -e x"),
            ("mariadb --password s3cr3t", "mariadb --password ***"),
            ("mariadb -uetl -ps3cr3t dw", "mariadb -uetl -p*** dw"),
            ("MYSQL_PWD=s3cr3t mariadb", "MYSQL_PWD=*** mariadb"),
            ("host=h;PWD=s3cr3t;db=x", "host=h;PWD=***;db=x"),
        ] {
            assert_eq!(concealed(text), shown);
            assert!(is_concealed(text));
        }
        for text in [
            "cpimport dw lineitem /srv/load/lineitem.tbl",
            "cpimport -p 4 dw t",
            "http://host:8080/path",
            "ssh etl@erp cat /x | cpimport dw t",
            "mariadb --password= -e x",
            "/backup/colvault",
        ] {
            assert_eq!(concealed(text), text);
            assert!(!is_concealed(text));
        }
    }
}
