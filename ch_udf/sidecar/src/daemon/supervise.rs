//! The one loop that every task of the daemon runs: open a session, step, record, pause, and open
//! another session after an error.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::error::{Chain, SidecarError};
use crate::retry::Retrier;

/// Pause after an error that retrying does not help: an operator may have fixed the cause since.
const ERROR_BACKOFF: Duration = Duration::from_secs(60);

/// Answer of [`Worker::ready`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// The open session is out of date: discard it, and open another.
    Reopen,
    /// There will be no more work.
    Finished,
}

/// Work that is repeated until the daemon stops.
pub(super) trait Worker: Send {
    /// Connections that a step uses and an error discards.
    type Session: Send;
    /// Result of a step.
    type Report: Send;

    /// Logged with an error, such as `the feed failed`.
    const FAILURE: &'static str;

    /// True if stopping interrupts a step. An interrupted step must leave no more behind than a
    /// crash does.
    const CAN_INTERRUPT: bool = true;

    /// Waits until there is something to do. Called before every step, with a session or without.
    fn ready(&mut self) -> impl Future<Output = Result<Readiness, SidecarError>> + Send {
        async { Ok(Readiness::Ready) }
    }

    fn open(&mut self) -> impl Future<Output = Result<Self::Session, SidecarError>> + Send;

    fn step(&mut self, session: &mut Self::Session) -> impl Future<Output = Result<Self::Report, SidecarError>> + Send;

    /// Counts the outcome of a step, or an error of [`Worker::ready`] or [`Worker::open`].
    fn record(&mut self, outcome: Result<&Self::Report, &SidecarError>);

    /// Returns the pause after a successful step that took `elapsed`.
    fn pause(&mut self, report: &Self::Report, elapsed: Duration) -> Duration;

    /// Releases everything, once, when the loop has ended.
    fn close(self, session: Option<Self::Session>) -> impl Future<Output = ()> + Send;
}

/// Runs a worker until the daemon stops or the worker has finished.
pub(super) async fn supervise<W: Worker>(mut worker: W, mut stopping: watch::Receiver<bool>) {
    let mut session = None;
    let mut retrier = Retrier::default();
    loop {
        let mut interrupt = stopping.clone();
        let started = Instant::now();
        let outcome = tokio::select! {
            _ = interrupt.wait_for(|stop| *stop), if W::CAN_INTERRUPT => break,
            outcome = attempt(&mut worker, &mut session) => outcome,
        };
        let wait = match outcome {
            Ok(None) => break,
            Ok(Some(report)) => {
                retrier.reset();
                worker.record(Ok(&report));
                worker.pause(&report, started.elapsed())
            }
            Err(error) => {
                session = None;
                worker.record(Err(&error));
                let wait = retrier.delay(&error).unwrap_or_else(|| {
                    retrier.reset();
                    ERROR_BACKOFF
                });
                tracing::error!(error = %Chain(&error), again_in = ?wait, "{}", W::FAILURE);
                wait
            }
        };
        if tokio::time::timeout(wait, stopping.wait_for(|stop| *stop)).await.is_ok() {
            break;
        }
    }
    worker.close(session).await;
}

/// Makes one step; `None` when the worker has finished.
async fn attempt<W: Worker>(
    worker: &mut W,
    session: &mut Option<W::Session>,
) -> Result<Option<W::Report>, SidecarError> {
    match worker.ready().await? {
        Readiness::Ready => {}
        Readiness::Reopen => *session = None,
        Readiness::Finished => return Ok(None),
    }
    let open = match session.take() {
        Some(open) => open,
        None => worker.open().await?,
    };
    worker.step(session.insert(open)).await.map(Some)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Plays a list of outcomes and notes every call.
    struct Script {
        outcomes: Vec<Result<Readiness, SidecarError>>,
        calls: Arc<Mutex<Vec<&'static str>>>,
        /// Keeps a step from ending.
        hangs: bool,
    }

    impl Script {
        fn note(&self, call: &'static str) {
            self.calls.lock().unwrap().push(call);
        }
    }

    impl Worker for Script {
        type Session = ();
        type Report = ();

        const FAILURE: &'static str = "the script failed";

        async fn ready(&mut self) -> Result<Readiness, SidecarError> {
            self.outcomes.remove(0)
        }

        async fn open(&mut self) -> Result<(), SidecarError> {
            self.note("open");
            Ok(())
        }

        async fn step(&mut self, (): &mut ()) -> Result<(), SidecarError> {
            self.note("step");
            if self.hangs {
                std::future::pending::<()>().await;
            }
            Ok(())
        }

        fn record(&mut self, outcome: Result<&(), &SidecarError>) {
            self.note(if outcome.is_ok() { "ok" } else { "error" });
        }

        fn pause(&mut self, (): &(), _: Duration) -> Duration {
            Duration::from_secs(1)
        }

        async fn close(self, session: Option<()>) {
            self.note(if session.is_some() { "close" } else { "close without a session" });
        }
    }

    async fn play(outcomes: Vec<Result<Readiness, SidecarError>>) -> Vec<&'static str> {
        let calls = Arc::default();
        let (_stop, stopping) = watch::channel(false);
        supervise(Script { outcomes, calls: Arc::clone(&calls), hangs: false }, stopping).await;
        calls.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_kept_until_it_is_out_of_date_or_an_error_discards_it() {
        use Readiness::{Finished, Ready, Reopen};
        let lost = SidecarError::Taken { doing: "feeds" };
        let outcomes = vec![Ok(Ready), Ok(Ready), Ok(Reopen), Err(lost), Ok(Ready), Ok(Finished)];
        let expected =
            ["open", "step", "ok", "step", "ok", "open", "step", "ok", "error", "open", "step", "ok", "close"];
        assert_eq!(play(outcomes).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_retrying_does_not_help_is_retried_after_the_long_pause() {
        let started = tokio::time::Instant::now();
        let missing = SidecarError::ExtensionMissing { database: "x".into() };
        let calls = play(vec![Err(missing), Ok(Readiness::Finished)]).await;
        assert_eq!(calls, ["error", "close without a session"]);
        assert_eq!(started.elapsed(), ERROR_BACKOFF);
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_interrupts_a_step_and_closes_the_session() {
        let calls = Arc::default();
        let (stop, stopping) = watch::channel(false);
        let script = Script { outcomes: vec![Ok(Readiness::Ready)], calls: Arc::clone(&calls), hangs: true };
        let task = tokio::spawn(supervise(script, stopping));
        while calls.lock().unwrap().last() != Some(&"step") {
            tokio::task::yield_now().await;
        }
        stop.send(true).unwrap();
        task.await.unwrap();
        assert_eq!(*calls.lock().unwrap(), ["open", "step", "close"]);
    }
}
