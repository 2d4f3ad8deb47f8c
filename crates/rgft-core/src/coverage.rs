//! Coverage: every component is active, or seen by a probe, at least once in any T refreshes in a row. The
//! convergence theorem for skipped components (T1c) needs it.

/// Counts how many refreshes in a row each component has been out of sight.
#[derive(Clone, Debug)]
pub struct Coverage {
    missed: Vec<usize>,
    longest: usize,
}

impl Coverage {
    /// Before the first refresh.
    pub fn new(components: usize) -> Self {
        Self { missed: vec![0; components], longest: 0 }
    }

    /// Records one refresh, in which the components `active_or_probed` were in sight.
    pub fn record(&mut self, active_or_probed: &[usize]) {
        self.missed.iter_mut().for_each(|missed| *missed += 1);
        for &i in active_or_probed {
            self.missed[i] = 0;
        }
        self.longest = self.missed.iter().copied().fold(self.longest, usize::max);
    }

    /// The most refreshes in a row that any component was out of sight, over the whole run. The window T was
    /// kept if and only if this is below T.
    pub fn longest(&self) -> usize {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_absence_of_any_component_counts() {
        let mut coverage = Coverage::new(3);
        assert_eq!(coverage.longest(), 0);
        for (seen, longest) in [(&[0, 1][..], 1), (&[1], 2), (&[2], 2), (&[0, 1], 2), (&[0, 1, 2], 2)] {
            coverage.record(seen);
            assert_eq!(coverage.longest(), longest);
        }
    }
}
