//! Real data sets, read whole. Skipped, with a note, where they are not there: they are named by the variable
//! RGFT_ASSETS, or lie in a folder `shared/assets` beside the repository.

use std::path::PathBuf;

use rgft_data::{Dataset, ImageDataset, ImageSpec, locate_images, read_images};

fn assets(name: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/assets");
    let root = std::env::var_os("RGFT_ASSETS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let path = root.join("data/image").join(name);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: no {}", path.display());
    None
}

fn read(name: &str, spec: &ImageSpec) -> Option<(ImageDataset, ImageDataset)> {
    let files = locate_images(&assets(name)?, None, None).unwrap();
    let train = read_images(&files.train, spec).unwrap();
    let labels = train.label_map().unwrap();
    let test = read_images(&files.test.unwrap(), spec).unwrap();
    let read = |table| ImageDataset::labelled(table, spec, &labels).unwrap();
    Some((read(&train), read(&test)))
}

fn counts(data: &ImageDataset) -> Vec<usize> {
    let mut counts = vec![0; data.outputs()];
    (0..data.len()).for_each(|example| counts[data.class(example).unwrap() as usize] += 1);
    counts
}

#[test]
fn cifar10() {
    let Some((train, test)) = read("cifar10-10k", &ImageSpec::new(32, 32, 3)) else { return };
    assert_eq!((train.len(), test.len()), (10_000, 10_000));
    assert_eq!((counts(&train), counts(&test)), (vec![1000; 10], vec![1000; 10]));
    // The mean colour of CIFAR-10 is (0.491, 0.482, 0.447).
    for (channel, expected) in [0.491, 0.482, 0.447].into_iter().enumerate() {
        let sum: u64 = (0..train.len())
            .flat_map(|i| train.pixels(i)[channel..].iter().step_by(3))
            .map(|byte| u64::from(*byte))
            .sum();
        let mean = sum as f64 / (10_000.0 * 1024.0 * 255.0);
        assert!((mean - expected).abs() < 0.005, "{channel}: {mean}");
    }
    let spec = ImageSpec { limit: Some(2000), ..ImageSpec::new(32, 32, 3) };
    let Some((train, test)) = read("cifar10-10k", &spec) else { return };
    assert_eq!((counts(&train), counts(&test)), (vec![200; 10], vec![200; 10]));
}

#[test]
fn sign_digits() {
    let Some((train, test)) = read("sign-digits", &ImageSpec::new(32, 32, 3)) else { return };
    assert_eq!((train.len(), test.len()), (1541, 518));
    assert_eq!((train.outputs(), train.bytes()), (10, 1541 * 32 * 32 * 3));
}

#[test]
fn mnist() {
    let Some((train, test)) = read("mnist-20k", &ImageSpec::new(28, 28, 1)) else { return };
    assert_eq!((train.len(), test.len()), (20_000, 10_000));
    // The mean of MNIST is 0.1307.
    let sum: u64 = (0..train.len()).flat_map(|i| train.pixels(i)).map(|byte| u64::from(*byte)).sum();
    let mean = sum as f64 / (20_000.0 * 784.0 * 255.0);
    assert!((mean - 0.1307).abs() < 0.003, "{mean}");
}
