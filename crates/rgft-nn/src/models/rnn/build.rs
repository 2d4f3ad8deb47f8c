//! From a model folder to a [`Model`].

use std::collections::BTreeMap;

use std::path::Path;

use rgft_core::ComponentKind;
use rgft_kernels::cpu::pooling::Pool;
use serde_json::{Value, json};

use super::config::{Config, Task};
use crate::NnError;
use crate::layers::final_state_head::FinalStateHead;
use crate::layers::head::Head;
use crate::layers::linear::Linear;
use crate::layers::lm_head::LmHead;
use crate::layers::recurrent::{Cell, Direction, Recurrent};
use crate::layers::token_stem::TokenStem;
use crate::layers::window_stem::WindowStem;
use crate::layers::{Block, Stem};
use crate::models::build::Builder;
use crate::models::{HeadRequest, Level, Model, SiteKind};
use crate::weights::{Init, Weights};

impl Builder<'_> {
    /// `W` `[gates·hidden, input]` and `b` of layer `path`, `side` `ih` or `hh`; `end` `l0` or `l0_reverse`.
    fn gates(
        &mut self,
        config: &Config,
        side: &str,
        end: &str,
        input: usize,
        init: Init,
    ) -> Result<Linear, NnError> {
        let (prefix, output) = (config.prefix(), config.cell.gates().len() * config.hidden);
        let weight = self.parameter(&format!("{prefix}.weight_{side}_{end}"), &[output, input], init)?;
        let bias =
            Some(self.parameter(&format!("{prefix}.bias_{side}_{end}"), &[output], Init::Constant(0.0))?);
        let site = self.site(&format!("{prefix}.{side}_{end}"), SiteKind::Linear { weight, bias });
        Ok(Linear { site, weight, bias, input, output })
    }

    fn recurrent(&mut self, config: &Config, l: usize, random: bool) -> Result<Recurrent, NnError> {
        // PyTorch's uniform distribution has this deviation.
        let init = Init::Normal(deviation(config.hidden));
        let input = if l == 0 { config.input() } else { config.width() };
        let mut directions = Vec::new();
        for reverse in [false, true].into_iter().take(config.directions()) {
            let end = format!("l{l}{}", if reverse { "_reverse" } else { "" });
            let input = self.gates(config, "ih", &end, input, init)?;
            let recurrent = self.gates(config, "hh", &end, config.hidden, init)?;
            // A new LSTM remembers, until it learns to forget (Jozefowicz et al. 2015).
            if let (true, Cell::Lstm, Some(bias)) = (random, config.cell, input.bias) {
                self.parameters[bias].data[config.hidden..2 * config.hidden].fill(1.0);
            }
            directions.push(Direction { input, recurrent, reverse });
        }
        // PyTorch drops elements between layers.
        let dropout = if l + 1 < config.layers { config.dropout } else { 0.0 };
        let lowest = l == 0 && matches!(config.task, Task::Forecast { .. });
        Ok(Recurrent { cell: config.cell, directions, dropout, lowest })
    }

    fn rnn_stem(&mut self, config: &Config) -> Result<(&'static str, Box<dyn Stem>), NnError> {
        let (vocabulary, width) = match config.task {
            Task::Forecast { context, patch, instance_norm, .. } => {
                return Ok(("windows", Box::new(WindowStem { context, patch, instance_norm })));
            }
            Task::Language { vocabulary, embedding } | Task::Classes { vocabulary, embedding, .. } => {
                (vocabulary, embedding)
            }
        };
        let words = self.table("embedding", vocabulary, width, Init::Normal(1.0))?;
        let stem = TokenStem { words, positions: None, width, dropout: 0.0, longest: usize::MAX };
        Ok(("embedding", Box::new(stem)))
    }

    fn rnn_head(&mut self, config: &Config) -> Result<(&'static str, Box<dyn Block>), NnError> {
        let (width, deviation) = (config.width(), deviation(config.width()));
        let (directions, dropout) = (config.directions(), config.dropout);
        Ok(match config.task {
            Task::Language { vocabulary, .. } => {
                let output = self.linear("head", width, vocabulary, true, Init::Normal(deviation))?;
                ("head", Box::new(LmHead { norm: None, output, tied: false }))
            }
            Task::Classes { classes, last, .. } => {
                let output = self.linear("classifier", width, classes, true, Init::Outputs(deviation))?;
                let head: Box<dyn Block> = if last {
                    Box::new(FinalStateHead { output, directions, dropout, instance_norm: None })
                } else {
                    Box::new(Head { pool: Pool::Mean, dense: None, classifier: output, dropout })
                };
                ("classifier", head)
            }
            Task::Forecast { horizon, instance_norm, .. } => {
                let output = self.linear("head", width, horizon, true, Init::Outputs(deviation))?;
                ("head", Box::new(FinalStateHead { output, directions, dropout: 0.0, instance_norm }))
            }
        })
    }
}

/// The deviation of a uniform distribution on `±1/√n`.
fn deviation(n: usize) -> f32 {
    1.0 / (3.0 * n as f32).sqrt()
}

/// Builds the model that `values` (`config.json`) describes, with weights from `folder`.
///
/// # Errors
/// If a key, tensor or shape is wrong.
pub(crate) fn load(folder: &Path, values: Value, request: &HeadRequest) -> Result<Model, NnError> {
    let config = Config::read(folder, &values, request)?;
    let files = Weights::files(folder, request)?;
    let mut builder = Builder::new(Weights::new(folder, &files, request), "");

    let (name, stem) = builder.rnn_stem(&config)?;
    let stem = Level { name: name.into(), kind: ComponentKind::Embedding, layer: None, block: stem };
    let mut blocks: Vec<Level<Box<dyn Block>>> = Vec::new();
    for l in 0..config.layers {
        let block = Box::new(builder.recurrent(&config, l, request.random)?);
        let name = format!("{}.layer.{l}", config.prefix());
        let layer = Some((l, name.clone()));
        blocks.push(Level { name, kind: ComponentKind::Layer, layer, block });
    }
    let (name, block) = builder.rnn_head(&config)?;
    blocks.push(Level { name: name.into(), kind: ComponentKind::TaskHead, layer: None, block });

    let mut saved = values;
    let longest = match config.task {
        Task::Language { .. } => usize::MAX,
        Task::Classes { classes, last, .. } => {
            saved["num_labels"] = json!(classes);
            saved["pooling"] = json!(if last { "last" } else { "mean" });
            usize::MAX
        }
        Task::Forecast { context, horizon, .. } => {
            saved["horizon"] = json!(horizon);
            context
        }
    };
    let unused = builder.weights.unused(str::to_string)?;
    let Builder { parameters, sites, .. } = builder;
    Ok(Model {
        parameters,
        sites,
        stem,
        blocks,
        longest,
        config: saved,
        unused,
        adapters: BTreeMap::new(),
        recompute: false,
    })
}
