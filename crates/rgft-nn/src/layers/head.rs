//! The task head: `z = classifier(dropout(f(dense(pool(x)))))`, the dense layer being optional.
//!
//! `pool` makes one row of a sequence's tokens: their mean, or the first.

use rgft_core::Slices;
use rgft_kernels::cpu::activation::Activation;
use rgft_kernels::cpu::pooling::Pool;

use super::linear::Linear;
use super::{Context, Sinks};
use crate::needs::Needs;
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

impl Head {
    /// `x` `[tokens, hidden]` → logits `[sequences, outputs]`.
    pub fn forward(&self, cx: Context, x: &Tensor, tape: &mut Tape) -> Tensor {
        let mut pooled = cx.engine.tensor(cx.lengths.len(), x.cols());
        cx.engine.kernels.pool(self.pool, x.data(), x.cols(), cx.lengths, pooled.data_mut());
        if let Some((dense, activation)) = &self.dense {
            let mut inner = dense.forward_without_bias(cx, &pooled);
            dense.save_input(cx, pooled, tape);
            let bias = cx.parameters.data(dense.bias);
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
    pub fn backward(
        &self,
        cx: Context,
        residual: Tensor,
        tape: &mut Tape,
        sinks: &mut Sinks,
    ) -> Option<Tensor> {
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
        let mut dx = cx.engine.tensor(cx.lengths.iter().sum(), d.cols());
        cx.engine.kernels.pool_backward(self.pool, d.data(), d.cols(), cx.lengths, dx.data_mut());
        Some(dx)
    }

    /// The products of forward and backward.
    pub fn products(&self, needs: &[Needs], lengths: &[usize], out: &mut Vec<Product>) {
        for linear in self.dense.iter().map(|(dense, _)| dense).chain([&self.classifier]) {
            linear.products(&needs[linear.site], lengths.len(), out);
        }
    }

    /// Sets what the head needs: `below` whether `δ` must leave it.
    pub fn set_needs(&self, needs: &mut [Needs], below: bool, observe: bool) {
        let whole_if = |condition: bool| if condition { Slices::All } else { Slices::None };
        let mut dense_needed = false;
        if let Some((dense, _)) = &self.dense {
            let own = &mut needs[dense.site];
            own.dx = whole_if(below);
            own.observe = observe;
            dense_needed = !own.is_empty();
        }
        let own = &mut needs[self.classifier.site];
        own.dx = whole_if(below || dense_needed);
        own.observe = observe;
    }
}
