//! One direction of an LSTM layer through time. See [`super`] for the formula.
//!
//! No sequence waits for another: each task has some of them and walks alone through all steps, so that threads meet once at
//! the end, states and sums of gates stay in the cache, and the weights, packed once, are read by all. Sequences are dealt out
//! in turn, by length, so that tasks are equally long.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::ARCH;
use super::super::scratch::{Shared, with_scratch};
use super::super::time_major::Step;
use super::cell::{Kept, Slopes, backward_row, forward_row};
use super::terms::{MOST_ROWS, Terms, stride};
use crate::{Mat, Precision};

/// Inputs of a layer: x, and what an adapter makes of it.
const MOST_INPUTS: usize = 2;

/// The way through a batch.
#[derive(Clone, Copy, Debug)]
pub struct LstmWalk<'a> {
    /// Steps in the order in which forward takes them.
    pub steps: &'a [Step],
    /// Row of the packed sequences of each time-major row.
    pub packed: &'a [u32],
    /// Hidden units.
    pub hidden: usize,
    /// The direction's first column in the layer's output.
    pub first_column: usize,
    /// Columns of the layer's output.
    pub columns: usize,
    /// In what precision products run.
    pub precision: Precision,
}

/// What forward leaves for backward, in time-major order.
#[derive(Debug)]
pub struct LstmSaved<'a> {
    /// `i, f, g, o` `[rows, 4·hidden]`.
    pub gates: &'a mut [f32],
    /// `c'` `[rows, hidden]`.
    pub c: &'a mut [f32],
    /// `h'` `[rows, hidden]`.
    pub h: &'a mut [f32],
}

/// Some of the sequences: number `index`, and every `of`-th after it.
#[derive(Clone, Copy)]
struct Share {
    index: usize,
    of: usize,
}

impl Share {
    /// How many of the first `sequences` are in it.
    fn rows(self, sequences: usize) -> usize {
        sequences.saturating_sub(self.index).div_ceil(self.of)
    }

    /// Time-major row of its sequence `i` at a step.
    fn row(self, step: &Step, i: usize) -> usize {
        step.first + self.index + i * self.of
    }

    /// Of `x`, in time-major order, its first `n` rows at a step.
    fn of<'a>(self, x: Mat<'a>, step: &Step, n: usize) -> Mat<'a> {
        assert!(x.col_stride == 1, "rows of a matrix that lies row by row");
        Mat::strided(&x.data[self.row(step, 0) * x.row_stride..], n, x.cols, x.row_stride * self.of)
    }
}

impl LstmWalk<'_> {
    /// Calls `work(share, its sequences)` for each share, in parallel.
    fn for_each_share(&self, work: impl Fn(Share, usize) + Sync + Send) {
        let sequences = self.steps.iter().map(|step| step.rows).max().unwrap_or(0);
        let of = sequences.div_ceil(MOST_ROWS).next_multiple_of(rayon::current_num_threads()).min(sequences);
        (0..of).into_par_iter().for_each(|index| {
            let share = Share { index, of };
            work(share, share.rows(sequences));
        });
    }

    /// Where a time-major row's part of the layer's output is.
    fn output(&self, row: usize) -> Range<usize> {
        let first = self.packed[row] as usize * self.columns + self.first_column;
        first..first + self.hidden
    }

    fn check(&self, bias: Option<&[f32]>, recurrent: (usize, usize), y: &[f32]) {
        let (hidden, rows) = (self.hidden, self.packed.len());
        assert!(
            self.first_column + hidden <= self.columns && y.len() == rows * self.columns,
            "the layer's output"
        );
        assert!(bias.is_none_or(|bias| bias.len() == 4 * hidden), "a bias of four gates");
        let expected = if bias.is_some() { (hidden, 4 * hidden) } else { (4 * hidden, hidden) };
        assert!(recurrent == expected, "a recurrent weight {recurrent:?}, expected {expected:?}");
        // Tasks write rows at the same time: each must be one step's, and go to a place of its own.
        let (in_order, reversed) = (end(self.steps.iter()), end(self.steps.iter().rev()));
        assert!(
            in_order == Some(rows) || reversed == Some(rows),
            "steps of {rows} rows, one after the other"
        );
        let mut taken = vec![false; rows];
        let is_new = |row: &u32| !std::mem::replace(&mut taken[*row as usize], true);
        assert!(self.packed.iter().all(is_new), "two rows with one place");
    }
}

