//! Layout of the document: short objects and lists of numbers are on one line, so that a factor can
//! be read at a glance and a diff of two versions shows the change.

use std::fmt::Write as _;

/// Characters of the longest object, or list of lists, on one line.
const SHORT: usize = 110;

/// Formats JSON that has no white space between its tokens.
pub(super) fn format_document(compact: &str) -> String {
    let mut out = String::with_capacity(compact.len() * 5 / 4);
    value(&mut out, compact, 0);
    out.push('\n');
    out
}

fn value(out: &mut String, text: &str, depth: usize) {
    let nested = text.as_bytes().iter().skip(1).any(|b| matches!(b, b'{' | b'['));
    let is_numbers = text.starts_with('[') && !nested && !text.contains('"');
    let inner = match text.as_bytes() {
        [b'{' | b'[', .., b'}' | b']'] if depth == 0 || (text.len() > SHORT && !is_numbers) => {
            text.get(1..text.len() - 1)
        }
        _ => None,
    };
    let (Some(inner), Some(open), Some(close)) = (inner, text.get(..1), text.get(text.len() - 1..)) else {
        spaced(out, text);
        return;
    };
    out.push_str(open);
    for (number, member) in members(inner).into_iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(out, "{comma}\n{:indent$}", "", indent = 2 * (depth + 1));
        match (open, split_key(member)) {
            ("{", Some((key, content))) => {
                let _ = write!(out, "{key}: ");
                value(out, content, depth + 1);
            }
            _ => value(out, member, depth + 1),
        }
    }
    let _ = write!(out, "\n{:indent$}{close}", "", indent = 2 * depth);
}

/// Splits the members of one level at commas.
fn members(inner: &str) -> Vec<&str> {
    let mut members = Vec::new();
    let (mut start, mut level) = (0, 0_usize);
    for (at, byte) in outside_strings(inner) {
        match byte {
            b'{' | b'[' => level += 1,
            b'}' | b']' => level = level.saturating_sub(1),
            b',' if level == 0 => {
                members.extend(inner.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    members.extend(inner.get(start..).filter(|rest| !rest.is_empty()));
    members
}

/// Splits a member into its key, with quotes, and its value.
fn split_key(member: &str) -> Option<(&str, &str)> {
    let colon = outside_strings(member).find(|(_, byte)| *byte == b':')?.0;
    Some((member.get(..colon)?, member.get(colon + 1..)?))
}

/// Writes the text on one line, with spaces after commas and colons.
fn spaced(out: &mut String, text: &str) {
    let mut from = 0;
    for (at, byte) in outside_strings(text) {
        if let (b',' | b':', Some(part)) = (byte, text.get(from..=at)) {
            out.push_str(part);
            out.push(' ');
            from = at + 1;
        }
    }
    out.push_str(text.get(from..).unwrap_or_default());
}

/// Returns the bytes outside strings, with their indices.
fn outside_strings(text: &str) -> impl Iterator<Item = (usize, u8)> {
    let (mut in_string, mut escaped) = (false, false);
    text.bytes().enumerate().filter(move |(_, byte)| {
        let outside = !in_string && *byte != b'"';
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if *byte == b'"' {
            in_string = true;
        }
        outside
    })
}
