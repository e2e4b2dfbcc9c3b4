//! Mapping of the words of a label list onto categories: the built-in ones, those that a user has
//! added, and the words that a user maps.

use std::collections::{HashMap, HashSet};

use super::words::{category_of_word, fold};
use super::{CATEGORIES, LabelError, LabelKind, SANCTIONS, Severity, UNKNOWN};

/// The categories of a database, and what words stand for them.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    /// Rank by category: of several categories for a label, the lowest rank wins.
    ranks: HashMap<String, Rank>,
    /// Category by folded word, for the user's own categories and mapped words.
    own: HashMap<String, String>,
}

/// Sanctions, then kind, severity, the order of [`CATEGORIES`], and the name.
type Rank = (bool, u8, std::cmp::Reverse<Severity>, usize, String);

/// The category of a label, and the words that decided nothing because no one knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classified {
    /// A category of the vocabulary; [`UNKNOWN`] if no word is known.
    pub category: String,
    /// The unknown words, as the list spells them.
    pub unknown: Vec<String>,
}

impl Vocabulary {
    /// Returns the vocabulary of a database with these rows of `arx.label_categories`. A word that
    /// folds like the name of a category stands for it.
    pub fn new<'a>(categories: impl IntoIterator<Item = (&'a str, LabelKind, Severity)>) -> Self {
        let mut vocabulary = Self::default();
        for (name, kind, severity) in categories {
            let built_in = CATEGORIES.iter().position(|category| category.name == name);
            let kind = match kind {
                LabelKind::Illicit => 0,
                LabelKind::Service => 1,
                LabelKind::Neutral => 2,
            };
            let place = built_in.unwrap_or(usize::MAX);
            let rank = (name != SANCTIONS, kind, std::cmp::Reverse(severity), place, name.to_owned());
            vocabulary.ranks.insert(name.to_owned(), rank);
            if built_in.is_none() {
                vocabulary.own.insert(fold(name), name.to_owned());
            }
        }
        vocabulary
    }

    /// Returns the vocabulary of a database without categories of its own.
    #[must_use]
    pub fn shipped() -> Self {
        Self::new(CATEGORIES.iter().map(|category| (category.name, category.kind, category.severity)))
    }

    /// Lets `word` stand for a category, whatever it stood for before.
    ///
    /// # Errors
    /// [`LabelError::UnknownCategory`], [`LabelError::EmptyWord`].
    pub fn map(&mut self, word: &str, category: &str) -> Result<(), LabelError> {
        let folded = fold(word);
        if folded.is_empty() {
            return Err(LabelError::EmptyWord { text: word.to_owned() });
        }
        let name = self.ranks.keys().find(|name| fold(name) == fold(category));
        let Some(name) = name.cloned() else {
            return Err(LabelError::UnknownCategory { text: category.to_owned() });
        };
        self.own.insert(folded, name);
        Ok(())
    }

    /// Returns the category of one word.
    #[must_use]
    pub fn category_of<'a>(&'a self, word: &str) -> Option<&'a str> {
        let own = self.own.get(&fold(word)).map(String::as_str);
        // A built-in category that the database lacks is unknown there.
        own.or_else(|| category_of_word(word).and_then(|name| self.ranks.get_key_value(name)).map(|(name, _)| &**name))
    }

    /// Returns the category of a label that a list describes by `category` and `abuse`. Either may
    /// be empty or hold several words, separated by `|`, `,` or `;`. Of all words that are known
    /// the most severe decides, in the order of `arx.current_labels`: an exchange that was used for
    /// a scam is labelled for the scam. An abuse that is unknown leaves a label without a known
    /// abuse [`UNKNOWN`], because the other words do not say how bad it is. If no word is known,
    /// the text of the label decides where it names a sanctions list or a darknet market.
    #[must_use]
    pub fn classify(&self, category: &str, abuse: &str, label: &str) -> Classified {
        let mut unknown = Vec::new();
        let mut best: Option<&Rank> = None;
        let mut is_doubtful = false;
        for (text, is_abuse) in [(abuse, true), (category, false)] {
            for word in self.split(text).filter(|word| !is_placeholder(word)) {
                match self.category_of(word).and_then(|name| self.ranks.get(name)) {
                    Some(rank) => best = Some(best.map_or(rank, |best| best.min(rank))),
                    None if fold(word) == fold(UNKNOWN) => {}
                    None => {
                        is_doubtful |= is_abuse;
                        unknown.push(word.to_owned());
                    }
                }
            }
        }
        let is_illicit = |rank: &&Rank| rank.1 == 0;
        let best = if is_doubtful { best.filter(is_illicit) } else { best };
        let category = match best {
            // `other` says nothing that a known name in the text does not say better.
            Some(rank) if rank.4 != "other" => &rank.4,
            found => {
                let by_text = by_label(category, label).filter(|name| self.ranks.contains_key(*name));
                by_text.unwrap_or_else(|| found.map_or(UNKNOWN, |rank| &rank.4))
            }
        };
        Classified { category: category.to_owned(), unknown }
    }

    /// Splits a text into its words. A word with a slash is several, unless it is known as a whole.
    fn split<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let words = text.split(['|', ',', ';']).map(str::trim).filter(|word| !word.is_empty());
        words.flat_map(|word| {
            let is_whole = !word.contains('/') || is_placeholder(word) || self.category_of(word).is_some();
            let parts = word.split(move |c| c == '/' && !is_whole);
            parts.map(str::trim).filter(|part| !part.is_empty())
        })
    }

    /// Returns the names of the categories.
    pub fn categories(&self) -> HashSet<&str> {
        self.ranks.keys().map(String::as_str).collect()
    }
}

