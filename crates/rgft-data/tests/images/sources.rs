//! Layouts of files and folders, classes, limits, sizes.

use image::ImageFormat;
use rgft_core::Extent;
use rgft_data::{
    Dataset, ImageDataset, ImageSource, ImageSpec, LabelMap, Resize, Targets, locate_images, read_images,
    split_stratified,
};

use crate::made::{Layout, encoded, images, picture, plain, png, put, put_parquet, values};

fn rows(classes: &[i64]) -> Vec<(Option<Vec<u8>>, Option<i64>)> {
    let one = |(i, class): (usize, &i64)| (Some(png(&picture(8, 8, i as u32))), Some(*class));
    classes.iter().enumerate().map(one).collect()
}

fn classes_of(data: &ImageDataset) -> Vec<u32> {
    (0..data.len()).map(|example| data.class(example).unwrap()).collect()
}

#[test]
fn a_parquet_file_gives_its_pictures_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout { names: Some(&["cat", "dog"]), ..Layout::default() };
    put_parquet(&folder.path().join("train.parquet"), &layout, &rows(&[0, 1, 1, 0, 1, 0, 0]));
    put_parquet(&folder.path().join("test.parquet"), &layout, &rows(&[1, 1]));
    let files = locate_images(folder.path(), None, None).unwrap();
    assert_eq!(files.validation, None);
    let spec = plain(8, 8);
    let table = read_images(&files.train, &spec).unwrap();
    let labels = table.label_map().unwrap();
    assert_eq!(labels.names(), ["cat", "dog"]);
    let train = ImageDataset::labelled(&table, &spec, &labels).unwrap();
    assert_eq!(classes_of(&train), [0, 1, 1, 0, 1, 0, 0]);
    assert_eq!(train.pixels(5), picture(8, 8, 5).as_raw().as_slice());
    assert!(train.place(5).ends_with("train.parquet: row 6"), "{}", train.place(5));
    let table = read_images(&files.test.unwrap(), &spec).unwrap();
    let test = ImageDataset::labelled(&table, &spec, &labels).unwrap();
    let batch = test.pack(&[1, 0], None);
    assert_eq!(batch.targets, Targets::Classes(vec![1, 1]));
    assert_eq!(batch.rows, [1, 0]);
    assert_eq!(batch.inputs.extent(), Extent::Maps { examples: 2, height: 8, width: 8 });
    assert_eq!(batch.inputs.extent(), test.extent(&[1, 0]));
    let expected: Vec<f32> = [picture(8, 8, 1), picture(8, 8, 0)]
        .iter()
        .flat_map(|picture| picture.as_raw().iter().map(|byte| f32::from(*byte) / 255.0))
        .collect();
    assert_eq!(images(&batch).pixels, expected);
}

#[test]
fn normalised_by_mean_and_deviation_of_each_channel() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder.path().join("one.png"), &png(&picture(3, 2, 9)));
    let spec = ImageSpec::new(2, 3, 3);
    let table = read_images(&ImageSource::at(folder.path()).unwrap(), &spec).unwrap();
    let data = ImageDataset::unlabelled(&table, &spec, 5).unwrap();
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    for (i, (value, byte)) in values(&data).iter().zip(picture(3, 2, 9).as_raw()).enumerate() {
        let expected = (f64::from(*byte) / 255.0 - mean[i % 3]) / std[i % 3];
        assert!((f64::from(*value) - expected).abs() < 1e-5);
    }
    assert_eq!(data.pack(&[0], None).targets, Targets::Unknown);
    assert_eq!((data.outputs(), data.bytes()), (5, 18));
    assert!(data.place(0).ends_with("one.png"));
}

#[test]
fn shards_are_read_in_order_and_columns_by_option() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout { image: "photo", label: "species", ..Layout::default() };
    let data = folder.path().join("data");
    put_parquet(&data.join("train-00001-of-00002.parquet"), &layout, &rows(&[7, 7]));
    put_parquet(&data.join("train-00000-of-00002.parquet"), &layout, &rows(&[30, 4]));
    put_parquet(&data.join("validation-00000-of-00001-8f3a.parquet"), &layout, &rows(&[4]));
    let files = locate_images(folder.path(), None, None).unwrap();
    let mut spec = plain(8, 8);
    let message = read_images(&files.train, &spec).unwrap_err().to_string();
    assert!(message.ends_with(
        "no column `image`, there are photo.bytes, photo.path, species\nhint: name the column with --image-column"
    ), "{message}");
    spec.image_column = Some("photo".to_owned());
    spec.label_column = Some("species".to_owned());
    let table = read_images(&files.train, &spec).unwrap();
    // Without names the numbers are the names, in their order.
    let labels = table.label_map().unwrap();
    assert_eq!(labels.names(), ["4", "7", "30"]);
    assert_eq!(classes_of(&ImageDataset::labelled(&table, &spec, &labels).unwrap()), [2, 0, 1, 1]);
    let validation = read_images(&files.validation.unwrap(), &spec).unwrap();
    assert_eq!(classes_of(&ImageDataset::labelled(&validation, &spec, &labels).unwrap()), [0]);
    // Against the names of a model, a number is the class itself.
    let model = LabelMap::from_id2label((0..40).map(|i| (i, format!("class {i}")))).unwrap();
    assert_eq!(classes_of(&ImageDataset::labelled(&table, &spec, &model).unwrap()), [30, 4, 7, 7]);
    std::fs::remove_file(data.join("train-00000-of-00002.parquet")).unwrap();
    let message = locate_images(folder.path(), None, None).unwrap_err().to_string();
    assert!(message.ends_with("1 of the 2 files of `train`"), "{message}");
}

