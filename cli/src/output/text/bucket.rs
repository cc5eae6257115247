//! Text of the commands about what only buckets have: object lock, undelete.

use std::time::Duration;

#[cfg(feature = "s3")]
use colvault_engine::s3client::Versioning;

use super::super::Locked;
#[cfg(feature = "s3")]
use super::super::Undeleted;
use super::Text;
use crate::units::{bytes, count, counted, local_time, utc_time};

impl Text {
    pub(super) fn show_locked(&self, locked: &Locked<'_>) {
        self.bar.end();
        let (report, lock) = (locked.report, locked.lock);
        let days = counted(lock.days.into(), "day", "days");
        self.say(format!(
            "{}: objects stay locked for {days}, {}",
            locked.location,
            lock.mode.name()
        ));
        let needed = counted(report.needed, "object", "objects");
        self.say(match report.locked_until {
            Some(until) => {
                let until = local_time(&utc_time(since_1970(until).as_secs() as i64, 0));
                format!("  needed by snapshots: {needed}, locked until {until} or longer")
            }
            None if !report.all_seen => format!(
                "  needed by snapshots: {needed} and what could not be seen: until when all is locked is not known"
            ),
            None if report.failed > 0 => {
                let failed = count(report.failed);
                format!("  needed by snapshots: {needed}; the locks of {failed} were not extended")
            }
            None => format!("  needed by snapshots: {needed}, some of them not locked"),
        });
        let extended = counted(report.extended, "lock", "locks");
        let would = if locked.dry_run { "would be " } else { "" };
        self.say(format!("  {extended} {would}extended"));
        for (day, unneeded) in &report.unneeded {
            let packs = counted(unneeded.packs, "pack", "packs");
            let when = match day {
                0 => "now".to_owned(),
                day => format!("from {} on", &utc_time(*day as i64, 0)[..10]),
            };
            self.say(format!(
                "  needed by no snapshot: {packs}, {}; may go {when}",
                bytes(unneeded.bytes)
            ));
        }
        self.asked(locked.traffic.as_ref());
        self.findings(locked.findings);
    }

    #[cfg(feature = "s3")]
    pub(super) fn show_undelete_ended(&self, undeleted: &Undeleted<'_>) {
        self.bar.end();
        let report = undeleted.report;
        let would = if undeleted.dry_run { "would be " } else { "" };
        if report.undeleted + report.put_again + report.gone == 0 && report.findings.is_empty() {
            self.say(format!(
                "{}: nothing to bring back: as its versions tell, nothing was deleted or replaced",
                undeleted.location
            ));
            self.say("  an object that was deleted with all its versions leaves no trace here");
        }
        match &report.versioning {
            Versioning::Suspended => self.say(
                "  the bucket does not keep versions at present: what was deleted or replaced since is gone",
            ),
            Versioning::Unknown(why) => {
                self.say(format!("  whether the bucket keeps versions is not known: {why}"));
            }
            Versioning::Enabled | Versioning::Never => {}
        }
        let objects = |number| counted(number, "object", "objects");
        if report.undeleted > 0 {
            self.say(format!("{} {would}undeleted", objects(report.undeleted)));
        }
        if report.put_again > 0 {
            let number = objects(report.put_again);
            self.say(format!("{number} had been replaced, the first version {would}put again"));
        }
        if report.unchanged > 0 {
            self.say(format!("{} with several versions are as they were", count(report.unchanged)));
        }
        if report.of_others > 0 {
            let number = objects(report.of_others);
            self.say(format!("{number} of other repositories left as they are"));
        }
        self.asked(undeleted.traffic.as_ref());
        self.findings(undeleted.findings);
        let again = &undeleted.next.again;
        self.say(match (report.undeleted + report.put_again > 0, undeleted.dry_run) {
            (true, true) => "dry run: nothing was changed".to_owned(),
            (true, false) => format!("next: {again} check --read-data"),
            (false, _) => format!("next: {again} check, which tells whether anything is missing"),
        });
    }
}

fn since_1970(time: std::time::SystemTime) -> Duration {
    time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}
