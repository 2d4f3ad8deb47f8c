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

    /// Means over all examples of those that every set has.
    fn baselines(&self) -> BTreeMap<String, f64> {
        let all: Vec<_> = self.sets.iter().map(|set| set.baselines()).collect();
        let share = |at: usize| self.sets[at].len() as f64 / self.len() as f64;
        let mean = |name: &String| -> Option<f64> {
            all.iter().enumerate().map(|(at, of)| Some(of.get(name)? * share(at))).sum()
        };
        all.iter().flatten().filter_map(|(name, _)| Some((name.clone(), mean(name)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SeriesParts, SeriesSpec, parse_series};

    fn set(csv: &str) -> Box<dyn Dataset> {
        let (context, horizon, validation_part, test_part) = (4, 2, 0.0, 0.0);
        let spec = SeriesSpec { context, horizon, validation_part, test_part, ..SeriesSpec::default() };
        let table = parse_series(std::path::Path::new("s.csv"), csv.as_bytes(), &spec);
        match table.and_then(|table| SeriesParts::split(&table, &spec)) {
            Ok(parts) => Box::new(parts.train),
            Err(error) => panic!("{error}"),
        }
    }

    fn values(n: usize, date: bool) -> String {
        let row = |i: usize| {
            let time =
                if date { format!("2024-01-{:02} {:02}:00,", 1 + i / 24, i % 24) } else { String::new() };
            format!("{time}{}\n", (i * i) % 7)
        };
        let head = if date { "time,a\n" } else { "a\n" };
        head.to_owned() + &(0..n).map(row).collect::<String>()
    }

    #[test]
    fn examples_keep_their_order_and_baselines_are_those_that_all_have() {
        let (long, short) = (values(80, true), values(40, false));
        let (a, b) = (set(&long), set(&short));
        let (n, m) = (a.len(), b.len());
        let last_value = |set: &dyn Dataset| set.baselines()["mse_last_value"];
        let mean = (last_value(&*a) * n as f64 + last_value(&*b) * m as f64) / (n + m) as f64;
        assert!(a.baselines().contains_key("mse_seasonal") && !b.baselines().contains_key("mse_seasonal"));

        let all = joined(vec![a, b]);
        assert_eq!(all.len(), n + m);
        assert!((last_value(&*all) - mean).abs() < 1e-12);
        assert!(!all.baselines().contains_key("mse_seasonal"));
        let batch = all.pack(&[n, 0, n - 1], None);
        let alone =
            [set(&short).pack(&[0], None), set(&long).pack(&[0], None), set(&long).pack(&[n - 1], None)];
        let Targets::Values(found, 2) = batch.targets else { panic!("values") };
        let expected = alone.into_iter().flat_map(|batch| match batch.targets {
            Targets::Values(values, _) => values,
            _ => Vec::new(),
        });
        assert_eq!(found, expected.collect::<Vec<_>>());
        assert_eq!(batch.rows, [n, 0, n - 1]);
        assert_eq!(all.extent(&[n, 0]), Extent::Sequences(vec![4, 4]));
    }
}
