//! The planner: which cut, which components and how many examples make the most of the FLOPs that are left.
//!
//! ```text
//! max over cut, S, m     (W(S)·w̄(S)^γ)^β · D(m, n)    W = Σ_{i∈S} w_i·a_i,  w̄ = W / (Σ_{i∈S} a_i + Σ_i a_i / 20)
//!
//! subject to             n·step(cut, S) + fill(cut)·(m − stored) ≤ left
//! ```
//!
//! a_i is how much of component i there is: its parameters, each as often as an example uses it, which is the FLOPs of its
//! weight gradient wherever that is a product. w_i is what each of those is worth: how hard the error pulls there. step are
//! the FLOPs of an example in a step: forward and dX from the cut up, c_i of every component, and bringing δ to those at
//! the cut. Below the cut an example is computed once and kept, for `fill` FLOPs, unless it is stored already. n examples
//! pass in all, of
//! which m are different ones; each repetition is worth a part q of the one before:
//!
//! ```text
//! D(m, n) = m·(1 − q^{n/m}) / (1 − q)
//! ```
//!
//! So a deep cut buys reach, a high one repetitions, and few components buy steps. γ, the focus, says how much more a FLOP
//! counts where w is large: with γ = 0 the planner spreads over whatever promises anything, because forward and dX must
//! be paid in any case. Updating a component at which the error pulls little is not merely useless: it fits the noise.
//! The twentieth of the model beside Σa keeps a component with hardly any parameters from deciding how focused a plan is.
//!
//! β, the breadth, weighs what a step moves against the number of steps. With β = 1 a single step on everything would be
//! as good as two on either half; but a step that moves more bends the loss more, and later steps see what earlier ones did.
//!
//! For one cut and m, V rises with Σwa and falls with Σa and Σc, so S is filled in the order of w and the best length
//! is kept; a second start is the one component that pays most alone. Each is improved by taking single ones in or out, and
//! the better one is taken. With equal amounts and costs that is the optimum.

use std::ops::Range;

/// A component as the planner sees it. FLOPs are per example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// What each use of a parameter of it is worth. The planner takes none that is not worth more than 0.
    pub worth: f64,
    /// How many uses there are in an example, in FLOPs of a weight gradient.
    pub amount: f64,
    /// FLOPs of its dW and update: all that it costs where δ is carried past it anyway (cut < depth).
    pub cost: f64,
    /// FLOPs where backward ends at it (cut = depth): δ must still be brought to this component inside its block.
    pub cost_at_cut: f64,
    /// The highest cut at which it can be updated.
    pub depth: usize,
}

impl Candidate {
    fn cost_at(&self, cut: usize) -> f64 {
        if self.depth == cut { self.cost_at_cut } else { self.cost }
    }
}

/// What a cut costs, in FLOPs per example.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cut {
    /// Forward from here up and dX down to here, nothing being updated; and the prefix, where it is not kept.
    pub step: f64,
    /// Bringing an example here, once, where it is kept.
    pub fill: f64,
    /// Examples that are here already; one that is on the way counts in part.
    pub stored: f64,
}

/// What is to be spent, and on what.
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    /// The components.
    pub candidates: &'a [Candidate],
    /// By level.
    pub cuts: &'a [Cut],
    /// Components that are active whatever they are worth, each once.
    pub forced: &'a [usize],
    /// Different examples that there are.
    pub examples: usize,
    /// FLOPs to spend.
    pub left: f64,
    /// γ.
    pub focus: f64,
    /// β, 0 < β ≤ 1.
    pub breadth: f64,
    /// q, 0 < q < 1.
    pub repetition: f64,
}

/// What the planner chose.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Level at which backward ends.
    pub cut: usize,
    /// Indices of the active candidates, ascending.
    pub active: Vec<usize>,
    /// How many different examples to learn from.
    pub examples: usize,
    /// FLOPs of an example in a step.
    pub step: f64,
    /// What all of it is worth, in no unit: only for comparison.
    pub value: f64,
}

/// The largest number of passes over the same examples that is planned for: at the default `repetition` more are worth nothing.
pub const MOST_REPETITIONS: f64 = 64.0;
/// The part of the model that counts towards the mean worth of a plan besides what it updates.
const LEAST_PART: f64 = 0.05;
/// Passes over the candidates, each of which may take any of them in or out.
const MOST_PASSES: usize = 8;
/// How often an example may be seen again, as the planner tries it.
const REPETITIONS: [f64; 12] = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, MOST_REPETITIONS];

