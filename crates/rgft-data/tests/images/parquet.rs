//! The Parquet reader: codecs, versions, nulls, kinds.

use std::path::{Path, PathBuf};

use parquet::basic::{Compression, GzipLevel};
use rgft_data::{ImageDataset, ImageSource, ParquetFile, ParquetValues, read_images};

use crate::made::{Layout, picture, plain, png, put_parquet};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images")
}

#[test]
fn zstd_in_every_version_of_pages() {
    for name in ["zstd-v1", "zstd-v2", "zstd-v1-dictionary", "zstd-v2-dictionary"] {
        let path = folder().join(name).with_extension("parquet");
        let file = ParquetFile::open(&path).unwrap();
        assert_eq!(file.columns(), ["image.bytes", "image.path", "label", "text"], "{name}");
        assert_eq!((file.groups(), file.group_rows(0), file.group_rows(1)), (2, 5, 3));
        assert_eq!(file.class_names("label").unwrap(), ["even", "odd"]);
        assert_eq!(file.class_names("text"), None);
        let expected: Vec<Option<i64>> = (0..8).map(|i| (i != 5).then_some(i % 2)).collect();
        assert_eq!(file.integers("label", "label-column").unwrap(), expected, "{name}");
        let expected: Vec<Option<String>> =
            (0..8).map(|i| (i > 0).then(|| format!("picture number {i}"))).collect();
        assert_eq!(file.strings("text", "text-column").unwrap(), expected, "{name}");
        let spec = plain(4, 4);
        let table = read_images(&ImageSource::at(&path).unwrap(), &spec).unwrap();
        let data = ImageDataset::unlabelled(&table, &spec, 2).unwrap();
        for i in 0..8 {
            let colour = [30 * i as u8, 255 - 30 * i as u8, 10 * i as u8];
            assert_eq!(data.pixels(i), colour.repeat(16), "{name}: {i}");
        }
        let refused = ImageDataset::labelled(&table, &spec, &table.label_map().unwrap()).unwrap_err();
        let message = refused.to_string();
        assert!(message.contains(".parquet: row 6: no class\nhint: name the column"), "{message}");
    }
}

#[test]
fn other_codecs_and_long_columns() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = png(&picture(4, 4, 1));
    let rows: Vec<_> = (0..20_000).map(|i| ((i % 3 > 0).then(|| bytes.clone()), Some(i))).collect();
    let gzip = Compression::GZIP(GzipLevel::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, gzip, Compression::LZ4_RAW] {
        let path = folder.path().join("x.parquet");
        put_parquet(&path, &Layout { compression, ..Layout::default() }, &rows[..40]);
        let file = ParquetFile::open(&path).unwrap();
        let expected: Vec<_> = (0..40).map(Some).collect();
        assert_eq!(file.integers("label", "label-column").unwrap(), expected, "{compression}");
        let ParquetValues::Bytes(values) = file.values(1, "image.bytes", "image-column").unwrap() else {
            panic!("bytes");
        };
        assert_eq!(values, [None, Some(bytes.clone()), Some(bytes.clone())]);
    }
}

#[test]
fn columns_of_another_kind() {
    let file = ParquetFile::open(&folder().join("zstd-v1.parquet")).unwrap();
    let message = |error: rgft_data::DataError| error.to_string().split_once(": ").unwrap().1.to_owned();
    assert_eq!(
        message(file.strings("label", "text-column").unwrap_err()),
        "column `label` is integers, expected strings"
    );
    assert_eq!(
        message(file.integers("text", "label-column").unwrap_err()),
        "column `text` is bytes, expected integers"
    );
    assert_eq!(
        message(file.strings("image.bytes", "text-column").unwrap_err()),
        "column `image.bytes` is bytes that are not UTF-8, expected strings"
    );
    assert_eq!(
        message(file.strings("title", "text-column").unwrap_err()),
        "no column `title`, there are image.bytes, image.path, label, text\nhint: name the column with --text-column"
    );
}
