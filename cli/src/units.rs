//! Numbers for people: sizes, counts, durations, times.

use std::time::Duration;

use colvault_engine::format::manifest::{Entry, Node};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Returns a size in IEC units with one decimal.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded to 1024.0 is 1.0 of the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Reads a size: a number, and K, M, G, T or P for powers of 1024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let power = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "KiB" => 1,
        "M" | "MiB" => 2,
        "G" | "GiB" => 3,
        "T" | "TiB" => 4,
        "P" | "PiB" => 5,
        _ => return Err("a size such as 512, 64K or 10M expected".to_owned()),
    };
    let number = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << (10 * power)));
    number.ok_or_else(|| "a size such as 512, 64K or 10M expected".to_owned())
}

/// Reads a time, in the zone of this host unless it names one, as seconds since 1970 and
/// nanoseconds. A day begins at midnight.
pub fn parse_time(text: &str) -> Result<(i64, u32), String> {
    let with_zone = text.parse::<Timestamp>().ok();
    let here = || {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        Some(civil.to_zoned_datetime(TimeZone::system()).ok()?.timestamp())
    };
    let problem =
        "a time such as 2026-11-23 or 2026-11-23T14:30:00 or 2026-11-23T14:30:00Z expected";
    let time = with_zone.or_else(here).ok_or(problem)?;
    let nanoseconds = time.as_nanosecond();
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let rest = nanoseconds.rem_euclid(1_000_000_000);
    Ok((i64::try_from(seconds).map_err(|_| problem)?, u32::try_from(rest).unwrap_or(0)))
}

/// Returns a number with a comma between groups of three digits.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns a number and what it counts: `1 file`, `2 files`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Returns a duration to a tenth of a second, from a minute on in minutes, hours and seconds.
pub fn duration(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", elapsed.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min {} s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// Returns bytes for each second.
pub fn rate(count: u64, elapsed: Duration) -> String {
    format!("{}/s", bytes((count as f64 / elapsed.as_secs_f64().max(0.001)) as u64))
}

/// Returns how many times `raw` is `stored`, with one decimal.
pub fn ratio(raw: u64, stored: u64) -> String {
    format!("{:.1} : 1", raw as f64 / stored.max(1) as f64)
}

/// Returns an RFC 3339 time in the zone of this host, to the second; other text as it is.
pub fn local_time(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => {
            time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        Err(_) => text.to_owned(),
    }
}

/// Returns a time as the manifest has it, RFC 3339 in UTC.
pub fn utc_time(seconds: i64, nanoseconds: u32) -> String {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    match Timestamp::new(seconds, nanoseconds) {
        Ok(time) => time.to_string(),
        // Outside the years -9999 to 9999.
        Err(_) => seconds.to_string(),
    }
}

/// Returns kind and permission bits as `ls -l` shows them.
pub fn permissions(entry: &Entry) -> String {
    let kind = match entry.node {
        Node::File { .. } => '-',
        Node::Directory => 'd',
        Node::Symlink { .. } => 'l',
        Node::Fifo => 'p',
        Node::CharDevice { .. } => 'c',
        Node::BlockDevice { .. } => 'b',
        Node::Socket => 's',
        Node::Unreadable { .. } => '?',
    };
    let mut out = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = entry.mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (bits & 1 != 0, entry.mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_into_the_next_unit() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn counts_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "file", "files"), "1 file");
    }

    #[test]
    fn sizes_and_times_are_read() {
        for (text, number) in [
            ("0", Some(0)),
            ("64K", Some(65_536)),
            ("2GiB", Some(2 << 30)),
            ("K", None),
            ("-1", None),
            ("1.5M", None),
            ("16777216T", None),
            ("1X", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), number, "{text}");
        }
        assert_eq!(parse_time("1970-01-01T00:00:01.5Z"), Ok((1, 500_000_000)));
        assert_eq!(parse_time("1969-12-31T23:59:59.25+00:00"), Ok((-1, 250_000_000)));
        assert!(parse_time("2026-11-23").is_ok() && parse_time("2026-11-23 10:00").is_ok());
        assert!(parse_time("yesterday").is_err());
    }

    #[test]
    fn durations_and_times() {
        assert_eq!(duration(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(duration(Duration::from_secs(7325)), "2 h 2 min 5 s");
        assert_eq!(utc_time(0, 5), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(utc_time(i64::MAX, 0), i64::MAX.to_string());
        assert_eq!(local_time("yesterday"), "yesterday");
    }
}
