//! Whether the statements of THEORY.md hold, on problems that are drawn, and on problems that are bent towards a violation.

use serde::Serialize;

use super::dice::Dice;
use super::statements::{STATEMENTS, Statement};

/// What rounding may leave above a bound.
const ROUNDING: f64 = 1e-7;
/// A search that has not found a worse case for so many tries begins elsewhere.
const PATIENCE: usize = 400;
/// Cases that a search begins with the worst of.
const BEGINNINGS: usize = 20;

/// What was found of one statement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// As THEORY.md calls it.
    pub statement: &'static str,
    /// What it says, in a few words.
    pub says: &'static str,
    /// Problems that were drawn, without those that said nothing.
    pub problems: usize,
    /// Problems that the search tried, without those that said nothing.
    pub searched: usize,
    /// Problems in which more was measured than the bound allows.
    pub violations: usize,
    /// The largest quotient of measured and bound among what was drawn: 1 is a bound that is met.
    pub tightness: f64,
    /// The same of what was searched.
    pub tightness_searched: f64,
}

/// How many statements there are.
pub fn statements() -> usize {
    STATEMENTS.len()
}

/// Tries statement `index` (below [`statements`]) on `problems` problems that say something, and searches for a violation in
/// `tries` more. The same seed draws the same problems.
///
/// # Panics
/// If there is no such statement.
pub fn verify(index: usize, problems: usize, tries: usize, seed: u64) -> Finding {
    let statement = &STATEMENTS[index];
    let mut found = Finding {
        statement: statement.name,
        says: statement.says,
        problems: 0,
        searched: 0,
        violations: 0,
        tightness: 0.0,
        tightness_searched: 0.0,
    };
    let mut case = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add((index as u64) << 40);
    // One in a thousand says something, or the statement is never tried.
    let most = case.wrapping_add(1000 * problems as u64);
    while found.problems < problems && case != most {
        if let Some(quotient) = quotient(statement, &mut Dice::new(case)) {
            found.problems += 1;
            found.violations += usize::from(is_violation(quotient));
            found.tightness = found.tightness.max(quotient);
        }
        case = case.wrapping_add(1);
    }
    search(statement, case, tries, &mut found);
    found
}

/// No number is a violation too.
fn is_violation(quotient: f64) -> bool {
    quotient.is_nan() || quotient > 1.0 + ROUNDING
}

fn quotient(statement: &Statement, dice: &mut Dice) -> Option<f64> {
    dice.rewind();
    (statement.quotient)(dice)
}

/// Climbs: a few numbers of a case are bent, and what comes nearer to a violation is kept.
fn search(statement: &Statement, seed: u64, tries: usize, found: &mut Finding) {
    let mut best: Option<(f64, Dice)> = None;
    let (mut since, mut begun) = (0, 0);
    for case in 0..tries as u64 {
        let mut dice = match &best {
            Some((_, dice)) if begun >= BEGINNINGS => {
                let mut dice = dice.clone();
                // Another stream of numbers for each try.
                dice.reseed(seed.wrapping_add(case));
                dice.bend();
                dice
            }
            _ => Dice::new(seed.wrapping_add(case)),
        };
        begun += 1;
        since += 1;
        let Some(quotient) = quotient(statement, &mut dice) else { continue };
        found.searched += 1;
        found.violations += usize::from(is_violation(quotient));
        found.tightness_searched = found.tightness_searched.max(quotient);
        if best.as_ref().is_none_or(|(before, _)| quotient >= *before) {
            if best.as_ref().is_none_or(|(before, _)| quotient > *before * (1.0 + 1e-6)) {
                since = 0;
            }
            best = Some((quotient, dice));
        }
        if since > PATIENCE {
            (best, since, begun) = (None, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(name: &str) -> usize {
        STATEMENTS.iter().position(|statement| statement.name == name).unwrap_or(usize::MAX)
    }

    #[test]
    fn every_statement_holds_where_it_is_tried() {
        for index in 0..statements() {
            let found = verify(index, 100, 200, 1);
            assert_eq!((found.problems, found.violations), (100, 0), "{found:?}");
            assert!(found.searched > 50, "{found:?}");
        }
    }

    #[test]
    fn the_same_seed_finds_the_same() {
        assert_eq!(verify(2, 50, 100, 7), verify(2, 50, 100, 7));
        assert_ne!(verify(2, 50, 100, 7), verify(2, 50, 100, 8));
    }

    /// A constant that is too small by this factor would be seen: what the search finds meets so much of the bound.
    #[test]
    fn constants_that_are_too_small_are_caught() {
        let factors = [
            ("Lemma 1", 0.99),
            ("Lemma 3", 0.9),
            ("T1a", 0.9),
            ("T1b.2", 0.99),
            ("T1c", 0.2),
            ("T1d", 0.2),
            ("T2", 0.9),
            ("T2 windows", 0.15),
            ("T2 stale", 0.15),
            ("T3.1", 0.9),
            ("T3.2", 0.4),
            ("T3.3", 0.8),
            ("T6", 0.99),
        ];
        for (name, factor) in factors {
            let found = verify(index(name), 200, 8000, 1);
            let tightness = found.tightness.max(found.tightness_searched);
            assert!(tightness > factor, "{name}: {tightness}");
        }
    }

    #[test]
    fn a_rate_above_the_limit_violates() {
        // Lemma 1 at three times the rate that it allows.
        fn too_fast(dice: &mut Dice) -> Option<f64> {
            let problem = super::super::problems::Problem::draw(super::super::problems::Class::Growing, dice);
            let (before, gradient) = problem.at(&problem.start);
            let rate = 3.0 / problem.smoothness;
            let x: Vec<f64> = problem.start.iter().zip(&gradient).map(|(x, g)| x - rate * g).collect();
            let square: f64 = gradient.iter().map(|g| g * g).sum();
            Some(super::super::descent(rate, square) / (before - problem.at(&x).0).max(1e-12))
        }
        let statement = Statement { name: "too fast", says: "", quotient: too_fast };
        assert!((0..100).any(|seed| quotient(&statement, &mut Dice::new(seed)).is_some_and(is_violation)));
    }
}
