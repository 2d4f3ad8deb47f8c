//! A tiny SVG writer: it escapes every text it is given and rounds every coordinate.
//!
//! Shapes carry CSS classes and no colours, so that one picture follows the reader's light or dark
//! scheme. No knowledge of runs or events may come in here.

use std::fmt::Write as _;

/// Where a text is anchored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// `picture` with a style sheet of its own, for a file.
pub(crate) fn styled(picture: &str, css: &str) -> String {
    match picture.split_once('>') {
        Some((open, rest)) => format!("{open}><style>{css}</style>{rest}\n"),
        None => picture.to_owned(),
    }
}

/// A picture under construction.
#[derive(Debug)]
pub(crate) struct Svg {
    body: String,
}

impl Svg {
    /// Opens a picture of `width × height` user units with an accessible title and description.
    pub(crate) fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let mut body = String::new();
        let (width, height) = (coordinate(width), coordinate(height));
        let _ = write!(
            body,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{}">"#,
            escape(title),
        );
        if !description.is_empty() {
            let _ = write!(body, "<desc>{}</desc>", escape(description));
        }
        Self { body }
    }

    /// A rectangle with rounded corners; `title` becomes its tooltip where it is not empty.
    pub(crate) fn rect(&mut self, [x, y, width, height]: [f64; 4], radius: f64, class: &str, title: &str) {
        let (x, y) = (coordinate(x), coordinate(y));
        let (width, height) = (coordinate(width.max(0.0)), coordinate(height.max(0.0)));
        let _ =
            write!(self.body, r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}""#);
        if radius > 0.0 {
            let _ = write!(self.body, r#" rx="{}""#, coordinate(radius));
        }
        self.close("rect", title);
    }

    /// A circle.
    pub(crate) fn circle(&mut self, x: f64, y: f64, radius: f64, class: &str, title: &str) {
        let (x, y, radius) = (coordinate(x), coordinate(y), coordinate(radius));
        let _ = write!(self.body, r#"<circle class="{class}" cx="{x}" cy="{y}" r="{radius}""#);
        self.close("circle", title);
    }

    /// A straight line.
    pub(crate) fn line(&mut self, from: [f64; 2], to: [f64; 2], class: &str) {
        let [x1, y1] = from.map(coordinate);
        let [x2, y2] = to.map(coordinate);
        let _ = write!(self.body, r#"<line class="{class}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#);
    }

    /// A path; `data` comes from this crate alone and needs no escaping.
    pub(crate) fn path(&mut self, data: &str, class: &str) {
        if !data.is_empty() {
            let _ = write!(self.body, r#"<path class="{class}" d="{data}"/>"#);
        }
    }

    /// A line of text with its baseline at `y`.
    pub(crate) fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let (x, y) = (coordinate(x), coordinate(y));
        let _ = write!(
            self.body,
            r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{}">{}</text>"#,
            anchor.name(),
            escape(text),
        );
    }

    /// A style sheet inside the picture, for a picture that stands alone.
    pub(crate) fn style(&mut self, css: &str) {
        let _ = write!(self.body, "<style>{css}</style>");
    }

    /// Closes the picture.
    pub(crate) fn finish(mut self) -> String {
        self.body.push_str("</svg>");
        self.body
    }

    fn close(&mut self, tag: &str, title: &str) {
        if title.is_empty() {
            self.body.push_str("/>");
        } else {
            let _ = write!(self.body, "><title>{}</title></{tag}>", escape(title));
        }
    }
}

/// The path data of one rectangle, to be concatenated into a path of many.
pub(crate) fn rect_path([x, y, width, height]: [f64; 4]) -> String {
    let (x, y) = (coordinate(x), coordinate(y));
    let (width, height) = (coordinate(width), coordinate(height));
    format!("M{x} {y}h{width}v{height}h-{width}z")
}

/// Escapes text for XML and HTML; characters that XML forbids become U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            // Direction overrides would let a name rewrite the text around it.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A coordinate with at most two decimals; a non-finite one becomes 0 so that the picture stays valid.
pub(crate) fn coordinate(value: f64) -> String {
    if !value.is_finite() {
        return "0".into();
    }
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_inert() {
        assert_eq!(
            escape("</svg><script>alert('x')&\u{0}\u{202e}"),
            "&lt;/svg&gt;&lt;script&gt;alert(&#39;x&#39;)&amp;\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn coordinates_are_short_and_finite() {
        let texts = [1.0, 0.125, -0.0001, f64::NAN, f64::INFINITY, 12.5].map(coordinate);
        assert_eq!(texts, ["1", "0.12", "0", "0", "0", "12.5"]);
    }
}
