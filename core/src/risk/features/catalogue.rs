//! The catalogue of features: each with its name, unit, formula and expected effect on risk.

use crate::risk::monotone::Monotone;

/// Unit of a feature's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureUnit {
    /// A number of things.
    Count,
    /// A part of a whole, 0 to 1.
    Share,
    /// A ratio without an upper bound.
    Ratio,
    /// Coins of the network.
    Coins,
    /// Seconds between two moments of the wallet's own history.
    Seconds,
    /// The binary logarithm of one plus a count.
    Log2,
    /// Bits of entropy.
    Bits,
}

impl FeatureUnit {
    /// Returns the unit as it is written after a value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Share => "share",
            Self::Ratio => "ratio",
            Self::Coins => "coins",
            Self::Seconds => "seconds",
            Self::Log2 => "log2",
            Self::Bits => "bits",
        }
    }
}

/// Transfers of a wallet that prove a feature's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceKind {
    /// The largest receipts.
    Received,
    /// The largest payments.
    Sent,
    /// The largest receipts and payments.
    Both,
    /// The first and the last transfer, and the one that ended the longest pause.
    Times,
    /// Receipts of the most frequent amount.
    CommonReceived,
    /// Payments of the most frequent amount.
    CommonSent,
    /// Failed payments.
    Failed,
    /// Receipts from illicit wallets.
    IllicitSenders,
    /// Payments to illicit wallets.
    IllicitReceivers,
    /// Transfers with services.
    Services,
    /// Receipts from senders that pay illicit wallets or are paid by them.
    SendersNearIllicit,
    /// Payments to receivers that pay illicit wallets or are paid by them.
    ReceiversNearIllicit,
}

/// Group of features that describe the same side of a wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Number, values and outcome of the wallet's own transfers.
    Transfers,
    /// Times of the transfers, relative to the first one.
    Timing,
    /// Time that received value stays in the wallet.
    Holding,
    /// Number and weight of the counterparties.
    Counterparties,
    /// Contacts of the counterparties.
    Neighbours,
    /// Contact with labelled wallets.
    Exposure,
}

impl Family {
    /// Returns the family as it is shown to users.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transfers => "transfers",
            Self::Timing => "timing",
            Self::Holding => "holding",
            Self::Counterparties => "counterparties",
            Self::Neighbours => "neighbours",
            Self::Exposure => "exposure",
        }
    }
}

/// Description of a feature.
#[derive(Debug, Clone, Copy)]
pub struct FeatureSpec {
    /// Name that scorecards use.
    pub name: &'static str,
    /// Group of the feature.
    pub family: Family,
    /// Unit of its values.
    pub unit: FeatureUnit,
    /// Direction in which the score may change as the value rises.
    pub expected: Monotone,
    /// The formula, in words.
    pub formula: &'static str,
    /// Transfers that prove a value.
    pub evidence: EvidenceKind,
    /// `true` when labels of other wallets are part of the formula.
    pub uses_labels: bool,
}

