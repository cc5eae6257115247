//! What columns and dictionaries hold.

use std::ops::Range;
use std::sync::OnceLock;

use super::random::Random;
use super::schema::{BLOCK, Kind};

/// Smallest and largest value, as the extent map keeps them; inverted when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub low: i64,
    pub high: i64,
}

impl Bounds {
    pub const NONE: Bounds = Bounds { low: i64::MAX, high: i64::MIN };

    /// Adds the bounds of other rows. `by_bytes` compares the bytes from the first on.
    pub fn add(&mut self, other: Bounds, by_bytes: bool) {
        if other == Bounds::NONE {
            return;
        }
        if *self == Bounds::NONE {
            *self = other;
            return;
        }
        let key = |value: i64| if by_bytes { value.swap_bytes() } else { value };
        self.low = if key(other.low) < key(self.low) { other.low } else { self.low };
        self.high = if key(other.high) > key(self.high) { other.high } else { self.high };
    }
}

/// Where the strings of one segment file of a dictionary column stand.
pub(super) struct Tokens {
    /// First LBID of each extent of the dictionary file.
    pub extents: Vec<u64>,
    /// Strings in every block but the last.
    pub per_block: u64,
    /// Strings to choose from, where rows share them.
    pub shared: Option<u64>,
    /// The number of the string that belongs to the first of the rows that are filled.
    pub first: u64,
}

impl Tokens {
    /// Returns the token of a string: LBID of the block and place in it (from 1).
    pub fn token(&self, string: u64) -> u64 {
        let (block, place) = (string / self.per_block, string % self.per_block + 1);
        let extent = (block / 8192) as usize;
        (self.extents[extent] + block % 8192) << 10 | place
    }
}

/// What makes the rows of one column.
pub(super) struct Filling<'a> {
    pub kind: Kind,
    /// In parts of 2^32, how often a row differs from the one before.
    pub change: u32,
    pub tokens: Option<&'a Tokens>,
}

impl Filling<'_> {
    /// Makes the rows `rows` in a chunk whose first row is `first`. The stream decides; the bytes of
    /// other rows stay.
    pub fn fill(&self, chunk: &mut [u8], first: u64, rows: Range<u64>, stream: Random) -> Bounds {
        match self.kind.width() {
            1 => self.fill_width::<1>(chunk, first, rows, stream),
            2 => self.fill_width::<2>(chunk, first, rows, stream),
            4 => self.fill_width::<4>(chunk, first, rows, stream),
            _ => self.fill_width::<8>(chunk, first, rows, stream),
        }
    }

    fn fill_width<const WIDTH: usize>(
        &self,
        chunk: &mut [u8],
        first: u64,
        rows: Range<u64>,
        mut stream: Random,
    ) -> Bounds {
        let (places, _) = chunk.as_chunks_mut::<WIDTH>();
        let from = (rows.start - first) as usize;
        let places = &mut places[from..][..(rows.end - rows.start) as usize];
        let always = matches!(self.kind, Kind::Key { .. });
        let mut value = self.value(&mut stream, rows.start, rows.start);
        let mut bounds = Bounds::NONE;
        for (place, row) in places.iter_mut().zip(rows.clone()) {
            if always || stream.chance(self.change) {
                value = self.value(&mut stream, row, rows.start);
                bounds.add(self.bounds_of(value), self.kind.compares_bytes());
            } else if row == rows.start {
                bounds.add(self.bounds_of(value), self.kind.compares_bytes());
            }
            place.copy_from_slice(&value.to_le_bytes()[..WIDTH]);
        }
        if self.kind.has_bounds() { bounds } else { Bounds::NONE }
    }

    /// Returns the bounds of one value.
    pub fn bounds_of(&self, value: u64) -> Bounds {
        if !self.kind.has_bounds() {
            return Bounds::NONE;
        }
        Bounds { low: value as i64, high: value as i64 }
    }

    /// Returns a value for a row; `first` is the first row that is made with these tokens.
    pub fn value(&self, stream: &mut Random, row: u64, first: u64) -> u64 {
        match self.kind {
            Kind::Key { start, repeat } => start + row / repeat,
            Kind::Foreign { range } => 1 + stream.below(u64::from(range)),
            Kind::Code { values, .. } => stream.skewed(u64::from(values)),
            Kind::Amount { range, .. } => 1 + stream.below(range),
            Kind::Day { spread } => {
                let day = (row / 20_000 + stream.below(u64::from(spread) + 1)) as usize;
                calendar()[day % CALENDAR_DAYS]
            }
            Kind::Moment { per_second } => moment(row / u64::from(per_second) + stream.below(2)),
            Kind::Letters { values, width } => letters(stream.skewed(u64::from(values)), width),
            Kind::Reading { range } => (stream.below(u64::from(range)) as f64 / 100.0).to_bits(),
            Kind::Score { range } => {
                u64::from((stream.below(u64::from(range)) as f32 / 10.0).to_bits())
            }
            Kind::Label { .. } | Kind::Text { .. } => {
                let Some(tokens) = self.tokens else { return 1 << 10 | 1 };
                let string = match tokens.shared {
                    Some(strings) => stream.skewed(strings),
                    None => tokens.first + (row - first),
                };
                tokens.token(string)
            }
        }
    }
}

