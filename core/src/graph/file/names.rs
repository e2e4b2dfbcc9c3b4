//! Names (addresses of wallets or of tokens) and their numbers: an open-addressing hash table over
//! concatenated texts.
//!
//! The low bits of a name's 64-bit hash choose its slot, which holds the high 32 bits as a tag and
//! the number plus one. So the tag distinguishes names in a table of any size, and a text is read
//! only for the right one, but for one name in 2^32. A lookup takes three memory accesses on
//! average: slot, offset, text. A table that grows reads the texts, in their order.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::graph::budget::Interrupt;
use crate::graph::error::{BuildError, Damaged};
use crate::graph::file::format::Section;
use crate::graph::file::scratch::{Column, Scratch};
use crate::graph::file::writer::{FileWriter, Sink};
use crate::graph::types::NetworkId;

/// Maximum number of names: `number + 1` must fit into a slot, and
/// [`WalletId::NONE`](crate::graph::WalletId::NONE) is reserved.
pub(crate) const MAX_NAMES: u64 = u32::MAX as u64 - 2;

/// Slots of the smallest table.
const MIN_SLOTS: usize = 64;

/// Elements written between two cancellation checks.
const ELEMENTS_PER_CHECK: usize = 1 << 18;

/// A name that is not in a file yet, with its network.
pub(crate) type NewName = (NetworkId, Box<str>);

/// Names for reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'a> {
    /// The concatenated texts.
    pub text: &'a [u8],
    /// Start of each text, and the end of the last one.
    pub offsets: &'a [u64],
    /// Network of each name.
    pub networks: &'a [NetworkId],
    /// The hash table; its length is a power of two.
    pub slots: &'a [u64],
    /// Seed of the hash. Who does not know it cannot choose names that share a slot.
    pub seed: u64,
}

fn hash(seed: u64, network: NetworkId, name: &[u8]) -> u64 {
    xxh3_64_with_seed(name, seed.wrapping_add(u64::from(network.get())))
}

/// Returns the part of a hash that a slot holds.
const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl<'a> Names<'a> {
    pub(crate) const fn len(&self) -> usize {
        self.networks.len()
    }

    /// Returns a name as bytes.
    pub(crate) fn bytes(&self, number: u32) -> Result<&'a [u8], Damaged> {
        let damaged = Damaged { what: "name out of range" };
        let number = number as usize;
        let (start, end) = match (self.offsets.get(number), self.offsets.get(number + 1)) {
            (Some(start), Some(end)) => (*start, *end),
            _ => return Err(damaged),
        };
        let range = usize::try_from(start).map_err(|_| damaged)?..usize::try_from(end).map_err(|_| damaged)?;
        self.text.get(range).ok_or(damaged)
    }

    pub(crate) fn name(&self, number: u32) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.bytes(number)?).map_err(|_| Damaged { what: "name is not UTF-8" })
    }

    /// Returns the number of a name.
    pub(crate) fn find(&self, network: NetworkId, name: &str) -> Result<Option<u32>, Damaged> {
        self.find_hashed(hash(self.seed, network, name.as_bytes()), network, name)
    }

    /// Returns the hash of a name of the table.
    fn hash_of(&self, number: u32) -> Result<u64, Damaged> {
        let network = self.networks.get(number as usize).ok_or(Damaged { what: "name out of range" })?;
        Ok(hash(self.seed, *network, self.bytes(number)?))
    }

    fn find_hashed(&self, hash: u64, network: NetworkId, name: &str) -> Result<Option<u32>, Damaged> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut index = hash as usize & mask;
        for _ in 0..self.slots.len() {
            let slot = self.slots[index];
            if slot == 0 {
                return Ok(None);
            }
            if (slot >> 32) as u32 == tag(hash) {
                let number = (slot as u32).wrapping_sub(1);
                if self.networks.get(number as usize) == Some(&network) && self.bytes(number)? == name.as_bytes() {
                    return Ok(Some(number));
                }
            }
            index = (index + 1) & mask;
        }
        Ok(None)
    }

    /// Checks that the table finds every name.
    pub(crate) fn check(&self) -> Result<(), Damaged> {
        for number in 0..self.len() {
            let number = u32::try_from(number).map_err(|_| Damaged { what: "too many names" })?;
            let network = self.networks[number as usize];
            if self.find(network, self.name(number)?)? != Some(number) {
                return Err(Damaged { what: "name is not in its hash table" });
            }
        }
        Ok(())
    }
}

/// Names that grow in scratch memory.
pub(crate) struct NamesBuilder<S: Scratch> {
    text: Column<S, u8>,
    offsets: Column<S, u64>,
    networks: Column<S, NetworkId>,
    slots: Column<S, u64>,
    seed: u64,
}

