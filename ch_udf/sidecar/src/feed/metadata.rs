//! Metadata in the form in which ClickHouse's `JSON` type holds it.
//!
//! Tried on 26.7: an integer beyond 64 bits, a number beyond double precision, a document that is
//! nested too deeply, or two keys that make one path (`{"a.b": 1, "a": {"b": 2}}`) fail the whole
//! insert. Amounts in the smallest unit of a coin exceed 64 bits as a matter of course. Such a
//! document is carried as text, under the key `text`. If a server refuses a document for another
//! reason, the sink carries those of the whole chunk so.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::Value;

/// Nesting that ClickHouse reads; it refuses about 1,000 levels.
const MAX_DEPTH: usize = 128;

/// Returns the document, or an object that holds it as text.
pub(super) fn document(text: &str) -> Cow<'_, str> {
    if is_readable(text) { Cow::Borrowed(text) } else { Cow::Owned(as_text(text)) }
}

/// Returns an object that holds a document as text.
pub(super) fn as_text(document: &str) -> String {
    serde_json::json!({ "text": document }).to_string()
}

/// Returns whether ClickHouse reads a document that PostgreSQL has accepted.
fn is_readable(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut index, mut depth, mut has_dotted_key) = (0, 0_usize, false);
    while let Some(&byte) = bytes.get(index) {
        match byte {
            b'"' => {
                let end = end_of_string(bytes, index);
                let is_key = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                has_dotted_key |= is_key && bytes[index..end].contains(&b'.');
                index = end;
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let length = bytes[index..].iter().take_while(|byte| is_part(byte)).count();
                if !is_number(&text[index..index + length]) {
                    return false;
                }
                index += length;
                continue;
            }
            _ => {}
        }
        index += 1;
    }
    !has_dotted_key || has_distinct_paths(text)
}

/// Returns the index after the string that begins at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut index = start + 1;
    while let Some(&byte) = bytes.get(index) {
        match byte {
            b'"' => return index + 1,
            b'\\' => index += 2,
            _ => index += 1,
        }
    }
    bytes.len()
}

fn is_number(number: &str) -> bool {
    if number.contains(['.', 'e', 'E']) {
        number.parse::<f64>().is_ok_and(f64::is_finite)
    } else {
        number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok()
    }
}

fn has_distinct_paths(text: &str) -> bool {
    serde_json::from_str(text).is_ok_and(|document| are_paths_distinct(&document, None, &mut HashSet::new()))
}

/// Adds the paths of a value at `path`, which is absent for a whole document. Objects within arrays
/// have paths of their own.
fn are_paths_distinct(value: &Value, path: Option<&str>, paths: &mut HashSet<String>) -> bool {
    let mut is_new = || path.is_none_or(|path| paths.insert(path.to_owned()));
    match value {
        Value::Object(fields) => fields.iter().all(|(key, value)| {
            let path = path.map_or_else(|| key.clone(), |path| format!("{path}.{key}"));
            are_paths_distinct(value, Some(&path), paths)
        }),
        Value::Array(elements) => {
            is_new() && elements.iter().all(|element| are_paths_distinct(element, None, &mut HashSet::new()))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => is_new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_that_clickhouse_refuses_are_carried_as_text() {
        let deep = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        for text in [
            r#"{"wei": 1000000000000000000000000000000}"#,
            r#"{"a": 18446744073709551616}"#,
            r#"{"a": [{"b": -9223372036854775809}]}"#,
            r#"{"a.b": 1, "a": {"b": 2}}"#,
            r#"{"a": [{"x.y": 1, "x": {"y": []}}]}"#,
            r#"{"": {"a": 1}, ".a": 2}"#,
            r#"{"a.": 1, "a": {"": 2}}"#,
            &format!("{{\"a\": {}.5}}", "9".repeat(400)),
            &deep(MAX_DEPTH),
        ] {
            let carried: Value = serde_json::from_str(&document(text)).unwrap();
            assert_eq!(carried, serde_json::json!({ "text": text }));
        }
        for text in [
            "{}",
            r#"{"wei": "1000000000000000000000000000000", "a": "x\"{[1000000000000000000000000"}"#,
            r#"{"a": 18446744073709551615, "b": -9223372036854775808, "c": 0.1, "d": 1e300}"#,
            r#"{"a.b": 1, "a": {"c": 2}, "d": [1, 2, {"a.b": 1}, {"a": {"b": 1}}]}"#,
            r#"{"": 1, "a": "9.9.9.9", "b.c": [null, null]}"#,
            &deep(MAX_DEPTH - 1),
        ] {
            assert_eq!(document(text), text);
        }
    }
}
