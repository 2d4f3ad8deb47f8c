//! Generating text with a language model: a prompt is read at once, then token follows token until a stop.
//!
//! The next token is drawn from `softmax(z/T)` over the `top_k` likeliest tokens, of which the fewest that hold `top_p` of
//! the probability stay (Holtzman et al. 2020); at temperature 0 it is the likeliest, the first of equals. One seed gives
//! one text.

mod sampler;
mod stop;

use std::path::Path;
use std::time::Instant;

use rgft_data::TextCodec;
use rgft_kernels::Precision;
use rgft_nn::Engine;
use rgft_nn::models::{self, HeadRequest, Model};
use serde::Serialize;

use crate::TrainError;
pub use sampler::{Sampler, Sampling};
use stop::StopStrings;

/// How long to go on, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generation {
    /// Tokens to generate at most.
    pub max_new_tokens: usize,
    /// Where one of these would stand in the text, it ends before it.
    pub stop: Vec<String>,
    /// How the next token is chosen.
    pub sampling: Sampling,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// All tokens that were asked for are there.
    Length,
    /// The model ended the text.
    EndOfText,
    /// A stop string.
    StopString,
    /// The model reads no longer texts.
    Context,
}

/// A generated text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generated {
    /// The text after the prompt.
    pub text: String,
    /// Its tokens; where a stop string ended it, with those of the string.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// How long it took, the prompt included.
    pub seconds: f64,
}

impl Generated {
    /// New tokens in a second.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens.len() as f64 / self.seconds.max(1e-9)
    }
}

/// A language model's folder, ready for use.
pub struct Generator {
    model: Model,
    codec: TextCodec,
    engine: Engine,
}

impl Generator {
    /// Loads a model folder.
    ///
    /// # Errors
    /// If it is no model folder, has no tokenizer, or the model makes no language.
    pub fn load(folder: &Path, precision: Precision) -> Result<Self, TrainError> {
        let model = models::load(folder, &HeadRequest::default())?;
        let codec = TextCodec::from_folder(folder)?;
        if model.decoder().is_none() {
            return Err(no_language());
        }
        Ok(Self { model, codec, engine: Engine::new(precision) })
    }

    /// As [`generate()`].
    ///
    /// # Errors
    /// As [`generate()`].
    pub fn generate(
        &self,
        prompt: &str,
        settings: &Generation,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Generated, TrainError> {
        generate(&self.model, &self.codec, &self.engine, prompt, settings, on_text)
    }
}

fn no_language() -> TrainError {
    TrainError::Mismatch {
        problem: "this model does not go on with a text token by token".into(),
        hint: "generate with a language model: gpt2, llama, qwen2, qwen3, lstm-lm or gru-lm",
    }
}

/// Goes on with `prompt`; hands each piece of text to `on_text` as soon as it is certain. The engine must be evaluating.
///
/// # Errors
/// [`TrainError::Mismatch`] where the model makes no language, or the prompt is empty or too long for it;
/// [`TrainError::Data`] where it cannot be encoded.
pub fn generate(
    model: &Model,
    codec: &TextCodec,
    engine: &Engine,
    prompt: &str,
    settings: &Generation,
    on_text: &mut dyn FnMut(&str),
) -> Result<Generated, TrainError> {
    let started = Instant::now();
    let mut decoder = model.decoder().ok_or_else(no_language)?;
    let ids = codec.encode_prompt(prompt)?;
    check_prompt(model, ids.len())?;
    let mut logits = decoder.feed(engine, &ids)?;
    let mut sampler = Sampler::new(settings.sampling);
    let (mut stream, mut stops) = (codec.decoder_after(&ids), StopStrings::new(&settings.stop));
    let (mut text, mut tokens) = (String::new(), Vec::new());
    let mut say = |piece: String| {
        if !piece.is_empty() {
            on_text(&piece);
            text.push_str(&piece);
        }
    };
    let mut stop_reason = loop {
        if tokens.len() >= settings.max_new_tokens {
            break StopReason::Length;
        }
        let id = sampler.draw(&logits);
        if codec.stops().contains(&id) {
            break StopReason::EndOfText;
        }
        tokens.push(id);
        say(stops.push(&stream.push(id)));
        if stops.found() {
            break StopReason::StopString;
        }
        if tokens.len() >= settings.max_new_tokens {
            break StopReason::Length;
        }
        if ids.len() + tokens.len() > model.positions() {
            break StopReason::Context;
        }
        logits = decoder.feed(engine, &[id])?;
    };
    if !stops.found() {
        say(stops.push(&stream.finish()));
        say(stops.finish());
        if stops.found() {
            stop_reason = StopReason::StopString;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Generated { text, tokens, prompt_tokens: ids.len(), stop_reason, seconds })
}

fn check_prompt(model: &Model, tokens: usize) -> Result<(), TrainError> {
    if tokens == 0 {
        return Err(TrainError::Mismatch {
            problem: "the prompt is empty, and this model has no token that starts a text".into(),
            hint: "give at least one character",
        });
    }
    if tokens > model.positions() {
        let problem = format!("the prompt has {tokens} tokens, the model reads {}", model.positions());
        return Err(TrainError::Mismatch { problem, hint: "shorten the prompt" });
    }
    Ok(())
}
