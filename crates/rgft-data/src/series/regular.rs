//! Rows as a file has them to a value at every step: sorted by time, duplicates averaged, gaps interpolated or refused.
//! Whatever is done to the data is told in a note.

use std::path::Path;

use super::grid::Grid;
use super::read::Rows;
use super::{Missing, SeriesSpec, SeriesTable};
use crate::error::DataError;

/// More steps than this per row: rows are no regular sampling with gaps, whatever their most frequent difference.
const MOST_STEPS_PER_ROW: usize = 2;

pub(super) fn table(path: &Path, rows: Rows, spec: &SeriesSpec) -> Result<SeriesTable, DataError> {
    let mut notes = rows.notes;
    let (grid, places) = match &rows.times {
        Some(times) => on_a_grid(path, times, &rows.lines, &mut notes)?,
        None => (None, (0..rows.lines.len()).collect()),
    };
    let steps = places.iter().max().map_or(0, |last| last + 1);
    let mut row_of: Vec<Option<usize>> = vec![None; steps];
    for (row, &place) in places.iter().enumerate() {
        row_of[place].get_or_insert(row);
    }
    let mut table = SeriesTable {
        path: path.to_owned(),
        names: rows.names,
        values: rows.values.iter().map(|values| averaged(values, &places, steps)).collect(),
        notes,
        season: spec.season.or_else(|| grid.and_then(|grid| grid.season())),
        grid,
    };
    if spec.missing == Missing::Refuse {
        return match first_gap(&table, &row_of, &rows.lines) {
            Some(error) => Err(error),
            None => Ok(table),
        };
    }
    note_missing_steps(&mut table, &row_of, spec.context);
    let absent = row_of.iter().filter(|row| row.is_none()).count();
    for series in 0..table.names.len() {
        let filled = interpolate(&mut table.values[series]);
        if filled > absent {
            let (cells, name) = (filled - absent, &table.names[series]);
            table
                .notes
                .push(format!("{} of column `{name}` without a value: interpolated", counted(cells, "cell")));
        }
    }
    Ok(table)
}

/// The step of each row.
fn on_a_grid(
    path: &Path,
    times: &[i64],
    lines: &[usize],
    notes: &mut Vec<String>,
) -> Result<(Option<Grid>, Vec<usize>), DataError> {
    let mut latest = i64::MIN;
    let late: Vec<usize> = (0..times.len())
        .filter(|&row| {
            let earlier = times[row] < latest;
            latest = latest.max(times[row]);
            earlier
        })
        .collect();
    if let Some(&first) = late.first() {
        let (n, line) = (counted(late.len(), "row"), lines[first]);
        notes.push(format!("{n} out of order (the first in line {line}): sorted by time"));
    }
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by_key(|&row| times[row]);
    let sorted: Vec<i64> = order.iter().map(|&row| times[row]).collect();
    let Some(grid) = Grid::of(&sorted) else {
        return Err(DataError::OneMoment { path: path.to_owned(), rows: times.len() });
    };
    let (mut places, mut off) = (Vec::with_capacity(times.len()), 0);
    for &time in times {
        let (place, exact) = grid.place(time);
        places.push(place);
        off += usize::from(!exact);
    }
    let mut taken: Vec<usize> = order.iter().map(|&row| places[row]).collect();
    let steps = taken.last().map_or(0, |last| last + 1);
    let doubles: Vec<usize> =
        order.windows(2).filter(|p| places[p[0]] == places[p[1]]).map(|p| p[1]).collect();
    taken.dedup();
    if steps > MOST_STEPS_PER_ROW * taken.len() {
        let (rows, interval) = (taken.len(), grid.interval());
        return Err(DataError::Irregular { path: path.to_owned(), rows, steps, interval });
    }
    if off > 0 {
        let n = counted(off, "row");
        notes.push(format!("{n} between steps of {}: moved to the nearest step", grid.interval()));
    }
    if let Some(first) = doubles.iter().map(|&row| lines[row]).min() {
        let n = counted(doubles.len(), "row");
        notes.push(format!("{n} with the time of another row (the first in line {first}): values averaged"));
    }
    Ok((Some(grid), places))
}

/// The mean of what falls on each step; NaN where nothing does.
fn averaged(values: &[f64], places: &[usize], steps: usize) -> Vec<f64> {
    let mut sums = vec![(0.0, 0u32); steps];
    for (value, &place) in values.iter().zip(places).filter(|(value, _)| !value.is_nan()) {
        sums[place].0 += value;
        sums[place].1 += 1;
    }
    // 0/0 is NaN.
    sums.into_iter().map(|(sum, n)| sum / f64::from(n)).collect()
}

/// The first step without a value, as an error.
fn first_gap(table: &SeriesTable, row_of: &[Option<usize>], lines: &[usize]) -> Option<DataError> {
    let empty = |series: &Vec<f64>| series.iter().position(|value| value.is_nan());
    let (step, series) = (0..table.names.len()).filter_map(|s| Some((empty(&table.values[s])?, s))).min()?;
    let path = table.path.clone();
    Some(match row_of[step] {
        Some(row) => DataError::MissingValue { path, line: lines[row], column: table.names[series].clone() },
        None => DataError::MissingStep {
            path,
            time: table.time(step).unwrap_or_default(),
            interval: table.interval().unwrap_or_default(),
            missing: row_of.iter().filter(|row| row.is_none()).count(),
        },
    })
}

fn note_missing_steps(table: &mut SeriesTable, row_of: &[Option<usize>], context: usize) {
    let missing = row_of.iter().filter(|row| row.is_none()).count();
    let (Some(interval), true) = (table.interval(), missing > 0) else { return };
    let steps = row_of.len();
    table.notes.push(format!("{missing} of {steps} steps of {interval} without a row: interpolated"));
    let gaps = row_of.chunk_by(|a, b| a.is_none() == b.is_none()).scan(0, |end, run| {
        *end += run.len();
        Some((*end - run.len(), run))
    });
    let gaps = gaps.filter(|(_, run)| run[0].is_none()).map(|(first, run)| (run.len(), first));
    // The first of the longest.
    if let Some((length, first)) = gaps.max_by_key(|&(length, first)| (length, usize::MAX - first))
        && length >= context
    {
        let time = table.time(first).unwrap_or_default();
        table.notes.push(format!(
            "the longest gap begins at {time} and takes {length} steps: windows inside it see interpolated values only"
        ));
    }
}

/// Straight lines across runs of NaN, the nearest value at the ends. How many there were.
fn interpolate(values: &mut [f64]) -> usize {
    let (mut filled, mut start) = (0, 0);
    while let Some(first) = values[start..].iter().position(|value| value.is_nan()).map(|at| start + at) {
        let end = values[first..].iter().position(|value| !value.is_nan()).map(|at| first + at);
        let before = first.checked_sub(1).map(|at| values[at]);
        let after = end.map(|at| values[at]);
        let (from, to) = (before.or(after).unwrap_or(0.0), after.or(before).unwrap_or(0.0));
        let end = end.unwrap_or(values.len());
        let gap = &mut values[first..end];
        let parts = (gap.len() + 1) as f64;
        gap.iter_mut()
            .enumerate()
            .for_each(|(i, value)| *value = from + (to - from) * (i + 1) as f64 / parts);
        filled += gap.len();
        start = end;
    }
    filled
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_straight_lines() {
        let nan = f64::NAN;
        let mut values = [nan, nan, 1.0, nan, nan, nan, 5.0, 4.0, nan];
        assert_eq!(interpolate(&mut values), 6);
        assert_eq!(values, [1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 4.0, 4.0]);
    }
}
