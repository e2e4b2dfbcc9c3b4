//! A filter before rules: the rules that may fire for a side of a transfer.
//!
//! A condition is evaluated over facts that are known so far. Numbers are compared as doubles; a
//! comparison that is too close for them stays open, as does one with a fact that has not been
//! gathered. So no side that a rule fires on is filtered out, and SQL decides exactly about the few
//! that are let through.

use std::collections::HashMap;
use std::rc::Rc;

use rustc_hash::FxBuildHasher;

use super::condition::{Condition, FACTS, Fact, Literal, Node, Operator, Test};

/// Relative difference up to which doubles do not decide a comparison. It is far above the error of
/// the few roundings that a value has passed.
const TOLERANCE: f64 = 1e-9;

/// Number of facts.
pub const FACT_COUNT: usize = FACTS.len();

/// A text, by its number in [`Texts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TextId(u32);

/// Distinct texts.
#[derive(Debug, Default)]
pub struct Texts {
    ids: HashMap<Rc<str>, TextId, FxBuildHasher>,
    texts: Vec<Rc<str>>,
}

impl Texts {
    /// Returns the number of a text, which gets one if it has none.
    pub fn id(&mut self, text: &str) -> TextId {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = TextId(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        let text: Rc<str> = text.into();
        self.texts.push(Rc::clone(&text));
        self.ids.insert(text, id);
        id
    }

    /// Returns a text by its number.
    #[must_use]
    pub fn text(&self, id: TextId) -> &str {
        self.texts.get(id.0 as usize).map_or("", |text| text)
    }

    /// Number of texts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Returns true if there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// A fact of a side, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FactValue {
    /// Has not been gathered: anything is possible.
    Open,
    /// Is unknown, as NULL is.
    Unknown,
    /// A number, rounded.
    Number(f64),
    /// A text.
    Text(TextId),
    /// True or false.
    Boolean(bool),
}

/// Facts in the order of [`FACTS`].
pub type FactValues = [FactValue; FACT_COUNT];

/// Values that a condition may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outcomes(u8);

impl Outcomes {
    const TRUE: Self = Self(1);
    const FALSE: Self = Self(2);
    const UNKNOWN: Self = Self(4);
    const TRUE_OR_FALSE: Self = Self(3);
    const ANY: Self = Self(7);

    const fn of(value: bool) -> Self {
        if value { Self::TRUE } else { Self::FALSE }
    }

    const fn may_be(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    const fn not(self) -> Self {
        Self((self.0 & 1) << 1 | (self.0 & 2) >> 1 | self.0 & 4)
    }

    const fn and(self, other: Self) -> Self {
        let is_true = self.0 & other.0 & 1;
        let is_false = (self.0 | other.0) & 2;
        let no_false = Self(5);
        let is_unknown = (self.may_be(Self::UNKNOWN) && other.may_be(no_false))
            || (other.may_be(Self::UNKNOWN) && self.may_be(no_false));
        Self(is_true | is_false | if is_unknown { 4 } else { 0 })
    }
}

/// Compares numbers, if doubles can.
fn compare(operator: Operator, left: f64, right: f64) -> Outcomes {
    let difference = left - right;
    let is_close = difference.abs() <= TOLERANCE * left.abs().max(right.abs());
    // Infinite values, of literals beyond doubles, decide nothing.
    if is_close || !difference.is_finite() {
        return Outcomes::TRUE_OR_FALSE;
    }
    Outcomes::of(match operator {
        Operator::Equal => false,
        Operator::NotEqual => true,
        Operator::Less | Operator::LessOrEqual => left < right,
        Operator::Greater | Operator::GreaterOrEqual => left > right,
    })
}

/// A value of a condition, prepared.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Number(f64),
    Text(TextId),
    Boolean(bool),
}

#[derive(Debug, Clone)]
enum Check {
    Compare(Operator, Value),
    CompareFact(Operator, usize, f64),
    In(Vec<Value>),
    Between(Value, Value),
    Known,
    Unknown,
}

#[derive(Debug, Clone)]
enum Step {
    All(Vec<Step>),
    Any(Vec<Step>),
    Not(Box<Step>),
    Check(usize, Check),
}

/// The filter of one condition.
#[derive(Debug, Clone)]
pub struct ConditionFilter {
    root: Step,
}

fn fact_index(fact: &Fact) -> usize {
    FACTS.iter().position(|other| other.name == fact.name).unwrap_or(FACT_COUNT)
}

impl ConditionFilter {
    /// Prepares a condition. Its texts are numbered in `texts`, as those of facts must be.
    #[must_use]
    pub fn new(condition: &Condition, texts: &mut Texts) -> Self {
        Self { root: step(condition.root(), texts) }
    }

