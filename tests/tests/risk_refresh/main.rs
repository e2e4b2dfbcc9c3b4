//! Refreshing risk scores. After any changes to transactions, labels, overrides and models, in any
//! order and by several sessions, a refresh leaves in the profiles the scores that scoring every
//! wallet gives. A refresh may be killed, and may run concurrently with others.

mod changes;
mod concurrency;
mod fixture;
mod histories;
