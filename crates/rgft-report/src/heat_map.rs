//! The error map, and the map of what was trained, as heat maps of layers × components.
//!
//! A share p is shown on a log scale (three decades at most), a fraction of steps on a linear one; both in
//! twelve classes whose colours the style sheet gives for light and dark.

use rgft_core::events::ComponentInfo;

use crate::grid::{Cell, Grid, Sizes, kind_label};
use crate::style;
use crate::svg::{Anchor, Svg, rect_path};
use crate::units;

/// Classes of a colour ramp.
pub(crate) const CLASSES: usize = 12;
/// Width of all large pictures.
pub(crate) const WIDTH: f64 = 1040.0;
/// Room for the names of rows.
pub(crate) const LEFT: f64 = 92.0;
/// Room for what is said at the end of a row.
pub(crate) const RIGHT: f64 = 152.0;
/// A legend is this wide, however few columns there are.
const LEGEND: f64 = 470.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 58.0;

/// From a value to one of the [`CLASSES`] colours.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scale {
    /// log₁₀ between two shares.
    Share { low: f64, high: f64 },
    /// Linear between 0 and 1; exactly 0 has a colour of its own.
    Fraction,
}

impl Scale {
    /// The log scale that fits all of `shares`: three decades below the greatest, or fewer where no share is
    /// that small.
    pub(crate) fn shares<'a>(shares: impl IntoIterator<Item = &'a f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0f64);
        for &share in shares {
            if share.is_finite() && share > 0.0 {
                low = low.min(share);
                high = high.max(share);
            }
        }
        if high == 0.0 {
            return Self::Share { low: 0.01, high: 1.0 };
        }
        Self::Share { low: low.clamp(high / 1e3, high / 2.0), high }
    }

    /// The class of `value`, or `None` where there is nothing to show.
    pub(crate) fn class(self, value: f64) -> Option<usize> {
        if !(value.is_finite() && value > 0.0) {
            return None;
        }
        let position = match self {
            Self::Share { low, high } => (value / low).ln() / (high / low).ln(),
            Self::Fraction => value,
        };
        Some((position.clamp(0.0, 1.0) * (CLASSES - 1) as f64).round() as usize)
    }

    /// The prefix of the CSS class.
    pub(crate) fn ramp(self) -> char {
        match self {
            Self::Share { .. } => 'e',
            Self::Fraction => 'a',
        }
    }

    fn css(self, value: f64) -> String {
        self.class(value).map_or_else(|| "none".into(), |class| format!("{}{class}", self.ramp()))
    }
}

/// One value per component with the words around it.
pub(crate) struct HeatMap<'a> {
    pub(crate) components: &'a [ComponentInfo],
    pub(crate) values: &'a [f64],
    pub(crate) scale: Scale,
    pub(crate) title: &'a str,
    pub(crate) description: &'a str,
    /// What a value says, for the tooltip: `share 3.1 %`.
    pub(crate) say: &'a dyn Fn(usize) -> String,
}

/// The error map `shares` (p per component, in the order of `components`) as a picture of its own, with its
/// colours inside: a complete SVG document.
pub fn heat_map_svg(components: &[ComponentInfo], shares: &[f64]) -> String {
    let map = HeatMap {
        components,
        values: shares,
        scale: Scale::shares(shares),
        title: "Error map",
        description: "Share of the error map per component; rows are layers",
        say: &|i| share_words(shares, i),
    };
    map.draw(Some(style::PICTURE))
}

/// `share 3.1 %, 4.9 × an equal share`.
pub(crate) fn share_words(shares: &[f64], index: usize) -> String {
    match shares.get(index) {
        Some(&share) if share.is_finite() => {
            let times = share * shares.len() as f64;
            format!("share {}, {} × an equal share", units::percent(share), units::significant(times))
        }
        _ => "not seen".into(),
    }
}

