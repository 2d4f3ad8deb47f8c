//! From a checkpoint to parameters under their public names and sites in forward order: what every model is built with.

use rgft_core::ComponentKind;
use rgft_kernels::cpu::batch_norm::Clip;
use rgft_kernels::cpu::conv::ConvShape;

use crate::NnError;
use crate::layers::Block;
use crate::layers::batch_norm::BatchNorm;
use crate::layers::conv::Conv;
use crate::layers::conv_norm::ConvNorm;
use crate::layers::embedding::Table;
use crate::layers::linear::Linear;
use crate::layers::lm_head::LmHead;
use crate::layers::norm::Norm;
use crate::layers::pre_norm::PreNorm;
use crate::models::{Level, Site, SiteKind};
use crate::parameters::{Parameter, Parameters, Stored};
use crate::weights::{Checkpoint, Init, Weights};

/// Parameters and sites, growing in forward order.
pub(crate) struct Builder<'a> {
    pub(crate) weights: Weights<'a>,
    pub(crate) parameters: Parameters,
    pub(crate) sites: Vec<Site>,
    /// What stands before the backbone's names in a task model's checkpoint, and not in a bare one's. Names are saved
    /// as they are asked for, and found with or without it.
    optional_prefix: &'static str,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(weights: Weights<'a>, optional_prefix: &'static str) -> Self {
        Self { weights, parameters: Parameters::default(), sites: Vec::new(), optional_prefix }
    }

    pub(crate) fn site(&mut self, name: &str, kind: SiteKind) -> usize {
        self.sites.push(Site { name: name.into(), kind });
        self.sites.len() - 1
    }

    /// A parameter of this shape in memory and in the file.
    pub(crate) fn parameter(&mut self, name: &str, shape: &[usize], init: Init) -> Result<usize, NnError> {
        self.stored(name, shape, init, Stored::AsIs)
    }

    /// A parameter that stands differently in files.
    pub(crate) fn stored(
        &mut self,
        name: &str,
        shape: &[usize],
        init: Init,
        stored: Stored,
    ) -> Result<usize, NnError> {
        let found = stored.name(name);
        let bare = found.strip_prefix(self.optional_prefix).unwrap_or(found);
        let (data, fresh) = self.weights.take(&[found, bare], &stored.shape(shape), init)?;
        let data = stored.read(data, shape);
        let (name, shape) = (name.into(), shape.to_vec());
        Ok(self.parameters.push(Parameter { name, shape, data, fresh, stored, ..Parameter::default() }))
    }

    /// A linear map `[output, input]`; where `bias`, with one that starts at 0.
    pub(crate) fn linear(
        &mut self,
        path: &str,
        input: usize,
        output: usize,
        bias: bool,
        init: Init,
    ) -> Result<Linear, NnError> {
        let weight = self.parameter(&format!("{path}.weight"), &[output, input], init)?;
        let zero = match init {
            Init::Fresh(_) => Init::Fresh(0.0),
            Init::Outputs(_) => Init::Outputs(0.0),
            Init::Normal(_) | Init::Constant(_) => Init::Constant(0.0),
        };
        let bias = bias.then(|| self.parameter(&format!("{path}.bias"), &[output], zero)).transpose()?;
        let site = self.site(path, SiteKind::Linear { weight, bias });
        Ok(Linear { site, weight, bias, input, output })
    }

    /// A layer norm.
    pub(crate) fn norm(
        &mut self,
        path: &str,
        width: usize,
        epsilon: f32,
        dropout: f32,
    ) -> Result<Norm, NnError> {
        let weight = self.parameter(&format!("{path}.weight"), &[width], Init::Constant(1.0))?;
        let bias = self.parameter(&format!("{path}.bias"), &[width], Init::Constant(0.0))?;
        let site = self.site(path, SiteKind::Norm { weight, bias: Some(bias) });
        Ok(Norm { site, weight, bias, width, epsilon, dropout })
    }

    /// An embedding table `[rows, width]`.
    pub(crate) fn table(
        &mut self,
        path: &str,
        rows: usize,
        width: usize,
        init: Init,
    ) -> Result<Table, NnError> {
        let weight = self.parameter(&format!("{path}.weight"), &[rows, width], init)?;
        Ok(Table { site: self.site(path, SiteKind::Embedding { weight }), weight })
    }

    /// A convolution without bias and its batch norm, under the paths `conv` and `norm`; `name` is what its components
    /// are called by inside of their block.
    pub(crate) fn conv_norm(
        &mut self,
        name: &str,
        [conv, norm]: [&str; 2],
        shape: ConvShape,
        epsilon: f32,
        clip: Clip,
    ) -> Result<ConvNorm, NnError> {
        let ConvShape { input, output, kernel, stride, padding, groups, .. } = shape;
        // He et al. (2015), by what a filter reaches.
        let deviation = (2.0 / (kernel * kernel * output / groups) as f32).sqrt();
        let memory = [output, kernel, kernel, input / groups];
        let path = format!("{conv}.weight");
        let weight = self.stored(&path, &memory, Init::Normal(deviation), Stored::ChannelsLast)?;
        let site = self.site(conv, SiteKind::Conv { weight, bias: None });
        let conv = Conv { site, weight, input, output, kernel, stride, padding, groups };
        let mut vector =
            |part: &str, start| self.parameter(&format!("{norm}.{part}"), &[output], Init::Constant(start));
        let (weight, bias) = (vector("weight", 1.0)?, vector("bias", 0.0)?);
        let (mean, variance) = (vector("running_mean", 0.0)?, vector("running_var", 1.0)?);
        [mean, variance].into_iter().for_each(|statistic| self.parameters[statistic].buffer = true);
        let Parameter { name: path, data, .. } = &self.parameters[variance];
        if let Some(position) = data.iter().position(|variance| *variance < 0.0) {
            return Err(self.weights.impossible(path, position, data[position]));
        }
        let site = self.site(norm, SiteKind::Norm { weight, bias: Some(bias) });
        let momentum = 0.1;
        let norm = BatchNorm { site, weight, bias, mean, variance, width: output, epsilon, momentum, clip };
        Ok(ConvNorm { name: name.into(), conv, norm })
    }

    /// The head of a language model: its last norm and the output map `[vocabulary, width]`, which is the embedding table
    /// `tied` where there is one.
    pub(crate) fn lm_head(
        &mut self,
        norm: PreNorm,
        tied: Option<usize>,
        width: usize,
        vocabulary: usize,
        init: Init,
    ) -> Result<LmHead, NnError> {
        let output = match tied {
            Some(weight) => {
                // A copy that some files hold beside the table says nothing.
                self.weights.discard("lm_head.weight");
                let site = self.site("lm_head", SiteKind::Linear { weight, bias: None });
                Linear { site, weight, bias: None, input: width, output: vocabulary }
            }
            None => self.linear("lm_head", width, vocabulary, false, init)?,
        };
        Ok(LmHead { norm: Some(norm), output, tied: tied.is_some() })
    }

    /// The tensors that nobody took, to be written back: under the optional prefix, but for those of a head, whose names
    /// begin with one of `heads`.
    pub(crate) fn unused(&self, heads: &[&str]) -> Result<Checkpoint<'static>, NnError> {
        let prefix = self.optional_prefix;
        self.weights.unused(|name| {
            let stays = name.starts_with(prefix) || heads.iter().any(|head| name.starts_with(head));
            if stays { name.to_string() } else { format!("{prefix}{name}") }
        })
    }
}

/// Pushes the two levels of layer `l`, which is called `path`.
pub(crate) fn push_layer(
    blocks: &mut Vec<Level<Box<dyn Block>>>,
    l: usize,
    path: &str,
    attention: impl Block + 'static,
    feed_forward: impl Block + 'static,
) {
    let mut push = |part: &str, kind, block: Box<dyn Block>| {
        let (name, layer) = (format!("{path}.{part}"), Some((l, path.to_string())));
        blocks.push(Level { name, kind, layer, block });
    };
    push("attention", ComponentKind::Attention, Box::new(attention));
    push("feed_forward", ComponentKind::FeedForward, Box::new(feed_forward));
}