impl Problem<'_> {
    /// The best cut, components and number of examples. Deterministic; among equals the highest cut.
    pub fn solve(&self) -> Choice {
        let choices = (0..=self.highest_cut()).rev().map(|cut| self.at(cut));
        let best = choices.reduce(|best, next| if next.value > best.value { next } else { best });
        best.unwrap_or(Choice { cut: 0, active: Vec::new(), examples: self.examples, step: 0.0, value: 0.0 })
    }

    /// The highest level at which backward may end: no forced component lies below it.
    pub fn highest_cut(&self) -> usize {
        let depths = self.forced.iter().map(|&i| self.candidates[i].depth);
        depths.fold(self.cuts.len().saturating_sub(1), usize::min)
    }

    /// The best choice with the cut at this level, which is [`Problem::highest_cut`] at most.
    pub fn at(&self, cut: usize) -> Choice {
        let cost = |i: usize| self.candidates[i].cost_at(cut);
        let open = |i: &usize| {
            let Candidate { worth, depth, .. } = self.candidates[*i];
            worth > 0.0 && worth.is_finite() && depth >= cut && !self.forced.contains(i)
        };
        let mut order: Vec<usize> = (0..self.candidates.len()).filter(open).collect();
        // A stable sort: equals stay in the order of their indices.
        order.sort_by(|&a, &b| self.candidates[b].worth.total_cmp(&self.candidates[a].worth));

        let with = |mut chosen: Chosen, i: usize, sign: f64| {
            let Candidate { worth, amount, .. } = self.candidates[i];
            chosen.add(worth, sign * amount, sign * cost(i));
            chosen
        };
        let forced = self.forced_alone(cut);
        let value = |chosen: Chosen| self.value(cut, chosen).0;

        // Items of unequal size may fit together better than a start: single ones are taken in or out while that pays.
        let improved = |start: Range<usize>| {
            let mut is_in: Vec<bool> = (0..order.len()).map(|n| start.contains(&n)).collect();
            let members = |is_in: &[bool]| -> Vec<usize> {
                order.iter().zip(is_in).filter(|(_, is_in)| **is_in).map(|(&i, _)| i).collect()
            };
            for _ in 0..MOST_PASSES {
                // Summed anew, or what went in and out again would leave its rounding behind.
                let before = members(&is_in);
                let mut kept = before.iter().fold(forced, |chosen, &i| with(chosen, i, 1.0));
                let mut best = value(kept);
                for (is_in, &i) in is_in.iter_mut().zip(&order) {
                    let other = with(kept, i, if *is_in { -1.0 } else { 1.0 });
                    let promised = value(other);
                    if promised > best * (1.0 + 1e-12) {
                        (best, kept, *is_in) = (promised, other, !*is_in);
                    }
                }
                if members(&is_in) == before {
                    break;
                }
            }
            self.of(cut, &members(&is_in))
        };
        // Two starts: the worthiest, as many as pay; and the one that pays most alone, where the worthiest is too dear.
        let sums = order.iter().scan(forced, |chosen, &i| {
            *chosen = with(*chosen, i, 1.0);
            Some(*chosen)
        });
        let length = position_of_largest([forced].into_iter().chain(sums).map(value));
        let together = improved(0..length);
        if order.is_empty() {
            return together;
        }
        let single = position_of_largest(order.iter().map(|&i| value(with(forced, i, 1.0))));
        let alone = improved(single..single + 1);
        if alone.value > together.value { alone } else { together }
    }

    /// The forced candidates at this cut, and the part of the model that always counts towards the mean worth.
    fn forced_alone(&self, cut: usize) -> Chosen {
        let all: f64 = self.candidates.iter().map(|candidate| candidate.amount).sum();
        let mut chosen = Chosen { amount: LEAST_PART * all, ..Chosen::default() };
        let add = |&i: &usize| {
            let candidate = &self.candidates[i];
            chosen.add(self.worth_of(i), candidate.amount, candidate.cost_at(cut));
        };
        self.forced.iter().for_each(add);
        chosen
    }

    /// These candidates and the forced ones, with the cut at this level, which is [`Problem::highest_cut`] at most.
    pub fn of(&self, cut: usize, active: &[usize]) -> Choice {
        let mut chosen = self.forced_alone(cut);
        let mut active: Vec<usize> = active.iter().copied().filter(|i| !self.forced.contains(i)).collect();
        active.sort_unstable();
        active.dedup();
        for &i in &active {
            chosen.add(self.worth_of(i), self.candidates[i].amount, self.candidates[i].cost_at(cut));
        }
        active.extend(self.forced);
        active.sort_unstable();
        let (value, examples) = self.value(cut, chosen);
        Choice { cut, active, examples, step: self.cuts[cut].step + chosen.price, value }
    }

    fn worth_of(&self, i: usize) -> f64 {
        let worth = self.candidates[i].worth;
        if worth.is_finite() { worth.max(0.0) } else { 0.0 }
    }

    /// What these components are worth at this cut, and from how many examples.
    fn value(&self, cut: usize, chosen: Chosen) -> (f64, usize) {
        let Cut { step, fill, stored } = self.cuts[cut];
        let (step, all) = (step + chosen.price, self.examples as f64);
        let seen = |repetitions: f64| {
            // The examples that `left` pays for when each is seen so often.
            let known = self.left / (repetitions * step).max(f64::MIN_POSITIVE);
            let m = if known <= stored {
                known
            } else {
                (self.left + fill * stored) / (repetitions * step + fill).max(f64::MIN_POSITIVE)
            };
            if m < all {
                return (distinct(m, m * repetitions, self.repetition), m);
            }
            let n = (self.left - fill * (all - stored).max(0.0)) / step.max(f64::MIN_POSITIVE);
            (distinct(all, n, self.repetition), all)
        };
        let (d, m) = REPETITIONS
            .map(seen)
            .into_iter()
            .fold((0.0, 1.0), |best, next| if next.0 > best.0 { next } else { best });
        let mean = if chosen.amount > 0.0 { chosen.worth / chosen.amount } else { 0.0 };
        let step = (chosen.worth * mean.powf(self.focus)).powf(self.breadth);
        (step * d, (m.ceil() as usize).clamp(1, self.examples.max(1)))
    }
}

