//! `rgft generate`: going on with a text.

use std::io::Read;

use anyhow::Result;
use rgft_kernels::Precision;
use rgft_train::{Generated, Generator, TrainError};
use serde_json::json;

use crate::args::GenerateArgs;
use crate::hub;
use crate::pool;
use crate::printer::Printer;

pub(crate) fn run(args: &GenerateArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let prompt = prompt(args)?;
    let settings = args.settings();
    let mut failed = None;
    let generated = pool::run(
        threads.unwrap_or(0),
        |say| {
            let generator = Generator::load(&hub::local(args.model.clone()), Precision::F32)?;
            Ok(generator.generate(&prompt, &settings, &mut |piece| say(piece.to_owned()))?)
        },
        |piece: String| {
            if let Err(error) = printer.piece(&piece) {
                failed.get_or_insert(error);
            }
        },
    )?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    printer.end_of_pieces()?;
    let Generated { text, tokens, prompt_tokens, stop_reason, seconds } = &generated;
    let per_second = generated.tokens_per_second();
    printer.note(&format!("{} tokens in {seconds:.2} s, {per_second:.0} a second", tokens.len()));
    printer.document(&json!({
        "prompt": prompt,
        "text": text,
        "tokens": tokens,
        "prompt_tokens": prompt_tokens,
        "new_tokens": tokens.len(),
        "stop_reason": stop_reason,
        "seconds": seconds,
        "tokens_per_second": per_second,
    }))?;
    Ok(())
}

/// The prompt as given, or the file's text as it is, or standard input without its last line break.
fn prompt(args: &GenerateArgs) -> Result<String> {
    let unreadable = |what: String, error: std::io::Error| TrainError::Mismatch {
        problem: format!("{what}: {error}"),
        hint: "a prompt is UTF-8 text",
    };
    if let Some(prompt) = &args.prompt {
        return Ok(prompt.clone());
    }
    if let Some(path) = &args.file {
        let read = std::fs::read_to_string(path);
        return Ok(read.map_err(|error| unreadable(path.display().to_string(), error))?);
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| unreadable("standard input".into(), error))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}
