//! How pictures are read: columns, size, normalisation, variation.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::augment::Augment;
use super::corrupt::Corruption;
use crate::error::DataError;

/// Mean and standard deviation of ImageNet's colours (red, green, blue), of values in 0 to 1.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// Longest side of a model's input that is believed, in pixels.
const LONGEST: usize = 4096;

/// How pictures become inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSpec {
    /// Column of a Parquet file with the encoded pictures: a struct `{bytes, path}` or bytes. Else `image` or `img`.
    pub image_column: Option<String>,
    /// Column with the classes: numbers or names. Else `label` or `labels`.
    pub label_column: Option<String>,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// 3: red, green, blue. 1: grey (ITU-R 601: 0.299 R + 0.587 G + 0.114 B).
    pub channels: usize,
    /// Mean of each channel, of values in 0 to 1; `[channels]`.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, of values in 0 to 1; `[channels]`.
    pub std: Vec<f32>,
    /// How pictures of another size are brought to this one.
    pub resize: Resize,
    /// Random variation while training.
    pub augment: Augment,
    /// Corruption of every picture, of training, validation and test alike.
    pub corrupt: Option<Corruption>,
    /// At most so many pictures, with each class in its share: see [`super::read_images`].
    pub limit: Option<usize>,
}

/// How a picture is brought to the size of the input. Both filter with a triangle (bilinear) that widens when the
/// picture shrinks, so that nothing aliases, in the integer arithmetic of Pillow: to the bit what its
/// `resize(..., BILINEAR)` gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resize {
    /// Keep the proportions: resize until the input is just covered, then take its centre. As torchvision's
    /// `Resize(n)` and `CenterCrop(n)`.
    #[default]
    Crop,
    /// Resize both sides, whatever the proportions.
    Squash,
}

impl FromStr for Resize {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        match text {
            "crop" => Ok(Self::Crop),
            "squash" => Ok(Self::Squash),
            _ => Err(setting("resize", format!("`{text}`"), "crop or squash")),
        }
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crop => "crop",
            Self::Squash => "squash",
        })
    }
}

impl ImageSpec {
    /// Inputs of this size, normalised by ImageNet's mean and deviation (their mean where `channels` is 1).
    #[must_use]
    pub fn new(height: usize, width: usize, channels: usize) -> Self {
        let (mean, std) = match channels {
            1 => (vec![0.449], vec![0.226]),
            _ => (IMAGENET.0.to_vec(), IMAGENET.1.to_vec()),
        };
        Self {
            image_column: None,
            label_column: None,
            height,
            width,
            channels,
            mean,
            std,
            resize: Resize::default(),
            augment: Augment::default(),
            corrupt: None,
            limit: None,
        }
    }

    /// The inputs that a model expects, by its `config.json` and, where that is silent, by its
    /// `preprocessor_config.json`. Read are `image_size`, `num_channels` (timm: `in_chans`), `image_mean`,
    /// `image_std`; `crop_size` and `size` of a preprocessor; `input_size`, `mean`, `std` of timm's
    /// `pretrained_cfg`. A size is `32`, `[32, 48]` (height, width), `{"height", "width"}` or `{"shortest_edge"}`.
    ///
    /// # Errors
    /// [`DataError::ImageSetting`] for a configuration without a size, or as [`ImageSpec::check`].
    pub fn from_config(config: &Value, preprocessor: Option<&Value>) -> Result<Self, DataError> {
        let timm = config.get("pretrained_cfg");
        let pages = [Some(config), preprocessor, timm];
        let find = |keys: &[&str]| {
            pages.iter().flatten().find_map(|page| keys.iter().find_map(|key| page.get(key))).cloned()
        };
        let input = timm.and_then(|timm| timm.get("input_size")).and_then(Value::as_array);
        let size = match (find(&["image_size", "crop_size", "size"]), input) {
            (Some(size), _) => size,
            (None, Some(input)) if input.len() == 3 => Value::from(input[1..].to_vec()),
            (None, _) => Value::Null,
        };
        let expected =
            "image_size in the model's config.json: 32, [32, 48] or {\"height\": 32, \"width\": 48}";
        let (height, width) =
            size_of(&size).ok_or_else(|| setting("image_size", size.to_string(), expected))?;
        let channels = find(&["num_channels", "in_chans"]);
        let channels = channels.or_else(|| input.and_then(|input| input.first().cloned()));
        let channels = channels.as_ref().and_then(Value::as_u64).unwrap_or(3) as usize;
        let mut spec = Self::new(height, width, channels);
        if let Some(mean) = find(&["image_mean", "mean"]) {
            spec.mean = numbers("image_mean", &mean)?;
        }
        if let Some(std) = find(&["image_std", "std"]) {
            spec.std = numbers("image_std", &std)?;
        }
        spec.check()?;
        Ok(spec)
    }

    /// # Errors
    /// [`DataError::ImageSetting`] for a size, a number of channels, a mean, a deviation or a limit that cannot be.
    pub fn check(&self) -> Result<(), DataError> {
        let size = 1..=LONGEST;
        if !size.contains(&self.height) || !size.contains(&self.width) {
            let found = format!("{} × {}", self.height, self.width);
            return Err(setting("image_size", found, "1 to 4096 pixels a side"));
        }
        if !matches!(self.channels, 1 | 3) {
            return Err(setting(
                "num_channels",
                self.channels.to_string(),
                "1 (grey) or 3 (red, green, blue)",
            ));
        }
        if self.mean.len() != self.channels || !self.mean.iter().all(|mean| mean.is_finite()) {
            let found = format!("{:?}", self.mean);
            return Err(setting("image_mean", found, "one number for each channel"));
        }
        if self.std.len() != self.channels || !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            let found = format!("{:?}", self.std);
            return Err(setting("image_std", found, "one positive number for each channel"));
        }
        if self.limit == Some(0) {
            return Err(setting("limit", "0".to_owned(), "at least one picture"));
        }
        Ok(())
    }

    /// Values of a picture: height × width × channels.
    #[must_use]
    pub fn values(&self) -> usize {
        self.height * self.width * self.channels
    }
}

pub(super) fn setting(key: &'static str, found: String, expected: &'static str) -> DataError {
    DataError::ImageSetting { key, found, expected }
}

/// Height and width.
fn size_of(size: &Value) -> Option<(usize, usize)> {
    let side = |value: &Value| usize::try_from(value.as_u64()?).ok();
    match size {
        Value::Array(sides) if sides.len() == 2 => Some((side(&sides[0])?, side(&sides[1])?)),
        Value::Object(sides) => match sides.get("shortest_edge") {
            Some(edge) => Some((side(edge)?, side(edge)?)),
            None => Some((side(sides.get("height")?)?, side(sides.get("width")?)?)),
        },
        _ => Some((side(size)?, side(size)?)),
    }
}

fn numbers(key: &'static str, value: &Value) -> Result<Vec<f32>, DataError> {
    let read = || -> Option<Vec<f32>> {
        value.as_array()?.iter().map(|number| number.as_f64().map(|x| x as f32)).collect()
    };
    read().ok_or_else(|| setting(key, value.to_string(), "a list of numbers, one for each channel"))
}
