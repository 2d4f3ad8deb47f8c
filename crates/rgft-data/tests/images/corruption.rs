//! Corruption: statistics, twins, and what the noise depends on.

use image::{Rgb, RgbImage};
use rgft_data::{
    Augment, Augmentation, Corruption, Dataset, ImageDataset, ImageSource, ImageSpec, read_images,
};

use crate::made::{Layout, data_set, images, picture, plain, png, put_parquet, values};

fn corrupted(pictures: &[RgbImage], corrupt: &str) -> ImageDataset {
    let (width, height) = pictures[0].dimensions();
    let spec = plain(height as usize, width as usize);
    data_set(pictures, &ImageSpec { corrupt: Some(corrupt.parse().unwrap()), ..spec })
}

fn grey(value: u8) -> Vec<RgbImage> {
    vec![RgbImage::from_pixel(32, 32, Rgb([value; 3])); 1]
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt())
}

/// Deviation of the bytes of 20 different pictures of about this value, in units of 1.
fn noise_of(corrupt: &str, value: u8) -> (f64, f64) {
    let mut pictures = vec![RgbImage::from_pixel(32, 32, Rgb([value; 3])); 20];
    // The key is that of the encoded bytes: one pixel makes each a picture of its own.
    for (i, picture) in pictures.iter_mut().enumerate() {
        picture.put_pixel(0, 0, Rgb([value, value + 1 + i as u8, value]));
    }
    let data = corrupted(&pictures, corrupt);
    let bytes: Vec<f64> = (0..20)
        .flat_map(|i| data.pixels(i)[3..].to_vec())
        .map(|byte| (f64::from(byte) - f64::from(value)) / 255.0)
        .collect();
    mean_and_deviation(&bytes)
}

#[test]
fn gaussian_noise_has_the_published_deviations() {
    // 61,380 values: the deviation is known within 0.3 %. Rounding to bytes adds 1/12 of a level squared.
    for (severity, sigma) in [(1, 0.04), (2, 0.06), (3, 0.08), (4, 0.09), (5, 0.10)] {
        let (mean, deviation) = noise_of(&format!("gaussian-noise:{severity}"), 120);
        assert!(mean.abs() < 0.002, "{mean}");
        assert!((deviation / sigma - 1.0).abs() < 0.012, "{severity}: {deviation}");
    }
}

#[test]
fn shot_noise_has_the_variance_of_photons() {
    for (severity, photons) in [(1, 500.0f64), (3, 100.0), (5, 50.0)] {
        let (mean, deviation) = noise_of(&format!("shot-noise:{severity}"), 100);
        let expected = (100.0 / 255.0 / photons).sqrt();
        assert!(mean.abs() < 0.002, "{mean}");
        assert!((deviation / expected - 1.0).abs() < 0.012, "{severity}: {deviation} {expected}");
    }
    // Where there is no light there is no noise.
    assert_eq!(corrupted(&grey(0), "shot-noise:5").pixels(0), [0; 32 * 32 * 3]);
}

#[test]
fn noise_on_normalised_values_is_added_unclipped() {
    let pictures: Vec<_> = (0..20).map(|seed| picture(32, 32, seed)).collect();
    let clean = data_set(&pictures, &ImageSpec::new(32, 32, 3));
    let spec =
        ImageSpec { corrupt: Some("gaussian-noise:sigma=0.6".parse().unwrap()), ..ImageSpec::new(32, 32, 3) };
    let noisy = data_set(&pictures, &spec);
    let noise: Vec<f64> =
        values(&noisy).iter().zip(values(&clean)).map(|(noisy, clean)| f64::from(noisy - clean)).collect();
    let (mean, deviation) = mean_and_deviation(&noise);
    assert!(mean.abs() < 0.01, "{mean}");
    assert!((deviation / 0.6 - 1.0).abs() < 0.01, "{deviation}");
    let beyond = noise.iter().filter(|noise| noise.abs() > 1.2).count() as f64 / noise.len() as f64;
    assert!((beyond - 0.0455).abs() < 0.004, "{beyond}");
    // Each picture has its own, and pixels and channels of one are independent.
    let (first, second) = (&noise[..3072], &noise[3072..6144]);
    for (a, b) in [(first, second), (&noise[..6143], &noise[1..6144]), (&noise[..6048], &noise[96..6144])] {
        let correlation = a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / (0.36 * a.len() as f64);
        assert!(correlation.abs() < 0.06, "{correlation}");
    }
}

