//! A crash, or an error, at any moment: the repository opens, what was committed restores, and the
//! next backup succeeds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use colvault_engine::backend::{Backend, LocalBackend, MemoryBackend, Space};
use colvault_engine::error::ErrorKind;
use colvault_engine::format::config::SlotParameters;
use colvault_engine::id::SessionId;
use colvault_engine::index::CachePlace;
use colvault_engine::repository::{CreateOptions, Repository};
use colvault_engine::testing::trees::{Random, edit_tree, write_tree};
use colvault_engine::testing::{CrashBackend, Fault, FaultyBackend};

use crate::support::compare::{self, Facts, Leave, Tree, assert_equal};
use crate::support::{PACK_BYTES, Store, now, quick, seed};

const LEAVE: Leave = Leave { blocks: false };

/// A source, its first night in a repository, and the source as it is in the second night.
struct Nights {
    place: tempfile::TempDir,
    objects: BTreeMap<String, Vec<u8>>,
    first: SessionId,
    then: Tree,
    now: Tree,
}

impl Nights {
    fn new(seed: u64) -> Nights {
        let place = quick();
        let source = place.path().join("source");
        write_tree(&source, seed, 20, 300_000).unwrap();
        let backend = Arc::new(MemoryBackend::new());
        let store = Store::create(backend.clone(), CachePlace::Memory, PACK_BYTES);
        let first = store.backup(&source).id.unwrap();
        let then = compare::read(&source);
        let mut random = Random::new(seed);
        for number in 0..6 {
            edit_tree(&source, &mut random).unwrap();
            // Enough that is new for several packs.
            fs::write(source.join(format!("new{number}")), random.bytes(700_000)).unwrap();
        }
        let now = compare::read(&source);
        Nights { place, objects: backend.objects(), first, then, now }
    }

    fn source(&self) -> std::path::PathBuf {
        self.place.path().join("source")
    }

    fn restores(&self, store: &Store, id: SessionId, expected: &Tree, context: &str) {
        let target = self.place.path().join("target");
        store.restore(&store.named(id), &target);
        assert_equal(expected, &target, LEAVE, context);
        fs::remove_dir_all(&target).unwrap();
    }
}

fn in_memory(objects: BTreeMap<String, Vec<u8>>) -> Store {
    let backend = Arc::new(MemoryBackend::with_objects(objects));
    Store { backend, cache: CachePlace::Memory }
}

fn leases(backend: &dyn Backend) -> usize {
    let mut count = 0;
    backend.list(Space::Leases, &mut |_| count += 1).unwrap();
    count
}

/// Catches a commit before what it names is durable, an index before its packs, a lease that stops
/// the next session, a crash that loses the night before: every point of a backup, and at every
/// point also without each single write that another thread may have had under way.
#[test]
fn a_crash_after_any_write_loses_nothing_that_was_committed() {
    let seed = seed("a_crash_after_any_write");
    let nights = Nights::new(seed);
    let backend = Arc::new(CrashBackend::new(nights.objects.clone()));
    let store = Store { backend: backend.clone(), cache: CachePlace::Memory };
    let second = store.backup(&nights.source()).id.unwrap();
    let steps = backend.steps();
    assert!(steps >= 10, "a backup of several packs, {steps} changes");
    let (last, created) = backend.step(steps - 1);
    assert!(last.starts_with("leases/") && !created, "the lease goes last");
    let committed = (0..steps).find(|n| backend.step(*n).0.starts_with("snapshots/")).unwrap();
    assert_eq!(committed, steps - 2, "the commit comes after everything it names");

    let mut images: Vec<(usize, Vec<usize>)> = (0..=steps).map(|count| (count, vec![])).collect();
    // Packs are written by two threads: one may be durable while the one before is not.
    for count in 2..=steps {
        let (name, before) = (backend.step(count - 1).0, backend.step(count - 2).0);
        if name.starts_with("packs/") && before.starts_with("packs/") {
            images.push((count, vec![count - 2]));
        }
    }
    for (count, lost) in images {
        let context = format!("seed {seed}, crash after {count} of {steps}, without {lost:?}");
        let crashed = in_memory(backend.image(count, &lost));
        let listing = crashed.listing().unwrap();
        let whole = count > committed;
        assert_eq!(listing.findings.listed, [], "{context}");
        let ids: Vec<SessionId> = listing.snapshots.iter().map(|named| named.id).collect();
        let wanted = if whole { vec![nights.first, second] } else { vec![nights.first] };
        assert_eq!(ids, wanted, "{context}: snapshots");
        crashed.expect_clean(&context);
        nights.restores(&crashed, nights.first, &nights.then, &context);
        if whole {
            nights.restores(&crashed, second, &nights.now, &context);
        }
        let third = crashed.backup(&nights.source());
        nights.restores(&crashed, third.id.unwrap(), &nights.now, &context);
        crashed.expect_clean(&context);
        let left = usize::from(count > 0 && count < steps);
        assert_eq!(leases(&*crashed.backend), left, "{context}: only the dead one's lease is left");
    }
}

