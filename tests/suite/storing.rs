//! How content is stored is chosen: at init, at each backup, by flag and by setting; and what became of
//! it is told.

use std::fs;

use colvault_engine::columnstore::segment::{BLOCK_BYTES, MAGIC, checksum};
use colvault_engine::packer::{Pack, Packer, Packers};
use serde_json::Value;

use crate::support::nights::bundled;
use crate::support::program::{Place, Ran, write};
use crate::support::wait_until_not_racy;

const SIGNATURE_SNAPPY: u8 = 0xfd;

/// What a Snappy library may pack and the one this program has would not: literals and nothing else.
fn packed_otherwise(unpacked: &[u8]) -> Vec<u8> {
    let length = u16::try_from(unpacked.len()).unwrap();
    assert!((128..16_384).contains(&length), "a varint of two bytes");
    let mut payload = vec![length as u8 | 0x80, (length >> 7) as u8];
    payload.push(61 << 2);
    payload.extend_from_slice(&(length - 1).to_le_bytes());
    payload.extend_from_slice(unpacked);
    payload
}

/// Returns a segment file of one slot of 8 KiB for each payload.
fn segment(payloads: &[Vec<u8>]) -> Vec<u8> {
    let block = BLOCK_BYTES as usize;
    // Dictionaries of many slots have headers as long.
    let header = if payloads.len() < 512 { block } else { 2 * block };
    let mut file = vec![0; header];
    let mut set = |at: usize, value: u64| file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    // Magic, version, Snappy, length of the header, blocks, width, type.
    let length = header as u64;
    for (at, value) in [(0, MAGIC), (8, 3), (16, 2), (24, length), (32, 512), (40, 4), (48, 6)] {
        set(at, value);
    }
    for number in 0..=payloads.len() {
        set(4096 + 8 * number, length + number as u64 * BLOCK_BYTES);
    }
    for payload in payloads {
        let mut slot = vec![SIGNATURE_SNAPPY];
        slot.extend_from_slice(&checksum(payload).to_le_bytes());
        slot.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        slot.extend_from_slice(payload);
        assert!(slot.len() <= block);
        slot.resize(block, 0);
        file.extend(slot);
    }
    file
}

/// What this program packs the values from `first` on as.
fn packed(first: u32) -> Vec<u8> {
    let values = (first..first + 500).flat_map(|value| [value; 4]);
    let unpacked: Vec<u8> = values.flat_map(u32::to_le_bytes).collect();
    let mut payload = Vec::new();
    assert!(Packers.pack(Packer::SnappyV1, &unpacked, &mut payload));
    payload
}

/// The last line of a command of `--json`, and all lines.
fn told(place: &Place, line: &str) -> (Value, String) {
    let ran = place.expect(0, &format!("{line} --json")).silent();
    (serde_json::from_str(ran.out.lines().last().unwrap()).unwrap(), ran.out)
}

fn numbers(of: &Value, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| of[name].as_u64().unwrap_or_else(|| panic!("{name}: {of}"))).collect()
}

const RECIPES: [&str; 6] = [
    "slots_recipe_new",
    "slots_recipe_known",
    "slots_packed_otherwise",
    "slots_not_whole",
    "slots_not_tried",
    "slots_not_unpacked",
];

/// Catches slots that are unpacked although they are known: when one of a thousand changes, when one is
/// added, and when the same slots stand in another file.
#[test]
fn of_a_thousand_slots_the_new_one_is_unpacked() {
    let place = Place::quick();
    let mut payloads: Vec<Vec<u8>> = (0..1000).map(|slot| packed(10_000 * slot)).collect();
    let file = place.path("source/FILE000.cdf");
    write(file.clone(), segment(&payloads));
    place.expect(0, "init -r @/repository");
    let backup = || {
        wait_until_not_racy();
        let (done, _) = told(&place, "backup -r @/repository @/source");
        numbers(&done, &["slots_recipe_new", "slots_recipe_known", "slots_unpacked"])
    };
    assert_eq!(backup(), [1000, 0, 1000]);
    payloads[500] = packed(7);
    fs::write(&file, segment(&payloads)).unwrap();
    assert_eq!(backup(), [1, 999, 1], "one changed");
    payloads.push(packed(11));
    fs::write(&file, segment(&payloads)).unwrap();
    assert_eq!(backup(), [1, 1000, 1], "one added");
    payloads.truncate(990);
    payloads.reverse();
    write(place.path("source/FILE001.cdf"), segment(&payloads));
    assert_eq!(backup(), [0, 990, 0], "a file of known slots");
}

