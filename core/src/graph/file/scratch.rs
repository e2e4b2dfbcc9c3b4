//! Working memory of a build: the heap, or files that the caller maps.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ops::DerefMut;

use bytemuck::{AnyBitPattern, NoUninit};
use thiserror::Error;

use crate::graph::file::writer::Sink;

/// An allocator of zeroed memory.
pub trait Scratch {
    /// A piece of memory, aligned to 64 bytes.
    type Buffer: DerefMut<Target = [u8]>;
    /// Error of a failed allocation.
    type Error: std::error::Error;

    /// Allocates at least `bytes` zeroed bytes.
    ///
    /// # Errors
    /// When there is no more memory.
    fn allocate(&self, bytes: usize) -> Result<Self::Buffer, Self::Error>;

    /// Extends a buffer to at least `bytes` bytes, zeroed where they are new. Copies, unless the
    /// implementation has a better way.
    ///
    /// # Errors
    /// When there is no more memory.
    fn grow(&self, buffer: Self::Buffer, bytes: usize) -> Result<Self::Buffer, Self::Error> {
        let mut larger = self.allocate(bytes)?;
        larger[..buffer.len()].copy_from_slice(&buffer);
        Ok(larger)
    }
}

/// Memory of the heap.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeapScratch;

/// The heap could not provide memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("out of memory")]
pub struct OutOfMemory;

/// A piece of the heap, aligned to 64 bytes.
#[derive(Debug)]
pub struct HeapBuffer(Vec<CacheLine>);

#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

impl std::ops::Deref for HeapBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl DerefMut for HeapBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

impl Scratch for HeapScratch {
    type Buffer = HeapBuffer;
    type Error = OutOfMemory;

    fn allocate(&self, bytes: usize) -> Result<HeapBuffer, OutOfMemory> {
        Ok(HeapBuffer(vec![CacheLine([0; 64]); bytes.div_ceil(64)]))
    }
}

/// A file on the heap.
#[derive(Debug, Default)]
pub struct HeapSink(RefCell<Option<HeapBuffer>>, Cell<usize>);

impl HeapSink {
    /// Returns the file and its length; the buffer may be longer.
    #[must_use]
    pub fn into_file(self) -> (HeapBuffer, usize) {
        (self.0.into_inner().unwrap_or_else(|| HeapBuffer(Vec::new())), self.1.get())
    }
}

impl Sink for HeapSink {
    type Error = OutOfMemory;

    fn begin(&self, length: usize) -> Result<(), OutOfMemory> {
        self.1.set(length);
        self.0.replace(Some(HeapScratch.allocate(length)?));
        Ok(())
    }

    fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfMemory> {
        let mut file = self.0.borrow_mut();
        let target = file.as_mut().and_then(|file| file.get_mut(offset..offset + bytes.len()));
        target.ok_or(OutOfMemory)?.copy_from_slice(bytes);
        Ok(())
    }
}

/// A vector in scratch memory. Its capacity doubles when it grows, so appending is O(1) amortised.
pub(crate) struct Column<S: Scratch, T> {
    buffer: Option<S::Buffer>,
    length: usize,
    element: PhantomData<T>,
}

impl<S: Scratch, T> Default for Column<S, T> {
    fn default() -> Self {
        Self { buffer: None, length: 0, element: PhantomData }
    }
}

impl<S: Scratch, T: NoUninit + AnyBitPattern> Column<S, T> {
    /// Bytes of the first allocation.
    const MIN_BYTES: usize = 4096;

    /// Creates a column of `length` zeros.
    pub(crate) fn zeroed(scratch: &S, length: usize) -> Result<Self, S::Error> {
        let buffer = scratch.allocate(length * size_of::<T>())?;
        Ok(Self { buffer: Some(buffer), length, element: PhantomData })
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        self.buffer.as_ref().map_or(&[], |buffer| bytemuck::cast_slice(&buffer[..self.length * size_of::<T>()]))
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        let bytes = self.length * size_of::<T>();
        self.buffer.as_mut().map_or(&mut [], |buffer| bytemuck::cast_slice_mut(&mut buffer[..bytes]))
    }

    pub(crate) fn push(&mut self, scratch: &S, value: T) -> Result<(), S::Error> {
        self.extend(scratch, std::slice::from_ref(&value))
    }

    pub(crate) fn extend(&mut self, scratch: &S, values: &[T]) -> Result<(), S::Error> {
        let (start, added) = (self.length * size_of::<T>(), size_of_val(values));
        let capacity = self.buffer.as_ref().map_or(0, |buffer| buffer.len());
        if start + added > capacity {
            let bytes = (capacity * 2).max(start + added).max(Self::MIN_BYTES);
            self.buffer = Some(match self.buffer.take() {
                Some(buffer) => scratch.grow(buffer, bytes)?,
                None => scratch.allocate(bytes)?,
            });
        }
        if let Some(buffer) = &mut self.buffer {
            buffer[start..start + added].copy_from_slice(bytemuck::cast_slice(values));
        }
        self.length += values.len();
        Ok(())
    }
}
