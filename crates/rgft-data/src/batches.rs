//! Which examples go together, and in which order.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Batches whose examples are sorted by length together, when bucketing.
const BATCHES_PER_WINDOW: usize = 50;

/// The batches of one epoch: example numbers, each example exactly once, the last few in a smaller batch.
///
/// `lengths` are tokens per example. The order depends on `seed` and `epoch` alone (ChaCha8: the seed is the
/// key and the epoch the stream, so that no two pairs share an order). With `bucket`, examples of like length
/// share a batch: shuffled, sorted by length inside windows of 50 batches, cut into batches, which are
/// shuffled again. Nothing is padded in any case; even lengths make steps cost alike.
///
/// # Panics
/// If `batch_size` is 0.
#[must_use]
pub fn batches(lengths: &[usize], batch_size: usize, seed: u64, epoch: u64, bucket: bool) -> Vec<Vec<usize>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.shuffle(&mut random);
    if bucket {
        for window in order.chunks_mut(batch_size.saturating_mul(BATCHES_PER_WINDOW)) {
            window.sort_by_key(|&example| lengths[example]);
        }
    }
    let mut batches: Vec<Vec<usize>> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
    if bucket {
        batches.shuffle(&mut random);
    }
    batches
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_example_exactly_once_in_full_batches(
            lengths in prop::collection::vec(1usize..130, 0..700),
            batch_size in 1usize..40,
            seed: u64,
            epoch in 0u64..5,
            bucket: bool,
        ) {
            let batches = batches(&lengths, batch_size, seed, epoch, bucket);
            let mut all = batches.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
            prop_assert_eq!(batches.len(), lengths.len().div_ceil(batch_size));
            let smaller: Vec<usize> = batches.iter().map(Vec::len).filter(|l| *l != batch_size).collect();
            prop_assert!(smaller.len() <= 1 && !smaller.contains(&0));
        }
    }

    #[test]
    fn the_order_is_that_of_seed_and_epoch() {
        let lengths: Vec<usize> = (0..300).map(|i| i % 37).collect();
        let order = |seed, epoch, bucket| batches(&lengths, 8, seed, epoch, bucket).concat();
        for bucket in [false, true] {
            assert_eq!(order(3, 1, bucket), order(3, 1, bucket));
            assert_ne!(order(3, 1, bucket), order(3, 2, bucket));
            assert_ne!(order(3, 1, bucket), order(4, 1, bucket));
            // The orders of seed s, epoch e + 1 and of seed s + 1, epoch e have nothing in common.
            assert_ne!(order(3, 2, bucket), order(4, 1, bucket));
        }
    }

    #[test]
    fn the_order_stays_what_it_was() {
        // Runs of earlier versions can be repeated only as long as this holds.
        assert_eq!(batches(&[5, 1, 4, 2, 3], 2, 0, 0, false), [&[2, 0][..], &[4, 1], &[3]]);
        assert_eq!(batches(&[5, 1, 4, 2, 3], 2, 0, 0, true), [&[0][..], &[1, 3], &[4, 2]]);
    }

    #[test]
    fn buckets_hold_like_lengths() {
        let lengths: Vec<usize> = (0..1600).map(|i| (i * 7919) % 128 + 1).collect();
        let spread = |bucket| -> usize {
            let batches = batches(&lengths, 32, 1, 0, bucket);
            let of = |batch: &Vec<usize>| {
                let lengths = batch.iter().map(|&e| lengths[e]);
                lengths.clone().max().unwrap() - lengths.min().unwrap()
            };
            batches.iter().map(of).max().unwrap()
        };
        assert!(spread(true) <= 6, "{}", spread(true));
        assert!(spread(false) > 90);
        let first: Vec<usize> = batches(&lengths, 32, 1, 0, true).iter().map(|b| lengths[b[0]]).collect();
        assert!(!first.is_sorted(), "the batches themselves are shuffled");
    }
}
