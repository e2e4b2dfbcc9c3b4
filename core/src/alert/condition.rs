//! Conditions of wallet alert rules: a small tree in JSON over named facts of a transfer.
//!
//! Owns the language: parsing with the position of an error, types, limits, and the translation
//! into an SQL expression. Values of a condition never become SQL text: the expression names facts
//! of the catalogue, and refers to values by their number in two arrays.
//!
//! ```text
//! {"all": [C, …]}   every condition holds          {"any": [C, …]}   one of them holds
//! {"not": C}        the condition does not hold
//! {"fact": F, "op": O, "value": V}
//!     O: = <> < <= > >= in, between (V is [low, high]), known, unknown (without V)
//! {"fact": F, "op": O, "than": F2, "times": N}     compares with another fact, N is 1 if missing
//! ```
//!
//! A fact that is unknown makes a comparison unknown, as NULL does in SQL, and a rule fires only if
//! its condition holds for certain.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Number, Value};
use thiserror::Error;

/// Levels of `all`, `any` and `not`.
pub const MAX_DEPTH: usize = 32;

/// Comparisons in one condition.
pub const MAX_COMPARISONS: usize = 500;

/// Values in one list.
pub const MAX_VALUES: usize = 1000;

/// Type of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactType {
    /// A number.
    Number,
    /// A text.
    Text,
    /// True or false.
    Boolean,
}

impl FactType {
    /// `number`, `text` or `boolean`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Text => "text",
            Self::Boolean => "boolean",
        }
    }
}

/// Effort that a fact needs. Facts of a group are gathered only if a rule uses one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FactGroup {
    /// The transfer itself.
    Transfer,
    /// Labels of both wallets.
    Labels,
    /// Risk scores of both wallets.
    Scores,
    /// Watchlists.
    Watchlists,
    /// Sums and counts over periods before the transfer.
    Windows,
    /// The time since the wallet was last active.
    Idle,
    /// Earlier transfers with the counterparty.
    Counterparty,
    /// Exposure of the wallet.
    Exposure,
    /// Laundering patterns.
    Patterns,
}

impl FactGroup {
    /// Name in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Labels => "labels",
            Self::Scores => "scores",
            Self::Watchlists => "watchlists",
            Self::Windows => "windows",
            Self::Idle => "idle",
            Self::Counterparty => "counterparty",
            Self::Exposure => "exposure",
            Self::Patterns => "patterns",
        }
    }
}

/// A fact that conditions may name; the name is also its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: FactType,
    /// Effort.
    pub group: FactGroup,
    /// Meaning.
    pub description: &'static str,
}

const fn fact(name: &'static str, kind: FactType, group: FactGroup, description: &'static str) -> Fact {
    Fact { name, kind, group, description }
}