const CALENDAR_DAYS: usize = 20_000;

/// DATE values of the days from 2015-01-01: year, month, day and six set bits.
fn calendar() -> &'static [u64] {
    static DAYS: OnceLock<Vec<u64>> = OnceLock::new();
    DAYS.get_or_init(|| {
        let (mut year, mut month, mut day) = (2015u64, 1u64, 1u64);
        let mut days = Vec::with_capacity(CALENDAR_DAYS);
        for _ in 0..CALENDAR_DAYS {
            days.push(year << 16 | month << 12 | day << 6 | 0x3e);
            day += 1;
            if day > days_of(year, month) {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
        days
    })
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// DATETIME of a second counted from 2015-01-01 00:00:00.
fn moment(second: u64) -> u64 {
    let day = calendar()[(second / 86_400) as usize % CALENDAR_DAYS];
    let (year, month, date) = (day >> 16, day >> 12 & 15, day >> 6 & 63);
    let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
    year << 48 | month << 44 | date << 38 | hour << 32 | minute << 26 | second << 20
}

/// CHAR value of a number: letters, first in the lowest byte, the rest zero.
fn letters(number: u64, width: u8) -> u64 {
    let mut value = 0;
    let mut left = number;
    for place in 0..u64::from(width.min(5)) {
        value |= (u64::from(b'A') + left % 26) << (8 * place);
        left /= 26;
        if left == 0 {
            break;
        }
    }
    value
}

const WORDS: [&str; 64] = [
    "furiously",
    "quickly",
    "carefully",
    "blithely",
    "slyly",
    "ironic",
    "express",
    "regular",
    "final",
    "pending",
    "special",
    "bold",
    "even",
    "silent",
    "unusual",
    "packages",
    "deposits",
    "requests",
    "accounts",
    "instructions",
    "theodolites",
    "foxes",
    "pinto",
    "beans",
    "ideas",
    "dependencies",
    "platelets",
    "asymptotes",
    "sleep",
    "haggle",
    "nag",
    "wake",
    "cajole",
    "boost",
    "detect",
    "integrate",
    "among",
    "above",
    "across",
    "after",
    "against",
    "along",
    "the",
    "about",
    "according",
    "to",
    "never",
    "always",
    "order",
    "delivery",
    "street",
    "north",
    "window",
    "paper",
    "copper",
    "river",
    "stone",
    "market",
    "signal",
    "engine",
    "harbour",
    "garden",
    "winter",
    "letter",
];

/// Returns how many strings of at most `length` bytes are put into one dictionary block.
pub(super) fn strings_per_block(length: u16) -> u64 {
    // Strings are half to all of `length` long; offsets take two bytes each. A little stays free.
    let average = usize::from(length).max(4) * 3 / 4 + 2;
    ((BLOCK - 14) * 94 / 100 / average).clamp(1, 1000) as u64
}

/// An empty dictionary block: free bytes, no next block, the end of strings, end mark.
pub(super) fn empty_block(block: &mut [u8]) {
    block.fill(0);
    block[..2].copy_from_slice(&((BLOCK - 14) as u16).to_le_bytes());
    block[10..12].copy_from_slice(&(BLOCK as u16).to_le_bytes());
    block[12..14].fill(0xff);
}

/// Makes one dictionary block with its first `count` strings (`writeengine/dictionary`): offsets
/// from the front, strings from the end. The stream decides; more strings change none before.
pub(super) fn dictionary_block(
    block: &mut [u8],
    length: u16,
    count: u64,
    change: u32,
    mut stream: Random,
) {
    empty_block(block);
    let per_block = strings_per_block(length);
    let longest = usize::from(length).max(4);
    let mut end = BLOCK;
    let mut last = 0..0;
    let mut offset_at = 12;
    for number in 0..count.min(per_block) {
        let left = (per_block - number) as usize;
        // What must stay for the strings still to come: offsets, the end mark, and two bytes each.
        let room = end - (14 + 2 * number as usize) - 4 * left;
        let wanted = longest / 2 + stream.below(longest as u64 / 2 + 1) as usize;
        let wanted = wanted.min(room + 2).max(2);
        let start = end - wanted;
        if !stream.chance(change) && last.len() >= wanted {
            block.copy_within(last.start..last.start + wanted, start);
        } else {
            words(&mut block[start..end], &mut stream);
        }
        block[offset_at..offset_at + 2].copy_from_slice(&(start as u16).to_le_bytes());
        offset_at += 2;
        last = start..end;
        end = start;
    }
    block[offset_at..offset_at + 2].fill(0xff);
    let free = end - offset_at - 2;
    block[..2].copy_from_slice(&(free as u16).to_le_bytes());
}

/// Fills a string with words and now and then a number.
fn words(text: &mut [u8], stream: &mut Random) {
    let mut at = 0;
    while at < text.len() {
        let choice = stream.next();
        let mut digits = [0; 6];
        let word = if choice & 7 == 0 {
            let mut number = choice >> 32;
            for digit in &mut digits {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
            &digits[..]
        } else {
            WORDS[(choice >> 8) as usize % WORDS.len()].as_bytes()
        };
        let fits = word.len().min(text.len() - at);
        text[at..at + fits].copy_from_slice(&word[..fits]);
        at += fits;
        if at < text.len() {
            text[at] = b' ';
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_of_the_calendar() {
        assert_eq!(calendar()[0], 2015 << 16 | 1 << 12 | 1 << 6 | 0x3e);
        // 2016 has a 29th of February, 2100 has none.
        assert_eq!(calendar()[365 + 31 + 28], 2016 << 16 | 2 << 12 | 29 << 6 | 0x3e);
        assert!(!calendar().contains(&(2100 << 16 | 2 << 12 | 29 << 6 | 0x3e)));
        assert_eq!(
            moment(86_400 + 3661),
            2015 << 48 | 1 << 44 | 2 << 38 | 1 << 32 | 1 << 26 | 1 << 20
        );
    }

    #[test]
    fn more_strings_change_none_before() {
        let (mut few, mut many) = ([0; BLOCK], [0; BLOCK]);
        dictionary_block(&mut few, 44, 10, u32::MAX, Random::of(&[1]));
        let all = strings_per_block(44);
        dictionary_block(&mut many, 44, all, u32::MAX, Random::of(&[1]));
        let offset = |block: &[u8; BLOCK], at: usize| {
            usize::from(u16::from_le_bytes([block[10 + 2 * at], block[11 + 2 * at]]))
        };
        let start = offset(&few, 10);
        assert_eq!(start, offset(&many, 10));
        assert!(few[start..] == many[start..]);
        assert_eq!(offset(&few, 11), 0xffff);
        assert_eq!(offset(&many, all as usize + 1), 0xffff);
        let free = usize::from(u16::from_le_bytes([many[0], many[1]]));
        assert_eq!(free, offset(&many, all as usize) - (14 + 2 * all as usize));
        assert!(free < 2000, "{free} bytes free in a full block");
    }
}
