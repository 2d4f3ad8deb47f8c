//! The one trait behind which a device's kernels sit. Layers call it and nothing below it, so another device
//! is another room with another `impl`, and nothing above changes.

use std::ops::Range;

use crate::cpu::activation::{self, Activation};
use crate::cpu::attention::{self, AttentionSaved, Heads};
use crate::cpu::batch_norm::{self, NormSlopes, ScaleShift, Source};
use crate::cpu::conv::{self, ConvShape};
use crate::cpu::image_pool::{self, MapShape};
use crate::cpu::lstm::{self, LstmSaved, LstmWalk};
use crate::cpu::norm::{self, NormInput, NormWeights};
use crate::cpu::optimizer::{self, AdamW, Block, Sgd};
use crate::cpu::pooling::{self, Pool};
use crate::cpu::rope::{self, Rotation};
use crate::cpu::scalar::Dropout;
use crate::cpu::{embedding, gated, gru, instance_norm, loss, patches, residual, rms_norm, rows, time_major};
use crate::gemm::{Factor, Packed, Packing, Start};
use crate::timed::{Operand, Timed};
use crate::{Mat, MatMut, Precision, gemm};

/// The processor's kernels (see [`crate::cpu`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

/// Declares the trait and the CPU's `impl` from one table, so that the two cannot drift apart. What a kernel
/// computes, and its shapes, stand at the function it names.
macro_rules! kernels {
    ($($path:path => fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)?;)*) => {
        /// Everything a layer, loss, optimizer or signal computes, on buffers that the host can address.
        pub trait Kernels: Send + Sync {
            $(
                #[doc = concat!("See [`", stringify!($path), "`](crate::cpu).")]
                fn $name(&self, $($arg: $ty),*) $(-> $out)?;
            )*
        }

        impl Kernels for Cpu {
            $(
                fn $name(&self, $($arg: $ty),*) $(-> $out)? {
                    $path($($arg),*)
                }
            )*
        }

        impl Kernels for Timed {
            $(
                fn $name(&self, $($arg: $ty),*) $(-> $out)? {
                    let bytes = 0 $(+ match stringify!($arg) {
                        "table" => 0,
                        _ => Operand::bytes(&$arg),
                    })*;
                    self.call(stringify!($name), bytes, |cpu| cpu.$name($($arg),*))
                }
            )*
        }
    };
}

