//! Python by a subprocess: one for all snippets, which parses one at a time and answers each with a line.
//!
//! A snippet that makes the process die or hang does not parse, and the next process goes on behind it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// What one snippet may take. Parsing takes milliseconds; starting Python can take seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads a JSON array, answers "ready", then 0 or 1 for each snippet. Limited in memory, in time it is by us.
const SCRIPT: &str = r#"
import ast, json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, ValueError, OSError):
    pass
print("ready", flush=True)
for snippet in json.loads(sys.stdin.buffer.read().decode("utf-8")):
    try:
        ast.parse(snippet)
        print(1, flush=True)
    except Exception:
        print(0, flush=True)
"#;

pub(super) fn parse_all(snippets: &[&str]) -> Option<Vec<bool>> {
    let mut parsed = Vec::with_capacity(snippets.len());
    loop {
        let answers = run(&snippets[parsed.len()..])?;
        parsed.extend(answers);
        if parsed.len() >= snippets.len() {
            parsed.truncate(snippets.len());
            return Some(parsed);
        }
        parsed.push(false);
    }
}

/// The answers of one process until its end, which may come early. `None` where there is no Python.
fn run(snippets: &[&str]) -> Option<Vec<bool>> {
    let input = serde_json::to_vec(snippets).ok()?;
    // Isolated: neither the environment nor files beside the snippets change what is parsed.
    let mut child = Command::new("python3")
        .args(["-I", "-S", "-W", "ignore", "-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let answers = answers(&mut child, input);
    // It has ended, or hangs.
    let _ = child.kill();
    let _ = child.wait();
    answers
}

fn answers(child: &mut Child, input: Vec<u8>) -> Option<Vec<bool>> {
    let (mut stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
    // Both ends on threads: a process that neither reads nor answers holds up no one.
    std::thread::spawn(move || stdin.write_all(&input));
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let next = |lines: &Receiver<String>| lines.recv_timeout(PATIENCE).ok();
    if next(&lines)? != "ready" {
        return None;
    }
    Some(std::iter::from_fn(|| next(&lines)).map(|line| line == "1").collect())
}
