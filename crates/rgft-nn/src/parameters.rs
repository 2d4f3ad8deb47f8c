//! A model's parameters: named, shaped, f32.

/// One parameter. Seen by plans as a matrix `[rows, cols]`; a vector is `[n, 1]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its path in safetensors files: `encoder.layer.3.attention.self.query.weight`.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// Its scalars, row by row.
    pub data: Vec<f32>,
    /// Whether it was initialised here instead of being loaded.
    pub fresh: bool,
}

impl Parameter {
    /// First dimension.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Product of the other dimensions.
    pub fn cols(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}

/// All parameters of a model, addressed by index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(Vec<Parameter>);

impl Parameters {
    /// Adds one; returns its index.
    pub fn push(&mut self, parameter: Parameter) -> usize {
        self.0.push(parameter);
        self.0.len() - 1
    }

    /// The scalars of parameter `index`.
    pub fn data(&self, index: usize) -> &[f32] {
        &self.0[index].data
    }

    /// In order of index.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.0.iter()
    }

    /// In order of index, writable.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Parameter> {
        self.0.iter_mut()
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of scalars.
    pub fn scalars(&self) -> usize {
        self.0.iter().map(|parameter| parameter.data.len()).sum()
    }

    /// The index of the parameter called `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|parameter| parameter.name == name)
    }
}

impl std::ops::Index<usize> for Parameters {
    type Output = Parameter;
    fn index(&self, index: usize) -> &Parameter {
        &self.0[index]
    }
}

impl std::ops::IndexMut<usize> for Parameters {
    fn index_mut(&mut self, index: usize) -> &mut Parameter {
        &mut self.0[index]
    }
}
