//! The SQL in a Markdown document: its fenced `sql` blocks, each with the line it begins at, so that documentation is run as a
//! test.

/// One fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The line of the document its first line stands on, counted from 1.
    pub line: usize,
    /// What is between the fences.
    pub text: String,
}

/// The blocks whose fence says exactly `language`.
#[must_use]
pub fn blocks(markdown: &str, language: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(bool, Block)> = None;
    for (index, line) in markdown.lines().enumerate() {
        match (open.as_mut(), line.trim_start().strip_prefix("```")) {
            (Some(_), Some(_)) => {
                if let Some((true, block)) = open.take() {
                    found.push(block);
                }
            }
            (None, Some(info)) => {
                open = Some((info.trim() == language, Block { line: index + 2, text: String::new() }));
            }
            (Some((_, block)), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_the_language_come_with_their_lines() {
        let text = "# A\n```sql\nSELECT 1;\n```\n```sh\npsql\n```\n  ```sql\n  SELECT 2;\n  ```\n";
        assert_eq!(
            blocks(text, "sql"),
            [Block { line: 3, text: "SELECT 1;\n".into() }, Block { line: 9, text: "  SELECT 2;\n".into() }]
        );
    }

    #[test]
    fn a_block_that_is_never_closed_is_no_block() {
        assert_eq!(blocks("```sql\nSELECT 1;\n", "sql"), []);
    }
}
