//! Reading `config.json`, with errors that name the key.

use std::path::{Path, PathBuf};

use rgft_kernels::cpu::activation::Activation;
use serde_json::Value;

use crate::NnError;

/// Reads keys of one `config.json`, with errors that name the key.
pub(crate) struct ConfigKeys<'a> {
    path: PathBuf,
    values: &'a Value,
}

impl<'a> ConfigKeys<'a> {
    /// The keys of `config.json` in `folder`, which says `values`.
    pub(crate) fn new(folder: &Path, values: &'a Value) -> Self {
        Self { path: folder.join("config.json"), values }
    }

    /// What is wrong with `key`.
    pub(crate) fn error(&self, key: &str, problem: String) -> NnError {
        NnError::Config { path: self.path.clone(), key: key.into(), problem }
    }

    /// A number of at least 0.
    pub(crate) fn number(&self, key: &str, default: Option<f64>) -> Result<f64, NnError> {
        match self.values.get(key) {
            Some(value) if !value.is_null() => value
                .as_f64()
                .filter(|x| x.is_finite() && *x >= 0.0)
                .ok_or_else(|| self.error(key, format!("is {value}, expected a number of at least 0"))),
            _ => default.ok_or_else(|| self.error(key, "is missing".into())),
        }
    }

    /// A whole number of at least 1.
    pub(crate) fn size(&self, key: &str, default: Option<usize>) -> Result<usize, NnError> {
        let found = self.number(key, default.map(|n| n as f64))?;
        if found.fract() == 0.0 && (1.0..1e9).contains(&found) {
            return Ok(found as usize);
        }
        Err(self.error(key, format!("is {found}, expected a whole number of at least 1")))
    }

    /// A number from 0 to below 1.
    pub(crate) fn probability(&self, key: &str, default: f64) -> Result<f32, NnError> {
        let found = self.number(key, Some(default))?;
        if (found as f32) < 1.0 {
            return Ok(found as f32);
        }
        Err(self.error(key, format!("is {found}, expected a probability below 1")))
    }

    /// Yes or no.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, NnError> {
        match self.values.get(key) {
            Some(value) if !value.is_null() => {
                value.as_bool().ok_or_else(|| self.error(key, format!("is {value}, expected true or false")))
            }
            _ => Ok(default),
        }
    }

    /// A word, if there is one.
    pub(crate) fn word(&self, key: &str) -> Option<&'a str> {
        self.values.get(key).and_then(Value::as_str)
    }

    /// An activation by its name.
    pub(crate) fn activation(&self, key: &str, default: &str) -> Result<Activation, NnError> {
        match self.word(key).unwrap_or(default) {
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            "silu" | "swish" => Ok(Activation::Silu),
            "tanh" => Ok(Activation::Tanh),
            other => {
                Err(self.error(key, format!("is {other:?}, expected gelu, gelu_new, relu, silu or tanh")))
            }
        }
    }

    /// How many classes there are: as many as have names, else `num_labels`, else `default`.
    pub(crate) fn labels(&self, default: usize) -> Result<usize, NnError> {
        let named = self.values.get("id2label").and_then(Value::as_object).map(serde_json::Map::len);
        let listed = || self.values.get("labels").and_then(Value::as_array).map(Vec::len);
        match named.or_else(listed).filter(|n| *n > 0) {
            Some(n) => Ok(n),
            None => self.size("num_labels", Some(default)),
        }
    }
}
