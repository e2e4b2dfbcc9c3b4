//! Composition of a balance: shares by part and hop.

/// Bits of the hop in a key.
pub(super) const HOP_BITS: u32 = 5;

const HOPS: u64 = (1 << HOP_BITS) - 1;

/// Number of all hubs together, which are found at a hop like labels.
const HUB: u32 = u32::MAX;

/// First number of requested wallets, by their index, when labels alone are reported.
pub(super) const ASKED: u32 = 1 << 24;

/// A part and a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ShareKey(u64);

impl ShareKey {
    /// Makes the key of a label one hop away.
    pub(super) fn of(number: u32) -> Self {
        Self((u64::from(number) << HOP_BITS) | 1)
    }

    /// Makes the key of a hub one hop away.
    pub(super) fn hub() -> Self {
        Self::of(HUB)
    }

    /// Returns the key one hop further, `None` beyond `max_hops`.
    pub(super) fn further(self, max_hops: u32) -> Option<Self> {
        (self.hops() < max_hops).then_some(Self(self.0 + 1))
    }

    pub(super) const fn hops(self) -> u32 {
        (self.0 & HOPS) as u32
    }

    pub(super) const fn is_hub(self) -> bool {
        self.number() == HUB
    }

    /// Returns the number of a label.
    pub(super) const fn number(self) -> u32 {
        (self.0 >> HOP_BITS) as u32
    }
}

/// Index of no wallet of the region.
pub(super) const NOWHERE: u32 = u32::MAX;

/// A share of a balance, or an amount.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    pub key: ShareKey,
    pub share: f64,
}

/// Shares by key, to be multiplied by `scale`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shares {
    scale: f64,
    shares: Vec<Share>,
    /// Maximum length of the list so far.
    longest: usize,
}

/// Scale below which shares are multiplied out.
const SMALL: f64 = 1e-100;

impl Default for Shares {
    fn default() -> Self {
        Self { scale: 1.0, shares: Vec::new(), longest: 0 }
    }
}

impl Shares {
    pub(super) fn len(&self) -> usize {
        self.shares.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Share> {
        self.shares.iter().map(|entry| Share { share: entry.share * self.scale, ..*entry })
    }

    /// Returns the growth of the maximum length since the last call.
    pub(super) fn grown(&mut self) -> usize {
        let grown = self.shares.len().saturating_sub(self.longest);
        self.longest += grown;
        grown
    }

    /// Scales all shares by a factor up to 1.
    pub(super) fn keep(&mut self, part: f64) {
        if part <= 0.0 {
            self.shares.clear();
            self.scale = 1.0;
            return;
        }
        self.scale *= part;
        if self.scale < SMALL {
            for entry in &mut self.shares {
                entry.share *= self.scale;
            }
            self.scale = 1.0;
        }
    }

    /// Adds shares, which are sorted by key, times `factor`.
    pub(super) fn add(&mut self, more: &[Share], factor: f64, room: &mut Vec<Share>) {
        let factor = factor / self.scale;
        if let [addition] = more {
            match self.shares.binary_search_by_key(&addition.key, |entry| entry.key) {
                Ok(index) => self.shares[index].share += addition.share * factor,
                Err(index) => self.shares.insert(index, Share { share: addition.share * factor, ..*addition }),
            }
            return;
        }
        room.clear();
        let mut entries = self.shares.iter().copied().peekable();
        for addition in more {
            while let Some(earlier) = entries.next_if(|entry| entry.key < addition.key) {
                room.push(earlier);
            }
            match entries.next_if(|entry| entry.key == addition.key) {
                Some(mut both) => {
                    both.share += addition.share * factor;
                    room.push(both);
                }
                None => room.push(Share { share: addition.share * factor, ..*addition }),
            }
        }
        room.extend(entries);
        std::mem::swap(&mut self.shares, room);
    }
}
