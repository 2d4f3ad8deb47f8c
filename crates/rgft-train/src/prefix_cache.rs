//! The prefix cache: what the frozen levels below the cut make of each example, so that later steps begin there.
//!
//! A level below the cut is a function of each example alone as long as nothing random happens in it: what is frozen runs
//! without dropout and its batch norms use running statistics, in training steps too. With `s_c(x)` the hidden state of
//! example x that enters level c, a step with its cut at c computes `s_c(x)` once and reads it from then on:
//!
//! ```text
//! s_c(x) stored               read it
//! s_b(x) stored, b < c        advance it: levels b … c−1, then store s_c(x) instead
//! s_b(x) stored, b > c        drop it: level c is trained now, so s_b is no longer what level b will be given
//! nothing stored              compute levels 0 … c−1, then store it
//! ```
//!
//! While the cut is not known yet, states of several levels may be kept ([`PrefixCache::keep_on_the_way`]).
//!
//! Examples are brought to the cut when a batch asks for them ([`PrefixCache::fill`]), those of one standing in one pass.
//! States are kept up to a limit in memory and behind it in an anonymous temporary file. In `f32` a step from the cache is
//! the step without it, bit for bit, as long as no product of a pass has one row or at most 256 results: those the library
//! sums in another order, so that their bits depend on how many examples are brought to the cut together. (Recurrent
//! layers have such products, one row per sequence that still goes on, where few examples are missing.) In `bf16` a state
//! is rounded to nearest even each time it is stored, and every step is given the rounded one, whether it was just computed
//! or read.
//!
//! The cache does not know when it is wrong: who augments examples or drops activations below the cut must not use it. It
//! knows no budget and books nothing: the engine counts what a fill executes, [`PrefixCache::cost`] predicts it.

mod spill;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rgft_data::Dataset;
use rgft_nn::models::{Hidden, Model};
use rgft_nn::{Engine, Flops, Mode, Tape, Tensor};

use crate::TrainError;
use store::{Place, Store};

use crate::recipe::CacheDtype;

/// Hidden states of examples, each at the level that it was last brought to, or at several.
#[derive(Debug)]
pub struct PrefixCache {
    dtype: CacheDtype,
    store: Store,
    /// By example and level.
    entries: BTreeMap<(usize, usize), Entry>,
    /// Entries by level.
    counts: Vec<usize>,
    /// Levels whose states are kept on the way to a cut.
    on_the_way: Vec<usize>,
    /// What is being written or read, encoded.
    bytes: Vec<u8>,
}

/// The state of one example.
#[derive(Debug)]
struct Entry {
    rows: usize,
    columns: usize,
    place: Place,
}

/// Where examples of a batch stand: by stored level (`None`: to be computed from the bottom), their places in the batch.
pub type Standing = BTreeMap<Option<usize>, Vec<usize>>;

