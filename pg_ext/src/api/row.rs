//! Rows of set-returning functions.

/// Declares the row of a set-returning function, and `into_row`, which gives the tuple that pgrx
/// expects. Fields are the columns of the function's signature, in the same order.
macro_rules! sql_row {
    ($(#[$attribute:meta])* struct $name:ident { $($column:ident: $type:ty,)+ }) => {
        $(#[$attribute])*
        struct $name {
            $($column: $type,)+
        }

        impl $name {
            #[allow(clippy::type_complexity)]
            fn into_row(self) -> ($($type,)+) {
                let Self { $($column,)+ } = self;
                ($($column,)+)
            }
        }
    };
}

pub(super) use sql_row;
