//! Several data sets of one kind as one.

use std::collections::BTreeMap;

use rgft_core::{Extent, Inputs};

use crate::dataset::{Augmentation, Dataset, PackedBatch, Targets};

/// Data sets one after the other.
struct Joined {
    sets: Vec<Box<dyn Dataset>>,
    /// Number of the first example of each.
    starts: Vec<usize>,
}

/// The examples of all `sets`, of one kind and with outputs of one size, one set after the other.
///
/// # Panics
/// When a batch mixes kinds.
#[must_use]
pub fn joined(mut sets: Vec<Box<dyn Dataset>>) -> Box<dyn Dataset> {
    if sets.len() == 1
        && let Some(only) = sets.pop()
    {
        return only;
    }
    let starts = (0..sets.len()).map(|i| sets[..i].iter().map(|set| set.len()).sum()).collect();
    Box::new(Joined { sets, starts })
}

impl Joined {
    fn find(&self, example: usize) -> (&dyn Dataset, usize) {
        let at = self.starts.partition_point(|start| *start <= example) - 1;
        (&*self.sets[at], example - self.starts[at])
    }
}

impl Dataset for Joined {
    fn len(&self) -> usize {
        self.sets.iter().map(|set| set.len()).sum()
    }

    fn size(&self, example: usize) -> usize {
        let (set, own) = self.find(example);
        set.size(own)
    }

    fn extent(&self, examples: &[usize]) -> Extent {
        let each = examples.iter().map(|&example| {
            let (set, own) = self.find(example);
            set.extent(&[own])
        });
        each.reduce(|all, one| all.joined(&one)).unwrap_or(Extent::Sequences(Vec::new()))
    }

    fn pack(&self, examples: &[usize], augmentation: Option<Augmentation>) -> PackedBatch {
        let mut each = examples.iter().map(|&example| {
            let (set, own) = self.find(example);
            set.pack(&[own], augmentation)
        });
        let Some(mut all) = each.next() else { return self.sets[0].pack(&[], augmentation) };
        for one in each {
            match (&mut all.inputs, one.inputs) {
                (Inputs::Tokens(all), Inputs::Tokens(one)) => {
                    all.ids.extend(one.ids);
                    all.types.extend(one.types);
                    all.lengths.extend(one.lengths);
                }
                (Inputs::Images(all), Inputs::Images(one)) => all.pixels.extend(one.pixels),
                (Inputs::Series(all), Inputs::Series(one)) => all.values.extend(one.values),
                (all, one) => panic!("{all:?} and {one:?} are not of one kind"),
            }
            match (&mut all.targets, one.targets) {
                (Targets::Classes(all), Targets::Classes(one)) => all.extend(one),
                (Targets::MultiHot(all, _), Targets::MultiHot(one, _))
                | (Targets::Values(all, _), Targets::Values(one, _)) => all.extend(one),
                (all, _) => *all = Targets::Unknown,
            }
        }
        all.rows = examples.to_vec();
        all
    }

    fn outputs(&self) -> usize {
        self.sets[0].outputs()
    }

    fn text_bytes(&self) -> usize {
        self.sets.iter().map(|set| set.text_bytes()).sum()
    }

    /// Means over all examples.
    fn baselines(&self) -> BTreeMap<String, f64> {
        let mut means = BTreeMap::new();
        for set in &self.sets {
            for (name, value) in set.baselines() {
                *means.entry(name).or_insert(0.0) += value * set.len() as f64 / self.len() as f64;
            }
        }
        means
    }
}
