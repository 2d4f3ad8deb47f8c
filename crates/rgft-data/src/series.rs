//! Time series: CSV files to windows with a context that is seen and a horizon that is forecast.
//!
//! [`read_series`] makes a regular [`SeriesTable`] out of a file (sorted, duplicates averaged, gaps interpolated or
//! refused, all of it told in its notes); [`SeriesParts::split`] cuts it by time into training, validation and test
//! windows, scaled by what [`SeriesScaling`] learnt from the training part alone. Channels are independent: each
//! target column of each window is an example of its own, so that a model reads any number of series.
//!
//! All metrics, those of the naive forecasts too, are in scaled units, as the field's benchmarks (ETT, Zhou et al.
//! 2021) have them. No value that lies after a window's context may reach its inputs or
//! its scale, with one exception: a step that is missing lies on the line to the next value that is there, which may be
//! behind the context; and such steps are forecast and scored like others. Who minds refuses missing steps.

mod dataset;
mod dates;
mod files;
mod grid;
mod read;
mod regular;
mod scaling;

pub use dataset::{SeriesDataset, SeriesParts};
pub use files::series_files;
pub use read::{parse_series, read_series};
pub use scaling::{SeriesScaling, SeriesUnit};

use std::path::PathBuf;

use crate::error::DataError;
use grid::Grid;

/// What to do with steps or cells that have no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// They are an error.
    Refuse,
    /// They lie on the straight line between their neighbours; at the ends they repeat the nearest value.
    #[default]
    Interpolate,
}

/// In which units a model sees a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scaling {
    /// Mean 0 and standard deviation 1 over the training part, each series for itself.
    #[default]
    Standard,
    /// As in the file.
    None,
}

/// How to read a file of series, and how to cut windows out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSpec {
    /// The column of dates; `None`: the first column if it holds dates, else rows are evenly spaced in time.
    pub date_column: Option<String>,
    /// The columns to forecast; empty: all that hold numbers.
    pub targets: Vec<String>,
    /// Steps that a window sees.
    pub context: usize,
    /// Steps that it forecasts.
    pub horizon: usize,
    /// Steps from one training window to the next.
    pub stride: usize,
    /// Steps from one window to the next in validation and test.
    pub evaluation_stride: usize,
    /// Units of the model.
    pub scaling: Scaling,
    /// Steps and cells without a value.
    pub missing: Missing,
    /// Steps after which the series repeats itself; `None`: a day of what is sampled more often, a week of days, a year
    /// of weeks, months and quarters.
    pub season: Option<usize>,
    /// Part of the steps, before the test part, that the best checkpoint is chosen by; 0 for none.
    pub validation_part: f64,
    /// Part of the steps, the last ones, for the test; 0 for none.
    pub test_part: f64,
}

impl Default for SeriesSpec {
    fn default() -> Self {
        Self {
            date_column: None,
            targets: Vec::new(),
            context: 96,
            horizon: 24,
            stride: 1,
            evaluation_stride: 1,
            scaling: Scaling::default(),
            missing: Missing::default(),
            season: None,
            validation_part: 0.1,
            test_part: 0.2,
        }
    }
}

impl SeriesSpec {
    /// Steps of a window.
    #[must_use]
    pub fn window(&self) -> usize {
        self.context + self.horizon
    }

    /// # Errors
    /// [`DataError::SeriesSetting`] for what no file can fit.
    fn check(&self) -> Result<(), DataError> {
        let refuse = |key, found: &dyn ToString, expected| {
            Err(DataError::SeriesSetting { key, found: found.to_string(), expected })
        };
        let least_one = [
            ("context", self.context),
            ("horizon", self.horizon),
            ("stride", self.stride),
            ("evaluation-stride", self.evaluation_stride),
            ("season", self.season.unwrap_or(1)),
        ];
        if let Some((key, found)) = least_one.into_iter().find(|(_, value)| *value == 0) {
            return refuse(key, &found, "at least 1");
        }
        let parts = [("validation-part", self.validation_part), ("test-part", self.test_part)];
        if let Some((key, found)) = parts.into_iter().find(|(_, part)| !(0.0..1.0).contains(part)) {
            return refuse(key, &found, "at least 0 and below 1");
        }
        let both = self.validation_part + self.test_part;
        if both >= 1.0 {
            return refuse("validation-part + test-part", &both, "below 1, the rest is for training");
        }
        Ok(())
    }
}

/// Regular series of equal length: a value at every step, the same time between any two.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesTable {
    /// Where they come from, for messages.
    pub path: PathBuf,
    /// Names of the series, in the order of the specification or else of the file.
    pub names: Vec<String>,
    /// `[series][steps]`, in the file's units.
    pub values: Vec<Vec<f64>>,
    /// What had to be done to make them regular, for the user to know: full sentences.
    pub notes: Vec<String>,
    /// When the steps are, where the file says.
    grid: Option<Grid>,
    /// Steps of a season: as asked for, or else as the sampling interval suggests.
    season: Option<usize>,
}

impl SeriesTable {
    /// How many steps there are.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// Steps of a season, where one was named or the sampling interval suggests one.
    #[must_use]
    pub fn season(&self) -> Option<usize> {
        self.season
    }

    /// The time between two steps, in words; `None` without dates.
    #[must_use]
    pub fn interval(&self) -> Option<String> {
        self.grid.map(|grid| grid.interval())
    }

    /// When a step is, also one after the last: `2018-06-26 20:00:00`, or the date alone where steps are whole days;
    /// `None` without dates.
    #[must_use]
    pub fn time(&self, step: usize) -> Option<String> {
        self.grid.map(|grid| grid.time(step))
    }
}