/// All facts. `wallet` is the side of a transfer that a rule judges, and `counterparty` the other.
pub const FACTS: [Fact; 31] = {
    use FactGroup::{Counterparty, Exposure, Idle, Labels, Patterns, Scores, Transfer, Watchlists, Windows};
    use FactType::{Boolean, Number, Text};
    [
        fact("network", Text, Transfer, "network of the transfer"),
        fact("asset", Text, Transfer, "native, or the address of the token"),
        fact("direction", Text, Transfer, "out if the wallet sends, in if it receives"),
        fact("relation", Text, Transfer, "transactions, internal_transfers or token_transfers"),
        fact("amount", Number, Transfer, "amount in coins, or in raw units of the token"),
        fact("amount_usd", Number, Transfer, "value in US dollars, unknown without a price"),
        fact("wallet_category", Text, Labels, "category of the label that weighs most"),
        fact("wallet_kind", Text, Labels, "its kind: illicit, service or neutral"),
        fact("counterparty_category", Text, Labels, "category of the counterparty's label that weighs most"),
        fact("counterparty_kind", Text, Labels, "its kind"),
        fact("wallet_score", Number, Scores, "risk score of wallet_profiles"),
        fact("counterparty_score", Number, Scores, "risk score of the counterparty"),
        fact(
            "score_change_7d",
            Number,
            Scores,
            "change of the wallet's score within the week before the transfer was judged",
        ),
        fact("wallet_watched", Boolean, Watchlists, "the wallet is a member of a watchlist"),
        fact("counterparty_watched", Boolean, Watchlists, "the counterparty is a member of a watchlist"),
        fact("count_1h", Number, Windows, "transfers of the wallet in this direction within an hour, with this one"),
        fact("count_24h", Number, Windows, "the same within a day"),
        fact("count_7d", Number, Windows, "the same within a week"),
        fact("sum_24h", Number, Windows, "their amount in this asset within a day"),
        fact("sum_usd_1h", Number, Windows, "their value in US dollars within an hour"),
        fact("sum_usd_24h", Number, Windows, "the same within a day"),
        fact("sum_usd_7d", Number, Windows, "the same within a week"),
        fact(
            "below_10000_usd_24h",
            Number,
            Windows,
            "how many of them within a day were worth 8,000 to 10,000 dollars",
        ),
        fact("days_idle", Number, Idle, "days since the wallet was active before, unknown for the first time"),
        fact("is_new_counterparty", Boolean, Counterparty, "the wallet had no transfer with the counterparty before"),
        fact("sanctions_in", Number, Exposure, "coins received that came from sanctioned wallets"),
        fact("sanctions_out", Number, Exposure, "coins sent that went to sanctioned wallets"),
        fact("illicit_share_in", Number, Exposure, "share of received funds that came from illicit wallets, 0 to 1"),
        fact("illicit_share_out", Number, Exposure, "share of sent funds that went to illicit wallets, 0 to 1"),
        fact("patterns", Number, Patterns, "findings of pattern_findings that involve the wallet"),
        fact("pattern_strength", Number, Patterns, "strength of the strongest of them"),
    ]
};

/// Returns a fact by its name.
#[must_use]
pub fn fact_named(name: &str) -> Option<&'static Fact> {
    FACTS.iter().find(|fact| fact.name == name)
}

/// A position in the document, such as `condition.all[1].value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(String);

impl Position {
    fn key(&self, key: &str) -> Self {
        Self(format!("{}.{key}", self.0))
    }

    fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A condition that cannot be used, with the position of the fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{position}: {problem}")]
pub struct ConditionError {
    /// The place in the document.
    pub position: Position,
    /// The fault.
    pub problem: String,
    /// A way out, if there is one.
    pub advice: Option<String>,
}

fn fault<T>(position: &Position, problem: impl Into<String>, advice: Option<String>) -> Result<T, ConditionError> {
    Err(ConditionError { position: position.clone(), problem: problem.into(), advice })
}

/// Comparison of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    const ALL: [Self; 6] =
        [Self::Equal, Self::NotEqual, Self::Less, Self::LessOrEqual, Self::Greater, Self::GreaterOrEqual];

    pub(super) const fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    const fn orders(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// A value of a condition. A number is kept as its decimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Literal {
    Number(String),
    Text(String),
    Boolean(bool),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    Compare(Operator, Literal),
    CompareFact(Operator, &'static Fact, String),
    In(Vec<Literal>),
    Between(Literal, Literal),
    Known,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test(&'static Fact, Test),
}

/// A condition that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub(super) root: Node,
}

/// A condition as an SQL expression over the columns of an alias.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SqlCondition {
    /// The expression. It refers to numbers as `($1)[i]` and to texts as `($2)[i]`.
    pub expression: String,
    /// Numbers, as their digits.
    pub numbers: Vec<String>,
    /// Texts.
    pub texts: Vec<String>,
}

impl Condition {
    /// Parses and checks a document. Errors name their position, beginning with `root`.
    ///
    /// # Errors
    /// [`ConditionError`] for the first fault.
    pub fn parse(document: &Value, root: &str) -> Result<Self, ConditionError> {
        let mut comparisons = 0;
        let root = parse_node(document, &Position(root.to_owned()), 0, &mut comparisons)?;
        Ok(Self { root })
    }

