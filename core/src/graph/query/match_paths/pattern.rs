//! Patterns of paths: kinds of labels in sequence, as text.
//!
//! ```text
//! pattern    = element { "->" element }
//! element    = kinds [ "{" count [ "," count ] "}" ]
//! kinds      = name { "|" name }
//! ```
//!
//! An element stands for wallets along the path, one after the other, each of one of its kinds. A
//! name is `any`, `unlabelled`, a kind of label or a category; case and spaces do not matter.

use thiserror::Error;

/// Maximum length of a pattern in bytes.
const MAX_LENGTH: usize = 1_000;

/// Maximum number of wallets that an element stands for.
const MAX_REPEAT: u32 = 16;

/// Maximum number of transfers along a path.
pub const MAX_HOPS: u32 = 32;

/// Bytes of the pattern that an error quotes.
const QUOTED: usize = 20;

/// An invalid pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathPatternError {
    /// The text is too long to be read.
    #[error("pattern must have at most {max} bytes, not {length}", max = MAX_LENGTH)]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// The text does not have the form of a pattern.
    #[error("pattern has a fault at character {position}: {expected} expected, {found} found")]
    Syntax {
        /// Position of the fault in characters, from 1.
        position: usize,
        /// Valid text there.
        expected: &'static str,
        /// The text there.
        found: String,
    },
    /// The name is neither a kind nor a category.
    #[error("pattern has a fault at character {position}: \"{name}\" is neither a kind of label nor a category")]
    Name {
        /// Position of the name in characters, from 1.
        position: usize,
        /// The name.
        name: String,
        /// All valid names.
        valid: String,
    },
    /// The number of wallets is out of range.
    #[error("pattern has a fault at character {position}: a number from 1 to {max} expected, {found} found", max = MAX_REPEAT)]
    Count {
        /// Position of the number in characters, from 1.
        position: usize,
        /// The text there.
        found: String,
    },
    /// The range is empty.
    #[error("pattern has a fault at character {position}: {{{least},{most}}} is an empty range")]
    Range {
        /// Position of the range in characters, from 1.
        position: usize,
        /// Its lower end.
        least: u32,
        /// Its upper end.
        most: u32,
    },
    /// A path has a transfer at least.
    #[error("pattern must have at least two wallets: one element is a wallet and no path")]
    NoHop,
    /// The paths are too long.
    #[error("pattern allows paths of {hops} transfers; the maximum is {max}", max = MAX_HOPS)]
    Hops {
        /// Largest number of transfers.
        hops: u32,
    },
}

/// Wallets of one element of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathElement {
    /// Numbers of the names of which a wallet has one.
    pub names: Vec<usize>,
    /// Minimum number of consecutive wallets.
    pub least: u32,
    /// Maximum number of consecutive wallets.
    pub most: u32,
}

/// A checked pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    elements: Vec<PathElement>,
}

/// A wallet of a path: the number of its element, and its place among those of the element, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub element: usize,
    count: u32,
}

impl PathPattern {
    /// Parses a pattern. A kind is named by its number in `names`.
    ///
    /// # Errors
    /// [`PathPatternError`], with the position of the fault.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, PathPatternError> {
        if text.len() > MAX_LENGTH {
            return Err(PathPatternError::Length { length: text.len() });
        }
        let mut reader = Reader { text, position: 0 };
        let mut elements = vec![reader.element(names)?];
        while !reader.rest().is_empty() {
            if !reader.accepts("->") {
                return Err(reader.fault("-> or the end"));
            }
            elements.push(reader.element(names)?);
        }
        let hops = elements.iter().map(|element| element.most).sum::<u32>() - 1;
        if hops == 0 {
            return Err(PathPatternError::NoHop);
        }
        if hops > MAX_HOPS {
            return Err(PathPatternError::Hops { hops });
        }
        Ok(Self { elements })
    }

    /// Returns the elements, the first wallet's first.
    #[must_use]
    pub fn elements(&self) -> &[PathElement] {
        &self.elements
    }

    /// Returns the states in an order in which each comes after those that lead to it.
    pub(super) fn states(&self) -> Vec<State> {
        let of_element = |(element, repeated): (usize, &PathElement)| {
            (1..=repeated.most).map(move |count| State { element, count }).collect::<Vec<State>>()
        };
        self.elements.iter().enumerate().flat_map(of_element).collect()
    }

    /// Reports whether a wallet in one state may send to one in another.
    pub(super) fn leads(&self, from: State, to: State) -> bool {
        let is_done = self.elements.get(from.element).is_some_and(|element| from.count >= element.least);
        let is_next = to.element == from.element + 1 && to.count == 1 && is_done;
        is_next || (to.element == from.element && to.count == from.count + 1)
    }

    /// Reports whether a path may end with a wallet in a state.
    pub(super) fn may_end(&self, state: State) -> bool {
        state.element + 1 == self.elements.len()
            && self.elements.get(state.element).is_some_and(|element| state.count >= element.least)
    }
}

