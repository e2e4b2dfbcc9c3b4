//! Every SQL file in `golden/` gives the output in the `.out` file of the same name.
//! `UPDATE_GOLDEN=1` writes these files again.

use arx_stack::{Stack, programs};
use arx_tests::golden;

#[test]
fn sql_files_give_the_expected_output() {
    let files = golden::files(&programs::workspace().join("tests/golden")).unwrap();
    assert!(!files.is_empty());
    let stack = Stack::shared().unwrap();
    let mut failures = Vec::new();
    for file in &files {
        let name = format!("golden_{}", file.file_stem().unwrap().to_string_lossy());
        let database = stack.database(&name).unwrap();
        if let Err(error) = golden::check(&database, file) {
            failures.push(format!("{error:#}"));
        }
    }
    assert!(failures.is_empty(), "{} of {} files:\n{}", failures.len(), files.len(), failures.join("\n"));
}
