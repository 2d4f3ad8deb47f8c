//! What decoders are made of, as the formulas stand.

/// RMS norm of each row of `[rows, weight.len()]`.
pub fn rms_norm(x: &[f64], weight: &[f64], epsilon: f64) -> Vec<f64> {
    let cols = weight.len();
    let rows = x.chunks_exact(cols);
    rows.flat_map(|x| {
        let scale = (x.iter().map(|x| x * x).sum::<f64>() / cols as f64 + epsilon).sqrt();
        x.iter().zip(weight).map(move |(x, g)| x / scale * g)
    })
    .collect()
}

/// `silu(g)·u`.
pub fn swiglu(g: f64, u: f64) -> f64 {
    g / (1.0 + (-g).exp()) * u
}

/// Each head of `x` `[tokens, cols]` turned by its position's row of `(cos, sin)`, `[positions, planes]` each.
pub fn rope(
    x: &[f64],
    (cos, sin): (&[f64], &[f64]),
    planes: usize,
    cols: usize,
    width: usize,
    positions: &[u32],
) -> Vec<f64> {
    let mut y = x.to_vec();
    for (token, position) in positions.iter().enumerate() {
        for head in 0..cols / width {
            for i in 0..planes {
                let (c, s) = (cos[*position as usize * planes + i], sin[*position as usize * planes + i]);
                let low = token * cols + head * width + i;
                let high = low + planes;
                y[low] = c * x[low] - s * x[high];
                y[high] = c * x[high] + s * x[low];
            }
        }
    }
    y
}

/// The shape of [`attention`].
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// Tokens of each sequence.
    pub lengths: &'a [usize],
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` query heads in a row.
    pub kv_heads: usize,
    /// Width of one head.
    pub width: usize,
    /// Whether a token sees those before it and itself alone.
    pub causal: bool,
}

/// Softmax attention over packed sequences: `q` `[tokens, heads · width]`, `k`, `v` `[tokens, kv_heads · width]`;
/// `keep(i)` is dropout's factor on probability `i` (`[sequence][head][t, t]`).
pub fn attention(heads: Heads, q: &[f64], k: &[f64], v: &[f64], keep: impl Fn(usize) -> f64) -> Vec<f64> {
    let Heads { lengths, heads, kv_heads, width, causal } = heads;
    let mut out = vec![0.0; q.len()];
    let (mut token, mut probability) = (0, 0);
    for &t in lengths {
        for head in 0..heads {
            let shared = head / (heads / kv_heads);
            for i in 0..t {
                let query = |c: usize| q[((token + i) * heads + head) * width + c];
                let of = |x: &[f64], j: usize, c: usize| x[((token + j) * kv_heads + shared) * width + c];
                let seen = if causal { i + 1 } else { t };
                let score =
                    |j| (0..width).map(|c| query(c) * of(k, j, c)).sum::<f64>() / (width as f64).sqrt();
                let weights: Vec<f64> = (0..seen).map(|j| f64::exp(score(j))).collect();
                let total: f64 = weights.iter().sum();
                for c in 0..width {
                    let sum = (0..seen).map(|j| {
                        let p = weights[j] / total * keep(probability + (head * t + i) * t + j);
                        p * of(v, j, c)
                    });
                    out[((token + i) * heads + head) * width + c] = sum.sum();
                }
            }
        }
        token += t;
        probability += heads * t * t;
    }
    out
}
