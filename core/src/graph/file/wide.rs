//! The tables of wide values and positions while a file is built.

use crate::graph::budget::Interrupt;
use crate::graph::error::BuildError;
use crate::graph::file::format::{SECTIONS, Section};
use crate::graph::file::packed::{WidePosition, WideSlices, WideTables};
use crate::graph::file::scratch::{Column, Scratch};
use crate::graph::file::writer::{FileWriter, Sink};

/// The tables in scratch memory.
pub(crate) struct WideStore<S: Scratch> {
    values_128: Column<S, [u64; 2]>,
    values_256: Column<S, [u64; 4]>,
    positions: Column<S, WidePosition>,
}

/// The tables with the scratch memory in which they grow.
pub(crate) struct GrowingStore<'s, S: Scratch> {
    scratch: &'s S,
    store: &'s mut WideStore<S>,
}

impl<S: Scratch> Default for WideStore<S> {
    fn default() -> Self {
        Self { values_128: Column::default(), values_256: Column::default(), positions: Column::default() }
    }
}

impl<S: Scratch> WideStore<S> {
    pub(crate) fn copy(scratch: &S, wide: &WideSlices<'_>) -> Result<Self, S::Error> {
        let mut store = Self::default();
        store.values_128.extend(scratch, wide.values_128)?;
        store.values_256.extend(scratch, wide.values_256)?;
        store.positions.extend(scratch, wide.positions)?;
        Ok(store)
    }

    pub(crate) fn slices(&self) -> WideSlices<'_> {
        WideSlices {
            values_128: self.values_128.as_slice(),
            values_256: self.values_256.as_slice(),
            positions: self.positions.as_slice(),
        }
    }

    pub(crate) const fn growing<'s>(&'s mut self, scratch: &'s S) -> GrowingStore<'s, S> {
        GrowingStore { scratch, store: self }
    }

    pub(crate) const fn sizes(&self, bytes: &mut [usize; SECTIONS]) {
        bytes[Section::Values128 as usize] = self.values_128.len() * 16;
        bytes[Section::Values256 as usize] = self.values_256.len() * 32;
        bytes[Section::Positions as usize] = self.positions.len() * size_of::<WidePosition>();
    }

    pub(crate) fn write<K: Sink>(
        &self,
        file: &mut FileWriter<'_, K>,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<K::Error>> {
        file.write(Section::Values128, self.values_128.as_slice(), interrupt)?;
        file.write(Section::Values256, self.values_256.as_slice(), interrupt)?;
        file.write(Section::Positions, self.positions.as_slice(), interrupt)
    }
}

impl<S: Scratch> WideTables for GrowingStore<'_, S> {
    type Error = S::Error;

    fn push_128(&mut self, value: [u64; 2]) -> Result<u64, S::Error> {
        self.store.values_128.push(self.scratch, value)?;
        Ok(self.store.values_128.len() as u64 - 1)
    }

    fn set_128(&mut self, index: u64, value: [u64; 2]) {
        if let Some(entry) = self.store.values_128.as_mut_slice().get_mut(index as usize) {
            *entry = value;
        }
    }

    fn push_256(&mut self, value: [u64; 4]) -> Result<u64, S::Error> {
        self.store.values_256.push(self.scratch, value)?;
        Ok(self.store.values_256.len() as u64 - 1)
    }

    fn push_position(&mut self, position: WidePosition) -> Result<u64, S::Error> {
        self.store.positions.push(self.scratch, position)?;
        Ok(self.store.positions.len() as u64 - 1)
    }
}
