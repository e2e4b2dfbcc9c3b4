//! Markdown documents: their lines, fenced blocks, generated regions, headings and links. Owns
//! reading them and replacing a range of lines; it does not know what the blocks mean.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const REGION_BEGIN: &str = "<!-- generated: ";
const REGION_END: &str = "<!-- end generated -->";

/// Folders of the workspace whose files documents name.
const FOLDERS: [&str; 9] = ["bench", "ch_udf", "config", "core", "docs", "pg_ext", "scripts", "sql", "tests"];

/// A document of the repository.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// Path relative to the workspace.
    pub path: PathBuf,
    /// Lines without their ends.
    pub lines: Vec<String>,
}

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fence {
    /// Word after the opening fence.
    pub language: String,
    /// Lines between the fences, as indices.
    pub content: Range<usize>,
}

/// Lines that a program writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Region {
    pub name: String,
    /// Lines between the two markers, as indices.
    pub content: Range<usize>,
}

/// A link to a file or an anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Line of the document, counted from 1.
    pub line: usize,
    pub target: String,
}

impl Document {
    pub(crate) fn read(workspace: &Path, path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(workspace.join(path)).with_context(|| format!("read {}", path.display()))?;
        Ok(Self::parse(path, &text))
    }

    pub(crate) fn parse(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), lines: text.lines().map(str::to_owned).collect() }
    }

    pub(crate) fn write(&self, workspace: &Path) -> Result<()> {
        let text = self.lines.join("\n") + "\n";
        std::fs::write(workspace.join(&self.path), text).with_context(|| format!("write {}", self.path.display()))
    }

    pub(crate) fn text(&self, lines: &Range<usize>) -> String {
        self.lines[lines.clone()].iter().fold(String::new(), |text, line| text + line + "\n")
    }

    pub(crate) fn replace(&mut self, lines: Range<usize>, text: &str) {
        self.lines.splice(lines, text.lines().map(str::to_owned));
    }

    /// Returns the fenced blocks in order. A block that is never closed is left out.
    pub(crate) fn fences(&self) -> Vec<Fence> {
        let mut fences = Vec::new();
        let mut open: Option<(String, usize)> = None;
        for (index, line) in self.lines.iter().enumerate() {
            match (open.take(), line.trim_start().strip_prefix("```")) {
                (Some((language, first)), Some(_)) => fences.push(Fence { language, content: first..index }),
                (None, Some(language)) => open = Some((language.trim().to_owned(), index + 1)),
                (still_open, None) => open = still_open,
            }
        }
        fences
    }

    /// Returns the generated regions in order.
    pub(crate) fn regions(&self) -> Result<Vec<Region>> {
        let mut regions = Vec::new();
        let mut open: Option<(String, usize)> = None;
        for (index, line) in self.lines.iter().enumerate() {
            if let Some(name) = line.strip_prefix(REGION_BEGIN).and_then(|rest| rest.strip_suffix(" -->")) {
                if open.is_some() {
                    bail!("{}:{}: a generated region begins inside another", self.path.display(), index + 1);
                }
                open = Some((name.to_owned(), index + 1));
            } else if line == REGION_END {
                let Some((name, first)) = open.take() else {
                    bail!("{}:{}: no generated region to end", self.path.display(), index + 1);
                };
                regions.push(Region { name, content: first..index });
            }
        }
        match open {
            Some((name, _)) => bail!("{}: the generated region {name} has no end", self.path.display()),
            None => Ok(regions),
        }
    }

    /// Returns the lines outside fenced blocks with their numbers, counted from 1.
    pub(crate) fn prose(&self) -> Vec<(usize, &str)> {
        let fenced: BTreeSet<usize> =
            self.fences().into_iter().flat_map(|fence| fence.content.start - 1..=fence.content.end).collect();
        let lines = self.lines.iter().enumerate().filter(|(index, _)| !fenced.contains(index));
        lines.map(|(index, line)| (index + 1, line.as_str())).collect()
    }

    /// Returns the anchors that headings give, as GitHub names them.
    pub(crate) fn anchors(&self) -> BTreeSet<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut anchors = BTreeSet::new();
        for (_, line) in self.prose() {
            let level = line.bytes().take_while(|byte| *byte == b'#').count();
            let Some(title) = line.get(level..).and_then(|rest| rest.strip_prefix(' ')) else { continue };
            if level == 0 {
                continue;
            }
            let name = anchor(title);
            let repeated = seen.entry(name.clone()).or_default();
            anchors.insert(if *repeated == 0 { name } else { format!("{name}-{repeated}") });
            *repeated += 1;
        }
        anchors
    }

    /// Returns the paths of the workspace that code spans name, with the number of their line.
    pub(crate) fn paths(&self) -> Vec<(usize, String)> {
        let spans = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let prose = self.prose();
        let lines = prose.iter().flat_map(|(line, text)| spans(text).into_iter().map(|span| (*line, span)));
        lines.filter(|(_, span)| is_path(span)).collect()
    }

    /// Returns the targets of inline links and figures.
    pub(crate) fn links(&self) -> Vec<Link> {
        let mut links = Vec::new();
        for (line, text) in self.prose() {
            let text = without_code(text);
            let mut rest = text.as_str();
            while let Some((_, after)) = rest.split_once("](") {
                let Some((target, after)) = after.split_once(')') else { break };
                links.push(Link { line, target: target.to_owned() });
                rest = after;
            }
        }
        links
    }
}

