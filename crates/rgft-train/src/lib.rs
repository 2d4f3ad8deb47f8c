//! RGFT's training: recipe, loop, optimizers, methods, checkpoints

pub mod recipe;
