//! The Vision Transformer (Dosovitskiy et al. 2021), as `transformers` names it, with a head for classification.
//!
//! `patches, class token, positions → [attention block → feed-forward block] × layers → norm → head`. The head reads the
//! class token, or the mean of all tokens. Cut levels: 0 the embeddings, `1 + 2l` and `2 + 2l` the two blocks of layer
//! `l`, `1 + 2·layers` the norm, `2 + 2·layers` the head.

mod build;

pub(crate) use build::load;