/// The row behind the last of `steps`, if each begins where the one before it ends.
fn end<'a>(mut steps: impl Iterator<Item = &'a Step>) -> Option<usize> {
    steps.try_fold(0, |next, step| (step.first == next).then_some(next + step.rows))
}

/// Forward: `a = Σ x·W + h'·recurrent + bias`, where `inputs` are one or two pairs of `x` `[rows, k]`, in time-major order, and `W`
/// `[k, 4·hidden]`, and `recurrent` is `[hidden, 4·hidden]`. Writes the direction's columns of `y` `[rows, columns]`, in packed
/// order, and what is to be saved. The bits do not depend on the number of threads, as far as those of a product do not.
///
/// # Panics
/// If the shapes do not fit together.
pub fn lstm_forward(
    walk: LstmWalk,
    inputs: &[(Mat, Mat)],
    recurrent: Mat,
    bias: &[f32],
    y: &mut [f32],
    saved: Option<LstmSaved>,
) {
    let (hidden, stride) = (walk.hidden, stride(4 * walk.hidden));
    walk.check(Some(bias), recurrent.shape(), y);
    let fits = |(x, w): &(Mat, Mat)| x.rows == walk.packed.len() && w.shape() == (x.cols, 4 * hidden);
    assert!(
        inputs.len() <= MOST_INPUTS && inputs.iter().all(fits),
        "inputs of an LSTM with {hidden} hidden units"
    );
    if hidden == 0 {
        return;
    }
    let y = Shared::new(y, walk.columns);
    let saved = saved.map(|saved| {
        [(saved.gates, 4 * hidden), (saved.c, hidden), (saved.h, hidden)].map(|(x, n)| (Shared::new(x, n), n))
    });
    let weights: Vec<Mat> = inputs.iter().map(|(_, w)| *w).chain([recurrent]).collect();
    Terms::with(&weights, walk.precision, |terms| {
        walk.for_each_share(|share, most| {
            with_scratch([MOST_ROWS * stride, most * hidden, most * hidden], |[a, c, h]| {
                for step in walk.steps {
                    let (n, carried) = (share.rows(step.rows), share.rows(step.carried));
                    if n == 0 {
                        continue;
                    }
                    [&mut *c, &mut *h]
                        .into_iter()
                        .for_each(|state| state[carried * hidden..n * hidden].fill(0.0));
                    let mut operands = [Mat::new(h, carried, hidden); MOST_INPUTS + 1];
                    let own = inputs.iter().map(|(x, _)| share.of(*x, step, n));
                    operands.iter_mut().zip(own).for_each(|(operand, x)| *operand = x);
                    terms.times(&operands[..=inputs.len()], a, stride);
                    let rows = Forward { walk: &walk, share, step, n, bias, y: &y, saved: saved.as_ref() };
                    ARCH.dispatch(Over(rows, [a, c, h], stride));
                }
            });
        });
    });
}

/// Backward: `gates`, `c` as forward saved them, `dy` `[rows, columns]` in packed order, `recurrent` `[4·hidden, hidden]`. Turns
/// `gates` into `δ = ∂ℓ/∂a`, in time-major order, carrying it back through time.
///
/// # Panics
/// If the shapes do not fit together.
pub fn lstm_backward(walk: LstmWalk, recurrent: Mat, c: &[f32], dy: &[f32], gates: &mut [f32]) {
    let (hidden, wide) = (walk.hidden, 4 * walk.hidden);
    walk.check(None, recurrent.shape(), dy);
    if hidden == 0 {
        return;
    }
    let gates = Shared::new(gates, wide);
    let stride = stride(hidden);
    Terms::with(&[recurrent], walk.precision, |terms| {
        walk.for_each_share(|share, most| {
            let sizes = [MOST_ROWS * stride, most * hidden, most * wide];
            with_scratch(sizes, |[dh, dc, delta]| {
                let mut continued = 0;
                for step in walk.steps.iter().rev() {
                    let (n, carried) = (share.rows(step.rows), share.rows(step.carried));
                    // Nothing comes back to those that end here.
                    dh.chunks_exact_mut(stride).take(n).skip(continued).for_each(|dh| dh.fill(0.0));
                    dc[continued.min(n) * hidden..n * hidden].fill(0.0);
                    continued = carried;
                    let rows = Backward { walk: &walk, share, step, n, c, dy, gates: &gates };
                    ARCH.dispatch(Over(rows, [dh, dc, delta], stride));
                    if carried > 0 {
                        terms.times(&[Mat::new(delta, carried, wide)], dh, stride);
                    }
                }
            });
        });
    });
}

