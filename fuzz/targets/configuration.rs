//! A deployment's configuration files, whatever is in them: never a panic, and nothing outside the
//! root is taken.
#![no_main]
use colvault_engine::source::columnstore::discover;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8], &[u8])| {
    let (xml, storage, server) = input;
    let Ok(root) = tempfile::tempdir() else { return };
    let path = |name: &str| root.path().join(name);
    for directory in ["etc/columnstore", "var/lib/columnstore/data1/000.dir", "var/lib/mysql"] {
        std::fs::create_dir_all(path(directory)).unwrap();
    }
    std::fs::write(path("etc/columnstore/Columnstore.xml"), xml).unwrap();
    std::fs::write(path("etc/columnstore/storagemanager.cnf"), storage).unwrap();
    std::fs::write(path("etc/my.cnf"), server).unwrap();
    if let Ok(deployment) = discover(root.path()) {
        let real = root.path().canonicalize().unwrap();
        for tree in &deployment.trees {
            assert!(tree.base.starts_with(&real), "{tree:?}");
        }
    }
});