/// Sums over the active components.
#[derive(Clone, Copy, Debug, Default)]
struct Chosen {
    /// Σ w·a.
    worth: f64,
    /// Σ a, and the part of the model that always counts.
    amount: f64,
    /// Σ c at this cut.
    price: f64,
}

impl Chosen {
    fn add(&mut self, worth: f64, amount: f64, price: f64) {
        self.worth += worth * amount;
        self.amount += amount;
        self.price += price;
    }
}

/// Where the first of the largest values stands; 0 where there are none.
fn position_of_largest(values: impl Iterator<Item = f64>) -> usize {
    let larger = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    values.enumerate().reduce(larger).map_or(0, |(n, _)| n)
}

/// `m·(1 − q^{n/m}) / (1 − q)`: what n passing examples are worth, of which m are different.
fn distinct(m: f64, n: f64, q: f64) -> f64 {
    if m <= 0.0 || n <= 0.0 { 0.0 } else { m * (1.0 - q.powf(n / m)) / (1.0 - q) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(worth: f64, cost: f64, depth: usize) -> Candidate {
        Candidate { worth, amount: cost, cost, cost_at_cut: cost, depth }
    }

    /// The largest value over every cut and every subset.
    fn exhaustive(problem: &Problem) -> f64 {
        let value = |cut: usize, set: u32| {
            let members = |i: &usize| set >> i & 1 == 1;
            let mut chosen = problem.forced_alone(cut);
            for i in (0..problem.candidates.len()).filter(members) {
                let Candidate { worth, amount, depth, .. } = problem.candidates[i];
                if depth < cut {
                    return f64::NEG_INFINITY;
                }
                if !problem.forced.contains(&i) {
                    chosen.add(worth, amount, problem.candidates[i].cost_at(cut));
                }
            }
            let forced = problem.forced.iter().all(members);
            if forced { problem.value(cut, chosen).0 } else { f64::NEG_INFINITY }
        };
        let sets = 0..1u32 << problem.candidates.len();
        let all = (0..problem.cuts.len()).flat_map(|cut| sets.clone().map(move |set| (cut, set)));
        all.map(|(cut, set)| value(cut, set)).fold(f64::NEG_INFINITY, f64::max)
    }

    #[derive(Clone, Debug)]
    struct Numbers {
        candidates: Vec<Candidate>,
        cuts: Vec<Cut>,
        forced: Vec<usize>,
        left: f64,
        focus: f64,
        breadth: f64,
    }

    impl Numbers {
        fn problem(&self) -> Problem<'_> {
            Problem {
                candidates: &self.candidates,
                cuts: &self.cuts,
                forced: &self.forced,
                examples: 100,
                left: self.left,
                focus: self.focus,
                breadth: self.breadth,
                repetition: 0.8,
            }
        }
    }

    fn numbers(
        costs: impl Strategy<Value = f64> + Clone,
        extra: impl Strategy<Value = f64> + Clone,
    ) -> impl Strategy<Value = Numbers> {
        let cut = (1.0..30.0f64, 0.0..20.0f64, 0.0..100.0f64).prop_map(|(step, fill, stored)| Cut {
            step,
            fill,
            stored,
        });
        proptest::collection::vec(cut, 1..4).prop_flat_map(move |cuts| {
            let candidate = (0.1..50.0f64, costs.clone(), extra.clone(), 0..cuts.len()).prop_map(
                |(worth, cost, extra, depth)| Candidate {
                    cost_at_cut: cost + extra,
                    ..candidate(worth, cost, depth)
                },
            );
            let forced = proptest::collection::vec(0usize..8, 0..2);
            let candidates = proptest::collection::vec(candidate, 1..8);
            (candidates, 10.0..9000.0f64, forced, 0.0..2.0f64, 0.2..=1.0f64, Just(cuts)).prop_map(
                |(candidates, left, mut forced, focus, breadth, cuts)| {
                    forced.retain(|&i| i < candidates.len());
                    forced.dedup();
                    Numbers { candidates, cuts, forced, left, focus, breadth }
                },
            )
        })
    }

    fn check(numbers: &Numbers, share_of_optimum: f64) -> Result<(), TestCaseError> {
        let problem = numbers.problem();
        let choice = problem.solve();
        let cost = |&i: &usize| numbers.candidates[i].cost_at(choice.cut);
        let step = numbers.cuts[choice.cut].step + choice.active.iter().map(cost).sum::<f64>();
        prop_assert!((choice.step - step).abs() <= 1e-9 * step, "{choice:?}: a step costs {step}");
        prop_assert!(choice.active.is_sorted_by(|a, b| a < b));
        prop_assert!(choice.active.iter().all(|&i| numbers.candidates[i].depth >= choice.cut));
        prop_assert!(numbers.forced.iter().all(|i| choice.active.contains(i)));
        prop_assert!((1..=100).contains(&choice.examples));
        prop_assert_eq!(&problem.of(choice.cut, &choice.active), &choice);
        prop_assert!(choice.value >= problem.of(choice.cut, &[]).value);
        let optimum = exhaustive(&problem);
        prop_assert!(choice.value >= share_of_optimum * optimum * (1.0 - 1e-9), "{choice:?} of {optimum}");
        prop_assert!(choice.value <= optimum * (1.0 + 1e-9));
        Ok(())
    }

    proptest! {
        #[test]
        fn comes_near_the_optimum(numbers in numbers(0.1..30.0, 0.0..10.0)) {
            check(&numbers, 0.9)?;
        }

        #[test]
        fn is_optimal_where_costs_are_equal(numbers in numbers(Just(7.0), Just(0.0))) {
            check(&numbers, 1.0)?;
        }
    }

    fn cuts() -> Vec<Cut> {
        // Three levels of equal size: a level forward is 1, so is its dX.
        (0..3).map(|cut| Cut { step: 2.0 * (3 - cut) as f64, fill: cut as f64, stored: 0.0 }).collect()
    }

    fn three(worths: [f64; 3], left: f64) -> Choice {
        let candidates: Vec<Candidate> =
            worths.iter().enumerate().map(|(i, &w)| candidate(w, 1.0, i)).collect();
        let numbers = Numbers { candidates, cuts: cuts(), forced: vec![], left, focus: 1.0, breadth: 1.0 };
        numbers.problem().solve()
    }

    #[test]
    fn errors_on_top_make_a_high_cut_and_errors_below_reach_down_alone() {
        // Three passes over 100 examples cost full fine-tuning 2700.
        let top = three([1.0, 1.0, 4.0], 810.0);
        assert_eq!((top.cut, top.active), (2, vec![2]));
        let bottom = three([4.0, 1.0, 1.0], 810.0);
        assert_eq!((bottom.cut, bottom.active), (0, vec![0]));
        let everywhere = three([2.0, 2.0, 2.0], 810.0);
        assert_eq!(everywhere.active.len(), 3 - everywhere.cut);
    }

    #[test]
    fn little_budget_learns_from_fewer_examples() {
        assert!(three([1.0, 1.0, 4.0], 100.0).examples < 40);
        assert_eq!(three([1.0, 1.0, 4.0], 2000.0).examples, 100);
    }

    #[test]
    fn where_breadth_counts_for_less_steps_are_narrower_and_more() {
        let candidates: Vec<Candidate> = (0..3).map(|depth| candidate(1.0, 1.0, depth)).collect();
        let cut = |breadth| {
            let candidates = candidates.clone();
            let numbers =
                Numbers { candidates, cuts: cuts(), forced: vec![], left: 810.0, focus: 0.0, breadth };
            numbers.problem().solve().cut
        };
        assert_eq!((cut(1.0), cut(0.5)), (0, 2));
    }

    #[test]
    fn a_component_of_hardly_any_parameters_makes_no_plan_alone() {
        let mut candidates: Vec<Candidate> = (0..8).map(|_| candidate(1.0, 1.0, 0)).collect();
        candidates[0] = Candidate { worth: 30.0, amount: 0.05, ..candidates[0] };
        let numbers =
            Numbers { candidates, cuts: cuts(), forced: vec![], left: 810.0, focus: 0.75, breadth: 1.0 };
        assert!(numbers.problem().solve().active.len() > 4);
    }

    #[test]
    fn what_is_forced_may_be_enough_and_the_worthiest_too_dear() {
        let solve = |candidates: Vec<Candidate>, breadth| {
            let cuts = vec![Cut { step: 0.5, fill: 0.0, stored: 0.0 }];
            let numbers = Numbers { candidates, cuts, forced: vec![0], left: 100.0, focus: 0.75, breadth };
            numbers.problem().solve().active
        };
        let sized = |worth, amount, cost| Candidate { amount, ..candidate(worth, cost, 0) };
        let (x, y) = (sized(50.0, 0.02, 10.0), sized(100.0, 0.01, 10.5));
        assert_eq!(solve(vec![sized(1.0, 1.0, 0.5), x, y], 1.0), [0]);
        // Nothing is forced but a fresh head, which is worth nothing.
        let (dear, cheap) = (sized(10.0, 20.0, 200.0), sized(9.0, 1.0, 1.0));
        assert_eq!(solve(vec![sized(0.0, 0.0, 0.0), dear, cheap], 0.3), [0, 2]);
    }

    #[test]
    fn what_is_stored_is_not_paid_again() {
        let candidates = [candidate(1.0, 1.0, 0), candidate(1.1, 1.0, 1), candidate(1.2, 1.0, 2)];
        let mut numbers = Numbers {
            candidates: candidates.to_vec(),
            cuts: cuts(),
            forced: vec![],
            left: 300.0,
            focus: 0.0,
            breadth: 1.0,
        };
        let before = numbers.problem().at(2).value;
        numbers.cuts[2].stored = 100.0;
        assert!(numbers.problem().at(2).value > 1.3 * before);
    }

    #[test]
    fn nothing_is_spent_on_no_worth() {
        let candidates = [candidate(0.0, 1.0, 0), candidate(f64::NAN, 1.0, 0), candidate(3.0, 1.0, 1)];
        let numbers = Numbers {
            candidates: candidates.to_vec(),
            cuts: cuts(),
            forced: vec![1],
            left: 100.0,
            focus: 1.0,
            breadth: 0.5,
        };
        assert_eq!(numbers.problem().solve().active, [1, 2]);
    }
}
