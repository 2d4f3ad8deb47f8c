//! Windows of series as examples, cut by time into parts.
//!
//! Steps `0..train` are for training, then come those for validation, then those for the test. A training window lies in
//! its part whole; of a validation or test window the horizon does, while its context may look back into the part
//! before: that is what was known at the time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rgft_core::{Extent, Inputs, Series};

use super::grid::Grid;
use super::scaling::{SeriesScaling, SeriesUnit};
use super::{SeriesSpec, SeriesTable};
use crate::dataset::{Augmentation, Dataset, PackedBatch, Targets};
use crate::error::DataError;

/// The series that windows are cut out of, shared by all parts of a file.
#[derive(Debug, PartialEq)]
struct Scaled {
    /// `[series][steps]`, in the model's units.
    values: Vec<Vec<f32>>,
    units: Vec<SeriesUnit>,
    grid: Option<Grid>,
    season: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    series: u32,
    /// First step of the context.
    start: u32,
}

/// Windows of series: what a context of steps looks like, and the steps that follow.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesDataset {
    series: Arc<Scaled>,
    /// By time, then by series.
    windows: Vec<Window>,
    context: usize,
    horizon: usize,
    /// Whether the steps that follow are in the file.
    known: bool,
}

/// The parts of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesParts {
    /// The first steps.
    pub train: SeriesDataset,
    /// The steps after them, where `validation_part` is not 0.
    pub validation: Option<SeriesDataset>,
    /// The last steps, where `test_part` is not 0.
    pub test: Option<SeriesDataset>,
    /// Units learnt from the training steps.
    pub scaling: SeriesScaling,
}

impl SeriesParts {
    /// Cuts a table by time and scales all of it by what its training part tells. Files of their own for validation or
    /// test are for [`SeriesDataset::whole`], under the scaling found here.
    ///
    /// # Errors
    /// [`DataError::TooFewSteps`] if a part does not hold one window, [`DataError::SeriesSetting`].
    pub fn split(table: &SeriesTable, spec: &SeriesSpec) -> Result<Self, DataError> {
        spec.check()?;
        let steps = table.steps();
        let share = |part: f64| (steps as f64 * part).round() as usize;
        let (test, validation) = (share(spec.test_part), share(spec.validation_part));
        let train = steps - (test + validation).min(steps);
        let scaling = SeriesScaling::fit(table, train, spec.scaling);
        let series = Arc::new(Scaled::new(table, &scaling)?);
        let part = |name: &'static str, forecast: Range<usize>, first: usize, stride: usize| {
            too_few(table, spec, name, forecast.len(), spec.horizon + spec.context - first)?;
            Ok(SeriesDataset::cut(&series, spec, forecast, first, stride))
        };
        let evaluation = |name, wanted: f64, forecast: Range<usize>| {
            let part = || part(name, forecast, spec.context, spec.evaluation_stride);
            (wanted > 0.0).then(part).transpose()
        };
        Ok(Self {
            train: part("training", 0..train, 0, spec.stride)?,
            validation: evaluation("validation", spec.validation_part, train..train + validation)?,
            test: evaluation("test", spec.test_part, train + validation..steps)?,
            scaling,
        })
    }
}

impl SeriesDataset {
    /// All windows of a file, one every `stride` steps, under units that were learnt elsewhere.
    ///
    /// # Errors
    /// [`DataError::TooFewSteps`], [`DataError::UnknownSeries`], [`DataError::SeriesSetting`].
    pub fn whole(
        table: &SeriesTable,
        spec: &SeriesSpec,
        scaling: &SeriesScaling,
        stride: usize,
    ) -> Result<Self, DataError> {
        SeriesSpec { stride, ..spec.clone() }.check()?;
        too_few(table, spec, "all windows", table.steps(), spec.window())?;
        let series = Arc::new(Scaled::new(table, scaling)?);
        Ok(Self::cut(&series, spec, 0..table.steps(), 0, stride))
    }

    /// The last context of each series of a file, whose future is not known: for predictions.
    ///
    /// # Errors
    /// [`DataError::TooFewSteps`], [`DataError::UnknownSeries`], [`DataError::SeriesSetting`].
    pub fn future(
        table: &SeriesTable,
        spec: &SeriesSpec,
        scaling: &SeriesScaling,
    ) -> Result<Self, DataError> {
        spec.check()?;
        too_few(table, spec, "a forecast", table.steps(), spec.context)?;
        let start = (table.steps() - spec.context) as u32;
        let windows = (0..table.names.len() as u32).map(|series| Window { series, start }).collect();
        let series = Arc::new(Scaled::new(table, scaling)?);
        Ok(Self { series, windows, context: spec.context, horizon: spec.horizon, known: false })
    }

    /// Windows whose horizon lies in `forecast`, of which the first starts `back` steps before it.
    fn cut(
        series: &Arc<Scaled>,
        spec: &SeriesSpec,
        forecast: Range<usize>,
        back: usize,
        stride: usize,
    ) -> Self {
        let starts = forecast.start - back..forecast.end + 1 - spec.window();
        let all = series.values.len() as u32;
        let of_all = |start: usize| (0..all).map(move |series| Window { series, start: start as u32 });
        let windows = starts.step_by(stride).flat_map(of_all).collect();
        let series = Arc::clone(series);
        Self { series, windows, context: spec.context, horizon: spec.horizon, known: true }
    }

