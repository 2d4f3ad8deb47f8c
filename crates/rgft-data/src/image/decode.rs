//! From encoded bytes to a picture of the input's size.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageReader, Limits};

use super::resample::{Filter, Picture};
use super::spec::{ImageSpec, Resize};

/// Memory that decoding one picture may take, in bytes: what its header claims is no reason to reserve more.
const MOST: u64 = 512 << 20;

/// Decodes a JPEG, PNG or BMP, turns it upright as its EXIF data says, and resizes it.
///
/// # Errors
/// What the decoder said.
pub(super) fn decode(encoded: &[u8], spec: &ImageSpec) -> Result<Picture, String> {
    let picture = read(encoded, spec.channels).map_err(|error| match error {
        image::ImageError::Unsupported(_) => format!("{error}; expected JPEG, PNG or BMP"),
        error => error.to_string(),
    })?;
    if picture.pixels.is_empty() {
        return Err("it has no pixels".to_owned());
    }
    Ok(fit(picture, spec))
}

fn read(encoded: &[u8], channels: usize) -> Result<Picture, image::ImageError> {
    let mut reader = ImageReader::new(Cursor::new(encoded)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    limits.reserve(decoder.total_bytes())?;
    // Orientation is a courtesy: a picture with broken EXIF data is still a picture.
    let upright = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(upright);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let grey = matches!(image.color(), ColorType::L8 | ColorType::L16 | ColorType::La8 | ColorType::La16);
    let pixels = match (channels, grey) {
        (1, true) => image.into_luma8().into_raw(),
        (1, false) => image.into_rgb8().as_raw().chunks_exact(3).map(luma).collect(),
        _ => image.into_rgb8().into_raw(),
    };
    Ok(Picture { pixels, height, width, channels })
}

/// ITU-R 601 in 16 binary places, as Pillow's `convert("L")`.
fn luma(rgb: &[u8]) -> u8 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

/// Brings a picture to the size of the input.
fn fit(picture: Picture, spec: &ImageSpec) -> Picture {
    let (h, w) = (spec.height, spec.width);
    if (picture.height, picture.width) == (h, w) {
        return picture;
    }
    match spec.resize {
        Resize::Squash => picture.resample((h, w), (0..h, 0..w), Filter::Triangle),
        Resize::Crop => {
            let (tall, wide) = cover((picture.height, picture.width), (h, w));
            let (top, left) = (centre(tall, h), centre(wide, w));
            picture.resample((tall, wide), (top..top + h, left..left + w), Filter::Triangle)
        }
    }
}

/// The least size with the proportions of `from` that covers `to`; the longer side is rounded down.
fn cover(from: (usize, usize), to: (usize, usize)) -> (usize, usize) {
    if to.0 * from.1 >= to.1 * from.0 {
        (to.0, (from.1 * to.0 / from.0).max(to.1))
    } else {
        ((from.0 * to.1 / from.1).max(to.0), to.1)
    }
}

/// Where the middle `part` of `whole` starts; halves go to the even number, as Python rounds.
fn centre(whole: usize, part: usize) -> usize {
    let spare = whole - part;
    let half = spare / 2;
    if spare % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_side_is_rounded_down_and_its_centre_taken() {
        assert_eq!(cover((100, 150), (32, 32)), (32, 48));
        assert_eq!(cover((150, 101), (32, 32)), (47, 32));
        assert_eq!(cover((10, 10), (20, 40)), (40, 40));
        assert_eq!(cover((1, 100_000), (32, 32)), (32, 3_200_000));
        assert_eq!((centre(48, 32), centre(47, 32), centre(33, 32), centre(35, 32)), (8, 8, 0, 2));
    }

    #[test]
    fn grey_is_pillows() {
        // PIL.Image.new("RGB", (1, 1), colour).convert("L")
        for (colour, expected) in
            [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([12, 200, 77], 130)]
        {
            assert_eq!(luma(&colour), expected, "{colour:?}");
        }
    }
}
