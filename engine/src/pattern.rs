//! Globs on paths, as users write them. The door to globset.
//!
//! Without a slash a pattern matches a name at any depth; with a leading slash it matches from the
//! base on; with a slash elsewhere it matches at any depth too. `*` does not cross a slash, `**`
//! does. A directory that matches stands for everything below it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::{Error, ErrorKind, Result};

/// Some patterns, tried together.
#[derive(Clone, Debug)]
pub struct Patterns {
    set: GlobSet,
}

impl Patterns {
    /// Reads patterns. Fails with `Invalid` on one that is malformed.
    pub fn new<'a>(globs: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut builder = GlobSetBuilder::new();
        for glob in globs {
            let wide = match glob.strip_prefix('/') {
                Some(anchored) => anchored.to_owned(),
                None if glob.starts_with("**/") => glob.to_owned(),
                None => format!("**/{glob}"),
            };
            let parsed = GlobBuilder::new(wide.trim_end_matches('/'))
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| invalid(glob).caused_by(error))?;
            builder.add(parsed);
        }
        let set = builder.build().map_err(|error| invalid("patterns").caused_by(error))?;
        Ok(Patterns { set })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Returns the number of the first pattern that matches this relative path itself.
    pub fn first_match(&self, path: &[u8]) -> Option<usize> {
        if self.set.is_empty() || path.is_empty() {
            return None;
        }
        self.set.matches(Path::new(OsStr::from_bytes(path))).first().copied()
    }

    /// Whether the path or a directory above it matches.
    pub fn covers(&self, path: &[u8]) -> bool {
        if self.set.is_empty() {
            return false;
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain([path.len()]).any(|end| self.first_match(&path[..end]).is_some())
    }
}

/// Returns a glob that matches exactly this text.
pub fn escaped(text: &str) -> String {
    let mut glob = String::with_capacity(text.len());
    for character in text.chars() {
        if "*?[]{}!\\".contains(character) {
            glob.push('\\');
        }
        glob.push(character);
    }
    glob
}

fn invalid(glob: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("pattern {glob:?}"), "a glob expected")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_at_any_depth_and_anchored_paths_from_the_base() {
        let covers = |glob, path: &str| Patterns::new([glob]).unwrap().covers(path.as_bytes());
        for (glob, path, expected) in [
            ("*.pid", "a/b/mysqld.pid", true),
            ("*.pid", "mysqld.pid.d", false),
            ("/ibtmp1", "ibtmp1", true),
            ("/ibtmp1", "x/ibtmp1", false),
            ("cache", "a/cache/x", true),
            ("/cache/**", "cache", false),
            ("/cache/**", "cache/a/b", true),
            ("a/*.x", "q/a/b.x", true),
            ("a/*.x", "q/a/b/c.x", false),
            ("/a/b/", "a/b/c", true),
        ] {
            assert_eq!(covers(glob, path), expected, "{glob} on {path}");
        }
        assert!(Patterns::new(["a["]).is_err());
    }

    #[test]
    fn an_escaped_text_matches_itself_and_nothing_else() {
        for text in ["a*b", "a?b", "a[1]", "a{b,c}", "a!b", "!a", "a\\b", "grüße"] {
            let patterns = Patterns::new([escaped(text).as_str()]).unwrap();
            assert!(patterns.covers(text.as_bytes()), "{text}");
            assert!(!patterns.covers(b"aXb") && !patterns.covers(b"a1"), "{text}");
        }
    }
}
