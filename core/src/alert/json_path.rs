//! The translation of a condition into a predicate of SQL/JSON path over an object of facts.
//!
//! A statement that judges facts by such predicates is planned once, whatever the conditions are;
//! with SQL expressions in its text it would be planned for every call. The path language takes a
//! comparison with a missing fact for false, and its negation for true. So every node is translated
//! into what makes it certainly true, or into what makes it certainly false.
//!
//! ```
//! use arx_core::alert::condition::Condition;
//!
//! let condition = serde_json::json!({"not": {"fact": "amount", "op": ">=", "value": 5}});
//! let path = Condition::parse(&condition, "condition")?.to_json_path();
//! assert_eq!(path, r#"($."amount" != null && !($."amount" >= 5))"#);
//! # Ok::<(), arx_core::alert::condition::ConditionError>(())
//! ```

use serde_json::Value;

use super::condition::{Condition, Fact, FactType, Literal, Node, Operator, Test};

impl Condition {
    /// Translates the condition into a predicate, which holds if the condition holds for certain. A
    /// fact that is missing or null is unknown.
    #[must_use]
    pub fn to_json_path(&self) -> String {
        let mut path = String::new();
        write_node(&mut path, &self.root, true);
        path
    }
}

/// Writes what makes a node certainly true, or what makes it certainly false.
fn write_node(path: &mut String, node: &Node, holds: bool) {
    match node {
        Node::All(parts) => write_list(path, parts, if holds { " && " } else { " || " }, holds),
        Node::Any(parts) => write_list(path, parts, if holds { " || " } else { " && " }, holds),
        Node::Not(part) => write_node(path, part, !holds),
        Node::Test(fact, test) => write_test(path, fact, test, holds),
    }
}

fn write_list(path: &mut String, parts: &[Node], separator: &str, holds: bool) {
    path.push('(');
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            path.push_str(separator);
        }
        write_node(path, part, holds);
    }
    path.push(')');
}

fn write_test(path: &mut String, fact: &Fact, test: &Test, holds: bool) {
    let known = |fact: &Fact| format!("{} != null", key(fact));
    let (comparison, other) = match test {
        Test::Known | Test::Unknown => {
            let not = if (*test == Test::Known) == holds { "" } else { "!" };
            path.push_str(&format!("{not}({})", known(fact)));
            return;
        }
        Test::Compare(operator, value) => (compare(fact, *operator, &literal(value)), None),
        Test::CompareFact(operator, other, times) => {
            let value = match other.kind {
                FactType::Number => format!("{} * {}", key(other), number(times)),
                FactType::Text | FactType::Boolean => key(other),
            };
            (compare(fact, *operator, &value), Some(*other))
        }
        Test::In(values) => {
            let equal = values.iter().map(|value| compare(fact, Operator::Equal, &literal(value)));
            (equal.collect::<Vec<_>>().join(" || "), None)
        }
        Test::Between(low, high) => {
            let (low, high) = (literal(low), literal(high));
            let [low, high] = [(Operator::GreaterOrEqual, low), (Operator::LessOrEqual, high)]
                .map(|(operator, bound)| compare(fact, operator, &bound));
            (format!("{low} && {high}"), None)
        }
    };
    path.push_str(&format!("({}", known(fact)));
    if let Some(other) = other {
        path.push_str(&format!(" && {}", known(other)));
    }
    path.push_str(&format!(" && {}({comparison}))", if holds { "" } else { "!" }));
}

fn key(fact: &Fact) -> String {
    format!("$.\"{}\"", fact.name)
}

fn compare(fact: &Fact, operator: Operator, value: &str) -> String {
    let operator = if operator == Operator::Equal { "==" } else { operator.sql() };
    format!("{} {operator} {value}", key(fact))
}

fn literal(value: &Literal) -> String {
    match value {
        Literal::Number(digits) => number(digits),
        // A text of JSON is one of the path language, too.
        Literal::Text(text) => Value::from(text.as_str()).to_string(),
        Literal::Boolean(value) => value.to_string(),
    }
}

/// A number begins with no zeros that do not count, and is no operand of the operator before it.
fn number(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let significant = digits.trim_start_matches('0');
    let zero = if significant.starts_with(|first: char| first.is_ascii_digit()) { "" } else { "0" };
    if sign.is_empty() { format!("{zero}{significant}") } else { format!("(-{zero}{significant})") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(document: &Value) -> String {
        Condition::parse(document, "condition").unwrap().to_json_path()
    }

    #[test]
    fn a_negation_asks_what_is_certainly_false() {
        let all = json!({"all": [
            {"fact": "amount", "op": "<", "value": 1},
            {"any": [{"fact": "asset", "op": "=", "value": "native"}, {"not": {"fact": "patterns", "op": "known"}}]},
        ]});
        assert_eq!(
            path(&all),
            r#"(($."amount" != null && ($."amount" < 1)) && (($."asset" != null && ($."asset" == "native")) || !($."patterns" != null)))"#
        );
        assert_eq!(
            path(&json!({"not": all})),
            r#"(($."amount" != null && !($."amount" < 1)) || (($."asset" != null && !($."asset" == "native")) && ($."patterns" != null)))"#
        );
    }

    #[test]
    fn a_comparison_with_a_fact_needs_both() {
        let condition = json!({"fact": "sum_24h", "op": ">", "than": "amount", "times": -2.5});
        assert_eq!(
            path(&condition),
            r#"($."sum_24h" != null && $."amount" != null && ($."sum_24h" > $."amount" * (-2.5)))"#
        );
        let condition = json!({"fact": "wallet_kind", "op": "<>", "than": "counterparty_kind"});
        assert_eq!(
            path(&condition),
            r#"($."wallet_kind" != null && $."counterparty_kind" != null && ($."wallet_kind" <> $."counterparty_kind"))"#
        );
    }

    #[test]
    fn values_are_literals() {
        let condition = json!({"fact": "asset", "op": "in", "value": ["a\"b\\", "\n"]});
        assert_eq!(path(&condition), r#"($."asset" != null && ($."asset" == "a\"b\\" || $."asset" == "\n"))"#);
        let condition = json!({"fact": "amount", "op": "between", "value": ["-007.50", "000"]});
        assert_eq!(path(&condition), r#"($."amount" != null && ($."amount" >= (-7.50) && $."amount" <= 0))"#);
        let condition = json!({"fact": "wallet_watched", "op": "=", "value": false});
        assert_eq!(path(&condition), r#"($."wallet_watched" != null && ($."wallet_watched" == false))"#);
        assert_eq!(["0", "00.5", "-0", "1e21", "10"].map(number), ["0", "0.5", "(-0)", "1e21", "10"]);
    }
}