    pub(super) const fn root(&self) -> &Node {
        &self.root
    }

    /// Returns the facts that the condition names.
    #[must_use]
    pub fn facts(&self) -> BTreeSet<&'static str> {
        let mut facts = BTreeSet::new();
        self.root.collect(&mut |fact| {
            facts.insert(fact.name);
        });
        facts
    }

    /// Returns the groups of these facts.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<FactGroup> {
        let mut groups = BTreeSet::new();
        self.root.collect(&mut |fact| {
            groups.insert(fact.group);
        });
        groups
    }

    /// Translates the condition, for columns of the alias `alias`. Values are numbered after those
    /// that `first_number` and `first_text` other conditions have.
    #[must_use]
    pub fn to_sql(&self, alias: &str, first_number: usize, first_text: usize) -> SqlCondition {
        let mut sql = SqlWriter { alias, first_number, first_text, condition: SqlCondition::default() };
        sql.node(&self.root);
        sql.condition
    }
}

fn parse_node(
    document: &Value,
    position: &Position,
    depth: usize,
    comparisons: &mut usize,
) -> Result<Node, ConditionError> {
    if depth > MAX_DEPTH {
        return fault(position, format!("conditions are nested deeper than {MAX_DEPTH} levels"), None);
    }
    let Value::Object(members) = document else {
        let advice =
            "A condition is {\"all\": […]}, {\"any\": […]}, {\"not\": …} or {\"fact\": …, \"op\": …, \"value\": …}.";
        return fault(
            position,
            format!("a condition must be an object, not {}", name_of(document)),
            Some(advice.into()),
        );
    };
    let kinds = ["all", "any", "not", "fact"];
    let kind = kinds.iter().filter(|kind| members.contains_key(**kind)).collect::<Vec<_>>();
    let [kind] = kind.as_slice() else {
        return fault(position, "a condition must have exactly one of the keys all, any, not and fact", None);
    };
    if **kind == "fact" {
        *comparisons += 1;
        if *comparisons > MAX_COMPARISONS {
            return fault(position, format!("a condition has at most {MAX_COMPARISONS} comparisons"), None);
        }
        return parse_test(members, position);
    }
    if let Some(other) = members.keys().find(|key| key != *kind) {
        return fault(&position.key(other), "this key is not known here", None);
    }
    let value = &members[**kind];
    let inner = position.key(kind);
    if **kind == "not" {
        return Ok(Node::Not(Box::new(parse_node(value, &inner, depth + 1, comparisons)?)));
    }
    let Value::Array(parts) = value else {
        return fault(&inner, format!("a list of conditions is needed, not {}", name_of(value)), None);
    };
    if parts.is_empty() {
        return fault(&inner, "the list of conditions must not be empty", None);
    }
    let parts = parts
        .iter()
        .enumerate()
        .map(|(index, part)| parse_node(part, &inner.index(index), depth + 1, comparisons))
        .collect::<Result<Vec<Node>, ConditionError>>()?;
    Ok(if **kind == "all" { Node::All(parts) } else { Node::Any(parts) })
}

