//! The set that counts (`_current`): the name of one of three, as text.
//!
//! Source: the server's brm/slavecomm.cpp, 1904-1979, and brm/save_brm.cpp, 50-115. Servers that
//! save to A and B in turn used to write whole paths; newer ones write the name alone.

use std::path::{Path, PathBuf};

use crate::format::wire::{Decoded, Malformed};

/// A set of BRM files: extent map, versions and block map that were saved together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurrentSet {
    /// `BRM_saves`: saved by a clean stop, or by `save_brm`.
    Base,
    /// `BRM_savesA`: saved by the server as it ran.
    A,
    /// `BRM_savesB`: the same, in turn with A.
    B,
}

impl CurrentSet {
    /// All there are.
    pub const ALL: [CurrentSet; 3] = [CurrentSet::Base, CurrentSet::A, CurrentSet::B];

    /// Reads the text: a name, perhaps with a path before it, perhaps with a line's end after it.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let line = bytes.trim_ascii_end();
        let at = line.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = line.get(at..).unwrap_or_default();
        CurrentSet::ALL
            .into_iter()
            .find(|set| set.prefix().as_bytes() == name)
            .ok_or(Malformed { at, expected: "BRM_saves, BRM_savesA or BRM_savesB" })
    }

    /// Returns what the names of its files begin with; `_em`, `_vss` and `_vbbm` follow.
    pub fn prefix(self) -> &'static str {
        match self {
            CurrentSet::Base => "BRM_saves",
            CurrentSet::A => "BRM_savesA",
            CurrentSet::B => "BRM_savesB",
        }
    }

    /// Returns the path of one of its files, by how their names end: `_em`, `_vss`, `_vbbm`.
    ///
    /// `root` is DBRMRoot of Columnstore.xml: the beginning of the paths of the base set, to which the
    /// files that all sets share belong, `_current` and `_journal`.
    pub fn file(self, root: &Path, suffix: &str) -> PathBuf {
        let letter = match self {
            CurrentSet::Base => "",
            CurrentSet::A => "A",
            CurrentSet::B => "B",
        };
        let mut path = root.as_os_str().to_owned();
        path.push(letter);
        path.push(suffix);
        path.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_set_begin_with_what_the_configuration_says() {
        let root = Path::new("/data/dbrm/saved");
        for (set, suffix, path) in [
            (CurrentSet::Base, "_current", "/data/dbrm/saved_current"),
            (CurrentSet::Base, "_em", "/data/dbrm/saved_em"),
            (CurrentSet::A, "_vss", "/data/dbrm/savedA_vss"),
            (CurrentSet::B, "_vbbm", "/data/dbrm/savedB_vbbm"),
        ] {
            assert_eq!(set.file(root, suffix), Path::new(path));
        }
    }

    #[test]
    fn names_are_read_with_and_without_a_path_and_a_line_end() {
        for (text, set) in [
            ("BRM_saves\n", CurrentSet::Base),
            ("BRM_saves", CurrentSet::Base),
            ("BRM_savesA\n", CurrentSet::A),
            ("BRM_savesB\r\n", CurrentSet::B),
            ("/var/lib/columnstore/data1/systemFiles/dbrm/BRM_savesB\n", CurrentSet::B),
        ] {
            assert_eq!(CurrentSet::decode(text.as_bytes()), Ok(set), "{text}");
            assert!(text.contains(set.prefix()));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "\n", "BRM_save", "BRM_savesC\n", "BRM_saves_em\n", "BRM_saves/", "\0\0"] {
            assert!(CurrentSet::decode(text.as_bytes()).is_err(), "{text:?}");
        }
        let error = CurrentSet::decode(b"data1/BRM\n").unwrap_err();
        let expected = "BRM_saves, BRM_savesA or BRM_savesB";
        assert_eq!(error, Malformed { at: 6, expected });
    }
}