/// Catches a second try that uploads again what the first had stored: index objects that were
/// written, and packs that none names yet, are found.
#[test]
fn what_an_interrupted_backup_stored_is_not_stored_again() {
    let nights = Nights::new(7);
    let backend = Arc::new(CrashBackend::new(nights.objects.clone()));
    let store = Store { backend: backend.clone(), cache: CachePlace::Memory };
    let full = store.backup(&nights.source()).snapshot.stats;
    let index = (0..backend.steps()).find(|n| backend.step(*n).0.starts_with("index/")).unwrap();
    let crashed = in_memory(backend.image(index + 1, &[]));
    let again = crashed.backup(&nights.source()).snapshot.stats;
    assert!(full.data_chunks > 20);
    assert_eq!(again.data_chunks, 0, "everything was stored and indexed before the crash");
}

/// Runs something that must not hang.
fn within<T: Send>(seconds: u64, context: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        scope.spawn(move || sender.send(work()));
        receiver.recv_timeout(Duration::from_secs(seconds)).unwrap_or_else(|error| {
            // A scope waits for its threads: nothing but the end of the process helps.
            eprintln!("{context}: hangs or panics: {error}");
            std::process::exit(101);
        })
    })
}

/// Catches an error of a write that is swallowed, that hangs the threads waiting for it, or that
/// costs something committed: every write of a backup fails once, and for good, with either kind.
#[test]
fn a_failing_write_fails_the_backup_and_nothing_else() {
    let nights = Nights::new(8);
    let mut first = 0;
    // How many writes there are depends on which thread fills which pack: on until none fails.
    while fails_at_write(&nights, first) {
        first += 1;
    }
    assert!(first >= 8, "lease, packs, index, snapshot: {first} writes");
}

/// Fails the given write of a backup in every way; false when no backup had that many.
fn fails_at_write(nights: &Nights, first: u64) -> bool {
    let mut reached = false;
    for (count, kind) in [
        (1, ErrorKind::Full),
        (1, ErrorKind::Io),
        (u64::MAX, ErrorKind::Full),
        (u64::MAX, ErrorKind::Io),
    ] {
        let context = format!("write {first} fails {count} times with {kind:?}");
        let objects = MemoryBackend::with_objects(nights.objects.clone());
        let backend = Arc::new(FaultyBackend::new(objects));
        let store = Store { backend: backend.clone(), cache: CachePlace::Memory };
        backend.set(Some(Fault { first, count, kind }));
        let result = within(60, &context, || {
            store.backup_with(&nights.source(), |options| options.threads = 3)
        });
        if backend.failed() == 0 {
            result.expect(&context);
            continue;
        }
        reached = true;
        let error = result.map(|report| report.id).expect_err(&context);
        assert_eq!(error.kind(), kind, "{context}: {error}");
        backend.set(None);
        assert_eq!(leases(&*backend), 0, "{context}: the lease is taken away");
        let listing = store.listing().unwrap();
        assert_eq!(listing.snapshots.len(), 1, "{context}: nothing was committed");
        let report = store.check(false).unwrap();
        assert_eq!(report.findings.listed, [], "{context}");
        if count > 1 && kind == ErrorKind::Full {
            nights.restores(&store, nights.first, &nights.then, &context);
            let id = store.backup(&nights.source()).id.unwrap();
            nights.restores(&store, id, &nights.now, &context);
        }
    }
    reached
}

/// Catches a restore that reports success although something could not be written: the target
/// becomes full, or it is stopped, in the last moment.
#[test]
fn a_restore_that_was_stopped_does_not_report_success() {
    use colvault_engine::progress::{Cancel, Event, NullObserver, Observer};
    struct StopAt(Cancel, u64, std::sync::atomic::AtomicU64);
    impl Observer for StopAt {
        fn event(&self, event: Event<'_>) {
            if let Event::Done { bytes, .. } = event
                && self.2.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed) + bytes >= self.1
            {
                self.0.cancel();
            }
        }
    }
    let nights = Nights::new(9);
    let store = in_memory(nights.objects.clone());
    let target = nights.place.path().join("target");
    let bytes = store.named(nights.first).snapshot.counts().bytes;
    for percent in [1, 10, 50, 90, 99] {
        let repository = store.open().unwrap();
        repository.load_index(&NullObserver).unwrap();
        let options = crate::support::restore_options(&target);
        let stop = StopAt(options.cancel.clone(), bytes * percent / 100, Default::default());
        let named = store.named(nights.first);
        let result = colvault_engine::restore::restore(&repository, &named, &options, &stop);
        match result {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted, "{percent} %: {error}"),
            Ok(_) => assert_equal(&nights.then, &target, LEAVE, &format!("stopped at {percent} %")),
        }
        fs::remove_dir_all(&target).unwrap();
    }
}