impl<S: Scratch> NamesBuilder<S> {
    pub(crate) fn new(scratch: &S, seed: u64) -> Result<Self, S::Error> {
        let mut offsets = Column::default();
        offsets.push(scratch, 0)?;
        let slots = Column::zeroed(scratch, MIN_SLOTS)?;
        Ok(Self { text: Column::default(), offsets, networks: Column::default(), slots, seed })
    }

    pub(crate) fn names(&self) -> Names<'_> {
        Names {
            text: self.text.as_slice(),
            offsets: self.offsets.as_slice(),
            networks: self.networks.as_slice(),
            slots: self.slots.as_slice(),
            seed: self.seed,
        }
    }

    /// Returns the number of a name, which it adds if it is new. Returns `None` if there are
    /// [`MAX_NAMES`] already.
    pub(crate) fn number(&mut self, scratch: &S, network: NetworkId, name: &str) -> Result<Option<u32>, S::Error> {
        let hash = hash(self.seed, network, name.as_bytes());
        // A table that was built here is never damaged.
        if let Ok(Some(number)) = self.names().find_hashed(hash, network, name) {
            return Ok(Some(number));
        }
        let number = self.networks.len();
        if number as u64 >= MAX_NAMES {
            return Ok(None);
        }
        if is_full(number + 1, self.slots.len()) {
            self.grow(scratch)?;
        }
        self.text.extend(scratch, name.as_bytes())?;
        self.offsets.push(scratch, self.text.len() as u64)?;
        self.networks.push(scratch, network)?;
        // A third of the slots is free.
        let _ = insert(self.slots.as_mut_slice(), hash, number as u64);
        Ok(Some(number as u32))
    }

    fn grow(&mut self, scratch: &S) -> Result<(), S::Error> {
        let mut larger = Column::zeroed(scratch, (self.slots.len() * 2).max(MIN_SLOTS))?;
        for number in 0..self.networks.len() {
            // Names that were added here are never damaged.
            if let Ok(hash) = self.names().hash_of(number as u32) {
                let _ = insert(larger.as_mut_slice(), hash, number as u64);
            }
        }
        self.slots = larger;
        Ok(())
    }
}

/// Names of a file followed by new ones, to be written into another file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extended<'a> {
    old: Names<'a>,
    new: &'a [NewName],
}

impl<'a> Extended<'a> {
    /// `new` must be distinct and not among `old`.
    pub(crate) const fn new(old: Names<'a>, new: &'a [NewName]) -> Self {
        Self { old, new }
    }

    pub(crate) const fn len(&self) -> usize {
        self.old.len() + self.new.len()
    }

    pub(crate) const fn seed(&self) -> u64 {
        self.old.seed
    }

    /// Returns the sizes in bytes of text, offsets, networks, and slots.
    pub(crate) fn sizes(&self) -> [usize; 4] {
        let text = self.new.iter().fold(self.old.text.len(), |sum, (_, name)| sum + name.len());
        [text, (self.len() + 1) * 8, self.len() * 2, self.slots() * 8]
    }

    fn slots(&self) -> usize {
        let mut slots = self.old.slots.len().max(MIN_SLOTS);
        while is_full(self.len(), slots) {
            slots *= 2;
        }
        slots
    }

