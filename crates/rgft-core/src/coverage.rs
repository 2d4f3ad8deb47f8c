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

    /// The components that the next refresh must bring into sight, or a window of `window` refreshes passes
    /// without them. Ascending.
    pub fn due(&self, window: usize) -> Vec<usize> {
        (0..self.missed.len()).filter(|&i| self.missed[i] + 1 >= window).collect()
    }

    /// The most refreshes in a row that any component was out of sight, over the whole run. The window T was
    /// kept if and only if this is below T.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// For each component, for how many refreshes it has been out of sight now.
    pub fn missed(&self) -> &[usize] {
        &self.missed
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_due_before_its_window_closes() {
        let mut coverage = Coverage::new(3);
        assert_eq!(coverage.due(2), [] as [usize; 0]);
        assert_eq!(coverage.due(1), [0, 1, 2]);
        coverage.record(&[0, 1]);
        assert_eq!(coverage.due(2), [2]);
        coverage.record(&[1]);
        assert_eq!(coverage.missed(), [1, 0, 2]);
        assert_eq!(coverage.due(2), [0, 2]);
        assert_eq!(coverage.due(3), [2]);
        coverage.record(&[2]);
        assert_eq!(coverage.longest(), 2);
    }

    #[test]
    fn bringing_in_what_is_due_keeps_the_window() {
        let window = 4;
        let mut coverage = Coverage::new(5);
        for _ in 0..50 {
            let due = coverage.due(window);
            coverage.record(&due);
        }
        assert_eq!(coverage.longest(), window - 1);
    }
}
