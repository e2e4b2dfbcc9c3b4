//! For any input: one correct answer for each row, or an error and no more answers than rows.

use std::io::{self, Read};

use arx_core::address::{Address, Network};
use arx_core::risk::features::{FeatureRow, NAMES};
use arx_core::risk::{WalletFacts, judge};
use clap::ValueEnum;
use proptest::prelude::*;

use super::functions::Function;
use super::models::{Models, UdfError};
use super::protocol::{put_length, put_text};
use super::vectors::{known_answers, put_features};

fn models() -> &'static Models {
    static MODELS: std::sync::OnceLock<Models> = std::sync::OnceLock::new();
    MODELS.get_or_init(|| Models::compiled_in().unwrap())
}

fn ask(function: Function, input: &[u8]) -> (Vec<u8>, Result<(), String>) {
    ask_in_pieces(function, input, usize::MAX)
}

/// Returns the answers to an input that arrives in pieces of at most `piece_bytes`.
fn ask_in_pieces(function: Function, input: &[u8], piece_bytes: usize) -> (Vec<u8>, Result<(), String>) {
    let mut answers = Vec::new();
    let outcome = models().answer(function, Pieces { rest: input, piece_bytes }, &mut answers);
    (answers, outcome.map_err(|error: UdfError| format!("{:#}", anyhow::Error::from(error))))
}

struct Pieces<'b> {
    rest: &'b [u8],
    piece_bytes: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (piece, rest) = self.rest.split_at(self.rest.len().min(self.piece_bytes).min(buffer.len()));
        buffer[..piece.len()].copy_from_slice(piece);
        self.rest = rest;
        Ok(piece.len())
    }
}

/// Counts the rows of an answer; `None` if it is malformed.
fn count(function: Function, mut answers: &[u8]) -> Option<u64> {
    fn text(bytes: &[u8]) -> Option<&[u8]> {
        let (mut length, mut at) = (0, 0);
        loop {
            let byte = *bytes.get(at)?;
            length |= usize::from(byte & 0x7f) << (7 * at);
            at += 1;
            if byte < 0x80 {
                return bytes.get(at + length..);
            }
        }
    }
    let mut rows = 0;
    while !answers.is_empty() {
        answers = match (function, answers[0]) {
            (Function::RiskScore, 0) => answers.get(5..)?,
            (Function::RiskProbability, 0) => answers.get(9..)?,
            (Function::NormalizeAddress | Function::RiskBand, 0) => text(&answers[1..])?,
            (Function::RiskScore | Function::RiskProbability | Function::RiskBand | Function::NormalizeAddress, 1) => {
                &answers[1..]
            }
            (Function::AddressValid, 0 | 1) | (Function::WalletType, 0 | 1 | 2 | 0xff) => &answers[1..],
            (Function::RiskExplain, _) => text(answers)?,
            _ => return None,
        };
        rows += 1;
    }
    Some(rows)
}

fn function() -> impl Strategy<Value = Function> {
    prop::sample::select(Function::value_variants())
}

/// A typical value, an extreme one, or an undefined one.
fn feature() -> impl Strategy<Value = f64> {
    prop_oneof![2 => Just(f64::NAN), 2 => 0.0..1.0, 2 => 0.0..1e7, 1 => any::<f64>(), 1 => Just(f64::INFINITY)]
}

fn row() -> impl Strategy<Value = Option<FeatureRow>> {
    let features = prop::collection::vec(feature(), NAMES.len());
    prop::option::weighted(0.9, features.prop_map(|row| FeatureRow::try_from(row).unwrap()))
}

fn chunk(rows: &[Option<FeatureRow>]) -> Vec<u8> {
    let mut bytes = format!("{}\n", rows.len()).into_bytes();
    rows.iter().for_each(|row| put_features(&mut bytes, row.as_ref().map(FeatureRow::as_slice)));
    bytes
}

/// The same, each row with its network.
fn chunk_of(rows: &[Option<FeatureRow>], network: &str) -> Vec<u8> {
    let mut bytes = format!("{}\n", rows.len()).into_bytes();
    for row in rows {
        put_features(&mut bytes, row.as_ref().map(FeatureRow::as_slice));
        bytes.push(0);
        put_text(&mut bytes, network.as_bytes());
    }
    bytes
}