// ---- a process that is killed -------------------------------------------------------------------

const CHILD: &str = "COLVAULT_TEST_CHILD";

/// Creates the repository if there is none; may have been killed at it before.
fn open_or_create(place: &Path) -> Store {
    let root = place.join("repository");
    let backend = match root.join("config").exists() {
        true => LocalBackend::open(&root),
        false => LocalBackend::create(&root).unwrap(),
    };
    let options = CreateOptions {
        cutter: Default::default(),
        slots: SlotParameters::default(),
        pack_bytes: PACK_BYTES,
        now: now(),
        program: "child".to_owned(),
        store: Default::default(),
    };
    match Repository::create(&backend, &options) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        other => drop(other.unwrap()),
    }
    Store { backend: Arc::new(backend), cache: CachePlace::Directory(place.join("cache")) }
}

/// Returns a tree as text, one line for each path; what no restore brings back left out.
fn as_text(tree: &Tree) -> String {
    let line = |(path, facts): (&Vec<u8>, &Facts)| {
        format!("{path:?} {:?}\n", Facts { allocated: 0, ..facts.clone() })
    };
    tree.iter().map(line).collect()
}

/// Not a test of its own: the process that is killed. Edits its source, notes what it looks like,
/// backs it up under the note's number, and begins again.
#[test]
fn child_that_is_killed() {
    let Ok(place) = std::env::var(CHILD) else { return };
    let place = Path::new(&place);
    let source = place.join("source");
    let states = place.join("states");
    loop {
        let number = fs::read_dir(&states).unwrap().count();
        edit_tree(&source, &mut Random::new(number as u64)).unwrap();
        fs::write(states.join(number.to_string()), as_text(&compare::read(&source))).unwrap();
        fs::write(place.join("busy"), "").unwrap();
        let store = open_or_create(place);
        store.backup_with(&source, |options| options.tags = vec![number.to_string()]).unwrap();
        fs::remove_file(place.join("busy")).unwrap();
        fs::write(place.join("done"), number.to_string()).unwrap();
    }
}

/// Catches anything that a process leaves half done when it is killed, in `init` or in a backup:
/// 200 kills at random moments, and after each of them everything must hold.
#[test]
fn a_process_killed_at_any_moment_loses_nothing_that_was_committed() {
    const KILLS: u32 = 200;
    let seed = seed("a_process_killed_at_any_moment");
    let mut random = Random::new(seed);
    let program = std::env::current_exe().unwrap();
    let mut inside = 0;
    let mut committed = 0;
    let mut place = quick();
    for kill in 0..KILLS {
        if kill % 10 == 0 {
            place = quick();
            fs::create_dir(place.path().join("states")).unwrap();
            write_tree(&place.path().join("source"), random.number(), 16, 250_000).unwrap();
        }
        let root = place.path();
        let _ = fs::remove_file(root.join("busy"));
        let mut child = Command::new(&program)
            .args(["--exact", "crash::child_that_is_killed", "--nocapture", "--test-threads=1"])
            .env(CHILD, root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.code().is_none(), "seed {seed}: the child ended by itself: {status}");
        inside += u32::from(root.join("busy").exists());

        let context = format!("seed {seed}, kill {kill}");
        let store =
            Store::reopen(&root.join("repository"), CachePlace::Directory(root.join("cache")));
        let done: Option<usize> =
            fs::read_to_string(root.join("done")).ok().and_then(|text| text.parse().ok());
        match store.open() {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoRepository, "{context}: {error}");
                assert_eq!(done, None, "{context}: there was a repository");
                continue;
            }
            Ok(repository) => repository.close(),
        }
        let report = store.check_with(true, kill % 5 == 0).unwrap();
        assert_eq!(report.findings.listed, [], "{context}");
        let listing = store.listing().unwrap();
        let Some(latest) = listing.snapshots.last() else {
            assert_eq!(done, None, "{context}: a committed snapshot is gone");
            continue;
        };
        let number: usize = latest.snapshot.tags[0].parse().unwrap();
        assert!(done.is_none_or(|done| done <= number), "{context}: {done:?} was committed");
        committed += 1;
        let target = root.join("target");
        store.restore(latest, &target);
        let expected = fs::read_to_string(root.join(format!("states/{number}"))).unwrap();
        assert!(as_text(&compare::read(&target)) == expected, "{context}: snapshot {number}");
        fs::remove_dir_all(&target).unwrap();
    }
    println!("{KILLS} kills, {inside} inside a backup, {committed} with a snapshot to restore");
    assert!(inside >= KILLS / 3, "only {inside} of {KILLS} kills hit a backup");
    assert!(committed >= KILLS / 3, "only {committed} of {KILLS} kills left a snapshot");
}
