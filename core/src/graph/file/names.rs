//! Names (addresses of wallets, of tokens) and their numbers: an open hash table over texts that stand one after the other.
//!
//! A slot holds 32 bits of the name's hash and its number plus one; the same bits choose the slot, so a table grows without
//! looking at the texts. A lookup costs three reads of memory on the average: slot, place and text.

use bytemuck::cast;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::graph::budget::Interrupt;
use crate::graph::error::BuildError;
use crate::graph::error::Damaged;
use crate::graph::file::format::Section;
use crate::graph::file::scratch::{Column, Scratch};
use crate::graph::file::writer::{FileWriter, Sink};
use crate::graph::types::NetworkId;

/// The most names: a number and its slot's "plus one" must fit, and [`WalletId::NONE`](crate::graph::WalletId::NONE) is none.
pub const MOST: u64 = u32::MAX as u64 - 2;

/// Elements written between two looks at the interrupt.
const PIECE: usize = 1 << 18;

/// Names for reading.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The texts, one after the other.
    pub text: &'a [u8],
    /// Where each begins, and where the last ends.
    pub places: &'a [u64],
    /// The network of each.
    pub networks: &'a [NetworkId],
    /// The hash table; its length is a power of two.
    pub slots: &'a [u64],
}

fn hash(network: NetworkId, name: &[u8]) -> u32 {
    cast::<u64, [u32; 2]>(xxh3_64_with_seed(name, u64::from(network.get())))[0]
}

impl<'a> Names<'a> {
    /// How many.
    pub const fn len(&self) -> usize {
        self.networks.len()
    }

    /// The text of a number.
    pub fn bytes(&self, number: u32) -> Result<&'a [u8], Damaged> {
        let damaged = Damaged { what: "name out of range" };
        let number = number as usize;
        let (start, end) = match (self.places.get(number), self.places.get(number + 1)) {
            (Some(start), Some(end)) => (*start, *end),
            _ => return Err(damaged),
        };
        let range = usize::try_from(start).map_err(|_| damaged)?..usize::try_from(end).map_err(|_| damaged)?;
        self.text.get(range).ok_or(damaged)
    }

    /// The text of a number, as text.
    pub fn name(&self, number: u32) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.bytes(number)?).map_err(|_| Damaged { what: "name is not UTF-8" })
    }

    /// The number of a name, if it has one.
    pub fn find(&self, network: NetworkId, name: &str) -> Result<Option<u32>, Damaged> {
        find(self, hash(network, name.as_bytes()), network, name)
    }

    /// Whether every slot leads to its name and every name can be found.
    pub fn check(&self) -> Result<(), Damaged> {
        for number in 0..self.len() {
            let number = u32::try_from(number).map_err(|_| Damaged { what: "too many names" })?;
            let network = self.networks[number as usize];
            if self.find(network, self.name(number)?)? != Some(number) {
                return Err(Damaged { what: "name is not in its table" });
            }
        }
        Ok(())
    }
}

fn find(names: &Names<'_>, hash: u32, network: NetworkId, name: &str) -> Result<Option<u32>, Damaged> {
    let mask = names.slots.len().wrapping_sub(1);
    let mut at = hash as usize & mask;
    for _ in 0..names.slots.len() {
        let slot = names.slots[at];
        if slot == 0 {
            return Ok(None);
        }
        if (slot >> 32) as u32 == hash {
            let number = (slot as u32).wrapping_sub(1);
            if names.networks.get(number as usize) == Some(&network) && names.bytes(number)? == name.as_bytes() {
                return Ok(Some(number));
            }
        }
        at = (at + 1) & mask;
    }
    Ok(None)
}

/// Names that grow.
pub struct NamesBuilder<S: Scratch> {
    text: Column<S, u8>,
    places: Column<S, u64>,
    networks: Column<S, NetworkId>,
    slots: Column<S, u64>,
}

impl<S: Scratch> NamesBuilder<S> {
    /// None yet.
    pub fn new(scratch: &S) -> Result<Self, S::Error> {
        let mut places = Column::default();
        places.push(scratch, 0)?;
        Ok(Self { text: Column::default(), places, networks: Column::default(), slots: Column::zeroed(scratch, 64)? })
    }

    /// For reading.
    pub fn names(&self) -> Names<'_> {
        Names {
            text: self.text.as_slice(),
            places: self.places.as_slice(),
            networks: self.networks.as_slice(),
            slots: self.slots.as_slice(),
        }
    }

    /// The number of a name, which is a new one for a new name. `None` when there are [`MOST`] already.
    pub fn number(&mut self, scratch: &S, network: NetworkId, name: &str) -> Result<Option<u32>, S::Error> {
        let hash = hash(network, name.as_bytes());
        // our own table always holds together
        if let Ok(Some(number)) = find(&self.names(), hash, network, name) {
            return Ok(Some(number));
        }
        let number = self.networks.len();
        if number as u64 >= MOST {
            return Ok(None);
        }
        if (number + 1) * 3 > self.slots.len() * 2 {
            self.grow(scratch)?;
        }
        self.text.extend(scratch, name.as_bytes())?;
        self.places.push(scratch, self.text.len() as u64)?;
        self.networks.push(scratch, network)?;
        // A third of the slots is free.
        let _ = insert(self.slots.as_mut_slice(), (u64::from(hash) << 32) | (number as u64 + 1));
        Ok(Some(number as u32))
    }

    fn grow(&mut self, scratch: &S) -> Result<(), S::Error> {
        let mut larger = Column::zeroed(scratch, (self.slots.len() * 2).max(64))?;
        for slot in self.slots.as_slice().iter().filter(|slot| **slot != 0) {
            let _ = insert(larger.as_mut_slice(), *slot);
        }
        self.slots = larger;
        Ok(())
    }
}