/// Names of darknet markets in public lists, folded.
const DARKNET_MARKETS: [&str; 20] = [
    "hydramarket",
    "alphabaymarket",
    "nucleusmarket",
    "germanplazamarket",
    "greenroadmarket",
    "agoramarket",
    "silkroadmarket",
    "silkroad2market",
    "evolutionmarket",
    "abraxasmarket",
    "middleearthmarket",
    "sheepmarket",
    "blackbankmarket",
    "blueskymarket",
    "cannabisroadmarket",
    "babylonmarket",
    "pandoraopenmarket",
    "dreammarket",
    "hansamarket",
    "wallstreetmarket",
];

fn by_label(category: &str, label: &str) -> Option<&'static str> {
    let text: String = label.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    if text.contains("ofacsanction") || text.contains("ofacsdn") {
        return Some(SANCTIONS);
    }
    let is_market = category.split(['|', ',', ';']).any(|word| fold(word) == "market");
    (is_market && DARKNET_MARKETS.iter().any(|market| text.starts_with(market))).then_some("darknet_market")
}

/// Matches placeholders that lists use for the absence of a word.
fn is_placeholder(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    matches!(lower.as_str(), "none" | "no" | "false" | "0" | "null" | "nan" | "n/a" | "na" | "_" | "-" | "unknown")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn category(category: &str, abuse: &str) -> String {
        Vocabulary::shipped().classify(category, abuse, "").category
    }

    #[test]
    fn canonical_names_map_to_themselves_as_category_and_as_abuse() {
        for built_in in CATEGORIES {
            assert_eq!(category(built_in.name, ""), built_in.name);
            assert_eq!(category("", &built_in.name.to_uppercase().replace('_', "-")), built_in.name);
        }
    }

    #[test]
    fn the_most_severe_word_decides() {
        for (words, abuse, expected) in [
            ("", "sextortion", "sextortion"),
            ("", "service_hack", "hack"),
            ("sanctioned", "sanctions", "sanctions"),
            ("user", "sanction", "sanctions"),
            ("ofac-sdn", "scam", "sanctions"),
            ("service", "pyramid_scheme", "ponzi_scheme"),
            ("organization", "extremism", "extremism"),
            ("exchange", "scam", "scam"),
            ("exchange", "none", "exchange"),
            ("staking|yield-farming", "", "defi"),
            ("binance|blocked", "", "blocked"),
            ("donate|ofac-sanctions-lists|tornado-cash", "", "sanctions"),
            ("old-contract|huobi", "", "exchange"),
            ("other|exchange", "", "exchange"),
            ("hack/exchange", "", "hack"),
            ("Phish / Hack", "", "phishing"),
            ("market", "", "other"),
            ("unknown", "", UNKNOWN),
            ("", "", UNKNOWN),
        ] {
            assert_eq!(category(words, abuse), expected, "{words:?}, {abuse:?}");
        }
    }

    #[test]
    fn unknown_words_are_returned_and_give_no_standing() {
        let classified = |category, abuse| {
            let Classified { category, unknown } = Vocabulary::shipped().classify(category, abuse, "");
            (category, unknown.join("+"))
        };
        assert_eq!(classified("Frobnicated Thing", ""), (UNKNOWN.into(), "Frobnicated Thing".into()));
        assert_eq!(classified("exchange|quux", ""), ("exchange".into(), "quux".into()));
        assert_eq!(classified("exchange", "quux"), (UNKNOWN.into(), "quux".into()));
        assert_eq!(classified("scam", "quux"), ("scam".into(), "quux".into()));
        assert_eq!(classified("n/a", "-"), (UNKNOWN.into(), String::new()));
    }

    #[test]
    fn own_categories_and_mapped_words_are_folded_alike() {
        let own = [
            ("eu_watch_list", LabelKind::Illicit, Severity::High),
            ("vip_clients", LabelKind::Neutral, Severity::None),
        ];
        let built_in = CATEGORIES.iter().map(|c| (c.name, c.kind, c.severity));
        let mut vocabulary = Vocabulary::new(built_in.chain(own));
        for word in ["EU watch-list", "eu.watch.lists", "EuWatchList"] {
            assert_eq!(vocabulary.classify(word, "", "").category, "eu_watch_list", "{word}");
        }
        assert_eq!(vocabulary.classify("VIP client|exchange", "", "").category, "exchange");
        assert_eq!(vocabulary.classify("eu watch list|scam", "", "").category, "scam");
        vocabulary.map("Quux!", "Darknet-Market").unwrap();
        assert_eq!(vocabulary.classify("quux", "", "").category, "darknet_market");
        assert_eq!(vocabulary.map("a", "no such"), Err(LabelError::UnknownCategory { text: "no such".into() }));
        assert_eq!(vocabulary.map(" - ", "scam"), Err(LabelError::EmptyWord { text: " - ".into() }));
    }

    #[test]
    fn the_label_decides_where_the_words_do_not() {
        let vocabulary = Vocabulary::shipped();
        let by_text = |category: &str, label: &str| vocabulary.classify(category, "", label).category;
        assert_eq!(by_text("user", "Asset listed under US Treasury OFAC Sanctions List"), "sanctions");
        assert_eq!(by_text("market", "Hydra Market"), "darknet_market");
        assert_eq!(by_text("market", "SilkRoadMarketplace"), "darknet_market");
        assert_eq!(by_text("market", "APENFT (NFT)"), "other");
        assert_eq!(by_text("art", "Hydra Market"), "other");
        assert_eq!(by_text("exchange", "Hydra Market"), "exchange");
    }

    proptest! {
        #[test]
        fn any_words_map_to_a_category_of_the_vocabulary(category in "\\PC{0,40}", abuse in "\\PC{0,20}", label in "\\PC{0,40}") {
            let vocabulary = Vocabulary::shipped();
            let classified = vocabulary.classify(&category, &abuse, &label);
            prop_assert!(vocabulary.categories().contains(classified.category.as_str()));
        }

        #[test]
        fn folding_is_idempotent_in_meaning(word in "[A-Za-z0-9 ._/-]{0,30}") {
            prop_assert_eq!(Vocabulary::shipped().category_of(&word).is_some(), Vocabulary::shipped().category_of(&format!(" {word}. ")).is_some());
        }
    }
}