#[test]
fn folders_of_classes_with_and_without_parts() {
    let spec = plain(4, 4);
    for parts in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let train = if parts { folder.path().join("train") } else { folder.path().to_owned() };
        put(&train.join("dog/b.jpg"), &encoded(&picture(4, 4, 1), ImageFormat::Jpeg));
        put(&train.join("dog/deep/a.BMP"), &encoded(&picture(4, 4, 2), ImageFormat::Bmp));
        put(&train.join("cat/z.png"), &png(&picture(4, 4, 3)));
        put(&train.join("cat/notes.txt"), b"no picture");
        put(&train.join(".git/x.png"), b"hidden");
        put(&folder.path().join("test/cat/1.png"), &png(&picture(4, 4, 4)));
        put(&folder.path().join("val/dog/1.png"), &png(&picture(4, 4, 5)));
        let files = locate_images(folder.path(), None, None).unwrap();
        let table = read_images(&files.train, &spec).unwrap();
        let labels = table.label_map().unwrap();
        assert_eq!(labels.names(), ["cat", "dog"]);
        let data = ImageDataset::labelled(&table, &spec, &labels).unwrap();
        assert_eq!(classes_of(&data), [0, 1, 1]);
        assert_eq!(data.pixels(0), picture(4, 4, 3).as_raw().as_slice());
        assert!(data.place(1).ends_with("b.jpg"), "{}", data.place(1));
        assert_eq!(data.pixels(2), picture(4, 4, 2).as_raw().as_slice());
        let test = read_images(&files.test.unwrap(), &spec).unwrap();
        assert_eq!(classes_of(&ImageDataset::labelled(&test, &spec, &labels).unwrap()), [0]);
        let validation = read_images(&files.validation.unwrap(), &spec).unwrap();
        assert_eq!(classes_of(&ImageDataset::labelled(&validation, &spec, &labels).unwrap()), [1]);
    }
}

#[test]
fn numbered_folders_are_classes_in_the_order_of_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    for class in [10, 9, 2] {
        put(&folder.path().join(format!("{class}/x.png")), &png(&picture(4, 4, class)));
    }
    let files = locate_images(folder.path(), None, None).unwrap();
    let table = read_images(&files.train, &plain(4, 4)).unwrap();
    assert_eq!(table.label_map().unwrap().names(), ["2", "9", "10"]);
}

#[test]
fn a_limit_keeps_the_share_of_each_class_in_a_sorted_file() {
    let folder = tempfile::tempdir().unwrap();
    let classes: Vec<i64> = (0..40).map(|row| row / 10).collect();
    put_parquet(&folder.path().join("train.parquet"), &Layout::default(), &rows(&classes));
    let spec = ImageSpec { limit: Some(8), ..plain(8, 8) };
    let table = read_images(&ImageSource::at(&folder.path().join("train.parquet")).unwrap(), &spec).unwrap();
    let data = ImageDataset::labelled(&table, &spec, &table.label_map().unwrap()).unwrap();
    assert_eq!(classes_of(&data), [0, 0, 1, 1, 2, 2, 3, 3]);
    assert!(data.place(7).ends_with("row 36"), "{}", data.place(7));
    assert_eq!(data.pixels(7), picture(8, 8, 35).as_raw().as_slice());
    // And a split of it is stratified.
    let split = split_stratified(&data.targets(), 0.5);
    assert_eq!(classes_of(&data.subset(split.validation.clone())), [0, 1, 2, 3]);
    let train = data.subset(split.train.clone());
    assert_eq!(train.pixels(3), data.pixels(split.train[3]));
    assert_eq!(train.subset([3]).pixels(0), data.pixels(split.train[3]));
}

