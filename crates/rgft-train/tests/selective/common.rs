//! What the tests work on: the demo's digits (a small model with a tokenizer), and a tiny BERT with its golden batch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rgft_core::{Axis, Component, Event, Extent, Inputs, RunSummary, Slice, Slices, Tokens};
use rgft_data::{
    Augmentation, Dataset, Example, LabelMap, Objective, PackedBatch, Target, Targets, TextDataset,
};
use rgft_nn::models::{self, Grain, HeadRequest, Model};
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
    pub(crate) model: Model,
    pub(crate) tokens: Tokens,
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
            tokens: Tokens {
                lengths: ids.iter().map(Vec::len).collect(),
                ids: ids.concat(),
                types: rows("type_ids").concat(),
            },
            targets: vec![0, 2, 1, 2],
        }
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent::Sequences(self.tokens.lengths.clone())
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
        let inputs = Inputs::Tokens(self.tokens.clone());
        let mut blind = rgft_nn::Blind;
        let probe = probe.unwrap_or(&mut blind);
        self.model.forward_backward(engine, &inputs, &needs, gradients, probe, |logits| {
            engine.kernels.cross_entropy(logits.data_mut(), &self.targets, 1.0)
        })
    }

    /// Gradient buffers for `update`.
    pub(crate) fn gradients(&self, engine: &Engine, update: &[Slices]) -> Gradients {
        Gradients::new(engine, self.model.parameters(), update, &self.model.tables())
    }

    /// The golden batch as the training and the validation set of a run of `recipe`.
    pub(crate) fn workload(self, recipe: &Recipe) -> Workload {
        let mut start = 0;
        let examples = self.tokens.lengths.iter().zip(&self.targets).map(|(&n, &class)| {
            let own = start..start + n;
            start += n;
            Example {
                ids: self.tokens.ids[own.clone()].to_vec(),
                type_ids: self.tokens.types[own].to_vec(),
                target: Target::Class(class),
            }
        });
        let examples: Vec<Example> = examples.collect();
        let set = TextDataset { examples, objective: Objective::Classification, outputs: 3, truncated: 0 };
        let grain = Grain {
            granularity: rgft_train::methods::granularity(recipe),
            neuron_group: recipe.neuron_group,
        };
        Workload {
            components: self.model.components(grain),
            model: self.model,
            objective: Objective::Classification,
            labels: LabelMap::from_id2label([(0, "a"), (1, "b"), (2, "c")]).unwrap(),
            train: Box::new(set.clone()),
            validation: Box::new(set),
            test: None,
            files: Vec::new(),
            settings: serde_json::Map::new(),
            snippets: None,
            notes: Vec::new(),
            loaded_bytes: 0,
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

/// Some examples of a data set, with other classes for some of them.
pub(crate) struct Altered {
    pub(crate) set: Box<dyn Dataset>,
    pub(crate) rows: Vec<usize>,
    /// By place among `rows`.
    pub(crate) classes: BTreeMap<usize, u32>,
}

/// The first `n` examples.
pub(crate) fn first(set: Box<dyn Dataset>, n: usize) -> Box<dyn Dataset> {
    Box::new(Altered { set, rows: (0..n).collect(), classes: BTreeMap::new() })
}

impl Altered {
    fn own(&self, examples: &[usize]) -> Vec<usize> {
        examples.iter().map(|&example| self.rows[example]).collect()
    }
}

impl Dataset for Altered {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn size(&self, example: usize) -> usize {
        self.set.size(self.rows[example])
    }

    fn extent(&self, examples: &[usize]) -> Extent {
        self.set.extent(&self.own(examples))
    }

    fn pack(&self, examples: &[usize], augmentation: Option<Augmentation>) -> PackedBatch {
        let mut batch = self.set.pack(&self.own(examples), augmentation);
        let Targets::Classes(classes) = &mut batch.targets else { panic!("classes") };
        for (class, example) in classes.iter_mut().zip(examples) {
            *class = self.classes.get(example).copied().unwrap_or(*class);
        }
        PackedBatch { rows: examples.to_vec(), ..batch }
    }

    fn outputs(&self) -> usize {
        self.set.outputs()
    }
}
