//! Pictures and Parquet files for the tests.

use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use image::{DynamicImage, ImageFormat, RgbImage};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use rgft_core::{Images, Inputs};
use rgft_data::{Dataset, ImageDataset, ImageSource, ImageSpec, PackedBatch, read_images};

/// A picture with structure in all directions, different for each `seed`.
pub(crate) fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let at = x * 7 + y * 13 + seed * 31;
        image::Rgb([(at * 5 % 256) as u8, (at * at % 251) as u8, (x * y * 3 + seed) as u8])
    })
}

pub(crate) fn png(picture: &RgbImage) -> Vec<u8> {
    encoded(picture, ImageFormat::Png)
}

pub(crate) fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(picture.clone()).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Writes a file and the folders above it.
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A Parquet file in the Hugging Face layout.
pub(crate) struct Layout<'a> {
    pub(crate) image: &'a str,
    pub(crate) label: &'a str,
    pub(crate) names: Option<&'a [&'a str]>,
    pub(crate) compression: Compression,
}

impl Default for Layout<'_> {
    fn default() -> Self {
        Self { image: "image", label: "label", names: None, compression: Compression::SNAPPY }
    }
}

/// Writes pictures and classes, three rows to a group. `None` is null.
pub(crate) fn put_parquet(path: &Path, layout: &Layout, rows: &[(Option<Vec<u8>>, Option<i64>)]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = format!(
        "message schema {{ optional group {} {{ optional binary bytes; optional binary path (UTF8); }}
         optional int64 {}; }}",
        layout.image, layout.label
    );
    let features = layout.names.map(|names| {
        let info = serde_json::json!({"info": {"features": {layout.label: {"names": names}}}});
        vec![KeyValue::new("huggingface".to_owned(), info.to_string())]
    });
    let properties = WriterProperties::builder()
        .set_compression(layout.compression)
        .set_key_value_metadata(features)
        .build();
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    for rows in rows.chunks(3) {
        let mut group = writer.next_row_group().unwrap();
        let bytes: Vec<ByteArray> =
            rows.iter().filter_map(|row| row.0.clone().map(ByteArray::from)).collect();
        let levels: Vec<i16> = rows.iter().map(|row| if row.0.is_some() { 2 } else { 1 }).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&bytes, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows.len()]), None).unwrap();
        column.close().unwrap();
        let labels: Vec<i64> = rows.iter().filter_map(|row| row.1).collect();
        let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.1.is_some())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// Pixels in 0 to 1 as they are: mean 0, deviation 1.
pub(crate) fn plain(height: usize, width: usize) -> ImageSpec {
    ImageSpec { mean: vec![0.0; 3], std: vec![1.0; 3], ..ImageSpec::new(height, width, 3) }
}

/// A data set of these pictures, without classes.
pub(crate) fn data_set(pictures: &[RgbImage], spec: &ImageSpec) -> ImageDataset {
    let folder = tempfile::tempdir().unwrap();
    for (i, picture) in pictures.iter().enumerate() {
        put(&folder.path().join(format!("{i:04}.png")), &png(picture));
    }
    let table = read_images(&ImageSource::at(folder.path()).unwrap(), spec).unwrap();
    ImageDataset::unlabelled(&table, spec, 2).unwrap()
}

pub(crate) fn images(batch: &PackedBatch) -> &Images {
    match &batch.inputs {
        Inputs::Images(images) => images,
        other => panic!("{other:?}"),
    }
}

/// All examples, not varied.
pub(crate) fn values(data: &ImageDataset) -> Vec<f32> {
    let all: Vec<usize> = (0..data.len()).collect();
    images(&data.pack(&all, None)).pixels.clone()
}