#[test]
fn every_function_gives_the_known_answers() {
    let calibration =
        r#"{"bitcoin": {"prevalence": 0.3}, "ethereum": {"prevalence": 0.002, "thresholds": [10, 20, 99.9]}}"#;
    let calibrated = Models::from_json(None, Some(calibration), None).unwrap();
    for models in [models(), &calibrated] {
        for vector in known_answers(models).unwrap() {
            let answer = vector.ask(models).unwrap();
            assert!(vector.matches(&answer), "{}: {answer}, not {}", vector.sql, vector.expected);
        }
    }
    let error = Models::from_json(None, Some(r#"{"bitcoin": {"prevalence": 0}}"#), None).unwrap_err();
    assert!(format!("{:#}", anyhow::Error::from(error)).contains("greater than 0 and less than 1"));
}

#[test]
fn each_network_has_its_probability_and_bands() {
    let calibration = r#"{"bitcoin": {"prevalence": 0.3}, "ethereum": {"prevalence": 0.002, "thresholds": [1, 2, 3]}}"#;
    let models = Models::from_json(None, Some(calibration), None).unwrap();
    let ask = |function: Function, network: &str| {
        let mut answers = Vec::new();
        models.answer(function, chunk_of(&[Some([0.0; NAMES.len()])], network).as_slice(), &mut answers).unwrap();
        answers
    };
    let networks = ["bitcoin", "ethereum", "tron", "no network"];
    let mut probabilities = networks.map(|network| ask(Function::RiskProbability, network));
    assert_eq!(probabilities[3], [1], "an invalid network has no probability");
    assert_eq!(ask(Function::RiskProbability, "ETH"), probabilities[1]);
    probabilities.sort_unstable();
    assert!(probabilities.windows(2).all(|pair| pair[0] != pair[1]));
    let [bitcoin, ethereum, ..] = networks.map(|network| ask(Function::RiskBand, network));
    assert_ne!(bitcoin, ethereum);
    assert_eq!(ethereum, b"\0\x06severe");
}

#[test]
fn malformed_input_is_reported_with_its_position() {
    let cut = |chunk: &[u8]| chunk[..chunk.len() - 1].to_vec();
    let full = chunk(&[Some([1.0; NAMES.len()])]);
    let cases: Vec<(Function, Vec<u8>, &str)> = vec![
        (Function::RiskScore, b"nonsense".to_vec(), "chunk 1: a chunk must begin with its number of rows"),
        (Function::RiskScore, b"\n".to_vec(), "chunk 1: a chunk must begin with its number of rows"),
        (Function::RiskScore, b"12".to_vec(), "chunk 1: the input ends in the middle of a chunk's number of rows"),
        (Function::RiskScore, b"99999999999999999999\n".to_vec(), "exceeds 64 bits"),
        (Function::RiskScore, b"2\n\0".to_vec(), "chunk 1, row 2 of 2: the input ends in the middle of an array"),
        (Function::RiskScore, b"0\n1\n\0 ".to_vec(), "chunk 3: a chunk must begin with its number"),
        (Function::RiskScore, [b"1\n".as_slice(), &[71]].concat(), "an array of 71 features, must have 72"),
        (Function::RiskScore, [b"1\n".as_slice(), &[0xff; 12]].concat(), "not a variable-length integer"),
        (Function::RiskScore, cut(&full), "row 1 of 1: the input ends in the middle of a feature"),
        (Function::RiskScore, [b"1\n\x48".as_slice(), &[7; 72 * 9]].concat(), "a feature begins with byte 0x07"),
        (Function::RiskScore, b"1\n\x48\x07".to_vec(), "a feature begins with byte 0x07"),
        (Function::WalletType, b"1\n12345678\x02".to_vec(), "volume begins with byte 0x02"),
        (Function::AddressValid, b"1\n\0\xff\xff\xff\xff\x7f".to_vec(), "an address has 34359738367 bytes"),
        (Function::AddressValid, b"1\n\0\xff\xff\xff\xff\x01ab".to_vec(), "in the middle of an address"),
    ];
    for (function, input, expected) in cases {
        let (_, outcome) = ask(function, &input);
        let error = outcome.unwrap_err();
        assert!(error.contains(expected), "{input:?}: {error}");
    }
}

#[test]
fn answers_larger_than_the_buffer_are_complete() {
    let rows = vec![Some([1.0; NAMES.len()]); 200];
    let (answers, outcome) = ask(Function::RiskExplain, &chunk(&rows));
    outcome.unwrap();
    assert!(answers.len() > super::protocol::BUFFER);
    assert_eq!(count(Function::RiskExplain, &answers), Some(200));
}

#[test]
fn a_long_text_is_read_to_its_end_and_is_not_an_address() {
    let mut input = b"2\n".to_vec();
    for text in ["x".repeat(3 << 20).as_str(), "DH5yaieqoZN36fDVciNyRueRGvGLR3mr7L"] {
        input.push(0);
        put_text(&mut input, text.as_bytes());
        input.push(0);
        put_text(&mut input, b"dogecoin");
    }
    assert_eq!(ask(Function::AddressValid, &input), (vec![0, 1], Ok(())));
}

proptest! {
    #[test]
    fn rows_that_arrive_in_pieces_get_the_scores_of_the_domain(
        chunks in prop::collection::vec(prop::collection::vec(row(), 0..8), 0..4),
        piece in 1..2000_usize,
    ) {
        let input: Vec<u8> = chunks.iter().flat_map(|rows| chunk(rows)).collect();
        let of_network: Vec<u8> = chunks.iter().flat_map(|rows| chunk_of(rows, "ethereum")).collect();
        let bound = models().scorecard.bind(&NAMES).unwrap();
        let mut expected = (Vec::new(), Vec::new(), Vec::new());
        for row in chunks.iter().flatten() {
            let seen = row.as_ref().map(|row| (row, arx_core::risk::features::Coverage::FULL));
            let known = WalletFacts { features: seen, ..WalletFacts::default() };
            let judged = judge(&bound, &known, &arx_core::risk::Calibration::default());
            expected.0.push(0);
            expected.0.extend(i32::from(judged.score.tenths()).to_le_bytes());
            expected.1.push(u8::from(judged.probability.is_none()));
            expected.1.extend(judged.probability.map(f64::to_le_bytes).into_iter().flatten());
            expected.2.push(0);
            put_text(&mut expected.2, judged.band.as_bytes());
        }
        prop_assert_eq!(ask_in_pieces(Function::RiskScore, &input, piece), (expected.0, Ok(())));
        prop_assert_eq!(ask_in_pieces(Function::RiskProbability, &of_network, piece), (expected.1, Ok(())));
        prop_assert_eq!(ask_in_pieces(Function::RiskBand, &of_network, piece), (expected.2, Ok(())));
    }

    #[test]
    fn addresses_are_validated_as_in_the_domain(
        pairs in prop::collection::vec((prop::option::weighted(0.9, "\\PC{0,50}|0x[0-9a-f]{40}"), "ethereum|doge|tron|\\PC{0,4}"), 0..20),
    ) {
        let mut input = format!("{}\n", pairs.len()).into_bytes();
        let mut expected = Vec::new();
        for (address, network) in &pairs {
            input.push(u8::from(address.is_none()));
            address.iter().for_each(|address| put_text(&mut input, address.as_bytes()));
            input.push(0);
            put_text(&mut input, network.as_bytes());
            let network = Network::parse(network).ok();
            let valid = address.as_ref().zip(network).and_then(|(address, network)| Address::is_valid(address, &network));
            expected.push(u8::from(valid == Some(true)));
        }
        prop_assert_eq!(ask(Function::AddressValid, &input), (expected, Ok(())));
    }

    #[test]
    fn no_input_gets_more_answers_than_rows(function in function(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let rows = 5_u64;
        let input = [format!("{rows}\n").into_bytes(), bytes].concat();
        let (answers, outcome) = ask(function, &input);
        let answered = count(function, &answers);
        // The bytes after five rows may form another chunk.
        prop_assert!(answered.is_some_and(|answered| outcome.is_err() || answered >= rows), "{answers:?}");
        // The same without a header.
        let (answers, _) = ask(function, &input[2..]);
        prop_assert!(count(function, &answers).is_some(), "{answers:?}");
    }

    #[test]
    fn a_truncated_or_changed_chunk_never_gets_more_answers_than_rows(
        rows in prop::collection::vec(row(), 1..6), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let whole = chunk(&rows);
        let (answers, outcome) = ask(Function::RiskScore, &whole[..at.index(whole.len())]);
        // An empty input has nothing to answer.
        prop_assert!(outcome.is_err() || answers.is_empty());
        let mut changed = whole.clone();
        let index = 2 + at.index(whole.len() - 2);
        changed[index] = byte;
        let (answers, outcome) = ask(Function::RiskScore, &changed);
        let answered = count(Function::RiskScore, &answers);
        prop_assert!(answered == Some(rows.len() as u64) || outcome.is_err(), "{answered:?} {outcome:?}");
    }

    #[test]
    fn lengths_of_any_size_are_read_back(length in any::<u64>()) {
        let mut input = b"1\n".to_vec();
        put_length(&mut input, usize::try_from(length).unwrap());
        let error = ask(Function::RiskScore, &input).1;
        match length {
            0 => prop_assert!(error.is_ok()),
            72 => prop_assert!(error.unwrap_err().contains("a feature")),
            other => {
                let expected = format!("an array of {other} features");
                prop_assert!(error.unwrap_err().contains(&expected));
            }
        }
    }
}
