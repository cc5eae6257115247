//! Patterns of tables, as users write them: `schema.table`, each part a name or a glob.

use crate::error::{Error, ErrorKind, Result};
use crate::format::names::Table;
use crate::pattern::Patterns;

/// Some patterns. A table matches when its schema and its name match those of one of them.
#[derive(Clone, Debug)]
pub struct TablePatterns {
    patterns: Vec<TablePattern>,
}

#[derive(Clone, Debug)]
struct TablePattern {
    text: String,
    schema: Patterns,
    table: Patterns,
}

impl TablePatterns {
    /// Reads patterns. The first dot parts schema and table; names are compared as this program
    /// writes them, in text form, capitals and all.
    ///
    /// Fails with `Invalid` for one without a dot, with an empty part or a malformed glob.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let patterns = texts.into_iter().map(TablePattern::new).collect::<Result<_>>()?;
        Ok(TablePatterns { patterns })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a table matches any of them.
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(schema, table))
    }

    /// Returns the patterns that none of the tables matches.
    pub fn unmatched(&self, tables: &[Table]) -> Vec<&str> {
        let is_unmatched = |pattern: &&TablePattern| {
            !tables.iter().any(|table| pattern.matches(&table.schema, &table.name))
        };
        self.patterns.iter().filter(is_unmatched).map(|pattern| pattern.text.as_str()).collect()
    }
}

impl TablePattern {
    fn new(text: &str) -> Result<Self> {
        let invalid = || {
            let problem = "SCHEMA.TABLE expected, each a name or a glob";
            Error::new(ErrorKind::Invalid, format!("table {text:?}"), problem)
        };
        let parts = text.split_once('.').filter(|(schema, table)| {
            !schema.is_empty() && !table.is_empty() && !text.ends_with('/')
        });
        let (schema, table) = parts.ok_or_else(invalid)?;
        // From the beginning on: a name is matched as a whole.
        let glob = |part: &str| {
            Patterns::new([format!("/{part}").as_str()]).map_err(|_| {
                let problem =
                    "SCHEMA.TABLE with a glob expected in each, found one that is malformed";
                Error::new(ErrorKind::Invalid, format!("table {text:?}"), problem)
            })
        };
        Ok(TablePattern { text: text.to_owned(), schema: glob(schema)?, table: glob(table)? })
    }

    fn matches(&self, schema: &str, table: &str) -> bool {
        let is_like = |glob: &Patterns, name: &str| glob.first_match(name.as_bytes()).is_some();
        let is_it = self.text.strip_prefix(schema).and_then(|rest| rest.strip_prefix('.'));
        is_it == Some(table) || (is_like(&self.schema, schema) && is_like(&self.table, table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_have_to_match_as_a_whole() {
        for (pattern, schema, table, expected) in [
            ("dw.clicks", "dw", "clicks", true),
            ("dw.clicks", "dw", "Clicks", false),
            ("dw.clicks", "xdw", "clicks", false),
            ("dw.clicks", "dw", "clicks2", false),
            ("dw.*", "dw", "a", true),
            ("dw.*", "dw2", "a", false),
            ("dw.*", "a/dw", "x", false),
            ("dw.*", "dw", "a.b", true),
            ("*.*", "dw", "a", true),
            ("d?.c*s", "dw", "clicks", true),
            ("dw.{a,b}", "dw", "b", true),
            // A schema with a dot in its name, and a table with glob characters in its own.
            ("a.b.c", "a.b", "c", true),
            ("a.b.c", "a", "b.c", true),
            ("dw.t[1]", "dw", "t[1]", true),
            (r"dw.t\[1\]", "dw", "t[1]", true),
        ] {
            let patterns = TablePatterns::new([pattern]).unwrap();
            assert_eq!(patterns.matches(schema, table), expected, "{pattern} {schema} {table}");
        }
        for wrong in ["dw", "dw.", ".x", "", "dw.a[", "dw./"] {
            let error = TablePatterns::new([wrong]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{wrong}");
        }
    }
}
