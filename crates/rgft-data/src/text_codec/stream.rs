//! Ids to text while they are generated: a piece of text as soon as it is certain.
//!
//! The text of an id can depend on those before it (a leading space that only the first token loses, bytes that are a
//! character only together). So the ids of the last piece are decoded with and without the new one, and the difference
//! is what is new; while it ends in an incomplete character it is held back. A piece starts where a character starts.

use super::TextCodec;

/// Ids held back at most: no character has more bytes, and what is incomplete by then stays so.
const HELD: usize = 8;

/// Decodes one text id by id; made by [`TextCodec::decoder_after`].
#[derive(Debug)]
pub struct StreamingDecoder<'a> {
    codec: &'a TextCodec,
    /// The ids of the last piece, then those held back.
    ids: Vec<u32>,
    /// How many of them are out.
    out: usize,
}

impl<'a> StreamingDecoder<'a> {
    pub(super) fn new(codec: &'a TextCodec, context: &[u32]) -> Self {
        let mut decoder = Self { codec, ids: Vec::new(), out: 0 };
        for id in context {
            decoder.push(*id);
        }
        decoder
    }

    /// Takes one more id, and gives the text that is certain now, often empty.
    pub fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let text = self.codec.decode(&self.ids);
        let incomplete = text.ends_with(char::REPLACEMENT_CHARACTER);
        if incomplete && self.ids.len() - self.out < HELD {
            return String::new();
        }
        let new = self.new_in(&text);
        if incomplete {
            // What never becomes a character would spoil those behind it.
            self.ids.truncate(self.out);
        } else if !new.is_empty() {
            self.ids.drain(..self.out);
        }
        self.out = self.ids.len();
        new
    }

    /// The text that is held back, with U+FFFD for what is incomplete.
    #[must_use]
    pub fn finish(self) -> String {
        self.new_in(&self.codec.decode(&self.ids))
    }

    /// What `text`, that of all ids, has more than those that are out.
    fn new_in(&self, text: &str) -> String {
        let (out, held) = self.ids.split_at(self.out);
        // Bytes that are no character can change how those before them decode; they are then decoded alone.
        let new = text.strip_prefix(self.codec.decode(out).as_str()).map(str::to_owned);
        new.unwrap_or_else(|| self.codec.decode(held))
    }
}
