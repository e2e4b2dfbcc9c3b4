//! Records of a label list, whatever its format, and the names that lists use for their fields.

use std::borrow::Cow;
use std::fmt::Display;

/// A field of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Address,
    Network,
    /// Symbol of an asset, from which the network may follow.
    Currency,
    Category,
    Abuse,
    Label,
    Source,
    Severity,
    Confidence,
    ValidFrom,
    ValidTo,
}

/// Number of fields.
pub(super) const FIELDS: usize = 11;

/// Every field, in the order of their numbers.
pub(super) const ALL: [Field; FIELDS] = [
    Field::Address,
    Field::Network,
    Field::Currency,
    Field::Category,
    Field::Abuse,
    Field::Label,
    Field::Source,
    Field::Severity,
    Field::Confidence,
    Field::ValidFrom,
    Field::ValidTo,
];

/// Names of fields in public lists, folded to letters and digits in lower case. The earlier name
/// wins if a list has several.
const NAMES: [(Field, &[&str]); FIELDS] = [
    (
        Field::Address,
        &[
            "address",
            "addresses",
            "addr",
            "walletaddress",
            "wallet",
            "wallets",
            "accountaddress",
            "account",
            "cryptoaddress",
            "blockchainaddress",
            "publickey",
            "addresshash",
            "contractaddress",
            "digitalcurrencyaddress",
        ],
    ),
    (Field::Network, &["network", "chain", "blockchain", "networkname", "chainname", "chainid", "networkid", "caip2"]),
    (Field::Currency, &["currency", "asset", "coin", "ticker", "symbol", "cryptocurrency", "currencycode"]),
    (
        Field::Category,
        &[
            "category",
            "categories",
            "riskcategory",
            "labelcategory",
            "entitycategory",
            "concepts",
            "concept",
            "topics",
            "topic",
            "entitytype",
            "labeltype",
            "tagtype",
            "classification",
            "type",
        ],
    ),
    (Field::Abuse, &["abuse", "abuses", "abusetype", "threat", "threattype", "crime", "crimetype"]),
    (
        Field::Label,
        &[
            "label",
            "nametag",
            "name",
            "entityname",
            "entity",
            "title",
            "caption",
            "comment",
            "description",
            "owner",
            "holder",
            "labels",
            "tag",
            "tags",
            "remarks",
            "notes",
        ],
    ),
    (
        Field::Source,
        &["source", "sourcename", "list", "listname", "dataset", "datasets", "publisher", "provider", "sourceurl"],
    ),
    (Field::Severity, &["severity"]),
    (Field::Confidence, &["confidence", "confidencescore"]),
    (
        Field::ValidFrom,
        &[
            "validfrom",
            "listedat",
            "listedon",
            "listed",
            "designationdate",
            "effectivedate",
            "startdate",
            "since",
            "date",
            "dateadded",
            "addedat",
            "added",
            "firstseen",
            "createdat",
            "created",
        ],
    ),
    (
        Field::ValidTo,
        &[
            "validto",
            "delistedat",
            "delistedon",
            "delisted",
            "enddate",
            "until",
            "dateremoved",
            "removedat",
            "removed",
            "expires",
        ],
    ),
];

/// Names of a list's words about an address, which are categories if the list also names it.
const WORDS: [&str; 4] = ["labels", "label", "tags", "tag"];
const PROPER_NAMES: [&str; 6] = ["nametag", "name", "entityname", "entity", "title", "caption"];

impl Field {
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// The column of `arx.address_labels`, or the name in the documentation.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Network => "network",
            Self::Currency => "currency",
            Self::Category => "category",
            Self::Abuse => "abuse",
            Self::Label => "label",
            Self::Source => "source",
            Self::Severity => "severity",
            Self::Confidence => "confidence",
            Self::ValidFrom => "valid_from",
            Self::ValidTo => "valid_to",
        }
    }

    /// Returns the field with a name in SQL.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        ALL.into_iter().find(|field| field.name() == name)
    }
}

/// A column that the user states for a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatedColumn {
    pub(crate) field: Field,
    pub(crate) column: String,
}

/// Folds the name of a column: `Wallet Address` and `wallet_address` are one.
pub(super) fn fold_name(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The columns of a list by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) indexes: [Option<usize>; FIELDS],
    /// Columns that no field takes.
    pub(super) unused: Vec<usize>,
}

