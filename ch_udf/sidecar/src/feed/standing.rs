//! The relation of a source to the tables that it is about to feed: they are its own, also after an
//! upgrade, or it went back in time since it fed them, or it has replaced the database that fed
//! them, or they are another database's. Owns that decision; reading the marks belongs to the sink.

use super::model::SourcePosition;

/// A source that has fed a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FedBy {
    /// [`SourcePosition::source_id`] of the source.
    pub source_id: String,
    /// Name of its database at that time.
    pub database: String,
    /// Its latest attempt that the sink has seen.
    pub attempt: u64,
}

/// Facts that a sink remembers about its feeds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Every source, in any order.
    pub sources: Vec<FedBy>,
    /// The position that was asked for is among the last ones of the source.
    pub has_position: bool,
}

/// Facts that a database remembers about its feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The latest attempt; 0 before the first one.
    pub attempt: u64,
    /// [`SourcePosition::source_id`] of this database before its cluster got another system
    /// identifier.
    pub former_id: Option<String>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The source fed the tables last, or no source did.
    Own,
    /// The source fed the tables last, under another system identifier, and remembers each of its
    /// attempts: `pg_upgrade` has moved its cluster.
    Upgraded,
    /// The tables have seen attempts that the source does not remember: it was put back to an
    /// earlier state, or its feed's state was dropped.
    WentBack {
        /// The latest attempt that the tables have seen.
        seen: u64,
    },
    /// The database that fed the tables had the same name in the same cluster: this one took its
    /// place.
    Replaced { former: FedBy },
    /// Another database fed the tables last.
    Foreign { owner: FedBy },
}

impl Standing {
    /// Returns true if the tables hold what this source has fed.
    pub(crate) const fn is_own(&self) -> bool {
        matches!(self, Self::Own | Self::Upgraded)
    }

    /// Returns the reason for which the tables cannot be continued.
    pub(crate) const fn restart(&self) -> Option<&'static str> {
        match self {
            Self::Own | Self::Upgraded => None,
            Self::WentBack { .. } => Some("PostgreSQL went back"),
            Self::Replaced { .. } => Some("PostgreSQL went back: another database of the same name was fed"),
            Self::Foreign { .. } => Some("the tables of another database were taken over"),
        }
    }
}

impl Marks {
    /// Returns the latest attempt of any source.
    pub(crate) fn latest_attempt(&self) -> u64 {
        self.sources.iter().map(|source| source.attempt).max().unwrap_or(0)
    }

    /// Judges a source by what it remembers. Attempts of a source that takes tables over exceed all
    /// earlier ones, so the highest attempt belongs to the owner.
    ///
    /// A row of another cluster's feed gets into a database by `pg_upgrade`, and into a copy that
    /// gets another system identifier (`pg_createsubscriber`). If the original of such a copy goes
    /// on feeding, the copy does not remember its attempts; else one of the two takes the tables
    /// over, and the other is refused.
    pub(crate) fn standing(&self, source: &SourcePosition, remembered: &Remembered) -> Standing {
        let attempt = remembered.attempt;
        let Some(owner) = self.sources.iter().max_by_key(|source| source.attempt) else { return Standing::Own };
        if owner.source_id == source.source_id() {
            return if owner.attempt > attempt { Standing::WentBack { seen: owner.attempt } } else { Standing::Own };
        }
        if remembered.former_id.as_ref() == Some(&owner.source_id) && owner.attempt <= attempt {
            return Standing::Upgraded;
        }
        let owner = owner.clone();
        let is_same_cluster = owner.source_id.split('/').next() == source.source_id().split('/').next();
        if is_same_cluster && owner.database == source.database {
            Standing::Replaced { former: owner }
        } else {
            Standing::Foreign { owner }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(system_identifier: i64, database_oid: u32, database: &str) -> SourcePosition {
        SourcePosition {
            snapshot: "5:5:".into(),
            epoch: 0,
            system_identifier,
            timeline: 1,
            database_oid,
            database: database.into(),
        }
    }

    fn fed_by(source: &SourcePosition, attempt: u64) -> FedBy {
        FedBy { source_id: source.source_id(), database: source.database.clone(), attempt }
    }

    #[test]
    fn the_latest_attempt_decides_whose_the_tables_are() {
        let (production, staging) = (source(7, 16_384, "production"), source(7, 16_385, "staging"));
        let marks = |sources: &[FedBy]| Marks { sources: sources.to_vec(), has_position: true };
        let at = |attempt| Remembered { attempt, former_id: None };
        assert_eq!(Marks::default().standing(&production, &at(0)), Standing::Own);
        let fed = marks(&[fed_by(&production, 4)]);
        assert_eq!(fed.standing(&production, &at(4)), Standing::Own);
        assert_eq!(fed.standing(&production, &at(9)), Standing::Own, "attempts 5 to 9 did not reach the tables");
        assert_eq!(fed.standing(&production, &at(3)), Standing::WentBack { seen: 4 });
        assert_eq!(fed.standing(&production, &at(3)).restart(), Some("PostgreSQL went back"));
        assert_eq!(fed.standing(&production, &at(4)).restart(), None);
        assert_eq!(fed.standing(&staging, &at(8)), Standing::Foreign { owner: fed_by(&production, 4) });
        let elsewhere = source(8, 16_384, "production");
        assert_eq!(fed.standing(&elsewhere, &at(4)), Standing::Foreign { owner: fed_by(&production, 4) });
        let successor = source(7, 20_000, "production");
        assert_eq!(fed.standing(&successor, &at(4)), Standing::Replaced { former: fed_by(&production, 4) });
        let renamed = source(7, 16_384, "renamed");
        assert_eq!(fed.standing(&renamed, &at(4)), Standing::Own);
        let taken = marks(&[fed_by(&production, 4), fed_by(&staging, 5)]);
        assert_eq!(taken.standing(&production, &at(9)), Standing::Foreign { owner: fed_by(&staging, 5) });
        assert_eq!(taken.standing(&staging, &at(5)), Standing::Own);
        assert_eq!(taken.latest_attempt(), 5);
    }

    #[test]
    fn an_upgraded_source_owns_the_tables_while_it_remembers_every_attempt() {
        let (old, new) = (source(7, 16_384, "production"), source(8, 16_384, "production"));
        let fed = Marks { sources: vec![fed_by(&old, 4)], has_position: true };
        let upgraded = |attempt| Remembered { attempt, former_id: Some(old.source_id()) };
        assert_eq!(fed.standing(&new, &upgraded(4)), Standing::Upgraded);
        assert_eq!(fed.standing(&new, &upgraded(4)).restart(), None);
        assert_eq!(fed.standing(&new, &upgraded(9)), Standing::Upgraded);
        // The original went on: this is a copy.
        assert_eq!(fed.standing(&new, &upgraded(3)), Standing::Foreign { owner: fed_by(&old, 4) });
        let moved = Marks { sources: vec![fed_by(&old, 4), fed_by(&new, 5)], has_position: true };
        assert_eq!(moved.standing(&new, &upgraded(5)), Standing::Own);
        let original = Remembered { attempt: 4, former_id: None };
        assert_eq!(moved.standing(&old, &original), Standing::Foreign { owner: fed_by(&new, 5) });
    }
}
