//! Arguments of type `text[]`, read in place.
//!
//! pgrx takes the elements of an array for UTF-8 without looking. Here they are checked, and the
//! array is measured before anything is allocated for it.

#![allow(unsafe_code, reason = "reads the datum of an argument")]

use std::marker::PhantomData;
use std::ptr::NonNull;

use pgrx::array::RawArray;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};

use super::datum::raw_datum;
use crate::error::SqlError;
use crate::guc;
use crate::memory::reserve;
use crate::spi::varlena;

/// Largest number of elements of an array argument.
const MAX_ELEMENTS: usize = 10_000_000;

/// Bytes that an element takes in addition to its text: the server's pointer to it and its flag,
/// and the slice.
const ELEMENT_BYTES: usize = 32;

/// An argument of type `text[]`, alive until the function returns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextArray<'fcx>(NonNull<pg_sys::ArrayType>, PhantomData<&'fcx ()>);

impl<'fcx> TextArray<'fcx> {
    /// Reads the elements. The array must not have more than [`MAX_ELEMENTS`], and must fit into
    /// `arx.graph_work_mem`. `name` is the argument's.
    pub(crate) fn elements(self, name: &str) -> Result<Vec<Option<&'fcx str>>, SqlError> {
        // SAFETY: An array whose header is complete.
        let (count, bytes) =
            unsafe { (RawArray::from_ptr(self.0).len(), pgrx::varsize_any(self.0.as_ptr().cast_const().cast())) };
        if count > MAX_ELEMENTS {
            return Err(SqlError::limit(format!(
                "{name} has {count} elements, and at most {MAX_ELEMENTS} are allowed"
            ))
            .hint("Pass the elements by several calls."));
        }
        let needed = bytes + count * ELEMENT_BYTES;
        if needed > guc::graph_work_mem() {
            return Err(SqlError::limit(format!("{name} needs {needed} bytes, more than arx.graph_work_mem allows"))
                .detail(format!("It has {count} elements."))
                .hint("Pass the elements by several calls, or raise arx.graph_work_mem."));
        }
        let mut elements = Vec::new();
        reserve(&mut elements, count)?;
        for (value, is_null) in self.data() {
            // SAFETY: An element that is not NULL, within the array.
            let text = (!is_null).then(|| std::str::from_utf8(unsafe { varlena(*value) })).transpose();
            elements.push(text.map_err(|_| SqlError::argument(format!("an element of {name} is not UTF-8")))?);
        }
        Ok(elements)
    }

    /// Returns the elements, and for each whether it is NULL.
    fn data(&self) -> impl Iterator<Item = (&'fcx pg_sys::Datum, &'fcx bool)> {
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        let alignment = pg_sys::TYPALIGN_INT.cast_signed();
        // SAFETY: An array of texts. The server allocates both results with `count` elements, in
        // the memory of this call.
        unsafe {
            pg_sys::deconstruct_array(
                self.0.as_ptr(),
                pg_sys::TEXTOID,
                -1,
                false,
                alignment,
                &raw mut values,
                &raw mut nulls,
                &raw mut count,
            );
            let count = usize::try_from(count).unwrap_or(0);
            let (values, nulls): (&[_], &[_]) = if count == 0 {
                (&[], &[])
            } else {
                (std::slice::from_raw_parts(values, count), std::slice::from_raw_parts(nulls, count))
            };
            values.iter().zip(nulls)
        }
    }
}

// SAFETY: The datum is that of a `text[]`, as the SQL signature says.
unsafe impl<'fcx> ArgAbi<'fcx> for TextArray<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: An argument that is not NULL is a pointer, and unpacking it gives another.
        unsafe {
            let datum = raw_datum(arg).cast_mut_ptr();
            Self(NonNull::new_unchecked(pg_sys::pg_detoast_datum(datum).cast()), PhantomData)
        }
    }
}

// SAFETY: Arguments of this type are arrays of text.
unsafe impl SqlTranslatable for TextArray<'_> {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(TextArray);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("text[]"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("text[]")));
}