fn parse_test(members: &Map<String, Value>, position: &Position) -> Result<Node, ConditionError> {
    let known = ["fact", "op", "value", "than", "times"];
    if let Some(other) = members.keys().find(|key| !known.contains(&key.as_str())) {
        return fault(&position.key(other), "this key is not known here", None);
    }
    let fact = parse_fact(&members["fact"], &position.key("fact"))?;
    let at_op = position.key("op");
    let op = match members.get("op") {
        Some(Value::String(op)) => op.as_str(),
        Some(other) => return fault(&at_op, format!("op must be a text, not {}", name_of(other)), None),
        None => return fault(&at_op, "op is missing", None),
    };
    let at_value = position.key("value");
    let value = members.get("value");
    if matches!(op, "known" | "unknown") {
        if let Some(extra) = ["value", "than", "times"].into_iter().find(|key| members.contains_key(*key)) {
            return fault(&position.key(extra), format!("op {op} takes no value"), None);
        }
        return Ok(Node::Test(fact, if op == "known" { Test::Known } else { Test::Unknown }));
    }
    if let Some(than) = members.get("than") {
        return parse_comparison_with_fact(fact, op, than, members, position);
    }
    if members.contains_key("times") {
        return fault(&position.key("times"), "times needs the key than", None);
    }
    let Some(value) = value else { return fault(&at_value, "value is missing", None) };
    let test = match op {
        "in" => {
            let Value::Array(items) = value else {
                return fault(&at_value, format!("op in needs a list, not {}", name_of(value)), None);
            };
            if items.is_empty() || items.len() > MAX_VALUES {
                return fault(
                    &at_value,
                    format!("the list has {} values; 1 to {MAX_VALUES} are allowed", items.len()),
                    None,
                );
            }
            let items = items.iter().enumerate().map(|(index, item)| literal(fact, item, &at_value.index(index)));
            Test::In(items.collect::<Result<Vec<Literal>, ConditionError>>()?)
        }
        "between" => {
            require_number(fact, op, &at_op)?;
            match value.as_array().map(Vec::as_slice) {
                Some([low, high]) => {
                    Test::Between(literal(fact, low, &at_value.index(0))?, literal(fact, high, &at_value.index(1))?)
                }
                _ => return fault(&at_value, "op between needs a list of two numbers", None),
            }
        }
        _ => Test::Compare(parse_operator(fact, op, &at_op)?, literal(fact, value, &at_value)?),
    };
    Ok(Node::Test(fact, test))
}

fn parse_comparison_with_fact(
    fact: &'static Fact,
    op: &str,
    than: &Value,
    members: &Map<String, Value>,
    position: &Position,
) -> Result<Node, ConditionError> {
    if members.contains_key("value") {
        return fault(&position.key("value"), "a comparison has a value or the key than, not both", None);
    }
    let other = parse_fact(than, &position.key("than"))?;
    if other.kind != fact.kind {
        let problem =
            format!("fact {} is a {}, and {} is a {}", fact.name, fact.kind.as_str(), other.name, other.kind.as_str());
        return fault(&position.key("than"), problem, None);
    }
    let operator = parse_operator(fact, op, &position.key("op"))?;
    let at_times = position.key("times");
    let times = match members.get("times") {
        None => "1".to_owned(),
        Some(_) if fact.kind != FactType::Number => return fault(&at_times, "times is for numbers", None),
        Some(Value::Number(number)) => digits(number),
        Some(other) => return fault(&at_times, format!("times must be a number, not {}", name_of(other)), None),
    };
    Ok(Node::Test(fact, Test::CompareFact(operator, other, times)))
}

fn parse_fact(value: &Value, position: &Position) -> Result<&'static Fact, ConditionError> {
    let Value::String(name) = value else {
        return fault(position, format!("the name of a fact must be a text, not {}", name_of(value)), None);
    };
    match fact_named(name) {
        Some(fact) => Ok(fact),
        None => {
            let advice = "SELECT * FROM arx.alert_facts() lists the facts.".to_owned();
            fault(position, format!("fact \"{name}\" does not exist"), Some(advice))
        }
    }
}

fn parse_operator(fact: &Fact, op: &str, position: &Position) -> Result<Operator, ConditionError> {
    let Some(operator) = Operator::ALL.into_iter().find(|operator| operator.sql() == op) else {
        let advice = "Operators are =, <>, <, <=, >, >=, in, between, known and unknown.".to_owned();
        return fault(position, format!("op \"{op}\" does not exist"), Some(advice));
    };
    if operator.orders() {
        require_number(fact, op, position)?;
    }
    Ok(operator)
}

