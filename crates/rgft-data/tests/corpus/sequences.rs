//! Documents to sequences: which token is predicted where, and what is held out.

use proptest::prelude::*;
use rgft_core::Inputs;
use rgft_data::{
    Completion, Corpus, CorpusDataset, CorpusSpec, Dataset, Document, IGNORED, Targets, TextCodec,
    UnknownCharacters, parse_corpus,
};

use super::{characters, folder, message};

fn corpus(texts: &[&str], running: bool) -> Corpus {
    let document = |text: &&str| Document { line: 1, text: (*text).to_owned(), ..Document::default() };
    Corpus { path: "c".into(), documents: texts.iter().map(document).collect(), running, notes: Vec::new() }
}

fn spec(context: usize, stride: Option<usize>) -> CorpusSpec {
    CorpusSpec { context, stride, ..CorpusSpec::default() }
}

/// Bytes, with 256 to start a text and 257 to end it.
fn bytes_with_ends() -> TextCodec {
    let config = r#"{"tokenizer": "bytes", "vocab_size": 258, "bos_token_id": 256, "eos_token_id": 257}"#;
    TextCodec::from_folder(folder(&[("config.json", config)]).path()).unwrap()
}

/// Inputs, lengths and targets of a batch.
fn packed(data: &CorpusDataset, examples: &[usize]) -> (Vec<u32>, Vec<usize>, Vec<u32>) {
    let batch = data.pack(examples, None);
    let (Inputs::Tokens(tokens), Targets::Classes(targets)) = (batch.inputs, batch.targets) else { panic!() };
    assert_eq!((tokens.types, batch.rows), (vec![0; tokens.ids.len()], examples.to_vec()));
    (tokens.ids, tokens.lengths, targets)
}

#[test]
fn a_batch_by_hand() {
    let data = CorpusDataset::new(&corpus(&["abcd", "x", "yz"], false), &TextCodec::bytes(), &spec(2, None))
        .unwrap();
    // "x" has nothing to predict; "abcd" is ab → bc and, after the overlap, c → d.
    let (ids, lengths, targets) = packed(&data, &[0, 2, 1]);
    let text = |ids: &[u32]| ids.iter().map(|id| *id as u8 as char).collect::<String>();
    assert_eq!((text(&ids), lengths, text(&targets)), ("abyc".to_owned(), vec![2, 1, 1], "bczd".to_owned()));
    assert_eq!((data.len(), data.outputs(), data.targets(), data.text_bytes()), (3, 256, 4, 4));
    assert_eq!(data.documents(), [0, 2]);
    assert_eq!(data.extent(&[0, 1]).rows(), 3);
}

#[test]
fn documents_start_and_end_and_running_text_has_no_end() {
    let of = |running, predict_end| {
        let spec = CorpusSpec { predict_end, ..spec(8, None) };
        let data = CorpusDataset::new(&corpus(&["ab"], running), &bytes_with_ends(), &spec).unwrap();
        assert_eq!(data.text_bytes(), 2, "with a token in front, every byte is predicted");
        packed(&data, &[0])
    };
    assert_eq!(of(false, true), (vec![256, 97, 98], vec![3], vec![97, 98, 257]));
    for (running, predict_end) in [(true, true), (false, false)] {
        assert_eq!(of(running, predict_end), (vec![256, 97], vec![2], vec![97, 98]));
    }
}

