//! The one place that prints. Results go to stdout: tables and text, or with `--json` one JSON document and
//! nothing else. Progress, notes, warnings and errors go to stderr.
//!
//! On a terminal a run is a progress bar; elsewhere a line every few seconds.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::process::{ExitCode, Termination};
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rgft_core::{Event, Level};
use rgft_data::DataError;
use rgft_nn::NnError;
use rgft_train::TrainError;
use rgft_train::recipe::RecipeError;
use serde::Serialize;

use crate::bench::steps::BesideError;
use crate::hub::HubError;

/// Time between two progress lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The exit status: a contract, scripts depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// The run failed.
    Failed = 1,
    /// The arguments or the input cannot be used.
    BadInput = 2,
}

impl Exit {
    /// The status for `error`: bad input where a recipe, a data file or a model folder is to blame.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let input = |cause: &(dyn std::error::Error + 'static)| {
            let of_hub = cause.downcast_ref::<HubError>().is_some_and(HubError::is_bad_input);
            let of_run = cause.downcast_ref::<TrainError>().is_some_and(TrainError::is_bad_input);
            let beside = cause.downcast_ref::<BesideError>().is_some_and(BesideError::is_bad_input);
            of_run
                || of_hub
                || beside
                || cause.is::<RecipeError>()
                || cause.is::<DataError>()
                || cause.is::<NnError>()
        };
        if error.chain().any(input) { Exit::BadInput } else { Exit::Failed }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// Parts of a progress bar.
const PARTS: u64 = 1000;

/// Where a run stands, for the progress lines.
struct Progress {
    bar: ProgressBar,
    total_steps: usize,
    /// FLOPs at which the budget ends a run of no known number of steps.
    budget_flops: f64,
    components: usize,
    started: Instant,
    last_line: Option<Instant>,
    /// `, 12 of 98 components` once there is a plan.
    plan: String,
}

/// Prints everything that a command has to say.
pub(crate) struct Printer {
    json: bool,
    quiet: bool,
    terminal: bool,
    colour: bool,
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    progress: Option<Progress>,
}

