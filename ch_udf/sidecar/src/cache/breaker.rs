//! A circuit breaker: a server that failed several times in turn is left alone for a moment.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in turn that open the circuit.
const MAX_FAILURES: u32 = 3;

/// Time for which it stays open. Then one caller after the other tries again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    closed_again: Option<Instant>,
}

impl Breaker {
    /// Returns whether the server may be asked.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        let mut state = self.state();
        match state.closed_again {
            Some(time) if now < time => false,
            Some(_) => {
                // This caller tries, and the others wait for another pause.
                state.closed_again = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    pub(crate) fn succeeded(&self) {
        *self.state() = State::default();
    }

    pub(crate) fn failed(&self, now: Instant) {
        let mut state = self.state();
        state.failures += 1;
        if state.failures >= MAX_FAILURES {
            state.closed_again = Some(now + PAUSE);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_fails_is_left_alone_and_tried_by_one_caller_later() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..MAX_FAILURES {
            assert!(breaker.admits(now));
            breaker.failed(now);
        }
        assert!(!breaker.admits(now));
        let later = now + PAUSE;
        assert!(breaker.admits(later) && !breaker.admits(later));
        breaker.succeeded();
        assert!(breaker.admits(later) && breaker.admits(later));
    }

    #[test]
    fn successes_between_failures_keep_the_circuit_closed() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            breaker.failed(now);
            breaker.succeeded();
        }
        assert!(breaker.admits(now));
    }
}
