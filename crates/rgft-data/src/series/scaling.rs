//! The units in which a model sees series: `x' = (x − mean) / std` for each series, learnt from training steps alone.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Scaling, SeriesTable};
use crate::error::{DataError, listed};

/// Mean and standard deviation of one series; 0 and 1 where it is not scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesUnit {
    /// The series.
    pub name: String,
    /// What becomes 0.
    pub mean: f64,
    /// What becomes 1, above the mean; positive. 1 for a series that does not vary.
    pub std: f64,
}

impl SeriesUnit {
    /// From the file's units to the model's.
    #[must_use]
    pub fn scale(&self, value: f64) -> f32 {
        ((value - self.mean) / self.std) as f32
    }

    /// From the model's units back to the file's.
    #[must_use]
    pub fn unscale(&self, value: f32) -> f64 {
        f64::from(value) * self.std + self.mean
    }
}

/// The units of all series of a model; part of its folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SeriesScaling {
    /// One per series.
    pub series: Vec<SeriesUnit>,
}

impl SeriesScaling {
    /// The file in a model folder.
    pub const FILE: &str = "scaling.json";

    /// Learns the units from the first `steps` steps (population standard deviation, as scikit-learn).
    #[must_use]
    pub fn fit(table: &SeriesTable, steps: usize, scaling: Scaling) -> Self {
        let unit = |name: &String, values: &Vec<f64>| {
            let values = &values[..steps.min(values.len())];
            let n = values.len().max(1) as f64;
            let mean = values.iter().sum::<f64>() / n;
            let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
            let (mean, std) = match scaling {
                Scaling::None => (0.0, 1.0),
                // Rounding leaves something above 0 of a constant series.
                Scaling::Standard if std > 1e-12 * mean.abs() => (mean, std),
                Scaling::Standard => (mean, 1.0),
            };
            SeriesUnit { name: name.clone(), mean, std }
        };
        Self {
            series: table.names.iter().zip(&table.values).map(|(name, values)| unit(name, values)).collect(),
        }
    }

    /// The unit of a series.
    ///
    /// # Errors
    /// [`DataError::UnknownSeries`] for one that was not trained on.
    pub fn unit(&self, name: &str) -> Result<&SeriesUnit, DataError> {
        self.series.iter().find(|unit| unit.name == name).ok_or_else(|| DataError::UnknownSeries {
            name: name.to_owned(),
            known: listed(self.series.iter().map(|unit| &unit.name), 12),
        })
    }

    /// Writes `scaling.json` into a model folder, beside its final name first.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn save(&self, folder: &Path) -> Result<(), DataError> {
        let path = folder.join(Self::FILE);
        let part = folder.join(format!("{}.part", Self::FILE));
        let write = || -> std::io::Result<()> {
            fs::write(&part, serde_json::to_string_pretty(self)? + "\n")?;
            fs::rename(&part, &path)
        };
        write().map_err(|reason| DataError::Io { path: path.clone(), reason })
    }

    /// Reads `scaling.json` of a model folder.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::BadScaling`].
    pub fn load(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(Self::FILE);
        let bytes = fs::read(&path).map_err(|reason| DataError::Io { path: path.clone(), reason })?;
        let bad = |message: String| DataError::BadScaling { path: path.clone(), message };
        let scaling: Self = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        let usable = |unit: &&SeriesUnit| unit.mean.is_finite() && unit.std.is_finite() && unit.std > 0.0;
        match scaling.series.iter().find(|unit| !usable(unit)) {
            Some(unit) => {
                Err(bad(format!("series `{}` has mean {} and std {}", unit.name, unit.mean, unit.std)))
            }
            None => Ok(scaling),
        }
    }
}
