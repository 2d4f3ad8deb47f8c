//! RGFT's data: tables of text, labels, splits, tokenisation, batches
