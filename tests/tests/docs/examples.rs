//! SQL in documents and the output shown below it.
//!
//! A `sql` block is followed by a `text` block with the output, aligned as psql does without row
//! counts; a block that is not followed by one must print nothing.

use std::io::Write;
use std::ops::Range;

use anyhow::{Context, Result};
use arx_stack::Database;
use arx_stack::process::run;

use crate::markdown::{Document, Fence};

const LANGUAGE: &str = "sql";
const OUTPUT: &str = "text";

/// An SQL block with the block of its output, if there is one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Example {
    pub sql: Fence,
    pub output: Option<Fence>,
}

pub(crate) fn examples(document: &Document) -> Vec<Example> {
    let fences = document.fences();
    let following = fences.iter().map(Some).skip(1).chain([None]);
    let blocks = fences.iter().zip(following).filter(|(sql, _)| sql.language == LANGUAGE);
    blocks
        .map(|(sql, next)| {
            let between = |next: &Fence| sql.content.end + 1..next.content.start - 1;
            let is_output = |next: &&Fence| next.language == OUTPUT && document.text(&between(next)).trim().is_empty();
            Example { sql: sql.clone(), output: next.filter(is_output).cloned() }
        })
        .collect()
}

/// Result of running the examples of a document.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// SQL that failed.
    pub errors: Vec<String>,
    /// Output that is not the one shown.
    pub differences: Vec<String>,
}

/// Runs the examples of a document, and replaces the outputs in it by the actual ones.
pub(crate) fn check(document: &mut Document, database: &Database<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for Example { sql, output } in examples(document) {
        let place = format!("{}:{}", document.path.display(), sql.content.start + 1);
        let actual = match psql(database, &document.text(&sql.content)) {
            Ok(actual) => actual,
            Err(error) => {
                outcome.errors.push(format!("{place}: {error:#}"));
                continue;
            }
        };
        let expected = output.as_ref().map_or_else(String::new, |fence| document.text(&fence.content));
        if actual == expected {
            continue;
        }
        outcome.differences.push(format!("{place}: expected\n{expected}but got\n{actual}"));
        edits.push(match output {
            Some(fence) => (fence.content, actual),
            None => (sql.content.end + 1..sql.content.end + 1, format!("```{OUTPUT}\n{actual}```\n")),
        });
    }
    for (lines, text) in edits.into_iter().rev() {
        document.replace(lines, &text);
    }
    outcome
}

/// Returns what psql prints, without blanks at the ends of lines and empty lines at the end.
fn psql(database: &Database<'_>, sql: &str) -> Result<String> {
    let mut file = tempfile::NamedTempFile::new().context("create a file for the SQL")?;
    file.write_all(sql.as_bytes()).context("write the SQL")?;
    let output = run(database.psql().args(["-P", "footer=off", "-P", "pager=off", "-f"]).arg(file.path()))?;
    let text = output.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n");
    let text = text.trim_end();
    Ok(if text.is_empty() { String::new() } else { format!("{text}\n") })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_output_belongs_to_the_block_above_it() {
        let text = "```sql\na\n```\n```text\n1\n```\nprose\n```sql\nb\n```\nprose\n```text\n2\n```\n```sql\nc\n```\n\n```text\n3\n```\n";
        let document = Document::parse(Path::new("a.md"), text);
        let outputs: Vec<Option<String>> = examples(&document)
            .into_iter()
            .map(|example| example.output.map(|fence| document.text(&fence.content)))
            .collect();
        assert_eq!(outputs, [Some("1\n".to_owned()), None, Some("3\n".to_owned())]);
    }
}
