//! Which component owns which slice of which parameter.

use std::ops::Range;

use rgft_core::{Axis, Component};
use rgft_nn::models::Model;

/// A slice of a parameter, and the component that owns it.
#[derive(Clone, Debug)]
pub(super) struct Owned {
    pub(super) component: usize,
    pub(super) axis: Axis,
    pub(super) range: Range<usize>,
}

/// By parameter, the slices that it is cut into.
pub(super) struct Ownership {
    slices: Vec<Vec<Owned>>,
    components: usize,
}

impl Ownership {
    pub(super) fn new(model: &Model, components: &[Component]) -> Self {
        let mut slices = vec![Vec::new(); model.parameters().len()];
        for (component, slice) in
            components.iter().enumerate().flat_map(|(i, c)| c.slices.iter().map(move |s| (i, s)))
        {
            let owned = Owned { component, axis: slice.axis, range: slice.range.clone() };
            slices[slice.parameter].push(owned);
        }
        Self { slices, components: components.len() }
    }

    /// How many components there are.
    pub(super) fn components(&self) -> usize {
        self.components
    }

    /// The slices of a parameter.
    pub(super) fn of(&self, parameter: usize) -> &[Owned] {
        &self.slices[parameter]
    }

    /// Those along `axis`.
    pub(super) fn along(&self, parameter: usize, axis: Axis) -> impl Iterator<Item = &Owned> {
        self.slices[parameter].iter().filter(move |slice| slice.axis == axis)
    }

    /// The ranges of those along `axis`.
    pub(super) fn ranges(&self, parameter: usize, axis: Axis) -> Vec<Range<usize>> {
        self.along(parameter, axis).map(|slice| slice.range.clone()).collect()
    }
}
