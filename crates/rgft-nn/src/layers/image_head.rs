//! The head of an image classifier: `z = classifier(dropout(mean over a map's pixels))`.

use rgft_core::{Extent, Slices};
use rgft_kernels::cpu::pooling::Pool;

use super::conv::maps;
use super::head::{head_part, row_per_example, set_head_needs};
use super::linear::Linear;
use super::{Block, Context, Part, Sinks};
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Global average pooling and the classifier.
#[derive(Clone, Debug)]
pub struct ImageHead {
    /// `[outputs, channels]`.
    pub classifier: Linear,
    /// Probability of dropping an element of the classifier's input.
    pub dropout: f32,
}

fn pixels_of_maps(extent: &Extent) -> Vec<usize> {
    let [examples, height, width] = maps(extent);
    vec![height * width; examples]
}

impl Block for ImageHead {
    /// `x` `[N·H·W, channels]` → logits `[N, outputs]`.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let lengths = pixels_of_maps(cx.extent);
        let mut pooled = cx.engine.tensor(lengths.len(), x.cols());
        cx.engine.kernels.pool(Pool::Mean, x.data(), x.cols(), &lengths, pooled.data_mut());
        if let Some(dropout) = cx.engine.dropout(self.classifier.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, pooled.data_mut());
        }
        let logits = self.classifier.forward(cx, &pooled);
        self.classifier.save_input(cx, pooled, tape);
        logits
    }

    /// The output residual `r` `[N, outputs]` → dx, where something below needs it.
    fn backward(&self, cx: Context, residual: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        let input = self.classifier.saved_input(cx, tape);
        self.classifier.backward_parameters(cx, input.as_ref(), &residual, sinks);
        let mut d = self.classifier.backward_input(cx, &residual)?;
        if let Some(dropout) = cx.engine.dropout(self.classifier.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, d.data_mut());
        }
        let mut dx = cx.engine.tensor(cx.extent.rows(), d.cols());
        let lengths = pixels_of_maps(cx.extent);
        cx.engine.kernels.pool_backward(Pool::Mean, d.data(), d.cols(), &lengths, dx.data_mut());
        Some(dx)
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        self.classifier.products(&needs[self.classifier.site], extent.examples(), out);
    }

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], below: bool, observe: bool) {
        set_head_needs(&self.classifier, needs, below, observe);
    }

    fn parts(&self, parameters: &Parameters, _: Grain) -> Vec<Part> {
        head_part(&self.classifier, parameters)
    }

    fn extent(&self, entering: &Extent) -> Extent {
        row_per_example(entering)
    }
}