/// Declares the features of each family, in the order of a [`FeatureRow`](super::FeatureRow).
///
/// A family becomes a struct with a field for each feature, and [`FeatureValues`] a struct of the
/// families: a feature without a value does not compile.
macro_rules! features {
    ($($family:ident $field:ident: $part:ident {
        $($feature:ident $name:ident $unit:ident $expected:ident $evidence:ident $uses_labels:literal
            $formula:literal;)*
    })*) => {
        /// Index of each feature in a [`FeatureRow`](super::FeatureRow).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Feature {
            $($(#[doc = $formula] $feature,)*)*
        }

        /// All features, in the order of a [`FeatureRow`](super::FeatureRow).
        pub const FEATURES: &[FeatureSpec] = &[$($(FeatureSpec {
            name: stringify!($name),
            family: Family::$family,
            unit: FeatureUnit::$unit,
            expected: Monotone::$expected,
            formula: $formula,
            evidence: EvidenceKind::$evidence,
            uses_labels: $uses_labels,
        },)*)*];

        /// Names of the features, in the order of a [`FeatureRow`](super::FeatureRow).
        pub const NAMES: [&str; FEATURES.len()] = [$($(stringify!($name),)*)*];

        $(
            #[derive(Debug, Clone, Copy)]
            pub(super) struct $part {
                $(pub(super) $name: f64,)*
            }
        )*

        /// The value of every feature; NaN where it is undefined.
        #[derive(Debug, Clone, Copy)]
        pub(super) struct FeatureValues {
            $(pub(super) $field: $part,)*
        }

        impl From<FeatureValues> for super::FeatureRow {
            fn from(values: FeatureValues) -> Self {
                [$($(values.$field.$name,)*)*]
            }
        }
    };
}

features! {
    Transfers transfers: TransferFeatures {
        Transactions transactions Count Free Both false
            "transfers received and sent";
        ReceivedCountShare received_count_share Share Free Both false
            "transfers received / transfers";
        ContractsCreated contracts_created Count Free Sent false
            "contracts created";
        ReceivedTotal received_total Coins Free Received false
            "sum of values received";
        SentReceivedRatio sent_received_ratio Ratio Free Both false
            "sum of values sent / sum of values received";
        ReceivedMean received_mean Coins Free Received false
            "mean value of a receipt";
        ReceivedMedian received_median Coins Free Received false
            "median value of a receipt";
        ReceivedMin received_min Coins Free Received false
            "smallest value of a receipt";
        ReceivedVariation received_variation Ratio Free Received false
            "standard deviation / mean of values received";
        ReceivedTopShare received_top_share Share Free Received false
            "largest receipt / sum of values received";
        ReceivedCommonShare received_common_share Share Free CommonReceived false
            "receipts of the amount received most often / receipts";
        ReceivedEntropy received_entropy Bits Free CommonReceived false
            "entropy of the amounts received: -sum p log2 p over distinct amounts";
        ReceivedRoundShare received_round_share Share Free Received false
            "receipts of whole tenths of a coin / receipts";
        ReceivedShortShare received_short_share Share Free Received false
            "receipts of whole thousandths of a coin / receipts";
        ReceivedDustShare received_dust_share Share Free Received false
            "receipts above zero and below a thousandth of a coin / receipts";
        SentMedian sent_median Coins Free Sent false
            "median value of a payment";
        SentMin sent_min Coins Free Sent false
            "smallest value of a payment";
        SentVariation sent_variation Ratio Free Sent false
            "standard deviation / mean of values sent";
        SentTopShare sent_top_share Share Free Sent false
            "largest payment / sum of values sent";
        SentCommonShare sent_common_share Share Free CommonSent false
            "payments of the amount sent most often / payments";
        SentRoundShare sent_round_share Share Free Sent false
            "payments of whole tenths of a coin / payments";
        SentEmptyShare sent_empty_share Share Free Sent false
            "payments of zero / payments: calls of contracts";
        FailedShare failed_share Share Free Failed false
            "failed payments / payments tried";
    }
    Timing timing: TimeFeatures {
        Lifetime lifetime Seconds Free Times false
            "time from the first transfer to the last";
        ReceivedSpan received_span Seconds Free Times false
            "time from the first receipt to the last";
        SentSpan sent_span Seconds Free Times false
            "time from the first payment to the last";
        ReceivedSpanShare received_span_share Share Free Times false
            "time from the first receipt to the last / lifetime";
        SentCentre sent_centre Share Free Times false
            "mean time of payments since the first transfer / lifetime";
        ActiveDays active_days Count Free Times false
            "days of 24 hours from the first transfer on with a transfer";
        GapMean gap_mean Seconds Free Times false
            "mean time between transfers";
        GapMedian gap_median Seconds Free Times false
            "median time between transfers";
        GapShort gap_short Seconds Free Times false
            "tenth percentile of the time between transfers";
        GapVariation gap_variation Ratio Free Times false
            "standard deviation / mean of times between transfers";
        GapLongestShare gap_longest_share Share Free Times false
            "longest time between transfers / lifetime";
        ReceivedGapMedian received_gap_median Seconds Free Times false
            "median time between receipts";
        SentGapMedian sent_gap_median Seconds Free Times false
            "median time between payments";
        OnwardDelay onward_delay Seconds Free Both false
            "median time from a receipt to the next payment";
        LastSentDelay last_sent_delay Seconds Free Times false
            "time of the last payment less that of the last receipt";
    }
    Holding holding: HoldingFeatures {
        HoldingTime holding_time Seconds Free Both false
            "mean time that value is held, first in first out, weighted by value";
        PassedOnShare passed_on_share Share Free Both false
            "value passed on within a day, first in first out / sum of values received";
        UnspentShare unspent_share Share Free Both false
            "value not passed on, first in first out / sum of values received";
    }
    Counterparties counterparties: CounterpartyFeatures {
        Senders senders Count Free Received false
            "distinct senders: fan-in";
        SendersPerReceipt senders_per_receipt Share Free Received false
            "distinct senders / receipts";
        TopSenderShare top_sender_share Share Free Received false
            "value from the largest sender / sum of values received";
        TopSenderCountShare top_sender_count_share Share Free Received false
            "receipts from the most frequent sender / receipts";
        Receivers receivers Count Free Sent false
            "distinct receivers: fan-out";
        ReceiversPerPayment receivers_per_payment Share Free Sent false
            "distinct receivers / payments";
        TopReceiverShare top_receiver_share Share Free Sent false
            "value to the largest receiver / sum of values sent";
        FanInShare fan_in_share Share Free Both false
            "distinct senders / (distinct senders + distinct receivers)";
        MutualShare mutual_share Share Free Both false
            "counterparties that are sender and receiver / counterparties";
    }
    Neighbours neighbours: NeighbourFeatures {
        SendersFanIn senders_fan_in Log2 Free Received false
            "mean over senders of log2(1 + their senders)";
        SendersFanOut senders_fan_out Log2 Free Received false
            "mean over senders of log2(1 + their receivers)";
        SendersLargestFanIn senders_largest_fan_in Count Free Received false
            "most senders that a sender has";
        SendersSingleShare senders_single_share Share Free Received false
            "senders with no other counterparty / senders";
        SendersSourceShare senders_source_share Share Free Received false
            "senders that never received anything / senders";
        SendersHubShare senders_hub_share Share Free Received false
            "senders with 1000 or more contacts / senders";
        ReceiversFanIn receivers_fan_in Log2 Free Sent false
            "mean over receivers of log2(1 + their senders)";
        ReceiversFanOut receivers_fan_out Log2 Free Sent false
            "mean over receivers of log2(1 + their receivers)";
        ReceiversLargestFanIn receivers_largest_fan_in Count Free Sent false
            "most senders that a receiver has";
        ReceiversSingleShare receivers_single_share Share Free Sent false
            "receivers with no other counterparty / receivers";
        ReceiversHubShare receivers_hub_share Share Free Sent false
            "receivers with 1000 or more contacts / receivers";
        SentToHubsShare sent_to_hubs_share Share Free Sent false
            "value sent to receivers with 1000 or more contacts / sum of values sent";
    }
    Exposure exposure: ExposureFeatures {
        IllicitSenders illicit_senders Count Rising IllicitSenders true
            "distinct senders labelled illicit: direct exposure";
        IllicitReceivedShare illicit_received_share Share Rising IllicitSenders true
            "value received from wallets labelled illicit / sum of values received: direct exposure";
        IllicitReceivers illicit_receivers Count Rising IllicitReceivers true
            "distinct receivers labelled illicit: direct exposure";
        IllicitSentShare illicit_sent_share Share Rising IllicitReceivers true
            "value sent to wallets labelled illicit / sum of values sent: direct exposure";
        SendersPayingIllicit senders_paying_illicit Share Rising SendersNearIllicit true
            "senders that also pay wallets labelled illicit / senders: exposure at two hops, hubs left out";
        SendersPaidByIllicit senders_paid_by_illicit Share Rising SendersNearIllicit true
            "senders that are paid by wallets labelled illicit / senders: exposure at two hops, hubs left out";
        ReceiversPaidByIllicit receivers_paid_by_illicit Share Rising ReceiversNearIllicit true
            "receivers that are also paid by wallets labelled illicit / receivers: exposure at two hops, hubs left out";
        ReceiversPayingIllicit receivers_paying_illicit Share Rising ReceiversNearIllicit true
            "receivers that pay wallets labelled illicit / receivers: exposure at two hops, hubs left out";
        ServiceReceivedShare service_received_share Share Free Services true
            "value received from wallets labelled as services / sum of values received: direct exposure";
        ServiceSentShare service_sent_share Share Free Services true
            "value sent to wallets labelled as services / sum of values sent: direct exposure";
    }
}

impl Feature {
    /// Returns the description of the feature.
    #[must_use]
    pub const fn spec(self) -> &'static FeatureSpec {
        &FEATURES[self as usize]
    }
}

impl FeatureSpec {
    /// Returns the description of the feature with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FEATURES.iter().find(|feature| feature.name == name)
    }
}