fn require_number(fact: &Fact, op: &str, position: &Position) -> Result<(), ConditionError> {
    if fact.kind == FactType::Number {
        return Ok(());
    }
    fault(position, format!("op {op} is for numbers, and fact {} is a {}", fact.name, fact.kind.as_str()), None)
}

fn literal(fact: &Fact, value: &Value, position: &Position) -> Result<Literal, ConditionError> {
    match (fact.kind, value) {
        (FactType::Number, Value::Number(number)) => Ok(Literal::Number(digits(number))),
        // For amounts that a number of JSON would round.
        (FactType::Number, Value::String(text)) if is_decimal(text) => Ok(Literal::Number(text.clone())),
        (FactType::Text, Value::String(text)) if !text.contains('\0') => Ok(Literal::Text(text.clone())),
        (FactType::Boolean, Value::Bool(value)) => Ok(Literal::Boolean(*value)),
        _ => {
            let problem =
                format!("fact {} is a {}, and this value is {}", fact.name, fact.kind.as_str(), name_of(value));
            fault(position, problem, None)
        }
    }
}

/// Returns the digits of a number. JSON has no infinity and no NaN.
fn digits(number: &Number) -> String {
    number.to_string()
}

/// Returns true for digits with at most one point and a sign, at most 100 characters.
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 100 && is_digits(whole) && is_digits(fraction)
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Node {
    fn collect(&self, each: &mut impl FnMut(&'static Fact)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.collect(each)),
            Self::Not(part) => part.collect(each),
            Self::Test(fact, test) => {
                each(fact);
                if let Test::CompareFact(_, other, _) = test {
                    each(other);
                }
            }
        }
    }
}

struct SqlWriter<'a> {
    alias: &'a str,
    first_number: usize,
    first_text: usize,
    condition: SqlCondition,
}

