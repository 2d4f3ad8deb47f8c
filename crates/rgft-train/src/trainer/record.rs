//! What a run says of itself: its first event, its summary, and the files of its end.

use std::time::Instant;

use rgft_core::events::{Convergence, Flops as FlopsSummary, Memory, Metrics, Seconds};
use rgft_core::{ComponentInfo, Event, Level, RunSummary};

use super::{RunOutcome, Trainer};
use crate::recipe::{Cache, MethodName};
use crate::{TrainError, process};

impl Trainer<'_> {
    pub(super) fn announce(&mut self) -> Result<(), TrainError> {
        let recipe = self.recipe;
        let event = Event::RunStarted {
            method: recipe.method.to_string(),
            model: name_of(&recipe.model),
            data: name_of(&recipe.data),
            task: recipe.task.to_string(),
            budget: recipe.budget,
            seed: recipe.seed,
            version: env!("CARGO_PKG_VERSION").into(),
            precision: self.precision().into(),
            threads: rayon::current_num_threads(),
            total_steps: match self.method.fixed() {
                None if self.recipe.budget < 1.0 || !self.method.ends_with_epochs() => 0,
                _ => self.total_steps,
            },
            parameters: self.work.model.parameters().scalars(),
            trainable_parameters: self.method.trainable(&self.work.components),
            full_equivalent_flops: self.full_equivalent,
            components: self.work.components.iter().map(ComponentInfo::from).collect(),
            train_examples: self.work.train.len(),
            validation_examples: self.work.validation.len(),
            test_examples: self.work.test.as_ref().map_or(0, |test| test.len()),
            labels: self.work.labels.names().to_vec(),
        };
        self.emit(&event)?;
        for message in std::mem::take(&mut self.work.notes) {
            self.emit(&Event::Note { level: Level::Info, message })?;
        }
        if recipe.cache == Cache::Auto && self.cache.is_none() && self.method.may_freeze() {
            let message = "no prefix cache: pictures vary from pass to pass (augment), so what lies below the cut is computed \
                           anew each time"
                .into();
            self.emit(&Event::Note { level: Level::Info, message })?;
        }
        if self.engine.precision != crate::workload::precision_of(recipe) {
            let message = "this processor has no bf16 products: computing in f32".into();
            self.emit(&Event::Note { level: Level::Warning, message })?;
        }
        Ok(())
    }

    fn precision(&self) -> &'static str {
        match self.engine.precision {
            rgft_kernels::Precision::F32 => "f32",
            rgft_kernels::Precision::Bf16 => "bf16",
        }
    }

    pub(super) fn finish(mut self, start: Instant, steps: usize) -> Result<RunOutcome, TrainError> {
        let without_a_map = match self.recipe.method {
            MethodName::Rgft | MethodName::Static if self.planned_at.is_some() => {
                "what was updated was chosen by its cost alone"
            }
            MethodName::Rgft | MethodName::Static | MethodName::GreenTrainer => {
                "only the task head was trained"
            }
            MethodName::AutoRgn => "all learning rates were alike",
            _ => "",
        };
        if !(self.mapped || without_a_map.is_empty()) {
            let message = format!(
                "no error map was made, so {without_a_map}: the run, its budget or its probe-share is too small"
            );
            self.emit(&Event::Note { level: Level::Warning, message })?;
        }
        // A run that its budget ended before the last validation is validated where it stands.
        while self.validated_at.0 != Some(steps) {
            self.validate(steps)?;
        }
        let begun = Instant::now();
        let mut metrics = Metrics::default();
        if let Some(best) = self.best.take() {
            let parameters = self.work.model.parameters_mut();
            best.weights.into_iter().for_each(|(i, data)| parameters[i].data = data);
            metrics.validation = best.metrics;
        }
        self.work.merge_adapters();
        if let Some(test) = &self.work.test {
            metrics.test = self.evaluate(&**test);
            if let Some(snippets) = &self.work.snippets {
                let share = snippets.share_that_parse(&self.work.model, &self.engine)?;
                metrics.test.extend(share.map(|share| ("parse_share".into(), share)));
            }
        }
        self.ledger.add_evaluation(self.engine.take_flops().total());
        self.clock.eval += begun.elapsed();
        // Making a patch takes room: what only training needs goes first.
        self.optimizer.forget();
        self.active = super::Active::default();
        self.cache = None;
        self.engine.arena.release();
        let recipe = self.recipe;
        if let Some(message) = self.out.as_ref().map_or(Ok(None), |out| out.patch(recipe))? {
            self.emit(&Event::Note { level: Level::Info, message })?;
        }
        let (metric, larger) = (self.work.objective.primary_metric(), self.work.objective.larger_is_better());
        let summary = RunSummary {
            method: recipe.method.to_string(),
            model: name_of(&recipe.model),
            data: name_of(&recipe.data),
            task: recipe.task.to_string(),
            budget: recipe.budget,
            seed: recipe.seed,
            metrics,
            flops: FlopsSummary::new(&self.ledger, self.full_equivalent),
            seconds: Seconds {
                total: start.elapsed().as_secs_f64(),
                train: self.clock.train.as_secs_f64(),
                processor: Some(self.clock.processor.as_secs_f64() / rayon::current_num_threads() as f64)
                    .filter(|&seconds| seconds > 0.0),
                probe: self.clock.probe.as_secs_f64(),
                eval: self.clock.eval.as_secs_f64(),
            },
            memory: Memory { peak_rss_bytes: process::peak_rss_bytes() },
            convergence: Convergence::of(metric, &self.curve, larger),
            steps,
            epochs: self.epochs(steps),
            threads: rayon::current_num_threads(),
            precision: self.precision().into(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let certificate = self.guard.certificate();
        self.emit(&Event::Finished { summary: Box::new(summary.clone()) })?;
        if let Some(out) = &self.out {
            if let Some(report) = self.last_map() {
                let infos: Vec<ComponentInfo> =
                    self.work.components.iter().map(ComponentInfo::from).collect();
                out.error_map(&infos, &report.0, &report.1)?;
            }
            out.certificate(&certificate)?;
            out.summary(&summary)?;
        }
        Ok(RunOutcome { summary, certificate })
    }

    fn last_map(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        self.method.map_report().map(|report| (report.energies, report.shares))
    }
}

fn name_of(path: &std::path::Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
