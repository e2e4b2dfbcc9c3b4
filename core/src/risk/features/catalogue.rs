//! The catalogue of features: each with its name, unit, formula and expected effect on risk.

use std::collections::HashMap;
use std::sync::LazyLock;

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

/// Topic of reasons: each feature belongs to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Dealings with wallets labelled illicit, and with those that deal with them.
    Illicit,
    /// Dealings with services.
    Services,
    /// Times of the transfers.
    Timing,
    /// Number and size of the transfers.
    Amounts,
    /// Number and weight of the counterparties.
    Counterparties,
    /// Value that passes through the wallet, and value that stays.
    FlowThrough,
    /// Contacts of the counterparties.
    Network,
    /// The wallet itself: where its score starts, its label, its override, its contracts and its
    /// failed payments.
    Status,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 8] = [
        Self::Illicit,
        Self::Services,
        Self::Timing,
        Self::Amounts,
        Self::Counterparties,
        Self::FlowThrough,
        Self::Network,
        Self::Status,
    ];

    /// Returns the topic as it is shown to users.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Illicit => "dealings with illicit wallets",
            Self::Services => "dealings with services",
            Self::Timing => "timing",
            Self::Amounts => "amounts",
            Self::Counterparties => "counterparties",
            Self::FlowThrough => "flow-through",
            Self::Network => "network position",
            Self::Status => "status",
        }
    }
}

/// Histories that the value of a feature depends on. Where they are not covered, the value is
/// marked by [`not_covered`](crate::risk::scorecard::not_covered).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The wallet's own history.
    Own,
    /// The wallet's own history, and those of its senders.
    Senders,
    /// The wallet's own history, and those of its receivers.
    Receivers,
    /// Dealings that did happen; further history can only add to them.
    Labels,
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
    /// Topic under which people read its points.
    pub topic: Topic,
    /// Histories that its value depends on.
    pub basis: Basis,
    /// A clause that describes a value in words; `{}` stands for the value.
    pub sentence: &'static str,
    /// `true` when labels of other wallets are part of the formula.
    pub uses_labels: bool,
}

