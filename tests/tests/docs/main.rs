//! Documents are true: their SQL gives the output shown, generated regions equal a fresh
//! generation, links resolve, and lines are short. `UPDATE_DOCS=1` rewrites outputs and generated
//! regions: read the difference before you commit it.

mod commands;
mod examples;
mod markdown;
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use arx_stack::process::run;
use arx_stack::{Database, Stack, programs};
use arx_tests::fixtures;

use markdown::Document;

const UPDATE: &str = "UPDATE_DOCS";

/// Folders that are not part of the repository.
const FOREIGN: [&str; 5] = ["target", ".tools", ".demo", ".git", "fixtures"];

/// Longest line of prose.
const WIDTH: usize = 100;

#[test]
fn sql_in_documents_gives_the_output_shown() {
    let _turn = turn();
    let workspace = programs::workspace();
    let stack = Stack::shared().unwrap();
    let sample = sample(stack);
    let mut errors = Vec::new();
    let mut differences = Vec::new();
    let with_sql = documents(&workspace).into_iter().filter(|document| !examples::examples(document).is_empty());
    for (number, mut document) in with_sql.enumerate() {
        // Each document may change the data.
        let database = stack.copy_of(&sample, &format!("document_{number}")).unwrap();
        let outcome = examples::check(&mut document, &database);
        if is_update() && !outcome.differences.is_empty() {
            document.write(&workspace).unwrap();
        }
        errors.extend(outcome.errors);
        differences.extend(outcome.differences);
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    report_differences(&differences);
}

#[test]
fn generated_regions_equal_a_fresh_generation() {
    let _turn = turn();
    let workspace = programs::workspace();
    let database = Stack::shared().unwrap().database("reference").unwrap();
    let mut differences = Vec::new();
    let mut missing: BTreeSet<&str> = reference::REGIONS.into();
    for mut document in documents(&workspace) {
        for region in document.regions().unwrap().into_iter().rev() {
            missing.remove(region.name.as_str());
            let fresh = reference::generate(&region.name, &database).unwrap();
            if document.text(&region.content) != fresh {
                differences.push(format!("{}: the region {:?} is out of date", document.path.display(), region.name));
                document.replace(region.content, &fresh);
            }
        }
        if is_update() {
            document.write(&workspace).unwrap();
        }
    }
    assert!(missing.is_empty(), "no document contains the generated regions {missing:?}");
    report_differences(&differences);
}

#[test]
fn every_function_is_linked_from_the_reference() {
    let workspace = programs::workspace();
    let database = Stack::shared().unwrap().database("index").unwrap();
    let page = std::fs::read_to_string(workspace.join("docs/functions.md")).unwrap();
    let missing = reference::functions_without_link(&database, &page).unwrap();
    assert!(missing.is_empty(), "docs/functions.md lists these functions under no topic: {missing:?}");
}

#[test]
fn links_between_documents_resolve() {
    let workspace = programs::workspace();
    let documents: BTreeMap<PathBuf, Document> =
        documents(&workspace).into_iter().map(|document| (document.path.clone(), document)).collect();
    let mut failures = Vec::new();
    for document in documents.values() {
        for link in document.links().into_iter().filter(|link| !link.target.contains("://")) {
            let (file, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
            let folder = document.path.parent().unwrap_or(Path::new(""));
            let path = if file.is_empty() { document.path.clone() } else { normalized(&folder.join(file)) };
            let place = format!("{}:{}: {}", document.path.display(), link.line, link.target);
            if !workspace.join(&path).exists() {
                failures.push(format!("{place}: no such file"));
            } else if !anchor.is_empty() && !documents.get(&path).is_some_and(|page| page.anchors().contains(anchor)) {
                failures.push(format!("{place}: no such heading"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn paths_in_documents_exist() {
    let workspace = programs::workspace();
    let mut failures = Vec::new();
    for document in documents(&workspace) {
        for (number, path) in document.paths() {
            if !workspace.join(&path).exists() {
                failures.push(format!("{}:{number}: {path} does not exist", document.path.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn commands_in_documents_exist() {
    let workspace = programs::workspace();
    let makefile = std::fs::read_to_string(workspace.join("Makefile")).unwrap();
    let documents = documents(&workspace);
    let failures: Vec<String> =
        documents.iter().flat_map(|document| commands::check(document, &workspace, &makefile)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn documents_wrap_at_100_columns() {
    let mut failures = Vec::new();
    for document in documents(&programs::workspace()) {
        for (number, line) in document.prose() {
            let may_be_long = line.trim_start().starts_with('|') || !line.trim_start().contains(' ');
            if line.chars().count() > WIDTH && !may_be_long {
                failures.push(format!("{}:{number}: {line}", document.path.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Imports the data of `make demo` and computes what it computes.
fn sample(stack: &Stack) -> Database<'_> {
    let database = stack.database("sample").unwrap();
    fixtures::import_sample(&database);
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    database.query("SELECT arx.refresh_daily_stats()").unwrap();
    run(database.sidecar().unwrap().arg("sync")).unwrap();
    database
}

/// Returns the Markdown documents of the repository, sorted by path.
fn documents(workspace: &Path) -> Vec<Document> {
    let mut paths = Vec::new();
    collect(workspace, Path::new(""), &mut paths);
    paths.sort();
    paths.iter().map(|path| Document::read(workspace, path).unwrap()).collect()
}

fn collect(workspace: &Path, folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in workspace.join(folder).read_dir().unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if !FOREIGN.iter().any(|name| entry.file_name() == *name) {
                collect(workspace, &path, paths);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
}

/// Returns a relative path without `.` and `..`.
fn normalized(path: &Path) -> PathBuf {
    path.iter().fold(PathBuf::new(), |mut normalized, part| {
        match part.to_str() {
            Some(".") => {}
            Some("..") => {
                normalized.pop();
            }
            _ => normalized.push(part),
        }
        normalized
    })
}

fn is_update() -> bool {
    std::env::var_os(UPDATE).is_some()
}

/// While documents are rewritten, tests take turns: they may be processes that run at once.
fn turn() -> Option<File> {
    is_update().then(|| {
        let file = File::create(std::env::temp_dir().join("arx-update-docs.lock")).unwrap();
        file.lock().unwrap();
        file
    })
}

/// Fails with all differences at once, unless the documents were rewritten to remove them.
fn report_differences(differences: &[String]) {
    let text = differences.join("\n");
    if is_update() {
        println!("{text}");
    } else {
        assert!(differences.is_empty(), "{text}\n{UPDATE}=1 rewrites outputs and generated regions");
    }
}
