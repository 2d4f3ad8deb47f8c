//! Residual networks (He et al. 2015).
//!
//! * `resnet-cifar`: 3×3 stem, three stages of basic blocks, depth `6n + 2`; where maps shrink, the shortcut pads with
//!   zero channels (option A) or projects (option B). Names `conv1`, `bn1`, `layer1.0.conv1`, …, `linear`.
//! * `resnet`: 7×7 stem and max pooling, four stages of basic (18, 34) or bottleneck blocks (50, 101, 152), projection
//!   shortcuts. Names of torchvision and timm: `conv1`, `bn1`, `layer1.0.conv1`, `layer1.0.downsample.0`, …, `fc`.
//!
//! Cut levels: 0 the stem, `1 + b` block b, the last the head. A block is a layer.

mod build;
mod config;

pub(crate) use build::load;