/// Declares the features of each family, in the order of a [`FeatureRow`](super::FeatureRow).
///
/// A family becomes a struct with a field for each feature, and [`FeatureValues`] a struct of the
/// families: a feature without a value does not compile.
macro_rules! features {
    ($($family:ident $field:ident: $part:ident {
        $($feature:ident $name:ident $unit:ident $expected:ident $evidence:ident $topic:ident $basis:ident
            $uses_labels:literal $formula:literal $sentence:literal;)*
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
            topic: Topic::$topic,
            basis: Basis::$basis,
            sentence: $sentence,
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
        Transactions transactions Count Free Both Amounts Own false
            "transfers received and sent"
            "the number of its transfers is {}";
        ReceivedCountShare received_count_share Share Free Both Amounts Own false
            "transfers received / transfers"
            "{} of its transfers are receipts";
        ContractsCreated contracts_created Count Free Sent Status Own false
            "contracts created"
            "the number of contracts that it created is {}";
        ReceivedTotal received_total Coins Free Received Amounts Own false
            "sum of values received"
            "it received {} in all";
        SentReceivedRatio sent_received_ratio Ratio Free Both FlowThrough Own false
            "sum of values sent / sum of values received"
            "it sent {} times what it received";
        ReceivedMean received_mean Coins Free Received Amounts Own false
            "mean value of a receipt"
            "its mean receipt is {}";
        ReceivedMedian received_median Coins Free Received Amounts Own false
            "median value of a receipt"
            "its median receipt is {}";
        ReceivedMin received_min Coins Free Received Amounts Own false
            "smallest value of a receipt"
            "its smallest receipt is {}";
        ReceivedVariation received_variation Ratio Free Received Amounts Own false
            "standard deviation / mean of values received"
            "its receipts vary by {} times their mean";
        ReceivedTopShare received_top_share Share Free Received Amounts Own false
            "largest receipt / sum of values received"
            "its largest receipt is {} of what it received";
        ReceivedCommonShare received_common_share Share Free CommonReceived Amounts Own false
            "receipts of the amount received most often / receipts"
            "{} of its receipts have the same amount";
        ReceivedEntropy received_entropy Bits Free CommonReceived Amounts Own false
            "entropy of the amounts received: -sum p log2 p over distinct amounts"
            "the amounts it received have an entropy of {}";
        ReceivedRoundShare received_round_share Share Free Received Amounts Own false
            "receipts of whole tenths of a coin / receipts"
            "{} of its receipts are whole tenths of a coin";
        ReceivedShortShare received_short_share Share Free Received Amounts Own false
            "receipts of whole thousandths of a coin / receipts"
            "{} of its receipts are whole thousandths of a coin";
        ReceivedDustShare received_dust_share Share Free Received Amounts Own false
            "receipts above zero and below a thousandth of a coin / receipts"
            "{} of its receipts are below a thousandth of a coin";
        SentMedian sent_median Coins Free Sent Amounts Own false
            "median value of a payment"
            "its median payment is {}";
        SentMin sent_min Coins Free Sent Amounts Own false
            "smallest value of a payment"
            "its smallest payment is {}";
        SentVariation sent_variation Ratio Free Sent Amounts Own false
            "standard deviation / mean of values sent"
            "its payments vary by {} times their mean";
        SentTopShare sent_top_share Share Free Sent Amounts Own false
            "largest payment / sum of values sent"
            "its largest payment is {} of what it sent";
        SentCommonShare sent_common_share Share Free CommonSent Amounts Own false
            "payments of the amount sent most often / payments"
            "{} of its payments have the same amount";
        SentRoundShare sent_round_share Share Free Sent Amounts Own false
            "payments of whole tenths of a coin / payments"
            "{} of its payments are whole tenths of a coin";
        SentEmptyShare sent_empty_share Share Free Sent Status Own false
            "payments of zero / payments: calls of contracts"
            "{} of its payments move no value and call contracts";
        FailedShare failed_share Share Free Failed Status Own false
            "failed payments / payments tried"
            "{} of the payments it tried failed";
    }
    Timing timing: TimeFeatures {
        Lifetime lifetime Seconds Free Times Timing Own false
            "time from the first transfer to the last"
            "the time from its first transfer to its last is {}";
        ReceivedSpan received_span Seconds Free Times Timing Own false
            "time from the first receipt to the last"
            "the time from its first receipt to its last is {}";
        SentSpan sent_span Seconds Free Times Timing Own false
            "time from the first payment to the last"
            "the time from its first payment to its last is {}";
        ReceivedSpanShare received_span_share Share Free Times Timing Own false
            "time from the first receipt to the last / lifetime"
            "its receipts span {} of its lifetime";
        SentCentre sent_centre Share Free Times Timing Own false
            "mean time of payments since the first transfer / lifetime"
            "its payments centre at {} of its lifetime";
        ActiveDays active_days Count Free Times Timing Own false
            "days of 24 hours from the first transfer on with a transfer"
            "the number of days on which it was active is {}";
        GapMean gap_mean Seconds Free Times Timing Own false
            "mean time between transfers"
            "its transfers are {} apart on average";
        GapMedian gap_median Seconds Free Times Timing Own false
            "median time between transfers"
            "its transfers are {} apart at the median";
        GapShort gap_short Seconds Free Times Timing Own false
            "tenth percentile of the time between transfers"
            "a tenth of its transfers follow within {}";
        GapVariation gap_variation Ratio Free Times Timing Own false
            "standard deviation / mean of times between transfers"
            "the pauses between its transfers vary by {} times their mean";
        GapLongestShare gap_longest_share Share Free Times Timing Own false
            "longest time between transfers / lifetime"
            "its longest pause is {} of its lifetime";
        ReceivedGapMedian received_gap_median Seconds Free Times Timing Own false
            "median time between receipts"
            "its receipts are {} apart at the median";
        SentGapMedian sent_gap_median Seconds Free Times Timing Own false
            "median time between payments"
            "its payments are {} apart at the median";
        OnwardDelay onward_delay Seconds Free Both FlowThrough Own false
            "median time from a receipt to the next payment"
            "a receipt is followed by a payment after {} at the median";
        LastSentDelay last_sent_delay Seconds Free Times Timing Own false
            "time of the last payment less that of the last receipt"
            "its last payment came {} after its last receipt";
    }
    Holding holding: HoldingFeatures {
        HoldingTime holding_time Seconds Free Both FlowThrough Own false
            "mean time that value is held, first in first out, weighted by value"
            "it holds value for {} on average";
        PassedOnShare passed_on_share Share Free Both FlowThrough Own false
            "value passed on within a day, first in first out / sum of values received"
            "it passed on {} of what it received within a day";
        UnspentShare unspent_share Share Free Both FlowThrough Own false
            "value not passed on, first in first out / sum of values received"
            "it kept {} of what it received";
    }
    Counterparties counterparties: CounterpartyFeatures {
        Senders senders Count Free Received Counterparties Own false
            "distinct senders: fan-in"
            "the number of its senders is {}";
        SendersPerReceipt senders_per_receipt Share Free Received Counterparties Own false
            "distinct senders / receipts"
            "it has {} as many senders as receipts";
        TopSenderShare top_sender_share Share Free Received Counterparties Own false
            "value from the largest sender / sum of values received"
            "its largest sender gave {} of what it received";
        TopSenderCountShare top_sender_count_share Share Free Received Counterparties Own false
            "receipts from the most frequent sender / receipts"
            "its most frequent sender made {} of its receipts";
        Receivers receivers Count Free Sent Counterparties Own false
            "distinct receivers: fan-out"
            "the number of its receivers is {}";
        ReceiversPerPayment receivers_per_payment Share Free Sent Counterparties Own false
            "distinct receivers / payments"
            "it has {} as many receivers as payments";
        TopReceiverShare top_receiver_share Share Free Sent Counterparties Own false
            "value to the largest receiver / sum of values sent"
            "its largest receiver got {} of what it sent";
        FanInShare fan_in_share Share Free Both Counterparties Own false
            "distinct senders / (distinct senders + distinct receivers)"
            "{} of its counterparties are senders";
        MutualShare mutual_share Share Free Both Counterparties Own false
            "counterparties that are sender and receiver / counterparties"
            "{} of its counterparties both pay it and are paid by it";
    }
    Neighbours neighbours: NeighbourFeatures {
        SendersFanIn senders_fan_in Log2 Free Received Network Senders false
            "mean over senders of log2(1 + their senders)"
            "the number of senders that its senders have is {}";
        SendersFanOut senders_fan_out Log2 Free Received Network Senders false
            "mean over senders of log2(1 + their receivers)"
            "the number of wallets that its senders pay is {}";
        SendersLargestFanIn senders_largest_fan_in Count Free Received Network Senders false
            "most senders that a sender has"
            "the sender with the most senders has {}";
        SendersSingleShare senders_single_share Share Free Received Network Senders false
            "senders with no other counterparty / senders"
            "{} of its senders have no other counterparty";
        SendersSourceShare senders_source_share Share Free Received Network Senders false
            "senders that never received anything / senders"
            "{} of its senders never received anything";
        SendersHubShare senders_hub_share Share Free Received Network Senders false
            "senders with 1000 or more contacts / senders"
            "{} of its senders are hubs";
        ReceiversFanIn receivers_fan_in Log2 Free Sent Network Receivers false
            "mean over receivers of log2(1 + their senders)"
            "the number of senders that its receivers have is {}";
        ReceiversFanOut receivers_fan_out Log2 Free Sent Network Receivers false
            "mean over receivers of log2(1 + their receivers)"
            "the number of wallets that its receivers pay is {}";
        ReceiversLargestFanIn receivers_largest_fan_in Count Free Sent Network Receivers false
            "most senders that a receiver has"
            "the receiver with the most senders has {}";
        ReceiversSingleShare receivers_single_share Share Free Sent Network Receivers false
            "receivers with no other counterparty / receivers"
            "{} of its receivers have no other counterparty";
        ReceiversHubShare receivers_hub_share Share Free Sent Network Receivers false
            "receivers with 1000 or more contacts / receivers"
            "{} of its receivers are hubs";
        SentToHubsShare sent_to_hubs_share Share Free Sent Network Receivers false
            "value sent to receivers with 1000 or more contacts / sum of values sent"
            "{} of what it sent went to hubs";
    }
    Exposure exposure: ExposureFeatures {
        IllicitSenders illicit_senders Count Rising IllicitSenders Illicit Labels true
            "distinct senders labelled illicit: direct exposure"
            "the number of its senders labelled illicit is {}";
        IllicitReceivedShare illicit_received_share Share Rising IllicitSenders Illicit Own true
            "value received from wallets labelled illicit / sum of values received: direct exposure"
            "{} of what it received came from wallets labelled illicit";
        IllicitReceivers illicit_receivers Count Rising IllicitReceivers Illicit Labels true
            "distinct receivers labelled illicit: direct exposure"
            "the number of its receivers labelled illicit is {}";
        IllicitSentShare illicit_sent_share Share Rising IllicitReceivers Illicit Own true
            "value sent to wallets labelled illicit / sum of values sent: direct exposure"
            "{} of what it sent went to wallets labelled illicit";
        SendersPayingIllicit senders_paying_illicit Share Rising SendersNearIllicit Illicit Senders true
            "senders that also pay wallets labelled illicit / senders: exposure at two hops, hubs left out"
            "{} of its senders also pay wallets labelled illicit";
        SendersPaidByIllicit senders_paid_by_illicit Share Rising SendersNearIllicit Illicit Senders true
            "senders that are paid by wallets labelled illicit / senders: exposure at two hops, hubs left out"
            "{} of its senders are paid by wallets labelled illicit";
        ReceiversPaidByIllicit receivers_paid_by_illicit Share Rising ReceiversNearIllicit Illicit Receivers true
            "receivers that are also paid by wallets labelled illicit / receivers: exposure at two hops, hubs left out"
            "{} of its receivers are also paid by wallets labelled illicit";
        ReceiversPayingIllicit receivers_paying_illicit Share Rising ReceiversNearIllicit Illicit Receivers true
            "receivers that pay wallets labelled illicit / receivers: exposure at two hops, hubs left out"
            "{} of its receivers pay wallets labelled illicit";
        ServiceReceivedShare service_received_share Share Free Services Services Own true
            "value received from wallets labelled as services / sum of values received: direct exposure"
            "{} of what it received came from services";
        ServiceSentShare service_sent_share Share Free Services Services Own true
            "value sent to wallets labelled as services / sum of values sent: direct exposure"
            "{} of what it sent went to services";
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
        static BY_NAME: LazyLock<HashMap<&'static str, &'static FeatureSpec>> =
            LazyLock::new(|| FEATURES.iter().map(|feature| (feature.name, feature)).collect());
        BY_NAME.get(name).copied()
    }
}
