//! Pages compressed by zstd, decompressed in Rust.
//!
//! The pages come from a reader that was told that they are not compressed, and so passes them on as they are. Of a
//! data page of version 2 the levels stand uncompressed before the values.

use std::io::Read;

use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::reader::ChunkReader;
use ::parquet::file::serialized_reader::SerializedPageReader;
use ruzstd::decoding::StreamingDecoder;

/// Decompresses the pages of a column chunk.
pub(super) struct ZstdPages<R: ChunkReader> {
    pages: SerializedPageReader<R>,
    /// Bytes that the chunk has by its own account, when decompressed; no page may have more.
    limit: usize,
}

impl<R: ChunkReader> ZstdPages<R> {
    pub(super) fn new(pages: SerializedPageReader<R>, limit: usize) -> Self {
        Self { pages, limit }
    }

    fn decompress(&self, page: Page) -> Result<Page> {
        Ok(match page {
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding,
                rep_level_encoding,
                statistics,
            } => Page::DataPage {
                buf: inflate(&buf, 0, self.limit)?.into(),
                num_values,
                encoding,
                def_level_encoding,
                rep_level_encoding,
                statistics,
            },
            Page::DictionaryPage { buf, num_values, encoding, is_sorted } => Page::DictionaryPage {
                buf: inflate(&buf, 0, self.limit)?.into(),
                num_values,
                encoding,
                is_sorted,
            },
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls,
                num_rows,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                statistics,
            } => {
                let levels = def_levels_byte_len as usize + rep_levels_byte_len as usize;
                let buf = if is_compressed { inflate(&buf, levels, self.limit)?.into() } else { buf };
                Page::DataPageV2 {
                    buf,
                    num_values,
                    encoding,
                    num_nulls,
                    num_rows,
                    def_levels_byte_len,
                    rep_levels_byte_len,
                    is_compressed: false,
                    statistics,
                }
            }
        })
    }
}

/// `bytes` with what follows the first `plain` of them decompressed.
fn inflate(bytes: &[u8], plain: usize, limit: usize) -> Result<Vec<u8>> {
    let zstd = |message: String| ParquetError::General(format!("zstd: {message}"));
    let (levels, mut rest) =
        bytes.split_at_checked(plain).ok_or_else(|| zstd("a page shorter than its levels".to_owned()))?;
    let mut inflated = levels.to_vec();
    while !rest.is_empty() {
        let frame = StreamingDecoder::new(&mut rest).map_err(|error| zstd(error.to_string()))?;
        let room = (limit + 1).saturating_sub(inflated.len());
        frame.take(room as u64).read_to_end(&mut inflated).map_err(|error| zstd(error.to_string()))?;
        if inflated.len() > limit {
            return Err(zstd(format!("a page of more than the {limit} bytes of its column")));
        }
    }
    Ok(inflated)
}

impl<R: ChunkReader> Iterator for ZstdPages<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<R: ChunkReader> PageReader for ZstdPages<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.map(|page| self.decompress(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }
}
