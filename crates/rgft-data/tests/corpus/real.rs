//! Public models and texts, where they lie beside the workspace.

use rgft_data::snippets::{Language, share_that_parse};
use rgft_data::{Completion, CorpusDataset, CorpusSpec, Dataset, TextCodec, UnknownCharacters, read_corpus};

use super::asset;

#[test]
fn shakespeare_is_in_his_own_characters() {
    let (Some(model), Some(text)) =
        (asset("models/charrnn-shakespeare"), asset("data/lm/tinyshakespeare.txt"))
    else {
        return;
    };
    let codec = TextCodec::from_folder(&model).unwrap().with_unknown_characters(UnknownCharacters::Refuse);
    let spec = CorpusSpec { context: 128, ..CorpusSpec::default() };
    let corpus = read_corpus(&text, &spec).unwrap();
    let data = CorpusDataset::new(&corpus, &codec, &spec).unwrap();
    assert_eq!((data.outputs(), data.targets(), data.text_bytes()), (65, 1_115_393, 1_115_393));
    assert!(data.notes().is_empty());
    let (train, held) = data.split(0.1);
    let held = held.unwrap();
    assert_eq!((data.len(), train.len(), held.len()), (8715, 7843, 872));
    // Chunks without their overlaps are the text.
    let ids: Vec<u32> = (0..data.len()).flat_map(|i| data.tokens(i)[..data.size(i)].to_vec()).collect();
    assert!(corpus.documents[0].text.starts_with(&codec.decode(&ids)));
}

#[test]
fn darwins_characters_are_told() {
    let (Some(model), Some(text)) = (asset("models/charrnn-shakespeare"), asset("data/lm/darwin.txt")) else {
        return;
    };
    let codec = TextCodec::from_folder(&model).unwrap();
    let spec = CorpusSpec::default();
    let data = CorpusDataset::new(&read_corpus(&text, &spec).unwrap(), &codec, &spec).unwrap();
    assert_eq!(
        data.notes(),
        [
            "28,952 of 3,494,749 characters (0.83 %: `1` 4,727, `8` 2,805, `(` 2,484, `)` 2,479, `2` 2,295 …) are outside \
         the model's vocabulary and were replaced by a space",
            "59,672 of 3,494,749 characters (1.71 %: `\\r` 59,672) are outside the model's vocabulary and were dropped",
        ]
    );
    let bytes = std::fs::metadata(&text).unwrap().len() as usize;
    assert_eq!(data.text_bytes(), bytes - 59_672 - 1);
}

#[test]
fn stories_have_the_ids_that_pythons_tokenizers_gives() {
    let Some(model) = asset("models/stories260k") else { return };
    let codec = TextCodec::from_folder(&model).unwrap();
    assert_eq!(codec.encode_prompt("Once upon a time").unwrap(), [1, 403, 407, 261, 378]);
    assert_eq!((codec.bos(), codec.eos(), codec.vocabulary_size()), (Some(1), Some(2), 512));
    let code = "def f(x):\n    return x + 1\n";
    let ids = [
        279, 411, 431, 272, 489, 444, 488, 467, 13, 410, 410, 410, 410, 276, 413, 425, 420, 416, 410, 444,
        410, 496, 410, 475, 13,
    ];
    assert_eq!(codec.encode(code).unwrap(), ids);
    assert_eq!(codec.encode("é→😀").unwrap(), [410, 485, 229, 137, 149, 243, 162, 155, 131]);
    for text in [code, "é→😀", "a  b", " a"] {
        assert_eq!(codec.decode(&codec.encode_prompt(text).unwrap()), text);
    }
}

#[test]
fn source_code_is_tokenised_whole() {
    let (Some(model), Some(rows)) =
        (asset("models/stories260k"), asset("data/code/thealgorithms_python.jsonl"))
    else {
        return;
    };
    let codec = TextCodec::from_folder(&model).unwrap();
    let spec = CorpusSpec { context: 256, ..CorpusSpec::default() };
    let corpus = read_corpus(&rows, &spec).unwrap();
    assert_eq!(corpus.notes, ["221 of 1,385 documents are empty"]);
    let data = CorpusDataset::new(&corpus, &codec, &spec).unwrap();
    let bytes: usize = corpus.documents.iter().map(|document| document.text.len()).sum();
    assert_eq!((data.text_bytes(), data.documents().len()), (bytes, 1164));
    assert!((0..data.len()).all(|example| data.size(example) <= 256));
    let (train, held) = data.split(0.1);
    let held = held.unwrap();
    assert_eq!((train.documents().len(), held.documents().len()), (1048, 116));
    let held: Vec<&str> = held.documents().iter().map(|at| corpus.documents[*at].text.as_str()).collect();
    // An older Python does not know the newest syntax.
    let parse = share_that_parse(Language::Python, &held);
    assert!(parse.is_none_or(|share| share > 0.9), "{parse:?}");
}

#[test]
fn problems_and_their_programs() {
    let (Some(model), Some(rows)) = (asset("models/stories260k"), asset("data/code/mbpp_601_974.jsonl"))
    else {
        return;
    };
    let completion =
        Completion { prompt_column: "text".into(), completion_column: "code".into(), separator: "\n".into() };
    let spec = CorpusSpec { completion: Some(completion), context: 512, ..CorpusSpec::default() };
    let corpus = read_corpus(&rows, &spec).unwrap();
    assert_eq!(corpus.documents.len(), 374);
    let data = CorpusDataset::new(&corpus, &TextCodec::from_folder(&model).unwrap(), &spec).unwrap();
    let bytes: usize = corpus.documents.iter().map(|document| document.completion().len()).sum();
    assert_eq!(data.text_bytes(), bytes);
}

#[test]
fn a_long_text_is_tokenised_as_a_whole() {
    let (Some(model), Some(text)) = (asset("models/stories260k"), asset("data/lm/darwin.txt")) else {
        return;
    };
    let spec = CorpusSpec { context: 512, ..CorpusSpec::default() };
    let corpus = read_corpus(&text, &spec).unwrap();
    let data = CorpusDataset::new(&corpus, &TextCodec::from_folder(&model).unwrap(), &spec).unwrap();
    assert_eq!(data.text_bytes(), corpus.documents[0].text.len());
    assert_eq!(data.split(0.1).1.unwrap().documents(), [0]);
}
