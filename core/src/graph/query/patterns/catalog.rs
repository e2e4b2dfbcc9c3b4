//! Catalogue of patterns: names, descriptions, options and sources.

/// A pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PatternKind {
    /// A wallet sends to many.
    FanOut,
    /// A wallet receives from many.
    FanIn,
    /// Value returns to its origin.
    Cycle,
    /// From one wallet through many to one.
    ScatterGather,
    /// From many wallets through one to many.
    GatherScatter,
    /// Each wallet of a set sends to each of another set.
    Bipartite,
    /// Two consecutive bipartite layers.
    Stack,
    /// A chain of equal amounts.
    RandomWalk,
    /// A chain that loses a small part at each hop.
    PeelingChain,
    /// Received funds are sent on.
    PassThrough,
    /// Amounts just below a threshold.
    Structuring,
    /// A silent wallet moves its funds.
    DormantAwakened,
    /// Dust from an address that resembles a counterparty.
    AddressPoisoning,
    /// Value circulates between a few wallets.
    WashTrading,
}

/// Type and range of an option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptionRange {
    /// A whole number.
    Count {
        /// Default.
        default: u64,
        /// Minimum.
        min: u64,
        /// Maximum.
        max: u64,
    },
    /// A number.
    Ratio {
        /// Default.
        default: f64,
        /// Minimum.
        min: f64,
        /// Maximum.
        max: f64,
    },
    /// True or false.
    Flag {
        /// Default.
        default: bool,
    },
    /// An amount of the asset, or null, the default.
    Amount,
}

/// An option of a pattern.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionType {
    /// Key of the option.
    pub name: &'static str,
    /// Type and range.
    pub range: OptionRange,
    /// Effect of the option.
    pub meaning: &'static str,
}

/// Description of a pattern.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatternType {
    /// The pattern.
    pub kind: PatternKind,
    /// Name of the pattern.
    pub name: &'static str,
    /// Definition in one sentence.
    pub description: &'static str,
    /// Options of the pattern.
    pub options: &'static [OptionType],
    /// Publication that describes it.
    pub source: &'static str,
}

const fn count(name: &'static str, (default, min, max): (u64, u64, u64), meaning: &'static str) -> OptionType {
    OptionType { name, range: OptionRange::Count { default, min, max }, meaning }
}

const fn ratio(name: &'static str, (default, min, max): (f64, f64, f64), meaning: &'static str) -> OptionType {
    OptionType { name, range: OptionRange::Ratio { default, min, max }, meaning }
}

const fn flag(name: &'static str, default: bool, meaning: &'static str) -> OptionType {
    OptionType { name, range: OptionRange::Flag { default }, meaning }
}

const AML_WORLD: &str = "Altman et al. 2023, Realistic Synthetic Financial Transactions for Anti-Money Laundering Models, arXiv:2306.16424; Suzumura & Kanezashi 2021, AMLSim";
const FATF: &str = "FATF 2020, Virtual Assets Red Flag Indicators";

