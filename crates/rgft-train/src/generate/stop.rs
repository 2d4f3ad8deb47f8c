//! Strings that end a text, found while it comes in pieces: what may be the beginning of one is held back.

/// Watches for the first of several strings.
#[derive(Debug)]
pub(super) struct StopStrings<'a> {
    stops: Vec<&'a str>,
    held: String,
    found: bool,
}

impl<'a> StopStrings<'a> {
    /// Empty strings stop nothing.
    pub(super) fn new(stops: &'a [String]) -> Self {
        let stops = stops.iter().map(|stop| &stop[..]).filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new(), found: false }
    }

    /// Whether one was found; nothing comes after it.
    pub(super) fn found(&self) -> bool {
        self.found
    }

    /// Takes the next piece, and gives the text that is certainly before any stop.
    pub(super) fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.found = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let may_begin = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let certain = self.held.char_indices().map(|(at, _)| at).find(may_begin);
        let rest = self.held.split_off(certain.unwrap_or(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }

    /// What was held back when the text ends otherwise.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of pieces, joined by `|`, and whether a stop was found.
    fn watch(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut watch = StopStrings::new(&stops);
        let mut out = Vec::new();
        for piece in pieces {
            out.push(watch.push(piece));
            if watch.found() {
                return (out.join("|"), true);
            }
        }
        out.push(watch.finish());
        (out.join("|"), false)
    }

    #[test]
    fn stops_are_found_across_pieces_and_the_rest_comes_out_whole() {
        assert_eq!(watch(&[], &["a", "b"]), ("a|b|".into(), false));
        assert_eq!(watch(&["\n\n"], &["one\n", "\ntwo"]), ("one|".into(), true));
        assert_eq!(watch(&["\n\n"], &["one\n", "two"]), ("one|\ntwo|".into(), false));
        assert_eq!(watch(&["abc"], &["xa", "b", "ab", "c!"]), ("x||ab|".into(), true));
        assert_eq!(watch(&["END", "é!"], &["caf", "é", "!"]), ("caf||".into(), true));
        // The earliest in the text ends it, whichever is named first.
        assert_eq!(watch(&["two", "one"], &["an one and two"]), ("an ".into(), true));
        assert_eq!(watch(&["xyz", ""], &["ax"]), ("a|x".into(), false));
    }
}
