//! Memory that a build works in, wherever it comes from: the heap, or files that the caller maps.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ops::DerefMut;

use bytemuck::{AnyBitPattern, NoUninit};
use thiserror::Error;

use crate::graph::file::writer::Sink;

/// Hands out zeroed memory.
pub trait Scratch {
    /// A piece of memory, aligned to 64 bytes.
    type Buffer: DerefMut<Target = [u8]>;
    /// Why there is none.
    type Error: std::error::Error;

    /// At least `bytes` zeroed bytes.
    ///
    /// # Errors
    /// When there is no more.
    fn allocate(&self, bytes: usize) -> Result<Self::Buffer, Self::Error>;

    /// The same bytes with room for more behind them: at least `bytes` in all, zeroed where they are new. Copies, where the
    /// memory knows no better way.
    ///
    /// # Errors
    /// When there is no more.
    fn grow(&self, buffer: Self::Buffer, bytes: usize) -> Result<Self::Buffer, Self::Error> {
        let mut larger = self.allocate(bytes)?;
        larger[..buffer.len()].copy_from_slice(&buffer);
        Ok(larger)
    }
}

/// Memory of the heap.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeapScratch;

/// The heap refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("out of memory")]
pub struct OutOfMemory;

/// A piece of the heap, aligned to 64 bytes.
#[derive(Debug)]
pub struct HeapBuffer(Vec<Line>);

#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

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
        Ok(HeapBuffer(vec![Line([0; 64]); bytes.div_ceil(64)]))
    }
}

/// A file on the heap.
#[derive(Debug, Default)]
pub struct HeapSink(RefCell<Option<HeapBuffer>>, Cell<usize>);

impl HeapSink {
    /// What was written, with its length; the buffer may be longer.
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
        let place = file.as_mut().and_then(|file| file.get_mut(offset..offset + bytes.len()));
        place.ok_or(OutOfMemory)?.copy_from_slice(bytes);
        Ok(())
    }
}

/// A vector in scratch memory. It doubles when it grows, so appending is O(1) amortised.
pub struct Column<S: Scratch, T> {
    buffer: Option<S::Buffer>,
    length: usize,
    of: PhantomData<T>,
}

impl<S: Scratch, T> Default for Column<S, T> {
    fn default() -> Self {
        Self { buffer: None, length: 0, of: PhantomData }
    }
}

impl<S: Scratch, T: NoUninit + AnyBitPattern> Column<S, T> {
    /// Smallest piece asked for.
    const FIRST: usize = 4096;

    /// `length` zeros.
    pub fn zeroed(scratch: &S, length: usize) -> Result<Self, S::Error> {
        let buffer = scratch.allocate(length * size_of::<T>())?;
        Ok(Self { buffer: Some(buffer), length, of: PhantomData })
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn as_slice(&self) -> &[T] {
        self.buffer.as_ref().map_or(&[], |buffer| bytemuck::cast_slice(&buffer[..self.length * size_of::<T>()]))
    }

    pub fn as_mut_slice(&mut self) -> &mut [T] {
        let bytes = self.length * size_of::<T>();
        self.buffer.as_mut().map_or(&mut [], |buffer| bytemuck::cast_slice_mut(&mut buffer[..bytes]))
    }

    pub fn push(&mut self, scratch: &S, value: T) -> Result<(), S::Error> {
        self.extend(scratch, std::slice::from_ref(&value))
    }

    pub fn extend(&mut self, scratch: &S, values: &[T]) -> Result<(), S::Error> {
        let (start, added) = (self.length * size_of::<T>(), size_of_val(values));
        let room = self.buffer.as_ref().map_or(0, |buffer| buffer.len());
        if start + added > room {
            let bytes = (room * 2).max(start + added).max(Self::FIRST);
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