impl HeatMap<'_> {
    /// The large picture: labels, row totals and legend; `css` goes inside where the picture stands alone.
    pub(crate) fn draw(&self, css: Option<&str>) -> String {
        let grid = Grid::new(
            self.components,
            Sizes {
                width: WIDTH - LEFT - RIGHT,
                height: 560.0,
                row_height: [10.0, 32.0],
                band_height: 12.0,
                cell_width: 120.0,
                gap: 2.0,
                block_gap: 12.0,
            },
        );
        let width = LEFT + (grid.width + RIGHT).max(LEGEND);
        let height = TOP + grid.height + BOTTOM;
        let mut svg = Svg::new(width, height, self.title, self.description);
        if let Some(css) = css {
            svg.style(css);
            svg.rect([0.0, 0.0, width, height], 0.0, "surface", "");
        }
        self.columns(&mut svg, &grid);
        for row in &grid.rows {
            svg.text(LEFT - 10.0, TOP + row.y + row.height / 2.0 + 4.0, Anchor::End, "label", &row.label);
        }
        for Cell { component, band, place: [x, y, width, height] } in grid.cells.iter().copied() {
            let value = self.value(component);
            let class = self.scale.css(value);
            let info = &self.components[component];
            let title = format!(
                "{}\n{}\n{} parameters",
                info.name,
                (self.say)(component),
                units::count(info.parameters)
            );
            let radius = (width.min(height) / 8.0).min(3.0);
            svg.rect([LEFT + x, TOP + y, width, height], radius, &format!("cell {class}"), &title);
            if !band && width >= 46.0 && height >= 14.0 && value.is_finite() {
                let dark = self.scale.class(value).unwrap_or(0) >= CLASSES / 2;
                let class = if dark { "in strong" } else { "in weak" };
                let text = units::percent(value);
                svg.text(LEFT + x + width / 2.0, TOP + y + height / 2.0 + 4.0, Anchor::Middle, class, &text);
            }
        }
        self.totals(&mut svg, &grid);
        self.legend(&mut svg, TOP + grid.height + 30.0);
        svg.finish()
    }

    /// The same cells without words, for a row of small pictures.
    pub(crate) fn draw_small(&self) -> String {
        let grid = Grid::new(
            self.components,
            Sizes {
                width: 220.0,
                height: 110.0,
                row_height: [2.0, 12.0],
                band_height: 2.0,
                cell_width: 40.0,
                gap: 0.6,
                block_gap: 3.0,
            },
        );
        let mut svg = Svg::new(grid.width, grid.height, self.title, self.description);
        let mut paths = vec![String::new(); CLASSES + 1];
        for Cell { component, place, .. } in &grid.cells {
            let class = self.scale.class(self.value(*component)).unwrap_or(CLASSES);
            paths[class].push_str(&rect_path(*place));
        }
        for (class, path) in paths.iter().enumerate() {
            let css = if class == CLASSES { "none".into() } else { format!("{}{class}", self.scale.ramp()) };
            svg.path(path, &css);
        }
        svg.finish()
    }

    fn value(&self, component: usize) -> f64 {
        self.values.get(component).copied().unwrap_or(f64::NAN)
    }

    /// Heads and numbers of the columns.
    fn columns(&self, svg: &mut Svg, grid: &Grid) {
        for block in &grid.blocks {
            let label = kind_label(block.kind);
            let middle = LEFT + block.x + block.width / 2.0;
            if label.len() as f64 * 5.6 <= block.width + 10.0 {
                svg.text(middle, TOP - 10.0, Anchor::Middle, "label", label);
            }
            if block.columns > 1 && grid.cell_width >= 7.0 {
                let every = if grid.cell_width >= 15.0 { 1 } else { 4 };
                let pitch = (block.width - grid.cell_width) / (block.columns - 1) as f64;
                for column in (0..block.columns).step_by(every) {
                    let x = LEFT + block.x + column as f64 * pitch + grid.cell_width / 2.0;
                    let y = TOP + grid.height + 13.0;
                    svg.text(x, y, Anchor::Middle, "tick", &column.to_string());
                }
            }
        }
    }

    /// To the right of each row: its sum for shares, its mean for fractions.
    fn totals(&self, svg: &mut Svg, grid: &Grid) {
        let total = |row: &crate::grid::Row| {
            let finite = row.components.iter().map(|&i| self.value(i)).filter(|v| v.is_finite());
            let sum: f64 = finite.sum();
            match self.scale {
                Scale::Share { .. } => sum,
                Scale::Fraction => sum / row.components.len() as f64,
            }
        };
        let totals: Vec<f64> = grid.rows.iter().map(total).collect();
        let most = match self.scale {
            Scale::Share { .. } => totals.iter().copied().fold(0.0, f64::max),
            Scale::Fraction => 1.0,
        };
        let (x, room) = (LEFT + grid.width + 16.0, 78.0);
        let head = match self.scale {
            Scale::Share { .. } => "sum of the row",
            Scale::Fraction => "mean of the row",
        };
        svg.text(x, TOP - 10.0, Anchor::Start, "label", head);
        for (row, &total) in grid.rows.iter().zip(&totals) {
            let length = if most > 0.0 { room * (total / most).clamp(0.0, 1.0) } else { 0.0 };
            let thick = (row.height * 0.5).clamp(3.0, 12.0);
            let middle = TOP + row.y + row.height / 2.0;
            svg.rect([x, middle - thick / 2.0, length.max(1.0), thick], 2.0, "bar", "");
            svg.text(x + length + 7.0, middle + 4.0, Anchor::Start, "value", &units::percent(total));
        }
    }

    fn legend(&self, svg: &mut Svg, y: f64) {
        const STEP: f64 = 20.0;
        let ramp = self.scale.ramp();
        let length = STEP * CLASSES as f64;
        for class in 0..CLASSES {
            let x = LEFT + class as f64 * STEP;
            svg.rect([x, y, STEP, 8.0], 0.0, &format!("{ramp}{class}"), "");
        }
        svg.rect([LEFT + length + 116.0, y - 1.0, 14.0, 10.0], 2.0, "cell none", "");
        let beyond = LEFT + length + 136.0;
        match self.scale {
            Scale::Share { low, high } => {
                let at = |share: f64| LEFT + length * (share / low).ln() / (high / low).ln();
                for exponent in -9..=0 {
                    let share = 10f64.powi(exponent);
                    if share >= low * 0.999 && share <= high * 1.001 {
                        svg.line([at(share), y + 8.0], [at(share), y + 12.0], "axis");
                        let text = units::percent_round(share);
                        svg.text(at(share), y + 23.0, Anchor::Middle, "tick", &text);
                    }
                }
                let equal = 1.0 / self.components.len().max(1) as f64;
                if equal > low && equal < high {
                    svg.path(&format!("M{:.1} {:.1}l-4 -6h8z", at(equal), y - 1.0), "mark");
                    svg.text(LEFT + length + 10.0, y + 8.0, Anchor::Start, "tick", "▼ an equal share");
                }
                svg.text(beyond, y + 8.0, Anchor::Start, "tick", "nothing seen");
            }
            Scale::Fraction => {
                for (position, text) in [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")] {
                    let x = LEFT + length * position;
                    svg.line([x, y + 8.0], [x, y + 12.0], "axis");
                    svg.text(x, y + 23.0, Anchor::Middle, "tick", text);
                }
                svg.text(LEFT + length + 10.0, y + 8.0, Anchor::Start, "tick", "of the steps");
                svg.text(beyond, y + 8.0, Anchor::Start, "tick", "never updated");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_scale_spans_three_decades_at_most() {
        let scale = Scale::shares(&[0.5, 1e-9, 0.0, f64::NAN]);
        assert_eq!(scale.class(0.5), Some(CLASSES - 1));
        assert_eq!(scale.class(5e-4), Some(0));
        assert_eq!(scale.class(1e-9), Some(0));
        assert_eq!(scale.class(0.5 / 10f64.powf(1.5)), Some(6));
        assert_eq!(scale.class(0.0), None);
        assert_eq!(scale.class(f64::NAN), None);
    }

    #[test]
    fn equal_shares_and_no_shares_have_a_scale() {
        assert_eq!(Scale::shares(&[0.25; 4]).class(0.25), Some(CLASSES - 1));
        assert_eq!(Scale::shares(&[0.0; 4]).class(0.0), None);
        assert_eq!(Scale::shares(&[]).class(1.0), Some(CLASSES - 1));
    }
}