/// The rest of a pattern.
struct Reader<'t> {
    text: &'t str,
    position: usize,
}

impl<'t> Reader<'t> {
    /// Returns the rest without leading spaces.
    fn rest(&mut self) -> &'t str {
        let rest = self.text.get(self.position..).unwrap_or_default();
        let trimmed = rest.trim_start();
        self.position += rest.len() - trimmed.len();
        trimmed
    }

    fn accepts(&mut self, token: &str) -> bool {
        let accepted = self.rest().starts_with(token);
        self.position += if accepted { token.len() } else { 0 };
        accepted
    }

    /// Returns the longest beginning of the rest whose characters are wanted.
    fn word(&mut self, is_wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|letter| !is_wanted(letter)).unwrap_or(rest.len());
        self.position += end;
        rest.get(..end).unwrap_or_default()
    }

    /// Returns the position in characters, from 1, of a position in bytes.
    fn characters(&self, position: usize) -> usize {
        1 + self.text.get(..position).unwrap_or_default().chars().count()
    }

    fn found(&mut self) -> String {
        let mut found: String = self.rest().chars().take(QUOTED).collect();
        if found.is_empty() {
            return "the end".to_owned();
        }
        if found.len() < self.rest().len() {
            found.push('…');
        }
        format!("\"{found}\"")
    }

    fn fault(&mut self, expected: &'static str) -> PathPatternError {
        let found = self.found();
        PathPatternError::Syntax { position: self.characters(self.position), expected, found }
    }

    fn element(&mut self, names: &[&str]) -> Result<PathElement, PathPatternError> {
        let mut element = PathElement { names: vec![self.name(names)?], least: 1, most: 1 };
        while self.accepts("|") {
            element.names.push(self.name(names)?);
        }
        self.rest();
        let start = self.position;
        if self.accepts("{") {
            element.least = self.count()?;
            element.most = if self.accepts(",") { self.count()? } else { element.least };
            if !self.accepts("}") {
                return Err(self.fault("} or , and a number"));
            }
            let PathElement { least, most, .. } = element;
            if least > most {
                return Err(PathPatternError::Range { position: self.characters(start), least, most });
            }
        }
        Ok(element)
    }

    fn name(&mut self, names: &[&str]) -> Result<usize, PathPatternError> {
        self.rest();
        let start = self.position;
        let name = self.word(|letter| letter.is_alphanumeric() || letter == '_');
        if name.is_empty() {
            return Err(self.fault("a kind of label"));
        }
        names.iter().position(|valid| valid.eq_ignore_ascii_case(name)).ok_or_else(|| PathPatternError::Name {
            position: self.characters(start),
            name: name.chars().take(2 * QUOTED).collect(),
            valid: names.join(", "),
        })
    }

    fn count(&mut self) -> Result<u32, PathPatternError> {
        let found = self.found();
        let start = self.position;
        let digits = self.word(|letter| letter.is_ascii_digit());
        let count = digits.parse().ok().filter(|count| (1..=MAX_REPEAT).contains(count));
        count.ok_or_else(|| PathPatternError::Count { position: self.characters(start), found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 5] = ["any", "unlabelled", "illicit", "exchange", "wallet_service"];

    fn parse(text: &str) -> Result<Vec<(Vec<usize>, u32, u32)>, String> {
        let element = |element: &PathElement| (element.names.clone(), element.least, element.most);
        let parsed = PathPattern::parse(text, &NAMES);
        parsed.map(|pattern| pattern.elements.iter().map(element).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn patterns_are_parsed() {
        let plain = [(vec![2], 1, 1), (vec![1], 1, 4), (vec![3], 1, 1)].to_vec();
        assert_eq!(parse("illicit -> unlabelled{1,4} -> exchange"), Ok(plain.clone()));
        assert_eq!(parse(" Illicit->UNLABELLED { 1 , 4 }\n->exchange "), Ok(plain));
        assert_eq!(parse("any{3}"), Ok(vec![(vec![0], 3, 3)]));
        assert_eq!(parse("wallet_service|exchange -> any"), Ok(vec![(vec![4, 3], 1, 1), (vec![0], 1, 1)]));
    }

    #[test]
    fn faults_are_reported_with_their_position() {
        let fault = |text: &str| parse(text).unwrap_err().replace("pattern has a fault at character ", "");
        assert_eq!(fault(""), "1: a kind of label expected, the end found");
        assert_eq!(fault("illicit ->"), "11: a kind of label expected, the end found");
        assert_eq!(fault("illicit > any"), "9: -> or the end expected, \"> any\" found");
        assert_eq!(fault("illicit -> -> any"), "12: a kind of label expected, \"-> any\" found");
        assert_eq!(fault("illicit -> any{4,1}"), "15: {4,1} is an empty range");
        assert_eq!(fault("illicit -> any{0}"), "16: a number from 1 to 16 expected, \"0}\" found");
        assert_eq!(fault("illicit -> any{17}"), "16: a number from 1 to 16 expected, \"17}\" found");
        assert_eq!(fault("illicit -> any{-1}"), "16: a number from 1 to 16 expected, \"-1}\" found");
        assert_eq!(
            fault("any{99999999999999999999}"),
            "5: a number from 1 to 16 expected, \"99999999999999999999…\" found"
        );
        assert_eq!(fault("illicit -> any{1,{2}}"), "18: a number from 1 to 16 expected, \"{2}}\" found");
        assert_eq!(fault("illicit -> any{1,2"), "19: } or , and a number expected, the end found");
        assert_eq!(fault("illicit -> (any)"), "12: a kind of label expected, \"(any)\" found");
        assert_eq!(fault("ärger -> any"), "1: \"ärger\" is neither a kind of label nor a category");
        assert_eq!(fault("any -> ä"), "8: \"ä\" is neither a kind of label nor a category");
        assert!(fault("any").starts_with("pattern must have at least two wallets"));
        assert!(fault("any{16} -> any{16} -> any{16}").contains("paths of 47 transfers"));
        assert_eq!(fault(&"any -> ".repeat(200_000)), "pattern must have at most 1000 bytes, not 1400000");
    }

    #[test]
    fn states_follow_each_other_as_often_as_the_pattern_allows() {
        let pattern = PathPattern::parse("illicit -> any{2,3} -> exchange", &NAMES).unwrap();
        let states = pattern.states();
        let leads = |from: usize| -> Vec<usize> {
            (0..states.len()).filter(|to| pattern.leads(states[from], states[*to])).collect()
        };
        assert_eq!([leads(0), leads(1), leads(2), leads(3), leads(4)], [vec![1], vec![2], vec![3, 4], vec![4], vec![]]);
        assert_eq!(
            states.iter().map(|state| pattern.may_end(*state)).collect::<Vec<_>>(),
            [false, false, false, false, true]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_an_error(text in "([a-z{},|> -]|->|any|\\PC){0,40}") {
            if let Ok(elements) = parse(&text) {
                prop_assert!(elements.iter().all(|(names, least, most)| !names.is_empty() && 1 <= *least && least <= most));
            }
        }
    }
}
