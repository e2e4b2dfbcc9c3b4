//! ClickHouse's protocol for executable functions: chunks of rows in RowBinary.

use std::io::Read;
use std::sync::LazyLock;

use arx_udf::{Function, Models};

pub(crate) const FUNCTIONS: [Function; 7] = [
    Function::RiskScore,
    Function::RiskProbability,
    Function::RiskExplain,
    Function::WalletType,
    Function::NormalizeAddress,
    Function::AddressValid,
    Function::RiskBand,
];

/// Calls a function, which the first byte selects, with the remaining bytes as its input. The
/// result must not depend on the size of the reads.
pub fn row_binary(data: &[u8]) {
    static MODELS: LazyLock<Models> = LazyLock::new(|| Models::compiled_in().unwrap());
    let Some((selector, input)) = data.split_first() else { return };
    let function = FUNCTIONS[usize::from(*selector) % FUNCTIONS.len()];
    let (mut at_once, mut bytewise) = (Vec::new(), Vec::new());
    let complete = MODELS.answer(function, input, &mut at_once).is_ok();
    let complete_bytewise = MODELS.answer(function, Bytewise(input), &mut bytewise).is_ok();
    assert_eq!(complete, complete_bytewise);
    if complete {
        assert_eq!(at_once, bytewise);
    }
}

/// Returns one byte per read, as a slow pipe does.
struct Bytewise<'a>(&'a [u8]);

impl Read for Bytewise<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}
