//! Upkeep that cannot run inside a function of PostgreSQL: index builds, DETACH CONCURRENTLY,
//! archives of partitions, and the schedules where there is no pg_cron.
//!
//! The queue of tasks, their order and their states are in PostgreSQL
//! (`sql/postgres/90_maintenance_queue.sql`). If a process is killed, the next one takes its task.

mod archive;
mod queue;
mod schedules;

pub(crate) use archive::restore;
pub(crate) use queue::{Finished, Outcome, run_queue, waiting_statements};
pub(crate) use schedules::run_schedules;