/// All patterns, in the order of documentation.
pub const PATTERN_TYPES: &[PatternType] = &[
    PatternType {
        kind: PatternKind::FanOut,
        name: "fan_out",
        description: "a wallet sends to many others within the window",
        options: &[count("min_fan", (10, 2, 1_000_000), "receivers, at least")],
        source: AML_WORLD,
    },
    PatternType {
        kind: PatternKind::FanIn,
        name: "fan_in",
        description: "a wallet receives from many others within the window",
        options: &[count("min_fan", (10, 2, 1_000_000), "senders, at least")],
        source: AML_WORLD,
    },
    PatternType {
        kind: PatternKind::Cycle,
        name: "cycle",
        description: "value goes round over several wallets and comes back, all within the window",
        options: &[
            count("min_length", (3, 2, 10), "wallets on the cycle, at least"),
            count("max_length", (6, 2, 10), "wallets on the cycle, at most"),
            ratio(
                "tolerance",
                (0.1, 0.0, 1.0),
                "how much less than the largest amount the smallest may be; 1: anything",
            ),
            ratio(
                "min_focus",
                (0.5, 0.0, 1.0),
                "part of a wallet's transfers of such amounts that goes to the next, at least; not with tolerance 1",
            ),
            flag("ordered", false, "whether the transfers must follow each other in time round the cycle"),
            count(
                "max_fan",
                (1_000, 1, 1_000_000),
                "wallets with more counterparties on a side are not passed through",
            ),
        ],
        source: AML_WORLD,
    },
    PatternType {
        kind: PatternKind::ScatterGather,
        name: "scatter_gather",
        description: "a wallet sends to many, who pass it on to one, within the window",
        options: &[
            count("min_fan", (4, 2, 1_000_000), "wallets between, at least"),
            count(
                "max_fan",
                (100, 1, 100_000),
                "a wallet between that sends more often within the window is passed over",
            ),
        ],
        source: AML_WORLD,
    },
    PatternType {
        kind: PatternKind::GatherScatter,
        name: "gather_scatter",
        description: "a wallet receives from many in half a window and sends to many in the next half",
        options: &[count("min_fan", (5, 2, 1_000_000), "senders, and receivers, at least")],
        source: AML_WORLD,
    },
    PatternType {
        kind: PatternKind::Bipartite,
        name: "bipartite",
        description: "each of several wallets sends to each of several others within the window",
        options: &[
            count("min_sources", (3, 2, 100), "senders, at least"),
            count("min_sinks", (3, 2, 100), "receivers, at least"),
            count(
                "max_fan",
                (100, 2, 128),
                "wallets with more counterparties on a side within the window are passed over",
            ),
        ],
        source: AML_WORLD,
    },
    PatternType {
        kind: PatternKind::Stack,
        name: "stack",
        description: "two bipartite layers: sources to middles, the same middles to sinks, within the window",
        options: &[
            count("min_width", (2, 2, 100), "wallets of each of the three layers, at least"),
            count(
                "max_fan",
                (100, 2, 128),
                "wallets with more counterparties on a side within the window are passed over",
            ),
        ],
        source: AML_WORLD,
    },
    PatternType {
        kind: PatternKind::RandomWalk,
        name: "random_walk",
        description: "an amount is passed on from wallet to wallet, nearly whole, and visits none twice, within the window",
        options: &[
            count("min_length", (4, 2, 100), "transfers, at least"),
            count("max_length", (20, 2, 100), "transfers, at most"),
            ratio("tolerance", (0.05, 0.0, 1.0), "part of the amount that may stay behind at each hop"),
            count(
                "max_fan",
                (1_000, 1, 1_000_000),
                "a wallet with more transfers on a side within the window is not passed through",
            ),
        ],
        source: AML_WORLD,
    },
    PatternType {
        kind: PatternKind::PeelingChain,
        name: "peeling_chain",
        description: "a large amount moves on again and again while a small part peels off at each hop, within the window",
        options: &[
            count("min_length", (3, 2, 100), "hops that peel, at least"),
            count("max_length", (50, 2, 100), "hops that peel, at most"),
            ratio("max_peel", (0.2, 0.000_001, 0.5), "part of the amount that may peel off at a hop"),
            count(
                "max_fan",
                (100, 1, 1_000_000),
                "a wallet with more transfers on a side within the window is not passed through",
            ),
        ],
        source: "Meiklejohn et al. 2013, A Fistful of Bitcoins, IMC 2013",
    },
    PatternType {
        kind: PatternKind::PassThrough,
        name: "pass_through",
        description: "what a wallet receives within the window it sends on within the same window",
        options: &[
            ratio("tolerance", (0.05, 0.0, 1.0), "how far what went out may be from what came in"),
            count("min_transfers", (2, 2, 1_000_000), "transfers, at least"),
        ],
        source: FATF,
    },
    PatternType {
        kind: PatternKind::Structuring,
        name: "structuring",
        description: "several transfers of a wallet within the window, each just below a threshold, together above it",
        options: &[
            OptionType {
                name: "threshold",
                range: OptionRange::Amount,
                meaning: "in units of the asset; null: any power of ten of its smallest unit",
            },
            ratio("margin", (0.1, 0.000_001, 0.9), "part of the threshold within which an amount is just below it"),
            count("min_transfers", (3, 2, 1_000_000), "transfers, at least"),
            flag("received", false, "whether transfers that the wallet received count, instead of those that it sent"),
        ],
        source: FATF,
    },
    PatternType {
        kind: PatternKind::DormantAwakened,
        name: "dormant_awakened",
        description: "a wallet that has sent nothing for long moves a significant part of what it got before",
        options: &[
            count("min_silence_days", (180, 1, 36_500), "days without sending, at least; no fewer than the window has"),
            count(
                "lookback_days",
                (1_460, 1, 36_500),
                "days before awakening in which what it got and sent is counted",
            ),
            ratio("min_share", (0.5, 0.000_001, 1.0), "part of what it held that it moves within the window, at least"),
        ],
        source: FATF,
    },
    PatternType {
        kind: PatternKind::AddressPoisoning,
        name: "address_poisoning",
        description: "nothing or dust from or to an address that looks like a counterparty the victim dealt with before",
        options: &[
            count("digits", (4, 2, 16), "digits that agree at the beginning and at the end of the two addresses"),
            ratio("dust", (0.001, 0.0, 0.1), "part of the largest transfer with the counterparty that still is dust"),
            count("lookback_days", (90, 1, 36_500), "days in which the victim dealt with the counterparty before"),
        ],
        source: "Tsuchiya et al. 2025, Blockchain Address Poisoning, USENIX Security 2025, arXiv:2501.16681",
    },
    PatternType {
        kind: PatternKind::WashTrading,
        name: "wash_trading",
        description: "value goes round between a few wallets several times within the window, with little gain or loss to any",
        options: &[
            count("max_wallets", (4, 2, 8), "wallets, at most"),
            count("min_rounds", (2, 1, 10_000), "transfers from each wallet to the next, at least"),
            ratio(
                "tolerance",
                (0.05, 0.0, 1.0),
                "how much less than the largest flow from a wallet to the next the smallest may be",
            ),
            count(
                "max_fan",
                (1_000, 1, 1_000_000),
                "wallets with more counterparties on a side are not passed through",
            ),
        ],
        source: "Victor & Weintraud 2021, Detecting and Quantifying Wash Trading on Decentralized Cryptocurrency Exchanges, arXiv:2102.07001",
    },
];

/// Finds a pattern by its name, in any case.
#[must_use]
pub(super) fn find(name: &str) -> Option<&'static PatternType> {
    PATTERN_TYPES.iter().find(|pattern_type| pattern_type.name.eq_ignore_ascii_case(name))
}