    pub(crate) fn write_text<K: Sink>(
        &self,
        file: &mut FileWriter<'_, K>,
        section: Section,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<K::Error>> {
        let new = self.new.iter().map(|(_, name)| name.as_bytes());
        write(file, section, self.old.text, new, interrupt)
    }

    pub(crate) fn write_offsets<K: Sink>(
        &self,
        file: &mut FileWriter<'_, K>,
        section: Section,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<K::Error>> {
        let ends = self.new.iter().scan(self.old.text.len() as u64, |end, (_, name)| {
            *end += name.len() as u64;
            Some([*end])
        });
        write(file, section, self.old.offsets, ends, interrupt)
    }

    pub(crate) fn write_networks<K: Sink>(
        &self,
        file: &mut FileWriter<'_, K>,
        section: Section,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<K::Error>> {
        write(file, section, self.old.networks, self.new.iter().map(|(network, _)| [*network]), interrupt)
    }

    pub(crate) fn write_slots<S: Scratch, K: Sink<Error = S::Error>>(
        &self,
        scratch: &S,
        file: &mut FileWriter<'_, K>,
        section: Section,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<K::Error>> {
        if self.new.is_empty() {
            return file.write(section, self.old.slots, interrupt);
        }
        let mut slots = Column::<S, u64>::zeroed(scratch, self.slots()).map_err(BuildError::Scratch)?;
        let table = slots.as_mut_slice();
        if table.len() == self.old.slots.len() {
            table.copy_from_slice(self.old.slots);
        } else {
            for number in 0..self.old.len() {
                if number.is_multiple_of(ELEMENTS_PER_CHECK) {
                    interrupt.should_stop();
                }
                insert(table, self.old.hash_of(number as u32)?, number as u64)?;
            }
        }
        for (number, (network, name)) in (self.old.len() as u64..).zip(self.new) {
            insert(table, hash(self.old.seed, *network, name.as_bytes()), number)?;
        }
        file.write(section, slots.as_slice(), interrupt)
    }
}

/// Writes a section: the elements of the old file, then the new ones.
fn write<K: Sink, T: bytemuck::NoUninit>(
    file: &mut FileWriter<'_, K>,
    section: Section,
    old: &[T],
    new: impl Iterator<Item = impl AsRef<[T]>>,
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<K::Error>> {
    let mut out = file.open(section);
    for chunk in old.chunks(ELEMENTS_PER_CHECK) {
        interrupt.should_stop();
        out.extend(chunk)?;
    }
    for elements in new {
        out.extend(elements.as_ref())?;
    }
    file.close(out)
}

/// Tables are kept at most two thirds full.
const fn is_full(names: usize, slots: usize) -> bool {
    names * 3 > slots * 2
}

/// Fills the first free slot. Only the table of a damaged file has none.
fn insert(slots: &mut [u64], hash: u64, number: u64) -> Result<(), Damaged> {
    let mask = slots.len().wrapping_sub(1);
    let mut index = hash as usize & mask;
    for _ in 0..slots.len() {
        if slots[index] == 0 {
            slots[index] = (u64::from(tag(hash)) << 32) | (number + 1);
            return Ok(());
        }
        index = (index + 1) & mask;
    }
    Err(Damaged { what: "hash table of names is full" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::file::scratch::HeapScratch;

    #[test]
    fn a_full_table_is_damaged() {
        let mut slots = [1, 0, 3, 4];
        assert_eq!(insert(&mut slots, 7 << 32 | 2, 4), Ok(()));
        assert_eq!(slots, [1, 7 << 32 | 5, 3, 4]);
        assert!(insert(&mut slots, 6, 5).is_err());
    }

    #[test]
    fn tags_distinguish_names_that_share_a_slot() {
        // Of names whose hashes agree in the low 32 bits, which choose the slot of any table of up
        // to 2^32 slots, no text but the right one is read: reading the first one is an error here.
        let network = NetworkId::new(0);
        let (text, offsets, networks) = ("", [u64::MAX, u64::MAX, u64::MAX], [network, network]);
        let hash = hash(3, network, b"sought");
        let mut slots = [0_u64; 64];
        insert(&mut slots, hash ^ (1 << 40), 0).unwrap();
        insert(&mut slots, hash ^ (1 << 33), 1).unwrap();
        let names = Names { text: text.as_bytes(), offsets: &offsets, networks: &networks, slots: &slots, seed: 3 };
        assert_eq!(names.find(network, "sought"), Ok(None));
        insert(&mut slots, hash, 1).unwrap();
        let names = Names { text: text.as_bytes(), offsets: &offsets, networks: &networks, slots: &slots, seed: 3 };
        assert!(names.find(network, "sought").is_err());
    }

    #[test]
    fn names_keep_their_numbers_while_the_table_grows() {
        let scratch = HeapScratch;
        let mut builder = NamesBuilder::new(&scratch, 7).unwrap();
        let name = |i: u32| format!("wallet-{i}");
        let network = |i: u32| NetworkId::new((i % 3) as u16);
        for i in 0..5_000_u32 {
            assert_eq!(builder.number(&scratch, network(i), &name(i)), Ok(Some(i)));
        }
        let names = builder.names();
        assert_eq!(names.check(), Ok(()));
        for i in 0..5_000_u32 {
            assert_eq!(names.find(network(i), &name(i)), Ok(Some(i)));
            assert_eq!(names.find(network(i + 1), &name(i)), Ok(None));
            assert_eq!(names.name(i), Ok(name(i).as_str()));
        }
        assert_eq!(names.find(network(0), "unknown"), Ok(None));
        // Names that share a slot under one seed do not under another.
        let first_slots =
            |seed: u64| (0..100).map(|i| hash(seed, network(0), name(i).as_bytes()) % 64).collect::<Vec<_>>();
        assert_ne!(first_slots(7), first_slots(8));
        assert!(names.name(5_000).is_err());
    }
}
