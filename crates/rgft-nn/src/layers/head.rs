//! The task head: `z = classifier(dropout(f(dense(pool(x)))))`, the dense layer being optional.
//!
//! `pool` makes one row of a sequence's tokens: their mean, or the first.

use rgft_core::{ComponentKind, Extent, Slices};
use rgft_kernels::cpu::activation::Activation;
use rgft_kernels::cpu::pooling::Pool;

use super::linear::Linear;
use super::{Block, Context, Part, Sinks, all_if, whole};
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Pooling, an optional dense layer, and the classifier.
#[derive(Clone, Debug)]
pub struct Head {
    /// How tokens become one row.
    pub pool: Pool,
    /// The dense layer before the classifier.
    pub dense: Option<(Linear, Activation)>,
    /// The last layer, `[outputs, hidden]`.
    pub classifier: Linear,
    /// Probability of dropping an element of the classifier's input.
    pub dropout: f32,
}

impl Block for Head {
    /// `x` `[tokens, hidden]` → logits `[sequences, outputs]`.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let mut pooled = cx.engine.tensor(cx.lengths().len(), x.cols());
        cx.engine.kernels.pool(self.pool, x.data(), x.cols(), cx.lengths(), pooled.data_mut());
        if let Some((dense, activation)) = &self.dense {
            let mut inner = dense.forward_without_bias(cx, &pooled);
            dense.save_input(cx, pooled, tape);
            let bias = dense.bias(cx);
            let mut activated = cx.engine.tensor(inner.rows(), inner.cols());
            cx.engine.kernels.bias_activation(*activation, inner.data_mut(), bias, activated.data_mut());
            if !cx.needs[self.classifier.site].dx.is_none() {
                tape.push(inner);
            }
            pooled = activated;
        }
        if let Some(dropout) = cx.engine.dropout(self.classifier.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, pooled.data_mut());
        }
        let logits = self.classifier.forward(cx, &pooled);
        self.classifier.save_input(cx, pooled, tape);
        logits
    }

    /// The output residual `r` `[sequences, outputs]` → dx `[tokens, hidden]`, where something below needs it.
    fn backward(&self, cx: Context, residual: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        let input = self.classifier.saved_input(cx, tape);
        self.classifier.backward_parameters(cx, input.as_ref(), &residual, sinks);
        let mut d = self.classifier.backward_input(cx, &residual)?;
        if let Some(dropout) = cx.engine.dropout(self.classifier.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, d.data_mut());
        }
        if let Some((dense, _)) = &self.dense {
            let slope = tape.pop();
            let (cols, whole) = (d.cols(), 0..d.cols());
            cx.engine.kernels.activation_backward(slope.data(), d.data_mut(), cols, &[whole]);
            let input = dense.saved_input(cx, tape);
            dense.backward_parameters(cx, input.as_ref(), &d, sinks);
            d = dense.backward_input(cx, &d)?;
        }
        let mut dx = cx.engine.tensor(cx.lengths().iter().sum(), d.cols());
        cx.engine.kernels.pool_backward(self.pool, d.data(), d.cols(), cx.lengths(), dx.data_mut());
        Some(dx)
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        for linear in self.dense.iter().map(|(dense, _)| dense).chain([&self.classifier]) {
            linear.products(&needs[linear.site], extent.examples(), out);
        }
    }

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], below: bool, observe: bool) {
        let mut dense_needed = false;
        if let Some((dense, _)) = &self.dense {
            let own = &mut needs[dense.site];
            own.dx = all_if(below);
            own.observe = observe;
            dense_needed = !own.is_empty();
        }
        let own = &mut needs[self.classifier.site];
        own.dx = all_if(below || dense_needed);
        own.observe = observe;
    }

    fn parts(&self, parameters: &Parameters, _: Grain) -> Vec<Part> {
        let slices = |linear: &Linear| linear.parameters().map(|p| whole(parameters, p)).collect::<Vec<_>>();
        let is_fresh = |linear: &Linear| parameters[linear.weight].fresh;
        let part = |name: &str, slices| Part::new(name, ComponentKind::TaskHead, slices);
        let classifier = slices(&self.classifier);
        match &self.dense {
            // A pooler that was loaded is tracked like everything else; the fresh classifier above it is not.
            Some((dense, _)) if is_fresh(dense) != is_fresh(&self.classifier) => {
                vec![part("dense", slices(dense)), part("classifier", classifier)]
            }
            Some((dense, _)) => vec![part("", [slices(dense), classifier].concat())],
            None => vec![part("", classifier)],
        }
    }

    fn extent(&self, entering: &Extent) -> Extent {
        row_per_example(entering)
    }
}

/// The needs of a head that is one linear map.
pub(super) fn set_head_needs(map: &Linear, needs: &mut [Needs], below: bool, observe: bool) {
    let own = &mut needs[map.site];
    own.dx = all_if(below);
    own.observe = observe;
}

/// The component of such a head.
pub(super) fn head_part(map: &Linear, parameters: &Parameters) -> Vec<Part> {
    let slices = map.parameters().map(|parameter| whole(parameters, parameter)).collect();
    vec![Part::new("", ComponentKind::TaskHead, slices)]
}

/// A row per example: what leaves a head.
pub(super) fn row_per_example(entering: &Extent) -> Extent {
    Extent::Sequences(vec![1; entering.examples()])
}