/// The rows of a share at a step, over three pieces of scratch memory, the first with rows a stride apart.
struct Over<'a, R>(R, [&'a mut [f32]; 3], usize);

/// Forward's: over `a`, `c`, `h`.
struct Forward<'a> {
    walk: &'a LstmWalk<'a>,
    share: Share,
    step: &'a Step,
    n: usize,
    bias: &'a [f32],
    y: &'a Shared<'a>,
    saved: Option<&'a [(Shared<'a>, usize); 3]>,
}

impl WithSimd for Over<'_, Forward<'_>> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(Forward { walk, share, step, n, bias, y, saved }, [a, c, h], stride) = self;
        let states = c.chunks_exact_mut(walk.hidden).zip(h.chunks_exact_mut(walk.hidden));
        for (i, (a, (c, h))) in a.chunks_exact(stride).zip(states).take(n).enumerate() {
            let row = share.row(step, i);
            let kept = match saved {
                None => None,
                Some([gates, c, h]) => {
                    // SAFETY: no other task has this sequence, and every row is one sequence's (checked).
                    let [gates, c, h] = unsafe {
                        [
                            gates.0.part(row * gates.1, gates.1),
                            c.0.part(row * c.1, c.1),
                            h.0.part(row * h.1, h.1),
                        ]
                    };
                    Some(Kept { gates, c, h })
                }
            };
            forward_row(simd, [a, bias], c, h, kept);
            // SAFETY: as above; each row has a place of its own (checked).
            unsafe { y.part(walk.output(row).start, walk.hidden) }.copy_from_slice(h);
        }
    }
}

/// Backward's: over `dh`, `dc`, `δ`.
struct Backward<'a> {
    walk: &'a LstmWalk<'a>,
    share: Share,
    step: &'a Step,
    n: usize,
    c: &'a [f32],
    dy: &'a [f32],
    gates: &'a Shared<'a>,
}