#[test]
fn crop_keeps_proportions_and_squash_does_not() {
    // Left half black, right half white, twice as wide as high.
    let halves = image::RgbImage::from_fn(64, 32, |x, _| image::Rgb([if x < 32 { 0 } else { 255 }; 3]));
    let bars =
        image::RgbImage::from_fn(64, 32, |x, _| image::Rgb([if (16..48).contains(&x) { 255 } else { 0 }; 3]));
    let folder = tempfile::tempdir().unwrap();
    put(&folder.path().join("0.png"), &png(&halves));
    put(&folder.path().join("1.png"), &png(&bars));
    let read = |resize| {
        let spec = ImageSpec { resize, ..plain(16, 16) };
        let table = read_images(&ImageSource::at(folder.path()).unwrap(), &spec).unwrap();
        ImageDataset::unlabelled(&table, &spec, 2).unwrap()
    };
    let row = |data: &ImageDataset, i: usize| -> Vec<u8> {
        data.pixels(i)[..16 * 3].iter().step_by(3).copied().collect()
    };
    let crop = read(Resize::Crop);
    assert_eq!(row(&crop, 0)[..7], [0; 7]);
    assert_eq!(row(&crop, 0)[9..], [255; 7]);
    assert_eq!(row(&crop, 1)[1..15], [255; 14]);
    let squash = read(Resize::Squash);
    assert_eq!(row(&squash, 1)[..3], [0; 3]);
    assert_eq!(row(&squash, 1)[5..11], [255; 6]);
}

#[test]
fn grey_and_colour_become_what_the_model_takes() {
    let folder = tempfile::tempdir().unwrap();
    let grey = image::GrayImage::from_fn(4, 4, |x, y| image::Luma([(x * 60 + y) as u8]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    grey.write_to(&mut bytes, ImageFormat::Png).unwrap();
    put(&folder.path().join("0.png"), &bytes.into_inner());
    put(&folder.path().join("1.png"), &png(&image::RgbImage::from_pixel(4, 4, image::Rgb([12, 200, 77]))));
    let read = |channels| {
        let spec = ImageSpec::new(4, 4, channels);
        let table = read_images(&ImageSource::at(folder.path()).unwrap(), &spec).unwrap();
        ImageDataset::unlabelled(&table, &spec, 2).unwrap()
    };
    assert_eq!(read(1).pixels(0), grey.as_raw().as_slice());
    assert_eq!(read(1).pixels(1), [130; 16]);
    let tripled: Vec<u8> = grey.as_raw().iter().flat_map(|value| [*value; 3]).collect();
    assert_eq!(read(3).pixels(0), tripled);
}

#[test]
fn a_picture_that_lies_on_its_side_is_turned() {
    // A JPEG of 16 × 8 whose EXIF block says orientation 6: to be turned a quarter clockwise.
    let mut jpeg = encoded(
        &image::RgbImage::from_fn(16, 8, |x, _| image::Rgb([if x < 8 { 0 } else { 255 }; 3])),
        ImageFormat::Jpeg,
    );
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    jpeg.splice(2..2, exif.iter().copied());
    let folder = tempfile::tempdir().unwrap();
    put(&folder.path().join("0.jpg"), &jpeg);
    let spec = plain(16, 8);
    let table = read_images(&ImageSource::at(folder.path()).unwrap(), &spec).unwrap();
    let data = ImageDataset::unlabelled(&table, &spec, 2).unwrap();
    // The left half is on top now.
    assert!(data.pixels(0)[..8 * 8 * 3].iter().all(|value| *value < 10));
    assert!(data.pixels(0)[8 * 8 * 3..].iter().all(|value| *value > 245));
}

#[test]
fn configurations_say_what_a_model_expects() {
    let read = |config: &str, preprocessor: Option<&str>| {
        let page = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
        ImageSpec::from_config(&page(config), preprocessor.map(page).as_ref())
    };
    let spec = read(r#"{"image_size": 32, "num_channels": 3, "image_mean": [0.1, 0.2, 0.3]}"#, None).unwrap();
    assert_eq!((spec.height, spec.width, spec.channels), (32, 32, 3));
    assert_eq!((spec.mean, spec.std), (vec![0.1, 0.2, 0.3], vec![0.229, 0.224, 0.225]));
    let page = r#"{"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 160},
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
    let spec = read("{}", Some(page)).unwrap();
    assert_eq!((spec.height, spec.width, spec.mean), (224, 160, vec![0.5; 3]));
    let timm = r#"{"pretrained_cfg": {"input_size": [1, 28, 30], "mean": [0.1307], "std": [0.3081]}}"#;
    let spec = read(timm, None).unwrap();
    assert_eq!((spec.height, spec.width, spec.channels, spec.std), (28, 30, 1, vec![0.3081]));
    for (config, expected) in [
        ("{}", "image_size: null, expected image_size in the model's config.json"),
        (r#"{"image_size": 0}"#, "image_size: 0 × 0, expected 1 to 4096 pixels a side"),
        (r#"{"image_size": 32, "num_channels": 4}"#, "num_channels: 4, expected 1 (grey) or 3"),
        (r#"{"image_size": 32, "image_mean": 0.5}"#, "image_mean: 0.5, expected a list of numbers"),
        (
            r#"{"image_size": 32, "image_std": [1, 0, 1]}"#,
            "image_std: [1.0, 0.0, 1.0], expected one positive",
        ),
        (r#"{"image_size": 32, "num_channels": 1, "image_mean": [1, 0, 1]}"#, "image_mean: [1.0, 0.0, 1.0]"),
    ] {
        let message = read(config, None).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}
