//! `depth`: `sketch` (`sketch.rs`) at a look whose backward pass ends at the cut. Below it the `δ` that left the cut stands
//! in for `δ` lower down.
//!
//! A residual block `y = x + f(x)` passes `δ` `[T, hidden]` on as `δ + (∂f/∂x)ᵀ·δ`; the second term is left out, once for each
//! block below the cut (`Model::look_standing_in`). Every block still brings the `δ` that it is given to its own sites, so
//! heads and neurons are told apart. What is no residual block carries `δ` through as usual; a model without any (plain
//! recurrent layers) gets the energies of `sketch`. At and above the cut, and in the residual block right below a cut
//! at the task head, the energies are those of `sketch` too.
//!
//! Cost: forward, and of dX below the cut only what stays inside a branch (about a half: an attention block saves the
//! three products with Wq, Wk, Wv, a feed-forward block one of two); then that of `sketch`.
//!
//! Source: the unravelled view of Veit et al., *Residual networks behave like ensembles of relatively shallow networks*
//! (2016): most gradient comes by the short paths.
