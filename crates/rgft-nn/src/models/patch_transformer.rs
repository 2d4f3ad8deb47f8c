//! A transformer over patches of a series that forecasts it (PatchTST, Nie et al. 2023): channel-independent, each window
//! in units of its own, pre-norm blocks.
//!
//! `instance norm, patches, positions → [attention block → feed-forward block] × layers → norm → head`, where the head maps
//! all tokens to the horizon and brings the forecast back to the window's units. The last patch ends with the window; the
//! tokens see each other in both directions. Cut levels: 0 the embeddings, `1 + 2l` and `2 + 2l` the two blocks of layer
//! `l`, `1 + 2·layers` the norm, `2 + 2·layers` the head.
//!
//! `config.json`: `context`, `horizon`, `patch`, `stride`, `hidden_size`, `num_layers`, `num_heads`, `ffn`; optional
//! `activation` (gelu), `dropout`, `head_dropout`, `attention_dropout` (0), `instance_norm` (true), `norm_eps` (1e-5),
//! `instance_norm_eps` (1e-5), `initializer_range` (0.02).

mod build;

pub(crate) use build::load;
