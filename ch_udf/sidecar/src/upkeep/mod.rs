//! Upkeep that cannot run inside a function of PostgreSQL: index builds, DETACH CONCURRENTLY,
//! archives of partitions, and the schedules where there is no pg_cron.
//!
//! What is due, its order and its state belong to PostgreSQL
//! (`sql/postgres/90_maintenance_queue.sql`): a process that is killed leaves a task that the next
//! one takes again.

mod archive;
mod queue;
mod schedules;

pub(crate) use archive::restore;
pub(crate) use queue::{Finished, Outcome, run_queue, waiting_statements};
pub(crate) use schedules::run_schedules;