impl WithSimd for Over<'_, Backward<'_>> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(Backward { walk, share, step, n, c, dy, gates }, [dh, dc, delta], stride) = self;
        let (hidden, wide) = (walk.hidden, 4 * walk.hidden);
        let pieces = dc.chunks_exact_mut(hidden).zip(delta.chunks_exact_mut(wide));
        for (i, (dh, (dc, delta))) in dh.chunks_exact(stride).zip(pieces).take(n).enumerate() {
            let row = share.row(step, i);
            // SAFETY: no other task has this sequence, and every row is one sequence's (checked).
            let gates = unsafe { gates.part(row * wide, wide) };
            let (dy, before) = (&dy[walk.output(row)], &c[row * hidden..][..hidden]);
            backward_row(simd, gates, before, Slopes { dy, dh: &dh[..hidden], dc, delta });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::scalar::hash;
    use crate::reference::{self, recurrent::lstm_cell};

    fn numbers(seed: u32, n: usize, most: f32) -> Vec<f32> {
        (0..n as u32).map(|i| (hash(seed, i) as f32 / 2f32.powi(31) - 1.0) * most).collect()
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&x| x.into()).collect()
    }

    /// Steps of sequences of falling lengths, and the row of the packed sequences of each time-major row.
    fn steps(lengths: &[usize], reverse: bool) -> (Vec<Step>, Vec<u32>) {
        let alive = |t: usize| lengths.iter().filter(|&&length| length > t).count();
        let (mut steps, mut packed) = (Vec::new(), Vec::new());
        for t in 0..lengths[0] {
            let before = if reverse { alive(t + 1) } else { t.checked_sub(1).map_or(0, alive) };
            steps.push(Step { first: packed.len(), rows: alive(t), carried: before.min(alive(t)) });
            packed.extend((0..alive(t)).map(|s| (lengths[..s].iter().sum::<usize>() + t) as u32));
        }
        if reverse {
            steps.reverse();
        }
        (steps, packed)
    }

    /// The states after each row, in time-major order, by the formula.
    fn truth(steps: &[Step], x: &[f64], w: &[f64], u: &[f64], bias: &[f64], hidden: usize) -> Vec<f64> {
        let rows: usize = steps.iter().map(|step| step.rows).sum();
        let (wide, k) = (4 * hidden, x.len() / rows);
        let mut out = vec![0.0; rows * hidden];
        let (mut h, mut c) = (vec![0.0; rows * hidden], vec![0.0; rows * hidden]);
        for step in steps {
            h[step.carried * hidden..].fill(0.0);
            c[step.carried * hidden..].fill(0.0);
            let mut a = vec![0.0; step.rows * wide];
            for (r, a) in a.chunks_mut(wide).enumerate() {
                for (j, a) in a.iter_mut().enumerate() {
                    let by_x: f64 = (0..k).map(|i| x[(step.first + r) * k + i] * w[i * wide + j]).sum();
                    let by_h: f64 = (0..hidden).map(|i| h[r * hidden + i] * u[i * wide + j]).sum();
                    *a = by_x + by_h + bias[j];
                }
            }
            let n = step.rows * hidden;
            (c, h) = lstm_cell(&a, &c[..n], hidden);
            out[step.first * hidden..][..n].copy_from_slice(&h);
            [&mut c, &mut h].into_iter().for_each(|state| state.resize(rows * hidden, 0.0));
        }
        out
    }

    #[test]
    fn a_layer_and_its_gradient_match_the_reference() {
        // More sequences than a task takes, few, one; hidden units that fill vectors and that do not.
        let many: Vec<usize> = (0..40).map(|i| 5 - i / 10).collect();
        for (lengths, k, hidden) in [(&many[..], 3, 8), (&[4, 2, 1][..], 5, 33), (&[3][..], 40, 3)] {
            for (reverse, precision, tolerance) in
                [(false, Precision::F32, 2e-5), (true, Precision::F32, 2e-5), (true, Precision::Bf16, 2e-2)]
            {
                let (steps, packed) = steps(lengths, reverse);
                let (rows, wide_row) = (packed.len(), 4 * hidden);
                let (x, w) = (numbers(1, rows * k, 1.0), numbers(2, k * wide_row, 0.5));
                let (u, bias) = (numbers(3, hidden * wide_row, 0.3), numbers(4, wide_row, 1.0));
                // The direction's columns stand behind two others.
                let columns = hidden + 3;
                let walk =
                    LstmWalk { steps: &steps, packed: &packed, hidden, first_column: 2, columns, precision };
                let mut y = vec![-7.0; rows * columns];
                let (mut gates, mut c, mut h) = (
                    vec![f32::NAN; rows * wide_row],
                    vec![f32::NAN; rows * hidden],
                    vec![f32::NAN; rows * hidden],
                );
                let u_mat = Mat::new(&u, hidden, wide_row);
                // The input comes in two parts.
                let (left, right) = (1, k - 1);
                let (x_mat, w_mat) = (Mat::new(&x, rows, k), Mat::new(&w, k, wide_row));
                let parts = [0..left, left..left + right]
                    .map(|part| (x_mat.columns(part.clone()), w_mat.rows_range(part)));
                let saved = LstmSaved { gates: &mut gates, c: &mut c, h: &mut h };
                lstm_forward(walk, &parts, u_mat, &bias, &mut y, Some(saved));
                let of_packed = |y: &[f32]| -> Vec<f32> {
                    packed
                        .iter()
                        .flat_map(|&row| y[row as usize * columns + 2..][..hidden].to_vec())
                        .collect()
                };
                let expected = truth(&steps, &wide(&x), &wide(&w), &wide(&u), &wide(&bias), hidden);
                reference::assert_close(&of_packed(&y), &expected, tolerance);
                assert!(y.chunks(columns).all(|row| row[..2] == [-7.0; 2] && row[2 + hidden..] == [-7.0; 1]));
                let mut unsaved = vec![-7.0; rows * columns];
                lstm_forward(walk, &parts, u_mat, &bias, &mut unsaved, None);
                assert!(unsaved == y);
                for step in &steps {
                    let of_begin = step.first + step.carried..step.first + step.rows;
                    assert!(h[of_begin.start * hidden..of_begin.end * hidden].iter().all(|h| *h == 0.0));
                }

                let dy = numbers(5, rows * columns, 1.0);
                let turned: Vec<f32> =
                    (0..wide_row * hidden).map(|i| u[i % hidden * wide_row + i / hidden]).collect();
                lstm_backward(walk, Mat::new(&turned, wide_row, hidden), &c, &dy, &mut gates);
                if precision == Precision::Bf16 {
                    continue;
                }
                // ∂ℓ/∂x = δ·Wᵀ, against differences.
                let d = of_packed(&dy);
                let loss = |x: &[f64]| -> f64 {
                    let h = truth(&steps, x, &wide(&w), &wide(&u), &wide(&bias), hidden);
                    h.iter().zip(&d).map(|(h, d)| h * f64::from(*d)).sum()
                };
                for at in (0..rows * k).step_by(1 + rows * k / 20) {
                    let difference = reference::difference(&wide(&x), at, loss);
                    let (row, i) = (at / k, at % k);
                    let delta = &gates[row * wide_row..][..wide_row];
                    let found: f64 = (0..wide_row).map(|j| f64::from(delta[j] * w[i * wide_row + j])).sum();
                    assert!(
                        (found - difference).abs() < 1e-4,
                        "{lengths:?} at {at}: {found} against {difference}"
                    );
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "two rows with one place")]
    fn rows_must_not_share_a_place() {
        let step = |rows| Step { first: 0, rows, carried: 0 };
        let walk = LstmWalk {
            steps: &[step(2)],
            packed: &[1, 1],
            hidden: 1,
            first_column: 0,
            columns: 1,
            precision: Precision::F32,
        };
        lstm_backward(walk, Mat::new(&[0.0; 4], 4, 1), &[0.0; 2], &[0.0; 2], &mut [0.0; 8]);
    }

    #[test]
    #[should_panic(expected = "one after the other")]
    fn steps_must_not_share_rows() {
        let step = |rows| Step { first: 0, rows, carried: 0 };
        let walk = LstmWalk {
            steps: &[step(1), step(1)],
            packed: &[0, 1],
            hidden: 1,
            first_column: 0,
            columns: 1,
            precision: Precision::F32,
        };
        lstm_backward(walk, Mat::new(&[0.0; 4], 4, 1), &[0.0; 2], &[0.0; 2], &mut [0.0; 8]);
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let lengths: Vec<usize> = (0..70).map(|i| 9 - i / 10).collect();
        let ((steps, packed), hidden) = (steps(&lengths, false), 40);
        let rows = packed.len();
        let (x, w) = (numbers(1, rows * 7, 1.0), numbers(2, 7 * 160, 0.5));
        let (u, bias) = (numbers(3, 40 * 160, 0.3), numbers(4, 160, 1.0));
        for precision in [Precision::F32, Precision::Bf16] {
            let with = |threads: usize| {
                let pool =
                    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
                let walk = LstmWalk {
                    steps: &steps,
                    packed: &packed,
                    hidden,
                    first_column: 0,
                    columns: 40,
                    precision,
                };
                let (mut y, mut gates) = (vec![0.0; rows * 40], vec![0.0; rows * 160]);
                let [mut c, mut h] = [(); 2].map(|()| vec![0.0; rows * 40]);
                pool.install(|| {
                    let saved = LstmSaved { gates: &mut gates, c: &mut c, h: &mut h };
                    let inputs = [(Mat::new(&x, rows, 7), Mat::new(&w, 7, 160))];
                    lstm_forward(walk, &inputs, Mat::new(&u, 40, 160), &bias, &mut y, Some(saved));
                    lstm_backward(
                        walk,
                        Mat::new(&u, 40, 160).t(),
                        &c,
                        &numbers(5, rows * 40, 1.0),
                        &mut gates,
                    );
                });
                (y, gates)
            };
            let one = with(1);
            // Libraries promise nothing of the kind in bf16.
            #[cfg(target_arch = "x86_64")]
            let same = precision == Precision::F32 || crate::amx::is_available();
            #[cfg(not(target_arch = "x86_64"))]
            let same = precision == Precision::F32;
            (2..5).filter(|_| same).for_each(|threads| assert!(with(threads) == one, "{threads} threads"));
        }
    }
}
