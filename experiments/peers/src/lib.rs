//! What both programs share: the arguments, the batches of `rgft bench steps`, the clock, and the lines that are printed.
//!
//! A line is a JSON object: `work`, `what`, `precision`, `median_ms`, `best_ms`, `runs`, `peak_rss_mb`, `version`.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

/// Tokens of every text.
pub const LENGTH: usize = 64;
/// Words that a text encoder knows.
pub const VOCABULARY: usize = 30_522;
/// Positions that a text encoder knows.
pub const POSITIONS: usize = 512;

/// What a step is measured on.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// A BERT encoder, its states averaged over the tokens, and a linear head with two outputs.
    Encoder {
        /// Blocks of attention and feed-forward.
        layers: usize,
        /// Channels.
        hidden: usize,
        /// Heads of attention.
        heads: usize,
        /// Texts.
        batch: usize,
    },
    /// The CIFAR form of ResNet-20, ten classes, 128 pictures of 32 × 32.
    Resnet20,
    /// An LSTM of 256 units over 64 series of 96 steps with 32 values each, and a linear head with two outputs.
    Lstm,
}

impl Work {
    fn of(name: &str) -> Option<Self> {
        match name {
            "minilm" => Some(Self::Encoder { layers: 6, hidden: 384, heads: 12, batch: 32 }),
            "bertbase" => Some(Self::Encoder { layers: 12, hidden: 768, heads: 12, batch: 16 }),
            "resnet20" => Some(Self::Resnet20),
            "lstm" => Some(Self::Lstm),
            _ => None,
        }
    }

    /// Shape of the batch: `[texts, tokens]`, `[pictures, channels, height, width]` or `[series, steps, values]`.
    pub fn shape(self) -> Vec<usize> {
        match self {
            Self::Encoder { batch, .. } => vec![batch, LENGTH],
            Self::Resnet20 => vec![128, 3, 32, 32],
            Self::Lstm => vec![64, 96, 32],
        }
    }

    /// Numbers of the batch; for an encoder they are of no use.
    pub fn numbers(self) -> Vec<f32> {
        (0..self.shape().iter().product()).map(|i: usize| ((i * 7919) % 1000) as f32 * 2e-3 - 1.0).collect()
    }

    /// Tokens of the batch.
    pub fn tokens(self) -> Vec<u32> {
        let scalars: usize = self.shape().iter().product();
        (0..scalars as u32).map(|i| i.wrapping_mul(2_654_435_761) % VOCABULARY as u32).collect()
    }

    /// Classes.
    pub fn outputs(self) -> usize {
        if matches!(self, Self::Resnet20) { 10 } else { 2 }
    }

    /// A label of each example.
    pub fn targets(self) -> Vec<u32> {
        (0..self.shape()[0] as u32).map(|i| i % self.outputs() as u32).collect()
    }
}

/// Runs of one work and the lines about them.
pub struct Bench {
    name: String,
    /// What is measured.
    pub work: Work,
    version: &'static str,
}

impl Bench {
    /// What the command line asks for: `WORK [--threads N]`. `None` for a work that is not offered: nothing is printed then.
    /// To be called before any thread is started.
    ///
    /// # Errors
    /// The arguments are others.
    pub fn from_arguments(version: &'static str) -> Result<Option<Self>, String> {
        const USAGE: &str = "usage: PROGRAM minilm|bertbase|resnet20|lstm [--threads N]";
        let mut arguments = std::env::args().skip(1);
        let name = arguments.next().ok_or(USAGE)?;
        match (arguments.next().as_deref(), arguments.next()) {
            (None, _) => {}
            // Both libraries read this variable, by way of rayon.
            // SAFETY: the caller has started no thread that could read the environment meanwhile.
            (Some("--threads"), Some(n)) if n.parse::<usize>().is_ok() => unsafe {
                std::env::set_var("RAYON_NUM_THREADS", n);
            },
            _ => return Err(USAGE.into()),
        }
        Ok(Work::of(&name).map(|work| Self { name, work, version }))
    }

    /// Times `run`, as `steps.py` times PyTorch: three runs to warm up, then for four seconds, five times at least.
    pub fn report(&self, what: &str, mut run: impl FnMut()) {
        for _ in 0..3 {
            run();
        }
        let (mut times, start) = (Vec::new(), Instant::now());
        while times.len() < 5 || start.elapsed() < Duration::from_secs(4) {
            let begin = Instant::now();
            run();
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let middle = times.len() / 2;
        let median = if times.len().is_multiple_of(2) {
            (times[middle - 1] + times[middle]) / 2.0
        } else {
            times[middle]
        };
        println!(
            r#"{{"work": "{}", "what": "{what}", "precision": "f32", "median_ms": {median:.2}, "best_ms": {:.2}, "runs": {}, "peak_rss_mb": {}, "version": "{}"}}"#,
            self.name,
            times[0],
            times.len(),
            peak_rss_megabytes().map_or_else(|| "null".into(), |megabytes| megabytes.to_string()),
            self.version,
        );
    }
}

/// The most memory that this process has held, where the system says it as Linux does.
fn peak_rss_megabytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
}