kernels! {
    gemm::gemm => fn gemm(a: Mat, b: Mat, c: MatMut, accumulate: bool, precision: Precision);
    gemm::pack => fn pack(mat: Mat, packing: Packing, precision: Precision) -> Packed;
    gemm::gemm_packed => fn gemm_packed(a: Factor, b: Factor, c: MatMut, start: Start, precision: Precision);

    activation::bias_activation => fn bias_activation(kind: Activation, x: &mut [f32], bias: &[f32], y: &mut [f32]);
    activation::bias_activation_in_place => fn bias_activation_in_place(kind: Activation, x: &mut [f32], bias: &[f32]);
    activation::activation_backward => fn activation_backward(
        slope: &[f32], dy: &mut [f32], cols: usize, ranges: &[Range<usize>],
    );

    norm::layer_norm => fn layer_norm(
        input: NormInput, weights: NormWeights, y: &mut [f32], saved: Option<(&mut [f32], &mut [f32])>,
    );
    norm::layer_norm_backward => fn layer_norm_backward(
        weight: &[f32], normalised: &[f32], scales: &[f32], d: &mut [f32],
    );

    rms_norm::rms_norm => fn rms_norm(
        x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32], saved: Option<(&mut [f32], &mut [f32])>,
    );
    rms_norm::rms_norm_backward => fn rms_norm_backward(
        weight: &[f32], normalised: &[f32], scales: &[f32], d: &mut [f32],
    );
    rope::rope => fn rope(rotation: Rotation, x: &mut [f32], cols: usize, width: usize, positions: &[u32], back: bool);
    gated::swiglu => fn swiglu(g: &mut [f32], u: &mut [f32], y: &mut [f32]);
    gated::swiglu_in_place => fn swiglu_in_place(g: &mut [f32], u: &[f32]);
    gated::swiglu_backward => fn swiglu_backward(
        dy: &[f32], g: &mut [f32], u: &mut [f32], cols: usize, ranges: &[Range<usize>],
    );
    residual::add_branch => fn add_branch(
        x: &mut [f32], cols: usize, branch: &[f32], bias: &[f32], dropout: Option<Dropout>,
    );

    attention::attention => fn attention(
        heads: Heads, q: &[f32], k: &[f32], v: &[f32], context: &mut [f32], probabilities: Option<&mut [f32]>,
    );
    attention::attention_backward => fn attention_backward(
        heads: Heads, active: &[usize], saved: AttentionSaved, dcontext: &[f32],
        dq: &mut [f32], dk: &mut [f32], dv: &mut [f32],
    );
    attention::attention_cached => fn attention_cached(
        heads: Heads, q: &[f32], k: &[f32], v: &[f32], context: &mut [f32],
    );

    embedding::look_up => fn look_up(table: &[f32], cols: usize, ids: &[u32], out: &mut [f32], assign: bool);
    embedding::scatter_add => fn scatter_add(d: &[f32], cols: usize, slots: &[u32], sums: &mut [f32]);

    lstm::lstm_cell => fn lstm_cell(gates: &mut [f32], c_previous: &[f32], c: &mut [f32], h: &mut [f32], hidden: usize);
    lstm::lstm_forward => fn lstm_forward(
        walk: LstmWalk, inputs: &[(Mat, Mat)], recurrent: Mat, bias: &[f32], y: &mut [f32], saved: Option<LstmSaved>,
    );
    lstm::lstm_backward => fn lstm_backward(walk: LstmWalk, recurrent: Mat, c: &[f32], dy: &[f32], gates: &mut [f32]);
    gru::gru_cell => fn gru_cell(
        gates: &mut [f32], u: &[f32], h_previous: &[f32], candidate: &mut [f32], h: &mut [f32], hidden: usize,
    );
    gru::gru_cell_backward => fn gru_cell_backward(
        gates: &mut [f32], h_previous: &[f32], candidate: &[f32], dy: &[f32], carried: &mut [f32], du: &mut [f32],
        hidden: usize,
    );
    time_major::gather_rows => fn gather_rows(
        x: &[f32], cols: usize, columns: Range<usize>, rows: &[u32], out: &mut [f32],
    );
    time_major::gather_rows_into_columns => fn gather_rows_into_columns(
        sources: [&[f32]; 2], rows: &[u32], out: &mut [f32], cols: usize, columns: Range<usize>,
    );

    pooling::pool => fn pool(kind: Pool, x: &[f32], cols: usize, lengths: &[usize], out: &mut [f32]);
    pooling::pool_backward => fn pool_backward(kind: Pool, d: &[f32], cols: usize, lengths: &[usize], dx: &mut [f32]);

    patches::image_patches => fn image_patches(
        pixels: &[f32], height: usize, width: usize, channels: usize, patch: usize, out: &mut [f32],
    );
    patches::series_patches => fn series_patches(
        x: &[f32], steps: usize, patch: usize, stride: usize, out: &mut [f32],
    );
    patches::tokens_of_patches => fn tokens_of_patches(
        projected: &[f32], bias: &[f32], class: &[f32], positions: &[f32], cols: usize, out: &mut [f32],
    );

    instance_norm::instance_units => fn instance_units(x: &[f32], steps: usize, epsilon: f32, units: &mut [f32]);
    instance_norm::instance_norm => fn instance_norm(x: &mut [f32], steps: usize, units: &[f32]);
    instance_norm::instance_denorm => fn instance_denorm(
        y: &mut [f32], horizon: usize, units: &[f32], slopes_only: bool,
    );

    rows::fill_rows => fn fill_rows(out: &mut [f32], bias: &[f32]);
    rows::add_column_sums => fn add_column_sums(
        x: &[f32], y: Option<&[f32]>, cols: usize, ranges: &[Range<usize>], sums: &mut [f32],
    );
    rows::drop_elements => fn drop_elements(dropout: Dropout, x: &mut [f32]);
    rows::drop_into => fn drop_into(dropout: Dropout, x: &[f32], y: &mut [f32]);
    rows::gather_columns => fn gather_columns(x: &[f32], cols: usize, ranges: &[Range<usize>], panel: &mut [f32]);
    rows::squared_norm => fn squared_norm(x: &[f32]) -> f64;
    rows::signed_group_sums => fn signed_group_sums(x: &[f32], signs: &[f32], groups: &[Range<usize>], out: &mut [f32]);
    rows::squared_group_norms => fn squared_group_norms(x: &[f32], cols: usize, groups: &[Range<usize>], out: &mut [f32]);

    loss::cross_entropy => fn cross_entropy(logits: &mut [f32], targets: &[u32], weight: f64) -> f64;
    loss::binary_cross_entropy => fn binary_cross_entropy(logits: &mut [f32], targets: &[f32], weight: f64) -> f64;
    loss::squared_error => fn squared_error(outputs: &mut [f32], targets: &[f32], weight: f64) -> f64;

    optimizer::adamw => fn adamw(block: Block, m: &mut [f32], v: &mut [f32], step: AdamW);
    optimizer::sgd => fn sgd(block: Block, m: &mut [f32], step: Sgd);

    conv::conv_forward => fn conv_forward(
        shape: ConvShape, x: &[f32], weight: &[f32], y: &mut [f32], precision: Precision,
    );
    conv::conv_backward_input => fn conv_backward_input(
        shape: ConvShape, weight: &[f32], delta: &[f32], dx: &mut [f32], add: bool, precision: Precision,
    );
    conv::conv_backward_weight => fn conv_backward_weight(
        shape: ConvShape, x: &[f32], delta: &[f32], rows: &[Range<usize>], dw: &mut [f32], add: bool,
        precision: Precision,
    );

    batch_norm::column_statistics => fn column_statistics(z: &[f32], mean: &mut [f32], variance: &mut [f32]);
    batch_norm::scale_shift_clip => fn scale_shift_clip(
        map: ScaleShift, z: Source, y: &mut [f32], mask: Option<&mut [f32]>,
    );
    batch_norm::clip_backward_sums => fn clip_backward_sums(
        d: &mut [f32], mask: Option<&[f32]>, z: Option<(&[f32], &[f32])>, sums: &mut [f32], products: &mut [f32],
    );
    batch_norm::batch_norm_backward => fn batch_norm_backward(
        slopes: NormSlopes, g: &[f32], z: Option<(&[f32], &[f32])>, dz: &mut [f32],
    );

    image_pool::max_pool => fn max_pool(shape: MapShape, x: &[f32], y: &mut [f32], winners: &mut [f32]);
    image_pool::pad_channels => fn pad_channels(
        shape: MapShape, x: &[f32], before: usize, channels_out: usize, y: &mut [f32],
    );
    image_pool::pad_channels_backward => fn pad_channels_backward(
        shape: MapShape, d: &[f32], before: usize, channels_out: usize, dx: &mut [f32],
    );
    image_pool::max_pool_backward => fn max_pool_backward(
        shape: MapShape, d: &[f32], winners: &[f32], dx: &mut [f32],
    );
}
