//! Variation: what it shows is the picture, mirrored and shifted, and it depends on what it should alone.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rgft_data::{Augment, Augmentation, Dataset, ImageDataset, ImageSpec};

use crate::made::{data_set, images, picture, plain};

const SIDE: usize = 16;
/// An eighth of the side.
const BORDER: isize = 2;

fn varied(augment: Augment) -> ImageDataset {
    let pictures: Vec<_> = (0..12).map(|seed| picture(SIDE as u32, SIDE as u32, seed)).collect();
    data_set(&pictures, &ImageSpec { augment, ..plain(SIDE, SIDE) })
}

/// The picture that starts at this row and column of the one with a black border, mirrored where `flip`.
fn moved(pixels: &[f32], top: isize, left: isize, flip: bool) -> Vec<f32> {
    let mut out = Vec::new();
    for y in 0..SIDE as isize {
        for x in 0..SIDE as isize {
            let x = if flip { SIDE as isize - 1 - x } else { x };
            let (y, x) = (y + top, x + left);
            for channel in 0..3 {
                let inside = (0..SIDE as isize).contains(&y) && (0..SIDE as isize).contains(&x);
                out.push(if inside { pixels[(y as usize * SIDE + x as usize) * 3 + channel] } else { 0.0 });
            }
        }
    }
    out
}

/// The only shift and mirroring that explains what is shown.
fn explained(shown: &[f32], pixels: &[f32]) -> (isize, isize, bool) {
    let mut found = Vec::new();
    for top in -BORDER..=BORDER {
        for left in -BORDER..=BORDER {
            for flip in [false, true] {
                if moved(pixels, top, left, flip) == shown {
                    found.push((top, left, flip));
                }
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

fn shown(data: &ImageDataset, example: usize, augmentation: Option<Augmentation>) -> Vec<f32> {
    images(&data.pack(&[example], augmentation)).pixels.clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_shown_is_a_crop_of_the_picture(seed: u64, epoch in 0u64..1000, example in 0usize..12) {
        let augmentation = Some(Augmentation { seed, epoch });
        for augment in [Augment::FlipCrop, Augment::Flip, Augment::None] {
            let data = varied(augment);
            let pixels = shown(&data, example, None);
            let (top, left, flip) = explained(&shown(&data, example, augmentation), &pixels);
            prop_assert!(augment == Augment::FlipCrop || (top, left) == (0, 0));
            prop_assert!(augment != Augment::None || !flip);
        }
    }
}

#[test]
fn every_shift_and_both_sides_are_drawn() {
    let data = varied(Augment::FlipCrop);
    let pixels = shown(&data, 3, None);
    let drawn: BTreeSet<_> = (0..600)
        .map(|epoch| explained(&shown(&data, 3, Some(Augmentation { seed: 1, epoch })), &pixels))
        .collect();
    assert_eq!(drawn.len(), 5 * 5 * 2);
}

#[test]
fn variation_depends_on_seed_epoch_and_row_alone() {
    let data = varied(Augment::FlipCrop);
    let of = |seed, epoch| Some(Augmentation { seed, epoch });
    let batch = images(&data.pack(&[4, 7, 4], of(1, 2))).pixels.clone();
    let values = SIDE * SIDE * 3;
    assert_eq!(batch[..values], batch[2 * values..]);
    assert_eq!(batch[values..2 * values], shown(&data, 7, of(1, 2)));
    // A subset shows its pictures as the whole does.
    assert_eq!(shown(&data.subset([2, 7, 9]), 1, of(1, 2)), shown(&data, 7, of(1, 2)));
    let draws = |seed, epoch| -> Vec<_> {
        (0..12).map(|i| explained(&shown(&data, i, of(seed, epoch)), &shown(&data, i, None))).collect()
    };
    assert_ne!(draws(1, 2), draws(1, 3));
    assert_ne!(draws(1, 2), draws(2, 2));
    assert_ne!(draws(1, 2)[0], draws(1, 2)[1]);
}
