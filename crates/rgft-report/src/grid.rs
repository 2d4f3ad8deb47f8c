//! Where each component sits in a picture of the model: rows are layers from the embeddings down to the task
//! head, columns are blocks of one kind (attention heads, norm, neuron groups …).
//!
//! A row that belongs to no layer is a band across the whole width. Geometry only: no values, no colours.

use rgft_core::component::ComponentKind;
use rgft_core::events::ComponentInfo;

/// Sizes that the grid may use, in user units.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Width of the columns, without labels.
    pub(crate) width: f64,
    /// Height that the rows together aim at.
    pub(crate) height: f64,
    /// Least and greatest height of a row.
    pub(crate) row_height: [f64; 2],
    /// Least height of a band.
    pub(crate) band_height: f64,
    /// Greatest width of a cell.
    pub(crate) cell_width: f64,
    /// Gap between cells.
    pub(crate) gap: f64,
    /// Gap between blocks.
    pub(crate) block_gap: f64,
}

/// A layer, or a band outside of the layers.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) components: Vec<usize>,
    pub(crate) y: f64,
    pub(crate) height: f64,
    /// Greatest depth among the components: backward reaches the row where `cut ≤ depth`.
    pub(crate) depth: usize,
    band: bool,
}

/// Columns of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) kind: ComponentKind,
    pub(crate) columns: usize,
    pub(crate) x: f64,
    pub(crate) width: f64,
    /// This is the n-th block of its kind within a layer.
    occurrence: usize,
}

/// The place of one component, `[x, y, width, height]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) component: usize,
    /// It lies in a row outside of the layers.
    pub(crate) band: bool,
    pub(crate) place: [f64; 4],
}

/// The whole layout, with its origin at `[0, 0]`.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    pub(crate) rows: Vec<Row>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) cell_width: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Grid {
    /// Lays out `components`.
    pub(crate) fn new(components: &[ComponentInfo], sizes: Sizes) -> Self {
        let mut rows = rows(components);
        let mut blocks = blocks(components, &rows);
        let columns: usize = blocks.iter().map(|block| block.columns).sum();
        let gaps = sizes.block_gap * blocks.len().saturating_sub(1) as f64
            + sizes.gap * (columns - blocks.len()) as f64;
        let cell_width = if columns == 0 {
            sizes.width
        } else {
            ((sizes.width - gaps) / columns as f64).clamp(0.5, sizes.cell_width)
        };

        let mut x = 0.0;
        for block in &mut blocks {
            block.x = x;
            block.width = block.columns as f64 * (cell_width + sizes.gap) - sizes.gap;
            x += block.width + sizes.block_gap;
        }
        let width = if columns == 0 { sizes.width } else { x - sizes.block_gap };

        let [least, greatest] = sizes.row_height;
        let row_height = (sizes.height / rows.len().max(1) as f64 - sizes.gap).clamp(least, greatest);
        let mut y = 0.0;
        let mut was_band = None;
        for row in &mut rows {
            if was_band.is_some_and(|was| was != row.band) {
                y += sizes.gap * 2.0;
            }
            was_band = Some(row.band);
            row.y = y;
            row.height = if row.band { (row_height * 0.55).max(sizes.band_height) } else { row_height };
            y += row.height + sizes.gap;
        }
        let height = (y - sizes.gap).max(0.0);

        let mut cells = Vec::with_capacity(components.len());
        for row in &rows {
            if row.band {
                let count = row.components.len() as f64;
                let each = (width - sizes.gap * (count - 1.0)) / count;
                cells.extend(row.components.iter().enumerate().map(|(i, &component)| Cell {
                    component,
                    band: true,
                    place: [i as f64 * (each + sizes.gap), row.y, each, row.height],
                }));
            } else {
                for (key, members) in segments(components, &row.components) {
                    let Some(block) = blocks.iter().find(|block| (block.kind, block.occurrence) == key)
                    else {
                        continue;
                    };
                    cells.extend(members.into_iter().enumerate().map(|(i, component)| {
                        let x = block.x + i as f64 * (cell_width + sizes.gap);
                        Cell { component, band: false, place: [x, row.y, cell_width, row.height] }
                    }));
                }
            }
        }
        Self { rows, blocks, cells, cell_width, width, height }
    }
}

/// Bands below the layers, the layers in order, bands above them; the task head comes last.
fn rows(components: &[ComponentInfo]) -> Vec<Row> {
    let lowest = components.iter().filter(|c| c.layer.is_some()).map(|c| c.depth).min();
    let mut keyed: Vec<((u8, usize), Row)> = Vec::new();
    for (index, component) in components.iter().enumerate() {
        let (key, label) = match component.layer {
            Some(layer) => ((1, layer), format!("layer {layer}")),
            None => {
                let (place, label) = match component.kind {
                    ComponentKind::Embedding => (0, "embeddings"),
                    ComponentKind::TaskHead => (3, "task head"),
                    kind if lowest.is_some_and(|lowest| component.depth < lowest) => (0, kind_label(kind)),
                    kind => (2, kind_label(kind)),
                };
                // The norm of the embeddings shares their band.
                ((place, 0), if place == 0 { "embeddings" } else { label }.to_string())
            }
        };
        match keyed.iter_mut().find(|(other, _)| *other == key) {
            Some((_, row)) => {
                row.components.push(index);
                row.depth = row.depth.max(component.depth);
            }
            None => keyed.push((
                key,
                Row {
                    label,
                    components: vec![index],
                    y: 0.0,
                    height: 0.0,
                    depth: component.depth,
                    band: component.layer.is_none(),
                },
            )),
        }
    }
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, row)| row).collect()
}

