//! Aligned columns.

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At its beginning.
    Left,
    /// At its end.
    Right,
}

/// Rows of text below headings.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Begins with the headings.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns.iter().map(|(name, align)| ((*name).to_owned(), *align)).collect();
        Table { columns, rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    /// Returns the lines, none wider than `columns` if that can be: text is shortened, the longest
    /// first, down to a few characters; numbers, which stand at the right, never are.
    pub fn lines_within(&self, columns: usize) -> Vec<String> {
        let mut table = Table { columns: self.columns.clone(), rows: self.rows.clone() };
        let headings: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let mut widths = self.widths(&headings);
        loop {
            let total = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
            let texts = (0..widths.len()).filter(|at| self.columns[*at].1 == Align::Left);
            // An id or a time that lost its end is of no use.
            let long = texts.filter(|at| widths[*at] > SHORTENED_MIN.max(width(&headings[*at])));
            let Some(longest) = long.max_by_key(|at| widths[*at]).filter(|_| total > columns)
            else {
                break;
            };
            let least = SHORTENED_MIN.max(width(&headings[longest]));
            widths[longest] = widths[longest].saturating_sub(total - columns).max(least);
        }
        for row in &mut table.rows {
            for (cell, wide) in row.iter_mut().zip(&widths) {
                *cell = shortened(cell, *wide);
            }
        }
        table.lines()
    }

    fn widths(&self, headings: &[String]) -> Vec<usize> {
        let column = |at: usize| self.rows.iter().map(move |row| width(&row[at]));
        let wide = |at: usize| column(at).chain([width(&headings[at])]).max().unwrap_or(0);
        (0..headings.len()).map(wide).collect()
    }

    /// Returns the lines: headings, a rule, the rows.
    pub fn lines(&self) -> Vec<String> {
        let headings: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let widths = self.widths(&headings);
        let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1));
        let mut lines = vec![self.line(&headings, &widths), rule];
        lines.extend(self.rows.iter().map(|row| self.line(row, &widths)));
        lines
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, wide), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            let blank = " ".repeat(wide - width(cell));
            match align {
                Align::Left => line.extend([cell, blank.as_str(), "  "]),
                Align::Right => line.extend([blank.as_str(), cell, "  "]),
            }
        }
        line.trim_end().to_owned()
    }
}

/// Hands on the lines of a table whose rows are made twice, the first time for their widths: none is
/// kept, however many there are.
pub fn each_line<const N: usize>(
    columns: [(&str, Align); N],
    rows: impl Iterator<Item = [String; N]> + Clone,
    mut each: impl FnMut(&str),
) {
    let table = Table::new(&columns);
    let headings = columns.map(|(name, _)| name.to_owned());
    let mut widths = headings.clone().map(|heading| width(&heading));
    for row in rows.clone() {
        for (wide, cell) in widths.iter_mut().zip(&row) {
            *wide = width(cell).max(*wide);
        }
    }
    each(&table.line(&headings, &widths));
    each(&"-".repeat(widths.iter().sum::<usize>() + 2 * N.saturating_sub(1)));
    rows.for_each(|row| each(&table.line(&row, &widths)));
}

/// Text is not shortened below this many characters: ids, and times to the minute, stay whole.
const SHORTENED_MIN: usize = 16;

/// Returns a text with its middle left out, if it is too long: names differ at both ends.
fn shortened(text: &str, wide: usize) -> String {
    let length = width(text);
    if length <= wide || wide < 3 {
        return text.to_owned();
    }
    let head = (wide - 1).div_ceil(2);
    let tail = wide - 1 - head;
    let head: String = text.chars().take(head).collect();
    let tail: String = text.chars().skip(length - tail).collect();
    format!("{head}…{tail}")
}

/// Returns how many characters a text has.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_gives_way_and_numbers_do_not() {
        let mut table =
            Table::new(&[("ID", Align::Left), ("Name", Align::Left), ("Size", Align::Right)]);
        let long = "/var/lib/mysql/a/very/long/name/größer.frm";
        table.row(vec!["0123abcd".into(), long.into(), "1023.9 MiB".into()]);
        table.row(vec!["0123abcd".into(), "short".into(), "1 B".into()]);
        let lines = table.lines_within(44);
        assert!(lines.iter().all(|line| width(line) <= 44), "{lines:?}");
        assert_eq!(lines[2], "0123abcd  /var/lib/my…größer.frm  1023.9 MiB");
        assert_eq!(lines[3], "0123abcd  short                          1 B");
        assert_eq!(table.lines_within(200), table.lines());
        // Where there is no room at all it is too wide, and whole where it matters.
        assert_eq!(table.lines_within(1)[2], "0123abcd  /var/lib…ßer.frm  1023.9 MiB");
    }

    #[test]
    fn rows_that_are_not_kept_look_like_those_that_are() {
        let columns = [("Name", Align::Left), ("Size", Align::Right)];
        let rows = [["größer", "1 B"], ["x", "1023 B"]].map(|row| row.map(str::to_owned));
        let mut table = Table::new(&columns);
        rows.iter().for_each(|row| table.row(row.to_vec()));
        let mut lines = Vec::new();
        each_line(columns, rows.into_iter(), |line| lines.push(line.to_owned()));
        assert_eq!(lines, table.lines());
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("Name", Align::Left), ("Size", Align::Right)]);
        table.row(vec!["größer".into(), "1 B".into()]);
        table.row(vec!["x".into(), "1023 B".into()]);
        assert_eq!(
            table.lines(),
            ["Name      Size", "--------------", "größer     1 B", "x       1023 B"]
        );
    }
}