impl SqlWriter<'_> {
    fn push(&mut self, text: &str) {
        self.condition.expression.push_str(text);
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::All(parts) => self.list(parts, " AND "),
            Node::Any(parts) => self.list(parts, " OR "),
            Node::Not(part) => {
                self.push("(NOT ");
                self.node(part);
                self.push(")");
            }
            Node::Test(fact, test) => self.test(fact, test),
        }
    }

    fn list(&mut self, parts: &[Node], separator: &str) {
        self.push("(");
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                self.push(separator);
            }
            self.node(part);
        }
        self.push(")");
    }

    fn column(&mut self, fact: &Fact) {
        let column = format!("{}.{}", self.alias, fact.name);
        self.push(&column);
    }

    fn test(&mut self, fact: &Fact, test: &Test) {
        self.push("(");
        self.column(fact);
        match test {
            Test::Compare(operator, value) => {
                self.push(&format!(" {} ", operator.sql()));
                self.literal(value);
            }
            Test::CompareFact(operator, other, times) => {
                self.push(&format!(" {} ", operator.sql()));
                self.column(other);
                if fact.kind == FactType::Number {
                    self.push(" * ");
                    self.literal(&Literal::Number(times.clone()));
                }
            }
            Test::In(values) => {
                self.push(" IN (");
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        self.push(", ");
                    }
                    self.literal(value);
                }
                self.push(")");
            }
            Test::Between(low, high) => {
                self.push(" BETWEEN ");
                self.literal(low);
                self.push(" AND ");
                self.literal(high);
            }
            Test::Known => self.push(" IS NOT NULL"),
            Test::Unknown => self.push(" IS NULL"),
        }
        self.push(")");
    }

    fn literal(&mut self, value: &Literal) {
        let text = match value {
            Literal::Number(digits) => {
                self.condition.numbers.push(digits.clone());
                format!("($1)[{}]", self.first_number + self.condition.numbers.len())
            }
            Literal::Text(text) => {
                self.condition.texts.push(text.clone());
                format!("($2)[{}]", self.first_text + self.condition.texts.len())
            }
            Literal::Boolean(value) => value.to_string(),
        };
        self.push(&text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(document: &Value) -> Result<Condition, ConditionError> {
        Condition::parse(document, "condition")
    }

    fn problem(document: &Value) -> String {
        parse(document).unwrap_err().to_string()
    }

    #[test]
    fn a_condition_becomes_an_expression_without_its_values() {
        let condition = parse(&json!({"all": [
            {"fact": "amount_usd", "op": ">=", "value": 10000},
            {"any": [
                {"fact": "counterparty_category", "op": "in", "value": ["sanctions", "x'); DROP TABLE t; --"]},
                {"not": {"fact": "wallet_watched", "op": "=", "value": true}},
                {"fact": "days_idle", "op": "unknown"},
            ]},
            {"fact": "sum_24h", "op": ">", "than": "amount", "times": 2.5},
            {"fact": "amount", "op": "between", "value": ["0.000000000000000001", -3]},
        ]}))
        .unwrap();
        let sql = condition.to_sql("f", 2, 1);
        assert_eq!(
            sql.expression,
            "((f.amount_usd >= ($1)[3]) AND ((f.counterparty_category IN (($2)[2], ($2)[3])) OR \
             (NOT (f.wallet_watched = true)) OR (f.days_idle IS NULL)) AND (f.sum_24h > f.amount * ($1)[4]) AND \
             (f.amount BETWEEN ($1)[5] AND ($1)[6]))"
        );
        assert_eq!(sql.numbers, ["10000", "2.5", "0.000000000000000001", "-3"]);
        assert_eq!(sql.texts, ["sanctions", "x'); DROP TABLE t; --"]);
        let groups: Vec<&str> = condition.groups().into_iter().map(FactGroup::as_str).collect();
        assert_eq!(groups, ["transfer", "labels", "watchlists", "windows", "idle"]);
        assert!(condition.facts().contains("amount"));
    }

    #[test]
    fn a_fault_is_reported_with_its_position() {
        for (document, expected) in [
            (json!([]), "condition: a condition must be an object, not a list"),
            (json!({}), "condition: a condition must have exactly one of the keys all, any, not and fact"),
            (
                json!({"all": [], "any": []}),
                "condition: a condition must have exactly one of the keys all, any, not and fact",
            ),
            (json!({"all": []}), "condition.all: the list of conditions must not be empty"),
            (json!({"any": {}}), "condition.any: a list of conditions is needed, not an object"),
            (json!({"all": [], "x": 1}), "condition.x: this key is not known here"),
            (json!({"all": [{"fact": "x", "op": "="}]}), "condition.all[0].fact: fact \"x\" does not exist"),
            (json!({"fact": 1}), "condition.fact: the name of a fact must be a text, not a number"),
            (json!({"fact": "amount"}), "condition.op: op is missing"),
            (json!({"fact": "amount", "op": 1}), "condition.op: op must be a text, not a number"),
            (json!({"fact": "amount", "op": "~", "value": 1}), "condition.op: op \"~\" does not exist"),
            (json!({"fact": "amount", "op": "="}), "condition.value: value is missing"),
            (
                json!({"fact": "amount", "op": "=", "value": "x"}),
                "condition.value: fact amount is a number, and this value is a text",
            ),
            (
                json!({"fact": "asset", "op": "<", "value": "x"}),
                "condition.op: op < is for numbers, and fact asset is a text",
            ),
            (
                json!({"not": {"any": [{"fact": "asset", "op": "in", "value": ["a", 1]}]}}),
                "condition.not.any[0].value[1]: fact asset is a text, and this value is a number",
            ),
            (
                json!({"fact": "asset", "op": "in", "value": []}),
                "condition.value: the list has 0 values; 1 to 1000 are allowed",
            ),
            (
                json!({"fact": "amount", "op": "between", "value": [1]}),
                "condition.value: op between needs a list of two numbers",
            ),
            (json!({"fact": "amount", "op": "known", "value": 1}), "condition.value: op known takes no value"),
            (
                json!({"fact": "amount", "op": ">", "than": "asset"}),
                "condition.than: fact amount is a number, and asset is a text",
            ),
            (json!({"fact": "amount", "op": ">", "value": 1, "times": 2}), "condition.times: times needs the key than"),
            (
                json!({"fact": "amount", "op": ">", "value": 1, "than": "sum_24h"}),
                "condition.value: a comparison has a value or the key than, not both",
            ),
            (json!({"fact": "amount", "op": ">", "value": 1, "when": 2}), "condition.when: this key is not known here"),
        ] {
            assert_eq!(problem(&document), expected, "{document}");
        }
    }

    #[test]
    fn depth_and_size_are_limited() {
        let leaf = || json!({"fact": "amount", "op": ">", "value": 1});
        let nested = |levels: usize| (0..levels).fold(leaf(), |inner, _| json!({"not": inner}));
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert!(problem(&nested(MAX_DEPTH + 1)).ends_with("conditions are nested deeper than 32 levels"));
        assert!(problem(&nested(100)).ends_with("conditions are nested deeper than 32 levels"));
        let many = |count: usize| json!({"any": (0..count).map(|_| leaf()).collect::<Vec<_>>()});
        assert!(parse(&many(MAX_COMPARISONS)).is_ok());
        assert!(problem(&many(MAX_COMPARISONS + 1)).ends_with("a condition has at most 500 comparisons"));
    }

    #[test]
    fn names_of_facts_are_columns_and_appear_once() {
        for fact in FACTS {
            assert!(fact.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
            assert_eq!(FACTS.iter().filter(|other| other.name == fact.name).count(), 1);
            assert_eq!(fact_named(fact.name), FACTS.iter().find(|other| other.name == fact.name));
        }
    }

    fn any_document() -> impl Strategy<Value = Value> {
        let value = prop_oneof![
            any::<i32>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            "[a-z' ;]{0,8}".prop_map(Value::from),
            prop::collection::vec(any::<i32>(), 0..3).prop_map(|list| json!(list)),
        ];
        let name = prop::sample::select(FACTS.iter().map(|fact| fact.name).chain(["nothing"]).collect::<Vec<_>>());
        let op = prop::sample::select(vec!["=", "<>", "<", ">", "in", "between", "known", "unknown", "like"]);
        let leaf = (name, op, value).prop_map(|(name, op, value)| match op {
            "known" | "unknown" => json!({"fact": name, "op": op}),
            _ => json!({"fact": name, "op": op, "value": value}),
        });
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| json!({"all": parts})),
                prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| json!({"any": parts})),
                inner.prop_map(|part| json!({"not": part})),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_expression_names_facts_and_numbers_of_values_alone(document in any_document()) {
            match parse(&document) {
                Err(error) => prop_assert!(error.position.to_string().starts_with("condition")),
                Ok(condition) => {
                    let sql = condition.to_sql("f", 0, 0);
                    prop_assert_eq!(sql.expression.matches('(').count(), sql.expression.matches(')').count());
                    prop_assert!(!sql.expression.contains('\''));
                    prop_assert_eq!(sql.expression.matches("($1)[").count(), sql.numbers.len());
                    prop_assert_eq!(sql.expression.matches("($2)[").count(), sql.texts.len());
                    for fact in condition.facts() {
                        let column = format!("f.{fact}");
                        prop_assert!(sql.expression.contains(&column));
                    }
                }
            }
        }

        #[test]
        fn decimal_texts_are_what_numeric_accepts(text in "-?[0-9.]{0,6}") {
            let plain = text.strip_prefix('-').unwrap_or(&text);
            let points = plain.matches('.').count();
            let expected = !plain.is_empty() && points <= 1 && !plain.starts_with('.') && !plain.ends_with('.');
            prop_assert_eq!(is_decimal(&text), expected);
        }
    }
}
