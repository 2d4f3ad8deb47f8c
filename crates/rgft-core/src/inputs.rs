//! What enters a model: the inputs of a batch of examples, without their targets. Data makes them, models read them,
//! and neither needs to know the other. Padding never exists: what varies in length is packed end to end.

/// The inputs of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Inputs {
    /// Text.
    Tokens(Tokens),
    /// Pictures, all of one size.
    Images(Images),
    /// Windows of time series, all of one length.
    Series(Series),
}

/// Token sequences, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    /// Token ids of all sequences, `[tokens]`.
    pub ids: Vec<u32>,
    /// Segment of each token, `[tokens]`.
    pub types: Vec<u32>,
    /// Tokens of each sequence; they sum to `tokens`.
    pub lengths: Vec<usize>,
}

/// Normalised pictures, channels last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Images {
    /// `[examples, height, width, channels]`.
    pub pixels: Vec<f32>,
    /// Rows of each picture.
    pub height: usize,
    /// Columns of each picture.
    pub width: usize,
    /// Colours.
    pub channels: usize,
}

/// Windows of single series: of several series at the same time, each is an example of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Scaled values, `[windows, steps]`.
    pub values: Vec<f32>,
    /// Steps of each window.
    pub steps: usize,
}

/// How large the examples of a batch are, which is all that its cost depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Rows of each sequence: tokens, time steps, patches.
    Sequences(Vec<usize>),
    /// Maps of pixels, all of one size.
    Maps {
        /// How many.
        examples: usize,
        /// Rows of each.
        height: usize,
        /// Columns of each.
        width: usize,
    },
}

impl Extent {
    /// How many examples there are.
    pub fn examples(&self) -> usize {
        match self {
            Self::Sequences(lengths) => lengths.len(),
            Self::Maps { examples, .. } => *examples,
        }
    }

    /// Rows of the matrix `[rows, channels]` that holds the batch's hidden state.
    pub fn rows(&self) -> usize {
        match self {
            Self::Sequences(lengths) => lengths.iter().sum(),
            Self::Maps { examples, height, width } => examples * height * width,
        }
    }

    /// The extent of two batches taken together.
    ///
    /// # Panics
    /// If they are not of one kind, or their maps not of one size.
    #[must_use]
    pub fn joined(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Sequences(mut lengths), Self::Sequences(more)) => {
                lengths.extend_from_slice(more);
                Self::Sequences(lengths)
            }
            (Self::Maps { examples, height, width }, Self::Maps { examples: more, height: h, width: w })
                if (height, width) == (*h, *w) =>
            {
                Self::Maps { examples: examples + more, height, width }
            }
            (one, other) => panic!("{one:?} and {other:?} are batches of one data set"),
        }
    }
}

impl Inputs {
    /// How large its examples are.
    pub fn extent(&self) -> Extent {
        match self {
            Self::Tokens(tokens) => Extent::Sequences(tokens.lengths.clone()),
            Self::Images(images) => Extent::Maps {
                examples: images.pixels.len() / (images.height * images.width * images.channels).max(1),
                height: images.height,
                width: images.width,
            },
            Self::Series(series) => {
                Extent::Sequences(vec![series.steps; series.values.len() / series.steps.max(1)])
            }
        }
    }
}