    /// Returns true unless the condition does not hold, whatever the open facts are.
    #[must_use]
    pub fn may_hold(&self, facts: &FactValues) -> bool {
        outcomes(&self.root, facts).may_be(Outcomes::TRUE)
    }
}

fn step(node: &Node, texts: &mut Texts) -> Step {
    match node {
        Node::All(parts) => Step::All(parts.iter().map(|part| step(part, texts)).collect()),
        Node::Any(parts) => Step::Any(parts.iter().map(|part| step(part, texts)).collect()),
        Node::Not(part) => Step::Not(Box::new(step(part, texts))),
        Node::Test(fact, test) => Step::Check(fact_index(fact), check(test, texts)),
    }
}

fn check(test: &Test, texts: &mut Texts) -> Check {
    match test {
        Test::Compare(operator, literal) => Check::Compare(*operator, value(literal, texts)),
        Test::CompareFact(operator, other, times) => Check::CompareFact(*operator, fact_index(other), number(times)),
        Test::In(literals) => Check::In(literals.iter().map(|literal| value(literal, texts)).collect()),
        Test::Between(low, high) => Check::Between(value(low, texts), value(high, texts)),
        Test::Known => Check::Known,
        Test::Unknown => Check::Unknown,
    }
}

fn value(literal: &Literal, texts: &mut Texts) -> Value {
    match literal {
        Literal::Number(digits) => Value::Number(number(digits)),
        Literal::Text(text) => Value::Text(texts.id(text)),
        Literal::Boolean(value) => Value::Boolean(*value),
    }
}

/// Digits that no double can hold are infinite or NaN, which decide nothing.
fn number(digits: &str) -> f64 {
    digits.parse().unwrap_or(f64::NAN)
}

fn outcomes(step: &Step, facts: &FactValues) -> Outcomes {
    match step {
        Step::All(parts) => {
            let mut all = Outcomes::TRUE;
            for part in parts {
                all = all.and(outcomes(part, facts));
                if all == Outcomes::FALSE {
                    break;
                }
            }
            all
        }
        Step::Any(parts) => {
            // By De Morgan's laws, which hold with unknown values, too.
            let mut none = Outcomes::TRUE;
            for part in parts {
                none = none.and(outcomes(part, facts).not());
                if none == Outcomes::FALSE {
                    break;
                }
            }
            none.not()
        }
        Step::Not(part) => outcomes(part, facts).not(),
        Step::Check(fact, check) => {
            let fact = facts.get(*fact).copied().unwrap_or(FactValue::Open);
            checked(fact, check, facts)
        }
    }
}

fn checked(fact: FactValue, check: &Check, facts: &FactValues) -> Outcomes {
    match (check, fact) {
        (Check::Known | Check::Unknown, FactValue::Open) => Outcomes::TRUE_OR_FALSE,
        (Check::Known, fact) => Outcomes::of(fact != FactValue::Unknown),
        (Check::Unknown, fact) => Outcomes::of(fact == FactValue::Unknown),
        (_, FactValue::Open) => Outcomes::ANY,
        (_, FactValue::Unknown) => Outcomes::UNKNOWN,
        (Check::Compare(operator, value), fact) => compared(*operator, fact, *value),
        (Check::CompareFact(operator, other, times), fact) => match facts.get(*other).copied() {
            Some(FactValue::Number(other)) => compared(*operator, fact, Value::Number(other * times)),
            Some(FactValue::Text(other)) => compared(*operator, fact, Value::Text(other)),
            Some(FactValue::Boolean(other)) => compared(*operator, fact, Value::Boolean(other)),
            Some(FactValue::Unknown) => Outcomes::UNKNOWN,
            Some(FactValue::Open) | None => Outcomes::ANY,
        },
        (Check::In(values), fact) => {
            let no_match = values
                .iter()
                .fold(Outcomes::TRUE, |none, value| none.and(compared(Operator::Equal, fact, *value).not()));
            no_match.not()
        }
        (Check::Between(low, high), fact) => {
            compared(Operator::GreaterOrEqual, fact, *low).and(compared(Operator::LessOrEqual, fact, *high))
        }
    }
}

/// Types were checked when the condition was parsed; others decide nothing.
fn compared(operator: Operator, fact: FactValue, value: Value) -> Outcomes {
    let is_equal = match (fact, value) {
        (FactValue::Number(left), Value::Number(right)) => return compare(operator, left, right),
        (FactValue::Text(left), Value::Text(right)) => left == right,
        (FactValue::Boolean(left), Value::Boolean(right)) => left == right,
        _ => return Outcomes::ANY,
    };
    match operator {
        Operator::Equal => Outcomes::of(is_equal),
        Operator::NotEqual => Outcomes::of(!is_equal),
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => Outcomes::ANY,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn may_hold(document: &Json, facts: &[(&str, FactValue)]) -> bool {
        let condition = Condition::parse(document, "condition").unwrap();
        let mut texts = Texts::default();
        let _ = texts.id("native");
        let filter = ConditionFilter::new(&condition, &mut texts);
        let mut values = [FactValue::Open; FACT_COUNT];
        for (name, value) in facts {
            values[FACTS.iter().position(|fact| fact.name == *name).unwrap()] = *value;
        }
        filter.may_hold(&values)
    }

    const NATIVE: FactValue = FactValue::Text(TextId(0));

    #[test]
    fn conditions_that_are_certainly_false_or_unknown_do_not_pass() {
        let number = FactValue::Number;
        let large = json!({"fact": "amount", "op": ">=", "value": 10});
        assert!(may_hold(&large, &[("amount", number(11.0))]));
        assert!(!may_hold(&large, &[("amount", number(9.0))]));
        assert!(!may_hold(&large, &[("amount", FactValue::Unknown)]));
        assert!(may_hold(&large, &[]), "an open fact decides nothing");
        assert!(may_hold(&large, &[("amount", number(10.0 - 1e-12))]), "doubles do not decide what is too close");
        let neither = json!({"not": {"any": [large, {"fact": "asset", "op": "in", "value": ["native", "x"]}]}});
        assert!(!may_hold(&neither, &[("amount", number(1.0)), ("asset", NATIVE)]));
        assert!(may_hold(&neither, &[("amount", number(1.0)), ("asset", FactValue::Text(TextId(7)))]));
        assert!(!may_hold(&neither, &[("amount", FactValue::Unknown), ("asset", FactValue::Text(TextId(7)))]));
        let known = json!({"fact": "amount_usd", "op": "known"});
        assert!(may_hold(&known, &[]) && may_hold(&known, &[("amount_usd", number(0.0))]));
        assert!(!may_hold(&known, &[("amount_usd", FactValue::Unknown)]));
        let than = json!({"fact": "sum_24h", "op": ">", "than": "amount", "times": 3});
        assert!(may_hold(&than, &[("sum_24h", number(31.0)), ("amount", number(10.0))]));
        assert!(!may_hold(&than, &[("sum_24h", number(29.0)), ("amount", number(10.0))]));
        assert!(!may_hold(&than, &[("sum_24h", number(31.0)), ("amount", FactValue::Unknown)]));
        let between = json!({"fact": "amount", "op": "between", "value": [1, 2]});
        assert!(may_hold(&between, &[("amount", number(1.5))]) && !may_hold(&between, &[("amount", number(2.5))]));
        let huge = json!({"fact": "amount", "op": "<", "value": "1".repeat(100)});
        assert!(may_hold(&huge, &[("amount", number(1.0))]));
    }

    /// The values that SQL's logic gives to a tree whose leaves are fixed.
    fn exact(step: &[u8], at: &mut usize, leaves: &[Option<bool>]) -> Option<bool> {
        let op = step.get(*at).copied().unwrap_or(0);
        *at += 1;
        match op % 6 {
            0 => {
                let (a, b) = (exact(step, at, leaves), exact(step, at, leaves));
                if a == Some(false) || b == Some(false) { Some(false) } else { a.zip(b).map(|(a, b)| a && b) }
            }
            1 => {
                let (a, b) = (exact(step, at, leaves), exact(step, at, leaves));
                if a == Some(true) || b == Some(true) { Some(true) } else { a.zip(b).map(|(a, b)| a || b) }
            }
            2 => exact(step, at, leaves).map(|value| !value),
            leaf => leaves[usize::from(leaf) - 3],
        }
    }

    fn sets(step: &[u8], at: &mut usize, leaves: &[Outcomes]) -> Outcomes {
        let op = step.get(*at).copied().unwrap_or(0);
        *at += 1;
        match op % 6 {
            0 => {
                let (a, b) = (sets(step, at, leaves), sets(step, at, leaves));
                a.and(b)
            }
            1 => {
                let (a, b) = (sets(step, at, leaves), sets(step, at, leaves));
                a.not().and(b.not()).not()
            }
            2 => sets(step, at, leaves).not(),
            leaf => leaves[usize::from(leaf) - 3],
        }
    }

    #[test]
    fn sets_of_outcomes_hold_what_sql_computes_for_each_choice_of_open_facts() {
        let single = |value: Option<bool>| value.map_or(Outcomes::UNKNOWN, Outcomes::of);
        let choices = [Some(true), Some(false), None];
        // Trees over three leaves in prefix notation, the last leaf of which is open.
        let trees: [&[u8]; 6] = [
            &[0, 1, 3, 5, 2, 4],
            &[2, 0, 5, 1, 3, 4],
            &[1, 2, 5, 0, 3, 4],
            &[0, 2, 1, 3, 5, 4],
            &[1, 0, 3, 4, 0, 4, 5],
            &[2, 2, 1, 0, 3, 5, 4],
        ];
        for tree in trees {
            for a in choices {
                for b in choices {
                    let found = sets(tree, &mut 0, &[single(a), single(b), Outcomes::ANY]);
                    let exact = choices.map(|c| single(exact(tree, &mut 0, &[a, b, c])).0);
                    assert_eq!(exact.iter().fold(0, |all, one| all | one) & !found.0, 0, "{tree:?} {a:?} {b:?}");
                }
            }
        }
    }
}
