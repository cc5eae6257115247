//! The tables that are generated: what a warehouse holds, column by column.

use serde::{Deserialize, Serialize};

/// Bytes of a block, the unit that ColumnStore counts in.
pub(super) const BLOCK: usize = 8192;

/// What a column holds, and so its type and width.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// BIGINT: rises with the row, `repeat` rows a value.
    Key { start: u64, repeat: u64 },
    /// INT: any of `range` numbers.
    Foreign { range: u32 },
    /// TINYINT or SMALLINT: few values, small ones more often.
    Code { values: u32, width: u8 },
    /// DECIMAL(9) or DECIMAL(18), unscaled.
    Amount { range: u64, width: u8 },
    /// DATE: follows the row, up to `spread` days off.
    Day { spread: u32 },
    /// DATETIME: follows the row.
    Moment { per_second: u32 },
    /// CHAR of up to 8 bytes: one of few.
    Letters { values: u32, width: u8 },
    /// DOUBLE: hundredths.
    Reading { range: u32 },
    /// FLOAT: tenths.
    Score { range: u32 },
    /// VARCHAR in a dictionary of few strings.
    Label { values: u32, length: u16 },
    /// VARCHAR in a dictionary with a string for each row.
    Text { length: u16 },
}

impl Kind {
    /// Bytes of a value in the column file.
    pub fn width(self) -> usize {
        match self {
            Kind::Code { width, .. } | Kind::Amount { width, .. } | Kind::Letters { width, .. } => {
                usize::from(width)
            }
            Kind::Foreign { .. } | Kind::Day { .. } | Kind::Score { .. } => 4,
            _ => 8,
        }
    }

    /// The number of `CalpontSystemCatalog::ColDataType`.
    pub fn data_type(self) -> u32 {
        match self {
            Kind::Code { width: 1, .. } => 1,
            Kind::Letters { .. } => 2,
            Kind::Code { .. } => 3,
            Kind::Amount { .. } => 4,
            Kind::Foreign { .. } => 6,
            Kind::Score { .. } => 7,
            Kind::Day { .. } => 8,
            Kind::Key { .. } => 9,
            Kind::Reading { .. } => 10,
            Kind::Moment { .. } => 11,
            Kind::Label { .. } | Kind::Text { .. } => 12,
        }
    }

    /// What stands where there is no row, in the first `width` bytes
    /// (`writeengine/shared/we_type.h`, as seen in files of a server).
    pub fn empty(self) -> [u8; 8] {
        let value = match self {
            Kind::Code { width: 1, .. } => 0x81,
            Kind::Code { .. } => 0x8001,
            Kind::Amount { width: 4, .. } | Kind::Foreign { .. } => 0x8000_0001,
            Kind::Amount { .. } | Kind::Key { .. } => 0x8000_0000_0000_0001,
            Kind::Score { .. } => 0xffaa_aaab,
            Kind::Reading { .. } => 0xfffa_aaaa_aaaa_aaab,
            _ => u64::MAX,
        };
        value.to_le_bytes()
    }

    /// Bytes that the column was declared with: of the longest string, or of the value.
    pub fn declared_width(self) -> usize {
        match self {
            Kind::Label { length, .. } | Kind::Text { length } => usize::from(length),
            other => other.width(),
        }
    }

    /// Whether values stand in a dictionary.
    pub fn has_dictionary(self) -> bool {
        matches!(self, Kind::Label { .. } | Kind::Text { .. })
    }

    /// Whether the extent map knows the smallest and largest value.
    pub fn has_bounds(self) -> bool {
        !self.has_dictionary() && !matches!(self, Kind::Reading { .. } | Kind::Score { .. })
    }

    /// Whether the bounds of an extent compare by the bytes from the first on.
    pub fn compares_bytes(self) -> bool {
        matches!(self, Kind::Letters { .. })
    }

    /// Whether an UPDATE is made of this column; keys stay.
    pub fn is_updated(self) -> bool {
        !matches!(self, Kind::Key { .. } | Kind::Moment { .. } | Kind::Text { .. })
    }
}

/// A table to make: its share of the data, and its columns.
pub(super) struct Template {
    pub name: &'static str,
    pub weight: f64,
    pub columns: &'static [(&'static str, Kind)],
}

