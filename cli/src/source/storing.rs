//! How content is stored: words of the command line for what the engine knows.

use clap::ValueEnum;
use colvault_engine::compress::Compression;
use colvault_engine::format::config::SlotForm;

/// In which form slots of segment files are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SlotsAs {
    /// Unpacked, with a recipe that packs them again
    Recipe,
    /// As the bytes that the server packed
    Packed,
}

impl From<SlotsAs> for SlotForm {
    fn from(slots: SlotsAs) -> SlotForm {
        match slots {
            SlotsAs::Recipe => SlotForm::Recipe,
            SlotsAs::Packed => SlotForm::Packed,
        }
    }
}

/// How hard new chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompressionAs {
    /// As little processor time as it takes
    Fast,
    /// What pays at every backup
    Default,
    /// As small as it gets, for much processor time
    Max,
}

impl From<CompressionAs> for Compression {
    fn from(compression: CompressionAs) -> Compression {
        match compression {
            CompressionAs::Fast => Compression::Fast,
            CompressionAs::Default => Compression::Default,
            CompressionAs::Max => Compression::Max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a word that stands for another thing than the engine's word for it.
    #[test]
    fn words_are_those_of_the_engine() {
        for word in SlotsAs::value_variants() {
            let name = word.to_possible_value().expect("none is hidden").get_name().to_owned();
            assert_eq!(name, SlotForm::from(*word).name());
        }
        for word in CompressionAs::value_variants() {
            let name = word.to_possible_value().expect("none is hidden").get_name().to_owned();
            assert_eq!(name, Compression::from(*word).name());
        }
    }
}