/// Returns true for a path from the root of the workspace that names a file or a folder, and is no
/// pattern such as `tests/golden/NAME.sql`.
fn is_path(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    let begins_with_folder = text.split_once('/').is_some_and(|(folder, _)| FOLDERS.contains(&folder));
    begins_with_folder && text.chars().all(is_plain) && !text.contains("NAME")
}

/// Removes code spans, which may hold anything that resembles a link.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Returns the anchor of a heading: lower case, blanks as hyphens, without punctuation.
fn anchor(title: &str) -> String {
    let kept = title.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(Path::new("a.md"), text)
    }

    #[test]
    fn fences_have_a_language_and_their_lines() {
        let page =
            document("# A\n```sql\nSELECT 1;\n```\n```\nplain\n```\n  ```sql\n  SELECT 2;\n  ```\n```sql\nopen\n");
        let fences = page.fences();
        assert_eq!(fences.iter().map(|fence| fence.language.as_str()).collect::<Vec<_>>(), ["sql", "", "sql"]);
        assert_eq!(page.text(&fences[0].content), "SELECT 1;\n");
        assert_eq!(page.text(&fences[2].content), "  SELECT 2;\n");
    }

    #[test]
    fn a_range_of_lines_is_replaced() {
        let mut page = document("a\n<!-- generated: x -->\nold\n<!-- end generated -->\nb\n");
        let region = page.regions().unwrap().remove(0);
        assert_eq!(region.name, "x");
        page.replace(region.content, "new\nlines\n");
        assert_eq!(page.lines, ["a", "<!-- generated: x -->", "new", "lines", "<!-- end generated -->", "b"]);
    }

    #[test]
    fn regions_that_do_not_pair_up_are_errors() {
        for text in
            ["<!-- generated: x -->\n", "<!-- end generated -->\n", "<!-- generated: x -->\n<!-- generated: y -->\n"]
        {
            assert!(document(text).regions().is_err(), "{text}");
        }
    }

    #[test]
    fn anchors_are_those_of_github() {
        let page = document("# `wallet_risk`\n## Who, and why?\n## Again\n## Again\n```sh\n# no heading\n```\n#hash\n");
        let anchors: Vec<String> = page.anchors().into_iter().collect();
        assert_eq!(anchors, ["again", "again-1", "wallet_risk", "who-and-why"]);
    }

    #[test]
    fn paths_are_those_of_the_workspace() {
        let page =
            document("`core/src/lib.rs` and `sql/postgres/`, not `src/lib.rs`, `tests/golden/NAME.sql`, `a/b`\n");
        let paths: Vec<String> = page.paths().into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, ["core/src/lib.rs", "sql/postgres/"]);
    }

    #[test]
    fn links_outside_code_are_found() {
        let page = document("See [a](b.md#c) and ![f](g.svg), not `[x](y)`.\n```\n[z](z)\n```\n[`code()`](d.md)\n");
        let targets: Vec<String> = page.links().into_iter().map(|link| link.target).collect();
        assert_eq!(targets, ["b.md#c", "g.svg", "d.md"]);
    }
}