type Key = (ComponentKind, usize);

/// The runs of one kind among a layer's components, each with its occurrence number.
fn segments(components: &[ComponentInfo], members: &[usize]) -> Vec<(Key, Vec<usize>)> {
    let mut out: Vec<(Key, Vec<usize>)> = Vec::new();
    for &index in members {
        let kind = components[index].kind;
        match out.last_mut() {
            Some(((last, _), run)) if *last == kind => run.push(index),
            _ => {
                let occurrence = out.iter().filter(|((other, _), _)| *other == kind).count();
                out.push(((kind, occurrence), vec![index]));
            }
        }
    }
    out
}

/// The blocks of all layers, in an order that agrees with each layer's own.
fn blocks(components: &[ComponentInfo], rows: &[Row]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for row in rows.iter().filter(|row| !row.band) {
        let mut after = 0;
        for ((kind, occurrence), members) in segments(components, &row.components) {
            match blocks.iter().position(|b| (b.kind, b.occurrence) == (kind, occurrence)) {
                Some(at) => {
                    blocks[at].columns = blocks[at].columns.max(members.len());
                    after = at + 1;
                }
                None => {
                    let block = Block { kind, columns: members.len(), x: 0.0, width: 0.0, occurrence };
                    blocks.insert(after, block);
                    after += 1;
                }
            }
        }
    }
    blocks
}

/// A kind as the head of a column.
pub(crate) fn kind_label(kind: ComponentKind) -> &'static str {
    match kind {
        ComponentKind::Embedding => "embeddings",
        ComponentKind::AttentionHead => "attention heads",
        ComponentKind::Attention => "attention",
        ComponentKind::Neurons => "neuron groups",
        ComponentKind::FeedForward => "feed-forward",
        ComponentKind::Channels => "channel groups",
        ComponentKind::Gate => "gates",
        ComponentKind::Norm => "norm",
        ComponentKind::Adapter => "adapters",
        ComponentKind::Layer => "whole layer",
        ComponentKind::TaskHead => "task head",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(kind: ComponentKind, layer: Option<usize>, depth: usize) -> ComponentInfo {
        ComponentInfo { name: format!("{kind:?}"), kind, layer, depth, parameters: 1 }
    }

    const SIZES: Sizes = Sizes {
        width: 400.0,
        height: 200.0,
        row_height: [4.0, 30.0],
        band_height: 5.0,
        cell_width: 60.0,
        gap: 2.0,
        block_gap: 10.0,
    };

    #[test]
    fn every_component_has_one_cell_and_none_overlap() {
        use ComponentKind::{AttentionHead, Embedding, Neurons, Norm, TaskHead};
        let mut components = vec![component(TaskHead, None, 9), component(Norm, None, 8)];
        for layer in [1, 0] {
            let depth = 2 * layer + 1;
            components.push(component(Norm, Some(layer), depth));
            for _ in 0..3 + layer {
                components.push(component(AttentionHead, Some(layer), depth));
            }
            components.push(component(Norm, Some(layer), depth));
            components.push(component(Neurons, Some(layer), depth));
        }
        components.push(component(Embedding, None, 0));
        components.push(component(Norm, None, 0));

        let grid = Grid::new(&components, SIZES);
        let labels: Vec<_> = grid.rows.iter().map(|row| row.label.as_str()).collect();
        assert_eq!(labels, ["embeddings", "layer 0", "layer 1", "norm", "task head"]);
        let kinds: Vec<_> = grid.blocks.iter().map(|block| (block.kind, block.columns)).collect();
        assert_eq!(kinds, [(Norm, 1), (AttentionHead, 4), (Norm, 1), (Neurons, 1)]);

        let mut seen: Vec<_> = grid.cells.iter().map(|cell| cell.component).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..components.len()).collect::<Vec<_>>());
        for (i, a) in grid.cells.iter().enumerate() {
            let [ax, ay, aw, ah] = a.place;
            assert!(ax >= 0.0 && ax + aw <= grid.width + 1e-9 && ay + ah <= grid.height + 1e-9);
            for b in &grid.cells[..i] {
                let [bx, by, bw, bh] = b.place;
                let apart = ax + aw <= bx || bx + bw <= ax || ay + ah <= by || by + bh <= ay;
                assert!(apart, "{a:?} overlaps {b:?}");
            }
        }
    }

    #[test]
    fn no_components_is_an_empty_grid() {
        let grid = Grid::new(&[], SIZES);
        assert!(grid.cells.is_empty() && grid.rows.is_empty() && grid.height == 0.0);
    }
}
