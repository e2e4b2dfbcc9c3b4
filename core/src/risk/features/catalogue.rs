//! What is looked at: every feature with its formula, its unit and what is expected of it.

use super::super::scorecard::Monotone;

/// What a feature's values are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// A part of a whole, 0 to 1.
    Share,
    /// A ratio without bound.
    Ratio,
    /// Coins of the network.
    Coins,
    /// Seconds between two moments of the wallet's own history.
    Seconds,
    /// A binary logarithm of a count, one added.
    Log2,
    /// Bits of entropy.
    Bits,
}

impl Unit {
    /// As written after a value.
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

/// Which of a wallet's dealings prove a feature's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Its largest receipts.
    Received,
    /// Its largest payments.
    Sent,
    /// Both.
    Both,
    /// Its first and its last transfer, and those around its longest pause.
    Times,
    /// Those with the amount that it received most often.
    CommonReceived,
    /// Those with the amount that it sent most often.
    CommonSent,
    /// Its failed payments.
    Failed,
    /// Those with illicit senders.
    IllicitSenders,
    /// Those with illicit receivers.
    IllicitReceivers,
    /// Those with services.
    Services,
    /// With senders that pay illicit wallets, or are paid by them.
    SendersNearIllicit,
    /// With receivers that pay illicit wallets, or are paid by them.
    ReceiversNearIllicit,
}

/// A feature in words.
#[derive(Debug, Clone, Copy)]
pub struct FeatureSpec {
    /// Its name, as scorecards call it.
    pub name: &'static str,
    /// What its values are counted in.
    pub unit: Unit,
    /// Whether more of it must never lower a score, or never raise it.
    pub expected: Monotone,
    /// The formula.
    pub formula: &'static str,
    /// What proves it.
    pub proof: Proof,
    /// Whether labels of other wallets go into it.
    pub by_labels: bool,
}

macro_rules! features {
    ($($feature:ident $name:literal $unit:ident $expected:ident $proof:ident $by_labels:literal $formula:literal;)*) => {
        /// What can be looked at, in the order of a [`Row`](super::Row).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Feature {
            $(#[doc = $formula] $feature,)*
        }

        /// Every feature, in order.
        pub const FEATURES: &[FeatureSpec] = &[$(FeatureSpec {
            name: $name,
            unit: Unit::$unit,
            expected: Monotone::$expected,
            formula: $formula,
            proof: Proof::$proof,
            by_labels: $by_labels,
        },)*];

        /// Their names, in order.
        pub const NAMES: [&str; FEATURES.len()] = [$($name,)*];
    };
}