impl Printer {
    /// A printer on this process's stdout and stderr.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (out, err) = (Box::new(io::stdout()), Box::new(io::stderr()));
        Printer { json, quiet, terminal, colour, out, err, progress: None }
    }

    // --- results, on stdout --------------------------------------------------------------------------

    /// The command's JSON document; printed with `--json` alone.
    ///
    /// # Errors
    /// stdout cannot be written; a reader that went away is no error.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(document)?;
        self.stdout(&text)
    }

    /// One JSON object on a line of its own, with and without `--json`.
    ///
    /// # Errors
    /// As [`Printer::document`].
    pub(crate) fn json_line(&mut self, object: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(object)?;
        self.stdout(&text)
    }

    /// A result in words; not printed with `--json`.
    ///
    /// # Errors
    /// As [`Printer::document`].
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { self.stdout(text.trim_end_matches('\n')) }
    }

    /// A table; the first column is text, the others are numbers, aligned right. Not printed with `--json`.
    ///
    /// # Errors
    /// As [`Printer::document`].
    pub(crate) fn table(&mut self, header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.to_vec()).add_rows(rows.iter().cloned());
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let text: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
        self.text(&text.join("\n"))
    }

    /// A piece of a text that is still growing; not printed with `--json`.
    ///
    /// # Errors
    /// As [`Printer::document`].
    pub(crate) fn piece(&mut self, piece: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        match write!(self.out, "{piece}").and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Ends the line after the last [`Printer::piece`].
    ///
    /// # Errors
    /// As [`Printer::document`].
    pub(crate) fn end_of_pieces(&mut self) -> io::Result<()> {
        self.piece("\n")
    }

    fn stdout(&mut self, text: &str) -> io::Result<()> {
        self.clear();
        match writeln!(self.out, "{text}").and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    // --- notes, on stderr ----------------------------------------------------------------------------

    /// Something good to know; not printed with `--quiet`.
    pub(crate) fn note(&mut self, message: &str) {
        if !self.quiet {
            self.line(message);
        }
    }

    /// Something that may make the result other than what was asked for.
    pub(crate) fn warning(&mut self, message: &str) {
        let label = self.label("warning", "33");
        self.line(&format!("{label} {message}"));
    }

    /// `error: …`, what caused it, and every `hint: …` that the messages hold.
    pub(crate) fn error(&mut self, error: &anyhow::Error) {
        self.clear();
        let mut hints: Vec<String> = Vec::new();
        let mut text = String::new();
        for (i, cause) in error.chain().enumerate() {
            let message = cause.to_string();
            let (hinted, said): (Vec<&str>, Vec<&str>) =
                message.lines().map(str::trim).partition(|line| line.starts_with("hint: "));
            for hint in hinted.into_iter().filter_map(|line| line.strip_prefix("hint: ")) {
                if !hints.iter().any(|known| known == hint) {
                    hints.push(hint.to_owned());
                }
            }
            // A message that quotes its cause has said it already.
            let said = said.join("\n    ");
            if i == 0 {
                let _ = writeln!(text, "{} {said}", self.label("error", "31"));
            } else if !text.contains(&said) {
                let _ = writeln!(text, "  caused by: {said}");
            }
        }
        let label = self.label("hint", "36");
        for hint in hints {
            let _ = writeln!(text, "{label} {hint}");
        }
        self.line(text.trim_end());
    }

    fn label(&self, word: &str, colour: &str) -> String {
        if self.colour { format!("\x1b[1;{colour}m{word}:\x1b[0m") } else { format!("{word}:") }
    }

    /// One line on stderr, above the bar where there is one. If stderr is gone there is nobody to tell.
    fn line(&mut self, text: &str) {
        let err = &mut self.err;
        let mut write = || {
            let _ = writeln!(err, "{text}");
        };
        match &self.progress {
            Some(progress) => progress.bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away.
    fn clear(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.bar.finish_and_clear();
        }
    }

    // --- a run, on stderr ----------------------------------------------------------------------------

    /// Shows an event of a run.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Note { level: Level::Info, message } => return self.note(message),
            Event::Note { level: Level::Warning, message } => return self.warning(message),
            _ if self.quiet => return,
            _ => {}
        }
        match event {
            Event::RunStarted {
                method,
                model,
                budget,
                train_examples,
                total_steps,
                parameters,
                components,
                full_equivalent_flops,
                ..
            } => {
                self.start(*total_steps, budget * *full_equivalent_flops as f64, components.len());
                let steps = match total_steps {
                    0 => "as many steps as the budget pays for".to_owned(),
                    steps => format!("{steps} steps"),
                };
                self.line(&format!(
                    "{method} (budget {budget}) on {model}: {} parameters, {train_examples} examples, {steps}",
                    scaled(*parameters as f64)
                ));
            }
            Event::Plan { active, .. } => {
                if let Some(progress) = &mut self.progress {
                    progress.plan = format!(", {} of {} components", active.len(), progress.components);
                }
            }
            Event::Step { step, loss, flops, .. } => self.step(step + 1, *loss, *flops),
            Event::Validation { epoch, metrics, best, .. } => {
                let mut line = format!("epoch {epoch:.2}:");
                for (name, value) in metrics {
                    let _ = write!(line, " {name} {value:.4}");
                }
                line.push_str(if *best { " (best so far)" } else { "" });
                self.line(&line);
            }
            Event::Finished { .. } => self.clear(),
            Event::Map { .. } | Event::Note { .. } => {}
        }
    }

    fn start(&mut self, total_steps: usize, budget_flops: f64, components: usize) {
        self.clear();
        let target = if self.terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(PARTS), target);
        // A template that does not parse would show the plain bar.
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {percent} % {msg}, {eta} left") {
            bar.set_style(style);
        }
        let started = Instant::now();
        self.progress = Some(Progress {
            bar,
            total_steps,
            budget_flops,
            components,
            started,
            last_line: None,
            plan: String::new(),
        });
    }

    fn step(&mut self, done: usize, loss: f64, flops: u64) {
        let Some(progress) = &mut self.progress else { return };
        let part = match progress.total_steps {
            0 => flops as f64 / progress.budget_flops,
            steps => done as f64 / steps as f64,
        };
        let of = if progress.total_steps == 0 { String::new() } else { format!("/{}", progress.total_steps) };
        let state = format!("step {done}{of}: loss {loss:.4}, {}FLOP{}", scaled(flops as f64), progress.plan);
        if self.terminal {
            progress.bar.set_message(state);
            progress.bar.set_position((part * PARTS as f64) as u64);
            return;
        }
        let now = Instant::now();
        let due = progress.last_line.is_none_or(|last| now.duration_since(last) >= LINE_INTERVAL);
        if due || done == progress.total_steps {
            progress.last_line = Some(now);
            let left = progress.started.elapsed().as_secs_f64() * (1.0 / part - 1.0).max(0.0);
            let line = format!("{state}, {left:.0} s left");
            self.line(&line);
        }
    }
}

