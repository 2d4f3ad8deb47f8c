//! One time step of recurrent cells, as their formulas stand.

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `(c, h)` `[rows, hidden]` of an LSTM: `a` `[rows, 4·hidden]` in the order `i, f, g, o`, `c_previous` `[rows, hidden]`.
pub fn lstm_cell(a: &[f64], c_previous: &[f64], hidden: usize) -> (Vec<f64>, Vec<f64>) {
    let at = |row: usize, gate: usize, k: usize| a[(row * 4 + gate) * hidden + k];
    let one = |(n, before): (usize, &f64)| {
        let (row, k) = (n / hidden, n % hidden);
        let kept = sigmoid(at(row, 1, k)) * before;
        let c = kept + sigmoid(at(row, 0, k)) * at(row, 2, k).tanh();
        (c, sigmoid(at(row, 3, k)) * c.tanh())
    };
    c_previous.iter().enumerate().map(one).unzip()
}

/// `h` `[rows, hidden]` of a GRU: `a`, `u` `[rows, 3·hidden]` in the order `r, z, n`, `h_previous` `[rows, hidden]`.
pub fn gru_cell(a: &[f64], u: &[f64], h_previous: &[f64], hidden: usize) -> Vec<f64> {
    let at = |x: &[f64], row: usize, gate: usize, k: usize| x[(row * 3 + gate) * hidden + k];
    let one = |(n, before): (usize, &f64)| {
        let (row, k) = (n / hidden, n % hidden);
        let r = sigmoid(at(a, row, 0, k) + at(u, row, 0, k));
        let z = sigmoid(at(a, row, 1, k) + at(u, row, 1, k));
        let n = (at(a, row, 2, k) + r * at(u, row, 2, k)).tanh();
        (1.0 - z) * n + z * before
    };
    h_previous.iter().enumerate().map(one).collect()
}
