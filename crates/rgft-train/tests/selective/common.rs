//! What the tests work on: the demo's digits (a small model with a tokenizer), and a tiny BERT with its golden batch.

use std::path::{Path, PathBuf};

use rgft_core::{Axis, Component, Event, RunSummary, Slice, Slices};
use rgft_data::{Example, LabelMap, Target, TextDataset, TextTask};
use rgft_nn::models::{self, Grain, HeadRequest, Model, TokenBatch};
use rgft_nn::{Engine, Gradients, Parameters, Probe};
use rgft_train::recipe::{RawRecipe, Recipe};
use rgft_train::{OutFolder, Workload};
use serde_json::Value;

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A recipe on the demo's faded digits; no test set, because most tests need none.
pub(crate) fn recipe(settings: &[&str]) -> Recipe {
    let demo = repository().join("assets/demo");
    let mut raw = RawRecipe {
        model: Some(demo.clone()),
        data: Some(demo.join("shift-train.csv")),
        validation: Some(demo.join("shift-validation.csv")),
        ..RawRecipe::default()
    };
    let fixed = ["task=text-classification", "max-length=66", "learning-rate=1e-3", "batch-size=32"];
    fixed.iter().chain(settings).for_each(|setting| raw.assign(setting).unwrap());
    raw.check().unwrap()
}

/// A finished run.
pub(crate) struct Run {
    pub(crate) summary: RunSummary,
    pub(crate) events: Vec<Event>,
}

pub(crate) fn run_in(recipe: &Recipe, work: &mut Workload, out: Option<&mut OutFolder>) -> Run {
    let mut events = Vec::new();
    let outcome = rgft_train::train(recipe, work, out, &mut |event| events.push(event.clone())).unwrap();
    Run { summary: outcome.summary, events }
}

pub(crate) fn run(recipe: &Recipe, work: &mut Workload) -> Run {
    run_in(recipe, work, None)
}

/// A folder that is gone when the test ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The tiny BERT (hidden 16, 2 layers, 4 heads, intermediate 32, 3 labels, pooler) and its golden batch.
pub(crate) struct Tiny {
    pub(crate) model: Box<dyn Model>,
    pub(crate) ids: Vec<u32>,
    pub(crate) types: Vec<u32>,
    pub(crate) lengths: Vec<usize>,
    pub(crate) targets: Vec<u32>,
}

impl Tiny {
    pub(crate) fn load() -> Self {
        let folder = repository().join("crates/rgft/tests/goldens/tiny/bert");
        let golden: Value =
            serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let rows = |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(golden[key].clone()).unwrap() };
        let ids = rows("ids");
        Self {
            model: models::load(&folder, &HeadRequest::default()).unwrap(),
            lengths: ids.iter().map(Vec::len).collect(),
            ids: ids.concat(),
            types: rows("type_ids").concat(),
            targets: vec![0, 2, 1, 2],
        }
    }

    pub(crate) fn components(&self) -> Vec<Component> {
        self.model.components(Grain::default())
    }

    /// Forward and backward of the mean cross-entropy. Dropout is off.
    pub(crate) fn carry_back(
        &self,
        engine: &Engine,
        update: &[Slices],
        cut: usize,
        gradients: &mut Gradients,
        probe: Option<&mut dyn Probe>,
    ) -> f64 {
        let needs = self.model.needs(update, cut, probe.is_some());
        let batch = TokenBatch { ids: &self.ids, types: &self.types, lengths: &self.lengths };
        let mut blind = rgft_nn::Blind;
        let probe = probe.unwrap_or(&mut blind);
        models::forward_backward(&*self.model, engine, batch, &needs, gradients, probe, |logits| {
            engine.kernels.cross_entropy(logits.data_mut(), &self.targets, 1.0)
        })
    }

    /// Gradient buffers for `update`.
    pub(crate) fn gradients(&self, engine: &Engine, update: &[Slices]) -> Gradients {
        let tables: Vec<bool> = (0..self.model.parameters().len()).map(|i| self.model.is_table(i)).collect();
        Gradients::new(engine, self.model.parameters(), update, &tables)
    }

    /// The golden batch as the training and the validation set of a run of `recipe`.
    pub(crate) fn workload(self, recipe: &Recipe) -> Workload {
        let mut start = 0;
        let examples = self.lengths.iter().zip(&self.targets).map(|(&n, &class)| {
            let tokens = start..start + n;
            start += n;
            Example {
                ids: self.ids[tokens.clone()].to_vec(),
                type_ids: self.types[tokens].to_vec(),
                target: Target::Class(class),
            }
        });
        let examples: Vec<Example> = examples.collect();
        let set = TextDataset { examples, task: TextTask::Classification, outputs: 3, truncated: 0 };
        let grain = Grain {
            granularity: rgft_train::methods::granularity(recipe),
            neuron_group: recipe.neuron_group,
        };
        Workload {
            components: self.model.components(grain),
            model: self.model,
            task: TextTask::Classification,
            labels: LabelMap::from_id2label([(0, "a"), (1, "b"), (2, "c")]).unwrap(),
            train: set.clone(),
            validation: set,
            test: None,
            tokenizer_folder: PathBuf::new(),
            notes: Vec::new(),
        }
    }
}

/// Where the scalars of `slice` lie in its parameter, row by row.
pub(crate) fn scalars_of(slice: &Slice, parameters: &Parameters) -> Vec<usize> {
    let parameter = &parameters[slice.parameter];
    let (rows, cols) = (parameter.rows(), parameter.cols());
    match slice.axis {
        Axis::Rows => (slice.range.start * cols..slice.range.end * cols).collect(),
        Axis::Cols => (0..rows).flat_map(|r| slice.range.clone().map(move |c| r * cols + c)).collect(),
    }
}

/// Panics at the first bit that differs.
pub(crate) fn same_bits(a: &Parameters, b: &Parameters) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b.iter()) {
        let differs = a.data.iter().zip(&b.data).position(|(x, y)| x.to_bits() != y.to_bits());
        assert_eq!((&a.name, a.data.len(), differs), (&b.name, b.data.len(), None));
    }
}
