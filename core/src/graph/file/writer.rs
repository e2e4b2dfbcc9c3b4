//! A graph's file as it is written: each section from its start to its end, several of them side by side. Nothing is kept but a
//! buffer a section, so what is written goes through the processor's caches once.

use bytemuck::NoUninit;
use xxhash_rust::xxh3::Xxh3;

use crate::graph::budget::Interrupt;
use crate::graph::error::BuildError;
use crate::graph::error::Damaged;
use crate::graph::file::format::{Layout, SECTIONS, Section};

/// A section's buffer: small enough that those of all that are open together stay in the second-level cache.
const BUFFER_BYTES: usize = 1 << 17;

/// Elements of a section that is at hand as a whole, between two looks at the interrupt.
const ELEMENTS: usize = 1 << 18;

/// Where a file's bytes go.
pub trait Sink {
    /// Why they cannot.
    type Error: std::error::Error;

    /// Makes room for a file of so many zeros.
    ///
    /// # Errors
    /// When there is no room.
    fn begin(&self, length: usize) -> Result<(), Self::Error>;

    /// Puts bytes at a place.
    ///
    /// # Errors
    /// When they cannot be put there.
    fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// A file that is being written.
pub struct FileWriter<'w, K: Sink> {
    sink: &'w K,
    layout: Layout,
    hashes: [u64; SECTIONS],
}

/// A section that is being written.
pub struct SectionWriter<'w, K: Sink, T> {
    sink: &'w K,
    section: Section,
    at: usize,
    end: usize,
    buffer: Vec<T>,
    room: usize,
    hasher: Box<Xxh3>,
}

impl<'w, K: Sink> FileWriter<'w, K> {
    /// With sections of so many bytes.
    pub fn begin(sink: &'w K, bytes: &[usize; SECTIONS]) -> Result<Self, BuildError<K::Error>> {
        let layout = Layout::new(bytes);
        sink.begin(layout.length()).map_err(BuildError::Sink)?;
        Ok(Self { sink, layout, hashes: [0; SECTIONS] })
    }

    /// Opens a section. Each is to be written once, and closed.
    pub fn open<T: NoUninit>(&self, section: Section) -> SectionWriter<'w, K, T> {
        let range = self.layout.range(section);
        let room = BUFFER_BYTES / size_of::<T>();
        let (at, end) = (range.start, range.end);
        let buffer = Vec::with_capacity(room);
        SectionWriter { sink: self.sink, section, at, end, buffer, room, hasher: Box::default() }
    }

    /// Closes a section.
    pub fn close<T: NoUninit>(&mut self, mut section: SectionWriter<'w, K, T>) -> Result<(), BuildError<K::Error>> {
        section.flush()?;
        if section.at != section.end {
            return Err(Damaged { what: "a section is not as long as was planned" }.into());
        }
        self.hashes[section.section as usize] = section.hasher.digest();
        Ok(())
    }

    /// Writes a section that is at hand as a whole.
    pub fn write<T: NoUninit>(
        &mut self,
        section: Section,
        elements: &[T],
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<K::Error>> {
        let mut writer = self.open(section);
        for piece in elements.chunks(ELEMENTS) {
            interrupt.should_stop();
            writer.extend(piece)?;
        }
        self.close(writer)
    }

    /// Writes the header, when all sections are closed.
    pub fn seal(self) -> Result<(), BuildError<K::Error>> {
        self.sink.write_at(0, &self.layout.header(&self.hashes)).map_err(BuildError::Sink)
    }
}

impl<K: Sink, T: NoUninit> SectionWriter<'_, K, T> {
    /// Appends an element.
    #[inline]
    pub fn push(&mut self, element: T) -> Result<(), BuildError<K::Error>> {
        if self.buffer.len() == self.room {
            self.flush()?;
        }
        self.buffer.push(element);
        Ok(())
    }

    /// Appends elements.
    pub fn extend(&mut self, elements: &[T]) -> Result<(), BuildError<K::Error>> {
        if self.buffer.len() + elements.len() > self.room {
            self.flush()?;
            if elements.len() >= self.room {
                return self.put(bytemuck::cast_slice(elements));
            }
        }
        self.buffer.extend_from_slice(elements);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BuildError<K::Error>> {
        let buffer = std::mem::take(&mut self.buffer);
        let put = self.put(bytemuck::cast_slice(&buffer));
        self.buffer = buffer;
        self.buffer.clear();
        put
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BuildError<K::Error>> {
        if bytes.len() > self.end - self.at {
            return Err(Damaged { what: "a section is longer than was planned" }.into());
        }
        // what is hashed first is in the cache when it is copied
        for piece in bytes.chunks(BUFFER_BYTES) {
            self.hasher.update(piece);
            self.sink.write_at(self.at, piece).map_err(BuildError::Sink)?;
            self.at += piece.len();
        }
        Ok(())
    }
}
