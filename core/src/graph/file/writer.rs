//! Writing a graph file: each section from its start to its end, several of them at the same time.
//! Only a buffer per section is kept, so written data passes through the processor's caches once.

use bytemuck::NoUninit;
use xxhash_rust::xxh3::Xxh3;

use crate::graph::budget::Interrupt;
use crate::graph::error::{BuildError, Damaged};
use crate::graph::file::format::{FileLayout, SECTIONS, Section};

/// Buffer of a section, small enough for the buffers of all open sections to stay in the
/// second-level cache.
const BUFFER_BYTES: usize = 1 << 17;

/// Elements of a complete section written between two cancellation checks.
const ELEMENTS_PER_CHECK: usize = 1 << 18;

/// Destination of a file's bytes.
pub trait Sink {
    /// Error of a failed write.
    type Error: std::error::Error;

    /// Allocates a file of `length` zeros.
    ///
    /// # Errors
    /// When there is no room.
    fn begin(&self, length: usize) -> Result<(), Self::Error>;

    /// Writes bytes at an offset.
    ///
    /// # Errors
    /// When they cannot be written.
    fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// A file that is being written.
pub(crate) struct FileWriter<'w, K: Sink> {
    sink: &'w K,
    layout: FileLayout,
    checksums: [u64; SECTIONS],
}

/// A section that is being written.
pub(crate) struct SectionWriter<'w, K: Sink, T> {
    sink: &'w K,
    section: Section,
    position: usize,
    end: usize,
    buffer: Vec<T>,
    capacity: usize,
    hasher: Box<Xxh3>,
}

impl<'w, K: Sink> FileWriter<'w, K> {
    /// Begins a file with sections of the given sizes in bytes.
    pub(crate) fn begin(sink: &'w K, sizes: &[usize; SECTIONS]) -> Result<Self, BuildError<K::Error>> {
        let layout = FileLayout::new(sizes);
        sink.begin(layout.length()).map_err(BuildError::Sink)?;
        Ok(Self { sink, layout, checksums: [0; SECTIONS] })
    }

    /// Opens a section. Every section must be written and closed once.
    pub(crate) fn open<T: NoUninit>(&self, section: Section) -> SectionWriter<'w, K, T> {
        let range = self.layout.range(section);
        let capacity = BUFFER_BYTES / size_of::<T>();
        let (position, end) = (range.start, range.end);
        let buffer = Vec::with_capacity(capacity);
        SectionWriter { sink: self.sink, section, position, end, buffer, capacity, hasher: Box::default() }
    }

    pub(crate) fn close<T: NoUninit>(
        &mut self,
        mut section: SectionWriter<'w, K, T>,
    ) -> Result<(), BuildError<K::Error>> {
        section.flush()?;
        if section.position != section.end {
            return Err(Damaged { what: "section is shorter than planned" }.into());
        }
        self.checksums[section.section as usize] = section.hasher.digest();
        Ok(())
    }

    /// Writes a complete section.
    pub(crate) fn write<T: NoUninit>(
        &mut self,
        section: Section,
        elements: &[T],
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<K::Error>> {
        let mut writer = self.open(section);
        for chunk in elements.chunks(ELEMENTS_PER_CHECK) {
            interrupt.should_stop();
            writer.extend(chunk)?;
        }
        self.close(writer)
    }

    /// Writes the header, once all sections are closed.
    pub(crate) fn seal(self) -> Result<(), BuildError<K::Error>> {
        self.sink.write_at(0, &self.layout.header(&self.checksums)).map_err(BuildError::Sink)
    }
}

impl<K: Sink, T: NoUninit> SectionWriter<'_, K, T> {
    #[inline]
    pub(crate) fn push(&mut self, element: T) -> Result<(), BuildError<K::Error>> {
        if self.buffer.len() == self.capacity {
            self.flush()?;
        }
        self.buffer.push(element);
        Ok(())
    }

    pub(crate) fn extend(&mut self, elements: &[T]) -> Result<(), BuildError<K::Error>> {
        if self.buffer.len() + elements.len() > self.capacity {
            self.flush()?;
            if elements.len() >= self.capacity {
                return self.put(bytemuck::cast_slice(elements));
            }
        }
        self.buffer.extend_from_slice(elements);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BuildError<K::Error>> {
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.put(bytemuck::cast_slice(&buffer));
        self.buffer = buffer;
        self.buffer.clear();
        result
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BuildError<K::Error>> {
        if bytes.len() > self.end - self.position {
            return Err(Damaged { what: "section is longer than planned" }.into());
        }
        // Hashing first leaves a chunk in the cache for the copy.
        for chunk in bytes.chunks(BUFFER_BYTES) {
            self.hasher.update(chunk);
            self.sink.write_at(self.position, chunk).map_err(BuildError::Sink)?;
            self.position += chunk.len();
        }
        Ok(())
    }
}
