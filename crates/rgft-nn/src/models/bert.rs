//! The BERT family: BERT and MiniLM (Devlin et al. 2019), RoBERTa (Liu et al. 2019), DistilBERT (Sanh et al. 2019),
//! with a head for classification or regression.
//!
//! `embeddings → [attention block → feed-forward block] × layers → head`. Cut levels: 0 the embeddings, `1 + 2l` and
//! `2 + 2l` the two blocks of layer `l`, `1 + 2·layers` the head.

mod build;
mod config;

pub(crate) use build::load;
