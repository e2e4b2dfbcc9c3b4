//! Text of others in a terminal and in files. Control characters would move the cursor, change
//! colours, hide text or answer as the keyboard; characters that are not shown or change the
//! direction of text hide what a line says.

use std::fmt::{self, Display, Write};

/// Displays a value with its control characters escaped, and line breaks as they are.
pub(crate) struct Lines<T>(pub(crate) T);

/// Displays a value on one line, with its control characters escaped.
pub(crate) struct Inline<T>(pub(crate) T);

impl<T: Display> Display for Lines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { inner: f, keeps_lines: true }, "{}", self.0)
    }
}

impl<T: Display> Display for Inline<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { inner: f, keeps_lines: false }, "{}", self.0)
    }
}

struct Escaping<'a, 'b> {
    inner: &'a mut fmt::Formatter<'b>,
    keeps_lines: bool,
}

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if is_visible(character) || (character == '\n' && self.keeps_lines) {
                self.inner.write_char(character)?;
            } else {
                write!(self.inner, "{}", character.escape_unicode())?;
            }
        }
        Ok(())
    }
}

/// Displays a JSON document with the characters that a terminal does not show escaped, all of which
/// are in its strings, except for line breaks.
pub(crate) struct JsonText<T>(pub(crate) T);

impl<T: Display> Display for JsonText<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.to_string().chars() {
            if is_visible(character) || character == '\n' {
                f.write_char(character)?
            } else {
                escape_json(character, f)?
            }
        }
        Ok(())
    }
}

fn escape_json(character: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    character.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}"))
}

/// Returns whether a terminal shows a character and does nothing else with it.
fn is_visible(character: char) -> bool {
    !character.is_control() && !is_format(character)
}

/// Characters without a width and such that change the direction of text (Unicode's category Cf,
/// separators of lines and paragraphs, and tags).
fn is_format(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Displays a text as a JSON string. Escaped as well is what a terminal does not show and what a
/// shell expands within double quotes, so a shell that reads the line runs nothing of it.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '$' | '`' | '!' | '\\' => escape_json(character, f)?,
                character if is_visible(character) => f.write_char(character)?,
                character => escape_json(character, f)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let hostile = "red\x1b[31m\x07\r\n\u{9b}2J\u{202e}x\u{200b}é漢";
        assert_eq!(Inline(hostile).to_string(), r"red\u{1b}[31m\u{7}\u{d}\u{a}\u{9b}2J\u{202e}x\u{200b}é漢");
        assert!(Lines("a\nb\x1b").to_string().ends_with("a\nb\\u{1b}"));
    }

    #[test]
    fn a_quoted_text_is_json() {
        let text = "a\tb\"\\\n$(x)`y`!z\u{1}\u{e0001}é";
        let quoted = Quoted(text).to_string();
        assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        assert!(!quoted.contains(['\t', '\n', '$', '`', '!']), "{quoted}");
    }

    #[test]
    fn a_document_stays_the_same() {
        let document = serde_json::json!({"a\u{9b}": "x\u{202e}\u{e0001}\u{7f}é"});
        let text = JsonText(&document).to_string();
        assert!(text.chars().all(is_visible), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), document);
    }

    #[test]
    fn a_shell_runs_nothing_of_a_quoted_text() {
        let folder = tempfile::tempdir().unwrap();
        let planted = folder.path().join("planted");
        let touch = format!("touch {}", planted.display());
        let hostile = [
            format!(";{touch};#"),
            format!("$({touch})"),
            format!("`{touch}`"),
            format!("\"; {touch}; \""),
            format!("\\\"; {touch}; \""),
            format!("\n{touch}\n"),
            format!("x\\\n{touch}"),
            format!("'; {touch}; '"),
            format!("${{x:=$({touch})}}"),
            format!("\" & {touch} & \""),
        ];
        for shell in ["sh", "bash"] {
            for text in &hostile {
                let script = format!("7\t{}\t{}\n", Quoted("reason"), Quoted(text));
                Command::new(shell).args(["-c", &script]).current_dir(folder.path()).output().unwrap();
                assert!(!planted.exists(), "{shell}: {script}");
            }
        }
    }
}
