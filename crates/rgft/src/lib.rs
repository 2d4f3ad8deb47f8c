//! Residual-Guided Fine-Tuning: library facade and command line
