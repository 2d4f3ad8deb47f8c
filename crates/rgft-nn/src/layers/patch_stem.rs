//! Pictures `[examples, height, width, channels]` to tokens: square patches through a [`PatchEmbedding`].

use rgft_core::{Extent, Images, Inputs, Slices};

use super::patch_embedding::PatchEmbedding;
use super::{Context, Part, Sinks, Stem};
use crate::NnError;
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Patches of pictures of one size.
#[derive(Clone, Debug)]
pub struct PatchStem {
    /// Patches to tokens.
    pub embedding: PatchEmbedding,
    /// Rows of a picture.
    pub height: usize,
    /// Columns of a picture.
    pub width: usize,
    /// Colours.
    pub channels: usize,
    /// Rows and columns of a patch, which divide those of the picture.
    pub patch: usize,
}

/// The pictures of inputs that a stem has checked.
///
/// # Panics
/// If they are none.
pub(crate) fn images(inputs: &Inputs) -> &Images {
    match inputs {
        Inputs::Images(images) => images,
        _ => panic!("inputs were checked to be images"),
    }
}

impl Stem for PatchStem {
    /// `[examples · tokens, hidden]`.
    fn forward(&self, cx: Context, inputs: &Inputs, tape: &mut Tape) -> Tensor {
        let Images { pixels, height, width, channels } = images(inputs);
        let scalars = self.embedding.projection.input;
        let mut patches = cx.engine.tensor(pixels.len() / scalars, scalars);
        cx.engine.kernels.image_patches(pixels, *height, *width, *channels, self.patch, patches.data_mut());
        self.embedding.forward(cx, patches, tape)
    }

    fn backward(&self, cx: Context, _: &Inputs, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) {
        self.embedding.backward(cx, dy, tape, sinks);
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        self.embedding.products(needs, extent.examples(), out);
    }

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], observe: bool) {
        self.embedding.set_needs(needs, observe);
    }

    fn parts(&self, parameters: &Parameters, _: Grain) -> Vec<Part> {
        self.embedding.parts(parameters)
    }

    fn extent(&self, entering: &Extent) -> Extent {
        Extent::Sequences(vec![self.embedding.tokens; entering.examples()])
    }

    fn check(&self, _: &Parameters, inputs: &Inputs) -> Result<(), NnError> {
        let Inputs::Images(images) = inputs else { return Err(NnError::Inputs { expected: "images" }) };
        let found = [images.height, images.width, images.channels];
        let expected = [self.height, self.width, self.channels];
        if found != expected {
            return Err(NnError::ImageShape { found, expected });
        }
        Ok(())
    }
}
