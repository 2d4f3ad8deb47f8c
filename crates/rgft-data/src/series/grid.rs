//! When the steps of a series are: a first moment and an interval, which is a length of time or a number of months.

use std::collections::BTreeMap;

use super::dates::{DAY, HOUR, MINUTE, SECOND, civil, days_in_month, days_of, format};

/// Evenly spaced moments. Step *i* is at `first + i·step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grid {
    /// In microseconds.
    Time {
        /// Step 0.
        first: i64,
        /// From one step to the next, at least 1.
        step: i64,
    },
    /// In months, counted from year 0.
    Months {
        /// Step 0.
        first: i64,
        /// From one step to the next, at least 1.
        step: i64,
        /// Day of the month, at most the month's last; 31 for ends of months.
        day: i64,
        /// Microseconds of the day.
        time: i64,
    },
}

impl Grid {
    /// The grid that most of the moments lie on: its interval is their most frequent difference. `None` if there are
    /// not two different ones. `times` must be in order.
    pub(super) fn of(times: &[i64]) -> Option<Self> {
        let (&start, &end) = (times.first()?, times.last()?);
        if start == end {
            return None;
        }
        if let Some((day, time)) = months(times) {
            let months: Vec<i64> = times.iter().map(|t| month_of(*t)).collect();
            let step = most_frequent(differences(&months))?;
            return Some(Self::Months { first: months[0], step, day, time });
        }
        let step = most_frequent(differences(times))?;
        let phase = most_frequent(times.iter().map(|t| t.rem_euclid(step)))?;
        let first = start - (start - phase + step / 2).rem_euclid(step) + step / 2;
        Some(Self::Time { first, step })
    }

    /// The step nearest to a moment, and whether the moment is exactly that step's.
    pub(super) fn place(&self, time: i64) -> (usize, bool) {
        let (offset, step) = match *self {
            Self::Time { first, step } => (time - first, step),
            Self::Months { first, step, .. } => (month_of(time) - first, step),
        };
        let place = (offset + step / 2).div_euclid(step);
        (usize::try_from(place).unwrap_or(0), place * step == offset)
    }

    /// When a step is.
    pub(super) fn time(&self, step: usize) -> String {
        match *self {
            Self::Time { first, step: interval } => {
                let time = first.saturating_add((step as i64).saturating_mul(interval));
                format(time, interval % DAY == 0)
            }
            Self::Months { first, step: interval, day, time } => {
                let month = first + step as i64 * interval;
                let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
                let day = day.min(days_in_month(year, month));
                format(days_of(year, month, day) * DAY + time, true)
            }
        }
    }

    /// The interval in words: `1 hour`, `30 minutes`.
    pub(super) fn interval(&self) -> String {
        let (n, unit) = match *self {
            Self::Months { step, .. } => (step, "month"),
            Self::Time { step, .. } => {
                let units = [(DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (SECOND, "second")];
                let whole = units.into_iter().find(|(length, _)| step % length == 0);
                whole.map_or((step, "microsecond"), |(length, unit)| (step / length, unit))
            }
        };
        format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
    }

    /// Steps of the season that such a sampling usually has: a day, for days a week, for longer intervals a year.
    pub(super) fn season(&self) -> Option<usize> {
        const WEEK: i64 = 7 * DAY;
        let steps = match *self {
            Self::Months { step, .. } if 12 % step == 0 => 12 / step,
            Self::Time { step: WEEK, .. } => 52,
            Self::Time { step: DAY, .. } => 7,
            Self::Time { step, .. } if step < DAY && DAY % step == 0 => DAY / step,
            _ => return None,
        };
        usize::try_from(steps).ok().filter(|steps| *steps > 1)
    }
}

/// Day and time of day of monthly moments: the same day of each month, or the end of each.
fn months(times: &[i64]) -> Option<(i64, i64)> {
    let parts = |time: &i64| (civil(time.div_euclid(DAY)), time.rem_euclid(DAY));
    let ((.., day), time) = parts(times.first()?);
    let all = |holds: &dyn Fn((i64, i64, i64)) -> bool| {
        times.iter().map(parts).all(|(date, of_day)| of_day == time && holds(date))
    };
    if differences(times).any(|d| d < 28 * DAY) {
        return None;
    }
    if all(&|(.., d)| d == day) {
        return Some((day, time));
    }
    all(&|(year, month, day)| day == days_in_month(year, month)).then_some((31, time))
}

fn month_of(time: i64) -> i64 {
    let (year, month, _) = civil(time.div_euclid(DAY));
    year * 12 + month - 1
}

/// What lies between neighbours that differ.
fn differences(values: &[i64]) -> impl Iterator<Item = i64> {
    values.windows(2).map(|pair| pair[1] - pair[0]).filter(|d| *d > 0)
}

/// The smallest of the most frequent values.
fn most_frequent(values: impl Iterator<Item = i64>) -> Option<i64> {
    let mut counts = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_insert(0usize) += 1);
    counts.into_iter().min_by_key(|&(value, count)| (std::cmp::Reverse(count), value)).map(|(value, _)| value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::dates::parse;
    use super::*;

    fn grid(texts: &[&str]) -> Grid {
        Grid::of(&texts.iter().map(|text| parse(text).unwrap()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn intervals_and_their_seasons() {
        let of = |a, b| {
            let grid = grid(&[a, b]);
            (grid.interval(), grid.season(), grid.time(2))
        };
        let expected = |interval: &str, season, third: &str| (interval.to_owned(), season, third.to_owned());
        assert_eq!(
            of("2014-07-01 23:00", "2014-07-02 00:00"),
            expected("1 hour", Some(24), "2014-07-02 01:00:00")
        );
        assert_eq!(
            of("2014-07-01 00:00", "2014-07-01 00:30"),
            expected("30 minutes", Some(48), "2014-07-01 01:00:00")
        );
        assert_eq!(of("2014-12-30", "2014-12-31"), expected("1 day", Some(7), "2015-01-01"));
        assert_eq!(of("2014-12-30", "2015-01-06"), expected("7 days", Some(52), "2015-01-13"));
        assert_eq!(of("2014-12-31", "2015-01-31"), expected("1 month", Some(12), "2015-02-28"));
        assert_eq!(of("2014-11-30", "2014-12-31"), expected("1 month", Some(12), "2015-01-31"));
        assert_eq!(of("2014-10-01", "2015-01-01"), expected("3 months", Some(4), "2015-04-01"));
        assert_eq!(of("2014-01-01", "2015-01-01"), expected("12 months", None, "2016-01-01"));
        assert_eq!(of("2014-01-01 00:00:00", "2014-01-01 00:00:07").1, None);
        assert_eq!(Grid::of(&[5, 5, 5]), None);
        assert_eq!(Grid::of(&[]), None);
    }

    #[test]
    fn the_grid_is_that_of_the_majority() {
        // The first and the last moment are a little off.
        let times = [1_007, 2_000, 3_000, 4_000, 8_000, 9_000, 9_998];
        let grid = Grid::of(&times).unwrap();
        assert_eq!(grid, Grid::Time { first: 1_000, step: 1_000 });
        let places: Vec<_> = times.iter().map(|t| grid.place(*t)).collect();
        let on = |step| (step, true);
        assert_eq!(places, [(0, false), on(1), on(2), on(3), on(7), on(8), (9, false)]);
        let early = Grid::of(&[993, 2_000, 3_000, 4_000]).unwrap();
        assert_eq!((early, early.place(993)), (Grid::Time { first: 1_000, step: 1_000 }, (0, false)));
    }
}
