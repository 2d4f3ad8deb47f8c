//! Files that are wrong: each gives one error that says where and what, never a panic.

use std::path::Path;

use image::ImageFormat;
use rgft_data::{DataError, ImageDataset, ImageSource, LabelMap, ParquetFile, locate_images, read_images};

use crate::made::{Layout, encoded, picture, plain, png, put, put_parquet};

/// The message, without the folder.
fn message<T>(folder: &Path, result: Result<T, DataError>) -> String {
    result.err().unwrap().to_string().replace(&format!("{}/", folder.display()), "")
}

fn read(path: &Path, labels: Option<&LabelMap>) -> Result<ImageDataset, DataError> {
    let spec = plain(8, 8);
    let table = read_images(&ImageSource::at(path)?, &spec)?;
    match labels {
        Some(labels) => ImageDataset::labelled(&table, &spec, labels),
        None => ImageDataset::unlabelled(&table, &spec, 2),
    }
}

fn cats_and_dogs() -> LabelMap {
    LabelMap::from_id2label([(0, "cat"), (1, "dog")]).unwrap()
}

#[test]
fn broken_pictures_are_named_by_file_and_row() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    put(&here.join("a/0.png"), &png(&picture(8, 8, 0)));
    put(&here.join("a/1.png"), b"this is text");
    assert!(message(here, read(here, None)).starts_with("a/1.png: no image that can be read: "));
    put(&here.join("a/1.png"), b"");
    assert_eq!(message(here, read(here, None)), "a/1.png: the file is empty");
    put(&here.join("a/1.png"), &png(&picture(40, 40, 0))[..90]);
    assert!(message(here, read(here, None)).starts_with("a/1.png: no image that can be read: "));
    put(&here.join("a/1.png"), b"GIF89a");
    let expected = "a/1.png: no image that can be read: ";
    assert!(message(here, read(here, None)).starts_with(expected));
    assert!(message(here, read(here, None)).ends_with("expected JPEG, PNG or BMP"));

    let file = here.join("x.parquet");
    let good = || Some(png(&picture(8, 8, 0)));
    let rows = [(good(), Some(0)), (good(), Some(0)), (good(), Some(1)), (Some(b"junk".to_vec()), Some(0))];
    put_parquet(&file, &Layout::default(), &rows);
    assert!(message(here, read(&file, None)).starts_with("x.parquet: row 4: no image that can be read: "));
    put_parquet(&file, &Layout::default(), &[(good(), Some(0)), (None, Some(1))]);
    assert_eq!(message(here, read(&file, None)), "x.parquet: row 2: no image");
}

#[test]
fn the_first_of_several_broken_pictures_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..200 {
        let bytes = if i % 50 == 37 { b"junk".to_vec() } else { png(&picture(8, 8, 0)) };
        put(&folder.path().join(format!("{i:03}.png")), &bytes);
    }
    for _ in 0..5 {
        assert!(message(folder.path(), read(folder.path(), None)).starts_with("037.png"));
    }
}

