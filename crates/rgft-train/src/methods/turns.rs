//! Methods whose layers take turns, whatever the data say.

use rgft_core::Component;

use super::{Method, Plan, Standing};
use crate::recipe::Recipe;
use crate::{TrainError, Workload};

/// Layers that are active one after the other, besides what always is.
pub(super) struct Turns {
    components: Vec<Component>,
    always: Vec<usize>,
    /// The layers of each turn.
    turns: Box<dyn Iterator<Item = Vec<usize>>>,
    /// Turns after which every layer may have had one.
    round: usize,
    /// Layers of a turn.
    together: usize,
    /// Whether the optimizer begins anew with each turn.
    restarts: bool,
    /// The most steps of a turn.
    most: usize,
    /// Steps of a turn in this run.
    length: usize,
    next: usize,
    /// Examples of a step.
    batch: usize,
    epochs: f64,
}

impl Turns {
    /// `turns` gives the layers of each turn, `together` of them, and never ends.
    ///
    /// # Errors
    /// If the model has no layers.
    pub(super) fn new(
        recipe: &Recipe,
        work: &Workload,
        always: Vec<usize>,
        together: usize,
        most: usize,
        restarts: bool,
        turns: impl Iterator<Item = Vec<usize>> + 'static,
    ) -> Result<Self, TrainError> {
        let layers = layers(&work.components);
        if layers.is_empty() {
            return Err(TrainError::Mismatch {
                problem: format!("{} lets layers take turns, and the model has none", recipe.method),
                hint: "use another method",
            });
        }
        Ok(Self {
            components: work.components.clone(),
            always,
            turns: Box::new(turns),
            round: layers.len().div_ceil(together),
            together,
            restarts,
            most,
            length: 0,
            next: 0,
            batch: recipe.batch_size * recipe.accumulation,
            epochs: recipe.epochs,
        })
    }

    fn plan_of(&self, layers: &[usize], levels: usize) -> Plan {
        let has_turn = |i: &usize| self.components[*i].layer.is_some_and(|layer| layers.contains(&layer));
        let mut active: Vec<usize> = (0..self.components.len()).filter(has_turn).collect();
        active.extend(&self.always);
        active.sort_unstable();
        active.dedup();
        Plan { restarts: self.restarts, ..Plan::uniform(&self.components, levels, active) }
    }

    /// As many steps that each layer may have a turn in a run that is short or has a small budget.
    fn length_of(&self, standing: &Standing) -> usize {
        let (costs, levels) = (standing.costs, standing.costs.cut.len());
        let layers = layers(&self.components);
        let price = |layers: &[usize]| {
            let plan = self.plan_of(layers, levels);
            let component = |&i: &usize| costs.component_at(i, self.components[i].depth, plan.cut);
            // A turn is seldom longer than an epoch, so what is stored below its cut is seldom read.
            costs.prefix[plan.cut] + costs.cut[plan.cut] + plan.active.iter().map(component).sum::<f64>()
        };
        let runs: Vec<&[usize]> = layers.windows(self.together.min(layers.len())).collect();
        let mean = runs.iter().map(|layers| price(layers)).sum::<f64>() / runs.len() as f64;
        let of_epochs = self.epochs * standing.examples.div_ceil(self.batch) as f64;
        let steps = of_epochs.min(standing.left / (mean * self.batch as f64));
        ((steps / self.round as f64) as usize).clamp(1, self.most)
    }
}

/// The numbers of the model's layers, ascending.
pub(super) fn layers(components: &[Component]) -> Vec<usize> {
    let mut layers: Vec<usize> = components.iter().filter_map(|component| component.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    layers
}

impl Method for Turns {
    fn trainable(&self, components: &[Component]) -> usize {
        let is_trained = |&i: &usize| components[i].layer.is_some() || self.always.contains(&i);
        (0..components.len()).filter(is_trained).map(|i| components[i].parameters).sum()
    }

    fn may_freeze(&self) -> bool {
        self.always.iter().all(|&i| self.components[i].depth > 0)
    }

    fn plan(&mut self, standing: Standing) -> Option<Plan> {
        if standing.step < self.next {
            return None;
        }
        if self.length == 0 {
            self.length = self.length_of(&standing);
        }
        self.next = standing.step + self.length;
        let layers = self.turns.next()?;
        Some(self.plan_of(&layers, standing.costs.cut.len()))
    }
}
