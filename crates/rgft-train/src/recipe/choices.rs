//! The settings that are one word of a list. A word is spelt the same in TOML, on the command line and in
//! every output file.

use serde::{Deserialize, Serialize};

/// An enum whose variants are words: `name()`, `ALL`, `Display`, `FromStr` and serde agree on the spelling.
macro_rules! words {
    ($(#[$meta:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $type {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $type {
            /// Every choice, in the order of the documentation.
            pub const ALL: &'static [$type] = &[$($type::$variant),+];

            /// The word used in recipes and output files.
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|choice| choice.name() == word).ok_or_else(|| UnknownWord {
                    found: word.to_owned(),
                    expected: Self::ALL.iter().map(|choice| choice.name()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

/// A word that is not on the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}`: expected one of {expected}")]
pub struct UnknownWord {
    /// The word as written.
    pub found: String,
    /// The list, separated by commas.
    pub expected: String,
}

words! {
    /// What is computed twice to save memory.
    Recompute {
        /// Nothing.
        Off = "off",
        /// The forward pass of every block that backward goes through, but for the last.
        Blocks = "blocks",
    }
}

words! {
    /// What the model learns to do.
    Task {
        /// One label per text or pair of texts; cross-entropy.
        TextClassification = "text-classification",
        /// Any number of labels per text; binary cross-entropy.
        TextMultiLabel = "text-multi-label",
        /// One number per text or pair of texts; squared error.
        TextRegression = "text-regression",
        /// One label per picture; cross-entropy.
        ImageClassification = "image-classification",
        /// The next token of texts; cross-entropy.
        CausalLm = "causal-lm",
        /// As causal-lm, on source code: what the model writes is parsed besides.
        Code = "code",
        /// The coming steps of time series; squared error.
        Forecasting = "forecasting",
    }
}

impl Task {
    /// What a model for the task is for.
    pub(crate) fn purpose(self) -> rgft_nn::models::Purpose {
        use rgft_nn::models::Purpose;
        match self {
            Self::TextClassification | Self::TextMultiLabel | Self::TextRegression => Purpose::Text,
            Self::ImageClassification => Purpose::Images,
            Self::CausalLm | Self::Code => Purpose::Language,
            Self::Forecasting => Purpose::Series,
        }
    }

    /// Whether an example is a text, or a pair, with a label.
    pub fn reads_text(self) -> bool {
        matches!(self, Self::TextClassification | Self::TextMultiLabel | Self::TextRegression)
    }
}

words! {
    /// How a picture becomes one of the model's size.
    Resize {
        /// The shorter side is scaled to the size, the middle cut out.
        Crop = "crop",
        /// Both sides are scaled to the size.
        Squash = "squash",
    }
}

words! {
    /// How pictures vary from epoch to epoch.
    Augment {
        /// Not at all; needed for a prefix cache.
        None = "none",
        /// Mirrored at random.
        Flip = "flip",
        /// Mirrored at random, and cut out of a padded copy at random.
        FlipCrop = "flip-crop",
    }
}

words! {
    /// What becomes of characters that a character model does not know.
    UnknownCharacters {
        /// Another character stands for them.
        Replace = "replace",
        /// They are left out.
        Drop = "drop",
        /// They are an error.
        Refuse = "refuse",
    }
}

words! {
    /// A programming language that generated snippets are parsed as.
    CodeLanguage {
        /// By `ast` of the `python3` on the path, where there is one.
        Python = "python",
        /// By the built-in parser.
        Rust = "rust",
    }
}

words! {
    /// What series are divided by.
    Scaling {
        /// The training part's standard deviation, after its mean is taken away.
        Standard = "standard",
        /// Nothing.
        None = "none",
    }
}

words! {
    /// What becomes of missing steps and values of a series.
    Missing {
        /// A straight line between their neighbours; the run says how many there were.
        Interpolate = "interpolate",
        /// They are an error.
        Refuse = "refuse",
    }
}

words! {
    /// Which parameters a run updates.
    MethodName {
        /// All of them, at every step.
        Full = "full",
        /// The same for as many steps as a budget lasts.
        FullShort = "full-short",
        /// The task head alone.
        Head = "head",
        /// The task head and the last k layers.
        LastK = "last-k",
        /// The components that are named.
        Only = "only",
        /// The task head and every bias.
        Bitfit = "bitfit",
        /// The task head and every normalisation.
        Norm = "norm",
        /// The task head and low-rank adapters.
        Lora = "lora",
        /// As lora, with another scale.
        RsLora = "rslora",
        /// The task head and a few heads and channels, drawn once.
        S2ft = "s2ft",
        /// Embeddings, the task head and a few layers, drawn anew every few steps.
        Lisa = "lisa",
        /// The task head and one layer after the other.
        BAdam = "badam",
        /// All of them, each tensor's learning rate by its relative gradient norm.
        AutoRgn = "auto-rgn",
        /// The tensors that promise most for what a step may cost.
        GreenTrainer = "greentrainer",
        /// All of them, from the examples with large losses.
        SelectiveBackprop = "selective-backprop",
        /// As rgft, with random numbers in the place of the error map.
        Random = "random",
        /// As rgft, with the first error map for ever.
        Static = "static",
        /// The components that the data's errors come from, under a budget.
        Rgft = "rgft",
    }
}

impl MethodName {
    /// Whether the method makes plans for a budget.
    pub fn plans(self) -> bool {
        matches!(self, Self::Random | Self::Static | Self::Rgft)
    }
}

words! {
    /// Whether the hidden states below the cut are kept.
    Cache {
        /// Where that is right: not with augmentation.
        Auto = "auto",
        /// No: they are computed anew each time.
        Off = "off",
    }
}

words! {
    /// In what precision hidden states below the cut are kept.
    CacheDtype {
        /// bfloat16, rounded to nearest even: half the bytes, a relative error of at most 2⁻⁸.
        Bf16 = "bf16",
        /// Exact.
        F32 = "f32",
    }
}

words! {
    /// How a gradient becomes a step.
    OptimizerName {
        /// Adam with decoupled weight decay.
        AdamW = "adamw",
        /// Stochastic gradient descent with momentum.
        Sgd = "sgd",
    }
}

words! {
    /// The operands of matrix products. Accumulation and master weights are always f32.
    Precision {
        /// 32-bit operands.
        F32 = "f32",
        /// bfloat16 operands, rounded while they are packed.
        Bf16 = "bf16",
    }
}

words! {
    /// How the hidden states of a text become one vector, `[seq, hidden]` to `[hidden]`.
    Pooling {
        /// The model's own pooler where its weights are there, else the mean.
        Auto = "auto",
        /// The mean over the tokens.
        Mean = "mean",
        /// The first token.
        Cls = "cls",
        /// The first token through the pre-trained dense layer and tanh.
        Pooler = "pooler",
    }
}

words! {
    /// Where the weights come from.
    Init {
        /// The model folder.
        Pretrained = "pretrained",
        /// The seed: the model folder gives the shape alone.
        Random = "random",
    }
}
