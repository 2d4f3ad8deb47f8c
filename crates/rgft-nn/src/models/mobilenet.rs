//! MobileNetV2 (Sandler et al. 2018): inverted residuals with linear bottlenecks and depthwise convolutions.
//!
//! `model_type` `mobilenet_v2`, under the names of torchvision (`features.3.conv.0.0`, `classifier.1`) or, where the folder
//! has those, of timm (`blocks.1.1.conv_pw`, `classifier`). Keys: `width_mult`, `dropout`, and, where they are not the
//! published ones, `inverted_residual_setting` (a list of `[expansion, channels, blocks, stride]`), `stem_channels` and
//! `last_channel`.
//!
//! Cut levels: 0 the stem, `1 + b` block b, then the last convolution, and the head. A block is a layer.

mod build;

pub(crate) use build::load;
