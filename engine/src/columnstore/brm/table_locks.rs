//! Table locks (`tablelocks`): which tables a load or a statement has for itself.
//!
//! Source: the server's brm/brmtypes.cpp, 406-525. `save_brm` does not write it; the lock server
//! rewrites it with every change, read-only or not. Locks outlive a restart.

use crate::format::wire::{Decoded, Reader};

/// What a lock without name and DB Roots takes.
const LOCK_BYTES_MIN: usize = 40;

/// The locks there are; none when nothing is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLocks {
    /// In the order of the file.
    pub locks: Vec<TableLock>,
}

/// A table that somebody has for themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLock {
    /// The lock's number.
    pub id: u64,
    /// The object id of the table.
    pub table: u32,
    /// The process.
    pub pid: u32,
    /// Whether it writes, or cleans up after somebody who did.
    pub state: LockState,
    /// The session; meaningless for a bulk load.
    pub session: i32,
    /// The transaction; not positive for a bulk load.
    pub transaction: i32,
    /// When it was taken, in seconds since 1970.
    pub created: i64,
    /// The name of the process, as bytes.
    pub owner: Vec<u8>,
    /// The DB Roots it is for.
    pub db_roots: Vec<u32>,
}

/// What the owner of a lock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// It writes.
    Loading,
    /// It undoes what somebody left unfinished.
    Cleanup,
}

impl TableLocks {
    /// Reads the file, which must be filled to the byte; without locks it has four bytes.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let start = reader.clone();
        let expected = "a number of table locks that the file has room for";
        let count = reader.u32(expected)? as usize;
        if count > reader.remaining() / LOCK_BYTES_MIN {
            return Err(start.malformed(expected));
        }
        let mut locks = Vec::with_capacity(count);
        for _ in 0..count {
            locks.push(lock(&mut reader)?);
        }
        reader.end("the end of the table locks")?;
        Ok(TableLocks { locks })
    }
}

fn lock(reader: &mut Reader<'_>) -> Decoded<TableLock> {
    let id = reader.u64("a lock's number")?;
    let table = reader.u32("the OID of a table")?;
    let pid = reader.u32("the id of a process")?;
    let start = reader.clone();
    let state = match reader.u32("the state of a lock")? {
        0 => LockState::Loading,
        1 => LockState::Cleanup,
        _ => return Err(start.malformed("0 or 1 for the state of a lock")),
    };
    let session = reader.u32("a session")?.cast_signed();
    let transaction = reader.u32("a transaction")?.cast_signed();
    let created = reader.u64("when a lock was taken")?.cast_signed();
    let length = reader.u16("the length of a name")?;
    let owner = reader.bytes(usize::from(length), "the name of a process")?.to_vec();
    let count = usize::from(reader.u16("a number of DB Roots")?);
    if count > reader.remaining() / 4 {
        return Err(reader.malformed("the DB Roots of a lock"));
    }
    let mut db_roots = Vec::with_capacity(count);
    for _ in 0..count {
        db_roots.push(reader.u32("a DB Root")?);
    }
    Ok(TableLock { id, table, pid, state, session, transaction, created, owner, db_roots })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_exact, hex};
    use super::*;
    use crate::format::wire::Malformed;

    const TWO: &str = "
        02000000
        0900000000000000 b80b0000 d2040000 00000000 ffffffff ffffffff 0065cd1d01000000
        0800 6370696d706f7274 0200 01000000 04000000
        0a00000000000000 cb0b0000 d3040000 01000000 05000000 07000000 0000000000000000
        0000 0000";

    #[test]
    fn locks_are_read_field_by_field() {
        let locks = TableLocks::decode(&hex(TWO)).unwrap().locks;
        let load = TableLock {
            id: 9,
            table: 3000,
            pid: 1234,
            state: LockState::Loading,
            session: -1,
            transaction: -1,
            created: 4_794_967_296,
            owner: b"cpimport".to_vec(),
            db_roots: vec![1, 4],
        };
        let cleanup = TableLock {
            id: 10,
            table: 3019,
            pid: 1235,
            state: LockState::Cleanup,
            session: 5,
            transaction: 7,
            created: 0,
            owner: vec![],
            db_roots: vec![],
        };
        assert_eq!(locks, [load, cleanup]);
        assert_exact(&hex(TWO), TableLocks::decode);
        assert_exact(&[0; 4], TableLocks::decode);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (place, bytes, at, expected) in [
            (0, "ffffffff", 0, "a number of table locks that the file has room for"),
            (20, "02000000", 20, "0 or 1 for the state of a lock"),
            (40, "ffff", 42, "the name of a process"),
            (50, "ffff", 52, "the DB Roots of a lock"),
        ] {
            let mut file = hex(TWO);
            let bytes = hex(bytes);
            file[place..place + bytes.len()].copy_from_slice(&bytes);
            assert_eq!(TableLocks::decode(&file), Err(Malformed { at, expected }));
        }
        assert_eq!(TableLocks::decode(&[1, 0, 0, 0]).map_err(|Malformed { at, .. }| at), Err(0));
    }
}
