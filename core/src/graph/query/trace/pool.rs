//! Funds of a wallet in the order of arrival.

use std::collections::VecDeque;

use super::TaintMethod;
use super::hops::ByHop;
use crate::graph::types::U256;

/// A contiguous piece of uniform funds.
pub(super) trait Piece: Copy {
    fn amount(&self) -> U256;
    /// Splits off the first `amount`, which is neither zero nor the whole.
    fn split(self, amount: U256) -> (Self, Self);
    /// Joins two pieces if they are of the same kind.
    fn join(self, next: Self) -> Option<Self>;
}

/// Order in which funds leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
}

/// Funds in the order of arrival.
#[derive(Debug, Clone)]
pub(super) struct Pool<P> {
    order: Order,
    pieces: VecDeque<P>,
}

impl<P: Piece> Pool<P> {
    pub(super) const fn new(order: Order) -> Self {
        Self { order, pieces: VecDeque::new() }
    }

    pub(super) fn put(&mut self, piece: P) {
        if piece.amount() == U256::ZERO {
            return;
        }
        match self.pieces.back_mut() {
            Some(last) => match last.join(piece) {
                Some(joined) => *last = joined,
                None => self.pieces.push_back(piece),
            },
            None => self.pieces.push_back(piece),
        }
    }

    /// Removes funds and passes each piece to `each`; returns the amount that was lacking.
    pub(super) fn take(&mut self, amount: U256, mut each: impl FnMut(P)) -> U256 {
        let mut wanted = amount;
        while wanted > U256::ZERO {
            let next = match self.order {
                Order::OldestFirst => self.pieces.pop_front(),
                Order::NewestFirst => self.pieces.pop_back(),
            };
            let Some(piece) = next else { break };
            let available = piece.amount();
            if available <= wanted {
                wanted -= available;
                each(piece);
                continue;
            }
            match self.order {
                Order::OldestFirst => {
                    let (leaving, staying) = piece.split(wanted);
                    self.pieces.push_front(staying);
                    each(leaving);
                }
                Order::NewestFirst => {
                    let (staying, leaving) = piece.split(available - wanted);
                    self.pieces.push_back(staying);
                    each(leaving);
                }
            }
            wanted = U256::ZERO;
        }
        wanted
    }
}

/// A piece of funds, tainted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Portion {
    pub amount: U256,
    pub tainted: bool,
}

impl Piece for Portion {
    fn amount(&self) -> U256 {
        self.amount
    }

    fn split(self, amount: U256) -> (Self, Self) {
        (Self { amount, ..self }, Self { amount: self.amount - amount, ..self })
    }

    fn join(self, next: Self) -> Option<Self> {
        // A balance beyond 256 bits stays in pieces.
        let amount = self.amount.checked_add(next.amount).filter(|_| self.tainted == next.tainted)?;
        Some(Self { amount, ..self })
    }
}

/// Taint of a transfer: the tainted amount, and what a method distinguishes of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Taint {
    pub tainted: U256,
    /// Parts of the whole amount, first to last; empty if their order does not matter.
    pub parts: Vec<Portion>,
    /// The tainted amount by the number of its transfers; empty if they are not counted.
    pub by_hop: ByHop,
    /// The taint depends on an order of transfers that was inferred.
    pub inferred: bool,
}

impl Taint {
    /// Makes a taint without an order.
    pub(super) const fn of(tainted: U256) -> Self {
        Self { tainted, parts: Vec::new(), by_hop: ByHop::none(), inferred: false }
    }

    /// Makes a taint by the number of transfers.
    pub(super) const fn by_hop(by_hop: ByHop) -> Self {
        Self { tainted: by_hop.total(), parts: Vec::new(), by_hop, inferred: false }
    }

    /// Makes the taint of a wholly tainted transfer of the origin.
    pub(super) fn whole(method: TaintMethod, amount: U256) -> Self {
        match method {
            TaintMethod::Haircut => Self::by_hop(ByHop::of(1, amount)),
            _ => Self { parts: vec![Portion { amount, tainted: true }], ..Self::of(amount) },
        }
    }

    pub(super) fn push(&mut self, part: Portion) {
        if part.amount == U256::ZERO {
            return;
        }
        if part.tainted {
            // Parts of a transfer add up to its amount.
            self.tainted = self.tainted.saturating_add(part.amount);
        }
        match self.parts.last_mut() {
            Some(last) => match last.join(part) {
                Some(joined) => *last = joined,
                None => self.parts.push(part),
            },
            None => self.parts.push(part),
        }
    }
}
