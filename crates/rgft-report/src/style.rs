//! The style sheets and the script that are compiled into each page.

/// Colours and the classes of shapes inside pictures, light and dark.
pub(crate) const PICTURE: &str = include_str!("style/picture.css");
/// Lines of several colours.
pub(crate) const LINES: &str = include_str!("style/lines.css");
/// The page around the pictures.
pub(crate) const PAGE: &str = include_str!("style/page.css");
/// Quick tooltips; without it the browser shows the same words, later.
pub(crate) const SCRIPT: &str = include_str!("style/tooltip.js");
