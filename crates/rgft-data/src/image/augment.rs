//! Random variation of training pictures: mirrored, and shifted by a few pixels.
//!
//! A shifted picture is a crop of the picture with a black border around it (torchvision's `RandomCrop(size,
//! padding)`); the border is an eighth of the shorter side, 4 pixels at 32×32. What is drawn depends on the run's
//! seed, the epoch and the picture's row alone.

use std::fmt;
use std::str::FromStr;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::spec::setting;
use crate::dataset::Augmentation;
use crate::error::DataError;

/// Which variations there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Augment {
    /// None: pictures as they are.
    #[default]
    None,
    /// Mirrored left to right, every second time.
    Flip,
    /// Shifted by up to an eighth of the shorter side each way, and mirrored every second time.
    FlipCrop,
}

impl FromStr for Augment {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        match text {
            "none" => Ok(Self::None),
            "flip" => Ok(Self::Flip),
            "flip-crop" => Ok(Self::FlipCrop),
            _ => Err(setting("augment", format!("`{text}`"), "none, flip or flip-crop")),
        }
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Flip => "flip",
            Self::FlipCrop => "flip-crop",
        })
    }
}

/// What happens to one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Variation {
    /// The first row of the crop; before the picture's own where negative.
    pub top: isize,
    /// The first column of the crop, before it is mirrored.
    pub left: isize,
    /// Whether it is mirrored.
    pub flip: bool,
}

impl Augment {
    /// Draws a variation. `row` is that of the picture in its file, `border` the width of the black border.
    pub(super) fn draw(self, of: Augmentation, row: usize, border: usize) -> Variation {
        if self == Self::None {
            return Variation::default();
        }
        let mut rng = ChaCha8Rng::seed_from_u64(of.seed);
        // Streams do not overlap: one for each epoch and row, of which neither reaches 2³².
        rng.set_stream((of.epoch << 32) ^ row as u64);
        let border = border as i32;
        let (top, left) = match self {
            Self::FlipCrop => (rng.random_range(-border..=border), rng.random_range(-border..=border)),
            _ => (0, 0),
        };
        Variation { top: top as isize, left: left as isize, flip: rng.random() }
    }
}