/// Catches a form or a size of blocks that init does not keep or show, and one without sense that it
/// takes.
#[test]
fn init_keeps_in_which_form_slots_are_stored() {
    let place = Place::quick();
    let (created, _) = told(&place, "init -r @/usual");
    let expected = serde_json::json!({"form": "recipe", "block_bytes": 65_536});
    assert_eq!(created["slots"], expected);
    let (created, _) = told(&place, "init -r @/packed --slots packed --slot-block-size 64");
    let expected = serde_json::json!({"form": "packed", "block_bytes": 65_536});
    assert_eq!(created["slots"], expected);
    let human = place.expect(0, "init -r @/small --slot-block-size 4").silent().out;
    assert!(human.contains("slots of segment files as recipes, unpacked in blocks of 4.0 KiB"));
    let human = place.expect(0, "init -r @/plain --slots packed").silent().out;
    assert!(human.contains("slots of segment files as packed bytes"), "{human}");
    // What the settings say holds like any other.
    let mut command = place.command("init -r @/said --json");
    command.env("COLVAULT_INIT_SLOTS", "packed").env("COLVAULT_INIT_SLOT_BLOCK_SIZE", "128");
    let said = Ran::of("init", command.output().unwrap()).ended(0).silent().out;
    assert!(said.contains(r#""slots":{"form":"packed","block_bytes":131072}"#), "{said}");
    place
        .expect(2, "init -r @/none --slot-block-size 96")
        .complains("a power of two from 4 to 4096 KiB expected");
    // The same mistake ends the same, wherever it was said.
    for (variable, value) in [("SLOT_BLOCK_SIZE", "5"), ("SLOTS", "foo")] {
        let mut command = place.command("init -r @/none");
        command.env(format!("COLVAULT_INIT_{variable}"), value);
        Ran::of("init", command.output().unwrap()).ended(2).complains(value);
    }
    write(place.path("settings.toml"), "[init]\nslots = \"foo\"\n");
    place.expect(2, "--config @/settings.toml init -r @/none").complains("recipe, packed");
    place.expect(2, "init -r @/none --slot-block-size 2");
    place.expect(2, "init -r @/none --slots unpacked").complains("recipe, packed");
    assert!(!place.path("none").exists(), "nothing is made of options without sense");
}

/// Catches a backup that does not store slots as it was told, by flag, setting or init; a snapshot that
/// does not name the packers it needs; and a plan that knows another form than the backup takes.
#[test]
fn each_backup_chooses_the_form_of_slots() {
    let place = Place::new();
    let nights = bundled(&place.path(""), 1);
    let live = nights[0].file_name().unwrap().to_str().unwrap();
    let source = format!("-r @/repository --root @/{live} --host db1");
    place.expect(0, "init -r @/repository");
    wait_until_not_racy();
    let (none, _) = told(&place, &format!("plan --root @/{live}"));
    assert_eq!((&none["slots"], &none["switches_slots"]), (&Value::Null, &Value::Bool(false)));

    let (planned, _) = told(&place, &format!("plan {source}"));
    assert_eq!((&planned["slots"], &planned["compression"]), (&"recipe".into(), &"default".into()));
    let (first, _) = told(&place, &format!("backup {source}"));
    assert_eq!(first["slots"], "recipe");
    let counts = numbers(&first, &RECIPES);
    let (new, known) = (counts[0], counts[1]);
    let slots: u64 = numbers(&first, &["slots_verified", "slots_known"]).iter().sum();
    assert!(new > 10 && new + known == slots && counts[2..] == [0; 4], "{first}");
    // Two tasks may meet the same slot at once, and both unpack it.
    assert!(first["slots_unpacked"].as_u64().unwrap() >= new, "{first}");
    assert_eq!(first["packers"], serde_json::json!(["lz4-1", "snappy-1"]));
    // Read again, every slot is known and none is unpacked.
    let (again, _) = told(&place, &format!("backup {source} --force"));
    assert_eq!(numbers(&again, &RECIPES), [0, slots, 0, 0, 0, 0]);
    assert_eq!((&again["slots_unpacked"], &again["packers"]), (&0.into(), &first["packers"]));
    let human = place.expect(0, &format!("backup {source} --force")).silent().out;
    assert!(
        human.contains(&format!("slots stored: as recipes 0 new, {slots} known (0 B unpacked)\n")),
        "{human}"
    );

    // The other form: nothing of the first one is of use, and the plan says so.
    let (planned, _) = told(&place, &format!("plan {source} --slots packed"));
    assert_eq!((&planned["slots"], &planned["switches_slots"]), (&"packed".into(), &true.into()));
    let mut command = place.command(&format!("backup {source} --force --json"));
    command.env("COLVAULT_BACKUP_SLOTS", "packed");
    let packed = Ran::of("backup", command.output().unwrap()).ended(0).silent().out;
    let packed: Value = serde_json::from_str(packed.lines().last().unwrap()).unwrap();
    assert_eq!((&packed["slots"], &packed["packers"]), (&"packed".into(), &Value::Array(vec![])));
    assert_eq!(numbers(&packed, &RECIPES), [0; 6]);
    assert!(packed["data_blobs"].as_u64().unwrap() > 100, "{packed}");
    let (planned, _) = told(&place, &format!("plan {source} --slots packed"));
    assert_eq!(planned["switches_slots"], false);
    let (planned, _) = told(&place, &format!("plan {source}"));
    assert_eq!((&planned["slots"], &planned["switches_slots"]), (&"recipe".into(), &true.into()));

    // Each snapshot says which packers it needs.
    let (snapshots, _) = told(&place, "snapshots -r @/repository");
    let packers = snapshots.as_array().unwrap().iter().map(|one| one["packers"].clone());
    let packers: Vec<Value> = packers.collect();
    assert_eq!(packers[0], first["packers"]);
    assert_eq!(packers.last().unwrap(), &Value::Array(vec![]));
    assert_eq!(snapshots[0]["summary"]["slots_recipe_new"], new);
    let listed = place.expect(0, "ls -v -r @/repository latest~1").silent().out;
    assert!(listed.contains("a restore needs the packers lz4-1, snappy-1"), "{listed}");
    place.expect(2, &format!("backup {source} --slots both")).complains("recipe, packed");
}

/// Catches a compression that is asked for and not used.
#[test]
fn compression_is_as_asked_for() {
    let place = Place::new();
    let nights = bundled(&place.path(""), 1);
    let live = nights[0].file_name().unwrap().to_str().unwrap();
    wait_until_not_racy();
    let stored = |how: &str| {
        place.expect(0, &format!("init -r @/{how}"));
        let line = format!("backup -r @/{how} --root @/{live} --compression {how}");
        told(&place, &line).0["data_added_packed"].as_u64().unwrap()
    };
    let (fast, usual, max) = (stored("fast"), stored("default"), stored("max"));
    assert!(fast > usual && usual > max, "{fast} {usual} {max}");
    place.expect(2, "backup -r @/max @/x --compression best").complains("fast, default, max");
}

/// Catches slots of another library that make a finding or change the exit code, that are not counted
/// by their reason, or of which nobody hears where they are.
#[test]
fn slots_of_another_library_are_counted_named_and_no_finding() {
    let place = Place::quick();
    let foreign = |seed: u8| packed_otherwise(&[seed; 4000]);
    let six: Vec<Vec<u8>> = (0..6).map(foreign).collect();
    write(place.path("source/FILE000.cdf"), segment(&six));
    write(place.path("source/FILE001.cdf"), segment(&[foreign(9)]));
    place.expect(0, "init -r @/repository");
    wait_until_not_racy();
    let ran = place.expect(0, "backup -r @/repository @/source --dry-run -v");
    let library = "warning: another version of the packing library than this program has packed 5 slots \
                   in 2 files (@/source/FILE000.cdf, @/source/FILE001.cdf): stored as packed bytes, \
                   and so are 2 slots behind them, not tried; nothing is lost, only space\n";
    assert!(ran.err.contains(&place.unfolded(library)), "{}", ran.err);
    let of_files = "as packed bytes: 6 slots of @/source/FILE000.cdf\n\
                    as packed bytes: 1 slot of @/source/FILE001.cdf\n";
    assert!(ran.out.contains(&place.unfolded(of_files)), "{}", ran.out);
    let summary = "slots stored: as packed bytes 5 packed by another library version, 2 behind such \
                   and not tried\n";
    assert!(ran.out.contains(summary), "{}", ran.out);
    assert!(!ran.out.contains("(slots unpacked)"), "none is stored like that: {}", ran.out);

    let (done, lines) = told(&place, "backup -r @/repository @/source");
    assert_eq!(numbers(&done, &RECIPES), [0, 0, 5, 0, 2, 0], "{done}");
    assert_eq!((&done["state"], &done["num_findings"]), (&"complete".into(), &0.into()));
    assert_eq!(done["packers"], Value::Array(vec![]));
    let warnings: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|message: &Value| message["message_type"] == "warning")
        .collect();
    assert_eq!(warnings.len(), 1, "{lines}");
    // What is unchanged is not looked at, so there is nothing to warn of; nor where packed bytes are
    // what was asked for.
    place.expect(0, "backup -r @/repository @/source").silent();
    place.expect(0, "backup -r @/repository @/source --force --slots packed").silent();
    place.expect(0, "restore -r @/repository latest --target @/target").silent();
    for file in ["FILE000.cdf", "FILE001.cdf"] {
        let restored = place.path("target").join(place.path("source").strip_prefix("/").unwrap());
        assert_eq!(
            fs::read(restored.join(file)).unwrap(),
            fs::read(place.path("source").join(file)).unwrap()
        );
    }
}

/// Catches a slot that no server can read, although its checksum holds, and that nobody hears of: in a
/// backup that unpacks, behind slots of another library, in the night after, where packed bytes were
/// stored before, and in `inspect`.
#[test]
fn a_slot_that_cannot_be_unpacked_is_damage() {
    let place = Place::quick();
    let foreign = (0..5).map(|seed| packed_otherwise(&[seed; 4000]));
    // No Snappy at all; and one that unpacks to nothing.
    let slots = foreign.chain([vec![0xff; 100], vec![0]]).collect::<Vec<_>>();
    write(place.path("source/FILE000.cdf"), segment(&slots));
    write(place.path("source/FILE001.cdf"), segment(&[packed(7)]));
    place.expect(0, "init -r @/repository");
    wait_until_not_racy();
    // Without unpacking it is not seen.
    place.expect(0, "backup -r @/repository @/source --slots packed");
    place.expect(1, "backup -r @/repository @/source --force --fail-on-corruption");
    for (night, force) in [" --force", "", " --force"].iter().enumerate() {
        let ran = place.expect(3, &format!("backup -r @/repository @/source{force}"));
        assert!(ran.out.contains("saved, damaged\n"), "night {night}: {}", ran.out);
        assert!(ran.out.contains(" (2 damaged)"), "night {night}: {}", ran.out);
        assert!(ran.err.contains("2 findings: 2 damaged-slot\n"), "night {night}: {}", ran.err);
        let said = ran.complains("it cannot be unpacked: Snappy: ");
        let said = said.complains("slot 6 at byte 57344: payload: 1 byte to 4 MiB when unpacked");
        said.complains("expected, found it cannot be unpacked: it is empty");
    }
    let of = "inspect -r @/repository --snapshot latest";
    place.expect(3, &format!("{of} @/source/FILE000.cdf")).complains("2 findings: 2 damaged-slot");
    place.expect(3, "inspect @/source/FILE000.cdf").complains("2 findings: 2 damaged-slot");
    place.expect(0, "inspect @/source/FILE001.cdf").silent();
    place
        .expect(0, "restore -r @/repository latest --target @/target")
        .complains("is damaged, not");
    let restored = place.path("target").join(place.path("source").strip_prefix("/").unwrap());
    assert_eq!(
        fs::read(restored.join("FILE000.cdf")).unwrap(),
        fs::read(place.path("source/FILE000.cdf")).unwrap()
    );
}