/// `22.7 M`, `1.3 T`: three digits and an SI prefix, after a space.
fn scaled(value: f64) -> String {
    let (mut value, mut prefix) = (value, "");
    for next in ["k", "M", "G", "T", "P", "E"] {
        if value < 999.5 {
            break;
        }
        (value, prefix) = (value / 1000.0, next);
    }
    let digits = if prefix.is_empty() || value >= 99.95 { 0 } else { 1 };
    format!("{value:.digits$} {prefix}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use super::*;

    /// A buffer that the printer writes and the test reads.
    #[derive(Clone, Default)]
    struct Page(Rc<RefCell<Vec<u8>>>);

    impl Page {
        fn read(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.borrow_mut())).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printer(json: bool, quiet: bool) -> (Printer, Page, Page) {
        let (out, err) = (Page::default(), Page::default());
        let pages = (Box::new(out.clone()), Box::new(err.clone()));
        let printer = Printer {
            json,
            quiet,
            terminal: false,
            colour: false,
            out: pages.0,
            err: pages.1,
            progress: None,
        };
        (printer, out, err)
    }

    fn run(printer: &mut Printer) {
        printer.event(&Event::RunStarted {
            method: "rgft".into(),
            model: "minilm".into(),
            data: "trec6".into(),
            task: "text-classification".into(),
            budget: 0.3,
            seed: 0,
            version: "0".into(),
            precision: "f32".into(),
            threads: 2,
            total_steps: 3,
            parameters: 22_713_216,
            trainable_parameters: 22_713_216,
            full_equivalent_flops: 1,
            components: Vec::new(),
            train_examples: 96,
            validation_examples: 0,
            test_examples: 0,
            labels: Vec::new(),
        });
        for step in 0..3 {
            printer.event(&Event::Step {
                step,
                epoch: 0.0,
                loss: f64::NAN,
                learning_rate: 0.0,
                gradient_norm: 0.0,
                examples: 32,
                tokens: 0,
                flops: 1_234_567_890_123,
                seconds: 0.0,
            });
        }
        printer.event(&Event::Validation {
            step: 3,
            epoch: 1.0,
            metrics: BTreeMap::from([("accuracy".to_owned(), 0.96875)]),
            flops: 0,
            seconds: 0.0,
            best: true,
        });
    }

    #[test]
    fn without_a_terminal_progress_is_a_few_lines_on_stderr() {
        let (mut printer, out, err) = printer(false, false);
        run(&mut printer);
        assert_eq!(
            err.read(),
            "rgft (budget 0.3) on minilm: 22.7 M parameters, 96 examples, 3 steps\n\
             step 1/3: loss NaN, 1.2 TFLOP, 0 s left\n\
             step 3/3: loss NaN, 1.2 TFLOP, 0 s left\n\
             epoch 1.00: accuracy 0.9688 (best so far)\n"
        );
        assert_eq!(out.read(), "");
    }

    #[test]
    fn quiet_leaves_warnings_and_results() {
        let (mut printer, out, err) = printer(false, true);
        run(&mut printer);
        printer.note("good to know");
        printer.warning("the loss is not finite");
        printer.text("result\n").unwrap();
        assert_eq!(err.read(), "warning: the loss is not finite\n");
        assert_eq!(out.read(), "result\n");
    }

    #[test]
    fn json_is_the_only_thing_on_stdout() {
        let (mut printer, out, _) = printer(true, false);
        run(&mut printer);
        printer.text("result").unwrap();
        printer.table(&["method", "accuracy"], &[vec!["full".into(), "0.9".into()]]).unwrap();
        printer.document(&BTreeMap::from([("a", 1)])).unwrap();
        assert_eq!(out.read(), "{\n  \"a\": 1\n}\n");
    }

    #[test]
    fn tables_align_numbers_right() {
        let (mut printer, out, _) = printer(false, false);
        let rows = [vec!["full".to_owned(), "10.5".to_owned()], vec!["rgft".to_owned(), "3.1".to_owned()]];
        printer.table(&["method", "seconds"], &rows).unwrap();
        printer.document(&1).unwrap();
        assert_eq!(out.read(), "method  seconds\nfull       10.5\nrgft        3.1\n");
    }

    #[test]
    fn an_error_is_followed_by_its_causes_and_its_hints() {
        let (mut printer, _, err) = printer(false, true);
        let unreadable = RecipeError::Read {
            file: "recipe.toml".into(),
            source: io::Error::new(io::ErrorKind::NotFound, "no such file\nhint: look elsewhere"),
        };
        let error = anyhow::Error::new(unreadable);
        printer.error(&error);
        assert_eq!(
            err.read(),
            "error: recipe.toml: cannot read the recipe\n  caused by: no such file\nhint: look elsewhere\n"
        );
        assert_eq!(Exit::of(&error), Exit::BadInput);
        assert_eq!(Exit::of(&error.context("training")), Exit::BadInput);
        assert_eq!(Exit::of(&anyhow::anyhow!("out of memory")), Exit::Failed);

        let error = anyhow::anyhow!("a: b\nhint: c").context("a: b").context("outer\nhint: c");
        printer.error(&error);
        assert_eq!(err.read(), "error: outer\n  caused by: a: b\nhint: c\n");
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in
            [(0.0, "0 "), (999.0, "999 "), (1000.0, "1.0 k"), (99_960.0, "100 k"), (999_600.0, "1.0 M")]
        {
            assert_eq!(scaled(value), text);
        }
        assert_eq!(scaled(1e22), "10000 E");
    }
}