#[test]
fn pictures_that_claim_to_be_huge_take_no_memory() {
    // A PNG header of 60,000 × 60,000 pixels in 8-bit RGB: 10.8 GB.
    let mut huge = png(&picture(8, 8, 0));
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let crc = crc(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    let folder = tempfile::tempdir().unwrap();
    put(&folder.path().join("0.png"), &huge);
    let text = message(folder.path(), read(folder.path(), None));
    assert!(text.starts_with("0.png: no image that can be read: "), "{text}");
    assert!(text.to_lowercase().contains("limit"), "{text}");
}

fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn classes_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    put(&here.join("train/cat/0.png"), &png(&picture(8, 8, 0)));
    put(&here.join("train/bird/0.png"), &png(&picture(8, 8, 0)));
    assert_eq!(
        message(here, read(&here.join("train"), Some(&cats_and_dogs()))),
        "train/bird/0.png: unknown class `bird`, the known ones are cat, dog"
    );
    let file = here.join("x.parquet");
    let good = || Some(png(&picture(8, 8, 0)));
    let with_names = Layout { names: Some(&["cat", "dog"]), ..Layout::default() };
    for layout in [Layout::default(), with_names] {
        for wrong in [2, -1, i64::MAX] {
            put_parquet(&file, &layout, &[(good(), Some(0)), (good(), Some(wrong))]);
            assert_eq!(
                message(here, read(&file, Some(&cats_and_dogs()))),
                format!("x.parquet: row 2: label {wrong}, expected 0 to 1")
            );
        }
    }
    put_parquet(&file, &Layout::default(), &[(good(), Some(3)), (good(), Some(3))]);
    let table = read_images(&ImageSource::at(&file).unwrap(), &plain(8, 8)).unwrap();
    assert_eq!(message(here, table.label_map()), "x.parquet: one class (`3`), expected at least two classes");
    // Pictures without classes can be predicted, and nothing else.
    put(&here.join("loose/0.png"), &png(&picture(8, 8, 0)));
    assert!(read(&here.join("loose"), None).is_ok());
    assert!(
        message(here, read(&here.join("loose/0.png"), Some(&cats_and_dogs())))
            .starts_with("loose/0.png: no class\nhint: ")
    );
}

#[test]
fn places_without_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let none = |found: &str| {
        format!(
            "{}: expected pictures, found {found}\nhint: expected train.parquet, or a folder of images for each \
             class, as in train/cat/1.jpg or cat/1.jpg",
            here.display()
        )
    };
    let located = || locate_images(here, None, None).unwrap_err().to_string();
    assert_eq!(located(), none("nothing of use"));
    put(&here.join("notes/readme.txt"), b"text");
    assert_eq!(located(), none("the folders notes"));
    put(&here.join("0.png"), &png(&picture(8, 8, 0)));
    assert_eq!(located(), none("1 images without classes"));
    put(&here.join("other.parquet"), b"PAR1");
    assert_eq!(located(), none("other.parquet"));
    assert!(message(here, locate_images(&here.join("nowhere"), None, None)).starts_with("nowhere: "));
    assert!(
        message(here, ImageSource::at(&here.join("notes/readme.txt")))
            .starts_with("notes/readme.txt: expected pictures, found a file of another kind\nhint: ")
    );
    put(&here.join("train.parquet"), b"");
    put(&here.join("val.parquet"), b"");
    put(&here.join("dev.parquet"), b"");
    let text = located();
    assert!(text.contains("dev.parquet, val.parquet could each be the validation file"), "{text}");
}

#[test]
fn damaged_parquet_files_are_refused_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let file = here.join("x.parquet");
    put(&file, b"");
    assert_eq!(message(here, ParquetFile::open(&file)), "x.parquet: the file is empty");
    put(&file, b"PAR1 and then nothing PAR1");
    assert!(message(here, read(&file, None)).starts_with("x.parquet: no Parquet file that can be read: "));
    put(&file, b"just text, nothing else in here");
    assert!(message(here, read(&file, None)).starts_with("x.parquet: no Parquet file that can be read: "));

    // Every byte of small files in turn; whatever comes out, it comes out as a value.
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images");
    let mut refused = 0;
    for name in ["zstd-v1", "zstd-v2-dictionary"] {
        let whole = std::fs::read(fixtures.join(name).with_extension("parquet")).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= [0x01, 0x80, 0xff][place % 3];
            put(&file, &bytes);
            refused += usize::from(read(&file, Some(&cats_and_dogs())).is_err());
            if let Ok(file) = ParquetFile::open(&file) {
                let _ = file.strings("text", "text-column");
                let _ = file.integers("label", "label-column");
            }
        }
        for end in (0..whole.len()).step_by(7) {
            put(&file, &whole[..end]);
            assert!(read(&file, None).is_err(), "{name}: {end}");
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn damaged_pictures_are_refused_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("0.png");
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp] {
        let whole = encoded(&picture(12, 9, 1), format);
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0xff;
            put(&file, &bytes);
            let _ = read(&file, None);
        }
    }
}
