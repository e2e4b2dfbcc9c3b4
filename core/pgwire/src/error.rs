use thiserror::Error;

/// A value that is malformed, or that its target cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PgWireError {
    /// NaN or an infinity.
    #[error("value is not a finite number")]
    NotFinite,
    #[error("value is negative")]
    Negative,
    #[error("value is out of range: at most {max} units")]
    TooLarge { max: &'static str },
    /// More digits after the point than the unit has.
    #[error("value has more decimals than its unit")]
    TooFine,
    /// Characters other than digits.
    #[error("value is not a whole number")]
    NotAnInteger,
    /// Bytes that are not a `numeric`.
    #[error("value cannot be read")]
    MalformedNumeric,
    /// A tuple, field or array that ends early.
    #[error("it is cut short")]
    Truncated,
    #[error("a value is missing")]
    UnexpectedNull,
    #[error("a number has the wrong length")]
    WrongLength,
    #[error("a text is not UTF-8; the database must be encoded in UTF8")]
    NotUtf8,
    #[error("snapshot cannot be read")]
    MalformedSnapshot,
}
