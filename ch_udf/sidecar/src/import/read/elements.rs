//! Elements of JSON arrays, one after the other, as if each were a line: `[{…}, {…}]`, and the
//! answers of explorers, `{"status": "1", "result": [{…}, {…}]}`, also several of them in one file.
//! Every other value between them is an element of its own, so that no row passes unseen. Finds
//! their ends alone; parsing is up to the reader of each element.

use std::io::{self, BufRead};

/// Keys under which an answer has its array.
const ARRAY_KEYS: [&[u8]; 3] = [b"result", b"items", b"data"];

/// Keys of rows, in lower case: an object with one of them before an array is not an answer.
const ROW_KEYS: [&[u8]; 9] = [
    b"hash",
    b"txhash",
    b"tx_hash",
    b"transactionhash",
    b"transaction_hash",
    b"from",
    b"from_address",
    b"address",
    b"type",
];

/// Longest key that is compared.
const KEY_BYTES: usize = 16;

/// State between elements.
#[derive(Debug, Default)]
pub(crate) struct ArrayScanner {
    /// Within an array whose elements are wanted.
    inside: bool,
    /// The array is within an answer, whose rest follows it.
    in_answer: bool,
}

/// A value outside of an array.
enum Outside {
    /// An array, or an answer up to its array, has begun.
    Array { in_answer: bool },
    /// A whole value, which is in the buffer: true if none of it was cut.
    Value(bool),
    /// An answer without rows.
    Nothing,
    /// The end of the source.
    End,
}

/// Returns true if the beginning of a source is an array or an answer with one.
pub(crate) fn begins(start: &[u8]) -> bool {
    let mut start = start.trim_ascii_start();
    matches!(start.first(), Some(b'[' | b'{'))
        && matches!(outside(&mut start, &mut Vec::new(), usize::MAX), Ok(Outside::Array { .. } | Outside::Nothing))
}

impl ArrayScanner {
    /// Reads the next element into `buffer`: true if it is whole, false if it is longer than
    /// `limit`, of which the first KiB is kept.
    ///
    /// # Errors
    /// Errors of the reader; [`io::ErrorKind::UnexpectedEof`] for an array without end.
    pub(crate) fn next<R: BufRead>(
        &mut self,
        content: &mut R,
        buffer: &mut Vec<u8>,
        limit: usize,
    ) -> io::Result<Option<bool>> {
        loop {
            if self.inside {
                match read_element(content, buffer, limit)? {
                    Some(is_whole) => return Ok(Some(is_whole)),
                    None => self.inside = false,
                }
            }
            if std::mem::take(&mut self.in_answer) {
                skip_answer(content)?;
            }
            match outside(content, buffer, limit)? {
                Outside::Array { in_answer } => {
                    buffer.clear();
                    (self.inside, self.in_answer) = (true, in_answer);
                }
                Outside::Value(is_whole) => return Ok(Some(is_whole)),
                Outside::Nothing => buffer.clear(),
                Outside::End => return Ok(None),
            }
        }
    }
}

