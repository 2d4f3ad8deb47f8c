//! From BF16 and F16 to F32 and back, to the bit: what a half-precision base goes through when it is fine-tuned.

use half::f16;
use safetensors::tensor::Dtype;

/// How the scalars of a base become those that are compared with the fine-tuned ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Widening {
    /// They stay.
    #[default]
    None,
    /// BF16 → F32.
    Bf16,
    /// F16 → F32.
    F16,
}

impl Widening {
    /// From the base's type to the fine-tuned one's; nothing if bits would be lost.
    pub(crate) fn between(base: Dtype, tuned: Dtype) -> Option<Self> {
        match (base, tuned) {
            _ if base == tuned => Some(Self::None),
            (Dtype::BF16, Dtype::F32) => Some(Self::Bf16),
            (Dtype::F16, Dtype::F32) => Some(Self::F16),
            _ => None,
        }
    }

    /// Scalars of the base as those of the fine-tuned model.
    pub(crate) fn widen(self, bytes: Vec<u8>) -> Vec<u8> {
        let words = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        match self {
            Self::None => bytes,
            Self::Bf16 => words().flat_map(|word| (u32::from(word) << 16).to_le_bytes()).collect(),
            Self::F16 => words().flat_map(|word| f16::from_bits(word).to_f32().to_le_bytes()).collect(),
        }
    }

    /// The inverse of [`Widening::widen`]; what did not come from it is rounded.
    pub(crate) fn narrow(self, bytes: Vec<u8>) -> Vec<u8> {
        let words = || bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        match self {
            Self::None => bytes,
            Self::Bf16 => words().flat_map(|word| ((word >> 16) as u16).to_le_bytes()).collect(),
            Self::F16 => {
                words().flat_map(|word| f16::from_f32(f32::from_bits(word)).to_bits().to_le_bytes()).collect()
            }
        }
    }
}
