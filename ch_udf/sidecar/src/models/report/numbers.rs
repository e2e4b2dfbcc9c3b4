//! Numbers as people read them.

/// A count, its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A part of a whole in percent; nothing of nothing is none.
pub(super) fn percent(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let share = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    if part > 0 && share < 0.001 { "under 0.1 %".to_owned() } else { format!("{:.1} %", share * 100.0) }
}

/// A count as a number that a chart can work with.
#[expect(clippy::cast_precision_loss, reason = "a chart is a thousand units wide")]
pub(super) fn chartable(number: u64) -> f64 {
    number as f64
}

/// A measure, to four decimals.
pub(super) fn decimals(measure: f64) -> String {
    format!("{measure:.4}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_apart() {
        let shown: Vec<String> = [0, 999, 1000, 12_345, 1_234_567].into_iter().map(count).collect();
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn a_small_part_is_not_shown_as_none() {
        assert_eq!(percent(0, 0), "0.0 %");
        assert_eq!(percent(0, 10), "0.0 %");
        assert_eq!(percent(1, 100_000), "under 0.1 %");
        assert_eq!(percent(1, 3), "33.3 %");
    }
}