#[test]
fn the_loss_is_on_completions_only() {
    let completion =
        Completion { prompt_column: "text".into(), completion_column: "code".into(), separator: "\n".into() };
    let spec = CorpusSpec { completion: Some(completion), ..spec(16, None) };
    let rows = br#"{"text": "add", "code": "a+b"}
{"text": "nothing", "code": ""}
{"text": "", "code": "x"}"#;
    let corpus = parse_corpus("p.jsonl".as_ref(), rows, &spec).unwrap();
    assert_eq!((corpus.documents[0].prompt(), corpus.documents[0].completion()), ("add\n", "a+b"));
    assert_eq!(corpus.notes, ["1 of 3 documents are empty"]);
    let data = CorpusDataset::new(&corpus, &bytes_with_ends(), &spec).unwrap();
    let (ids, lengths, targets) = packed(&data, &[0, 1]);
    let code = |text: &str| text.bytes().map(u32::from).collect::<Vec<u32>>();
    assert_eq!(ids, [&[256][..], &code("add\na+b"), &[256], &code("\nx")].concat());
    assert_eq!(lengths, [8, 3]);
    assert_eq!(targets, [&[IGNORED; 4][..], &code("a+b"), &[257, IGNORED], &code("x"), &[257]].concat());
    assert_eq!((data.targets(), data.text_bytes()), (6, 4));
    // A sequence that is all prompt is none.
    let short = CorpusDataset::new(&corpus, &bytes_with_ends(), &CorpusSpec { context: 3, ..spec }).unwrap();
    assert_eq!(short.targets(), 6);
    for example in 0..short.len() {
        assert!(packed(&short, &[example]).2.iter().any(|target| *target != IGNORED));
    }
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let new = |texts: &[&str], codec: &TextCodec, spec: &CorpusSpec| {
        message(CorpusDataset::new(&corpus(texts, false), codec, spec), "c".as_ref())
    };
    let bytes = TextCodec::bytes();
    let expected = "expected 1 ≤ stride ≤ context";
    assert_eq!(new(&["ab"], &bytes, &spec(0, None)), format!("context 0 and stride 0, {expected}"));
    assert_eq!(new(&["ab"], &bytes, &spec(4, Some(5))), format!("context 4 and stride 5, {expected}"));
    assert_eq!(new(&["ab"], &bytes, &spec(4, Some(0))), format!("context 4 and stride 0, {expected}"));
    assert_eq!(
        new(&["a", "b"], &bytes, &spec(4, None)),
        "c: nothing to predict, expected a document of at least two tokens"
    );
    let small =
        folder(&[("config.json", r#"{"vocab_size": 2}"#), ("vocab.json", r#"{"a": 0, "b": 1, "c": 2}"#)]);
    let codec = TextCodec::from_folder(small.path()).unwrap();
    let found = message(CorpusDataset::new(&corpus(&["abc"], false), &codec, &spec(4, None)), small.path());
    assert_eq!(
        found,
        "vocab.json: it gives the id 2, but the model has 2 tokens (vocab_size in config.json)"
    );
}

#[test]
fn characters_outside_the_vocabulary_are_told() {
    let spec = spec(8, None);
    let of = |name: &str, bytes: &[u8], codec: &TextCodec| {
        CorpusDataset::new(&parse_corpus(name.as_ref(), bytes, &spec).unwrap(), codec, &spec)
    };
    let codec = characters("ab \n");
    let notes = of("t.txt", "a_b_\r\né".as_bytes(), &codec).unwrap().notes().to_vec();
    assert_eq!(
        notes,
        [
            "3 of 7 characters (42.86 %: `_` 2, `é` 1) are outside the model's vocabulary and were replaced by a space",
            "1 of 7 characters (14.29 %: `\\r` 1) are outside the model's vocabulary and were dropped",
        ]
    );
    let refusing = codec.with_unknown_characters(UnknownCharacters::Refuse);
    let refused = |name, bytes: &[u8]| message(of(name, bytes, &refusing), "".as_ref());
    assert!(refused("t.txt", b"a\n\nb_").starts_with("t.txt:3: the character `_` is not in"));
    assert!(
        refused("t.jsonl", b"{\"text\": \"ab\"}\n{\"text\": \"a\\n\\n_\"}")
            .starts_with("t.jsonl:2: the character `_`")
    );
}

#[test]
fn few_documents_lose_their_ends_and_many_whole_ones() {
    let letters: String = ('a'..='y').collect();
    let spec = spec(2, None);
    let one = CorpusDataset::new(&corpus(&[&letters], true), &TextCodec::bytes(), &spec).unwrap();
    let (train, held) = one.split(0.25);
    let held = held.unwrap();
    assert_eq!((train.len(), held.len(), one.len()), (9, 3, 12));
    assert_eq!(train.tokens(8).last(), held.tokens(0).first(), "they meet at a token and share no target");
    assert_eq!(train.text_bytes() + held.text_bytes(), one.text_bytes());

    let texts: Vec<&str> = (0..30).map(|start| &letters[start / 2..20]).collect();
    let many = CorpusDataset::new(&corpus(&texts, false), &TextCodec::bytes(), &spec).unwrap();
    let (train, held) = many.split(0.1);
    assert_eq!(held.unwrap().documents(), [9, 19, 29]);
    assert_eq!(train.documents().len(), 27);
    assert!(many.split(0.0).1.is_none());
    let single = CorpusDataset::new(&corpus(&["abc"], true), &TextCodec::bytes(), &spec).unwrap();
    assert!(single.split(0.1).1.is_none(), "one sequence stays whole");
}

proptest! {
    /// Every token but the first is predicted once, from the tokens in front of it; bytes add up; and so it stays
    /// when parts are held out.
    #[test]
    fn every_token_is_predicted_exactly_once(
        texts in prop::collection::vec("[a-cé]{0,30}", 1..8),
        context in 1usize..9,
        stride in 1usize..9,
        ends: bool,
        part in 0.0f64..0.6,
    ) {
        let codec = if ends { bytes_with_ends() } else { TextCodec::bytes() };
        let texts: Vec<&str> = texts.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        let spec = spec(context, Some(stride.min(context)));
        let data = match CorpusDataset::new(&corpus(&texts, false), &codec, &spec) {
            Ok(data) => data,
            Err(_) => {
                prop_assert!(texts.iter().all(|text| !ends && text.len() < 2));
                return Ok(());
            }
        };
        let mut expected: Vec<Vec<u32>> = texts.iter().map(|text| codec.encode(text).unwrap()).collect();
        if ends {
            expected = expected.into_iter().map(|ids| [&[256][..], &ids, &[257]].concat()).collect();
        }
        expected.retain(|ids| ids.len() > 1);

        let (rest, held) = data.split(part);
        let parts: Vec<&CorpusDataset> = std::iter::once(&rest).chain(&held).collect();
        prop_assert_eq!(parts.iter().map(|part| part.text_bytes()).sum::<usize>(), data.text_bytes());
        prop_assert_eq!(parts.iter().map(|part| part.targets()).sum::<usize>(), data.targets());

        // Joined behind their first tokens, the targets are the documents.
        let mut found: Vec<Vec<u32>> = Vec::new();
        for example in 0..data.len() {
            let (ids, lengths, targets) = packed(&data, &[example]);
            prop_assert!(ids.len() <= context && !ids.is_empty());
            prop_assert_eq!(lengths, [ids.len()]);
            let (tokens, ignored) = (data.tokens(example), targets.iter().filter(|t| **t == IGNORED).count());
            prop_assert!(targets[ignored..].iter().zip(&tokens[1 + ignored..]).all(|(a, b)| a == b));
            let done = found.last().is_none_or(|ids| Some(ids) == expected.get(found.len() - 1));
            if done {
                found.push(vec![tokens[0]]);
            }
            let document = found.last_mut().unwrap();
            // The inputs in front of the new targets are the document's last tokens.
            prop_assert!(document.ends_with(&ids[..=ignored]));
            document.extend_from_slice(&targets[ignored..]);
        }
        prop_assert_eq!(&found, &expected);
        let bytes: usize = texts.iter().map(|text| if ends { text.len() } else { text.len() - 1 }).sum();
        prop_assert_eq!(data.text_bytes(), bytes);
        prop_assert_eq!(data.targets(), expected.iter().map(|ids| ids.len() - 1).sum::<usize>());
    }
}