features! {
    Transactions "transactions" Count Free Both false
        "transfers received and sent";
    ReceivedCountShare "received_count_share" Share Free Both false
        "transfers received / transfers";
    ContractsCreated "contracts_created" Count Free Sent false
        "contracts created";
    ReceivedTotal "received_total" Coins Free Received false
        "sum of values received";
    SentReceivedRatio "sent_received_ratio" Ratio Free Both false
        "sum of values sent / sum of values received";
    ReceivedMean "received_mean" Coins Free Received false
        "mean value of a receipt";
    ReceivedMedian "received_median" Coins Free Received false
        "median value of a receipt";
    ReceivedMin "received_min" Coins Free Received false
        "smallest value of a receipt";
    ReceivedVariation "received_variation" Ratio Free Received false
        "standard deviation / mean of values received";
    ReceivedTopShare "received_top_share" Share Free Received false
        "largest receipt / sum of values received";
    ReceivedCommonShare "received_common_share" Share Free CommonReceived false
        "receipts of the amount received most often / receipts";
    ReceivedEntropy "received_entropy" Bits Free CommonReceived false
        "entropy of the amounts received: -sum p log2 p over distinct amounts";
    ReceivedRoundShare "received_round_share" Share Free Received false
        "receipts of whole tenths of a coin / receipts";
    ReceivedShortShare "received_short_share" Share Free Received false
        "receipts of whole thousandths of a coin / receipts";
    ReceivedDustShare "received_dust_share" Share Free Received false
        "receipts of more than nothing and less than a thousandth of a coin / receipts";
    SentMedian "sent_median" Coins Free Sent false
        "median value of a payment";
    SentMin "sent_min" Coins Free Sent false
        "smallest value of a payment";
    SentVariation "sent_variation" Ratio Free Sent false
        "standard deviation / mean of values sent";
    SentTopShare "sent_top_share" Share Free Sent false
        "largest payment / sum of values sent";
    SentCommonShare "sent_common_share" Share Free CommonSent false
        "payments of the amount sent most often / payments";
    SentRoundShare "sent_round_share" Share Free Sent false
        "payments of whole tenths of a coin / payments";
    SentEmptyShare "sent_empty_share" Share Free Sent false
        "payments of nothing / payments: calls of contracts";
    FailedShare "failed_share" Share Free Failed false
        "failed payments / payments tried";
    Lifetime "lifetime" Seconds Free Times false
        "time from the first transfer to the last";
    ReceivedSpan "received_span" Seconds Free Times false
        "time from the first receipt to the last";
    SentSpan "sent_span" Seconds Free Times false
        "time from the first payment to the last";
    ReceivedSpanShare "received_span_share" Share Free Times false
        "time from the first receipt to the last / lifetime";
    SentCentre "sent_centre" Share Free Times false
        "mean time of payments since the first transfer / lifetime";
    ActiveDays "active_days" Count Free Times false
        "days of 24 hours from the first transfer on with a transfer";
    GapMean "gap_mean" Seconds Free Times false
        "mean time between transfers";
    GapMedian "gap_median" Seconds Free Times false
        "median time between transfers";
    GapShort "gap_short" Seconds Free Times false
        "time between transfers that a tenth do not exceed";
    GapVariation "gap_variation" Ratio Free Times false
        "standard deviation / mean of times between transfers";
    GapLongestShare "gap_longest_share" Share Free Times false
        "longest time between transfers / lifetime";
    ReceivedGapMedian "received_gap_median" Seconds Free Times false
        "median time between receipts";
    SentGapMedian "sent_gap_median" Seconds Free Times false
        "median time between payments";
    OnwardDelay "onward_delay" Seconds Free Both false
        "median time from a receipt to the next payment";
    LastSentDelay "last_sent_delay" Seconds Free Times false
        "time of the last payment less that of the last receipt";
    HoldingTime "holding_time" Seconds Free Both false
        "mean time that value is held, first in first out, weighted by value";
    PassedOnShare "passed_on_share" Share Free Both false
        "value passed on within a day, first in first out / sum of values received";
    UnspentShare "unspent_share" Share Free Both false
        "value not passed on, first in first out / sum of values received";
    Senders "senders" Count Free Received false
        "distinct senders: fan-in";
    SendersPerReceipt "senders_per_receipt" Share Free Received false
        "distinct senders / receipts";
    TopSenderShare "top_sender_share" Share Free Received false
        "value from the largest sender / sum of values received";
    TopSenderCountShare "top_sender_count_share" Share Free Received false
        "receipts from the most frequent sender / receipts";
    Receivers "receivers" Count Free Sent false
        "distinct receivers: fan-out";
    ReceiversPerPayment "receivers_per_payment" Share Free Sent false
        "distinct receivers / payments";
    TopReceiverShare "top_receiver_share" Share Free Sent false
        "value to the largest receiver / sum of values sent";
    FanInShare "fan_in_share" Share Free Both false
        "distinct senders / (distinct senders + distinct receivers)";
    MutualShare "mutual_share" Share Free Both false
        "counterparties that are sender and receiver / counterparties";
    SendersFanIn "senders_fan_in" Log2 Free Received false
        "mean over senders of log2(1 + their senders)";
    SendersFanOut "senders_fan_out" Log2 Free Received false
        "mean over senders of log2(1 + their receivers)";
    SendersLargestFanIn "senders_largest_fan_in" Count Free Received false
        "most senders that a sender has";
    SendersSingleShare "senders_single_share" Share Free Received false
        "senders that deal with nobody else / senders";
    SendersSourceShare "senders_source_share" Share Free Received false
        "senders that never received anything / senders";
    SendersHubShare "senders_hub_share" Share Free Received false
        "senders with 1000 or more contacts / senders";
    ReceiversFanIn "receivers_fan_in" Log2 Free Sent false
        "mean over receivers of log2(1 + their senders)";
    ReceiversFanOut "receivers_fan_out" Log2 Free Sent false
        "mean over receivers of log2(1 + their receivers)";
    ReceiversLargestFanIn "receivers_largest_fan_in" Count Free Sent false
        "most senders that a receiver has";
    ReceiversSingleShare "receivers_single_share" Share Free Sent false
        "receivers that deal with nobody else / receivers";
    ReceiversHubShare "receivers_hub_share" Share Free Sent false
        "receivers with 1000 or more contacts / receivers";
    SentToHubsShare "sent_to_hubs_share" Share Free Sent false
        "value sent to receivers with 1000 or more contacts / sum of values sent";
    IllicitSenders "illicit_senders" Count Rising IllicitSenders true
        "distinct senders labelled illicit: direct exposure";
    IllicitReceivedShare "illicit_received_share" Share Rising IllicitSenders true
        "value received from wallets labelled illicit / sum of values received: direct exposure";
    IllicitReceivers "illicit_receivers" Count Rising IllicitReceivers true
        "distinct receivers labelled illicit: direct exposure";
    IllicitSentShare "illicit_sent_share" Share Rising IllicitReceivers true
        "value sent to wallets labelled illicit / sum of values sent: direct exposure";
    SendersPayingIllicit "senders_paying_illicit" Share Rising SendersNearIllicit true
        "senders that also pay wallets labelled illicit / senders: exposure at two hops, hubs left out";
    SendersPaidByIllicit "senders_paid_by_illicit" Share Rising SendersNearIllicit true
        "senders that are paid by wallets labelled illicit / senders: exposure at two hops, hubs left out";
    ReceiversPaidByIllicit "receivers_paid_by_illicit" Share Rising ReceiversNearIllicit true
        "receivers that are also paid by wallets labelled illicit / receivers: exposure at two hops, hubs left out";
    ReceiversPayingIllicit "receivers_paying_illicit" Share Rising ReceiversNearIllicit true
        "receivers that pay wallets labelled illicit / receivers: exposure at two hops, hubs left out";
    ServiceReceivedShare "service_received_share" Share Free Services true
        "value received from wallets labelled as services / sum of values received: direct exposure";
    ServiceSentShare "service_sent_share" Share Free Services true
        "value sent to wallets labelled as services / sum of values sent: direct exposure";
}

impl Feature {
    /// What it is.
    #[must_use]
    pub const fn spec(self) -> &'static FeatureSpec {
        &FEATURES[self as usize]
    }
}

/// A feature by its name.
#[must_use]
pub fn spec_of(name: &str) -> Option<&'static FeatureSpec> {
    FEATURES.iter().find(|one| one.name == name)
}
