//! Shell commands in documents: the sidecar accepts its arguments, targets of make exist, and so do
//! the project's scripts. Nothing is run.

use std::path::Path;

use arx_sidecar::cli::Cli;
use clap::Parser;

use crate::markdown::Document;

const LANGUAGE: &str = "sh";

/// Returns what is wrong with the commands of a document.
pub(crate) fn check(document: &Document, workspace: &Path, makefile: &str) -> Vec<String> {
    let blocks = document.fences().into_iter().filter(|fence| fence.language == LANGUAGE);
    let mut failures = Vec::new();
    for fence in blocks {
        let place = format!("{}:{}", document.path.display(), fence.content.start + 1);
        let text = document.text(&fence.content).replace("\\\n", " ");
        for line in text.lines() {
            let Some(words) = shlex::split(line) else {
                failures.push(format!("{place}: quotes do not match: {line}"));
                continue;
            };
            failures.extend(fault(&words, workspace, makefile).map(|fault| format!("{place}: {line}\n{fault}")));
        }
    }
    failures
}

fn fault(words: &[String], workspace: &Path, makefile: &str) -> Option<String> {
    let mut words = words.iter().skip_while(|word| is_assignment(word));
    let program = words.next()?;
    match program.as_str() {
        "arx-sidecar" => {
            let arguments = std::iter::once(program).chain(words);
            Cli::try_parse_from(arguments).err().map(|error| error.to_string())
        }
        "make" => {
            let mut targets = words.filter(|word| !is_assignment(word));
            let unknown =
                targets.find(|target| !makefile.lines().any(|line| line.starts_with(&format!("{target}:"))))?;
            Some(format!("the Makefile has no target {unknown}"))
        }
        path if path.starts_with("scripts/") || path.starts_with("samples/") => {
            (!workspace.join(path).exists()).then(|| format!("{path} does not exist"))
        }
        _ => None,
    }
}

/// True for `NAME=value`.
fn is_assignment(word: &str) -> bool {
    word.split_once('=')
        .is_some_and(|(name, _)| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(command: &str) -> usize {
        let document = Document::parse(Path::new("a.md"), &format!("```sh\n{command}\n```\n"));
        check(&document, Path::new("."), "test: ## Run every test\n").len()
    }

    #[test]
    fn unknown_commands_are_reported() {
        for wrong in ["arx-sidecar imports x", "arx-sidecar sync --now", "make tests", "scripts/none", "echo 'open"] {
            assert_eq!(faults(wrong), 1, "{wrong}");
        }
        for right in ["arx-sidecar import labels a.csv  # comment", "DATA=x make test", "psql -c 'SELECT 1'", "# only"]
        {
            assert_eq!(faults(right), 0, "{right}");
        }
    }
}
