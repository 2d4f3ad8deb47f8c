//! Weights packed for products, kept for as long as they do not change.
//!
//! A weight that is trained changes at each step: packing it costs what the product would spend on it anyway, and keeping it
//! nothing but memory. So a weight is packed when a product meets it for the second time unchanged, which happens where it is
//! frozen and in passes without a step in between, and forgotten when a product meets it changed. What says so is its version
//! ([`Parameters::version`]). Numbers are those of products that pack for themselves, to the bit.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use rgft_kernels::gemm::{Packed, Packing};
use rgft_kernels::{Kernels, Mat, Precision};

use crate::parameters::Parameters;

/// How a weight `[out, in]` stands in a product, always as its right factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// `Wᵀ`, of forward.
    Transposed,
    /// `W`, of dX.
    AsItIs,
}

/// What an engine keeps.
#[derive(Debug, Default)]
pub(crate) struct PackedWeights(RefCell<HashMap<(usize, Form), Met>>);

/// A weight that a product has met.
#[derive(Debug)]
struct Met {
    version: u64,
    packed: Option<Rc<Packed>>,
}

impl PackedWeights {
    /// Weight `index`, which is `view` in its `form`, packed; `None` where packing saves nothing (yet).
    pub(crate) fn get(
        &self,
        (kernels, precision): (&dyn Kernels, Precision),
        (parameters, index): (&Parameters, usize),
        (form, view): (Form, Mat),
    ) -> Option<Rc<Packed>> {
        if precision == Precision::F32 {
            return None;
        }
        let version = parameters.version(index);
        let mut all = self.0.borrow_mut();
        match all.get_mut(&(index, form)) {
            Some(met) if met.version == version => {
                let pack = || Rc::new(kernels.pack(view, Packing::KeptRight, precision));
                Some(met.packed.get_or_insert_with(pack).clone())
            }
            _ => {
                all.insert((index, form), Met { version, packed: None });
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rgft_kernels::Cpu;

    use super::*;
    use crate::parameters::Parameter;

    #[test]
    fn only_what_stays_as_it_is_is_kept() {
        let mut parameters = Parameters::default();
        for _ in 0..2 {
            parameters.push(Parameter { shape: vec![2, 3], data: vec![1.0; 6], ..Parameter::default() });
        }
        let (kept, cpu) = (PackedWeights::default(), (&Cpu as &dyn Kernels, Precision::Bf16));
        let get = |parameters: &Parameters, index| {
            kept.get(cpu, (parameters, index), (Form::AsItIs, Mat::new(parameters.data(index), 2, 3)))
        };
        assert!(get(&parameters, 0).is_none() && get(&parameters, 1).is_none());
        let (first, second) = (get(&parameters, 0), get(&parameters, 1));
        let is_same = |a: &Option<Rc<Packed>>, b: &Option<Rc<Packed>>| match (a, b) {
            (Some(a), Some(b)) => Rc::ptr_eq(a, b),
            _ => false,
        };
        assert!(is_same(&first, &get(&parameters, 0)) && is_same(&second, &get(&parameters.clone(), 1)));
        parameters[0].data[0] = 2.0;
        assert!(get(&parameters, 0).is_none() && is_same(&second, &get(&parameters, 1)));
        // Another form is another product's.
        let turned = Mat::new(parameters.data(1), 2, 3).t();
        assert!(kept.get(cpu, (&parameters, 1), (Form::Transposed, turned)).is_none());
        // In f32 the library packs.
        assert!(kept.get((&Cpu, Precision::F32), (&parameters, 1), (Form::Transposed, turned)).is_none());
    }
}