impl PrefixCache {
    /// An empty cache that keeps at most `memory_limit` bytes of states in memory, and the others in a file in the
    /// system's folder for temporary files (`TMPDIR`), which is made when it is first needed.
    pub fn new(dtype: CacheDtype, memory_limit: u64) -> Self {
        let store = Store::new(memory_limit, std::env::temp_dir());
        Self {
            dtype,
            store,
            entries: BTreeMap::new(),
            counts: Vec::new(),
            on_the_way: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// The highest level up to `cut` at which a state of `example` is stored.
    pub fn level(&self, example: usize, cut: usize) -> Option<usize> {
        self.entries.range((example, 0)..=(example, cut)).next_back().map(|((_, level), _)| *level)
    }

    /// Examples stored at each level, up to the highest that ever had one.
    pub fn levels(&self) -> &[usize] {
        &self.counts
    }

    /// From now on also what enters these levels is kept, on the way to a cut above them: while it is not known yet where
    /// the cut will be. With none, only the state at the cut is kept, and those below it are dropped.
    pub fn keep_on_the_way(&mut self, levels: Vec<usize>) {
        self.on_the_way = levels;
    }

    /// Where these examples stand for a step whose cut is at level `cut`.
    pub fn standing(&self, examples: &[usize], cut: usize) -> Standing {
        let mut standing = Standing::new();
        for (place, &example) in examples.iter().enumerate() {
            standing.entry(self.level(example, cut)).or_default().push(place);
        }
        standing
    }

    /// FLOPs of bringing these examples to level `cut`: what [`PrefixCache::fill`] would have the engine count.
    pub fn cost(&self, model: &Model, set: &dyn Dataset, examples: &[usize], cut: usize) -> u64 {
        let needs = model.no_needs();
        let pass = |(from, places): (Option<usize>, Vec<usize>)| {
            let extent = set.extent(&picked(examples, &places));
            let products = model.products_between(&extent, &needs, from.unwrap_or(0)..cut);
            products.iter().collect::<Flops>().total()
        };
        self.standing(examples, cut).into_iter().map(pass).sum()
    }

    /// The hidden state that enters level `cut` for a batch of these examples, in their order: read where it is stored,
    /// else computed as far as it is missing, and stored. States above the cut are dropped first, of all examples: the
    /// step to come trains what they rest on. Each is computed as [`Dataset::pack`] lays it out without augmentation.
    ///
    /// The engine evaluates from here on ([`Mode::Evaluate`]), and counts the products.
    ///
    /// # Errors
    /// [`TrainError::PrefixCache`] where the temporary file cannot be read.
    ///
    /// # Panics
    /// If `cut` is 0, below which there is nothing, or there are no examples.
    pub fn fill(
        &mut self,
        model: &Model,
        engine: &Engine,
        set: &dyn Dataset,
        examples: &[usize],
        cut: usize,
    ) -> Result<Hidden, TrainError> {
        self.drop_above(cut);
        engine.set_mode(Mode::Evaluate);
        let needs = model.no_needs();
        let rows = model.rows_at(&set.extent(examples), cut);
        let starts: Vec<usize> =
            rows.iter().scan(0, |end, rows| Some(std::mem::replace(end, *end + rows))).collect();
        let mut all: Option<Tensor> = None;
        for (from, places) in self.standing(examples, cut) {
            let own = picked(examples, &places);
            let state = match from {
                Some(level) if level == cut => self.read(engine, &own, cut)?,
                _ => {
                    let start = from.unwrap_or(0);
                    let from =
                        from.map(|level| self.read(engine, &own, level).map(|state| Hidden { level, state }));
                    let (batch, mut hidden) = (set.pack(&own, None), from.transpose()?);
                    let extent = batch.inputs.extent();
                    let mut stops: Vec<usize> = self
                        .on_the_way
                        .iter()
                        .copied()
                        .filter(|&level| start < level && level < cut)
                        .collect();
                    stops.push(cut);
                    for level in stops {
                        let tape = &mut Tape::default();
                        let mut state =
                            model.forward_between(engine, &batch.inputs, hidden, level, &needs, tape);
                        self.put_all(&own, level, &model.rows_at(&extent, level), &mut state);
                        hidden = Some(Hidden { level, state });
                    }
                    hidden.expect("the cut is the last stop").state
                }
            };
            if places.len() == examples.len() {
                return Ok(Hidden { level: cut, state });
            }
            let columns = state.cols();
            let all = all.get_or_insert_with(|| engine.tensor(rows.iter().sum(), columns));
            let mut start = 0;
            for place in places {
                let n = rows[place] * columns;
                all.data_mut()[starts[place] * columns..][..n]
                    .copy_from_slice(&state.data()[start..start + n]);
                start += n;
            }
        }
        Ok(Hidden { level: cut, state: all.expect("a batch has examples") })
    }

    /// Stores what enters `level` for these examples, whose rows lie end to end in `state`.
    fn put_all(&mut self, examples: &[usize], level: usize, rows: &[usize], state: &mut Tensor) {
        let (columns, mut left) = (state.cols(), state.data_mut());
        for (&example, &rows) in examples.iter().zip(rows) {
            let (own, rest) = left.split_at_mut(rows * columns);
            self.put(example, level, rows, own);
            left = rest;
        }
    }

    /// Stores the state `[rows, columns]` of an example that enters `level`, in place of those below it unless they are to
    /// be kept; `state` becomes what will be read. Once there is no more room ([`PrefixCache::stopped`]), a state takes the
    /// place of those below it if it fits there.
    fn put(&mut self, example: usize, level: usize, rows: usize, state: &mut [f32]) {
        self.dtype.encode(state, &mut self.bytes);
        self.dtype.decode(&self.bytes, state);
        let mut old = self.take((example, level)).map(|entry| entry.place);
        if self.on_the_way.is_empty() {
            while let Some(below) = self.level(example, level) {
                let freed = self.take((example, below)).map(|entry| entry.place);
                if let Some(place) = std::mem::replace(&mut old, freed) {
                    self.store.free(place);
                }
            }
        }
        if let Some(place) = self.store.put(old, &self.bytes) {
            let columns = state.len() / rows.max(1);
            self.entries.insert((example, level), Entry { rows, columns, place });
            self.counts.resize(self.counts.len().max(level + 1), 0);
            self.counts[level] += 1;
        }
    }

    /// The states of examples that all have one at `level`, end to end.
    fn read(&mut self, engine: &Engine, examples: &[usize], level: usize) -> Result<Tensor, TrainError> {
        let entries: Vec<&Entry> = examples.iter().map(|&example| &self.entries[&(example, level)]).collect();
        let rows = entries.iter().map(|entry| entry.rows).sum();
        let columns = entries.first().map_or(0, |entry| entry.columns);
        let mut state = engine.tensor(rows, columns);
        let mut left = state.data_mut();
        for entry in entries {
            let (own, rest) = left.split_at_mut(entry.rows * columns);
            self.store
                .read(&entry.place, &mut self.bytes)
                .map_err(|source| TrainError::PrefixCache { source })?;
            self.dtype.decode(&self.bytes, own);
            left = rest;
        }
        Ok(state)
    }

    /// Drops every state that enters a level above `cut`. Must be called before a step that trains with its cut there
    /// and does not [`fill`](PrefixCache::fill): what such a state rests on will have changed.
    pub fn drop_above(&mut self, cut: usize) {
        if self.counts.iter().skip(cut + 1).all(|count| *count == 0) {
            return;
        }
        self.drop_all(self.entries.keys().filter(|(_, level)| *level > cut).copied().collect());
    }

    /// Drops what is stored below `cut` of examples that are there already.
    pub fn drop_below(&mut self, cut: usize) {
        let there: Vec<usize> =
            self.entries.keys().filter(|(_, level)| *level == cut).map(|(e, _)| *e).collect();
        for example in there {
            self.drop_all(self.entries.range((example, 0)..(example, cut)).map(|(key, _)| *key).collect());
        }
    }

    fn drop_all(&mut self, keys: Vec<(usize, usize)>) {
        for key in keys {
            if let Some(entry) = self.take(key) {
                self.store.free(entry.place);
            }
        }
    }

    fn take(&mut self, key: (usize, usize)) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.counts[key.1] -= 1;
        Some(entry)
    }

    /// Drops everything and gives back the memory and the file's space.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.counts.clear();
        self.store.clear();
        self.bytes = Vec::new();
    }

    /// Bytes of the states in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.store.memory_bytes()
    }

    /// Length of the temporary file, bytes.
    pub fn file_bytes(&self) -> u64 {
        self.store.file_bytes()
    }

    /// Why nothing more is stored, if the temporary file could not be made or written: what is stored stays of use, and
    /// the other examples are computed from the bottom each time.
    pub fn stopped(&self) -> Option<&str> {
        self.store.stopped()
    }
}

fn picked(examples: &[usize], places: &[usize]) -> Vec<usize> {
    places.iter().map(|&place| examples[place]).collect()
}