impl Columns {
    /// Assigns columns to fields by their names, those that the user states first.
    pub(super) fn assign<T: AsRef<str>>(names: &[T], stated: &[StatedColumn]) -> Self {
        let folded: Vec<String> = names.iter().map(|name| fold_name(name.as_ref())).collect();
        let mut indexes = [None; FIELDS];
        let mut taken = vec![false; names.len()];
        let mut take = |field: Field, index: usize, taken: &mut Vec<bool>| {
            if indexes[field.index()].is_none() && !taken[index] {
                indexes[field.index()] = Some(index);
                taken[index] = true;
            }
        };
        for StatedColumn { field, column } in stated {
            if let Some(index) = names.iter().position(|name| name.as_ref().trim() == column) {
                take(*field, index, &mut taken);
            }
        }
        let place = |name: &str| folded.iter().position(|folded| folded == name);
        let has_category = stated.iter().any(|stated| stated.field == Field::Category)
            || NAMES[Field::Category.index()].1.iter().any(|name| place(name).is_some());
        if !has_category
            && let Some(words) = WORDS.iter().find_map(|name| place(name))
            && (PROPER_NAMES.iter().any(|name| place(name).is_some()) || folded[words] == "labels")
        {
            take(Field::Category, words, &mut taken);
        }
        for (field, list) in NAMES {
            for name in list {
                if let Some(index) = place(name) {
                    take(field, index, &mut taken);
                }
            }
        }
        let unused = (0..names.len()).filter(|index| !taken[*index]).collect();
        Self { indexes, unused }
    }

    pub(super) const fn has(&self, field: Field) -> bool {
        self.indexes[field.index()].is_some()
    }
}

/// One record of a list.
pub(super) struct Record<'a> {
    /// Line, or element of a document, from 1.
    pub(super) number: u64,
    /// The record as the rejects file shows it.
    pub(super) text: &'a dyn Display,
    /// Values by field; empty ones are absent. Several words are separated by `|`.
    pub(super) values: [Option<Cow<'a, str>>; FIELDS],
    /// The list has a field for categories, even if this record leaves it empty.
    pub(super) has_category: bool,
}

impl<'a> Record<'a> {
    pub(super) fn new(number: u64, text: &'a dyn Display) -> Self {
        Self { number, text, values: Default::default(), has_category: false }
    }

    pub(super) fn get(&self, field: Field) -> Option<&str> {
        self.values[field.index()].as_deref()
    }

    /// Sets a value unless it is blank.
    pub(super) fn set(&mut self, field: Field, value: impl Into<Cow<'a, str>>) {
        let value = value.into();
        if field == Field::Category {
            self.has_category = true;
        }
        if !value.trim().is_empty() {
            self.values[field.index()] = Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(names: &[&str], stated: &[StatedColumn]) -> Vec<(&'static str, String)> {
        let columns = Columns::assign(names, stated);
        let fields = NAMES
            .iter()
            .filter_map(|(field, _)| Some((field.name(), names[columns.indexes[field.index()]?].to_owned())));
        fields.chain(columns.unused.iter().map(|index| ("-", names[*index].to_owned()))).collect()
    }

    #[test]
    fn columns_are_found_by_the_names_of_public_lists() {
        let found = assigned(&["Chain", "Wallet Address", "Risk Category", "Date Added", "Score"], &[]);
        let expected = [("address", "Wallet Address"), ("network", "Chain"), ("category", "Risk Category")];
        let rest = [("valid_from", "Date Added"), ("-", "Score")];
        let expected: Vec<_> = expected.into_iter().chain(rest).map(|(f, n)| (f, n.to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn words_are_categories_where_the_address_has_a_name_as_well() {
        let named = assigned(&["address", "label", "nameTag"], &[]);
        assert!(named.contains(&("category", "label".into())) && named.contains(&("label", "nameTag".into())));
        let plain = assigned(&["address", "label"], &[]);
        assert!(plain.contains(&("label", "label".into())), "{plain:?}");
        let both = assigned(&["address", "category", "label", "name"], &[]);
        assert!(both.contains(&("label", "label".into())) && both.contains(&("-", "name".into())), "{both:?}");
    }

    #[test]
    fn a_stated_column_goes_before_any_name() {
        let stated = [StatedColumn { field: Field::Category, column: "Comment".into() }];
        let found = assigned(&["address", "type", "Comment"], &stated);
        assert!(found.contains(&("category", "Comment".into())) && found.contains(&("-", "type".into())), "{found:?}");
    }
}
