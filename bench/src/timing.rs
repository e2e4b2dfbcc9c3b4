//! Medians, and runs of two sides in turn.

use std::time::Instant;

use anyhow::{Result, anyhow};

/// Returns the median, which is the mean of the middle two values for an even count.
///
/// # Errors
/// When there are no values.
pub fn median(values: &[f64]) -> Result<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).ok_or_else(|| anyhow!("nothing was measured"))?;
    if sorted.len() % 2 == 1 {
        return Ok(*upper);
    }
    let lower = sorted.get(sorted.len() / 2 - 1).ok_or_else(|| anyhow!("nothing was measured"))?;
    Ok(f64::midpoint(*lower, *upper))
}

/// Runs each side `runs` times and returns the medians. The order changes from run to run, so that
/// both sides have equally warm caches.
///
/// # Errors
/// The first error of a run.
pub fn in_turn(
    runs: usize,
    mut ours: impl FnMut(usize) -> Result<f64>,
    mut peer: impl FnMut(usize) -> Result<f64>,
) -> Result<(f64, f64)> {
    let (mut our_values, mut peer_values) = (Vec::new(), Vec::new());
    for run in 0..runs {
        if run % 2 == 0 {
            our_values.push(ours(run)?);
            peer_values.push(peer(run)?);
        } else {
            peer_values.push(peer(run)?);
            our_values.push(ours(run)?);
        }
    }
    Ok((median(&our_values)?, median(&peer_values)?))
}

/// [`in_turn`] for asynchronous sides.
///
/// # Errors
/// The first error of a run.
pub async fn in_turn_async(
    runs: usize,
    mut ours: impl AsyncFnMut(usize) -> Result<f64>,
    mut peer: impl AsyncFnMut(usize) -> Result<f64>,
) -> Result<(f64, f64)> {
    let (mut our_values, mut peer_values) = (Vec::new(), Vec::new());
    for run in 0..runs {
        if run % 2 == 0 {
            our_values.push(ours(run).await?);
            peer_values.push(peer(run).await?);
        } else {
            peer_values.push(peer(run).await?);
            our_values.push(ours(run).await?);
        }
    }
    Ok((median(&our_values)?, median(&peer_values)?))
}

/// Returns the milliseconds since `start`.
#[must_use]
pub fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).unwrap(), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).unwrap(), 2.5);
        assert!(median(&[]).is_err());
    }

    #[test]
    fn sides_take_turns() {
        let order = std::cell::RefCell::new(String::new());
        let side = |name: char| {
            let order = &order;
            move |_| {
                order.borrow_mut().push(name);
                Ok(1.0)
            }
        };
        in_turn(3, side('o'), side('p')).unwrap();
        assert_eq!(*order.borrow(), "oppoop");
    }
}
