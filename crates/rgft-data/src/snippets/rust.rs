//! Rust by `syn`, on a thread of its own: its parser recurses, and generated code can nest without end.

/// More than any snippet has; every level of nesting takes at least one byte, so this bounds the stack as well.
const LONGEST: usize = 1 << 16;

/// Of address space, of which only what is used becomes memory.
const STACK_BYTES: usize = 1 << 30;

pub(super) fn parse_all(snippets: &[&str]) -> Option<Vec<bool>> {
    std::thread::scope(|scope| {
        let parse = || snippets.iter().map(|snippet| parses(snippet)).collect();
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, parse).ok()?;
        thread.join().ok()
    })
}

fn parses(snippet: &str) -> bool {
    snippet.len() <= LONGEST && syn::parse_file(snippet).is_ok()
}
