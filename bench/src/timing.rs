//! Medians, and running two sides in turn.

use std::time::Instant;

use anyhow::{Result, anyhow};

/// The median; the mean of the middle two for an even count.
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

/// Medians of `runs` runs of each side. The side that goes first changes from run to run, so that neither has the warmer caches.
///
/// # Errors
/// The first error of a run.
pub fn in_turn(
    runs: usize,
    mut ours: impl FnMut(usize) -> Result<f64>,
    mut peer: impl FnMut(usize) -> Result<f64>,
) -> Result<(f64, f64)> {
    let (mut of_ours, mut of_peer) = (Vec::new(), Vec::new());
    for run in 0..runs {
        if run % 2 == 0 {
            of_ours.push(ours(run)?);
            of_peer.push(peer(run)?);
        } else {
            of_peer.push(peer(run)?);
            of_ours.push(ours(run)?);
        }
    }
    Ok((median(&of_ours)?, median(&of_peer)?))
}

/// [`in_turn`] for sides that are asked over a connection.
///
/// # Errors
/// The first error of a run.
pub async fn in_turn_async(
    runs: usize,
    mut ours: impl AsyncFnMut(usize) -> Result<f64>,
    mut peer: impl AsyncFnMut(usize) -> Result<f64>,
) -> Result<(f64, f64)> {
    let (mut of_ours, mut of_peer) = (Vec::new(), Vec::new());
    for run in 0..runs {
        if run % 2 == 0 {
            of_ours.push(ours(run).await?);
            of_peer.push(peer(run).await?);
        } else {
            of_peer.push(peer(run).await?);
            of_ours.push(ours(run).await?);
        }
    }
    Ok((median(&of_ours)?, median(&of_peer)?))
}

/// Milliseconds since `start`.
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
