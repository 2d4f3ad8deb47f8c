//! The commands, one file each: from arguments to the library and from its results to the printer.

pub(crate) mod compare;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod generate;
pub(crate) mod map;
pub(crate) mod patch;
pub(crate) mod plan;
pub(crate) mod predict;
pub(crate) mod pretrain;
pub(crate) mod theory;
pub(crate) mod train;
