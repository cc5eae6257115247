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

    /// Returns the lines: headings, a rule, the rows.
    pub fn lines(&self) -> Vec<String> {
        let headings: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let widths: Vec<usize> = (0..headings.len())
            .map(|at| {
                let cells = self.rows.iter().chain([&headings]).map(|row| width(&row[at]));
                cells.max().unwrap_or(0)
            })
            .collect();
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

/// Returns how many characters a text has.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

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
