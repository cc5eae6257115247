//! Slots that could not be stored as recipes: how many, in which files, and what that means.

use crate::format::snapshot::RecipeStats;

/// How many files a warning names; the rest is counted.
const NAMED_MAX: usize = 3;

/// Slots of one reason, and the files they are in.
#[derive(Debug, Default)]
struct Kept {
    slots: u64,
    files: u64,
    examples: Vec<String>,
}

impl Kept {
    fn add(&mut self, slots: u64, object: &str) {
        if slots == 0 {
            return;
        }
        self.slots += slots;
        self.files += 1;
        if self.examples.len() < NAMED_MAX {
            self.examples.push(object.to_owned());
        }
    }

    /// Returns how many there are and where: `5 slots in 2 files (a, b)`.
    fn describe(&self) -> String {
        let mut files = self.examples.join(", ");
        if self.files > self.examples.len() as u64 {
            files.push_str(", ...");
        }
        format!("{} in {} ({files})", some(self.slots, "slot"), some(self.files, "file"))
    }
}

/// Slots that hold and were stored as packed bytes although recipes were wanted.
#[derive(Debug, Default)]
pub(super) struct KeptPacked {
    /// Another library has packed them.
    otherwise: Kept,
    /// Slots behind such.
    not_tried: u64,
}

impl KeptPacked {
    /// Takes what became of the slots of a file.
    pub fn add(&mut self, recipes: &RecipeStats, object: &str) {
        self.otherwise.add(recipes.slots_packed_otherwise, object);
        self.not_tried += recipes.slots_not_tried;
    }

    /// Returns what the user should know of it.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.otherwise.slots > 0 {
            let behind = match self.not_tried {
                0 => String::new(),
                slots => format!(", and so are {} behind them, not tried", some(slots, "slot")),
            };
            warnings.push(format!(
                "another version of the packing library than this program has packed {}: stored as \
                 packed bytes{behind}; nothing is lost, only space",
                self.otherwise.describe()
            ));
        }
        warnings
    }
}

fn some(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches slots that are counted to the wrong reason, and a warning that names every file.
    #[test]
    fn slots_are_counted_by_what_is_so_with_them() {
        let mut kept = KeptPacked::default();
        assert!(kept.warnings().is_empty());
        let good = RecipeStats { slots_recipe_new: 7, slots_recipe_known: 2, ..Default::default() };
        kept.add(&good, "good");
        assert!(kept.warnings().is_empty());
        let odd = RecipeStats { slots_packed_otherwise: 4, slots_not_tried: 12, ..good };
        ["a", "b", "c", "d"].iter().for_each(|object| kept.add(&odd, object));
        // Damage is a finding of its file.
        kept.add(&RecipeStats { slots_not_unpacked: 1, ..good }, "e");
        let warnings = kept.warnings();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("packed 16 slots in 4 files (a, b, c, ...): stored as"));
    }
}
