//! Names of objects. Source: FORMAT.md 2.

use std::fmt;

use crate::id::{IndexId, PackId, SessionId};

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `config`
    Config,
    /// `features/<name>`: lower-case letters, digits and `-`.
    Feature(String),
    /// `packs/<first two digits>/<id>`
    Pack(PackId),
    /// `index/<id>`
    Index(IndexId),
    /// `snapshots/<session>`
    Snapshot(SessionId),
    /// `leases/<session>`
    Lease(SessionId),
    /// `doomed/<session>`
    Doomed(SessionId),
}

/// A part of the name space that can be listed; in the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// `doomed/`
    Doomed,
    /// `features/`
    Features,
    /// `index/`
    Indexes,
    /// `leases/`
    Leases,
    /// `packs/`
    Packs,
    /// `snapshots/`
    Snapshots,
}

impl Space {
    /// All spaces, in the order of their names: that of a session's listings (FORMAT.md 7.1, 4), so
    /// that one listing of everything is as good as one of each.
    pub const ALL: [Space; 6] = [
        Space::Doomed,
        Space::Features,
        Space::Indexes,
        Space::Leases,
        Space::Packs,
        Space::Snapshots,
    ];

    /// Returns the first part of every name in it.
    pub fn prefix(self) -> &'static str {
        match self {
            Space::Doomed => "doomed",
            Space::Features => "features",
            Space::Indexes => "index",
            Space::Leases => "leases",
            Space::Packs => "packs",
            Space::Snapshots => "snapshots",
        }
    }

    /// Returns the space that a name is in, whether it is one of ours or not.
    pub fn of(name: &str) -> Option<Self> {
        let (first, _) = name.split_once('/')?;
        Space::ALL.into_iter().find(|space| space.prefix() == first)
    }
}

impl Key {
    /// Reads a name; `None` when it is none of ours.
    pub fn parse(name: &str) -> Option<Self> {
        let (space, rest) = match name.split_once('/') {
            None => return (name == "config").then_some(Key::Config),
            Some(parts) => parts,
        };
        match space {
            "features" => {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                (!rest.is_empty() && rest.chars().all(plain)).then(|| Key::Feature(rest.to_owned()))
            }
            "packs" => {
                let (shard, id) = rest.split_once('/')?;
                id.starts_with(shard).then_some(())?;
                (shard.len() == 2).then_some(Key::Pack(id.parse().ok()?))
            }
            "index" => Some(Key::Index(rest.parse().ok()?)),
            "snapshots" => Some(Key::Snapshot(rest.parse().ok()?)),
            "leases" => Some(Key::Lease(rest.parse().ok()?)),
            "doomed" => Some(Key::Doomed(rest.parse().ok()?)),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Config => f.write_str("config"),
            Key::Feature(name) => write!(f, "features/{name}"),
            Key::Pack(id) => write!(f, "packs/{:02x}/{id}", id.0[0]),
            Key::Index(id) => write!(f, "index/{id}"),
            Key::Snapshot(id) => write!(f, "snapshots/{id}"),
            Key::Lease(id) => write!(f, "leases/{id}"),
            Key::Doomed(id) => write!(f, "doomed/{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_foreign_ones_are_none() {
        let session = SessionId([0xab; 16]);
        assert!(Space::ALL.is_sorted_by_key(|space| space.prefix()) && Space::ALL.is_sorted());
        for key in [
            Key::Config,
            Key::Feature("codec-zstd".to_owned()),
            Key::Pack(PackId([0x0f; 32])),
            Key::Index(IndexId([1; 32])),
            Key::Snapshot(session),
            Key::Lease(session),
            Key::Doomed(session),
        ] {
            let name = key.to_string();
            let space = Space::of(&name).map(|space| name.starts_with(space.prefix()));
            assert_eq!(space, (key != Key::Config).then_some(true));
            assert_eq!(Key::parse(&name), Some(key));
        }
        let id = PackId([0x0f; 32]);
        for foreign in [
            "",
            "x",
            "packs/00/0f",
            &format!("packs/0e/{id}"),
            "features/",
            "features/A",
            "index/../x",
        ] {
            assert_eq!(Key::parse(foreign), None, "{foreign:?}");
        }
    }
}