#[test]
fn noise_belongs_to_the_picture_not_to_its_place() {
    for corrupt in ["gaussian-noise:5", "shot-noise:5", "gaussian-noise:sigma=0.6"] {
        let pictures: Vec<_> = (0..5).map(|seed| picture(16, 16, seed)).collect();
        let data = corrupted(&pictures, corrupt);
        let again = corrupted(&pictures[3..], corrupt);
        assert_eq!(values(&data.subset([3, 4])), values(&again), "{corrupt}");
        assert_eq!(values(&data), values(&data), "{corrupt}");
        // The same from a Parquet file, and under a limit.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let rows: Vec<_> = pictures.iter().map(|picture| (Some(png(picture)), Some(0))).collect();
        put_parquet(&path, &Layout::default(), &rows);
        let spec = ImageSpec { corrupt: Some(corrupt.parse().unwrap()), limit: Some(1), ..plain(16, 16) };
        let table = read_images(&ImageSource::at(&path).unwrap(), &spec).unwrap();
        let one = ImageDataset::unlabelled(&table, &spec, 2).unwrap();
        assert_eq!(values(&one), values(&data.subset([0])), "{corrupt}");
    }
}

#[test]
fn noise_does_not_depend_on_the_number_of_threads() {
    let pictures: Vec<_> = (0..9).map(|seed| picture(40, 30, seed)).collect();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let spec =
                ImageSpec { corrupt: Some("gaussian-noise:sigma=1".parse().unwrap()), ..plain(16, 16) };
            let spec = ImageSpec { augment: Augment::FlipCrop, ..spec };
            let data = data_set(&pictures, &spec);
            let all: Vec<usize> = (0..9).collect();
            images(&data.pack(&all, Some(Augmentation { seed: 1, epoch: 2 }))).pixels.clone()
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn noise_moves_with_the_picture_and_not_over_its_border() {
    let spec = ImageSpec {
        corrupt: Some("gaussian-noise:sigma=0.5".parse().unwrap()),
        augment: Augment::FlipCrop,
        ..ImageSpec::new(16, 16, 3)
    };
    let data = data_set(&[picture(16, 16, 1)], &spec);
    let still = values(&data);
    let black = [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225];
    let inside: std::collections::BTreeSet<u32> = still.iter().map(|value| value.to_bits()).collect();
    let mut border = 0;
    for epoch in 0..20 {
        let shown = images(&data.pack(&[0], Some(Augmentation { seed: 0, epoch }))).pixels.clone();
        for (i, value) in shown.iter().enumerate().filter(|(_, value)| !inside.contains(&value.to_bits())) {
            assert!((f64::from(*value) - black[i % 3]).abs() < 1e-5);
            border += 1;
        }
    }
    assert!(border > 0);
}

#[test]
fn inverting_and_lowering_contrast() {
    let original = picture(32, 32, 4);
    let inverted = corrupted(std::slice::from_ref(&original), "invert");
    let expected: Vec<u8> = original.as_raw().iter().map(|byte| 255 - byte).collect();
    assert_eq!(inverted.pixels(0), expected);

    let flat = corrupted(std::slice::from_ref(&original), "contrast:5");
    for channel in 0..3 {
        let of = |bytes: &[u8]| -> Vec<f64> {
            bytes[channel..].iter().step_by(3).map(|byte| f64::from(*byte)).collect()
        };
        let (mean, _) = mean_and_deviation(&of(original.as_raw()));
        for (before, after) in of(original.as_raw()).iter().zip(of(flat.pixels(0))) {
            assert!(((before - mean) * 0.15 + mean - after).abs() <= 0.5 + 1e-9);
        }
    }
}

/// The mean over the window, pixel by pixel.
fn box_twin(picture: &RgbImage, size: i64) -> Vec<f64> {
    let (w, h) = (i64::from(picture.width()), i64::from(picture.height()));
    let mut out = Vec::new();
    for y in 0..h {
        for x in 0..w {
            for channel in 0..3 {
                let (mut sum, mut n) = (0.0, 0.0);
                for v in (y - size / 2).max(0)..=(y + size / 2).min(h - 1) {
                    for u in (x - size / 2).max(0)..=(x + size / 2).min(w - 1) {
                        sum += f64::from(picture.get_pixel(u as u32, v as u32)[channel]);
                        n += 1.0;
                    }
                }
                out.push(sum / n);
            }
        }
    }
    out
}

/// The Gaussian of the border repeated, pixel by pixel.
fn gaussian_twin(picture: &RgbImage, sigma: f64) -> Vec<f64> {
    let (w, h) = (i64::from(picture.width()), i64::from(picture.height()));
    let reach = (4.0 * sigma + 0.5) as i64;
    let mut out = Vec::new();
    for y in 0..h {
        for x in 0..w {
            for channel in 0..3 {
                let (mut sum, mut all) = (0.0, 0.0);
                for dy in -reach..=reach {
                    for dx in -reach..=reach {
                        let weight = (-((dx * dx + dy * dy) as f64) / (2.0 * sigma * sigma)).exp();
                        let (u, v) = ((x + dx).clamp(0, w - 1), (y + dy).clamp(0, h - 1));
                        sum += weight * f64::from(picture.get_pixel(u as u32, v as u32)[channel]);
                        all += weight;
                    }
                }
                out.push(sum / all);
            }
        }
    }
    out
}

#[test]
fn blurs_are_their_twins() {
    let original = picture(21, 14, 2);
    let check = |corrupt: &str, expected: Vec<f64>| {
        let data = corrupted(std::slice::from_ref(&original), corrupt);
        for (found, expected) in data.pixels(0).iter().zip(&expected) {
            assert!((f64::from(*found) - expected).abs() <= 0.5 + 1e-9, "{corrupt}: {found} {expected}");
        }
    };
    check("box-blur:5", box_twin(&original, 5));
    check("box-blur:size=99", box_twin(&original, 99));
    for (severity, sigma) in [(1, 0.4), (2, 0.6), (3, 0.7), (4, 0.8), (5, 1.0)] {
        check(&format!("gaussian-blur:{severity}"), gaussian_twin(&original, sigma));
    }
    check("gaussian-blur:sigma=1.5", gaussian_twin(&original, 1.5));
    // A box of one pixel changes nothing.
    let same = corrupted(std::slice::from_ref(&original), "box-blur:1");
    assert_eq!(same.pixels(0), original.as_raw().as_slice());
}

// Expected: by Pillow, Image.fromarray(x).resize((n, n), BOX).resize((32, 32), BOX), n = int(32 c), of the grey ramp
// x[y, x] = 7 x + y.
#[test]
fn pixelate_is_pillows() {
    let ramp = RgbImage::from_fn(32, 32, |x, y| Rgb([(7 * x + y) as u8; 3]));
    for (severity, row, column) in [
        (1, [13, 20, 27, 34, 41, 48, 55, 66], [210, 211, 212, 213, 214, 215, 216, 218]),
        (2, [13, 20, 27, 38, 38, 48, 55, 62], [210, 211, 212, 214, 214, 215, 216, 217]),
        (3, [13, 20, 31, 31, 41, 48, 55, 62], [210, 211, 213, 213, 214, 215, 216, 217]),
        (4, [14, 25, 25, 35, 42, 53, 53, 63], [207, 209, 209, 210, 211, 213, 213, 214]),
        (5, [17, 17, 27, 38, 38, 48, 59, 59], [215, 215, 216, 218, 218, 219, 221, 221]),
    ] {
        let data = corrupted(std::slice::from_ref(&ramp), &format!("pixelate:{severity}"));
        let of = |y: usize, x: usize| data.pixels(0)[(y * 32 + x) * 3];
        assert_eq!((0..8).map(|x| of(13, x)).collect::<Vec<_>>(), row, "{severity}");
        assert_eq!((0..8).map(|y| of(y, 30)).collect::<Vec<_>>(), column, "{severity}");
    }
}

#[test]
fn large_pictures_take_the_constants_of_imagenet() {
    let large = RgbImage::from_fn(128, 128, |x, y| Rgb([(x / 2 + y) as u8; 3]));
    let data = corrupted(&[large], "contrast:1");
    let bytes: Vec<f64> = data.pixels(0).iter().map(|byte| f64::from(*byte)).collect();
    let (_, before) = mean_and_deviation(
        &(0..128 * 128).map(|i| f64::from((i % 128 / 2 + i / 128) as u8)).collect::<Vec<_>>(),
    );
    assert!((mean_and_deviation(&bytes).1 / before - 0.4).abs() < 0.01);
}

#[test]
fn names_are_read_and_written() {
    for name in [
        "gaussian-noise:4",
        "gaussian-noise:sigma=0.6",
        "shot-noise:1",
        "gaussian-blur:5",
        "gaussian-blur:sigma=1.5",
        "box-blur:5",
        "contrast:2",
        "pixelate:3",
        "invert",
    ] {
        assert_eq!(name.parse::<Corruption>().unwrap().to_string(), name);
    }
    assert_eq!("box-blur:size=7".parse::<Corruption>().unwrap().to_string(), "box-blur:7");
    for name in [
        "",
        "fog:3",
        "gaussian-noise",
        "gaussian-noise:0",
        "gaussian-noise:6",
        "gaussian-noise:sigma=0",
        "gaussian-noise:sigma=-1",
        "gaussian-noise:sigma=NaN",
        "gaussian-noise:sigma=inf",
        "shot-noise:sigma=1",
        "gaussian-blur:sigma=1e9",
        "box-blur:4",
        "box-blur:101",
        "box-blur:-1",
        "box-blur",
        "invert:1",
        "contrast:1.5",
        "pixelate:size=2",
        ":4",
    ] {
        let message = name.parse::<Corruption>().unwrap_err().to_string();
        assert!(message.starts_with(&format!("corrupt: `{name}`, expected gaussian-noise")), "{message}");
    }
}
