//! Replays the seeds of every target, among them the inputs that once failed.

use std::path::{Path, PathBuf};

use arx_fuzz::seeds;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target)
}

fn replay(target: &str, run: fn(&[u8])) {
    let mut seeds = 0;
    for entry in folder(target).read_dir().unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        run(&std::fs::read(&path).unwrap());
        seeds += 1;
    }
    assert!(seeds > 0, "{target} has no seeds");
}

#[test]
fn copy_rows_seeds_pass() {
    replay("copy_rows", arx_fuzz::copy_rows);
}

#[test]
fn graph_file_seeds_pass() {
    replay("graph_file", arx_fuzz::graph_file);
}

#[test]
fn numeric_seeds_pass() {
    replay("numeric", arx_fuzz::numeric);
}

#[test]
fn row_binary_seeds_pass() {
    replay("row_binary", arx_fuzz::row_binary);
}

#[test]
fn scorecard_seeds_pass() {
    replay("scorecard", arx_fuzz::scorecard);
}

#[test]
fn generated_seeds_are_current() {
    for seed in seeds::generated() {
        let path = folder(seed.target).join(seed.name);
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            std::fs::create_dir_all(folder(seed.target)).unwrap();
            std::fs::write(path, seed.bytes).unwrap();
        } else {
            let bytes = std::fs::read(&path).unwrap_or_default();
            assert!(bytes == seed.bytes, "{} is outdated: UPDATE_SEEDS=1 writes it again", path.display());
        }
    }
}
