//! Whether code parses. Those of Python are skipped where there is none.

use rgft_data::snippets::{Language, parse_all, parses, share_that_parse, whole_lines};

#[test]
fn rust_is_parsed_and_not_run() {
    let snippets =
        ["fn main() { let x = 1; }\n", "fn main() {", "", "not rust", "/// Doc.\npub struct A<'a>(&'a str);"];
    assert_eq!(parse_all(Language::Rust, &snippets).unwrap(), [true, false, true, false, true]);
    assert_eq!(share_that_parse(Language::Rust, &snippets), Some(0.6));
    assert_eq!(share_that_parse::<&str>(Language::Rust, &[]), None);
}

#[test]
fn rust_without_end_is_no_rust() {
    let deep =
        |open: &str, close: &str, n: usize| format!("const A: T = {}1{};", open.repeat(n), close.repeat(n));
    for (open, close) in
        [("(", ")"), ("!", ""), ("{", "}"), ("if a {", "}"), ("- ", ""), ("&", ""), ("|| ", "")]
    {
        let n = 60_000 / (open.len() + close.len());
        // Whatever the answer, there is one.
        assert!(parses(Language::Rust, &deep(open, close, n)).is_some(), "{open}");
    }
    assert!(parses(Language::Rust, &format!("const A: T = 1{};", "+1".repeat(30_000))).is_some());
    assert_eq!(parses(Language::Rust, &"// long\n".repeat(10_000)), Some(false));
}

#[test]
fn python_is_parsed_and_not_run() {
    let Some(answer) = parses(Language::Python, "x = 1\n") else {
        eprintln!("skipped: no python3");
        return;
    };
    assert!(answer);
    let written = tempfile::tempdir().unwrap().path().join("ran");
    let writes = format!("open({:?}, 'w')\n", written.display().to_string());
    let snippets = [
        "def f(x):\n    return x + 1\n",
        "def f(x):\n",
        "",
        "x = 'é→'\n",
        "print 'two'\n",
        "nul = 1\0\n",
        &writes,
        "assert 1 is 1\n",
        "  indented = 1\n",
    ];
    let expected = [true, false, true, true, false, false, true, true, false];
    assert_eq!(parse_all(Language::Python, &snippets).unwrap(), expected);
    assert!(!written.exists());
    assert_eq!(share_that_parse(Language::Python, &snippets[..2]), Some(0.5));
}

#[test]
fn python_that_breaks_the_parser_costs_its_own_snippet_alone() {
    if parses(Language::Python, "").is_none() {
        eprintln!("skipped: no python3");
        return;
    }
    let deep = ["(".repeat(100_000), "-".repeat(1_000_000) + "1", "[x for x in ".repeat(50_000)];
    let mut snippets: Vec<&str> = Vec::new();
    for deep in &deep {
        snippets.extend([deep.as_str(), "x = 1\n"]);
    }
    assert_eq!(parse_all(Language::Python, &snippets).unwrap(), [false, true, false, true, false, true]);
}

#[test]
fn a_snippet_ends_behind_its_last_whole_line() {
    assert_eq!(whole_lines("a = 1\nb = (\nc"), "a = 1\nb = (\n");
    assert_eq!((whole_lines("a = 1"), whole_lines("a\n"), whole_lines("")), ("", "a\n", ""));
    assert_eq!(Language::of_file("a/b.py".as_ref()), Some(Language::Python));
    assert_eq!(Language::of_file("lib.rs".as_ref()), Some(Language::Rust));
    assert_eq!((Language::of_file("a.c".as_ref()), "rust".parse()), (None, Ok(Language::Rust)));
}