/// Names of a file with new ones behind them, on their way into another file.
#[derive(Debug, Clone, Copy)]
pub struct Extended<'a> {
    known: Names<'a>,
    new: &'a [(NetworkId, Box<str>)],
}

impl<'a> Extended<'a> {
    /// The new ones are not among the known ones, and differ.
    pub const fn new(known: Names<'a>, new: &'a [(NetworkId, Box<str>)]) -> Self {
        Self { known, new }
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.known.len() + self.new.len()
    }

    /// Bytes of text, places, networks and slots.
    pub fn sizes(&self) -> [usize; 4] {
        let text = self.new.iter().fold(self.known.text.len(), |sum, (_, name)| sum + name.len());
        [text, (self.len() + 1) * 8, self.len() * 2, self.slots() * 8]
    }

    fn slots(&self) -> usize {
        let mut slots = self.known.slots.len().max(64);
        while self.len() * 3 > slots * 2 {
            slots *= 2;
        }
        slots
    }

    /// Writes the texts.
    pub fn write_text<K: Sink>(
        &self,
        file: &mut FileWriter<'_, K>,
        section: Section,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<K::Error>> {
        let new = self.new.iter().map(|(_, name)| name.as_bytes());
        write(file, section, self.known.text, new, interrupt)
    }

    /// Writes where they begin, and where the last ends.
    pub fn write_places<K: Sink>(
        &self,
        file: &mut FileWriter<'_, K>,
        section: Section,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<K::Error>> {
        let ends = self.new.iter().scan(self.known.text.len() as u64, |end, (_, name)| {
            *end += name.len() as u64;
            Some([*end])
        });
        write(file, section, self.known.places, ends, interrupt)
    }

    /// Writes the networks.
    pub fn write_networks<K: Sink>(
        &self,
        file: &mut FileWriter<'_, K>,
        section: Section,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<K::Error>> {
        write(file, section, self.known.networks, self.new.iter().map(|(network, _)| [*network]), interrupt)
    }

    /// Writes the hash table.
    pub fn write_slots<S: Scratch, K: Sink<Error = S::Error>>(
        &self,
        scratch: &S,
        file: &mut FileWriter<'_, K>,
        section: Section,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<K::Error>> {
        if self.new.is_empty() {
            return file.write(section, self.known.slots, interrupt);
        }
        let mut slots = Column::<S, u64>::zeroed(scratch, self.slots()).map_err(BuildError::Scratch)?;
        let table = slots.as_mut_slice();
        if table.len() == self.known.slots.len() {
            table.copy_from_slice(self.known.slots);
        } else {
            self.known.slots.iter().filter(|slot| **slot != 0).try_for_each(|slot| insert(table, *slot))?;
        }
        for (number, (network, name)) in (self.known.len() as u64 + 1..).zip(self.new) {
            insert(table, (u64::from(hash(*network, name.as_bytes())) << 32) | number)?;
        }
        file.write(section, slots.as_slice(), interrupt)
    }
}

/// Writes what is known, and what is new behind it.
fn write<K: Sink, T: bytemuck::NoUninit>(
    file: &mut FileWriter<'_, K>,
    section: Section,
    known: &[T],
    new: impl Iterator<Item = impl AsRef<[T]>>,
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<K::Error>> {
    let mut out = file.open(section);
    for piece in known.chunks(PIECE) {
        interrupt.should_stop();
        out.extend(piece)?;
    }
    for one in new {
        out.extend(one.as_ref())?;
    }
    file.close(out)
}

/// Fills the first free slot. Only the table of a damaged file has none.
fn insert(slots: &mut [u64], slot: u64) -> Result<(), Damaged> {
    let mask = slots.len().wrapping_sub(1);
    let mut at = (slot >> 32) as usize & mask;
    for _ in 0..slots.len() {
        if slots[at] == 0 {
            slots[at] = slot;
            return Ok(());
        }
        at = (at + 1) & mask;
    }
    Err(Damaged { what: "table of names is full" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::file::scratch::HeapScratch;

    #[test]
    fn a_full_table_is_damaged() {
        let mut slots = [1, 0, 3, 4];
        assert_eq!(insert(&mut slots, 2 << 32 | 5), Ok(()));
        assert_eq!(slots, [1, 2 << 32 | 5, 3, 4]);
        assert!(insert(&mut slots, 6).is_err());
    }

    #[test]
    fn names_keep_their_numbers_while_the_table_grows() {
        let scratch = HeapScratch;
        let mut builder = NamesBuilder::new(&scratch).unwrap();
        let name = |i: u32| format!("wallet-{i}");
        for i in 0..5_000_u32 {
            assert_eq!(builder.number(&scratch, NetworkId::new((i % 3) as u16), &name(i)), Ok(Some(i)));
        }
        let names = builder.names();
        assert_eq!(names.check(), Ok(()));
        for i in 0..5_000_u32 {
            assert_eq!(names.find(NetworkId::new((i % 3) as u16), &name(i)), Ok(Some(i)));
            assert_eq!(names.find(NetworkId::new(((i + 1) % 3) as u16), &name(i)), Ok(None));
            assert_eq!(names.name(i), Ok(name(i).as_str()));
        }
        assert_eq!(names.find(NetworkId::new(0), "unknown"), Ok(None));
        assert!(names.name(5_000).is_err());
    }
}
