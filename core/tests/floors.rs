//! Holds the directions in which the folders of `core/src` may import each other.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;

/// Folders and files below `core/src`, with the modules of `crate::` that each may import.
/// Each may import itself and its contents.
const ALLOWED: &[(&str, &[&str])] = &[
    ("graph/types.rs", &[]),
    ("graph/error.rs", &[]),
    ("graph/budget.rs", &["graph::error"]),
    ("graph/file", &["graph::types", "graph::error", "graph::budget"]),
    ("graph/register.rs", &["graph::file"]),
    ("graph/view", &["graph::types", "graph::error", "graph::budget", "graph::file"]),
    ("graph/query", &["graph", "label", "amount", "address"]),
    ("address", &[]),
    ("alert", &["graph"]),
    ("amount.rs", &[]),
    ("analytics", &["address"]),
    ("behaviour.rs", &["amount"]),
    ("label", &["address"]),
    ("partition", &[]),
    ("risk", &["graph", "label", "amount", "address"]),
];

/// Returns the modules that a source file names by `crate::` or `super::`, without test modules and
/// visibility.
fn imports(file: &str, source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut module: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    if module.last() == Some(&"mod") {
        module.pop();
    }
    let mut paths = Vec::new();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for word in line.replace("pub(in crate::graph)", "").split(|c: char| !(c.is_alphanumeric() || "_:".contains(c)))
        {
            if let Some(path) = word.strip_prefix("crate::") {
                paths.push(path.to_owned());
            } else if word.starts_with("super::") {
                let climbs = word.matches("super::").count();
                let parent = &module[..module.len().saturating_sub(climbs)];
                paths.push(
                    parent.iter().copied().chain([word.trim_start_matches("super::")]).collect::<Vec<_>>().join("::"),
                );
            }
        }
    }
    paths
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        name == "tests" || name.ends_with("tests.rs")
    })
}

fn visit(path: &Path, root: &Path, each: &mut impl FnMut(&str, &str)) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            visit(&entry.unwrap().path(), root, each);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(path.strip_prefix(root).unwrap())
    {
        each(&path.strip_prefix(root).unwrap().to_string_lossy(), &fs::read_to_string(path).unwrap());
    }
}

fn allows(owner: &str, allowed: &[&str], import: &str) -> bool {
    let own = owner.trim_end_matches(".rs").replace('/', "::");
    allowed
        .iter()
        .chain([&&*own])
        .any(|module| import == *module || import.strip_prefix(module).is_some_and(|rest| rest.starts_with("::")))
}

#[test]
fn imports_point_down_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    visit(&root, &root, &mut |file, source| {
        let owned = ALLOWED.iter().find(|(owner, _)| file == *owner || file.starts_with(&format!("{owner}/")));
        match owned {
            Some((owner, allowed)) => {
                for import in imports(file, source).iter().filter(|import| !allows(owner, allowed, import)) {
                    faults.push(format!("{file} imports crate::{import}"));
                }
            }
            None if ["lib.rs", "graph/mod.rs", "graph/test_graph.rs"].contains(&file) => {}
            None => faults.push(format!("{file} is in no row of ALLOWED")),
        }
    });
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn an_import_that_points_up_is_a_fault() {
    let (owner, allowed) = ALLOWED.iter().find(|(owner, _)| *owner == "graph/file").unwrap();
    assert!(
        ["use crate::graph::view::graph::Graph;", "use super::super::view::graph::Graph;"]
            .iter()
            .flat_map(|line| imports("graph/file/base.rs", line))
            .collect::<Vec<_>>()
            .iter()
            .all(|path| !allows(owner, allowed, path))
    );
    assert!(
        imports("graph/file/base.rs", "use crate::graph::types::Side; use super::format::Meta;")
            .iter()
            .all(|path| allows(owner, allowed, path))
    );
}
