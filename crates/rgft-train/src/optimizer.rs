//! Optimizers on slices: state exists for what was ever updated, and stands still while its component is skipped.
//!
//! A component's weight multiplies its learning rate, and with it the decoupled weight decay; never its gradient,
//! which Adam would cancel. A skipped component keeps its moments and its step count, so bias correction goes on
//! where it stopped when the component returns.

use std::ops::Range;

use rayon::prelude::*;
use rgft_core::{Axis, Component};
use rgft_kernels::Kernels;
use rgft_kernels::cpu::optimizer::{AdamW, Block, Sgd};
use rgft_nn::{GradientBlock, Gradients, Parameter, Parameters};

use crate::recipe::{OptimizerName, Recipe};

/// First and second moment of one slice.
#[derive(Clone, Debug)]
struct SliceState {
    component: usize,
    axis: Axis,
    range: Range<usize>,
    steps: u32,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// AdamW or SGD with momentum over the slices of components.
pub struct Optimizer {
    kind: OptimizerName,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    momentum: f32,
    weight_decay: f32,
    /// By parameter.
    states: Vec<Vec<SliceState>>,
}

/// How far one component goes in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepSize {
    /// Learning rate, the component's weight included; 0 for what is skipped.
    pub learning_rate: f64,
    /// Whether the component is updated.
    pub active: bool,
}

impl Optimizer {
    /// No state yet.
    pub fn new(recipe: &Recipe, parameters: &Parameters, components: &[Component]) -> Self {
        let mut states = vec![Vec::new(); parameters.len()];
        for (component, slice) in
            components.iter().enumerate().flat_map(|(i, c)| c.slices.iter().map(move |s| (i, s)))
        {
            states[slice.parameter].push(SliceState {
                component,
                axis: slice.axis,
                range: slice.range.clone(),
                steps: 0,
                first: Vec::new(),
                second: Vec::new(),
            });
        }
        Self {
            kind: recipe.optimizer,
            beta1: recipe.beta1 as f32,
            beta2: recipe.beta2 as f32,
            epsilon: recipe.epsilon as f32,
            momentum: recipe.momentum as f32,
            weight_decay: recipe.weight_decay as f32,
            states,
        }
    }

    /// Every slice begins anew.
    pub fn forget(&mut self) {
        for state in self.states.iter_mut().flatten() {
            (state.steps, state.first, state.second) = (0, Vec::new(), Vec::new());
        }
    }

    /// Scalars of optimizer state held.
    pub fn scalars(&self) -> usize {
        self.states.iter().flatten().map(|state| state.first.len() + state.second.len()).sum()
    }

    /// One step: `sizes` by component; `gradient_scale` multiplies every gradient (clipping).
    pub fn step(
        &mut self,
        kernels: &dyn Kernels,
        parameters: &mut Parameters,
        gradients: &Gradients,
        sizes: &[StepSize],
        gradient_scale: f32,
    ) {
        let mut states = std::mem::take(&mut self.states);
        let this = &*self;
        let moves: Vec<bool> =
            states.iter().map(|states| states.iter().any(|state| sizes[state.component].active)).collect();
        let states_of = states.iter_mut().zip(&moves).filter(|(_, moves)| **moves).map(|(states, _)| states);
        let jobs: Vec<((usize, &mut Parameter), &mut Vec<SliceState>)> = parameters
            .chosen_mut(|index| moves.get(index).is_some_and(|moves| *moves))
            .zip(states_of)
            .collect();
        // Slices of one parameter interleave in memory, so one task owns one parameter.
        jobs.into_par_iter().for_each(|((index, parameter), states)| {
            for state in states.iter_mut().filter(|state| sizes[state.component].active) {
                let size = sizes[state.component].learning_rate as f32;
                this.step_slice(kernels, index, parameter, gradients, state, size, gradient_scale);
            }
        });
        self.states = states;
    }

    fn step_slice(
        &self,
        kernels: &dyn Kernels,
        index: usize,
        parameter: &mut Parameter,
        gradients: &Gradients,
        state: &mut SliceState,
        learning_rate: f32,
        gradient_scale: f32,
    ) {
        let (rows, cols) = (parameter.rows(), parameter.cols());
        let (first, count, width) = match state.axis {
            Axis::Rows => (state.range.start * cols, state.range.len(), cols),
            Axis::Cols => (state.range.start, rows, state.range.len()),
        };
        if state.first.is_empty() {
            state.first = vec![0.0; count * width];
            if self.kind == OptimizerName::AdamW {
                state.second = vec![0.0; count * width];
            }
        }
        state.steps += 1;
        let end = parameter.data.len().min(first + count * cols);
        let weight = &mut parameter.data[first..end];
        let update = |weight: &mut [f32], gradient: Option<&[f32]>, stride, m: &mut [f32], v: &mut [f32]| {
            let block = Block { weight, weight_stride: cols, gradient, gradient_stride: stride, width };
            match self.kind {
                OptimizerName::AdamW => kernels.adamw(
                    block,
                    m,
                    v,
                    AdamW {
                        learning_rate,
                        weight_decay: self.weight_decay,
                        beta1: self.beta1,
                        beta2: self.beta2,
                        epsilon: self.epsilon,
                        step: state.steps,
                        gradient_scale,
                    },
                ),
                OptimizerName::Sgd => kernels.sgd(
                    block,
                    m,
                    Sgd {
                        learning_rate,
                        weight_decay: self.weight_decay,
                        momentum: self.momentum,
                        gradient_scale,
                    },
                ),
            }
        };
        match gradients.block(index, state.axis, state.range.clone()) {
            Some(GradientBlock::Dense { data, stride }) => {
                update(weight, Some(data), stride, &mut state.first, &mut state.second);
            }
            None => update(weight, None, cols, &mut state.first, &mut state.second),
            // Rows that were not looked up have gradient zero: they move by their moments and decay.
            Some(GradientBlock::Rows(table)) => {
                let mut looked_up = table.rows().to_vec();
                looked_up.sort_unstable();
                // Several tasks for each thread: a table can be half of the model.
                let rows_per_task = count.div_ceil(4 * rayon::current_num_threads()).max(1);
                let task = |(i, (weight, m)): (usize, (&mut [f32], &mut [f32])), v: &mut [f32]| {
                    let (start, count) = (i * rows_per_task, m.len() / cols);
                    let mut run = |rows: Range<usize>, gradient: Option<&[f32]>| {
                        let part = rows.start * cols..rows.end * cols;
                        let second = if v.is_empty() { 0..0 } else { part.clone() };
                        update(&mut weight[part.clone()], gradient, cols, &mut m[part], &mut v[second]);
                    };
                    let place = |row: usize| looked_up.partition_point(|&at| (at as usize) < row);
                    let mut next = 0;
                    for &row in &looked_up[place(start)..place(start + count)] {
                        let at = row as usize - start;
                        run(next..at, None);
                        run(at..at + 1, table.row(row as usize));
                        next = at + 1;
                    }
                    run(next..count, None);
                };
                let size = rows_per_task * cols;
                let pairs = weight.par_chunks_mut(size).zip(state.first.par_chunks_mut(size)).enumerate();
                if state.second.is_empty() {
                    pairs.for_each(|pair| task(pair, &mut []));
                } else {
                    pairs.zip(state.second.par_chunks_mut(size)).for_each(|(pair, v)| task(pair, v));
                }
            }
        }
    }
}
