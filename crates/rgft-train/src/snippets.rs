//! Source code that a model writes: held-out files are begun, the model goes on, and what comes out is parsed.

use rgft_data::TextCodec;
use rgft_data::snippets::{Language, share_that_parse, whole_lines};
use rgft_nn::Engine;
use rgft_nn::models::Model;

use crate::TrainError;
use crate::generate::{Generation, generate};

/// Lines of a file that the model is shown.
const PROMPT_LINES: usize = 4;

/// Tokens that it writes behind them, at most.
const NEW_TOKENS: usize = 96;

/// The beginnings of held-out files, and how to go on.
pub struct Snippets {
    /// What the model is shown.
    pub prompts: Vec<String>,
    /// How it reads and writes.
    pub codec: TextCodec,
    /// What it should have written.
    pub language: Language,
}

/// The first lines of a file.
pub(crate) fn prompt_of(text: &str) -> String {
    text.split_inclusive('\n').take(PROMPT_LINES).collect()
}

impl Snippets {
    /// The share of snippets, prompt and greedy continuation up to the last whole line, that parse; where the model wrote
    /// no whole line, nothing does. Prompts that leave no room for a continuation are passed over. `None` without a
    /// parser or a prompt, or where the model cannot go on token by token.
    ///
    /// # Errors
    /// If a prompt cannot be encoded.
    pub fn share_that_parse(&self, model: &Model, engine: &Engine) -> Result<Option<f64>, TrainError> {
        if model.decoder().is_none() {
            return Ok(None);
        }
        engine.set_dropout(None);
        let settings = Generation { max_new_tokens: NEW_TOKENS, ..Generation::default() };
        let (mut snippets, mut shown) = (Vec::with_capacity(self.prompts.len()), 0);
        for prompt in &self.prompts {
            if self.codec.encode_prompt(prompt)?.len() < model.positions() {
                let written = generate(model, &self.codec, engine, prompt, &settings, &mut |_| {})?;
                shown += 1;
                let lines = whole_lines(&written.text);
                if !lines.trim().is_empty() {
                    snippets.push(format!("{prompt}{lines}"));
                }
            }
        }
        if shown > 0 && snippets.is_empty() {
            return Ok(Some(0.0));
        }
        let share = share_that_parse(self.language, &snippets);
        Ok(share.map(|share| share * snippets.len() as f64 / shown as f64))
    }
}