/// Reads up to the beginning of an array, or a whole value of another kind.
fn outside<R: BufRead>(content: &mut R, buffer: &mut Vec<u8>, limit: usize) -> io::Result<Outside> {
    let first = loop {
        match next_byte(content)? {
            None => return Ok(Outside::End),
            Some(byte) if byte.is_ascii_whitespace() || byte == b',' => {}
            Some(byte) => break byte,
        }
    };
    match first {
        b'[' => return Ok(Outside::Array { in_answer: false }),
        b'{' => {}
        _ => {
            // Not JSON: the rest of the line.
            buffer.push(first);
            let mut is_whole = true;
            while let Some(byte) = next_byte(content)?.filter(|byte| *byte != b'\n') {
                push(buffer, byte, limit, &mut is_whole);
            }
            return Ok(Outside::Value(is_whole));
        }
    }
    buffer.push(first);
    let (mut depth, mut is_whole) = (1_u32, true);
    // The last string at depth 1, which may be a key, and what the object has shown so far.
    let mut key = Vec::new();
    let (mut is_row, mut has_empty_array) = (false, false);
    while let Some(byte) = next_byte(content)? {
        push(buffer, byte, limit, &mut is_whole);
        match byte {
            b'"' => {
                let mut text = Vec::new();
                read_string(content, buffer, limit, &mut is_whole, &mut text)?;
                if depth == 1 {
                    key = text;
                }
            }
            b':' if depth == 1 => is_row |= ROW_KEYS.contains(&key.to_ascii_lowercase().as_slice()),
            b'[' if depth == 1 && !is_row && ARRAY_KEYS.contains(&key.as_slice()) => {
                match peek_token(content, buffer, limit, &mut is_whole)? {
                    Some(b'{') => return Ok(Outside::Array { in_answer: true }),
                    Some(b']') => has_empty_array = true,
                    _ => {}
                }
                depth += 1;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Ok(if has_empty_array && !is_row { Outside::Nothing } else { Outside::Value(is_whole) });
                }
            }
            _ => {}
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Appends a byte of a value that counts as one line: between tokens a newline says nothing.
fn push(buffer: &mut Vec<u8>, byte: u8, limit: usize, is_whole: &mut bool) {
    buffer.push(if matches!(byte, b'\n' | b'\r') { b' ' } else { byte });
    if buffer.len() > limit {
        buffer.truncate(1024);
        *is_whole = false;
    }
}

/// Reads the rest of a string, and its beginning into `start`.
fn read_string<R: BufRead>(
    content: &mut R,
    buffer: &mut Vec<u8>,
    limit: usize,
    is_whole: &mut bool,
    start: &mut Vec<u8>,
) -> io::Result<()> {
    let mut escaped = false;
    while let Some(byte) = next_byte(content)? {
        push(buffer, byte, limit, is_whole);
        if !escaped && byte == b'"' {
            return Ok(());
        }
        escaped = !escaped && byte == b'\\';
        if start.len() <= KEY_BYTES {
            start.push(byte);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Returns the next byte that is not white space, and leaves it.
fn peek_token<R: BufRead>(
    content: &mut R,
    buffer: &mut Vec<u8>,
    limit: usize,
    is_whole: &mut bool,
) -> io::Result<Option<u8>> {
    loop {
        match content.fill_buf()?.first().copied() {
            Some(byte) if byte.is_ascii_whitespace() => {
                content.consume(1);
                push(buffer, byte, limit, is_whole);
            }
            byte => return Ok(byte),
        }
    }
}

/// Skips the rest of an answer after its array.
fn skip_answer<R: BufRead>(content: &mut R) -> io::Result<()> {
    let mut depth = 1_u32;
    let (mut ignored, mut is_whole) = (Vec::new(), true);
    while let Some(byte) = next_byte(content)? {
        ignored.clear();
        match byte {
            b'"' => read_string(content, &mut ignored, 2048, &mut is_whole, &mut Vec::new())?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Ok(());
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Reads one element; `None` at the end of the array.
fn read_element<R: BufRead>(content: &mut R, buffer: &mut Vec<u8>, limit: usize) -> io::Result<Option<bool>> {
    let mut depth = 0_u32;
    let (mut in_string, mut escaped, mut is_whole) = (false, false, true);
    loop {
        let available = content.fill_buf()?;
        if available.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut used = 0;
        let mut ended = None;
        for &byte in available {
            used += 1;
            if in_string {
                (in_string, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
            } else {
                match byte {
                    b'"' => in_string = true,
                    b'{' | b'[' => depth += 1,
                    b']' if depth == 0 => {
                        // After an element the bracket is left, as the end of the array.
                        used -= usize::from(!buffer.is_empty());
                        ended = Some(byte);
                        break;
                    }
                    b',' if depth == 0 => {
                        ended = Some(byte);
                        break;
                    }
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    byte if depth == 0 && byte.is_ascii_whitespace() => continue,
                    _ => {}
                }
            }
            // Between tokens a newline says nothing, and an element counts as one line.
            buffer.push(if matches!(byte, b'\n' | b'\r') { b' ' } else { byte });
            if buffer.len() > limit {
                buffer.truncate(1024);
                is_whole = false;
            }
        }
        content.consume(used);
        match ended {
            None => {}
            Some(_) if !buffer.is_empty() => return Ok(Some(is_whole)),
            Some(b']') => return Ok(None),
            Some(_) => {}
        }
    }
}

fn next_byte<R: BufRead>(content: &mut R) -> io::Result<Option<u8>> {
    let byte = content.fill_buf()?.first().copied();
    if byte.is_some() {
        content.consume(1);
    }
    Ok(byte)
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn elements(text: &str) -> io::Result<Vec<String>> {
        let mut all = Vec::new();
        // A buffer of one byte ends within every token.
        let mut content = BufReader::with_capacity(1, text.as_bytes());
        let mut scanner = ArrayScanner::default();
        loop {
            let mut buffer = Vec::new();
            match scanner.next(&mut content, &mut buffer, 40)? {
                None => return Ok(all),
                Some(is_whole) => all.push(format!("{is_whole} {}", String::from_utf8(buffer).unwrap().trim())),
            }
        }
    }

    #[test]
    fn elements_of_arrays_and_answers_are_lines() {
        let two = ["true {\"a\": \"],}\\\"\"}", "true {\"b\": [1, {}]}"];
        let array = "[ {\"a\": \"],}\\\"\"} ,\n{\"b\": [1, {}]}\n]\n";
        assert_eq!(elements(array).unwrap(), two);
        let answer = format!("{{\"status\": \"1\", \"more\": [7], \"result\": {array}, \"x\": {{}}}}\n");
        assert_eq!(elements(&answer).unwrap(), two);
        assert_eq!(elements(&answer.repeat(2)).unwrap(), [two, two].concat());
        assert_eq!(elements("[]").unwrap(), [""; 0]);
        assert_eq!(elements("[1, 2]").unwrap(), ["true 1", "true 2"]);
        assert!(elements(&format!("[{{\"a\": \"{}\"}}]", "x".repeat(90))).unwrap()[0].starts_with("false"));
    }

    #[test]
    fn values_between_arrays_are_lines_and_none_is_passed_over() {
        let all = elements(
            "[{\"a\": 1}]\n{\"a\": 2}\n{\"hash\": 3, \"data\": []} {\"status\": 0, \"result\": \"busy\"}\n\
             {\"status\": 0, \"result\": [ ]} {\"result\": [ {\"a\": 4}], \"x\": \"]}\"}\nno JSON, [1]\n[{\"a\": 5}]",
        );
        let expected = [
            "true {\"a\": 1}",
            "true {\"a\": 2}",
            "true {\"hash\": 3, \"data\": []}",
            "true {\"status\": 0, \"result\": \"busy\"}",
            "true {\"a\": 4}",
            "true no JSON, [1]",
            "true {\"a\": 5}",
        ];
        assert_eq!(all.unwrap(), expected);
    }

    #[test]
    fn an_array_without_end_is_an_error() {
        for text in ["[{\"a\": 1}", "[{\"a\": ", "{\"result\": [", "{\"result\": [1]"] {
            assert_eq!(elements(text).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{text}");
        }
    }

    #[test]
    fn lines_and_csv_are_no_arrays() {
        for text in [
            "{\"a\": [1]}\n{\"b\": 2}\n",
            "a,b\n[0],{\n",
            "",
            "{\"result\": \"busy\"}",
            "{\"hash\": 1}\n[{}]",
            "{\"hash\": 1, \"data\": []}\n",
            "{\"data\": [], \"hash\": 1}\n",
            "{\"data\": [1]}\n{\"hash\": 1, \"data\": []}\n",
        ] {
            assert!(!begins(text.as_bytes()), "{text}");
        }
        assert!(begins(b" \n[{}]") && begins(b"{\"message\": \"OK\", \"result\": [{"));
    }
}
