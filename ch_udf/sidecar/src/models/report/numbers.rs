//! Numbers for readers.

/// Formats a count with thousands separators.
pub(super) fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Formats a share in percent; a share of nothing is zero.
pub(super) fn percent(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let share = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    if part > 0 && share < 0.001 { "under 0.1 %".to_owned() } else { format!("{:.1} %", share * 100.0) }
}

/// Converts a count for a chart.
#[expect(clippy::cast_precision_loss, reason = "a chart is a thousand units wide")]
pub(super) fn chartable(number: u64) -> f64 {
    number as f64
}

/// Formats a measure with four decimals.
pub(super) fn decimals(measure: f64) -> String {
    format!("{measure:.4}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_thousands_separators() {
        let shown: Vec<String> = [0, 999, 1000, 12_345, 1_234_567].into_iter().map(count).collect();
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn a_small_share_is_not_shown_as_zero() {
        assert_eq!(percent(0, 0), "0.0 %");
        assert_eq!(percent(0, 10), "0.0 %");
        assert_eq!(percent(1, 100_000), "under 0.1 %");
        assert_eq!(percent(1, 3), "33.3 %");
    }
}
