//! The plans over time: for each layer and step, the fraction of its components that were updated, and the cut
//! above which nothing was computed backward.

use crate::grid::{Grid, Sizes};
use crate::heat_map::{self, CLASSES, LEFT, RIGHT, Scale};
use crate::run::Run;
use crate::svg::{Anchor, Svg, coordinate, rect_path};
use crate::units;

/// Width of the steps.
const WIDTH: f64 = heat_map::WIDTH - LEFT - RIGHT;
const TOP: f64 = 10.0;
/// More columns than this are not told apart on a screen.
const COLUMNS: usize = 134;

/// What happened in one column of steps, as means over the plans in it.
#[derive(Clone, Debug)]
struct Column {
    first: usize,
    end: usize,
    /// Fraction of each row's components.
    rows: Vec<f64>,
    components: f64,
    ratio: f64,
    /// The lowest cut in it.
    cut: usize,
}

/// The picture, or `None` for a run without plans.
pub(crate) fn draw(run: &Run<'_>) -> Option<String> {
    let grid = Grid::new(
        run.components,
        Sizes {
            width: WIDTH,
            height: 300.0,
            row_height: [5.0, 20.0],
            band_height: 8.0,
            cell_width: 1.0,
            gap: 1.0,
            block_gap: 0.0,
        },
    );
    let columns = columns(run, &grid);
    let (first, end) = (columns.first()?.first, columns.last()?.end);
    let at = |step: usize| LEFT + WIDTH * (step - first) as f64 / (end - first) as f64;
    let mut svg = Svg::new(
        LEFT + WIDTH + RIGHT,
        TOP + grid.height + 52.0,
        "What was updated over time",
        "Rows are layers, columns are training steps, colour is the fraction of the layer's components updated",
    );
    let mut paths = vec![String::new(); CLASSES + 1];
    for column in &columns {
        // Half a unit of overlap hides the seams between columns.
        let (x, width) = (at(column.first), at(column.end) - at(column.first) + 0.5);
        for (row, &fraction) in grid.rows.iter().zip(&column.rows) {
            let class = Scale::Fraction.class(fraction).unwrap_or(CLASSES);
            paths[class].push_str(&rect_path([x, TOP + row.y, width, row.height]));
        }
    }
    for (class, path) in paths.iter().enumerate() {
        svg.path(path, &if class == CLASSES { "none".into() } else { format!("a{class}") });
    }
    // Of rows that are lower than a line of text, every n-th has its name.
    let pitch = grid.height / grid.rows.len() as f64;
    for row in grid.rows.iter().step_by((11.0 / pitch).ceil() as usize) {
        svg.text(LEFT - 10.0, TOP + row.y + row.height / 2.0 + 4.0, Anchor::End, "label", &row.label);
    }

    let cut_at = |cut: usize| {
        let reached = grid.rows.iter().find(|row| row.depth >= cut);
        TOP + reached.map_or(grid.height, |row| row.y - 0.5)
    };
    if columns.iter().any(|column| column.cut > 0) {
        let mut path = String::new();
        for column in &columns {
            let y = coordinate(cut_at(column.cut));
            let lead = if path.is_empty() { 'M' } else { 'L' };
            path.push_str(&format!(
                "{lead}{} {y}L{} {y}",
                coordinate(at(column.first)),
                coordinate(at(column.end))
            ));
        }
        svg.path(&path, "cut");
        let y = columns.last().map_or(TOP, |column| cut_at(column.cut));
        svg.text(LEFT + WIDTH + 8.0, y + 4.0, Anchor::Start, "note", "cut: no backward above");
    }
    for column in &columns {
        let (x, width) = (at(column.first), at(column.end) - at(column.first));
        let title = format!(
            "steps {} to {}\n{:.0} of {} components updated\na step costs {} of a full one",
            column.first,
            column.end.saturating_sub(1),
            column.components,
            run.components.len(),
            units::percent(column.ratio)
        );
        svg.rect([x, TOP, width, grid.height], 0.0, "hit", &title);
    }

    let bottom = TOP + grid.height;
    for tick in units::ticks(first as f64, end as f64, 8).0 {
        let x = at((tick.max(0.0) as usize).clamp(first, end));
        svg.line([x, bottom + 3.0], [x, bottom + 7.0], "axis");
        svg.text(x, bottom + 19.0, Anchor::Middle, "tick", &format!("{tick:.0}"));
    }
    svg.text(LEFT + WIDTH / 2.0, bottom + 40.0, Anchor::Middle, "label", "step");
    Some(svg.finish())
}

/// The steps that plans cover, in at most [`COLUMNS`] columns.
fn columns(run: &Run<'_>, grid: &Grid) -> Vec<Column> {
    let plans: Vec<_> = run.plans.iter().filter(|plan| plan.end > plan.first).collect();
    let (Some(first), Some(end)) =
        (plans.iter().map(|plan| plan.first).min(), plans.iter().map(|plan| plan.end).max())
    else {
        return Vec::new();
    };
    let mut row_of = vec![0; run.components.len()];
    for (row, members) in grid.rows.iter().enumerate() {
        for &index in &members.components {
            row_of[index] = row;
        }
    }
    let fractions: Vec<Vec<f64>> = plans
        .iter()
        .map(|plan| {
            let mut rows = vec![0.0; grid.rows.len()];
            for &index in &plan.active {
                rows[row_of[index]] += 1.0 / grid.rows[row_of[index]].components.len() as f64;
            }
            rows
        })
        .collect();

    let count = (end - first).min(COLUMNS);
    let bound = |i: usize| first + (end - first) * i / count;
    let mut out = Vec::with_capacity(count);
    for i in 0..count {
        let (from, to) = (bound(i), bound(i + 1));
        let mut column = Column {
            first: from,
            end: to,
            rows: vec![0.0; grid.rows.len()],
            components: 0.0,
            ratio: 0.0,
            cut: usize::MAX,
        };
        let mut covered = 0.0;
        for (plan, rows) in plans.iter().zip(&fractions) {
            let overlap = plan.end.min(to).saturating_sub(plan.first.max(from)) as f64;
            if overlap > 0.0 {
                covered += overlap;
                column.cut = column.cut.min(plan.cut);
                column.components += overlap * plan.active.len() as f64;
                column.ratio += overlap * plan.step_flops_ratio;
                for (sum, fraction) in column.rows.iter_mut().zip(rows) {
                    *sum += overlap * fraction;
                }
            }
        }
        if covered > 0.0 {
            column.rows.iter_mut().for_each(|sum| *sum /= covered);
            column.components /= covered;
            column.ratio /= covered;
            out.push(column);
        }
    }
    out
}
