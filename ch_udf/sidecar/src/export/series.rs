//! Time series as InfluxDB's line protocol: `measurement,tag=value field=value timestamp`.

use std::io::Write;
use std::pin::pin;

use futures_util::TryStreamExt;

use crate::error::{Doing, SidecarError};
use crate::servers::postgres::{self, Source};
use crate::settings::Settings;

/// The series that are exported.
#[derive(Debug, Clone)]
pub(crate) struct SeriesRequest {
    pub(crate) network: String,
    /// The series of this wallet, and not those of the network.
    pub(crate) wallet: Option<String>,
    pub(crate) metrics: Vec<String>,
    /// An interval, as PostgreSQL reads it.
    pub(crate) bucket: String,
    /// Microseconds since 1970.
    pub(crate) from: Option<i64>,
    pub(crate) until: Option<i64>,
    pub(crate) fill: String,
    pub(crate) time_zone: String,
}

/// Columns of both functions. The network is `$1`, the wallet, if there is one, is `$8`.
const COLUMNS: &str =
    "(extract(epoch FROM s.bucket_start) * 1000000)::bigint, trim_scale(s.value)::text, s.transactions, s.whole";
const ARGUMENTS: &str = "metric => $2, bucket => $3::text::interval, \"from\" => to_timestamp($4::bigint / 1000000.0), \
                         \"to\" => to_timestamp($5::bigint / 1000000.0), fill => $6, time_zone => $7";

/// Writes the lines and returns their number.
///
/// # Errors
/// [`SidecarError::Input`] for a name that the protocol cannot hold; those of PostgreSQL, also for
/// unknown metrics and reversed ranges; [`SidecarError::Io`].
pub(crate) async fn write(
    request: &SeriesRequest,
    settings: &Settings,
    out: &mut (dyn Write + Send),
) -> Result<u64, SidecarError> {
    let client = postgres::connect_to(&Source::read(settings)).await?.client;
    let (measurement, call) = match request.wallet {
        Some(_) => (
            "arx_wallet",
            format!("SELECT {COLUMNS} FROM arx.wallet_time_series(address => $8, network => $1, {ARGUMENTS}) AS s"),
        ),
        None => {
            ("arx_network", format!("SELECT {COLUMNS} FROM arx.network_time_series(network => $1, {ARGUMENTS}) AS s"))
        }
    };
    let doing = "read a time series";
    let statement = client.prepare(&call).await.doing(doing)?;
    let mut lines = 0;
    for metric in &request.metrics {
        let SeriesRequest { network, bucket, from, until, fill, time_zone, .. } = request;
        let mut parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
            vec![network, metric, bucket, from, until, fill, time_zone];
        parameters.extend(request.wallet.as_ref().map(|wallet| wallet as &(dyn tokio_postgres::types::ToSql + Sync)));
        let tags = [
            ("network", network.as_str()),
            ("address", request.wallet.as_deref().unwrap_or_default()),
            ("metric", metric),
            ("bucket", bucket),
        ];
        let key = series_key(measurement, &tags)?;
        let rows = client.query_raw(&statement, parameters).await.doing(doing)?;
        let mut rows = pin!(rows);
        while let Some(row) = rows.try_next().await.doing(doing)? {
            let point = Point { micros: row.get(0), value: row.get(1), transactions: row.get(2), whole: row.get(3) };
            if let Some(line) = point.line(&key)? {
                out.write_all(line.as_bytes()).map_err(|source| SidecarError::Io {
                    doing: "write",
                    path: "the series".into(),
                    source,
                })?;
                lines += 1;
            }
        }
    }
    out.flush().map_err(|source| SidecarError::Io { doing: "write", path: "the series".into(), source })?;
    Ok(lines)
}

struct Point<'a> {
    micros: i64,
    value: Option<&'a str>,
    transactions: Option<i64>,
    whole: Option<bool>,
}

impl Point<'_> {
    /// Returns the line of the point; `None` if it has no field. InfluxDB stores numbers as 64-bit
    /// floats, so the exact amount is a text next to the number.
    fn line(&self, key: &str) -> Result<Option<String>, SidecarError> {
        let mut fields = Vec::new();
        if let Some(value) = self.value {
            fields.push(format!("value={value}"));
            fields.push(format!("amount=\"{}\"", text_value(value)));
        }
        fields.extend(self.transactions.map(|count| format!("transactions={count}i")));
        if fields.is_empty() {
            return Ok(None);
        }
        fields.extend(self.whole.map(|whole| format!("whole={whole}")));
        let nanos = self.micros.checked_mul(1_000).ok_or_else(|| SidecarError::Input {
            detail: "the time of a bucket is beyond the nanoseconds that the line protocol holds (1677 to 2262)".into(),
        })?;
        Ok(Some(format!("{key} {} {nanos}\n", fields.join(","))))
    }
}

/// Returns measurement and tags. A tag without a value is left out, which is how the protocol
/// states it.
fn series_key(measurement: &str, tags: &[(&str, &str)]) -> Result<String, SidecarError> {
    let mut key = measurement.to_owned();
    for (name, value) in tags.iter().filter(|(_, value)| !value.is_empty()) {
        key.push(',');
        key.push_str(name);
        key.push('=');
        key.push_str(&tag_value(name, value)?);
    }
    Ok(key)
}

/// Escapes a tag's value. A line break ends a line, and a backslash at the end would escape what
/// follows: neither can be escaped.
fn tag_value(name: &str, value: &str) -> Result<String, SidecarError> {
    if value.contains(['\n', '\r']) || value.ends_with('\\') {
        return Err(SidecarError::Input {
            detail: format!(
                "the line protocol cannot hold the {name} {value:?}: it has a line break or ends with a backslash"
            ),
        });
    }
    Ok(value.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ "))
}

fn text_value(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_the_protocol_says() {
        let key = series_key("arx_wallet", &[("network", "my net,a=b"), ("address", ""), ("metric", "é")]).unwrap();
        assert_eq!(key, r"arx_wallet,network=my\ net\,a\=b,metric=é");
        for wrong in ["a\nb", "a\rb", "a\\"] {
            assert!(series_key("m", &[("address", wrong)]).is_err(), "{wrong:?}");
        }
        assert_eq!(text_value(r#"a"b\c"#), r#"a\"b\\c"#);
    }

    #[test]
    fn a_point_has_nanoseconds_and_its_exact_value() {
        let point =
            Point { micros: 1_700_000_000_000_001, value: Some("0.1"), transactions: Some(3), whole: Some(true) };
        assert_eq!(
            point.line("m,a=b").unwrap().unwrap(),
            "m,a=b value=0.1,amount=\"0.1\",transactions=3i,whole=true 1700000000000001000\n"
        );
        let empty = Point { value: None, transactions: None, ..point };
        assert_eq!(empty.line("m").unwrap(), None);
        let late = Point { micros: i64::MAX / 999, value: Some("1"), transactions: None, whole: None };
        assert!(late.line("m").is_err());
    }
}
