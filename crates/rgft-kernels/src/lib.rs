//! RGFT's CPU kernels: matrix products and fused element-wise passes
