//! Fenced blocks of a Markdown document, with their lines, so that documentation is run as a test.

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Line of the document that holds its first line, counted from 1.
    pub line: usize,
    pub text: String,
}

/// Returns the blocks whose opening fence names exactly this language.
#[must_use]
pub fn blocks(markdown: &str, language: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, Block)> = None;
    for (index, line) in markdown.lines().enumerate() {
        match (open.as_mut(), line.trim_start().strip_prefix("```")) {
            (Some(_), Some(_)) => {
                if let Some((true, block)) = open.take() {
                    blocks.push(block);
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
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_language_have_their_lines() {
        let text = "# A\n```sql\nSELECT 1;\n```\n```sh\npsql\n```\n  ```sql\n  SELECT 2;\n  ```\n";
        assert_eq!(
            blocks(text, "sql"),
            [Block { line: 3, text: "SELECT 1;\n".into() }, Block { line: 9, text: "  SELECT 2;\n".into() }]
        );
    }

    #[test]
    fn an_unclosed_block_is_ignored() {
        assert_eq!(blocks("```sql\nSELECT 1;\n", "sql"), []);
    }
}
