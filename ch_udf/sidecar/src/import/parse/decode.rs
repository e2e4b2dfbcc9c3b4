//! Decodes encoded tuples, for tests of the parsers and of the pipeline.

use arx_pgwire::copy::Fields;

/// Returns the columns of each tuple; `None` is NULL.
pub(crate) fn tuples(mut bytes: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        let columns = i16::from_be_bytes([bytes[0], bytes[1]]);
        let mut fields = Fields::of_tuple(bytes).unwrap();
        rows.push((0..columns).map(|_| fields.nullable().unwrap().map(<[u8]>::to_vec)).collect());
        bytes = fields.rest();
    }
    rows
}

/// Returns a `numeric` as PostgreSQL prints it.
pub(crate) fn numeric(value: &[u8]) -> String {
    let words: Vec<i16> = value.chunks(2).map(|w| i16::from_be_bytes([w[0], w[1]])).collect();
    let (count, weight, sign, scale) = (words[0], words[1], words[2], words[3]);
    assert_eq!(usize::try_from(count).unwrap(), words.len() - 4);
    assert_eq!(sign, 0);
    let digits = &words[4..];
    assert!(digits.iter().all(|d| (0..10_000).contains(d)));
    assert!(digits.first() != Some(&0) && digits.last() != Some(&0), "not stripped: {digits:?}");
    let at = |i: i16| usize::try_from(i).ok().and_then(|i| digits.get(i)).copied().unwrap_or(0);
    let mut whole: String = (0..=weight).map(|i| format!("{:04}", at(i))).collect();
    whole = whole.trim_start_matches('0').to_owned();
    if whole.is_empty() {
        whole.push('0');
    }
    if scale == 0 {
        return whole;
    }
    let fraction: String = (0..scale.div_euclid(4) + 1).map(|i| format!("{:04}", at(weight + 1 + i))).collect();
    format!("{whole}.{}", &fraction[..usize::try_from(scale).unwrap()])
}
