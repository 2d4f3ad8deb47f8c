//! RGFT's selective engine: tensors, tape, layers with explicit backward, models
