//! Medians and tables.

use std::collections::BTreeMap;

use crate::measure::Usage;
use crate::tool::Tool;

/// Returns the middle of some figures; of an even number the lower one.
pub fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied()
}

/// Measurements of one step, by tool.
#[derive(Clone, Debug, Default)]
pub struct Step {
    runs: BTreeMap<Tool, Vec<Usage>>,
}

impl Step {
    pub fn add(&mut self, tool: Tool, usage: Usage) {
        self.runs.entry(tool).or_default().push(usage);
    }

    /// Returns the median of a figure of a tool.
    pub fn median(&self, tool: Tool, figure: fn(&Usage) -> f64) -> Option<f64> {
        median(self.runs.get(&tool)?.iter().map(figure).collect())
    }

    /// Returns the median wall time of the fastest of the three that are compared with.
    pub fn fastest_peer(&self) -> Option<f64> {
        let peers = self.runs.keys().filter(|tool| tool.is_peer());
        peers.filter_map(|tool| self.median(*tool, |usage| usage.wall)).min_by(f64::total_cmp)
    }

    /// Returns the lines of a table: a row for each tool.
    pub fn table(&self, title: &str) -> Vec<String> {
        let own = self.median(Tool::Colvault, |usage| usage.wall);
        let mut lines = vec![
            format!(
                "| {title} | wall s | min..max | of it sync | CPU s | peak MiB | wall / colvault |"
            ),
            "|---|---|---|---|---|---|---|".to_owned(),
        ];
        for (tool, runs) in &self.runs {
            let figure = |figure: fn(&Usage) -> f64| self.median(*tool, figure).unwrap_or(f64::NAN);
            let wall = figure(|usage| usage.wall);
            let walls = || runs.iter().map(|usage| usage.wall);
            lines.push(format!(
                "| {} | {wall:.2} | {:.2}..{:.2} | {:.2} | {:.2} | {:.0} | {} |",
                tool.name(),
                walls().fold(f64::INFINITY, f64::min),
                walls().fold(0.0, f64::max),
                figure(|usage| usage.sync),
                figure(|usage| usage.cpu),
                figure(|usage| usage.peak_kib as f64) / 1024.0,
                own.map_or("-".to_owned(), |own| format!("{:.2}", wall / own)),
            ));
        }
        lines
    }
}

/// Returns bytes in megabytes, as the tables show them.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}
