//! Funds of a wallet in the order in which they came.

use std::collections::VecDeque;

use crate::graph::types::U256;

/// Funds that are alike, one after the other.
pub trait Piece: Copy {
    /// How much.
    fn amount(&self) -> U256;
    /// What comes first of it, and the rest; `amount` is less than all of it, and not zero.
    fn split(self, amount: U256) -> (Self, Self);
    /// Both as one, if they are alike.
    fn join(self, next: Self) -> Option<Self>;
}

/// Which end funds leave from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    OldestFirst,
    NewestFirst,
}

/// Funds in the order in which they came.
#[derive(Debug, Clone)]
pub struct Pool<P> {
    order: Order,
    pieces: VecDeque<P>,
}

impl<P: Piece> Pool<P> {
    pub const fn new(order: Order) -> Self {
        Self { order, pieces: VecDeque::new() }
    }

    /// Funds arrive.
    pub fn put(&mut self, piece: P) {
        if piece.amount() == U256::ZERO {
            return;
        }
        match self.pieces.back_mut() {
            Some(last) => match last.join(piece) {
                Some(both) => *last = both,
                None => self.pieces.push_back(piece),
            },
            None => self.pieces.push_back(piece),
        }
    }

    /// Funds leave, piece by piece as they leave; says how much was lacking.
    pub fn take(&mut self, amount: U256, mut each: impl FnMut(P)) -> U256 {
        let mut wanted = amount;
        while wanted > U256::ZERO {
            let next = match self.order {
                Order::OldestFirst => self.pieces.pop_front(),
                Order::NewestFirst => self.pieces.pop_back(),
            };
            let Some(piece) = next else { break };
            let has = piece.amount();
            if has <= wanted {
                wanted -= has;
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
                    let (staying, leaving) = piece.split(has - wanted);
                    self.pieces.push_back(staying);
                    each(leaving);
                }
            }
            wanted = U256::ZERO;
        }
        wanted
    }
}

/// Funds that are tainted, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub amount: U256,
    pub tainted: bool,
}

impl Piece for Part {
    fn amount(&self) -> U256 {
        self.amount
    }

    fn split(self, amount: U256) -> (Self, Self) {
        (Self { amount, ..self }, Self { amount: self.amount - amount, ..self })
    }

    fn join(self, next: Self) -> Option<Self> {
        // a balance that 256 bits cannot hold stays in pieces
        let amount = self.amount.checked_add(next.amount).filter(|_| self.tainted == next.tainted)?;
        Some(Self { amount, ..self })
    }
}

/// What a transfer carries: how much of it is tainted, and in which order, where order matters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    pub tainted: U256,
    /// Parts of the whole amount, first to last; empty where order does not matter.
    pub parts: Vec<Part>,
}

impl Mark {
    /// An amount in no order.
    pub const fn of(tainted: U256) -> Self {
        Self { tainted, parts: Vec::new() }
    }

    /// A transfer that is tainted as a whole.
    pub fn whole(amount: U256) -> Self {
        Self { tainted: amount, parts: vec![Part { amount, tainted: true }] }
    }

    /// Adds the next part.
    pub fn push(&mut self, part: Part) {
        if part.amount == U256::ZERO {
            return;
        }
        if part.tainted {
            // parts of one transfer add up to its amount
            self.tainted = self.tainted.saturating_add(part.amount);
        }
        match self.parts.last_mut() {
            Some(last) => match last.join(part) {
                Some(both) => *last = both,
                None => self.parts.push(part),
            },
            None => self.parts.push(part),
        }
    }
}
