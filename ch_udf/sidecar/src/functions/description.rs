//! The description of the functions as ClickHouse reads it.

use std::fmt::Write as _;

use arx_udf::Function;
use clap::ValueEnum;

use super::{CALIBRATION, PROGRAM, SCORECARD, THRESHOLDS};
use crate::servers::engine::escape_xml;

/// Maximum processes of one function, and so of concurrent queries that use it. ClickHouse's own
/// default.
const POOL_SIZE: u32 = 16;

// lint-language: off
/// Flag of `arx-udf` that makes paths relative to the program.
const RELATIVE: &str = "--beside";
// lint-language: on

/// Describes all functions. Paths are relative to the program: the folder may have another name
/// where ClickHouse runs, and ClickHouse splits the command at blanks.
pub(super) fn description(revision: &str) -> String {
    let mut xml = "<!-- Written by arx-sidecar clickhouse install-udfs. -->\n<functions>\n".to_owned();
    for function in Function::value_variants() {
        let mut command = format!("{PROGRAM} {}", function.command());
        if function.needs_scorecard() {
            let _ = write!(command, " {RELATIVE} --scorecard {SCORECARD}");
            if function.needs_calibration() {
                let _ = write!(command, " --calibration {CALIBRATION}");
            }
        } else if *function == Function::WalletType {
            let _ = write!(command, " {RELATIVE} --thresholds {THRESHOLDS}");
        }
        let arguments: String = function
            .arguments()
            .iter()
            .map(|(name, data_type)| {
                format!("    <argument><name>{name}</name><type>{}</type></argument>\n", escape_xml(data_type))
            })
            .collect();
        // Writing to a String cannot fail.
        let _ = write!(
            xml,
            "  <function>\n    <name>{}</name>\n    <type>executable_pool</type>\n    \
             <pool_size>{POOL_SIZE}</pool_size>\n\
             {arguments}    <return_type>{}</return_type>\n    <format>RowBinary</format>\n    \
             <send_chunk_header>1</send_chunk_header>\n    <execute_direct>1</execute_direct>\n    \
             <deterministic>1</deterministic>\n    <stderr_reaction>throw</stderr_reaction>\n    \
             <command>{command} --revision {revision}</command>\n  </function>\n",
            function.sql_name(),
            escape_xml(function.return_type()),
        );
    }
    xml.push_str("</functions>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_described_with_its_types() {
        let xml = description("0123");
        assert!(roxmltree::Document::parse(&xml).is_ok(), "{xml}");
        for function in Function::value_variants() {
            assert!(xml.contains(&format!("<name>{}</name>", function.sql_name())));
            assert!(xml.contains(&format!("<command>arx-udf {} ", function.command())));
            let parsed = Function::from_str(function.command(), false);
            assert_eq!(parsed.as_ref(), Ok(function));
        }
        assert_eq!(xml.matches("--revision 0123</command>").count(), 7);
        assert_eq!(xml.matches("--thresholds").count(), 1);
        assert_eq!(xml.matches("--calibration").count(), 2);
        assert_eq!(xml.matches("--scorecard").count(), 4);
    }
}
