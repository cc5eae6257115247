//! Names of users and groups, asked for once each. The door to uzers, with `restore`.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

/// Names by id; empty where the host knows none.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
}

impl Names {
    pub fn user(&mut self, id: u32) -> Vec<u8> {
        self.users
            .entry(id)
            .or_insert_with(|| {
                uzers::get_user_by_uid(id)
                    .map_or_else(Vec::new, |user| user.name().as_bytes().to_vec())
            })
            .clone()
    }

    pub fn group(&mut self, id: u32) -> Vec<u8> {
        self.groups
            .entry(id)
            .or_insert_with(|| {
                uzers::get_group_by_gid(id)
                    .map_or_else(Vec::new, |group| group.name().as_bytes().to_vec())
            })
            .clone()
    }
}
