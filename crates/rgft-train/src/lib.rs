//! RGFT's training: recipe, loop, optimizers, methods, checkpoints
