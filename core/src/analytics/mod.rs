//! Analytics questions with a name: a small, fixed catalogue. Owns the names, the parameters with
//! their types, bounds and defaults, the columns of the answers, and the exactness of a warehouse
//! that answers in place of the database of record. The text of a question belongs to each store.
//!
//! [`Request::parse`] checks everything that a client sends, so that the stores only bind values.

mod catalogue;
mod request;

pub use catalogue::{CATALOGUE, Column, ColumnKind, Exactness, Parameter, Query, QueryId, Topic, query};
pub use request::{Arguments, MAX_DAYS, MAX_LIMIT, Request, RequestError, Wanted};
