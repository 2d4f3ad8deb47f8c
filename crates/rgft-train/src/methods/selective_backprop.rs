//! `selective-backprop`: everything is updated, from the examples with large losses.
//!
//! Each example passes forward, and is learnt from with the chance `percentile(loss)^β` (`selectivity`): with β = 2, a third
//! of them. What is computed is forward for all and everything for those.
//!
//! Source: Jiang et al., *Accelerating deep learning by focusing on the biggest losers* (2019), with its history of 1,024
//! examples. Here the norm of the output residual stands for the loss: with two classes it orders examples alike.

use super::fixed::Fixed;
use super::{Method, Plan, Standing};
use crate::Workload;

pub(super) struct SelectiveBackprop {
    selectivity: f64,
    plan: Option<Plan>,
}

impl SelectiveBackprop {
    pub(super) fn new(selectivity: f64, work: &Workload) -> Self {
        Self { selectivity, plan: Fixed::full(&work.components, work.model.levels()).fixed().cloned() }
    }
}

impl Method for SelectiveBackprop {
    fn selectivity(&self) -> Option<f64> {
        Some(self.selectivity)
    }

    fn may_freeze(&self) -> bool {
        false
    }

    fn plan(&mut self, _: Standing) -> Option<Plan> {
        self.plan.take()
    }
}
