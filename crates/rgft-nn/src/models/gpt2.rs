//! GPT-2 (Radford et al. 2019) under its Hugging Face names, with and without the `transformer.` before them.
//!
//! `embeddings → [attention block → feed-forward block] × layers → head`: layer norms before each branch, learnt positions,
//! biases everywhere, GELU's tanh form. Files hold linear maps transposed, and those of queries, keys and values as one
//! (`c_attn`); here they are three, named `c_attn.query`, `c_attn.key`, `c_attn.value`. Cut levels as in the Llama family.

mod build;

pub(crate) use build::load;
