//! The folder of a run: checked before anything is computed, and every file in it whole at any moment.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rgft_core::{Certificate, ComponentInfo, Event, RunSummary};
use rgft_nn::weights::{weight_files, write_whole};
use serde::Serialize;
use serde_json::json;

use crate::patch::{self, PatchError};
use crate::recipe::{Init, Recipe};
use crate::{TrainError, Workload};

/// A folder that a run or a map writes to.
pub struct OutFolder {
    path: PathBuf,
    /// Opened by the first event.
    events: Option<BufWriter<File>>,
    /// Whether it was made for this.
    created: bool,
    /// What an earlier run left there, which would contradict this one: removed by the first write.
    stale: &'static [&'static str],
}

/// What a run writes last, and an unfinished one must not show.
const OF_A_RUN: [&str; 6] =
    ["events.jsonl", "run.json", "certificate.json", "error_map.json", "patch.safetensors", "report.html"];

/// What a map writes.
const OF_A_MAP: [&str; 2] = ["error_map.json", "error_map.svg"];

impl OutFolder {
    /// Creates the folder of a run, or takes over one that is empty or holds an earlier run.
    ///
    /// # Errors
    /// If it cannot be written, or holds other things.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        Self::take(path, &["recipe.toml", "events.jsonl"], &OF_A_RUN)
    }

    /// Creates the folder of a map, or takes over one that is empty or holds a map alone.
    ///
    /// # Errors
    /// If it cannot be written, or holds other things.
    pub fn for_map(path: &Path) -> Result<Self, TrainError> {
        Self::take(path, &OF_A_MAP, &[])
    }

    /// Creates a folder for these files, or takes over one that is empty or holds them from earlier.
    ///
    /// # Errors
    /// If it cannot be written, or holds other things.
    pub fn for_files(path: &Path, names: &[&str]) -> Result<Self, TrainError> {
        Self::take(path, names, &[])
    }

    /// `marks` are the files by which an earlier use of the folder is known.
    fn take(path: &Path, marks: &[&str], stale: &'static [&'static str]) -> Result<Self, TrainError> {
        let refuse = |problem: String, hint| TrainError::OutFolder { path: path.into(), problem, hint };
        let unwritable =
            |error: std::io::Error| refuse(error.to_string(), "choose a folder that can be written");
        if path.exists() && !path.is_dir() {
            return Err(refuse("is a file".into(), "give a folder to --out"));
        }
        let created = !path.exists();
        std::fs::create_dir_all(path).map_err(unwritable)?;
        let holds_something = std::fs::read_dir(path).map_err(unwritable)?.next().is_some();
        if holds_something && !marks.iter().all(|mark| path.join(mark).is_file()) {
            return Err(refuse("holds other files".into(), "choose an empty folder"));
        }
        let trial = path.join(".writable");
        File::create(&trial).and_then(|_| std::fs::remove_file(&trial)).map_err(unwritable)?;
        Ok(Self { path: path.into(), events: None, created, stale })
    }

    /// Removes what would contradict what is written now.
    fn clear_stale(&mut self) -> Result<(), TrainError> {
        for name in std::mem::take(&mut self.stale) {
            let path = self.path.join(name);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(TrainError::Write { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends an event as one line of `events.jsonl`, and flushes it.
    ///
    /// # Errors
    /// If the disk is full, say.
    pub fn event(&mut self, event: &Event) -> Result<(), TrainError> {
        self.clear_stale()?;
        let path = self.path.join("events.jsonl");
        let failed = |source| TrainError::Write { path: path.clone(), source };
        let events = match &mut self.events {
            Some(events) => events,
            None => self.events.insert(BufWriter::new(File::create(&path).map_err(failed)?)),
        };
        let line = serde_json::to_string(event).unwrap_or_default();
        writeln!(events, "{line}").and_then(|()| events.flush()).map_err(failed)
    }

    /// Writes `name`, whole or not at all.
    ///
    /// # Errors
    /// As the file system says.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        let path = self.path.join(name);
        write_whole(&path, bytes).map_err(|source| TrainError::Write { path, source })
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), TrainError> {
        let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
        bytes.push(b'\n');
        self.write(name, &bytes)
    }

    /// Writes the model so that `transformers` and this program load it: weights, `config.json`, tokenizer.
    ///
    /// # Errors
    /// As the file system says.
    pub fn model(&self, workload: &Workload) -> Result<(), TrainError> {
        for (name, bytes) in &workload.files {
            self.write(name, bytes)?;
        }
        self.write_json("config.json", &workload.config())?;
        workload.model.checkpoint().write(&self.path.join("model.safetensors")).map_err(TrainError::Save)
    }

    /// Writes `patch.safetensors`: what the saved model changes in the one that the run started from. Where there is
    /// nothing to compare with there is no patch, and the reason is returned.
    ///
    /// # Errors
    /// As the file system says.
    pub fn patch(&self, recipe: &Recipe) -> Result<Option<String>, TrainError> {
        let base = &recipe.model;
        let no_patch = |reason: &dyn std::fmt::Display| Ok(Some(format!("no patch.safetensors: {reason}")));
        if recipe.init == Init::Random || weight_files(base).is_err() {
            return no_patch(&"the run started from random weights");
        }
        if base.canonicalize().ok() == self.path.canonicalize().ok() {
            return no_patch(&"the run replaced the model that it started from");
        }
        match patch::diff(base, &self.path, &self.path.join("patch.safetensors")) {
            Ok(_) => Ok(None),
            Err(PatchError::Write { path, source }) => Err(TrainError::Write { path, source }),
            // The model is saved and whole: a base that has vanished meanwhile must not cost the run.
            Err(error) => no_patch(&error.to_string().lines().next().unwrap_or_default()),
        }
    }

    /// Writes `recipe.toml`, complete and re-runnable.
    ///
    /// # Errors
    /// As the file system says.
    pub fn recipe(&self, recipe: &Recipe) -> Result<(), TrainError> {
        self.write("recipe.toml", recipe.to_toml().as_bytes())
    }

    /// Writes `error_map.json`: the components with their energies and shares.
    ///
    /// # Errors
    /// As the file system says.
    pub fn error_map(
        &self,
        components: &[ComponentInfo],
        energies: &[f64],
        shares: &[f64],
    ) -> Result<(), TrainError> {
        let rows: Vec<_> = components
            .iter()
            .zip(energies.iter().zip(shares))
            .map(|(component, (energy, share))| {
                json!({
                    "name": component.name,
                    "kind": component.kind,
                    "layer": component.layer,
                    "parameters": component.parameters,
                    "energy": energy,
                    "share": share,
                })
            })
            .collect();
        self.write_json("error_map.json", &json!({ "components": rows }))
    }

    /// Writes `certificate.json`.
    ///
    /// # Errors
    /// As the file system says.
    pub fn certificate(&self, certificate: &Certificate) -> Result<(), TrainError> {
        self.write_json("certificate.json", certificate)
    }

    /// Writes `run.json`, once the run is complete but for its report.
    ///
    /// # Errors
    /// As the file system says.
    pub fn summary(&self, summary: &RunSummary) -> Result<(), TrainError> {
        self.write_json("run.json", summary)
    }
}

impl Drop for OutFolder {
    /// A folder that was made for this and to which nothing was written is not left behind.
    fn drop(&mut self) {
        if self.created {
            // Fails, as it should, where the folder holds something.
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}