/// The tables, largest first; more are made by going round.
pub(super) const TEMPLATES: [Template; 7] = [
    Template {
        name: "lineitem",
        weight: 0.38,
        columns: &[
            ("orderkey", Kind::Key { start: 1, repeat: 4 }),
            ("partkey", Kind::Foreign { range: 2_000_000 }),
            ("suppkey", Kind::Foreign { range: 100_000 }),
            ("linenumber", Kind::Code { values: 7, width: 2 }),
            ("quantity", Kind::Amount { range: 5_000, width: 8 }),
            ("extendedprice", Kind::Amount { range: 10_500_000, width: 8 }),
            ("discount", Kind::Code { values: 11, width: 2 }),
            ("returnflag", Kind::Letters { values: 3, width: 4 }),
            ("shipdate", Kind::Day { spread: 120 }),
            ("receiptdate", Kind::Day { spread: 150 }),
            ("shipinstruct", Kind::Label { values: 40, length: 25 }),
            ("comment", Kind::Text { length: 44 }),
        ],
    },
    Template {
        name: "orders",
        weight: 0.20,
        columns: &[
            ("orderkey", Kind::Key { start: 1, repeat: 1 }),
            ("custkey", Kind::Foreign { range: 1_500_000 }),
            ("orderstatus", Kind::Letters { values: 3, width: 4 }),
            ("totalprice", Kind::Amount { range: 50_000_000, width: 8 }),
            ("orderdate", Kind::Day { spread: 3 }),
            ("clerk", Kind::Label { values: 1000, length: 15 }),
            ("shippriority", Kind::Code { values: 5, width: 1 }),
            ("comment", Kind::Text { length: 79 }),
        ],
    },
    Template {
        name: "weblog",
        weight: 0.14,
        columns: &[
            ("moment", Kind::Moment { per_second: 40 }),
            ("visitor", Kind::Amount { range: 1 << 40, width: 8 }),
            ("page", Kind::Label { values: 5000, length: 120 }),
            ("status", Kind::Code { values: 9, width: 2 }),
            ("bytes", Kind::Foreign { range: 1_900_000 }),
            ("seconds", Kind::Reading { range: 3000 }),
            ("agent", Kind::Label { values: 300, length: 250 }),
            ("country", Kind::Letters { values: 120, width: 4 }),
        ],
    },
    Template {
        name: "sensor",
        weight: 0.10,
        columns: &[
            ("moment", Kind::Moment { per_second: 500 }),
            ("device", Kind::Foreign { range: 500 }),
            ("value", Kind::Reading { range: 80_000 }),
            ("battery", Kind::Score { range: 900 }),
            ("state", Kind::Code { values: 3, width: 1 }),
            ("sequence", Kind::Key { start: 1 << 33, repeat: 1 }),
            ("note", Kind::Label { values: 700, length: 200 }),
        ],
    },
    Template {
        name: "trades",
        weight: 0.10,
        columns: &[
            ("id", Kind::Key { start: 10_000_000_000, repeat: 1 }),
            ("moment", Kind::Moment { per_second: 900 }),
            ("symbol", Kind::Letters { values: 400, width: 8 }),
            ("price", Kind::Amount { range: 22_000_000, width: 8 }),
            ("volume", Kind::Foreign { range: 13_000 }),
            ("side", Kind::Letters { values: 2, width: 4 }),
            ("venue", Kind::Label { values: 12, length: 30 }),
        ],
    },
    Template {
        name: "customer",
        weight: 0.05,
        columns: &[
            ("custkey", Kind::Key { start: 1, repeat: 1 }),
            ("name", Kind::Text { length: 25 }),
            ("address", Kind::Text { length: 200 }),
            ("nation", Kind::Code { values: 25, width: 2 }),
            ("balance", Kind::Amount { range: 1_000_000, width: 8 }),
            ("segment", Kind::Label { values: 5, length: 10 }),
        ],
    },
    Template {
        name: "sales",
        weight: 0.03,
        columns: &[
            ("id", Kind::Key { start: 1, repeat: 1 }),
            ("day", Kind::Day { spread: 1 }),
            ("store", Kind::Code { values: 119, width: 2 }),
            ("product", Kind::Foreign { range: 40_000 }),
            ("units", Kind::Code { values: 11, width: 1 }),
            ("amount", Kind::Amount { range: 24_000, width: 4 }),
        ],
    },
];
