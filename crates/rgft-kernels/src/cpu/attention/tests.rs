use super::*;
use crate::reference::{self, decoder};

fn numbers(seed: usize, n: usize) -> Vec<f32> {
    (0..n).map(|i| (((i + seed) * 7919) % 997) as f32 / 400.0 - 1.2).collect()
}

#[test]
fn forward_and_backward_match_the_reference() {
    let dropouts = [None, Some(Dropout { seed: 3, probability: 0.25 })];
    let (short, long): (&[usize], &[usize]) = (&[3, 1, 21, 6], &[2, 130, 64, 65]);
    let shapes = [(3, 3, false, short), (4, 2, true, short), (3, 1, true, long), (2, 2, false, long)];
    for (dropout, (n, kv_heads, causal, lengths)) in
        dropouts.into_iter().flat_map(|dropout| shapes.map(|shape| (dropout, shape)))
    {
        let (tokens, width) = (lengths.iter().sum::<usize>(), 5);
        let precision = Precision::F32;
        let heads = Heads { lengths, heads: n, kv_heads, width, causal, dropout, precision };
        let twin = decoder::Heads { lengths, heads: n, kv_heads, width, causal };
        let (q_cols, kv_cols) = (n * width, kv_heads * width);
        let (qs, kvs) = (tokens * q_cols, tokens * kv_cols);
        let (q, k, v) = (numbers(1, qs), numbers(2, kvs), numbers(3, kvs));
        let (mut context, mut p) = (vec![0.0; qs], vec![f32::NAN; heads.probabilities()]);
        attention(heads, &q, &k, &v, &mut context, Some(&mut p));
        let mut unsaved = vec![0.0; qs];
        attention(heads, &q, &k, &v, &mut unsaved, None);
        assert_eq!(context, unsaved);

        let keep = |i: usize| dropout.map_or(1.0, |d| d.factor(i)) as f64;
        let truth =
            |qkv: &[f64]| decoder::attention(twin, &qkv[..qs], &qkv[qs..qs + kvs], &qkv[qs + kvs..], keep);
        let qkv: Vec<f64> = q.iter().chain(&k).chain(&v).map(|&x| x as f64).collect();
        reference::assert_close(&context, &truth(&qkv), 1e-5);

        let dcontext = numbers(4, qs);
        let mut d = [vec![7.0f32; qs], vec![7.0; kvs], vec![7.0; kvs]];
        let [dq, dk, dv] = &mut d;
        let saved = AttentionSaved { q: &q, k: &k, v: &v, probabilities: &p };
        // All but the last head of keys, where there are several.
        let active: Vec<usize> = (0..kv_heads.max(2) - 1).collect();
        attention_backward(heads, &active, saved, &dcontext, dq, dk, dv);
        let loss =
            |qkv: &[f64]| -> f64 { truth(qkv).iter().zip(&dcontext).map(|(c, d)| c * *d as f64).sum() };
        let found = d.concat();
        let step = if tokens > 100 { qkv.len() / 40 + 1 } else { 7 };
        for i in (0..qkv.len()).step_by(step) {
            let of_kv = if i < qs { i % q_cols / width / (n / kv_heads) } else { (i - qs) % kv_cols / width };
            if active.contains(&of_kv) {
                let expected = reference::difference(&qkv, i, loss);
                let error = (found[i] as f64 - expected).abs();
                assert!(error < 2e-4, "{i}: {} against {expected}", found[i]);
            } else {
                assert_eq!(found[i], 7.0, "the inactive heads' columns must not be touched");
            }
        }
    }
}

#[test]
fn blocks_cover_the_triangle_and_no_more_than_they_must() {
    assert_eq!(blocks(130, true).collect::<Vec<_>>(), [(0..64, 64), (64..128, 128), (128..130, 130)]);
    assert_eq!(blocks(130, false).collect::<Vec<_>>(), [(0..130, 130)]);
    assert_eq!(blocks(0, false).count() + blocks(0, true).count(), 0);
}

#[test]
fn cached_attention_is_causal_attention() {
    let (heads, kv_heads, width, tokens) = (4, 2, 5, 23);
    let lengths = [tokens];
    let (precision, dropout) = (Precision::F32, None);
    let heads = Heads { lengths: &lengths, heads, kv_heads, width, causal: true, dropout, precision };
    let (q, k, v) = (numbers(1, tokens * 20), numbers(2, tokens * 10), numbers(3, tokens * 10));
    let mut expected = vec![0.0; q.len()];
    attention(heads, &q, &k, &v, &mut expected, None);
    let expected: Vec<f64> = expected.iter().map(|&x| x.into()).collect();
    for (start, end) in [(0, 23), (22, 23), (7, 12)] {
        let mut context = vec![9.0; (end - start) * 20];
        attention_cached(heads, &q[start * 20..end * 20], &k[..end * 10], &v[..end * 10], &mut context);
        reference::assert_close(&context, &expected[start * 20..end * 20], 1e-5);
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let lengths = [70, 1, 0, 33, 64];
    let (n, kv_heads, width, tokens) = (4, 2, 20, lengths.iter().sum::<usize>());
    let dropout = Some(Dropout { seed: 3, probability: 0.25 });
    for causal in [false, true] {
        let precision = Precision::F32;
        let heads = Heads { lengths: &lengths, heads: n, kv_heads, width, causal, dropout, precision };
        let (qs, kvs) = (tokens * n * width, tokens * kv_heads * width);
        let (q, k, v, d) = (numbers(1, qs), numbers(2, kvs), numbers(3, kvs), numbers(4, qs));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let (mut context, mut p) = (vec![0.0; qs], vec![0.0; heads.probabilities()]);
            let (mut dq, mut dk, mut dv) = (vec![0.0; qs], vec![0.0; kvs], vec![0.0; kvs]);
            pool.install(|| {
                attention(heads, &q, &k, &v, &mut context, Some(&mut p));
                let saved = AttentionSaved { q: &q, k: &k, v: &v, probabilities: &p };
                attention_backward(heads, &[0, 1], saved, &d, &mut dq, &mut dk, &mut dv);
            });
            [context, p, dq, dk, dv]
        };
        assert_eq!(on(1), on(3));
    }
}

#[test]
#[should_panic(expected = "heads [1, 1]")]
fn a_head_is_not_given_to_two_tasks() {
    let (lengths, precision) = ([1], Precision::F32);
    let heads =
        Heads { lengths: &lengths, heads: 2, kv_heads: 2, width: 1, causal: false, dropout: None, precision };
    let x = [0.0; 2];
    let saved = AttentionSaved { q: &x, k: &x, v: &x, probabilities: &x };
    attention_backward(heads, &[1, 1], saved, &x, &mut [0.0; 2], &mut [0.0; 2], &mut [0.0; 2]);
}
