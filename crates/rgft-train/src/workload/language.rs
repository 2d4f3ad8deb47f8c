//! Text and source code for language models: documents, cut into sequences whose next tokens are learnt.

use std::path::Path;

use rgft_data::snippets::Language;
use rgft_data::{
    Completion, Corpus, CorpusDataset, CorpusSpec, Dataset, LabelMap, Objective, TextCodec,
    UnknownCharacters, locate_corpus, read_corpus,
};
use serde_json::Map;

use super::{Examples, Material, limited, tokenizer_files};
use crate::TrainError;
use crate::recipe::{self, Recipe, Task};
use crate::snippets::{Snippets, prompt_of};

/// What stands between a prompt and its completion.
const SEPARATOR: &str = "\n";

fn spec_of(recipe: &Recipe) -> CorpusSpec {
    CorpusSpec {
        text_column: recipe.text_columns[0].clone(),
        completion: recipe.completion.as_ref().map(|(prompt, completion)| Completion {
            prompt_column: prompt.clone(),
            completion_column: completion.clone(),
            separator: SEPARATOR.into(),
        }),
        context: recipe.max_length,
        extensions: recipe.extensions.clone(),
        ..CorpusSpec::default()
    }
}

/// How the model of a recipe reads and writes text.
fn codec_of(recipe: &Recipe) -> Result<TextCodec, TrainError> {
    Ok(TextCodec::from_folder(recipe.tokenizer_folder())?.with_unknown_characters(
        match recipe.unknown_characters {
            recipe::UnknownCharacters::Replace => UnknownCharacters::Replace,
            recipe::UnknownCharacters::Drop => UnknownCharacters::Drop,
            recipe::UnknownCharacters::Refuse => UnknownCharacters::Refuse,
        },
    ))
}

pub(super) fn load(recipe: &Recipe) -> Result<Material, TrainError> {
    let files = locate_corpus(&recipe.data, recipe.test.as_deref(), recipe.validation.as_deref())?;
    let (spec, codec) = (spec_of(recipe), codec_of(recipe)?);
    let mut notes = Vec::new();
    let mut read = |path: &Path| -> Result<(Corpus, CorpusDataset), TrainError> {
        let corpus = read_corpus(path, &spec)?;
        let set = CorpusDataset::new(&corpus, &codec, &spec)?;
        notes.extend(set.notes().iter().cloned());
        Ok((corpus, set))
    };
    let (corpus, mut train) = read(&files.train)?;
    let validation = files.validation.as_deref().map(&mut read).transpose()?;
    let mut validation = validation.map(|(_, set)| set);
    let (mut test, mut tested) = (None, corpus);
    if let Some(path) = files.test.as_deref() {
        let (corpus, set) = read(path)?;
        (test, tested) = (Some(set), corpus);
    } else if recipe.test_part > 0.0 {
        (train, test) = train.split(recipe.test_part);
    }
    let snippets = test.as_ref().and_then(|set| snippets_of(recipe, &tested, set, &codec));
    train = limited(recipe.limit_train, train, |set, n| set.subset(0..n));
    if validation.is_none() {
        (train, validation) = train.split(recipe.validation_part);
        let held = validation.as_ref().map_or(0, Dataset::len);
        notes.push(format!("no validation file: {held} of {} sequences are held out", held + train.len()));
    }
    let validation = validation.unwrap_or_else(|| train.subset(std::iter::empty()));
    let test = test.map(|test| limited(recipe.limit_test, test, |set, n| set.subset(0..n)));
    Ok(Material {
        objective: Objective::NextToken,
        labels: LabelMap::default(),
        outputs: None,
        train: Box::new(train),
        validation: Box::new(validation),
        test: test.map(|test| Box::new(test) as Box<dyn Dataset>),
        files: tokenizer_files(recipe)?,
        settings: Map::new(),
        snippets,
        notes,
    })
}

/// The beginnings of the documents that `set` was made of, where the task is to write code.
fn snippets_of(recipe: &Recipe, corpus: &Corpus, set: &CorpusDataset, codec: &TextCodec) -> Option<Snippets> {
    if recipe.task != Task::Code {
        return None;
    }
    let documents = set.documents();
    // Spread over all of them, so that a few stand for the rest.
    let every = documents.len().div_ceil(recipe.snippets.max(1)).max(1);
    let chosen = documents.into_iter().step_by(every).take(recipe.snippets);
    let language = match recipe.code_language {
        recipe::CodeLanguage::Python => Language::Python,
        recipe::CodeLanguage::Rust => Language::Rust,
    };
    let prompts = chosen.map(|number| prompt_of(&corpus.documents[number].text)).collect();
    Some(Snippets { prompts, codec: codec.clone(), language })
}

pub(super) fn examples(recipe: &Recipe) -> Result<Examples, TrainError> {
    let (spec, codec) = (spec_of(recipe), codec_of(recipe)?);
    let files = locate_corpus(&recipe.data, None, None)?;
    let corpus = read_corpus(&files.test.unwrap_or(files.train), &spec)?;
    let mut set = CorpusDataset::new(&corpus, &codec, &spec)?;
    if recipe.test_part > 0.0 {
        let (rest, test) = set.split(recipe.test_part);
        set = test.unwrap_or(rest);
    }
    let snippets = snippets_of(recipe, &corpus, &set, &codec);
    let notes = set.notes().to_vec();
    let set = limited(recipe.limit_test, set, |set, n| set.subset(0..n));
    Ok(Examples { objective: Objective::NextToken, set: Box::new(set), snippets, notes })
}
