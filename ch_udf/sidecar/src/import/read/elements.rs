//! Elements of JSON arrays, one after the other, as if each were a line: `[{…}, {…}]`, and the
//! answers of explorers, `{"status": "1", "result": [{…}, {…}]}`, also several of them in one file.
//! Finds their ends alone; parsing is up to the reader of each element.

use std::io::{self, BufRead};

/// Keys under which an answer has its array.
const ARRAY_KEYS: [&[u8]; 3] = [b"result", b"items", b"data"];

/// Longest key that is compared.
const KEY_BYTES: usize = 16;

/// State between elements.
#[derive(Debug, Default)]
pub(crate) struct ArrayScanner {
    /// Within an array whose elements are wanted.
    inside: bool,
    /// Depth outside of such an array.
    depth: u32,
    /// The last string at depth 1, which may be a key.
    key: Vec<u8>,
}

/// Returns true if the beginning of a source is an array or an object around one.
pub(crate) fn begins(start: &[u8]) -> bool {
    let mut start = start.trim_ascii_start();
    matches!(start.first(), Some(b'[' | b'{')) && ArrayScanner::default().enter(&mut start).unwrap_or(false)
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
            if !self.inside && !self.enter(content)? {
                return Ok(None);
            }
            match read_element(content, buffer, limit)? {
                Some(is_whole) => return Ok(Some(is_whole)),
                None => self.inside = false,
            }
        }
    }

    /// Advances into the next array; false at the end of the source.
    fn enter<R: BufRead>(&mut self, content: &mut R) -> io::Result<bool> {
        while let Some(byte) = next_byte(content)? {
            match byte {
                b'"' => {
                    self.key.clear();
                    skip_string(content, &mut self.key)?;
                }
                b'[' if self.depth == 0 || self.depth == 1 && ARRAY_KEYS.contains(&self.key.as_slice()) => {
                    self.inside = true;
                    return Ok(true);
                }
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        if self.depth > 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(false) }
    }
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

/// Skips the rest of a string and returns its beginning in `start`.
fn skip_string<R: BufRead>(content: &mut R, start: &mut Vec<u8>) -> io::Result<()> {
    let mut escaped = false;
    while let Some(byte) = next_byte(content)? {
        if !escaped && byte == b'"' {
            return Ok(());
        }
        escaped = !escaped && byte == b'\\';
        if start.len() < KEY_BYTES {
            start.push(byte);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
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
    fn an_array_without_end_is_an_error() {
        for text in ["[{\"a\": 1}", "[{\"a\": ", "{\"result\": [", "{\"result\": [1]"] {
            assert_eq!(elements(text).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{text}");
        }
    }

    #[test]
    fn lines_and_csv_are_no_arrays() {
        for text in ["{\"a\": [1]}\n{\"b\": 2}\n", "a,b\n[0],{\n", "", "{\"result\": \"busy\"}"] {
            assert!(!begins(text.as_bytes()), "{text}");
        }
        assert!(begins(b" \n[{}]") && begins(b"{\"message\": \"OK\", \"result\": [{"));
    }
}
