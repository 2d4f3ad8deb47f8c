//! The Llama family: Llama (Touvron et al. 2023) and SmolLM, Qwen2 and Qwen3, under their Hugging Face names.
//!
//! `embeddings → [attention block → feed-forward block] × layers → head`: RMS norms before each branch, rotary positions,
//! grouped queries, SwiGLU. Qwen2 has biases on queries, keys and values, Qwen3 a norm on each head of queries and keys.
//! Cut levels: 0 the embeddings, `1 + 2l` and `2 + 2l` the two blocks of layer `l`, `1 + 2·layers` the head. Where the
//! output map is tied to the embeddings, it is part of them.

mod build;
mod config;
mod rope;

pub(crate) use build::load;