    /// The data set of some of the examples, in the order given.
    ///
    /// # Panics
    /// If there is no such example.
    #[must_use]
    pub fn subset(&self, examples: impl IntoIterator<Item = usize>) -> Self {
        let windows = examples.into_iter().map(|example| self.windows[example]).collect();
        Self { series: Arc::clone(&self.series), windows, ..*self }
    }

    /// Steps that a window sees.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context
    }

    /// Steps that it forecasts.
    #[must_use]
    pub fn horizon(&self) -> usize {
        self.horizon
    }

    /// The unit of an example's series, its name included: forecasts in the file's units are
    /// [`unscale`](SeriesUnit::unscale)d by it.
    #[must_use]
    pub fn unit(&self, example: usize) -> &SeriesUnit {
        &self.series.units[self.windows[example].series as usize]
    }

    /// When step `ahead` (from 0) of an example's forecast is; `None` without dates.
    #[must_use]
    pub fn time(&self, example: usize, ahead: usize) -> Option<String> {
        let step = self.windows[example].start as usize + self.context + ahead;
        self.series.grid.map(|grid| grid.time(step))
    }

    /// Values of an example's series, and the place in them where its forecast begins.
    fn place(&self, example: usize) -> (&[f32], usize) {
        let window = self.windows[example];
        (&self.series.values[window.series as usize], window.start as usize + self.context)
    }

    /// Squared and absolute error of a forecast by rule, means over all steps of all windows.
    fn naive(&self, rule: impl Fn(&[f32], usize, usize) -> f32) -> (f64, f64) {
        let (mut squared, mut absolute) = (0.0, 0.0);
        for example in 0..self.windows.len() {
            let (values, now) = self.place(example);
            for ahead in 0..self.horizon {
                let error = f64::from(rule(values, now, ahead) - values[now + ahead]);
                squared += error * error;
                absolute += error.abs();
            }
        }
        let n = (self.windows.len() * self.horizon) as f64;
        (squared / n, absolute / n)
    }
}

impl Dataset for SeriesDataset {
    fn len(&self) -> usize {
        self.windows.len()
    }

    fn size(&self, _: usize) -> usize {
        self.context
    }

    fn extent(&self, examples: &[usize]) -> Extent {
        Extent::Sequences(vec![self.context; examples.len()])
    }

    fn pack(&self, examples: &[usize], _: Option<Augmentation>) -> PackedBatch {
        let mut values = Vec::with_capacity(examples.len() * self.context);
        let mut targets = Vec::with_capacity(examples.len() * self.horizon);
        for &example in examples {
            let (series, now) = self.place(example);
            values.extend_from_slice(&series[now - self.context..now]);
            if self.known {
                targets.extend_from_slice(&series[now..now + self.horizon]);
            }
        }
        let targets = if self.known { Targets::Values(targets, self.horizon) } else { Targets::Unknown };
        let inputs = Inputs::Series(Series { values, steps: self.context });
        PackedBatch { inputs, targets, rows: examples.to_vec() }
    }

    fn outputs(&self) -> usize {
        self.horizon
    }

    /// `mse_last_value` and `mae_last_value`: every step will be like the last one seen. `mse_seasonal` and
    /// `mae_seasonal`, where a season is known: every step will be like the same one of the last season before the
    /// forecast, which may lie before the window (like the last value where the file does not reach back so far).
    fn baselines(&self) -> BTreeMap<String, f64> {
        let mut found = BTreeMap::new();
        if !self.known || self.windows.is_empty() {
            return found;
        }
        let mut add = |name: &str, (mse, mae)| {
            found.insert(format!("mse_{name}"), mse);
            found.insert(format!("mae_{name}"), mae);
        };
        add("last_value", self.naive(|values, now, _| values[now - 1]));
        if let Some(season) = self.series.season {
            let rule = |values: &[f32], now: usize, ahead: usize| {
                values[(now + ahead % season).checked_sub(season).unwrap_or(now - 1)]
            };
            add("seasonal", self.naive(rule));
        }
        found
    }
}

impl Scaled {
    fn new(table: &SeriesTable, scaling: &SeriesScaling) -> Result<Self, DataError> {
        let units =
            table.names.iter().map(|name| scaling.unit(name).cloned()).collect::<Result<Vec<_>, _>>()?;
        let values = table.values.iter().zip(&units);
        let values = values.map(|(values, unit)| values.iter().map(|v| unit.scale(*v)).collect()).collect();
        Ok(Self { values, units, grid: table.grid, season: table.season })
    }
}

fn too_few(
    table: &SeriesTable,
    spec: &SeriesSpec,
    part: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), DataError> {
    if found >= expected {
        return Ok(());
    }
    Err(DataError::TooFewSteps {
        path: table.path.clone(),
        part,
        found,
        steps: table.steps(),
        expected,
        context: spec.context,
        horizon: spec.horizon,
    })
}
