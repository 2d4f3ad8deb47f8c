//! Text ↔ ids.

use proptest::prelude::*;
use rgft_data::{
    DataError, Labels, TableSpec, TextCodec, TextTokenizer, UnknownCharacters, build_word_vocabulary,
    parse_table,
};

use super::{characters, folder, message};

/// A byte-fallback BPE in small, with a template that puts `<s>` in front.
const TOKENIZER: &str = r#"{
    "version": "1.0", "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
    "padding": null,
    "added_tokens": [
        {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
        {"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": null,
    "post_processor": {"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
    "decoder": {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
        "vocab": {"<s>": 0, "</s>": 1, "▁": 2, "a": 3, "b": 4, "▁a": 5, BYTES}, "merges": ["▁ a"]}
}"#;

/// A folder with that tokenizer, all 256 bytes in it, and these files more.
fn bpe(files: &[(&str, &str)]) -> tempfile::TempDir {
    let bytes: Vec<String> = (0..256).map(|byte| format!("\"<0x{byte:02X}>\": {}", byte + 6)).collect();
    let tokenizer = TOKENIZER.replace("BYTES", &bytes.join(", "));
    folder(&[&[("tokenizer.json", tokenizer.as_str())], files].concat())
}

fn codec(files: &[(&str, &str)]) -> TextCodec {
    TextCodec::from_folder(bpe(files).path()).unwrap()
}

#[test]
fn texts_are_whole_and_come_back() {
    let codec = codec(&[("config.json", r#"{"bos_token_id": 0, "eos_token_id": 1}"#)]);
    // The file's own truncation at three tokens is not in force.
    assert_eq!(codec.encode("a b a").unwrap(), [5, 2, 4, 5]);
    assert_eq!(codec.encode_prompt("a").unwrap(), [0, 5]);
    assert_eq!((codec.bos(), codec.eos(), codec.stops()), (Some(0), Some(1), &[1][..]));
    assert_eq!(codec.decode(&[0, 5, 2, 4, 5, 1]), "a b a");
    assert_eq!(codec.vocabulary_size(), 262);
    assert_eq!(codec.encode("").unwrap(), [0u32; 0]);
}

#[test]
fn a_text_starts_as_the_models_tokenizer_starts_it() {
    let config = ("config.json", r#"{"bos_token_id": 0, "eos_token_id": [1, 4], "vocab_size": 300}"#);
    let codec_with = |files: &[(&str, &str)]| codec(&[&[config], files].concat());
    let plain = codec_with(&[]);
    assert_eq!((plain.bos(), plain.eos(), plain.stops()), (Some(0), Some(1), &[1, 4][..]));
    assert_eq!(plain.vocabulary_size(), 300);
    let off = codec_with(&[(
        "tokenizer_config.json",
        r#"{"add_bos_token": false, "eos_token": {"content": "b"}}"#,
    )]);
    assert_eq!((off.bos(), off.eos()), (None, Some(4)));
    let generation = codec_with(&[("generation_config.json", r#"{"eos_token_id": [1, 2]}"#)]);
    assert_eq!(generation.stops(), [1, 2, 4]);
    // A configuration names a token, but the template does not write it.
    let other = codec(&[("config.json", r#"{"bos_token_id": 1}"#)]);
    assert_eq!((other.bos(), other.eos()), (None, None));
}

#[test]
fn spans_are_the_bytes_of_the_text() {
    let text = "a é→b";
    let encoded = codec(&[]).encode_all(&[text]).unwrap().pop().unwrap();
    // ▁a, ▁, two bytes of é, three of →, b: a character's bytes are with the first token that reaches it.
    assert_eq!(encoded.ids.len(), 8);
    let spans: Vec<(usize, usize)> = encoded.spans.iter().map(|span| (span.start, span.end)).collect();
    assert_eq!(spans, [(0, 1), (1, 2), (2, 4), (4, 4), (4, 7), (7, 7), (7, 7), (7, 8)]);
}

#[test]
fn bytes_are_their_own_ids() {
    let model = folder(&[("config.json", r#"{"tokenizer": "bytes"}"#), ("vocab.json", "not read")]);
    let codec = TextCodec::from_folder(model.path()).unwrap();
    assert_eq!(codec.encode("aé").unwrap(), [97, 0xc3, 0xa9]);
    assert_eq!(codec.decode(&[97, 0xc3, 0xa9, 999]), "aé");
    assert_eq!(codec.decode(&[0xc3, 97]), "\u{fffd}a");
    assert_eq!((codec.vocabulary_size(), codec.bos()), (256, None));
    assert_eq!(TextCodec::bytes().encode("é").unwrap(), [0xc3, 0xa9]);
}

#[test]
fn unknown_characters_are_replaced_dropped_or_refused() {
    let codec = characters("ab \n");
    let encoded = |codec: &TextCodec| codec.encode_all(&["aé\r\nb_"]).unwrap().pop().unwrap();
    let replaced = encoded(&codec);
    assert_eq!(codec.decode(&replaced.ids), "a \nb ");
    assert_eq!(replaced.replaced.into_iter().collect::<Vec<_>>(), [('_', 1), ('é', 1)]);
    assert_eq!(replaced.dropped.into_iter().collect::<Vec<_>>(), [('\r', 1)]);
    // The dropped byte is nobody's.
    let bytes: usize = replaced.spans.iter().map(ExactSizeIterator::len).sum();
    assert_eq!((bytes, replaced.spans[1].clone(), replaced.spans[2].clone()), (6, 1..3, 4..5));

    let dropping = codec.clone().with_unknown_characters(UnknownCharacters::Drop);
    assert_eq!(codec.decode(&encoded(&dropping).ids), "a\nb");
    let refusing = codec.with_unknown_characters("refuse".parse().unwrap());
    assert_eq!(
        refusing.encode("a\nb\u{7}").unwrap_err().to_string(),
        "text:2: the character `\\u{7}` is not in the model's vocabulary\nhint: --unknown-characters replace or drop"
    );
    assert!("ignore".parse::<UnknownCharacters>().is_err());
    // A carriage return is kept where the vocabulary has one.
    assert_eq!(characters("a\r\n").encode("a\r\n").unwrap(), [0, 1, 2]);
}

#[test]
fn the_models_own_unknown_token_comes_before_the_space() {
    let model = folder(&[("vocab.json", r#"{"<unk>": 0, "a": 1, " ": 2, "[PAD]": 3, "<": 4}"#)]);
    let codec = TextCodec::from_folder(model.path()).unwrap();
    assert_eq!(codec.encode("a é<").unwrap(), [1, 2, 0, 4]);
    assert_eq!(codec.decode(&[1, 0, 3, 4, 77]), "a<");
    assert_eq!((codec.replacement(), codec.vocabulary_size()), (Some("`<unk>`"), 5));
}

#[test]
fn files_that_are_no_vocabulary() {
    let expected = "expected {\"a\": 0, \"b\": 1, …} with one character a key and ids from 0 without gaps";
    for (content, found) in [
        (r#"{"a": 0, "bc": 1}"#, "`bc` is no single character"),
        (r#"{"a": 0, "": 1}"#, "`` is no single character"),
        (r#"{"a": 0, "b": 2}"#, "`b` has an id outside 0 … 1"),
        (r#"{"a": 0, "b": -1}"#, "`b` has an id outside 0 … 1"),
        (r#"{"a": 0, "b": 0}"#, "`a` and `b` have the same id"),
        (r#"{"<unk>": 0}"#, "no character"),
        ("{}", "no character"),
    ] {
        let model = folder(&[("vocab.json", content)]);
        let found = format!("vocab.json: {found}, {expected}");
        assert_eq!(message(TextCodec::from_folder(model.path()), model.path()), found);
    }
    for content in ["", "[1]", "{\"a\": 4294967296000", "\u{feff}{}"] {
        let model = folder(&[("vocab.json", content)]);
        assert!(matches!(TextCodec::from_folder(model.path()), Err(DataError::BadVocabulary { .. })));
    }
    let model = folder(&[]);
    assert!(matches!(TextCodec::from_folder(model.path()), Err(DataError::NoTokenizer { .. })));
    let model = folder(&[("tokenizer.json", "{")]);
    assert!(matches!(TextCodec::from_folder(model.path()), Err(DataError::Tokenizer { .. })));
    let model = folder(&[("config.json", "[]"), ("vocab.json", r#"{"a": 0}"#)]);
    assert_eq!(message(TextCodec::from_folder(model.path()), model.path()), "config.json: not a JSON object");
}

#[test]
fn a_stream_continues_its_context() {
    let codec = codec(&[]);
    // At the start of a text the first space goes, behind a text it stays.
    let piece = |context: &[u32]| codec.decoder_after(context).push(5);
    assert_eq!([piece(&[]), piece(&[0]), piece(&[5])], ["a", "a", " a"]);
    // An id without text does not make the next one the first.
    let mut stream = codec.decoder_after(&[5]);
    assert_eq!([1, 5].map(|id| stream.push(id)), ["", " a"]);
    // A character comes when it is whole, or never becomes so.
    let mut stream = codec.decoder_after(&[3]);
    assert_eq!([0xe2, 0x86, 0x92].map(|byte| stream.push(byte + 6)), ["", "", "→"]);
    assert_eq!(stream.push(0xe2 + 6), "");
    assert_eq!(stream.finish(), "\u{fffd}");
    let mut stream = codec.decoder_after(&[]);
    let held: Vec<String> = (0..20).map(|_| stream.push(0x80 + 6)).collect();
    assert!(held.concat().chars().count() >= 12, "nothing is held back for ever: {held:?}");
}

#[test]
fn words_by_frequency() {
    let texts = ["The cat, the dog", "the CAT sat on Über-cats"];
    let json = build_word_vocabulary(texts, 5).unwrap();
    assert_eq!(json, build_word_vocabulary(texts, 5).unwrap());
    let model = folder(&[("tokenizer.json", std::str::from_utf8(&json).unwrap())]);
    let tokenizer = TextTokenizer::from_folder(model.path(), 16).unwrap();
    assert_eq!(tokenizer.vocabulary_size(), 5);
    // [UNK], the 3, cat 2, then the first of those that appear once: , -
    let table = parse_table(
        "t.jsonl".as_ref(),
        br#"{"text": "The cat-dog, CAT!"}"#,
        &TableSpec::default(),
        Labels::Optional,
    );
    assert_eq!(tokenizer.encode(&table.unwrap()).unwrap()[0].ids, [1, 2, 4, 0, 3, 2, 0]);
    assert!(build_word_vocabulary(texts, 1).is_err());
}

proptest! {
    #[test]
    fn any_text_comes_back_from_bytes_and_from_byte_fallback(text in "\\PC{0,40}") {
        // Apart from the tokenizer's special tokens, which are no text, and from what stands for broken text.
        let odd = ["<s>", "</s>", "▁", "\u{fffd}"];
        prop_assume!(odd.iter().all(|odd| !text.contains(odd)));
        let (bytes, bpe) = (TextCodec::bytes(), codec(&[]));
        for codec in [&bytes, &bpe] {
            let encoded = codec.encode_all(&[&text]).unwrap().pop().unwrap();
            prop_assert_eq!(codec.decode(&encoded.ids), text.as_str());
            let mut end = 0;
            for span in &encoded.spans {
                prop_assert_eq!(span.start, end);
                end = span.end;
            }
            prop_assert_eq!((end, encoded.spans.len()), (text.len(), encoded.ids.len()));
            for cut in [0, encoded.ids.len() / 2] {
                let mut stream = codec.decoder_after(&encoded.ids[..cut]);
                let mut pieces: String = encoded.ids[cut..].iter().map(|id| stream.push(*id)).collect();
                pieces.push_str(&stream.finish());
                if cut == 0 {
                    prop_assert_eq!(&pieces, &text);
                } else {
                    let known = pieces.chars().all(|c| c == char::REPLACEMENT_CHARACTER || text.contains(c));
                    prop_assert!(known, "{:?} of {:?}", pieces, text);
                }
            }
        }
    }

    #[test]
    fn any_text_of_known_characters_comes_back(text in "[abé\\n]{0,40}") {
        let codec = characters("abé\n").with_unknown_characters(UnknownCharacters::Refuse);
        prop_assert_eq!(codec.decode(&codec.encode(&text).unwrap()), text);
    }
}
